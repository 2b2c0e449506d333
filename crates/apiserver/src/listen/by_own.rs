//! HTTP/2 by our own codec: what the requests of one connection have in common.
//!
//! Knows frames as events and the streams they belong to; reads, writes and pings are [`http2_shell::Task`]'s. A
//! request whose body is whole is called at once, and its reply is written in the same turn if it is ready.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};
use http2::{Config, Connection, Event, Fields, Reason, StreamId};
use http2_shell::{Exchanges, Patience, Signal, Task, has_room};
use meta::ApiError;
use rest::http::{REQUEST_BODY_BYTES_MAX, Reply, Service, User};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::listen::exchange::{Arriving, Exchange, Manner, Progress};
use crate::listen::{PING_INTERVAL, STREAMS_PER_CONNECTION_MAX, head, stopped};

/// Bytes a stream may have under way towards us (kube-apiserver: 256 KiB).
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Bytes all streams of a connection may have under way towards us: sixteen times that.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of bodies that are not whole, on one connection: eleven of the largest. What comes beyond it is refused.
const ARRIVING_BYTES_MAX: usize = 32 << 20;
/// Bytes of replies that are made and wait for the peer's windows, on one connection; past it nothing new is
/// answered. One reply may go beyond it.
const HELD_BYTES_MAX: usize = 16 << 20;

/// Serves one connection whose first bytes were `first`, until it ends or is drained.
///
/// The future is small and its task boxed, because a future keeps the room of everything that was moved into it.
pub fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    first: Bytes,
    service: Arc<dyn Service>,
    user: Option<Arc<User>>,
    shutdown: watch::Receiver<bool>,
) -> impl Future<Output = ()> {
    let config = Config {
        streams_max: STREAMS_PER_CONNECTION_MAX,
        stream_window_bytes: STREAM_WINDOW_BYTES,
        connection_window_bytes: CONNECTION_WINDOW_BYTES,
        seed: RandomState::new().hash_one(0),
        ..Config::default()
    };
    let patience = Patience {
        ping_interval: PING_INTERVAL,
        ping_timeout: PING_INTERVAL,
    };
    let requests = Requests::new(service, user);
    let mut task = Box::pin(Task::server(stream, first, config, patience, requests));
    async move {
        let ended = tokio::select! {
            biased;
            ended = task.as_mut() => ended,
            () = stopped(shutdown) => {
                task.shutdown();
                task.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// The requests of one connection.
struct Requests {
    service: Arc<dyn Service>,
    user: Option<Arc<User>>,
    open: HashMap<StreamId, Exchange>,
    signal: Arc<Signal>,
    /// Woken, and not looked at yet.
    woken: VecDeque<StreamId>,
    /// Whole requests, and answers that may be made, while too much waits for the peer's windows.
    deferred: VecDeque<StreamId>,
    arriving_bytes: usize,
    held_bytes: usize,
}

impl Requests {
    fn new(service: Arc<dyn Service>, user: Option<Arc<User>>) -> Requests {
        Requests {
            service,
            user,
            open: HashMap::new(),
            signal: Arc::default(),
            woken: VecDeque::new(),
            deferred: VecDeque::new(),
            arriving_bytes: 0,
            held_bytes: 0,
        }
    }

    /// Whether the peer takes what is made for it.
    fn is_taken(&self) -> bool {
        self.held_bytes <= HELD_BYTES_MAX
    }

    fn on_headers(&mut self, http2: &mut Connection, stream: StreamId, fields: &Fields, end: bool) {
        let text = |name: &[u8]| {
            fields
                .get(name)
                .and_then(|value| std::str::from_utf8(value).ok())
        };
        let (method, target) = (text(b":method"), text(b":path"));
        let head = head::read(
            method.unwrap_or_default(),
            target.unwrap_or_default(),
            fields.iter(),
            self.user.clone(),
        );
        let manner = Manner {
            audit_id: head.audit_id,
            is_bodiless: method == Some("HEAD"),
        };
        let request = match head.request {
            Ok(request) => request,
            Err(reply) => return self.reply(http2, stream, *reply, &manner),
        };
        // A body that says it is too long is not read at all.
        if head.content_length > Some(REQUEST_BODY_BYTES_MAX as u64) {
            return self.reply(http2, stream, head::too_large(), &manner);
        }
        let arriving = Arriving {
            request,
            body: BytesMut::new(),
            manner,
        };
        // Strangers get their 401, a version or a health answer, and no memory.
        if end || self.user.is_none() {
            return self.call(http2, stream, arriving);
        }
        self.open.insert(stream, Exchange::receiving(arriving));
    }

    fn on_data(&mut self, http2: &mut Connection, stream: StreamId, data: &Bytes, end: bool) {
        http2.consumed(stream, data.len());
        let exchange = self.open.get_mut(&stream);
        // Without one, it was answered before it was whole.
        let Some(arriving) = exchange.and_then(Exchange::arriving) else {
            return;
        };
        if arriving.body.len() + data.len() > REQUEST_BODY_BYTES_MAX {
            return self.refuse(http2, stream, head::too_large());
        }
        if self.arriving_bytes + data.len() > ARRIVING_BYTES_MAX {
            let text = "too many large requests are under way on this connection, please try again";
            return self.refuse(
                http2,
                stream,
                Reply::error(&ApiError::too_many_requests(text, 1)),
            );
        }
        // Copied: a piece of what was read together with other requests would keep all of it.
        arriving.body.extend_from_slice(data);
        self.arriving_bytes += data.len();
        if end {
            self.whole(http2, stream);
        }
    }

    /// The whole body is there.
    fn whole(&mut self, http2: &mut Connection, stream: StreamId) {
        if !self.is_taken() {
            return self.deferred.push_back(stream);
        }
        if let Some(arriving) = self.take_arriving(stream) {
            self.call(http2, stream, arriving);
        }
    }

    fn take_arriving(&mut self, stream: StreamId) -> Option<Arriving> {
        let arriving = self.open.remove(&stream)?.into_arriving()?;
        self.arriving_bytes -= arriving.body.len();
        Some(arriving)
    }

    fn call(&mut self, http2: &mut Connection, stream: StreamId, arriving: Arriving) {
        let Arriving {
            mut request,
            body,
            manner,
        } = arriving;
        request.body = body.freeze();
        let answering = self.service.call(request);
        let exchange = Exchange::answer(answering, manner, http2, stream, &self.signal);
        self.keep(http2, stream, exchange);
    }

    /// Answers a request whose body is not wanted.
    fn refuse(&mut self, http2: &mut Connection, stream: StreamId, reply: Reply) {
        if let Some(arriving) = self.take_arriving(stream) {
            self.reply(http2, stream, reply, &arriving.manner);
        }
    }

    fn reply(&mut self, http2: &mut Connection, stream: StreamId, reply: Reply, manner: &Manner) {
        let exchange = Exchange::reply(reply, manner, http2, stream, &self.signal);
        self.keep(http2, stream, exchange);
    }

    /// Keeps an exchange that has more to do; one that has not is over.
    fn keep(&mut self, http2: &mut Connection, stream: StreamId, exchange: Option<Exchange>) {
        match exchange {
            Some(exchange) => {
                self.held_bytes += exchange.held_bytes();
                self.open.insert(stream, exchange);
            }
            None => self.end(http2, stream),
        }
    }

    /// An exchange is over, whoever ended it.
    fn end(&mut self, http2: &mut Connection, stream: StreamId) {
        if let Some(exchange) = self.open.remove(&stream) {
            self.held_bytes -= exchange.held_bytes();
            if let Some(arriving) = exchange.into_arriving() {
                self.arriving_bytes -= arriving.body.len();
            }
        }
        if http2.is_peer_open(stream) {
            // Answered before the request was whole: the rest is not wanted.
            http2.reset(stream, Reason::NO_ERROR);
        }
    }

    fn go_on(&mut self, http2: &mut Connection, stream: StreamId) {
        let is_taken = self.is_taken();
        let Some(exchange) = self.open.get_mut(&stream) else {
            return;
        };
        if exchange.arriving().is_some() {
            // It was put off when it was whole.
            return self.whole(http2, stream);
        }
        let before = exchange.held_bytes();
        if before == 0 && !is_taken {
            return self.deferred.push_back(stream);
        }
        let progress = exchange.advance(http2, stream, &self.signal);
        let after = exchange.held_bytes();
        self.held_bytes = self.held_bytes - before + after;
        match progress {
            Progress::Done => self.end(http2, stream),
            Progress::Waits => {}
            // In line behind the others.
            Progress::HeldBack => {
                if let Some(exchange) = self.open.get(&stream) {
                    exchange.wake();
                }
            }
        }
    }
}

impl Exchanges for Requests {
    fn begin_turn(&mut self, waker: &Waker) {
        self.signal.set_task(waker);
    }

    fn on_event(&mut self, http2: &mut Connection, event: Event, _heard: Instant) {
        match event {
            Event::Headers {
                stream,
                fields,
                end,
            } => {
                self.on_headers(http2, stream, &fields, end);
                http2.recycle(fields);
            }
            Event::Data { stream, data, end } => self.on_data(http2, stream, &data, end),
            Event::Trailers { stream, fields } => {
                http2.recycle(fields);
                if self
                    .open
                    .get_mut(&stream)
                    .and_then(Exchange::arriving)
                    .is_some()
                {
                    self.whole(http2, stream);
                }
            }
            Event::Reset { stream, .. } => self.end(http2, stream),
            Event::Writable { stream } => {
                if let Some(exchange) = self.open.get(&stream) {
                    exchange.wake();
                }
            }
            // That it came is all that counts.
            Event::Pong { .. } => {}
            // A client that takes no streams of ours never had any.
            Event::GoAway { .. } => {}
            Event::Closed(error) => {
                tracing::debug!(%error, "a peer broke the rules of HTTP/2");
                self.open.clear();
                (self.arriving_bytes, self.held_bytes) = (0, 0);
            }
        }
    }

    fn advance(&mut self, http2: &mut Connection, _cx: &mut Context<'_>) {
        if self.woken.is_empty() {
            self.woken = self.signal.take();
        }
        if self.is_taken() {
            self.woken.append(&mut self.deferred);
        }
        while has_room(http2) {
            let Some(stream) = self.woken.pop_front() else {
                return;
            };
            self.go_on(http2, stream);
        }
    }

    fn is_ready(&self) -> bool {
        !self.woken.is_empty() || !self.deferred.is_empty() && self.is_taken()
    }

    fn release(&mut self) {
        self.open.shrink_to_fit();
        if self.woken.is_empty() {
            self.woken = VecDeque::new();
        }
        if self.deferred.is_empty() {
            self.deferred = VecDeque::new();
        }
    }
}

//! HTTP/2 by our own codec: what the requests of one connection have in common.
//!
//! Knows frames as events and the streams they belong to; reads, writes and pings are [`http2_shell::Task`]'s. A
//! request whose body is whole is called at once, and its reply is written in the same turn if it is ready.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http2::{Config, Connection, Event, Fields, Reason, StreamId};
use http2_shell::{Exchanges, Patience, Signal, Task, TlsStream, has_room};
use meta::ApiError;
use rest::http::{REQUEST_BODY_BYTES_MAX, Reply, Service, User};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::listen::exchange::{Arriving, Exchange, Manner, Progress};
use crate::listen::farewell::Seat;
use crate::listen::{PING_INTERVAL, STREAMS_PER_CONNECTION_MAX, Served, head};

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
/// A future of our own, because that of an `async fn` keeps the room of everything that was moved into it.
pub fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    first: Bytes,
    service: Arc<dyn Service>,
    user: Option<Arc<User>>,
    seat: Seat,
) -> Served {
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
    Box::pin(Serving {
        task: Task::server(stream, first, config, patience, requests),
        seat,
    })
}

/// A connection that is served.
struct Serving<S> {
    task: Task<S, Requests>,
    seat: Seat,
}

/// The allocator gives 2,048 bytes and then 2,560: the next field is to replace another.
const _: () = assert!(size_of::<Serving<TlsStream<TcpStream>>>() <= 2_048);

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Serving<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if !this.task.is_woken_by(cx.waker()) {
            this.seat.set_waker(cx.waker());
        }
        if this.seat.hears() {
            this.task.shutdown();
        }
        let ended = ready!(Pin::new(&mut this.task).poll(cx));
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
        Poll::Ready(())
    }
}

/// The requests of one connection.
struct Requests {
    service: Arc<dyn Service>,
    user: Option<Arc<User>>,
    signal: Arc<Signal>,
    /// The request that came last, if its body still comes: most are whole, answered and over before the next one.
    newest: Option<(StreamId, Box<Arriving>)>,
    /// Made when there is more than that.
    others: Option<Box<Others>>,
    arriving_bytes: usize,
    held_bytes: usize,
}

/// Requests that are not over at once.
#[derive(Default)]
struct Others {
    open: HashMap<StreamId, Exchange>,
    /// Woken, and not looked at yet.
    woken: VecDeque<StreamId>,
    /// Whole requests, and answers that may be made, while too much waits for the peer's windows.
    deferred: VecDeque<StreamId>,
}

impl Requests {
    fn new(service: Arc<dyn Service>, user: Option<Arc<User>>) -> Requests {
        Requests {
            service,
            user,
            signal: Arc::default(),
            newest: None,
            others: None,
            arriving_bytes: 0,
            held_bytes: 0,
        }
    }

    /// Whether the peer takes what is made for it.
    fn is_taken(&self) -> bool {
        self.held_bytes <= HELD_BYTES_MAX
    }

    fn others(&mut self) -> &mut Others {
        self.others.get_or_insert_default()
    }

    fn open_mut(&mut self, stream: StreamId) -> Option<&mut Exchange> {
        self.others.as_mut()?.open.get_mut(&stream)
    }

    /// A request whose body still comes.
    fn arriving(&mut self, stream: StreamId) -> Option<&mut Arriving> {
        if self.newest.as_ref().is_some_and(|(id, _)| *id == stream) {
            return self.newest.as_mut().map(|(_, arriving)| &mut **arriving);
        }
        self.open_mut(stream)?.arriving()
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
        let arriving = Box::new(Arriving {
            request,
            body: BytesMut::new(),
            manner,
        });
        // Strangers get their 401, a version or a health answer, and no memory.
        if end || self.user.is_none() {
            return self.call(http2, stream, arriving);
        }
        if let Some((older, arriving)) = self.newest.replace((stream, arriving)) {
            let exchange = Exchange::receiving(arriving);
            self.others().open.insert(older, exchange);
        }
    }

    fn on_data(&mut self, http2: &mut Connection, stream: StreamId, data: &Bytes, end: bool) {
        http2.consumed(stream, data.len());
        let arriving_bytes = self.arriving_bytes;
        // Without one, it was answered before it was whole.
        let Some(arriving) = self.arriving(stream) else {
            return;
        };
        if arriving.body.len() + data.len() > REQUEST_BODY_BYTES_MAX {
            return self.refuse(http2, stream, head::too_large());
        }
        if arriving_bytes + data.len() > ARRIVING_BYTES_MAX {
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
            return self.others().deferred.push_back(stream);
        }
        if let Some(arriving) = self.take_arriving(stream) {
            self.call(http2, stream, arriving);
        }
    }

    fn take_arriving(&mut self, stream: StreamId) -> Option<Box<Arriving>> {
        let arriving = match self.newest.take_if(|(newest, _)| *newest == stream) {
            Some((_, arriving)) => arriving,
            None => {
                let open = &mut self.others.as_mut()?.open;
                open.remove(&stream)?.into_arriving()?
            }
        };
        self.arriving_bytes -= arriving.body.len();
        Some(arriving)
    }

    fn call(&mut self, http2: &mut Connection, stream: StreamId, arriving: Box<Arriving>) {
        let Arriving {
            mut request,
            body,
            manner,
        } = *arriving;
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
                self.others().open.insert(stream, exchange);
            }
            None => self.end(http2, stream),
        }
    }

    /// An exchange is over, whoever ended it.
    fn end(&mut self, http2: &mut Connection, stream: StreamId) {
        let arriving = if let Some((_, arriving)) = self.newest.take_if(|(id, _)| *id == stream) {
            Some(arriving)
        } else if let Some(others) = &mut self.others
            && let Some(exchange) = others.open.remove(&stream)
        {
            self.held_bytes -= exchange.held_bytes();
            exchange.into_arriving()
        } else {
            None
        };
        if let Some(arriving) = arriving {
            self.arriving_bytes -= arriving.body.len();
        }
        if http2.is_peer_open(stream) {
            // Answered before the request was whole: the rest is not wanted.
            http2.reset(stream, Reason::NO_ERROR);
        }
    }

    fn wake(&mut self, stream: StreamId) {
        if let Some(exchange) = self.open_mut(stream) {
            exchange.wake();
        }
    }

    fn go_on(&mut self, http2: &mut Connection, stream: StreamId) {
        if self.arriving(stream).is_some() {
            // It was put off when it was whole.
            return self.whole(http2, stream);
        }
        let is_taken = self.is_taken();
        let Some(others) = &mut self.others else {
            return;
        };
        let Some(exchange) = others.open.get_mut(&stream) else {
            return;
        };
        let before = exchange.held_bytes();
        if before == 0 && !is_taken {
            return others.deferred.push_back(stream);
        }
        let progress = exchange.advance(http2, stream, &self.signal);
        let after = exchange.held_bytes();
        self.held_bytes = self.held_bytes - before + after;
        match progress {
            Progress::Done => self.end(http2, stream),
            Progress::Waits => {}
            // In line behind the others.
            Progress::HeldBack => self.wake(stream),
        }
    }
}

impl Exchanges for Requests {
    fn set_waker(&mut self, waker: &Waker) {
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
                if self.arriving(stream).is_some() {
                    self.whole(http2, stream);
                }
            }
            Event::Reset { stream, .. } => self.end(http2, stream),
            Event::Writable { stream } => self.wake(stream),
            // That it came is all that counts.
            Event::Pong { .. } => {}
            // A client that takes no streams of ours never had any.
            Event::GoAway { .. } => {}
            Event::Closed(error) => {
                tracing::debug!(%error, "a peer broke the rules of HTTP/2");
                (self.newest, self.others) = (None, None);
                (self.arriving_bytes, self.held_bytes) = (0, 0);
            }
        }
    }

    fn advance(&mut self, http2: &mut Connection, _cx: &mut Context<'_>) {
        let is_taken = self.is_taken();
        // Nobody waits, so that nobody can have been woken.
        let Some(others) = &mut self.others else {
            return;
        };
        if others.woken.is_empty() {
            others.woken = self.signal.take();
        }
        if is_taken {
            others.woken.append(&mut others.deferred);
        }
        while has_room(http2) {
            let woken = self
                .others
                .as_mut()
                .and_then(|others| others.woken.pop_front());
            let Some(stream) = woken else {
                return;
            };
            self.go_on(http2, stream);
        }
    }

    fn is_ready(&self) -> bool {
        self.others.as_ref().is_some_and(|others| {
            !others.woken.is_empty() || !others.deferred.is_empty() && self.is_taken()
        })
    }

    fn release(&mut self) {
        let Some(others) = &mut self.others else {
            return;
        };
        if others.woken.is_empty() {
            others.woken = VecDeque::new();
        }
        if others.deferred.is_empty() {
            others.deferred = VecDeque::new();
        }
        others.open.shrink_to_fit();
        if others.open.is_empty() && others.woken.is_empty() && others.deferred.is_empty() {
            self.others = None;
        }
    }
}

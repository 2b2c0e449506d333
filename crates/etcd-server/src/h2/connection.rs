//! The requests of one connection: each event goes to its exchange, or to the short way.
//!
//! Knows frames as events and the streams they belong to; reads, writes and pings are [`http2_shell::Task`]'s.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use http2::{Config, Connection, Event, Reason, StreamId};
use http2_shell::{Exchanges, Patience, Signal, Task, has_room};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::Api;
use crate::h2::exchange::{Exchange, Progress};
use crate::h2::short::Short;
use crate::h2::unary::Asking;
use crate::limits::{
    CONNECTION_WINDOW_BYTES, HELD_BYTES_MAX, PING_INTERVAL, PING_TIMEOUT, RESETS_PENDING_MAX,
    STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX,
};
use crate::listen::stopped;

/// Serves one connection whose first bytes were `first`, until it ends or is drained.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    first: Bytes,
    api: Api,
    stop: watch::Receiver<bool>,
) {
    let config = Config {
        streams_max: STREAMS_PER_CONNECTION_MAX,
        stream_window_bytes: STREAM_WINDOW_BYTES,
        connection_window_bytes: CONNECTION_WINDOW_BYTES,
        resets_burst: RESETS_PENDING_MAX as u32,
        seed: RandomState::new().hash_one(0),
        ..Config::default()
    };
    let patience = Patience {
        ping_interval: PING_INTERVAL,
        ping_timeout: PING_TIMEOUT,
    };
    let mut task = pin!(Task::server(
        stream,
        first,
        config,
        patience,
        Requests::new(api)
    ));
    let ended = tokio::select! {
        biased;
        ended = task.as_mut() => ended,
        () = stopped(stop) => {
            task.shutdown();
            task.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// The requests of one connection.
struct Requests {
    api: Api,
    exchanges: HashMap<StreamId, Exchange>,
    short: Short,
    signal: Arc<Signal>,
    /// Woken, and not looked at yet.
    woken: VecDeque<StreamId>,
    /// Woken, while the answers that the peer does not take were too many.
    deferred: VecDeque<StreamId>,
    /// Bytes of answers that wait for the peer's windows.
    held_bytes: usize,
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.short.clear(&self.api);
    }
}

impl Requests {
    fn new(api: Api) -> Self {
        Requests {
            api,
            exchanges: HashMap::new(),
            short: Short::default(),
            signal: Arc::default(),
            woken: VecDeque::new(),
            deferred: VecDeque::new(),
            held_bytes: 0,
        }
    }

    /// A piece of a request on the short way; false when its stream is not on it.
    fn on_short(
        &mut self,
        http2: &mut Connection,
        piece: (StreamId, Bytes, bool),
        heard: Instant,
    ) -> bool {
        let may_run = self.is_taken();
        self.short.on_data(&self.api, http2, piece, heard, may_run)
    }

    /// Whether the peer takes what is made for it.
    fn is_taken(&self) -> bool {
        self.held_bytes + self.short.held_bytes() <= HELD_BYTES_MAX
    }

    /// Runs calls that were put off, and tells the answers that may be told.
    fn tell(&mut self, http2: &mut Connection, cx: &mut Context<'_>) {
        let held_bytes = self.held_bytes;
        let may_run = |short: &Short| held_bytes + short.held_bytes() <= HELD_BYTES_MAX;
        self.short.run_deferred(&self.api, http2, may_run);
        self.short.poll_tell(&self.api, http2, cx);
    }

    /// Lets the exchanges that were woken until now go on.
    fn advance_woken(&mut self, http2: &mut Connection) {
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

    fn go_on(&mut self, http2: &mut Connection, stream: StreamId) {
        let is_taken = self.is_taken();
        let Some(exchange) = self.exchanges.get_mut(&stream) else {
            return;
        };
        let before = exchange.held_bytes();
        if before == 0 && !is_taken {
            return self.deferred.push_back(stream);
        }
        let progress = exchange.advance(http2);
        self.held_bytes = self.held_bytes.saturating_sub(before) + exchange.held_bytes();
        match progress {
            Progress::Done => self.end(http2, stream),
            Progress::Waits => {}
            // In line behind the others.
            Progress::HeldBack => exchange.wake(),
        }
    }

    /// An exchange is over, whoever ended it.
    fn end(&mut self, http2: &mut Connection, stream: StreamId) {
        if let Some(exchange) = self.exchanges.remove(&stream) {
            self.held_bytes = self.held_bytes.saturating_sub(exchange.held_bytes());
            http2.consumed(stream, exchange.cut());
        }
        if http2.is_peer_open(stream) {
            // Answered before the request was whole: the rest is not wanted.
            http2.reset(stream, Reason::NO_ERROR);
        }
    }
}

impl Exchanges for Requests {
    fn set_waker(&mut self, waker: &Waker) {
        self.signal.set_task(waker);
    }

    fn on_event(&mut self, http2: &mut Connection, event: Event, heard: Instant) {
        match event {
            Event::Headers {
                stream,
                fields,
                end,
            } => {
                // A door for metrics has no short way: what it refuses is said in one place.
                if !self.api.is_for_metrics
                    && let Some(asking) = Asking::begin(&fields)
                {
                    http2.recycle(fields);
                    self.short.begin(stream, asking);
                    if end {
                        self.on_short(http2, (stream, Bytes::new(), true), heard);
                    }
                    return;
                }
                let exchange = Exchange::begin(&self.api, stream, &fields, end, &self.signal);
                http2.recycle(fields);
                match exchange {
                    Some(exchange) => {
                        // It is looked at after what else was read: its body may be there, too.
                        exchange.wake();
                        self.exchanges.insert(stream, exchange);
                    }
                    None => {
                        let status = [(&b":status"[..], &b"400"[..])];
                        http2.send_headers(stream, status, true);
                        self.end(http2, stream);
                    }
                }
            }
            Event::Data { stream, data, end } => {
                if self.on_short(http2, (stream, data.clone(), end), heard) {
                    return;
                }
                let exchange = self.exchanges.get(&stream);
                // Without one, it was answered before it was whole.
                if !exchange.is_some_and(|exchange| exchange.push(&data, end)) {
                    http2.consumed(stream, data.len());
                }
            }
            Event::Trailers { stream, .. } => {
                if self.on_short(http2, (stream, Bytes::new(), true), heard) {
                    return;
                }
                if let Some(exchange) = self.exchanges.get(&stream) {
                    exchange.push(&[], true);
                }
            }
            Event::Reset { stream, .. } => {
                self.short.on_reset(stream);
                self.end(http2, stream);
            }
            Event::Writable { stream } => {
                self.short.on_writable(http2, stream);
                if let Some(exchange) = self.exchanges.get(&stream) {
                    exchange.wake();
                }
            }
            // That it came is all that counts.
            Event::Pong { .. } => {}
            // A client that takes no streams of ours never had any.
            Event::GoAway { .. } => {}
            Event::Closed(error) => {
                tracing::debug!(%error, "a peer broke the rules of HTTP/2");
                self.exchanges.clear();
                self.held_bytes = 0;
                self.short.clear(&self.api);
            }
        }
    }

    fn advance(&mut self, http2: &mut Connection, cx: &mut Context<'_>) {
        self.advance_woken(http2);
        self.tell(http2, cx);
    }

    fn is_ready(&self) -> bool {
        !self.woken.is_empty() || !self.deferred.is_empty() && self.is_taken()
    }

    fn release(&mut self) {
        self.exchanges.shrink_to_fit();
        self.short.release();
        if self.woken.is_empty() {
            self.woken = VecDeque::new();
        }
        if self.deferred.is_empty() {
            self.deferred = VecDeque::new();
        }
    }
}

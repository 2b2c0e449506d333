//! The task of one connection: it reads, gives each event to its exchange, and writes.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http2::{Config, Event, Reason, StreamId};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use crate::api::Api;
use crate::h2::buffers;
use crate::h2::exchange::{Exchange, Progress};
use crate::h2::short::Short;
use crate::h2::unary::Asking;
use crate::h2::wake::Signal;
use crate::limits::{
    CONNECTION_WINDOW_BYTES, HELD_BYTES_MAX, IDLE_AFTER, OUTPUT_BYTES_MAX, PIECES_PER_WRITE,
    PING_INTERVAL, PING_TIMEOUT, RESETS_PENDING_MAX, STREAM_WINDOW_BYTES,
    STREAMS_PER_CONNECTION_MAX, TURNS_BEFORE_OTHERS,
};
use crate::listen::stopped;

/// What our ping carries. Nothing is read from its answer but that somebody is there.
const PING: [u8; 8] = *b"megaplan";

/// Serves one connection whose first bytes were `first`, until it ends or is drained.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    first: Bytes,
    api: Api,
    stop: watch::Receiver<bool>,
) {
    let mut connection = pin!(Task::new(stream, first, api));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stopped(stop) => {
            connection.http2.shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

struct Task<S> {
    stream: S,
    http2: http2::Connection,
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
    /// Events may be left in what was read.
    has_more: bool,
    has_unflushed: bool,
    born: Instant,
    /// When something was last read, and whether a ping was sent since.
    heard: Instant,
    has_pinged: bool,
    is_released: bool,
    timer: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    fn new(stream: S, first: Bytes, api: Api) -> Self {
        let mut http2 = http2::Connection::server(Config {
            streams_max: STREAMS_PER_CONNECTION_MAX,
            stream_window_bytes: STREAM_WINDOW_BYTES,
            connection_window_bytes: CONNECTION_WINDOW_BYTES,
            resets_burst: RESETS_PENDING_MAX as u32,
            seed: RandomState::new().hash_one(0),
            ..Config::default()
        });
        let received = &api.node.metrics.received_bytes;
        received.fetch_add(first.len() as u64, Ordering::Relaxed);
        http2.recv(first, 0);
        let now = Instant::now();
        Task {
            stream,
            http2,
            api,
            exchanges: HashMap::new(),
            short: Short::default(),
            signal: Arc::default(),
            woken: VecDeque::new(),
            deferred: VecDeque::new(),
            held_bytes: 0,
            has_more: true,
            has_unflushed: false,
            born: now,
            heard: now,
            has_pinged: false,
            is_released: false,
            timer: Box::pin(sleep(IDLE_AFTER)),
        }
    }

    fn has_room(&mut self) -> bool {
        self.http2.output().len() < OUTPUT_BYTES_MAX
    }

    /// Gives each event to its exchange.
    fn look(&mut self) {
        while self.has_more && self.has_room() {
            match self.http2.next_event() {
                Some(event) => self.on_event(event),
                None => self.has_more = false,
            }
        }
    }

    fn on_event(&mut self, event: Event) {
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
                    self.http2.recycle(fields);
                    self.short.begin(stream, asking);
                    if end {
                        self.on_short(stream, Bytes::new(), true);
                    }
                    return;
                }
                let exchange = Exchange::begin(&self.api, stream, &fields, end, &self.signal);
                self.http2.recycle(fields);
                match exchange {
                    Some(exchange) => {
                        // It is looked at after what else was read: its body may be there, too.
                        exchange.wake();
                        self.exchanges.insert(stream, exchange);
                    }
                    None => {
                        let status = [(&b":status"[..], &b"400"[..])];
                        self.http2.send_headers(stream, status, true);
                        self.end(stream);
                    }
                }
            }
            Event::Data { stream, data, end } => {
                if self.on_short(stream, data.clone(), end) {
                    return;
                }
                let exchange = self.exchanges.get(&stream);
                // Without one, it was answered before it was whole.
                if !exchange.is_some_and(|exchange| exchange.push(&data, end)) {
                    self.http2.consumed(stream, data.len());
                }
            }
            Event::Trailers { stream, .. } => {
                if self.on_short(stream, Bytes::new(), true) {
                    return;
                }
                if let Some(exchange) = self.exchanges.get(&stream) {
                    exchange.push(&[], true);
                }
            }
            Event::Reset { stream, .. } => {
                self.short.on_reset(stream);
                self.end(stream);
            }
            Event::Writable { stream } => {
                self.short.on_writable(&mut self.http2, stream);
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

    /// A piece of a request on the short way; false when its stream is not on it.
    fn on_short(&mut self, stream: StreamId, data: Bytes, end: bool) -> bool {
        let may_run = self.is_taken();
        self.short.on_data(
            &self.api,
            &mut self.http2,
            (stream, data, end),
            self.heard,
            may_run,
        )
    }

    /// Whether the peer takes what is made for it.
    fn is_taken(&self) -> bool {
        self.held_bytes + self.short.held_bytes() <= HELD_BYTES_MAX
    }

    /// Runs calls that were put off, and tells the answers that may be told.
    fn tell(&mut self, cx: &mut Context<'_>) {
        let held_bytes = self.held_bytes;
        let may_run = |short: &Short| held_bytes + short.held_bytes() <= HELD_BYTES_MAX;
        self.short.run_deferred(&self.api, &mut self.http2, may_run);
        self.short.poll_tell(&self.api, &mut self.http2, cx);
    }

    /// Lets the exchanges that were woken until now go on.
    fn advance_woken(&mut self) {
        if self.woken.is_empty() {
            self.woken = self.signal.take();
        }
        if self.is_taken() {
            self.woken.append(&mut self.deferred);
        }
        while self.has_room() {
            let Some(stream) = self.woken.pop_front() else {
                return;
            };
            self.advance(stream);
        }
    }

    fn advance(&mut self, stream: StreamId) {
        let is_taken = self.is_taken();
        let Some(exchange) = self.exchanges.get_mut(&stream) else {
            return;
        };
        let before = exchange.held_bytes();
        if before == 0 && !is_taken {
            return self.deferred.push_back(stream);
        }
        let progress = exchange.advance(&mut self.http2);
        self.held_bytes = self.held_bytes.saturating_sub(before) + exchange.held_bytes();
        match progress {
            Progress::Done => self.end(stream),
            Progress::Waits => {}
            // In line behind the others.
            Progress::HeldBack => exchange.wake(),
        }
    }

    /// An exchange is over, whoever ended it.
    fn end(&mut self, stream: StreamId) {
        if let Some(exchange) = self.exchanges.remove(&stream) {
            self.held_bytes = self.held_bytes.saturating_sub(exchange.held_bytes());
            self.http2.consumed(stream, exchange.cut());
        }
        if self.http2.is_peer_open(stream) {
            // Answered before the request was whole: the rest is not wanted.
            self.http2.reset(stream, Reason::NO_ERROR);
        }
    }

    /// Writes what there is. Pending when the socket takes no more.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let output = self.http2.output();
        while !output.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES_PER_WRITE];
            let used = output.slices(&mut pieces);
            let pieces = pieces.get(..used).unwrap_or_default();
            let written = match Pin::new(&mut self.stream).poll_write_vectored(cx, pieces) {
                Poll::Ready(written) => written?,
                Poll::Pending => return Poll::Pending,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            output.advance(written);
            let sent = &self.api.node.metrics.sent_bytes;
            sent.fetch_add(written as u64, Ordering::Relaxed);
            self.has_unflushed = true;
        }
        if self.has_unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => return Poll::Pending,
            }
            self.has_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once. None at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let mut buffer = buffers::take_read();
        let read = pin!(self.stream.read_buf(&mut buffer)).poll(cx);
        let input = match read {
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(None)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(Some(buffer.split().freeze()))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        buffers::give_read(buffer);
        input
    }

    fn on_input(&mut self, input: Bytes) {
        let received = &self.api.node.metrics.received_bytes;
        received.fetch_add(input.len() as u64, Ordering::Relaxed);
        self.heard = Instant::now();
        self.has_pinged = false;
        self.has_more = true;
        if std::mem::take(&mut self.is_released) {
            self.timer.as_mut().reset(self.heard + IDLE_AFTER);
        }
        let millis = self.heard.duration_since(self.born).as_millis();
        self.http2
            .recv(input, u64::try_from(millis).unwrap_or(u64::MAX));
    }

    /// Gives memory back after a while of silence, asks after a long one, and gives up when nobody answers.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let silence = now.duration_since(self.heard);
            let next = if silence < IDLE_AFTER {
                self.heard + IDLE_AFTER
            } else if silence < PING_INTERVAL {
                self.release();
                self.heard + PING_INTERVAL
            } else if self.has_pinged {
                return Err(io::ErrorKind::TimedOut.into());
            } else {
                self.has_pinged = true;
                self.http2.ping(PING);
                now + PING_TIMEOUT
            };
            self.timer.as_mut().reset(next);
        }
        Ok(())
    }

    fn release(&mut self) {
        self.is_released = true;
        self.http2.release();
        self.exchanges.shrink_to_fit();
        self.short.release();
        if self.woken.is_empty() {
            self.woken = VecDeque::new();
        }
        if self.deferred.is_empty() {
            self.deferred = VecDeque::new();
        }
    }

    fn poll_turns(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_silence(cx)?;
        for _ in 0..TURNS_BEFORE_OTHERS {
            self.look();
            self.advance_woken();
            self.tell(cx);
            let was_full = !self.has_room();
            let is_written = match self.poll_write(cx) {
                Poll::Ready(written) => {
                    written?;
                    true
                }
                Poll::Pending => false,
            };
            if is_written && self.http2.is_drained() {
                return match Pin::new(&mut self.stream).poll_shutdown(cx) {
                    // The peer may be gone before us: that is no failure.
                    Poll::Ready(_) => Poll::Ready(Ok(())),
                    Poll::Pending => Poll::Pending,
                };
            }
            // Who does not read is not read, and who broke the rules neither.
            if !self.has_room() || self.http2.failure().is_some() {
                return Poll::Pending;
            }
            let may_go_on = !self.deferred.is_empty() && self.is_taken();
            if was_full || self.has_more || may_go_on || !self.woken.is_empty() {
                continue;
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(Some(input))) => self.on_input(input),
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S> Drop for Task<S> {
    fn drop(&mut self) {
        self.short.clear(&self.api);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Task<S> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.signal.set_task(cx.waker());
        if let Some(unused) = this.http2.output().lend(buffers::take_write()) {
            buffers::give_write(unused);
        }
        let ended = this.poll_turns(cx);
        if let Some(buffer) = this.http2.output().reclaim() {
            buffers::give_write(buffer);
        }
        ended
    }
}

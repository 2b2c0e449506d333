//! The task of one connection: it reads, gives each event to the exchanges, and writes.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http2::{Config, Connection, Event};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::buffers;
use crate::limits::{IDLE_AFTER, OUTPUT_BYTES_MAX, PIECES_PER_WRITE, TURNS_BEFORE_OTHERS};

/// What our ping carries. Nothing is read from its answer but that somebody is there.
const PING: [u8; 8] = *b"megaplan";

/// What a server does with a connection: the requests on it are states of this.
pub trait Exchanges {
    /// Whoever wakes a stream is to wake this from now on. Said before the first turn, and when another task takes the
    /// connection over.
    fn set_waker(&mut self, waker: &Waker);

    /// The peer did something, of which the task heard at this time.
    fn on_event(&mut self, http2: &mut Connection, event: Event, heard: Instant);

    /// Lets what was woken go on, until [`has_room`] says no.
    fn advance(&mut self, http2: &mut Connection, cx: &mut Context<'_>);

    /// Whether something could go on at once.
    fn is_ready(&self) -> bool;

    /// It was quiet for a while: what only a busy connection needs is to be given back.
    fn release(&mut self);
}

/// Whether more may be made for this connection.
#[must_use]
pub fn has_room(http2: &mut Connection) -> bool {
    http2.output().len() < OUTPUT_BYTES_MAX
}

/// How long silence is borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Silence after which the peer is asked whether it is there.
    pub ping_interval: Duration,
    /// Longest wait for its answer.
    pub ping_timeout: Duration,
}

/// One connection, as a future that ends with it.
#[derive(Debug)]
pub struct Task<S, E> {
    stream: S,
    http2: Connection,
    exchanges: E,
    patience: Patience,
    /// Events may be left in what was read.
    has_more: bool,
    has_unflushed: bool,
    born: Instant,
    /// When something was last read, and whether a ping was sent since.
    heard: Instant,
    has_pinged: bool,
    is_released: bool,
    alarm: Alarm,
    /// Who is woken. It hardly ever changes: what is told of it needs not be touched in each turn.
    waker: Option<Waker>,
}

impl<S, E> Task<S, E> {
    /// The server's end of a connection whose first bytes were `first`.
    pub fn server(
        stream: S,
        first: Bytes,
        config: Config,
        patience: Patience,
        exchanges: E,
    ) -> Self {
        let mut http2 = Connection::server(config);
        http2.recv(first, 0);
        let now = Instant::now();
        Task {
            stream,
            http2,
            exchanges,
            patience,
            has_more: true,
            has_unflushed: false,
            born: now,
            heard: now,
            has_pinged: false,
            is_released: false,
            alarm: Alarm::new(now + IDLE_AFTER),
            waker: None,
        }
    }

    /// Whether this was the one to wake in the turn before.
    #[must_use]
    pub fn is_woken_by(&self, waker: &Waker) -> bool {
        let known = self.waker.as_ref();
        known.is_some_and(|known| known.will_wake(waker))
    }

    /// Asks the peer to open no more streams; the task ends when those there are have ended.
    pub fn shutdown(&mut self) {
        self.http2.shutdown();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, E: Exchanges> Task<S, E> {
    /// Gives each event to the exchanges.
    fn look(&mut self) {
        while self.has_more && has_room(&mut self.http2) {
            match self.http2.next_event() {
                Some(event) => self.exchanges.on_event(&mut self.http2, event, self.heard),
                None => self.has_more = false,
            }
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
        self.heard = Instant::now();
        self.has_pinged = false;
        self.has_more = true;
        if std::mem::take(&mut self.is_released) {
            self.alarm.set(self.heard + IDLE_AFTER);
        }
        let millis = self.heard.duration_since(self.born).as_millis();
        self.http2
            .recv(input, u64::try_from(millis).unwrap_or(u64::MAX));
    }

    /// Gives memory back after a while of silence, asks after a long one, and gives up when nobody answers.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.alarm.poll(cx).is_ready() {
            let now = Instant::now();
            let silence = now.duration_since(self.heard);
            let next = if silence < IDLE_AFTER {
                self.heard + IDLE_AFTER
            } else if silence < self.patience.ping_interval {
                self.is_released = true;
                self.http2.release();
                self.exchanges.release();
                self.heard + self.patience.ping_interval
            } else if self.has_pinged {
                return Err(io::ErrorKind::TimedOut.into());
            } else {
                self.has_pinged = true;
                self.http2.ping(PING);
                now + self.patience.ping_timeout
            };
            self.alarm.set(next);
        }
        Ok(())
    }

    fn poll_turns(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..TURNS_BEFORE_OTHERS {
            self.look();
            self.exchanges.advance(&mut self.http2, cx);
            let was_full = !has_room(&mut self.http2);
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
            if !has_room(&mut self.http2) || self.http2.failure().is_some() {
                return Poll::Pending;
            }
            if was_full || self.has_more || self.exchanges.is_ready() {
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

impl<S: AsyncRead + AsyncWrite + Unpin, E: Exchanges + Unpin> Future for Task<S, E> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let is_known = this.is_woken_by(cx.waker());
        if !is_known {
            this.waker = Some(cx.waker().clone());
            this.exchanges.set_waker(cx.waker());
        }
        if let Some(unused) = this.http2.output().lend(buffers::take_write()) {
            buffers::give_write(unused);
        }
        this.http2.recycle(buffers::take_fields());
        let ended = if !is_known || this.alarm.may_be_due() {
            this.poll_silence(cx)
        } else {
            Ok(())
        };
        let ended = match ended {
            Ok(()) => this.poll_turns(cx),
            Err(error) => Poll::Ready(Err(error)),
        };
        buffers::give_fields(this.http2.take_spare());
        if let Some(buffer) = this.http2.output().reclaim() {
            buffers::give_write(buffer);
        }
        ended
    }
}

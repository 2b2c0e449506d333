//! One request on a connection of ours, from its head to the last byte of its reply: a state, not a task.
//!
//! ```text
//!   Receiving ─► (call) ─┬─ at once ────────────► Sending ─► over
//!                        └─► Answering ─ woken ─►
//! ```

use std::sync::Arc;
use std::task::{Context, Poll, Wake as _, Waker};

use bytes::{Bytes, BytesMut};
use http2::{Connection, Sent, StreamId};
use http2_shell::{Signal, StreamWaker, has_room};
use rest::http::{Body, FrameSource, Reply, ReplyFuture, Request};

use crate::listen::head::{self, AUDIT_ID, AuditId, CACHE_CONTROL};

/// A request and its reply.
pub struct Exchange {
    /// Made when there is something to wait for.
    waker: Option<Arc<StreamWaker>>,
    state: State,
}

enum State {
    /// Its body comes.
    Receiving(Box<Arriving>),
    /// It is being answered.
    Answering(Box<(ReplyFuture, Manner)>),
    /// The rest of a whole reply waits for the peer's window.
    Rest(Bytes),
    /// Pieces come as they are made; the one before may still wait for the window.
    Stream(Box<dyn FrameSource>, Bytes),
}

/// A request whose body is not whole.
pub struct Arriving {
    pub request: Request,
    pub body: BytesMut,
    pub manner: Manner,
}

/// What a reply's head depends on, besides the reply.
pub struct Manner {
    pub audit_id: AuditId,
    /// A HEAD: the reply has no body.
    pub is_bodiless: bool,
}

/// How far an exchange came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing more is to be sent.
    Done,
    /// Something will wake it.
    Waits,
    /// It could go on, but too much waits for the socket.
    HeldBack,
}

impl Exchange {
    /// A request whose body is to come.
    pub fn receiving(arriving: Box<Arriving>) -> Exchange {
        Exchange {
            waker: None,
            state: State::Receiving(arriving),
        }
    }

    /// The request, if its body still comes.
    pub fn arriving(&mut self) -> Option<&mut Arriving> {
        match &mut self.state {
            State::Receiving(arriving) => Some(arriving),
            _ => None,
        }
    }

    /// The request, out of the exchange, if its body still came.
    pub fn into_arriving(self) -> Option<Box<Arriving>> {
        match self.state {
            State::Receiving(arriving) => Some(arriving),
            _ => None,
        }
    }

    /// Answers with what `answering` gives, now if it is ready. `None` when that is all.
    pub fn answer(
        mut answering: ReplyFuture,
        manner: Manner,
        http2: &mut Connection,
        stream: StreamId,
        signal: &Arc<Signal>,
    ) -> Option<Exchange> {
        // Most answers are ready at once: only those that are not get a waker of their own.
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(reply) = answering.as_mut().poll(&mut cx) {
            return Exchange::reply(reply, &manner, http2, stream, signal);
        }
        let mut exchange = Exchange {
            waker: None,
            state: State::Answering(Box::new((answering, manner))),
        };
        exchange.kept(http2, stream, signal)
    }

    /// Sends a reply. `None` when all of it is sent.
    pub fn reply(
        reply: Reply,
        manner: &Manner,
        http2: &mut Connection,
        stream: StreamId,
        signal: &Arc<Signal>,
    ) -> Option<Exchange> {
        let state = begin(reply, manner, http2, stream)?;
        let mut exchange = Exchange { waker: None, state };
        exchange.kept(http2, stream, signal)
    }

    /// Goes on for the first time.
    fn kept(
        &mut self,
        http2: &mut Connection,
        stream: StreamId,
        signal: &Arc<Signal>,
    ) -> Option<Exchange> {
        match self.advance(http2, stream, signal) {
            Progress::Done => return None,
            Progress::Waits => {}
            Progress::HeldBack => self.wake(),
        }
        let state = std::mem::replace(&mut self.state, State::Rest(Bytes::new()));
        let waker = self.waker.take();
        Some(Exchange { waker, state })
    }

    /// Wakes it, so that it goes on in its turn.
    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Bytes that wait for the peer's windows.
    pub fn held_bytes(&self) -> usize {
        match &self.state {
            State::Receiving(_) | State::Answering(_) => 0,
            State::Rest(rest) | State::Stream(_, rest) => rest.len(),
        }
    }

    /// Goes on as far as it can.
    pub fn advance(
        &mut self,
        http2: &mut Connection,
        stream: StreamId,
        signal: &Arc<Signal>,
    ) -> Progress {
        let waker = self
            .waker
            .get_or_insert_with(|| Arc::new(StreamWaker::new(stream, signal.clone())));
        waker.rearm();
        let waker = Waker::from(waker.clone());
        let mut cx = Context::from_waker(&waker);
        if let State::Answering(answering) = &mut self.state {
            let (future, manner) = &mut **answering;
            let Poll::Ready(reply) = future.as_mut().poll(&mut cx) else {
                return Progress::Waits;
            };
            match begin(reply, manner, http2, stream) {
                Some(state) => self.state = state,
                None => return Progress::Done,
            }
        }
        match &mut self.state {
            State::Receiving(_) | State::Answering(_) => Progress::Waits,
            State::Rest(rest) => match http2.send_data(stream, rest, true) {
                Sent::Blocked => Progress::Waits,
                Sent::All | Sent::Gone => Progress::Done,
            },
            State::Stream(source, rest) => pump(&mut **source, rest, http2, stream, &mut cx),
        }
    }
}

/// Sends what a source gives, until it, the windows or the socket have enough.
fn pump(
    source: &mut dyn FrameSource,
    rest: &mut Bytes,
    http2: &mut Connection,
    stream: StreamId,
    cx: &mut Context<'_>,
) -> Progress {
    loop {
        if !rest.is_empty() {
            match http2.send_data(stream, rest, false) {
                Sent::All => *rest = Bytes::new(),
                Sent::Blocked => return Progress::Waits,
                Sent::Gone => return Progress::Done,
            }
        }
        if !has_room(http2) {
            return Progress::HeldBack;
        }
        match source.poll_frame(cx) {
            Poll::Pending => return Progress::Waits,
            Poll::Ready(Some(piece)) => *rest = piece,
            Poll::Ready(None) => {
                http2.send_data(stream, &mut Bytes::new(), true);
                return Progress::Done;
            }
        }
    }
}

/// Sends the head of a reply, and its body if it is whole and there is room. The state that is left, if any.
fn begin(reply: Reply, manner: &Manner, http2: &mut Connection, stream: StreamId) -> Option<State> {
    let mut room = [0; head::AUDIT_ID_BYTES];
    let audit_id = manner.audit_id.bytes(&mut room);
    let status = digits(u64::from(reply.status));
    let (length, body) = match reply.body {
        Body::Full(bytes) => (Some(digits(bytes.len() as u64)), Ok(bytes)),
        Body::Stream(source) => (None, Err(source)),
    };
    let is_empty = body.as_ref().is_ok_and(Bytes::is_empty);
    let end = manner.is_bodiless || is_empty;
    let sent = head::with_date(|date| {
        let known = [
            (&b":status"[..], status.as_bytes()),
            (AUDIT_ID.as_bytes(), audit_id),
            (b"cache-control", CACHE_CONTROL.as_bytes()),
            (b"date", date),
        ];
        let content_type = Some((&b"content-type"[..], reply.content_type.as_bytes()));
        let content_length = length
            .as_ref()
            .map(|length| (&b"content-length"[..], length.as_bytes()));
        let others = reply
            .headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let fields = known
            .into_iter()
            .chain(content_type.filter(|(_, value)| !value.is_empty()))
            .chain(content_length)
            .chain(others.filter(|(_, value)| is_sound(value)));
        http2.send_headers(stream, fields, end)
    });
    if !sent || end {
        return None;
    }
    match body {
        Ok(mut bytes) => match http2.send_data(stream, &mut bytes, true) {
            Sent::Blocked => Some(State::Rest(bytes)),
            Sent::All | Sent::Gone => None,
        },
        Err(source) => Some(State::Stream(source, Bytes::new())),
    }
}

/// Whether a header may have this value: our own texts do, but one may quote a request.
fn is_sound(value: &[u8]) -> bool {
    value
        .iter()
        .all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t')
}

/// A number in decimal, without an allocation.
fn digits(mut number: u64) -> Digits {
    let mut text = Digits {
        bytes: [0; 20],
        begin: 20,
    };
    loop {
        text.begin -= 1;
        text.bytes[text.begin] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return text;
        }
    }
}

struct Digits {
    bytes: [u8; 20],
    begin: usize,
}

impl Digits {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 200, 4_096, u64::MAX] {
            assert_eq!(digits(number).as_bytes(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn control_characters_are_no_header() {
        assert!(is_sound(b"299 - \"text\""));
        assert!(!is_sound(b"a\r\nset-cookie: b"));
    }
}

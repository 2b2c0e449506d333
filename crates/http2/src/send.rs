//! What goes out: messages as frames, within the peer's windows.

use bytes::{Buf as _, Bytes};

use crate::connection::{Connection, Role};
use crate::error::Reason;
use crate::frame::{self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEAD_BYTES, HEADERS, Head};
use crate::limits::{FRAME_BYTES_SENT_MAX, IDLE_FRAMES_PER_DATA, SHARED_BYTES_MIN};
use crate::ring::Ended;
use crate::streams::{Stream, StreamId};

/// What became of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it is in the output.
    All,
    /// The rest must wait: [`crate::Event::Writable`] says when to try again.
    Blocked,
    /// The stream is over; nobody wants it any more.
    Gone,
}

/// Why a stream cannot be opened now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// The peer has as many as it takes; try again when one has ended.
    Full,
    /// The peer is going, the connection failed, or its numbers are used up: use another connection.
    Over,
}

impl Connection {
    /// A client asks.
    pub fn open<'a>(
        &mut self,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        end: bool,
    ) -> Result<StreamId, Unopened> {
        let id = self.next_own;
        let is_over = self.role == Role::Server || self.failed.is_some() || self.is_peer_going;
        if is_over || id > 0x7fff_ffff {
            return Err(Unopened::Over);
        }
        if self.own_open >= self.peer.streams_max {
            return Err(Unopened::Full);
        }
        self.next_own = id.saturating_add(2);
        let mut stream = Stream::new();
        stream.is_own_done = end;
        let mut is_head = false;
        let fields = fields
            .into_iter()
            .inspect(|(name, value)| is_head |= *name == b":method" && *value == b"HEAD");
        self.put_block(id, fields, end);
        stream.is_bodiless = is_head;
        self.add_stream(id, stream);
        Ok(StreamId(id))
    }

    /// Answers, or ends a message with trailers. False when the stream is over.
    pub fn send_headers<'a>(
        &mut self,
        stream: StreamId,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        end: bool,
    ) -> bool {
        match self.streams.get(&stream.0) {
            Some(open) if !open.is_own_done => {}
            _ => return false,
        }
        self.put_block(stream.0, fields, end);
        if end {
            self.own_done(stream.0);
        }
        true
    }

    /// Sends as much as the windows allow and takes it off `data`. With `end`, the last of it ends our side.
    pub fn send_data(&mut self, stream: StreamId, data: &mut Bytes, end: bool) -> Sent {
        loop {
            let Some(room) = self.room(stream.0) else {
                return Sent::Gone;
            };
            if room == 0 && !data.is_empty() {
                self.wait(stream.0);
                return Sent::Blocked;
            }
            let piece = data.split_to(room.min(data.len()));
            let is_last = data.is_empty();
            self.put_data_head(stream.0, piece.len(), is_last && end);
            if piece.len() >= SHARED_BYTES_MIN {
                self.output.share(piece);
            } else {
                self.output.tail().extend_from_slice(&piece);
            }
            if is_last {
                if end {
                    self.own_done(stream.0);
                }
                return Sent::All;
            }
        }
    }

    /// Sends `len` bytes that `write` appends, if they fit in one frame and the windows; else writes nothing and answers
    /// false.
    pub fn send_in_place(
        &mut self,
        stream: StreamId,
        len: usize,
        end: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        if self.room(stream.0).is_none_or(|room| room < len) {
            return false;
        }
        self.put_data_head(stream.0, len, end);
        let out = self.output.tail();
        let whole = out.len() + len;
        write(out);
        // The frame's head has said how long it is.
        out.resize(whole, 0);
        if end {
            self.own_done(stream.0);
        }
        true
    }

    /// Ends a stream at once.
    pub fn reset(&mut self, stream: StreamId, reason: Reason) {
        if self.remove_stream(stream.0, Ended::ResetByUs) {
            self.put_reset(stream.0, reason);
        }
    }

    /// Whether the peer may still send on this stream.
    #[must_use]
    pub fn is_peer_open(&self, stream: StreamId) -> bool {
        self.streams
            .get(&stream.0)
            .is_some_and(|open| !open.is_peer_done)
    }

    /// Asks whether the peer is there; it answers with [`crate::Event::Pong`].
    pub fn ping(&mut self, payload: [u8; 8]) {
        if self.failed.is_none() {
            frame::put(self.output.tail(), frame::PING, 0, 0, &payload);
        }
    }

    /// Bytes one frame on this stream may carry now. None when it is over.
    fn room(&self, id: u32) -> Option<usize> {
        let stream = self.streams.get(&id).filter(|open| !open.is_own_done)?;
        let window = self
            .send_window
            .min(self.peer.window_bytes + stream.send_credit);
        let room = usize::try_from(window).unwrap_or(0);
        Some(
            room.min(self.peer.frame_bytes_max)
                .min(FRAME_BYTES_SENT_MAX),
        )
    }

    fn wait(&mut self, id: u32) {
        let initial = self.peer.window_bytes;
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.is_waiting = true;
        // One that lacks room of its own gets in line once it has it.
        if initial + stream.send_credit > 0 && !stream.is_listed {
            stream.is_listed = true;
            self.waiting.push_back(id);
        }
    }

    fn put_data_head(&mut self, id: u32, len: usize, end: bool) {
        self.send_window -= len as i64;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send_credit -= len as i64;
        }
        self.idle_frames.give(IDLE_FRAMES_PER_DATA);
        self.put_head(Head {
            len,
            kind: DATA,
            flags: if end { END_STREAM } else { 0 },
            stream: id,
        });
    }

    fn own_done(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.is_own_done = true;
        if stream.is_over() {
            self.remove_stream(id, Ended::Whole);
        }
    }

    /// HEADERS, and CONTINUATIONs where they are longer than the peer takes in one.
    fn put_block<'a>(
        &mut self,
        id: u32,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        end: bool,
    ) {
        let out = self.output.tail();
        let at = out.len();
        out.extend_from_slice(&[0; HEAD_BYTES]);
        self.encoder.encode(fields, out);
        let len = out.len() - at - HEAD_BYTES;
        let max = self.peer.frame_bytes_max;
        let end = if end { END_STREAM } else { 0 };
        let mut head = Head {
            len: len.min(max),
            kind: HEADERS,
            flags: if len > max { end } else { end | END_HEADERS },
            stream: id,
        };
        if let Some(place) = out.get_mut(at..at + HEAD_BYTES) {
            place.copy_from_slice(&head.bytes());
        }
        if len <= max {
            return;
        }
        let mut rest = Bytes::from(out.split_off(at + HEAD_BYTES + max));
        while rest.has_remaining() {
            let piece = rest.split_to(max.min(rest.len()));
            head.kind = CONTINUATION;
            head.flags = if rest.is_empty() { END_HEADERS } else { 0 };
            frame::put(out, head.kind, head.flags, id, &piece);
        }
    }
}

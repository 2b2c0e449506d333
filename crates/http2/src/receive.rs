//! What comes in: bytes to frames, frames to events, and what breaks the rules to errors.

use bytes::{Buf as _, Bytes};

use crate::PREFACE;
use crate::connection::{Block, Connection, Event, Going, Role, SHUTDOWN_PING};
use crate::error::{Error, Reason};
use crate::fields::Fields;
use crate::frame::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEAD_BYTES, HEADERS,
    Head, PING, PRIORITIZED, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::limits::{CONTINUATION_BYTES_MIN, FRAME_BYTES_MAX, WINDOW_BYTES_MAX};
use crate::ring::Ended;
use crate::streams::{Stream, StreamId};
use crate::validate::{self, Malformed};

const FLOOD: Error = Error::calm("too many frames that move nothing");
const RESETS: Error = Error::calm("too many streams that end by a reset");

/// One more stream's window for each so many streams is the cost of a change of all of them.
const STREAMS_PER_IDLE_FRAME: usize = 64;

/// Parameters of a SETTINGS frame that cost as much as a frame.
const PARAMETERS_PER_IDLE_FRAME: usize = 16;

impl Connection {
    /// Takes bytes from the peer. They are looked at by [`Connection::next_event`], which should be called until there
    /// is no event before the next bytes come. `now_millis` counts from any moment and never goes back.
    pub fn recv(&mut self, input: Bytes, now_millis: u64) {
        if self.failed.is_some() {
            return;
        }
        self.idle_frames.refill(now_millis);
        self.resets.refill(now_millis);
        if self.input.is_empty() {
            self.input = input;
        } else {
            self.input = [&self.input[..], &input[..]].concat().into();
        }
    }

    /// What the peer did next. None when more bytes are needed to tell.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.failed.is_some() {
                return None;
            }
            if let Some(stream) = self.next_writable() {
                return Some(Event::Writable { stream });
            }
            let event = match self.take_frame() {
                Ok(None) => return None,
                Ok(Some(frame)) => self.on_frame(frame),
                Err(error) => Err(error),
            };
            match event {
                Ok(None) => {}
                Ok(Some(event)) => return Some(event),
                Err(error) => return Some(self.fail(error)),
            }
        }
    }

    /// The next whole frame. What is there of an unfinished one is kept apart, so that no large block of input stays.
    fn take_frame(&mut self) -> Result<Option<Frame>, Error> {
        if self.preface_left > 0 && !self.take_preface()? {
            return Ok(None);
        }
        if self.partial.is_empty() {
            if let Some(head) = Head::read(&self.input) {
                let whole = HEAD_BYTES + checked_len(head)?;
                if self.input.len() >= whole {
                    let mut payload = self.input.split_to(whole);
                    payload.advance(HEAD_BYTES);
                    return Ok(Some(of(head, payload)));
                }
            }
        } else {
            self.fill_partial(HEAD_BYTES);
            if let Some(head) = Head::read(&self.partial) {
                let whole = HEAD_BYTES + checked_len(head)?;
                self.fill_partial(whole);
                if self.partial.len() >= whole {
                    let mut payload = Bytes::from(std::mem::take(&mut self.partial));
                    payload.advance(HEAD_BYTES);
                    return Ok(Some(of(head, payload)));
                }
            }
        }
        self.partial.extend_from_slice(&self.input);
        self.input = Bytes::new();
        Ok(None)
    }

    fn fill_partial(&mut self, len: usize) {
        let missing = len.saturating_sub(self.partial.len());
        let taken = self.input.split_to(missing.min(self.input.len()));
        self.partial.extend_from_slice(&taken);
    }

    /// True once the whole preface has come.
    fn take_preface(&mut self) -> Result<bool, Error> {
        let begin = PREFACE.len() - self.preface_left;
        let wanted = PREFACE.get(begin..).unwrap_or_default();
        let len = wanted.len().min(self.input.len());
        let came = self.input.split_to(len);
        if wanted.get(..len) != Some(&came[..]) {
            return Err(Error::protocol("this is not the preface of HTTP/2"));
        }
        self.preface_left -= len;
        Ok(self.preface_left == 0)
    }

    fn on_frame(&mut self, frame: Frame) -> Result<Option<Event>, Error> {
        if !self.is_met && (frame.kind != SETTINGS || frame.has(ACK)) {
            return Err(Error::protocol("the first frame is not SETTINGS"));
        }
        if let Some(block) = &self.block
            && (frame.kind != CONTINUATION || frame.stream != block.stream)
        {
            return Err(Error::protocol("a frame amid the pieces of a header block"));
        }
        match frame.kind {
            DATA => self.on_data(frame),
            HEADERS => self.on_headers(frame),
            PRIORITY => self.on_priority(&frame),
            RST_STREAM => self.on_reset(&frame),
            SETTINGS => self.on_settings(&frame),
            PUSH_PROMISE => Err(Error::protocol("nobody here takes pushed streams")),
            PING => self.on_ping(&frame),
            GOAWAY => self.on_goaway(&frame),
            WINDOW_UPDATE => self.on_window_update(&frame),
            CONTINUATION => self.on_continuation(&frame),
            _ => self.idle(1),
        }
    }

    /// A frame that moves nothing.
    fn idle(&mut self, cost: usize) -> Result<Option<Event>, Error> {
        if self
            .idle_frames
            .take(u32::try_from(cost).unwrap_or(u32::MAX))
        {
            Ok(None)
        } else {
            Err(FLOOD)
        }
    }

    fn on_data(&mut self, mut frame: Frame) -> Result<Option<Event>, Error> {
        let id = frame.stream;
        if id == 0 {
            return Err(Error::protocol("DATA on stream 0"));
        }
        let len = frame.payload.len();
        self.receive_window -= len as i64;
        if self.receive_window < 0 {
            let text = "more DATA than the connection's window";
            return Err(Error::new(Reason::FLOW_CONTROL_ERROR, text));
        }
        frame.unpad()?;
        let end = frame.has(END_STREAM);
        let initial = self.receive_initial;
        let Some(stream) = self.streams.get_mut(&id) else {
            self.give_back(len);
            return self.on_absent(id);
        };
        let data = frame.payload;
        stream.receive_credit -= len as i64;
        let wrong = if stream.is_peer_done {
            Some(Reason::STREAM_CLOSED)
        } else if initial + stream.receive_credit < 0 {
            Some(Reason::FLOW_CONTROL_ERROR)
        } else if !stream.has_head || !stream.takes_body(data.len(), end) {
            Some(Reason::PROTOCOL_ERROR)
        } else {
            None
        };
        if let Some(reason) = wrong {
            self.give_back(len);
            return self.stream_error(id, reason);
        }
        stream.is_peer_done = end;
        let is_over = stream.is_over();
        if is_over {
            self.remove_stream(id, Ended::Whole);
        }
        let padding = len - data.len();
        if padding > 0 {
            self.consumed(StreamId(id), padding);
        }
        if data.is_empty() && !end {
            return self.idle(1);
        }
        let stream = StreamId(id);
        Ok(Some(Event::Data { stream, data, end }))
    }

    fn on_headers(&mut self, mut frame: Frame) -> Result<Option<Event>, Error> {
        if frame.stream == 0 {
            return Err(Error::protocol("HEADERS on stream 0"));
        }
        frame.unpad()?;
        if frame.has(PRIORITIZED) {
            if frame.payload.len() < 5 {
                return Err(Error::frame_size("HEADERS too short for their priority"));
            }
            frame.payload.advance(5);
        }
        let end = frame.has(END_STREAM);
        if frame.has(END_HEADERS) {
            return self.on_block(frame.stream, end, &frame.payload);
        }
        self.block = Some(Box::new(Block {
            stream: frame.stream,
            end,
            bytes: frame.payload.to_vec(),
        }));
        self.idle(usize::from(frame.payload.len() < CONTINUATION_BYTES_MIN))
    }

    fn on_continuation(&mut self, frame: &Frame) -> Result<Option<Event>, Error> {
        let Some(mut block) = self.block.take() else {
            return Err(Error::protocol("CONTINUATION of nothing"));
        };
        if block.bytes.len() + frame.payload.len() > self.config.header_list_bytes_max {
            return Err(Error::calm("a header block without end"));
        }
        block.bytes.extend_from_slice(&frame.payload);
        if frame.has(END_HEADERS) {
            return self.on_block(block.stream, block.end, &block.bytes);
        }
        self.block = Some(block);
        self.idle(usize::from(frame.payload.len() < CONTINUATION_BYTES_MIN))
    }

    /// A whole block of headers. It is decoded whatever becomes of it: the tables must stay in step.
    fn on_block(&mut self, id: u32, end: bool, block: &[u8]) -> Result<Option<Event>, Error> {
        let mut fields = std::mem::take(&mut self.spare);
        let list_max = self.config.header_list_bytes_max;
        let is_whole = match self.decoder.decode(block, &mut fields, list_max) {
            Ok(is_whole) => is_whole,
            Err(_) => {
                let text = "a header block cannot be decoded";
                return Err(Error::new(Reason::COMPRESSION_ERROR, text));
            }
        };
        if let Some(stream) = self.streams.get(&id) {
            if stream.is_peer_done {
                return self.stream_error(id, Reason::STREAM_CLOSED);
            }
            if !is_whole {
                return self.stream_error(id, Reason::ENHANCE_YOUR_CALM);
            }
            return if stream.has_head {
                self.on_trailers(id, end, fields)
            } else {
                self.on_answer(id, end, fields)
            };
        }
        if self.role == Role::Server && self.is_own(id) {
            return Err(Error::protocol("a client's stream has an even number"));
        }
        if self.is_unused(id) {
            if self.role == Role::Client {
                return Err(Error::protocol("HEADERS on a stream nobody opened"));
            }
            return self.on_request(id, end, fields, is_whole);
        }
        self.spare = fields;
        match self.ended.find(id) {
            Some(Ended::ResetByUs) => Ok(None),
            Some(Ended::ResetByPeer) => self.on_absent(id),
            Some(Ended::Whole) => {
                let text = "HEADERS on a stream that is over";
                Err(Error::new(Reason::STREAM_CLOSED, text))
            }
            None => Err(Error::protocol("HEADERS on a stream that was passed over")),
        }
    }

    fn on_request(
        &mut self,
        id: u32,
        end: bool,
        fields: Fields,
        is_whole: bool,
    ) -> Result<Option<Event>, Error> {
        self.last_peer = id;
        if self.going == Going::Final || self.peer_open >= self.config.streams_max {
            self.spare = fields;
            return self.stream_error(id, Reason::REFUSED_STREAM);
        }
        if !is_whole {
            self.spare = fields;
            return self.too_large(id, end);
        }
        let Ok(message) = validate::request(&fields) else {
            self.spare = fields;
            return self.stream_error(id, Reason::PROTOCOL_ERROR);
        };
        if end && message.content_length > 0 {
            return self.stream_error(id, Reason::PROTOCOL_ERROR);
        }
        let mut stream = Stream::new();
        stream.has_head = true;
        stream.is_peer_done = end;
        stream.body_left = message.content_length;
        stream.is_bodiless = fields.get(b":method") == Some(b"HEAD");
        self.add_stream(id, stream);
        let stream = StreamId(id);
        Ok(Some(Event::Headers {
            stream,
            fields,
            end,
        }))
    }

    /// Headers beyond their limit: the request is answered here, with the status that says so.
    fn too_large(&mut self, id: u32, end: bool) -> Result<Option<Event>, Error> {
        let mut stream = Stream::new();
        stream.is_peer_done = end;
        self.add_stream(id, stream);
        self.send_headers(StreamId(id), [(&b":status"[..], &b"431"[..])], true);
        if end {
            return Ok(None);
        }
        // Reset without blame: the rest of the request is not wanted.
        self.stream_error(id, Reason::NO_ERROR).map(|_| None)
    }

    fn on_answer(&mut self, id: u32, end: bool, fields: Fields) -> Result<Option<Event>, Error> {
        let Ok(message) = validate::response(&fields) else {
            return self.stream_error(id, Reason::PROTOCOL_ERROR);
        };
        let is_interim = message.status < 200;
        if is_interim && (end || message.status == 101) {
            return self.stream_error(id, Reason::PROTOCOL_ERROR);
        }
        if is_interim {
            self.spare = fields;
            return self.idle(1);
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(None);
        };
        let has_body = !stream.is_bodiless && !matches!(message.status, 204 | 304);
        stream.has_head = true;
        stream.body_left = if has_body { message.content_length } else { 0 };
        if end && stream.body_left > 0 {
            return self.stream_error(id, Reason::PROTOCOL_ERROR);
        }
        stream.is_peer_done = end;
        if stream.is_over() {
            self.remove_stream(id, Ended::Whole);
        }
        let stream = StreamId(id);
        Ok(Some(Event::Headers {
            stream,
            fields,
            end,
        }))
    }

    fn on_trailers(&mut self, id: u32, end: bool, fields: Fields) -> Result<Option<Event>, Error> {
        let is_good = end && validate::trailers(&fields) != Err(Malformed);
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(None);
        };
        if !is_good || !stream.takes_body(0, true) {
            return self.stream_error(id, Reason::PROTOCOL_ERROR);
        }
        stream.is_peer_done = true;
        if stream.is_over() {
            self.remove_stream(id, Ended::Whole);
        }
        let stream = StreamId(id);
        Ok(Some(Event::Trailers { stream, fields }))
    }

    /// DATA or HEADERS for a stream that is not there.
    fn on_absent(&mut self, id: u32) -> Result<Option<Event>, Error> {
        if self.is_unused(id) {
            return Err(Error::protocol("a frame for a stream nobody opened"));
        }
        if self.ended.find(id) != Some(Ended::ResetByUs) {
            self.put_reset(id, Reason::STREAM_CLOSED);
        }
        self.idle(1)
    }

    /// The peer broke the rules on one stream, or asks for one too many.
    fn stream_error(&mut self, id: u32, reason: Reason) -> Result<Option<Event>, Error> {
        self.put_reset(id, reason);
        let was_known = self.remove_stream(id, Ended::ResetByUs);
        if !was_known {
            self.ended.push(id, Ended::ResetByUs);
        }
        // To make us reset costs the peer no less than to reset.
        if !self.resets.take(1) {
            return Err(RESETS);
        }
        let stream = StreamId(id);
        Ok(was_known.then_some(Event::Reset { stream, reason }))
    }

    fn on_priority(&mut self, frame: &Frame) -> Result<Option<Event>, Error> {
        if frame.stream == 0 {
            return Err(Error::protocol("PRIORITY on stream 0"));
        }
        if frame.payload.len() != 5 {
            if self.streams.contains_key(&frame.stream) {
                return self.stream_error(frame.stream, Reason::FRAME_SIZE_ERROR);
            }
            return Err(Error::frame_size("PRIORITY that has not 5 bytes"));
        }
        self.idle(1)
    }

    fn on_reset(&mut self, frame: &Frame) -> Result<Option<Event>, Error> {
        let Some(code) = frame.number() else {
            return Err(Error::frame_size("RST_STREAM that has not 4 bytes"));
        };
        let id = frame.stream;
        if id == 0 || self.is_unused(id) {
            return Err(Error::protocol("RST_STREAM of a stream nobody opened"));
        }
        if !self.remove_stream(id, Ended::ResetByPeer) {
            return self.idle(1);
        }
        if !self.resets.take(1) {
            return Err(RESETS);
        }
        let stream = StreamId(id);
        let reason = Reason(code);
        Ok(Some(Event::Reset { stream, reason }))
    }

    fn on_settings(&mut self, frame: &Frame) -> Result<Option<Event>, Error> {
        if frame.stream != 0 {
            return Err(Error::protocol("SETTINGS on a stream"));
        }
        if frame.has(ACK) {
            if !frame.payload.is_empty() {
                return Err(Error::frame_size(
                    "an acknowledgement of SETTINGS with content",
                ));
            }
            self.receive_initial = i64::from(self.config.stream_window_bytes);
            return self.idle(1);
        }
        let (parameters, rest) = frame.payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Error::frame_size(
                "SETTINGS whose length is no multiple of 6",
            ));
        }
        self.is_met = true;
        let before = self.peer.window_bytes;
        for [a, b, c, d, e, f] in parameters {
            let id = u16::from_be_bytes([*a, *b]);
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            self.peer.set(id, value, self.role == Role::Server)?;
        }
        self.encoder
            .set_table_bytes_max(self.peer.header_table_bytes);
        frame::put(self.output.tail(), SETTINGS, ACK, 0, &[]);
        let mut cost = 1 + parameters.len() / PARAMETERS_PER_IDLE_FRAME;
        if self.peer.window_bytes > before {
            cost += self.streams.len() / STREAMS_PER_IDLE_FRAME;
            self.list_waiting();
        }
        self.idle(cost)
    }

    /// All streams have more room: those that wait for it are put in line.
    fn list_waiting(&mut self) {
        let initial = self.peer.window_bytes;
        let freed = self.streams.iter_mut().filter(|(_, stream)| {
            stream.is_waiting && !stream.is_listed && initial + stream.send_credit > 0
        });
        let start = self.waiting.len();
        for (id, stream) in freed {
            stream.is_listed = true;
            self.waiting.push_back(*id);
        }
        // The table's order is chance; the order of streams is not.
        if let Some(new) = self.waiting.make_contiguous().get_mut(start..) {
            new.sort_unstable();
        }
    }

    fn on_ping(&mut self, frame: &Frame) -> Result<Option<Event>, Error> {
        if frame.stream != 0 {
            return Err(Error::protocol("PING on a stream"));
        }
        let Ok(payload) = <[u8; 8]>::try_from(&frame.payload[..]) else {
            return Err(Error::frame_size("PING that has not 8 bytes"));
        };
        if !frame.has(ACK) {
            frame::put(self.output.tail(), PING, ACK, 0, &payload);
            return self.idle(1);
        }
        if payload == SHUTDOWN_PING {
            self.finish_shutdown();
            return self.idle(1);
        }
        self.idle(1)?;
        Ok(Some(Event::Pong { payload }))
    }

    fn on_goaway(&mut self, frame: &Frame) -> Result<Option<Event>, Error> {
        if frame.stream != 0 {
            return Err(Error::protocol("GOAWAY on a stream"));
        }
        let Some((last, rest)) = frame.payload.split_first_chunk::<4>() else {
            return Err(Error::frame_size("GOAWAY shorter than 8 bytes"));
        };
        let Some(code) = rest.first_chunk::<4>() else {
            return Err(Error::frame_size("GOAWAY shorter than 8 bytes"));
        };
        let last = u32::from_be_bytes(*last) & 0x7fff_ffff;
        let reason = Reason(u32::from_be_bytes(*code));
        self.is_peer_going = true;
        // What the peer has not looked at may be asked of somebody else.
        let own = self.streams.keys().copied();
        let mut lost: Vec<u32> = own.filter(|id| self.is_own(*id) && *id > last).collect();
        lost.sort_unstable();
        for id in lost {
            self.remove_stream(id, Ended::ResetByPeer);
            let stream = StreamId(id);
            let reason = Reason::REFUSED_STREAM;
            self.events.push_back(Event::Reset { stream, reason });
        }
        self.idle(1)?;
        let last = StreamId(last);
        Ok(Some(Event::GoAway { last, reason }))
    }

    fn on_window_update(&mut self, frame: &Frame) -> Result<Option<Event>, Error> {
        let Some(number) = frame.number() else {
            return Err(Error::frame_size("WINDOW_UPDATE that has not 4 bytes"));
        };
        let more = i64::from(number & 0x7fff_ffff);
        let id = frame.stream;
        if id == 0 {
            if more == 0 {
                return Err(Error::protocol("WINDOW_UPDATE of nothing"));
            }
            self.send_window += more;
            if self.send_window > WINDOW_BYTES_MAX {
                let text = "the connection's window is above 2^31-1";
                return Err(Error::new(Reason::FLOW_CONTROL_ERROR, text));
            }
            return self.idle(1);
        }
        if self.is_unused(id) {
            return Err(Error::protocol("WINDOW_UPDATE of a stream nobody opened"));
        }
        let initial = self.peer.window_bytes;
        let Some(stream) = self.streams.get_mut(&id) else {
            return self.idle(1);
        };
        if more == 0 {
            return self.stream_error(id, Reason::PROTOCOL_ERROR);
        }
        stream.send_credit += more;
        let window = initial + stream.send_credit;
        if window > WINDOW_BYTES_MAX {
            return self.stream_error(id, Reason::FLOW_CONTROL_ERROR);
        }
        if stream.is_waiting && !stream.is_listed && window > 0 {
            stream.is_listed = true;
            self.waiting.push_back(id);
        }
        self.idle(1)
    }

    /// The next stream that has something to send and room for it.
    fn next_writable(&mut self) -> Option<StreamId> {
        while self.send_window > 0 {
            let id = self.waiting.pop_front()?;
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.is_listed = false;
            if stream.is_waiting && !stream.is_own_done {
                stream.is_waiting = false;
                return Some(StreamId(id));
            }
        }
        None
    }

    /// The shell has taken bytes of a body: the peer may send as many more.
    pub fn consumed(&mut self, stream: StreamId, bytes: usize) {
        if self.failed.is_some() {
            return;
        }
        self.give_back(bytes);
        let half = self.config.stream_window_bytes / 2;
        let Some(open) = self.streams.get_mut(&stream.0) else {
            return;
        };
        if open.is_peer_done {
            return;
        }
        open.receive_owed = open
            .receive_owed
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if open.receive_owed > half {
            let owed = std::mem::take(&mut open.receive_owed);
            open.receive_credit += i64::from(owed);
            let payload = owed.to_be_bytes();
            frame::put(self.output.tail(), WINDOW_UPDATE, 0, stream.0, &payload);
        }
    }

    fn give_back(&mut self, bytes: usize) {
        self.receive_owed = self
            .receive_owed
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.receive_owed > self.config.connection_window_bytes / 2 {
            let owed = std::mem::take(&mut self.receive_owed);
            self.receive_window += i64::from(owed);
            frame::put(self.output.tail(), WINDOW_UPDATE, 0, 0, &owed.to_be_bytes());
        }
    }
}

impl Stream {
    /// Whether so many bytes of body, and their end, are what was promised.
    fn takes_body(&mut self, len: usize, end: bool) -> bool {
        if self.body_left < 0 {
            return true;
        }
        self.body_left -= len as i64;
        self.body_left >= 0 && !(end && self.body_left > 0)
    }
}

fn checked_len(head: Head) -> Result<usize, Error> {
    if head.len > FRAME_BYTES_MAX {
        return Err(Error::frame_size("a frame of more than 16,384 bytes"));
    }
    Ok(head.len)
}

fn of(head: Head, payload: Bytes) -> Frame {
    Frame {
        kind: head.kind,
        flags: head.flags,
        stream: head.stream,
        payload,
    }
}

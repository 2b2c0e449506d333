//! The connection as a whole: its settings, its state, its beginning and its end.
//!
//! What comes in is in `receive.rs`, what goes out in `send.rs`.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::PREFACE;
use crate::error::{Error, Reason};
use crate::fields::Fields;
use crate::frame::{self, Head};
use crate::hpack::{Decoder, Encoder};
use crate::limits::{
    HEADER_LIST_BYTES_MAX, HEADER_TABLE_BYTES, IDLE_FRAMES_BURST, IDLE_FRAMES_PER_SECOND,
    RESETS_BURST, RESETS_PER_SECOND, STREAMS_MAX, WINDOW_BYTES_INITIAL,
};
use crate::output::Output;
use crate::patience::Patience;
use crate::ring::{Ended, Ring};
use crate::settings::{self, Settings};
use crate::streams::{Seeded, Stream, StreamId, Streams};

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It answers.
    Server,
    /// It asks.
    Client,
}

/// What a connection allows its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Streams the peer may have open.
    pub streams_max: u32,
    /// Bytes a stream may have under way towards us.
    pub stream_window_bytes: u32,
    /// Bytes all streams together may have under way towards us; at least the protocol's 65,535.
    pub connection_window_bytes: u32,
    /// Bytes a list of headers may have, as RFC 9113 §6.5.2 counts them.
    pub header_list_bytes_max: usize,
    /// Streams the peer may reset in a row.
    pub resets_burst: u32,
    /// Chance, so that nobody outside can tell where streams meet in a table.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            streams_max: STREAMS_MAX,
            stream_window_bytes: 256 << 10,
            connection_window_bytes: 1 << 20,
            header_list_bytes_max: HEADER_LIST_BYTES_MAX,
            resets_burst: RESETS_BURST,
            seed: 0,
        }
    }
}

/// What the peer did.
#[derive(Debug)]
pub enum Event {
    /// A server: a request begins. A client: an answer does.
    Headers {
        /// Which stream.
        stream: StreamId,
        /// Its headers; give them back with [`Connection::recycle`].
        fields: Fields,
        /// Nothing follows.
        end: bool,
    },
    /// A piece of a body. Its bytes are in the window until [`Connection::consumed`] is called.
    Data {
        /// Which stream.
        stream: StreamId,
        /// The bytes.
        data: Bytes,
        /// Nothing follows.
        end: bool,
    },
    /// Headers after the body: the end of a message.
    Trailers {
        /// Which stream.
        stream: StreamId,
        /// The headers.
        fields: Fields,
    },
    /// The stream is over: the peer ended it, or broke the rules on it.
    Reset {
        /// Which stream.
        stream: StreamId,
        /// Why.
        reason: Reason,
    },
    /// A stream whose data was held up may go on.
    Writable {
        /// Which stream.
        stream: StreamId,
    },
    /// The answer to a ping.
    Pong {
        /// What it carried.
        payload: [u8; 8],
    },
    /// The peer will not take new streams.
    GoAway {
        /// The last of our streams it looked at.
        last: StreamId,
        /// Why.
        reason: Reason,
    },
    /// The connection cannot go on: the last event. What is left in the output tells the peer.
    Closed(Error),
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Going {
    Open,
    /// The peer was told to stop opening streams; those on their way are still taken.
    Asked,
    /// Whatever comes now is refused.
    Final,
}

/// A list of headers that comes in pieces.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) stream: u32,
    pub(crate) end: bool,
    pub(crate) bytes: Vec<u8>,
}

/// One end of an HTTP/2 connection.
#[derive(Debug)]
pub struct Connection {
    pub(crate) role: Role,
    pub(crate) config: Config,
    pub(crate) input: Bytes,
    /// The beginning of a frame whose end has not come.
    pub(crate) partial: Vec<u8>,
    /// Bytes of the client's preface still to come.
    pub(crate) preface_left: usize,
    pub(crate) block: Option<Box<Block>>,
    pub(crate) decoder: Decoder,
    pub(crate) spare: Fields,
    pub(crate) peer: Settings,
    /// The peer's first settings have come.
    pub(crate) is_met: bool,
    /// Our settings hold: until they are acknowledged, the protocol's windows do.
    pub(crate) receive_initial: i64,
    pub(crate) output: Output,
    pub(crate) encoder: Encoder,
    pub(crate) streams: Streams,
    /// The highest stream the peer opened, and the next of ours.
    pub(crate) last_peer: u32,
    pub(crate) next_own: u32,
    /// Streams in the table that we opened, and that the peer did.
    pub(crate) own_open: u32,
    pub(crate) peer_open: u32,
    pub(crate) ended: Ring,
    pub(crate) send_window: i64,
    pub(crate) receive_window: i64,
    pub(crate) receive_owed: u32,
    /// Streams with room of their own that wait for the connection's, first come first served.
    pub(crate) waiting: VecDeque<u32>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) idle_frames: Patience,
    pub(crate) resets: Patience,
    pub(crate) going: Going,
    pub(crate) is_peer_going: bool,
    pub(crate) failed: Option<Error>,
}

/// What the ping of a shutdown carries, so that its answer is told from others.
pub(crate) const SHUTDOWN_PING: [u8; 8] = *b"\x0bshutdow";

impl Connection {
    /// The end that answers. It expects the client's preface.
    #[must_use]
    pub fn server(config: Config) -> Connection {
        let mut connection = Connection::new(Role::Server, config);
        connection.preface_left = PREFACE.len();
        connection.greet(&[
            (settings::MAX_CONCURRENT_STREAMS, config.streams_max),
            (settings::INITIAL_WINDOW_SIZE, config.stream_window_bytes),
            (
                settings::MAX_HEADER_LIST_SIZE,
                u32::try_from(config.header_list_bytes_max).unwrap_or(u32::MAX),
            ),
        ]);
        connection
    }

    /// The end that asks.
    #[must_use]
    pub fn client(config: Config) -> Connection {
        let mut connection = Connection::new(Role::Client, config);
        connection.output.tail().extend_from_slice(PREFACE);
        connection.greet(&[
            (settings::ENABLE_PUSH, 0),
            (settings::INITIAL_WINDOW_SIZE, config.stream_window_bytes),
            (
                settings::MAX_HEADER_LIST_SIZE,
                u32::try_from(config.header_list_bytes_max).unwrap_or(u32::MAX),
            ),
        ]);
        connection
    }

    fn new(role: Role, mut config: Config) -> Connection {
        config.connection_window_bytes = config.connection_window_bytes.max(WINDOW_BYTES_INITIAL);
        Connection {
            role,
            config,
            input: Bytes::new(),
            partial: Vec::new(),
            preface_left: 0,
            block: None,
            decoder: Decoder::new(HEADER_TABLE_BYTES),
            spare: Fields::default(),
            peer: Settings::default(),
            is_met: false,
            receive_initial: i64::from(WINDOW_BYTES_INITIAL),
            output: Output::default(),
            encoder: Encoder::default(),
            streams: Streams::with_hasher(Seeded(config.seed)),
            last_peer: 0,
            next_own: if role == Role::Client { 1 } else { 2 },
            own_open: 0,
            peer_open: 0,
            ended: Ring::default(),
            send_window: i64::from(WINDOW_BYTES_INITIAL),
            receive_window: i64::from(config.connection_window_bytes),
            receive_owed: 0,
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            idle_frames: Patience::new(IDLE_FRAMES_BURST, IDLE_FRAMES_PER_SECOND),
            resets: Patience::new(config.resets_burst, RESETS_PER_SECOND),
            going: Going::Open,
            is_peer_going: false,
            failed: None,
        }
    }

    fn greet(&mut self, parameters: &[(u16, u32)]) {
        let mut payload = Vec::with_capacity(parameters.len() * 6);
        for (id, value) in parameters {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        let more = self
            .config
            .connection_window_bytes
            .saturating_sub(WINDOW_BYTES_INITIAL);
        let out = self.output.tail();
        frame::put(out, frame::SETTINGS, 0, 0, &payload);
        if more > 0 {
            frame::put(out, frame::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        }
    }

    /// What is to be written to the peer.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Streams that at least one side has not finished.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Why the connection failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        self.failed
    }

    /// Asks the peer to open no more streams. Those it has opened go on; [`Connection::is_drained`] says when they have
    /// ended.
    pub fn shutdown(&mut self) {
        if self.going != Going::Open || self.failed.is_some() {
            return;
        }
        if self.role == Role::Client {
            // A server opens no streams: nothing can cross this.
            self.going = Going::Final;
            return self.put_goaway(self.last_peer, Reason::NO_ERROR, "");
        }
        self.going = Going::Asked;
        // Streams that cross this on their way are still taken: the last one is told after the ping came back.
        self.put_goaway(0x7fff_ffff, Reason::NO_ERROR, "");
        frame::put(self.output.tail(), frame::PING, 0, 0, &SHUTDOWN_PING);
    }

    /// Whether shutdown is complete: nothing is open, and nothing new is taken.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.failed.is_some() || (self.going == Going::Final && self.streams.is_empty())
    }

    /// Whether the peer said that it takes no more streams.
    #[must_use]
    pub fn is_peer_going(&self) -> bool {
        self.is_peer_going
    }

    /// Ends the connection at once, telling the peer why.
    pub fn abort(&mut self, reason: Reason, text: &'static str) {
        if self.failed.is_none() {
            self.fail(Error::new(reason, text));
        }
    }

    /// Gives back headers that were read, so that the next need no new memory.
    pub fn recycle(&mut self, fields: Fields) {
        self.spare = fields;
    }

    /// Takes the room that was kept for the next headers: shells let many connections share one.
    #[must_use]
    pub fn take_spare(&mut self) -> Fields {
        std::mem::take(&mut self.spare)
    }

    /// Gives back what only a busy connection needs. Call it when there was nothing to read for a while.
    pub fn release(&mut self) {
        self.output.release();
        self.input = Bytes::new();
        self.spare = Fields::default();
        self.decoder.release();
        self.encoder.release();
        self.partial.shrink_to_fit();
        if self.streams.is_empty() {
            self.streams = Streams::with_hasher(Seeded(self.config.seed));
            self.ended.release();
        }
        self.streams.shrink_to_fit();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
    }

    /// Bytes this connection holds, tables and buffers included.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        // A table keeps one byte of its own for each place.
        let stream_bytes = size_of::<(u32, Stream)>() + 1;
        size_of::<Connection>()
            + self.input.len()
            + self.partial.capacity()
            + self
                .block
                .as_ref()
                .map_or(0, |block| block.bytes.capacity())
            + self.decoder.capacity()
            + self.encoder.capacity()
            + self.spare.capacity()
            + self.output.capacity()
            + self.streams.capacity() * stream_bytes * 8 / 7
            + self.waiting.capacity() * size_of::<u32>()
            + self.events.capacity() * size_of::<Event>()
    }

    pub(crate) fn fail(&mut self, error: Error) -> Event {
        self.put_goaway(self.last_peer, error.reason, error.text);
        self.failed = Some(error);
        self.input = Bytes::new();
        self.partial = Vec::new();
        self.block = None;
        self.streams.clear();
        self.waiting.clear();
        Event::Closed(error)
    }

    fn put_goaway(&mut self, last: u32, reason: Reason, text: &str) {
        let mut payload = Vec::with_capacity(8 + text.len());
        payload.extend_from_slice(&last.to_be_bytes());
        payload.extend_from_slice(&reason.0.to_be_bytes());
        payload.extend_from_slice(text.as_bytes());
        frame::put(self.output.tail(), frame::GOAWAY, 0, 0, &payload);
    }

    pub(crate) fn finish_shutdown(&mut self) {
        if self.going == Going::Asked {
            self.going = Going::Final;
            self.put_goaway(self.last_peer, Reason::NO_ERROR, "");
        }
    }

    pub(crate) fn is_own(&self, stream: u32) -> bool {
        (stream % 2 == 1) == (self.role == Role::Client)
    }

    /// Whether nobody ever used this stream.
    pub(crate) fn is_unused(&self, stream: u32) -> bool {
        if self.is_own(stream) {
            stream >= self.next_own
        } else {
            stream > self.last_peer
        }
    }

    pub(crate) fn add_stream(&mut self, id: u32, stream: Stream) {
        if self.is_own(id) {
            self.own_open += 1;
        } else {
            self.peer_open += 1;
        }
        self.streams.insert(id, stream);
    }

    /// Takes a stream out of the table. False when it is not there.
    pub(crate) fn remove_stream(&mut self, id: u32, ended: Ended) -> bool {
        if self.streams.remove(&id).is_none() {
            return false;
        }
        if self.is_own(id) {
            self.own_open -= 1;
        } else {
            self.peer_open -= 1;
        }
        self.ended.push(id, ended);
        true
    }

    pub(crate) fn put_reset(&mut self, stream: u32, reason: Reason) {
        let payload = reason.0.to_be_bytes();
        frame::put(self.output.tail(), frame::RST_STREAM, 0, stream, &payload);
    }

    pub(crate) fn put_head(&mut self, head: Head) {
        self.output.tail().extend_from_slice(&head.bytes());
    }
}

//! The streams of a connection: what is known of each, and the table they are found in.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// A stream's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

/// A stream that at least one side has not finished.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    /// What we may send, beyond the peer's initial window: updates less what was sent.
    pub(crate) send_credit: i64,
    /// What the peer may send, beyond our initial window.
    pub(crate) receive_credit: i64,
    /// Bytes of body still promised by `content-length`; -1 when nothing was promised.
    pub(crate) body_left: i64,
    /// Bytes taken by the shell that the peer was not told about yet.
    pub(crate) receive_owed: u32,
    pub(crate) is_own_done: bool,
    pub(crate) is_peer_done: bool,
    /// The peer's headers have come.
    pub(crate) has_head: bool,
    /// The answer may have no body, whatever its headers promise: it was a HEAD.
    pub(crate) is_bodiless: bool,
    /// The shell wants to know when it can send again.
    pub(crate) is_waiting: bool,
    /// It stands in the connection's queue of those that can.
    pub(crate) is_listed: bool,
}

impl Stream {
    pub(crate) fn new() -> Stream {
        Stream {
            send_credit: 0,
            receive_credit: 0,
            body_left: -1,
            receive_owed: 0,
            is_own_done: false,
            is_peer_done: false,
            has_head: false,
            is_bodiless: false,
            is_waiting: false,
            is_listed: false,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_own_done && self.is_peer_done
    }
}

pub(crate) type Streams = HashMap<u32, Stream, Seeded>;

/// A hash for stream numbers. The seed keeps a peer from choosing numbers that meet in one place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seeded(pub(crate) u64);

impl BuildHasher for Seeded {
    type Hasher = Mix;

    fn build_hasher(&self) -> Mix {
        Mix(self.0)
    }
}

pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        let product = u128::from(self.0 ^ u64::from(number)) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

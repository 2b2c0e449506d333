//! The buffers that the connections of a thread share: only one connection at a time has its turn.
//!
//! An idle connection so holds none, and a busy one finds them warm.

use std::cell::RefCell;

use bytes::BytesMut;
use http2::Fields;

use crate::limits::{FIELDS_BYTES, READ_BYTES, WRITE_BUFFER_BYTES};

thread_local! {
    static READ: RefCell<BytesMut> = RefCell::default();
    static WRITE: RefCell<Vec<u8>> = RefCell::default();
    static FIELDS: RefCell<Fields> = RefCell::default();
    /// For TLS: what the socket gave, pieces that share a record, and what goes to the socket.
    pub static CIPHER: RefCell<BytesMut> = RefCell::default();
    pub static JOINED: RefCell<Vec<u8>> = RefCell::default();
    pub static SEALED: RefCell<Vec<u8>> = RefCell::default();
}

/// A buffer with room for [`READ_BYTES`].
pub fn take_read() -> BytesMut {
    let mut buffer = READ.take();
    // The same memory again, unless somebody still holds a piece of it.
    buffer.reserve(READ_BYTES);
    buffer
}

/// The buffer back, with nothing in it.
pub fn give_read(buffer: BytesMut) {
    READ.set(buffer);
}

/// An empty buffer to write to.
pub fn take_write() -> Vec<u8> {
    WRITE.take()
}

/// The buffer back, with nothing in it. One that grew large goes.
pub fn give_write(buffer: Vec<u8>) {
    if buffer.capacity() <= WRITE_BUFFER_BYTES {
        WRITE.set(buffer);
    }
}

/// Headers that were read, whose room the next can have.
pub fn take_fields() -> Fields {
    FIELDS.take()
}

/// The headers back. Room that grew large goes.
pub fn give_fields(fields: Fields) {
    if fields.capacity() <= FIELDS_BYTES {
        FIELDS.set(fields);
    }
}

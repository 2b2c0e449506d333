//! HTTP/2 as a machine without I/O: bytes in, events out; calls in, bytes out. Both ends of a connection.
//!
//! Knows RFC 9113 and RFC 7541. Knows no socket, no task, no clock (the shell passes the time in), and nothing of what
//! requests mean.
//!
//! ```text
//!   bytes ─► recv ─► frames ─► HPACK ─► stream states, windows, limits ─► next_event ─► shell
//!   bytes ◄─ output ◄─ frames ◄─ HPACK ◄─ windows ◄──────── send_headers, send_data, reset … ◄─ shell
//! ```
//!
//! Nothing is read ahead: a frame is parsed when the next event is asked for, so a shell that stops asking stops its
//! peer, and only its peer. Nothing is queued for sending either: [`Connection::send_data`] takes what the windows
//! allow, leaves the rest with the caller, and says [`Event::Writable`] when it may come back.
//!
//! ```text
//!   let mut connection = Connection::server(Config::default());
//!   loop {
//!       connection.recv(bytes_from_socket, now_millis);
//!       while let Some(event) = connection.next_event() { … }
//!       write connection.output() to the socket
//!   }
//! ```
//!
//! Priorities are read and ignored, as RFC 9113 says; push is refused; extended CONNECT is not spoken.

mod connection;
mod error;
mod fields;
mod frame;
mod hpack;
pub mod limits;
mod output;
mod patience;
mod receive;
mod ring;
mod send;
mod settings;
mod streams;
mod validate;

pub use connection::{Config, Connection, Event, Role};
pub use error::{Error, Reason};
pub use fields::Fields;
pub use hpack::{Decoder, Encoder, HpackError};
pub use output::Output;
pub use send::{Sent, Unopened};
pub use streams::StreamId;

/// What a client says first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

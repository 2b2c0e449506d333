//! HTTP/2 by our own codec: a connection is one task, its requests are states in it.
//!
//! Knows sockets, tasks and time for the machine in `http2`, which has none of them. Knows no services: a request goes
//! to [`crate::route::answer`].
//!
//! ```text
//!   socket ─► sniff ─┬─ HTTP/1.1 ─► hyper
//!                    └─ HTTP/2 ─► connection ─┬─ exchange: one request, its answer, polled under flow control
//!                                             └─ short: a unary call of KV, run at once, told when it is visible
//! ```
//!
//! A turn of a connection: read once, look at what came, let the exchanges that were woken go on, write once. Nothing
//! is queued for a peer that does not read: when [`OUTPUT_BYTES_MAX`] wait for the socket, nothing more is made and
//! nothing more is read.
//!
//! [`OUTPUT_BYTES_MAX`]: crate::limits::OUTPUT_BYTES_MAX

mod body;
mod buffers;
mod connection;
mod exchange;
mod short;
#[cfg(test)]
mod short_tests;
mod sniff;
mod unary;
mod wake;

pub use connection::serve;
pub use sniff::{Protocol, Replayed, sniff};
pub use unary::Call;

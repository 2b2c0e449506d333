//! Sockets, tasks and time for the machine in `http2`, which has none of them: what every server on it has in common.
//!
//! ```text
//!   socket ─► TLS ─► sniff ─┬─ HTTP/1.1 ─► whoever speaks that
//!                           └─ HTTP/2 ─► Task ─► Exchanges: the server's own, one state a request
//! ```
//!
//! A connection is one [`Task`]. A turn of it: read once, look at what came, let the exchanges that were woken go on,
//! write once. Nothing is queued for a peer that does not read: when [`limits::OUTPUT_BYTES_MAX`] wait for the
//! socket, nothing more is made and nothing more is read, and a peer that stays that way is taken for gone.
//!
//! Knows no request, no service and no certificate: a server implements [`Exchanges`] and hands over any stream of
//! bytes, or one that [`accept`] has secured.

mod alarm;
mod buffers;
pub mod limits;
mod sniff;
mod task;
mod tls;
mod wake;

pub use alarm::Alarm;
pub use sniff::{Protocol, Replayed, sniff};
pub use task::{Exchanges, Patience, Task, has_room};
pub use tls::{TlsStream, accept};
pub use wake::{Signal, StreamWaker};

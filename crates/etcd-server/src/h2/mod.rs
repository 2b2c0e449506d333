//! HTTP/2 by our own codec: what a connection of the etcd port does with its requests.
//!
//! Reads, writes, time and the sharing of turns are `http2-shell`'s. Knows no services: a request goes to
//! [`crate::route::answer`].
//!
//! ```text
//!   http2_shell::Task ─► connection ─┬─ exchange: one request, its answer, polled under flow control
//!                                    └─ short: a unary call of KV, run at once, told when it is visible
//! ```

mod body;
mod connection;
mod exchange;
mod short;
#[cfg(test)]
mod short_tests;
mod unary;

pub use connection::serve;
pub use unary::Call;

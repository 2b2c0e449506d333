//! Spoilt bytes, and what every reader of bytes promises whatever it is given.
//!
//! ```text
//!   good bytes (made by our own writers) ─► spoil (a bit, a length, a piece twice …) ─► mend checksums, or not ─► reader
//! ```
//!
//! A promise is a function of bytes that panics when it is broken: [`http2`], [`wire`], [`log`], [`bbolt`]. The tests of
//! this crate call them with bytes from seeds; a fuzzer could call the same functions with bytes that it finds, but there
//! are no targets for one here. Knows no server: the tests of `etcd-server` send spoilt bytes to a living one.

pub mod bbolt;
mod chance;
pub mod http2;
pub mod log;
pub mod wire;

pub use chance::{Chance, cases};

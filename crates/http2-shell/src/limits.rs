//! The bounds of a connection's task, each with its arithmetic.

use std::time::Duration;

/// Bytes read at a time: 64 requests of 1 KiB. One buffer a thread.
pub const READ_BYTES: usize = 64 << 10;

/// Bytes that may wait for the socket of a connection before nothing more is made for it: what two cores send in
/// 0.1 ms. One answer may go beyond it.
pub const OUTPUT_BYTES_MAX: usize = 256 << 10;

/// A buffer for writing that grew beyond this is not kept for others. One a thread.
pub const WRITE_BUFFER_BYTES: usize = 2 * OUTPUT_BYTES_MAX;

/// Pieces handed to the kernel at a time.
pub const PIECES_PER_WRITE: usize = 16;

/// How often a connection reads before those of others get their turn: 512 KiB.
pub const TURNS_BEFORE_OTHERS: usize = 8;

/// Silence after which a connection gives back what only a busy one needs.
pub const IDLE_AFTER: Duration = Duration::from_secs(10);

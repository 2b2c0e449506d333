//! The bounds of a connection's task, each with its arithmetic.

use std::time::Duration;

/// Bytes read at a time: 64 requests of 1 KiB. One buffer a thread.
pub const READ_BYTES: usize = 64 << 10;

/// Bytes that may wait for the socket of a connection before nothing more is made for it: what two cores send in
/// 0.1 ms. One answer may go beyond it.
pub const OUTPUT_BYTES_MAX: usize = 256 << 10;

/// A buffer for writing that grew beyond this is not kept for others. One a thread.
pub const WRITE_BUFFER_BYTES: usize = 2 * OUTPUT_BYTES_MAX;

/// Room for headers that grew beyond this is not kept for others: four times what a kubelet's request has. One a thread.
pub const FIELDS_BYTES: usize = 4 << 10;

/// Pieces handed to the kernel at a time.
pub const PIECES_PER_WRITE: usize = 16;

/// How often a connection reads before those of others get their turn: 512 KiB.
pub const TURNS_BEFORE_OTHERS: usize = 8;

/// Silence after which a connection gives back what only a busy one needs.
pub const IDLE_AFTER: Duration = Duration::from_secs(10);

/// The longest record of TLS: 16 KiB, what encryption adds, and its head (RFC 8446 §5.2; RFC 5246 §6.2.3 lets it add
/// 2 KiB).
pub const RECORD_BYTES_MAX: usize = (16 << 10) + (2 << 10) + 5;

/// Bytes that are sealed before the socket is asked to take them: four records. One buffer a thread.
pub const SEALED_AT_ONCE_BYTES: usize = 64 << 10;

/// Bytes read at a time during a handshake: a client's whole part, its certificate included.
pub const HANDSHAKE_READ_BYTES: usize = 4 << 10;

/// Bytes of a handshake that wait for the rest of a message: the longest that is put together has 64 KiB.
pub const HANDSHAKE_BYTES_MAX: usize = 128 << 10;

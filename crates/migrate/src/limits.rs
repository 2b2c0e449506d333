//! The bounds of a copy.

use std::time::Duration;

/// Records handed to the log at once: with values of 1 KiB, 1 MiB.
pub const RECORDS_PER_APPEND: usize = 1024;

/// Bytes of values after which records are handed on earlier.
pub const BYTES_PER_APPEND: usize = 4 << 20;

/// Revisions a restored store may be moved ahead: what a busy cluster writes in 30 years.
pub const BUMP_REVISIONS_MAX: i64 = 1_000_000_000_000;

/// Bytes of a file read at once for its checksum.
pub const PIECE_BYTES: usize = 1 << 20;

/// Longest wait for a connection to the source.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for an answer that is no copy of everything.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of one answer: what etcd's own clients take.
pub const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// Requests of the watch that wait: its creation, then one question at a time.
pub const WATCH_REQUESTS_WAITING_MAX: usize = 4;

/// Leases asked for at the same time: 100,000 of them take seconds, and the source hardly notices.
pub const LEASES_ASKED_AT_ONCE: usize = 64;

/// Silence of the watch after which it is asked how far it is.
pub const QUIET: Duration = Duration::from_millis(500);

//! The bounds of a copy.

/// Records handed to the log at once: with values of 1 KiB, 1 MiB.
pub const RECORDS_PER_APPEND: usize = 1024;

/// Bytes of values after which records are handed on earlier.
pub const BYTES_PER_APPEND: usize = 4 << 20;

/// Revisions a restored store may be moved ahead: what a busy cluster writes in 30 years.
pub const BUMP_REVISIONS_MAX: i64 = 1_000_000_000_000;

/// Bytes of a file read at once for its checksum.
pub const PIECE_BYTES: usize = 1 << 20;

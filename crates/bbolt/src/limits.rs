//! The format's bounds, and ours on what is read.

/// Bytes of a page in files that we write: what etcd uses on most machines.
pub const PAGE_BYTES: usize = 4096;

/// Page sizes that are read: bbolt takes the machine's, 4 KiB to 64 KiB.
pub const PAGE_BYTES_MIN: u64 = 512;
/// The largest of them.
pub const PAGE_BYTES_MAX: u64 = 64 << 10;

/// Bytes a page with what runs over may have: the store's largest value (64 MiB), twice.
pub const RUN_BYTES_MAX: u64 = 128 << 20;

/// Depth of a tree: 2 keys a page at the least, so 2^48 pages would fit.
pub const DEPTH_MAX: usize = 48;

/// Bytes a key may have, in bbolt.
pub const KEY_BYTES_MAX: usize = 32_768;

/// Bytes a value may have, in bbolt.
pub const VALUE_BYTES_MAX: usize = (1 << 31) - 2;

/// Buckets that are looked through for one by name: etcd has ten.
pub const BUCKETS_MAX: usize = 1024;

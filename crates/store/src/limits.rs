//! The store's bounds, each with its arithmetic.

/// Bytes a live key costs beside key and value: slot 72, two reference-count headers 32, hash cell
/// about 14, name about 6, allocator rounding about 16.
pub const KEY_OVERHEAD_BYTES: u64 = 140;

/// Bytes a kept revision costs beside its value: entry 72, header 16, rounding about 8.
pub const ENTRY_OVERHEAD_BYTES: u64 = 96;

/// A page of a list or scan holds the lock for at most so many records: about 50 µs.
pub const PAGE_RECORDS_MAX: usize = 256;

/// Entries announced to watchers before the lock is let go.
pub const ANNOUNCE_ENTRIES_MAX: usize = 256;

/// Entries a watcher looks through before the lock is let go.
pub const SCAN_ENTRIES_MAX: usize = 2048;

/// Entries trimmed in one hold of the lock.
pub const TRIM_ENTRIES_MAX: usize = 256;

/// Entries a write trims on its way when history is over its budget: two out for one in.
pub const TRIM_PER_WRITE: usize = 2;

/// Bytes waiting for the log before puts are refused: half a second of a 500 MB/s disk.
pub const LOG_PENDING_BYTES_MAX: u64 = 256 << 20;

/// Bytes a key may have.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// Bytes a value may have; API servers and etcd stop far below.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Tags a value may carry.
pub const TAGS_MAX: usize = 64;

/// Collections that are made on demand by keys; later prefixes share the default collection.
pub const COLLECTIONS_MAX: usize = 16 << 10;

/// Bytes the name of a setting may have.
pub const SETTING_NAME_BYTES_MAX: usize = 4 << 10;

/// Bytes of all settings together: 100,000 users of 600 bytes are 60 MB.
pub const SETTINGS_BYTES_MAX: usize = 64 << 20;

/// Leases at once: 10^7 of about 200 bytes are 2 GB.
pub const LEASES_MAX: usize = 10_000_000;

/// The longest a lease may be asked to live, as in etcd.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// Watchers a collection serves: 4 million of about 90 bytes are 370 MB.
pub const WATCHERS_MAX: usize = 4 << 20;

/// Keys in a collection: slots are numbered with 32 bits.
pub const KEYS_MAX: usize = u32::MAX as usize - 1;

/// Time marks in a history window: one a second for an hour, then coarser.
pub const TIME_MARKS_MAX: usize = 3600;

/// Changes a reader of all versions holds, over all collections: 64 Ki of about 150 bytes are 10 MB.
pub const VERSIONS_BUFFERED_MAX: usize = 64 << 10;

/// Facets one watcher is found by: each takes a seat of 88 bytes and a place in the index.
pub const FACETS_MAX: usize = 16;

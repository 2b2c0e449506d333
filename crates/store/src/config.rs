//! What a store and a collection are told at their beginning.

use kv::Durability;

/// How one collection behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectionConfig {
    /// When a write counts.
    pub durability: Durability,
    /// History is trimmed, oldest first, once it holds more than this.
    pub history_bytes_max: u64,
    /// History older than this is trimmed even if there is room.
    pub history_seconds_min: u32,
    /// Puts that grow the collection beyond this are refused; deletes never are.
    pub bytes_max: u64,
    /// etcd's way: history goes only by compaction, and counts against `bytes_max`.
    pub keep_until_compacted: bool,
}

impl Default for CollectionConfig {
    /// Five minutes of history, as kube-apiserver's compaction leaves, within 256 MiB.
    fn default() -> Self {
        CollectionConfig {
            durability: Durability::Fsync,
            history_bytes_max: 256 << 20,
            history_seconds_min: 300,
            bytes_max: 64 << 30,
            keep_until_compacted: false,
        }
    }
}

/// How a store behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Whether a shell will drain the log. Without one every write is visible at once.
    pub log: bool,
    /// For collections nobody configured.
    pub collections: CollectionConfig,
    /// Decides the names of leases that come without one.
    pub seed: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        StoreConfig {
            log: false,
            collections: CollectionConfig::default(),
            seed: 1,
        }
    }
}

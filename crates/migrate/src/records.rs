//! From etcd's words to log records: which collection a key belongs to, what a lease's deadline is.
//!
//! Knows no file. Time is passed in.

use bbolt::etcd::{StoredLease, StoredVersion};
use bytes::Bytes;
use kv::{Change, Durability, KeyValue, LeaseId, LogRecord, Revision};
use std::collections::HashSet;
use store::collection_prefix;
use store::limits::COLLECTIONS_MAX;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Makes records. Remembers which collections there are, because the store makes only so many on demand.
#[derive(Debug, Default)]
pub struct Records {
    prefixes: HashSet<Bytes>,
}

impl Records {
    /// A version or a deletion. None for an entry that only says that its revision is used up.
    pub fn version(&mut self, version: StoredVersion) -> Option<LogRecord> {
        let StoredVersion { at, kv } = version;
        if kv.key.is_empty() {
            return None;
        }
        let sub = u32::try_from(at.sub).unwrap_or(u32::MAX);
        Some(if at.is_deletion {
            self.deletion(&kv.key, at.revision, sub)
        } else {
            self.put(kv, sub)
        })
    }

    /// A version.
    pub fn put(&mut self, kv: KeyValue, sub: u32) -> LogRecord {
        let (collection, key) = self.place(&kv.key);
        logged(
            kv.mod_revision,
            Change::Put {
                collection,
                key,
                value: kv.value,
                create_revision: kv.create_revision,
                version: kv.version,
                lease: kv.lease,
                tags: Vec::new(),
                sub,
            },
        )
    }

    /// A deletion.
    pub fn deletion(&mut self, key: &Bytes, revision: Revision, sub: u32) -> LogRecord {
        let (collection, key) = self.place(key);
        logged(
            revision,
            Change::Delete {
                collection,
                key,
                sub,
            },
        )
    }

    /// The collection of a key, and the key without its prefix.
    fn place(&mut self, key: &Bytes) -> (Bytes, Bytes) {
        let prefix = collection_prefix(key);
        let has_place = self.prefixes.contains(prefix) || self.prefixes.len() < COLLECTIONS_MAX - 1;
        if !has_place {
            return (Bytes::new(), key.clone());
        }
        let (prefix, rest) = (key.slice(..prefix.len()), key.slice(prefix.len()..));
        if !self.prefixes.contains(&prefix) {
            // A copy: a slice would keep the whole page it was read from.
            self.prefixes.insert(Bytes::copy_from_slice(&prefix));
        }
        (prefix, rest)
    }
}

/// A lease of a file: it has what is left of it, from now on.
pub fn lease(lease: &StoredLease, now_micros: i64) -> LogRecord {
    let left = match lease.remaining_seconds {
        // As etcd reads it: all of it.
        ..=0 => lease.ttl_seconds,
        left => left,
    };
    logged(
        Revision(0),
        Change::Lease {
            id: LeaseId(lease.id),
            ttl_seconds: lease.ttl_seconds,
            deadline_micros: now_micros.saturating_add(left.saturating_mul(MICROS_PER_SECOND)),
        },
    )
}

/// A lease of a running source, which says whole seconds: it ends a second later rather than early.
pub fn lease_until(id: LeaseId, ttl_seconds: i64, left_seconds: i64, now_micros: i64) -> LogRecord {
    let left = left_seconds.saturating_add(1);
    logged(
        Revision(0),
        Change::Lease {
            id,
            ttl_seconds,
            deadline_micros: now_micros.saturating_add(left.saturating_mul(MICROS_PER_SECOND)),
        },
    )
}

/// A setting.
pub fn setting(prefix: &[u8], name: &[u8], value: Bytes) -> LogRecord {
    logged(
        Revision(0),
        Change::Setting {
            name: [prefix, name].concat().into(),
            value: Some(value),
        },
    )
}

/// History before `revision` is given up.
pub fn compaction(revision: Revision) -> LogRecord {
    logged(revision, Change::Compact { revision })
}

fn logged(revision: Revision, change: Change) -> LogRecord {
    LogRecord {
        revision,
        durability: Durability::Fsync,
        change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_split_where_the_store_splits_it() {
        let mut records = Records::default();
        let mut place = |key: &'static str| records.place(&Bytes::from_static(key.as_bytes()));
        assert_eq!(
            place("/registry/pods/shop/web"),
            ("/registry/pods/".into(), "shop/web".into())
        );
        assert_eq!(place("plain"), ("".into(), "plain".into()));
    }

    #[test]
    fn past_the_stores_collections_keys_share_the_one_without_a_prefix() {
        let mut records = Records::default();
        let kind = |number: usize| Bytes::from(format!("/registry/kind-{number}/x"));
        for number in 0..COLLECTIONS_MAX - 1 {
            assert_eq!(records.place(&kind(number)).1, "x");
        }
        let late = kind(COLLECTIONS_MAX);
        assert_eq!(records.place(&late), (Bytes::new(), late.clone()));
        assert_eq!(records.place(&kind(0)).1, "x");
    }

    #[test]
    fn a_lease_has_what_is_left_of_it() {
        let deadline = |remaining_seconds| {
            let stored = StoredLease {
                id: 7,
                ttl_seconds: 60,
                remaining_seconds,
            };
            match lease(&stored, 1_000_000).change {
                Change::Lease {
                    deadline_micros, ..
                } => deadline_micros,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(deadline(10), 11_000_000);
        assert_eq!(deadline(0), 61_000_000);
    }
}

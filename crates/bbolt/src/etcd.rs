//! What etcd keeps in its database: buckets, revision keys, messages.
//!
//! ```text
//!   key     main u64 BE, '_', sub u64 BE [, 't' for a deletion] ─► KeyValue (a deletion: the key alone)
//!   meta    consistent_index, term u64 BE; scheduledCompactRev, finishedCompactRev as revision keys; confState JSON
//!   lease   id u64 BE ─► {id, time to live, what is left of it}
//!   auth, authUsers, authRoles, alarm, cluster, members, members_removed
//! ```

use crate::Checksum;
use crate::error::BboltError;
use crate::read::{Database, Entries, Entry};
use crate::source::ReadAt;
use crate::write::Sink;
use bytes::Bytes;
use kv::{KeyValue, LeaseId, Revision};
use prost::Message;

/// The bucket of alarms.
pub const ALARM: &[u8] = b"alarm";
/// The bucket that says whether access rules are on, and their revision.
pub const AUTH: &[u8] = b"auth";
/// The bucket of roles, by name.
pub const AUTH_ROLES: &[u8] = b"authRoles";
/// The bucket of users, by name.
pub const AUTH_USERS: &[u8] = b"authUsers";
/// The bucket of the cluster's release.
pub const CLUSTER: &[u8] = b"cluster";
/// The bucket of all versions of all keys.
pub const KEY: &[u8] = b"key";
/// The bucket of leases.
pub const LEASE: &[u8] = b"lease";
/// The bucket of members.
pub const MEMBERS: &[u8] = b"members";
/// The bucket of members that are gone.
pub const MEMBERS_REMOVED: &[u8] = b"members_removed";
/// The bucket of counters.
pub const META: &[u8] = b"meta";

const CONSISTENT_INDEX: &[u8] = b"consistent_index";
const TERM: &[u8] = b"term";
const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
const CONF_STATE: &[u8] = b"confState";
const STORAGE_VERSION: &[u8] = b"storageVersion";

/// The buckets whose entries mean nothing to anybody but etcd's access rules: carried over as they are.
pub const SETTINGS: [&[u8]; 3] = [AUTH, AUTH_ROLES, AUTH_USERS];

/// The name of a change: its revision and its place among the changes of that revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevisionKey {
    /// The revision.
    pub revision: Revision,
    /// Its place.
    pub sub: i64,
    /// Whether it is a deletion.
    pub is_deletion: bool,
}

impl RevisionKey {
    /// From its 17 or 18 bytes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let is_deletion = match bytes.get(17..)? {
            [] => false,
            [b't'] => true,
            _ => return None,
        };
        if bytes.get(8) != Some(&b'_') {
            return None;
        }
        let (revision, sub) = (be(bytes.get(..8)?)?, be(bytes.get(9..17)?)?);
        (revision >= 0 && sub >= 0).then_some(RevisionKey {
            revision: Revision(revision),
            sub,
            is_deletion,
        })
    }

    /// As bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(18);
        bytes.extend_from_slice(&self.revision.0.to_be_bytes());
        bytes.push(b'_');
        bytes.extend_from_slice(&self.sub.to_be_bytes());
        if self.is_deletion {
            bytes.push(b't');
        }
        bytes
    }
}

fn be(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.try_into().ok()?))
}

/// A key and value as etcd writes it.
#[derive(Clone, PartialEq, Message)]
struct KeyValueMessage {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(int64, tag = "2")]
    create_revision: i64,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(int64, tag = "4")]
    version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
    #[prost(int64, tag = "6")]
    lease: i64,
}

/// A lease as etcd writes it.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StoredLease {
    /// Its name.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// Seconds it was granted.
    #[prost(int64, tag = "2")]
    pub ttl_seconds: i64,
    /// Seconds left when it was last written down; 0 for all of them.
    #[prost(int64, tag = "3")]
    pub remaining_seconds: i64,
}

/// The value of a version in the bucket [`KEY`].
#[must_use]
pub fn encode_put(kv: &KeyValue) -> Vec<u8> {
    let message = KeyValueMessage {
        key: kv.key.clone(),
        create_revision: kv.create_revision.0,
        mod_revision: kv.mod_revision.0,
        version: kv.version,
        value: kv.value.clone(),
        lease: kv.lease.0,
    };
    message.encode_to_vec()
}

/// The value of a deletion in the bucket [`KEY`].
#[must_use]
pub fn encode_deletion(key: &Bytes) -> Vec<u8> {
    let message = KeyValueMessage {
        key: key.clone(),
        ..Default::default()
    };
    message.encode_to_vec()
}

/// One entry of the bucket [`KEY`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Which change.
    pub at: RevisionKey,
    /// The version; of a deletion only the key says something. Without a key it only says that the revision was used.
    pub kv: KeyValue,
}

/// The counters of the bucket [`META`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The last entry of the log that is in here.
    pub consistent_index: u64,
    /// Its term.
    pub term: u64,
    /// History before this revision is given up; none when there was no compaction yet.
    pub compacted: Option<Revision>,
    /// The release whose storage this is, where it says so (3.6 and later).
    pub storage_version: Option<String>,
}

/// A database of etcd.
#[derive(Debug)]
pub struct EtcdFile<R> {
    database: Database<R>,
    counters: Counters,
}

impl<R: ReadAt> EtcdFile<R> {
    /// Checks that it is etcd's, and reads the counters.
    pub fn new(database: Database<R>) -> Result<Self, BboltError> {
        if database.bucket(KEY)?.is_none() {
            return Err(BboltError::NotEtcd("it has no bucket \"key\"".into()));
        }
        let mut counters = Counters::default();
        for entry in database.bucket(META)?.into_iter().flatten() {
            let Entry { key, value, .. } = entry?;
            let number = || be(&value).map(i64::cast_unsigned);
            let nonsense =
                || BboltError::NotEtcd(format!("{} makes no sense", String::from_utf8_lossy(&key)));
            match &key[..] {
                CONSISTENT_INDEX => counters.consistent_index = number().ok_or_else(nonsense)?,
                TERM => counters.term = number().ok_or_else(nonsense)?,
                SCHEDULED_COMPACT | FINISHED_COMPACT => {
                    // What was begun will be finished: at its next start etcd would.
                    let at = RevisionKey::parse(&value).ok_or_else(nonsense)?;
                    counters.compacted = counters.compacted.max(Some(at.revision));
                }
                STORAGE_VERSION => {
                    let text = String::from_utf8(value.to_vec()).map_err(|_| nonsense())?;
                    counters.storage_version = Some(text);
                }
                _ => {}
            }
        }
        Ok(EtcdFile { database, counters })
    }

    /// The database below.
    #[must_use]
    pub fn database(&self) -> &Database<R> {
        &self.database
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The revision the store was at: that of its last change, or the compacted one where that is later.
    pub fn revision(&self) -> Result<Revision, BboltError> {
        let last = match self.database.last(KEY)? {
            Some(entry) => version_key(&entry.key)?.revision,
            None => Revision(1),
        };
        let compacted = self.counters.compacted.unwrap_or_default();
        Ok(last.max(compacted).max(Revision(1)))
    }

    /// All versions, in the order of their revisions.
    pub fn versions(&self) -> Result<Versions<'_, R>, BboltError> {
        Ok(Versions {
            entries: self.database.bucket(KEY)?,
        })
    }

    /// All leases.
    pub fn leases(&self) -> Result<Vec<StoredLease>, BboltError> {
        let mut leases = Vec::new();
        for entry in self.database.bucket(LEASE)?.into_iter().flatten() {
            let entry = entry?;
            let lease = StoredLease::decode(entry.value)
                .ok()
                .filter(|lease| be(&entry.key) == Some(lease.id))
                .ok_or_else(|| {
                    BboltError::NotEtcd(format!("lease {:?} makes no sense", entry.key))
                })?;
            leases.push(lease);
        }
        Ok(leases)
    }

    /// The entries of a bucket as they are; none when there is no such bucket.
    pub fn raw(&self, bucket: &[u8]) -> Result<Vec<(Bytes, Bytes)>, BboltError> {
        let entries = self.database.bucket(bucket)?.into_iter().flatten();
        entries
            .map(|entry| entry.map(|entry| (entry.key, entry.value)))
            .collect()
    }

    /// The checksum that etcd's `Hash` gives: all buckets, without what differs between members that agree.
    pub fn checksum(&self) -> Result<u32, BboltError> {
        let mut hasher = Hasher::default();
        for name in self.database.buckets()? {
            hasher.bucket(&name)?;
            for entry in self.database.bucket(&name)?.into_iter().flatten() {
                let entry = entry?;
                hasher.put(&entry.key, &entry.value)?;
            }
        }
        Ok(hasher.value())
    }
}

/// All versions of a file, in the order of their revisions.
#[derive(Debug)]
pub struct Versions<'a, R> {
    entries: Option<Entries<'a, R>>,
}

impl<R: ReadAt> Iterator for Versions<'_, R> {
    type Item = Result<StoredVersion, BboltError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.as_mut()?.next()?;
        Some(entry.and_then(version))
    }
}

fn version_key(bytes: &[u8]) -> Result<RevisionKey, BboltError> {
    RevisionKey::parse(bytes).ok_or_else(|| {
        BboltError::NotEtcd(format!("{bytes:?} in the bucket \"key\" is no revision"))
    })
}

fn version(entry: Entry) -> Result<StoredVersion, BboltError> {
    let at = version_key(&entry.key)?;
    let nonsense = || {
        BboltError::NotEtcd(format!(
            "the version of revision {} makes no sense",
            at.revision
        ))
    };
    let message = KeyValueMessage::decode(entry.value).map_err(|_| nonsense())?;
    let is_put = !at.is_deletion && !message.key.is_empty();
    let created = 1..=at.revision.0;
    let fits = message.mod_revision == at.revision.0
        && created.contains(&message.create_revision)
        && message.version >= 1;
    if is_put && !fits {
        return Err(nonsense());
    }
    Ok(StoredVersion {
        at,
        kv: KeyValue {
            key: message.key,
            value: message.value,
            create_revision: Revision(message.create_revision),
            mod_revision: at.revision,
            version: message.version,
            lease: LeaseId(message.lease),
        },
    })
}

/// Writes the bucket [`META`]: the counters of a store that has one member. Without the release of its storage, so
/// that etcd 3.5 takes it as well as 3.6, which adds it.
pub fn write_counters(counters: &Counters, sink: &mut impl Sink) -> Result<(), BboltError> {
    sink.bucket(META)?;
    sink.put(
        CONF_STATE,
        br#"{"voters":[1],"learners":null,"voters_outgoing":null,"learners_next":null,"auto_leave":false}"#,
    )?;
    sink.put(CONSISTENT_INDEX, &counters.consistent_index.to_be_bytes())?;
    let compacted = counters.compacted.map(|revision| {
        let key = RevisionKey {
            revision,
            sub: 0,
            is_deletion: false,
        };
        key.to_bytes()
    });
    if let Some(compacted) = &compacted {
        sink.put(FINISHED_COMPACT, compacted)?;
        sink.put(SCHEDULED_COMPACT, compacted)?;
    }
    sink.put(TERM, &counters.term.to_be_bytes())
}

/// Writes the bucket [`LEASE`]; the leases may come in any order.
pub fn write_leases(leases: &[StoredLease], sink: &mut impl Sink) -> Result<(), BboltError> {
    let mut sorted: Vec<&StoredLease> = leases.iter().collect();
    sorted.sort_by_key(|lease| lease.id.cast_unsigned());
    sink.bucket(LEASE)?;
    for lease in sorted {
        sink.put(&lease.id.to_be_bytes(), &lease.encode_to_vec())?;
    }
    Ok(())
}

/// Computes etcd's `Hash` of what would be written.
#[derive(Debug, Default)]
pub struct Hasher {
    checksum: Checksum,
    is_meta: bool,
}

impl Hasher {
    /// The checksum of everything so far.
    #[must_use]
    pub fn value(&self) -> u32 {
        self.checksum.value()
    }
}

impl Sink for Hasher {
    fn bucket(&mut self, name: &[u8]) -> Result<(), BboltError> {
        self.is_meta = name == META;
        self.checksum.update(name);
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), BboltError> {
        if !(self.is_meta && [CONSISTENT_INDEX, TERM, STORAGE_VERSION].contains(&key)) {
            self.checksum.update(key);
            self.checksum.update(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_keys_are_etcds() {
        let key = RevisionKey {
            revision: Revision(258),
            sub: 3,
            is_deletion: true,
        };
        let bytes = [0, 0, 0, 0, 0, 0, 1, 2, b'_', 0, 0, 0, 0, 0, 0, 0, 3, b't'];
        assert_eq!(key.to_bytes(), bytes);
        assert_eq!(RevisionKey::parse(&bytes), Some(key));
        assert!(RevisionKey::parse(&bytes[..17]).is_some_and(|key| !key.is_deletion));
        assert_eq!(RevisionKey::parse(&bytes[..16]), None);
        assert_eq!(RevisionKey::parse(&[0xff; 17]), None);
    }

    #[test]
    fn messages_are_etcds_byte_for_byte() {
        let kv = KeyValue {
            key: "a".into(),
            value: "v".into(),
            create_revision: Revision(2),
            mod_revision: Revision(300),
            version: 1,
            lease: LeaseId(0),
        };
        let bytes = [
            0x0a, 1, b'a', 0x10, 2, 0x18, 0xac, 2, 0x20, 1, 0x2a, 1, b'v',
        ];
        assert_eq!(encode_put(&kv), bytes);
        assert_eq!(encode_deletion(&"a".into()), [0x0a, 1, b'a']);
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        let mut checksum = Checksum::default();
        checksum.update(b"1234");
        checksum.update(b"56789");
        assert_eq!(checksum.value(), 0xe306_9283);
    }
}

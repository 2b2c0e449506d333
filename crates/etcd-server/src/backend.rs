//! The database an etcd with these contents would keep, bucket by bucket, and etcd's checksum of the keys.
//!
//! Knows the store and etcd's buckets. Knows no files and no gRPC: it writes to any [`Sink`], and whoever calls it
//! has a thread to spare for as long as it takes.
//!
//! ```text
//!   base: what counts at the floor C ──┐
//!   changes after C, deletions too ────┴─► bucket "key", in the order of revisions
//!   leases, settings named auth/… ───────► buckets "lease", "auth", "authUsers", "authRoles"
//!   C, revision, term ───────────────────► bucket "meta"
//! ```

use bbolt::etcd::{
    ALARM, AUTH, AUTH_ROLES, AUTH_USERS, CLUSTER, Counters, KEY, LEASE, MEMBERS, MEMBERS_REMOVED,
    RevisionKey, StoredLease, encode_deletion, encode_put, write_counters, write_leases,
};
use bbolt::{BboltError, Checksum, Sink};
use bytes::Bytes;
use kv::{KeyValue, LeaseId, Revision};
use std::collections::BTreeMap;
use store::{KeptVersion, ReadError, Store};

/// The setting that says whether access rules are on: one byte, as in etcd's bucket `auth`.
pub const AUTH_ENABLED_SETTING: &[u8] = b"auth/enabled";
/// The setting that holds the revision of the access rules: a u64, big-endian.
pub const AUTH_REVISION_SETTING: &[u8] = b"auth/revision";
/// Users are settings whose names begin so; what follows is the user's name.
pub const AUTH_USER_SETTINGS: &[u8] = b"auth/users/";
/// Roles, likewise.
pub const AUTH_ROLE_SETTINGS: &[u8] = b"auth/roles/";

/// The keys of etcd's bucket `auth`.
pub const AUTH_ENABLED: &[u8] = b"authEnabled";
/// The revision of the access rules.
pub const AUTH_REVISION: &[u8] = b"authRevision";

/// Why a copy or a checksum was not finished.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The revision cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The sink refused.
    #[error(transparent)]
    Write(#[from] BboltError),
    /// Nobody wants it any more.
    #[error("it was given up")]
    GivenUp,
}

/// What etcd's `HashKV` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C of the bucket's name and the entries that count.
    pub hash: u32,
    /// Where history begins; none when nothing was ever given up.
    pub compacted: Option<Revision>,
}

/// The checksum of the bucket `key` as etcd computes it. `go_on` hears how many versions were read, and ends the work
/// by answering false.
pub fn hash_kv(
    store: &Store,
    at: Revision,
    mut go_on: impl FnMut(u64) -> bool,
) -> Result<KvHash, BackendError> {
    let mut versions = store.versions(Some(at))?;
    let floor = versions.floor();
    let only_counting = versions.any_counts();
    let mut checksum = Checksum::default();
    checksum.update(KEY);
    let (mut page, mut done) = (Vec::new(), 0);
    while versions.next_page(&mut page) {
        done += page.len() as u64;
        if !go_on(done) {
            return Err(BackendError::GivenUp);
        }
        for version in page.drain(..) {
            // What etcd would give up next is left out, unless nothing else is there.
            let is_old = version.revision <= floor && only_counting && !version.counts_at_end;
            // Members differ in whether they keep the deletions of that very revision.
            let is_last_deletion = version.revision == floor && version.record.is_none();
            if !is_old && !is_last_deletion {
                let (key, value) = entry(&version);
                checksum.update(&key);
                checksum.update(&value);
            }
        }
    }
    Ok(KvHash {
        hash: checksum.value(),
        compacted: compacted(floor),
    })
}

/// The checksum of a store that has no keys.
pub fn hash_of_nothing() -> u32 {
    let mut checksum = Checksum::default();
    checksum.update(KEY);
    checksum.value()
}

fn compacted(floor: Revision) -> Option<Revision> {
    (floor.0 > 0).then_some(floor)
}

/// A version as etcd's bucket has it.
fn entry(version: &KeptVersion) -> (Vec<u8>, Vec<u8>) {
    let at = RevisionKey {
        revision: version.revision,
        sub: i64::from(version.sub),
        is_deletion: version.record.is_none(),
    };
    let value = match &version.record {
        Some(record) => encode_put(&KeyValue {
            key: version.key.clone(),
            value: record.value.clone(),
            create_revision: record.create_revision,
            mod_revision: record.mod_revision,
            version: record.version,
            lease: record.lease,
        }),
        None => encode_deletion(&version.key),
    };
    (at.to_bytes(), value)
}

/// What to write, and as of when.
#[derive(Clone, Copy, Debug)]
pub struct Backend<'a> {
    /// The store.
    pub store: &'a Store,
    /// Everything up to this revision.
    pub at: Revision,
    /// What the member says about its term.
    pub raft_term: u64,
    /// Leases get what is left of them now; none: all that they were granted.
    pub now_micros: Option<i64>,
}

impl Backend<'_> {
    /// Writes all buckets. `go_on` hears how many versions were written, and ends the work by answering false.
    pub fn write(
        &self,
        sink: &mut impl Sink,
        go_on: impl FnMut(u64) -> bool,
    ) -> Result<(), BackendError> {
        // Twice: a key that is read must not hang on a lease that ended before or came after the list was made.
        let mut leases = self.leases();
        sink.bucket(ALARM)?;
        self.write_auth(sink)?;
        sink.bucket(CLUSTER)?;
        let floor = self.write_keys(sink, go_on)?;
        leases.extend(self.leases());
        let leases: Vec<StoredLease> = leases.into_values().collect();
        write_leases(&leases, sink)?;
        debug_assert!(LEASE < MEMBERS);
        // Who restores a snapshot names the members anew.
        sink.bucket(MEMBERS)?;
        sink.bucket(MEMBERS_REMOVED)?;
        let counters = Counters {
            consistent_index: self.at.0.unsigned_abs(),
            term: self.raft_term,
            compacted: compacted(floor),
            storage_version: None,
        };
        Ok(write_counters(&counters, sink)?)
    }

    fn write_keys(
        &self,
        sink: &mut impl Sink,
        mut go_on: impl FnMut(u64) -> bool,
    ) -> Result<Revision, BackendError> {
        let mut versions = self.store.versions(Some(self.at))?;
        let floor = versions.floor();
        sink.bucket(KEY)?;
        let (mut page, mut done, mut last) = (Vec::new(), 0, floor);
        while versions.next_page(&mut page) {
            done += page.len() as u64;
            if !go_on(done) {
                return Err(BackendError::GivenUp);
            }
            for version in page.drain(..) {
                last = version.revision;
                let (key, value) = entry(&version);
                sink.put(&key, &value)?;
            }
        }
        if last < self.at {
            // Revisions that a crash skipped: a deletion of nothing says that they are used up.
            let used = RevisionKey {
                revision: self.at,
                sub: 0,
                is_deletion: true,
            };
            sink.put(&used.to_bytes(), &encode_deletion(&Bytes::new()))?;
        }
        Ok(floor)
    }

    fn leases(&self) -> BTreeMap<i64, StoredLease> {
        let now = self.now_micros.unwrap_or_default();
        let left = |id: LeaseId| self.store.lease_time_to_live(now, id, false);
        let leases = self.store.leases().into_iter().filter_map(left);
        leases
            .map(|(left, _)| {
                let remaining_seconds = match self.now_micros {
                    // 0 would mean "all of it".
                    Some(_) => left.remaining_seconds.max(1),
                    None => 0,
                };
                let lease = StoredLease {
                    id: left.id.0,
                    ttl_seconds: left.granted_seconds,
                    remaining_seconds,
                };
                (lease.id, lease)
            })
            .collect()
    }

    fn write_auth(&self, sink: &mut impl Sink) -> Result<(), BboltError> {
        sink.bucket(AUTH)?;
        for (key, setting) in [
            (AUTH_ENABLED, AUTH_ENABLED_SETTING),
            (AUTH_REVISION, AUTH_REVISION_SETTING),
        ] {
            if let Some(value) = self.store.setting(setting) {
                sink.put(key, &value)?;
            }
        }
        for (bucket, prefix) in [
            (AUTH_ROLES, AUTH_ROLE_SETTINGS),
            (AUTH_USERS, AUTH_USER_SETTINGS),
        ] {
            sink.bucket(bucket)?;
            for (name, value) in self.store.settings(prefix) {
                sink.put(name.get(prefix.len()..).unwrap_or_default(), &value)?;
            }
        }
        Ok(())
    }
}

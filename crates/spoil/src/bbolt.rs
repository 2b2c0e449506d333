//! Database files of etcd: a good one, and what reading a spoilt one promises.

use crate::Chance;
use ::bbolt::etcd::{
    self, ALARM, AUTH, Counters, EtcdFile, KEY, RevisionKey, StoredLease, encode_deletion,
    encode_put, write_counters, write_leases,
};
use ::bbolt::{BboltError, Database, Sink, Writer, check_trailer};
use bytes::Bytes;
use kv::{KeyValue, LeaseId, Revision};
use std::io::Cursor;

/// Entries a file can tell, for each of its bytes: none is smaller than its element of 16 bytes. Pages are visited once
/// by each reader.
const ENTRIES_PER_BYTE: usize = 1;

const PAGE_BYTES: usize = 4096;

/// Everything in the file is read, or refused, and no more entries come out of it than it has room for. Answers the
/// error, if there is one.
///
/// # Panics
///
/// When that is not so.
pub fn file_may_hold(bytes: &[u8]) -> Result<(), BboltError> {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok((trailed, _)) = check_trailer(bytes.clone(), true, |_| {}) {
        drop(read(Database::open(trailed), bytes.len()));
    }
    let len = bytes.len();
    read(Database::open(bytes), len)
}

fn read<R: ::bbolt::ReadAt>(
    database: Result<Database<R>, BboltError>,
    len: usize,
) -> Result<(), BboltError> {
    let database = database?;
    let most = ENTRIES_PER_BYTE * len;
    for name in database.buckets()? {
        let entries = database.bucket(&name)?.into_iter().flatten();
        // An error ends the walk of a bucket, and is told once.
        let count = entries.map_while(Result::ok).take(most + 1).count();
        assert!(count <= most, "{count} entries in {len} bytes");
        drop(database.last(&name));
    }
    let file = EtcdFile::new(database)?;
    drop(file.revision());
    let versions = file
        .versions()?
        .map_while(Result::ok)
        .take(most + 1)
        .count();
    assert!(versions <= most, "{versions} versions in {len} bytes");
    drop(file.leases());
    drop(file.checksum());
    Ok(())
}

/// A good file.
///
/// # Panics
///
/// When it cannot be written.
pub fn good(chance: &mut Chance) -> Vec<u8> {
    let keys = if chance.one_in(8) {
        600
    } else {
        chance.below(40)
    };
    let mut writer = Writer::new(Cursor::new(Vec::new())).expect("memory takes it");
    fill(&mut writer, i64::try_from(keys).unwrap_or_default(), chance).expect("memory takes it");
    writer.finish().expect("memory takes it").0.into_inner()
}

fn fill(sink: &mut impl Sink, keys: i64, chance: &mut Chance) -> Result<(), BboltError> {
    sink.bucket(ALARM)?;
    sink.bucket(AUTH)?;
    sink.put(b"authEnabled", &[0])?;
    for bucket in [etcd::AUTH_ROLES, etcd::AUTH_USERS, etcd::CLUSTER, KEY] {
        sink.bucket(bucket)?;
    }
    for number in 2..2 + keys {
        let at = RevisionKey {
            revision: Revision(number),
            sub: 0,
            is_deletion: chance.one_in(8),
        };
        let key = Bytes::from(format!("key-{}", chance.below(10)));
        let stored = if at.is_deletion {
            encode_deletion(&key)
        } else {
            encode_put(&KeyValue {
                key,
                value: chance.bytes(200).into(),
                create_revision: Revision(number),
                mod_revision: Revision(number),
                version: 1,
                lease: LeaseId(9 * i64::from(chance.one_in(9))),
            })
        };
        sink.put(&at.to_bytes(), &stored)?;
    }
    let lease = StoredLease {
        id: 9,
        ttl_seconds: 600,
        remaining_seconds: 300,
    };
    write_leases(&[lease], sink)?;
    sink.bucket(etcd::MEMBERS)?;
    sink.bucket(etcd::MEMBERS_REMOVED)?;
    let counters = Counters {
        consistent_index: 77,
        term: 2,
        compacted: Some(Revision(2)),
        storage_version: Some("3.6.0".into()),
    };
    write_counters(&counters, sink)
}

/// Spoils the numbers that lead from page to page, or any bytes; then mends the checksums of the first pages.
pub fn spoil(chance: &mut Chance, bytes: &mut Vec<u8>) {
    if chance.one_in(3) {
        chance.spoil(bytes);
    } else {
        let page = chance.below(bytes.len() / PAGE_BYTES);
        // The head of a page and its first elements; of the first two pages, the root and the high water.
        let at = page * PAGE_BYTES + chance.below(16 + 64);
        let edge = if chance.one_in(2) {
            chance.below(20) as u64
        } else {
            chance.edge()
        };
        let width = [1, 2, 4, 8].get(chance.below(4)).copied().unwrap_or(1);
        let number = edge.to_le_bytes();
        for (place, byte) in bytes.iter_mut().skip(at).zip(number.iter().take(width)) {
            *place = *byte;
        }
    }
    if !chance.one_in(8) {
        mend(bytes);
    }
}

fn mend(bytes: &mut [u8]) {
    for page in bytes.chunks_mut(PAGE_BYTES).take(2) {
        let Some((fields, sum)) = page
            .get_mut(16..80)
            .and_then(|meta| meta.split_at_mut_checked(56))
        else {
            return;
        };
        let fnv =
            |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let hash = fields.iter().fold(0xcbf2_9ce4_8422_2325, fnv);
        sum.copy_from_slice(&hash.to_le_bytes());
    }
}

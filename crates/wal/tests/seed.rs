//! A data directory filled from somewhere else: whole or not at all.

use bytes::Bytes;
use kv::{Change, Durability, KeyRange, LeaseId, LogRecord, RangeOp, Revision};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{CollectionConfig, ReadError, Store, StoreConfig, StoreError};
use wal::{Disk, Options, Seed, WalError};

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wal-seed-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn record(revision: i64, change: Change) -> LogRecord {
    LogRecord {
        revision: Revision(revision),
        durability: Durability::Fsync,
        change,
    }
}

fn put(revision: i64, key: &'static str, value: impl Into<Bytes>, version: i64) -> LogRecord {
    let change = Change::Put {
        collection: "/registry/pods/".into(),
        key: key.into(),
        value: value.into(),
        create_revision: Revision(revision + 1 - version),
        version,
        lease: LeaseId(7),
        tags: Vec::new(),
        sub: 0,
    };
    record(revision, change)
}

fn open(dir: &Path) -> Result<(Arc<Store>, Disk), WalError> {
    let store = Arc::new(Store::new(StoreConfig {
        log: true,
        collections: CollectionConfig {
            keep_until_compacted: true,
            ..CollectionConfig::default()
        },
        ..StoreConfig::default()
    }));
    let disk = Disk::open(dir, store.clone(), Options::default())?;
    Ok((store, disk))
}

fn keys(store: &Store, at: i64) -> Result<Vec<(Bytes, Bytes, i64)>, StoreError> {
    let mut op = RangeOp::new(KeyRange::all());
    op.revision = Revision(at);
    let found = store.range(&op)?.kvs.into_iter();
    Ok(found.map(|kv| (kv.key, kv.value, kv.version)).collect())
}

#[test]
fn what_was_seeded_is_there_with_its_history_and_goes_on() {
    let dir = Dir::new("whole");
    let mut seed = Seed::create(&dir.0).unwrap();
    // More than a segment, so that the seed's segments follow each other.
    let large = vec![b'x'; 1 << 20];
    for revision in 2..90 {
        let record = put(revision, "large", large.clone(), revision - 1);
        seed.append(&[record]).unwrap();
    }
    let delete = Change::Delete {
        collection: "/registry/pods/".into(),
        key: "large".into(),
        sub: 0,
    };
    let lease = Change::Lease {
        id: LeaseId(7),
        ttl_seconds: 60,
        deadline_micros: i64::MAX,
    };
    let compact = Change::Compact {
        revision: Revision(91),
    };
    seed.append(&[put(90, "small", "a", 1), put(91, "small", "b", 2)])
        .unwrap();
    seed.append(&[record(92, delete), record(0, lease), record(92, compact)])
        .unwrap();
    seed.finish(Revision(100)).unwrap();
    for _ in 0..2 {
        let (store, disk) = open(&dir.0).unwrap();
        assert_eq!(store.applied(), Revision(100));
        assert!(disk.recovered().clean);
        assert_eq!(store.compacted(), Revision(91));
        let small = ("/registry/pods/small".into(), "b".into(), 2);
        assert_eq!(keys(&store, 0).unwrap(), [small]);
        assert_eq!(keys(&store, 91).unwrap().len(), 2);
        assert!(matches!(
            keys(&store, 90),
            Err(StoreError::Read(ReadError::Compacted(_)))
        ));
        assert_eq!(store.leases(), [LeaseId(7)]);
        store.check().unwrap();
        disk.close().unwrap();
    }
}

#[test]
fn half_of_it_is_no_store() {
    let dir = Dir::new("half");
    let mut seed = Seed::create(&dir.0).unwrap();
    seed.append(&[put(2, "a", "1", 1)]).unwrap();
    assert!(matches!(open(&dir.0), Err(WalError::InUse { .. })));
    drop(seed);
    let refused = open(&dir.0).unwrap_err();
    assert!(matches!(refused, WalError::HalfImported { .. }));
    assert!(refused.to_string().contains("import again"), "{refused}");
    assert!(matches!(
        Seed::create(&dir.0),
        Err(WalError::NotEmpty { .. })
    ));
}

//! Whatever the medium does: what was acknowledged is there, and nothing torn is believed.
//!
//! Random lives of a store on a medium that fails, against a model that only knows what was asked and what was
//! acknowledged. `FAULT_SEEDS` sets how many; a seed that fails is named and can be run alone with `FAULT_SEED`.

use bytes::Bytes;
use chance::Chance;
use kv::{Durability, LeaseId, Revision};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};
use store::{
    Change, Collection, CollectionConfig, Precondition, Store, StoreConfig, StoreError, WriteError,
};
use wal::{Disk, FaultyFiles, Options, WalError};

const DIR: &str = "/data";

/// How long the log may take for what it has room for.
const PATIENCE: Duration = Duration::from_secs(20);

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn options() -> Options {
    Options {
        segment_bytes: 8 << 10,
        snapshot_log_bytes: 24 << 10,
        allocate_bytes: 1 << 10,
        reserve_bytes: 16 << 10,
        probe_interval: Duration::from_millis(1),
        reserve_revisions: 100_000,
        ..Options::default()
    }
}

fn open(medium: &FaultyFiles) -> Result<(Arc<Store>, Disk), WalError> {
    let store = Arc::new(Store::new(StoreConfig {
        log: true,
        ..StoreConfig::default()
    }));
    let medium = Arc::new(medium.clone());
    let disk = Disk::open_on(medium, Path::new(DIR), store.clone(), options())?;
    Ok((store, disk))
}

fn pods(store: &Store) -> Arc<Collection> {
    store.collection("/registry/pods/", CollectionConfig::default())
}

/// Waits until a revision is kept. False when the log failed, or `patience` is over.
fn kept(store: &Store, collection: &Collection, revision: Revision, patience: Duration) -> bool {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let begun = Instant::now();
    while collection.poll_visible(revision, &mut cx).is_pending() {
        if store.failure().is_some() || begun.elapsed() > patience {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    true
}

fn put(collection: &Collection, key: &str, value: &str) -> Result<Revision, StoreError> {
    let change = Change::Put {
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease: LeaseId::NONE,
        tags: &[],
    };
    match collection.write(key.as_bytes(), Precondition::Any, change) {
        Ok(written) => Ok(written.revision),
        Err(WriteError::Refused(refused)) => Err(refused),
        Err(lost) => panic!("{lost}"),
    }
}

/// The store finds out by itself; until then it refuses.
fn put_when_there_is_room(store: &Store, collection: &Collection, key: &str) {
    let begun = Instant::now();
    let revision = loop {
        match put(collection, key, "1") {
            Ok(revision) => break revision,
            Err(StoreError::DiskFull) if begun.elapsed() < PATIENCE => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    };
    assert!(kept(store, collection, revision, PATIENCE));
}

/// A snapshot may be on its way at any moment; a draft that stays was forgotten.
fn no_drafts_stay(medium: &FaultyFiles) {
    let begun = Instant::now();
    loop {
        let names = medium.names();
        let is_draft = |name: &PathBuf| name.extension().is_some_and(|end| end == "tmp");
        if !names.iter().any(is_draft) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{names:?}");
        std::thread::yield_now();
    }
}

/// What may be found of a key: the acknowledged value, or one begun after it.
#[derive(Clone, Debug, Default)]
struct Known {
    may_be: Vec<Option<String>>,
}

#[derive(Default)]
struct Model {
    keys: BTreeMap<String, Known>,
    newest: Revision,
    acknowledged: usize,
}

impl Model {
    fn begun(&mut self, key: &str, value: Option<String>) {
        let known = self
            .keys
            .entry(key.to_owned())
            .or_insert_with(|| Known { may_be: vec![None] });
        known.may_be.push(value);
    }

    /// The last one begun was acknowledged.
    fn acknowledged(&mut self, key: &str) {
        if let Some(known) = self.keys.get_mut(key) {
            known.may_be.drain(..known.may_be.len() - 1);
        }
        self.acknowledged += 1;
    }

    /// What is there after a crash is what counts from now on.
    fn check(&mut self, store: &Store, seed: u64) {
        store
            .check()
            .unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        assert!(
            store.applied() >= self.newest,
            "seed {seed}: a revision comes twice"
        );
        let collection = store.existing(b"/registry/pods/");
        for (key, known) in &mut self.keys {
            let found = collection
                .as_ref()
                .and_then(|found| found.get(key.as_bytes()));
            let found = found.map(|record| String::from_utf8_lossy(&record.value).into_owned());
            assert!(
                known.may_be.contains(&found),
                "seed {seed}: {key} is {found:?}, not {known:?}"
            );
            known.may_be = vec![found];
        }
    }
}

/// One life: writes, faults, and a crash at some moment. Answers what is found after it.
fn live(medium: &FaultyFiles, chance: &mut Chance, model: &mut Model, seed: u64) -> FaultyFiles {
    let (store, disk) = open(medium).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    model.check(&store, seed);
    let collection = pods(&store);
    medium.set_short_writes(chance.roll(2) == 0);
    let mut is_full = false;
    if chance.roll(3) == 0 {
        medium.fail_sync(1 + chance.roll(60));
    }
    for number in 0..20 + chance.roll(150) {
        let key = format!("k{}", chance.roll(12));
        match chance.roll(20) {
            0 if !is_full => {
                medium.set_capacity_bytes(medium.used_bytes() + chance.roll(2_000));
                is_full = true;
            }
            1 | 2 if is_full => {
                medium.set_capacity_bytes(u64::MAX);
                is_full = false;
            }
            3..=8 => {
                let Some(record) = collection.get(key.as_bytes()) else {
                    continue;
                };
                let expected = Precondition::ModRevision(record.mod_revision);
                let Ok(written) = collection.write(key.as_bytes(), expected, Change::Delete) else {
                    assert!(
                        store.failure().is_some(),
                        "seed {seed}: a delete was refused"
                    );
                    break;
                };
                model.begun(&key, None);
                model.newest = model.newest.max(written.revision);
                if kept(&store, &collection, written.revision, PATIENCE) {
                    model.acknowledged(&key);
                } else {
                    assert!(
                        store.failure().is_some(),
                        "seed {seed}: a delete was not kept"
                    );
                }
            }
            _ => {
                let value = format!("{seed} {number} {}", "x".repeat(chance.roll(400) as usize));
                match put(&collection, &key, &value) {
                    Ok(revision) => {
                        model.begun(&key, Some(value));
                        model.newest = model.newest.max(revision);
                        if chance.roll(4) > 0 && kept(&store, &collection, revision, PATIENCE) {
                            model.acknowledged(&key);
                        }
                    }
                    // The log may have noticed only after the disk had room again.
                    Err(StoreError::DiskFull) => {}
                    Err(StoreError::LogStopped(_)) => break,
                    Err(other) => panic!("seed {seed}: {other}"),
                }
            }
        }
    }
    let after = medium.after_crash(seed ^ chance.roll(u64::MAX));
    drop(disk);
    after
}

fn run(seed: u64) -> usize {
    let mut chance = Chance::new(seed);
    let mut model = Model::default();
    let mut medium = FaultyFiles::new(seed);
    for _ in 0..4 {
        medium = live(&medium, &mut chance, &mut model, seed);
    }
    let (store, disk) = open(&medium).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    model.check(&store, seed);
    disk.close()
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    model.acknowledged
}

#[test]
fn no_fault_loses_what_was_acknowledged() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("FAULT_SEED") {
        run(seed);
        return;
    }
    let seeds = number("FAULT_SEEDS").unwrap_or(60);
    let acknowledged: usize = (0..seeds).map(run).sum();
    assert!(
        acknowledged as u64 > seeds * 50,
        "{acknowledged} of {seeds} seeds"
    );
}

#[test]
fn a_failed_sync_stops_the_log_and_acknowledges_nothing() {
    let medium = FaultyFiles::new(1);
    let (store, disk) = open(&medium).unwrap();
    let collection = pods(&store);
    let good = put(&collection, "a", "1").unwrap();
    assert!(kept(&store, &collection, good, PATIENCE));
    medium.fail_sync(1);
    let bad = put(&collection, "a", "2").unwrap();
    assert!(!kept(&store, &collection, bad, PATIENCE));
    let reason = store.failure().unwrap();
    assert!(reason.starts_with("cannot sync /data/log-"), "{reason}");
    assert!(reason.ends_with("the medium is broken"), "{reason}");
    // The medium works again, but what was lost would not be missed: never tried again.
    let syncs = medium.syncs();
    assert!(matches!(
        put(&collection, "b", "3"),
        Err(StoreError::LogStopped(_))
    ));
    assert!(matches!(
        collection.write(b"a", Precondition::Any, Change::Delete),
        Err(WriteError::Refused(StoreError::LogStopped(_)))
    ));
    let granted = store.lease_grant(0, LeaseId(1), 5);
    assert!(matches!(granted, Err(StoreError::LogStopped(_))));
    assert_eq!(collection.visible(), good);
    assert!(disk.close().is_err());
    assert_eq!(medium.syncs(), syncs);
    let (store, _disk) = open(&medium.after_crash(2)).unwrap();
    let found = pods(&store).get(b"a").unwrap();
    assert!(found.value == "1" || found.value == "2");
}

#[test]
fn a_full_disk_takes_deletes_and_recovers_by_itself() {
    let medium = FaultyFiles::new(7);
    let (store, disk) = open(&medium).unwrap();
    let collection = pods(&store);
    let value = "x".repeat(500);
    // More than fits beside the reserve: only a snapshot of what is left gives room.
    medium.set_capacity_bytes(64 << 10);
    let mut written = Vec::new();
    let refused = loop {
        let key = format!("k{:03}", written.len());
        match put(&collection, &key, &value) {
            Ok(revision) => {
                assert!(kept(&store, &collection, revision, PATIENCE));
                written.push(key);
            }
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, StoreError::DiskFull);
    assert!(store.is_full());
    assert!(written.len() > 20, "{}", written.len());
    let granted = store.lease_grant(0, LeaseId(1), 5);
    assert_eq!(granted, Err(StoreError::DiskFull));
    for key in &written {
        let deleted = collection.write(key.as_bytes(), Precondition::Any, Change::Delete);
        assert!(kept(
            &store,
            &collection,
            deleted.unwrap().revision,
            PATIENCE
        ));
    }
    // Nobody gave it room: it made some.
    put_when_there_is_room(&store, &collection, "after");
    no_drafts_stay(&medium);
    drop(disk);
    let (store, _disk) = open(&medium).unwrap();
    assert_eq!(pods(&store).len(), 1);
}

#[test]
fn a_start_on_a_full_disk_takes_deletes() {
    let medium = FaultyFiles::new(9);
    let (store, disk) = open(&medium).unwrap();
    let collection = pods(&store);
    let revision = put(&collection, "a", "1").unwrap();
    assert!(kept(&store, &collection, revision, PATIENCE));
    drop(disk);
    medium.set_capacity_bytes(medium.used_bytes());
    let (store, disk) = open(&medium).unwrap();
    let collection = pods(&store);
    assert_eq!(put(&collection, "b", "1"), Err(StoreError::DiskFull));
    let deleted = collection.write(b"a", Precondition::Any, Change::Delete);
    assert!(kept(
        &store,
        &collection,
        deleted.unwrap().revision,
        PATIENCE
    ));
    medium.set_capacity_bytes(u64::MAX);
    put_when_there_is_room(&store, &collection, "b");
    disk.close().unwrap();
}

#[test]
fn a_slow_disk_delays_and_loses_nothing() {
    let medium = FaultyFiles::new(3);
    let (store, disk) = open(&medium).unwrap();
    let collection = pods(&store);
    medium.set_sync_delay(Duration::from_millis(20));
    let first = put(&collection, "a", "1").unwrap();
    let before = medium.syncs();
    let last = (0..500)
        .map(|n| put(&collection, &format!("k{n}"), "v").unwrap())
        .max();
    assert!(kept(&store, &collection, last.unwrap(), PATIENCE) && last > Some(first));
    // One sync for all that arrived during the one before.
    assert!(medium.syncs() - before < 500);
    let (store, _other) = open(&medium.after_crash(1)).unwrap();
    assert_eq!(pods(&store).len(), 501);
    drop(disk);
}

#[test]
fn a_flipped_bit_is_damage_or_the_unread_end_never_another_value() {
    for seed in 0..40 {
        let mut chance = Chance::new(seed);
        let medium = FaultyFiles::new(seed);
        let (store, disk) = open(&medium).unwrap();
        let collection = pods(&store);
        let count = 3 + chance.roll(60);
        for number in 0..count {
            let revision = put(&collection, &format!("k{number}"), &format!("v{number}")).unwrap();
            assert!(kept(&store, &collection, revision, PATIENCE));
        }
        let found = medium.after_crash(seed);
        drop(disk);
        let is_read = |name: &&PathBuf| {
            name.extension()
                .is_some_and(|end| end == "seg" || end == "snap")
        };
        let names: Vec<PathBuf> = found.names().iter().filter(is_read).cloned().collect();
        let name = &names[chance.roll(names.len() as u64) as usize];
        let len = found.bytes_of(name).unwrap().len() as u64;
        assert!(found.flip(name, chance.roll(len) as usize, chance.roll(8) as u32));
        match open(&found) {
            Err(WalError::Damaged { path, .. }) => assert_eq!(&path, name),
            Err(other) => panic!("seed {seed}: {other}"),
            Ok((store, disk)) => {
                // The last frame cannot be told from a torn one.
                let pods = pods(&store);
                assert!(
                    pods.len() as u64 >= count - 1,
                    "seed {seed}: {} of {count}",
                    pods.len()
                );
                for number in 0..pods.len() {
                    let record = pods.get(format!("k{number}").as_bytes()).unwrap();
                    assert_eq!(record.value, format!("v{number}"), "seed {seed}");
                }
                drop(disk);
            }
        }
    }
}

#[test]
fn memory_is_kept_at_a_clean_end_even_on_a_full_disk() {
    let medium = FaultyFiles::new(5);
    let (store, disk) = open(&medium).unwrap();
    let config = CollectionConfig {
        durability: Durability::Memory,
        ..CollectionConfig::default()
    };
    let leases = store.collection("/registry/leases/", config);
    put(&leases, "n1", "alive").unwrap();
    medium.set_capacity_bytes(medium.used_bytes());
    disk.close().unwrap();
    medium.set_capacity_bytes(u64::MAX);
    let (store, _disk) = open(&medium).unwrap();
    let found = store.existing(b"/registry/leases/").unwrap().get(b"n1");
    assert_eq!(found.unwrap().value, "alive");
}

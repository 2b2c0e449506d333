//! All kept versions against a model that forgets nothing, while writes and compactions go on.

mod values;

use bytes::Bytes;
use kv::{DeleteOp, KeyRange, LogRecord, Op, PutOp, Revision, Txn};
use proptest::prelude::*;
use std::collections::BTreeMap;
use store::{
    CollectionConfig, KeptVersion, ReadError, SnapshotScope, Store, StoreConfig, Versions,
};
use values::value_of;

const KEYS: [&str; 6] = [
    "/registry/pods/a",
    "/registry/pods/b",
    "/registry/nodes/n",
    "/registry/ex.io/widgets/z",
    "plain",
    "zeta",
];

/// What a version is compared by: revision, place, key, and value, creation, counter of a put.
type Plain = (i64, u32, Bytes, Option<(Bytes, i64, i64)>);

fn plain(version: &KeptVersion) -> Plain {
    let record = version.record.as_ref();
    (
        version.revision.0,
        version.sub,
        version.key.clone(),
        record.map(|record| {
            assert_eq!(record.mod_revision, version.revision);
            (
                record.value.clone(),
                record.create_revision.0,
                record.version,
            )
        }),
    )
}

/// Every change there ever was.
#[derive(Default)]
struct Model {
    changes: Vec<Plain>,
}

impl Model {
    fn now(&self, key: &Bytes) -> Option<&(Bytes, i64, i64)> {
        let found = self.changes.iter().rev().find(|change| change.2 == *key);
        found.and_then(|change| change.3.as_ref())
    }

    fn put(&mut self, revision: i64, sub: u32, key: Bytes, value: Bytes) {
        let (create, version) = match self.now(&key) {
            Some((_, create, version)) => (*create, version + 1),
            None => (revision, 1),
        };
        self.changes
            .push((revision, sub, key, Some((value, create, version))));
    }

    /// What is kept at `at` after a compaction to `floor`.
    fn kept(&self, floor: i64, at: i64) -> Vec<Plain> {
        let upto = |revision| {
            self.changes
                .iter()
                .filter(move |change| change.0 <= revision)
        };
        let mut base: BTreeMap<&Bytes, &Plain> = BTreeMap::new();
        for change in upto(floor) {
            base.insert(&change.2, change);
        }
        let mut kept: Vec<Plain> = base
            .into_values()
            // A deletion is kept at the floor alone: who watches from there must see it.
            .filter(|change| change.3.is_some() || change.0 == floor)
            .cloned()
            .collect();
        kept.extend(upto(at).filter(|change| change.0 > floor).cloned());
        kept.sort();
        kept
    }
}

fn read(versions: &mut Versions) -> Vec<KeptVersion> {
    let mut all = Vec::new();
    while versions.next_page(&mut all) {}
    all
}

fn new_store(log: bool) -> Store {
    let collections = CollectionConfig {
        keep_until_compacted: true,
        ..CollectionConfig::default()
    };
    Store::new(StoreConfig {
        log,
        collections,
        ..StoreConfig::default()
    })
}

/// Writes some keys in one transaction and deletes some others.
fn write(store: &Store, model: &mut Model, puts: u8, deletes: u8, value: u8) {
    let chosen = |bits: u8| {
        let keys = KEYS.iter().enumerate();
        keys.filter(move |(index, _)| bits >> index & 1 == 1)
            .map(|(_, key)| Bytes::from_static(key.as_bytes()))
    };
    let mut then = Vec::new();
    let revision = store.applied().0 + 1;
    let mut sub = 0;
    for key in chosen(deletes & !puts) {
        if model.now(&key).is_some() {
            model.changes.push((revision, sub, key.clone(), None));
            sub += 1;
        }
        then.push(Op::Delete(DeleteOp {
            range: KeyRange::one(key),
            prev_kv: false,
        }));
    }
    for key in chosen(puts) {
        let value = value_of(value);
        model.put(revision, sub, key.clone(), value.clone());
        sub += 1;
        then.push(Op::Put(PutOp::new(key, value)));
    }
    let txn = Txn {
        then,
        ..Txn::default()
    };
    store.txn(&txn).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_what_the_model_keeps(
        steps in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), 0_u8..12), 1..40),
        later in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 0..10),
        back in 0_i64..6,
    ) {
        let store = new_store(false);
        let mut model = Model::default();
        let mut floor = 0;
        for (puts, deletes, value, what) in steps {
            match what {
                0 => {
                    let revision = store.applied().0 - i64::from(value % 4);
                    if store.compact(Revision(revision.max(1))).is_ok() {
                        floor = revision.max(1);
                    }
                }
                1 => {
                    store.step(0, 1 + usize::from(value));
                }
                _ => write(&store, &mut model, puts, deletes, value),
            }
        }
        let at = (store.applied().0 - back).max(floor).max(1);
        let mut versions = store.versions(Some(Revision(at))).unwrap();
        prop_assert_eq!((versions.floor().0, versions.revision().0), (floor, at));
        let expected = model.kept(floor, at);
        let lives = |plain: &Plain| {
            let last = model.changes.iter().rfind(|change| change.2 == plain.2 && change.0 <= at);
            last == Some(plain) && plain.3.is_some()
        };
        let any = expected.iter().any(lives);
        prop_assert_eq!(versions.any_counts(), any);
        let counts: Vec<bool> = expected.iter().map(|plain| plain.0 > floor || lives(plain)).collect();
        // None of what happens from here on may be seen.
        let mut others = Model { changes: model.changes.clone() };
        for (puts, deletes, value) in later {
            write(&store, &mut others, puts, deletes, value);
        }
        let _ = store.compact(store.applied());
        while store.step(0, 100).entries > 0 {}
        let found = read(&mut versions);
        prop_assert_eq!(found.iter().map(plain).collect::<Vec<_>>(), expected);
        prop_assert_eq!(found.iter().map(|version| version.counts_at_end).collect::<Vec<_>>(), counts);
        // When nobody reads any more, the history goes.
        drop(versions);
        while store.step(0, 100).entries > 0 {}
        store.check().unwrap();
        let left: u64 = store.collections().iter().map(|collection| collection.stats().history_entries).sum();
        let last = store.applied().0;
        prop_assert_eq!(left as usize, others.changes.iter().filter(|change| change.0 == last).count());
    }
}

#[test]
fn places_in_a_revision_survive_trimming_and_a_snapshot() {
    let store = new_store(true);
    store.reserve(Revision(1_000));
    let mut model = Model::default();
    write(&store, &mut model, 0b11_1111, 0, 7);
    write(&store, &mut model, 0b00_0100, 0, 8);
    store.compact(Revision(3)).unwrap();
    let mut log = Vec::new();
    store.drain_log(&mut log);
    store.set_durable(Revision(3));
    while store.step(0, 100).entries > 0 {}
    let expected = model.kept(3, 3);
    assert_eq!(expected.len(), 6);
    let of = |store: &Store| {
        let versions = read(&mut store.versions(None).unwrap());
        versions.iter().map(plain).collect::<Vec<_>>()
    };
    assert_eq!(of(&store), expected);
    let again = new_store(true);
    let mut restoring = again.restore();
    let mut cursor = store.snapshot(SnapshotScope::Logged);
    let mut page: Vec<LogRecord> = Vec::new();
    while store.snapshot_page(&mut cursor, &mut page) {}
    for record in page {
        restoring.item(record);
    }
    restoring.snapshot_end(Revision(3));
    restoring.finish(Revision(3), true);
    assert_eq!(of(&again), expected);
}

#[test]
fn revisions_that_cannot_be_read_are_refused() {
    let store = new_store(false);
    let mut model = Model::default();
    for value in 0..5 {
        write(&store, &mut model, 1, 0, value);
    }
    store.compact(Revision(4)).unwrap();
    assert!(matches!(
        store.versions(Some(Revision(7))),
        Err(ReadError::Future { .. })
    ));
    let Err(ReadError::Compacted(compacted)) = store.versions(Some(Revision(3))) else {
        panic!("revision 3 is gone");
    };
    assert_eq!(
        (compacted.requested, compacted.oldest),
        (Revision(3), Revision(4))
    );
    assert_eq!(
        read(&mut store.versions(Some(Revision(4))).unwrap()).len(),
        1
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_carries_the_history_while_writes_go_on(
        steps in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), 0_u8..12), 1..40),
        during in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), 0_u8..8), 0..25),
        // Records from before the snapshot that are in the log after it, too: a full disk has no new segment.
        early in 0_usize..4,
        scope in prop::sample::select(vec![SnapshotScope::Logged, SnapshotScope::LoggedPresent]),
    ) {
        let store = new_store(true);
        store.reserve(Revision(1_000_000));
        let mut model = Model::default();
        let mut log = Vec::new();
        let act = |model: &mut Model, log: &mut Vec<LogRecord>, (puts, deletes, value, what): (u8, u8, u8, u8)| {
            match what {
                0 => {
                    let revision = store.applied().0 - i64::from(value % 4);
                    let _ = store.compact(Revision(revision.max(1)));
                }
                1 => {
                    store.step(0, 1 + usize::from(value));
                }
                _ => write(&store, model, puts, deletes, value),
            }
            store.drain_log(log);
            store.set_durable(store.applied());
        };
        for step in steps {
            act(&mut model, &mut log, step);
        }
        log.drain(..log.len() - early.min(log.len()));
        let mut cursor = store.snapshot(scope);
        let mut items = Vec::new();
        let mut during = during.into_iter();
        while store.snapshot_page(&mut cursor, &mut items) {
            for step in during.by_ref().take(2) {
                act(&mut model, &mut log, step);
            }
        }
        let end = store.applied();
        for step in during {
            act(&mut model, &mut log, step);
        }
        let again = new_store(true);
        let mut restoring = again.restore();
        items.into_iter().for_each(|item| restoring.item(item));
        restoring.snapshot_end(end);
        log.into_iter().for_each(|record| restoring.record(record));
        restoring.finish(store.applied(), false);
        again.reserve(Revision(1_000_000));
        again.check().map_err(TestCaseError::fail)?;
        prop_assert_eq!(again.compacted(), store.compacted());
        if scope == SnapshotScope::LoggedPresent {
            same_lists(&store, &again, end.0)?;
            return Ok(());
        }
        same_history(&store, &again)?;
        // Both go on alike, and give up their history alike.
        let mut others = Model { changes: model.changes.clone() };
        write(&store, &mut model, 0b10_1011, 0b01_0100, 9);
        write(&again, &mut others, 0b10_1011, 0b01_0100, 9);
        same_history(&store, &again)?;
        for store in [&store, &again] {
            let mut log = Vec::new();
            store.drain_log(&mut log);
            store.set_durable(store.applied());
            let _ = store.compact(store.applied());
            while store.step(0, 100).entries > 0 {}
        }
        same_history(&store, &again)?;
        prop_assert_eq!(store.used_bytes(), again.used_bytes());
    }
}

/// Both know the same versions, and answer the same lists at every revision.
fn same_history(left: &Store, right: &Store) -> Result<(), TestCaseError> {
    let of = |store: &Store| {
        let mut versions = store.versions(None).expect("the newest revision is there");
        let floor = versions.floor();
        (
            floor,
            read(&mut versions).iter().map(plain).collect::<Vec<_>>(),
        )
    };
    prop_assert_eq!(of(left), of(right));
    same_lists(left, right, 0)
}

fn same_lists(left: &Store, right: &Store, from: i64) -> Result<(), TestCaseError> {
    for revision in from..=left.applied().0 {
        let list = |store: &Store| {
            let mut range = kv::RangeOp::new(KeyRange::all());
            range.revision = Revision(revision);
            store.range(&range).map(|found| found.kvs)
        };
        prop_assert_eq!(list(left), list(right), "at revision {}", revision);
    }
    Ok(())
}

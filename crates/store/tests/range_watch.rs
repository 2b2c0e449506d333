//! Watches of ranges that cross collections: order, whole revisions, collections that are made later.

use bytes::Bytes;
use kv::{DeleteOp, Durability, End, KeyRange, LogRecord, Op, PutOp, Revision, Txn};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use store::{CollectionConfig, RangeWatcher, Store, StoreConfig, WatchItem};

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn store(log: bool) -> Arc<Store> {
    let collections = CollectionConfig {
        keep_until_compacted: true,
        ..CollectionConfig::default()
    };
    Arc::new(Store::new(StoreConfig {
        log,
        collections,
        ..StoreConfig::default()
    }))
}

fn put(store: &Store, keys: &[&str]) -> i64 {
    let put = |key: &&str| Op::Put(PutOp::new(key.to_string(), "v"));
    let txn = Txn {
        then: keys.iter().map(put).collect(),
        ..Txn::default()
    };
    store.txn(&txn).unwrap().revision.0
}

fn range(start: &str, end: &str) -> KeyRange {
    let end = match end {
        "" => End::One,
        "\0" => End::Unbounded,
        end => End::Before(Bytes::from(end.to_owned())),
    };
    KeyRange {
        start: Bytes::from(start.to_owned()),
        end,
    }
}

/// Everything there is to deliver now, and how far that reaches.
fn drain(watcher: &mut RangeWatcher, woken: &Arc<Woken>, max: usize) -> Vec<WatchItem> {
    let waker = Waker::from(woken.clone());
    let mut all = Vec::new();
    loop {
        let mut items = Vec::new();
        match watcher.poll_next(&mut Context::from_waker(&waker), max, &mut items) {
            Poll::Pending => return all,
            Poll::Ready(through) => {
                let through = through.unwrap();
                assert!(items.iter().all(|item| item.revision <= through));
                all.extend(items);
            }
        }
    }
}

fn seen(items: &[WatchItem]) -> Vec<(i64, String)> {
    let key = |item: &WatchItem| String::from_utf8(item.key.to_vec()).unwrap();
    items
        .iter()
        .map(|item| (item.revision.0, key(item)))
        .collect()
}

#[test]
fn what_one_collection_has_waits_for_what_another_has_not_yet() {
    let store = store(true);
    store.reserve(Revision(1000));
    let memory = CollectionConfig {
        durability: Durability::Memory,
        ..CollectionConfig::default()
    };
    store.collection("/registry/leases/", memory);
    let woken = Arc::new(Woken::default());
    let mut watcher = store
        .watch_range(range("/registry/", "/registry0"), Revision(1))
        .unwrap();
    // The node at 2 waits for the log; the lease at 3 is visible at once, and has to wait with it.
    put(&store, &["/registry/nodes/n"]);
    put(&store, &["/registry/leases/l"]);
    assert!(drain(&mut watcher, &woken, 10).is_empty());
    assert_eq!(watcher.progress(), Revision(1));
    let before = woken.0.load(Ordering::SeqCst);
    let mut records: Vec<LogRecord> = Vec::new();
    store.drain_log(&mut records);
    store.set_durable(Revision(3));
    assert!(woken.0.load(Ordering::SeqCst) > before);
    let items = drain(&mut watcher, &woken, 10);
    assert_eq!(
        seen(&items),
        [
            (2, "/registry/nodes/n".into()),
            (3, "/registry/leases/l".into())
        ]
    );
    assert_eq!(watcher.progress(), Revision(3));
}

#[test]
fn one_that_waits_for_a_write_it_does_not_want_is_woken_by_it() {
    let store = store(true);
    store.reserve(Revision(1000));
    let memory = CollectionConfig {
        durability: Durability::Memory,
        ..CollectionConfig::default()
    };
    store.collection("/registry/leases/", memory);
    let woken = Arc::new(Woken::default());
    // Of the nodes only m to p are wanted, but all of them are in the way of the lease.
    let mut watcher = store
        .watch_range(range("/registry/leases/", "/registry/nodes/p"), Revision(1))
        .unwrap();
    put(&store, &["/registry/nodes/z"]);
    put(&store, &["/registry/leases/l"]);
    assert!(drain(&mut watcher, &woken, 10).is_empty());
    let before = woken.0.load(Ordering::SeqCst);
    store.drain_log(&mut Vec::new());
    store.set_durable(Revision(3));
    assert!(woken.0.load(Ordering::SeqCst) > before);
    assert_eq!(
        seen(&drain(&mut watcher, &woken, 10)),
        [(3, "/registry/leases/l".into())]
    );
}

#[test]
fn a_collection_that_is_made_later_belongs_to_it() {
    let store = store(false);
    let woken = Arc::new(Woken::default());
    let mut watcher = store
        .watch_range(range("/registry/", "/registry0"), Revision(1))
        .unwrap();
    assert!(drain(&mut watcher, &woken, 10).is_empty());
    assert_eq!(
        put(
            &store,
            &["/registry/pods/p", "/registry/nodes/n", "/other/x"]
        ),
        2
    );
    assert!(woken.0.load(Ordering::SeqCst) > 0);
    let items = drain(&mut watcher, &woken, 1);
    assert_eq!(
        seen(&items),
        [
            (2, "/registry/pods/p".into()),
            (2, "/registry/nodes/n".into())
        ]
    );
}

#[test]
fn what_was_compacted_cannot_be_watched_and_what_is_left_can() {
    let store = store(false);
    for _ in 0..5 {
        put(&store, &["/registry/pods/p"]);
    }
    store.compact(Revision(4)).unwrap();
    let whole = || range("/registry/", "/registry0");
    assert!(store.watch_range(whole(), Revision(2)).is_err());
    assert!(
        store
            .watch_range(range("nothing", ""), Revision(2))
            .is_err()
    );
    let mut watcher = store.watch_range(whole(), Revision(3)).unwrap();
    // Made after the compaction, from before it: nothing can have happened there.
    put(&store, &["/registry/nodes/n"]);
    let revisions: Vec<i64> = drain(&mut watcher, &Arc::default(), 2)
        .iter()
        .map(|item| item.revision.0)
        .collect();
    assert_eq!(revisions, [4, 5, 6, 7]);
}

#[test]
fn the_log_says_when_what_takes_no_revision_is_kept() {
    let store = store(true);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    store.lease_grant(0, kv::LeaseId(7), 10).unwrap();
    let position = store.log_position();
    assert!(store.poll_logged(position, &mut cx).is_pending());
    // What was not drained yet is not on the medium, whatever is.
    store.set_durable(Revision(1));
    assert!(store.poll_logged(position, &mut cx).is_pending());
    store.drain_log(&mut Vec::new());
    store.set_durable(Revision(1));
    assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    assert!(store.poll_logged(position, &mut cx).is_ready());
}

const KEYS: [&str; 10] = [
    "a",
    "/registry/pods/a",
    "/registry/pods/b",
    "/registry/pods/ns/c",
    "/registry/nodes/a",
    "/registry/nodes/b",
    "/registry/",
    "/registry/x.io/w/a",
    "/registry/x.io/v/b",
    "z",
];
const ENDS: [&str; 8] = [
    "",
    "\0",
    "/registry0",
    "/registry/pods0",
    "/registry/pods/b",
    "/registry/nodes/b",
    "b",
    "zz",
];

proptest! {
    /// Random transactions, watches of random ranges from random places, read in random portions: each sees exactly
    /// its keys' changes, in order.
    #[test]
    fn every_watch_sees_exactly_its_range(
        txns in prop::collection::vec((prop::collection::btree_set(0..KEYS.len(), 1..4), any::<bool>()), 1..60),
        watches in prop::collection::vec((0..KEYS.len(), 0..ENDS.len(), 0..60usize, 1..5usize), 1..6),
    ) {
        let store = store(false);
        let mut log: Vec<(i64, String)> = Vec::new();
        let mut open: Vec<(KeyRange, i64, usize, RangeWatcher, Vec<WatchItem>)> = Vec::new();
        for (step, (keys, deletes)) in txns.iter().enumerate() {
            for (key, end, at, max) in watches.iter().filter(|watch| watch.2 == step) {
                let range = range(KEYS[*key], ENDS[*end]);
                let from = (store.applied().0 - (*at % 7) as i64).max(1);
                let watcher = store.watch_range(range.clone(), Revision(from)).unwrap();
                open.push((range, from, *max, watcher, Vec::new()));
            }
            let op = |key: &usize| match deletes {
                true => Op::Delete(DeleteOp { range: KeyRange::one(KEYS[*key]), prev_kv: false }),
                false => Op::Put(PutOp::new(KEYS[*key], "v")),
            };
            let existed = |key: &&usize| !deletes || exists(&store, KEYS[**key]);
            let changed: Vec<&usize> = keys.iter().filter(existed).collect();
            let txn = Txn { then: keys.iter().map(op).collect(), ..Txn::default() };
            let revision = store.txn(&txn).unwrap().revision.0;
            log.extend(changed.into_iter().map(|key| (revision, KEYS[*key].to_owned())));
            for (_, _, max, watcher, items) in &mut open {
                if step % *max == 0 {
                    items.extend(drain(watcher, &Arc::default(), *max));
                }
            }
        }
        for (range, from, max, mut watcher, mut items) in open {
            items.extend(drain(&mut watcher, &Arc::default(), max));
            let mine = |(revision, key): &&(i64, String)| *revision > from && range.contains(key.as_bytes());
            let expected: Vec<_> = log.iter().filter(mine).cloned().collect();
            prop_assert_eq!(seen(&items), expected);
            prop_assert_eq!(watcher.progress(), store.applied());
        }
        store.check().unwrap();
    }
}

fn exists(store: &Store, key: &str) -> bool {
    let op = kv::RangeOp::new(KeyRange::one(key.to_owned()));
    store.range(&op).unwrap().count > 0
}

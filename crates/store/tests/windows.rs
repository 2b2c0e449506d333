//! Budgets, windows, visibility and tags: the facts the model does not reach.

use bytes::Bytes;
use kv::{Durability, LeaseId, LogRecord, Revision};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use store::{
    Change, Collection, CollectionConfig, Compacted, Interest, OpenError, Precondition, ReadError,
    Store, StoreConfig, StoreError, WatchItem, Watcher, WriteError, Written, limits,
};

fn put(c: &Collection, key: &str, value: &str, tags: &[u64]) -> Result<Written, WriteError> {
    let value = Bytes::copy_from_slice(value.as_bytes());
    let change = Change::Put {
        value,
        lease: LeaseId::NONE,
        tags,
    };
    c.write(key.as_bytes(), Precondition::Any, change)
}

fn memory(config: CollectionConfig) -> (Store, Arc<Collection>) {
    let store = Store::new(StoreConfig::default());
    let collection = store.collection("/registry/pods/", config);
    (store, collection)
}

/// Counts how often it was woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(watcher: &mut Watcher, bell: &Arc<Bell>) -> Poll<Result<Vec<String>, Compacted>> {
    let waker = Waker::from(bell.clone());
    let mut items: Vec<WatchItem> = Vec::new();
    let ready = watcher.poll_next(&mut Context::from_waker(&waker), 100, &mut items);
    let text = |item: &WatchItem| {
        let value = item
            .value
            .as_ref()
            .map_or("-".into(), |value| String::from_utf8_lossy(value));
        format!(
            "{}@{}={value}",
            String::from_utf8_lossy(&item.key),
            item.revision
        )
    };
    ready.map(|result| result.map(|_| items.iter().map(text).collect()))
}

fn seen(watcher: &mut Watcher, bell: &Arc<Bell>) -> Vec<String> {
    match poll(watcher, bell) {
        Poll::Ready(Ok(items)) => items,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_leaves_out_the_values_before_is_told_everything_else() {
    let (_store, pods) = memory(CollectionConfig::default());
    let interests = [
        Interest::All,
        Interest::Key("a".into()),
        Interest::Tag(1),
        Interest::Tag(2),
    ];
    for interest in interests {
        let from = pods.visible();
        let mut whole = pods.watch(from, interest.clone()).expect("opens");
        let mut brief = pods.watch(from, interest.clone()).expect("opens");
        brief.leave_out_prev();
        put(&pods, "a", "one", &[1]).expect("accepted");
        put(&pods, "a", "two", &[2]).expect("accepted");
        put(&pods, "a", "three", &[2]).expect("accepted");
        pods.write(b"a", Precondition::Any, Change::Delete)
            .expect("accepted");
        let read = |watcher: &mut Watcher| {
            let mut items = Vec::new();
            let ready = watcher.poll_next(&mut Context::from_waker(Waker::noop()), 100, &mut items);
            assert!(matches!(ready, Poll::Ready(Ok(_))));
            items
        };
        let (whole, brief) = (read(&mut whole), read(&mut brief));
        assert!(whole.len() >= 2, "{interest:?}");
        for (item, brief) in whole.iter().zip(&brief) {
            let is_creation = item.create_revision == item.revision;
            assert_eq!(is_creation, item.value.is_some() && item.prev.is_none());
            let mut expected = item.clone();
            if item.value.is_some() {
                expected.prev = None;
                expected.prev_mod_revision = Revision(0);
                expected.prev_version = 0;
                expected.prev_lease = LeaseId::NONE;
            }
            assert_eq!(*brief, expected, "{interest:?}");
        }
        assert_eq!(whole.len(), brief.len());
    }
}

#[test]
fn an_event_wakes_only_those_it_concerns() {
    let (store, pods) = memory(CollectionConfig::default());
    let interests = [
        Interest::All,
        Interest::Prefix("a/".into()),
        Interest::Prefix("b/w".into()),
        Interest::Key("b/web".into()),
        Interest::Tag(1),
        Interest::Tag(2),
    ];
    let mut watching: Vec<(Watcher, Arc<Bell>)> = interests
        .into_iter()
        .map(|interest| {
            (
                pods.watch(Revision(1), interest).expect("opens"),
                Arc::default(),
            )
        })
        .collect();
    for (watcher, bell) in &mut watching {
        assert!(poll(watcher, bell).is_pending());
    }
    put(&pods, "b/web", "v", &[1]).expect("accepted");
    put(&pods, "b/web", "w", &[2]).expect("accepted");
    let rings: Vec<usize> = watching
        .iter()
        .map(|(_, bell)| bell.0.load(Ordering::SeqCst))
        .collect();
    assert_eq!(rings, [1, 0, 1, 1, 1, 1], "once each, however many events");
    let both = ["b/web@2=v".to_owned(), "b/web@3=w".to_owned()];
    let expected = [&both[..], &[], &both[..], &both[..], &both[..], &both[1..]];
    for ((watcher, bell), expected) in watching.iter_mut().zip(expected) {
        if expected.is_empty() {
            assert!(poll(watcher, bell).is_pending());
        } else {
            assert_eq!(seen(watcher, bell), expected);
        }
        assert_eq!(watcher.progress(), Revision(3));
    }
    store.check().expect("sound");
    drop(watching);
    assert_eq!(pods.stats().watchers, 0);
    store.check().expect("sound");
}

#[test]
fn a_slow_watcher_is_compacted_and_an_idle_one_is_not() {
    let config = CollectionConfig {
        history_bytes_max: 1000,
        ..CollectionConfig::default()
    };
    let (store, pods) = memory(config);
    let bell = Arc::default();
    let mut slow = pods.watch(Revision(1), Interest::All).expect("opens");
    let mut idle = pods
        .watch(Revision(1), Interest::Key("quiet".into()))
        .expect("opens");
    assert!(poll(&mut idle, &bell).is_pending());
    for number in 0..100 {
        put(&pods, "loud", &number.to_string(), &[]).expect("accepted");
    }
    assert!(pods.stats().history_bytes <= 1000);
    assert!(matches!(poll(&mut slow, &bell), Poll::Ready(Err(_))));
    assert!(matches!(
        pods.watch(Revision(50), Interest::All),
        Err(OpenError::Compacted(_))
    ));
    let mut rows = Vec::new();
    let old = pods.list(b"", None, Revision(50), 10, &mut rows);
    assert!(matches!(old, Err(ReadError::Compacted(_))));
    let future = pods.list(b"", None, Revision(500), 10, &mut rows);
    assert!(matches!(future, Err(ReadError::Future { .. })));
    put(&pods, "quiet", "now", &[]).expect("accepted");
    assert_eq!(seen(&mut idle, &bell), ["quiet@102=now"]);
    store.check().expect("sound");
}

#[test]
fn history_goes_by_age() {
    let config = CollectionConfig {
        history_seconds_min: 10,
        ..CollectionConfig::default()
    };
    let (store, pods) = memory(config);
    put(&pods, "a", "1", &[]).expect("accepted");
    pods.write(b"a", Precondition::Any, Change::Delete)
        .expect("accepted");
    store.step(1_000_000, 100);
    put(&pods, "b", "1", &[]).expect("accepted");
    store.step(10_999_999, 100);
    assert_eq!(pods.stats().history_entries, 3);
    store.step(11_000_000, 1);
    assert_eq!(pods.stats().history_entries, 2, "in small steps");
    store.step(11_000_000, 100);
    assert_eq!(pods.stats().history_entries, 1);
    assert!(pods.watch(Revision(3), Interest::All).is_ok());
    assert!(pods.watch(Revision(2), Interest::All).is_err());
    store.check().expect("sound");
}

#[test]
fn a_spent_budget_refuses_growth_and_never_deletes() {
    let one = limits::KEY_OVERHEAD_BYTES + 5;
    let config = CollectionConfig {
        bytes_max: 2 * one,
        ..CollectionConfig::default()
    };
    let (store, pods) = memory(config);
    put(&pods, "a", "1234", &[]).expect("fits");
    put(&pods, "b", "1234", &[]).expect("fits");
    let refused = put(&pods, "c", "", &[]).expect_err("does not fit");
    let WriteError::Refused(StoreError::BudgetSpent {
        used_bytes,
        max_bytes,
        ..
    }) = refused
    else {
        panic!("{refused}")
    };
    assert_eq!((used_bytes, max_bytes), (2 * one, 2 * one));
    assert!(put(&pods, "a", "12345", &[]).is_err());
    put(&pods, "a", "4321", &[]).expect("no growth");
    assert_eq!(
        store.applied(),
        Revision(4),
        "what is refused takes no revision"
    );
    pods.write(b"b", Precondition::Any, Change::Delete)
        .expect("always");
    put(&pods, "c", "1234", &[]).expect("room again");
    // With etcd's history the past counts as well, until it is compacted.
    let config = CollectionConfig {
        bytes_max: one + 2 * (limits::ENTRY_OVERHEAD_BYTES + 4),
        keep_until_compacted: true,
        ..CollectionConfig::default()
    };
    let (store, pods) = memory(config);
    put(&pods, "a", "1234", &[]).expect("fits");
    put(&pods, "a", "1234", &[]).expect("fits");
    assert!(put(&pods, "a", "1234", &[]).is_err());
    store.compact(Revision(3)).expect("possible");
    store.step(0, 100);
    put(&pods, "a", "1234", &[]).expect("room again");
    store.check().expect("sound");
}

#[test]
fn what_is_not_durable_is_not_seen() {
    let store = Store::new(StoreConfig {
        log: true,
        ..StoreConfig::default()
    });
    let config = |durability| CollectionConfig {
        durability,
        ..CollectionConfig::default()
    };
    let pods = store.collection("/registry/pods/", config(Durability::Fsync));
    let leases = store.collection("/registry/leases/", config(Durability::Memory));
    assert!(
        matches!(
            put(&pods, "a", "1", &[]),
            Err(WriteError::Refused(StoreError::LogBehind))
        ),
        "no revision before it is on record"
    );
    store.reserve(Revision(100));
    let bell: Arc<Bell> = Arc::default();
    let waker = Waker::from(bell.clone());
    let mut cx = Context::from_waker(&waker);
    let mut watcher = pods.watch(Revision(1), Interest::All).expect("opens");
    assert!(poll(&mut watcher, &bell).is_pending());

    let written = put(&pods, "a", "1", &[]).expect("accepted").revision;
    let quick = put(&leases, "n", "1", &[]).expect("accepted").revision;
    assert!(
        leases.poll_visible(quick, &mut cx).is_ready(),
        "isolated from the slow class"
    );
    assert!(pods.poll_visible(written, &mut cx).is_pending());
    assert!(poll(&mut watcher, &bell).is_pending());
    assert_eq!(
        (pods.visible(), watcher.progress()),
        (Revision(1), Revision(1))
    );
    // A lost compare rests on the write that does not count yet, and says so.
    let lost = pods.write(b"a", Precondition::Absent, Change::Delete);
    assert!(matches!(lost, Err(WriteError::Lost { seen, .. }) if seen >= written));

    let mut log: Vec<LogRecord> = Vec::new();
    store.drain_log(&mut log);
    let is_change = |record: &&kv::LogRecord| !matches!(record.change, kv::Change::Forget { .. });
    let changes = log.iter().filter(is_change).count();
    assert_eq!(
        (log.len(), changes),
        (2, 1),
        "of memory the log knows only that it is not logged"
    );
    store.set_written(written);
    assert!(pods.poll_visible(written, &mut cx).is_pending());
    store.set_durable(written);
    assert!(bell.0.load(Ordering::SeqCst) >= 2);
    assert!(pods.poll_visible(written, &mut cx).is_ready());
    assert_eq!(seen(&mut watcher, &bell), ["a@2=1"]);
    // Nothing is pending: visible is the newest revision, of whichever collection.
    assert_eq!(pods.visible(), quick);

    store.fail_log("disk gone");
    let refused = put(&pods, "a", "2", &[]).expect_err("stopped");
    assert_eq!(refused.to_string(), "the log has stopped: disk gone");
    assert!(put(&leases, "n", "2", &[]).is_err());
    store.check().expect("sound");
}

#[test]
fn writers_watchers_and_lists_at_once() {
    let store = Store::new(StoreConfig::default());
    let pods = store.collection("/registry/pods/", CollectionConfig::default());
    const EACH: usize = 3000;
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let pods = &pods;
            scope.spawn(move || {
                for number in 0..EACH {
                    let key = format!("{writer}/{}", number % 400);
                    if number % 5 == 4 {
                        let _ = pods.write(key.as_bytes(), Precondition::Any, Change::Delete);
                    } else {
                        put(pods, &key, "v", &[]).expect("accepted");
                    }
                }
            });
        }
        scope.spawn(|| {
            let bell = Arc::default();
            let mut watcher = pods
                .watch(Revision(1), Interest::Prefix("0/".into()))
                .expect("opens");
            let mut last = 0;
            for _ in 0..EACH {
                if let Poll::Ready(Ok(items)) = poll(&mut watcher, &bell) {
                    for item in items {
                        let at = item.find('@').expect("a revision") + 1;
                        let end = item.find('=').expect("a value");
                        let revision: i64 = item[at..end].parse().expect("a number");
                        assert!(revision > last);
                        last = revision;
                    }
                }
            }
        });
        scope.spawn(|| {
            for _ in 0..50 {
                let at = pods.revision();
                let expected = pods.count(b"", None, at).expect("kept");
                let (mut rows, mut from) = (Vec::new(), Some(Bytes::new()));
                while let Some(start) = from {
                    from = pods
                        .list(&start, None, at, 37, &mut rows)
                        .expect("kept")
                        .next;
                }
                assert_eq!(rows.len(), expected);
                assert!(rows.iter().all(|(_, record)| record.mod_revision <= at));
                assert!(rows.is_sorted_by(|a, b| a.0 < b.0));
            }
        });
    });
    store.check().expect("sound");
}

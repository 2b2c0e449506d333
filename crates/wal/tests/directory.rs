//! A data directory through restarts, torn tails, damage and misuse.

use bytes::Bytes;
use kv::{Durability, KeyRange, LeaseId, RangeOp, Revision};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use store::{
    Change, Collection, CollectionConfig, Interest, OpenError, Precondition, Store, StoreConfig,
};
use wal::{Disk, Options, WalError};

/// A directory that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Hundreds of opens, each with its syncs: in memory where the system offers that.
        let memory = PathBuf::from("/dev/shm");
        let root = if memory.is_dir() {
            memory
        } else {
            std::env::temp_dir()
        };
        let path = root.join(format!("wal-test-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Dir(path)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = std::fs::read_dir(&self.0)
            .expect("the directory is there")
            .map(|entry| entry.expect("readable").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
            .collect();
        found.sort();
        found
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(durability: Durability) -> CollectionConfig {
    CollectionConfig {
        durability,
        ..CollectionConfig::default()
    }
}

fn store() -> Arc<Store> {
    Arc::new(Store::new(StoreConfig {
        log: true,
        ..StoreConfig::default()
    }))
}

/// Room in small steps: hundreds of directories are made.
fn small() -> Options {
    Options {
        allocate_bytes: 4 << 10,
        reserve_bytes: 16 << 10,
        ..Options::default()
    }
}

fn open(dir: &Path) -> Result<(Arc<Store>, Disk), WalError> {
    let store = store();
    let disk = Disk::open(dir, store.clone(), small())?;
    Ok((store, disk))
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait_visible(collection: &Collection, revision: Revision) {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    while collection.poll_visible(revision, &mut cx) == Poll::Pending {
        std::thread::park();
    }
}

fn put(collection: &Collection, key: &str, value: &str) -> Revision {
    put_with_lease(collection, key, value, LeaseId::NONE)
}

fn put_with_lease(collection: &Collection, key: &str, value: &str, lease: LeaseId) -> Revision {
    let change = Change::Put {
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease,
        tags: &[5, 6],
    };
    let written = collection
        .write(key.as_bytes(), Precondition::Any, change)
        .expect("accepted");
    wait_visible(collection, written.revision);
    written.revision
}

fn contents(store: &Store) -> BTreeMap<Bytes, Bytes> {
    let all = store
        .range(&RangeOp::new(KeyRange::all()))
        .expect("readable");
    all.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect()
}

#[test]
fn a_clean_restart_keeps_everything_and_goes_on_without_a_gap() {
    let dir = Dir::new();
    let (store, disk) = open(&dir.0).expect("opens");
    let pods = store.collection("/registry/pods/", config(Durability::Fsync));
    let leases = store.collection("/registry/leases/", config(Durability::Memory));
    store
        .lease_grant(1_000_000, LeaseId(77), 60)
        .expect("granted");
    put(&pods, "a/x", "1");
    put_with_lease(&pods, "a/y", "2", LeaseId(77));
    pods.write(b"a/x", Precondition::Any, Change::Delete)
        .expect("deleted");
    let last = put(&leases, "n1", "memory");
    disk.close().expect("closes");
    assert!(
        pods.write(b"late", Precondition::Any, Change::Delete)
            .is_err()
    );

    let (store, disk) = open(&dir.0).expect("opens again");
    assert!(disk.recovered().clean);
    assert_eq!(store.applied(), last);
    let expected = BTreeMap::from([
        (Bytes::from("/registry/leases/n1"), Bytes::from("memory")),
        (Bytes::from("/registry/pods/a/y"), Bytes::from("2")),
    ]);
    assert_eq!(contents(&store), expected);
    let (left, keys) = store
        .lease_time_to_live(31_000_000, LeaseId(77), true)
        .expect("kept");
    assert_eq!((left.granted_seconds, left.remaining_seconds), (60, 30));
    assert_eq!(keys, [Bytes::from("/registry/pods/a/y")]);
    store.check().expect("sound");
    // History is still there, of the collection that was not logged too: the restart cost no watcher its place.
    let pods = store.collection("/registry/pods/", config(Durability::Fsync));
    assert!(pods.watch(Revision(1), Interest::All).is_ok());
    let leases = store.collection("/registry/leases/", config(Durability::Memory));
    let mut watch = leases.watch(Revision(1), Interest::All).expect("kept");
    let mut items = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(watch.poll_next(&mut cx, 10, &mut items).is_ready());
    let seen: Vec<_> = items
        .iter()
        .map(|item| (&item.key[..], item.revision))
        .collect();
    assert_eq!(seen, [(&b"n1"[..], last)]);
    // At its deadline the lease takes its key along.
    assert_eq!(store.step(60_999_999, 10).leases, 0);
    assert_eq!(store.step(61_000_000, 10).leases, 1);
    assert_eq!(contents(&store).len(), 1);
    drop(disk);

    // Without a clean end memory is gone, and the revisions go on after the reserved stretch.
    let (store, disk) = open(&dir.0).expect("opens a third time");
    assert!(!disk.recovered().clean);
    assert_eq!(contents(&store).len(), 0);
    assert!(store.applied().0 >= last.0 + 10_000_000);
    let leases = store.collection("/registry/leases/", config(Durability::Memory));
    assert!(matches!(
        leases.watch(last, Interest::All),
        Err(OpenError::Compacted(_))
    ));
}

#[test]
fn snapshots_replace_segments_while_writes_go_on() {
    let dir = Dir::new();
    let store = store();
    let options = Options {
        snapshot_log_bytes: 20_000,
        segment_bytes: 8_000,
        ..small()
    };
    let disk = Disk::open(&dir.0, store.clone(), options).expect("opens");
    let pods = store.collection("/registry/pods/", config(Durability::Buffered));
    let mut expected = BTreeMap::new();
    let mut number = 0;
    while disk.snapshots_done() < 3 {
        let (key, value) = (
            format!("ns/{}", number % 700),
            format!("value {number} {:100}", ""),
        );
        put(&pods, &key, &value);
        expected.insert(
            Bytes::from(format!("/registry/pods/{key}")),
            Bytes::from(value),
        );
        number += 1;
    }
    let last = store.applied();
    drop(disk);
    let (store, disk) = open(&dir.0).expect("opens again");
    assert!(disk.recovered().snapshot_items > 0);
    assert_eq!(contents(&store), expected);
    assert!(store.applied() > last);
    store.check().expect("sound");
}

#[test]
fn what_was_compacted_and_what_was_kept_is_the_same_after_a_crash() {
    let dir = Dir::new();
    let (store, disk) = open(&dir.0).expect("opens");
    let keeping = CollectionConfig {
        keep_until_compacted: true,
        ..config(Durability::Fsync)
    };
    let pods = store.collection("/registry/pods/", keeping);
    let revisions: Vec<_> = (0..50)
        .map(|number| put(&pods, &format!("{}", number % 5), &format!("{number}")))
        .collect();
    let floor = revisions[20];
    store.compact(floor).expect("compacts");
    disk.snapshot_soon();
    while disk.snapshots_done() == 0 {
        std::thread::yield_now();
    }
    let last = put(&pods, "after", "the snapshot");
    wait_visible(&pods, last);
    drop(disk);
    let (store, disk) = open(&dir.0).expect("opens again");
    assert!(!disk.recovered().clean);
    assert_eq!(store.compacted(), floor);
    let at = |revision: Revision| {
        let mut range = RangeOp::new(KeyRange::all());
        range.revision = revision;
        let found = store.range(&range);
        found.map(|found| found.kvs.into_iter().map(|kv| kv.value).collect::<Vec<_>>())
    };
    for (number, revision) in revisions.iter().enumerate().skip(20) {
        let expected: Vec<_> = (0..5)
            .map(|key| (0..=number).rev().find(|write| write % 5 == key))
            .map(|write| Bytes::from(format!("{}", write.expect("written"))))
            .collect();
        assert_eq!(at(*revision).expect("kept"), expected);
    }
    assert!(at(revisions[19]).is_err());
    let pods = store.collection("/registry/pods/", keeping);
    let mut watch = pods
        .watch(Revision(floor.0 - 1), Interest::All)
        .expect("kept");
    let (mut items, mut cx) = (Vec::new(), Context::from_waker(Waker::noop()));
    while watch.poll_next(&mut cx, 100, &mut items).is_ready() {}
    let seen: Vec<_> = items.iter().map(|item| item.revision).collect();
    let expected: Vec<_> = revisions[20..].iter().copied().chain([last]).collect();
    assert_eq!(seen, expected);
}

#[test]
fn settings_come_back_from_log_and_snapshot_as_they_were_last() {
    let dir = Dir::new();
    let name = |text: &'static str| Bytes::from_static(text.as_bytes());
    let (store, disk) = open(&dir.0).unwrap();
    let revision = store.applied();
    let first = [(name("a"), Some(name("1"))), (name("b"), Some(name("2")))];
    store.set_settings(first).unwrap();
    disk.snapshot_soon();
    while disk.snapshots_done() == 0 {
        std::thread::yield_now();
    }
    let second = [(name("a"), None), (name("ab"), Some(name("3")))];
    store.set_settings(second).unwrap();
    assert_eq!(store.applied(), revision, "settings take no revision");
    disk.close().unwrap();
    let (store, _disk) = open(&dir.0).unwrap();
    assert_eq!(store.setting(b"a"), None);
    assert_eq!(store.setting(b"b"), Some(name("2")));
    assert_eq!(store.settings(b"a"), vec![(name("ab"), name("3"))]);
    let long = Bytes::from(vec![b'x'; store::limits::SETTING_NAME_BYTES_MAX + 1]);
    assert!(store.set_settings([(long, Some(name("1")))]).is_err());
}

#[test]
fn a_collection_that_is_no_longer_logged_does_not_come_back() {
    let dir = Dir::new();
    let (store, disk) = open(&dir.0).expect("opens");
    let events = store.collection("/registry/events/", config(Durability::Fsync));
    put(&events, "old", "1");
    store.collection("/registry/events/", config(Durability::Memory));
    let pods = store.collection("/registry/pods/", config(Durability::Memory));
    put(&pods, "kept", "1");
    // And the other way: what was in memory only is put on record.
    store.collection("/registry/pods/", config(Durability::Fsync));
    put(&pods, "after", "2");
    drop(disk);
    let (store, _disk) = open(&dir.0).expect("opens again");
    let keys: Vec<Bytes> = contents(&store).into_keys().collect();
    assert_eq!(keys, ["/registry/pods/after", "/registry/pods/kept"]);
    store.check().expect("sound");
}

/// Writes `count` keys, each its own synced frame, and ends without a word.
fn small_log(dir: &Dir, count: usize) -> (PathBuf, Vec<u8>) {
    let (store, disk) = open(&dir.0).expect("opens");
    let pods = store.collection("/registry/pods/", config(Durability::Fsync));
    for number in 0..count {
        put(&pods, &format!("k{number}"), &format!("v{number}"));
    }
    drop(disk);
    let path = dir.segments().pop().expect("a segment");
    let bytes = std::fs::read(&path).expect("readable");
    (path, bytes)
}

/// Where the frames of a segment begin, and where it ends.
fn frame_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![28];
    while let Some(len) = starts.last().and_then(|at| bytes.get(*at..at + 4)) {
        let len = u32::from_le_bytes(len.try_into().expect("four bytes"));
        starts.push(starts[starts.len() - 1] + 24 + len as usize);
    }
    starts
}

/// Puts the directory back to one segment of these bytes.
fn reset(dir: &Dir, path: &Path, bytes: &[u8]) {
    for segment in dir.segments() {
        std::fs::remove_file(segment).expect("removable");
    }
    std::fs::write(path, bytes).expect("writable");
}

#[test]
fn a_log_cut_anywhere_keeps_every_whole_frame() {
    let dir = Dir::new();
    let (path, bytes) = small_log(&dir, 4);
    let starts = frame_starts(&bytes);
    assert_eq!(starts.last(), Some(&bytes.len()));
    for cut in 28..=bytes.len() {
        reset(&dir, &path, &bytes[..cut]);
        let (store, disk) = open(&dir.0).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        // The first frame is the reserved stretch, then one frame a key.
        let whole = starts
            .iter()
            .filter(|start| **start > 28 && **start <= cut)
            .count();
        assert_eq!(
            contents(&store).len(),
            whole.saturating_sub(1),
            "cut at {cut}"
        );
        let start = starts.iter().filter(|start| **start <= cut).max();
        let rest = &bytes[*start.expect("the first")..cut];
        // Zeros at the end are room that was made ahead.
        let torn = rest
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        assert_eq!(disk.recovered().torn_bytes, torn as u64, "cut at {cut}");
        if whole > 0 {
            assert!(store.applied().0 >= 10_000_000);
        }
    }
}

#[test]
fn room_made_ahead_is_neither_a_torn_tail_nor_damage() {
    let dir = Dir::new();
    let (path, bytes) = small_log(&dir, 4);
    let starts = frame_starts(&bytes);
    let with_room = |bytes: &[u8]| [bytes, &[0; 3000]].concat();
    for cut in 28..=bytes.len() {
        reset(&dir, &path, &with_room(&bytes[..cut]));
        let (store, disk) = open(&dir.0).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let whole = starts
            .iter()
            .filter(|start| **start > 28 && **start <= cut)
            .count();
        let found = contents(&store).len();
        // Where a frame ended in zeros anyway, it is whole again.
        let expected = whole.saturating_sub(1);
        assert!(found == expected || found == expected + 1, "cut at {cut}");
        let is_whole = starts.contains(&cut);
        assert!(
            !is_whole || disk.recovered().torn_bytes == 0,
            "cut at {cut}"
        );
    }
    // A frame that later ones say was kept is missed, even where only zeros are left of it.
    let mut holed = with_room(&bytes);
    holed[starts[2]..starts[3]].fill(0);
    reset(&dir, &path, &holed);
    assert!(matches!(open(&dir.0), Err(WalError::Damaged { .. })));
    assert_eq!(std::fs::read(&path).expect("still there"), holed);
    // And so is the end of a segment that another one follows.
    reset(&dir, &path, &bytes);
    drop(open(&dir.0).expect("opens: a second segment"));
    let last = starts[starts.len() - 2];
    let mut ended = with_room(&bytes);
    ended[last..].fill(0);
    std::fs::write(&path, &ended).expect("writable");
    assert!(matches!(open(&dir.0), Err(WalError::Damaged { .. })));
}

#[test]
fn a_segment_in_use_has_room_ahead_and_a_closed_one_has_none() {
    let dir = Dir::new();
    let (store, disk) = open(&dir.0).expect("opens");
    let pods = store.collection("/registry/pods/", config(Durability::Fsync));
    put(&pods, "a", "1");
    let len = |path: &PathBuf| std::fs::metadata(path).expect("there").len();
    assert_eq!(len(&dir.segments()[0]), 4096);
    assert_eq!(len(&dir.0.join("RESERVE")), 16 << 10);
    drop(disk);
    assert!(len(&dir.segments()[0]) < 300);
}

#[test]
fn a_flipped_bit_is_a_torn_tail_or_damage_but_never_believed() {
    let dir = Dir::new();
    let (path, bytes) = small_log(&dir, 3);
    let starts = frame_starts(&bytes);
    let last = starts[starts.len() - 2];
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        reset(&dir, &path, &flipped);
        match open(&dir.0) {
            Ok((store, disk)) => {
                assert!(at >= last, "a flip at {at} went unnoticed");
                assert_eq!(contents(&store).len(), 2);
                assert_eq!(disk.recovered().torn_bytes, (bytes.len() - last) as u64);
            }
            Err(WalError::Damaged { .. }) => {
                assert!(
                    at < last,
                    "a flip at {at} in the last frame may be a torn write"
                );
                assert_eq!(std::fs::read(&path).expect("still there"), flipped);
                assert_eq!(dir.segments().len(), 1);
            }
            Err(other) => panic!("a flip at {at}: {other}"),
        }
    }
}

#[test]
fn damage_in_an_older_segment_and_missing_files_are_errors() {
    let dir = Dir::new();
    let (first, bytes) = small_log(&dir, 2);
    drop(open(&dir.0).expect("opens: a second segment"));
    assert_eq!(dir.segments().len(), 2);
    std::fs::write(&first, &bytes[..bytes.len() - 1]).expect("writable");
    assert!(matches!(open(&dir.0), Err(WalError::Damaged { .. })));
    std::fs::remove_file(&first).expect("removable");
    assert!(matches!(open(&dir.0), Err(WalError::Missing { .. })));
    std::fs::write(&first, &bytes).expect("writable");
    assert_eq!(contents(&open(&dir.0).expect("opens").0).len(), 2);
}

#[test]
fn a_directory_belongs_to_one_process_and_one_format() {
    let dir = Dir::new();
    let (_store, disk) = open(&dir.0).expect("opens");
    assert!(matches!(open(&dir.0), Err(WalError::InUse { .. })));
    drop(disk);
    std::fs::write(dir.0.join("FORMAT"), "megaplane-wal 1\n").expect("writable");
    let error = open(&dir.0).expect_err("another format");
    for format in ["megaplane-wal 1", "megaplane-wal 2"] {
        assert!(error.to_string().contains(format), "{error}");
    }
    std::fs::remove_file(dir.0.join("FORMAT")).expect("removable");
    assert!(matches!(open(&dir.0), Err(WalError::Missing { .. })));
}

#[test]
fn a_lost_log_is_told_from_a_first_start_that_was_cut_short() {
    let dir = Dir::new();
    drop(open(&dir.0).expect("opens"));
    for segment in dir.segments() {
        std::fs::remove_file(segment).expect("removable");
    }
    assert!(matches!(open(&dir.0), Err(WalError::Missing { .. })));
    // What a crash leaves before the first segment is there.
    std::fs::write(dir.0.join("FORMAT"), "megaplane-wal 2 starting\n").expect("writable");
    drop(open(&dir.0).expect("begins again"));
    let format = std::fs::read_to_string(dir.0.join("FORMAT")).expect("readable");
    assert_eq!(format, "megaplane-wal 2\n");
}

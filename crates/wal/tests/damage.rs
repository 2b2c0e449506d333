//! A bit of any file is turned over: the start names the file, or what is there is exactly what was written, up to the
//! last frame of the log at most. Never another value.
//!
//! Single segments are in `directory.rs`; here is a directory with everything in it: a snapshot, segments that are
//! closed, the one that was written last, and what a clean end keeps.

use bytes::Bytes;
use kv::{Durability, LeaseId, Revision};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use store::{Change, CollectionConfig, Precondition, Store, StoreConfig};
use wal::{Disk, FaultyFiles, Options, WalError};

const DIR: &str = "/data";
const PATIENCE: Duration = Duration::from_secs(20);

type Contents = BTreeMap<(Bytes, Bytes), Bytes>;

fn open(medium: &FaultyFiles) -> Result<(Arc<Store>, Disk), WalError> {
    let store = Arc::new(Store::new(StoreConfig {
        log: true,
        ..StoreConfig::default()
    }));
    let options = Options {
        segment_bytes: 2 << 10,
        snapshot_log_bytes: 1 << 30,
        allocate_bytes: 512,
        reserve_bytes: 1 << 10,
        reserve_revisions: 100_000,
        ..Options::default()
    };
    let disk = Disk::open_on(
        Arc::new(medium.clone()),
        Path::new(DIR),
        store.clone(),
        options,
    )?;
    Ok((store, disk))
}

fn put(store: &Store, prefix: &str, durability: Durability, key: &str, value: &str) {
    let config = CollectionConfig {
        durability,
        ..CollectionConfig::default()
    };
    let collection = store.collection(prefix, config);
    let change = Change::Put {
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease: LeaseId::NONE,
        tags: &[],
    };
    let written = collection.write(key.as_bytes(), Precondition::Any, change);
    kept(store, prefix, written.unwrap().revision);
}

/// Each write is a frame of its own.
fn kept(store: &Store, prefix: &str, revision: Revision) {
    let collection = store.existing(prefix.as_bytes()).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let begun = Instant::now();
    while collection.poll_visible(revision, &mut cx).is_pending() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

fn contents(store: &Store) -> Contents {
    let mut all = Contents::new();
    for collection in store.collections() {
        for number in 0..KEYS {
            let key = format!("k{number}");
            if let Some(record) = collection.get(key.as_bytes()) {
                all.insert((collection.prefix().clone(), key.into()), record.value);
            }
        }
    }
    all
}

const KEYS: usize = 6;
const PODS: &str = "/registry/pods/";
const HEARTBEATS: &str = "/registry/heartbeats/";

/// A directory as a clean end leaves it, and the states it went through, the last one last.
fn directory() -> (FaultyFiles, Vec<Contents>) {
    let medium = FaultyFiles::new(3);
    let (store, disk) = open(&medium).unwrap();
    let mut states = Vec::new();
    let mut number = 0;
    let mut write = |store: &Store, times: usize| {
        for _ in 0..times {
            let value = format!("{number} {}", "v".repeat(number * 13 % 90));
            put(
                store,
                PODS,
                Durability::Fsync,
                &format!("k{}", number % KEYS),
                &value,
            );
            number += 1;
            states.push(contents(store));
        }
    };
    put(&store, HEARTBEATS, Durability::Memory, "k1", "alive");
    write(&store, 20);
    disk.snapshot_soon();
    while disk.snapshots_done() == 0 {
        assert!(store.failure().is_none());
        std::thread::yield_now();
    }
    // Over more than one segment.
    write(&store, 60);
    disk.close().unwrap();
    (medium, states)
}

#[test]
fn a_bit_turned_over_in_any_file_is_told_or_changes_nothing_but_the_end() {
    let (medium, states) = directory();
    let names = medium.names();
    let of_kind = |end: &str| {
        let own = |name: &&PathBuf| name.extension().is_some_and(|found| found == end);
        names.iter().filter(own).count()
    };
    assert!(of_kind("seg") >= 3 && of_kind("snap") == 2, "{names:?}");
    let last_segment = names
        .iter()
        .rfind(|name| name.extension().is_some_and(|end| end == "seg"));
    let whole = states.last().unwrap();
    let (mut told, mut unharmed) = (0, 0);
    for name in &names {
        let len = medium.bytes_of(name).unwrap().len();
        // The reserve and the lock hold nothing.
        // Of the format, it is the directory that is named.
        let named = if name.ends_with("FORMAT") {
            Path::new(DIR)
        } else {
            name.as_path()
        };
        let holds_nothing = name.ends_with("RESERVE") || name.ends_with("LOCK");
        for at in (0..len).step_by(if holds_nothing { 97 } else { 1 }) {
            // A copy: opening changes what it opens.
            let copy = medium.after_crash(1);
            assert!(copy.flip(name, at, u32::try_from(at % 8).unwrap()));
            let place = || format!("bit {} of byte {at} of {}", at % 8, name.display());
            match open(&copy) {
                Ok((store, disk)) => {
                    store
                        .check()
                        .unwrap_or_else(|wrong| panic!("{}: {wrong}", place()));
                    let found = contents(&store);
                    let pods: Contents = logged(&found);
                    let is_end = Some(name) == last_segment;
                    let allowed = if is_end {
                        states.len() - 2
                    } else {
                        states.len() - 1
                    };
                    let is_one = states[allowed..].iter().any(|state| logged(state) == pods);
                    assert!(is_one, "{}: {found:?}", place());
                    assert!(found == *whole || is_end || holds_nothing, "{}", place());
                    unharmed += 1;
                    drop(disk);
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(
                        text.contains(&named.display().to_string()),
                        "{}: {text}",
                        place()
                    );
                    assert!(!holds_nothing, "{}: {text}", place());
                    told += 1;
                }
            }
        }
    }
    assert!(
        told > 3_000 && unharmed > 20,
        "{told} told, {unharmed} unharmed"
    );
}

fn logged(all: &Contents) -> Contents {
    let own = all.iter().filter(|((prefix, _), _)| prefix == PODS);
    own.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

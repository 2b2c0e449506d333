//! Killed at any moment, every acknowledged write is there and no revision is given out twice.
//!
//! The parent starts this same test program as a child that writes and prints what was
//! acknowledged, kills it, and starts the next on what is left. `CRASH_ROUNDS` sets how often.

use bytes::Bytes;
use kv::{Durability, LeaseId, Revision};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use store::{Change, Collection, CollectionConfig, Precondition, Store, StoreConfig};
use wal::{Disk, Options};

const CHILD: &str = "WAL_CRASH_CHILD_DIR";
const CLASSES: [(&str, Durability); 3] = [
    ("/registry/pods/", Durability::Fsync),
    ("/registry/events/", Durability::Buffered),
    ("/registry/leases/", Durability::Memory),
];

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn open(dir: &Path) -> (Arc<Store>, Disk) {
    let store = Arc::new(Store::new(StoreConfig {
        log: true,
        ..StoreConfig::default()
    }));
    let options = Options {
        segment_bytes: 64 << 10,
        snapshot_log_bytes: 200 << 10,
        allocate_bytes: 16 << 10,
        reserve_bytes: 32 << 10,
        ..Options::default()
    };
    let disk = Disk::open(dir, store.clone(), options).expect("opens after a crash");
    (store, disk)
}

fn collection(store: &Store, index: usize) -> Arc<Collection> {
    let (prefix, durability) = CLASSES[index];
    store.collection(
        prefix,
        CollectionConfig {
            durability,
            ..CollectionConfig::default()
        },
    )
}

/// Does nothing by itself: the parent runs it in a process of its own.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let (store, _disk) = open(Path::new(&dir));
    store.check().expect("sound after a crash");
    let writers: Vec<_> = (0..CLASSES.len())
        .map(|index| {
            let collection = collection(&store, index);
            std::thread::spawn(move || write_for_ever(&collection, index))
        })
        .collect();
    for writer in writers {
        writer.join().expect("killed before it ends");
    }
}

fn write_for_ever(collection: &Collection, index: usize) {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    for number in 0_u64.. {
        let key = format!("k{}", number % 50);
        let is_delete = number % 7 == 3;
        let value = Bytes::from(format!("{number} {:200}", ""));
        let change = match is_delete {
            true => Change::Delete,
            false => Change::Put {
                value,
                lease: LeaseId::NONE,
                tags: &[],
            },
        };
        let shown = if is_delete { -1 } else { number.cast_signed() };
        say(&format!("try {index} {key} 0 {shown}\n"));
        let Ok(written) = collection.write(key.as_bytes(), Precondition::Any, change) else {
            continue;
        };
        let mut cx = Context::from_waker(&waker);
        while collection.poll_visible(written.revision, &mut cx) == Poll::Pending {
            std::thread::park();
        }
        say(&format!("ack {index} {key} {} {shown}\n", written.revision));
    }
}

/// One write a line: a kill leaves at most one half line.
fn say(line: &str) {
    std::io::stdout()
        .lock()
        .write_all(line.as_bytes())
        .expect("the parent listens");
}

#[derive(Default)]
struct Expected {
    /// Newest acknowledged change by collection and key: revision, and the number written or -1.
    newest: BTreeMap<(usize, String), (i64, i64)>,
    /// What was last begun after that, and may or may not have happened.
    begun: BTreeMap<(usize, String), i64>,
    last_revision: i64,
}

#[test]
fn acknowledged_writes_survive_kills() {
    let rounds: u64 = std::env::var("CRASH_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(20);
    let dir = std::env::temp_dir().join(format!("wal-crash-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let mut expected = Expected::default();
    for round in 0..rounds {
        run_and_kill(&dir, round, &mut expected);
        verify(&dir, &mut expected);
    }
    assert!(expected.newest.len() > 50, "the children wrote something");
    let _ = std::fs::remove_dir_all(&dir);
}

fn run_and_kill(dir: &Path, round: u64, expected: &mut Expected) {
    let me = std::env::current_exe().expect("a test has a program");
    let mut child = Command::new(me)
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let before = expected.last_revision;
    // Different moments: after so many acknowledgements and so many microseconds.
    let acks = 20 + round * 7919 % 1200;
    let mut seen = 0;
    for line in lines.map_while(Result::ok) {
        let Some(at) = line.find("ack ").or_else(|| line.find("try ")) else {
            continue;
        };
        let fields: Vec<&str> = line[at + 4..].split(' ').collect();
        let [index, key, revision, shown] = fields[..] else {
            continue;
        };
        let (Ok(index), Ok(revision), Ok(shown)) = (
            index.parse::<usize>(),
            revision.parse::<i64>(),
            shown.parse::<i64>(),
        ) else {
            continue;
        };
        let of = (index, key.to_owned());
        if line[at..].starts_with("try") {
            expected.begun.insert(of, shown);
            continue;
        }
        expected.begun.remove(&of);
        assert!(
            revision > before,
            "revision {revision} was given out before the crash at {before}"
        );
        expected.last_revision = expected.last_revision.max(revision);
        let newest = expected.newest.entry(of).or_default();
        *newest = (*newest).max((revision, shown));
        seen += 1;
        if seen == acks {
            std::thread::sleep(Duration::from_micros(round * 1237 % 3000));
            child.kill().expect("killed");
        }
    }
    child.wait().expect("reaped");
    assert!(seen >= acks, "the child ended by itself");
}

fn verify(dir: &Path, expected: &mut Expected) {
    let copy = dir.with_extension("copy");
    let _ = std::fs::remove_dir_all(&copy);
    std::fs::create_dir_all(&copy).expect("creatable");
    for entry in std::fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        std::fs::copy(&path, copy.join(path.file_name().expect("named"))).expect("copied");
    }
    let (store, disk) = open(&copy);
    assert!(!disk.recovered().clean);
    assert!(store.applied() >= Revision(expected.last_revision));
    store.check().expect("sound");
    for ((index, key), (revision, shown)) in &mut expected.newest {
        let (prefix, durability) = CLASSES[*index];
        let found = store
            .existing(prefix.as_bytes())
            .and_then(|c| c.get(key.as_bytes()));
        if durability == Durability::Memory {
            assert!(found.is_none(), "memory does not come back from the dead");
            continue;
        }
        let value = found.as_ref().map(|record| {
            let value = String::from_utf8_lossy(&record.value);
            value
                .split(' ')
                .next()
                .and_then(|number| number.parse().ok())
                .unwrap_or(-2)
        });
        let value: i64 = value.unwrap_or(-1);
        if expected.begun.remove(&(*index, key.clone())) == Some(value) {
            // It happened, unacknowledged: from now on it must stay.
            *shown = value;
            *revision = found.map_or(*revision, |record| record.mod_revision.0);
            continue;
        }
        assert_eq!(value, *shown, "{prefix}{key} at {revision}");
        if let Some(record) = found {
            assert_eq!(record.mod_revision.0, *revision);
        }
    }
    drop(disk);
    let _ = std::fs::remove_dir_all(&copy);
}

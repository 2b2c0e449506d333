//! What a put costs in time, and what keys and kept revisions cost in memory.
//!
//! `cargo run --release -p store --example micro [keys]`

use bytes::Bytes;
use kv::{Durability, LeaseId, Revision};
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use store::{Change, Collection, CollectionConfig, Interest, Precondition, Store, StoreConfig};

// The allocator of the binary, so that the bytes are those of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE_BYTES: usize = 650;

/// Memory is measured in a process of its own, where nothing was freed before.
const KEPT: &str = "kept";

fn main() {
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    if std::env::args().nth(1).as_deref() == Some(KEPT) {
        return kept_revisions(&value);
    }
    if let Ok(me) = std::env::current_exe() {
        let _ = std::process::Command::new(me).arg(KEPT).status();
    }
    let keys: usize = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    let names: Vec<String> = (0..keys)
        .map(|n| format!("kube-node-lease/node-{n:07}"))
        .collect();
    let config = CollectionConfig {
        durability: Durability::Memory,
        history_bytes_max: 256 << 20,
        ..CollectionConfig::default()
    };
    let store = Store::new(StoreConfig::default());
    let leases = store.collection("/registry/leases/", config);

    let before = resident_bytes();
    let nanos = time(keys, |n| put(&leases, &names[n], &value));
    // The creations' own history is in there, too: 96 bytes a key until it is trimmed.
    let after = resident_bytes();
    println!("create              {nanos:>6.0} ns");
    let data = VALUE_BYTES + names.first().map_or(0, String::len);
    let stats = leases.stats();
    let history = stats.history_bytes as usize / keys;
    println!(
        "a live key          {:>6} B beside key and value (of which {history} B are its creation in the history)",
        (after - before) / keys - data
    );

    let order = shuffled(keys);
    let nanos = time(keys, |n| put(&leases, &names[order[n]], &value));
    println!("put, existing key   {nanos:>6.0} ns (random order, history within 256 MiB)");
    let nanos = time(keys, |n| put(&leases, &names[order[n % 1000]], &value));
    println!("put, 1000 hot keys  {nanos:>6.0} ns");
    let config = CollectionConfig {
        history_bytes_max: 1 << 20,
        ..config
    };
    let small = store.collection("/registry/small/", config);
    let nanos = time(keys, |n| put(&small, &names[n % keys.min(1000)], &value));
    println!("put, all in cache   {nanos:>6.0} ns (1000 keys, history within 1 MiB)");
    let nanos = time(keys, |n| {
        drop(black_box(leases.get(names[order[n]].as_bytes())))
    });
    println!("get, existing key   {nanos:>6.0} ns (random order)");

    lists(&leases, keys);
    watchers(&store, keys.min(1_000_000), &value);
    threads(&store, &names, &value);
}

fn put(collection: &Collection, key: &str, value: &Bytes) {
    put_tagged(collection, key, value, &[]);
}

fn put_tagged(collection: &Collection, key: &str, value: &Bytes, tags: &[u64]) {
    let change = Change::Put {
        value: value.clone(),
        lease: LeaseId::NONE,
        tags,
    };
    let written = collection.write(key.as_bytes(), Precondition::Any, change);
    black_box(written.is_ok());
}

fn kept_revisions(value: &Bytes) {
    const REVISIONS: usize = 500_000;
    let config = CollectionConfig {
        durability: Durability::Memory,
        keep_until_compacted: true,
        ..CollectionConfig::default()
    };
    let store = Store::new(StoreConfig::default());
    let pods = store.collection("/registry/pods/", config);
    put(&pods, "a", value);
    let before = resident_bytes();
    time(REVISIONS, |n| {
        put(&pods, if n % 2 == 0 { "a" } else { "b" }, value)
    });
    let each = (resident_bytes() - before) / REVISIONS;
    println!(
        "a kept revision     {:>6} B beside its value",
        each - VALUE_BYTES
    );
    let compacted = store.compact(store.applied());
    let nanos = time(REVISIONS / 250, |_| _ = black_box(store.step(0, 250))) / 250.0;
    println!(
        "trim a revision     {nanos:>6.0} ns ({})",
        compacted.is_ok()
    );
}

fn lists(leases: &Collection, keys: usize) {
    let at = leases.revision();
    let start = cpu_nanos();
    let (mut rows, mut from, mut count) = (Vec::new(), Some(Bytes::new()), 0);
    while let Some(key) = from {
        rows.clear();
        let Ok(more) = leases.list(&key, None, at, 500, &mut rows) else {
            break;
        };
        count += rows.len();
        from = more.next;
    }
    let nanos = (cpu_nanos() - start) as f64 / count.max(1) as f64;
    println!("list, per key       {nanos:>6.0} ns ({count} of {keys} keys, pages of 500)");
    let nanos = time(100_000, |_| _ = black_box(leases.count(b"k", None, at)));
    println!("count all           {nanos:>6.0} ns");
}

fn watchers(store: &Store, watchers: usize, value: &Bytes) {
    let config = CollectionConfig {
        durability: Durability::Memory,
        ..CollectionConfig::default()
    };
    let pods = store.collection("/registry/pods/", config);
    let mut cx = Context::from_waker(Waker::noop());
    let before = resident_bytes();
    let mut open: Vec<_> = (0..watchers)
        .filter_map(|n| pods.watch(store.applied(), Interest::Tag(n as u64)).ok())
        .collect();
    let mut items = Vec::new();
    for watcher in &mut open {
        let _ = watcher.poll_next(&mut cx, 10, &mut items);
    }
    let each = (resident_bytes().saturating_sub(before)) / watchers.max(1);
    println!("an idle watcher     {each:>6} B ({watchers} by tag)");
    let mut delivered = 0;
    let nanos = time(200_000, |n| {
        let tag = n * 7919 % watchers;
        put_tagged(&pods, "default/web", value, &[tag as u64]);
        items.clear();
        if let Some(watcher) = open.get_mut(tag)
            && let Poll::Ready(Ok(_)) = watcher.poll_next(&mut cx, 10, &mut items)
        {
            delivered += items.len();
        }
    });
    println!("put, wake, deliver  {nanos:>6.0} ns ({delivered} events, one watcher of {watchers})");
}

fn threads(store: &Store, names: &[String], value: &Bytes) {
    let config = CollectionConfig {
        durability: Durability::Memory,
        ..CollectionConfig::default()
    };
    let collections: Vec<Arc<Collection>> = (0..2)
        .map(|n| store.collection(&format!("/registry/kind{n}/"), config))
        .collect();
    let each = names.len().min(500_000);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for collection in &collections {
            scope.spawn(move || {
                names
                    .iter()
                    .take(each)
                    .for_each(|name| put(collection, name, value))
            });
        }
    });
    let rate = 2.0 * each as f64 / start.elapsed().as_secs_f64();
    println!("two collections     {rate:>6.0} creates/s from two threads");
    assert!(store.applied() > Revision(1));
}

fn time(count: usize, mut work: impl FnMut(usize)) -> f64 {
    let start = cpu_nanos();
    (0..count).for_each(&mut work);
    (cpu_nanos() - start) as f64 / count as f64
}

/// Time this thread has had a processor: other work on the machine does not count.
fn cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|nanos| nanos.parse().ok())
        .unwrap_or(0)
}

/// A fixed order without pattern.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 1_u64;
    for at in (1..count).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
    order
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

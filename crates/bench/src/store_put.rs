//! `store-put`: what a put of an existing key costs in the store alone, and what a key weighs.
//!
//! The puts compare the revision, as the API server's do. With watchers, the five events are delivered in the same
//! thread and counted in; draining after every put wakes all five each time, draining after 64 is how busy ones read.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use kv::{Durability, LeaseId, Revision};
use store::{
    Change, Collection, CollectionConfig, Interest, Precondition, Store, StoreConfig, Watcher,
};

use crate::Options;
use crate::measure::{Samples, Spent, resident_bytes};
use crate::progress::Progress;
use crate::report::Report;
use crate::workload::scattered;

const VALUE_BYTES: usize = 650;
const WATCHERS: usize = 5;
const BATCH: usize = 64;
/// More keys than this change nothing but the memory it takes.
const KEYS_MAX: usize = 1_000_000;
/// Small enough to be full, and so in its steady state, after the first round.
const HISTORY_BYTES: u64 = 32 << 20;

pub fn run(options: &Options) -> Result<Report, String> {
    let keys = options.operations.min(KEYS_MAX);
    let operations = options.operations;
    let mut bench = Bench::new(keys)?;
    let key_bytes = bench.create(keys)?;
    let mut progress = Progress::new("puts", operations * (1 + 3 * options.runs));
    bench.put(operations, 0, &mut progress)?;

    let (mut bare, mut each, mut batched, mut rate) =
        <(Samples, Samples, Samples, Samples)>::default();
    for _ in 0..options.runs {
        let spent = bench.put(operations, 0, &mut progress)?;
        bare.push(spent.cpu_nanos_per(operations));
        rate.push(spent.per_second(operations));
        bench.open_watchers()?;
        each.push(
            bench
                .put(operations, 1, &mut progress)?
                .cpu_nanos_per(operations),
        );
        batched.push(
            bench
                .put(operations, BATCH, &mut progress)?
                .cpu_nanos_per(operations),
        );
        bench.watchers.clear();
    }
    Ok(Report::in_memory()
        .count("keys", keys)
        .count("operations", operations)
        .count("value_bytes", VALUE_BYTES)
        .count("watchers", WATCHERS)
        .count("runs", options.runs)
        .main("put_cpu_ns", &bare)
        .median("puts_per_second", &rate)
        .median("put_5_watchers_cpu_ns", &each)
        .median("put_5_watchers_batched_cpu_ns", &batched)
        .number("overhead_bytes_per_key", key_bytes)
        .count("events_delivered", bench.delivered)
        .count(
            "rss_bytes",
            usize::try_from(resident_bytes()).unwrap_or(usize::MAX),
        ))
}

struct Bench {
    collection: Arc<Collection>,
    names: Vec<Box<[u8]>>,
    revisions: Vec<Revision>,
    value: Bytes,
    watchers: Vec<Watcher>,
    delivered: usize,
    turn: usize,
}

impl Bench {
    fn new(keys: usize) -> Result<Bench, String> {
        let store = Store::new(StoreConfig::default());
        let config = CollectionConfig {
            durability: Durability::Memory,
            history_bytes_max: HISTORY_BYTES,
            ..CollectionConfig::default()
        };
        Ok(Bench {
            collection: store.collection("/registry/leases/", config),
            names: (0..keys)
                .map(|n| format!("kube-node-lease/node-{n:07}").into_bytes().into())
                .collect(),
            // Written, not only reserved: its pages are not to count as the keys'.
            revisions: (0..keys).map(|n| Revision(-(n as i64))).collect(),
            value: vec![7; VALUE_BYTES].into(),
            watchers: Vec::new(),
            delivered: 0,
            turn: 0,
        })
    }

    /// Creates the keys; gives what each takes beside its name and its value.
    fn create(&mut self, keys: usize) -> Result<f64, String> {
        let before = resident_bytes();
        for index in 0..keys {
            self.revisions[index] = Revision(0);
            self.write(index)?;
        }
        let taken = resident_bytes().saturating_sub(before) as f64;
        // The creations are still in the history: they are counted where they are, not as part of a key.
        let history = self.collection.stats().history_bytes as f64;
        let data = VALUE_BYTES + self.names.first().map_or(0, |name| name.len());
        Ok((taken - history) / keys as f64 - data as f64)
    }

    fn open_watchers(&mut self) -> Result<(), String> {
        for _ in 0..WATCHERS {
            let watcher = self
                .collection
                .watch(self.collection.revision(), Interest::All);
            self.watchers
                .push(watcher.map_err(|error| error.to_string())?);
        }
        self.drain(&mut Vec::new())
    }

    /// Puts scattered keys; drains the watchers after each `batch` puts.
    fn put(
        &mut self,
        operations: usize,
        batch: usize,
        progress: &mut Progress,
    ) -> Result<Spent, String> {
        let place = scattered(self.names.len());
        let mut spent = Spent::default();
        let mut events = Vec::new();
        spent.on(|| {
            for operation in 1..=operations {
                self.turn += 1;
                self.write(place(self.turn))?;
                if batch > 0 && operation % batch == 0 {
                    self.drain(&mut events)?;
                }
            }
            self.drain(&mut events)
        })?;
        progress.add(operations);
        Ok(spent)
    }

    fn write(&mut self, index: usize) -> Result<(), String> {
        let change = Change::Put {
            value: self.value.clone(),
            lease: LeaseId::NONE,
            tags: &[],
        };
        let condition = Precondition::ModRevision(self.revisions[index]);
        let written = self.collection.write(&self.names[index], condition, change);
        self.revisions[index] = written.map_err(|error| error.to_string())?.revision;
        Ok(())
    }

    fn drain(&mut self, events: &mut Vec<store::WatchItem>) -> Result<(), String> {
        let mut cx = Context::from_waker(Waker::noop());
        for watcher in &mut self.watchers {
            loop {
                match watcher.poll_next(&mut cx, BATCH, events) {
                    Poll::Ready(Ok(_)) => {
                        self.delivered += events.len();
                        events.clear();
                    }
                    Poll::Ready(Err(error)) => return Err(error.to_string()),
                    Poll::Pending => break,
                }
            }
        }
        Ok(())
    }
}

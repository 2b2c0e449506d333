//! `store-memory`: what a key and a kept revision take in the store alone, beside their bytes.
//!
//! Resident memory is what counts, with whatever the allocator rounds up. The store keeps all history, as etcd does.
//! History keeps what differs, so two kinds of revisions are made: values with nothing in common, the worst there is, and
//! values of which eight bytes change, as in a heartbeat.

use kv::{Durability, LeaseId};
use store::{Change, CollectionConfig, Precondition, Store, StoreConfig};

use crate::Options;
use crate::measure::resident_bytes;
use crate::progress::Progress;
use crate::report::Report;
use crate::workload::scattered;

const VALUE_BYTES: usize = 128;
/// Revisions of each key after its first.
const REVISIONS: usize = 2;

pub fn run(options: &Options) -> Result<Report, String> {
    let keys = options.operations;
    let store = Store::new(StoreConfig::default());
    let config = CollectionConfig {
        durability: Durability::Memory,
        keep_until_compacted: true,
        bytes_max: u64::MAX,
        ..CollectionConfig::default()
    };
    let collection = store.collection("/registry/leases/", config);
    let name = |number: usize| format!("kube-node-lease/node-{number:07}").into_bytes();
    let mut progress = Progress::new("puts", keys * (1 + 2 * REVISIONS));
    let mut put = |number: usize, value: Vec<u8>| {
        let change = Change::Put {
            value: value.into(),
            lease: LeaseId::NONE,
            tags: &[],
        };
        let written = collection.write(&name(number), Precondition::Any, change);
        progress.add(1);
        written.map(drop).map_err(|error| error.to_string())
    };
    let start = resident_bytes();
    for number in 0..keys {
        put(number, value(number, 0))?;
    }
    let created = resident_bytes();
    // Each creation is a kept revision, too: what one of those takes is taken off below.
    for round in 1..=REVISIONS {
        let place = scattered(keys);
        for number in 0..keys {
            let number = place(number + round);
            put(number, value(number, round))?;
        }
    }
    let revised = resident_bytes();
    for round in 1..=REVISIONS {
        let place = scattered(keys);
        for number in 0..keys {
            let number = place(number + round);
            let mut beat = value(number, REVISIONS);
            beat[VALUE_BYTES - 8..].copy_from_slice(&(round as u64).to_le_bytes());
            put(number, beat)?;
        }
    }
    let beaten = resident_bytes();
    let per = |bytes: u64, count: usize| bytes as f64 / count as f64;
    let a_revision = per(revised.saturating_sub(created), keys * REVISIONS) - VALUE_BYTES as f64;
    let a_heartbeat = per(beaten.saturating_sub(revised), keys * REVISIONS);
    let a_creation = per(created.saturating_sub(start), keys);
    let a_key = a_creation - (VALUE_BYTES + name(0).len()) as f64;
    Ok(Report::in_memory()
        .count("keys", keys)
        .count("value_bytes", VALUE_BYTES)
        .count("revisions_per_key", 1 + 2 * REVISIONS)
        .number("overhead_bytes_per_key_and_its_creation", a_key)
        .number("overhead_bytes_per_kept_revision", a_revision)
        .number("bytes_per_kept_heartbeat", a_heartbeat)
        .count(
            "rss_bytes",
            usize::try_from(resident_bytes()).unwrap_or(usize::MAX),
        ))
}

/// A value that has nothing in common with another key's or round's.
fn value(number: usize, round: usize) -> Vec<u8> {
    let mut state = (number as u64) << 8 | round as u64 | 1 << 63;
    let mut value = Vec::with_capacity(VALUE_BYTES);
    while value.len() < VALUE_BYTES {
        state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        value.extend_from_slice(&state.to_le_bytes());
    }
    value
}

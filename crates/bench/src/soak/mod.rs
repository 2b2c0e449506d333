//! `soak`: a store on disk under everything at once, for a while: does it stay as large as it was at the beginning?
//!
//! ```text
//!   leases     one in ten expires and takes its key with it, and is granted again; the others are renewed
//!   writers    put over some thousand keys, each waits until its write is on disk: the latencies
//!   watchers   hear every put of the writers
//!   compaction every few seconds, of everything older than that
//! ```
//!
//! In this process, with its log in the temporary folder: memory is that of store, log and load together, without a
//! network. The load itself holds a fixed number of bytes.

mod latency;
mod load;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use store::{CollectionConfig, Store, StoreConfig};
use wal::Disk;

use crate::Options;
use crate::measure::resident_bytes;
use crate::progress::Progress;
use crate::report::Report;
use load::Load;

/// How often memory is looked at, at equal intervals.
const SAMPLES: usize = 10;

/// The largest of the last samples may be so much larger than the largest of the first ones: what an allocator keeps
/// and what a snapshot of the log takes come and go.
const GROWTH_PERCENT_MAX: u64 = 10;

/// What `flat` means, for whoever reads the report.
const FLAT_RULE: &str =
    "the largest of the last 5 samples is at most 10 % above the largest of the first 5";

pub fn run(options: &Options) -> Result<Report, String> {
    let folder = Folder::new()?;
    let store = Arc::new(Store::new(StoreConfig {
        log: true,
        collections: CollectionConfig {
            keep_until_compacted: true,
            ..CollectionConfig::default()
        },
        ..StoreConfig::default()
    }));
    let disk = Disk::open(&folder.0, store.clone(), wal::Options::default());
    let disk = disk.map_err(|error| error.to_string())?;
    let load = Arc::new(Load::new(store.clone(), options.leases));
    load.grant_all()?;
    let crew = load.start(options.duration);
    let begun = Instant::now();
    let (samples, seconds) = look(&load, options.duration, begun);
    load.stop.store(true, Ordering::Release);
    for worker in crew.map_err(|error| error.to_string())? {
        worker.join().map_err(|_| "a part of the load panicked")??;
    }
    let counts = &load.counts;
    let count = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::Acquire);
    let heard_all = load.watchers_heard()?;
    disk.close().map_err(|error| error.to_string())?;
    store.check()?;
    let (first, last) = samples.split_at(SAMPLES / 2);
    let latencies = load.latencies();
    Ok(Report::default()
        .text("durability", "fsync")
        .number("duration_seconds", seconds)
        .count("leases", options.leases)
        .count("leases_held_at_end", load.leases_held())
        .count("lease_expirations", count(&counts.expirations))
        .count("lease_renewals", count(&counts.renewals))
        .count("puts", count(&counts.puts))
        .count("compactions", count(&counts.compactions))
        .count("watch_events", heard_all)
        .counts("rss_bytes", &samples)
        .number("write_p50_us", latencies.micros_below(0.5))
        .number("write_p99_us", latencies.micros_below(0.99))
        .number("write_p99_9_us", latencies.micros_below(0.999))
        .number("write_max_us", latencies.micros_max())
        .flag("flat", is_flat(first, last))
        .text("flat_rule", FLAT_RULE))
}

/// Looks at memory until the time is over; answers the samples and how long it took.
fn look(load: &Load, duration: Duration, begun: Instant) -> (Vec<u64>, f64) {
    let mut progress = Progress::new("seconds", duration.as_secs() as usize);
    let mut samples = Vec::with_capacity(SAMPLES);
    while samples.len() < SAMPLES && !load.has_failed() {
        let next = duration * (samples.len() as u32 + 1) / SAMPLES as u32;
        let left = next.saturating_sub(begun.elapsed());
        std::thread::sleep(left.min(Duration::from_secs(1)));
        progress.set(begun.elapsed().as_secs() as usize);
        if begun.elapsed() >= next {
            samples.push(resident_bytes());
        }
    }
    (samples, begun.elapsed().as_secs_f64())
}

fn is_flat(first: &[u64], last: &[u64]) -> bool {
    let most = |samples: &[u64]| samples.iter().copied().max().unwrap_or(0);
    most(last) <= most(first) / 100 * (100 + GROWTH_PERCENT_MAX)
}

/// A folder of its own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder, String> {
        let path = std::env::temp_dir().join(format!("megaplane-soak-{}", std::process::id()));
        // From a process of the same number that was killed.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).map_err(|error| error.to_string())?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_is_flat_and_beyond_that_is_not() {
        assert!(is_flat(&[900, 1_000], &[1_100, 800]));
        assert!(!is_flat(&[900, 1_000], &[1_101, 800]));
        assert!(is_flat(&[2_000, 1_000], &[1_000]));
    }
}

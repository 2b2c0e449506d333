//! How long the medium takes, for whoever tells figures. Knows no names of metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Where the first bucket ends; each of the others ends at twice the one before.
const FIRST_BOUND_MICROS: u64 = 1_000;
/// Buckets that have an end.
const BUCKETS: usize = 14;

/// Durations, counted in buckets that end at 1 ms, 2 ms, 4 ms … 8.192 s.
#[derive(Debug, Default)]
pub struct Durations {
    counts: [AtomicU64; BUCKETS + 1],
    sum_nanos: AtomicU64,
}

impl Durations {
    /// One more.
    pub fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (0..BUCKETS).find(|bucket| micros <= FIRST_BOUND_MICROS << bucket);
        if let Some(count) = self.counts.get(bucket.unwrap_or(BUCKETS)) {
            count.fetch_add(1, Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Relaxed);
    }

    /// The end of each bucket in seconds, and how many took at most so long; the last has no end.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut sum = 0;
        self.counts.iter().enumerate().map(move |(bucket, count)| {
            sum += count.load(Relaxed);
            let end = match bucket {
                BUCKETS => f64::INFINITY,
                _ => (FIRST_BOUND_MICROS << bucket) as f64 / 1e6,
            };
            (end, sum)
        })
    }

    /// All of them together, in seconds.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_nanos.load(Relaxed) as f64 / 1e9
    }
}

/// What the log has done since it was opened.
#[derive(Debug, Default)]
pub struct Timings {
    /// Syncs of the segment.
    pub syncs: Durations,
    /// Groups of records that had to be on the medium: written and synced.
    pub groups: Durations,
    /// Snapshots of the log that came about.
    pub snapshots: Durations,
    /// Bytes written to segments.
    pub written_bytes: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_its_bucket_and_in_all_after_it() {
        let durations = Durations::default();
        for micros in [0, 1_000, 1_001, 8_192_000, 8_192_001] {
            durations.add(Duration::from_micros(micros));
        }
        let seen: Vec<_> = durations.cumulative().collect();
        assert_eq!(seen.len(), 15);
        assert_eq!(seen[..3], [(0.001, 2), (0.002, 3), (0.004, 3)]);
        assert_eq!(seen[13..], [(8.192, 4), (f64::INFINITY, 5)]);
        assert!((durations.sum_seconds() - 16.386_002).abs() < 1e-9);
    }
}

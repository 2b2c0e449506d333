//! How long requests took, by kind.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Requests of one kind that are kept: at one every 15 ms, four hours.
const KEPT_MAX: usize = 1 << 20;

/// Microseconds of requests.
#[derive(Debug, Default)]
pub struct Latencies(Mutex<BTreeMap<&'static str, Vec<u32>>>);

impl Latencies {
    /// One more request of a kind. Beyond the first million they are not kept.
    pub fn add(&self, kind: &'static str, took: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.entry(kind).or_default();
        if kept.len() < KEPT_MAX {
            kept.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// Begins anew.
    pub fn clear(&self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values_mut().for_each(Vec::clear);
    }

    /// What 50, 90, 99 and 99.9 of 100 stay below, and the worst of each kind, in milliseconds.
    pub fn figures(&self) -> Vec<(&'static str, [(&'static str, f64); 5])> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter(|(_, kept)| !kept.is_empty())
            .map(|(kind, kept)| {
                let mut sorted = kept.clone();
                sorted.sort_unstable();
                let at = |part: usize| {
                    let place = (sorted.len() - 1) * part / 1000;
                    sorted
                        .get(place)
                        .map_or(0.0, |micros| f64::from(*micros) / 1e3)
                };
                let names = [
                    ("p50", 500),
                    ("p90", 900),
                    ("p99", 990),
                    ("p999", 999),
                    ("max", 1000),
                ];
                (*kind, names.map(|(name, part)| (name, at(part))))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_the_kind_and_of_the_time_since_the_beginning() {
        let latencies = Latencies::default();
        latencies.add("get", Duration::from_secs(9));
        latencies.clear();
        assert!(latencies.figures().is_empty());
        for millis in 1..=200 {
            latencies.add("get", Duration::from_millis(millis));
        }
        let figures = latencies.figures();
        assert_eq!(
            figures,
            [(
                "get",
                [
                    ("p50", 100.0),
                    ("p90", 180.0),
                    ("p99", 198.0),
                    ("p999", 199.0),
                    ("max", 200.0)
                ]
            )]
        );
    }
}

//! Many times, and where they lie: the percentiles that reports give.
//!
//! Knows nothing of what took the time.

use std::time::Duration;

use crate::report::Report;

/// Times that are kept: 16 million of four bytes are 64 MiB.
const KEPT_MAX: usize = 16 << 20;

/// Microseconds of many events.
#[derive(Debug, Default, Clone)]
pub struct Spread(Vec<u32>);

impl Spread {
    /// One more. Beyond the first 16 million they are not kept.
    pub fn add(&mut self, took: Duration) {
        if self.0.len() < KEPT_MAX {
            self.0
                .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Milliseconds that such a part of them stays below or at, for each of some parts in ascending order; 0 of none.
    pub fn at<const N: usize>(&self, parts: [f64; N]) -> [f64; N] {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        parts.map(|part| {
            // The smallest value that at least this part of all does not exceed.
            let place = (part * sorted.len() as f64).ceil() as usize;
            let micros = sorted.get(place.saturating_sub(1)).or(sorted.last());
            micros.map_or(0.0, |micros| f64::from(*micros) / 1e3)
        })
    }

    /// Adds the median, what 99 of 100 and 999 of 1,000 stay below, and the worst.
    pub fn report(&self, report: Report, name: &str) -> Report {
        let [p50, p99, p999, max] = self.at([0.5, 0.99, 0.999, 1.0]);
        report
            .named_number(format!("{name}_p50_ms"), p50)
            .named_number(format!("{name}_p99_ms"), p99)
            .named_number(format!("{name}_p999_ms"), p999)
            .named_number(format!("{name}_max_ms"), max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut spread = Spread::default();
        assert_eq!(spread.at([0.5, 1.0]), [0.0, 0.0]);
        for millis in (1..=1_000).rev() {
            spread.add(Duration::from_millis(millis));
        }
        assert_eq!(
            spread.at([0.0, 0.5, 0.99, 0.999, 1.0]),
            [1.0, 500.0, 990.0, 999.0, 1_000.0]
        );
        assert_eq!(spread.len(), 1_000);
    }
}

//! Latencies in a fixed number of bytes: counted by size, each size a sixteenth of a power of two.

/// Sizes a power of two has.
const STEPS: usize = 16;
/// Up to 2^40 ns, 18 minutes.
const POWERS: usize = 40;

/// How many were how long.
#[derive(Clone, Debug)]
pub struct Latencies {
    counts: Vec<u64>,
    max_nanos: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies {
            counts: vec![0; STEPS * POWERS],
            max_nanos: 0,
        }
    }
}

/// Which size this is.
fn size(nanos: u64) -> usize {
    let nanos = nanos.max(STEPS as u64);
    let power = nanos.ilog2() as usize;
    let step = (nanos >> (power - 4)) as usize - STEPS;
    (power * STEPS + step).min(STEPS * POWERS - 1)
}

/// Where the size above begins.
fn end_nanos(size: usize) -> u64 {
    let (power, step) = (size / STEPS, size % STEPS);
    ((STEPS + step + 1) as u64) << power.saturating_sub(4)
}

impl Latencies {
    /// One more.
    pub fn add(&mut self, nanos: u64) {
        self.max_nanos = self.max_nanos.max(nanos);
        if let Some(count) = self.counts.get_mut(size(nanos)) {
            *count += 1;
        }
    }

    /// All of another.
    pub fn add_all(&mut self, other: &Latencies) {
        self.max_nanos = self.max_nanos.max(other.max_nanos);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// Microseconds that this part of them stayed below, to a sixteenth.
    pub fn micros_below(&self, part: f64) -> f64 {
        let all: u64 = self.counts.iter().sum();
        let wanted = (all as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (size, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return end_nanos(size).min(self.max_nanos) as f64 / 1e3;
            }
        }
        0.0
    }

    /// The longest, in microseconds.
    pub fn micros_max(&self) -> f64 {
        self.max_nanos as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_within_a_sixteenth_of_its_size() {
        for nanos in [16, 17, 1_000, 123_456, 1 << 30, 999_999_999_999] {
            let end = end_nanos(size(nanos));
            assert!(
                end > nanos && end - nanos <= nanos / 16 + 1,
                "{nanos}: {end}"
            );
        }
    }

    #[test]
    fn parts_are_counted_from_below() {
        let mut one = Latencies::default();
        (0..99).for_each(|_| one.add(1_000));
        let mut other = Latencies::default();
        other.add(1_000_000);
        one.add_all(&other);
        assert!(one.micros_below(0.5) < 1.1 && one.micros_below(0.99) < 1.1);
        assert_eq!(one.micros_below(1.0), 1_000.0);
        assert_eq!(one.micros_max(), 1_000.0);
        assert_eq!(Latencies::default().micros_below(0.5), 0.0);
    }
}

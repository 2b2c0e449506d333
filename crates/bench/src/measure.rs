//! Clocks, memory and the facts of the machine that a figure is worth nothing without.
//!
//! Knows nothing of what is measured.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use value::{Value, json};

/// Repetitions stop being worth their time after this.
const REPEAT_TIME_MAX: Duration = Duration::from_secs(20);

/// Processor time of this thread.
pub fn thread_cpu_nanos() -> u64 {
    nanos(ClockId::ThreadCPUTime)
}

/// Processor time of all threads of the process.
pub fn process_cpu_nanos() -> u64 {
    nanos(ClockId::ProcessCPUTime)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Wall time and processor time of the process, gathered over stretches of work.
#[derive(Debug, Default, Clone, Copy)]
pub struct Spent {
    /// Wall time.
    pub wall: Duration,
    /// Processor time of all threads.
    pub cpu_nanos: u64,
}

impl Spent {
    /// Times one stretch of work.
    pub fn on<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (begun, cpu) = (Instant::now(), process_cpu_nanos());
        let result = work();
        self.add_since(begun, cpu);
        result
    }

    /// Adds what has passed since these marks.
    pub fn add_since(&mut self, begun: Instant, cpu_nanos: u64) {
        self.wall += begun.elapsed();
        self.cpu_nanos += process_cpu_nanos().saturating_sub(cpu_nanos);
    }

    /// Processor time of one of `count` operations, in nanoseconds.
    pub fn cpu_nanos_per(&self, count: usize) -> f64 {
        self.cpu_nanos as f64 / count.max(1) as f64
    }

    /// Wall time of one of `count` operations, in nanoseconds.
    pub fn wall_nanos_per(&self, count: usize) -> f64 {
        self.wall.as_nanos() as f64 / count.max(1) as f64
    }

    /// Operations in a second of wall time.
    pub fn per_second(&self, count: usize) -> f64 {
        count as f64 / self.wall.as_secs_f64().max(1e-9)
    }
}

/// Resident memory of the process.
pub fn resident_bytes() -> u64 {
    apiserver::metrics::resident_bytes()
}

/// What runs of one measurement gave.
#[derive(Debug, Default, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// One more run.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one; of an even number the mean of both in the middle; 0 of none.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
        match (sorted.get(low), sorted.get(high)) {
            (Some(low), Some(high)) => (low + high) / 2.0,
            _ => 0.0,
        }
    }

    /// Smallest and largest.
    pub fn range(&self) -> (f64, f64) {
        let low = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (low, high)
    }
}

/// Runs `work` up to `runs` times, fewer if that takes long, and gives what each run gave.
pub fn repeat<T>(
    runs: usize,
    mut work: impl FnMut() -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let begun = Instant::now();
    let mut results = vec![work()?];
    while results.len() < runs && begun.elapsed() < REPEAT_TIME_MAX {
        results.push(work()?);
    }
    Ok(results)
}

/// The facts of the machine and of this binary.
pub fn machine() -> Value {
    json!({
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "cpu_model": line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into()),
        "memory_bytes": memory_bytes(),
        "architecture": std::env::consts::ARCH,
        "version": env!("CARGO_PKG_VERSION"),
        "optimized": !cfg!(debug_assertions),
    })
}

/// Load averages over 1, 5 and 15 minutes.
pub fn load_average() -> [f64; 3] {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut numbers = text
        .split_whitespace()
        .map(|number| number.parse().unwrap_or(0.0));
    [0; 3].map(|_| numbers.next().unwrap_or(0.0))
}

fn memory_bytes() -> u64 {
    let kib = line_of("/proc/meminfo", "MemTotal").unwrap_or_default();
    kib.split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Memory that could be had now.
pub fn available_bytes() -> u64 {
    let kib = line_of("/proc/meminfo", "MemAvailable").unwrap_or_default();
    let kib = kib
        .split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib * 1024)
}

/// What stands behind the colon of a line.
fn line_of(path: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_what_was_measured() {
        let of = |values: &[f64]| Samples(values.to_vec()).median();
        assert_eq!(of(&[]), 0.0);
        assert_eq!(of(&[3.0]), 3.0);
        assert_eq!(of(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(of(&[4.0, 1.0, 2.0, 100.0]), 3.0);
        assert_eq!(Samples(vec![2.0, 1.0, 5.0]).range(), (1.0, 5.0));
    }

    #[test]
    fn at_least_one_run_is_made_and_an_error_ends_them() {
        assert_eq!(repeat(0, || Ok(1)).unwrap(), [1]);
        assert_eq!(repeat(3, || Ok(1)).unwrap(), [1, 1, 1]);
        assert_eq!(repeat::<()>(3, || Err("no".into())), Err("no".into()));
    }

    #[test]
    fn work_takes_processor_time_of_its_thread_and_of_the_process() {
        let (thread, process) = (thread_cpu_nanos(), process_cpu_nanos());
        std::hint::black_box((0..1_000_000u64).fold(0, |sum, n| sum ^ std::hint::black_box(n)));
        assert!(thread_cpu_nanos() > thread);
        assert!(process_cpu_nanos() > process);
        assert!(resident_bytes() > 0);
    }
}

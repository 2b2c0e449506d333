//! What a long run looks like while it goes on, and what is left of that for a plot: one sample a second.
//!
//! ```text
//!   sampler thread ── Reading ──► Board ──► live lines on a terminal, or a line every ten seconds
//!   story ── begin, set, end ──────┘   └──► samples and stretches, for plot.rs
//! ```
//!
//! Writes to standard error only. Knows no cluster: somebody reads the counters and hands them in.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time between two samples.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a line is printed where there is no terminal.
const PRINT_INTERVAL: Duration = Duration::from_secs(10);
/// Samples that are kept, 64 bytes each: past two hours every second one goes, and half as many come.
const SAMPLES_MAX: usize = 8_192;
const BAR_COLUMNS: usize = 24;

/// Counters as they are now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    /// Renewals that succeeded, ever.
    pub renewals: u64,
    /// Writes that took a revision, ever.
    pub writes: u64,
    /// The latest renewal since the last reading.
    pub late_millis: u64,
    /// Processor time of the process, ever.
    pub cpu_nanos: u64,
    pub resident_bytes: u64,
}

/// Figures of one second, or of a few in a long run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sample {
    /// Seconds since the run began.
    pub at: f64,
    /// Of what the stretch is about: nodes, pods.
    pub done_per_second: f64,
    pub renewals_per_second: f64,
    pub writes_per_second: f64,
    pub late_seconds: f64,
    pub cores: f64,
    pub resident_gib: f64,
}

/// One stretch of the story, in seconds since the run began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    pub name: &'static str,
    pub begun: f64,
    /// None while it goes on.
    pub ended: Option<f64>,
}

/// Everything about one run.
pub struct Board {
    title: String,
    begun: Instant,
    is_terminal: bool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    samples: Vec<Sample>,
    stretches: Vec<Stretch>,
    done: usize,
    wanted: usize,
    /// The latest renewal since the stretch began.
    late_max_seconds: f64,
    /// Readings to a sample.
    every: usize,
    readings: usize,
    last: Option<(f64, Reading, usize)>,
    late_pending_millis: u64,
    printed: f64,
    lines_shown: usize,
}

impl Board {
    pub fn new(title: String) -> Board {
        Board {
            title,
            begun: Instant::now(),
            is_terminal: std::io::stderr().is_terminal(),
            inner: Mutex::new(Inner {
                every: 1,
                ..Inner::default()
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// A stretch begins, in which so much is to be done. One that goes on ends.
    pub fn begin(&self, name: &'static str, wanted: usize) {
        let now = self.now();
        let mut inner = self.lock();
        inner.end(now);
        inner.stretches.push(Stretch {
            name,
            begun: now,
            ended: None,
        });
        (inner.done, inner.wanted, inner.late_max_seconds) = (0, wanted, 0.0);
        if let Some(last) = &mut inner.last {
            last.2 = 0;
        }
    }

    /// So much of it is done.
    pub fn set(&self, done: usize) {
        self.lock().done = done;
    }

    pub fn end(&self) {
        let now = self.now();
        self.lock().end(now);
    }

    /// The latest renewal of this stretch, as far as samples tell.
    pub fn late_max_seconds(&self) -> f64 {
        self.lock().late_max_seconds
    }

    /// How many samples there are, and the last.
    pub fn latest(&self) -> (usize, Sample) {
        let inner = self.lock();
        (
            inner.readings,
            inner.samples.last().copied().unwrap_or_default(),
        )
    }

    /// All that a plot needs.
    pub fn story(&self) -> (Vec<Sample>, Vec<Stretch>) {
        let inner = self.lock();
        (inner.samples.clone(), inner.stretches.clone())
    }

    /// Takes in what the counters say now, and shows it.
    pub fn sample(&self, reading: Reading) {
        let now = self.now();
        let mut inner = self.lock();
        inner.take(now, reading);
        if inner
            .stretches
            .last()
            .is_none_or(|last| last.ended.is_some())
        {
            return;
        }
        let text = if self.is_terminal {
            let lines = lines(&self.title, &inner, now);
            let mut text = up(inner.lines_shown);
            inner.lines_shown = lines.len();
            lines.iter().for_each(|line| {
                let _ = writeln!(text, "{line}");
            });
            text
        } else if now - inner.printed >= PRINT_INTERVAL.as_secs_f64() {
            inner.printed = now;
            format!("{}\n", line(&inner, now))
        } else {
            return;
        };
        // A terminal that went away is no failure of the benchmark.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// Takes the live lines away, so that a report can follow.
    pub fn clear(&self) {
        let mut inner = self.lock();
        let text = up(std::mem::take(&mut inner.lines_shown));
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Inner {
    fn end(&mut self, now: f64) {
        if let Some(last) = self.stretches.last_mut() {
            last.ended.get_or_insert(now);
        }
    }

    fn take(&mut self, now: f64, reading: Reading) {
        let late = reading.late_millis.max(self.late_pending_millis);
        self.late_max_seconds = self.late_max_seconds.max(late as f64 / 1e3);
        self.readings += 1;
        let Some((then, before, done)) = self.last else {
            self.last = Some((now, reading, self.done));
            return;
        };
        if !self.readings.is_multiple_of(self.every) {
            self.late_pending_millis = late;
            return;
        }
        self.late_pending_millis = 0;
        let seconds = (now - then).max(1e-3);
        let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        self.samples.push(Sample {
            at: now,
            done_per_second: self.done.saturating_sub(done) as f64 / seconds,
            renewals_per_second: each(reading.renewals, before.renewals),
            writes_per_second: each(reading.writes, before.writes),
            late_seconds: late as f64 / 1e3,
            cores: each(reading.cpu_nanos, before.cpu_nanos) / 1e9,
            resident_gib: reading.resident_bytes as f64 / f64::from(1 << 30),
        });
        self.last = Some((now, reading, self.done));
        if self.samples.len() >= SAMPLES_MAX {
            let mut place = 0;
            self.samples.retain(|_| {
                place += 1;
                place % 2 == 0
            });
            self.every *= 2;
        }
    }
}

/// The way back over so many lines of a terminal, which are cleared.
fn up(lines: usize) -> String {
    if lines == 0 {
        String::new()
    } else {
        format!("\x1b[{lines}A\r\x1b[J")
    }
}

/// The live view.
fn lines(title: &str, inner: &Inner, now: f64) -> Vec<String> {
    let sample = inner.samples.last().copied().unwrap_or_default();
    let name = inner.stretches.last().map_or("", |stretch| stretch.name);
    let part = (inner.done as f64 / inner.wanted.max(1) as f64).min(1.0);
    let full = (part * BAR_COLUMNS as f64) as usize;
    let bar = "#".repeat(full) + &"-".repeat(BAR_COLUMNS - full);
    vec![
        format!("{title}   {}", clock(now)),
        format!(
            "  {name:<9} [{bar}] {} of {}   {}/s",
            grouped(inner.done as f64),
            grouped(inner.wanted as f64),
            grouped(sample.done_per_second)
        ),
        format!(
            "  renewals  {}/s   writes {}/s   latest {:.1} s late",
            grouped(sample.renewals_per_second),
            grouped(sample.writes_per_second),
            sample.late_seconds
        ),
        format!(
            "  machine   {:.2} cores   {:.2} GiB",
            sample.cores, sample.resident_gib
        ),
    ]
}

/// The same as one line.
fn line(inner: &Inner, now: f64) -> String {
    let sample = inner.samples.last().copied().unwrap_or_default();
    let name = inner.stretches.last().map_or("", |stretch| stretch.name);
    format!(
        "{} {name}: {} of {}, {}/s; {} renewals/s, latest {:.1} s late; {} writes/s; {:.2} cores, {:.2} GiB",
        clock(now),
        grouped(inner.done as f64),
        grouped(inner.wanted as f64),
        grouped(sample.done_per_second),
        grouped(sample.renewals_per_second),
        sample.late_seconds,
        grouped(sample.writes_per_second),
        sample.cores,
        sample.resident_gib
    )
}

fn clock(seconds: f64) -> String {
    let whole = seconds as u64;
    format!(
        "{:02}:{:02}:{:02}",
        whole / 3600,
        whole / 60 % 60,
        whole % 60
    )
}

fn grouped(number: f64) -> String {
    crate::report::grouped(&format!("{number:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(renewals: u64, late_millis: u64) -> Reading {
        Reading {
            renewals,
            writes: 2 * renewals,
            late_millis,
            cpu_nanos: renewals * 1_000_000,
            resident_bytes: 1 << 29,
        }
    }

    fn of(wanted: usize) -> Inner {
        Inner {
            every: 1,
            wanted,
            stretches: vec![Stretch {
                name: "register",
                begun: 0.0,
                ended: None,
            }],
            ..Inner::default()
        }
    }

    #[test]
    fn rates_are_differences_over_the_time_between() {
        let mut inner = of(10_000);
        inner.take(1.0, reading(1_000, 0));
        assert_eq!(inner.samples, []);
        inner.done = 5_000;
        inner.take(3.0, reading(4_000, 250));
        let expected = Sample {
            at: 3.0,
            done_per_second: 2_500.0,
            renewals_per_second: 1_500.0,
            writes_per_second: 3_000.0,
            late_seconds: 0.25,
            cores: 1.5,
            resident_gib: 0.5,
        };
        assert_eq!(inner.samples, [expected]);
        assert_eq!(
            line(&inner, 3_725.0),
            "01:02:05 register: 5,000 of 10,000, 2,500/s; 1,500 renewals/s, latest 0.2 s late; 3,000 writes/s; \
             1.50 cores, 0.50 GiB"
        );
        assert_eq!(
            lines("million", &inner, 65.0),
            [
                "million   00:01:05",
                "  register  [############------------] 5,000 of 10,000   2,500/s",
                "  renewals  1,500/s   writes 3,000/s   latest 0.2 s late",
                "  machine   1.50 cores   0.50 GiB",
            ]
        );
    }

    #[test]
    fn a_long_run_keeps_fewer_samples_and_forgets_no_lateness() {
        let mut inner = of(1);
        for second in 0..=SAMPLES_MAX as u64 {
            inner.take(second as f64, reading(second * 10, 0));
        }
        assert_eq!((inner.samples.len(), inner.every), (SAMPLES_MAX / 2, 2));
        let now = SAMPLES_MAX as f64;
        inner.take(now + 1.0, reading(10 * (SAMPLES_MAX as u64 + 1), 900));
        inner.take(now + 2.0, reading(10 * (SAMPLES_MAX as u64 + 2), 100));
        inner.take(now + 3.0, reading(10 * (SAMPLES_MAX as u64 + 3), 100));
        let last = inner.samples.iter().rev().take(2);
        assert!(
            last.clone().any(|sample| sample.late_seconds == 0.9),
            "{:?}",
            inner.samples.last()
        );
        assert!(
            last.clone()
                .all(|sample| (sample.renewals_per_second - 10.0).abs() < 1e-9)
        );
        assert_eq!(inner.late_max_seconds, 0.9);
    }

    #[test]
    fn stretches_follow_each_other() {
        let board = Board::new("a".into());
        board.begin("one", 1);
        board.begin("two", 2);
        board.end();
        board.end();
        let (_, stretches) = board.story();
        assert_eq!(stretches.len(), 2);
        assert_eq!(stretches[0].ended, Some(stretches[1].begun));
        assert!(stretches[1].ended >= Some(stretches[1].begun));
        assert_eq!(
            (up(0), up(3)),
            (String::new(), "\x1b[3A\r\x1b[J".to_owned())
        );
    }
}

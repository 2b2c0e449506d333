//! When history is given up by itself: etcd's two rules. Knows no store and no clock: both are passed in.
//!
//! ```text
//!   periodic, 3 h:   every 6 min the revision is noted; the first compaction comes after 3 h, then one every hour,
//!                    each to the revision noted 3 h before
//!   periodic, 20 min: noted every 2 min, compacted every 20 min
//!   revision, 1000:  every 5 min, to the newest revision less 1000
//! ```
//!
//! A compaction that fails is tried again at the next step.

use std::collections::VecDeque;
use std::time::Duration;

/// The longest time between compactions, and what the steps of a long period are a tenth of.
const HOUR: Duration = Duration::from_secs(3600);

/// Steps in a period, or in an hour of a longer one.
const STEPS: u32 = 10;

/// Between two looks of the rule that counts revisions.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Which history is given up by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// What is older than this.
    Periodic(Duration),
    /// All but so many revisions.
    Revisions(i64),
}

impl AutoCompaction {
    /// Reads the values of etcd's two flags. None when it is off: a retention of 0.
    pub fn parse(mode: &str, retention: &str) -> Result<Option<AutoCompaction>, String> {
        let number = retention.parse::<u32>().ok();
        let rule = match (mode, number) {
            ("periodic", Some(hours)) => AutoCompaction::Periodic(HOUR.saturating_mul(hours)),
            ("periodic", None) => AutoCompaction::Periodic(duration(retention)?),
            ("revision", Some(count)) => AutoCompaction::Revisions(i64::from(count)),
            ("revision", None) => {
                return Err(format!(
                    "{retention:?}: by revisions, the retention is a number"
                ));
            }
            (other, _) => return Err(format!("{other:?} is none of periodic, revision")),
        };
        let is_off = matches!(
            rule,
            AutoCompaction::Periodic(Duration::ZERO) | AutoCompaction::Revisions(0)
        );
        Ok((!is_off).then_some(rule))
    }
}

/// A time as etcd's flags take it: `1h30m`, `90s`, `1.5h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is neither hours nor a time such as 90m or 1h30m");
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let number_end = rest.find(|c| !is_number(c)).ok_or_else(wrong)?;
        let (number, after) = rest.split_at_checked(number_end).ok_or_else(wrong)?;
        let unit_end = after.find(is_number).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_end).ok_or_else(wrong)?;
        let unit_seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        seconds += number * unit_seconds;
        rest = after;
    }
    let found = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    if text.is_empty() {
        Err(wrong())
    } else {
        Ok(found)
    }
}

/// Decides when to compact to which revision.
#[derive(Debug)]
pub(crate) struct Compactor {
    rule: AutoCompaction,
    /// When to look again.
    due: Duration,
    /// Revisions as they were a step apart, the oldest first: no more than a period's.
    noted: VecDeque<i64>,
    /// What was compacted last, and when.
    last_revision: i64,
    last_success: Duration,
    /// The least time since then: at first a whole period.
    interval: Duration,
    asked: i64,
}

impl Compactor {
    /// Begins at a time, with the store at a revision.
    pub(crate) fn new(rule: AutoCompaction, now: Duration, revision: i64) -> Compactor {
        let mut compactor = Compactor {
            rule,
            due: now,
            noted: VecDeque::from([revision]),
            last_revision: 0,
            last_success: now,
            interval: match rule {
                AutoCompaction::Periodic(period) => period,
                AutoCompaction::Revisions(_) => Duration::ZERO,
            },
            asked: 0,
        };
        compactor.due = now.saturating_add(compactor.step());
        compactor
    }

    fn step(&self) -> Duration {
        match self.rule {
            AutoCompaction::Periodic(period) => period.min(HOUR) / STEPS,
            AutoCompaction::Revisions(_) => REVISION_INTERVAL,
        }
    }

    /// The revision to compact to, if it is time.
    pub(crate) fn target(&mut self, now: Duration, revision: i64) -> Option<i64> {
        if now < self.due {
            return None;
        }
        self.due = now.saturating_add(self.step());
        let target = match self.rule {
            AutoCompaction::Revisions(kept) => revision.saturating_sub(kept),
            AutoCompaction::Periodic(period) => self.note(period, revision),
        };
        let since = now.saturating_sub(self.last_success);
        if target <= 0 || target == self.last_revision || since < self.interval {
            return None;
        }
        if let AutoCompaction::Periodic(period) = self.rule {
            self.interval = period.min(HOUR);
        }
        self.asked = target;
        Some(target)
    }

    /// Notes the revision; answers the one of a period ago, or the oldest there is.
    fn note(&mut self, period: Duration, revision: i64) -> i64 {
        let oldest = self.noted.front().copied().unwrap_or_default();
        self.noted.push_back(revision);
        let step = self.step().as_nanos().max(1);
        let kept = usize::try_from(period.as_nanos() / step).unwrap_or(usize::MAX);
        while self.noted.len() > kept.saturating_add(1) {
            self.noted.pop_front();
        }
        oldest
    }

    /// History before the target is given up.
    pub(crate) fn succeeded(&mut self, now: Duration) {
        self.last_revision = self.asked;
        self.last_success = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Ten revisions a minute; answers the minutes of the compactions and their targets.
    fn run(rule: AutoCompaction, minutes: u32, fails_at: &[u32]) -> Vec<(u32, i64)> {
        let mut compactor = Compactor::new(rule, Duration::ZERO, 0);
        let mut seen = Vec::new();
        for minute in 1..=minutes {
            let now = MINUTE * minute;
            if let Some(target) = compactor.target(now, i64::from(minute) * 10) {
                seen.push((minute, target));
                if !fails_at.contains(&minute) {
                    compactor.succeeded(now);
                }
            }
        }
        seen
    }

    #[test]
    fn a_long_period_is_kept_whole_and_trimmed_every_hour() {
        let rule = AutoCompaction::Periodic(HOUR * 3);
        // The revision of minute 0 is the oldest noted until 186, and there is nothing before it.
        let expected = [(192, 60), (252, 660), (312, 1260)];
        assert_eq!(run(rule, 320, &[]), expected);
    }

    #[test]
    fn a_short_period_is_trimmed_as_often_as_it_is_long() {
        let rule = AutoCompaction::Periodic(MINUTE * 10);
        let expected = [(12, 10), (22, 110), (32, 210)];
        assert_eq!(run(rule, 35, &[]), expected);
        // What failed is tried again a step later.
        let expected = [(12, 10), (13, 20), (23, 120)];
        assert_eq!(run(rule, 25, &[12]), expected);
    }

    #[test]
    fn revisions_are_counted_every_five_minutes() {
        let rule = AutoCompaction::Revisions(60);
        let expected = [(10, 40), (15, 90), (20, 140)];
        assert_eq!(run(rule, 24, &[]), expected);
    }

    #[test]
    fn a_store_that_stands_still_is_not_compacted_again() {
        let mut compactor = Compactor::new(AutoCompaction::Revisions(5), Duration::ZERO, 10);
        assert_eq!(compactor.target(MINUTE * 4, 10), None);
        assert_eq!(compactor.target(MINUTE * 5, 10), Some(5));
        compactor.succeeded(MINUTE * 5);
        assert_eq!(compactor.target(MINUTE * 10, 10), None);
        assert_eq!(compactor.target(MINUTE * 15, 11), Some(6));
    }

    #[test]
    fn retentions_are_read_as_etcd_reads_them() {
        let periodic = |seconds| Ok(Some(AutoCompaction::Periodic(Duration::from_secs(seconds))));
        assert_eq!(AutoCompaction::parse("periodic", "0"), Ok(None));
        assert_eq!(AutoCompaction::parse("periodic", "5"), periodic(5 * 3600));
        assert_eq!(AutoCompaction::parse("periodic", "1h30m"), periodic(5400));
        assert_eq!(AutoCompaction::parse("periodic", "1.5h"), periodic(5400));
        assert_eq!(AutoCompaction::parse("periodic", "1500ms2.5s"), periodic(4));
        assert_eq!(AutoCompaction::parse("revision", "0"), Ok(None));
        let rule = AutoCompaction::Revisions(1000);
        assert_eq!(AutoCompaction::parse("revision", "1000"), Ok(Some(rule)));
        for (mode, retention) in [
            ("revision", "5m"),
            ("periodic", "m"),
            ("periodic", "-5m"),
            ("periodic", "5x"),
            ("periodic", ""),
            ("periodic", "1..5h"),
            ("hourly", "5"),
        ] {
            let read = AutoCompaction::parse(mode, retention);
            assert!(read.is_err(), "{mode} {retention}: {read:?}");
        }
    }
}

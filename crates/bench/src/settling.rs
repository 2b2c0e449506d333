//! When renewals that had to wait are made up for, and when they never will be. Pure.

use std::time::Duration;

/// Renewals that are less late than this are on time.
const ON_TIME_MILLIS: u64 = 1_000;
/// So much less than the least so far is progress: a hundredth of it, and no less than this.
const STEP_MILLIS: u64 = 20;

/// What a look says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Settled,
    /// Wait on.
    Waiting,
    /// Nothing has got better for too long.
    Stuck,
}

/// Follows how late renewals are.
#[derive(Debug)]
pub struct Settling {
    patience: Duration,
    least_millis: u64,
    since: Duration,
}

impl Settling {
    /// One that gives up when lateness has not shrunk for so long.
    pub fn new(patience: Duration) -> Settling {
        Settling {
            patience,
            least_millis: u64::MAX,
            since: Duration::ZERO,
        }
    }

    /// Takes in the latest renewal of the last second, at a time since the beginning. None: there was no renewal, which
    /// says nothing.
    pub fn look(&mut self, at: Duration, late_millis: Option<u64>) -> Verdict {
        match late_millis {
            Some(late) if late < ON_TIME_MILLIS => return Verdict::Settled,
            Some(late) => {
                let step = (self.least_millis / 100).max(STEP_MILLIS);
                if late.saturating_add(step) <= self.least_millis {
                    (self.least_millis, self.since) = (late, at);
                }
            }
            None => {}
        }
        if at.saturating_sub(self.since) > self.patience {
            Verdict::Stuck
        } else {
            Verdict::Waiting
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(late: impl Fn(u64) -> Option<u64>, seconds: u64) -> Vec<Verdict> {
        let mut settling = Settling::new(Duration::from_secs(120));
        (0..=seconds)
            .map(|second| settling.look(Duration::from_secs(second), late(second)))
            .collect()
    }

    #[test]
    fn as_long_as_lateness_shrinks_it_waits() {
        // From 100 s down to one: 10 ms would be too little a step for a second, but not for two.
        let seen = verdicts(|second| Some(100_000 - 100 * second), 992);
        assert_eq!(seen[991], Verdict::Settled);
        assert!(
            seen[..991]
                .iter()
                .all(|verdict| *verdict == Verdict::Waiting)
        );
    }

    #[test]
    fn it_gives_up_when_nothing_gets_better() {
        for late in [|_| Some(5_000), |second| Some(5_000 + second), |_| None] {
            let late: fn(u64) -> Option<u64> = late;
            let seen = verdicts(late, 121);
            assert_eq!((seen[120], seen[121]), (Verdict::Waiting, Verdict::Stuck));
        }
    }

    #[test]
    fn what_is_on_time_has_settled_at_once() {
        assert_eq!(verdicts(|_| Some(999), 0), [Verdict::Settled]);
        assert_eq!(verdicts(|_| Some(1_000), 0), [Verdict::Waiting]);
    }
}

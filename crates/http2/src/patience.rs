//! A budget for frames that make work and move nothing: spent by frames, refilled by time and by honest work.

/// A bucket of tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    left: u32,
    burst: u32,
    per_second: u32,
    last_millis: u64,
}

impl Patience {
    pub(crate) fn new(burst: u32, per_second: u32) -> Patience {
        Patience {
            left: burst,
            burst,
            per_second,
            last_millis: 0,
        }
    }

    /// Time has come to `now_millis`; it never goes back.
    pub(crate) fn refill(&mut self, now_millis: u64) {
        let elapsed_millis = now_millis.saturating_sub(self.last_millis);
        let due = elapsed_millis.saturating_mul(u64::from(self.per_second)) / 1000;
        if due > 0 {
            self.last_millis = now_millis;
            self.give(u32::try_from(due).unwrap_or(u32::MAX));
        }
    }

    pub(crate) fn give(&mut self, tokens: u32) {
        self.left = self.left.saturating_add(tokens).min(self.burst);
    }

    /// False once it is used up.
    pub(crate) fn take(&mut self, tokens: u32) -> bool {
        match self.left.checked_sub(tokens) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_with_time_and_never_beyond_the_burst() {
        let mut patience = Patience::new(10, 100);
        assert!(patience.take(10));
        assert!(!patience.take(1));
        patience.refill(50);
        assert!(patience.take(5));
        assert!(!patience.take(1));
        patience.refill(1_000_000);
        assert!(patience.take(10));
        assert!(!patience.take(1));
    }

    #[test]
    fn small_steps_of_time_are_not_lost() {
        let mut patience = Patience::new(10, 100);
        assert!(patience.take(10));
        (1..=100).for_each(|millis| patience.refill(millis));
        assert!(patience.take(10));
    }
}

//! A timer wheel: things by the time at which they are due, in steps of [`TICK`].
//!
//! ```text
//!   level 0   64 slots of one tick        what is due within 0.64 s
//!   level 1   64 slots of 64 ticks        within 41 s
//!   level 2   64 slots of 4,096 ticks     within 44 min
//!   level 3   64 slots of 262,144 ticks   within 46 h; what is later waits here and is looked at again
//! ```
//!
//! Putting in and taking out cost the same for one thing and for millions. Nothing can be taken out before its time:
//! who puts it in notes what no longer counts. Knows no clock; time is passed in.

use std::time::{Duration, Instant};

/// One step.
pub(crate) const TICK: Duration = Duration::from_millis(10);
const LEVELS: usize = 4;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

pub(crate) struct Wheel<T> {
    begun: Instant,
    /// All ticks up to this one are done.
    now: u64,
    levels: [Vec<Vec<(u64, T)>>; LEVELS],
    count: usize,
}

impl<T> Wheel<T> {
    pub(crate) fn new(now: Instant) -> Wheel<T> {
        Wheel {
            begun: now,
            now: 0,
            levels: std::array::from_fn(|_| (0..SLOTS).map(|_| Vec::new()).collect()),
            count: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts a thing in. What is due already comes with the next tick.
    pub(crate) fn insert(&mut self, due: Instant, thing: T) {
        let since = due.saturating_duration_since(self.begun).as_nanos();
        // Rounded up: nothing comes before its time.
        let tick = u64::try_from(since.div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX);
        self.count += 1;
        self.place(tick.max(self.now + 1), thing);
    }

    fn place(&mut self, tick: u64, thing: T) {
        let ahead = tick.saturating_sub(self.now);
        let level = (0..LEVELS)
            .find(|level| ahead < 1 << (SLOT_BITS * (*level as u32 + 1)))
            .unwrap_or(LEVELS - 1);
        // Beyond the last level: as late as it can say.
        let last = self.now + (1 << (SLOT_BITS * LEVELS as u32)) - 1;
        let slot = slot_of(tick.min(last), level);
        self.levels[level][slot].push((tick, thing));
    }

    /// Takes out what is due by `now`.
    pub(crate) fn advance(&mut self, now: Instant, out: &mut Vec<T>) {
        let since = now.saturating_duration_since(self.begun).as_nanos();
        let until = u64::try_from(since / TICK.as_nanos()).unwrap_or(u64::MAX);
        if self.count == 0 {
            self.now = self.now.max(until);
            return;
        }
        while self.now < until {
            self.now += 1;
            // Where a slot of a higher level begins, its content moves down.
            for level in (1..LEVELS).rev() {
                if self.now.is_multiple_of(1 << (SLOT_BITS * level as u32)) {
                    let things = std::mem::take(&mut self.levels[level][slot_of(self.now, level)]);
                    for (tick, thing) in things {
                        self.place(tick, thing);
                    }
                }
            }
            let due = &mut self.levels[0][slot_of(self.now, 0)];
            self.count -= due.len();
            out.extend(due.drain(..).map(|(_, thing)| thing));
        }
    }
}

fn slot_of(tick: u64, level: usize) -> usize {
    (tick >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times of every size come out at their tick, none early, none late.
    #[test]
    fn everything_comes_at_its_time() {
        let begun = Instant::now();
        let mut wheel = Wheel::new(begun);
        let mut random = 1u64;
        let mut wanted = Vec::new();
        for round in 0..2_000u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let millis =
                (random >> 33) % [9, 700, 50_000, 3_000_000, 400_000_000][round as usize % 5];
            wanted.push(millis);
            wheel.insert(begun + Duration::from_millis(millis), millis);
        }
        let mut out = Vec::new();
        let (mut seen, mut looks) = (0, 0);
        // Large steps: what comes out between two looks must lie between them.
        let (mut before, mut now) = (0u64, 0u64);
        while !wheel.is_empty() {
            now += [10, 30, 5_000, 2_000_000][looks % 4];
            looks += 1;
            wheel.advance(begun + Duration::from_millis(now), &mut out);
            for millis in out.drain(..) {
                let tick = millis.div_ceil(10).max(1) * 10;
                assert!(
                    tick > before && tick <= now,
                    "{millis} between {before} and {now}"
                );
                seen += 1;
            }
            before = now;
        }
        assert_eq!(seen, wanted.len());
    }

    #[test]
    fn what_is_late_already_comes_at_once_and_an_empty_wheel_jumps() {
        let begun = Instant::now();
        let mut wheel = Wheel::new(begun);
        let mut out = Vec::new();
        let later = begun + Duration::from_secs(86_400 * 365);
        wheel.advance(later, &mut out);
        wheel.insert(begun, 1);
        assert!(!wheel.is_empty());
        wheel.advance(later + TICK, &mut out);
        assert_eq!(out, [1]);
        assert!(wheel.is_empty());
    }
}

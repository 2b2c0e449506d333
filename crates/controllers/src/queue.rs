//! A work queue of keys: each key waits once, is worked on by one at a time, and comes back later after a failure.
//!
//! ```text
//!   add ──► ready ──(take)──► busy ──(done)──► idle
//!            ▲                  │ added meanwhile, or asked for again
//!            └──(due, back-off)─┘
//! ```
//!
//! Holds at most one entry a key, so its size is bounded by that of the mirrors the keys come from. Knows no clock: it
//! is told what time it is. Does not know what a key stands for.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

/// First pause after a failure (k8s default controller rate limiter).
const BACKOFF_MIN: Duration = Duration::from_millis(5);
/// Longest pause after failures in a row.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// How work on a key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Well: earlier failures are forgotten.
    Done,
    /// Well, and the key is to be looked at again after this time.
    After(Duration),
    /// Badly: the key comes back after a pause that doubles with each failure in a row.
    Failed,
    /// The work goes on elsewhere, which will say [`Queue::fail`] or [`Queue::forget`].
    HandedOver,
}

#[derive(Debug, Default)]
struct Entry {
    queued: bool,
    busy: bool,
    /// Added while busy.
    again: bool,
    failures: u32,
    wake_at: Option<Instant>,
    /// Not to be taken before.
    hold_until: Option<Instant>,
}

impl Entry {
    fn is_idle(&self) -> bool {
        !self.queued
            && !self.busy
            && self.failures == 0
            && self.wake_at.is_none()
            && self.hold_until.is_none()
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: HashMap<Arc<str>, Entry, RandomState>,
    ready: VecDeque<Arc<str>>,
    /// Moments at which an entry is to be looked at; entries that changed their mind are found by their own fields.
    due: BTreeMap<(Instant, u64), Arc<str>>,
    sequence: u64,
}

impl Queue {
    /// Asks for work on a key.
    pub(crate) fn add(&mut self, key: &str, now: Instant) {
        // Most keys are added many times before their turn comes.
        if let Some(entry) = self.entries.get_mut(key)
            && (entry.busy || (entry.queued && entry.hold_until.is_none()))
        {
            entry.again |= entry.busy;
            return;
        }
        if !self.entries.contains_key(key) {
            self.entries.insert(key.into(), Entry::default());
        }
        let Some((key, entry)) = self
            .entries
            .get_key_value(key)
            .map(|(key, _)| key.clone())
            .and_then(|key| {
                let entry = self.entries.get_mut(&key)?;
                Some((key, entry))
            })
        else {
            return;
        };
        if entry.busy {
            entry.again = true;
        } else if let Some(until) = entry.hold_until.filter(|until| *until > now) {
            self.add_at(&key, until);
        } else if !entry.queued {
            entry.queued = true;
            self.ready.push_back(key);
        }
    }

    /// Asks for work on a key at a time; the earliest time asked for counts.
    pub(crate) fn add_at(&mut self, key: &str, at: Instant) {
        let key: Arc<str> = key.into();
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.wake_at.is_some_and(|before| before <= at) {
            return;
        }
        entry.wake_at = Some(at);
        self.remind(key, at);
    }

    /// Keeps a key from being taken before a time, however often it is added.
    pub(crate) fn hold(&mut self, key: &str, until: Instant) {
        let key: Arc<str> = key.into();
        let entry = self.entries.entry(key.clone()).or_default();
        entry.hold_until = Some(until);
        self.remind(key, until);
    }

    fn remind(&mut self, key: Arc<str>, at: Instant) {
        self.sequence += 1;
        self.due.insert((at, self.sequence), key);
    }

    /// Makes ready what is due.
    pub(crate) fn advance(&mut self, now: Instant) {
        while let Some(first) = self.due.first_entry()
            && first.key().0 <= now
        {
            let key = first.remove();
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            entry.hold_until = entry.hold_until.filter(|until| *until > now);
            if entry.wake_at.is_some_and(|at| at <= now) {
                entry.wake_at = None;
                self.add(&key, now);
            } else {
                self.tidy(&key);
            }
        }
    }

    /// The next key; it is busy until [`Queue::done`].
    pub(crate) fn take(&mut self) -> Option<Arc<str>> {
        let key = self.ready.pop_front()?;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.queued = false;
            entry.busy = true;
            entry.again = false;
        }
        Some(key)
    }

    /// Work on a taken key has ended.
    pub(crate) fn done(&mut self, key: &str, verdict: Verdict, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.busy = false;
        let again = std::mem::take(&mut entry.again);
        match verdict {
            Verdict::Done => entry.failures = 0,
            Verdict::After(pause) => {
                entry.failures = 0;
                self.add_at(key, now + pause);
            }
            Verdict::Failed => self.fail(key, now),
            Verdict::HandedOver => {}
        }
        if again {
            self.add(key, now);
        }
        self.tidy(key);
    }

    /// Notes a failure: the key comes back after its pause.
    pub(crate) fn fail(&mut self, key: &str, now: Instant) {
        if !self.entries.contains_key(key) {
            self.entries.insert(key.into(), Entry::default());
        }
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let pause = BACKOFF_MIN
            .saturating_mul(1 << entry.failures.min(20))
            .min(BACKOFF_MAX);
        entry.failures = entry.failures.saturating_add(1);
        self.add_at(key, now + pause);
    }

    /// Forgets earlier failures of a key.
    pub(crate) fn forget(&mut self, key: &str) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.failures = 0;
            self.tidy(key);
        }
    }

    fn tidy(&mut self, key: &str) {
        if self.entries.get(key).is_some_and(Entry::is_idle) {
            self.entries.remove(key);
        }
    }

    /// When the next key becomes ready by time alone.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// Keys ready to be taken.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(queue: &mut Queue) -> Option<String> {
        queue.take().map(|key| key.to_string())
    }

    #[test]
    fn a_key_waits_once_and_is_worked_on_by_one() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add("a", now);
        queue.add("b", now);
        queue.add("a", now);
        assert_eq!(queue.ready(), 2);
        assert_eq!(take(&mut queue).as_deref(), Some("a"));
        queue.add("a", now);
        queue.add("a", now);
        assert_eq!(take(&mut queue).as_deref(), Some("b"));
        assert_eq!(take(&mut queue), None);
        queue.done("a", Verdict::Done, now);
        assert_eq!(take(&mut queue).as_deref(), Some("a"));
        queue.done("a", Verdict::Done, now);
        queue.done("b", Verdict::Done, now);
        assert!(queue.entries.is_empty() && queue.due.is_empty());
    }

    #[test]
    fn pauses_double_from_5_ms_to_5_minutes_and_success_resets_them() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..18 {
            queue.add("a", now);
            assert!(queue.take().is_some());
            queue.done("a", Verdict::Failed, now);
            let due = queue.next_due().unwrap();
            pauses.push((due - now).as_millis());
            now = due;
            queue.advance(now);
        }
        assert_eq!(pauses[..4], [5, 10, 20, 40]);
        assert_eq!(pauses[16..], [300_000, 300_000]);
        assert!(queue.take().is_some());
        queue.done("a", Verdict::Done, now);
        queue.add("a", now);
        assert!(queue.take().is_some());
        queue.done("a", Verdict::Failed, now);
        assert_eq!(queue.next_due().unwrap() - now, BACKOFF_MIN);
    }

    #[test]
    fn the_earliest_wish_counts_and_a_held_key_waits() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        queue.add_at("a", after(9));
        queue.add_at("a", after(3));
        queue.advance(after(2));
        assert_eq!(take(&mut queue), None);
        queue.advance(after(3));
        assert_eq!(take(&mut queue).as_deref(), Some("a"));
        queue.done("a", Verdict::Done, after(3));
        queue.hold("a", after(5));
        queue.add("a", after(4));
        assert_eq!(take(&mut queue), None);
        queue.advance(after(5));
        assert_eq!(take(&mut queue).as_deref(), Some("a"));
        queue.done("a", Verdict::After(Duration::from_secs(2)), after(5));
        queue.advance(after(7));
        assert_eq!(take(&mut queue).as_deref(), Some("a"));
        queue.done("a", Verdict::Done, after(7));
        queue.advance(after(10));
        assert_eq!(take(&mut queue), None);
        assert!(queue.entries.is_empty() && queue.due.is_empty());
    }
}

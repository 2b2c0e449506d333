//! What was asked for and has not been seen yet: so that a mirror that lags behind never makes too many pods.
//!
//! While a plan is carried out, everything seen of its key is noted; when it ends, what was made but not yet seen is
//! still in flight. Knows uids only.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

/// After this long an expectation is given up (k8s `ExpectationsTimeout`): the object came and went unseen.
const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
struct Waiting {
    executing: bool,
    /// Seen to appear or to go since the plan began.
    seen_created: HashSet<Box<str>>,
    seen_deleted: HashSet<Box<str>>,
    created: HashSet<Box<str>>,
    deleted: HashSet<Box<str>>,
    since: Option<Instant>,
}

/// Expectations by key.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    keys: HashMap<Box<str>, Waiting, RandomState>,
}

impl Expectations {
    /// A plan that creates or deletes is about to be carried out.
    pub(crate) fn begin(&mut self, key: &str) {
        self.keys.entry(key.into()).or_default().executing = true;
    }

    /// It was carried out: these uids were created and deleted.
    pub(crate) fn end(
        &mut self,
        key: &str,
        created: Vec<Box<str>>,
        deleted: Vec<Box<str>>,
        now: Instant,
    ) {
        let Some(waiting) = self.keys.get_mut(key) else {
            return;
        };
        waiting.executing = false;
        let (seen_created, seen_deleted) = (
            std::mem::take(&mut waiting.seen_created),
            std::mem::take(&mut waiting.seen_deleted),
        );
        // Created and gone again before we heard of either is not in flight.
        let unseen = |uid: &str| !seen_created.contains(uid) && !seen_deleted.contains(uid);
        waiting
            .created
            .extend(created.into_iter().filter(|uid| unseen(uid)));
        waiting.deleted.extend(
            deleted
                .into_iter()
                .filter(|uid| !seen_deleted.contains(uid)),
        );
        waiting.since = Some(now);
        self.tidy(key);
    }

    /// An object of this key was seen.
    pub(crate) fn saw_created(&mut self, key: &str, uid: &str) {
        let Some(waiting) = self.keys.get_mut(key) else {
            return;
        };
        if waiting.executing {
            waiting.seen_created.insert(uid.into());
        }
        waiting.created.remove(uid);
        self.tidy(key);
    }

    /// An object of this key was seen to go, or to be gone.
    pub(crate) fn saw_deleted(&mut self, key: &str, uid: &str) {
        let Some(waiting) = self.keys.get_mut(key) else {
            return;
        };
        if waiting.executing {
            waiting.seen_deleted.insert(uid.into());
        }
        waiting.created.remove(uid);
        waiting.deleted.remove(uid);
        self.tidy(key);
    }

    /// Creations and deletions in flight.
    pub(crate) fn in_flight(&mut self, key: &str, now: Instant) -> (usize, usize) {
        let Some(waiting) = self.keys.get_mut(key) else {
            return (0, 0);
        };
        if waiting
            .since
            .is_some_and(|since| now.saturating_duration_since(since) >= TIMEOUT)
        {
            tracing::warn!(
                key,
                created = waiting.created.len(),
                deleted = waiting.deleted.len(),
                "never seen, given up"
            );
            waiting.created.clear();
            waiting.deleted.clear();
        }
        let counts = (waiting.created.len(), waiting.deleted.len());
        self.tidy(key);
        counts
    }

    /// When what is in flight for a key is given up.
    pub(crate) fn deadline(&self, key: &str) -> Option<Instant> {
        self.keys.get(key)?.since.map(|since| since + TIMEOUT)
    }

    /// The key is gone.
    pub(crate) fn forget(&mut self, key: &str) {
        self.keys.remove(key);
    }

    fn tidy(&mut self, key: &str) {
        let settled = |waiting: &Waiting| {
            !waiting.executing && waiting.created.is_empty() && waiting.deleted.is_empty()
        };
        if self.keys.get(key).is_some_and(settled) {
            self.keys.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uids(list: &[&str]) -> Vec<Box<str>> {
        list.iter().map(|uid| Box::from(*uid)).collect()
    }

    #[test]
    fn what_was_seen_during_the_plan_is_not_in_flight_after_it() {
        let (mut expectations, now) = (Expectations::default(), Instant::now());
        expectations.begin("rs");
        expectations.saw_created("rs", "a");
        expectations.saw_created("rs", "c");
        expectations.saw_deleted("rs", "c");
        expectations.saw_deleted("rs", "x");
        expectations.end("rs", uids(&["a", "b", "c"]), uids(&["x", "y"]), now);
        assert_eq!(expectations.in_flight("rs", now), (1, 1));
        expectations.saw_created("rs", "b");
        assert_eq!(expectations.in_flight("rs", now), (0, 1));
        expectations.saw_deleted("rs", "y");
        assert_eq!(expectations.in_flight("rs", now), (0, 0));
        assert!(expectations.keys.is_empty());
    }

    #[test]
    fn an_expectation_is_given_up_after_five_minutes() {
        let (mut expectations, now) = (Expectations::default(), Instant::now());
        expectations.begin("rs");
        expectations.end("rs", uids(&["a"]), Vec::new(), now);
        assert_eq!(
            expectations.in_flight("rs", now + TIMEOUT - Duration::from_secs(1)),
            (1, 0)
        );
        assert_eq!(expectations.deadline("rs"), Some(now + TIMEOUT));
        assert_eq!(expectations.in_flight("rs", now + TIMEOUT), (0, 0));
        assert!(expectations.keys.is_empty());
    }

    #[test]
    fn nothing_is_noted_of_keys_without_a_plan() {
        let mut expectations = Expectations::default();
        expectations.saw_created("rs", "a");
        expectations.saw_deleted("rs", "a");
        assert!(expectations.keys.is_empty());
    }
}

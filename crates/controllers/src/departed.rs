//! Pods with resource claims that are gone, or were never seen: whether a claim may forget a user.
//!
//! A pod that is not in the mirror may be gone, or newer than the mirror. Does not know claims.

use std::collections::{HashMap, HashSet, VecDeque};

use reconcile::resourceclaim::UNKNOWN_USER_MICROS;

/// Uids kept of each sort, about 100 bytes each; the oldest are forgotten, and then are unknown for a while.
const UIDS_MAX: usize = 65_536;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    gone: HashSet<Box<str>>,
    in_order: VecDeque<Box<str>>,
    /// Since when a uid has been asked for that is not known.
    unknown: HashMap<Box<str>, i64>,
}

impl Departed {
    /// A pod that was there is gone.
    pub(crate) fn note(&mut self, uid: &str) {
        if self.gone.insert(uid.into()) {
            self.in_order.push_back(uid.into());
        }
        if self.in_order.len() > UIDS_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }

    /// Whether a pod that is not in the mirror may be taken for gone.
    pub(crate) fn is_gone(&mut self, uid: &str, now_micros: i64) -> bool {
        if self.gone.contains(uid) {
            return true;
        }
        if self.unknown.len() >= UIDS_MAX {
            self.unknown.clear();
        }
        let since = *self.unknown.entry(uid.into()).or_insert(now_micros);
        let is_gone = now_micros.saturating_sub(since) >= UNKNOWN_USER_MICROS;
        if is_gone {
            self.unknown.remove(uid);
            self.note(uid);
        }
        is_gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_never_seen_is_gone_after_a_while() {
        let mut departed = Departed::default();
        assert!(!departed.is_gone("a", 0));
        assert!(!departed.is_gone("a", UNKNOWN_USER_MICROS - 1));
        assert!(departed.is_gone("a", UNKNOWN_USER_MICROS));
        departed.note("b");
        assert!(departed.is_gone("b", 0));
        for number in 0..UIDS_MAX {
            departed.note(&number.to_string());
        }
        assert!(!departed.is_gone("b", 0));
        assert!(departed.gone.len() <= UIDS_MAX && departed.in_order.len() <= UIDS_MAX);
    }
}

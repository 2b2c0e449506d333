//! Who has written the revisions that no answer speaks of: calls without an answer, each at most once, and leases that
//! ended.

use crate::facts::evaluate;
use crate::history::{Ask, Call, History, LogEntry, Outcome};
use crate::log::Replay;
use crate::wrong::Wrong;
use std::collections::{BTreeMap, BTreeSet};

/// When a revision came about, as answers tell: a call that was answered with an older one began before, one that was
/// answered with it or a newer one ended after.
struct Times {
    /// Revisions and times, in order of both: what was told at the earliest from a revision on.
    told: Vec<(i64, u64)>,
    /// What was still older at the latest.
    older: Vec<(i64, u64)>,
}

impl Times {
    fn of(history: &History) -> Times {
        let mut told = Vec::new();
        let mut older = Vec::new();
        for call in &history.calls {
            if let Outcome::Answered(answer) = &call.outcome {
                told.push((answer.revision, call.ended));
                let may_be_old = matches!(
                    call.ask,
                    Ask::Get {
                        is_serializable: true,
                        ..
                    }
                );
                if !may_be_old {
                    older.push((answer.revision, call.begun));
                }
            }
        }
        for watched in &history.watches {
            told.extend(watched.told.iter().map(|told| (told.revision, told.at)));
        }
        told.sort_unstable();
        older.sort_unstable();
        // From a revision on, the earliest; up to a revision, the latest.
        let mut earliest = u64::MAX;
        for (_, at) in told.iter_mut().rev() {
            earliest = earliest.min(*at);
            *at = earliest;
        }
        let mut latest = 0;
        for (_, at) in &mut older {
            latest = latest.max(*at);
            *at = latest;
        }
        Times { told, older }
    }

    /// It had happened by then.
    fn latest(&self, revision: i64) -> u64 {
        let from = self.told.partition_point(|(told, _)| *told < revision);
        self.told.get(from).map_or(u64::MAX, |(_, at)| *at)
    }

    /// It had not happened then.
    fn earliest(&self, revision: i64) -> u64 {
        let to = self.older.partition_point(|(older, _)| *older < revision);
        let last = to.checked_sub(1).and_then(|last| self.older.get(last));
        last.map_or(0, |(_, at)| *at)
    }
}

/// Who has written what no answer speaks of.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// Calls without an answer that have happened, by their place, and the revision of each.
    pub(crate) calls: BTreeMap<usize, i64>,
    /// Revisions that leases have made by ending.
    pub(crate) lease_ends: usize,
    /// A revision that nobody has written.
    pub(crate) nobody: Option<Wrong>,
}

/// Finds an owner for every entry of the log that no answer has claimed.
pub(crate) fn owners(history: &History, replay: &Replay<'_>, claimed: &BTreeSet<i64>) -> Owners {
    let times = Times::of(history);
    let all = history.calls.iter().enumerate();
    let mut open: Vec<(usize, &Call)> = all
        .filter(|(_, call)| call.outcome == Outcome::Unknown)
        .collect();
    // Whoever cannot happen any more soonest takes a revision first.
    open.sort_by_key(|(_, call)| call.ended);
    let mut owners = Owners::default();
    let mut before = 1;
    for entry in &history.log {
        let state = std::mem::replace(&mut before, entry.revision);
        if claimed.contains(&entry.revision) {
            continue;
        }
        let (earliest, latest) = (times.earliest(entry.revision), times.latest(entry.revision));
        let has_done = |call: &Call| {
            let Ask::Txn(txn) = &call.ask else {
                return false;
            };
            call.begun <= latest
                && call.ended >= earliest
                && evaluate(txn, replay, state, entry.revision).is(&entry.events)
        };
        if let Some(place) = open.iter().position(|(_, call)| has_done(call)) {
            let (call, _) = open.remove(place);
            owners.calls.insert(call, entry.revision);
        } else if is_end_of_lease(history, replay, entry, state, latest) {
            owners.lease_ends += 1;
        } else {
            owners.nobody.get_or_insert_with(|| Wrong::Nobody {
                revision: entry.revision,
                found: format!("{:?}", entry.events),
            });
        }
    }
    owners
}

/// Whether an entry takes all keys of a lease that could end then, and nothing else.
fn is_end_of_lease(
    history: &History,
    replay: &Replay<'_>,
    entry: &LogEntry,
    state: i64,
    latest: u64,
) -> bool {
    let first = entry.events.first();
    let lease = first.and_then(|event| replay.get(&event.key, state));
    let Some(lease) = lease.map(|kv| kv.lease).filter(|lease| *lease != 0) else {
        return false;
    };
    let is_deletion = entry.events.iter().all(|event| event.now.is_none());
    let gone: BTreeSet<&str> = entry.events.iter().map(|event| &*event.key).collect();
    if !is_deletion || gone != replay.on_lease(lease, state) {
        return false;
    }
    history.calls.iter().any(|call| match &call.ask {
        Ask::Revoke { id } => {
            *id == lease && call.begun <= latest && call.outcome != Outcome::Refused
        }
        // Its time was over, at the earliest so long after it was asked for.
        Ask::Grant { id, ttl_nanos } => {
            *id == lease && call.begun.saturating_add(*ttl_nanos) <= latest
        }
        Ask::Txn(_) | Ask::Get { .. } => false,
    })
}

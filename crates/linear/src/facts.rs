//! etcd's promises about revisions, held against the log.

use crate::cell::holds;
use crate::history::{Answer, Ask, Call, History, Kv, Outcome, Span, Step, StepAnswer, Txn};
use crate::log::Replay;
use crate::owners::owners;
use crate::streams::check_watches;
use crate::wrong::Wrong;
use std::collections::BTreeSet;

/// What a history that is right held: so that a test can see that it was worth something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Acknowledged calls that changed something.
    pub writes: usize,
    /// Answered calls that changed nothing.
    pub reads: usize,
    /// Calls without an answer that had happened all the same.
    pub unanswered_writes: usize,
    /// Revisions that leases have made by ending.
    pub lease_ends: usize,
    /// Events that watches were told.
    pub events: usize,
}

/// Holds a history against etcd's promises.
pub fn check(history: &History) -> Result<Found, Wrong> {
    let replay = Replay::of(&history.log)?;
    let mut found = Found::default();
    let mut claimed = BTreeSet::new();
    for call in &history.calls {
        let Outcome::Answered(answer) = &call.outcome else {
            continue;
        };
        match &call.ask {
            Ask::Txn(txn) => {
                if check_txn(call, txn, answer, &replay, &mut claimed)? {
                    found.writes += 1;
                } else {
                    found.reads += 1;
                }
            }
            Ask::Get { span, revision, .. } => {
                let at = if *revision == 0 {
                    answer.revision
                } else {
                    *revision
                };
                let got = StepAnswer::Got(replay.range(span, at));
                expect(call, answer, at, true, &[got])?;
                found.reads += 1;
            }
            Ask::Revoke { id } => {
                let left = replay.on_lease(*id, answer.revision);
                if !left.is_empty() {
                    return Err(Wrong::Answer {
                        revision: answer.revision,
                        call: name(call),
                        answer: "that the lease is gone".into(),
                        expected: format!("that {left:?} hang on it"),
                    });
                }
            }
            Ask::Grant { .. } => {}
        }
    }
    let owners = owners(history, &replay, &claimed);
    if let Some(wrong) = owners.nobody {
        return Err(wrong);
    }
    found.unanswered_writes = owners.calls.len();
    found.lease_ends = owners.lease_ends;
    in_order_of_time(history)?;
    found.events = check_watches(&history.watches, &history.log)?;
    Ok(found)
}

/// Whether a transaction that was answered is a write; it must be right in any case.
fn check_txn(
    call: &Call,
    txn: &Txn,
    answer: &Answer,
    replay: &Replay<'_>,
    claimed: &mut BTreeSet<i64>,
) -> Result<bool, Wrong> {
    let revision = answer.revision;
    let done = evaluate(txn, replay, revision - 1, revision);
    let entry = replay.entries.get(&revision);
    let is_there = entry.is_some_and(|entry| done.is(&entry.events));
    // A deletion of what another one has just deleted looks the same but for its answer.
    if !done.changes.is_empty() && is_there && done.explains(answer) {
        if claimed.insert(revision) {
            return Ok(true);
        }
        return Err(Wrong::Twice {
            revision,
            call: name(call),
        });
    }
    let read = evaluate(txn, replay, revision, revision + 1);
    if read.changes.is_empty() || (done.changes.is_empty() && !writes(call)) {
        expect(call, answer, revision, read.succeeded, &read.answers)?;
        return Ok(false);
    }
    if claimed.contains(&revision) {
        return Err(Wrong::Twice {
            revision,
            call: name(call),
        });
    }
    if is_there {
        expect(call, answer, revision, done.succeeded, &done.answers)?;
    }
    Err(Wrong::Lost {
        revision,
        call: name(call),
        found: entry.map_or("nothing".into(), |entry| format!("{:?}", entry.events)),
    })
}

fn expect(
    call: &Call,
    answer: &Answer,
    revision: i64,
    succeeded: bool,
    steps: &[StepAnswer],
) -> Result<(), Wrong> {
    if answer.succeeded == succeeded && answer.steps == steps {
        return Ok(());
    }
    Err(Wrong::Answer {
        revision,
        call: name(call),
        answer: format!("{} {:?}", answer.succeeded, answer.steps),
        expected: format!("{succeeded} {steps:?}"),
    })
}

/// What a transaction would do.
pub(crate) struct Done {
    pub(crate) succeeded: bool,
    pub(crate) answers: Vec<StepAnswer>,
    /// Keys and what becomes of them.
    pub(crate) changes: Vec<(String, Option<Kv>)>,
}

impl Done {
    fn explains(&self, answer: &Answer) -> bool {
        self.succeeded == answer.succeeded && self.answers == answer.steps
    }

    /// Whether these are the changes, in any order.
    pub(crate) fn is(&self, events: &[crate::history::Event]) -> bool {
        let all = |change: &(String, Option<Kv>)| {
            events
                .iter()
                .any(|event| event.key == change.0 && event.now == change.1)
        };
        self.changes.len() == events.len() && self.changes.iter().all(all)
    }
}

/// Carries a transaction out on the state at `before`, as revision `at`.
pub(crate) fn evaluate(txn: &Txn, replay: &Replay<'_>, before: i64, at: i64) -> Done {
    let succeeded = txn
        .compares
        .iter()
        .all(|compare| holds(replay.get(&compare.key, before), &compare.target));
    let steps = if succeeded { &txn.then } else { &txn.otherwise };
    let mut done = Done {
        succeeded,
        answers: Vec::new(),
        changes: Vec::new(),
    };
    for step in steps {
        let answer = match step {
            Step::Put { key, value, lease } => {
                let now = done.get(replay, before, key);
                let kv = Kv {
                    key: key.clone(),
                    value: value.clone(),
                    created: now.as_ref().map_or(at, |kv| kv.created),
                    modified: at,
                    version: now.map_or(0, |kv| kv.version) + 1,
                    lease: *lease,
                };
                done.change(key, Some(kv));
                StepAnswer::Put
            }
            Step::Delete(span) => {
                let there = done.range(replay, before, span);
                there.iter().for_each(|kv| done.change(&kv.key, None));
                StepAnswer::Deleted(there.len())
            }
            Step::Get(span) => StepAnswer::Got(done.range(replay, before, span)),
        };
        done.answers.push(answer);
    }
    done
}

impl Done {
    fn get(&self, replay: &Replay<'_>, before: i64, key: &str) -> Option<Kv> {
        let changed = self.changes.iter().find(|(changed, _)| changed == key);
        match changed {
            Some((_, now)) => now.clone(),
            None => replay.get(key, before).cloned(),
        }
    }

    fn range(&self, replay: &Replay<'_>, before: i64, span: &Span) -> Vec<Kv> {
        let mut all = replay.range(span, before);
        all.retain(|kv| !self.changes.iter().any(|(changed, _)| *changed == kv.key));
        let own = self.changes.iter().filter(|(key, _)| span.has(key));
        all.extend(own.filter_map(|(_, now)| now.clone()));
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }

    fn change(&mut self, key: &str, now: Option<Kv>) {
        self.changes.retain(|(changed, _)| changed != key);
        self.changes.push((key.to_owned(), now));
    }
}

/// Whoever asks after something was told is answered with that, or later; a write, with later.
fn in_order_of_time(history: &History) -> Result<(), Wrong> {
    let mut told: Vec<(u64, i64)> = Vec::new();
    for watched in &history.watches {
        told.extend(watched.told.iter().map(|told| (told.at, told.revision)));
    }
    let mut asked = Vec::new();
    for call in &history.calls {
        let Outcome::Answered(answer) = &call.outcome else {
            continue;
        };
        told.push((call.ended, answer.revision));
        let may_be_old = matches!(
            &call.ask,
            Ask::Get {
                is_serializable: true,
                ..
            }
        );
        if !may_be_old {
            asked.push((call, answer.revision));
        }
    }
    told.sort_unstable();
    asked.sort_by_key(|(call, _)| call.begun);
    let mut told = told.into_iter().peekable();
    let mut known = 0;
    for (call, revision) in asked {
        while let Some((_, also)) = told.next_if(|(at, _)| *at < call.begun) {
            known = known.max(also);
        }
        if revision < known || (writes(call) && revision == known) {
            return Err(Wrong::BackInTime {
                revision,
                call: name(call),
                known,
            });
        }
    }
    Ok(())
}

/// Whether an answered call says that it has changed something.
pub(crate) fn writes(call: &Call) -> bool {
    let (Ask::Txn(txn), Outcome::Answered(answer)) = (&call.ask, &call.outcome) else {
        return false;
    };
    let steps = if answer.succeeded {
        &txn.then
    } else {
        &txn.otherwise
    };
    steps.iter().any(|step| matches!(step, Step::Put { .. }))
        || answer
            .steps
            .iter()
            .any(|step| matches!(step, StepAnswer::Deleted(1..)))
}

/// A call, for people.
pub(crate) fn name(call: &Call) -> String {
    let Call {
        client,
        begun,
        ended,
        ask,
        ..
    } = call;
    format!("client {client} at {begun}..{ended}: {ask:?}")
}

//! One key as a sequential machine, and the search over the calls on each key.
//!
//! A call on several keys counts for each of them alone: what holds for all together holds for each, so the search
//! never accuses wrongly; what it misses, `facts` finds. Keys with leases change without a call and are left to `facts`
//! too.

use crate::facts::writes;
use crate::history::{Answer, Ask, Call, History, Kv, Outcome, Step, StepAnswer, Target};
use crate::log::Replay;
use crate::owners::owners;
use crate::search::{Model, Timed, Verdict, search};
use crate::wrong::Wrong;
use std::collections::{BTreeMap, BTreeSet};

/// What a key is between calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Cell {
    now: Option<Kv>,
    /// The newest revision that a call before was answered with.
    floor: i64,
}

/// The part of a call that concerns one key.
#[derive(Clone, Debug)]
struct CellOp {
    /// The revision of the answer, or the one the log gives to a call without answer.
    revision: i64,
    compares: Vec<Target>,
    /// There are compares on other keys, about which this one cannot tell.
    has_others: bool,
    succeeded: Option<bool>,
    then: Vec<CellStep>,
    otherwise: Vec<CellStep>,
}

#[derive(Clone, Debug)]
enum CellStep {
    Put(String),
    /// Whether something was there, if that is known of this key.
    Delete(Option<bool>),
    /// What was read, if there was an answer.
    Get(Option<Option<Kv>>),
}

struct Key<'a>(&'a str);

impl Model for Key<'_> {
    type State = Cell;
    type Op = CellOp;

    fn step(&self, cell: &Cell, op: &CellOp) -> Vec<Cell> {
        let hold = op
            .compares
            .iter()
            .all(|target| holds(cell.now.as_ref(), target));
        let can = |succeeded: bool| {
            let known = op.succeeded.is_none_or(|known| known == succeeded);
            known
                && if succeeded {
                    hold
                } else {
                    !hold || op.has_others
                }
        };
        let after = |succeeded| {
            let steps = if succeeded { &op.then } else { &op.otherwise };
            self.apply(cell, op.revision, steps)
        };
        let branches = [true, false].into_iter().filter(|branch| can(*branch));
        branches.filter_map(after).collect()
    }
}

impl Key<'_> {
    fn apply(&self, cell: &Cell, at: i64, steps: &[CellStep]) -> Option<Cell> {
        let mut now = cell.now.clone();
        let mut has_written = false;
        for step in steps {
            match step {
                CellStep::Put(value) => {
                    has_written = true;
                    let (created, version) =
                        now.as_ref().map_or((at, 0), |kv| (kv.created, kv.version));
                    now = Some(Kv {
                        key: self.0.to_owned(),
                        value: value.clone(),
                        created,
                        modified: at,
                        version: version + 1,
                        lease: 0,
                    });
                }
                CellStep::Delete(was_there) => {
                    if was_there.is_some_and(|was_there| was_there != now.is_some()) {
                        return None;
                    }
                    has_written |= now.is_some();
                    now = None;
                }
                CellStep::Get(found) => {
                    if found.as_ref().is_some_and(|found| *found != now) {
                        return None;
                    }
                }
            }
        }
        let goes_on = if has_written {
            at > cell.floor
        } else {
            at >= cell.floor
        };
        goes_on.then_some(Cell {
            now,
            floor: cell.floor.max(at),
        })
    }
}

/// Whether a key that is so fulfils this.
pub(crate) fn holds(now: Option<&Kv>, target: &Target) -> bool {
    match target {
        Target::Modified(revision) => now.map_or(0, |kv| kv.modified) == *revision,
        Target::Created(revision) => now.map_or(0, |kv| kv.created) == *revision,
        Target::Version(version) => now.map_or(0, |kv| kv.version) == *version,
        Target::Value(value) => now.is_some_and(|kv| kv.value == *value),
    }
}

/// Looks for an order of the calls on each key.
pub fn check_keys(history: &History) -> Result<(), Wrong> {
    let happened = happened(history);
    for key in keys(history) {
        let mut timed = Vec::new();
        let mut calls = Vec::new();
        for (place, call) in history.calls.iter().enumerate() {
            if let Some(one) = project(call, &key, happened.get(&place).copied()) {
                timed.push(one);
                calls.push(call);
            }
        }
        match search(&Key(&key), Cell::default(), &timed) {
            Verdict::Linear(_) => {}
            Verdict::GaveUp => return Err(Wrong::GaveUp { key }),
            Verdict::Not { longest, stuck } => {
                let call = calls.get(stuck).map(|call| format!("{call:?}"));
                return Err(Wrong::NoOrder {
                    placed: longest.len(),
                    all: timed.len(),
                    call: call.unwrap_or_default(),
                    key,
                });
            }
        }
    }
    Ok(())
}

/// The keys that calls name and no lease has held.
fn keys(history: &History) -> BTreeSet<String> {
    let (mut all, mut leased) = (BTreeSet::new(), BTreeSet::new());
    for call in &history.calls {
        let Ask::Txn(txn) = &call.ask else {
            continue;
        };
        for step in txn.then.iter().chain(&txn.otherwise) {
            if let Step::Put { key, lease, .. } = step {
                all.insert(key.clone());
                if *lease != 0 {
                    leased.insert(key.clone());
                }
            }
        }
    }
    all.retain(|key| !leased.contains(key));
    all
}

/// The revisions of calls without an answer, as far as the log knows them: what it does not know has not happened.
fn happened(history: &History) -> BTreeMap<usize, i64> {
    let answered = history.calls.iter().filter(|call| writes(call));
    let claimed = answered.filter_map(|call| match &call.outcome {
        Outcome::Answered(answer) => Some(answer.revision),
        Outcome::Refused | Outcome::Unknown => None,
    });
    // A log that makes no sense is for the facts to tell.
    let replay = Replay::of(&history.log).ok();
    let claimed = claimed.collect();
    replay.map_or_else(BTreeMap::new, |replay| {
        owners(history, &replay, &claimed).calls
    })
}

/// What a call has to do with a key; none if nothing. A call without an answer has the revision that the log gives it.
fn project(call: &Call, key: &str, happened: Option<i64>) -> Option<Timed<CellOp>> {
    let answer = match &call.outcome {
        Outcome::Answered(answer) => Some(answer),
        Outcome::Unknown if happened.is_some() => None,
        Outcome::Unknown | Outcome::Refused => return None,
    };
    let op = match &call.ask {
        Ask::Get {
            span,
            revision: 0,
            is_serializable: false,
        } if span.has(key) => {
            let answer = answer?;
            CellOp {
                revision: answer.revision,
                compares: Vec::new(),
                has_others: false,
                succeeded: Some(true),
                then: cell_steps(&[Step::Get(span.clone())], Some(answer), key),
                otherwise: Vec::new(),
            }
        }
        Ask::Txn(txn) => {
            let (own, others): (Vec<_>, Vec<_>) =
                txn.compares.iter().partition(|compare| compare.key == key);
            let succeeded = answer.map(|answer| answer.succeeded);
            let of = |steps, branch| {
                let answer = answer.filter(|answer| answer.succeeded == branch);
                cell_steps(steps, answer, key)
            };
            CellOp {
                revision: answer.map(|answer| answer.revision).or(happened)?,
                compares: own.into_iter().map(|one| one.target.clone()).collect(),
                has_others: !others.is_empty(),
                succeeded,
                then: of(&txn.then, true),
                otherwise: of(&txn.otherwise, false),
            }
        }
        Ask::Get { .. } | Ask::Grant { .. } | Ask::Revoke { .. } => return None,
    };
    if op.compares.is_empty() && op.then.is_empty() && op.otherwise.is_empty() {
        return None;
    }
    // Of one revision, its write comes first.
    let is_write = answer.is_none() || writes(call);
    Some(Timed {
        begun: call.begun,
        ended: call.ended,
        is_optional: false,
        rank: op.revision.saturating_mul(2) + i64::from(!is_write),
        op,
    })
}

/// The steps that touch a key, with what is known of their answers.
fn cell_steps(steps: &[Step], answer: Option<&Answer>, key: &str) -> Vec<CellStep> {
    let answers = answer.map(|answer| answer.steps.iter().map(Some));
    let answers: Box<dyn Iterator<Item = Option<&StepAnswer>>> = match answers {
        Some(answers) => Box::new(answers.chain(std::iter::repeat(None))),
        None => Box::new(std::iter::repeat(None)),
    };
    let touching = steps.iter().zip(answers).filter_map(|(step, answer)| {
        Some(match (step, answer) {
            (
                Step::Put {
                    key: put, value, ..
                },
                _,
            ) if put == key => CellStep::Put(value.clone()),
            (Step::Delete(span), Some(StepAnswer::Deleted(count)))
                if span.has(key) && span.end.is_none() =>
            {
                CellStep::Delete(Some(*count > 0))
            }
            (Step::Delete(span), _) if span.has(key) => CellStep::Delete(None),
            (Step::Get(span), Some(StepAnswer::Got(found))) if span.has(key) => {
                CellStep::Get(Some(found.iter().find(|kv| kv.key == key).cloned()))
            }
            (Step::Get(span), _) if span.has(key) => CellStep::Get(None),
            _ => return None,
        })
    });
    touching.collect()
}

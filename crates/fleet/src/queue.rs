//! What is to become of pods and nodes, and when: one entry for each whose next step waits or is being made.
//!
//! ```text
//!   seen ─► waits ─(its time)─► is being made ─(done at a version)─► waits to be seen again
//!     └─(nothing to do, or gone): forgotten          └─(failed)─► waits for a second try
//! ```
//!
//! Events may come late, and before the answer that they are the echo of: what is older than the answer to a step is not
//! looked at, so no step is made twice for one state. Pure: time is passed in. Knows neither pods nor stages: a step is
//! whatever its maker says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::wheel::Wheel;

/// What was seen of an object that has a next step.
#[derive(Debug, Clone)]
pub(crate) struct Seen<A> {
    /// Its resourceVersion, 0 if that is no number.
    pub(crate) version: u64,
    /// The next step, by number: the same number is the same step.
    pub(crate) step: u32,
    /// How long until it is made.
    pub(crate) delay: Duration,
    /// Which object, for the request's guard.
    pub(crate) uid: Arc<str>,
    /// The place of its node in the fleet.
    pub(crate) node: u32,
    /// What is done.
    pub(crate) action: A,
}

/// A step whose time has come.
#[derive(Debug)]
pub(crate) struct Due<A> {
    pub(crate) ticket: Ticket,
    /// `namespace/name`.
    pub(crate) key: Arc<str>,
    pub(crate) uid: Arc<str>,
    pub(crate) node: u32,
    pub(crate) action: A,
}

/// Names a step that is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    slot: u32,
    turn: u32,
}

struct Entry<A> {
    key: Arc<str>,
    seen: Seen<A>,
    state: State<A>,
    /// Raised whenever what the wheel holds of the entry no longer counts.
    turn: u32,
}

enum State<A> {
    Waits,
    /// With what was seen meanwhile and asks for the same step again.
    IsMade(Option<Box<Seen<A>>>),
    /// Made; what is older than this version is not looked at.
    Made(u64),
}

pub(crate) struct Queue<A> {
    places: HashMap<Arc<str>, u32>,
    entries: Vec<Option<Entry<A>>>,
    free: Vec<u32>,
    wheel: Wheel<Ticket>,
    /// Steps whose time came while their nodes were silent.
    parked: Vec<Ticket>,
    out: Vec<Ticket>,
    turns: u32,
}

impl<A: Clone> Queue<A> {
    pub(crate) fn new(now: Instant) -> Queue<A> {
        Queue {
            places: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            wheel: Wheel::new(now),
            parked: Vec::new(),
            out: Vec::new(),
            turns: 0,
        }
    }

    /// How many objects have a step before them.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether something waits for its time.
    pub(crate) fn has_timers(&self) -> bool {
        !self.wheel.is_empty()
    }

    /// Takes in what was seen of an object.
    pub(crate) fn observe(&mut self, key: &str, seen: Seen<A>, now: Instant) {
        let Some(slot) = self.places.get(key).copied() else {
            return self.add(key, seen, now);
        };
        let Some(Some(entry)) = self.entries.get_mut(slot as usize) else {
            return;
        };
        let is_same = entry.seen.uid == seen.uid;
        match &mut entry.state {
            State::Made(version) if is_same && seen.version < *version => return,
            State::Waits if is_same && entry.seen.step == seen.step => return,
            State::IsMade(again) if is_same && entry.seen.step == seen.step => {
                *again = Some(Box::new(seen));
                return;
            }
            _ => {}
        }
        entry.seen = seen;
        entry.state = State::Waits;
        self.schedule(slot, now);
    }

    /// The object is gone, or has nothing before it.
    pub(crate) fn forget(&mut self, key: &str) {
        if let Some(slot) = self.places.remove(key) {
            self.entries[slot as usize] = None;
            self.free.push(slot);
        }
    }

    /// Takes out the steps whose time has come. `may` says whether a node may move now; steps of those that may not are
    /// parked until [`Queue::unpark`].
    pub(crate) fn due(&mut self, now: Instant, may: impl Fn(u32) -> bool, due: &mut Vec<Due<A>>) {
        let mut out = std::mem::take(&mut self.out);
        self.wheel.advance(now, &mut out);
        for ticket in out.drain(..) {
            let Some(Some(entry)) = self.entries.get_mut(ticket.slot as usize) else {
                continue;
            };
            if entry.turn != ticket.turn || !matches!(entry.state, State::Waits) {
                continue;
            }
            if !may(entry.seen.node) {
                self.parked.push(ticket);
                continue;
            }
            entry.state = State::IsMade(None);
            due.push(Due {
                ticket,
                key: entry.key.clone(),
                uid: entry.seen.uid.clone(),
                node: entry.seen.node,
                action: entry.seen.action.clone(),
            });
        }
        self.out = out;
    }

    /// Whether steps wait for their nodes to talk.
    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Lets the parked steps of nodes that may move again come.
    pub(crate) fn unpark(&mut self, now: Instant, may: impl Fn(u32) -> bool) {
        let (entries, wheel) = (&self.entries, &mut self.wheel);
        self.parked.retain(|ticket| {
            let entry = entries.get(ticket.slot as usize).and_then(Option::as_ref);
            let Some(entry) = entry.filter(|entry| entry.turn == ticket.turn) else {
                return false;
            };
            let waits = !may(entry.seen.node);
            if !waits {
                wheel.insert(now, *ticket);
            }
            waits
        });
    }

    /// A step was made; the object has this version since.
    pub(crate) fn made(&mut self, ticket: Ticket, version: u64, now: Instant) {
        let Some(entry) = self.of(ticket) else {
            return;
        };
        let State::IsMade(again) = std::mem::replace(&mut entry.state, State::Made(version)) else {
            return;
        };
        if let Some(seen) = again.filter(|seen| seen.version >= version) {
            entry.seen = *seen;
            entry.state = State::Waits;
            self.schedule(ticket.slot, now);
        }
    }

    /// A step failed and is to be tried again after a pause.
    pub(crate) fn failed(&mut self, ticket: Ticket, pause: Duration, now: Instant) {
        if let Some(entry) = self.of(ticket) {
            entry.state = State::Waits;
            entry.seen.delay = pause;
            self.schedule(ticket.slot, now);
        }
    }

    /// Whether the step of this ticket still is what is being made of its object.
    pub(crate) fn is_current(&mut self, ticket: Ticket) -> bool {
        self.of(ticket).is_some()
    }

    fn add(&mut self, key: &str, seen: Seen<A>, now: Instant) {
        let key: Arc<str> = key.into();
        let entry = Entry {
            key: key.clone(),
            seen,
            state: State::Waits,
            turn: 0,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        self.entries[slot as usize] = Some(entry);
        self.places.insert(key, slot);
        self.schedule(slot, now);
    }

    /// The entry whose step is being made under this ticket.
    fn of(&mut self, ticket: Ticket) -> Option<&mut Entry<A>> {
        let entry = self.entries.get_mut(ticket.slot as usize)?.as_mut()?;
        let is_it = entry.turn == ticket.turn && matches!(entry.state, State::IsMade(_));
        is_it.then_some(entry)
    }

    fn schedule(&mut self, slot: u32, now: Instant) {
        self.turns = self.turns.wrapping_add(1);
        if let Some(entry) = &mut self.entries[slot as usize] {
            entry.turn = self.turns;
            let ticket = Ticket {
                slot,
                turn: self.turns,
            };
            self.wheel.insert(now + entry.seen.delay, ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn seen(version: u64, step: u32, millis: u64) -> Seen<&'static str> {
        Seen {
            version,
            step,
            delay: Duration::from_millis(millis),
            uid: "u".into(),
            node: 3,
            action: "act",
        }
    }

    fn take(queue: &mut Queue<&'static str>, now: Instant) -> Vec<Due<&'static str>> {
        let mut due = Vec::new();
        queue.due(now, |_| true, &mut due);
        due
    }

    #[test]
    fn a_step_is_made_once_whatever_is_seen_of_its_state() {
        let now = Instant::now();
        let mut queue = Queue::new(now);
        queue.observe("d/p", seen(5, 1, 500), now);
        // Seen again before its time: the time stays.
        queue.observe("d/p", seen(6, 1, 5_000), now);
        assert!(take(&mut queue, now + SECOND / 4).is_empty());
        let due = take(&mut queue, now + SECOND);
        assert_eq!((&*due[0].key, due[0].node, due.len()), ("d/p", 3, 1));
        // What comes late, from before the answer, changes nothing.
        queue.made(due[0].ticket, 9, now + SECOND);
        queue.observe("d/p", seen(8, 1, 0), now + SECOND);
        assert!(take(&mut queue, now + 2 * SECOND).is_empty());
        // The echo asks for the next step.
        queue.observe("d/p", seen(9, 2, 0), now + 2 * SECOND);
        assert_eq!(take(&mut queue, now + 3 * SECOND).len(), 1);
        queue.forget("d/p");
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn an_echo_that_overtakes_its_answer_is_not_lost() {
        let now = Instant::now();
        let mut queue = Queue::new(now);
        // A stage that leads to itself.
        queue.observe("n", seen(1, 0, 0), now);
        let first = take(&mut queue, now + SECOND);
        queue.observe("n", seen(2, 0, 1_000), now + SECOND);
        assert!(take(&mut queue, now + 3 * SECOND).is_empty());
        queue.made(first[0].ticket, 2, now + 3 * SECOND);
        assert!(take(&mut queue, now + 3 * SECOND).is_empty());
        assert_eq!(take(&mut queue, now + 5 * SECOND).len(), 1);
    }

    #[test]
    fn another_step_replaces_what_waits_and_what_failed_comes_again() {
        let now = Instant::now();
        let mut queue = Queue::new(now);
        queue.observe("d/p", seen(5, 1, 500), now);
        queue.observe("d/p", seen(6, 4, 100), now);
        let due = take(&mut queue, now + SECOND / 5);
        assert_eq!(due.len(), 1);
        queue.failed(due[0].ticket, SECOND, now + SECOND / 5);
        assert!(take(&mut queue, now + SECOND).is_empty());
        assert_eq!(take(&mut queue, now + 2 * SECOND).len(), 1);
        // An answer to a step that no longer counts is no answer.
        queue.made(due[0].ticket, 10, now);
        queue.failed(due[0].ticket, SECOND, now);
    }

    #[test]
    fn steps_of_silent_nodes_wait_until_they_talk() {
        let now = Instant::now();
        let mut queue = Queue::new(now);
        queue.observe("d/p", seen(5, 1, 0), now);
        let mut due = Vec::new();
        queue.due(now + SECOND, |node| node != 3, &mut due);
        assert!(due.is_empty() && !queue.has_timers());
        queue.unpark(now + SECOND, |node| node != 3);
        assert!(queue.has_parked() && !queue.has_timers());
        queue.unpark(now + SECOND, |_| true);
        assert!(!queue.has_parked());
        assert_eq!(take(&mut queue, now + 2 * SECOND).len(), 1);
    }
}

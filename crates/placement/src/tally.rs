//! Tallies: how many pods of a sort there are, by shape of node and, on each shape, by node.
//!
//! A tally counts the pods that a selector finds, or the pods that hold a certain affinity term. How many of
//! a node's pods a tally counts is part of the node's load; here stands the sum over nodes, kept as nodes move:
//!
//! ```text
//!   tally ─► shape ─► { pods in all, nodes with 1, nodes with 2 … }
//! ```
//!
//! So a domain's count is a sum over shapes, and the count of a single node is in its state. Does not know
//! which label makes domains, nor who asks.

use crate::hashing::Hashing;
use crate::intern::Word;
use crate::terms::{Identity, PodTerm, selects};
use hashbrown::HashMap;
use meta::labels::LabelSelector;

/// What pods that hold a term want of the pods it selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Not in one domain with them.
    Repels,
    /// In one domain with them only.
    Requires,
    /// Weight for being in one domain with them.
    Prefers(i64),
}

/// Which pods a tally counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// Those that all of these terms of a waiting pod find.
    Found(Box<[PodTerm]>),
    /// Those of one namespace that a spread constraint selects; pods that go do not count.
    Spread(Box<str>, LabelSelector),
    /// Those that hold this term.
    Holders(Role, Box<PodTerm>),
}

impl Subject {
    /// Is the pod one of them? Holders are known by what they hold, not asked here.
    pub(crate) fn counts(&self, pod: &Identity<'_>) -> bool {
        match self {
            Subject::Found(terms) => terms.iter().all(|t| t.finds(pod)),
            Subject::Spread(namespace, selector) => {
                !pod.deleting && **namespace == *pod.namespace && selects(selector, pod.labels)
            }
            Subject::Holders(..) => false,
        }
    }

    /// Do labels of namespaces decide anything?
    pub(crate) fn asks_namespace_labels(&self) -> bool {
        match self {
            Subject::Found(terms) => terms.iter().any(PodTerm::asks_namespace_labels),
            Subject::Spread(..) => false,
            Subject::Holders(_, term) => term.asks_namespace_labels(),
        }
    }
}

/// The nodes of one shape, as one tally sees them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spot {
    /// Pods on all of them.
    pub(crate) pods: i64,
    /// (pods on the node, such nodes), sorted, without the nodes that have none.
    by_count: Vec<(i64, u32)>,
}

impl Spot {
    /// Nodes with at least one pod.
    pub(crate) fn nodes(&self) -> u32 {
        self.by_count.iter().map(|(_, nodes)| nodes).sum()
    }

    /// (pods on the node, such nodes).
    pub(crate) fn levels(&self) -> impl Iterator<Item = (i64, u32)> {
        self.by_count.iter().copied()
    }

    fn add(&mut self, count: i64) {
        self.pods += count;
        match self.by_count.binary_search_by_key(&count, |(c, _)| *c) {
            Ok(at) => self.by_count[at].1 += 1,
            Err(at) => self.by_count.insert(at, (count, 1)),
        }
    }

    fn remove(&mut self, count: i64) {
        self.pods -= count;
        if let Ok(at) = self.by_count.binary_search_by_key(&count, |(c, _)| *c) {
            self.by_count[at].1 -= 1;
            if self.by_count[at].1 == 0 {
                self.by_count.remove(at);
            }
        }
    }
}

#[derive(Debug)]
struct Tally {
    subject: Subject,
    /// The topology key of a held term; of no meaning otherwise.
    key: Word,
    holders: u32,
    spots: HashMap<u32, Spot, Hashing>,
}

/// All tallies.
#[derive(Debug)]
pub(crate) struct Tallies {
    slots: Vec<Option<Tally>>,
    free: Vec<u32>,
    by_subject: HashMap<Subject, u32, Hashing>,
    /// Tallies of held terms.
    held: Vec<u32>,
    /// Changes with the list of held terms.
    held_version: u64,
    /// Tallies nobody holds any more.
    stale: usize,
    hashing: Hashing,
}

impl Tallies {
    pub(crate) fn new(hashing: Hashing) -> Tallies {
        Tallies {
            slots: Vec::new(),
            free: Vec::new(),
            by_subject: HashMap::with_hasher(hashing.clone()),
            held: Vec::new(),
            held_version: 1,
            stale: 0,
            hashing,
        }
    }

    /// The tally of a subject, held once more; true when it is new and counts nothing yet.
    pub(crate) fn acquire(&mut self, subject: &Subject, key: Word) -> (u32, bool) {
        if let Some(&id) = self.by_subject.get(subject) {
            if let Some(Some(tally)) = self.slots.get_mut(id as usize) {
                if tally.holders == 0 {
                    self.stale = self.stale.saturating_sub(1);
                }
                tally.holders += 1;
            }
            return (id, false);
        }
        let tally = Tally {
            subject: subject.clone(),
            key,
            holders: 1,
            spots: HashMap::with_hasher(self.hashing.clone()),
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = Some(tally);
                id
            }
            None => {
                self.slots.push(Some(tally));
                (self.slots.len() - 1) as u32
            }
        };
        self.by_subject.insert(subject.clone(), id);
        if matches!(subject, Subject::Holders(..)) {
            self.held.push(id);
            self.held_version += 1;
        }
        (id, true)
    }

    /// One holder less. A held term nobody holds is gone at once, for then nothing is counted; its key is
    /// given back. Others stay, counting, until [`Tallies::drop_stale`].
    pub(crate) fn release(&mut self, id: u32) -> Option<Word> {
        let tally = self.slots.get_mut(id as usize)?.as_mut()?;
        tally.holders -= 1;
        if tally.holders > 0 {
            return None;
        }
        if !matches!(tally.subject, Subject::Holders(..)) {
            self.stale += 1;
            return None;
        }
        let key = tally.key;
        self.held.retain(|&other| other != id);
        self.held_version += 1;
        self.remove(id);
        Some(key)
    }

    /// Tallies nobody holds that are still kept up.
    pub(crate) fn stale(&self) -> usize {
        self.stale
    }

    /// Tallies nobody holds: to be taken out of every load, then out of here by [`Tallies::remove_stale`].
    pub(crate) fn is_stale(&self, id: u32) -> bool {
        self.get(id).is_none_or(|tally| tally.holders == 0)
    }

    /// Forgets what nobody holds.
    pub(crate) fn remove_stale(&mut self) {
        for id in 0..self.slots.len() as u32 {
            if self.get(id).is_some_and(|tally| tally.holders == 0) {
                self.remove(id);
            }
        }
        self.stale = 0;
    }

    fn remove(&mut self, id: u32) {
        if let Some(tally) = self.slots[id as usize].take() {
            self.by_subject.remove(&tally.subject);
            self.free.push(id);
        }
    }

    fn get(&self, id: u32) -> Option<&Tally> {
        self.slots.get(id as usize)?.as_ref()
    }

    /// Changes whenever a held term comes or goes, or [`Tallies::namespaces_changed`].
    pub(crate) fn held_version(&self) -> u64 {
        self.held_version
    }

    /// All held terms, with their numbers.
    pub(crate) fn held(&self) -> impl Iterator<Item = (u32, Role, &PodTerm)> {
        self.held
            .iter()
            .filter_map(|&id| match &self.get(id)?.subject {
                Subject::Holders(role, term) => Some((id, *role, &**term)),
                _ => None,
            })
    }

    /// Terms may concern other pods than they did.
    pub(crate) fn namespaces_changed(&mut self) {
        self.held_version += 1;
    }

    /// Do labels of namespaces decide for any tally?
    pub(crate) fn asks_namespace_labels(&self) -> bool {
        let mut tallies = self.slots.iter().flatten();
        tallies.any(|t| t.subject.asks_namespace_labels())
    }

    /// Tallies, other than of held terms, that count this pod; sorted.
    pub(crate) fn counting(&self, pod: &Identity<'_>) -> Vec<u32> {
        let all = self.slots.iter().enumerate();
        all.filter(|(_, t)| t.as_ref().is_some_and(|t| t.subject.counts(pod)))
            .map(|(id, _)| id as u32)
            .collect()
    }

    /// Does this tally count this pod?
    pub(crate) fn counts(&self, id: u32, pod: &Identity<'_>) -> bool {
        self.get(id).is_some_and(|t| t.subject.counts(pod))
    }

    /// Held terms that concern this pod: tally, topology key, what its holders want.
    pub(crate) fn concerning(&self, pod: &Identity<'_>) -> Vec<(u32, Word, Role)> {
        let mut found = Vec::new();
        for &id in &self.held {
            if let Some(tally) = self.get(id)
                && let Subject::Holders(role, term) = &tally.subject
                && term.concerns(pod)
            {
                found.push((id, tally.key, *role));
            }
        }
        found.sort_unstable_by_key(|(id, ..)| *id);
        found
    }

    /// What a tally counts, by shape.
    pub(crate) fn spots(&self, id: u32) -> impl Iterator<Item = (u32, &Spot)> {
        let spots = self.get(id).map(|tally| tally.spots.iter());
        spots
            .into_iter()
            .flatten()
            .map(|(shape, spot)| (*shape, spot))
    }

    /// What a tally counts on nodes of one shape.
    pub(crate) fn spot(&self, id: u32, shape: u32) -> Option<&Spot> {
        self.get(id)?.spots.get(&shape)
    }

    /// A node of that shape now has `new` of the pods, where it had `old`.
    pub(crate) fn moved(&mut self, id: u32, shape: u32, old: i64, new: i64) {
        let Some(Some(tally)) = self.slots.get_mut(id as usize) else {
            return;
        };
        let spot = tally.spots.entry(shape).or_default();
        if old != 0 {
            spot.remove(old);
        }
        if new != 0 {
            spot.add(new);
        }
        if spot.by_count.is_empty() {
            tally.spots.remove(&shape);
        }
    }
}

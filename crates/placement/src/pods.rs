//! Pods on nodes: accounting for them, and what they are counted by.
//!
//! A pod adds its kind's *delta* to its node: what it takes, and one for each tally that counts it. A tally that
//! comes or goes changes deltas, and the nodes of the pods concerned move to other states.
//!
//! Does not know classes beyond the kind of their pods.

use crate::cluster::{ASSUMED, Cluster, NO_POD, NodeId, PodRecord};
use crate::company::SpreadRule;
use crate::fleet::{Due, Load};
use crate::hashing::hash_one;
use crate::intern::Word;
use crate::key::PodKey;
use crate::objects::{PodInfo, PodSpec};
use crate::tally::{Role, Subject};
use crate::terms::{Pairs, PodAffinity};

/// Tallies nobody asks for any more that are still kept up: a class that comes back finds them.
const STALE_TALLIES_MAX: usize = 256;

impl Cluster {
    /// A pod as the API shows it: bound and unfinished pods count, others do not. True when that
    /// changed anything.
    pub fn observe_pod(&mut self, pod: &PodInfo) -> bool {
        let key = PodKey::of(&pod.uid);
        match &pod.node {
            Some(node) if !pod.finished => {
                let kind = self.hold_kind(&pod.spec, pod.deleting);
                let node = self.fleet.find_or_add(node);
                let moved = self.account(key, node, kind, 0);
                self.withdraw_nomination(key);
                if let Some(uses) = &pod.uses
                    && self.asks_about_volumes()
                {
                    self.attached.note(key, node, uses);
                }
                if let Some(slot) = self.pods.get(&key).copied() {
                    let name_hash = self.name_hash(&pod.name);
                    let record = &mut self.records[slot as usize];
                    if record.started_micros != pod.started_micros {
                        self.rosters.touch(node);
                    }
                    record.started_micros = pod.started_micros;
                    record.name_hash = name_hash;
                    // Who is being evicted stays so until it is gone, whatever an older view shows.
                    record.preempted |= pod.preempted && pod.deleting;
                }
                moved
            }
            Some(_) => self.remove_pod(key),
            // A pod not bound yet may be assumed: our own binding is on its way.
            None => false,
        }
    }

    pub(crate) fn name_hash(&self, name: &str) -> u64 {
        hash_one(&self.hashing, name)
    }

    /// A pod is gone or finished. True when it was accounted for.
    pub fn remove_pod(&mut self, key: PodKey) -> bool {
        let Some(slot) = self.pods.remove(&key) else {
            return false;
        };
        let record = self.records[slot as usize];
        self.assumed -= usize::from(record.kind & ASSUMED != 0);
        self.attached.forget(key);
        self.unlink(slot);
        self.free_records.push(slot);
        self.take_off(record.node, record.kind & !ASSUMED);
        true
    }

    /// Is the pod assumed and not yet seen bound?
    pub fn is_assumed(&self, key: PodKey) -> bool {
        self.pods
            .get(&key)
            .is_some_and(|&slot| self.records[slot as usize].kind & ASSUMED != 0)
    }

    /// Is the pod accounted for on some node?
    pub fn has_pod(&self, key: PodKey) -> bool {
        self.pods.contains_key(&key)
    }

    /// Pods accounted for.
    pub fn pods(&self) -> usize {
        self.pods.len()
    }

    /// Of these, those assumed and not yet seen bound.
    pub fn assumed_pods(&self) -> usize {
        self.assumed
    }

    /// `kind` comes held; the record keeps the hold.
    pub(crate) fn account(&mut self, key: PodKey, node: u32, kind: u32, assumed: u32) -> bool {
        let delta = self.delta_of(kind);
        let Some(&slot) = self.pods.get(&key) else {
            self.fleet.shift(node, delta, true);
            self.assumed += usize::from(assumed != 0);
            let record = PodRecord {
                key,
                node,
                kind: kind | assumed,
                next: NO_POD,
                previous: NO_POD,
                started_micros: 0,
                name_hash: 0,
                preempted: false,
            };
            let slot = match self.free_records.pop() {
                Some(slot) => {
                    self.records[slot as usize] = record;
                    slot
                }
                None => {
                    self.records.push(record);
                    (self.records.len() - 1) as u32
                }
            };
            self.pods.insert(key, slot);
            self.link(slot);
            return true;
        };
        let old = self.records[slot as usize];
        if old.node == node && old.kind & !ASSUMED == kind {
            let assumed = old.kind & assumed;
            self.assumed -= usize::from(old.kind & ASSUMED != assumed);
            self.records[slot as usize].kind = kind | assumed;
            self.release_kind(kind);
            return false;
        }
        // In before out: a node known only by its pods would vanish between the two.
        self.fleet.shift(node, delta, true);
        self.unlink(slot);
        self.take_off(old.node, old.kind & !ASSUMED);
        self.assumed += usize::from(assumed != 0);
        self.assumed -= usize::from(old.kind & ASSUMED != 0);
        let record = &mut self.records[slot as usize];
        record.node = node;
        record.kind = kind | assumed;
        self.link(slot);
        true
    }

    fn take_off(&mut self, node: u32, kind: u32) {
        let delta = self.delta_of(kind);
        self.fleet.shift(node, delta, false);
        self.release_kind(kind);
    }

    fn link(&mut self, slot: u32) {
        let node = self.records[slot as usize].node;
        self.rosters.touch(node);
        let next = self.fleet.set_first_pod(node, slot);
        let record = &mut self.records[slot as usize];
        (record.next, record.previous) = (next, NO_POD);
        if let Some(next) = self.records.get_mut(next as usize) {
            next.previous = slot;
        }
    }

    fn unlink(&mut self, slot: u32) {
        let PodRecord {
            node,
            next,
            previous,
            ..
        } = self.records[slot as usize];
        self.rosters.touch(node);
        match self.records.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None => {
                self.fleet.set_first_pod(node, next);
            }
        }
        if let Some(next) = self.records.get_mut(next as usize) {
            next.previous = previous;
        }
    }

    /// The pods on a node, those assumed included.
    pub fn pods_on(&self, node: NodeId) -> impl Iterator<Item = PodKey> + '_ {
        self.pods_of(node.0)
            .map(|slot| self.records[slot as usize].key)
    }

    /// The records of a node's pods.
    pub(crate) fn pods_of(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let some = |slot: u32| (slot != NO_POD).then_some(slot);
        std::iter::successors(some(self.fleet.first_pod(node)), move |&slot| {
            some(self.records[slot as usize].next)
        })
    }

    // ---- kinds

    fn delta_of(&self, kind: u32) -> u32 {
        self.kinds.get(kind).map_or(0, |kind| kind.delta)
    }

    /// The kind of pods with that spec, held once more.
    pub(crate) fn hold_kind(&mut self, spec: &PodSpec, deleting: bool) -> u32 {
        if let Some(known) = self.kinds.find(spec, deleting) {
            self.kinds.hold(known);
            return known;
        }
        let mut load = self.fleet.request_load(&spec.request, &spec.ports);
        let held = self.hold_terms(&spec.affinity);
        let identity = self.identity_of(spec, deleting);
        load.tallies = sum_up(self.fleet.tallies.counting(&identity), &held);
        let delta = self.fleet.hold_delta(load);
        self.kinds.insert(spec, deleting, delta, held.into())
    }

    pub(crate) fn release_kind(&mut self, kind: u32) {
        let Some(gone) = self.kinds.release(kind) else {
            return;
        };
        self.fleet.release_delta(gone.delta);
        for &tally in &gone.held {
            if let Some(key) = self.fleet.tallies.release(tally) {
                self.fleet.unwant(key, &[], true);
                self.fleet.words.release(key);
            }
        }
    }

    /// Tallies of the terms a pod holds, each held once for each.
    fn hold_terms(&mut self, affinity: &PodAffinity) -> Vec<u32> {
        let repels = affinity.required_anti.iter().map(|t| (Role::Repels, t));
        let requires = affinity.required.iter().map(|t| (Role::Requires, t));
        let prefers = affinity
            .preferred
            .iter()
            .map(|(weight, t)| (Role::Prefers(*weight), t));
        let mut held = Vec::new();
        let mut due = Due::default();
        for (role, term) in repels.chain(requires).chain(prefers) {
            let key = self.fleet.words.acquire(&term.topology_key);
            let subject = Subject::Holders(role, Box::new(term.clone()));
            let (tally, is_new) = self.fleet.tallies.acquire(&subject, key);
            if is_new {
                self.fleet.want(key, &[], true, &mut due);
            } else {
                self.fleet.words.release(key);
            }
            held.push(tally);
        }
        self.fleet.follow_interests(due);
        held.sort_unstable();
        held
    }

    // ---- what pods are counted by

    /// The tally of a subject under a topology key, both held until [`Cluster::release_tally`].
    pub(crate) fn hold_tally(&mut self, subject: &Subject, key: &str) -> (u32, Word) {
        let key = self.hold_topology(key);
        let (tally, is_new) = self.fleet.tallies.acquire(subject, key);
        if is_new {
            self.retally(|fleet, kind, identity| {
                let known = &fleet.deltas.get(kind.delta).tallies;
                fleet.tallies.counts(tally, identity).then(|| {
                    let mut tallies = known.to_vec();
                    tallies.push((tally, 1));
                    tallies
                })
            });
        }
        (tally, key)
    }

    pub(crate) fn hold_topology(&mut self, key: &str) -> Word {
        let key = self.fleet.words.acquire(key);
        let mut due = Due::default();
        self.fleet.want(key, &[], true, &mut due);
        self.fleet.follow_interests(due);
        key
    }

    pub(crate) fn release_topology(&mut self, key: Word) {
        self.fleet.unwant(key, &[], true);
        self.fleet.words.release(key);
    }

    /// Gives a tally of a class back.
    pub(crate) fn release_tally(&mut self, tally: u32) {
        self.fleet.tallies.release(tally);
        if self.fleet.tallies.stale() <= STALE_TALLIES_MAX {
            return;
        }
        self.retally(|fleet, kind, _| {
            let known = &fleet.deltas.get(kind.delta).tallies;
            let stale = |&(tally, _): &(u32, i64)| fleet.tallies.is_stale(tally);
            known.iter().any(stale).then(|| {
                let kept = known.iter().filter(|tally| !stale(tally));
                kept.copied().collect()
            })
        });
        self.fleet.tallies.remove_stale();
    }

    /// Gives kinds the tallies that `change` says, and moves the nodes of their pods.
    fn retally(
        &mut self,
        change: impl Fn(
            &crate::fleet::Fleet,
            &crate::kinds::Kind,
            &crate::terms::Identity<'_>,
        ) -> Option<Vec<(u32, i64)>>,
    ) {
        let mut changed: Vec<Option<(u32, u32)>> = Vec::new();
        for id in self.kinds.ids() {
            let Some(kind) = self.kinds.get(id) else {
                continue;
            };
            let labels = self.namespaces.get(&kind.namespace).map(Vec::as_slice);
            let Some(mut tallies) = change(&self.fleet, kind, &kind.identity(labels)) else {
                continue;
            };
            tallies.sort_unstable();
            let (request, ports) = (kind.request.clone(), kind.ports.clone());
            let load = self.fleet.request_load(&request, &ports);
            let delta = self.fleet.hold_delta(Load {
                tallies: tallies.into(),
                ..load
            });
            if let Some(kind) = self.kinds.get_mut(id) {
                let old = std::mem::replace(&mut kind.delta, delta);
                changed.resize(changed.len().max(id as usize + 1), None);
                changed[id as usize] = Some((old, delta));
            }
        }
        if changed.is_empty() {
            return;
        }
        for &slot in self.pods.values() {
            let PodRecord { node, kind, .. } = self.records[slot as usize];
            if let Some(&Some((old, new))) = changed.get((kind & !ASSUMED) as usize) {
                self.fleet.recount(node, old, new);
            }
        }
        for nomination in self.nominations.values() {
            if let Some(&Some((old, new))) = changed.get(nomination.kind as usize) {
                let (node, priority) = (nomination.node, nomination.priority);
                self.fleet.claim(node, priority, new, true);
                self.fleet.claim(node, priority, old, false);
            }
        }
        for (old, _) in changed.into_iter().flatten() {
            self.fleet.release_delta(old);
        }
    }

    // ---- namespaces

    /// A namespace and its labels, sorted by key. True when that is a change.
    pub fn upsert_namespace(&mut self, name: &str, labels: Pairs) -> bool {
        let old = self.namespaces.insert(name.into(), labels);
        let changed = old.as_ref() != self.namespaces.get(name);
        if changed {
            self.namespace_changed(name);
        }
        changed
    }

    /// A namespace is gone.
    pub fn remove_namespace(&mut self, name: &str) {
        if self.namespaces.remove(name).is_some() {
            self.namespace_changed(name);
        }
    }

    fn namespace_changed(&mut self, name: &str) {
        if !self.fleet.tallies.asks_namespace_labels() {
            return;
        }
        self.fleet.tallies.namespaces_changed();
        self.retally(|fleet, kind, identity| {
            if &*kind.namespace != name {
                return None;
            }
            let now = sum_up(fleet.tallies.counting(identity), &kind.held);
            (now != fleet.deltas.get(kind.delta).tallies).then(|| now.to_vec())
        });
    }

    pub(crate) fn identity_of<'a>(
        &'a self,
        spec: &'a PodSpec,
        deleting: bool,
    ) -> crate::terms::Identity<'a> {
        crate::terms::Identity {
            namespace: &spec.namespace,
            namespace_labels: self.namespaces.get(&spec.namespace).map(Vec::as_slice),
            labels: &spec.labels,
            deleting,
        }
    }
}

/// How often each tally counts a pod.
fn sum_up(counting: Vec<u32>, held: &[u32]) -> crate::fleet::Counts<u32> {
    let mut all = counting;
    all.extend(held);
    all.sort_unstable();
    let mut sums: Vec<(u32, i64)> = Vec::new();
    for tally in all {
        match sums.last_mut() {
            Some((last, times)) if *last == tally => *times += 1,
            _ => sums.push((tally, 1)),
        }
    }
    sums.into()
}

/// A spread constraint, but for its tally.
pub(crate) fn spread_rule(
    constraint: &crate::terms::SpreadConstraint,
    (tally, key): (u32, Word),
    itself: bool,
) -> SpreadRule {
    SpreadRule {
        tally,
        key,
        max_skew: constraint.max_skew,
        min_domains: constraint.min_domains.max(1),
        itself,
        hard: constraint.hard,
        honor_affinity: constraint.honor_affinity,
        honor_taints: constraint.honor_taints,
    }
}

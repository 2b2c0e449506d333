//! Kinds of pods: all that matters of a pod once it has a node, stored once for pods alike.
//!
//! Pods of one kind weigh the same on a node and are counted by the same tallies. A class is finer (it knows
//! what a pod asks of its node). Does not know pods or nodes.

use crate::hashing::{Hashing, hash_one};
use crate::objects::{PodRequest, PodSpec};
use crate::terms::{HostPort, Identity, Pairs, PodAffinity};
use hashbrown::HashTable;

/// One kind.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) request: PodRequest,
    pub(crate) ports: Vec<HostPort>,
    pub(crate) namespace: Box<str>,
    pub(crate) labels: Pairs,
    pub(crate) affinity: PodAffinity,
    pub(crate) priority: i32,
    pub(crate) deleting: bool,
    /// What it adds to a node: a number of `Fleet`'s.
    pub(crate) delta: u32,
    /// Tallies of the terms it holds; kept by it.
    pub(crate) held: Box<[u32]>,
    holders: u32,
}

impl Kind {
    pub(crate) fn identity<'a>(
        &'a self,
        namespace_labels: Option<&'a [(Box<str>, Box<str>)]>,
    ) -> Identity<'a> {
        Identity {
            namespace: &self.namespace,
            namespace_labels,
            labels: &self.labels,
            deleting: self.deleting,
        }
    }

    pub(crate) fn is_of(&self, spec: &PodSpec, deleting: bool) -> bool {
        self.deleting == deleting
            && self.priority == spec.priority
            && self.request == spec.request
            && self.namespace == spec.namespace
            && self.labels == spec.labels
            && self.ports == spec.ports
            && self.affinity == spec.affinity
    }
}

/// The table of kinds.
#[derive(Debug)]
pub(crate) struct Kinds {
    slots: Vec<Option<Kind>>,
    free: Vec<u32>,
    by_value: HashTable<u32>,
    hashing: Hashing,
}

impl Kinds {
    pub(crate) fn new(hashing: Hashing) -> Kinds {
        Kinds {
            slots: Vec::new(),
            free: Vec::new(),
            by_value: HashTable::new(),
            hashing,
        }
    }

    pub(crate) fn find(&self, spec: &PodSpec, deleting: bool) -> Option<u32> {
        let hash = hash_of_spec(&self.hashing, spec, deleting);
        self.by_value
            .find(hash, |&id| {
                self.get(id).is_some_and(|kind| kind.is_of(spec, deleting))
            })
            .copied()
    }

    /// Stores a kind that is not there yet, with one holder.
    pub(crate) fn insert(
        &mut self,
        spec: &PodSpec,
        deleting: bool,
        delta: u32,
        held: Box<[u32]>,
    ) -> u32 {
        let kind = Kind {
            request: spec.request.clone(),
            ports: spec.ports.clone(),
            namespace: spec.namespace.clone(),
            labels: spec.labels.clone(),
            affinity: spec.affinity.clone(),
            priority: spec.priority,
            deleting,
            delta,
            held,
            holders: 1,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = Some(kind);
                id
            }
            None => {
                self.slots.push(Some(kind));
                (self.slots.len() - 1) as u32
            }
        };
        let (slots, hashing) = (&self.slots, &self.hashing);
        let hash = hash_of_spec(hashing, spec, deleting);
        self.by_value.insert_unique(hash, id, |&id| {
            slots[id as usize]
                .as_ref()
                .map_or(0, |kind| hash_of_kind(hashing, kind))
        });
        id
    }

    pub(crate) fn hold(&mut self, id: u32) {
        if let Some(kind) = self.get_mut(id) {
            kind.holders += 1;
        }
    }

    /// One holder less; the last one gets the kind back.
    pub(crate) fn release(&mut self, id: u32) -> Option<Kind> {
        let kind = self.slots.get_mut(id as usize)?.as_mut()?;
        kind.holders -= 1;
        if kind.holders > 0 {
            return None;
        }
        let hash = hash_of_kind(&self.hashing, kind);
        if let Ok(entry) = self.by_value.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        self.free.push(id);
        self.slots[id as usize].take()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Kind> {
        self.slots.get(id as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Kind> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    /// Is there a kind of lower priority?
    pub(crate) fn some_below(&self, priority: i32) -> bool {
        self.slots.iter().flatten().any(|k| k.priority < priority)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.slots.len() as u32
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

fn hash_of_spec(hashing: &Hashing, spec: &PodSpec, deleting: bool) -> u64 {
    let of = (&spec.request, &spec.ports, &spec.namespace, &spec.labels);
    hash_one(hashing, &(of, &spec.affinity, spec.priority, deleting))
}

fn hash_of_kind(hashing: &Hashing, kind: &Kind) -> u64 {
    let of = (&kind.request, &kind.ports, &kind.namespace, &kind.labels);
    hash_one(hashing, &(of, &kind.affinity, kind.priority, kind.deleting))
}

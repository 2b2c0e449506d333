//! Nodes whose pods are alike: for each node the number of its *roster*, the kinds of its pods in the order in which
//! preemption would spare them.
//!
//! On nodes of one state and one roster preemption sends away the same: so one of them is tried out for all. Kept only
//! once somebody has preempted, and only for nodes that were looked at; a node whose pods change is read again when it
//! is next asked about. Does not know classes, states, or what is tried out.

use crate::cluster::{ASSUMED, Cluster};
use crate::hashing::{Hashing, hash_one};
use crate::key::PodKey;
use hashbrown::HashTable;
use std::cmp::Reverse;

/// Rosters told apart: of 30 pods each 8 MB. Nodes with further ones are tried out one by one.
const ROSTERS_MAX: usize = 1 << 16;
/// So often a node must have found the table full until it is emptied: reading a million nodes again takes a second,
/// which is then little to what was spent on trying out that many.
const REFUSALS_MAX: usize = 16 * ROSTERS_MAX;
/// The node must be read again.
const UNREAD: u32 = u32::MAX;
/// The node is like no other that is known.
const UNLIKE: u32 = u32::MAX - 1;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Rosters {
    /// For each node, as far as anybody asked: 12 bytes.
    of: Vec<u32>,
    latest_micros: Vec<i64>,
    lists: Vec<Box<[u32]>>,
    by_list: HashTable<u32>,
    refusals: usize,
    /// The latest time that a node was read at.
    read_micros: i64,
    hashing: Hashing,
    /// Kept for its room.
    reading: Vec<Entry>,
}

/// A pod: what decides who is spared first, and its kind.
type Entry = ((Reverse<i32>, i64, PodKey), u32);

impl Rosters {
    pub(crate) fn new(hashing: Hashing) -> Rosters {
        Rosters {
            of: Vec::new(),
            latest_micros: Vec::new(),
            lists: Vec::new(),
            by_list: HashTable::new(),
            refusals: 0,
            read_micros: i64::MIN,
            hashing,
            reading: Vec::new(),
        }
    }

    /// Who is on a node, or when they started, changed.
    pub(crate) fn touch(&mut self, node: u32) {
        if let Some(roster) = self.of.get_mut(node as usize) {
            *roster = UNREAD;
        }
    }

    /// Numbers of rosters are below this.
    pub(crate) fn bound(&self) -> usize {
        self.lists.len()
    }

    /// To be called before nodes are asked about at that time. Pods that have not started count as starting then, so
    /// what was read at a later time says nothing.
    pub(crate) fn prepare(&mut self, nodes: usize, now_micros: i64) {
        if now_micros < self.read_micros || self.refusals > REFUSALS_MAX {
            self.of.clear();
            self.lists.clear();
            self.by_list.clear();
            self.refusals = 0;
        }
        self.read_micros = now_micros;
        if self.of.len() < nodes {
            self.of.resize(nodes, UNREAD);
            self.latest_micros.resize(nodes, i64::MIN);
        }
    }

    /// The roster of a node, if others may have the same.
    pub(crate) fn of(&mut self, cluster: &Cluster, node: u32) -> Option<u32> {
        let known = self.of[node as usize];
        let roster = if known == UNREAD {
            self.read(cluster, node)
        } else {
            known
        };
        (roster < UNLIKE).then_some(roster)
    }

    /// None of the node's pods started later. Only of nodes that have a roster.
    pub(crate) fn latest_micros(&self, node: u32) -> i64 {
        self.latest_micros[node as usize]
    }

    fn read(&mut self, cluster: &Cluster, node: u32) -> u32 {
        let now = self.read_micros;
        let mut entries = std::mem::take(&mut self.reading);
        entries.clear();
        let (mut waiting, mut latest) = (false, i64::MIN);
        for slot in cluster.pods_of(node) {
            let record = &cluster.records[slot as usize];
            match record.started_micros {
                0 => waiting = true,
                at => latest = latest.max(at),
            }
            let kind = record.kind & !ASSUMED;
            entries.push((cluster.importance(slot, now), kind));
        }
        entries.sort_unstable_by_key(|&(importance, _)| importance);
        let roster = if waiting && latest >= now {
            // Who has not started may change places with who has, as time goes on.
            UNREAD
        } else {
            self.number(entries.iter().map(|&(_, kind)| kind))
        };
        self.of[node as usize] = roster;
        // Who has not started counts as starting now, whenever that is.
        self.latest_micros[node as usize] = if waiting { i64::MAX } else { latest };
        self.reading = entries;
        roster
    }

    fn number(&mut self, kinds: impl Iterator<Item = u32>) -> u32 {
        let list: Box<[u32]> = kinds.collect();
        let hash = hash_one(&self.hashing, &*list);
        let lists = &self.lists;
        if let Some(&known) = self.by_list.find(hash, |&at| {
            let other = &lists[at as usize];
            // Empty slices apart: comparing them is slow on some machines.
            other.len() == list.len() && (list.is_empty() || *other == list)
        }) {
            return known;
        }
        if self.lists.len() >= ROSTERS_MAX {
            self.refusals += 1;
            return UNLIKE;
        }
        let number = self.lists.len() as u32;
        self.lists.push(list);
        let (lists, hashing) = (&self.lists, &self.hashing);
        self.by_list
            .insert_unique(hash, number, |&at| hash_one(hashing, &*lists[at as usize]));
        number
    }
}

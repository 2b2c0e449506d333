//! Who is who among the pods: the name of a uid and the uid of a name, each stored once.
//!
//! Takes in what the reflector tells and says which pods went. Does not know what a pod is.

use std::hash::{BuildHasher as _, RandomState};

use client::Change;
use hashbrown::HashTable;
use placement::PodKey;

/// One pod: about 40 bytes and its name.
#[derive(Debug)]
struct Line {
    /// `namespace/name`.
    name: Box<str>,
    pod: PodKey,
    /// The list that named it last.
    round: u32,
}

/// All pods, whether or not they have a node.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    lines: Vec<Line>,
    by_name: HashTable<u32>,
    by_pod: HashTable<u32>,
    hashing: RandomState,
    round: u32,
    synced: bool,
}

impl Roster {
    /// Whether a first list is complete.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// `namespace/name` of a pod.
    pub(crate) fn name_of(&self, pod: PodKey) -> Option<&str> {
        let at = self.by_pod.find(self.hashing.hash_one(pod), |&at| {
            self.lines[at as usize].pod == pod
        })?;
        Some(&self.lines[*at as usize].name)
    }

    /// Takes in one change, and gives the pods that are gone by it.
    pub(crate) fn take(&mut self, change: Change<PodKey>) -> Vec<PodKey> {
        match change {
            Change::Restart => {
                self.round = self.round.wrapping_add(1);
                Vec::new()
            }
            Change::Apply(name, pod) => self.enter(name, pod).into_iter().collect(),
            Change::Same(_) => Vec::new(),
            Change::Delete(name) => self.strike(&name).into_iter().collect(),
            Change::Synced => {
                self.synced = true;
                let round = self.round;
                let unseen: Vec<Box<str>> = self
                    .lines
                    .iter()
                    .filter(|line| line.round != round)
                    .map(|line| line.name.clone())
                    .collect();
                unseen.iter().filter_map(|name| self.strike(name)).collect()
            }
        }
    }

    fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hashing.hash_one(name);
        let same = |&at: &u32| *self.lines[at as usize].name == *name;
        self.by_name.find(hash, same).copied()
    }

    /// Gives the pod that had the name before, if that is another one.
    fn enter(&mut self, name: String, pod: PodKey) -> Option<PodKey> {
        if let Some(at) = self.find(&name) {
            let line = &mut self.lines[at as usize];
            line.round = self.round;
            if line.pod == pod {
                return None;
            }
            let old = std::mem::replace(&mut line.pod, pod);
            self.unlink_pod(old, at);
            self.link_pod(at);
            return Some(old);
        }
        let at = self.lines.len() as u32;
        self.lines.push(Line {
            name: name.into(),
            pod,
            round: self.round,
        });
        self.link_name(at);
        self.link_pod(at);
        None
    }

    fn strike(&mut self, name: &str) -> Option<PodKey> {
        let at = self.find(name)?;
        let pod = self.lines[at as usize].pod;
        self.unlink_pod(pod, at);
        self.unlink_name(at);
        // The last line moves into the gap.
        let last = (self.lines.len() - 1) as u32;
        if last != at {
            let moved = self.lines[last as usize].pod;
            self.unlink_pod(moved, last);
            self.unlink_name(last);
        }
        self.lines.swap_remove(at as usize);
        if last != at {
            self.link_name(at);
            self.link_pod(at);
        }
        Some(pod)
    }

    fn link_name(&mut self, at: u32) {
        let (lines, hashing) = (&self.lines, &self.hashing);
        let hash = |&at: &u32| hashing.hash_one(&*lines[at as usize].name);
        self.by_name.insert_unique(hash(&at), at, hash);
    }

    fn link_pod(&mut self, at: u32) {
        let (lines, hashing) = (&self.lines, &self.hashing);
        let hash = |&at: &u32| hashing.hash_one(lines[at as usize].pod);
        self.by_pod.insert_unique(hash(&at), at, hash);
    }

    fn unlink_name(&mut self, at: u32) {
        let hash = self.hashing.hash_one(&*self.lines[at as usize].name);
        if let Ok(entry) = self.by_name.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
    }

    fn unlink_pod(&mut self, pod: PodKey, at: u32) {
        let hash = self.hashing.hash_one(pod);
        if let Ok(entry) = self.by_pod.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(number: u128) -> PodKey {
        PodKey::of_uuid(number)
    }

    fn apply(roster: &mut Roster, name: &str, number: u128) -> Vec<PodKey> {
        roster.take(Change::Apply(name.into(), pod(number)))
    }

    #[test]
    fn names_and_pods_find_one_another() {
        let mut roster = Roster::default();
        roster.take(Change::Restart);
        for (name, number) in [("a/x", 1), ("a/y", 2), ("b/x", 3)] {
            assert_eq!(apply(&mut roster, name, number), []);
        }
        assert!(!roster.is_synced());
        assert_eq!(roster.take(Change::Synced), []);
        assert!(roster.is_synced());
        assert_eq!(roster.name_of(pod(3)), Some("b/x"));
        // The gap of the first is filled by the last, which is still found.
        assert_eq!(roster.take(Change::Delete("a/x".into())), [pod(1)]);
        assert_eq!(roster.take(Change::Delete("a/x".into())), []);
        assert_eq!(roster.name_of(pod(1)), None);
        assert_eq!(roster.name_of(pod(3)), Some("b/x"));
        assert_eq!(apply(&mut roster, "b/x", 3), []);
        // Another pod of the same name.
        assert_eq!(apply(&mut roster, "b/x", 4), [pod(3)]);
        assert_eq!(roster.name_of(pod(3)), None);
        assert_eq!(roster.name_of(pod(4)), Some("b/x"));
    }

    #[test]
    fn a_second_list_strikes_what_it_does_not_name() {
        let mut roster = Roster::default();
        roster.take(Change::Restart);
        for number in 0..10 {
            apply(&mut roster, &format!("n/{number}"), number);
        }
        roster.take(Change::Synced);
        roster.take(Change::Restart);
        apply(&mut roster, "n/4", 4);
        let mut gone = roster.take(Change::Synced);
        gone.sort_unstable();
        let expected: Vec<PodKey> = (0..10).filter(|n| *n != 4).map(pod).collect();
        assert_eq!(gone, expected);
        assert_eq!(roster.name_of(pod(4)), Some("n/4"));
    }
}

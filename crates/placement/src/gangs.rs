//! Pods that start together or not at all: groups with a least number (GangScheduling of 1.36, an alpha feature).
//!
//! ```text
//!   a pod comes ─► its group is there, and has minCount pods? no: it waits before the queue
//!               ─► it found a node: minCount have one? no: it waits, its room taken
//!                                                      yes: all that wait go on
//!   one found none, and the others cannot be enough ─► all that wait are sent back
//!   too long                                        ─► all that waited so long are sent back
//! ```
//!
//! Time comes from the caller, in microseconds. Does not know nodes, the queue, or where objects come from.

use crate::hashing::{Hashing, hashing};
use crate::key::PodKey;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// Longest wait of a pod for the others of its gang (k8s: 5 min).
pub const PERMIT_WAIT_MICROS: i64 = 300_000_000;

/// What a group wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupPolicy {
    /// Each pod is placed for itself.
    Basic,
    /// So many pods at least, or none.
    Gang {
        /// How many.
        min_count: usize,
    },
}

impl GroupPolicy {
    /// Reads a PodGroup of `scheduling.k8s.io/v1alpha2`.
    pub fn from_object(group: &meta::Value) -> GroupPolicy {
        let gang = &group["spec"]["schedulingPolicy"]["gang"];
        match gang["minCount"].as_u64() {
            Some(count) => GroupPolicy::Gang {
                min_count: usize::try_from(count).unwrap_or(usize::MAX),
            },
            None => GroupPolicy::Basic,
        }
    }
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not tried yet, or tried again from now on.
    Open,
    /// Found no node when it was tried last.
    Failed,
    /// Has its room and waits, since then.
    Waiting(i64),
    /// Goes on, or has its node.
    Scheduled,
}

#[derive(Debug, Default)]
struct Group {
    policy: Option<GroupPolicy>,
    members: BTreeMap<PodKey, Stage>,
}

impl Group {
    fn count(&self, is: impl Fn(Stage) -> bool) -> usize {
        self.members.values().filter(|stage| is(**stage)).count()
    }

    fn min_count(&self) -> Option<usize> {
        match self.policy {
            Some(GroupPolicy::Gang { min_count }) => Some(min_count),
            _ => None,
        }
    }

    fn waiting(&self) -> Vec<PodKey> {
        let waiting = |(_, stage): &(&PodKey, &Stage)| matches!(stage, Stage::Waiting(_));
        let members = self.members.iter().filter(waiting);
        members.map(|(pod, _)| *pod).collect()
    }
}

/// What becomes of a pod that found a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// It goes on, and with it these others that waited.
    Allowed(Vec<PodKey>),
    /// It waits; these others of its gang are to be tried soon.
    Wait(Vec<PodKey>),
}

/// See the module's head. Bounded by the pods there are, and the groups they name.
#[derive(Debug)]
pub struct Gangs {
    /// By `namespace/name`.
    groups: HashMap<Box<str>, Group, Hashing>,
    by_pod: HashMap<PodKey, Box<str>, Hashing>,
}

impl Gangs {
    /// No group.
    pub fn new(hash_seed: u64) -> Gangs {
        let hashing = hashing(hash_seed);
        Gangs {
            groups: HashMap::with_hasher(hashing.clone()),
            by_pod: HashMap::with_hasher(hashing),
        }
    }

    /// Is there nothing to look at?
    pub fn is_empty(&self) -> bool {
        self.by_pod.is_empty()
    }

    /// A group as it is now, by `namespace/name`. Gives its pods without a node: they may be let in now.
    pub fn note_group(&mut self, key: &str, policy: GroupPolicy) -> Vec<PodKey> {
        let group = self.groups.entry_ref(key).or_default();
        group.policy = Some(policy);
        open(group)
    }

    /// A group is gone. Its pods that come from now on wait for it.
    pub fn remove_group(&mut self, key: &str) {
        if let Some(group) = self.groups.get_mut(key) {
            group.policy = None;
            if group.members.is_empty() {
                self.groups.remove(key);
            }
        }
    }

    /// A pod of a group, with its node or without. A new one lets others in: gives those without a node.
    pub fn note_pod(&mut self, pod: PodKey, key: &str, has_node: bool) -> Vec<PodKey> {
        if self.by_pod.get(&pod).is_some_and(|known| **known != *key) {
            self.forget_pod(pod);
        }
        let group = self.groups.entry_ref(key).or_default();
        let stage = if has_node {
            Stage::Scheduled
        } else {
            Stage::Open
        };
        match group.members.get_mut(&pod) {
            Some(known) if has_node => {
                *known = stage;
                return Vec::new();
            }
            Some(_) => return Vec::new(),
            None => {}
        }
        group.members.insert(pod, stage);
        self.by_pod.insert(pod, key.into());
        open(group)
    }

    /// A pod is gone.
    pub fn forget_pod(&mut self, pod: PodKey) {
        let Some(key) = self.by_pod.remove(&pod) else {
            return;
        };
        if let Some(group) = self.groups.get_mut(&key) {
            group.members.remove(&pod);
            if group.members.is_empty() && group.policy.is_none() {
                self.groups.remove(&key);
            }
        }
    }

    fn group(&self, pod: PodKey) -> Option<(&str, &Group)> {
        let key = self.by_pod.get(&pod)?;
        self.groups.get(key).map(|group| (&**key, group))
    }

    /// Why a pod may not be tried yet, in upstream's words.
    pub fn gate(&self, pod: PodKey) -> Option<String> {
        let (key, group) = self.group(pod)?;
        if group.policy.is_none() {
            let name = key.split_once('/').map_or(key, |(_, name)| name);
            return Some(format!(
                "waiting for pods's pod group {name:?} to appear in scheduling queue"
            ));
        }
        let too_few = group.min_count()? > group.members.len();
        too_few.then(|| {
            "waiting for minCount pods from a gang to appear in scheduling queue".to_owned()
        })
    }

    /// The pod found a node, and has room there.
    pub fn permit(&mut self, pod: PodKey, now_micros: i64) -> Permit {
        let group = self.by_pod.get(&pod);
        let group = group.and_then(|key| self.groups.get_mut(key));
        let Some(group) = group else {
            return Permit::Allowed(Vec::new());
        };
        group.members.insert(pod, Stage::Waiting(now_micros));
        let placed = group.count(|s| matches!(s, Stage::Waiting(_) | Stage::Scheduled));
        // A group that went meanwhile is asked for again by who is sent back; here nothing is held for it.
        if group.min_count().is_some_and(|least| placed < least) {
            return Permit::Wait(open(group));
        }
        let mut released = group.waiting();
        for member in &released {
            group.members.insert(*member, Stage::Scheduled);
        }
        released.retain(|member| *member != pod);
        Permit::Allowed(released)
    }

    /// The pod found no node. Gives those that wait in vain for it, when what is left cannot be enough, and why.
    pub fn failed(&mut self, pod: PodKey) -> Option<(Vec<PodKey>, String)> {
        let group = self.groups.get_mut(self.by_pod.get(&pod)?)?;
        group.members.insert(pod, Stage::Failed);
        let least = group.min_count()?;
        let placed = group.count(|s| matches!(s, Stage::Waiting(_) | Stage::Scheduled));
        let remaining = group.count(|s| s == Stage::Open);
        if placed + remaining >= least {
            return None;
        }
        let back = group.waiting();
        for member in &back {
            group.members.insert(*member, Stage::Open);
        }
        let why = format!(
            "minCount ({least}) cannot be satisfied: {placed} scheduled, {remaining} remaining"
        );
        (!back.is_empty()).then_some((back, why))
    }

    /// The pod is tried again, from the beginning: its binding failed, or its room was taken back.
    pub fn reopen(&mut self, pod: PodKey) {
        let group = self.by_pod.get(&pod);
        if let Some(group) = group.and_then(|key| self.groups.get_mut(key)) {
            group.members.insert(pod, Stage::Open);
        }
    }

    /// Those that waited too long; they are open again.
    pub fn overdue(&mut self, now_micros: i64) -> Vec<PodKey> {
        let mut overdue = Vec::new();
        for group in self.groups.values_mut() {
            for (pod, stage) in &mut group.members {
                if let Stage::Waiting(since) = *stage
                    && now_micros.saturating_sub(since) >= PERMIT_WAIT_MICROS
                {
                    *stage = Stage::Open;
                    overdue.push(*pod);
                }
            }
        }
        // Hash order must not decide anything.
        overdue.sort_unstable();
        overdue
    }
}

/// Members that are not on their way.
fn open(group: &Group) -> Vec<PodKey> {
    let members = group.members.iter();
    let open = members.filter(|(_, stage)| matches!(stage, Stage::Open | Stage::Failed));
    open.map(|(pod, _)| *pod).collect()
}

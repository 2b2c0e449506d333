//! The cluster as the scheduler decides on it: nodes, pods on them, classes.
//!
//! Here stand the tables and their sizes; what is done with pods is in `pods.rs`, with classes in `classes.rs`,
//! the choice of a node in `pick.rs`, that for pods with volumes in `volumes.rs`, who must go for it in
//! `preempt.rs`. Synchronous and pure: no clock, and randomness only from the caller. Does not know the API, the
//! queue, or how a pick becomes a binding.

use crate::class::Class;
use crate::fleet::{Fleet, NodeChange};
use crate::hashing::{Hashing, hashing};
use crate::key::PodKey;
use crate::kinds::Kinds;
use crate::makers::Makers;
use crate::objects::NodeInfo;
use crate::preempt::Budget;
use crate::profile::Profile;
use crate::rosters::Rosters;
use crate::storage::{Attached, Storage};
use crate::terms::{MakerKind, Pairs};
use crate::verdict::Unschedulable;
use hashbrown::{HashMap, HashTable};
use meta::Value;
use std::sync::Arc;

/// The top bit of a record's kind: the pod is assumed, not yet seen bound.
pub(crate) const ASSUMED: u32 = 1 << 31;
/// No record.
pub(crate) const NO_POD: u32 = u32::MAX;

/// Limits and the seed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Seed of all hash tables.
    pub hash_seed: u64,
    /// Classes kept that nobody retains; the least recently used go first. About 1 KiB each.
    pub classes_max: usize,
    /// States listed by all class indices together, about 5 bytes each, and 4 more whenever its nodes become
    /// sixteen times as many; above it the indices of the least recently used classes are dropped and rebuilt when
    /// next needed.
    pub index_entries_max: usize,
    /// What may lie about before it is tidied, of each kind, beyond what is in use: log entries, states
    /// that emptied but are still listed, label values nobody asks about any more. At most about
    /// 150 bytes each.
    pub litter_max: usize,
    /// The sets of rules that pods' specs name by number, at least one; a number without a set means the first.
    pub profiles: Vec<Profile>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            hash_seed: 0,
            classes_max: 10_000,
            index_entries_max: 32 << 20,
            litter_max: 16_384,
            profiles: vec![Profile::default()],
        }
    }
}

/// Handle of a node: good until the node is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) u32);

/// Handle of a class of pods: good while retained, else until evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// A pod on a node: 56 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodRecord {
    pub(crate) key: PodKey,
    pub(crate) node: u32,
    /// Number of the kind, and [`ASSUMED`].
    pub(crate) kind: u32,
    /// The other pods of the node.
    pub(crate) next: u32,
    pub(crate) previous: u32,
    pub(crate) started_micros: i64,
    /// Of its name; 0 while it is assumed.
    pub(crate) name_hash: u64,
    /// It is going because a pod of higher priority takes its place.
    pub(crate) preempted: bool,
}

/// A pod that is to come to a node once others have gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nomination {
    pub(crate) node: u32,
    pub(crate) kind: u32,
    pub(crate) priority: i32,
}

#[derive(Debug, Default)]
pub(crate) struct ClassSlot {
    pub(crate) generation: u32,
    pub(crate) class: Option<Box<Class>>,
    pub(crate) retained: u32,
    pub(crate) last_used: u64,
    pub(crate) failure: Option<(u64, Arc<Unschedulable>)>,
    /// Why evicting did not help either, at that version of the fleet.
    pub(crate) hopeless: Option<(u64, Box<str>)>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) config: Config,
    pub(crate) profiles: Vec<Arc<Profile>>,
    pub(crate) hashing: Hashing,
    pub(crate) fleet: Fleet,
    pub(crate) kinds: Kinds,
    pub(crate) pods: HashMap<PodKey, u32, Hashing>,
    /// Of these, how many are assumed.
    pub(crate) assumed: usize,
    pub(crate) records: Vec<PodRecord>,
    pub(crate) free_records: Vec<u32>,
    /// Nodes whose pods are alike.
    pub(crate) rosters: Rosters,
    pub(crate) nominations: HashMap<PodKey, Nomination, Hashing>,
    pub(crate) namespaces: HashMap<Box<str>, Pairs, Hashing>,
    /// By namespace.
    pub(crate) budgets: HashMap<Box<str>, Vec<Budget>, Hashing>,
    pub(crate) makers: Makers,
    /// What volumes are made of,
    pub(crate) storage: Storage,
    /// and those of pods with a node.
    pub(crate) attached: Attached,
    pub(crate) classes: Vec<ClassSlot>,
    pub(crate) free_classes: Vec<u32>,
    pub(crate) by_spec: HashTable<u32>,
    pub(crate) uses: u64,
    pub(crate) index_entries: usize,
    /// What is known of nodes elsewhere, where this is one shard of several.
    pub(crate) outside: Option<crate::shards::Outside>,
}

impl Cluster {
    /// An empty cluster.
    pub fn new(config: Config) -> Cluster {
        let hashing = hashing(config.hash_seed);
        Cluster {
            hashing: hashing.clone(),
            fleet: Fleet::new(hashing.clone(), config.litter_max),
            kinds: Kinds::new(hashing.clone()),
            pods: HashMap::with_hasher(hashing.clone()),
            assumed: 0,
            records: Vec::new(),
            free_records: Vec::new(),
            rosters: Rosters::new(hashing.clone()),
            nominations: HashMap::with_hasher(hashing.clone()),
            namespaces: HashMap::with_hasher(hashing.clone()),
            budgets: HashMap::with_hasher(hashing),
            makers: Makers::default(),
            storage: Storage::default(),
            attached: Attached::default(),
            classes: Vec::new(),
            free_classes: Vec::new(),
            by_spec: HashTable::new(),
            uses: 0,
            index_entries: 0,
            outside: None,
            profiles: config.profiles.iter().cloned().map(Arc::new).collect(),
            config,
        }
    }

    /// The rules of the profile with that number.
    pub(crate) fn profile(&self, number: u16) -> Arc<Profile> {
        let mut known = self.profiles.get(usize::from(number));
        known = known.or(self.profiles.first());
        known.cloned().unwrap_or_default()
    }

    // ---- nodes

    /// Adds or replaces a node; says what changed.
    pub fn upsert_node(&mut self, node: &NodeInfo) -> NodeChange {
        let change = self.fleet.upsert(node);
        if change.added
            && let Some(number) = self.fleet.node(&node.name)
        {
            self.attached.node_changed(number);
        }
        change
    }

    /// Removes a node. Pods bound to it stay accounted for until they are removed, in case it returns.
    pub fn remove_node(&mut self, name: &str) -> bool {
        if let Some(node) = self.fleet.node(name) {
            self.attached.node_changed(node);
        }
        self.fleet.remove(name)
    }

    /// The handle of an existing node.
    pub fn node(&self, name: &str) -> Option<NodeId> {
        self.fleet.node(name).map(NodeId)
    }

    /// The name of an existing node.
    pub fn node_name(&self, node: NodeId) -> Option<&str> {
        self.fleet.node_name(node.0)
    }

    /// Nodes that exist.
    pub fn nodes(&self) -> usize {
        self.fleet.present()
    }

    // ---- what default spreading goes by

    /// A Service, or a maker of pods: `selector` is the object's `spec.selector`, null when it is gone. True
    /// when that is a change.
    pub fn note_maker(
        &mut self,
        kind: MakerKind,
        namespace: &str,
        name: &str,
        selector: &Value,
    ) -> bool {
        self.makers.note(kind, namespace, name, selector)
    }

    /// Sizes of the tables, for metrics and reports.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            shapes: self.fleet.shapes_len(),
            live_states: self.fleet.live_states(),
            dead_states: self.fleet.dead_states(),
            classes: self.classes(),
            kinds: self.kinds.len(),
            index_entries: self.index_entries,
        }
    }
}

/// See [`Cluster::sizes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Distinct shapes of nodes.
    pub shapes: usize,
    /// States with members.
    pub live_states: usize,
    /// States without members that some index still lists.
    pub dead_states: usize,
    /// Classes of pods.
    pub classes: usize,
    /// Distinct kinds of pods on nodes.
    pub kinds: usize,
    /// States listed by all class indices together.
    pub index_entries: usize,
}

//! The nodes, folded: nodes alike in shape and load are members of one state.
//!
//! - *Body*: all that is static about a node but its name. Bodies are shared.
//! - *Shape*: a body as far as filters and scores can tell nodes apart today: of the labels only the keys
//!   some class asks about, and of their values only those asked about; all others read [`OTHER`].
//!   So a million host names are one shape until a pod names one of them.
//! - *Load*: what the pods of a node take together.
//! - *State*: (shape, load) with its members. Moving a node between states is O(1).
//!
//! States that become non-empty, or grow into another part (see `parts.rs`), are appended to a log, which class indices
//! replay. The fleet does not
//! know classes, scores or pods; it knows which labels are asked about and who still refers to a state.

use crate::cluster::NO_POD;
use crate::cons::Cons;
use crate::hashing::{Hashing, alike, hash_one};
use crate::intern::{Interner, Word};
use crate::objects::{NodeInfo, PodRequest, ResourceList, Taint};
use crate::parts;
use crate::scarce::Scarce;
use crate::tally::Tallies;
use crate::terms::{HOSTNAME_KEY, HostPort};
use hashbrown::{HashMap, HashTable};

/// Stands for every label value no class asks about.
pub(crate) const OTHER: Word = Word::MAX;
/// The key under which a node's own name is asked about (`matchFields`); no label can be spelled so.
const NAME_KEY: &str = "\0metadata.name";
/// What the word of an image a node has begins with; no label can be spelled so.
const IMAGE_PREFIX: &str = "\0image/";
/// The same for a feature that a node declares.
const FEATURE_PREFIX: &str = "\0feature/";
/// The address that stands for all.
const ANY_IP: &str = "0.0.0.0";
const NOBODY: u32 = u32::MAX;
/// The shape of nodes that pods are bound to but that do not exist (yet, or any more).
pub(crate) const ABSENT: u32 = 0;
/// What pods take, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Load {
    pub(crate) cpu_milli: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) ephemeral_bytes: i64,
    pub(crate) scored_cpu_milli: i64,
    pub(crate) scored_memory_bytes: i64,
    pub(crate) pods: u32,
    /// Sorted by word, no zeros.
    pub(crate) scalars: Counts<Word>,
    /// Host ports taken.
    pub(crate) ports: Counts<Port>,
    /// Pods counted by tallies.
    pub(crate) tallies: Counts<u32>,
    /// Pods that are to come here once others have gone: priority and number of what they add.
    pub(crate) claims: Counts<(i32, u32)>,
}

/// Amounts of things, sorted by thing, no zeros.
pub(crate) type Counts<K> = Box<[(K, i64)]>;

/// A host port in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) ip: Word,
    pub(crate) protocol: Word,
    pub(crate) port: i64,
}

fn merged<K: Copy + Ord>(counts: &Counts<K>, delta: &Counts<K>, add: bool) -> Counts<K> {
    if delta.is_empty() {
        return counts.clone();
    }
    let mut merged = counts.to_vec();
    for &(key, amount) in delta {
        let amount = if add { amount } else { amount.wrapping_neg() };
        match merged.binary_search_by_key(&key, |&(k, _)| k) {
            Ok(at) => merged[at].1 = merged[at].1.wrapping_add(amount),
            Err(at) => merged.insert(at, (key, amount)),
        }
    }
    merged.retain(|&(_, amount)| amount != 0);
    merged.into()
}

impl Load {
    /// This load with `delta` added or taken away. Wraps as 64-bit sums do, so that taking away undoes
    /// adding exactly, whatever the amounts.
    pub(crate) fn shifted(&self, delta: &Load, add: bool) -> Load {
        let sum = |a: i64, b: i64| {
            if add {
                a.wrapping_add(b)
            } else {
                a.wrapping_sub(b)
            }
        };
        Load {
            cpu_milli: sum(self.cpu_milli, delta.cpu_milli),
            memory_bytes: sum(self.memory_bytes, delta.memory_bytes),
            ephemeral_bytes: sum(self.ephemeral_bytes, delta.ephemeral_bytes),
            scored_cpu_milli: sum(self.scored_cpu_milli, delta.scored_cpu_milli),
            scored_memory_bytes: sum(self.scored_memory_bytes, delta.scored_memory_bytes),
            pods: if add {
                self.pods.saturating_add(delta.pods)
            } else {
                self.pods.saturating_sub(delta.pods)
            },
            scalars: merged(&self.scalars, &delta.scalars, add),
            ports: merged(&self.ports, &delta.ports, add),
            tallies: merged(&self.tallies, &delta.tallies, add),
            claims: merged(&self.claims, &delta.claims, add),
        }
    }
}

pub(crate) fn scalar<K: Copy + Ord>(list: &[(K, i64)], word: K) -> i64 {
    list.binary_search_by_key(&word, |&(w, _)| w)
        .map_or(0, |at| list[at].1)
}

/// What a node offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Capacity {
    pub(crate) cpu_milli: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) ephemeral_bytes: i64,
    pub(crate) pods: i64,
    pub(crate) scalars: Box<[(Word, i64)]>,
}

#[allow(clippy::derived_hash_with_manual_eq)] // Equal is what would be derived.
#[derive(Clone, Debug, Default, Eq, Hash)]
struct Body {
    labels: Box<[(Word, Word)]>,
    /// The host name label equals the node's name, and so is left out of `labels`.
    host_is_name: bool,
    /// Sorted.
    images: Box<[Word]>,
    /// Declared features, sorted.
    features: Box<[Word]>,
    taints: Box<[Taint]>,
    unschedulable: bool,
    capacity: Capacity,
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.host_is_name == other.host_is_name
            && self.unschedulable == other.unschedulable
            && self.capacity == other.capacity
            && alike(&self.labels, &other.labels)
            && alike(&self.images, &other.images)
            && alike(&self.features, &other.features)
            && alike(&self.taints, &other.taints)
    }
}

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    present: bool,
    /// Sorted by key, only what is asked about.
    labels: Box<[(Word, Word)]>,
    pub(crate) taints: Box<[Taint]>,
    pub(crate) unschedulable: bool,
    pub(crate) capacity: Capacity,
}

/// An image that some node has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ImageState {
    /// As the first node said that had it.
    pub(crate) bytes: i64,
    pub(crate) nodes: u32,
}

impl Shape {
    pub(crate) fn label(&self, key: Word) -> Option<Word> {
        self.labels
            .binary_search_by_key(&key, |&(k, _)| k)
            .ok()
            .map(|at| self.labels[at].1)
    }
}

#[derive(Debug)]
struct State {
    shape: u32,
    load: Load,
    members: Vec<u32>,
    /// Class indices that list this state.
    references: u32,
    generation: u32,
    /// The state reached by adding one pod with that request, as last looked up.
    next: Successor,
}

#[derive(Clone, Copy, Debug)]
struct Successor {
    request: RequestTag,
    state: u32,
    generation: u32,
}

const NO_SUCCESSOR: Successor = Successor {
    request: RequestTag(0, 0),
    state: u32::MAX,
    generation: 0,
};

/// A request's number and the generation of that number: equal tags mean equal loads, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestTag(pub(crate) u32, pub(crate) u32);

#[derive(Debug)]
struct Node {
    name: Box<str>,
    body: u32,
    state: u32,
    /// Position among the state's members.
    at: u32,
    /// Where the chain of its pods begins; kept for `pods.rs`. Here, as whoever places a pod has just read the rest.
    first_pod: u32,
}

#[derive(Debug, Default)]
struct Interest {
    holders: u32,
    /// Holders that compare values by size and so need every value.
    every_value: u32,
    values: HashMap<Word, u32, Hashing>,
}

/// What changed about a node, as far as placement can see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeChange {
    /// The node is new.
    pub added: bool,
    /// Allocatable resources changed.
    pub allocatable: bool,
    /// Labels changed.
    pub labels: bool,
    /// Taints changed, or the cordon.
    pub taints: bool,
    /// Declared features changed.
    pub features: bool,
}

impl NodeChange {
    /// Nothing changed.
    pub fn is_empty(self) -> bool {
        self == NodeChange::default()
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) words: Interner,
    nodes: Vec<Node>,
    free_nodes: Vec<u32>,
    by_name: HashTable<u32>,
    present: usize,
    bodies: Cons<Body>,
    /// For each body (version of the interests, shape, generation of the shape): its usual shape.
    usual_shapes: Vec<(u32, u32, u32)>,
    shapes: Cons<Shape>,
    states: Vec<State>,
    sizes: Vec<u32>,
    /// The shape of each state: as in it, in a row.
    state_shapes: Vec<u32>,
    free_states: Vec<u32>,
    by_state: HashTable<u32>,
    live_states: usize,
    log: Vec<u32>,
    log_start: u64,
    version: u64,
    interests: HashMap<Word, Interest, Hashing>,
    interests_version: u32,
    stale_interests: usize,
    pub(crate) tallies: Tallies,
    /// What pods add to a node.
    pub(crate) deltas: Cons<Load>,
    pub(crate) scarce: Scarce,
    /// For each shape its nodes.
    shape_nodes: Vec<u32>,
    images: HashMap<Word, ImageState, Hashing>,
    /// Host names that bodies spell out, and how many bodies do: they may be another node's name.
    spelt_hosts: HashMap<Word, u32, Hashing>,
    /// Classes that count nodes, and the states whose size changed, for them.
    counters: usize,
    touched: Vec<u32>,
    touched_start: u64,
    any_ip: Word,
    name_key: Word,
    host_key: Word,
    /// See [`crate::Config::litter_max`].
    litter_max: usize,
    hashing: Hashing,
}

impl Fleet {
    pub(crate) fn new(hashing: Hashing, litter_max: usize) -> Self {
        let mut words = Interner::new(hashing.clone());
        let name_key = words.acquire(NAME_KEY);
        let host_key = words.acquire(HOSTNAME_KEY);
        let any_ip = words.acquire(ANY_IP);
        let mut shapes = Cons::new(hashing.clone());
        shapes.insert(Shape::default());
        Fleet {
            words,
            nodes: Vec::new(),
            free_nodes: Vec::new(),
            by_name: HashTable::new(),
            present: 0,
            bodies: Cons::new(hashing.clone()),
            usual_shapes: Vec::new(),
            shapes,
            states: Vec::new(),
            sizes: Vec::new(),
            state_shapes: Vec::new(),
            free_states: Vec::new(),
            by_state: HashTable::new(),
            live_states: 0,
            log: Vec::new(),
            log_start: 0,
            version: 0,
            interests: HashMap::with_hasher(hashing.clone()),
            interests_version: 0,
            stale_interests: 0,
            tallies: Tallies::new(hashing.clone()),
            deltas: Cons::new(hashing.clone()),
            scarce: Scarce::new(hashing.clone()),
            shape_nodes: Vec::new(),
            images: HashMap::with_hasher(hashing.clone()),
            spelt_hosts: HashMap::with_hasher(hashing.clone()),
            counters: 0,
            touched: Vec::new(),
            touched_start: 0,
            any_ip,
            name_key,
            host_key,
            litter_max,
            hashing,
        }
    }

    // ---- reading

    /// Nodes that exist.
    pub(crate) fn present(&self) -> usize {
        self.present
    }

    pub(crate) fn litter_max(&self) -> usize {
        self.litter_max
    }

    /// Changes with every move of a node.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Changes with what classes ask about, by which nodes are told apart.
    pub(crate) fn interests_version(&self) -> u32 {
        self.interests_version
    }

    pub(crate) fn name_key(&self) -> Word {
        self.name_key
    }

    pub(crate) fn host_key(&self) -> Word {
        self.host_key
    }

    pub(crate) fn any_ip(&self) -> Word {
        self.any_ip
    }

    /// Existing nodes of a shape.
    pub(crate) fn nodes_of_shape(&self, shape: u32) -> u32 {
        self.shape_nodes.get(shape as usize).copied().unwrap_or(0)
    }

    /// Shapes that existing nodes have.
    pub(crate) fn populated(&self) -> impl Iterator<Item = u32> + '_ {
        let shapes = (0..).zip(&self.shape_nodes);
        shapes
            .filter(|&(shape, &nodes)| shape != ABSENT && nodes > 0)
            .map(|(shape, _)| shape)
    }

    /// The word of an image, held once more.
    pub(crate) fn image_word(&mut self, name: &str) -> Word {
        self.words.acquire(&format!("{IMAGE_PREFIX}{name}"))
    }

    /// The word of a declared feature, held once more.
    pub(crate) fn feature_word(&mut self, name: &str) -> Word {
        self.words.acquire(&format!("{FEATURE_PREFIX}{name}"))
    }

    pub(crate) fn image(&self, word: Word) -> ImageState {
        self.images.get(&word).copied().unwrap_or_default()
    }

    // ---- states whose size changed

    /// Somebody counts nodes from now on: sizes that change are noted.
    pub(crate) fn begin_counting(&mut self) {
        self.counters += 1;
    }

    pub(crate) fn end_counting(&mut self) {
        self.counters -= 1;
        if self.counters == 0 {
            self.touched_start += self.touched.len() as u64;
            self.touched = Vec::new();
        }
    }

    pub(crate) fn touched_end(&self) -> u64 {
        self.touched_start + self.touched.len() as u64
    }

    /// States whose size changed since `cursor`; `None` when that is too long ago.
    pub(crate) fn touched_since(&self, cursor: u64) -> Option<&[u32]> {
        let from = cursor.checked_sub(self.touched_start)?;
        self.touched.get(usize::try_from(from).ok()?..)
    }

    fn touch(&mut self, state: u32) {
        if self.counters == 0 {
            return;
        }
        if self.touched.len() >= self.litter_max.max(4 * self.live_states) {
            self.touched_start += drop_half(&mut self.touched);
        }
        self.touched.push(state);
    }

    /// An existing node.
    pub(crate) fn node(&self, name: &str) -> Option<u32> {
        self.find(name)
            .filter(|&n| self.nodes[n as usize].body != NOBODY)
    }

    /// The record that the chain of a node's pods begins with, or [`NO_POD`].
    pub(crate) fn first_pod(&self, node: u32) -> u32 {
        self.nodes
            .get(node as usize)
            .map_or(NO_POD, |n| n.first_pod)
    }

    /// Sets it, and gives the one before.
    pub(crate) fn set_first_pod(&mut self, node: u32, record: u32) -> u32 {
        std::mem::replace(&mut self.nodes[node as usize].first_pod, record)
    }

    pub(crate) fn node_name(&self, node: u32) -> Option<&str> {
        self.nodes
            .get(node as usize)
            .filter(|n| n.body != NOBODY)
            .map(|n| &*n.name)
    }

    /// A label of an existing node, asked about by classes or not.
    pub(crate) fn label_of(&self, node: u32, key: &str) -> Option<&str> {
        let Node { body, ref name, .. } = *self.nodes.get(node as usize)?;
        if body == NOBODY {
            return None;
        }
        let body = self.bodies.get(body);
        if body.host_is_name && key == HOSTNAME_KEY {
            return Some(name);
        }
        let key = self.words.lookup(key)?;
        let at = body.labels.binary_search_by_key(&key, |&(k, _)| k).ok()?;
        Some(self.words.text(body.labels[at].1))
    }

    /// What all that is static about an existing node has in common with others, but for its name.
    pub(crate) fn body_of(&self, node: u32) -> u32 {
        self.nodes[node as usize].body
    }

    /// Nodes that exist.
    pub(crate) fn existing(&self) -> impl Iterator<Item = u32> + '_ {
        let nodes = (0..).zip(&self.nodes);
        nodes.filter(|(_, n)| n.body != NOBODY).map(|(at, _)| at)
    }

    /// How much of a resource a node offers; nothing of what is no scalar.
    pub(crate) fn offered(&self, node: u32, resource: &str) -> i64 {
        let word = self.words.lookup(resource);
        let capacity = &self.shape(self.shape_of(self.state_of(node))).capacity;
        word.map_or(0, |word| scalar(&capacity.scalars, word))
    }

    /// Nodes that offer some of these resources, from one of them on; any number will do.
    pub(crate) fn offering(
        &self,
        resources: &[Box<str>],
        start: usize,
    ) -> impl Iterator<Item = u32> + '_ {
        let words = resources.iter().filter_map(|name| self.words.lookup(name));
        let words: Vec<Word> = words.collect();
        let offers = |state: &u32| {
            let scalars = &self.shape(self.shape_of(*state)).capacity.scalars;
            words.iter().any(|word| scalar(scalars, *word) > 0)
        };
        let mut states: Vec<u32> = self.live().filter(offers).collect();
        let first = start % states.len().max(1);
        states.rotate_left(first);
        states.into_iter().flat_map(move |state| {
            let members = self.members(state);
            let (last, first) = members.split_at(start % members.len().max(1));
            first.iter().chain(last).copied()
        })
    }

    /// The name of a node that need not exist (any more).
    pub(crate) fn known_name(&self, node: u32) -> &str {
        self.nodes.get(node as usize).map_or("", |node| &*node.name)
    }

    /// Numbers of nodes are below this.
    pub(crate) fn node_bound(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn state_of(&self, node: u32) -> u32 {
        self.nodes[node as usize].state
    }

    pub(crate) fn shape_of(&self, state: u32) -> u32 {
        self.state_shapes[state as usize]
    }

    pub(crate) fn shape(&self, shape: u32) -> &Shape {
        self.shapes.get(shape)
    }

    pub(crate) fn shape_generation(&self, shape: u32) -> u32 {
        self.shapes.generation(shape)
    }

    pub(crate) fn load(&self, state: u32) -> &Load {
        &self.states[state as usize].load
    }

    pub(crate) fn members(&self, state: u32) -> &[u32] {
        &self.states[state as usize].members
    }

    pub(crate) fn size(&self, state: u32) -> u32 {
        self.sizes[state as usize]
    }

    /// One more than the largest state number.
    pub(crate) fn state_bound(&self) -> usize {
        self.states.len()
    }

    /// States with members.
    pub(crate) fn live_states(&self) -> usize {
        self.live_states
    }

    pub(crate) fn dead_states(&self) -> usize {
        self.states.len() - self.free_states.len() - self.live_states
    }

    pub(crate) fn shapes_len(&self) -> usize {
        self.shapes.len()
    }

    /// States of existing nodes that have members.
    pub(crate) fn live(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.states.len() as u32)
            .filter(|&s| self.sizes[s as usize] > 0 && self.states[s as usize].shape != ABSENT)
    }

    pub(crate) fn log_end(&self) -> u64 {
        self.log_start + self.log.len() as u64
    }

    /// States that became non-empty or grew into another part since `cursor`; `None` when that is too long ago.
    pub(crate) fn log_since(&self, cursor: u64) -> Option<&[u32]> {
        let from = cursor.checked_sub(self.log_start)?;
        self.log.get(usize::try_from(from).ok()?..)
    }

    // ---- references of class indices

    pub(crate) fn hold_state(&mut self, state: u32) {
        self.states[state as usize].references += 1;
    }

    pub(crate) fn release_state(&mut self, state: u32) {
        self.states[state as usize].references -= 1;
        self.collect(state);
    }

    // ---- nodes

    /// Adds or replaces a node.
    pub(crate) fn upsert(&mut self, info: &NodeInfo) -> NodeChange {
        let body = self.intern_body(info);
        let node = self.find_or_add(&info.name);
        let old = self.nodes[node as usize].body;
        if old != NOBODY {
            self.forget_images(old);
        }
        self.note_images(body, info);
        let change = if old == NOBODY {
            self.present += 1;
            NodeChange {
                added: true,
                ..NodeChange::default()
            }
        } else {
            let (before, after) = (self.bodies.get(old), self.bodies.get(body));
            NodeChange {
                added: false,
                allocatable: before.capacity != after.capacity,
                labels: before.labels != after.labels || before.host_is_name != after.host_is_name,
                taints: before.taints != after.taints
                    || before.unschedulable != after.unschedulable,
                features: before.features != after.features,
            }
        };
        self.nodes[node as usize].body = body;
        if old != NOBODY {
            self.release_body(old);
        }
        self.version += 1;
        self.place(node);
        change
    }

    /// Removes a node; pods still bound to it stay accounted for until they go, too.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let Some(node) = self.node(name) else {
            return false;
        };
        let body = std::mem::replace(&mut self.nodes[node as usize].body, NOBODY);
        self.forget_images(body);
        self.release_body(body);
        self.present -= 1;
        self.version += 1;
        self.place(node);
        self.forget_if_empty(node);
        true
    }

    /// The number of a node that exists or that pods are bound to.
    pub(crate) fn find_or_add(&mut self, name: &str) -> u32 {
        if let Some(node) = self.find(name) {
            return node;
        }
        let fresh = Node {
            name: name.into(),
            body: NOBODY,
            state: NOBODY,
            at: 0,
            first_pod: NO_POD,
        };
        let node = match self.free_nodes.pop() {
            Some(node) => {
                self.nodes[node as usize] = fresh;
                node
            }
            None => {
                self.nodes.push(fresh);
                (self.nodes.len() - 1) as u32
            }
        };
        let (nodes, hashing) = (&self.nodes, &self.hashing);
        self.by_name
            .insert_unique(hash_one(hashing, name), node, |&n| {
                hash_one(hashing, &*nodes[n as usize].name)
            });
        let state = self.state_for(ABSENT, Load::default());
        self.populate(ABSENT);
        self.enter(node, state);
        node
    }

    /// Adds or takes away what a pod adds.
    pub(crate) fn shift(&mut self, node: u32, delta: u32, add: bool) {
        let tag = RequestTag(delta, self.deltas.generation(delta));
        let from = self.nodes[node as usize].state;
        let old = &self.states[from as usize];
        let known = old.next;
        let to = if add
            && known.request == tag
            && self
                .states
                .get(known.state as usize)
                .is_some_and(|s| s.generation == known.generation)
        {
            known.state
        } else {
            let load = old.load.shifted(self.deltas.get(delta), add);
            let state = self.state_for(old.shape, load);
            if add {
                self.states[from as usize].next = Successor {
                    request: tag,
                    state,
                    generation: self.states[state as usize].generation,
                };
            }
            state
        };
        self.travel(node, to);
        self.version += 1;
        self.forget_if_empty(node);
    }

    /// The pods of a node are counted otherwise than they were: `from` is taken away, `to` added.
    pub(crate) fn recount(&mut self, node: u32, from: u32, to: u32) {
        let old = &self.states[self.nodes[node as usize].state as usize];
        let load = old.load.shifted(self.deltas.get(to), true);
        let load = load.shifted(self.deltas.get(from), false);
        let state = self.state_for(old.shape, load);
        self.travel(node, state);
        self.version += 1;
    }

    /// Notes or forgets a pod that is to come to a node.
    pub(crate) fn claim(&mut self, node: u32, priority: i32, delta: u32, add: bool) {
        let claim = Load {
            claims: [((priority, delta), 1)].into(),
            ..Load::default()
        };
        let old = &self.states[self.nodes[node as usize].state as usize];
        let load = old.load.shifted(&claim, add);
        let state = self.state_for(old.shape, load);
        self.travel(node, state);
        self.version += 1;
        self.forget_if_empty(node);
    }

    fn find(&self, name: &str) -> Option<u32> {
        self.by_name
            .find(hash_one(&self.hashing, name), |&n| {
                &*self.nodes[n as usize].name == name
            })
            .copied()
    }

    fn forget_if_empty(&mut self, node: u32) {
        let Node { body, state, .. } = self.nodes[node as usize];
        if body != NOBODY || self.states[state as usize].load != Load::default() {
            return;
        }
        self.depopulate(ABSENT);
        self.leave(node);
        let name = std::mem::take(&mut self.nodes[node as usize].name);
        if let Ok(entry) = self
            .by_name
            .find_entry(hash_one(&self.hashing, &*name), |&n| n == node)
        {
            entry.remove();
        }
        self.free_nodes.push(node);
    }

    // ---- bodies and shapes

    fn intern_body(&mut self, info: &NodeInfo) -> u32 {
        let host_is_name = info
            .labels
            .iter()
            .any(|(k, v)| &**k == HOSTNAME_KEY && *v == info.name)
            // Numbers can be asked about by size, and must then be seen.
            && info.name.parse::<i64>().is_err();
        let mut labels: Vec<(Word, Word)> = info
            .labels
            .iter()
            .filter(|(k, _)| !(host_is_name && &**k == HOSTNAME_KEY))
            .map(|(k, v)| (self.words.acquire(k), self.words.acquire(v)))
            .collect();
        labels.sort_unstable();
        let mut images: Vec<Word> = info
            .images
            .iter()
            .map(|image| self.image_word(&image.name))
            .collect();
        images.sort_unstable();
        let features = info.features.iter();
        let mut features: Vec<Word> = features.map(|name| self.feature_word(name)).collect();
        features.sort_unstable();
        let body = Body {
            labels: labels.into(),
            host_is_name,
            images: images.into(),
            features: features.into(),
            taints: info.taints.clone().into(),
            unschedulable: info.unschedulable,
            capacity: self.capacity(&info.allocatable, info.allocatable_pods),
        };
        if let Some(known) = self.bodies.find(&body) {
            self.bodies.hold(known);
            self.release_body_words(&body);
            return known;
        }
        let spelt = body.labels.iter().find(|(key, _)| *key == self.host_key);
        let spelt = spelt.map(|(_, host)| *host);
        let id = self.bodies.insert(body);
        if let Some(host) = spelt {
            self.spell_host(host);
        }
        if self.usual_shapes.len() <= id as usize {
            self.usual_shapes.resize(id as usize + 1, (0, 0, 0));
        }
        self.usual_shapes[id as usize] = (0, ABSENT, 0);
        id
    }

    fn release_body(&mut self, body: u32) {
        if let Some(gone) = self.bodies.release(body) {
            if let Some((_, host)) = gone.labels.iter().find(|(key, _)| *key == self.host_key)
                && let Some(bodies) = self.spelt_hosts.get_mut(host)
            {
                *bodies -= 1;
                if *bodies == 0 {
                    self.spelt_hosts.remove(host);
                }
            }
            self.release_body_words(&gone);
        }
    }

    fn release_body_words(&mut self, body: &Body) {
        for &word in body.images.iter().chain(&body.features) {
            self.words.release(word);
        }
        self.release_words(&body.labels, &body.capacity);
    }

    /// A body spells out a host name: where that is the name of a node, the two are one domain, and the
    /// node's own name must be seen.
    fn spell_host(&mut self, host: Word) {
        let bodies = self.spelt_hosts.entry(host).or_insert(0);
        *bodies += 1;
        if *bodies == 1
            && self.interests.contains_key(&self.host_key)
            && let Some(node) = self.node(self.words.text(host))
        {
            self.place(node);
        }
    }

    /// As if a body of a node elsewhere spelt out that host name.
    pub(crate) fn spell_elsewhere(&mut self, host: &str) {
        let host = self.words.acquire(host);
        self.spell_host(host);
    }

    /// Takes [`Fleet::spell_elsewhere`] back.
    pub(crate) fn unspell_elsewhere(&mut self, host: &str) {
        let Some(host) = self.words.lookup(host) else {
            return;
        };
        if let Some(bodies) = self.spelt_hosts.get_mut(&host) {
            *bodies -= 1;
            if *bodies == 0 {
                self.spelt_hosts.remove(&host);
            }
            self.words.release(host);
        }
    }

    /// The number of an existing node's body, and the host name it spells out.
    pub(crate) fn spelt_body_of(&self, name: &str) -> Option<(u32, Option<&str>)> {
        let body = self.nodes[self.node(name)? as usize].body;
        let labels = &self.bodies.get(body).labels;
        let host = labels.iter().find(|(key, _)| *key == self.host_key);
        Some((body, host.map(|(_, host)| self.words.text(*host))))
    }

    /// Names of all existing nodes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let exist = self.nodes.iter().filter(|node| node.body != NOBODY);
        exist.map(|node| &*node.name)
    }

    fn note_images(&mut self, body: u32, info: &NodeInfo) {
        for &word in &self.bodies.get(body).images {
            let state = self.images.entry(word).or_insert_with(|| {
                let name = self.words.text(word).strip_prefix(IMAGE_PREFIX);
                let known = info.images.iter().find(|image| Some(&*image.name) == name);
                ImageState {
                    bytes: known.map_or(0, |image| image.bytes),
                    nodes: 0,
                }
            });
            state.nodes += 1;
        }
    }

    fn forget_images(&mut self, body: u32) {
        for &word in &self.bodies.get(body).images {
            if let Some(state) = self.images.get_mut(&word) {
                state.nodes -= 1;
                if state.nodes == 0 {
                    self.images.remove(&word);
                }
            }
        }
    }

    fn release_words(&mut self, labels: &[(Word, Word)], capacity: &Capacity) {
        for &(key, value) in labels {
            self.words.release(key);
            if value != OTHER {
                self.words.release(value);
            }
        }
        for &(name, _) in &capacity.scalars {
            self.words.release(name);
        }
    }

    fn hold_words(&mut self, labels: &[(Word, Word)], capacity: &Capacity) {
        for &(key, value) in labels {
            self.words.hold(key);
            if value != OTHER {
                self.words.hold(value);
            }
        }
        for &(name, _) in &capacity.scalars {
            self.words.hold(name);
        }
    }

    fn scalars(&mut self, list: &ResourceList) -> Box<[(Word, i64)]> {
        let mut scalars: Vec<(Word, i64)> = list
            .scalars
            .iter()
            .filter(|(_, amount)| *amount != 0)
            .map(|(name, amount)| (self.words.acquire(name), *amount))
            .collect();
        scalars.sort_unstable();
        scalars.into()
    }

    fn capacity(&mut self, list: &ResourceList, pods: i64) -> Capacity {
        Capacity {
            cpu_milli: list.cpu_milli,
            memory_bytes: list.memory_bytes,
            ephemeral_bytes: list.ephemeral_bytes,
            pods,
            scalars: self.scalars(list),
        }
    }

    /// A pod's request and ports as a load; its words are held until [`Fleet::release_load`].
    pub(crate) fn request_load(&mut self, request: &PodRequest, ports: &[HostPort]) -> Load {
        let mut taken: Vec<(Port, i64)> = Vec::new();
        for port in ports {
            let port = Port {
                ip: self.words.acquire(&port.ip),
                protocol: self.words.acquire(&port.protocol),
                port: port.port,
            };
            match taken.iter_mut().find(|(known, _)| *known == port) {
                Some((_, times)) => {
                    *times += 1;
                    self.words.release(port.ip);
                    self.words.release(port.protocol);
                }
                None => taken.push((port, 1)),
            }
        }
        taken.sort_unstable();
        Load {
            cpu_milli: request.real.cpu_milli,
            memory_bytes: request.real.memory_bytes,
            ephemeral_bytes: request.real.ephemeral_bytes,
            scored_cpu_milli: request.scored_cpu_milli,
            scored_memory_bytes: request.scored_memory_bytes,
            pods: 1,
            scalars: self.scalars(&request.real),
            ports: taken.into(),
            ..Load::default()
        }
    }

    fn release_load(&mut self, load: &Load) {
        for &(name, _) in &load.scalars {
            self.words.release(name);
        }
        for (port, _) in &load.ports {
            self.words.release(port.ip);
            self.words.release(port.protocol);
        }
    }

    /// The number of what a pod adds, held once more. Takes over the load's words.
    pub(crate) fn hold_delta(&mut self, load: Load) -> u32 {
        match self.deltas.find(&load) {
            Some(known) => {
                self.deltas.hold(known);
                self.release_load(&load);
                known
            }
            None => self.deltas.insert(load),
        }
    }

    pub(crate) fn release_delta(&mut self, delta: u32) {
        if let Some(gone) = self.deltas.release(delta) {
            self.release_load(&gone);
        }
    }

    /// Moves a node to the state its body and the present interests call for.
    fn place(&mut self, node: u32) {
        let Node { body, state, .. } = self.nodes[node as usize];
        let shape = self.hold_shape_for(node, body);
        if self.states[state as usize].shape != shape {
            let load = self.states[state as usize].load.clone();
            let to = self.state_for(shape, load);
            self.travel(node, to);
        }
        self.release_shape(shape);
    }

    fn hold_shape_for(&mut self, node: u32, body: u32) -> u32 {
        if body == NOBODY {
            self.shapes.hold(ABSENT);
            return ABSENT;
        }
        let own = self.is_asked_by_name(&self.nodes[node as usize].name);
        if own.is_none() {
            let (version, shape, generation) = self.usual_shapes[body as usize];
            if version == self.interests_version
                && shape != ABSENT
                && self.shapes.is_live(shape)
                && self.shapes.generation(shape) == generation
            {
                self.shapes.hold(shape);
                return shape;
            }
        }
        let shape = self.project(body, own);
        let id = match self.shapes.find(&shape) {
            Some(id) => {
                self.shapes.hold(id);
                id
            }
            None => {
                self.hold_words(&shape.labels, &shape.capacity);
                let scalars: Vec<Word> = shape.capacity.scalars.iter().map(|s| s.0).collect();
                let id = self.shapes.insert(shape);
                let generation = self.shapes.generation(id);
                self.scarce.add(&scalars, (id, generation));
                id
            }
        };
        if own.is_none() {
            let generation = self.shapes.generation(id);
            self.usual_shapes[body as usize] = (self.interests_version, id, generation);
        }
        id
    }

    fn release_shape(&mut self, shape: u32) {
        if let Some(gone) = self.shapes.release(shape) {
            let shapes = &self.shapes;
            let there = |(shape, generation)| shapes.generation(shape) == generation;
            self.scarce
                .remove(gone.capacity.scalars.iter().map(|s| s.0), &there);
            self.release_words(&gone.labels, &gone.capacity);
        }
    }

    /// The word of a node's name when some class asks about that very name.
    fn is_asked_by_name(&self, name: &str) -> Option<Word> {
        if !self.interests.contains_key(&self.name_key)
            && !self.interests.contains_key(&self.host_key)
        {
            return None;
        }
        let word = self.words.lookup(name)?;
        let asked = [self.name_key, self.host_key]
            .iter()
            .filter_map(|key| self.interests.get(key))
            .any(|interest| interest.values.contains_key(&word));
        let spelt =
            || self.interests.contains_key(&self.host_key) && self.spelt_hosts.contains_key(&word);
        (asked || spelt()).then_some(word)
    }

    fn project(&self, body: u32, name: Option<Word>) -> Shape {
        let body = self.bodies.get(body);
        let mut labels: Vec<(Word, Word)> = body
            .labels
            .iter()
            .filter_map(|&(key, value)| Some((key, self.fold(key, value)?)))
            .collect();
        if body.host_is_name
            && let Some(host) = self.fold(self.host_key, name.unwrap_or(OTHER))
        {
            labels.push((self.host_key, host));
        }
        for &word in body.images.iter().chain(&body.features) {
            labels.extend(self.fold(word, OTHER).map(|seen| (word, seen)));
        }
        // A name nobody asks about needs no entry: only In and NotIn ask about names.
        if let Some(word) = name
            && let Some(folded) = self.fold(self.name_key, word)
            && folded != OTHER
        {
            labels.push((self.name_key, folded));
        }
        labels.sort_unstable();
        Shape {
            present: true,
            labels: labels.into(),
            taints: body.taints.clone(),
            unschedulable: body.unschedulable,
            capacity: body.capacity.clone(),
        }
    }

    fn fold(&self, key: Word, value: Word) -> Option<Word> {
        let interest = self.interests.get(&key)?;
        let seen = interest.every_value > 0 || interest.values.contains_key(&value);
        Some(if seen { value } else { OTHER })
    }

    // ---- interests

    /// A class asks about a label key: about some values, or (`every_value`) about all. Call
    /// [`Fleet::follow_interests`] when all is said.
    pub(crate) fn want(&mut self, key: Word, values: &[Word], every_value: bool, due: &mut Due) {
        let hashing = self.hashing.clone();
        let known = self.interests.contains_key(&key);
        if !known {
            self.words.hold(key);
        }
        let interest = self.interests.entry(key).or_insert_with(|| Interest {
            holders: 0,
            every_value: 0,
            values: HashMap::with_hasher(hashing),
        });
        if known && interest.holders == 0 {
            self.stale_interests = self.stale_interests.saturating_sub(1);
        }
        interest.holders += 1;
        let mut whole_key = !known;
        if every_value {
            whole_key |= interest.every_value == 0;
            interest.every_value += 1;
        }
        let mut new_values = Vec::new();
        for &value in values {
            let holders = interest.values.entry(value).or_insert_with(|| {
                new_values.push(value);
                0
            });
            if *holders == 0 && new_values.last() != Some(&value) {
                self.stale_interests = self.stale_interests.saturating_sub(1);
            }
            *holders += 1;
        }
        for &value in &new_values {
            self.words.hold(value);
        }
        if !whole_key && new_values.is_empty() {
            return;
        }
        self.interests_version += 1;
        let by_name = key == self.name_key || key == self.host_key;
        if by_name {
            let nodes = new_values
                .iter()
                .filter_map(|&value| self.node(self.words.text(value)));
            due.nodes.extend(nodes);
        }
        let (bodies, host) = (&self.bodies, key == self.host_key);
        due.all = due.all
            || (0..bodies.bound() as u32)
                .filter(|&b| bodies.is_live(b))
                .map(|b| bodies.get(b))
                .any(|body| {
                    let concerns =
                        |&(k, v): &(Word, Word)| k == key && (whole_key || new_values.contains(&v));
                    body.labels.iter().any(concerns)
                        || host && whole_key && body.host_is_name
                        || body.images.binary_search(&key).is_ok()
                        || body.features.binary_search(&key).is_ok()
                });
    }

    /// Takes back what [`Fleet::want`] said. The shapes stay as fine as they are for a while.
    pub(crate) fn unwant(&mut self, key: Word, values: &[Word], every_value: bool) {
        let Some(interest) = self.interests.get_mut(&key) else {
            return;
        };
        interest.holders -= 1;
        if interest.holders == 0 {
            self.stale_interests += 1;
        }
        if every_value {
            interest.every_value -= 1;
        }
        for value in values {
            if let Some(holders) = interest.values.get_mut(value) {
                *holders -= 1;
                if *holders == 0 {
                    self.stale_interests += 1;
                }
            }
        }
        if self.stale_interests > self.litter_max {
            self.drop_stale_interests();
        }
    }

    fn drop_stale_interests(&mut self) {
        let words = &mut self.words;
        self.interests.retain(|&key, interest| {
            interest.values.retain(|&value, holders| {
                if *holders == 0 {
                    words.release(value);
                }
                *holders > 0
            });
            if interest.holders == 0 {
                words.release(key);
            }
            interest.holders > 0
        });
        self.stale_interests = 0;
        self.interests_version += 1;
        self.follow_interests(Due {
            all: true,
            nodes: Vec::new(),
        });
    }

    /// Moves the nodes that new interests set apart from their like.
    pub(crate) fn follow_interests(&mut self, due: Due) {
        if due.all {
            for node in 0..self.nodes.len() as u32 {
                if self.nodes[node as usize].body != NOBODY {
                    self.place(node);
                }
            }
        } else {
            for node in due.nodes {
                self.place(node);
            }
        }
    }

    // ---- states

    /// The state of that shape and load, made if need be.
    fn state_for(&mut self, shape: u32, load: Load) -> u32 {
        let hash = hash_one(&self.hashing, &(shape, &load));
        let states = &self.states;
        if let Some(&state) = self.by_state.find(hash, |&s| {
            let other = &states[s as usize];
            other.shape == shape && other.load == load
        }) {
            return state;
        }
        self.shapes.hold(shape);
        let state = match self.free_states.pop() {
            Some(id) => {
                let slot = &mut self.states[id as usize];
                slot.shape = shape;
                slot.load = load;
                self.state_shapes[id as usize] = shape;
                id
            }
            None => {
                self.states.push(State {
                    shape,
                    load,
                    members: Vec::new(),
                    references: 0,
                    generation: 0,
                    next: NO_SUCCESSOR,
                });
                self.sizes.push(0);
                self.state_shapes.push(shape);
                (self.states.len() - 1) as u32
            }
        };
        let (states, hashing) = (&self.states, &self.hashing);
        self.by_state.insert_unique(hash, state, |&s| {
            let state = &states[s as usize];
            hash_one(hashing, &(state.shape, &state.load))
        });
        state
    }

    fn travel(&mut self, node: u32, to: u32) {
        let from = self.nodes[node as usize].state;
        if from == to {
            return;
        }
        let (old, new) = (&self.states[from as usize], &self.states[to as usize]);
        let shapes = (old.shape, new.shape);
        if !old.load.tallies.is_empty() || !new.load.tallies.is_empty() {
            let (old_shape, new_shape) = (old.shape, new.shape);
            let (old, new) = (&old.load.tallies, &new.load.tallies);
            if old_shape == new_shape {
                for &(tally, now) in new {
                    let before = scalar(old, tally);
                    if before != now {
                        self.tallies.moved(tally, old_shape, before, now);
                    }
                }
                for &(tally, before) in old {
                    if scalar(new, tally) == 0 {
                        self.tallies.moved(tally, old_shape, before, 0);
                    }
                }
            } else {
                for &(tally, before) in old {
                    self.tallies.moved(tally, old_shape, before, 0);
                }
                for &(tally, now) in new {
                    self.tallies.moved(tally, new_shape, 0, now);
                }
            }
        }
        if shapes.0 != shapes.1 {
            self.populate(shapes.1);
            self.depopulate(shapes.0);
        }
        // Held over the departure, or an empty target might be collected with the source's shape.
        self.states[to as usize].references += 1;
        self.leave(node);
        self.enter(node, to);
        self.states[to as usize].references -= 1;
    }

    fn populate(&mut self, shape: u32) {
        let shape = shape as usize;
        if self.shape_nodes.len() <= shape {
            self.shape_nodes.resize(shape + 1, 0);
        }
        self.shape_nodes[shape] += 1;
    }

    fn depopulate(&mut self, shape: u32) {
        self.shape_nodes[shape as usize] -= 1;
    }

    fn enter(&mut self, node: u32, state: u32) {
        let slot = &mut self.states[state as usize];
        let at = slot.members.len() as u32;
        slot.members.push(node);
        self.sizes[state as usize] = at + 1;
        let present = slot.shape != ABSENT;
        let record = &mut self.nodes[node as usize];
        record.state = state;
        record.at = at;
        self.touch(state);
        self.live_states += usize::from(at == 0);
        if present && parts::begins(at) {
            self.append_to_log(state);
        }
    }

    fn leave(&mut self, node: u32) {
        let Node { state, at, .. } = self.nodes[node as usize];
        let members = &mut self.states[state as usize].members;
        members.swap_remove(at as usize);
        if let Some(&moved) = members.get(at as usize) {
            self.nodes[moved as usize].at = at;
        }
        // A state most nodes passed through must not keep room for all of them.
        if members.capacity() > 64 && members.len() * 4 < members.capacity() {
            members.shrink_to(members.len() * 2);
        }
        let left = members.len() as u32;
        self.sizes[state as usize] = left;
        self.touch(state);
        if left == 0 {
            self.live_states -= 1;
            self.collect(state);
        }
    }

    /// Frees a state that has neither members nor readers.
    fn collect(&mut self, state: u32) {
        let slot = &mut self.states[state as usize];
        if !slot.members.is_empty() || slot.references > 0 {
            return;
        }
        let shape = slot.shape;
        let hash = hash_one(&self.hashing, &(shape, &slot.load));
        slot.load = Load::default();
        slot.members = Vec::new();
        slot.generation = slot.generation.wrapping_add(1);
        slot.next = NO_SUCCESSOR;
        if let Ok(entry) = self.by_state.find_entry(hash, |&s| s == state) {
            entry.remove();
        }
        self.free_states.push(state);
        self.release_shape(shape);
    }

    fn append_to_log(&mut self, state: u32) {
        // A reader that far behind is better off reading the states themselves.
        if self.log.len() >= self.litter_max.max(4 * self.live_states) {
            self.log_start += drop_half(&mut self.log);
        }
        self.log.push(state);
    }
}

/// Drops the older half of a log, so that not all its readers fall behind at once; says how much that was.
fn drop_half(log: &mut Vec<u32>) -> u64 {
    let older = log.len().div_ceil(2);
    log.drain(..older);
    older as u64
}

/// Nodes to look at again after interests changed.
#[derive(Debug, Default)]
pub(crate) struct Due {
    all: bool,
    nodes: Vec<u32>,
}

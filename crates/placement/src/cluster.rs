//! The cluster as the scheduler decides on it: nodes, pods on them, classes, and the pick.
//!
//! Synchronous and pure: no clock, and randomness only from the caller. Does not know the API, the queue,
//! or how a pick becomes a binding.

use crate::class::{Class, Names, Raw, Shortage, Static, static_total};
use crate::cons::Cons;
use crate::fleet::{Fleet, Load, NodeChange, RequestTag};
use crate::hashing::{Hashing, hash_one, hashing};
use crate::key::PodKey;
use crate::objects::{NodeInfo, PodInfo, PodRequest, PodSpec};
use crate::rules;
use crate::verdict::{
    OUTSIDE_NAMED_NODES, Plugin, PluginSet, TERMS_CONFLICT, TOO_MANY_PODS, Unschedulable,
    static_reason,
};
use hashbrown::{HashMap, HashTable};
use std::sync::Arc;

const ASSUMED: u32 = 1 << 31;

/// Limits and the seed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Seed of all hash tables.
    pub hash_seed: u64,
    /// Classes kept that nobody retains; the least recently used go first. About 1 KiB each.
    pub classes_max: usize,
    /// States listed by all class indices together, about 5 bytes each; above it the indices of the
    /// least recently used classes are dropped and rebuilt when next needed.
    pub index_entries_max: usize,
    /// What may lie about before it is tidied, of each kind, beyond what is in use: log entries, states
    /// that emptied but are still listed, label values nobody asks about any more. At most about
    /// 150 bytes each.
    pub litter_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            hash_seed: 0,
            classes_max: 10_000,
            index_entries_max: 32 << 20,
            litter_max: 16_384,
        }
    }
}

/// Handle of a node: good until the node is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

/// Handle of a class of pods: good while retained, else until evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId {
    slot: u32,
    generation: u32,
}

/// Why [`Cluster::pick`] named no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PickError {
    /// The class was evicted: ask [`Cluster::class_of`] again.
    UnknownClass,
    /// No node passes the filters.
    Unschedulable(Arc<Unschedulable>),
}

/// Every number behind one node's total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scores {
    /// PreferNoSchedule taints not tolerated.
    pub taint_raw: i64,
    /// TaintToleration, normalised, before its weight.
    pub taint: i64,
    /// Weights of matching preferred terms.
    pub affinity_raw: i64,
    /// NodeAffinity, normalised, before its weight.
    pub affinity: i64,
    /// NodeResourcesFit (LeastAllocated).
    pub fit: i64,
    /// NodeResourcesBalancedAllocation; 0 when skipped for a pod that asks for nothing.
    pub balanced: i64,
    /// Weighted sum.
    pub total: i64,
}

/// What the plugins say of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// Reasons of the first plugin that rejects it.
    Rejected(Vec<String>),
    /// It passes, with these scores among all feasible nodes.
    Feasible(Scores),
}

#[derive(Clone, Copy, Debug)]
struct PodRecord {
    node: u32,
    /// Number of the request; the top bit says the pod is assumed, not yet seen bound.
    request: u32,
}

#[derive(Debug, Default)]
struct ClassSlot {
    generation: u32,
    class: Option<Box<Class>>,
    retained: u32,
    last_used: u64,
    failure: Option<(u64, Arc<Unschedulable>)>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Cluster {
    config: Config,
    hashing: Hashing,
    fleet: Fleet,
    requests: Cons<Load>,
    pods: HashMap<PodKey, PodRecord, Hashing>,
    classes: Vec<ClassSlot>,
    free_classes: Vec<u32>,
    by_spec: HashTable<u32>,
    uses: u64,
    index_entries: usize,
}

impl Cluster {
    /// An empty cluster.
    pub fn new(config: Config) -> Cluster {
        let hashing = hashing(config.hash_seed);
        Cluster {
            hashing: hashing.clone(),
            fleet: Fleet::new(hashing.clone(), config.litter_max),
            requests: Cons::new(hashing.clone()),
            pods: HashMap::with_hasher(hashing.clone()),
            classes: Vec::new(),
            free_classes: Vec::new(),
            by_spec: HashTable::new(),
            uses: 0,
            index_entries: 0,
            config,
        }
    }

    // ---- nodes

    /// Adds or replaces a node; says what changed.
    pub fn upsert_node(&mut self, node: &NodeInfo) -> NodeChange {
        self.fleet.upsert(node)
    }

    /// Removes a node. Pods bound to it stay accounted for until they are removed, in case it returns.
    pub fn remove_node(&mut self, name: &str) -> bool {
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

    // ---- pods

    /// A pod as the API shows it: bound and unfinished pods count, others do not. True when that
    /// changed anything.
    pub fn observe_pod(&mut self, pod: &PodInfo) -> bool {
        let key = PodKey::of(&pod.uid);
        match &pod.node {
            Some(node) if !pod.finished => self.add_pod(key, node, &pod.spec.request),
            Some(_) => self.remove_pod(key),
            // A pod not bound yet may be assumed: our own binding is on its way.
            None => false,
        }
    }

    /// A pod bound to a node, known to exist or not. Confirms an assumption. True when anything moved.
    pub fn add_pod(&mut self, key: PodKey, node: &str, request: &PodRequest) -> bool {
        let request = self.hold_request(request);
        let node = self.fleet.find_or_add(node);
        self.account(key, node, request, 0)
    }

    /// A pod is gone or finished. True when it was accounted for.
    pub fn remove_pod(&mut self, key: PodKey) -> bool {
        let Some(record) = self.pods.remove(&key) else {
            return false;
        };
        self.take_off(record);
        true
    }

    /// Counts a picked pod as placed before its binding is written. False when class or node is gone.
    pub fn assume(&mut self, key: PodKey, class: ClassId, node: NodeId) -> bool {
        if self.fleet.node_name(node.0).is_none() {
            return false;
        }
        let Some(request) = self.class(class).map(|c| c.request) else {
            return false;
        };
        self.requests.hold(request);
        self.account(key, node.0, request, ASSUMED);
        true
    }

    /// Takes an assumption back, unless the binding has been seen meanwhile. True when it did.
    pub fn forget(&mut self, key: PodKey) -> bool {
        let assumed = self.is_assumed(key);
        assumed && self.remove_pod(key)
    }

    /// Is the pod assumed and not yet seen bound?
    pub fn is_assumed(&self, key: PodKey) -> bool {
        self.pods
            .get(&key)
            .is_some_and(|r| r.request & ASSUMED != 0)
    }

    /// Pods accounted for.
    pub fn pods(&self) -> usize {
        self.pods.len()
    }

    /// `request` comes held; the record keeps the hold.
    fn account(&mut self, key: PodKey, node: u32, request: u32, assumed: u32) -> bool {
        let old = self.pods.get_mut(&key);
        if let Some(record) = &old
            && record.node == node
            && record.request & !ASSUMED == request
        {
            let still_assumed = record.request & assumed;
            if let Some(record) = old {
                record.request = request | still_assumed;
            }
            self.release_request(request);
            return false;
        }
        let old = old.map(|record| *record);
        // In before out: a node known only by its pods would vanish between the two.
        let load = self.requests.get(request);
        let tag = RequestTag(request, self.requests.generation(request));
        self.fleet.shift(node, tag, load, true);
        if let Some(old) = old {
            self.take_off(old);
        }
        let request = request | assumed;
        self.pods.insert(key, PodRecord { node, request });
        true
    }

    fn take_off(&mut self, record: PodRecord) {
        let request = record.request & !ASSUMED;
        let load = self.requests.get(request);
        let tag = RequestTag(request, self.requests.generation(request));
        self.fleet.shift(record.node, tag, load, false);
        self.release_request(request);
    }

    fn hold_request(&mut self, request: &PodRequest) -> u32 {
        let load = self.fleet.request_load(request);
        match self.requests.find(&load) {
            Some(known) => {
                self.requests.hold(known);
                self.fleet.release_load(&load);
                known
            }
            None => self.requests.insert(load),
        }
    }

    fn release_request(&mut self, request: u32) {
        if let Some(gone) = self.requests.release(request) {
            self.fleet.release_load(&gone);
        }
    }

    // ---- classes

    /// The class of pods with this signature.
    pub fn class_of(&mut self, spec: &PodSpec) -> ClassId {
        self.uses += 1;
        let hash = hash_one(&self.hashing, spec);
        let classes = &self.classes;
        let known = self.by_spec.find(hash, |&slot| {
            let class = classes[slot as usize].class.as_ref();
            class.is_some_and(|c| c.spec == *spec)
        });
        let slot = match known {
            Some(&slot) => slot,
            None => self.add_class(spec, hash),
        };
        let entry = &mut self.classes[slot as usize];
        entry.last_used = self.uses;
        ClassId {
            slot,
            generation: entry.generation,
        }
    }

    /// Keeps a class from eviction until it is released as often as it was retained.
    pub fn retain_class(&mut self, class: ClassId) {
        if self.class(class).is_some() {
            self.classes[class.slot as usize].retained += 1;
        }
    }

    /// Undoes one [`Cluster::retain_class`].
    pub fn release_class(&mut self, class: ClassId) {
        if self.class(class).is_some() {
            let slot = &mut self.classes[class.slot as usize];
            slot.retained = slot.retained.saturating_sub(1);
        }
    }

    /// Classes known now.
    pub fn classes(&self) -> usize {
        self.classes.len() - self.free_classes.len()
    }

    fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes
            .get(id.slot as usize)
            .filter(|slot| slot.generation == id.generation)?
            .class
            .as_deref()
    }

    fn add_class(&mut self, spec: &PodSpec, hash: u64) -> u32 {
        if self.classes() >= self.config.classes_max {
            self.evict_classes();
        }
        let request = self.hold_request(&spec.request);
        let load = self.requests.get(request).clone();
        let class = Class::new(spec.clone(), request, load, &mut self.fleet);
        let slot = match self.free_classes.pop() {
            Some(slot) => slot,
            None => {
                self.classes.push(ClassSlot::default());
                (self.classes.len() - 1) as u32
            }
        };
        self.classes[slot as usize].class = Some(Box::new(class));
        let (classes, hashing) = (&self.classes, &self.hashing);
        self.by_spec.insert_unique(hash, slot, |&s| {
            classes[s as usize]
                .class
                .as_ref()
                .map_or(0, |c| hash_one(hashing, &c.spec))
        });
        slot
    }

    /// Drops an eighth of the classes nobody retains, the least recently used first.
    fn evict_classes(&mut self) {
        let mut idle: Vec<(u64, u32)> = self
            .classes
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.class.is_some() && slot.retained == 0)
            .map(|(at, slot)| (slot.last_used, at as u32))
            .collect();
        idle.sort_unstable();
        idle.truncate((self.config.classes_max / 8).max(1));
        for (_, at) in idle {
            let slot = &mut self.classes[at as usize];
            let Some(class) = slot.class.take() else {
                continue;
            };
            slot.generation = slot.generation.wrapping_add(1);
            slot.failure = None;
            if let Ok(entry) = self
                .by_spec
                .find_entry(hash_one(&self.hashing, &class.spec), |&s| s == at)
            {
                entry.remove();
            }
            let request = class.request;
            self.index_entries -= class.dissolve(&mut self.fleet);
            self.release_request(request);
            self.free_classes.push(at);
        }
    }

    // ---- the pick

    /// The best node for a pod of the class, uniformly among equals. `pin` restricts it to one node
    /// (see [`PodInfo::pin`]). `random` gives uniform 64-bit numbers.
    pub fn pick(
        &mut self,
        class: ClassId,
        pin: Option<&str>,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<NodeId, PickError> {
        let mut current = self.take_class(class).ok_or(PickError::UnknownClass)?;
        let result = match (pin, &current.names) {
            (_, Names::Contradiction) => Err(Arc::new(self.contradiction())),
            (Some(name), _) => self.pick_named(&mut current, &[name], random),
            (None, Names::Only(names)) => {
                let names = names.clone();
                let names: Vec<&str> = names.iter().map(|n| &**n).collect();
                self.pick_named(&mut current, &names, random)
            }
            (None, Names::Any) => self.pick_any(class, &mut current, random),
        };
        self.classes[class.slot as usize].class = Some(current);
        self.trim(class.slot);
        result.map(NodeId).map_err(PickError::Unschedulable)
    }

    /// How many nodes pass the filters for a class without named nodes, by its index.
    pub fn feasible(&mut self, class: ClassId) -> Option<usize> {
        let mut current = self.take_class(class)?;
        let before = current.entries();
        let feasible = current.feasible(&mut self.fleet);
        self.index_entries = self.index_entries + current.entries() - before;
        self.classes[class.slot as usize].class = Some(current);
        Some(feasible)
    }

    /// Would a pod of the class pass the filters on this node now?
    pub fn fits(&mut self, class: ClassId, node: NodeId) -> Option<bool> {
        self.fleet.node_name(node.0)?;
        let mut current = self.take_class(class)?;
        let state = self.fleet.state_of(node.0);
        let verdict = current.judge_shape(&self.fleet, self.fleet.shape_of(state));
        let fits = matches!(verdict, Static::Group(_))
            && current.judge_state(&self.fleet, state).is_some();
        self.classes[class.slot as usize].class = Some(current);
        Some(fits)
    }

    /// What each plugin says of one node, for a class without named nodes.
    pub fn explain(&mut self, class: ClassId, node: NodeId) -> Option<Explanation> {
        self.fleet.node_name(node.0)?;
        let mut current = self.take_class(class)?;
        let before = current.entries();
        let maxima = current.maxima(&mut self.fleet);
        self.index_entries = self.index_entries + current.entries() - before;
        let explanation = self.explain_state(&mut current, self.fleet.state_of(node.0), maxima);
        self.classes[class.slot as usize].class = Some(current);
        Some(explanation)
    }

    fn explain_state(&self, class: &mut Class, state: u32, maxima: Option<Raw>) -> Explanation {
        let verdict = class.judge_shape(&self.fleet, self.fleet.shape_of(state));
        match (verdict, class.judge_state(&self.fleet, state)) {
            (Static::Group(group), Some(dynamic)) => {
                let raw = class.raw(group);
                let maxima = maxima.unwrap_or(raw);
                Explanation::Feasible(Scores {
                    taint_raw: raw.0,
                    taint: rules::normalise_reversed(raw.0, maxima.0),
                    affinity_raw: raw.1,
                    affinity: rules::normalise(raw.1, maxima.1),
                    fit: dynamic.fit,
                    balanced: dynamic.balanced,
                    total: static_total(raw, maxima) + dynamic.fit + dynamic.balanced,
                })
            }
            _ => {
                let mut counting = Counting::default();
                counting.count(&self.fleet, class, state, 1);
                let reasons = counting.finish(&self.fleet).reasons;
                Explanation::Rejected(reasons.into_iter().map(|(text, _)| text).collect())
            }
        }
    }

    fn take_class(&mut self, id: ClassId) -> Option<Box<Class>> {
        self.uses += 1;
        let slot = self.classes.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.last_used = self.uses;
        slot.class.take()
    }

    fn pick_any(
        &mut self,
        id: ClassId,
        class: &mut Class,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<u32, Arc<Unschedulable>> {
        let before = class.entries();
        let best = class.best(&mut self.fleet);
        self.index_entries = self.index_entries + class.entries() - before;
        let node = best.and_then(|best| {
            let nth = below(best.weight, random);
            class.nth_best(&self.fleet, &best, nth)
        });
        if let Some(node) = node {
            return Ok(node);
        }
        let version = self.fleet.version();
        let slot = &mut self.classes[id.slot as usize];
        if let Some((counted_at, failure)) = &slot.failure
            && *counted_at == version
        {
            return Err(failure.clone());
        }
        let mut counting = Counting::default();
        for state in self.fleet.live() {
            counting.count(&self.fleet, class, state, self.fleet.size(state) as usize);
        }
        let failure = Arc::new(counting.finish(&self.fleet));
        slot.failure = Some((version, failure.clone()));
        Err(failure)
    }

    /// Filters and scores just the named nodes, the way upstream narrows the list before filtering.
    fn pick_named(
        &mut self,
        class: &mut Class,
        names: &[&str],
        random: &mut dyn FnMut() -> u64,
    ) -> Result<u32, Arc<Unschedulable>> {
        let mut counting = Counting::default();
        let mut feasible = Vec::new();
        let mut maxima: Raw = (0, 0);
        let mut looked_at = 0;
        for node in names.iter().filter_map(|name| self.fleet.node(name)) {
            looked_at += 1;
            let state = self.fleet.state_of(node);
            let verdict = class.judge_shape(&self.fleet, self.fleet.shape_of(state));
            match (verdict, class.judge_state(&self.fleet, state)) {
                (Static::Group(group), Some(dynamic)) => {
                    let raw = class.raw(group);
                    maxima = (maxima.0.max(raw.0), maxima.1.max(raw.1));
                    feasible.push((node, raw, dynamic.fit + dynamic.balanced));
                }
                _ => counting.count(&self.fleet, class, state, 1),
            }
        }
        let total = |(_, raw, dynamic): &(u32, Raw, i64)| static_total(*raw, maxima) + dynamic;
        if let Some(best) = feasible.iter().map(total).max() {
            feasible.retain(|candidate| total(candidate) == best);
            let nth = below(feasible.len() as u64, random) as usize;
            if let Some(&(node, ..)) = feasible.get(nth) {
                return Ok(node);
            }
        }
        let elsewhere = self.fleet.present() - looked_at;
        counting.add(Reason::OutsideNamedNodes, elsewhere);
        counting.rejected_by = counting.rejected_by.with(Plugin::NodeAffinity);
        Err(Arc::new(counting.finish(&self.fleet)))
    }

    fn contradiction(&self) -> Unschedulable {
        Unschedulable {
            nodes: self.fleet.present(),
            contradiction: Some(TERMS_CONFLICT),
            rejected_by: PluginSet::of(&[Plugin::NodeAffinity]),
            ..Unschedulable::default()
        }
    }

    /// Keeps the memory of indices within its limit, sparing the class just used.
    fn trim(&mut self, spared: u32) {
        let fleet = &self.fleet;
        let littered = fleet.dead_states() > fleet.live_states() + fleet.litter_max();
        let target = if littered {
            0
        } else if self.index_entries > self.config.index_entries_max {
            self.config.index_entries_max / 2
        } else {
            return;
        };
        let mut by_age: Vec<(u64, u32)> = (0..self.classes.len() as u32)
            .filter(|&at| at != spared)
            .map(|at| (self.classes[at as usize].last_used, at))
            .collect();
        by_age.sort_unstable();
        if littered {
            by_age.push((u64::MAX, spared));
        }
        for (_, at) in by_age {
            if self.index_entries <= target {
                break;
            }
            if let Some(class) = &mut self.classes[at as usize].class {
                self.index_entries -= class.drop_index(&mut self.fleet);
            }
        }
    }

    /// Sizes of the tables, for metrics and reports.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            shapes: self.fleet.shapes_len(),
            live_states: self.fleet.live_states(),
            dead_states: self.fleet.dead_states(),
            classes: self.classes(),
            requests: self.requests.len(),
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
    /// Distinct requests.
    pub requests: usize,
    /// States listed by all class indices together.
    pub index_entries: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Filter(Plugin),
    Short(Shortage),
    OutsideNamedNodes,
}

/// Reasons of rejected nodes being counted; put into words only at the end.
#[derive(Debug, Default)]
struct Counting {
    reasons: Vec<(Reason, usize)>,
    rejected_by: PluginSet,
    preemptible: usize,
}

impl Counting {
    fn add(&mut self, reason: Reason, nodes: usize) {
        match self.reasons.iter_mut().find(|(r, _)| *r == reason) {
            Some((_, n)) => *n += nodes,
            None => self.reasons.push((reason, nodes)),
        }
    }

    fn count(&mut self, fleet: &Fleet, class: &mut Class, state: u32, nodes: usize) {
        match class.judge_shape(fleet, fleet.shape_of(state)) {
            Static::Rejected(plugin) => {
                self.add(Reason::Filter(plugin), nodes);
                self.rejected_by = self.rejected_by.with(plugin);
            }
            _ => {
                let resolvable = class.shortages(fleet, state, &mut |shortage| {
                    self.add(Reason::Short(shortage), nodes);
                });
                self.rejected_by = self.rejected_by.with(Plugin::NodeResourcesFit);
                if resolvable {
                    self.preemptible += nodes;
                }
            }
        }
    }

    fn finish(self, fleet: &Fleet) -> Unschedulable {
        let insufficient = |resource: &str| format!("Insufficient {resource}");
        let mut reasons: Vec<(String, usize)> = self
            .reasons
            .into_iter()
            .filter(|&(_, nodes)| nodes > 0)
            .map(|(reason, nodes)| {
                let text = match reason {
                    Reason::Filter(plugin) => static_reason(plugin).into(),
                    Reason::Short(Shortage::Pods) => TOO_MANY_PODS.into(),
                    Reason::Short(Shortage::Native(name)) => insufficient(name),
                    Reason::Short(Shortage::Scalar(word)) => insufficient(fleet.words.text(word)),
                    Reason::OutsideNamedNodes => OUTSIDE_NAMED_NODES.into(),
                };
                (text, nodes)
            })
            .collect();
        reasons.sort();
        Unschedulable {
            nodes: fleet.present(),
            contradiction: None,
            reasons,
            rejected_by: self.rejected_by,
            preemptible: self.preemptible,
        }
    }
}

/// A uniform number below `bound`.
fn below(bound: u64, random: &mut dyn FnMut() -> u64) -> u64 {
    ((u128::from(random()) * u128::from(bound)) >> 64) as u64
}

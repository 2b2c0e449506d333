//! The coordinator's tables: every node without its load, which shard has it, where each pod is.
//!
//! Offers the calls of a [`Cluster`]. Choosing is in `choose.rs` and `running.rs`, failures in `failing.rs`, what
//! shards told in `views.rs`. Holds no load of any node, and no clock.

use super::views::Views;
use super::words::{Answer, Claim, OnNode, Order, Reply, Request};
use super::{ASKS_AT_ONCE, Links, Lost, SHARDS_MAX};
use crate::cluster::{ClassId, Cluster, Config, NodeId};
use crate::fleet::NodeChange;
use crate::hashing::{Hashing, hash_one};
use crate::intern::{Interner, Word};
use crate::key::PodKey;
use crate::objects::{NodeInfo, PodInfo, PodSpec};
use crate::preempt::Budget;
use crate::tally::Role;
use crate::terms::{MakerKind, Pairs, PodTerm};
use hashbrown::{HashMap, HashSet};
use meta::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A pod that has a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    /// The node's name.
    pub(super) node: Word,
    kind: u32,
    pub(super) shard: u8,
    assumed: bool,
}

/// A pod that is to come to a node once others have gone.
#[derive(Clone, Debug)]
pub(crate) struct InView {
    pub(crate) node: Box<str>,
    pub(crate) kind: u32,
    pub(crate) priority: i32,
    pub(super) shard: Option<usize>,
}

/// One shard, as the coordinator sees it.
#[derive(Debug, Default)]
pub(crate) struct Member {
    pub(crate) alive: bool,
    /// Rises with everything that may change what it told.
    pub(crate) touched: u64,
    kinds: HashSet<u32>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Coordinator<L> {
    /// Nodes without loads; classes, kinds, makers, namespaces, budgets.
    pub(crate) brain: Cluster,
    pub(crate) links: L,
    pub(crate) members: Vec<Member>,
    pub(super) pods: HashMap<PodKey, Placed, Hashing>,
    /// Of these, those assumed.
    assumed: usize,
    /// Names of nodes that pods are on.
    pub(super) places: Interner,
    pub(crate) in_view: HashMap<PodKey, InView, Hashing>,
    /// Kinds as shards were told of them.
    kinds: HashMap<u32, Arc<PodSpec>>,
    /// Held terms as shards were told of them.
    pub(super) terms: BTreeMap<u32, (Role, PodTerm)>,
    terms_seen: u64,
    /// Host names that nodes spell out as labels, and how many nodes do.
    pub(super) spelt: HashMap<Box<str>, u32, Hashing>,
    pub(crate) views: Views,
    /// Changes with every change.
    pub(crate) version: u64,
    /// Which change of shards calls for everything to be told again.
    pub(super) unheard: Option<u64>,
    pub(super) losses: u64,
}

impl<L: Links> Coordinator<L> {
    /// A coordinator of empty shards. `config` must be theirs, too.
    pub fn new(config: Config, links: L) -> Coordinator<L> {
        let brain = Cluster::new(config);
        let hashing = brain.hashing.clone();
        let members = (0..links.count().min(SHARDS_MAX)).map(|_| Member {
            alive: true,
            ..Member::default()
        });
        Coordinator {
            members: members.collect(),
            links,
            pods: HashMap::with_hasher(hashing.clone()),
            assumed: 0,
            places: Interner::new(hashing.clone()),
            in_view: HashMap::with_hasher(hashing.clone()),
            kinds: HashMap::new(),
            terms: BTreeMap::new(),
            terms_seen: 0,
            spelt: HashMap::with_hasher(hashing.clone()),
            views: Views::new(hashing),
            version: 1,
            unheard: None,
            losses: 0,
            brain,
        }
    }

    /// What carries the messages.
    pub fn links(&mut self) -> &mut L {
        &mut self.links
    }

    /// Sends what waits to be sent.
    pub fn flush(&mut self) {
        self.links.flush();
    }

    // ---- messages

    /// Sends an order; a shard that cannot be reached is lost.
    pub(crate) fn tell(&mut self, shard: usize, order: Order) {
        if self.members[shard].alive && self.links.send(shard, Request(order)).is_err() {
            self.lose(shard);
        }
    }

    /// The same for an order that may change what the shard told.
    pub(crate) fn change(&mut self, shard: usize, order: Order) {
        self.version += 1;
        self.members[shard].touched += 1;
        self.tell(shard, order);
    }

    fn change_all(&mut self, order: &Order) {
        self.version += 1;
        for shard in self.alive() {
            self.members[shard].touched += 1;
            self.tell(shard, order.clone());
        }
    }

    /// Asks several shards at once. If one is lost the others' answers are void, too.
    pub(crate) fn ask_all(&mut self, orders: Vec<(usize, Order)>) -> Result<Vec<Answer>, Lost> {
        let mut answers = Vec::with_capacity(orders.len());
        let mut orders = orders.into_iter();
        let mut lost: Vec<usize> = Vec::new();
        let mut asked: Vec<usize> = Vec::new();
        while orders.len() > 0 && lost.is_empty() {
            for (shard, order) in orders.by_ref().take(ASKS_AT_ONCE) {
                let there = self.members[shard].alive;
                if there && self.links.send(shard, Request(order)).is_ok() {
                    asked.push(shard);
                } else {
                    lost.push(shard);
                }
            }
            // Every answer is taken, or the next question would get it.
            for shard in asked.drain(..) {
                match self.links.receive(shard) {
                    Ok(Reply(Answer::Confused)) | Err(Lost) => lost.push(shard),
                    Ok(Reply(answer)) => answers.push(answer),
                }
            }
        }
        for &shard in &lost {
            self.lose(shard);
        }
        if lost.is_empty() {
            Ok(answers)
        } else {
            Err(Lost)
        }
    }

    pub(crate) fn ask(&mut self, shard: usize, order: Order) -> Result<Answer, Lost> {
        self.ask_all(vec![(shard, order)])?.pop().ok_or(Lost)
    }

    /// The shard a node of that name is with, or would be.
    pub(crate) fn home(&self, name: &str) -> Option<usize> {
        owner(name, &self.alive())
    }

    // ---- nodes

    /// Adds or replaces a node; says what changed.
    pub fn upsert_node(&mut self, info: &NodeInfo) -> NodeChange {
        let body = |brain: &Cluster| {
            let body = brain.fleet.spelt_body_of(&info.name);
            body.map(|(body, host)| (body, host.map(Box::<str>::from)))
        };
        let before = body(&self.brain);
        let change = self.brain.upsert_node(info);
        let after = body(&self.brain);
        if before == after {
            return change;
        }
        let (old, new) = (before.and_then(|b| b.1), after.and_then(|a| a.1));
        if old != new {
            if let Some(host) = new {
                self.spell(host, true);
            }
            if let Some(host) = old {
                self.spell(host, false);
            }
        }
        if let Some(shard) = self.home(&info.name) {
            self.change(shard, Order::Node(Arc::new(info.clone())));
        }
        self.version += 1;
        change
    }

    /// Removes a node. Pods bound to it stay accounted for until they are removed, in case it returns.
    pub fn remove_node(&mut self, name: &str) -> bool {
        let home = self.home(name);
        self.forget_node(name, home)
    }

    pub(super) fn forget_node(&mut self, name: &str, home: Option<usize>) -> bool {
        let body = self.brain.fleet.spelt_body_of(name);
        let host = body.and_then(|(_, host)| host).map(Box::<str>::from);
        if !self.brain.remove_node(name) {
            return false;
        }
        self.version += 1;
        if let Some(home) = home.filter(|&home| self.members[home].alive) {
            self.change(home, Order::RemoveNode(name.into()));
        }
        if let Some(host) = host {
            self.spell(host, false);
        }
        true
    }

    fn spell(&mut self, host: Box<str>, more: bool) {
        let nodes = self.spelt.entry(host.clone()).or_insert(0);
        if more {
            *nodes += 1;
            if *nodes == 1 {
                self.change_all(&Order::Host(host, true));
            }
            return;
        }
        *nodes = nodes.saturating_sub(1);
        if *nodes == 0 {
            self.spelt.remove(&host);
            self.change_all(&Order::Host(host, false));
        }
    }

    /// The handle of an existing node.
    pub fn node(&self, name: &str) -> Option<NodeId> {
        self.brain.node(name)
    }

    /// The name of an existing node.
    pub fn node_name(&self, node: NodeId) -> Option<&str> {
        self.brain.node_name(node)
    }

    /// Nodes that exist.
    pub fn nodes(&self) -> usize {
        self.brain.nodes()
    }

    // ---- what is around

    /// As [`Cluster::note_maker`].
    pub fn note_maker(
        &mut self,
        kind: MakerKind,
        namespace: &str,
        name: &str,
        selector: &Value,
    ) -> bool {
        let changed = self.brain.note_maker(kind, namespace, name, selector);
        if changed {
            let order = Order::Maker(kind, namespace.into(), name.into(), selector.clone());
            self.change_all(&order);
        }
        changed
    }

    /// As [`Cluster::upsert_namespace`].
    pub fn upsert_namespace(&mut self, name: &str, labels: Pairs) -> bool {
        let changed = self.brain.upsert_namespace(name, labels.clone());
        if changed {
            self.change_all(&Order::Namespace(name.into(), Some(labels)));
        }
        changed
    }

    /// A namespace is gone.
    pub fn remove_namespace(&mut self, name: &str) {
        self.brain.remove_namespace(name);
        self.change_all(&Order::Namespace(name.into(), None));
    }

    /// A disruption budget as it is now.
    pub fn upsert_budget(&mut self, budget: Budget) {
        self.brain.upsert_budget(budget.clone());
        self.change_all(&Order::Budget(budget));
    }

    /// A disruption budget is gone.
    pub fn remove_budget(&mut self, namespace: &str, name: &str) {
        self.brain.remove_budget(namespace, name);
        self.change_all(&Order::RemoveBudget(namespace.into(), name.into()));
    }

    // ---- classes

    /// The class of pods with this signature.
    pub fn class_of(&mut self, spec: &PodSpec) -> ClassId {
        let class = self.brain.class_of(spec);
        self.follow_terms();
        class
    }

    /// As [`Cluster::retain_class`].
    pub fn retain_class(&mut self, class: ClassId) {
        self.brain.retain_class(class);
    }

    /// As [`Cluster::release_class`].
    pub fn release_class(&mut self, class: ClassId) {
        self.brain.release_class(class);
    }

    /// Classes known now.
    pub fn classes(&self) -> usize {
        self.brain.classes()
    }

    /// Could a pod of the class go to this node if nobody were there?
    pub fn could_suit(&mut self, class: ClassId, node: NodeId) -> Option<bool> {
        self.brain.could_suit(class, node)
    }

    /// Tells shards of terms that pods began to hold, or no longer do.
    fn follow_terms(&mut self) {
        let version = self.brain.fleet.tallies.held_version();
        if version == self.terms_seen {
            return;
        }
        self.terms_seen = version;
        let now: BTreeMap<u32, (Role, PodTerm)> = self
            .brain
            .fleet
            .tallies
            .held()
            .map(|(number, role, term)| (number, (role, term.clone())))
            .collect();
        let before = std::mem::take(&mut self.terms);
        for (number, term) in &before {
            if now.get(number) != Some(term) {
                self.change_all(&Order::DropTerm(*number));
            }
        }
        for (number, term) in &now {
            if before.get(number) != Some(term) {
                self.change_all(&Order::Term(*number, term.0, term.1.clone()));
            }
        }
        self.terms = now;
    }

    // ---- kinds

    /// The kind is known at that shard afterwards.
    fn teach(&mut self, shard: usize, kind: u32) {
        let Some(known) = self.brain.kinds.get(kind) else {
            return;
        };
        let told = self.kinds.get(&kind);
        let deleting = known.deleting;
        if !told.is_some_and(|told| known.is_of(told, deleting) && told.never_preempts == deleting)
        {
            let spec = PodSpec {
                request: known.request.clone(),
                ports: known.ports.clone(),
                namespace: known.namespace.clone(),
                labels: known.labels.clone(),
                affinity: known.affinity.clone(),
                priority: known.priority,
                // Kinds have no such field: it says here whether the pods are going.
                never_preempts: deleting,
                ..PodSpec::default()
            };
            self.unteach(kind);
            self.kinds.insert(kind, Arc::new(spec));
        }
        if self.members[shard].kinds.insert(kind)
            && let Some(spec) = self.kinds.get(&kind).cloned()
        {
            self.tell(shard, Order::Kind(kind, spec, deleting));
        }
    }

    fn unteach(&mut self, kind: u32) {
        self.kinds.remove(&kind);
        for shard in self.alive() {
            if self.members[shard].kinds.remove(&kind) {
                self.tell(shard, Order::DropKind(kind));
            }
        }
    }

    fn release_kind(&mut self, kind: u32) {
        self.brain.release_kind(kind);
        if self.brain.kinds.get(kind).is_none() {
            self.unteach(kind);
        }
        self.follow_terms();
    }

    // ---- pods

    /// As [`Cluster::observe_pod`].
    pub fn observe_pod(&mut self, pod: &PodInfo) -> bool {
        let key = PodKey::of(&pod.uid);
        match &pod.node {
            Some(node) if !pod.finished => {
                let kind = self.brain.hold_kind(&pod.spec, pod.deleting);
                self.follow_terms();
                let on_node = OnNode {
                    key,
                    node: node.clone(),
                    kind,
                    assumed: false,
                    started_micros: pod.started_micros,
                    name_hash: self.brain.name_hash(&pod.name),
                    preempted: pod.preempted && pod.deleting,
                };
                if pod.uses.is_some() && self.brain.asks_about_volumes() {
                    // So that its volumes are known to be in use.
                    self.brain.observe_pod(pod);
                }
                let moved = self.put(on_node);
                self.withdraw_nomination(key);
                moved
            }
            Some(_) => self.remove_pod(key),
            None => false,
        }
    }

    /// `kind` comes held; the table keeps the hold. True when that is a change.
    fn put(&mut self, pod: OnNode) -> bool {
        let old = self.pods.get(&pod.key).copied();
        let home = self.home(&pod.node);
        let same =
            old.filter(|old| old.kind == pod.kind && *self.places.text(old.node) == *pod.node);
        if let Some(old) = same {
            self.release_kind(pod.kind);
            if let Some(known) = self.pods.get_mut(&pod.key) {
                known.assumed = old.assumed && pod.assumed;
                self.assumed -= usize::from(old.assumed && !pod.assumed);
            }
            if let Some(home) = home {
                // What it weighs is as it was.
                self.teach(home, pod.kind);
                self.tell(home, Order::Pod(pod));
            }
            return false;
        }
        let placed = Placed {
            node: self.places.acquire(&pod.node),
            kind: pod.kind,
            shard: home.map_or(u8::MAX, |home| home as u8),
            assumed: pod.assumed,
        };
        if let Some(old) = old.filter(|old| old.shard != placed.shard) {
            self.take_off(pod.key, &old);
        }
        self.assumed += usize::from(placed.assumed);
        self.assumed -= usize::from(old.is_some_and(|old| old.assumed));
        self.pods.insert(pod.key, placed);
        if let Some(home) = home {
            self.teach(home, pod.kind);
            self.change(home, Order::Pod(pod));
        }
        if let Some(old) = old {
            self.places.release(old.node);
            self.release_kind(old.kind);
        }
        true
    }

    fn take_off(&mut self, key: PodKey, placed: &Placed) {
        let shard = usize::from(placed.shard);
        if self.members.get(shard).is_some_and(|m| m.alive) {
            self.change(shard, Order::RemovePod(key));
        }
    }

    /// A pod is gone or finished. True when it was accounted for.
    pub fn remove_pod(&mut self, key: PodKey) -> bool {
        let Some(old) = self.pods.remove(&key) else {
            return false;
        };
        self.assumed -= usize::from(old.assumed);
        self.brain.remove_pod(key);
        self.take_off(key, &old);
        self.places.release(old.node);
        self.release_kind(old.kind);
        true
    }

    /// Counts a picked pod as placed before its binding is written. False when class or node is gone.
    pub fn assume(&mut self, key: PodKey, class: ClassId, node: NodeId) -> bool {
        let id = node;
        let Some(node) = self.brain.node_name(node).map(Box::<str>::from) else {
            return false;
        };
        let Some(known) = self.brain.class(class) else {
            return false;
        };
        let kind = known.kind;
        if known.minds_volumes() {
            self.brain.assume(key, class, id);
        }
        self.brain.kinds.hold(kind);
        self.put(OnNode {
            key,
            node,
            kind,
            assumed: true,
            started_micros: 0,
            name_hash: 0,
            preempted: false,
        });
        self.withdraw_nomination(key);
        true
    }

    /// The node of an assumed pod is another shard's now. No list tells of it: what is known is told there. False for
    /// pods that are not assumed.
    pub(super) fn move_assumed(&mut self, key: PodKey) -> bool {
        let Some(old) = self.pods.get(&key).copied().filter(|pod| pod.assumed) else {
            return false;
        };
        let node: Box<str> = self.places.text(old.node).into();
        let Some(home) = self.home(&node) else {
            return false;
        };
        self.take_off(key, &old);
        if let Some(placed) = self.pods.get_mut(&key) {
            placed.shard = home as u8;
        }
        self.teach(home, old.kind);
        let pod = OnNode {
            key,
            node,
            kind: old.kind,
            assumed: true,
            started_micros: 0,
            name_hash: 0,
            preempted: false,
        };
        self.change(home, Order::Pod(pod));
        true
    }

    /// The shard has placed a pod itself.
    pub(crate) fn note_placed(&mut self, key: PodKey, kind: u32, node: &str, shard: usize) {
        self.brain.kinds.hold(kind);
        let placed = Placed {
            node: self.places.acquire(node),
            kind,
            shard: shard as u8,
            assumed: true,
        };
        self.assumed += 1;
        if let Some(old) = self.pods.insert(key, placed) {
            self.assumed -= usize::from(old.assumed);
            self.places.release(old.node);
            self.release_kind(old.kind);
        }
        self.withdraw_nomination(key);
    }

    /// Takes back what a shard may have placed before another one was lost.
    pub(crate) fn unplace(&mut self, shard: usize, pods: &[PodKey]) {
        for &pod in pods {
            self.change(shard, Order::RemovePod(pod));
        }
    }

    /// Takes an assumption back, unless the binding has been seen meanwhile. True when it did.
    pub fn forget(&mut self, key: PodKey) -> bool {
        self.is_assumed(key) && self.remove_pod(key)
    }

    /// Is the pod assumed and not yet seen bound?
    pub fn is_assumed(&self, key: PodKey) -> bool {
        self.pods.get(&key).is_some_and(|pod| pod.assumed)
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

    // ---- nominations

    /// As [`Cluster::nominate`].
    pub fn nominate(&mut self, pod: PodKey, class: ClassId, node: NodeId) -> bool {
        let Some(node) = self.brain.node_name(node).map(Box::<str>::from) else {
            return false;
        };
        self.nominate_by_name(pod, class, &node)
    }

    /// As [`Cluster::nominate_by_name`].
    pub fn nominate_by_name(&mut self, pod: PodKey, class: ClassId, node: &str) -> bool {
        let known = self.brain.class(class);
        let known = known.map(|c| (c.kind, c.spec.priority, c.minds_volumes()));
        let Some((kind, priority, minds_volumes)) = known else {
            return false;
        };
        let new = InView {
            node: node.into(),
            kind,
            priority,
            shard: self.home(node),
        };
        self.brain.kinds.hold(kind);
        self.withdraw_nomination(pod);
        self.claim(pod, &new, true);
        self.in_view.insert(pod, new);
        if minds_volumes {
            self.brain.nominate_by_name(pod, class, node);
        }
        true
    }

    /// The pod no longer waits for that node. True when it did.
    pub fn withdraw_nomination(&mut self, pod: PodKey) -> bool {
        let Some(old) = self.in_view.remove(&pod) else {
            return false;
        };
        self.brain.withdraw_nomination(pod);
        self.claim(pod, &old, false);
        self.release_kind(old.kind);
        true
    }

    pub(crate) fn claim(&mut self, pod: PodKey, nomination: &InView, add: bool) {
        let Some(shard) = nomination.shard.filter(|&s| self.members[s].alive) else {
            return;
        };
        self.teach(shard, nomination.kind);
        let claim = Claim {
            pod,
            node: nomination.node.clone(),
            priority: nomination.priority,
            kind: nomination.kind,
            add,
        };
        self.change(shard, Order::Claim(claim));
    }

    /// The name of the node a pod waits for, whether or not that node is there.
    pub fn nominated_name(&self, pod: PodKey) -> Option<&str> {
        self.in_view.get(&pod).map(|n| &*n.node)
    }
}

/// Of the living shards the one with the highest hash of name and shard.
pub(crate) fn owner(name: &str, alive: &[usize]) -> Option<usize> {
    let name = hash_one(&crate::hashing::hashing(0x51ad), name);
    let weight = |shard: usize| {
        let mut z = name ^ (shard as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    alive.iter().copied().max_by_key(|&shard| weight(shard))
}

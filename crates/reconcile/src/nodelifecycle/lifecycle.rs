//! The life cycle itself: last signs of life, timers, zones and taints.

use super::view::{MANAGED_NO_SCHEDULE, NodeView, Readiness, Taint};
use super::{TAINT_NOT_READY, TAINT_UNREACHABLE};
use crate::action::{Action, Involved, NODES, PODS, PatchType};
use crate::pod::Pod;
use meta::{Value, time};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use value::json;

/// Before a mark that was asked for is asked for again.
const RETRY_MICROS: i64 = 5_000_000;

/// The knobs, named as kube-controller-manager's flags.
#[derive(Clone, Debug)]
pub struct Config {
    /// node-monitor-grace-period: silence that makes a node Unknown.
    pub grace_micros: i64,
    /// node-startup-grace-period: the same for a node that never reported.
    pub startup_grace_micros: i64,
    /// 1 / node-eviction-rate: time between two nodes of a zone being emptied.
    pub eviction_interval_micros: i64,
    /// 1 / secondary-node-eviction-rate: the same in a partly disrupted zone.
    pub secondary_interval_micros: i64,
    /// unhealthy-zone-threshold, in percent: share of unready nodes that makes a zone partly disrupted.
    pub unhealthy_percent: usize,
    /// large-cluster-size-threshold: smaller zones stop evicting when partly disrupted.
    pub large_zone_nodes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grace_micros: 50_000_000,
            startup_grace_micros: 60_000_000,
            eviction_interval_micros: 10_000_000,
            secondary_interval_micros: 100_000_000,
            unhealthy_percent: 55,
            large_zone_nodes: 50,
        }
    }
}

/// How much of a zone is unready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneState {
    /// Few nodes, if any.
    Normal,
    /// Many nodes.
    PartialDisruption,
    /// All nodes.
    FullDisruption,
}

#[derive(Debug)]
struct Zone {
    nodes: usize,
    unready: usize,
    /// Nodes waiting for their NoExecute taint.
    pending: VecDeque<usize>,
    /// When the next of them may get it.
    next_micros: i64,
}

impl Zone {
    fn state(&self, config: &Config) -> ZoneState {
        if self.unready > 0 && self.unready == self.nodes {
            ZoneState::FullDisruption
        } else if self.unready > 2 && self.unready * 100 >= self.nodes * config.unhealthy_percent {
            ZoneState::PartialDisruption
        } else {
            ZoneState::Normal
        }
    }

    /// Time between two nodes, None: not at all.
    fn interval_micros(&self, config: &Config) -> Option<i64> {
        match self.state(config) {
            ZoneState::Normal | ZoneState::FullDisruption => Some(config.eviction_interval_micros),
            ZoneState::PartialDisruption if self.nodes > config.large_zone_nodes => {
                Some(config.secondary_interval_micros)
            }
            ZoneState::PartialDisruption => None,
        }
    }
}

#[derive(Debug)]
struct Node {
    view: NodeView,
    zone: usize,
    /// Last sign of life by our clock.
    seen_micros: i64,
    /// The due second its timer is filed under.
    timer_second: i64,
    /// May carry a NoExecute taint: its zone's queue let it through.
    expelled: bool,
    queued: bool,
    dirty: bool,
}

/// The controller's state: all nodes and what is due.
#[derive(Debug, Default)]
pub struct Lifecycle {
    config: Config,
    names: HashMap<Box<str>, usize>,
    nodes: Vec<Option<Node>>,
    free: Vec<usize>,
    /// Due second to nodes; each node is filed once.
    timers: BTreeMap<i64, Vec<usize>>,
    zone_names: HashMap<Box<str>, usize>,
    zones: Vec<Zone>,
    zones_inhabited: usize,
    zones_fully_disrupted: usize,
    /// Nodes whose taints may be wrong.
    dirty: VecDeque<usize>,
    /// All zones are silent: nobody is emptied.
    stopped: bool,
}

impl Lifecycle {
    /// A controller without nodes.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// Nodes known.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no node is known.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The state of a node's zone.
    pub fn zone_state(&self, node: &str) -> Option<ZoneState> {
        let node = self.nodes.get(*self.names.get(node)?)?.as_ref()?;
        Some(self.zones.get(node.zone)?.state(&self.config))
    }

    /// A node was added or changed.
    pub fn node_observed(&mut self, view: NodeView, now_micros: i64) {
        if let Some(&slot) = self.names.get(&view.name) {
            let same_zone = self
                .node(slot)
                .is_some_and(|node| node.view.zone == view.zone && node.view.uid == view.uid);
            if same_zone {
                self.changed(slot, view, now_micros);
                self.note_disruption(now_micros);
                return;
            }
            self.remove(slot);
        }
        self.add(view, now_micros);
        self.note_disruption(now_micros);
    }

    /// A node was deleted.
    pub fn node_deleted(&mut self, name: &str, now_micros: i64) {
        if let Some(&slot) = self.names.get(name) {
            self.remove(slot);
            self.note_disruption(now_micros);
        }
    }

    /// A node's Lease was renewed, or its status was sent and is as before.
    pub fn heartbeat(&mut self, node: &str, now_micros: i64) {
        if let Some(&slot) = self.names.get(node)
            && let Some(node) = self.node_mut(slot)
        {
            node.seen_micros = node.seen_micros.max(now_micros);
        }
    }

    /// An action about this node failed: look at its taints again.
    pub fn retry(&mut self, node: &str) {
        if let Some(&slot) = self.names.get(node) {
            self.examine(slot);
        }
    }

    /// When there is something to do next.
    pub fn next_micros(&self) -> Option<i64> {
        if !self.dirty.is_empty() {
            return Some(0);
        }
        let timer = self
            .timers
            .keys()
            .next()
            .map(|second| second.saturating_mul(1_000_000));
        let zones = self
            .zones
            .iter()
            .filter(|zone| !self.stopped && !zone.pending.is_empty());
        let zone = zones
            .filter(|zone| zone.interval_micros(&self.config).is_some())
            .map(|zone| zone.next_micros)
            .min();
        timer.into_iter().chain(zone).min()
    }

    /// Does what is due, for up to `budget` nodes of each kind of work. `pods_on` lists a node's pods
    /// and is asked for nodes that fall silent only.
    pub fn tick(
        &mut self,
        now_micros: i64,
        budget: usize,
        pods_on: &dyn Fn(&str) -> Vec<Arc<Pod>>,
        actions: &mut Vec<Action>,
    ) {
        self.fire_timers(now_micros, budget, pods_on, actions);
        self.let_through(now_micros);
        for _ in 0..budget {
            let Some(slot) = self.dirty.pop_front() else {
                break;
            };
            if let Some(node) = self.node_mut(slot).filter(|node| node.dirty) {
                node.dirty = false;
                actions.extend(self.correct_taints(slot, now_micros));
            }
        }
    }

    fn node(&self, slot: usize) -> Option<&Node> {
        self.nodes.get(slot)?.as_ref()
    }

    fn node_mut(&mut self, slot: usize) -> Option<&mut Node> {
        self.nodes.get_mut(slot)?.as_mut()
    }

    fn add(&mut self, view: NodeView, now_micros: i64) {
        let next_zone = self.zones.len();
        let zone = *self
            .zone_names
            .entry(view.zone.clone())
            .or_insert(next_zone);
        if zone == next_zone {
            self.zones.push(Zone {
                nodes: 0,
                unready: 0,
                pending: VecDeque::new(),
                next_micros: i64::MIN,
            });
        }
        let unready = view.readiness != Readiness::Ready;
        self.count(zone, 1, if unready { 1 } else { 0 });
        let name = view.name.clone();
        let expelled = view.taints.iter().any(expels);
        let node = Node {
            view,
            zone,
            seen_micros: now_micros,
            timer_second: 0,
            expelled,
            queued: false,
            dirty: false,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.nodes[slot] = Some(node);
                slot
            }
            None => {
                self.nodes.push(Some(node));
                self.nodes.len() - 1
            }
        };
        self.names.insert(name, slot);
        self.arm(slot, self.due_micros(slot));
        self.examine(slot);
    }

    fn remove(&mut self, slot: usize) {
        let Some(node) = self.nodes.get_mut(slot).and_then(Option::take) else {
            return;
        };
        self.names.remove(&node.view.name);
        // Its places in timers and queues stay and are recognised as stale when their turn comes.
        self.count(
            node.zone,
            -1,
            if node.view.readiness == Readiness::Ready {
                0
            } else {
                -1
            },
        );
        self.free.push(slot);
    }

    fn changed(&mut self, slot: usize, view: NodeView, now_micros: i64) {
        let Some(node) = self.node_mut(slot) else {
            return;
        };
        if view.heartbeat_micros != node.view.heartbeat_micros {
            node.seen_micros = node.seen_micros.max(now_micros);
        }
        let (zone, was_ready) = (node.zone, node.view.readiness == Readiness::Ready);
        let ready = view.readiness == Readiness::Ready;
        node.view = view;
        if ready {
            node.expelled = false;
        }
        match (was_ready, ready) {
            (true, false) => self.count(zone, 0, 1),
            (false, true) => self.count(zone, 0, -1),
            _ => {}
        }
        self.examine(slot);
    }

    /// Counts nodes and unready nodes of a zone, and of zones those that are fully disrupted.
    fn count(&mut self, zone: usize, nodes: isize, unready: isize) {
        let zone = &mut self.zones[zone];
        let was_full = zone.state(&self.config) == ZoneState::FullDisruption;
        let was_inhabited = zone.nodes > 0;
        zone.nodes = zone.nodes.saturating_add_signed(nodes);
        zone.unready = zone.unready.saturating_add_signed(unready);
        let is_full = zone.state(&self.config) == ZoneState::FullDisruption;
        match (was_inhabited, zone.nodes > 0) {
            (false, true) => self.zones_inhabited += 1,
            (true, false) => self.zones_inhabited = self.zones_inhabited.saturating_sub(1),
            _ => {}
        }
        match (was_full, is_full) {
            (false, true) => self.zones_fully_disrupted += 1,
            (true, false) => {
                self.zones_fully_disrupted = self.zones_fully_disrupted.saturating_sub(1)
            }
            _ => {}
        }
    }

    /// Stops evictions when every zone with nodes is fully disrupted, and starts them again when one
    /// is not: then every node gets a fresh period of grace, since the silence was ours.
    fn note_disruption(&mut self, now_micros: i64) {
        let stop = self.zones_inhabited > 0 && self.zones_fully_disrupted == self.zones_inhabited;
        if stop == self.stopped {
            return;
        }
        self.stopped = stop;
        for zone in &mut self.zones {
            zone.pending.clear();
        }
        for slot in 0..self.nodes.len() {
            let Some(node) = self.node_mut(slot) else {
                continue;
            };
            node.queued = false;
            if stop {
                node.expelled = false;
            } else {
                node.seen_micros = node.seen_micros.max(now_micros);
            }
            self.examine(slot);
        }
    }

    /// Queues a node whose taints may be wrong, and one that may have to be emptied at its zone.
    fn examine(&mut self, slot: usize) {
        let stopped = self.stopped;
        let Some(node) = self.node_mut(slot) else {
            return;
        };
        let must_empty = matches!(
            node.view.readiness,
            Readiness::NotReady | Readiness::Unknown
        );
        let enqueue = must_empty && !node.expelled && !node.queued && !stopped;
        node.queued |= enqueue;
        let (zone, newly_dirty) = (node.zone, !node.dirty);
        node.dirty = true;
        if newly_dirty {
            self.dirty.push_back(slot);
        }
        if enqueue {
            self.zones[zone].pending.push_back(slot);
        }
    }

    fn due_micros(&self, slot: usize) -> i64 {
        self.node(slot).map_or(i64::MAX, |node| {
            let grace = match node.view.readiness {
                Readiness::Never => self.config.startup_grace_micros,
                _ => self.config.grace_micros,
            };
            node.seen_micros.saturating_add(grace)
        })
    }

    fn arm(&mut self, slot: usize, due_micros: i64) {
        let second = due_micros.div_euclid(1_000_000).saturating_add(1);
        if let Some(node) = self.node_mut(slot) {
            node.timer_second = second;
            self.timers.entry(second).or_default().push(slot);
        }
    }

    fn fire_timers(
        &mut self,
        now_micros: i64,
        budget: usize,
        pods_on: &dyn Fn(&str) -> Vec<Arc<Pod>>,
        actions: &mut Vec<Action>,
    ) {
        for _ in 0..budget {
            let Some(mut entry) = self.timers.first_entry() else {
                return;
            };
            let second = *entry.key();
            if second.saturating_mul(1_000_000) > now_micros {
                return;
            }
            let slot = entry.get_mut().pop();
            if entry.get().is_empty() {
                entry.remove();
            }
            let Some(slot) = slot else { continue };
            if self
                .node(slot)
                .is_none_or(|node| node.timer_second != second)
            {
                continue;
            }
            let due = self.due_micros(slot);
            if due > now_micros {
                self.arm(slot, due);
                continue;
            }
            if let Some(node) = self.node(slot)
                && node.view.readiness != Readiness::Unknown
            {
                mark_unknown(node, now_micros, pods_on, actions);
            }
            self.arm(
                slot,
                now_micros.saturating_add(if self.is_unknown(slot) {
                    self.config.grace_micros
                } else {
                    RETRY_MICROS
                }),
            );
        }
    }

    fn is_unknown(&self, slot: usize) -> bool {
        self.node(slot)
            .is_some_and(|node| node.view.readiness == Readiness::Unknown)
    }

    /// Lets nodes through the zones' queues, at the zones' rates.
    fn let_through(&mut self, now_micros: i64) {
        if self.stopped {
            return;
        }
        for zone in 0..self.zones.len() {
            while let Some(interval) = self.zones[zone].interval_micros(&self.config)
                && self.zones[zone].next_micros <= now_micros
                && let Some(slot) = self.zones[zone].pending.pop_front()
            {
                let Some(node) = self.node_mut(slot).filter(|node| node.queued) else {
                    continue;
                };
                node.queued = false;
                if matches!(
                    node.view.readiness,
                    Readiness::NotReady | Readiness::Unknown
                ) {
                    node.expelled = true;
                    let next = &mut self.zones[zone].next_micros;
                    // Time in which nobody waited is not saved up.
                    *next = (*next)
                        .max(now_micros.saturating_sub(interval))
                        .saturating_add(interval);
                    self.examine(slot);
                }
            }
        }
    }

    /// The patch that makes a node's taints right.
    fn correct_taints(&self, slot: usize, now_micros: i64) -> Option<Action> {
        let node = self.node(slot)?;
        let expelling = match node.view.readiness {
            Readiness::NotReady => Some(TAINT_NOT_READY),
            Readiness::Unknown => Some(TAINT_UNREACHABLE),
            _ => None,
        }
        .filter(|_| node.expelled);
        let keep = |taint: &&Taint| {
            if &*taint.effect == "NoSchedule" && MANAGED_NO_SCHEDULE.contains(&&*taint.key) {
                node.view.wanted_taints.contains(&&*taint.key)
            } else {
                !expels(taint) || expelling == Some(&*taint.key)
            }
        };
        let mut taints: Vec<Taint> = node.view.taints.iter().filter(keep).cloned().collect();
        let mut add = |key: &str, effect: &str| {
            if !taints.iter().any(|taint| taint.is(key, effect)) {
                let time_added = Some(time::format_seconds(now_micros).into());
                taints.push(Taint {
                    time_added,
                    ..Taint::new(key, effect)
                });
            }
        };
        node.view
            .wanted_taints
            .iter()
            .for_each(|key| add(key, "NoSchedule"));
        expelling.into_iter().for_each(|key| add(key, "NoExecute"));
        if taints == node.view.taints {
            return None;
        }
        let taints = if taints.is_empty() {
            Value::Null
        } else {
            taints.iter().map(Taint::to_value).collect()
        };
        let mut metadata = json!({"uid": &*node.view.uid});
        if !node.view.resource_version.is_empty() {
            metadata["resourceVersion"] = json!(&*node.view.resource_version);
        }
        Some(Action::Patch {
            resource: NODES,
            namespace: String::new(),
            name: node.view.name.to_string(),
            patch_type: PatchType::Merge,
            subresource: None,
            body: json!({"metadata": metadata, "spec": {"taints": taints}}),
        })
    }
}

/// One of our two NoExecute taints.
fn expels(taint: &Taint) -> bool {
    &*taint.effect == "NoExecute" && matches!(&*taint.key, TAINT_NOT_READY | TAINT_UNREACHABLE)
}

/// Says of a silent node that nothing is known, and of its pods that they are not ready.
fn mark_unknown(
    node: &Node,
    now_micros: i64,
    pods_on: &dyn Fn(&str) -> Vec<Arc<Pod>>,
    actions: &mut Vec<Action>,
) {
    let now = time::format_seconds(now_micros);
    let (reason, message) = match node.view.readiness {
        Readiness::Never => (
            "NodeStatusNeverUpdated",
            "Kubelet never posted node status.",
        ),
        _ => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
    };
    let conditions: Vec<Value> = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
        .into_iter()
        .map(|kind| json!({"type": kind, "status": "Unknown", "reason": reason, "message": message, "lastTransitionTime": now}))
        .collect();
    let name = node.view.name.to_string();
    actions.push(Action::Patch {
        resource: NODES,
        namespace: String::new(),
        name: name.clone(),
        patch_type: PatchType::Strategic,
        subresource: Some("status"),
        body: json!({"metadata": {"uid": &*node.view.uid}, "status": {"conditions": conditions}}),
    });
    if node.view.readiness != Readiness::Ready {
        return;
    }
    let involved = Involved {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        namespace: String::new(),
        name: name.clone(),
        uid: node.view.uid.to_string(),
        resource_version: String::new(),
    };
    actions.push(Action::normal(
        &Arc::new(involved),
        "NodeNotReady",
        format!("Node {name} status is now: NodeNotReady"),
    ));
    for pod in pods_on(&name).iter().filter(|pod| pod.is_ready()) {
        actions.push(Action::Patch {
            resource: PODS,
            namespace: pod.namespace.to_string(),
            name: pod.name.to_string(),
            patch_type: PatchType::Strategic,
            subresource: Some("status"),
            body: json!({
                "metadata": {"uid": &*pod.uid},
                "status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": now}]},
            }),
        });
    }
}

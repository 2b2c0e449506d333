//! The pick: the best node for a pod of a class, what each plugin says of a node, and why none would do.
//!
//! Does not know who asks, or what becomes of the answer.

use crate::asks::Names;
use crate::class::{Class, Dynamic, Shares, Shortage, Static};
use crate::cluster::{ASSUMED, ClassId, Cluster, NodeId};
use crate::company::{Look, Refusal};
use crate::fleet::{ABSENT, Fleet, Load};
use crate::key::PodKey;
use crate::objects::VolumeReason;
use crate::verdict::{
    ENFORCED_AFFINITY, OUTSIDE_NAMED_NODES, PORTS_TAKEN, Plugin, PluginSet, TERMS_CONFLICT,
    TOO_MANY_PODS, Unschedulable, static_reason,
};
use crate::volumes::VolumeBits;
use crate::volumes::{first_said, may_pass};
use std::sync::Arc;

/// Why [`Cluster::pick`] named no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PickError {
    /// The class was evicted: ask [`Cluster::class_of`] again.
    UnknownClass,
    /// No node passes the filters.
    Unschedulable(Arc<Unschedulable>),
}

/// Every number behind one node's total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// ImageLocality.
    pub image: i64,
    /// PodTopologySpread before normalising.
    pub spread_raw: i64,
    /// PodTopologySpread, normalised, before its weight; 0 when it does not score.
    pub spread: i64,
    /// InterPodAffinity before normalising.
    pub pods_raw: i64,
    /// InterPodAffinity, normalised, before its weight.
    pub pods: i64,
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

impl Cluster {
    /// The best node for a pod of the class, uniformly among equals. `pin` restricts it to one node
    /// (see [`crate::PodInfo::pin`]). `random` gives uniform 64-bit numbers.
    pub fn pick(
        &mut self,
        class: ClassId,
        pin: Option<&str>,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<NodeId, PickError> {
        let mut current = self.take_class(class).ok_or(PickError::UnknownClass)?;
        let result = match (current.pinned(pin), &current.names) {
            (_, Names::Contradiction) => Err(Arc::new(self.contradiction())),
            _ if current.waits_for_volumes() || current.waits_for_devices() => {
                Err(Arc::new(self.obstacle(&current)))
            }
            (Some(name), _) => self.pick_named(&mut current, &[name], random),
            (None, Names::Only(names)) => {
                let names = names.clone();
                let names: Vec<&str> = names.iter().map(|n| &**n).collect();
                self.pick_named(&mut current, &names, random)
            }
            (None, Names::Any) if current.minds_volumes() => self
                .pick_with_volumes(&mut current, None, random)
                .map_err(|counting| Arc::new(counting.finish(&self.fleet))),
            (None, Names::Any) => self.pick_any(class, &mut current, random),
        };
        self.put_back(class, current);
        self.trim(class.slot);
        result.map(NodeId).map_err(PickError::Unschedulable)
    }

    /// Counts a picked pod as placed before its binding is written. False when class or node is gone.
    pub fn assume(&mut self, key: PodKey, class: ClassId, node: NodeId) -> bool {
        if self.fleet.node_name(node.0).is_none() {
            return false;
        }
        let Some(kind) = self.class(class).map(|c| c.kind) else {
            return false;
        };
        self.kinds.hold(kind);
        let uses = self.class(class).and_then(|c| c.spec.volumes.uses.clone());
        self.account(key, node.0, kind, ASSUMED);
        if let Some(uses) = uses {
            self.attached.note(key, node.0, &uses);
        }
        self.withdraw_nomination(key);
        true
    }

    /// Takes an assumption back, unless the binding has been seen meanwhile. True when it did.
    pub fn forget(&mut self, key: PodKey) -> bool {
        let assumed = self.is_assumed(key);
        assumed && self.remove_pod(key)
    }

    /// How many nodes pass the filters for a class without named nodes, by its index.
    pub fn feasible(&mut self, class: ClassId) -> Option<usize> {
        let mut current = self.take_class(class)?;
        if current.minds_volumes() {
            let feasible = self.feasible_with_volumes(&mut current);
            self.put_back(class, current);
            return Some(feasible);
        }
        let before = current.entries();
        let feasible = current.feasible(&mut self.fleet);
        self.index_entries = self.index_entries + current.entries() - before;
        self.put_back(class, current);
        Some(feasible)
    }

    /// Would a pod of the class pass the filters on this node now?
    pub fn fits(&mut self, class: ClassId, node: NodeId) -> Option<bool> {
        self.fleet.node_name(node.0)?;
        let mut current = self.take_class(class)?;
        let look = current.look(&self.fleet);
        let state = self.fleet.state_of(node.0);
        let fits = why_not(&self.fleet, &mut current, &look, state).is_none()
            && self.bits_of(&current, node.0) == 0;
        self.put_back(class, current);
        Some(fits)
    }

    /// Could a pod of the class go to this node if nobody were there? What is around it is not asked.
    pub fn could_suit(&mut self, class: ClassId, node: NodeId) -> Option<bool> {
        self.fleet.node_name(node.0)?;
        let mut current = self.take_class(class)?;
        let shape = self.fleet.shape_of(self.fleet.state_of(node.0));
        let stands = match current.judge_shape(&self.fleet, shape) {
            Static::Stands(standing) => {
                let standing = &current.standings[standing as usize];
                standing.volumes == 0 && !standing.lacks_features
            }
            _ => false,
        };
        let suits = stands && current.fits(&self.fleet, shape, &Load::default());
        self.put_back(class, current);
        Some(suits)
    }

    /// What each plugin says of one node, for a class without named nodes.
    pub fn explain(&mut self, class: ClassId, node: NodeId) -> Option<Explanation> {
        self.fleet.node_name(node.0)?;
        let mut current = self.take_class(class)?;
        if current.minds_volumes() {
            let explanation = self.explain_with_volumes(&mut current, node.0);
            self.put_back(class, current);
            return Some(explanation);
        }
        let before = current.entries();
        let candidates = current.candidates(&mut self.fleet);
        self.index_entries = self.index_entries + current.entries() - before;
        let ratings = current.rate(&self.fleet, &candidates);
        let state = self.fleet.state_of(node.0);
        let cell = match current.judge_shape(&self.fleet, self.fleet.shape_of(state)) {
            Static::Stands(standing) => Some(current.cell(&self.fleet, standing, state)),
            _ => None,
        };
        let rated = candidates.iter().zip(&ratings);
        let rating = rated
            .filter(|((candidate, _), _)| Some(*candidate) == cell)
            .find_map(|(_, rating)| rating.as_ref().ok());
        let explanation = match (rating, current.judge_state(&self.fleet, state)) {
            (Some(shares), Some(room)) => Explanation::Feasible(scores(shares, &room)),
            _ => {
                let look = current.look(&self.fleet);
                let mut counting = Counting::default();
                counting.count(&self.fleet, &mut current, &look, state, 1);
                let reasons = counting.finish(&self.fleet).reasons;
                Explanation::Rejected(reasons.into_iter().map(|(text, _)| text).collect())
            }
        };
        self.put_back(class, current);
        Some(explanation)
    }

    /// Is the node among the best for a pod of the class without named nodes, by a look at every state? Goes
    /// past everything that is remembered about which nodes are good. `None` for pods with volumes: of them nothing
    /// is remembered.
    pub fn audit(&mut self, class: ClassId, node: NodeId) -> Option<bool> {
        self.fleet.node_name(node.0)?;
        if self.class(class)?.minds_volumes() {
            return None;
        }
        let mut current = self.take_class(class)?;
        let look = current.look(&self.fleet);
        let chosen = self.fleet.state_of(node.0);
        let mut feasible: Vec<(u32, u32, i64)> = Vec::new();
        let mut cells: Vec<(u32, u64)> = Vec::new();
        let states: Vec<u32> = self.fleet.live().collect();
        for state in states {
            let shape = self.fleet.shape_of(state);
            if shape == ABSENT || why_not(&self.fleet, &mut current, &look, state).is_some() {
                continue;
            }
            if let (Static::Stands(standing), Some(room)) = (
                current.judge_shape(&self.fleet, shape),
                current.judge_state(&self.fleet, state),
            ) {
                let cell = current.cell(&self.fleet, standing, state);
                feasible.push((state, cell, room.room));
                let nodes = u64::from(self.fleet.size(state));
                match cells.iter_mut().find(|(known, _)| *known == cell) {
                    Some((_, sum)) => *sum += nodes,
                    None => cells.push((cell, nodes)),
                }
            }
        }
        let ratings = current.rate(&self.fleet, &cells);
        let total = |cell: u32, room: i64| {
            let mut rated = cells.iter().zip(&ratings);
            let shares = rated.find(|((known, _), _)| *known == cell)?.1.as_ref();
            shares.ok().map(|shares| shares.total + room)
        };
        let totals = feasible.iter();
        let best = totals
            .filter_map(|&(_, cell, room)| total(cell, room))
            .max();
        let mut own = feasible.iter().filter(|(state, ..)| *state == chosen);
        let own = own.find_map(|&(_, cell, room)| total(cell, room));
        self.put_back(class, current);
        Some(best.is_some() && own == best)
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
        let before = class.entries();
        let drawn = class.draw(&mut self.fleet, &best, random);
        self.index_entries = self.index_entries + class.entries() - before;
        if let Some(node) = drawn {
            return Ok(node);
        }
        let version = self.fleet.version();
        let slot = &mut self.classes[id.slot as usize];
        if let Some((counted_at, failure)) = &slot.failure
            && *counted_at == version
        {
            return Err(failure.clone());
        }
        let look = class.look(&self.fleet);
        let mut counting = Counting::default();
        for state in self.fleet.live() {
            let nodes = self.fleet.size(state) as usize;
            counting.count(&self.fleet, class, &look, state, nodes);
        }
        let failure = Arc::new(counting.finish(&self.fleet));
        self.classes[id.slot as usize].failure = Some((version, failure.clone()));
        Err(failure)
    }

    /// Only these nodes are asked.
    fn pick_named(
        &mut self,
        class: &mut Class,
        names: &[&str],
        random: &mut dyn FnMut() -> u64,
    ) -> Result<u32, Arc<Unschedulable>> {
        if class.minds_volumes() {
            let known = names.iter().filter_map(|name| self.fleet.node(name));
            let nodes: Vec<u32> = known.collect();
            let picked = self.pick_with_volumes(class, Some(&nodes), random);
            return picked.map_err(|mut counting| {
                counting.elsewhere(self.fleet.present() - nodes.len());
                Arc::new(counting.finish(&self.fleet))
            });
        }
        let mut counting = Counting::default();
        let look = class.look(&self.fleet);
        let mut looked_at = 0;
        let mut feasible: Vec<(u32, u32, i64)> = Vec::new();
        let mut cells: Vec<(u32, u64)> = Vec::new();
        for node in names.iter().filter_map(|name| self.fleet.node(name)) {
            looked_at += 1;
            let state = self.fleet.state_of(node);
            if why_not(&self.fleet, class, &look, state).is_some() {
                counting.count(&self.fleet, class, &look, state, 1);
                continue;
            }
            let standing = class.judge_shape(&self.fleet, self.fleet.shape_of(state));
            if let (Static::Stands(standing), Some(room)) =
                (standing, class.judge_state(&self.fleet, state))
            {
                let cell = class.cell(&self.fleet, standing, state);
                feasible.push((node, cell, room.room));
                match cells.iter_mut().find(|(known, _)| *known == cell) {
                    Some((_, nodes)) => *nodes += 1,
                    None => cells.push((cell, 1)),
                }
            }
        }
        let ratings = class.rate(&self.fleet, &cells);
        let total = |(_, cell, room): &(u32, u32, i64)| {
            let mut rated = cells.iter().zip(&ratings);
            let shares = rated.find(|((known, _), _)| known == cell);
            shares.map_or(0, |(_, s)| s.as_ref().map_or(0, |s| s.total)) + room
        };
        if let Some(best) = feasible.iter().map(total).max() {
            feasible.retain(|candidate| total(candidate) == best);
            let nth = below(feasible.len() as u64, random) as usize;
            if let Some(&(node, ..)) = feasible.get(nth) {
                return Ok(node);
            }
        }
        counting.elsewhere(self.fleet.present() - looked_at);
        Err(Arc::new(counting.finish(&self.fleet)))
    }

    /// What a pod's volumes wait for, or its claims.
    pub(crate) fn obstacle(&self, class: &Class) -> Unschedulable {
        let (plugin, obstacle) = if class.waits_for_volumes() {
            (Plugin::VolumeBinding, &class.spec.volumes.obstacle)
        } else {
            (Plugin::DynamicResources, &class.spec.devices.obstacle)
        };
        Unschedulable {
            nodes: self.fleet.present(),
            contradiction: obstacle.as_ref().map(|why| why.to_string().into()),
            rejected_by: PluginSet::of(&[plugin]),
            ..Unschedulable::default()
        }
    }

    pub(crate) fn contradiction(&self) -> Unschedulable {
        Unschedulable {
            nodes: self.fleet.present(),
            contradiction: Some(TERMS_CONFLICT.into()),
            rejected_by: PluginSet::of(&[Plugin::NodeAffinity]),
            ..Unschedulable::default()
        }
    }
}

pub(crate) fn scores(shares: &Shares, room: &Dynamic) -> Scores {
    Scores {
        taint_raw: shares.taint_raw,
        taint: shares.taint,
        affinity_raw: shares.affinity_raw,
        affinity: shares.affinity,
        fit: room.fit,
        balanced: room.balanced,
        image: shares.image,
        spread_raw: shares.spread_raw,
        spread: shares.spread,
        pods_raw: shares.pods_raw,
        pods: shares.pods,
        total: shares.total + room.room,
    }
}

/// What kind of plugin keeps a pod of the class away from nodes of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhyNot {
    Static(Plugin),
    NotEnforced,
    NoRoom,
    /// Reasons, a bit each.
    Volumes(VolumeBits),
    Company(Refusal),
}

/// Claims are asked last.
const DEVICES: VolumeBits = 1 << VolumeReason::Devices as u8;

fn of_devices(against: VolumeBits) -> Option<WhyNot> {
    (against & DEVICES != 0).then_some(WhyNot::Volumes(DEVICES))
}

/// The first plugin that says no.
pub(crate) fn why_not(fleet: &Fleet, class: &mut Class, look: &Look, state: u32) -> Option<WhyNot> {
    match class.judge_shape(fleet, fleet.shape_of(state)) {
        Static::Rejected(plugin) => Some(WhyNot::Static(plugin)),
        Static::NotEnforced => Some(WhyNot::NotEnforced),
        Static::Stands(standing) => {
            if class.judge_state(fleet, state).is_none() {
                return Some(WhyNot::NoRoom);
            }
            let cell = class.cell(fleet, standing, state);
            let against = class.volumes_of_cell(cell);
            if against & !DEVICES != 0 {
                return Some(WhyNot::Volumes(against));
            }
            refused(class, fleet, look, cell, against, &[])
        }
        Static::Unknown => None,
    }
}

/// The same for a node of that shape and cell, with another load and pods thought away, and with what is said of
/// it for volumes.
#[expect(clippy::too_many_arguments)]
pub(crate) fn why_not_with(
    fleet: &Fleet,
    class: &Class,
    look: &Look,
    cell: u32,
    shape: u32,
    load: &Load,
    gone: &[(u32, i64)],
    bits: VolumeBits,
) -> Option<WhyNot> {
    let with = class.with_claims(fleet, load);
    if !class.fits(fleet, shape, with.as_ref().unwrap_or(load)) {
        return Some(WhyNot::NoRoom);
    }
    let against = class.volumes_of_cell(cell) | bits;
    if against & !DEVICES != 0 {
        return Some(WhyNot::Volumes(first_said(against)));
    }
    refused(class, fleet, look, cell, against, gone)
}

/// What is asked last: company, then devices, then declared features.
fn refused(
    class: &Class,
    fleet: &Fleet,
    look: &Look,
    cell: u32,
    against: VolumeBits,
    gone: &[(u32, i64)],
) -> Option<WhyNot> {
    let company = class.refusal(fleet, look, cell, gone).map(WhyNot::Company);
    let lacks = || class.cell_lacks_features(cell);
    company
        .or_else(|| of_devices(against))
        .or_else(|| lacks().then_some(WhyNot::Static(Plugin::NodeDeclaredFeatures)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Filter(Plugin),
    Short(Shortage),
    Company(Refusal),
    OutsideNamedNodes,
    Text(&'static str),
}

/// Reasons of rejected nodes being counted; put into words only at the end.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    reasons: Vec<(Reason, usize)>,
    rejected_by: PluginSet,
    preemptible: usize,
}

impl Counting {
    pub(crate) fn add(&mut self, reason: Reason, nodes: usize) {
        match self.reasons.iter_mut().find(|(r, _)| *r == reason) {
            Some((_, n)) => *n += nodes,
            None => self.reasons.push((reason, nodes)),
        }
    }

    pub(crate) fn add_text(&mut self, text: &'static str, nodes: usize) {
        self.add(Reason::Text(text), nodes);
    }

    pub(crate) fn count(
        &mut self,
        fleet: &Fleet,
        class: &mut Class,
        look: &Look,
        state: u32,
        nodes: usize,
    ) {
        let why = why_not(fleet, class, look, state);
        let (shape, load) = (fleet.shape_of(state), fleet.load(state));
        self.count_one(fleet, class, why, shape, load, nodes);
    }

    /// Counts nodes of a state about which something is said.
    pub(crate) fn count_group(
        &mut self,
        fleet: &Fleet,
        class: &Class,
        why: Option<WhyNot>,
        state: u32,
        nodes: usize,
    ) {
        let (shape, load) = (fleet.shape_of(state), fleet.load(state));
        self.count_one(fleet, class, why, shape, load, nodes);
    }

    /// Nodes that a plugin rejects for a reason of its own.
    pub(crate) fn add_rejected(&mut self, text: &'static str, nodes: usize, plugin: Plugin) {
        if nodes > 0 {
            self.add(Reason::Text(text), nodes);
            self.rejected_by = self.rejected_by.with(plugin);
        }
    }

    /// Nodes that are not asked because others are named.
    pub(crate) fn elsewhere(&mut self, nodes: usize) {
        self.add(Reason::OutsideNamedNodes, nodes);
        self.rejected_by = self.rejected_by.with(Plugin::NodeAffinity);
    }

    /// Counts nodes with another load and pods thought away.
    #[expect(clippy::too_many_arguments)]
    pub(crate) fn count_with(
        &mut self,
        fleet: &Fleet,
        class: &Class,
        look: &Look,
        cell: u32,
        shape: u32,
        load: &Load,
        gone: &[(u32, i64)],
        bits: VolumeBits,
        nodes: usize,
    ) {
        let why = why_not_with(fleet, class, look, cell, shape, load, gone, bits);
        self.count_one(fleet, class, why, shape, load, nodes);
    }

    fn count_one(
        &mut self,
        fleet: &Fleet,
        class: &Class,
        why: Option<WhyNot>,
        shape: u32,
        load: &Load,
        nodes: usize,
    ) {
        match why {
            None => {}
            Some(WhyNot::Static(plugin)) => {
                self.add(Reason::Filter(plugin), nodes);
                self.rejected_by = self.rejected_by.with(plugin);
            }
            Some(WhyNot::NotEnforced) => {
                self.add(Reason::Text(ENFORCED_AFFINITY), nodes);
                self.rejected_by = self.rejected_by.with(Plugin::NodeAffinity);
            }
            Some(WhyNot::Volumes(against)) => {
                for reason in VolumeReason::ALL {
                    if against & 1 << reason as u8 != 0 {
                        self.add(Reason::Text(reason.text()), nodes);
                        self.rejected_by = self.rejected_by.with(reason.plugin());
                    }
                }
                if may_pass(against) {
                    self.preemptible += nodes;
                }
            }
            Some(WhyNot::Company(refusal)) => {
                self.add(Reason::Company(refusal), nodes);
                self.rejected_by = self.rejected_by.with(refusal.plugin());
                if refusal.is_resolvable() {
                    self.preemptible += nodes;
                }
            }
            Some(WhyNot::NoRoom) => {
                let with = class.with_claims(fleet, load);
                let load = with.as_ref().unwrap_or(load);
                let resolvable = class.shortages(fleet, shape, load, &mut |shortage| {
                    self.add(Reason::Short(shortage), nodes);
                    self.rejected_by = self.rejected_by.with(shortage.plugin());
                });
                if resolvable {
                    self.preemptible += nodes;
                }
            }
        }
    }

    pub(crate) fn finish(self, fleet: &Fleet) -> Unschedulable {
        let insufficient = |resource: &str| format!("Insufficient {resource}");
        let mut reasons: Vec<(String, usize)> = self
            .reasons
            .into_iter()
            .filter(|&(_, nodes)| nodes > 0)
            .map(|(reason, nodes)| {
                let text = match reason {
                    Reason::Filter(plugin) => static_reason(plugin).into(),
                    Reason::Short(Shortage::HostPorts) => PORTS_TAKEN.into(),
                    Reason::Short(Shortage::Pods) => TOO_MANY_PODS.into(),
                    Reason::Short(Shortage::Native(name)) => insufficient(name),
                    Reason::Short(Shortage::Scalar(word)) => insufficient(fleet.words.text(word)),
                    Reason::Company(refusal) => refusal.text().into(),
                    Reason::OutsideNamedNodes => OUTSIDE_NAMED_NODES.into(),
                    Reason::Text(text) => text.into(),
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
pub(crate) fn below(bound: u64, random: &mut dyn FnMut() -> u64) -> u64 {
    ((u128::from(random()) * u128::from(bound)) >> 64) as u64
}

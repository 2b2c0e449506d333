//! Preemption: which pods of lower priority would have to go so that a pod fits, and on which node that costs
//! least; and the claims of pods that wait for their victims to go.
//!
//! On each node where evicting may help: all pods of lower priority are thought away; if the pod then passes
//! the filters, as many as possible are taken back, first those whose disruption budgets would be violated,
//! the most important first. Of the nodes the best is, in this order: fewest budgets violated, lowest of the
//! highest priorities of victims, smallest sum of priorities, fewest victims, latest start of the most
//! important ones.
//!
//! Does not evict anybody: the shell does.

use crate::among::{Admission, Asked};
use crate::class::{Class, Static};
use crate::cluster::{ASSUMED, ClassId, Cluster, NodeId, Nomination};
use crate::company::Look;
use crate::fleet::Load;
use crate::key::PodKey;
use crate::pick::{Counting, PickError, WhyNot, below, why_not, why_not_with};
use crate::terms::selects;
use crate::trying::Range;
use crate::verdict::Unschedulable;
use crate::volumes::{Against, VolumeBits, may_pass, with_bits};
use meta::labels::LabelSelector;
use std::cmp::Reverse;

pub(crate) const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
/// What is said when others had a say, and left no node.
const NO_CANDIDATE: &str = "no candidate node for preemption";
pub(crate) const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// A PodDisruptionBudget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Namespace.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// Pods it protects; an empty selector protects none here.
    pub selector: LabelSelector,
    /// `status.disruptionsAllowed`.
    pub allowed: i64,
    /// Names in `status.disruptedPods`: their eviction is under way and was counted.
    pub disrupted: Vec<Box<str>>,
}

impl Budget {
    /// Reads a PodDisruptionBudget object.
    pub fn from_object(object: &meta::Value) -> Budget {
        let (metadata, status) = (&object["metadata"], &object["status"]);
        let disrupted = status["disruptedPods"].as_object();
        Budget {
            namespace: crate::objects::text(&metadata["namespace"]).into(),
            name: crate::objects::text(&metadata["name"]).into(),
            selector: crate::terms::selector(&object["spec"]["selector"]),
            allowed: status["disruptionsAllowed"].as_i64().unwrap_or(0),
            disrupted: disrupted
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str().into())
                .collect(),
        }
    }
}

/// What preemption can do for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// Once the victims are gone the pod fits on that node.
    Found {
        /// The node.
        node: NodeId,
        /// Who must go, the most important first.
        victims: Vec<PodKey>,
        /// Pods of lower priority that were to come to the node and no longer are.
        displaced: Vec<PodKey>,
    },
    /// It may not preempt, or not now, and why: what follows "preemption: " in the event. A node it has in
    /// view stays in view.
    NotEligible(&'static str),
    /// Nothing, and why: what follows "preemption: " in the event. A node it had in view is of no use.
    Hopeless(String),
}

/// Nodes on which evicting may help, by state: all of the state, or these.
#[derive(Debug, Default)]
pub(crate) struct Potential(Vec<(u32, Option<Vec<u32>>)>);

impl Potential {
    /// The nodes of each state.
    pub(crate) fn parts<'a>(
        &'a self,
        cluster: &'a Cluster,
    ) -> impl Iterator<Item = (u32, &'a [u32])> {
        let all = |state: &u32| cluster.fleet.members(*state);
        self.0
            .iter()
            .map(move |(state, some)| (*state, some.as_deref().unwrap_or_else(|| all(state))))
    }

    /// How many nodes those are.
    pub(crate) fn total(&self, cluster: &Cluster) -> usize {
        self.parts(cluster).map(|(_, nodes)| nodes.len()).sum()
    }

    /// All nodes; so many come last that would come first.
    pub(crate) fn in_turn<'a>(
        &'a self,
        cluster: &'a Cluster,
        offset: usize,
    ) -> impl Iterator<Item = u32> + 'a {
        let nodes = || self.parts(cluster).flat_map(|(_, nodes)| nodes).copied();
        nodes().skip(offset).chain(nodes().take(offset))
    }
}

/// One node tried out.
#[derive(Clone, Debug)]
pub(crate) struct Sacrifice {
    pub(crate) node: u32,
    /// Records, the most important first.
    pub(crate) victims: Vec<u32>,
    pub(crate) violations: usize,
}

impl Cluster {
    // ---- disruption budgets

    /// A disruption budget as it is now.
    pub fn upsert_budget(&mut self, budget: Budget) {
        self.remove_budget(&budget.namespace, &budget.name);
        self.budgets
            .entry_ref(&*budget.namespace)
            .or_default()
            .push(budget);
    }

    /// A disruption budget is gone.
    pub fn remove_budget(&mut self, namespace: &str, name: &str) {
        if let Some(budgets) = self.budgets.get_mut(namespace) {
            budgets.retain(|budget| &*budget.name != name);
            if budgets.is_empty() {
                self.budgets.remove(namespace);
            }
        }
    }

    // ---- nominations

    /// A pod of the class waits for its victims on that node to go: until it has a node, others of no higher
    /// priority are placed as if it were there. False when class or node is unknown.
    pub fn nominate(&mut self, pod: PodKey, class: ClassId, node: NodeId) -> bool {
        let Some((kind, priority)) = self.class(class).map(|c| (c.kind, c.spec.priority)) else {
            return false;
        };
        if self.fleet.node_name(node.0).is_none() {
            return false;
        }
        let node = node.0;
        self.put_in_view(
            pod,
            Nomination {
                node,
                kind,
                priority,
            },
        );
        self.expect_uses(pod, class, node, priority);
        true
    }

    /// As [`Cluster::nominate`], for a node that is known by its name only and may not be there yet.
    pub fn nominate_by_name(&mut self, pod: PodKey, class: ClassId, node: &str) -> bool {
        let Some((kind, priority)) = self.class(class).map(|c| (c.kind, c.spec.priority)) else {
            return false;
        };
        let node = self.fleet.find_or_add(node);
        self.put_in_view(
            pod,
            Nomination {
                node,
                kind,
                priority,
            },
        );
        self.expect_uses(pod, class, node, priority);
        true
    }

    fn expect_uses(&mut self, pod: PodKey, class: ClassId, node: u32, priority: i32) {
        let uses = self.class(class).and_then(|c| c.spec.volumes.uses.clone());
        if let Some(uses) = uses {
            self.attached.note_coming(pod, node, priority, uses);
        }
    }

    pub(crate) fn put_in_view(&mut self, pod: PodKey, nomination: Nomination) {
        // In before out: a node known only by what is to come would vanish between the two.
        self.kinds.hold(nomination.kind);
        self.claim(nomination, true);
        self.withdraw_nomination(pod);
        self.nominations.insert(pod, nomination);
    }

    /// The pod no longer waits for that node. True when it did.
    pub fn withdraw_nomination(&mut self, pod: PodKey) -> bool {
        let Some(nomination) = self.nominations.remove(&pod) else {
            return false;
        };
        self.claim(nomination, false);
        self.attached.forget_coming(pod);
        self.release_kind(nomination.kind);
        true
    }

    /// The name of the node a pod waits for, whether or not that node is there.
    pub fn nominated_name(&self, pod: PodKey) -> Option<&str> {
        let nomination = self.nominations.get(&pod)?;
        Some(self.fleet.known_name(nomination.node))
    }

    /// The node a pod waits for.
    pub fn nominated_node(&self, pod: PodKey) -> Option<NodeId> {
        self.nominations.get(&pod).map(|n| NodeId(n.node))
    }

    pub(crate) fn claim(&mut self, nomination: Nomination, add: bool) {
        if let Some(kind) = self.kinds.get(nomination.kind) {
            self.fleet
                .claim(nomination.node, nomination.priority, kind.delta, add);
        }
    }

    /// As [`Cluster::pick`], for a pod that may have a node in view: that is tried first, alone.
    pub fn pick_for(
        &mut self,
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<NodeId, PickError> {
        let Some(nomination) = self.nominations.get(&pod).copied() else {
            return self.pick(class, pin, random);
        };
        // Its own claim is no obstacle to itself.
        self.claim(nomination, false);
        self.attached.left_out = Some(pod);
        let node = NodeId(nomination.node);
        let pin_asked = self.class(class).and_then(|class| class.pinned(pin));
        let allowed = pin_asked.is_none_or(|pin| self.fleet.node_name(node.0) == Some(pin));
        let picked = if allowed && self.fits(class, node) == Some(true) {
            Ok(node)
        } else {
            self.pick(class, pin, random)
        };
        self.claim(nomination, true);
        self.attached.left_out = None;
        picked
    }

    // ---- preemption

    /// These pods are being evicted, though no watch has shown it yet: who waits for their node does not have others
    /// evicted meanwhile.
    pub fn note_evictions(&mut self, victims: &[PodKey]) {
        for victim in victims {
            if let Some(&slot) = self.pods.get(victim) {
                self.records[slot as usize].preempted = true;
            }
        }
    }

    /// Not all evictions for a pod went well: nobody waits for those who are still on the node it has in view.
    pub fn evictions_failed(&mut self, preemptor: PodKey) {
        let Some(node) = self.nominations.get(&preemptor).map(|n| n.node) else {
            return;
        };
        self.spare(node);
    }

    /// Nobody on the node is being evicted.
    pub(crate) fn spare(&mut self, node: u32) {
        let there: Vec<u32> = self.pods_of(node).collect();
        for slot in there {
            self.records[slot as usize].preempted = false;
        }
    }

    /// What evicting pods can do for a pod of the class that found no node. `now_micros` stands for the start
    /// of pods that have not started.
    pub fn preempt(
        &mut self,
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        now_micros: i64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Preemption, PickError> {
        self.preempt_among(pod, class, pin, now_micros, random, None)
    }

    /// The same where somebody else has a say: only nodes that are admitted are tried out.
    pub fn preempt_among(
        &mut self,
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        now_micros: i64,
        random: &mut dyn FnMut() -> u64,
        admit: Option<&mut dyn FnMut(Asked<'_>) -> Admission>,
    ) -> Result<Preemption, PickError> {
        let nomination = self.nominations.get(&pod).copied();
        let version = self.fleet.version();
        let asks_for_all = nomination.is_none() && pin.is_none() && admit.is_none();
        let slot = self.classes.get(class.slot as usize);
        if asks_for_all
            && let Some((at, why)) = slot.and_then(|slot| slot.hopeless.as_ref())
            && *at == version
            && self.class(class).is_some()
        {
            return Ok(Preemption::Hopeless(why.to_string()));
        }
        let mut current = self.take_class(class).ok_or(PickError::UnknownClass)?;
        if let Some(nomination) = nomination {
            self.claim(nomination, false);
            self.attached.left_out = Some(pod);
        }
        let preemption =
            self.try_to_preempt(&mut current, nomination, pin, now_micros, random, admit);
        if let Some(nomination) = nomination {
            self.claim(nomination, true);
            self.attached.left_out = None;
        }
        let asks_for_all = asks_for_all && !current.minds_volumes();
        self.put_back(class, current);
        if asks_for_all && let Preemption::Hopeless(why) = &preemption {
            self.classes[class.slot as usize].hopeless = Some((version, why.as_str().into()));
        }
        Ok(preemption)
    }

    fn try_to_preempt(
        &mut self,
        class: &mut Class,
        nomination: Option<Nomination>,
        pin: Option<&str>,
        now_micros: i64,
        random: &mut dyn FnMut() -> u64,
        admit: Option<&mut dyn FnMut(Asked<'_>) -> Admission>,
    ) -> Preemption {
        if admit.is_some() {
            return match self.find_sacrifices(class, nomination, pin, now_micros, random, admit) {
                Ok(found) => self.best_of(class, &found, now_micros),
                Err(none) => none,
            };
        }
        let field = match self.field(class, nomination, pin, now_micros, random) {
            Ok(field) => field,
            Err(none) => return none,
        };
        if !self.tries_alike(class, &field.against) {
            return match self.try_each(class, &field, None) {
                Ok(found) => self.best_of(class, &found, now_micros),
                Err(none) => none,
            };
        }
        let Field {
            look,
            against,
            potential,
            range,
        } = field;
        match self.try_alike(class, &look, &against, &potential, &range) {
            Ok(best) => self.sacrificed(class, &best),
            Err(counting) => {
                let total = potential.total(self);
                Preemption::Hopeless(self.hopeless(counting, total))
            }
        }
    }

    /// Nodes tried out with success, at least one.
    pub(crate) fn find_sacrifices(
        &mut self,
        class: &mut Class,
        nomination: Option<Nomination>,
        pin: Option<&str>,
        now_micros: i64,
        random: &mut dyn FnMut() -> u64,
        admit: Option<&mut dyn FnMut(Asked<'_>) -> Admission>,
    ) -> Result<Vec<Sacrifice>, Preemption> {
        let field = self.field(class, nomination, pin, now_micros, random)?;
        self.try_each(class, &field, admit)
    }

    /// Where to look, and how far.
    fn field(
        &mut self,
        class: &mut Class,
        nomination: Option<Nomination>,
        pin: Option<&str>,
        now_micros: i64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Field, Preemption> {
        if class.spec.never_preempts {
            return Err(Preemption::NotEligible(
                "not eligible due to preemptionPolicy=Never.",
            ));
        }
        let look = class.look(&self.fleet);
        let against = self.against(class);
        if let Some(nomination) = nomination
            && self.waits_for_victims(class, &look, &against, nomination)
        {
            return Err(Preemption::NotEligible(
                "not eligible due to terminating pod on the nominated node.",
            ));
        }
        let potential = self.potential_nodes(class, &look, &against, pin);
        let total = potential.total(self);
        if !self.kinds.some_below(class.spec.priority) {
            let mut counting = Counting::default();
            counting.add_text(NO_VICTIMS, total);
            return Err(Preemption::Hopeless(self.hopeless(counting, total)));
        }
        let wanted =
            (total * class.profile.candidates_percent / 100).max(class.profile.candidates_min);
        Ok(Field {
            look,
            against,
            potential,
            range: Range {
                offset: below(total as u64, random) as usize,
                wanted,
                now_micros,
            },
        })
    }

    /// Tries nodes out one by one, until there are candidates enough.
    fn try_each(
        &self,
        class: &mut Class,
        field: &Field,
        mut admit: Option<&mut dyn FnMut(Asked<'_>) -> Admission>,
    ) -> Result<Vec<Sacrifice>, Preemption> {
        let (look, against, range) = (&field.look, &field.against, &field.range);
        let mut counting = Counting::default();
        let mut found: Vec<Sacrifice> = Vec::new();
        for node in field.potential.in_turn(self, range.offset) {
            if let Some(admit) = &mut admit
                && let Admission::No(why) = admit(Asked::new(&self.fleet, node))
            {
                counting.add_text(why, 1);
                continue;
            }
            match self.try_out(class, look, against, node, range.now_micros) {
                Ok(sacrifice) => found.push(sacrifice),
                Err(why) => self.count_failure(class, look, against, why, 1, &mut counting),
            }
            if found.len() >= range.wanted && found.iter().any(|s| s.violations == 0) {
                break;
            }
        }
        if found.is_empty() {
            let total = field.potential.total(self);
            return Err(Preemption::Hopeless(self.hopeless(counting, total)));
        }
        Ok(found)
    }

    /// What the least costly of several nodes comes to.
    pub(crate) fn best_of(
        &self,
        class: &Class,
        found: &[Sacrifice],
        now_micros: i64,
    ) -> Preemption {
        let best = found
            .iter()
            .min_by_key(|sacrifice| self.cost(sacrifice, now_micros));
        match best {
            Some(best) => self.sacrificed(class, best),
            None => Preemption::Hopeless(NO_CANDIDATE.to_owned()),
        }
    }

    /// Are pods still going, that were evicted for the pod from the node it waits for?
    pub(crate) fn waits_for_victims(
        &self,
        class: &mut Class,
        look: &Look,
        against: &Against,
        nomination: Nomination,
    ) -> bool {
        let state = self.fleet.state_of(nomination.node);
        let bits = against.node(nomination.node);
        if self.fleet.node_name(nomination.node).is_none()
            || !self.is_resolvable(class, look, state, bits)
        {
            return false;
        }
        self.pods_of(nomination.node).any(|slot| {
            self.records[slot as usize].preempted && self.priority_of(slot) < class.spec.priority
        })
    }

    fn is_resolvable(&self, class: &mut Class, look: &Look, state: u32, bits: VolumeBits) -> bool {
        match with_bits(why_not(&self.fleet, class, look, state), bits) {
            None => true,
            Some(WhyNot::Static(_) | WhyNot::NotEnforced) => false,
            Some(WhyNot::Volumes(bits)) => may_pass(bits),
            Some(WhyNot::Company(refusal)) => refusal.is_resolvable(),
            Some(WhyNot::NoRoom) => {
                let load = self.fleet.load(state);
                let with = class.with_claims(&self.fleet, load);
                let shape = self.fleet.shape_of(state);
                class.shortages(
                    &self.fleet,
                    shape,
                    with.as_ref().unwrap_or(load),
                    &mut |_| {},
                )
            }
        }
    }

    /// Nodes that were rejected and where evicting may help, by state.
    pub(crate) fn potential_nodes(
        &self,
        class: &mut Class,
        look: &Look,
        against: &Against,
        pin: Option<&str>,
    ) -> Potential {
        let named: Option<Vec<u32>> = match (class.pinned(pin), &class.names) {
            (_, crate::asks::Names::Contradiction) => Some(Vec::new()),
            (Some(pin), _) => Some(self.fleet.node(pin).into_iter().collect()),
            (None, crate::asks::Names::Only(names)) => {
                Some(names.iter().filter_map(|n| self.fleet.node(n)).collect())
            }
            (None, crate::asks::Names::Any) => None,
        };
        if class.waits_for_volumes() || class.waits_for_devices() {
            return Potential::default();
        }
        let mut helps = |state: u32, bits: VolumeBits| {
            with_bits(why_not(&self.fleet, class, look, state), bits).is_some()
                && self.is_resolvable(class, look, state, bits)
        };
        let parts = match named {
            Some(nodes) => nodes
                .into_iter()
                .map(|node| (self.fleet.state_of(node), node))
                .filter(|(state, node)| helps(*state, against.node(*node)))
                .map(|(state, node)| (state, Some(vec![node])))
                .collect(),
            None if !against.is_empty() => {
                let live: Vec<u32> = self.fleet.live().collect();
                let members = live.into_iter().map(|state| {
                    let nodes = self.fleet.members(state).iter().copied();
                    let nodes = nodes.filter(|node| helps(state, against.node(*node)));
                    (state, nodes.collect::<Vec<u32>>())
                });
                let some = members.filter(|(_, nodes)| !nodes.is_empty());
                some.map(|(state, nodes)| (state, Some(nodes))).collect()
            }
            None => {
                let live: Vec<u32> = self.fleet.live().collect();
                live.into_iter()
                    .filter(|&state| helps(state, 0))
                    .map(|state| (state, None))
                    .collect()
            }
        };
        Potential(parts)
    }

    /// The earliest start among the node's pods of a priority.
    pub(crate) fn earliest_of(&self, node: u32, priority: i32, now_micros: i64) -> i64 {
        self.pods_of(node)
            .filter(|&slot| self.priority_of(slot) == priority)
            .map(|slot| self.started(slot, now_micros))
            .min()
            .unwrap_or(0)
    }

    pub(crate) fn priority_of(&self, slot: u32) -> i32 {
        let kind = self.records[slot as usize].kind & !ASSUMED;
        self.kinds.get(kind).map_or(0, |kind| kind.priority)
    }

    fn started(&self, slot: u32, now_micros: i64) -> i64 {
        match self.records[slot as usize].started_micros {
            0 => now_micros,
            at => at,
        }
    }

    /// Who would have to go from this node? `Err(None)`: there is nobody to send away.
    pub(crate) fn try_out(
        &self,
        class: &mut Class,
        look: &Look,
        against: &Against,
        node: u32,
        now_micros: i64,
    ) -> Result<Sacrifice, Option<Box<Attempt>>> {
        let mut attempt = Attempt::new(self, class, node).ok_or(None)?;
        let mut lower: Vec<u32> = self
            .pods_of(node)
            .filter(|&slot| self.priority_of(slot) < class.spec.priority)
            .collect();
        if lower.is_empty() {
            return Err(None);
        }
        for &slot in &lower {
            attempt.remove(self, slot);
        }
        if attempt.why_not(self, class, look, against).is_some() {
            return Err(Some(Box::new(attempt)));
        }
        lower.sort_by_key(|&slot| self.importance(slot, now_micros));
        let (violating, others) = self.by_budgets(&lower);
        let mut victims = Vec::new();
        let mut violations = 0;
        for (slots, violates) in [(violating, true), (others, false)] {
            for slot in slots {
                attempt.put_back(self, slot);
                if attempt.why_not(self, class, look, against).is_some() {
                    attempt.remove(self, slot);
                    victims.push(slot);
                    violations += usize::from(violates);
                }
            }
        }
        victims.sort_by_key(|&slot| self.importance(slot, now_micros));
        if victims.is_empty() {
            // It fits with everybody in place: the node was rejected for what preemption cannot see.
            return Err(Some(Box::new(attempt)));
        }
        Ok(Sacrifice {
            node,
            victims,
            violations,
        })
    }

    /// Most important first: by priority, then who started earlier.
    pub(crate) fn importance(&self, slot: u32, now_micros: i64) -> (Reverse<i32>, i64, PodKey) {
        (
            Reverse(self.priority_of(slot)),
            self.started(slot, now_micros),
            self.records[slot as usize].key,
        )
    }

    /// Pods whose eviction, in this order, violates a disruption budget, and the others.
    fn by_budgets(&self, slots: &[u32]) -> (Vec<u32>, Vec<u32>) {
        if self.budgets.is_empty() {
            return (Vec::new(), slots.to_vec());
        }
        let mut left: Vec<(&Budget, i64)> = Vec::new();
        slots.iter().partition(|&&slot| {
            let record = &self.records[slot as usize];
            let Some(kind) = self.kinds.get(record.kind & !ASSUMED) else {
                return false;
            };
            let mut violates = false;
            let budgets = self.budgets.get(&kind.namespace);
            for budget in budgets.into_iter().flatten() {
                let protects = !kind.labels.is_empty()
                    && !budget.selector.is_empty()
                    && selects(&budget.selector, &kind.labels);
                let mut disrupted = budget.disrupted.iter();
                if !protects || disrupted.any(|n| self.name_hash(n) == record.name_hash) {
                    continue;
                }
                let at = left.iter().position(|(b, _)| std::ptr::eq(*b, budget));
                let at = at.unwrap_or_else(|| {
                    left.push((budget, budget.allowed));
                    left.len() - 1
                });
                left[at].1 -= 1;
                violates |= left[at].1 < 0;
            }
            violates
        })
    }

    /// Lower is better.
    pub(crate) fn cost(
        &self,
        sacrifice: &Sacrifice,
        now_micros: i64,
    ) -> (usize, i32, i64, usize, Reverse<i64>) {
        let priorities = || sacrifice.victims.iter().map(|&slot| self.priority_of(slot));
        let highest = priorities().max().unwrap_or(i32::MIN);
        let sum = priorities().map(|p| i64::from(p) + (1 << 31)).sum();
        let earliest = sacrifice
            .victims
            .iter()
            .filter(|&&slot| self.priority_of(slot) == highest)
            .map(|&slot| self.started(slot, now_micros))
            .min()
            .unwrap_or(0);
        (
            sacrifice.violations,
            highest,
            sum,
            sacrifice.victims.len(),
            Reverse(earliest),
        )
    }

    fn sacrificed(&self, class: &Class, sacrifice: &Sacrifice) -> Preemption {
        let priority = class.spec.priority;
        let mut displaced: Vec<PodKey> = self
            .nominations
            .iter()
            .filter(|(_, n)| n.node == sacrifice.node && n.priority < priority)
            .map(|(pod, _)| *pod)
            .collect();
        displaced.sort_unstable();
        let victims = sacrifice.victims.iter();
        Preemption::Found {
            node: NodeId(sacrifice.node),
            victims: victims
                .map(|&slot| self.records[slot as usize].key)
                .collect(),
            displaced,
        }
    }

    // ---- why not

    pub(crate) fn count_failure(
        &self,
        class: &mut Class,
        look: &Look,
        against: &Against,
        why: Option<Box<Attempt>>,
        nodes: usize,
        counting: &mut Counting,
    ) {
        match why {
            None => counting.add_text(NO_VICTIMS, nodes),
            Some(attempt) => counting.count_with(
                &self.fleet,
                class,
                look,
                attempt.cell,
                attempt.shape,
                &attempt.load,
                &attempt.gone,
                self.against_without(class, against, attempt.node, &attempt.away),
                nodes,
            ),
        }
    }

    fn hopeless(&self, mut counting: Counting, potential: usize) -> String {
        let others = self.fleet.present() - potential;
        counting.add_text(NOT_HELPFUL, others);
        let failure: Unschedulable = counting.finish(&self.fleet);
        failure.message()
    }
}

/// Where a pod that preempts looks for room.
struct Field {
    look: Look,
    against: Against,
    potential: Potential,
    range: Range,
}

/// A node with pods thought away.
#[derive(Debug)]
pub(crate) struct Attempt {
    node: u32,
    shape: u32,
    cell: u32,
    load: Load,
    /// Pods thought away, by tally: negative numbers.
    gone: Vec<(u32, i64)>,
    /// Who they are.
    away: Vec<PodKey>,
}

impl Attempt {
    fn new(cluster: &Cluster, class: &mut Class, node: u32) -> Option<Attempt> {
        let fleet = &cluster.fleet;
        let state = fleet.state_of(node);
        let shape = fleet.shape_of(state);
        let Static::Stands(standing) = class.judge_shape(fleet, shape) else {
            return None;
        };
        Some(Attempt {
            node,
            shape,
            cell: class.cell(fleet, standing, state),
            load: fleet.load(state).clone(),
            gone: Vec::new(),
            away: Vec::new(),
        })
    }

    fn remove(&mut self, cluster: &Cluster, slot: u32) {
        self.shift(cluster, slot, false);
    }

    fn put_back(&mut self, cluster: &Cluster, slot: u32) {
        self.shift(cluster, slot, true);
    }

    fn shift(&mut self, cluster: &Cluster, slot: u32, add: bool) {
        let key = cluster.records[slot as usize].key;
        if add {
            self.away.retain(|other| *other != key);
        } else {
            self.away.push(key);
        }
        let kind = cluster.records[slot as usize].kind & !ASSUMED;
        let Some(kind) = cluster.kinds.get(kind) else {
            return;
        };
        let delta = cluster.fleet.deltas.get(kind.delta);
        self.load = self.load.shifted(delta, add);
        for &(tally, pods) in &delta.tallies {
            let change = if add { pods } else { -pods };
            match self.gone.iter_mut().find(|(known, _)| *known == tally) {
                Some((_, gone)) => *gone += change,
                None => self.gone.push((tally, change)),
            }
        }
    }

    fn why_not(
        &self,
        cluster: &Cluster,
        class: &Class,
        look: &Look,
        against: &Against,
    ) -> Option<WhyNot> {
        why_not_with(
            &cluster.fleet,
            class,
            look,
            self.cell,
            self.shape,
            &self.load,
            &self.gone,
            cluster.against_without(class, against, self.node, &self.away),
        )
    }
}

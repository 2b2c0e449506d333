//! When no node would do: reasons added up over all shards, and the best that evicting can do in any.
//!
//! Asks every shard in full. Does not know how a shard finds its answer.

use super::choose::Nothing;
use super::volumes::Barred;
use super::words::{Answer, Looked, Order, Sacrificed, TryOut};
use super::{Coordinator, Links, Lost};
use crate::among::{Admission, Asked};
use crate::class::Class;
use crate::cluster::{ClassId, NodeId};
use crate::key::PodKey;
use crate::pick::{PickError, below};
use crate::preempt::{NO_VICTIMS, NOT_HELPFUL, Preemption};
use crate::storage::Holding;
use crate::verdict::{OUTSIDE_NAMED_NODES, Plugin, Unschedulable};
use crate::volumes::Against;
use hashbrown::HashMap;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is asked of preemption.
struct Ask<'a> {
    in_view: Option<&'a str>,
    pin: Option<&'a str>,
    now_micros: i64,
    against: Option<Against>,
    holding: Vec<(u32, Holding)>,
}

/// Nodes of which shards are told who is in the way of volumes, with each question about evicting: a few KiB each at
/// most. What others hold on more nodes is not expected to become free.
pub(crate) const HOLDING_MAX: usize = 4_096;

impl<L: Links> Coordinator<L> {
    /// Why no node would do, for a class without named nodes; remembered as long as nothing changes.
    pub(crate) fn why_none(&mut self, id: ClassId, class: &Class) -> Nothing {
        let version = self.version;
        let slot = &self.brain.classes[id.slot as usize];
        if let Some((at, why)) = &slot.failure
            && *at == version
        {
            return Nothing::Unschedulable(why.clone());
        }
        match self.reasons(id, class, None) {
            Ok(why) => {
                let why = Arc::new(why);
                // Asking changes nothing.
                self.brain.classes[id.slot as usize].failure = Some((version, why.clone()));
                Nothing::Unschedulable(why)
            }
            Err(Lost) => Nothing::Lost,
        }
    }

    pub(crate) fn reasons(
        &mut self,
        id: ClassId,
        class: &Class,
        against: Option<&Against>,
    ) -> Result<Unschedulable, Lost> {
        let look = self.look_for_shards(id, class)?;
        let barred = self.barred_of(against);
        let alive = self.alive().into_iter();
        let orders = alive.map(|shard| {
            let bars = barred.get(&shard).cloned();
            (shard, Order::Reasons(id.slot, look.clone(), bars))
        });
        let orders: Vec<_> = orders.collect();
        let mut failures = Vec::new();
        for answer in self.ask_all(orders)? {
            match answer {
                Answer::Rejected(why) => failures.push(why),
                _ => return Err(Lost),
            }
        }
        Ok(self.add_up(failures, None))
    }

    /// Reasons of several shards as one answer; so many nodes besides were not asked.
    pub(crate) fn add_up(
        &self,
        failures: Vec<Unschedulable>,
        elsewhere: Option<usize>,
    ) -> Unschedulable {
        let mut sum = Unschedulable {
            nodes: self.nodes(),
            ..Unschedulable::default()
        };
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for why in failures {
            for (text, nodes) in why.reasons {
                *reasons.entry(text).or_default() += nodes;
            }
            sum.rejected_by = sum.rejected_by.or(why.rejected_by);
            sum.preemptible += why.preemptible;
        }
        if let Some(nodes) = elsewhere {
            if nodes > 0 {
                *reasons.entry(OUTSIDE_NAMED_NODES.into()).or_default() += nodes;
            }
            sum.rejected_by = sum.rejected_by.with(Plugin::NodeAffinity);
        }
        sum.reasons = reasons.into_iter().collect();
        sum
    }

    /// As [`crate::Cluster::note_evictions`].
    pub fn note_evictions(&mut self, victims: &[PodKey]) {
        for shard in self.alive() {
            let there = victims.iter().filter(|victim| {
                let placed = self.pods.get(*victim);
                placed.is_some_and(|placed| usize::from(placed.shard) == shard)
            });
            let there: Vec<PodKey> = there.copied().collect();
            if !there.is_empty() {
                self.tell(shard, Order::Evicting(there));
            }
        }
    }

    /// As [`crate::Cluster::evictions_failed`].
    pub fn evictions_failed(&mut self, preemptor: PodKey) {
        let Some(nomination) = self.in_view.get(&preemptor).cloned() else {
            return;
        };
        if let Some(home) = self.home(&nomination.node) {
            self.tell(home, Order::Spare(nomination.node));
        }
    }

    /// As [`crate::Cluster::preempt`]: each shard tries its part of the candidates out.
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

    /// As [`crate::Cluster::preempt_among`]. Every node is asked about; why one is not admitted is not told.
    pub fn preempt_among(
        &mut self,
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        now_micros: i64,
        random: &mut dyn FnMut() -> u64,
        admit: Option<&mut dyn FnMut(Asked<'_>) -> Admission>,
    ) -> Result<Preemption, PickError> {
        let nomination = self.in_view.get(&pod).cloned();
        let version = self.version;
        let asks_for_all = nomination.is_none() && pin.is_none() && admit.is_none();
        let slot = self.brain.classes.get(class.slot as usize);
        if asks_for_all
            && let Some((at, why)) = slot.and_then(|slot| slot.hopeless.as_ref())
            && *at == version
            && self.brain.class(class).is_some()
        {
            return Ok(Preemption::Hopeless(why.to_string()));
        }
        let current = self
            .brain
            .take_class(class)
            .ok_or(PickError::UnknownClass)?;
        if let Some(nomination) = &nomination {
            self.claim(pod, nomination, false);
            self.brain.attached.left_out = Some(pod);
        }
        let in_view = nomination.as_ref().map(|n| &*n.node);
        let ask = Ask {
            in_view,
            pin,
            now_micros,
            against: self.not_admitted(&current, admit),
            holding: self.brain.holding(&current, HOLDING_MAX),
        };
        let tried = self.try_to_preempt(class, &current, ask, random);
        if let Some(nomination) = &nomination {
            self.claim(pod, nomination, true);
            self.brain.attached.left_out = None;
        }
        let asks_for_all = asks_for_all && !current.minds_volumes();
        self.brain.put_back(class, current);
        let preemption = tried.map_err(|Lost| PickError::UnknownClass)?;
        if asks_for_all && let Preemption::Hopeless(why) = &preemption {
            let slot = &mut self.brain.classes[class.slot as usize];
            slot.hopeless = Some((version, why.as_str().into()));
        }
        Ok(preemption)
    }

    fn try_to_preempt(
        &mut self,
        id: ClassId,
        class: &Class,
        ask: Ask<'_>,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Preemption, Lost> {
        let Ask {
            in_view,
            pin,
            now_micros,
            against,
            holding,
        } = ask;
        if class.spec.never_preempts {
            return Ok(Preemption::NotEligible(
                "not eligible due to preemptionPolicy=Never.",
            ));
        }
        let look = self.look_for_shards(id, class)?;
        let bits = |node: NodeId| against.as_ref().map_or(0, |against| against.node(node.0));
        if let Some(name) = in_view
            && let Some(node) = self.brain.node(name)
            && let Some(home) = self.home(name)
            && self.ask(
                home,
                Order::Waits(id.slot, name.into(), look.clone(), bits(node)),
            )? == Answer::Number(1)
        {
            return Ok(Preemption::NotEligible(
                "not eligible due to terminating pod on the nominated node.",
            ));
        }
        let barred = self.barred_of(against.as_ref());
        let potential = self.potential(id, pin, &look, &barred)?;
        let total: u64 = potential.iter().map(|(_, nodes)| nodes).sum();
        if !self.brain.kinds.some_below(class.spec.priority) {
            let failures = vec![(NO_VICTIMS.to_owned(), total as usize)];
            return Ok(Preemption::Hopeless(self.hopeless(failures, total)));
        }
        let (percent, min) = (
            class.profile.candidates_percent,
            class.profile.candidates_min,
        );
        let wanted = (total * percent as u64 / 100).max(min as u64);
        let mut holding_of: HashMap<usize, Vec<(Box<str>, Holding)>> = HashMap::new();
        for (node, holding) in holding {
            if let Some(name) = self.brain.fleet.node_name(node)
                && let Some(home) = self.home(name)
            {
                let of_shard = holding_of.entry(home).or_default();
                of_shard.push((name.into(), holding));
            }
        }
        let mut orders: Vec<(usize, Order)> = Vec::new();
        for (shard, nodes) in potential.into_iter().filter(|(_, nodes)| *nodes > 0) {
            let order = TryOut {
                class: id.slot,
                pin: pin.map(Into::into),
                look: look.clone(),
                bars: barred.get(&shard).cloned(),
                holding: holding_of.remove(&shard).unwrap_or_default(),
                now_micros,
                wanted: (wanted * nodes).div_ceil(total),
                seed: random(),
            };
            orders.push((shard, Order::TryOut(order)));
        }
        // Of equally good ones the first is taken: let it not always be the same shard's.
        let turn = below(orders.len() as u64, random) as usize;
        let shards = orders.len();
        orders.rotate_left(turn.min(shards));
        let mut best: Option<Sacrificed> = None;
        let mut failures: Vec<(String, usize)> = Vec::new();
        for answer in self.ask_all(orders)? {
            let Answer::Tried(found, why) = answer else {
                return Err(Lost);
            };
            failures.extend(why);
            let found = found.filter(|f| best.as_ref().is_none_or(|b| f.cost() < b.cost()));
            best = found.or(best);
        }
        let found = best.and_then(|best| Some((self.brain.node(&best.node)?, best)));
        let Some((node, best)) = found else {
            return Ok(Preemption::Hopeless(self.hopeless(failures, total)));
        };
        let priority = class.spec.priority;
        let displaced = self
            .in_view
            .iter()
            .filter(|(_, n)| n.node == best.node && n.priority < priority);
        let mut displaced: Vec<PodKey> = displaced.map(|(pod, _)| *pod).collect();
        displaced.sort_unstable();
        Ok(Preemption::Found {
            node,
            victims: best.victims,
            displaced,
        })
    }

    /// For each shard, on how many nodes evicting may help.
    fn potential(
        &mut self,
        id: ClassId,
        pin: Option<&str>,
        look: &Looked,
        barred: &HashMap<usize, Arc<Barred>>,
    ) -> Result<Vec<(usize, u64)>, Lost> {
        let alive = self.alive();
        let orders = alive.iter().map(|&shard| {
            let bars = barred.get(&shard).cloned();
            let order = Order::Potential(id.slot, pin.map(Into::into), look.clone(), bars);
            (shard, order)
        });
        let orders: Vec<_> = orders.collect();
        let answers = self.ask_all(orders)?;
        let nodes = answers.into_iter().map(|answer| match answer {
            Answer::Number(nodes) => nodes,
            _ => 0,
        });
        Ok(alive.into_iter().zip(nodes).collect())
    }

    fn hopeless(&self, failures: Vec<(String, usize)>, potential: u64) -> String {
        let others = self.nodes().saturating_sub(potential as usize);
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for (text, nodes) in failures
            .into_iter()
            .chain([(NOT_HELPFUL.to_owned(), others)])
        {
            *reasons.entry(text).or_default() += nodes;
        }
        reasons.retain(|_, nodes| *nodes > 0);
        let failure = Unschedulable {
            nodes: self.nodes(),
            reasons: reasons.into_iter().collect(),
            ..Unschedulable::default()
        };
        failure.message()
    }
}

impl Sacrificed {
    /// Lower is better.
    fn cost(&self) -> (u64, i32, i64, usize, Reverse<i64>) {
        (
            self.violations,
            self.highest,
            self.sum,
            self.victims.len(),
            Reverse(self.earliest),
        )
    }
}

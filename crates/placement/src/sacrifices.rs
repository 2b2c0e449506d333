//! Preemption where somebody else has a say: the nodes that could be made free, handed out; and the best of what
//! comes back.
//!
//! What is tried out, and what is better than what, is `preempt.rs`'s. Does not know who is asked between.

use crate::cluster::{ClassId, Cluster, NodeId};
use crate::key::PodKey;
use crate::pick::PickError;
use crate::preempt::{Preemption, Sacrifice};

/// A node on which a pod would fit once others have gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Who must go, the most important first.
    pub victims: Vec<PodKey>,
    /// Disruption budgets that would be violated.
    pub violations: usize,
}

impl Cluster {
    /// As [`Cluster::preempt`], but names all nodes that were tried with success, the least costly first, at
    /// most `max`. The inner error is what there is instead.
    ///
    /// # Errors
    /// The class was evicted.
    pub fn preemption_candidates(
        &mut self,
        (pod, class): (PodKey, ClassId),
        pin: Option<&str>,
        max: usize,
        now_micros: i64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Result<Vec<Candidate>, Preemption>, PickError> {
        let mut current = self.take_class(class).ok_or(PickError::UnknownClass)?;
        let nomination = self.nominations.get(&pod).copied();
        if let Some(nomination) = nomination {
            self.claim(nomination, false);
        }
        let found = self.find_sacrifices(&mut current, nomination, pin, now_micros, random, None);
        if let Some(nomination) = nomination {
            self.claim(nomination, true);
        }
        self.put_back(class, current);
        Ok(found.map(|mut found| {
            found.sort_by_cached_key(|sacrifice| self.cost(sacrifice, now_micros));
            found.truncate(max);
            let candidates = found.into_iter().map(|sacrifice| Candidate {
                node: NodeId(sacrifice.node),
                victims: sacrifice
                    .victims
                    .iter()
                    .map(|&slot| self.records[slot as usize].key)
                    .collect(),
                violations: sacrifice.violations,
            });
            candidates.collect()
        }))
    }

    /// The least costly of these. Victims that are gone, or elsewhere, are passed over; with none left anywhere
    /// there is no node.
    ///
    /// # Errors
    /// The class was evicted.
    pub fn preempt_best(
        &self,
        class: ClassId,
        candidates: &[Candidate],
        now_micros: i64,
    ) -> Result<Preemption, PickError> {
        let class = self.class(class).ok_or(PickError::UnknownClass)?;
        let there = |candidate: &&Candidate| self.fleet.node_name(candidate.node.0).is_some();
        let sacrifice = |candidate: &Candidate| {
            let slots = candidate
                .victims
                .iter()
                .filter_map(|victim| self.pods.get(victim));
            let on_it = |slot: &&u32| self.records[**slot as usize].node == candidate.node.0;
            let mut victims: Vec<u32> = slots.filter(on_it).copied().collect();
            victims.sort_by_key(|&slot| self.importance(slot, now_micros));
            Sacrifice {
                node: candidate.node.0,
                victims,
                violations: candidate.violations,
            }
        };
        let found: Vec<Sacrifice> = candidates
            .iter()
            .filter(there)
            .map(sacrifice)
            .filter(|sacrifice| !sacrifice.victims.is_empty())
            .collect();
        Ok(self.best_of(class, &found, now_micros))
    }
}

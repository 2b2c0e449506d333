//! Many nodes for one pod: those that pass the filters, the best first; what chosen ones score among one another;
//! and why the others do not pass.
//!
//! For callers that ask somebody else about nodes before one is taken. The quick way of a pick (`pick.rs`) is not
//! gone: this one costs time in proportion to the states of nodes. Does not know whom the caller asks.

use crate::asks::Names;
use crate::class::{Class, Static};
use crate::cluster::{ClassId, Cluster, NodeId};
use crate::key::PodKey;
use crate::pick::{Counting, PickError, below, why_not};
use crate::verdict::{Plugin, Unschedulable};
use crate::volumes::with_bits;
use std::sync::Arc;

/// See [`Cluster::candidates`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// The node the pod has in view, if it passes: it is to be asked about before all others.
    pub nominated: Option<NodeId>,
    /// Nodes that pass, the best first, equals in random order.
    pub nodes: Vec<NodeId>,
    /// How many pass in all.
    pub total: usize,
}

impl Cluster {
    /// Nodes that pass the filters for a pod, the best first: at most `max`, after the first `skip`. `skip` counts
    /// whole shares of `max` nodes, and begins again at the best where it is beyond the last. Never empty.
    ///
    /// # Errors
    /// As [`Cluster::pick`].
    pub fn candidates(
        &mut self,
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        (skip, max): (usize, usize),
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Candidates, PickError> {
        let nomination = self.nominations.get(&pod).copied();
        if let Some(nomination) = nomination {
            // Its own claim is no obstacle to itself.
            self.claim(nomination, false);
        }
        let found = self.find_candidates(class, pin, (skip, max), random);
        let nominated = nomination.map(|nomination| NodeId(nomination.node));
        let nominated = nominated.filter(|node| {
            let pinned = self.class(class).and_then(|class| class.pinned(pin));
            pinned.is_none_or(|pin| self.fleet.node_name(node.0) == Some(pin))
                && self.fits(class, *node) == Some(true)
        });
        if let Some(nomination) = nomination {
            self.claim(nomination, true);
        }
        found.map(|found| Candidates { nominated, ..found })
    }

    fn find_candidates(
        &mut self,
        id: ClassId,
        pin: Option<&str>,
        range: (usize, usize),
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Candidates, PickError> {
        let mut class = self.take_class(id).ok_or(PickError::UnknownClass)?;
        let (all, mut totals) = match named(&class, pin) {
            _ if class.waits_for_volumes() || matches!(class.names, Names::Contradiction) => {
                (0, Vec::new())
            }
            Some(names) => {
                let nodes: Vec<u32> = names.iter().filter_map(|n| self.fleet.node(n)).collect();
                let rated = self.rate_nodes(&mut class, &nodes);
                let rated = rated.into_iter().map(|(node, total)| (total, vec![node]));
                let rated: Vec<(i64, Vec<u32>)> = rated.collect();
                (rated.len(), rated)
            }
            None if class.minds_volumes() => {
                // What speaks against single nodes is remembered nowhere.
                let nodes: Vec<u32> = self.fleet.existing().collect();
                let mut rated = self.rate_nodes(&mut class, &nodes);
                rated.sort_by_key(|&(node, total)| (std::cmp::Reverse(total), node));
                let all = rated.len();
                let skip = beginning(range.0, all, range.1);
                let rated = rated.into_iter().skip(skip).take(range.1);
                (
                    all,
                    rated.map(|(node, total)| (total, vec![node])).collect(),
                )
            }
            None => {
                let before = class.entries();
                let totals = class.totals(&mut self.fleet);
                self.index_entries = self.index_entries + class.entries() - before;
                self.in_order(totals, range, random)
            }
        };
        self.put_back(id, class);
        self.trim(id.slot);
        if totals.is_empty() {
            // Words and counts of the reasons are those of a pick.
            return match self.pick(id, pin, random) {
                Ok(node) => Ok(Candidates {
                    nominated: None,
                    nodes: vec![node],
                    total: 1,
                }),
                Err(error) => Err(error),
            };
        }
        let mut nodes: Vec<NodeId> = Vec::new();
        totals.sort_by_key(|(total, _)| std::cmp::Reverse(*total));
        for (_, members) in totals {
            nodes.extend(members.into_iter().map(NodeId));
        }
        nodes.truncate(range.1);
        Ok(Candidates {
            nominated: None,
            nodes,
            total: all,
        })
    }

    /// How many nodes there are, and by falling totals `max` of them after the first `skip`. Each run of equals
    /// begins somewhere else every time, so that what is skipped within one is not the same twice.
    fn in_order(
        &self,
        mut totals: Vec<(i64, u32)>,
        (skip, max): (usize, usize),
        random: &mut dyn FnMut() -> u64,
    ) -> (usize, Vec<(i64, Vec<u32>)>) {
        totals.sort_unstable_by_key(|&(total, state)| (std::cmp::Reverse(total), state));
        let all: usize = totals
            .iter()
            .map(|&(_, state)| self.fleet.size(state) as usize)
            .sum();
        let mut skip = beginning(skip, all, max);
        let mut found: Vec<(i64, Vec<u32>)> = Vec::new();
        let mut left = max;
        for equals in totals.chunk_by(|a, b| a.0 == b.0) {
            if left == 0 {
                break;
            }
            let sizes = equals
                .iter()
                .map(|&(_, state)| self.fleet.size(state) as usize);
            let size: usize = sizes.sum();
            if skip >= size {
                skip -= size;
                continue;
            }
            let mut members: Vec<u32> = Vec::with_capacity(size);
            for &(_, state) in equals {
                members.extend_from_slice(self.fleet.members(state));
            }
            let by = usize::try_from(below(size as u64, random)).unwrap_or(0);
            members.rotate_left(by);
            members.drain(..std::mem::take(&mut skip));
            members.truncate(left);
            left -= members.len();
            found.push((equals[0].0, members));
        }
        (all, found)
    }

    /// Of these nodes those that pass the filters now, with their totals among one another.
    fn rate_nodes(&mut self, class: &mut Class, nodes: &[u32]) -> Vec<(u32, i64)> {
        let look = class.look(&self.fleet);
        let against = self.against(class);
        let mut passing: Vec<(u32, u32, i64)> = Vec::new();
        let mut cells: Vec<(u32, u64)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for &node in nodes {
            let state = self.fleet.state_of(node);
            let why = why_not(&self.fleet, class, &look, state);
            if with_bits(why, against.node(node)).is_some() {
                continue;
            }
            let standing = class.judge_shape(&self.fleet, self.fleet.shape_of(state));
            let (Static::Stands(standing), Some(room)) =
                (standing, class.judge_state(&self.fleet, state))
            else {
                continue;
            };
            let cell = class.cell(&self.fleet, standing, state);
            let place = *places.entry(cell).or_insert_with(|| {
                cells.push((cell, 0));
                cells.len() - 1
            });
            cells[place].1 += 1;
            passing.push((node, cell, room.room));
        }
        let ratings = class.rate(&self.fleet, &cells);
        passing
            .into_iter()
            .filter_map(|(node, cell, room)| {
                let shares = ratings[*places.get(&cell)?].as_ref().ok()?;
                Some((node, shares.total + room))
            })
            .collect()
    }

    /// Of these nodes, each with what somebody else adds to its score, the best for a pod that still passes the
    /// filters, uniformly among equals. Scores are normalised among these nodes alone. `None` when none passes any
    /// more.
    ///
    /// # Errors
    /// The class was evicted.
    pub fn pick_among(
        &mut self,
        pod: PodKey,
        class: ClassId,
        nodes: &[(NodeId, i64)],
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Option<NodeId>, PickError> {
        let mut current = self.take_class(class).ok_or(PickError::UnknownClass)?;
        let nomination = self.nominations.get(&pod).copied();
        if let Some(nomination) = nomination {
            self.claim(nomination, false);
        }
        let there = nodes
            .iter()
            .filter(|(node, _)| self.fleet.node_name(node.0).is_some());
        let there: Vec<u32> = there.map(|(node, _)| node.0).collect();
        let rated = self.rate_nodes(&mut current, &there);
        if let Some(nomination) = nomination {
            self.claim(nomination, true);
        }
        self.put_back(class, current);
        let added: std::collections::HashMap<u32, i64> =
            nodes.iter().map(|(node, added)| (node.0, *added)).collect();
        let total =
            |(node, own): &(u32, i64)| own.wrapping_add(added.get(node).copied().unwrap_or(0));
        let Some(best) = rated.iter().map(total).max() else {
            return Ok(None);
        };
        let equals: Vec<u32> = rated
            .iter()
            .filter(|rated| total(rated) == best)
            .map(|(node, _)| *node)
            .collect();
        let nth = usize::try_from(below(equals.len() as u64, random)).unwrap_or(0);
        Ok(equals.get(nth).copied().map(NodeId))
    }

    /// Why the nodes that do not pass do not, for a class of which others pass.
    pub fn rejections(&mut self, id: ClassId, pin: Option<&str>) -> Option<Unschedulable> {
        let mut class = self.take_class(id)?;
        let look = class.look(&self.fleet);
        let mut counting = Counting::default();
        let against = self.against(&class);
        let nodes = named(&class, pin).map(|names| {
            let known = names.iter().filter_map(|name| self.fleet.node(name));
            known.collect::<Vec<u32>>()
        });
        for group in self.groups(&mut class, &look, &against, nodes.as_deref()) {
            let nodes = usize::try_from(group.nodes).unwrap_or(usize::MAX);
            counting.count_group(&self.fleet, &class, group.why, group.state, nodes);
        }
        if let Some(nodes) = nodes {
            counting.elsewhere(self.fleet.present() - nodes.len());
        }
        self.put_back(id, class);
        let mut why = counting.finish(&self.fleet);
        if pin.is_some() {
            why.rejected_by = why.rejected_by.with(Plugin::NodeAffinity);
        }
        Some(why)
    }
}

/// How many of `all` are passed over: none where all are looked at anyway.
fn beginning(skip: usize, all: usize, max: usize) -> usize {
    if all <= max {
        0
    } else {
        skip.checked_rem(all).unwrap_or(0)
    }
}

/// The nodes a pod is restricted to before any filter.
fn named(class: &Class, pin: Option<&str>) -> Option<Vec<Arc<str>>> {
    match (class.pinned(pin), &class.names) {
        (Some(pin), _) => Some(vec![pin.into()]),
        (None, Names::Only(names)) => Some(names.iter().map(|name| (&**name).into()).collect()),
        (None, Names::Any | Names::Contradiction) => None,
    }
}

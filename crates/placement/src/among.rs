//! The pick where somebody else has a say: a node is only taken if whoever asks admits it.
//!
//! ```text
//!   candidates, in order ─► filters of the class ─► admitted? ─► until enough are ─► the best of them
//! ```
//!
//! For what cannot be told by a node's state: which devices are left on it. Does not know what is admitted, or why.

use crate::asks::Names;
use crate::class::{Class, Static};
use crate::cluster::{ClassId, Cluster, NodeId};
use crate::fleet::Fleet;
use crate::key::PodKey;
use crate::pick::{Counting, PickError, below, why_not};
use crate::rules::normalise;
use crate::verdict::Plugin;
use crate::volumes::with_bits;
use hashbrown::HashSet;
use std::sync::Arc;

/// A node that may be admitted.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    fleet: &'a Fleet,
    node: u32,
}

/// What is said of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It will do, and is worth so much before normalising.
    Yes(i64),
    /// It will not, for this reason.
    No(&'static str),
    /// Neither this one nor any other: something is wrong.
    Stop,
}

/// Where candidates come from.
pub enum Where<'a> {
    /// These nodes, by name; those that do not exist are passed over.
    Named(Box<dyn Iterator<Item = &'a str> + 'a>),
    /// These by name, and in turn with them those that offer some of these resources, from one of them on; any number
    /// will do.
    NamedOrOffering(
        Box<dyn Iterator<Item = &'a str> + 'a>,
        &'a [Box<str>],
        usize,
    ),
    /// All nodes, from one of them on; any number will do.
    All(usize),
}

/// Who has a say.
pub struct Among<'a> {
    /// Whom to ask about.
    pub candidates: Where<'a>,
    /// So many nodes that pass everything are enough; the best of them is taken.
    pub wanted: usize,
    /// Weight of what admitted nodes are worth.
    pub weight: i64,
    /// What is said of nodes that would pass the filters and are no candidates.
    pub otherwise: &'static str,
    /// Asked about candidates that pass the filters.
    pub admit: &'a mut dyn FnMut(Asked<'_>) -> Admission,
}

impl<'a> Asked<'a> {
    pub(crate) fn new(fleet: &'a Fleet, node: u32) -> Asked<'a> {
        Asked { fleet, node }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        self.fleet.known_name(self.node)
    }

    /// The value of one of its labels.
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.fleet.label_of(self.node, key)
    }

    /// How much of an extended resource it offers, taken or not.
    pub fn offers(&self, resource: &str) -> i64 {
        self.fleet.offered(self.node, resource)
    }
}

struct Feasible {
    node: u32,
    cell: u32,
    room: i64,
    worth: i64,
}

impl Cluster {
    /// The best admitted node for a pod of the class, among the first that are found; one that the pod has in view is
    /// tried first, alone. `None` when whoever admits said stop.
    pub fn pick_admitted(
        &mut self,
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        mut among: Among<'_>,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<Result<NodeId, PickError>> {
        let Some(mut current) = self.take_class(class) else {
            return Some(Err(PickError::UnknownClass));
        };
        let nomination = self.nominations.get(&pod).copied();
        if let Some(nomination) = nomination {
            self.claim(nomination, false);
        }
        let found = self.choose(
            &mut current,
            nomination.map(|n| n.node),
            pin,
            &mut among,
            random,
        );
        if let Some(nomination) = nomination {
            self.claim(nomination, true);
        }
        self.put_back(class, current);
        self.trim(class.slot);
        found
    }

    fn choose(
        &mut self,
        class: &mut Class,
        in_view: Option<u32>,
        pin: Option<&str>,
        among: &mut Among<'_>,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<Result<NodeId, PickError>> {
        let named: Option<Vec<u32>> = match (class.pinned(pin), &class.names) {
            (_, Names::Contradiction) => return Some(Err(failed(self.contradiction()))),
            _ if class.waits_for_volumes() || class.waits_for_devices() => {
                return Some(Err(failed(self.obstacle(class))));
            }
            (Some(name), _) => Some(self.fleet.node(name).into_iter().collect()),
            (None, Names::Only(names)) => {
                Some(names.iter().filter_map(|n| self.fleet.node(n)).collect())
            }
            (None, Names::Any) => None,
        };
        let look = class.look(&self.fleet);
        let against = self.against(class);
        let mut refused: Vec<(&'static str, usize)> = Vec::new();
        let mut feasible: Vec<Feasible> = Vec::new();
        let mut ask = |node: u32, feasible: &mut Vec<Feasible>| -> Option<()> {
            let fleet = &self.fleet;
            let state = fleet.state_of(node);
            if fleet.node_name(node).is_none()
                || with_bits(why_not(fleet, class, &look, state), against.node(node)).is_some()
                || feasible.iter().any(|known| known.node == node)
            {
                return Some(());
            }
            match (among.admit)(Asked::new(fleet, node)) {
                Admission::Stop => None,
                Admission::No(why) => {
                    match refused.iter_mut().find(|(known, _)| *known == why) {
                        Some((_, nodes)) => *nodes += 1,
                        None => refused.push((why, 1)),
                    }
                    Some(())
                }
                Admission::Yes(worth) => {
                    let standing = class.judge_shape(fleet, fleet.shape_of(state));
                    let room = class.judge_state(fleet, state);
                    if let (Static::Stands(standing), Some(room)) = (standing, room) {
                        feasible.push(Feasible {
                            node,
                            cell: class.cell(fleet, standing, state),
                            room: room.room,
                            worth,
                        });
                    }
                    Some(())
                }
            }
        };
        if let Some(node) = in_view
            && named.as_ref().is_none_or(|named| named.contains(&node))
        {
            ask(node, &mut feasible)?;
            if !feasible.is_empty() {
                return Some(Ok(NodeId(node)));
            }
        }
        match (&named, &mut among.candidates) {
            (Some(named), _) => {
                for &node in named {
                    ask(node, &mut feasible)?;
                }
            }
            (None, Where::Named(names)) => {
                for name in names {
                    if feasible.len() >= among.wanted {
                        break;
                    }
                    if let Some(node) = self.fleet.node(name) {
                        ask(node, &mut feasible)?;
                    }
                }
            }
            (None, Where::NamedOrOffering(names, resources, start)) => {
                let mut named = names.filter_map(|name| self.fleet.node(name)).fuse();
                let mut offering = self.fleet.offering(resources, *start).fuse();
                let mut asked = HashSet::new();
                loop {
                    let pair = [named.next(), offering.next()];
                    if pair == [None, None] || feasible.len() >= among.wanted {
                        break;
                    }
                    for node in pair.into_iter().flatten() {
                        if feasible.len() < among.wanted && asked.insert(node) {
                            ask(node, &mut feasible)?;
                        }
                    }
                }
            }
            (None, Where::All(start)) => {
                let nodes = self.fleet.node_bound();
                let start = *start % nodes.max(1);
                for node in (start..nodes).chain(0..start) {
                    if feasible.len() >= among.wanted {
                        break;
                    }
                    ask(node as u32, &mut feasible)?;
                }
            }
        }
        if let Some(best) = self.best_admitted(class, feasible, among.weight, random) {
            return Some(Ok(best));
        }
        let told: usize = refused.iter().map(|(_, nodes)| nodes).sum();
        let mut counting = Counting::default();
        let mut passing = 0;
        for group in self.groups(class, &look, &against, named.as_deref()) {
            let nodes = usize::try_from(group.nodes).unwrap_or(usize::MAX);
            passing += if group.why.is_none() { nodes } else { 0 };
            counting.count_group(&self.fleet, class, group.why, group.state, nodes);
        }
        if let Some(named) = &named {
            counting.elsewhere(self.fleet.present() - named.len());
        }
        for (why, nodes) in refused {
            counting.add_rejected(why, nodes, Plugin::DynamicResources);
        }
        let others = passing.saturating_sub(told);
        counting.add_rejected(among.otherwise, others, Plugin::DynamicResources);
        Some(Err(failed(counting.finish(&self.fleet))))
    }

    fn best_admitted(
        &self,
        class: &mut Class,
        mut feasible: Vec<Feasible>,
        weight: i64,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<NodeId> {
        let mut cells: Vec<(u32, u64)> = Vec::new();
        for one in &feasible {
            match cells.iter_mut().find(|(known, _)| *known == one.cell) {
                Some((_, nodes)) => *nodes += 1,
                None => cells.push((one.cell, 1)),
            }
        }
        let ratings = class.rate(&self.fleet, &cells);
        let dearest = feasible.iter().map(|one| one.worth).max()?;
        let total = |one: &Feasible| {
            let mut rated = cells.iter().zip(&ratings);
            let shares = rated.find(|((known, _), _)| *known == one.cell);
            let shares = shares.map_or(0, |(_, s)| s.as_ref().map_or(0, |s| s.total));
            shares + one.room + weight * normalise(one.worth, dearest)
        };
        let best = feasible.iter().map(&total).max()?;
        feasible.retain(|one| total(one) == best);
        let nth = below(feasible.len() as u64, random) as usize;
        feasible.get(nth).map(|one| NodeId(one.node))
    }
}

fn failed(why: crate::verdict::Unschedulable) -> PickError {
    PickError::Unschedulable(Arc::new(why))
}

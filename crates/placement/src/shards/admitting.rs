//! The pick where somebody else has a say (`among.rs`), with nodes in shards.
//!
//! Candidates are asked about by name, some at once; whoever admits sees labels, which the coordinator has. Does not
//! know what is admitted, or why.

use super::choose::{Nothing, Rated};
use super::views::CellView;
use super::words::{Answer, Level, Looked, Order, Stands};
use super::{ASKS_AT_ONCE, Coordinator, Links, Lost};
use crate::among::{Admission, Among, Asked, Where};
use crate::asks::Names;
use crate::class::Class;
use crate::cluster::{ClassId, NodeId};
use crate::key::PodKey;
use crate::objects::VolumeReason;
use crate::pick::{PickError, below};
use crate::rules::normalise;
use crate::verdict::{Plugin, Unschedulable};
use crate::volumes::Against;
use hashbrown::HashSet;
use std::sync::Arc;

/// Nobody is admitted any more.
struct Stopped;

/// What candidates came to so far.
#[derive(Default)]
struct Asking {
    seen: HashSet<u32>,
    feasible: Vec<(NodeId, i64, i64, CellView)>,
    refused: Vec<(&'static str, usize)>,
    failures: Vec<Unschedulable>,
}

/// What a question about a node rests on.
struct Ground {
    class: ClassId,
    look: Looked,
    against: Option<Against>,
}

impl<L: Links> Coordinator<L> {
    /// As [`crate::Cluster::pick_admitted`].
    pub fn pick_admitted(
        &mut self,
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        mut among: Among<'_>,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<Result<NodeId, PickError>> {
        let Some(current) = self.brain.take_class(class) else {
            return Some(Err(PickError::UnknownClass));
        };
        let nomination = self.in_view.get(&pod).cloned();
        if let Some(nomination) = &nomination {
            self.claim(pod, nomination, false);
        }
        let in_view = nomination.as_ref().map(|n| &*n.node);
        let found = self.choose_admitted(class, &current, in_view, pin, &mut among, random);
        if let Some(nomination) = &nomination {
            self.claim(pod, nomination, true);
        }
        self.brain.put_back(class, current);
        match found {
            Ok(found) => found.map(Ok),
            Err(nothing) => Some(Err(nothing.into())),
        }
    }

    fn choose_admitted(
        &mut self,
        id: ClassId,
        class: &Class,
        in_view: Option<&str>,
        pin: Option<&str>,
        among: &mut Among<'_>,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Option<NodeId>, Nothing> {
        let failed = |why| Nothing::Unschedulable(Arc::new(why));
        let named: Option<Vec<Box<str>>> = match (class.pinned(pin), &class.names) {
            (_, Names::Contradiction) => return Err(failed(self.brain.contradiction())),
            _ if class.waits_for_volumes() || class.waits_for_devices() => {
                return Err(failed(self.brain.obstacle(class)));
            }
            (Some(name), _) => Some(vec![name.into()]),
            (None, Names::Only(names)) => Some(names.to_vec()),
            (None, Names::Any) => None,
        };
        let ground = Ground {
            class: id,
            look: self.look_for_shards(id, class)?,
            against: self.barred(class),
        };
        let mut asking = Asking::default();
        let in_view = in_view.filter(|name| {
            let mut named = named.iter().flatten();
            class.names_any(pin) || named.any(|known| **known == **name)
        });
        if let Some(name) = in_view {
            let one = [Box::<str>::from(name)];
            if self
                .ask_about(&ground, &one, 1, among, &mut asking)?
                .is_err()
            {
                return Ok(None);
            }
            if let Some((node, ..)) = asking.feasible.first() {
                return Ok(Some(*node));
            }
        }
        let stopped = match &named {
            Some(names) => self.ask_about(&ground, names, usize::MAX, among, &mut asking)?,
            None => self.ask_all_of(&ground, among, &mut asking)?,
        };
        if stopped.is_err() {
            return Ok(None);
        }
        if let Some(best) = self.best_admitted(id, class, &asking, among.weight, random) {
            return Ok(Some(best));
        }
        let told: usize = asking.refused.iter().map(|(_, nodes)| nodes).sum();
        let (mut why, passing) = match &named {
            Some(names) => {
                let there = names.iter().filter(|name| self.brain.node(name).is_some());
                let elsewhere = self.nodes() - there.count();
                let failures = std::mem::take(&mut asking.failures);
                (self.add_up(failures, Some(elsewhere)), told)
            }
            None => {
                let why = self.reasons(id, class, ground.against.as_ref())?;
                (why, self.count_feasible(id, class)?)
            }
        };
        let others = passing.saturating_sub(told);
        for (text, nodes) in asking
            .refused
            .into_iter()
            .chain([(among.otherwise, others)])
            .filter(|(_, nodes)| *nodes > 0)
        {
            why.add(text, nodes, Plugin::DynamicResources);
        }
        Err(failed(why))
    }

    /// Candidates that are not named by the class, until enough are found.
    fn ask_all_of(
        &mut self,
        ground: &Ground,
        among: &mut Among<'_>,
        asking: &mut Asking,
    ) -> Result<Result<(), Stopped>, Lost> {
        let mut next = 0;
        let mut offering = match &among.candidates {
            Where::NamedOrOffering(_, resources, start) => {
                let offering = self.brain.fleet.offering(resources, *start);
                offering.collect::<Vec<u32>>().into_iter()
            }
            _ => Vec::new().into_iter(),
        };
        while asking.feasible.len() < among.wanted {
            let piece: Vec<Box<str>> = match &mut among.candidates {
                Where::NamedOrOffering(names, ..) => {
                    let name = |node| Some(self.brain.node_name(NodeId(node))?.into());
                    let mut piece = Vec::new();
                    while piece.len() + 2 <= ASKS_AT_ONCE {
                        let named = names.next().map(Into::into);
                        let pair = [named, offering.next().and_then(name)];
                        if pair == [None, None] {
                            break;
                        }
                        piece.extend(pair.into_iter().flatten());
                    }
                    piece
                }
                Where::Named(names) => names.take(ASKS_AT_ONCE).map(Into::into).collect(),
                Where::All(start) => {
                    let nodes = self.brain.fleet.node_bound();
                    let begin = *start % nodes.max(1);
                    let left = (next..nodes).take(ASKS_AT_ONCE);
                    let left: Vec<usize> = left.collect();
                    next += left.len();
                    // All that is left may be numbers without a node.
                    if left.is_empty() {
                        break;
                    }
                    let numbers = left.iter().map(|at| (begin + at) % nodes);
                    let names = numbers
                        .filter_map(|node| self.brain.node_name(NodeId(node as u32)))
                        .map(Into::into);
                    let names: Vec<Box<str>> = names.collect();
                    if names.is_empty() {
                        continue;
                    }
                    names
                }
            };
            if piece.is_empty() {
                break;
            }
            let wanted = among.wanted;
            if let Err(stopped) = self.ask_about(ground, &piece, wanted, among, asking)? {
                return Ok(Err(stopped));
            }
        }
        Ok(Ok(()))
    }

    /// Asks shards about nodes, and whoever admits about those that pass.
    fn ask_about(
        &mut self,
        ground: &Ground,
        names: &[Box<str>],
        wanted: usize,
        among: &mut Among<'_>,
        asking: &mut Asking,
    ) -> Result<Result<(), Stopped>, Lost> {
        let mut nodes: Vec<NodeId> = Vec::new();
        let mut orders: Vec<(usize, Order)> = Vec::new();
        for name in names {
            let (Some(node), Some(home)) = (self.brain.node(name), self.home(name)) else {
                continue;
            };
            if !asking.seen.insert(node.0) {
                continue;
            }
            let bits = ground.against.as_ref().map_or(0, |a| a.node(node.0));
            let look = ground.look.clone();
            let order = Order::Where(ground.class.slot, name.clone(), look, bits);
            nodes.push(node);
            orders.push((home, order));
        }
        for (node, answer) in nodes.into_iter().zip(self.ask_all(orders)?) {
            if asking.feasible.len() >= wanted {
                break;
            }
            let (facts, room) = match answer {
                Answer::Stands(Stands::Feasible { facts, room, .. }) => (facts, room),
                Answer::Stands(Stands::Rejected(why)) => {
                    asking.failures.push(why);
                    continue;
                }
                _ => return Err(Lost),
            };
            match (among.admit)(Asked::new(&self.brain.fleet, node.0)) {
                Admission::Stop => return Ok(Err(Stopped)),
                Admission::No(why) => {
                    match asking.refused.iter_mut().find(|(known, _)| *known == why) {
                        Some((_, nodes)) => *nodes += 1,
                        None => asking.refused.push((why, 1)),
                    }
                }
                Admission::Yes(worth) => {
                    let level = Level {
                        top: room,
                        top_nodes: 1,
                        nodes: 1,
                    };
                    let cell = self.views.cell(&facts, level);
                    asking.feasible.push((node, room, worth, cell));
                }
            }
        }
        Ok(Ok(()))
    }

    fn best_admitted(
        &self,
        id: ClassId,
        class: &Class,
        asking: &Asking,
        weight: i64,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<NodeId> {
        let dearest = asking.feasible.iter().map(|one| one.2).max()?;
        let cells = (0..).zip(&asking.feasible);
        let cells: Vec<(usize, u32, &CellView)> =
            cells.map(|(at, (.., cell))| (0, at, cell)).collect();
        let look = self.look(id, class);
        let rated = self.rate(class, &look, &cells);
        let of = |one: &Rated| asking.feasible.get(one.cell as usize);
        let total = |one: &Rated| {
            let worth = of(one).map_or(0, |one| one.2);
            one.total() + weight * normalise(worth, dearest)
        };
        let best = rated.iter().map(total).max()?;
        let tied: Vec<&Rated> = rated.iter().filter(|one| total(one) == best).collect();
        let nth = below(tied.len() as u64, random) as usize;
        tied.get(nth).and_then(|one| of(one)).map(|one| one.0)
    }

    /// What speaks against nodes for evicting pods: nodes that are not admitted, too.
    pub(crate) fn not_admitted(
        &mut self,
        class: &Class,
        admit: Option<&mut dyn FnMut(Asked<'_>) -> Admission>,
    ) -> Option<Against> {
        let mut against = self.barred(class);
        let Some(admit) = admit else {
            return against;
        };
        for node in self.brain.fleet.existing() {
            if let Admission::No(_) = admit(Asked::new(&self.brain.fleet, node)) {
                let against = against.get_or_insert_with(Against::default);
                against.add(node, 1 << VolumeReason::Devices as u8);
            }
        }
        against
    }
}

impl Class {
    /// Is it for any node, pin or not?
    fn names_any(&self, pin: Option<&str>) -> bool {
        self.pinned(pin).is_none() && matches!(self.names, Names::Any)
    }
}

impl Unschedulable {
    /// So many more nodes are rejected for that reason.
    fn add(&mut self, text: &str, nodes: usize, plugin: Plugin) {
        match self
            .reasons
            .binary_search_by(|(known, _)| known.as_str().cmp(text))
        {
            Ok(at) => self.reasons[at].1 += nodes,
            Err(at) => self.reasons.insert(at, (text.to_owned(), nodes)),
        }
        self.rejected_by = self.rejected_by.with(plugin);
    }
}

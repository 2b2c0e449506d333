//! The choice of a node among the cells all shards told of.
//!
//! Rates with the code one cluster uses, within sums over all shards. Does not know loads.

use super::views::CellView;
use super::words::{Answer, Looked, Order, Stands, Take};
use super::{Coordinator, Links, Lost};
use crate::asks::Names;
use crate::class::{Class, Dynamic, Shares};
use crate::cluster::{ClassId, NodeId};
use crate::company::{Candidate, Look};
use crate::key::PodKey;
use crate::pick::{Explanation, PickError, below, scores};
use crate::verdict::Unschedulable;
use std::sync::Arc;

/// How often an order is given again because something happened at the shard meanwhile.
pub(crate) const TRIES_MAX: usize = 8;

/// A cell with room and what it scores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rated {
    pub(crate) shard: usize,
    pub(crate) cell: u32,
    pub(crate) shares: Shares,
    pub(crate) top: i64,
    pub(crate) top_nodes: u64,
    /// All nodes with room, where they are counted.
    pub(crate) nodes: u64,
}

impl Rated {
    pub(crate) fn total(&self) -> i64 {
        self.shares.total + self.top
    }
}

/// No node, or no answer.
#[derive(Debug)]
pub(crate) enum Nothing {
    Lost,
    Unschedulable(Arc<Unschedulable>),
}

impl From<Lost> for Nothing {
    fn from(_: Lost) -> Nothing {
        Nothing::Lost
    }
}

impl From<Nothing> for PickError {
    fn from(nothing: Nothing) -> PickError {
        match nothing {
            Nothing::Lost => PickError::UnknownClass,
            Nothing::Unschedulable(why) => PickError::Unschedulable(why),
        }
    }
}

impl<L: Links> Coordinator<L> {
    /// As [`crate::Cluster::pick`]. Where a shard was lost meanwhile it is [`PickError::UnknownClass`], as for any class
    /// that is to be asked for again; see [`Coordinator::must_list`].
    pub fn pick(
        &mut self,
        class: ClassId,
        pin: Option<&str>,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<NodeId, PickError> {
        let mut current = self
            .brain
            .take_class(class)
            .ok_or(PickError::UnknownClass)?;
        let picked = self.pick_taken(class, &mut current, pin, random);
        self.brain.put_back(class, current);
        Ok(picked?)
    }

    fn pick_taken(
        &mut self,
        id: ClassId,
        class: &mut Class,
        pin: Option<&str>,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<NodeId, Nothing> {
        match (class.pinned(pin), &class.names) {
            (_, Names::Contradiction) => {
                let why = Arc::new(self.brain.contradiction());
                Err(Nothing::Unschedulable(why))
            }
            _ if class.waits_for_volumes() || class.waits_for_devices() => {
                let why = self.brain.obstacle(class);
                Err(Nothing::Unschedulable(Arc::new(why)))
            }
            (Some(name), _) => self.pick_named(id, class, &[name.into()], random),
            (None, Names::Only(names)) => {
                let names = names.clone();
                self.pick_named(id, class, &names, random)
            }
            (None, Names::Any) => match self.barred(class) {
                Some(against) => self.take_sifted(id, class, &against, random),
                None => self.take_best(id, class, None, random),
            },
        }
    }

    /// As [`crate::Cluster::pick_for`].
    pub fn pick_for(
        &mut self,
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<NodeId, PickError> {
        let Some(nomination) = self.in_view.get(&pod).cloned() else {
            return self.pick(class, pin, random);
        };
        // Its own claim is no obstacle to itself.
        self.claim(pod, &nomination, false);
        self.brain.attached.left_out = Some(pod);
        let name = &*nomination.node;
        let pin_asked = self.brain.class(class).and_then(|class| class.pinned(pin));
        let allowed = pin_asked.is_none_or(|pin| pin == name);
        let node = self.brain.node(name).filter(|_| allowed);
        let picked = match node {
            Some(node) if self.fits(class, node) == Some(true) => Ok(node),
            _ => self.pick(class, pin, random),
        };
        self.claim(pod, &nomination, true);
        self.brain.attached.left_out = None;
        picked
    }

    /// The best node, and the pod on it if one is named.
    pub(crate) fn take_best(
        &mut self,
        id: ClassId,
        class: &mut Class,
        pod: Option<PodKey>,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<NodeId, Nothing> {
        for _ in 0..TRIES_MAX {
            let ranked = self.rank(id, class)?;
            let Some(best) = ranked.iter().map(Rated::total).max() else {
                return Err(self.why_none(id, class));
            };
            let tied: Vec<&Rated> = ranked.iter().filter(|r| r.total() == best).collect();
            let mut nth = below(tied.iter().map(|r| r.top_nodes).sum(), random);
            let mut drawn = tied.first().copied();
            for rated in tied {
                drawn = Some(rated);
                if nth < rated.top_nodes {
                    break;
                }
                nth -= rated.top_nodes;
            }
            let Some(&Rated { shard, cell, .. }) = drawn else {
                break;
            };
            let generation = self.views.of(id, shard).map_or(0, |view| view.generation);
            let take = Take {
                class: id.slot,
                generation,
                cell,
                nth,
                pod,
            };
            let Answer::Taken(name, told) = self.ask(shard, Order::Take(take))? else {
                self.lose(shard);
                return Err(Nothing::Lost);
            };
            if pod.is_some() && name.is_some() {
                self.version += 1;
                self.members[shard].touched += 1;
            }
            self.note(id, shard, &told)?;
            if let Some(name) = name
                && let Some(node) = self.brain.node(&name)
            {
                if let Some(pod) = pod {
                    self.note_placed(pod, class.kind, &name, shard);
                }
                return Ok(node);
            }
        }
        Err(Nothing::Lost)
    }

    /// All cells that pass, rated.
    pub(crate) fn rank(&mut self, id: ClassId, class: &Class) -> Result<Vec<Rated>, Lost> {
        self.refresh(id, class)?;
        let look = self.look(id, class);
        let mut cells: Vec<(usize, u32, &CellView)> = Vec::new();
        for shard in self.alive() {
            if let Some(view) = self.views.of(id, shard) {
                cells.extend(view.there().map(|(at, cell)| (shard, at, cell)));
            }
        }
        Ok(self.rate(class, &look, &cells))
    }

    /// The sums of all shards, as rules look at them. What shards told must be fresh.
    pub(crate) fn look(&self, id: ClassId, class: &Class) -> Look {
        if class.company.is_empty() {
            return Look::default();
        }
        let sums = self.sums(id);
        sums.map_or_else(Look::default, |sums| {
            sums.look(&class.company, &self.brain.hashing)
        })
    }

    /// The same for shards.
    pub(crate) fn looked(&self, id: ClassId, class: &Class) -> Looked {
        if class.company.is_empty() {
            return None;
        }
        let sums = self.sums(id)?;
        Some(Arc::new(self.views.texts(&sums)))
    }

    /// Rates cells against one another; those that are refused are left out.
    pub(crate) fn rate(
        &self,
        class: &Class,
        look: &Look,
        cells: &[(usize, u32, &CellView)],
    ) -> Vec<Rated> {
        let company = &class.company;
        let tallies = company.tallies();
        let passing: Vec<&(usize, u32, &CellView)> = cells
            .iter()
            .filter(|(.., cell)| {
                if company.is_empty() {
                    return true;
                }
                let coming = cell.coming.iter().filter_map(|&(at, pods)| {
                    let tally = tallies.get(at as usize)?;
                    Some((*tally, pods))
                });
                let coming: Vec<(u32, i64)> = coming.collect();
                let refused = |coming| company.refuses(look, &candidate(cell, coming)).is_some();
                !(cell.claimed && refused(&coming) || refused(&[]))
            })
            .collect();
        let candidates: Vec<Candidate<'_>> = passing
            .iter()
            .map(|(.., cell)| candidate(cell, &[]))
            .collect();
        let raw = company.raw_scores(look, &candidates);
        let standings = || passing.iter().map(|(.., cell)| &cell.standing);
        let shares = class.weigh(&self.brain.fleet, standings, &raw);
        let rated = passing.iter().zip(shares);
        rated
            .map(|((shard, cell, view), shares)| Rated {
                shard: *shard,
                cell: *cell,
                shares,
                top: view.level.top,
                top_nodes: view.level.top_nodes,
                nodes: view.level.nodes,
            })
            .collect()
    }

    /// Only these nodes are asked.
    fn pick_named(
        &mut self,
        id: ClassId,
        class: &mut Class,
        names: &[Box<str>],
        random: &mut dyn FnMut() -> u64,
    ) -> Result<NodeId, Nothing> {
        let look = self.look_for_shards(id, class)?;
        let there = names.iter().filter(|name| self.brain.node(name).is_some());
        let there: Vec<&Box<str>> = there.collect();
        let against = self.barred(class);
        let orders = there.iter().filter_map(|&name| {
            let node = self.brain.node(name)?;
            let bits = against.as_ref().map_or(0, |against| against.node(node.0));
            let order = Order::Where(id.slot, name.clone(), look.clone(), bits);
            Some((self.home(name)?, order))
        });
        let orders: Vec<_> = orders.collect();
        let mut failures: Vec<Unschedulable> = Vec::new();
        let mut found: Vec<(&str, i64, CellView)> = Vec::new();
        for (&name, answer) in there.iter().zip(self.ask_all(orders)?) {
            match answer {
                Answer::Stands(Stands::Feasible { facts, room, .. }) => {
                    let level = super::words::Level {
                        top: room,
                        top_nodes: 1,
                        nodes: 1,
                    };
                    found.push((name, room, self.views.cell(&facts, level)));
                }
                Answer::Stands(Stands::Rejected(why)) => failures.push(why),
                _ => return Err(Nothing::Lost),
            }
        }
        let cells: Vec<(usize, u32, &CellView)> = found
            .iter()
            .zip(0..)
            .map(|((.., view), at)| (0, at, view))
            .collect();
        let look = self.look(id, class);
        let rated = self.rate(class, &look, &cells);
        if let Some(best) = rated.iter().map(Rated::total).max() {
            let tied: Vec<&Rated> = rated.iter().filter(|r| r.total() == best).collect();
            let nth = below(tied.len() as u64, random) as usize;
            let drawn = tied.get(nth).and_then(|r| found.get(r.cell as usize));
            if let Some(node) = drawn.and_then(|(name, ..)| self.brain.node(name)) {
                return Ok(node);
            }
        }
        let elsewhere = self.nodes() - there.len();
        let why = self.add_up(failures, Some(elsewhere));
        Err(Nothing::Unschedulable(Arc::new(why)))
    }

    /// The sums as shards need them. Classes without company need none, and their shards are not asked.
    pub(crate) fn look_for_shards(&mut self, id: ClassId, class: &Class) -> Result<Looked, Lost> {
        if class.company.is_empty() {
            self.define(id, class);
            if self.must_list().is_some() || self.alive().is_empty() {
                return Err(Lost);
            }
            return Ok(None);
        }
        self.refresh(id, class)?;
        Ok(self.looked(id, class))
    }

    fn stands(&mut self, id: ClassId, class: &Class, node: NodeId) -> Result<Stands, Lost> {
        let look = self.look_for_shards(id, class)?;
        let name: Box<str> = self.brain.node_name(node).ok_or(Lost)?.into();
        let home = self.home(&name).ok_or(Lost)?;
        let bits = self.brain.bits_of(class, node.0);
        match self.ask(home, Order::Where(id.slot, name, look, bits))? {
            Answer::Stands(stands) => Ok(stands),
            _ => Err(Lost),
        }
    }

    /// As [`crate::Cluster::fits`].
    pub fn fits(&mut self, class: ClassId, node: NodeId) -> Option<bool> {
        self.brain.node_name(node)?;
        let current = self.brain.take_class(class)?;
        let stands = self.stands(class, &current, node);
        self.brain.put_back(class, current);
        Some(matches!(stands.ok()?, Stands::Feasible { .. }))
    }

    /// As [`crate::Cluster::feasible`].
    pub fn feasible(&mut self, class: ClassId) -> Option<usize> {
        let current = self.brain.take_class(class)?;
        let counted = self.count_feasible(class, &current);
        self.brain.put_back(class, current);
        counted.ok()
    }

    pub(crate) fn count_feasible(&mut self, id: ClassId, class: &Class) -> Result<usize, Lost> {
        if let Some(against) = self.barred(class) {
            return self.count_sifted(id, class, &against);
        }
        self.doubt();
        let ranked = self.rank(id, class)?;
        let mut orders: Vec<(usize, Order)> = Vec::new();
        for shard in self.alive() {
            let cells = ranked.iter().filter(|rated| rated.shard == shard);
            let cells: Vec<u32> = cells.map(|rated| rated.cell).collect();
            orders.push((shard, Order::Count(id.slot, cells)));
        }
        let answers = self.ask_all(orders)?.into_iter();
        let nodes = answers.map(|answer| match answer {
            Answer::Number(nodes) => nodes as usize,
            _ => 0,
        });
        Ok(nodes.sum())
    }

    /// As [`crate::Cluster::explain`].
    pub fn explain(&mut self, class: ClassId, node: NodeId) -> Option<Explanation> {
        self.brain.node_name(node)?;
        let current = self.brain.take_class(class)?;
        let explained = self.explain_taken(class, &current, node);
        self.brain.put_back(class, current);
        explained.ok()
    }

    fn explain_taken(
        &mut self,
        id: ClassId,
        class: &Class,
        node: NodeId,
    ) -> Result<Explanation, Lost> {
        self.doubt();
        let ranked = match self.barred(class) {
            Some(against) => {
                let barred = self.barred_of(Some(&against));
                self.rank_sifted(id, class, &barred)?
            }
            None => self.rank(id, class)?,
        };
        let home = self.brain.node_name(node).and_then(|name| self.home(name));
        Ok(match self.stands(id, class, node)? {
            Stands::Feasible {
                cell,
                fit,
                balanced,
                room,
                ..
            } => {
                let mut own = ranked.iter();
                let own = own.find(|r| Some(r.shard) == home && r.cell == cell);
                let room = Dynamic {
                    fit,
                    balanced,
                    room,
                };
                Explanation::Feasible(scores(&own.ok_or(Lost)?.shares, &room))
            }
            Stands::Rejected(why) => {
                let texts = why.reasons.into_iter().map(|(text, _)| text);
                Explanation::Rejected(texts.collect())
            }
            Stands::Unknown => return Err(Lost),
        })
    }

    /// As [`crate::Cluster::audit`]: every shard looks at every state.
    pub fn audit(&mut self, class: ClassId, node: NodeId) -> Option<bool> {
        self.brain.node_name(node)?;
        if self.brain.class(class)?.minds_volumes() {
            return None;
        }
        let current = self.brain.take_class(class)?;
        let audited = self.audit_taken(class, &current, node);
        self.brain.put_back(class, current);
        audited.ok()
    }

    fn audit_taken(&mut self, id: ClassId, class: &Class, node: NodeId) -> Result<bool, Lost> {
        // Makes the class known; what was told is not used.
        self.refresh(id, class)?;
        let alive = self.alive();
        let orders = alive.iter().map(|&shard| (shard, Order::Scan(id.slot)));
        let answers = self.ask_all(orders.collect())?;
        let views = alive
            .iter()
            .zip(answers)
            .filter_map(|(shard, answer)| match answer {
                Answer::Told(told) => Some((*shard, self.views.fresh(&told))),
                _ => None,
            });
        let views: Vec<_> = views.collect();
        let look = super::words::Part::sum(views.iter().map(|(_, view)| &view.part));
        let look = look.filter(|_| !class.company.is_empty());
        let look = look.map_or_else(Look::default, |sums| {
            sums.look(&class.company, &self.brain.hashing)
        });
        let cells = views.iter().flat_map(|(shard, view)| {
            let there = view.there();
            there.map(|(at, cell)| (*shard, at, cell))
        });
        let cells: Vec<_> = cells.collect();
        let rated = self.rate(class, &look, &cells);
        let best = rated.iter().map(Rated::total).max();
        let home = self.brain.node_name(node).and_then(|name| self.home(name));
        let Stands::Feasible { cell, room, .. } = self.stands(id, class, node)? else {
            return Ok(false);
        };
        let mut own = rated.iter();
        let own = own.find(|r| Some(r.shard) == home && r.cell == cell);
        Ok(own.is_some_and(|own| Some(own.shares.total + room) == best))
    }
}

fn candidate<'a>(cell: &'a CellView, coming: &'a [(u32, i64)]) -> Candidate<'a> {
    Candidate {
        domains: &cell.standing.domains,
        counted: cell.standing.counted,
        own: &cell.own,
        coming,
        nodes: cell.level.nodes,
    }
}

//! Volumes, where nodes are in shards: what speaks against single nodes is found out by the coordinator, and travels
//! with the questions.
//!
//! The coordinator knows claims, volumes, labels of nodes, and the pods that use volumes; shards know none of it.
//! Who is in the way of volumes, and so what evicting helps against, travels with the question who would have to go.

use super::choose::{Nothing, Rated};
use super::coordinator::owner;
use super::telling::{cell_of, scan};
use super::views::View;
use super::words::{Answer, Order, Told};
use super::{Coordinator, Links, Lost};
use crate::class::Class;
use crate::cluster::{ClassId, Cluster, NodeId};
use crate::key::PodKey;
use crate::objects::{PodInfo, PodSpec, Volumes};
use crate::pick::below;
use crate::storage::{Bindings, Concerned, Thing, ThingKind};
use crate::volumes::{Against, VolumeBits};
use hashbrown::HashMap;
use std::sync::Arc;

/// What speaks against nodes of one shard, by name; bits as of [`crate::volumes`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Barred {
    pub(crate) everywhere: VolumeBits,
    pub(crate) some: Vec<(Box<str>, VolumeBits)>,
}

impl Barred {
    /// The same in a shard's numbers.
    pub(crate) fn against(&self, cluster: &Cluster) -> Against {
        let known = self.some.iter().filter_map(|(name, bits)| {
            let node = cluster.fleet.node(name)?;
            Some((node, *bits))
        });
        Against::of(self.everywhere, known)
    }
}

/// A class as shards need it: what is told by single nodes is left out.
pub(crate) fn for_shards(spec: &PodSpec) -> PodSpec {
    let mut spec = spec.clone();
    let Volumes {
        obstacle, rules, ..
    } = spec.volumes;
    spec.volumes = Volumes {
        obstacle,
        rules,
        ..Volumes::default()
    };
    spec.devices.ask = 0;
    spec
}

// ---- the shard's part

impl Cluster {
    /// As [`scan`], leaving out nodes that something speaks against.
    pub(crate) fn sift(&mut self, id: ClassId, barred: &Barred) -> Option<Told> {
        let against = barred.against(self);
        scan(self, id, &against)
    }

    /// The `nth` node with that score of room of a cell as [`Cluster::sift`] told it.
    pub(crate) fn draw(
        &mut self,
        id: ClassId,
        barred: &Barred,
        (cell, room, mut nth): (u32, i64, u64),
    ) -> Option<Box<str>> {
        let against = barred.against(self);
        let mut class = self.take_class(id)?;
        let mut drawn = None;
        for state in self.fleet.live() {
            let known = cell_of(&mut class, &self.fleet, state);
            if !known.is_some_and(|(known, score)| known == cell && score.room == room) {
                continue;
            }
            let members = self.fleet.members(state).iter();
            let mut left = members.filter(|node| against.node(**node) == 0);
            let there = left.clone().count() as u64;
            if nth < there {
                drawn = left.nth(nth as usize).copied();
                break;
            }
            nth -= there;
        }
        self.put_back(id, class);
        Some(self.fleet.node_name(drawn?)?.into())
    }
}

// ---- the coordinator's

impl<L: Links> Coordinator<L> {
    /// As [`Cluster::note_thing`].
    pub fn note_thing(&mut self, key: &str, thing: Thing) -> Vec<Concerned> {
        self.brain.note_thing(key, thing)
    }

    /// As [`Cluster::forget_thing`].
    pub fn forget_thing(&mut self, kind: ThingKind, key: &str) -> Vec<Concerned> {
        self.brain.forget_thing(kind, key)
    }

    /// As [`Cluster::volumes_of`].
    pub fn volumes_of(&self, pod: &PodInfo) -> Volumes {
        self.brain.volumes_of(pod)
    }

    /// As [`Cluster::take_volumes`].
    pub fn take_volumes(&mut self, pod: PodKey, class: ClassId, node: NodeId) -> Option<Bindings> {
        self.brain.take_volumes(pod, class, node)
    }

    /// As [`Cluster::give_back_volumes`].
    pub fn give_back_volumes(&mut self, pod: PodKey) -> bool {
        self.brain.give_back_volumes(pod)
    }

    /// Is there nothing about pods of the class that has to be settled one by one? Only such pods are for
    /// [`Coordinator::place_run`].
    pub fn is_plain(&self, class: ClassId) -> bool {
        let class = self.brain.class(class);
        class.is_some_and(|class| !class.minds_volumes())
    }

    /// What speaks against nodes for the volumes of a class; `None` where nothing does.
    pub(crate) fn barred(&mut self, class: &Class) -> Option<Against> {
        let against = self.brain.against(class);
        (!against.is_empty()).then_some(against)
    }

    /// The same for each shard that is there.
    pub(crate) fn barred_of(&self, against: Option<&Against>) -> HashMap<usize, Arc<Barred>> {
        let mut barred: HashMap<usize, Barred> = HashMap::new();
        let Some(against) = against else {
            return HashMap::new();
        };
        let alive = self.alive();
        for &shard in &alive {
            barred.entry(shard).or_default().everywhere = against.everywhere();
        }
        for (node, bits) in against.some() {
            if let Some(name) = self.brain.fleet.node_name(node)
                && let Some(home) = owner(name, &alive)
            {
                let some = &mut barred.entry(home).or_default().some;
                some.push((name.into(), bits));
            }
        }
        let barred = barred.into_iter();
        barred
            .map(|(shard, mut barred)| {
                barred.some.sort_unstable();
                (shard, Arc::new(barred))
            })
            .collect()
    }

    /// What shards tell of their nodes that nothing speaks against.
    fn sift(
        &mut self,
        id: ClassId,
        barred: &HashMap<usize, Arc<Barred>>,
    ) -> Result<Vec<(usize, View)>, Lost> {
        let orders = barred
            .iter()
            .map(|(&shard, barred)| (shard, Order::Sift(id.slot, barred.clone())));
        let orders: Vec<(usize, Order)> = orders.collect();
        let shards: Vec<usize> = orders.iter().map(|(shard, _)| *shard).collect();
        let mut views = Vec::new();
        for (shard, answer) in shards.into_iter().zip(self.ask_all(orders)?) {
            let Answer::Told(told) = answer else {
                self.lose(shard);
                return Err(Lost);
            };
            views.push((shard, self.views.fresh(&told)));
        }
        // In no order that a hash table gives.
        views.sort_unstable_by_key(|(shard, _)| *shard);
        Ok(views)
    }

    /// Cells of what [`Coordinator::sift`] told that pass, rated.
    pub(crate) fn rank_sifted(
        &mut self,
        id: ClassId,
        class: &Class,
        barred: &HashMap<usize, Arc<Barred>>,
    ) -> Result<Vec<Rated>, Lost> {
        self.refresh(id, class)?;
        let views = self.sift(id, barred)?;
        let cells = views.iter().flat_map(|(shard, view)| {
            let there = view.there();
            there.map(|(at, cell)| (*shard, at, cell))
        });
        let cells: Vec<_> = cells.collect();
        let look = self.look(id, class);
        Ok(self.rate(class, &look, &cells))
    }

    /// As `take_best`, among nodes that nothing speaks against.
    pub(crate) fn take_sifted(
        &mut self,
        id: ClassId,
        class: &mut Class,
        against: &Against,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<NodeId, Nothing> {
        let barred = self.barred_of(Some(against));
        let ranked = self.rank_sifted(id, class, &barred)?;
        let Some(best) = ranked.iter().map(Rated::total).max() else {
            let why = self.reasons(id, class, Some(against))?;
            return Err(Nothing::Unschedulable(Arc::new(why)));
        };
        let tied = ranked.iter().filter(|rated| rated.total() == best);
        let tied: Vec<&Rated> = tied.collect();
        let all = tied.iter().map(|rated| rated.top_nodes).sum();
        let mut nth = below(all, random);
        for rated in tied {
            if nth >= rated.top_nodes {
                nth -= rated.top_nodes;
                continue;
            }
            let own = barred.get(&rated.shard).cloned().unwrap_or_default();
            let order = Order::Draw(id.slot, own, rated.cell, rated.top, nth);
            let Answer::Named(Some(name)) = self.ask(rated.shard, order)? else {
                self.lose(rated.shard);
                break;
            };
            return self.brain.node(&name).ok_or(Nothing::Lost);
        }
        Err(Nothing::Lost)
    }

    /// How many nodes pass, of which nothing speaks against.
    pub(crate) fn count_sifted(
        &mut self,
        id: ClassId,
        class: &Class,
        against: &Against,
    ) -> Result<usize, Lost> {
        let barred = self.barred_of(Some(against));
        let ranked = self.rank_sifted(id, class, &barred)?;
        Ok(ranked.iter().map(|rated| rated.nodes as usize).sum())
    }
}

//! Runs of equal pods: given out to shards a level at a time.
//!
//! ```text
//!   rate cells ─► best level ─┬─ one shard has it ────► as many as it likes while better than all others
//!        ▲                    └─ several have it ─────► shared by chance, all at once
//!        └────── what each told after placing ◄────────┘
//! ```
//!
//! Does not know how cells are rated.

use super::choose::{Nothing, Rated};
use super::words::{Answer, Order, Run};
use super::{Coordinator, Links};
use crate::asks::Names;
use crate::class::Class;
use crate::cluster::{ClassId, NodeId};
use crate::key::PodKey;
use crate::pick::{PickError, below};
use hashbrown::HashSet;

/// Pods of one run; longer ones are given in pieces.
pub const RUN_MAX: usize = 512;

impl<L: Links> Coordinator<L> {
    /// Nodes for pods of one class, none of which has a node in view or is pinned to one; they are assumed there, in
    /// the order given back. An error only if none finds a node. Stops early where no node is left, or a shard is
    /// lost.
    pub fn place_run(
        &mut self,
        class: ClassId,
        pods: &[PodKey],
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Vec<(PodKey, NodeId)>, PickError> {
        let mut current = self
            .brain
            .take_class(class)
            .ok_or(PickError::UnknownClass)?;
        let simple = matches!(current.names, Names::Any)
            && !current.waits_for_volumes()
            && !current.waits_for_devices()
            && !current.minds_volumes();
        let mut placed: Vec<(PodKey, NodeId)> = Vec::with_capacity(pods.len());
        let mut rest: Vec<PodKey> = pods.to_vec();
        let mut result = Ok(());
        if simple {
            let alone = !current.company.is_empty();
            while let Some(&first) = rest.first()
                && result.is_ok()
            {
                let before = placed.len();
                result = if alone {
                    let one = self.take_best(class, &mut current, Some(first), random);
                    one.map(|node| placed.push((first, node)))
                } else {
                    let piece = &rest[..rest.len().min(RUN_MAX)];
                    self.round(class, &mut current, piece, random, &mut placed)
                };
                if let [(only, _)] = placed[before..] {
                    // Usually the first.
                    let at = rest.iter().position(|pod| *pod == only);
                    at.map(|at| rest.remove(at));
                } else {
                    let done: HashSet<PodKey> = placed[before..].iter().map(|p| p.0).collect();
                    rest.retain(|pod| !done.contains(pod));
                }
            }
        }
        self.brain.put_back(class, current);
        if !simple && let Some(&first) = pods.first() {
            let node = self.pick(class, None, random)?;
            self.assume(first, class, node);
            placed.push((first, node));
        }
        match result {
            Err(nothing) if placed.is_empty() => Err(nothing.into()),
            _ => Ok(placed),
        }
    }

    /// One level of a class that looks at no other pods. Places at least one pod, or says why not.
    fn round(
        &mut self,
        id: ClassId,
        class: &mut Class,
        pods: &[PodKey],
        random: &mut dyn FnMut() -> u64,
        placed: &mut Vec<(PodKey, NodeId)>,
    ) -> Result<(), Nothing> {
        let before = placed.len();
        for _ in 0..super::choose::TRIES_MAX {
            let ranked = self.rank(id, class)?;
            let Some(best) = ranked.iter().map(Rated::total).max() else {
                return Err(self.why_none(id, class));
            };
            let mut tied: Vec<(usize, u64)> = Vec::new();
            for rated in ranked.iter().filter(|r| r.total() == best) {
                match tied.last_mut() {
                    Some((shard, nodes)) if *shard == rated.shard => *nodes += rated.top_nodes,
                    _ => tied.push((rated.shard, rated.top_nodes)),
                }
            }
            if let [(shard, _)] = tied[..] {
                let others = ranked.iter().filter(|r| r.shard != shard);
                let second = others.map(Rated::total).max();
                let floor = second.map_or(i64::MIN, |second| second + 1);
                self.give(
                    id,
                    class,
                    &ranked,
                    &[(shard, pods)],
                    (floor, false),
                    random,
                    placed,
                )?;
            } else {
                let shares = share_out(pods, &tied, random);
                let shares: Vec<(usize, &[PodKey])> = shares
                    .iter()
                    .map(|(shard, pods)| (*shard, &pods[..]))
                    .collect();
                self.give(id, class, &ranked, &shares, (best, true), random, placed)?;
                // Nobody could without making others wrong: one alone, one step.
                if placed.len() == before {
                    let first = shares.iter().max_by_key(|(_, pods)| pods.len());
                    if let Some((shard, pods)) = first {
                        let one = [(*shard, &pods[..1])];
                        let ranked = self.rank(id, class)?;
                        self.give(id, class, &ranked, &one, (best, false), random, placed)?;
                    }
                }
            }
            if placed.len() > before {
                return Ok(());
            }
        }
        Err(Nothing::Lost)
    }

    /// Gives pods to shards, and takes note of where they went.
    #[expect(clippy::too_many_arguments)]
    fn give(
        &mut self,
        id: ClassId,
        class: &Class,
        ranked: &[Rated],
        shares: &[(usize, &[PodKey])],
        (floor, together): (i64, bool),
        random: &mut dyn FnMut() -> u64,
        placed: &mut Vec<(PodKey, NodeId)>,
    ) -> Result<(), Nothing> {
        let most = |raw: &dyn Fn(&Rated) -> i64| ranked.iter().map(raw).max().unwrap_or(0);
        let soft = most(&|r| r.shares.taint_raw);
        let preferred = most(&|r| r.shares.affinity_raw);
        // A cell whose raw score is the largest there is makes the scores of all others.
        let critical = |r: &Rated| {
            soft > 0 && r.shares.taint_raw == soft
                || preferred > 0 && r.shares.affinity_raw == preferred
        };
        let orders = shares.iter().map(|&(shard, pods)| {
            let own = ranked.iter().filter(|r| r.shard == shard);
            let run = Run {
                class: id.slot,
                generation: self.views.of(id, shard).map_or(0, |view| view.generation),
                totals: own.map(|r| (r.cell, r.shares.total, critical(r))).collect(),
                floor,
                together,
                seed: random(),
                pods: pods.to_vec(),
            };
            (shard, Order::Run(run))
        });
        let orders: Vec<(usize, Order)> = orders.collect();
        let answers = match self.ask_all(orders) {
            Ok(answers) => answers,
            Err(lost) => {
                // Those that did answer placed pods nobody knows of.
                for &(shard, pods) in shares {
                    self.unplace(shard, pods);
                }
                return Err(lost.into());
            }
        };
        for (&(shard, pods), answer) in shares.iter().zip(answers) {
            let Answer::Ran(names, told) = answer else {
                self.lose(shard);
                return Err(Nothing::Lost);
            };
            if !names.is_empty() {
                self.version += 1;
                self.members[shard].touched += 1;
            }
            for (pod, name) in pods.iter().zip(&names) {
                self.note_placed(*pod, class.kind, name, shard);
                placed.extend(self.brain.node(name).map(|node| (*pod, node)));
            }
            self.note(id, shard, &told)?;
        }
        Ok(())
    }
}

/// Each pod draws a node among all that are equally good, which is then gone. Pods stay in order within a shard.
fn share_out(
    pods: &[PodKey],
    tied: &[(usize, u64)],
    random: &mut dyn FnMut() -> u64,
) -> Vec<(usize, Vec<PodKey>)> {
    let mut left: Vec<u64> = tied.iter().map(|(_, nodes)| *nodes).collect();
    let mut all: u64 = left.iter().sum();
    let mut shares: Vec<(usize, Vec<PodKey>)> =
        tied.iter().map(|(shard, _)| (*shard, Vec::new())).collect();
    for &pod in pods {
        if all == 0 {
            break;
        }
        let mut nth = below(all, random);
        for ((_, share), left) in shares.iter_mut().zip(&mut left) {
            if nth < *left {
                share.push(pod);
                *left -= 1;
                all -= 1;
                break;
            }
            nth -= *left;
        }
    }
    shares.retain(|(_, share)| !share.is_empty());
    shares
}

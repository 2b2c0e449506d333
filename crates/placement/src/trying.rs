//! Trying out many nodes for a pod that preempts: each as upstream would, but one for all that are alike.
//!
//! Upstream's words hold: nodes are tried in an order that begins somewhere else each time, until there are enough
//! candidates and one of them violates no budget; the best is the first of those that cost least. What is saved is the
//! trying itself: nodes of one state whose pods are alike (see `rosters.rs`) differ only in when those pods started,
//! and that is asked only between nodes that cost the same otherwise.
//!
//! Does not know how one node is tried out.

use crate::class::Class;
use crate::cluster::Cluster;
use crate::company::Look;
use crate::pick::Counting;
use crate::preempt::{Potential, Sacrifice};
use crate::rosters::Rosters;
use crate::volumes::Against;
use std::cmp::{Ordering, Reverse};

/// What a node costs, but for when pods started: as `Cluster::cost`.
type Price = (usize, i32, i64, usize);

/// How far to look.
pub(crate) struct Range {
    /// So many nodes come last that would come first.
    pub(crate) offset: usize,
    /// Candidates that are enough.
    pub(crate) wanted: usize,
    /// Stands for the start of pods that have not started.
    pub(crate) now_micros: i64,
}

/// What trying out a node came to, for all of its like.
#[derive(Debug)]
struct Outcome {
    /// `None`: the pod would not fit.
    price: Option<Price>,
    /// All pods of the highest priority among victims go.
    all_of_it: bool,
    /// A node it was tried on, and on how many it came to nothing.
    node: u32,
    nodes: usize,
}

#[derive(Clone, Copy)]
struct Best {
    price: Price,
    earliest: i64,
    node: u32,
}

impl Cluster {
    /// Do nodes that are alike in shape, load and pods come to the same for the class?
    pub(crate) fn tries_alike(&self, class: &Class, against: &Against) -> bool {
        // Shards are told what speaks against single nodes; else that is found out of each.
        let volumes = self.outside.is_none() && class.minds_volumes();
        let mut budgets = self.budgets.values().flatten();
        against.is_empty() && !volumes && budgets.all(|budget| budget.disrupted.is_empty())
    }

    /// The best node to make room on, or why there is none. Only where [`Cluster::tries_alike`].
    pub(crate) fn try_alike(
        &mut self,
        class: &mut Class,
        look: &Look,
        against: &Against,
        potential: &Potential,
        range: &Range,
    ) -> Result<Sacrifice, Counting> {
        let mut rosters = std::mem::replace(&mut self.rosters, Rosters::new(self.hashing.clone()));
        rosters.prepare(self.fleet.node_bound(), range.now_micros);
        let mut search = Search {
            cluster: self,
            class,
            look,
            against,
            range,
            outcomes: Vec::new(),
            known: Vec::new(),
            counting: Counting::default(),
            found: 0,
            clean: false,
            best: None,
        };
        search.run(potential, &mut rosters);
        let found = search.finish();
        self.rosters = rosters;
        found
    }
}

struct Search<'a> {
    cluster: &'a Cluster,
    class: &'a mut Class,
    look: &'a Look,
    against: &'a Against,
    range: &'a Range,
    outcomes: Vec<Outcome>,
    /// By roster: the state it was met in last, and what it came to there.
    known: Vec<(u32, u32)>,
    /// Of nodes like no other.
    counting: Counting,
    found: usize,
    clean: bool,
    best: Option<Best>,
}

impl Search<'_> {
    fn run(&mut self, potential: &Potential, rosters: &mut Rosters) {
        let mut skip = self.range.offset;
        let mut last: Vec<(u32, &[u32])> = Vec::new();
        for (state, nodes) in potential.parts(self.cluster) {
            let (late, early) = nodes.split_at(skip.min(nodes.len()));
            skip -= late.len();
            if !late.is_empty() {
                last.push((state, late));
            }
            if !early.is_empty() && self.enough(state, early, rosters) {
                return;
            }
        }
        for (state, nodes) in last {
            if self.enough(state, nodes, rosters) {
                return;
            }
        }
    }

    /// Tries nodes of a state; true when there are candidates enough.
    fn enough(&mut self, state: u32, nodes: &[u32], rosters: &mut Rosters) -> bool {
        nodes.iter().any(|&node| {
            match rosters.of(self.cluster, node) {
                None => self.try_unlike(node),
                Some(roster) => self.try_one_for_all(state, node, roster, rosters),
            }
            self.found >= self.range.wanted && self.clean
        })
    }

    fn try_unlike(&mut self, node: u32) {
        let (cluster, now) = (self.cluster, self.range.now_micros);
        match cluster.try_out(self.class, self.look, self.against, node, now) {
            Ok(sacrifice) => {
                let (violations, highest, sum, victims, Reverse(earliest)) =
                    cluster.cost(&sacrifice, now);
                let price = (violations, highest, sum, victims);
                self.found += 1;
                self.clean |= violations == 0;
                self.offer(node, price, |_| Some(earliest));
            }
            Err(why) => {
                let counting = &mut self.counting;
                cluster.count_failure(self.class, self.look, self.against, why, 1, counting);
            }
        }
    }

    fn try_one_for_all(&mut self, state: u32, node: u32, roster: u32, rosters: &Rosters) {
        if self.known.len() <= roster as usize {
            let bound = rosters.bound().max(roster as usize + 1);
            self.known.resize(bound, (u32::MAX, 0));
        }
        let (met_in, mut at) = self.known[roster as usize];
        if met_in != state {
            at = self.outcomes.len() as u32;
            let outcome = self.outcome(node);
            self.outcomes.push(outcome);
            self.known[roster as usize] = (state, at);
        }
        let outcome = &mut self.outcomes[at as usize];
        let Some(price) = outcome.price else {
            outcome.nodes += 1;
            return;
        };
        let all_of_it = outcome.all_of_it;
        self.found += 1;
        self.clean |= price.0 == 0;
        let (cluster, now) = (self.cluster, self.range.now_micros);
        let (class, look, against) = (&mut *self.class, self.look, self.against);
        let earliest = |best: Option<Best>| {
            let latest = match rosters.latest_micros(node) {
                i64::MAX => now,
                at => at,
            };
            if best.is_some_and(|best| best.earliest >= latest) {
                return None;
            }
            if all_of_it {
                return Some(cluster.earliest_of(node, price.1, now));
            }
            let sacrifice = cluster.try_out(class, look, against, node, now).ok()?;
            Some(cluster.cost(&sacrifice, now).4.0)
        };
        offer(&mut self.best, node, price, earliest);
    }

    fn offer(
        &mut self,
        node: u32,
        price: Price,
        earliest: impl FnOnce(Option<Best>) -> Option<i64>,
    ) {
        offer(&mut self.best, node, price, earliest);
    }

    fn outcome(&mut self, node: u32) -> Outcome {
        let (cluster, now) = (self.cluster, self.range.now_micros);
        let tried = cluster.try_out(self.class, self.look, self.against, node, now);
        let mut outcome = Outcome {
            price: None,
            all_of_it: false,
            node,
            nodes: 0,
        };
        if let Ok(sacrifice) = tried {
            let (violations, highest, sum, victims, _) = cluster.cost(&sacrifice, now);
            let of_it = |slots: &mut dyn Iterator<Item = u32>| {
                slots
                    .filter(|&slot| cluster.priority_of(slot) == highest)
                    .count()
            };
            outcome.price = Some((violations, highest, sum, victims));
            outcome.all_of_it =
                of_it(&mut sacrifice.victims.iter().copied()) == of_it(&mut cluster.pods_of(node));
        }
        outcome
    }

    fn finish(self) -> Result<Sacrifice, Counting> {
        let (cluster, class) = (self.cluster, self.class);
        let (look, against, now) = (self.look, self.against, self.range.now_micros);
        if let Some(best) = self.best
            && let Ok(sacrifice) = cluster.try_out(class, look, against, best.node, now)
        {
            return Ok(sacrifice);
        }
        let mut counting = self.counting;
        for outcome in self.outcomes.iter().filter(|outcome| outcome.nodes > 0) {
            if let Err(why) = cluster.try_out(class, look, against, outcome.node, now) {
                cluster.count_failure(class, look, against, why, outcome.nodes, &mut counting);
            }
        }
        Err(counting)
    }
}

/// Takes a node that is better than the best so far. `earliest` is asked only where it decides, or will have to; it
/// says nothing when it cannot be later than that of the best.
fn offer(
    best: &mut Option<Best>,
    node: u32,
    price: Price,
    earliest: impl FnOnce(Option<Best>) -> Option<i64>,
) {
    let is_cheaper = match best {
        None => Ordering::Less,
        Some(best) => price.cmp(&best.price),
    };
    let found = match is_cheaper {
        Ordering::Greater => None,
        Ordering::Less => earliest(None),
        Ordering::Equal => {
            let so_far = *best;
            earliest(so_far).filter(|at| so_far.is_none_or(|best| *at > best.earliest))
        }
    };
    if let Some(earliest) = found {
        *best = Some(Best {
            price,
            earliest,
            node,
        });
    }
}

//! What one shard can do by evicting, within the sums over all shards.
//!
//! Does not compare with other shards.

use super::words::{Answer, Sacrificed, TryOut};
use crate::class::Class;
use crate::cluster::{Cluster, Nomination};
use crate::company::Look;
use crate::pick::{Counting, below};
use crate::preempt::{Potential, Sacrifice};
use crate::trying::Range;
use crate::volumes::{Against, VolumeBits};

impl Cluster {
    /// Tries nodes out until enough candidates are found; the best of them.
    pub(crate) fn try_all(
        &mut self,
        class: &mut Class,
        look: &Look,
        against: &Against,
        order: &TryOut,
    ) -> Answer {
        let now = order.now_micros;
        let potential = self.potential_nodes(class, look, against, order.pin.as_deref());
        let mut seed = order.seed;
        let offset = below(potential.total(self) as u64, &mut || {
            seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
            seed
        });
        let range = Range {
            offset: offset as usize,
            wanted: order.wanted as usize,
            now_micros: now,
        };
        let (best, counting) = if self.tries_alike(class, against) {
            match self.try_alike(class, look, against, &potential, &range) {
                Ok(best) => (Some(best), Counting::default()),
                Err(counting) => (None, counting),
            }
        } else {
            self.try_each_of(class, look, against, &potential, &range)
        };
        let best = best.map(|best| {
            let (violations, highest, sum, _, earliest) = self.cost(&best, now);
            let victims = best.victims.iter();
            Sacrificed {
                node: self.fleet.known_name(best.node).into(),
                victims: victims
                    .map(|&slot| self.records[slot as usize].key)
                    .collect(),
                violations: violations as u64,
                highest,
                sum,
                earliest: earliest.0,
            }
        });
        Answer::Tried(best, counting.finish(&self.fleet).reasons)
    }

    fn try_each_of(
        &self,
        class: &mut Class,
        look: &Look,
        against: &Against,
        potential: &Potential,
        range: &Range,
    ) -> (Option<Sacrifice>, Counting) {
        let now = range.now_micros;
        let mut counting = Counting::default();
        let mut found: Vec<Sacrifice> = Vec::new();
        for node in potential.in_turn(self, range.offset) {
            match self.try_out(class, look, against, node, now) {
                Ok(sacrifice) => found.push(sacrifice),
                Err(why) => self.count_failure(class, look, against, why, 1, &mut counting),
            }
            if found.len() >= range.wanted && found.iter().any(|s| s.violations == 0) {
                break;
            }
        }
        let best = found.into_iter().min_by_key(|found| self.cost(found, now));
        (best, counting)
    }

    /// Are pods still going that were evicted for a pod of the class from that node?
    pub(crate) fn waits_on(
        &mut self,
        class: &mut Class,
        look: &Look,
        node: &str,
        bits: VolumeBits,
    ) -> bool {
        let Some(node) = self.fleet.node(node) else {
            return false;
        };
        let nomination = Nomination {
            node,
            kind: class.kind,
            priority: class.spec.priority,
        };
        let against = Against::of(bits, std::iter::empty());
        self.waits_for_victims(class, look, &against, nomination)
    }
}

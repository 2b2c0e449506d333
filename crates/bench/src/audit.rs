//! The audit: was the chosen node among the best of all that would do? Asked of every node, one by one.
//!
//! Knows placement's explanations, not how it finds its answer without looking at each node.

use placement::{ClassId, Cluster, Explanation, NodeId};

/// One pick of so many is audited.
const EVERY: usize = 1_000;
/// But this many at least, where there are so many picks,
const AUDITS_MIN: usize = 10;
/// and not so many that more nodes than this would be looked at: half a minute.
const LOOKS_MAX: usize = 60_000_000;

/// Audits some of the picks.
pub struct Audit {
    every: usize,
    /// Picks that were looked at.
    pub audited: usize,
    /// Picks that were not among the best.
    pub mismatches: usize,
}

impl Audit {
    pub fn new(nodes: usize, pods: usize) -> Audit {
        let wanted = (pods / EVERY).max(AUDITS_MIN);
        let audits = wanted.min(LOOKS_MAX / nodes.max(1)).max(1);
        Audit {
            every: (pods / audits).max(1),
            audited: 0,
            mismatches: 0,
        }
    }

    /// Whether this pick is one to audit.
    pub fn wants(&self, pick: usize) -> bool {
        (pick + 1).is_multiple_of(self.every)
    }

    /// Audits the pick of `picked` (none: no node would do) before the pod is put there.
    pub fn check(
        &mut self,
        cluster: &mut Cluster,
        nodes: &[NodeId],
        class: ClassId,
        picked: Option<NodeId>,
    ) {
        self.audited += 1;
        let mut total = |node| match cluster.explain(class, node) {
            Some(Explanation::Feasible(scores)) => Some(scores.total),
            _ => None,
        };
        let best = nodes.iter().filter_map(|node| total(*node)).max();
        let chosen = picked.and_then(total);
        if best != chosen {
            self.mismatches += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use placement::{Config, NodeInfo, PodInfo};

    #[test]
    fn one_of_a_thousand_is_audited_and_never_too_many() {
        let audits = |nodes, pods| {
            let audit = Audit::new(nodes, pods);
            (0..pods).filter(|pick| audit.wants(*pick)).count()
        };
        assert_eq!(audits(1_000, 100_000), 100);
        assert_eq!(audits(1_000, 50), 10);
        assert_eq!(audits(1_000_000, 1_000_000), 60);
        assert_eq!(audits(10, 1), 1);
    }

    #[test]
    fn a_worse_node_is_a_mismatch_and_so_is_none_at_all() {
        let mut cluster = Cluster::new(Config::default());
        for index in 0..2 {
            cluster.upsert_node(&NodeInfo::from_object(&crate::workload::node(index)).unwrap());
        }
        let nodes: Vec<NodeId> = (0..2)
            .filter_map(|index| cluster.node(&fleet::node_name(index)))
            .collect();
        let mut pod = crate::workload::pod(0, "a");
        pod["metadata"]["uid"] = "a".into();
        let class = cluster.class_of(&PodInfo::from_object(&pod).unwrap().spec);
        let best = cluster.pick(class, None, &mut || 0).unwrap();
        let mut audit = Audit::new(2, 10);
        audit.check(&mut cluster, &nodes, class, Some(best));
        assert_eq!((audit.audited, audit.mismatches), (1, 0));
        let other = *nodes.iter().find(|node| **node != best).unwrap();
        audit.check(&mut cluster, &nodes, class, Some(other));
        audit.check(&mut cluster, &nodes, class, None);
        assert_eq!((audit.audited, audit.mismatches), (3, 2));
    }
}

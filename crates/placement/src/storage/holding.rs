//! Who is in the way of a pod's volumes on one node: as much as it takes to say what is left if some of them go,
//! without knowing volumes.
//!
//! For shards, which know who is on their nodes and nothing of what they use. Does not know who may be evicted.

use super::{Attach, Attached, Disk, Storage, Uses};
use crate::key::PodKey;
use hashbrown::{HashMap, HashSet};

/// Who keeps something taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holders {
    /// Somebody who cannot be sent away from this node.
    pub(crate) always: bool,
    /// Pods on this node.
    pub(crate) pods: Vec<PodKey>,
}

/// Volumes of one driver on a node that limits them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Those the pod brings, by who has them there already.
    pub(crate) wanted: Vec<Holders>,
    /// Others.
    pub(crate) others: Vec<Holders>,
    pub(crate) most: i64,
}

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Its disks.
    pub(crate) disks: Holders,
    /// Claims that allow one pod alone.
    pub(crate) once: Holders,
    /// None of them may be exceeded.
    pub(crate) limits: Vec<Limit>,
}

impl Holders {
    /// Is it still taken without these pods?
    pub(crate) fn hold(&self, away: &[PodKey]) -> bool {
        self.always || self.pods.iter().any(|pod| !away.contains(pod))
    }

    fn add(&mut self, pod: Option<PodKey>) {
        match pod {
            Some(pod) => self.pods.push(pod),
            None => self.always = true,
        }
    }
}

impl Limit {
    /// Would there be too many without these pods?
    pub(crate) fn is_exceeded(&self, away: &[PodKey]) -> bool {
        let held = |all: &[Holders]| all.iter().filter(|one| one.hold(away)).count();
        let there = held(&self.wanted);
        let new = self.wanted.len() - there;
        new > 0 && (held(&self.others) + there + new) as i64 > self.most
    }
}

impl Attached {
    /// Who is in the way of these on a node, those on their way counted in that come before a pod of the priority.
    pub(crate) fn holding(
        &self,
        storage: &Storage,
        (disks, claims, wanted): (&[Disk], &[Box<str>], &[Attach]),
        (node, name): (u32, &str),
        priority: i32,
    ) -> Holding {
        let mut holding = Holding::default();
        let disturbs = |uses: &Uses| {
            let mut theirs = uses.disks.iter();
            theirs.any(|disk| disks.iter().any(|own| own.disturbs(disk)))
        };
        for (pod, uses) in self.users_on(node) {
            if disturbs(uses) {
                holding.disks.add(Some(pod));
            }
        }
        if self.coming_to(node, priority).any(|uses| disturbs(uses)) {
            holding.disks.add(None);
        }
        for claim in claims {
            for (pod, at) in self.users_of(claim) {
                holding.once.add((at == node).then_some(pod));
            }
            if self.is_expected(claim, node, priority) {
                holding.once.add(None);
            }
        }
        let limits = self.limits_of(node);
        if wanted.is_empty() || limits.is_empty() {
            return holding;
        }
        let mut there: HashMap<Attach, Holders> = HashMap::new();
        for (pod, uses) in self.users_on(node) {
            for volume in storage.attached_by(uses) {
                there.entry(volume).or_default().add(Some(pod));
            }
        }
        for volume in storage.attached_to(name) {
            there.entry(volume).or_default().add(None);
        }
        let mut push = |there: &HashMap<Attach, Holders>| {
            for (driver, most) in &limits {
                let mine = wanted.iter().filter(|volume| *volume.driver == **driver);
                let mine: HashSet<&Attach> = mine.collect();
                if mine.is_empty() {
                    continue;
                }
                let others = there.iter();
                let others = others.filter(|(v, _)| *v.driver == **driver && !mine.contains(v));
                let known = |volume: &&Attach| there.get(*volume).cloned().unwrap_or_default();
                holding.limits.push(Limit {
                    wanted: mine.iter().map(known).collect(),
                    others: others.map(|(_, holders)| holders.clone()).collect(),
                    most: *most,
                });
            }
        };
        push(&there);
        // Who comes may bring a volume that both use: it may be too many with him, or without.
        let coming: Vec<Attach> = self
            .coming_to(node, priority)
            .flat_map(|uses| storage.attached_by(uses))
            .collect();
        if !coming.is_empty() {
            for volume in coming {
                there.entry(volume).or_default().add(None);
            }
            push(&there);
        }
        holding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(always: bool, pods: &[&str]) -> Holders {
        Holders {
            always,
            pods: pods.iter().map(|uid| PodKey::of(uid)).collect(),
        }
    }

    #[test]
    fn what_is_taken_is_free_when_all_who_hold_it_are_gone() {
        let (a, b) = (PodKey::of("a"), PodKey::of("b"));
        assert!(!held(false, &[]).hold(&[]));
        assert!(held(false, &["a", "b"]).hold(&[a]));
        assert!(!held(false, &["a", "b"]).hold(&[a, b]));
        assert!(held(true, &["a"]).hold(&[a]));
    }

    #[test]
    fn a_limit_counts_volumes_and_not_pods() {
        let (a, b) = (PodKey::of("a"), PodKey::of("b"));
        let limit = |wanted: &[Holders], others: &[Holders], most| Limit {
            wanted: wanted.to_vec(),
            others: others.to_vec(),
            most,
        };
        // Two volumes there, one of them of both pods; two are allowed.
        let full = limit(
            &[held(false, &[])],
            &[held(false, &["a", "b"]), held(false, &["a"])],
            2,
        );
        assert!(full.is_exceeded(&[]));
        assert!(!full.is_exceeded(&[a]));
        assert!(full.is_exceeded(&[b]));
        // Nothing new is brought: as long as the other pod has it, too.
        let same = limit(
            &[held(false, &["a"])],
            &[held(true, &[]), held(true, &[])],
            2,
        );
        assert!(!same.is_exceeded(&[]));
        assert!(same.is_exceeded(&[a]));
    }
}

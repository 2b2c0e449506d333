//! Volumes of pods that have a node: which disks and claims are in use where, and how many volumes of a driver a
//! node still takes.
//!
//! Volumes are counted only on nodes that limit them, and counted again only after something changed there. Pods
//! without volumes are not known here. Does not know classes of pods.

use super::{Attach, Disk, Storage, Uses};
use crate::key::PodKey;
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A pod on its way to a node, once others have gone.
#[derive(Debug)]
struct Coming {
    node: u32,
    priority: i32,
    uses: Arc<Uses>,
}

/// Volumes on a node that limits them.
#[derive(Debug, Default)]
struct Count {
    volumes: HashSet<Attach>,
    /// By driver: how many there are and may be.
    drivers: Vec<(Box<str>, i64, i64)>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    pods: HashMap<PodKey, (u32, Arc<Uses>)>,
    by_node: HashMap<u32, Vec<PodKey>>,
    by_claim: HashMap<Box<str>, HashSet<PodKey>>,
    by_disk: HashMap<Box<str>, HashSet<PodKey>>,
    coming: HashMap<PodKey, Coming>,
    /// A pod on its way that is not counted now.
    pub(crate) left_out: Option<PodKey>,
    counts: HashMap<u32, Count>,
    /// By driver, nodes by how many more they take.
    free: HashMap<Box<str>, BTreeSet<(i64, u32)>>,
    stale: HashSet<u32>,
}

impl Attached {
    // ---- pods

    /// A pod has a node, or another than it had.
    pub(crate) fn note(&mut self, pod: PodKey, node: u32, uses: &Arc<Uses>) {
        if self.pods.get(&pod).is_some_and(|(known, _)| *known == node) {
            return;
        }
        self.forget(pod);
        self.pods.insert(pod, (node, uses.clone()));
        self.by_node.entry(node).or_default().push(pod);
        for (claim, _) in &uses.claims {
            self.by_claim.entry_ref(&**claim).or_default().insert(pod);
        }
        for disk in &uses.disks {
            self.by_disk.entry_ref(&*disk.id).or_default().insert(pod);
        }
        self.stale.insert(node);
    }

    /// A pod has no node any more.
    pub(crate) fn forget(&mut self, pod: PodKey) {
        if self.pods.is_empty() {
            return;
        }
        let Some((node, uses)) = self.pods.remove(&pod) else {
            return;
        };
        if let Some(pods) = self.by_node.get_mut(&node) {
            pods.retain(|other| *other != pod);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
        let claims = uses.claims.iter().map(|(claim, _)| claim);
        drop_from(&mut self.by_claim, claims, pod);
        drop_from(&mut self.by_disk, uses.disks.iter().map(|d| &d.id), pod);
        self.stale.insert(node);
    }

    /// A pod has a node in view.
    pub(crate) fn note_coming(&mut self, pod: PodKey, node: u32, priority: i32, uses: Arc<Uses>) {
        let coming = Coming {
            node,
            priority,
            uses,
        };
        self.coming.insert(pod, coming);
    }

    /// It has not any more.
    pub(crate) fn forget_coming(&mut self, pod: PodKey) {
        if !self.coming.is_empty() {
            self.coming.remove(&pod);
        }
    }

    /// Who uses volumes on a node, those thought away left out, and those on their way counted in that come before
    /// a pod of the priority.
    fn on<'a>(
        &'a self,
        node: u32,
        priority: Option<i32>,
        away: &'a [PodKey],
    ) -> impl Iterator<Item = &'a Arc<Uses>> {
        let there = self.by_node.get(&node).into_iter().flatten();
        let there = there.filter(|pod| !away.contains(pod));
        let there = there.filter_map(|pod| self.pods.get(pod).map(|(_, uses)| uses));
        let coming = priority.map(|priority| self.coming_to(node, priority));
        there.chain(coming.into_iter().flatten())
    }

    pub(super) fn coming_to(&self, node: u32, priority: i32) -> impl Iterator<Item = &Arc<Uses>> {
        let coming = self.coming.iter().filter(move |(pod, coming)| {
            coming.node == node && coming.priority >= priority && self.left_out != Some(**pod)
        });
        coming.map(|(_, coming)| &coming.uses)
    }

    /// Pods on a node that use volumes.
    pub(super) fn users_on(&self, node: u32) -> impl Iterator<Item = (PodKey, &Arc<Uses>)> {
        let there = self.by_node.get(&node).into_iter().flatten();
        there.filter_map(|pod| self.pods.get(pod).map(|(_, uses)| (*pod, uses)))
    }

    /// Pods that use a claim which is not theirs alone, and the nodes they are on.
    pub(crate) fn users_of(&self, claim: &str) -> impl Iterator<Item = (PodKey, u32)> {
        let users = self.by_claim.get(claim).into_iter().flatten();
        users.filter_map(move |pod| {
            let (node, uses) = self.pods.get(pod)?;
            names(uses, claim).then_some((*pod, *node))
        })
    }

    /// Does one that is on its way to a node use a claim?
    pub(super) fn is_expected(&self, claim: &str, node: u32, priority: i32) -> bool {
        self.coming_to(node, priority)
            .any(|uses| names(uses, claim))
    }

    /// How many volumes of which driver a node takes. Up to date after [`Attached::catch_up`].
    pub(super) fn limits_of(&self, node: u32) -> Vec<(Box<str>, i64)> {
        let drivers = self.counts.get(&node).map(|count| &count.drivers);
        let drivers = drivers.into_iter().flatten();
        drivers
            .map(|(driver, _, most)| (driver.clone(), *most))
            .collect()
    }

    /// Nodes where somebody is on its way to.
    pub(crate) fn expecting(&self) -> impl Iterator<Item = u32> {
        self.coming.values().map(|coming| coming.node)
    }

    // ---- disks and claims

    /// Is one of the disks in use on a node, in a way that leaves no room for the pod?
    pub(crate) fn disks_clash(
        &self,
        disks: &[Disk],
        node: u32,
        priority: i32,
        away: &[PodKey],
    ) -> bool {
        let disturbed = |disk: &Disk| disks.iter().any(|own| own.disturbs(disk));
        !disks.is_empty()
            && self
                .on(node, Some(priority), away)
                .any(|uses| uses.disks.iter().any(disturbed))
    }

    /// Nodes where one of the disks is in use.
    pub(crate) fn nodes_with(&self, disks: &[Disk]) -> impl Iterator<Item = u32> {
        let pods = disks.iter().filter_map(|disk| self.by_disk.get(&disk.id));
        let pods = pods.flatten().filter_map(|pod| self.pods.get(pod));
        pods.map(|(node, _)| *node)
    }

    /// Does a pod on some node, or one on its way to this one, use a claim that allows one pod alone?
    pub(crate) fn claims_taken(
        &self,
        claims: &[Box<str>],
        node: Option<u32>,
        priority: i32,
        away: &[PodKey],
    ) -> bool {
        let is_used = |claim: &str| {
            let users = self.by_claim.get(claim).into_iter().flatten();
            let mut users = users.filter(|pod| !away.contains(pod));
            users.any(|pod| {
                let uses = self.pods.get(pod).map(|(_, uses)| uses);
                uses.is_some_and(|uses| names(uses, claim))
            })
        };
        let is_expected = |claim: &str| {
            node.is_some_and(|node| self.coming_to(node, priority).any(|u| names(u, claim)))
        };
        claims
            .iter()
            .any(|claim| is_used(claim) || is_expected(claim))
    }

    // ---- limits

    /// Counts again where something changed. `node_of` gives the number of a node that exists, `name_of` the name.
    pub(crate) fn catch_up<'a>(
        &mut self,
        storage: &mut Storage,
        node_of: impl Fn(&str) -> Option<u32>,
        name_of: impl Fn(u32) -> Option<&'a str>,
    ) {
        if std::mem::take(&mut storage.all_stale) {
            self.stale.extend(self.counts.keys());
            let limited = storage.csi_nodes.keys();
            self.stale.extend(limited.filter_map(|name| node_of(name)));
        }
        let by_name = storage.stale_nodes.drain();
        self.stale.extend(by_name.filter_map(|name| node_of(&name)));
        for claim in storage.stale_claims.drain() {
            let pods = self.by_claim.get(&claim).into_iter().flatten();
            let nodes = pods.filter_map(|pod| self.pods.get(pod).map(|(node, _)| *node));
            self.stale.extend(nodes);
        }
        for node in std::mem::take(&mut self.stale) {
            self.uncount(node);
            let Some(name) = name_of(node) else {
                continue;
            };
            let limits = storage.csi_nodes.get(name).map(|node| &node.limits);
            if let Some(limits) = limits.filter(|limits| !limits.is_empty()) {
                let volumes = self.volumes_on(storage, node, name, None, &[]);
                self.count(node, volumes, limits);
            }
        }
    }

    /// A node came or went: what is known under its number may be another's.
    pub(crate) fn node_changed(&mut self, node: u32) {
        self.stale.insert(node);
    }

    fn uncount(&mut self, node: u32) {
        let Some(old) = self.counts.remove(&node) else {
            return;
        };
        for (driver, used, limit) in old.drivers {
            if let Some(nodes) = self.free.get_mut(&driver) {
                nodes.remove(&(limit - used, node));
                if nodes.is_empty() {
                    self.free.remove(&driver);
                }
            }
        }
    }

    fn count(&mut self, node: u32, volumes: HashSet<Attach>, limits: &[(Box<str>, i64)]) {
        let mut drivers: Vec<(Box<str>, i64, i64)> = Vec::new();
        for (driver, limit) in limits {
            // Named twice, the last counts.
            drivers.retain(|(known, ..)| known != driver);
            let used = volumes.iter().filter(|v| v.driver == *driver).count() as i64;
            drivers.push((driver.clone(), used, *limit));
        }
        for (driver, used, limit) in &drivers {
            let nodes = self.free.entry_ref(&**driver).or_default();
            nodes.insert((limit - used, node));
        }
        self.counts.insert(node, Count { volumes, drivers });
    }

    fn volumes_on(
        &self,
        storage: &Storage,
        node: u32,
        name: &str,
        priority: Option<i32>,
        away: &[PodKey],
    ) -> HashSet<Attach> {
        let of_pods = self.on(node, priority, away);
        let of_pods = of_pods.flat_map(|uses| storage.attached_by(uses));
        of_pods.chain(storage.attached_to(name)).collect()
    }

    /// Nodes that may not take so many volumes more; all others do. Up to date after [`Attached::catch_up`].
    pub(crate) fn short_of(&self, wanted: &[Attach]) -> Vec<u32> {
        let mut nodes = Vec::new();
        let mut drivers: Vec<&Box<str>> = wanted.iter().map(|attach| &attach.driver).collect();
        drivers.dedup();
        for driver in drivers {
            let asked = wanted.iter().filter(|a| a.driver == *driver).count() as i64;
            let Some(free) = self.free.get(driver) else {
                continue;
            };
            nodes.extend(free.range(..(asked, 0)).map(|(_, node)| *node));
        }
        nodes
    }

    /// Would a node have more volumes than it takes, whether those on their way come or not?
    pub(crate) fn exceeds(
        &self,
        storage: &Storage,
        wanted: &[Attach],
        (node, name): (u32, &str),
        priority: i32,
        away: &[PodKey],
    ) -> bool {
        let Some(count) = self.counts.get(&node).filter(|_| !wanted.is_empty()) else {
            return false;
        };
        let too_many = |volumes: &HashSet<Attach>| {
            count.drivers.iter().any(|(driver, used, limit)| {
                let of_driver = |attach: &&Attach| attach.driver == *driver;
                let mine = wanted.iter().filter(of_driver);
                let new = mine.filter(|attach| !volumes.contains(*attach)).count() as i64;
                let used = if std::ptr::eq(volumes, &count.volumes) {
                    *used
                } else {
                    volumes.iter().filter(of_driver).count() as i64
                };
                new > 0 && used + new > *limit
            })
        };
        let at = |priority| self.volumes_on(storage, node, name, priority, away);
        let alone = if away.is_empty() {
            too_many(&count.volumes)
        } else {
            too_many(&at(None))
        };
        // Who comes may bring a volume that both use.
        alone || (self.coming_to(node, priority).next().is_some() && too_many(&at(Some(priority))))
    }
}

fn names(uses: &Uses, claim: &str) -> bool {
    let mut claims = uses.claims.iter();
    claims.any(|(known, own)| !own && **known == *claim)
}

fn drop_from<'a>(
    index: &mut HashMap<Box<str>, HashSet<PodKey>>,
    keys: impl Iterator<Item = &'a Box<str>>,
    pod: PodKey,
) {
    for key in keys {
        if let Some(pods) = index.get_mut(key) {
            pods.remove(&pod);
            if pods.is_empty() {
                index.remove(key);
            }
        }
    }
}

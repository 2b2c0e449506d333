//! The pods by owner, by namespace and by node: what makes planning independent of the number of all pods.
//!
//! ```text
//!   name ──► group: [slot, slot, …]          places: slot ──► (group, position) a ledger
//! ```
//!
//! A pod is the slot that it has in the mirror, which stays the same while it changes: only what changes about it
//! touches an index. Each pod knows where it stands in its groups, so that it leaves them without a search. Knows
//! neither keys nor what else is in the mirror.

use std::collections::HashMap;
use std::sync::Arc;

use client::Mirror;
use client::keyed::{Blocks, Keyed, Slot};
use foldhash::quality::RandomState;
use reconcile::Pod;

use crate::cluster::Kept;

/// What pods are grouped by, beside claims.
#[derive(Debug, Clone, Copy)]
enum By {
    /// The uid of the owner that controls it.
    Controller,
    /// The namespace, of those that somebody controls.
    Owned,
    /// The namespace, of those that nobody controls.
    Free,
    Node,
    /// Those that have ended are one group without a name.
    Ended,
}

const LEDGERS: usize = By::Ended as usize + 1;

/// Where a pod stands in a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    group: Slot,
    position: u32,
}

const NOWHERE: Place = Place {
    group: Slot::MAX,
    position: 0,
};

type Group = Vec<Slot>;

/// The indices: 40 bytes and up to four slots a pod.
#[derive(Debug, Default)]
pub(crate) struct PodIndex {
    ledgers: [Keyed<Group>; LEDGERS],
    /// By the pod's slot.
    places: Blocks<[Place; LEDGERS]>,
    /// Pods by the `namespace/name` of claims that they use as volumes. Few use any, and one claim may serve many.
    by_claim: HashMap<Box<str>, Claimants, RandomState>,
}

type Claimants = std::collections::HashSet<Slot, RandomState>;

impl PodIndex {
    /// Takes in a pod.
    pub(crate) fn enter(&mut self, slot: Slot, pod: &Pod) {
        if let Some(uid) = &pod.controller_uid {
            self.join(By::Controller, slot, uid);
        }
        self.join(namespace_ledger(pod), slot, &pod.namespace);
        if !pod.node_name.is_empty() {
            self.join(By::Node, slot, &pod.node_name);
        }
        if pod.has_ended() {
            self.join(By::Ended, slot, "");
        }
        self.claim(slot, pod, true);
    }

    /// Takes out a pod as it was last.
    pub(crate) fn leave(&mut self, slot: Slot, pod: &Pod) {
        for by in [By::Controller, By::Owned, By::Free, By::Node, By::Ended] {
            self.part(by, slot);
        }
        self.claim(slot, pod, false);
    }

    /// Something about a pod may have changed, but not its namespace.
    pub(crate) fn change(&mut self, slot: Slot, old: &Pod, new: &Pod) {
        if old.controller_uid != new.controller_uid {
            self.part(By::Controller, slot);
            if let Some(uid) = &new.controller_uid {
                self.join(By::Controller, slot, uid);
            }
            if old.controller_uid.is_some() != new.controller_uid.is_some() {
                self.part(namespace_ledger(old), slot);
                self.join(namespace_ledger(new), slot, &new.namespace);
            }
        }
        if old.node_name != new.node_name {
            self.part(By::Node, slot);
            if !new.node_name.is_empty() {
                self.join(By::Node, slot, &new.node_name);
            }
        }
        if old.has_ended() != new.has_ended() {
            self.part(By::Ended, slot);
            if new.has_ended() {
                self.join(By::Ended, slot, "");
            }
        }
        let has_claims = |pod: &Pod| !pod.claim_volumes().is_empty();
        if (has_claims(old) || has_claims(new)) && !claims(old).eq(claims(new)) {
            self.claim(slot, old, false);
            self.claim(slot, new, true);
        }
    }

    /// The group of a node, as far as it can be told without a look at it.
    pub(crate) fn guess_node(&self, node: &str) -> Option<usize> {
        let ledger = &self.ledgers[By::Node as usize];
        ledger.at(ledger.guess(node)?).map(Vec::len)
    }

    fn join(&mut self, by: By, slot: Slot, name: &str) {
        let ledger = &mut self.ledgers[by as usize];
        let group = match ledger.find(name) {
            Some(group) => group,
            None => ledger.put(name, Group::new()).0,
        };
        let Some(members) = ledger.at_mut(group) else {
            return;
        };
        while self.places.len() <= slot as usize {
            self.places.push([NOWHERE; LEDGERS]);
        }
        if let Some(places) = self.places.get_mut(slot) {
            places[by as usize] = Place {
                group,
                position: u32::try_from(members.len()).unwrap_or(u32::MAX),
            };
            members.push(slot);
        }
    }

    fn part(&mut self, by: By, slot: Slot) {
        let Some(places) = self.places.get_mut(slot) else {
            return;
        };
        let place = std::mem::replace(&mut places[by as usize], NOWHERE);
        let ledger = &mut self.ledgers[by as usize];
        if place == NOWHERE {
            return;
        }
        let Some(members) = ledger.at_mut(place.group) else {
            return;
        };
        let position = place.position as usize;
        debug_assert_eq!(members.get(position), Some(&slot));
        members.swap_remove(position);
        let is_empty = members.is_empty();
        // The last one stands here now.
        if let Some(moved) = members.get(position)
            && let Some(places) = self.places.get_mut(*moved)
        {
            places[by as usize].position = place.position;
        }
        if is_empty {
            ledger.remove(place.group);
        }
    }

    fn claim(&mut self, slot: Slot, pod: &Pod, enter: bool) {
        for volume in pod.claim_volumes() {
            let claim = format!("{}/{}", pod.namespace, volume.claim);
            if enter {
                let claimants = self.by_claim.entry(claim.into());
                claimants.or_default().insert(slot);
            } else if let Some(claimants) = self.by_claim.get_mut(&*claim) {
                claimants.remove(&slot);
                if claimants.is_empty() {
                    self.by_claim.remove(&*claim);
                }
            }
        }
    }

    fn group(&self, by: By, name: &str) -> &[Slot] {
        self.ledgers[by as usize].get(name).map_or(&[], |all| all)
    }
}

fn claims(pod: &Pod) -> impl Iterator<Item = &str> {
    pod.claim_volumes().iter().map(|volume| &*volume.claim)
}

fn namespace_ledger(pod: &Pod) -> By {
    if pod.controller_uid.is_some() {
        By::Owned
    } else {
        By::Free
    }
}

/// The pods as planners ask for them.
#[derive(Clone, Copy)]
pub(crate) struct Pods<'a> {
    index: &'a PodIndex,
    mirror: &'a Mirror<Kept>,
}

impl<'a> Pods<'a> {
    /// The pods of a mirror, by its index.
    pub(crate) fn new(index: &'a PodIndex, mirror: &'a Mirror<Kept>) -> Pods<'a> {
        Pods { index, mirror }
    }

    /// Pods that an owner controls.
    pub(crate) fn of_controller(&self, uid: &str) -> Vec<Arc<Pod>> {
        self.all(By::Controller, uid).collect()
    }

    /// How many pods of an owner have not ended.
    pub(crate) fn live_of_controller(&self, uid: &str) -> usize {
        let pods = self.look(self.index.group(By::Controller, uid));
        pods.filter(|pod| !pod.has_ended()).count()
    }

    /// How many pods an owner controls.
    pub(crate) fn count_of_controller(&self, uid: &str) -> usize {
        self.index.group(By::Controller, uid).len()
    }

    /// Pods that an owner controls, and those of its namespace that nobody controls.
    pub(crate) fn for_owner(&self, uid: &str, namespace: &str) -> Vec<Arc<Pod>> {
        let own = self.all(By::Controller, uid);
        own.chain(self.all(By::Free, namespace)).collect()
    }

    /// Pods of a namespace.
    pub(crate) fn of_namespace(&self, namespace: &str) -> Vec<Arc<Pod>> {
        let owned = self.all(By::Owned, namespace);
        owned.chain(self.all(By::Free, namespace)).collect()
    }

    /// Pods bound to a node.
    pub(crate) fn on_node(&self, node: &str) -> Vec<Arc<Pod>> {
        self.all(By::Node, node).collect()
    }

    /// Whether no pod is bound to a node.
    pub(crate) fn is_none_on_node(&self, node: &str) -> bool {
        self.index.group(By::Node, node).is_empty()
    }

    /// Pods that use a claim as a volume.
    pub(crate) fn of_claim(&self, claim: &str) -> Vec<Arc<Pod>> {
        let claimants = self.index.by_claim.get(claim).into_iter().flatten();
        self.look(claimants).cloned().collect()
    }

    /// How many pods have ended.
    pub(crate) fn ended_count(&self) -> usize {
        self.index.group(By::Ended, "").len()
    }

    /// Pods that have ended.
    pub(crate) fn ended(&self) -> Vec<Arc<Pod>> {
        self.all(By::Ended, "").collect()
    }

    fn all(&self, by: By, name: &str) -> impl Iterator<Item = Arc<Pod>> + use<'a> {
        self.look(self.index.group(by, name)).cloned()
    }

    fn look<I: IntoIterator<Item = &'a Slot>>(
        &self,
        slots: I,
    ) -> impl Iterator<Item = &'a Arc<Pod>> + use<'a, I> {
        let mirror = self.mirror;
        let slots = slots.into_iter();
        slots.filter_map(move |slot| mirror.at(*slot)?.pod())
    }
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;

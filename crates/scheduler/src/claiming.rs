//! Pods with claims: which node has the devices, what is written when one is chosen, and what is given back.
//!
//! ```text
//!   nodes with devices ─► filters ─► devices::allocate ─► the best of the first hundred ─► in flight ─► written, bound
//! ```
//!
//! Only nodes that slices name are looked at, all nodes only where slices are for any. Does not know how requests are
//! made.

use std::collections::HashMap;
use std::sync::Arc;

use devices::{Allocation, Claim, Failure, Inventory, Node};
use meta::Value;
use placement::queue::Turn;
use placement::{
    Admission, Among, Asked, NodeId, PickError, Plugin, PluginSet, PodKey, Preemption,
    Unschedulable, Where,
};

use crate::devices::{Concerned, Kept, Wanted};
use crate::extended::{Backed, LEFT, Variant};
use crate::reserving::Reservation;
use crate::work::Worker;
use crate::{Scheduler, next_random, now_micros};

/// Nodes that pass everything and are compared (k8s: `minFeasibleNodesToFind`).
const NODES_COMPARED: usize = 100;
/// What is said of nodes without the devices.
const NOT_HERE: &str = "cannot allocate all claims";
/// What is said of a claim that keeps a pod from a node.
const ELSEWHERE: &str = "resourceclaim not available on the node";

/// What came of trying a pod.
pub(crate) enum Tried {
    /// A node, and what is to be written first.
    Placed(NodeId, Vec<Reservation>),
    /// No node.
    Failed(PickError),
    /// It has to wait, by itself.
    NotNow(String),
    /// Claim, class or slice are wrong.
    Wrong(String),
}

/// What a node is told to be lacking.
fn reason(failure: &Failure) -> &'static str {
    match failure {
        Failure::InvalidPools => "invalid resource pools were encountered",
        Failure::TimedOut => "timed out trying to allocate devices",
        Failure::NotHere | Failure::Wrong(_) => NOT_HERE,
    }
}

/// Tells the users of a shared device apart: a random uid.
fn share_id(random: &mut u64) -> String {
    let (high, low) = (next_random(random), next_random(random));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | (low >> 48) & 0x3fff,
        low & 0xffff_ffff_ffff
    )
}

fn allocate(
    inventory: &Inventory,
    candidate: Asked<'_>,
    claims: &[&Claim],
    ids: &mut u64,
) -> Result<Vec<Allocation>, Failure> {
    let label = |key: &str| candidate.label(key);
    let node = Node {
        name: candidate.name(),
        label: &label,
    };
    inventory.allocate(&node, claims, &mut || share_id(ids))
}

/// The same with a claim for extended resources, if there has to be one; nothing where nothing is asked for.
fn allocate_with(
    inventory: &Inventory,
    candidate: Asked<'_>,
    claims: &[&Claim],
    special: &Option<Arc<Variant>>,
    ids: &mut u64,
) -> Result<Vec<Allocation>, Failure> {
    let mut all = claims.to_vec();
    all.extend(special.iter().map(|variant| &*variant.wanted.claim));
    if all.is_empty() {
        return Ok(Vec::new());
    }
    allocate(inventory, candidate, &all, ids)
}

impl Scheduler {
    /// Looks for a node for a pod.
    pub(crate) fn look_for_node(&mut self, turn: Turn, pin: Option<&str>) -> Tried {
        let mut random = self.random;
        let wanted = self.surroundings.devices.wanted(turn.pod);
        let wanted = match wanted {
            Some(Err(why)) => return Tried::NotNow(why),
            Some(Ok(wanted)) if self.considers_claims(turn.pod) => wanted,
            _ => Vec::new(),
        };
        let open: Vec<&Wanted> = wanted.iter().filter(|one| one.open).collect();
        let backed = self.backed(turn.pod);
        if open.is_empty() && backed.is_none() {
            let picked = self
                .cluster
                .pick_for(turn.pod, turn.class, pin, &mut || next_random(&mut random));
            self.random = random;
            return match picked {
                Ok(node) => Tried::Placed(node, reservations(&wanted, Vec::new(), None)),
                Err(error) => Tried::Failed(error),
            };
        }
        let claims: Vec<&Claim> = open.iter().map(|one| &*one.claim).collect();
        let start = next_random(&mut random) as usize;
        let mut ids = next_random(&mut random) | 1;
        let (mut found, mut wrong) = (HashMap::new(), None);
        let inventory = &self.surroundings.devices.inventory;
        // Nothing is tried as long as a claim is left from an earlier try: it has devices.
        let left = backed.as_ref().is_some_and(|backed| backed.left.is_some());
        let resources = backed.as_ref().map(|backed| backed.resources.clone());
        let mut variants = backed.map(Backed::variants);
        let mut admit = |candidate: Asked<'_>| {
            let special = variants.as_mut().and_then(|known| known.on(&candidate));
            let allocated = allocate_with(inventory, candidate, &claims, &special, &mut ids);
            match allocated {
                Ok(allocations) => {
                    let worth = allocations.iter().map(|one| one.score).sum();
                    found.insert(candidate.name().to_owned(), (allocations, special));
                    Admission::Yes(worth)
                }
                Err(Failure::Wrong(why)) => {
                    wrong = Some(why);
                    Admission::Stop
                }
                Err(failure) => Admission::No(reason(&failure)),
            }
        };
        let for_nothing = || claims.iter().all(|claim| claim.asks_for_nothing());
        let anywhere = inventory.reaches_all() || resources.is_none() && for_nothing();
        let candidates = if left {
            Where::Named(Box::new(std::iter::empty()))
        } else if anywhere {
            Where::All(start)
        } else if let Some(resources) = &resources {
            Where::NamedOrOffering(Box::new(inventory.open_nodes(start)), resources, start)
        } else if claims.iter().all(|claim| claim.only_looks_after()) {
            Where::Named(Box::new(inventory.nodes()))
        } else {
            Where::Named(Box::new(inventory.open_nodes(start)))
        };
        let profile = self.pending.get(turn.pod).map_or(0, |w| w.profile);
        let rules = &self.config.profiles[usize::from(profile)].rules;
        let among = Among {
            candidates,
            wanted: NODES_COMPARED,
            weight: rules.weights.devices,
            otherwise: if left { LEFT } else { NOT_HERE },
            admit: &mut admit,
        };
        let picked = self
            .cluster
            .pick_admitted(turn.pod, turn.class, pin, among, &mut || {
                next_random(&mut random)
            });
        self.random = random;
        match picked {
            Some(Ok(node)) => {
                let name = self.cluster.node_name(node).unwrap_or_default();
                let (allocations, special) = found.remove(name).unwrap_or_default();
                Tried::Placed(node, reservations(&wanted, allocations, special))
            }
            Some(Err(error)) => Tried::Failed(error),
            None => {
                let why = wrong.unwrap_or_default();
                Tried::Wrong(format!("running \"DynamicResources\" filter plugin: {why}"))
            }
        }
    }

    /// Does a pod ask for devices that are not chosen yet?
    pub(crate) fn opens_claims(&self, pod: PodKey) -> bool {
        let wanted = self.surroundings.devices.wanted(pod);
        let opens = wanted
            .is_some_and(|wanted| wanted.map_or(true, |wanted| wanted.iter().any(|one| one.open)));
        (opens && self.considers_claims(pod)) || self.backed(pod).is_some()
    }

    /// Its extended resources that devices stand for.
    fn backed(&self, pod: PodKey) -> Option<Backed> {
        let backed = self.surroundings.devices.backed_of(pod)?;
        self.considers_claims(pod).then_some(backed)
    }

    /// What is to be written into the claims of a pod all of which have their devices.
    pub(crate) fn reservations_of(&self, pod: PodKey) -> Vec<Reservation> {
        match self.surroundings.devices.wanted(pod) {
            Some(Ok(wanted)) if self.considers_claims(pod) => {
                reservations(&wanted, Vec::new(), None)
            }
            _ => Vec::new(),
        }
    }

    fn considers_claims(&self, pod: PodKey) -> bool {
        let profile = self.pending.get(pod).map_or(0, |waiting| waiting.profile);
        let profile = &self.config.profiles[usize::from(profile)];
        profile.rules.filters.contains(Plugin::DynamicResources)
    }

    /// The devices of a pod that is about to be bound are nobody else's from now on.
    pub(crate) fn depart(&mut self, pod: PodKey, reservations: &[Reservation]) {
        for one in reservations {
            if let Some(allocation) = &one.allocation {
                let devices = &mut self.surroundings.devices;
                devices.depart(&one.wanted, &devices::taken(allocation), pod);
            }
        }
    }

    /// What was to be written for a pod's claims is written, or given up.
    pub(crate) fn land(&mut self, pod: PodKey, written: &[Value]) {
        let written = written.iter().map(|claim| {
            let kept = Kept::read(claim);
            (kept.claim.key().into(), kept)
        });
        let written: Vec<(Box<str>, Kept)> = written.collect();
        for concerned in self.surroundings.devices.land(pod, written) {
            self.concern(concerned);
        }
    }

    /// Pods with claims may go elsewhere now, and others may find what they lacked.
    pub(crate) fn concern(&mut self, concerned: Concerned) {
        if let Some(event) = concerned.event {
            self.happened(event);
        }
        let now = now_micros();
        for pod in concerned.pods {
            let Some(info) = self.surroundings.devices.info(pod) else {
                continue;
            };
            let ours = self.names.iter().position(|n| **n == *info.scheduler_name);
            self.see(pod, (*info).clone(), ours, now);
        }
    }

    /// As the cluster's own, asking only nodes that have the devices.
    pub(crate) fn preempt_with_claims(
        &mut self,
        turn: Turn,
        pin: Option<&str>,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Preemption, PickError> {
        let wanted = match self.surroundings.devices.wanted(turn.pod) {
            Some(Ok(wanted)) if self.considers_claims(turn.pod) => wanted,
            _ => Vec::new(),
        };
        let open = wanted.iter().filter(|one| one.open);
        let claims: Vec<&Claim> = open.map(|one| &*one.claim).collect();
        let now = now_micros();
        let backed = self.backed(turn.pod);
        if claims.is_empty() && backed.is_none() {
            return self.cluster.preempt(turn.pod, turn.class, pin, now, random);
        }
        let mut ids = random() | 1;
        let inventory = &self.surroundings.devices.inventory;
        let left = backed.as_ref().is_some_and(|backed| backed.left.is_some());
        let mut variants = backed.map(Backed::variants);
        let mut admit = |candidate: Asked<'_>| {
            if left {
                return Admission::No(LEFT);
            }
            let special = variants.as_mut().and_then(|known| known.on(&candidate));
            match allocate_with(inventory, candidate, &claims, &special, &mut ids) {
                Ok(_) => Admission::Yes(0),
                Err(failure) => Admission::No(reason(&failure)),
            }
        };
        let admit: Option<&mut dyn FnMut(Asked<'_>) -> Admission> = Some(&mut admit);
        self.cluster
            .preempt_among(turn.pod, turn.class, pin, now, random, admit)
    }

    /// What the plugin of resource claims says of a pod that found no node, having given back an idle claim if that
    /// may help.
    pub(crate) fn give_back_claims(
        &mut self,
        pod: PodKey,
        why: &Unschedulable,
        worker: &Worker,
    ) -> &'static str {
        let devices = &self.surroundings.devices;
        let backed = devices.backed_of(pod);
        let has_claims = matches!(devices.wanted(pod), Some(Ok(wanted)) if !wanted.is_empty());
        if !has_claims && backed.is_none() {
            return "no new claims to deallocate";
        }
        let elsewhere = why.reasons.iter().any(|(reason, _)| reason == ELSEWHERE);
        if elsewhere
            && let Some(idle) = devices.idle(pod)
            && worker.deallocate(&idle)
        {
            return "deallocation of ResourceClaim completed";
        }
        if let Some(left) = backed.and_then(|backed| backed.left)
            && worker.delete_left(&left)
        {
            return "deletion of ResourceClaim completed";
        }
        "still not schedulable"
    }

    /// A pod cannot be tried now, for a reason of its own: it is told, and waits by itself.
    pub(crate) fn not_now(&mut self, turn: Turn, why: String, worker: &Worker) {
        let rejected_by = PluginSet::of(&[Plugin::DynamicResources]);
        let failure = Unschedulable {
            nodes: self.cluster.nodes(),
            contradiction: Some(why.into()),
            rejected_by,
            ..Unschedulable::default()
        };
        let message = failure.message();
        self.pending.note_rejection(turn.pod, rejected_by);
        self.queue
            .unschedulable_alone(turn.pod, rejected_by, now_micros());
        if self.pending.note_message(turn.pod, &message)
            && let Some(waiting) = self.pending.get(turn.pod)
        {
            worker.tell_unschedulable(&waiting.address(), &message);
        }
    }

    /// Claim, class or slice are wrong: the pod is tried again after its back-off.
    pub(crate) fn wrong(&mut self, turn: Turn, why: &str, worker: &Worker) {
        self.queue.error(turn.pod, now_micros());
        if self.pending.note_reason(turn.pod, "SchedulerError", why)
            && let Some(waiting) = self.pending.get(turn.pod)
        {
            worker.tell_unschedulable(&waiting.address(), why);
        }
    }
}

/// What is to be written into claims: allocations in their order for those that need one.
fn reservations(
    wanted: &[Wanted],
    allocations: Vec<Allocation>,
    special: Option<Arc<Variant>>,
) -> Vec<Reservation> {
    let mut allocations = allocations.into_iter();
    let all = wanted.iter().map(|one| Reservation {
        wanted: one.clone(),
        allocation: if one.open {
            allocations.next().map(|allocation| allocation.value)
        } else {
            None
        },
        special: None,
    });
    let mut all: Vec<Reservation> = all
        .filter(|one| one.wanted.open || !one.wanted.used)
        .collect();
    // It comes last, as its allocation does.
    all.extend(special.map(|variant| Reservation {
        wanted: variant.wanted.clone(),
        allocation: allocations.next().map(|allocation| allocation.value),
        special: Some(variant),
    }));
    all
}

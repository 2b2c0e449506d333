//! Claims, volumes and what makes them, as far as they decide where a pod can go.
//!
//! ```text
//!   claim bound ─────────────────────► where its volume can be reached, and its zone
//!   claim waits for its first pod ───► a free volume that fits, or where the class can make one with room left
//!   anything else ───────────────────► the pod cannot go anywhere yet
//!   volumes on a node ───────────────► how many more of a driver it takes; disks and claims in use
//! ```
//!
//! - `things.rs`: what is kept of each object. `uses.rs`: what a pod says of its volumes.
//! - `outcome.rs`: what a pod's claims come to, whatever the node.
//! - `supply.rs`: which volumes a pod would get on a node, or have made there.
//! - `attached.rs`: volumes of pods that have a node. `holding.rs`: which of them are in the way of others.
//!
//! Between the choice of a node and the API's word that a volume is bound the choice is *assumed*: others do not
//! get the volume. Makes no requests.

mod attached;
mod holding;
mod migrated;
mod outcome;
mod supply;
mod things;
mod uses;

pub(crate) use attached::Attached;
pub(crate) use holding::{Holders, Holding, Limit};
pub use supply::Wanted;
pub(crate) use supply::{Found, Place, Search};
pub use things::{Attach, BIND_COMPLETED, Fabric, SELECTED_NODE, Thing, ThingKind};
pub use uses::{Disk, Uses};

use crate::key::PodKey;
use crate::queue::Event;
use hashbrown::{HashMap, HashSet};
use std::collections::{BTreeMap, BTreeSet};
use things::{Attachment, Capacity, Claim, ClaimRef, Class, CsiNode, Driver, Volume};

/// Changes remembered until volumes are counted again; with more, all nodes are. About 100 bytes each.
const STALE_MAX: usize = 16_384;

/// Whom a change of what is known of volumes concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concerned {
    /// Pods with this claim, by `namespace/name`: they may ask for something else now.
    Claim(Box<str>),
    /// Pods with any claim, likewise.
    Everybody,
    /// Pods that found no node for want of something like that.
    Waiting(Event),
}

/// What a pod gets with its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// Volumes to be bound, with the `namespace/name` of their claims.
    pub to_bind: Vec<(Box<str>, Box<str>)>,
    /// Claims, by `namespace/name`, whose volumes are to be made for the node.
    pub to_make: Vec<Box<str>>,
}

impl Bindings {
    /// Is there nothing to be done?
    pub fn is_empty(&self) -> bool {
        self.to_bind.is_empty() && self.to_make.is_empty()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    claims: HashMap<Box<str>, Claim>,
    volumes: HashMap<Box<str>, Volume>,
    classes: HashMap<Box<str>, Class>,
    csi_nodes: HashMap<Box<str>, CsiNode>,
    drivers: HashMap<Box<str>, Driver>,
    capacities: BTreeMap<Box<str>, Capacity>,
    attachments: HashMap<Box<str>, Attachment>,
    /// Names of volumes by class.
    by_class: HashMap<Box<str>, BTreeSet<Box<str>>>,
    /// Claims that name a volume, by it.
    by_volume: HashMap<Box<str>, BTreeSet<Box<str>>>,
    /// Attachments by node,
    attached_to: HashMap<Box<str>, BTreeSet<Box<str>>>,
    /// and by volume.
    attachments_of: HashMap<Box<str>, BTreeSet<Box<str>>>,
    /// Volumes given to a claim, and for which pod.
    given: HashMap<Box<str>, (ClaimRef, PodKey)>,
    /// Nodes chosen for claims, and for which pod.
    chosen: HashMap<Box<str>, (Box<str>, PodKey)>,
    /// What to count again: volumes on these nodes,
    stale_nodes: HashSet<Box<str>>,
    /// on nodes whose pods have these claims,
    stale_claims: HashSet<Box<str>>,
    /// or on all nodes.
    all_stale: bool,
}

fn add(index: &mut HashMap<Box<str>, BTreeSet<Box<str>>>, key: &str, value: &str) {
    if !key.is_empty() {
        index.entry_ref(key).or_default().insert(value.into());
    }
}

fn drop_from(index: &mut HashMap<Box<str>, BTreeSet<Box<str>>>, key: &str, value: &str) {
    if let Some(values) = index.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            index.remove(key);
        }
    }
}

impl Storage {
    /// Takes in one that came or changed. `key` is its name, with the namespace before it where it has one.
    pub(crate) fn note(&mut self, key: &str, thing: Thing) -> Vec<Concerned> {
        match thing {
            Thing::Claim(claim) => self.note_claim(key, claim),
            Thing::Volume(volume) => self.note_volume(key, volume),
            Thing::Class(class) => {
                self.classes.insert(key.into(), class);
                self.all_stale = true;
                vec![Concerned::Everybody]
            }
            Thing::CsiNode(node) => {
                if self.csi_nodes.get(key) == Some(&node) {
                    return Vec::new();
                }
                self.stale_node(key);
                let known = self.csi_nodes.insert(key.into(), node).is_some();
                vec![Concerned::Waiting(if known {
                    Event::CsiNodeUpdate
                } else {
                    Event::CsiNodeAdd
                })]
            }
            Thing::Driver(driver) => {
                let told = driver.tells_capacity;
                match self.drivers.insert(key.into(), driver) {
                    Some(old) if old.tells_capacity && !told => {
                        vec![Concerned::Waiting(Event::CsiDriverUpdate)]
                    }
                    _ => Vec::new(),
                }
            }
            Thing::Capacity(capacity) => {
                let limit = capacity.limit;
                match self.capacities.insert(key.into(), capacity) {
                    None => vec![Concerned::Waiting(Event::StorageCapacityAdd)],
                    Some(old) if limit > old.limit => {
                        vec![Concerned::Waiting(Event::StorageCapacityUpdate)]
                    }
                    Some(_) => Vec::new(),
                }
            }
            Thing::Attachment(attachment) => {
                self.forget_attachment(key);
                self.stale_node(&attachment.node);
                add(&mut self.attached_to, &attachment.node, key);
                add(&mut self.attachments_of, &attachment.volume, key);
                self.attachments.insert(key.into(), attachment);
                Vec::new()
            }
        }
    }

    /// One is gone.
    pub(crate) fn forget(&mut self, kind: ThingKind, key: &str) -> Vec<Concerned> {
        match kind {
            ThingKind::Claims => {
                self.chosen.remove(key);
                self.stale_claim(key);
                if let Some(claim) = self.claims.remove(key) {
                    drop_from(&mut self.by_volume, &claim.volume, key);
                }
                vec![Concerned::Claim(key.into())]
            }
            ThingKind::Volumes => {
                self.given.remove(key);
                let Some(volume) = self.volumes.remove(key) else {
                    return Vec::new();
                };
                self.note_users(key);
                drop_from(&mut self.by_class, &volume.fabric.class, key);
                self.concerned_by(key, volume.claim)
            }
            ThingKind::Classes => {
                self.classes.remove(key);
                self.all_stale = true;
                vec![Concerned::Everybody]
            }
            ThingKind::CsiNodes => {
                self.csi_nodes.remove(key);
                self.stale_node(key);
                vec![Concerned::Waiting(Event::CsiNodeUpdate)]
            }
            ThingKind::Drivers => {
                self.drivers.remove(key);
                vec![Concerned::Waiting(Event::CsiDriverUpdate)]
            }
            ThingKind::Capacities => {
                self.capacities.remove(key);
                Vec::new()
            }
            ThingKind::Attachments => {
                self.forget_attachment(key);
                vec![Concerned::Waiting(Event::VolumeAttachmentDelete)]
            }
        }
    }

    fn note_claim(&mut self, key: &str, claim: Claim) -> Vec<Concerned> {
        if claim.selected.is_some() || claim.bound {
            self.chosen.remove(key);
        }
        self.stale_claim(key);
        let volume = claim.volume.clone();
        if let Some(old) = self.claims.insert(key.into(), claim) {
            drop_from(&mut self.by_volume, &old.volume, key);
        }
        add(&mut self.by_volume, &volume, key);
        vec![Concerned::Claim(key.into())]
    }

    fn note_volume(&mut self, key: &str, volume: Volume) -> Vec<Concerned> {
        if volume.claim.is_some() {
            self.given.remove(key);
        }
        if self.volumes.get(key) == Some(&volume) {
            return Vec::new();
        }
        self.note_users(key);
        let claim = volume.claim.clone();
        let class = volume.fabric.class.clone();
        let old = self.volumes.insert(key.into(), volume);
        let event = if old.is_some() {
            Event::VolumeUpdate
        } else {
            Event::VolumeAdd
        };
        let before = old.and_then(|old| {
            drop_from(&mut self.by_class, &old.fabric.class, key);
            old.claim
        });
        // Volumes of no class are kept together, too.
        self.by_class.entry(class).or_default().insert(key.into());
        let mut concerned = self.concerned_by(key, claim);
        concerned.extend(before.map(|claim| Concerned::Claim(claim.claim)));
        concerned.push(Concerned::Waiting(event));
        concerned
    }

    fn concerned_by(&self, volume: &str, claim: Option<ClaimRef>) -> Vec<Concerned> {
        let named = claim.map(|claim| claim.claim);
        let naming = self.by_volume.get(volume).into_iter().flatten().cloned();
        let mut claims: Vec<Box<str>> = named.into_iter().chain(naming).collect();
        claims.sort();
        claims.dedup();
        claims.into_iter().map(Concerned::Claim).collect()
    }

    /// Volumes on nodes are counted by what claims and attachments say of this one.
    fn note_users(&mut self, volume: &str) {
        let claims = self.by_volume.get(volume).cloned();
        for claim in claims.into_iter().flatten() {
            self.stale_claim(&claim);
        }
        let attachments = self.attachments_of.get(volume).into_iter().flatten();
        let nodes = attachments.filter_map(|key| self.attachments.get(key));
        let nodes: Vec<Box<str>> = nodes.map(|attachment| attachment.node.clone()).collect();
        for node in nodes {
            self.stale_node(&node);
        }
    }

    fn stale_node(&mut self, node: &str) {
        self.stale_nodes.insert(node.into());
        self.all_stale |= self.stale_nodes.len() > STALE_MAX;
        self.tidy();
    }

    fn stale_claim(&mut self, claim: &str) {
        self.stale_claims.insert(claim.into());
        self.all_stale |= self.stale_claims.len() > STALE_MAX;
        self.tidy();
    }

    /// Where all is to be counted again nothing else need be remembered.
    fn tidy(&mut self) {
        if self.all_stale {
            self.stale_nodes.clear();
            self.stale_claims.clear();
        }
    }

    fn forget_attachment(&mut self, key: &str) {
        if let Some(old) = self.attachments.remove(key) {
            drop_from(&mut self.attached_to, &old.node, key);
            drop_from(&mut self.attachments_of, &old.volume, key);
            self.stale_node(&old.node);
        }
    }

    // ---- what is assumed

    /// A pod got these with its node: until the API says so, too, others do as if it did.
    pub(crate) fn assume(&mut self, pod: PodKey, node: &str, bindings: &Bindings) {
        for (volume, claim) in &bindings.to_bind {
            let uid = self.claims.get(claim).map_or("", |claim| &claim.uid);
            let reference = ClaimRef {
                claim: claim.clone(),
                uid: uid.into(),
            };
            self.given.insert(volume.clone(), (reference, pod));
        }
        for claim in &bindings.to_make {
            self.chosen.insert(claim.clone(), (node.into(), pod));
        }
    }

    /// Takes that back. True if there was something.
    pub(crate) fn give_back(&mut self, pod: PodKey) -> bool {
        let before = self.given.len() + self.chosen.len();
        self.given.retain(|_, (_, other)| *other != pod);
        self.chosen.retain(|_, (_, other)| *other != pod);
        before > self.given.len() + self.chosen.len()
    }

    // ---- volumes as drivers know them

    /// What a claim counts as on the node of a pod that uses it.
    pub(crate) fn attach_of(&self, key: &str) -> Option<Attach> {
        let claim = self.claims.get(key)?;
        if let Some(volume) = self.volumes.get(&claim.volume) {
            return volume.attach.clone();
        }
        let class = self.classes.get(&claim.fabric.class)?;
        let driver = migrated::driver_of(&class.provisioner).filter(|d| !d.is_empty())?;
        Some(Attach {
            driver: driver.into(),
            // No driver can have this handle.
            handle: format!("\0{key}").into(),
        })
    }

    /// A claim was made for the pod that uses it.
    fn is_for(&self, key: &str, uid: &str) -> bool {
        self.claims
            .get(key)
            .is_some_and(|claim| *claim.owner == *uid)
    }

    /// Volumes of a pod that has a node.
    pub(crate) fn attached_by<'a>(&'a self, uses: &'a Uses) -> impl Iterator<Item = Attach> + 'a {
        let claims = uses.claims.iter().filter_map(|(key, own)| {
            let counts = !own || self.is_for(key, &uses.uid);
            counts.then(|| self.attach_of(key)).flatten()
        });
        claims.chain(uses.inline.iter().cloned())
    }

    /// Volumes that are attached to a node, by the attacher's word.
    pub(crate) fn attached_to(&self, node: &str) -> impl Iterator<Item = Attach> + '_ {
        let known = self.attached_to.get(node).into_iter().flatten();
        known.filter_map(|key| {
            let attachment = self.attachments.get(key)?;
            let volume = self.volumes.get(&attachment.volume)?;
            let handle = volume.csi_handle.clone()?;
            let driver = attachment.driver.clone();
            (!driver.is_empty()).then_some(Attach { driver, handle })
        })
    }
}

//! The graph of owners and its queue of objects to look at.

use super::uid::{Uid, Uids};
use super::{FOREGROUND_FINALIZER, ORPHAN_FINALIZER};
use crate::action::{Action, Propagation, ResourceRef};
use crate::pod::text_of;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use meta::{Value, object};
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;

/// An entry of metadata.ownerReferences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerReference {
    /// apiVersion of the owner.
    pub api_version: String,
    /// kind of the owner.
    pub kind: String,
    /// name of the owner.
    pub name: String,
    /// uid of the owner.
    pub uid: String,
    /// blockOwnerDeletion.
    pub block: bool,
}

/// What the graph needs to know of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The object's resource.
    pub resource: ResourceRef,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: String,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// deletionTimestamp is set.
    pub deleting: bool,
    /// The finalizer `foregroundDeletion` is set.
    pub foreground: bool,
    /// The finalizer `orphan` is set.
    pub orphan: bool,
}

impl Observation {
    /// Reads an object's metadata.
    pub fn from_object(resource: ResourceRef, value: &Value) -> Self {
        let has = |wanted: &str| object::finalizers(value).any(|finalizer| finalizer == wanted);
        Self {
            resource,
            namespace: object::namespace(value).to_owned(),
            name: object::name(value).to_owned(),
            uid: object::uid(value).to_owned(),
            owners: object::owner_references(value)
                .iter()
                .map(|owner| OwnerReference {
                    api_version: text_of(owner, "apiVersion").to_owned(),
                    kind: text_of(owner, "kind").to_owned(),
                    name: text_of(owner, "name").to_owned(),
                    uid: text_of(owner, "uid").to_owned(),
                    block: owner
                        .get("blockOwnerDeletion")
                        .and_then(Value::as_bool)
                        .unwrap_or(false),
                })
                .collect(),
            deleting: object::is_deleting(value),
            foreground: has(FOREGROUND_FINALIZER),
            orphan: has(ORPHAN_FINALIZER),
        }
    }
}

/// The live API's answer about an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerFound {
    /// It exists with this uid; an observation of it is on the way.
    Present,
    /// There is no such object, or it has another uid, or its kind is unknown for good.
    Absent,
    /// The API could not tell. The graph asks again at once: answer after a pause.
    Unknown,
}

type Slot = u32;

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// An observation was given.
    Observed,
    /// Only named by dependents; nobody has looked.
    Rumoured,
    /// Asked for; the answer is pending.
    Asked,
    /// The live API has it, the observation has not come yet.
    Confirmed,
    /// It does not exist. Kept while dependents name it.
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The upper half of the uid's hash.
    hash: u32,
    slot: Slot,
}

#[derive(Debug)]
struct Edge {
    owner: Slot,
    block: bool,
}

#[derive(Debug)]
struct Node {
    uid: Uid,
    name: Box<str>,
    owners: Box<[Edge]>,
    #[allow(clippy::box_collection)] // most objects have none: 8 bytes instead of 48
    dependents: Option<Box<HashSet<Slot, RandomState>>>,
    namespace: u32,
    /// Index into `resources` (observed) or `kinds` (only named).
    kind: u32,
    sight: Sight,
    deleting: bool,
    foreground: bool,
    orphan: bool,
    queued: bool,
}

impl Node {
    fn has_dependents(&self) -> bool {
        self.dependents
            .as_ref()
            .is_some_and(|dependents| !dependents.is_empty())
    }
    fn waits_for_dependents(&self) -> bool {
        self.sight == Sight::Observed && self.deleting && self.foreground
    }
    fn waits_for_orphans(&self) -> bool {
        self.sight == Sight::Observed && self.deleting && self.orphan
    }
}

/// Small numbers for values that repeat a million times.
#[derive(Debug)]
struct Table<T> {
    numbers: HashMap<T, u32, RandomState>,
    values: Vec<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            numbers: HashMap::default(),
            values: Vec::new(),
        }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Table<T> {
    fn number(&mut self, value: &T) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        self.numbers.insert(value.clone(), number);
        self.values.push(value.clone());
        number
    }
    fn get(&self, number: u32) -> Option<&T> {
        self.values.get(number as usize)
    }
}

/// Nodes in blocks: their number grows without moving them.
#[derive(Debug, Default)]
struct Nodes {
    blocks: Vec<Vec<Option<Node>>>,
}

impl Nodes {
    const BLOCK: usize = 1024;

    fn get(&self, slot: Slot) -> Option<&Node> {
        let (block, place) = (slot as usize / Self::BLOCK, slot as usize % Self::BLOCK);
        self.blocks.get(block)?.get(place)?.as_ref()
    }

    /// The node in a slot, or the place for one.
    fn at(&mut self, slot: Slot) -> Option<&mut Option<Node>> {
        let (block, place) = (slot as usize / Self::BLOCK, slot as usize % Self::BLOCK);
        self.blocks.get_mut(block)?.get_mut(place)
    }

    fn push(&mut self, node: Node) -> Slot {
        if self
            .blocks
            .last()
            .is_none_or(|last| last.len() == Self::BLOCK)
        {
            self.blocks.push(Vec::with_capacity(Self::BLOCK));
        }
        let full = (self.blocks.len() - 1) * Self::BLOCK;
        let place = self.blocks.last_mut().map_or(0, |last| {
            last.push(Some(node));
            last.len() - 1
        });
        Slot::try_from(full + place).unwrap_or(Slot::MAX)
    }
}

/// The graph. Feed it every object of every deletable resource, then poll.
#[derive(Debug, Default)]
pub struct Graph {
    /// Slots by their nodes' uids: 9 bytes an entry, since the uid is in the node. It grows without a look at nodes.
    index: HashTable<Entry>,
    hasher: RandomState,
    nodes: Nodes,
    free: Vec<Slot>,
    uids: Uids,
    namespaces: Table<String>,
    resources: Table<ResourceRef>,
    /// (apiVersion, kind) of owners that were only named.
    kinds: Table<(String, String)>,
    queue: VecDeque<Slot>,
}

impl Graph {
    /// Objects known or named.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Objects waiting to be looked at.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// An object was added or changed.
    pub fn observe(&mut self, seen: &Observation) {
        let uid = self.uids.number(&seen.uid);
        let kind = self.resources.number(&seen.resource);
        let namespace = self.namespaces.number(&seen.namespace);
        let slot = self.slot_of(uid, &seen.name, namespace, kind, Sight::Observed);
        let owners = self.edges_to(slot, seen, namespace);
        let Some(node) = self.node_mut(slot) else {
            return;
        };
        let was_rumour = node.sight != Sight::Observed;
        let waited = (node.waits_for_dependents(), node.waits_for_orphans());
        let was_deleting = node.deleting;
        node.sight = Sight::Observed;
        if node.name.as_ref() != seen.name.as_str() {
            node.name = seen.name.as_str().into();
        }
        (node.kind, node.namespace) = (kind, namespace);
        (node.deleting, node.foreground, node.orphan) =
            (seen.deleting, seen.foreground, seen.orphan);
        let before = std::mem::replace(&mut node.owners, owners);
        let waits = (node.waits_for_dependents(), node.waits_for_orphans());
        let changed = before.len() != node.owners.len()
            || before
                .iter()
                .zip(&node.owners)
                .any(|(a, b)| (a.owner, a.block) != (b.owner, b.block));
        let has_owners = !node.owners.is_empty();
        self.unlink(slot, &before);
        // A reference that was dropped or unblocked may be what an owner waits for.
        if changed {
            for edge in &before {
                self.enqueue_if_waiting(edge.owner);
            }
        }
        // An owner that came to light concerns its dependents.
        if was_rumour {
            self.enqueue_dependents(slot);
        }
        if (waits.0 && !waited.0)
            || (waits.1 && !waited.1)
            || (has_owners && (changed || was_rumour))
        {
            self.enqueue(slot);
        }
        // A dependent that is deleting itself no longer needs deleting, but still blocks.
        if was_deleting != seen.deleting && seen.deleting && has_owners {
            self.enqueue(slot);
        }
    }

    /// An object was deleted.
    pub fn forget(&mut self, uid: &str) {
        let uid = self.uids.number(uid);
        let Some(slot) = self.find(uid) else {
            return;
        };
        let Some(node) = self.node_mut(slot) else {
            return;
        };
        let owners = std::mem::take(&mut node.owners);
        if node.has_dependents() {
            node.sight = Sight::Gone;
            (node.deleting, node.foreground, node.orphan) = (false, false, false);
            self.enqueue_dependents(slot);
        }
        self.unlink(slot, &owners);
        for edge in &owners {
            self.enqueue_if_waiting(edge.owner);
        }
        self.collect(slot);
    }

    /// The answer to [`Action::CheckOwner`].
    pub fn owner_checked(&mut self, uid: &str, found: OwnerFound) {
        let uid = self.uids.number(uid);
        let Some(slot) = self.find(uid) else {
            return;
        };
        let Some(node) = self.node_mut(slot) else {
            return;
        };
        if node.sight == Sight::Observed {
            return;
        }
        node.sight = match found {
            OwnerFound::Present => Sight::Confirmed,
            OwnerFound::Absent => Sight::Gone,
            OwnerFound::Unknown => Sight::Rumoured,
        };
        if found != OwnerFound::Present {
            self.enqueue_dependents(slot);
        }
    }

    /// An action about this object failed: look at it again.
    pub fn retry(&mut self, uid: &str) {
        let uid = self.uids.number(uid);
        if let Some(slot) = self.find(uid) {
            self.enqueue(slot);
        }
    }

    /// Looks at up to `budget` queued objects. An object whose action was carried out comes back by
    /// its own events; one whose action failed comes back by [`Graph::retry`].
    pub fn poll(&mut self, budget: usize, actions: &mut Vec<Action>) {
        for _ in 0..budget {
            let Some(slot) = self.queue.pop_front() else {
                return;
            };
            if let Some(node) = self.node_mut(slot) {
                node.queued = false;
                self.look_at(slot, actions);
            }
        }
    }

    fn look_at(&mut self, slot: Slot, actions: &mut Vec<Action>) {
        let Some(node) = self.node(slot) else { return };
        if node.sight != Sight::Observed {
            return;
        }
        if node.waits_for_orphans() {
            return self.orphan(slot, actions);
        }
        if node.waits_for_dependents() {
            return self.finish_foreground(slot, actions);
        }
        if node.deleting || node.owners.is_empty() {
            return;
        }
        let (mut solid, mut dangling, mut waiting, mut undecided) =
            (false, Vec::new(), Vec::new(), Vec::new());
        for edge in &node.owners {
            let Some(owner) = self.node(edge.owner) else {
                continue;
            };
            let foreign = owner.sight == Sight::Observed
                && self
                    .namespaces
                    .get(owner.namespace)
                    .is_some_and(|namespace| !namespace.is_empty())
                && owner.namespace != node.namespace;
            match owner.sight {
                _ if foreign => dangling.push(edge.owner),
                Sight::Gone => dangling.push(edge.owner),
                Sight::Rumoured | Sight::Asked => undecided.push(edge.owner),
                Sight::Observed if owner.waits_for_dependents() && edge.block => {
                    waiting.push(edge.owner)
                }
                Sight::Observed | Sight::Confirmed => solid = true,
            }
        }
        if !undecided.is_empty() {
            for owner in undecided {
                self.ask(owner, slot, actions);
            }
            return;
        }
        if solid {
            if !dangling.is_empty() || !waiting.is_empty() {
                dangling.append(&mut waiting);
                actions.extend(self.remove_owners(slot, &dangling));
            }
            return;
        }
        let node_has_dependents = self.node(slot).is_some_and(Node::has_dependents);
        if !waiting.is_empty() && node_has_dependents {
            // Its own dependents have to go first, so that the owner's wait covers them too.
            if self
                .dependents_of(slot)
                .any(|dependent| self.node(dependent).is_some_and(Node::waits_for_dependents))
            {
                actions.extend(self.unblock_owners(slot)); // a cycle would wait for ever
            }
            actions.extend(self.delete(slot, Propagation::Foreground));
            return;
        }
        let policy = match self.node(slot) {
            Some(node) if node.orphan => Propagation::Orphan,
            Some(node) if node.foreground => Propagation::Foreground,
            _ => Propagation::Background,
        };
        actions.extend(self.delete(slot, policy));
    }

    fn orphan(&mut self, slot: Slot, actions: &mut Vec<Action>) {
        let dependents: Vec<Slot> = self.dependents_of(slot).collect();
        if dependents.is_empty() {
            actions.extend(self.remove_finalizer(slot, ORPHAN_FINALIZER));
        }
        for dependent in dependents {
            actions.extend(self.remove_owners(dependent, &[slot]));
        }
    }

    fn finish_foreground(&mut self, slot: Slot, actions: &mut Vec<Action>) {
        let blocking: Vec<Slot> = self
            .dependents_of(slot)
            .filter(|dependent| self.blocks(*dependent, slot))
            .collect();
        if blocking.is_empty() {
            actions.extend(self.remove_finalizer(slot, FOREGROUND_FINALIZER));
        }
        for dependent in blocking {
            if self.node(dependent).is_some_and(|node| !node.deleting) {
                self.enqueue(dependent);
            }
        }
    }

    fn ask(&mut self, owner: Slot, dependent: Slot, actions: &mut Vec<Action>) {
        let namespace = self
            .node(dependent)
            .and_then(|node| self.namespaces.get(node.namespace))
            .cloned();
        let Some(node) = self
            .node_mut(owner)
            .filter(|node| node.sight == Sight::Rumoured)
        else {
            return;
        };
        node.sight = Sight::Asked;
        let (kind, name, uid) = (node.kind, node.name.to_string(), node.uid);
        let (api_version, kind) = self.kinds.get(kind).cloned().unwrap_or_default();
        let namespace = namespace.unwrap_or_default();
        actions.push(Action::CheckOwner {
            api_version,
            kind,
            namespace,
            name,
            uid: self.uids.text(uid),
        });
    }

    fn coordinates(&self, slot: Slot) -> Option<(ResourceRef, String, String, String)> {
        let node = self.node(slot)?;
        let resource = *self.resources.get(node.kind)?;
        let namespace = self.namespaces.get(node.namespace)?.clone();
        Some((
            resource,
            namespace,
            node.name.to_string(),
            self.uids.text(node.uid),
        ))
    }

    fn delete(&self, slot: Slot, propagation: Propagation) -> Option<Action> {
        let (resource, namespace, name, uid) = self.coordinates(slot)?;
        let propagation = Some(propagation);
        Some(Action::Delete {
            resource,
            namespace,
            name,
            uid,
            propagation,
            grace_seconds: None,
            announce: None,
        })
    }

    fn remove_owners(&self, slot: Slot, owners: &[Slot]) -> Option<Action> {
        let (resource, namespace, name, uid) = self.coordinates(slot)?;
        let owners = owners
            .iter()
            .filter_map(|owner| self.node(*owner))
            .map(|owner| self.uids.text(owner.uid))
            .collect();
        Some(Action::RemoveOwners {
            resource,
            namespace,
            name,
            uid,
            owners,
        })
    }

    fn unblock_owners(&self, slot: Slot) -> Option<Action> {
        let (resource, namespace, name, uid) = self.coordinates(slot)?;
        Some(Action::UnblockOwners {
            resource,
            namespace,
            name,
            uid,
        })
    }

    fn remove_finalizer(&self, slot: Slot, finalizer: &'static str) -> Option<Action> {
        let (resource, namespace, name, uid) = self.coordinates(slot)?;
        Some(Action::RemoveFinalizer {
            resource,
            namespace,
            name,
            uid,
            finalizer,
        })
    }

    fn find(&self, uid: Uid) -> Option<Slot> {
        let hash = self.hash(uid);
        let is_it = |entry: &Entry| {
            entry.hash == hash && self.node(entry.slot).is_some_and(|node| node.uid == uid)
        };
        Some(self.index.find(spread(hash), is_it)?.slot)
    }

    fn hash(&self, uid: Uid) -> u32 {
        (self.hasher.hash_one(uid) >> 32) as u32
    }

    fn node(&self, slot: Slot) -> Option<&Node> {
        self.nodes.get(slot)
    }

    fn node_mut(&mut self, slot: Slot) -> Option<&mut Node> {
        self.nodes.at(slot)?.as_mut()
    }

    fn dependents_of(&self, slot: Slot) -> impl Iterator<Item = Slot> + '_ {
        self.node(slot)
            .and_then(|node| node.dependents.as_deref())
            .into_iter()
            .flatten()
            .copied()
    }

    fn slot_of(&mut self, uid: Uid, name: &str, namespace: u32, kind: u32, sight: Sight) -> Slot {
        if let Some(slot) = self.find(uid) {
            return slot;
        }
        let first_sight = if sight == Sight::Observed {
            Sight::Rumoured
        } else {
            sight
        };
        let node = Node {
            uid,
            name: name.into(),
            owners: Box::default(),
            dependents: None,
            namespace,
            kind,
            sight: first_sight,
            deleting: false,
            foreground: false,
            orphan: false,
            queued: false,
        };
        let free = self.free.pop();
        let slot = match free.and_then(|slot| Some((slot, self.nodes.at(slot)?))) {
            Some((slot, place)) => {
                *place = Some(node);
                slot
            }
            None => self.nodes.push(node),
        };
        let entry = Entry {
            hash: self.hash(uid),
            slot,
        };
        let rehash = |other: &Entry| spread(other.hash);
        self.index.insert_unique(spread(entry.hash), entry, rehash);
        slot
    }

    /// Links a dependent with its owners; owners never seen become rumours.
    fn edges_to(&mut self, dependent: Slot, seen: &Observation, namespace: u32) -> Box<[Edge]> {
        let mut edges: Vec<Edge> = Vec::with_capacity(seen.owners.len());
        for reference in &seen.owners {
            let uid = self.uids.number(&reference.uid);
            let owner = match self.find(uid) {
                Some(slot) => slot,
                None => {
                    let kind = self
                        .kinds
                        .number(&(reference.api_version.clone(), reference.kind.clone()));
                    self.slot_of(uid, &reference.name, namespace, kind, Sight::Rumoured)
                }
            };
            if edges.iter().any(|edge| edge.owner == owner) {
                continue;
            }
            edges.push(Edge {
                owner,
                block: reference.block,
            });
            if let Some(node) = self.node_mut(owner) {
                node.dependents.get_or_insert_default().insert(dependent);
            }
        }
        edges.into()
    }

    /// Removes links to former owners that are not owners any more.
    fn unlink(&mut self, dependent: Slot, former: &[Edge]) {
        for edge in former {
            let kept = self
                .node(dependent)
                .is_some_and(|node| node.owners.iter().any(|now| now.owner == edge.owner));
            if kept {
                continue;
            }
            if let Some(owner) = self.node_mut(edge.owner) {
                if let Some(dependents) = &mut owner.dependents {
                    dependents.remove(&dependent);
                    if dependents.is_empty() {
                        owner.dependents = None;
                    }
                }
                if owner.sight != Sight::Observed && edge.owner != dependent {
                    self.collect(edge.owner);
                }
            }
        }
    }

    /// Frees a node that is not observed and that nobody names.
    fn collect(&mut self, slot: Slot) {
        let Some(node) = self.node(slot) else { return };
        if node.has_dependents() {
            return;
        }
        let hash = self.hash(node.uid);
        let entry = self
            .index
            .find_entry(spread(hash), |other| other.slot == slot);
        if let Ok(entry) = entry {
            entry.remove();
        }
        if let Some(place) = self.nodes.at(slot) {
            *place = None;
        }
        self.free.push(slot);
    }

    fn enqueue(&mut self, slot: Slot) {
        if let Some(node) = self.node_mut(slot)
            && !node.queued
        {
            node.queued = true;
            self.queue.push_back(slot);
        }
    }

    /// Wakes an owner whose wait may be over. Stops at the first dependent that still holds it up, so
    /// that ten thousand dependents going one by one do not cost ten thousand scans each.
    fn enqueue_if_waiting(&mut self, slot: Slot) {
        let Some(node) = self.node(slot) else { return };
        let ready = if node.waits_for_orphans() {
            !node.has_dependents()
        } else {
            node.waits_for_dependents()
                && !self
                    .dependents_of(slot)
                    .any(|dependent| self.blocks(dependent, slot))
        };
        if ready {
            self.enqueue(slot);
        }
    }

    /// Whether this dependent holds up the owner's foreground deletion.
    fn blocks(&self, dependent: Slot, owner: Slot) -> bool {
        self.node(dependent).is_some_and(|node| {
            node.owners
                .iter()
                .any(|edge| edge.owner == owner && edge.block)
        })
    }

    fn enqueue_dependents(&mut self, slot: Slot) {
        let dependents: Vec<Slot> = self.dependents_of(slot).collect();
        for dependent in dependents {
            self.enqueue(dependent);
        }
    }
}

/// The index takes a place from the lower bits, and a tag from the upper seven.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_small() {
        // Plus a name, an edge and an entry in the index: about 160 bytes for a leaf.
        assert!(
            std::mem::size_of::<Option<Node>>() <= 80,
            "{} bytes",
            std::mem::size_of::<Option<Node>>()
        );
        assert_eq!(std::mem::size_of::<Edge>(), 8);
    }
}

//! What is known of the cluster: a mirror a feed, and the indices that planners are served from.
//!
//! An event costs a few look-ups, whatever the size of the cluster, and what stayed as it was costs none: an object is
//! found once, by its key, and from there on by its slot in the mirror. Does not know which controller wants what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use client::keyed::Slot;
use client::{Change, Mirror};
use foldhash::quality::RandomState;
use meta::{Value, object};
use reconcile::daemonset::{Classes, NodeFacts};
use reconcile::devicetaint::{self, SliceTaints};
use reconcile::endpointslice::{MANAGED_BY_LABEL, MANAGER, SERVICE_NAME_LABEL};
use reconcile::garbage::Observation;
use reconcile::nodelifecycle::NodeView;
use reconcile::pod::Labels;
use reconcile::volume::{PERSISTENT_VOLUMES, STORAGE_CLASSES, Wanted};
use reconcile::{Pod, ResourceRef, action};

use crate::controller::Controller;
use crate::feed::{Seen, SeenBody, feeds, fingerprint};
use crate::pods::{PodIndex, Pods};
use crate::storage::Storage;

/// An object in a mirror.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Empty for pods, which have it themselves.
    uid: Box<str>,
    pub(crate) version: i64,
    pub(crate) deleting: bool,
    fingerprint: u64,
    /// Of objects that are going away.
    finalizers: Box<[Box<str>]>,
    pub(crate) body: Body,
}

/// The part that only some controllers read.
#[derive(Debug)]
pub(crate) enum Body {
    Nothing,
    Pod(Arc<Pod>),
    Node {
        zone: Option<Box<str>>,
        /// Shared by all nodes that DaemonSets cannot tell apart but by name.
        facts: Arc<NodeFacts>,
    },
    Renewed {
        micros: i64,
    },
    Slice(Arc<SliceTaints>),
    Whole(Arc<Value>),
}

impl Kept {
    pub(crate) fn uid(&self) -> &str {
        match &self.body {
            Body::Pod(pod) => &pod.uid,
            _ => &self.uid,
        }
    }

    pub(crate) fn pod(&self) -> Option<&Arc<Pod>> {
        if let Body::Pod(pod) = &self.body {
            Some(pod)
        } else {
            None
        }
    }

    /// What DaemonSets see of a node.
    pub(crate) fn facts(&self) -> Option<&Arc<NodeFacts>> {
        match &self.body {
            Body::Node { facts, .. } => Some(facts),
            _ => None,
        }
    }

    /// What is known of the tainted devices of a ResourceSlice.
    pub(crate) fn slice(&self) -> Option<&Arc<SliceTaints>> {
        match &self.body {
            Body::Slice(slice) => Some(slice),
            _ => None,
        }
    }

    pub(crate) fn whole(&self) -> Option<&Arc<Value>> {
        if let Body::Whole(value) = &self.body {
            Some(value)
        } else {
            None
        }
    }
}

/// Something happened to an object. What it is now stands in the mirror.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) resource: ResourceRef,
    pub(crate) key: String,
    pub(crate) old: Option<Kept>,
    /// What was there is there no more: it is gone, or another object has its name.
    pub(crate) is_old_gone: bool,
    place: usize,
    /// Where it is in the mirror; None: it is gone.
    slot: Option<Slot>,
    /// What the garbage collector has to hear; none if nothing changed for it.
    pub(crate) observation: Option<Observation>,
    /// The node, if it is one.
    pub(crate) node: Option<Box<NodeView>>,
}

/// Objects of one resource in one namespace.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) objects: usize,
    pub(crate) deleting: usize,
    pub(crate) finalizers: BTreeMap<Box<str>, usize>,
}

/// What selects pods and takes those that nobody controls.
const ADOPTERS: [(Controller, ResourceRef); 5] = [
    (Controller::ReplicaSet, action::REPLICA_SETS),
    (
        Controller::ReplicationController,
        action::REPLICATION_CONTROLLERS,
    ),
    (Controller::DaemonSet, action::DAEMON_SETS),
    (Controller::StatefulSet, action::STATEFUL_SETS),
    (Controller::Job, action::JOBS),
];

type Contents = HashMap<Box<str>, BTreeMap<usize, Count>, RandomState>;

/// The mirrors and their indices.
pub(crate) struct Cluster {
    mirrors: Vec<Mirror<Kept>>,
    places: HashMap<ResourceRef, usize, RandomState>,
    pods_place: usize,
    nodes_place: usize,
    services_place: usize,
    adopters_places: [usize; ADOPTERS.len()],
    labels: Labels,
    classes: Classes,
    pods: PodIndex,
    pub(crate) storage: Storage,
    /// Keys of whole objects in order, by place.
    names: Vec<BTreeSet<Box<str>>>,
    /// Who controls pods, ReplicaSets or Jobs, by uid.
    owners: HashMap<Box<str>, (Controller, Box<str>), RandomState>,
    /// ReplicaSets by the uid of their controller, and those without one.
    sets_by_controller: HashMap<Box<str>, BTreeSet<Box<str>>>,
    free_sets: BTreeSet<Box<str>>,
    /// Jobs by the uid of their controller.
    jobs_by_controller: HashMap<Box<str>, BTreeSet<Box<str>>>,
    /// Resource claims by the uid of their controller.
    claims_by_controller: HashMap<Box<str>, BTreeSet<Box<str>>>,
    /// Our EndpointSlices by `namespace/service`.
    slices: HashMap<String, BTreeSet<Box<str>>>,
    /// What namespaces hold, by place.
    contents: Contents,
}

impl Cluster {
    /// An empty cluster.
    pub(crate) fn new() -> Cluster {
        let places: HashMap<_, _, _> = feeds()
            .iter()
            .enumerate()
            .map(|(place, feed)| (feed.reference, place))
            .collect();
        let place = |resource| {
            *places
                .get(&resource)
                .expect("every built-in kind is followed")
        };
        Cluster {
            pods_place: place(action::PODS),
            nodes_place: place(action::NODES),
            services_place: place(action::SERVICES),
            adopters_places: ADOPTERS.map(|(_, resource)| place(resource)),
            mirrors: feeds().iter().map(|_| Mirror::default()).collect(),
            places,
            labels: Labels::default(),
            classes: Classes::default(),
            pods: PodIndex::default(),
            storage: Storage::default(),
            names: feeds().iter().map(|_| BTreeSet::new()).collect(),
            owners: HashMap::default(),
            sets_by_controller: HashMap::new(),
            free_sets: BTreeSet::new(),
            jobs_by_controller: HashMap::new(),
            claims_by_controller: HashMap::new(),
            slices: HashMap::new(),
            contents: HashMap::default(),
        }
    }

    /// Takes in a change of a feed.
    pub(crate) fn apply(&mut self, place: usize, change: Change<Seen>, events: &mut Vec<Event>) {
        let Some(mirror) = self.mirrors.get_mut(place) else {
            return;
        };
        match change {
            Change::Restart => mirror.restart(),
            Change::Same(_) => {}
            Change::Apply(key, seen) => events.push(self.seen(place, key, seen)),
            Change::Delete(key) => {
                if let Some(slot) = mirror.find(&key)
                    && let Some(old) = mirror.remove(slot)
                {
                    events.push(self.gone(place, slot, key, old));
                }
            }
            Change::Synced => {
                for (slot, key, old) in mirror.sync() {
                    events.push(self.gone(place, slot, key, old));
                }
            }
        }
    }

    /// An object is new, or otherwise than it was.
    fn seen(&mut self, place: usize, key: String, seen: Seen) -> Event {
        let print = fingerprint(seen.uid(), &seen.ties);
        let found = self.mirrors[place].find(&key);
        let (body, node) = self.keep(place, found, seen.body);
        let is_whole = matches!(body, Body::Whole(_));
        let kept = Kept {
            uid: seen.uid,
            version: seen.version,
            deleting: seen.ties.deleting,
            fingerprint: print,
            finalizers: seen.finalizers.into_iter().map(Box::from).collect(),
            body,
        };
        let mirror = &mut self.mirrors[place];
        let (slot, old) = match found {
            Some(slot) => (slot, mirror.replace(slot, kept)),
            None => mirror.put(&key, kept),
        };
        let new = mirror.at(slot);
        recount(&mut self.contents, place, &key, old.as_ref(), new);
        let old_pod = old.as_ref().and_then(Kept::pod);
        match (old_pod, new.and_then(Kept::pod)) {
            (Some(old), Some(new)) => self.pods.change(slot, old, new),
            (None, Some(new)) => self.pods.enter(slot, new),
            _ => {}
        }
        if let Some(old) = &old {
            self.index(place, &key, old, false);
        }
        if is_whole {
            // Moved out for a moment, because indexing needs all of the cluster.
            let mirror = std::mem::take(&mut self.mirrors[place]);
            if let Some(new) = mirror.at(slot) {
                self.index(place, &key, new, true);
            }
            self.mirrors[place] = mirror;
        }
        let new = self.mirrors[place].at(slot);
        let is_old_gone = old
            .as_ref()
            .zip(new)
            .is_some_and(|(old, new)| old.uid() != new.uid());
        let is_news = old.as_ref().is_none_or(|old| old.fingerprint != print);
        let resource = feeds()[place].reference;
        let observation = new
            .filter(|_| is_news)
            .map(|new| seen.ties.observation(resource, &key, new.uid()));
        Event {
            resource,
            key,
            old,
            is_old_gone,
            place,
            slot: Some(slot),
            observation,
            node,
        }
    }

    /// An object is gone.
    fn gone(&mut self, place: usize, slot: Slot, key: String, old: Kept) -> Event {
        recount(&mut self.contents, place, &key, Some(&old), None);
        match &old.body {
            Body::Pod(pod) => self.pods.leave(slot, pod),
            _ => self.index(place, &key, &old, false),
        }
        Event {
            resource: feeds()[place].reference,
            key,
            old: Some(old),
            is_old_gone: true,
            place,
            slot: None,
            observation: None,
            node: None,
        }
    }

    /// What is kept of an object that has this slot if it is known.
    fn keep(
        &mut self,
        place: usize,
        slot: Option<Slot>,
        body: SeenBody,
    ) -> (Body, Option<Box<NodeView>>) {
        let mut node = None;
        let mirror = &mut self.mirrors[place];
        let old = slot.and_then(|slot| mirror.at_mut(slot));
        let body = match body {
            SeenBody::Nothing => Body::Nothing,
            SeenBody::Renewed { micros } => Body::Renewed { micros },
            SeenBody::Slice(slice) => Body::Slice(slice),
            SeenBody::Whole(value) => Body::Whole(value),
            SeenBody::Pod(mut pod) => {
                // Nobody else has it yet.
                if let Some(new) = Arc::get_mut(&mut pod) {
                    let knows_labels = match old.map(|old| &mut old.body) {
                        Some(Body::Pod(old)) => inherit(new, old),
                        _ => false,
                    };
                    if !knows_labels {
                        self.labels.share(new);
                    }
                }
                Body::Pod(pod)
            }
            SeenBody::Node(view, facts) => {
                // The view joins region and zone by a colon.
                let zone = view
                    .zone
                    .split_once(':')
                    .map(|(_, zone)| zone)
                    .filter(|zone| !zone.is_empty());
                let zone = zone.map(Box::from);
                node = Some(view);
                // Most changes leave labels and taints as they were: then there is nothing to look for.
                let same = old
                    .and_then(|old| old.facts())
                    .filter(|old| ***old == *facts)
                    .map(Arc::clone);
                let facts = match same {
                    Some(facts) => facts,
                    None => self.classes.share(*facts),
                };
                Body::Node { zone, facts }
            }
        };
        (body, node)
    }

    /// Enters a whole object into the indices, or takes it out.
    fn index(&mut self, place: usize, key: &str, kept: &Kept, enter: bool) {
        let Body::Whole(value) = &kept.body else {
            return;
        };
        if enter {
            self.names[place].insert(key.into());
        } else {
            self.names[place].remove(key);
        }
        let controller = match feeds()[place].reference {
            action::DEPLOYMENTS => Controller::Deployment,
            action::REPLICATION_CONTROLLERS => Controller::ReplicationController,
            action::DAEMON_SETS => Controller::DaemonSet,
            action::STATEFUL_SETS => Controller::StatefulSet,
            action::JOBS => {
                if let Some(uid) = controller_uid(value) {
                    enter_group(&mut self.jobs_by_controller, uid.into(), key, enter);
                }
                Controller::Job
            }
            action::CRON_JOBS => Controller::CronJob,
            action::REPLICA_SETS => {
                match controller_uid(value) {
                    Some(uid) => enter_group(&mut self.sets_by_controller, uid.into(), key, enter),
                    None if enter => drop(self.free_sets.insert(key.into())),
                    None => drop(self.free_sets.remove(key)),
                }
                Controller::ReplicaSet
            }
            action::RESOURCE_CLAIMS => {
                if let Some(uid) = controller_uid(value) {
                    enter_group(&mut self.claims_by_controller, uid.into(), key, enter);
                }
                return;
            }
            PERSISTENT_VOLUMES => return self.storage.index_volume(key, value, enter),
            action::PERSISTENT_VOLUME_CLAIMS => {
                return self.storage.index_claim(key, value, enter);
            }
            action::ENDPOINT_SLICES => {
                if let Some(service) = service_of(value) {
                    enter_group(&mut self.slices, service, key, enter);
                }
                return;
            }
            _ => return,
        };
        if enter {
            self.owners
                .insert(kept.uid.clone(), (controller, key.into()));
        } else {
            self.owners.remove(&kept.uid);
        }
    }

    fn place(&self, resource: ResourceRef) -> Option<usize> {
        self.places.get(&resource).copied()
    }

    /// The object of an event as it is now.
    pub(crate) fn now(&self, event: &Event) -> Option<&Kept> {
        self.mirrors[event.place].at(event.slot?)
    }

    /// The pods as planners ask for them.
    pub(crate) fn pods(&self) -> Pods<'_> {
        Pods::new(&self.pods, &self.mirrors[self.pods_place])
    }

    /// What is known of a feed's resource.
    pub(crate) fn mirror(&self, place: usize) -> Option<&Mirror<Kept>> {
        self.mirrors.get(place)
    }

    /// What pods that come to a node are compared with, as far as it can be told without a look at all of it.
    pub(crate) fn guess_node(&self, node: &str) -> Option<(Option<usize>, u8)> {
        let nodes = &self.mirrors[self.nodes_place];
        let key = nodes.key(nodes.guess(node)?)?;
        let last = key.as_bytes().last().copied();
        Some((self.pods.guess_node(node), last.unwrap_or(0)))
    }

    /// Whether a node is known.
    pub(crate) fn has_node(&self, node: &str) -> bool {
        self.mirrors[self.nodes_place].find(node).is_some()
    }

    /// An object as it is known.
    pub(crate) fn get(&self, resource: ResourceRef, key: &str) -> Option<&Kept> {
        self.mirrors[self.place(resource)?].get(key)
    }

    /// A whole object.
    pub(crate) fn whole(&self, resource: ResourceRef, key: &str) -> Option<&Arc<Value>> {
        self.get(resource, key)?.whole()
    }

    /// A pod.
    pub(crate) fn pod(&self, key: &str) -> Option<&Arc<Pod>> {
        self.get(action::PODS, key)?.pod()
    }

    /// Whether a first list of these is complete.
    pub(crate) fn is_synced(&self, resource: ResourceRef) -> bool {
        self.place(resource)
            .is_some_and(|place| self.mirrors[place].is_synced())
    }

    /// Whether the first lists of all feeds are complete.
    pub(crate) fn is_all_synced(&self) -> bool {
        self.mirrors.iter().all(Mirror::is_synced)
    }

    /// Objects in all mirrors.
    pub(crate) fn len(&self) -> usize {
        self.mirrors.iter().map(Mirror::len).sum()
    }

    /// Who controls by this uid.
    pub(crate) fn owner(&self, uid: &str) -> Option<(Controller, &str)> {
        self.owners
            .get(uid)
            .map(|(controller, key)| (*controller, &**key))
    }

    /// What may adopt a pod, of which there is any in the whole cluster. Asked at every pod that nobody controls.
    pub(crate) fn adopters(&self) -> impl Iterator<Item = (Controller, ResourceRef)> + use<> {
        let places = self.adopters_places;
        let has_any = places.map(|place| !self.names[place].is_empty());
        let adopters = ADOPTERS.into_iter().zip(has_any);
        adopters.filter_map(|(adopter, has_any)| has_any.then_some(adopter))
    }

    /// Services of a namespace, with their keys.
    pub(crate) fn services_in<'a>(
        &'a self,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<Value>)> + use<'a> {
        self.begin_with(Some(self.services_place), format!("{namespace}/"))
    }

    /// Whole objects of a namespace, with their keys.
    pub(crate) fn in_namespace<'a>(
        &'a self,
        resource: ResourceRef,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<Value>)> + use<'a> {
        self.begin_with(self.place(resource), format!("{namespace}/"))
    }

    pub(crate) fn with_prefix<'a>(
        &'a self,
        resource: ResourceRef,
        prefix: String,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<Value>)> + use<'a> {
        self.begin_with(self.place(resource), prefix)
    }

    fn begin_with<'a>(
        &'a self,
        place: Option<usize>,
        prefix: String,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<Value>)> + use<'a> {
        let keys = place.map(|place| {
            self.names[place].range::<str, _>((
                std::ops::Bound::Included(&*prefix),
                std::ops::Bound::Unbounded,
            ))
        });
        let mirror = place.map(|place| &self.mirrors[place]);
        keys.into_iter()
            .flatten()
            .take_while(move |key| key.starts_with(&*prefix))
            .filter_map(move |key| Some((&**key, mirror?.get(key)?.whole()?)))
    }

    /// ReplicaSets that a Deployment controls.
    pub(crate) fn sets_of(&self, deployment_uid: &str) -> Vec<Arc<Value>> {
        let keys = self
            .sets_by_controller
            .get(deployment_uid)
            .into_iter()
            .flatten();
        keys.filter_map(|key| self.whole(action::REPLICA_SETS, key))
            .cloned()
            .collect()
    }

    /// ReplicaSets that matter to a Deployment: its own, free ones, and those whose names begin with its name.
    pub(crate) fn sets_around(&self, deployment: &Value) -> Vec<Arc<Value>> {
        let mut keys: BTreeSet<&str> = BTreeSet::new();
        let own = self
            .sets_by_controller
            .get(object::uid(deployment))
            .into_iter()
            .flatten();
        keys.extend(own.map(|key| &**key));
        let namespace = format!("{}/", object::namespace(deployment));
        let free = self.free_sets.range::<str, _>((
            std::ops::Bound::Included(&*namespace),
            std::ops::Bound::Unbounded,
        ));
        keys.extend(
            free.take_while(|key| key.starts_with(&namespace))
                .map(|key| &**key),
        );
        let named = format!("{namespace}{}-", object::name(deployment));
        keys.extend(
            self.with_prefix(action::REPLICA_SETS, named)
                .map(|(key, _)| key),
        );
        keys.into_iter()
            .filter_map(|key| self.whole(action::REPLICA_SETS, key))
            .cloned()
            .collect()
    }

    /// Jobs that a CronJob controls.
    pub(crate) fn jobs_of(&self, cron_uid: &str) -> Vec<Arc<Value>> {
        let keys = self.jobs_by_controller.get(cron_uid).into_iter().flatten();
        keys.filter_map(|key| self.whole(action::JOBS, key))
            .cloned()
            .collect()
    }

    /// Resource claims that a pod controls.
    pub(crate) fn claims_of(&self, pod_uid: &str) -> Vec<Arc<Value>> {
        let keys = self.claims_by_controller.get(pod_uid).into_iter().flatten();
        keys.filter_map(|key| self.whole(action::RESOURCE_CLAIMS, key))
            .cloned()
            .collect()
    }

    /// Volumes that name a claim.
    pub(crate) fn volumes_for(&self, claim: &str) -> Vec<Arc<Value>> {
        let names = self.storage.naming_claim(claim);
        let volumes = names.iter();
        volumes
            .filter_map(|name| self.whole(PERSISTENT_VOLUMES, name))
            .cloned()
            .collect()
    }

    /// Free volumes of the class that a claim wants, large enough, in order.
    pub(crate) fn free_volumes<'a>(
        &'a self,
        wanted: &Wanted<'_>,
    ) -> impl Iterator<Item = &'a Value> + use<'a> {
        let names = self.storage.free_for(wanted);
        names.filter_map(|name| self.whole(PERSISTENT_VOLUMES, name).map(|volume| &**volume))
    }

    /// A plan for a claim has ended: a volume that it did not get is free for others.
    pub(crate) fn claim_planned(&mut self, claim: &str, went_well: bool) {
        let Some(name) = self.storage.plan_ended(claim).filter(|_| !went_well) else {
            return;
        };
        if let Some(volume) = self.whole(PERSISTENT_VOLUMES, &name).cloned() {
            self.storage.take_back(&volume);
        }
    }

    /// The class of claims that name none.
    pub(crate) fn default_class(&self) -> Option<&str> {
        let classes = self.with_prefix(STORAGE_CLASSES, String::new());
        reconcile::volume::default_class(classes.map(|(_, class)| &**class))
    }

    /// Keys of pods that use a device of this pool.
    pub(crate) fn users_of_pool(&self, pool: (&str, &str)) -> Vec<String> {
        let claims = self.with_prefix(action::RESOURCE_CLAIMS, String::new());
        let using = claims.filter(|(_, claim)| devicetaint::uses_pool(claim, pool));
        using.flat_map(|(_, claim)| users_of(claim)).collect()
    }

    /// Our EndpointSlices of a Service.
    pub(crate) fn slices_of(&self, service: &str) -> Vec<Arc<Value>> {
        let keys = self.slices.get(service).into_iter().flatten();
        keys.filter_map(|key| self.whole(action::ENDPOINT_SLICES, key))
            .cloned()
            .collect()
    }

    /// The zone of a node.
    pub(crate) fn zone_of(&self, node: &str) -> Option<String> {
        match &self.get(action::NODES, node)?.body {
            Body::Node { zone, .. } => zone.as_deref().map(str::to_owned),
            _ => None,
        }
    }

    /// All nodes by name, as DaemonSets see them.
    pub(crate) fn nodes(&self) -> Vec<(&str, &Arc<NodeFacts>)> {
        let mirror = self
            .place(action::NODES)
            .map(|place| &self.mirrors[place])
            .into_iter();
        mirror
            .flat_map(Mirror::iter)
            .filter_map(|(name, kept)| Some((name, kept.facts()?)))
            .collect()
    }

    /// Revisions whose names begin with their owner's.
    pub(crate) fn revisions_around(&self, owner: &Value) -> Vec<Arc<Value>> {
        let prefix = format!("{}/{}-", object::namespace(owner), object::name(owner));
        self.with_prefix(action::CONTROLLER_REVISIONS, prefix)
            .map(|(_, revision)| revision.clone())
            .collect()
    }

    /// What a namespace holds.
    pub(crate) fn contents(&self, namespace: &str) -> impl Iterator<Item = (ResourceRef, &Count)> {
        let contents = self.contents.get(namespace).into_iter().flatten();
        contents.map(|(place, count)| (feeds()[*place].reference, count))
    }

    /// Whether a namespace holds nothing of a resource.
    pub(crate) fn is_empty_of(&self, namespace: &str, resource: ResourceRef) -> bool {
        !self.contents(namespace).any(|(held, _)| held == resource)
    }
}

/// What did not change about a pod is kept as it was, and what came with the change goes instead of it: that is still
/// in the caches. Gives whether the labels were such.
fn inherit(new: &mut Pod, old: &mut Arc<Pod>) -> bool {
    let knows_labels = new.labels == old.labels;
    if knows_labels {
        new.labels = Arc::clone(&old.labels);
    }
    // Whoever has it besides us sees it as it was.
    let Some(old) = Arc::get_mut(old) else {
        return knows_labels;
    };
    // They stand under one key.
    std::mem::swap(&mut new.namespace, &mut old.namespace);
    std::mem::swap(&mut new.name, &mut old.name);
    for (new, old) in [
        (&mut new.uid, &mut old.uid),
        (&mut new.node_name, &mut old.node_name),
        (&mut new.ip, &mut old.ip),
    ] {
        if new == old {
            std::mem::swap(new, old);
        }
    }
    if new.controller_uid == old.controller_uid {
        std::mem::swap(&mut new.controller_uid, &mut old.controller_uid);
    }
    knows_labels
}

fn count(contents: &mut Contents, place: usize, namespace: &str, kept: &Kept, enter: bool) {
    if !contents.contains_key(namespace) {
        contents.insert(namespace.into(), BTreeMap::new());
    }
    let Some(held) = contents.get_mut(namespace) else {
        return;
    };
    let count = held.entry(place).or_default();
    let step = |number: &mut usize| {
        *number = if enter {
            *number + 1
        } else {
            number.saturating_sub(1)
        }
    };
    step(&mut count.objects);
    if kept.deleting {
        step(&mut count.deleting);
    }
    for finalizer in &kept.finalizers {
        step(count.finalizers.entry(finalizer.clone()).or_default());
    }
    if !enter {
        count.finalizers.retain(|_, objects| *objects > 0);
    }
    if count.objects == 0 {
        held.remove(&place);
        if held.is_empty() {
            contents.remove(namespace);
        }
    }
}

/// Counts what a change did to what a namespace holds.
fn recount(
    contents: &mut Contents,
    place: usize,
    key: &str,
    old: Option<&Kept>,
    new: Option<&Kept>,
) {
    let is_same = old.zip(new).is_some_and(|(old, new)| {
        (old.deleting, &old.finalizers) == (new.deleting, &new.finalizers)
    });
    let Some((namespace, _)) = key.split_once('/').filter(|_| !is_same) else {
        return;
    };
    for (kept, enter) in [(old, false), (new, true)] {
        if let Some(kept) = kept {
            count(contents, place, namespace, kept, enter);
        }
    }
}

pub(crate) fn enter_group<K: std::hash::Hash + Eq>(
    group: &mut HashMap<K, BTreeSet<Box<str>>>,
    name: K,
    key: &str,
    enter: bool,
) {
    if enter {
        group.entry(name).or_default().insert(key.into());
    } else if let Some(keys) = group.get_mut(&name) {
        keys.remove(key);
        if keys.is_empty() {
            group.remove(&name);
        }
    }
}

/// uid of the controlling owner.
pub(crate) fn controller_uid(value: &Value) -> Option<&str> {
    object::controller_of(value).map(|owner| owner["uid"].as_str().unwrap_or_default())
}

/// Key of the Service whose slice this is, if the slice is ours.
pub(crate) fn service_of(slice: &Value) -> Option<String> {
    let service = object::label(slice, SERVICE_NAME_LABEL)?;
    (object::label(slice, MANAGED_BY_LABEL) == Some(MANAGER))
        .then(|| format!("{}/{service}", object::namespace(slice)))
}

/// Keys of the pods that a claim is reserved for.
pub(crate) fn users_of(claim: &Value) -> Vec<String> {
    let namespace = object::namespace(claim);
    let names = devicetaint::users(claim);
    names.map(|name| format!("{namespace}/{name}")).collect()
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;

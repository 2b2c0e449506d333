//! What is known of the cluster: a mirror a feed, and the indices that planners are served from.
//!
//! An event costs a few look-ups, whatever the size of the cluster. Does not know which controller wants what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use client::{Change, Delta, Mirror};
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
use crate::pods::Pods;
use crate::storage::Storage;

/// An object in a mirror.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) uid: Box<str>,
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

/// The mirrors and their indices.
pub(crate) struct Cluster {
    mirrors: Vec<Mirror<Kept>>,
    places: HashMap<ResourceRef, usize>,
    labels: Labels,
    classes: Classes,
    pub(crate) pods: Pods,
    pub(crate) storage: Storage,
    /// Keys of whole objects in order, by place.
    names: Vec<BTreeSet<Box<str>>>,
    /// Who controls pods, ReplicaSets or Jobs, by uid.
    owners: HashMap<Box<str>, (Controller, Box<str>)>,
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
    contents: HashMap<Box<str>, BTreeMap<usize, Count>>,
}

impl Cluster {
    /// An empty cluster.
    pub(crate) fn new() -> Cluster {
        let places = feeds()
            .iter()
            .enumerate()
            .map(|(place, feed)| (feed.reference, place))
            .collect();
        Cluster {
            mirrors: feeds().iter().map(|_| Mirror::default()).collect(),
            places,
            labels: Labels::default(),
            classes: Classes::default(),
            pods: Pods::default(),
            storage: Storage::default(),
            names: feeds().iter().map(|_| BTreeSet::new()).collect(),
            owners: HashMap::new(),
            sets_by_controller: HashMap::new(),
            free_sets: BTreeSet::new(),
            jobs_by_controller: HashMap::new(),
            claims_by_controller: HashMap::new(),
            slices: HashMap::new(),
            contents: HashMap::new(),
        }
    }

    /// Takes in a change of a feed.
    pub(crate) fn apply(&mut self, place: usize, change: Change<Seen>, events: &mut Vec<Event>) {
        let (mut observation, mut node) = (None, None);
        let change = match change {
            Change::Restart => Change::Restart,
            Change::Synced => Change::Synced,
            Change::Same(key) => Change::Same(key),
            Change::Delete(key) => Change::Delete(key),
            Change::Apply(key, seen) => {
                let (kept, view) = self.keep(
                    place,
                    &key,
                    seen.version,
                    &seen.observation,
                    seen.finalizers,
                    seen.body,
                );
                observation = Some(seen.observation);
                node = view;
                Change::Apply(key, kept)
            }
        };
        let Some(mirror) = self.mirrors.get_mut(place) else {
            return;
        };
        match mirror.take(change) {
            None => {}
            Some(Delta::Added(key)) => self.changed(place, key, None, observation, node, events),
            Some(Delta::Changed(key, old)) => {
                self.changed(place, key, Some(old), observation, node, events)
            }
            Some(Delta::Removed(key, old)) => {
                self.changed(place, key, Some(old), None, None, events)
            }
            Some(Delta::Synced(gone)) => {
                for (key, old) in gone {
                    self.changed(place, key, Some(old), None, None, events);
                }
            }
        }
    }

    fn keep(
        &mut self,
        place: usize,
        key: &str,
        version: i64,
        observation: &Observation,
        finalizers: Vec<String>,
        body: SeenBody,
    ) -> (Kept, Option<Box<NodeView>>) {
        let mut node = None;
        // Most changes leave labels and taints as they were: then there is nothing to look for.
        let old = || self.mirrors.get(place).and_then(|mirror| mirror.get(key));
        let body = match body {
            SeenBody::Nothing => Body::Nothing,
            SeenBody::Renewed { micros } => Body::Renewed { micros },
            SeenBody::Slice(slice) => Body::Slice(slice),
            SeenBody::Whole(value) => Body::Whole(value),
            SeenBody::Pod(mut pod) => {
                let labels = old().and_then(Kept::pod).map(|old| &old.labels);
                match labels.filter(|labels| **labels == pod.labels) {
                    Some(labels) => pod.labels = Arc::clone(labels),
                    None => self.labels.share(&mut pod),
                }
                Body::Pod(Arc::new(*pod))
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
                let same = old()
                    .and_then(Kept::facts)
                    .filter(|old| ***old == *facts)
                    .map(Arc::clone);
                let facts = match same {
                    Some(facts) => facts,
                    None => self.classes.share(*facts),
                };
                Body::Node { zone, facts }
            }
        };
        let kept = Kept {
            uid: observation.uid.as_str().into(),
            version,
            deleting: observation.deleting,
            fingerprint: fingerprint(observation),
            finalizers: finalizers.into_iter().map(Box::from).collect(),
            body,
        };
        (kept, node)
    }

    fn changed(
        &mut self,
        place: usize,
        key: String,
        old: Option<Kept>,
        observation: Option<Observation>,
        node: Option<Box<NodeView>>,
        events: &mut Vec<Event>,
    ) {
        let resource = feeds()[place].reference;
        // Moved out for a moment, because indexing needs all of the cluster.
        let mirror = std::mem::take(&mut self.mirrors[place]);
        let new = mirror.get(&key);
        let counts_alike = old.as_ref().zip(new).is_some_and(|(old, new)| {
            (old.deleting, &old.finalizers) == (new.deleting, &new.finalizers)
        });
        if let Some((namespace, _)) = key.split_once('/').filter(|_| !counts_alike) {
            for (kept, enter) in [(old.as_ref(), false), (new, true)] {
                if let Some(kept) = kept {
                    self.count(place, namespace, kept, enter);
                }
            }
        }
        if let Some(old) = &old {
            self.index(place, &key, old, false);
        }
        if let Some(new) = new {
            self.index(place, &key, new, true);
        }
        let same = new.map(|new| new.fingerprint) == old.as_ref().map(|old| old.fingerprint);
        self.mirrors[place] = mirror;
        events.push(Event {
            resource,
            key,
            old,
            observation: observation.filter(|_| !same),
            node,
        });
    }

    /// Enters an object into the indices, or takes it out.
    fn index(&mut self, place: usize, key: &str, kept: &Kept, enter: bool) {
        let value = match &kept.body {
            Body::Pod(pod) if enter => return self.pods.insert(pod),
            Body::Pod(pod) => return self.pods.remove(pod),
            Body::Whole(value) => value,
            _ => return,
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

    fn count(&mut self, place: usize, namespace: &str, kept: &Kept, enter: bool) {
        if !self.contents.contains_key(namespace) {
            self.contents.insert(namespace.into(), BTreeMap::new());
        }
        let Some(contents) = self.contents.get_mut(namespace) else {
            return;
        };
        let count = contents.entry(place).or_default();
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
        count.finalizers.retain(|_, objects| *objects > 0);
        if count.objects == 0 {
            contents.remove(&place);
            if contents.is_empty() {
                self.contents.remove(namespace);
            }
        }
    }

    fn place(&self, resource: ResourceRef) -> Option<usize> {
        self.places.get(&resource).copied()
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

    /// Whole objects of a namespace, with their keys.
    pub(crate) fn in_namespace<'a>(
        &'a self,
        resource: ResourceRef,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<Value>)> + use<'a> {
        self.with_prefix(resource, &format!("{namespace}/"))
    }

    pub(crate) fn with_prefix<'a>(
        &'a self,
        resource: ResourceRef,
        prefix: &str,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<Value>)> + use<'a> {
        let place = self.place(resource);
        let names = place.map(|place| (&self.names[place], &self.mirrors[place]));
        let prefix: Box<str> = prefix.into();
        names.into_iter().flat_map(move |(names, mirror)| {
            let prefix = prefix.clone();
            let keys = names.range::<str, _>((
                std::ops::Bound::Included(&*prefix),
                std::ops::Bound::Unbounded,
            ));
            let keys: Vec<&'a Box<str>> =
                keys.take_while(|key| key.starts_with(&*prefix)).collect();
            keys.into_iter()
                .filter_map(|key| Some((&**key, mirror.get(key)?.whole()?)))
        })
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
            self.with_prefix(action::REPLICA_SETS, &named)
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
        let classes = self.with_prefix(STORAGE_CLASSES, "");
        reconcile::volume::default_class(classes.map(|(_, class)| &**class))
    }

    /// Keys of pods that use a device of this pool.
    pub(crate) fn users_of_pool(&self, pool: (&str, &str)) -> Vec<String> {
        let claims = self.with_prefix(action::RESOURCE_CLAIMS, "");
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
        self.with_prefix(action::CONTROLLER_REVISIONS, &prefix)
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
mod tests {
    use super::*;
    use value::json;

    fn apply(cluster: &mut Cluster, resource: ResourceRef, value: &Value) -> Vec<Event> {
        let place = cluster.place(resource).unwrap();
        let body = if resource == action::PODS {
            SeenBody::Pod(Box::new(Pod::from_object(value)))
        } else {
            SeenBody::Whole(Arc::new(value.clone()))
        };
        let seen = Seen {
            observation: Observation::from_object(resource, value),
            finalizers: object::finalizers(value).map(str::to_owned).collect(),
            version: 1,
            body,
        };
        let mut events = Vec::new();
        cluster.apply(
            place,
            Change::Apply(client::object_key(value), seen),
            &mut events,
        );
        events
    }

    fn delete(cluster: &mut Cluster, resource: ResourceRef, key: &str) {
        let place = cluster.place(resource).unwrap();
        cluster.apply(place, Change::Delete(key.into()), &mut Vec::new());
    }

    fn set(name: &str, owner: &str) -> Value {
        let owners = if owner.is_empty() {
            json!([])
        } else {
            json!([{"uid": owner, "controller": true}])
        };
        json!({"metadata": {"namespace": "d", "name": name, "uid": name, "ownerReferences": owners}})
    }

    #[test]
    fn a_deployment_sees_its_sets_free_ones_and_namesakes() {
        let mut cluster = Cluster::new();
        for (name, owner) in [
            ("web-1", "web"),
            ("free", ""),
            ("web-2", "other"),
            ("x", "other"),
        ] {
            apply(&mut cluster, action::REPLICA_SETS, &set(name, owner));
        }
        let deployment = json!({"metadata": {"namespace": "d", "name": "web", "uid": "web"}});
        let names = |sets: Vec<Arc<Value>>| {
            sets.iter()
                .map(|set| object::name(set).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(cluster.sets_around(&deployment)),
            ["free", "web-1", "web-2"]
        );
        assert_eq!(names(cluster.sets_of("other")), ["web-2", "x"]);
        assert_eq!(
            cluster.owner("web-1"),
            Some((Controller::ReplicaSet, "d/web-1"))
        );
        for name in ["web-1", "free", "web-2", "x"] {
            delete(&mut cluster, action::REPLICA_SETS, &format!("d/{name}"));
        }
        assert!(
            cluster.owners.is_empty()
                && cluster.sets_by_controller.is_empty()
                && cluster.free_sets.is_empty()
        );
        assert!(cluster.contents.is_empty());
    }

    #[test]
    fn namespaces_know_what_they_hold() {
        let mut cluster = Cluster::new();
        let mut pod = json!({"metadata": {"namespace": "d", "name": "p", "uid": "u"}});
        apply(&mut cluster, action::PODS, &pod);
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        pod["metadata"]["finalizers"] = json!(["a/b"]);
        apply(&mut cluster, action::PODS, &pod);
        let (resource, count) = cluster.contents("d").next().unwrap();
        assert_eq!(
            (resource, count.objects, count.deleting),
            (action::PODS, 1, 1)
        );
        assert_eq!(count.finalizers.get("a/b"), Some(&1));
        assert!(!cluster.is_empty_of("d", action::PODS) && cluster.is_empty_of("d", action::JOBS));
        delete(&mut cluster, action::PODS, "d/p");
        assert!(cluster.is_empty_of("d", action::PODS));
    }

    #[test]
    fn the_garbage_collector_hears_only_what_concerns_it() {
        let mut cluster = Cluster::new();
        let mut pod = json!({"metadata": {"namespace": "d", "name": "p", "uid": "u"}});
        assert!(
            apply(&mut cluster, action::PODS, &pod)[0]
                .observation
                .is_some()
        );
        pod["status"] = json!({"phase": "Running"});
        assert!(
            apply(&mut cluster, action::PODS, &pod)[0]
                .observation
                .is_none()
        );
        pod["metadata"]["uid"] = "u2".into();
        let events = apply(&mut cluster, action::PODS, &pod);
        assert_eq!(&*events[0].old.as_ref().unwrap().uid, "u");
        assert!(events[0].observation.is_some());
    }
}

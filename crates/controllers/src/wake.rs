//! Which keys an event concerns: from what happened to one object to the controllers that want to know.
//!
//! Every rule looks at the object's own namespace, owner or node, never at all objects of a kind; but for a device
//! pool whose taints change, whose users are looked for among all claims.

use std::sync::Arc;
use std::time::Instant;

use meta::labels::LabelSelector;
use meta::{Value, object};
use reconcile::daemonset::{Judge, NodeFacts};
use reconcile::devicetaint::SliceTaints;
use reconcile::volume::{PERSISTENT_VOLUMES, STORAGE_CLASSES};
use reconcile::{Pod, ResourceRef, action};

use crate::clock::now_micros;
use crate::cluster::{Body, Event, Kept, controller_uid, service_of, users_of};
use crate::controller::Controller;
use crate::feed::{LEASES, Shape, feeds};
use crate::plane::Plane;

/// Where kubelets keep their Leases.
const NODE_LEASES: &str = "kube-node-lease/";

impl Plane {
    /// Tells every controller that an event concerns.
    pub(crate) fn wake(&mut self, mut event: Event, now: Instant) {
        self.feed_graph(&event);
        self.forget_replaced(&event);
        match event.resource {
            action::PODS => self.wake_by_pod(&event, now),
            action::NODES => self.wake_by_node(&mut event, now),
            LEASES => self.wake_by_lease(&event),
            action::NAMESPACES => {
                self.add(Controller::Namespace, &event.key, now);
                self.add(Controller::ServiceAccount, &event.key, now);
            }
            action::SERVICE_ACCOUNTS | action::CONFIG_MAPS => {
                if let Some((namespace, name)) = event.key.split_once('/')
                    && (name == "default" || name == reconcile::serviceaccount::ROOT_CA_CONFIG_MAP)
                {
                    self.add(Controller::ServiceAccount, namespace, now);
                }
            }
            action::DEPLOYMENTS => self.add(Controller::Deployment, &event.key, now),
            action::REPLICA_SETS => self.wake_by_set(&event, now),
            action::REPLICATION_CONTROLLERS => {
                self.add(Controller::ReplicationController, &event.key, now)
            }
            action::DAEMON_SETS => self.wake_by_daemon_set(&event.key, now),
            action::STATEFUL_SETS => self.add(Controller::StatefulSet, &event.key, now),
            action::CONTROLLER_REVISIONS => self.wake_controllers_of(&event, now),
            action::JOBS => self.wake_by_job(&event, now),
            action::CRON_JOBS => self.add(Controller::CronJob, &event.key, now),
            action::SERVICES => self.add(Controller::EndpointSlice, &event.key, now),
            action::ENDPOINT_SLICES => self.wake_by_slice(&event, now),
            action::RESOURCE_CLAIMS => self.wake_by_claim(&event, now),
            action::RESOURCE_CLAIM_TEMPLATES => self.wake_by_template(&event.key, now),
            action::PERSISTENT_VOLUME_CLAIMS => self.wake_by_volume_claim(&event, now),
            PERSISTENT_VOLUMES => self.wake_by_volume(&event, now),
            STORAGE_CLASSES => self.wake_by_class(&event, now),
            action::RESOURCE_SLICES => self.wake_by_device_slice(&event, now),
            _ => {}
        }
        self.wake_emptied_namespace(&event, now);
    }

    fn feed_graph(&mut self, event: &Event) {
        if let Some(old) = event.old.as_ref().filter(|_| event.is_old_gone) {
            self.graph.forget(old.uid());
        }
        if let Some(observation) = &event.observation {
            self.graph.observe(observation);
        }
    }

    /// What was in flight for an object does not concern another one of the same name.
    fn forget_replaced(&mut self, event: &Event) {
        if !event.is_old_gone {
            return;
        }
        let controller = match event.resource {
            action::REPLICA_SETS => Controller::ReplicaSet,
            action::REPLICATION_CONTROLLERS => Controller::ReplicationController,
            action::DAEMON_SETS => Controller::DaemonSet,
            action::STATEFUL_SETS => Controller::StatefulSet,
            action::JOBS => Controller::Job,
            action::CRON_JOBS => Controller::CronJob,
            action::SERVICES => Controller::EndpointSlice,
            action::DEPLOYMENTS => Controller::Deployment,
            action::PODS => Controller::PodClaims,
            action::RESOURCE_CLAIMS => Controller::ResourceClaim,
            action::PERSISTENT_VOLUME_CLAIMS => Controller::VolumeClaim,
            PERSISTENT_VOLUMES => Controller::Volume,
            _ => return,
        };
        self.lane(controller).forget(&event.key);
    }

    fn wake_by_pod(&mut self, event: &Event, now: Instant) {
        let old = event.old.as_ref().and_then(Kept::pod);
        let new = self.cluster.now(event).and_then(Kept::pod).cloned();
        let replaced = event.is_old_gone && new.is_some();
        self.note_pod(
            old.filter(|_| replaced || new.is_none()),
            new.as_ref(),
            old.is_none() || replaced,
        );
        if let Some(pod) = &new {
            let mut actions = Vec::new();
            self.eviction.pod_observed(pod, now_micros(), &mut actions);
            self.evict(actions);
        }
        if let Some(old) = old.filter(|_| replaced || new.is_none()) {
            self.eviction.pod_deleted(&old.uid);
        }
        let owners =
            [old, new.as_ref()].map(|pod| pod.and_then(|pod| pod.controller_uid.as_deref()));
        if let Some(uid) = owners[0].filter(|_| owners[0] != owners[1]) {
            self.wake_owner(uid, now);
        }
        match owners[1] {
            Some(uid) => self.wake_owner(uid, now),
            None => {
                // Who selects it was told when it came: another phase or node makes no difference (k8s `updatePod`).
                let is_news = |pod: &Pod| {
                    replaced
                        || old.is_none_or(|old| {
                            old.labels != pod.labels || old.controller_uid.is_some()
                        })
                };
                if let Some(pod) = new.as_ref().filter(|pod| is_news(pod)) {
                    self.wake_adopters(pod, now);
                }
            }
        }
        if new.as_ref().is_none_or(|pod| pod.has_ended())
            && let Some(uid) = old.and_then(|pod| pod.controller_uid.as_deref())
        {
            self.wake_recreating(uid, now);
        }
        self.wake_services(old, new.as_ref(), now);
        self.wake_claims(&event.key, old, new.as_ref(), now);
        self.wake_volumes(&event.key, old, new.as_ref(), now);
        let Some(pod) = new else { return };
        if !pod.node_name.is_empty() {
            // That a node is not there was noted when a pod came to it, or when it went.
            let is_news = replaced || old.is_none_or(|old| old.node_name != pod.node_name);
            let is_there = if is_news {
                self.cluster.has_node(&pod.node_name)
            } else {
                !self.vanished.contains_key(&pod.node_name)
            };
            if !is_there {
                self.vanish(&pod.node_name, now);
            }
        }
        if (pod.deletion_micros.is_some() && pod.node_name.is_empty()) || pod.job_tracking {
            self.add(Controller::StrayPod, &event.key, now);
        }
        if self.cluster.pods().ended_count() > self.config.ended_pods_max {
            self.lane(Controller::EndedPods)
                .queue
                .add_at("ended", now + crate::plane::ENDED_PODS_INTERVAL);
        }
    }

    /// Tells expectations what was seen.
    fn note_pod(&mut self, gone: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>, appeared: bool) {
        for (pod, is_gone) in gone
            .map(|pod| (pod, true))
            .into_iter()
            .chain(new.map(|pod| (pod, false)))
        {
            let is_going = is_gone || pod.deletion_micros.is_some();
            let owner = pod.controller_uid.as_deref();
            let Some((controller, key)) = owner
                .filter(|_| is_going || appeared)
                .and_then(|uid| self.cluster.owner(uid))
            else {
                continue;
            };
            let expectations = &mut self.lanes[controller as usize].expectations;
            if is_going {
                expectations.saw_deleted(key, &pod.uid);
            } else {
                expectations.saw_created(key, &pod.uid);
            }
        }
    }

    fn wake_owner(&mut self, uid: &str, now: Instant) {
        if let Some((controller, key)) = self.cluster.owner(uid) {
            self.lanes[controller as usize].queue.add(key, now);
        }
    }

    /// A pod that nobody controls may be what somebody selects.
    fn wake_adopters(&mut self, pod: &Pod, now: Instant) {
        for (controller, resource) in self.cluster.adopters() {
            for key in self.selecting(resource, &pod.namespace, &pod.labels) {
                self.add(controller, &key, now);
            }
        }
    }

    /// Keys of objects of a namespace whose selector matches these labels.
    fn selecting(&self, resource: ResourceRef, namespace: &str, labels: &Value) -> Vec<String> {
        let plain = resource == action::REPLICATION_CONTROLLERS;
        let selects = |object: &Value| {
            let selector = object::at(object, &["spec", "selector"]);
            if plain {
                return selects_plainly(selector, labels);
            }
            LabelSelector::from_object(selector)
                .is_ok_and(|selector| !selector.is_empty() && selector.matches(labels))
        };
        let all = self.cluster.in_namespace(resource, namespace);
        all.filter(|(_, object)| selects(object))
            .map(|(key, _)| key.to_owned())
            .collect()
    }

    /// A Deployment that recreates waits for the last pod of an emptied ReplicaSet.
    fn wake_recreating(&mut self, set_uid: &str, now: Instant) {
        let Some((Controller::ReplicaSet, key)) = self.cluster.owner(set_uid) else {
            return;
        };
        let Some(set) = self.cluster.whole(action::REPLICA_SETS, key) else {
            return;
        };
        if object::i64_at(set, &["spec", "replicas"]).unwrap_or(0) == 0
            && let Some(uid) = controller_uid(set).map(str::to_owned)
        {
            self.wake_owner(&uid, now);
        }
    }

    fn wake_services(&mut self, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>, now: Instant) {
        // Until a pod has an address no slice holds it.
        let nowhere = |pod: Option<&Arc<Pod>>| pod.is_none_or(|pod| pod.ip.is_empty());
        let is_unchanged = || {
            old.zip(new)
                .is_some_and(|(old, new)| is_same_endpoint(old, new))
        };
        if (nowhere(old) && nowhere(new)) || is_unchanged() {
            return;
        }
        let Some(namespace) = new.or(old).map(|pod| &pod.namespace) else {
            return;
        };
        let services = self.cluster.services_in(namespace);
        let concerned: Vec<String> = services
            .filter(|(_, service)| {
                let selector = object::at(service, &["spec", "selector"]);
                [old, new]
                    .into_iter()
                    .flatten()
                    .any(|pod| selects_plainly(selector, &pod.labels))
            })
            .map(|(key, _)| key.to_owned())
            .collect();
        for key in concerned {
            self.add(Controller::EndpointSlice, &key, now);
        }
    }

    fn wake_by_node(&mut self, event: &mut Event, now: Instant) {
        self.wake_daemon_sets(event, now);
        let micros = now_micros();
        match event.node.take() {
            Some(view) => {
                let mut actions = Vec::new();
                let pods = || self.cluster.pods().on_node(&event.key);
                self.eviction
                    .node_observed(&event.key, &view.taints, pods, micros, &mut actions);
                self.lifecycle.node_observed(*view, micros);
                self.vanished.remove(event.key.as_str());
                self.evict(actions);
            }
            None => {
                self.lifecycle.node_deleted(&event.key, micros);
                self.eviction.node_deleted(&event.key);
                if !self.cluster.pods().is_none_on_node(&event.key) {
                    self.vanish(&event.key, now);
                }
            }
        }
    }

    /// A node concerns the DaemonSets that want something else with it than before. A heartbeat concerns none of them.
    fn wake_daemon_sets(&mut self, event: &Event, now: Instant) {
        let (old, new) = (event.old.as_ref(), self.cluster.now(event));
        let is_same = old.zip(new).is_some_and(|(old, new)| {
            let (old, new) = (old.facts(), new.facts());
            let is_one = old.zip(new).is_some_and(|(old, new)| Arc::ptr_eq(old, new));
            is_one || old == new
        });
        if is_same {
            return;
        }
        let facts = [old, new].map(|kept| kept.and_then(Kept::facts));
        let verdict = |judge: &Judge, facts: Option<&Arc<NodeFacts>>| {
            facts.map(|facts| judge.verdict(&event.key, facts))
        };
        let concerned: Vec<Box<str>> = self
            .judges
            .iter()
            .filter(|(_, judge)| verdict(judge, facts[0]) != verdict(judge, facts[1]))
            .map(|(key, _)| key.clone())
            .collect();
        for key in concerned {
            self.add(Controller::DaemonSet, &key, now);
        }
    }

    fn wake_by_daemon_set(&mut self, key: &str, now: Instant) {
        match self.cluster.whole(action::DAEMON_SETS, key) {
            Some(set) => drop(self.judges.insert(key.into(), Judge::new(set))),
            None => drop(self.judges.remove(key)),
        }
        self.add(Controller::DaemonSet, key, now);
    }

    /// Those who control a whole object, or did.
    fn wake_controllers_of(&mut self, event: &Event, now: Instant) {
        let old = event.old.as_ref().and_then(Kept::whole);
        let new = self.cluster.now(event).and_then(Kept::whole).cloned();
        for object in old.into_iter().chain(&new) {
            if let Some(uid) = controller_uid(object) {
                self.wake_owner(uid, now);
            }
        }
    }

    /// Notes since when a node that pods are bound to is not there.
    fn vanish(&mut self, node: &str, now: Instant) {
        if !self.vanished.contains_key(node) {
            self.vanished.insert(node.into(), now_micros());
        }
        self.add(Controller::VanishedNode, node, now);
    }

    /// The hot path, of which there is one a node every ten seconds: a Lease or a node told that it is alive, and
    /// nothing else.
    pub(crate) fn heartbeat(&mut self, feed: usize, key: &str) {
        let node = match feeds()[feed].shape {
            Shape::Node => Some(key),
            Shape::Lease => key.strip_prefix(NODE_LEASES),
            _ => None,
        };
        if let Some(node) = node {
            self.lifecycle.heartbeat(node, now_micros());
        }
    }

    /// A Lease was added, or changed otherwise than by a mere renewal.
    fn wake_by_lease(&mut self, event: &Event) {
        let Some(node) = event.key.strip_prefix(NODE_LEASES) else {
            return;
        };
        let renewed = |kept: &Kept| match kept.body {
            Body::Renewed { micros } => micros,
            _ => 0,
        };
        let new = self.cluster.now(event).map(renewed);
        if new.is_some() && new != event.old.as_ref().map(renewed) {
            self.lifecycle.heartbeat(node, now_micros());
        }
    }

    fn wake_by_set(&mut self, event: &Event, now: Instant) {
        self.add(Controller::ReplicaSet, &event.key, now);
        self.wake_controllers_of(event, now);
        let new = self.cluster.now(event).and_then(Kept::whole).cloned();
        if let Some(set) = new.filter(|set| controller_uid(set).is_none()) {
            let labels = object::labels(&set);
            for key in self.selecting(action::DEPLOYMENTS, object::namespace(&set), labels) {
                self.add(Controller::Deployment, &key, now);
            }
        }
    }

    fn wake_by_job(&mut self, event: &Event, now: Instant) {
        self.add(Controller::Job, &event.key, now);
        self.wake_controllers_of(event, now);
        if let Some(old) = event.old.as_ref().filter(|_| event.is_old_gone) {
            // Nobody counts these any more: they lose the finalizer that waits for it.
            for pod in self.cluster.pods().of_controller(old.uid()) {
                self.add(
                    Controller::StrayPod,
                    &format!("{}/{}", pod.namespace, pod.name),
                    now,
                );
            }
        }
    }

    fn wake_by_slice(&mut self, event: &Event, now: Instant) {
        let new = self.cluster.now(event);
        let service = |kept: &Kept| kept.whole().and_then(|slice| service_of(slice));
        let (appeared, gone) = (
            new.map(|new| (Box::<str>::from(new.uid()), service(new))),
            event.old.as_ref(),
        );
        let gone = gone.map(|old| (Box::<str>::from(old.uid()), service(old)));
        let replaced = appeared.as_ref().map(|(uid, _)| uid) != gone.as_ref().map(|(uid, _)| uid);
        if let Some((uid, Some(service))) = gone {
            if replaced {
                self.lane(Controller::EndpointSlice)
                    .expectations
                    .saw_deleted(&service, &uid);
            }
            self.add(Controller::EndpointSlice, &service, now);
        }
        if let Some((uid, Some(service))) = appeared {
            self.lane(Controller::EndpointSlice)
                .expectations
                .saw_created(&service, &uid);
            self.add(Controller::EndpointSlice, &service, now);
        }
    }

    /// A pod with resource claims: they are made for it, and given up when it is done with them.
    fn wake_claims(
        &mut self,
        key: &str,
        old: Option<&Arc<Pod>>,
        new: Option<&Arc<Pod>>,
        now: Instant,
    ) {
        let gone = old.filter(|old| new.is_none_or(|new| new.uid != old.uid));
        if let Some(old) = gone.filter(|old| !old.claims.is_empty()) {
            self.departed.note(&old.uid);
            self.wake_claims_of(old, now);
        }
        let Some(new) = new.filter(|new| !new.claims.is_empty()) else {
            return;
        };
        if new.has_ended() || new.deletion_micros.is_some() {
            self.wake_claims_of(new, now);
        } else {
            self.add(Controller::PodClaims, key, now);
            if !self.taints.is_clean() {
                self.add(Controller::DeviceTaint, key, now);
            }
        }
    }

    /// Devices of a pool are tainted otherwise now: whoever has one is asked about.
    fn wake_by_device_slice(&mut self, event: &Event, now: Instant) {
        let old = event.old.as_ref().and_then(Kept::slice).cloned();
        let new = self.cluster.now(event).and_then(Kept::slice).cloned();
        if !self
            .taints
            .replace(&event.key, old.as_deref(), new.as_ref())
        {
            return;
        }
        let pools: Vec<Arc<SliceTaints>> = old.into_iter().chain(new).collect();
        for slice in pools {
            for pod in self.cluster.users_of_pool(slice.pool()) {
                self.add(Controller::DeviceTaint, &pod, now);
            }
        }
    }

    fn wake_claims_of(&mut self, pod: &Pod, now: Instant) {
        let recorded = pod.claims.iter().filter_map(|one| one.claim.as_deref());
        let mut keys: Vec<String> = recorded
            .map(|claim| format!("{}/{claim}", pod.namespace))
            .collect();
        let own = self.cluster.claims_of(&pod.uid);
        keys.extend(own.iter().map(|claim| client::object_key(claim)));
        for key in keys {
            self.add(Controller::ResourceClaim, &key, now);
        }
    }

    fn wake_by_claim(&mut self, event: &Event, now: Instant) {
        let new = self.cluster.now(event).and_then(Kept::whole).cloned();
        let old = event.old.as_ref().and_then(Kept::whole).cloned();
        let uid = |claim: &Option<Arc<Value>>| claim.as_ref().map(|c| object::uid(c).to_owned());
        let (appeared, gone) = (uid(&new), uid(&old));
        for (claim, is_new) in [(&old, false), (&new, true)] {
            let Some(claim) = claim else { continue };
            let Some(owner) = object::controller_of(claim).filter(|o| o["kind"] == "Pod") else {
                continue;
            };
            let name = owner["name"].as_str().unwrap_or_default();
            let pod = format!("{}/{name}", object::namespace(claim));
            let expectations = &mut self.lane(Controller::PodClaims).expectations;
            if is_new && gone != appeared {
                expectations.saw_created(&pod, object::uid(claim));
            } else if !is_new && gone != appeared {
                expectations.saw_deleted(&pod, object::uid(claim));
            }
            self.add(Controller::PodClaims, &pod, now);
        }
        self.add(Controller::ResourceClaim, &event.key, now);
        if !self.taints.is_clean() {
            let users = [&old, &new].into_iter().flatten();
            let users: Vec<String> = users.flat_map(|claim| users_of(claim)).collect();
            for pod in users {
                self.add(Controller::DeviceTaint, &pod, now);
            }
        }
    }

    fn wake_by_template(&mut self, key: &str, now: Instant) {
        let Some((namespace, name)) = key.split_once('/') else {
            return;
        };
        // Templates are made once, mostly before their pods.
        let pods = self.cluster.pods().of_namespace(namespace);
        let asking = pods.iter().filter(|pod| {
            let mut templates = pod.claims.iter().filter_map(|one| one.template.as_deref());
            templates.any(|template| template == name)
        });
        let keys: Vec<String> = asking
            .map(|pod| format!("{}/{}", pod.namespace, pod.name))
            .collect();
        for key in keys {
            self.add(Controller::PodClaims, &key, now);
        }
    }

    /// The last object of a resource in a namespace that is going away brings the namespace's end nearer.
    fn wake_emptied_namespace(&mut self, event: &Event, now: Instant) {
        if self.cluster.now(event).is_some() {
            return;
        }
        let Some((namespace, _)) = event.key.split_once('/') else {
            return;
        };
        let going = self
            .cluster
            .get(action::NAMESPACES, namespace)
            .is_some_and(|namespace| namespace.deleting);
        if going && self.cluster.is_empty_of(namespace, event.resource) {
            self.add(Controller::Namespace, namespace, now);
        }
    }
}

/// Whether a pod is still the same to those who look for endpoints.
fn is_same_endpoint(old: &Pod, new: &Pod) -> bool {
    let flags = |pod: &Pod| {
        (
            pod.is_ready(),
            pod.deletion_micros.is_some(),
            pod.has_ended(),
        )
    };
    flags(old) == flags(new)
        && (&old.uid, &old.ip, &old.node_name) == (&new.uid, &new.ip, &new.node_name)
        && old.labels == new.labels
}

/// Whether a plain map of labels, as Services have it, selects these labels. An empty one selects nothing.
fn selects_plainly(selector: &Value, labels: &Value) -> bool {
    let Some(pairs) = selector.as_object().filter(|pairs| !pairs.is_empty()) else {
        return false;
    };
    pairs
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn a_plain_selector_selects_what_has_all_its_pairs() {
        let labels = json!({"app": "web", "tier": "front"});
        assert!(selects_plainly(&json!({"app": "web"}), &labels));
        assert!(!selects_plainly(
            &json!({"app": "web", "tier": "back"}),
            &labels
        ));
        assert!(!selects_plainly(&json!({}), &labels));
        assert!(!selects_plainly(&Value::Null, &labels));
        assert!(!selects_plainly(&json!({"app": "web"}), &Value::Null));
    }
}

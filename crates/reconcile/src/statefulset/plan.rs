//! One round of a StatefulSet: lowest missing pod first, highest surplus pod first, then updates.

use super::{BURST_REPLICAS_MAX, Observed};
use crate::action::{Action, Announce, Involved, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS};
use crate::daemonset::REVISION_HASH_LABEL;
use crate::pod::{Phase, Pod, items};
use crate::replicaset::{claim_pods, delete_pod, next_availability, pod_from_template};
use crate::revision::{Revisions, revise, template_of};
use crate::status;
use meta::labels::LabelSelector;
use meta::{Value, object};
use std::collections::BTreeMap;
use std::sync::Arc;
use value::{Map, json};

/// The label of a revision with its hash. Pods carry the revision's whole name instead.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// What to do now for a StatefulSet.
pub fn plan(set: &Arc<Value>, observed: &Observed<'_>, now_micros: i64) -> Vec<Action> {
    let Ok(selector) = LabelSelector::from_object(object::at(set, &["spec", "selector"])) else {
        return Vec::new();
    };
    if selector.is_empty() {
        return Vec::new();
    }
    let deleting = object::is_deleting(set);
    // A free pod with another's name is nobody's replica: it must not be claimed.
    let is_ours = |pod: &&Arc<Pod>| ordinal(object::name(set), &pod.name).is_some();
    let candidates: Vec<Arc<Pod>> = observed.pods.iter().filter(is_ours).cloned().collect();
    let mut actions = Vec::new();
    let pods = claim_pods(set, &selector, deleting, &candidates, &mut actions);
    let mut revisions = revise(set, HASH_LABEL, &selector, observed.revisions);
    actions.append(&mut revisions.actions);
    let round = Round::new(set, &revisions, &pods, now_micros);
    if !deleting && observed.creations_in_flight == 0 && observed.deletions_in_flight == 0 {
        round.correct(observed, &mut actions);
    }
    let status = round.status();
    let stored = status::pruned(set.get("status").cloned().unwrap_or_else(|| json!({})));
    if stored != status::pruned(status.clone()) {
        actions.push(Action::update_status(
            STATEFUL_SETS,
            status::with_status(set, status),
        ));
    }
    if !deleting {
        actions.extend(revisions.expired(set, |revision| {
            let name = object::name(revision);
            name == round.current_name()
                || pods
                    .iter()
                    .any(|pod| pod.label(REVISION_HASH_LABEL) == Some(name))
        }));
    }
    actions.extend(
        next_availability(&pods, round.min_ready_seconds, now_micros).map(Action::RequeueAfter),
    );
    actions
}

/// The number in `web-7`.
fn ordinal(set: &str, pod: &str) -> Option<i64> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    digits
        .parse()
        .ok()
        .filter(|number: &i64| *number >= 0 && number.to_string() == digits)
}

struct Round<'a> {
    set: &'a Arc<Value>,
    revisions: &'a Revisions,
    /// What pods below an update's partition are made from.
    current: &'a Arc<Value>,
    first: i64,
    replicas: i64,
    min_ready_seconds: i64,
    ordered: bool,
    pods: BTreeMap<i64, Arc<Pod>>,
    announce: Announce,
    now_micros: i64,
}

impl<'a> Round<'a> {
    fn new(
        set: &'a Arc<Value>,
        revisions: &'a Revisions,
        pods: &[Arc<Pod>],
        now_micros: i64,
    ) -> Self {
        let number = |path: &[&str]| {
            object::i64_at(set, path).map(|number| number.clamp(0, i64::from(i32::MAX)))
        };
        let numbered =
            |pod: &Arc<Pod>| Some((ordinal(object::name(set), &pod.name)?, Arc::clone(pod)));
        let current = object::str_at(set, &["status", "currentRevision"]).unwrap_or_default();
        Round {
            set,
            revisions,
            current: revisions.named(current).unwrap_or(&revisions.present),
            first: number(&["spec", "ordinals", "start"]).unwrap_or(0),
            replicas: number(&["spec", "replicas"]).unwrap_or(1),
            min_ready_seconds: number(&["spec", "minReadySeconds"]).unwrap_or(0),
            ordered: object::str_at(set, &["spec", "podManagementPolicy"]) != Some("Parallel"),
            pods: pods.iter().filter_map(numbered).collect(),
            announce: Announce {
                involved: Arc::new(Involved::of(set)),
            },
            now_micros,
        }
    }

    fn end(&self) -> i64 {
        self.first + self.replicas
    }

    fn wanted(&self, ordinal: i64) -> bool {
        (self.first..self.end()).contains(&ordinal)
    }

    fn current_name(&self) -> &str {
        object::name(self.current)
    }

    fn update_name(&self) -> &str {
        object::name(&self.revisions.present)
    }

    fn is_healthy(&self, pod: &Pod) -> bool {
        pod.is_active() && pod.is_available(self.min_ready_seconds, self.now_micros)
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        pod.label(REVISION_HASH_LABEL) == Some(self.update_name())
    }

    fn correct(&self, observed: &Observed<'_>, actions: &mut Vec<Action>) {
        let budget = if self.ordered { 1 } else { BURST_REPLICAS_MAX };
        let mut changes = 0;
        // All claims before all pods.
        let (mut claims, mut pods) = (Vec::new(), Vec::new());
        let mut waits = false;
        for number in self.first..self.end() {
            if changes == budget {
                break;
            }
            match self.pods.get(&number) {
                None => {
                    self.create(number, observed, &mut claims, &mut pods);
                    changes += 1;
                }
                Some(pod) if pod.has_ended() && pod.deletion_micros.is_none() => {
                    pods.push(self.recreating(pod));
                    pods.push(self.delete(pod));
                    changes += 1;
                }
                Some(pod) if self.ordered && !self.is_healthy(pod) => {
                    waits = true;
                    break;
                }
                Some(_) => {}
            }
        }
        actions.append(&mut claims);
        actions.append(&mut pods);
        if waits {
            return;
        }
        if changes < budget {
            changes += self.shrink(budget - changes, actions);
        }
        let surplus_leaves = self.ordered && self.pods.keys().any(|number| !self.wanted(*number));
        if changes == 0 && !surplus_leaves && self.rolls() {
            self.update(actions);
        }
    }

    /// Deletes surplus pods from the top; in order, each only when the one above it is gone.
    fn shrink(&self, budget: usize, actions: &mut Vec<Action>) -> usize {
        let surplus = || {
            self.pods
                .iter()
                .filter(|(number, _)| !self.wanted(**number))
        };
        let first_sick = surplus().find(|(_, pod)| !self.is_healthy(pod));
        let mut changes = 0;
        for (number, pod) in surplus().rev() {
            let leaves = pod.deletion_micros.is_some();
            let sick =
                !self.is_healthy(pod) && first_sick.is_some_and(|(first, _)| first != number);
            if changes == budget || (self.ordered && (leaves || sick)) {
                break;
            }
            if !leaves {
                actions.push(self.delete(pod));
                changes += 1;
            }
        }
        changes
    }

    fn delete(&self, pod: &Pod) -> Action {
        delete_pod(pod, Some(self.announce.clone()))
    }

    fn recreating(&self, pod: &Pod) -> Action {
        let text = |state: &str| {
            format!(
                "StatefulSet {}/{} is recreating {state} Pod {}",
                object::namespace(self.set),
                object::name(self.set),
                pod.name
            )
        };
        let involved = &self.announce.involved;
        if pod.phase == Phase::Failed {
            Action::warning(involved, "RecreatingFailedPod", text("failed"))
        } else {
            Action::normal(involved, "RecreatingTerminatedPod", text("terminated"))
        }
    }

    fn rolls(&self) -> bool {
        object::str_at(self.set, &["spec", "updateStrategy", "type"]) != Some("OnDelete")
    }

    /// The lowest number that an update reaches.
    fn partition(&self) -> i64 {
        let path = ["spec", "updateStrategy", "rollingUpdate", "partition"];
        self.first
            .saturating_add(object::i64_at(self.set, &path).unwrap_or(0))
    }

    /// Replaces the highest outdated pod, when all above it are well.
    fn update(&self, actions: &mut Vec<Action>) {
        let wanted = |(number, _): &(&i64, &Arc<Pod>)| self.wanted(**number);
        for (number, pod) in self.pods.iter().rev().filter(wanted) {
            if *number < self.partition() {
                return;
            }
            if !self.is_updated(pod) && pod.deletion_micros.is_none() {
                actions.push(self.delete(pod));
                return;
            }
            if !self.is_healthy(pod) {
                return;
            }
        }
    }

    /// The revision that a pod is made from.
    fn revision_for(&self, number: i64) -> &Arc<Value> {
        if self.rolls() && number < self.partition() {
            self.current
        } else {
            &self.revisions.present
        }
    }

    /// A pod with its claims, which are kept when the pod goes.
    fn create(
        &self,
        number: i64,
        observed: &Observed<'_>,
        claims: &mut Vec<Action>,
        pods: &mut Vec<Action>,
    ) {
        let name = format!("{}-{number}", object::name(self.set));
        let namespace = object::namespace(self.set);
        let mut pod = self.pod(number, &name);
        let mut volumes = items(&pod, &["spec", "volumes"]).to_vec();
        for template in items(self.set, &["spec", "volumeClaimTemplates"]) {
            let volume = object::name(template);
            let claim = format!("{volume}-{name}");
            volumes.retain(|existing| crate::pod::text_of(existing, "name") != volume);
            volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim}}));
            if !(observed.has_claim)(&claim) {
                claims.push(Action::Create {
                    resource: PERSISTENT_VOLUME_CLAIMS,
                    namespace: namespace.to_owned(),
                    object: Arc::new(self.claim(template, &claim)),
                    announce: None,
                });
            }
        }
        if !volumes.is_empty() {
            object::set_at(&mut pod, &["spec", "volumes"], Value::Array(volumes));
        }
        pods.push(Action::Create {
            resource: PODS,
            namespace: namespace.to_owned(),
            object: Arc::new(pod),
            announce: Some(self.announce.clone()),
        });
    }

    fn pod(&self, number: i64, name: &str) -> Value {
        let revision = self.revision_for(number);
        let mut pod = if Arc::ptr_eq(revision, &self.revisions.present) {
            pod_from_template(self.set, "")
        } else {
            let mut earlier = Value::clone(self.set);
            object::set_at(&mut earlier, &["spec", "template"], template_of(revision));
            pod_from_template(&earlier, "")
        };
        object::remove_at(&mut pod, &["metadata", "generateName"]);
        object::set_at(&mut pod, &["metadata", "name"], json!(name));
        for (key, value) in [
            (REVISION_HASH_LABEL, object::name(revision)),
            ("statefulset.kubernetes.io/pod-name", name),
            ("apps.kubernetes.io/pod-index", &number.to_string()),
        ] {
            object::set_at(&mut pod, &["metadata", "labels", key], json!(value));
        }
        object::set_at(&mut pod, &["spec", "hostname"], json!(name));
        if let Some(service) = object::str_at(self.set, &["spec", "serviceName"]) {
            object::set_at(&mut pod, &["spec", "subdomain"], json!(service));
        }
        pod
    }

    fn claim(&self, template: &Value, name: &str) -> Value {
        let mut metadata = Map::new();
        let mut labels = object::map_at(template, &["metadata", "labels"])
            .cloned()
            .unwrap_or_default();
        let selected = object::map_at(self.set, &["spec", "selector", "matchLabels"]);
        labels.extend(selected.cloned().unwrap_or_default());
        metadata.insert("name", json!(name));
        metadata.insert("namespace", json!(object::namespace(self.set)));
        metadata.insert("labels", Value::Object(labels));
        if let Some(annotations) = object::map_at(template, &["metadata", "annotations"]) {
            metadata.insert("annotations", json!(annotations));
        }
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata,
            "spec": object::at(template, &["spec"])})
    }

    fn status(&self) -> Value {
        let count =
            |wanted: &dyn Fn(&Pod) -> bool| self.pods.values().filter(|pod| wanted(pod)).count();
        let made_from = |pod: &Pod, revision: &str| {
            pod.is_active() && pod.label(REVISION_HASH_LABEL) == Some(revision)
        };
        let updated = count(&|pod| self.is_updated(pod) && pod.is_active());
        let ready = count(&|pod| pod.is_active() && pod.is_ready());
        let total = self.pods.len();
        let is_all = |number: usize| i64::try_from(number) == Ok(self.replicas);
        // The update is over when nothing else is left.
        let complete = self.rolls() && [updated, ready, total].into_iter().all(is_all);
        let current = if complete {
            self.update_name()
        } else {
            self.current_name()
        };
        let mut status = status::pruned(json!({
            "observedGeneration": object::i64_at(self.set, &["metadata", "generation"]),
            "readyReplicas": ready,
            "currentReplicas": count(&|pod| made_from(pod, current)),
            "updatedReplicas": updated,
            "currentRevision": current,
            "updateRevision": self.update_name(),
            "collisionCount": self.revisions.collision_count,
            "conditions": status::conditions_of(self.set),
        }));
        status["replicas"] = json!(total);
        status["availableReplicas"] = json!(count(&|pod| self.is_healthy(pod)));
        status
    }
}

//! One round of a DaemonSet: which nodes lack a pod, which pods must go, which are outdated.

use super::node::tolerations;
use super::{
    BURST_REPLICAS_MAX, BURST_REPLICAS_MIN, FAILED_POD_STAYS_MICROS, Judge, NodeFacts, Observed,
    REVISION_HASH_LABEL, Verdict,
};
use crate::action::{Action, Announce, DAEMON_SETS, Involved, PODS};
use crate::pod::{Phase, Pod};
use crate::replicaset::{claim_pods, delete_pod, next_availability, pod_from_template};
use crate::revision::{Revisions, revise};
use crate::status;
use meta::labels::LabelSelector;
use meta::{Value, intstr, object};
use std::collections::HashMap;
use std::sync::Arc;
use value::json;

/// Annotation and label that date from before revisions; some tools still read them.
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

/// What to do now for a DaemonSet.
pub fn plan(set: &Arc<Value>, observed: &Observed<'_>, now_micros: i64) -> Vec<Action> {
    let Ok(selector) = LabelSelector::from_object(object::at(set, &["spec", "selector"])) else {
        return Vec::new();
    };
    if selector.is_empty() {
        return Vec::new();
    }
    let deleting = object::is_deleting(set);
    let mut actions = Vec::new();
    let pods = claim_pods(set, &selector, deleting, observed.pods, &mut actions);
    let mut revisions = revise(set, REVISION_HASH_LABEL, &selector, observed.revisions);
    actions.append(&mut revisions.actions);
    let mut round = Round::new(set, &revisions, now_micros);
    round.look(observed.nodes, &pods);
    if !deleting && observed.creations_in_flight == 0 && observed.deletions_in_flight == 0 {
        round.update();
        round.act(observed.nodes.len(), &mut actions);
    }
    let status = round.status(revisions.collision_count);
    let stored = status::pruned(set.get("status").cloned().unwrap_or_else(|| json!({})));
    if stored != status::pruned(status.clone()) {
        actions.push(Action::update_status(
            DAEMON_SETS,
            status::with_status(set, status),
        ));
    }
    if !deleting {
        actions.extend(revisions.expired(set, |revision| {
            let hash = object::label(revision, REVISION_HASH_LABEL);
            pods.iter()
                .any(|pod| hash.is_some() && pod.label(REVISION_HASH_LABEL) == hash)
        }));
    }
    let waits = [
        next_availability(&pods, round.min_ready_seconds, now_micros),
        round.next_failed_micros,
    ];
    actions.extend(waits.into_iter().flatten().min().map(Action::RequeueAfter));
    actions
}

/// What is counted and decided on the way over the nodes.
struct Round<'a> {
    set: &'a Arc<Value>,
    hash: &'a str,
    min_ready_seconds: i64,
    /// How many nodes may have a second, newer pod while the old one still serves; 0: the old one goes first.
    surge: bool,
    now_micros: i64,
    desired: i64,
    current: i64,
    misscheduled: i64,
    ready: i64,
    available: i64,
    updated: i64,
    /// Nodes where a newer pod is waited for.
    surged: i64,
    creations: Vec<&'a str>,
    deletions: Vec<Arc<Pod>>,
    /// Pods of old templates, each the only one of its node, and whether they are available.
    outdated: Vec<(&'a str, Arc<Pod>, bool)>,
    next_failed_micros: Option<i64>,
}

/// What is on one node.
#[derive(Default)]
struct Place<'p> {
    new: Option<&'p Arc<Pod>>,
    old: Option<&'p Arc<Pod>>,
    leaving: bool,
}

impl<'a> Round<'a> {
    fn new(set: &'a Arc<Value>, revisions: &'a Revisions, now_micros: i64) -> Self {
        let surge = object::at(
            set,
            &["spec", "updateStrategy", "rollingUpdate", "maxSurge"],
        );
        Self {
            set,
            hash: object::label(&revisions.present, REVISION_HASH_LABEL).unwrap_or_default(),
            min_ready_seconds: object::i64_at(set, &["spec", "minReadySeconds"]).unwrap_or(0),
            surge: updates(set) && intstr::int_or_percent(surge, 100, true).unwrap_or(0) > 0,
            now_micros,
            desired: 0,
            current: 0,
            misscheduled: 0,
            ready: 0,
            available: 0,
            updated: 0,
            surged: 0,
            creations: Vec::new(),
            deletions: Vec::new(),
            outdated: Vec::new(),
            next_failed_micros: None,
        }
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.is_available(self.min_ready_seconds, self.now_micros)
    }

    /// Compares every node with the pods on it.
    fn look(&mut self, nodes: &[(&'a str, &'a Arc<NodeFacts>)], pods: &[Arc<Pod>]) {
        // Nearly every node has one pod: a first one and no more costs no allocation.
        let mut by_node: HashMap<&str, (&Arc<Pod>, Vec<&Arc<Pod>>)> =
            HashMap::with_capacity(pods.len());
        for pod in pods {
            by_node
                .entry(pod.target_node())
                .and_modify(|(_, more)| more.push(pod))
                .or_insert_with(|| (pod, Vec::new()));
        }
        let mut here = Vec::new();
        let judge = Judge::new(self.set);
        let by_name = judge.looks_at_names();
        let mut verdicts: HashMap<*const NodeFacts, Verdict> = HashMap::new();
        for (name, facts) in nodes {
            let verdict = if by_name {
                judge.verdict(name, facts)
            } else {
                *verdicts
                    .entry(Arc::as_ptr(facts))
                    .or_insert_with(|| judge.verdict(name, facts))
            };
            here.clear();
            if let Some((first, more)) = by_node.remove(*name) {
                here.push(first);
                here.extend(more);
            }
            here.sort_by(|a, b| (a.created_micros, &a.uid).cmp(&(b.created_micros, &b.uid)));
            let place = self.sort_out(&here, verdict);
            self.count(name, &place, verdict);
        }
        // Pods on nodes that are gone are the pod garbage collector's, if they ever got there.
        let lost = by_node.into_iter().filter(|(node, _)| !node.is_empty());
        let lost = lost.flat_map(|(_, (first, more))| more.into_iter().chain([first]));
        self.deletions.extend(
            lost.filter(|pod| pod.node_name.is_empty() && pod.deletion_micros.is_none())
                .cloned(),
        );
    }

    /// Chooses among the pods of a node, the oldest first; those that are too many go.
    fn sort_out<'p>(&mut self, here: &[&'p Arc<Pod>], verdict: Verdict) -> Place<'p> {
        let mut place = Place::default();
        for pod in here {
            let is_new = pod.label(REVISION_HASH_LABEL) == Some(self.hash);
            let slot = if is_new {
                &mut place.new
            } else {
                &mut place.old
            };
            if pod.deletion_micros.is_some() {
                place.leaving = true;
            } else if pod.has_ended() && verdict.may_stay {
                place.leaving = true;
                let due = pod.created_micros.saturating_add(FAILED_POD_STAYS_MICROS);
                if due <= self.now_micros {
                    self.deletions.push(Arc::clone(pod));
                } else {
                    let wait = due - self.now_micros;
                    self.next_failed_micros =
                        Some(self.next_failed_micros.map_or(wait, |next| next.min(wait)));
                }
            } else if verdict.may_stay && slot.is_none() {
                *slot = Some(pod);
            } else {
                place.leaving = true;
                self.deletions.push(Arc::clone(pod));
            }
        }
        if let (Some(new), Some(old)) = (place.new, place.old) {
            let goes = if self.surge {
                (!old.is_ready() || self.is_available(new)).then_some(old)
            } else if (new.created_micros, &new.uid) < (old.created_micros, &old.uid) {
                Some(old)
            } else {
                Some(new)
            };
            match goes {
                Some(pod) => {
                    self.deletions.push(Arc::clone(pod));
                    let slot = if Arc::ptr_eq(pod, old) {
                        &mut place.old
                    } else {
                        &mut place.new
                    };
                    *slot = None;
                }
                None => self.surged += 1,
            }
        }
        place
    }

    fn count(&mut self, node: &'a str, place: &Place<'_>, verdict: Verdict) {
        self.desired += i64::from(verdict.may_start);
        let pods = || place.new.into_iter().chain(place.old);
        match (verdict.may_start, pods().next()) {
            (true, Some(_)) => {
                self.current += 1;
                let available = pods().any(|pod| self.is_available(pod));
                self.ready += i64::from(pods().any(|pod| pod.is_ready()));
                self.available += i64::from(available);
                self.updated += i64::from(place.new.is_some());
                if let (None, Some(old)) = (place.new, place.old) {
                    self.outdated.push((node, Arc::clone(old), available));
                }
            }
            (true, None) if !place.leaving => self.creations.push(node),
            (false, Some(_)) => self.misscheduled += 1,
            _ => {}
        }
    }

    /// Replaces outdated pods: those that serve nobody, and as many others as the strategy lets.
    fn update(&mut self) {
        if !updates(self.set) {
            return;
        }
        let limit = |field: &str| {
            let path = ["spec", "updateStrategy", "rollingUpdate", field];
            intstr::int_or_percent(object::at(self.set, &path), self.desired, true)
        };
        let mut room = if self.surge {
            limit("maxSurge").unwrap_or(0) - self.surged
        } else {
            limit("maxUnavailable").unwrap_or(1).max(1) - (self.desired - self.available)
        };
        for (node, pod, available) in std::mem::take(&mut self.outdated) {
            if available && room <= 0 {
                continue;
            }
            room -= i64::from(available);
            if self.surge {
                self.creations.push(node);
            } else {
                self.deletions.push(pod);
            }
        }
    }

    fn act(&self, nodes: usize, actions: &mut Vec<Action>) {
        let burst = (nodes / 100).clamp(BURST_REPLICAS_MIN, BURST_REPLICAS_MAX);
        let announce = Announce {
            involved: Arc::new(Involved::of(self.set)),
        };
        let blank = self.blank();
        let creations = self.creations.iter().take(burst);
        actions.extend(creations.map(|node| Action::Create {
            resource: PODS,
            namespace: object::namespace(self.set).to_owned(),
            object: Arc::new(pod_for(&blank, node)),
            announce: Some(announce.clone()),
        }));
        for pod in self.deletions.iter().take(burst) {
            let text = |state: &str, verb: &str| {
                format!(
                    "Found {state} daemon pod {}/{} on node {}, will try to {verb} it",
                    pod.namespace, pod.name, pod.node_name
                )
            };
            let involved = &announce.involved;
            match pod.phase {
                Phase::Failed => actions.push(Action::warning(
                    involved,
                    "FailedDaemonPod",
                    text("failed", "kill"),
                )),
                Phase::Succeeded => actions.push(Action::normal(
                    involved,
                    "SucceededDaemonPod",
                    text("succeeded", "delete"),
                )),
                _ => {}
            }
            actions.push(delete_pod(pod, Some(announce.clone())));
        }
    }

    /// A pod of the present template, for any node.
    fn blank(&self) -> Value {
        let mut pod = pod_from_template(self.set, &format!("{}-", object::name(self.set)));
        let mut label = |key: &'static str, value: &str| {
            object::set_at(&mut pod, &["metadata", "labels", key], json!(value));
        };
        label(REVISION_HASH_LABEL, self.hash);
        if let Some(generation) = object::annotation(self.set, GENERATION_ANNOTATION) {
            label(GENERATION_LABEL, generation);
        }
        object::set_at(
            &mut pod,
            &["spec", "tolerations"],
            Value::Array(tolerations(self.set)),
        );
        pod
    }

    fn status(&self, collision_count: i64) -> Value {
        let mut status = status::pruned(json!({
            "observedGeneration": object::i64_at(self.set, &["metadata", "generation"]),
            "updatedNumberScheduled": self.updated,
            "numberAvailable": self.available,
            "numberUnavailable": self.desired - self.available,
            "collisionCount": collision_count,
            "conditions": status::conditions_of(self.set),
        }));
        status["desiredNumberScheduled"] = json!(self.desired);
        status["currentNumberScheduled"] = json!(self.current);
        status["numberMisscheduled"] = json!(self.misscheduled);
        status["numberReady"] = json!(self.ready);
        status
    }
}

fn updates(set: &Value) -> bool {
    object::str_at(set, &["spec", "updateStrategy", "type"]) != Some("OnDelete")
}

/// The node is decided here; the scheduler only finds out whether the pod fits.
fn pod_for(blank: &Value, node: &str) -> Value {
    let mut pod = blank.clone();
    let only = json!({"nodeSelectorTerms": [{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": [node]}]}]});
    let required = [
        "spec",
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
    ];
    object::set_at(&mut pod, &required, only);
    pod
}

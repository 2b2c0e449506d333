//! One round of a ReplicaSet: claim pods, create or delete the difference, report.

use super::{BURST_REPLICAS_MAX, Observed, rank_victims};
use crate::action::{
    Action, Announce, Involved, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, ResourceRef,
};
use crate::owner::{self, Claim, claim, controller_reference};
use crate::pod::Pod;
use crate::status::{self, Condition};
use meta::labels::LabelSelector;
use meta::{Value, object};
use std::sync::Arc;
use value::{Map, json};

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// What to do now for a ReplicaSet or ReplicationController (told apart by its `kind`).
pub fn plan(set: &Arc<Value>, observed: &Observed<'_>, now_micros: i64) -> Vec<Action> {
    let (resource, selector) = kind_of(set);
    let Ok(selector) = LabelSelector::from_object(&selector) else {
        return Vec::new();
    };
    if selector.is_empty() {
        return Vec::new(); // it would claim every pod of the namespace
    }
    let deleting = set.pointer("/metadata/deletionTimestamp").is_some();
    let mut actions = Vec::new();
    let pods = claim_pods(set, &selector, deleting, observed.pods, &mut actions);
    let active: Vec<Arc<Pod>> = pods.iter().filter(|pod| pod.is_active()).cloned().collect();
    let wanted = object::i64_at(set, &["spec", "replicas"]).unwrap_or(1);
    let wanted = usize::try_from(wanted).unwrap_or(0);
    if !deleting && observed.creations_in_flight == 0 && observed.deletions_in_flight == 0 {
        correct(set, wanted, &active, observed, now_micros, &mut actions);
    }
    let min_ready_seconds = object::i64_at(set, &["spec", "minReadySeconds"]).unwrap_or(0);
    let status = status_of(
        set,
        resource,
        &pods,
        &active,
        min_ready_seconds,
        wanted,
        observed,
        now_micros,
    );
    let stored = status::pruned(set.get("status").cloned().unwrap_or_else(|| json!({})));
    if stored != status::pruned(status.clone()) {
        actions.push(Action::update_status(
            resource,
            status::with_status(set, status),
        ));
    }
    actions.extend(
        next_availability(&active, min_ready_seconds, now_micros).map(Action::RequeueAfter),
    );
    actions
}

/// The resource, and its selector as a metav1.LabelSelector.
fn kind_of(set: &Value) -> (ResourceRef, Value) {
    let selector = set
        .pointer("/spec/selector")
        .cloned()
        .unwrap_or(Value::Null);
    if object::str_at(set, &["kind"]) == Some("ReplicationController") {
        (REPLICATION_CONTROLLERS, json!({"matchLabels": selector}))
    } else {
        (REPLICA_SETS, selector)
    }
}

/// The pods that belong to `set`; adoptions and releases are added to the plan.
pub(crate) fn claim_pods(
    set: &Value,
    selector: &LabelSelector,
    deleting: bool,
    pods: &[Arc<Pod>],
    actions: &mut Vec<Action>,
) -> Vec<Arc<Pod>> {
    let mut own = Vec::with_capacity(pods.len());
    for pod in pods {
        // A free pod that has ended is of no use to anybody.
        if pod.controller_uid.is_none() && !pod.is_active() {
            continue;
        }
        let matches = selector.matches(&pod.labels);
        let facts = (pod.controller_uid.as_deref(), pod.deletion_micros.is_some());
        match claim(object::uid(set), deleting, facts.0, matches, facts.1) {
            Claim::Own => own.push(Arc::clone(pod)),
            Claim::Adopt => {
                actions.push(owner::adopt(set, PODS, &pod.namespace, &pod.name, &pod.uid));
                own.push(Arc::clone(pod));
            }
            Claim::Release => actions.push(owner::release(
                set,
                PODS,
                &pod.namespace,
                &pod.name,
                &pod.uid,
            )),
            Claim::Leave => {}
        }
    }
    own
}

/// Creates or deletes up to a burst of pods.
fn correct(
    set: &Value,
    wanted: usize,
    active: &[Arc<Pod>],
    observed: &Observed<'_>,
    now_micros: i64,
    actions: &mut Vec<Action>,
) {
    let announce = || Announce {
        involved: Arc::new(Involved::of(set)),
    };
    if active.len() < wanted {
        let missing = (wanted - active.len()).min(BURST_REPLICAS_MAX);
        let create = Action::Create {
            resource: PODS,
            namespace: object::namespace(set).to_owned(),
            object: Arc::new(pod_of(set)),
            announce: Some(announce()),
        };
        actions.extend(std::iter::repeat_n(create, missing));
    } else if active.len() > wanted {
        let surplus = (active.len() - wanted).min(BURST_REPLICAS_MAX);
        let mut victims = active.to_vec();
        rank_victims(&mut victims, observed.sibling_pods, now_micros);
        let announce = announce();
        actions.extend(
            victims
                .iter()
                .take(surplus)
                .map(|pod| delete_pod(pod, Some(announce.clone()))),
        );
    }
}

/// DELETE of a pod, announced on its owner.
pub(crate) fn delete_pod(pod: &Pod, announce: Option<Announce>) -> Action {
    Action::Delete {
        resource: PODS,
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
        propagation: None,
        grace_seconds: None,
        announce,
    }
}

fn pod_of(set: &Value) -> Value {
    pod_from_template(set, &format!("{}-", object::name(set)))
}

/// A pod made from `spec.template`, controlled by its owner.
pub(crate) fn pod_from_template(owner: &Value, generate_name: &str) -> Value {
    let template = owner.pointer("/spec/template").unwrap_or(&Value::Null);
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template
            .pointer("/metadata")
            .and_then(|metadata| metadata.get(field))
        {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    metadata.insert("generateName", json!(generate_name));
    metadata.insert("namespace", json!(object::namespace(owner)));
    metadata.insert(
        "ownerReferences".to_owned(),
        json!([controller_reference(owner)]),
    );
    let spec = template.get("spec").cloned().unwrap_or_else(|| json!({}));
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

#[allow(clippy::too_many_arguments)] // each is one fact of the status
fn status_of(
    set: &Value,
    resource: ResourceRef,
    pods: &[Arc<Pod>],
    active: &[Arc<Pod>],
    min_ready_seconds: i64,
    wanted: usize,
    observed: &Observed<'_>,
    now_micros: i64,
) -> Value {
    let template_labels = set
        .pointer("/spec/template/metadata/labels")
        .and_then(Value::as_object);
    let fully_labeled = |pod: &&Arc<Pod>| {
        template_labels.is_none_or(|labels| {
            labels
                .iter()
                .all(|(key, value)| pod.labels.get(key) == Some(value))
        })
    };
    let mut conditions = status::conditions_of(set);
    let failing = status::find(&conditions, REPLICA_FAILURE).is_some();
    match observed.failure {
        Some(failure) if !failing && active.len() != wanted => {
            let reason = if failure.creating {
                "FailedCreate"
            } else {
                "FailedDelete"
            };
            status::set(
                &mut conditions,
                &Condition::new(REPLICA_FAILURE, true, reason, failure.message),
                None,
                now_micros,
            );
        }
        None => status::remove(&mut conditions, REPLICA_FAILURE),
        Some(_) => {}
    }
    let mut status = status::pruned(json!({
        "observedGeneration": object::i64_at(set, &["metadata", "generation"]),
        "fullyLabeledReplicas": active.iter().filter(fully_labeled).count(),
        "readyReplicas": active.iter().filter(|pod| pod.is_ready()).count(),
        "availableReplicas": active.iter().filter(|pod| pod.is_available(min_ready_seconds, now_micros)).count(),
        "conditions": conditions,
    }));
    status["replicas"] = json!(active.len());
    if resource == REPLICA_SETS {
        status["terminatingReplicas"] =
            json!(pods.iter().filter(|pod| pod.is_terminating()).count());
    }
    status
}

/// When the next ready pod becomes available.
pub(crate) fn next_availability(
    active: &[Arc<Pod>],
    min_ready_seconds: i64,
    now_micros: i64,
) -> Option<i64> {
    let wait = min_ready_seconds.saturating_mul(1_000_000);
    let due = active
        .iter()
        .filter_map(|pod| pod.ready_since_micros)
        .map(|since| since.saturating_add(wait));
    due.filter(|due| *due > now_micros)
        .min()
        .map(|due| due - now_micros)
}

//! One round of a DaemonSet: which nodes lack a pod, which pods must go, which are outdated.

use super::{BURST_REPLICAS_MAX, DaemonNode, Observed, REVISION_HASH_LABEL};
use crate::action::{Action, Announce, DAEMON_SETS, Involved, PODS};
use crate::deployment::template_hash;
use crate::nodelifecycle::Taint;
use crate::pod::{Phase, Pod, items, text_of};
use crate::replicaset::{claim_pods, delete_pod, pod_from_template};
use crate::status;
use meta::labels::LabelSelector;
use meta::{Value, intstr, object};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// Taints every daemon pod tolerates: key, effect.
const DAEMON_TOLERATIONS: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

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
    let mut by_node: HashMap<&str, Vec<&Arc<Pod>>> = HashMap::new();
    for pod in &pods {
        by_node.entry(&*pod.node_name).or_default().push(pod);
    }
    let tolerations = tolerations(set);
    let hash = template_hash(object::at(set, &["spec", "template"]), 0);
    let mut tally = Tally::default();
    let (mut creations, mut deletions, mut outdated) = (Vec::new(), Vec::new(), Vec::new());
    let min_ready_seconds = object::i64_at(set, &["spec", "minReadySeconds"]).unwrap_or(0);
    for node in observed.nodes {
        let here = by_node.remove(&*node.name).unwrap_or_default();
        let (may_start, may_stay) = judge(set, node, &tolerations);
        let mut kept: Option<&Arc<Pod>> = None;
        let mut leaving = false;
        let mut oldest_first = here;
        oldest_first.sort_by(|a, b| (a.created_micros, &a.uid).cmp(&(b.created_micros, &b.uid)));
        for pod in oldest_first {
            if pod.deletion_micros.is_some() {
                leaving = true;
            } else if !may_stay || pod.has_ended() || kept.is_some() {
                deletions.push(Arc::clone(pod));
                leaving = true;
            } else {
                kept = Some(pod);
            }
        }
        tally.desired += i64::from(may_start);
        match kept {
            Some(pod) if may_start => {
                tally.current += 1;
                let updated = pod.label(REVISION_HASH_LABEL) == Some(&hash);
                let available = pod.is_available(min_ready_seconds, now_micros);
                tally.ready += i64::from(pod.is_ready());
                tally.available += i64::from(available);
                tally.updated += i64::from(updated);
                if !updated {
                    outdated.push((Arc::clone(pod), available));
                }
            }
            Some(_) => tally.misscheduled += 1,
            None if may_start && !leaving => creations.push(&node.name),
            None => {}
        }
    }
    // What is left runs on nodes that are gone: the pod garbage collector's.
    if !deleting && observed.creations_in_flight == 0 && observed.deletions_in_flight == 0 {
        deletions.extend(outdated_to_go(set, &tally, outdated));
        let announce = Announce {
            involved: Arc::new(Involved::of(set)),
        };
        actions.extend(
            creations
                .into_iter()
                .take(BURST_REPLICAS_MAX)
                .map(|node| Action::Create {
                    resource: PODS,
                    namespace: object::namespace(set).to_owned(),
                    object: Arc::new(daemon_pod(set, node, &hash)),
                    announce: Some(announce.clone()),
                }),
        );
        for pod in deletions.iter().take(BURST_REPLICAS_MAX) {
            if pod.phase == Phase::Failed {
                let message = format!(
                    "Found failed daemon pod {}/{} on node {}, will try to kill it",
                    pod.namespace, pod.name, pod.node_name
                );
                actions.push(Action::warning(
                    &announce.involved,
                    "FailedDaemonPod",
                    message,
                ));
            }
            actions.push(delete_pod(pod, Some(announce.clone())));
        }
    }
    let status = tally.status(set);
    let stored = status::pruned(set.get("status").cloned().unwrap_or_else(|| json!({})));
    if stored != status::pruned(status.clone()) {
        actions.push(Action::update_status(
            DAEMON_SETS,
            status::with_status(set, status),
        ));
    }
    actions
}

#[derive(Default)]
struct Tally {
    desired: i64,
    current: i64,
    misscheduled: i64,
    ready: i64,
    available: i64,
    updated: i64,
}

impl Tally {
    fn status(&self, set: &Value) -> Value {
        let mut status = status::pruned(json!({
            "observedGeneration": object::i64_at(set, &["metadata", "generation"]),
            "updatedNumberScheduled": self.updated,
            "numberAvailable": self.available,
            "numberUnavailable": self.desired - self.available,
            "conditions": status::conditions_of(set),
        }));
        status["desiredNumberScheduled"] = json!(self.desired);
        status["currentNumberScheduled"] = json!(self.current);
        status["numberMisscheduled"] = json!(self.misscheduled);
        status["numberReady"] = json!(self.ready);
        status
    }
}

/// Outdated pods that may go now: those that serve nobody, and as many others as may be missing.
fn outdated_to_go(set: &Value, tally: &Tally, outdated: Vec<(Arc<Pod>, bool)>) -> Vec<Arc<Pod>> {
    if object::str_at(set, &["spec", "updateStrategy", "type"]) == Some("OnDelete") {
        return Vec::new();
    }
    let limit = object::at(
        set,
        &["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"],
    );
    let limit = intstr::int_or_percent(limit, tally.desired, true)
        .unwrap_or(1)
        .max(1);
    let mut room = limit - (tally.desired - tally.available);
    let mut go = Vec::new();
    for (pod, available) in outdated {
        if available && room <= 0 {
            continue;
        }
        room -= i64::from(available);
        go.push(pod);
    }
    go
}

fn daemon_pod(set: &Value, node: &str, hash: &str) -> Value {
    let mut pod = pod_from_template(set, &format!("{}-", object::name(set)));
    object::set_at(
        &mut pod,
        &["metadata", "labels", REVISION_HASH_LABEL],
        json!(hash),
    );
    object::set_at(&mut pod, &["spec", "nodeName"], json!(node));
    object::set_at(
        &mut pod,
        &["spec", "tolerations"],
        Value::Array(tolerations(set)),
    );
    pod
}

/// The template's tolerations and those of every daemon pod.
fn tolerations(set: &Value) -> Vec<Value> {
    let mut tolerations = items(set, &["spec", "template", "spec", "tolerations"]).to_vec();
    let toleration =
        |key: &str, effect: &str| json!({"key": key, "operator": "Exists", "effect": effect});
    tolerations.extend(DAEMON_TOLERATIONS.map(|(key, effect)| toleration(key, effect)));
    if object::bool_at(set, &["spec", "template", "spec", "hostNetwork"]) == Some(true) {
        tolerations.push(toleration(
            "node.kubernetes.io/network-unavailable",
            "NoSchedule",
        ));
    }
    tolerations
}

/// (a pod may start on the node, a pod may stay on the node).
fn judge(set: &Value, node: &DaemonNode, tolerations: &[Value]) -> (bool, bool) {
    if !matches_node(set, node) {
        return (false, false);
    }
    let tolerated = |taint: &Taint| {
        tolerations
            .iter()
            .any(|toleration| tolerates(toleration, taint))
    };
    let untolerated = |effect: &str| {
        node.taints
            .iter()
            .any(|taint| &*taint.effect == effect && !tolerated(taint))
    };
    let may_stay = !untolerated("NoExecute");
    (may_stay && !untolerated("NoSchedule"), may_stay)
}

fn matches_node(set: &Value, node: &DaemonNode) -> bool {
    let spec = object::at(set, &["spec", "template", "spec"]);
    if !text_of(spec, "nodeName").is_empty() && text_of(spec, "nodeName") != &*node.name {
        return false;
    }
    let pairs = object::map_at(spec, &["nodeSelector"]);
    if !pairs.is_none_or(|pairs| {
        pairs
            .iter()
            .all(|(key, value)| node.labels.get(key) == Some(value))
    }) {
        return false;
    }
    let required = [
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ];
    let terms = items(spec, &required);
    let matches = |term: &Value| {
        let expressions = json!({"matchExpressions": items(term, &["matchExpressions"])});
        LabelSelector::from_object(&expressions)
            .is_ok_and(|selector| selector.matches(&node.labels))
    };
    terms.is_empty() || terms.iter().any(matches)
}

fn tolerates(toleration: &Value, taint: &Taint) -> bool {
    let [key, effect, value] = ["key", "effect", "value"].map(|field| text_of(toleration, field));
    let exists = text_of(toleration, "operator") == "Exists";
    (effect.is_empty() || effect == &*taint.effect)
        && ((key.is_empty() && exists)
            || (key == &*taint.key && (exists || value == &*taint.value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::brief;

    fn set(image: &str) -> Arc<Value> {
        Arc::new(json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "agent", "namespace": "default", "uid": "ds", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "agent"}},
                "template": {"metadata": {"labels": {"app": "agent"}},
                    "spec": {"nodeSelector": {"os": "linux"}, "containers": [{"name": "c", "image": image}]}}}}))
    }

    fn node(name: &str, os: &str, taint: Option<(&str, &str)>) -> Arc<DaemonNode> {
        let taints: Vec<Value> = taint
            .iter()
            .map(|(key, effect)| json!({"key": key, "effect": effect}))
            .collect();
        Arc::new(DaemonNode::from_object(
            &json!({"metadata": {"name": name, "labels": {"os": os}}, "spec": {"taints": taints}}),
        ))
    }

    fn pod(node: &str, image: &str) -> Arc<Pod> {
        let hash = template_hash(&set(image)["spec"]["template"], 0);
        let name = format!("agent-{node}");
        Arc::new(Pod::from_object(
            &json!({"metadata": {"namespace": "default", "name": name, "uid": name,
                "labels": {"app": "agent", "controller-revision-hash": hash}, "ownerReferences": [{"uid": "ds", "controller": true}]},
            "spec": {"nodeName": node}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}),
        ))
    }

    fn run(set: &Arc<Value>, nodes: &[Arc<DaemonNode>], pods: &[Arc<Pod>]) -> Vec<Action> {
        plan(
            set,
            &Observed {
                nodes,
                pods,
                creations_in_flight: 0,
                deletions_in_flight: 0,
            },
            1,
        )
    }

    #[test]
    fn each_matching_node_gets_a_pod_bound_to_it() {
        let cordoned = Some(("node.kubernetes.io/unschedulable", "NoSchedule"));
        let nodes = [
            node("a", "linux", cordoned),
            node("b", "other", None),
            node("c", "linux", Some(("gpu", "NoSchedule"))),
        ];
        let actions = run(&set("v1"), &nodes, &[]);
        let expected = "create pods agent-*\nstatus daemonsets.apps agent currentNumberScheduled=0 desiredNumberScheduled=1 numberMisscheduled=0 numberReady=0 numberUnavailable=1 observedGeneration=1\n";
        assert_eq!(brief(&actions), expected);
        let Some(Action::Create { object, .. }) = actions.first() else {
            panic!("no creation")
        };
        assert_eq!(object["spec"]["nodeName"], "a");
    }

    #[test]
    fn pods_leave_nodes_that_match_no_longer() {
        let nodes = [
            node("a", "linux", Some(("gone", "NoExecute"))),
            node("b", "linux", None),
        ];
        let text = brief(&run(&set("v1"), &nodes, &[pod("a", "v1"), pod("b", "v1")]));
        assert!(
            text.starts_with("delete pods default/agent-a uid=agent-a\nstatus"),
            "{text}"
        );
        assert!(
            text.contains("numberAvailable=1") && text.contains("desiredNumberScheduled=1"),
            "{text}"
        );
    }

    #[test]
    fn an_update_replaces_one_pod_at_a_time() {
        let nodes = ["a", "b", "c"].map(|name| node(name, "linux", None));
        let old = ["a", "b", "c"].map(|name| pod(name, "v1"));
        let text = brief(&run(&set("v2"), &nodes, &old));
        assert_eq!(text.matches("delete pods").count(), 1, "{text}");
        let text = brief(&run(&set("v2"), &nodes, &old[1..]));
        assert!(text.starts_with("create pods agent-*\nstatus"), "{text}");
        let mixed = [pod("a", "v2"), pod("b", "v1"), pod("c", "v1")];
        assert!(
            brief(&run(&set("v2"), &nodes, &mixed))
                .starts_with("delete pods default/agent-b uid=agent-b\n")
        );
    }
}

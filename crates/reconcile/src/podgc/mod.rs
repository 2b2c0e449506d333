//! Pod garbage: pods bound to nodes that no longer exist, and too many ended pods.
//!
//! Knows pods and which nodes exist. Does not know why a node vanished.

use crate::action::{Action, PODS, PatchType};
use crate::pod::Pod;
use meta::time;
use std::sync::Arc;
use value::json;

/// A node may vanish and come back (re-registration): pods are kept this long.
pub const NODE_QUARANTINE_MICROS: i64 = 40_000_000;
/// Ended pods kept in the cluster before the oldest are deleted, as upstream.
pub const TERMINATED_PODS_MAX: usize = 12_500;

/// Deletes pods of a node that vanished `gone_micros` ago, or says when to look again.
pub fn plan_node_gone(pods: &[Arc<Pod>], gone_micros: i64, now_micros: i64) -> Vec<Action> {
    if gone_micros < NODE_QUARANTINE_MICROS {
        return vec![Action::RequeueAfter(NODE_QUARANTINE_MICROS - gone_micros)];
    }
    let mut actions = Vec::new();
    for pod in pods {
        if !pod.has_ended() {
            actions.push(fail(pod, now_micros));
        }
        actions.push(delete_now(pod));
    }
    actions
}

/// The deletions that bring ended pods back to `keep`; the oldest go first.
pub fn plan_ended(ended: &[Arc<Pod>], keep: usize) -> Vec<Action> {
    let mut pods: Vec<&Arc<Pod>> = ended.iter().filter(|pod| pod.has_ended()).collect();
    pods.sort_by(|a, b| (a.created_micros, &a.name).cmp(&(b.created_micros, &b.name)));
    let surplus = pods.len().saturating_sub(keep);
    pods.into_iter()
        .take(surplus)
        .map(|pod| delete_now(pod))
        .collect()
}

/// A deleting pod that was never bound has no kubelet to finish it.
pub fn plan_unbound(pod: &Pod) -> Option<Action> {
    (pod.deletion_micros.is_some() && pod.node_name.is_empty()).then(|| delete_now(pod))
}

fn fail(pod: &Pod, now_micros: i64) -> Action {
    Action::Patch {
        resource: PODS,
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        patch_type: PatchType::Strategic,
        subresource: Some("status"),
        body: json!({
            "metadata": {"uid": &*pod.uid},
            "status": {
                "phase": "Failed",
                "conditions": [{
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists",
                    "lastTransitionTime": time::format_seconds(now_micros),
                }],
            },
        }),
    }
}

fn delete_now(pod: &Pod) -> Action {
    Action::Delete {
        resource: PODS,
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
        propagation: None,
        grace_seconds: Some(0),
        announce: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::text;

    fn pod(name: &str, phase: &str, created: i64) -> Arc<Pod> {
        let object = json!({"metadata": {"namespace": "default", "name": name, "uid": name}, "status": {"phase": phase}});
        let mut pod = Pod::from_object(&object);
        pod.created_micros = created;
        Arc::new(pod)
    }

    #[test]
    fn pods_of_a_vanished_node_fail_and_go_after_quarantine() {
        let pods = [pod("a", "Running", 0), pod("b", "Succeeded", 0)];
        assert_eq!(
            text(&plan_node_gone(&pods, 30_000_000, 0)),
            "requeue after 10.000000s\n"
        );
        let expected = concat!(
            r#"patch pods/status default/a strategic {"metadata":{"uid":"a"},"status":{"conditions":[{"lastTransitionTime":"1970-01-01T00:00:00Z","message":"PodGC: node no longer exists","reason":"DeletionByPodGC","status":"True","type":"DisruptionTarget"}],"phase":"Failed"}}"#,
            "\ndelete pods default/a uid=a grace=0s\ndelete pods default/b uid=b grace=0s\n"
        );
        assert_eq!(
            text(&plan_node_gone(&pods, NODE_QUARANTINE_MICROS, 0)),
            expected
        );
    }

    #[test]
    fn the_oldest_ended_pods_go_first() {
        let pods = [
            pod("new", "Failed", 9),
            pod("running", "Running", 0),
            pod("old", "Succeeded", 1),
        ];
        assert_eq!(
            text(&plan_ended(&pods, 1)),
            "delete pods default/old uid=old grace=0s\n"
        );
    }
}

//! Mutating admission that needs nothing but the object and what the shell looked up: service account, priority,
//! tolerations, node taints.
//!
//! It does not look anything up, and does not call webhooks.

use crate::tree;
use meta::{ApiError, GroupResource, Value};
use schema::Resource;
use value::json;

/// How long a pod stays on a node that is gone, seconds.
const TOLERATION_SECONDS: i64 = 300;
/// The taint a node keeps until it is known to be ready.
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The taint of a node nobody hears from.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// What the shell found for the object at hand; Null where there is nothing to find.
#[derive(Debug, Clone, Default)]
pub struct LookedUp {
    /// The PriorityClass the pod names, or the global default class if it names none.
    pub priority_class: Value,
}

/// Everything admission does to an object about to be created, in upstream's order.
pub fn admit_create(res: &Resource, obj: &mut Value, found: &LookedUp) -> Result<(), ApiError> {
    match (res.group, res.resource) {
        ("", "pods") => {
            set_service_account(obj);
            set_priority(obj, &found.priority_class)?;
            set_tolerations(obj);
            Ok(())
        }
        ("", "nodes") => {
            taint_new_node(obj);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Everything admission does to an object about to be replaced by `obj`: what was worked out at creation is kept.
pub fn admit_update(res: &Resource, obj: &mut Value, old: &Value) {
    if (res.group, res.resource) == ("", "pods") {
        for field in ["spec.priority", "spec.preemptionPolicy"] {
            if tree::get(obj, field).is_none() {
                tree::carry(obj, old, field);
            }
        }
        set_tolerations(obj);
    }
}

/// A pod that names no account runs as `default`.
pub fn set_service_account(pod: &mut Value) {
    tree::ensure(pod, "spec");
    // Mirror pods stand for static pods, which have no account.
    let mirror = tree::map(pod, "metadata.annotations")
        .is_some_and(|annotations| annotations.contains_key("kubernetes.io/config.mirror"));
    if mirror {
        return;
    }
    let old_name = tree::text(pod, "spec.serviceAccount").to_owned();
    let name = if old_name.is_empty() {
        "default".to_owned()
    } else {
        old_name
    };
    tree::fill(pod, "spec.serviceAccountName", name);
    tree::carry_within(pod, "spec.serviceAccountName", "spec.serviceAccount");
}

/// Writes the priority of a pod's class. `class` is the PriorityClass found: the named one, or the default one, or Null.
pub fn set_priority(pod: &mut Value, class: &Value) -> Result<(), ApiError> {
    let pods = GroupResource::new("", "pods");
    let name = tree::text(pod, "spec.priorityClassName").to_owned();
    let pod_name = tree::text(pod, "metadata.name").to_owned();
    let refuse = |detail: String| Err(ApiError::forbidden(&pods, &pod_name, &detail));
    let (priority, policy) = if class.is_null() {
        match name.as_str() {
            "" => (0, "PreemptLowerPriority"),
            "system-node-critical" => (2_000_001_000, "PreemptLowerPriority"),
            "system-cluster-critical" => (2_000_000_000, "PreemptLowerPriority"),
            other => return refuse(format!("no PriorityClass with name {other} was found")),
        }
    } else {
        if name.is_empty() {
            tree::put(
                pod,
                "spec.priorityClassName",
                tree::text(class, "metadata.name"),
            );
        }
        let policy = tree::text(class, "preemptionPolicy");
        (
            tree::int(class, "value").unwrap_or(0),
            if policy.is_empty() {
                "PreemptLowerPriority"
            } else {
                policy
            },
        )
    };
    if let Some(sent) = tree::int(pod, "spec.priority").filter(|sent| *sent != priority) {
        return refuse(format!(
            "the integer value of priority ({sent}) must not be provided in pod spec; \
             priority admission controller computed {priority} from the given PriorityClass name"
        ));
    }
    let sent = tree::text(pod, "spec.preemptionPolicy");
    if !sent.is_empty() && sent != policy {
        return refuse(format!(
            "the string value of PreemptionPolicy ({sent}) must not be provided in pod spec; \
             priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    tree::put(pod, "spec.priority", priority);
    tree::put(pod, "spec.preemptionPolicy", policy);
    Ok(())
}

/// A pod that says nothing about lost nodes stays on them for five minutes.
pub fn set_tolerations(pod: &mut Value) {
    let present = tree::items(pod, "spec.tolerations");
    let tolerated = |taint: &str| {
        present.iter().any(|toleration| {
            let key = tree::text(toleration, "key");
            let effect = tree::text(toleration, "effect");
            (key.is_empty() || key == taint) && matches!(effect, "" | "NoExecute")
        })
    };
    let added: Vec<Value> = [NOT_READY, UNREACHABLE]
        .into_iter()
        .filter(|taint| !tolerated(taint))
        .map(|taint| {
            json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS})
        })
        .collect();
    if !added.is_empty() {
        let mut tolerations = present.to_vec();
        tolerations.extend(added);
        tree::put(pod, "spec.tolerations", tolerations);
    }
}

/// A new node takes no pods until the node controller has seen it ready.
pub fn taint_new_node(node: &mut Value) {
    let mut taints = tree::items(node, "spec.taints").to_vec();
    let tainted = taints.iter().any(|taint| {
        tree::text(taint, "key") == NOT_READY && tree::text(taint, "effect") == "NoSchedule"
    });
    if !tainted {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        tree::put(node, "spec.taints", taints);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_pod_gets_account_priority_and_tolerations() {
        let mut pod = json!({"metadata": {"name": "web"}, "spec": {}});
        set_service_account(&mut pod);
        set_priority(&mut pod, &Value::Null).unwrap();
        set_tolerations(&mut pod);
        let expected = json!({
            "serviceAccountName": "default", "serviceAccount": "default",
            "priority": 0, "preemptionPolicy": "PreemptLowerPriority",
            "tolerations": [
                {"key": NOT_READY, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ]
        });
        assert_eq!(pod["spec"], expected);
        let before = pod.clone();
        set_service_account(&mut pod);
        set_priority(&mut pod, &Value::Null).unwrap();
        set_tolerations(&mut pod);
        assert_eq!(pod, before);
    }

    #[test]
    fn the_class_decides_the_priority() {
        let class =
            json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"});
        let mut pod = json!({"metadata": {"name": "web"}, "spec": {"priorityClassName": "high"}});
        set_priority(&mut pod, &class).unwrap();
        assert_eq!(
            pod["spec"],
            json!({"priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never"})
        );
        let mut odd = json!({"metadata": {"name": "web"}, "spec": {"priority": 7}});
        let refused = set_priority(&mut odd, &class).unwrap_err();
        assert_eq!(refused.code, 403);
        let mut lost = json!({"metadata": {"name": "web"}, "spec": {"priorityClassName": "gone"}});
        assert_eq!(
            set_priority(&mut lost, &Value::Null).unwrap_err().message,
            "pods \"web\" is forbidden: no PriorityClass with name gone was found"
        );
    }

    #[test]
    fn a_toleration_of_everything_is_enough() {
        let mut pod = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        let before = pod.clone();
        set_tolerations(&mut pod);
        assert_eq!(pod, before);
    }

    #[test]
    fn new_nodes_are_not_ready() {
        let mut node = json!({"metadata": {"name": "n"}});
        taint_new_node(&mut node);
        taint_new_node(&mut node);
        assert_eq!(
            node["spec"]["taints"],
            json!([{"key": NOT_READY, "effect": "NoSchedule"}])
        );
    }
}

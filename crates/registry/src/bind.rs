//! Binding: a pod is given its node.
//!
//! It does not know whether the node exists or has room: whoever binds decided that.

use crate::context::Context;
use crate::tree;
use meta::{ApiError, FieldError, FieldPath, GroupResource, Value};
use value::json;

/// Makes the bound pod from the stored one (which must carry its resourceVersion) and a v1 Binding.
/// The result has no `metadata.resourceVersion`.
pub fn bind(pod: &Value, binding: &Value, ctx: &Context) -> Result<Value, ApiError> {
    let name = tree::text(pod, "metadata.name");
    check_binding(binding, name)?;
    let refuse = |detail: String| {
        Err(ApiError::conflict(
            &GroupResource::new("", "pods/binding"),
            name,
            &detail,
        ))
    };

    let (asked, own) = (
        tree::text(binding, "metadata.uid"),
        tree::text(pod, "metadata.uid"),
    );
    if !asked.is_empty() && asked != own {
        return refuse(format!(
            "Precondition failed: UID in precondition: {asked}, UID in object meta: {own}"
        ));
    }
    let (asked, own) = (
        tree::text(binding, "metadata.resourceVersion"),
        tree::text(pod, "metadata.resourceVersion"),
    );
    if !asked.is_empty() && asked != own {
        return refuse(format!(
            "Precondition failed: ResourceVersion in precondition: {asked}, ResourceVersion in object meta: {own}"
        ));
    }
    if tree::get(pod, "metadata.deletionTimestamp").is_some() {
        return refuse(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    let node = tree::text(pod, "spec.nodeName");
    if !node.is_empty() {
        return refuse(format!("pod {name} is already assigned to node {node:?}"));
    }
    if !tree::items(pod, "spec.schedulingGates").is_empty() {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }

    let mut bound = pod.clone();
    tree::remove(&mut bound, "metadata.resourceVersion");
    // A node in view is no news once there is a node (ClearingNominatedNodeNameAfterBinding).
    tree::remove(&mut bound, "status.nominatedNodeName");
    tree::put(
        &mut bound,
        "spec.nodeName",
        tree::text(binding, "target.name"),
    );
    for field in ["metadata.annotations", "metadata.labels"] {
        let Some(added) = tree::map(binding, field).filter(|added| !added.is_empty()) else {
            continue;
        };
        if let Some(own) = tree::ensure(&mut bound, field) {
            own.extend(added.clone());
        }
    }
    set_scheduled(&mut bound, ctx);
    Ok(bound)
}

/// The node of a binding that is valid and asks for nothing but a node and, perhaps, a uid.
#[must_use]
pub fn plain_binding<'a>(binding: &'a Value, pod_name: &str) -> Option<&'a str> {
    check_binding(binding, pod_name).ok()?;
    let asks_more = ["labels", "annotations", "resourceVersion"]
        .iter()
        .any(|field| binding["metadata"].get(field).is_some());
    (!asks_more).then(|| tree::text(binding, "target.name"))
}

fn check_binding(binding: &Value, pod_name: &str) -> Result<(), ApiError> {
    let name = tree::text(binding, "metadata.name");
    if !name.is_empty() && name != pod_name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Binding object",
        ));
    }
    let mut errors = Vec::new();
    let target = FieldPath::new("target");
    let kind = tree::text(binding, "target.kind");
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(
            &target.child("kind"),
            kind,
            &["Node", "<empty>"],
        ));
    }
    let node = tree::text(binding, "target.name");
    if node.is_empty() {
        errors.push(FieldError::required(&target.child("name"), ""));
    } else {
        errors.extend(FieldError::invalid_each(
            &target.child("name"),
            node,
            meta::names::dns1123_subdomain(node),
        ));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid("", "Binding", pod_name, errors))
    }
}

fn set_scheduled(pod: &mut Value, ctx: &Context) {
    let mut condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastTransitionTime": ctx.now_seconds_text(),
    });
    if let Some(generation) = tree::int(pod, "metadata.generation") {
        tree::put(&mut condition, "observedGeneration", generation);
    }
    let mut conditions = tree::items(pod, "status.conditions").to_vec();
    match conditions
        .iter_mut()
        .find(|present| tree::text(present, "type") == "PodScheduled")
    {
        Some(present) => *present = condition,
        None => conditions.push(condition),
    }
    tree::put(pod, "status.conditions", conditions);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind_to(pod: &Value, binding: &Value) -> Result<Value, ApiError> {
        let mut random = || 0;
        bind(
            pod,
            binding,
            &Context {
                now_micros: 0,
                user: "",
                random: &mut random,
            },
        )
    }

    #[test]
    fn a_pod_is_bound_once() {
        let pod = json!({"metadata": {"name": "web", "uid": "u", "resourceVersion": "5", "generation": 1}, "spec": {},
            "status": {"nominatedNodeName": "n2"}});
        let binding = json!({"metadata": {"name": "web", "annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n1"}});
        let bound = bind_to(&pod, &binding).unwrap();
        assert_eq!(
            bound,
            json!({
                "metadata": {"name": "web", "uid": "u", "generation": 1, "annotations": {"a": "b"}},
                "spec": {"nodeName": "n1"},
                "status": {"conditions": [{
                    "type": "PodScheduled", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z", "observedGeneration": 1
                }]}
            })
        );
        let again = bind_to(&bound, &binding).unwrap_err();
        assert_eq!(again.code, 409);
        assert_eq!(
            again.message,
            "Operation cannot be fulfilled on pods/binding \"web\": pod web is already assigned to node \"n1\""
        );
    }

    #[test]
    fn bindings_to_another_pod_or_to_nothing_are_refused() {
        let pod = json!({"metadata": {"name": "web", "uid": "u"}, "spec": {}});
        let other = json!({"metadata": {"name": "web", "uid": "v"}, "target": {"name": "n1"}});
        assert_eq!(bind_to(&pod, &other).unwrap_err().code, 409);
        let nothing = bind_to(&pod, &json!({"target": {"kind": "Pod"}})).unwrap_err();
        assert_eq!(
            nothing.message,
            "Binding \"web\" is invalid: [target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\", target.name: Required value]"
        );
        let gated =
            json!({"metadata": {"name": "web"}, "spec": {"schedulingGates": [{"name": "g"}]}});
        assert_eq!(
            bind_to(&gated, &json!({"target": {"name": "n1"}}))
                .unwrap_err()
                .code,
            409
        );
    }
}

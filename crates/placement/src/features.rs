//! Features that nodes declare and pods need (NodeDeclaredFeatures of 1.36, on by default).
//!
//! What a pod needs is told by its fields, as `k8s.io/component-helpers/nodedeclaredfeatures` infers it for
//! scheduling. Features of that library that concern updates of pods only need nothing here. Does not know who
//! compares the two.

use crate::objects::{items, text};
use meta::Value;

/// Containers have a rule that restarts all of them.
const RESTART_ALL: &str = "RestartAllContainersOnContainerExits";
/// User namespaces in the network of the host.
const USERS_IN_HOST_NETWORK: &str = "UserNamespacesHostNetworkSupport";

/// `declaredFeatures` of a node's status.
pub(crate) fn declared(status: &Value) -> Vec<Box<str>> {
    let features = items(&status["declaredFeatures"]);
    let mut features: Vec<Box<str>> = features.map(|feature| text(feature).into()).collect();
    features.sort();
    features.dedup();
    features
}

/// What a pod's spec needs.
pub(crate) fn needed(spec: &Value) -> Vec<Box<str>> {
    let mut containers = items(&spec["containers"]).chain(items(&spec["initContainers"]));
    let restarts_all = containers.any(|container| {
        items(&container["restartPolicyRules"]).any(|rule| rule["action"] == "RestartAllContainers")
    });
    let users = spec["hostNetwork"] == true && spec["hostUsers"] == false;
    [(restarts_all, RESTART_ALL), (users, USERS_IN_HOST_NETWORK)]
        .into_iter()
        .filter(|(is_needed, _)| *is_needed)
        .map(|(_, name)| name.into())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn needs_are_told_by_fields() {
        let rule = json!({"restartPolicyRules": [{"action": "Restart"}, {"action": "RestartAllContainers"}]});
        let names = |spec: Value| -> Vec<String> {
            needed(&spec).iter().map(|name| name.to_string()).collect()
        };
        assert_eq!(names(json!({"containers": [{}]})), [""; 0]);
        assert_eq!(names(json!({"containers": [{}, rule]})), [RESTART_ALL]);
        let both = json!({"initContainers": [rule], "hostNetwork": true, "hostUsers": false});
        assert_eq!(names(both), [RESTART_ALL, USERS_IN_HOST_NETWORK]);
        assert_eq!(names(json!({"hostNetwork": true})), [""; 0]);
    }
}

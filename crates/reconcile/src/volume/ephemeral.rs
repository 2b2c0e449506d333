//! Claims that belong to one pod: made from the template in its spec, named after pod and volume, gone with the pod.
//!
//! Does not delete: the garbage collector does.

use crate::action::{Action, Involved, PERSISTENT_VOLUME_CLAIMS};
use crate::pod::{ClaimVolume, Pod};
use meta::{Value, object};
use std::sync::Arc;
use value::{Map, json};

/// What to do now for a pod with ephemeral volumes. `claim` finds claims of its namespace by name.
pub fn plan_pod<'a>(pod: &Pod, claim: &dyn Fn(&str) -> Option<&'a Value>) -> Vec<Action> {
    let mut actions = Vec::new();
    if pod.deletion_micros.is_some() {
        return actions;
    }
    for volume in pod.claim_volumes() {
        let Some(template) = &volume.template else {
            continue;
        };
        let Some(found) = claim(&volume.claim) else {
            actions.push(Action::Create {
                resource: PERSISTENT_VOLUME_CLAIMS,
                namespace: pod.namespace.to_string(),
                object: Arc::new(from_template(pod, volume, template)),
                announce: None,
            });
            continue;
        };
        let is_ours = object::controller_of(found).is_some_and(|owner| owner["uid"] == *pod.uid);
        if !is_ours {
            let message = format!(
                "ephemeral volume {}: PVC {}/{} was not created for pod {}/{} (pod is not owner)",
                volume.volume, pod.namespace, volume.claim, pod.namespace, pod.name
            );
            // As upstream, nothing more is made for a pod that does not get this one.
            let event = Action::warning(&involved(pod), "FailedBinding", message);
            return vec![event];
        }
    }
    actions
}

fn from_template(pod: &Pod, volume: &ClaimVolume, template: &Value) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(volume.claim));
    metadata.insert("namespace".to_owned(), json!(pod.namespace));
    for field in ["annotations", "labels"] {
        let given = object::at(template, &["metadata", field]);
        if given.is_object() {
            metadata.insert(field.to_owned(), given.clone());
        }
    }
    metadata.insert(
        "ownerReferences".to_owned(),
        json!([{"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid,
            "controller": true, "blockOwnerDeletion": true}]),
    );
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata,
        "spec": object::at(template, &["spec"])})
}

fn involved(pod: &Pod) -> Arc<Involved> {
    Arc::new(Involved {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
        resource_version: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::text;

    #[test]
    fn a_pod_gets_the_claim_of_its_template_once() {
        let pod = Pod::from_object(
            &json!({"metadata": {"namespace": "n", "name": "p", "uid": "u"},
            "spec": {"volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}},
                    "spec": {"accessModes": ["ReadWriteOnce"]}}}}]}}),
        );
        assert_eq!(
            text(&plan_pod(&pod, &|_| None)),
            concat!(
                r#"create persistentvolumeclaims n/p-scratch {"apiVersion":"v1","kind":"PersistentVolumeClaim","#,
                r#""metadata":{"labels":{"a":"b"},"name":"p-scratch","namespace":"n","#,
                r#""ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Pod","name":"p","uid":"u"}]},"#,
                r#""spec":{"accessModes":["ReadWriteOnce"]}}"#,
                "\n"
            )
        );
        let owned = |uid: &str| {
            json!({"metadata": {"name": "p-scratch",
            "ownerReferences": [{"kind": "Pod", "name": "p", "uid": uid, "controller": true}]}})
        };
        let (ours, other) = (owned("u"), owned("x"));
        assert_eq!(text(&plan_pod(&pod, &|_| Some(&ours))), "");
        assert_eq!(
            text(&plan_pod(&pod, &|_| Some(&other))),
            "event Pod n/p Warning FailedBinding: ephemeral volume scratch: PVC n/p-scratch was not created for pod n/p (pod is not owner)\n"
        );
    }
}

//! A provisioner of volumes that do not exist, for nodes that do not exist either.
//!
//! Speaks as an external provisioner does: waits until it is asked by annotation, makes a volume that names its claim,
//! and deletes what it made once that is released. Its volumes are reached from wherever the class allows. Does not
//! bind: that is everybody's rule.

use super::{
    PERSISTENT_VOLUMES, PROVISIONED_BY, STORAGE_PROVISIONER, VOLUME_FINALIZER, class_of, phase,
    volume_named,
};
use crate::action::{Action, Involved};
use meta::{Value, object};
use std::sync::Arc;
use value::json;

/// `provisioner` of the StorageClasses it serves.
pub const SIMULATED_PROVISIONER: &str = "megaplane.dev/simulated";
/// The driver its volumes name.
const DRIVER: &str = "simulated.megaplane.dev";

/// What to do now for a claim: makes its volume, once it is asked to. `exists` knows volumes by name.
pub fn plan_simulated_claim(
    claim: &Value,
    class: Option<&Value>,
    exists: &dyn Fn(&str) -> bool,
) -> Vec<Action> {
    let asked = object::annotation(claim, STORAGE_PROVISIONER) == Some(SIMULATED_PROVISIONER);
    let name = format!("pvc-{}", object::uid(claim));
    let done = !volume_named(claim).is_empty() || object::is_deleting(claim) || exists(&name);
    let Some(class) = class.filter(|_| asked && !done) else {
        return Vec::new();
    };
    let involved = Arc::new(Involved::of(claim));
    let message = format!("Successfully provisioned volume {name}");
    vec![
        Action::Create {
            resource: PERSISTENT_VOLUMES,
            namespace: String::new(),
            object: Arc::new(volume(claim, class, &name)),
            announce: None,
        },
        Action::normal(&involved, "ProvisioningSucceeded", message),
    ]
}

fn volume(claim: &Value, class: &Value, name: &str) -> Value {
    let metadata = &claim["metadata"];
    let mut spec = json!({
        "capacity": {"storage": object::at(claim, &["spec", "resources", "requests", "storage"])},
        "accessModes": object::at(claim, &["spec", "accessModes"]),
        "volumeMode": object::at(claim, &["spec", "volumeMode"]),
        "storageClassName": class_of(claim),
        "persistentVolumeReclaimPolicy": object::str_at(class, &["reclaimPolicy"]).unwrap_or("Delete"),
        "csi": {"driver": DRIVER, "volumeHandle": name},
        "claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
    });
    let options = object::at(class, &["mountOptions"]);
    let attributes = object::at(claim, &["spec", "volumeAttributesClassName"]);
    for (field, given) in [
        ("mountOptions", options),
        ("volumeAttributesClassName", attributes),
    ] {
        if !given.is_null() {
            spec[field] = given.clone();
        }
    }
    let terms = object::array_at(class, &["allowedTopologies"]).iter();
    let terms: Vec<Value> = terms.map(term).collect();
    if !terms.is_empty() {
        spec["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": terms}});
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: SIMULATED_PROVISIONER}, "finalizers": [VOLUME_FINALIZER]},
        "spec": spec})
}

/// A topology as nodes are selected by it.
fn term(topology: &Value) -> Value {
    let asked = object::array_at(topology, &["matchLabelExpressions"]).iter();
    let asked =
        asked.map(|one| json!({"key": one["key"], "operator": "In", "values": one["values"]}));
    json!({"matchExpressions": asked.collect::<Vec<Value>>()})
}

/// What to do now for a volume: deletes what it made, once its claim is gone.
pub fn plan_simulated_volume(volume: &Value) -> Option<Action> {
    let ours = object::annotation(volume, PROVISIONED_BY) == Some(SIMULATED_PROVISIONER);
    let policy = object::str_at(volume, &["spec", "persistentVolumeReclaimPolicy"]);
    let free = phase(volume) == "Released" && !object::is_deleting(volume);
    (ours && free && policy == Some("Delete"))
        .then(|| Action::delete(PERSISTENT_VOLUMES, volume, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::text;

    #[test]
    fn a_volume_is_made_when_it_is_asked_for_and_deleted_when_it_is_released() {
        let class = json!({"metadata": {"name": "fast"}, "provisioner": SIMULATED_PROVISIONER, "reclaimPolicy": "Delete",
            "allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}]});
        let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": "n", "name": "c", "uid": "u", "resourceVersion": "7"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "volumeMode": "Filesystem",
                "resources": {"requests": {"storage": "1Gi"}}}});
        let plan =
            |claim: &Value, exists: bool| plan_simulated_claim(claim, Some(&class), &|_| exists);
        assert_eq!(plan(&claim, false), []);
        claim["metadata"]["annotations"] = json!({STORAGE_PROVISIONER: SIMULATED_PROVISIONER});
        assert_eq!(plan(&claim, true), []);
        let made = plan(&claim, false);
        let Some(Action::Create { object: volume, .. }) = made.first() else {
            panic!("{made:?}");
        };
        assert_eq!(
            volume["spec"],
            json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
                "storageClassName": "fast", "persistentVolumeReclaimPolicy": "Delete",
                "csi": {"driver": DRIVER, "volumeHandle": "pvc-u"},
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "n", "name": "c", "uid": "u",
                    "resourceVersion": "7"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "zone", "operator": "In", "values": ["a"]}]}]}}})
        );
        assert_eq!(
            text(&made[1..]),
            "event PersistentVolumeClaim n/c Normal ProvisioningSucceeded: Successfully provisioned volume pvc-u\n"
        );
        let mut volume = Value::clone(volume);
        volume["metadata"]["uid"] = "v".into();
        assert_eq!(plan_simulated_volume(&volume), None);
        volume["status"] = json!({"phase": "Released"});
        assert_eq!(
            plan_simulated_volume(&volume).map(|action| action.to_string()),
            Some("delete persistentvolumes pvc-u uid=v".to_owned())
        );
    }
}

//! What binding and unbinding write, on both sides.
//!
//! The volume is written first, at the version that was read: whoever loses finds it taken, so that no volume has two
//! claims. What stands already is not written again. Does not know why these two.

use super::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, PERSISTENT_VOLUMES, is_bound_to, phase, volume_named,
};
use crate::action::{Action, PERSISTENT_VOLUME_CLAIMS, PatchType, ResourceRef};
use meta::{Quantity, Value, object};
use value::{Map, json};

/// Everything that makes a volume and a claim each other's.
pub(super) fn bind(volume: &Value, claim: &Value) -> Vec<Action> {
    let mut actions = Vec::new();
    let metadata = &claim["metadata"];
    let reference = object::at(volume, &["spec", "claimRef"]);
    let names = ["namespace", "name", "uid"].iter();
    let named = reference.is_object() && names.clone().all(|f| reference[*f] == metadata[*f]);
    let chosen = !is_bound_to(volume, claim) && !has(volume, BOUND_BY_CONTROLLER);
    if !named || chosen {
        let mut patch = json!({"spec": {"claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        }}});
        if chosen {
            patch["metadata"] = json!({"annotations": {BOUND_BY_CONTROLLER: "yes"}});
        }
        actions.push(guarded(PERSISTENT_VOLUMES, volume, patch));
    }
    if phase(volume) != "Bound" {
        actions.push(status(PERSISTENT_VOLUMES, volume, volume_phase("Bound")));
    }
    let mut after = Vec::new();
    let mut annotations = Map::new();
    let mut patch = json!({});
    if volume_named(claim) != object::name(volume) {
        patch["spec"] = json!({"volumeName": object::name(volume)});
        annotations.insert(BOUND_BY_CONTROLLER, "yes".into());
    }
    annotations.insert(BIND_COMPLETED, "yes".into());
    annotations.retain(|name, _| !has(claim, name));
    if !annotations.is_empty() {
        patch["metadata"] = json!({"annotations": annotations});
    }
    if patch != json!({}) {
        after.push(guarded(PERSISTENT_VOLUME_CLAIMS, claim, patch));
    }
    if let Some(patch) = bound_status(volume, claim) {
        after.push(status(PERSISTENT_VOLUME_CLAIMS, claim, patch));
    }
    if !actions.is_empty() && !after.is_empty() {
        actions.push(Action::Then);
    }
    actions.append(&mut after);
    actions
}

/// What is missing in the status of a claim that is bound.
fn bound_status(volume: &Value, claim: &Value) -> Option<Value> {
    let mut patch = Map::new();
    let modes = object::at(volume, &["spec", "accessModes"]);
    if object::at(claim, &["status", "accessModes"]) != modes {
        patch.insert("accessModes", modes.clone());
    }
    // Of a claim that was bound before, the capacity may differ on purpose: it is being resized.
    if phase(claim) != "Bound" {
        patch.insert("phase", "Bound".into());
        let storage = |capacity: &Value| Quantity::parse(capacity["storage"].as_str()?).ok();
        let capacity = object::at(volume, &["spec", "capacity"]);
        let known = object::at(claim, &["status", "capacity"]);
        if storage(known).is_none() || storage(known) != storage(capacity) {
            patch.insert("capacity", capacity.clone());
        }
        let class = object::at(volume, &["spec", "volumeAttributesClassName"]);
        if object::at(claim, &["status", "currentVolumeAttributesClassName"]) != class {
            patch.insert("currentVolumeAttributesClassName", class.clone());
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// A claim that has no volume: its status says so.
pub(super) fn unbound_status(claim: &Value, wanted: &str) -> Option<Action> {
    let mut patch = Map::new();
    if phase(claim) != wanted {
        patch.insert("phase", wanted.into());
    }
    for field in ["accessModes", "capacity"] {
        if !object::at(claim, &["status", field]).is_null() {
            patch.insert(field, Value::Null);
        }
    }
    let patch = (!patch.is_empty()).then_some(Value::Object(patch));
    patch.map(|patch| status(PERSISTENT_VOLUME_CLAIMS, claim, patch))
}

/// Gives a volume back: to everybody if a controller had chosen it, to the claim that a person named otherwise.
pub(super) fn unbind(volume: &Value) -> Vec<Action> {
    let patch = if has(volume, BOUND_BY_CONTROLLER) {
        json!({"metadata": {"annotations": {BOUND_BY_CONTROLLER: null}}, "spec": {"claimRef": null}})
    } else {
        json!({"spec": {"claimRef": {"uid": null}}})
    };
    let mut actions = vec![guarded(PERSISTENT_VOLUMES, volume, patch)];
    if phase(volume) != "Available" {
        actions.push(status(
            PERSISTENT_VOLUMES,
            volume,
            volume_phase("Available"),
        ));
    }
    actions
}

/// The status of a volume, unless it is of that phase already; refused if the volume has changed.
pub(super) fn set_phase(volume: &Value, wanted: &str) -> Option<Action> {
    let patch = json!({"status": volume_phase(wanted)});
    let action = guarded(PERSISTENT_VOLUMES, volume, patch);
    (phase(volume) != wanted).then(|| in_status(action))
}

/// A volume that could not be reclaimed.
pub(super) fn fail_volume(volume: &Value, message: &str) -> Action {
    let patch = json!({"status": {"phase": "Failed", "message": message}});
    in_status(guarded(PERSISTENT_VOLUMES, volume, patch))
}

fn volume_phase(phase: &str) -> Value {
    json!({"phase": phase, "message": null})
}

pub(super) fn has(object: &Value, annotation: &str) -> bool {
    object::annotation(object, annotation).is_some()
}

/// A patch that is refused if the object is not as it was read.
pub(super) fn guarded(resource: ResourceRef, object: &Value, mut patch: Value) -> Action {
    patch["metadata"]["uid"] = object::uid(object).into();
    patch["metadata"]["resourceVersion"] = object::resource_version(object).into();
    merge(resource, object, None, patch)
}

/// A patch of the status of whatever version of the object.
pub(super) fn status(resource: ResourceRef, object: &Value, status: Value) -> Action {
    let body = json!({"metadata": {"uid": object::uid(object)}, "status": status});
    merge(resource, object, Some("status"), body)
}

fn merge(
    resource: ResourceRef,
    object: &Value,
    subresource: Option<&'static str>,
    body: Value,
) -> Action {
    Action::Patch {
        resource,
        namespace: object::namespace(object).to_owned(),
        name: object::name(object).to_owned(),
        patch_type: PatchType::Merge,
        subresource,
        body,
    }
}

fn in_status(mut action: Action) -> Action {
    if let Action::Patch { subresource, .. } = &mut action {
        *subresource = Some("status");
    }
    action
}

//! One volume: free, bound, or left behind by its claim.
//!
//! Does not choose claims: it follows what its `claimRef` says.

use super::binding::{fail_volume, has, set_phase, unbind};
use super::class::{driver_for, is_built_in};
use super::matching::volume_mode;
use super::{MIGRATED_TO, PROVISIONED_BY, claim_named, phase, volume_named};
use crate::action::{Action, Involved, PERSISTENT_VOLUME_CLAIMS};
use meta::{Value, object};
use std::sync::Arc;

/// What to do now for a volume. `claim` is the claim of the name that the volume gives, whatever its uid.
pub fn plan_volume(volume: &Value, claim: Option<&Value>) -> Vec<Action> {
    let Some((key, uid)) = claim_named(volume) else {
        return set_phase(volume, "Available").into_iter().collect();
    };
    // Reserved for a claim that was not bound yet.
    if uid.is_empty() {
        return set_phase(volume, "Available").into_iter().collect();
    }
    let Some(claim) = claim.filter(|claim| object::uid(claim) == uid) else {
        let mut actions = release(volume);
        if !actions.is_empty() {
            let (namespace, name) = key.split_once('/').unwrap_or_default();
            // The claim may be newer than what was seen of claims.
            let absent = Action::Absent {
                resource: PERSISTENT_VOLUME_CLAIMS,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: uid.to_owned(),
            };
            actions.insert(0, absent);
        }
        return actions;
    };
    match volume_named(claim) {
        // The claim's own plan completes it, unless it cannot.
        "" if volume_mode(volume) != volume_mode(claim) => mismatch(volume, claim),
        "" => Vec::new(),
        name if name == object::name(volume) => set_phase(volume, "Bound").into_iter().collect(),
        // The claim has another volume: this one was made for it in vain,
        _ if has(volume, PROVISIONED_BY) && policy(volume) == "Delete" => release(volume),
        // or is given back.
        _ => unbind(volume),
    }
}

fn mismatch(volume: &Value, claim: &Value) -> Vec<Action> {
    let event = |object: &Value, message: String| {
        Action::warning(&Arc::new(Involved::of(object)), "VolumeMismatch", message)
    };
    let (name, claim_name) = (object::name(volume), object::name(claim));
    vec![
        event(
            volume,
            format!(
                "Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{claim_name}\" due to incompatible volumeMode."
            ),
        ),
        event(
            claim,
            format!(
                "Cannot bind PersistentVolume \"{name}\" to requested PersistentVolumeClaim due to incompatible volumeMode."
            ),
        ),
    ]
}

fn policy(volume: &Value) -> &str {
    let path = ["spec", "persistentVolumeReclaimPolicy"];
    object::str_at(volume, &path).unwrap_or("Retain")
}

/// The claim is gone: the volume is released, and reclaimed as far as that needs nobody else.
fn release(volume: &Value) -> Vec<Action> {
    let mut actions = Vec::new();
    // A failure stays visible while it lasts.
    if !matches!(phase(volume), "Released" | "Failed") {
        actions.extend(set_phase(volume, "Released"));
        // The rest is planned from the volume as it is then.
        return actions;
    }
    if object::is_deleting(volume) || phase(volume) == "Failed" {
        return actions;
    }
    let (reason, message) = match policy(volume) {
        "Retain" => return actions,
        "Recycle" => (
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!".to_owned(),
        ),
        "Delete" => match who_deletes(volume) {
            Ok(()) => return actions,
            Err(message) => ("VolumeFailedDelete", message),
        },
        _ => (
            "VolumeUnknownReclaimPolicy",
            "Volume has unrecognized PersistentVolumeReclaimPolicy".to_owned(),
        ),
    };
    actions.push(fail_volume(volume, &message));
    let involved = Arc::new(Involved::of(volume));
    actions.push(Action::warning(&involved, reason, message));
    actions
}

/// Whether somebody else deletes the volume; what is to be said if not.
fn who_deletes(volume: &Value) -> Result<(), String> {
    let maker = object::annotation(volume, PROVISIONED_BY).unwrap_or_default();
    if has(volume, MIGRATED_TO) || driver_for(maker).is_some() {
        return Ok(());
    }
    if !maker.is_empty() {
        return if is_built_in(maker) {
            Err(format!("no volume plugin matched name: {maker}"))
        } else {
            Ok(())
        };
    }
    let spec = object::at(volume, &["spec"]);
    // Upstream's controller deletes directories of its own host below /tmp: no volume of a cluster is there.
    if let Some(path) = object::str_at(spec, &["hostPath", "path"]) {
        return Err(format!(
            "host_path deleter only supports /tmp/.+ but received provided {path}"
        ));
    }
    let known = ["local", "nfs"]
        .iter()
        .any(|source| spec[*source].is_object());
    let what = if known {
        "no deletable volume plugin matched"
    } else {
        "no volume plugin matched"
    };
    let name = object::name(volume);
    Err(format!(
        "error getting deleter volume plugin for volume \"{name}\": {what}"
    ))
}

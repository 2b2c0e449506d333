//! Who owns a StatefulSet's claims: nobody, the set, or the pod that is on its way out.
//!
//! ```text
//!   whenDeleted  whenScaled    pod is wanted    pod is surplus
//!   Retain       Retain        nobody           nobody
//!   Delete       Retain        set              set
//!   Retain       Delete        nobody           pod
//!   Delete       Delete        set              pod
//! ```
//!
//! What an owner takes with it the garbage collector deletes. References of others are never touched; where another
//! controller owns a claim, it is left alone.

use crate::action::{Action, PERSISTENT_VOLUME_CLAIMS, PatchType};
use crate::pod::{Pod, text_of};
use meta::{Value, object};
use value::json;

/// What `persistentVolumeClaimRetentionPolicy` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// Claims go with the set.
    pub(super) with_set: bool,
    /// Claims go with pods that a smaller number of replicas leaves over.
    pub(super) with_pods: bool,
}

impl Policy {
    pub(super) fn of(set: &Value) -> Policy {
        let says_delete = |field: &str| {
            let path = ["spec", "persistentVolumeClaimRetentionPolicy", field];
            object::str_at(set, &path) == Some("Delete")
        };
        Policy {
            with_set: says_delete("whenDeleted"),
            with_pods: says_delete("whenScaled"),
        }
    }
}

/// What a reference names, whatever its uid.
fn names(reference: &Value, api_version: &str, kind: &str, name: &str) -> bool {
    text_of(reference, "apiVersion") == api_version
        && text_of(reference, "kind") == kind
        && text_of(reference, "name") == name
}

/// Whether a claim belongs to an earlier pod of the name, with which it will go.
pub(super) fn is_stale(claim: &Value, pod: &str) -> bool {
    let mut owners = object::owner_references(claim).iter();
    owners.any(|owner| names(owner, "v1", "Pod", pod))
}

/// Corrects who owns a claim of a pod; `surplus`: the pod is beyond the wanted number. True beside the patch if another
/// controller owns the claim, so that the policy does not hold for it.
pub(super) fn correct(
    set: &Value,
    claim: &Value,
    pod: &Pod,
    surplus: bool,
) -> Option<(Action, bool)> {
    let policy = Policy::of(set);
    let owners = object::owner_references(claim);
    let is_set = |owner: &Value| names(owner, "apps/v1", "StatefulSet", object::name(set));
    let is_pod = |owner: &Value| names(owner, "v1", "Pod", &pod.name);
    // One of the same name and another uid is somebody else.
    let is_foreign = |owner: &&Value| match () {
        () if is_set(owner) => owner["uid"] != object::uid(set),
        () if is_pod(owner) => owner["uid"] != *pod.uid,
        () => owner["controller"] == true,
    };
    let keeps = policy
        == (Policy {
            with_set: false,
            with_pods: false,
        });
    let foreign = !keeps && owners.iter().any(|owner| is_foreign(&owner));
    let others = owners
        .iter()
        .filter(|owner| !is_set(owner) && !is_pod(owner));
    let mut wanted: Vec<Value> = others.cloned().collect();
    let owner = |api_version: &str, kind: &str, name: &str, uid: &str| {
        json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid,
            "controller": true, "blockOwnerDeletion": true})
    };
    if foreign {
        // Nothing is added.
    } else if policy.with_pods && surplus {
        wanted.push(owner("v1", "Pod", &pod.name, &pod.uid));
    } else if policy.with_set {
        let (name, uid) = (object::name(set), object::uid(set));
        wanted.push(owner("apps/v1", "StatefulSet", name, uid));
    }
    if wanted == owners {
        return None;
    }
    let patch = Action::Patch {
        resource: PERSISTENT_VOLUME_CLAIMS,
        namespace: object::namespace(claim).to_owned(),
        name: object::name(claim).to_owned(),
        patch_type: PatchType::Merge,
        subresource: None,
        body: json!({"metadata": {"uid": object::uid(claim), "resourceVersion": object::resource_version(claim),
            "ownerReferences": if wanted.is_empty() { Value::Null } else { wanted.into() }}}),
    };
    Some((patch, foreign))
}

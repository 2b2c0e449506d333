//! Finalizers of what is in use: a claim stays while a pod on a node has it, a volume stays while it is bound.
//!
//! Admission gives both to what is new; what is older gets them here. Does not know pods: the shell says whether one
//! uses the claim.

use super::binding::guarded;
use super::{CLAIM_FINALIZER, PERSISTENT_VOLUMES, VOLUME_FINALIZER, phase};
use crate::action::{Action, PERSISTENT_VOLUME_CLAIMS, ResourceRef};
use meta::{Value, object};
use value::json;

/// What to do now for a claim's finalizer. `in_use`: a pod that has a node uses it.
pub fn plan_claim_protection(claim: &Value, in_use: bool) -> Option<Action> {
    plan(PERSISTENT_VOLUME_CLAIMS, claim, CLAIM_FINALIZER, in_use)
}

/// What to do now for a volume's finalizer.
pub fn plan_volume_protection(volume: &Value) -> Option<Action> {
    let in_use = phase(volume) == "Bound";
    plan(PERSISTENT_VOLUMES, volume, VOLUME_FINALIZER, in_use)
}

fn plan(
    resource: ResourceRef,
    object: &Value,
    finalizer: &'static str,
    in_use: bool,
) -> Option<Action> {
    let has = object::finalizers(object).any(|one| one == finalizer);
    match (object::is_deleting(object), has) {
        (true, true) if !in_use => Some(Action::RemoveFinalizer {
            resource,
            namespace: object::namespace(object).to_owned(),
            name: object::name(object).to_owned(),
            uid: object::uid(object).to_owned(),
            finalizer,
        }),
        (false, false) => {
            let all: Vec<&str> = object::finalizers(object).chain([finalizer]).collect();
            let patch = json!({"metadata": {"finalizers": all}});
            Some(guarded(resource, object, patch))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays_and_what_has_no_finalizer_gets_it() {
        let claim = |finalizers: Value, going: bool| {
            let mut claim = json!({"metadata": {"namespace": "n", "name": "c", "uid": "u", "resourceVersion": "7"}});
            claim["metadata"]["finalizers"] = finalizers;
            if going {
                claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            claim
        };
        let text = |claim: Value, in_use| {
            plan_claim_protection(&claim, in_use).map(|action| action.to_string())
        };
        let ours = json!([CLAIM_FINALIZER]);
        assert_eq!(text(claim(ours.clone(), false), false), None);
        assert_eq!(text(claim(ours.clone(), true), true), None);
        assert_eq!(
            text(claim(ours, true), false).as_deref(),
            Some("remove finalizer kubernetes.io/pvc-protection of persistentvolumeclaims n/c")
        );
        assert_eq!(text(claim(json!(["a/b"]), true), false), None);
        assert_eq!(
            text(claim(json!(["a/b"]), false), false).as_deref(),
            Some(concat!(
                r#"patch persistentvolumeclaims n/c merge {"metadata":{"finalizers":["a/b","kubernetes.io/pvc-protection"],"#,
                r#""resourceVersion":"7","uid":"u"}}"#
            ))
        );
        let mut volume = claim(json!([VOLUME_FINALIZER]), true);
        volume["status"] = json!({"phase": "Bound"});
        assert_eq!(plan_volume_protection(&volume), None);
        volume["status"] = json!({"phase": "Released"});
        assert!(plan_volume_protection(&volume).is_some());
    }
}

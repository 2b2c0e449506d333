//! Stories of volumes: a volume and the claim that it names in, a plan as text out.

use super::claim_tests::{claim, volume};
use super::*;
use crate::action::text;
use value::json;

fn run(volume: &Value, claim: Option<&Value>) -> String {
    text(&plan_volume(volume, claim))
}

fn named(phase: &str, uid: &str, more: Value) -> Value {
    let mut volume = volume("v", "2Gi", more);
    let mut reference = json!({"namespace": "n", "name": "c"});
    if !uid.is_empty() {
        reference["uid"] = uid.into();
    }
    volume["spec"]["claimRef"] = reference;
    volume["status"]["phase"] = phase.into();
    volume
}

fn status(phase: &str) -> String {
    format!(
        "patch persistentvolumes/status v merge {{\"metadata\":{{\"resourceVersion\":\"3\",\"uid\":\"v-uid\"}},\
         \"status\":{{\"message\":null,\"phase\":\"{phase}\"}}}}\n"
    )
}

#[test]
fn a_volume_is_available_until_a_claim_is_bound_to_it() {
    let mut new = volume("v", "2Gi", json!({"status": {"phase": "Pending"}}));
    assert_eq!(run(&new, None), status("Available"));
    new["status"]["phase"] = "Available".into();
    assert_eq!(run(&new, None), "");
    let asks = claim(json!({}));
    assert_eq!(
        run(&named("Pending", "", json!({})), Some(&asks)),
        status("Available")
    );
    assert_eq!(
        run(&named("Available", "cu", json!({})), Some(&asks)),
        "",
        "the claim's plan goes on"
    );
    let bound = claim(json!({"spec": {"volumeName": "v"}}));
    assert_eq!(
        run(&named("Available", "cu", json!({})), Some(&bound)),
        status("Bound")
    );
    assert_eq!(run(&named("Bound", "cu", json!({})), Some(&bound)), "");
}

#[test]
fn a_volume_that_cannot_be_its_claims_says_so_on_both() {
    let block = named("Available", "cu", json!({"spec": {"volumeMode": "Block"}}));
    assert_eq!(
        run(&block, Some(&claim(json!({})))),
        "event PersistentVolume v Warning VolumeMismatch: Cannot bind PersistentVolume to requested PersistentVolumeClaim \"c\" due to incompatible volumeMode.\n\
         event PersistentVolumeClaim n/c Warning VolumeMismatch: Cannot bind PersistentVolume \"v\" to requested PersistentVolumeClaim due to incompatible volumeMode.\n"
    );
}

const UNLESS: &str = "unless there is persistentvolumeclaims n/c uid=cu\n";

#[test]
fn a_volume_whose_claim_is_gone_is_released_and_kept() {
    assert_eq!(
        run(&named("Bound", "cu", json!({})), None),
        format!("{UNLESS}{}", status("Released"))
    );
    let another = claim(json!({"metadata": {"uid": "another"}}));
    assert_eq!(
        run(&named("Bound", "cu", json!({})), Some(&another)),
        format!("{UNLESS}{}", status("Released"))
    );
    assert_eq!(
        run(&named("Released", "cu", json!({})), None),
        "",
        "policy Retain"
    );
}

#[test]
fn a_released_volume_is_deleted_by_who_made_it_or_fails() {
    let released = |policy: &str, more: Value| {
        let mut volume = named("Released", "cu", more);
        volume["spec"]["persistentVolumeReclaimPolicy"] = policy.into();
        run(&volume, None)
    };
    let made_by = |who: &str| json!({"metadata": {"annotations": {PROVISIONED_BY: who}}});
    assert_eq!(released("Delete", made_by("csi.example.com")), "");
    assert_eq!(released("Delete", made_by("kubernetes.io/aws-ebs")), "");
    let fails = |reason: &str, message: &str| {
        let status = json!({"metadata": {"resourceVersion": "3", "uid": "v-uid"}, "status": {"message": message, "phase": "Failed"}});
        format!(
            "{UNLESS}patch persistentvolumes/status v merge {status}\nevent PersistentVolume v Warning {reason}: {message}\n"
        )
    };
    assert_eq!(
        released("Delete", json!({})),
        fails(
            "VolumeFailedDelete",
            "error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched"
        )
    );
    assert_eq!(
        released("Delete", json!({"spec": {"hostPath": {"path": "/data"}}})),
        fails(
            "VolumeFailedDelete",
            "host_path deleter only supports /tmp/.+ but received provided /data"
        )
    );
    assert_eq!(
        released("Delete", made_by("kubernetes.io/unheard")),
        fails(
            "VolumeFailedDelete",
            "no volume plugin matched name: kubernetes.io/unheard"
        )
    );
    assert_eq!(
        released("Recycle", json!({})),
        fails(
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!"
        )
    );
    let mut failed = named("Failed", "cu", json!({}));
    failed["spec"]["persistentVolumeReclaimPolicy"] = "Delete".into();
    assert_eq!(run(&failed, None), "");
}

#[test]
fn a_volume_whose_claim_took_another_is_given_back() {
    let elsewhere = claim(json!({"spec": {"volumeName": "other"}}));
    let ours = json!({"metadata": {"annotations": {BOUND_BY_CONTROLLER: "yes"}}});
    assert_eq!(
        run(&named("Bound", "cu", ours), Some(&elsewhere)),
        concat!(
            r#"patch persistentvolumes v merge {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":null},"#,
            r#""resourceVersion":"3","uid":"v-uid"},"spec":{"claimRef":null}}"#,
            "\n",
            r#"patch persistentvolumes/status v merge {"metadata":{"uid":"v-uid"},"status":{"message":null,"phase":"Available"}}"#,
            "\n"
        )
    );
    let by_hand = run(&named("Available", "cu", json!({})), Some(&elsewhere));
    assert!(
        by_hand.contains(r#""spec":{"claimRef":{"uid":null}}"#),
        "{by_hand}"
    );
    let mut made = named(
        "Bound",
        "cu",
        json!({"metadata": {"annotations": {PROVISIONED_BY: "csi.example.com"}}}),
    );
    made["spec"]["persistentVolumeReclaimPolicy"] = "Delete".into();
    assert_eq!(run(&made, Some(&elsewhere)), status("Released"));
}

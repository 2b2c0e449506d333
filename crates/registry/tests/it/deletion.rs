//! Ways an object goes.

use crate::help::*;
use meta::Value;
use registry::{Deletion, Update};
use value::json;

fn running_pod() -> Value {
    let res = resource("v1", "pods");
    let pod = stored(
        res,
        json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}}),
    );
    with(pod, "status.phase", json!("Running"))
}

fn marked(deletion: Deletion) -> Value {
    match deletion {
        Deletion::Mark(value) => value,
        other => panic!("expected a mark, got {other:?}"),
    }
}

#[test]
fn a_running_pod_gets_its_grace_and_may_be_hurried() {
    let res = resource("v1", "pods");
    let pod = running_pod();
    let first = marked(delete(res, &pod, &json!({})).unwrap());
    assert_eq!(
        first["metadata"]["deletionTimestamp"],
        json!("2026-01-02T03:04:35Z")
    );
    assert_eq!(first["metadata"]["deletionGracePeriodSeconds"], json!(30));
    assert_eq!(first["metadata"]["generation"], json!(2));

    assert_eq!(
        delete(res, &first, &json!({})).unwrap(),
        Deletion::Unchanged
    );
    assert_eq!(
        delete(res, &first, &json!({"gracePeriodSeconds": 60})).unwrap(),
        Deletion::Unchanged
    );
    let hurried = marked(delete(res, &first, &json!({"gracePeriodSeconds": 5})).unwrap());
    assert_eq!(
        hurried["metadata"]["deletionTimestamp"],
        json!("2026-01-02T03:04:10Z")
    );
    assert_eq!(hurried["metadata"]["deletionGracePeriodSeconds"], json!(5));
    assert_eq!(hurried["metadata"]["generation"], json!(2));
    assert_eq!(
        delete(res, &hurried, &json!({"gracePeriodSeconds": 0})).unwrap(),
        Deletion::Remove
    );
}

#[test]
fn pods_with_nothing_to_end_go_at_once() {
    let res = resource("v1", "pods");
    let pod = running_pod();
    assert_eq!(
        delete(res, &pod, &json!({"gracePeriodSeconds": 0})).unwrap(),
        Deletion::Remove
    );
    assert_eq!(
        delete(res, &without(pod.clone(), "spec.nodeName"), &json!({})).unwrap(),
        Deletion::Remove
    );
    assert_eq!(
        delete(
            res,
            &with(pod, "status.phase", json!("Succeeded")),
            &json!({})
        )
        .unwrap(),
        Deletion::Remove
    );
}

#[test]
fn finalizers_hold_a_pod_back_even_without_grace() {
    let res = resource("v1", "pods");
    let pod = with(
        running_pod(),
        "metadata.finalizers",
        json!(["example.com/hold"]),
    );
    let held = marked(delete(res, &pod, &json!({"gracePeriodSeconds": 0})).unwrap());
    assert_eq!(held["metadata"]["deletionTimestamp"], json!(NOW));
    assert_eq!(held["metadata"]["deletionGracePeriodSeconds"], json!(0));
    let freed = without(held.clone(), "metadata.finalizers");
    assert!(matches!(update(res, &held, freed), Ok(Update::Remove(_))));
    let more = with(
        held.clone(),
        "metadata.finalizers",
        json!(["example.com/hold", "example.com/more"]),
    );
    assert_eq!(
        refused(res, &held, more),
        "Pod \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, \
         found new finalizers []string{\"example.com/more\"}"
    );
}

#[test]
fn a_pod_in_its_grace_outlives_its_finalizer() {
    let res = resource("v1", "pods");
    let pod = with(
        running_pod(),
        "metadata.finalizers",
        json!(["example.com/hold"]),
    );
    let ending = marked(delete(res, &pod, &json!({})).unwrap());
    assert!(matches!(
        update(res, &ending, without(ending.clone(), "metadata.finalizers")),
        Ok(Update::Store(_))
    ));
}

#[test]
fn propagation_is_a_finalizer() {
    let res = resource("v1", "configmaps");
    let map = stored(res, json!({"metadata": {"name": "a"}}));
    assert_eq!(delete(res, &map, &json!({})).unwrap(), Deletion::Remove);
    assert_eq!(
        delete(res, &map, &json!({"propagationPolicy": "Background"})).unwrap(),
        Deletion::Remove
    );
    for (options, finalizer) in [
        (
            json!({"propagationPolicy": "Foreground"}),
            "foregroundDeletion",
        ),
        (json!({"propagationPolicy": "Orphan"}), "orphan"),
        (json!({"orphanDependents": true}), "orphan"),
    ] {
        let held = marked(delete(res, &map, &options).unwrap());
        assert_eq!(held["metadata"]["finalizers"], json!([finalizer]));
        assert_eq!(held["metadata"]["deletionTimestamp"], json!(NOW));
        assert_eq!(held["metadata"]["deletionGracePeriodSeconds"], json!(0));
        assert_eq!(delete(res, &held, &options).unwrap(), Deletion::Unchanged);
        assert_eq!(
            delete(res, &held, &json!({"propagationPolicy": "Background"})).unwrap(),
            Deletion::Remove
        );
    }
    let unknown = delete(res, &map, &json!({"propagationPolicy": "Later"})).unwrap_err();
    assert_eq!(unknown.code, 422);
    assert!(unknown.message.contains("propagationPolicy: Unsupported value: \"Later\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""));
}

#[test]
fn preconditions_are_checked() {
    let res = resource("v1", "configmaps");
    let map = stored(res, json!({"metadata": {"name": "a"}}));
    let uid = delete(res, &map, &json!({"preconditions": {"uid": "x"}})).unwrap_err();
    assert_eq!(
        uid.message,
        format!(
            "Operation cannot be fulfilled on configmaps \"a\": the UID in the precondition (x) does not match the UID in record ({UID}). \
             The object might have been deleted and then recreated"
        )
    );
    let version = delete(
        res,
        &map,
        &json!({"preconditions": {"resourceVersion": "6"}}),
    )
    .unwrap_err();
    assert_eq!(version.code, 409);
    assert_eq!(
        delete(
            res,
            &map,
            &json!({"preconditions": {"uid": UID, "resourceVersion": "7"}})
        )
        .unwrap(),
        Deletion::Remove
    );
}

#[test]
fn a_namespace_ends_through_finalize() {
    let res = resource("v1", "namespaces");
    let namespace = stored(res, json!({"metadata": {"name": "team"}}));
    let mut ending = marked(delete(res, &namespace, &json!({})).unwrap());
    assert_eq!(ending["status"]["phase"], json!("Terminating"));
    assert_eq!(ending["metadata"]["deletionTimestamp"], json!(NOW));
    assert_eq!(ending["spec"]["finalizers"], json!(["kubernetes"]));
    ending["metadata"]["resourceVersion"] = json!("8");
    assert_eq!(
        delete(res, &ending, &json!({})).unwrap(),
        Deletion::Unchanged
    );
    // The main resource cannot take the finalizer away; finalize can.
    let emptied = with(ending.clone(), "spec.finalizers", json!([]));
    assert_eq!(update(res, &ending, emptied.clone()), Ok(Update::Unchanged));
    assert!(matches!(
        update_sub(res, Some("finalize"), &ending, emptied),
        Ok(Update::Remove(_))
    ));
}

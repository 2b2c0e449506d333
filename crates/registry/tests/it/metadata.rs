//! Rules of metadata, which hold for every kind.

use crate::help::*;
use registry::Update;
use value::json;

#[test]
fn the_server_owns_part_of_the_metadata() {
    let res = resource("v1", "configmaps");
    let sent = json!({"metadata": {
        "name": "a", "uid": "mine", "selfLink": "/x", "creationTimestamp": "2001-01-01T00:00:00Z",
        "deletionTimestamp": "2001-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5,
        "managedFields": [{"manager": "m"}], "labels": {"app": "web"}
    }});
    assert_eq!(
        create(res, sent).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "namespace": "default", "uid": UID, "creationTimestamp": NOW, "labels": {"app": "web"}}
        })
    );
}

#[test]
fn names_are_generated() {
    let created = create(
        resource("v1", "configmaps"),
        json!({"metadata": {"generateName": "web-"}}),
    )
    .unwrap();
    assert_eq!(created["metadata"]["name"], json!("web-bbbbb"));
    assert_eq!(created["metadata"]["generateName"], json!("web-"));
}

#[test]
fn bad_metadata_has_the_texts_clients_know() {
    let maps = resource("v1", "configmaps");
    assert_eq!(
        create(maps, json!({"metadata": {}})).unwrap_err().message,
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
    assert_eq!(
        create(
            maps,
            json!({"metadata": {"name": "a", "namespace": "other"}})
        )
        .unwrap_err()
        .message,
        "the namespace of the provided object does not match the namespace sent on the request"
    );
    let versioned = create(
        maps,
        json!({"metadata": {"name": "a", "resourceVersion": "5"}}),
    )
    .unwrap_err();
    assert_eq!(
        versioned.message,
        "resourceVersion should not be set on objects to be created"
    );
    assert!(faults(maps, json!({"metadata": {"name": "A_b"}})).starts_with(
        "metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters"
    ));
    let namespaces = resource("v1", "namespaces");
    assert_eq!(
        faults(namespaces, json!({"metadata": {"name": "a.b"}})),
        "metadata.name: Invalid value: \"a.b\": must not contain dots"
    );
    assert!(
        create(
            resource("rbac.authorization.k8s.io/v1", "clusterroles"),
            json!({"metadata": {"name": "system:x"}})
        )
        .is_ok()
    );
    let long = "x".repeat(256 * 1024);
    assert_eq!(
        faults(
            maps,
            json!({"metadata": {"name": "a", "annotations": {"k": long}}})
        ),
        "metadata.annotations: Too long: may not be more than 262144 bytes"
    );
}

#[test]
fn one_owner_controls() {
    let owner = |name: &str| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u", "controller": true});
    let text = faults(
        resource("v1", "configmaps"),
        json!({"metadata": {"name": "a", "ownerReferences": [owner("x"), owner("y")]}}),
    );
    assert!(
        text.starts_with("metadata.ownerReferences: Invalid value: "),
        "{text}"
    );
    assert!(
        text.ends_with(
            "Only one reference can have Controller set to true. Found \"true\" in references for ReplicaSet/x and ReplicaSet/y"
        ),
        "{text}"
    );
    let empty = faults(
        resource("v1", "configmaps"),
        json!({"metadata": {"name": "a", "ownerReferences": [{"kind": "X", "apiVersion": "v1", "name": "n"}]}}),
    );
    assert_eq!(
        empty,
        "metadata.ownerReferences[0].uid: Invalid value: \"\": must not be empty"
    );
}

#[test]
fn generation_counts_changes_of_the_spec_only() {
    let res = resource("networking.k8s.io/v1", "networkpolicies");
    let old = stored(
        res,
        json!({"metadata": {"name": "a"}, "spec": {"podSelector": {}}}),
    );
    assert_eq!(old["metadata"]["generation"], json!(1));
    let labelled = updated(
        res,
        &old,
        with(old.clone(), "metadata.labels", json!({"a": "b"})),
    );
    assert_eq!(labelled["metadata"]["generation"], json!(1));
    let changed = updated(
        res,
        &old,
        with(
            old.clone(),
            "spec.podSelector",
            json!({"matchLabels": {"a": "b"}}),
        ),
    );
    assert_eq!(changed["metadata"]["generation"], json!(2));
    let claimed = update(
        res,
        &old,
        with(old.clone(), "metadata.generation", json!(9)),
    );
    assert_eq!(claimed, Ok(Update::Unchanged));
}

#[test]
fn writing_what_is_there_changes_nothing() {
    for (version, name, obj) in [
        (
            "v1",
            "configmaps",
            json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
        ),
        (
            "coordination.k8s.io/v1",
            "leases",
            json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "n", "renewTime": "2026-01-01T00:00:00.000000Z"}}),
        ),
        (
            "v1",
            "pods",
            json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
        ),
    ] {
        let res = resource(version, name);
        let old = stored(res, obj);
        assert_eq!(
            update(res, &old, old.clone()),
            Ok(Update::Unchanged),
            "{name}"
        );
        // What only the server writes may be left out.
        let mut bare = old.clone();
        for field in ["uid", "creationTimestamp", "generation"] {
            bare["metadata"].as_object_mut().unwrap().remove(field);
        }
        bare["metadata"]["managedFields"] = json!([{"manager": "m"}]);
        assert_eq!(update(res, &old, bare), Ok(Update::Unchanged), "{name}");
    }
}

#[test]
fn stale_and_mistaken_updates_conflict() {
    let res = resource("coordination.k8s.io/v1", "leases");
    let old = stored(res, json!({"metadata": {"name": "a"}, "spec": {}}));
    let stale = update(
        res,
        &old,
        with(old.clone(), "metadata.resourceVersion", json!("6")),
    )
    .unwrap_err();
    assert_eq!(stale.code, 409);
    assert_eq!(
        stale.message,
        "Operation cannot be fulfilled on leases.coordination.k8s.io \"a\": the object has been modified; \
         please apply your changes to the latest version and try again"
    );
    let other = update(res, &old, with(old.clone(), "metadata.uid", json!("other"))).unwrap_err();
    assert_eq!(other.code, 409);
    assert!(
        other
            .message
            .contains("Precondition failed: UID in precondition: other, UID in object meta: "),
        "{}",
        other.message
    );
    let blind = update(res, &old, without(old.clone(), "metadata.resourceVersion")).unwrap_err();
    assert_eq!(blind.code, 422);
    assert_eq!(
        blind.message,
        "leases.coordination.k8s.io \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"
    );
    let maps = resource("v1", "configmaps");
    let map = stored(maps, json!({"metadata": {"name": "a"}}));
    assert_eq!(
        update(maps, &map, without(map.clone(), "metadata.resourceVersion")),
        Ok(Update::Unchanged)
    );
}

#[test]
fn an_update_needs_a_name() {
    let res = resource("v1", "configmaps");
    let old = stored(res, json!({"metadata": {"name": "a"}}));
    assert_eq!(
        refused(res, &old, without(old.clone(), "metadata.name")),
        "the name of the object (a based on URL) was undeterminable: name must be provided"
    );
}

#[test]
fn metadata_that_may_not_change() {
    let res = resource("v1", "configmaps");
    let old = stored(res, json!({"metadata": {"name": "a"}}));
    assert_eq!(
        refused(res, &old, with(old.clone(), "metadata.name", json!("b"))),
        "the name of the object (b) does not match the name on the URL (a)"
    );
    assert_eq!(
        refused(
            res,
            &old,
            with(
                old.clone(),
                "metadata.creationTimestamp",
                json!("2001-01-01T00:00:00Z")
            )
        ),
        "ConfigMap \"a\" is invalid: metadata.creationTimestamp: Invalid value: \"2001-01-01T00:00:00Z\": field is immutable"
    );
    assert_eq!(
        refused(
            res,
            &old,
            with(
                old.clone(),
                "metadata.deletionTimestamp",
                json!("2001-01-01T00:00:00Z")
            )
        ),
        "ConfigMap \"a\" is invalid: metadata.deletionTimestamp: Invalid value: \"2001-01-01T00:00:00Z\": field is immutable"
    );
}

#[test]
fn status_and_spec_are_written_apart() {
    let res = resource("apps/v1", "replicasets");
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let old = stored(
        res,
        json!({
            "metadata": {"name": "a"}, "status": {"replicas": 9},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}
        }),
    );
    assert_eq!(old.get("status"), None);
    let both = with(
        with(old.clone(), "spec.replicas", json!(5)),
        "status",
        json!({"replicas": 3}),
    );
    let main = updated(res, &old, both.clone());
    assert_eq!(main["spec"]["replicas"], json!(5));
    assert_eq!(main.get("status"), None);
    let Ok(Update::Store(status)) = update_sub(res, Some("status"), &old, both) else {
        panic!("a write")
    };
    assert_eq!(status["spec"]["replicas"], json!(1));
    assert_eq!(status["status"], json!({"replicas": 3}));
    assert_eq!(status["metadata"]["generation"], json!(1));
}

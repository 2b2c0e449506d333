//! What is known of a cluster after what was told.

use super::*;
use crate::feed::Ties;
use value::json;

fn apply(cluster: &mut Cluster, resource: ResourceRef, value: &Value) -> Vec<Event> {
    let place = cluster.place(resource).unwrap();
    let body = if resource == action::PODS {
        SeenBody::Pod(Arc::new(Pod::from_object(value)))
    } else {
        SeenBody::Whole(Arc::new(value.clone()))
    };
    let observation = Observation::from_object(resource, value);
    let seen = Seen {
        uid: observation.uid.into(),
        ties: Ties {
            owners: observation.owners,
            deleting: observation.deleting,
            foreground: observation.foreground,
            orphan: observation.orphan,
        },
        finalizers: object::finalizers(value).map(str::to_owned).collect(),
        version: 1,
        body,
    };
    let mut events = Vec::new();
    cluster.apply(
        place,
        Change::Apply(client::object_key(value), seen),
        &mut events,
    );
    events
}

fn delete(cluster: &mut Cluster, resource: ResourceRef, key: &str) {
    let place = cluster.place(resource).unwrap();
    cluster.apply(place, Change::Delete(key.into()), &mut Vec::new());
}

fn set(name: &str, owner: &str) -> Value {
    let owners = if owner.is_empty() {
        json!([])
    } else {
        json!([{"uid": owner, "controller": true}])
    };
    json!({"metadata": {"namespace": "d", "name": name, "uid": name, "ownerReferences": owners}})
}

#[test]
fn a_deployment_sees_its_sets_free_ones_and_namesakes() {
    let mut cluster = Cluster::new();
    for (name, owner) in [
        ("web-1", "web"),
        ("free", ""),
        ("web-2", "other"),
        ("x", "other"),
    ] {
        apply(&mut cluster, action::REPLICA_SETS, &set(name, owner));
    }
    let deployment = json!({"metadata": {"namespace": "d", "name": "web", "uid": "web"}});
    let names = |sets: Vec<Arc<Value>>| {
        sets.iter()
            .map(|set| object::name(set).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(cluster.sets_around(&deployment)),
        ["free", "web-1", "web-2"]
    );
    assert_eq!(names(cluster.sets_of("other")), ["web-2", "x"]);
    assert_eq!(
        cluster.owner("web-1"),
        Some((Controller::ReplicaSet, "d/web-1"))
    );
    for name in ["web-1", "free", "web-2", "x"] {
        delete(&mut cluster, action::REPLICA_SETS, &format!("d/{name}"));
    }
    assert!(
        cluster.owners.is_empty()
            && cluster.sets_by_controller.is_empty()
            && cluster.free_sets.is_empty()
    );
    assert!(cluster.contents.is_empty());
}

#[test]
fn namespaces_know_what_they_hold() {
    let mut cluster = Cluster::new();
    let mut pod = json!({"metadata": {"namespace": "d", "name": "p", "uid": "u"}});
    apply(&mut cluster, action::PODS, &pod);
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    pod["metadata"]["finalizers"] = json!(["a/b"]);
    apply(&mut cluster, action::PODS, &pod);
    let (resource, count) = cluster.contents("d").next().unwrap();
    assert_eq!(
        (resource, count.objects, count.deleting),
        (action::PODS, 1, 1)
    );
    assert_eq!(count.finalizers.get("a/b"), Some(&1));
    assert!(!cluster.is_empty_of("d", action::PODS) && cluster.is_empty_of("d", action::JOBS));
    delete(&mut cluster, action::PODS, "d/p");
    assert!(cluster.is_empty_of("d", action::PODS));
}

#[test]
fn the_garbage_collector_hears_only_what_concerns_it() {
    let mut cluster = Cluster::new();
    let mut pod = json!({"metadata": {"namespace": "d", "name": "p", "uid": "u"}});
    assert!(
        apply(&mut cluster, action::PODS, &pod)[0]
            .observation
            .is_some()
    );
    pod["status"] = json!({"phase": "Running"});
    assert!(
        apply(&mut cluster, action::PODS, &pod)[0]
            .observation
            .is_none()
    );
    pod["metadata"]["uid"] = "u2".into();
    let events = apply(&mut cluster, action::PODS, &pod);
    assert_eq!(events[0].old.as_ref().unwrap().uid(), "u");
    assert!(events[0].is_old_gone);
    assert!(events[0].observation.is_some());
}

fn pod(uid: &str, owner: &str, node: &str, claim: &str) -> Value {
    let owners = if owner.is_empty() {
        json!([])
    } else {
        json!([{"uid": owner, "controller": true}])
    };
    json!({"metadata": {"namespace": "d", "name": "p", "uid": uid, "labels": {"a": "b"}, "ownerReferences": owners},
        "spec": {"nodeName": node, "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"}})
}

/// Uids of the pods that are found by each of these ways.
fn found(cluster: &Cluster, owner: &str, node: &str, claim: &str) -> [Vec<String>; 4] {
    let pods = cluster.pods();
    [
        pods.of_namespace("d"),
        pods.of_controller(owner),
        pods.on_node(node),
        pods.of_claim(claim),
    ]
    .map(|pods| pods.iter().map(|pod| pod.uid.to_string()).collect())
}

#[test]
fn a_pod_is_found_as_it_is_now_whatever_it_was() {
    let mut cluster = Cluster::new();
    let one = |uid: &str| [(); 4].map(|()| vec![uid.to_owned()]);
    let nothing = [(); 3].map(|()| Vec::<String>::new());
    apply(&mut cluster, action::PODS, &pod("u", "rs", "", "c"));
    assert_eq!(found(&cluster, "rs", "n", "d/c")[2], nothing[0]);
    let events = apply(&mut cluster, action::PODS, &pod("u", "rs", "n", "c"));
    assert_eq!(found(&cluster, "rs", "n", "d/c"), one("u"));
    let old = events[0].old.as_ref().and_then(Kept::pod).unwrap();
    assert_eq!(**old, Pod::from_object(&pod("u", "rs", "", "c")));
    assert!(!events[0].is_old_gone);
    // Another owner, node and claim.
    apply(&mut cluster, action::PODS, &pod("u", "x", "m", "e"));
    assert_eq!(found(&cluster, "rs", "n", "d/c")[1..], nothing);
    assert_eq!(found(&cluster, "x", "m", "d/e"), one("u"));
    // Another one under its name, of which the end of the first was not seen.
    let events = apply(&mut cluster, action::PODS, &pod("w", "x", "m", "e"));
    assert!(events[0].is_old_gone);
    assert_eq!(events[0].old.as_ref().unwrap().uid(), "u");
    assert_eq!(found(&cluster, "x", "m", "d/e"), one("w"));
    // And one of which it was seen.
    delete(&mut cluster, action::PODS, "d/p");
    assert_eq!(found(&cluster, "x", "m", "d/e")[1..], nothing);
    assert!(cluster.pods().of_namespace("d").is_empty());
    apply(&mut cluster, action::PODS, &pod("z", "", "m", "c"));
    assert_eq!(found(&cluster, "x", "m", "d/c")[1], nothing[0]);
    let free = cluster.pods().for_owner("x", "d");
    assert_eq!(*free[0], Pod::from_object(&pod("z", "", "m", "c")));
    assert!(cluster.pods().is_none_on_node("n") && !cluster.pods().is_none_on_node("m"));
}

#[test]
fn what_others_hold_of_a_pod_stays_as_it_was() {
    let mut cluster = Cluster::new();
    let (before, after) = (pod("u", "rs", "", "c"), pod("u", "rs", "n", "c"));
    apply(&mut cluster, action::PODS, &before);
    let held = cluster.pod("d/p").unwrap().clone();
    apply(&mut cluster, action::PODS, &after);
    assert_eq!(*held, Pod::from_object(&before));
    assert_eq!(**cluster.pod("d/p").unwrap(), Pod::from_object(&after));
    drop(held);
    apply(&mut cluster, action::PODS, &before);
    assert_eq!(**cluster.pod("d/p").unwrap(), Pod::from_object(&before));
}

#[test]
fn pods_that_a_list_does_not_name_leave_their_groups() {
    let mut cluster = Cluster::new();
    let place = cluster.place(action::PODS).unwrap();
    apply(&mut cluster, action::PODS, &pod("u", "rs", "n", "c"));
    let mut events = Vec::new();
    cluster.apply(place, Change::Restart, &mut events);
    cluster.apply(place, Change::Synced, &mut events);
    assert_eq!(events[0].old.as_ref().unwrap().uid(), "u");
    assert!(events[0].is_old_gone && cluster.now(&events[0]).is_none());
    assert!(found(&cluster, "rs", "n", "d/c").iter().all(Vec::is_empty));
    assert!(cluster.contents.is_empty() && cluster.is_synced(action::PODS));
}

//! Deleting: what goes along, what stays, what holds it up.

use std::time::Duration;

use crate::support::{Plane, assert_has, eventually};

fn deploy(plane: &Plane, name: &str) {
    plane
        .kubectl(&format!(
            "create deployment {name} -n gone --image=nginx:1.27 --replicas=2"
        ))
        .ok();
    plane
        .kubectl(&format!(
            "rollout status deployment/{name} -n gone --timeout=60s"
        ))
        .ok();
}

fn left(plane: &Plane, kinds: &str, name: &str) -> Vec<String> {
    let names = plane
        .kubectl(&format!("get {kinds} -n gone -l app={name} -o name"))
        .ok();
    names.lines().map(str::to_owned).collect()
}

pub(crate) fn three_kinds_of_propagation(plane: &Plane) {
    plane.kubectl("create namespace gone").ok();
    for name in ["back", "front", "orphan"] {
        deploy(plane, name);
    }
    // Background: the owner at once, the rest soon.
    let said = plane
        .kubectl("delete deployment back -n gone --cascade=background")
        .ok();
    assert_has(&said, &["deployment.apps \"back\" deleted"]);
    assert_has(
        &plane.kubectl("get deployment back -n gone").fails(),
        &["deployments.apps \"back\" not found"],
    );
    eventually("what it owned is gone", || {
        let left = left(plane, "rs,pods", "back");
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(" "))
        }
    });

    // Foreground: the owner last.
    plane
        .kubectl("delete deployment front -n gone --cascade=foreground --wait=false")
        .ok();
    eventually("the owner goes last", || {
        let (owner, owned) = (
            plane.kubectl("get deployment front -n gone -o json").run(),
            left(plane, "rs,pods", "front"),
        );
        if owner.code == 0 {
            // Looked at before the owned ones: if it was there then, it must have been waiting.
            let waiting = owner.stdout.contains("deletionTimestamp")
                && owner.stdout.contains("foregroundDeletion");
            assert!(waiting, "{}", owner.stdout);
            return Err(format!("the owner waits for {owned:?}"));
        }
        assert_eq!(owned, Vec::<String>::new(), "the owner went before these");
        Ok(())
    });

    // Orphan: everything else stays, without an owner.
    plane
        .kubectl("delete deployment orphan -n gone --cascade=orphan")
        .ok();
    assert_eq!(left(plane, "rs", "orphan").len(), 1);
    assert_eq!(left(plane, "pods", "orphan").len(), 2);
    let owner = plane
        .kubectl("get rs -n gone -l app=orphan -o jsonpath={.items[*].metadata.ownerReferences}")
        .ok();
    assert_eq!(owner, "");
    plane
        .kubectl("delete rs -n gone -l app=orphan --cascade=orphan")
        .ok();
    let pods = left(plane, "pods", "orphan");
    assert_eq!(pods.len(), 2);
    plane
        .kubectl(&format!("delete -n gone --timeout=60s {}", pods.join(" ")))
        .ok();
    assert!(left(plane, "pods", "orphan").is_empty());

    // A Deployment of the same selector adopts what has no owner.
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: stray, namespace: gone, labels: {app: stray}}\n\
               spec: {containers: [{name: nginx, image: 'nginx:1.27'}]}\n";
    plane.apply(pod);
    let set = "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: stray, namespace: gone}\n\
               spec: {replicas: 1, selector: {matchLabels: {app: stray}}, template: {metadata: {labels: {app: stray}}, \
               spec: {containers: [{name: nginx, image: 'nginx:1.27'}]}}}\n";
    plane.apply(set);
    eventually("the stray pod is adopted", || {
        let owner = plane
            .kubectl("get pod stray -n gone -o jsonpath={.metadata.ownerReferences[0].name}")
            .ok();
        if owner == "stray" { Ok(()) } else { Err(owner) }
    });
    assert_eq!(left(plane, "pods", "stray"), ["pod/stray"]);
    plane.kubectl("delete namespace gone --wait=false").ok();
}

pub(crate) fn finalizers_hold(plane: &Plane) {
    plane.kubectl("create namespace held").ok();
    plane.apply(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, namespace: held, finalizers: [example.com/hold]}\n",
    );
    plane.kubectl("delete cm held -n held --wait=false").ok();
    let map = plane.kubectl("get cm held -n held -o json").json();
    assert!(map["metadata"]["deletionTimestamp"].is_string(), "{map}");
    assert_eq!(map["metadata"]["deletionGracePeriodSeconds"], 0);
    // No new finalizer while it is being deleted.
    let more =
        "[{\"op\":\"add\",\"path\":\"/metadata/finalizers/-\",\"value\":\"example.com/more\"}]";
    let refused = plane
        .kubectl(&format!("patch cm held -n held --type=json -p '{more}'"))
        .fails();
    assert_has(
        &refused,
        &["no new finalizers can be added if the object is being deleted"],
    );
    let none = "{\"metadata\":{\"finalizers\":null}}";
    plane
        .kubectl(&format!("patch cm held -n held --type=merge -p '{none}'"))
        .ok();
    assert_has(
        &plane.kubectl("get cm held -n held").fails(),
        &["configmaps \"held\" not found"],
    );
    plane.kubectl("delete namespace held --wait=false").ok();
}

pub(crate) fn a_namespace_takes_all_with_it(plane: &Plane) {
    plane.kubectl("create namespace doomed").ok();
    plane
        .kubectl("create configmap map -n doomed --from-literal=a=b")
        .ok();
    plane
        .kubectl("create secret generic secret -n doomed --from-literal=a=b")
        .ok();
    plane
        .kubectl("create deployment web -n doomed --image=nginx:1.27 --replicas=3")
        .ok();
    plane
        .kubectl("expose deployment web -n doomed --port=80")
        .ok();
    plane
        .kubectl("create job work -n doomed --image=busybox:1.36 -- sleep 600")
        .ok();
    plane
        .kubectl("create role reader -n doomed --verb=get --resource=pods")
        .ok();
    plane
        .kubectl("rollout status deployment/web -n doomed --timeout=60s")
        .ok();
    plane
        .kubectl("delete namespace doomed --timeout=100s")
        .timeout(Duration::from_secs(110))
        .ok();
    assert_has(
        &plane.kubectl("get namespace doomed").fails(),
        &["namespaces \"doomed\" not found"],
    );
    for kinds in [
        "cm,secret,sa,svc,endpointslices,pods",
        "deploy,rs,job",
        "role,events,leases",
    ] {
        let left = plane
            .kubectl(&format!("get {kinds} -n doomed -o name"))
            .ok();
        assert_eq!(left, "", "left behind");
    }
    // The name is free again, and nothing of the old life is in it.
    plane.kubectl("create namespace doomed").ok();
    eventually("the new one has its service account", || {
        let accounts = plane.kubectl("get sa -n doomed -o name").ok();
        if accounts == "serviceaccount/default\n" {
            Ok(())
        } else {
            Err(accounts)
        }
    });
    plane.kubectl("delete namespace doomed --wait=false").ok();
}

pub(crate) fn a_terminating_namespace_takes_nothing_new(plane: &Plane) {
    plane.kubectl("create namespace ending").ok();
    plane.apply(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, namespace: ending, finalizers: [example.com/hold]}\n",
    );
    plane.kubectl("delete namespace ending --wait=false").ok();
    let phase = plane
        .kubectl("get namespace ending -o jsonpath={.status.phase}")
        .ok();
    assert_eq!(phase, "Terminating");
    let refused = plane.kubectl("create configmap late -n ending").fails();
    assert_has(
        &refused,
        &[
            "forbidden",
            "unable to create new content in namespace ending because it is being terminated",
        ],
    );
    eventually("the namespace says what holds it", || {
        let conditions = plane
            .kubectl("get namespace ending -o jsonpath='{.status.conditions}'")
            .ok();
        if conditions.contains("example.com/hold") {
            Ok(())
        } else {
            Err(conditions)
        }
    });
    let none = "{\"metadata\":{\"finalizers\":null}}";
    plane
        .kubectl(&format!("patch cm held -n ending --type=merge -p '{none}'"))
        .ok();
    plane
        .kubectl("wait --for=delete namespace/ending --timeout=60s")
        .ok();
}

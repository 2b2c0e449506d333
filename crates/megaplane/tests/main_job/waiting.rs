//! `kubectl wait` in its four ways, each begun before what it waits for.

use crate::support::{Plane, assert_has, eventually};

pub(crate) fn conditions_values_and_deletion(plane: &Plane) {
    plane.kubectl("create namespace wait").ok();
    let mut created = plane
        .kubectl("wait --for=create deployment/web -n wait --timeout=60s")
        .spawn();
    plane
        .kubectl("create deployment web -n wait --image=nginx:1.27 --replicas=2")
        .ok();
    let available = plane
        .kubectl("wait --for=condition=Available deployment/web -n wait --timeout=60s")
        .ok();
    assert_eq!(available, "deployment.apps/web condition met\n");
    eventually("the wait for creation ends", || {
        if created.is_running() {
            Err(created.output())
        } else {
            Ok(())
        }
    });
    assert_has(&created.output(), &["condition met"]);
    plane
        .kubectl(
            "wait --for=jsonpath='{.status.readyReplicas}'=2 deployment/web -n wait --timeout=60s",
        )
        .ok();
    plane
        .kubectl("wait --for=condition=Ready pods -l app=web -n wait --timeout=60s")
        .ok();

    let mut deleted = plane
        .kubectl("wait --for=delete pods -l app=web -n wait --timeout=60s")
        .spawn();
    plane.kubectl("delete deployment web -n wait").ok();
    eventually("the wait for deletion ends", || {
        if deleted.is_running() {
            Err(deleted.output())
        } else {
            Ok(())
        }
    });
    assert!(
        !deleted.output().contains("timed out"),
        "{}",
        deleted.output()
    );
    assert_eq!(plane.kubectl("get pods -n wait -o name").ok(), "");

    // What does not come is said, in time.
    plane.kubectl("create configmap map -n wait").ok();
    let never = plane
        .kubectl("wait --for=jsonpath='{.data.a}'=b cm/map -n wait --timeout=1s")
        .fails();
    assert_has(&never, &["timed out waiting for the condition"]);
    plane.kubectl("delete namespace wait --wait=false").ok();
}

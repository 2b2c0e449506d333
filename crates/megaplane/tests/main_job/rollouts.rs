//! Deployments that change: new images, histories, the way back.

use value::Value;

use crate::support::{Plane, assert_has, eventually};

fn deploy(plane: &Plane, namespace: &str, replicas: u32) {
    plane.kubectl(&format!("create namespace {namespace}")).ok();
    plane
        .kubectl(&format!(
            "create deployment web -n {namespace} --image=nginx:1.27 --replicas={replicas}"
        ))
        .ok();
    rolled_out(plane, namespace);
}

fn rolled_out(plane: &Plane, namespace: &str) {
    let line = format!("rollout status deployment/web -n {namespace} --timeout=60s");
    assert_has(&plane.kubectl(&line).ok(), &["successfully rolled out"]);
}

/// The ReplicaSets with pods: image and pods that are ready.
fn sets(plane: &Plane, namespace: &str) -> Vec<(String, i64)> {
    let sets = plane
        .kubectl(&format!("get rs -n {namespace} -o json"))
        .json();
    let image = |set: &Value| {
        set["spec"]["template"]["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mut live: Vec<(String, i64)> = sets["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|set| {
            set["spec"]["replicas"] != 0
                || !set["status"]["replicas"].is_null() && set["status"]["replicas"] != 0
        })
        .map(|set| {
            (
                image(set),
                set["status"]["readyReplicas"].as_i64().unwrap_or(0),
            )
        })
        .collect();
    live.sort();
    live
}

pub(crate) fn a_new_image_and_back(plane: &Plane) {
    deploy(plane, "roll", 4);
    assert_eq!(sets(plane, "roll"), [("nginx:1.27".to_owned(), 4)]);
    plane
        .kubectl("set image deployment/web nginx=nginx:1.28 -n roll")
        .ok();
    rolled_out(plane, "roll");
    eventually("the old set is empty", || {
        let sets = sets(plane, "roll");
        if sets == [("nginx:1.28".to_owned(), 4)] {
            Ok(())
        } else {
            Err(format!("{sets:?}"))
        }
    });
    eventually("only new pods are left", || {
        let images = plane
            .kubectl("get pods -n roll -o jsonpath={.items[*].spec.containers[0].image}")
            .ok();
        if images == ["nginx:1.28"; 4].join(" ") {
            Ok(())
        } else {
            Err(images)
        }
    });
    let history = plane.kubectl("rollout history deployment/web -n roll").ok();
    assert_eq!(revisions(&history), ["1", "2"], "{history}");
    let first = plane
        .kubectl("rollout history deployment/web -n roll --revision=1")
        .ok();
    assert_has(&first, &["revision #1", "nginx:1.27"]);

    plane.kubectl("rollout undo deployment/web -n roll").ok();
    rolled_out(plane, "roll");
    eventually("the first set is back", || {
        let sets = sets(plane, "roll");
        if sets == [("nginx:1.27".to_owned(), 4)] {
            Ok(())
        } else {
            Err(format!("{sets:?}"))
        }
    });
    // The set of revision 1 serves again, as revision 3.
    let history = plane.kubectl("rollout history deployment/web -n roll").ok();
    assert_eq!(revisions(&history), ["2", "3"], "{history}");
    assert_eq!(
        plane.kubectl("get rs -n roll -o name").ok().lines().count(),
        2
    );

    // An image change in a manifest does the same.
    plane
        .kubectl("rollout undo deployment/web -n roll --to-revision=2")
        .ok();
    rolled_out(plane, "roll");
    let image = "get deploy web -n roll -o jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(plane.kubectl(image).ok(), "nginx:1.28");
    plane.kubectl("delete namespace roll --wait=false").ok();
}

fn revisions(history: &str) -> Vec<&str> {
    let cells = history
        .lines()
        .filter_map(|row| row.split_whitespace().next());
    cells.filter(|cell| cell.parse::<u32>().is_ok()).collect()
}

pub(crate) fn pause_scale_restart(plane: &Plane) {
    deploy(plane, "pause", 2);
    plane
        .kubectl("scale deployment/web -n pause --replicas=5")
        .ok();
    rolled_out(plane, "pause");
    assert_eq!(sets(plane, "pause"), [("nginx:1.27".to_owned(), 5)]);
    // A condition that does not hold refuses.
    let refused = plane
        .kubectl("scale deployment/web -n pause --replicas=9 --current-replicas=3")
        .fails();
    assert_has(&refused, &["Expected replicas to be 3, was 5"]);
    plane
        .kubectl("scale deployment/web -n pause --replicas=2 --current-replicas=5")
        .ok();
    rolled_out(plane, "pause");
    // Scaling is no new revision.
    assert_eq!(
        plane
            .kubectl("get rs -n pause -o name")
            .ok()
            .lines()
            .count(),
        1
    );

    plane.kubectl("rollout pause deployment/web -n pause").ok();
    plane
        .kubectl("set image deployment/web nginx=nginx:1.29 -n pause")
        .ok();
    eventually("the change was seen", || {
        let deployment = plane.kubectl("get deploy web -n pause -o json").json();
        if deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"] {
            return Ok(());
        }
        Err(deployment["status"].to_string())
    });
    assert_eq!(sets(plane, "pause"), [("nginx:1.27".to_owned(), 2)]);
    plane.kubectl("rollout resume deployment/web -n pause").ok();
    rolled_out(plane, "pause");
    eventually("the new image runs", || {
        let sets = sets(plane, "pause");
        if sets == [("nginx:1.29".to_owned(), 2)] {
            Ok(())
        } else {
            Err(format!("{sets:?}"))
        }
    });

    let before = plane
        .kubectl("get pods -n pause -o jsonpath={.items[*].metadata.uid}")
        .ok();
    plane
        .kubectl("rollout restart deployment/web -n pause")
        .ok();
    rolled_out(plane, "pause");
    eventually("all pods are others", || {
        let after = plane
            .kubectl("get pods -n pause -o jsonpath={.items[*].metadata.uid}")
            .ok();
        let same = after.split(' ').any(|uid| before.contains(uid));
        if !same && after.split(' ').count() == 2 {
            Ok(())
        } else {
            Err(after)
        }
    });
    plane.kubectl("delete namespace pause --wait=false").ok();
}

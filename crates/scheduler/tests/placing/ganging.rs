//! Gangs: pods that start together or not at all.

use meta::Value;
use schema::Resource;
use value::json;

use crate::plane::{NAMESPACE, Plane, condition, node_of, run};

fn groups() -> &'static Resource {
    schema::resource("scheduling.k8s.io", "v1alpha2", "podgroups").unwrap()
}

async fn plane(nodes: &[&str]) -> Plane {
    let plane = Plane::start_serving(&[("scheduling.k8s.io", "v1alpha2")]).await;
    for node in nodes {
        plane.node(node, "1", 110, json!({})).await;
    }
    plane.add_scheduler(|config| config.gangs = true);
    plane
}

async fn group(plane: &Plane, name: &str, policy: Value) {
    let group = json!({"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "PodGroup",
        "metadata": {"name": name}, "spec": {"schedulingPolicy": policy}});
    plane
        .client
        .create(groups(), NAMESPACE, &group)
        .await
        .unwrap();
}

/// A pod that needs a node for itself.
async fn member(plane: &Plane, name: &str, group: &str) {
    let spec = json!({"spec": {"schedulingGroup": {"podGroupName": group}}});
    plane.pod(name, "800m", spec).await;
}

#[test]
fn a_gang_waits_for_its_group_for_enough_pods_and_for_enough_room() {
    run(|| async {
        let plane = plane(&["a", "b"]).await;
        member(&plane, "g-1", "g").await;
        member(&plane, "g-2", "g").await;
        // Whoever comes later and is placed shows that those before were left alone.
        plane.pod("plain", "100m", json!({})).await;
        plane.placed("plain").await;
        assert!(
            condition(&plane.get("g-1").await).is_none(),
            "the group is not there"
        );
        group(&plane, "g", json!({"gang": {"minCount": 3}})).await;
        plane.pod("other", "50m", json!({})).await;
        plane.placed("other").await;
        assert!(
            condition(&plane.get("g-1").await).is_none(),
            "two of three are there"
        );
        // All three are there, and two nodes: nobody starts, and nobody keeps the room.
        member(&plane, "g-3", "g").await;
        let refused = |pod: &Value| condition(pod).is_some_and(|c| c["status"] == "False");
        for name in ["g-1", "g-2", "g-3"] {
            let pod = plane.until(name, refused).await;
            assert_eq!(node_of(&pod), "");
        }
        plane.pod("big", "800m", json!({})).await;
        let taken = plane.placed("big").await;
        assert!(taken == "a" || taken == "b");
        // With room for three all start.
        plane.delete("big").await;
        plane.node("c", "1", 110, json!({})).await;
        let mut nodes = Vec::new();
        for name in ["g-1", "g-2", "g-3"] {
            nodes.push(plane.placed(name).await);
        }
        nodes.sort();
        assert_eq!(nodes, ["a", "b", "c"]);
        let mut text = String::new();
        plane.progress.write_metrics(&mut text);
        for result in ["Success", "Unschedulable"] {
            let line =
                format!("scheduler_permit_wait_duration_seconds_count{{result=\"{result}\"}} ");
            assert!(text.contains(&line), "{line}\n{text}");
        }
    });
}

#[test]
fn a_basic_group_and_a_gang_that_fits_start_at_once() {
    run(|| async {
        let plane = plane(&["a", "b", "c"]).await;
        group(&plane, "b", json!({"basic": {}})).await;
        member(&plane, "b-1", "b").await;
        plane.placed("b-1").await;
        group(&plane, "g", json!({"gang": {"minCount": 2}})).await;
        member(&plane, "g-1", "g").await;
        member(&plane, "g-2", "g").await;
        for name in ["g-1", "g-2"] {
            plane.placed(name).await;
        }
        // One more than the least number goes for itself, once the others are there.
        plane.node("d", "1", 110, json!({})).await;
        member(&plane, "g-3", "g").await;
        assert_eq!(plane.placed("g-3").await, "d");
    });
}

#[test]
fn groups_are_checked() {
    run(|| async {
        let plane = plane(&[]).await;
        let refusal = |policy: Value| {
            let client = plane.client.clone();
            async move {
                let group = json!({"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "PodGroup",
                    "metadata": {"name": "g"}, "spec": {"schedulingPolicy": policy}});
                let created = client.create(groups(), NAMESPACE, &group).await;
                created.unwrap_err().to_string()
            }
        };
        assert_eq!(
            refusal(json!({})).await,
            "PodGroup.scheduling.k8s.io \"g\" is invalid: spec.schedulingPolicy: Invalid value: \"\": must specify \
             one of: `basic`, `gang`"
        );
        assert_eq!(
            refusal(json!({"gang": {"minCount": -1}})).await,
            "PodGroup.scheduling.k8s.io \"g\" is invalid: spec.schedulingPolicy.gang.minCount: Invalid value: -1: \
             must be greater than or equal to 1"
        );
        group(&plane, "g", json!({"gang": {"minCount": 2}})).await;
        let other = json!({"spec": {"schedulingPolicy": {"gang": {"minCount": 3}}}});
        let merge = client::PatchType::Merge;
        let patched = plane
            .client
            .patch(groups(), NAMESPACE, "g", "", merge, &other)
            .await;
        assert!(
            patched
                .unwrap_err()
                .to_string()
                .contains("field is immutable")
        );
        assert!(plane.pods().await.is_empty());
    });
}

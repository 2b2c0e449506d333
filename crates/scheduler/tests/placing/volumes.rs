//! Pods with claims: where they can go, what they wait for, and volumes made for the node they go to.
//!
//! Nobody binds or makes volumes here: the test does what controllers would.

use client::PatchType;
use meta::Value;
use serde_json::json;

use crate::plane::{NAMESPACE, Plane, core, node_of, run};

const ZONE: &str = "topology.kubernetes.io/zone";

async fn nodes(plane: &Plane) {
    for zone in ["a", "b"] {
        let labels = json!({"metadata": {"labels": {ZONE: zone}}});
        plane.node(zone, "8", 110, labels).await;
    }
}

async fn class(plane: &Plane, name: &str, more: Value) {
    let mut class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": "example.com/disk"});
    schema::merge_patch(&mut class, &more);
    let classes = schema::resource("storage.k8s.io", "v1", "storageclasses").unwrap();
    plane.client.create(classes, "", &class).await.unwrap();
}

async fn claim(plane: &Plane, name: &str, class: &str) {
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}});
    plane
        .client
        .create(core("persistentvolumeclaims"), NAMESPACE, &claim)
        .await
        .unwrap();
}

/// What the controller of volumes does: a volume in a zone, bound to the claim.
async fn bind(plane: &Plane, claim: &str, zone: &str) {
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("v-{claim}")},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "example.com", "volumeHandle": claim},
            "claimRef": {"namespace": NAMESPACE, "name": claim},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
                [{"key": ZONE, "operator": "In", "values": [zone]}]}]}}}});
    plane
        .client
        .create(core("persistentvolumes"), "", &volume)
        .await
        .unwrap();
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": format!("v-{claim}")}});
    let claims = core("persistentvolumeclaims");
    let merge = PatchType::Merge;
    let client = &plane.client;
    client
        .patch(claims, NAMESPACE, claim, "", merge, &bound)
        .await
        .unwrap();
    let phase = json!({"status": {"phase": "Bound"}});
    client
        .patch(claims, NAMESPACE, claim, "status", merge, &phase)
        .await
        .unwrap();
}

fn with_claim(claim: &str) -> Value {
    json!({"spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]}})
}

async fn says(plane: &Plane, name: &str, message: &str) {
    plane
        .until(name, |pod| {
            crate::plane::condition(pod)
                .and_then(|c| c["message"].as_str())
                .is_some_and(|m| m.starts_with(message))
        })
        .await;
}

#[test]
fn a_pod_goes_where_its_volume_is() {
    run(|| async {
        let plane = Plane::start().await;
        nodes(&plane).await;
        class(&plane, "fast", json!({})).await;
        plane.pod("web", "100m", with_claim("data")).await;
        says(
            &plane,
            "web",
            "0/2 nodes are available: persistentvolumeclaim \"data\" not found. no new claims to deallocate, \
             preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        )
        .await;
        claim(&plane, "data", "fast").await;
        says(
            &plane,
            "web",
            "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
        )
        .await;
        bind(&plane, "data", "b").await;
        assert_eq!(plane.placed("web").await, "b");
        for number in 0..4 {
            let name = format!("more-{number}");
            plane.pod(&name, "100m", with_claim("data")).await;
            assert_eq!(plane.placed(&name).await, "b");
        }
        let mut elsewhere = with_claim("data");
        elsewhere["spec"]["nodeSelector"] = json!({ZONE: "a"});
        plane.pod("elsewhere", "100m", elsewhere).await;
        says(
            &plane,
            "elsewhere",
            "0/2 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity, \
             1 node(s) didn't match Pod's node affinity/selector.",
        )
        .await;
    });
}

/// Where nobody makes volumes pods do not wait for theirs, and it is told.
#[test]
fn volumes_may_be_left_out() {
    run(|| async {
        let plane = Plane::start_with_nobody().await;
        plane.add_scheduler(|config| *config = config.clone().without_volumes());
        nodes(&plane).await;
        plane.pod("web", "100m", with_claim("data")).await;
        plane.placed("web").await;
        let told = crate::preempting::event(&plane, "web", "NotConsidered").await;
        assert_eq!(
            told["message"],
            "placed without regard to volumes: no rule of this scheduler looks at that"
        );
    });
}

#[test]
fn a_volume_is_made_for_the_node_that_was_chosen() {
    run(|| async {
        let plane = Plane::start().await;
        nodes(&plane).await;
        let waits = json!({"volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies":
            [{"matchLabelExpressions": [{"key": ZONE, "values": ["b"]}]}]});
        class(&plane, "wait", waits).await;
        let by_hand = json!({"volumeBindingMode": "WaitForFirstConsumer", "provisioner": "kubernetes.io/no-provisioner"});
        class(&plane, "hand", by_hand).await;
        claim(&plane, "data", "wait").await;
        claim(&plane, "local", "hand").await;
        plane.pod("web", "100m", with_claim("data")).await;
        let chosen = async {
            loop {
                let claims = core("persistentvolumeclaims");
                let claim = plane.client.get(claims, NAMESPACE, "data").await.unwrap();
                let node = &claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"];
                if let Some(node) = node.as_str() {
                    return node.to_owned();
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let chosen = tokio::time::timeout(crate::plane::PATIENCE, chosen).await;
        assert_eq!(chosen.unwrap(), "b");
        assert_eq!(
            node_of(&plane.get("web").await),
            "",
            "its volume is not there yet"
        );
        bind(&plane, "data", "b").await;
        assert_eq!(plane.placed("web").await, "b");
        // Volumes made by hand are not looked for yet.
        plane.pod("local", "100m", with_claim("local")).await;
        says(
            &plane,
            "local",
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.",
        )
        .await;
    });
}

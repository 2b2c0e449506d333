//! Pods with claims: where they can go, what they wait for, and volumes made for the node they go to.
//!
//! Nobody binds or makes volumes here: the test does what controllers would.

use client::PatchType;
use meta::Value;
use placement::Plugin;
use value::json;

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
    claim_with(plane, name, class, json!({})).await;
}

async fn claim_with(plane: &Plane, name: &str, class: &str, more: Value) {
    let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}});
    schema::merge_patch(&mut claim, &more);
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
    complete(plane, claim, &format!("v-{claim}")).await;
}

/// The claim's side of a binding.
async fn complete(plane: &Plane, claim: &str, volume: &str) {
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": volume}});
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

/// A configuration may turn the rules about volumes off: pods do not wait for theirs, and it is told.
#[test]
fn volumes_may_be_left_out() {
    run(|| async {
        let plane = Plane::start_with_nobody().await;
        plane.add_scheduler(|config| {
            let filters = &mut config.profiles[0].rules.filters;
            for plugin in [
                Plugin::VolumeRestrictions,
                Plugin::NodeVolumeLimits,
                Plugin::VolumeBinding,
                Plugin::VolumeZone,
            ] {
                *filters = filters.without(plugin);
            }
        });
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

async fn storage(plane: &Plane, resource: &str, namespace: &str, kind: &str, more: Value) {
    let mut object = json!({"apiVersion": "storage.k8s.io/v1", "kind": kind});
    schema::merge_patch(&mut object, &more);
    let resource = schema::resource("storage.k8s.io", "v1", resource).unwrap();
    let created = plane.client.create(resource, namespace, &object).await;
    created.unwrap();
}

/// Waits until an object says something, and gives it.
async fn until(
    plane: &Plane,
    resource: &str,
    namespace: &str,
    name: &str,
    says: impl Fn(&Value) -> bool,
) -> Value {
    let waiting = async {
        loop {
            let object = plane.client.get(core(resource), namespace, name).await;
            let object = object.unwrap();
            if says(&object) {
                return object;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(crate::plane::PATIENCE, waiting).await;
    found.unwrap_or_else(|_| panic!("{resource} {name} never said so"))
}

#[test]
fn a_claim_for_one_pod_alone_is_used_by_one_at_a_time() {
    run(|| async {
        let plane = Plane::start().await;
        nodes(&plane).await;
        class(&plane, "fast", json!({})).await;
        let alone = json!({"spec": {"accessModes": ["ReadWriteOncePod"]}});
        claim_with(&plane, "data", "fast", alone).await;
        bind(&plane, "data", "b").await;
        plane.pod("first", "100m", with_claim("data")).await;
        assert_eq!(plane.placed("first").await, "b");
        plane.pod("second", "100m", with_claim("data")).await;
        says(
            &plane,
            "second",
            "0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and \
             ReadWriteOncePod access mode. no new claims to deallocate, preemption: 0/2 nodes are available: \
             2 No preemption victims found for incoming pod.",
        )
        .await;
        plane.delete("first").await;
        assert_eq!(plane.placed("second").await, "b");
        // Whoever counts more takes it.
        let important = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": "important"}, "value": 1000});
        let classes = schema::resource("scheduling.k8s.io", "v1", "priorityclasses").unwrap();
        plane.client.create(classes, "", &important).await.unwrap();
        let mut third = with_claim("data");
        third["spec"]["priorityClassName"] = "important".into();
        plane.pod("third", "100m", third).await;
        let going = plane.until("second", |pod| {
            !pod["metadata"]["deletionTimestamp"].is_null()
        });
        going.await;
        plane.delete("second").await;
        assert_eq!(plane.placed("third").await, "b");
    });
}

#[test]
fn a_node_gets_no_more_volumes_than_it_takes() {
    run(|| async {
        let plane = Plane::start().await;
        nodes(&plane).await;
        class(&plane, "fast", json!({})).await;
        for (node, count) in [("a", 0), ("b", 2)] {
            let takes = json!({"metadata": {"name": node}, "spec": {"drivers": [
                {"name": "example.com", "nodeID": node, "topologyKeys": [], "allocatable": {"count": count}}]}});
            storage(&plane, "csinodes", "", "CSINode", takes).await;
        }
        for number in 0..3 {
            let name = format!("data-{number}");
            claim(&plane, &name, "fast").await;
            bind(&plane, &name, "b").await;
        }
        for number in 0..2 {
            let name = format!("web-{number}");
            let volume = with_claim(&format!("data-{number}"));
            plane.pod(&name, "100m", volume).await;
            assert_eq!(plane.placed(&name).await, "b");
        }
        plane.pod("full", "100m", with_claim("data-2")).await;
        says(
            &plane,
            "full",
            "0/2 nodes are available: 2 node(s) exceed max volume count.",
        )
        .await;
        // A volume that is there already counts once.
        plane.pod("shares", "100m", with_claim("data-0")).await;
        assert_eq!(plane.placed("shares").await, "b");
        plane.delete("web-1").await;
        assert_eq!(plane.placed("full").await, "b");
    });
}

#[test]
fn a_local_volume_is_given_to_its_claim() {
    run(|| async {
        let plane = Plane::start().await;
        for name in ["a", "b", "c"] {
            let label = json!({"metadata": {"labels": {"kubernetes.io/hostname": name}}});
            plane.node(name, "8", 110, label).await;
        }
        let by_hand = json!({"volumeBindingMode": "WaitForFirstConsumer", "provisioner": "kubernetes.io/no-provisioner"});
        class(&plane, "local", by_hand).await;
        for (name, node, size) in [
            ("small", "a", "500Mi"),
            ("fits", "b", "1Gi"),
            ("large", "b", "9Gi"),
        ] {
            let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
                "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                    "local": {"path": "/disk"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
                        [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}});
            let volumes = core("persistentvolumes");
            plane.client.create(volumes, "", &volume).await.unwrap();
        }
        for name in ["one", "two", "three"] {
            claim(&plane, name, "local").await;
        }
        plane.pod("one", "100m", with_claim("one")).await;
        let nothing =
            "0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind.";
        says(&plane, "one", nothing).await;
        // Their controller says that they may be had.
        for name in ["small", "fits", "large"] {
            let available = json!({"status": {"phase": "Available"}});
            let (volumes, merge) = (core("persistentvolumes"), PatchType::Merge);
            let patched = plane
                .client
                .patch(volumes, "", name, "status", merge, &available);
            patched.await.unwrap();
        }
        let given = until(&plane, "persistentvolumes", "", "fits", |v| {
            v["spec"]["claimRef"].is_object()
        });
        let given = given.await;
        let claim = plane
            .client
            .get(core("persistentvolumeclaims"), NAMESPACE, "one")
            .await
            .unwrap();
        assert_eq!(given["spec"]["claimRef"]["name"], "one");
        assert_eq!(given["spec"]["claimRef"]["kind"], "PersistentVolumeClaim");
        assert_eq!(given["spec"]["claimRef"]["uid"], claim["metadata"]["uid"]);
        assert_eq!(
            given["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"],
            "yes"
        );
        // While that one waits the next gets the other.
        plane.pod("two", "100m", with_claim("two")).await;
        let other = until(&plane, "persistentvolumes", "", "large", |v| {
            v["spec"]["claimRef"].is_object()
        });
        assert_eq!(other.await["spec"]["claimRef"]["name"], "two");
        plane.pod("three", "100m", with_claim("three")).await;
        says(&plane, "three", nothing).await;
        assert_eq!(
            node_of(&plane.get("one").await),
            "",
            "its claim is not bound yet"
        );
        complete(&plane, "one", "fits").await;
        complete(&plane, "two", "large").await;
        assert_eq!(plane.placed("one").await, "b");
        assert_eq!(plane.placed("two").await, "b");
    });
}

#[test]
fn a_volume_is_asked_for_where_there_is_room() {
    run(|| async {
        let plane = Plane::start().await;
        nodes(&plane).await;
        let waits =
            json!({"volumeBindingMode": "WaitForFirstConsumer", "provisioner": "disk.example.com"});
        class(&plane, "wait", waits).await;
        let driver =
            json!({"metadata": {"name": "disk.example.com"}, "spec": {"storageCapacity": true}});
        storage(&plane, "csidrivers", "", "CSIDriver", driver).await;
        let room = json!({"metadata": {"name": "room"}, "storageClassName": "wait", "capacity": "512Mi",
            "nodeTopology": {"matchLabels": {ZONE: "a"}}});
        storage(
            &plane,
            "csistoragecapacities",
            NAMESPACE,
            "CSIStorageCapacity",
            room,
        )
        .await;
        claim(&plane, "data", "wait").await;
        plane.pod("web", "100m", with_claim("data")).await;
        says(
            &plane,
            "web",
            "0/2 nodes are available: 2 node(s) did not have enough free storage.",
        )
        .await;
        let more = json!({"capacity": "2Gi"});
        let capacities = schema::resource("storage.k8s.io", "v1", "csistoragecapacities").unwrap();
        let merge = PatchType::Merge;
        let patched = plane
            .client
            .patch(capacities, NAMESPACE, "room", "", merge, &more);
        patched.await.unwrap();
        let selected = "volume.kubernetes.io/selected-node";
        let claims = "persistentvolumeclaims";
        let is_asked = |claim: &Value| claim["metadata"]["annotations"][selected].is_string();
        let claim = until(&plane, claims, NAMESPACE, "data", is_asked).await;
        assert_eq!(claim["metadata"]["annotations"][selected], "a");
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
        // Nobody made a volume by hand.
        plane.pod("local", "100m", with_claim("local")).await;
        says(
            &plane,
            "local",
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.",
        )
        .await;
    });
}

//! Pods with resource claims: which node has the devices, what they wait for, and what is written into claims.
//!
//! But in one story nobody makes claims from templates or takes them back: the test does what the controller would.

use client::PatchType;
use meta::Value;
use value::json;

use crate::plane::{NAMESPACE, Plane, core, run};

const DRIVER: &str = "gpu.example.com";
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

fn devices(resource: &str) -> &'static schema::Resource {
    schema::resource("resource.k8s.io", "v1", resource).unwrap()
}

async fn create(plane: &Plane, resource: &str, namespace: &str, mut object: Value, kind: &str) {
    object["apiVersion"] = "resource.k8s.io/v1".into();
    object["kind"] = kind.into();
    let client = &plane.client;
    let created = client.create(devices(resource), namespace, &object).await;
    created.unwrap();
}

async fn class(plane: &Plane, name: &str) {
    let object = json!({"metadata": {"name": name}, "spec": {"selectors": [
        {"cel": {"expression": format!("device.driver == \"{DRIVER}\"")}}]}});
    create(plane, "deviceclasses", "", object, "DeviceClass").await;
}

/// A node of its own pool of devices.
async fn node(plane: &Plane, name: &str, devices: Value) {
    plane.node(name, "8", 110, json!({})).await;
    let object = json!({"metadata": {"name": format!("slice-{name}")}, "spec": {"driver": DRIVER, "nodeName": name,
        "pool": {"name": name, "generation": 1, "resourceSliceCount": 1}, "devices": devices}});
    create(plane, "resourceslices", "", object, "ResourceSlice").await;
}

async fn two_nodes(plane: &Plane) {
    class(plane, "gpu").await;
    for name in ["a", "b"] {
        let model = |number: u32| {
            json!({"name": format!("gpu-{number}"), "attributes": {
            "model": {"string": format!("{name}100")}}, "capacity": {"memory": {"value": "40Gi"}}})
        };
        node(plane, name, json!([model(0), model(1)])).await;
    }
}

async fn claim(plane: &Plane, name: &str, devices: Value) {
    let object = json!({"metadata": {"name": name}, "spec": {"devices": devices}});
    create(plane, "resourceclaims", NAMESPACE, object, "ResourceClaim").await;
}

fn one_gpu() -> Value {
    json!({"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]})
}

fn uses(claim: &str) -> Value {
    json!({"spec": {"resourceClaims": [{"name": "gpu", "resourceClaimName": claim}]}})
}

async fn get(plane: &Plane, claim: &str) -> Value {
    let client = &plane.client;
    let found = client.get(devices("resourceclaims"), NAMESPACE, claim);
    found.await.unwrap()
}

/// `node's pool/device` of a claim's only device.
async fn device_of(plane: &Plane, claim: &str) -> String {
    let claim = get(plane, claim).await;
    let result = &claim["status"]["allocation"]["devices"]["results"][0];
    let text = |field: &str| result[field].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("pool"), text("device"))
}

/// What the controller does once a claim has no users.
async fn give_back(plane: &Plane, name: &str) {
    let merge = PatchType::Merge;
    let client = &plane.client;
    let status = json!({"status": {"allocation": null, "reservedFor": null}});
    let resource = devices("resourceclaims");
    let patched = client.patch(resource, NAMESPACE, name, "status", merge, &status);
    patched.await.unwrap();
    let free = json!({"metadata": {"finalizers": null}});
    let patched = client.patch(resource, NAMESPACE, name, "", merge, &free);
    patched.await.unwrap();
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
fn devices_are_given_once_and_again_when_they_are_free() {
    run(|| async {
        let plane = Plane::start().await;
        two_nodes(&plane).await;
        for number in 0..5 {
            let name = format!("pod-{number}");
            claim(&plane, &name, one_gpu()).await;
        }
        let mut given = Vec::new();
        for number in 0..4 {
            let name = format!("pod-{number}");
            let pod = plane.pod(&name, "100m", uses(&name)).await;
            let node = plane.placed(&name).await;
            let device = device_of(&plane, &name).await;
            assert!(device.starts_with(&format!("{node}/")));
            given.push(device);
            let claim = get(&plane, &name).await;
            assert_eq!(claim["metadata"]["finalizers"], json!([FINALIZER]));
            assert_eq!(
                claim["status"]["reservedFor"],
                json!([{"resource": "pods", "name": name, "uid": pod["metadata"]["uid"]}])
            );
            assert!(claim["status"]["allocation"]["allocationTimestamp"].is_string());
            assert_eq!(
                claim["status"]["allocation"]["nodeSelector"]["nodeSelectorTerms"][0]["matchFields"]
                    [0],
                json!({"key": "metadata.name", "operator": "In", "values": [node]})
            );
        }
        given.sort();
        assert_eq!(given, ["a/gpu-0", "a/gpu-1", "b/gpu-0", "b/gpu-1"]);
        plane.pod("pod-4", "100m", uses("pod-4")).await;
        assert_eq!(
            plane.refused("pod-4").await,
            "0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, preemption: 0/2 nodes \
             are available: 2 Preemption is not helpful for scheduling."
        );
        let free = device_of(&plane, "pod-1").await;
        plane.delete("pod-1").await;
        give_back(&plane, "pod-1").await;
        plane.placed("pod-4").await;
        assert_eq!(device_of(&plane, "pod-4").await, free);
    });
}

#[test]
fn selectors_alternatives_and_rules_decide_together() {
    run(|| async {
        let plane = Plane::start().await;
        two_nodes(&plane).await;
        let by_model = json!({"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu", "selectors": [{"cel":
            {"expression": "device.attributes[\"gpu.example.com\"].model == \"b100\" && \
                device.capacity[\"gpu.example.com\"].memory.compareTo(quantity(\"10Gi\")) >= 0"}}]}}]});
        claim(&plane, "model", by_model).await;
        plane.pod("model", "100m", uses("model")).await;
        assert_eq!(plane.placed("model").await, "b");
        // Two would be better than one: only the other node has them.
        let list = json!({"requests": [{"name": "gpu", "firstAvailable": [
            {"name": "two", "deviceClassName": "gpu", "count": 2},
            {"name": "one", "deviceClassName": "gpu"}]}]});
        claim(&plane, "first", list.clone()).await;
        plane.pod("first", "100m", uses("first")).await;
        assert_eq!(plane.placed("first").await, "a");
        let first = get(&plane, "first").await;
        let results = &first["status"]["allocation"]["devices"]["results"];
        assert_eq!(results[1]["request"], "gpu/two");
        claim(&plane, "second", list).await;
        plane.pod("second", "100m", uses("second")).await;
        assert_eq!(plane.placed("second").await, "b");
        let second = get(&plane, "second").await;
        let results = &second["status"]["allocation"]["devices"]["results"];
        assert_eq!(results[0]["request"], "gpu/one");
        // What is wrong with a claim is said, and no node is tried.
        let broken = json!({"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu", "allocationMode": "All",
            "selectors": [{"cel": {"expression": "device.attributes[\"gpu.example.com\"].speed > 1"}}]}}]});
        claim(&plane, "broken", broken).await;
        // A free device is needed for it to be looked at.
        node(&plane, "c", json!([{"name": "gpu-0"}])).await;
        plane.pod("broken", "100m", uses("broken")).await;
        let pod = plane
            .until("broken", |pod| crate::plane::condition(pod).is_some())
            .await;
        let condition = crate::plane::condition(&pod).unwrap();
        assert_eq!(condition["reason"], "SchedulerError");
        assert_eq!(
            condition["message"],
            "running \"DynamicResources\" filter plugin: claim default/broken: selector #0: CEL runtime error: \
             no such key: speed"
        );
    });
}

#[test]
fn a_shared_claim_keeps_its_pods_together() {
    run(|| async {
        let plane = Plane::start().await;
        two_nodes(&plane).await;
        claim(&plane, "shared", one_gpu()).await;
        let names: Vec<String> = (0..6).map(|number| format!("pod-{number}")).collect();
        for name in &names {
            plane.pod(name, "100m", uses("shared")).await;
        }
        let node = plane.placed(&names[0]).await;
        for name in &names {
            assert_eq!(plane.placed(name).await, node);
        }
        let claim = get(&plane, "shared").await;
        assert_eq!(
            claim["status"]["reservedFor"].as_array().map(Vec::len),
            Some(6)
        );
        let mut elsewhere = uses("shared");
        let other = if node == "a" { "b" } else { "a" };
        elsewhere["spec"]["affinity"]["nodeAffinity"] = json!({"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [other]}]}]}});
        plane.pod("elsewhere", "100m", elsewhere).await;
        says(
            &plane,
            "elsewhere",
            "0/2 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity], \
             1 resourceclaim not available on the node. still not schedulable",
        )
        .await;
        // Once nobody uses it, it is given back and allocated where the pod can go.
        for name in &names {
            plane.delete(name).await;
        }
        let nobody = json!({"status": {"reservedFor": null}});
        let (resource, merge) = (devices("resourceclaims"), PatchType::Merge);
        let patched = plane
            .client
            .patch(resource, NAMESPACE, "shared", "status", merge, &nobody);
        patched.await.unwrap();
        assert_eq!(plane.placed("elsewhere").await, other);
    });
}

#[test]
fn a_pod_waits_for_its_claims_and_their_classes() {
    run(|| async {
        let plane = Plane::start().await;
        plane.node("a", "8", 110, json!({})).await;
        plane.pod("named", "100m", uses("named")).await;
        says(
            &plane,
            "named",
            "0/1 nodes are available: resourceclaim.resource.k8s.io \"named\" not found. no new claims to deallocate",
        )
        .await;
        claim(&plane, "named", one_gpu()).await;
        says(
            &plane,
            "named",
            "0/1 nodes are available: request gpu: device class gpu does not exist.",
        )
        .await;
        class(&plane, "gpu").await;
        says(
            &plane,
            "named",
            "0/1 nodes are available: 1 cannot allocate all claims.",
        )
        .await;
        // A pod whose claim is still to be made is not even tried.
        let made = json!({"spec": {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]}});
        let pod = plane.pod("made", "100m", made).await;
        node(&plane, "b", json!([{"name": "gpu-0"}, {"name": "gpu-1"}])).await;
        assert_eq!(plane.placed("named").await, "b");
        assert!(crate::plane::condition(&plane.get("made").await).is_none());
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "made", "uid": pod["metadata"]["uid"],
            "controller": true});
        let object = json!({"metadata": {"name": "made-gpu-1", "ownerReferences": [owner]}, "spec": {"devices": one_gpu()}});
        create(&plane, "resourceclaims", NAMESPACE, object, "ResourceClaim").await;
        let status = json!({"status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "made-gpu-1"}]}});
        let patched = plane.client.patch(
            core("pods"),
            NAMESPACE,
            "made",
            "status",
            PatchType::StrategicMerge,
            &status,
        );
        patched.await.unwrap();
        assert_eq!(plane.placed("made").await, "b");
        // Devices that can be reached from everywhere.
        let object = json!({"metadata": {"name": "far"}, "spec": {"driver": DRIVER, "allNodes": true,
            "pool": {"name": "far", "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "far-0"}]}});
        create(&plane, "resourceslices", "", object, "ResourceSlice").await;
        claim(&plane, "far", one_gpu()).await;
        let mut far = uses("far");
        far["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "a"});
        let labels = json!({"metadata": {"labels": {"kubernetes.io/hostname": "a"}}});
        let patched = plane
            .client
            .patch(core("nodes"), "", "a", "", PatchType::Merge, &labels);
        patched.await.unwrap();
        plane.pod("far", "100m", far).await;
        assert_eq!(plane.placed("far").await, "a");
    });
}

/// Scheduler and controllers together: claims from a template, and devices that come back with their pods.
#[test]
fn five_pods_share_four_devices_by_turns() {
    run(|| async {
        let plane = Plane::start().await;
        plane.add_controllers();
        two_nodes(&plane).await;
        let template =
            json!({"metadata": {"name": "one"}, "spec": {"spec": {"devices": one_gpu()}}});
        create(
            &plane,
            "resourceclaimtemplates",
            NAMESPACE,
            template,
            "ResourceClaimTemplate",
        )
        .await;
        let asks = json!({"spec": {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one"}]}});
        for number in 0..5 {
            plane
                .pod(&format!("pod-{number}"), "100m", asks.clone())
                .await;
        }
        let settled = async {
            loop {
                let pods = plane.pods().await;
                let placed = |pod: &&Value| !crate::plane::node_of(pod).is_empty();
                let waits = |pod: &&Value| {
                    let message = crate::plane::condition(pod).map(|c| c["message"].clone());
                    let message = message.unwrap_or_default();
                    let message = message.as_str().unwrap_or_default();
                    message.starts_with("0/2 nodes are available: 2 cannot allocate all claims.")
                };
                let waiting: Vec<&Value> = pods.iter().filter(waits).collect();
                if let ([waiting], 4) = (&waiting[..], pods.iter().filter(placed).count()) {
                    return waiting["metadata"]["name"].as_str().unwrap().to_owned();
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let waiting = tokio::time::timeout(crate::plane::PATIENCE, settled).await;
        let waiting = waiting.unwrap();
        let first = ["pod-0", "pod-1"].into_iter().find(|name| *name != waiting);
        plane.delete(first.unwrap()).await;
        plane.placed(&waiting).await;
        let options = client::ListOptions::default();
        let claims = plane
            .client
            .list(devices("resourceclaims"), NAMESPACE, &options);
        let claims = claims.await.unwrap().items;
        let mut given: Vec<String> = claims
            .iter()
            .filter_map(|claim| {
                let result = &claim["status"]["allocation"]["devices"]["results"][0];
                Some(format!(
                    "{}/{}",
                    result["pool"].as_str()?,
                    result["device"].as_str()?
                ))
            })
            .collect();
        given.sort();
        assert_eq!(given, ["a/gpu-0", "a/gpu-1", "b/gpu-0", "b/gpu-1"]);
    });
}

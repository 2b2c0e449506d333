//! Extended resources that devices stand for: which node serves a pod, the claim that is made, and its end.
//!
//! But in one story nobody gives claims back: the test does what the controller would.

use std::sync::atomic::AtomicUsize;

use client::{DeleteOptions, ListOptions, PatchType};
use meta::Value;
use rest::http::Method;
use value::json;

use crate::plane::{NAMESPACE, PATIENCE, Plane, condition, core, node_of, run};
use crate::preempting::Faulty;

const DRIVER: &str = "gpu.example.com";
const GPU: &str = "example.com/gpu";
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
const ANNOTATION: &str = "resource.kubernetes.io/extended-resource-claim";

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

async fn class(plane: &Plane, name: &str, resource: Option<&str>) {
    let mut object = json!({"metadata": {"name": name}, "spec": {"selectors": [
        {"cel": {"expression": format!("device.driver == \"{DRIVER}\"")}}]}});
    if let Some(resource) = resource {
        object["spec"]["extendedResourceName"] = resource.into();
    }
    create(plane, "deviceclasses", "", object, "DeviceClass").await;
}

/// A node with so many devices, which it tells nobody of but by its slice.
async fn node(plane: &Plane, name: &str, gpus: usize) {
    plane.node(name, "8", 110, json!({})).await;
    let all: Vec<Value> = (0..gpus)
        .map(|n| json!({"name": format!("gpu-{n}")}))
        .collect();
    let object = json!({"metadata": {"name": format!("slice-{name}")}, "spec": {"driver": DRIVER, "nodeName": name,
        "pool": {"name": name, "generation": 1, "resourceSliceCount": 1}, "devices": all}});
    create(plane, "resourceslices", "", object, "ResourceSlice").await;
}

/// A node with a device plugin.
async fn plugged(plane: &Plane, name: &str, gpus: &str) {
    let amounts = json!({"status": {"capacity": {GPU: gpus}, "allocatable": {GPU: gpus}}});
    plane.node(name, "8", 110, amounts).await;
}

fn asks(resource: &str, count: &str) -> Value {
    json!({"spec": {"containers": [{"name": "main", "image": "i", "resources": {
        "requests": {"cpu": "100m", "memory": "16Mi", resource: count}, "limits": {resource: count}}}]}})
}

async fn pod(plane: &Plane, name: &str, count: &str) -> Value {
    plane.pod(name, "100m", asks(GPU, count)).await
}

async fn claims(plane: &Plane) -> Vec<Value> {
    let options = ListOptions::default();
    let list = plane
        .client
        .list(devices("resourceclaims"), NAMESPACE, &options);
    list.await.unwrap().items
}

/// The claim that a pod says it has.
async fn claim_of(plane: &Plane, pod: &str) -> Value {
    let pod = plane.get(pod).await;
    let status = &pod["status"]["extendedResourceClaimStatus"];
    let name = status["resourceClaimName"].as_str().unwrap_or_default();
    let found = plane.client.get(devices("resourceclaims"), NAMESPACE, name);
    found.await.unwrap()
}

/// What controllers do once the pod is gone.
async fn give_back(plane: &Plane, claim: &Value) {
    let name = claim["metadata"]["name"].as_str().unwrap();
    let (client, resource) = (&plane.client, devices("resourceclaims"));
    let free = json!({"metadata": {"finalizers": null}});
    let patched = client.patch(resource, NAMESPACE, name, "", PatchType::Merge, &free);
    patched.await.unwrap();
    let options = DeleteOptions::default();
    let deleted = client.delete(resource, NAMESPACE, name, &options);
    deleted.await.unwrap();
}

async fn says(plane: &Plane, name: &str, message: &str) {
    plane
        .until(name, |pod| {
            condition(pod)
                .and_then(|c| c["message"].as_str())
                .is_some_and(|m| m.starts_with(message))
        })
        .await;
}

#[test]
fn devices_stand_for_a_resource_that_no_node_offers() {
    run(|| async {
        let plane = Plane::start().await;
        node(&plane, "a", 2).await;
        plane.node("bare", "8", 110, json!({})).await;
        pod(&plane, "first", "2").await;
        // Nobody knows the resource yet.
        says(
            &plane,
            "first",
            "0/2 nodes are available: 2 Insufficient example.com/gpu.",
        )
        .await;
        class(&plane, "gpu", Some(GPU)).await;
        assert_eq!(plane.placed("first").await, "a");
        let told = plane.get("first").await;
        let claim = claim_of(&plane, "first").await;
        let name = claim["metadata"]["name"].as_str().unwrap();
        assert!(name.starts_with("first-extended-resources-"), "{name}");
        assert_eq!(
            told["status"]["extendedResourceClaimStatus"],
            json!({"resourceClaimName": name, "requestMappings": [
                {"containerName": "main", "resourceName": GPU, "requestName": "container-0-request-1"}]})
        );
        let metadata = &claim["metadata"];
        assert_eq!(metadata["annotations"], json!({ANNOTATION: "true"}));
        assert_eq!(metadata["finalizers"], json!([FINALIZER]));
        assert_eq!(
            metadata["ownerReferences"],
            json!([{"apiVersion": "v1", "kind": "Pod", "name": "first", "uid": told["metadata"]["uid"],
                "controller": true}])
        );
        assert_eq!(
            claim["spec"]["devices"]["requests"],
            json!([{"name": "container-0-request-1", "exactly":
                {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}}])
        );
        assert_eq!(
            claim["status"]["reservedFor"],
            json!([{"resource": "pods", "name": "first", "uid": told["metadata"]["uid"]}])
        );
        let results = claim["status"]["allocation"]["devices"]["results"]
            .as_array()
            .unwrap();
        let given: Vec<&str> = results
            .iter()
            .filter_map(|one| one["device"].as_str())
            .collect();
        assert_eq!(given, ["gpu-0", "gpu-1"]);
        // None are left; the class's own name is as good.
        let implicit = asks("deviceclass.resource.kubernetes.io/gpu", "1");
        plane.pod("second", "100m", implicit).await;
        assert_eq!(
            plane.refused("second").await,
            "0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, preemption: 0/2 nodes \
             are available: 2 Preemption is not helpful for scheduling."
        );
        plane.delete("first").await;
        give_back(&plane, &claim).await;
        assert_eq!(plane.placed("second").await, "a");
        assert_eq!(claims(&plane).await.len(), 1);
    });
}

#[test]
fn each_node_serves_pods_in_its_own_way() {
    run(|| async {
        let plane = Plane::start().await;
        class(&plane, "gpu", Some(GPU)).await;
        node(&plane, "devices", 2).await;
        plugged(&plane, "plugin", "2").await;
        for number in 0..4 {
            pod(&plane, &format!("pod-{number}"), "1").await;
        }
        let mut with_claim = 0;
        for number in 0..4 {
            let name = format!("pod-{number}");
            let node = plane.placed(&name).await;
            let has_claim =
                plane.get(&name).await["status"]["extendedResourceClaimStatus"].is_object();
            assert_eq!(has_claim, node == "devices", "{name} is on {node}");
            with_claim += usize::from(has_claim);
        }
        assert_eq!((with_claim, claims(&plane).await.len()), (2, 2));
        pod(&plane, "more", "1").await;
        says(
            &plane,
            "more",
            "0/2 nodes are available: 1 Insufficient example.com/gpu, 1 cannot allocate all claims. \
             still not schedulable",
        )
        .await;
        // A node that comes to offer the resource is as good as one with devices.
        plane.node("late", "8", 110, json!({})).await;
        let amounts = json!({"status": {"capacity": {GPU: "1"}, "allocatable": {GPU: "1"}}});
        let patched = plane.client.patch(
            core("nodes"),
            "",
            "late",
            "status",
            PatchType::Merge,
            &amounts,
        );
        patched.await.unwrap();
        assert_eq!(plane.placed("more").await, "late");
        assert_eq!(claims(&plane).await.len(), 2);
    });
}

#[test]
fn containers_that_end_and_claims_of_its_own_are_counted_together() {
    run(|| async {
        let plane = Plane::start().await;
        class(&plane, "gpu", Some(GPU)).await;
        node(&plane, "a", 4).await;
        let own = json!({"metadata": {"name": "own"}, "spec": {"devices": {"requests": [
            {"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}}});
        create(&plane, "resourceclaims", NAMESPACE, own, "ResourceClaim").await;
        let with = |name: &str, count: &str| json!({"name": name, "image": "i", "resources": {"limits": {GPU: count}}});
        let more = json!({"spec": {"initContainers": [with("init", "3")],
            "containers": [with("main", "1"), with("side", "1")],
            "resourceClaims": [{"name": "own", "resourceClaimName": "own"}]}});
        plane.pod("all", "100m", more).await;
        assert_eq!(plane.placed("all").await, "a");
        let claim = claim_of(&plane, "all").await;
        let results = claim["status"]["allocation"]["devices"]["results"]
            .as_array()
            .unwrap();
        let given: Vec<(&str, &str)> = results
            .iter()
            .map(|one| {
                (
                    one["request"].as_str().unwrap(),
                    one["device"].as_str().unwrap(),
                )
            })
            .collect();
        // The pod's own claim comes first.
        assert_eq!(
            given,
            [
                ("container-0-request-0", "gpu-1"),
                ("container-1-request-0", "gpu-2"),
                ("container-2-request-0", "gpu-3")
            ]
        );
        let pod = plane.get("all").await;
        let mappings = pod["status"]["extendedResourceClaimStatus"]["requestMappings"].as_array();
        let mappings: Vec<String> = mappings
            .unwrap()
            .iter()
            .map(|one| {
                let text = |field: &str| one[field].as_str().unwrap();
                format!("{} {}", text("containerName"), text("requestName"))
            })
            .collect();
        assert_eq!(
            mappings,
            [
                "main container-1-request-0",
                "side container-2-request-0",
                "init container-1-request-0",
                "init container-2-request-0",
                "init container-0-request-0"
            ]
        );
        // More than a claim may have is an error of the pod's.
        pod_that_asks_too_much(&plane).await;
    });
}

async fn pod_that_asks_too_much(plane: &Plane) {
    node(plane, "b", 1).await;
    pod(plane, "greedy", "40").await;
    let told = plane.until("greedy", |pod| condition(pod).is_some()).await;
    let condition = condition(&told).unwrap();
    assert_eq!(condition["reason"], "SchedulerError");
    assert_eq!(
        condition["message"],
        "running \"DynamicResources\" filter plugin: claim default/<extended-resources>: number of requested devices \
         40 exceeds the claim limit of 32"
    );
}

#[test]
fn a_claim_that_is_left_is_deleted_first() {
    run(|| async {
        let plane = Plane::start().await;
        node(&plane, "a", 1).await;
        let waiting = pod(&plane, "p", "1").await;
        says(
            &plane,
            "p",
            "0/1 nodes are available: 1 Insufficient example.com/gpu.",
        )
        .await;
        // What a scheduler leaves that ends between two requests.
        let left = json!({"metadata": {"name": "left", "annotations": {ANNOTATION: "true"}, "finalizers": [FINALIZER],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": waiting["metadata"]["uid"],
                "controller": true}]}, "spec": {"devices": {"requests": [
            {"name": "container-0-request-1", "exactly": {"deviceClassName": "gpu"}}]}}});
        create(&plane, "resourceclaims", NAMESPACE, left, "ResourceClaim").await;
        class(&plane, "gpu", Some(GPU)).await;
        assert_eq!(plane.placed("p").await, "a");
        let names: Vec<Value> = claims(&plane)
            .await
            .iter()
            .map(|c| c["metadata"]["name"].clone())
            .collect();
        assert_eq!(names.len(), 1);
        assert_ne!(names[0], "left");
        let message = "0/1 nodes are available: 1 cannot schedule extended resource claim. deletion of ResourceClaim \
            completed, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
        let told = async {
            loop {
                let options = ListOptions::default();
                let events = plane.client.list(core("events"), NAMESPACE, &options);
                let events = events.await.unwrap().items;
                if events.iter().any(|event| event["message"] == message) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told)
            .await
            .expect("nobody was told");
    });
}

#[test]
fn a_claim_is_deleted_again_when_binding_fails() {
    run(|| async {
        for path in ["/pods/p/binding", "/pods/p/status"] {
            // A status is written four times before it is given up.
            let failures = if path.ends_with("status") { 4 } else { 1 };
            let plane = Plane::start_through(|api| {
                std::sync::Arc::new(Faulty {
                    api,
                    meant: Box::new(move |request| {
                        request.method != Method::Get && request.path.ends_with(path)
                    }),
                    failures: AtomicUsize::new(failures),
                    status: 500,
                    delete_first: None,
                })
            })
            .await;
            class(&plane, "gpu", Some(GPU)).await;
            node(&plane, "a", 1).await;
            pod(&plane, "p", "1").await;
            assert_eq!(plane.placed("p").await, "a", "{path}");
            let only = claim_of(&plane, "p").await;
            assert_eq!(claims(&plane).await, [only], "{path}");
        }
    });
}

/// With the gate on, a rule keeps pods away from devices for as long as it is there; with the gate off it does not.
#[test]
fn devices_that_a_rule_taints_are_not_given() {
    run(|| async {
        for heeded in [true, false] {
            let plane = Plane::start_serving(&[("resource.k8s.io", "v1beta2")]).await;
            let rules = schema::resource("resource.k8s.io", "v1beta2", "devicetaintrules").unwrap();
            let rule = json!({"apiVersion": "resource.k8s.io/v1beta2", "kind": "DeviceTaintRule",
                "metadata": {"name": "r"}, "spec": {"deviceSelector": {"driver": DRIVER, "device": "gpu-0"},
                "taint": {"key": "hot", "effect": "NoSchedule"}}});
            plane.client.create(rules, "", &rule).await.unwrap();
            class(&plane, "gpu", Some(GPU)).await;
            node(&plane, "a", 2).await;
            plane.add_scheduler(|config| config.device_taint_rules = heeded);
            pod(&plane, "first", "1").await;
            plane.placed("first").await;
            let claim = claim_of(&plane, "first").await;
            let device = &claim["status"]["allocation"]["devices"]["results"][0]["device"];
            assert_eq!(device, if heeded { "gpu-1" } else { "gpu-0" });
            pod(&plane, "second", "1").await;
            if heeded {
                says(
                    &plane,
                    "second",
                    "0/1 nodes are available: 1 cannot allocate all claims.",
                )
                .await;
                let options = DeleteOptions::default();
                plane.client.delete(rules, "", "r", &options).await.unwrap();
            }
            plane.placed("second").await;
        }
    });
}

/// Scheduler and controllers together: the device comes back with the pod, or when it ends.
#[test]
fn three_pods_share_a_device_by_turns() {
    run(|| async {
        let plane = Plane::start().await;
        plane.add_controllers();
        class(&plane, "gpu", Some(GPU)).await;
        node(&plane, "a", 1).await;
        for name in ["one", "two", "three"] {
            pod(&plane, name, "1").await;
        }
        let mut left = vec!["one", "two", "three"];
        while !left.is_empty() {
            let next = async {
                loop {
                    for name in &left {
                        if !node_of(&plane.get(name).await).is_empty() {
                            return *name;
                        }
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            };
            let next = tokio::time::timeout(PATIENCE, next)
                .await
                .expect("nobody got the device");
            left.retain(|name| *name != next);
            if left.len() == 1 {
                let done = json!({"status": {"phase": "Succeeded"}});
                let patched = plane.client.patch(
                    core("pods"),
                    NAMESPACE,
                    next,
                    "status",
                    PatchType::Merge,
                    &done,
                );
                patched.await.unwrap();
            } else {
                plane.delete(next).await;
            }
        }
        let gone = async {
            while !claims(&plane).await.is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone)
            .await
            .expect("claims are left");
    });
}

//! Resource claims over a real API server: made from templates, given up with their pods.
//!
//! Scheduler and kubelet are played by the test, a line each. Final states are asserted; how long they take is not.

use std::sync::Arc;
use std::time::Duration;

use apiserver::Api;
use client::{Client, DeleteOptions, ListOptions, PatchType};
use controllers::{ControllersConfig, ControllersProgress};
use schema::Resource;
use store::{Store, StoreConfig};
use tokio::sync::watch;
use value::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "default";
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

fn pods() -> &'static Resource {
    schema::resource("", "v1", "pods").unwrap()
}

fn claims() -> &'static Resource {
    schema::resource("resource.k8s.io", "v1", "resourceclaims").unwrap()
}

fn templates() -> &'static Resource {
    schema::resource("resource.k8s.io", "v1", "resourceclaimtemplates").unwrap()
}

async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap()
}

async fn all(client: &Client) -> Vec<Value> {
    let options = ListOptions::default();
    client
        .list(claims(), NAMESPACE, &options)
        .await
        .unwrap()
        .items
}

async fn write_status(client: &Client, resource: &'static Resource, name: &str, status: Value) {
    let body = json!({"status": status});
    let patched = client.patch(resource, NAMESPACE, name, "status", PatchType::Merge, &body);
    patched.await.unwrap();
}

/// What the scheduler writes.
async fn allocate(client: &Client, claim: &str, pod: &Value) {
    let body = json!({"metadata": {"finalizers": [FINALIZER]}});
    let patched = client.patch(claims(), NAMESPACE, claim, "", PatchType::Merge, &body);
    patched.await.unwrap();
    let metadata = &pod["metadata"];
    let status = json!({
        "allocation": {"devices": {"results": [{"request": "gpu", "driver": "d.example.com", "pool": "p", "device": "d"}]}},
        "reservedFor": [{"resource": "pods", "name": metadata["name"], "uid": metadata["uid"]}]});
    write_status(client, claims(), claim, status).await;
}

fn pod(name: &str, claim: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "i"}], "resourceClaims": [claim]}})
}

fn spec() -> Value {
    json!({"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}})
}

/// A client of a plane with controllers, which end with what comes beside it.
async fn start() -> (Client, [watch::Sender<bool>; 2]) {
    start_with(ControllersConfig::default()).await
}

async fn start_with(config: ControllersConfig) -> (Client, [watch::Sender<bool>; 2]) {
    let (stop_api, stopping) = watch::channel(false);
    let store = Arc::new(Store::new(StoreConfig::default()));
    let api = Api::serving(store, stopping, &[("resource.k8s.io", "v1beta2")]);
    api.bootstrap("127.0.0.1:6443".parse().unwrap())
        .await
        .unwrap();
    let client = Client::new(Arc::new(api), Some(Api::system_user()), "test");
    let (stop, stopped) = watch::channel(false);
    let progress = Arc::new(ControllersProgress::default());
    tokio::spawn(controllers::run(client.clone(), config, progress, stopped));
    until(async || {
        let account = schema::resource("", "v1", "serviceaccounts").unwrap();
        client.get(account, NAMESPACE, "default").await.ok()
    })
    .await;
    (client, [stop_api, stop])
}

/// A slice whose one device has these taints.
async fn slice(client: &Client, taints: Value) {
    let slices = schema::resource("resource.k8s.io", "v1", "resourceslices").unwrap();
    let slice = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"},
        "spec": {"driver": "d.example.com", "nodeName": "n1", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "other"}, {"name": "d", "taints": taints}]}});
    match client.create(slices, "", &slice).await {
        Ok(_) => {}
        Err(error) if error.is_already_exists() => {
            let patch = json!({"spec": slice["spec"]});
            let patched = client.patch(slices, "", "s", "", PatchType::Merge, &patch);
            patched.await.unwrap();
        }
        Err(error) => panic!("{error}"),
    }
}

/// A pod on a node, with a claim of its name that is allocated.
async fn user(client: &Client, name: &str) {
    let claim = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}, "spec": spec()});
    client.create(claims(), NAMESPACE, &claim).await.unwrap();
    let mut body = pod(name, json!({"name": "gpu", "resourceClaimName": name}));
    body["spec"]["nodeName"] = "n1".into();
    let made = client.create(pods(), NAMESPACE, &body).await.unwrap();
    allocate(client, name, &made).await;
}

/// Waits until a pod is told to go, and checks what is said.
async fn leaves(client: &Client, name: &str) {
    let gone = until(async || {
        let pod = client.get(pods(), NAMESPACE, name).await.unwrap();
        (!pod["metadata"]["deletionTimestamp"].is_null()).then_some(pod)
    })
    .await;
    let conditions = gone["status"]["conditions"].as_array().unwrap();
    let marked = conditions
        .iter()
        .find(|one| one["type"] == "DisruptionTarget");
    let marked = marked.unwrap();
    assert_eq!(marked["reason"], "DeletionByDeviceTaintManager");
    assert_eq!(
        marked["message"],
        "Device Taint manager: deleting due to NoExecute taint"
    );
}

#[tokio::test]
async fn pods_leave_devices_that_are_tainted() {
    let (client, _stop) = start().await;
    // Without its node a pod would be garbage.
    let nodes = schema::resource("", "v1", "nodes").unwrap();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    client.create(nodes, "", &node).await.unwrap();
    let taint = |effect: &str| json!([{"key": "d.example.com/hot", "effect": effect}]);
    slice(&client, taint("NoSchedule")).await;
    user(&client, "first").await;
    slice(&client, taint("NoExecute")).await;
    leaves(&client, "first").await;
    // One that comes to a tainted device goes as well.
    user(&client, "second").await;
    leaves(&client, "second").await;
}

#[tokio::test]
async fn pods_leave_devices_that_a_rule_taints_and_its_status_tells_of_it() {
    let config = ControllersConfig {
        device_taint_rules: true,
        ..ControllersConfig::default()
    };
    let (client, _stop) = start_with(config).await;
    let nodes = schema::resource("", "v1", "nodes").unwrap();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    client.create(nodes, "", &node).await.unwrap();
    slice(&client, json!([])).await;
    user(&client, "first").await;
    let rules = schema::resource("resource.k8s.io", "v1beta2", "devicetaintrules").unwrap();
    let rule = json!({"apiVersion": "resource.k8s.io/v1beta2", "kind": "DeviceTaintRule", "metadata": {"name": "r"},
        "spec": {"deviceSelector": {"driver": "d.example.com", "pool": "p"}, "taint": {"key": "d.example.com/hot", "effect": "None"}}});
    client.create(rules, "", &rule).await.unwrap();
    let says = async |message: &str| {
        until(async || {
            let rule = client.get(rules, "", "r").await.unwrap();
            let condition = rule["status"]["conditions"][0].clone();
            (condition["message"] == message).then_some(condition)
        })
        .await
    };
    let condition = says(
        "2 published devices selected. 1 allocated device selected. 1 pod would be evicted in 1 namespace if the effect was \
         NoExecute. This information will not be updated again. Recreate the DeviceTaintRule to trigger an update.",
    )
    .await;
    assert_eq!(
        (
            &condition["type"],
            &condition["status"],
            &condition["reason"],
            &condition["observedGeneration"]
        ),
        (
            &json!("EvictionInProgress"),
            &json!("False"),
            &json!("NoEffect"),
            &json!(1)
        )
    );
    // Nobody goes for that.
    let first = client.get(pods(), NAMESPACE, "first").await.unwrap();
    assert!(first["metadata"]["deletionTimestamp"].is_null());
    let hard = json!({"spec": {"taint": {"effect": "NoExecute"}}});
    let patched = client.patch(rules, "", "r", "", PatchType::Merge, &hard);
    patched.await.unwrap();
    leaves(&client, "first").await;
    let condition = says("1 pod evicted since starting the controller.").await;
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&json!("False"), &json!("Completed"))
    );
}

#[tokio::test]
async fn claims_come_and_go_with_their_pods() {
    let (client, _stop) = start().await;

    // The template may come after the pod.
    let asks = json!({"name": "gpu", "resourceClaimTemplateName": "one"});
    let web = client
        .create(pods(), NAMESPACE, &pod("web", asks))
        .await
        .unwrap();
    let template = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "one"},
        "spec": {"metadata": {"labels": {"app": "web"}}, "spec": spec()}});
    client
        .create(templates(), NAMESPACE, &template)
        .await
        .unwrap();
    let made = until(async || {
        let pod = client.get(pods(), NAMESPACE, "web").await.unwrap();
        let status = &pod["status"]["resourceClaimStatuses"][0];
        status["resourceClaimName"].as_str().map(ToOwned::to_owned)
    })
    .await;
    assert!(made.starts_with("web-gpu-") && made.len() == "web-gpu-".len() + 5);
    assert_eq!(all(&client).await.len(), 1);
    let claim = client.get(claims(), NAMESPACE, &made).await.unwrap();
    assert_eq!(claim["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(
        claim["metadata"]["annotations"]["resource.kubernetes.io/pod-claim-name"],
        "gpu"
    );
    assert_eq!(
        claim["metadata"]["ownerReferences"][0]["uid"],
        web["metadata"]["uid"]
    );
    let exactly = &claim["spec"]["devices"]["requests"][0]["exactly"];
    assert_eq!(
        (&exactly["allocationMode"], &exactly["count"]),
        (&json!("ExactCount"), &json!(1))
    );

    // A pod that has ended gives its claim up, though it stays itself.
    allocate(&client, &made, &web).await;
    write_status(&client, pods(), "web", json!({"phase": "Succeeded"})).await;
    until(async || all(&client).await.is_empty().then_some(())).await;

    // A claim that was made by hand stays, and is free again.
    let by_hand = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "hand"}, "spec": spec()});
    client.create(claims(), NAMESPACE, &by_hand).await.unwrap();
    let asks = json!({"name": "gpu", "resourceClaimName": "hand"});
    let user = client
        .create(pods(), NAMESPACE, &pod("user", asks))
        .await
        .unwrap();
    allocate(&client, "hand", &user).await;
    let now = DeleteOptions {
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    client
        .delete(pods(), NAMESPACE, "user", &now)
        .await
        .unwrap();
    until(async || {
        let claim = client.get(claims(), NAMESPACE, "hand").await.unwrap();
        let free = claim["status"]["allocation"].is_null()
            && claim["status"]["reservedFor"].is_null()
            && claim["metadata"]["finalizers"].is_null();
        free.then_some(())
    })
    .await;

    // One that is deleted while it is used goes with its last user.
    let asks = json!({"name": "gpu", "resourceClaimName": "hand"});
    let user = client
        .create(pods(), NAMESPACE, &pod("last", asks))
        .await
        .unwrap();
    allocate(&client, "hand", &user).await;
    client
        .delete(claims(), NAMESPACE, "hand", &DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(all(&client).await.len(), 1);
    client
        .delete(pods(), NAMESPACE, "last", &now)
        .await
        .unwrap();
    until(async || all(&client).await.is_empty().then_some(())).await;
}

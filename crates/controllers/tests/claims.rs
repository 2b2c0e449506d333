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

#[tokio::test]
async fn claims_come_and_go_with_their_pods() {
    let (_stop_api, stopping) = watch::channel(false);
    let api = Api::new(Arc::new(Store::new(StoreConfig::default())), stopping);
    api.bootstrap("127.0.0.1:6443".parse().unwrap())
        .await
        .unwrap();
    let client = Client::new(Arc::new(api), Some(Api::system_user()), "test");
    let (_stop, stopped) = watch::channel(false);
    let progress = Arc::new(ControllersProgress::default());
    tokio::spawn(controllers::run(
        client.clone(),
        ControllersConfig::default(),
        progress,
        stopped,
    ));
    until(async || {
        let account = schema::resource("", "v1", "serviceaccounts").unwrap();
        client.get(account, NAMESPACE, "default").await.ok()
    })
    .await;

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

//! Whole flows: the controllers over a real API server on an empty store, in one process, with a kubelet of a few
//! lines. Final states are asserted; how long they take is not.

use std::sync::Arc;
use std::time::Duration;

use apiserver::Api;
use client::{Client, ClientError, DeleteOptions, ListOptions, PatchType, Propagation};
use controllers::{ControllersConfig, ControllersProgress};
use schema::Resource;
use serde_json::{Value, json};
use store::{Store, StoreConfig};
use tokio::sync::watch;

/// Generous: a loaded machine is slow, and a failed test may take its time.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

struct Plane {
    client: Client,
    progress: Arc<ControllersProgress>,
    /// Of the API server, of the controllers.
    stop: (watch::Sender<bool>, watch::Sender<bool>),
}

fn resource(api_version: &str, name: &str) -> &'static Resource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    schema::resources()
        .iter()
        .find(|resource| {
            (resource.group, resource.version, resource.resource) == (group, version, name)
        })
        .unwrap()
}

fn pods() -> &'static Resource {
    resource("v1", "pods")
}

async fn start(config: ControllersConfig) -> Plane {
    let store = Arc::new(Store::new(StoreConfig::default()));
    let (stop_api, stopping) = watch::channel(false);
    let api = Api::new(store, stopping);
    api.bootstrap("127.0.0.1:6443".parse().unwrap())
        .await
        .unwrap();
    let client = Client::new(Arc::new(api), Some(Api::system_user()), "test");
    let (progress, stop) = start_controllers(&client, config);
    Plane {
        client,
        progress,
        stop: (stop_api, stop),
    }
}

fn start_controllers(
    client: &Client,
    config: ControllersConfig,
) -> (Arc<ControllersProgress>, watch::Sender<bool>) {
    let progress = Arc::new(ControllersProgress::default());
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(controllers::run(
        client.clone(),
        config,
        progress.clone(),
        stopped,
    ));
    (progress, stop)
}

impl Plane {
    async fn create(&self, object: Value) -> Value {
        let kind = object["kind"].as_str().unwrap();
        let api_version = object["apiVersion"].as_str().unwrap();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = schema::resource_for_kind(group, version, kind).unwrap();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        self.client
            .create(resource, namespace, &object)
            .await
            .unwrap()
    }

    async fn get(&self, resource: &'static Resource, namespace: &str, name: &str) -> Option<Value> {
        match self.client.get(resource, namespace, name).await {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn list(&self, resource: &'static Resource, namespace: &str) -> Vec<Value> {
        self.client
            .list(resource, namespace, &ListOptions::default())
            .await
            .unwrap()
            .items
    }

    async fn patch(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        sub: &str,
        patch: Value,
    ) {
        let result = self
            .client
            .patch(
                resource,
                namespace,
                name,
                sub,
                PatchType::StrategicMerge,
                &patch,
            )
            .await;
        result.unwrap();
    }

    async fn delete(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        how: Propagation,
    ) {
        let options = DeleteOptions {
            propagation: Some(how),
            ..DeleteOptions::default()
        };
        self.client
            .delete(resource, namespace, name, &options)
            .await
            .unwrap();
    }
}

/// Waits until `check` holds.
async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !check().await {
        assert!(
            tokio::time::Instant::now() < until,
            "never happened: {what}"
        );
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Binds pods to `n1`, lets them run and become ready, ends those of Jobs, and removes deleted ones.
fn kubelet(client: Client) {
    tokio::spawn(async move {
        let mut number = 0;
        loop {
            let all = client
                .list(pods(), "", &ListOptions::default())
                .await
                .unwrap()
                .items;
            for pod in all {
                number += 1;
                // Somebody else may have been faster.
                let _ = step(&client, &pod, number).await;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    });
}

async fn step(client: &Client, pod: &Value, number: u32) -> Result<(), ClientError> {
    let (namespace, name, uid) = (
        meta::object::namespace(pod),
        meta::object::name(pod),
        meta::object::uid(pod),
    );
    let bound = pod["spec"]["nodeName"].is_string();
    let phase = pod["status"]["phase"].as_str().unwrap_or("Pending");
    if meta::object::is_deleting(pod) {
        let now = DeleteOptions {
            uid: uid.into(),
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        return client.delete(pods(), namespace, name, &now).await;
    }
    if !bound {
        return client.bind(namespace, name, uid, "n1").await;
    }
    let is_job = meta::object::owner_references(pod)
        .iter()
        .any(|owner| owner["kind"] == "Job");
    let status = match phase {
        "Pending" => {
            let ip = format!("10.0.{}.{}", number / 250 % 250, number % 250 + 1);
            json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                   "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        }
        "Running" if is_job => {
            json!({"phase": "Succeeded", "conditions": [{"type": "Ready", "status": "False"}]})
        }
        _ => return Ok(()),
    };
    client
        .patch(
            pods(),
            namespace,
            name,
            "status",
            PatchType::StrategicMerge,
            &json!({"status": status}),
        )
        .await
        .map(drop)
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn deployment(namespace: &str, replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": namespace},
           "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template("i:1")}})
}

fn replica_set(name: &str, replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": "default"},
           "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template("i:1")}})
}

async fn is_available(plane: &Plane, namespace: &str, replicas: u32) -> bool {
    let deployment = plane
        .get(resource("apps/v1", "deployments"), namespace, "web")
        .await
        .unwrap();
    let status = &deployment["status"];
    ["replicas", "updatedReplicas", "availableReplicas"]
        .iter()
        .all(|field| status[field] == replicas)
        && status["observedGeneration"] == deployment["metadata"]["generation"]
        && plane.list(pods(), namespace).await.len() == replicas as usize
}

#[tokio::test]
async fn a_deployment_rolls_out_scales_updates_and_is_deleted() {
    let plane = start(ControllersConfig::default()).await;
    kubelet(plane.client.clone());
    let (deployments, sets) = (
        resource("apps/v1", "deployments"),
        resource("apps/v1", "replicasets"),
    );
    plane.create(deployment("default", 3)).await;
    eventually("3 available", async || {
        is_available(&plane, "default", 3).await
    })
    .await;
    for replicas in [7, 2] {
        plane
            .patch(
                deployments,
                "default",
                "web",
                "",
                json!({"spec": {"replicas": replicas}}),
            )
            .await;
        eventually("scaled", async || {
            is_available(&plane, "default", replicas).await
        })
        .await;
    }
    plane
        .patch(
            deployments,
            "default",
            "web",
            "",
            json!({"spec": {"template": template("i:2")}}),
        )
        .await;
    eventually("updated", async || {
        let all = plane.list(pods(), "default").await;
        is_available(&plane, "default", 2).await
            && all
                .iter()
                .all(|pod| pod["spec"]["containers"][0]["image"] == "i:2")
            && plane.list(sets, "default").await.len() == 2
    })
    .await;
    let shown = plane.get(deployments, "default", "web").await.unwrap();
    assert_eq!(
        shown["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "2"
    );
    eventually("events", async || {
        let events = plane.list(resource("v1", "events"), "default").await;
        let has = |reason: &str| events.iter().any(|event| event["reason"] == reason);
        has("ScalingReplicaSet") && has("SuccessfulCreate") && has("SuccessfulDelete")
    })
    .await;
    plane
        .delete(deployments, "default", "web", Propagation::Background)
        .await;
    eventually("all gone", async || {
        plane.list(sets, "default").await.is_empty()
            && plane.list(pods(), "default").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn foreground_deletion_takes_the_owner_last_and_orphaning_leaves_the_pods() {
    let plane = start(ControllersConfig::default()).await;
    kubelet(plane.client.clone());
    let (deployments, sets) = (
        resource("apps/v1", "deployments"),
        resource("apps/v1", "replicasets"),
    );
    plane.create(deployment("default", 3)).await;
    eventually("3 available", async || {
        is_available(&plane, "default", 3).await
    })
    .await;
    plane
        .delete(deployments, "default", "web", Propagation::Foreground)
        .await;
    eventually("all gone", async || {
        // Dependents may be there without their owner for no moment.
        let owner = plane.get(deployments, "default", "web").await;
        let left =
            plane.list(sets, "default").await.len() + plane.list(pods(), "default").await.len();
        assert!(owner.is_some() || left == 0, "the owner went first");
        owner.is_none()
    })
    .await;

    plane.create(replica_set("web", 3)).await;
    eventually("3 pods", async || {
        plane.list(pods(), "default").await.len() == 3
    })
    .await;
    plane
        .delete(sets, "default", "web", Propagation::Orphan)
        .await;
    eventually("orphaned", async || {
        plane.list(sets, "default").await.is_empty()
    })
    .await;
    let orphans = plane.list(pods(), "default").await;
    assert_eq!(orphans.len(), 3);
    assert!(orphans.iter().all(
        |pod| meta::object::owner_references(pod).is_empty() && !meta::object::is_deleting(pod)
    ));

    // A new ReplicaSet adopts what matches it instead of making its own.
    let names = |pods: &[Value]| {
        pods.iter()
            .map(|pod| meta::object::name(pod).to_owned())
            .collect::<Vec<_>>()
    };
    plane.create(replica_set("again", 3)).await;
    eventually("adopted", async || {
        let pods = plane.list(pods(), "default").await;
        pods.iter()
            .all(|pod| !meta::object::owner_references(pod).is_empty())
    })
    .await;
    assert_eq!(names(&plane.list(pods(), "default").await), names(&orphans));
}

#[tokio::test]
async fn two_thousand_replicas_are_made_once_each() {
    let plane = start(ControllersConfig::default()).await;
    let sets = resource("apps/v1", "replicasets");
    plane.create(replica_set("web", 2000)).await;
    eventually("2000 replicas", async || {
        let set = plane.get(sets, "default", "web").await.unwrap();
        set["status"]["replicas"] == 2000
    })
    .await;
    assert_eq!(plane.list(pods(), "default").await.len(), 2000);
    let created = plane
        .progress
        .requests
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!(created < 2500, "{created} requests for 2000 pods");
    plane
        .patch(
            sets,
            "default",
            "web",
            "",
            json!({"spec": {"replicas": 10}}),
        )
        .await;
    eventually("10 replicas", async || {
        plane.list(pods(), "default").await.len() == 10
    })
    .await;
    eventually("its status", async || {
        plane.get(sets, "default", "web").await.unwrap()["status"]["replicas"] == 10
    })
    .await;
}

#[tokio::test]
async fn controllers_that_are_stopped_halfway_are_carried_on_by_the_next() {
    let mut plane = start(ControllersConfig {
        requests_in_flight_max: 8,
        ..ControllersConfig::default()
    })
    .await;
    let sets = resource("apps/v1", "replicasets");
    plane.create(replica_set("web", 3000)).await;
    eventually("some pods", async || {
        plane.list(pods(), "default").await.len() > 20
    })
    .await;
    plane.stop.1.send(true).unwrap();
    // Requests under way may still arrive while the next ones start.
    (plane.progress, plane.stop.1) = start_controllers(&plane.client, ControllersConfig::default());
    eventually("3000 replicas", async || {
        let set = plane.get(sets, "default", "web").await.unwrap();
        set["status"]["replicas"] == 3000 && plane.list(pods(), "default").await.len() == 3000
    })
    .await;
}

#[tokio::test]
async fn a_replication_controller_replaces_what_is_deleted() {
    let plane = start(ControllersConfig::default()).await;
    kubelet(plane.client.clone());
    plane
        .create(json!({"apiVersion": "v1", "kind": "ReplicationController",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": 2, "selector": {"app": "web"}, "template": template("i:1")}}))
        .await;
    let ready = async || {
        let set = plane
            .get(resource("v1", "replicationcontrollers"), "default", "web")
            .await
            .unwrap();
        set["status"]["readyReplicas"] == 2
    };
    eventually("2 ready", ready).await;
    let before = plane.list(pods(), "default").await;
    let first = meta::object::name(&before[0]).to_owned();
    plane
        .delete(pods(), "default", &first, Propagation::Background)
        .await;
    eventually("replaced", async || {
        let pods = plane.list(pods(), "default").await;
        pods.len() == 2 && pods.iter().all(|pod| meta::object::name(pod) != first)
    })
    .await;
}

#[tokio::test]
async fn a_namespace_is_furnished_and_later_emptied_and_gone() {
    let config = ControllersConfig {
        ca_certificate_pem: Some("PEM".into()),
        ..ControllersConfig::default()
    };
    let plane = start(config).await;
    kubelet(plane.client.clone());
    let namespaces = resource("v1", "namespaces");
    plane
        .create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}))
        .await;
    eventually("furnished", async || {
        plane
            .get(resource("v1", "serviceaccounts"), "shop", "default")
            .await
            .is_some()
            && plane
                .get(resource("v1", "configmaps"), "shop", "kube-root-ca.crt")
                .await
                .is_some()
    })
    .await;
    let map = plane
        .get(resource("v1", "configmaps"), "shop", "kube-root-ca.crt")
        .await
        .unwrap();
    assert_eq!(map["data"]["ca.crt"], "PEM");

    plane
        .create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
                       "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}))
        .await;
    plane.create(deployment("shop", 3)).await;
    let slices = resource("discovery.k8s.io/v1", "endpointslices");
    eventually("endpoints", async || {
        let all = plane.list(slices, "shop").await;
        let ready = all
            .iter()
            .flat_map(|slice| meta::object::array_at(slice, &["endpoints"]));
        all.len() == 1
            && ready
                .filter(|endpoint| endpoint["conditions"]["ready"] == true)
                .count()
                == 3
    })
    .await;

    plane
        .delete(namespaces, "", "shop", Propagation::Background)
        .await;
    eventually("namespace gone", async || {
        plane.get(namespaces, "", "shop").await.is_none()
    })
    .await;
    for (api_version, name) in [
        ("v1", "pods"),
        ("v1", "services"),
        ("v1", "configmaps"),
        ("v1", "events"),
        ("apps/v1", "replicasets"),
        ("discovery.k8s.io/v1", "endpointslices"),
    ] {
        assert_eq!(
            plane.list(resource(api_version, name), "shop").await,
            Vec::<Value>::new(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_job_counts_each_pod_once_and_completes() {
    let plane = start(ControllersConfig::default()).await;
    kubelet(plane.client.clone());
    let jobs = resource("batch/v1", "jobs");
    plane
        .create(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sum", "namespace": "default"},
            "spec": {"completions": 7, "parallelism": 3, "template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}))
        .await;
    eventually("complete", async || {
        let job = plane.get(jobs, "default", "sum").await.unwrap();
        let conditions = meta::object::array_at(&job, &["status", "conditions"]);
        conditions
            .iter()
            .any(|condition| condition["type"] == "Complete" && condition["status"] == "True")
    })
    .await;
    let job = plane.get(jobs, "default", "sum").await.unwrap();
    assert_eq!(job["status"]["succeeded"], 7);
    let all = plane.list(pods(), "default").await;
    assert_eq!(all.len(), 7);
    eventually("released", async || {
        plane
            .list(pods(), "default")
            .await
            .iter()
            .all(|pod| meta::object::finalizers(pod).count() == 0)
    })
    .await;
    plane
        .delete(jobs, "default", "sum", Propagation::Background)
        .await;
    eventually("pods gone", async || {
        plane.list(pods(), "default").await.is_empty()
    })
    .await;
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": ready()})
}

fn ready() -> Value {
    let now = meta::time::format_seconds(apiserver::now_micros());
    json!({"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                           "lastHeartbeatTime": now, "lastTransitionTime": now}]})
}

/// Renews the Lease of a node as long as `alive` says so.
fn heartbeats(client: Client, name: &'static str, alive: watch::Receiver<bool>) {
    tokio::spawn(async move {
        let leases = resource("coordination.k8s.io/v1", "leases");
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": {"holderIdentity": name}});
        client
            .create(leases, "kube-node-lease", &lease)
            .await
            .unwrap();
        loop {
            if *alive.borrow() {
                let patch = json!({"spec": {"renewTime": meta::time::format_micros(apiserver::now_micros())}});
                client
                    .patch(
                        leases,
                        "kube-node-lease",
                        name,
                        "",
                        PatchType::Merge,
                        &patch,
                    )
                    .await
                    .unwrap();
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
}

#[tokio::test]
async fn a_silent_node_is_marked_tainted_emptied_and_comes_back() {
    let mut config = ControllersConfig::default();
    config.node_lifecycle.grace_micros = 3_000_000;
    config.node_lifecycle.eviction_interval_micros = 10_000;
    let plane = start(config).await;
    let nodes = resource("v1", "nodes");
    let (_loud, loud) = watch::channel(true);
    let (silence, alive) = watch::channel(true);
    for (name, alive) in [("n1", loud), ("n2", alive)] {
        plane.create(node(name)).await;
        heartbeats(plane.client.clone(), name, alive);
    }
    // This one tolerates no taint and does not say for how long it would.
    plane
        .create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
            "spec": {"nodeName": "n2", "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "c", "image": "i"}],
                "tolerations": [
                    {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0},
                    {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}]}}))
        .await;
    let readiness = async |name: &str| {
        let node = plane.get(nodes, "", name).await.unwrap();
        let conditions = meta::object::array_at(&node, &["status", "conditions"]).to_vec();
        let ready = conditions
            .iter()
            .find(|condition| condition["type"] == "Ready")
            .cloned()
            .unwrap_or_default();
        ready["status"].as_str().unwrap_or_default().to_owned()
    };
    let taints = async |name: &str| {
        let node = plane.get(nodes, "", name).await.unwrap();
        let taints = meta::object::array_at(&node, &["spec", "taints"]).to_vec();
        let text =
            |taint: &Value, field: &str| taint[field].as_str().unwrap_or_default().to_owned();
        let mut all: Vec<String> = taints
            .iter()
            .map(|taint| format!("{}:{}", text(taint, "key"), text(taint, "effect")))
            .collect();
        all.sort();
        all
    };
    // A new node is tainted until its first report; both have reported.
    eventually("no taints", async || {
        taints("n1").await.is_empty() && taints("n2").await.is_empty()
    })
    .await;
    silence.send(false).unwrap();
    eventually("unknown", async || readiness("n2").await == "Unknown").await;
    let unreachable = [
        "node.kubernetes.io/unreachable:NoExecute",
        "node.kubernetes.io/unreachable:NoSchedule",
    ];
    eventually("tainted", async || taints("n2").await == unreachable).await;
    eventually("evicted", async || {
        plane
            .get(pods(), "default", "p")
            .await
            .is_none_or(|pod| meta::object::is_deleting(&pod))
    })
    .await;
    assert_eq!(readiness("n1").await, "True");
    assert_eq!(taints("n1").await, Vec::<String>::new());
    silence.send(true).unwrap();
    plane
        .patch(nodes, "", "n2", "status", json!({"status": ready()}))
        .await;
    eventually("back", async || {
        taints("n2").await.is_empty() && readiness("n2").await == "True"
    })
    .await;
}

#[tokio::test]
async fn what_names_a_dead_owner_is_collected_and_a_live_one_keeps_it() {
    let plane = start(ControllersConfig::default()).await;
    let maps = resource("v1", "configmaps");
    let owned = |name: &str, owner: &str, uid: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default",
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid}]}})
    };
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": "default"}});
    let uid = meta::object::uid(&plane.create(owner).await).to_owned();
    plane.create(owned("kept", "owner", &uid)).await;
    plane
        .create(owned(
            "other",
            "owner",
            "00000000-0000-4000-8000-000000000000",
        ))
        .await;
    let mut foreign = owned("foreign", "owner", "00000000-0000-4000-8000-000000000001");
    foreign["metadata"]["ownerReferences"][0]["apiVersion"] = "example.com/v1".into();
    foreign["metadata"]["ownerReferences"][0]["kind"] = "Widget".into();
    plane.create(foreign).await;
    eventually("collected", async || {
        plane.get(maps, "default", "other").await.is_none()
    })
    .await;
    assert!(plane.get(maps, "default", "kept").await.is_some());
    plane
        .delete(maps, "default", "owner", Propagation::Background)
        .await;
    eventually("collected", async || {
        plane.get(maps, "default", "kept").await.is_none()
    })
    .await;
    // Of a kind that nobody knows, nobody knows that it is gone.
    assert!(plane.get(maps, "default", "foreign").await.is_some());
}

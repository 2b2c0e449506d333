//! Whole flows: the controllers over a real API server on an empty store, in one process, with a kubelet of a few
//! lines. Final states are asserted; how long they take is not.

use std::sync::Arc;
use std::time::Duration;

use apiserver::Api;
use client::{Client, ClientError, DeleteOptions, ListOptions, PatchType, Propagation};
use controllers::{ControllersConfig, ControllersProgress};
use schema::Resource;
use store::{Store, StoreConfig};
use tokio::sync::watch;
use value::{Value, json};

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

/// Binds pods to the node they ask for or to `n1`, lets them run and become ready, ends those of Jobs, and removes deleted ones.
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
        let asked = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0";
        let node = pod.pointer(asked).and_then(Value::as_str).unwrap_or("n1");
        return client.bind(namespace, name, uid, node).await;
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

/// The pods of a namespace that are not going away, by name, with their image and whether they are ready.
async fn shown(plane: &Plane) -> Vec<(String, String, bool)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pods = plane.list(pods(), "default").await;
    pods.iter()
        .filter(|pod| !meta::object::is_deleting(pod))
        .map(|pod| {
            let name = meta::object::name(pod).to_owned();
            let image = text(&pod["spec"]["containers"][0]["image"]);
            (name, image, pod["status"]["phase"] == "Running")
        })
        .collect()
}

/// (name, revision number) of the ControllerRevisions.
async fn revisions(plane: &Plane) -> Vec<(String, i64)> {
    let mut all: Vec<(String, i64)> = plane
        .list(resource("apps/v1", "controllerrevisions"), "default")
        .await
        .iter()
        .map(|revision| {
            let name = meta::object::name(revision).to_owned();
            (name, revision["revision"].as_i64().unwrap())
        })
        .collect();
    all.sort_by_key(|(_, number)| *number);
    all
}

#[tokio::test]
async fn a_daemon_set_follows_nodes_and_rolls_out() {
    let mut config = ControllersConfig::default();
    // Nobody renews these nodes' Leases.
    config.node_lifecycle.grace_micros = 3_600_000_000;
    let plane = start(config).await;
    kubelet(plane.client.clone());
    let (nodes, sets) = (resource("v1", "nodes"), resource("apps/v1", "daemonsets"));
    let linux = async |name: &str| {
        let mut node = node(name);
        node["metadata"]["labels"] = json!({"os": "linux", "kubernetes.io/hostname": name});
        plane.create(node).await;
    };
    for number in 0..20 {
        linux(&format!("n{number}")).await;
    }
    let gpu = json!({"spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}});
    plane.patch(nodes, "", "n7", "", gpu).await;
    plane
        .create(json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template("i:1"),
                "updateStrategy": {"rollingUpdate": {"maxUnavailable": "40%"}}}}))
        .await;
    // What `kubectl rollout status` looks at.
    let rolled_out = async |count: usize, image: &str| {
        let set = plane.get(sets, "default", "web").await.unwrap();
        let fields = [
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberReady",
        ];
        let shown = shown(&plane).await;
        fields.iter().all(|field| set["status"][field] == count)
            && set["status"]["observedGeneration"] == set["metadata"]["generation"]
            && shown.len() == count
            && shown.iter().all(|(_, of, ready)| of == image && *ready)
    };
    let on = async || {
        let all = plane.list(pods(), "default").await;
        let node = |pod: &Value| {
            pod["spec"]["nodeName"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        all.iter()
            .map(node)
            .collect::<std::collections::BTreeSet<_>>()
    };
    eventually("19 pods", async || rolled_out(19, "i:1").await).await;
    let held = on().await;
    assert!(held.len() == 19 && !held.contains("n7"), "{held:?}");

    linux("late").await;
    eventually("a pod on the new node", async || {
        rolled_out(20, "i:1").await && on().await.contains("late")
    })
    .await;

    // Heartbeats wake nobody: they are all taken in before the taint's end is, which comes over the same feed.
    let plans = || {
        let plans = &plane.progress.plans;
        plans.load(std::sync::atomic::Ordering::Relaxed)
    };
    let before = plans();
    for _ in 0..10 {
        for number in 0..20 {
            let name = format!("n{number}");
            plane
                .patch(nodes, "", &name, "status", json!({"status": ready()}))
                .await;
        }
    }
    let none = json!({"spec": {"taints": null}});
    plane.patch(nodes, "", "n7", "", none).await;
    eventually("a pod on n7", async || rolled_out(21, "i:1").await).await;
    assert!(plans() - before < 100, "{} plans", plans() - before);

    let update = json!({"spec": {"template": template("i:2")}});
    plane.patch(sets, "default", "web", "", update).await;
    eventually("updated", async || rolled_out(21, "i:2").await).await;
    let before = revisions(&plane).await;
    assert_eq!(
        before.iter().map(|(_, number)| *number).collect::<Vec<_>>(),
        [1, 2]
    );
    let all = plane.list(pods(), "default").await;
    let newest = format!(
        "web-{}",
        meta::object::label(&all[0], "controller-revision-hash").unwrap()
    );
    assert_eq!(before[1].0, newest);

    // An undo sends a revision's data as it is.
    let first = plane
        .get(
            resource("apps/v1", "controllerrevisions"),
            "default",
            &before[0].0,
        )
        .await
        .unwrap();
    plane
        .patch(sets, "default", "web", "", first["data"].clone())
        .await;
    eventually("undone", async || rolled_out(21, "i:1").await).await;
    assert_eq!(
        revisions(&plane).await,
        [(before[1].0.clone(), 2), (before[0].0.clone(), 3)]
    );

    let evicting = json!({"spec": {"taints": [{"key": "broken", "effect": "NoExecute"}]}});
    plane.patch(nodes, "", "n3", "", evicting).await;
    eventually("n3 is left", async || {
        rolled_out(20, "i:1").await && !on().await.contains("n3")
    })
    .await;
    plane
        .delete(sets, "default", "web", Propagation::Background)
        .await;
    eventually("all gone", async || {
        shown(&plane).await.is_empty() && revisions(&plane).await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_stateful_set_starts_in_order_updates_by_partition_and_stops_in_reverse() {
    let plane = start(ControllersConfig::default()).await;
    kubelet(plane.client.clone());
    let sets = resource("apps/v1", "statefulsets");
    plane
        .create(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "default"},
            "spec": {"replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "web"}}, "template": template("i:1"),
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}}))
        .await;
    let status = async |field: &str| {
        let set = plane.get(sets, "default", "db").await.unwrap();
        let observed = set["status"]["observedGeneration"] == set["metadata"]["generation"];
        set["status"][field]
            .clone()
            .as_i64()
            .filter(|_| observed)
            .unwrap_or(0)
    };
    let names = |shown: &[(String, String, bool)]| {
        let all = shown.iter().map(|(name, _, _)| name.clone());
        all.collect::<Vec<_>>()
    };
    let images = async || {
        let shown = shown(&plane).await;
        let all = shown.into_iter().filter(|(_, _, ready)| *ready);
        all.map(|(_, image, _)| image).collect::<Vec<_>>()
    };
    let order = ["db-0", "db-1", "db-2"];
    eventually("3 ready", async || {
        let shown = shown(&plane).await;
        assert_eq!(names(&shown), &order[..shown.len()]);
        let waiting = shown.iter().filter(|(_, _, ready)| !ready).count();
        assert!(waiting <= 1, "{shown:?}");
        status("readyReplicas").await == 3
    })
    .await;
    let pod = plane.get(pods(), "default", "db-1").await.unwrap();
    let labels = meta::object::labels(&pod);
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "db-1");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "1");
    assert_eq!(
        labels["controller-revision-hash"],
        revisions(&plane).await[0].0
    );
    assert_eq!(
        (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
        (&json!("db-1"), &json!("db"))
    );

    let partition = |partition: u32| {
        json!({"spec": {"template": template("i:2"),
        "updateStrategy": {"rollingUpdate": {"partition": partition}}}})
    };
    plane.patch(sets, "default", "db", "", partition(2)).await;
    eventually("the highest is updated", async || {
        images().await == ["i:1", "i:1", "i:2"] && status("updatedReplicas").await == 1
    })
    .await;
    // Below the partition a pod comes back as it was.
    plane
        .delete(pods(), "default", "db-0", Propagation::Background)
        .await;
    let was = meta::object::uid(&pod).to_owned();
    eventually("db-0 is back", async || {
        images().await == ["i:1", "i:1", "i:2"] && status("readyReplicas").await == 3
    })
    .await;
    let pod = plane.get(pods(), "default", "db-1").await.unwrap();
    assert_eq!(meta::object::uid(&pod), was);
    plane.patch(sets, "default", "db", "", partition(0)).await;
    eventually("all are updated", async || {
        let shown = shown(&plane).await;
        let of = |name: &str| shown.iter().find(|(pod, _, _)| pod == name);
        // From the top down: never the lower one first.
        if let (Some((_, lower, _)), Some((_, upper, _))) = (of("db-0"), of("db-1")) {
            assert!(lower == "i:1" || upper == "i:2");
        }
        let set = plane.get(sets, "default", "db").await.unwrap();
        set["status"]["currentRevision"] == set["status"]["updateRevision"]
            && images().await == ["i:2", "i:2", "i:2"]
    })
    .await;

    plane
        .patch(sets, "default", "db", "", json!({"spec": {"replicas": 0}}))
        .await;
    eventually("none", async || {
        let all = plane.list(pods(), "default").await;
        let left: Vec<_> = all.iter().map(meta::object::name).collect();
        assert_eq!(left, &order[..left.len()]);
        let going = all.iter().filter(|pod| meta::object::is_deleting(pod));
        assert!(going.count() <= 1);
        all.is_empty()
    })
    .await;
    let claims = plane
        .list(resource("v1", "persistentvolumeclaims"), "default")
        .await;
    let claims: Vec<_> = claims.iter().map(meta::object::name).collect();
    assert_eq!(claims, ["data-db-0", "data-db-1", "data-db-2"]);
}

#[tokio::test]
async fn a_parallel_stateful_set_makes_each_pod_once() {
    let plane = start(ControllersConfig::default()).await;
    let sets = resource("apps/v1", "statefulsets");
    plane
        .create(json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "default"},
            "spec": {"replicas": 300, "podManagementPolicy": "Parallel", "selector": {"matchLabels": {"app": "web"}},
                "template": template("i:1")}}))
        .await;
    eventually("300 replicas", async || {
        plane.get(sets, "default", "db").await.unwrap()["status"]["replicas"] == 300
    })
    .await;
    assert_eq!(plane.list(pods(), "default").await.len(), 300);
    plane
        .delete(sets, "default", "db", Propagation::Background)
        .await;
    eventually("all gone", async || {
        let going = plane.list(pods(), "default").await;
        going.iter().all(meta::object::is_deleting)
    })
    .await;
}

#[tokio::test]
async fn a_cron_job_starts_jobs_and_keeps_the_last_ones() {
    let plane = start(ControllersConfig::default()).await;
    kubelet(plane.client.clone());
    let (crons, jobs) = (
        resource("batch/v1", "cronjobs"),
        resource("batch/v1", "jobs"),
    );
    plane
        .create(json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick", "namespace": "default"},
            "spec": {"schedule": "@every 1s", "successfulJobsHistoryLimit": 1, "concurrencyPolicy": "Replace",
                "jobTemplate": {"spec": {"template": {"spec": {
                    "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}}))
        .await;
    eventually("a job ended", async || {
        let cron = plane.get(crons, "default", "tick").await.unwrap();
        cron["status"]["lastSuccessfulTime"].is_string()
    })
    .await;
    plane
        .patch(
            crons,
            "default",
            "tick",
            "",
            json!({"spec": {"suspend": true}}),
        )
        .await;
    eventually("one job is kept", async || {
        let cron = plane.get(crons, "default", "tick").await.unwrap();
        let all = plane.list(jobs, "default").await;
        let ended = |job: &Value| job["status"]["succeeded"] == 1;
        cron["status"]["active"].is_null() && all.len() == 1 && ended(&all[0])
    })
    .await;
    let kept = plane.list(jobs, "default").await.remove(0);
    let owner = meta::object::controller_of(&kept).unwrap();
    assert_eq!(
        (&owner["kind"], &owner["name"]),
        (&json!("CronJob"), &json!("tick"))
    );
    plane
        .delete(crons, "default", "tick", Propagation::Background)
        .await;
    eventually("all gone", async || {
        plane.list(jobs, "default").await.is_empty()
            && plane.list(pods(), "default").await.is_empty()
    })
    .await;
}

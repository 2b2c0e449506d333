//! The fleet against a real API server in this process: what a cluster sees of simulated nodes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use apiserver::Api;
use client::{Client, DeleteOptions, ListOptions};
use fleet::{FleetConfig, FleetProgress, node_name};
use meta::Value;
use serde_json::json;
use store::{Store, StoreConfig};
use tokio::sync::watch;

const NODES: usize = 25;

struct World {
    client: Client,
    progress: Arc<FleetProgress>,
    _stop: watch::Sender<bool>,
}

/// Runs a story against a cluster whose fleet has quick hearts.
fn with_fleet<F: Future<Output = ()>>(story: impl FnOnce(World) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // The fleet keeps to one thread.
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (stop, stopping) = watch::channel(false);
        let api = Api::new(
            Arc::new(Store::new(StoreConfig::default())),
            stopping.clone(),
        );
        api.bootstrap(([127, 0, 0, 1], 6443).into()).await.unwrap();
        let client = Client::new(Arc::new(api), Some(Api::system_user()), "test");
        let config = FleetConfig {
            lease_interval: Duration::from_millis(200),
            pod_start_delay: Duration::from_millis(10),
            pod_stop_delay: Duration::from_millis(10),
            job_run_time: Duration::from_millis(50),
            ..FleetConfig::new(NODES)
        };
        let progress = Arc::new(FleetProgress::default());
        tokio::task::spawn_local(fleet::run(
            client.clone(),
            config,
            progress.clone(),
            stopping,
        ));
        story(World {
            client,
            progress,
            _stop: stop,
        })
        .await;
    });
}

fn resource(group: &str, name: &str) -> &'static schema::Resource {
    schema::resource(group, "v1", name).unwrap()
}

/// Looks until something is so.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    for _ in 0..600 {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not within 15 s: {what}");
}

async fn all(client: &Client, group: &str, name: &str, namespace: &str) -> Vec<Value> {
    client
        .list(resource(group, name), namespace, &ListOptions::default())
        .await
        .unwrap()
        .items
}

async fn registered(world: &World) {
    until("all nodes registered", async || {
        (world.progress.registered.load(Ordering::Relaxed) == NODES).then_some(())
    })
    .await;
}

fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
           "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}})
}

async fn phase(client: &Client, name: &str, wanted: &str) -> Value {
    until(&format!("pod {name} {wanted}"), async || {
        let pod = client
            .get(resource("", "pods"), "default", name)
            .await
            .ok()?;
        (pod["status"]["phase"] == wanted).then_some(pod)
    })
    .await
}

#[test]
fn nodes_register_and_renew_their_leases() {
    with_fleet(async |world| {
        registered(&world).await;
        let nodes = all(&world.client, "", "nodes", "").await;
        assert_eq!(nodes.len(), NODES);
        let ready = |node: &&Value| {
            node["status"]["conditions"].as_array().is_some_and(|all| {
                all.iter()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True")
            })
        };
        assert_eq!(nodes.iter().filter(ready).count(), NODES);
        let leases = all(
            &world.client,
            "coordination.k8s.io",
            "leases",
            "kube-node-lease",
        )
        .await;
        assert_eq!(leases.len(), NODES);
        let owner = meta::object::owner_references(&leases[3])[0].clone();
        assert_eq!(owner["uid"], nodes[3]["metadata"]["uid"]);
        let renewed = leases[3]["spec"]["renewTime"].clone();
        until("a renewal", async || {
            let name = node_name(3);
            let lease = world
                .client
                .get(
                    resource("coordination.k8s.io", "leases"),
                    "kube-node-lease",
                    &name,
                )
                .await;
            (lease.unwrap()["spec"]["renewTime"] != renewed).then_some(())
        })
        .await;
        assert_eq!(world.progress.renewal_failures.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_lost_lease_is_made_again() {
    with_fleet(async |world| {
        registered(&world).await;
        let leases = resource("coordination.k8s.io", "leases");
        let name = node_name(7);
        let lease = world
            .client
            .get(leases, "kube-node-lease", &name)
            .await
            .unwrap();
        world
            .client
            .delete(leases, "kube-node-lease", &name, &DeleteOptions::default())
            .await
            .unwrap();
        until("a new lease", async || {
            let new = world
                .client
                .get(leases, "kube-node-lease", &name)
                .await
                .ok()?;
            (new["metadata"]["uid"] != lease["metadata"]["uid"]).then_some(())
        })
        .await;
    });
}

#[test]
fn a_bound_pod_runs_and_a_deleted_one_goes() {
    with_fleet(async |world| {
        registered(&world).await;
        let pods = resource("", "pods");
        world
            .client
            .create(pods, "default", &pod("web", &node_name(2)))
            .await
            .unwrap();
        let running = phase(&world.client, "web", "Running").await;
        assert!(
            running["status"]["podIP"]
                .as_str()
                .unwrap()
                .starts_with("10.")
        );
        assert_eq!(running["status"]["containerStatuses"][0]["ready"], true);
        // Somebody else's node is left alone.
        world
            .client
            .create(pods, "default", &pod("foreign", "worker-1"))
            .await
            .unwrap();
        world
            .client
            .delete(pods, "default", "web", &DeleteOptions::default())
            .await
            .unwrap();
        until("the pod gone", async || {
            world
                .client
                .get(pods, "default", "web")
                .await
                .is_err_and(|error| error.is_not_found())
                .then_some(())
        })
        .await;
        let foreign = world.client.get(pods, "default", "foreign").await.unwrap();
        assert_eq!(foreign["status"]["phase"], "Pending");
    });
}

#[test]
fn the_pods_of_jobs_end() {
    with_fleet(async |world| {
        registered(&world).await;
        let mut job_pod = pod("job-1", &node_name(0));
        job_pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": "u", "controller": true}]);
        job_pod["spec"]["restartPolicy"] = "Never".into();
        world
            .client
            .create(resource("", "pods"), "default", &job_pod)
            .await
            .unwrap();
        let done = phase(&world.client, "job-1", "Succeeded").await;
        assert_eq!(
            done["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"],
            Value::Null
        );
        assert_eq!(
            done["status"]["containerStatuses"][0]["state"]["terminated"]["reason"],
            "Completed"
        );
    });
}

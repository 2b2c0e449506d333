//! The fleet against a real API server in this process: what a cluster sees of simulated nodes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use apiserver::Api;
use client::{Client, DeleteOptions, ListOptions, PatchType};
use fleet::{FaultScript, FleetConfig, FleetProgress, Layout, Stages, node_name};
use meta::Value;
use store::{Store, StoreConfig};
use tokio::sync::watch;
use value::json;

const NODES: usize = 25;

struct World {
    client: Client,
    /// The fleet's task.
    fleet: tokio::task::JoinHandle<()>,
    progress: Arc<FleetProgress>,
    _stop: watch::Sender<bool>,
}

/// Runs a story against a cluster whose fleet has quick hearts.
fn with_fleet<F: Future<Output = ()>>(story: impl FnOnce(World) -> F) {
    with_config(|_| {}, story);
}

/// The same with something changed in its configuration.
fn with_config<F: Future<Output = ()>>(
    change: impl FnOnce(&mut FleetConfig),
    story: impl FnOnce(World) -> F,
) {
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
        let mut config = FleetConfig {
            lease_interval: Duration::from_millis(200),
            pod_start_delay: Duration::from_millis(10),
            pod_stop_delay: Duration::from_millis(10),
            job_run_time: Duration::from_millis(50),
            ..FleetConfig::new(NODES)
        };
        change(&mut config);
        let progress = Arc::new(FleetProgress::default());
        let fleet = fleet::run(client.clone(), config, progress.clone(), stopping);
        let fleet = tokio::task::spawn_local(fleet);
        story(World {
            client,
            fleet,
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

/// A fleet that ended, in whose cluster some things happened since; and the one that comes after it.
#[test]
fn nodes_of_an_earlier_run_come_back_by_their_leases_and_only_what_differs_is_written() {
    with_fleet(async |world| {
        registered(&world).await;
        let client = &world.client;
        let (nodes, leases) = (
            resource("", "nodes"),
            resource("coordination.k8s.io", "leases"),
        );
        // Ends with its cluster alive.
        world.fleet.abort();
        // Half of the Leases are lost, as all are by a crash; one node was taken for dead, one says something else of
        // itself than its shape does, one is gone.
        for index in (0..NODES).step_by(2) {
            let options = DeleteOptions::default();
            let name = node_name(index);
            let deleted = client.delete(leases, "kube-node-lease", &name, &options);
            deleted.await.unwrap();
        }
        let merge = client::PatchType::StrategicMerge;
        for (index, status) in [
            (
                3,
                json!({"conditions": [{"type": "Ready", "status": "Unknown"}]}),
            ),
            (4, json!({"allocatable": {"pods": "7"}})),
        ] {
            let patch = json!({"status": status});
            let name = node_name(index);
            let patched = client.patch(nodes, "", &name, "status", merge, &patch);
            patched.await.unwrap();
        }
        let options = DeleteOptions::default();
        client
            .delete(nodes, "", &node_name(5), &options)
            .await
            .unwrap();
        let before = all(client, "", "nodes", "").await;
        let by_name = |list: &[Value], index: usize| -> Option<Value> {
            let name = node_name(index);
            list.iter()
                .find(|node| node["metadata"]["name"] == *name)
                .cloned()
        };
        assert_eq!(readiness(client, 3).await, "Unknown");

        let progress = Arc::new(FleetProgress::default());
        let config = FleetConfig {
            lease_interval: Duration::from_millis(200),
            ..FleetConfig::new(NODES)
        };
        let (_stop, stopping) = watch::channel(false);
        let fleet = fleet::run(client.clone(), config, progress.clone(), stopping);
        tokio::task::spawn_local(fleet);
        until("all of them up again", async || {
            (progress.registered.load(Ordering::Relaxed) == NODES).then_some(())
        })
        .await;
        until("what differs is posted", async || {
            (progress.statuses.load(Ordering::Relaxed) == 2).then_some(())
        })
        .await;
        assert_eq!(readiness(client, 3).await, "True");
        let renewals = progress.renewals.load(Ordering::Relaxed);
        until("two rounds of renewals", async || {
            let now = progress.renewals.load(Ordering::Relaxed);
            (now > renewals + 2 * NODES as u64).then_some(())
        })
        .await;
        assert_eq!(progress.renewal_failures.load(Ordering::Relaxed), 0);

        let after = all(client, "", "nodes", "").await;
        let held = all(client, "coordination.k8s.io", "leases", "kube-node-lease").await;
        assert_eq!((after.len(), held.len()), (NODES, NODES));
        for index in 0..NODES {
            let now = by_name(&after, index).unwrap();
            let lease = by_name(&held, index).unwrap();
            let owner = &meta::object::owner_references(&lease)[0];
            if index == 5 {
                assert_eq!(by_name(&before, index), None);
                continue;
            }
            assert_eq!(owner["uid"], now["metadata"]["uid"], "{index}");
            let was = by_name(&before, index).unwrap();
            assert_eq!(was["metadata"]["uid"], now["metadata"]["uid"], "{index}");
            let is_written =
                was["metadata"]["resourceVersion"] != now["metadata"]["resourceVersion"];
            assert_eq!(is_written, index == 3 || index == 4, "{index}");
        }
        let four = by_name(&after, 4).unwrap();
        assert_eq!(four["status"]["allocatable"]["pods"], "110");
    });
}

/// Pods that start all at once hold no renewal up: none is left out because its next one is due.
#[test]
fn renewals_go_on_while_very_many_pods_start() {
    const PODS: usize = 2_000;
    with_fleet(async |world| {
        registered(&world).await;
        let before = world.progress.renewals.load(Ordering::Relaxed);
        for index in 0..PODS {
            let pod = pod(&format!("p-{index}"), &node_name(index % NODES));
            let pods = resource("", "pods");
            world.client.create(pods, "default", &pod).await.unwrap();
        }
        until("all pods Running", async || {
            let started = world.progress.pods_started.load(Ordering::Relaxed);
            (started == PODS as u64).then_some(())
        })
        .await;
        until("a round of renewals", async || {
            let renewals = world.progress.renewals.load(Ordering::Relaxed);
            (renewals > before + NODES as u64).then_some(())
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

/// The value of a node's Ready condition.
async fn readiness(client: &Client, index: usize) -> String {
    let node = client
        .get(resource("", "nodes"), "", &node_name(index))
        .await
        .unwrap();
    let conditions = node["status"]["conditions"].as_array().unwrap().clone();
    let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap();
    ready["status"].as_str().unwrap().to_owned()
}

#[test]
fn silent_nodes_neither_renew_nor_move_pods_until_they_recover() {
    let script = |text: &str| Arc::new(FaultScript::parse(text, &Layout::default()).unwrap());
    let (scripts, faults) = watch::channel(script(
        "steps: [{at: 0s, do: silence, nodes: {zones: [zone-b]}}]",
    ));
    with_config(
        |config| config.faults = Some(faults),
        async |world| {
            // Those that are silent from the beginning never register; 8 of 25 are in zone-b.
            until("the others registered", async || {
                (world.progress.registered.load(Ordering::Relaxed) == NODES - 8).then_some(())
            })
            .await;
            assert_eq!(world.progress.silent.load(Ordering::Relaxed), 8);
            let pods = resource("", "pods");
            for (name, node) in [("mute", 1), ("loud", 2)] {
                let pod = pod(name, &node_name(node));
                world.client.create(pods, "default", &pod).await.unwrap();
            }
            phase(&world.client, "loud", "Running").await;
            let mute = world.client.get(pods, "default", "mute").await.unwrap();
            assert_eq!(mute["status"]["phase"], "Pending");
            scripts.send_replace(script("steps: [{at: 0s, do: recover}]"));
            registered(&world).await;
            phase(&world.client, "mute", "Running").await;
            assert_eq!(world.progress.silent.load(Ordering::Relaxed), 0);
        },
    );
}

#[test]
fn a_node_that_was_taken_for_dead_says_otherwise_with_its_next_renewal() {
    with_config(
        |config| {
            // Every renewal comes too late.
            config.lease_interval = Duration::from_millis(2_100);
            config.lease_duration_seconds = 1;
        },
        async |world| {
            registered(&world).await;
            let (nodes, name) = (resource("", "nodes"), node_name(3));
            let unknown =
                json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
            let merge = PatchType::StrategicMerge;
            let patched = world
                .client
                .patch(nodes, "", &name, "status", merge, &unknown);
            patched.await.unwrap();
            assert_eq!(readiness(&world.client, 3).await, "Unknown");
            until("it is ready again", async || {
                (readiness(&world.client, 3).await == "True").then_some(())
            })
            .await;
        },
    );
}

#[test]
fn clocks_are_skewed_and_a_deleted_node_comes_back_with_a_restart() {
    let script = |text: &str| Arc::new(FaultScript::parse(text, &Layout::default()).unwrap());
    let (scripts, faults) = watch::channel(script(""));
    with_config(
        |config| config.faults = Some(faults),
        async |world| {
            registered(&world).await;
            let client = &world.client;
            let lease = async |index: usize| {
                let leases = resource("coordination.k8s.io", "leases");
                client
                    .get(leases, "kube-node-lease", &node_name(index))
                    .await
            };
            scripts.send_replace(script(
                "steps: [{at: 0s, do: skew, by: -1h, nodes: {names: [node-0000003]}}]",
            ));
            until("a renewal from the past", async || {
                let renewed = |lease: Value| {
                    let text = lease["spec"]["renewTime"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned();
                    meta::time::parse(&text).unwrap()
                };
                let (skewed, other) = (lease(3).await.ok()?, lease(4).await.ok()?);
                (renewed(other) - renewed(skewed) > 3_500_000_000).then_some(())
            })
            .await;

            // A running pod, a deleted node.
            let pods = resource("", "pods");
            client
                .create(pods, "default", &pod("web", &node_name(5)))
                .await
                .unwrap();
            phase(client, "web", "Running").await;
            let nodes = resource("", "nodes");
            let before = client.get(nodes, "", &node_name(5)).await.unwrap();
            client
                .delete(nodes, "", &node_name(5), &DeleteOptions::default())
                .await
                .unwrap();
            let leases = resource("coordination.k8s.io", "leases");
            let deleted = client
                .delete(
                    leases,
                    "kube-node-lease",
                    &node_name(5),
                    &DeleteOptions::default(),
                )
                .await;
            // There is no garbage collector here; a renewal may have been faster.
            deleted.unwrap();
            until("the node is known to be gone", async || {
                (world.progress.gone.load(Ordering::Relaxed) == 1).then_some(())
            })
            .await;
            assert!(lease(5).await.unwrap_err().is_not_found());
            scripts.send_replace(script(
                "steps: [{at: 0s, do: restart, down: 100ms, nodes: {names: [node-0000005]}}]",
            ));
            let after = until("the node again", async || {
                client.get(nodes, "", &node_name(5)).await.ok()
            })
            .await;
            assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
            assert_ne!(
                after["status"]["nodeInfo"]["bootID"],
                before["status"]["nodeInfo"]["bootID"]
            );
            assert_eq!(readiness(client, 5).await, "True");
            let restarts = until("the pod started anew", async || {
                let pod = client.get(pods, "default", "web").await.ok()?;
                pod["status"]["containerStatuses"][0]["restartCount"]
                    .as_i64()
                    .filter(|count| *count > 0)
            })
            .await;
            assert_eq!(restarts, 1);
            until("its lease", async || lease(5).await.ok()).await;
            assert_eq!(world.progress.gone.load(Ordering::Relaxed), 0);
        },
    );
}

#[test]
fn stages_take_the_place_of_the_built_in_life() {
    let text = include_str!("stages.yaml");
    with_config(
        |config| config.stages = Stages::parse(text).unwrap(),
        async |world| {
            registered(&world).await;
            let (client, pods) = (&world.client, resource("", "pods"));
            let mut crashing = pod("crashing", &node_name(1));
            crashing["metadata"]["labels"] = json!({"app": "crashing"});
            client.create(pods, "default", &crashing).await.unwrap();
            client
                .create(pods, "default", &pod("fine", &node_name(2)))
                .await
                .unwrap();
            let fine = phase(client, "fine", "Running").await;
            assert_eq!(fine["status"]["hostIP"], "100.64.0.3");
            assert_eq!(fine["status"]["containerStatuses"][0]["name"], "c");
            assert_eq!(fine["metadata"]["finalizers"], json!(["simulated/held"]));
            let failed = phase(client, "crashing", "Failed").await;
            assert_eq!(failed["status"]["message"], "crashing crashed");
            let event = until("an event", async || {
                let events = all(client, "", "events", "default").await;
                events
                    .into_iter()
                    .find(|event| event["reason"] == "Crashed")
            })
            .await;
            assert_eq!(event["type"], "Warning");
            assert_eq!(event["involvedObject"]["name"], "crashing");
            client
                .delete(pods, "default", "fine", &DeleteOptions::default())
                .await
                .unwrap();
            until("the pod gone", async || {
                let got = client.get(pods, "default", "fine").await;
                got.is_err_and(|error| error.is_not_found()).then_some(())
            })
            .await;
            // A stage of nodes: the labelled one tells of a full disk, until the label is gone.
            let nodes = resource("", "nodes");
            let patch = json!({"metadata": {"labels": {"disk": "full"}}});
            let merge = client::PatchType::Merge;
            client
                .patch(nodes, "", &node_name(7), "", merge, &patch)
                .await
                .unwrap();
            until("pressure", async || {
                let node = client.get(nodes, "", &node_name(7)).await.ok()?;
                let conditions = node["status"]["conditions"].as_array()?.clone();
                let disk = conditions
                    .iter()
                    .find(|c| c["type"] == "DiskPressure")?
                    .clone();
                (disk["status"] == "True" && conditions.len() >= 4).then_some(())
            })
            .await;
        },
    );
}

#[test]
fn kubelet_like_nodes_hear_of_their_pods_by_their_own_watches() {
    let (scripts, faults) = watch::channel(Arc::default());
    let script = |text: &str| Arc::new(FaultScript::parse(text, &Layout::default()).unwrap());
    with_config(
        |config| {
            config.kubelet_like = true;
            config.faults = Some(faults);
        },
        async |world| {
            registered(&world).await;
            let open =
                || usize::try_from(world.progress.watches_open.load(Ordering::Relaxed)).unwrap();
            until("all watches", async || {
                (open() == NODES * fleet::WATCHES_A_NODE).then_some(())
            })
            .await;
            let (client, pods) = (&world.client, resource("", "pods"));
            client
                .create(pods, "default", &pod("web", &node_name(2)))
                .await
                .unwrap();
            phase(client, "web", "Running").await;
            scripts.send_replace(script(
                "steps: [{at: 0s, do: silence, nodes: {names: [node-0000002]}}]",
            ));
            until("watches closed", async || {
                (open() == (NODES - 1) * fleet::WATCHES_A_NODE).then_some(())
            })
            .await;
            client
                .delete(pods, "default", "web", &DeleteOptions::default())
                .await
                .unwrap();
            scripts.send_replace(script(
                "steps: [{at: 0s, do: recover}, {at: 100ms, do: storm}]",
            ));
            until("the pod gone", async || {
                let got = client.get(pods, "default", "web").await;
                got.is_err_and(|error| error.is_not_found()).then_some(())
            })
            .await;
            until("all watches again", async || {
                (open() == NODES * fleet::WATCHES_A_NODE).then_some(())
            })
            .await;
        },
    );
}

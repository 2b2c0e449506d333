//! Ends and new beginnings: what was acknowledged is there after kill -9 at any moment, versions never go back, and
//! what was under way goes on.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::{Client, ClientError, DeleteOptions, PatchType};
use support::{Folder, Plane, PlaneOptions, SOON, assert_has, eventually};
use value::{Value, json};

/// Times that the plane is killed.
const KILLS: usize = 3;
const NODES: usize = 30;
const REPLICAS: usize = 60;

/// What the writer was told: the last acknowledged state of each name. `None` is an acknowledged deletion.
#[derive(Default)]
struct Acknowledged {
    maps: BTreeMap<String, Option<Value>>,
    version_max: u64,
    /// The write that had no answer when the plane died: either outcome is right.
    in_doubt: Option<String>,
    writes: usize,
}

#[test]
fn everything_acknowledged_survives_kill_9_and_the_rollout_goes_on() {
    let mut plane = Plane::start(PlaneOptions {
        nodes: NODES,
        persistent: true,
    });
    plane.kubectl("create namespace crash").ok();
    plane
        .kubectl(&format!(
            "create deployment web -n crash --image=nginx:1.0 --replicas={REPLICAS}"
        ))
        .ok();
    plane
        .kubectl("rollout status deployment/web -n crash --timeout=60s")
        .ok();
    let identity = identity_of(&plane);
    let mut known = Acknowledged::default();
    for kill in 1..=KILLS {
        // A rollout begins, a writer writes, and in the middle of both the power goes.
        plane
            .kubectl(&format!(
                "set image deployment/web nginx=nginx:1.{kill} -n crash"
            ))
            .ok();
        let writes_before = known.writes;
        let writer = Writer::start(plane.client(), known, kill);
        std::thread::sleep(Duration::from_millis(400 * kill as u64));
        plane.kill();
        known = writer.finish();
        assert!(known.writes > writes_before, "the writer got nothing done");
        plane.start_again();
        everything_is_there(&plane, &mut known);
        assert_eq!(
            identity_of(&plane),
            identity,
            "the same objects, not new ones of the same names"
        );
        let status = plane
            .kubectl("rollout status deployment/web -n crash --timeout=90s")
            .ok();
        assert_has(&status, &["successfully rolled out"]);
        only_the_new_image_runs(&plane, kill);
    }
    nodes_are_ready(&plane);
    println!("{} acknowledged writes, {KILLS} kills", known.writes);

    // A clean end, with a watch open, is quick and loses nothing either, not even what is only kept in memory.
    let watch = plane.kubectl("get cm -n crash --watch").spawn();
    eventually("the watch is open", || {
        if watch.output().is_empty() {
            Err(String::new())
        } else {
            Ok(())
        }
    });
    let begun = Instant::now();
    let status = plane.stop();
    assert_eq!(status.code(), Some(0), "{}", plane.log());
    assert!(begun.elapsed() < SOON / 4, "it took {:?}", begun.elapsed());
    plane.start_again();
    everything_is_there(&plane, &mut known);
    nodes_are_ready(&plane);
    assert_eq!(
        plane
            .kubectl("get pods -n crash --field-selector status.phase=Running -o name")
            .ok()
            .lines()
            .count(),
        REPLICAS
    );
    // And it still does its work.
    plane
        .kubectl("scale deployment/web -n crash --replicas=3")
        .ok();
    plane
        .kubectl("rollout status deployment/web -n crash --timeout=60s")
        .ok();
    assert_eq!(plane.stop().code(), Some(0));
}

/// Leases are in memory only and gone with the process: every node makes its own again, and no Node is written for it.
#[test]
fn after_kill_9_nodes_come_back_by_their_leases_alone() {
    // No status within the test: those are writes, too.
    let folder = Folder::new("fleet-config");
    let config = folder.write("fleet.yaml", "statusInterval: 1h\nleaseInterval: 1s\n");
    let mut plane = Plane::start_with(
        PlaneOptions {
            nodes: NODES,
            persistent: true,
        },
        &["--fleet-config", &config],
    );
    nodes_are_ready(&plane);
    let versions = |plane: &Plane| {
        let nodes = plane.get("/api/v1/nodes").succeeded().json();
        let nodes = nodes["items"].as_array().unwrap().clone();
        let version = |node: &Value| {
            format!(
                "{} {}",
                node["metadata"]["name"], node["metadata"]["resourceVersion"]
            )
        };
        nodes.iter().map(version).collect::<Vec<_>>()
    };
    let mut before = versions(&plane);
    eventually("nobody writes a Node any more", || {
        let seen = std::mem::replace(&mut before, versions(&plane));
        if seen == before {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    assert_eq!(before.len(), NODES);
    plane.kill();
    plane.start_again();
    eventually("all Leases are there again", || {
        let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let leases = plane.get(path).succeeded().json();
        let count = leases["items"].as_array().unwrap().len();
        if count == NODES {
            Ok(())
        } else {
            Err(count.to_string())
        }
    });
    eventually("all are counted as registered, and renew", || {
        let metrics = plane.get("/metrics").text();
        let has = |line: &str| metrics.lines().any(|other| other == line);
        let renews = metrics
            .lines()
            .find_map(|line| line.strip_prefix("megaplane_fleet_lease_renewals_total "))
            .and_then(|count| count.parse::<usize>().ok())
            .is_some_and(|count| count >= NODES);
        if has(&format!("megaplane_fleet_nodes_registered {NODES}")) && renews {
            Ok(())
        } else {
            Err(metrics)
        }
    });
    nodes_are_ready(&plane);
    assert_eq!(versions(&plane), before);
    assert_eq!(plane.stop().code(), Some(0));
}

/// Identities that must outlive a crash.
fn identity_of(plane: &Plane) -> String {
    let ids = [
        "namespace/crash",
        "deployment/web",
        "node/node-0000007",
        "service/kubernetes",
    ]
    .map(|what| {
        let namespace = if what.starts_with("service") {
            "default"
        } else {
            "crash"
        };
        plane
            .kubectl(&format!(
                "get {what} -n {namespace} -o jsonpath={{.metadata.uid}}"
            ))
            .ok()
    });
    ids.join(" ")
}

fn nodes_are_ready(plane: &Plane) {
    eventually("all nodes are Ready", || {
        let nodes = plane.kubectl("get nodes --no-headers").ok();
        let ready = nodes
            .lines()
            .filter(|row| row.split_whitespace().nth(1) == Some("Ready"))
            .count();
        if ready == NODES { Ok(()) } else { Err(nodes) }
    });
}

fn only_the_new_image_runs(plane: &Plane, kill: usize) {
    eventually("only the new image runs", || {
        let pods = plane.kubectl("get pods -n crash -o json").json();
        let pods = pods["items"].as_array().unwrap();
        let right = pods.iter().filter(|pod| {
            pod["spec"]["containers"][0]["image"] == format!("nginx:1.{kill}")
                && pod["status"]["phase"] == "Running"
        });
        let (right, all) = (right.count(), pods.len());
        if (right, all) == (REPLICAS, REPLICAS) {
            Ok(())
        } else {
            Err(format!("{right} of {all}"))
        }
    });
}

/// Compares with what was acknowledged, and learns how the write in doubt went.
fn everything_is_there(plane: &Plane, known: &mut Acknowledged) {
    let list = plane
        .get("/api/v1/namespaces/crash/configmaps?labelSelector=by%3Dwriter")
        .succeeded()
        .json();
    let version: u64 = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        version >= known.version_max,
        "version {version} after {} was acknowledged",
        known.version_max
    );
    let items = list["items"].as_array().unwrap();
    let found: BTreeMap<String, Value> = items
        .iter()
        .map(|item| {
            // Items of a list do not repeat what the list says.
            let mut item = item.clone();
            (item["apiVersion"], item["kind"]) = ("v1".into(), "ConfigMap".into());
            (item["metadata"]["name"].as_str().unwrap().to_owned(), item)
        })
        .collect();
    if let Some(name) = known.in_doubt.take() {
        known.maps.insert(name.clone(), found.get(&name).cloned());
    }
    let wanted: BTreeMap<&String, &Value> = known
        .maps
        .iter()
        .filter_map(|(name, map)| Some((name, map.as_ref()?)))
        .collect();
    assert_eq!(
        wanted,
        found.iter().collect(),
        "acknowledged and found differ"
    );
}

/// Writes ConfigMaps one after the other until it is told to stop or the plane is gone.
struct Writer {
    thread: std::thread::JoinHandle<Acknowledged>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    fn start(client: Client, known: Acknowledged, round: usize) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(write_until(client, known, round, &seen))
        });
        Writer { thread, stop }
    }

    fn finish(self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn write_until(
    client: Client,
    mut known: Acknowledged,
    round: usize,
    stop: &AtomicBool,
) -> Acknowledged {
    for index in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("map-{round}-{index:05}");
        if let Err(name) = create_change_delete(&client, &mut known, &name, index).await {
            known.in_doubt = Some(name);
            break;
        }
    }
    known
}

/// One new object; now and then a change or a deletion of an earlier one. Fails with the name that is in doubt.
async fn create_change_delete(
    client: &Client,
    known: &mut Acknowledged,
    name: &str,
    index: usize,
) -> Result<(), String> {
    let maps = schema::resource("", "v1", "configmaps").unwrap();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": {"name": name, "labels": {"by": "writer"}},
                        "data": {"index": index.to_string(), "filler": "x".repeat(500)}});
    let created = sure(client.create(maps, "crash", &object).await, name)?;
    note(known, name, Some(created));
    let Some((other, _)) = known
        .maps
        .iter()
        .nth(index / 2)
        .filter(|(_, map)| map.is_some())
    else {
        return Ok(());
    };
    let other = other.clone();
    match index % 3 {
        0 => {
            let patch = json!({"data": {"changed": format!("with {name}")}});
            let changed = client
                .patch(maps, "crash", &other, "", PatchType::Merge, &patch)
                .await;
            note(known, &other, Some(sure(changed, &other)?));
        }
        1 => {
            sure(
                client
                    .delete(maps, "crash", &other, &DeleteOptions::default())
                    .await,
                &other,
            )?;
            note(known, &other, None);
        }
        _ => {}
    }
    Ok(())
}

/// A refusal would be a bug; no answer leaves the name in doubt.
fn sure<T>(result: Result<T, ClientError>, name: &str) -> Result<T, String> {
    match result {
        Ok(value) => Ok(value),
        Err(ClientError::Transport(_)) => Err(name.to_owned()),
        Err(error) => panic!("{name}: {error}"),
    }
}

fn note(known: &mut Acknowledged, name: &str, map: Option<Value>) {
    if let Some(map) = &map {
        let version: u64 = map["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(
            version > known.version_max,
            "{name}: version {version} after {}",
            known.version_max
        );
        known.version_max = version;
    }
    known.writes += 1;
    known.maps.insert(name.to_owned(), map);
}

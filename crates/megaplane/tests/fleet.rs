//! `megaplane fleet` as a process of its own against `megaplane up`, over HTTPS; `megaplane top` beside them; and what
//! both refuse.

mod support;

use std::fs::File;
use std::process::Child;

use support::{
    Folder, Plane, PlaneOptions, SOON, eventually, megaplane, run_to_end, terminate, wait,
};
use value::{Value, json};

const NODES: usize = 200;
const PODS: usize = 40;

/// A fleet under test; killed when dropped.
struct Fleet {
    child: Child,
    log: std::path::PathBuf,
}

impl Fleet {
    fn start(plane: &Plane, flags: &[&str]) -> Fleet {
        let log = plane.folder().join("fleet");
        let output = File::create(&log).unwrap();
        let child = megaplane(plane.folder().path())
            .arg("fleet")
            .arg("--kubeconfig")
            .arg(plane.kubeconfig())
            .args(flags)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Fleet { child, log }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGTERM, and a clean end.
    fn stop(mut self) {
        terminate(self.child.id());
        let status = wait(&mut self.child, SOON);
        assert!(
            status.is_some_and(|s| s.success()),
            "{status:?}\n{}",
            self.text()
        );
        assert!(self.text().contains("stopped"), "{}", self.text());
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let text = self.text();
        if text.contains("panicked at") && !std::thread::panicking() {
            panic!("the fleet panicked:\n{text}");
        }
    }
}

fn plane() -> Plane {
    Plane::start(PlaneOptions {
        nodes: 0,
        persistent: false,
    })
}

fn items(plane: &Plane, target: &str) -> Vec<Value> {
    let list = plane.get(target).succeeded().json();
    list["items"].as_array().cloned().unwrap_or_default()
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn run_pods(plane: &Plane, count: usize) {
    for number in 0..count {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{number}")},
                         "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let pods = "/api/v1/namespaces/default/pods";
        plane.post(pods, pod.to_string()).succeeded();
    }
}

fn all_run(plane: &Plane, fleet: &Fleet, count: usize) {
    eventually("all pods run", || {
        let pods = items(plane, "/api/v1/namespaces/default/pods");
        let running = pods
            .iter()
            .filter(|pod| pod["status"]["phase"] == "Running")
            .count();
        if running == count {
            Ok(())
        } else {
            Err(format!("{running} of {}\n{}", pods.len(), fleet.text()))
        }
    });
}

fn nodes_are_ready(plane: &Plane, fleet: &Fleet, count: usize) {
    eventually("all nodes are Ready", || {
        let ready = items(plane, "/api/v1/nodes")
            .iter()
            .filter(|node| is_ready(node))
            .count();
        if ready == count {
            Ok(())
        } else {
            Err(format!("{ready}\n{}", fleet.text()))
        }
    });
}

#[test]
fn a_fleet_of_another_process_runs_pods_and_top_tells_of_it() {
    let plane = plane();
    let config = plane.folder().write(
        "shapes.yaml",
        "zones: [left, right]\nshapes:\n- {name: general, weight: 3}\n- {name: gpu, labels: {pool: gpu}}\n",
    );
    let nodes = NODES.to_string();
    let flags = [
        "--nodes",
        &nodes,
        "--connections",
        "3",
        "--fleet-config",
        &config,
    ];
    let fleet = Fleet::start(&plane, &flags);
    nodes_are_ready(&plane, &fleet, NODES);
    let selector = "/api/v1/nodes?labelSelector=pool%3Dgpu,topology.kubernetes.io/zone%3Dright";
    assert_eq!(items(&plane, selector).len(), NODES / 8);
    run_pods(&plane, PODS);
    all_run(&plane, &fleet, PODS);

    let kubeconfig = plane.kubeconfig();
    let top = |flags: &[&str]| {
        let mut arguments = vec!["top", "--kubeconfig", kubeconfig.to_str().unwrap()];
        arguments.extend_from_slice(flags);
        run_to_end(plane.folder(), &arguments)
    };
    let told = top(&["--once", "--json"]);
    assert!(told.status.success(), "{told:?}");
    let figures: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(
        figures["nodes"],
        json!({"total": 200.0, "ready": 200.0, "not_ready": 0.0})
    );
    assert_eq!(figures["pods"]["total"], 40.0);
    let kind = |name: &str| {
        let kinds = figures["kinds"].as_array().unwrap();
        kinds
            .iter()
            .find(|kind| kind["resource"] == name)
            .unwrap()
            .clone()
    };
    assert!(kind("leases")["objects"].as_f64().unwrap() >= 200.0);
    // 2.6 KB of each node at least.
    assert!(kind("nodes")["object_bytes"].as_f64().unwrap() > 500_000.0);
    assert!(kind("pods")["watchers"].as_f64().unwrap() >= 2.0);
    assert!(figures["memory"]["resident_bytes"].as_f64().unwrap() > 1e6);
    let requests = figures["requests"].as_array().unwrap();
    let renews = |one: &&Value| one["resource"] == "leases" && one["verb"] == "UPDATE";
    assert!(requests.iter().any(|one| renews(&one)), "{requests:?}");
    // For people, where there is no terminal.
    let told = top(&[]);
    support::assert_has(
        &told.stdout,
        &["Nodes 200: 200 Ready, 0 not", "REQUESTS", "MEMORY"],
    );
    fleet.stop();
}

#[test]
fn kubelet_like_nodes_hold_their_watches_over_few_connections_and_a_script_silences_them() {
    let plane = plane();
    let faults = plane.folder().write("faults.yaml", "");
    let flags = [
        "--nodes",
        "20",
        "--kubelet-like",
        "--connections",
        "2",
        "--fleet-faults",
        &faults,
    ];
    let fleet = Fleet::start(&plane, &flags);
    nodes_are_ready(&plane, &fleet, 20);
    let watches = |wanted: std::ops::RangeInclusive<usize>| {
        eventually(&format!("{wanted:?} watches of nodes' own"), || {
            let metrics = plane.get("/metrics").text();
            let line = "megaplane_collection_watchers{group=\"networking.k8s.io\",resource=\"networkpolicies\"} ";
            let count = metrics
                .lines()
                .find_map(|text| text.strip_prefix(line))
                .unwrap_or("0");
            let count: usize = count.parse().unwrap();
            if wanted.contains(&count) {
                Ok(())
            } else {
                Err(count.to_string())
            }
        });
    };
    // The garbage collector may watch them too.
    watches(20..=21);
    run_pods(&plane, 10);
    all_run(&plane, &fleet, 10);
    plane.folder().write(
        "faults.yaml",
        "steps: [{at: 0s, do: silence, nodes: {zones: [zone-a]}}]",
    );
    watches(13..=14);
    plane
        .folder()
        .write("faults.yaml", "steps:\n- {at: 0s, do: recover}\n");
    watches(20..=21);
    fleet.stop();
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = Folder::new("fleet");
    let bad = folder.write("bad.yaml", "nodes: 3\n");
    let script = folder.write("script.yaml", "steps: [{at: 1s, do: fly}]\n");
    let stages = folder.write("stages.yaml", "kind: Pod\n");
    for (arguments, says) in [
        (
            &["fleet", "--kubeconfig", "none", "--nodes", "3"][..],
            &["cannot read none"][..],
        ),
        (&["fleet", "--nodes", "3"], &["--kubeconfig"]),
        (&["fleet", "--kubeconfig", "none"], &["--nodes"]),
        (
            &[
                "fleet",
                "--kubeconfig",
                "none",
                "--nodes",
                "3",
                "--fleet-config",
                &bad,
            ],
            &["bad.yaml", "unknown field"],
        ),
        (
            &[
                "fleet",
                "--kubeconfig",
                "none",
                "--nodes",
                "3",
                "--fleet-faults",
                &script,
            ],
            &["script.yaml", "step 1: do: \"fly\" is none of"],
        ),
        (
            &[
                "fleet",
                "--kubeconfig",
                "none",
                "--nodes",
                "3",
                "--fleet-stages",
                &stages,
            ],
            &["stages.yaml", "stage"],
        ),
        (
            &[
                "fleet",
                "--kubeconfig",
                "none",
                "--nodes",
                "1000",
                "--kubelet-like",
            ],
            &[
                "18000 watches",
                "4 connections carry 3600",
                "--connections 20",
            ],
        ),
        (&["up", "--ephemeral", "--kubelet-like"], &["need --nodes"]),
        (
            &[
                "up",
                "--ephemeral",
                "--kubeconfig",
                "k",
                "--nodes",
                "1000000",
                "--kubelet-like",
            ],
            &["at most 222222 nodes"],
        ),
        (
            &["top", "--kubeconfig", "none"],
            &["cannot read none", "megaplane up"],
        ),
        (&["top", "--once"], &["cannot read", "kubeconfig"]),
    ] {
        run_to_end(&folder, arguments).is_refusal(says);
    }
}

#[test]
fn a_server_that_is_gone_is_told() {
    let mut plane = plane();
    let text = std::fs::read_to_string(plane.kubeconfig()).unwrap();
    plane.stop();
    let kubeconfig = plane.folder().write("old", text);
    let port = plane.port().to_string();
    for arguments in [
        &["top", "--once", "--kubeconfig", &kubeconfig][..],
        &["fleet", "--nodes", "3", "--kubeconfig", &kubeconfig],
    ] {
        run_to_end(plane.folder(), arguments).is_refusal(&[&port, "no"]);
    }
}

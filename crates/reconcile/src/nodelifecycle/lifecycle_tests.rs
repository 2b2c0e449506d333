//! Stories of nodes that fall silent and come back.

use super::{Config, Lifecycle, NodeView, ZoneState};
use crate::action::{Action, text};
use crate::pod::Pod;
use meta::{Value, object, time};
use std::collections::BTreeMap;
use std::sync::Arc;
use value::json;

const SECOND: i64 = 1_000_000;

/// Nodes as objects, changed by the controller's patches as an API server would.
struct Cluster {
    nodes: BTreeMap<String, Value>,
    lifecycle: Lifecycle,
    now_micros: i64,
}

impl Cluster {
    fn new(nodes: usize, zones: usize) -> Self {
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            lifecycle: Lifecycle::new(Config::default()),
            now_micros: 0,
        };
        for number in 0..nodes {
            let name = format!("n{number:04}");
            let zone = format!("z{}", number % zones);
            cluster.nodes.insert(name.clone(), json!({
                "metadata": {"name": name, "uid": name, "labels": {"topology.kubernetes.io/zone": zone}}}));
            cluster.post_ready(&name);
        }
        cluster
    }

    /// The kubelet posts its status.
    fn post_ready(&mut self, name: &str) {
        let now = time::format_seconds(self.now_micros);
        let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": now});
        self.change(name, |node| node["status"] = json!({"conditions": [ready]}));
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        if let Some(node) = self.nodes.get_mut(name) {
            change(node);
            self.lifecycle
                .node_observed(NodeView::from_object(node), self.now_micros);
        }
    }

    /// Lets the listed nodes renew their leases for some seconds; returns what the controller did.
    fn pass(&mut self, seconds: i64, alive: impl Fn(&str) -> bool) -> String {
        let pods_on = |node: &str| {
            let pod = json!({"metadata": {"namespace": "default", "name": format!("p-{node}"), "uid": "p"},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
            vec![Arc::new(Pod::from_object(&pod))]
        };
        let mut all = Vec::new();
        for _ in 0..seconds {
            self.now_micros += SECOND;
            if (self.now_micros / SECOND) % 10 == 0 {
                for name in self.nodes.keys().filter(|name| alive(name)) {
                    self.lifecycle.heartbeat(name, self.now_micros);
                }
            }
            let mut actions = Vec::new();
            self.lifecycle
                .tick(self.now_micros, 10_000, &pods_on, &mut actions);
            for action in &actions {
                self.apply(action);
            }
            all.extend(actions);
        }
        text(&all)
    }

    fn apply(&mut self, action: &Action) {
        let Action::Patch {
            name,
            subresource,
            body,
            ..
        } = action
        else {
            return;
        };
        if !self.nodes.contains_key(name) {
            return; // a pod's
        }
        let body = body.clone();
        self.change(name, |node| match subresource {
            Some(_) => {
                let heartbeat = node
                    .pointer("/status/conditions/0/lastHeartbeatTime")
                    .cloned();
                node["status"] = body["status"].clone();
                if let Some(heartbeat) = heartbeat {
                    node["status"]["conditions"][0]["lastHeartbeatTime"] = heartbeat;
                }
            }
            None => object::set_at(node, &["spec", "taints"], body["spec"]["taints"].clone()),
        });
    }

    fn taints(&self, name: &str) -> Vec<String> {
        let taints = &NodeView::from_object(&self.nodes[name]).taints;
        taints
            .iter()
            .map(|taint| format!("{}:{}", taint.key, taint.effect))
            .collect()
    }

    fn expelled(&self) -> usize {
        self.nodes
            .keys()
            .filter(|name| {
                self.taints(name)
                    .iter()
                    .any(|taint| taint.ends_with(":NoExecute"))
            })
            .count()
    }
}

#[test]
fn a_silent_node_is_marked_tainted_and_forgiven_when_it_returns() {
    let mut cluster = Cluster::new(4, 1);
    assert_eq!(cluster.pass(100, |_| true), "");
    let silent = |name: &str| name != "n0002";
    assert_eq!(cluster.pass(49, silent), "");
    let told = cluster.pass(3, silent);
    let unknown = |kind: &str| {
        format!(
            r#"{{"lastTransitionTime":"1970-01-01T00:02:31Z","message":"Kubelet stopped posting node status.","reason":"NodeStatusUnknown","status":"Unknown","type":"{kind}"}}"#
        )
    };
    let conditions = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
        .map(unknown)
        .join(",");
    let expected = format!(
        "patch nodes/status n0002 strategic {{\"metadata\":{{\"uid\":\"n0002\"}},\"status\":{{\"conditions\":[{conditions}]}}}}
event Node n0002 Normal NodeNotReady: Node n0002 status is now: NodeNotReady
patch pods/status default/p-n0002 strategic {{\"metadata\":{{\"uid\":\"p\"}},\"status\":{{\"conditions\":[{{\"lastTransitionTime\":\"1970-01-01T00:02:31Z\",\"status\":\"False\",\"type\":\"Ready\"}}]}}}}
patch nodes n0002 merge {{\"metadata\":{{\"uid\":\"n0002\"}},\"spec\":{{\"taints\":[{{\"effect\":\"NoSchedule\",\"key\":\"node.kubernetes.io/unreachable\",\"timeAdded\":\"1970-01-01T00:02:32Z\"}},{{\"effect\":\"NoExecute\",\"key\":\"node.kubernetes.io/unreachable\",\"timeAdded\":\"1970-01-01T00:02:32Z\"}}]}}}}
"
    );
    assert_eq!(told, expected);
    assert_eq!(cluster.pass(200, silent), "", "once is enough");
    cluster.post_ready("n0002");
    let forgiven =
        "patch nodes n0002 merge {\"metadata\":{\"uid\":\"n0002\"},\"spec\":{\"taints\":null}}\n";
    assert_eq!(cluster.pass(5, |_| true), forgiven);
    assert_eq!(cluster.pass(200, |_| true), "");
}

#[test]
fn conditions_and_cordons_become_taints_and_foreign_taints_stay() {
    let mut cluster = Cluster::new(2, 1);
    cluster.change("n0000", |node| {
        node["spec"] = json!({"unschedulable": true, "taints": [{"key": "gpu", "value": "yes", "effect": "NoExecute"}]});
        node["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}, {"type": "MemoryPressure", "status": "True"}]);
    });
    cluster.pass(1, |_| true);
    let expected = [
        "gpu:NoExecute",
        "node.kubernetes.io/memory-pressure:NoSchedule",
        "node.kubernetes.io/unschedulable:NoSchedule",
    ];
    assert_eq!(cluster.taints("n0000"), expected);
    cluster.change("n0000", |node| {
        object::remove_at(node, &["spec", "unschedulable"]);
        node["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
    });
    cluster.pass(2, |_| true);
    let expected = [
        "gpu:NoExecute",
        "node.kubernetes.io/not-ready:NoSchedule",
        "node.kubernetes.io/not-ready:NoExecute",
    ];
    assert_eq!(cluster.taints("n0000"), expected);
}

#[test]
fn a_node_that_never_reported_is_given_more_time() {
    let mut cluster = Cluster::new(1, 1);
    cluster.nodes.insert(
        "new".to_owned(),
        json!({"metadata": {"name": "new", "uid": "new"}}),
    );
    cluster.change("new", |_| {});
    assert_eq!(cluster.pass(59, |name| name != "new"), "");
    let told = cluster.pass(3, |name| name != "new");
    assert!(
        told.contains("Kubelet never posted node status.")
            && told.contains("NodeStatusNeverUpdated"),
        "{told}"
    );
}

/// What it goes by is when it saw a node itself, not the time that is written in the node's status (k8s
/// `nodeHealthData.probeTimestamp`).
#[test]
fn a_controller_that_was_started_anew_gives_every_node_the_whole_time_again() {
    let mut cluster = Cluster::new(6, 2);
    assert_eq!(cluster.pass(20, |_| true), "");
    // An hour later everything is started anew, and nobody has renewed since.
    cluster.now_micros += 3_600 * SECOND;
    cluster.lifecycle = Lifecycle::new(Config::default());
    let names: Vec<String> = cluster.nodes.keys().cloned().collect();
    names.iter().for_each(|name| cluster.change(name, |_| {}));
    assert_eq!(cluster.pass(50, |_| false), "");
    // Those that renewed in time are left alone, the others are marked.
    cluster.lifecycle.heartbeat("n0003", cluster.now_micros);
    let told = cluster.pass(5, |_| false);
    let marked = names
        .iter()
        .filter(|name| told.contains(&format!("patch nodes/status {name} ")));
    let marked: Vec<&str> = marked.map(String::as_str).collect();
    assert_eq!(marked, ["n0000", "n0001", "n0002", "n0004", "n0005"]);
}

#[test]
fn a_silent_zone_is_emptied_slowly_and_a_silent_cluster_not_at_all() {
    let mut cluster = Cluster::new(200, 2);
    let zone_alive =
        |zone: usize| move |name: &str| name[1..].parse::<usize>().unwrap_or(0) % 2 != zone;
    cluster.pass(60, zone_alive(0));
    assert_eq!(
        cluster.lifecycle.zone_state("n0000"),
        Some(ZoneState::FullDisruption)
    );
    assert_eq!(
        cluster.lifecycle.zone_state("n0001"),
        Some(ZoneState::Normal)
    );
    let before = cluster.expelled();
    cluster.pass(100, zone_alive(0));
    assert_eq!(cluster.expelled() - before, 10, "one node in ten seconds");
    // Now the other zone falls silent as well: it must be us.
    cluster.pass(120, |_| false);
    assert_eq!(cluster.expelled(), 0);
    assert!(
        cluster
            .taints("n0001")
            .contains(&"node.kubernetes.io/unreachable:NoSchedule".to_owned())
    );
    for number in 0..200 {
        cluster.post_ready(&format!("n{number:04}"));
    }
    cluster.pass(30, |_| true);
    assert!(
        cluster
            .nodes
            .keys()
            .all(|name| cluster.taints(name).is_empty())
    );
}

#[test]
fn a_partly_silent_zone_is_emptied_at_the_secondary_rate() {
    let mut cluster = Cluster::new(100, 1);
    let some_alive = |name: &str| name[1..].parse::<usize>().unwrap_or(0) < 30;
    cluster.pass(60, some_alive);
    assert_eq!(
        cluster.lifecycle.zone_state("n0000"),
        Some(ZoneState::PartialDisruption)
    );
    let before = cluster.expelled();
    cluster.pass(300, some_alive);
    assert_eq!(
        cluster.expelled() - before,
        3,
        "one node in a hundred seconds"
    );
    let mut small = Cluster::new(10, 1);
    small.pass(360, |name| name == "n0000");
    assert!(small.expelled() <= 1, "a small zone stops");
}

#[test]
fn deleted_nodes_leave_nothing_behind() {
    let mut cluster = Cluster::new(50, 2);
    cluster.pass(20, |_| true);
    for number in 0..50 {
        cluster
            .lifecycle
            .node_deleted(&format!("n{number:04}"), cluster.now_micros);
    }
    cluster.nodes.clear();
    assert_eq!(cluster.pass(200, |_| false), "");
    assert!(cluster.lifecycle.is_empty());
    assert_eq!(cluster.lifecycle.next_micros(), None);
}

//! Pods that mind who is around them: spreading, affinity, host ports, default spreading; and what wakes them.

use std::collections::HashMap;

use client::{DeleteOptions, PatchType};
use meta::Value;
use value::json;

use crate::plane::{NAMESPACE, Plane, core, run};

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A node of a zone, with the label of its own name.
async fn node(plane: &Plane, name: &str, zone: &str, cpu: &str) {
    let labels = json!({"metadata": {"labels": {HOST: name, ZONE: zone}}});
    plane.node(name, cpu, 110, labels).await;
}

/// A pod with the label `app`.
fn of_app(app: &str, spec: Value) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": spec})
}

fn selecting(app: &str) -> Value {
    json!({"matchLabels": {"app": app}})
}

/// Required affinity (`podAffinity`) or anti-affinity to the pods of an app.
fn beside(kind: &str, key: &str, app: &str) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution":
        [{"topologyKey": key, "labelSelector": selecting(app)}]}}})
}

fn spread_hard(app: &str) -> Value {
    json!({"topologySpreadConstraints": [{"topologyKey": ZONE, "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selecting(app)}]})
}

async fn placed_by_node(
    plane: &Plane,
    names: impl Iterator<Item = String>,
) -> HashMap<String, u32> {
    let mut nodes = HashMap::new();
    for name in names {
        *nodes.entry(plane.placed(&name).await).or_default() += 1;
    }
    nodes
}

#[test]
fn hard_spreading_fills_zones_evenly() {
    run(|| async {
        let plane = Plane::start().await;
        // The first zone has the most room by far.
        for (name, zone, cpu) in [
            ("a1", "a", "64"),
            ("a2", "a", "64"),
            ("b1", "b", "8"),
            ("c1", "c", "8"),
        ] {
            node(&plane, name, zone, cpu).await;
        }
        for number in 0..12 {
            let pod = of_app("web", spread_hard("web"));
            plane.pod(&format!("web-{number}"), "500m", pod).await;
        }
        let nodes = placed_by_node(&plane, (0..12).map(|n| format!("web-{n}"))).await;
        let in_a: u32 = nodes
            .iter()
            .filter(|(name, _)| name.starts_with('a'))
            .map(|(_, pods)| pods)
            .sum();
        assert_eq!((in_a, nodes["b1"], nodes["c1"]), (4, 4, 4));
    });
}

/// An empty zone whose only node takes no pods holds the others back; when that node goes, so does the zone.
#[test]
fn a_node_that_goes_takes_its_zone_with_it() {
    run(|| async {
        let plane = Plane::start().await;
        node(&plane, "open", "a", "8").await;
        node(&plane, "closed", "b", "8").await;
        let cordon = json!({"spec": {"unschedulable": true}});
        plane
            .client
            .patch(core("nodes"), "", "closed", "", PatchType::Merge, &cordon)
            .await
            .unwrap();
        plane
            .pod("first", "100m", of_app("web", spread_hard("web")))
            .await;
        assert_eq!(plane.placed("first").await, "open");
        plane
            .pod("second", "100m", of_app("web", spread_hard("web")))
            .await;
        let message = plane.refused("second").await;
        assert!(
            message.starts_with(
                "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, \
                 1 node(s) were unschedulable."
            ),
            "{message}"
        );
        plane
            .client
            .delete(core("nodes"), "", "closed", &DeleteOptions::default())
            .await
            .unwrap();
        assert_eq!(plane.placed("second").await, "open");
    });
}

#[test]
fn anti_affinity_keeps_pods_on_nodes_of_their_own() {
    run(|| async {
        let plane = Plane::start().await;
        for name in ["n1", "n2", "n3"] {
            node(&plane, name, "a", "8").await;
        }
        for number in 0..3 {
            let pod = of_app("db", beside("podAntiAffinity", HOST, "db"));
            plane.pod(&format!("db-{number}"), "100m", pod).await;
        }
        let nodes = placed_by_node(&plane, (0..3).map(|n| format!("db-{n}"))).await;
        assert_eq!(nodes.len(), 3);
        plane
            .pod(
                "db-3",
                "100m",
                of_app("db", beside("podAntiAffinity", HOST, "db")),
            )
            .await;
        let message = plane.refused("db-3").await;
        assert!(
            message.starts_with(
                "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."
            ),
            "{message}"
        );
        // Nobody asks it not to, but those who are there do not want it.
        plane.pod("plain", "100m", of_app("db", json!({}))).await;
        let message = plane.refused("plain").await;
        assert!(
            message.starts_with(
                "0/3 nodes are available: 3 node(s) didn't satisfy existing pods anti-affinity rules."
            ),
            "{message}"
        );
        let left = plane.placed("db-1").await;
        plane.delete("plain").await;
        plane.delete("db-1").await;
        assert_eq!(plane.placed("db-3").await, left);
    });
}

#[test]
fn a_port_of_a_node_is_taken_once() {
    run(|| async {
        let plane = Plane::start().await;
        node(&plane, "n1", "a", "8").await;
        node(&plane, "n2", "a", "8").await;
        let with_port = |protocol: &str| {
            json!({"spec": {"containers": [{"name": "main", "image": "i", "ports":
                [{"containerPort": 80, "hostPort": 8080, "protocol": protocol}]}]}})
        };
        for name in ["p0", "p1"] {
            plane.pod(name, "100m", with_port("TCP")).await;
        }
        let nodes = placed_by_node(&plane, ["p0", "p1"].map(String::from).into_iter()).await;
        assert_eq!(nodes.len(), 2);
        plane.pod("p2", "100m", with_port("TCP")).await;
        let message = plane.refused("p2").await;
        assert!(
            message.starts_with(
                "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports."
            ),
            "{message}"
        );
        plane.pod("udp", "100m", with_port("UDP")).await;
        plane.placed("udp").await;
        let freed = plane.placed("p0").await;
        plane.delete("p0").await;
        assert_eq!(plane.placed("p2").await, freed);
    });
}

#[test]
fn a_pod_waits_for_the_one_it_wants_to_be_beside() {
    run(|| async {
        let plane = Plane::start().await;
        for (name, zone) in [("a1", "a"), ("b1", "b"), ("c1", "c")] {
            node(&plane, name, zone, "8").await;
        }
        plane
            .pod(
                "web",
                "100m",
                of_app("web", beside("podAffinity", ZONE, "db")),
            )
            .await;
        let message = plane.refused("web").await;
        assert!(
            message
                .starts_with("0/3 nodes are available: 3 node(s) didn't match pod affinity rules."),
            "{message}"
        );
        let there = json!({"nodeSelector": {HOST: "b1"}});
        plane.pod("db", "100m", of_app("db", there)).await;
        assert_eq!(plane.placed("db").await, "b1");
        assert_eq!(plane.placed("web").await, "b1");
        // A pod that has a node already may become the one, by a label.
        plane
            .pod(
                "late",
                "100m",
                of_app("late", beside("podAffinity", ZONE, "cache")),
            )
            .await;
        plane.refused("late").await;
        let label = json!({"metadata": {"labels": {"app": "cache"}}});
        plane
            .client
            .patch(core("pods"), NAMESPACE, "db", "", PatchType::Merge, &label)
            .await
            .unwrap();
        assert_eq!(plane.placed("late").await, "b1");
    });
}

#[test]
fn a_namespace_that_gets_the_label_counts_from_then_on() {
    run(|| async {
        let plane = Plane::start().await;
        node(&plane, "a1", "a", "8").await;
        node(&plane, "b1", "b", "8").await;
        let other = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
        plane
            .client
            .create(core("namespaces"), "", &other)
            .await
            .unwrap();
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        plane
            .client
            .create(core("serviceaccounts"), "other", &account)
            .await
            .unwrap();
        let db = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db", "labels": {"app": "db"}},
            "spec": {"nodeName": "b1", "containers": [{"name": "main", "image": "i"}]}});
        plane
            .client
            .create(core("pods"), "other", &db)
            .await
            .unwrap();
        let mut wants = beside("podAffinity", ZONE, "db");
        wants["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["namespaceSelector"] =
            json!({"matchLabels": {"team": "data"}});
        plane.pod("web", "100m", of_app("web", wants)).await;
        plane.refused("web").await;
        let label = json!({"metadata": {"labels": {"team": "data"}}});
        plane
            .client
            .patch(
                core("namespaces"),
                "",
                "other",
                "",
                PatchType::Merge,
                &label,
            )
            .await
            .unwrap();
        assert_eq!(plane.placed("web").await, "b1");
    });
}

/// Without a Service the emptier node gets all of them; with one the pods belong together and are spread.
#[test]
fn pods_of_a_service_are_spread_without_being_asked_to() {
    run(|| async {
        let plane = Plane::start().await;
        node(&plane, "big", "a", "64").await;
        node(&plane, "small", "b", "4").await;
        let alone = ["alone-0", "alone-1", "alone-2", "alone-3"];
        for name in alone {
            plane.pod(name, "100m", of_app("alone", json!({}))).await;
        }
        let nodes = placed_by_node(&plane, alone.map(String::from).into_iter()).await;
        assert_eq!(nodes, HashMap::from([("big".to_owned(), 4)]));
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
        plane
            .client
            .create(core("services"), NAMESPACE, &service)
            .await
            .unwrap();
        let together = ["web-0", "web-1", "web-2", "web-3"];
        // The scheduler hears of Services and of pods over two watches: the first pod shows that it has heard.
        for name in together {
            plane.pod(name, "100m", of_app("web", json!({}))).await;
            plane.placed(name).await;
        }
        let nodes = placed_by_node(&plane, together.map(String::from).into_iter()).await;
        assert_eq!(
            nodes,
            HashMap::from([("big".to_owned(), 2), ("small".to_owned(), 2)])
        );
    });
}

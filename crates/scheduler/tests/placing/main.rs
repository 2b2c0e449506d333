//! The scheduler against a real API server, both in this process: pods in, bindings out.
//!
//! Every fact is read back from the API: what the scheduler believes is not asked.

mod claims;
mod company;
mod extended;
mod extending;
mod ganging;
mod leading;
mod measuring;
mod outsider;
mod plane;
mod preempting;
mod sharded;
mod volumes;

use std::collections::HashMap;
use std::time::Duration;

use client::PatchType;
use meta::Value;
use plane::{NAMESPACE, PATIENCE, Plane, condition, core, node_of, run};
use value::json;

#[test]
fn pods_go_where_they_may() {
    run(|| async {
        let plane = Plane::start().await;
        plane.node("plain", "8", 110, json!({})).await;
        plane
            .node(
                "disk",
                "8",
                110,
                json!({"metadata": {"labels": {"disk": "ssd"}}}),
            )
            .await;
        let taint =
            json!({"spec": {"taints": [{"key": "only", "value": "gpu", "effect": "NoSchedule"}]}});
        plane.node("gpu", "8", 110, taint).await;
        plane
            .node("off", "8", 110, json!({"spec": {"unschedulable": true}}))
            .await;
        for number in 0..12 {
            plane.pod(&format!("any-{number}"), "100m", json!({})).await;
            plane
                .pod(
                    &format!("ssd-{number}"),
                    "100m",
                    json!({"spec": {"nodeSelector": {"disk": "ssd"}}}),
                )
                .await;
        }
        let tolerant = json!({"spec": {"nodeSelector": {"kubernetes.io/hostname": "gpu"},
            "tolerations": [{"key": "only", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}]}});
        plane
            .client
            .patch(
                core("nodes"),
                "",
                "gpu",
                "",
                PatchType::Merge,
                &json!({"metadata": {"labels": {"kubernetes.io/hostname": "gpu"}}}),
            )
            .await
            .unwrap();
        plane.pod("tolerant", "100m", tolerant).await;
        for number in 0..12 {
            let node = plane.placed(&format!("any-{number}")).await;
            assert!(node == "plain" || node == "disk", "{node}");
            assert_eq!(plane.placed(&format!("ssd-{number}")).await, "disk");
        }
        assert_eq!(plane.placed("tolerant").await, "gpu");
        let other = plane
            .pod(
                "other",
                "100m",
                json!({"spec": {"schedulerName": "somebody-else"}}),
            )
            .await;
        plane.pod("last", "100m", json!({})).await;
        plane.placed("last").await;
        assert_eq!(
            plane.get("other").await,
            other,
            "pods of other schedulers are left alone"
        );
    });
}

#[test]
fn who_fits_nowhere_is_told_why_and_waits() {
    run(|| async {
        let plane = Plane::start().await;
        plane.pod("early", "100m", json!({})).await;
        assert_eq!(
            plane.refused("early").await,
            "no nodes available to schedule pods"
        );
        plane.node("small", "1", 110, json!({})).await;
        assert_eq!(plane.placed("early").await, "small");
        plane.pod("large", "2", json!({})).await;
        plane
            .pod(
                "picky",
                "100m",
                json!({"spec": {"nodeSelector": {"disk": "ssd"}}}),
            )
            .await;
        let message = plane.refused("large").await;
        assert!(
            message.starts_with("0/1 nodes are available: 1 Insufficient cpu."),
            "{message}"
        );
        let message = plane.refused("picky").await;
        assert!(
            message.starts_with(
                "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
            ),
            "{message}"
        );
        plane
            .node(
                "big",
                "4",
                110,
                json!({"metadata": {"labels": {"disk": "ssd"}}}),
            )
            .await;
        assert_eq!(plane.placed("large").await, "big");
        assert_eq!(plane.placed("picky").await, "big");
        let bound = plane.get("large").await;
        assert_eq!(condition(&bound).unwrap()["status"], "True");
        assert_eq!(bound["status"]["conditions"].as_array().unwrap().len(), 1);
    });
}

/// More pods than there is room for: as many are placed as fit, and never one more.
#[test]
fn nodes_are_filled_and_never_overcommitted() {
    run(|| async {
        let plane = Plane::start().await;
        for number in 0..20 {
            plane
                .node(&format!("n{number:02}"), "2", 7, json!({}))
                .await;
        }
        // 20 nodes with 2 CPUs take 80 of half a CPU each; some of them are taken by small pods, 7 a node at most.
        for number in 0..200 {
            plane
                .pod(
                    &format!("p{number:03}"),
                    if number % 4 == 0 { "100m" } else { "500m" },
                    json!({}),
                )
                .await;
        }
        let settled = async {
            loop {
                let pods = plane.pods().await;
                if pods.iter().all(|pod| condition(pod).is_some()) {
                    return pods;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let pods = tokio::time::timeout(PATIENCE, settled)
            .await
            .expect("not every pod was tried");
        let mut used: HashMap<&str, (i64, usize)> = HashMap::new();
        let milli = |pod: &Value| {
            let text = pod["spec"]["containers"][0]["resources"]["requests"]["cpu"]
                .as_str()
                .unwrap();
            meta::Quantity::parse(text).unwrap().milli_value()
        };
        for pod in pods.iter().filter(|pod| !node_of(pod).is_empty()) {
            let entry = used.entry(node_of(pod)).or_default();
            entry.0 += milli(pod);
            entry.1 += 1;
        }
        for (node, (cpu, count)) in &used {
            assert!(
                *cpu <= 2_000 && *count <= 7,
                "{node} has {cpu} m in {count} pods"
            );
        }
        assert_eq!(used.len(), 20);
        // Who waits fits nowhere: no node has room for the smallest of them.
        for waiting in pods.iter().filter(|pod| node_of(pod).is_empty()) {
            assert!(
                used.values()
                    .all(|(cpu, count)| *count == 7 || cpu + milli(waiting) > 2_000)
            );
        }
    });
}

#[test]
fn a_pod_that_goes_leaves_its_room() {
    run(|| async {
        let plane = Plane::start().await;
        plane.node("n", "1", 110, json!({})).await;
        plane.pod("first", "800m", json!({})).await;
        plane.placed("first").await;
        plane.pod("second", "800m", json!({})).await;
        plane.refused("second").await;
        plane.delete("first").await;
        assert_eq!(plane.placed("second").await, "n");
        // A pod that ended keeps its object and gives its room back.
        plane.pod("third", "800m", json!({})).await;
        plane.refused("third").await;
        let done = json!({"status": {"phase": "Succeeded"}});
        plane
            .client
            .patch(
                core("pods"),
                NAMESPACE,
                "second",
                "status",
                PatchType::Merge,
                &done,
            )
            .await
            .unwrap();
        assert_eq!(plane.placed("third").await, "n");
    });
}

/// A pod of the same name is another pod: it gets a node of its own, and the room of the first is counted once.
#[test]
fn names_come_back_with_other_pods() {
    run(|| async {
        let plane = Plane::start().await;
        plane.node("n", "1", 110, json!({})).await;
        for round in 0..10 {
            let created = plane.pod("again", "600m", json!({})).await;
            if round % 2 == 0 {
                assert_eq!(plane.placed("again").await, "n");
            }
            let stored = plane.get("again").await;
            assert_eq!(stored["metadata"]["uid"], created["metadata"]["uid"]);
            plane.delete("again").await;
        }
        plane.pod("again", "600m", json!({})).await;
        plane.placed("again").await;
        plane.pod("beside", "400m", json!({})).await;
        assert_eq!(plane.placed("beside").await, "n");
        plane.pod("beyond", "100m", json!({})).await;
        assert!(plane.refused("beyond").await.contains("Insufficient cpu"));
    });
}

/// More unschedulable pods than one turn takes are all tried, though nothing happens that would wake the loop.
#[test]
fn every_waiting_pod_gets_its_turn() {
    run(|| async {
        let plane = Plane::start().await;
        for number in 0..700 {
            // Each of a class of its own.
            let selector = json!({"spec": {"nodeSelector": {"rack": format!("r{number}")}}});
            plane.pod(&format!("p{number}"), "100m", selector).await;
        }
        // All are told, though more than fit at a time had something to be told.
        for number in 0..700 {
            plane.refused(&format!("p{number}")).await;
        }
        for number in 0..700 {
            let labels = json!({"metadata": {"labels": {"rack": format!("r{number}")}}});
            plane.node(&format!("n{number}"), "1", 110, labels).await;
        }
        for number in 0..700 {
            assert_eq!(
                plane.placed(&format!("p{number}")).await,
                format!("n{number}")
            );
        }
    });
}

/// Two profiles: one fills nodes, one spreads; a third name is nobody's.
#[test]
fn profiles_place_their_own_pods() {
    run(|| async {
        let plane = Plane::start_with_nobody().await;
        let settings = scheduler::Settings::parse(
            "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
             - schedulerName: default-scheduler\n- schedulerName: packing\n  plugins:\n    multiPoint:\n      \
             enabled: [{name: NodeResourcesFit, weight: 50}]\n  pluginConfig:\n  - name: NodeResourcesFit\n    \
             args: {scoringStrategy: {type: MostAllocated}}\n",
        )
        .unwrap();
        plane.add_scheduler(|config| *config = settings.scheduler);
        for name in ["a", "b", "c"] {
            plane.node(name, "8", 110, json!({})).await;
        }
        plane.pod("first", "2", json!({})).await;
        let node = plane.placed("first").await;
        let packing = json!({"spec": {"schedulerName": "packing"}});
        for number in 0..4 {
            let name = format!("packed-{number}");
            plane.pod(&name, "1", packing.clone()).await;
            assert_eq!(plane.placed(&name).await, node);
        }
        plane.pod("spread", "1", json!({})).await;
        assert_ne!(plane.placed("spread").await, node);
        plane.pod("full", "9", packing).await;
        assert!(plane.refused("full").await.contains("Insufficient cpu"));
    });
}

/// Gates keep a pod out of the queue until the last is gone.
#[test]
fn gated_pods_wait_for_their_gates() {
    run(|| async {
        let plane = Plane::start().await;
        plane.node("n", "8", 110, json!({})).await;
        let gates =
            json!({"spec": {"schedulingGates": [{"name": "a.b/one"}, {"name": "a.b/two"}]}});
        let created = plane.pod("gated", "100m", gates).await;
        let found = condition(&created).unwrap();
        assert_eq!(found["reason"], "SchedulingGated");
        plane.pod("free", "100m", json!({})).await;
        plane.placed("free").await;
        let waiting = async {
            while plane
                .progress
                .gated
                .load(std::sync::atomic::Ordering::Relaxed)
                != 1
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
        for (gates, node) in [(json!([{"name": "a.b/two"}]), ""), (json!([]), "n")] {
            let patch = json!({"spec": {"schedulingGates": gates}});
            plane
                .client
                .patch(
                    core("pods"),
                    NAMESPACE,
                    "gated",
                    "",
                    PatchType::Merge,
                    &patch,
                )
                .await
                .unwrap();
            if node.is_empty() {
                plane.pod("other", "100m", json!({})).await;
                plane.placed("other").await;
                assert_eq!(node_of(&plane.get("gated").await), "");
            } else {
                assert_eq!(plane.placed("gated").await, node);
            }
        }
    });
}

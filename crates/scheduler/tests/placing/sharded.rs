//! The scheduler with its nodes in shards, against a real API server in this process.

use std::collections::BTreeSet;

use scheduler::Shards;
use serde_json::json;

use crate::plane::{Plane, run};

#[test]
fn shards_on_threads_place_evict_and_say_why() {
    run(|| async {
        let plane = Plane::start_with_nobody().await;
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": "high"}, "value": 1000});
        let classes = schema::resource("scheduling.k8s.io", "v1", "priorityclasses").unwrap();
        plane.client.create(classes, "", &class).await.unwrap();
        plane.add_scheduler(|config| config.shards = Shards::threads(3));
        for number in 0..12 {
            let name = format!("n{number:02}");
            plane.node(&name, "1", 110, json!({})).await;
        }
        // One a node, whichever shard has it.
        for number in 0..12 {
            plane.pod(&format!("p{number:02}"), "600m", json!({})).await;
        }
        let mut taken = BTreeSet::new();
        for number in 0..12 {
            taken.insert(plane.placed(&format!("p{number:02}")).await);
        }
        assert_eq!(taken.len(), 12);
        plane.pod("more", "600m", json!({})).await;
        let message = plane.refused("more").await;
        assert!(
            message.starts_with("0/12 nodes are available: 12 Insufficient cpu."),
            "{message}"
        );
        plane
            .pod(
                "urgent",
                "600m",
                json!({"spec": {"priorityClassName": "high"}}),
            )
            .await;
        let node = plane.placed("urgent").await;
        assert!(taken.contains(&node), "somebody had to go from {node}");
    });
}

//! What the metrics say, beside what the API shows.

use std::time::Duration;

use value::json;

use crate::plane::{NAMESPACE, PATIENCE, Plane, core, run};
use crate::preempting::classes;

/// The value of the line that begins so; `None` where there is none.
fn value(plane: &Plane, line: &str) -> Option<f64> {
    let mut text = String::new();
    plane.progress.write_metrics(&mut text);
    let rest = text.lines().find_map(|known| known.strip_prefix(line))?;
    rest.trim().parse().ok()
}

async fn becomes(plane: &Plane, line: &str, expected: Option<f64>) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while value(plane, line) != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    if waited.await.is_err() {
        panic!("{line}: {:?}, not {expected:?}", value(plane, line));
    }
}

#[test]
fn pods_that_wait_are_counted_by_who_keeps_them() {
    run(|| async {
        let plane = Plane::start().await;
        plane.node("small", "1", 110, json!({})).await;
        let rejected = |plugin: &str| {
            format!(
                "scheduler_unschedulable_pods{{plugin=\"{plugin}\",profile=\"default-scheduler\"}}"
            )
        };
        let (fit, affinity) = (rejected("NodeResourcesFit"), rejected("NodeAffinity"));
        plane.pod("large", "2", json!({})).await;
        plane.pod("also-large", "3", json!({})).await;
        let picky = json!({"spec": {"nodeSelector": {"disk": "ssd"}}});
        plane.pod("picky", "1", picky).await;
        let gated = json!({"spec": {"schedulingGates": [{"name": "shop.example/paid"}]}});
        plane.pod("gated", "100m", gated).await;
        becomes(&plane, &fit, Some(2.0)).await;
        becomes(&plane, &affinity, Some(1.0)).await;
        becomes(&plane, &rejected("SchedulingGates"), Some(1.0)).await;
        // One goes, one finds its place.
        plane.delete("also-large").await;
        becomes(&plane, &fit, Some(1.0)).await;
        let ssd = json!({"metadata": {"labels": {"disk": "ssd"}}});
        plane.node("big", "4", 110, ssd).await;
        assert_eq!(plane.placed("large").await, "big");
        assert_eq!(plane.placed("picky").await, "big");
        becomes(&plane, &fit, None).await;
        becomes(&plane, &affinity, None).await;
        let none = json!({"spec": {"schedulingGates": null}});
        let kind = client::PatchType::Merge;
        let patched = plane
            .client
            .patch(core("pods"), NAMESPACE, "gated", "", kind, &none);
        patched.await.unwrap();
        plane.placed("gated").await;
        becomes(&plane, &rejected("SchedulingGates"), None).await;
        becomes(
            &plane,
            "scheduler_goroutines{operation=\"binding\"}",
            Some(0.0),
        )
        .await;
        becomes(
            &plane,
            "scheduler_cache_size{type=\"assumed_pods\"}",
            Some(0.0),
        )
        .await;
        becomes(&plane, "scheduler_cache_size{type=\"pods\"}", Some(3.0)).await;
        let handled = "scheduler_event_handling_duration_seconds_count{event=\"NodeAdd\"}";
        assert!(value(&plane, handled) > Some(0.0));
    });
}

#[test]
fn a_pods_way_and_its_steps_are_measured() {
    run(|| async {
        let plane = Plane::start().await;
        classes(&plane).await;
        plane.node("a", "1", 110, json!({})).await;
        plane.pod("low", "1", json!({})).await;
        plane.placed("low").await;
        let sli = "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"1\"}";
        becomes(&plane, sli, Some(1.0)).await;
        let high = json!({"spec": {"priorityClassName": "high"}});
        plane.pod("high", "1", high).await;
        plane
            .until("low", |pod| !pod["metadata"]["deletionTimestamp"].is_null())
            .await;
        plane.delete("low").await;
        plane.placed("high").await;
        becomes(&plane, "scheduler_pod_scheduling_attempts_count", Some(2.0)).await;
        // How often the second was tried depends on what came first; more than once in any case.
        assert_eq!(value(&plane, sli), Some(1.0));
        let point = |point: &str, status: &str| {
            format!(
                "scheduler_framework_extension_point_duration_seconds_count{{extension_point=\"{point}\",\
                 profile=\"default-scheduler\",status=\"{status}\"}}"
            )
        };
        becomes(&plane, &point("Bind", "Success"), Some(2.0)).await;
        becomes(&plane, &point("PostFilter", "Success"), Some(1.0)).await;
        assert_eq!(value(&plane, &point("PreBind", "Success")), None);
        let plugin = "scheduler_plugin_execution_duration_seconds_count{extension_point=\"Bind\",plugin=\"DefaultBinder\",status=\"Success\"}";
        becomes(&plane, plugin, Some(2.0)).await;
        let evictions = "scheduler_preemption_goroutines_execution_total{result=\"success\"}";
        becomes(&plane, evictions, Some(1.0)).await;
    });
}

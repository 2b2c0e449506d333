//! Pods of higher priority make room for themselves: who goes, who waits for what, and what is said about it.
//!
//! Nobody runs kubelets here: a pod that is told to go stays, terminating, until the test lets it go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use apiserver::Api;
use client::{Client, DeleteOptions, ListOptions};
use meta::Value;
use rest::http::{Method, Reply, ReplyFuture, Request, Service};
use value::json;

use crate::plane::{NAMESPACE, PATIENCE, Plane, core, node_of, run};

async fn class(plane: &Plane, name: &str, value: i64, policy: &str) {
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
        "value": value, "preemptionPolicy": policy});
    let classes = schema::resource("scheduling.k8s.io", "v1", "priorityclasses").unwrap();
    plane.client.create(classes, "", &class).await.unwrap();
}

/// A plane with classes of priority 1000 and 500, and one of 1000 that never preempts.
async fn plane() -> Plane {
    let plane = Plane::start().await;
    classes(&plane).await;
    plane
}

pub async fn classes(plane: &Plane) {
    class(plane, "high", 1000, "PreemptLowerPriority").await;
    class(plane, "middle", 500, "PreemptLowerPriority").await;
    class(plane, "polite", 1000, "Never").await;
}

async fn pod(plane: &Plane, name: &str, class: &str, cpu: &str) {
    let spec = match class {
        "" => json!({}),
        class => json!({"spec": {"priorityClassName": class}}),
    };
    plane.pod(name, cpu, spec).await;
}

/// Waits until a pod is told to go for another, and checks what is said in its status.
async fn evicted(plane: &Plane, name: &str) {
    let pod = plane
        .until(name, |pod| !pod["metadata"]["deletionTimestamp"].is_null())
        .await;
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let marked: Vec<&Value> = conditions
        .iter()
        .filter(|c| c["type"] == "DisruptionTarget")
        .collect();
    assert_eq!(marked.len(), 1);
    assert_eq!(marked[0]["status"], "True");
    assert_eq!(marked[0]["reason"], "PreemptionByScheduler");
    assert_eq!(
        marked[0]["message"],
        "default-scheduler: preempting to accommodate a higher priority pod"
    );
}

fn nominated(pod: &Value) -> &str {
    pod["status"]["nominatedNodeName"]
        .as_str()
        .unwrap_or_default()
}

/// Waits until a pod has a node in view.
async fn in_view(plane: &Plane, name: &str) -> String {
    let pod = plane
        .until(name, |pod| {
            !nominated(pod).is_empty() && node_of(pod).is_empty()
        })
        .await;
    nominated(&pod).to_owned()
}

/// Waits until a pod's status says this.
async fn says(plane: &Plane, name: &str, message: &str) {
    plane
        .until(name, |pod| {
            crate::plane::condition(pod).is_some_and(|c| c["message"] == message)
        })
        .await;
}

pub async fn event(plane: &Plane, about: &str, reason: &str) -> Value {
    let selector = format!("involvedObject.name={about},reason={reason}");
    let options = ListOptions {
        field_selector: selector,
        ..ListOptions::default()
    };
    let waiting = async {
        loop {
            let events = plane.client.list(core("events"), NAMESPACE, &options).await;
            if let Some(event) = events.unwrap().items.first() {
                return event.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("no event {reason} about {about}"))
}

#[test]
fn a_pod_of_higher_priority_makes_room() {
    run(|| async {
        let plane = plane().await;
        plane.node("n", "2", 110, json!({})).await;
        pod(&plane, "low", "", "1500m").await;
        assert_eq!(plane.placed("low").await, "n");
        pod(&plane, "high", "high", "1500m").await;
        assert_eq!(in_view(&plane, "high").await, "n");
        evicted(&plane, "low").await;
        // As long as the victim is there its successor waits, and evicts nobody else.
        says(
            &plane,
            "high",
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: \
             not eligible due to terminating pod on the nominated node.",
        )
        .await;
        let uid = plane.get("high").await["metadata"]["uid"].clone();
        let told = event(&plane, "low", "Preempted").await;
        assert_eq!(
            told["message"],
            format!("Preempted by pod {} on node n", uid.as_str().unwrap())
        );
        assert_eq!(told["type"], "Normal");
        assert_eq!(told["action"], "Preempting");
        assert_eq!(told["related"]["name"], "high");
        let told = event(&plane, "high", "FailedScheduling").await;
        assert_eq!(
            told["message"],
            "0/1 nodes are available: 1 Insufficient cpu."
        );
        // The room it waits for is not given to others of no higher priority, though they would fit now.
        pod(&plane, "late", "", "400m").await;
        assert!(plane.refused("late").await.contains("Insufficient cpu"));
        pod(&plane, "equal", "high", "400m").await;
        assert!(plane.refused("equal").await.contains("Insufficient cpu"));
        plane.delete("low").await;
        assert_eq!(plane.placed("high").await, "n");
        assert_eq!(plane.placed("equal").await, "n");
        assert_eq!(nominated(&plane.get("high").await), "");
    });
}

#[test]
fn who_never_preempts_or_has_nobody_below_waits() {
    run(|| async {
        let plane = plane().await;
        plane.node("n", "1", 110, json!({})).await;
        pod(&plane, "low", "middle", "800m").await;
        plane.placed("low").await;
        pod(&plane, "polite", "polite", "800m").await;
        assert_eq!(
            plane.refused("polite").await,
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: \
             not eligible due to preemptionPolicy=Never."
        );
        pod(&plane, "equal", "middle", "800m").await;
        assert_eq!(
            plane.refused("equal").await,
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: \
             0/1 nodes are available: 1 No preemption victims found for incoming pod."
        );
        pod(&plane, "huge", "high", "2").await;
        assert_eq!(
            plane.refused("huge").await,
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: \
             0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        );
        let low = plane.get("low").await;
        assert!(low["metadata"]["deletionTimestamp"].is_null());
        for name in ["polite", "equal", "huge"] {
            assert_eq!(nominated(&plane.get(name).await), "");
        }
    });
}

#[test]
fn a_disruption_budget_is_respected_where_there_is_a_choice() {
    run(|| async {
        let plane = plane().await;
        let budgets = schema::resource("policy", "v1", "poddisruptionbudgets").unwrap();
        let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "kept"}}}});
        plane
            .client
            .create(budgets, NAMESPACE, &budget)
            .await
            .unwrap();
        for name in ["a", "b"] {
            plane.node(name, "1", 110, json!({})).await;
        }
        for name in ["kept", "other"] {
            let labelled = json!({"metadata": {"labels": {"app": name}}});
            plane.pod(name, "800m", labelled).await;
            plane.placed(name).await;
        }
        pod(&plane, "first", "high", "800m").await;
        let node = plane.placed("other").await;
        assert_eq!(in_view(&plane, "first").await, node);
        evicted(&plane, "other").await;
        assert!(plane.get("kept").await["metadata"]["deletionTimestamp"].is_null());
        plane.delete("other").await;
        assert_eq!(plane.placed("first").await, node);
        // Where there is none, the budget does not save it.
        pod(&plane, "second", "high", "800m").await;
        evicted(&plane, "kept").await;
    });
}

#[test]
fn several_at_once_each_get_a_node_of_their_own() {
    run(|| async {
        const NODES: usize = 12;
        let plane = plane().await;
        for number in 0..NODES {
            plane.node(&format!("n{number}"), "1", 110, json!({})).await;
        }
        for number in 0..NODES {
            pod(&plane, &format!("low-{number}"), "", "800m").await;
        }
        for number in 0..NODES {
            plane.placed(&format!("low-{number}")).await;
        }
        for number in 0..NODES {
            pod(&plane, &format!("high-{number}"), "high", "800m").await;
        }
        for number in 0..NODES {
            evicted(&plane, &format!("low-{number}")).await;
        }
        let mut views = Vec::new();
        for number in 0..NODES {
            views.push(in_view(&plane, &format!("high-{number}")).await);
        }
        // The last to be evicted leaves first: each of those who wait has a node of its own to wait for.
        for number in (0..NODES).rev() {
            plane.delete(&format!("low-{number}")).await;
        }
        for (number, view) in views.iter().enumerate() {
            assert_eq!(plane.placed(&format!("high-{number}")).await, *view);
        }
        views.sort();
        views.dedup();
        assert_eq!(views.len(), NODES);
        assert_eq!(plane.progress.victims.load(Ordering::Relaxed), NODES as u64);
    });
}

#[test]
fn a_higher_one_takes_the_place_that_a_lower_one_had_in_view() {
    run(|| async {
        let plane = plane().await;
        plane.node("n", "1", 110, json!({})).await;
        pod(&plane, "low", "", "800m").await;
        plane.placed("low").await;
        pod(&plane, "middle", "middle", "800m").await;
        assert_eq!(in_view(&plane, "middle").await, "n");
        evicted(&plane, "low").await;
        pod(&plane, "high", "high", "800m").await;
        assert_eq!(in_view(&plane, "high").await, "n");
        plane.until("middle", |pod| nominated(pod).is_empty()).await;
        plane.delete("low").await;
        assert_eq!(plane.placed("high").await, "n");
        assert!(node_of(&plane.get("middle").await).is_empty());
    });
}

#[test]
fn a_preemptor_that_is_deleted_leaves_its_claim() {
    run(|| async {
        let plane = plane().await;
        plane.node("n", "1", 110, json!({})).await;
        pod(&plane, "low", "", "800m").await;
        plane.placed("low").await;
        pod(&plane, "high", "high", "800m").await;
        in_view(&plane, "high").await;
        evicted(&plane, "low").await;
        pod(&plane, "next", "", "800m").await;
        plane.refused("next").await;
        plane.delete("high").await;
        plane.delete("low").await;
        assert_eq!(plane.placed("next").await, "n");
    });
}

/// A scheduler that starts anew finds in the status what its predecessor had in view.
#[test]
fn a_nomination_that_is_found_counts() {
    run(|| async {
        let plane = Plane::start_with_nobody().await;
        classes(&plane).await;
        let bound = json!({"spec": {"nodeName": "n"}});
        plane.node("n", "2", 110, json!({})).await;
        plane.pod("low", "1500m", bound).await;
        pod(&plane, "high", "high", "1500m").await;
        let status = json!({"status": {"nominatedNodeName": "n"}});
        let merge = client::PatchType::Merge;
        plane
            .client
            .patch(core("pods"), NAMESPACE, "high", "status", merge, &status)
            .await
            .unwrap();
        let terminate = DeleteOptions::default();
        plane
            .client
            .delete(core("pods"), NAMESPACE, "low", &terminate)
            .await
            .unwrap();
        pod(&plane, "late", "", "400m").await;
        plane.add_scheduler(|config| config.seed = 3);
        assert!(plane.refused("late").await.contains("Insufficient cpu"));
        plane.delete("low").await;
        assert_eq!(plane.placed("high").await, "n");
        assert_eq!(plane.placed("late").await, "n");
    });
}

/// Lets requests of the scheduler fail, or something happen before them.
pub struct Faulty {
    pub api: Api,
    pub meant: Box<dyn Fn(&Request) -> bool + Send + Sync>,
    /// So many of the requests meant fail in this way.
    pub failures: AtomicUsize,
    pub status: u16,
    /// Deletes this pod before the first request meant is made.
    pub delete_first: Option<&'static str>,
}

impl Service for Faulty {
    fn call(&self, request: Request) -> ReplyFuture {
        if !(self.meant)(&request) {
            return self.api.call(request);
        }
        let left = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if left.is_ok() {
            let status = self.status;
            let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status,
                "reason": if status == 409 { "Conflict" } else { "InternalError" }, "message": "made to fail"});
            return Box::pin(async move {
                match status {
                    0 => Reply::text(0, "made to fail"),
                    _ => Reply::full(status, "application/json", body.to_string()),
                }
            });
        }
        let Some(name) = self.delete_first else {
            return self.api.call(request);
        };
        let api = self.api.clone();
        Box::pin(async move {
            let client = Client::new(Arc::new(api.clone()), Some(Api::system_user()), "test/3");
            let now = DeleteOptions {
                grace_period_seconds: Some(0),
                ..DeleteOptions::default()
            };
            let _ = client.delete(core("pods"), NAMESPACE, name, &now).await;
            api.call(request).await
        })
    }
}

async fn one_victim(faulty: impl FnOnce(Api) -> Faulty) -> Plane {
    let plane = Plane::start_through(|api| Arc::new(faulty(api))).await;
    classes(&plane).await;
    plane.node("n", "1", 110, json!({})).await;
    pod(&plane, "low", "", "800m").await;
    plane.placed("low").await;
    pod(&plane, "high", "high", "800m").await;
    plane
}

#[test]
fn requests_that_fail_are_made_again() {
    run(|| async {
        for status in [0, 409, 500] {
            // Marking the victim fails twice.
            let plane = one_victim(|api| Faulty {
                api,
                meant: Box::new(|request| {
                    request.method == Method::Patch && request.path.ends_with("/pods/low/status")
                }),
                failures: AtomicUsize::new(2),
                status,
                delete_first: None,
            })
            .await;
            evicted(&plane, "low").await;
            plane.delete("low").await;
            assert_eq!(plane.placed("high").await, "n");
        }
    });
}

/// When all tries fail the pod is tried anew: nothing will happen in the cluster that would wake it.
#[test]
fn an_eviction_that_fails_is_decided_anew() {
    run(|| async {
        let plane = one_victim(|api| Faulty {
            api,
            meant: Box::new(|request| {
                request.method == Method::Delete && request.path.ends_with("/pods/low")
            }),
            failures: AtomicUsize::new(6),
            status: 500,
            delete_first: None,
        })
        .await;
        evicted(&plane, "low").await;
        plane.delete("low").await;
        assert_eq!(plane.placed("high").await, "n");
        assert!(plane.progress.preemptions.load(Ordering::Relaxed) >= 2);
    });
}

/// An older API server that does not know disruption budgets: pods are placed all the same.
#[test]
fn budgets_need_not_be_served() {
    run(|| async {
        let plane = one_victim(|api| Faulty {
            api,
            meant: Box::new(|request| request.path.contains("poddisruptionbudgets")),
            failures: AtomicUsize::new(usize::MAX),
            status: 404,
            delete_first: None,
        })
        .await;
        evicted(&plane, "low").await;
        plane.delete("low").await;
        assert_eq!(plane.placed("high").await, "n");
    });
}

#[test]
fn a_victim_may_be_gone_already() {
    run(|| async {
        for method in [Method::Get, Method::Patch, Method::Delete] {
            let plane = one_victim(|api| Faulty {
                api,
                meant: Box::new(move |request| {
                    request.method == method && request.path.contains("/pods/low")
                }),
                failures: AtomicUsize::new(0),
                status: 0,
                delete_first: Some("low"),
            })
            .await;
            assert_eq!(plane.placed("high").await, "n");
            assert_eq!(nominated(&plane.get("high").await), "");
        }
    });
}

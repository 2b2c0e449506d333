//! Extenders: who is asked what, what their answers do, and what happens when there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meta::Value;
use scheduler::ExtenderConfig;
use value::json;

use crate::outsider::{Outsider, Said};
use crate::plane::{NAMESPACE, Plane, condition, node_of, run};
use crate::preempting::event;

async fn plane(extenders: Vec<ExtenderConfig>, nodes: &[&str]) -> Plane {
    let plane = Plane::start_with_nobody().await;
    for node in nodes {
        plane.node(node, "2", 110, json!({})).await;
    }
    plane.add_scheduler(|config| {
        config.extenders = extenders;
        config.profiles[0].rules.ignored_resources = vec!["example.com/gpu".into()];
    });
    plane
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Waits until something went wrong with a pod, and gives the words.
async fn failed(plane: &Plane, name: &str) -> String {
    let said = |pod: &Value| condition(pod).is_some_and(|c| c["reason"] == "SchedulerError");
    let pod = plane.until(name, said).await;
    assert_eq!(node_of(&pod), "");
    text(&condition(&pod).unwrap()["message"]).to_owned()
}

#[test]
fn a_filter_that_knows_no_nodes_is_given_them_and_says_who_is_left() {
    run(|| async {
        let open = Arc::new(AtomicBool::new(false));
        let opened = open.clone();
        let outsider = Outsider::start(move |_, question| {
            let items = question["Nodes"]["items"].as_array().unwrap().clone();
            if question["Pod"]["metadata"]["name"] == "picky" && !opened.load(Ordering::Relaxed) {
                let failed = json!({"a": "too small", "b": "too small", "c": "both"});
                return Said::Json(json!({"Nodes": {"items": []}, "FailedNodes": failed,
                    "FailedAndUnresolvableNodes": {"c": "too old"}}));
            }
            let left: Vec<Value> = items
                .into_iter()
                .filter(|node| node["metadata"]["name"] == "b")
                .collect();
            Said::Json(json!({"Nodes": {"items": left}}))
        })
        .await;
        let config = ExtenderConfig {
            filter_verb: "filter".into(),
            node_cache_capable: false,
            ..outsider.config()
        };
        let plane = plane(vec![config], &["a", "b", "c"]).await;
        plane.pod("p", "100m", json!({})).await;
        assert_eq!(plane.placed("p").await, "b");
        let asked = outsider.asked("filter").remove(0);
        assert_eq!(asked["Pod"]["metadata"]["name"], "p");
        assert_eq!(asked["Pod"]["spec"]["containers"][0]["image"], "i");
        assert_eq!(asked["NodeNames"], Value::Null);
        let items = asked["Nodes"]["items"].as_array().unwrap();
        assert_eq!(items.len(), 3);
        assert!(
            items
                .iter()
                .all(|node| node["status"]["allocatable"]["cpu"] == "2")
        );
        // Why nobody is left is counted with our own reasons; where two are given the graver one counts.
        plane.node("full", "2", 0, json!({})).await;
        plane.pod("picky", "100m", json!({})).await;
        let message = plane.refused("picky").await;
        assert!(
            message
                .starts_with("0/4 nodes are available: 1 Too many pods, 1 too old, 2 too small. "),
            "{message}"
        );
        // Whatever happens may change its mind.
        open.store(true, Ordering::Relaxed);
        plane.delete("p").await;
        assert_eq!(plane.placed("picky").await, "b");
    });
}

#[test]
fn scores_are_multiplied_and_added_to_our_own() {
    run(|| async {
        let score = |verb: &str, best: &str, score: i64, question: &Value| {
            assert_eq!(question["Nodes"], Value::Null);
            let names = question["NodeNames"].as_array().unwrap();
            let scores = names.iter().map(|name| {
                let score = if *name == *best { score } else { 0 };
                json!({"Host": name, "Score": score})
            });
            assert_eq!(verb, "score");
            Said::Json(scores.collect())
        };
        let one = Outsider::start(move |verb, question| score(verb, "busy", 3, question)).await;
        let other = Outsider::start(move |verb, question| score(verb, "empty", 5, question)).await;
        let broken = Outsider::start(|_, _| Said::Json(json!({"Host": "empty"}))).await;
        let config = |outsider: &Outsider, weight| ExtenderConfig {
            prioritize_verb: "score".into(),
            weight,
            ..outsider.config()
        };
        // 3 × 20 × 10 against 5 × 10 × 10 and what our own scores say for the empty one, less than 100.
        let extenders = vec![config(&one, 20), config(&other, 10), config(&broken, 1000)];
        let plane = plane(extenders, &["busy"]).await;
        plane.pod("first", "1", json!({})).await;
        assert_eq!(plane.placed("first").await, "busy");
        // One node alone is not scored.
        assert!(one.asked("score").is_empty());
        plane.node("empty", "2", 110, json!({})).await;
        let known = &plane.progress.nodes;
        for _ in 0..4_000 {
            if known.load(Ordering::Relaxed) == 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        plane.pod("second", "500m", json!({})).await;
        assert_eq!(plane.placed("second").await, "busy");
        assert_eq!(broken.asked("score").len(), 1);
    });
}

#[test]
fn who_does_not_answer_in_time_holds_up_its_own_pods_only() {
    run(|| async {
        let awake = Arc::new(AtomicBool::new(false));
        let woken = awake.clone();
        let outsider = Outsider::start(move |_, question| {
            if !woken.load(Ordering::Relaxed) {
                return Said::Nothing;
            }
            Said::Json(json!({"NodeNames": question["NodeNames"]}))
        })
        .await;
        let config = ExtenderConfig {
            filter_verb: "filter".into(),
            http_timeout: Duration::from_millis(300),
            managed_resources: vec!["example.com/gpu".into()],
            ..outsider.config()
        };
        let plane = plane(vec![config], &["a"]).await;
        let gpu = json!({"spec": {"containers": [{"name": "main", "image": "i", "resources": {
            "requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "1"}}}]}});
        for name in ["gpu-1", "gpu-2"] {
            plane.pod(name, "0", gpu.clone()).await;
        }
        plane.pod("plain", "100m", json!({})).await;
        assert_eq!(plane.placed("plain").await, "a");
        assert!(condition(&plane.get("gpu-2").await).is_none());
        let late = format!(
            "Post \"{}/filter\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            outsider.url
        );
        assert_eq!(failed(&plane, "gpu-1").await, late);
        assert_eq!(failed(&plane, "gpu-2").await, late);
        let told = event(&plane, "gpu-1", "FailedScheduling").await;
        assert_eq!(told["message"], late);
        assert!(
            outsider
                .asked("filter")
                .iter()
                .all(|q| q["Pod"]["metadata"]["name"] != "plain")
        );
        awake.store(true, Ordering::Relaxed);
        for name in ["gpu-1", "gpu-2"] {
            assert_eq!(plane.placed(name).await, "a");
        }
    });
}

#[test]
fn errors_of_those_that_may_fail_are_passed_over() {
    run(|| async {
        let broken = Outsider::start(|_, _| Said::Status(500)).await;
        let liar = Outsider::start(|_, question| {
            if question["Pod"]["metadata"]["name"] == "p" {
                return Said::Json(json!({"NodeNames": question["NodeNames"]}));
            }
            Said::Json(json!({"NodeNames": ["elsewhere"]}))
        })
        .await;
        let config = |outsider: &Outsider, ignorable| ExtenderConfig {
            filter_verb: "filter".into(),
            ignorable,
            ..outsider.config()
        };
        // Nobody listens there.
        let nobody = ExtenderConfig {
            url_prefix: "http://127.0.0.1:1".into(),
            ..config(&broken, true)
        };
        let extenders = vec![config(&broken, true), nobody, config(&liar, false)];
        let plane = plane(extenders, &["a"]).await;
        plane.pod("p", "100m", json!({})).await;
        assert_eq!(plane.placed("p").await, "a");
        plane.pod("q", "100m", json!({})).await;
        assert_eq!(
            failed(&plane, "q").await,
            format!(
                "extender {:?} claims a filtered node \"elsewhere\" which is not found in the input node list",
                liar.url
            )
        );
    });
}

#[test]
fn an_error_of_one_that_must_answer_fails_the_pod() {
    run(|| async {
        let broken = Outsider::start(|_, _| Said::Status(500)).await;
        let config = ExtenderConfig {
            filter_verb: "filter".into(),
            ..broken.config()
        };
        let plane = plane(vec![config], &["a"]).await;
        plane.pod("p", "100m", json!({})).await;
        assert_eq!(
            failed(&plane, "p").await,
            format!(
                "failed filter with extender at URL {}/filter, code 500",
                broken.url
            )
        );
    });
}

#[test]
fn binding_is_left_to_who_does_it() {
    run(|| async {
        let (sender, mut bindings) = tokio::sync::mpsc::channel(8);
        let refuse = Arc::new(AtomicBool::new(true));
        let refusing = refuse.clone();
        let outsider = Outsider::start(move |_, question| {
            if refusing.swap(false, Ordering::Relaxed) {
                return Said::Json(json!({"Error": "not now"}));
            }
            sender.try_send(question.clone()).unwrap();
            Said::Json(json!({}))
        })
        .await;
        let config = ExtenderConfig {
            bind_verb: "bind".into(),
            ..outsider.config()
        };
        let plane = plane(vec![config], &["a"]).await;
        let uid = plane.pod("p", "100m", json!({})).await["metadata"]["uid"].clone();
        assert_eq!(failed(&plane, "p").await, "not now");
        let binding = tokio::time::timeout(crate::plane::PATIENCE, bindings.recv());
        let binding = binding.await.unwrap().unwrap();
        assert_eq!(
            binding,
            json!({"PodName": "p", "PodNamespace": NAMESPACE, "PodUID": uid, "Node": "a"})
        );
        assert_eq!(
            node_of(&plane.get("p").await),
            "",
            "it is not bound behind the extender's back"
        );
        plane
            .client
            .bind(NAMESPACE, "p", text(&uid), text(&binding["Node"]))
            .await
            .unwrap();
        assert_eq!(plane.placed("p").await, "a");
    });
}

#[test]
fn extenders_have_a_say_in_who_is_evicted() {
    run(|| async {
        let knowing = Outsider::start(|_, question| {
            let offered = &question["NodeNameToMetaVictims"];
            Said::Json(json!({"NodeNameToMetaVictims": {"b": offered["b"]}}))
        })
        .await;
        let seeing = Outsider::start(|_, question| {
            let uid = &question["NodeNameToVictims"]["b"]["Pods"][0]["metadata"]["uid"];
            Said::Json(json!({"NodeNameToMetaVictims": {"b": {"Pods": [{"UID": uid}]}}}))
        })
        .await;
        let config = |outsider: &Outsider, by_name| ExtenderConfig {
            preempt_verb: "preempt".into(),
            node_cache_capable: by_name,
            ..outsider.config()
        };
        let extenders = vec![config(&knowing, true), config(&seeing, false)];
        let plane = plane(extenders, &["a", "b"]).await;
        crate::preempting::classes(&plane).await;
        let class = |class: &str| json!({"spec": {"priorityClassName": class}});
        let mut uids = std::collections::HashMap::new();
        for name in ["low-1", "low-2"] {
            let uid = plane.pod(name, "1500m", json!({})).await["metadata"]["uid"].clone();
            uids.insert(plane.placed(name).await, (name, uid));
        }
        plane.pod("high", "1500m", class("high")).await;
        let in_view = |pod: &Value| pod["status"]["nominatedNodeName"] == "b";
        plane.until("high", in_view).await;
        let (victim, uid) = &uids["b"];
        plane
            .until(victim, |pod| {
                !pod["metadata"]["deletionTimestamp"].is_null()
            })
            .await;
        let offered = knowing.asked("preempt").remove(0);
        assert_eq!(offered["NodeNameToVictims"], Value::Null);
        for (node, (_, uid)) in &uids {
            let victims = json!({"Pods": [{"UID": uid}], "NumPDBViolations": 0});
            assert_eq!(offered["NodeNameToMetaVictims"][node], victims);
        }
        let seen = seeing.asked("preempt").remove(0);
        assert_eq!(seen["NodeNameToMetaVictims"], Value::Null);
        assert_eq!(seen["NodeNameToVictims"].as_object().unwrap().len(), 1);
        let pod = &seen["NodeNameToVictims"]["b"]["Pods"][0];
        assert_eq!(
            (&pod["metadata"]["name"], &pod["metadata"]["uid"]),
            (&json!(victim), uid)
        );
        // Who is offered nobody evicts nobody, and says so.
        plane.delete(victim).await;
        assert_eq!(plane.placed("high").await, "b");
    });
}

#[test]
fn where_extenders_leave_nobody_nobody_is_evicted() {
    run(|| async {
        let outsider =
            Outsider::start(|_, _| Said::Json(json!({"NodeNameToMetaVictims": {}}))).await;
        let config = ExtenderConfig {
            preempt_verb: "preempt".into(),
            ..outsider.config()
        };
        let plane = plane(vec![config], &["a"]).await;
        crate::preempting::classes(&plane).await;
        plane.pod("low", "1500m", json!({})).await;
        plane.placed("low").await;
        let high = json!({"spec": {"priorityClassName": "high"}});
        plane.pod("high", "1500m", high).await;
        assert_eq!(
            plane.refused("high").await,
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: no candidate \
             node for preemption"
        );
        assert!(plane.get("low").await["metadata"]["deletionTimestamp"].is_null());
    });
}

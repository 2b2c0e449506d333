//! What only pods have: binding, eviction, a graceful end.

use value::{Value, json};

use crate::speak::Speaker;

async fn pod(api: &Speaker, name: &str) -> Value {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": "i"}]}});
    api.post(&api.own("pods"), &pod).await.expect(201)
}

fn binding(name: &str, uid: Option<&str>) -> Value {
    json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "uid": uid},
           "target": {"apiVersion": "v1", "kind": "Node", "name": "n1"}})
}

async fn a_pod_is_bound_once(api: Speaker) {
    let created = pod(&api, "a").await;
    let path = api.own("pods/a/binding");
    let message = api
        .post(&path, &binding("a", Some("other")))
        .await
        .refused(409, "Conflict");
    assert!(message.contains("UID in precondition: other"), "{message}");
    let uid = created["metadata"]["uid"].as_str();
    let status = api.post(&path, &binding("a", uid)).await.expect(201);
    assert_eq!(
        (status["kind"].as_str(), status["status"].as_str()),
        (Some("Status"), Some("Success"))
    );
    let bound = api.get(&api.own("pods/a")).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(bound["status"]["conditions"][0]["status"], "True");
    let message = api
        .post(&path, &binding("a", uid))
        .await
        .refused(409, "Conflict");
    assert_eq!(
        message,
        "Operation cannot be fulfilled on pods/binding \"a\": pod a is already assigned to node \"n1\""
    );
    api.post(&api.own("pods/none/binding"), &binding("none", None))
        .await
        .refused(404, "NotFound");
    api.get(&path).await.refused(405, "MethodNotAllowed");
}

async fn a_bound_pod_gets_time_to_end(api: Speaker) {
    pod(&api, "a").await;
    api.post(&api.own("pods/a/binding"), &binding("a", None))
        .await
        .expect(201);
    let ending = api.delete(&api.own("pods/a")).await.expect(200);
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(ending["metadata"]["deletionTimestamp"].is_string());
    let shorter = api
        .delete(&api.own("pods/a?gracePeriodSeconds=5"))
        .await
        .expect(200);
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    let same = api
        .delete(&api.own("pods/a?gracePeriodSeconds=20"))
        .await
        .expect(200);
    assert_eq!(
        same["metadata"]["deletionGracePeriodSeconds"], 5,
        "never longer again"
    );
    assert_eq!(
        api.delete(&api.own("pods/a?gracePeriodSeconds=0"))
            .await
            .expect(200)["kind"],
        "Pod"
    );
    api.get(&api.own("pods/a")).await.refused(404, "NotFound");
    // One that runs nowhere goes at once.
    pod(&api, "b").await;
    api.delete(&api.own("pods/b")).await.expect(200);
    api.get(&api.own("pods/b")).await.refused(404, "NotFound");
}

async fn evictions_spend_a_budget(api: Speaker) {
    for name in ["a", "b"] {
        pod(&api, name).await;
        api.post(
            &api.own(&format!("pods/{name}/binding")),
            &binding(name, None),
        )
        .await
        .expect(201);
        let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        api.patch(
            &api.own(&format!("pods/{name}/status")),
            "strategic-merge",
            &running,
        )
        .await
        .expect(200);
    }
    let eviction = |name: &str| {
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name},
        "deleteOptions": {"gracePeriodSeconds": 0}})
    };
    let budgets = api.own("policy/v1/poddisruptionbudgets");
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "p"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    api.post(&budgets, &budget).await.expect(201);
    let answer = api.post(&api.own("pods/a/eviction"), &eviction("a")).await;
    let message = answer.refused(429, "TooManyRequests");
    assert_eq!(
        message,
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    assert_eq!(
        answer.json()["details"]["causes"][0]["reason"],
        "DisruptionBudget"
    );
    let status = json!({"status": {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2,
        "observedGeneration": 1}});
    api.patch(&format!("{budgets}/p/status"), "merge", &status)
        .await
        .expect(200);
    api.post(&api.own("pods/a/eviction"), &eviction("b"))
        .await
        .refused(400, "BadRequest");
    api.post(
        &format!("{}?dryRun=All", api.own("pods/a/eviction")),
        &eviction("a"),
    )
    .await
    .expect(201);
    assert_eq!(
        api.post(&api.own("pods/a/eviction"), &eviction("a"))
            .await
            .expect(201)["status"],
        "Success"
    );
    api.get(&api.own("pods/a")).await.refused(404, "NotFound");
    let spent = api.get(&format!("{budgets}/p")).await.expect(200);
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert!(spent["status"]["disruptedPods"]["a"].is_string());
    api.post(&api.own("pods/b/eviction"), &eviction("b"))
        .await
        .refused(429, "TooManyRequests");
    // Without a budget nobody is asked.
    api.delete(&format!("{budgets}/p")).await.expect(200);
    api.post(&api.own("pods/b/eviction"), &eviction("b"))
        .await
        .expect(201);
    api.post(&api.own("pods/b/eviction"), &eviction("b"))
        .await
        .refused(404, "NotFound");
}

async fn admission_completes_pods(api: Speaker) {
    let created = pod(&api, "a").await;
    assert_eq!(created["spec"]["priority"], 0);
    assert_eq!(created["spec"]["serviceAccountName"], "default");
    assert_eq!(created["status"]["phase"], "Pending");
    assert_eq!(created["status"]["qosClass"], "BestEffort");
    let mut other = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"},
        "spec": {"containers": [{"name": "main", "image": "i"}], "priorityClassName": "none"}});
    let message = api
        .post(&api.own("pods"), &other)
        .await
        .refused(403, "Forbidden");
    assert_eq!(
        message,
        "pods \"b\" is forbidden: no PriorityClass with name none was found"
    );
    other["spec"]["priorityClassName"] = "system-cluster-critical".into();
    assert_eq!(
        api.post(&api.own("pods"), &other).await.expect(201)["spec"]["priority"],
        2_000_000_000
    );
    other["metadata"]["name"] = "c".into();
    other["spec"]["serviceAccountName"] = "robot".into();
    let message = api
        .post(&api.own("pods"), &other)
        .await
        .refused(403, "Forbidden");
    assert!(
        message.ends_with("serviceaccount \"robot\" not found"),
        "{message}"
    );
}

crate::both!(
    a_pod_is_bound_once,
    a_bound_pod_gets_time_to_end,
    evictions_spend_a_budget,
    admission_completes_pods
);

//! Narrow patches: what is decided on bytes is told, refused and left alone as every other patch is.

use value::json;

use crate::speak::{Speaker, version};

async fn a_silent_node_is_marked_and_tainted(api: Speaker) {
    let name = format!("node-{}", api.namespace);
    let one = format!("/api/v1/nodes/{name}");
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"a": "b"}},
        "status": {"capacity": {"cpu": "4"}, "conditions": [
            {"type": "DiskPressure", "status": "False", "lastHeartbeatTime": "2026-01-02T03:04:05Z"},
            {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-02T03:04:05Z", "reason": "KubeletReady"}]}});
    let created = api.post("/api/v1/nodes", &node).await.expect(201);
    let status = format!("{one}/status");
    let uid = created["metadata"]["uid"].clone();
    let unknown = json!({"metadata": {"uid": uid}, "status": {"conditions": [
        {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "lastTransitionTime": "2026-01-02T03:05:00Z"},
        {"type": "PIDPressure", "status": "Unknown"}]}});
    let marked = api
        .patch(&status, "strategic-merge", &unknown)
        .await
        .expect(200);
    assert_eq!(marked["status"]["capacity"], json!({"cpu": "4"}));
    assert_eq!(
        marked["status"]["conditions"],
        json!([
            {"type": "DiskPressure", "status": "False", "lastHeartbeatTime": "2026-01-02T03:04:05Z", "lastTransitionTime": null},
            {"type": "Ready", "status": "Unknown", "lastHeartbeatTime": "2026-01-02T03:04:05Z", "reason": "NodeStatusUnknown",
             "lastTransitionTime": "2026-01-02T03:05:00Z"},
            {"type": "PIDPressure", "status": "Unknown", "lastHeartbeatTime": null, "lastTransitionTime": null}])
    );
    assert!(version(&marked) > version(&created));
    // Nothing new is no write; nothing is written for a dry run.
    let again = api
        .patch(&status, "strategic-merge", &unknown)
        .await
        .expect(200);
    assert_eq!(again, marked);
    let taints = |version: &str| {
        json!({"metadata": {"uid": uid, "resourceVersion": version}, "spec": {"taints": [
            {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-01-02T03:05:01Z"}]}})
    };
    let now = marked["metadata"]["resourceVersion"].as_str().unwrap();
    let dry = api
        .patch(&format!("{one}?dryRun=All"), "merge", &taints(now))
        .await
        .expect(200);
    assert_eq!(dry["spec"]["taints"][0]["effect"], "NoExecute");
    assert_eq!(api.get(&one).await.expect(200), marked);
    let mut watch = api
        .watch(&format!(
            "/api/v1/nodes?watch=1&fieldSelector=metadata.name%3D{name}&resourceVersion={now}"
        ))
        .await;
    let tainted = api.patch(&one, "merge", &taints(now)).await.expect(200);
    assert_eq!(tainted["spec"]["taints"], dry["spec"]["taints"]);
    assert_eq!(tainted["status"], marked["status"]);
    assert_eq!(watch.next().await.unwrap()["object"], tainted);
    // The state it was meant for is past, or it is meant for another node.
    api.patch(&one, "merge", &taints(now))
        .await
        .refused(409, "Conflict");
    let other = json!({"metadata": {"uid": "other"}, "spec": {"taints": null}});
    api.patch(&one, "merge", &other)
        .await
        .refused(409, "Conflict");
    let twice = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}, {"key": "k", "effect": "NoSchedule"}]}});
    api.patch(&one, "merge", &twice)
        .await
        .refused(422, "Invalid");
    let none = json!({"metadata": {"uid": uid}, "spec": {"taints": null}});
    let free = api.patch(&one, "merge", &none).await.expect(200);
    assert!(free["spec"].get("taints").is_none(), "{free}");
    api.delete(&one).await.expect(200);
    api.patch(&one, "merge", &none)
        .await
        .refused(404, "NotFound");
}

async fn a_pod_that_is_not_ready_is_told_to_its_node(api: Speaker) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"nodeName": "n7", "containers": [{"name": "main", "image": "i"}]}});
    let created = api.post(&api.own("pods"), &pod).await.expect(201);
    // Found by the mark of its node, which a patch must not take off.
    let mut watch = api
        .watch(&api.own(&format!(
            "pods?watch=1&fieldSelector=spec.nodeName%3Dn7&resourceVersion={}",
            version(&created)
        )))
        .await;
    for status in ["False", "True"] {
        let patch = json!({"metadata": {"uid": created["metadata"]["uid"]}, "status": {"conditions": [
            {"type": "Ready", "status": status, "lastTransitionTime": "2026-01-02T03:05:00Z"}]}});
        let patched = api
            .patch(&api.own("pods/a/status"), "strategic-merge", &patch)
            .await
            .expect(200);
        assert_eq!(patched["status"]["conditions"][0]["status"], status);
        assert_eq!(patched["status"]["qosClass"], created["status"]["qosClass"]);
        assert_eq!(watch.next().await.unwrap()["object"], patched);
    }
}

/// What only looks like what kubelets send.
async fn what_is_no_patch_of_a_status_is_refused(api: Speaker) {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"nodeName": "n7", "containers": [{"name": "main", "image": "i"}]}});
    let created = api.post(&api.own("pods"), &pod).await.expect(201);
    let status = api.own("pods/a/status");
    for patch in [
        json!([{}, {"phase": "Running"}]),
        json!({"metadata": [created["metadata"]["uid"]], "status": {"phase": "Running"}}),
        json!({"status": ["Running"]}),
        json!({"status": {"conditions": [["Ready", "True"]]}}),
        json!({"status": {"startTime": "", "phase": "Running"}}),
    ] {
        api.patch(&status, "strategic-merge", &patch)
            .await
            .refused(400, "BadRequest");
    }
    let full = json!({"status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:05:00Z"}]}});
    let full = api
        .patch(&status, "strategic-merge", &full)
        .await
        .expect(200);
    assert_eq!(full["status"]["podIPs"], json!([{"ip": "10.0.0.1"}]));
    let ended =
        json!({"status": {"phase": "Failed", "conditions": null, "podIP": null, "podIPs": null}});
    let ended = api
        .patch(&status, "strategic-merge", &ended)
        .await
        .expect(200);
    assert_eq!(
        ended["status"],
        json!({"phase": "Failed", "qosClass": "BestEffort"})
    );
}

crate::both!(
    what_is_no_patch_of_a_status_is_refused,
    a_silent_node_is_marked_and_tainted,
    a_pod_that_is_not_ready_is_told_to_its_node,
);

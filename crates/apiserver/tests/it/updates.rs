//! Update, the three languages of PATCH, status and scale.

use rest::http::Method;
use value::{Value, json};

use crate::speak::{Speaker, config_map, version};

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
            {"name": "main", "image": "nginx:1", "env": [{"name": "A", "value": "1"}]},
            {"name": "side", "image": "busybox"}]}}}})
}

async fn nothing_changed_is_no_write(api: Speaker) {
    let path = api.own("configmaps");
    let created = api.post(&path, &config_map("a", "1")).await.expect(201);
    let mut watch = api
        .watch(&format!(
            "{path}?watch=true&resourceVersion={}",
            version(&created)
        ))
        .await;
    let one = format!("{path}/a");
    assert_eq!(
        api.put(&one, &config_map("a", "1")).await.expect(200),
        created
    );
    assert_eq!(
        api.patch(&one, "merge", &json!({"data": {"key": "1"}}))
            .await
            .expect(200),
        created
    );
    assert_eq!(
        api.patch(&one, "strategic-merge", &json!({}))
            .await
            .expect(200),
        created
    );
    assert_eq!(
        api.patch(&one, "json", &json!([])).await.expect(200),
        created
    );
    let changed = api.put(&one, &config_map("a", "2")).await.expect(200);
    // The first event is the change: none of the four before it sent one.
    let event = watch.next().await.unwrap();
    assert_eq!(
        (event["type"].as_str().unwrap(), &event["object"]),
        ("MODIFIED", &changed)
    );
}

async fn updates_name_what_they_change(api: Speaker) {
    let path = api.own("configmaps");
    let one = format!("{path}/a");
    api.put(&one, &config_map("a", "1"))
        .await
        .refused(404, "NotFound");
    api.patch(&one, "merge", &json!({}))
        .await
        .refused(404, "NotFound");
    api.post(&path, &config_map("a", "1")).await.expect(201);
    // The name may be left to the URL; without a version the newest state is replaced.
    let mut nameless = config_map("a", "2");
    nameless["metadata"] = json!({});
    assert_eq!(
        api.put(&one, &nameless).await.expect(200)["data"]["key"],
        "2"
    );
    let message = api
        .put(&one, &config_map("b", "2"))
        .await
        .refused(400, "BadRequest");
    assert_eq!(
        message,
        "the name of the object (b) does not match the name on the URL (a)"
    );
    let mut elsewhere = config_map("a", "2");
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    let message = api.put(&one, &elsewhere).await.refused(400, "BadRequest");
    assert!(
        message.starts_with("the namespace of the object (kube-system) does not match"),
        "{message}"
    );
}

/// A Lease is created by PUT where there is none, under the name of the URL and no other.
async fn leases_are_created_by_put(api: Speaker) {
    let path = api.own("coordination.k8s.io/v1/leases");
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n"},
                       "spec": {"holderIdentity": "n", "renewTime": "2026-01-02T03:04:05.000006Z"}});
    api.put(&format!("{path}/other"), &lease)
        .await
        .refused(400, "BadRequest");
    let created = api.put(&format!("{path}/n"), &lease).await.expect(201);
    assert_eq!(created["spec"]["renewTime"], "2026-01-02T03:04:05.000006Z");
    // An unconditional update is refused for this kind.
    let message = api
        .put(&format!("{path}/n"), &lease)
        .await
        .refused(422, "Invalid");
    assert!(
        message.ends_with(
            "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
        ),
        "{message}"
    );
    let mut renewed = created.clone();
    renewed["spec"]["renewTime"] = "2026-01-02T03:04:15.000000Z".into();
    let renewed = api.put(&format!("{path}/n"), &renewed).await.expect(200);
    assert!(version(&renewed) > version(&created));
    let mut gone = renewed;
    gone["metadata"]["name"] = "gone".into();
    api.put(&format!("{path}/gone"), &gone)
        .await
        .refused(404, "NotFound");
}

async fn three_languages_of_patch(api: Speaker) {
    let path = api.own("apps/v1/deployments");
    api.post(&path, &deployment("web")).await.expect(201);
    let one = format!("{path}/web");
    let containers = |object: &Value| object["spec"]["template"]["spec"]["containers"].clone();

    // Strategic: lists merge by key.
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "nginx:2",
        "env": [{"name": "B", "value": "2"}]}]}}}});
    let patched = api.patch(&one, "strategic-merge", &patch).await.expect(200);
    let merged = containers(&patched);
    assert_eq!(merged.as_array().unwrap().len(), 2);
    let main = merged
        .as_array()
        .unwrap()
        .iter()
        .find(|container| container["name"] == "main")
        .unwrap();
    assert_eq!(main["image"], "nginx:2");
    assert_eq!(main["env"].as_array().unwrap().len(), 2);
    assert_eq!(patched["metadata"]["generation"], 2);
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "$patch": "delete"}]}}}});
    let patched = api.patch(&one, "strategic-merge", &patch).await.expect(200);
    assert_eq!(containers(&patched).as_array().unwrap().len(), 1);

    // Merge: lists are replaced, null removes.
    let patch = json!({"metadata": {"annotations": {"a": "1", "b": "2"}}});
    api.patch(&one, "merge", &patch).await.expect(200);
    let patched = api
        .patch(
            &one,
            "merge",
            &json!({"metadata": {"annotations": {"a": null}}}),
        )
        .await
        .expect(200);
    assert_eq!(patched["metadata"]["annotations"], json!({"b": "2"}));
    assert_eq!(
        patched["metadata"]["generation"], 3,
        "annotations are no new generation"
    );

    // JSON patch: operations on what a client sees.
    let patch = json!([{"op": "test", "path": "/spec/replicas", "value": 2},
                       {"op": "replace", "path": "/spec/replicas", "value": 5},
                       {"op": "add", "path": "/metadata/labels", "value": {"x": "y"}}]);
    let patched = api.patch(&one, "json", &patch).await.expect(200);
    assert_eq!(
        (
            &patched["spec"]["replicas"],
            &patched["metadata"]["labels"]["x"]
        ),
        (&json!(5), &json!("y"))
    );
    let failed = json!([{"op": "test", "path": "/spec/replicas", "value": 2}]);
    api.patch(&one, "json", &failed)
        .await
        .refused(422, "Invalid");
    api.patch(&one, "json", &json!([{"op": "fly", "path": "/spec"}]))
        .await
        .refused(400, "BadRequest");
    api.patch(&one, "merge", &json!([]))
        .await
        .refused(400, "BadRequest");
    api.patch(&one, "merge", &json!({"spec": {"replicas": "many"}}))
        .await
        .refused(400, "BadRequest");
    let request = api.ask_with(
        Method::Patch,
        &format!("{one}?fieldManager=me"),
        "application/apply-patch+yaml",
        "{}",
    );
    api.send(request).await.refused(415, "UnsupportedMediaType");
    api.patch(&format!("{one}?force=true"), "merge", &json!({}))
        .await
        .refused(422, "Invalid");

    // A version in the patch is a condition.
    let stale = json!({"metadata": {"resourceVersion": "1", "labels": {"x": "z"}}});
    api.patch(&one, "merge", &stale)
        .await
        .refused(409, "Conflict");
}

async fn status_is_written_by_its_own_path(api: Speaker) {
    let path = api.own("apps/v1/deployments");
    let mut object = deployment("web");
    object["status"] = json!({"replicas": 7});
    let created = api.post(&path, &object).await.expect(201);
    assert!(
        created["status"]["replicas"].is_null(),
        "status of a create is dropped"
    );
    let one = format!("{path}/web");
    let mut both = created.clone();
    both["status"] = json!({"replicas": 2, "observedGeneration": 1});
    both["spec"]["replicas"] = 9.into();
    let updated = api.put(&format!("{one}/status"), &both).await.expect(200);
    assert_eq!(
        (&updated["status"]["replicas"], &updated["spec"]["replicas"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(updated["metadata"]["generation"], 1);
    let updated = api
        .patch(
            &one,
            "merge",
            &json!({"status": {"replicas": 8}, "spec": {"replicas": 3}}),
        )
        .await
        .expect(200);
    assert_eq!(
        (&updated["status"]["replicas"], &updated["spec"]["replicas"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(updated["metadata"]["generation"], 2);
    let patched = api
        .patch(
            &format!("{one}/status"),
            "strategic-merge",
            &json!({"status": {"readyReplicas": 1}}),
        )
        .await;
    assert_eq!(
        patched.expect(200)["status"],
        json!({"replicas": 2, "observedGeneration": 1, "readyReplicas": 1})
    );
    assert_eq!(
        api.get(&format!("{one}/status")).await.expect(200)["kind"],
        "Deployment"
    );
    api.delete(&format!("{one}/status"))
        .await
        .refused(405, "MethodNotAllowed");
    api.get(&format!("{one}/nothing"))
        .await
        .refused(404, "NotFound");
}

async fn scale_is_a_view(api: Speaker) {
    let path = api.own("apps/v1/deployments");
    api.post(&path, &deployment("web")).await.expect(201);
    let scale = format!("{path}/web/scale");
    let seen = api.get(&scale).await.expect(200);
    assert_eq!(seen["apiVersion"], "autoscaling/v1");
    assert_eq!(seen["kind"], "Scale");
    assert_eq!(seen["spec"]["replicas"], 2);
    assert_eq!(seen["status"]["selector"], "app=web");
    let mut wanted = seen.clone();
    wanted["spec"]["replicas"] = 4.into();
    assert_eq!(
        api.put(&scale, &wanted).await.expect(200)["spec"]["replicas"],
        4
    );
    api.put(&scale, &wanted).await.refused(409, "Conflict");
    assert_eq!(
        api.patch(&scale, "merge", &json!({"spec": {"replicas": 6}}))
            .await
            .expect(200)["spec"]["replicas"],
        6
    );
    let operation = json!([{"op": "replace", "path": "/spec/replicas", "value": 7}]);
    assert_eq!(
        api.patch(&scale, "json", &operation).await.expect(200)["spec"]["replicas"],
        7
    );
    let deployment = api.get(&format!("{path}/web")).await.expect(200);
    assert_eq!(
        (
            &deployment["spec"]["replicas"],
            &deployment["metadata"]["generation"]
        ),
        (&json!(7), &json!(4))
    );
    wanted["spec"]["replicas"] = (-1).into();
    wanted["metadata"]["resourceVersion"] = Value::Null;
    api.put(&scale, &wanted).await.refused(422, "Invalid");
}

/// Patches without a version are never refused because others write, too.
async fn patches_of_many_all_count(api: Speaker) {
    let path = api.own("configmaps");
    api.post(&path, &config_map("a", "1")).await.expect(201);
    let one = format!("{path}/a");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..20 {
        let (api, one) = (api.clone(), one.clone());
        writers.spawn(async move {
            let patch = json!({"data": {(format!("w{writer}")): "x"}});
            api.patch(&one, "merge", &patch).await.expect(200);
        });
    }
    while let Some(result) = writers.join_next().await {
        result.unwrap();
    }
    assert_eq!(
        api.get(&one).await.expect(200)["data"]
            .as_object()
            .unwrap()
            .len(),
        21
    );
}

crate::both!(
    nothing_changed_is_no_write,
    updates_name_what_they_change,
    leases_are_created_by_put,
    three_languages_of_patch,
    status_is_written_by_its_own_path,
    scale_is_a_view,
    patches_of_many_all_count,
);

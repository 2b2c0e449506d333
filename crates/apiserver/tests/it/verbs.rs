//! Create, get and the errors that every kind shares.

use rest::http::Method;
use value::{Value, json};

use crate::speak::{Speaker, config_map, version};

/// One object of each of many kinds goes through its whole life.
async fn life_of_many_kinds(api: Speaker) {
    let pod_spec = json!({"containers": [{"name": "main", "image": "nginx"}]});
    let labels = json!({"app": "web"});
    let own = |path: &str| api.own(path);
    let kinds = [
        (
            own("configmaps"),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}}),
        ),
        (
            own("secrets"),
            json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "Yg=="}}),
        ),
        (
            own("pods"),
            json!({"apiVersion": "v1", "kind": "Pod", "spec": pod_spec}),
        ),
        (
            own("services"),
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}}),
        ),
        (
            own("coordination.k8s.io/v1/leases"),
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                   "spec": {"holderIdentity": "me", "leaseDurationSeconds": 40}}),
        ),
        (
            own("apps/v1/deployments"),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {
                "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod_spec}}}),
        ),
        (
            own("autoscaling/v2/horizontalpodautoscalers"),
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": {
                "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}}),
        ),
        (
            own("policy/v1/poddisruptionbudgets"),
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {
                "minAvailable": 1, "selector": {"matchLabels": labels}}}),
        ),
        (
            "/api/v1/nodes".to_owned(),
            json!({"apiVersion": "v1", "kind": "Node"}),
        ),
        (
            "/apis/storage.k8s.io/v1/storageclasses".to_owned(),
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "example.com/disk"}),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles".to_owned(),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": []}),
        ),
    ];
    for (path, mut object) in kinds {
        // Names of cluster-wide objects must be unique, too.
        let name = format!("x-{}", api.namespace);
        let kind = object["kind"].as_str().unwrap().to_owned();
        object["metadata"] = json!({"name": name, "labels": {"k": "v"}});
        let created = api.post(&path, &object).await.expect(201);
        assert_eq!(created["kind"], object["kind"]);
        assert_eq!(created["apiVersion"], object["apiVersion"]);
        let metadata = &created["metadata"];
        assert_eq!(metadata["uid"].as_str().unwrap().len(), 36, "{kind}");
        assert!(
            metadata["creationTimestamp"]
                .as_str()
                .unwrap()
                .ends_with('Z'),
            "{kind}"
        );
        let one = format!("{path}/{name}");
        assert_eq!(api.get(&one).await.expect(200), created, "{kind}");

        let again = api.post(&path, &object).await.refused(409, "AlreadyExists");
        assert!(
            again.ends_with(&format!("\"{name}\" already exists")),
            "{again}"
        );

        let put = api.put(&one, &created).await.expect(200);
        assert_eq!(
            put, created,
            "an update that changes nothing is no write: {kind}"
        );
        let patched = api
            .patch(
                &one,
                "merge",
                &json!({"metadata": {"labels": {"k": null, "n": "1"}}}),
            )
            .await
            .expect(200);
        assert_eq!(patched["metadata"]["labels"], json!({"n": "1"}), "{kind}");
        assert!(version(&patched) > version(&created), "{kind}");
        let stale = api.put(&one, &created).await.refused(409, "Conflict");
        assert!(
            stale.starts_with("Operation cannot be fulfilled on ")
                && stale.ends_with(
                    ": the object has been modified; please apply your changes to the latest version and try again"
                ),
            "{stale}"
        );

        let list = api
            .get(&format!("{path}?fieldSelector=metadata.name%3D{name}"))
            .await
            .expect(200);
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "{kind}");
        assert_eq!(list["kind"], format!("{kind}List"));
        assert_eq!(list["items"][0]["metadata"], patched["metadata"], "{kind}");
        assert!(
            list["items"][0]["kind"].is_null(),
            "typed lists do not repeat the kind"
        );

        assert_eq!(api.delete(&one).await.status, 200, "{kind}");
        let gone = api.get(&one).await.refused(404, "NotFound");
        assert!(gone.ends_with(&format!("\"{name}\" not found")), "{gone}");
        api.delete(&one).await.refused(404, "NotFound");
        api.put(&one.replace(&name, "other"), &patched)
            .await
            .refused(400, "BadRequest");
    }
}

async fn metadata_belongs_to_the_server(api: Speaker) {
    let path = api.own("configmaps");
    let mut object = config_map("a", "1");
    object["metadata"]["uid"] = "mine".into();
    object["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
    object["metadata"]["deletionTimestamp"] = "2001-01-01T00:00:00Z".into();
    object["metadata"]["selfLink"] = "/x".into();
    let created = api.post(&path, &object).await.expect(201);
    let metadata = &created["metadata"];
    assert_ne!(metadata["uid"], "mine");
    assert!(
        !metadata["creationTimestamp"]
            .as_str()
            .unwrap()
            .starts_with("2001")
    );
    assert!(metadata["deletionTimestamp"].is_null() && metadata["selfLink"].is_null());
    assert_eq!(metadata["namespace"], api.namespace.as_str());

    object["metadata"] = json!({"name": "b", "resourceVersion": "5"});
    let message = api.post(&path, &object).await.json()["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        message,
        "resourceVersion should not be set on objects to be created"
    );
    object["metadata"] = json!({"name": "b", "namespace": "elsewhere"});
    assert_eq!(
        api.post(&path, &object).await.refused(400, "BadRequest"),
        "the namespace of the provided object does not match the namespace sent on the request"
    );
    object["metadata"] = json!({"name": "No_Such_Name"});
    let message = api.post(&path, &object).await.refused(422, "Invalid");
    assert!(
        message.starts_with("ConfigMap \"No_Such_Name\" is invalid: metadata.name: Invalid value:"),
        "{message}"
    );
    object["metadata"] = json!({});
    let message = api.post(&path, &object).await.refused(422, "Invalid");
    assert!(
        message.contains("name or generateName is required"),
        "{message}"
    );

    let one = format!("{path}/a");
    for (field, value) in [("uid", json!("other")), ("name", json!("b"))] {
        let mut changed = created.clone();
        changed["metadata"][field] = value;
        let answer = api.put(&one, &changed).await;
        assert_eq!(
            answer.status,
            if field == "uid" { 409 } else { 400 },
            "{field}"
        );
    }
    let renamed = api
        .patch(&one, "merge", &json!({"metadata": {"name": "b"}}))
        .await;
    assert_eq!(
        renamed.refused(400, "BadRequest"),
        "the name of the object (b) does not match the name on the URL (a)"
    );
}

async fn generated_names_differ(api: Speaker) {
    let path = api.own("configmaps");
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "run-"}});
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20 {
        let created = api.post(&path, &object).await.expect(201);
        let name = created["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("run-") && name.len() == 9, "{name}");
        assert!(
            name[4..]
                .bytes()
                .all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte)),
            "{name}"
        );
        assert!(seen.insert(name));
    }
}

async fn requests_that_make_no_sense(api: Speaker) {
    for path in [
        "/api/v1/nothings",
        "/apis/example.com/v1/things",
        "/api/v2/pods",
        "/nowhere",
        "/apis/apps/v1beta1/deployments",
    ] {
        let message = api.get(path).await.refused(404, "NotFound");
        assert_eq!(
            message, "the server could not find the requested resource",
            "{path}"
        );
    }
    // Namespaced kinds have no objects outside, cluster-wide kinds none inside a namespace.
    for path in [
        "/api/v1/pods/x".to_owned(),
        api.own("nodes"),
        api.own("namespaces"),
        api.own("nodes/x"),
    ] {
        api.get(&path).await.refused(404, "NotFound");
    }
    for (method, path) in [
        (Method::Put, "/api/v1/nodes"),
        (Method::Patch, "/api/v1/nodes"),
        (Method::Post, "/api/v1/nodes/x"),
        (Method::Post, "/api/v1/pods"),
        (Method::Delete, "/api/v1/pods"),
        (Method::Delete, "/api/v1/namespaces"),
        (Method::Options, "/api/v1/nodes"),
    ] {
        let request = api.ask_with(method, path, "application/json", "{}");
        let message = api.send(request).await.refused(405, "MethodNotAllowed");
        assert_eq!(
            message, "the server does not allow this method on the requested resource",
            "{path}"
        );
    }
    let path = api.own("configmaps");
    for (body, part) in [
        ("{", "json parse error"),
        ("", ""),
        ("[]", ""),
        ("null", ""),
        (
            r#"{"kind": "Pod", "apiVersion": "v1"}"#,
            "must be of type ConfigMap",
        ),
        (
            r#"{"apiVersion": "v9", "kind": "ConfigMap"}"#,
            "does not match the expected API version (v1)",
        ),
        (
            r#"{"metadata": 5}"#,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap",
        ),
        (r#"{"data": {"a": 5}}"#, "cannot be handled as a ConfigMap"),
    ] {
        let answer = api
            .send(api.ask_with(Method::Post, &path, "application/json", body))
            .await;
        assert!(matches!(answer.status, 400 | 422), "{body}: {answer:?}");
        assert!(
            answer.text().contains(&part.replace('"', "\\\"")),
            "{body}: {}",
            answer.text()
        );
    }
    let answer = api
        .send(api.ask_with(Method::Post, &path, "text/plain", "{}"))
        .await;
    assert_eq!(
        answer.refused(415, "UnsupportedMediaType"),
        "the body of the request was in an unknown format - accepted media types include: application/json, \
         application/yaml, application/vnd.kubernetes.protobuf"
    );
    let answer = api.accepting("text/html", &path).await;
    assert_eq!(
        answer.refused(406, "NotAcceptable"),
        "only the following media types are accepted: application/json, application/yaml, \
         application/vnd.kubernetes.protobuf"
    );
    api.patch(&format!("{path}/x"), "strategic", &json!({}))
        .await
        .refused(415, "UnsupportedMediaType");
}

async fn names_with_escapes(api: Speaker) {
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let name = format!("system:odd name {}", api.namespace);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}});
    api.post(path, &role).await.expect(201);
    let escaped = format!("{path}/{}", name.replace(' ', "%20").replace(':', "%3A"));
    assert_eq!(
        api.get(&escaped).await.expect(200)["metadata"]["name"],
        name.as_str()
    );
    api.get(&format!("{path}/system%2Fodd"))
        .await
        .refused(404, "NotFound");
    for broken in ["%zz", "%2", "%ff"] {
        api.get(&format!("{path}/{broken}"))
            .await
            .refused(400, "BadRequest");
    }
    api.delete(&escaped).await.expect(200);
}

async fn dry_runs_write_nothing(api: Speaker) {
    let path = api.own("configmaps");
    let one = format!("{path}/a");
    let dry = api
        .post(&format!("{path}?dryRun=All"), &config_map("a", "1"))
        .await
        .expect(201);
    assert!(dry["metadata"]["uid"].is_string() && dry["metadata"]["resourceVersion"].is_null());
    api.get(&one).await.refused(404, "NotFound");
    let stored = api.post(&path, &config_map("a", "1")).await.expect(201);
    api.post(&format!("{path}?dryRun=All"), &config_map("a", "1"))
        .await
        .refused(409, "AlreadyExists");
    let dry = api
        .put(&format!("{one}?dryRun=All"), &config_map("a", "2"))
        .await
        .expect(200);
    assert_eq!(dry["data"]["key"], "2");
    let dry = api
        .patch(
            &format!("{one}?dryRun=All"),
            "merge",
            &json!({"data": {"key": "3"}}),
        )
        .await
        .expect(200);
    assert_eq!(dry["data"]["key"], "3");
    api.delete(&format!("{one}?dryRun=All")).await.expect(200);
    api.delete_with(&one, &json!({"dryRun": ["All"]}))
        .await
        .expect(200);
    api.delete(&format!("{path}?dryRun=All")).await.expect(200);
    assert_eq!(api.get(&one).await.expect(200), stored);
    api.post(&format!("{path}?dryRun=Some"), &config_map("b", "1"))
        .await
        .refused(422, "Invalid");
    api.delete_with(&one, &json!({"dryRun": ["Some"]}))
        .await
        .refused(422, "Invalid");
}

async fn unknown_fields_as_asked(api: Speaker) {
    let path = api.own("configmaps");
    let with_typo = |name: &str| {
        let mut object = config_map(name, "1");
        object["dtaa"] = json!({});
        object["metadata"]["labls"] = json!({});
        object
    };
    let strict = api
        .post(&format!("{path}?fieldValidation=Strict"), &with_typo("a"))
        .await;
    assert_eq!(
        strict.refused(400, "BadRequest"),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dtaa\", \
         unknown field \"metadata.labls\""
    );
    let warned = api.post(&path, &with_typo("b")).await;
    assert!(warned.expect(201)["dtaa"].is_null());
    assert!(
        warned
            .header("warning")
            .unwrap()
            .starts_with("299 - \"unknown field \\\""),
        "{:?}",
        warned.headers
    );
    let silent = api
        .post(&format!("{path}?fieldValidation=Ignore"), &with_typo("c"))
        .await;
    silent.expect(201);
    assert_eq!(silent.header("warning"), None);
    let twice = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d"}, "data": {}, "data": {}}"#;
    let request = api.ask_with(
        Method::Post,
        &format!("{path}?fieldValidation=Strict"),
        "application/json",
        twice,
    );
    let message = api.send(request).await.refused(400, "BadRequest");
    assert!(
        message.ends_with("strict decoding error: duplicate field \"data\""),
        "{message}"
    );
}

/// Events are one storage under two groups, and so are both versions of an autoscaler.
async fn one_storage_under_two_names(api: Speaker) {
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": api.namespace},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": api.namespace}, "reason": "Started",
        "message": "it runs", "type": "Normal", "count": 1, "source": {"component": "kubelet"}});
    let core = api.post(&api.own("events"), &event).await.expect(201);
    let new = api
        .get(&api.own("events.k8s.io/v1/events/e"))
        .await
        .expect(200);
    assert_eq!(new["apiVersion"], "events.k8s.io/v1");
    assert_eq!(new["note"], "it runs");
    assert_eq!(new["regarding"]["name"], "p");
    assert_eq!(new["metadata"], core["metadata"]);
    let list = api
        .get(&api.own("events.k8s.io/v1/events?fieldSelector=reason%3DStarted"))
        .await
        .expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let patched = api
        .patch(
            &api.own("events.k8s.io/v1/events/e"),
            "merge",
            &json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await
        .expect(200);
    assert_eq!(
        api.get(&api.own("events/e")).await.expect(200)["metadata"],
        patched["metadata"]
    );

    let scaler = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70,
                 "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    api.post(&api.own("autoscaling/v1/horizontalpodautoscalers"), &scaler)
        .await
        .expect(201);
    let second = api
        .get(&api.own("autoscaling/v2/horizontalpodautoscalers/h"))
        .await
        .expect(200);
    assert_eq!(
        second["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        70
    );
    let first: Value = api
        .get(&api.own("autoscaling/v1/horizontalpodautoscalers/h"))
        .await
        .expect(200);
    assert_eq!(first["spec"]["targetCPUUtilizationPercentage"], 70);
}

crate::both!(
    life_of_many_kinds,
    metadata_belongs_to_the_server,
    generated_names_differ,
    requests_that_make_no_sense,
    names_with_escapes,
    dry_runs_write_nothing,
    unknown_fields_as_asked,
    one_storage_under_two_names,
);

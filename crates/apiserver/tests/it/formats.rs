//! Shapes and encodings of replies and bodies, discovery, OpenAPI, health.

use rest::http::{Method, Request};
use value::json;

use crate::plane::{Plane, block_on};
use crate::speak::{Speaker, config_map};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn tables_and_metadata(api: Speaker) {
    let path = api.own("pods");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"l": "1"}},
        "spec": {"containers": [{"name": "main", "image": "i"}]}});
    let created = api.post(&path, &pod).await.expect(201);
    let wish = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    let table = api
        .accepting(wish, &format!("{path}?limit=500"))
        .await
        .expect(200);
    assert_eq!(
        (table["kind"].as_str(), table["apiVersion"].as_str()),
        (Some("Table"), Some("meta.k8s.io/v1"))
    );
    let columns: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns[..5], ["Name", "Ready", "Status", "Restarts", "Age"]);
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["cells"][1], "0/1");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert!(table["metadata"]["resourceVersion"].is_string());
    for (include, kind) in [
        ("None", None),
        ("Metadata", Some("PartialObjectMetadata")),
        ("Object", Some("Pod")),
    ] {
        let table = api
            .accepting(wish, &format!("{path}/a?includeObject={include}"))
            .await
            .expect(200);
        assert_eq!(table["rows"][0]["object"]["kind"].as_str(), kind);
    }
    api.accepting(wish, &format!("{path}/a?includeObject=Some"))
        .await
        .refused(400, "BadRequest");

    let one = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let partial = api.accepting(one, &format!("{path}/a")).await.expect(200);
    assert_eq!(
        partial,
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": created["metadata"]})
    );
    let list = "as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = api
        .accepting(&format!("application/json;{list}"), &path)
        .await
        .expect(200);
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert_eq!(partial["items"][0]["metadata"]["name"], "a");
    let answer = api.accepting(&format!("{PROTOBUF};{list}"), &path).await;
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (200, PROTOBUF)
    );
    let unknown = schema::envelope::unwrap(&answer.body).unwrap();
    assert_eq!(
        (unknown.api_version, unknown.kind),
        ("meta.k8s.io/v1", "PartialObjectMetadataList")
    );
    // Writes and deletes answer in the wanted shape, too.
    let request = Request {
        accept: one.into(),
        ..api.ask(Method::Delete, &format!("{path}/a"))
    };
    assert_eq!(
        api.send(request).await.expect(200)["kind"],
        "PartialObjectMetadata"
    );
}

async fn protobuf_both_ways(api: Speaker) {
    let path = api.own("configmaps");
    let type_id = schema::kind_type("v1", "ConfigMap").unwrap();
    let mut message = Vec::new();
    schema::encode_protobuf(type_id, &config_map("a", "1"), &mut message).unwrap();
    let mut body = Vec::new();
    schema::envelope::wrap("v1", "ConfigMap", &message, &mut body);
    let request = Request {
        accept: PROTOBUF.into(),
        ..api.ask_with(Method::Post, &path, PROTOBUF, body.clone())
    };
    let answer = api.send(request).await;
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (201, PROTOBUF)
    );
    let unknown = schema::envelope::unwrap(&answer.body).unwrap();
    let decoded = schema::decode_protobuf(type_id, unknown.raw).unwrap();
    let in_json = api.get(&format!("{path}/a")).await.expect(200);
    assert_eq!(decoded["metadata"], in_json["metadata"]);
    assert_eq!(decoded["data"], in_json["data"]);
    let answer = api
        .accepting(&format!("{PROTOBUF},application/json"), &path)
        .await;
    assert_eq!(answer.content_type, PROTOBUF);
    assert_eq!(
        schema::envelope::unwrap(&answer.body).unwrap().kind,
        "ConfigMapList"
    );
    // Damaged bytes and other kinds.
    for (what, body) in [
        ("cut", &body[..body.len() - 3]),
        ("no envelope", &message[..]),
        ("empty", &[]),
    ] {
        let answer = api
            .send(api.ask_with(Method::Post, &path, PROTOBUF, body.to_vec()))
            .await;
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
    }
    let mut other = Vec::new();
    schema::envelope::wrap("v1", "Secret", &message, &mut other);
    let answer = api
        .send(api.ask_with(Method::Post, &path, PROTOBUF, other))
        .await;
    answer.refused(400, "BadRequest");
    // Errors come as JSON that every client reads.
    let answer = api.accepting(PROTOBUF, &format!("{path}/none")).await;
    assert_eq!(answer.status, 404);
}

async fn yaml_and_indented_json(api: Speaker) {
    let path = api.own("configmaps");
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  key: |\n    two\n    lines\n";
    let answer = api
        .send(api.ask_with(Method::Post, &path, "application/yaml", yaml))
        .await;
    assert_eq!(answer.expect(201)["data"]["key"], "two\nlines\n");
    let answer = api
        .accepting("application/yaml", &format!("{path}/a"))
        .await;
    assert_eq!(answer.content_type, "application/yaml");
    assert!(
        answer
            .text()
            .starts_with("apiVersion: v1\ndata:\n  key: |\n"),
        "{}",
        answer.text()
    );
    let list = api.accepting("application/yaml", &path).await;
    assert!(
        list.text().contains("kind: ConfigMapList\n"),
        "{}",
        list.text()
    );
    let plain = api.get(&format!("{path}/a")).await;
    assert!(!plain.text().trim_end().contains('\n'));
    for query in ["?pretty=true", "?pretty=1"] {
        let pretty = api.get(&format!("{path}/a{query}")).await;
        assert!(
            pretty.text().starts_with("{\n  \"kind\": \"ConfigMap\",\n"),
            "{}",
            pretty.text()
        );
        assert_eq!(pretty.json(), plain.json());
        let list = api.get(&format!("{path}{query}")).await;
        assert!(list.text().contains("\n  \"items\": ["), "{}", list.text());
        assert!(list.json()["items"][0]["kind"].is_null(), "{}", list.text());
    }
    let curl = Request {
        user_agent: "curl/8".into(),
        ..api.ask(Method::Get, &format!("{path}/a"))
    };
    assert!(api.send(curl).await.text().contains('\n'));
    let broken = api
        .send(api.ask_with(Method::Post, &path, "application/yaml", "a: ["))
        .await;
    broken.refused(400, "BadRequest");
}

async fn what_clients_look_up_first(api: Speaker) {
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let answer = api.accepting(aggregated, "/apis").await;
    assert_eq!(answer.content_type, aggregated);
    assert_eq!(answer.expect(200)["kind"], "APIGroupDiscoveryList");
    let etag = answer.header("etag").unwrap().to_owned();
    let again = Request {
        if_none_match: Some(etag),
        accept: aggregated.into(),
        ..api.ask(Method::Get, "/apis")
    };
    assert_eq!(api.send(again).await.status, 304);
    for (path, kind) in [
        ("/api", "APIVersions"),
        ("/apis", "APIGroupList"),
        ("/api/v1", "APIResourceList"),
        ("/apis/apps", "APIGroup"),
        ("/apis/apps/v1", "APIResourceList"),
    ] {
        assert_eq!(api.get(path).await.expect(200)["kind"], kind, "{path}");
    }
    api.get("/apis/nothing.example.com")
        .await
        .refused(404, "NotFound");
    let index = api.get("/openapi/v3").await.expect(200);
    let apps = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    assert_eq!(api.get(apps).await.expect(200)["openapi"], "3.0.0");
    assert_eq!(api.get("/openapi/v2").await.expect(200)["swagger"], "2.0");
    let version = api.get("/version").await.expect(200);
    assert_eq!(
        (version["major"].as_str(), version["minor"].as_str()),
        (Some("1"), Some("36"))
    );
    assert!(
        api.get("/").await.expect(200)["paths"]
            .as_array()
            .unwrap()
            .contains(&json!("/apis"))
    );
    let metrics = api.get("/metrics").await;
    assert!(
        metrics
            .text()
            .contains("apiserver_resource_objects{group=\"\",resource=\"namespaces\"}")
    );
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let answer = api
        .post(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            &review,
        )
        .await;
    assert_eq!(answer.expect(201)["status"]["allowed"], true);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = api
        .post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review)
        .await;
    assert!(answer.expect(201)["status"]["userInfo"]["username"].is_string());
}

async fn health(api: Speaker) {
    for path in [
        "/healthz",
        "/livez",
        "/readyz",
        "/readyz/ping",
        "/readyz?exclude=log",
    ] {
        let answer = api.get(path).await;
        assert_eq!((answer.status, answer.text()), (200, "ok"), "{path}");
    }
    let answer = api.get("/readyz?verbose").await;
    assert!(
        answer.text().starts_with("[+]ping ok\n"),
        "{}",
        answer.text()
    );
    assert!(
        answer.text().ends_with("readyz check passed\n"),
        "{}",
        answer.text()
    );
    api.get("/readyz/nothing").await.refused(404, "NotFound");
}

crate::both!(
    tables_and_metadata,
    protobuf_both_ways,
    yaml_and_indented_json,
    what_clients_look_up_first,
    health
);

/// Before its namespaces are there, a server is alive and not ready.
#[test]
fn not_ready_before_the_cluster_is_set_up() {
    block_on(async {
        let plane = Plane::new();
        let api = Speaker::new(std::sync::Arc::new(plane.api.clone()), None, "default");
        assert_eq!(api.get("/livez").await.status, 200);
        let answer = api.get("/readyz").await;
        assert_eq!(answer.status, 500);
        assert!(
            answer
                .text()
                .contains("[-]poststarthook/bootstrap failed\n"),
            "{}",
            answer.text()
        );
        let plane = plane.ready().await;
        assert_eq!(api.get("/readyz").await.status, 200);
        plane.stop.send(true).unwrap();
        assert_eq!(
            api.get("/readyz").await.status,
            500,
            "who ends gets no new work"
        );
        assert_eq!(api.get("/livez").await.status, 200);
    });
}

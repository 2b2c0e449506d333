//! Addresses and node ports of Services.

use value::{Value, json};

use crate::speak::Speaker;

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

async fn addresses_are_given_and_given_back(api: Speaker) {
    let path = api.own("services");
    let first = api
        .post(&path, &service("a", json!({"ports": [{"port": 80}]})))
        .await
        .expect(201);
    let address = first["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10."), "{address}");
    assert_eq!(first["spec"]["clusterIPs"], json!([address]));
    let same = service("b", json!({"clusterIP": address, "ports": [{"port": 80}]}));
    let message = api.post(&path, &same).await.refused(422, "Invalid");
    assert!(
        message.ends_with(&format!(
            "failed to allocate IP {address}: provided IP is already allocated"
        )),
        "{message}"
    );
    // A change keeps the address, and nobody may change it.
    let changed = api
        .patch(
            &format!("{path}/a"),
            "merge",
            &json!({"spec": {"sessionAffinity": "ClientIP"}}),
        )
        .await
        .expect(200);
    assert_eq!(changed["spec"]["clusterIP"], address.as_str());
    api.patch(
        &format!("{path}/a"),
        "merge",
        &json!({"spec": {"clusterIP": "10.96.200.200", "clusterIPs": ["10.96.200.200"]}}),
    )
    .await
    .refused(422, "Invalid");
    assert_eq!(
        api.delete(&format!("{path}/a")).await.expect(200)["kind"],
        "Service"
    );
    api.post(&path, &same).await.expect(201);
    let headless = api
        .post(
            &path,
            &service("c", json!({"clusterIP": "None", "ports": [{"port": 80}]})),
        )
        .await
        .expect(201);
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let external = json!({"type": "ExternalName", "externalName": "example.com"});
    assert!(
        api.post(&path, &service("d", external)).await.expect(201)["spec"]["clusterIP"].is_null()
    );
    let outside = service(
        "e",
        json!({"clusterIP": "192.0.2.7", "ports": [{"port": 80}]}),
    );
    api.post(&path, &outside).await.refused(422, "Invalid");
}

async fn node_ports_are_given_and_given_back(api: Speaker) {
    let path = api.own("services");
    let node_port = |name: &str, port: Value| {
        service(
            name,
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}),
        )
    };
    let first = api
        .post(&path, &node_port("a", Value::Null))
        .await
        .expect(201);
    let port = first["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30_000..=32_767).contains(&port));
    let message = api
        .post(&path, &node_port("b", port.into()))
        .await
        .refused(422, "Invalid");
    assert!(
        message.ends_with("provided port is already allocated"),
        "{message}"
    );
    let message = api
        .post(&path, &node_port("b", 80.into()))
        .await
        .refused(422, "Invalid");
    assert!(
        message.contains("The range of valid ports is 30000-32767"),
        "{message}"
    );
    // A service that becomes internal gives its port back; its address stays.
    let internal = json!({"spec": {"type": "ClusterIP", "externalTrafficPolicy": null, "ports": [{"port": 80, "nodePort": null}]}});
    let changed = api
        .patch(&format!("{path}/a"), "merge", &internal)
        .await
        .expect(200);
    assert!(changed["spec"]["ports"][0]["nodePort"].is_null());
    assert_eq!(changed["spec"]["clusterIP"], first["spec"]["clusterIP"]);
    api.post(&path, &node_port("b", port.into()))
        .await
        .expect(201);
    // The last finalizer's update may change ports: what was stored is given back, not what was sent.
    let hold = json!({"metadata": {"finalizers": ["example.com/wait"]}});
    api.patch(&format!("{path}/b"), "merge", &hold)
        .await
        .expect(200);
    api.delete(&format!("{path}/b")).await.expect(200);
    let last = json!({"metadata": {"finalizers": null}, "spec": {"type": "ClusterIP", "externalTrafficPolicy": null,
        "ports": [{"port": 80, "nodePort": 0}]}});
    api.patch(&format!("{path}/b"), "merge", &last)
        .await
        .expect(200);
    api.post(&path, &node_port("c", port.into()))
        .await
        .expect(201);
}

crate::both!(
    addresses_are_given_and_given_back,
    node_ports_are_given_and_given_back
);

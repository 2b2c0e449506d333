//! The three wire formats: the same object in each, in both directions.

use rest::http::Method;
use value::{Value, json};

use crate::support::Plane;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

pub(crate) fn protobuf_json_and_yaml_agree(plane: &Plane) {
    plane.kubectl("create namespace formats").ok();
    let list = "/api/v1/namespaces/formats/configmaps";
    let ty = schema::kind_type("v1", "ConfigMap").unwrap();
    // Created by protobuf.
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": {"name": "map", "labels": {"made": "by-protobuf"}},
                        "data": {"greeting": "grüß dich", "empty": ""}, "binaryData": {"bytes": "AP/+"}});
    let answer = plane.send(
        Method::Post,
        list,
        PROTOBUF,
        PROTOBUF,
        protobuf(ty, &object),
    );
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (201, PROTOBUF),
        "{}",
        answer.text()
    );
    let created = read_protobuf(ty, &answer.body);
    assert_eq!(created["data"], object["data"]);

    // Read by all three.
    let one = format!("{list}/map");
    let as_json = plane.get(&one).succeeded().json();
    assert_eq!(as_json["data"], object["data"]);
    assert_eq!(as_json["binaryData"], object["binaryData"]);
    let as_protobuf = plane.send(Method::Get, &one, PROTOBUF, "", "").succeeded();
    let mut tree = read_protobuf(ty, &as_protobuf.body);
    (tree["apiVersion"], tree["kind"]) = ("v1".into(), "ConfigMap".into());
    assert_eq!(tree, as_json);
    let as_yaml = plane
        .send(Method::Get, &one, "application/yaml", "", "")
        .succeeded();
    assert_eq!(as_yaml.content_type, "application/yaml");
    assert_eq!(
        schema::decode_yaml(ty, &as_yaml.body).unwrap().value,
        as_json
    );

    // Updated by YAML, with what was read.
    let changed = as_yaml.text().replace("by-protobuf", "by-yaml");
    let answer = plane
        .send(
            Method::Put,
            &one,
            "application/json",
            "application/yaml",
            changed,
        )
        .succeeded();
    assert_eq!(answer.json()["metadata"]["labels"]["made"], "by-yaml");
    // And by protobuf with the version that is now stale.
    let stale = plane.send(
        Method::Put,
        &one,
        "application/json",
        PROTOBUF,
        as_protobuf.body,
    );
    stale.is_error(
        409,
        "Conflict",
        &["Operation cannot be fulfilled on configmaps \"map\""],
    );

    // Errors come in the format that was asked for.
    let missing = plane.send(Method::Get, &format!("{list}/none"), PROTOBUF, "", "");
    assert_eq!(
        (missing.status, missing.content_type.as_str()),
        (404, PROTOBUF),
        "{}",
        missing.text()
    );
    let status = read_protobuf(schema::kind_type("v1", "Status").unwrap(), &missing.body);
    assert_eq!(status["reason"], "NotFound");
    // Lists, and the first choice that can be had.
    let both = format!("{PROTOBUF},application/json");
    let pods = plane
        .send(Method::Get, "/api/v1/nodes?limit=2", &both, "", "")
        .succeeded();
    let nodes = read_protobuf(schema::kind_type("v1", "NodeList").unwrap(), &pods.body);
    assert_eq!(nodes["items"].as_array().unwrap().len(), 2);
    plane.kubectl("delete namespace formats --wait=false").ok();
}

fn protobuf(ty: schema::TypeId, object: &Value) -> Vec<u8> {
    let mut message = Vec::new();
    schema::encode_protobuf(ty, object, &mut message).unwrap();
    let mut body = Vec::new();
    schema::envelope::wrap(
        object["apiVersion"].as_str().unwrap(),
        object["kind"].as_str().unwrap(),
        &message,
        &mut body,
    );
    body
}

fn read_protobuf(ty: schema::TypeId, body: &[u8]) -> Value {
    let envelope = schema::envelope::unwrap(body).unwrap();
    schema::decode_protobuf(ty, envelope.raw).unwrap()
}

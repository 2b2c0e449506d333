//! Bytes and texts written by hand from the published formats, for the places where transcoders go wrong.

use schema::{FieldReader, JsonOptions, decode_json, decode_protobuf, encode_protobuf, kind_type};
use value::json;

fn protobuf(api_version: &str, kind: &str, json: &str) -> Vec<u8> {
    let ty = kind_type(api_version, kind).unwrap();
    let mut out = Vec::new();
    encode_protobuf(
        ty,
        &decode_json(ty, json.as_bytes()).unwrap().value,
        &mut out,
    )
    .unwrap();
    out
}

fn error(api_version: &str, kind: &str, json: &str) -> String {
    decode_json(kind_type(api_version, kind).unwrap(), json.as_bytes())
        .unwrap_err()
        .to_string()
}

fn complaints(json: &str) -> Vec<String> {
    decode_json(kind_type("apps/v1", "Deployment").unwrap(), json.as_bytes())
        .unwrap()
        .complaints
}

/// Object metadata with nothing but a name: plain fields are always there, pointers and maps are not.
const METADATA: &[u8] = b"\x0a\x01n\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\x42\x00";

#[test]
fn lease() {
    let bytes = protobuf(
        "coordination.k8s.io/v1",
        "Lease",
        r#"{"metadata":{"name":"n","creationTimestamp":null},"spec":{"holderIdentity":"h","renewTime":"1970-01-01T00:00:05.000001Z"}}"#,
    );
    let expected = [
        b"\x0a\x11",
        METADATA,
        b"\x12\x0a\x0a\x01h\x22\x05\x08\x05\x10\xe8\x07",
    ]
    .concat();
    assert_eq!(bytes, expected);
    let mut spliced = Vec::new();
    schema::splice_resource_version(&bytes, "42", &mut spliced);
    let expected = [
        &b"\x0a\x13\x0a\x01n\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x0242\x38\x00\x42\x00"[..],
        b"\x12\x0a\x0a\x01h\x22\x05\x08\x05\x10\xe8\x07",
    ]
    .concat();
    assert_eq!(spliced, expected);
    let mut json = Vec::new();
    let options = JsonOptions {
        type_meta: Some(("coordination.k8s.io/v1", "Lease")),
        resource_version: Some("42"),
    };
    schema::protobuf_to_json(
        kind_type("coordination.k8s.io/v1", "Lease").unwrap(),
        &bytes,
        options,
        &mut json,
    )
    .unwrap();
    assert_eq!(
        String::from_utf8(json).unwrap(),
        r#"{"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":"n","resourceVersion":"42"},"spec":{"holderIdentity":"h","renewTime":"1970-01-01T00:00:05.000001Z"}}"#
    );
}

#[test]
fn splicing_lengthens_the_metadata_across_a_length_boundary() {
    let long = "n".repeat(111);
    let bytes = protobuf(
        "v1",
        "ConfigMap",
        &format!(r#"{{"metadata":{{"name":"{long}"}}}}"#),
    );
    assert_eq!(bytes[1], 127);
    let mut spliced = Vec::new();
    schema::splice_resource_version(&bytes, "1", &mut spliced);
    assert_eq!(spliced[1..3], [0x80, 0x01]);
    let value = decode_protobuf(kind_type("v1", "ConfigMap").unwrap(), &spliced).unwrap();
    assert_eq!(
        value,
        json!({"metadata": {"name": long, "resourceVersion": "1"}})
    );
    // Splicing again replaces; an object without metadata gets some.
    let mut again = Vec::new();
    schema::splice_resource_version(&spliced, "22", &mut again);
    let value = decode_protobuf(kind_type("v1", "ConfigMap").unwrap(), &again).unwrap();
    assert_eq!(value["metadata"]["resourceVersion"], "22");
    let mut bare = Vec::new();
    schema::splice_resource_version(b"", "3", &mut bare);
    assert_eq!(bare, b"\x0a\x03\x32\x013");
}

#[test]
fn stored_objects_leave_the_version_out() {
    let ty = kind_type("v1", "ConfigMap").unwrap();
    let mut out = Vec::new();
    schema::encode_stored(
        ty,
        &json!({"metadata": {"name": "n", "resourceVersion": "9"}}),
        &mut out,
    )
    .unwrap();
    assert_eq!(out, [b"\x0a\x11", METADATA].concat());
}

#[test]
fn maps_are_sorted_and_secrets_are_bytes() {
    let bytes = protobuf(
        "v1",
        "Secret",
        r#"{"data":{"b":"aGk=","a":""},"metadata":{"name":"n"},"stringData":{"z":"1"}}"#,
    );
    let expected = [
        b"\x0a\x11",
        METADATA,
        b"\x12\x05\x0a\x01a\x12\x00",
        b"\x12\x07\x0a\x01b\x12\x02hi",
        b"\x1a\x00",
        b"\x22\x06\x0a\x01z\x12\x011",
    ]
    .concat();
    assert_eq!(bytes, expected);
}

#[test]
fn quantities_times_and_ports() {
    let bytes = protobuf(
        "v1",
        "PersistentVolumeClaim",
        r#"{"metadata":{"name":"n"},"spec":{"resources":{"requests":{"storage":"1024Mi"}}}}"#,
    );
    let expected = [
        b"\x0a\x11",
        METADATA,
        b"\x12\x16\x12\x12\x12\x10\x0a\x07storage\x12\x05\x0a\x031Gi\x1a\x00",
        b"\x1a\x02\x0a\x00",
    ]
    .concat();
    assert_eq!(bytes, expected);
    let bytes = protobuf(
        "v1",
        "Service",
        r#"{"metadata":{"name":"n"},"spec":{"ports":[{"port":80,"targetPort":"http"}]}}"#,
    );
    // name, protocol, port, targetPort, nodePort; appProtocol is a pointer and absent.
    let port = b"\x0a\x00\x12\x00\x18\x50\x22\x0a\x08\x01\x10\x00\x1a\x04http\x28\x00";
    assert!(contains(&bytes, port), "{}", bytes.escape_ascii());
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[test]
fn raw_json_keeps_its_bytes_and_html_is_escaped_only_in_replies() {
    let bytes = protobuf(
        "apps/v1",
        "ControllerRevision",
        r#"{"metadata":{"name":"n"},"data":{"b":"<x>","a":1},"revision":3}"#,
    );
    let expected = [
        b"\x0a\x11",
        METADATA,
        b"\x12\x13\x0a\x11{\"a\":1,\"b\":\"<x>\"}",
        b"\x18\x03",
    ]
    .concat();
    assert_eq!(bytes, expected);
    let mut json = Vec::new();
    schema::protobuf_to_json(
        kind_type("apps/v1", "ControllerRevision").unwrap(),
        &bytes,
        JsonOptions::default(),
        &mut json,
    )
    .unwrap();
    assert_eq!(
        String::from_utf8(json).unwrap(),
        r#"{"metadata":{"name":"n"},"data":{"a":1,"b":"\u003cx\u003e"},"revision":3}"#
    );
}

#[test]
fn what_go_leaves_out_and_what_it_shows() {
    let ty = kind_type("apps/v1", "Deployment").unwrap();
    let mut json = Vec::new();
    schema::write_json(
        ty,
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 0}}),
        &mut json,
    );
    assert_eq!(
        String::from_utf8(json).unwrap(),
        r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{},"spec":{"replicas":0,"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"strategy":{}},"status":{}}"#
    );
    let mut json = Vec::new();
    schema::write_json(kind_type("v1", "PodList").unwrap(), &json!({}), &mut json);
    assert_eq!(
        String::from_utf8(json).unwrap(),
        r#"{"metadata":{},"items":[]}"#
    );
}

#[test]
fn typed_trees_hold_what_protobuf_holds() {
    let ty = kind_type("apps/v1", "Deployment").unwrap();
    let body = br#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d","labels":{},"generation":0},
        "spec":{"replicas":0,"paused":false,"minReadySeconds":0,"selector":{},"strategy":{},"template":{"spec":{"containers":[
        {"name":"c","env":[{"name":"A","value":""}],"resources":{}}],"volumes":[{"name":"v","emptyDir":{}}],"tolerations":[]}}}}"#;
    assert_eq!(
        decode_json(ty, body).unwrap().value,
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 0, "selector": {},
            "template": {"spec": {"containers": [{"name": "c", "env": [{"name": "A"}]}], "volumes": [{"name": "v", "emptyDir": {}}]}}}})
    );
}

#[test]
fn wrong_types_are_told_in_gos_words() {
    let deployment = |json: &str| error("apps/v1", "Deployment", json);
    assert_eq!(
        deployment(r#"{"spec":{"replicas":"3"}}"#),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        deployment(r#"{"spec":{"replicas":3000000000}}"#),
        "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        deployment(r#"{"spec":{"replicas":1.5}}"#),
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        deployment(r#"{"metadata":{"labels":{"a":1}}}"#),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"
    );
    assert_eq!(
        deployment(r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container"
    );
    assert_eq!(
        deployment(r#"{"spec":{"template":{"spec":{"containers":[{"image":7}]}}}}"#),
        "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.image of type string"
    );
    assert_eq!(
        deployment(r#"{"spec":{"template":{"spec":{"restartPolicy":true}}}}"#),
        "json: cannot unmarshal bool into Go struct field PodSpec.spec.template.spec.restartPolicy of type v1.RestartPolicy"
    );
    assert_eq!(
        deployment("[]"),
        "json: cannot unmarshal array into Go value of type v1.Deployment"
    );
    assert_eq!(deployment("{"), "unexpected end of JSON input");
    assert_eq!(
        deployment(r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":true}}}}"#),
        "json: cannot unmarshal bool into Go value of type int32"
    );
}

#[test]
fn unknown_and_duplicate_fields_in_the_order_of_the_text() {
    assert_eq!(
        complaints(r#"{"spec":{"foo":1}}"#),
        [r#"unknown field "spec.foo""#]
    );
    assert_eq!(
        complaints(
            r#"{"zeta":1,"spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"c","imagE":"x"}]}},"replicas":2},"alpha":{"a":1,"a":2},"metadata":{"labels":{"l":"1","l":"2"}}}"#
        ),
        [
            r#"unknown field "zeta""#,
            r#"unknown field "spec.template.spec.containers[0].imagE""#,
            r#"duplicate field "spec.replicas""#,
            r#"unknown field "alpha""#,
            r#"duplicate field "metadata.labels.l""#,
        ]
    );
    let many: Vec<String> = (0..500).map(|index| format!("\"f{index}\":1")).collect();
    assert_eq!(
        complaints(&format!("{{{}}}", many.join(","))).len(),
        schema::MAX_COMPLAINTS
    );
}

#[test]
fn fields_come_in_any_order_and_repeat() {
    let ty = kind_type("v1", "ConfigMap").unwrap();
    // data before metadata, metadata in two pieces, a repeated map key, an unknown field.
    let bytes = b"\x12\x06\x0a\x01k\x12\x011\x0a\x03\x0a\x01n\x12\x06\x0a\x01k\x12\x012\x0a\x03\x1a\x01s\xf8\x07\x01";
    assert_eq!(
        decode_protobuf(ty, bytes).unwrap(),
        json!({"metadata": {"name": "n", "namespace": "s"}, "data": {"k": "2"}})
    );
    let mut json = Vec::new();
    schema::protobuf_to_json(ty, bytes, JsonOptions::default(), &mut json).unwrap();
    assert_eq!(
        String::from_utf8(json).unwrap(),
        r#"{"metadata":{"name":"n","namespace":"s"},"data":{"k":"2"}}"#
    );
    // Packed and unpacked integers are the same.
    let pod = kind_type("v1", "Pod").unwrap();
    let packed = b"\x12\x06\x72\x04\x22\x02\x05\x06";
    let loose = b"\x12\x06\x72\x04\x20\x05\x20\x06";
    assert_eq!(
        decode_protobuf(pod, packed).unwrap(),
        decode_protobuf(pod, loose).unwrap()
    );
    assert_eq!(
        decode_protobuf(pod, packed).unwrap(),
        json!({"spec": {"securityContext": {"supplementalGroups": [5, 6]}}})
    );
}

#[test]
fn fields_are_read_without_decoding() {
    let ty = kind_type("v1", "Pod").unwrap();
    let bytes = protobuf(
        "v1",
        "Pod",
        r#"{"metadata":{"name":"p","labels":{"b":"2","a":"1"},"deletionGracePeriodSeconds":30,"deletionTimestamp":"2026-01-02T03:04:05Z"},"spec":{"nodeName":"node-1","hostNetwork":true,"priority":-5},"status":{"phase":"Running"}}"#,
    );
    let read = |path: &str| {
        FieldReader::compile(ty, path)
            .unwrap()
            .read_str(&bytes)
            .map(|text| text.into_owned())
    };
    assert_eq!(read("spec.nodeName").as_deref(), Some("node-1"));
    assert_eq!(read("status.phase").as_deref(), Some("Running"));
    assert_eq!(read("metadata.namespace"), None);
    assert_eq!(read("spec.priority").as_deref(), Some("-5"));
    assert_eq!(read("spec.hostNetwork").as_deref(), Some("true"));
    assert_eq!(
        read("metadata.deletionTimestamp").as_deref(),
        Some("2026-01-02T03:04:05Z")
    );
    assert_eq!(
        FieldReader::compile(ty, "spec.priority")
            .unwrap()
            .read_i64(&bytes),
        Some(-5)
    );
    for bad in [
        "spec.nope",
        "spec",
        "spec.containers",
        "metadata.labels",
        "",
        "spec.nodeName.x",
    ] {
        assert!(FieldReader::compile(ty, bad).is_none(), "{bad}");
    }
    let mut labels = Vec::new();
    schema::read_map(ty, "metadata.labels", &bytes, |key, value| {
        labels.push(format!("{key}={value}"))
    });
    assert_eq!(labels, ["a=1", "b=2"]);
}

#[test]
fn shared_kinds_belong_to_every_group() {
    assert_eq!(
        kind_type("apps/v1", "DeleteOptions"),
        kind_type("v1", "DeleteOptions")
    );
    assert_eq!(
        kind_type("apps/v1", "DeleteOptions")
            .unwrap()
            .openapi_name(),
        "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
    );
    for (api_version, kind) in [
        ("v1", "Status"),
        ("v1", "WatchEvent"),
        ("v1", "Binding"),
        ("v1", "List"),
        ("autoscaling/v1", "Scale"),
        ("policy/v1", "Eviction"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("apiregistration.k8s.io/v1", "APIService"),
        ("meta.k8s.io/v1", "PartialObjectMetadata"),
        ("apps/v1", "DeploymentList"),
    ] {
        assert!(
            kind_type(api_version, kind).is_some(),
            "{api_version} {kind}"
        );
    }
    assert_eq!(kind_type("apps/v1", "PodSpec"), None);
    assert_eq!(kind_type("v9", "Pod"), None);
}

//! Bodies that are not what they should be.

use rest::http::Method;
use value::json;

use crate::support::{Plane, assert_has};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Nothing in here was stored: asked at the end of each story.
fn is_absent(plane: &Plane, what: &str) {
    assert_has(
        &plane.kubectl(&format!("get {what} -n default")).fails(),
        &["not found"],
    );
}

pub(crate) fn malformed(plane: &Plane) {
    let deep_json = "[".repeat(100_000);
    let deep_object = format!("{}1{}", "{\"data\":".repeat(5_000), "}".repeat(5_000));
    for body in [
        "{",
        "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"bad\"}",
        "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"bad\"}}}",
        "nonsense",
        "\u{0}\u{0}\u{0}",
        "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"b\\ud800ad\"},\"data\":{\"a\":\"\\x\"}}",
        "[1,2,3]",
        "null",
        "42",
        &deep_json,
        &deep_object,
    ] {
        let start: String = body.chars().take(60).collect();
        let answer = plane.post(MAPS, body);
        assert_eq!(answer.status, 400, "{start}: {}", answer.text());
        answer.is_error(400, "BadRequest", &[]);
    }
    plane.post(MAPS, "").is_error(400, "BadRequest", &[]);
    // Bytes that are no UTF-8 become the replacement character, as Go's decoder has it: what is stored is text.
    let body = b"{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"bytes\"},\"data\":{\"a\":\"\xff\"}}";
    let stored = plane.post(MAPS, body.to_vec()).succeeded().json();
    assert_eq!(stored["data"]["a"], "\u{fffd}");

    let bomb = yaml_bomb();
    for body in [
        "a: [",
        "kind: ConfigMap\n\tapiVersion: v1",
        "- 1\n- 2\n",
        "kind: &x [*x]",
        "%YAML 9.9\n---\n\u{1}",
        bomb.as_str(),
    ] {
        let answer = plane.send(
            Method::Post,
            MAPS,
            "application/json",
            "application/yaml",
            body,
        );
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
    for body in [
        &b"k8s"[..],
        b"k8s\0",
        b"xyz\0\x0a\x00",
        b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"k8s\0\x0a\xff\xff\xff\xff\x0f",
        // A whole envelope around a message that breaks off.
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x03\x0a\x7fx",
        // Group number out of range, and a wire type that does not exist.
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x02\x07\x00",
    ] {
        let answer = plane.send(Method::Post, MAPS, "application/json", PROTOBUF, body);
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
    }
    assert_has(
        &plane.kubectl("create -f -").stdin("{\"kind\": ").fails(),
        &["error"],
    );
    is_absent(plane, "configmap/bad");
}

/// Nine lines that would be a billion strings.
fn yaml_bomb() -> String {
    let mut text = "kind: ConfigMap\napiVersion: v1\na0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        text += &format!(
            "a{level}: &a{level} [{}]\n",
            [below.as_str(); 10].join(", ")
        );
    }
    text
}

pub(crate) fn unknown_and_duplicate_fields(plane: &Plane) {
    let deployment = |name: &str| {
        format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: default}}
spec:
  replica: 3
  replicas: 0
  selector: {{matchLabels: {{app: x}}}}
  template:
    metadata: {{labels: {{app: x}}}}
    spec:
      containers:
      - name: c
        image: i
        imagePullpolicy: Always
"
        )
    };
    // Strict is kubectl's default: both at once, by path.
    let refused = plane
        .kubectl("create -f -")
        .stdin(deployment("strict"))
        .fails();
    assert_has(
        &refused,
        &[
            "strict decoding error",
            "unknown field \"spec.replica\"",
            "unknown field \"spec.template.spec.containers[0].imagePullpolicy\"",
        ],
    );
    is_absent(plane, "deployment/strict");
    let warned = plane
        .kubectl("create --validate=warn -f -")
        .stdin(deployment("warn"))
        .run();
    assert_eq!(warned.code, 0, "{}", warned.stderr);
    assert_has(&warned.stderr, &["Warning: unknown field \"spec.replica\""]);
    let ignored = plane
        .kubectl("create --validate=ignore -f -")
        .stdin(deployment("ignore"))
        .run();
    assert_eq!((ignored.code, ignored.stderr.as_str()), (0, ""));
    for name in ["warn", "ignore"] {
        let stored = plane
            .kubectl(&format!("get deploy {name} -n default -o json"))
            .json();
        assert!(stored["spec"]["replica"].is_null(), "{stored}");
        plane
            .kubectl(&format!("delete deploy {name} -n default"))
            .ok();
    }
    let twice = "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"twice\"},\"immutable\":true,\"immutable\":false}";
    let answer = plane.post(&format!("{MAPS}?fieldValidation=Strict"), twice);
    answer.is_error(
        400,
        "BadRequest",
        &["strict decoding error", "duplicate field \"immutable\""],
    );
    is_absent(plane, "configmap/twice");
    let answer = plane.post(&format!("{MAPS}?fieldValidation=Sometimes"), twice);
    assert!(
        answer.status == 400 || answer.status == 422,
        "{}",
        answer.text()
    );
    // The same in a patch.
    plane.kubectl("create configmap patched -n default").ok();
    let answer = plane.send(
        Method::Patch,
        &format!("{MAPS}/patched?fieldValidation=Strict"),
        "application/json",
        "application/merge-patch+json",
        "{\"dta\":{\"a\":\"b\"}}",
    );
    assert!(
        answer.status == 400 || answer.status == 422,
        "{}",
        answer.text()
    );
    assert_has(&answer.text(), &["unknown field \\\"dta\\\""]);
}

pub(crate) fn wrong_types(plane: &Plane) {
    let base = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "wrong"},
                      "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (pointer, value) in [
        ("/spec/containers", json!("none")),
        ("/spec/containers", json!({"name": "c"})),
        ("/spec/containers/0/name", json!(7)),
        ("/spec/containers/0/image", json!(["a"])),
        ("/metadata/labels", json!(["a", "b"])),
        ("/metadata/labels", json!({"a": 1})),
        ("/metadata/labels", json!({"a": {"b": "c"}})),
        ("/spec/terminationGracePeriodSeconds", json!("soon")),
        ("/spec/terminationGracePeriodSeconds", json!(1.5)),
        ("/spec/terminationGracePeriodSeconds", json!(1e300)),
        ("/spec/hostNetwork", json!("yes")),
        ("/metadata/creationTimestamp", json!("yesterday")),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 99_999_999_999_u64}]),
        ),
        ("/metadata", json!("text")),
        ("/spec", json!([])),
    ] {
        let mut pod = base.clone();
        set(&mut pod, pointer, value.clone());
        let answer = plane.post(PODS, pod.to_string());
        assert_eq!(answer.status, 400, "{pointer} = {value}: {}", answer.text());
        answer.is_error(400, "BadRequest", &[]);
    }
    // Quantities are text or numbers, but not any text.
    let mut pod = base.clone();
    set(
        &mut pod,
        "/spec/containers/0/resources",
        json!({"requests": {"cpu": "a lot"}}),
    );
    let answer = plane.post(PODS, pod.to_string());
    assert!(
        answer.status == 400 || answer.status == 422,
        "{}",
        answer.text()
    );
    is_absent(plane, "pod/wrong");
}

fn set(value: &mut value::Value, pointer: &str, to: value::Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap()[name] = to;
}

pub(crate) fn too_large(plane: &Plane) {
    let map = |bytes: usize| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large"}, "data": {"a": "x".repeat(bytes)}})
            .to_string()
    };
    let refused = plane.post(MAPS, map(3 * 1024 * 1024 + 1));
    refused.is_error(413, "RequestEntityTooLarge", &["limit is 3145728"]);
    // What a ConfigMap may hold is less than what a request may.
    let refused = plane.post(MAPS, map(1024 * 1024 + 1));
    refused.is_error(422, "Invalid", &["Too long"]);
    is_absent(plane, "configmap/large");
    let fits = plane.post(MAPS, map(1024 * 1024));
    assert_eq!(fits.status, 201, "{}", fits.text());
    plane.kubectl("delete cm large -n default").ok();
    let annotations = json!({"apiVersion": "v1", "kind": "ConfigMap",
                             "metadata": {"name": "large", "annotations": {"a": "x".repeat(256 * 1024 + 1)}}});
    plane
        .post(MAPS, annotations.to_string())
        .is_error(422, "Invalid", &["metadata.annotations"]);
}

pub(crate) fn of_another_object(plane: &Plane) {
    let map = |name: &str, namespace: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}}).to_string()
    };
    let elsewhere = plane.post(MAPS, map("there", "kube-system"));
    elsewhere.is_error(
        400,
        "BadRequest",
        &["the namespace of the provided object does not match the namespace sent on the request"],
    );
    plane.kubectl("create configmap here -n default").ok();
    let one = format!("{MAPS}/here");
    let answer = plane.send(
        Method::Put,
        &one,
        "application/json",
        "application/json",
        map("other", "default"),
    );
    answer.is_error(
        400,
        "BadRequest",
        &[
            "the name of the object (other",
            "does not match the name on the URL (here)",
        ],
    );
    let kind = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "there"}});
    plane
        .post(MAPS, kind.to_string())
        .is_error(400, "BadRequest", &["Secret"]);
    let version = json!({"apiVersion": "v7", "kind": "ConfigMap", "metadata": {"name": "there"}});
    plane
        .post(MAPS, version.to_string())
        .is_error(400, "BadRequest", &["v7"]);
    let nowhere = plane.post(
        "/api/v1/namespaces/nowhere/configmaps",
        map("there", "nowhere"),
    );
    nowhere.is_error(404, "NotFound", &["namespaces \"nowhere\" not found"]);
    // A uid or version that belongs to nobody yet.
    let versioned = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "there", "resourceVersion": "5"}});
    let answer = plane.post(MAPS, versioned.to_string());
    // Upstream has no code of its own for this one: 500 without a reason.
    assert!(matches!(answer.status, 400 | 500), "{}", answer.text());
    assert_has(
        &answer.text(),
        &["resourceVersion should not be set on objects to be created"],
    );
    is_absent(plane, "configmap/there");
}

pub(crate) fn values_that_validation_refuses(plane: &Plane) {
    for (name, why) in [
        ("Upper", "a lowercase RFC 1123 subdomain"),
        ("under_score", "a lowercase RFC 1123 subdomain"),
        ("-dash", "a lowercase RFC 1123 subdomain"),
        ("", "name or generateName is required"),
        (&"x".repeat(254), "must be no more than 253"),
    ] {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        plane
            .post(MAPS, map.to_string())
            .is_error(422, "Invalid", &[why]);
    }
    let spaces = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dot.ted"}});
    plane
        .post("/api/v1/namespaces", spaces.to_string())
        .is_error(422, "Invalid", &["must not contain dots"]);

    // Several mistakes come in one answer, each with its field.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "invalid", "labels": {"bad key": "x", "good": "bad value!"}},
        "spec": {
            "restartPolicy": "Sometimes",
            "containers": [
                {"name": "twin", "image": "i", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
                {"name": "twin", "image": "i", "ports": [{"containerPort": 70_000}]},
                {"name": "Bad_Name", "image": ""},
            ],
        },
    });
    let answer = plane.post(PODS, pod.to_string());
    answer.is_error(422, "Invalid", &["Pod \"invalid\" is invalid"]);
    let status = answer.json();
    let causes = status["details"]["causes"].as_array().unwrap();
    let fields: Vec<&str> = causes
        .iter()
        .map(|cause| cause["field"].as_str().unwrap())
        .collect();
    for field in [
        "metadata.labels",
        "spec.restartPolicy",
        "spec.containers[0].resources.requests",
        "spec.containers[1].name",
        "spec.containers[1].ports[0].containerPort",
        "spec.containers[2].name",
        "spec.containers[2].image",
    ] {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
    for (manifest, why) in [
        (
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "invalid"},
                   "spec": {"selector": {"matchLabels": {"a": "b"}},
                            "template": {"metadata": {"labels": {"a": "c"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
            "`selector` does not match template `labels`",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "invalid"},
                   "spec": {"ports": [{"port": 80}, {"port": 81}]}}),
            "spec.ports[0].name: Required value",
        ),
        (
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "invalid"},
                   "spec": {"template": {"spec": {"restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]}}}}),
            "spec.template.spec.restartPolicy",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "invalid"}, "type": "kubernetes.io/tls", "data": {}}),
            "data[tls.crt]: Required value",
        ),
    ] {
        let refused = plane
            .kubectl("create -n default -f -")
            .stdin(manifest.to_string())
            .fails();
        assert_has(&refused, &["is invalid", why]);
    }
    is_absent(plane, "pod/invalid");

    // What may not change.
    plane
        .kubectl("run fixed -n default --image=nginx:1.27")
        .ok();
    let changed = plane
        .kubectl("patch pod fixed -n default -p '{\"spec\":{\"hostNetwork\":true}}'")
        .fails();
    assert_has(
        &changed,
        &["Forbidden: pod updates may not change fields other than"],
    );
    plane
        .kubectl("delete pod fixed -n default --wait=false")
        .ok();
    plane
        .kubectl("create deployment fixed -n default --image=nginx:1.27 --replicas=0")
        .ok();
    let selector = "{\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"other\"}},\"template\":{\"metadata\":{\"labels\":{\"app\":\"other\"}}}}}";
    let changed = plane
        .kubectl(&format!("patch deploy fixed -n default -p '{selector}'"))
        .fails();
    assert_has(&changed, &["spec.selector", "field is immutable"]);
    plane.kubectl("delete deploy fixed -n default").ok();
}

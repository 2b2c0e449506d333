//! Requests that ask in the wrong way.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rest::http::Method;
use value::json;

use crate::support::{Plane, PlaneOptions, assert_has};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";

pub(crate) fn paths_and_methods(plane: &Plane) {
    for path in [
        "/api/v1/unicorns",
        "/api/v9/pods",
        "/apis/example.com/v1/widgets",
        "/apis/apps/v9/deployments",
        "/api/v1/namespaces/default/pods/x/nothing",
        "/nowhere",
        "/api/v1/nodes/a/b/c/d/e/f",
    ] {
        plane.get(path).is_error(
            404,
            "NotFound",
            &["the server could not find the requested resource"],
        );
    }
    plane.get(&format!("{MAPS}/none")).is_error(
        404,
        "NotFound",
        &["configmaps \"none\" not found"],
    );
    for (method, path) in [
        (Method::Post, "/api/v1/pods"),
        (Method::Put, MAPS),
        (Method::Patch, MAPS),
        (
            Method::Post,
            "/api/v1/namespaces/default/configmaps/witness",
        ),
        (Method::Delete, "/api/v1/namespaces"),
    ] {
        let answer = plane.send(method, path, JSON, JSON, "{}");
        assert_eq!(answer.status, 405, "{method:?} {path}: {}", answer.text());
        answer.is_error(405, "MethodNotAllowed", &[]);
    }
    // Percent signs that are none, dots that climb, bytes that are no text.
    for path in [
        "/api/v1/namespaces/%zz/pods",
        "/api/v1/namespaces/../secrets",
        "/api/v1/nodes/%ff%fe",
        "//api//v1",
        "/api/v1/nodes/%00",
    ] {
        let answer = plane.get(path);
        assert!(
            (400..500).contains(&answer.status) || answer.status == 200,
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
        assert_ne!(answer.status, 500);
    }
    assert_has(
        &plane.kubectl("get unicorns").fails(),
        &["doesn't have a resource type \"unicorns\""],
    );
    let unknown = "apiVersion: example.com/v1\nkind: Unicorn\nmetadata: {name: x}\n";
    assert_has(
        &plane.kubectl("apply -f -").stdin(unknown).fails(),
        &["no matches for kind \"Unicorn\" in version \"example.com/v1\""],
    );
}

pub(crate) fn content_types(plane: &Plane) {
    let map = "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"typed\"}}";
    for content_type in [
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "nonsense",
        "application/cbor",
    ] {
        let answer = plane.send(Method::Post, MAPS, JSON, content_type, map);
        answer.is_error(415, "UnsupportedMediaType", &[]);
    }
    for accept in [
        "text/html",
        "image/png",
        "application/json;as=Unicorn;v=v1;g=meta.k8s.io",
    ] {
        let answer = plane.send(Method::Get, MAPS, accept, "", "");
        assert_eq!(answer.status, 406, "{accept}: {}", answer.text());
        answer.is_error(406, "NotAcceptable", &[]);
    }
    // One that can be had among many that cannot.
    let answer = plane.send(
        Method::Get,
        MAPS,
        "text/html, image/*;q=0.8, */*;q=0.1",
        "",
        "",
    );
    assert_eq!((answer.status, answer.content_type.as_str()), (200, JSON));
    let patch = plane.send(Method::Patch, &format!("{MAPS}/witness"), JSON, JSON, "{}");
    patch.is_error(
        415,
        "UnsupportedMediaType",
        &["application/strategic-merge-patch+json"],
    );
    assert_has(
        &plane.kubectl("get cm typed -n default").fails(),
        &["not found"],
    );
}

pub(crate) fn options(plane: &Plane) {
    for (query, code) in [
        ("limit=many", 400),
        ("resourceVersion=abc", 400),
        ("resourceVersion=-5", 400),
        ("labelSelector=a%20b%20c", 400),
        ("labelSelector=%21%21", 400),
        ("fieldSelector=nothing", 400),
        ("fieldSelector=spec.color%3Dred", 400),
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersionMatch=Perhaps&resourceVersion=1", 422),
        ("continue=%25%25", 400),
        ("timeoutSeconds=x", 400),
        ("watch=1&resourceVersion=abc", 400),
        ("watch=1&resourceVersionMatch=Exact", 422),
    ] {
        let answer = plane.get(&format!("{MAPS}?{query}"));
        // Upstream is lenient with a few of these on some paths; it never takes nonsense for an order, nor fails.
        assert!(
            answer.status == code
                || (code == 422 && answer.status == 400)
                || (code == 400 && answer.status == 422),
            "{query}: {} {}",
            answer.status,
            answer.text()
        );
    }
    let dry = plane.post(
        &format!("{MAPS}?dryRun=Some"),
        "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"dry\"}}",
    );
    assert!(dry.status == 422 || dry.status == 400, "{}", dry.text());
    assert_has(
        &plane.kubectl("get cm dry -n default").fails(),
        &["not found"],
    );
    plane.kubectl("create configmap keep -n default").ok();
    for options in [
        "{\"propagationPolicy\":\"Sideways\"}",
        "{\"gracePeriodSeconds\":\"x\"}",
        "{\"gracePeriodSeconds\":-1.5}",
        "{",
        "{\"orphanDependents\":true,\"propagationPolicy\":\"Orphan\"}",
    ] {
        let answer = plane.send(Method::Delete, &format!("{MAPS}/keep"), JSON, JSON, options);
        assert!(
            (400..=422).contains(&answer.status),
            "{options}: {} {}",
            answer.status,
            answer.text()
        );
    }
    plane.kubectl("delete cm keep -n default").ok();
}

pub(crate) fn stale_versions(plane: &Plane) {
    plane
        .kubectl("create configmap stale -n default --from-literal=a=1")
        .ok();
    let one = format!("{MAPS}/stale");
    let first = plane.get(&one).succeeded().json();
    plane
        .kubectl("patch cm stale -n default -p '{\"data\":{\"a\":\"2\"}}'")
        .ok();
    let answer = plane.send(Method::Put, &one, JSON, JSON, first.to_string());
    answer.is_error(
        409,
        "Conflict",
        &["Operation cannot be fulfilled on configmaps \"stale\": the object has been modified; please apply your changes to the latest version and try again"],
    );
    // The same by a patch that names a version, and by a deletion with preconditions.
    let patch = json!({"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"a": "3"}});
    let answer = plane.send(
        Method::Patch,
        &one,
        JSON,
        "application/merge-patch+json",
        patch.to_string(),
    );
    answer.is_error(409, "Conflict", &[]);
    let uid = json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
    let answer = plane.send(Method::Delete, &one, JSON, JSON, uid.to_string());
    answer.is_error(
        409,
        "Conflict",
        &[
            "the UID in the precondition",
            "does not match the UID in record",
        ],
    );
    let version =
        json!({"preconditions": {"resourceVersion": first["metadata"]["resourceVersion"]}});
    plane
        .send(Method::Delete, &one, JSON, JSON, version.to_string())
        .is_error(409, "Conflict", &[]);
    // Another object's identity.
    let mut other = plane.get(&one).succeeded().json();
    other["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000".into();
    other["data"]["a"] = "4".into();
    let answer = plane.send(Method::Put, &one, JSON, JSON, other.to_string());
    answer.is_error(409, "Conflict", &[]);
    assert_eq!(
        plane
            .kubectl("get cm stale -n default -o jsonpath={.data.a}")
            .ok(),
        "2"
    );
    plane.kubectl("delete cm stale -n default").ok();
    // A binding to nowhere, and a second one.
    plane
        .kubectl("run bound -n default --image=nginx:1.27")
        .ok();
    plane
        .kubectl("wait --for=condition=Ready pod/bound -n default --timeout=60s")
        .ok();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "bound"}, "target": {"kind": "Node", "name": "elsewhere"}});
    let answer = plane.post(
        "/api/v1/namespaces/default/pods/bound/binding",
        binding.to_string(),
    );
    answer.is_error(409, "Conflict", &["is already assigned to node"]);
    plane
        .kubectl("delete pod bound -n default --wait=false")
        .ok();
}

pub(crate) fn bad_patches(plane: &Plane) {
    plane
        .kubectl("create configmap patch -n default --from-literal=a=1")
        .ok();
    let one = format!("{MAPS}/patch");
    let many: Vec<_> = (0..10_001)
        .map(|_| json!({"op": "test", "path": "/data/a", "value": "1"}))
        .collect();
    for (kind, patch) in [
        ("json-patch", "{}".to_owned()),
        (
            "json-patch",
            "[{\"op\":\"fly\",\"path\":\"/data\"}]".to_owned(),
        ),
        (
            "json-patch",
            "[{\"op\":\"replace\",\"path\":\"/data/none\",\"value\":\"x\"}]".to_owned(),
        ),
        (
            "json-patch",
            "[{\"op\":\"test\",\"path\":\"/data/a\",\"value\":\"2\"}]".to_owned(),
        ),
        (
            "json-patch",
            "[{\"op\":\"remove\",\"path\":\"\"}]".to_owned(),
        ),
        (
            "json-patch",
            "[{\"op\":\"replace\",\"path\":\"\",\"value\":7}]".to_owned(),
        ),
        ("json-patch", json!(many).to_string()),
        ("merge-patch", "[]".to_owned()),
        ("merge-patch", "{\"data\":7}".to_owned()),
        ("merge-patch", "{\"metadata\":null}".to_owned()),
        (
            "strategic-merge-patch",
            "{\"$patch\":\"explode\"}".to_owned(),
        ),
        (
            "strategic-merge-patch",
            "{\"metadata\":{\"finalizers\":{\"a\":\"b\"}}}".to_owned(),
        ),
        ("strategic-merge-patch", "{".to_owned()),
    ] {
        let answer = plane.send(
            Method::Patch,
            &one,
            JSON,
            &format!("application/{kind}+json"),
            patch.as_str(),
        );
        let start: String = patch.chars().take(60).collect();
        assert!(
            (400..=422).contains(&answer.status),
            "{kind} {start}: {} {}",
            answer.status,
            answer.text()
        );
        assert_eq!(answer.json()["kind"], "Status");
    }
    let missing = plane.send(
        Method::Patch,
        &format!("{MAPS}/none"),
        JSON,
        "application/merge-patch+json",
        "{}",
    );
    missing.is_error(404, "NotFound", &["configmaps \"none\" not found"]);
    let stored = plane.kubectl("get cm patch -n default -o json").json();
    assert_eq!(stored["data"], json!({"a": "1"}));
    plane.kubectl("delete cm patch -n default").ok();
}

/// No certificate, and one of somebody else's authority.
pub(crate) fn without_credentials(plane: &Plane) {
    let config = plane.config();
    // The administrator's, with a guessed token in place of the certificate.
    let admin = config.to_yaml("nobody");
    let lines = admin
        .lines()
        .filter(|line| !line.contains("client-key-data"));
    let lines = lines.map(|line| match line.split_once("client-certificate-data") {
        Some((indent, _)) => format!("{indent}token: guessed\n"),
        None => format!("{line}\n"),
    });
    let nobody = plane
        .folder()
        .write("nobody.kubeconfig", lines.collect::<String>());
    let nobody = std::path::Path::new(&nobody);
    for path in [
        "/api/v1/nodes",
        "/apis",
        "/api/v1/secrets",
        "/metrics",
        "/openapi/v3",
    ] {
        let refused = plane
            .kubectl_as(&format!("get --raw {path}"), nobody)
            .fails();
        assert_has(&refused, &["Unauthorized"]);
    }
    let refused = plane
        .kubectl_as("create configmap nobody -n default", nobody)
        .fails();
    assert_has(&refused, &["Unauthorized"]);
    let refused = plane.kubectl_as("get nodes", nobody).fails();
    assert_has(&refused, &["You must be logged in to the server"]);
    // Health is for everyone.
    assert_eq!(plane.kubectl_as("get --raw /livez", nobody).ok(), "ok");

    let other = Plane::start(PlaneOptions {
        nodes: 0,
        persistent: false,
    });
    let stranger = client::Kubeconfig {
        server: config.server.clone(),
        ca_pem: config.ca_pem.clone(),
        ..other.config()
    };
    let stranger = plane
        .folder()
        .write("stranger.kubeconfig", stranger.to_yaml("stranger"));
    let refused = plane
        .kubectl_as("get nodes", std::path::Path::new(&stranger))
        .fails();
    assert!(!refused.is_empty());
    // A client that trusts another authority does not speak to us.
    let wrong = client::Kubeconfig {
        ca_pem: other.config().ca_pem,
        ..config
    };
    let wrong = plane
        .folder()
        .write("wrong.kubeconfig", wrong.to_yaml("wrong"));
    let refused = plane
        .kubectl_as("get nodes", std::path::Path::new(&wrong))
        .fails();
    assert_has(&refused, &["certificate"]);
}

/// Bytes on the port that are no TLS, and silence.
pub(crate) fn not_even_http(plane: &Plane) {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0; 4096],
        b"\x16\x03\x01\xff\xff\x01",
        b"SSH-2.0-x\r\n",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", plane.port())).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(15)))
            .unwrap();
        // The server may have closed before all is written.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_ne!(
                error.kind(),
                std::io::ErrorKind::WouldBlock,
                "the connection stays open"
            );
        }
        assert!(
            !rest.windows(4).any(|window| window == b"HTTP"),
            "served without TLS"
        );
    }
    let silent: Vec<TcpStream> = (0..50)
        .map(|_| TcpStream::connect(("127.0.0.1", plane.port())).unwrap())
        .collect();
    assert_eq!(plane.get("/livez").status, 200);
    drop(silent);
}

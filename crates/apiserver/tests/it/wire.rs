//! What only exists on the wire: certificates, limits, methods, slow readers.

use std::net::SocketAddr;
use std::sync::Arc;

use apiserver::pki::Pki;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::plane::{block_on, shared};

/// A bare HTTP/1.1 connection, with the administrator's certificate or none.
async fn connect(known: bool) -> TlsStream<TcpStream> {
    let shared = shared();
    secured(shared.address, &shared.pki, known, &[]).await
}

/// A connection over TLS that offers these protocols.
pub async fn secured(
    address: SocketAddr,
    pki: &Pki,
    known: bool,
    protocols: &[&[u8]],
) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pki.ca_pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let admin = &pki.admin;
    let mut config = if known {
        let chain = vec![CertificateDer::from_pem_slice(admin.certificate_pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(admin.key_pem.as_bytes()).unwrap();
        builder.with_client_auth_cert(chain, key).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("127.0.0.1").unwrap(), stream)
        .await
        .unwrap()
}

/// Head and body of the answer to one request, which asks to close the connection.
async fn exchange(known: bool, request: &str) -> (String, String) {
    let mut stream = connect(known).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that closes without a farewell of TLS is no news here.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn request(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n")
}

#[test]
fn strangers_are_refused_and_probes_are_not() {
    block_on(async {
        for path in [
            "/api/v1/pods",
            "/api",
            "/openapi/v3",
            "/metrics",
            "/",
            "/nowhere",
        ] {
            let (head, body) = exchange(false, &request("GET", path, "")).await;
            assert!(head.starts_with("HTTP/1.1 401 "), "{path}: {head}");
            assert!(body.contains(r#""reason":"Unauthorized""#), "{body}");
        }
        for path in ["/healthz", "/livez", "/readyz", "/version"] {
            let (head, _) = exchange(false, &request("GET", path, "")).await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        }
        // Their bodies are not even read.
        let (head, _) = exchange(
            false,
            &request("POST", "/api/v1/namespaces", "content-length: 1000000\r\n"),
        )
        .await;
        assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    });
}

#[test]
fn heads_have_no_body_and_strange_methods_an_answer() {
    block_on(async {
        let (head, body) = exchange(true, &request("HEAD", "/api/v1/namespaces/default", "")).await;
        assert!(
            head.starts_with("HTTP/1.1 200 ") && body.is_empty(),
            "{head}{body}"
        );
        for method in ["OPTIONS", "TRACE", "PROPFIND"] {
            let (head, body) = exchange(true, &request(method, "/api/v1/namespaces", "")).await;
            assert!(head.starts_with("HTTP/1.1 405 "), "{method}: {head}");
            assert!(body.contains(r#""reason":"MethodNotAllowed""#), "{body}");
        }
    });
}

#[test]
fn every_answer_has_an_audit_id() {
    block_on(async {
        let id_of = |head: &str| {
            let line = head
                .lines()
                .find_map(|line| line.strip_prefix("audit-id: "));
            line.unwrap_or_else(|| panic!("{head}")).to_owned()
        };
        let (head, _) = exchange(true, &request("GET", "/api/v1/namespaces/none", "")).await;
        let first = id_of(&head);
        assert_eq!((first.len(), first.as_bytes()[14]), (36, b'4'), "{first}");
        assert!(head.contains("cache-control: no-cache, private"), "{head}");
        assert_ne!(
            id_of(&exchange(false, &request("GET", "/api", "")).await.0),
            first
        );
        let (head, _) = exchange(true, &request("GET", "/version", "audit-id: mine\r\n")).await;
        assert_eq!(id_of(&head), "mine");
    });
}

#[test]
fn bodies_have_an_end() {
    block_on(async {
        let filler = "x".repeat(3 * 1024 * 1024);
        let body = format!("{{\"data\": {{\"a\": \"{filler}\"}}}}");
        let head = format!(
            "content-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
        let text = request("POST", "/api/v1/namespaces/default/configmaps", &head) + &body;
        let mut stream = connect(true).await;
        // The server may answer and close before it has read all.
        let _ = stream.write_all(text.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("RequestEntityTooLarge"), "{answer}");
        // In pieces, with more of them than said.
        let chunked = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
        let body = "16\r\n{\"metadata\":{\"name\":\"c\r\n3\r\n\"}}\r\n0\r\n\r\n";
        let text = request("POST", "/api/v1/namespaces/default/configmaps", chunked) + body;
        let (head, _) = exchange(true, &text).await;
        assert!(head.starts_with("HTTP/1.1 201 "), "{head}");
    });
}

/// Somebody opens watches and a list and never reads: others are served as before.
#[test]
fn a_reader_that_never_reads_costs_only_itself() {
    block_on(async {
        let api = shared().plane.speaker();
        let path = "/api/v1/namespaces/default/secrets";
        let filler = "x".repeat(200_000);
        for number in 0..20 {
            let secret = value::json!({"metadata": {"name": format!("big-{number}")}, "stringData": {"a": filler}});
            api.post(path, &secret).await.expect(201);
        }
        let mut silent = Vec::new();
        for query in ["?watch=1", "", "?watch=1"] {
            let mut stream = connect(true).await;
            stream
                .write_all(request("GET", &format!("{path}{query}"), "").as_bytes())
                .await
                .unwrap();
            silent.push(stream);
        }
        for round in 0..20 {
            let patch = value::json!({"stringData": {"a": format!("{filler}{round}")}});
            api.patch(&format!("{path}/big-{round}"), "merge", &patch)
                .await
                .expect(200);
            let (head, _) = exchange(true, &request("GET", "/api/v1/namespaces/default", "")).await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }
        drop(silent);
    });
}

//! TLS: the protocol is agreed on, and who has no certificate stays outside when one is asked for.

mod common;

use std::sync::Arc;

use common::{Ours, TempDir};
use etcd_server::{Options, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

struct Pair {
    certificate: String,
    key: String,
}

/// An authority, and a certificate of it for a server and for a client.
fn authority() -> (String, Pair, Pair) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let issue = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        Pair {
            certificate,
            key: key.serialize_pem(),
        }
    };
    (ca, issue("localhost"), issue("client"))
}

fn client(ca: &str, pair: Option<&Pair>) -> tokio_rustls::TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

/// What was agreed on, if the server goes on talking to this client.
async fn talk(ours: &Ours, connector: tokio_rustls::TlsConnector) -> Option<Vec<u8>> {
    let stream = tokio::net::TcpStream::connect(ours.address).await.unwrap();
    let mut stream = connector
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
        .ok()?;
    let agreed = stream.get_ref().1.alpn_protocol()?.to_owned();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .ok()?;
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.ok()?;
    Some(agreed)
}

#[tokio::test]
async fn clients_with_a_certificate_speak_http2_and_others_do_not_get_in() {
    let (ca, server, good) = authority();
    let (_, _, stranger) = authority();
    let dir = TempDir::new();
    let file = |name: &str, text: &str| {
        let path = dir.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut files = TlsFiles {
        cert: file("cert.pem", &server.certificate),
        key: file("key.pem", &server.key),
        trusted_ca: Some(file("ca.pem", &ca)),
        client_cert_auth: true,
    };
    let strict = Ours::start(Options {
        tls: Some(files.clone()),
        ..Options::default()
    });
    assert_eq!(
        talk(&strict, client(&ca, Some(&good))).await.as_deref(),
        Some(&b"h2"[..])
    );
    assert_eq!(talk(&strict, client(&ca, None)).await, None);
    assert_eq!(talk(&strict, client(&ca, Some(&stranger))).await, None);
    files.client_cert_auth = false;
    let open = Ours::start(Options {
        tls: Some(files),
        ..Options::default()
    });
    assert_eq!(
        talk(&open, client(&ca, None)).await.as_deref(),
        Some(&b"h2"[..])
    );
}

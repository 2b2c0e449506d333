//! TLS: the protocol is agreed on, and who has no certificate stays outside when one is asked for.

mod common;

use std::sync::Arc;

use common::{Ours, TempDir};
use etcd_server::{Options, TlsFiles};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
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
        ..TlsFiles::default()
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

/// The certificate that a server shows, if it shows one.
async fn shown(ours: &Ours, connector: &tokio_rustls::TlsConnector) -> Option<Vec<u8>> {
    let stream = tokio::net::TcpStream::connect(ours.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector.connect(name, stream).await.ok()?;
    let chain = stream.get_ref().1.peer_certificates()?;
    Some(chain.first()?.to_vec())
}

#[tokio::test]
async fn renewed_certificates_are_shown_and_spoilt_ones_change_nothing() {
    let (ca, first, _) = authority();
    let (other_ca, second, _) = authority();
    let dir = TempDir::new();
    let file = |name: &str, text: &str| {
        let path = dir.0.join(name);
        // Renamed into place, as those who renew certificates do.
        std::fs::write(dir.0.join("new"), text).unwrap();
        std::fs::rename(dir.0.join("new"), &path).unwrap();
        path
    };
    let ours = Ours::start(Options {
        tls: Some(TlsFiles {
            cert: file("cert.pem", &first.certificate),
            key: file("key.pem", &first.key),
            ..TlsFiles::default()
        }),
        ..Options::default()
    });
    let der = |pair: &Pair| {
        CertificateDer::from_pem_slice(pair.certificate.as_bytes())
            .unwrap()
            .to_vec()
    };
    let (old, new) = (client(&ca, None), client(&other_ca, None));
    assert_eq!(shown(&ours, &old).await, Some(der(&first)));
    file("cert.pem", "-----BEGIN CERTIFICATE-----\nnot one\n");
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    assert_eq!(shown(&ours, &old).await, Some(der(&first)));
    file("key.pem", &second.key);
    file("cert.pem", &second.certificate);
    let mut seen = None;
    for _ in 0..50 {
        seen = shown(&ours, &new).await;
        if seen.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(seen, Some(der(&second)));
}

#[tokio::test]
async fn a_revoked_certificate_stays_outside() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let issue = |serial: u64| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        Pair {
            certificate,
            key: key.serialize_pem(),
        }
    };
    let (server, good, bad) = (issue(1), issue(2), issue(3));
    let crl = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2099, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(3),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let crl = crl.signed_by(&issuer).unwrap();
    let dir = TempDir::new();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let pem = crl.pem().unwrap();
    for list in [pem.as_bytes(), &crl.der()[..]] {
        let ours = Ours::start(Options {
            tls: Some(TlsFiles {
                cert: file("cert.pem", server.certificate.as_bytes()),
                key: file("key.pem", server.key.as_bytes()),
                trusted_ca: Some(file("ca.pem", ca.as_bytes())),
                client_cert_auth: true,
                crl: Some(file("crl", list)),
                ..TlsFiles::default()
            }),
            ..Options::default()
        });
        let agreed = talk(&ours, client(&ca, Some(&good))).await;
        assert_eq!(agreed.as_deref(), Some(&b"h2"[..]));
        assert_eq!(talk(&ours, client(&ca, Some(&bad))).await, None);
    }
}

//! TLS for clients: certificates from files, read again when the files change.
//!
//! Knows files and what a client must show; knows no sockets. A connection is set up with what the files held at its
//! beginning. Files that cannot be used leave what was there before in place, and say so in the log: a renewal that is
//! half written must not close the door.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{CommonState, ServerConfig, SupportedProtocolVersion, version};

use crate::options::{TlsFiles, TlsVersion};

/// How often the files are looked at, at most: a renewal may take so long to be noticed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The TLS side of a door.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// What the files looked like when the configuration was made of them, or last failed to be.
    stamps: Vec<Stamp>,
    looked: Instant,
}

/// When a file was changed, and how long it is; none if it cannot be seen.
type Stamp = Option<(SystemTime, u64)>;

impl Tls {
    /// Reads the files for the first time.
    pub fn open(files: TlsFiles) -> Result<Tls, String> {
        let stamps = stamps(&files);
        let config = config(&files)?;
        Ok(Tls {
            files,
            current: Mutex::new(Current {
                config,
                stamps,
                looked: Instant::now(),
            }),
        })
    }

    /// With what the next connection is accepted.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_INTERVAL {
            current.looked = Instant::now();
            self.look_again(&mut current);
        }
        current.config.clone()
    }

    /// Who the client's certificate names: its common name, where clients must show one.
    pub fn peer(&self, session: &CommonState) -> Option<Arc<str>> {
        if !self.files.client_cert_auth {
            return None;
        }
        common_name(session.peer_certificates()?.first()?)
    }

    fn look_again(&self, current: &mut Current) {
        let stamps = stamps(&self.files);
        if stamps == current.stamps {
            return;
        }
        match config(&self.files) {
            Ok(config) => {
                current.config = config;
                tracing::info!(cert = %self.files.cert.display(), "certificates were read again");
            }
            Err(error) => {
                tracing::warn!(%error, "changed certificates cannot be used, the ones before stay");
            }
        }
        current.stamps = stamps;
    }
}

/// The last common name, as Go takes it; empty if there is none.
fn common_name(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = certificate.subject().iter_common_name();
    let name = names.last().and_then(|name| name.as_str().ok());
    Some(name.unwrap_or_default().into())
}

fn paths(files: &TlsFiles) -> impl Iterator<Item = &PathBuf> {
    [
        Some(&files.cert),
        Some(&files.key),
        files.trusted_ca.as_ref(),
        files.crl.as_ref(),
    ]
    .into_iter()
    .flatten()
}

fn stamps(files: &TlsFiles) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    paths(files).map(stamp).collect()
}

/// TLS settings. The protocol is always agreed on: clients refuse a server that leaves ALPN out.
fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, String> {
    const NEWEST: &[&SupportedProtocolVersion] = &[&version::TLS13];
    const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = match files.version_min {
        TlsVersion::Tls12 => BOTH,
        TlsVersion::Tls13 => NEWEST,
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = match &files.trusted_ca {
        None if files.client_cert_auth => {
            return Err("client-cert-auth needs a trusted-ca-file to check clients against".into());
        }
        None if files.crl.is_some() => {
            return Err("client-crl-file needs a trusted-ca-file to check clients against".into());
        }
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates(ca)? {
                roots
                    .add(certificate)
                    .map_err(|error| format!("{}: {error}", ca.display()))?;
            }
            let mut verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            if let Some(crl) = &files.crl {
                // Authorities that publish no list are not what the file is about.
                verifier = verifier
                    .with_crls(revoked(crl)?)
                    .allow_unknown_revocation_status();
            }
            if !files.client_cert_auth {
                verifier = verifier.allow_unauthenticated();
            }
            builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| format!("{}: {error}", files.key.display()))?;
    let mut config = builder
        .with_single_cert(certificates(&files.cert)?, key)
        .map_err(|error| format!("{}: {error}", files.cert.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A ticket costs memory and a signature; clients of a store keep their connections.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| format!("{}: {error}", path.display()))?
        .collect();
    let found = found.map_err(|error| format!("{}: {error}", path.display()))?;
    if found.is_empty() {
        return Err(format!("{}: there is no certificate in it", path.display()));
    }
    Ok(found)
}

/// A list of revoked certificates: PEM, or DER as etcd wants it.
fn revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if !bytes.starts_with(b"-----BEGIN") {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    CertificateRevocationListDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}: {error}", path.display()))
}

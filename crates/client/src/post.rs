//! Requests to services that are no API server: bytes posted over HTTP/1.1, with or without TLS, each under one
//! time limit from the connection to the last byte of the answer.
//!
//! Does not know what is posted, or what an answer means. Knows no proxies and follows no redirects.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::time::Instant;

/// Idle connections that are kept for the next request.
const IDLE_MAX: usize = 8;
/// Largest answer that is read, in bytes: a thousand whole Node objects of 64 KiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Where systems keep the certificates of public authorities (Go: crypto/x509, on Linux).
const SYSTEM_ROOTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How the server is known, and who we are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostTls {
    /// Any certificate is taken.
    pub insecure: bool,
    /// The name the server's certificate is for, if it is not the host of the URL.
    pub server_name: String,
    /// Authorities of the server's certificate, PEM; with none, and not insecure, those of the system.
    pub ca_pem: Vec<u8>,
    /// Our certificate chain, PEM; empty for none.
    pub certificate_pem: Vec<u8>,
    /// Our private key, PEM.
    pub key_pem: Vec<u8>,
}

/// Posts to one service.
pub struct Poster {
    prefix: String,
    host: String,
    port: u16,
    /// The host as the `Host` header has it.
    authority: String,
    tls: Option<(tokio_rustls::TlsConnector, String)>,
    timeout: Duration,
    idle: Mutex<Vec<Sender>>,
}

type Sender = http1::SendRequest<Full<Bytes>>;

impl std::fmt::Debug for Poster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poster")
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Poster {
    /// Prepares requests below a URL; connections are made when they are needed.
    ///
    /// # Errors
    /// The URL is not one of `http` or `https`, or the certificates or the key cannot be used.
    pub fn new(prefix: &str, tls: &PostTls, timeout: Duration) -> Result<Poster, String> {
        let fail = |what: &str| format!("{prefix:?}: {what}");
        let uri: http::Uri = prefix.parse().map_err(|error| fail(&format!("{error}")))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(fail("a URL of http or https is expected")),
        };
        let authority = uri.authority().ok_or_else(|| fail("the URL has no host"))?;
        let host = authority.host();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = if secure {
            let name = match tls.server_name.as_str() {
                "" => host,
                given => given,
            };
            let config = tls_config(tls).map_err(|error| fail(&error))?;
            Some((config.into(), name.to_owned()))
        } else {
            None
        };
        Ok(Poster {
            prefix: prefix.trim_end_matches('/').to_owned(),
            host: host.to_owned(),
            port: authority
                .port_u16()
                .unwrap_or(if secure { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            tls,
            timeout,
            idle: Mutex::default(),
        })
    }

    /// The URL of what lies below the prefix.
    #[must_use]
    pub fn url(&self, below: &str) -> String {
        format!("{}/{below}", self.prefix)
    }

    /// Posts JSON, and gives the status and the body of the answer.
    ///
    /// # Errors
    /// What went wrong, as Go's client says it.
    pub async fn post(&self, below: &str, body: impl Into<Bytes>) -> Result<(u16, Bytes), String> {
        let body = body.into();
        let url = self.url(below);
        let deadline = Instant::now() + self.timeout;
        let late = |while_: &str| {
            format!("Post {url:?}: context deadline exceeded (Client.Timeout {while_})")
        };
        let head = tokio::time::timeout_at(deadline, self.send(&url, body)).await;
        let (answer, sender) = head
            .map_err(|_| late("exceeded while awaiting headers"))?
            .map_err(|error| format!("Post {url:?}: {error}"))?;
        let status = answer.status().as_u16();
        let body = tokio::time::timeout_at(deadline, gather(answer.into_body())).await;
        let body = body.map_err(|_| {
            "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
                .to_owned()
        })??;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !sender.is_closed() && idle.len() < IDLE_MAX {
            idle.push(sender);
        }
        Ok((status, body))
    }

    async fn send(
        &self,
        url: &str,
        body: Bytes,
    ) -> Result<(http::Response<hyper::body::Incoming>, Sender), String> {
        let uri: http::Uri = url.parse().map_err(|error| format!("{error}"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = || {
            http::Request::post(path)
                .header("host", &self.authority)
                .header("content-type", "application/json")
                .header("user-agent", "megaplane")
                .body(Full::new(body.clone()))
                .map_err(|error| error.to_string())
        };
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.send_request(request()?).await {
                Ok(answer) => return Ok((answer, sender)),
                // Nothing of it was sent: the server had closed the connection before.
                Err(error) if error.is_canceled() => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let mut sender = self.connect().await?;
        let answer = sender.send_request(request()?).await;
        answer
            .map(|answer| (answer, sender))
            .map_err(|error| match error.is_incomplete_message() {
                true => "EOF".to_owned(),
                false => error.to_string(),
            })
    }

    fn take_idle(&self) -> Option<Sender> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    async fn connect(&self) -> Result<Sender, String> {
        let place = format!("{}:{}", self.host, self.port);
        let stream = tokio::net::TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                format!("dial tcp {place}: connect: connection refused")
            }
            _ => format!("dial tcp {place}: {error}"),
        })?;
        // Small requests must not wait for more to come.
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let Some((connector, name)) = &self.tls else {
            return handshake(TokioIo::new(stream)).await;
        };
        let name = ServerName::try_from(name.clone()).map_err(|error| error.to_string())?;
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| format!("tls: {error}"))?;
        handshake(TokioIo::new(stream)).await
    }
}

async fn handshake<T>(io: T) -> Result<Sender, String>
where
    T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let shaken = http1::handshake(io).await;
    let (sender, connection) = shaken.map_err(|error| error.to_string())?;
    // It ends with the sender, or with the server's end.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
    Ok(sender)
}

async fn gather(mut body: hyper::body::Incoming) -> Result<Bytes, String> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if bytes.len() + data.len() > ANSWER_BYTES_MAX {
            return Err(format!("the answer has more than {ANSWER_BYTES_MAX} bytes"));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes.freeze())
}

fn tls_config(options: &PostTls) -> Result<Arc<rustls::ClientConfig>, String> {
    if options.insecure && !options.ca_pem.is_empty() {
        return Err(
            "specifying a root certificates file with the insecure flag is not allowed".into(),
        );
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let tls = if options.insecure {
        tls.dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        tls.with_root_certificates(roots(&options.ca_pem)?)
    };
    let mut tls = if options.certificate_pem.is_empty() && options.key_pem.is_empty() {
        tls.with_no_client_auth()
    } else {
        let chain = CertificateDer::pem_slice_iter(&options.certificate_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("client certificate: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(&options.key_pem)
            .map_err(|error| format!("client key: {error}"))?;
        tls.with_client_auth_cert(chain, key)
            .map_err(|error| format!("client certificate: {error}"))?
    };
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

fn roots(ca_pem: &[u8]) -> Result<rustls::RootCertStore, String> {
    let mut roots = rustls::RootCertStore::empty();
    if ca_pem.is_empty() {
        let bundle = SYSTEM_ROOTS
            .iter()
            .find_map(|path| std::fs::read(Path::new(path)).ok());
        for certificate in CertificateDer::pem_slice_iter(&bundle.unwrap_or_default()).flatten() {
            // One that is not understood is passed over, as Go does.
            let _ = roots.add(certificate);
        }
        return Ok(roots);
    }
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()))
            .map_err(|error| format!("certificate authority: {error}"))?;
    }
    if roots.is_empty() {
        return Err("certificate authority: no certificate in it".into());
    }
    Ok(roots)
}

/// Takes any certificate whose key the server proves to have.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_put_together() {
        let new = |url: &str| Poster::new(url, &PostTls::default(), Duration::from_secs(1));
        let poster = new("http://h:8888/scheduler/").unwrap();
        assert_eq!(poster.url("filter"), "http://h:8888/scheduler/filter");
        assert_eq!((poster.host.as_str(), poster.port), ("h", 8888));
        let poster = new("http://[::1]/x").unwrap();
        assert_eq!((poster.host.as_str(), poster.port), ("::1", 80));
        assert_eq!(
            new("h:8888").unwrap_err(),
            "\"h:8888\": a URL of http or https is expected"
        );
        assert!(new("").is_err());
        let both = PostTls {
            insecure: true,
            ca_pem: b"x".to_vec(),
            ..PostTls::default()
        };
        assert_eq!(
            Poster::new("https://h", &both, Duration::ZERO).unwrap_err(),
            "\"https://h\": specifying a root certificates file with the insecure flag is not allowed"
        );
    }
}

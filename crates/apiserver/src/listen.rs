//! The listener: TLS, then HTTP/2 by our own codec and HTTP/1.1 by hyper, which can take both; one current-thread
//! runtime per core.
//!
//! Every runtime accepts on its own socket (`SO_REUSEPORT`), so that a connection stays on one core and nothing is
//! stolen. Knows no resources: a request is handed to [`rest::http::Service`], and what comes back is written out.
//!
//! ```text
//!   socket ─► TLS ─┬─ h2, or a preface ─► by_own ───┐
//!                  └─ anything else ────► by_hyper ─┴─► head ─► Service::call ─► reply
//! ```

mod by_hyper;
mod by_own;
mod exchange;
mod farewell;
mod head;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http2_shell::{Protocol, Replayed, accept, sniff};
use rest::http::{Service, User};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::listen::farewell::{Farewell, Seat};
use crate::pki::{Identity, Pki};

/// Connections one runtime serves at a time. Past it, new ones wait in the kernel's queue: 8,000 on each of two
/// cores stay below the 20,000 descriptors of a process.
const CONNECTIONS_MAX: usize = 8_000;
/// Connections that may wait in the kernel before they are accepted.
const BACKLOG_CONNECTIONS: i32 = 4_096;
/// HTTP/2 streams a connection: kube-apiserver gives 100 and more; watches of many objects share a connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 1_000;
/// Longest wait for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the headers of an HTTP/1.1 request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Silence after which an HTTP/2 connection is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long open requests may go on after shutdown began.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Who speaks HTTP/2 with clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// Our own codec, a state a request.
    #[default]
    Own,
    /// The library hyper, a task a request.
    Hyper,
}

/// Why listening failed.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, std::io::Error),
    /// The certificates cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
}

/// TLS settings: our certificate, client certificates of our authority accepted and not demanded (a request without
/// one is refused later, with a `Status`).
pub fn tls_config(pki: &Pki) -> Result<Arc<rustls::ServerConfig>, ListenError> {
    tls_for(&pki.server, Some(&pki.ca_pem))
}

/// The same for any identity. Without authorities (PEM) no client certificate is asked for.
///
/// # Errors
/// Certificates or a key that cannot be used.
pub fn tls_for(
    server: &Identity,
    authorities_pem: Option<&str>,
) -> Result<Arc<rustls::ServerConfig>, ListenError> {
    let fail = |error: &dyn std::fmt::Display| ListenError::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(&error))?;
    let builder = match authorities_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| fail(&error))?;
                roots.add(certificate).map_err(|error| fail(&error))?;
            }
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            )
            .allow_unauthenticated()
            .build()
            .map_err(|error| fail(&error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = CertificateDer::pem_slice_iter(server.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fail(&error))?;
    let key =
        PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes()).map_err(|error| fail(&error))?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| fail(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A ticket costs memory and a signature; kubelets keep their connections.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Opens one listening socket per runtime on the same address. The first one takes the port alone, so that a port in
/// use by anybody else is an error and not shared.
pub fn bind(
    address: SocketAddr,
    runtimes: usize,
) -> Result<Vec<std::net::TcpListener>, ListenError> {
    let fail = |error| ListenError::Bind(address, error);
    // Without SO_REUSEPORT this fails if anybody listens there, even one that would share.
    let probe = std::net::TcpListener::bind(address).map_err(fail)?;
    let address = probe.local_addr().map_err(fail)?;
    drop(probe);
    (0..runtimes)
        .map(|_| {
            let socket =
                Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(fail)?;
            socket.set_reuse_address(true).map_err(fail)?;
            socket.set_reuse_port(true).map_err(fail)?;
            socket.set_nonblocking(true).map_err(fail)?;
            socket.bind(&address.into()).map_err(fail)?;
            socket.listen(BACKLOG_CONNECTIONS).map_err(fail)?;
            Ok(socket.into())
        })
        .collect()
}

/// Serves one socket until `shutdown` turns true, then lets open requests end. Runs on a current-thread runtime.
pub async fn serve(
    listener: std::net::TcpListener,
    tls: Arc<rustls::ServerConfig>,
    codec: Codec,
    service: Arc<dyn Service>,
    shutdown: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    let farewell = Arc::<Farewell>::default();
    loop {
        let accepted = async {
            let slot = slots
                .clone()
                .acquire_owned()
                .await
                .map_err(std::io::Error::other)?;
            listener.accept().await.map(|(stream, _)| (slot, stream))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = stopped(shutdown.clone()) => break,
        };
        let (slot, stream) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the peer went already: neither may end the listener.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // What only the beginning needs is let go before a connection is served: silent ones are many. For the same
        // reason the two are boxed, and what is spawned holds no more than where they are.
        let beginning = Box::pin(establish(
            stream,
            tls.clone(),
            codec,
            service.clone(),
            shutdown.clone(),
            Seat::new(farewell.clone()),
        ));
        tokio::spawn(async move {
            let _slot = slot;
            if let Some(served) = beginning.await {
                served.await;
            }
        });
    }
    drop(listener);
    farewell.say();
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, slots.acquire_many(all)).await;
    Ok(())
}

/// Ready once shutdown began.
async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // The reference that `wait_for` gives may not live across an await of others.
    let _ = shutdown.wait_for(|stop| *stop).await.map(drop);
}

/// A connection that is set up, as the future that serves it to its end.
type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Sets a connection up.
async fn establish(
    stream: tokio::net::TcpStream,
    tls: Arc<rustls::ServerConfig>,
    codec: Codec,
    service: Arc<dyn Service>,
    shutdown: watch::Receiver<bool>,
    seat: Seat,
) -> Option<Served> {
    let _ = stream.set_nodelay(true);
    let mut stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, accept(stream, tls)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            tracing::debug!("TLS handshake took longer than 10 s");
            return None;
        }
    };
    // The certificate is read once a connection, not once a request.
    let session = stream.session();
    let user = session
        .peer_certificates()
        .and_then(|chain| user_of(chain.first()?))
        .map(Arc::new);
    if codec == Codec::Hyper {
        return Some(Box::pin(by_hyper::serve(stream, service, user, shutdown)));
    }
    if session.alpn_protocol() == Some(b"h2") {
        return Some(by_own::serve(stream, Bytes::new(), service, user, seat));
    }
    let seen = tokio::select! {
        seen = tokio::time::timeout(HEADER_TIMEOUT, sniff(&mut stream)) => seen,
        () = stopped(shutdown.clone()) => return None,
    };
    match seen {
        Ok(Ok((Protocol::Http2, first))) => Some(by_own::serve(stream, first, service, user, seat)),
        Ok(Ok((Protocol::Http1, first))) => {
            let stream = Replayed::new(first, stream);
            Some(Box::pin(by_hyper::serve(stream, service, user, shutdown)))
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "connection ended");
            None
        }
        Err(_) => {
            tracing::debug!("a connection said nothing");
            None
        }
    }
}

/// The user that a client certificate names: common name and organisations (k8s x509 client certs).
pub fn user_of(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> = subject
        .iter_organization()
        .filter_map(|group| group.as_str().ok())
        .map(str::to_owned)
        .collect();
    groups.push("system:authenticated".into());
    Some(User { name, groups })
}

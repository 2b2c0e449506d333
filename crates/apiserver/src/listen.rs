//! The listener: TLS, HTTP/1.1 and HTTP/2, one current-thread runtime per core.
//!
//! Every runtime accepts on its own socket (`SO_REUSEPORT`), so that a connection stays on one core and nothing is
//! stolen. Knows no resources: a request is handed to [`rest::http::Service`], and what comes back is written out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use meta::ApiError;
use rest::http::{Body, Method, Reply, Request, Service, User};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::pki::Pki;
use crate::state::random;

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

/// The header that names a request in audit logs, and its longest value that is taken over from a client.
const AUDIT_ID: &str = "audit-id";
const AUDIT_ID_BYTES_MAX: usize = 64;

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
    let fail = |error: &dyn std::fmt::Display| ListenError::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pki.ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| fail(&error))?;
        roots.add(certificate).map_err(|error| fail(&error))?;
    }
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        provider.clone(),
    )
    .allow_unauthenticated()
    .build()
    .map_err(|error| fail(&error))?;
    let chain = CertificateDer::pem_slice_iter(pki.server.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fail(&error))?;
    let key = PrivateKeyDer::from_pem_slice(pki.server.key_pem.as_bytes())
        .map_err(|error| fail(&error))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(&error))?
        .with_client_cert_verifier(verifier)
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
    service: Arc<dyn Service>,
    shutdown: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
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
        let (acceptor, service, shutdown) = (acceptor.clone(), service.clone(), shutdown.clone());
        tokio::spawn(async move {
            let _slot = slot;
            connection(stream, acceptor, service, shutdown).await;
        });
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, slots.acquire_many(all)).await;
    Ok(())
}

/// Ready once shutdown began.
async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // The reference that `wait_for` gives may not live across an await of others.
    let _ = shutdown.wait_for(|stop| *stop).await.map(drop);
}

async fn connection(
    stream: tokio::net::TcpStream,
    acceptor: tokio_rustls::TlsAcceptor,
    service: Arc<dyn Service>,
    shutdown: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took longer than 10 s"),
    };
    // The certificate is read once a connection, not once a request.
    let user = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| user_of(chain.first()?))
        .map(Arc::new);
    let handler =
        hyper::service::service_fn(move |request| answer(request, service.clone(), user.clone()));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    let connection = builder.serve_connection(TokioIo::new(stream), handler);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

/// The user that a client certificate names: common name and organisations (k8s x509 client certs).
fn user_of(certificate: &CertificateDer<'_>) -> Option<User> {
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

async fn answer(
    request: hyper::Request<Incoming>,
    service: Arc<dyn Service>,
    user: Option<Arc<User>>,
) -> Result<hyper::Response<ReplyBody>, Infallible> {
    let head_only = request.method() == http::Method::HEAD;
    let audit_id = audit_id(request.headers());
    let reply = match read(request, user).await {
        Ok(request) => service.call(request).await,
        Err(reply) => *reply,
    };
    Ok(write(reply, head_only, audit_id))
}

/// The id under which a request is audited: the sender's own if it has one, else a new one.
fn audit_id(headers: &http::HeaderMap) -> http::HeaderValue {
    if let Some(sent) = headers.get(AUDIT_ID)
        && !sent.is_empty()
        && sent.len() <= AUDIT_ID_BYTES_MAX
    {
        return sent.clone();
    }
    let (high, low) = (random(), random());
    let id = format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    );
    http::HeaderValue::try_from(id).unwrap_or_else(|_| http::HeaderValue::from_static("0"))
}

async fn read(
    request: hyper::Request<Incoming>,
    user: Option<Arc<User>>,
) -> Result<Request, Box<Reply>> {
    let (parts, body) = request.into_parts();
    let Some(method) = Method::parse(parts.method.as_str()) else {
        let error = crate::api::method_not_allowed();
        return Err(Box::new(Reply::error(&error)));
    };
    let too_large = || {
        let limit = rest::http::REQUEST_BODY_BYTES_MAX;
        Box::new(Reply::error(&ApiError::request_too_large(format!(
            "limit is {limit}"
        ))))
    };
    // A body that says it is too long is not read at all.
    if hyper::body::Body::size_hint(&body).lower() > rest::http::REQUEST_BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let body = match &user {
        // Strangers get their 401, a version or a health answer, and no memory.
        None => Bytes::new(),
        Some(_) => match Limited::new(body, rest::http::REQUEST_BODY_BYTES_MAX)
            .collect()
            .await
        {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => return Err(too_large()),
            Err(error) => {
                let error = ApiError::bad_request(format!("cannot read the body: {error}"));
                return Err(Box::new(Reply::error(&error)));
            }
        },
    };
    if parts
        .headers
        .keys()
        .any(|name| name.as_str().starts_with("impersonate-"))
    {
        // To take the request for the sender's own would be worse than to refuse it.
        let error = ApiError::new(
            403,
            meta::Reason::Forbidden,
            "impersonation is not served by this release",
        );
        return Err(Box::new(Reply::error(&error)));
    }
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
            .unwrap_or_default()
    };
    // Accept may come as several header lines, which mean one list.
    let accept: Vec<&str> = parts
        .headers
        .get_all("accept")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    Ok(Request {
        method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        accept: accept.join(","),
        content_type: header("content-type"),
        user_agent: header("user-agent"),
        if_none_match: Some(header("if-none-match")).filter(|value| !value.is_empty()),
        body,
        user,
    })
}

fn write(reply: Reply, head_only: bool, audit_id: http::HeaderValue) -> hyper::Response<ReplyBody> {
    let mut builder = hyper::Response::builder()
        .status(reply.status)
        .header("cache-control", "no-cache, private")
        .header(AUDIT_ID, audit_id);
    if !reply.content_type.is_empty() {
        builder = builder.header("content-type", reply.content_type);
    }
    for (name, value) in reply.headers {
        builder = builder.header(name, value);
    }
    let body = if head_only {
        ReplyBody::Full(None)
    } else {
        reply.body.into()
    };
    builder.body(body).unwrap_or_else(|error| {
        // Only a header value with control characters gets here.
        tracing::error!(%error, "a reply could not be built");
        let mut response = hyper::Response::new(ReplyBody::Full(None));
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// A reply's body as hyper wants it.
enum ReplyBody {
    Full(Option<Bytes>),
    Stream(Box<dyn rest::http::FrameSource>),
}

impl From<Body> for ReplyBody {
    fn from(body: Body) -> ReplyBody {
        match body {
            Body::Full(bytes) => ReplyBody::Full((!bytes.is_empty()).then_some(bytes)),
            Body::Stream(source) => ReplyBody::Stream(source),
        }
    }
}

impl hyper::body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            ReplyBody::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            ReplyBody::Stream(source) => source
                .poll_frame(cx)
                .map(|frame| frame.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ReplyBody::Full(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            ReplyBody::Full(bytes) => hyper::body::SizeHint::with_exact(
                bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            ),
            ReplyBody::Stream(_) => hyper::body::SizeHint::default(),
        }
    }
}

//! The HTTPS transport: one HTTP/2 connection to an API server, opened anew when it breaks.

use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rest::http::{FrameSource, Reply, ReplyFuture, Request, Service};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::sync::Mutex;

use crate::{ClientError, Kubeconfig};

/// Longest wait for a connection, TLS included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Ping a silent connection after this long, and give it up after as long again (as client-go does).
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long a token from a file is used before the file is read again (client-go: 1 min).
const TOKEN_AGE_MAX: Duration = Duration::from_secs(60);

/// Headers of a reply that say something to a caller.
pub(crate) const HEADERS_KEPT: [&str; 5] = [
    "audit-id",
    "cache-control",
    "etag",
    "retry-after",
    "warning",
];

/// A connection to an API server as one of its users.
pub struct HttpsTransport {
    shared: Arc<Https>,
}

struct Https {
    shared: Shared,
    sender: Mutex<Option<http2::SendRequest<Full<Bytes>>>>,
}

/// What it takes to reach a server as one of its users.
pub(crate) struct Shared {
    host: String,
    port: u16,
    tls_server_name: String,
    tls: tokio_rustls::TlsConnector,
    token: String,
    token_file: Option<PathBuf>,
    /// What the file held when it was read last.
    token_read: StdMutex<Option<(Instant, String)>>,
}

impl HttpsTransport {
    /// Prepares a transport; the connection is made with the first request.
    pub fn new(config: &Kubeconfig) -> Result<HttpsTransport, ClientError> {
        Ok(HttpsTransport {
            shared: Arc::new(Https {
                shared: Shared::new(config)?,
                sender: Mutex::new(None),
            }),
        })
    }
}

impl Shared {
    pub(crate) fn new(config: &Kubeconfig) -> Result<Shared, ClientError> {
        let fail = |message: String| ClientError::Transport(message);
        let rest = config
            .server
            .strip_prefix("https://")
            .ok_or_else(|| fail(format!("{}: only https:// is spoken", config.server)))?;
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (
                host,
                port.parse()
                    .map_err(|_| fail(format!("{authority}: the port is no number")))?,
            ),
            None => (authority, 443),
        };
        let tls = tls_config(config)?;
        Ok(Shared {
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port,
            tls_server_name: config.tls_server_name.clone(),
            tls: tls.into(),
            token: config.token.clone(),
            token_file: config.token_file.clone(),
            token_read: StdMutex::new(None),
        })
    }

    /// Host and port.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// A TLS connection.
    pub(crate) async fn open(
        &self,
    ) -> Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>, String> {
        let place = || self.place();
        let stream = tokio::net::TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("{}: {error}", place()))?;
        // Small requests must not wait for more to come.
        stream
            .set_nodelay(true)
            .map_err(|error| format!("{}: {error}", place()))?;
        let name = match self.tls_server_name.as_str() {
            "" => self.host.clone(),
            given => given.to_owned(),
        };
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let connected = self.tls.connect(name, stream).await;
        connected.map_err(|error| format!("{}: TLS: {error}", place()))
    }

    /// The bearer token of now; empty for none.
    pub(crate) fn token(&self) -> Result<String, String> {
        let Some(path) = &self.token_file else {
            return Ok(self.token.clone());
        };
        let mut read = self
            .token_read
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((at, token)) = &*read
            && at.elapsed() < TOKEN_AGE_MAX
        {
            return Ok(token.clone());
        }
        // A short file, read once a minute: not worth a thread.
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the token {}: {error}", path.display()))?;
        let token = text.trim().to_owned();
        *read = Some((Instant::now(), token.clone()));
        Ok(token)
    }
}

/// TLS as a kubeconfig wants it: its authority, its certificate, HTTP/2.
///
/// # Errors
/// Certificates or a key that cannot be used.
pub fn tls_config(config: &Kubeconfig) -> Result<Arc<rustls::ClientConfig>, ClientError> {
    let fail = |message: String| ClientError::Transport(message);
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&config.ca_pem) {
        let certificate =
            certificate.map_err(|error| fail(format!("certificate authority: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| fail(format!("certificate authority: {error}")))?;
    }
    let chain = CertificateDer::pem_slice_iter(&config.client_certificate_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fail(format!("client certificate: {error}")))?;
    let by_token = !config.token.is_empty() || config.token_file.is_some();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(error.to_string()))?
        .with_root_certificates(roots);
    let mut tls = if chain.is_empty() && by_token {
        tls.with_no_client_auth()
    } else {
        let key = PrivateKeyDer::from_pem_slice(&config.client_key_pem)
            .map_err(|error| fail(format!("client key: {error}")))?;
        tls.with_client_auth_cert(chain, key)
            .map_err(|error| fail(format!("client certificate: {error}")))?
    };
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(tls))
}

impl Service for HttpsTransport {
    fn call(&self, request: Request) -> ReplyFuture {
        let shared = self.shared.clone();
        Box::pin(async move {
            match shared.exchange(request).await {
                Ok(reply) => reply,
                // Status 0 is no HTTP status: the client makes a transport error of it.
                Err(message) => Reply::text(0, message),
            }
        })
    }
}

impl Https {
    async fn exchange(&self, request: Request) -> Result<Reply, String> {
        let token = self.shared.token()?;
        let mut sender = self.connected().await?;
        let mut target = format!("https://{}{}", self.shared.place(), request.path);
        if !request.query.is_empty() {
            target.push('?');
            target.push_str(&request.query);
        }
        let mut builder = http::Request::builder()
            .method(request.method.as_str())
            .uri(target);
        for (name, value) in [
            ("accept", &request.accept),
            ("content-type", &request.content_type),
            ("user-agent", &request.user_agent),
        ] {
            if !value.is_empty() {
                builder = builder.header(name, &**value);
            }
        }
        if !token.is_empty() {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        if let Some(etag) = &request.if_none_match {
            builder = builder.header("if-none-match", etag);
        }
        let request = builder
            .body(Full::new(request.body))
            .map_err(|error| error.to_string())?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| format!("request failed: {error}"))?;
        let status = response.status().as_u16();
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let told = |name: &'static str| {
            Some((
                name,
                response.headers().get(name)?.to_str().ok()?.to_owned(),
            ))
        };
        let headers = HEADERS_KEPT.into_iter().filter_map(told).collect();
        let mut reply = Reply::stream(content_type, Box::new(IncomingSource(response.into_body())));
        reply.status = status;
        reply.headers = headers;
        Ok(reply)
    }

    async fn connected(&self) -> Result<http2::SendRequest<Full<Bytes>>, String> {
        let mut slot = self.sender.lock().await;
        if let Some(sender) = slot.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let sender = tokio::time::timeout(CONNECT_TIMEOUT, self.connect())
            .await
            .map_err(|_| format!("no connection to {} within 10 s", self.shared.place()))??;
        *slot = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> Result<http2::SendRequest<Full<Bytes>>, String> {
        let stream = self.shared.open().await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("{}: HTTP/2: {error}", self.shared.place()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the API server ended");
            }
        });
        Ok(sender)
    }
}

struct IncomingSource(Incoming);

impl FrameSource for IncomingSource {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let frame = std::task::ready!(std::pin::Pin::new(&mut self.0).poll_frame(cx));
            match frame {
                None => return Poll::Ready(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(data));
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "reply broke off");
                    return Poll::Ready(None);
                }
            }
        }
    }
}

//! A port over TLS for what a component tells of itself: `--secure-port` and its flags, as upstream's components have
//! them.
//!
//! ```text
//!   socket ─► TLS ─► HTTP/1.1 or HTTP/2 ─► health? ────────────────► answer
//!                                           └─ else: who? may they? ─┘   (guard.rs, by reviews of the API server)
//! ```
//!
//! Knows files, flags and HTTP; does not know what is told there, nor how it is decided who may read it.

mod guard;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use client::Client;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use meta::ApiError;
use rest::http::User;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use self::guard::Guard;
use crate::threads;

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// Requests at a time on one connection.
const STREAMS_MAX: u32 = 16;
/// Longest wait for a TLS handshake, and for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which an HTTP/2 connection is pinged, and the longest wait for the answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Largest certificate or key file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Flags of the port.
#[derive(Debug, Args)]
pub struct SecurePortOptions {
    /// Port for /healthz, /livez, /readyz, and, for who may read them, /metrics and /configz, over TLS; 0 turns it off
    #[arg(long, value_name = "PORT", default_value_t = 10259)]
    pub secure_port: u16,
    /// Address of the secure port
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Certificate of the secure port, PEM, with what it descends from behind it [default: one made at the start]
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Authorities whose client certificates say who asks at the secure port, PEM
    #[arg(long, value_name = "FILE")]
    pub client_ca_file: Option<PathBuf>,
}

/// What is told under a path: status, content type, body.
pub type Told = (u16, &'static str, String);
/// Who tells it.
pub type Teller = Arc<dyn Fn(&str) -> Told + Send + Sync>;

/// The port, listening and not served yet.
pub struct SecurePort {
    listener: std::net::TcpListener,
    tls: Arc<rustls::ServerConfig>,
}

impl SecurePort {
    /// Opens the port; `None` when it is turned off. `name` is for whom a certificate is made.
    ///
    /// # Errors
    /// Files that cannot be used, an address that cannot be had; named by their flags.
    pub fn open(options: &SecurePortOptions, name: &str) -> Result<Option<SecurePort>, String> {
        if options.secure_port == 0 {
            return Ok(None);
        }
        let tls = tls(options, name)?;
        let address = SocketAddr::new(options.bind_address, options.secure_port);
        let fail = |error| format!("--secure-port: cannot listen on {address}: {error}");
        let listener = std::net::TcpListener::bind(address).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        Ok(Some(SecurePort { listener, tls }))
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves the port until `stop` turns true. `client` asks the API server who may read what.
    pub async fn serve(self, client: Client, teller: Teller, mut stop: watch::Receiver<bool>) {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the secure port cannot be served");
                return;
            }
        };
        let guard = Arc::new(Guard::new(client));
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = async {
                let slot = slots.clone().acquire_owned().await;
                let slot = slot.map_err(std::io::Error::other)?;
                let (stream, _) = listener.accept().await?;
                Ok::<_, std::io::Error>((slot, stream))
            };
            let accepted = tokio::select! {
                accepted = accepted => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let (slot, stream) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the secure port");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (tls, guard, teller) = (self.tls.clone(), guard.clone(), teller.clone());
            tokio::spawn(async move {
                let _slot = slot;
                connection(stream, tls, guard, teller).await;
            });
        }
    }
}

async fn connection(
    stream: TcpStream,
    tls: Arc<rustls::ServerConfig>,
    guard: Arc<Guard>,
    teller: Teller,
) {
    let accepted = tokio::time::timeout(HEAD_TIMEOUT, http2_shell::accept(stream, tls)).await;
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed on the secure port");
            return;
        }
        Err(_) => return,
    };
    let chain = stream.session().peer_certificates();
    let user = chain
        .and_then(|chain| apiserver::listen::user_of(chain.first()?))
        .map(Arc::new);
    let service = service_fn(move |request: http::Request<Incoming>| {
        answer(request, user.clone(), guard.clone(), teller.clone())
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    if let Err(error) = builder
        .serve_connection(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%error, "a connection to the secure port ended");
    }
}

async fn answer(
    request: http::Request<Incoming>,
    user: Option<Arc<User>>,
    guard: Arc<Guard>,
    teller: Teller,
) -> http::Result<http::Response<Full<Bytes>>> {
    let path = request.uri().path();
    let head_only = request.method() == http::Method::HEAD;
    let reads = matches!(*request.method(), http::Method::GET | http::Method::HEAD);
    let (status, content_type, body) = if !reads {
        (
            405,
            "text/plain; charset=utf-8",
            "method not allowed\n".into(),
        )
    } else {
        let verb = request.method().as_str().to_ascii_lowercase();
        let authorization = request.headers().get(http::header::AUTHORIZATION);
        match guard
            .admit(user.as_deref(), authorization, &verb, path)
            .await
        {
            Ok(()) => teller(path),
            Err(error) => refusal(&error),
        }
    };
    http::Response::builder()
        .status(status)
        .header("content-type", content_type)
        .header("cache-control", "no-cache, private")
        .header("x-content-type-options", "nosniff")
        .header("content-length", body.len())
        .body(if head_only {
            Full::default()
        } else {
            Full::new(Bytes::from(body))
        })
}

fn refusal(error: &ApiError) -> Told {
    let body = error.to_status().to_string();
    (error.code, "application/json", body)
}

fn tls(options: &SecurePortOptions, name: &str) -> Result<Arc<rustls::ServerConfig>, String> {
    let identity = match (&options.tls_cert_file, &options.tls_private_key_file) {
        (Some(certificate), Some(key)) => apiserver::pki::Identity {
            certificate_pem: read("--tls-cert-file", certificate)?,
            key_pem: read("--tls-private-key-file", key)?,
        },
        _ => {
            let now_seconds = threads::now_micros().div_euclid(1_000_000);
            let made = apiserver::pki::self_signed(name, options.bind_address, now_seconds);
            made.map_err(|error| error.to_string())?
        }
    };
    let authorities = match &options.client_ca_file {
        Some(path) => Some(read("--client-ca-file", path)?),
        None => None,
    };
    let tls = apiserver::listen::tls_for(&identity, authorities.as_deref());
    tls.map_err(|error| format!("the secure port: {error}"))
}

fn read(flag: &str, path: &Path) -> Result<String, String> {
    let fail = |what: &dyn std::fmt::Display| format!("{flag} {}: {what}", path.display());
    let bytes = std::fs::metadata(path).map_err(|error| fail(&error))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(fail(&"the file is larger than 1 MiB"));
    }
    std::fs::read_to_string(path).map_err(|error| fail(&error))
}

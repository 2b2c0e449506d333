//! The listener: one socket per runtime on the same address, TLS if wanted, then HTTP/2 by our own codec and HTTP/1.1
//! by hyper, which can take both.
//!
//! Knows no services: a request goes to [`crate::route::answer`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http2_shell::{Protocol, Replayed, accept, sniff};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::api::Api;
use crate::h2;
use crate::limits::{
    BACKLOG_CONNECTIONS, CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX, DRAIN_TIMEOUT,
    HANDSHAKE_TIMEOUT, HEADER_TIMEOUT, PING_INTERVAL, PING_TIMEOUT, RESETS_PENDING_MAX,
    STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX,
};
use crate::metrics::Metered;
use crate::options::Listener;
use crate::route::answer;
use crate::tls::Tls;

/// Opens one listening socket per runtime. The first takes the port alone, so that a port in use by anybody else is
/// an error and not shared.
pub fn bind(address: SocketAddr, runtimes: usize) -> std::io::Result<Vec<std::net::TcpListener>> {
    let probe = std::net::TcpListener::bind(address)?;
    let address = probe.local_addr()?;
    drop(probe);
    (0..runtimes.max(1))
        .map(|_| {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG_CONNECTIONS)?;
            Ok(socket.into())
        })
        .collect()
}

/// Serves one socket until `stop` turns true, then lets open requests end. Runs on a current-thread runtime.
pub async fn serve(
    listener: std::net::TcpListener,
    tls: Option<Arc<Tls>>,
    api: Api,
    stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return Ok(());
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(stop.clone()) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, or the peer went already: neither may end the listener.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, api, stop) = (tls.clone(), api.clone(), stop.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let _ = stream.set_nodelay(true);
            let Some(tls) = tls else {
                return connection(stream, false, api, stop).await;
            };
            let mut api = api;
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, accept(stream, tls.config())).await {
                Ok(Ok(stream)) => {
                    let session = stream.session();
                    let is_http2 = session.alpn_protocol() == Some(b"h2");
                    api.peer = tls.peer(session);
                    connection(stream, is_http2, api, stop).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                Err(_) => tracing::debug!("TLS handshake took too long"),
            }
        });
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, slots.acquire_many(all)).await;
    Ok(())
}

/// Ready once shutdown began.
pub async fn stopped(mut stop: watch::Receiver<bool>) {
    // The reference that `wait_for` gives may not live across an await of others.
    let _ = stop.wait_for(|stop| *stop).await.map(drop);
}

/// Serves a connection to its end, `is_http2` if that was agreed on.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    is_http2: bool,
    api: Api,
    stop: watch::Receiver<bool>,
) {
    let mut stream = Metered::new(stream, api.node.clone());
    if api.node.options.listener == Listener::Hyper {
        return by_hyper(stream, api, stop).await;
    }
    if is_http2 {
        return h2::serve(stream, Bytes::new(), api, stop).await;
    }
    let seen = tokio::select! {
        seen = tokio::time::timeout(HEADER_TIMEOUT, sniff(&mut stream)) => seen,
        () = stopped(stop.clone()) => return,
    };
    match seen {
        Ok(Ok((Protocol::Http2, first))) => h2::serve(stream, first, api, stop).await,
        Ok(Ok((Protocol::Http1, first))) => {
            by_hyper(Replayed::new(first, stream), api, stop).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
        Err(_) => tracing::debug!("a connection said nothing"),
    }
}

async fn by_hyper(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    api: Api,
    stop: watch::Receiver<bool>,
) {
    let handler = hyper::service::service_fn(move |request| answer(api.clone(), request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), handler);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

//! Connections by the library: HTTP/1.1 always, HTTP/2 where our own codec is not wanted.
//!
//! Knows hyper's types, and turns them into requests and replies; what both listeners mean by a head is in
//! [`super::head`].

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use meta::ApiError;
use rest::http::{Body, REQUEST_BODY_BYTES_MAX, Reply, Request, Service, User};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::listen::head::{self, AUDIT_ID, AuditId, CACHE_CONTROL, Head};
use crate::listen::{HEADER_TIMEOUT, PING_INTERVAL, STREAMS_PER_CONNECTION_MAX, stopped};

/// Serves one connection until it ends or is drained.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    service: Arc<dyn Service>,
    user: Option<Arc<User>>,
    shutdown: watch::Receiver<bool>,
) {
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

async fn answer(
    request: hyper::Request<Incoming>,
    service: Arc<dyn Service>,
    user: Option<Arc<User>>,
) -> Result<hyper::Response<ReplyBody>, Infallible> {
    let head_only = request.method() == http::Method::HEAD;
    let (parts, body) = request.into_parts();
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let Head {
        request, audit_id, ..
    } = head::read(parts.method.as_str(), target, headers, user);
    let request = match request {
        Ok(request) => with_body(request, body).await,
        Err(refusal) => Err(refusal),
    };
    let reply = match request {
        Ok(request) => service.call(request).await,
        Err(refusal) => *refusal,
    };
    Ok(write(reply, head_only, &audit_id))
}

async fn with_body(request: Request, body: Incoming) -> Result<Request, Box<Reply>> {
    // A body that says it is too long is not read at all.
    if hyper::body::Body::size_hint(&body).lower() > REQUEST_BODY_BYTES_MAX as u64 {
        return Err(Box::new(head::too_large()));
    }
    // Strangers get their 401, a version or a health answer, and no memory.
    if request.user.is_none() {
        return Ok(request);
    }
    match Limited::new(body, REQUEST_BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(Request {
            body: body.to_bytes(),
            ..request
        }),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Box::new(head::too_large()))
        }
        Err(error) => {
            let error = ApiError::bad_request(format!("cannot read the body: {error}"));
            Err(Box::new(Reply::error(&error)))
        }
    }
}

fn write(reply: Reply, head_only: bool, audit_id: &AuditId) -> hyper::Response<ReplyBody> {
    let mut room = [0; head::AUDIT_ID_BYTES];
    let mut builder = hyper::Response::builder()
        .status(reply.status)
        .header("cache-control", CACHE_CONTROL)
        .header(AUDIT_ID, audit_id.bytes(&mut room));
    if !reply.content_type.is_empty() {
        builder = builder.header("content-type", &*reply.content_type);
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

//! Requests, replies and the one trait under every way in: the listeners of the API server, and the
//! in-process transport of the client.
//!
//! Knows no sockets, no runtime and no Kubernetes kinds: a body is bytes, or a source of frames that is
//! polled by whoever writes them out.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use meta::ApiError;

use crate::watch_frame::EventType;

/// Largest request body that is read, in bytes (k8s `MaxRequestBodyBytes`, 3 MiB).
pub const REQUEST_BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Who sent a request, as the listener established it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User name: the common name of the client certificate.
    pub name: String,
    /// Group names: the organisations of the certificate and `system:authenticated`.
    pub groups: Vec<String>,
}

/// The HTTP methods that the API uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// Parses the method of a request line; `None` for one that no resource serves.
    #[must_use]
    pub fn parse(text: &str) -> Option<Method> {
        Some(match text {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "PATCH" => Method::Patch,
            "DELETE" => Method::Delete,
            "OPTIONS" => Method::Options,
            _ => return None,
        })
    }

    /// The method as it stands on a request line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
        }
    }
}

/// One request, whole: bodies are small (3 MiB at most) and every verb needs all of it.
#[derive(Debug, Clone)]
pub struct Request {
    /// HTTP method.
    pub method: Method,
    /// Path, still percent-encoded.
    pub path: String,
    /// Query without the question mark, still encoded; empty if there is none.
    pub query: String,
    /// `Accept`, empty if not sent. This and the next two are the same in most requests, which share them.
    pub accept: Arc<str>,
    /// `Content-Type`, empty if not sent.
    pub content_type: Arc<str>,
    /// `User-Agent`, empty if not sent.
    pub user_agent: Arc<str>,
    /// `If-None-Match`, for discovery and OpenAPI.
    pub if_none_match: Option<String>,
    /// The body.
    pub body: Bytes,
    /// Who asks; `None` if the listener could not tell.
    pub user: Option<Arc<User>>,
}

/// A body that is produced while it is written: a watch, or a list too long to hold.
pub trait FrameSource: Send {
    /// The next piece. `None` ends the body cleanly.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;

    /// The same for a reader in this process, who needs no frame around what is stored: appends what there is, in its
    /// order. False ends the body. A source that knows nothing but pieces gives those; a body is read one way or the other.
    fn poll_told(&mut self, cx: &mut Context<'_>, told: &mut VecDeque<Told>) -> Poll<bool> {
        self.poll_frame(cx).map(|piece| {
            let more = piece.is_some();
            told.extend(piece.map(Told::Piece));
            more
        })
    }
}

/// Part of a watch as a reader in the same process may get it.
#[derive(Debug, Clone)]
pub enum Told {
    /// Bytes of the body: whole frames or parts of them.
    Piece(Bytes),
    /// A change of an object of the kind and version that is watched.
    Object {
        /// What happened.
        event: EventType,
        /// The object as it is stored, without its resourceVersion.
        message: Bytes,
        /// Its resourceVersion.
        revision: i64,
    },
}

/// What follows the head of a reply.
pub enum Body {
    /// Everything is known.
    Full(Bytes),
    /// Pieces come as they are made.
    Stream(Box<dyn FrameSource>),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Body::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Body::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// One reply.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status code.
    pub status: u16,
    /// `Content-Type`; empty for a reply without a body.
    pub content_type: Cow<'static, str>,
    /// Further headers, lower-case names.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Body,
}

impl Reply {
    /// A whole reply.
    #[must_use]
    pub fn full(
        status: u16,
        content_type: impl Into<Cow<'static, str>>,
        body: impl Into<Bytes>,
    ) -> Reply {
        Reply {
            status,
            content_type: content_type.into(),
            headers: Vec::new(),
            body: Body::Full(body.into()),
        }
    }

    /// A streamed reply with status 200.
    #[must_use]
    pub fn stream(
        content_type: impl Into<Cow<'static, str>>,
        source: Box<dyn FrameSource>,
    ) -> Reply {
        Reply {
            status: 200,
            content_type: content_type.into(),
            headers: Vec::new(),
            body: Body::Stream(source),
        }
    }

    /// Plain text.
    #[must_use]
    pub fn text(status: u16, text: impl Into<String>) -> Reply {
        Reply::full(status, "text/plain; charset=utf-8", text.into())
    }

    /// An error as JSON `Status`, which every client reads.
    #[must_use]
    pub fn error(error: &ApiError) -> Reply {
        let mut reply = Reply::full(
            error.code,
            "application/json",
            error.to_status().to_string().into_bytes(),
        );
        if let Some(details) = &error.details
            && details.retry_after_seconds > 0
        {
            reply
                .headers
                .push(("retry-after", details.retry_after_seconds.to_string()));
        }
        reply
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }
}

/// The future of a reply.
pub type ReplyFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Request in, reply or stream out. The API server implements it; listeners and clients call it.
///
/// Errors are replies: a call never fails in another way than by a `Status` body.
pub trait Service: Send + Sync {
    /// Answers one request.
    fn call(&self, request: Request) -> ReplyFuture;
}

//! The JSON gateway: etcd's `/v3/…` paths for those who speak no gRPC.
//!
//! A request becomes a gRPC request of this process and takes the same door as all others, so that whatever holds
//! for a call holds here. Knows no message and no service by name but in the table of paths: what a call takes and
//! gives is read from the API's own description.
//!
//! ```text
//!   POST /v3/kv/range ─► values ─► json ─► frame ─► route::grpc ─► frames ─► json ─► body
//!                        one JSON value a message             one message a line, in streams
//! ```
//!
//! Speaks as etcd 3.6 does. Its errors carry `error` besides, which older releases have, so that clients of either
//! find what they look for. Differs from etcd, knowingly: texts about malformed JSON are our own; a client stream
//! that begins with nonsense is refused, where etcd waits in silence; nothing is served over WebSockets.

mod errors;
mod frames;
mod json;
mod paths;
mod values;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame};
use prost_reflect::{MessageDescriptor, MethodDescriptor};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::StdError;

use crate::api::Api;
use crate::limits::REQUEST_OVERHEAD_BYTES;
use crate::route;
use frames::{Frames, frame};
use values::Values;

/// Whether a path is the gateway's business.
pub fn is_here(path: &str) -> bool {
    path.starts_with("/v3/") || path.starts_with("/v3beta/")
}

/// Answers a request.
pub async fn answer<B>(api: Api, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send,
{
    let path = request.uri().path();
    // An older name of the same.
    let path = path
        .strip_prefix("/v3beta/")
        .map(|rest| ["/v3/", rest].concat())
        .unwrap_or_else(|| path.to_owned());
    let Some((service, method)) = paths::find(&path) else {
        return errors::refuse(&Status::not_found("Not Found"));
    };
    if request.method() != Method::POST {
        return errors::refuse(&Status::unimplemented("Method Not Allowed"));
    }
    let Some(call) = json::method(service, method) else {
        return errors::refuse(&Status::unimplemented(format!("unknown method {method}")));
    };
    match ask(api, request, &call).await {
        Ok(response) => response,
        Err(error) => errors::refuse(&error),
    }
}

async fn ask<B>(
    api: Api,
    request: Request<B>,
    call: &MethodDescriptor,
) -> Result<Response<Body>, Status>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send,
{
    let (head, body) = request.into_parts();
    let message_bytes = api
        .node
        .options
        .max_request_bytes
        .saturating_add(REQUEST_OVERHEAD_BYTES);
    // Bytes are a third longer in JSON, and names and quotes come on top.
    let mut values = Values::new(body, message_bytes.saturating_mul(2));
    let first = match poll_fn(|cx| values.poll_next(cx)).await {
        Some(value) => Some(json::decode(&call.input(), &value?)?),
        None => None,
    };
    let body = if call.is_client_streaming() {
        Body::new(Sending {
            first,
            values,
            input: call.input(),
        })
    } else {
        Body::new(Full::new(frame(&first.unwrap_or_default())))
    };
    let path = format!("/{}/{}", call.parent_service().full_name(), call.name());
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path
        .parse()
        .map_err(|_| Status::internal("a path of ours is none"))?;
    *request.headers_mut() = metadata(&head.headers);
    // As with etcd, who calls is told by a token only: its certificate opens the connection and no more.
    let api = Api { peer: None, ..api };
    let response = route::grpc(api, request).await;
    let mut answers = Frames::new(response);
    let first = poll_fn(|cx| answers.poll_next(cx)).await.transpose()?;
    if call.is_server_streaming() {
        let first = first
            .map(|first| line(&call.output(), &first))
            .transpose()?;
        let body = Receiving {
            first,
            answers: Some(answers),
            output: call.output(),
        };
        return Ok(errors::json(Body::new(body)));
    }
    let first = first.ok_or_else(|| Status::internal("no answer"))?;
    // Only its end tells whether it holds.
    poll_fn(|cx| answers.poll_next(cx)).await.transpose()?;
    let text = json::encode(&call.output(), first)?;
    Ok(errors::json(Body::new(Full::new(Bytes::from(text)))))
}

/// What of an HTTP request's headers goes on with the call.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    const PREFIX: &str = "grpc-metadata-";
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let name = match name.as_str().strip_prefix(PREFIX) {
            // These say how the message is packed, and we pack it.
            Some(name) if name.starts_with("grpc-") => continue,
            Some(name) => HeaderName::from_bytes(name.as_bytes()).ok(),
            None => (name == http::header::AUTHORIZATION).then(|| name.clone()),
        };
        if let Some(name) = name {
            metadata.append(name, value.clone());
        }
    }
    metadata.insert("content-type", HeaderValue::from_static("application/grpc"));
    metadata.insert("te", HeaderValue::from_static("trailers"));
    metadata
}

/// One answer of a stream.
fn line(output: &MessageDescriptor, message: &Bytes) -> Result<Bytes, Status> {
    let mut line = BytesMut::from(&b"{\"result\":"[..]);
    line.extend_from_slice(&json::encode(output, message.clone())?);
    line.extend_from_slice(b"}\n");
    Ok(line.freeze())
}

/// A client's stream: each JSON value becomes a message as it comes. What is no message ends it.
struct Sending<B> {
    first: Option<Bytes>,
    values: Values<B>,
    input: MessageDescriptor,
}

impl<B> HttpBody for Sending<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<StdError> + Send,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(frame(&first)))));
        }
        self.values.poll_next(cx).map(|value| {
            let message = json::decode(&self.input, &value?.ok()?).ok()?;
            Some(Ok(Frame::data(frame(&message))))
        })
    }
}

/// A server's stream, a line an answer.
struct Receiving {
    first: Option<Bytes>,
    /// None after the end.
    answers: Option<Frames>,
    output: MessageDescriptor,
}

impl HttpBody for Receiving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(answers) = &mut self.answers else {
            return Poll::Ready(None);
        };
        let answer = match answers.poll_next(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(answer) => answer,
        };
        let line = answer.map(|answer| answer.and_then(|message| line(&self.output, &message)));
        if !matches!(line, Some(Ok(_))) {
            self.answers = None;
        }
        Poll::Ready(line.map(|line| {
            Ok(Frame::data(
                line.unwrap_or_else(|error| errors::line(&error)),
            ))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_and_what_is_named_metadata_go_on_with_the_call() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "h"),
            ("cookie", "c"),
            ("authorization", "token"),
            ("content-type", "application/json"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-content-type", "text/plain"),
            ("grpc-metadata-grpc-encoding", "gzip"),
            ("grpc-encoding", "gzip"),
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let mut found: Vec<String> = metadata(&headers)
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        found.sort();
        assert_eq!(
            found,
            [
                "authorization: token",
                "content-type: application/grpc",
                "hasleader: true",
                "te: trailers"
            ]
        );
    }
}

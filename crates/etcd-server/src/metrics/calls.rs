//! What is counted of every gRPC method, under the names of grpc-go's counters.
//!
//! The methods come from the API's own description: nothing is listed by hand. A call that is begun is ended exactly once,
//! with a code; a stream that its client leaves ends as cancelled.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::Code;
use tonic::body::Body;

use crate::description::API;
use crate::h2::Call;

/// The codes in the order of their numbers, as grpc-go calls them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The counters of all methods.
#[derive(Debug)]
pub struct Calls {
    methods: Vec<Arc<Method>>,
    by_path: HashMap<String, Arc<Method>>,
    range: Arc<Method>,
    put: Arc<Method>,
    delete_range: Arc<Method>,
    txn: Arc<Method>,
}

/// The counters of one method.
#[derive(Debug, Default)]
pub struct Method {
    service: String,
    name: String,
    kind: &'static str,
    started: AtomicU64,
    handled: [AtomicU64; CODES.len()],
    received: AtomicU64,
    sent: AtomicU64,
}

impl Default for Calls {
    fn default() -> Self {
        let mut methods = Vec::new();
        let mut by_path = HashMap::new();
        for service in API.services() {
            for method in service.methods() {
                let kind = match (method.is_client_streaming(), method.is_server_streaming()) {
                    (false, false) => "unary",
                    (true, false) => "client_stream",
                    (false, true) => "server_stream",
                    (true, true) => "bidi_stream",
                };
                let method = Arc::new(Method {
                    service: service.full_name().to_owned(),
                    name: method.name().to_owned(),
                    kind,
                    ..Method::default()
                });
                let path = format!("/{}/{}", method.service, method.name);
                by_path.insert(path, method.clone());
                methods.push(method);
            }
        }
        let kv = |name: &str| {
            let found = by_path.get(&format!("/etcdserverpb.KV/{name}"));
            found.cloned().unwrap_or_default()
        };
        let (range, put, delete_range, txn) =
            (kv("Range"), kv("Put"), kv("DeleteRange"), kv("Txn"));
        Calls {
            methods,
            by_path,
            range,
            put,
            delete_range,
            txn,
        }
    }
}

impl Calls {
    /// The counters of a call on the short way.
    pub fn of(&self, call: Call) -> &Method {
        match call {
            Call::Range => &self.range,
            Call::Put => &self.put,
            Call::DeleteRange => &self.delete_range,
            Call::Txn => &self.txn,
        }
    }

    /// The counters of the method of a path; none of one that does not exist.
    pub fn of_path(&self, path: &str) -> Option<&Arc<Method>> {
        self.by_path.get(path)
    }

    /// Writes all counters.
    pub fn tell(&self, out: &mut String) {
        let each = |out: &mut String, name: &str, help: &str, of: fn(&Method) -> &AtomicU64| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
            for method in &self.methods {
                let _ = writeln!(
                    out,
                    "{name}{{{}}} {}",
                    method.labels(),
                    of(method).load(Relaxed)
                );
            }
        };
        let name = "grpc_server_handled_total";
        let help = "Calls that ended, by their code.";
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for method in &self.methods {
            for (code, handled) in CODES.iter().zip(&method.handled) {
                let (labels, count) = (method.labels(), handled.load(Relaxed));
                let _ = writeln!(out, "{name}{{grpc_code=\"{code}\",{labels}}} {count}");
            }
        }
        each(
            out,
            "grpc_server_msg_received_total",
            "Messages that came.",
            |method| &method.received,
        );
        each(
            out,
            "grpc_server_msg_sent_total",
            "Messages that went.",
            |method| &method.sent,
        );
        each(
            out,
            "grpc_server_started_total",
            "Calls that began.",
            |method| &method.started,
        );
    }
}

impl Method {
    fn labels(&self) -> String {
        format!(
            "grpc_method=\"{}\",grpc_service=\"{}\",grpc_type=\"{}\"",
            self.name, self.service, self.kind
        )
    }

    /// A unary call whose message is there begins.
    pub fn begin_whole(&self) {
        self.started.fetch_add(1, Relaxed);
        self.received.fetch_add(1, Relaxed);
    }

    /// A call ends.
    pub fn end(&self, code: Code) {
        if let Some(handled) = self.handled.get(code as usize) {
            handled.fetch_add(1, Relaxed);
        }
    }

    /// A unary call ends with its answer.
    pub fn end_well(&self) {
        self.sent.fetch_add(1, Relaxed);
        self.end(Code::Ok);
    }

    /// A call begins whose messages come and go in bodies.
    pub fn begin<B>(self: &Arc<Self>, request: Request<B>) -> Request<Counted<B>> {
        self.started.fetch_add(1, Relaxed);
        request.map(|inner| Counted {
            inner,
            method: self.clone(),
            messages: Messages::default(),
            is_answer: false,
        })
    }

    /// Its answer begins.
    pub fn answered(self: &Arc<Self>, response: Response<Body>) -> Response<Body> {
        if let Some(code) = code_in(response.headers()) {
            self.end(code);
            return response;
        }
        response.map(|inner| {
            Body::new(Counted {
                inner,
                method: self.clone(),
                messages: Messages::default(),
                is_answer: true,
            })
        })
    }
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get("grpc-status")?;
    Some(Code::from_bytes(code.as_bytes()))
}

/// A body whose messages are counted; that of an answer ends its call.
#[derive(Debug)]
pub struct Counted<B> {
    inner: B,
    method: Arc<Method>,
    messages: Messages,
    /// An answer, and its end was not seen yet.
    is_answer: bool,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            if let Some(data) = frame.data_ref() {
                let count = self.messages.begun_in(data);
                let counter = if self.is_answer {
                    &self.method.sent
                } else {
                    &self.method.received
                };
                counter.fetch_add(count, Relaxed);
            } else if let Some(code) = frame.trailers_ref().and_then(code_in)
                && std::mem::take(&mut self.is_answer)
            {
                self.method.end(code);
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for Counted<B> {
    fn drop(&mut self) {
        if self.is_answer {
            self.method.end(Code::Cancelled);
        }
    }
}

/// Finds gRPC's messages in the pieces of a body.
#[derive(Debug, Default)]
struct Messages {
    /// The prefix of a message that is not whole yet.
    prefix: [u8; 5],
    prefix_len: usize,
    /// Bytes of the message that are still to come.
    rest: usize,
}

impl Messages {
    /// How many messages begin in this piece.
    fn begun_in(&mut self, mut piece: &[u8]) -> u64 {
        let mut begun = 0;
        while !piece.is_empty() {
            let skipped = self.rest.min(piece.len());
            self.rest -= skipped;
            piece = piece.get(skipped..).unwrap_or_default();
            let Some((first, after)) = piece.split_first() else {
                break;
            };
            if let Some(place) = self.prefix.get_mut(self.prefix_len) {
                *place = *first;
            }
            self.prefix_len += 1;
            piece = after;
            if self.prefix_len == self.prefix.len() {
                let [_, a, b, c, d] = self.prefix;
                self.rest = u32::from_be_bytes([a, b, c, d]) as usize;
                self.prefix_len = 0;
                begun += 1;
            }
        }
        begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_wherever_a_body_is_cut() {
        let body = b"\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\0\x01z";
        for size in 1..body.len() {
            let mut messages = Messages::default();
            let begun: u64 = body
                .chunks(size)
                .map(|piece| messages.begun_in(piece))
                .sum();
            assert_eq!(begun, 3, "in pieces of {size}");
        }
    }

    #[test]
    fn every_method_of_the_description_is_told() {
        let calls = Calls::default();
        calls.of(Call::Txn).begin_whole();
        calls.of(Call::Txn).end_well();
        let watch = calls.of_path("/etcdserverpb.Watch/Watch").unwrap();
        let answer = watch.answered(Response::new(Body::default()));
        drop(answer);
        let mut out = String::new();
        calls.tell(&mut out);
        for line in [
            r#"grpc_server_started_total{grpc_method="Txn",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
            r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Txn",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
            r#"grpc_server_handled_total{grpc_code="Canceled",grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 1"#,
            r#"grpc_server_msg_sent_total{grpc_method="Lock",grpc_service="v3lockpb.Lock",grpc_type="unary"} 0"#,
        ] {
            assert!(out.lines().any(|found| found == line), "{line}");
        }
    }
}

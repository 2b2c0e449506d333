//! The generic door: one request, the future that answers it, and the body of its answer, sent piece by piece as the
//! peer takes it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http2::{Connection, Fields, Reason, Sent, StreamId};
use http2_shell::{Signal, StreamWaker, has_room};
use hyper::body::Body as _;
use tonic::body::Body;

use crate::api::Api;
use crate::h2::body::{BodyFiller, RequestBody, request_body};
use crate::route::answer;

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// One request and its answer.
pub struct Exchange {
    stream: StreamId,
    waker: Arc<StreamWaker>,
    request: BodyFiller,
    /// A HEAD: the answer has no body.
    is_bodiless: bool,
    state: State,
}

enum State {
    Answering(Answering),
    Sending {
        body: Body,
        /// What the windows did not allow yet, and whether it is the last.
        rest: Option<(Bytes, bool)>,
    },
}

/// How far an exchange came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is over.
    Done,
    /// Something will wake it.
    Waits,
    /// It could go on, but too much waits for the socket.
    HeldBack,
}

impl Exchange {
    /// A request begins. None if it is none that HTTP knows.
    pub fn begin(
        api: &Api,
        stream: StreamId,
        fields: &Fields,
        end: bool,
        signal: &Arc<Signal>,
    ) -> Option<Exchange> {
        let (filler, body) = request_body();
        if end {
            filler.push(&[], true);
        }
        let request = request(fields, body)?;
        let is_bodiless = request.method() == http::Method::HEAD;
        let api = api.clone();
        let answering = async move {
            match answer(api, request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        };
        Some(Exchange {
            stream,
            waker: Arc::new(StreamWaker::new(stream, signal.clone())),
            request: filler,
            is_bodiless,
            state: State::Answering(Box::pin(answering)),
        })
    }

    /// More of the request. False when nobody wants it.
    pub fn push(&self, data: &[u8], end: bool) -> bool {
        self.request.push(data, end)
    }

    /// The peer has gone. Answers how many bytes nobody read.
    pub fn cut(&self) -> usize {
        self.request.cut()
    }

    /// Goes on as far as it can.
    pub fn advance(&mut self, http2: &mut Connection) -> Progress {
        self.waker.rearm();
        let waker = Waker::from(self.waker.clone());
        let progress = self.send(http2, &mut Context::from_waker(&waker));
        let owed = self.request.take_owed();
        if owed > 0 {
            http2.consumed(self.stream, owed);
        }
        progress
    }

    /// Bytes that wait for the peer's windows.
    pub fn held_bytes(&self) -> usize {
        match &self.state {
            State::Answering(_) | State::Sending { rest: None, .. } => 0,
            State::Sending {
                rest: Some((data, _)),
                ..
            } => data.len(),
        }
    }

    /// Wakes it, so that it goes on in its turn.
    pub fn wake(&self) {
        std::task::Wake::wake_by_ref(&self.waker);
    }

    fn send(&mut self, http2: &mut Connection, cx: &mut Context<'_>) -> Progress {
        if let State::Answering(answering) = &mut self.state {
            let Poll::Ready(response) = answering.as_mut().poll(cx) else {
                return Progress::Waits;
            };
            let (head, body) = response.into_parts();
            let end = self.is_bodiless || body.is_end_stream();
            let status = head.status;
            let status = [(&b":status"[..], status.as_str().as_bytes())];
            let fields = status.into_iter().chain(pairs(&head.headers));
            if !http2.send_headers(self.stream, fields, end) || end {
                return Progress::Done;
            }
            self.state = State::Sending { body, rest: None };
        }
        let State::Sending { body, rest } = &mut self.state else {
            return Progress::Waits;
        };
        loop {
            if let Some((data, end)) = rest {
                match http2.send_data(self.stream, data, *end) {
                    Sent::All if *end => return Progress::Done,
                    Sent::All => *rest = None,
                    Sent::Blocked => return Progress::Waits,
                    Sent::Gone => return Progress::Done,
                }
            }
            if !has_room(http2) {
                return Progress::HeldBack;
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Progress::Waits,
                Poll::Ready(None) => *rest = Some((Bytes::new(), true)),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => *rest = Some((data, body.is_end_stream())),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        http2.send_headers(self.stream, pairs(&trailers), true);
                        return Progress::Done;
                    }
                },
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "an answer broke off");
                    http2.reset(self.stream, Reason::INTERNAL_ERROR);
                    return Progress::Done;
                }
            }
        }
    }
}

/// Headers as the codec takes them.
pub fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// The request in the words of `http`.
fn request(fields: &Fields, body: RequestBody) -> Option<Request<RequestBody>> {
    let mut request = Request::builder()
        .version(http::Version::HTTP_2)
        .method(fields.get(b":method")?)
        .uri(fields.get(b":path")?);
    for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with(b":")) {
        request = request.header(name, value);
    }
    request.body(body).ok()
}

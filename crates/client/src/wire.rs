//! The HTTPS transport for those who ask very much: one HTTP/2 connection by our own codec, one task.
//!
//! ```text
//!   call ─► queue ─► task: open a stream, write ─► socket        a whole answer ─► whoever called
//!                          read ◄───────────────── socket        a watch ─► its reader, as far as that takes it
//! ```
//!
//! Answers are gathered by the task, watches are not: what their readers do not take stays in the window, so that a slow
//! one stops its own stream only. A connection that breaks is opened anew by the next call. Interchangeable with
//! [`crate::https::HttpsTransport`], at a fraction of its processor time a request.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http2::{Config, Connection, Event, Fields, Reason, Sent, StreamId, Unopened};
use rest::http::{FrameSource, Reply, ReplyFuture, Request, Service};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_rustls::client::TlsStream;

use crate::https::{CONNECT_TIMEOUT, HEADERS_KEPT, PING_INTERVAL, Shared};
use crate::{ClientError, Kubeconfig};

/// Calls that wait for the task of a connection.
const CALLS_WAITING_MAX: usize = 1_024;
/// Bytes that may wait for the socket before no more calls are taken.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Largest answer that is gathered, in bytes: longer lists are to be paged.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// Bytes read at a time.
const READ_BYTES: usize = 32 << 10;
/// Bytes a stream, and all streams together, may have under way towards us.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A connection to an API server as one of its users.
pub struct WireTransport {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Shared,
    calls: Mutex<Option<mpsc::Sender<Call>>>,
}

struct Call {
    request: Request,
    token: String,
    answer: oneshot::Sender<Result<Reply, String>>,
}

impl WireTransport {
    /// Prepares a transport; the connection is made with the first request, on the runtime of who makes it.
    ///
    /// # Errors
    /// An address that is not `https://`, certificates or a key that cannot be used.
    pub fn new(config: &Kubeconfig) -> Result<WireTransport, ClientError> {
        Ok(WireTransport {
            inner: Arc::new(Inner {
                shared: Shared::new(config)?,
                calls: Mutex::new(None),
            }),
        })
    }
}

impl Service for WireTransport {
    fn call(&self, request: Request) -> ReplyFuture {
        let inner = self.inner.clone();
        Box::pin(async move {
            match inner.exchange(request).await {
                Ok(reply) => reply,
                // Status 0 is no HTTP status: the client makes a transport error of it.
                Err(message) => Reply::text(0, message),
            }
        })
    }
}

impl Inner {
    async fn exchange(&self, request: Request) -> Result<Reply, String> {
        let token = self.shared.token()?;
        let calls = self.connected().await?;
        let (answer, answered) = oneshot::channel();
        let call = Call {
            request,
            token,
            answer,
        };
        let over = || "request failed: the connection is over".to_owned();
        calls.send(call).await.map_err(|_| over())?;
        answered.await.map_err(|_| over())?
    }

    async fn connected(&self) -> Result<mpsc::Sender<Call>, String> {
        let mut slot = self.calls.lock().await;
        if let Some(calls) = slot.as_ref().filter(|calls| !calls.is_closed()) {
            return Ok(calls.clone());
        }
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, self.shared.open())
            .await
            .map_err(|_| format!("no connection to {} within 10 s", self.shared.place()))??;
        let (sender, calls) = mpsc::channel(CALLS_WAITING_MAX);
        let task = Task::new(stream, calls, self.shared.place());
        tokio::spawn(task.run());
        *slot = Some(sender.clone());
        Ok(sender)
    }
}

/// What readers of watches tell the task.
#[derive(Default)]
struct Readers {
    /// Bytes taken off a stream, and streams that nobody reads any more.
    taken: Vec<(StreamId, Option<usize>)>,
    waker: Option<Waker>,
}

/// What of a watch is there to be read.
#[derive(Default)]
struct Pieces {
    waiting: VecDeque<Bytes>,
    is_over: bool,
    waker: Option<Waker>,
}

/// The reader's end of a watch.
struct WatchSource {
    stream: StreamId,
    pieces: Arc<StdMutex<Pieces>>,
    readers: Arc<StdMutex<Readers>>,
}

fn lock<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WatchSource {
    fn tell(&self, taken: Option<usize>) {
        let waker = {
            let mut readers = lock(&self.readers);
            readers.taken.push((self.stream, taken));
            readers.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl FrameSource for WatchSource {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let piece = {
            let mut pieces = lock(&self.pieces);
            match pieces.waiting.pop_front() {
                Some(piece) => piece,
                None if pieces.is_over => return Poll::Ready(None),
                None => {
                    pieces.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        };
        self.tell(Some(piece.len()));
        Poll::Ready(Some(piece))
    }
}

impl Drop for WatchSource {
    fn drop(&mut self) {
        let (unread, is_over) = {
            let mut pieces = lock(&self.pieces);
            let unread: usize = pieces.waiting.drain(..).map(|piece| piece.len()).sum();
            (unread, pieces.is_over)
        };
        // The connection's window is everybody's: what nobody will read is given back.
        if unread > 0 {
            self.tell(Some(unread));
        }
        if !is_over {
            self.tell(None);
        }
    }
}

/// What an open stream is about.
enum Exchange {
    /// The head of the answer has not come.
    Asked {
        answer: oneshot::Sender<Result<Reply, String>>,
        is_watch: bool,
    },
    /// The body is being gathered.
    Gathers {
        answer: oneshot::Sender<Result<Reply, String>>,
        reply: Reply,
        body: BytesMut,
    },
    /// Pieces go to a reader.
    Watches(Arc<StdMutex<Pieces>>),
}

struct Task {
    stream: TlsStream<TcpStream>,
    http2: Connection,
    place: String,
    calls: mpsc::Receiver<Call>,
    /// A call for which there was no stream.
    held_up: Option<Call>,
    exchanges: HashMap<StreamId, Exchange>,
    /// Bodies of requests that did not fit into the window.
    unsent: HashMap<StreamId, Bytes>,
    readers: Arc<StdMutex<Readers>>,
    buffer: BytesMut,
    begun: Instant,
    /// Something came since the last ping was due.
    has_heard: bool,
    /// Nobody will call any more, or the server takes no more.
    is_ending: bool,
}

impl Task {
    fn new(stream: TlsStream<TcpStream>, calls: mpsc::Receiver<Call>, place: String) -> Task {
        Task {
            stream,
            http2: Connection::client(Config {
                stream_window_bytes: STREAM_WINDOW_BYTES,
                connection_window_bytes: CONNECTION_WINDOW_BYTES,
                ..Config::default()
            }),
            place,
            calls,
            held_up: None,
            exchanges: HashMap::new(),
            unsent: HashMap::new(),
            readers: Arc::default(),
            buffer: BytesMut::new(),
            begun: Instant::now(),
            has_heard: true,
            is_ending: false,
        }
    }

    async fn run(mut self) {
        let mut pings = tokio::time::interval(PING_INTERVAL);
        pings.tick().await;
        let why = loop {
            let due = tokio::select! {
                biased;
                over = poll_fn(|cx| self.turn(cx)) => break over,
                _ = pings.tick() => !std::mem::take(&mut self.has_heard),
            };
            if due {
                break "the server does not answer".into();
            }
            self.http2.ping([0; 8]);
        };
        tracing::debug!(why, "connection to the API server ended");
        self.calls.close();
        for (_, exchange) in self.exchanges.drain() {
            end(exchange, &format!("request failed: {why}"));
        }
    }

    /// Everything that can be done now. Ready when the connection is over.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        self.hear_readers(cx);
        loop {
            self.take_calls(cx);
            if let Poll::Ready(error) = self.write(cx) {
                return Poll::Ready(error);
            }
            match self.read(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => break,
            }
        }
        // What the last look asked for is on its way.
        if let Poll::Ready(error) = self.write(cx) {
            return Poll::Ready(error);
        }
        if self.is_ending && self.exchanges.is_empty() && self.held_up.is_none() {
            return Poll::Ready("nobody needs it".into());
        }
        Poll::Pending
    }

    fn hear_readers(&mut self, cx: &Context<'_>) {
        let taken = {
            let mut readers = lock(&self.readers);
            readers.waker = Some(cx.waker().clone());
            std::mem::take(&mut readers.taken)
        };
        for (stream, bytes) in taken {
            match bytes {
                Some(bytes) => self.http2.consumed(stream, bytes),
                None => {
                    if self.exchanges.remove(&stream).is_some() {
                        self.http2.reset(stream, Reason::CANCEL);
                    }
                }
            }
        }
    }

    fn take_calls(&mut self, cx: &mut Context<'_>) {
        while self.http2.output().len() < OUTPUT_BYTES_MAX {
            let call = match self.held_up.take() {
                Some(call) => call,
                None if self.is_ending => return,
                None => match self.calls.poll_recv(cx) {
                    Poll::Ready(Some(call)) => call,
                    Poll::Ready(None) => {
                        self.is_ending = true;
                        return;
                    }
                    Poll::Pending => return,
                },
            };
            match self.ask(&call.request, &call.token) {
                Ok(stream) => {
                    let is_watch = call
                        .request
                        .query
                        .split('&')
                        .any(|part| part == "watch=true");
                    let answer = call.answer;
                    self.exchanges
                        .insert(stream, Exchange::Asked { answer, is_watch });
                    if !call.request.body.is_empty() {
                        self.send(stream, call.request.body);
                    }
                }
                // A stream that ends makes room, and wakes this task by what it reads.
                Err(Unopened::Full) => {
                    self.held_up = Some(call);
                    return;
                }
                Err(Unopened::Over) => {
                    let _ = call
                        .answer
                        .send(Err("request failed: the server is going".into()));
                    self.calls.close();
                    self.is_ending = true;
                }
            }
        }
    }

    fn ask(&mut self, request: &Request, token: &str) -> Result<StreamId, Unopened> {
        let target;
        let target = if request.query.is_empty() {
            request.path.as_str()
        } else {
            target = format!("{}?{}", request.path, request.query);
            &target
        };
        let bearer = if token.is_empty() {
            String::new()
        } else {
            format!("Bearer {token}")
        };
        let none_match = request.if_none_match.as_deref().unwrap_or_default();
        let length = match request.body.len() {
            0 => String::new(),
            bytes => bytes.to_string(),
        };
        let fields: [(&str, &str); 10] = [
            (":method", request.method.as_str()),
            (":scheme", "https"),
            (":authority", &self.place),
            (":path", target),
            ("accept", &request.accept),
            ("content-type", &request.content_type),
            ("content-length", &length),
            ("user-agent", &request.user_agent),
            ("authorization", &bearer),
            ("if-none-match", none_match),
        ];
        let fields = fields
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        self.http2.open(fields, request.body.is_empty())
    }

    fn send(&mut self, stream: StreamId, mut body: Bytes) {
        if self.http2.send_data(stream, &mut body, true) == Sent::Blocked {
            self.unsent.insert(stream, body);
        }
    }

    /// Writes until the socket takes no more. Ready with an error.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        while !self.http2.output().is_empty() {
            let first = self.http2.output().first();
            match Pin::new(&mut self.stream).poll_write(cx, first) {
                Poll::Ready(Ok(0)) => return Poll::Ready("the server takes nothing".into()),
                Poll::Ready(Ok(written)) => self.http2.output().advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(error.to_string()),
                Poll::Pending => return Poll::Pending,
            }
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error.to_string()),
            _ => Poll::Pending,
        }
    }

    /// Reads once and looks at what came. Pending when there is nothing.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        self.buffer.resize(READ_BYTES, 0);
        let mut into = ReadBuf::new(&mut self.buffer);
        match Pin::new(&mut self.stream).poll_read(cx, &mut into) {
            Poll::Pending => {
                // Silent connections keep no buffer.
                self.buffer = BytesMut::new();
                return Poll::Pending;
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error.to_string())),
            Poll::Ready(Ok(())) => {}
        }
        let read = into.filled().len();
        if read == 0 {
            return Poll::Ready(Err("the server has closed the connection".into()));
        }
        self.has_heard = true;
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.http2.recv(self.buffer.split_to(read).freeze(), millis);
        while let Some(event) = self.http2.next_event() {
            if let Err(error) = self.look(event) {
                // The rest tells the server why.
                let _ = self.write(cx);
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn look(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Headers {
                stream,
                fields,
                end,
            } => {
                self.head(stream, &fields, end);
                self.http2.recycle(fields);
            }
            Event::Data { stream, data, end } => self.data(stream, data, end),
            Event::Trailers { stream, fields } => {
                self.http2.recycle(fields);
                self.finish(stream);
            }
            Event::Reset { stream, reason } => {
                self.unsent.remove(&stream);
                if let Some(exchange) = self.exchanges.remove(&stream) {
                    end(
                        exchange,
                        &format!("request failed: the stream was reset: {reason:?}"),
                    );
                }
            }
            Event::Writable { stream } => {
                if let Some(body) = self.unsent.remove(&stream) {
                    self.send(stream, body);
                }
            }
            Event::GoAway { .. } => {
                // What is open goes on as far as the server likes; the next call opens another connection.
                self.calls.close();
            }
            Event::Pong { .. } => {}
            Event::Closed(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    fn head(&mut self, stream: StreamId, fields: &Fields, is_end: bool) {
        let text = |name: &str| {
            let value = fields.get(name.as_bytes())?;
            std::str::from_utf8(value).ok().map(str::to_owned)
        };
        let status = text(":status")
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        let Some(Exchange::Asked { answer, is_watch }) = self.exchanges.remove(&stream) else {
            return;
        };
        let content_type = text("content-type").unwrap_or_default();
        let mut reply = Reply::full(status, content_type, Bytes::new());
        reply.headers = HEADERS_KEPT
            .into_iter()
            .filter_map(|name| Some((name, text(name)?)))
            .collect();
        if is_end {
            let _ = answer.send(Ok(reply));
        } else if is_watch && status == 200 {
            let pieces: Arc<StdMutex<Pieces>> = Arc::default();
            let source = WatchSource {
                stream,
                pieces: pieces.clone(),
                readers: self.readers.clone(),
            };
            reply.body = rest::http::Body::Stream(Box::new(source));
            self.exchanges.insert(stream, Exchange::Watches(pieces));
            // Nobody waits for it any more: the source has told so when it was dropped.
            let _ = answer.send(Ok(reply));
        } else {
            let body = BytesMut::new();
            let gathers = Exchange::Gathers {
                answer,
                reply,
                body,
            };
            self.exchanges.insert(stream, gathers);
        }
    }

    fn data(&mut self, stream: StreamId, data: Bytes, is_end: bool) {
        let length = data.len();
        match self.exchanges.get_mut(&stream) {
            Some(Exchange::Gathers { reply, body, .. }) => {
                if body.is_empty() && is_end {
                    reply.body = rest::http::Body::Full(data);
                } else {
                    body.extend_from_slice(&data);
                }
                let is_too_long = body.len() > ANSWER_BYTES_MAX;
                self.http2.consumed(stream, length);
                if is_too_long {
                    self.http2.reset(stream, Reason::CANCEL);
                    if let Some(exchange) = self.exchanges.remove(&stream) {
                        end(exchange, "the reply is larger than 1 GiB: list in pages");
                    }
                    return;
                }
            }
            Some(Exchange::Watches(pieces)) => {
                let mut pieces = lock(pieces);
                if length > 0 {
                    pieces.waiting.push_back(data);
                }
                let waker = pieces.waker.take();
                drop(pieces);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            _ => self.http2.consumed(stream, length),
        }
        if is_end {
            self.finish(stream);
        }
    }

    /// The answer is whole.
    fn finish(&mut self, stream: StreamId) {
        match self.exchanges.remove(&stream) {
            Some(Exchange::Gathers {
                answer,
                mut reply,
                body,
            }) => {
                if !body.is_empty() {
                    reply.body = rest::http::Body::Full(body.freeze());
                }
                let _ = answer.send(Ok(reply));
            }
            Some(exchange) => end(exchange, "request failed: the answer has no head"),
            None => {}
        }
    }
}

/// Tells whoever waits that nothing more comes. A watch just ends, as it does when the server ends it.
fn end(exchange: Exchange, why: &str) {
    match exchange {
        Exchange::Asked { answer, .. } | Exchange::Gathers { answer, .. } => {
            let _ = answer.send(Err(why.to_owned()));
        }
        Exchange::Watches(pieces) => {
            let mut pieces = lock(&pieces);
            pieces.is_over = true;
            let waker = pieces.waker.take();
            drop(pieces);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

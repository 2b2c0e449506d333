//! The short way: unary calls of KV, from the frame to the store and back, without a task, a future or a library.
//!
//! A call runs when its message is whole. An answer that rests on what is not visible yet waits in one queue of its
//! connection, of which only the first leaves a waker: one fsync wakes a connection once, however many answers it has
//! for it. So an answer waits for those before it, even where its own keys are of a faster class.

use std::collections::{HashMap, VecDeque};
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes};
use etcd_wire::etcdserverpb as pb;
use foldhash::fast::RandomState;
use http2::{Connection, Reason, Sent, StreamId};
use http2_shell::has_room;
use kv::Revision;
use prost::Message;
use store::Touched;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Status};

use crate::api::Api;
use crate::h2::exchange::pairs;
use crate::h2::unary::{Asking, Call, Came};
use crate::kv_calls::Answer;
use crate::limits::{
    ANSWER_TIMEOUT, PARTIAL_BYTES_MAX, REQUEST_OVERHEAD_BYTES, RESPONSE_BYTES_MAX,
};
use crate::metrics::Method;

const HEAD: [(&[u8], &[u8]); 2] = [(b":status", b"200"), (b"content-type", b"application/grpc")];
const GOOD: [(&[u8], &[u8]); 1] = [(b"grpc-status", b"0")];
const TOO_MANY: &str = "megaplane: too many bytes of unfinished requests on one connection";

/// The calls of one connection.
#[derive(Debug, Default)]
pub struct Short {
    asking: HashMap<StreamId, Asking, RandomState>,
    partial_bytes: usize,
    /// Calls that are whole and not run: too many answers wait.
    deferred: VecDeque<Ready>,
    waiting: VecDeque<Waiting>,
    /// What the windows did not allow yet.
    sending: HashMap<StreamId, Bytes, RandomState>,
    /// Bytes of answers that are not in the output.
    held_bytes: usize,
    alarm: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// A call that can run.
#[derive(Debug)]
struct Ready {
    stream: StreamId,
    call: Call,
    deadline: Deadline,
    message: Bytes,
    /// Bytes of the windows that it fills.
    owed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Instant,
    /// It is the client's, and not ours.
    is_clients: bool,
}

/// A call that runs.
#[derive(Clone, Copy)]
struct At<'a> {
    stream: StreamId,
    call: Call,
    deadline: Deadline,
    method: &'a Method,
}

/// An answer that waits until what it rests on is visible.
#[derive(Debug)]
struct Waiting {
    stream: StreamId,
    call: Call,
    rests_on: Touched,
    revision: Revision,
    deadline: Deadline,
    reply: Vec<u8>,
}

impl Short {
    /// Bytes of answers that are not in the output.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// A call begins.
    pub fn begin(&mut self, stream: StreamId, asking: Asking) {
        self.asking.insert(stream, asking);
    }

    /// A piece of a message; when it is whole, the call runs, if it `may_run` now. False when the stream is none of
    /// ours.
    pub fn on_data(
        &mut self,
        api: &Api,
        http2: &mut Connection,
        (stream, data, end): (StreamId, Bytes, bool),
        now: Instant,
        may_run: bool,
    ) -> bool {
        let Some(asking) = self.asking.get_mut(&stream) else {
            return false;
        };
        let bytes_max = api
            .node
            .options
            .max_request_bytes
            .saturating_add(REQUEST_OVERHEAD_BYTES);
        let owed = data.len();
        let before = asking.held_bytes();
        let came = asking.push(data, end, bytes_max);
        self.partial_bytes = self.partial_bytes.saturating_sub(before) + asking.held_bytes();
        let came = match came {
            Came::Part if self.partial_bytes > PARTIAL_BYTES_MAX => {
                Came::Bad(Status::resource_exhausted(TOO_MANY))
            }
            came => came,
        };
        if matches!(came, Came::Part) {
            http2.consumed(stream, owed);
            return true;
        }
        let (call, timeout) = (asking.call, asking.timeout);
        self.forget(stream);
        match came {
            Came::Part => {}
            Came::Bad(status) => {
                let method = api.node.metrics.calls.of(call);
                method.begin_whole();
                http2.consumed(stream, owed);
                refuse(http2, method, stream, status);
            }
            Came::Whole(message) => {
                let timeout = timeout.filter(|timeout| *timeout < ANSWER_TIMEOUT);
                let mut ready = Ready {
                    stream,
                    call,
                    deadline: Deadline {
                        at: now + timeout.unwrap_or(ANSWER_TIMEOUT),
                        is_clients: timeout.is_some(),
                    },
                    message,
                    owed,
                };
                if may_run && self.deferred.is_empty() {
                    self.run(api, http2, ready);
                } else {
                    ready.message = Bytes::copy_from_slice(&ready.message);
                    self.deferred.push_back(ready);
                }
            }
        }
        true
    }

    /// The stream is over.
    pub fn on_reset(&mut self, stream: StreamId) {
        self.forget(stream);
        if let Some(rest) = self.sending.remove(&stream) {
            self.held_bytes = self.held_bytes.saturating_sub(rest.len());
        }
    }

    /// There is room for a stream that waited for it.
    pub fn on_writable(&mut self, http2: &mut Connection, stream: StreamId) {
        if let Some(rest) = self.sending.remove(&stream) {
            self.held_bytes = self.held_bytes.saturating_sub(rest.len());
            self.send_rest(http2, stream, rest);
        }
    }

    /// The connection is over.
    pub fn clear(&mut self, api: &Api) {
        for waiting in &self.waiting {
            let method = api.node.metrics.calls.of(waiting.call);
            method.end(Code::Cancelled);
        }
        *self = Short::default();
    }

    /// Nothing is under way here.
    pub fn release(&mut self) {
        self.asking.shrink_to_fit();
        self.sending.shrink_to_fit();
        self.waiting.shrink_to_fit();
        self.deferred.shrink_to_fit();
    }

    /// Runs what was deferred while it may.
    pub fn run_deferred(
        &mut self,
        api: &Api,
        http2: &mut Connection,
        may_run: impl Fn(&Short) -> bool,
    ) {
        while may_run(self) && has_room(http2) {
            let Some(ready) = self.deferred.pop_front() else {
                return;
            };
            self.run(api, http2, ready);
        }
    }

    /// Tells the answers that have become visible, and ends those that waited too long. The first that is not visible
    /// leaves a waker.
    pub fn poll_tell(&mut self, api: &Api, http2: &mut Connection, cx: &mut Context<'_>) {
        while let Some(first) = self.waiting.front() {
            if !has_room(http2) || first.rests_on.poll_visible(first.revision, cx).is_pending() {
                break;
            }
            if let Some(first) = self.waiting.pop_front() {
                self.held_bytes = self.held_bytes.saturating_sub(first.reply.len());
                api.node.metrics.calls.of(first.call).end_well();
                self.send(http2, first.stream, first.reply);
            }
        }
        while let Some((_, alarm)) = &mut self.alarm
            && alarm.as_mut().poll(cx) == Poll::Ready(())
        {
            self.alarm = None;
            self.end_late(api, http2);
        }
    }

    fn end_late(&mut self, api: &Api, http2: &mut Connection) {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        let mut held_bytes = self.held_bytes;
        self.waiting.retain(|waiting| {
            if waiting.deadline.at > now {
                next = Some(next.map_or(waiting.deadline.at, |at| at.min(waiting.deadline.at)));
                return true;
            }
            held_bytes = held_bytes.saturating_sub(waiting.reply.len());
            let status = if waiting.deadline.is_clients {
                Status::deadline_exceeded("context deadline exceeded")
            } else {
                api.node.too_slow()
            };
            let method = api.node.metrics.calls.of(waiting.call);
            refuse(http2, method, waiting.stream, status);
            false
        });
        self.held_bytes = held_bytes;
        if let Some(next) = next {
            self.arm(next);
        }
    }

    fn arm(&mut self, at: Instant) {
        match &mut self.alarm {
            Some((set, _)) if *set <= at => {}
            Some((set, alarm)) => {
                *set = at;
                alarm.as_mut().reset(at);
            }
            None => self.alarm = Some((at, Box::pin(sleep_until(at)))),
        }
    }

    fn forget(&mut self, stream: StreamId) {
        if let Some(asking) = self.asking.remove(&stream) {
            self.partial_bytes = self.partial_bytes.saturating_sub(asking.held_bytes());
        }
    }

    fn run(&mut self, api: &Api, http2: &mut Connection, ready: Ready) {
        let Ready {
            stream,
            call,
            deadline,
            message,
            owed,
        } = ready;
        let method = api.node.metrics.calls.of(call);
        method.begin_whole();
        let at = At {
            stream,
            call,
            deadline,
            method,
        };
        // Looked at now, and not when the call began: the rules may have been turned on meanwhile.
        let access = match api.access_of_peer() {
            Ok(access) => access,
            Err(status) => {
                http2.consumed(stream, owed);
                return refuse(http2, method, stream, status);
            }
        };
        let access = &access;
        match call {
            Call::Txn => {
                let answer = decode(message).and_then(|request| api.call_txn(request, access));
                self.answer(http2, at, answer);
            }
            Call::Range => {
                let answer = decode(message)
                    .and_then(|request: pb::RangeRequest| api.call_range(&request, access));
                self.answer(http2, at, answer);
            }
            Call::Put => {
                let answer = decode(message).and_then(|request| api.call_put(request, access));
                self.answer(http2, at, answer);
            }
            Call::DeleteRange => {
                let answer = decode(message).and_then(|request: pb::DeleteRangeRequest| {
                    api.call_delete_range(&request, access)
                });
                self.answer(http2, at, answer);
            }
        }
        http2.consumed(stream, owed);
    }

    /// Tells an answer, now or when it may be told.
    fn answer(
        &mut self,
        http2: &mut Connection,
        at: At<'_>,
        answer: Result<Answer<impl Message>, Status>,
    ) {
        let At {
            stream,
            call,
            deadline,
            method,
        } = at;
        let answer = match answer {
            Ok(answer) => answer,
            Err(status) => return refuse(http2, method, stream, status),
        };
        let len = answer.message.encoded_len();
        let Some(prefix) = u32::try_from(len)
            .ok()
            .filter(|_| len <= RESPONSE_BYTES_MAX)
        else {
            let text = "grpc: trying to send message larger than max";
            return refuse(http2, method, stream, Status::resource_exhausted(text));
        };
        let whole = len + 5;
        let write = |out: &mut Vec<u8>| {
            out.reserve(whole);
            out.put_u8(0);
            out.put_u32(prefix);
            // A vector grows as it must.
            let _ = answer.message.encode(out);
        };
        if !answer.rests_on.is_visible(answer.revision) {
            let mut reply = Vec::new();
            write(&mut reply);
            self.held_bytes += reply.len();
            self.arm(deadline.at);
            return self.waiting.push_back(Waiting {
                stream,
                call,
                rests_on: answer.rests_on,
                revision: answer.revision,
                deadline,
                reply,
            });
        }
        method.end_well();
        if !http2.send_headers(stream, HEAD, false) {
            return;
        }
        if http2.send_in_place(stream, whole, false, write) {
            http2.send_headers(stream, GOOD, true);
        } else {
            let mut reply = Vec::new();
            write(&mut reply);
            self.send_rest(http2, stream, reply.into());
        }
    }

    fn send(&mut self, http2: &mut Connection, stream: StreamId, reply: Vec<u8>) {
        if !http2.send_headers(stream, HEAD, false) {
            return;
        }
        let copy = |out: &mut Vec<u8>| out.extend_from_slice(&reply);
        if http2.send_in_place(stream, reply.len(), false, copy) {
            http2.send_headers(stream, GOOD, true);
        } else {
            self.send_rest(http2, stream, reply.into());
        }
    }

    /// As much as the windows allow; the rest stays until there is room.
    fn send_rest(&mut self, http2: &mut Connection, stream: StreamId, mut rest: Bytes) {
        match http2.send_data(stream, &mut rest, false) {
            Sent::All => {
                http2.send_headers(stream, GOOD, true);
            }
            Sent::Blocked => {
                self.held_bytes += rest.len();
                self.sending.insert(stream, rest);
            }
            Sent::Gone => {}
        }
    }
}

fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| Status::internal(error.to_string()))
}

/// Ends a call with a status and nothing else.
fn refuse(http2: &mut Connection, method: &Method, stream: StreamId, status: Status) {
    method.end(status.code());
    let headers = status.into_http::<()>().into_parts().0.headers;
    let head = [(&b":status"[..], &b"200"[..])];
    http2.send_headers(stream, head.into_iter().chain(pairs(&headers)), true);
    if http2.is_peer_open(stream) {
        // The rest of its request is not wanted.
        http2.reset(stream, Reason::NO_ERROR);
    }
}

//! One watch stream: many watches, one state machine, polled when the peer can take more.
//!
//! Each watch is a cursor with a waker of its own, so that a thousand silent watches cost nothing when one has
//! events. Nothing is queued but the answer being sent: a peer that does not read stops its own stream here, and
//! its cursors stay where they are.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::{Code, RpcError, event, key_range, mvccpb, watch_range};
use kv::{Event, KeyValue, Revision};
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use prost::Message as _;
use store::{Compacted, OpenError, RangeWatcher, WatchItem};
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tonic::codegen::tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::auth::{Credentials, Deed};
use crate::limits::{
    EVENTS_PER_LOOK, REQUESTS_PER_TURN, WATCH_ANSWER_BYTES, WATCHES_PER_STREAM_MAX,
};
use crate::metrics::count;
use crate::node::Node;
use crate::refuse::store_error;

/// The watch id that is none.
const NO_WATCH: i64 = -1;
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const TOO_MANY: &str = "megaplane: too many watches on one stream";

/// A watch stream.
#[derive(Debug)]
pub struct WatchStream {
    node: Arc<Node>,
    credentials: Credentials,
    /// None once the client has said all it will say; its watches go on.
    requests: Option<Streaming<pb::WatchRequest>>,
    watches: BTreeMap<i64, Watch>,
    next_id: i64,
    signal: Arc<Signal>,
    outbox: VecDeque<pb::WatchResponse>,
    /// Progress requests not answered yet.
    asked: usize,
    /// Runs once a watch wants to hear of its progress.
    ticker: Option<Interval>,
}

#[derive(Debug)]
struct Watch {
    cursor: RangeWatcher,
    /// Progress is not told below this.
    start: Revision,
    prev_kv: bool,
    no_put: bool,
    no_delete: bool,
    progress_notify: bool,
    fragment: bool,
    /// Had events since the ticker ticked.
    is_lively: bool,
    waker: Arc<WatchWaker>,
}

/// Which watches have something, and whom to tell.
#[derive(Debug, Default)]
struct Signal(Mutex<Ready>);

#[derive(Debug, Default)]
struct Ready {
    watches: VecDeque<i64>,
    task: Option<Waker>,
}

#[derive(Debug)]
struct WatchWaker {
    id: i64,
    is_queued: AtomicBool,
    signal: Arc<Signal>,
}

impl Wake for WatchWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let task = {
            let mut ready = self.signal.lock();
            ready.watches.push_back(self.id);
            ready.task.take()
        };
        task.into_iter().for_each(Waker::wake);
    }
}

impl Signal {
    fn lock(&self) -> std::sync::MutexGuard<'_, Ready> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream for WatchStream {
    type Item = Result<pb::WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(response) = this.outbox.pop_front() {
                let events = response.events.len() as u64;
                let sent = &this.node.metrics.watch_events;
                sent.fetch_add(events, Ordering::Relaxed);
                return Poll::Ready(Some(Ok(response)));
            }
            match this.take_requests(cx) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if this.look_at_watches(cx) {
                continue;
            }
            // Nothing is left to be sent: what is asked about progress is answered after all of it.
            if this.tell_progress() || this.tick(cx) {
                continue;
            }
            return Poll::Pending;
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        count(&self.node.metrics.watch_streams_ended);
    }
}

impl WatchStream {
    /// A stream without watches.
    pub fn new(
        node: Arc<Node>,
        credentials: Credentials,
        requests: Streaming<pb::WatchRequest>,
    ) -> Self {
        count(&node.metrics.watch_streams);
        WatchStream {
            node,
            credentials,
            requests: Some(requests),
            watches: BTreeMap::new(),
            next_id: 0,
            signal: Arc::default(),
            outbox: VecDeque::new(),
            asked: 0,
            ticker: None,
        }
    }

    /// Takes requests until one needs an answer. True when there is one.
    fn take_requests(&mut self, cx: &mut Context<'_>) -> Result<bool, Status> {
        for _ in 0..REQUESTS_PER_TURN {
            let Some(requests) = &mut self.requests else {
                return Ok(false);
            };
            match Pin::new(requests).poll_next(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(None) => self.requests = None,
                Poll::Ready(Some(request)) => match request?.request_union {
                    Some(RequestUnion::CreateRequest(create)) => self.create(create),
                    Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
                    Some(RequestUnion::ProgressRequest(_)) => {
                        self.asked = self.asked.saturating_add(1)
                    }
                    None => {}
                },
            }
            if !self.outbox.is_empty() {
                return Ok(true);
            }
        }
        // The others' turn; then again.
        cx.waker().wake_by_ref();
        Ok(false)
    }

    fn create(&mut self, request: pb::WatchCreateRequest) {
        let current = self.node.store.applied();
        let header = self.node.header(current);
        let refused = |reason: &str| pb::WatchResponse {
            header,
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..Default::default()
        };
        if request.start_revision < 0 {
            return self.outbox.push_back(refused(&RpcError::COMPACTED.text));
        }
        if let Err(error) = self.may_watch(&request) {
            return self.outbox.push_back(refused(&said_by_go(error)));
        }
        let Some(range) = watch_range(&request.key, &request.range_end) else {
            return self.outbox.push_back(refused(EMPTY_RANGE));
        };
        if request.watch_id != 0 && self.watches.contains_key(&request.watch_id) {
            return self.outbox.push_back(refused(DUPLICATE_ID));
        }
        let most = self.node.options.watches_per_stream_max;
        if self.watches.len() >= most.min(WATCHES_PER_STREAM_MAX) {
            return self.outbox.push_back(refused(TOO_MANY));
        }
        let start = Revision(request.start_revision);
        let after = if start.0 == 0 {
            current
        } else {
            Revision(start.0 - 1)
        };
        let opened = match self.node.store.watch_range(range, after) {
            Ok(cursor) => Ok(cursor),
            Err(OpenError::Compacted(compacted)) => Err(compacted),
            Err(OpenError::Refused(error)) => {
                return self.outbox.push_back(refused(&store_error(error).text));
            }
        };
        let id = if request.watch_id == 0 {
            self.free_id()
        } else {
            request.watch_id
        };
        self.outbox.push_back(pb::WatchResponse {
            header,
            watch_id: id,
            created: true,
            ..Default::default()
        });
        let cursor = match opened {
            Ok(cursor) => cursor,
            Err(compacted) => return self.end_compacted(id, compacted),
        };
        if request.progress_notify && self.ticker.is_none() {
            self.ticker = Some(ticker(&self.node));
        }
        let has = |filter: FilterType| request.filters.contains(&filter.into());
        let is_queued = AtomicBool::new(false);
        let waker = Arc::new(WatchWaker {
            id,
            is_queued,
            signal: self.signal.clone(),
        });
        let watch = Watch {
            cursor,
            start,
            prev_kv: request.prev_kv,
            no_put: has(FilterType::Noput),
            no_delete: has(FilterType::Nodelete),
            progress_notify: request.progress_notify,
            fragment: request.fragment,
            is_lively: false,
            waker: waker.clone(),
        };
        self.watches.insert(id, watch);
        waker.wake();
    }

    /// Whether whoever opened the stream may see these keys now. What is watched already goes on, as with etcd.
    fn may_watch(&self, request: &pb::WatchCreateRequest) -> Result<(), RpcError> {
        let access = self.node.auth.access(&self.credentials)?;
        let first = Bytes::from_static(&[0]);
        let key = if request.key.is_empty() {
            &first
        } else {
            &request.key
        };
        access.may(Deed::Read, &key_range(key, &request.range_end))
    }

    /// The next number nobody chose.
    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id = self.next_id.saturating_add(1);
        }
        let id = self.next_id;
        self.next_id = self.next_id.saturating_add(1);
        id
    }

    fn cancel(&mut self, id: i64) {
        if self.watches.remove(&id).is_some() {
            let header = self.node.header_now();
            self.outbox.push_back(pb::WatchResponse {
                header,
                watch_id: id,
                canceled: true,
                ..Default::default()
            });
        }
    }

    /// History has gone from under a watch.
    fn end_compacted(&mut self, id: i64, compacted: Compacted) {
        // The first revision a watch may start at.
        let compact_revision = compacted.oldest.0.saturating_add(1);
        // etcd names neither a revision nor a reason here: the compacted revision says it.
        self.outbox.push_back(pb::WatchResponse {
            header: self.node.header(Revision(0)),
            watch_id: id,
            canceled: true,
            compact_revision,
            ..Default::default()
        });
    }

    /// Looks at watches that were woken until one has something to send.
    fn look_at_watches(&mut self, cx: &mut Context<'_>) -> bool {
        let mut items = Vec::new();
        loop {
            let id = {
                let mut ready = self.signal.lock();
                let Some(id) = ready.watches.pop_front() else {
                    ready.task = Some(cx.waker().clone());
                    return false;
                };
                id
            };
            let Some(watch) = self.watches.get_mut(&id) else {
                continue;
            };
            watch.waker.is_queued.store(false, Ordering::Release);
            let waker = Waker::from(watch.waker.clone());
            match watch.cursor.poll_next(
                &mut Context::from_waker(&waker),
                EVENTS_PER_LOOK,
                &mut items,
            ) {
                Poll::Pending => {}
                Poll::Ready(Ok(through)) => {
                    // There may be more: behind the others that wait.
                    waker.wake();
                    let max_bytes = self.node.options.max_request_bytes;
                    watch.send(
                        &self.node,
                        id,
                        items.drain(..),
                        through,
                        max_bytes,
                        &mut self.outbox,
                    );
                }
                Poll::Ready(Err(compacted)) => {
                    self.watches.remove(&id);
                    self.end_compacted(id, compacted);
                }
            }
            if !self.outbox.is_empty() {
                return true;
            }
        }
    }

    /// Answers progress requests: how far everything on this stream has been sent. A stream with a watch that has
    /// not come to its own start has no such place, and gets no answer.
    fn tell_progress(&mut self) -> bool {
        let asked = std::mem::take(&mut self.asked);
        if asked == 0 {
            return false;
        }
        let reach = self
            .watches
            .values()
            .map(|watch| watch.cursor.progress())
            .min();
        let reach = reach.unwrap_or_else(|| self.node.store.applied());
        if self.watches.values().any(|watch| reach < watch.start) {
            return false;
        }
        let header = self.node.header(reach);
        let response = pb::WatchResponse {
            header,
            watch_id: NO_WATCH,
            ..Default::default()
        };
        // However many were asked together, one answer is as good: they would all say the same.
        self.outbox.push_back(response);
        true
    }

    /// Tells watches that asked for it how far they have come, when they had no events meanwhile.
    fn tick(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(ticker) = &mut self.ticker else {
            return false;
        };
        if ticker.poll_tick(cx).is_pending() {
            return false;
        }
        for (id, watch) in &mut self.watches {
            let was_lively = std::mem::take(&mut watch.is_lively);
            let reach = watch.cursor.progress();
            if watch.progress_notify && !was_lively && reach >= watch.start {
                let header = self.node.header(reach);
                self.outbox.push_back(pb::WatchResponse {
                    header,
                    watch_id: *id,
                    ..Default::default()
                });
            }
        }
        // Polled again, so that the next tick wakes us.
        true
    }
}

/// Why a watch is refused: etcd gives the text of its language's error, and its clients look into that.
fn said_by_go(error: RpcError) -> String {
    let (code, text) = match error.code {
        Code::Unauthenticated => ("Unauthenticated", error.text),
        Code::InvalidArgument => ("InvalidArgument", error.text),
        _ => ("PermissionDenied", RpcError::PERMISSION_DENIED.text),
    };
    format!("rpc error: code = {code} desc = {text}")
}

fn ticker(node: &Node) -> Interval {
    let period = node.options.progress_notify_interval;
    let mut ticker = interval_at(tokio::time::Instant::now() + period, period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

impl Watch {
    /// Makes answers of events: whole revisions, about [`WATCH_ANSWER_BYTES`] each.
    fn send(
        &mut self,
        node: &Node,
        id: i64,
        items: impl Iterator<Item = WatchItem>,
        through: Revision,
        max_bytes: usize,
        outbox: &mut VecDeque<pb::WatchResponse>,
    ) {
        let mut answer = pb::WatchResponse {
            watch_id: id,
            ..Default::default()
        };
        let (mut bytes, mut last) = (0, Revision(0));
        let compacted = node.store.compacted();
        for item in items {
            let is_unwanted = if item.value.is_some() {
                self.no_put
            } else {
                self.no_delete
            };
            if is_unwanted {
                continue;
            }
            if bytes >= WATCH_ANSWER_BYTES && item.revision != last {
                let next = pb::WatchResponse {
                    watch_id: id,
                    ..Default::default()
                };
                let mut full = std::mem::replace(&mut answer, next);
                full.header = node.header(last);
                self.push(full, max_bytes, outbox);
                bytes = 0;
            }
            last = item.revision;
            let event = self.event(item, compacted);
            bytes += event.encoded_len();
            answer.events.push(event);
        }
        if !answer.events.is_empty() {
            self.is_lively = true;
            answer.header = node.header(through.max(last));
            self.push(answer, max_bytes, outbox);
        }
    }

    /// One answer, or several pieces of it for a client that can put them together.
    fn push(
        &self,
        answer: pb::WatchResponse,
        max_bytes: usize,
        outbox: &mut VecDeque<pb::WatchResponse>,
    ) {
        if !self.fragment || answer.encoded_len() < max_bytes {
            return outbox.push_back(answer);
        }
        let piece = |events| pb::WatchResponse {
            events,
            fragment: true,
            ..answer.clone_head()
        };
        let (mut events, mut bytes) = (Vec::new(), 0);
        for event in answer.events.iter().cloned() {
            let len = event.encoded_len();
            if !events.is_empty() && bytes + len >= max_bytes {
                outbox.push_back(piece(std::mem::take(&mut events)));
                bytes = 0;
            }
            bytes += len;
            events.push(event);
        }
        outbox.push_back(pb::WatchResponse {
            fragment: false,
            ..piece(events)
        });
    }

    /// The value before is left out where a read of the revision before would be refused, as etcd does: it looks
    /// the value up there. kube-apiserver takes that for the sign that it has fallen behind.
    fn event(&self, item: WatchItem, compacted: Revision) -> mvccpb::Event {
        let tells_prev = self.prev_kv && item.revision > compacted;
        let prev = item.prev.filter(|_| tells_prev).map(|value| KeyValue {
            key: item.key.clone(),
            value,
            create_revision: item.create_revision,
            mod_revision: item.prev_mod_revision,
            version: item.prev_version,
            lease: item.prev_lease,
        });
        event(match item.value {
            Some(value) => Event::Put {
                kv: KeyValue {
                    key: item.key,
                    value,
                    create_revision: item.create_revision,
                    mod_revision: item.revision,
                    version: item.version,
                    lease: item.lease,
                },
                prev,
            },
            None => Event::Delete {
                key: item.key,
                revision: item.revision,
                prev,
            },
        })
    }
}

/// Everything of an answer but its events.
trait Head {
    fn clone_head(&self) -> pb::WatchResponse;
}

impl Head for pb::WatchResponse {
    fn clone_head(&self) -> pb::WatchResponse {
        pb::WatchResponse {
            header: self.header,
            watch_id: self.watch_id,
            ..Default::default()
        }
    }
}

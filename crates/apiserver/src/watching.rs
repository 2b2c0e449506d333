//! Watch: the current state if asked for, then events as they become visible, until the time is over.
//!
//! A source of frames that is polled by whoever writes them out, so that a slow reader holds a cursor and nothing
//! else. Selectors turn changes into appearances and disappearances (k8s api-concepts#efficient-detection-of-changes).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http2_shell::Alarm;
use kv::Revision;
use meta::ApiError;
use rest::http::{FrameSource, Reply, Told};
use rest::negotiate::{MediaType, Output, Transform};
use rest::paths::Query;
use rest::table::IncludeObject;
use rest::watch_frame::{self, EventType, FrameWriter};
use store::{OpenError, Seen, WatchItem, Watcher};
use tokio::time::Instant;

use crate::encode::Item;
use crate::frames::FrameMedia;
use crate::listing::FIRST_LOOKS;
use crate::read::LOOKS_AT_ONCE;
use crate::select::{Selection, namespace_prefix};
use crate::state::{Served, State, now_micros, random};
use crate::stopping::Seat;
use crate::write::store_error;

/// Without `timeoutSeconds` a watch ends after this long and up to twice as long (k8s `--min-request-timeout`).
const WATCH_SECONDS_MIN: u64 = 1800;
/// Time between bookmarks (k8s cacher: one a minute).
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// Events taken from the store at a time.
const EVENTS_AT_ONCE: usize = 128;

thread_local! {
    /// Room for so many, shared by the watches of a thread: only one has its turn.
    static BATCH: RefCell<Vec<WatchItem>> = RefCell::default();
}

/// Bytes of frames that are joined before they are handed to the connection.
const PIECE_BYTES: usize = 64 * 1024;
/// Events and objects looked at in one turn. A selection may want none of them, and others wait for theirs.
const LOOKS_A_TURN: usize = 4096;

/// The initial state was read so slowly that it is history.
const INITIAL_EXPIRED: &str =
    "the state at the beginning of the watch was read too slowly and is no longer kept";

/// Opens a watch and gives its reply.
pub async fn watch_reply(
    state: &Arc<State>,
    served: &Arc<Served>,
    namespace: &str,
    selection: Selection,
    query: &Query,
    output: &Output,
) -> Result<Reply, ApiError> {
    let include = query.include_object()?;
    let initial = query.wants_initial_state();
    let from = match query.resource_version.filter(|version| *version > 0) {
        Some(version) if !initial => version,
        // From now on, with or without what there is now.
        _ => state.settled(served, query).await?.0,
    };
    let gone = |requested: i64, oldest: i64| {
        ApiError::expired(format!("too old resource version: {requested} ({oldest})"))
    };
    let opened = served
        .collection
        .watch(Revision(from), selection.interest(served, namespace));
    let (watcher, error) = match opened {
        Ok(mut watcher) => {
            if !selection.looks_at_values() {
                watcher.leave_out_prev();
            }
            (Some(watcher), None)
        }
        // Parameters were fine: the news that history is gone comes as an event (k8s api-concepts#410-gone-responses).
        Err(OpenError::Compacted(compacted)) => (None, Some(gone(from, compacted.oldest.0))),
        Err(OpenError::Refused(error)) => return Err(store_error(error)),
    };
    let initial = initial.then(|| {
        let (next, end) = selection.range(served, namespace);
        Initial {
            next,
            end,
            revision: Revision(from),
            looks: FIRST_LOOKS,
        }
    });
    let seconds = match query.timeout_seconds {
        Some(seconds) if seconds > 0 => seconds.unsigned_abs(),
        _ => WATCH_SECONDS_MIN + random() % WATCH_SECONDS_MIN,
    };
    let now = Instant::now();
    let deadline = now + Duration::from_secs(seconds);
    state.metrics.watches_open.fetch_add(1, Relaxed);
    served.frames.enter();
    let initial_end = query.wants_initial_events_end();
    let source = WatchSource {
        state: state.clone(),
        served: served.clone(),
        namespace_prefix: namespace_prefix(namespace).into(),
        selection,
        output: *output,
        include,
        watcher,
        error: error.map(Box::new),
        initial: initial.map(Box::new),
        initial_end,
        bookmarks: query.allow_watch_bookmarks,
        sent: from,
        waiting: VecDeque::new(),
        delivered: from,
        rows_sent: false,
        bookmark_at: now + BOOKMARK_INTERVAL,
        deadline,
        alarm: Alarm::new(deadline.min(now + BOOKMARK_INTERVAL)),
        stopping: state.stopping.enter(),
        ended: false,
    };
    Ok(Reply::stream(
        output.stream_content_type(),
        Box::new(source),
    ))
}

/// The state at the beginning, read as it is sent: who reads slowly holds a place in it and no objects.
struct Initial {
    next: Bytes,
    end: Option<Bytes>,
    revision: Revision,
    /// Objects that a piece holds, going by the last one.
    looks: usize,
}

/// One open watch. There may be a million of them, so what is rarely there is boxed.
struct WatchSource {
    state: Arc<State>,
    served: Arc<Served>,
    namespace_prefix: Box<str>,
    selection: Selection,
    output: Output,
    include: IncludeObject,
    watcher: Option<Watcher>,
    /// The one event there is to send, if the watch could not begin.
    error: Option<Box<ApiError>>,
    /// What is still to be sent of the state at the beginning.
    initial: Option<Box<Initial>>,
    initial_end: bool,
    bookmarks: bool,
    /// Everything up to this revision has been sent.
    sent: i64,
    /// Events from the store that did not fit the last piece.
    waiting: VecDeque<WatchItem>,
    /// With the waiting events, everything up to this revision will have been sent.
    delivered: i64,
    /// A Table stream carries its columns in the first event only.
    rows_sent: bool,
    /// When the next bookmark is due, and when the watch ends. One alarm is set to the nearer of both.
    bookmark_at: Instant,
    deadline: Instant,
    alarm: Alarm,
    stopping: Seat,
    ended: bool,
}

impl Drop for WatchSource {
    fn drop(&mut self) {
        self.state.stopping.leave(self.stopping);
        self.state.metrics.watches_open.fetch_sub(1, Relaxed);
        self.served.frames.leave();
    }
}

impl FrameSource for WatchSource {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut out = Out::default();
        let more = self.turn(cx, &mut out);
        more.map(|more| more.then(|| out.frames.into()))
    }

    fn poll_told(&mut self, cx: &mut Context<'_>, told: &mut VecDeque<Told>) -> Poll<bool> {
        let mut out = Out {
            told: Some(std::mem::take(told)),
            ..Out::default()
        };
        let more = self.turn(cx, &mut out);
        out.join();
        *told = out.told.unwrap_or_default();
        more
    }
}

/// What one turn has to say.
#[derive(Default)]
struct Out {
    frames: Vec<u8>,
    /// For a reader in this process: what came before `frames`.
    told: Option<VecDeque<Told>>,
    /// Bytes of the messages in `told`.
    told_bytes: usize,
}

impl Out {
    fn len(&self) -> usize {
        self.frames.len() + self.told_bytes
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts the frames to what is told.
    fn join(&mut self) {
        if let Some(told) = &mut self.told
            && !self.frames.is_empty()
        {
            self.told_bytes += self.frames.len();
            told.push_back(Told::Piece(std::mem::take(&mut self.frames).into()));
        }
    }
}

impl WatchSource {
    /// Says what there is; false when the watch has ended and nothing is left to say.
    fn turn(&mut self, cx: &mut Context<'_>, out: &mut Out) -> Poll<bool> {
        if self.ended {
            return Poll::Ready(false);
        }
        if let Some(error) = self.error.take() {
            return self.fail(&error, out);
        }
        let mut looks = 0;
        let more = match self.initial_piece(&mut looks, out) {
            Ok(true) => Ok(true),
            Ok(false) => self.events(cx, &mut looks, out),
            Err(error) => Err(error),
        };
        match more {
            Err(error) => return self.fail(&error, out),
            Ok(true) if out.is_empty() => cx.waker().wake_by_ref(),
            Ok(_) => {}
        }
        self.timers(cx, &mut out.frames);
        if out.is_empty() {
            return if self.ended {
                Poll::Ready(false)
            } else {
                Poll::Pending
            };
        }
        Poll::Ready(true)
    }

    /// Bookmarks, the end of the watch's time, the end of the server.
    fn timers(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) {
        let mut due = false;
        // Polled again at once after it is set, so that the new time wakes this task.
        while !self.ended && self.alarm.poll(cx).is_ready() {
            let now = Instant::now();
            self.ended |= now >= self.deadline;
            if now >= self.bookmark_at {
                due = true;
                self.bookmark_at = now + BOOKMARK_INTERVAL;
            }
            self.alarm.set(self.bookmark_at.min(self.deadline));
        }
        self.ended |= self.state.stopping.poll(self.stopping, cx).is_ready();
        // Before the initial state is complete there is no version to go on from.
        if self.bookmarks && self.initial.is_none() && (due || self.ended) {
            if self.waiting.is_empty() {
                let progress = self
                    .watcher
                    .as_ref()
                    .map_or(self.sent, |watcher| watcher.progress().0);
                self.sent = self.sent.max(progress);
            }
            self.write_bookmark(false, out);
        }
    }

    fn fail(&mut self, error: &ApiError, out: &mut Out) -> Poll<bool> {
        self.writer().error(error, &mut out.frames);
        self.ended = true;
        self.watcher = None;
        Poll::Ready(true)
    }

    /// Writes what fits of the state at the beginning; true if there is more of it.
    fn initial_piece(&mut self, looks: &mut usize, out: &mut Out) -> Result<bool, ApiError> {
        let Some(mut initial) = self.initial.take() else {
            return Ok(false);
        };
        let served = self.served.clone();
        while *looks < LOOKS_A_TURN {
            let (before, mut shown, mut failed) = (out.len(), 0, Ok(()));
            let (end, at) = (initial.end.as_deref(), initial.revision);
            let more = served
                .collection
                .visit(&initial.next, end, at, initial.looks, |seen| {
                    if out.len() >= PIECE_BYTES {
                        return false;
                    }
                    shown += 1;
                    failed = self.initial_object(&served, seen, out);
                    failed.is_ok()
                })
                .map_err(|_| ApiError::expired(INITIAL_EXPIRED))?;
            failed?;
            *looks += initial.looks;
            // As many as one piece holds: what is read and not sent is read again.
            let each = (out.len() - before) / shown.max(1);
            initial.looks = (PIECE_BYTES / each.max(1) + 1).min(LOOKS_AT_ONCE);
            match more.next {
                None => {
                    if self.initial_end {
                        self.write_bookmark(true, &mut out.frames);
                    }
                    return Ok(false);
                }
                Some(next) => initial.next = next,
            }
            if out.len() >= PIECE_BYTES {
                break;
            }
        }
        self.initial = Some(initial);
        Ok(true)
    }

    /// Writes an object of the state at the beginning, if it is meant.
    fn initial_object(
        &mut self,
        served: &Served,
        seen: &Seen<'_>,
        out: &mut Out,
    ) -> Result<(), ApiError> {
        if !self.selection.matches(served, seen.key(), seen.value())? {
            return Ok(());
        }
        let revision = seen.mod_revision().0;
        if self.output.transform != Transform::None || !served.is_direct() {
            let (key, record) = seen.keep();
            return self.frame(EventType::Added, &key, &record.value, revision, out);
        }
        // Past the frames that are kept for everybody: those are of what happens now.
        self.state.metrics.watch_events.fetch_add(1, Relaxed);
        let version = revision.to_string();
        self.writer()
            .object(EventType::Added, seen.value(), &version, &mut out.frames)
    }

    /// Writes the events there are, as far as they fit; true if there may be more at once.
    fn events(
        &mut self,
        cx: &mut Context<'_>,
        looks: &mut usize,
        out: &mut Out,
    ) -> Result<bool, ApiError> {
        let mut batch = BATCH.take();
        let more = self.batches(cx, looks, out, &mut batch);
        batch.clear();
        BATCH.set(batch);
        more
    }

    fn batches(
        &mut self,
        cx: &mut Context<'_>,
        looks: &mut usize,
        out: &mut Out,
        batch: &mut Vec<WatchItem>,
    ) -> Result<bool, ApiError> {
        loop {
            while let Some(item) = self.waiting.pop_front() {
                self.event(&item, out)?;
                *looks += 1;
                if out.len() >= PIECE_BYTES || *looks >= LOOKS_A_TURN {
                    return Ok(true);
                }
            }
            self.sent = self.sent.max(self.delivered);
            let Some(watcher) = self.watcher.as_mut() else {
                return Ok(false);
            };
            match watcher.poll_next(cx, EVENTS_AT_ONCE, batch) {
                Poll::Pending => {
                    // Who has nothing to send holds no room for it.
                    self.waiting = VecDeque::new();
                    return Ok(false);
                }
                Poll::Ready(Err(compacted)) => {
                    let text = format!(
                        "too old resource version: {} ({})",
                        self.sent, compacted.oldest.0
                    );
                    return Err(ApiError::expired(text));
                }
                Poll::Ready(Ok(revision)) => {
                    self.waiting.extend(batch.drain(..));
                    self.delivered = revision.0;
                }
            }
        }
    }

    /// Writes one change as the selection sees it.
    fn event(&mut self, item: &WatchItem, out: &mut Out) -> Result<(), ApiError> {
        if !item.key.starts_with(self.namespace_prefix.as_bytes()) {
            return Ok(());
        }
        let matches = |message: &Bytes| self.selection.matches(&self.served, &item.key, message);
        let is = item.value.as_ref().map_or(Ok(false), matches)?;
        let was = match &item.prev {
            Some(prev) => matches(prev)?,
            // Left out, because it says no more than the key does; or there was none.
            None => is && item.create_revision < item.revision,
        };
        let revision = item.revision.0;
        match (&item.value, &item.prev) {
            (Some(value), _) if is && !was => {
                self.frame(EventType::Added, &item.key, value, revision, out)
            }
            (Some(value), _) if is => {
                self.frame(EventType::Modified, &item.key, value, revision, out)
            }
            // Gone, or gone out of sight: the last state that was seen, at the version of its going.
            (_, Some(prev)) if was => {
                self.frame(EventType::Deleted, &item.key, prev, revision, out)
            }
            _ => Ok(()),
        }
    }

    fn frame(
        &mut self,
        event: EventType,
        key: &Bytes,
        message: &Bytes,
        revision: i64,
        out: &mut Out,
    ) -> Result<(), ApiError> {
        self.state.metrics.watch_events.fetch_add(1, Relaxed);
        if self.output.transform != Transform::None || !self.served.is_direct() {
            return self.transformed(event, message, revision, &mut out.frames);
        }
        out.join();
        if let Some(told) = &mut out.told
            && self.output.media == MediaType::Protobuf
        {
            out.told_bytes += message.len();
            told.push_back(Told::Object {
                event,
                message: message.clone(),
                revision,
            });
            return Ok(());
        }
        let out = &mut out.frames;
        if !self.served.frames.is_shared() {
            let version = revision.to_string();
            return self.writer().object(event, message, &version, out);
        }
        let media = self.media();
        let frame =
            self.served
                .frames
                .get_or_encode(revision, key, media, event.as_str(), || {
                    let mut frame = Vec::with_capacity(message.len() + 128);
                    self.writer()
                        .object(event, message, &revision.to_string(), &mut frame)?;
                    Ok::<_, ApiError>(frame.into())
                })?;
        out.extend_from_slice(&frame);
        Ok(())
    }

    /// Events of another shape than the stored one: Table, PartialObjectMetadata, another version.
    fn transformed(
        &mut self,
        event: EventType,
        message: &Bytes,
        revision: i64,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let item = Item {
            message: message.clone(),
            revision,
        };
        let decoded = self.served.decode(&item.message, Revision(item.revision))?;
        let resource = self.served.resource;
        let object = match self.output.transform {
            Transform::Table => {
                let with_columns = !std::mem::replace(&mut self.rows_sent, true);
                rest::table::object_table(
                    resource.group,
                    resource.kind,
                    &decoded,
                    self.include,
                    with_columns,
                    now_micros(),
                )
            }
            Transform::PartialObjectMetadata | Transform::PartialObjectMetadataList => {
                rest::table::partial_object_metadata(&decoded)
            }
            Transform::None => decoded,
        };
        self.write_tree(event, &object, out)
    }

    fn write_tree(
        &self,
        event: EventType,
        object: &meta::Value,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        if self.output.media != MediaType::Protobuf {
            watch_frame::json_tree(event, object, out);
            return Ok(());
        }
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        let Some(type_id) = schema::kind_type(api_version, kind) else {
            return Err(ApiError::not_acceptable(format!(
                "{kind} has no protobuf form"
            )));
        };
        let mut message = Vec::with_capacity(512);
        schema::encode_protobuf(type_id, object, &mut message)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        let version = meta::object::resource_version(object).to_owned();
        FrameWriter::new(MediaType::Protobuf, api_version, kind, type_id)
            .object(event, &message, &version, out)
    }

    /// A bookmark has the kind of the objects between which it comes.
    fn write_bookmark(&mut self, initial_end: bool, out: &mut Vec<u8>) {
        let version = self.sent.to_string();
        match self.output.transform {
            Transform::None if initial_end => self.writer().bookmark(&version, true, out),
            Transform::None => {
                let frames = &self.served.frames;
                let frame = frames.bookmark(self.sent, self.media(), |frame| {
                    self.writer().bookmark(&version, false, frame);
                });
                out.extend_from_slice(&frame);
            }
            Transform::Table => {
                let table = value::json!({"kind": "Table", "apiVersion": self.output.meta_version.api_version(),
                    "metadata": {"resourceVersion": version}, "columnDefinitions": [], "rows": []});
                watch_frame::json_tree(EventType::Bookmark, &table, out);
            }
            Transform::PartialObjectMetadata | Transform::PartialObjectMetadataList => {
                let kind = "PartialObjectMetadata";
                let Some(type_id) = schema::kind_type("meta.k8s.io/v1", kind) else {
                    return;
                };
                FrameWriter::new(
                    self.output.media,
                    self.output.meta_version.api_version(),
                    kind,
                    type_id,
                )
                .bookmark(&version, initial_end, out);
            }
        }
    }

    fn media(&self) -> FrameMedia {
        match self.output.media {
            MediaType::Protobuf => FrameMedia::Protobuf,
            _ => FrameMedia::Json,
        }
    }

    fn writer(&self) -> FrameWriter<'_> {
        let resource = self.served.resource;
        FrameWriter::new(
            self.output.media,
            self.served.api_version(),
            resource.kind,
            resource.type_id,
        )
    }
}

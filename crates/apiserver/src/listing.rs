//! Lists as replies: whole when they are small, and otherwise written while they are read.
//!
//! ```text
//!   gathered, then written          page with a limit, Table, PartialObjectMetadata, pretty, YAML, another version
//!   first megabyte, then a cursor   everything else: no list is held, whatever its length
//! ```
//!
//! A protobuf list tells its length before its first item. For all objects of a kind the store keeps the sum; for a part
//! of them a first walk adds it up. The cursor reads at one revision: what writers replace meanwhile comes out of
//! history, and a client that reads so slowly that history has passed it gets half a list and no end of it.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use kv::Revision;
use meta::{ApiError, Value};
use rest::http::{Body, FrameSource, Reply};
use rest::list::{self, ListKind, ListMeta, ListWriter};
use rest::negotiate::{MediaType, Output, Transform};
use rest::paths::Query;
use rest::table::{self, IncludeObject};

use crate::encode::{self, Item};
use crate::read::{LOOKS_AT_ONCE, Page, Stretch};
use crate::select::Selection;
use crate::state::{Served, State, now_micros};

/// Bytes of a list that are encoded before they are handed to the connection.
const PIECE_BYTES: usize = 64 * 1024;
/// Bodies up to this size go out whole, with their length.
const WHOLE_BYTES_MAX: usize = 1 << 20;
/// Objects looked at in one turn. A selection may want none of them, and others wait for theirs.
const LOOKS_A_TURN: usize = 4096;
/// Objects read at a time while nobody knows how large they are.
pub const FIRST_LOOKS: usize = 32;

impl State {
    /// A list as a reply.
    pub async fn list(
        &self,
        served: &Arc<Served>,
        namespace: &str,
        selection: Selection,
        query: &Query,
        (output, include): (&Output, IncludeObject),
    ) -> Result<Reply, ApiError> {
        let stretch = self.stretch(served, namespace, selection, query).await?;
        let limit = query.limit.unwrap_or(usize::MAX);
        let is_limited = limit
            < stretch
                .standing
                .map_or(usize::MAX, |standing| standing.keys);
        if is_limited || !is_written_directly(served, output) || output.media == MediaType::Yaml {
            let page = self.page(served, namespace, stretch, limit).await?;
            return list_reply(served.clone(), page, output, include);
        }
        stream_reply(served, namespace, stretch, output).await
    }
}

/// Whether items are written from their stored bytes, one by one.
fn is_written_directly(served: &Served, output: &Output) -> bool {
    let is_pretty = output.pretty && output.media == MediaType::Json;
    output.transform == Transform::None && !is_pretty && served.is_direct()
}

/// The whole stretch: what is small at once, what is large as a cursor.
async fn stream_reply(
    served: &Arc<Served>,
    namespace: &str,
    mut stretch: Stretch,
    output: &Output,
) -> Result<Reply, ApiError> {
    let is_all = stretch.is_all(namespace);
    let begin = stretch.next.clone();
    let (mut items, mut size) = (Vec::new(), 0);
    let mut wanted = true;
    while stretch.next.is_some() && wanted {
        tokio::task::yield_now().await;
        stretch.visit(served, LOOKS_AT_ONCE, &mut wanted, |seen| {
            let (_, record) = seen.keep();
            size += record.value.len();
            items.push(Item {
                message: record.value,
                revision: record.mod_revision.0,
            });
            Ok(size <= WHOLE_BYTES_MAX)
        })?;
    }
    let mut stream = ListStream::new(served.clone(), stretch.revision.0, output.media);
    let is_whole = stretch.next.is_none();
    let summed = stretch.standing.filter(|_| is_all);
    stream.measured_bytes = match summed {
        _ if is_whole || output.media != MediaType::Protobuf => None,
        Some(standing) => usize::try_from(standing.weight).ok(),
        None => {
            let rest = stretch.next.take();
            stretch.next = begin;
            let measured = measure(served, &mut stretch).await?;
            stretch.next = rest;
            Some(measured)
        }
    };
    stream.items = items;
    stream.rest = (!is_whole).then_some(stretch);
    stream.reply(size, output)
}

/// Bytes of all items of a stretch in a protobuf list.
async fn measure(served: &Served, stretch: &mut Stretch) -> Result<usize, ApiError> {
    let (mut measured, mut version) = (0, itoa());
    while stretch.next.is_some() {
        tokio::task::yield_now().await;
        stretch.visit(served, LOOKS_AT_ONCE, &mut true, |seen| {
            measured += list::item_len(seen.value(), version.of(seen.mod_revision().0));
            Ok(true)
        })?;
    }
    Ok(measured)
}

/// What an item of the length of `value` adds to the length of a protobuf list; for the store, which keeps the sum.
pub fn weigh(value: &[u8], modified: Revision) -> u64 {
    // Only the number of digits counts.
    const DIGITS: &str = "0000000000000000000";
    let digits = modified.0.unsigned_abs().max(1).ilog10() as usize + 1;
    list::item_len(value, DIGITS.get(..digits).unwrap_or(DIGITS)) as u64
}

/// A page as a reply.
pub fn list_reply(
    served: Arc<Served>,
    page: Page,
    output: &Output,
    include: IncludeObject,
) -> Result<Reply, ApiError> {
    match output.transform {
        Transform::None => {}
        Transform::Table => {
            let items = decode_all(&served, &page)?;
            let resource = served.resource;
            let version = page.revision.to_string();
            let meta = table_meta(&page, &version);
            let table = table::table(
                resource.group,
                resource.kind,
                items.iter(),
                include,
                &meta,
                now_micros(),
            );
            return encode::value_reply(200, table, output);
        }
        Transform::PartialObjectMetadata | Transform::PartialObjectMetadataList => {
            let items = decode_all(&served, &page)?;
            let version = page.revision.to_string();
            let list =
                table::partial_object_metadata_list(items.iter(), &table_meta(&page, &version));
            return encode::value_reply(200, list, output);
        }
    }
    if !is_written_directly(&served, output) {
        let mut list = value::json!({
            "kind": served.resource.list_kind, "apiVersion": served.api_version(),
            "metadata": table_meta(&page, &page.revision.to_string()).to_value(),
        });
        list["items"] = decode_all(&served, &page)?.into();
        return encode::value_reply(200, list, output);
    }
    let size: usize = page.items.iter().map(|(_, item)| item.message.len()).sum();
    let mut stream = ListStream::new(served, page.revision, output.media);
    stream.continue_token = page.continue_token;
    stream.remaining = page.remaining;
    stream.items = page.items.into_iter().map(|(_, item)| item).collect();
    stream.reply(size, output)
}

fn decode_all(served: &Served, page: &Page) -> Result<Vec<Value>, ApiError> {
    page.items
        .iter()
        .map(|(_, item)| served.decode(&item.message, Revision(item.revision)))
        .collect()
}

fn table_meta<'a>(page: &'a Page, version: &'a str) -> table::ListMeta<'a> {
    table::ListMeta {
        resource_version: version,
        continue_token: &page.continue_token,
        remaining_item_count: page.remaining.and_then(|count| i64::try_from(count).ok()),
    }
}

/// A list that is encoded while it is written.
struct ListStream {
    served: Arc<Served>,
    media: MediaType,
    api_version: String,
    revision: i64,
    continue_token: String,
    remaining: Option<u64>,
    /// Bytes of all items, if that had to be known and these here are not all.
    measured_bytes: Option<usize>,
    /// What comes first, in memory, and how much of it is written.
    items: Vec<Item>,
    next: usize,
    /// What comes then, still in the store.
    rest: Option<Stretch>,
    /// Objects that a piece holds, going by the last one.
    looks: usize,
    begun: bool,
    ended: bool,
    /// Counts what is written, across pieces; its texts live in `api_version` and the schema.
    written: u64,
}

impl ListStream {
    fn new(served: Arc<Served>, revision: i64, media: MediaType) -> ListStream {
        let api_version = served.api_version().to_owned();
        ListStream {
            served,
            media,
            api_version,
            revision,
            continue_token: String::new(),
            remaining: None,
            measured_bytes: None,
            items: Vec::new(),
            next: 0,
            rest: None,
            looks: FIRST_LOOKS,
            begun: false,
            ended: false,
            written: 0,
        }
    }

    /// The reply with this list, of which at least so many bytes are in memory.
    fn reply(mut self, size: usize, output: &Output) -> Result<Reply, ApiError> {
        let content_type = output.content_type();
        // YAML puts its metadata behind the items and is written in one go.
        if self.rest.is_some() || size > WHOLE_BYTES_MAX && self.media != MediaType::Yaml {
            return Ok(Reply::stream(content_type, Box::new(self)));
        }
        let mut body = Vec::with_capacity(size * 2 + 256);
        while !self.ended {
            self.piece(&mut body, usize::MAX)?;
        }
        Ok(Reply {
            body: Body::Full(body.into()),
            ..Reply::full(200, content_type, Bytes::new())
        })
    }

    /// Appends the next piece, which may be empty, or the end.
    fn piece(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), ApiError> {
        let kind = ListKind {
            api_version: &self.api_version,
            kind: self.served.resource.list_kind,
            item_type: self.served.resource.type_id,
            item_type_meta: None,
        };
        let mut writer = ListWriter::resumed(self.media, kind, self.written);
        let mut version = itoa();
        if !self.begun {
            self.begun = true;
            if let Some(measured) = self.measured_bytes {
                writer = writer.with_measured(measured);
            } else if writer.needs_measuring() {
                for item in &self.items {
                    writer.measure(&item.message, version.of(item.revision));
                }
            }
            let meta = ListMeta {
                resource_version: &self.revision.to_string(),
                continue_token: &self.continue_token,
                remaining_item_count: self.remaining,
            };
            writer.head(&meta, out);
        }
        let limit = out.len().saturating_add(bytes_max);
        while let Some(item) = self.items.get_mut(self.next) {
            self.next += 1;
            // Taken out, so that the bytes are let go as the list goes on.
            let message = std::mem::take(&mut item.message);
            writer.item(&message, version.of(item.revision), out)?;
            self.written += 1;
            if out.len() >= limit {
                return Ok(());
            }
        }
        if !self.items.is_empty() {
            self.items = Vec::new();
        }
        let mut looks = 0;
        while let Some(rest) = self.rest.as_mut().filter(|rest| rest.next.is_some()) {
            let (before, written) = (out.len(), self.written);
            let mut wanted = true;
            rest.visit(&self.served, self.looks, &mut wanted, |seen| {
                writer.item(seen.value(), version.of(seen.mod_revision().0), out)?;
                self.written += 1;
                Ok(out.len() < limit)
            })?;
            looks += self.looks;
            // As many as one piece holds: what is read and not written is read again.
            let count = usize::try_from(self.written - written).unwrap_or(1);
            let each = (out.len() - before) / count.max(1);
            self.looks = (PIECE_BYTES / each.max(1) + 1).min(LOOKS_AT_ONCE);
            if !wanted || looks >= LOOKS_A_TURN {
                return Ok(());
            }
        }
        writer.tail(out);
        self.ended = true;
        Ok(())
    }
}

impl FrameSource for ListStream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut out = Vec::with_capacity(PIECE_BYTES + 8192);
        match self.piece(&mut out, PIECE_BYTES) {
            Ok(()) if out.is_empty() && !self.ended => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(()) => Poll::Ready(Some(out.into())),
            Err(error) => {
                // The head is out: all that is left is to break off, which clients take for a failed list.
                tracing::error!(%error.message, "a list broke off");
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }
}

/// Numbers as text in one reused buffer.
struct Itoa(String);

fn itoa() -> Itoa {
    Itoa(String::with_capacity(20))
}

impl Itoa {
    fn of(&mut self, number: i64) -> &str {
        use std::fmt::Write as _;
        self.0.clear();
        let _ = write!(self.0, "{number}");
        &self.0
    }
}

//! Get and list: one object, or a consistent page written piece by piece.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use kv::Revision;
use meta::{ApiError, Value};
use rest::continue_token::{self, ContinueToken};
use rest::http::{Body, FrameSource, Reply};
use rest::list::{ListKind, ListMeta, ListWriter};
use rest::negotiate::{MediaType, Output, Transform};
use rest::paths::{Query, ResourceVersionMatch};
use rest::table::{self, IncludeObject};
use store::ReadError;

use crate::encode::{self, Item};
use crate::select::{Selection, namespace_prefix};
use crate::state::{Served, State, now_micros, visible};

/// Longest wait for a version that is asked for and not reached yet (k8s cacher: 3 s).
const FRESH_WAIT: Duration = Duration::from_secs(3);
/// Objects read from the store at a time.
const PAGE_OBJECTS: usize = 512;
/// Objects up to which `remainingItemCount` is given: counting walks the names under the collection's lock, once a page,
/// and clients must not rely on it.
const COUNTED_OBJECTS_MAX: usize = 50_000;
/// Bytes of a list that are encoded before they are handed to the connection.
const PIECE_BYTES: usize = 64 * 1024;
/// Bodies up to this size go out whole, with their length.
const WHOLE_BYTES_MAX: usize = 1 << 20;

/// The items of a list, by reference: bytes are shared with the store.
pub struct Page {
    /// The items with their keys.
    pub items: Vec<(Bytes, Item)>,
    /// The version at which the list is true.
    pub revision: i64,
    /// Token of the next page, empty on the last.
    pub continue_token: String,
    /// Items behind this page, if nothing was selected out.
    pub remaining: Option<u64>,
}

impl State {
    /// Reads one object.
    pub async fn get(
        &self,
        served: &Served,
        namespace: &str,
        name: &str,
        query: &Query,
    ) -> Result<Item, ApiError> {
        self.wait_fresh(served, query.resource_version).await?;
        match served.collection.get(&served.key(namespace, name)) {
            Some(record) => {
                visible(&served.collection, record.mod_revision).await;
                Ok(Item {
                    message: record.value,
                    revision: record.mod_revision.0,
                })
            }
            None => {
                visible(&served.collection, served.collection.revision()).await;
                Err(ApiError::not_found(&served.group_resource(), name))
            }
        }
    }

    /// Gathers one page of a list (k8s api-concepts#semantics-for-get-and-list).
    pub async fn page(
        &self,
        served: &Served,
        namespace: &str,
        selection: &Selection,
        query: &Query,
    ) -> Result<Page, ApiError> {
        let prefix = namespace_prefix(namespace);
        let (mut first, end) = selection.range(served, namespace);
        let token = match query.continue_token.as_str() {
            "" => None,
            text => Some(ContinueToken::decode(text)?),
        };
        // A list at an exact version, or the next page of one, may be too old; anything else reads the newest state.
        let exact = match &token {
            Some(token) if token.revision != continue_token::LATEST => Some(token.revision),
            Some(_) => None,
            None => query.resource_version.filter(|version| {
                *version > 0
                    && (query.resource_version_match == Some(ResourceVersionMatch::Exact)
                        || query.resource_version_match.is_none() && query.limit.is_some())
            }),
        };
        self.wait_fresh(served, exact.or(query.resource_version))
            .await?;
        let revision = exact.map_or_else(|| served.collection.revision(), Revision);
        visible(&served.collection, revision).await;
        if let Some(token) = &token {
            first = first.max(Bytes::from(format!("{prefix}{}", token.start)));
        }
        let too_old = || {
            token
                .as_ref()
                .map_or_else(continue_token::expired_list, ContinueToken::expired)
        };
        let mut items = Vec::new();
        let mut rows = Vec::new();
        let mut next = Some(first);
        let mut last_key = Bytes::new();
        let limit = query.limit.unwrap_or(usize::MAX);
        while let Some(from) = next.take() {
            rows.clear();
            let wanted = PAGE_OBJECTS.min(limit - items.len());
            let more = served
                .collection
                .list(&from, end.as_deref(), revision, wanted, &mut rows)
                .map_err(|error| read_error(&error, &too_old))?;
            for (key, record) in rows.drain(..) {
                last_key.clone_from(&key);
                if selection.is_everything() || selection.matches(served, &key, &record.value)? {
                    items.push((
                        key,
                        Item {
                            message: record.value,
                            revision: record.mod_revision.0,
                        },
                    ));
                }
            }
            next = more.next;
            if items.len() >= limit {
                break;
            }
            // A selection may look at a million objects and find none: others get their turn between.
            tokio::task::yield_now().await;
        }
        let mut remaining = None;
        let mut continue_token = String::new();
        if let Some(from) = &next {
            let relative =
                String::from_utf8_lossy(last_key.get(prefix.len()..).unwrap_or_default())
                    .into_owned();
            continue_token = ContinueToken::after(&relative, revision.0).encode();
            if selection.is_everything() && served.collection.len() <= COUNTED_OBJECTS_MAX {
                let count = served
                    .collection
                    .count(from, end.as_deref(), revision)
                    .map_err(|error| read_error(&error, &too_old))?;
                remaining = Some(count as u64);
            }
        }
        Ok(Page {
            items,
            revision: revision.0,
            continue_token,
            remaining,
        })
    }

    /// A version at which the current state may be read and told, not older than what the request has seen.
    pub async fn settled(&self, served: &Served, query: &Query) -> Result<Revision, ApiError> {
        self.wait_fresh(served, query.resource_version).await?;
        let revision = served.collection.revision();
        visible(&served.collection, revision).await;
        Ok(revision)
    }

    /// Waits until a version is reached that the client has seen elsewhere.
    async fn wait_fresh(&self, served: &Served, version: Option<i64>) -> Result<(), ApiError> {
        let Some(version) = version.filter(|version| *version > 0) else {
            return Ok(());
        };
        let reached = async {
            while self.store.applied().0 < version {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(FRESH_WAIT, reached).await.is_err() {
            let current = self.store.applied().0;
            return Err(ApiError::too_large_resource_version(
                current.unsigned_abs(),
                version.unsigned_abs(),
            ));
        }
        visible(&served.collection, Revision(version)).await;
        Ok(())
    }
}

fn read_error(error: &ReadError, too_old: &dyn Fn() -> ApiError) -> ApiError {
    match error {
        ReadError::Compacted(_) => too_old(),
        ReadError::Future { requested, current } => ApiError::too_large_resource_version(
            current.0.unsigned_abs(),
            requested.0.unsigned_abs(),
        ),
    }
}

/// A list as a reply.
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
    if output.pretty && output.media == MediaType::Json || !served.is_direct() {
        let mut list = value::json!({
            "kind": served.resource.list_kind, "apiVersion": served.api_version(),
            "metadata": table_meta(&page, &page.revision.to_string()).to_value(),
        });
        list["items"] = decode_all(&served, &page)?.into();
        return encode::value_reply(200, list, output);
    }
    let content_type = output.content_type();
    let size: usize = page.items.iter().map(|(_, item)| item.message.len()).sum();
    let mut stream = ListStream::new(served, page, output.media);
    // YAML puts its metadata behind the items and is written in one go.
    if size > WHOLE_BYTES_MAX && output.media != MediaType::Yaml {
        return Ok(Reply::stream(content_type, Box::new(stream)));
    }
    let mut body = Vec::with_capacity(size * 2 + 256);
    while stream.piece(&mut body, usize::MAX)? {}
    Ok(Reply {
        body: Body::Full(body.into()),
        ..Reply::full(200, content_type, Bytes::new())
    })
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
    page: Page,
    media: MediaType,
    api_version: String,
    next: usize,
    begun: bool,
    ended: bool,
    /// Counts what is written, across pieces; its texts live in `api_version` and the schema.
    written: u64,
}

impl ListStream {
    fn new(served: Arc<Served>, page: Page, media: MediaType) -> ListStream {
        let api_version = served.api_version().to_owned();
        ListStream {
            served,
            page,
            media,
            api_version,
            next: 0,
            begun: false,
            ended: false,
            written: 0,
        }
    }

    /// Appends the next piece; false once the list is complete.
    fn piece(&mut self, out: &mut Vec<u8>, bytes_max: usize) -> Result<bool, ApiError> {
        if self.ended {
            return Ok(false);
        }
        let kind = ListKind {
            api_version: &self.api_version,
            kind: self.served.resource.list_kind,
            item_type: self.served.resource.type_id,
            item_type_meta: None,
        };
        let mut writer = ListWriter::resumed(self.media, kind, self.written);
        if !self.begun {
            self.begun = true;
            let mut version = itoa();
            if writer.needs_measuring() {
                for (_, item) in &self.page.items {
                    writer.measure(&item.message, version.of(item.revision));
                }
            }
            let meta = ListMeta {
                resource_version: &self.page.revision.to_string(),
                continue_token: &self.page.continue_token,
                remaining_item_count: self.page.remaining,
            };
            writer.head(&meta, out);
        }
        let mut version = itoa();
        let limit = out.len().saturating_add(bytes_max);
        while let Some((_, item)) = self.page.items.get_mut(self.next) {
            self.next += 1;
            // Taken out, so that the bytes are let go as the list goes on.
            let message = std::mem::take(&mut item.message);
            writer.item(&message, version.of(item.revision), out)?;
            self.written += 1;
            if out.len() >= limit {
                return Ok(true);
            }
        }
        writer.tail(out);
        self.ended = true;
        Ok(true)
    }
}

impl FrameSource for ListStream {
    fn poll_frame(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut out = Vec::with_capacity(PIECE_BYTES + 8192);
        match self.piece(&mut out, PIECE_BYTES) {
            Ok(true) => Poll::Ready(Some(out.into())),
            Ok(false) => Poll::Ready(None),
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

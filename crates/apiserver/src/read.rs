//! Get, and what a list is of: one object, or the keys and the revision that a request means, and a page of them.
//!
//! Does not know how a list is written: that is `listing.rs`.

use std::time::Duration;

use bytes::Bytes;
use kv::Revision;
use meta::ApiError;
use rest::continue_token::{self, ContinueToken};
use rest::paths::{Query, ResourceVersionMatch};
use store::{ReadError, Seen, Standing};

use crate::encode::Item;
use crate::select::{Selection, namespace_prefix};
use crate::state::{Served, State, visible};

/// Longest wait for a version that is asked for and not reached yet (k8s cacher: 3 s).
const FRESH_WAIT: Duration = Duration::from_secs(3);
/// Changes since a list's revision up to which `remainingItemCount` is given: each takes some 30 ns under the
/// collection's lock, and clients must not rely on the number.
const COUNTED_CHANGES_MAX: u64 = 10_000;

/// Objects looked at in one hold of the lock.
pub const LOOKS_AT_ONCE: usize = 256;

/// What a list is of: a stretch of keys at one revision, and what is selected from it. A cursor: `next` moves on.
pub struct Stretch {
    /// The key to go on with; none at the end.
    pub next: Option<Bytes>,
    end: Option<Bytes>,
    /// The version at which the list is true.
    pub revision: Revision,
    /// What the collection holds at this revision, if it is the newest.
    pub standing: Option<Standing>,
    token: Option<ContinueToken>,
    pub selection: Selection,
}

impl Stretch {
    /// Whether it is all that the collection holds.
    pub fn is_all(&self, namespace: &str) -> bool {
        self.token.is_none() && namespace.is_empty() && self.selection.is_everything()
    }

    /// Shows some more of the objects that are selected, out of the next `records_max`, as long as they are `wanted`,
    /// which `look` answers each time. True if it stopped before a key that exists, because no more were wanted. One
    /// short hold of the collection's lock; nothing shown does not mean the end.
    pub fn visit(
        &mut self,
        served: &Served,
        records_max: usize,
        wanted: &mut bool,
        mut look: impl FnMut(&Seen<'_>) -> Result<bool, ApiError>,
    ) -> Result<bool, ApiError> {
        let Some(from) = self.next.take() else {
            return Ok(false);
        };
        let selection = &self.selection;
        let (mut stopped, mut failed) = (false, Ok(()));
        let visit = |seen: &Seen<'_>| {
            if !*wanted {
                stopped = true;
                return false;
            }
            let is_meant = if selection.is_everything() {
                Ok(true)
            } else {
                selection.matches(served, seen.key(), seen.value())
            };
            match is_meant.and_then(|is_meant| Ok(!is_meant || look(seen)?)) {
                Ok(more) => *wanted = more,
                Err(error) => failed = Err(error),
            }
            failed.is_ok()
        };
        let end = self.end.as_deref();
        let seen = served
            .collection
            .visit(&from, end, self.revision, records_max, visit);
        self.next = seen.map_err(|error| self.read_error(&error))?.next;
        failed.map(|()| stopped)
    }

    fn read_error(&self, error: &ReadError) -> ApiError {
        match error {
            ReadError::Compacted(_) => self
                .token
                .as_ref()
                .map_or_else(continue_token::expired_list, ContinueToken::expired),
            ReadError::Future { requested, current } => ApiError::too_large_resource_version(
                current.0.unsigned_abs(),
                requested.0.unsigned_abs(),
            ),
        }
    }
}

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

    /// Finds out what a list is of, and waits until that may be told (k8s api-concepts#semantics-for-get-and-list).
    pub async fn stretch(
        &self,
        served: &Served,
        namespace: &str,
        selection: Selection,
        query: &Query,
    ) -> Result<Stretch, ApiError> {
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
        let standing = exact.is_none().then(|| served.collection.standing());
        let newest = standing.unwrap_or_default().revision;
        let revision = exact.map_or(newest, Revision);
        visible(&served.collection, revision).await;
        if let Some(token) = &token {
            let prefix = namespace_prefix(namespace);
            first = first.max(Bytes::from(format!("{prefix}{}", token.start)));
        }
        Ok(Stretch {
            next: Some(first),
            end,
            revision,
            standing,
            token,
            selection,
        })
    }

    /// Gathers one page of a list.
    pub async fn page(
        &self,
        served: &Served,
        namespace: &str,
        mut stretch: Stretch,
        limit: usize,
    ) -> Result<Page, ApiError> {
        let mut items = Vec::new();
        let mut last_key = Bytes::new();
        let (mut wanted, mut stopped) = (true, false);
        while stretch.next.is_some() && !stopped {
            // A selection may look at a million objects and find none: others get their turn between.
            tokio::task::yield_now().await;
            // Until a key that exists says that there is more: there is never an empty last page.
            stopped = stretch.visit(served, LOOKS_AT_ONCE, &mut wanted, |seen| {
                let (key, record) = seen.keep();
                last_key.clone_from(&key);
                let item = Item {
                    message: record.value,
                    revision: record.mod_revision.0,
                };
                items.push((key, item));
                Ok(items.len() < limit)
            })?;
        }
        let mut remaining = None;
        let mut continue_token = String::new();
        if let Some(from) = &stretch.next {
            let prefix = namespace_prefix(namespace);
            let relative =
                String::from_utf8_lossy(last_key.get(prefix.len()..).unwrap_or_default())
                    .into_owned();
            continue_token = ContinueToken::after(&relative, stretch.revision.0).encode();
            if stretch.selection.is_everything() {
                let end = stretch.end.as_deref();
                let count = served
                    .collection
                    .count_if_near(from, end, stretch.revision, COUNTED_CHANGES_MAX)
                    .map_err(|error| stretch.read_error(&error))?;
                remaining = count.map(|count| count as u64);
            }
        }
        Ok(Page {
            items,
            revision: stretch.revision.0,
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

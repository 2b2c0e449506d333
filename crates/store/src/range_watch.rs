//! A watch of any range of keys, across the collections it touches, in the order of revisions.
//!
//! Each collection has its own cursor; what they deliver is merged up to the *frontier*, the revision
//! up to which every one of them has delivered everything. Worked example: pods are at 10 and nodes,
//! whose write at 9 waits for the disk, are at 8: pod event 10 is held back until 9 is visible. A
//! collection that did not exist when the watch began joins as it is made, before its first event.

use crate::collection::{Collection, OpenError};
use crate::errors::Compacted;
use crate::store::{Store, whole_key};
use crate::watch::{Interest, WatchItem, Watcher};
use kv::{End, KeyRange, Revision};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Looks at one collection before the caller gets a turn again: each is a bounded hold of its lock.
const LOOKS_MAX: usize = 64;

/// A cursor over a range of keys. It holds back at most `max` events of each collection.
#[derive(Debug)]
pub struct RangeWatcher {
    store: Arc<Store>,
    range: KeyRange,
    /// Events up to this revision are not wanted.
    after: Revision,
    parts: Vec<Part>,
    /// Collections looked at so far.
    seen: usize,
    /// Everything up to here was handed out.
    through: Revision,
}

#[derive(Debug)]
struct Part {
    collection: Arc<Collection>,
    watcher: Watcher,
    /// The cursor delivers keys outside the range, too.
    filters: bool,
    held: VecDeque<WatchItem>,
}

impl Store {
    /// Opens a watch on the events of a range with a revision greater than `after`.
    pub fn watch_range(
        self: &Arc<Self>,
        range: KeyRange,
        after: Revision,
    ) -> Result<RangeWatcher, OpenError> {
        let oldest = Revision(self.compacted().0 - 1);
        if after < oldest {
            return Err(Compacted {
                requested: after,
                oldest,
            }
            .into());
        }
        let mut watcher = RangeWatcher {
            store: self.clone(),
            through: after.min(self.applied()),
            range,
            after,
            parts: Vec::new(),
            seen: 0,
        };
        if watcher.range.end == End::One {
            let collection = self.route(&watcher.range.start);
            watcher.join(collection)?;
        } else {
            watcher.look_for_more()?;
        }
        Ok(watcher)
    }
}

impl RangeWatcher {
    /// Appends events with their whole keys to `out`: about `max`, never a part of a revision. Ready
    /// with the revision up to which everything was delivered.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<WatchItem>,
    ) -> Poll<Result<Revision, Compacted>> {
        loop {
            if let Err(compacted) = self.find_more(cx) {
                return Poll::Ready(Err(compacted));
            }
            let mut is_tired = false;
            for part in &mut self.parts {
                match part.fill(&self.range, cx, max) {
                    Ok(tired) => is_tired |= tired,
                    Err(compacted) => return Poll::Ready(Err(compacted)),
                }
            }
            let frontier = self.frontier();
            if self.may_have_grown() {
                continue;
            }
            let before = out.len();
            self.merge(frontier, max, out);
            let next = self.first_held();
            let through = next.map_or(frontier, |next| frontier.min(Revision(next.0 - 1)));
            self.through = self.through.max(through);
            if out.len() > before {
                return Poll::Ready(Ok(through));
            }
            if is_tired {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.wait_for(next, cx) {
                return Poll::Pending;
            }
        }
    }

    /// Everything up to here has been delivered. Never waits.
    #[must_use]
    pub fn progress(&self) -> Revision {
        let frontier = self.frontier();
        if self.may_have_grown() {
            return self.through;
        }
        let held = self.first_held();
        held.map_or(frontier, |first| frontier.min(Revision(first.0 - 1)))
    }

    /// Up to here every cursor has delivered everything.
    fn frontier(&self) -> Revision {
        let applied = self.store.applied();
        let progress = self.parts.iter().map(|part| part.watcher.progress());
        progress.min().unwrap_or(applied)
    }

    fn first_held(&self) -> Option<Revision> {
        let first = self.parts.iter().filter_map(|part| part.held.front());
        first.map(|item| item.revision).min()
    }

    /// Whether a collection was made that this watch has not looked at: its first event is newer
    /// than the moment before, so a frontier taken then holds without it.
    fn may_have_grown(&self) -> bool {
        self.range.end != End::One && self.store.made() > self.seen
    }

    fn find_more(&mut self, cx: &mut Context<'_>) -> Result<(), Compacted> {
        if self.range.end == End::One {
            return Ok(());
        }
        self.store.expect_more(self.seen, cx.waker());
        match self.look_for_more() {
            Ok(()) => Ok(()),
            Err(OpenError::Compacted(compacted)) => Err(compacted),
            // Too many watchers there: this one cannot be complete any more.
            Err(OpenError::Refused(_)) => Err(Compacted {
                requested: self.through,
                oldest: self.store.applied(),
            }),
        }
    }

    fn look_for_more(&mut self) -> Result<(), OpenError> {
        if self.store.made() == self.seen {
            return Ok(());
        }
        let (new, seen) = self.store.made_since(self.seen);
        for collection in new {
            if self.range.touches_prefix(collection.prefix()) {
                self.join(collection)?;
            }
        }
        self.seen = seen;
        Ok(())
    }

    fn join(&mut self, collection: Arc<Collection>) -> Result<(), OpenError> {
        let (interest, filters) = interest(&self.range, collection.prefix());
        let watcher = collection.watch(self.after.max(self.through), interest)?;
        self.parts.push(Part {
            collection,
            watcher,
            filters,
            held: VecDeque::new(),
        });
        Ok(())
    }

    /// Hands out what is held up to the frontier: whole revisions, about `max` events.
    fn merge(&mut self, frontier: Revision, max: usize, out: &mut Vec<WatchItem>) {
        let before = out.len();
        let mut last = None;
        loop {
            let heads = self.parts.iter_mut().filter_map(|part| {
                let head = part.held.front()?;
                Some(((head.revision, head.sub), part))
            });
            let Some(((revision, _), part)) = heads.min_by_key(|(place, _)| *place) else {
                return;
            };
            let is_full = out.len() - before >= max && last != Some(revision);
            if revision > frontier || is_full {
                return;
            }
            last = Some(revision);
            out.extend(part.held.pop_front());
        }
    }

    /// Something is held back: leaves wakers with those it waits for. True when nobody is to be
    /// waited for any more.
    fn wait_for(&self, held: Option<Revision>, cx: &mut Context<'_>) -> bool {
        let Some(revision) = held else { return false };
        let mut is_over = true;
        for part in &self.parts {
            let late = part.watcher.progress() < revision && part.held.is_empty();
            if late && part.collection.poll_visible(revision, cx).is_pending() {
                is_over = false;
            }
        }
        is_over
    }
}

impl Part {
    /// Takes what there is until `max` events are held. True when there may be more to look at.
    fn fill(
        &mut self,
        range: &KeyRange,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Result<bool, Compacted> {
        let mut found = Vec::new();
        for _ in 0..LOOKS_MAX {
            if self.held.len() >= max {
                return Ok(false);
            }
            let Poll::Ready(through) = self.watcher.poll_next(cx, max, &mut found) else {
                return Ok(false);
            };
            through?;
            for mut item in found.drain(..) {
                item.key = whole_key(self.collection.prefix(), &item.key);
                if !self.filters || range.contains(&item.key) {
                    self.held.push_back(item);
                }
            }
        }
        Ok(self.held.len() < max)
    }
}

/// What a range is within the collection of `prefix`, and whether that is more than the range.
fn interest(range: &KeyRange, prefix: &[u8]) -> (Interest, bool) {
    let inside = |key: &bytes::Bytes| key.starts_with(prefix).then(|| key.slice(prefix.len()..));
    let start = inside(&range.start).unwrap_or_default();
    let end = match &range.end {
        End::One => return (Interest::Key(start), false),
        End::Unbounded => None,
        End::Before(end) => inside(end),
    };
    let Some(end) = end else {
        return (Interest::All, !start.is_empty());
    };
    let common = start.iter().zip(&end).take_while(|(a, b)| a == b).count();
    if !start.is_empty() && KeyRange::prefix(start.clone()).end == End::Before(end) {
        return (Interest::Prefix(start), false);
    }
    if common == 0 {
        return (Interest::All, true);
    }
    (Interest::Prefix(start.slice(..common)), true)
}

//! Every version that is kept, in the order of revisions, as of one revision: for copies and checksums.
//!
//! ```text
//!      floor F                                        at R          now
//!   ─────┼──────────────────────────────────────────────┼────────────┼──►
//!   base: of each key the version that counts at F       not looked at
//!         changes after F, deletions too ────────────────┤
//! ```
//!
//! Knows no file format. It is read in short holds of the locks while writes go on; meanwhile history after `F` is
//! pinned, so a compaction is answered at once, but gives back its memory only when the reader is gone. What is kept of
//! the base is 24 bytes a key (240 MB for ten million), because nothing else knows their order.

use crate::blob::Version;
use crate::collection::{Collection, Record};
use crate::errors::{Compacted, ReadError};
use crate::limits::{PAGE_RECORDS_MAX, VERSIONS_BUFFERED_MAX};
use crate::state::State;
use crate::store::{Store, whole_key};
use bytes::Bytes;
use kv::Revision;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

/// How often a beginning is tried again because a compaction came between.
const TRIES_MAX: usize = 100;

/// One version as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptVersion {
    /// The revision that made it.
    pub revision: Revision,
    /// Its place among the changes of that revision.
    pub sub: u32,
    /// The whole key.
    pub key: Bytes,
    /// The version; none for a deletion.
    pub record: Option<Record>,
    /// Whether the key still has this version at the revision read at. Told only of the base: of what comes after the
    /// floor it is always true.
    pub counts_at_end: bool,
}

/// Reads every kept version. History is pinned until it is dropped.
#[derive(Debug)]
pub struct Versions {
    sources: Vec<Source>,
    floor: i64,
    at: i64,
    any_counts: bool,
    /// In the order of revisions.
    base: Vec<Base>,
    next_base: usize,
    /// Revision and place of each source's next change.
    heads: BinaryHeap<Reverse<(i64, u32, usize)>>,
}

/// A version of the base: where to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Base {
    revision: i64,
    sub: u32,
    source: u32,
    slot: u32,
    is_deletion: bool,
}

/// A collection, pinned.
#[derive(Debug)]
struct Source {
    collection: Arc<Collection>,
    pin: i64,
    /// Number of the history entry to go on with.
    next: u64,
    buffer: VecDeque<KeptVersion>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.collection.lock().unpin(self.pin);
    }
}

impl Store {
    /// Begins to read every version that is kept and not newer than `at`, or than the newest revision. What is read
    /// is applied; wait until it is visible before it is told.
    pub fn versions(&self, at: Option<Revision>) -> Result<Versions, ReadError> {
        let mut oldest = 0;
        for _ in 0..TRIES_MAX {
            let current = self.applied();
            let at = at.unwrap_or(current);
            if at > current {
                return Err(ReadError::Future {
                    requested: at,
                    current,
                });
            }
            let (sources, floor) = self.pinned();
            if floor <= at.0 {
                return Ok(Versions::new(sources, floor, at.0));
            }
            oldest = floor;
        }
        let requested = at.unwrap_or_default();
        Err(Compacted {
            requested,
            oldest: Revision(oldest),
        }
        .into())
    }

    /// All collections with their history held fast, and the revision from which on it is whole in all of them.
    fn pinned(&self) -> (Vec<Source>, i64) {
        let mut floor = 0;
        let mut sources = Vec::new();
        for collection in self.collections() {
            let mut state = collection.lock();
            // The changes of the floor itself stay too: deletions among them may be read.
            let pin = state.list_floor - 1;
            floor = floor.max(state.list_floor);
            state.pin(pin);
            drop(state);
            sources.push(Source {
                collection,
                pin,
                next: 0,
                buffer: VecDeque::new(),
            });
        }
        (sources, floor.max(self.compacted().0))
    }
}

impl Versions {
    fn new(sources: Vec<Source>, floor: i64, at: i64) -> Self {
        let mut versions = Versions {
            sources,
            floor,
            at,
            any_counts: false,
            base: Vec::new(),
            next_base: 0,
            heads: BinaryHeap::new(),
        };
        versions.index();
        for index in 0..versions.sources.len() {
            versions.refill(index);
        }
        versions
    }

    /// History is whole after this revision, and what counted at it is there; 0 when nothing was ever given up.
    #[must_use]
    pub fn floor(&self) -> Revision {
        Revision(self.floor)
    }

    /// The revision read at.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision(self.at)
    }

    /// Whether any key exists at the revision read at.
    #[must_use]
    pub fn any_counts(&self) -> bool {
        self.any_counts
    }

    /// How many keys existed at the floor: that much of the work is known before.
    #[must_use]
    pub fn base_len(&self) -> usize {
        self.base.len()
    }

    /// Finds the base, a page of keys at a time.
    fn index(&mut self) {
        for (index, source) in self.sources.iter_mut().enumerate() {
            let source_number = index as u32;
            let mut from: Option<Arc<[u8]>> = Some(Arc::from(&[][..]));
            while let Some(start) = from {
                let state = source.collection.lock();
                from = state.base_page(&start, self.floor, |slot, version, sub| {
                    self.base.push(Base {
                        revision: version.modified,
                        sub,
                        source: source_number,
                        slot,
                        is_deletion: false,
                    });
                });
                self.any_counts |= state.any_exists(&start, from.as_deref(), self.at);
            }
            let state = source.collection.lock();
            source.next = state.history.first_after(self.floor);
            let own = state.history.first_after(self.floor - 1)..source.next;
            let entries = own.filter_map(|number| state.history.get(number));
            let deletions = entries.filter(|entry| entry.is_delete()).map(|entry| Base {
                revision: entry.revision,
                sub: entry.sub(),
                source: source_number,
                slot: entry.slot,
                is_deletion: true,
            });
            self.base.extend(deletions);
        }
        self.base.sort_unstable();
    }

    /// Appends the next versions, a few hundred at a time. False when there are no more.
    pub fn next_page(&mut self, out: &mut Vec<KeptVersion>) -> bool {
        let before = out.len();
        if self.next_base < self.base.len() {
            self.base_versions(out);
            return true;
        }
        // What is read now is not needed again.
        self.base = Vec::new();
        self.next_base = 0;
        while out.len() - before < PAGE_RECORDS_MAX {
            let Some(Reverse((_, _, index))) = self.heads.pop() else {
                break;
            };
            let Some(source) = self.sources.get_mut(index) else {
                break;
            };
            out.extend(source.buffer.pop_front());
            match source.buffer.front() {
                Some(head) => self.heads.push(Reverse((head.revision.0, head.sub, index))),
                None => self.refill(index),
            }
        }
        out.len() > before
    }

    fn base_versions(&mut self, out: &mut Vec<KeptVersion>) {
        let rest = self.base.get(self.next_base..).unwrap_or_default();
        let page = rest.get(..PAGE_RECORDS_MAX).unwrap_or(rest);
        self.next_base += page.len();
        for run in page.chunk_by(|left, right| left.source == right.source) {
            let source = run
                .first()
                .and_then(|first| self.sources.get(first.source as usize));
            let Some(source) = source else { continue };
            let state = source.collection.lock();
            let prefix = source.collection.prefix();
            for base in run {
                let Some(slot) = state.records.get(base.slot) else {
                    continue;
                };
                let version = |at| state.version_at(slot, at).filter(|_| !base.is_deletion);
                out.push(KeptVersion {
                    revision: Revision(base.revision),
                    sub: base.sub,
                    key: whole_key(prefix, &slot.key),
                    record: version(self.floor).map(|version| Record::of(&version)),
                    counts_at_end: version(self.at)
                        .is_some_and(|version| version.modified == base.revision),
                });
            }
        }
    }

    /// Reads on in one collection's history.
    fn refill(&mut self, index: usize) {
        let share = VERSIONS_BUFFERED_MAX / self.sources.len().max(1);
        let max = share.clamp(1, PAGE_RECORDS_MAX) as u64;
        let Some(source) = self.sources.get_mut(index) else {
            return;
        };
        let state = source.collection.lock();
        let prefix = source.collection.prefix();
        let end = state.history.end().min(source.next.saturating_add(max));
        while source.next < end {
            let Some(entry) = state.history.get(source.next) else {
                break;
            };
            if entry.revision > self.at {
                break;
            }
            let after = state.version_after(source.next, entry);
            source.buffer.push_back(KeptVersion {
                revision: Revision(entry.revision),
                sub: entry.sub(),
                key: whole_key(prefix, state.records.key(entry.slot)),
                record: after
                    .filter(|after| after.exists())
                    .map(|after| Record::of(&after)),
                counts_at_end: true,
            });
            source.next += 1;
        }
        drop(state);
        if let Some(head) = source.buffer.front() {
            self.heads.push(Reverse((head.revision.0, head.sub, index)));
        }
    }
}

impl State {
    /// Visits what counts at `floor`, from the key `start` on, for a page of keys: slot, version, place in its
    /// revision. Answers where to go on.
    fn base_page(
        &self,
        start: &[u8],
        floor: i64,
        mut visit: impl FnMut(u32, &Version, u32),
    ) -> Option<Arc<[u8]>> {
        let mut place = self.names.seek(&self.records, start);
        let mut seen = 0;
        while let Some((number, next)) = self.names.next(place) {
            let slot = self.records.get(number)?;
            if seen >= PAGE_RECORDS_MAX {
                return Some(slot.key.clone());
            }
            if let Some((version, entry)) = self.version_and_entry_at(slot, floor) {
                visit(
                    number,
                    &version,
                    self.sub_of(number, entry, version.modified),
                );
            }
            seen += 1;
            place = next;
        }
        None
    }

    /// Whether any key of `[start, end)`, which is a page, exists at `revision`.
    fn any_exists(&self, start: &[u8], end: Option<&[u8]>, revision: i64) -> bool {
        let mut any = false;
        self.page(start, end, revision, |_, _| {
            any = true;
            false
        });
        any
    }
}

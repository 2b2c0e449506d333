//! What a collection's lock protects, and the steps that happen under it.
//!
//! Nothing here decides: preconditions, budgets and leases were checked by the caller. Every step is
//! short, and long work (announcing, trimming, listing) is cut into bounded pieces.

use std::borrow::Cow;

use crate::blob::{Blob, Version, key_bytes};
use crate::config::CollectionConfig;
use crate::errors::Compacted;
use crate::history::{Entry, History};
use crate::limits::{
    ANNOUNCE_ENTRIES_MAX, KEY_OVERHEAD_BYTES, PAGE_RECORDS_MAX, SCAN_ENTRIES_MAX, TIME_MARKS_MAX,
    TRIM_PER_WRITE,
};
use crate::names::Names;
use crate::past::{Past, WHOLE_EVERY};
use crate::reading::Reading;
use crate::records::{NO_ENTRY, Records, Slot};
use crate::shared::{PendingChange, Shared, Ticket, Usage, Wakes};
use crate::watch::{Interest, Seat, WatchItem, Watchers};
use bytes::Bytes;
use foldhash::quality::RandomState;
use hashbrown::HashMap;
use kv::{LeaseId, Revision};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

/// What a collection is called.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: u32,
    pub(crate) prefix: Bytes,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: CollectionConfig,
    pub(crate) records: Records,
    pub(crate) names: Names,
    pub(crate) history: History,
    pub(crate) live: usize,
    pub(crate) live_bytes: u64,
    /// Lists at this revision and later are possible.
    pub(crate) list_floor: i64,
    /// Watches from this revision (events after it) and later are possible.
    pub(crate) watch_floor: i64,
    /// Entries before this number may be trimmed.
    trim_to: u64,
    /// Entries before this number are visible and have been told to the watchers.
    pub(crate) announced: u64,
    pub(crate) watchers: Watchers,
    /// Who waits for a revision to be visible, in the order of revisions: what becomes visible is at the front.
    waiters: VecDeque<(i64, Waker)>,
    /// When the history ended where, oldest first.
    marks: VecDeque<(i64, u64)>,
    /// Places within their revision of versions whose own entry was trimmed, by slot; only those that are not 0.
    subs: HashMap<u32, u32, RandomState>,
    /// Entries after these revisions stay: somebody reads all versions.
    pins: Vec<i64>,
    /// What all collections hold together, and what of it this one has told.
    usage: Arc<Usage>,
    told_bytes: u64,
    /// How values are read, if somebody said so, and the sum of what those that exist weigh.
    reading: Option<Reading>,
    pub(crate) weight: u64,
    /// Facets of the event that is being told; kept for its room.
    facets: Vec<u64>,
}

/// A put, with what the caller has found out already.
pub(crate) struct Put<'a> {
    /// The slot of the key, if it is known.
    pub(crate) number: Option<u32>,
    pub(crate) key: &'a Arc<[u8]>,
    pub(crate) blob: Blob,
    pub(crate) tag_count: usize,
    pub(crate) lease: i64,
}

/// How far a watcher came.
pub(crate) enum Advance {
    /// Nothing for it; the waker is kept.
    Idle,
    /// Delivered everything up to this revision.
    Through(i64),
    /// Enough for one hold of the lock; nothing yet.
    Again,
    /// The window passed it.
    Compacted(Compacted),
}

/// Entries without facets that one whose facets are read counts as, when a watcher looks through the log.
const FACETS_COST: usize = 4;

fn weight_of(reading: Option<&Reading>, version: &Version) -> u64 {
    match reading {
        Some(reading) if version.exists() => {
            (reading.weigh)(version.value_slice(), Revision(version.modified))
        }
        _ => 0,
    }
}

impl State {
    pub(crate) fn new(
        config: CollectionConfig,
        list_floor: i64,
        watch_floor: i64,
        usage: Arc<Usage>,
    ) -> Self {
        State {
            config,
            records: Records::default(),
            names: Names::default(),
            history: History::default(),
            live: 0,
            live_bytes: 0,
            list_floor,
            watch_floor,
            trim_to: 0,
            announced: 0,
            watchers: Watchers::default(),
            waiters: VecDeque::new(),
            marks: VecDeque::new(),
            subs: HashMap::default(),
            pins: Vec::new(),
            usage,
            told_bytes: 0,
            reading: None,
            weight: 0,
            facets: Vec::new(),
        }
    }

    /// Says how values are read. Looks at all there are.
    pub(crate) fn read_with(&mut self, reading: Reading) {
        self.reading = Some(reading);
        self.weight = self.weighed();
    }

    /// Whether watchers can be found by facets.
    pub(crate) fn knows_facets(&self) -> bool {
        self.reading.is_some()
    }

    /// What all values that exist weigh, one by one.
    pub(crate) fn weighed(&self) -> u64 {
        let mut weight = 0;
        let mut place = self.names.seek(&self.records, &[]);
        while let Some((number, next)) = self.names.next(place) {
            if let Some(slot) = self.records.get(number) {
                weight += weight_of(self.reading.as_ref(), &slot.latest);
            }
            place = next;
        }
        weight
    }

    /// Tells the common count what this collection holds now.
    pub(crate) fn tell_usage(&mut self) {
        let bytes = self.live_bytes + self.history.bytes();
        self.usage.change(self.told_bytes, bytes);
        self.told_bytes = bytes;
    }

    /// What the common count knows of this collection.
    pub(crate) fn told_bytes(&self) -> u64 {
        self.told_bytes
    }

    /// Keeps all entries after `revision` until they are unpinned as often.
    pub(crate) fn pin(&mut self, revision: i64) {
        self.pins.push(revision);
    }

    pub(crate) fn unpin(&mut self, revision: i64) {
        if let Some(at) = self.pins.iter().position(|pin| *pin == revision) {
            self.pins.swap_remove(at);
        }
    }

    /// The place, within its revision, of the oldest version a slot still has; its own entry is gone.
    pub(crate) fn set_base_sub(&mut self, number: u32, sub: u32) {
        if sub != 0 {
            self.subs.insert(number, sub);
        } else if !self.subs.is_empty() {
            self.subs.remove(&number);
        }
    }

    /// The place of the version of `revision` within it; `entry` is the number of the entry that made it.
    pub(crate) fn sub_of(&self, number: u32, entry: Option<u64>, revision: i64) -> u32 {
        let made = entry
            .and_then(|entry| self.history.get(entry))
            .filter(|entry| entry.slot == number && entry.revision == revision);
        match made {
            Some(entry) => entry.sub(),
            None => self.subs.get(&number).copied().unwrap_or(0),
        }
    }

    /// The slot of a key that exists now.
    pub(crate) fn find_live(&self, key: &[u8]) -> Option<(u32, &Slot)> {
        let number = self.records.find(key)?;
        let slot = self.records.get(number)?;
        slot.latest.exists().then_some((number, slot))
    }

    /// A put, at the ticket's revision.
    pub(crate) fn put(&mut self, identity: &Identity, ticket: &mut Ticket<'_>, put: Put<'_>) {
        let revision = ticket.revision();
        let (number, is_fresh) = match put.number {
            Some(number) => (number, false),
            None => (self.insert(put.key.clone()), true),
        };
        let old = self.records.get(number).map(|slot| &slot.latest);
        let (create, version) = match old {
            Some(old) if old.exists() => (old.create, old.version() + 1),
            _ => (revision, 1),
        };
        let new = Version::put(
            put.blob,
            put.tag_count,
            create,
            revision,
            version,
            put.lease,
        );
        self.commit(identity, ticket, number, new, is_fresh);
    }

    /// A deletion of a live slot, at the ticket's revision.
    pub(crate) fn delete(&mut self, identity: &Identity, ticket: &mut Ticket<'_>, number: u32) {
        let new = Version::deleted(ticket.revision());
        self.commit(identity, ticket, number, new, false);
    }

    /// Makes room for a key that is not known; its name counts as live already.
    pub(crate) fn insert(&mut self, key: Arc<[u8]>) -> u32 {
        let number = self.records.insert(key);
        self.names.insert(&self.records, number, true);
        number
    }

    fn commit(
        &mut self,
        identity: &Identity,
        ticket: &mut Ticket<'_>,
        number: u32,
        new: Version,
        is_fresh: bool,
    ) {
        let sub = ticket.next_sub();
        if self.config.durability.is_logged()
            && let Some(slot) = self.records.get(number)
        {
            let change = PendingChange::Key {
                collection: identity.prefix.clone(),
                key: slot.key.clone(),
                version: new.clone(),
                sub,
            };
            ticket.push(self.config.durability, change);
        }
        let revision = new.modified;
        let Some((old, before)) = self.replace(number, new, is_fresh) else {
            return;
        };
        self.record(number, revision, sub, old, before);
    }

    /// Appends the entry for a version that is already in its record.
    pub(crate) fn record(
        &mut self,
        number: u32,
        revision: i64,
        sub: u32,
        old: Version,
        before: u64,
    ) {
        let at = self.history.end();
        let older = self.link(before, at);
        if let Some(slot) = self.records.get_mut(number) {
            slot.newest = at;
        }
        let Some(slot) = self.records.get(number) else {
            return;
        };
        let (is_delete, undo) = (!slot.latest.exists(), Past::of(old, &slot.latest));
        let entry = Entry {
            older,
            ..Entry::new(revision, number, sub, is_delete, undo)
        };
        self.history.push(entry);
        for _ in 0..TRIM_PER_WRITE {
            if !self.is_over_history_budget() || !self.trim_one() {
                break;
            }
        }
        self.tell_usage();
    }

    /// Links the key's entry before to the one to come; answers the distance.
    fn link(&mut self, before: u64, at: u64) -> u32 {
        let Some(distance) = at.checked_sub(before) else {
            return 0;
        };
        let Ok(distance) = u32::try_from(distance) else {
            return 0;
        };
        match self.history.get_mut(before) {
            Some(entry) => {
                entry.newer = distance;
                distance
            }
            None => 0,
        }
    }

    /// Puts `new` in the record and keeps the counts. Answers what was there and its entry.
    pub(crate) fn replace(
        &mut self,
        number: u32,
        new: Version,
        is_fresh: bool,
    ) -> Option<(Version, u64)> {
        let slot = self.records.get_mut(number)?;
        if let Some(reading) = &self.reading {
            let heavier = self.weight + weight_of(Some(reading), &new);
            self.weight = heavier.saturating_sub(weight_of(Some(reading), &slot.latest));
        }
        let key_len = slot.key.len() as u64;
        let (was, is, new_len) = (slot.latest.exists(), new.exists(), new.blob_len());
        let old = std::mem::replace(&mut slot.latest, new);
        let before = slot.newest;
        self.live_bytes = (self.live_bytes + new_len).saturating_sub(old.blob_len());
        if was != is {
            if !is_fresh {
                self.names.set_live(&self.records, number, is);
            }
            let fixed = KEY_OVERHEAD_BYTES + key_len;
            if is {
                self.live += 1;
                self.live_bytes += fixed;
            } else {
                self.live -= 1;
                self.live_bytes = self.live_bytes.saturating_sub(fixed);
            }
        }
        Some((old, before))
    }

    /// The version that an entry replaced.
    pub(crate) fn past(&self, number: u64) -> Option<Cow<'_, Version>> {
        let entry = self.history.get(number)?;
        if let Some(whole) = entry.undo.whole() {
            return Some(Cow::Borrowed(whole));
        }
        let mut way = Vec::with_capacity(WHOLE_EVERY as usize);
        let mut at = number;
        let base = loop {
            way.push(&self.history.get(at)?.undo);
            let Some(newer) = self.history.newer(at) else {
                break &self.records.get(entry.slot)?.latest;
            };
            if let Some(whole) = self.history.get(newer)?.undo.whole() {
                break whole;
            }
            at = newer;
        };
        let mut value = Cow::Borrowed(base.value_slice());
        for past in way.iter().rev() {
            value = Cow::Owned(past.value(&value));
        }
        Some(Cow::Owned(entry.undo.restored(&value)))
    }

    /// The version of a slot as of `revision`, which must not be below the floor.
    pub(crate) fn version_at<'a>(
        &'a self,
        slot: &'a Slot,
        revision: i64,
    ) -> Option<Cow<'a, Version>> {
        self.version_and_entry_at(slot, revision)
            .map(|(version, _)| version)
    }

    /// The same, with the number of the entry that made it, if that is still there.
    pub(crate) fn version_and_entry_at<'a>(
        &'a self,
        slot: &'a Slot,
        revision: i64,
    ) -> Option<(Cow<'a, Version>, Option<u64>)> {
        if slot.latest.modified <= revision {
            let version = Cow::Borrowed(&slot.latest);
            return slot.latest.exists().then_some((version, Some(slot.newest)));
        }
        let mut number = slot.newest;
        let mut undo = &self.history.get(number)?.undo;
        while undo.modified() > revision {
            number = self.history.older(number)?;
            undo = &self.history.get(number)?.undo;
        }
        if !undo.exists() {
            return None;
        }
        Some((self.past(number)?, self.history.older(number)))
    }

    /// The version an entry made.
    pub(crate) fn version_after(&self, number: u64, entry: &Entry) -> Option<Cow<'_, Version>> {
        match self.history.newer(number) {
            Some(newer) => self.past(newer),
            None => self
                .records
                .get(entry.slot)
                .map(|slot| Cow::Borrowed(&slot.latest)),
        }
    }

    /// Whether an entry made a version, or deleted one.
    fn exists_after(&self, number: u64, entry: &Entry) -> bool {
        match self.history.newer(number) {
            Some(newer) => self
                .history
                .get(newer)
                .is_some_and(|entry| entry.undo.exists()),
            None => self
                .records
                .get(entry.slot)
                .is_some_and(|slot| slot.latest.exists()),
        }
    }

    /// Visits versions as of `revision` in key order, from `start` on: at most a page of records.
    /// Answers where to go on, or none at the end.
    pub(crate) fn page(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        revision: i64,
        mut visit: impl FnMut(&Arc<[u8]>, &Version) -> bool,
    ) -> Option<Arc<[u8]>> {
        let mut place = self.names.seek(&self.records, start);
        let mut seen = 0;
        while let Some((number, next)) = self.names.next(place) {
            let slot = self.records.get(number)?;
            if end.is_some_and(|end| &*slot.key >= end) {
                return None;
            }
            if seen >= PAGE_RECORDS_MAX {
                return Some(slot.key.clone());
            }
            if let Some(version) = self.version_at(slot, revision)
                && !visit(&slot.key, &version)
            {
                return Some(slot.key.clone());
            }
            seen += 1;
            place = next;
        }
        None
    }

    /// How many entries came after `revision`: what [`Self::count_at`] has to look at.
    pub(crate) fn entries_after(&self, revision: i64) -> u64 {
        self.history.end() - self.history.first_after(revision)
    }

    /// How many keys of `[start, end)` existed at `revision`: the present count, with what came and
    /// went since taken back.
    pub(crate) fn count_at(&self, start: &[u8], end: Option<&[u8]>, revision: i64) -> usize {
        let mut count = self.names.count_live(&self.records, start, end) as i64;
        for number in self.history.first_after(revision)..self.history.end() {
            let Some(entry) = self.history.get(number) else {
                continue;
            };
            let key = self.records.key(entry.slot);
            if key < start || end.is_some_and(|end| key >= end) {
                continue;
            }
            let after = self.exists_after(number, entry);
            count += i64::from(entry.undo.exists()) - i64::from(after);
        }
        usize::try_from(count).unwrap_or(0)
    }

    /// Everything of this collection up to here is visible.
    pub(crate) fn visible(&self, shared: &Shared) -> i64 {
        match self.history.get(self.announced) {
            Some(entry) => entry.revision - 1,
            None => shared.revision(),
        }
    }

    /// Tells watchers and waiters what has become visible. True when there is more to tell.
    pub(crate) fn announce(&mut self, shared: &Shared, wakes: &mut Wakes) -> bool {
        let watermark = shared.watermark(self.config.durability);
        let end = if watermark == i64::MAX {
            self.history.end()
        } else {
            self.history.first_after(watermark).max(self.announced)
        };
        let mut told = 0;
        while self.announced < end && self.watchers.anyone_idle() && told < ANNOUNCE_ENTRIES_MAX {
            self.announce_one(self.announced, wakes);
            self.announced += 1;
            told += 1;
        }
        if !self.watchers.anyone_idle() {
            self.announced = end;
        }
        if !self.waiters.is_empty() {
            let visible = self.visible(shared);
            let ready = self
                .waiters
                .partition_point(|(revision, _)| *revision <= visible);
            self.waiters
                .drain(..ready)
                .for_each(|(_, waker)| wakes.add(waker));
        }
        self.announced < end
    }

    fn announce_one(&mut self, number: u64, wakes: &mut Wakes) {
        let Some(entry) = self.history.get(number) else {
            return;
        };
        // Borrowed field by field: the watchers change while the entry is read.
        let newer = self.history.newer(number);
        let past = newer.and_then(|newer| self.history.get(newer));
        let latest = newer.is_none().then(|| self.records.get(entry.slot));
        let after = past.into_iter().flat_map(|entry| entry.undo.tags());
        let latest = latest.flatten().into_iter();
        let latest = latest.flat_map(|slot| slot.latest.tags());
        let tags = entry.undo.tags().chain(after).chain(latest);
        let key = self.records.key(entry.slot);
        self.watchers.hit(key, tags, number, wakes);
        if self.watchers.anyone_by_facet() {
            let mut facets = std::mem::take(&mut self.facets);
            self.facets_of(number, &mut |facet| {
                facets.push(facet);
                false
            });
            self.watchers.hit_facets(&facets, number, wakes);
            facets.clear();
            self.facets = facets;
        }
    }

    /// Visits the facets that the key of an entry has after it, then those it had before, until `found` says that it has
    /// seen enough.
    fn facets_of(&self, number: u64, found: &mut dyn FnMut(u64) -> bool) {
        let (Some(reading), Some(entry)) = (&self.reading, self.history.get(number)) else {
            return;
        };
        let key = self.records.key(entry.slot);
        let mut is_enough = false;
        let mut visit = |facet| is_enough = is_enough || found(facet);
        let after = self.version_after(number, entry);
        let decided = after.filter(|after| after.exists()).map_or(0, |after| {
            (reading.facets)(key, after.value_slice(), &mut visit)
        });
        // What the change did not touch need not be restored to be read.
        if is_enough || !entry.undo.exists() || decided > 0 && entry.undo.agrees_in_front(decided) {
            return;
        }
        let mut visit = |facet| is_enough = is_enough || found(facet);
        if let Some(before) = self.past(number) {
            (reading.facets)(key, before.value_slice(), &mut visit);
        }
    }

    /// Leaves a waker for when `revision` is visible. False when it already is.
    pub(crate) fn wait_visible(&mut self, shared: &Shared, revision: i64, waker: &Waker) -> bool {
        if revision <= self.visible(shared) {
            return false;
        }
        // Revisions mostly come in order: the place is mostly the end.
        let after = |(other, _): &(i64, Waker)| *other > revision;
        let place = match self.waiters.back() {
            Some(last) if after(last) => self.waiters.partition_point(|waiter| !after(waiter)),
            Some(_) | None => self.waiters.len(),
        };
        let before = place.checked_sub(1).and_then(|at| self.waiters.get(at));
        let is_there =
            before.is_some_and(|(waiting, other)| *waiting == revision && other.will_wake(waker));
        if !is_there {
            self.waiters.insert(place, (revision, waker.clone()));
        }
        true
    }

    /// Moves a watcher on, for at most one hold of the lock.
    pub(crate) fn advance(
        &mut self,
        shared: &Shared,
        seat_number: u32,
        waker: Option<&Waker>,
        max: usize,
        out: &mut Vec<WatchItem>,
    ) -> Advance {
        let Some(seat) = self.watchers.get_mut(seat_number) else {
            return Advance::Idle;
        };
        if seat.idle {
            if let Some(waker) = waker {
                seat.waker = Some(waker.clone());
            }
            return Advance::Idle;
        }
        let Some(seat) = self.watchers.get(seat_number) else {
            return Advance::Idle;
        };
        let mut start = seat.cursor;
        if start < self.history.start() && seat.after >= self.watch_floor {
            // What was trimmed lies before the watcher's own beginning.
            start = self.history.start();
        }
        if start < self.history.start() {
            return Advance::Compacted(Compacted {
                requested: Revision(self.watch_floor - 1),
                oldest: Revision(self.watch_floor),
            });
        }
        let before = out.len();
        let at = match &seat.interest {
            Interest::Key(key) => self.scan_key(key, seat, start, max, out),
            interest => self.scan(interest, seat, start, max, out),
        };
        let done = at >= self.announced;
        let through = match self.history.get(at) {
            Some(entry) if !done => entry.revision - 1,
            _ => self.visible(shared),
        };
        if done {
            self.watchers.put_in(seat_number);
        }
        let Some(seat) = self.watchers.get_mut(seat_number) else {
            return Advance::Idle;
        };
        seat.cursor = at;
        if out.len() > before {
            return Advance::Through(through);
        }
        if !done {
            return Advance::Again;
        }
        seat.waker = waker.cloned();
        Advance::Idle
    }

    /// Looks through entries from `at`; answers the first one not looked at.
    fn scan(
        &self,
        interest: &Interest,
        seat: &Seat,
        mut at: u64,
        max: usize,
        out: &mut Vec<WatchItem>,
    ) -> u64 {
        let before = out.len();
        let mut looked = 0;
        let mut last = None;
        let cost = if matches!(interest, Interest::Facet(_) | Interest::AnyFacet(_)) {
            FACETS_COST
        } else {
            1
        };
        while at < self.announced {
            let Some(entry) = self.history.get(at) else {
                return at;
            };
            let is_new_revision = last != Some(entry.revision);
            if is_new_revision && (out.len() - before >= max || looked >= SCAN_ENTRIES_MAX) {
                return at;
            }
            last = Some(entry.revision);
            looked += cost;
            if entry.revision > seat.after && self.concerns(interest, at, entry) {
                out.extend(self.item(at, entry, seat.is_brief));
            }
            at += 1;
        }
        at
    }

    fn concerns(&self, interest: &Interest, number: u64, entry: &Entry) -> bool {
        match interest {
            Interest::All => true,
            Interest::Key(key) => self.records.key(entry.slot) == &key[..],
            Interest::Prefix(prefix) => self.records.key(entry.slot).starts_with(prefix),
            Interest::Tag(tag) => {
                let is_after = match self.history.newer(number) {
                    Some(newer) => self
                        .history
                        .get(newer)
                        .is_some_and(|entry| entry.undo.tags().any(|found| found == *tag)),
                    None => self
                        .records
                        .get(entry.slot)
                        .is_some_and(|slot| slot.latest.tags().any(|found| found == *tag)),
                };
                is_after || entry.undo.tags().any(|found| found == *tag)
            }
            Interest::Facet(facet) => self.has_facet(number, |found| found == *facet),
            Interest::AnyFacet(facets) => self.has_facet(number, |found| facets.contains(&found)),
        }
    }

    fn has_facet(&self, number: u64, wanted: impl Fn(u64) -> bool) -> bool {
        let mut is_found = false;
        self.facets_of(number, &mut |facet| {
            is_found = is_found || wanted(facet);
            is_found
        });
        is_found
    }

    /// Follows one key's own chain instead of looking through everybody's entries.
    fn scan_key(
        &self,
        key: &[u8],
        seat: &Seat,
        cursor: u64,
        max: usize,
        out: &mut Vec<WatchItem>,
    ) -> u64 {
        let before = out.len();
        let mut at = self.first_of_key(key, cursor);
        while let Some(number) = at.filter(|number| *number < self.announced) {
            if out.len() - before >= max {
                return number;
            }
            let Some(entry) = self.history.get(number) else {
                return number;
            };
            if entry.revision > seat.after {
                out.extend(self.item(number, entry, seat.is_brief));
            }
            at = self.history.newer(number);
        }
        self.announced.max(cursor)
    }

    /// The key's first entry at or after `cursor`.
    fn first_of_key(&self, key: &[u8], cursor: u64) -> Option<u64> {
        let number = self.records.find(key)?;
        if self
            .history
            .get(cursor)
            .is_some_and(|entry| entry.slot == number)
        {
            return Some(cursor);
        }
        let mut first = None;
        let mut at = self.records.get(number).map(|slot| slot.newest);
        while let Some(entry) = at.filter(|entry| *entry != NO_ENTRY && *entry >= cursor) {
            first = Some(entry);
            at = self.history.older(entry);
        }
        first
    }

    fn item(&self, number: u64, entry: &Entry, is_brief: bool) -> Option<WatchItem> {
        let slot = self.records.get(entry.slot)?;
        let after = self.version_after(number, entry)?;
        if is_brief && after.exists() {
            return Some(WatchItem {
                revision: Revision(entry.revision),
                sub: entry.sub(),
                key: key_bytes(&slot.key),
                value: Some(after.value()),
                prev: None,
                create_revision: Revision(after.create),
                version: after.version(),
                lease: LeaseId(after.lease),
                prev_mod_revision: Revision(0),
                prev_version: 0,
                prev_lease: LeaseId(0),
            });
        }
        let prev = self.past(number)?;
        let create = if after.exists() {
            after.create
        } else {
            prev.create
        };
        let prev_modified = if prev.exists() { prev.modified } else { 0 };
        Some(WatchItem {
            revision: Revision(entry.revision),
            sub: entry.sub(),
            key: key_bytes(&slot.key),
            value: after.exists().then(|| after.value()),
            prev: prev.exists().then(|| prev.value()),
            create_revision: Revision(create),
            version: after.version(),
            lease: LeaseId(after.lease),
            prev_mod_revision: Revision(prev_modified),
            prev_version: prev.version(),
            prev_lease: LeaseId(prev.lease),
        })
    }

    /// Notes what time it is, so that history can be trimmed by age.
    pub(crate) fn mark_time(&mut self, now_micros: i64) {
        if self.config.keep_until_compacted {
            return;
        }
        let window = i64::from(self.config.history_seconds_min).saturating_mul(1_000_000);
        let apart = (window / TIME_MARKS_MAX as i64).max(1_000_000);
        let old = now_micros.saturating_sub(window);
        while let Some((time, end)) = self.marks.front().copied().filter(|(time, _)| *time <= old) {
            let _ = time;
            self.trim_to = self.trim_to.max(end);
            self.marks.pop_front();
        }
        let is_due = self
            .marks
            .back()
            .is_none_or(|(time, _)| now_micros - time >= apart);
        if is_due && self.marks.len() <= TIME_MARKS_MAX {
            self.marks.push_back((now_micros, self.history.end()));
        }
    }

    /// Gives up history before `revision`; the entries go in small steps.
    pub(crate) fn compact(&mut self, revision: i64) {
        self.list_floor = self.list_floor.max(revision);
        self.watch_floor = self.watch_floor.max(revision - 1);
        self.trim_to = self.trim_to.max(self.history.first_after(revision - 1));
    }

    /// Entries before this number are given up.
    pub(crate) fn trim_to(&self) -> u64 {
        self.trim_to
    }

    /// For recovery: the base is complete, and this is how far back it and what follows can be read.
    pub(crate) fn set_window(&mut self, list_floor: i64, watch_floor: i64) {
        self.list_floor = list_floor;
        self.watch_floor = watch_floor;
        self.trim_to = self.history.end();
    }

    /// For recovery: history up to `revision` is not to be relied on.
    pub(crate) fn raise_floor(&mut self, revision: i64) {
        self.list_floor = self.list_floor.max(revision);
        self.watch_floor = self.watch_floor.max(revision);
        self.trim_to = self.trim_to.max(self.history.first_after(revision));
    }

    /// A deleted key that history no longer shows goes without a trace.
    pub(crate) fn forget(&mut self, number: u32) {
        self.names.remove(&self.records, number, false);
        self.records.remove(number);
        self.set_base_sub(number, 0);
    }

    /// For recovery: begins anew.
    pub(crate) fn forget_all(&mut self, revision: i64) {
        let floor = self.list_floor.max(revision);
        self.usage.change(self.told_bytes, 0);
        let reading = self.reading;
        *self = State::new(self.config, floor, floor, self.usage.clone());
        self.reading = reading;
    }

    /// Trims up to `max` entries. Answers how many.
    pub(crate) fn trim(&mut self, max: usize) -> usize {
        let mut trimmed = 0;
        while trimmed < max
            && (self.history.start() < self.trim_to || self.is_over_history_budget())
            && self.trim_one()
        {
            trimmed += 1;
        }
        if trimmed > 0 {
            self.tell_usage();
        }
        trimmed
    }

    fn is_over_history_budget(&self) -> bool {
        !self.config.keep_until_compacted && self.history.bytes() > self.config.history_bytes_max
    }

    /// Drops the oldest entry, unless it has not become visible yet.
    fn trim_one(&mut self) -> bool {
        let number = self.history.start();
        if number >= self.announced {
            return false;
        }
        let oldest = self.history.get(number).map(|entry| entry.revision);
        if oldest.is_some_and(|oldest| self.pins.iter().any(|pin| oldest > *pin)) {
            return false;
        }
        let Some(popped) = self.history.pop() else {
            return false;
        };
        // What it replaced is gone; what it made is the oldest version now.
        self.set_base_sub(popped.slot, if popped.is_delete { 0 } else { popped.sub });
        self.list_floor = self.list_floor.max(popped.revision);
        self.watch_floor = self.watch_floor.max(popped.revision);
        // Only a deletion can be the last anyone knows of a key; others need not touch the record.
        if popped.is_delete
            && self
                .records
                .get(popped.slot)
                .is_some_and(|slot| slot.newest == number)
        {
            self.forget(popped.slot);
        }
        true
    }
}

//! Watch cursors, and the index by which an event touches only the watchers it concerns.
//!
//! A watcher is either *idle* (it has seen everything announced, sits in the index and costs events
//! of others nothing) or *behind* (an event took it out of the index and noted where it was; it
//! reads the log from there when it is polled). There is no queue: one that stays behind until the
//! window has passed its place gets [`Compacted`].

use crate::collection::Collection;
use crate::errors::{Compacted, StoreError};
use crate::limits::WATCHERS_MAX;
use crate::shared::Wakes;
use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashMap};
use kv::{LeaseId, Revision};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Which events a watcher wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// All of the collection.
    All,
    /// Keys that start so. Prefixes that end in `/` are the cheapest.
    Prefix(Bytes),
    /// One key.
    Key(Bytes),
    /// Keys that carry this tag, or carried it until this event.
    Tag(u64),
    /// Keys whose value has this facet, or had it until this event ([`crate::Reading::facets`]).
    Facet(u64),
    /// The same for any of these.
    AnyFacet(Arc<[u64]>),
}

/// One event, as a watcher gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchItem {
    /// The revision of the event.
    pub revision: Revision,
    /// Its place among the events of the same revision.
    pub sub: u32,
    /// The key, without the collection's prefix.
    pub key: Bytes,
    /// The new value; none for a deletion.
    pub value: Option<Bytes>,
    /// The value before; none for a creation.
    pub prev: Option<Bytes>,
    /// When the key was created; for a deletion, when the deleted key was.
    pub create_revision: Revision,
    /// The version counter; 0 for a deletion.
    pub version: i64,
    /// The lease; none for a deletion.
    pub lease: LeaseId,
    /// The revision of the value before.
    pub prev_mod_revision: Revision,
    /// The version counter of the value before.
    pub prev_version: i64,
    /// The lease of the value before.
    pub prev_lease: LeaseId,
}

/// A cursor into a collection's log.
#[derive(Debug)]
pub struct Watcher {
    collection: Arc<Collection>,
    seat: u32,
}

impl Watcher {
    pub(crate) fn new(collection: Arc<Collection>, seat: u32) -> Self {
        Watcher { collection, seat }
    }

    /// From now on the value before is told of deletions alone, and so are its revision, version and lease: whoever can
    /// do without spares the store to make it from what is kept as a difference. Of what is left, a creation is an event
    /// whose `create_revision` is its revision.
    pub fn leave_out_prev(&mut self) {
        self.collection.leave_out_prev(self.seat);
    }

    /// Appends events to `out`: about `max`, never a part of a revision. Ready with the revision up
    /// to which everything was delivered; the list may then be empty.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
        out: &mut Vec<WatchItem>,
    ) -> Poll<Result<Revision, Compacted>> {
        self.collection.poll_watcher(self.seat, cx, max, out)
    }

    /// Everything up to here has been delivered: what a bookmark may say. Never waits.
    #[must_use]
    pub fn progress(&self) -> Revision {
        self.collection.watcher_progress(self.seat)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.collection.close_watcher(self.seat);
    }
}

const NOBODY: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) interest: Interest,
    /// While behind: the number of the first entry not looked at.
    pub(crate) cursor: u64,
    /// Events up to this revision are not wanted.
    pub(crate) after: i64,
    pub(crate) idle: bool,
    /// The value before is wanted of deletions alone.
    pub(crate) is_brief: bool,
    pub(crate) waker: Option<Waker>,
    next: u32,
    prev: u32,
    /// Who is found by any of several facets has a seat in the list of each, and these and its own are joined to a ring.
    sibling: u32,
    taken: bool,
}

impl Seat {
    /// Whether it sits in no list itself, but has others that do.
    fn is_found_by_others(&self) -> bool {
        matches!(self.interest, Interest::AnyFacet(_))
    }
}

#[derive(Debug)]
pub(crate) struct Watchers {
    seats: Vec<Seat>,
    free: Vec<u32>,
    /// Seats in lists.
    idle: usize,
    /// Seats that stand for others.
    doubles: usize,
    /// Heads of the lists of idle watchers.
    all: u32,
    keys: HashMap<Bytes, u32, DefaultHashBuilder>,
    prefixes: HashMap<Bytes, u32, DefaultHashBuilder>,
    tags: HashMap<u64, u32, DefaultHashBuilder>,
    facets: HashMap<u64, u32, DefaultHashBuilder>,
    /// Lengths of the prefixes that do not end in `/`, and how many lists have each.
    odd_lengths: BTreeMap<usize, usize>,
}

impl Default for Watchers {
    fn default() -> Self {
        Watchers {
            seats: Vec::new(),
            free: Vec::new(),
            idle: 0,
            doubles: 0,
            all: NOBODY,
            keys: HashMap::default(),
            prefixes: HashMap::default(),
            tags: HashMap::default(),
            facets: HashMap::default(),
            odd_lengths: BTreeMap::new(),
        }
    }
}

impl Watchers {
    pub(crate) fn open(
        &mut self,
        interest: Interest,
        cursor: u64,
        after: i64,
    ) -> Result<u32, StoreError> {
        let Interest::AnyFacet(facets) = &interest else {
            return self.take_seat(interest, cursor, after);
        };
        let facets = facets.clone();
        let number = self.take_seat(interest, cursor, after)?;
        for (index, facet) in facets.iter().enumerate() {
            if facets[..index].contains(facet) {
                continue;
            }
            match self.take_seat(Interest::Facet(*facet), cursor, after) {
                Ok(double) => self.join_ring(number, double),
                Err(full) => {
                    self.close(number);
                    return Err(full);
                }
            }
        }
        Ok(number)
    }

    fn take_seat(
        &mut self,
        interest: Interest,
        cursor: u64,
        after: i64,
    ) -> Result<u32, StoreError> {
        let seat = Seat {
            interest,
            cursor,
            after,
            idle: false,
            is_brief: false,
            waker: None,
            next: NOBODY,
            prev: NOBODY,
            sibling: NOBODY,
            taken: true,
        };
        if let Some(number) = self.free.pop() {
            if let Some(free) = self.seats.get_mut(number as usize) {
                *free = seat;
            }
            return Ok(number);
        }
        if self.seats.len() >= WATCHERS_MAX {
            return Err(StoreError::TooManyWatchers { max: WATCHERS_MAX });
        }
        self.seats.push(seat);
        Ok((self.seats.len() - 1) as u32)
    }

    fn join_ring(&mut self, number: u32, double: u32) {
        let Some(seat) = self.get_mut(number) else {
            return;
        };
        let next = std::mem::replace(&mut seat.sibling, double);
        let next = if next == NOBODY { number } else { next };
        if let Some(seat) = self.get_mut(double) {
            seat.sibling = next;
        }
        self.doubles += 1;
    }

    /// The seat after `at` in the ring that began at `start`.
    fn next_in_ring(&self, at: u32, start: u32) -> Option<u32> {
        let sibling = self.get(at)?.sibling;
        (sibling != NOBODY && sibling != start).then_some(sibling)
    }

    pub(crate) fn close(&mut self, number: u32) {
        self.take_out(number);
        let mut at = Some(number);
        while let Some(double) = at {
            at = self.next_in_ring(double, number);
            self.doubles -= usize::from(double != number);
            self.leave_seat(double);
        }
    }

    fn leave_seat(&mut self, number: u32) {
        if let Some(seat) = self.seats.get_mut(number as usize)
            && seat.taken
        {
            seat.taken = false;
            seat.waker = None;
            seat.interest = Interest::All;
            seat.sibling = NOBODY;
            self.free.push(number);
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Seat> {
        self.seats.get(number as usize)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Seat> {
        self.seats.get_mut(number as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.seats.len() - self.free.len() - self.doubles
    }

    pub(crate) fn anyone_by_facet(&self) -> bool {
        !self.facets.is_empty()
    }

    pub(crate) fn anyone_idle(&self) -> bool {
        self.idle > 0
    }

    fn head_mut(&mut self, interest: &Interest) -> &mut u32 {
        match interest {
            // Who is found by several facets sits in no list itself.
            Interest::All | Interest::AnyFacet(_) => &mut self.all,
            Interest::Tag(tag) => self.tags.entry(*tag).or_insert(NOBODY),
            Interest::Facet(facet) => self.facets.entry(*facet).or_insert(NOBODY),
            Interest::Key(key) => self.keys.entry(key.clone()).or_insert(NOBODY),
            Interest::Prefix(prefix) => {
                let is_new = !self.prefixes.contains_key(prefix);
                if is_new && !prefix.ends_with(b"/") {
                    *self.odd_lengths.entry(prefix.len()).or_insert(0) += 1;
                }
                self.prefixes.entry(prefix.clone()).or_insert(NOBODY)
            }
        }
    }

    fn drop_head(&mut self, interest: &Interest) {
        match interest {
            Interest::All | Interest::AnyFacet(_) => self.all = NOBODY,
            Interest::Tag(tag) => drop(self.tags.remove(tag)),
            Interest::Facet(facet) => drop(self.facets.remove(facet)),
            Interest::Key(key) => drop(self.keys.remove(key)),
            Interest::Prefix(prefix) => {
                self.prefixes.remove(prefix);
                self.forget_length(prefix);
            }
        }
    }

    fn forget_length(&mut self, prefix: &[u8]) {
        if prefix.ends_with(b"/") {
            return;
        }
        if let Some(count) = self.odd_lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.odd_lengths.remove(&prefix.len());
            }
        }
    }

    /// Puts a watcher that has seen everything into the index.
    pub(crate) fn put_in(&mut self, number: u32) {
        let Some(seat) = self.get_mut(number) else {
            return;
        };
        if seat.idle {
            return;
        }
        seat.idle = true;
        if seat.is_found_by_others() {
            let mut at = self.next_in_ring(number, number);
            while let Some(double) = at {
                self.put_in(double);
                at = self.next_in_ring(double, number);
            }
            return;
        }
        let interest = seat.interest.clone();
        let head = self.head_mut(&interest);
        let next = std::mem::replace(head, number);
        if let Some(neighbour) = self.get_mut(next) {
            neighbour.prev = number;
        }
        if let Some(seat) = self.get_mut(number) {
            seat.next = next;
            seat.prev = NOBODY;
        }
        self.idle += 1;
    }

    /// Takes one watcher out of the index.
    fn take_out(&mut self, number: u32) {
        let Some(seat) = self.get_mut(number) else {
            return;
        };
        if !seat.idle {
            return;
        }
        seat.idle = false;
        if seat.is_found_by_others() {
            let mut at = self.next_in_ring(number, number);
            while let Some(double) = at {
                self.take_out(double);
                at = self.next_in_ring(double, number);
            }
            return;
        }
        let (next, prev) = (seat.next, seat.prev);
        let interest = seat.interest.clone();
        self.idle -= 1;
        if let Some(neighbour) = self.get_mut(next) {
            neighbour.prev = prev;
        }
        if let Some(neighbour) = self.get_mut(prev) {
            neighbour.next = next;
        } else if next == NOBODY {
            self.drop_head(&interest);
        } else {
            *self.head_mut(&interest) = next;
        }
    }

    /// Tells every idle watcher of an event that entry `number` is for it.
    pub(crate) fn hit(
        &mut self,
        key: &[u8],
        tags: impl Iterator<Item = u64>,
        number: u64,
        wakes: &mut Wakes,
    ) {
        let all = std::mem::replace(&mut self.all, NOBODY);
        self.release(all, number, wakes);
        if let Some(head) = self.keys.remove(key) {
            self.release(head, number, wakes);
        }
        for tag in tags {
            if self.tags.is_empty() {
                break;
            }
            if let Some(head) = self.tags.remove(&tag) {
                self.release(head, number, wakes);
            }
        }
        if !self.prefixes.is_empty() {
            self.hit_prefixes(key, number, wakes);
        }
    }

    /// Tells every idle watcher of one of these facets that entry `number` is for it.
    pub(crate) fn hit_facets(&mut self, facets: &[u64], number: u64, wakes: &mut Wakes) {
        for facet in facets {
            if let Some(head) = self.facets.remove(facet) {
                self.release(head, number, wakes);
            }
        }
    }

    fn hit_prefixes(&mut self, key: &[u8], number: u64, wakes: &mut Wakes) {
        for (index, byte) in key.iter().enumerate() {
            if *byte == b'/'
                && let Some(head) = self.prefixes.remove(key.get(..=index).unwrap_or_default())
            {
                self.release(head, number, wakes);
            }
        }
        let mut length = 0;
        while let Some((&found, _)) = self.odd_lengths.range(length..=key.len()).next() {
            let prefix = key.get(..found).unwrap_or_default();
            if let Some(head) = self.prefixes.remove(prefix) {
                self.forget_length(prefix);
                self.release(head, number, wakes);
            }
            length = found + 1;
            if length > key.len() {
                break;
            }
        }
    }

    /// Takes a whole list out of the index.
    fn release(&mut self, head: u32, number: u64, wakes: &mut Wakes) {
        let mut next = head;
        while let Some(seat) = self.get_mut(next) {
            seat.idle = false;
            seat.cursor = number;
            let (at, sibling) = (next, seat.sibling);
            next = seat.next;
            if let Some(waker) = seat.waker.take() {
                wakes.add(waker);
            }
            self.idle -= 1;
            if sibling != NOBODY {
                self.release_ring(at, number, wakes);
            }
        }
    }

    /// One facet of several has come: the watcher itself is behind now, and waits for none of the others. Those are in
    /// other lists than the one that is being released.
    fn release_ring(&mut self, found: u32, number: u64, wakes: &mut Wakes) {
        let mut at = self.next_in_ring(found, found);
        while let Some(other) = at {
            at = self.next_in_ring(other, found);
            let Some(seat) = self.get_mut(other) else {
                return;
            };
            if !seat.is_found_by_others() {
                self.take_out(other);
                continue;
            }
            seat.idle = false;
            seat.cursor = number;
            if let Some(waker) = seat.waker.take() {
                wakes.add(waker);
            }
        }
    }

    /// Walks every invariant; for tests.
    pub(crate) fn check(&self, announced: u64) -> Result<(), String> {
        let mut linked = 0;
        let heads = [self.all]
            .into_iter()
            .chain(self.keys.values().copied())
            .chain(self.prefixes.values().copied())
            .chain(self.tags.values().copied())
            .chain(self.facets.values().copied());
        for head in heads {
            let (mut at, mut before) = (head, NOBODY);
            while let Some(seat) = self.get(at) {
                if !seat.idle || !seat.taken || seat.prev != before {
                    return Err(format!("watcher {at} is badly linked"));
                }
                linked += 1;
                before = at;
                at = seat.next;
            }
        }
        let idle = self
            .seats
            .iter()
            .filter(|seat| seat.taken && seat.idle && !seat.is_found_by_others())
            .count();
        if linked != idle || idle != self.idle {
            return Err(format!(
                "{linked} linked, {idle} idle, {} counted",
                self.idle
            ));
        }
        let apart = self.seats.iter().find(|seat| {
            let sibling = self.get(seat.sibling);
            sibling.is_some_and(|other| !other.taken || other.idle != seat.idle)
        });
        if apart.is_some() {
            return Err("a watcher waits for some of its facets only".to_owned());
        }
        let behind = self
            .seats
            .iter()
            .find(|seat| seat.taken && !seat.idle && seat.cursor > announced);
        if behind.is_some() {
            return Err("a watcher is ahead of what was announced".to_owned());
        }
        Ok(())
    }
}

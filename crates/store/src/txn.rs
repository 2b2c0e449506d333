//! Transactions over whole keys, with etcd's meaning.
//!
//! All collections a transaction could touch are locked, in one order. Which branches run is
//! decided for the whole tree before anything is written, as etcd does; then everything that could
//! fail is checked; then the operations run and cannot fail. The revision is taken by the first
//! one that has an effect, so a transaction without effect takes none.

use crate::blob::{Version, new_blob};
use crate::collection::{Collection, Growth, check_sizes, growth};
use crate::errors::{ReadError, StoreError};
use crate::shared::{Ticket, Wakes};
use crate::state::{Put, State};
use crate::store::{Store, collection_prefix, whole_key};
use bytes::Bytes;
use kv::{
    Compare, DeleteOp, End, KeyRange, KeyValue, LeaseId, Op, OpReply, Operand, PutOp, RangeOp,
    RangeReply, Revision, SortOrder, SortTarget, Txn, TxnReply,
};
use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll};

impl Store {
    /// Runs a transaction. Wait with [`Store::poll_txn_visible`] before telling anyone the answer.
    pub fn txn(&self, txn: &Txn) -> Result<TxnReply, StoreError> {
        Ok(self.txn_touching(txn)?.0)
    }

    /// The same, and what the answer rests on: wait with [`Touched::poll_visible`].
    pub fn txn_touching(&self, txn: &Txn) -> Result<(TxnReply, Touched), StoreError> {
        txn.validate()?;
        let mut wakes = Wakes::default();
        let collections = self.collections_of(txn);
        let result = Locked::new(self, &collections).run(txn, &mut wakes);
        wakes.wake();
        Ok((result?, Touched(collections)))
    }

    /// Reads a range on its own: pages at one revision, in short holds of the lock where it can.
    pub fn range(&self, op: &RangeOp) -> Result<RangeReply, StoreError> {
        Ok(self.range_touching(op)?.0)
    }

    /// The same, and what the answer rests on.
    pub fn range_touching(&self, op: &RangeOp) -> Result<(RangeReply, Touched), StoreError> {
        let collections = self.touched(&op.range);
        if let [collection] = &collections[..]
            && op.sort.is_none()
            && !op.has_filter()
            && op.range.end != End::One
            && let Some(reply) = range_of_one(collection, op)?
        {
            return Ok((reply, Touched(collections)));
        }
        let reply = Locked::new(self, &collections).range(op)?;
        Ok((reply, Touched(collections)))
    }

    /// Ready once `revision` is visible in every collection the transaction could touch.
    pub fn poll_txn_visible(
        &self,
        txn: &Txn,
        revision: Revision,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        Touched(self.collections_of(txn)).poll_visible(revision, cx)
    }

    /// Ready once `revision` is visible in every collection the range touches.
    pub fn poll_range_visible(
        &self,
        range: &KeyRange,
        revision: Revision,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        Touched(self.touched(range)).poll_visible(revision, cx)
    }

    /// The collections a transaction could touch, in the order of their locks.
    fn collections_of(&self, txn: &Txn) -> Vec<Arc<Collection>> {
        let mut found = Vec::new();
        self.gather(txn, &mut found);
        found.sort_by_key(|collection| collection.identity.id);
        found.dedup_by_key(|collection| collection.identity.id);
        found
    }

    fn gather(&self, txn: &Txn, found: &mut Vec<Arc<Collection>>) {
        for compare in &txn.compares {
            found.extend(self.touched(&compare.range));
        }
        for op in txn.then.iter().chain(&txn.otherwise) {
            match op {
                Op::Range(range) => found.extend(self.touched(&range.range)),
                Op::Delete(delete) => found.extend(self.touched(&delete.range)),
                Op::Txn(inner) => self.gather(inner, found),
                Op::Put(put) => found.push(self.route(&put.key)),
            }
        }
    }
}

/// The collections an answer rests on.
#[derive(Clone, Debug)]
pub struct Touched(Vec<Arc<Collection>>);

impl Touched {
    /// Ready once `revision` is visible in all of them. See [`Collection::poll_visible`].
    pub fn poll_visible(&self, revision: Revision, cx: &mut Context<'_>) -> Poll<()> {
        let mut all = Poll::Ready(());
        for collection in &self.0 {
            if collection.poll_visible(revision, cx).is_pending() {
                all = Poll::Pending;
            }
        }
        all
    }

    /// Whether `revision` is visible in all of them now.
    #[must_use]
    pub fn is_visible(&self, revision: Revision) -> bool {
        self.0
            .iter()
            .all(|collection| collection.visible() >= revision)
    }
}

/// A plain list of one collection. None if history went while it was read without a revision of
/// its own.
fn range_of_one(
    collection: &Arc<Collection>,
    op: &RangeOp,
) -> Result<Option<RangeReply>, StoreError> {
    let prefix = collection.prefix();
    let current = collection.revision();
    let at = if op.revision.0 == 0 {
        current
    } else {
        op.revision
    };
    let (start, end) = local(prefix, &op.range);
    let mut rows = Vec::new();
    let wanted = if op.limit == 0 { usize::MAX } else { op.limit };
    let read = (|| {
        if !op.count_only {
            collection.list(start, end, at, wanted, &mut rows)?;
        }
        collection.count(start, end, at)
    })();
    let count = match read {
        Ok(count) => count,
        Err(ReadError::Compacted(_)) if op.revision.0 == 0 => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let whole = |(key, record): (Bytes, crate::Record)| KeyValue {
        key: whole_key(prefix, &key),
        value: if op.keys_only {
            Bytes::new()
        } else {
            record.value
        },
        create_revision: record.create_revision,
        mod_revision: record.mod_revision,
        version: record.version,
        lease: record.lease,
    };
    let kvs: Vec<KeyValue> = rows.into_iter().map(whole).collect();
    let more = !op.count_only && count > kvs.len();
    Ok(Some(RangeReply {
        revision: current,
        kvs,
        more,
        count,
    }))
}

/// A range as the collection of `prefix` sees it: keys without the prefix.
fn local<'a>(prefix: &[u8], range: &'a KeyRange) -> (&'a [u8], Option<&'a [u8]>) {
    let start = range.start.strip_prefix(prefix).unwrap_or_default();
    let end = match &range.end {
        End::Before(end) => end.strip_prefix(prefix),
        End::One | End::Unbounded => None,
    };
    (start, end)
}

/// A lease, a collection's number, a key that hangs or is to hang on the lease.
type Hanging = (i64, u32, Arc<[u8]>);

struct Part<'a> {
    collection: &'a Collection,
    state: MutexGuard<'a, State>,
}

struct Locked<'a> {
    store: &'a Store,
    parts: Vec<Part<'a>>,
    ticket: Option<Ticket<'a>>,
    /// Leases that lose a key once everything is done.
    detached: Vec<Hanging>,
}

/// Which branches of a tree of transactions run.
struct Path<'t> {
    succeeded: bool,
    ops: &'t [Op],
    /// One for each inner transaction among `ops`, in order.
    inner: Vec<Path<'t>>,
}

impl<'a> Locked<'a> {
    fn new(store: &'a Store, collections: &'a [Arc<Collection>]) -> Self {
        let part = |collection: &'a Arc<Collection>| Part {
            collection,
            state: collection.lock(),
        };
        let parts = collections.iter().map(part).collect();
        Locked {
            store,
            parts,
            ticket: None,
            detached: Vec::new(),
        }
    }

    fn run(mut self, txn: &Txn, wakes: &mut Wakes) -> Result<TxnReply, StoreError> {
        let path = self.choose(txn);
        let attached = self.prepare(&path)?;
        let reply = self.execute(&path);
        if reply.is_err() {
            // Only the taking of the revision can fail, before anything was written.
            self.detach(attached);
            return reply;
        }
        if let Some(ticket) = self.ticket.take() {
            ticket.finish(wakes);
        }
        let detached = std::mem::take(&mut self.detached);
        self.detach(detached);
        for part in &mut self.parts {
            part.collection.announce_now(&mut part.state, wakes);
        }
        reply
    }

    fn detach(&self, keys: Vec<Hanging>) {
        for (lease, collection, key) in keys {
            self.store.shared.leases.detach(lease, collection, &key);
        }
    }

    fn revision(&self) -> Revision {
        let current = || self.store.shared.revision();
        Revision(self.ticket.as_ref().map_or_else(current, Ticket::revision))
    }

    /// The part that holds `key`, and the key without its prefix.
    fn part_of<'k>(&self, key: &'k [u8]) -> Option<(usize, &'k [u8])> {
        let prefix = collection_prefix(key);
        let with = |prefix: &[u8]| {
            self.parts
                .iter()
                .position(|part| part.collection.prefix() == prefix)
        };
        match with(prefix) {
            Some(part) => Some((part, key.get(prefix.len()..)?)),
            None => Some((with(b"")?, key)),
        }
    }

    // Deciding.

    fn choose<'t>(&self, txn: &'t Txn) -> Path<'t> {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        let inner = ops
            .iter()
            .filter_map(|op| match op {
                Op::Txn(inner) => Some(self.choose(inner)),
                Op::Put(_) | Op::Range(_) | Op::Delete(_) => None,
            })
            .collect();
        Path {
            succeeded,
            ops,
            inner,
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut any = false;
        let mut all = true;
        self.visit(&compare.range, i64::MAX, |_, version| {
            any = true;
            // Once false it stays so, whatever the next collection holds.
            all &= version_holds(compare, version);
            all
        });
        if any {
            all
        } else {
            version_holds(compare, &Version::default())
        }
    }

    /// Visits the versions of a range at a revision, in key order within each collection, until
    /// the visitor has enough of a collection.
    fn visit(
        &self,
        range: &KeyRange,
        revision: i64,
        mut visit: impl FnMut((usize, &Arc<[u8]>), &Version) -> bool,
    ) {
        if range.end == End::One {
            let Some((index, key)) = self.part_of(&range.start) else {
                return;
            };
            let Some(part) = self.parts.get(index) else {
                return;
            };
            let slot = part
                .state
                .records
                .find(key)
                .and_then(|slot| part.state.records.get(slot));
            if let Some(slot) = slot
                && let Some(version) = part.state.version_at(slot, revision)
            {
                visit((index, &slot.key), &version);
            }
            return;
        }
        for (index, part) in self.parts.iter().enumerate() {
            if !range.touches_prefix(part.collection.prefix()) {
                continue;
            }
            let (start, end) = local(part.collection.prefix(), range);
            let mut from: Arc<[u8]> = Arc::from(start);
            loop {
                let mut enough = false;
                let next = part.state.page(&from, end, revision, |key, version| {
                    enough = !visit((index, key), version);
                    !enough
                });
                match next {
                    Some(next) if !enough => from = next,
                    Some(_) | None => break,
                }
            }
        }
    }

    // Checking.

    /// Checks everything that could fail, and hangs the keys on their leases. Answers what was hung.
    fn prepare(&self, path: &Path<'_>) -> Result<Vec<Hanging>, StoreError> {
        let mut growths: BTreeMap<usize, Growth> = BTreeMap::new();
        let mut leases = Vec::new();
        self.check_puts(path, &mut growths, &mut leases)?;
        self.check_ranges(path)?;
        let is_logged = |index: &usize| {
            let part = self.parts.get(*index);
            part.is_some_and(|part| part.state.config.durability.is_logged())
        };
        // Before anything is done: a deletion may come first, and takes the revision for all.
        self.store
            .shared
            .check_room(growths.keys().any(is_logged))?;
        for (index, growth) in growths {
            if let Some(part) = self.parts.get(index) {
                part.collection.check_budget(&part.state, growth)?;
            }
        }
        let mut attached = Vec::new();
        for (lease, collection, key) in leases {
            match self.store.shared.leases.attach(lease, collection, &key) {
                Ok(true) => attached.push((lease, collection, key)),
                Ok(false) => {}
                Err(error) => {
                    self.detach(attached);
                    return Err(error);
                }
            }
        }
        Ok(attached)
    }

    /// Puts first, in the order of the tree: of several things wrong, the one etcd names is named.
    fn check_puts(
        &self,
        path: &Path<'_>,
        growths: &mut BTreeMap<usize, Growth>,
        leases: &mut Vec<Hanging>,
    ) -> Result<(), StoreError> {
        let mut inner = path.inner.iter();
        for op in path.ops {
            match op {
                Op::Put(put) => self.check_put(put, growths, leases)?,
                Op::Txn(_) => match inner.next() {
                    Some(path) => self.check_puts(path, growths, leases)?,
                    None => continue,
                },
                Op::Range(_) | Op::Delete(_) => {}
            }
        }
        Ok(())
    }

    fn check_ranges(&self, path: &Path<'_>) -> Result<(), ReadError> {
        let mut inner = path.inner.iter();
        for op in path.ops {
            match op {
                Op::Range(range) => self.check_range(range)?,
                Op::Txn(_) => match inner.next() {
                    Some(path) => self.check_ranges(path)?,
                    None => continue,
                },
                Op::Put(_) | Op::Delete(_) => {}
            }
        }
        Ok(())
    }

    fn check_range(&self, op: &RangeOp) -> Result<(), ReadError> {
        if op.revision.0 == 0 {
            return Ok(());
        }
        let touched = self.parts.iter().filter(|part| match op.range.end {
            End::One => self
                .part_of(&op.range.start)
                .and_then(|(index, _)| self.parts.get(index))
                .is_some_and(|own| own.collection.identity.id == part.collection.identity.id),
            End::Before(_) | End::Unbounded => op.range.touches_prefix(part.collection.prefix()),
        });
        let mut any = false;
        for part in touched {
            any = true;
            part.collection.check_readable(&part.state, op.revision)?;
        }
        let current = self.revision();
        if !any && op.revision > current {
            return Err(ReadError::Future {
                requested: op.revision,
                current,
            });
        }
        let oldest = self.store.compacted();
        if !any && op.revision < oldest {
            return Err(crate::Compacted {
                requested: op.revision,
                oldest,
            }
            .into());
        }
        Ok(())
    }

    fn check_put(
        &self,
        put: &PutOp,
        growths: &mut BTreeMap<usize, Growth>,
        leases: &mut Vec<Hanging>,
    ) -> Result<(), StoreError> {
        check_sizes(&put.key, &put.value, &[])?;
        let Some((index, key)) = self.part_of(&put.key) else {
            return Ok(());
        };
        let Some(part) = self.parts.get(index) else {
            return Ok(());
        };
        let slot = part.state.find_live(key).map(|(_, slot)| slot);
        if (put.ignore_value || put.ignore_lease) && slot.is_none() {
            return Err(StoreError::KeyNotFound);
        }
        let absent = Version::default();
        let old = slot.map_or(&absent, |slot| &slot.latest);
        let new_len = if put.ignore_value {
            old.blob_len()
        } else {
            put.value.len() as u64
        };
        let more = growth(old, key.len(), new_len);
        let sum = growths.entry(index).or_default();
        sum.live += more.live;
        sum.total += more.total;
        let lease = if put.ignore_lease {
            old.lease
        } else {
            put.lease.0
        };
        if lease != 0 {
            if !self.store.shared.leases.is_open(lease) {
                return Err(StoreError::LeaseNotFound(LeaseId(lease)));
            }
            let key = slot.map_or_else(|| Arc::from(key), |slot| slot.key.clone());
            leases.push((lease, part.collection.identity.id, key));
        }
        Ok(())
    }

    // Doing.

    fn execute(&mut self, path: &Path<'_>) -> Result<TxnReply, StoreError> {
        let mut replies = Vec::with_capacity(path.ops.len());
        let mut inner = path.inner.iter();
        for op in path.ops {
            replies.push(match op {
                Op::Range(range) => OpReply::Range(self.range(range)?),
                Op::Put(put) => self.put(put)?,
                Op::Delete(delete) => self.delete(delete)?,
                Op::Txn(_) => match inner.next() {
                    Some(path) => OpReply::Txn(self.execute(path)?),
                    None => continue,
                },
            });
        }
        Ok(TxnReply {
            revision: self.revision(),
            succeeded: path.succeeded,
            replies,
        })
    }

    fn take_ticket(&mut self, grows: bool) -> Result<(), StoreError> {
        if self.ticket.is_none() {
            let logged = self
                .parts
                .iter()
                .any(|part| part.state.config.durability.is_logged());
            self.ticket = Some(self.store.shared.ticket(logged, grows)?);
        }
        Ok(())
    }

    fn put(&mut self, put: &PutOp) -> Result<OpReply, StoreError> {
        self.take_ticket(true)?;
        let nothing = OpReply::Put { prev: None };
        let Some((index, key)) = self.part_of(&put.key) else {
            return Ok(nothing);
        };
        let Some(part) = self.parts.get_mut(index) else {
            return Ok(nothing);
        };
        let Some(ticket) = &mut self.ticket else {
            return Ok(nothing);
        };
        let number = part.state.records.find(key);
        let known = number.and_then(|number| part.state.records.get(number));
        let old = known.map(|slot| slot.latest.clone()).unwrap_or_default();
        let key: Arc<[u8]> = known.map_or_else(|| Arc::from(key), |slot| slot.key.clone());
        let (blob, tag_count) = match old.blob() {
            Some(blob) if put.ignore_value => (blob.clone(), old.tag_count()),
            _ => (new_blob(&put.value, &[]), 0),
        };
        let lease = if put.ignore_lease {
            old.lease
        } else {
            put.lease.0
        };
        let prev =
            (put.prev_kv && old.exists()).then(|| key_value(part.collection, &key, &old, false));
        if old.lease != 0 && old.lease != lease {
            self.detached
                .push((old.lease, part.collection.identity.id, key.clone()));
        }
        let put = Put {
            number,
            key: &key,
            blob,
            tag_count,
            lease,
        };
        part.state.put(&part.collection.identity, ticket, put);
        Ok(OpReply::Put { prev })
    }

    fn delete(&mut self, op: &DeleteOp) -> Result<OpReply, StoreError> {
        let mut found: Vec<(Bytes, usize, Arc<[u8]>, Version)> = Vec::new();
        self.visit(&op.range, i64::MAX, |(index, key), version| {
            let prefix = self.parts.get(index).map(|part| part.collection.prefix());
            let whole = whole_key(prefix.map_or(&[], |prefix| &prefix[..]), key);
            found.push((whole, index, key.clone(), version.clone()));
            true
        });
        if found.is_empty() {
            return Ok(OpReply::Delete {
                deleted: 0,
                prev: Vec::new(),
            });
        }
        self.take_ticket(false)?;
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let deleted = found.len();
        let mut prev = Vec::new();
        for (_, index, key, version) in found {
            let Some(part) = self.parts.get_mut(index) else {
                continue;
            };
            let Some(ticket) = &mut self.ticket else {
                continue;
            };
            let Some((number, _)) = part.state.find_live(&key) else {
                continue;
            };
            part.state.delete(&part.collection.identity, ticket, number);
            if op.prev_kv {
                prev.push(key_value(part.collection, &key, &version, false));
            }
            if version.lease != 0 {
                self.detached
                    .push((version.lease, part.collection.identity.id, key));
            }
        }
        Ok(OpReply::Delete { deleted, prev })
    }

    fn range(&self, op: &RangeOp) -> Result<RangeReply, ReadError> {
        self.check_range(op)?;
        let at = if op.revision.0 == 0 {
            i64::MAX
        } else {
            op.revision.0
        };
        let revision = self.revision();
        let count = self.count(&op.range, at);
        if op.count_only {
            return Ok(RangeReply {
                revision,
                count,
                ..RangeReply::default()
            });
        }
        let wanted = if op.limit == 0 { usize::MAX } else { op.limit };
        let takes_all = op.sort.is_some() || op.has_filter();
        let mut kvs: Vec<KeyValue> = Vec::new();
        let mut from_part = (usize::MAX, 0);
        self.visit(&op.range, at, |(index, key), version| {
            if from_part.0 != index {
                from_part = (index, 0);
            }
            if !takes_all && from_part.1 >= wanted {
                return false;
            }
            from_part.1 += 1;
            if op.admits(Revision(version.create), Revision(version.modified))
                && let Some(part) = self.parts.get(index)
            {
                // A sort by value needs it; it is dropped afterwards.
                let bare = op.keys_only && op.sort.is_none();
                kvs.push(key_value(part.collection, key, version, bare));
            }
            true
        });
        kvs.sort_by(|a, b| a.key.cmp(&b.key));
        if let Some((target, order)) = op.sort {
            sort(&mut kvs, target, order);
        }
        let cut = kvs.len() > wanted;
        kvs.truncate(wanted);
        if op.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        let more = cut || (!takes_all && count > kvs.len());
        Ok(RangeReply {
            revision,
            kvs,
            more,
            count,
        })
    }

    fn count(&self, range: &KeyRange, at: i64) -> usize {
        if range.end == End::One {
            let mut count = 0;
            self.visit(range, at, |_, _| {
                count += 1;
                true
            });
            return count;
        }
        let touched = self
            .parts
            .iter()
            .filter(|part| range.touches_prefix(part.collection.prefix()));
        touched
            .map(|part| {
                let (start, end) = local(part.collection.prefix(), range);
                part.state.count_at(start, end, at)
            })
            .sum()
    }
}

fn version_holds(compare: &Compare, version: &Version) -> bool {
    match &compare.operand {
        Operand::Value(value) => {
            version.exists() && compare.op.holds(version.value_slice(), &value[..])
        }
        Operand::Version(expected) => compare.op.holds(&version.version(), expected),
        Operand::Create(expected) => compare.op.holds(&version.create, &expected.0),
        Operand::Mod(expected) => {
            let modified = if version.exists() {
                version.modified
            } else {
                0
            };
            compare.op.holds(&modified, &expected.0)
        }
        Operand::Lease(expected) => compare.op.holds(&version.lease, &expected.0),
    }
}

fn key_value(collection: &Collection, key: &[u8], version: &Version, bare: bool) -> KeyValue {
    KeyValue {
        key: whole_key(collection.prefix(), key),
        value: if bare { Bytes::new() } else { version.value() },
        create_revision: Revision(version.create),
        mod_revision: Revision(version.modified),
        version: version.version(),
        lease: LeaseId(version.lease),
    }
}

fn sort(kvs: &mut [KeyValue], target: SortTarget, order: SortOrder) {
    let compare = |a: &KeyValue, b: &KeyValue| match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match order {
        SortOrder::Ascending => kvs.sort_by(compare),
        SortOrder::Descending => kvs.sort_by(|a, b| compare(b, a)),
    }
}

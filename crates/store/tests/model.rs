//! The store against a model that keeps every state there ever was.

mod values;

use bytes::Bytes;
use kv::{
    Compare, DeleteOp, Durability, End, KeyRange, KeyValue, LeaseId, LogRecord, Op, OpReply, PutOp,
    RangeOp, Revision, Txn, TxnReply,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};
use store::{
    Change, CollectionConfig, Interest, Precondition, ReadError, SnapshotScope, Store, StoreConfig,
    WatchItem, Watcher, WriteError, collection_prefix,
};
use values::value_of;

const KEYS: [&str; 8] = [
    "/registry/pods/a/x",
    "/registry/pods/a/y",
    "/registry/pods/b/x",
    "/registry/pods/c",
    "/registry/ex.io/widgets/a/x",
    "/registry/ex.io/widgets/z",
    "plain",
    "/registry/zeta",
];
const PODS: &str = "/registry/pods/";
const SECOND: i64 = 1_000_000;

type State = BTreeMap<Bytes, KeyValue>;

/// Every state there ever was, by the revision that made it.
struct Model {
    states: BTreeMap<i64, State>,
    leases: BTreeMap<i64, i64>,
}

impl Model {
    fn new() -> Self {
        Model {
            states: BTreeMap::from([(1, State::new())]),
            leases: BTreeMap::new(),
        }
    }

    fn at(&self, revision: i64) -> &State {
        self.states
            .range(..=revision)
            .next_back()
            .expect("revision 1 is always there")
            .1
    }

    fn newest(&self) -> i64 {
        *self
            .states
            .last_key_value()
            .expect("revision 1 is always there")
            .0
    }

    fn now(&self) -> &State {
        self.at(i64::MAX)
    }

    /// Applies puts and deletes at one revision; a change of nothing takes none.
    fn commit(&mut self, changes: &[(Bytes, Option<(Bytes, i64)>)]) -> i64 {
        let revision = self.newest() + 1;
        let mut state = self.now().clone();
        let mut any = false;
        for (key, change) in changes {
            match change {
                None => any |= state.remove(key).is_some(),
                Some((value, lease)) => {
                    any = true;
                    let old = state.get(key);
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: old.map_or(Revision(revision), |old| old.create_revision),
                        mod_revision: Revision(revision),
                        version: old.map_or(1, |old| old.version + 1),
                        lease: LeaseId(*lease),
                    };
                    state.insert(key.clone(), kv);
                }
            }
        }
        if !any {
            return self.newest();
        }
        self.states.insert(revision, state);
        revision
    }

    /// What a watcher from `from` sees up to `to`: (revision, key, value, previous value).
    fn events(&self, from: i64, to: i64, wants: impl Fn(&[u8]) -> bool) -> Vec<Seen> {
        let mut events = Vec::new();
        if to <= from {
            return events;
        }
        let mut before = self.at(from);
        for (revision, state) in self.states.range(from + 1..=to) {
            let keys: std::collections::BTreeSet<&Bytes> =
                before.keys().chain(state.keys()).collect();
            for key in keys {
                let (old, new) = (before.get(key), state.get(key));
                if wants(key) && old.map(|kv| kv.mod_revision) != new.map(|kv| kv.mod_revision) {
                    let value = |kv: &KeyValue| kv.value.clone();
                    events.push((*revision, key.clone(), new.map(value), old.map(value)));
                }
            }
            before = state;
        }
        events
    }
}

type Seen = (i64, Bytes, Option<Bytes>, Option<Bytes>);

#[derive(Clone, Debug)]
enum Step {
    Write {
        key: usize,
        create: bool,
        value: u8,
    },
    WriteAt {
        key: usize,
        offset: i64,
    },
    Remove {
        key: usize,
    },
    Txn {
        guard: usize,
        holds: bool,
        put: usize,
        del: usize,
        inner: usize,
        value: u8,
    },
    DeleteAll {
        prefix: &'static str,
    },
    Grant {
        ttl: i64,
    },
    Attach {
        key: usize,
        lease: usize,
    },
    Revoke {
        lease: usize,
    },
    Sleep {
        seconds: i64,
    },
    Compact {
        back: i64,
    },
    Sync,
    Watch {
        back: i64,
        interest: usize,
    },
    Poll,
    Reread {
        back: i64,
        limit: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    prop_oneof![
        6 => (key.clone(), any::<bool>(), any::<u8>())
            .prop_map(|(key, create, value)| Step::Write { key, create, value }),
        2 => (key.clone(), 0..2i64).prop_map(|(key, offset)| Step::WriteAt { key, offset }),
        3 => key.clone().prop_map(|key| Step::Remove { key }),
        4 => (key.clone(), any::<bool>(), key.clone(), key.clone(), key.clone(), any::<u8>()).prop_map(
            |(guard, holds, put, del, inner, value)| Step::Txn { guard, holds, put, del, inner, value }
        ),
        1 => prop_oneof![Just("/registry/pods/a/"), Just("/registry/"), Just("")]
            .prop_map(|prefix| Step::DeleteAll { prefix }),
        1 => (1..20i64).prop_map(|ttl| Step::Grant { ttl }),
        2 => (key.clone(), 0..4usize).prop_map(|(key, lease)| Step::Attach { key, lease }),
        1 => (0..4usize).prop_map(|lease| Step::Revoke { lease }),
        1 => (1..8i64).prop_map(|seconds| Step::Sleep { seconds }),
        1 => (0..12i64).prop_map(|back| Step::Compact { back }),
        3 => Just(Step::Sync),
        2 => (0..6i64, 0..5usize).prop_map(|(back, interest)| Step::Watch { back, interest }),
        3 => Just(Step::Poll),
        3 => (0..15i64, 1..5usize).prop_map(|(back, limit)| Step::Reread { back, limit }),
    ]
}

struct Watching {
    watcher: Watcher,
    interest: usize,
    from: i64,
    through: i64,
    seen: Vec<Seen>,
}

fn interest(number: usize) -> Interest {
    match number {
        0 => Interest::All,
        1 => Interest::Prefix("a/".into()),
        2 => Interest::Prefix("a/x".into()),
        3 => Interest::Key("a/x".into()),
        _ => Interest::Tag(7),
    }
}

fn wants(number: usize, key: &[u8]) -> bool {
    let Some(key) = key.strip_prefix(PODS.as_bytes()) else {
        return false;
    };
    match number {
        0 => true,
        1 => key.starts_with(b"a/"),
        2 => key.starts_with(b"a/x"),
        3 => key == b"a/x",
        // Nothing here is written with a tag.
        _ => false,
    }
}

struct Run {
    store: Store,
    model: Model,
    log: Vec<LogRecord>,
    durable: i64,
    now: i64,
    compacted: i64,
    grants: Vec<i64>,
    watches: Vec<Watching>,
}

impl Run {
    fn new(durability: Durability) -> Self {
        let collections = CollectionConfig {
            durability,
            keep_until_compacted: true,
            ..CollectionConfig::default()
        };
        let store = Store::new(StoreConfig {
            log: true,
            collections,
            seed: 1,
        });
        store.reserve(Revision(1 << 40));
        store.collection(PODS, collections);
        Run {
            store,
            model: Model::new(),
            log: Vec::new(),
            durable: 1,
            now: SECOND,
            compacted: 0,
            grants: Vec::new(),
            watches: Vec::new(),
        }
    }

    fn key(number: usize) -> Bytes {
        Bytes::from_static(KEYS[number].as_bytes())
    }

    fn lease_of(&self, number: usize) -> i64 {
        self.grants.get(number).copied().unwrap_or(0)
    }

    fn expect_write(
        &mut self,
        key: &Bytes,
        precondition: Precondition,
        value: Option<Bytes>,
        lease: i64,
    ) -> Result<(), TestCaseError> {
        let prefix = collection_prefix(key);
        let config = self.store.config_of(prefix);
        let collection = self
            .store
            .collection(std::str::from_utf8(prefix).expect("ascii"), config);
        let current = self.model.now().get(key).cloned();
        let modified = current.as_ref().map_or(0, |kv| kv.mod_revision.0);
        let holds = match precondition {
            Precondition::Any => true,
            Precondition::Absent => modified == 0,
            Precondition::ModRevision(revision) => revision.0 == modified,
        } && (value.is_some() || current.is_some());
        let change = match &value {
            Some(value) => Change::Put {
                value: value.clone(),
                lease: LeaseId(lease),
                tags: &[],
            },
            None => Change::Delete,
        };
        match collection.write(&key[prefix.len()..], precondition, change) {
            Ok(written) => {
                prop_assert!(holds);
                let revision = self
                    .model
                    .commit(&[(key.clone(), value.map(|v| (v, lease)))]);
                prop_assert_eq!(written.revision.0, revision);
                prop_assert_eq!(
                    written
                        .prev
                        .map(|prev| (prev.value, prev.mod_revision, prev.version)),
                    current.map(|kv| (kv.value, kv.mod_revision, kv.version))
                );
            }
            Err(WriteError::Lost { current: found, .. }) => {
                prop_assert!(!holds);
                prop_assert_eq!(
                    found.map(|found| found.mod_revision.0).unwrap_or(0),
                    modified
                );
            }
            Err(other) => {
                prop_assert!(
                    lease != 0 && !self.model.leases.contains_key(&lease),
                    "{}",
                    other
                );
            }
        }
        Ok(())
    }

    fn expire(&mut self) {
        let due: Vec<i64> = {
            let mut due: Vec<(i64, i64)> = self
                .model
                .leases
                .iter()
                .filter(|(_, deadline)| **deadline <= self.now)
                .map(|(id, deadline)| (*deadline, *id))
                .collect();
            due.sort_unstable();
            due.into_iter().map(|(_, id)| id).collect()
        };
        for id in due {
            self.end_lease(id);
        }
    }

    fn end_lease(&mut self, id: i64) {
        self.model.leases.remove(&id);
        let on_it = |kv: &&KeyValue| kv.lease.0 == id;
        let gone: Vec<_> = self
            .model
            .now()
            .values()
            .filter(on_it)
            .map(|kv| (kv.key.clone(), None))
            .collect();
        self.model.commit(&gone);
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Write { key, create, value } => {
                let precondition = if *create {
                    Precondition::Absent
                } else {
                    Precondition::Any
                };
                let value = value_of(*value);
                self.expect_write(&Self::key(*key), precondition, Some(value), 0)?;
            }
            Step::WriteAt { key, offset } => {
                let key = Self::key(*key);
                let at = self.model.now().get(&key).map_or(0, |kv| kv.mod_revision.0) + offset;
                let precondition = Precondition::ModRevision(Revision(at));
                self.expect_write(&key, precondition, Some("at".into()), 0)?;
            }
            Step::Remove { key } => {
                self.expect_write(&Self::key(*key), Precondition::Any, None, 0)?;
            }
            Step::Txn {
                guard,
                holds,
                put,
                del,
                inner,
                value,
            } => {
                self.txn(*guard, *holds, *put, *del, *inner, *value)?;
            }
            Step::DeleteAll { prefix } => {
                let range = KeyRange::prefix(*prefix);
                let delete = Op::Delete(DeleteOp {
                    range,
                    prev_kv: true,
                });
                let reply = self.store.txn(&Txn {
                    then: vec![delete],
                    ..Txn::default()
                });
                let reply = reply.map_err(|e| TestCaseError::fail(e.to_string()))?;
                let under = |key: &&Bytes| key.starts_with(prefix.as_bytes());
                let gone: Vec<KeyValue> = self
                    .model
                    .now()
                    .iter()
                    .filter(|(key, _)| under(key))
                    .map(|(_, kv)| kv.clone())
                    .collect();
                let changes: Vec<_> = gone.iter().map(|kv| (kv.key.clone(), None)).collect();
                let revision = Revision(self.model.commit(&changes));
                let expected = OpReply::Delete {
                    deleted: gone.len(),
                    prev: gone,
                };
                prop_assert_eq!(
                    reply,
                    TxnReply {
                        revision,
                        succeeded: true,
                        replies: vec![expected]
                    }
                );
            }
            Step::Grant { ttl } if self.grants.len() < 4 => {
                let granted = self.store.lease_grant(self.now, LeaseId::NONE, *ttl);
                let granted = granted.map_err(|e| TestCaseError::fail(e.to_string()))?;
                self.grants.push(granted.id.0);
                self.model
                    .leases
                    .insert(granted.id.0, self.now + ttl * SECOND);
            }
            Step::Grant { .. } => {}
            Step::Attach { key, lease } => {
                let lease = self.lease_of(*lease);
                self.expect_write(&Self::key(*key), Precondition::Any, Some("l".into()), lease)?;
            }
            Step::Revoke { lease } => {
                let lease = self.lease_of(*lease);
                let revoked = self.store.lease_revoke(LeaseId(lease));
                prop_assert_eq!(revoked.is_ok(), self.model.leases.contains_key(&lease));
                if let Ok(revision) = revoked {
                    self.end_lease(lease);
                    prop_assert_eq!(revision.0, self.model.newest());
                }
            }
            Step::Sleep { seconds } => {
                self.now += seconds * SECOND;
                self.store.step(self.now, 3);
                self.expire();
            }
            Step::Compact { back } => {
                let to = (self.model.newest() - back).max(1);
                let compacted = self.store.compact(Revision(to));
                prop_assert_eq!(compacted.is_ok(), to > self.compacted);
                self.compacted = self.compacted.max(to);
            }
            Step::Sync => {
                self.store.drain_log(&mut self.log);
                self.store.set_durable(self.store.applied());
                self.durable = self.model.newest();
            }
            Step::Watch {
                back,
                interest: number,
            } => {
                let from = (self.model.newest() - back).max(1);
                let pods = self
                    .store
                    .existing(PODS.as_bytes())
                    .expect("made at the start");
                match pods.watch(Revision(from), interest(*number)) {
                    Ok(watcher) => self.watches.push(Watching {
                        watcher,
                        interest: *number,
                        from,
                        through: from,
                        seen: Vec::new(),
                    }),
                    Err(_) => prop_assert!(from + 1 < self.compacted),
                }
            }
            Step::Poll => self.poll()?,
            Step::Reread { back, limit } => self.reread(*back, *limit)?,
        }
        prop_assert_eq!(self.store.applied().0, self.model.newest());
        self.store.check().map_err(TestCaseError::fail)
    }

    fn txn(
        &mut self,
        guard: usize,
        holds: bool,
        put: usize,
        del: usize,
        inner: usize,
        value: u8,
    ) -> Result<(), TestCaseError> {
        let now = self.model.now().clone();
        let at = |key: &Bytes| now.get(key).map_or(0, |kv| kv.mod_revision.0);
        let (guard, put) = (Self::key(guard), Self::key(put));
        let (del, inner) = (Self::key(del), Self::key(inner));
        let expected = if holds { at(&guard) } else { at(&guard) + 1 };
        let value = value_of(value);
        let read = || Op::Range(RangeOp::new(KeyRange::all()));
        let nested = Txn {
            compares: vec![Compare::mod_revision(inner.clone(), Revision(at(&inner)))],
            then: vec![Op::Put(PutOp::new(inner.clone(), "inner")), read()],
            otherwise: vec![],
        };
        let txn = Txn {
            compares: vec![Compare::mod_revision(guard, Revision(expected))],
            then: vec![
                Op::Put(PutOp {
                    prev_kv: true,
                    ..PutOp::new(put.clone(), value.clone())
                }),
                Op::Delete(DeleteOp {
                    range: KeyRange::one(del.clone()),
                    prev_kv: false,
                }),
                Op::Txn(nested),
                read(),
            ],
            otherwise: vec![read()],
        };
        let result = self.store.txn(&txn);
        if put == del || put == inner || del == inner {
            prop_assert!(result.is_err());
            return Ok(());
        }
        let reply = result.map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(reply.succeeded, holds);
        if holds {
            self.model.commit(&[
                (put.clone(), Some((value, 0))),
                (del, None),
                (inner, Some(("inner".into(), 0))),
            ]);
            prop_assert_eq!(
                &reply.replies[0],
                &OpReply::Put {
                    prev: now.get(&put).cloned()
                }
            );
        }
        prop_assert_eq!(reply.revision.0, self.model.newest());
        // The last read sees everything the transaction did.
        let Some(OpReply::Range(seen)) = reply.replies.last() else {
            return Err(TestCaseError::fail("the last reply is a range"));
        };
        let state: Vec<KeyValue> = self.model.now().values().cloned().collect();
        prop_assert_eq!(seen.count, state.len());
        prop_assert_eq!(&seen.kvs, &state);
        Ok(())
    }

    fn poll(&mut self) -> Result<(), TestCaseError> {
        let mut cx = Context::from_waker(Waker::noop());
        for watching in &mut self.watches {
            let mut items: Vec<WatchItem> = Vec::new();
            while let Poll::Ready(ready) = watching.watcher.poll_next(&mut cx, 2, &mut items) {
                let Ok(through) = ready else { break };
                prop_assert!(through.0 >= watching.through);
                watching.through = through.0;
                let seen = items.drain(..).map(|item| {
                    let key = Bytes::from([PODS.as_bytes(), &item.key].concat());
                    (item.revision.0, key, item.value, item.prev)
                });
                watching.seen.extend(seen);
                prop_assert!(watching.seen.last().is_none_or(|last| last.0 <= through.0));
            }
            // Within one revision the order is that of the operations: compare as sets.
            let mut seen = watching.seen.clone();
            seen.sort();
            let to = watching.seen.last().map_or(watching.from, |last| last.0);
            let wanted = |key: &[u8]| wants(watching.interest, key);
            let mut expected = self.model.events(watching.from, to, wanted);
            expected.sort();
            prop_assert_eq!(&seen, &expected);
            prop_assert!(to <= watching.watcher.progress().0.max(watching.from));
        }
        Ok(())
    }

    fn reread(&mut self, back: i64, limit: usize) -> Result<(), TestCaseError> {
        let at = (self.model.newest() - back).max(1);
        let range = KeyRange {
            start: "/registry/".into(),
            end: End::Unbounded,
        };
        let op = RangeOp {
            revision: Revision(at),
            limit,
            ..RangeOp::new(range)
        };
        match self.store.range(&op) {
            Ok(reply) => {
                prop_assert!(at >= self.compacted);
                let in_range = |kv: &&KeyValue| kv.key[..] >= b"/registry/"[..];
                let all: Vec<KeyValue> = self
                    .model
                    .at(at)
                    .values()
                    .filter(in_range)
                    .cloned()
                    .collect();
                prop_assert_eq!(reply.count, all.len());
                prop_assert_eq!(reply.more, all.len() > limit);
                prop_assert_eq!(&reply.kvs[..], &all[..limit.min(all.len())]);
            }
            Err(error) => {
                prop_assert!(at < self.compacted, "{}", error);
            }
        }
        self.page_pods(at, limit)
    }

    /// The same revision, page by page through the handle.
    fn page_pods(&self, at: i64, limit: usize) -> Result<(), TestCaseError> {
        let pods = self
            .store
            .existing(PODS.as_bytes())
            .expect("made at the start");
        let (mut rows, mut from) = (Vec::new(), Some(Bytes::new()));
        while let Some(start) = from {
            match pods.list(&start, None, Revision(at), limit, &mut rows) {
                Ok(more) => {
                    prop_assert!(more.next.is_none() || rows.len().is_multiple_of(limit));
                    from = more.next;
                }
                Err(ReadError::Compacted(_)) if at < self.compacted => return Ok(()),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
        let seen: Vec<_> = rows
            .into_iter()
            .map(|(key, r)| (key, r.value, r.version))
            .collect();
        let expected: Vec<_> = self
            .model
            .at(at)
            .values()
            .filter_map(|kv| {
                let key = kv.key.strip_prefix(PODS.as_bytes())?;
                Some((Bytes::copy_from_slice(key), kv.value.clone(), kv.version))
            })
            .collect();
        prop_assert_eq!(seen, expected);
        Ok(())
    }

    /// A second store, built from the log alone, or from a snapshot and the log.
    fn rebuild(&mut self, with_snapshot: bool) -> Result<(), TestCaseError> {
        self.store.drain_log(&mut self.log);
        let other = Store::new(self.store_config());
        let mut restoring = other.restore();
        if with_snapshot {
            let mut cursor = self.store.snapshot(SnapshotScope::Logged);
            let mut page = Vec::new();
            while self.store.snapshot_page(&mut cursor, &mut page) {}
            page.into_iter().for_each(|record| restoring.item(record));
            restoring.snapshot_end(self.store.applied());
        }
        self.log
            .iter()
            .cloned()
            .for_each(|record| restoring.record(record));
        restoring.finish(Revision(1_000), true);
        other.check().map_err(TestCaseError::fail)?;
        prop_assert_eq!(other.applied(), Revision(1_000));
        let all = other.range(&RangeOp::new(KeyRange::all()));
        let all = all.map_err(|e| TestCaseError::fail(e.to_string()))?;
        let state: Vec<KeyValue> = self.model.now().values().cloned().collect();
        prop_assert_eq!(all.kvs, state);
        let mut leases: Vec<i64> = other.leases().into_iter().map(|lease| lease.0).collect();
        leases.sort_unstable();
        let expected: Vec<i64> = self.model.leases.keys().copied().collect();
        prop_assert_eq!(leases, expected);
        Ok(())
    }

    fn store_config(&self) -> StoreConfig {
        let collections = CollectionConfig {
            keep_until_compacted: true,
            ..CollectionConfig::default()
        };
        StoreConfig {
            log: true,
            collections,
            seed: 1,
        }
    }
}

/// The configuration the run gave all its collections.
trait ConfigOf {
    fn config_of(&self, prefix: &[u8]) -> CollectionConfig;
}

impl ConfigOf for Store {
    fn config_of(&self, _prefix: &[u8]) -> CollectionConfig {
        self.existing(PODS.as_bytes())
            .map(|pods| pods.config())
            .unwrap_or_default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_its_model(steps in prop::collection::vec(step(), 1..90)) {
        let mut run = Run::new(Durability::Fsync);
        for step in &steps {
            run.step(step)?;
        }
        run.step(&Step::Sync)?;
        run.poll()?;
        for watching in &run.watches {
            // Whoever was not overtaken by compaction has seen everything.
            let all = run.model.events(watching.from, i64::MAX - 1, |key| wants(watching.interest, key));
            if watching.from >= run.compacted {
                prop_assert_eq!(watching.seen.len(), all.len());
            }
        }
        run.rebuild(false)?;
        run.rebuild(true)?;
    }

    #[test]
    fn memory_collections_are_the_same_without_waiting(steps in prop::collection::vec(step(), 1..60)) {
        let mut run = Run::new(Durability::Memory);
        for step in &steps {
            run.step(step)?;
            run.poll()?;
            let newest = run.model.newest();
            prop_assert_eq!(run.store.existing(PODS.as_bytes()).map(|c| c.visible().0), Some(newest));
        }
    }
}

//! What all collections of a store share: the revision counter, the watermarks, the log queue.
//!
//! Order of locks: collections (by id), then leases, then settings, then the log queue. A revision of a logged
//! collection is taken under the log queue's lock, so the log is in revision order; a revision of a
//! memory collection is one atomic addition.

use crate::blob::{Version, key_bytes};
use crate::errors::StoreError;
use crate::lease::Leases;
use crate::limits::LOG_PENDING_BYTES_MAX;
use crate::settings::Settings;
use bytes::Bytes;
use kv::{Durability, LeaseId, LogRecord, Revision};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

/// A lock whose holder panicked is taken over: every critical section leaves its state whole or
/// is caught by `check`.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakers collected under a lock, woken after it.
#[derive(Default)]
pub(crate) struct Wakes(Vec<Waker>);

impl Wakes {
    pub(crate) fn add(&mut self, waker: Waker) {
        self.0.push(waker);
    }

    pub(crate) fn wake(self) {
        for waker in self.0 {
            waker.wake();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    revision: AtomicI64,
    /// Revisions up to here are on record as given out; none beyond may be taken.
    reserved: AtomicI64,
    written: AtomicI64,
    durable: AtomicI64,
    has_log: bool,
    log: Mutex<LogQueue>,
    failed: OnceLock<String>,
    /// The log's medium is full: what grows is refused.
    is_full: AtomicBool,
    pub(crate) leases: Leases,
    pub(crate) settings: Settings,
    pub(crate) usage: Arc<Usage>,
}

/// Bytes of all collections, history included. Each adds what changed when it lets its step go.
#[derive(Debug, Default)]
pub(crate) struct Usage(AtomicU64);

impl Usage {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn change(&self, before: u64, now: u64) {
        if now > before {
            self.0.fetch_add(now - before, Ordering::Relaxed);
        } else if now < before {
            self.0.fetch_sub(before - now, Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct LogQueue {
    pending: Vec<Pending>,
    bytes: u64,
    waker: Option<Waker>,
    /// Records ever queued, ever drained, and known to be on the medium.
    queued: u64,
    drained: u64,
    kept: u64,
    /// Who waits for a record to be on the medium.
    waiters: Vec<(u64, Waker)>,
}

/// A record on its way to the log, still sharing the store's allocations.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) revision: i64,
    pub(crate) durability: Durability,
    pub(crate) change: PendingChange,
}

#[derive(Debug)]
pub(crate) enum PendingChange {
    Key {
        collection: Bytes,
        key: Arc<[u8]>,
        version: Version,
        sub: u32,
    },
    Other(kv::Change),
}

impl Pending {
    fn into_record(self) -> LogRecord {
        let change = match self.change {
            PendingChange::Other(change) => change,
            PendingChange::Key {
                collection,
                key,
                version,
                sub,
            } if version.exists() => kv::Change::Put {
                collection,
                key: key_bytes(&key),
                value: version.value(),
                create_revision: Revision(version.create),
                version: version.version(),
                lease: LeaseId(version.lease),
                tags: version.tags().collect(),
                sub,
            },
            PendingChange::Key {
                collection,
                key,
                sub,
                ..
            } => kv::Change::Delete {
                collection,
                key: key_bytes(&key),
                sub,
            },
        };
        LogRecord {
            revision: Revision(self.revision),
            durability: self.durability,
            change,
        }
    }

    fn bytes(&self) -> u64 {
        const RECORD_BYTES: u64 = 128;
        match &self.change {
            PendingChange::Key { key, version, .. } => {
                RECORD_BYTES + key.len() as u64 + version.blob_len()
            }
            PendingChange::Other(_) => RECORD_BYTES,
        }
    }
}

impl Shared {
    pub(crate) fn new(has_log: bool, seed: u64) -> Self {
        Shared {
            revision: AtomicI64::new(1),
            reserved: AtomicI64::new(if has_log { 1 } else { i64::MAX }),
            written: AtomicI64::new(1),
            durable: AtomicI64::new(1),
            has_log,
            log: Mutex::default(),
            failed: OnceLock::new(),
            is_full: AtomicBool::new(false),
            leases: Leases::new(seed),
            settings: Settings::default(),
            usage: Arc::default(),
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    /// For recovery: the counter goes on from here.
    pub(crate) fn start_at(&self, revision: i64) {
        self.revision.fetch_max(revision, Ordering::AcqRel);
        self.reserved.fetch_max(revision, Ordering::AcqRel);
        self.written.fetch_max(revision, Ordering::AcqRel);
        self.durable.fetch_max(revision, Ordering::AcqRel);
    }

    pub(crate) fn reserve(&self, revision: i64) {
        if self.failure().is_some() {
            return;
        }
        self.reserved.fetch_max(revision, Ordering::AcqRel);
    }

    pub(crate) fn set_written(&self, revision: i64) {
        self.written.fetch_max(revision, Ordering::AcqRel);
    }

    pub(crate) fn set_durable(&self, revision: i64, wakes: &mut Wakes) {
        self.written.fetch_max(revision, Ordering::AcqRel);
        self.durable.fetch_max(revision, Ordering::AcqRel);
        let mut log = lock(&self.log);
        log.kept = log.drained;
        let kept = log.kept;
        log.waiters.retain(|(position, waker)| {
            let waits = *position > kept;
            if !waits {
                wakes.add(waker.clone());
            }
            waits
        });
    }

    /// How many records were queued so far.
    pub(crate) fn queued(&self) -> u64 {
        lock(&self.log).queued
    }

    /// Leaves a waker for when so many records are on the medium. False when they already are.
    pub(crate) fn wait_kept(&self, position: u64, waker: &Waker) -> bool {
        let mut log = lock(&self.log);
        let waits = self.has_log && log.kept < position;
        if waits {
            log.waiters.push((position, waker.clone()));
        }
        waits
    }

    pub(crate) fn durable(&self) -> i64 {
        if self.has_log {
            self.durable.load(Ordering::Acquire)
        } else {
            self.revision()
        }
    }

    /// Writes of this class count up to here.
    pub(crate) fn watermark(&self, durability: Durability) -> i64 {
        match durability {
            _ if !self.has_log => i64::MAX,
            Durability::Memory => i64::MAX,
            Durability::Buffered => self.written.load(Ordering::Acquire),
            Durability::Fsync => self.durable.load(Ordering::Acquire),
        }
    }

    /// From now on nothing is written any more.
    pub(crate) fn fail(&self, reason: String) {
        // The first reason is the true one.
        let _ = self.failed.set(reason);
        self.reserved.store(0, Ordering::Release);
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Release);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Acquire)
    }

    /// Refuses what the log would have to find room for.
    pub(crate) fn check_room(&self, logged: bool) -> Result<(), StoreError> {
        if logged && self.is_full() {
            return Err(StoreError::DiskFull);
        }
        Ok(())
    }

    /// Takes the next revision. With `logged`, the log queue stays locked until the ticket is
    /// finished, so nothing can slip between the revision and its records.
    pub(crate) fn ticket(&self, logged: bool, grows: bool) -> Result<Ticket<'_>, StoreError> {
        let log = if logged && self.has_log {
            if let Some(reason) = self.failure() {
                return Err(StoreError::LogStopped(reason.to_owned()));
            }
            if grows {
                self.check_room(logged)?;
            }
            let log = lock(&self.log);
            if grows && log.bytes > LOG_PENDING_BYTES_MAX {
                return Err(StoreError::LogBehind);
            }
            Some(log)
        } else {
            None
        };
        if self.revision.load(Ordering::Acquire) >= self.reserved.load(Ordering::Acquire) {
            return Err(match self.failure() {
                Some(reason) => StoreError::LogStopped(reason.to_owned()),
                None => StoreError::LogBehind,
            });
        }
        let was_empty = log.as_ref().is_some_and(|log| log.pending.is_empty());
        let revision = self.revision.fetch_add(1, Ordering::AcqRel) + 1;
        Ok(Ticket {
            log,
            revision,
            sub: 0,
            was_empty,
        })
    }

    /// Queues a record that takes no revision of its own.
    pub(crate) fn log_other(&self, durability: Durability, change: kv::Change, wakes: &mut Wakes) {
        if !self.has_log {
            return;
        }
        let mut log = lock(&self.log);
        let was_empty = log.pending.is_empty();
        let revision = self.revision();
        log.push(Pending {
            revision,
            durability,
            change: PendingChange::Other(change),
        });
        if was_empty {
            log.waker.iter().for_each(|waker| wakes.add(waker.clone()));
        }
    }

    /// Queues a version that is already applied: its collection was not logged until now.
    pub(crate) fn log_again(&self, pending: Pending) {
        if self.has_log {
            lock(&self.log).push(pending);
        }
    }

    pub(crate) fn drain_log(&self, out: &mut Vec<LogRecord>) {
        let pending = {
            let mut log = lock(&self.log);
            log.bytes = 0;
            log.drained = log.queued;
            std::mem::take(&mut log.pending)
        };
        out.extend(pending.into_iter().map(Pending::into_record));
    }

    pub(crate) fn set_log_waker(&self, waker: Waker) {
        lock(&self.log).waker = Some(waker);
    }
}

impl LogQueue {
    fn push(&mut self, pending: Pending) {
        self.bytes += pending.bytes();
        self.queued += 1;
        self.pending.push(pending);
    }
}

/// One revision, being used.
pub(crate) struct Ticket<'a> {
    log: Option<MutexGuard<'a, LogQueue>>,
    revision: i64,
    sub: u32,
    was_empty: bool,
}

impl Ticket<'_> {
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// The next place within the revision.
    pub(crate) fn next_sub(&mut self) -> u32 {
        let sub = self.sub;
        self.sub = self.sub.saturating_add(1);
        sub
    }

    pub(crate) fn push(&mut self, durability: Durability, change: PendingChange) {
        let revision = self.revision;
        if let Some(log) = &mut self.log {
            log.push(Pending {
                revision,
                durability,
                change,
            });
        }
    }

    /// Lets the log go; its shell is woken with the others.
    pub(crate) fn finish(self, wakes: &mut Wakes) {
        if let Some(log) = &self.log
            && self.was_empty
            && let Some(waker) = &log.waker
        {
            wakes.add(waker.clone());
        }
    }
}

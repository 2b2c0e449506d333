//! Everything that is done to the store at once, a thread each.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kv::{KeyRange, LeaseId, Op, PutOp, Revision, Txn};
use store::{Store, StoreError};

use super::latency::Latencies;
use crate::progress::Progress;

const WRITERS: usize = 4;
const WATCHERS: usize = 5;
const KEYS: usize = 10_000;
const VALUE_BYTES: usize = 650;
const PREFIX: &str = "/registry/pods/";

/// One lease in so many expires; the others are renewed.
const EXPIRING_ONE_IN: usize = 10;
const EXPIRING_TTL_SECONDS: i64 = 20;
const RENEWED_TTL_SECONDS: i64 = 120;
/// In a shorter run either life is a third of it, and never shorter than the server grants.
const LIVES_PER_RUN: u64 = 3;
const TTL_SECONDS_MIN: i64 = 2;
/// A lease is renewed so often in its life, as clients do.
const RENEWALS_PER_LIFE: u32 = 3;

/// How often the store is compacted.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(5);
/// How often housekeeping looks, as the server's does.
const STEP_INTERVAL: Duration = Duration::from_millis(100);
/// History entries a collection gives up in one step.
const STEP_ENTRIES: usize = 1_024;
/// Events a watcher takes at a time.
const EVENTS: usize = 1_024;
/// How long a write may take before the run is over.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a full queue is waited for before it is tried again.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub struct Counts {
    pub puts: AtomicUsize,
    pub compactions: AtomicUsize,
    pub renewals: AtomicUsize,
    pub expirations: AtomicUsize,
}

/// The store and what is done to it.
pub struct Load {
    store: Arc<Store>,
    leases: usize,
    pub counts: Counts,
    pub stop: AtomicBool,
    /// Writers are told to stop before watchers, which must hear the last of them.
    writers_left: AtomicUsize,
    failed: AtomicBool,
    latencies: Mutex<Latencies>,
    heard: [AtomicUsize; WATCHERS],
}

type Crew = std::io::Result<Vec<JoinHandle<Result<(), String>>>>;

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn own_waker() -> Waker {
    Waker::from(Arc::new(Unpark(std::thread::current())))
}

fn now_micros() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

/// A put; one of the answer "later" is repeated.
fn put(store: &Store, key: String, value: &Bytes, lease: LeaseId) -> Result<Revision, StoreError> {
    let txn = Txn {
        then: vec![Op::Put(PutOp {
            lease,
            ..PutOp::new(key, value.clone())
        })],
        ..Txn::default()
    };
    patiently(|| store.txn(&txn)).map(|reply| reply.revision)
}

/// Tries again while the log is behind: that is no failure, it is the disk's speed.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    loop {
        match attempt() {
            Err(StoreError::LogBehind) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
}

impl Load {
    pub fn new(store: Arc<Store>, leases: usize) -> Load {
        Load {
            store,
            leases,
            counts: Counts::default(),
            stop: AtomicBool::new(false),
            writers_left: AtomicUsize::new(WRITERS),
            failed: AtomicBool::new(false),
            latencies: Mutex::default(),
            heard: Default::default(),
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.has_failed()
    }

    /// Whether a part of the load has ended with an error.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn is_expiring(id: usize) -> bool {
        id.is_multiple_of(EXPIRING_ONE_IN)
    }

    /// Grants every lease, with its usual life until [`Load::start`] says how long the run is.
    pub fn grant_all(&self) -> Result<(), String> {
        let mut progress = Progress::new("leases", self.leases);
        for id in 1..=self.leases {
            self.grant(id, RENEWED_TTL_SECONDS)?;
            progress.add(1);
        }
        Ok(())
    }

    fn grant(&self, id: usize, ttl_seconds: i64) -> Result<(), String> {
        let name = LeaseId(i64::try_from(id).unwrap_or(i64::MAX));
        match patiently(|| self.store.lease_grant(now_micros(), name, ttl_seconds)) {
            // Its time is over and it has not gone yet: granted the next time.
            Ok(_) | Err(StoreError::LeaseExists(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Starts everything.
    pub fn start(self: &Arc<Self>, duration: Duration) -> Crew {
        let most = i64::try_from(duration.as_secs() / LIVES_PER_RUN).unwrap_or(i64::MAX);
        let life = |ttl_seconds: i64| ttl_seconds.min(most).max(TTL_SECONDS_MIN);
        let (expiring, renewed) = (life(EXPIRING_TTL_SECONDS), life(RENEWED_TTL_SECONDS));
        let compaction = COMPACTION_INTERVAL.min(duration / 10);
        let mut crew = Vec::new();
        for number in 0..WATCHERS {
            crew.push(self.spawn(move |load| load.watch(number))?);
        }
        for number in 0..WRITERS {
            crew.push(self.spawn(move |load| load.write(number))?);
        }
        crew.push(self.spawn(move |load| load.renew(renewed))?);
        crew.push(self.spawn(move |load| load.expire(expiring))?);
        crew.push(self.spawn(move |load| load.compact(compaction))?);
        crew.push(self.spawn(Load::step)?);
        Ok(crew)
    }

    fn spawn(
        self: &Arc<Self>,
        work: impl FnOnce(&Load) -> Result<(), String> + Send + 'static,
    ) -> std::io::Result<JoinHandle<Result<(), String>>> {
        let load = self.clone();
        std::thread::Builder::new()
            .name("soak".into())
            .spawn(move || {
                let result = work(&load);
                if result.is_err() {
                    load.failed.store(true, Ordering::Release);
                }
                result
            })
    }

    fn write(&self, number: usize) -> Result<(), String> {
        let result = self.writes(number);
        self.writers_left.fetch_sub(1, Ordering::AcqRel);
        result
    }

    fn writes(&self, number: usize) -> Result<(), String> {
        let value = Bytes::from(vec![7; VALUE_BYTES]);
        let waker = own_waker();
        let mut cx = Context::from_waker(&waker);
        let mut own = Latencies::default();
        let mut at = number;
        while !self.is_over() {
            at = (at + WRITERS) % KEYS;
            let begun = Instant::now();
            let revision = put(
                &self.store,
                format!("{PREFIX}{at:05}"),
                &value,
                LeaseId::NONE,
            );
            let revision = revision.map_err(|error| error.to_string())?;
            let range = KeyRange::prefix(PREFIX);
            while self
                .store
                .poll_range_visible(&range, revision, &mut cx)
                .is_pending()
            {
                if begun.elapsed() > WRITE_TIMEOUT {
                    return Err(format!("a write was not kept within {WRITE_TIMEOUT:?}"));
                }
                std::thread::park_timeout(Duration::from_secs(1));
            }
            own.add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            self.counts.puts.fetch_add(1, Ordering::AcqRel);
        }
        self.lock_latencies().add_all(&own);
        Ok(())
    }

    fn lock_latencies(&self) -> std::sync::MutexGuard<'_, Latencies> {
        self.latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How long writes took.
    pub fn latencies(&self) -> Latencies {
        self.lock_latencies().clone()
    }

    /// Hears of every put, in order, and ends when there are no writers any more and nothing is left to hear.
    fn watch(&self, number: usize) -> Result<(), String> {
        // Before the first put, and so before the first compaction.
        let opened = self
            .store
            .watch_range(KeyRange::prefix(PREFIX), Revision(0));
        let mut cursor = opened.map_err(|error| format!("no watch: {error:?}"))?;
        let waker = own_waker();
        let mut items = Vec::new();
        let mut last = Revision(0);
        loop {
            let is_last_look = self.writers_left.load(Ordering::Acquire) == 0;
            match cursor.poll_next(&mut Context::from_waker(&waker), EVENTS, &mut items) {
                Poll::Ready(Ok(_)) => {
                    for item in items.drain(..) {
                        if item.revision <= last {
                            return Err(format!("{} is told after {last}", item.revision));
                        }
                        last = item.revision;
                        if let Some(heard) = self.heard.get(number) {
                            heard.fetch_add(1, Ordering::AcqRel);
                        }
                    }
                }
                Poll::Ready(Err(compacted)) => {
                    return Err(format!("a watcher fell behind: {compacted:?}"));
                }
                Poll::Pending if is_last_look => return Ok(()),
                Poll::Pending => std::thread::park_timeout(STEP_INTERVAL),
            }
        }
    }

    /// Events that all watchers have heard; an error when one of them missed a put.
    pub fn watchers_heard(&self) -> Result<usize, String> {
        let puts = self.counts.puts.load(Ordering::Acquire);
        let heard = self.heard.iter().map(|heard| heard.load(Ordering::Acquire));
        let mut all = 0;
        for heard in heard {
            if heard != puts {
                return Err(format!("a watcher has heard {heard} of {puts} puts"));
            }
            all += heard;
        }
        Ok(all)
    }

    /// Leases that are alive.
    pub fn leases_held(&self) -> usize {
        self.store.leases().len()
    }

    /// Renews what does not expire, evenly over a third of a life.
    fn renew(&self, ttl_seconds: i64) -> Result<(), String> {
        let life = Duration::from_secs(ttl_seconds.cast_unsigned());
        let round = life / RENEWALS_PER_LIFE;
        let renewed = (1..=self.leases).filter(|id| !Load::is_expiring(*id));
        if ttl_seconds != RENEWED_TTL_SECONDS {
            // A shorter life, from now on.
            for id in renewed.clone() {
                self.revoke(id)?;
                self.grant(id, ttl_seconds)?;
            }
        }
        loop {
            let begun = Instant::now();
            for id in renewed.clone() {
                if self.is_over() {
                    return Ok(());
                }
                let name = LeaseId(i64::try_from(id).unwrap_or(i64::MAX));
                match patiently(|| self.store.lease_keep_alive(now_micros(), name)) {
                    Ok(_) => drop(self.counts.renewals.fetch_add(1, Ordering::AcqRel)),
                    // This machine was too slow for it: granted again.
                    Err(StoreError::LeaseNotFound(_)) => self.grant(id, ttl_seconds)?,
                    Err(error) => return Err(error.to_string()),
                }
                let due = round.mul_f64(id as f64 / self.leases as f64);
                let early = due.saturating_sub(begun.elapsed());
                if early > PAUSE {
                    std::thread::sleep(early.min(STEP_INTERVAL));
                }
            }
            while begun.elapsed() < round && !self.is_over() {
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn revoke(&self, id: usize) -> Result<(), String> {
        let name = LeaseId(i64::try_from(id).unwrap_or(i64::MAX));
        match patiently(|| self.store.lease_revoke(name)) {
            Ok(_) | Err(StoreError::LeaseNotFound(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Hangs a key on each lease that expires, waits until it is gone, and grants it again.
    fn expire(&self, ttl_seconds: i64) -> Result<(), String> {
        let value = Bytes::from_static(&[1; 100]);
        let life = Duration::from_secs(ttl_seconds.cast_unsigned());
        let hang = |id: usize| {
            self.grant(id, ttl_seconds)?;
            let name = LeaseId(i64::try_from(id).unwrap_or(i64::MAX));
            match put(&self.store, format!("/registry/held/{id:07}"), &value, name) {
                // This machine was too slow: it has expired already.
                Ok(_) | Err(StoreError::LeaseNotFound(_)) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        };
        let mut waiting = VecDeque::new();
        let expiring: Vec<usize> = (1..=self.leases)
            .filter(|id| Load::is_expiring(*id))
            .collect();
        for (place, id) in expiring.iter().enumerate() {
            if self.is_over() {
                return Ok(());
            }
            self.revoke(*id)?;
            hang(*id)?;
            waiting.push_back((Instant::now() + life, *id));
            // Spread over a life, so that they do not end together.
            if place % 64 == 63 {
                std::thread::sleep(life.mul_f64(64.0 / expiring.len().max(64) as f64));
            }
        }
        while !self.is_over() {
            let due = waiting.front().filter(|(at, _)| *at <= Instant::now());
            let Some((_, id)) = due.copied() else {
                std::thread::sleep(PAUSE);
                continue;
            };
            let name = LeaseId(i64::try_from(id).unwrap_or(i64::MAX));
            if self
                .store
                .lease_time_to_live(now_micros(), name, false)
                .is_some()
            {
                // Housekeeping has not come to it; those behind it end later still.
                std::thread::sleep(PAUSE);
                continue;
            }
            waiting.pop_front();
            self.counts.expirations.fetch_add(1, Ordering::AcqRel);
            hang(id)?;
            waiting.push_back((Instant::now() + life, id));
        }
        Ok(())
    }

    /// Gives up what is older than one interval: watchers have heard of it long ago.
    fn compact(&self, interval: Duration) -> Result<(), String> {
        let mut before = self.store.applied();
        let mut next = Instant::now() + interval;
        while !self.is_over() {
            std::thread::sleep(STEP_INTERVAL.min(interval));
            if Instant::now() < next {
                continue;
            }
            next = Instant::now() + interval;
            match patiently(|| self.store.compact(before).map_err(StoreError::from)) {
                Ok(()) => drop(self.counts.compactions.fetch_add(1, Ordering::AcqRel)),
                Err(StoreError::Read(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
            before = self.store.applied();
        }
        Ok(())
    }

    /// Housekeeping, as the server does it.
    fn step(&self) -> Result<(), String> {
        while !self.is_over() {
            if let Some(reason) = self.store.failure() {
                return Err(reason);
            }
            let stepped = self.store.step(now_micros(), STEP_ENTRIES);
            if stepped.leases == 0 && stepped.entries == 0 {
                std::thread::sleep(STEP_INTERVAL);
            }
        }
        Ok(())
    }
}

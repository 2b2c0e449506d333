//! Leases: a deadline, and the keys that go with it.
//!
//! Knows no clock: `now` is passed in. The table is a leaf among the locks; the keys of a lease that
//! ends are deleted by the store, which holds the collections' locks.

use crate::errors::StoreError;
use crate::limits::{LEASE_TTL_SECONDS_MAX, LEASES_MAX};
use crate::shared::lock;
use hashbrown::{HashMap, HashSet};
use kv::LeaseId;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// A lease as granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Its name.
    pub id: LeaseId,
    /// What it was granted, at least one second.
    pub ttl_seconds: i64,
}

/// What is left of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// The lease.
    pub id: LeaseId,
    /// What it was granted.
    pub granted_seconds: i64,
    /// What is left, rounded down.
    pub remaining_seconds: i64,
    /// Collection numbers and keys without prefix; resolved by the store.
    pub(crate) keys: Vec<(u32, Arc<[u8]>)>,
}

#[derive(Debug)]
struct Lease {
    ttl_seconds: i64,
    deadline_micros: i64,
    /// Ending: no more keys may be attached.
    ending: bool,
    keys: HashSet<(u32, Arc<[u8]>)>,
}

#[derive(Debug, Default)]
struct Table {
    leases: HashMap<i64, Lease>,
    deadlines: BTreeSet<(i64, i64)>,
    name_state: u64,
}

#[derive(Debug)]
pub(crate) struct Leases(Mutex<Table>);

impl Leases {
    pub(crate) fn new(seed: u64) -> Self {
        Leases(Mutex::new(Table {
            name_state: seed,
            ..Table::default()
        }))
    }

    /// Grants a lease; `then` runs before anyone else can see it, to put it on record.
    pub(crate) fn grant(
        &self,
        now_micros: i64,
        id: LeaseId,
        ttl_seconds: i64,
        then: impl FnOnce(LeaseId, i64, i64),
    ) -> Result<Granted, StoreError> {
        if ttl_seconds > LEASE_TTL_SECONDS_MAX {
            return Err(StoreError::LeaseTooLong {
                seconds: ttl_seconds,
                max: LEASE_TTL_SECONDS_MAX,
            });
        }
        let ttl_seconds = ttl_seconds.max(1);
        let mut table = lock(&self.0);
        if table.leases.len() >= LEASES_MAX {
            return Err(StoreError::TooManyLeases { max: LEASES_MAX });
        }
        let id = if id.is_some() { id } else { table.fresh_name() };
        if table.leases.contains_key(&id.0) {
            return Err(StoreError::LeaseExists(id));
        }
        let deadline_micros = deadline(now_micros, ttl_seconds);
        table.set(id, ttl_seconds, deadline_micros);
        then(id, ttl_seconds, deadline_micros);
        Ok(Granted { id, ttl_seconds })
    }

    /// For recovery: a lease with the deadline it had.
    pub(crate) fn restore(&self, id: LeaseId, ttl_seconds: i64, deadline_micros: i64) {
        lock(&self.0).set(id, ttl_seconds, deadline_micros);
    }

    pub(crate) fn keep_alive(
        &self,
        now_micros: i64,
        id: LeaseId,
        then: impl FnOnce(i64, i64),
    ) -> Result<Granted, StoreError> {
        let mut table = lock(&self.0);
        let lease = table.leases.get(&id.0).filter(|lease| !lease.ending);
        let lease = lease.ok_or(StoreError::LeaseNotFound(id))?;
        let ttl_seconds = lease.ttl_seconds;
        let deadline_micros = deadline(now_micros, ttl_seconds);
        table.set(id, ttl_seconds, deadline_micros);
        then(ttl_seconds, deadline_micros);
        Ok(Granted { id, ttl_seconds })
    }

    pub(crate) fn time_to_live(
        &self,
        now_micros: i64,
        id: LeaseId,
        with_keys: bool,
    ) -> Option<TimeToLive> {
        let table = lock(&self.0);
        let lease = table.leases.get(&id.0).filter(|lease| !lease.ending)?;
        let left = lease.deadline_micros.saturating_sub(now_micros).max(0);
        Some(TimeToLive {
            id,
            granted_seconds: lease.ttl_seconds,
            remaining_seconds: left / MICROS_PER_SECOND,
            keys: if with_keys {
                lease.keys.iter().cloned().collect()
            } else {
                Vec::new()
            },
        })
    }

    /// All names, the one that ends first first.
    pub(crate) fn ids(&self) -> Vec<LeaseId> {
        let table = lock(&self.0);
        table.deadlines.iter().map(|(_, id)| LeaseId(*id)).collect()
    }

    /// Every lease with its time to live and deadline, for snapshots.
    pub(crate) fn all(&self) -> Vec<(LeaseId, i64, i64)> {
        let table = lock(&self.0);
        let row =
            |(id, lease): (&i64, &Lease)| (LeaseId(*id), lease.ttl_seconds, lease.deadline_micros);
        table
            .leases
            .iter()
            .filter(|(_, lease)| !lease.ending)
            .map(row)
            .collect()
    }

    /// Leases whose deadline has passed, oldest first.
    pub(crate) fn due(&self, now_micros: i64, max: usize) -> Vec<LeaseId> {
        let table = lock(&self.0);
        let past = table
            .deadlines
            .iter()
            .take_while(|(deadline, _)| *deadline <= now_micros);
        past.take(max).map(|(_, id)| LeaseId(*id)).collect()
    }

    /// Closes a lease to new keys and says which it has. With `due`, only if its deadline passed.
    pub(crate) fn begin_end(&self, id: LeaseId, due: Option<i64>) -> Option<Vec<(u32, Arc<[u8]>)>> {
        let mut table = lock(&self.0);
        let lease = table.leases.get_mut(&id.0)?;
        if lease.ending || due.is_some_and(|now| lease.deadline_micros > now) {
            return None;
        }
        lease.ending = true;
        Some(lease.keys.iter().cloned().collect())
    }

    /// The keys could not be deleted: the lease lives on, and is due again.
    pub(crate) fn cancel_end(&self, id: LeaseId) {
        if let Some(lease) = lock(&self.0).leases.get_mut(&id.0) {
            lease.ending = false;
        }
    }

    /// Forgets a lease.
    pub(crate) fn remove(&self, id: LeaseId, then: impl FnOnce()) {
        let mut table = lock(&self.0);
        if let Some(lease) = table.leases.remove(&id.0) {
            table.deadlines.remove(&(lease.deadline_micros, id.0));
            then();
        }
    }

    /// Hangs a key on a lease. True when it did not hang there before.
    pub(crate) fn attach(
        &self,
        id: i64,
        collection: u32,
        key: &Arc<[u8]>,
    ) -> Result<bool, StoreError> {
        let mut table = lock(&self.0);
        let lease = table.leases.get_mut(&id).filter(|lease| !lease.ending);
        let lease = lease.ok_or(StoreError::LeaseNotFound(LeaseId(id)))?;
        Ok(lease.keys.insert((collection, key.clone())))
    }

    /// Whether keys can be hung on it.
    pub(crate) fn is_open(&self, id: i64) -> bool {
        let table = lock(&self.0);
        table.leases.get(&id).is_some_and(|lease| !lease.ending)
    }

    pub(crate) fn detach(&self, id: i64, collection: u32, key: &Arc<[u8]>) {
        if let Some(lease) = lock(&self.0).leases.get_mut(&id) {
            lease.keys.remove(&(collection, key.clone()));
        }
    }

    pub(crate) fn is_attached(&self, id: i64, collection: u32, key: &Arc<[u8]>) -> bool {
        let table = lock(&self.0);
        table
            .leases
            .get(&id)
            .is_some_and(|lease| lease.keys.contains(&(collection, key.clone())))
    }

    /// How many keys hang on leases; for tests.
    pub(crate) fn attached(&self) -> usize {
        lock(&self.0)
            .leases
            .values()
            .map(|lease| lease.keys.len())
            .sum()
    }
}

impl Table {
    fn set(&mut self, id: LeaseId, ttl_seconds: i64, deadline_micros: i64) {
        let fresh = || Lease {
            ttl_seconds,
            deadline_micros,
            ending: false,
            keys: HashSet::new(),
        };
        let lease = self.leases.entry(id.0).or_insert_with(fresh);
        self.deadlines.remove(&(lease.deadline_micros, id.0));
        lease.ttl_seconds = ttl_seconds;
        lease.deadline_micros = deadline_micros;
        self.deadlines.insert((deadline_micros, id.0));
    }

    /// A positive name nobody has (splitmix64).
    fn fresh_name(&mut self) -> LeaseId {
        loop {
            self.name_state = self.name_state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.name_state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            let id = (mixed >> 1).cast_signed();
            if id > 0 && !self.leases.contains_key(&id) {
                return LeaseId(id);
            }
        }
    }
}

fn deadline(now_micros: i64, ttl_seconds: i64) -> i64 {
    now_micros.saturating_add(ttl_seconds.saturating_mul(MICROS_PER_SECOND))
}

//! The leases that end Events: one shared by all Events of a minute, as kube-apiserver's lease manager does.

use std::sync::{Mutex, PoisonError};

use kv::LeaseId;
use store::{Store, StoreError};

use crate::state::now_micros;
use crate::write::EVENT_TTL_SECONDS;

/// How long one lease is given out.
const SHARED_SECONDS: i64 = 60;

/// The lease given out now.
#[derive(Debug, Default)]
pub struct EventLeases {
    current: Mutex<Option<(i64, LeaseId)>>,
}

impl EventLeases {
    /// A lease that lives at least as long as an Event.
    pub fn current(&self, store: &Store) -> Result<LeaseId, StoreError> {
        let now_seconds = now_micros() / 1_000_000;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((granted_seconds, lease)) = *current
            && now_seconds - granted_seconds < SHARED_SECONDS
        {
            return Ok(lease);
        }
        let granted = store.lease_grant(
            now_micros(),
            LeaseId::default(),
            EVENT_TTL_SECONDS + SHARED_SECONDS,
        )?;
        *current = Some((now_seconds, granted.id));
        Ok(granted.id)
    }
}

//! Alarms, and what they refuse: no growth while space is short, no change at all while data is in doubt.
//!
//! Knows the quota and which requests cost space. Does not know how much the store holds, nor how an alarm is kept:
//! it is a setting, so it survives a restart. As in etcd, an alarm ends only when somebody ends it.
//!
//! ```text
//!   put, txn with a put, lease grant ─► quota spent, or disk full? ─► NOSPACE is raised ─► refused
//!                                        └ NOSPACE is up already ───────────────────────► refused
//!   delete, compaction, lease revoke, read ─────────────────────────────────────────────► go on
//! ```

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use etcd_wire::RpcError;
use etcd_wire::etcdserverpb as pb;
use kv::{Op, Txn};
use pb::AlarmType;
use store::Store;
use tonic::Status;

use crate::limits::{ALARMS_MAX, LEASE_COST_BYTES, PUT_COST_BYTES};
use crate::node::Node;
use crate::refuse::{status, store_error};

/// Settings of this name are alarms: `alarm/TYPE/MEMBER`, the member in hex.
const PREFIX: &str = "alarm/";

const NOSPACE: u8 = 1;
const CORRUPT: u8 = 2;

/// Which alarms are up, for the hot path: the settings are the truth.
#[derive(Debug, Default)]
pub struct Alarms {
    up: AtomicU8,
    /// One change at a time, so that `up` follows the settings.
    changing: Mutex<()>,
}

impl Alarms {
    /// As they were when the store was last used.
    pub fn of(store: &Store) -> Alarms {
        let alarms = Alarms::default();
        alarms.refresh(store);
        alarms
    }

    fn refresh(&self, store: &Store) {
        let bit = |member: &pb::AlarmMember| match member.alarm() {
            AlarmType::Nospace => NOSPACE,
            AlarmType::Corrupt => CORRUPT,
            AlarmType::None => 0,
        };
        let up = list(store).iter().fold(0, |up, member| up | bit(member));
        self.up.store(up, Ordering::Release);
    }

    fn is_up(&self, bit: u8) -> bool {
        self.up.load(Ordering::Acquire) & bit != 0
    }
}

fn name(member: pb::AlarmMember) -> Bytes {
    let kind = member.alarm().as_str_name();
    format!("{PREFIX}{kind}/{:016x}", member.member_id).into()
}

/// Alarms that are up, of one type together.
fn list(store: &Store) -> Vec<pb::AlarmMember> {
    let read = |(name, _): (Bytes, Bytes)| {
        let rest = std::str::from_utf8(&name).ok()?.strip_prefix(PREFIX)?;
        let (kind, member) = rest.split_once('/')?;
        let alarm = AlarmType::from_str_name(kind)?.into();
        let member_id = u64::from_str_radix(member, 16).ok()?;
        Some(pb::AlarmMember { member_id, alarm })
    };
    let found = store.settings(PREFIX.as_bytes()).into_iter();
    found.filter_map(read).collect()
}

impl Node {
    /// The alarms that are up.
    pub fn alarms(&self) -> Vec<pb::AlarmMember> {
        list(&self.store)
    }

    /// Raises an alarm; answers it, when it is kept.
    pub async fn raise(&self, member: pb::AlarmMember) -> Result<pb::AlarmMember, Status> {
        self.raise_now(member)?;
        self.logged().await?;
        Ok(member)
    }

    fn raise_now(&self, member: pb::AlarmMember) -> Result<(), Status> {
        {
            let guard = self.alarms.changing.lock();
            let _guard = guard.unwrap_or_else(PoisonError::into_inner);
            let up = self.alarms();
            if up.contains(&member) {
                return Ok(());
            }
            if up.len() >= ALARMS_MAX {
                return Err(status(RpcError::TOO_MANY_REQUESTS));
            }
            let set = self.store.set_settings([(name(member), Some("1".into()))]);
            set.map_err(|error| status(store_error(error)))?;
            self.alarms.refresh(&self.store);
        }
        tracing::warn!(
            alarm = member.alarm().as_str_name(),
            member = member.member_id,
            "an alarm was raised"
        );
        Ok(())
    }

    /// Ends an alarm; answers it, if it was up.
    pub async fn disarm(&self, member: pb::AlarmMember) -> Result<Option<pb::AlarmMember>, Status> {
        {
            let guard = self.alarms.changing.lock();
            let _guard = guard.unwrap_or_else(PoisonError::into_inner);
            if !self.alarms().contains(&member) {
                return Ok(None);
            }
            let set = self.store.set_settings([(name(member), None)]);
            set.map_err(|error| status(store_error(error)))?;
            self.alarms.refresh(&self.store);
        }
        tracing::info!(
            alarm = member.alarm().as_str_name(),
            member = member.member_id,
            "an alarm was ended"
        );
        self.logged().await?;
        Ok(Some(member))
    }

    /// Whether a transaction may run. One that only reads always may.
    pub fn admit(&self, txn: &Txn) -> Result<(), Status> {
        if writes(txn) {
            self.admit_change()?;
        }
        self.admit_growth(cost_bytes(txn))
    }

    /// Whether a lease may be granted.
    pub fn admit_lease(&self) -> Result<(), Status> {
        self.admit_change()?;
        self.admit_growth(LEASE_COST_BYTES)
    }

    /// Whether anything may be changed at all.
    pub fn admit_change(&self) -> Result<(), Status> {
        if self.alarms.is_up(CORRUPT) {
            return Err(status(RpcError::CORRUPT));
        }
        Ok(())
    }

    fn admit_growth(&self, cost_bytes: u64) -> Result<(), Status> {
        if cost_bytes == 0 {
            return Ok(());
        }
        if self.alarms.is_up(NOSPACE) {
            return Err(status(RpcError::NO_SPACE));
        }
        let used_bytes = self.store.used_bytes().saturating_add(cost_bytes);
        if used_bytes < self.options.quota_bytes && !self.store.is_full() {
            return Ok(());
        }
        let member = pb::AlarmMember {
            member_id: self.identity.member_id,
            alarm: AlarmType::Nospace.into(),
        };
        // The refusal need not wait until the alarm is kept: after a crash the next growth would raise it again.
        self.raise_now(member)?;
        Err(status(RpcError::NO_SPACE))
    }
}

fn writes(txn: &Txn) -> bool {
    let mut ops = txn.then.iter().chain(&txn.otherwise);
    ops.any(|op| match op {
        Op::Put(_) | Op::Delete(_) => true,
        Op::Range(_) => false,
        Op::Txn(inner) => writes(inner),
    })
}

/// What a transaction may add at most, whichever branch runs.
fn cost_bytes(txn: &Txn) -> u64 {
    let of = |ops: &[Op]| -> u64 {
        let cost = |op: &Op| match op {
            Op::Put(put) => PUT_COST_BYTES + (put.key.len() + put.value.len()) as u64,
            Op::Txn(inner) => cost_bytes(inner),
            Op::Range(_) | Op::Delete(_) => 0,
        };
        ops.iter().map(cost).sum()
    };
    of(&txn.then).max(of(&txn.otherwise))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv::{DeleteOp, KeyRange, LeaseId, PutOp};

    fn put(bytes: usize) -> Op {
        Op::Put(PutOp {
            key: "k".into(),
            value: vec![0; bytes].into(),
            lease: LeaseId::NONE,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        })
    }

    #[test]
    fn a_transaction_costs_its_dearer_branch_and_deletions_cost_nothing() {
        let delete = Op::Delete(DeleteOp {
            range: KeyRange::one("k"),
            prev_kv: false,
        });
        let inner = Txn {
            then: vec![put(100), put(200)],
            otherwise: vec![put(1)],
            ..Txn::default()
        };
        let txn = Txn {
            then: vec![delete.clone(), put(9)],
            otherwise: vec![Op::Txn(inner), delete.clone()],
            ..Txn::default()
        };
        assert_eq!(cost_bytes(&txn), 2 * 257 + 300);
        let only_deletes = Txn {
            then: vec![delete],
            ..Txn::default()
        };
        assert_eq!(cost_bytes(&only_deletes), 0);
        assert!(writes(&only_deletes));
        assert!(!writes(&Txn::default()));
    }

    #[test]
    fn names_of_alarms_are_read_back() {
        let store = Store::new(store::StoreConfig::default());
        let member = pb::AlarmMember {
            member_id: u64::MAX - 3,
            alarm: AlarmType::Corrupt.into(),
        };
        let set = store.set_settings([(name(member), Some("1".into()))]);
        assert!(set.is_ok());
        assert_eq!(list(&store), [member]);
        assert!(Alarms::of(&store).is_up(CORRUPT));
        assert!(!Alarms::of(&store).is_up(NOSPACE));
    }
}

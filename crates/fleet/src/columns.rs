//! The fleet's memory of its nodes, in columns: 37 bytes a node.
//!
//! Written by many small tasks of one thread, read by all. Holds what cannot be told from a node's place; knows nothing
//! of requests.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// It says nothing and hears nothing.
const SILENT: u8 = 1;
/// Its Node object was deleted: as a kubelet, it goes on without one until it is started again.
const GONE: u8 = 2;

pub(crate) struct Nodes {
    /// Version of each node's Lease, 0 while the node is not registered.
    lease_versions: Vec<AtomicU64>,
    /// When each Lease was last renewed, 0 before it was.
    renewed_seconds: Vec<AtomicU32>,
    /// Uid of each Node object.
    uids: Mutex<Vec<u128>>,
    flags: Vec<AtomicU8>,
    /// How many times it was restarted, and told to connect anew.
    boots: Vec<AtomicU8>,
    storms: Vec<AtomicU8>,
    /// How many times slower its pods start, in tenths, by faults alone.
    slowness: Vec<AtomicU16>,
    /// How far its clock is ahead.
    skew_millis: Vec<AtomicI32>,
}

impl Nodes {
    pub(crate) fn new(count: usize) -> Nodes {
        Nodes {
            lease_versions: column(count, 0),
            renewed_seconds: column(count, 0),
            uids: Mutex::new(vec![0; count]),
            flags: column(count, 0),
            boots: column(count, 0),
            storms: column(count, 0),
            slowness: column(count, 10),
            skew_millis: column(count, 0),
        }
    }

    /// Version of the node's Lease; `None` before it is registered.
    pub(crate) fn lease_version(&self, index: usize) -> Option<u64> {
        let version = self.lease_versions.get(index)?.load(Relaxed);
        (version != 0).then_some(version)
    }

    /// Notes the version of its Lease; whether it is the first one.
    pub(crate) fn set_lease_version(&self, index: usize, version: u64) -> bool {
        self.lease_versions[index].swap(version.max(1), Relaxed) == 0
    }

    /// Notes that its Lease was renewed now. How long before that it was not, in seconds; 0 at the first time.
    pub(crate) fn set_renewed(&self, index: usize, now_seconds: u32) -> u32 {
        match self.renewed_seconds[index].swap(now_seconds, Relaxed) {
            0 => 0,
            before => now_seconds.saturating_sub(before),
        }
    }

    pub(crate) fn uid(&self, index: usize) -> String {
        let uid = self.uids.lock().unwrap_or_else(PoisonError::into_inner)[index];
        let hex = format!("{uid:032x}");
        format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }

    pub(crate) fn set_uid(&self, index: usize, uid: &str) {
        let digits: String = uid.chars().filter(|c| *c != '-').collect();
        let uid = u128::from_str_radix(&digits, 16).unwrap_or(0);
        self.uids.lock().unwrap_or_else(PoisonError::into_inner)[index] = uid;
    }

    /// Whether the node talks: it is not silent.
    pub(crate) fn talks(&self, index: usize) -> bool {
        self.has(index, SILENT).is_some_and(|silent| !silent)
    }

    /// Whether the node is registered, has its Node object, and talks.
    pub(crate) fn is_up(&self, index: usize) -> bool {
        self.lease_version(index).is_some() && self.flags[index].load(Relaxed) == 0
    }

    /// Makes it silent or not; whether that changed anything.
    pub(crate) fn set_silent(&self, index: usize, is_silent: bool) -> bool {
        self.set(index, SILENT, is_silent)
    }

    /// Notes that its Node object is gone, or there again.
    pub(crate) fn set_gone(&self, index: usize, is_gone: bool) -> bool {
        self.set(index, GONE, is_gone)
    }

    pub(crate) fn is_gone(&self, index: usize) -> bool {
        self.has(index, GONE).unwrap_or(true)
    }

    fn has(&self, index: usize, flag: u8) -> Option<bool> {
        Some(self.flags.get(index)?.load(Relaxed) & flag != 0)
    }

    fn set(&self, index: usize, flag: u8, is_set: bool) -> bool {
        let before = if is_set {
            self.flags[index].fetch_or(flag, Relaxed)
        } else {
            self.flags[index].fetch_and(!flag, Relaxed)
        };
        (before & flag != 0) != is_set
    }

    pub(crate) fn boots(&self, index: usize) -> u8 {
        self.boots[index].load(Relaxed)
    }

    pub(crate) fn boot(&self, index: usize) {
        self.boots[index].fetch_add(1, Relaxed);
    }

    pub(crate) fn storms(&self, index: usize) -> u8 {
        self.storms[index].load(Relaxed)
    }

    pub(crate) fn storm(&self, index: usize) {
        self.storms[index].fetch_add(1, Relaxed);
    }

    pub(crate) fn slowness_tenths(&self, index: usize) -> u16 {
        self.slowness
            .get(index)
            .map_or(10, |tenths| tenths.load(Relaxed))
    }

    pub(crate) fn set_slowness_tenths(&self, index: usize, tenths: u16) {
        self.slowness[index].store(tenths, Relaxed);
    }

    /// How far the node's clock is ahead of ours.
    pub(crate) fn skew_micros(&self, index: usize) -> i64 {
        i64::from(self.skew_millis[index].load(Relaxed)) * 1_000
    }

    pub(crate) fn set_skew_millis(&self, index: usize, millis: i32) {
        self.skew_millis[index].store(millis, Relaxed);
    }
}

/// A column of atomics that all begin alike.
fn column<T, V: Copy>(count: usize, value: V) -> Vec<T>
where
    T: From<V>,
{
    (0..count).map(|_| T::from(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_come_back_as_they_went_in() {
        let nodes = Nodes::new(2);
        nodes.set_uid(1, "0a1b2c3d-0000-4abc-8def-001122334455");
        assert_eq!(nodes.uid(1), "0a1b2c3d-0000-4abc-8def-001122334455");
        assert_eq!(nodes.lease_version(1), None);
        assert!(nodes.set_lease_version(1, 77));
        assert!(!nodes.set_lease_version(1, 78));
        assert_eq!(nodes.lease_version(1), Some(78));
        assert_eq!(nodes.lease_version(9), None);
    }

    #[test]
    fn the_time_without_a_renewal_is_known() {
        let nodes = Nodes::new(1);
        assert_eq!(nodes.set_renewed(0, 1_000), 0);
        assert_eq!(nodes.set_renewed(0, 1_010), 10);
        assert_eq!(nodes.set_renewed(0, 1_005), 0, "the clock was set back");
        assert_eq!(nodes.set_renewed(0, 1_055), 50);
    }

    #[test]
    fn a_node_is_up_when_it_is_registered_and_talks() {
        let nodes = Nodes::new(1);
        assert!(!nodes.is_up(0));
        assert!(nodes.talks(0) && !nodes.talks(1));
        nodes.set_lease_version(0, 5);
        assert!(nodes.is_up(0));
        assert!(nodes.set_silent(0, true));
        assert!(!nodes.set_silent(0, true));
        assert!(!nodes.is_up(0) && !nodes.talks(0));
        assert!(nodes.set_gone(0, true) && nodes.is_gone(0));
        assert!(nodes.set_silent(0, false));
        assert!(!nodes.is_up(0));
        assert!(nodes.set_gone(0, false));
        assert!(nodes.is_up(0));
    }
}

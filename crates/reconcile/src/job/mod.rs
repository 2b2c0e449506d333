//! Job: a number of pods that must end well, each counted exactly once.
//!
//! Knows pods by their projection. Does not know nodes or clocks.
//!
//! Counting survives crashes because every step is written before the next one is taken:
//!
//! ```text
//! pod ends (finalizer on) ─► uid in status.uncountedTerminatedPods ─► finalizer off ─► counter + 1, uid out
//! ```
//!
//! Succeeded pods of an Indexed job skip the list: `status.completedIndexes` is a set already.

mod indexes;
mod plan;
#[cfg(test)]
mod plan_tests;
mod policy;

use crate::pod::Pod;
use std::sync::Arc;

pub use plan::{plan, release_orphan};

/// Creations or deletions one plan asks for at most, as upstream.
pub const POD_CHANGES_MAX: usize = 500;
/// Pods newly listed as uncounted in one plan: each costs a uid of 36 bytes in the status.
pub const UNCOUNTED_PODS_MAX: usize = 500;

/// What the shell has seen around a Job.
pub struct Observed<'a> {
    /// Pods of the namespace which the Job controls, or which nobody controls and may match.
    pub pods: &'a [Arc<Pod>],
    /// Creations asked for whose pods are not yet in `pods`.
    pub creations_in_flight: usize,
    /// Deletions asked for whose effect is not yet in `pods`.
    pub deletions_in_flight: usize,
}

//! StatefulSet: numbered pods whose names and volume claims outlive them.
//!
//! Knows pods by name. Claims are made here and never deleted: `persistentVolumeClaimRetentionPolicy` says who owns them,
//! and the garbage collector does the rest (`retention.rs`). An update replaces one pod at a time, whatever `maxUnavailable` says.

mod plan;
#[cfg(test)]
mod plan_tests;
mod retention;

use crate::pod::Pod;
use meta::Value;
use std::sync::Arc;

pub use plan::plan;

/// Creations or deletions one plan of a Parallel set asks for at most.
pub const BURST_REPLICAS_MAX: usize = 500;

/// What the shell has seen around a StatefulSet.
pub struct Observed<'a> {
    /// Pods of the namespace which the set controls, or which nobody controls and may match.
    pub pods: &'a [Arc<Pod>],
    /// ControllerRevisions of the namespace whose names begin with the set's and a dash.
    pub revisions: &'a [Arc<Value>],
    /// A PersistentVolumeClaim of the namespace, by name.
    pub claim: &'a dyn Fn(&str) -> Option<&'a Value>,
    /// Creations asked for whose pods are not yet in `pods`.
    pub creations_in_flight: usize,
    /// Deletions asked for whose effect is not yet in `pods`.
    pub deletions_in_flight: usize,
}

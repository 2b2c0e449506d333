//! DaemonSet: one pod on each node that matches.
//!
//! Knows nodes by labels and taints. A pod names its node by a required affinity and goes through the scheduler, which
//! finds out whether it fits.
//!
//! ```text
//! node.rs   which nodes a template wants
//! plan.rs   which pods to make and to delete, and the status
//! ```

mod node;
mod plan;
#[cfg(test)]
mod plan_tests;

use crate::pod::Pod;
use meta::Value;
use std::sync::Arc;

pub use node::{Classes, Judge, NodeFacts, Verdict};
pub use plan::plan;

/// Creations or deletions one plan asks for at least, as upstream.
pub const BURST_REPLICAS_MIN: usize = 250;
/// Creations or deletions one plan asks for at most: a plan looks at every node, so on very many it does more at once.
/// Each creation is a body of some KiB.
pub const BURST_REPLICAS_MAX: usize = 4000;
/// A pod that has failed stays at least so long after it was made, so that one that always fails is not remade without
/// end at full speed.
pub const FAILED_POD_STAYS_MICROS: i64 = 10_000_000;
/// Label with the hash of the template a pod was made from.
pub const REVISION_HASH_LABEL: &str = "controller-revision-hash";

/// What the shell has seen around a DaemonSet.
pub struct Observed<'a> {
    /// All nodes, by name.
    pub nodes: &'a [(&'a str, &'a Arc<NodeFacts>)],
    /// Pods of the namespace which the DaemonSet controls, or which nobody controls and may match.
    pub pods: &'a [Arc<Pod>],
    /// ControllerRevisions of the namespace whose names begin with the DaemonSet's and a dash.
    pub revisions: &'a [Arc<Value>],
    /// Creations asked for whose pods are not yet in `pods`.
    pub creations_in_flight: usize,
    /// Deletions asked for whose effect is not yet in `pods`.
    pub deletions_in_flight: usize,
}

//! ReplicaSet (and ReplicationController): a number of pods of one template.
//!
//! Knows pods by their projection. Does not know nodes, or how pods come to life.

mod plan;
#[cfg(test)]
mod plan_tests;
mod victims;

use crate::pod::Pod;
use std::sync::Arc;

pub use plan::plan;
pub(crate) use plan::{claim_pods, delete_pod, next_availability, pod_from_template};
pub use victims::rank_victims;

/// Creations or deletions one plan asks for at most. A plan for 10,000 replicas takes twenty rounds
/// of 500, each a few milliseconds, while no other ReplicaSet waits long for its turn.
pub const BURST_REPLICAS_MAX: usize = 500;

/// What the shell has seen around a ReplicaSet.
pub struct Observed<'a> {
    /// Pods of the namespace which the ReplicaSet controls, or which nobody controls and whose
    /// labels may match. More are ignored.
    pub pods: &'a [Arc<Pod>],
    /// Pods of sibling ReplicaSets (same Deployment), for spreading deletions over nodes.
    pub sibling_pods: &'a [Arc<Pod>],
    /// Creations asked for whose pods are not yet in `pods`.
    pub creations_in_flight: usize,
    /// Deletions asked for whose effect is not yet in `pods`.
    pub deletions_in_flight: usize,
    /// Why the last creation or deletion failed, until one succeeds.
    pub failure: Option<Failure<'a>>,
}

/// A failed action of the last round.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Whether pods were to be created (or deleted).
    pub creating: bool,
    /// The API's answer.
    pub message: &'a str,
}

/// Sizes of the batches in which creations of one plan are sent: 1, 2, 4 and so on. A batch is sent
/// when the one before succeeded, so that a quota that refuses every pod is asked once, not 500 times.
pub fn slow_start_batches(total: usize) -> impl Iterator<Item = usize> {
    let mut left = total;
    let mut size = 1;
    std::iter::from_fn(move || {
        let batch = size.min(left);
        left -= batch;
        size *= 2;
        (batch > 0).then_some(batch)
    })
}

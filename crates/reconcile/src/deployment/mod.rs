//! Deployment: a template rolled out by scaling ReplicaSets, one per revision.
//!
//! Knows ReplicaSets by their spec and status. Does not know pods, except how many of a
//! ReplicaSet's pods have not ended (Recreate waits for them).
//!
//! ```text
//! rollout.rs   which ReplicaSet gets how many replicas        (the arithmetic)
//! sets.rs      a ReplicaSet as a working copy; hash, names, annotations
//! report.rs    status and conditions
//! plan.rs      the order of it all
//! ```

mod plan;
#[cfg(test)]
mod plan_tests;
mod report;
mod rollout;
mod sets;

use meta::Value;
use std::sync::Arc;

pub use plan::plan;
pub use sets::template_hash;
pub(crate) use sets::tidy;

/// Label that ties a ReplicaSet and its pods to one revision of the template.
pub const POD_TEMPLATE_HASH_LABEL: &str = "pod-template-hash";
/// Annotation with the revision number, on the Deployment and its ReplicaSets.
pub const REVISION_ANNOTATION: &str = "deployment.kubernetes.io/revision";
/// Annotation with earlier revisions served by the same ReplicaSet.
pub const REVISION_HISTORY_ANNOTATION: &str = "deployment.kubernetes.io/revision-history";
/// Annotation on ReplicaSets: replicas the Deployment wanted when last scaled.
pub const DESIRED_REPLICAS_ANNOTATION: &str = "deployment.kubernetes.io/desired-replicas";
/// Annotation on ReplicaSets: replicas plus surge when last scaled.
pub const MAX_REPLICAS_ANNOTATION: &str = "deployment.kubernetes.io/max-replicas";

/// What the shell has seen around a Deployment.
pub struct Observed<'a> {
    /// ReplicaSets of the namespace which the Deployment controls, or which nobody controls, or
    /// whose name begins with the Deployment's name and a dash (to notice hash collisions).
    pub replica_sets: &'a [Arc<Value>],
    /// How many pods controlled by the ReplicaSet with this uid have not ended.
    pub live_pods: &'a dyn Fn(&str) -> usize,
}

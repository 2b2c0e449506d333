//! Node life cycle: a node that stops reporting is marked, tainted, and in the end emptied.
//!
//! Knows nodes by a small view and the moments their Leases were renewed, as seen here: clocks of
//! nodes are not compared with ours. Does not know kubelets, or why a node is silent.
//!
//! ```text
//! silent for 50 s ─► Ready Unknown ─► taint unreachable:NoSchedule at once
//!                                  └► taint unreachable:NoExecute, so many nodes a second per zone
//!                                      └► pods evicted when their tolerations run out   (eviction.rs)
//! ```
//!
//! A Lease renewal costs one look-up: it moves the node's last sign of life, and the node's one
//! timer notices when it fires. A tick costs what is due, not the number of nodes. If all zones fall
//! silent at once it is us who lost the network: nothing is evicted.

mod eviction;
mod lifecycle;
#[cfg(test)]
mod lifecycle_tests;
mod view;

pub use eviction::TaintEviction;
pub use lifecycle::{Config, Lifecycle, ZoneState};
pub use view::{NodeView, Readiness, Taint};

/// Taint of nodes whose kubelet says they are not ready.
pub const TAINT_NOT_READY: &str = "node.kubernetes.io/not-ready";
/// Taint of nodes that are silent.
pub const TAINT_UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Taint of cordoned nodes.
pub const TAINT_UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

//! DaemonSet: one pod on each node that matches.
//!
//! Knows nodes by labels and taints. Pods are created bound (`spec.nodeName`): the node is decided
//! here, so the scheduler has nothing to choose. Knows no revisions but the present one.

mod plan;

use crate::nodelifecycle::Taint;
use crate::pod::{Pod, items, text_of};
use meta::{Value, object};
use std::sync::Arc;

pub use plan::plan;

/// Creations or deletions one plan asks for at most, as upstream.
pub const BURST_REPLICAS_MAX: usize = 250;
/// Label with the hash of the template a pod was made from.
pub const REVISION_HASH_LABEL: &str = "controller-revision-hash";

/// A node as a DaemonSet sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct DaemonNode {
    /// metadata.name.
    pub name: Box<str>,
    /// metadata.labels.
    pub labels: Value,
    /// spec.taints.
    pub taints: Vec<Taint>,
}

impl DaemonNode {
    /// Projects a whole node.
    pub fn from_object(node: &Value) -> Self {
        let taint = |taint: &Value| Taint {
            key: text_of(taint, "key").into(),
            value: text_of(taint, "value").into(),
            effect: text_of(taint, "effect").into(),
            time_added: None,
        };
        Self {
            name: object::name(node).into(),
            labels: object::labels(node).clone(),
            taints: items(node, &["spec", "taints"]).iter().map(taint).collect(),
        }
    }
}

/// What the shell has seen around a DaemonSet.
pub struct Observed<'a> {
    /// All nodes.
    pub nodes: &'a [Arc<DaemonNode>],
    /// Pods of the namespace which the DaemonSet controls, or which nobody controls and may match.
    pub pods: &'a [Arc<Pod>],
    /// Creations asked for whose pods are not yet in `pods`.
    pub creations_in_flight: usize,
    /// Deletions asked for whose effect is not yet in `pods`.
    pub deletions_in_flight: usize,
}

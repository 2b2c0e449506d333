//! EndpointSlices: the addresses of a Service's pods, in slices of at most a hundred.
//!
//! Knows Services, pod projections and the slices it made before. Does not know who reads them; it
//! only takes care to rewrite as few slices as possible, since every node watches every slice.

mod plan;

use crate::pod::Pod;
use meta::Value;
use std::sync::Arc;

pub use plan::plan;

/// Endpoints in one slice, as upstream: a change of one endpoint re-sends a slice to every node.
pub const ENDPOINTS_PER_SLICE_MAX: usize = 100;
/// Label with the Service's name.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Label that says who writes a slice.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`] on our slices.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Label of slices of headless Services.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// What the shell has seen around a Service.
pub struct Observed<'a> {
    /// Pods of the namespace; those that do not match the selector are ignored.
    pub pods: &'a [Arc<Pod>],
    /// Slices of the namespace with the Service's name label and our managed-by label.
    pub slices: &'a [Arc<Value>],
    /// Slice creations asked for that are not yet in `slices`.
    pub creations_in_flight: usize,
    /// The zone of a node, if it has one.
    pub zone_of: &'a dyn Fn(&str) -> Option<String>,
}

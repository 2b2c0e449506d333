//! The type that all services are implemented on.

use std::sync::Arc;

use crate::node::Node;

/// A handle on the member, as one connection has it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api {
    pub node: Arc<Node>,
    /// Behind a door where only health, version and metrics are told.
    pub is_for_metrics: bool,
    /// The common name of the client's certificate, where clients must show one and it has one.
    pub peer: Option<Arc<str>>,
}

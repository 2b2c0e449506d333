//! The type that all services are implemented on.

use std::sync::Arc;

use crate::node::Node;

/// A handle on the member. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api {
    pub node: Arc<Node>,
}

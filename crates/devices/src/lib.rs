//! Which devices a pod's claims get on a node: the structured allocator of dynamic resource allocation
//! (`resource.k8s.io/v1` as of Kubernetes 1.36).
//!
//! ```text
//!   ResourceSlices ─► pools a node can reach ─┐
//!   DeviceClasses ──► selectors (CEL) ────────┼─► search with backtracking ─► an allocation per claim, or why not
//!   claims ─────────► requests, constraints ──┘
//! ```
//!
//! - [`Inventory`]: slices, classes, and which devices are taken; [`Inventory::allocate`] answers for one node.
//! - [`Claim`], [`Slice`], [`Class`]: what is read from API objects.
//! - [`substitute`]: the claim that takes the place of extended resources.
//!
//! Pools are gone through by driver and name, their slices by name, devices in the slice's order; those whose pool has
//! binding conditions come last. The first solution counts, so equal input gives equal output. A solution is found
//! whenever there is one, unless the search ends before ([`STEPS_MAX`]).
//!
//! Prioritized lists, admin access, partitionable devices, device taints, consumable capacity and binding conditions
//! are there, and taint rules for whoever turns them on. List-typed attributes, off by default in 1.36, are not.
//!
//! Does not know pods, other rules about nodes, or the API. No I/O, no clock, no randomness of its own.

mod allocate;
mod capacity;
mod claim;
mod constraint;
mod expression;
mod extended;
mod inventory;
mod node;
mod outcome;
mod pools;
mod rule;
mod selector;
mod slice;
mod write;

pub use allocate::{Failure, STEPS_MAX};

pub use claim::{ALTERNATIVES_MAX, Claim, Class, RESERVED_FOR_MAX, RESULTS_MAX};

pub use extended::{Ask, CLASS_PREFIX, Substitute, substitute};
pub use inventory::Inventory;
pub use node::{Node, NodeSelector};

pub use outcome::{Allocation, Binding, Taken, binding, taken};
pub use rule::TaintRule;
pub use selector::{EXPRESSION_BYTES_MAX, EXPRESSION_COST_MAX, Unusable, check_expression};
pub use slice::Slice;

use meta::Value;

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn items(value: &Value) -> std::slice::Iter<'_, Value> {
    value
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
}

/// Texts of a list.
pub(crate) fn texts(value: &Value) -> Vec<Box<str>> {
    items(value).map(|item| text(item).into()).collect()
}

/// Quantities by name, sorted by name; what cannot be read counts nothing, for the API lets none in.
pub(crate) fn quantities(value: &Value) -> Vec<(Box<str>, meta::Quantity)> {
    let entries = value.as_object().into_iter().flatten();
    let mut all: Vec<_> = entries
        .map(|(name, amount)| (name.as_str().into(), quantity(amount)))
        .collect();
    all.sort_by(|a: &(Box<str>, _), b| a.0.cmp(&b.0));
    all
}

pub(crate) fn quantity(value: &Value) -> meta::Quantity {
    match value {
        Value::Number(number) => meta::Quantity::parse(&number.to_string()),
        other => meta::Quantity::parse(text(other)),
    }
    .unwrap_or(meta::Quantity::ZERO)
}

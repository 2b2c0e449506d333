//! Garbage collector: no object outlives its owners, unless it is told to.
//!
//! Knows a graph of uids, fed by observations of every resource. Does not know specs, kinds' meaning
//! or which kinds exist; an owner it has not seen is looked up live by the shell.
//!
//! ```text
//! owner deleted ──► its dependents are queued ──► no owner left?   delete
//!                                              └─► some owner left? drop the references to the dead
//! owner deleting, finalizer foregroundDeletion ─► dependents deleted first, then the finalizer goes
//! owner deleting, finalizer orphan             ─► dependents forget the owner, then the finalizer goes
//! ```
//!
//! An event costs a few hash look-ups, whatever the size of the graph; work it causes is queued and
//! handed out by [`Graph::poll`] in small pieces. A leaf with one owner costs about 160 bytes (measured).

mod graph;
#[cfg(test)]
mod graph_tests;
mod uid;

pub use graph::{Graph, Observation, OwnerFound, OwnerReference};

/// Finalizer of an owner that goes after its dependents.
pub const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// Finalizer of an owner whose dependents stay.
pub const ORPHAN_FINALIZER: &str = "orphan";

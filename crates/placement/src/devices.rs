//! What a pod's resource claims come to, as far as it decides where the pod can go: found out by who knows claims.
//!
//! Allocated claims are rules about nodes like any others. Those that are still to be allocated, and extended resources
//! that devices stand for, are not told by a node's state: see `among.rs`. Does not know claims.

use crate::class::Class;
use crate::objects::Term;
use crate::verdict::Plugin;

/// What a pod's claims ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Devices {
    /// Why the pod cannot go anywhere yet.
    pub obstacle: Option<Box<str>>,
    /// For each allocated claim that is not there for all nodes: one of the terms matches.
    pub rules: Vec<Vec<Term>>,
    /// Extended resources that devices stand for, sorted: a node that offers none of one is asked for devices instead.
    pub delegated: Vec<Box<str>>,
    /// Tells pods apart whose claims are still to be allocated and ask for different things: what is found out about one
    /// of them then says nothing about the other.
    pub ask: u64,
}

impl Class {
    /// Can it go nowhere as long as its claims are as they are?
    pub(crate) fn waits_for_devices(&self) -> bool {
        self.spec.devices.obstacle.is_some()
            && self.profile.filters.contains(Plugin::DynamicResources)
    }
}

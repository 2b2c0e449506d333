//! What every kind that carries a pod or a pod template shares: defaults, validation, quality of service.
//!
//! It does not know the kinds themselves; those call in with the path of the pod they carry.

pub(crate) mod affinity;
pub(crate) mod containers;
pub(crate) mod defaults;
pub(crate) mod extended_claim;
pub(crate) mod probes;
pub(crate) mod qos;
pub(crate) mod resources;
pub(crate) mod spec;
pub(crate) mod volumes;

//! Which node a pod goes to: kube-scheduler's rules over all nodes, exactly, without looking at each.
//!
//! Nodes alike in everything filters and scores can see are one *state*; pods with the same scheduling
//! signature are one *class*. What a class thinks of a state is a pure function, so nothing is ever
//! invalidated: placing a pod moves a node to another state, and each class learns of new states from a log.
//!
//! - [`Cluster`]: nodes, pods, classes, [`Cluster::pick`], and [`Cluster::preempt`] for who found no node.
//! - [`shards`]: the same with the nodes shared out to several clusters, for more than one thread or machine.
//! - [`queue`]: pending pods: who is next, who waits, and what wakes them.
//! - [`gangs`]: pods that start together or not at all.
//! - [`NodeInfo`], [`PodInfo`], [`Thing`]: what is read from API objects.
//!
//! Plugins: NodeUnschedulable, NodeName, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit
//! NodeResourcesBalancedAllocation (as of 1.36), VolumeRestrictions, NodeVolumeLimits, VolumeBinding, VolumeZone,
//! ImageLocality, PodTopologySpread, InterPodAffinity, NodeDeclaredFeatures, DefaultPreemption, as a [`Profile`] sets
//! them; DynamicResources as [`Devices`] say, and whoever admits nodes ([`Among`]).
//!
//! No I/O, no clock, no randomness of its own: the shell around it brings objects, time and random numbers.

mod among;
mod asks;
mod candidates;
mod class;
mod classes;
mod cluster;
mod company;
mod cons;
mod devices;
mod extended;
mod features;
mod fleet;
pub mod gangs;
mod hashing;
mod index;
mod intern;
mod key;
mod kinds;
mod makers;
mod objects;
mod parts;
mod pick;
mod pods;
mod preempt;
mod profile;
pub mod queue;
mod rosters;
mod rules;
mod sacrifices;
mod scarce;
mod semantics;
pub mod shards;
mod storage;
mod tally;
mod terms;
mod trying;
mod verdict;
mod volumes;

pub use among::{Admission, Among, Asked, Where};
pub use candidates::Candidates;
pub use cluster::{ClassId, Cluster, Config, NodeId, Sizes};
pub use devices::Devices;
pub use extended::ExtendedAsk;
pub use fleet::NodeChange;
pub use key::PodKey;
pub use objects::{
    DEFAULT_CPU_MILLI, DEFAULT_MEMORY_BYTES, Effect, Image, NodeInfo, PodClaim, PodInfo,
    PodRequest, PodSpec, Requirement, ResourceList, SelectorOperator, Taint, Term, Toleration,
    TolerationOperator, VolumeReason, VolumeRule, Volumes, pairs, preferred_terms, required_terms,
};
pub use pick::{Explanation, PickError, Scores};
pub use preempt::{Budget, Preemption};
pub use profile::{
    Profile, ROOM_WEIGHT_MAX, SCORED_RESOURCES_MAX, SpreadDefaults, Strategy, Weights,
};
pub use rules::MAX_SCORE;
pub use sacrifices::Candidate;
pub use semantics::Semantics;
pub use storage::{
    Attach, BIND_COMPLETED, Bindings, Concerned, Disk, Fabric, SELECTED_NODE, Thing, ThingKind,
    Uses, Wanted,
};
pub use terms::{
    HOSTNAME_KEY, HostPort, Identity, Maker, MakerKind, Pairs, PodAffinity, PodTerm,
    SpreadConstraint, ZONE_KEY, spread_constraint,
};
pub use verdict::{PLUGINS, Plugin, PluginSet, Unschedulable};

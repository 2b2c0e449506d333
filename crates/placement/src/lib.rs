//! Which node a pod goes to: kube-scheduler's rules over all nodes, exactly, without looking at each.
//!
//! Nodes alike in everything filters and scores can see are one *state*; pods with the same scheduling
//! signature are one *class*. What a class thinks of a state is a pure function, so nothing is ever
//! invalidated: placing a pod moves a node to another state, and each class learns of new states from a log.
//!
//! - [`Cluster`]: nodes, pods, classes, [`Cluster::pick`], and [`Cluster::preempt`] for who found no node.
//! - [`queue`]: pending pods: who is next, who waits, and what wakes them.
//! - [`NodeInfo`], [`PodInfo`]: what is read from API objects.
//!
//! Plugins: NodeUnschedulable, NodeName, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit
//! (LeastAllocated), NodeResourcesBalancedAllocation (as of 1.36), ImageLocality, PodTopologySpread (with the
//! system's default constraints), InterPodAffinity, DefaultPreemption. Not there: the volume plugins and
//! DynamicResources; [`PodInfo::not_considered`] names what a pod uses of those.
//!
//! No I/O, no clock, no randomness of its own: the shell around it brings objects, time and random numbers.

mod asks;
mod class;
mod classes;
mod cluster;
mod company;
mod cons;
mod fleet;
mod hashing;
mod index;
mod intern;
mod key;
mod kinds;
mod makers;
mod objects;
mod pick;
mod pods;
mod preempt;
pub mod queue;
mod rules;
mod tally;
mod terms;
mod verdict;

pub use cluster::{ClassId, Cluster, Config, NodeId, Sizes};
pub use fleet::NodeChange;
pub use key::PodKey;
pub use objects::{
    DEFAULT_CPU_MILLI, DEFAULT_MEMORY_BYTES, Effect, Image, NodeInfo, PodInfo, PodRequest, PodSpec,
    Requirement, ResourceList, SelectorOperator, Taint, Term, Toleration, TolerationOperator,
    pairs,
};
pub use pick::{Explanation, PickError, Scores};
pub use preempt::{Budget, Preemption};
pub use rules::{AFFINITY_WEIGHT, MAX_SCORE, POD_AFFINITY_WEIGHT, SPREAD_WEIGHT, TAINT_WEIGHT};
pub use terms::{
    HOSTNAME_KEY, HostPort, Identity, Maker, MakerKind, Pairs, PodAffinity, PodTerm,
    SpreadConstraint, ZONE_KEY,
};
pub use verdict::{PLUGINS, Plugin, PluginSet, Unschedulable};

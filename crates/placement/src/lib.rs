//! Which node a pod goes to: kube-scheduler's rules over all nodes, exactly, without looking at each.
//!
//! Nodes alike in everything filters and scores can see are one *state*; pods with the same scheduling
//! signature are one *class*. What a class thinks of a state is a pure function, so nothing is ever
//! invalidated: placing a pod moves a node to another state, and each class learns of new states from a log.
//!
//! - [`Cluster`]: nodes, pods, classes, and [`Cluster::pick`].
//! - [`queue`]: pending pods: who is next, who waits, and what wakes them.
//! - [`NodeInfo`], [`PodInfo`]: what is read from API objects.
//!
//! Plugins so far: NodeUnschedulable, NodeName, TaintToleration, NodeAffinity, NodeResourcesFit
//! (LeastAllocated), NodeResourcesBalancedAllocation (as of 1.36). Not yet: NodePorts, the volume plugins,
//! PodTopologySpread, InterPodAffinity, ImageLocality, DynamicResources, preemption;
//! [`PodInfo::not_considered`] names what a pod uses of those.
//!
//! No I/O, no clock, no randomness of its own: the shell around it brings objects, time and random numbers.

mod class;
mod cluster;
mod cons;
mod fleet;
mod hashing;
mod intern;
mod key;
mod objects;
pub mod queue;
mod rules;
mod verdict;

pub use cluster::{ClassId, Cluster, Config, Explanation, NodeId, PickError, Scores, Sizes};
pub use fleet::NodeChange;
pub use key::PodKey;
pub use objects::{
    DEFAULT_CPU_MILLI, DEFAULT_MEMORY_BYTES, Effect, NodeInfo, PodInfo, PodRequest, PodSpec,
    Requirement, ResourceList, SelectorOperator, Taint, Term, Toleration, TolerationOperator,
};
pub use rules::{AFFINITY_WEIGHT, MAX_SCORE, TAINT_WEIGHT};
pub use verdict::{PLUGINS, Plugin, PluginSet, Unschedulable};

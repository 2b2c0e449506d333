//! What can be set about the rules: which plugins reject, what each weighs, and their arguments.
//!
//! The default is kube-scheduler's. Does not know configuration files.

use crate::objects::Term;
use crate::semantics::Semantics;
use crate::terms::{HOSTNAME_KEY, SpreadConstraint, ZONE_KEY};
use crate::verdict::PluginSet;
use meta::labels::LabelSelector;

/// Largest weight of NodeResourcesFit and NodeResourcesBalancedAllocation: an index has a bucket for each of
/// 100 × (sum of both) + 1 values, of 24 bytes, in each cell.
pub const ROOM_WEIGHT_MAX: i64 = 100;
/// Resources that one score may look at.
pub const SCORED_RESOURCES_MAX: usize = 16;

/// What each plugin's score counts in a node's total; 0 when it does not score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// TaintToleration.
    pub taint: i64,
    /// NodeAffinity.
    pub affinity: i64,
    /// NodeResourcesFit, at most [`ROOM_WEIGHT_MAX`].
    pub fit: i64,
    /// NodeResourcesBalancedAllocation, at most [`ROOM_WEIGHT_MAX`].
    pub balanced: i64,
    /// ImageLocality.
    pub image: i64,
    /// PodTopologySpread.
    pub spread: i64,
    /// InterPodAffinity.
    pub pods: i64,
    /// DynamicResources: the better the alternatives that prioritized lists get.
    pub devices: i64,
}

/// How NodeResourcesFit scores a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The freer the better.
    LeastAllocated,
    /// The fuller the better.
    MostAllocated,
    /// A broken line through (utilization in 0..=100, score in 0..=10), by rising utilization, not empty.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

/// Constraints of pods that bring none but belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadDefaults {
    /// The constraints; their selectors are those of the pods' makers.
    pub constraints: Vec<SpreadConstraint>,
    /// They are the system's own: nodes that lack their keys take part.
    pub system: bool,
}

/// One set of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Whose formulas.
    pub semantics: Semantics,
    /// Plugins that may reject a node.
    pub filters: PluginSet,
    /// Weights of scores.
    pub weights: Weights,
    /// How NodeResourcesFit scores.
    pub strategy: Strategy,
    /// Resources NodeResourcesFit scores, with their weights; at most [`SCORED_RESOURCES_MAX`].
    pub fit_resources: Vec<(Box<str>, i64)>,
    /// Resources NodeResourcesBalancedAllocation looks at; at most [`SCORED_RESOURCES_MAX`].
    pub balanced_resources: Vec<Box<str>>,
    /// Extended resources the fit filter does not look at, by name,
    pub ignored_resources: Vec<Box<str>>,
    /// and by what stands before the slash.
    pub ignored_groups: Vec<Box<str>>,
    /// What the required affinity of a pod on a node counts for a pod that it finds.
    pub hard_pod_affinity_weight: i64,
    /// Pods without preferred terms of their own are not scored by those of others.
    pub ignore_preferred_of_others: bool,
    /// Default spreading.
    pub spread_defaults: SpreadDefaults,
    /// Node affinity of every pod, besides its own: one of the terms matches.
    pub added_required: Option<Vec<Term>>,
    /// Preferred node affinity of every pod, besides its own.
    pub added_preferred: Vec<(i64, Term)>,
    /// Of the nodes where evicting may help so many hundredths are tried out,
    pub candidates_percent: usize,
    /// but so many at least.
    pub candidates_min: usize,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            semantics: Semantics::default(),
            filters: PluginSet::ALL,
            weights: Weights {
                taint: 3,
                affinity: 2,
                fit: 1,
                balanced: 1,
                image: 1,
                spread: 2,
                pods: 2,
                devices: 2,
            },
            strategy: Strategy::LeastAllocated,
            fit_resources: vec![("cpu".into(), 1), ("memory".into(), 1)],
            balanced_resources: vec!["cpu".into(), "memory".into()],
            ignored_resources: Vec::new(),
            ignored_groups: Vec::new(),
            hard_pod_affinity_weight: 1,
            ignore_preferred_of_others: false,
            spread_defaults: SpreadDefaults::system(),
            added_required: None,
            added_preferred: Vec::new(),
            candidates_percent: 10,
            candidates_min: 100,
        }
    }
}

impl SpreadDefaults {
    /// Hosts, then zones, both soft.
    pub fn system() -> SpreadDefaults {
        let soft = |key: &str, max_skew| SpreadConstraint {
            topology_key: key.into(),
            max_skew,
            hard: false,
            selector: LabelSelector::default(),
            min_domains: 1,
            honor_affinity: true,
            honor_taints: false,
        };
        SpreadDefaults {
            constraints: vec![soft(HOSTNAME_KEY, 3), soft(ZONE_KEY, 5)],
            system: true,
        }
    }
}

impl Profile {
    pub(crate) fn ignores(&self, resource: &str) -> bool {
        let listed = |list: &[Box<str>], name: &str| list.iter().any(|known| **known == *name);
        let group = resource.split_once('/').map(|(group, _)| group);
        listed(&self.ignored_resources, resource)
            || group.is_some_and(|group| listed(&self.ignored_groups, group))
    }
}

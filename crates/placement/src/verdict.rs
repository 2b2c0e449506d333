//! Why no node would do: reasons, their counts, and the sentence users read.
//!
//! Does not know how the counts were found.

use std::borrow::Cow;

/// The plugins of this release of the core that may reject a node; a set of them is a bit mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Plugin {
    /// Cordoned nodes.
    NodeUnschedulable,
    /// `spec.nodeName`.
    NodeName,
    /// Taints.
    TaintToleration,
    /// Node selector and node affinity.
    NodeAffinity,
    /// Host ports.
    NodePorts,
    /// Resources.
    NodeResourcesFit,
    /// Disks and claims that pods may not share.
    VolumeRestrictions,
    /// How many volumes a node takes.
    NodeVolumeLimits,
    /// Where the pod's volumes are, or can be made.
    VolumeBinding,
    /// Zones of volumes.
    VolumeZone,
    /// Topology spread constraints.
    PodTopologySpread,
    /// Affinity between pods.
    InterPodAffinity,
    /// Features that nodes declare.
    NodeDeclaredFeatures,
    /// Devices that its claims ask for.
    DynamicResources,
}

/// Every plugin, in the order they are asked.
pub const PLUGINS: [Plugin; 14] = [
    Plugin::NodeUnschedulable,
    Plugin::NodeName,
    Plugin::TaintToleration,
    Plugin::NodeAffinity,
    Plugin::NodePorts,
    Plugin::NodeResourcesFit,
    Plugin::VolumeRestrictions,
    Plugin::NodeVolumeLimits,
    Plugin::VolumeBinding,
    Plugin::VolumeZone,
    Plugin::PodTopologySpread,
    Plugin::InterPodAffinity,
    Plugin::DynamicResources,
    Plugin::NodeDeclaredFeatures,
];

/// A set of plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PluginSet(pub(crate) u16);

impl PluginSet {
    /// No plugin.
    pub const EMPTY: PluginSet = PluginSet(0);
    /// Every plugin.
    pub const ALL: PluginSet = PluginSet((1 << PLUGINS.len()) - 1);

    /// The set of these.
    pub const fn of(plugins: &[Plugin]) -> PluginSet {
        let mut bits = 0;
        let mut i = 0;
        while i < plugins.len() {
            bits |= 1 << plugins[i] as u8;
            i += 1;
        }
        PluginSet(bits)
    }

    /// Without this one.
    pub const fn without(self, plugin: Plugin) -> PluginSet {
        PluginSet(self.0 & !(1 << plugin as u8))
    }

    /// With one more.
    pub const fn with(self, plugin: Plugin) -> PluginSet {
        PluginSet(self.0 | 1 << plugin as u8)
    }

    /// With these, too.
    pub const fn union(self, plugins: &[Plugin]) -> PluginSet {
        PluginSet(self.0 | PluginSet::of(plugins).0)
    }

    /// Is it in?
    pub const fn contains(self, plugin: Plugin) -> bool {
        self.0 & (1 << plugin as u8) != 0
    }

    /// Both sets together.
    pub(crate) const fn or(self, other: PluginSet) -> PluginSet {
        PluginSet(self.0 | other.0)
    }

    /// Do the sets share a member?
    pub const fn intersects(self, other: PluginSet) -> bool {
        self.0 & other.0 != 0
    }

    /// Has it no member?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What the static filters say of a shape.
pub(crate) fn static_reason(plugin: Plugin) -> &'static str {
    match plugin {
        Plugin::NodeUnschedulable => "node(s) were unschedulable",
        Plugin::NodeName => "node(s) didn't match the requested node name",
        Plugin::TaintToleration => "node(s) had untolerated taint(s)",
        Plugin::NodeAffinity => "node(s) didn't match Pod's node affinity/selector",
        Plugin::NodeDeclaredFeatures => "node(s) didn't match Pod's required features",
        _ => "node(s) were rejected",
    }
}

/// What is said where the affinity that the configuration adds to every pod keeps it away.
pub(crate) const ENFORCED_AFFINITY: &str = "node(s) didn't match scheduler-enforced node affinity";
pub(crate) const PORTS_TAKEN: &str = "node(s) didn't have free ports for the requested pod ports";
pub(crate) const TOO_MANY_PODS: &str = "Too many pods";
pub(crate) const OUTSIDE_NAMED_NODES: &str = "node(s) didn't satisfy plugin(s) [NodeAffinity]";
pub(crate) const TERMS_CONFLICT: &str = "pod affinity terms conflict";

/// The answer when no node passes the filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unschedulable {
    /// All nodes of the cluster.
    pub nodes: usize,
    /// Set when the pod contradicts itself before any node is asked.
    pub contradiction: Option<Cow<'static, str>>,
    /// Nodes per reason, sorted by reason. A node with several reasons counts in each.
    pub reasons: Vec<(String, usize)>,
    /// Plugins that rejected at least one node: only what concerns these can help.
    pub rejected_by: PluginSet,
    /// Nodes where evicting pods may help.
    pub preemptible: usize,
}

impl Unschedulable {
    /// The sentence of the FailedScheduling event and of the PodScheduled condition.
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".into();
        }
        let mut message = format!("0/{} nodes are available:", self.nodes);
        if let Some(why) = &self.contradiction {
            message.push_str(&format!(" {why}."));
            return message;
        }
        let mut parts: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, nodes)| format!("{nodes} {reason}"))
            .collect();
        parts.sort();
        if !parts.is_empty() {
            message.push_str(&format!(" {}.", parts.join(", ")));
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_sorted_as_text_with_their_counts() {
        let failure = Unschedulable {
            nodes: 14,
            reasons: vec![
                ("Insufficient cpu".into(), 3),
                ("Insufficient memory".into(), 12),
                ("node(s) had untolerated taint(s)".into(), 2),
            ],
            ..Unschedulable::default()
        };
        assert_eq!(
            failure.message(),
            "0/14 nodes are available: 12 Insufficient memory, 2 node(s) had untolerated taint(s), \
             3 Insufficient cpu."
        );
        assert_eq!(
            Unschedulable::default().message(),
            "no nodes available to schedule pods"
        );
    }
}

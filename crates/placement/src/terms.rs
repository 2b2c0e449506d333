//! What a pod asks of the pods around it, as plain values: selectors, affinity terms, spread constraints,
//! host ports, images; and how they are read from API objects.
//!
//! Does not know any cluster, nor which pods there are: [`Identity`] is all of a pod that a selector can see.

use crate::objects::{items, text};
use meta::Value;
use meta::labels::LabelSelector;

/// The label that names a node's own domain.
pub const HOSTNAME_KEY: &str = "kubernetes.io/hostname";
/// The label of a node's zone.
pub const ZONE_KEY: &str = "topology.kubernetes.io/zone";

/// Labels or the like, sorted by key.
pub type Pairs = Vec<(Box<str>, Box<str>)>;

/// A port of the node's own that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Address; `0.0.0.0` is every address.
    pub ip: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// Number.
    pub port: i64,
}

/// A term of pod affinity or anti-affinity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodTerm {
    /// Nodes with the same value of this label are one domain.
    pub topology_key: Box<str>,
    /// Which pods are meant.
    pub selector: LabelSelector,
    /// Namespaces by name, sorted.
    pub namespaces: Vec<Box<str>>,
    /// Namespaces by label; selects nothing when not given.
    pub namespace_selector: LabelSelector,
}

/// Affinity to other pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodAffinity {
    /// Must run beside pods that all of these terms select.
    pub required: Vec<PodTerm>,
    /// Must not run beside pods that any of these terms selects.
    pub required_anti: Vec<PodTerm>,
    /// Would rather run beside them; a negative weight is anti-affinity.
    pub preferred: Vec<(i64, PodTerm)>,
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpreadConstraint {
    /// Nodes with the same value of this label are one domain.
    pub topology_key: Box<str>,
    /// How much fuller a domain may be than the emptiest one.
    pub max_skew: i64,
    /// `DoNotSchedule`: a node that would break it is out. Else it only counts in the score.
    pub hard: bool,
    /// Which pods are counted.
    pub selector: LabelSelector,
    /// With fewer domains the emptiest counts as empty.
    pub min_domains: i64,
    /// Only nodes that the pod's node selector and affinity allow are counted.
    pub honor_affinity: bool,
    /// Only nodes whose taints the pod tolerates are counted.
    pub honor_taints: bool,
}

/// Who made a pod: only the kinds whose selectors count for default spreading.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Maker {
    /// What it is.
    pub kind: MakerKind,
    /// Its name, in the pod's namespace.
    pub name: Box<str>,
}

/// Kinds of [`Maker`], and Services, which select pods by label alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MakerKind {
    /// A Service; it makes no pods.
    Service,
    /// A ReplicationController.
    ReplicationController,
    /// A ReplicaSet.
    ReplicaSet,
    /// A StatefulSet.
    StatefulSet,
}

/// What selectors can see of a pod.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Labels of that namespace, where the namespace is known.
    pub namespace_labels: Option<&'a [(Box<str>, Box<str>)]>,
    /// Its labels.
    pub labels: &'a [(Box<str>, Box<str>)],
    /// Its deletion has begun.
    pub deleting: bool,
}

/// Does the selector select these labels?
pub(crate) fn selects(selector: &LabelSelector, labels: &[(Box<str>, Box<str>)]) -> bool {
    selector.matches_by(|key| label(labels, key))
}

fn label<'a>(labels: &'a [(Box<str>, Box<str>)], key: &str) -> Option<&'a str> {
    let at = labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
    labels.get(at).map(|(_, value)| &**value)
}

impl PodTerm {
    /// Does the term, held by a pod that looks for a node, select this pod that has one? Its namespace
    /// selector means namespaces that exist.
    pub(crate) fn finds(&self, pod: &Identity<'_>) -> bool {
        let by_label = self.namespace_selector.is_empty()
            || pod
                .namespace_labels
                .is_some_and(|labels| selects(&self.namespace_selector, labels));
        (by_label || self.names_namespace(pod.namespace)) && selects(&self.selector, pod.labels)
    }

    /// Does the term, held by a pod that has a node, select this pod that looks for one? A namespace not
    /// known has no labels.
    pub(crate) fn concerns(&self, pod: &Identity<'_>) -> bool {
        let by_label = selects(
            &self.namespace_selector,
            pod.namespace_labels.unwrap_or(&[]),
        );
        (by_label || self.names_namespace(pod.namespace)) && selects(&self.selector, pod.labels)
    }

    /// Do labels of namespaces decide anything?
    pub(crate) fn asks_namespace_labels(&self) -> bool {
        !self.namespace_selector.is_nothing() && !self.namespace_selector.is_empty()
    }

    fn names_namespace(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|name| **name == *namespace)
    }
}

impl PodAffinity {
    /// Asks for nothing?
    pub fn is_empty(&self) -> bool {
        self.required.is_empty() && self.required_anti.is_empty() && self.preferred.is_empty()
    }

    pub(crate) fn from_spec(spec: &Value, namespace: &str, labels: &Pairs) -> PodAffinity {
        let (to, from) = (
            &spec["affinity"]["podAffinity"],
            &spec["affinity"]["podAntiAffinity"],
        );
        let required = |side: &Value| {
            items(&side["requiredDuringSchedulingIgnoredDuringExecution"])
                .map(|t| pod_term(t, namespace, labels))
                .collect()
        };
        let preferred = |side: &Value, sign: i64| -> Vec<(i64, PodTerm)> {
            items(&side["preferredDuringSchedulingIgnoredDuringExecution"])
                .map(|p| {
                    let weight = p["weight"].as_i64().unwrap_or(0).clamp(0, 100);
                    (
                        sign * weight,
                        pod_term(&p["podAffinityTerm"], namespace, labels),
                    )
                })
                .filter(|(weight, _)| *weight != 0)
                .collect()
        };
        let mut both = preferred(to, 1);
        both.extend(preferred(from, -1));
        PodAffinity {
            required: required(to),
            required_anti: required(from),
            preferred: both,
        }
    }
}

fn pod_term(term: &Value, namespace: &str, labels: &Pairs) -> PodTerm {
    let mut namespaces: Vec<Box<str>> =
        items(&term["namespaces"]).map(|n| text(n).into()).collect();
    if namespaces.is_empty() && term["namespaceSelector"].is_null() {
        namespaces.push(namespace.into());
    }
    namespaces.sort();
    namespaces.dedup();
    let keys = [
        (&term["matchLabelKeys"], "In"),
        (&term["mismatchLabelKeys"], "NotIn"),
    ];
    PodTerm {
        topology_key: text(&term["topologyKey"]).into(),
        selector: selector(&merged(&term["labelSelector"], &keys, labels)),
        namespaces,
        namespace_selector: selector(&term["namespaceSelector"]),
    }
}

/// A selector that does not parse selects nothing; the API refuses such objects.
pub(crate) fn selector(object: &Value) -> LabelSelector {
    LabelSelector::from_object(object).unwrap_or_else(|_| LabelSelector::nothing())
}

/// The selector with the pod's own values of the keys named. An API server has usually merged them in already;
/// what it wrote stands.
fn merged(selector: &Value, keys: &[(&Value, &str)], labels: &Pairs) -> Value {
    let mut merged = selector.clone();
    if !merged.is_object() {
        return merged;
    }
    let has = |merged: &Value, key: &str, operator: &str| {
        items(&merged["matchExpressions"])
            .any(|e| text(&e["key"]) == key && text(&e["operator"]) == operator)
    };
    for (list, operator) in keys {
        for key in items(list).map(text) {
            let Some(value) = label(labels, key) else {
                continue;
            };
            if has(&merged, key, operator) {
                continue;
            }
            let mut expressions = merged["matchExpressions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            expressions.push(value::json!({"key": key, "operator": operator, "values": [value]}));
            merged["matchExpressions"] = expressions.into();
        }
    }
    merged
}

pub(crate) fn spread_constraints(spec: &Value, labels: &Pairs) -> Vec<SpreadConstraint> {
    items(&spec["topologySpreadConstraints"])
        .map(|c| spread_constraint(c, labels))
        .collect()
}

/// Reads a constraint of a pod with these labels.
pub fn spread_constraint(c: &Value, labels: &Pairs) -> SpreadConstraint {
    let keys = [(&c["matchLabelKeys"], "In")];
    SpreadConstraint {
        topology_key: text(&c["topologyKey"]).into(),
        max_skew: c["maxSkew"].as_i64().unwrap_or(1),
        hard: text(&c["whenUnsatisfiable"]) != "ScheduleAnyway",
        selector: selector(&merged(&c["labelSelector"], &keys, labels)),
        min_domains: c["minDomains"].as_i64().unwrap_or(1),
        honor_affinity: text(&c["nodeAffinityPolicy"]) != "Ignore",
        honor_taints: text(&c["nodeTaintsPolicy"]) == "Honor",
    }
}

/// Ports of containers and sidecars.
pub(crate) fn host_ports(spec: &Value) -> Vec<HostPort> {
    let sidecars = items(&spec["initContainers"]).filter(|c| text(&c["restartPolicy"]) == "Always");
    let mut ports: Vec<HostPort> = sidecars
        .chain(items(&spec["containers"]))
        .flat_map(|c| items(&c["ports"]))
        .filter_map(|p| {
            let port = p["hostPort"].as_i64().filter(|&port| port > 0)?;
            let or = |value: &Value, default: &str| match text(value) {
                "" => default.into(),
                given => given.into(),
            };
            Some(HostPort {
                ip: or(&p["hostIP"], "0.0.0.0"),
                protocol: or(&p["protocol"], "TCP"),
                port,
            })
        })
        .collect();
    ports.sort();
    ports
}

/// Images of init containers and containers, one entry a container, with a tag where there is none.
pub(crate) fn images(spec: &Value) -> Vec<Box<str>> {
    items(&spec["initContainers"])
        .chain(items(&spec["containers"]))
        .map(|c| tagged(text(&c["image"])))
        .collect()
}

fn tagged(image: &str) -> Box<str> {
    if image.rfind(':') <= image.rfind('/') {
        format!("{image}:latest").into()
    } else {
        image.into()
    }
}

pub(crate) fn maker(metadata: &Value) -> Option<Maker> {
    let owner = items(&metadata["ownerReferences"]).find(|o| o["controller"] == true)?;
    let kind = match (text(&owner["apiVersion"]), text(&owner["kind"])) {
        ("v1", "ReplicationController") => MakerKind::ReplicationController,
        ("apps/v1", "ReplicaSet") => MakerKind::ReplicaSet,
        ("apps/v1", "StatefulSet") => MakerKind::StatefulSet,
        _ => return None,
    };
    Some(Maker {
        kind,
        name: text(&owner["name"]).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        for (written, meant) in [
            ("nginx", "nginx:latest"),
            ("nginx:1", "nginx:1"),
            ("host:5000/nginx", "host:5000/nginx:latest"),
            ("host:5000/nginx:1", "host:5000/nginx:1"),
        ] {
            assert_eq!(&*tagged(written), meant);
        }
    }

    #[test]
    fn label_keys_are_merged_once() {
        let labels: Pairs = vec![("app".into(), "a".into()), ("hash".into(), "1".into())];
        let given = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "a"}},
            "matchLabelKeys": ["hash", "absent"], "mismatchLabelKeys": ["app"]});
        let term = pod_term(&given, "shop", &labels);
        assert_eq!(term.selector.requirements().len(), 3);
        assert_eq!(term.namespaces, ["shop".into()]);
        assert!(
            !selects(&term.selector, &labels),
            "app is a, and must not be"
        );
        // The API server wrote another value, when the pod had another label: that one stands.
        let written = json!({"topologyKey": "zone", "matchLabelKeys": ["hash"], "labelSelector":
            {"matchExpressions": [{"key": "hash", "operator": "In", "values": ["0"]}]}});
        assert!(!selects(
            &pod_term(&written, "shop", &labels).selector,
            &labels
        ));
    }
}

//! Nodes as DaemonSets see them, and what a DaemonSet's template says to each.
//!
//! Knows labels and taints. A million nodes have few combinations of them, so they are shared, and most templates are
//! judged once a combination. Knows no pods.

use crate::nodelifecycle::Taint;
use crate::pod::{items, text_of};
use meta::labels::{LabelOperator, LabelRequirement};
use meta::{Value, object};
use std::collections::HashMap;
use std::sync::Arc;
use value::json;

/// Combinations of labels and taints that are shared before sharing starts afresh: of ~1 KiB, 64 MiB at most.
const CLASSES_MAX: usize = 64 * 1024;
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Taints every daemon pod tolerates: key, effect.
const DAEMON_TOLERATIONS: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// What DaemonSets look at in a node. Nodes that differ only in their names have equal facts.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFacts {
    /// metadata.labels, but for a host name that is the node's name.
    labels: Value,
    host_is_name: bool,
    taints: Vec<Taint>,
}

impl NodeFacts {
    /// Projects a whole node.
    pub fn from_object(node: &Value) -> Self {
        let taint = |taint: &Value| Taint {
            key: text_of(taint, "key").into(),
            value: text_of(taint, "value").into(),
            effect: text_of(taint, "effect").into(),
            time_added: None,
        };
        let mut labels = object::labels(node).clone();
        let host_is_name = object::label(node, HOSTNAME) == Some(object::name(node));
        if host_is_name {
            object::remove_at(&mut labels, &[HOSTNAME]);
        }
        Self {
            labels,
            host_is_name,
            taints: items(node, &["spec", "taints"]).iter().map(taint).collect(),
        }
    }

    fn label<'a>(&'a self, name: &'a str, key: &str) -> Option<&'a str> {
        if self.host_is_name && key == HOSTNAME {
            return Some(name);
        }
        self.labels.get(key).and_then(Value::as_str)
    }
}

/// Shares equal facts between nodes.
#[derive(Debug, Default)]
pub struct Classes {
    classes: HashMap<String, Arc<NodeFacts>>,
}

impl Classes {
    /// The shared form of these facts.
    pub fn share(&mut self, facts: NodeFacts) -> Arc<NodeFacts> {
        if self.classes.len() >= CLASSES_MAX {
            self.classes.clear();
        }
        let NodeFacts {
            labels,
            host_is_name,
            taints,
        } = &facts;
        let text = format!("{host_is_name}{labels}{taints:?}");
        Arc::clone(self.classes.entry(text).or_insert_with(|| Arc::new(facts)))
    }
}

/// What a DaemonSet wants with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// A pod belongs there.
    pub may_start: bool,
    /// A pod that runs there may go on.
    pub may_stay: bool,
}

impl Verdict {
    const NO: Verdict = Verdict {
        may_start: false,
        may_stay: false,
    };
}

/// A DaemonSet's template, read for its demands on nodes.
#[derive(Clone, Debug)]
pub struct Judge {
    node_name: Box<str>,
    selector: Vec<LabelRequirement>,
    /// Alternatives; None: any node will do.
    terms: Option<Vec<Term>>,
    tolerations: Vec<Value>,
}

/// One alternative of a required node affinity.
#[derive(Clone, Debug)]
struct Term {
    labels: Vec<LabelRequirement>,
    names: Vec<LabelRequirement>,
}

impl Judge {
    /// Reads a DaemonSet.
    pub fn new(set: &Value) -> Self {
        let spec = object::at(set, &["spec", "template", "spec"]);
        let selector = object::map_at(spec, &["nodeSelector"]);
        let pairs = selector.into_iter().flatten();
        let affinity = [
            "affinity",
            "nodeAffinity",
            "requiredDuringSchedulingIgnoredDuringExecution",
        ];
        let required = object::at(spec, &affinity);
        let term = |term: &Value| {
            let read = |field| {
                items(term, &[field])
                    .iter()
                    .map(requirement)
                    .collect::<Option<Vec<_>>>()
            };
            Some(Term {
                labels: read("matchExpressions")?,
                names: read("matchFields")?,
            })
        };
        Self {
            node_name: text_of(spec, "nodeName").into(),
            selector: pairs
                .map(|(key, value)| LabelRequirement {
                    key: key.to_string(),
                    op: LabelOperator::In,
                    values: vec![value.as_str().unwrap_or_default().to_owned()],
                })
                .collect(),
            // A term that cannot be read matches nothing.
            terms: required.is_object().then(|| {
                let terms = items(required, &["nodeSelectorTerms"]).iter();
                terms.filter_map(term).collect()
            }),
            tolerations: tolerations(set),
        }
    }

    /// Whether nodes of equal facts may be judged differently.
    pub fn looks_at_names(&self) -> bool {
        let hostname = |requirements: &[LabelRequirement]| {
            requirements
                .iter()
                .any(|requirement| requirement.key == HOSTNAME)
        };
        let by_term = |term: &Term| !term.names.is_empty() || hostname(&term.labels);
        !self.node_name.is_empty()
            || hostname(&self.selector)
            || self.terms.iter().flatten().any(by_term)
    }

    /// Judges a node.
    pub fn verdict(&self, name: &str, facts: &NodeFacts) -> Verdict {
        if !self.wants(name, facts) {
            return Verdict::NO;
        }
        let tolerated = |taint: &Taint| {
            self.tolerations
                .iter()
                .any(|toleration| tolerates(toleration, taint))
        };
        let untolerated = |effect: &str| {
            facts
                .taints
                .iter()
                .any(|taint| &*taint.effect == effect && !tolerated(taint))
        };
        let may_stay = !untolerated("NoExecute");
        Verdict {
            may_start: may_stay && !untolerated("NoSchedule"),
            may_stay,
        }
    }

    fn wants(&self, name: &str, facts: &NodeFacts) -> bool {
        let holds = |requirement: &LabelRequirement| {
            requirement.matches(facts.label(name, &requirement.key))
        };
        let named = |requirement: &LabelRequirement| {
            requirement.key == "metadata.name" && requirement.matches(Some(name))
        };
        let matches = |term: &Term| {
            // An empty term matches nothing.
            !(term.labels.is_empty() && term.names.is_empty())
                && term.labels.iter().all(holds)
                && term.names.iter().all(named)
        };
        (self.node_name.is_empty() || &*self.node_name == name)
            && self.selector.iter().all(holds)
            && self
                .terms
                .as_ref()
                .is_none_or(|terms| terms.iter().any(matches))
    }
}

fn requirement(value: &Value) -> Option<LabelRequirement> {
    let op = match text_of(value, "operator") {
        "In" => LabelOperator::In,
        "NotIn" => LabelOperator::NotIn,
        "Exists" => LabelOperator::Exists,
        "DoesNotExist" => LabelOperator::DoesNotExist,
        "Gt" => LabelOperator::GreaterThan,
        "Lt" => LabelOperator::LessThan,
        _ => return None,
    };
    let values = items(value, &["values"]).iter();
    Some(LabelRequirement {
        key: text_of(value, "key").to_owned(),
        op,
        values: values
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    })
}

/// The template's tolerations and those of every daemon pod.
pub(super) fn tolerations(set: &Value) -> Vec<Value> {
    let mut tolerations = items(set, &["spec", "template", "spec", "tolerations"]).to_vec();
    let mut add = |key: &str, effect: &str| {
        let toleration = json!({"key": key, "operator": "Exists", "effect": effect});
        let is_same = |old: &Value| {
            ["key", "operator", "effect", "value"]
                .iter()
                .all(|field| text_of(old, field) == text_of(&toleration, field))
        };
        // One with a time limit gives way to ours, which has none.
        match tolerations.iter_mut().find(|old| is_same(old)) {
            Some(old) => *old = toleration,
            None => tolerations.push(toleration),
        }
    };
    for (key, effect) in DAEMON_TOLERATIONS {
        add(key, effect);
    }
    if object::bool_at(set, &["spec", "template", "spec", "hostNetwork"]) == Some(true) {
        add("node.kubernetes.io/network-unavailable", "NoSchedule");
    }
    tolerations
}

fn tolerates(toleration: &Value, taint: &Taint) -> bool {
    let [key, effect, value] = ["key", "effect", "value"].map(|field| text_of(toleration, field));
    let exists = text_of(toleration, "operator") == "Exists";
    (effect.is_empty() || effect == &*taint.effect)
        && ((key.is_empty() && exists)
            || (key == &*taint.key && (exists || value == &*taint.value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(name: &str, labels: Value, taints: Value) -> NodeFacts {
        let mut node =
            json!({"metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}});
        node["metadata"]["labels"][HOSTNAME] = json!(name);
        NodeFacts::from_object(&node)
    }

    fn judge(spec: Value) -> Judge {
        Judge::new(&json!({"spec": {"template": {"spec": spec}}}))
    }

    fn required(terms: Value) -> Judge {
        judge(json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}))
    }

    #[test]
    fn nodes_that_differ_in_their_names_only_share_their_facts() {
        let mut classes = Classes::default();
        let one = classes.share(facts("a", json!({"zone": "x"}), json!([])));
        let two = classes.share(facts("b", json!({"zone": "x"}), json!([])));
        let other = classes.share(facts("c", json!({"zone": "y"}), json!([])));
        assert!(Arc::ptr_eq(&one, &two) && !Arc::ptr_eq(&one, &other));
        assert_eq!(one.label("b", HOSTNAME), Some("b"));
    }

    #[test]
    fn affinity_selects_by_labels_and_names() {
        let node = facts("a", json!({"zone": "x", "cores": "32"}), json!([]));
        let starts = |judge: &Judge| judge.verdict("a", &node).may_start;
        let by = |key: &str, op: &str, values: Value| json!([{"matchExpressions": [{"key": key, "operator": op, "values": values}]}]);
        assert!(starts(&judge(json!({}))));
        assert!(starts(&required(by("cores", "Gt", json!(["16"])))));
        assert!(!starts(&required(by("cores", "Lt", json!(["16"])))));
        assert!(starts(&required(by("gpu", "NotIn", json!(["yes"])))));
        assert!(!starts(&required(by("zone", "NotIn", json!(["x"])))));
        assert!(!starts(&required(json!([{}]))), "an empty term");
        let name = |name: &str| json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]);
        assert!(starts(&required(name("a"))) && !starts(&required(name("b"))));
        assert!(required(name("a")).looks_at_names());
        let by_host = judge(json!({"nodeSelector": {HOSTNAME: "a"}}));
        assert!(starts(&by_host) && by_host.looks_at_names());
        assert!(!required(by("zone", "In", json!(["x"]))).looks_at_names());
    }

    #[test]
    fn taints_keep_pods_off_or_drive_them_away() {
        let verdict = |key: &str, effect: &str, spec: Value| {
            let node = facts("a", json!({}), json!([{"key": key, "effect": effect}]));
            let verdict = judge(spec).verdict("a", &node);
            (verdict.may_start, verdict.may_stay)
        };
        assert_eq!(verdict("gpu", "NoSchedule", json!({})), (false, true));
        assert_eq!(verdict("gpu", "NoExecute", json!({})), (false, false));
        let tolerant = json!({"tolerations": [{"key": "gpu", "operator": "Exists"}]});
        assert_eq!(verdict("gpu", "NoExecute", tolerant), (true, true));
        for (key, effect) in DAEMON_TOLERATIONS {
            assert_eq!(verdict(key, effect, json!({})), (true, true), "{key}");
        }
        let network = "node.kubernetes.io/network-unavailable";
        assert_eq!(verdict(network, "NoSchedule", json!({})), (false, true));
        assert_eq!(
            verdict(network, "NoSchedule", json!({"hostNetwork": true})),
            (true, true)
        );
        let new = "node.kubernetes.io/not-ready";
        assert_eq!(verdict(new, "NoSchedule", json!({})), (false, true));
    }
}

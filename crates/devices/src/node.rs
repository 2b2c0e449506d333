//! A node as far as devices ask about it, and the selectors that slices and allocations name nodes by.
//!
//! Does not know what is on a node.

use meta::Value;

use crate::{items, text, texts};

/// A node: its name, and its labels by key.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    /// `metadata.name`.
    pub name: &'a str,
    /// The value of a label.
    pub label: &'a dyn Fn(&str) -> Option<&'a str>,
}

impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.name).finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
    /// None that is served: matches nothing.
    Unknown,
}

#[derive(Debug, Clone)]
struct Requirement {
    key: Box<str>,
    operator: Operator,
    values: Vec<Box<str>>,
}

#[derive(Debug, Clone)]
struct Term {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

/// A `v1.NodeSelector`: one of its terms matches. A term without requirements matches nothing.
#[derive(Debug, Clone)]
pub struct NodeSelector {
    terms: Vec<Term>,
    raw: Value,
}

impl NodeSelector {
    /// Reads one; `None` where there is none.
    pub fn read(selector: &Value) -> Option<NodeSelector> {
        let term = |term: &Value| Term {
            labels: items(&term["matchExpressions"]).map(requirement).collect(),
            fields: items(&term["matchFields"]).map(requirement).collect(),
        };
        selector.is_object().then(|| NodeSelector {
            terms: items(&selector["nodeSelectorTerms"]).map(term).collect(),
            raw: selector.clone(),
        })
    }

    /// Is the node meant?
    pub fn matches(&self, node: &Node<'_>) -> bool {
        self.terms.iter().any(|term| {
            let empty = term.labels.is_empty() && term.fields.is_empty();
            let by_label = |r: &Requirement| r.matches((node.label)(&r.key));
            let by_field =
                |r: &Requirement| &*r.key == "metadata.name" && r.matches(Some(node.name));
            !empty && term.labels.iter().all(by_label) && term.fields.iter().all(by_field)
        })
    }

    /// As it was written.
    pub fn raw(&self) -> &Value {
        &self.raw
    }
}

fn requirement(value: &Value) -> Requirement {
    Requirement {
        key: text(&value["key"]).into(),
        operator: match text(&value["operator"]) {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt,
            "Lt" => Operator::Lt,
            _ => Operator::Unknown,
        },
        values: texts(&value["values"]),
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|v| self.values.iter().any(|one| **one == *v));
        let numbers = || {
            let bound = self.values.first()?.parse::<i64>().ok()?;
            Some((value?.parse::<i64>().ok()?, bound))
        };
        match self.operator {
            Operator::In => listed(),
            Operator::NotIn => !listed(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => numbers().is_some_and(|(own, bound)| own > bound),
            Operator::Lt => numbers().is_some_and(|(own, bound)| own < bound),
            Operator::Unknown => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn selectors_mean_nodes_as_affinity_does() {
        let label = |key: &str| match key {
            "zone" => Some("a"),
            "cores" => Some("32"),
            _ => None,
        };
        let node = Node {
            name: "n1",
            label: &label,
        };
        let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (term, expected) in [
            (expression("zone", "In", json!(["a", "b"])), true),
            (expression("zone", "NotIn", json!(["a"])), false),
            (expression("rack", "NotIn", json!(["a"])), true),
            (expression("zone", "Exists", json!([])), true),
            (expression("rack", "DoesNotExist", json!([])), true),
            (expression("cores", "Gt", json!(["16"])), true),
            (expression("cores", "Lt", json!(["32"])), false),
            (expression("zone", "Gt", json!(["1"])), false),
            (expression("zone", "Near", json!(["a"])), false),
            (json!({}), false),
            (
                json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}),
                true,
            ),
            (
                json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}),
                false,
            ),
        ] {
            let selector = NodeSelector::read(&json!({"nodeSelectorTerms": [term]}));
            assert_eq!(selector.unwrap().matches(&node), expected, "{term}");
        }
        assert!(NodeSelector::read(&Value::Null).is_none());
    }
}

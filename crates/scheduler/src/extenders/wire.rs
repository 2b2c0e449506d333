//! Questions to extenders and their answers: the JSON of `k8s.io/kube-scheduler/extender/v1`.
//!
//! Names of fields are Go's own, capitals first. An answer's may be written in any case, as Go reads them. Does not
//! know who sends it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use meta::Value;
use value::json;

/// A node in a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node<'a> {
    pub(crate) name: &'a str,
    /// Its JSON.
    pub(crate) object: &'a str,
}

/// What a filter answers: who is left, and why the others are not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filtered {
    /// `None` where nobody is named.
    pub(crate) left: Option<Vec<String>>,
    pub(crate) failed: BTreeMap<String, String>,
    pub(crate) unresolvable: BTreeMap<String, String>,
}

/// Pods that would have to go from one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Victims {
    pub(crate) uids: Vec<String>,
    pub(crate) violations: i64,
}

/// `ExtenderArgs`, with whole nodes or with their names.
pub(crate) fn nodes_question<'a>(
    pod: &Value,
    nodes: impl Iterator<Item = Node<'a>>,
    by_name: bool,
) -> String {
    let mut text = format!("{{\"Pod\":{pod},\"Nodes\":");
    let mut first = true;
    text.push_str(if by_name {
        "null,\"NodeNames\":["
    } else {
        "{\"metadata\":{},\"items\":["
    });
    for node in nodes {
        if !std::mem::take(&mut first) {
            text.push(',');
        }
        if by_name {
            let _ = write!(text, "{}", Value::from(node.name));
        } else {
            text.push_str(node.object);
        }
    }
    text.push_str(if by_name {
        "]}"
    } else {
        "]},\"NodeNames\":null}"
    });
    text
}

/// `ExtenderBindingArgs`.
pub(crate) fn bind_question(namespace: &str, name: &str, uid: &str, node: &str) -> String {
    json!({"PodName": name, "PodNamespace": namespace, "PodUID": uid, "Node": node}).to_string()
}

/// `ExtenderPreemptionArgs`; `pods` gives the objects of victims, unless their uids are enough.
pub(crate) fn preempt_question(
    pod: &Value,
    victims: &BTreeMap<String, Victims>,
    pods: Option<&dyn Fn(&str) -> Value>,
) -> String {
    let of = |victims: &Victims| {
        let uids = victims.uids.iter();
        let pods: Vec<Value> = match pods {
            Some(object) => uids.map(|uid| object(uid)).collect(),
            None => uids.map(|uid| json!({"UID": uid})).collect(),
        };
        json!({"Pods": pods, "NumPDBViolations": victims.violations})
    };
    let by_node = victims
        .iter()
        .map(|(node, victims)| (node.clone(), of(victims)));
    let by_node = Value::Object(by_node.collect());
    let (whole, by_uid) = match pods {
        Some(_) => (by_node, Value::Null),
        None => (Value::Null, by_node),
    };
    json!({"Pod": pod, "NodeNameToVictims": whole, "NodeNameToMetaVictims": by_uid}).to_string()
}

/// An object as a typed client of Go's holds it, without saying of what kind it is.
pub(crate) fn untyped(mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    object
}

/// A field, its name in any case.
fn field<'a>(object: &'a Value, name: &str) -> &'a Value {
    const NULL: &Value = &Value::Null;
    let Some(map) = object.as_object() else {
        return NULL;
    };
    map.get(name)
        .or_else(|| {
            let mut same = map.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
            same.next().map(|(_, value)| value)
        })
        .unwrap_or(NULL)
}

fn mistyped(what: &str, value: &Value) -> String {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {kind} into Go value of type {what}")
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        other => Err(mistyped("string", other)),
    }
}

fn list<'a>(value: &'a Value, what: &str) -> Result<&'a [Value], String> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) => Ok(items),
        other => Err(mistyped(what, other)),
    }
}

fn map(value: &Value) -> Result<BTreeMap<String, String>, String> {
    match value {
        Value::Null => Ok(BTreeMap::new()),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| Ok((key.to_string(), text(value)?)))
            .collect(),
        other => Err(mistyped("v1.FailedNodesMap", other)),
    }
}

fn object_or_null(value: &Value, what: &str) -> Result<(), String> {
    if value.is_object() || value.is_null() {
        return Ok(());
    }
    Err(mistyped(what, value))
}

/// Reads `ExtenderFilterResult`; what it says went wrong is an error.
pub(crate) fn read_filtered(answer: &Value, by_name: bool) -> Result<Filtered, String> {
    object_or_null(answer, "v1.ExtenderFilterResult")?;
    let error = text(field(answer, "Error"))?;
    if !error.is_empty() {
        return Err(error);
    }
    let (names, nodes) = (field(answer, "NodeNames"), field(answer, "Nodes"));
    let left = if by_name && !names.is_null() {
        let names = list(names, "[]string")?;
        Some(names.iter().map(text).collect::<Result<_, _>>()?)
    } else if nodes.is_null() {
        None
    } else {
        object_or_null(nodes, "v1.NodeList")?;
        let items = list(field(nodes, "items"), "[]v1.Node")?;
        let name = |item: &Value| text(field(field(item, "metadata"), "name"));
        Some(items.iter().map(name).collect::<Result<_, _>>()?)
    };
    Ok(Filtered {
        left,
        failed: map(field(answer, "FailedNodes"))?,
        unresolvable: map(field(answer, "FailedAndUnresolvableNodes"))?,
    })
}

/// Reads `HostPriorityList`.
pub(crate) fn read_priorities(answer: &Value) -> Result<Vec<(String, i64)>, String> {
    let entries = list(answer, "v1.HostPriorityList")?;
    entries
        .iter()
        .map(|entry| {
            let score = field(entry, "Score");
            let number = if score.is_null() {
                Some(0)
            } else {
                score.as_i64()
            };
            let number = number.ok_or_else(|| mistyped("int64", score))?;
            Ok((text(field(entry, "Host"))?, number))
        })
        .collect()
}

/// Reads `ExtenderBindingResult`.
pub(crate) fn read_bound(answer: &Value) -> Result<(), String> {
    object_or_null(answer, "v1.ExtenderBindingResult")?;
    match text(field(answer, "Error"))? {
        error if error.is_empty() => Ok(()),
        error => Err(error),
    }
}

/// Reads `ExtenderPreemptionResult`.
pub(crate) fn read_victims(answer: &Value) -> Result<BTreeMap<String, Victims>, String> {
    object_or_null(answer, "v1.ExtenderPreemptionResult")?;
    let by_node = field(answer, "NodeNameToMetaVictims");
    object_or_null(by_node, "map[string]*v1.MetaVictims")?;
    by_node
        .as_object()
        .into_iter()
        .flatten()
        .map(|(node, victims)| {
            object_or_null(victims, "v1.MetaVictims")?;
            let pods = list(field(victims, "Pods"), "[]*v1.MetaPod")?;
            let uids = pods.iter().map(|pod| text(field(pod, "UID")));
            let victims = Victims {
                uids: uids.collect::<Result<_, _>>()?,
                violations: field(victims, "NumPDBViolations").as_i64().unwrap_or(0),
            };
            Ok((node.to_string(), victims))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [Node<'static>; 2] = [
        Node {
            name: "a",
            object: "{\"metadata\":{\"name\":\"a\"}}",
        },
        Node {
            name: "b\"",
            object: "{}",
        },
    ];

    #[test]
    fn questions_have_gos_names() {
        let pod = json!({"metadata": {"name": "p"}});
        assert_eq!(
            nodes_question(&pod, NODES.into_iter(), true),
            "{\"Pod\":{\"metadata\":{\"name\":\"p\"}},\"Nodes\":null,\"NodeNames\":[\"a\",\"b\\\"\"]}"
        );
        assert_eq!(
            nodes_question(&pod, NODES.into_iter(), false),
            "{\"Pod\":{\"metadata\":{\"name\":\"p\"}},\"Nodes\":{\"metadata\":{},\"items\":\
             [{\"metadata\":{\"name\":\"a\"}},{}]},\"NodeNames\":null}"
        );
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(
            read(&bind_question("ns", "p", "u", "n")),
            json!({"PodName": "p", "PodNamespace": "ns", "PodUID": "u", "Node": "n"})
        );
        let victims = Victims {
            uids: vec!["u1".into()],
            violations: 1,
        };
        let victims = BTreeMap::from([("n".to_owned(), victims)]);
        assert_eq!(
            read(&preempt_question(&pod, &victims, None)),
            json!({"Pod": pod, "NodeNameToVictims": null,
                "NodeNameToMetaVictims": {"n": {"Pods": [{"UID": "u1"}], "NumPDBViolations": 1}}})
        );
        let whole = |uid: &str| json!({"metadata": {"uid": uid}});
        assert_eq!(
            read(&preempt_question(&pod, &victims, Some(&whole))),
            json!({"Pod": pod, "NodeNameToMetaVictims": null,
                "NodeNameToVictims": {"n": {"Pods": [{"metadata": {"uid": "u1"}}], "NumPDBViolations": 1}}})
        );
    }

    #[test]
    fn answers_are_read_in_any_case_and_refused_in_wrong_types() {
        let answer = json!({"nodenames": ["a"], "FailedNodes": {"b": "full"},
            "failedAndUnresolvableNodes": {"c": "never"}, "error": ""});
        let expected = Filtered {
            left: Some(vec!["a".into()]),
            failed: [("b".into(), "full".into())].into(),
            unresolvable: [("c".into(), "never".into())].into(),
        };
        assert_eq!(read_filtered(&answer, true).unwrap(), expected);
        // Who does not know nodes answers with nodes; names alone leave nobody.
        let by_nodes = json!({"Nodes": {"items": [{"metadata": {"name": "a"}}]}});
        let left = |answer: &Value, by_name| read_filtered(answer, by_name).unwrap().left;
        assert_eq!(left(&by_nodes, false), Some(vec!["a".into()]));
        assert_eq!(left(&by_nodes, true), Some(vec!["a".into()]));
        assert_eq!(left(&answer, false), None);
        assert_eq!(left(&Value::Null, true), None);
        assert_eq!(
            read_filtered(&json!({"Error": "no"}), true).unwrap_err(),
            "no"
        );
        for wrong in [
            json!([]),
            json!({"NodeNames": 1}),
            json!({"FailedNodes": {"a": 1}}),
        ] {
            assert!(
                read_filtered(&wrong, true)
                    .unwrap_err()
                    .starts_with("json: cannot unmarshal"),
                "{wrong}"
            );
        }
        assert_eq!(
            read_priorities(&json!([{"Host": "a", "Score": 7}, {"host": "b"}])).unwrap(),
            [("a".into(), 7), ("b".into(), 0)]
        );
        assert_eq!(
            read_priorities(&json!([{"Host": "a", "Score": 1.5}])).unwrap_err(),
            "json: cannot unmarshal number into Go value of type int64"
        );
        assert!(read_priorities(&json!({})).is_err());
        assert_eq!(read_bound(&json!({})), Ok(()));
        assert_eq!(read_bound(&json!({"error": "taken"})), Err("taken".into()));
        let answer = json!({"NodeNameToMetaVictims": {"n": {"Pods": [{"UID": "u"}]}, "m": null}});
        let victims = read_victims(&answer).unwrap();
        assert_eq!(victims["n"].uids, ["u"]);
        assert_eq!(victims["m"], Victims::default());
    }
}

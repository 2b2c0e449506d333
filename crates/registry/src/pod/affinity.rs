//! Validation of where a pod may run: tolerations, affinity, spreading.

use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

/// The effects of taints.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// What is wrong with a taint effect.
pub(crate) fn check_effect(
    effect: &str,
    path: &FieldPath,
    required: bool,
    findings: &mut Findings,
) {
    if effect.is_empty() && required {
        findings.required(path, "");
    } else {
        findings.one_of(path, effect, &EFFECTS, false);
    }
}

/// What is wrong with tolerations.
pub(crate) fn check_tolerations(tolerations: &[Value], path: &FieldPath, findings: &mut Findings) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let at = path.index(index);
        let (key, operator) = (
            tree::text(toleration, "key"),
            tree::text(toleration, "operator"),
        );
        let (value, effect) = (
            tree::text(toleration, "value"),
            tree::text(toleration, "effect"),
        );
        if !key.is_empty() {
            findings.each(&at.child("key"), key, meta::names::qualified_name(key));
        } else if operator != "Exists" {
            findings.invalid(
                &at.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if tree::int(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            findings.invalid(
                &at.child("effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator {
            "" | "Equal" => {
                let faults = meta::names::label_value(value);
                if !faults.is_empty() {
                    findings.invalid(&at.child("operator"), value, faults.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    findings.invalid(
                        &at.child("operator"),
                        toleration.clone(),
                        "value must be empty when `operator` is 'Exists'",
                    );
                }
            }
            other => findings.not_supported(&at.child("operator"), other, &["Equal", "Exists"]),
        }
        check_effect(effect, &at.child("effect"), false, findings);
    }
}

/// What is wrong with affinity.
pub(crate) fn check_affinity(affinity: &Value, path: &FieldPath, findings: &mut Findings) {
    if let Some(node) = tree::get(affinity, "nodeAffinity") {
        check_node_affinity(node, &path.child("nodeAffinity"), findings);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(terms) = tree::get(affinity, kind) else {
            continue;
        };
        let at = path.child(kind);
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (index, term) in tree::items(terms, required).iter().enumerate() {
            check_pod_term(term, &at.child(required).index(index), findings);
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (index, weighted) in tree::items(terms, preferred).iter().enumerate() {
            let at = at.child(preferred).index(index);
            check_weight(weighted, &at, findings);
            let term = tree::get(weighted, "podAffinityTerm").unwrap_or(&Value::Null);
            check_pod_term(term, &at.child("podAffinityTerm"), findings);
        }
    }
}

fn check_weight(weighted: &Value, path: &FieldPath, findings: &mut Findings) {
    let weight = tree::int(weighted, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        findings.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn check_pod_term(term: &Value, path: &FieldPath, findings: &mut Findings) {
    for selector in ["labelSelector", "namespaceSelector"] {
        if let Some(selected) = tree::get(term, selector) {
            findings.label_selector(&path.child(selector), selected);
        }
    }
    for (index, namespace) in tree::items(term, "namespaces").iter().enumerate() {
        let namespace = namespace.as_str().unwrap_or("");
        findings.each(
            &path.child("namespaces").index(index),
            namespace,
            meta::names::dns1123_label(namespace),
        );
    }
    check_topology_key(term, path, findings);
}

fn check_topology_key(holder: &Value, path: &FieldPath, findings: &mut Findings) {
    let key = tree::text(holder, "topologyKey");
    if key.is_empty() {
        findings.required(&path.child("topologyKey"), "can not be empty");
    } else {
        findings.each(
            &path.child("topologyKey"),
            key,
            meta::names::qualified_name(key),
        );
    }
}

fn check_node_affinity(node: &Value, path: &FieldPath, findings: &mut Findings) {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    if let Some(selector) = tree::get(node, required) {
        check_node_selector(selector, &path.child(required), findings);
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    for (index, weighted) in tree::items(node, preferred).iter().enumerate() {
        let at = path.child(preferred).index(index);
        check_weight(weighted, &at, findings);
        check_node_term(
            tree::get(weighted, "preference").unwrap_or(&Value::Null),
            &at.child("preference"),
            findings,
        );
    }
}

/// What is wrong with a NodeSelector.
pub(crate) fn check_node_selector(selector: &Value, path: &FieldPath, findings: &mut Findings) {
    let terms = tree::items(selector, "nodeSelectorTerms");
    let at = path.child("nodeSelectorTerms");
    if terms.is_empty() {
        findings.required(&at, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        check_node_term(term, &at.index(index), findings);
    }
}

fn check_node_term(term: &Value, path: &FieldPath, findings: &mut Findings) {
    for (index, expression) in tree::items(term, "matchExpressions").iter().enumerate() {
        let at = path.child("matchExpressions").index(index);
        let values = tree::items(expression, "values");
        match tree::text(expression, "operator") {
            "In" | "NotIn" => {
                if values.is_empty() {
                    findings.required(
                        &at.child("values"),
                        "must be specified when `operator` is 'In' or 'NotIn'",
                    );
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    findings.forbidden(
                        &at.child("values"),
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    );
                }
            }
            "Gt" | "Lt" => {
                if values.len() != 1 {
                    findings.required(
                        &at.child("values"),
                        "must be specified single value when `operator` is 'Lt' or 'Gt'",
                    );
                }
            }
            other => findings.invalid(
                &at.child("operator"),
                other,
                "not a valid selector operator",
            ),
        }
        let key = tree::text(expression, "key");
        findings.each(&at.child("key"), key, meta::names::qualified_name(key));
    }
    for (index, field) in tree::items(term, "matchFields").iter().enumerate() {
        let at = path.child("matchFields").index(index);
        let operator = tree::text(field, "operator");
        if !matches!(operator, "In" | "NotIn") {
            findings.invalid(
                &at.child("operator"),
                operator,
                "not a valid selector operator",
            );
        } else if tree::items(field, "values").len() != 1 {
            findings.required(
                &at.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            );
        }
        if tree::text(field, "key") != "metadata.name" {
            findings.invalid(
                &at.child("key"),
                tree::text(field, "key"),
                "not a valid field selector key",
            );
        }
    }
}

/// What is wrong with topology spread constraints.
pub(crate) fn check_spread(constraints: &[Value], path: &FieldPath, findings: &mut Findings) {
    let mut seen = Vec::new();
    for (index, constraint) in constraints.iter().enumerate() {
        let at = path.index(index);
        let skew = tree::int(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            findings.invalid(&at.child("maxSkew"), skew, "must be greater than zero");
        }
        check_topology_key(constraint, &at, findings);
        let action = tree::text(constraint, "whenUnsatisfiable");
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            findings.not_supported(
                &at.child("whenUnsatisfiable"),
                action,
                &["DoNotSchedule", "ScheduleAnyway"],
            );
        }
        let pair = (tree::text(constraint, "topologyKey"), action);
        if seen.contains(&pair) {
            findings.duplicate(
                &at.child("{topologyKey, whenUnsatisfiable}"),
                format!("{{{}, {}}}", pair.0, pair.1),
            );
        }
        seen.push(pair);
        if let Some(domains) = tree::int(constraint, "minDomains") {
            if domains <= 0 {
                findings.invalid(
                    &at.child("minDomains"),
                    domains,
                    "must be greater than zero",
                );
            }
            if action != "DoNotSchedule" {
                findings.invalid(
                    &at.child("minDomains"),
                    domains,
                    format!(
                        "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                    ),
                );
            }
        }
        if let Some(selector) = tree::get(constraint, "labelSelector") {
            findings.label_selector(&at.child("labelSelector"), selector);
        }
    }
}

//! ReplicationControllers: the oldest workload, with a plain map for a selector.

use super::{PLAIN, Room, workload};
use crate::findings::Findings;
use crate::pod::defaults::template;
use crate::tree;
use meta::{FieldPath, Value};
use value::json;

pub(super) const ROOM: Room = Room {
    defaults,
    check,
    ..PLAIN
};

fn defaults(controller: &mut Value) {
    tree::ensure(controller, "spec");
    template(controller, "spec.template");
    if let Some(labels) = tree::map(controller, "spec.template.metadata.labels").cloned() {
        for field in ["spec.selector", "metadata.labels"] {
            if tree::map(controller, field).is_none_or(|present| present.is_empty()) {
                tree::put(controller, field, labels.clone());
            }
        }
    }
    tree::fill(controller, "spec.replicas", 1);
}

fn check(controller: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    workload::check_counts(controller, &["minReadySeconds"], findings);
    match tree::get(controller, "spec.selector")
        .filter(|selector| selector.as_object().is_some_and(|map| !map.is_empty()))
    {
        None => findings.required(&spec.child("selector"), ""),
        Some(selector) => {
            workload::check_labels_match(controller, &json!({"matchLabels": selector}), findings)
        }
    }
    workload::check_counts(controller, &["replicas"], findings);
    if tree::get(controller, "spec.template").is_none() {
        findings.required(&spec.child("template"), "");
    } else {
        workload::check_template(controller, findings);
    }
}

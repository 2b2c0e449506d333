//! PodDisruptionBudgets.

use super::workload;
use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

pub(super) const ROOM: Room = Room { check, ..PLAIN };

fn check(budget: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    if tree::get(budget, "spec.minAvailable").is_some()
        && tree::get(budget, "spec.maxUnavailable").is_some()
    {
        findings.invalid(
            &spec,
            tree::get(budget, "spec").cloned().unwrap_or(Value::Null),
            "minAvailable and maxUnavailable cannot be both set",
        );
    }
    for field in ["minAvailable", "maxUnavailable"] {
        workload::check_share(
            budget,
            &format!("spec.{field}"),
            &spec.child(field),
            true,
            findings,
        );
    }
    if let Some(selector) = tree::get(budget, "spec.selector") {
        findings.label_selector(&spec.child("selector"), selector);
    }
    findings.one_of(
        &spec.child("unhealthyPodEvictionPolicy"),
        tree::text(budget, "spec.unhealthyPodEvictionPolicy"),
        &["AlwaysAllow", "IfHealthyBudget"],
        false,
    );
}

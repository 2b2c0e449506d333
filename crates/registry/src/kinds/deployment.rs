//! Deployments.

use super::{PLAIN, Room, workload};
use crate::findings::Findings;
use crate::pod::defaults::template;
use crate::tree;
use meta::{FieldPath, Value};

pub(super) const ROOM: Room = Room {
    defaults,
    prepare_update: |new, old, subresource, _| {
        if subresource == Some("status") {
            tree::carry(new, old, "metadata.labels");
        }
    },
    check,
    check_update: |new, old, _, findings| workload::check_selector_kept(new, old, findings),
    ..PLAIN
};

fn defaults(deployment: &mut Value) {
    tree::ensure(deployment, "spec");
    template(deployment, "spec.template");
    tree::fill(deployment, "spec.replicas", 1);
    tree::fill(deployment, "spec.strategy.type", "RollingUpdate");
    if tree::text(deployment, "spec.strategy.type") == "RollingUpdate" {
        tree::fill(
            deployment,
            "spec.strategy.rollingUpdate.maxUnavailable",
            "25%",
        );
        tree::fill(deployment, "spec.strategy.rollingUpdate.maxSurge", "25%");
    }
    tree::fill(deployment, "spec.revisionHistoryLimit", 10);
    tree::fill(deployment, "spec.progressDeadlineSeconds", 600);
}

fn check(deployment: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    workload::check_counts(deployment, &["replicas"], findings);
    workload::check_selector(deployment, "deployment", findings);
    workload::check_template(deployment, findings);
    check_strategy(deployment, &spec.child("strategy"), findings);
    workload::check_counts(
        deployment,
        &["minReadySeconds", "revisionHistoryLimit"],
        findings,
    );
    if let Some(deadline) = tree::int(deployment, "spec.progressDeadlineSeconds") {
        let path = spec.child("progressDeadlineSeconds");
        findings.non_negative(&path, Some(deadline));
        if deadline <= tree::int(deployment, "spec.minReadySeconds").unwrap_or(0) {
            findings.invalid(&path, deadline, "must be greater than minReadySeconds");
        }
    }
}

fn check_strategy(deployment: &Value, path: &FieldPath, findings: &mut Findings) {
    let rolling = path.child("rollingUpdate");
    match tree::text(deployment, "spec.strategy.type") {
        "Recreate" => {
            if tree::get(deployment, "spec.strategy.rollingUpdate").is_some() {
                findings.forbidden(
                    &rolling,
                    "may not be specified when strategy `type` is 'Recreate'",
                );
            }
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (
                "spec.strategy.rollingUpdate.maxUnavailable",
                "spec.strategy.rollingUpdate.maxSurge",
            );
            workload::check_share(
                deployment,
                unavailable,
                &rolling.child("maxUnavailable"),
                true,
                findings,
            );
            workload::check_share(
                deployment,
                surge,
                &rolling.child("maxSurge"),
                false,
                findings,
            );
            if workload::is_zero_share(deployment, unavailable)
                && workload::is_zero_share(deployment, surge)
            {
                findings.invalid(
                    &rolling.child("maxUnavailable"),
                    tree::get(deployment, unavailable)
                        .cloned()
                        .unwrap_or(Value::Null),
                    "may not be 0 when `maxSurge` is 0",
                );
            }
        }
        other => findings.not_supported(path, other, &["Recreate", "RollingUpdate"]),
    }
}

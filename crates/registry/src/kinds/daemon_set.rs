//! DaemonSets.

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

fn defaults(set: &mut Value) {
    tree::ensure(set, "spec");
    template(set, "spec.template");
    tree::fill(set, "spec.updateStrategy.type", "RollingUpdate");
    if tree::text(set, "spec.updateStrategy.type") == "RollingUpdate" {
        tree::fill(set, "spec.updateStrategy.rollingUpdate.maxUnavailable", 1);
        tree::fill(set, "spec.updateStrategy.rollingUpdate.maxSurge", 0);
    }
    tree::fill(set, "spec.revisionHistoryLimit", 10);
}

fn check(set: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    workload::check_selector(set, "daemonset", findings);
    workload::check_template(set, findings);
    workload::check_counts(set, &["minReadySeconds", "revisionHistoryLimit"], findings);
    let path = spec.child("updateStrategy");
    match tree::text(set, "spec.updateStrategy.type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = path.child("rollingUpdate");
            let (unavailable, surge) = (
                "spec.updateStrategy.rollingUpdate.maxUnavailable",
                "spec.updateStrategy.rollingUpdate.maxSurge",
            );
            workload::check_share(
                set,
                unavailable,
                &rolling.child("maxUnavailable"),
                true,
                findings,
            );
            workload::check_share(set, surge, &rolling.child("maxSurge"), true, findings);
            match (
                workload::is_zero_share(set, unavailable),
                workload::is_zero_share(set, surge),
            ) {
                (false, false) => findings.invalid(
                    &rolling.child("maxSurge"),
                    tree::get(set, surge).cloned().unwrap_or(Value::Null),
                    "may not be set when maxUnavailable is non-zero",
                ),
                (true, true) => findings.required(
                    &rolling.child("maxUnavailable"),
                    "cannot be 0 when maxSurge is 0",
                ),
                _ => {}
            }
        }
        other => findings.not_supported(&path.child("type"), other, &["RollingUpdate", "OnDelete"]),
    }
}

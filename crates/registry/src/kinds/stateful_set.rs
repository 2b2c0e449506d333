//! StatefulSets.

use super::{PLAIN, Room, workload};
use crate::findings::Findings;
use crate::metadata;
use crate::pod::defaults::template;
use crate::tree;
use meta::{FieldPath, Value};

/// What of the spec an update may change.
const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub(super) const ROOM: Room = Room {
    defaults,
    prepare_update: |new, old, subresource, _| {
        if subresource == Some("status") {
            tree::carry(new, old, "metadata.labels");
        }
    },
    check,
    check_update,
    ..PLAIN
};

fn defaults(set: &mut Value) {
    tree::ensure(set, "spec");
    template(set, "spec.template");
    tree::fill(set, "spec.podManagementPolicy", "OrderedReady");
    tree::fill(set, "spec.updateStrategy.type", "RollingUpdate");
    if tree::text(set, "spec.updateStrategy.type") == "RollingUpdate" {
        tree::fill(set, "spec.updateStrategy.rollingUpdate.partition", 0);
    }
    tree::fill(
        set,
        "spec.persistentVolumeClaimRetentionPolicy.whenDeleted",
        "Retain",
    );
    tree::fill(
        set,
        "spec.persistentVolumeClaimRetentionPolicy.whenScaled",
        "Retain",
    );
    tree::fill(set, "spec.replicas", 1);
    tree::fill(set, "spec.revisionHistoryLimit", 10);
    for claim in tree::items_mut(set, "spec.volumeClaimTemplates") {
        if claim.is_object() {
            tree::fill(claim, "spec.volumeMode", "Filesystem");
            tree::fill(claim, "status.phase", "Pending");
        }
    }
}

fn check(set: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    findings.one_of(
        &spec.child("podManagementPolicy"),
        tree::text(set, "spec.podManagementPolicy"),
        &["OrderedReady", "Parallel"],
        true,
    );
    let strategy = spec.child("updateStrategy");
    match tree::text(set, "spec.updateStrategy.type") {
        "OnDelete" => {
            if tree::get(set, "spec.updateStrategy.rollingUpdate").is_some() {
                findings.invalid(
                    &strategy.child("rollingUpdate"),
                    tree::get(set, "spec.updateStrategy.rollingUpdate")
                        .cloned()
                        .unwrap_or(Value::Null),
                    "only allowed for updateStrategy 'RollingUpdate'",
                );
            }
        }
        "RollingUpdate" => findings.non_negative(
            &strategy.child("rollingUpdate").child("partition"),
            tree::int(set, "spec.updateStrategy.rollingUpdate.partition"),
        ),
        other => findings.invalid(
            &strategy,
            tree::get(set, "spec.updateStrategy")
                .cloned()
                .unwrap_or(Value::Null),
            format!("must be 'RollingUpdate' or 'OnDelete', not '{other}'"),
        ),
    }
    workload::check_counts(
        set,
        &["replicas", "minReadySeconds", "revisionHistoryLimit"],
        findings,
    );
    workload::check_selector(set, "statefulset", findings);
    check_template(set, &spec.child("template"), findings);
    check_claims(set, &spec.child("volumeClaimTemplates"), findings);
}

/// Upstream leaves the pod's spec to the pods themselves: containers mount claims, which are no volumes of the template.
fn check_template(set: &Value, path: &FieldPath, findings: &mut Findings) {
    let template = tree::get(set, "spec.template").unwrap_or(&Value::Null);
    findings.labels(
        &path.child("labels"),
        tree::get(template, "metadata.labels"),
    );
    if let Some(annotations) = tree::map(template, "metadata.annotations") {
        metadata::check_annotations(annotations, &path.child("annotations"), findings);
    }
    workload::check_runs_forever(template, &path.child("spec"), findings);
}

/// The volumes of the template may be the claims of the set: those are mounted by the name of the claim.
fn check_claims(set: &Value, path: &FieldPath, findings: &mut Findings) {
    for (index, claim) in tree::items(set, "spec.volumeClaimTemplates")
        .iter()
        .enumerate()
    {
        let name = tree::text(claim, "metadata.name");
        if name.is_empty() {
            findings.required(&path.index(index).child("metadata").child("name"), "");
        }
    }
}

fn check_update(new: &Value, old: &Value, _: Option<&str>, findings: &mut Findings) {
    let mut kept = new.clone();
    for field in CHANGEABLE {
        tree::carry(&mut kept, old, &format!("spec.{field}"));
    }
    if !tree::same_at(&kept, old, "spec") {
        findings.forbidden(
            &FieldPath::new("spec"),
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

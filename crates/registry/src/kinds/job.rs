//! Jobs.

use super::{PLAIN, Room, workload};
use crate::context::Context;
use crate::findings::Findings;
use crate::pod;
use crate::tree;
use meta::{FieldPath, Value};

/// The label by which a Job finds its pods, and the names it had before.
const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const CONTROLLER_UID_OLD: &str = "controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const JOB_NAME_OLD: &str = "job-name";

/// Retries before a Job fails.
const BACKOFF_LIMIT: i64 = 6;
/// The most completions of a Job that counts its failures by index.
const INDEXED_COMPLETIONS_MAX: i64 = 100_000;

pub(super) const ROOM: Room = Room {
    defaults,
    prepare_create,
    check,
    check_update,
    ..PLAIN
};

fn defaults(job: &mut Value) {
    tree::ensure(job, "spec");
    pod::defaults::template(job, "spec.template");
    if tree::get(job, "spec.completions").is_none() && tree::get(job, "spec.parallelism").is_none()
    {
        tree::put(job, "spec.completions", 1);
    }
    tree::fill(job, "spec.parallelism", 1);
    let per_index = tree::get(job, "spec.backoffLimitPerIndex").is_some();
    tree::fill(
        job,
        "spec.backoffLimit",
        if per_index {
            i64::from(i32::MAX)
        } else {
            BACKOFF_LIMIT
        },
    );
    if tree::map(job, "metadata.labels").is_none_or(|labels| labels.is_empty())
        && let Some(labels) = tree::map(job, "spec.template.metadata.labels").cloned()
    {
        tree::put(job, "metadata.labels", labels);
    }
    tree::fill(job, "spec.completionMode", "NonIndexed");
    tree::fill(job, "spec.suspend", false);
    let replaced = if tree::get(job, "spec.podFailurePolicy").is_some() {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    tree::fill(job, "spec.podReplacementPolicy", replaced);
    tree::fill(job, "spec.manualSelector", false);
}

/// A Job selects its pods by its own UID unless told to leave the selector alone.
fn prepare_create(job: &mut Value, _: &mut Context) {
    if tree::flag(job, "spec.manualSelector") {
        return;
    }
    let uid = tree::text(job, "metadata.uid").to_owned();
    let name = tree::text(job, "metadata.name").to_owned();
    if let Some(labels) = tree::ensure(job, "spec.template.metadata.labels") {
        for (label, value) in [
            (CONTROLLER_UID, &uid),
            (CONTROLLER_UID_OLD, &uid),
            (JOB_NAME, &name),
            (JOB_NAME_OLD, &name),
        ] {
            labels
                .entry(label)
                .or_insert_with(|| Value::String(value.clone()));
        }
    }
    if let Some(wanted) = tree::ensure(job, "spec.selector").map(|selector| selector.is_empty()) {
        // A selector sent along stays, and validation says what is wrong with it.
        if wanted && let Some(labels) = tree::ensure(job, "spec.selector.matchLabels") {
            labels.insert(CONTROLLER_UID.to_owned(), Value::String(uid));
        }
    }
    // A Job without labels of its own takes those of its template, the generated ones included.
    defaults(job);
}

fn check(job: &Value, findings: &mut Findings) {
    let path = FieldPath::new("spec");
    match tree::get(job, "spec.selector") {
        None => findings.required(&path.child("selector"), ""),
        Some(selector) => {
            findings.label_selector(&path.child("selector"), selector);
            if !tree::flag(job, "spec.manualSelector") {
                check_generated(job, findings);
            }
            workload::check_labels_match(job, selector, findings);
        }
    }
    check_spec(
        tree::get(job, "spec").unwrap_or(&Value::Null),
        &path,
        findings,
    );
}

/// Without manualSelector, the labels and the selector must be the generated ones.
fn check_generated(job: &Value, findings: &mut Findings) {
    let uid = tree::text(job, "metadata.uid");
    let labels_path = FieldPath::new("spec")
        .child("template")
        .child("metadata")
        .child("labels");
    let labels = tree::map(job, "spec.template.metadata.labels");
    for (label, wanted) in [
        (CONTROLLER_UID, uid),
        (JOB_NAME, tree::text(job, "metadata.name")),
    ] {
        let present = labels
            .and_then(|labels| labels.get(label))
            .and_then(Value::as_str)
            .unwrap_or("");
        if present.is_empty() {
            findings.required(
                &labels_path.child(label),
                format!("must be '{wanted}'").as_str(),
            );
        } else if present != wanted {
            findings.invalid(
                &labels_path.child(label),
                present,
                format!("must be '{wanted}'"),
            );
        }
    }
    let selector = tree::get(job, "spec.selector").unwrap_or(&Value::Null);
    let expected = tree::map(selector, "matchLabels").is_some_and(|labels| {
        [CONTROLLER_UID, CONTROLLER_UID_OLD]
            .iter()
            .any(|label| labels.get(label).and_then(Value::as_str) == Some(uid))
    });
    if !expected {
        findings.invalid(
            &FieldPath::new("spec").child("selector"),
            selector.clone(),
            "`selector` not auto-generated",
        );
    }
}

/// What is wrong with a JobSpec, of a Job or in a CronJob.
pub(super) fn check_spec(spec: &Value, path: &FieldPath, findings: &mut Findings) {
    for field in [
        "parallelism",
        "completions",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        findings.non_negative(&path.child(field), tree::int(spec, field));
    }
    findings.non_negative(
        &path.child("activeDeadlineSeconds"),
        tree::int(spec, "activeDeadlineSeconds"),
    );
    match tree::text(spec, "completionMode") {
        "Indexed" => {
            let completions = tree::int(spec, "completions");
            if completions.is_none() {
                findings.required(
                    &path.child("completions"),
                    "when completion mode is Indexed",
                );
            }
            if let Some(parallelism) =
                tree::int(spec, "parallelism").filter(|count| *count > INDEXED_COMPLETIONS_MAX)
            {
                findings.invalid(
                    &path.child("parallelism"),
                    parallelism,
                    "must be less than or equal to 100000 when completion mode is Indexed",
                );
            }
        }
        "NonIndexed" | "" => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(count) = tree::int(spec, field) {
                    findings.invalid(
                        &path.child(field),
                        count,
                        "requires indexed completion mode",
                    );
                }
            }
        }
        other => findings.not_supported(
            &path.child("completionMode"),
            other,
            &["Indexed", "NonIndexed"],
        ),
    }
    let template = tree::get(spec, "template").unwrap_or(&Value::Null);
    let template_path = path.child("template");
    pod::spec::check_template(template, &template_path, findings);
    if tree::text(template, "spec.restartPolicy") == "Always" {
        findings.required(
            &template_path.child("spec").child("restartPolicy"),
            "valid values: \"OnFailure\", \"Never\"",
        );
    }
    if tree::get(spec, "podFailurePolicy").is_some()
        && tree::text(template, "spec.restartPolicy") != "Never"
    {
        findings.invalid(
            &template_path.child("spec").child("restartPolicy"),
            tree::text(template, "spec.restartPolicy"),
            "only \"Never\" is supported when podFailurePolicy is specified",
        );
    }
}

fn check_update(new: &Value, old: &Value, _: Option<&str>, findings: &mut Findings) {
    let path = FieldPath::new("spec");
    // An indexed Job may grow and shrink as long as completions and parallelism do so together.
    let elastic = tree::text(new, "spec.completionMode") == "Indexed"
        && tree::int(new, "spec.completions").is_some()
        && tree::int(new, "spec.completions") == tree::int(new, "spec.parallelism");
    if !elastic {
        findings.immutable(&path.child("completions"), new, old, "spec.completions");
    }
    for field in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        findings.immutable(&path.child(field), new, old, &format!("spec.{field}"));
    }
    let not_started =
        tree::flag(old, "spec.suspend") && tree::get(old, "status.startTime").is_none();
    if not_started {
        // A suspended Job that never ran may still be told where to run.
        let mut settled = new.clone();
        for field in [
            "metadata.annotations",
            "metadata.labels",
            "spec.affinity",
            "spec.nodeSelector",
            "spec.tolerations",
            "spec.schedulingGates",
        ] {
            tree::carry(&mut settled, old, &format!("spec.template.{field}"));
        }
        findings.immutable(&path.child("template"), &settled, old, "spec.template");
    } else {
        findings.immutable(&path.child("template"), new, old, "spec.template");
    }
}

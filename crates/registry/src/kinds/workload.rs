//! What the kinds that own pods through a template share: selector, template, replicas.
//!
//! It does not know any one of those kinds.

use crate::findings::Findings;
use crate::pod;
use crate::tree;
use meta::{FieldPath, LabelSelector, Value};

/// A selector must be there, select something, and select the template's own labels.
pub(crate) fn check_selector(obj: &Value, kind_word: &str, findings: &mut Findings) {
    let path = FieldPath::new("spec").child("selector");
    let Some(selector) = tree::get(obj, "spec.selector") else {
        findings.required(&path, "");
        return;
    };
    findings.label_selector(&path, selector);
    if is_empty_selector(selector) {
        findings.invalid(
            &path,
            selector.clone(),
            format!("empty selector is invalid for {kind_word}"),
        );
        return;
    }
    check_labels_match(obj, selector, findings);
}

/// The labels of the template must be what the selector looks for.
pub(crate) fn check_labels_match(obj: &Value, selector: &Value, findings: &mut Findings) {
    let labels = tree::get(obj, "spec.template.metadata.labels")
        .cloned()
        .unwrap_or(Value::Null);
    let Ok(parsed) = LabelSelector::from_object(selector) else {
        return;
    };
    if !parsed.matches(&labels) {
        let path = FieldPath::new("spec")
            .child("template")
            .child("metadata")
            .child("labels");
        findings.invalid(&path, labels, "`selector` does not match template `labels`");
    }
}

/// Whether a metav1.LabelSelector has no requirement.
pub(crate) fn is_empty_selector(selector: &Value) -> bool {
    tree::map(selector, "matchLabels").is_none_or(|labels| labels.is_empty())
        && tree::items(selector, "matchExpressions").is_empty()
}

/// The template of a workload whose pods run until deleted.
pub(crate) fn check_template(obj: &Value, findings: &mut Findings) {
    let path = FieldPath::new("spec").child("template");
    let template = tree::get(obj, "spec.template").unwrap_or(&Value::Null);
    pod::spec::check_template(template, &path, findings);
    check_runs_forever(template, &path.child("spec"), findings);
}

/// What no pod of such a workload may ask for.
pub(crate) fn check_runs_forever(template: &Value, at: &FieldPath, findings: &mut Findings) {
    let policy = tree::text(template, "spec.restartPolicy");
    if !policy.is_empty() && policy != "Always" {
        findings.not_supported(&at.child("restartPolicy"), policy, &["Always"]);
    }
    if tree::get(template, "spec.activeDeadlineSeconds").is_some() {
        findings.forbidden(
            &at.child("activeDeadlineSeconds"),
            "activeDeadlineSeconds in ReplicaSet is not Supported",
        );
    }
}

/// The numbers every scalable kind has.
pub(crate) fn check_counts(obj: &Value, fields: &[&str], findings: &mut Findings) {
    for field in fields {
        findings.non_negative(
            &FieldPath::new("spec").child(*field),
            tree::int(obj, &format!("spec.{field}")),
        );
    }
}

/// The selector is fixed at creation.
pub(crate) fn check_selector_kept(new: &Value, old: &Value, findings: &mut Findings) {
    findings.immutable(
        &FieldPath::new("spec").child("selector"),
        new,
        old,
        "spec.selector",
    );
}

/// A number of pods or a percentage of them, not negative, at most 100 % where asked.
pub(crate) fn check_share(
    obj: &Value,
    field: &str,
    path: &FieldPath,
    at_most_all: bool,
    findings: &mut Findings,
) {
    match tree::get(obj, field) {
        Some(Value::String(text)) => {
            let digits = text.strip_suffix('%').filter(|digits| {
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            });
            match digits {
                None => findings.invalid(
                    path,
                    text.as_str(),
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                ),
                Some(digits) if at_most_all && digits.parse::<u64>().map_or(true, |number| number > 100) => {
                    findings.invalid(path, text.as_str(), "must not be greater than 100%");
                }
                Some(_) => {}
            }
        }
        Some(number) => findings.non_negative(path, number.as_i64()),
        None => {}
    }
}

/// Whether a share is zero, by number or by percentage.
pub(crate) fn is_zero_share(obj: &Value, field: &str) -> bool {
    match tree::get(obj, field) {
        Some(Value::String(text)) => text.trim_end_matches('%').parse::<u64>() == Ok(0),
        Some(number) => number.as_i64() == Some(0),
        None => false,
    }
}

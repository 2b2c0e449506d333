//! Pods.

use super::Room;
use crate::context::Context;
use crate::findings::Findings;
use crate::pod::{defaults, qos, resources, spec};
use crate::tree;
use meta::{FieldPath, Value};

pub(super) const ROOM: Room = Room {
    defaults: fill,
    prepare_create: |pod, _| {
        let class = qos::class(pod);
        tree::put(pod, "status.phase", "Pending");
        tree::put(pod, "status.qosClass", class);
        if !tree::items(pod, "spec.schedulingGates").is_empty() {
            tree::put(
                pod,
                "status.conditions",
                vec![value::json!({
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates"
                })],
            );
        }
    },
    prepare_update,
    check,
    check_update,
};

fn fill(pod: &mut Value) {
    defaults::spec(pod);
    same_address_under_both_names(pod);
    for list in ["spec.containers", "spec.initContainers"] {
        for container in tree::items_mut(pod, list) {
            request_what_is_limited(container);
        }
    }
    tree::fill(pod, "spec.enableServiceLinks", true);
    if tree::flag(pod, "spec.hostNetwork") {
        for list in ["spec.containers", "spec.initContainers"] {
            for container in tree::items_mut(pod, list) {
                for port in tree::items_mut(container, "ports") {
                    if let Some(number) = tree::int(port, "containerPort") {
                        tree::fill_zero(port, "hostPort", number);
                    }
                }
            }
        }
    }
}

/// `podIP` is the first of `podIPs`: whoever writes one gets both, and where they differ the older field alone counts
/// (k8s: conversion of PodStatus).
fn same_address_under_both_names(pod: &mut Value) {
    let first = tree::items(pod, "status.podIPs").first();
    let first = first.map(|first| tree::text(first, "ip").to_owned());
    let single = tree::text(pod, "status.podIP").to_owned();
    match first {
        Some(first) if single.is_empty() => tree::put(pod, "status.podIP", first),
        Some(first) if first == single => {}
        _ if single.is_empty() => {}
        _ => tree::put(pod, "status.podIPs", vec![value::json!({"ip": single})]),
    }
}

/// A limit without a request is a request as well.
fn request_what_is_limited(container: &mut Value) {
    let Some(limits) = tree::map(container, "resources.limits").cloned() else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = tree::ensure(container, "resources.requests") {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}

fn prepare_update(new: &mut Value, old: &Value, subresource: Option<&str>, _: &mut Context) {
    match subresource {
        Some("status") => {
            tree::carry(new, old, "metadata.ownerReferences");
            tree::carry(new, old, "status.qosClass");
        }
        Some("ephemeralcontainers") => {
            let added = tree::get(new, "spec.ephemeralContainers").cloned();
            *new = old.clone();
            match added {
                Some(list) => tree::put(new, "spec.ephemeralContainers", list),
                None => {
                    tree::remove(new, "spec.ephemeralContainers");
                }
            }
        }
        Some("resize") => {
            let sent = std::mem::replace(new, old.clone());
            for list in ["spec.containers", "spec.initContainers"] {
                for container in tree::items_mut(new, list) {
                    let name = tree::text(container, "name").to_owned();
                    if let Some(other) = tree::items(&sent, list)
                        .iter()
                        .find(|other| tree::text(other, "name") == name)
                    {
                        tree::carry(container, other, "resources");
                        tree::carry(container, other, "resizePolicy");
                    }
                }
            }
        }
        _ => {}
    }
}

fn check(pod: &Value, findings: &mut Findings) {
    let path = FieldPath::new("spec");
    if let Some(mirror) = tree::map(pod, "metadata.annotations")
        .and_then(|annotations| annotations.get("kubernetes.io/config.mirror"))
        && tree::text(pod, "spec.nodeName").is_empty()
    {
        findings.invalid(
            &FieldPath::new("metadata")
                .child("annotations")
                .key("kubernetes.io/config.mirror"),
            mirror.clone(),
            "must set spec.nodeName if mirror pod annotation is set",
        );
    }
    spec::check(
        tree::get(pod, "spec").unwrap_or(&Value::Null),
        &path,
        findings,
    );
}

const UPDATE_TEXT: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

fn check_update(new: &Value, old: &Value, subresource: Option<&str>, findings: &mut Findings) {
    match subresource {
        None => check_spec_update(new, old, findings),
        Some("ephemeralcontainers") => check_ephemeral_update(new, old, findings),
        Some("resize") => check_resize(new, old, findings),
        Some("status") => crate::pod::extended_claim::check(new, findings),
        Some(_) => {}
    }
}

fn check_spec_update(new: &Value, old: &Value, findings: &mut Findings) {
    let path = FieldPath::new("spec");
    for list in ["containers", "initContainers"] {
        let field = format!("spec.{list}");
        if tree::items(new, &field).len() != tree::items(old, &field).len() {
            findings.forbidden(
                &path.child(list),
                "pod updates may not add or remove containers",
            );
            return;
        }
    }
    check_deadline(new, old, &path, findings);

    // What may change is made equal; whatever then still differs may not.
    let mut settled = new.clone();
    for list in ["spec.containers", "spec.initContainers"] {
        for (container, before) in tree::items_mut(&mut settled, list)
            .iter_mut()
            .zip(tree::items(old, list))
        {
            tree::carry(container, before, "image");
        }
    }
    for field in ["spec.activeDeadlineSeconds", "spec.tolerations"] {
        tree::carry(&mut settled, old, field);
    }
    if tree::int(old, "spec.terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0)
        && tree::int(new, "spec.terminationGracePeriodSeconds") == Some(1)
    {
        tree::carry(&mut settled, old, "spec.terminationGracePeriodSeconds");
    }
    let gates = tree::items(old, "spec.schedulingGates");
    if !gates.is_empty() {
        // A gated pod has not been looked at by a scheduler: gates may go, and where it runs may be narrowed.
        for gate in tree::items(new, "spec.schedulingGates")
            .iter()
            .filter(|gate| !gates.contains(gate))
        {
            findings.forbidden(
                &path.child("schedulingGates"),
                format!(
                    "only deletion is allowed, but found new scheduling gate '{}'",
                    tree::text(gate, "name")
                ),
            );
        }
        for field in ["spec.schedulingGates", "spec.nodeSelector", "spec.affinity"] {
            tree::carry(&mut settled, old, field);
        }
        if let Some(before) = tree::map(old, "spec.nodeSelector") {
            let kept = before.iter().all(|(key, value)| {
                tree::map(new, "spec.nodeSelector").and_then(|selector| selector.get(key))
                    == Some(value)
            });
            if !kept {
                findings.invalid(
                    &path.child("nodeSelector"),
                    tree::get(new, "spec.nodeSelector")
                        .cloned()
                        .unwrap_or(Value::Null),
                    "only additions to spec.nodeSelector are allowed (no mutations or deletions)",
                );
            }
        }
    }
    check_tolerations_kept(new, old, &path.child("tolerations"), findings);
    if !tree::same_at(&settled, old, "spec") {
        findings.forbidden(
            &path,
            format!("{UPDATE_TEXT}\nchanged: {}", changed_fields(&settled, old)),
        );
    }
}

fn changed_fields(new: &Value, old: &Value) -> String {
    let empty = tree::Map::new();
    let (new_spec, old_spec) = (
        tree::map(new, "spec").unwrap_or(&empty),
        tree::map(old, "spec").unwrap_or(&empty),
    );
    let mut fields: Vec<&value::Key> = new_spec.keys().chain(old_spec.keys()).collect();
    fields.sort();
    fields.dedup();
    let null = Value::Null;
    let changed: Vec<String> = fields
        .into_iter()
        .filter(|field| {
            !tree::alike(
                new_spec.get(field).unwrap_or(&null),
                old_spec.get(field).unwrap_or(&null),
            )
        })
        .map(|field| format!("spec.{field}"))
        .collect();
    changed.join(", ")
}

fn check_deadline(new: &Value, old: &Value, path: &FieldPath, findings: &mut Findings) {
    let at = path.child("activeDeadlineSeconds");
    match (
        tree::int(new, "spec.activeDeadlineSeconds"),
        tree::int(old, "spec.activeDeadlineSeconds"),
    ) {
        (Some(new), Some(old)) if new > old => {
            findings.invalid(&at, new, "must be less than or equal to previous value");
        }
        (None, Some(_)) => findings.invalid(
            &at,
            Value::Null,
            "must not update from a positive integer to nil value",
        ),
        _ => {}
    }
}

fn check_tolerations_kept(new: &Value, old: &Value, path: &FieldPath, findings: &mut Findings) {
    let bare = |toleration: &Value| {
        let mut bare = toleration.clone();
        tree::remove(&mut bare, "tolerationSeconds");
        bare
    };
    let present: Vec<Value> = tree::items(new, "spec.tolerations")
        .iter()
        .map(bare)
        .collect();
    let kept = tree::items(old, "spec.tolerations").iter().all(|before| {
        present
            .iter()
            .any(|toleration| tree::alike(toleration, &bare(before)))
    });
    if !kept {
        findings.forbidden(
            path,
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
}

fn check_ephemeral_update(new: &Value, old: &Value, findings: &mut Findings) {
    let path = FieldPath::new("spec").child("ephemeralContainers");
    let list = tree::items(new, "spec.ephemeralContainers");
    for before in tree::items(old, "spec.ephemeralContainers") {
        let name = tree::text(before, "name");
        match list
            .iter()
            .find(|container| tree::text(container, "name") == name)
        {
            None => findings.forbidden(
                &path,
                format!("existing ephemeral containers {name:?} may not be removed\n"),
            ),
            Some(container) if !tree::alike(container, before) => {
                findings.forbidden(
                    &path,
                    format!("existing ephemeral containers {name:?} may not be changed\n"),
                );
            }
            Some(_) => {}
        }
    }
    check(new, findings);
}

fn check_resize(new: &Value, old: &Value, findings: &mut Findings) {
    let path = FieldPath::new("spec");
    for list in ["containers", "initContainers"] {
        let field = format!("spec.{list}");
        for (index, (container, before)) in tree::items(new, &field)
            .iter()
            .zip(tree::items(old, &field))
            .enumerate()
        {
            if let Some(requirements) = tree::get(container, "resources") {
                resources::check(
                    requirements,
                    &path.child(list).index(index).child("resources"),
                    findings,
                );
            }
            let mut settled = container.clone();
            for resource in ["cpu", "memory"] {
                for kind in ["limits", "requests"] {
                    tree::carry(
                        &mut settled,
                        before,
                        &format!("resources.{kind}.{resource}"),
                    );
                }
            }
            if !tree::same_at(&settled, before, "resources") {
                findings.forbidden(&path, "only cpu and memory resources are mutable");
            }
        }
    }
    let class = qos::class(new);
    if class != qos::class(old) {
        findings.invalid(
            &path,
            class,
            "Pod QOS Class may not change as a result of resizing",
        );
    }
}

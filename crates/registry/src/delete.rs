//! Delete: at once, after a grace period, or when the finalizers are gone.
//!
//! It does not know dependents: the garbage collector acts on the finalizers written here.

use crate::context::Context;
use crate::metadata::{FOREGROUND_FINALIZER, ORPHAN_FINALIZER, group_resource};
use crate::strategy;
use crate::tree;
use crate::update::is_ready_to_go;
use meta::{ApiError, FieldError, FieldPath, Value};
use schema::Resource;

/// What becomes of the objects the deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They go later.
    Background,
    /// They go first.
    Foreground,
}

/// How to delete, from the request's DeleteOptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds a pod gets to end by itself.
    pub grace_period_seconds: Option<i64>,
    /// Only delete the object with this UID.
    pub uid: Option<String>,
    /// Only delete the object in this state.
    pub resource_version: Option<String>,
    /// What becomes of dependents.
    pub propagation: Option<Propagation>,
    /// The old way to say orphan or not.
    pub orphan_dependents: Option<bool>,
}

/// What a delete comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Deletion {
    /// Remove the object now.
    Remove,
    /// Store this: the object is now on its way out. It has no `metadata.resourceVersion`.
    Mark(Value),
    /// It is on its way out already.
    Unchanged,
}

impl DeleteOptions {
    /// Reads a meta/v1 DeleteOptions; null is the default.
    pub fn from_value(options: &Value) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let orphan_dependents = tree::get(options, "orphanDependents").and_then(Value::as_bool);
        let policy = tree::get(options, "propagationPolicy").and_then(Value::as_str);
        if orphan_dependents.is_some() && policy.is_some() {
            errors.push(FieldError::invalid(
                &FieldPath::new("propagationPolicy"),
                policy.unwrap_or(""),
                "orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        let propagation = match policy {
            None => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                errors.push(FieldError::not_supported(
                    &FieldPath::new("propagationPolicy"),
                    other,
                    &["Foreground", "Background", "Orphan", "nil"],
                ));
                None
            }
        };
        if !errors.is_empty() {
            return Err(ApiError::invalid(
                "meta.k8s.io",
                "DeleteOptions",
                "",
                errors,
            ));
        }
        let owned = |path| {
            tree::get(options, path)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        Ok(DeleteOptions {
            grace_period_seconds: tree::int(options, "gracePeriodSeconds"),
            uid: owned("preconditions.uid"),
            resource_version: owned("preconditions.resourceVersion"),
            propagation,
            orphan_dependents,
        })
    }
}

/// Decides what deleting the stored object (which must carry its resourceVersion) comes to.
pub fn prepare_delete(
    res: &Resource,
    old: &Value,
    options: &DeleteOptions,
    ctx: &mut Context,
) -> Result<Deletion, ApiError> {
    check_preconditions(res, old, options)?;
    let mut obj = old.clone();
    tree::remove(&mut obj, "metadata.resourceVersion");
    let before = obj.clone();

    if strategy::of(res).collected {
        set_propagation_finalizers(&mut obj, options);
    }
    if res.kind == "Namespace" && res.group.is_empty() {
        return Ok(delete_namespace(res, before, obj, ctx));
    }
    if res.kind == "Pod" && res.group.is_empty() {
        match grace(&mut obj, options, ctx) {
            Grace::Pending => return Ok(Deletion::Unchanged),
            Grace::Running => return Ok(Deletion::Mark(obj)),
            Grace::Over => {}
        }
    }
    if tree::items(&obj, "metadata.finalizers").is_empty() {
        return Ok(Deletion::Remove);
    }
    mark(&mut obj, ctx);
    Ok(if obj == before {
        Deletion::Unchanged
    } else {
        Deletion::Mark(obj)
    })
}

fn check_preconditions(
    res: &Resource,
    old: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let name = tree::text(old, "metadata.name");
    let uid = tree::text(old, "metadata.uid");
    if let Some(asked) = options.uid.as_deref().filter(|asked| *asked != uid) {
        let detail = format!(
            "the UID in the precondition ({asked}) does not match the UID in record ({uid}). \
             The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict(&group_resource(res), name, &detail));
    }
    let version = tree::text(old, "metadata.resourceVersion");
    if let Some(asked) = options
        .resource_version
        .as_deref()
        .filter(|asked| *asked != version)
    {
        let detail = format!(
            "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record ({version}). \
             The object might have been modified"
        );
        return Err(ApiError::conflict(&group_resource(res), name, &detail));
    }
    Ok(())
}

/// Puts the two garbage-collection finalizers as the options ask; unspecified leaves them as they are.
fn set_propagation_finalizers(obj: &mut Value, options: &DeleteOptions) {
    let wanted = match (options.orphan_dependents, options.propagation) {
        (Some(true), _) | (None, Some(Propagation::Orphan)) => Some(ORPHAN_FINALIZER),
        (None, Some(Propagation::Foreground)) => Some(FOREGROUND_FINALIZER),
        (Some(false), _) | (None, Some(Propagation::Background)) => None,
        (None, None) => return,
    };
    let present = tree::items(obj, "metadata.finalizers");
    let mut finalizers: Vec<Value> = present
        .iter()
        .filter(|finalizer| {
            !matches!(
                finalizer.as_str(),
                Some(ORPHAN_FINALIZER | FOREGROUND_FINALIZER)
            )
        })
        .cloned()
        .collect();
    if let Some(name) = wanted {
        finalizers.push(Value::from(name));
    }
    if finalizers.len() == present.len()
        && finalizers
            .iter()
            .all(|finalizer| present.contains(finalizer))
    {
        return;
    }
    if finalizers.is_empty() {
        tree::remove(obj, "metadata.finalizers");
    } else {
        tree::put(obj, "metadata.finalizers", finalizers);
    }
}

/// Marks an object that only finalizers hold back.
fn mark(obj: &mut Value, ctx: &Context) {
    if tree::get(obj, "metadata.deletionTimestamp").is_none() {
        bump_generation(obj);
        tree::put(obj, "metadata.deletionTimestamp", ctx.now_seconds_text());
    }
    if tree::get(obj, "metadata.deletionGracePeriodSeconds").is_none() {
        tree::put(obj, "metadata.deletionGracePeriodSeconds", 0);
    }
}

/// Deletion changes what controllers should do, so it counts as a new generation.
fn bump_generation(obj: &mut Value) {
    if let Some(generation) =
        tree::int(obj, "metadata.generation").filter(|generation| *generation > 0)
    {
        tree::put(obj, "metadata.generation", generation.saturating_add(1));
    }
}

/// Where a pod stands between the wish to delete it and its end.
enum Grace {
    /// It is ending already and this request changes nothing.
    Pending,
    /// It has been given time: keep it, marked.
    Running,
    /// Nothing to wait for.
    Over,
}

fn grace(pod: &mut Value, options: &DeleteOptions, ctx: &Context) -> Grace {
    if let Some(deadline) = tree::get(pod, "metadata.deletionTimestamp").and_then(Value::as_str) {
        let Some(given_seconds) = tree::int(pod, "metadata.deletionGracePeriodSeconds") else {
            return Grace::Over;
        };
        let deadline_micros = meta::time::parse(deadline).unwrap_or(ctx.now_micros);
        let asked_seconds = match options.grace_period_seconds {
            Some(asked) if asked < given_seconds => asked.max(0),
            _ => return Grace::Pending,
        };
        let shortened = deadline_micros.saturating_sub(
            given_seconds
                .saturating_sub(asked_seconds)
                .saturating_mul(1_000_000),
        );
        set_deadline(pod, shortened, asked_seconds);
        return if asked_seconds == 0 {
            Grace::Over
        } else {
            Grace::Running
        };
    }
    let mut seconds = options
        .grace_period_seconds
        .or_else(|| tree::int(pod, "spec.terminationGracePeriodSeconds"))
        .unwrap_or(0);
    if tree::text(pod, "spec.nodeName").is_empty()
        || matches!(tree::text(pod, "status.phase"), "Succeeded" | "Failed")
    {
        seconds = 0;
    }
    if seconds < 0 {
        seconds = 1;
    }
    bump_generation(pod);
    set_deadline(
        pod,
        ctx.now_micros
            .saturating_add(seconds.saturating_mul(1_000_000)),
        seconds,
    );
    if seconds == 0 {
        Grace::Over
    } else {
        Grace::Running
    }
}

fn set_deadline(pod: &mut Value, deadline_micros: i64, grace_seconds: i64) {
    // A grace of centuries must not leave the range of RFC 3339 years.
    const DEADLINE_MICROS_MAX: i64 = 253_402_300_799_000_000;
    let deadline_micros = deadline_micros.min(DEADLINE_MICROS_MAX);
    tree::put(
        pod,
        "metadata.deletionTimestamp",
        meta::time::format_seconds(deadline_micros),
    );
    tree::put(pod, "metadata.deletionGracePeriodSeconds", grace_seconds);
}

/// A namespace first becomes Terminating; it goes when both lists of finalizers are empty.
fn delete_namespace(
    res: &Resource,
    before: Value,
    mut namespace: Value,
    ctx: &Context,
) -> Deletion {
    if tree::get(&before, "metadata.deletionTimestamp").is_some() {
        return if is_ready_to_go(res, &before) {
            Deletion::Remove
        } else {
            Deletion::Unchanged
        };
    }
    tree::put(
        &mut namespace,
        "metadata.deletionTimestamp",
        ctx.now_seconds_text(),
    );
    tree::put(&mut namespace, "status.phase", "Terminating");
    if is_ready_to_go(res, &namespace) {
        Deletion::Remove
    } else {
        Deletion::Mark(namespace)
    }
}

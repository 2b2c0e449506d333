//! Update: from what is stored and what a client sent to what is stored next.
//!
//! It does not know about patches (the shell applies them first) nor retry: a stale resourceVersion is the caller's news.

use crate::context::Context;
use crate::create::{default_object, invalid, settle};
use crate::findings::Findings;
use crate::strategy::{self, Generation, Strategy};
use crate::{kinds, metadata, tree};
use meta::{ApiError, FieldError, FieldPath, Value};
use schema::Resource;
use value::Map;

/// What an update comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// Nothing would change: no write, no new resourceVersion, no event.
    Unchanged,
    /// Store this; it has no `metadata.resourceVersion`.
    Store(Value),
    /// The last thing that held a deleting object back is gone: remove it, its last state being this.
    Remove(Value),
}

/// Makes the next state from the stored one (which must carry its resourceVersion) and the one sent.
pub fn prepare_update(
    res: &Resource,
    subresource: Option<&str>,
    old: &Value,
    new: Value,
    ctx: &mut Context,
) -> Result<Update, ApiError> {
    let mut new = new;
    let strategy = strategy::of(res);
    let room = kinds::room(res);
    check_address(old, &mut new)?;
    check_versions(res, strategy, old, &new)?;

    tree::remove(&mut new, "metadata.resourceVersion");
    metadata::carry_over(&mut new, old);
    let mut base = old.clone();
    tree::remove(&mut base, "metadata.resourceVersion");
    metadata::drop_unsettable(&mut base);
    for object in [&mut base, &mut new] {
        tree::put(object, "apiVersion", res.api_version());
        tree::put(object, "kind", res.kind);
    }

    let only_status = matches!(subresource, Some("status" | "approval"));
    if only_status {
        set_aside(&mut new);
    }
    default_object(res, &mut new);
    keep_to_subresource(res, subresource, &base, &mut new);
    (room.prepare_update)(&mut new, &base, subresource, ctx);
    // The rest was settled when it was stored.
    let rest = only_status.then(|| set_aside(&mut new));
    let mut new = settle(res, new)?;
    if let (Some(rest), Value::Object(fields)) = (rest, &mut new) {
        fields.extend(rest);
    }
    count_generation(strategy, &base, &mut new);

    let mut findings = Findings::default();
    metadata::check_update(&new, &base, &mut findings);
    if subresource.is_none() {
        (room.check)(&new, &mut findings);
    }
    (room.check_update)(&new, &base, subresource, &mut findings);
    if !findings.is_empty() {
        return Err(invalid(res, &new, findings));
    }
    if is_ready_to_go(res, &new) {
        return Ok(Update::Remove(new));
    }
    if base == new {
        return Ok(Update::Unchanged);
    }
    Ok(Update::Store(new))
}

/// An update is about the object its URL names.
fn check_address(old: &Value, new: &mut Value) -> Result<(), ApiError> {
    if tree::ensure(new, "metadata").is_none() {
        return Err(ApiError::bad_request(
            "the object provided is unrecognized (must be an object with metadata)",
        ));
    }
    let (old_name, old_namespace) = (
        tree::text(old, "metadata.name"),
        tree::text(old, "metadata.namespace"),
    );
    let name = tree::text(new, "metadata.name");
    if name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({old_name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if name != old_name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({old_name})"
        )));
    }
    let namespace = tree::text(new, "metadata.namespace");
    if namespace.is_empty() || old_namespace.is_empty() {
        tree::carry(new, old, "metadata.namespace");
    } else if namespace != old_namespace {
        return Err(ApiError::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the URL ({old_namespace})"
        )));
    }
    Ok(())
}

/// The sender must have seen this very object, and this state of it if it says which.
fn check_versions(
    res: &Resource,
    strategy: Strategy,
    old: &Value,
    new: &Value,
) -> Result<(), ApiError> {
    let name = tree::text(old, "metadata.name");
    let uid = tree::text(new, "metadata.uid");
    if !uid.is_empty() && uid != tree::text(old, "metadata.uid") {
        return Err(metadata::uid_conflict(res, old, uid));
    }
    let version = tree::text(new, "metadata.resourceVersion");
    if version.is_empty() || version == "0" {
        if strategy.unconditional_update {
            return Ok(());
        }
        let fault = FieldError::invalid(
            &FieldPath::new("metadata").child("resourceVersion"),
            0,
            "must be specified for an update",
        );
        // Upstream names the resource here, where other 422s name the kind.
        return Err(ApiError::invalid(
            res.group,
            res.resource,
            name,
            vec![fault],
        ));
    }
    if version != tree::text(old, "metadata.resourceVersion") {
        return Err(ApiError::conflict(
            &metadata::group_resource(res),
            name,
            metadata::STALE,
        ));
    }
    Ok(())
}

/// The main resource cannot write the status, the status subresource nothing else.
fn keep_to_subresource(res: &Resource, subresource: Option<&str>, old: &Value, new: &mut Value) {
    match subresource {
        None => {
            if strategy::has_subresource(res, "status") {
                tree::carry(new, old, "status");
            }
        }
        Some("status" | "approval") => keep_only(new, old, &["metadata", "status"]),
        // Other subresources write part of the spec: their kind's room says which.
        Some(_) => keep_only(new, old, &["metadata", "spec"]),
    }
}

/// Takes everything but these fields from the old object.
fn keep_only(new: &mut Value, old: &Value, fields: &[&str]) {
    let (Value::Object(new), Value::Object(old)) = (new, old) else {
        return;
    };
    new.retain(|name, value| fields.contains(&name.as_str()) && !value.is_null());
    for (name, value) in old {
        if !fields.contains(&name.as_str()) {
            new.insert(name, value.clone());
        }
    }
}

/// Takes away what a status subresource cannot write.
fn set_aside(object: &mut Value) -> Map {
    let Value::Object(fields) = object else {
        return Map::new();
    };
    let (part, rest) = std::mem::take(fields).into_iter().partition(|(name, _)| {
        matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status")
    });
    *fields = part;
    rest
}

fn count_generation(strategy: Strategy, old: &Value, new: &mut Value) {
    let changed = match strategy.generation {
        Generation::None => false,
        Generation::Spec => tree::get(old, "spec") != tree::get(new, "spec"),
        Generation::Content => content_changed(old, new),
        Generation::ContentAndLabels => {
            content_changed(old, new) || !tree::same_at(old, new, "metadata.labels")
        }
    };
    if changed {
        let generation = tree::int(old, "metadata.generation")
            .unwrap_or(0)
            .saturating_add(1);
        tree::put(new, "metadata.generation", generation);
    }
}

fn content_changed(old: &Value, new: &Value) -> bool {
    let content = |object| {
        let fields = Value::as_object(object).into_iter().flatten();
        fields.filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status" | "apiVersion"))
    };
    old.is_object() != new.is_object() || !content(old).eq(content(new))
}

/// Whether nothing holds a deleting object back any more.
pub(crate) fn is_ready_to_go(res: &Resource, obj: &Value) -> bool {
    tree::get(obj, "metadata.deletionTimestamp").is_some()
        && tree::items(obj, "metadata.finalizers").is_empty()
        && tree::int(obj, "metadata.deletionGracePeriodSeconds").unwrap_or(0) == 0
        && (res.kind != "Namespace" || tree::items(obj, "spec.finalizers").is_empty())
}

//! Create: from what a client sent to what is stored.
//!
//! It does not know whether the name is free or the namespace exists: the store and the shell do.

use crate::context::Context;
use crate::findings::Findings;
use crate::strategy::{self, Generation, Strategy};
use crate::{kinds, metadata, tree};
use meta::{ApiError, Reason, Value};
use schema::Resource;

/// Fills in the defaults of a kind: first those written in code, then those declared in the schema. Idempotent.
pub fn default_object(res: &Resource, obj: &mut Value) {
    (kinds::room(res).defaults)(obj);
    schema::apply_declared_defaults(res.type_id, obj);
}

/// Makes the object to store from the object sent: metadata, strategy, defaults, validation.
/// The result has no `metadata.resourceVersion`: the store's revision is it.
pub fn prepare_create(
    res: &Resource,
    obj: Value,
    namespace: Option<&str>,
    ctx: &mut Context,
) -> Result<Value, ApiError> {
    let mut obj = obj;
    let strategy = strategy::of(res);
    let room = kinds::room(res);
    let resource_version = stamp(res, strategy, &mut obj, namespace, ctx)?;
    if strategy::has_subresource(res, "status") && !strategy.keeps_status_on_create {
        tree::remove(&mut obj, "status");
    }
    default_object(res, &mut obj);
    (room.prepare_create)(&mut obj, ctx);
    let obj = settle(res, obj)?;

    let mut findings = Findings::default();
    metadata::check(res, strategy, &obj, &mut findings);
    (room.check)(&obj, &mut findings);
    finish(res, obj, findings, resource_version.as_ref())
}

/// The same for an object that is nothing but its metadata: of those whose other parts were prepared before.
pub fn prepare_metadata(
    res: &Resource,
    metadata: Value,
    namespace: Option<&str>,
    ctx: &mut Context,
) -> Result<Value, ApiError> {
    let strategy = strategy::of(res);
    let mut obj = value::json!({"metadata": metadata});
    let resource_version = stamp(res, strategy, &mut obj, namespace, ctx)?;
    let obj = settle(res, obj)?;
    let mut findings = Findings::default();
    metadata::check(res, strategy, &obj, &mut findings);
    finish(res, obj, findings, resource_version.as_ref())
}

/// Writes what the server owns; gives the version that was sent, which none may be.
fn stamp(
    res: &Resource,
    strategy: Strategy,
    obj: &mut Value,
    namespace: Option<&str>,
    ctx: &mut Context,
) -> Result<Option<Value>, ApiError> {
    tree::put(obj, "apiVersion", res.api_version());
    tree::put(obj, "kind", res.kind);
    metadata::settle_namespace(res, obj, namespace)?;
    let resource_version = tree::remove(obj, "metadata.resourceVersion");
    metadata::stamp_new(obj, ctx);
    if strategy.generation != Generation::None {
        tree::put(obj, "metadata.generation", 1);
    }
    Ok(resource_version)
}

fn finish(
    res: &Resource,
    obj: Value,
    findings: Findings,
    sent_version: Option<&Value>,
) -> Result<Value, ApiError> {
    if !findings.is_empty() {
        return Err(invalid(res, &obj, findings));
    }
    if sent_version.is_some_and(|version| version.as_str().is_some_and(|text| !text.is_empty())) {
        return Err(ApiError::new(
            500,
            Reason::Unknown,
            "resourceVersion should not be set on objects to be created",
        ));
    }
    Ok(obj)
}

/// Brings an object into the canonical form that decoding what is stored gives, so that equal objects are equal trees;
/// whatever shape was sent, from here on it has the types of its kind.
pub(crate) fn settle(res: &Resource, obj: Value) -> Result<Value, ApiError> {
    schema::complete(res.type_id, obj)
        .map(|settled| settled.value)
        .map_err(|reason| ApiError::bad_request(reason.to_string()))
}

/// The 422 that lists everything found.
pub(crate) fn invalid(res: &Resource, obj: &Value, findings: Findings) -> ApiError {
    ApiError::invalid(
        res.group,
        res.kind,
        tree::text(obj, "metadata.name"),
        findings.into_errors(),
    )
}

//! Create: from what a client sent to what is stored.
//!
//! It does not know whether the name is free or the namespace exists: the store and the shell do.

use crate::context::Context;
use crate::findings::Findings;
use crate::strategy::{self, Generation};
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
    tree::put(&mut obj, "apiVersion", res.api_version());
    tree::put(&mut obj, "kind", res.kind);
    metadata::settle_namespace(res, &mut obj, namespace)?;
    let resource_version = tree::remove(&mut obj, "metadata.resourceVersion");
    metadata::stamp_new(&mut obj, ctx);
    if strategy::has_subresource(res, "status") && !strategy.keeps_status_on_create {
        tree::remove(&mut obj, "status");
    }
    if strategy.generation != Generation::None {
        tree::put(&mut obj, "metadata.generation", 1);
    }
    default_object(res, &mut obj);
    (room.prepare_create)(&mut obj, ctx);
    let obj = settle(res, obj)?;

    let mut findings = Findings::default();
    metadata::check(res, strategy, &obj, &mut findings);
    (room.check)(&obj, &mut findings);
    if !findings.is_empty() {
        return Err(invalid(res, &obj, findings));
    }
    if resource_version.is_some_and(|version| version.as_str().is_some_and(|text| !text.is_empty()))
    {
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

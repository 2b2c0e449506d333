//! What the tests share: a context without chance, and short ways to run a verb.

use meta::{ApiError, Value};
use registry::{Context, DeleteOptions, Deletion, Update};
use schema::Resource;
use value::json;

/// 2026-01-02T03:04:05Z.
pub const NOW_MICROS: i64 = 1_767_323_045_000_000;
pub const NOW: &str = "2026-01-02T03:04:05Z";
/// What a random source of zeroes makes.
pub const UID: &str = "00000000-0000-4000-8000-000000000000";

pub fn resource(api_version: &str, name: &str) -> &'static Resource {
    let (group, version) = meta::parse_api_version(api_version).expect("an apiVersion");
    schema::resource(group, version, name)
        .unwrap_or_else(|| panic!("no resource {name} in {api_version}"))
}

pub fn with_context<T>(run: impl FnOnce(&mut Context) -> T) -> T {
    let mut random = || 0;
    run(&mut Context {
        now_micros: NOW_MICROS,
        user: "tester",
        random: &mut random,
    })
}

pub fn create(res: &Resource, obj: Value) -> Result<Value, ApiError> {
    let namespace = res.namespaced.then_some("default");
    with_context(|ctx| registry::prepare_create(res, obj, namespace, ctx))
}

/// Created and stored: with a resourceVersion, as the store would hand it back.
pub fn stored(res: &Resource, obj: Value) -> Value {
    let mut created =
        create(res, obj).unwrap_or_else(|error| panic!("{}: {}", res.kind, error.message));
    created["metadata"]["resourceVersion"] = json!("7");
    created
}

pub fn update_sub(
    res: &Resource,
    subresource: Option<&str>,
    old: &Value,
    new: Value,
) -> Result<Update, ApiError> {
    with_context(|ctx| registry::prepare_update(res, subresource, old, new, ctx))
}

pub fn update(res: &Resource, old: &Value, new: Value) -> Result<Update, ApiError> {
    update_sub(res, None, old, new)
}

/// The object an update stores.
pub fn updated(res: &Resource, old: &Value, new: Value) -> Value {
    match update(res, old, new) {
        Ok(Update::Store(value)) => value,
        other => panic!("expected a write, got {other:?}"),
    }
}

/// The text of an update that is refused.
pub fn refused(res: &Resource, old: &Value, new: Value) -> String {
    match update(res, old, new) {
        Err(error) => error.message,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// The text of a create that is refused, without the "X is invalid: " in front.
pub fn faults(res: &Resource, obj: Value) -> String {
    match create(res, obj) {
        Err(error) => {
            let start = error
                .message
                .find(" is invalid: ")
                .map_or(0, |at| at + " is invalid: ".len());
            error.message[start..].to_owned()
        }
        Ok(value) => panic!("expected a refusal, got {value}"),
    }
}

pub fn delete(res: &Resource, old: &Value, options: &Value) -> Result<Deletion, ApiError> {
    let options = DeleteOptions::from_value(options)?;
    with_context(|ctx| registry::prepare_delete(res, old, &options, ctx))
}

/// `value` with the field at a dotted path set; numbers are list positions.
pub fn with(mut value: Value, path: &str, field: Value) -> Value {
    let pointer = format!("/{}", path.replace('.', "/"));
    match value.pointer_mut(&pointer) {
        Some(place) => *place = field,
        None => {
            let (parent, leaf) = pointer.rsplit_once('/').expect("a path");
            let holder = value
                .pointer_mut(parent)
                .unwrap_or_else(|| panic!("no {parent}"));
            holder
                .as_object_mut()
                .expect("an object")
                .insert(leaf.to_owned(), field);
        }
    }
    value
}

/// `value` without the field at a dotted path.
pub fn without(mut value: Value, path: &str) -> Value {
    let pointer = format!("/{}", path.replace('.', "/"));
    let (parent, leaf) = pointer.rsplit_once('/').expect("a path");
    let holder = value
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("no {parent}"));
    holder.as_object_mut().expect("an object").remove(leaf);
    value
}

//! PATCH documents: a stored object and a patch in one of its languages make the object to store.
//!
//! Knows nothing of who wins when two patches meet: the caller reads, asks here, and compares as it writes.

use json_patch::PatchOperation;
use meta::{ApiError, Value};
use rest::negotiate::PatchType;
use schema::TypeId;
use serde::Deserialize;
use value::Map;

use crate::body::{self, Expected, Sent};
use crate::state::Served;

/// Operations a JSON patch may have (k8s `maxJSONPatchOperations`).
const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;
/// Bytes that the copies of one JSON patch may add (k8s `AccumulatedCopySizeLimit`, as much as a request may hold).
const JSON_PATCH_COPIES_BYTES_MAX: usize = rest::http::REQUEST_BODY_BYTES_MAX;
/// Levels an object may have while a JSON patch works on it. Objects of the schema have about 20; what is deeper is
/// refused later anyway, and must not exhaust the stack before.
const JSON_PATCH_DEPTH_MAX: usize = 128;

/// Applies a patch to the stored object and reads the result as its kind.
pub fn patched(
    served: &Served,
    patch_type: PatchType,
    patch: &[u8],
    validation: schema::FieldValidation,
    old: &Value,
) -> Result<Sent, ApiError> {
    let expected = Expected {
        api_version: served.api_version(),
        kind: served.resource.kind,
        type_id: served.resource.type_id,
    };
    apply(patch_type, patch, &expected, validation, old)
}

/// The same for any kind, a Scale for one.
pub fn apply(
    patch_type: PatchType,
    patch: &[u8],
    expected: &Expected<'_>,
    validation: schema::FieldValidation,
    old: &Value,
) -> Result<Sent, ApiError> {
    let (tree, untouched) = match patch_type {
        PatchType::Json => (json_patch(patch, expected.type_id, old)?, Map::new()),
        PatchType::Merge => {
            let patch = document(patch)?;
            let (mut tree, untouched) = parted(old, &patch);
            schema::merge_patch(&mut tree, &patch);
            (tree, untouched)
        }
        PatchType::Strategic => {
            let patch = document(patch)?;
            let (tree, untouched) = parted(old, &patch);
            let merged = schema::strategic_merge(expected.type_id, tree, patch)
                .map_err(|error| ApiError::bad_request(error.to_string()))?;
            (merged, untouched)
        }
        PatchType::Apply => {
            return Err(ApiError::unsupported_media_type(
                "server-side apply (application/apply-patch+yaml) is not served by this release of Megaplane: use \
                 client-side apply, or one of application/json-patch+json, application/merge-patch+json, \
                 application/strategic-merge-patch+json",
            ));
        }
    };
    let decoded = schema::complete(expected.type_id, tree).map_err(|error| {
        ApiError::bad_request(format!("error when converting the patched object: {error}"))
    })?;
    let mut sent = body::validated(decoded, expected, validation)?;
    if let Value::Object(fields) = &mut sent.object {
        fields.extend(untouched);
    }
    Ok(sent)
}

/// The stored object as far as a patch names its fields, and the fields it does not name: they are as they were when
/// they were stored, and need no second look. Directives (`$patch`, `$retainKeys`) may mean any field.
fn parted(old: &Value, patch: &Value) -> (Value, Map) {
    let (mut named, mut others) = (Map::new(), Map::new());
    if let (Value::Object(old), Value::Object(patch)) = (old, patch) {
        let any = patch.keys().any(|name| name.starts_with('$'));
        for (name, value) in old {
            let part = if any || patch.contains_key(name) {
                &mut named
            } else {
                &mut others
            };
            part.insert(name, value.clone());
        }
    }
    (Value::Object(named), others)
}

fn document(patch: &[u8]) -> Result<Value, ApiError> {
    let document = schema::parse_json(patch).map_err(|error| undecodable(&error))?;
    if document.is_object() {
        Ok(document)
    } else {
        Err(undecodable(&"the patch is not an object"))
    }
}

fn undecodable(why: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("error decoding patch: {why}"))
}

fn json_patch(patch: &[u8], type_id: TypeId, old: &Value) -> Result<Value, ApiError> {
    let patch = operations(patch)?;
    if patch.len() > JSON_PATCH_OPERATIONS_MAX {
        return Err(ApiError::request_too_large(format!(
            "The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}, got {}",
            patch.len()
        )));
    }
    // Paths of a JSON patch mean the JSON that clients see, zero values included.
    let mut tree = schema::as_written(type_id, old);
    for field in ["apiVersion", "kind"] {
        tree[field] = old[field].clone();
    }
    // The library works on serde_json's values.
    let mut tree = serde_json::to_value(tree).map_err(|error| undecodable(&error))?;
    let mut copied_bytes = 0usize;
    let mut depth = depth_of(&tree);
    for operation in &patch {
        // Copies double the tree and moves deepen it: how much is known before it is done.
        let levels = operation.path().as_str().matches('/').count();
        match operation {
            PatchOperation::Copy(json_patch::CopyOperation { from, .. })
            | PatchOperation::Move(json_patch::MoveOperation { from, .. }) => {
                depth += levels.saturating_sub(from.as_str().matches('/').count());
            }
            PatchOperation::Add(json_patch::AddOperation { value, .. })
            | PatchOperation::Replace(json_patch::ReplaceOperation { value, .. }) => {
                depth = depth.max(levels + depth_of(value));
            }
            PatchOperation::Remove(_) | PatchOperation::Test(_) => {}
        }
        if let PatchOperation::Copy(copy) = operation
            && let Some(source) = tree.pointer(copy.from.as_str())
        {
            copied_bytes = copied_bytes.saturating_add(source.to_string().len());
        }
        if copied_bytes > JSON_PATCH_COPIES_BYTES_MAX {
            return Err(ApiError::request_too_large(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {copied_bytes}, exceeding the \
                 limit {JSON_PATCH_COPIES_BYTES_MAX}"
            )));
        }
        if depth > JSON_PATCH_DEPTH_MAX {
            return Err(ApiError::bad_request(format!(
                "error decoding patch: the patched object is nested deeper than {JSON_PATCH_DEPTH_MAX} levels"
            )));
        }
        json_patch::patch(&mut tree, std::slice::from_ref(operation))
            .map_err(|error| refused(&error))?;
    }
    Value::deserialize(tree).map_err(|error| undecodable(&error))
}

/// The library would also take a list of what an operation is made of for the operation.
fn operations(patch: &[u8]) -> Result<Vec<PatchOperation>, ApiError> {
    let all: Vec<serde_json::Value> =
        serde_json::from_slice(patch).map_err(|error| undecodable(&error))?;
    let read = |operation: serde_json::Value| {
        let what = match &operation {
            serde_json::Value::Object(_) => {
                return PatchOperation::deserialize(operation).map_err(|error| undecodable(&error));
            }
            serde_json::Value::Array(_) => "array",
            serde_json::Value::String(_) => "string",
            serde_json::Value::Number(_) => "number",
            serde_json::Value::Bool(_) => "bool",
            serde_json::Value::Null => "null",
        };
        let text =
            format!("json: cannot unmarshal {what} into Go value of type jsonpatch.Operation");
        Err(undecodable(&text))
    };
    all.into_iter().map(read).collect()
}

/// 422: the patch is a patch, but not for this object (k8s answers a failed `test` so, for one).
fn refused(error: &json_patch::PatchError) -> ApiError {
    ApiError::new(
        422,
        meta::Reason::Invalid,
        format!("the server rejected our request due to an error in our request: {error}"),
    )
}

/// Levels of a tree. Recursion is safe: every tree that gets here is bounded.
fn depth_of(tree: &serde_json::Value) -> usize {
    1 + match tree {
        serde_json::Value::Array(items) => items.iter().map(depth_of).max().unwrap_or(0),
        serde_json::Value::Object(fields) => fields.values().map(depth_of).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn patched(patch: &Value) -> Result<Value, ApiError> {
        let type_id = schema::kind_type("v1", "ConfigMap").unwrap();
        let expected = Expected {
            api_version: "v1",
            kind: "ConfigMap",
            type_id,
        };
        let old = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}});
        let validation = schema::FieldValidation::Ignore;
        apply(
            PatchType::Json,
            patch.to_string().as_bytes(),
            &expected,
            validation,
            &old,
        )
        .map(|sent| sent.object)
    }

    #[test]
    fn operations_are_done_in_order_or_not_at_all() {
        let changed = patched(&json!([
            {"op": "test", "path": "/data/a", "value": "1"},
            {"op": "copy", "from": "/data/a", "path": "/data/b"},
            {"op": "replace", "path": "/data/a", "value": "2"},
        ]));
        assert_eq!(changed.unwrap()["data"], json!({"a": "2", "b": "1"}));
        let error = patched(&json!([{"op": "test", "path": "/data/a", "value": "9"}])).unwrap_err();
        assert_eq!((error.code, error.reason), (422, meta::Reason::Invalid));
        assert_eq!(patched(&json!({"op": "test"})).unwrap_err().code, 400);
        // An operation is an object, not a list of what it would hold.
        for list in [
            json!([["remove", "/data/a"]]),
            json!([["remove", {"path": "/data/a"}]]),
        ] {
            assert_eq!(patched(&list).unwrap_err().code, 400, "{list}");
        }
    }

    #[test]
    fn copies_that_double_the_object_are_refused_before_they_are_made() {
        let double = |index: usize| json!({"op": "copy", "from": "/data", "path": format!("/data/x{index}")});
        let bomb: Vec<Value> = (0..100).map(double).collect();
        assert_eq!(patched(&bomb.into()).unwrap_err().code, 413);
        let many = vec![json!({"op": "remove", "path": "/data/a"}); JSON_PATCH_OPERATIONS_MAX + 1];
        assert_eq!(patched(&many.into()).unwrap_err().code, 413);
    }

    #[test]
    fn moves_that_nest_the_object_are_refused_before_the_stack_ends() {
        let deeper = |index: usize| {
            let (from, to) = if index.is_multiple_of(2) {
                ("/s", "/t")
            } else {
                ("/t", "/s")
            };
            [
                json!({"op": "add", "path": to, "value": {}}),
                json!({"op": "move", "from": from, "path": format!("{to}/n")}),
            ]
        };
        let mut nest = vec![json!({"op": "add", "path": "/s", "value": {}})];
        nest.extend((0..4000).flat_map(deeper));
        let error = patched(&nest.into()).unwrap_err();
        assert_eq!(error.code, 400);
        assert!(
            error.message.contains("nested deeper than 128 levels"),
            "{}",
            error.message
        );
    }
}

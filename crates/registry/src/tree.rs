//! Small steps over an object's working tree: reading and filling fields by dotted path, tolerant of any shape.
//!
//! It does not know any kind; a path that meets a value of the wrong type reads as unset and is never filled.

use meta::Value;
use value::Key;

/// A JSON object.
pub(crate) type Map = value::Map;

/// The value at a dotted path; null counts as unset.
pub(crate) fn get<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    let mut at = tree;
    for step in path.split('.') {
        at = at.as_object()?.get(step)?;
    }
    if at.is_null() { None } else { Some(at) }
}

/// The text at a path, empty when unset.
pub(crate) fn text<'a>(tree: &'a Value, path: &str) -> &'a str {
    get(tree, path).and_then(Value::as_str).unwrap_or("")
}

/// The whole number at a path.
pub(crate) fn int(tree: &Value, path: &str) -> Option<i64> {
    get(tree, path).and_then(Value::as_i64)
}

/// The flag at a path, false when unset.
pub(crate) fn flag(tree: &Value, path: &str) -> bool {
    get(tree, path).and_then(Value::as_bool).unwrap_or(false)
}

/// The list at a path, empty when unset.
pub(crate) fn items<'a>(tree: &'a Value, path: &str) -> &'a [Value] {
    get(tree, path)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or(&[])
}

/// The list at a path for changing, empty when unset.
pub(crate) fn items_mut<'a>(tree: &'a mut Value, path: &str) -> &'a mut [Value] {
    match get_mut(tree, path) {
        Some(Value::Array(list)) => list.as_mut_slice(),
        _ => &mut [],
    }
}

/// The object at a path.
pub(crate) fn map<'a>(tree: &'a Value, path: &str) -> Option<&'a Map> {
    get(tree, path).and_then(Value::as_object)
}

/// The value at a path for changing.
pub(crate) fn get_mut<'a>(tree: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let mut at = tree;
    for step in path.split('.') {
        at = at.as_object_mut()?.get_mut(step)?;
    }
    if at.is_null() { None } else { Some(at) }
}

/// The object at a path, made (with everything above it) where unset. None if something else stands in the way.
pub(crate) fn ensure<'a>(tree: &'a mut Value, path: &str) -> Option<&'a mut Map> {
    let mut at = tree.as_object_mut()?;
    for step in path.split('.') {
        let next = &mut at[step];
        if next.is_null() {
            *next = Value::Object(Map::new());
        }
        at = next.as_object_mut()?;
    }
    Some(at)
}

/// Writes a value at a path, making the objects above it.
pub(crate) fn put(tree: &mut Value, path: &str, value: impl Into<Value>) {
    let (parent, leaf) = split_leaf(path);
    let holder = if parent.is_empty() {
        tree.as_object_mut()
    } else {
        ensure(tree, parent)
    };
    if let Some(holder) = holder {
        holder.insert(Key::copied(leaf), value.into());
    }
}

/// Takes the value at a path away.
pub(crate) fn remove(tree: &mut Value, path: &str) -> Option<Value> {
    let (parent, leaf) = split_leaf(path);
    let holder = if parent.is_empty() {
        Some(tree)
    } else {
        get_mut(tree, parent)
    };
    holder
        .and_then(Value::as_object_mut)
        .and_then(|map| map.remove(leaf))
}

/// Fills a field that is unset, null or an empty text.
pub(crate) fn fill(tree: &mut Value, path: &str, value: impl Into<Value>) {
    let unset = match get(tree, path) {
        None => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    };
    if unset {
        put(tree, path, value);
    }
}

/// Fills a number for which zero means unset.
pub(crate) fn fill_zero(tree: &mut Value, path: &str, value: i64) {
    if get(tree, path).is_none_or(|present| present.as_i64() == Some(0)) {
        put(tree, path, value);
    }
}

/// Makes the field at `path` of `new` what it is in `old`, absent if absent there.
pub(crate) fn carry(new: &mut Value, old: &Value, path: &str) {
    match get(old, path) {
        Some(value) => put(new, path, value.clone()),
        None => {
            remove(new, path);
        }
    }
}

/// Copies a field to another place of the same object.
pub(crate) fn carry_within(tree: &mut Value, from: &str, to: &str) {
    if let Some(value) = get(tree, from).cloned() {
        put(tree, to, value);
    }
}

/// Whether two fields are the same, an empty list or object being the same as none.
pub(crate) fn same_at(left: &Value, right: &Value, path: &str) -> bool {
    alike(
        get(left, path).unwrap_or(&Value::Null),
        get(right, path).unwrap_or(&Value::Null),
    )
}

/// Equal up to the difference between an unset field and an empty list, object or text.
/// (The two print and store differently only for the few fields that tell `{}` from none: callers that must know use `==`.)
pub(crate) fn alike(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            left.iter()
                .all(|(key, value)| alike(value, right.get(key).unwrap_or(&Value::Null)))
                && right
                    .iter()
                    .all(|(key, value)| left.contains_key(key) || is_hollow(value))
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| alike(left, right))
        }
        (left, right) => left == right || (is_hollow(left) && is_hollow(right)),
    }
}

fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_hollow),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn split_leaf(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn paths_read_fill_and_remove() {
        let mut tree = json!({"spec": {"a": null, "b": "", "c": 0}});
        assert_eq!(get(&tree, "spec.a"), None);
        fill(&mut tree, "spec.a", 1);
        fill(&mut tree, "spec.b", "x");
        fill_zero(&mut tree, "spec.c", 7);
        put(&mut tree, "status.deep.er", true);
        assert_eq!(
            tree,
            json!({"spec": {"a": 1, "b": "x", "c": 7}, "status": {"deep": {"er": true}}})
        );
        assert_eq!(remove(&mut tree, "status.deep.er"), Some(json!(true)));
    }

    #[test]
    fn a_wrong_shape_in_the_way_is_left_alone() {
        let mut tree = json!({"spec": 5});
        put(&mut tree, "spec.a", 1);
        fill(&mut tree, "spec.b", 1);
        assert_eq!(tree, json!({"spec": 5}));
        assert!(items_mut(&mut tree, "spec.containers").is_empty());
    }

    #[test]
    fn alike_ignores_how_emptiness_is_written() {
        assert!(alike(&json!({"a": 1, "b": {}}), &json!({"a": 1, "c": []})));
        assert!(!alike(&json!({"a": 1}), &json!({"a": 2})));
        assert!(!alike(&json!({"a": [{}]}), &json!({"a": []})));
        assert!(!alike(&json!({"a": 0}), &json!({})));
    }
}

//! Patches by merging: RFC 7386, and Kubernetes' strategic merge with all its directives.
//!
//! Which lists merge, and by which key, comes from the table. The result is a raw tree: [`crate::complete`] types it.

use std::collections::{HashMap, HashSet};

use value::{Map, Value};

use crate::MAX_DEPTH;
use crate::error::PatchError;
use crate::table::{Kind, Shape, TypeId, table};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList/";
/// Lists up to here are looked through; of longer ones it is written down what is where. A request has room for some
/// hundred thousand elements, and to look for each among all would take hours.
const LOOKED_THROUGH_MAX: usize = 32;

/// Applies an RFC 7386 merge patch: null deletes, objects merge, everything else replaces.
pub fn merge_patch(original: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *original = patch.clone();
        return;
    };
    if !original.is_object() {
        *original = Value::Object(Map::new());
    }
    let Value::Object(map) = original else { return };
    for (key, change) in changes {
        if change.is_null() {
            map.remove(key);
        } else {
            merge_patch(map.entry(key).or_insert(Value::Null), change);
        }
    }
}

/// Applies a strategic merge patch. `original` is not changed; the result still has to be completed.
pub fn strategic_merge(ty: TypeId, original: Value, patch: Value) -> Result<Value, PatchError> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(malformed(
            "a strategic merge patch and what it applies to must be objects",
        ));
    };
    merge_map(original, patch, Schema::Type(ty), 0).map(Value::Object)
}

/// What the table knows about the value at hand.
#[derive(Clone, Copy)]
enum Schema {
    Type(TypeId),
    MapOf(Kind),
    Unknown,
}

/// How a field merges.
struct Strategy {
    schema: Schema,
    merge: bool,
    replace: bool,
    key: &'static str,
}

impl Schema {
    fn of(kind: Kind) -> Schema {
        match kind {
            Kind::Message(ty) if table().get(ty).special.is_none() => Schema::Type(ty),
            _ => Schema::Unknown,
        }
    }

    fn field(self, name: &str) -> Strategy {
        let unknown = Strategy {
            schema: Schema::Unknown,
            merge: false,
            replace: false,
            key: "",
        };
        match self {
            Schema::Unknown => unknown,
            Schema::MapOf(kind) => Strategy {
                schema: Schema::of(kind),
                ..unknown
            },
            Schema::Type(ty) => {
                let Some(field) = table().field(ty, name) else {
                    return unknown;
                };
                let schema = if field.shape == Shape::Map {
                    Schema::MapOf(field.kind)
                } else {
                    Schema::of(field.kind)
                };
                let notes = table().notes(field);
                let has = |word: &str| {
                    notes.is_some_and(|notes| {
                        notes.patch.split(',').any(|strategy| strategy == word)
                    })
                };
                Strategy {
                    schema,
                    merge: has("merge"),
                    replace: has("replace"),
                    key: notes.map_or("", |notes| notes.merge_key),
                }
            }
        }
    }
}

type Object = Map;

fn merge_map(
    mut original: Object,
    mut patch: Object,
    schema: Schema,
    depth: usize,
) -> Result<Object, PatchError> {
    if depth > MAX_DEPTH {
        return Err(PatchError::TooDeep);
    }
    if let Some(directive) = patch.remove(PATCH) {
        match directive.as_str() {
            Some("replace") => return Ok(without_nulls_and_directives(patch)),
            Some("delete") => return Ok(Object::new()),
            // Merging is what happens anyway.
            Some("merge") => {}
            _ => {
                return Err(malformed(&format!(
                    "unknown patch type found: {}",
                    plain(&directive)
                )));
            }
        }
    }
    retain_keys(&mut original, &mut patch)?;
    ordered_lists(&mut original, &mut patch, schema, depth)?;
    for (name, change) in patch {
        if let Some(list) = name.strip_prefix(DELETE_FROM_PRIMITIVE_LIST) {
            delete_from_list(&mut original, list, &change)?;
            continue;
        }
        if change.is_null() {
            original.remove(&name);
            continue;
        }
        let strategy = schema.field(&name);
        let merged = match (original.remove(&name), change) {
            (Some(Value::Object(old)), Value::Object(new)) if !strategy.replace => {
                Value::Object(merge_map(old, new, strategy.schema, depth + 1)?)
            }
            (Some(Value::Array(old)), Value::Array(new)) if strategy.merge => {
                Value::Array(merge_list(old, new, &strategy, depth + 1)?)
            }
            (None, Value::Array(new)) if strategy.merge => Value::Array(added_list(new)),
            (_, change) => cleaned(change),
        };
        original.insert(name, merged);
    }
    Ok(original)
}

/// `$retainKeys`: of the original, only the listed keys stay.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(keys) = directive else {
        return Err(malformed("invalid patch format of retainKeys"));
    };
    let keys: HashSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let foreign = patch.iter().any(|(name, value)| {
        let directive =
            name.starts_with(DELETE_FROM_PRIMITIVE_LIST) || name.starts_with(SET_ELEMENT_ORDER);
        !value.is_null() && !directive && !keys.contains(name.as_str())
    });
    if foreign {
        return Err(malformed("invalid patch format of retainKeys"));
    }
    original.retain(|name, _| keys.contains(name.as_str()));
    Ok(())
}

/// `$setElementOrder/x`: merges list `x` and then puts it into the given order.
fn ordered_lists(
    original: &mut Object,
    patch: &mut Object,
    schema: Schema,
    depth: usize,
) -> Result<(), PatchError> {
    let directives: Vec<value::Key> = patch
        .keys()
        .filter(|name| name.starts_with(SET_ELEMENT_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let bad = || malformed("invalid patch format of setElementOrder list");
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(bad());
        };
        let name = &directive[SET_ELEMENT_ORDER.len()..];
        let strategy = schema.field(name);
        let old = match original.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::Array(items)) => Some(items),
            Some(_) => return Err(bad()),
        };
        let new = match patch.remove(name) {
            None => None,
            Some(Value::Array(items)) => Some(items),
            // The list is deleted or replaced outright: no order to keep.
            Some(other) => {
                patch.insert(name.to_owned(), other);
                continue;
            }
        };
        if let Some(new) = &new {
            order_matches(new, &order, strategy.key)?;
        }
        let server_order = old.clone().unwrap_or_default();
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => added_list(new),
            (Some(old), Some(new)) if strategy.merge => merge_list(old, new, &strategy, depth + 1)?,
            (Some(_), Some(new)) => new.into_iter().map(cleaned).collect(),
        };
        original.insert(
            name.to_owned(),
            Value::Array(in_order(merged, &order, &server_order, strategy.key)),
        );
    }
    Ok(())
}

/// The patch's own elements must come in the order the directive gives.
fn order_matches(patch: &[Value], order: &[Value], key: &str) -> Result<(), PatchError> {
    let mut wanted = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        if !wanted.any(|other| same(item, other, key)) {
            return Err(malformed(&format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                Value::from(patch),
                Value::from(order)
            )));
        }
    }
    Ok(())
}

fn delete_from_list(original: &mut Object, name: &str, items: &Value) -> Result<(), PatchError> {
    let Value::Array(items) = items else {
        return Err(malformed("invalid patch format of primitive list"));
    };
    if let Some(Value::Array(list)) = original.get_mut(name) {
        let places = Places::of(items, "");
        list.retain(|item| places.find(items, item).is_none());
    }
    Ok(())
}

fn merge_list(
    old: Vec<Value>,
    new: Vec<Value>,
    strategy: &Strategy,
    depth: usize,
) -> Result<Vec<Value>, PatchError> {
    if depth > MAX_DEPTH {
        return Err(PatchError::TooDeep);
    }
    if strategy.key.is_empty() {
        return Ok(merge_scalars(old, new));
    }
    let mut merged = old;
    let mut patch = Vec::new();
    let mut gone = Vec::new();
    let mut replace = false;
    for item in new {
        match item.get(PATCH).map(plain).as_deref() {
            None => patch.push(item),
            Some("replace") => replace = true,
            Some("delete") => {
                require_key(&item, strategy.key)?;
                gone.push(item);
            }
            Some("merge") => {
                return Err(malformed(
                    "merging lists cannot yet be specified in the patch",
                ));
            }
            Some(other) => return Err(malformed(&format!("unknown patch type found: {other}"))),
        }
    }
    if replace {
        return Ok(patch.into_iter().map(cleaned).collect());
    }
    let places = Places::of(&gone, strategy.key);
    merged.retain(|item| places.find(&gone, item).is_none());
    let server_order = merged.clone();
    let mut places = Places::of(&merged, strategy.key);
    for item in &patch {
        require_key(item, strategy.key)?;
        match (places.find(&merged, item), item) {
            (Some(at), Value::Object(change)) => {
                if let Value::Object(old) = std::mem::take(&mut merged[at]) {
                    merged[at] =
                        Value::Object(merge_map(old, change.clone(), strategy.schema, depth + 1)?);
                }
            }
            _ => {
                merged.push(cleaned(item.clone()));
                places.extend(&merged);
            }
        }
    }
    Ok(in_order(merged, &patch, &server_order, strategy.key))
}

fn merge_scalars(old: Vec<Value>, new: Vec<Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let both = old
        .iter()
        .chain(&new)
        .filter(|item| seen.insert(plain(item)))
        .cloned()
        .collect();
    in_order(both, &new, &old, "")
}

fn require_key(item: &Value, key: &str) -> Result<(), PatchError> {
    if item.get(key).is_some() {
        return Ok(());
    }
    Err(malformed(&format!(
        "map: {item} does not contain declared merge key: {key}"
    )))
}

/// Puts the elements named in `order` into that order, and the others where the server had them relative to those.
fn in_order(items: Vec<Value>, order: &[Value], server_order: &[Value], key: &str) -> Vec<Value> {
    let (in_patch, on_server) = (Places::of(order, key), Places::of(server_order, key));
    // With their places in the patch, if they are in it, and on the server.
    type Placed = (Option<usize>, Option<usize>, Value);
    let placed = items.into_iter().map(|item| {
        let in_patch = in_patch.find(order, &item);
        (in_patch, on_server.find(server_order, &item), item)
    });
    let (mut listed, mut others): (Vec<Placed>, Vec<Placed>) =
        placed.partition(|(in_patch, ..)| in_patch.is_some());
    listed.sort_by_key(|(in_patch, ..)| *in_patch);
    others.sort_by_key(|(_, on_server, _)| on_server.unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(listed.len() + others.len());
    let (mut listed, mut others) = (listed.into_iter().peekable(), others.into_iter().peekable());
    while let (Some((_, left, _)), Some((_, right, _))) = (others.peek(), listed.peek()) {
        let left_first = match (left, right) {
            (Some(left), Some(right)) => left < right,
            _ => false,
        };
        out.extend(if left_first {
            others.next()
        } else {
            listed.next()
        });
    }
    out.extend(listed);
    out.extend(others);
    out.into_iter().map(|(.., item)| item).collect()
}

/// Where the elements of a list are: the first of those that are the same.
struct Places<'k> {
    key: &'k str,
    /// For long lists, by what makes elements the same.
    written: Option<HashMap<String, usize>>,
    /// How much of the list is written down.
    length: usize,
}

impl<'k> Places<'k> {
    fn of(list: &[Value], key: &'k str) -> Places<'k> {
        let mut places = Places {
            key,
            written: None,
            length: 0,
        };
        places.extend(list);
        places
    }

    /// The list has become longer.
    fn extend(&mut self, list: &[Value]) {
        if list.len() <= LOOKED_THROUGH_MAX {
            return;
        }
        let written = self.written.get_or_insert_default();
        for (at, item) in list.iter().enumerate().skip(self.length) {
            if let Some(name) = name_of(item, self.key) {
                written.entry(name).or_insert(at);
            }
        }
        self.length = list.len();
    }

    fn find(&self, list: &[Value], item: &Value) -> Option<usize> {
        match &self.written {
            Some(written) => written.get(&name_of(item, self.key)?).copied(),
            None => list.iter().position(|other| same(other, item, self.key)),
        }
    }
}

/// What makes an element the same as another.
fn name_of(item: &Value, key: &str) -> Option<String> {
    if key.is_empty() {
        return Some(item.to_string());
    }
    item.get(key).map(plain)
}

/// Elements are the same if their merge keys are, or, without one, if they are equal.
fn same(left: &Value, right: &Value, key: &str) -> bool {
    if key.is_empty() {
        return left == right;
    }
    match (left.get(key), right.get(key)) {
        (Some(left), Some(right)) => left == right || plain(left) == plain(right),
        _ => false,
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// A merging list that was not there before: elements marked for deletion have nothing to delete.
fn added_list(items: Vec<Value>) -> Vec<Value> {
    items
        .into_iter()
        .filter(|item| item.get(PATCH).is_none())
        .map(cleaned)
        .collect()
}

/// A new value taken from the patch: directives have nothing to work on, nulls nothing to delete.
fn cleaned(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(without_nulls_and_directives(map)),
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .filter(|item| plain_directive(item).is_none())
                .map(cleaned)
                .collect(),
        ),
        other => other,
    }
}

fn plain_directive(item: &Value) -> Option<&str> {
    item.get(PATCH)?
        .as_str()
        .filter(|directive| matches!(*directive, "delete" | "replace"))
}

fn without_nulls_and_directives(map: Object) -> Object {
    map.into_iter()
        .filter(|(name, value)| {
            let directive = name == PATCH
                || name == RETAIN_KEYS
                || name.starts_with(SET_ELEMENT_ORDER)
                || name.starts_with(DELETE_FROM_PRIMITIVE_LIST);
            !directive && !value.is_null()
        })
        .map(|(name, value)| (name, cleaned(value)))
        .collect()
}

fn malformed(text: &str) -> PatchError {
    PatchError::Malformed(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn pod(patch: Value, original: Value) -> Result<Value, String> {
        let ty = crate::kind_type("v1", "Pod").unwrap();
        strategic_merge(ty, original, patch).map_err(|error| error.to_string())
    }

    fn containers(names: &[&str]) -> Value {
        names
            .iter()
            .map(|name| json!({"name": name, "image": format!("{name}:1")}))
            .collect()
    }

    fn names(pod: &Value) -> Vec<&str> {
        pod["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn rfc_7386_examples() {
        for (mut original, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b", "b": "c"}),
                json!({"a": null}),
                json!({"b": "c"}),
            ),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!(["a"]), json!(null), json!(null)),
            (
                json!({"e": null}),
                json!({"a": 1}),
                json!({"e": null, "a": 1}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ] {
            merge_patch(&mut original, &patch);
            assert_eq!(original, expected);
        }
    }

    #[test]
    fn maps_merge_nulls_delete_scalars_replace() {
        let merged = pod(
            json!({"metadata": {"labels": {"a": null, "b": "2"}}, "spec": {"nodeName": "n"}}),
            json!({"metadata": {"name": "x", "labels": {"a": "1", "c": "3"}}, "spec": {"nodeName": "m", "hostNetwork": true}}),
        );
        assert_eq!(
            merged.unwrap(),
            json!({"metadata": {"name": "x", "labels": {"b": "2", "c": "3"}}, "spec": {"nodeName": "n", "hostNetwork": true}})
        );
    }

    #[test]
    fn lists_merge_by_key_and_others_are_replaced() {
        let original =
            json!({"spec": {"containers": containers(&["a", "b"]), "tolerations": [{"key": "x"}]}});
        let merged = pod(
            json!({"spec": {"containers": [{"name": "b", "image": "b:2"}, {"name": "c", "image": null, "tty": true}], "tolerations": [{"key": "y"}]}}),
            original,
        )
        .unwrap();
        assert_eq!(
            merged["spec"]["containers"],
            json!([{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:2"}, {"name": "c", "tty": true}])
        );
        assert_eq!(merged["spec"]["tolerations"], json!([{"key": "y"}]));
    }

    #[test]
    fn patch_directives_on_lists_and_maps() {
        let original = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": containers(&["a", "b"])}});
        let deleted = pod(
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            original.clone(),
        )
        .unwrap();
        assert_eq!(names(&deleted), ["b"]);
        let replaced = pod(
            json!({"spec": {"containers": [{"name": "z"}, {"$patch": "replace"}]}}),
            original.clone(),
        )
        .unwrap();
        assert_eq!(replaced["spec"]["containers"], json!([{"name": "z"}]));
        let map = pod(
            json!({"metadata": {"labels": {"$patch": "replace", "z": "9"}}}),
            original.clone(),
        )
        .unwrap();
        assert_eq!(map["metadata"]["labels"], json!({"z": "9"}));
        let gone = pod(
            json!({"metadata": {"labels": {"$patch": "delete"}}}),
            original.clone(),
        )
        .unwrap();
        assert_eq!(gone["metadata"]["labels"], json!({}));
        let merged = pod(
            json!({"metadata": {"$patch": "merge", "labels": {"b": "2"}}}),
            original.clone(),
        )
        .unwrap();
        assert_eq!(merged["metadata"]["labels"], json!({"a": "1", "b": "2"}));
        assert_eq!(
            pod(json!({"metadata": {"$patch": "destroy"}}), original.clone()),
            Err("unknown patch type found: destroy".to_owned())
        );
        assert_eq!(
            pod(json!({"spec": {"containers": [{"image": "x"}]}}), original),
            Err("map: {\"image\":\"x\"} does not contain declared merge key: name".to_owned())
        );
    }

    #[test]
    fn retain_keys_clears_the_rest() {
        let deployment = crate::kind_type("apps/v1", "Deployment").unwrap();
        let original = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        let merged = strategic_merge(deployment, original.clone(), patch.clone()).unwrap();
        assert_eq!(merged, json!({"spec": {"strategy": {"type": "Recreate"}}}));
        let bad = json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}});
        assert_eq!(
            strategic_merge(deployment, original.clone(), bad.clone())
                .unwrap_err()
                .to_string(),
            "invalid patch format of retainKeys"
        );
    }

    #[test]
    fn element_order_is_set_and_server_elements_keep_their_place() {
        let original = json!({"spec": {"containers": containers(&["a", "side", "b"])}});
        let reordered = pod(
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b", "tty": true}]}}),
            original.clone(),
        )
        .unwrap();
        assert_eq!(names(&reordered), ["side", "b", "a"]);
        let added = pod(
            json!({"spec": {"$setElementOrder/containers": [{"name": "n"}, {"name": "a"}, {"name": "b"}], "containers": [{"name": "n"}]}}),
            original.clone(),
        )
        .unwrap();
        assert_eq!(names(&added), ["n", "a", "side", "b"]);
        let only_order = pod(
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "side"}, {"name": "a"}]}}),
            original.clone(),
        );
        assert_eq!(names(&only_order.unwrap()), ["b", "side", "a"]);
        let wrong = json!({"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "q"}]}});
        assert!(
            pod(wrong, original)
                .unwrap_err()
                .starts_with("The order in patch list")
        );
    }

    #[test]
    fn primitive_lists_merge_without_repeats_and_shrink_by_directive() {
        let original = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
        let merged = pod(
            json!({"metadata": {"finalizers": ["d", "b"]}}),
            original.clone(),
        )
        .unwrap();
        assert_eq!(
            merged["metadata"]["finalizers"],
            json!(["d", "a", "b", "c"])
        );
        let shrunk = pod(
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "x"], "$setElementOrder/finalizers": ["c", "b"]}}),
            original,
        )
        .unwrap();
        assert_eq!(shrunk["metadata"]["finalizers"], json!(["c", "b"]));
        let fresh = pod(
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {}}),
        )
        .unwrap();
        assert_eq!(fresh, json!({"metadata": {}}));
    }

    /// A long list becomes what a short one does, in a time that is not the square of its length: that would be hours.
    #[test]
    fn a_long_list_is_merged_as_a_short_one() {
        let condition = |number: usize| json!({"type": format!("t{number}"), "status": "True"});
        let conditions = |numbers: &[usize]| -> Value {
            let all = numbers.iter().map(|number| condition(*number));
            json!({"status": {"conditions": all.collect::<Vec<Value>>()}})
        };
        let types = |pod: &Value| -> Vec<String> {
            let all = pod["status"]["conditions"].as_array().unwrap().iter();
            all.map(|one| format!("{}{}", one["type"].as_str().unwrap(), one["status"]))
                .collect()
        };
        let patch = json!({"status": {
            "$setElementOrder/conditions": [{"type": "t9"}, {"type": "new"}, {"type": "t3"}],
            "conditions": [{"type": "t9", "status": "x"}, {"type": "new"}, {"type": "t3", "reason": "r"},
                           {"type": "t5", "$patch": "delete"}]}});
        let plain = json!({"status": {"conditions": [
            {"type": "t9", "status": "x"}, {"type": "new"}, {"type": "t3", "reason": "r"},
            {"type": "new", "status": "y"}, {"type": "t5", "$patch": "delete"}]}});
        for patch in [patch, plain] {
            let few: Vec<usize> = (0..12).collect();
            let short = pod(patch.clone(), conditions(&few)).unwrap();
            let many: Vec<usize> = (0..60_000).collect();
            let long = pod(patch, conditions(&many)).unwrap();
            let (short, long) = (types(&short), types(&long));
            assert_eq!(long[..short.len()], short);
            assert_eq!(long.len(), short.len() + many.len() - few.len());
        }
        // As many changes as there are elements.
        let numbers: Vec<usize> = (0..60_000).collect();
        let other: Vec<usize> = (30_000..90_000).rev().collect();
        let merged = pod(conditions(&other), conditions(&numbers)).unwrap();
        assert_eq!(types(&merged).len(), 90_000);
        let finalizers = |numbers: &[usize]| -> Value {
            numbers
                .iter()
                .map(|number| format!("a/f{number}"))
                .collect()
        };
        let shrunk = pod(
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": finalizers(&other)}}),
            json!({"metadata": {"finalizers": finalizers(&numbers)}}),
        );
        let left = shrunk.unwrap()["metadata"]["finalizers"].clone();
        assert_eq!(left, finalizers(&numbers[..30_000]));
    }

    #[test]
    fn new_values_carry_no_directives() {
        let merged = pod(
            json!({"spec": {"containers": [{"name": "a", "env": [{"name": "x", "$patch": "delete"}, {"name": "y", "value": "1"}], "$setElementOrder/env": [{"name": "y"}]}]}}),
            json!({}),
        );
        assert_eq!(
            merged.unwrap(),
            json!({"spec": {"containers": [{"name": "a", "env": [{"name": "y", "value": "1"}]}]}})
        );
    }
}

//! Borrowing accessors on an object's tree. A field that is absent or of another type reads as absent, never as an error:
//! the schema has checked types where that matters. Knows no kind.

use value::{Map, Value};

/// `metadata.name`, or empty.
pub fn name(object: &Value) -> &str {
    metadata_text(object, "name")
}

/// `metadata.namespace`, or empty.
pub fn namespace(object: &Value) -> &str {
    metadata_text(object, "namespace")
}

/// `metadata.uid`, or empty.
pub fn uid(object: &Value) -> &str {
    metadata_text(object, "uid")
}

/// `metadata.resourceVersion`, or empty.
pub fn resource_version(object: &Value) -> &str {
    metadata_text(object, "resourceVersion")
}

/// `metadata.generateName`, or empty.
pub fn generate_name(object: &Value) -> &str {
    metadata_text(object, "generateName")
}

/// `metadata.generation`, or 0.
pub fn generation(object: &Value) -> i64 {
    i64_at(object, &["metadata", "generation"]).unwrap_or(0)
}

/// `metadata.creationTimestamp`.
pub fn creation_timestamp(object: &Value) -> Option<&str> {
    str_at(object, &["metadata", "creationTimestamp"])
}

/// `metadata.deletionTimestamp`: present while the object is being deleted.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    str_at(object, &["metadata", "deletionTimestamp"])
}

/// Whether the object is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    deletion_timestamp(object).is_some()
}

/// `metadata.labels`: a map, or null.
pub fn labels(object: &Value) -> &Value {
    at(object, &["metadata", "labels"])
}

/// One label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    str_at(object, &["metadata", "labels", key])
}

/// `metadata.annotations`: a map, or null.
pub fn annotations(object: &Value) -> &Value {
    at(object, &["metadata", "annotations"])
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    str_at(object, &["metadata", "annotations", key])
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    array_at(object, &["metadata", "finalizers"])
        .iter()
        .filter_map(Value::as_str)
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> &[Value] {
    array_at(object, &["metadata", "ownerReferences"])
}

/// The owner reference marked as the controller.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object)
        .iter()
        .find(|owner| bool_at(owner, &["controller"]) == Some(true))
}

fn metadata_text<'a>(object: &'a Value, field: &str) -> &'a str {
    str_at(object, &["metadata", field]).unwrap_or_default()
}

/// What the path of map keys leads to, or null.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> &'a Value {
    path.iter()
        .try_fold(object, |at, key| at.get(*key))
        .unwrap_or(&Value::Null)
}

/// The text at a path.
pub fn str_at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a str> {
    at(object, path).as_str()
}

/// The whole number at a path.
pub fn i64_at(object: &Value, path: &[&str]) -> Option<i64> {
    at(object, path).as_i64()
}

/// The boolean at a path.
pub fn bool_at(object: &Value, path: &[&str]) -> Option<bool> {
    at(object, path).as_bool()
}

/// The list at a path; empty if there is none.
pub fn array_at<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    at(object, path)
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The map at a path.
pub fn map_at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Map> {
    at(object, path).as_object()
}

/// Puts a value at a path, making maps on the way; what is on the way and is no map is replaced.
pub fn set_at(object: &mut Value, path: &[&'static str], value: impl Into<Value>) {
    let mut place = object;
    for key in path {
        place = map_mut(place).entry(*key).or_insert(Value::Null);
    }
    *place = value.into();
}

/// Takes the value at a path out of the tree.
pub fn remove_at(object: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let parent = parents
        .iter()
        .try_fold(object, |place, key| place.get_mut(*key))?;
    parent.as_object_mut()?.remove(last)
}

fn map_mut(value: &mut Value) -> &mut Map {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        // The line above made it a map.
        _ => unreachable!("a value just made a map is a map"),
    }
}

#[cfg(test)]
mod tests {
    use value::json;

    use super::*;

    #[test]
    fn metadata_reads_and_absence_reads_empty() {
        let pod = json!({"metadata": {"name": "web", "namespace": "d", "uid": "u", "resourceVersion": "7",
            "generation": 3, "labels": {"a": "b"}, "finalizers": ["x/y"], "deletionTimestamp": "t",
            "ownerReferences": [{"name": "n"}, {"name": "c", "controller": true}]}});
        assert_eq!((name(&pod), namespace(&pod), uid(&pod)), ("web", "d", "u"));
        assert_eq!((resource_version(&pod), generation(&pod)), ("7", 3));
        assert_eq!(label(&pod, "a"), Some("b"));
        assert_eq!(finalizers(&pod).collect::<Vec<_>>(), ["x/y"]);
        assert!(is_deleting(&pod));
        assert_eq!(
            controller_of(&pod).and_then(|owner| str_at(owner, &["name"])),
            Some("c")
        );

        let empty = json!({"metadata": {"name": 5}});
        assert_eq!((name(&empty), generation(&empty)), ("", 0));
        assert!(labels(&empty).is_null() && controller_of(&empty).is_none());
        assert_eq!(finalizers(&Value::Null).count(), 0);
    }

    #[test]
    fn setting_makes_the_way_and_removing_leaves_it() {
        let mut object = json!({"spec": 5});
        set_at(&mut object, &["spec", "nodeName"], "n1");
        set_at(&mut object, &["metadata", "generation"], 2);
        assert_eq!(
            object,
            json!({"spec": {"nodeName": "n1"}, "metadata": {"generation": 2}})
        );
        assert_eq!(
            remove_at(&mut object, &["spec", "nodeName"]),
            Some(json!("n1"))
        );
        assert_eq!(remove_at(&mut object, &["a", "b"]), None);
        assert_eq!(object["spec"], json!({}));
    }
}

//! Conditions as arrays of JSON objects, changed by upstream's rules.
//!
//! Does not know which condition means what.

use crate::pod::{items, text_of};
use meta::{Value, time};
use value::json;

/// A condition to be set.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) kind: &'static str,
    pub(crate) status: &'static str,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Condition {
    pub(crate) fn new(
        kind: &'static str,
        status: bool,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        let status = if status { "True" } else { "False" };
        Self {
            kind,
            status,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// The conditions of an object's status.
pub(crate) fn conditions_of(object: &Value) -> Vec<Value> {
    items(object, &["status", "conditions"]).to_vec()
}

/// The condition of a type.
pub(crate) fn find<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a Value> {
    conditions
        .iter()
        .find(|condition| text_of(condition, "type") == kind)
}

/// Whether the condition of a type is True.
pub(crate) fn is_true(conditions: &[Value], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| text_of(condition, "status") == "True")
}

/// Removes the condition of a type.
pub(crate) fn remove(conditions: &mut Vec<Value>, kind: &str) {
    conditions.retain(|condition| text_of(condition, "type") != kind);
}

/// Sets a condition with `extra`'s timestamp field (`lastUpdateTime`, `lastProbeTime` or none).
/// The transition time stays when the status stays. The caller decides when a set is due.
pub(crate) fn set(
    conditions: &mut Vec<Value>,
    condition: &Condition,
    extra: Option<&str>,
    now_micros: i64,
) {
    let now = time::format_seconds(now_micros);
    let since = find(conditions, condition.kind)
        .filter(|old| text_of(old, "status") == condition.status)
        .map(|old| text_of(old, "lastTransitionTime").to_owned())
        .filter(|since| !since.is_empty())
        .unwrap_or_else(|| now.clone());
    let mut value = json!({
        "type": condition.kind,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": since,
    });
    if let Some(field) = extra {
        value[field] = Value::String(now);
    }
    remove(conditions, condition.kind);
    conditions.push(value);
}

/// `object` with another status; an empty condition list is left out, as Go does.
pub(crate) fn with_status(object: &Value, status: Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.insert("status", status);
    }
    object
}

/// A status object without zero numbers, empty arrays and nulls: Go's omitempty.
pub(crate) fn pruned(mut status: Value) -> Value {
    if let Some(fields) = status.as_object_mut() {
        fields.retain(|_, value| match value {
            Value::Null => false,
            Value::Number(number) => number.as_i64() != Some(0),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            Value::String(text) => !text.is_empty(),
            Value::Bool(_) => true,
        });
    }
    status
}

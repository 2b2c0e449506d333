//! The working tree of an object: what JSON can say, made for objects of few fields whose names are known.
//!
//! It has the shape and the manners of `serde_json::Value`, and exists because that one spends most of a control plane's
//! time: a map of one field takes a B-tree's node of 600 bytes there, and every field's name a string of its own. Here a
//! [`Map`] is a sorted list until it grows beyond [`SMALL_MAX`] fields, and a [`Key`] that a schema or a program names is
//! not copied. Numbers are `serde_json`'s, text is read and written by `serde_json`.
//!
//! It does not know Kubernetes, schemas or protobuf.

mod convert;
mod index;
mod json;
mod key;
mod map;
mod serial;

use std::fmt;

pub use index::Index;
pub use json::{ToValue, object_field};
pub use key::Key;
pub use map::{
    Entry, IntoIter, IntoValues, Iter, IterMut, Keys, Map, SMALL_MAX, Values, ValuesMut,
};
pub use serde_json::Number;

/// A value as JSON knows them.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// Whole, or with a fraction.
    Number(Number),
    /// A text.
    String(String),
    /// A list.
    Array(Vec<Value>),
    /// Fields by name.
    Object(Map),
}

static NULL: Value = Value::Null;

impl Value {
    /// The part at a field's name or a list's index, if there is one.
    pub fn get<I: Index>(&self, index: I) -> Option<&Value> {
        index.part(self)
    }

    /// The part at a field's name or a list's index, for changing.
    pub fn get_mut<I: Index>(&mut self, index: I) -> Option<&mut Value> {
        index.part_mut(self)
    }

    /// The value itself, with null in its place.
    pub fn take(&mut self) -> Value {
        std::mem::take(self)
    }

    /// The part at a JSON pointer (RFC 6901).
    pub fn pointer(&self, pointer: &str) -> Option<&Value> {
        let mut at = self;
        for step in steps(pointer)? {
            at = match at {
                Value::Object(map) => map.get(&step)?,
                Value::Array(items) => items.get(place(&step)?)?,
                _ => return None,
            };
        }
        Some(at)
    }

    /// The part at a JSON pointer (RFC 6901), for changing.
    pub fn pointer_mut(&mut self, pointer: &str) -> Option<&mut Value> {
        let mut at = self;
        for step in steps(pointer)? {
            at = match at {
                Value::Object(map) => map.get_mut(&step)?,
                Value::Array(items) => items.get_mut(place(&step)?)?,
                _ => return None,
            };
        }
        Some(at)
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Whether it is true or false.
    pub fn is_boolean(&self) -> bool {
        matches!(self, Value::Bool(_))
    }

    /// Whether it is a number.
    pub fn is_number(&self) -> bool {
        matches!(self, Value::Number(_))
    }

    /// Whether it is a text.
    pub fn is_string(&self) -> bool {
        matches!(self, Value::String(_))
    }

    /// Whether it is a list.
    pub fn is_array(&self) -> bool {
        matches!(self, Value::Array(_))
    }

    /// Whether it has fields.
    pub fn is_object(&self) -> bool {
        matches!(self, Value::Object(_))
    }

    /// Whether it is a whole number within 64 bits with a sign.
    pub fn is_i64(&self) -> bool {
        self.as_i64().is_some()
    }

    /// Whether it is a whole number within 64 bits without a sign.
    pub fn is_u64(&self) -> bool {
        self.as_u64().is_some()
    }

    /// Whether it is a number written with a fraction or an exponent.
    pub fn is_f64(&self) -> bool {
        matches!(self, Value::Number(number) if number.is_f64())
    }

    /// True or false, if it is one of them.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<&Number> {
        match self {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The number, if it is whole and fits.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.as_i64()
    }

    /// The number, if it is whole, not negative and fits.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number()?.as_u64()
    }

    /// A number as the nearest one with a fraction.
    pub fn as_f64(&self) -> Option<f64> {
        self.as_number()?.as_f64()
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The items, if it is a list.
    pub fn as_array(&self) -> Option<&Vec<Value>> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The items for changing, if it is a list.
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The fields, if it has some.
    pub fn as_object(&self) -> Option<&Map> {
        match self {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }

    /// The fields for changing, if it has some.
    pub fn as_object_mut(&mut self) -> Option<&mut Map> {
        match self {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }
}

/// The steps of a JSON pointer, none if it is none.
fn steps(pointer: &str) -> Option<impl Iterator<Item = String>> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return None;
    }
    let steps = pointer.split('/').skip(1);
    Some(steps.map(|step| step.replace("~1", "/").replace("~0", "~")))
}

/// A step as a list's index: digits without a leading zero.
fn place(step: &str) -> Option<usize> {
    let is_plain = step == "0" || !step.starts_with('0');
    let digits = step.bytes().all(|byte| byte.is_ascii_digit());
    (is_plain && digits).then(|| step.parse().ok()).flatten()
}

/// JSON, with `{:#}` over several lines.
impl fmt::Display for Value {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if to.alternate() {
            serde_json::to_string_pretty(self)
        } else {
            serde_json::to_string(self)
        };
        to.write_str(&text.map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

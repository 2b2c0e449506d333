//! From a typed tree to protobuf, byte for byte what Kubernetes' own encoder writes.
//!
//! Fields go out ascending by number and map keys sorted, so equal trees are equal bytes. Plain (non-pointer) fields are
//! always written, zero or not, as gogo-protobuf does for Go values: it costs two bytes for an empty string, and buys
//! bytes that are identical to those a kube-apiserver stores. Pointers, lists, maps and byte slices only when present.

use value::{Map, Value};

use crate::MAX_DEPTH;
use crate::error::EncodeError;
use crate::json::{Html, write_value};
use crate::special;
use crate::table::{Field, Kind, Shape, Special, Table, TypeId};
use crate::wire::{put_bytes, put_int, put_nested, put_tag};

pub(crate) struct Encoder {
    pub(crate) table: &'static Table,
    /// Leaves `metadata.resourceVersion` empty: the store's revision takes its place when the object is read.
    pub(crate) drop_resource_version: bool,
}

impl Encoder {
    pub(crate) fn object(
        &self,
        ty: TypeId,
        value: &Value,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match (self.table.get(ty).special, value) {
            (Some(special), value) => self.special(ty, special, value, out, 0),
            (None, Value::Object(map)) => self.message(ty, map, out, 0),
            (None, other) => Err(problem(other, "an object")),
        }
    }

    fn message(
        &self,
        ty: TypeId,
        map: &Map,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), EncodeError> {
        if depth > MAX_DEPTH {
            return Err(EncodeError {
                path: String::new(),
                problem: "nested too deep".to_owned(),
            });
        }
        let message = self.table.get(ty);
        let without_version =
            self.drop_resource_version && depth == 1 && ty == self.table.object_meta;
        for index in &message.by_number {
            let field = &message.fields[usize::from(*index)];
            if field.shape == Shape::Inline {
                let Kind::Message(inner) = field.kind else {
                    continue;
                };
                put_nested(field.number, out, |out| {
                    self.message(inner, map, out, depth + 1)
                })?;
                continue;
            }
            let value = map.get(field.name).filter(|value| !value.is_null());
            let value = if without_version && field.name == "resourceVersion" {
                None
            } else {
                value
            };
            self.field(field, value, out, depth).map_err(|mut error| {
                let joint = if error.path.is_empty() || error.path.starts_with('[') {
                    ""
                } else {
                    "."
                };
                error.path = format!("{}{joint}{}", field.name, error.path);
                error
            })?;
        }
        Ok(())
    }

    fn field(
        &self,
        field: &Field,
        value: Option<&Value>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), EncodeError> {
        match (field.shape, value) {
            // A named list is a Go slice: nil is not written.
            (Shape::One, None) if self.table.special(field.kind) == Some(Special::Items) => Ok(()),
            (Shape::One, value) => self.single(field.number, field.kind, value, out, depth),
            (_, None) => Ok(()),
            (Shape::Pointer | Shape::Inline, value) => {
                self.single(field.number, field.kind, value, out, depth)
            }
            (Shape::List, Some(Value::Array(items))) => {
                for (index, item) in items.iter().enumerate() {
                    self.element(field.number, field.kind, item, out, depth)
                        .map_err(|error| within(error, &format!("[{index}]")))?;
                }
                Ok(())
            }
            (Shape::Map, Some(Value::Object(entries))) => {
                for (key, item) in entries {
                    put_nested(field.number, out, |out| {
                        put_bytes(1, key.as_bytes(), out);
                        self.element(2, field.kind, item, out, depth)
                    })
                    .map_err(|error| within(error, &format!("[{key}]")))?;
                }
                Ok(())
            }
            (Shape::List, Some(other)) => Err(problem(other, "a list")),
            (Shape::Map, Some(other)) => Err(problem(other, "an object")),
        }
    }

    /// A list element or map value is written even if it is null: as its zero value.
    fn element(
        &self,
        number: u32,
        kind: Kind,
        value: &Value,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), EncodeError> {
        if kind == Kind::Bytes && value.is_null() {
            put_bytes(number, b"", out);
            return Ok(());
        }
        self.single(
            number,
            kind,
            Some(value).filter(|value| !value.is_null()),
            out,
            depth,
        )
    }

    fn single(
        &self,
        number: u32,
        kind: Kind,
        value: Option<&Value>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), EncodeError> {
        match (kind, value) {
            (Kind::String, None) => put_bytes(number, b"", out),
            (Kind::String, Some(Value::String(text))) => put_bytes(number, text.as_bytes(), out),
            (Kind::Int32 | Kind::Int64 | Kind::Bool, None) => put_int(number, 0, out),
            (Kind::Bool, Some(Value::Bool(flag))) => put_int(number, u64::from(*flag), out),
            (Kind::Int32 | Kind::Int64, Some(Value::Number(integer))) => {
                let integer = integer
                    .as_i64()
                    .filter(|integer| kind == Kind::Int64 || i32::try_from(*integer).is_ok());
                let Some(integer) = integer else {
                    return Err(problem(&Value::Null, "an integer in range"));
                };
                put_int(number, integer as u64, out);
            }
            (Kind::Double, None) => put_double(number, 0.0, out),
            (Kind::Double, Some(Value::Number(value))) => {
                put_double(number, value.as_f64().unwrap_or(0.0), out)
            }
            (Kind::Bytes, None) => {}
            (Kind::Bytes, Some(Value::String(text))) => {
                let bytes = special::base64_decode(text).map_err(|error| EncodeError {
                    path: String::new(),
                    problem: error.to_string(),
                })?;
                put_bytes(number, &bytes, out);
            }
            (Kind::Message(ty), value) => {
                let special = self.table.get(ty).special;
                return put_nested(number, out, |out| match (special, value) {
                    (Some(special), value) => {
                        self.special(ty, special, value.unwrap_or(&Value::Null), out, depth + 1)
                    }
                    (None, None) => self.message(ty, &Map::new(), out, depth + 1),
                    (None, Some(Value::Object(map))) => self.message(ty, map, out, depth + 1),
                    (None, Some(other)) => Err(problem(other, "an object")),
                });
            }
            (_, Some(other)) => return Err(problem(other, &self.table.go_kind(kind))),
        }
        Ok(())
    }

    fn special(
        &self,
        ty: TypeId,
        special: Special,
        value: &Value,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), EncodeError> {
        let fields = &self.table.get(ty).fields;
        let list = || fields.iter().find(|field| field.shape == Shape::List);
        let schema = || {
            fields
                .iter()
                .find(|field| field.shape != Shape::List && matches!(field.kind, Kind::Message(_)))
        };
        match (special, value) {
            (Special::Raw, Value::Null) => Ok(()),
            (Special::Raw, value) => put_nested(1, out, |out| {
                write_value(value, Html::Keep, out);
                Ok(())
            }),
            (
                Special::Items | Special::SchemaOrArray | Special::SchemaOrStrings,
                Value::Array(_),
            ) => list().map_or(Ok(()), |field| self.field(field, Some(value), out, depth)),
            (Special::Items | Special::SchemaOrArray | Special::SchemaOrStrings, Value::Null) => {
                Ok(())
            }
            (Special::SchemaOrBool, Value::Null | Value::Bool(_)) => {
                put_int(1, u64::from(value == &Value::Bool(true)), out);
                Ok(())
            }
            (
                Special::SchemaOrArray | Special::SchemaOrBool | Special::SchemaOrStrings,
                Value::Object(_),
            ) => {
                if special == Special::SchemaOrBool {
                    put_int(1, 1, out);
                }
                schema().map_or(Ok(()), |field| self.field(field, Some(value), out, depth))
            }
            _ if special::encode(special, value, out) => Ok(()),
            _ => Err(problem(value, &format!("a {special:?}"))),
        }
    }
}

fn put_double(number: u32, value: f64, out: &mut Vec<u8>) {
    put_tag(number, 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

fn problem(value: &Value, wanted: &str) -> EncodeError {
    EncodeError {
        path: String::new(),
        problem: format!("{} is not {wanted}", special::go_value(value, true)),
    }
}

fn within(mut error: EncodeError, step: &str) -> EncodeError {
    let joint = if error.path.is_empty() || error.path.starts_with('[') {
        ""
    } else {
        "."
    };
    error.path = format!("{step}{joint}{}", error.path);
    error
}

//! From protobuf to a typed tree, trusting nothing: lengths, types, nesting and text are all checked.
//!
//! Fields may come in any order and more than once, as protobuf allows: the last scalar wins, messages merge. Unknown
//! fields are dropped, as built-in kinds do.

use value::{Map, Value};

use crate::MAX_DEPTH;
use crate::error::DecodeError;
use crate::fieldset::{Below, FieldSet};
use crate::json;
use crate::normalize::{canonical_double, is_zero, zero};
use crate::special::{self, Plain};
use crate::table::{Field, Kind, Shape, Special, Table, TypeId};
use crate::wire::{Reader, Wire};

/// `wanted`: what to decode, everything if none.
pub(crate) fn object(
    table: &Table,
    ty: TypeId,
    bytes: &[u8],
    wanted: Wanted<'_>,
) -> Result<Value, DecodeError> {
    match table.get(ty).special {
        Some(special) => special_value(table, ty, special, bytes, 0),
        None => {
            let mut map = Map::new();
            message(table, ty, bytes, &mut map, wanted, 0)?;
            Ok(Value::Object(map))
        }
    }
}

type Wanted<'a> = Option<&'a FieldSet>;

fn message(
    table: &Table,
    ty: TypeId,
    bytes: &[u8],
    map: &mut Map,
    wanted: Wanted<'_>,
    depth: usize,
) -> Result<(), DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    let mut reader = Reader::new(bytes);
    let mut cursor = 0;
    while let Some((number, wire)) = reader.field()? {
        let below = match wanted.map(|wanted| wanted.get(number)) {
            None | Some(Some(Below::All)) => None,
            Some(Some(Below::Some(inner))) => Some(inner),
            Some(None) => continue,
        };
        if let Some(index) = field_index(table, ty, number, &mut cursor) {
            field(table, &table.get(ty).fields[index], wire, map, below, depth)?;
        }
    }
    Ok(())
}

/// Finds a field by number; `cursor` remembers the last hit, since numbers nearly always ascend.
pub(crate) fn field_index(
    table: &Table,
    ty: TypeId,
    number: u32,
    cursor: &mut usize,
) -> Option<usize> {
    let message = table.get(ty);
    let number_at = |at: usize| {
        message
            .by_number
            .get(at)
            .map(|index| message.fields[usize::from(*index)].number)
    };
    for _ in 0..3 {
        match number_at(*cursor) {
            Some(here) if here == number => return Some(usize::from(message.by_number[*cursor])),
            Some(here) if here < number => *cursor += 1,
            _ => break,
        }
    }
    let at = message
        .by_number
        .binary_search_by_key(&number, |index| message.fields[usize::from(*index)].number)
        .ok()?;
    *cursor = at;
    Some(usize::from(message.by_number[at]))
}

fn field(
    table: &Table,
    field: &Field,
    wire: Wire<'_>,
    map: &mut Map,
    wanted: Wanted<'_>,
    depth: usize,
) -> Result<(), DecodeError> {
    match (field.shape, field.kind, wire) {
        (Shape::Inline, Kind::Message(inner), Wire::Bytes(bytes)) => {
            message(table, inner, bytes, map, wanted, depth + 1)
        }
        (Shape::One | Shape::Pointer, Kind::Message(inner), Wire::Bytes(bytes))
            if table.get(inner).special.is_none() =>
        {
            let slot = map
                .entry(field.name)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner_map) = slot {
                message(table, inner, bytes, inner_map, wanted, depth + 1)?;
                if field.shape == Shape::One && inner_map.is_empty() {
                    map.remove(field.name);
                }
            }
            Ok(())
        }
        (Shape::One | Shape::Pointer | Shape::Inline, kind, wire) => {
            let value = single(table, field, kind, wire, wanted, depth)?;
            let empty_bytes = kind == Kind::Bytes && !field.omitempty;
            if value.is_null()
                || (field.shape == Shape::One && !empty_bytes && is_zero(table, kind, &value))
            {
                map.remove(field.name);
            } else {
                map.insert(field.name, value);
            }
            Ok(())
        }
        (Shape::List, kind, wire) => {
            let slot = map
                .entry(field.name)
                .or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = slot else {
                return Ok(());
            };
            if let (Kind::Int32 | Kind::Int64 | Kind::Bool, Wire::Bytes(packed)) = (kind, wire) {
                let mut reader = Reader::new(packed);
                while !reader.at_end() {
                    items.push(scalar(kind, reader.varint()?));
                }
            } else {
                let value = single(table, field, kind, wire, wanted, depth)?;
                items.push(if value.is_null() {
                    zero(table, kind)
                } else {
                    value
                });
            }
            if items.is_empty() {
                map.remove(field.name);
            }
            Ok(())
        }
        (Shape::Map, kind, Wire::Bytes(bytes)) => {
            let (key, value) = map_entry(bytes, field)?;
            let value = match value {
                Some(wire) => single(table, field, kind, wire, wanted, depth)?,
                None => Value::Null,
            };
            let value = if value.is_null() {
                zero(table, kind)
            } else {
                value
            };
            let slot = map
                .entry(field.name)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(entries) = slot {
                entries.insert(key.to_owned(), value);
            }
            Ok(())
        }
        (Shape::Map, _, _) => Err(wrong_wire(field)),
    }
}

/// Key and value of one map entry.
pub(crate) fn map_entry<'a>(
    bytes: &'a [u8],
    field: &Field,
) -> Result<(&'a str, Option<Wire<'a>>), DecodeError> {
    let (mut key, mut value) = ("", None);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(bytes, field)?,
            (1, _) => return Err(wrong_wire(field)),
            (2, wire) => value = Some(wire),
            _ => {}
        }
    }
    Ok((key, value))
}

fn single(
    table: &Table,
    field: &Field,
    kind: Kind,
    wire: Wire<'_>,
    wanted: Wanted<'_>,
    depth: usize,
) -> Result<Value, DecodeError> {
    Ok(match (kind, wire) {
        (Kind::String, Wire::Bytes(bytes)) => Value::String(text(bytes, field)?.to_owned()),
        (Kind::Bytes, Wire::Bytes(bytes)) => Value::String(special::base64_encode(bytes)),
        (Kind::Int32 | Kind::Int64 | Kind::Bool, Wire::Varint(value)) => scalar(kind, value),
        (Kind::Double, Wire::Fixed64(bits)) => {
            Value::Number(canonical_double(f64::from_bits(bits)))
        }
        (Kind::Message(ty), Wire::Bytes(bytes)) => match table.get(ty).special {
            Some(special) => special_value(table, ty, special, bytes, depth + 1)?,
            None => {
                let mut map = Map::new();
                message(table, ty, bytes, &mut map, wanted, depth + 1)?;
                Value::Object(map)
            }
        },
        _ => return Err(wrong_wire(field)),
    })
}

fn scalar(kind: Kind, value: u64) -> Value {
    match kind {
        Kind::Bool => Value::Bool(value != 0),
        Kind::Int32 => Value::from(value as i32),
        _ => Value::from(value as i64),
    }
}

fn special_value(
    table: &Table,
    ty: TypeId,
    special: Special,
    bytes: &[u8],
    depth: usize,
) -> Result<Value, DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    match special {
        Special::Raw => match raw_bytes(bytes)? {
            None => Ok(Value::Null),
            Some(raw) => {
                let value = json::parse(raw)
                    .map_err(|error| DecodeError::Protobuf(format!("embedded JSON: {error}")))?
                    .value;
                Ok(value)
            }
        },
        Special::Items
        | Special::SchemaOrArray
        | Special::SchemaOrBool
        | Special::SchemaOrStrings => {
            let mut map = Map::new();
            message(table, ty, bytes, &mut map, None, depth + 1)?;
            Ok(schema_or(table, ty, special, map))
        }
        _ => Ok(match special::decode(special, bytes)? {
            Plain::Null => Value::Null,
            Plain::Int(value) => Value::from(value),
            Plain::Owned(text) => Value::String(text),
            Plain::Time(text) => Value::String(text.as_str().to_owned()),
            Plain::Text(text)
                if special == Special::Quantity && !special::is_canonical_quantity(text) =>
            {
                Value::String(meta::quantity::canonical(text).map_err(DecodeError::Value)?)
            }
            Plain::Text(text) => Value::String(text.to_owned()),
        }),
    }
}

/// The JSON value behind a message that is a union: a list, a schema or a flag.
fn schema_or(table: &Table, ty: TypeId, special: Special, mut map: Map) -> Value {
    let mut list = None;
    let mut schema = None;
    for field in &table.get(ty).fields {
        match field.shape {
            Shape::List => list = map.remove(field.name),
            _ if matches!(field.kind, Kind::Message(_)) => schema = map.remove(field.name),
            _ => {}
        }
    }
    match (special, list, schema) {
        (Special::Items, list, _) => list.unwrap_or(Value::Array(Vec::new())),
        (Special::SchemaOrBool, _, Some(schema)) => schema,
        (Special::SchemaOrBool, _, None) => Value::Bool(map.contains_key("allows")),
        (_, Some(list), _) => list,
        (_, None, Some(schema)) => schema,
        (_, None, None) => Value::Null,
    }
}

/// The one field of a RawExtension, FieldsV1 or JSON message.
pub(crate) fn raw_bytes(message: &[u8]) -> Result<Option<&[u8]>, DecodeError> {
    let mut raw = None;
    let mut reader = Reader::new(message);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => raw = Some(bytes).filter(|bytes| !bytes.is_empty()),
            (1, _) => return Err(DecodeError::protobuf("wrong wireType for field Raw")),
            _ => {}
        }
    }
    Ok(raw)
}

pub(crate) fn text<'a>(bytes: &'a [u8], field: &Field) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(bytes)
        .map_err(|_| DecodeError::Protobuf(format!("field {} is not UTF-8", field.name)))
}

pub(crate) fn wrong_wire(field: &Field) -> DecodeError {
    DecodeError::Protobuf(format!("wrong wireType for field {}", field.name))
}

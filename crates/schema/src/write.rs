//! From a typed tree to JSON text: struct field order, and Go's rules for what is left out.
//!
//! Left out: unset pointers, and zero values of `omitempty` fields. A plain struct is never left out, a plain field
//! without `omitempty` shows its zero value, a list without it shows `null` (`[]` for the items of a List kind).

use value::{Map, Value};

use crate::json::{Html, write_number, write_string, write_value};
use crate::special;
use crate::table::{Field, Kind, Shape, Special, Table, Type, TypeId};

pub(crate) fn object(table: &Table, ty: TypeId, value: &Value, out: &mut Vec<u8>) {
    let message = table.get(ty);
    match value {
        Value::Object(map) if message.special.is_none() => {
            out.push(b'{');
            let mut first = true;
            if message.kind {
                for (name, quoted) in [("kind", "\"kind\":"), ("apiVersion", "\"apiVersion\":")] {
                    if let Some(Value::String(text)) = map.get(name) {
                        key(quoted, &mut first, out);
                        write_string(text, out);
                    }
                }
            }
            fields(table, message, map, &mut first, out);
            out.push(b'}');
        }
        other => element(table, Kind::Message(ty), other, out),
    }
}

/// Writes a key that comes quoted and with its colon, after a comma unless it is the first.
pub(crate) fn key(quoted: &str, first: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::replace(first, false) {
        out.push(b',');
    }
    out.extend_from_slice(quoted.as_bytes());
}

fn fields(table: &Table, message: &Type, map: &Map, first: &mut bool, out: &mut Vec<u8>) {
    for field in &message.fields {
        if let (Shape::Inline, Kind::Message(inner)) = (field.shape, field.kind) {
            fields(table, table.get(inner), map, first, out);
            continue;
        }
        match map.get(field.name).filter(|value| !value.is_null()) {
            None => absent(table, message, field, first, out),
            Some(value) if field.omitempty && is_empty(table, field, value) => {}
            Some(value) => {
                key(field.key, first, out);
                match (field.shape, value) {
                    (Shape::List, Value::Array(items)) => list(table, field.kind, items, out),
                    (Shape::Map, Value::Object(entries)) => {
                        out.push(b'{');
                        for (index, (name, item)) in entries.iter().enumerate() {
                            if index > 0 {
                                out.push(b',');
                            }
                            write_string(name, out);
                            out.push(b':');
                            element(table, field.kind, item, out);
                        }
                        out.push(b'}');
                    }
                    (_, value) => element(table, field.kind, value, out),
                }
            }
        }
    }
}

/// What Go's `omitempty` calls empty: never a struct.
fn is_empty(table: &Table, field: &Field, value: &Value) -> bool {
    match (field.shape, value) {
        (Shape::List, Value::Array(items)) => items.is_empty(),
        (Shape::Map, Value::Object(entries)) => entries.is_empty(),
        (Shape::One, value) => match field.kind {
            Kind::Message(_) if table.special(field.kind) == Some(Special::Items) => {
                value == &Value::Array(Vec::new())
            }
            Kind::Message(_) => false,
            kind => crate::normalize::is_zero(table, kind, value),
        },
        _ => false,
    }
}

/// Writes a field that is not set: nothing, null, or its zero value.
pub(crate) fn absent(
    table: &Table,
    owner: &Type,
    field: &Field,
    first: &mut bool,
    out: &mut Vec<u8>,
) {
    let struct_value = field.shape == Shape::One
        && matches!(field.kind, Kind::Message(_))
        && table.special(field.kind) != Some(Special::Items);
    if field.omitzero || (field.omitempty && !struct_value) {
        return;
    }
    key(field.key, first, out);
    match field.shape {
        Shape::List if owner.list && field.name == "items" => out.extend_from_slice(b"[]"),
        Shape::One => zero(table, field.kind, out),
        _ => out.extend_from_slice(b"null"),
    }
}

/// The JSON of a kind's zero value.
pub(crate) fn zero(table: &Table, kind: Kind, out: &mut Vec<u8>) {
    match kind {
        Kind::String => out.extend_from_slice(b"\"\""),
        Kind::Int32 | Kind::Int64 | Kind::Double => out.push(b'0'),
        Kind::Bool => out.extend_from_slice(b"false"),
        Kind::Bytes => out.extend_from_slice(b"null"),
        Kind::Message(ty) => match table.get(ty).special {
            Some(special) => out.extend_from_slice(special::zero_json(special).as_bytes()),
            None => {
                out.push(b'{');
                fields(table, table.get(ty), &Map::new(), &mut true, out);
                out.push(b'}');
            }
        },
    }
}

fn list(table: &Table, kind: Kind, items: &[Value], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        element(table, kind, item, out);
    }
    out.push(b']');
}

fn element(table: &Table, kind: Kind, value: &Value, out: &mut Vec<u8>) {
    match (kind, value) {
        (Kind::Message(ty), value) => match (table.get(ty).special, value) {
            (None, Value::Object(map)) => {
                out.push(b'{');
                fields(table, table.get(ty), map, &mut true, out);
                out.push(b'}');
            }
            (
                Some(Special::SchemaOrArray | Special::SchemaOrStrings | Special::SchemaOrBool),
                Value::Object(_),
            ) => {
                let schema = table
                    .get(ty)
                    .fields
                    .iter()
                    .find(|field| matches!(field.kind, Kind::Message(_)));
                element(
                    table,
                    schema.map_or(Kind::String, |schema| schema.kind),
                    value,
                    out,
                );
            }
            (
                Some(Special::SchemaOrArray | Special::SchemaOrStrings | Special::Items),
                Value::Array(items),
            ) => {
                let field = table
                    .get(ty)
                    .fields
                    .iter()
                    .find(|field| field.shape == Shape::List);
                list(
                    table,
                    field.map_or(Kind::String, |field| field.kind),
                    items,
                    out,
                );
            }
            (_, value) => write_value(value, Html::Escape, out),
        },
        (_, Value::String(text)) => write_string(text, out),
        (_, Value::Number(number)) => write_number(number, out),
        (_, Value::Null) => zero(table, kind, out),
        (_, value) => write_value(value, Html::Escape, out),
    }
}

//! Fills objects from the table: every field of a type, or a random part of them. Knows no kind by name.

use schema::{FieldType, TypeId, Value, field, fields};
use value::{Map, json};

pub use chance::Chance;

/// How much of an object is filled.
#[derive(Clone, Copy, PartialEq)]
#[allow(dead_code)] // each test file uses its part
pub enum Fill {
    Everything,
    /// Each field with a chance of one in so many.
    OneIn(usize),
}

/// A typed tree of the type, with apiVersion and kind where it has them.
pub fn object(ty: TypeId, fill: Fill, random: &mut Chance) -> Value {
    let mut value = message(ty, fill, random, &mut Vec::new());
    if let (true, Some((group, version)), Some(map)) =
        (ty.is_kind(), ty.group_version(), value.as_object_mut())
    {
        let api_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        map.insert("apiVersion".to_owned(), Value::String(api_version));
        map.insert("kind".to_owned(), Value::String(ty.name().to_owned()));
    }
    value
}

fn message(ty: TypeId, fill: Fill, random: &mut Chance, above: &mut Vec<TypeId>) -> Value {
    // Schemas contain schemas: two rounds of them show everything.
    let again = above.iter().filter(|other| **other == ty).count();
    above.push(ty);
    let mut map = Map::new();
    for info in fields(ty) {
        let skip = match fill {
            Fill::Everything => false,
            Fill::OneIn(chance) => random.below(chance) != 0,
        };
        let recursive = matches!(info.field_type, FieldType::Message(_)) && again >= 2;
        if skip || recursive {
            continue;
        }
        let mut value = || single(info.field_type, fill, random, above);
        let value = match (info.list, info.map) {
            (true, _) => Value::Array(vec![value(), value()]),
            (_, true) => json!({"keyB": value(), "key/a": value()}),
            _ => value(),
        };
        map.insert(info.json_name.to_owned(), value);
    }
    above.pop();
    Value::Object(map)
}

fn single(
    field_type: FieldType,
    fill: Fill,
    random: &mut Chance,
    above: &mut Vec<TypeId>,
) -> Value {
    let pick = random.below(4);
    match field_type {
        FieldType::String => json!(["text", "a <b> & \"c\"\n\t\u{2028}é", "true", "1Gi"][pick]),
        FieldType::Int32 => json!([1, i32::MAX, i32::MIN, -1][pick]),
        FieldType::Int64 => json!([1, i64::MAX, i64::MIN, 1 << 53][pick]),
        FieldType::Bool => json!(true),
        FieldType::Double => [json!(1), json!(0.1), json!(1e30), json!(-5.5e-9)][pick].clone(),
        FieldType::Bytes => json!(["aGVsbG8=", "AA==", "//8=", "c2VjcmV0"][pick]),
        FieldType::Quantity => json!(["1Gi", "500m", "12", "1500n"][pick]),
        FieldType::IntOrString => [json!(80), json!("http"), json!("25%"), json!(-1)][pick].clone(),
        FieldType::Time => json!(
            [
                "2026-01-02T03:04:05Z",
                "1969-12-31T23:59:59Z",
                "1970-01-01T00:00:00Z",
                "9999-12-31T23:59:59Z"
            ][pick]
        ),
        FieldType::MicroTime => {
            json!(["2026-01-02T03:04:05.000006Z", "1969-12-31T23:59:59.999999Z"][pick % 2])
        }
        FieldType::Duration => json!(["1m30s", "1.5s", "-2h0m0s", "1µs"][pick]),
        FieldType::Raw => json!({"a": [1, "<x>", null, {"b": 2.5}], "z": true}),
        FieldType::Message(ty) => match (ty.name(), pick % 2) {
            ("JSONSchemaPropsOrBool", 0) => json!(true),
            ("JSONSchemaPropsOrStringArray", 0) => json!(["a", "b"]),
            (
                "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrStringArray" | "JSONSchemaPropsOrBool",
                _,
            ) => {
                let schema = fields(ty).find_map(|info| match info.field_type {
                    FieldType::Message(inner) => Some(inner),
                    _ => None,
                });
                schema.map_or(Value::Null, |schema| message(schema, fill, random, above))
            }
            ("ExtraValue" | "Verbs", _) => json!(["x", "y"]),
            _ => message(ty, fill, random, above),
        },
    }
}

/// Whether the type is an object of a kind that can be encoded on its own.
pub fn is_object(ty: TypeId) -> bool {
    ty.is_kind() || (ty.name() == "WatchEvent" && field(ty, "object").is_some())
}

//! Every field of every kind, through every serialisation and back.

mod common;

use common::{Chance, Fill, is_object, object};
use schema::{JsonOptions, TypeId, Value};

fn kinds() -> Vec<TypeId> {
    schema::types().filter(|ty| is_object(*ty)).collect()
}

fn without_type_meta(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    value
}

fn check(ty: TypeId, value: &Value) {
    let name = ty.openapi_name();
    let typed =
        schema::complete(ty, value.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(typed.complaints, Vec::<String>::new(), "{name}");
    let typed = typed.value;

    let mut json = Vec::new();
    schema::write_json(ty, &typed, &mut json);
    let again = schema::decode_json(ty, &json).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(again.complaints, Vec::<String>::new(), "{name}");
    assert_eq!(again.value, typed, "{name}: json");

    let mut protobuf = Vec::new();
    schema::encode_protobuf(ty, &typed, &mut protobuf)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let decoded =
        schema::decode_protobuf(ty, &protobuf).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(decoded, without_type_meta(&typed), "{name}: protobuf");

    let mut streamed = Vec::new();
    let text = |key: &str| typed.get(key).and_then(Value::as_str);
    let options = JsonOptions {
        type_meta: text("apiVersion").zip(text("kind")),
        resource_version: None,
    };
    schema::protobuf_to_json(ty, &protobuf, options, &mut streamed)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(
        String::from_utf8_lossy(&streamed),
        String::from_utf8_lossy(&json),
        "{name}: streaming"
    );

    let mut yaml = Vec::new();
    schema::write_yaml(ty, &typed, &mut yaml);
    let again = schema::decode_yaml(ty, &yaml)
        .unwrap_or_else(|error| panic!("{name}: {error}\n{}", String::from_utf8_lossy(&yaml)));
    assert_eq!(again.value, typed, "{name}: yaml");
}

#[test]
fn every_field_of_every_kind() {
    let kinds = kinds();
    assert!(kinds.len() > 300, "{} kinds", kinds.len());
    for ty in kinds {
        // Lists of kinds repeat what the kinds show.
        if !ty.is_list() {
            check(
                ty,
                &object(
                    ty,
                    Fill::Everything,
                    &mut Chance::new(u64::from(0x9e37_79b9u32)),
                ),
            );
        }
    }
}

#[test]
fn random_parts_of_every_kind() {
    let mut random = Chance::new(42);
    for ty in kinds() {
        for chance in [1usize, 2, 3, 8].iter().skip(1).chain(&[1000]) {
            check(ty, &object(ty, Fill::OneIn(*chance), &mut random));
        }
    }
}

#[test]
fn completing_twice_changes_nothing() {
    let mut random = Chance::new(7);
    for ty in kinds() {
        let once = schema::complete(ty, object(ty, Fill::OneIn(3), &mut random))
            .unwrap()
            .value;
        let twice = schema::complete(ty, once.clone()).unwrap();
        assert_eq!(
            (twice.value, twice.complaints.len()),
            (once.clone(), 0),
            "{}",
            ty.openapi_name()
        );
        let written = schema::complete(ty, schema::as_written(ty, &once))
            .unwrap()
            .value;
        assert_eq!(written, once, "{}", ty.openapi_name());
    }
}

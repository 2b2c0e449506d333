//! Chance and mutated bytes into every decoder: errors are fine, panics are not, and what is accepted round-trips.

mod common;

use common::{Chance, Fill, is_object, object};
use schema::{FieldReader, JsonOptions, TypeId};

const ROUNDS_PER_KIND: usize = 12;

fn mutate(bytes: &[u8], random: &mut Chance) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(4) {
        if out.is_empty() {
            out.push(random.draw() as u8);
        }
        let at = random.below(out.len());
        match random.below(5) {
            0 => out[at] = random.draw() as u8,
            1 => out[at] ^= 1 << random.below(8),
            2 => out.truncate(at),
            3 => out.insert(at, random.draw() as u8),
            _ => {
                let piece = out[at..out.len().min(at + random.below(32))].to_vec();
                let to = random.below(out.len());
                out.splice(to..to, piece);
            }
        }
    }
    out
}

fn feed_protobuf(ty: TypeId, bytes: &[u8]) {
    let mut out = Vec::new();
    let _ = schema::protobuf_to_json(
        ty,
        bytes,
        JsonOptions {
            type_meta: None,
            resource_version: Some("1"),
        },
        &mut out,
    );
    schema::splice_resource_version(bytes, "7", &mut out);
    let _ = schema::envelope::unwrap(bytes);
    let _ = schema::envelope::watch_event(bytes);
    for path in ["metadata.name", "metadata.creationTimestamp"] {
        if let Some(reader) = FieldReader::compile(ty, path) {
            let _ = reader.read_str(bytes);
        }
    }
    schema::read_map(ty, "metadata.labels", bytes, |_, _| {});
    schema::read_labels(bytes, |_, _| {});
    if let Ok(value) = schema::decode_protobuf(ty, bytes) {
        let mut encoded = Vec::new();
        schema::encode_protobuf(ty, &value, &mut encoded).expect("what was decoded can be encoded");
        let again = schema::decode_protobuf(ty, &encoded).expect("what was encoded can be decoded");
        assert_eq!(again, value, "{}", ty.openapi_name());
        let (mut tree, mut streamed) = (Vec::new(), Vec::new());
        schema::write_json(ty, &value, &mut tree);
        schema::protobuf_to_json(ty, &encoded, JsonOptions::default(), &mut streamed)
            .expect("canonical bytes stream");
        assert_eq!(
            String::from_utf8_lossy(&streamed),
            String::from_utf8_lossy(&tree),
            "{}",
            ty.openapi_name()
        );
    }
}

fn feed_text(ty: TypeId, bytes: &[u8]) {
    if let Ok(decoded) = schema::decode_json(ty, bytes) {
        let mut encoded = Vec::new();
        schema::encode_protobuf(ty, &decoded.value, &mut encoded)
            .expect("a typed tree can be encoded");
    }
    let _ = schema::peek_type_meta_json(bytes);
}

#[test]
fn mutated_protobuf() {
    let mut random = Chance::new(1);
    for ty in schema::types().filter(|ty| is_object(*ty)) {
        let mut bytes = Vec::new();
        let value = schema::complete(ty, object(ty, Fill::OneIn(3), &mut random))
            .unwrap()
            .value;
        schema::encode_protobuf(ty, &value, &mut bytes).unwrap();
        for _ in 0..ROUNDS_PER_KIND {
            feed_protobuf(ty, &mutate(&bytes, &mut random));
        }
        let noise: Vec<u8> = (0..64).map(|_| random.draw() as u8).collect();
        feed_protobuf(ty, &noise);
    }
}

#[test]
fn mutated_json_and_yaml() {
    let mut random = Chance::new(2);
    for (index, ty) in schema::types().filter(|ty| is_object(*ty)).enumerate() {
        let (mut json, mut yaml) = (Vec::new(), Vec::new());
        let value = schema::complete(ty, object(ty, Fill::OneIn(4), &mut random))
            .unwrap()
            .value;
        schema::write_json(ty, &value, &mut json);
        schema::write_yaml(ty, &value, &mut yaml);
        for _ in 0..ROUNDS_PER_KIND {
            feed_text(ty, &mutate(&json, &mut random));
        }
        if index % 4 == 0 {
            let _ = schema::decode_yaml(ty, &mutate(&yaml, &mut random));
        }
    }
}

#[test]
fn mutated_patches() {
    let mut random = Chance::new(3);
    let ty = schema::kind_type("v1", "Pod").unwrap();
    let original = schema::complete(ty, object(ty, Fill::OneIn(3), &mut random))
        .unwrap()
        .value;
    let seeds = [
        r#"{"spec":{"$setElementOrder/containers":[{"name":"text"},{"name":"b"}],"containers":[{"name":"b","$patch":"delete"},{"name":"text","env":[{"$patch":"replace"}]}]}}"#,
        r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["text"],"labels":{"$patch":"replace","a":null}},"spec":{"$retainKeys":["containers"],"containers":[]}}"#,
    ];
    for _ in 0..2_000 {
        let patch = mutate(seeds[random.below(2)].as_bytes(), &mut random);
        if let Ok(patch) = schema::parse_json(&patch) {
            if let Ok(merged) = schema::strategic_merge(ty, original.clone(), patch.clone()) {
                let _ = schema::complete(ty, merged);
            }
            let mut value = original.clone();
            schema::merge_patch(&mut value, &patch);
            let _ = schema::complete(ty, value);
        }
    }
}

#[test]
fn depth_is_bounded_everywhere() {
    let crd = schema::kind_type("apiextensions.k8s.io/v1", "CustomResourceDefinition").unwrap();
    let open = r#"{"properties":{"a":"#.repeat(5_000);
    let body = format!(r#"{{"spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{open}"#);
    assert_eq!(
        schema::decode_json(crd, body.as_bytes()),
        Err(schema::DecodeError::TooDeep)
    );
    // `not` within `not`, 1,000 deep, as protobuf: field 28 of a schema, length-delimited.
    let mut message = Vec::new();
    for _ in 0..1_000 {
        let mut outer = vec![0xe2, 0x01];
        let mut length = message.len();
        while length >= 0x80 {
            outer.push((length as u8) | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend_from_slice(&message);
        message = outer;
    }
    let schema_type = schema::types()
        .find(|ty| ty.name() == "JSONSchemaProps")
        .unwrap();
    assert_eq!(
        schema::decode_protobuf(schema_type, &message),
        Err(schema::DecodeError::TooDeep)
    );
    let streamed = schema::protobuf_to_json(
        schema_type,
        &message,
        JsonOptions::default(),
        &mut Vec::new(),
    );
    assert_eq!(streamed, Err(schema::DecodeError::TooDeep));
    let mut nested = value::json!(1);
    for _ in 0..1_000 {
        nested = value::json!([nested]);
    }
    let revision = schema::kind_type("apps/v1", "ControllerRevision").unwrap();
    assert_eq!(
        schema::complete(revision, value::json!({"data": nested})),
        Err(schema::DecodeError::TooDeep)
    );
}

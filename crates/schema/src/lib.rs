//! The Kubernetes API as data, and one engine over it: JSON, YAML and protobuf, patches, defaults and versions.
//!
//! There is no Rust struct per kind. A table of types and fields (`table.txt`, made by `cargo xtask codegen`) says what
//! an object looks like; everything here walks that table. An object is a tree of [`Value`]s with `apiVersion` and `kind`
//! at the top; a *typed* tree holds exactly what protobuf can hold: no nulls, no empty lists or maps, and no plain
//! (non-pointer) field that equals its zero value. So objects of equal meaning are equal trees and equal bytes.
//!
//! What this deliberately does not know: programmatic defaults, validation, what a client may change, HTTP, storage.

mod convert;
mod decode;
mod defaults;
mod encode;
pub mod envelope;
mod error;
mod fields;
mod fieldset;
mod json;
mod merge;
mod normalize;
mod print;
mod reader;
mod resources;
mod special;
mod table;
mod transcode;
mod typemeta;
pub mod wire;
mod write;
mod yaml;

pub use convert::convert;
pub use defaults::apply_declared_defaults;
pub use error::{ConvertError, DecodeError, EncodeError, PatchError};
pub use fields::{FieldInfo, FieldType, field, fields, types};
pub use fieldset::FieldSet;
pub use json::indent as indent_json;
pub use merge::{merge_patch, strategic_merge};
pub use print::print_without;
pub use reader::{FieldReader, Spliced, read_labels, read_map, splice_resource_version};
pub use resources::{Resource, StorageRef, Subresource, resource, resource_for_kind, resources};
pub use table::TypeId;
pub use typemeta::{peek_type_meta_json, peek_type_meta_yaml};
pub use value::Value;

use table::table;

/// How deep objects may nest. Real ones stay below 60 (nested schemas of custom resources are the deepest); each level
/// costs a few hundred bytes of stack, so the deepest document stays far below a thread's smallest stack.
pub const MAX_DEPTH: usize = 200;

/// How many unknown and duplicate fields are reported at most, as upstream does.
pub const MAX_COMPLAINTS: usize = 100;

/// What to do with unknown and duplicate fields of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// Refuse the request.
    Strict,
    /// Drop them and warn.
    Warn,
    /// Drop them silently.
    Ignore,
}

/// A typed tree, and what was dropped to make it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The typed tree.
    pub value: Value,
    /// Unknown and duplicate fields in upstream's words, e.g. `unknown field "spec.foo"`.
    pub complaints: Vec<String>,
}

/// What to add while writing JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonOptions<'a> {
    /// API version and kind to write first.
    pub type_meta: Option<(&'a str, &'a str)>,
    /// Replaces `metadata.resourceVersion`.
    pub resource_version: Option<&'a str>,
}

/// The type of a built-in kind, its List kinds, and the kinds every group-version has (DeleteOptions, Status, ...).
pub fn kind_type(api_version: &str, kind: &str) -> Option<TypeId> {
    table().kind_type(api_version, kind)
}

/// Reads a JSON object: names and types are checked, values brought into canonical form.
pub fn decode_json(ty: TypeId, body: &[u8]) -> Result<Decoded, DecodeError> {
    let parsed = json::parse(body)?;
    let mut decoded = complete(ty, parsed.value)?;
    if parsed.duplicates || decoded.complaints.len() > 1 {
        decoded.complaints = normalize::complaints_in_order(table(), ty, body);
    }
    Ok(decoded)
}

/// Makes a typed tree of a raw JSON tree, as after a patch.
pub fn complete(ty: TypeId, mut value: Value) -> Result<Decoded, DecodeError> {
    let mut normalizer = normalize::Normalizer::new(table());
    normalizer.object(ty, &mut value)?;
    Ok(Decoded {
        value,
        complaints: normalizer.complaints,
    })
}

/// Parses any JSON text into a raw tree, with the same bounds as [`decode_json`]: for custom resources and patches.
pub fn parse_json(body: &[u8]) -> Result<Value, DecodeError> {
    json::parse(body).map(|parsed| parsed.value)
}

/// Reads an untrusted protobuf message into a typed tree. `apiVersion` and `kind` are not in it; the caller adds them.
pub fn decode_protobuf(ty: TypeId, message: &[u8]) -> Result<Value, DecodeError> {
    decode::object(table(), ty, message, None)
}

/// The same for some of its fields only. What is left out is stepped over, checked no further than that takes.
pub fn decode_protobuf_fields(
    ty: TypeId,
    fields: &FieldSet,
    message: &[u8],
) -> Result<Value, DecodeError> {
    decode::object(table(), ty, message, Some(fields))
}

/// Appends a typed tree as protobuf: deterministic, and the same bytes upstream's encoder writes (plain fields are
/// always there, zero or not). `apiVersion` and `kind` are left to the envelope.
pub fn encode_protobuf(ty: TypeId, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode::Encoder {
        table: table(),
        drop_resource_version: false,
    }
    .object(ty, value, out)
}

/// As [`encode_protobuf`], for the store: `metadata.resourceVersion` is left empty.
pub fn encode_stored(ty: TypeId, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    encode::Encoder {
        table: table(),
        drop_resource_version: true,
    }
    .object(ty, value, out)
}

/// Appends a typed tree as compact JSON in struct field order, with Go's rules for what is left out.
pub fn write_json(ty: TypeId, value: &Value, out: &mut Vec<u8>) {
    write::object(table(), ty, value, out);
}

/// Appends any tree as compact JSON, keys sorted, escaped as Go's encoder does: for custom resources.
pub fn write_json_value(value: &Value, out: &mut Vec<u8>) {
    json::write_value(value, json::Html::Escape, out);
}

/// The tree that [`write_json`] shows: with the zero values JSON clients see. JSON patches apply to this.
pub fn as_written(ty: TypeId, value: &Value) -> Value {
    let mut out = Vec::new();
    write_json(ty, value, &mut out);
    // What we wrote we can read; should it not be so, the tree itself is the next best thing.
    json::parse(&out).map_or_else(|_| value.clone(), |parsed| parsed.value)
}

/// Appends a protobuf message as JSON without building a tree. After an error `out` holds the part written so far.
pub fn protobuf_to_json(
    ty: TypeId,
    message: &[u8],
    options: JsonOptions<'_>,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    transcode::Transcoder::new(table(), options.resource_version).object(
        ty,
        message,
        options.type_meta,
        out,
    )
}

/// Reads one YAML document as [`decode_json`] reads JSON. Strings that look like other types must be quoted.
pub fn decode_yaml(ty: TypeId, body: &[u8]) -> Result<Decoded, DecodeError> {
    let parsed = yaml::parse_with_complaint(body)?;
    let mut decoded = complete(ty, parsed.value)?;
    decoded.complaints.extend(parsed.complaint);
    Ok(decoded)
}

/// Parses any single YAML document into a raw tree, bounded: for custom resources and patches.
pub fn parse_yaml(body: &[u8]) -> Result<Value, DecodeError> {
    yaml::parse(body)
}

/// Appends a typed tree as YAML with sorted keys.
pub fn write_yaml(ty: TypeId, value: &Value, out: &mut Vec<u8>) {
    yaml::write(&as_written(ty, value), out);
}

/// Appends any tree as YAML with sorted keys: for custom resources.
pub fn write_yaml_value(value: &Value, out: &mut Vec<u8>) {
    yaml::write(value, out);
}

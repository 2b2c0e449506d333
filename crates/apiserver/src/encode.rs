//! Objects into reply bodies: media type, Table, PartialObjectMetadata, pretty JSON.

use bytes::Bytes;
use meta::{ApiError, Value};
use rest::http::Reply;
use rest::negotiate::{MediaType, Output, Transform};
use schema::JsonOptions;

use crate::state::{Served, now_micros};

/// A stored object as it goes to a client: the bytes, and the version they stand for.
#[derive(Debug, Clone)]
pub struct Item {
    /// Protobuf as stored.
    pub message: Bytes,
    /// `resourceVersion`; 0 for an object that was not stored (dry run of a create).
    pub revision: i64,
}

impl Item {
    fn version(&self) -> Option<String> {
        (self.revision > 0).then(|| self.revision.to_string())
    }
}

/// A reply with one object of a served resource.
pub fn object_reply(
    status: u16,
    served: &Served,
    item: &Item,
    output: &Output,
    include: rest::table::IncludeObject,
) -> Result<Reply, ApiError> {
    // Protobuf grows by the envelope and the version, other forms by their field names.
    let room = match output.media {
        MediaType::Protobuf => item.message.len() + 96,
        _ => item.message.len() * 2 + 256,
    };
    let mut body = Vec::with_capacity(room);
    object(served, item, output, include, &mut body)?;
    Ok(Reply::full(status, output.content_type(), body))
}

/// Writes one object in the wanted form.
pub fn object(
    served: &Served,
    item: &Item,
    output: &Output,
    include: rest::table::IncludeObject,
    out: &mut Vec<u8>,
) -> Result<(), ApiError> {
    if output.transform != Transform::None {
        let decoded = served.decode(&item.message, kv::Revision(item.revision))?;
        let transformed = match output.transform {
            Transform::Table => {
                let resource = served.resource;
                rest::table::object_table(
                    resource.group,
                    resource.kind,
                    &decoded,
                    include,
                    true,
                    now_micros(),
                )
            }
            _ => rest::table::partial_object_metadata(&decoded),
        };
        return value(transformed, output, out);
    }
    let version = item.version();
    if served.is_direct() {
        match output.media {
            MediaType::Protobuf => return protobuf(served, &item.message, version.as_deref(), out),
            MediaType::Json if !output.pretty => {
                return json(served, &item.message, version.as_deref(), true, out);
            }
            _ => {}
        }
    }
    let decoded = served.decode(&item.message, kv::Revision(item.revision))?;
    value(decoded, output, out)
}

/// Stored bytes as JSON, without a tree in between. `type_meta`: list items go without kind and apiVersion.
pub fn json(
    served: &Served,
    message: &[u8],
    resource_version: Option<&str>,
    type_meta: bool,
    out: &mut Vec<u8>,
) -> Result<(), ApiError> {
    let options = JsonOptions {
        type_meta: type_meta.then_some((served.api_version(), served.resource.kind)),
        resource_version,
    };
    schema::protobuf_to_json(served.resource.type_id, message, options, out).map_err(|error| {
        ApiError::internal(format!(
            "a stored {} cannot be decoded: {error}",
            served.resource.kind
        ))
    })
}

fn protobuf(
    served: &Served,
    message: &[u8],
    resource_version: Option<&str>,
    out: &mut Vec<u8>,
) -> Result<(), ApiError> {
    let (api_version, kind) = (served.api_version(), served.resource.kind);
    match resource_version {
        Some(version) => {
            let spliced = schema::Spliced::new(message, version);
            out.reserve(schema::envelope::wrapped_len(
                api_version,
                kind,
                spliced.len(),
            ));
            schema::envelope::wrap_open(api_version, kind, spliced.len(), out);
            spliced.write(out);
            schema::envelope::wrap_close(out);
        }
        None => schema::envelope::wrap(api_version, kind, message, out),
    }
    Ok(())
}

/// A reply with an object that is not stored: a Scale, a review, a Status, a Table.
pub fn value_reply(status: u16, object: Value, output: &Output) -> Result<Reply, ApiError> {
    let mut body = Vec::with_capacity(1024);
    value(object, output, &mut body)?;
    Ok(Reply::full(status, output.content_type(), body))
}

/// Writes an object tree in the wanted media type. Kinds outside the schema (Table) have no
/// protobuf form.
pub fn value(object: Value, output: &Output, out: &mut Vec<u8>) -> Result<(), ApiError> {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or_default();
    let type_id = schema::kind_type(api_version, kind);
    let mut compact = Vec::new();
    match (output.media, type_id) {
        (MediaType::Protobuf, Some(type_id)) => {
            schema::encode_protobuf(type_id, &object, &mut compact)
                .map_err(|error| ApiError::internal(format!("cannot encode {kind}: {error}")))?;
            schema::envelope::wrap(api_version, kind, &compact, out);
            return Ok(());
        }
        (MediaType::Protobuf, None) => {
            return Err(ApiError::not_acceptable(format!(
                "only the following media types are accepted: {}, {}",
                rest::negotiate::JSON,
                rest::negotiate::YAML
            )));
        }
        (MediaType::Yaml, Some(type_id)) => {
            schema::write_yaml(type_id, &object, out);
            return Ok(());
        }
        (MediaType::Yaml, None) => {
            schema::write_yaml_value(&object, out);
            return Ok(());
        }
        (MediaType::Json, None) => schema::write_json_value(&object, &mut compact),
        (MediaType::Json, Some(type_id)) => schema::write_json(type_id, &object, &mut compact),
    }
    if output.pretty {
        schema::indent_json(&compact, out);
    } else {
        out.extend_from_slice(&compact);
    }
    Ok(())
}

//! The part of its objects that a consumer reads: the rest is stepped over, not decoded.
//!
//! Does not know what the consumer makes of it.

use meta::Value;
use schema::{DecodeError, FieldSet, Resource, TypeId};

/// What every consumer needs to tell objects apart.
const IDENTITY: [&str; 4] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.resourceVersion",
];

/// Fields of a kind, in its objects and in its lists.
#[derive(Debug, Clone)]
pub struct Only {
    pub(crate) object_type: TypeId,
    pub(crate) object: FieldSet,
    pub(crate) list: FieldSet,
}

impl Only {
    /// Resolves paths of JSON names, lists on the way are gone through; identity and version are always read. `None`:
    /// the kind has no such field.
    #[must_use]
    pub fn new(resource: &Resource, paths: &[&str]) -> Option<Only> {
        let paths = || paths.iter().chain(&IDENTITY).copied();
        let api_version = meta::api_version(resource.group, resource.version);
        let list_type = schema::kind_type(&api_version, resource.list_kind)?;
        let of_list: Vec<String> = paths().map(|path| format!("items.{path}")).collect();
        let of_list: Vec<&str> = of_list
            .iter()
            .map(String::as_str)
            .chain(["metadata"])
            .collect();
        Some(Only {
            object_type: resource.type_id,
            object: FieldSet::compile(resource.type_id, &paths().collect::<Vec<_>>())?,
            list: FieldSet::compile(list_type, &of_list)?,
        })
    }

    /// Decodes the message of one object of the kind.
    ///
    /// # Errors
    /// The message is broken where it is read.
    pub fn decode(&self, message: &[u8]) -> Result<Value, DecodeError> {
        schema::decode_protobuf_fields(self.object_type, &self.object, message)
    }
}

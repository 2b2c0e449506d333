//! Reads the resourceVersion out of replies, and nothing else of them.

use schema::{FieldReader, Resource};

/// Readers for the kinds whose replies the fleet looks at.
pub(crate) struct Versions(Vec<(schema::TypeId, FieldReader)>);

impl Default for Versions {
    fn default() -> Versions {
        let kinds = [
            ("", "pods"),
            ("", "nodes"),
            ("coordination.k8s.io", "leases"),
        ];
        let readers = kinds.into_iter().filter_map(|(group, name)| {
            let type_id = crate::resource(group, name).type_id;
            Some((
                type_id,
                FieldReader::compile(type_id, "metadata.resourceVersion")?,
            ))
        });
        Versions(readers.collect())
    }
}

impl Versions {
    /// The version in a reply in protobuf or JSON.
    pub(crate) fn read(&self, resource: &Resource, reply: &[u8]) -> Option<String> {
        let Ok(unknown) = schema::envelope::unwrap(reply) else {
            // A server that answers JSON though protobuf was asked for first.
            let object: value::Value = serde_json::from_slice(reply).ok()?;
            return object["metadata"]["resourceVersion"]
                .as_str()
                .map(str::to_owned);
        };
        let (_, reader) = self
            .0
            .iter()
            .find(|(type_id, _)| *type_id == resource.type_id)?;
        reader
            .read_str(unknown.raw)
            .map(std::borrow::Cow::into_owned)
    }
}

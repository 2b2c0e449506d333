//! Reads uid and resourceVersion out of replies, and nothing else of them.

use schema::{FieldReader, Resource, TypeId};

/// Readers for the kinds whose replies the fleet looks at.
pub(crate) struct Replies(Vec<Readers>);

struct Readers {
    type_id: TypeId,
    version: FieldReader,
    uid: FieldReader,
}

impl Default for Replies {
    fn default() -> Replies {
        let kinds = [
            ("", "pods"),
            ("", "nodes"),
            ("coordination.k8s.io", "leases"),
        ];
        let readers = kinds.into_iter().filter_map(|(group, name)| {
            let type_id = crate::resource(group, name).type_id;
            Some(Readers {
                type_id,
                version: FieldReader::compile(type_id, "metadata.resourceVersion")?,
                uid: FieldReader::compile(type_id, "metadata.uid")?,
            })
        });
        Replies(readers.collect())
    }
}

impl Replies {
    /// The version in a reply in protobuf or JSON, if it is a number.
    pub(crate) fn version(&self, resource: &Resource, reply: &[u8]) -> Option<u64> {
        let version = self.read(resource, reply, "resourceVersion", |of| &of.version);
        version?.parse().ok()
    }

    /// The uid in a reply in protobuf or JSON.
    pub(crate) fn uid(&self, resource: &Resource, reply: &[u8]) -> Option<String> {
        self.read(resource, reply, "uid", |of| &of.uid)
    }

    fn read(
        &self,
        resource: &Resource,
        reply: &[u8],
        name: &str,
        reader: impl Fn(&Readers) -> &FieldReader,
    ) -> Option<String> {
        let Ok(unknown) = schema::envelope::unwrap(reply) else {
            // A server that answers JSON though protobuf was asked for first.
            let object: value::Value = serde_json::from_slice(reply).ok()?;
            return object["metadata"][name].as_str().map(str::to_owned);
        };
        let readers = self
            .0
            .iter()
            .find(|readers| readers.type_id == resource.type_id)?;
        reader(readers)
            .read_str(unknown.raw)
            .map(std::borrow::Cow::into_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn both_are_read_from_protobuf_and_from_json() {
        let nodes = crate::resource("", "nodes");
        let node = json!({"metadata": {"name": "n", "uid": "u-1", "resourceVersion": "77"}});
        let mut message = Vec::new();
        schema::encode_protobuf(nodes.type_id, &node, &mut message).unwrap();
        let mut body = Vec::new();
        schema::envelope::wrap("v1", "Node", &message, &mut body);
        let replies = Replies::default();
        for reply in [body, node.to_string().into_bytes()] {
            assert_eq!(replies.version(nodes, &reply), Some(77));
            assert_eq!(replies.uid(nodes, &reply).as_deref(), Some("u-1"));
        }
    }
}

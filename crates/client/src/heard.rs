//! An event of a watch before anything of its object is decoded: from a frame, or as it is stored.
//!
//! Most of what informers are told can be judged by a few fields, or by none. Does not know who judges.

use std::borrow::Cow;

use meta::Value;
use rest::http::Told;
use schema::{FieldReader, Resource, envelope};

use crate::watch::decode_event;
use crate::{ClientError, Only, WatchEvent};

/// An object that appeared, changed or went.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub(crate) kind: &'a str,
    /// The object's message, with its resourceVersion or without.
    pub(crate) message: &'a [u8],
    /// Its resourceVersion.
    pub(crate) version: Cow<'a, str>,
}

impl Event<'_> {
    /// Whether the object is no longer there.
    pub(crate) fn is_gone(&self) -> bool {
        self.kind == "DELETED"
    }
}

/// Reads events of one resource.
pub(crate) struct Hearing {
    resource: &'static Resource,
    api_version: String,
    name: FieldReader,
    namespace: FieldReader,
    version: FieldReader,
}

impl Hearing {
    pub(crate) fn of(resource: &'static Resource) -> Option<Hearing> {
        let reader = |path| FieldReader::compile(resource.type_id, path);
        Some(Hearing {
            resource,
            api_version: meta::api_version(resource.group, resource.version),
            name: reader("metadata.name")?,
            namespace: reader("metadata.namespace")?,
            version: reader("metadata.resourceVersion")?,
        })
    }

    /// The event, if it is about an object of the resource. `None`: it has to be decoded to be understood.
    pub(crate) fn event<'a>(&self, told: &'a Told) -> Option<Event<'a>> {
        let frame = match told {
            Told::Piece(frame) => frame,
            Told::Object {
                event,
                message,
                revision,
            } => {
                return Some(Event {
                    kind: event.as_str(),
                    message,
                    version: revision.to_string().into(),
                });
            }
        };
        let (kind, object) = envelope::watch_event(frame).ok()?;
        let unknown = envelope::unwrap(object).ok()?;
        let is_ours =
            (unknown.api_version, unknown.kind) == (&*self.api_version, self.resource.kind);
        let is_change = matches!(kind, "ADDED" | "MODIFIED" | "DELETED");
        let version = self.version.read_str(unknown.raw)?;
        (is_ours && is_change).then_some(Event {
            kind,
            message: unknown.raw,
            version,
        })
    }

    /// `namespace/name` of the object, or its name.
    pub(crate) fn key(&self, event: &Event<'_>) -> Option<String> {
        let name = self.name.read_str(event.message)?;
        let Some(namespace) = self.namespace.read_str(event.message) else {
            return Some(name.into_owned());
        };
        let mut key = String::with_capacity(namespace.len() + 1 + name.len());
        key.push_str(&namespace);
        key.push('/');
        key.push_str(&name);
        Some(key)
    }

    /// Decodes what was told; of its object, what is wanted.
    pub(crate) fn decode(
        &self,
        told: &Told,
        only: Option<&Only>,
    ) -> Result<WatchEvent, ClientError> {
        let (event, message, revision) = match told {
            Told::Piece(frame) => return decode_event(frame, only),
            Told::Object {
                event,
                message,
                revision,
            } => (event, message, revision),
        };
        let type_id = self.resource.type_id;
        let decoded = match only {
            Some(only) if only.object_type == type_id => only.decode(message),
            _ => schema::decode_protobuf(type_id, message),
        };
        let mut object: Value = decoded.map_err(|error| {
            ClientError::Transport(format!("a stored object cannot be read: {error}"))
        })?;
        object["apiVersion"] = self.api_version.as_str().into();
        object["kind"] = self.resource.kind.into();
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        Ok(match event.as_str() {
            "ADDED" => WatchEvent::Added(object),
            "MODIFIED" => WatchEvent::Modified(object),
            _ => WatchEvent::Deleted(object),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rest::watch_frame::EventType;
    use schema::wire::put_bytes;
    use value::json;

    const KINDS: [EventType; 3] = [EventType::Added, EventType::Modified, EventType::Deleted];

    fn pod(version: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod",
               "metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": version},
               "spec": {"nodeName": "n"}})
    }

    fn frame(event: EventType, pod: &Value) -> Vec<u8> {
        let type_id = schema::kind_type("v1", "Pod").unwrap();
        let [mut message, mut body, mut raw, mut frame] = [const { Vec::new() }; 4];
        schema::encode_protobuf(type_id, pod, &mut message).unwrap();
        envelope::wrap("v1", "Pod", &message, &mut body);
        put_bytes(1, event.as_str().as_bytes(), &mut frame);
        put_bytes(1, &body, &mut raw);
        put_bytes(2, &raw, &mut frame);
        frame
    }

    fn hearing() -> Hearing {
        Hearing::of(schema::resource("", "v1", "pods").unwrap()).unwrap()
    }

    #[test]
    fn a_frame_and_what_is_stored_say_the_same() {
        let hearing = hearing();
        for event in KINDS {
            let mut message = Vec::new();
            let type_id = schema::kind_type("v1", "Pod").unwrap();
            schema::encode_stored(type_id, &pod("7"), &mut message).unwrap();
            let stored = Told::Object {
                event,
                message: message.into(),
                revision: 7,
            };
            let framed = Told::Piece(frame(event, &pod("7")).into());
            let only = Only::new(hearing.resource, &["spec.nodeName"]).unwrap();
            for told in [&stored, &framed] {
                let heard = hearing.event(told).unwrap();
                assert_eq!((heard.kind, &*heard.version), (event.as_str(), "7"));
                assert_eq!(hearing.key(&heard).unwrap(), "d/p");
            }
            for only in [None, Some(&only)] {
                let decoded = |told| format!("{:?}", hearing.decode(told, only).unwrap());
                assert_eq!(decoded(&stored), decoded(&framed));
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_to_be_decoded() {
        let hearing = hearing();
        let whole = frame(EventType::Added, &pod("7"));
        for end in 0..whole.len() {
            let cut = Told::Piece(whole[..end].to_vec().into());
            assert!(hearing.event(&cut).is_none(), "cut at {end}");
        }
        let json = Told::Piece(br#"{"type":"MODIFIED"}"#.to_vec().into());
        assert!(hearing.event(&json).is_none());
        let bookmark = Told::Piece(frame(EventType::Bookmark, &pod("7")).into());
        assert!(hearing.event(&bookmark).is_none());
    }
}

//! Watch frames: one event, laid out for the wire.
//!
//! JSON frames are `{"type","object"}` on a line. Protobuf frames are a big-endian length of four bytes and a bare
//! `WatchEvent` message (the stream serializer of the API has no envelope) whose object is a whole envelope.
//! Knows no streams and no watchers: a frame is bytes that anyone may share.

use meta::ApiError;
use schema::{JsonOptions, TypeId};
use value::{Value, json};

use crate::negotiate::MediaType;
use crate::wire;

/// The annotation on the bookmark that ends the initial state of a watch.
pub const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

impl EventType {
    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
            EventType::Bookmark => "BOOKMARK",
            EventType::Error => "ERROR",
        }
    }
}

/// Lays out the events of one kind in one encoding.
#[derive(Debug, Clone, Copy)]
pub struct FrameWriter<'a> {
    media: MediaType,
    api_version: &'a str,
    kind: &'a str,
    object_type: TypeId,
}

impl<'a> FrameWriter<'a> {
    /// For objects of a kind. YAML has no streams and is written as JSON.
    #[must_use]
    pub fn new(
        media: MediaType,
        api_version: &'a str,
        kind: &'a str,
        object_type: TypeId,
    ) -> FrameWriter<'a> {
        FrameWriter {
            media,
            api_version,
            kind,
            object_type,
        }
    }

    /// Appends the frame of a stored object.
    ///
    /// # Errors
    /// 500 if the stored bytes are not a message of the kind. Nothing is appended then.
    pub fn object(
        &self,
        event: EventType,
        message: &[u8],
        resource_version: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        if self.media == MediaType::Protobuf {
            let mut spliced = Vec::with_capacity(message.len() + 32);
            schema::splice_resource_version(message, resource_version, &mut spliced);
            self.protobuf(event, self.api_version, self.kind, &spliced, out);
            return Ok(());
        }
        let start = out.len();
        open_json(event, out);
        let options = JsonOptions {
            type_meta: Some((self.api_version, self.kind)),
            resource_version: Some(resource_version),
        };
        if let Err(error) = schema::protobuf_to_json(self.object_type, message, options, out) {
            out.truncate(start);
            return Err(ApiError::internal(format!(
                "a stored object cannot be read: {error}"
            )));
        }
        close_json(out);
        Ok(())
    }

    /// Appends a bookmark: everything up to `resource_version` has been sent.
    pub fn bookmark(&self, resource_version: &str, initial_events_end: bool, out: &mut Vec<u8>) {
        if self.media == MediaType::Protobuf {
            let mut metadata = Vec::new();
            wire::put_field(6, resource_version.as_bytes(), &mut metadata);
            if initial_events_end {
                let mut annotation = Vec::new();
                wire::put_field(1, INITIAL_EVENTS_END.as_bytes(), &mut annotation);
                wire::put_field(2, b"true", &mut annotation);
                wire::put_field(12, &annotation, &mut metadata);
            }
            let mut message = Vec::new();
            wire::put_field(1, &metadata, &mut message);
            self.protobuf(
                EventType::Bookmark,
                self.api_version,
                self.kind,
                &message,
                out,
            );
            return;
        }
        let mut metadata = json!({ "resourceVersion": resource_version });
        if initial_events_end {
            metadata["annotations"] = json!({ INITIAL_EVENTS_END: "true" });
        }
        let object =
            json!({ "kind": self.kind, "apiVersion": self.api_version, "metadata": metadata });
        json_tree(EventType::Bookmark, &object, out);
    }

    /// Appends an error, the last frame of a stream.
    pub fn error(&self, error: &ApiError, out: &mut Vec<u8>) {
        let status = error.to_status();
        if self.media == MediaType::Protobuf
            && let Some(ty) = schema::kind_type("v1", "Status")
        {
            let mut message = Vec::new();
            if schema::encode_protobuf(ty, &status, &mut message).is_ok() {
                self.protobuf(EventType::Error, "v1", "Status", &message, out);
                return;
            }
        }
        json_tree(EventType::Error, &status, out);
    }

    fn protobuf(
        &self,
        event: EventType,
        api_version: &str,
        kind: &str,
        message: &[u8],
        out: &mut Vec<u8>,
    ) {
        let object = schema::envelope::wrapped_len(api_version, kind, message.len());
        let raw_extension = wire::field_len(object);
        let frame = wire::field_len(event.as_str().len()) + wire::field_len(raw_extension);
        out.reserve(4 + frame);
        // A frame of 4 GiB cannot come from objects of a few MiB.
        out.extend_from_slice(&u32::try_from(frame).unwrap_or(u32::MAX).to_be_bytes());
        wire::put_field(1, event.as_str().as_bytes(), out);
        wire::open_field(2, raw_extension, out);
        wire::open_field(1, object, out);
        schema::envelope::wrap_open(api_version, kind, message.len(), out);
        out.extend_from_slice(message);
        schema::envelope::wrap_close(out);
    }
}

/// Appends the JSON frame of any tree, such as a Table.
pub fn json_tree(event: EventType, object: &Value, out: &mut Vec<u8>) {
    open_json(event, out);
    out.extend_from_slice(object.to_string().as_bytes());
    close_json(out);
}

fn open_json(event: EventType, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_str().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
}

fn close_json(out: &mut Vec<u8>) {
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(media: MediaType) -> FrameWriter<'static> {
        FrameWriter::new(
            media,
            "v1",
            "ConfigMap",
            schema::kind_type("v1", "ConfigMap").unwrap(),
        )
    }

    fn stored() -> Vec<u8> {
        let mut message = Vec::new();
        let tree = json!({ "metadata": { "name": "a", "namespace": "d" }, "data": { "k": "v" } });
        schema::encode_stored(
            schema::kind_type("v1", "ConfigMap").unwrap(),
            &tree,
            &mut message,
        )
        .unwrap();
        message
    }

    fn text(frame: &[u8]) -> &str {
        std::str::from_utf8(frame).unwrap()
    }

    /// Takes a protobuf frame apart: the event, the object's envelope, the object.
    fn opened(frame: &[u8]) -> (String, String, Value) {
        let (length, event) = frame.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_be_bytes(*length) as usize, event.len());
        // The event itself has no envelope, its object has.
        let (kind, object) = schema::envelope::watch_event(event).unwrap();
        let object = schema::envelope::unwrap(object).unwrap();
        let ty = schema::kind_type(object.api_version, object.kind).unwrap();
        let tree = schema::decode_protobuf(ty, object.raw).unwrap();
        (
            kind.to_owned(),
            format!("{} {}", object.api_version, object.kind),
            tree,
        )
    }

    #[test]
    fn json_frames_are_lines() {
        let mut frame = Vec::new();
        writer(MediaType::Json)
            .object(EventType::Added, &stored(), "12", &mut frame)
            .unwrap();
        assert_eq!(
            text(&frame),
            concat!(
                r#"{"type":"ADDED","object":{"kind":"ConfigMap","apiVersion":"v1","#,
                r#""metadata":{"name":"a","namespace":"d","resourceVersion":"12"},"data":{"k":"v"}}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn protobuf_frames_tell_their_length() {
        let mut frame = Vec::new();
        writer(MediaType::Protobuf)
            .object(EventType::Deleted, &stored(), "12", &mut frame)
            .unwrap();
        let (event, kind, tree) = opened(&frame);
        assert_eq!((event.as_str(), kind.as_str()), ("DELETED", "v1 ConfigMap"));
        assert_eq!(
            (&tree["metadata"]["resourceVersion"], &tree["data"]),
            (&json!("12"), &json!({ "k": "v" }))
        );
    }

    #[test]
    fn bookmarks_carry_a_revision_and_maybe_the_end_of_the_beginning() {
        let mut frame = Vec::new();
        writer(MediaType::Json).bookmark("34", false, &mut frame);
        assert_eq!(
            text(&frame),
            "{\"type\":\"BOOKMARK\",\"object\":{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\
             \"metadata\":{\"resourceVersion\":\"34\"}}}\n"
        );
        frame.clear();
        writer(MediaType::Protobuf).bookmark("34", true, &mut frame);
        let (event, kind, tree) = opened(&frame);
        assert_eq!(
            (event.as_str(), kind.as_str()),
            ("BOOKMARK", "v1 ConfigMap")
        );
        let end = json!({ "resourceVersion": "34", "annotations": { "k8s.io/initial-events-end": "true" } });
        assert_eq!(tree["metadata"], end);
        frame.clear();
        writer(MediaType::Json).bookmark("34", true, &mut frame);
        let frame: Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!(frame["object"]["metadata"], end);
    }

    #[test]
    fn errors_are_statuses() {
        let error = ApiError::expired("too old resource version: 1 (5)");
        let mut frame = Vec::new();
        writer(MediaType::Json).error(&error, &mut frame);
        let tree: Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!(
            (&tree["type"], &tree["object"]["kind"]),
            (&json!("ERROR"), &json!("Status"))
        );
        assert_eq!(
            (&tree["object"]["code"], &tree["object"]["reason"]),
            (&json!(410), &json!("Expired"))
        );
        frame.clear();
        writer(MediaType::Protobuf).error(&error, &mut frame);
        let (event, kind, tree) = opened(&frame);
        assert_eq!((event.as_str(), kind.as_str()), ("ERROR", "v1 Status"));
        assert_eq!(
            (&tree["code"], &tree["message"]),
            (&json!(410), &json!("too old resource version: 1 (5)"))
        );
    }

    #[test]
    fn a_broken_object_leaves_no_trace() {
        let mut frame = b"before".to_vec();
        let error = writer(MediaType::Json)
            .object(EventType::Added, &[0x0a, 0xff], "1", &mut frame)
            .unwrap_err();
        assert_eq!((error.code, frame.as_slice()), (500, &b"before"[..]));
    }

    #[test]
    fn any_tree_can_be_an_object() {
        let mut frame = Vec::new();
        json_tree(EventType::Modified, &json!({ "kind": "Table" }), &mut frame);
        assert_eq!(
            text(&frame),
            "{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"Table\"}}\n"
        );
    }
}

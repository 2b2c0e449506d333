//! List bodies, written piece by piece from stored protobuf items: head, items, tail.
//!
//! A list of any length needs only the buffer of its current piece. Knows no store: who calls brings the items in
//! order, and the revision that they are read at.

use meta::ApiError;
use schema::{JsonOptions, TypeId};

use crate::negotiate::MediaType;
use crate::wire;

/// The field of a list that its items are in.
const ITEMS: u8 = 2;

/// The metadata of a list.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListMeta<'a> {
    /// Revision at which the list is true.
    pub resource_version: &'a str,
    /// Token of the next page; empty on the last one.
    pub continue_token: &'a str,
    /// Items behind this page; `None` if unknown, as with selectors.
    pub remaining_item_count: Option<u64>,
}

/// What the list is of.
#[derive(Debug, Clone, Copy)]
pub struct ListKind<'a> {
    /// `apiVersion` of the list.
    pub api_version: &'a str,
    /// Kind of the list, such as `PodList`.
    pub kind: &'a str,
    /// Type of the items.
    pub item_type: TypeId,
    /// `apiVersion` and kind to write into every JSON item. Typed lists carry none; PartialObjectMetadata does.
    pub item_type_meta: Option<(&'a str, &'a str)>,
}

/// Writes one list.
///
/// A protobuf list tells its length first, so [`ListWriter::measure`] must have seen every item before
/// [`ListWriter::head`]; the other encodings need no measuring.
#[derive(Debug)]
pub struct ListWriter<'a> {
    media: MediaType,
    kind: ListKind<'a>,
    meta_for_tail: String,
    items_written: u64,
    measured_bytes: usize,
    scratch: Vec<u8>,
}

impl<'a> ListWriter<'a> {
    /// A writer of an empty list.
    #[must_use]
    pub fn new(media: MediaType, kind: ListKind<'a>) -> ListWriter<'a> {
        ListWriter {
            media,
            kind,
            meta_for_tail: String::new(),
            items_written: 0,
            measured_bytes: 0,
            scratch: Vec::new(),
        }
    }

    /// A writer that goes on with a list after `items_written` items, for bodies made in pieces. YAML lists cannot be
    /// resumed: their metadata stands behind the items.
    #[must_use]
    pub fn resumed(media: MediaType, kind: ListKind<'a>, items_written: u64) -> ListWriter<'a> {
        ListWriter {
            items_written,
            ..ListWriter::new(media, kind)
        }
    }

    /// Whether every item has to be measured before the head.
    #[must_use]
    pub fn needs_measuring(&self) -> bool {
        self.media == MediaType::Protobuf
    }

    /// Adds the length of an item that [`ListWriter::item`] will be given later.
    pub fn measure(&mut self, message: &[u8], resource_version: &str) {
        if self.needs_measuring() {
            self.measured_bytes += item_len(message, resource_version);
        }
    }

    /// The same for all items together: the sum of their [`item_len`].
    #[must_use]
    pub fn with_measured(self, measured_bytes: usize) -> ListWriter<'a> {
        ListWriter {
            measured_bytes,
            ..self
        }
    }

    /// Appends everything before the items.
    pub fn head(&mut self, meta: &ListMeta<'_>, out: &mut Vec<u8>) {
        let ListKind {
            api_version, kind, ..
        } = self.kind;
        match self.media {
            MediaType::Json => {
                let meta = list_meta(meta);
                out.extend_from_slice(
                    format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{meta},"items":["#).as_bytes(),
                );
            }
            MediaType::Yaml => {
                out.extend_from_slice(format!("apiVersion: {api_version}\n").as_bytes());
                self.meta_for_tail = list_meta_yaml(meta);
            }
            MediaType::Protobuf => {
                let mut metadata = Vec::new();
                wire::put_field(1, b"", &mut metadata);
                wire::put_field(2, meta.resource_version.as_bytes(), &mut metadata);
                wire::put_field(3, meta.continue_token.as_bytes(), &mut metadata);
                if let Some(count) = meta.remaining_item_count {
                    metadata.push(4 << 3);
                    wire::put_varint(usize::try_from(count).unwrap_or(usize::MAX), &mut metadata);
                }
                let length = wire::field_len(metadata.len()) + self.measured_bytes;
                schema::envelope::wrap_open(api_version, kind, length, out);
                wire::put_field(1, &metadata, out);
            }
        }
    }

    /// Appends one item from its stored protobuf.
    ///
    /// # Errors
    /// 500 if the stored bytes are not a message of the item type. Nothing is appended then.
    pub fn item(
        &mut self,
        message: &[u8],
        resource_version: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let start = out.len();
        let written = self.append_item(message, resource_version, out);
        match written {
            Ok(()) => self.items_written += 1,
            Err(_) => out.truncate(start),
        }
        written
    }

    fn append_item(
        &mut self,
        message: &[u8],
        resource_version: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let options = JsonOptions {
            type_meta: self.kind.item_type_meta,
            resource_version: Some(resource_version),
        };
        match self.media {
            MediaType::Json => {
                if self.items_written > 0 {
                    out.push(b',');
                }
                schema::protobuf_to_json(self.kind.item_type, message, options, out)
                    .map_err(|error| unreadable(&error))
            }
            MediaType::Yaml => {
                let mut json = Vec::new();
                schema::protobuf_to_json(self.kind.item_type, message, options, &mut json)
                    .map_err(|error| unreadable(&error))?;
                let tree: value::Value =
                    serde_json::from_slice(&json).map_err(|error| unreadable(&error))?;
                self.scratch.clear();
                schema::write_yaml_value(&tree, &mut self.scratch);
                if self.items_written == 0 {
                    out.extend_from_slice(b"items:\n");
                }
                yaml_list_item(&self.scratch, out);
                Ok(())
            }
            MediaType::Protobuf => {
                let spliced = schema::Spliced::new(message, resource_version);
                wire::open_field(ITEMS, spliced.len(), out);
                spliced.write(out);
                Ok(())
            }
        }
    }

    /// Appends everything behind the items.
    pub fn tail(&mut self, out: &mut Vec<u8>) {
        match self.media {
            MediaType::Json => out.extend_from_slice(b"]}\n"),
            MediaType::Yaml => {
                if self.items_written == 0 {
                    out.extend_from_slice(b"items: []\n");
                }
                out.extend_from_slice(
                    format!("kind: {}\n{}", self.kind.kind, self.meta_for_tail).as_bytes(),
                );
            }
            MediaType::Protobuf => schema::envelope::wrap_close(out),
        }
    }

    /// A whole list at once, for a page that is in memory anyway.
    ///
    /// # Errors
    /// As [`ListWriter::item`].
    pub fn whole<'i>(
        mut self,
        meta: &ListMeta<'_>,
        items: impl Iterator<Item = (&'i [u8], &'i str)> + Clone,
    ) -> Result<Vec<u8>, ApiError> {
        if self.needs_measuring() {
            for (message, resource_version) in items.clone() {
                self.measure(message, resource_version);
            }
        }
        let mut out = Vec::with_capacity(self.measured_bytes + 256);
        self.head(meta, &mut out);
        for (message, resource_version) in items {
            self.item(message, resource_version, &mut out)?;
        }
        self.tail(&mut out);
        Ok(out)
    }
}

/// Bytes that an item takes in a protobuf list.
#[must_use]
pub fn item_len(message: &[u8], resource_version: &str) -> usize {
    wire::field_len(schema::Spliced::new(message, resource_version).len())
}

/// The part of a stored object that is a PartialObjectMetadata message, whatever the object's kind.
#[must_use]
pub fn metadata_only(message: &[u8]) -> &[u8] {
    wire::metadata_field(message)
}

fn unreadable(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::internal(format!("a stored object cannot be read: {error}"))
}

fn list_meta(meta: &ListMeta<'_>) -> String {
    let mut fields = Vec::new();
    if !meta.resource_version.is_empty() {
        fields.push(format!(r#""resourceVersion":"{}""#, meta.resource_version));
    }
    if !meta.continue_token.is_empty() {
        fields.push(format!(r#""continue":"{}""#, meta.continue_token));
    }
    if let Some(count) = meta.remaining_item_count {
        fields.push(format!(r#""remainingItemCount":{count}"#));
    }
    format!("{{{}}}", fields.join(","))
}

fn list_meta_yaml(meta: &ListMeta<'_>) -> String {
    let mut lines = String::from("metadata:\n");
    if !meta.continue_token.is_empty() {
        lines.push_str(&format!("  continue: {}\n", meta.continue_token));
    }
    if let Some(count) = meta.remaining_item_count {
        lines.push_str(&format!("  remainingItemCount: {count}\n"));
    }
    lines.push_str(&format!(
        "  resourceVersion: \"{}\"\n",
        meta.resource_version
    ));
    lines
}

/// Indents a YAML document into an entry of a list.
fn yaml_list_item(document: &[u8], out: &mut Vec<u8>) {
    for (index, line) in document.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if index == 0 {
            out.extend_from_slice(b"- ");
        } else if line != b"\n" {
            out.extend_from_slice(b"  ");
        }
        out.extend_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    const KIND: (&str, &str) = ("v1", "ConfigMapList");

    fn stored(name: &str, data: &str) -> Vec<u8> {
        let ty = schema::kind_type("v1", "ConfigMap").unwrap();
        let mut message = Vec::new();
        let tree = json!({ "metadata": { "name": name, "namespace": "d" }, "data": { "k": data } });
        schema::encode_stored(ty, &tree, &mut message).unwrap();
        message
    }

    fn kind() -> ListKind<'static> {
        ListKind {
            api_version: KIND.0,
            kind: KIND.1,
            item_type: schema::kind_type("v1", "ConfigMap").unwrap(),
            item_type_meta: None,
        }
    }

    fn written(
        media: MediaType,
        kind: ListKind<'_>,
        meta: &ListMeta<'_>,
        items: &[(Vec<u8>, &str)],
    ) -> Vec<u8> {
        let items = items
            .iter()
            .map(|(message, version)| (message.as_slice(), *version));
        ListWriter::new(media, kind).whole(meta, items).unwrap()
    }

    fn text(media: MediaType, meta: &ListMeta<'_>, items: &[(Vec<u8>, &str)]) -> String {
        String::from_utf8(written(media, kind(), meta, items)).unwrap()
    }

    fn last_page() -> ListMeta<'static> {
        ListMeta {
            resource_version: "9",
            ..ListMeta::default()
        }
    }

    #[test]
    fn json_lists() {
        let items = [(stored("a", "1"), "7"), (stored("b", "2"), "8")];
        let meta = ListMeta {
            resource_version: "9",
            continue_token: "dG9rZW4",
            remaining_item_count: Some(3),
        };
        assert_eq!(
            text(MediaType::Json, &meta, &items),
            concat!(
                r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"9","continue":"dG9rZW4","#,
                r#""remainingItemCount":3},"items":[{"metadata":{"name":"a","namespace":"d","resourceVersion":"7"},"#,
                r#""data":{"k":"1"}},{"metadata":{"name":"b","namespace":"d","resourceVersion":"8"},"#,
                "\"data\":{\"k\":\"2\"}}]}\n"
            )
        );
        assert_eq!(
            text(MediaType::Json, &last_page(), &[]),
            "{\"kind\":\"ConfigMapList\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"9\"},\"items\":[]}\n"
        );
    }

    #[test]
    fn yaml_lists() {
        let items = [(stored("a", "x\ny\n"), "7"), (stored("b", "2"), "8")];
        let list = text(MediaType::Yaml, &last_page(), &items);
        let tree = schema::parse_yaml(list.as_bytes()).unwrap();
        assert_eq!(
            tree,
            json!({
                "apiVersion": "v1", "kind": "ConfigMapList", "metadata": { "resourceVersion": "9" },
                "items": [
                    { "metadata": { "name": "a", "namespace": "d", "resourceVersion": "7" }, "data": { "k": "x\ny\n" } },
                    { "metadata": { "name": "b", "namespace": "d", "resourceVersion": "8" }, "data": { "k": "2" } },
                ],
            })
        );
        let empty = text(MediaType::Yaml, &last_page(), &[]);
        assert_eq!(
            empty,
            "apiVersion: v1\nitems: []\nkind: ConfigMapList\nmetadata:\n  resourceVersion: \"9\"\n"
        );
    }

    #[test]
    fn protobuf_lists() {
        let items = [(stored("a", "1"), "7"), (stored("b", "2"), "8")];
        let meta = ListMeta {
            resource_version: "9",
            continue_token: "more",
            remaining_item_count: Some(300),
        };
        let list = written(MediaType::Protobuf, kind(), &meta, &items);
        let envelope = schema::envelope::unwrap(&list).unwrap();
        assert_eq!((envelope.api_version, envelope.kind), KIND);
        let ty = schema::kind_type("v1", "ConfigMapList").unwrap();
        let tree = schema::decode_protobuf(ty, envelope.raw).unwrap();
        assert_eq!(
            tree["metadata"],
            json!({ "resourceVersion": "9", "continue": "more", "remainingItemCount": 300 })
        );
        let items = tree["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(items[1]["metadata"]["resourceVersion"], "8");
        assert_eq!(items[1]["data"], json!({ "k": "2" }));
        // The envelope ends where the list ends: the length told in the head was right.
        let empty = written(MediaType::Protobuf, kind(), &last_page(), &[]);
        assert_eq!(
            schema::envelope::unwrap(&empty).unwrap().raw,
            b"\x0a\x07\x0a\x00\x12\x019\x1a\x00"
        );
    }

    #[test]
    fn metadata_lists() {
        let api_version = "meta.k8s.io/v1";
        let kind = ListKind {
            api_version,
            kind: "PartialObjectMetadataList",
            item_type: schema::kind_type(api_version, "PartialObjectMetadata").unwrap(),
            item_type_meta: Some((api_version, "PartialObjectMetadata")),
        };
        let message = stored("a", "1");
        let items = [(metadata_only(&message).to_vec(), "7")];
        assert_eq!(
            String::from_utf8(written(MediaType::Json, kind, &last_page(), &items)).unwrap(),
            concat!(
                r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"9"},"#,
                r#""items":[{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","#,
                "\"metadata\":{\"name\":\"a\",\"namespace\":\"d\",\"resourceVersion\":\"7\"}}]}\n"
            )
        );
    }

    #[test]
    fn a_broken_item_leaves_no_trace() {
        let mut writer = ListWriter::new(MediaType::Json, kind());
        let mut out = Vec::new();
        writer.head(&last_page(), &mut out);
        let before = out.len();
        assert_eq!(
            writer.item(&[0x0a, 0xff], "7", &mut out).unwrap_err().code,
            500
        );
        assert_eq!(out.len(), before);
    }
}

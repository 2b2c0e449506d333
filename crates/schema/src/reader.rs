//! Looking into stored protobuf without decoding it: one field, one map, or resourceVersion put in its place.
//!
//! Messages that are broken read as absent here: whoever stored them had them checked.

use std::borrow::Cow;

use crate::decode::map_entry;
use crate::special::{self, Plain};
use crate::table::{Kind, Shape, Special, TypeId, table};
use crate::wire::{Reader, Wire, put_bytes, put_tag, put_varint, varint_len};

/// A path such as `spec.nodeName`, resolved to field numbers once.
#[derive(Debug, Clone)]
pub struct FieldReader {
    /// Numbers of the messages on the way, embedded structs included, then of the field itself.
    numbers: Vec<u32>,
    kind: Kind,
    special: Option<Special>,
}

impl FieldReader {
    /// Resolves a path of JSON names to a single value: string, number, flag, time or quantity.
    pub fn compile(ty: TypeId, path: &str) -> Option<FieldReader> {
        let mut numbers = Vec::new();
        let mut here = ty;
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let (kind, shape) = resolve(here, name, &mut numbers)?;
            if matches!(shape, Shape::List | Shape::Map) {
                return None;
            }
            let special = table().special(kind);
            match (names.peek().is_some(), kind, special) {
                (true, Kind::Message(inner), None) => here = inner,
                (false, Kind::Message(_), None | Some(Special::Raw | Special::Items))
                | (true, _, _) => return None,
                (false, kind, special) => {
                    return Some(FieldReader {
                        numbers,
                        kind,
                        special,
                    });
                }
            }
        }
        None
    }

    /// The value as text, `None` if it is absent or is the zero value of a plain string.
    pub fn read_str<'a>(&self, message: &'a [u8]) -> Option<Cow<'a, str>> {
        match (self.find(message)?, self.kind, self.special) {
            (Wire::Bytes(bytes), Kind::String, _) => std::str::from_utf8(bytes)
                .ok()
                .filter(|text| !text.is_empty())
                .map(Cow::Borrowed),
            (Wire::Varint(value), Kind::Bool, _) => {
                Some(Cow::Borrowed(if value != 0 { "true" } else { "false" }))
            }
            (Wire::Varint(value), Kind::Int32, _) => Some(Cow::Owned((value as i32).to_string())),
            (Wire::Varint(value), Kind::Int64, _) => Some(Cow::Owned((value as i64).to_string())),
            (Wire::Bytes(bytes), Kind::Message(_), Some(special)) => {
                match special::decode(special, bytes).ok()? {
                    Plain::Null => None,
                    Plain::Text(text) => Some(Cow::Borrowed(text)),
                    Plain::Owned(text) => Some(Cow::Owned(text)),
                    Plain::Time(text) => Some(Cow::Owned(text.as_str().to_owned())),
                    Plain::Int(value) => Some(Cow::Owned(value.to_string())),
                }
            }
            _ => None,
        }
    }

    /// The value of an integer or flag.
    pub fn read_i64(&self, message: &[u8]) -> Option<i64> {
        match (self.find(message)?, self.kind) {
            (Wire::Varint(value), Kind::Int32) => Some(i64::from(value as i32)),
            (Wire::Varint(value), Kind::Int64 | Kind::Bool) => Some(value as i64),
            _ => None,
        }
    }

    fn find<'a>(&self, message: &'a [u8]) -> Option<Wire<'a>> {
        let (last, way) = self.numbers.split_last()?;
        let mut here = message;
        for number in way {
            let Some(Wire::Bytes(bytes)) = last_field(here, *number) else {
                return None;
            };
            here = bytes;
        }
        last_field(here, *last)
    }
}

/// Calls `visit` with every entry of a string map, such as `metadata.labels`, in stored order.
pub fn read_map(ty: TypeId, path: &str, message: &[u8], mut visit: impl FnMut(&str, &str)) {
    let mut numbers = Vec::new();
    let mut here = ty;
    let mut shape = Shape::One;
    for name in path.split('.') {
        let Some((kind, next)) = resolve(here, name, &mut numbers) else {
            return;
        };
        shape = next;
        if let (Kind::Message(inner), Shape::One | Shape::Pointer) = (kind, next) {
            here = inner;
        }
    }
    let Some((last, way)) = numbers.split_last().filter(|_| shape == Shape::Map) else {
        return;
    };
    let mut bytes = message;
    for number in way {
        let Some(Wire::Bytes(inner)) = last_field(bytes, *number) else {
            return;
        };
        bytes = inner;
    }
    let message = table().get(here);
    let Some(field) = message.fields.iter().find(|field| field.number == *last) else {
        return;
    };
    let mut reader = Reader::new(bytes);
    while let Ok(Some((number, wire))) = reader.field() {
        if number != *last {
            continue;
        }
        let Wire::Bytes(entry) = wire else { return };
        let Ok((key, value)) = map_entry(entry, field) else {
            return;
        };
        match value {
            None => visit(key, ""),
            Some(Wire::Bytes(value)) => visit(key, std::str::from_utf8(value).unwrap_or("")),
            Some(_) => {}
        }
    }
}

/// Calls `visit` with every label of a stored object, in stored order. Answers how many of its first bytes decide what the
/// labels are: objects that agree in these have the same. For kinds with ordinary object metadata.
pub fn read_labels<'a>(message: &'a [u8], mut visit: impl FnMut(&'a str, &'a str)) -> usize {
    const METADATA: u32 = 1;
    const LABELS: u32 = 11;
    /// The next field's tag tells that no label comes any more; those of metadata take two bytes at most.
    const TAG_BYTES: usize = 2;
    let mut reader = Reader::new(message);
    let metadata = loop {
        match reader.field() {
            Ok(Some((METADATA, Wire::Bytes(bytes)))) => break bytes,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return message.len(),
        }
    };
    let start = reader.position() - metadata.len();
    let mut inner = Reader::new(metadata);
    loop {
        let at = inner.position();
        match inner.field() {
            Ok(Some((LABELS, Wire::Bytes(entry)))) => {
                if let Some((key, value)) = label(entry) {
                    visit(key, value);
                }
            }
            // What is stored has its fields in order.
            Ok(Some((number, _))) if number > LABELS => return start + at + TAG_BYTES,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return start + metadata.len(),
        }
    }
}

fn label(entry: &[u8]) -> Option<(&str, &str)> {
    let (mut key, mut value) = ("", "");
    let mut reader = Reader::new(entry);
    while let Some((number, wire)) = reader.field().ok()? {
        if let Wire::Bytes(bytes) = wire {
            let text = std::str::from_utf8(bytes).ok()?;
            match number {
                1 => key = text,
                2 => value = text,
                _ => {}
            }
        }
    }
    Some((key, value))
}

/// Pushes the numbers that lead to a JSON name, embedded structs included.
pub(crate) fn resolve(ty: TypeId, name: &str, numbers: &mut Vec<u32>) -> Option<(Kind, Shape)> {
    let message = table().get(ty);
    if message.special.is_some() {
        return None;
    }
    for field in &message.fields {
        match (field.shape, field.kind) {
            (Shape::Inline, Kind::Message(inner)) => {
                numbers.push(field.number);
                if let Some(found) = resolve(inner, name, numbers) {
                    return Some(found);
                }
                numbers.pop();
            }
            _ if field.name == name => {
                numbers.push(field.number);
                return Some((field.kind, field.shape));
            }
            _ => {}
        }
    }
    None
}

fn last_field(message: &[u8], wanted: u32) -> Option<Wire<'_>> {
    let mut found = None;
    let mut reader = Reader::new(message);
    while let Ok(Some((number, wire))) = reader.field() {
        if number == wanted {
            found = Some(wire);
        } else if found.is_some() {
            break;
        }
    }
    found
}

/// Copies a stored object with `metadata.resourceVersion` set. For kinds with ordinary object metadata.
pub fn splice_resource_version(message: &[u8], resource_version: &str, out: &mut Vec<u8>) {
    Spliced::new(message, resource_version).write(out);
}

/// A stored object with `metadata.resourceVersion` set, in pieces: its length is known before a byte is copied. For
/// kinds with ordinary object metadata.
pub struct Spliced<'a> {
    message: &'a [u8],
    resource_version: &'a str,
    /// Where in the message the metadata's field begins and ends.
    start: usize,
    end: usize,
    /// The metadata before and after the version.
    before: &'a [u8],
    after: &'a [u8],
}

impl<'a> Spliced<'a> {
    /// Finds the place.
    #[must_use]
    pub fn new(message: &'a [u8], resource_version: &'a str) -> Spliced<'a> {
        const METADATA: u32 = 1;
        const RESOURCE_VERSION: u32 = 6;
        let mut reader = Reader::new(message);
        let (mut start, mut metadata, mut end): (usize, &[u8], usize) = (0, &[], 0);
        loop {
            let at = reader.position();
            match reader.field() {
                Ok(Some((METADATA, Wire::Bytes(bytes)))) => {
                    (start, metadata, end) = (at, bytes, reader.position());
                    break;
                }
                Ok(Some(_)) => {}
                // No metadata, or broken: it goes in front, where the metadata of every kind is.
                Ok(None) | Err(_) => break,
            }
        }
        let (mut before, mut after) = (metadata.len(), metadata.len());
        let mut inner = Reader::new(metadata);
        loop {
            let at = inner.position();
            match inner.field() {
                Ok(Some((RESOURCE_VERSION, _))) => {
                    (before, after) = (at, inner.position());
                    break;
                }
                Ok(Some((number, _))) if number > RESOURCE_VERSION => {
                    (before, after) = (at, at);
                    break;
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        Spliced {
            message,
            resource_version,
            start,
            end,
            before: &metadata[..before],
            after: &metadata[after..],
        }
    }

    fn metadata_len(&self) -> usize {
        let version = self.resource_version.len();
        self.before.len() + 1 + varint_len(version as u64) + version + self.after.len()
    }

    /// How many bytes [`Self::write`] appends.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(&self) -> usize {
        let metadata = self.metadata_len();
        let others = self.message.len() - (self.end - self.start);
        others + 1 + varint_len(metadata as u64) + metadata
    }

    /// Appends the object.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.len());
        out.extend_from_slice(&self.message[..self.start]);
        put_tag(1, 2, out);
        put_varint(self.metadata_len() as u64, out);
        out.extend_from_slice(self.before);
        put_bytes(6, self.resource_version.as_bytes(), out);
        out.extend_from_slice(self.after);
        out.extend_from_slice(&self.message[self.end..]);
    }
}

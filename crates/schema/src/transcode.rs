//! From protobuf straight to JSON text, without a tree: the path of replies and watch frames.
//!
//! Fields are noted as they come, put into struct order, and written; nested messages recurse on the same scratch
//! stack. The result equals decoding to a tree and writing that, for any message [`crate::encode_protobuf`] made.

use crate::MAX_DEPTH;
use crate::decode::{field_index, map_entry, raw_bytes, text, wrong_wire};
use crate::error::DecodeError;
use crate::json::{compact, write_float, write_int, write_string};
use crate::special::{self, Plain};
use crate::table::{Field, Kind, Shape, Special, Table, TypeId};
use crate::wire::{Reader, Wire};
use crate::write::{absent, key, zero};

/// Fields open at once in a common object, such as a Pod: one allocation instead of several.
const SEEN_EXPECTED: usize = 64;

pub(crate) struct Transcoder<'a> {
    table: &'static Table,
    /// Fields seen so far of the messages being written: (index in struct order, value).
    seen: Vec<(u16, Wire<'a>)>,
    resource_version: Option<&'a str>,
    depth: usize,
}

impl<'a> Transcoder<'a> {
    pub(crate) fn new(table: &'static Table, resource_version: Option<&'a str>) -> Transcoder<'a> {
        Transcoder {
            table,
            seen: Vec::with_capacity(SEEN_EXPECTED),
            resource_version,
            depth: 0,
        }
    }

    pub(crate) fn object(
        &mut self,
        ty: TypeId,
        message: &'a [u8],
        type_meta: Option<(&str, &str)>,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        if self.table.get(ty).special.is_some() {
            return self.message_value(ty, message, out);
        }
        let mut first = true;
        out.push(b'{');
        if let Some((api_version, kind)) = type_meta {
            key("\"kind\":", &mut first, out);
            write_string(kind, out);
            key("\"apiVersion\":", &mut first, out);
            write_string(api_version, out);
        }
        self.fields(ty, message, &mut first, out)?;
        out.push(b'}');
        Ok(())
    }

    fn fields(
        &mut self,
        ty: TypeId,
        bytes: &'a [u8],
        first: &mut bool,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        if self.depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        self.depth += 1;
        let table = self.table;
        let base = self.seen.len();
        let (mut reader, mut cursor, mut ordered) = (Reader::new(bytes), 0, true);
        while let Some((number, wire)) = reader.field()? {
            if let Some(index) = field_index(table, ty, number, &mut cursor) {
                let index = index as u16;
                ordered &= self
                    .seen
                    .get(base..)
                    .and_then(<[_]>::last)
                    .is_none_or(|(last, _)| *last <= index);
                self.seen.push((index, wire));
            }
        }
        if !ordered {
            self.seen[base..].sort_by_key(|(index, _)| *index);
        }
        let end = self.seen.len();
        let mut at = base;
        let message = table.get(ty);
        let versioned = (ty == table.object_meta || ty == table.list_meta) && self.depth == 2;
        for (index, field) in message.fields.iter().enumerate() {
            let start = at;
            while at < end && usize::from(self.seen[at].0) == index {
                at += 1;
            }
            if versioned
                && field.name == "resourceVersion"
                && let Some(version) = self.resource_version
            {
                key(field.key, first, out);
                write_string(version, out);
                continue;
            }
            if start == at {
                match (field.shape, field.kind) {
                    (Shape::Inline, Kind::Message(inner)) => {
                        self.fields_of(inner, b"", first, out)?
                    }
                    // Metadata that must carry a version is written even if the message has none.
                    (Shape::One, Kind::Message(inner))
                        if self.depth == 1
                            && self.resource_version.is_some()
                            && (inner == table.object_meta || inner == table.list_meta) =>
                    {
                        key(field.key, first, out);
                        self.message_value(inner, b"", out)?;
                    }
                    _ => absent(table, message, field, first, out),
                }
                continue;
            }
            self.present(field, start..at, first, out)?;
        }
        self.seen.truncate(base);
        self.depth -= 1;
        Ok(())
    }

    /// The fields of an embedded struct: as deep as its owner.
    fn fields_of(
        &mut self,
        inner: TypeId,
        bytes: &'a [u8],
        first: &mut bool,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        self.fields(inner, bytes, first, out)
    }

    fn present(
        &mut self,
        field: &'static Field,
        range: std::ops::Range<usize>,
        first: &mut bool,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let (_, last) = self.seen[range.end - 1];
        match field.shape {
            Shape::List => {
                key(field.key, first, out);
                out.push(b'[');
                let mut comma = false;
                for at in range {
                    let (_, wire) = self.seen[at];
                    if let (Kind::Int32 | Kind::Int64 | Kind::Bool, Wire::Bytes(packed)) =
                        (field.kind, wire)
                    {
                        let mut reader = Reader::new(packed);
                        while !reader.at_end() {
                            separate(&mut comma, out);
                            self.single(field, Wire::Varint(reader.varint()?), out)?;
                        }
                    } else {
                        separate(&mut comma, out);
                        self.single(field, wire, out)?;
                    }
                }
                out.push(b']');
                Ok(())
            }
            Shape::Map => self.map(field, range, first, out),
            Shape::Inline | Shape::One | Shape::Pointer => {
                if let (Kind::Message(inner), Wire::Bytes(bytes)) = (field.kind, last)
                    && self.table.get(inner).special.is_none()
                {
                    if range.len() > 1 {
                        return self.merged(field, inner, range, first, out);
                    }
                    if field.shape == Shape::Inline {
                        return self.fields_of(inner, bytes, first, out);
                    }
                    if field.omitzero && field.shape == Shape::One && bytes.is_empty() {
                        return Ok(());
                    }
                    key(field.key, first, out);
                    return self.message_value(inner, bytes, out);
                }
                if field.shape == Shape::One
                    && (field.omitempty || field.omitzero)
                    && is_zero(self.table, field, last)
                {
                    return Ok(());
                }
                let empty_list = self.table.special(field.kind) == Some(Special::Items)
                    && matches!(last, Wire::Bytes(bytes) if bytes.is_empty());
                if empty_list || (field.shape == Shape::Pointer && self.is_null(field, last)?) {
                    absent(
                        self.table,
                        self.table.get(self.table.object_meta),
                        field,
                        first,
                        out,
                    );
                    return Ok(());
                }
                key(field.key, first, out);
                self.single(field, last, out)
            }
        }
    }

    /// A pointer to a value whose JSON is null is as good as no pointer.
    fn is_null(&self, field: &Field, wire: Wire<'_>) -> Result<bool, DecodeError> {
        Ok(match (self.table.special(field.kind), wire) {
            (Some(special @ (Special::Time | Special::MicroTime)), Wire::Bytes(bytes)) => {
                matches!(special::decode(special, bytes)?, Plain::Null)
            }
            (Some(Special::Raw), Wire::Bytes(bytes)) => {
                raw_bytes(bytes)?.is_none_or(|raw| raw == b"null")
            }
            (Some(Special::SchemaOrArray | Special::SchemaOrStrings), Wire::Bytes(bytes)) => {
                bytes.is_empty()
            }
            _ => false,
        })
    }

    /// A singular message that came in several pieces: their concatenation is the message.
    fn merged(
        &mut self,
        field: &'static Field,
        inner: TypeId,
        range: std::ops::Range<usize>,
        first: &mut bool,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let mut whole = Vec::new();
        for (_, wire) in &self.seen[range] {
            if let Wire::Bytes(piece) = wire {
                whole.extend_from_slice(piece);
            }
        }
        let mut nested = Transcoder {
            table: self.table,
            seen: Vec::new(),
            resource_version: self.resource_version,
            depth: self.depth,
        };
        if field.shape == Shape::Inline {
            return nested.fields_of(inner, &whole, first, out);
        }
        key(field.key, first, out);
        nested.message_value(inner, &whole, out)
    }

    fn map(
        &mut self,
        field: &'static Field,
        range: std::ops::Range<usize>,
        first: &mut bool,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let mut entries = Vec::with_capacity(range.len());
        let mut ordered = true;
        for at in range {
            let (_, Wire::Bytes(bytes)) = self.seen[at] else {
                return Err(wrong_wire(field));
            };
            let entry = map_entry(bytes, field)?;
            ordered &= entries
                .last()
                .is_none_or(|(last, _): &(&str, _)| *last < entry.0);
            entries.push(entry);
        }
        if !ordered {
            // A stable sort keeps repeated keys in the order they came; the last of them counts.
            entries.sort_by_key(|(name, _)| *name);
            entries.reverse();
            entries.dedup_by_key(|(name, _)| *name);
            entries.reverse();
        }
        key(field.key, first, out);
        out.push(b'{');
        let mut comma = false;
        for (name, wire) in entries {
            separate(&mut comma, out);
            write_string(name, out);
            out.push(b':');
            match wire {
                Some(wire) => self.single(field, wire, out)?,
                None if field.kind == Kind::Bytes => out.extend_from_slice(b"\"\""),
                None => zero(self.table, field.kind, out),
            }
        }
        out.push(b'}');
        Ok(())
    }

    fn single(
        &mut self,
        field: &'static Field,
        wire: Wire<'a>,
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        match (field.kind, wire) {
            (Kind::String, Wire::Bytes(bytes)) => write_string(text(bytes, field)?, out),
            (Kind::Bytes, Wire::Bytes(bytes)) => {
                out.push(b'"');
                out.extend_from_slice(special::base64_encode(bytes).as_bytes());
                out.push(b'"');
            }
            (Kind::Bool, Wire::Varint(value)) => {
                out.extend_from_slice(if value != 0 { b"true" } else { b"false" })
            }
            (Kind::Int32, Wire::Varint(value)) => write_int(i64::from(value as i32), out),
            (Kind::Int64, Wire::Varint(value)) => write_int(value as i64, out),
            (Kind::Double, Wire::Fixed64(bits)) => {
                let value = f64::from_bits(bits);
                write_float(if value.is_finite() { value } else { 0.0 }, out);
            }
            (Kind::Message(ty), Wire::Bytes(bytes)) => return self.message_value(ty, bytes, out),
            _ => return Err(wrong_wire(field)),
        }
        Ok(())
    }

    fn message_value(
        &mut self,
        ty: TypeId,
        bytes: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        let Some(special) = self.table.get(ty).special else {
            out.push(b'{');
            self.fields(ty, bytes, &mut true, out)?;
            out.push(b'}');
            return Ok(());
        };
        match special {
            Special::Raw => match raw_bytes(bytes)? {
                None => out.extend_from_slice(b"null"),
                Some(raw) => compact(raw, out)?,
            },
            Special::Items
            | Special::SchemaOrArray
            | Special::SchemaOrBool
            | Special::SchemaOrStrings => {
                self.union(ty, special, bytes, out)?;
            }
            _ => match special::decode(special, bytes)? {
                Plain::Null => out.extend_from_slice(b"null"),
                Plain::Int(value) => write_int(value, out),
                Plain::Time(text) => {
                    out.push(b'"');
                    out.extend_from_slice(text.as_bytes());
                    out.push(b'"');
                }
                Plain::Text(text) => write_string(text, out),
                Plain::Owned(text) => write_string(&text, out),
            },
        }
        Ok(())
    }

    /// A message that is a list, a schema or a flag in JSON.
    fn union(
        &mut self,
        ty: TypeId,
        special: Special,
        bytes: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<(), DecodeError> {
        if self.depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        self.depth += 1;
        let message = self.table.get(ty);
        let base = self.seen.len();
        let (mut schema, mut allows) = (None, false);
        let (mut reader, mut cursor) = (Reader::new(bytes), 0);
        while let Some((number, wire)) = reader.field()? {
            let Some(index) = field_index(self.table, ty, number, &mut cursor) else {
                continue;
            };
            let field = &message.fields[index];
            match (field.shape, field.kind, wire) {
                (Shape::List, _, wire) => self.seen.push((index as u16, wire)),
                (_, Kind::Message(inner), Wire::Bytes(bytes)) => schema = Some((inner, bytes)),
                (_, Kind::Bool, Wire::Varint(value)) => allows = value != 0,
                _ => return Err(wrong_wire(field)),
            }
        }
        let end = self.seen.len();
        match schema {
            Some((inner, bytes)) if base == end => self.message_value(inner, bytes, out)?,
            None if special == Special::SchemaOrBool => {
                out.extend_from_slice(if allows { b"true" } else { b"false" })
            }
            None if base == end && special != Special::Items => out.extend_from_slice(b"null"),
            _ => {
                out.push(b'[');
                let mut comma = false;
                for at in base..end {
                    let (index, wire) = self.seen[at];
                    separate(&mut comma, out);
                    self.single(&message.fields[usize::from(index)], wire, out)?;
                }
                out.push(b']');
            }
        }
        self.seen.truncate(base);
        self.depth -= 1;
        Ok(())
    }
}

fn separate(comma: &mut bool, out: &mut Vec<u8>) {
    if std::mem::replace(comma, true) {
        out.push(b',');
    }
}

/// Whether `omitempty` or `omitzero` leaves this value of a plain field out.
fn is_zero(table: &Table, field: &Field, wire: Wire<'_>) -> bool {
    match (field.kind, wire) {
        (Kind::Message(_), Wire::Bytes(bytes)) => match table.special(field.kind) {
            Some(Special::Items) => bytes.is_empty(),
            Some(special @ (Special::Time | Special::MicroTime)) if field.omitzero => {
                matches!(special::decode(special, bytes), Ok(Plain::Null))
            }
            _ => false,
        },
        (_, Wire::Varint(value)) => value == 0,
        (_, Wire::Fixed64(bits)) => f64::from_bits(bits) == 0.0,
        (_, Wire::Bytes(bytes)) => bytes.is_empty(),
        (_, Wire::Fixed32) => false,
    }
}

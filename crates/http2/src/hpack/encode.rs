//! From headers to bytes. What comes again is kept in the table; what is new each time, or secret, is not.

use super::huffman;
use super::integer::put_integer;
use super::statics::{STATIC, index_of};
use super::table::Table;
use crate::limits::HEADER_TABLE_BYTES;

/// One direction of a connection.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// The smallest size the table was given since the last block, and whether the peer must be told.
    resized: Option<usize>,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder {
            table: Table::new(HEADER_TABLE_BYTES),
            resized: None,
        }
    }
}

/// How a field is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// It will come again.
    Keep,
    /// Its value will not.
    Pass,
    /// Nobody on the way may keep it either.
    Secret,
}

fn habit(name: &[u8], value: &[u8]) -> Habit {
    match name {
        b"authorization" | b"proxy-authorization" | b"token" => Habit::Secret,
        b"cookie" | b"set-cookie" if value.len() < 20 => Habit::Secret,
        b"age"
        // One of its own for each answer of a Kubernetes API server.
        | b"audit-id"
        | b"content-length"
        | b"content-range"
        | b"date"
        | b"etag"
        | b"expires"
        | b"grpc-message"
        | b"grpc-status-details-bin"
        | b"grpc-timeout"
        | b"if-match"
        | b"if-modified-since"
        | b"if-none-match"
        | b"last-modified"
        | b"location"
        | b"retry-after"
        | b"set-cookie" => Habit::Pass,
        // A path with a query or of a single object will hardly come again; one of a method will.
        b":path" if value.len() > 48 || value.contains(&b'?') => Habit::Pass,
        _ => Habit::Keep,
    }
}

impl Encoder {
    /// The peer lets the table have so many bytes; more than [`HEADER_TABLE_BYTES`] are not used.
    pub fn set_table_bytes_max(&mut self, max: usize) {
        let max = max.min(HEADER_TABLE_BYTES);
        if max != self.table.max() {
            self.table.set_max(max);
            self.resized = Some(self.resized.map_or(max, |smallest| smallest.min(max)));
        }
    }

    /// Appends a block.
    pub fn encode<'a>(
        &mut self,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        out: &mut Vec<u8>,
    ) {
        if let Some(smallest) = self.resized.take() {
            if smallest < self.table.max() {
                put_integer(out, 0x20, 5, smallest);
            }
            put_integer(out, 0x20, 5, self.table.max());
        }
        for (name, value) in fields {
            self.field(name, value, out);
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let known = index_of(name);
        if let Some(first) = known {
            let same = STATIC.iter().enumerate().skip(first - 1);
            let mut same = same.take_while(|(_, (other, _))| *other == name);
            if let Some((place, _)) = same.find(|(_, (_, other))| *other == value) {
                return put_integer(out, 0x80, 7, place + 1);
            }
        }
        let habit = habit(name, value);
        let (whole, named) = match habit {
            Habit::Keep => self.table.find(name, value),
            Habit::Pass | Habit::Secret => (None, None),
        };
        if let Some(index) = whole {
            return put_integer(out, 0x80, 7, index + STATIC.len());
        }
        let index = known.or(named.map(|index| index + STATIC.len()));
        let (pattern, prefix) = match habit {
            Habit::Keep => (0x40, 6),
            Habit::Pass => (0x00, 4),
            Habit::Secret => (0x10, 4),
        };
        put_integer(out, pattern, prefix, index.unwrap_or(0));
        if index.is_none() {
            put_string(name, out);
        }
        put_string(value, out);
        if habit == Habit::Keep {
            self.table.insert(name, value, true);
        }
    }

    /// Gives back room that is not used.
    pub(crate) fn release(&mut self) {
        self.table.release();
    }

    pub(crate) fn capacity(&self) -> usize {
        self.table.capacity()
    }
}

fn put_string(text: &[u8], out: &mut Vec<u8>) {
    let len = huffman::encoded_len(text);
    if len < text.len() {
        put_integer(out, 0x80, 7, len);
        huffman::encode(text, out);
    } else {
        put_integer(out, 0x00, 7, text.len());
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Fields;
    use crate::hpack::Decoder;

    fn encode(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        encoder.encode(fields, &mut out);
        out
    }

    #[test]
    fn what_comes_again_is_one_byte() {
        let mut encoder = Encoder::default();
        let head = [(":status", "200"), ("content-type", "application/grpc")];
        let first = encode(&mut encoder, &head);
        assert_eq!(first.first(), Some(&0x88));
        assert_eq!(encode(&mut encoder, &head), [0x88, 0xbe]);
        encode(&mut encoder, &[("grpc-status", "0")]);
        assert_eq!(encode(&mut encoder, &[("grpc-status", "0")]), [0xbe]);
        assert_eq!(encode(&mut encoder, &head), [0x88, 0xbf]);
    }

    #[test]
    fn a_secret_is_never_kept_by_anybody() {
        let mut encoder = Encoder::default();
        let first = encode(&mut encoder, &[("authorization", "Bearer x")]);
        // Never indexed, name 23: 0x1f 0x08.
        assert_eq!(first.get(..2), Some(&[0x1f, 0x08][..]));
        assert_eq!(
            encode(&mut encoder, &[("authorization", "Bearer x")]),
            first
        );
    }

    #[test]
    fn a_table_that_shrinks_is_told_before_anything_else() {
        let mut encoder = Encoder::default();
        let mut decoder = Decoder::new(4096);
        let mut fields = Fields::default();
        let head = [("x-a", "1")];
        let block = encode(&mut encoder, &head);
        decoder.decode(&block, &mut fields, 1 << 16).unwrap();
        encoder.set_table_bytes_max(0);
        encoder.set_table_bytes_max(100);
        let block = encode(&mut encoder, &head);
        assert_eq!(block.get(..3), Some(&[0x20, 0x3f, 69][..]));
        decoder.decode(&block, &mut fields, 1 << 16).unwrap();
        assert_eq!(fields.get(b"x-a"), Some(&b"1"[..]));
        assert_eq!(encode(&mut encoder, &head), [0xbe]);
    }
}

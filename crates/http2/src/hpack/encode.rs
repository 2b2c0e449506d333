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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// It will come again.
    Keep,
    /// Its value will not.
    Pass,
    /// Nor this one, which comes with each answer: to code it takes longer than its few bytes are worth.
    Plain,
    /// Nobody on the way may keep it either.
    Secret,
}

/// The habit of a name, of which `known` is the place in the static table.
fn habit(known: Option<usize>, name: &[u8], value: &[u8]) -> Habit {
    match known {
        // A path with a query or of a single object will hardly come again; one of a method will.
        Some(PATH) if value.len() > 48 || value.contains(&b'?') => Habit::Pass,
        Some(COOKIE | SET_COOKIE) if value.len() < 20 => Habit::Secret,
        Some(index) => HABITS.get(index - 1).copied().unwrap_or(Habit::Keep),
        None => unlisted(name),
    }
}

/// The same for a name that is not in the static table.
fn unlisted(name: &[u8]) -> Habit {
    match name {
        b"token" => Habit::Secret,
        // One of its own for each answer of a Kubernetes API server.
        b"audit-id" => Habit::Plain,
        b"grpc-message" | b"grpc-status-details-bin" | b"grpc-timeout" => Habit::Pass,
        _ => Habit::Keep,
    }
}

const PATH: usize = 4;
const COOKIE: usize = 32;
const SET_COOKIE: usize = 55;

/// The habit of each name of the static table.
static HABITS: [Habit; STATIC.len()] = {
    let mut habits = [Habit::Keep; STATIC.len()];
    let mut place = 0;
    while place < STATIC.len() {
        habits[place] = match STATIC[place].0 {
            b"authorization" | b"proxy-authorization" => Habit::Secret,
            b"content-length" | b"date" => Habit::Plain,
            b"age" | b"content-range" | b"etag" | b"expires" | b"if-match"
            | b"if-modified-since" | b"if-none-match" | b"last-modified" | b"location"
            | b"retry-after" | b"set-cookie" => Habit::Pass,
            _ => Habit::Keep,
        };
        place += 1;
    }
    habits
};

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
        let habit = habit(known, name, value);
        let (whole, named) = match habit {
            Habit::Keep => self.table.find(name, value),
            Habit::Pass | Habit::Plain | Habit::Secret => (None, None),
        };
        if let Some(index) = whole {
            return put_integer(out, 0x80, 7, index + STATIC.len());
        }
        let index = known.or(named.map(|index| index + STATIC.len()));
        let (pattern, prefix) = match habit {
            Habit::Keep => (0x40, 6),
            Habit::Pass | Habit::Plain => (0x00, 4),
            Habit::Secret => (0x10, 4),
        };
        put_integer(out, pattern, prefix, index.unwrap_or(0));
        let put = match habit {
            Habit::Plain => put_plain,
            Habit::Keep | Habit::Pass | Habit::Secret => put_string,
        };
        if index.is_none() {
            put(name, out);
        }
        put(value, out);
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
        put_plain(text, out);
    }
}

fn put_plain(text: &[u8], out: &mut Vec<u8>) {
    put_integer(out, 0x00, 7, text.len());
    out.extend_from_slice(text);
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
    fn what_is_new_with_each_answer_is_spelt_as_it_is() {
        let mut encoder = Encoder::default();
        let block = encode(&mut encoder, &[("audit-id", "0000"), ("date", "1111")]);
        assert_eq!(block, b"\x00\x08audit-id\x040000\x0f\x12\x041111");
        assert_eq!(encoder.table.find(b"date", b"1111"), (None, None));
    }

    #[test]
    fn habits_are_those_of_their_names() {
        let of = |name: &[u8], value: &[u8]| habit(index_of(name), name, value);
        for (name, value, expected) in [
            (&b":path"[..], &b"/package.Service/Method"[..], Habit::Keep),
            (b":path", b"/api/v1/pods?limit=5", Habit::Pass),
            (b"cookie", b"short", Habit::Secret),
            (b"cookie", b"one of twenty bytes or more", Habit::Keep),
            (b"set-cookie", b"short", Habit::Secret),
            (b"set-cookie", b"one of twenty bytes or more", Habit::Pass),
            (b"authorization", b"Bearer x", Habit::Secret),
            (b"proxy-authorization", b"x", Habit::Secret),
            (b"token", b"x", Habit::Secret),
            (b"date", b"x", Habit::Plain),
            (b"location", b"x", Habit::Pass),
            (b"grpc-message", b"x", Habit::Pass),
            (b"grpc-status", b"0", Habit::Keep),
        ] {
            assert_eq!(of(name, value), expected, "{}", name.escape_ascii());
        }
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

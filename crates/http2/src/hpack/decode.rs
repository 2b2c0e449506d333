//! From bytes to headers. Whatever comes in, the table stays in step with the peer's or the block is refused.

use std::fmt;

use super::huffman;
use super::integer::Reader;
use super::statics::STATIC;
use super::table::Table;
use crate::fields::Fields;

/// Why a header block cannot be read. The connection is over: the tables differ from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HpackError {
    /// The block ends within a field.
    Truncated,
    /// An integer has more bytes than any that can be meant.
    IntegerTooLarge,
    /// Nothing is at this index.
    NoEntry,
    /// A string is not what the Huffman code can make.
    Huffman,
    /// A table size above what we allow, or not at the beginning of the block.
    TableSize,
}

impl fmt::Display for HpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HpackError::Truncated => "a header block ends within a field",
            HpackError::IntegerTooLarge => "an integer in a header block is too large",
            HpackError::NoEntry => "a header refers to an entry that is not there",
            HpackError::Huffman => "a Huffman code in a header block is wrong",
            HpackError::TableSize => "a header table size is not allowed",
        })
    }
}

impl std::error::Error for HpackError {}

/// One direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// What we told the peer its table may have.
    table_bytes_max: usize,
}

impl Decoder {
    /// With a table of at most so many bytes.
    #[must_use]
    pub fn new(table_bytes_max: usize) -> Decoder {
        Decoder {
            table: Table::new(table_bytes_max),
            table_bytes_max,
        }
    }

    /// Reads a whole block. Fields beyond `list_bytes_max` are left out, and [`Decoder::decode`] answers false.
    pub fn decode(
        &mut self,
        block: &[u8],
        fields: &mut Fields,
        list_bytes_max: usize,
    ) -> Result<bool, HpackError> {
        fields.clear();
        let mut reader = Reader(block);
        let mut may_resize = true;
        while !reader.0.is_empty() {
            let first = reader.byte()?;
            if first & 0xe0 == 0x20 {
                let max = reader.integer(first, 5)?;
                if !may_resize || max > self.table_bytes_max {
                    return Err(HpackError::TableSize);
                }
                self.table.set_max(max);
                continue;
            }
            may_resize = false;
            let at = fields.open().len();
            let middle = if first & 0x80 != 0 {
                let index = reader.integer(first, 7)?;
                let (name, value, is_sound) = self.entry(index)?;
                fields.is_unsound |= !is_sound;
                let out = fields.open();
                out.extend_from_slice(name);
                let middle = out.len();
                out.extend_from_slice(value);
                middle
            } else {
                self.literal(first, &mut reader, fields)?
            };
            fields.close(at, middle, list_bytes_max);
        }
        Ok(!fields.is_cut)
    }

    /// A field that is spelt out; answers where its value begins.
    fn literal(
        &mut self,
        first: u8,
        reader: &mut Reader<'_>,
        fields: &mut Fields,
    ) -> Result<usize, HpackError> {
        let is_kept = first & 0x40 != 0;
        let index = reader.integer(first, if is_kept { 6 } else { 4 })?;
        let out = fields.open();
        let at = out.len();
        let mut is_sound = true;
        if index == 0 {
            string(reader, out)?;
        } else {
            let (name, _, was_sound) = self.entry(index)?;
            is_sound = was_sound;
            out.extend_from_slice(name);
        }
        let middle = out.len();
        string(reader, out)?;
        let field = out.get(at..).unwrap_or_default();
        if let Some((name, value)) = field.split_at_checked(middle - at) {
            is_sound &= (index != 0 || is_name(name)) && is_value(value);
            if is_kept {
                self.table.insert(name, value, is_sound);
            }
        }
        fields.is_unsound |= !is_sound;
        Ok(middle)
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8], bool), HpackError> {
        let place = index.checked_sub(1).ok_or(HpackError::NoEntry)?;
        match STATIC.get(place) {
            Some((name, value)) => Ok((name, value, true)),
            None => self
                .table
                .get(index - STATIC.len())
                .ok_or(HpackError::NoEntry),
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

/// RFC 9113 §8.2.1: visible ASCII without capitals; a colon only in front, where it makes a pseudo-header.
fn is_name(name: &[u8]) -> bool {
    let name = name.strip_prefix(b":").unwrap_or(name);
    !name.is_empty()
        && name
            .iter()
            .all(|byte| matches!(byte, 0x21..=0x39 | 0x3b..=0x40 | 0x5b..=0x7e))
}

/// RFC 9113 §8.2.1: no zero byte, no line end, no white space around.
fn is_value(value: &[u8]) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !is_blank(value.first())
        && !is_blank(value.last())
        && !value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n'))
}

fn string(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), HpackError> {
    let first = reader.byte()?;
    let len = reader.integer(first, 7)?;
    let bytes = reader.take(len)?;
    if first & 0x80 != 0 {
        huffman::decode(bytes, out)
    } else {
        out.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(block: &[u8]) -> Result<bool, HpackError> {
        Decoder::new(4096).decode(block, &mut Fields::default(), 1 << 16)
    }

    #[test]
    fn what_cannot_be_is_refused() {
        // Index 0; an index that nobody filled; a name there; a string longer than the block.
        assert_eq!(decode(&[0x80]), Err(HpackError::NoEntry));
        assert_eq!(decode(&[0xbe]), Err(HpackError::NoEntry));
        assert_eq!(decode(&[0x7e, 0x01, b'a']), Err(HpackError::NoEntry));
        assert_eq!(decode(&[0x40, 0x05, b'a']), Err(HpackError::Truncated));
        assert_eq!(decode(&[0x82, 0x40]), Err(HpackError::Truncated));
    }

    #[test]
    fn a_table_grows_no_larger_than_we_said_and_only_at_the_beginning() {
        assert_eq!(decode(&[0x3f, 0xe1, 0x1f, 0x82]), Ok(true)); // 4096
        assert_eq!(decode(&[0x3f, 0xe2, 0x1f]), Err(HpackError::TableSize)); // 4097
        assert_eq!(decode(&[0x20, 0x3f, 0xe1, 0x1f, 0x82]), Ok(true)); // 0, then 4096
        assert_eq!(decode(&[0x82, 0x20]), Err(HpackError::TableSize));
    }

    #[test]
    fn a_list_over_its_limit_is_read_to_the_end_and_keeps_the_table_in_step() {
        let mut decoder = Decoder::new(4096);
        let mut fields = Fields::default();
        let block = [
            0x40, 1, b'a', 1, b'1', 0x40, 1, b'b', 1, b'2', 0x40, 1, b'c', 1, b'3',
        ];
        assert_eq!(decoder.decode(&block, &mut fields, 2 * 34), Ok(false));
        assert_eq!(fields.len(), 2);
        assert_eq!(decoder.decode(&[0xbe], &mut fields, 2 * 34), Ok(true));
        assert_eq!(fields.get(b"c"), Some(&b"3"[..]));
    }

    #[test]
    fn a_thousand_references_to_one_large_entry_make_no_large_list() {
        let mut decoder = Decoder::new(4096);
        let mut block = vec![0x40, 1, b'a', 0x7f, 0x81, 0x1e];
        block.extend([b'x'; 0x7f + 0x81 - 0x80 + (0x1e << 7)]);
        block.extend([0xbe; 10_000]);
        let mut fields = Fields::default();
        assert_eq!(decoder.decode(&block, &mut fields, 1 << 16), Ok(false));
        assert!(fields.capacity() < 1 << 18);
    }
}

//! Integers with a prefix, RFC 7541 §5.1, and a reader that cannot run over the end.

use super::HpackError;

/// A reader over a header block.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> Result<u8, HpackError> {
        let (first, rest) = self.0.split_first().ok_or(HpackError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], HpackError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(HpackError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The integer whose first byte, of which the low `prefix` bits count, was read already. Four more bytes at most:
    /// 28 bits and the prefix are more than any length or index that can be meant.
    pub(crate) fn integer(&mut self, first: u8, prefix: u32) -> Result<usize, HpackError> {
        let mask = (1usize << prefix) - 1;
        let mut value = usize::from(first) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(HpackError::IntegerTooLarge)
    }
}

/// Appends an integer; `pattern` are the bits above its prefix.
pub(crate) fn put_integer(out: &mut Vec<u8>, pattern: u8, prefix: u32, value: usize) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], prefix: u32) -> Result<usize, HpackError> {
        let mut reader = Reader(bytes);
        let first = reader.byte()?;
        reader.integer(first, prefix)
    }

    #[test]
    fn the_examples_of_rfc_7541_c1_hold_both_ways() {
        for (value, prefix, bytes) in [
            (10, 5, &[0x0a][..]),
            (1337, 5, &[0x1f, 0x9a, 0x0a]),
            (42, 8, &[0x2a]),
        ] {
            let mut out = Vec::new();
            put_integer(&mut out, 0, prefix, value);
            assert_eq!(out, bytes);
            assert_eq!(read(bytes, prefix), Ok(value));
        }
    }

    #[test]
    fn an_integer_without_end_is_refused() {
        assert_eq!(
            read(&[0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], 5),
            Err(HpackError::IntegerTooLarge)
        );
        assert_eq!(read(&[0x1f, 0x80], 5), Err(HpackError::Truncated));
    }
}

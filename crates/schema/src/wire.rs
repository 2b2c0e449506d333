//! The protobuf wire format: tags, varints and length-delimited bytes. Knows no message types.
//!
//! Open to rooms that decide on stored bytes without a tree; they read and write fields of numbers they know.

use crate::error::DecodeError;

/// One field as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub enum Wire<'a> {
    /// An integer or a flag.
    Varint(u64),
    /// Eight bytes, little-endian: a double.
    Fixed64(u64),
    /// Text, bytes or a message.
    Bytes(&'a [u8]),
    /// No Kubernetes field is one; known only to be stepped over.
    Fixed32,
}

/// Reads the fields of one message in order.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begins with the first field.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// How many bytes were read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next field, or `None` at the end of the message.
    ///
    /// # Errors
    /// A broken tag, an unknown wire type, or a field that goes beyond the end.
    #[inline]
    pub fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>, DecodeError> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0);
        let number = number.ok_or_else(|| DecodeError::protobuf("illegal tag"))?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = usize::try_from(self.varint()?)
                    .map_err(|_| DecodeError::protobuf("length out of range"))?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.fixed::<4>()?;
                Wire::Fixed32
            }
            other => return Err(DecodeError::protobuf(&format!("illegal wireType {other}"))),
        };
        Ok(Some((number, wire)))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        // Tags and lengths are nearly always one byte.
        match self.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some(byte) = self.bytes.get(self.at) else {
                return Err(DecodeError::protobuf("unexpected EOF"));
            };
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::protobuf("integer overflow"))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let end = self
            .at
            .checked_add(length)
            .filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| DecodeError::protobuf("unexpected EOF"))?;
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(bytes).map_err(|_| DecodeError::protobuf("unexpected EOF"))
    }

    pub(crate) fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }
}

/// Appends an integer, without a tag.
pub fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes an integer takes.
#[must_use]
pub fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends the tag of a field: its number, and 0 for an integer or 2 for bytes.
pub fn put_tag(number: u32, wire: u32, out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3 | wire), out);
}

/// Appends a field of text, bytes or a message.
pub fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_tag(number, 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends an integer field.
pub fn put_int(number: u32, value: u64, out: &mut Vec<u8>) {
    put_tag(number, 0, out);
    put_varint(value, out);
}

/// Writes a length-delimited field whose content is written by `content`: the length goes in afterwards.
pub(crate) fn put_nested<E>(
    number: u32,
    out: &mut Vec<u8>,
    content: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_tag(number, 2, out);
    out.push(0);
    let start = out.len();
    content(out)?;
    let length = out.len() - start;
    let extra = varint_len(length as u64) - 1;
    if extra > 0 {
        out.resize(out.len() + extra, 0);
        out.copy_within(start..start + length, start + extra);
    }
    let mut value = length as u64;
    for byte in &mut out[start - 1..start + extra] {
        *byte = (value as u8 & 0x7f) | 0x80;
        value >>= 7;
    }
    out[start + extra - 1] &= 0x7f;
    Ok(())
}

/// Shows every field of a message, and its bytes with the tag; `None` if it is broken, or `look` says so.
pub fn each_field<'a>(
    message: &'a [u8],
    mut look: impl FnMut(u32, Wire<'a>, &'a [u8]) -> Option<()>,
) -> Option<()> {
    let mut reader = Reader::new(message);
    let mut at = 0;
    while let Some((number, wire)) = reader.field().ok()? {
        let end = reader.position();
        look(number, wire, message.get(at..end)?)?;
        at = end;
    }
    Some(())
}

/// Bytes that are a text.
pub fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The first text of this number, empty if there is none. `None`: the message is broken before it, or it is no text.
pub fn first_text(message: &[u8], wanted: u32) -> Option<&str> {
    let mut reader = Reader::new(message);
    while let Some((number, wire)) = reader.field().ok()? {
        match (number == wanted, wire) {
            (true, Wire::Bytes(bytes)) => return text(bytes),
            (true, _) => return None,
            _ => {}
        }
    }
    Some("")
}

/// A `Time` in microseconds since 1970, to the second; `Some(None)` if it is unset. `None` for what is broken, or not
/// between 1970 and the end of 9999.
pub fn time_micros(message: &[u8]) -> Option<Option<i64>> {
    const MICROS_PER_SECOND: i64 = 1_000_000;
    /// 9999-12-31T23:59:59Z: the last second that a time can say.
    const LAST_SECOND: i64 = 253_402_300_799;
    if message.is_empty() {
        return Some(None);
    }
    let mut seconds = 0;
    each_field(message, |number, wire, _| {
        match (number, wire) {
            (1, Wire::Varint(value)) => seconds = value.cast_signed(),
            (2, Wire::Varint(_)) => {}
            _ => return None,
        }
        Some(())
    })?;
    (1..=LAST_SECOND)
        .contains(&seconds)
        .then_some(Some(seconds * MICROS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_the_edges() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            u64::from(u32::MAX),
            u64::MAX,
        ] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            assert_eq!(out.len(), varint_len(value));
            assert_eq!(Reader::new(&out).varint().unwrap(), value);
        }
        assert!(Reader::new(&[0xff; 11]).varint().is_err());
    }

    #[test]
    fn nested_lengths_of_every_size() {
        for length in [0usize, 1, 127, 128, 16_383, 16_384, 40_000] {
            let mut out = vec![9];
            put_nested::<()>(3, &mut out, |out| {
                out.extend(std::iter::repeat_n(7, length));
                Ok(())
            })
            .unwrap();
            let mut reader = Reader::new(&out[1..]);
            let Some((3, Wire::Bytes(bytes))) = reader.field().unwrap() else {
                panic!("one nested field")
            };
            assert_eq!(
                (bytes.len(), bytes.iter().all(|byte| *byte == 7)),
                (length, true)
            );
            assert!(reader.at_end());
        }
    }

    #[test]
    fn fields_are_shown_with_their_bytes_until_somebody_says_no() {
        let mut message = Vec::new();
        put_bytes(1, b"a", &mut message);
        put_int(3, 7, &mut message);
        put_bytes(1, b"b", &mut message);
        let mut shown = Vec::new();
        let all = each_field(&message, |number, _, bytes| {
            shown.push((number, bytes.len()));
            Some(())
        });
        assert_eq!((all, &*shown), (Some(()), &[(1, 3), (3, 2), (1, 3)][..]));
        let until = each_field(&message, |number, _, _| (number == 1).then_some(()));
        assert_eq!(until, None);
        assert_eq!(each_field(&message[..2], |_, _, _| Some(())), None);
        assert_eq!(first_text(&message, 1), Some("a"));
        assert_eq!(first_text(&message, 2), Some(""));
        assert_eq!(first_text(&message, 3), None);
        assert_eq!(text(&[0xff]), None);
    }

    #[test]
    fn a_time_is_unset_a_second_or_somebody_elses_business() {
        let time = |seconds: i64| {
            let mut message = Vec::new();
            put_int(1, seconds.cast_unsigned(), &mut message);
            put_int(2, 0, &mut message);
            time_micros(&message)
        };
        assert_eq!(time_micros(b""), Some(None));
        assert_eq!(time(1), Some(Some(1_000_000)));
        assert_eq!(time(253_402_300_799), Some(Some(253_402_300_799_000_000)));
        assert_eq!([time(0), time(-1), time(253_402_300_800)], [None; 3]);
        assert_eq!(time_micros(&[0x0a]), None);
    }
}

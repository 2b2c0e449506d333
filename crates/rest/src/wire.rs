//! The few protobuf pieces that frames and lists are put together from. Knows no message types.

/// Bytes that a varint takes.
pub(crate) fn varint_len(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Bytes that a length-delimited field with a number below 16 takes.
pub(crate) fn field_len(length: usize) -> usize {
    1 + varint_len(length) + length
}

/// Appends a varint.
pub(crate) fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the tag and length of a length-delimited field with a number below 16; its content is to follow.
pub(crate) fn open_field(number: u8, length: usize, out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    put_varint(length, out);
}

/// Appends a length-delimited field with a number below 16.
pub(crate) fn put_field(number: u8, content: &[u8], out: &mut Vec<u8>) {
    open_field(number, content.len(), out);
    out.extend_from_slice(content);
}

/// The first field of a message with tag and length, if it is the length-delimited field 1: the metadata of
/// every API object. Empty if there is none.
pub(crate) fn metadata_field(message: &[u8]) -> &[u8] {
    const TAG: u8 = 1 << 3 | 2;
    let Some((&TAG, rest)) = message.split_first() else {
        return &[];
    };
    let mut length = 0_usize;
    for (index, &byte) in rest.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            let end = length.saturating_add(index + 2);
            return message.get(..end).unwrap_or_default();
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_as_long_as_told() {
        for value in [
            0,
            1,
            127,
            128,
            300,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            usize::MAX,
        ] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            assert_eq!(out.len(), varint_len(value), "{value}");
        }
        let mut out = Vec::new();
        put_varint(300, &mut out);
        assert_eq!(out, [0xac, 0x02]);
    }

    #[test]
    fn metadata_is_cut_out_of_a_message() {
        let mut message = Vec::new();
        put_field(1, &[7; 200], &mut message);
        let metadata = message.clone();
        put_field(2, b"spec", &mut message);
        assert_eq!(metadata_field(&message), metadata);
        assert_eq!(metadata.len(), field_len(200));
        assert_eq!(metadata_field(&message[metadata.len()..]), b"");
        assert_eq!(metadata_field(&message[..100]), b"");
        assert_eq!(
            metadata_field(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            b""
        );
        assert_eq!(metadata_field(b""), b"");
    }
}

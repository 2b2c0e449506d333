//! The envelope round every protobuf object on the wire: `k8s\0`, then a message with kind, API version and the bytes.

use crate::error::DecodeError;
use crate::wire::{Reader, Wire, put_bytes, put_nested, put_tag, put_varint, varint_len};

/// What every protobuf body begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// An opened envelope. Fields are as the sender wrote them, mostly UTF-8; nothing is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// `apps/v1`.
    pub api_version: &'a str,
    /// `Deployment`.
    pub kind: &'a str,
    /// The object's message.
    pub raw: &'a [u8],
    /// Empty: not encoded.
    pub content_encoding: &'a str,
    /// Empty: protobuf.
    pub content_type: &'a str,
}

/// Writes an envelope with its message.
pub fn wrap(api_version: &str, kind: &str, message: &[u8], out: &mut Vec<u8>) {
    wrap_open(api_version, kind, message.len(), out);
    out.extend_from_slice(message);
    wrap_close(out);
}

/// Writes the envelope up to a message of `length` bytes. Follow it with the message and [`wrap_close`].
pub fn wrap_open(api_version: &str, kind: &str, length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    let _ = put_nested::<()>(1, out, |out| {
        put_bytes(1, api_version.as_bytes(), out);
        put_bytes(2, kind.as_bytes(), out);
        Ok(())
    });
    put_tag(2, 2, out);
    put_varint(length as u64, out);
}

/// Writes what follows the message: the empty encoding and content type.
pub fn wrap_close(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0x1a, 0, 0x22, 0]);
}

/// How many bytes an envelope takes, the message included.
pub fn wrapped_len(api_version: &str, kind: &str, length: usize) -> usize {
    let text = |length: usize| 1 + varint_len(length as u64) + length;
    MAGIC.len() + text(text(api_version.len()) + text(kind.len())) + text(length) + 4
}

/// Opens an envelope.
pub fn unwrap(bytes: &[u8]) -> Result<Unknown<'_>, DecodeError> {
    let body = bytes.strip_prefix(&MAGIC).ok_or_else(|| {
        DecodeError::Protobuf("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]".to_owned())
    })?;
    if body.is_empty() {
        return Err(DecodeError::Protobuf("empty body".to_owned()));
    }
    let mut unknown = Unknown {
        api_version: "",
        kind: "",
        raw: &[],
        content_encoding: "",
        content_type: "",
    };
    let mut reader = Reader::new(body);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Bytes(meta)) => {
                let mut reader = Reader::new(meta);
                while let Some((number, wire)) = reader.field()? {
                    match (number, wire) {
                        (1, Wire::Bytes(bytes)) => unknown.api_version = text(bytes)?,
                        (2, Wire::Bytes(bytes)) => unknown.kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(raw)) => unknown.raw = raw,
            (3, Wire::Bytes(bytes)) => unknown.content_encoding = text(bytes)?,
            (4, Wire::Bytes(bytes)) => unknown.content_type = text(bytes)?,
            (1..=4, _) => return Err(DecodeError::protobuf("wrong wireType in the envelope")),
            _ => {}
        }
    }
    Ok(unknown)
}

/// Reads the message of a watch event, which a stream carries bare: its type and the object's own envelope.
pub fn watch_event(message: &[u8]) -> Result<(&str, &[u8]), DecodeError> {
    let (mut event, mut object): (&str, &[u8]) = ("", &[]);
    let mut reader = Reader::new(message);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => event = text(bytes)?,
            (2, Wire::Bytes(bytes)) => {
                object = crate::decode::raw_bytes(bytes)?.unwrap_or_default()
            }
            (1 | 2, _) => return Err(DecodeError::protobuf("wrong wireType in a watch event")),
            _ => {}
        }
    }
    Ok((event, object))
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes)
        .map_err(|_| DecodeError::protobuf("the envelope holds text that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_bytes() {
        let mut out = Vec::new();
        wrap("v1", "Pod", &[0x0a, 0], &mut out);
        assert_eq!(
            out,
            b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02\x0a\x00\x1a\x00\x22\x00"
        );
        assert_eq!(out.len(), wrapped_len("v1", "Pod", 2));
        let unknown = unwrap(&out).unwrap();
        assert_eq!(
            (unknown.api_version, unknown.kind, unknown.raw),
            ("v1", "Pod", &[0x0a, 0][..])
        );
        assert!(unwrap(b"k8s").is_err());
        assert!(unwrap(b"k8s\0\x0a\x7f").is_err());
    }

    #[test]
    fn a_watch_event_is_read_and_damage_is_told() {
        let frame = b"\x0a\x05ADDED\x12\x05\x0a\x03abc";
        assert_eq!(watch_event(frame).unwrap(), ("ADDED", b"abc".as_slice()));
        assert!(watch_event(&frame[..frame.len() - 1]).is_err());
        assert!(watch_event(b"\x08\x01").is_err());
    }
}

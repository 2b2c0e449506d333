//! A document that is made once and served many times: its bytes and the tag that tells whether they changed.
//!
//! Knows nothing about what the document says.

use bytes::Bytes;
use value::Value;

use crate::http::Reply;

/// A finished JSON document.
#[derive(Debug, Clone)]
pub struct Document {
    /// The JSON.
    pub body: Bytes,
    /// A digest of the body: 32 upper-case hexadecimal digits.
    pub hash: String,
}

impl Document {
    /// Writes a tree down.
    #[must_use]
    pub fn new(tree: &Value) -> Document {
        let body = Bytes::from(tree.to_string());
        let hash = fingerprint(&body);
        Document { body, hash }
    }

    /// The document as a reply, or 304 if the client already has it.
    #[must_use]
    pub fn reply(&self, content_type: &'static str, if_none_match: Option<&str>) -> Reply {
        let tag = format!("\"{}\"", self.hash);
        let known = if_none_match.is_some_and(|tags| {
            tags.split(',')
                .map(|known| known.trim().trim_start_matches("W/"))
                .any(|known| known == tag || known == "*")
        });
        let reply = if known {
            Reply::full(304, "", Bytes::new())
        } else {
            Reply::full(200, content_type, self.body.clone())
        };
        reply.with_header("etag", tag).with_header("vary", "Accept")
    }
}

/// A stable digest for change detection, not for security: FNV-1a with 128 bits.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let digest = bytes.iter().fold(OFFSET, |digest, &byte| {
        (digest ^ u128::from(byte)).wrapping_mul(PRIME)
    });
    format!("{digest:032X}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Body;

    #[test]
    fn the_digest_is_fnv_1a() {
        // The published test vectors of the empty input and of "a".
        assert_eq!(fingerprint(b""), "6C62272E07BB014262B821756295C58D");
        assert_eq!(fingerprint(b"a"), "D228CB696F1A8CAF78912B704E4A8964");
    }

    #[test]
    fn a_known_tag_saves_the_body() {
        let document = Document::new(&value::json!({"a": 1}));
        let first = document.reply("application/json", None);
        assert_eq!(
            (first.status, &*first.content_type),
            (200, "application/json")
        );
        let tag = first
            .headers
            .iter()
            .find(|(name, _)| *name == "etag")
            .map(|(_, tag)| tag.clone())
            .unwrap();
        assert_eq!(
            document.reply("application/json", Some("\"old\"")).status,
            200
        );
        let again = document.reply("application/json", Some(&format!("\"old\", W/{tag}")));
        assert_eq!(again.status, 304);
        assert!(matches!(again.body, Body::Full(bytes) if bytes.is_empty()));
    }
}

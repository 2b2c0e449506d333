//! The table that both sides know from the start: RFC 7541, appendix A.

/// Name and value at index 1 and on.
pub(crate) const STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// The first index of a name.
pub(crate) fn index_of(name: &[u8]) -> Option<usize> {
    // By first letter and length, a name is one comparison away.
    let range = match name.first()? {
        b':' => 1..=8,
        b'a' => 15..=23,
        b'c' => 24..=32,
        b'd' | b'e' => 33..=36,
        b'f' | b'h' => 37..=38,
        b'i' => 39..=43,
        b'l' | b'm' => 44..=47,
        b'p' => 48..=49,
        b'r' => 50..=53,
        b's' => 54..=56,
        b't' | b'u' | b'v' | b'w' => 57..=61,
        _ => return None,
    };
    let mut range = range;
    range.find(|index| {
        STATIC
            .get(index - 1)
            .is_some_and(|(other, _)| *other == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_at_its_first_place() {
        for (at, (name, _)) in STATIC.iter().enumerate() {
            let first = STATIC.iter().position(|(other, _)| other == name).unwrap();
            assert!(first <= at);
            assert_eq!(
                index_of(name),
                Some(first + 1),
                "{}",
                String::from_utf8_lossy(name)
            );
        }
        assert_eq!(index_of(b"grpc-status"), None);
        assert_eq!(index_of(b""), None);
    }
}

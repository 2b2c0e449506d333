//! What a message's headers must be: RFC 9113 §8. Bytes were looked at when they were decoded.

use crate::fields::Fields;

/// A list of headers that makes no message. The stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What the codec itself needs of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Bytes of body promised, -1 for none.
    pub(crate) content_length: i64,
    /// The status of an answer.
    pub(crate) status: u16,
}

/// A request's headers.
pub(crate) fn request(fields: &Fields) -> Result<Message, Malformed> {
    let (mut method, mut scheme, mut path, mut authority) = (None, None, None, None);
    let message = message(fields, |name, value| {
        set(
            match name {
                b":method" => &mut method,
                b":scheme" => &mut scheme,
                b":path" => &mut path,
                b":authority" => &mut authority,
                _ => return Err(Malformed),
            },
            value,
        )
    })?;
    match method {
        Some(b"CONNECT") if scheme.is_none() && path.is_none() && authority.is_some() => {
            Ok(message)
        }
        Some(b"" | b"CONNECT") | None => Err(Malformed),
        Some(_) if scheme.is_some_and(is_there) && path.is_some_and(is_there) => Ok(message),
        Some(_) => Err(Malformed),
    }
}

/// An answer's headers.
pub(crate) fn response(fields: &Fields) -> Result<Message, Malformed> {
    let mut status = None;
    let message = message(fields, |name, value| match name {
        b":status" => set(&mut status, value),
        _ => Err(Malformed),
    })?;
    let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = status.ok_or(Malformed)? else {
        return Err(Malformed);
    };
    let digit = |byte: &u8| u16::from(byte - b'0');
    Ok(Message {
        status: digit(a) * 100 + digit(b) * 10 + digit(c),
        ..message
    })
}

/// Headers after the body.
pub(crate) fn trailers(fields: &Fields) -> Result<(), Malformed> {
    message(fields, |_, _| Err(Malformed)).map(drop)
}

fn is_there(value: &[u8]) -> bool {
    !value.is_empty()
}

fn set<'a>(place: &mut Option<&'a [u8]>, value: &'a [u8]) -> Result<(), Malformed> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed),
    }
}

fn message<'a>(
    fields: &'a Fields,
    mut pseudo: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), Malformed>,
) -> Result<Message, Malformed> {
    if fields.is_unsound {
        return Err(Malformed);
    }
    let mut content_length = -1;
    let mut is_regular = false;
    for (name, value) in fields.iter() {
        if name.first() == Some(&b':') {
            if is_regular {
                return Err(Malformed);
            }
            pseudo(name, value)?;
            continue;
        }
        is_regular = true;
        match name {
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding"
            | b"upgrade" => {
                return Err(Malformed);
            }
            b"te" if value != b"trailers" => return Err(Malformed),
            b"content-length" => {
                let length = number(value).ok_or(Malformed)?;
                if content_length >= 0 && content_length != length {
                    return Err(Malformed);
                }
                content_length = length;
            }
            _ => {}
        }
    }
    Ok(Message {
        content_length,
        status: 0,
    })
}

fn number(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0i64, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(fields: &[(&'static str, &'static str)]) -> Fields {
        fields
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect()
    }

    #[test]
    fn a_request_says_what_it_wants_and_where() {
        let good = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
        assert!(request(&list(&good)).is_ok());
        for left_out in 0..3 {
            let mut bad = good.to_vec();
            bad.remove(left_out);
            assert_eq!(request(&list(&bad)), Err(Malformed));
        }
        for twice in good {
            let bad = [&good[..], &[twice]].concat();
            assert_eq!(request(&list(&bad)), Err(Malformed));
        }
        let empty = [(":method", "GET"), (":scheme", "http"), (":path", "")];
        assert_eq!(request(&list(&empty)), Err(Malformed));
    }

    #[test]
    fn pseudo_headers_stand_first_and_are_known() {
        let good = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
        for bad in [(":status", "200"), (":new", "x")] {
            assert_eq!(
                request(&list(&[&good[..], &[bad]].concat())),
                Err(Malformed)
            );
        }
        let late = [&[("a", "b")], &good[..]].concat();
        assert_eq!(request(&list(&late)), Err(Malformed));
        assert_eq!(trailers(&list(&[(":method", "GET")])), Err(Malformed));
        assert_eq!(trailers(&list(&[("grpc-status", "0")])), Ok(()));
    }

    #[test]
    fn what_belongs_to_one_connection_is_not_a_header() {
        for (name, value) in [
            ("connection", "close"),
            ("keep-alive", "x"),
            ("proxy-connection", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("content-length", "-1"),
            ("content-length", "1x"),
            ("content-length", ""),
        ] {
            assert_eq!(trailers(&list(&[(name, value)])), Err(Malformed), "{name}");
        }
        let two = [("content-length", "1"), ("content-length", "2")];
        assert_eq!(trailers(&list(&two)), Err(Malformed));
    }

    #[test]
    fn a_connect_names_an_authority_and_nothing_else() {
        let good = [(":method", "CONNECT"), (":authority", "a:1")];
        assert!(request(&list(&good)).is_ok());
        let bad = [&good[..], &[(":path", "/")]].concat();
        assert_eq!(request(&list(&bad)), Err(Malformed));
    }

    #[test]
    fn a_status_has_three_digits() {
        assert_eq!(
            response(&list(&[(":status", "204")])).map(|m| m.status),
            Ok(204)
        );
        for bad in ["", "20", "2000", "2x0", "099"] {
            assert_eq!(
                response(&list(&[(":status", bad)])),
                Err(Malformed),
                "{bad}"
            );
        }
        assert_eq!(response(&list(&[("a", "b")])), Err(Malformed));
    }
}

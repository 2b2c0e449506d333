//! Which requests the short way takes, and one message out of gRPC's frame.
//!
//! Knows no store and no connection: headers and bytes in, a call and its message out.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http2::Fields;
use tonic::Status;

/// The calls of KV that have one message each way and are answered at once, or when the medium has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Range,
    Put,
    DeleteRange,
    Txn,
}

/// A call whose message comes.
#[derive(Debug)]
pub struct Asking {
    pub call: Call,
    /// How long its client waits.
    pub timeout: Option<Duration>,
    /// What has come, unless it came at once.
    message: BytesMut,
}

/// What became of a piece of a message.
#[derive(Debug)]
pub enum Came {
    /// There is more to come.
    Part,
    /// The message, without its frame.
    Whole(Bytes),
    /// It is refused.
    Bad(Status),
}

const PREFIX_BYTES: usize = 5;

impl Asking {
    /// None for what goes the long way: everything else, and whatever is compressed or proves who it is.
    pub fn begin(fields: &Fields) -> Option<Asking> {
        let call = match fields.get(b":path")? {
            b"/etcdserverpb.KV/Txn" => Call::Txn,
            b"/etcdserverpb.KV/Range" => Call::Range,
            b"/etcdserverpb.KV/Put" => Call::Put,
            b"/etcdserverpb.KV/DeleteRange" => Call::DeleteRange,
            _ => return None,
        };
        let (mut is_grpc, mut timeout) = (false, None);
        for (name, value) in fields.iter() {
            match name {
                b":method" if value != b"POST" => return None,
                b"content-type" => {
                    is_grpc = matches!(value, b"application/grpc" | b"application/grpc+proto");
                }
                b"grpc-encoding" if value != b"identity" => return None,
                b"grpc-timeout" => timeout = Some(timeout_of(value)?),
                b"token" | b"authorization" | b"grpcgateway-accept" => return None,
                _ => {}
            }
        }
        is_grpc.then(|| Asking {
            call,
            timeout,
            message: BytesMut::new(),
        })
    }

    /// Bytes held of a message that is not whole.
    pub fn held_bytes(&self) -> usize {
        self.message.len()
    }

    /// The next piece; with `end`, the last.
    pub fn push(&mut self, data: Bytes, end: bool, bytes_max: usize) -> Came {
        if end && self.message.is_empty() {
            return whole(data, bytes_max);
        }
        // Copied: it would pin the block it came in.
        self.message.extend_from_slice(&data);
        if let Some((_, len)) = prefix(&self.message)
            && len > bytes_max
        {
            return Came::Bad(too_large());
        }
        if self.message.len() > bytes_max.saturating_add(PREFIX_BYTES) {
            return Came::Bad(Status::internal(SECOND));
        }
        if end {
            return whole(std::mem::take(&mut self.message).freeze(), bytes_max);
        }
        Came::Part
    }
}

const SECOND: &str = "megaplane: one message was expected, more came";
const TORN: &str = "megaplane: the request ended within its message";
const MISSING: &str = "megaplane: the request has no message";
/// As grpc-go says it.
const COMPRESSED: &str = "grpc: compressed flag set with identity or empty encoding";
const TOO_LARGE: &str = "grpc: received message larger than max";

fn too_large() -> Status {
    Status::resource_exhausted(TOO_LARGE)
}

/// Whether the message is compressed, and its length.
fn prefix(bytes: &[u8]) -> Option<(bool, usize)> {
    let [flag, a, b, c, d] = *bytes.first_chunk::<PREFIX_BYTES>()?;
    let len = u32::from_be_bytes([a, b, c, d]);
    Some((flag != 0, usize::try_from(len).unwrap_or(usize::MAX)))
}

fn whole(mut bytes: Bytes, bytes_max: usize) -> Came {
    if bytes.is_empty() {
        return Came::Bad(Status::internal(MISSING));
    }
    let Some((is_compressed, len)) = prefix(&bytes) else {
        return Came::Bad(Status::internal(TORN));
    };
    if is_compressed {
        return Came::Bad(Status::internal(COMPRESSED));
    }
    if len > bytes_max {
        return Came::Bad(too_large());
    }
    bytes.advance(PREFIX_BYTES);
    match bytes.len().cmp(&len) {
        std::cmp::Ordering::Less => Came::Bad(Status::internal(TORN)),
        std::cmp::Ordering::Equal => Came::Whole(bytes),
        std::cmp::Ordering::Greater => Came::Bad(Status::internal(SECOND)),
    }
}

/// gRPC's `grpc-timeout`: at most eight digits and a unit. None if it is none.
fn timeout_of(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(changes: &[(&str, &str)]) -> Option<Asking> {
        let usual = [
            (":method", "POST"),
            (":path", "/etcdserverpb.KV/Txn"),
            ("content-type", "application/grpc"),
        ];
        let kept = usual
            .iter()
            .filter(|(name, _)| !changes.iter().any(|(other, _)| other == name));
        let fields = kept.chain(changes);
        Asking::begin(
            &fields
                .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
                .collect(),
        )
    }

    fn said(came: Came) -> String {
        match came {
            Came::Part => "part".into(),
            Came::Whole(message) => format!("{message:?}"),
            Came::Bad(status) => format!("{:?}: {}", status.code(), status.message()),
        }
    }

    #[test]
    fn only_plain_unary_calls_go_the_short_way() {
        assert_eq!(begin(&[]).unwrap().call, Call::Txn);
        assert!(begin(&[("grpc-encoding", "identity")]).is_some());
        let timeout = |value| begin(&[("grpc-timeout", value)]).map(|asking| asking.timeout);
        assert_eq!(timeout("20S"), Some(Some(Duration::from_secs(20))));
        assert_eq!(timeout("1500m"), Some(Some(Duration::from_millis(1500))));
        for other in [
            ("grpc-encoding", "gzip"),
            ("grpc-timeout", "5"),
            ("grpc-timeout", "123456789S"),
            ("content-type", "application/grpc-web"),
            (":method", "GET"),
            (":path", "/etcdserverpb.KV/Compact"),
            ("token", "x"),
        ] {
            assert!(begin(&[other]).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_message_is_whole_or_refused() {
        let push = |bytes: &'static [u8]| {
            let mut asking = begin(&[]).unwrap();
            said(asking.push(Bytes::from_static(bytes), true, 4))
        };
        assert_eq!(push(b"\0\0\0\0\x02ab"), r#"b"ab""#);
        assert_eq!(push(b"\0\0\0\0\0"), r#"b"""#);
        assert_eq!(push(b""), format!("Internal: {MISSING}"));
        assert_eq!(push(b"\0\0\0\0\x02a"), format!("Internal: {TORN}"));
        assert_eq!(push(b"\0\0\0\0\x02abc"), format!("Internal: {SECOND}"));
        assert_eq!(
            push(b"\x01\0\0\0\x02ab"),
            "Internal: grpc: compressed flag set with identity or empty encoding"
        );
        assert_eq!(
            push(b"\0\0\0\0\x05abcde"),
            "ResourceExhausted: grpc: received message larger than max"
        );
    }

    #[test]
    fn pieces_make_one_message_and_a_large_one_is_refused_at_its_first_bytes() {
        let mut asking = begin(&[]).unwrap();
        for byte in b"\0\0\0\0\x02a" {
            let came = asking.push(Bytes::copy_from_slice(&[*byte]), false, 4);
            assert_eq!(said(came), "part");
        }
        assert_eq!(asking.held_bytes(), 6);
        assert_eq!(said(asking.push("b".into(), true, 4)), r#"b"ab""#);
        let mut asking = begin(&[]).unwrap();
        let came = asking.push(Bytes::from_static(b"\0\0\0\0\x05"), false, 4);
        assert!(matches!(came, Came::Bad(_)));
    }
}

//! The heads of requests and replies, as far as both listeners mean the same by them.
//!
//! Knows headers by name and value, and neither the types of a library nor frames.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::LocalKey;

use bytes::Bytes;
use meta::ApiError;
use rest::http::{Method, REQUEST_BODY_BYTES_MAX, Reply, Request, User};

use crate::state::{now_micros, random};

/// The header that names a request in audit logs, and its longest value that is taken over from a client.
pub const AUDIT_ID: &str = "audit-id";
const AUDIT_ID_BYTES_MAX: usize = 64;
/// Bytes of an audit id of ours: a UUID.
pub const AUDIT_ID_BYTES: usize = 36;
/// What every reply says of being kept by others.
pub const CACHE_CONTROL: &str = "no-cache, private";
/// Longest text that is kept for the next request to share: media types and names of programs are far shorter.
const SHARED_TEXT_BYTES_MAX: usize = 512;
/// Bytes of a date as HTTP writes it.
const DATE_BYTES: usize = 29;

/// The head of a request.
pub struct Head {
    /// The request, its body still empty; or why it is refused, whatever its body is.
    pub request: Result<Request, Box<Reply>>,
    /// Under which id it is audited.
    pub audit_id: AuditId,
    /// How long its body is said to be.
    pub content_length: Option<u64>,
}

/// Reads a head. `target` is path and query, still encoded; names of headers are in lower case.
pub fn read<'a>(
    method: &str,
    target: &str,
    headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    user: Option<Arc<User>>,
) -> Head {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut audit_id = AuditId::New;
    let (mut content_length, mut impersonates) = (None, false);
    let mut request = Request {
        method: Method::Get,
        path: path.to_owned(),
        query: query.to_owned(),
        accept: Arc::default(),
        content_type: Arc::default(),
        user_agent: Arc::default(),
        if_none_match: None,
        body: Bytes::new(),
        user,
    };
    for (name, value) in headers {
        match name {
            b"accept" => {
                request.accept = if request.accept.is_empty() {
                    as_before(&ACCEPT, text(value))
                } else {
                    // It may come as several header lines, which mean one list.
                    [&request.accept, ",", text(value)].concat().into()
                };
            }
            b"content-type" => request.content_type = as_before(&CONTENT_TYPE, text(value)),
            b"user-agent" => request.user_agent = as_before(&USER_AGENT, text(value)),
            b"if-none-match" => {
                request.if_none_match = Some(text(value).to_owned()).filter(|tag| !tag.is_empty());
            }
            b"content-length" => content_length = text(value).parse().ok(),
            b"audit-id" if (1..=AUDIT_ID_BYTES_MAX).contains(&value.len()) => {
                audit_id = AuditId::Given(value.into());
            }
            _ => impersonates |= name.starts_with(b"impersonate-"),
        }
    }
    let known = Method::parse(method);
    request.method = known.unwrap_or(Method::Get);
    let request = if known.is_none() {
        Err(Box::new(Reply::error(&crate::api::method_not_allowed())))
    } else if impersonates {
        // To take the request for the sender's own would be worse than to refuse it.
        let error = ApiError::new(
            403,
            meta::Reason::Forbidden,
            "impersonation is not served by this release",
        );
        Err(Box::new(Reply::error(&error)))
    } else {
        Ok(request)
    };
    Head {
        request,
        audit_id,
        content_length,
    }
}

thread_local! {
    static ACCEPT: RefCell<Arc<str>> = RefCell::default();
    static CONTENT_TYPE: RefCell<Arc<str>> = RefCell::default();
    static USER_AGENT: RefCell<Arc<str>> = RefCell::default();
}

/// A text that the request before had, most likely, too: they share it.
fn as_before(last: &'static LocalKey<RefCell<Arc<str>>>, text: &str) -> Arc<str> {
    last.with_borrow_mut(|last| {
        if **last == *text {
            return last.clone();
        }
        let text: Arc<str> = text.into();
        if text.len() <= SHARED_TEXT_BYTES_MAX {
            last.clone_from(&text);
        }
        text
    })
}

/// A header's value as text; one that is none counts as not sent.
fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.is_ascii())
        .unwrap_or_default()
}

/// The refusal of a body that is longer than a request's may be.
pub fn too_large() -> Reply {
    Reply::error(&ApiError::request_too_large(format!(
        "limit is {REQUEST_BODY_BYTES_MAX}"
    )))
}

/// The id under which a request is audited: the sender's own if it has one, else a new one.
#[derive(Debug, Clone)]
pub enum AuditId {
    /// It came with the request.
    Given(Box<[u8]>),
    /// It is made when the reply is.
    New,
}

impl AuditId {
    /// The id. A new one is written to `room`.
    pub fn bytes<'a>(&'a self, room: &'a mut [u8; AUDIT_ID_BYTES]) -> &'a [u8] {
        match self {
            AuditId::Given(bytes) => bytes,
            AuditId::New => {
                *room = uuid(random(), random());
                room
            }
        }
    }
}

/// A UUID of version 4.
fn uuid(high: u64, low: u64) -> [u8; AUDIT_ID_BYTES] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    /// Where the digits of each byte stand.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0xc << 60) | (0x8 << 60);
    let mut text = [b'-'; AUDIT_ID_BYTES];
    let bytes = high.to_be_bytes().into_iter().chain(low.to_be_bytes());
    for (byte, place) in bytes.zip(PLACES) {
        text[place] = DIGITS[usize::from(byte >> 4)];
        text[place + 1] = DIGITS[usize::from(byte & 0xf)];
    }
    text
}

/// Runs `use_it` with the time as HTTP writes it; made once a second on each thread.
pub fn with_date<T>(use_it: impl FnOnce(&[u8]) -> T) -> T {
    thread_local! {
        static DATE: RefCell<(i64, [u8; DATE_BYTES])> = const { RefCell::new((i64::MIN, [0; DATE_BYTES])) };
    }
    let second = now_micros().div_euclid(1_000_000);
    DATE.with_borrow_mut(|(made, date)| {
        if *made != second {
            (*made, *date) = (second, date_of(second));
        }
        use_it(date)
    })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
fn date_of(second: i64) -> [u8; DATE_BYTES] {
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    // `1994-11-06T08:49:37Z`
    let text = meta::time::format_seconds(second.saturating_mul(1_000_000));
    let part = |from: usize, to: usize| text.as_bytes().get(from..to).unwrap_or(b"0000");
    let weekday = second.div_euclid(86_400).rem_euclid(7) as usize * 3;
    let number = std::str::from_utf8(part(5, 7))
        .ok()
        .and_then(|text| text.parse::<usize>().ok());
    let month = number.unwrap_or(1).clamp(1, 12) * 3 - 3;
    let mut date = [b' '; DATE_BYTES];
    let mut at = 0;
    for piece in [
        &DAYS[weekday..weekday + 3],
        b", ",
        part(8, 10),
        b" ",
        &MONTHS[month..month + 3],
        b" ",
        part(0, 4),
        b" ",
        part(11, 19),
        b" GMT",
    ] {
        if let Some(place) = date.get_mut(at..at + piece.len()) {
            place.copy_from_slice(piece);
        }
        at += piece.len();
    }
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, headers: &[(&str, &str)]) -> Head {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        read(method, "/api/v1/pods?limit=5", headers, None)
    }

    #[test]
    fn a_head_is_taken_apart() {
        let head = head(
            "GET",
            &[
                ("accept", "application/json"),
                ("user-agent", "test/1"),
                ("accept", "*/*"),
                ("content-length", "12"),
                ("if-none-match", ""),
                ("audit-id", "mine"),
            ],
        );
        let request = head.request.unwrap();
        assert_eq!(
            (&*request.path, &*request.query),
            ("/api/v1/pods", "limit=5")
        );
        assert_eq!(&*request.accept, "application/json,*/*");
        assert_eq!(request.if_none_match, None);
        assert_eq!(head.content_length, Some(12));
        assert_eq!(head.audit_id.bytes(&mut [0; 36]), b"mine");
    }

    #[test]
    fn what_requests_have_in_common_is_there_once() {
        let agent = |name: &str| {
            head("GET", &[("user-agent", name)])
                .request
                .unwrap()
                .user_agent
        };
        let first = agent("kubelet");
        assert!(Arc::ptr_eq(&first, &agent("kubelet")));
        let other = agent("kubectl");
        assert_eq!((&*other, &*agent("kubelet")), ("kubectl", "kubelet"));
        let long = "x".repeat(SHARED_TEXT_BYTES_MAX + 1);
        assert!(!Arc::ptr_eq(&agent(&long), &agent(&long)));
    }

    #[test]
    fn strange_methods_and_impersonation_are_refused_by_the_head() {
        assert_eq!(head("TRACE", &[]).request.unwrap_err().status, 405);
        let head = head("GET", &[("impersonate-user", "root")]);
        assert_eq!(head.request.unwrap_err().status, 403);
    }

    #[test]
    fn an_id_of_ours_is_a_uuid_and_never_the_same() {
        assert_eq!(&uuid(0, 0), b"00000000-0000-4000-8000-000000000000");
        assert_eq!(
            &uuid(u64::MAX, u64::MAX),
            b"ffffffff-ffff-4fff-bfff-ffffffffffff"
        );
        let (mut one, mut other) = ([0; 36], [0; 36]);
        assert_ne!(AuditId::New.bytes(&mut one), AuditId::New.bytes(&mut other));
    }

    #[test]
    fn a_date_is_written_as_http_wants_it() {
        assert_eq!(&date_of(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&date_of(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        with_date(|date| assert!(date.ends_with(b" GMT")));
    }
}

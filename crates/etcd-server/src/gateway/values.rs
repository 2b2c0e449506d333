//! JSON values, one after the other, out of a body that comes in pieces. Knows only where a value ends, not whether
//! it is one.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::Body as HttpBody;
use tonic::Status;
use tonic::codegen::StdError;

/// The values of a body.
pub struct Values<B> {
    /// None after its end.
    body: Option<Pin<Box<B>>>,
    buffer: BytesMut,
    scan: Scan,
    max_bytes: usize,
}

/// How far the first value of the buffer has been looked at.
#[derive(Default)]
struct Scan {
    at: usize,
    depth: usize,
    in_text: bool,
    is_escaped: bool,
}

impl<B> Values<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<StdError>,
{
    /// No value may be longer.
    pub fn new(body: B, max_bytes: usize) -> Self {
        Values {
            body: Some(Box::pin(body)),
            buffer: BytesMut::new(),
            scan: Scan::default(),
            max_bytes,
        }
    }

    /// The next value; none at the end of the body.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match self.scan.next(&mut self.buffer) {
                Ok(Some(value)) => return Poll::Ready(Some(Ok(value))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if self.buffer.len() > self.max_bytes {
                let text = "grpc: received message larger than max";
                return Poll::Ready(Some(Err(Status::resource_exhausted(text))));
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(match self.buffer.is_empty() {
                    true => None,
                    false => Some(Err(Status::invalid_argument("unexpected EOF"))),
                });
            };
            match body.as_mut().poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => self.body = None,
                Poll::Ready(Some(Err(error))) => {
                    self.body = None;
                    let error: StdError = error.into();
                    return Poll::Ready(Some(Err(Status::invalid_argument(error.to_string()))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

impl Scan {
    /// Takes the first value off the buffer, if all of it is there.
    fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Status> {
        if self.at == 0 {
            let blank = buffer
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace())
                .count();
            let _ = buffer.split_to(blank);
        }
        while let Some(byte) = buffer.get(self.at) {
            self.at += 1;
            if self.in_text {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.depth == 0 {
                // Messages are objects: whatever begins otherwise is none.
                if self.at == 1 {
                    return Err(Status::invalid_argument("a JSON object is expected"));
                }
                let end = std::mem::take(self).at;
                return Ok(Some(buffer.split_to(end).freeze()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pieces: &[&str]) -> (Vec<String>, Option<String>) {
        let (mut scan, mut buffer) = (Scan::default(), BytesMut::new());
        let mut found = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece.as_bytes());
            loop {
                match scan.next(&mut buffer) {
                    Ok(Some(value)) => found.push(String::from_utf8(value.to_vec()).unwrap()),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error.message().to_owned())),
                }
            }
        }
        (found, None)
    }

    #[test]
    fn values_end_where_their_brackets_close() {
        let (found, error) = values(&["  {\"a\":\"}\\", "\"{\"}{}\n[{\"b\"", ":[]}] {"]);
        assert_eq!(found, ["{\"a\":\"}\\\"{\"}", "{}", "[{\"b\":[]}]"]);
        assert_eq!(error, None);
    }

    #[test]
    fn what_does_not_begin_like_a_message_is_refused() {
        assert_eq!(
            values(&["nonsense"]).1.as_deref(),
            Some("a JSON object is expected")
        );
        assert_eq!(
            values(&["{} }"]),
            (vec!["{}".into()], Some("a JSON object is expected".into()))
        );
    }
}

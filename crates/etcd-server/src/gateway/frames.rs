//! gRPC's framing: five bytes of head before each message, and how it went at the end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Response};
use hyper::body::Body as HttpBody;
use tonic::Status;
use tonic::body::Body;

/// A flag and a length.
const HEAD_BYTES: usize = 5;

/// Frames a message.
pub fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The messages of an answer.
pub struct Frames {
    /// None after the end.
    body: Option<Pin<Box<Body>>>,
    /// Said before any message.
    refusal: Option<Status>,
    buffer: BytesMut,
}

impl Frames {
    /// Of this answer.
    pub fn new(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        Frames {
            refusal: failure(&head.headers),
            body: Some(Box::pin(body)),
            buffer: BytesMut::new(),
        }
    }

    /// The next message; none when all went well to the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let Some(refusal) = self.refusal.take() {
                self.body = None;
                return Poll::Ready(Some(Err(refusal)));
            }
            if let Some(message) = self.take() {
                return Poll::Ready(Some(Ok(message)));
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(None);
            };
            match body.as_mut().poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => self.body = None,
                Poll::Ready(Some(Err(error))) => self.refusal = Some(error),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        self.refusal = failure(&trailers);
                    }
                },
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let mut head = self.buffer.get(1..HEAD_BYTES)?;
        let len = usize::try_from(head.get_u32()).ok()?;
        if self.buffer.len() - HEAD_BYTES < len {
            return None;
        }
        self.buffer.advance(HEAD_BYTES);
        Some(self.buffer.split_to(len).freeze())
    }
}

fn failure(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != tonic::Code::Ok)
}

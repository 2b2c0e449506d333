//! The watch stream: bytes of a reply body cut into events.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use meta::{ApiError, Value};
use rest::http::{FrameSource, Told};

use crate::verbs::{decode_object, decode_only};
use crate::{ClientError, Only};

/// Largest single event that is accepted, in bytes: an object of the request limit with room for its envelope.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The length before each event, big-endian.
const HEAD_BYTES: usize = 4;

/// One event of a watch.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// The object appeared, or began to match the selector.
    Added(Value),
    /// The object changed.
    Modified(Value),
    /// The object went, or no longer matches; this is its last state.
    Deleted(Value),
    /// Everything up to this version has been sent.
    Bookmark(String),
}

/// An open watch.
pub struct WatchStream {
    source: Box<dyn FrameSource>,
    buffer: BytesMut,
    ready: VecDeque<Bytes>,
}

impl WatchStream {
    pub(crate) fn new(source: Box<dyn FrameSource>) -> WatchStream {
        WatchStream {
            source,
            buffer: BytesMut::new(),
            ready: VecDeque::new(),
        }
    }

    /// The next event; `None` when the server ended the watch. An error event ends the watch too.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ClientError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Like [`WatchStream::next`], for callers with a poll loop of their own.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<WatchEvent>, ClientError>> {
        let frame = match self.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(match frame {
            Ok(Some(frame)) => decode_event(&frame, None).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// The same watch for a reader that takes objects of the same process as they are stored.
    pub(crate) fn told(self) -> ToldStream {
        ToldStream {
            stream: self,
            ready: VecDeque::new(),
        }
    }

    /// The next event as it came, for callers that look at it themselves ([`schema::envelope::watch_event`]): one of type
    /// `ERROR` is the last.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientError>> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Poll::Ready(Ok(Some(frame)));
            }
            match self.source.poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(self.ended().map(|()| None)),
                Poll::Ready(Some(bytes)) => {
                    if let Err(error) = self.take_in(bytes) {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
    }

    /// The body ended: not inside an event, if it is to count.
    fn ended(&self) -> Result<(), ClientError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        Err(ClientError::Transport(
            "the watch broke off inside an event".into(),
        ))
    }

    /// Cuts what came. Between processes an event may be split; in one, pieces hold whole events and are not copied.
    fn take_in(&mut self, mut bytes: Bytes) -> Result<(), ClientError> {
        if self.buffer.is_empty() {
            while let Some(length) = whole_frame(&bytes)? {
                let mut frame = bytes.split_to(HEAD_BYTES + length);
                self.ready.push_back(frame.split_off(HEAD_BYTES));
            }
        }
        self.buffer.extend_from_slice(&bytes);
        self.cut()
    }

    /// Moves whole frames (4-byte big-endian length, then the message) from the buffer to the queue.
    fn cut(&mut self) -> Result<(), ClientError> {
        while let Some(length) = whole_frame(&self.buffer)? {
            let mut frame = self.buffer.split_to(HEAD_BYTES + length);
            self.ready.push_back(frame.split_off(HEAD_BYTES).freeze());
        }
        Ok(())
    }
}

/// A watch whose events are not decoded, and in one process not even framed.
pub(crate) struct ToldStream {
    stream: WatchStream,
    /// Pieces are whole frames here.
    ready: VecDeque<Told>,
}

impl ToldStream {
    /// The next event, if it has been read already.
    pub(crate) fn at_hand(&mut self) -> Option<Told> {
        self.ready.pop_front()
    }

    /// The next event; `None` when the server ended the watch. If there is none yet, nothing is looked at for `pace`, so
    /// that what comes meanwhile comes together.
    pub(crate) async fn next_paced(&mut self, pace: Duration) -> Result<Option<Told>, ClientError> {
        if !pace.is_zero() {
            let now = poll_fn(|cx| Poll::Ready(self.poll_next(cx))).await;
            match now {
                Poll::Ready(told) => return told,
                Poll::Pending => tokio::time::sleep(pace).await,
            }
        }
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Told>, ClientError>> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                return Poll::Ready(Ok(Some(told)));
            }
            // Nothing is left in it, so that its room takes what comes.
            let more = match self.stream.source.poll_told(cx, &mut self.ready) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(more) => more,
            };
            if !more && self.ready.is_empty() {
                return Poll::Ready(self.stream.ended().map(|()| None));
            }
            let is_object = |told: &Told| matches!(told, Told::Object { .. });
            if self.ready.iter().all(is_object) {
                continue;
            }
            for told in std::mem::take(&mut self.ready) {
                match told {
                    Told::Piece(bytes) => {
                        if let Err(error) = self.stream.take_in(bytes) {
                            return Poll::Ready(Err(error));
                        }
                        let frames = self.stream.ready.drain(..);
                        self.ready.extend(frames.map(Told::Piece));
                    }
                    object => self.ready.push_back(object),
                }
            }
        }
    }
}

/// The length of the event that these bytes begin with, if all of it is there.
fn whole_frame(bytes: &[u8]) -> Result<Option<usize>, ClientError> {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*head) as usize;
    if length > EVENT_BYTES_MAX {
        return Err(ClientError::Transport(format!(
            "a watch event of {length} bytes is too large"
        )));
    }
    Ok((bytes.len() >= HEAD_BYTES + length).then_some(length))
}

/// What an event says; of its object, what is wanted.
pub(crate) fn decode_event(frame: &[u8], only: Option<&Only>) -> Result<WatchEvent, ClientError> {
    let (kind, object) = schema::envelope::watch_event(frame).map_err(|error| {
        ClientError::Transport(format!("a watch event cannot be read: {error}"))
    })?;
    let object = match only {
        Some(only) => decode_only(object, only)?,
        None => decode_object(object)?,
    };
    Ok(match kind {
        "ADDED" => WatchEvent::Added(object),
        "MODIFIED" => WatchEvent::Modified(object),
        "DELETED" => WatchEvent::Deleted(object),
        "BOOKMARK" => WatchEvent::Bookmark(
            object["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        ),
        "ERROR" => return Err(ApiError::from_status(&object).into()),
        other => {
            return Err(ClientError::Transport(format!(
                "unknown watch event {other}"
            )));
        }
    })
}

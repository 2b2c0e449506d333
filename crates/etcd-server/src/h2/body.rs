//! A request's body as it comes: filled by the connection, read by whoever answers.
//!
//! Bytes stay in the stream's window until they are read, so that it holds at most a window of them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame};

/// The reader's end.
#[derive(Debug)]
pub struct RequestBody(Arc<Mutex<Arriving>>);

/// The connection's end.
#[derive(Debug)]
pub struct BodyFiller(Arc<Mutex<Arriving>>);

#[derive(Debug, Default)]
struct Arriving {
    bytes: BytesMut,
    /// Bytes that were read, or thrown away, and that the peer may send again.
    owed: usize,
    is_whole: bool,
    is_broken: bool,
    /// Nobody will read it.
    is_unwanted: bool,
    reader: Option<Waker>,
}

/// The client went away before its request was whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream was reset")]
pub struct Broken;

/// Both ends of a body of which nothing has come.
pub fn request_body() -> (BodyFiller, RequestBody) {
    let arriving = Arc::<Mutex<Arriving>>::default();
    (BodyFiller(arriving.clone()), RequestBody(arriving))
}

fn lock(arriving: &Mutex<Arriving>) -> MutexGuard<'_, Arriving> {
    arriving.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BodyFiller {
    /// The next bytes; with `end`, the last ones. They are copied: the reader would pin the block they came in. False
    /// when nobody wants them.
    pub fn push(&self, data: &[u8], end: bool) -> bool {
        let (is_wanted, reader) = {
            let mut arriving = lock(&self.0);
            let is_wanted = !arriving.is_unwanted;
            if is_wanted {
                arriving.bytes.extend_from_slice(data);
            }
            arriving.is_whole |= end;
            (is_wanted, arriving.reader.take())
        };
        reader.into_iter().for_each(Waker::wake);
        is_wanted
    }

    /// The bytes that were read since this was last asked.
    pub fn take_owed(&self) -> usize {
        std::mem::take(&mut lock(&self.0).owed)
    }

    /// No more will come. Answers what was not read.
    pub fn cut(&self) -> usize {
        let (unread, reader) = {
            let mut arriving = lock(&self.0);
            arriving.is_broken = true;
            let unread = arriving.bytes.len() + std::mem::take(&mut arriving.owed);
            arriving.bytes = BytesMut::new();
            (unread, arriving.reader.take())
        };
        reader.into_iter().for_each(Waker::wake);
        unread
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut arriving = lock(&self.0);
        if !arriving.bytes.is_empty() {
            let data = std::mem::take(&mut arriving.bytes).freeze();
            arriving.owed += data.len();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if arriving.is_whole {
            return Poll::Ready(None);
        }
        if arriving.is_broken {
            return Poll::Ready(Some(Err(Broken)));
        }
        arriving.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let arriving = lock(&self.0);
        arriving.is_whole && arriving.bytes.is_empty()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let mut arriving = lock(&self.0);
        arriving.is_unwanted = true;
        arriving.owed += arriving.bytes.len();
        arriving.bytes = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &mut RequestBody) -> Poll<Option<Result<Bytes, Broken>>> {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(body)
            .poll_frame(&mut cx)
            .map_ok(|frame| frame.into_data().unwrap())
    }

    #[test]
    fn what_was_read_is_owed_and_what_nobody_reads_too() {
        let (filler, mut body) = request_body();
        assert!(read(&mut body).is_pending());
        assert!(filler.push(b"abc", false));
        assert!(filler.push(b"de", false));
        assert_eq!(filler.take_owed(), 0);
        assert_eq!(read(&mut body), Poll::Ready(Some(Ok("abcde".into()))));
        assert_eq!((filler.take_owed(), filler.take_owed()), (5, 0));
        filler.push(b"fg", false);
        drop(body);
        assert_eq!(filler.take_owed(), 2);
        assert!(!filler.push(b"hij", true));
    }

    #[test]
    fn a_body_ends_whole_or_broken() {
        let (filler, mut body) = request_body();
        filler.push(b"a", true);
        assert!(!body.is_end_stream());
        assert_eq!(read(&mut body), Poll::Ready(Some(Ok("a".into()))));
        assert!(body.is_end_stream());
        assert_eq!(read(&mut body), Poll::Ready(None));
        let (filler, mut body) = request_body();
        filler.push(b"abc", false);
        assert_eq!(filler.cut(), 3);
        assert_eq!(read(&mut body), Poll::Ready(Some(Err(Broken))));
    }
}

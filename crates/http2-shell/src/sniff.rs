//! Which protocol a client speaks: its first bytes say it, before anything is agreed on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http2::PREFACE;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// What the first bytes are the beginning of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Anything that is not HTTP/2, in practice HTTP/1.1.
    Http1,
    /// HTTP/2 that the client knew beforehand, or agreed on in TLS.
    Http2,
}

/// Reads until it is clear. What was read is to be looked at again.
///
/// # Errors
/// What the stream fails with.
pub async fn sniff(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Protocol, Bytes)> {
    let mut seen = BytesMut::with_capacity(PREFACE.len());
    loop {
        let wanted = PREFACE.len() - seen.len();
        let read = stream.read_buf(&mut (&mut seen).limit(wanted)).await?;
        if read == 0 || !PREFACE.starts_with(&seen) {
            return Ok((Protocol::Http1, seen.freeze()));
        }
        if seen.len() == PREFACE.len() {
            return Ok((Protocol::Http2, seen.freeze()));
        }
    }
}

/// A stream whose first bytes were read already.
#[derive(Debug)]
pub struct Replayed<S> {
    first: Bytes,
    stream: S,
}

impl<S> Replayed<S> {
    /// A stream that begins with `first`.
    pub fn new(first: Bytes, stream: S) -> Self {
        Replayed { first, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replayed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let len = self.first.len().min(buffer.remaining());
        if let Some(piece) = self.first.get(..len) {
            buffer.put_slice(piece);
        }
        self.first.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replayed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn first_of(bytes: &[u8]) -> (Protocol, Bytes) {
        let mut stream = bytes;
        sniff(&mut stream).await.unwrap()
    }

    #[tokio::test]
    async fn only_the_whole_preface_is_http2() {
        let (protocol, seen) = first_of(&[&PREFACE[..], b"rest"].concat()).await;
        assert_eq!((protocol, &seen[..]), (Protocol::Http2, &PREFACE[..]));
        for other in [
            &b"PRI * HTTP/1.1\r\n"[..],
            b"PUT / HTTP/1.1\r\n",
            b"PRI",
            b"",
        ] {
            assert_eq!(first_of(other).await.0, Protocol::Http1, "{other:?}");
        }
    }

    #[tokio::test]
    async fn what_was_looked_at_is_read_again() {
        let mut stream = &b"GET / HTTP/1.1\r\n"[..];
        let (_, seen) = sniff(&mut stream).await.unwrap();
        let mut all = Vec::new();
        let mut replayed = Replayed::new(seen, stream);
        replayed.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"GET / HTTP/1.1\r\n");
    }
}

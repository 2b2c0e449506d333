//! The server's end of TLS, whose buffers belong to the thread: a session that has nothing under way holds none.
//!
//! ```text
//!   socket ─► thread's buffer ─► rustls ─► whoever reads       socket ◄─ thread's buffer ◄─ rustls ◄─ whoever writes
//!                   └ half a record: `cipher`   └ what was not asked for: `plain`   └ what the socket left: `unsent`
//! ```
//!
//! rustls does all of TLS; this is who carries its bytes. Knows no certificate and no protocol above: a server looks at
//! [`TlsStream::session`] for both.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, BytesMut};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::buffers;
use crate::limits::{
    HANDSHAKE_BYTES_MAX, HANDSHAKE_READ_BYTES, RECORD_BYTES_MAX, SEALED_AT_ONCE_BYTES,
};

/// A stream of bytes under TLS.
pub struct TlsStream<S> {
    stream: S,
    session: UnbufferedServerConnection,
    /// Only while something is under way.
    kept: Option<Box<Kept>>,
    /// The peer has said that it sends no more.
    is_read_over: bool,
    /// Our farewell is on its way.
    is_write_over: bool,
    /// The session failed: whoever goes on has not noticed.
    has_failed: bool,
}

/// Bytes that wait.
#[derive(Default)]
struct Kept {
    /// The beginning of a record whose end has not come.
    cipher: BytesMut,
    /// What came beyond what was asked for. Nothing is read until it is taken.
    plain: BytesMut,
    /// What the socket has not taken. Nothing more is sealed until it is.
    unsent: BytesMut,
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}

impl<S> TlsStream<S> {
    /// What was agreed on: the protocol above, and who the peer has shown itself to be.
    pub fn session(&self) -> &CommonState {
        &self.session
    }

    fn kept(&mut self) -> &mut Kept {
        self.kept.get_or_insert_default()
    }

    fn cipher(&self) -> &[u8] {
        self.kept.as_ref().map_or(&[], |kept| &kept.cipher)
    }

    /// Whether something waits for the socket.
    fn has_unsent(&self) -> bool {
        let kept = self.kept.as_ref();
        kept.is_some_and(|kept| !kept.unsent.is_empty())
    }

    fn keep_unsent(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.kept().unsent.extend_from_slice(bytes);
        }
    }

    /// Keeps no room for bytes that wait when none do.
    fn tidy(&mut self) {
        self.kept.take_if(|kept| {
            kept.cipher.is_empty() && kept.plain.is_empty() && kept.unsent.is_empty()
        });
    }
}

/// Shakes hands. Takes as long as the peer does: the caller has a limit.
///
/// # Errors
/// What the stream fails with; `InvalidData` when the peer does not speak TLS, or cannot be agreed with, or believed. It
/// is told why.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: Arc<ServerConfig>,
) -> io::Result<TlsStream<S>> {
    let mut tls = TlsStream {
        stream,
        session: UnbufferedServerConnection::new(config).map_err(invalid)?,
        kept: None,
        is_read_over: false,
        is_write_over: false,
        has_failed: false,
    };
    let (mut input, mut plain) = (
        BytesMut::with_capacity(HANDSHAKE_READ_BYTES),
        BytesMut::new(),
    );
    while tls.session.is_handshaking() {
        if input.len() > HANDSHAKE_BYTES_MAX {
            return Err(invalid("a handshake without end"));
        }
        input.reserve(HANDSHAKE_READ_BYTES);
        if tls.stream.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut unsent = BytesMut::new();
        let looked = look(&mut tls.session, &mut input, &mut unsent, |bytes| {
            plain.extend_from_slice(bytes);
        });
        // What went wrong is told too.
        let told = match tls.stream.write_all(&unsent).await {
            Ok(()) => tls.stream.flush().await,
            Err(error) => Err(error),
        };
        tls.is_read_over = looked?;
        told?;
        if tls.is_read_over && tls.session.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    tls.kept().cipher = BytesMut::from(&input[..]);
    tls.kept().plain = plain;
    tls.tidy();
    Ok(tls)
}

/// Looks at records: data goes to `on_plain`, answers of TLS itself to `unsent`. What is done with is taken off `input`.
/// True when the peer has said that nothing more comes.
fn look(
    session: &mut UnbufferedServerConnection,
    input: &mut BytesMut,
    unsent: &mut BytesMut,
    mut on_plain: impl FnMut(&[u8]),
) -> io::Result<bool> {
    let mut is_over = false;
    loop {
        let UnbufferedStatus { mut discard, state } = session.process_tls_records(input);
        let goes_on = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(invalid)?;
                    discard += record.discard;
                    on_plain(record.payload);
                }
                true
            }
            Ok(ConnectionState::EncodeTlsData(data)) => {
                encode(data, unsent)?;
                true
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                true
            }
            Ok(ConnectionState::PeerClosed) => {
                is_over = true;
                true
            }
            // More must come, or may be sent; early data is never agreed on.
            Ok(_) => false,
            Err(error) => {
                tell(session, unsent)?;
                return Err(invalid(error));
            }
        };
        input.advance(discard);
        if !goes_on {
            return Ok(is_over);
        }
    }
}

/// After a failure: what the peer is to be told of it.
fn tell(session: &mut UnbufferedServerConnection, unsent: &mut BytesMut) -> io::Result<()> {
    while session.wants_write() {
        match session.process_tls_records(&mut []).state {
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, unsent)?,
            // Came before the failure; nobody gets it any more.
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while traffic.next_record().is_some() {}
            }
            _ => return Ok(()),
        }
    }
    Ok(())
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut BytesMut) -> io::Result<()> {
    let begin = out.len();
    match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => out.resize(begin + size.required_size, 0),
        Err(error) => return Err(invalid(error)),
        Ok(_) => return Ok(()),
    }
    let room = out.get_mut(begin..).unwrap_or_default();
    data.encode(room).map(drop).map_err(invalid)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Gives what was decrypted before. False when nothing was.
    fn give_plain(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let Some(kept) = self.kept.as_mut().filter(|kept| !kept.plain.is_empty()) else {
            return false;
        };
        let room = kept.plain.len().min(buffer.remaining());
        buffer.put_slice(&kept.plain.split_to(room));
        if kept.plain.is_empty() {
            kept.plain = BytesMut::new();
            self.tidy();
        }
        true
    }

    /// Reads until there is something to give. `input` begins with the half record that was kept.
    fn poll_records(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // As much as is asked for, and at least a record: what is more than that has to be kept.
        let limit = buffer.remaining().max(RECORD_BYTES_MAX);
        loop {
            input.reserve(limit);
            let mut room = (&mut *input).limit(limit);
            let read = pin!(self.stream.read_buf(&mut room)).poll(cx);
            if ready!(read)? == 0 {
                // An end that nobody vouches for may be an attacker's.
                let text = "the peer closed the connection without a farewell of TLS";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
            }
            let before = buffer.filled().len();
            let (kept, mut unsent) = (&mut self.kept, BytesMut::new());
            let looked = look(&mut self.session, input, &mut unsent, |bytes| {
                let (now, later) = bytes.split_at(bytes.len().min(buffer.remaining()));
                buffer.put_slice(now);
                if !later.is_empty() {
                    kept.get_or_insert_default().plain.extend_from_slice(later);
                }
            });
            self.has_failed = looked.is_err();
            self.keep_unsent(&unsent);
            if self.has_unsent() {
                // It goes now, or with what is written next.
                let _ = self.poll_unsent(cx)?;
            }
            self.is_read_over |= looked?;
            if self.is_read_over || buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Hands over what waits for the socket.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(kept) = &mut self.kept else {
            return Poll::Ready(Ok(()));
        };
        while !kept.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &kept.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            kept.unsent.advance(written);
        }
        kept.unsent = BytesMut::new();
        self.tidy();
        Poll::Ready(Ok(()))
    }

    /// Lets `write` append to what goes out, and hands that to the socket. What it does not take is kept.
    fn seal(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        mut write: impl FnMut(
            &mut WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        // There is no whole record in what is kept, so that this is about what goes out alone.
        let kept = self.kept.as_mut();
        let mut cipher = kept.map_or_else(BytesMut::new, |kept| std::mem::take(&mut kept.cipher));
        let mut unsent = BytesMut::new();
        let sealed = loop {
            let UnbufferedStatus { discard, state } = self.session.process_tls_records(&mut cipher);
            let mut sealed = None;
            match state.map_err(invalid)? {
                ConnectionState::WriteTraffic(mut traffic) => match write(&mut traffic, out) {
                    Ok(len) => sealed = Some(len),
                    Err(EncryptError::InsufficientSize(size)) => out.resize(size.required_size, 0),
                    Err(error) => return Err(invalid(error)),
                },
                ConnectionState::EncodeTlsData(data) => encode(data, &mut unsent)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.is_read_over = true,
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let payload = record.map_err(invalid)?.payload;
                        let kept = self.kept.get_or_insert_default();
                        kept.plain.extend_from_slice(payload);
                    }
                }
                _ => return Err(io::ErrorKind::BrokenPipe.into()),
            }
            cipher.advance(discard);
            if let Some(len) = sealed {
                break len;
            }
        };
        if !cipher.is_empty() {
            self.kept().cipher = cipher;
        }
        self.keep_unsent(&unsent);
        let mut rest = out.get(..sealed).unwrap_or_default();
        if !self.has_unsent() {
            while !rest.is_empty() {
                match Pin::new(&mut self.stream).poll_write(cx, rest) {
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(Ok(written)) => rest = rest.get(written..).unwrap_or_default(),
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Pending => break,
                }
            }
        }
        self.keep_unsent(rest);
        Ok(())
    }

    /// Seals one block of bytes, as much of it as is sealed at once.
    fn seal_block(&mut self, cx: &mut Context<'_>, block: &[u8]) -> io::Result<usize> {
        let block = block
            .get(..block.len().min(SEALED_AT_ONCE_BYTES))
            .unwrap_or_default();
        let mut out = buffers::SEALED.take();
        let sealed = self.seal(cx, &mut out, |traffic, room| traffic.encrypt(block, room));
        buffers::SEALED.set(out);
        sealed.map(|()| block.len())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.give_plain(buffer) {
            return Poll::Ready(Ok(()));
        }
        if this.is_read_over || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.has_failed {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let mut input = buffers::CIPHER.take();
        input.clear();
        input.extend_from_slice(this.cipher());
        let read = this.poll_records(cx, &mut input, buffer);
        // Unchanged if nothing came.
        let is_clean = input.is_empty() && this.kept.is_none();
        if !is_clean && input[..] != *this.cipher() {
            this.kept().cipher = BytesMut::from(&input[..]);
            this.tidy();
        }
        buffers::CIPHER.set(input);
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.is_write_over || this.has_failed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_unsent(cx))?;
        let mut pieces = pieces.iter().filter(|piece| !piece.is_empty()).peekable();
        let Some(first) = pieces.next() else {
            return Poll::Ready(Ok(0));
        };
        if first.len() >= SEALED_AT_ONCE_BYTES || pieces.peek().is_none() {
            return Poll::Ready(this.seal_block(cx, first));
        }
        // Small pieces share a record.
        let mut joined = buffers::JOINED.take();
        joined.clear();
        joined.extend_from_slice(first);
        for piece in pieces {
            let room = SEALED_AT_ONCE_BYTES - joined.len();
            joined.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        }
        let sealed = this.seal_block(cx, &joined);
        buffers::JOINED.set(joined);
        Poll::Ready(sealed)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_write_over && !this.has_failed {
            this.is_write_over = true;
            let mut out = buffers::SEALED.take();
            let sealed = this.seal(cx, &mut out, |traffic, room| {
                traffic.queue_close_notify(room)
            });
            buffers::SEALED.set(out);
            sealed?;
        }
        ready!(this.poll_unsent(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

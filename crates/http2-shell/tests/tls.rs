//! TLS with rustls' own client at the other end, over a socket that takes and gives little at a time.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http2_shell::{TlsStream, accept};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion, version};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
    split,
};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

const NAME: &str = "server.test";

/// Both ends' settings, with a certificate for the client too.
struct Settings {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn settings(protocol: &'static SupportedProtocolVersion) -> Settings {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[protocol])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.clone(), key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[protocol])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    Settings {
        server: Arc::new(server),
        client: Arc::new(client),
    }
}

type Pair = (TlsStream<Drip>, ClientStream<DuplexStream>);

/// A socket that takes and gives little at a time, and every other time nothing.
struct Drip {
    stream: DuplexStream,
    bytes: usize,
    is_dry: bool,
}

impl Drip {
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.is_dry = !self.is_dry;
        if self.is_dry {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Drip {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_turn(cx));
        let mut piece = vec![0; self.bytes.min(buffer.remaining())];
        let mut piece = ReadBuf::new(&mut piece);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut piece);
        buffer.put_slice(piece.filled());
        read
    }
}

impl AsyncWrite for Drip {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        let len = bytes.len().min(self.bytes);
        Pin::new(&mut self.stream).poll_write(cx, &bytes[..len])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn pair(protocol: &'static SupportedProtocolVersion, taken_bytes: usize) -> Pair {
    let settings = settings(protocol);
    let (stream, far) = duplex(1 << 20);
    let near = Drip {
        stream,
        bytes: taken_bytes,
        is_dry: false,
    };
    let name = ServerName::try_from(NAME).unwrap();
    let connector = TlsConnector::from(settings.client);
    let (server, client) =
        tokio::join!(accept(near, settings.server), connector.connect(name, far));
    (server.unwrap(), client.unwrap())
}

/// Bytes that tell when one is missing or doubled.
fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|place| (place * 31 + place / 251) as u8)
        .collect()
}

#[tokio::test]
async fn what_was_agreed_on_is_known() {
    for protocol in [&version::TLS13, &version::TLS12] {
        let (server, _client) = pair(protocol, 1 << 10).await;
        assert_eq!(server.session().alpn_protocol(), Some(&b"h2"[..]));
        assert!(server.session().peer_certificates().is_none());
        assert_eq!(server.session().protocol_version(), Some(protocol.version));
    }
}

#[tokio::test]
async fn bytes_arrive_whole_in_both_directions_however_little_the_socket_takes() {
    for protocol in [&version::TLS13, &version::TLS12] {
        for taken_bytes in [7, 1_000, 70_000] {
            let (server, client) = pair(protocol, taken_bytes).await;
            let sent = pattern(if taken_bytes < 100 { 30_000 } else { 300_000 });
            let (mut server_read, mut server_write) = split(server);
            let (mut client_read, mut client_write) = split(client);
            let (mut up, mut down) = (Vec::new(), Vec::new());
            let (out, back) = (&sent, &sent);
            tokio::join!(
                async {
                    client_write.write_all(out).await.unwrap();
                    client_write.shutdown().await.unwrap();
                },
                async {
                    // Less than a record at a time.
                    let mut piece = [0; 1_000];
                    loop {
                        let read = server_read.read(&mut piece).await.unwrap();
                        if read == 0 {
                            return;
                        }
                        up.extend_from_slice(&piece[..read]);
                    }
                },
                async {
                    let (head, tail) = back.split_at(100);
                    let pieces = [std::io::IoSlice::new(head), std::io::IoSlice::new(tail)];
                    let written = server_write.write_vectored(&pieces).await.unwrap();
                    server_write.write_all(&back[written..]).await.unwrap();
                    server_write.shutdown().await.unwrap();
                },
                async {
                    client_read.read_to_end(&mut down).await.unwrap();
                },
            );
            assert!(up == sent && down == sent, "{protocol:?} {taken_bytes}");
        }
    }
}

#[tokio::test]
async fn a_client_that_has_said_everything_is_still_answered() {
    let (mut server, mut client) = pair(&version::TLS13, 1 << 16).await;
    client.write_all(b"ask").await.unwrap();
    client.shutdown().await.unwrap();
    let mut asked = Vec::new();
    server.read_to_end(&mut asked).await.unwrap();
    assert_eq!(asked, b"ask");
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    let mut answered = Vec::new();
    client.read_to_end(&mut answered).await.unwrap();
    assert_eq!(answered, b"answer");
    assert!(server.write_all(b"more").await.is_err());
}

#[tokio::test]
async fn an_end_without_a_farewell_is_an_error() {
    let (mut server, client) = pair(&version::TLS13, 1 << 16).await;
    drop(client.into_inner().0);
    let ended = server.read(&mut [0; 10]).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn keys_may_change_amid_the_conversation() {
    let (mut server, mut client) = pair(&version::TLS13, 1 << 16).await;
    let mut word = [0; 4];
    for round in 0..3 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.write_all(b"ping").await.unwrap();
        client.flush().await.unwrap();
        server.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"ping", "{round}");
        server.write_all(b"pong").await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"pong", "{round}");
    }
}

#[tokio::test]
async fn whoever_does_not_speak_tls_is_told_so() {
    for first in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 0, 4, 1, 0, 0, 0],
    ] {
        let (near, mut far) = duplex(1 << 16);
        far.write_all(first).await.unwrap();
        let refused = accept(near, settings(&version::TLS13).server).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidData);
        let mut told = Vec::new();
        far.read_to_end(&mut told).await.unwrap();
        // An alert, fatal.
        assert_eq!((told.first(), told.get(5)), (Some(&21), Some(&2)));
    }
}

#[tokio::test]
async fn a_record_that_was_tampered_with_ends_the_session_and_its_sender_is_told() {
    let (mut server, client) = pair(&version::TLS13, 1 << 16).await;
    let (mut far, _session) = client.into_inner();
    let mut record = vec![23, 3, 3, 0, 40];
    record.resize(45, 7);
    far.write_all(&record).await.unwrap();
    let failed = server.read(&mut [0; 10]).await;
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::InvalidData);
    assert!(server.read(&mut [0; 10]).await.is_err());
    assert!(server.write(b"more").await.is_err());
    let mut told = [0; 5];
    far.read_exact(&mut told).await.unwrap();
    // Sealed, as everything after the handshake.
    assert_eq!(told[0], 23);
}

#[tokio::test]
async fn a_peer_that_goes_amid_the_handshake_leaves_an_error() {
    let (near, far) = duplex(1 << 16);
    drop(far);
    let gone = accept(near, settings(&version::TLS13).server).await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

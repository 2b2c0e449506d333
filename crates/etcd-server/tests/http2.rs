//! The listener of our own, seen by a client that says exactly what it wants: who stops whom, and how it ends.

mod common;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use common::{Client, Ours, PATIENCE};
use http2::{Config, Connection, Event, Reason, StreamId};

/// A client that blocks.
struct Peer {
    socket: TcpStream,
    http2: Connection,
}

impl Peer {
    fn connect(address: SocketAddr) -> Peer {
        // Windows are no obstacle here.
        let config = Config {
            stream_window_bytes: 1 << 30,
            connection_window_bytes: 1 << 30,
            ..Config::default()
        };
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer {
            socket,
            http2: Connection::client(config),
        }
    }

    fn open(&mut self, method: &str, path: &str, end: bool) -> StreamId {
        let fields = [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            ("content-type", "application/grpc"),
        ];
        // A GET is plain HTTP.
        let count = if method == "POST" { 4 } else { 3 };
        let fields = fields
            .iter()
            .take(count)
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        self.http2.open(fields, end).unwrap()
    }

    fn flush(&mut self) {
        let bytes = self.http2.output().take();
        self.socket.write_all(&bytes).unwrap();
    }

    /// The next event; none once the server has closed.
    fn next(&mut self) -> Option<Event> {
        loop {
            self.flush();
            if let Some(event) = self.http2.next_event() {
                if let Event::Data { stream, data, .. } = &event {
                    self.http2.consumed(*stream, data.len());
                }
                return Some(event);
            }
            let mut bytes = vec![0; 16 << 10];
            let len = self.socket.read(&mut bytes).unwrap();
            if len == 0 {
                return None;
            }
            bytes.truncate(len);
            self.http2.recv(bytes.into(), 0);
        }
    }

    /// Status, body and trailers of a stream.
    fn answer(&mut self, wanted: StreamId) -> (String, Vec<u8>, Option<String>) {
        let text = |value: Option<&[u8]>| value.map(|v| String::from_utf8_lossy(v).into_owned());
        let (mut status, mut body) = (String::new(), Vec::new());
        loop {
            match self.next().expect("the server has closed") {
                Event::Headers {
                    stream,
                    fields,
                    end,
                } if stream == wanted => {
                    status = text(fields.get(b":status")).unwrap();
                    if end {
                        return (status, body, text(fields.get(b"grpc-status")));
                    }
                }
                Event::Data { stream, data, end } if stream == wanted => {
                    body.extend_from_slice(&data);
                    if end {
                        return (status, body, None);
                    }
                }
                Event::Trailers { stream, fields } if stream == wanted => {
                    return (status, body, text(fields.get(b"grpc-status")));
                }
                Event::Reset { stream, reason } if stream == wanted => panic!("{reason:?}"),
                _ => {}
            }
        }
    }
}

/// A message as gRPC frames it.
fn framed(message: &[u8]) -> Bytes {
    let len = u32::try_from(message.len()).unwrap();
    [&[0][..], &len.to_be_bytes(), message].concat().into()
}

const COMPACT: &str = "/etcdserverpb.KV/Compact";

#[test]
fn plain_requests_and_calls_share_a_connection() {
    let ours = Ours::with_own_listener();
    let mut peer = Peer::connect(ours.address);
    let version = peer.open("GET", "/version", true);
    let (status, body, _) = peer.answer(version);
    assert_eq!(status, "200");
    assert!(body.starts_with(br#"{"etcdserver":"3.6."#), "{body:?}");
    // etcd tells its version to GET alone; whatever HEAD is told has no body.
    let head = peer.open("HEAD", "/version", true);
    assert_eq!(peer.answer(head), ("405".into(), Vec::new(), None));
    let nothing = peer.open("GET", "/nothing", true);
    assert_eq!(peer.answer(nothing).0, "404");
    // Compaction at revision 9 of 1: out of range.
    let compact = peer.open("POST", COMPACT, false);
    let mut message = framed(&[0x08, 9]);
    peer.http2.send_data(compact, &mut message, true);
    let (status, body, grpc) = peer.answer(compact);
    assert_eq!((&status[..], &body[..]), ("200", &[][..]));
    assert_eq!(grpc.as_deref(), Some("11"));
}

#[test]
fn a_request_may_come_in_any_pieces() {
    let ours = Ours::with_own_listener();
    let mut peer = Peer::connect(ours.address);
    for path in [COMPACT, "/etcdserverpb.KV/Range"] {
        let stream = peer.open("POST", path, false);
        // Revision 9 of a compaction, and a key of 9 bytes.
        let message = if path == COMPACT {
            framed(&[0x08, 9])
        } else {
            framed(b"\x0a\x09some name")
        };
        for byte in &message {
            let mut piece = Bytes::copy_from_slice(&[*byte]);
            peer.http2.send_data(stream, &mut piece, false);
            peer.flush();
        }
        peer.http2.send_data(stream, &mut Bytes::new(), true);
        let (status, _, grpc) = peer.answer(stream);
        assert_eq!(status, "200");
        let expected = if path == COMPACT { "11" } else { "0" };
        assert_eq!(grpc.as_deref(), Some(expected), "{path}");
    }
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_read_no_more_and_others_do_not_notice() {
    let ours = Ours::with_own_listener();
    let mut peer = Peer::connect(ours.address);
    peer.socket
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    peer.flush();
    // Answers of 10 GB: far beyond what may be buffered between here and there.
    let mut asked = 0;
    'full: loop {
        for _ in 0..100 {
            peer.open("GET", "/metrics", true);
        }
        asked += 100;
        assert!(asked < 3_000_000, "everything is taken in");
        let bytes = peer.http2.output().take();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match peer.socket.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break 'full;
                }
            }
        }
    }
    let mut other = Client::connect(&ours.url()).await;
    assert_eq!(other.put("a", "b").await, 2);
}

#[test]
fn at_the_end_a_client_is_told_and_what_is_open_may_end() {
    let ours = Ours::with_own_listener();
    let mut peer = Peer::connect(ours.address);
    let compact = peer.open("POST", COMPACT, false);
    let mut message = framed(&[0x08, 9]);
    let mut begin = message.split_to(3);
    peer.http2.send_data(compact, &mut begin, false);
    // The answer to another request shows that this one has begun.
    let version = peer.open("GET", "/version", true);
    peer.answer(version);
    let ended = std::thread::spawn(move || ours.stop());
    loop {
        match peer.next() {
            Some(Event::GoAway { reason, .. }) => break assert_eq!(reason, Reason::NO_ERROR),
            Some(_) => {}
            None => panic!("closed without a word"),
        }
    }
    peer.http2.send_data(compact, &mut message, true);
    assert_eq!(peer.answer(compact).2.as_deref(), Some("11"));
    while peer.next().is_some() {}
    ended.join().unwrap();
}

#[test]
fn whoever_breaks_the_rules_is_told_so() {
    let ours = Ours::with_own_listener();
    let mut socket = TcpStream::connect(ours.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // DATA on stream 0.
    let frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    socket.write_all(frames).unwrap();
    let mut said = Vec::new();
    socket.read_to_end(&mut said).unwrap();
    let text = String::from_utf8_lossy(&said);
    assert!(text.contains("DATA on stream 0"), "{text}");
}

//! What only HTTP/2 by our own codec has: streams beside each other, windows, bounds, and its end.
//!
//! The peer here is the same codec's other end, which can be told to misbehave; hyper's client, kubectl and curl are
//! outsiders elsewhere.

use std::collections::HashMap;
use std::net::SocketAddr;

use apiserver::listen::Codec;
use apiserver::pki::Pki;
use bytes::{Bytes, BytesMut};
use http2::{Config, Connection, Event, Reason, Sent, StreamId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use value::json;

use crate::plane::{Plane, block_on, new_pki, serve, shared};
use crate::wire::secured;

/// Turns of reading after which a test is taken to hang; each waits for the server, at most this long.
const TURNS_MAX: usize = 100_000;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// What came of one stream.
#[derive(Default)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: BytesMut,
    is_whole: bool,
    reset: Option<Reason>,
}

impl Answer {
    fn is_over(&self) -> bool {
        self.is_whole || self.reset.is_some()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A client that sees frames.
struct Peer {
    stream: TlsStream<TcpStream>,
    http2: Connection,
    answers: HashMap<StreamId, Answer>,
    /// Bytes that the server may not send yet, because they are not said to be taken.
    takes: bool,
    is_going: bool,
    is_closed: bool,
}

impl Peer {
    async fn new(known: bool, protocols: &[&[u8]]) -> Peer {
        let shared = shared();
        Peer::of(
            shared.address,
            &shared.pki,
            known,
            protocols,
            Config::default(),
        )
        .await
    }

    async fn known() -> Peer {
        Peer::new(true, &[b"h2"]).await
    }

    async fn of(
        address: SocketAddr,
        pki: &Pki,
        known: bool,
        protocols: &[&[u8]],
        config: Config,
    ) -> Peer {
        Peer {
            stream: secured(address, pki, known, protocols).await,
            http2: Connection::client(config),
            answers: HashMap::new(),
            takes: true,
            is_going: false,
            is_closed: false,
        }
    }

    fn open(&mut self, method: &str, target: &str, more: &[(&str, &str)], end: bool) -> StreamId {
        let fields = [
            (":method", method),
            (":scheme", "https"),
            (":authority", "x"),
            (":path", target),
            ("accept", "application/json"),
        ];
        let fields = fields.iter().chain(more);
        let fields = fields.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let stream = self.http2.open(fields, end).unwrap();
        self.answers.insert(stream, Answer::default());
        stream
    }

    /// Sends as much of a body as the windows allow, until the stream is over or all is sent.
    async fn send(&mut self, stream: StreamId, body: &[u8], end: bool) -> Sent {
        let mut rest = Bytes::copy_from_slice(body);
        for _ in 0..TURNS_MAX {
            match self.http2.send_data(stream, &mut rest, end) {
                Sent::Blocked => self.turn().await,
                sent => {
                    self.flush().await;
                    return sent;
                }
            }
        }
        panic!("a body is never taken");
    }

    async fn flush(&mut self) {
        let bytes = self.http2.output().take();
        // A server that went is noticed by reading.
        let _ = self.stream.write_all(&bytes).await;
    }

    /// Writes, reads once, and looks at what came.
    async fn turn(&mut self) {
        self.flush().await;
        let mut bytes = vec![0; 64 << 10];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut bytes)).await;
        let read = read.expect("the server says nothing").unwrap_or(0);
        if read == 0 {
            self.is_closed = true;
            return;
        }
        bytes.truncate(read);
        self.http2.recv(bytes.into(), 0);
        while let Some(event) = self.http2.next_event() {
            self.on_event(event);
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Headers {
                stream,
                fields,
                end,
            } => {
                let answer = self.answers.get_mut(&stream).unwrap();
                for (name, value) in fields.iter() {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    answer.headers.insert(text(name), text(value));
                }
                answer.status = answer.headers[":status"].parse().unwrap();
                answer.is_whole |= end;
            }
            Event::Data { stream, data, end } => {
                let answer = self.answers.get_mut(&stream).unwrap();
                answer.body.extend_from_slice(&data);
                answer.is_whole |= end;
                if self.takes {
                    self.http2.consumed(stream, data.len());
                }
            }
            Event::Trailers { .. } => panic!("the API has no trailers"),
            Event::Reset { stream, reason } => {
                self.answers.get_mut(&stream).unwrap().reset = Some(reason);
            }
            Event::GoAway { .. } => self.is_going = true,
            Event::Closed(error) => panic!("the server breaks the rules: {error}"),
            Event::Writable { .. } | Event::Pong { .. } => {}
        }
    }

    async fn until(&mut self, is_so: impl Fn(&Peer) -> bool) {
        for _ in 0..TURNS_MAX {
            if is_so(self) {
                return;
            }
            assert!(!self.is_closed, "the server closed the connection");
            self.turn().await;
        }
        panic!("it never comes so far");
    }

    async fn answer(&mut self, stream: StreamId) -> Answer {
        self.until(|peer| peer.answers[&stream].is_over()).await;
        self.answers.remove(&stream).unwrap()
    }

    async fn get(&mut self, target: &str) -> Answer {
        let stream = self.open("GET", target, &[], true);
        self.answer(stream).await
    }

    async fn post(&mut self, target: &str, body: &str) -> Answer {
        let json = [("content-type", "application/json")];
        let stream = self.open("POST", target, &json, false);
        self.send(stream, body.as_bytes(), true).await;
        self.answer(stream).await
    }
}

#[test]
fn replies_say_what_they_are() {
    block_on(async {
        // Agreed on in TLS, or known beforehand.
        for protocols in [&[b"h2".as_slice()][..], &[]] {
            let mut peer = Peer::new(true, protocols).await;
            let answer = peer.get("/api/v1/namespaces/default").await;
            assert_eq!(answer.status, 200);
            let headers = &answer.headers;
            assert_eq!(headers["content-type"], "application/json");
            assert_eq!(headers["cache-control"], "no-cache, private");
            assert_eq!(headers["content-length"], answer.body.len().to_string());
            assert_eq!((headers["audit-id"].len(), headers["date"].len()), (36, 29));
            let stream = peer.open("HEAD", "/api/v1/namespaces/default", &[], true);
            let head = peer.answer(stream).await;
            assert_eq!((head.status, head.body.len()), (200, 0));
            assert_eq!(head.headers["content-length"], headers["content-length"]);
            let own = [("audit-id", "mine")];
            let stream = peer.open("TRACE", "/api", &own, true);
            let refused = peer.answer(stream).await;
            assert_eq!(
                (refused.status, &*refused.headers["audit-id"]),
                (405, "mine")
            );
        }
    });
}

#[test]
fn strangers_are_refused_before_their_body_comes() {
    block_on(async {
        let mut peer = Peer::new(false, &[b"h2"]).await;
        let stream = peer.open("POST", "/api/v1/namespaces", &[], false);
        let answer = peer.answer(stream).await;
        assert_eq!(answer.status, 401);
        assert!(answer.text().contains(r#""reason":"Unauthorized""#));
        // The rest of the request is not wanted, the connection is.
        peer.until(|peer| !peer.http2.is_peer_open(stream)).await;
        assert_eq!(peer.get("/healthz").await.status, 200);
        let stream = peer.open("GET", "/version", &[("impersonate-user", "root")], true);
        assert_eq!(peer.answer(stream).await.status, 403);
    });
}

#[test]
fn hundreds_of_requests_at_once_are_all_answered() {
    block_on(async {
        let mut peer = Peer::known().await;
        // The server's settings have come, and with them how many it takes.
        assert_eq!(peer.get("/healthz").await.status, 200);
        let body = |number| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("at-once-{number}")}})
                .to_string()
        };
        let path = "/api/v1/namespaces/default/configmaps";
        let json = [("content-type", "application/json")];
        let streams: Vec<StreamId> = (0..400)
            .map(|_| peer.open("POST", path, &json, false))
            .collect();
        // Their bodies come in two pieces, the others' pieces between them.
        for (number, stream) in streams.iter().enumerate() {
            let text = body(number);
            let mut first = Bytes::copy_from_slice(text.as_bytes().get(..20).unwrap());
            assert_eq!(peer.http2.send_data(*stream, &mut first, false), Sent::All);
        }
        for (number, stream) in streams.iter().enumerate().rev() {
            let text = body(number);
            let mut rest = Bytes::copy_from_slice(text.as_bytes().get(20..).unwrap());
            assert_eq!(peer.http2.send_data(*stream, &mut rest, true), Sent::All);
        }
        for (number, stream) in streams.into_iter().enumerate() {
            let answer = peer.answer(stream).await;
            assert_eq!(answer.status, 201, "{}", answer.text());
            assert!(answer.text().contains(&format!("at-once-{number}\"")));
        }
    });
}

#[test]
fn a_body_that_is_too_long_is_refused_and_the_connection_lives() {
    block_on(async {
        let mut peer = Peer::known().await;
        let path = "/api/v1/namespaces/default/configmaps";
        let long = [("content-length", "4000000")];
        let stream = peer.open("POST", path, &long, false);
        assert_eq!(peer.answer(stream).await.status, 413);
        // One that does not say so.
        let stream = peer.open("POST", path, &[], false);
        let piece = vec![b'x'; 100_000];
        let mut sent = 0;
        while !peer.answers[&stream].is_over()
            && peer.send(stream, &piece, false).await == Sent::All
        {
            sent += piece.len();
            assert!(sent < 8 << 20, "all of it was taken");
        }
        let answer = peer.answer(stream).await;
        assert_eq!(answer.status, 413);
        assert!(answer.text().contains("RequestEntityTooLarge"));
        // One that fits comes through its windows.
        let filler = "x".repeat(700_000);
        let body = json!({"metadata": {"name": "wide"}, "data": {"a": filler}}).to_string();
        assert_eq!(peer.post(path, &body).await.status, 201);
        assert_eq!(
            peer.get(&format!("{path}/wide")).await.body.len() / 100_000,
            7
        );
    });
}

#[test]
fn bodies_that_never_end_are_bounded_together() {
    block_on(async {
        let mut peer = Peer::known().await;
        let piece = vec![b' '; 2_800_000];
        let mut refused = 0;
        for _ in 0..14 {
            let stream = peer.open("POST", "/api/v1/namespaces/default/configmaps", &[], false);
            peer.send(stream, &piece, false).await;
        }
        assert_eq!(peer.get("/healthz").await.status, 200);
        for answer in peer.answers.values() {
            refused += usize::from(answer.status == 429);
            assert!(matches!(answer.status, 0 | 429), "{}", answer.status);
        }
        assert!((1..=4).contains(&refused), "{refused} refused");
    });
}

#[test]
fn a_watch_that_is_not_read_holds_nobody_up_and_tells_all_later() {
    block_on(async {
        let mut peer = Peer::known().await;
        let path = "/api/v1/namespaces/default/secrets";
        let now = peer.get(path).await;
        let list: value::Value = serde_json::from_str(now.text()).unwrap();
        let version = list["metadata"]["resourceVersion"].as_str().unwrap();
        peer.takes = false;
        let watch = peer.open(
            "GET",
            &format!("{path}?watch=1&resourceVersion={version}"),
            &[],
            true,
        );
        // More than the stream's window, each below it.
        let filler = "x".repeat(100_000);
        for number in 0..8 {
            let secret = json!({"metadata": {"name": format!("unread-{number}")}, "stringData": {"a": filler}});
            let api = shared().plane.speaker();
            api.post(path, &secret).await.expect(201);
            assert_eq!(peer.get("/healthz").await.status, 200);
        }
        let held = peer.answers[&watch].body.len();
        assert!(held <= 256 << 10, "{held} bytes beyond the window");
        assert!(!peer.answers[&watch].is_over());
        // Now it reads.
        peer.takes = true;
        peer.http2.consumed(watch, held);
        peer.until(|peer| {
            let body = peer.answers[&watch].text();
            (0..8).all(|number| body.contains(&format!("unread-{number}\"")))
        })
        .await;
        peer.http2.reset(watch, Reason::CANCEL);
        assert_eq!(peer.get("/healthz").await.status, 200);
    });
}

#[test]
fn a_stream_that_is_reset_takes_its_watch_with_it_and_shutdown_lets_the_rest_end() {
    block_on(async {
        let plane = Plane::new().ready().await;
        let pki = new_pki(&plane);
        let address = serve(&plane, &pki, Codec::Own);
        let mut peer = Peer::of(address, &pki, true, &[b"h2"], Config::default()).await;
        let open = || {
            let metrics = plane.api.metrics();
            metrics
                .watches_open
                .load(std::sync::atomic::Ordering::Relaxed)
        };
        let path = "/api/v1/configmaps?watch=1";
        let first = peer.open("GET", path, &[], true);
        let second = peer.open("GET", path, &[], true);
        peer.until(|peer| {
            peer.answers[&first].status == 200 && peer.answers[&second].status == 200
        })
        .await;
        assert_eq!(open(), 2);
        peer.http2.reset(first, Reason::CANCEL);
        assert_eq!(peer.get("/healthz").await.status, 200);
        assert_eq!(open(), 1);
        plane.stop.send(true).unwrap();
        for _ in 0..TURNS_MAX {
            if peer.is_closed {
                break;
            }
            peer.turn().await;
        }
        assert!(peer.is_closed && peer.is_going);
        assert!(peer.answers[&second].is_whole, "the watch breaks off");
        assert_eq!(open(), 0);
    });
}

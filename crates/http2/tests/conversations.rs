//! Long conversations from a seed: our client and our server with random pieces, windows and resets, and the same with
//! bytes spoilt on the way. Everything arrives whole, or the connection ends with an error; nothing panics or swells.

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{Server, frame};
use http2::{Config, Connection, Event, Sent, StreamId};

chance::named!(Dice);

impl Dice {
    fn config(&mut self) -> Config {
        let window_bytes = 1 << self.below(18);
        Config {
            streams_max: 1 + self.below(20) as u32,
            stream_window_bytes: 1 + self.below(window_bytes) as u32,
            connection_window_bytes: 65_535 + self.below(100_000) as u32,
            seed: self.draw(),
            ..Config::default()
        }
    }
}

/// The bytes of a body: told by its number and place, so that a mistake of either shows.
fn body(number: u64, len: usize) -> Bytes {
    (0..len)
        .map(|at| (number as u8).wrapping_add((at * 7 % 251) as u8))
        .collect()
}

/// One end, and what its shell still has to say and has heard.
struct End {
    connection: Connection,
    to_send: BTreeMap<u32, Bytes>,
    heard: BTreeMap<u32, Vec<u8>>,
    ended: BTreeMap<u32, String>,
    lost: BTreeMap<u32, http2::Reason>,
    is_closed: bool,
    /// Bytes a body of its own may have.
    most: usize,
}

impl End {
    fn new(connection: Connection) -> End {
        End {
            connection,
            to_send: BTreeMap::new(),
            heard: BTreeMap::new(),
            ended: BTreeMap::new(),
            lost: BTreeMap::new(),
            is_closed: false,
            most: 0,
        }
    }

    /// Says the rest of a stream: its body as far as it goes, then trailers.
    fn say(&mut self, stream: StreamId) {
        let Some(data) = self.to_send.get_mut(&stream.0) else {
            return;
        };
        let sent = self.connection.send_data(stream, data, false);
        if sent == Sent::Blocked {
            return;
        }
        self.to_send.remove(&stream.0);
        if sent == Sent::All {
            let text = stream.0.to_string();
            let trailers: [(&[u8], &[u8]); 1] = [(b"trailer", text.as_bytes())];
            assert!(self.connection.send_headers(stream, trailers, true));
        }
    }

    /// Takes bytes; a server answers each request with a body of its own.
    fn hear(&mut self, bytes: Bytes, chance: &mut Dice, answers: &mut BTreeMap<u32, Bytes>) {
        self.connection.recv(bytes, 0);
        while let Some(event) = self.connection.next_event() {
            match event {
                Event::Headers { stream, fields, .. } => {
                    if fields.get(b":method").is_some() {
                        let answer = body(chance.draw(), chance.below(self.most));
                        let head: [(&[u8], &[u8]); 2] = [(b":status", b"200"), (b"x", b"y")];
                        assert!(self.connection.send_headers(stream, head, false));
                        answers.insert(stream.0, answer.clone());
                        self.to_send.insert(stream.0, answer);
                        self.say(stream);
                    }
                    self.connection.recycle(fields);
                }
                Event::Data { stream, data, .. } => {
                    self.heard
                        .entry(stream.0)
                        .or_default()
                        .extend_from_slice(&data);
                    self.connection.consumed(stream, data.len());
                }
                Event::Trailers { stream, fields } => {
                    let text = fields.get(b"trailer").unwrap_or_default();
                    self.ended
                        .insert(stream.0, String::from_utf8_lossy(text).into_owned());
                }
                Event::Writable { stream } => self.say(stream),
                Event::Reset { stream, reason } => {
                    self.lost.insert(stream.0, reason);
                    self.to_send.remove(&stream.0);
                }
                Event::Closed(_) => self.is_closed = true,
                Event::Pong { .. } | Event::GoAway { .. } => {}
            }
        }
    }
}

/// Spoils bytes on their way, or does not.
type Spoil<'a> = &'a mut dyn FnMut(&mut Dice, &mut Vec<u8>);

struct Outcome {
    client: End,
    server: End,
    asked: BTreeMap<u32, Bytes>,
    answers: BTreeMap<u32, Bytes>,
}

fn converse(seed: u64, requests: usize, is_spoilt: bool, spoil: Spoil<'_>) -> Outcome {
    let mut chance = Dice::new(seed);
    let (ours, theirs) = (chance.config(), chance.config());
    let mut client = End::new(Connection::client(ours));
    let mut server = End::new(Connection::server(theirs));
    // Through a window of one byte, each byte is a round trip.
    let window = ours.stream_window_bytes.min(theirs.stream_window_bytes);
    let most = (window as usize * 100).min(40_000);
    server.most = most;
    let (mut asked, mut answers) = (BTreeMap::new(), BTreeMap::new());
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for _ in 0..200_000 {
        if asked.len() < requests && chance.below(4) == 0 {
            let head: [(&[u8], &[u8]); 4] = [
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", b"/a"),
                (b"k", b"v"),
            ];
            if let Ok(stream) = client.connection.open(head, false) {
                let data = body(chance.draw(), chance.below(most));
                asked.insert(stream.0, data.clone());
                client.to_send.insert(stream.0, data);
                client.say(stream);
            }
        }
        up.extend(client.connection.output().take());
        down.extend(server.connection.output().take());
        let is_done = asked.len() == requests && client.ended.len() + client.lost.len() >= requests;
        let is_silent = up.is_empty() && down.is_empty();
        let may_stall = asked.len() < requests || is_done || is_spoilt;
        assert!(!is_silent || may_stall, "seed {seed}: everybody waits");
        if (is_done && up.is_empty() && down.is_empty()) || client.is_closed || server.is_closed {
            break;
        }
        for (wire, end) in [(&mut up, &mut server), (&mut down, &mut client)] {
            let piece_max = 1 << chance.below(16);
            let len = (1 + chance.below(piece_max)).min(wire.len());
            let mut piece: Vec<u8> = wire.drain(..len).collect();
            spoil(&mut chance, &mut piece);
            end.hear(piece.into(), &mut chance, &mut answers);
            assert!(end.connection.held_bytes() < 4 << 20);
        }
    }
    Outcome {
        client,
        server,
        asked,
        answers,
    }
}

#[test]
fn everything_arrives_whole_through_any_windows_and_pieces() {
    for seed in 0..60 {
        let Outcome {
            client,
            server,
            asked,
            answers,
        } = converse(seed, 40, false, &mut |_, _| {});
        let failures = (client.connection.failure(), server.connection.failure());
        assert_eq!(failures, (None, None), "seed {seed}");
        assert_eq!(asked.len(), 40, "seed {seed}");
        for (stream, sent) in &asked {
            // Before the first settings come, a client may ask for more than the server takes.
            if client.lost.get(stream) == Some(&http2::Reason::REFUSED_STREAM) {
                continue;
            }
            assert_eq!(
                client.lost.get(stream),
                None,
                "seed {seed}, stream {stream}"
            );
            let empty = Vec::new();
            let heard = |end: &End| end.heard.get(stream).unwrap_or(&empty).clone();
            assert_eq!(heard(&server), sent[..], "seed {seed}, stream {stream}");
            assert_eq!(
                heard(&client),
                answers[stream][..],
                "seed {seed}, stream {stream}"
            );
            let text = Some(stream.to_string());
            assert_eq!(client.ended.get(stream), text.as_ref(), "seed {seed}");
            assert_eq!(server.ended.get(stream), text.as_ref(), "seed {seed}");
        }
        assert_eq!(
            client.connection.open_streams() + server.connection.open_streams(),
            0
        );
    }
}

#[test]
fn spoilt_bytes_never_do_more_than_end_the_connection() {
    let mut failed = 0;
    for seed in 0..400 {
        let outcome = converse(seed, 10, true, &mut |chance, bytes| {
            if chance.below(40) != 0 || bytes.is_empty() {
                return;
            }
            let at = chance.below(bytes.len());
            match chance.below(3) {
                0 => bytes[at] ^= 1 << chance.below(8),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, chance.draw() as u8),
            }
        });
        failed += usize::from(outcome.client.is_closed || outcome.server.is_closed);
    }
    // The test would say nothing if the spoiling went unnoticed.
    assert!(failed > 200, "{failed}");
}

#[test]
fn random_frames_never_do_more_than_end_the_connection() {
    for seed in 0..2_000 {
        let mut chance = Dice::new(seed);
        let mut server = Server::met();
        for _ in 0..100 {
            let kind = chance.below(11) as u8;
            let len = [0, 1, 4, 5, 6, 8, 9, 100][chance.below(8)];
            let payload: Vec<u8> = (0..len)
                .map(|_| {
                    if chance.below(2) == 0 {
                        0x82 + chance.below(8) as u8
                    } else {
                        chance.draw() as u8
                    }
                })
                .collect();
            let stream = [0, 1, 1, 3, 5, 2, 9][chance.below(7)];
            server.hears(&[frame(kind, chance.draw() as u8, stream, &payload)]);
            assert!(server.connection.held_bytes() < 1 << 20);
        }
    }
}

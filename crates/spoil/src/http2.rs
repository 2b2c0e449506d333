//! Both ends of an HTTP/2 connection against any bytes.

use crate::Chance;
use ::http2::{Config, Connection, Encoder, Event, PREFACE, Sent, StreamId};
use bytes::Bytes;

/// Bytes an end may say: for itself, and for each byte it is told. A ping is answered with as much, a request of ten
/// bytes with an answer of some sixty.
const SAID_BYTES: usize = 4 << 10;
const SAID_BYTES_PER_BYTE: usize = 16;

const STREAMS_MAX: u32 = 8;

/// Any bytes, in pieces of any size, end in events or in an error that is the last event; what is said is frames, not
/// many more bytes than came in; and no more streams are open than may be.
///
/// # Panics
///
/// When that is not so.
pub fn peer_may_say(bytes: &[u8], piece: usize, is_server: bool) -> bool {
    let config = Config {
        streams_max: STREAMS_MAX,
        stream_window_bytes: 1 << 10,
        ..Config::default()
    };
    let mut end = if is_server {
        Connection::server(config)
    } else {
        let mut client = Connection::client(config);
        let head: [(&[u8], &[u8]); 4] = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/"),
            (b":authority", b"a"),
        ];
        for _ in 0..3 {
            if let Ok(stream) = client.open(head, false) {
                client.send_data(stream, &mut Bytes::from_static(b"question"), true);
            }
        }
        client
    };
    let mut said = 0;
    let mut is_closed = false;
    let mut blocked: Vec<StreamId> = Vec::new();
    for (number, piece) in bytes.chunks(piece.max(1)).enumerate() {
        end.recv(Bytes::copy_from_slice(piece), number as u64);
        while let Some(event) = end.next_event() {
            assert!(!is_closed, "{event:?} after the end");
            match event {
                Event::Headers { stream, fields, .. } => {
                    end.recycle(fields);
                    if is_server {
                        let head: [(&[u8], &[u8]); 1] = [(b":status", b"200")];
                        end.send_headers(stream, head, false);
                        answer(&mut end, stream, &mut blocked);
                    }
                }
                Event::Data { stream, data, .. } => end.consumed(stream, data.len()),
                Event::Trailers { fields, .. } => end.recycle(fields),
                Event::Writable { stream } => answer(&mut end, stream, &mut blocked),
                Event::Reset { stream, .. } => blocked.retain(|other| *other != stream),
                Event::Pong { .. } | Event::GoAway { .. } => {}
                Event::Closed(_) => is_closed = true,
            }
        }
        assert!(end.open_streams() <= STREAMS_MAX as usize + 3);
        said += frames(&end.output().take(), !is_server && number == 0);
    }
    let told = bytes.len();
    assert!(
        said <= SAID_BYTES + SAID_BYTES_PER_BYTE * told,
        "{said} bytes are said to {told}"
    );
    !is_closed
}

/// Ten bytes, or what there is room for.
fn answer(end: &mut Connection, stream: StreamId, blocked: &mut Vec<StreamId>) {
    let mut body = Bytes::from_static(b"0123456789");
    if end.send_data(stream, &mut body, true) == Sent::Blocked && !blocked.contains(&stream) {
        blocked.push(stream);
    }
}

/// How many bytes these frames are; they must be whole ones.
fn frames(said: &[u8], has_preface: bool) -> usize {
    let mut rest = said;
    if has_preface {
        rest = rest.strip_prefix(&PREFACE[..]).expect("a client begins so");
    }
    while let [a, b, c, kind, ..] = rest {
        let len = 9 + u32::from_be_bytes([0, *a, *b, *c]) as usize;
        assert!(len <= 9 + (16 << 10) && *kind <= 9, "frame {kind} of {len}");
        rest = rest.get(len..).expect("a frame is said as a whole");
    }
    assert!(rest.is_empty());
    said.len()
}

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or_default();
    let mut bytes = len.to_be_bytes().get(1..).unwrap_or_default().to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What a peer might say, well formed for the most part: its frames one after the other.
pub fn conversation(chance: &mut Chance, is_client: bool) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::default();
    let mut said = Vec::new();
    if is_client {
        said.push(PREFACE.to_vec());
    }
    said.push(frame(4, 0, 0, &[]));
    let mut stream = 1;
    for _ in 0..1 + chance.below(30) {
        // A server answers on the three streams that its client has opened.
        let opened = if is_client { stream / 2 } else { 3 };
        let any = |chance: &mut Chance| 1 + 2 * chance.below(opened as usize) as u32;
        let next = if is_client { stream } else { any(chance) };
        // What ends a connection is rare, so that conversations are long.
        said.push(match chance.below(60) {
            0..24 => {
                let block = headers(chance, &mut encoder, is_client);
                let flags = 4 | u8::from(chance.one_in(2));
                let frame = frame(1, flags, next, &block);
                stream += 2;
                frame
            }
            24..36 => frame(
                0,
                u8::from(chance.one_in(3)),
                any(chance),
                &chance.bytes(300),
            ),
            36..44 => {
                let more = match chance.below(6) {
                    0 => chance.edge() as u32,
                    _ => 1 + chance.below(5_000) as u32,
                };
                let of = if chance.one_in(2) { 0 } else { any(chance) };
                frame(8, 0, of, &more.to_be_bytes())
            }
            44..46 => {
                let mut settings = Vec::new();
                for _ in 0..chance.below(4) {
                    settings.extend_from_slice(&(1 + chance.below(7) as u16).to_be_bytes());
                    settings.extend_from_slice(&(chance.edge() as u32).to_be_bytes());
                }
                frame(4, 0, 0, &settings)
            }
            46..50 => frame(6, u8::from(chance.one_in(2)), 0, &[7; 8]),
            50..54 => frame(3, 0, any(chance), &8_u32.to_be_bytes()),
            54..59 => {
                // A list of headers in pieces.
                let block = headers(chance, &mut encoder, is_client);
                let (first, rest) = block.split_at(chance.below(block.len()));
                let mut both = frame(1, 0, next, first);
                both.extend(frame(9, 4, next, rest));
                stream += 2;
                both
            }
            _ => {
                let kind = chance.below(14) as u8;
                let flags = chance.draw() as u8;
                frame(kind, flags, any(chance) - 1, &chance.bytes(40))
            }
        });
    }
    said
}

fn headers(chance: &mut Chance, encoder: &mut Encoder, is_client: bool) -> Vec<u8> {
    let name = format!("x-{}", chance.below(5));
    let value = chance.bytes(40);
    let value: Vec<u8> = value.iter().map(|byte| b'a' + byte % 26).collect();
    let mut fields: Vec<(&[u8], &[u8])> = if is_client {
        vec![
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/etcdserverpb.KV/Range"),
            (b":authority", b"a"),
            (b"content-type", b"application/grpc"),
        ]
    } else {
        vec![(b":status", b"200")]
    };
    fields.push((name.as_bytes(), &value));
    let mut block = Vec::new();
    encoder.encode(fields, &mut block);
    block
}

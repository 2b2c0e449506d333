//! A server end with a shell that does the least, and what it said, frame by frame.
#![allow(dead_code)]

use std::collections::BTreeMap;

use bytes::Bytes;
use http2::{Config, Connection, Decoder, Event, Fields, PREFACE, Reason, Sent, StreamId};

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

pub fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(1, flags, stream, block)
}

/// `GET http /`, by the static table alone.
pub fn get() -> Vec<u8> {
    vec![0x82, 0x86, 0x84]
}

/// A request for `/` with more fields, spelt out and not kept.
pub fn request(method: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![if method == "POST" { 0x83 } else { 0x82 }, 0x86, 0x84];
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// What the server said since it was last asked, and what its shell was told.
#[derive(Debug, Default)]
pub struct Said {
    frames: Vec<(u8, u8, u32, Vec<u8>)>,
    requests: Vec<u32>,
    bodies: BTreeMap<u32, Vec<u8>>,
}

impl Said {
    pub fn goaway(&self) -> Option<Reason> {
        let (.., payload) = self.frames.iter().rfind(|(kind, ..)| *kind == 7)?;
        Some(Reason(u32::from_be_bytes(
            payload[4..8].try_into().unwrap(),
        )))
    }

    pub fn goaway_last(&self) -> Option<u32> {
        let (.., payload) = self.frames.iter().rfind(|(kind, ..)| *kind == 7)?;
        Some(u32::from_be_bytes(payload[..4].try_into().unwrap()))
    }

    pub fn resets(&self) -> Vec<(u32, Reason)> {
        let resets = self.frames.iter().filter(|(kind, ..)| *kind == 3);
        let reason = |payload: &[u8]| Reason(u32::from_be_bytes(payload.try_into().unwrap()));
        resets
            .map(|(_, _, stream, payload)| (*stream, reason(payload)))
            .collect()
    }

    pub fn reset_of(&self, stream: u32) -> Option<Reason> {
        let of = |(id, reason): (u32, Reason)| (id == stream).then_some(reason);
        self.resets().into_iter().find_map(of)
    }

    /// Requests the shell was told of.
    pub fn requests(&self) -> &[u32] {
        &self.requests
    }

    /// What the shell was told of a body.
    pub fn body(&self, stream: u32) -> &[u8] {
        self.bodies.get(&stream).map_or(&[], Vec::as_slice)
    }

    pub fn body_sent(&self, stream: u32) -> Vec<u8> {
        let data = self
            .frames
            .iter()
            .filter(|(kind, _, id, _)| *kind == 0 && *id == stream);
        data.flat_map(|(.., payload)| payload.clone()).collect()
    }

    pub fn count(&self, kind: u8, flags: u8) -> usize {
        self.payloads(kind, flags).len()
    }

    pub fn payloads(&self, kind: u8, flags: u8) -> Vec<Vec<u8>> {
        let same = self
            .frames
            .iter()
            .filter(|frame| (frame.0, frame.1) == (kind, flags));
        same.map(|(.., payload)| payload.clone()).collect()
    }

    pub fn longest(&self) -> usize {
        self.frames
            .iter()
            .map(|(.., payload)| payload.len())
            .max()
            .unwrap_or(0)
    }

    /// The status on a stream, if it was the first answer of the connection.
    pub fn status(&self, stream: u32) -> String {
        let head = self
            .frames
            .iter()
            .find(|(kind, _, id, _)| *kind == 1 && *id == stream);
        let mut fields = Fields::default();
        let (.., block) = head.expect("headers on the stream");
        Decoder::new(4096)
            .decode(block, &mut fields, 1 << 16)
            .unwrap();
        String::from_utf8(fields.get(b":status").unwrap().to_vec()).unwrap()
    }
}

pub struct Server {
    pub connection: Connection,
    pub now_millis: u64,
    /// The shell takes nothing out of the windows.
    pub holds: bool,
    unsent: BTreeMap<u32, Bytes>,
}

impl Server {
    pub fn new(config: Config) -> Server {
        let mut connection = Connection::server(config);
        connection.output().take();
        let (now_millis, holds, unsent) = (0, false, BTreeMap::new());
        Server {
            connection,
            now_millis,
            holds,
            unsent,
        }
    }

    /// A server that has had the client's preface and settings.
    pub fn met() -> Server {
        Server::met_with(Config::default())
    }

    pub fn met_with(config: Config) -> Server {
        let mut server = Server::new(config);
        server.hears(&[PREFACE.to_vec(), frame(4, 0, 0, &[])]);
        server
    }

    /// Reads frames, and answers what the server says to them.
    pub fn hears(&mut self, frames: &[Vec<u8>]) -> Said {
        self.connection
            .recv(frames.concat().into(), self.now_millis);
        let mut said = Said::default();
        while let Some(event) = self.connection.next_event() {
            match event {
                Event::Headers { stream, fields, .. } => {
                    said.requests.push(stream.0);
                    self.connection.recycle(fields);
                }
                Event::Data { stream, data, .. } => {
                    said.bodies
                        .entry(stream.0)
                        .or_default()
                        .extend_from_slice(&data);
                    if !self.holds {
                        self.connection.consumed(stream, data.len());
                    }
                }
                Event::Writable { stream } => {
                    let data = self.unsent.remove(&stream.0).unwrap_or_default();
                    self.sends(stream.0, &data);
                }
                _ => {}
            }
        }
        said.frames = self.said().frames;
        said
    }

    /// What was said without hearing anything.
    pub fn said(&mut self) -> Said {
        let bytes = self.connection.output().take();
        let mut rest = &bytes[..];
        let mut said = Said::default();
        while let [a, b, c, kind, flags, s0, s1, s2, s3, tail @ ..] = rest {
            let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let (payload, next) = tail.split_at(len);
            let stream = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
            said.frames.push((*kind, *flags, stream, payload.to_vec()));
            rest = next;
        }
        assert!(rest.is_empty(), "only whole frames go out");
        said
    }

    /// Sends a body as far as the windows go; the rest follows when they open.
    pub fn sends(&mut self, stream: u32, data: &[u8]) {
        let mut data = Bytes::copy_from_slice(data);
        if self
            .connection
            .send_data(StreamId(stream), &mut data, false)
            == Sent::Blocked
        {
            self.unsent.insert(stream, data);
        }
    }

    /// Answers a request with nothing but a status.
    pub fn answers(&mut self, stream: u32) {
        let head: [(&[u8], &[u8]); 1] = [(b":status", b"200")];
        assert!(self.connection.send_headers(StreamId(stream), head, true));
        self.said();
    }

    /// Whether it still answers a ping.
    pub fn lives(&mut self) -> bool {
        self.hears(&[frame(6, 0, 0, b"are you?")]).count(6, 1) == 1
    }
}

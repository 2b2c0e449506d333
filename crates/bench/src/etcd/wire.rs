//! One connection of our own codec to a server of etcd's API: unary calls, many under way at once, and watches.
//!
//! Knows no server and no load.

use std::collections::HashMap;
use std::time::Instant;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use etcd_wire::etcdserverpb as pb;
use http2::{Config, Connection, Event, Sent, StreamId};
use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const COMPACT: &[u8] = b"/etcdserverpb.KV/Compact";
pub const LEASE_GRANT: &[u8] = b"/etcdserverpb.Lease/LeaseGrant";
pub const PUT: &[u8] = b"/etcdserverpb.KV/Put";
pub const RANGE: &[u8] = b"/etcdserverpb.KV/Range";
pub const TXN: &[u8] = b"/etcdserverpb.KV/Txn";
const WATCH: &[u8] = b"/etcdserverpb.Watch/Watch";
const READ_BYTES: usize = 64 << 10;
/// gRPC's frame before a message.
const PREFIX_BYTES: usize = 5;

/// A socket and a codec.
pub struct Wire {
    socket: TcpStream,
    http2: Connection,
    buffer: BytesMut,
    under_way: HashMap<StreamId, UnderWay>,
    /// What the windows did not allow yet, and whether it ends its stream.
    sending: HashMap<StreamId, (Bytes, bool)>,
    /// What came of answers to watches that are not whole yet.
    watch_answers: HashMap<StreamId, BytesMut>,
}

struct UnderWay {
    tag: usize,
    begun: Instant,
    reply: BytesMut,
}

/// A call that was answered.
pub struct Done {
    /// What the caller called it.
    pub tag: usize,
    pub micros: u32,
    pub reply: Bytes,
}

impl Done {
    pub fn decode<M: Message + Default>(self) -> Result<M, String> {
        M::decode(self.reply).map_err(|error| error.to_string())
    }
}

impl Wire {
    pub async fn connect(port: u16) -> Result<Wire, String> {
        let socket = TcpStream::connect(("127.0.0.1", port))
            .await
            .map_err(text)?;
        socket.set_nodelay(true).map_err(text)?;
        let config = Config {
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 4 << 20,
            ..Config::default()
        };
        Ok(Wire {
            socket,
            http2: Connection::client(config),
            buffer: BytesMut::new(),
            under_way: HashMap::new(),
            sending: HashMap::new(),
            watch_answers: HashMap::new(),
        })
    }

    /// How many calls are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Begins a call.
    pub fn begin(&mut self, tag: usize, path: &[u8], request: &impl Message) -> Result<(), String> {
        let begun = Instant::now();
        let stream = self.ask(path, request, true)?;
        let reply = BytesMut::new();
        let call = UnderWay { tag, begun, reply };
        self.under_way.insert(stream, call);
        Ok(())
    }

    /// Writes what there is, reads once, and tells the calls that were answered.
    pub async fn answered(&mut self, done: &mut Vec<Done>) -> Result<(), String> {
        self.turn().await?;
        while let Some(event) = self.next_event()? {
            done.extend(self.on_event(event)?);
        }
        Ok(())
    }

    /// Makes one call alone.
    pub async fn call<M: Message + Default>(
        &mut self,
        path: &[u8],
        request: &impl Message,
    ) -> Result<M, String> {
        self.begin(0, path, request)?;
        let mut done = Vec::new();
        while done.is_empty() {
            self.answered(&mut done).await?;
        }
        done.pop().ok_or("no answer")?.decode()
    }

    fn on_event(&mut self, event: Event) -> Result<Option<Done>, String> {
        match event {
            Event::Headers {
                fields, end: false, ..
            } => self.http2.recycle(fields),
            Event::Headers { fields, .. } => return Err(format!("refused: {fields:?}")),
            Event::Data { stream, data, .. } => {
                if let Some(call) = self.under_way.get_mut(&stream) {
                    call.reply.extend_from_slice(&data);
                }
                self.http2.consumed(stream, data.len());
            }
            Event::Trailers { stream, fields } => {
                if fields.get(b"grpc-status") != Some(b"0") {
                    return Err(format!("refused: {fields:?}"));
                }
                self.http2.recycle(fields);
                return Ok(self.under_way.remove(&stream).map(|mut call| {
                    call.reply.advance(PREFIX_BYTES.min(call.reply.len()));
                    let micros = call.begun.elapsed().as_micros();
                    Done {
                        tag: call.tag,
                        micros: u32::try_from(micros).unwrap_or(u32::MAX),
                        reply: call.reply.freeze(),
                    }
                }));
            }
            Event::Reset { reason, .. } => return Err(format!("reset: {reason:?}")),
            Event::Closed(error) => return Err(error.to_string()),
            _ => {}
        }
        Ok(None)
    }

    fn ask(&mut self, path: &[u8], message: &impl Message, end: bool) -> Result<StreamId, String> {
        let fields: [(&[u8], &[u8]); 6] = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"127.0.0.1"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        ];
        let opened = self.http2.open(fields, false);
        let stream = opened.map_err(|why| format!("no stream: {why:?}"))?;
        self.say(stream, message, end)?;
        Ok(stream)
    }

    fn say(&mut self, stream: StreamId, message: &impl Message, end: bool) -> Result<(), String> {
        let len = message.encoded_len();
        let prefix = u32::try_from(len).map_err(|error| error.to_string())?;
        let mut data = BytesMut::with_capacity(len + PREFIX_BYTES);
        data.put_u8(0);
        data.put_u32(prefix);
        message
            .encode(&mut data)
            .map_err(|error| error.to_string())?;
        self.send(stream, data.freeze(), end)
    }

    /// As much as the windows allow; the rest when there is room.
    fn send(&mut self, stream: StreamId, mut data: Bytes, end: bool) -> Result<(), String> {
        if let Some((waiting, _)) = self.sending.get_mut(&stream) {
            // In line behind what waits on the same stream.
            let all = [&waiting[..], &data].concat();
            self.sending.insert(stream, (all.into(), end));
            return Ok(());
        }
        match self.http2.send_data(stream, &mut data, end) {
            Sent::All => Ok(()),
            Sent::Blocked => {
                self.sending.insert(stream, (data, end));
                Ok(())
            }
            Sent::Gone => Err("a stream is gone".into()),
        }
    }

    /// The next event that is not about room for what waits.
    fn next_event(&mut self) -> Result<Option<Event>, String> {
        loop {
            match self.http2.next_event() {
                Some(Event::Writable { stream }) => {
                    if let Some((data, end)) = self.sending.remove(&stream) {
                        self.send(stream, data, end)?;
                    }
                }
                event => return Ok(event),
            }
        }
    }

    /// Writes what there is, then reads once.
    async fn turn(&mut self) -> Result<(), String> {
        self.flush().await?;
        self.buffer.reserve(READ_BYTES);
        let read = self.socket.read_buf(&mut self.buffer).await.map_err(text)?;
        if read == 0 {
            return Err("the server has closed a connection".into());
        }
        self.http2.recv(self.buffer.split().freeze(), 0);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), String> {
        while !self.http2.output().is_empty() {
            let written = self.socket.write(self.http2.output().first()).await;
            self.http2.output().advance(written.map_err(text)?);
        }
        Ok(())
    }

    /// Opens a stream of watches with its first watch. Its answers are told by [`Wire::watched`].
    pub fn watch(&mut self, create: pb::WatchCreateRequest) -> Result<StreamId, String> {
        self.ask(WATCH, &creation(create), false)
    }

    /// One more watch on a stream of watches.
    pub fn watch_more(
        &mut self,
        stream: StreamId,
        create: pb::WatchCreateRequest,
    ) -> Result<(), String> {
        self.say(stream, &creation(create), false)
    }

    /// Reads once; answers how many watches were said to be there.
    pub async fn created(&mut self) -> Result<usize, String> {
        let mut created = 0;
        self.watch_answers(|answer| {
            if answer.canceled {
                return Err(format!("a watch was refused: {}", answer.cancel_reason));
            }
            created += usize::from(answer.created);
            Ok(())
        })
        .await?;
        Ok(created)
    }

    /// Reads once; answers how many events came.
    pub async fn events(&mut self) -> Result<u64, String> {
        let mut events = 0;
        self.watch_answers(|answer| {
            events += answer.events.len() as u64;
            Ok(())
        })
        .await?;
        Ok(events)
    }

    async fn watch_answers(
        &mut self,
        mut each: impl FnMut(pb::WatchResponse) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut pieces = Vec::new();
        self.read_watches(|stream, data| pieces.push((stream, data)))
            .await?;
        for (stream, data) in pieces {
            let buffer = self.watch_answers.entry(stream).or_default();
            buffer.extend_from_slice(&data);
            while let Some([_, len @ ..]) = buffer.first_chunk::<PREFIX_BYTES>() {
                let whole = PREFIX_BYTES + u32::from_be_bytes(*len) as usize;
                if buffer.len() < whole {
                    break;
                }
                let message = buffer.split_to(whole).freeze().slice(PREFIX_BYTES..);
                let answer = pb::WatchResponse::decode(message);
                each(answer.map_err(|error| error.to_string())?)?;
            }
        }
        Ok(())
    }

    /// Reads once; answers how many bytes of watch answers came.
    pub async fn watched(&mut self) -> Result<usize, String> {
        let mut bytes = 0;
        self.read_watches(|_, data| bytes += data.len()).await?;
        Ok(bytes)
    }

    async fn read_watches(&mut self, mut each: impl FnMut(StreamId, Bytes)) -> Result<(), String> {
        self.turn().await?;
        while let Some(event) = self.next_event()? {
            match event {
                Event::Data { stream, data, .. } => {
                    self.http2.consumed(stream, data.len());
                    each(stream, data);
                }
                Event::Headers { end: true, .. } | Event::Trailers { .. } => {
                    return Err("the server has ended a watch".into());
                }
                Event::Closed(error) => return Err(error.to_string()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn creation(create: pb::WatchCreateRequest) -> pb::WatchRequest {
    pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    }
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

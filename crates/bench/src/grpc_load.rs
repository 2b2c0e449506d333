//! Load on etcd's API: connections of our own codec, each with streams that each write their own key, and watchers.
//!
//! Knows no server: whatever speaks the API on the port is loaded.

use std::collections::HashMap;
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use etcd_wire::etcdserverpb as pb;
use http2::{Config, Connection, Event, StreamId};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub const VALUE_BYTES: usize = 650;
pub const WATCHERS: usize = 5;

const PREFIX: &str = "/registry/leases/";
const TXN: &[u8] = b"/etcdserverpb.KV/Txn";
const WATCH: &[u8] = b"/etcdserverpb.Watch/Watch";
const READ_BYTES: usize = 64 << 10;
/// Rounds a writer can be told to make before it has made the last.
const ROUNDS_WAITING_MAX: usize = 1;

/// How much load.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub connections: usize,
    pub streams: usize,
    pub operations: usize,
}

/// Open connections.
pub struct Load {
    writers: Vec<Remote>,
    watchers: Vec<JoinHandle<String>>,
}

/// A writer on a task.
struct Remote {
    rounds: mpsc::Sender<usize>,
    results: mpsc::Receiver<Result<Vec<u32>, String>>,
}

impl Load {
    /// Connects the watchers, then the writers.
    pub async fn open(port: u16, shape: Shape) -> Result<Load, String> {
        let mut watchers = Vec::new();
        for _ in 0..WATCHERS {
            let mut wire = Wire::connect(port).await?;
            wire.watch().await?;
            watchers.push(tokio::spawn(async move { wire.drain().await }));
        }
        let mut writers = Vec::new();
        for number in 0..shape.connections {
            let mut writer = Writer::open(port, number, shape.streams).await?;
            let (rounds, mut asked) = mpsc::channel(ROUNDS_WAITING_MAX);
            let (answer, results) = mpsc::channel(ROUNDS_WAITING_MAX);
            tokio::spawn(async move {
                while let Some(operations) = asked.recv().await {
                    if answer.send(writer.run(operations).await).await.is_err() {
                        return;
                    }
                }
            });
            writers.push(Remote { rounds, results });
        }
        Ok(Load { writers, watchers })
    }

    /// Makes so many transactions in all; answers how long each took, in microseconds.
    pub async fn run(&mut self, operations: usize) -> Result<Vec<u32>, String> {
        let each = operations.div_ceil(self.writers.len().max(1));
        let gone = || "a writer has ended".to_owned();
        for writer in &self.writers {
            writer.rounds.send(each).await.map_err(|_| gone())?;
        }
        let mut all = Vec::with_capacity(operations);
        for writer in &mut self.writers {
            all.extend(writer.results.recv().await.ok_or_else(gone)??);
        }
        match self.watchers.iter().find(|watcher| watcher.is_finished()) {
            Some(_) => Err("a watcher has ended".into()),
            None => Ok(all),
        }
    }
}

/// A socket and a codec.
struct Wire {
    socket: TcpStream,
    http2: Connection,
    buffer: BytesMut,
}

impl Wire {
    async fn connect(port: u16) -> Result<Wire, String> {
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
        })
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
        let len = message.encoded_len();
        let prefix = u32::try_from(len).map_err(|error| error.to_string())?;
        let mut data = BytesMut::with_capacity(len + 5);
        data.put_u8(0);
        data.put_u32(prefix);
        message
            .encode(&mut data)
            .map_err(|error| error.to_string())?;
        // A request is far smaller than any window; what is not taken would wait for its event.
        self.http2.send_data(stream, &mut data.freeze(), end);
        Ok(stream)
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

    /// Watches the kind; returns when the server has said that it does.
    async fn watch(&mut self) -> Result<(), String> {
        let create = pb::WatchCreateRequest {
            key: PREFIX.into(),
            range_end: "/registry/leases0".into(),
            ..Default::default()
        };
        let request = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        self.ask(WATCH, &request, false)?;
        loop {
            self.turn().await?;
            if self.take_data()? > 0 {
                return Ok(());
            }
        }
    }

    /// Reads for ever; answers why that ended.
    async fn drain(&mut self) -> String {
        loop {
            if let Err(error) = self.turn().await {
                return error;
            }
            if let Err(error) = self.take_data() {
                return error;
            }
        }
    }

    fn take_data(&mut self) -> Result<usize, String> {
        let mut bytes = 0;
        while let Some(event) = self.http2.next_event() {
            match event {
                Event::Data { stream, data, .. } => {
                    bytes += data.len();
                    self.http2.consumed(stream, data.len());
                }
                Event::Headers { end: true, .. } | Event::Trailers { .. } => {
                    return Err("the server has ended a watch".into());
                }
                Event::Closed(error) => return Err(error.to_string()),
                _ => {}
            }
        }
        Ok(bytes)
    }
}

/// A connection whose streams write.
struct Writer {
    wire: Wire,
    keys: Vec<(Bytes, i64)>,
    value: Bytes,
    under_way: HashMap<StreamId, UnderWay>,
}

struct UnderWay {
    key: usize,
    begun: Instant,
    reply: BytesMut,
}

impl Writer {
    async fn open(port: u16, number: usize, streams: usize) -> Result<Writer, String> {
        let key = |stream| format!("{PREFIX}kube-node-lease/node-{number:04}-{stream:04}");
        Ok(Writer {
            wire: Wire::connect(port).await?,
            keys: (0..streams).map(|stream| (key(stream).into(), 0)).collect(),
            value: vec![7; VALUE_BYTES].into(),
            under_way: HashMap::new(),
        })
    }

    /// Keeps every stream busy until so many transactions are done.
    async fn run(&mut self, operations: usize) -> Result<Vec<u32>, String> {
        let mut times = Vec::with_capacity(operations);
        let mut begun = 0;
        while begun < operations.min(self.keys.len()) {
            self.begin(begun)?;
            begun += 1;
        }
        while times.len() < operations {
            self.wire.turn().await?;
            while let Some(event) = self.wire.http2.next_event() {
                let Some((key, micros)) = self.on_event(event)? else {
                    continue;
                };
                times.push(micros);
                if begun < operations {
                    self.begin(key)?;
                    begun += 1;
                }
            }
        }
        Ok(times)
    }

    fn begin(&mut self, key: usize) -> Result<(), String> {
        let Some((name, revision)) = self.keys.get(key).cloned() else {
            return Ok(());
        };
        let compare = pb::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: name.clone(),
            target_union: Some(TargetUnion::ModRevision(revision)),
            ..Default::default()
        };
        let put = pb::PutRequest {
            key: name.clone(),
            value: self.value.clone(),
            ..Default::default()
        };
        let get = pb::RangeRequest {
            key: name,
            ..Default::default()
        };
        let op = |request| {
            vec![pb::RequestOp {
                request: Some(request),
            }]
        };
        let request = pb::TxnRequest {
            compare: vec![compare],
            success: op(Request::RequestPut(put)),
            failure: op(Request::RequestRange(get)),
        };
        let begun = Instant::now();
        let stream = self.wire.ask(TXN, &request, true)?;
        let reply = BytesMut::new();
        self.under_way
            .insert(stream, UnderWay { key, begun, reply });
        Ok(())
    }

    /// The key whose transaction is done, and how long it took.
    fn on_event(&mut self, event: Event) -> Result<Option<(usize, u32)>, String> {
        match event {
            Event::Headers {
                fields, end: false, ..
            } => self.wire.http2.recycle(fields),
            Event::Headers { fields, .. } => return Err(format!("refused: {fields:?}")),
            Event::Data { stream, data, .. } => {
                if let Some(open) = self.under_way.get_mut(&stream) {
                    open.reply.extend_from_slice(&data);
                }
                self.wire.http2.consumed(stream, data.len());
            }
            Event::Trailers { stream, fields } => {
                if fields.get(b"grpc-status") != Some(b"0") {
                    return Err(format!("refused: {fields:?}"));
                }
                self.wire.http2.recycle(fields);
                return self.done(stream);
            }
            Event::Reset { reason, .. } => return Err(format!("reset: {reason:?}")),
            Event::Closed(error) => return Err(error.to_string()),
            _ => {}
        }
        Ok(None)
    }

    fn done(&mut self, stream: StreamId) -> Result<Option<(usize, u32)>, String> {
        let Some(mut open) = self.under_way.remove(&stream) else {
            return Ok(None);
        };
        let _prefix = open.reply.split_to(5.min(open.reply.len()));
        let reply = pb::TxnResponse::decode(open.reply).map_err(|error| error.to_string())?;
        if !reply.succeeded {
            return Err("a key was not at the revision it was left at".into());
        }
        if let Some((_, revision)) = self.keys.get_mut(open.key) {
            *revision = reply.header.map_or(0, |header| header.revision);
        }
        let micros = open.begun.elapsed().as_micros();
        Ok(Some((open.key, u32::try_from(micros).unwrap_or(u32::MAX))))
    }
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

//! The short way between two ends of the codec in memory, over a store whose medium obeys the test.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use etcd_wire::etcdserverpb as pb;
use http2::{Config, Connection, Event, StreamId};
use kv::Revision;
use prost::Message;
use store::{Store, StoreConfig};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::alarms::Alarms;
use crate::api::Api;
use crate::auth::{Auth, AuthOptions};
use crate::backend::AUTH_ENABLED_SETTING;
use crate::h2::short::Short;
use crate::h2::unary::Asking;
use crate::metrics::Metrics;
use crate::node::{Node, identity};
use crate::options::Options;

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Pair {
    api: Api,
    client: Connection,
    server: Connection,
    short: Short,
    wakes: Arc<Wakes>,
    /// Messages, and how their calls ended.
    messages: BTreeMap<u32, BytesMut>,
    ended: Vec<(u32, String)>,
}

fn node(store: Arc<Store>) -> Node {
    Node {
        alarms: Alarms::of(&store),
        auth: Auth::open(&AuthOptions::default(), &store).unwrap(),
        store,
        options: Options::default(),
        identity: identity("test"),
        client_urls: Vec::new(),
        metrics: Metrics::default(),
        whole_readers: Arc::new(Semaphore::new(1)),
    }
}

impl Pair {
    fn new(client_window_bytes: u32) -> Pair {
        let store = Arc::new(Store::new(StoreConfig {
            log: true,
            ..StoreConfig::default()
        }));
        store.reserve(Revision(1_000));
        let node = node(store);
        let config = Config {
            stream_window_bytes: client_window_bytes,
            ..Config::default()
        };
        Pair {
            api: Api {
                node: Arc::new(node),
                is_for_metrics: false,
                peer: None,
            },
            client: Connection::client(config),
            server: Connection::server(Config::default()),
            short: Short::default(),
            wakes: Arc::default(),
            messages: BTreeMap::new(),
            ended: Vec::new(),
        }
    }

    fn call(&mut self, path: &str, timeout: Option<&str>, message: &impl Message) -> u32 {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            ("content-type", "application/grpc"),
        ];
        let fields = fields
            .into_iter()
            .chain(timeout.map(|timeout| ("grpc-timeout", timeout)))
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let stream = self.client.open(fields, false).unwrap();
        self.say(stream, message);
        stream.0
    }

    fn say(&mut self, stream: StreamId, message: &impl Message) {
        let mut data = BytesMut::new();
        data.put_u8(0);
        data.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut data).unwrap();
        self.client.send_data(stream, &mut data.freeze(), true);
    }

    fn put(&mut self, key: &'static str, value: Bytes) -> u32 {
        let put = pb::PutRequest {
            key: key.into(),
            value,
            ..Default::default()
        };
        self.call("/etcdserverpb.KV/Put", None, &put)
    }

    /// The medium has all there is.
    fn keep(&self) {
        let store = &self.api.node.store;
        store.drain_log(&mut Vec::new());
        store.set_durable(store.applied());
    }

    /// Carries bytes to and fro until nobody says more.
    fn pump(&mut self) {
        let waker = Waker::from(self.wakes.clone());
        loop {
            let asked = self.client.output().take();
            self.server.recv(asked.into(), 0);
            while let Some(event) = self.server.next_event() {
                self.on_server(event);
            }
            let mut cx = Context::from_waker(&waker);
            self.short.poll_tell(&self.api, &mut self.server, &mut cx);
            let said = self.server.output().take();
            if said.is_empty() {
                return;
            }
            self.client.recv(said.into(), 0);
            while let Some(event) = self.client.next_event() {
                self.on_client(event);
            }
        }
    }

    fn on_server(&mut self, event: Event) {
        match event {
            Event::Headers { stream, fields, .. } => {
                self.short.begin(stream, Asking::begin(&fields).unwrap());
            }
            Event::Data { stream, data, end } => {
                let piece = (stream, data, end);
                let now = Instant::now();
                let is_ours = self
                    .short
                    .on_data(&self.api, &mut self.server, piece, now, true);
                assert!(is_ours);
            }
            Event::Writable { stream } => self.short.on_writable(&mut self.server, stream),
            other => panic!("{other:?}"),
        }
    }

    fn on_client(&mut self, event: Event) {
        match event {
            Event::Headers {
                stream: StreamId(stream),
                fields,
                end,
            } => {
                if end {
                    self.end(stream, fields.get(b"grpc-status"));
                }
            }
            Event::Data { stream, data, .. } => {
                self.messages
                    .entry(stream.0)
                    .or_default()
                    .extend_from_slice(&data);
                self.client.consumed(stream, data.len());
            }
            Event::Trailers {
                stream: StreamId(stream),
                fields,
            } => self.end(stream, fields.get(b"grpc-status")),
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, stream: u32, status: Option<&[u8]>) {
        let status = String::from_utf8(status.unwrap().to_vec()).unwrap();
        self.ended.push((stream, status));
    }

    fn message<M: Message + Default>(&mut self, stream: u32) -> M {
        let framed = self.messages.remove(&stream).unwrap();
        M::decode(&framed[5..]).unwrap()
    }
}

#[tokio::test]
async fn answers_wait_for_the_medium_and_one_wake_brings_all() {
    let mut pair = Pair::new(1 << 20);
    let streams: Vec<u32> = ["a", "b", "c"]
        .into_iter()
        .map(|key| pair.put(key, "v".into()))
        .collect();
    pair.pump();
    assert_eq!(pair.ended, []);
    assert!(pair.short.held_bytes() > 0);
    pair.keep();
    assert_eq!(pair.wakes.0.load(Ordering::Relaxed), 1);
    pair.pump();
    let expected: Vec<_> = streams.iter().map(|id| (*id, "0".to_owned())).collect();
    assert_eq!(pair.ended, expected);
    assert_eq!(pair.short.held_bytes(), 0);
    let revisions: Vec<i64> = streams
        .into_iter()
        .map(|id| pair.message::<pb::PutResponse>(id).header.unwrap().revision)
        .collect();
    assert_eq!(revisions, [2, 3, 4]);
}

#[tokio::test]
async fn a_client_that_does_not_wait_so_long_is_told_so() {
    let mut pair = Pair::new(1 << 20);
    let put = pb::PutRequest {
        key: "a".into(),
        ..Default::default()
    };
    let late = pair.call("/etcdserverpb.KV/Put", Some("1m"), &put);
    let patient = pair.put("b", "v".into());
    for _ in 0..1_000 {
        pair.pump();
        if !pair.ended.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Deadline exceeded.
    assert_eq!(pair.ended, [(late, "4".to_owned())]);
    pair.keep();
    pair.pump();
    assert_eq!(pair.ended.last(), Some(&(patient, "0".to_owned())));
}

#[tokio::test]
async fn a_large_answer_goes_as_the_client_makes_room() {
    let mut pair = Pair::new(1_000);
    let value = Bytes::from(vec![b'v'; 50_000]);
    pair.put("a", value.clone());
    pair.pump();
    pair.keep();
    pair.pump();
    let range = pb::RangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    let stream = pair.call("/etcdserverpb.KV/Range", None, &range);
    pair.pump();
    assert_eq!(pair.ended.last(), Some(&(stream, "0".to_owned())));
    let answer: pb::RangeResponse = pair.message(stream);
    assert_eq!(answer.kvs.first().unwrap().value, value);
    assert_eq!(pair.short.held_bytes(), 0);
}

#[tokio::test]
async fn a_call_that_is_refused_ends_with_its_status_alone() {
    let mut pair = Pair::new(1 << 20);
    let stream = pair.put("", "v".into());
    pair.pump();
    // Invalid argument.
    assert_eq!(pair.ended, [(stream, "3".to_owned())]);
    assert_eq!(pair.messages.len(), 0);
}

#[tokio::test]
async fn a_call_that_began_before_the_rules_were_turned_on_is_under_them() {
    let mut pair = Pair::new(1 << 20);
    let head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/etcdserverpb.KV/Put"),
        ("content-type", "application/grpc"),
    ];
    let head = head.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let stream = pair.client.open(head, false).unwrap();
    pair.pump();
    let store = pair.api.node.store.clone();
    let enabled = (AUTH_ENABLED_SETTING.into(), Some(Bytes::from_static(&[1])));
    store.set_settings([enabled]).unwrap();
    pair.api.node = Arc::new(node(store));
    let put = pb::PutRequest {
        key: "a".into(),
        ..Default::default()
    };
    pair.say(stream, &put);
    pair.pump();
    // Invalid argument: the user's name is empty.
    assert_eq!(pair.ended, [(stream.0, "3".to_owned())]);
    let revision = pair.api.node.store.applied();
    assert_eq!(revision, Revision(1));
}

//! What the tests share: our server on a thread, a real etcd in a process, clients, watch readers.
#![allow(dead_code)]

pub mod users;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use etcd_server::rpc::kv_client::KvClient;
use etcd_server::rpc::lease_client::LeaseClient;
use etcd_server::rpc::maintenance_client::MaintenanceClient;
use etcd_server::rpc::watch_client::WatchClient;
use etcd_server::{Door, Listener, Options, Server};
use etcd_wire::etcdserverpb as pb;
use etcd_wire::mvccpb;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A directory that goes with its owner.
#[derive(Debug)]
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("megaplane-etcd-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    /// The directory, which from now on is somebody else's to remove.
    pub fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Our server, on a thread.
#[derive(Debug)]
pub struct Ours {
    pub address: SocketAddr,
    stop: tokio::sync::watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Ours {
    /// On a free port, with TLS if there are files for it; doors for metrics stay as they are.
    pub fn start(mut options: Options) -> Ours {
        let first = Door {
            is_secure: options.tls.is_some(),
            ..Door::plain(SocketAddr::from(([127, 0, 0, 1], 0)))
        };
        options.doors.retain(|door| door.is_for_metrics);
        options.doors.insert(0, first);
        if std::env::var_os("MEGAPLANE_TEST_LISTENER").is_some_and(|name| name == "hyper") {
            options.listener = Listener::Hyper;
        }
        Ours::open(options)
    }

    /// In memory, and with our own listener, whatever the others are tried on.
    pub fn with_own_listener() -> Ours {
        Ours::open(Options {
            doors: vec![Door::plain(SocketAddr::from(([127, 0, 0, 1], 0)))],
            listener: Listener::Own,
            ..Options::default()
        })
    }

    fn open(options: Options) -> Ours {
        let server = Server::open(options).unwrap();
        let address = server.address();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let thread = std::thread::spawn(move || server.run(stopped).unwrap());
        Ours {
            address,
            stop,
            thread: Some(thread),
        }
    }

    pub fn in_memory() -> Ours {
        Ours::start(Options::default())
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it cleanly.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.end();
    }
}

/// A real etcd, in a process of its own.
#[derive(Debug)]
pub struct RealEtcd {
    pub url: String,
    process: Child,
    pub dir: TempDir,
}

impl RealEtcd {
    /// None, and says so, when no etcd was named. One that was named must work.
    pub async fn start() -> Option<RealEtcd> {
        RealEtcd::restored(|_, _| TempDir::new().keep()).await
    }

    /// The same on a data directory that `restore` makes, given the member's name and its peer URL.
    pub async fn restored(restore: impl FnOnce(&str, &str) -> PathBuf) -> Option<RealEtcd> {
        const NAME: &str = "real";
        let Some(binary) = std::env::var_os("MEGAPLANE_ETCD") else {
            eprintln!(
                "not compared with a real etcd: MEGAPLANE_ETCD names none (./test and scripts/fetch-etcd do)"
            );
            return None;
        };
        let binary = Path::new(&binary).to_owned();
        let (client, peer) = (free_port(), free_port());
        let url = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let dir = TempDir(restore(NAME, &peer));
        let process = Command::new(&binary)
            .args([
                "--name",
                NAME,
                "--log-level",
                "error",
                "--unsafe-no-fsync",
                "--data-dir",
            ])
            .arg(&dir.0)
            .args([
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("{NAME}={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("MEGAPLANE_ETCD={} does not run: {error}", binary.display())
            });
        let etcd = RealEtcd { url, process, dir };
        for _ in 0..300 {
            if let Ok(channel) = Endpoint::from_shared(etcd.url.clone())
                .unwrap()
                .connect()
                .await
            {
                let range = pb::RangeRequest {
                    key: "x".into(),
                    ..Default::default()
                };
                // With access rules on, that is how it answers.
                let is_refusal =
                    |status: tonic::Status| status.message() == "etcdserver: user name is empty";
                let answer = KvClient::new(channel).range(range).await;
                if answer.map_or_else(is_refusal, |_| true) {
                    return Some(etcd);
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!(
            "MEGAPLANE_ETCD={} does not answer within 30 s",
            binary.display()
        );
    }

    /// Ends it cleanly; its files stay until it is dropped.
    pub fn stop(&mut self) {
        let pid = self.process.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(told.success());
        self.process.wait().unwrap();
    }

    /// Ends it at once; its files stay until it is dropped.
    pub fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Clients of one server.
#[derive(Clone, Debug)]
pub struct Client {
    pub kv: KvClient<Channel>,
    pub lease: LeaseClient<Channel>,
    pub watch: WatchClient<Channel>,
    pub maintenance: MaintenanceClient<Channel>,
}

impl Client {
    pub async fn connect(url: &str) -> Client {
        let channel = Endpoint::from_shared(url.to_owned())
            .unwrap()
            .connect()
            .await
            .unwrap();
        let max = 1 << 30;
        Client {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(max),
            lease: LeaseClient::new(channel.clone()),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(max),
            maintenance: MaintenanceClient::new(channel),
        }
    }

    /// Writes; answers the revision.
    pub async fn put(&mut self, key: &str, value: &str) -> i64 {
        let put = pb::PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..Default::default()
        };
        self.kv
            .put(put)
            .await
            .unwrap()
            .into_inner()
            .header
            .unwrap()
            .revision
    }

    pub async fn delete(&mut self, key: &str, range_end: &str) -> i64 {
        let delete = pb::DeleteRangeRequest {
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
            prev_kv: false,
        };
        self.kv
            .delete_range(delete)
            .await
            .unwrap()
            .into_inner()
            .header
            .unwrap()
            .revision
    }

    pub async fn get(&mut self, key: &str) -> Option<mvccpb::KeyValue> {
        let range = pb::RangeRequest {
            key: key.to_owned().into(),
            ..Default::default()
        };
        self.kv.range(range).await.unwrap().into_inner().kvs.pop()
    }

    pub fn watches(&mut self, name: &'static str) -> Watches {
        let (requests, receiver) = mpsc::channel(1024);
        let responses = Responses::Waiting(self.watch.clone(), Some(receiver));
        Watches {
            name,
            requests,
            responses,
            events: BTreeMap::new(),
            controls: Vec::new(),
        }
    }
}

/// etcd answers a watch stream only once it has a first request.
#[derive(Debug)]
enum Responses {
    Waiting(
        WatchClient<Channel>,
        Option<mpsc::Receiver<pb::WatchRequest>>,
    ),
    Open(Box<tonic::Streaming<pb::WatchResponse>>),
}

/// A watch stream, sorted by watch as it is read.
#[derive(Debug)]
pub struct Watches {
    pub name: &'static str,
    pub requests: mpsc::Sender<pb::WatchRequest>,
    responses: Responses,
    pub events: BTreeMap<i64, Vec<mvccpb::Event>>,
    /// Answers that were no events.
    pub controls: Vec<pb::WatchResponse>,
}

impl Watches {
    pub async fn send(&self, request: RequestUnion) {
        self.requests
            .send(pb::WatchRequest {
                request_union: Some(request),
            })
            .await
            .unwrap();
    }

    pub async fn create(&self, request: pb::WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(request)).await;
    }

    pub async fn ask_progress(&self) {
        self.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))
            .await;
    }

    /// The next answer; filed, too.
    pub async fn next(&mut self) -> pb::WatchResponse {
        let next = tokio::time::timeout(PATIENCE * 2, self.answer()).await;
        let response = next
            .expect("the watch stream is silent")
            .unwrap()
            .expect("the watch stream has ended");
        self.file(response)
    }

    /// The next answer; none once the stream has ended, in whatever way. Waits as long as it takes.
    pub async fn try_next(&mut self) -> Option<pb::WatchResponse> {
        self.answer().await.ok().flatten()
    }

    async fn answer(&mut self) -> Result<Option<pb::WatchResponse>, tonic::Status> {
        if let Responses::Waiting(client, requests) = &mut self.responses {
            let requests = ReceiverStream::new(requests.take().unwrap());
            let opened = tokio::time::timeout(PATIENCE, client.watch(requests)).await;
            let opened = opened.expect("a watch stream does not open")?;
            self.responses = Responses::Open(Box::new(opened.into_inner()));
        }
        let Responses::Open(responses) = &mut self.responses else {
            unreachable!()
        };
        responses.message().await
    }

    fn file(&mut self, response: pb::WatchResponse) -> pb::WatchResponse {
        if response.events.is_empty() {
            self.controls.push(response.clone());
        }
        self.events
            .entry(response.watch_id)
            .or_default()
            .extend(response.events.iter().cloned());
        response
    }

    /// Reads on until so many events of a watch are there.
    pub async fn until(&mut self, id: i64, events: usize) -> &[mvccpb::Event] {
        while self.events.get(&id).map_or(0, Vec::len) < events {
            self.next().await;
        }
        &self.events[&id]
    }

    /// Whether a watch of this name was ended.
    pub fn has_ended(&self, id: i64) -> bool {
        self.controls
            .iter()
            .any(|response| response.canceled && response.watch_id == id)
    }

    /// Reads on until every one of these watches has seen the put of "last" to its key.
    pub async fn until_keys(&mut self, last: &BTreeMap<i64, String>) {
        let seen = |events: Option<&Vec<mvccpb::Event>>, key: &str| {
            events
                .into_iter()
                .flatten()
                .any(|event| is_last(event, key))
        };
        while let Some(missing) = last
            .iter()
            .find(|(id, key)| !self.has_ended(**id) && !seen(self.events.get(id), key))
        {
            tokio::time::timeout(PATIENCE, self.next())
                .await
                .unwrap_or_else(|_| {
                    panic!("{}: watch {missing:?} misses its last event", self.name)
                });
        }
    }
}

/// Whether this is the put by which a test marks the end.
pub fn is_last(event: &mvccpb::Event, key: &str) -> bool {
    event
        .kv
        .as_ref()
        .is_some_and(|kv| kv.key == key.as_bytes() && &kv.value[..] == b"last")
}

/// Pseudo-random numbers from a seed (xorshift64*).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

//! What a silent connection and a silent watch take, allocation by allocation: `idle [CONNECTIONS [WATCHES]]`.
//!
//! Counts what the server's thread allocates and has not freed, by size. What TLS keeps outside of Rust's allocator (the
//! contexts of two ciphers a connection) and what an allocator rounds up is not in it: `megaplane bench connections`
//! measures the whole process.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use apiserver::Api;
use apiserver::listen::{self, Codec};
use apiserver::pki::{Pki, PkiOptions};
use http2::{Config, Connection, Event};
use rustls::pki_types::ServerName;
use store::{Store, StoreConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Allocations larger than this are counted together.
const SIZES: usize = 16 << 10;
/// Longer than the server waits until it takes a connection for idle.
const QUIET: Duration = Duration::from_secs(12);
const WATCHES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

struct Counting;

static LIVE: [AtomicI64; SIZES + 1] = [const { AtomicI64::new(0) }; SIZES + 1];
static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count(bytes: usize, sign: i64) {
    if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
        LIVE[bytes.min(SIZES)].fetch_add(sign, Relaxed);
        LIVE_BYTES.fetch_add(sign * bytes as i64, Relaxed);
    }
}

// SAFETY: every call is handed to the system's allocator as it came; the counters are atomic and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: it came from the system with this layout.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Peer {
    stream: TlsStream<TcpStream>,
    http2: Connection,
}

impl Peer {
    fn ask(&mut self, target: &str) {
        let fields: [(&[u8], &[u8]); 6] = [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"127.0.0.1"),
            (b":path", target.as_bytes()),
            (
                b"accept",
                b"application/vnd.kubernetes.protobuf,application/json",
            ),
            (b"user-agent", b"kubelet/v1.36.0 (linux/amd64) kubernetes"),
        ];
        self.http2.open(fields, true).expect("a stream");
    }

    /// Writes, and reads until so many answers have begun.
    async fn begun(&mut self, answers: usize) {
        let mut begun = 0;
        while begun < answers {
            let output = self.http2.output().take();
            self.stream.write_all(&output).await.expect("written");
            let mut bytes = vec![0; 64 << 10];
            let read = self.stream.read(&mut bytes).await.expect("read");
            assert!(read > 0, "the server closed a connection");
            bytes.truncate(read);
            self.http2.recv(bytes.into(), 0);
            while let Some(event) = self.http2.next_event() {
                begun += usize::from(matches!(event, Event::Headers { .. }));
            }
        }
        let output = self.http2.output().take();
        self.stream.write_all(&output).await.expect("written");
    }
}

fn main() {
    let mut numbers = std::env::args()
        .skip(1)
        .map(|text| text.parse().expect("a number"));
    let connections: usize = numbers.next().unwrap_or(100);
    let watches: usize = numbers.next().unwrap_or(50);
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let api = Api::new(Arc::new(Store::new(StoreConfig::default())), stopping);
    block_on(api.bootstrap(SocketAddr::from(([127, 0, 0, 1], 6443)))).expect("bootstrap");
    let pki = Pki::open(&PkiOptions {
        directory: None,
        bind_address: [127, 0, 0, 1].into(),
        service_address: api.service_address().into(),
        now_seconds: apiserver::now_micros() / 1_000_000,
    })
    .expect("certificates");
    let socket = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1)
        .expect("a port")
        .remove(0);
    let address = socket.local_addr().expect("an address");
    let tls = listen::tls_config(&pki).expect("TLS");
    let shutdown = stop.subscribe();
    std::thread::spawn(move || {
        IS_COUNTED.set(true);
        block_on(listen::serve(
            socket,
            tls,
            Codec::Own,
            Arc::new(api),
            shutdown,
        ))
    });
    let kubeconfig = client::Kubeconfig {
        server: format!("https://{address}"),
        ca_pem: pki.ca_pem.clone().into(),
        client_certificate_pem: pki.admin.certificate_pem.clone().into(),
        client_key_pem: pki.admin.key_pem.clone().into(),
        ..client::Kubeconfig::default()
    };
    let tls = client::https::tls_config(&kubeconfig).expect("TLS");
    block_on(measure(address, tls.into(), connections, watches));
}

async fn measure(
    address: SocketAddr,
    tls: tokio_rustls::TlsConnector,
    connections: usize,
    watches: usize,
) {
    let connect = async || {
        let socket = TcpStream::connect(address).await.expect("connected");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let mut peer = Peer {
            stream: tls.connect(name, socket).await.expect("secured"),
            http2: Connection::client(Config::default()),
        };
        peer.ask("/api/v1/namespaces/default");
        peer.begun(1).await;
        peer
    };
    // Threads and tables are warm after the first.
    let mut peers = vec![connect().await];
    peers[0].ask(&target(connections, 0));
    peers[0].begun(1).await;
    tokio::time::sleep(QUIET).await;
    let before = Live::now();
    for _ in 0..connections {
        peers.push(connect().await);
    }
    let busy = Live::now();
    tokio::time::sleep(QUIET).await;
    let idle = Live::now();
    busy.report("a connection after its first request", &before, connections);
    idle.report("a connection that is idle", &before, connections);
    for (number, peer) in peers.iter_mut().skip(1).enumerate() {
        (0..watches).for_each(|watch| peer.ask(&target(number, watch)));
        peer.begun(watches).await;
    }
    tokio::time::sleep(QUIET).await;
    Live::now().report("a watch of one object", &idle, connections * watches);
}

fn target(connection: usize, watch: usize) -> String {
    format!(
        "{WATCHES}?watch=true&resourceVersion=1&timeoutSeconds=600&allowWatchBookmarks=true&fieldSelector=metadata.name%3Dnone-{connection}-{watch}"
    )
}

struct Live {
    bytes: i64,
    by_size: Vec<i64>,
}

impl Live {
    fn now() -> Live {
        Live {
            bytes: LIVE_BYTES.load(Relaxed),
            by_size: LIVE.iter().map(|count| count.load(Relaxed)).collect(),
        }
    }

    fn report(&self, what: &str, before: &Live, count: usize) {
        let each = |grown: i64| grown as f64 / count as f64;
        println!("{what}: {:.0} B", each(self.bytes - before.bytes));
        for (size, (now, then)) in self.by_size.iter().zip(&before.by_size).enumerate() {
            let share = each(now - then);
            if share.abs() * size as f64 >= 4.0 {
                println!("  {share:7.2} of {size:5} B: {:6.0} B", share * size as f64);
            }
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

//! What a server is told at its beginning.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kv::Durability;

/// How a server runs. The defaults are etcd's.
#[derive(Clone, Debug)]
pub struct Options {
    /// The member's name.
    pub name: String,
    /// Where everything is kept. None: in memory, gone at the end.
    pub data_dir: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What to tell clients about where to find us. Empty: the address listened on.
    pub advertise_client_urls: Vec<String>,
    /// What to tell about where members would find us.
    pub advertise_peer_urls: Vec<String>,
    /// TLS, if wanted.
    pub tls: Option<TlsFiles>,
    /// Who speaks HTTP/2.
    pub listener: Listener,
    /// Runtimes, each with its own thread and socket.
    pub runtimes: usize,
    /// Bytes a request may have.
    pub max_request_bytes: usize,
    /// Operations a list of a transaction may have.
    pub max_txn_ops: usize,
    /// Bytes a collection may hold, history included.
    pub quota_bytes: u64,
    /// How often a watch that asked for it hears how far it has come.
    pub progress_notify_interval: Duration,
    /// When a write counts.
    pub default_durability: Durability,
    /// The same for the collections of these prefixes.
    pub durability: Vec<(String, Durability)>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            name: "default".into(),
            data_dir: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 2379)),
            advertise_client_urls: Vec::new(),
            advertise_peer_urls: vec!["http://localhost:2380".into()],
            tls: None,
            listener: Listener::Own,
            runtimes: 1,
            max_request_bytes: 3 << 19,
            max_txn_ops: 128,
            quota_bytes: 2 << 30,
            progress_notify_interval: Duration::from_secs(600),
            default_durability: Durability::Fsync,
            durability: Vec::new(),
        }
    }
}

/// Who speaks HTTP/2 with clients; HTTP/1.1 is hyper's in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Our own codec.
    Own,
    /// hyper.
    Hyper,
}

/// PEM files for TLS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Our certificate and what it hangs on.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whose client certificates are good.
    pub trusted_ca: Option<PathBuf>,
    /// Whether a client must show one.
    pub client_cert_auth: bool,
}

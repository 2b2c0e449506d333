//! What a server is told at its beginning.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kv::Durability;

use crate::auth::AuthOptions;
use crate::compactor::AutoCompaction;
use crate::limits::WATCHES_PER_STREAM_MAX;

/// How a server runs. The defaults are etcd's.
#[derive(Clone, Debug)]
pub struct Options {
    /// The member's name.
    pub name: String,
    /// Where everything is kept. None: in memory, gone at the end.
    pub data_dir: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    pub doors: Vec<Door>,
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
    /// Watches a stream may have.
    pub watches_per_stream_max: usize,
    /// Bytes all keys may hold together, history included; the largest number for no limit.
    pub quota_bytes: u64,
    /// Which history is given up by itself, if any.
    pub auto_compaction: Option<AutoCompaction>,
    /// How often a watch that asked for it hears how far it has come.
    pub progress_notify_interval: Duration,
    /// Whether the JSON gateway is served.
    pub json_gateway: bool,
    /// Web pages of these origins may read plain HTTP answers; `*` for all.
    pub cors: Vec<String>,
    /// How users log in, once access rules are on.
    pub auth: AuthOptions,
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
            doors: vec![Door::plain(([127, 0, 0, 1], 2379).into())],
            advertise_client_urls: Vec::new(),
            advertise_peer_urls: vec!["http://localhost:2380".into()],
            tls: None,
            listener: Listener::Own,
            runtimes: 1,
            max_request_bytes: 3 << 19,
            max_txn_ops: 128,
            watches_per_stream_max: WATCHES_PER_STREAM_MAX,
            quota_bytes: 2 << 30,
            auto_compaction: None,
            progress_notify_interval: Duration::from_secs(600),
            json_gateway: true,
            cors: vec!["*".into()],
            auth: AuthOptions::default(),
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

/// One address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// The address.
    pub address: SocketAddr,
    /// Whether TLS is spoken there; needs [`Options::tls`].
    pub is_secure: bool,
    /// Whether only health, version and metrics are told there.
    pub is_for_metrics: bool,
}

impl Door {
    /// A door without TLS, for everything.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Door {
            address,
            is_secure: false,
            is_for_metrics: false,
        }
    }

    /// How a client would name it.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}

/// Files for TLS, PEM unless said otherwise. They are read again when they change.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Our certificate and what it hangs on.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whose client certificates are good.
    pub trusted_ca: Option<PathBuf>,
    /// Whether a client must show one.
    pub client_cert_auth: bool,
    /// Client certificates that are good no longer, PEM or DER.
    pub crl: Option<PathBuf>,
    /// The oldest version of TLS that is spoken.
    pub version_min: TlsVersion,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

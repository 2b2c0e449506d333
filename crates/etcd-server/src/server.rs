//! Starting and ending: data directory, sockets, runtimes, housekeeping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kv::Revision;
use store::{CollectionConfig, ReadError, Store, StoreConfig, collection_prefix};
use tokio::sync::{Semaphore, watch};
use wal::{Disk, Medium, SystemFiles, WalError};

use crate::alarms::Alarms;
use crate::api::Api;
use crate::auth::Auth;
use crate::compactor::Compactor;
use crate::limits::{STEP_ENTRIES, STEP_INTERVAL, WHOLE_READERS_MAX};
use crate::listen::{bind, serve, stopped};
use crate::metrics::Metrics;
use crate::node::{Node, identity, now_micros};
use crate::options::{Door, Options};
use crate::tls::Tls;

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Disk(#[from] WalError),
    /// The address cannot be had.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, std::io::Error),
    /// There is no address to listen on.
    #[error("give an address to listen on")]
    NoDoor,
    /// The certificates cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// Users could not log in as they are to.
    #[error("auth-token: {0}")]
    AuthToken(String),
    /// A durability for keys that are no collection of their own.
    #[error("durability for {0:?}: give a whole collection, such as \"/registry/leases/\"")]
    NoCollection(String),
    /// No thread or runtime can be had.
    #[error("cannot start a runtime: {0}")]
    Runtime(std::io::Error),
}

/// An open store with its sockets. Nothing is answered before [`Server::run`].
pub struct Server {
    node: Arc<Node>,
    disk: Option<Disk>,
    doors: Vec<OpenDoor>,
    tls: Option<Arc<Tls>>,
    address: SocketAddr,
}

/// A door with a socket for each runtime.
struct OpenDoor {
    door: Door,
    sockets: Vec<std::net::TcpListener>,
}

impl Server {
    /// Recovers the data directory and takes the port.
    pub fn open(options: Options) -> Result<Server, OpenError> {
        Server::open_on(Arc::new(SystemFiles), wal::Options::default(), options)
    }

    /// The same with the log on another medium, used in another way: how tests let disks fail. Only the log is there;
    /// what is written for a snapshot that a client saves stays with the operating system.
    pub fn open_on(
        medium: Arc<dyn Medium>,
        log: wal::Options,
        options: Options,
    ) -> Result<Server, OpenError> {
        let tls = options.tls.clone().map(Tls::open).transpose();
        let tls = tls.map_err(OpenError::Tls)?.map(Arc::new);
        if tls.is_none() && options.doors.iter().any(|door| door.is_secure) {
            return Err(OpenError::Tls("there is no certificate".into()));
        }
        let collections = |durability| CollectionConfig {
            durability,
            keep_until_compacted: true,
            ..CollectionConfig::default()
        };
        let is_collection =
            |prefix: &str| collection_prefix(prefix.as_bytes()) == prefix.as_bytes();
        if let Some((prefix, _)) = options
            .durability
            .iter()
            .find(|(prefix, _)| !is_collection(prefix))
        {
            return Err(OpenError::NoCollection(prefix.clone()));
        }
        let doors = options
            .doors
            .iter()
            .map(|door| open_door(*door, options.runtimes));
        let doors = doors.collect::<Result<Vec<_>, _>>()?;
        let address = doors.first().map(|open| open.door.address);
        let address = address.ok_or(OpenError::NoDoor)?;
        let store = Arc::new(Store::new(StoreConfig {
            log: options.data_dir.is_some(),
            collections: collections(options.default_durability),
            // Lease names must not come again after a restart.
            seed: now_micros().cast_unsigned(),
        }));
        let disk = match &options.data_dir {
            Some(dir) => Some(Disk::open_on(medium, dir, store.clone(), log)?),
            None => None,
        };
        for (prefix, durability) in &options.durability {
            store.collection(prefix, collections(*durability));
        }
        let client_urls = if options.advertise_client_urls.is_empty() {
            let all = doors.iter().map(|open| &open.door);
            all.filter(|door| !door.is_for_metrics)
                .map(Door::url)
                .collect()
        } else {
            options.advertise_client_urls.clone()
        };
        let identity = identity(&options.name);
        let log = disk.as_ref().map(|disk| disk.timings().clone());
        let auth = Auth::open(&options.auth, &store).map_err(OpenError::AuthToken)?;
        let node = Node {
            alarms: Alarms::of(&store),
            store,
            options,
            identity,
            client_urls,
            metrics: Metrics::of_log(log.unwrap_or_default()),
            whole_readers: Arc::new(Semaphore::new(WHOLE_READERS_MAX)),
            auth,
        };
        Ok(Server {
            node: Arc::new(node),
            disk,
            doors,
            tls,
            address,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The store behind it.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.node.store
    }

    /// Serves until `stop` turns true, then closes the data directory cleanly. Blocks: one runtime is on this
    /// thread, the others on threads of their own.
    pub fn run(self, stop: watch::Receiver<bool>) -> Result<(), OpenError> {
        // What each runtime listens on: one socket of each door.
        let mut runtimes: Vec<Vec<Listening>> = Vec::new();
        for OpenDoor { door, sockets } in self.doors {
            runtimes.resize_with(runtimes.len().max(sockets.len()), Vec::new);
            for (runtime, socket) in runtimes.iter_mut().zip(sockets) {
                runtime.push(Listening {
                    socket,
                    tls: self.tls.clone().filter(|_| door.is_secure),
                    api: Api {
                        node: self.node.clone(),
                        is_for_metrics: door.is_for_metrics,
                        peer: None,
                    },
                });
            }
        }
        let mut runtimes = runtimes.into_iter();
        let Some(first) = runtimes.next() else {
            return Ok(());
        };
        std::thread::scope(|scope| {
            for listening in runtimes {
                let stop = stop.clone();
                let work = move || -> std::io::Result<()> {
                    runtime()?.block_on(serve_all(listening, stop))
                };
                std::thread::Builder::new()
                    .name("etcd-server".into())
                    .spawn_scoped(scope, move || {
                        if let Err(error) = work() {
                            tracing::error!(%error, "a runtime ended");
                        }
                    })
                    .map_err(OpenError::Runtime)?;
            }
            let runtime = runtime().map_err(OpenError::Runtime)?;
            runtime.block_on(async {
                let housekeeping = tokio::spawn(housekeeping(self.node.clone(), stop.clone()));
                let served = serve_all(first, stop).await;
                housekeeping.abort();
                served.map_err(OpenError::Runtime)
            })
        })?;
        match self.disk {
            Some(disk) => Ok(disk.close()?),
            None => Ok(()),
        }
    }
}

/// A socket, and who answers on it.
struct Listening {
    socket: std::net::TcpListener,
    tls: Option<Arc<Tls>>,
    api: Api,
}

/// Serves all sockets of one runtime until `stop` turns true.
async fn serve_all(listening: Vec<Listening>, stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let serve_one =
        |one: Listening| tokio::spawn(serve(one.socket, one.tls, one.api, stop.clone()));
    let tasks: Vec<_> = listening.into_iter().map(serve_one).collect();
    for task in tasks {
        task.await.map_err(std::io::Error::other)??;
    }
    Ok(())
}

fn open_door(door: Door, runtimes: usize) -> Result<OpenDoor, OpenError> {
    let fail = |error| OpenError::Bind(door.address, error);
    let sockets = bind(door.address, runtimes).map_err(fail)?;
    let address = sockets.first().map(std::net::TcpListener::local_addr);
    let address = address.transpose().map_err(fail)?.unwrap_or(door.address);
    let door = Door { address, ..door };
    Ok(OpenDoor { door, sockets })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Ends leases, compacts by itself if it was told to, and trims history, in small steps.
async fn housekeeping(node: Arc<Node>, stop: watch::Receiver<bool>) {
    let begun = std::time::Instant::now();
    let rule = node.options.auto_compaction;
    let revision = node.store.applied().0;
    let mut compactor = rule.map(|rule| Compactor::new(rule, Duration::ZERO, revision));
    let mut trouble = Trouble::default();
    let work = async {
        loop {
            trouble.tell(&node.store);
            if let Some(compactor) = &mut compactor {
                compact(&node, compactor, begun.elapsed());
            }
            let stepped = node.store.step(now_micros(), STEP_ENTRIES);
            let expired = &node.metrics.leases_expired;
            expired.fetch_add(stepped.leases as u64, Ordering::Relaxed);
            if stepped.leases > 0 || stepped.entries > 0 {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(STEP_INTERVAL).await;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stopped(stop) => {}
    }
}

/// Compacts if it is time to. What fails is tried again at the compactor's next step.
fn compact(node: &Node, compactor: &mut Compactor, now: Duration) {
    let Some(target) = compactor.target(now, node.store.applied().0) else {
        return;
    };
    if node.admit_change().is_err() {
        tracing::warn!(target, "no compaction while the alarm CORRUPT is up");
        return;
    }
    match node.store.compact(Revision(target)) {
        Ok(()) => tracing::info!(target, "compacted by itself"),
        // Somebody else has done it.
        Err(ReadError::Compacted(_)) => {}
        Err(error) => {
            tracing::warn!(target, %error, "could not compact");
            return;
        }
    }
    compactor.succeeded(now);
}

/// What was told of the log.
#[derive(Debug, Default)]
struct Trouble {
    has_failed: bool,
    is_full: bool,
}

impl Trouble {
    /// Tells what has become of the log since the last look.
    fn tell(&mut self, store: &Store) {
        if let Some(reason) = store.failure().filter(|_| !self.has_failed) {
            self.has_failed = true;
            tracing::error!(reason, "no write is accepted any more");
        }
        let is_full = store.is_full();
        match (self.is_full, is_full) {
            (false, true) => {
                tracing::error!("the disk is full: only deletes and compactions are accepted")
            }
            (true, false) => tracing::info!("the disk has room again"),
            (true, true) | (false, false) => {}
        }
        self.is_full = is_full;
    }
}

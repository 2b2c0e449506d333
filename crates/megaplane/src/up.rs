//! `megaplane up`: the whole control plane in one process.
//!
//! ```text
//!   main thread      screen, signals
//!   api-0 … api-n    one listener and runtime per core
//!   scheduler, controllers, fleet, census     a runtime each, clients in process
//!   store-steps      expiry, history, bookkeeping in small steps       wal     the log's writer
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use apiserver::listen::{self, ListenError};
use apiserver::pki::{Pki, PkiError, PkiOptions};
use apiserver::{Api, BootstrapError};
use client::{Client, Kubeconfig};
use controllers::{ControllersConfig, ControllersProgress};
use fleet::{FleetConfig, FleetProgress};
use scheduler::{SchedulerProgress, Settings, Shards};
use store::{Store, StoreConfig};
use tokio::sync::watch;

use crate::cli::UpOptions;
use crate::fleet_files::FaultFile;
use crate::paths::Places;
use crate::screen::{Figures, Screen, say};
use crate::{census, room, screen, threads};

/// How often the store takes a step of expiry and trimming, and how much it does at most.
const STEP_INTERVAL: Duration = Duration::from_millis(10);
const STEP_ENTRIES_MAX: usize = 4096;
/// Descriptors below which a warning is due: listeners, log, and a few hundred clients.
const OPEN_FILES_MIN: u64 = 1024;

/// Why the control plane did not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Store(#[from] wal::WalError),
    #[error(transparent)]
    Certificates(#[from] PkiError),
    #[error("{0}{hint}", hint = port_hint(.0))]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error("cannot write the kubeconfig {0}: {1}")]
    Kubeconfig(std::path::PathBuf, std::io::Error),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error("the log stopped, nothing more can be kept: {0}")]
    LogStopped(String),
}

fn port_hint(error: &ListenError) -> &'static str {
    match error {
        ListenError::Bind(_, error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            " (another server has this port; choose one with --secure-port)"
        }
        _ => "",
    }
}

/// Runs until a signal comes.
pub fn run(options: &UpOptions) -> Result<(), Box<dyn std::error::Error>> {
    screen::start_logging(&options.log, false)?;
    let begun = Instant::now();
    let files = threads::raise_file_limit();
    if files < OPEN_FILES_MIN {
        tracing::warn!(
            files,
            "this process may open few files: many clients will be refused"
        );
    }
    let fleet = fleet_of(options).map_err(UpError::Usage)?;
    let places = Places::of(options).map_err(UpError::Usage)?;
    let plane = Plane::start(options, &places, fleet)?;
    say(&format!(
        "Megaplane {} serves Kubernetes {} on https://{} ({} ms after start)",
        env!("CARGO_PKG_VERSION"),
        apiserver::version_info()["gitVersion"]
            .as_str()
            .unwrap_or_default(),
        plane.address,
        begun.elapsed().as_millis()
    ));
    match &places.data {
        Some(data) => say(&format!("data in {}", data.display())),
        None => say("nothing is kept (--ephemeral)"),
    }
    say(&format!(
        "  export KUBECONFIG={}",
        places.kubeconfig.display()
    ));
    let result = plane.watch_over();
    plane.stop(&places)?;
    result.map_err(Into::into)
}

/// The fleet's configuration, if this machine can hold it.
fn fleet_of(options: &UpOptions) -> Result<(FleetConfig, Option<FaultFile>), String> {
    let files = &options.fleet;
    if options.nodes == 0 && files.any() {
        return Err(
            "--fleet-config, --fleet-stages, --fleet-faults and --kubelet-like need --nodes".into(),
        );
    }
    let nodes = options.nodes as usize;
    let mut watches_a_node = 0;
    if files.kubelet_like {
        fleet::check_watches(nodes, None)?;
        watches_a_node = fleet::WATCHES_A_NODE;
    }
    if let Err(text) = room::check(options.nodes, watches_a_node, room::available_bytes()) {
        if !options.force {
            return Err(text);
        }
        tracing::warn!("{text}");
    }
    files.read(nodes)
}

/// A running control plane.
struct Plane {
    address: SocketAddr,
    api: Api,
    store: Arc<Store>,
    disk: Option<wal::Disk>,
    stopping: watch::Sender<bool>,
    rooms: Vec<std::thread::JoinHandle<()>>,
    nodes_wanted: usize,
    nodes_ready: Arc<AtomicUsize>,
    fleet: Arc<FleetProgress>,
}

impl Plane {
    fn start(
        options: &UpOptions,
        places: &Places,
        fleet: (FleetConfig, Option<FaultFile>),
    ) -> Result<Plane, UpError> {
        let mut settings = match &options.scheduler_config {
            Some(path) => crate::scheduler_command::read_settings(path).map_err(UpError::Usage)?,
            None => Settings::default(),
        };
        settings.scheduler.shards = Shards::threads(options.scheduler_shards);
        settings.scheduler.check().map_err(UpError::Usage)?;
        // The port first: two planes on one port would otherwise fight over the data directory's error.
        let runtimes = std::thread::available_parallelism().map_or(1, usize::from);
        let sockets = listen::bind(
            SocketAddr::new(options.bind_address, options.secure_port),
            runtimes,
        )?;
        let address = match sockets.first() {
            Some(socket) => socket.local_addr()?,
            None => SocketAddr::new(options.bind_address, options.secure_port),
        };
        let seed = u64::try_from(apiserver::now_micros()).unwrap_or(1);
        let (store, disk) = match &places.data {
            None => (
                Arc::new(Store::new(StoreConfig {
                    seed,
                    ..StoreConfig::default()
                })),
                None,
            ),
            Some(data) => {
                let store = Arc::new(Store::new(StoreConfig {
                    log: true,
                    seed,
                    ..StoreConfig::default()
                }));
                let disk =
                    wal::Disk::open(&data.join("store"), store.clone(), wal::Options::default())?;
                (store, Some(disk))
            }
        };
        let (stopping, stop) = watch::channel(false);
        let also = options.feature_gates.also_served();
        let api = Api::serving(store.clone(), stop.clone(), &also);
        let pki = Pki::open(&PkiOptions {
            directory: places.data.as_ref().map(|data| data.join("pki")),
            bind_address: options.bind_address,
            service_address: api.service_address().into(),
            now_seconds: apiserver::now_micros() / 1_000_000,
        })?;
        let mut plane = Plane {
            address,
            api,
            store,
            disk,
            stopping,
            rooms: Vec::new(),
            nodes_wanted: usize::try_from(options.nodes).unwrap_or(usize::MAX),
            nodes_ready: Arc::default(),
            fleet: Arc::default(),
        };
        plane.start_steps(&stop)?;
        plane.bootstrap()?;
        plane.start_listeners(sockets, &pki, options.listener, &stop)?;
        write_kubeconfig(places, &pki, reachable(address))?;
        plane.start_rooms(options, settings, fleet, &pki, &stop)?;
        Ok(plane)
    }

    fn start_steps(&mut self, stop: &watch::Receiver<bool>) -> Result<(), UpError> {
        let (store, stop) = (self.store.clone(), stop.clone());
        self.rooms
            .push(threads::spawn("store-steps", move || async move {
                let mut ticks = tokio::time::interval(STEP_INTERVAL);
                while !*stop.borrow() {
                    ticks.tick().await;
                    store.step(apiserver::now_micros(), STEP_ENTRIES_MAX);
                }
            })?);
        Ok(())
    }

    fn bootstrap(&self) -> Result<(), UpError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.api.bootstrap(self.address))?;
        Ok(())
    }

    fn start_listeners(
        &mut self,
        sockets: Vec<std::net::TcpListener>,
        pki: &Pki,
        codec: listen::Codec,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), UpError> {
        let tls = listen::tls_config(pki)?;
        for (index, socket) in sockets.into_iter().enumerate() {
            let (tls, api, stop) = (tls.clone(), Arc::new(self.api.clone()), stop.clone());
            let room = threads::spawn(&format!("api-{index}"), move || async move {
                if let Err(error) = listen::serve(socket, tls, codec, api, stop).await {
                    tracing::error!(%error, "a listener ended");
                }
            })?;
            self.rooms.push(room);
        }
        Ok(())
    }

    fn start_rooms(
        &mut self,
        options: &UpOptions,
        settings: Settings,
        (config, fault_file): (FleetConfig, Option<FaultFile>),
        pki: &Pki,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), UpError> {
        let client = self.client("megaplane");
        let scheduler = Arc::new(SchedulerProgress::default());
        let controllers = Arc::new(ControllersProgress::default());
        self.add_metrics(&scheduler);
        if options.scheduler {
            let (client, stop) = (client.clone(), stop.clone());
            let mut config = settings.scheduler;
            config.gangs = options.feature_gates.gangs;
            config.device_taint_rules = options.feature_gates.device_taint_rules;
            self.rooms.push(threads::spawn("scheduler", move || {
                scheduler::run(client, config, scheduler, stop)
            })?);
        }
        {
            let (client, stop) = (client.clone(), stop.clone());
            let config = ControllersConfig {
                ca_certificate_pem: Some(pki.ca_pem.clone()),
                simulated_provisioner: self.nodes_wanted > 0,
                device_taint_rules: options.feature_gates.device_taint_rules,
                ..ControllersConfig::default()
            };
            self.rooms.push(threads::spawn("controllers", move || {
                controllers::run(client, config, controllers, stop)
            })?);
        }
        {
            let (client, ready, mut stop) =
                (client.clone(), self.nodes_ready.clone(), stop.clone());
            self.rooms
                .push(threads::spawn("census", move || async move {
                    tokio::select! {
                        () = census::run(client, ready) => {}
                        _ = stop.wait_for(|stop| *stop) => {}
                    }
                })?);
        }
        if self.nodes_wanted > 0 {
            let (progress, stop) = (self.fleet.clone(), stop.clone());
            self.rooms.push(threads::spawn("fleet", move || async move {
                let fleet = fleet::run(client, config, progress, stop);
                match fault_file {
                    Some(file) => tokio::select! {
                        () = fleet => {}
                        () = file.follow() => {}
                    },
                    None => fleet.await,
                }
            })?);
        }
        Ok(())
    }

    fn client(&self, agent: &str) -> Client {
        Client::new(Arc::new(self.api.clone()), Some(Api::system_user()), agent)
    }

    fn add_metrics(&self, scheduler: &Arc<SchedulerProgress>) {
        let (fleet, scheduler, ready) = (
            self.fleet.clone(),
            scheduler.clone(),
            self.nodes_ready.clone(),
        );
        self.api.metrics().add_source(Box::new(move |text| {
            use apiserver::metrics::gauge;
            gauge(
                text,
                "megaplane_nodes_ready",
                "Nodes whose Ready condition is True.",
                ready.load(Relaxed),
            );
            fleet.write_metrics(text);
            scheduler.write_metrics(text);
        }));
    }

    /// Shows progress until a signal comes or the log fails.
    fn watch_over(&self) -> Result<(), UpError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut screen = Screen::new();
            let mut ticks = tokio::time::interval(Screen::interval());
            loop {
                tokio::select! {
                    _ = interrupt.recv() => break,
                    _ = terminate.recv() => break,
                    _ = ticks.tick() => {
                        if let Some(reason) = self.store.failure() {
                            screen.close();
                            return Err(UpError::LogStopped(reason));
                        }
                        screen.show(&self.figures());
                    }
                }
            }
            screen.close();
            Ok(())
        })
    }

    fn figures(&self) -> Figures {
        Figures {
            nodes_wanted: self.nodes_wanted,
            registered: self.fleet.registered.load(Relaxed),
            nodes_ready: self.nodes_ready.load(Relaxed),
            pods: self.api.count("pods"),
            writes: self.api.metrics().writes.load(Relaxed),
            late_max_millis: self.fleet.renewal_late_max_millis.load(Relaxed),
            resident_bytes: apiserver::metrics::resident_bytes(),
        }
    }

    /// Ends the rooms, then closes the log, so that nothing is acknowledged that is not kept.
    fn stop(self, places: &Places) -> Result<(), UpError> {
        say("stopping");
        let _ = self.stopping.send(true);
        for room in self.rooms {
            if room.join().is_err() {
                tracing::error!("a thread had panicked");
            }
        }
        if let Some(disk) = self.disk {
            disk.close()?;
        }
        if places.data.is_none() {
            // The cluster it speaks of is gone.
            let _ = std::fs::remove_file(&places.kubeconfig);
        }
        say("stopped");
        Ok(())
    }
}

/// The address a client on this machine uses.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

fn write_kubeconfig(places: &Places, pki: &Pki, server: SocketAddr) -> Result<(), UpError> {
    let path = &places.kubeconfig;
    let fail = |error| UpError::Kubeconfig(path.clone(), error);
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    let config = Kubeconfig {
        server: format!("https://{server}"),
        ca_pem: pki.ca_pem.clone().into_bytes(),
        client_certificate_pem: pki.admin.certificate_pem.clone().into_bytes(),
        client_key_pem: pki.admin.key_pem.clone().into_bytes(),
        ..Kubeconfig::default()
    };
    apiserver::write_atomically(path, config.to_yaml("megaplane").as_bytes(), 0o600).map_err(fail)
}

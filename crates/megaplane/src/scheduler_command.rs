//! `megaplane scheduler`: the scheduler alone, over HTTPS beside any Kubernetes API server.
//!
//! ```text
//!   main       signals
//!   scheduler  stand by ─► lead: schedule, and renew the Lease ─► give it back, or end with an error when it is lost
//!   health     /healthz /livez /readyz /metrics /configz: over TLS (secure_port), or over plain HTTP on a loopback address
//! ```
//!
//! Knows files, flags and the process; decides nothing about pods.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use client::https::HttpsTransport;
use client::{Client, Kubeconfig};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use scheduler::{Elector, SHARDS_MAX, SchedulerProgress, Settings, Shards};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::screen::{say, start_logging};
use crate::secure_port::{SecurePort, SecurePortOptions, Teller, Told};
use crate::threads;

/// Largest configuration file that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Connections to the health port at a time; more wait.
const HEALTH_CONNECTIONS_MAX: usize = 64;
/// Longest wait for the head of a request to the health port.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time spent on giving the Lease back.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Flags of `megaplane scheduler`.
#[derive(Debug, Args)]
pub struct SchedulerOptions {
    /// The API server, and who we are there [default: clientConnection.kubeconfig of the configuration]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What 1.36 has and leaves off: GangScheduling=true lets pods of a PodGroup start together,
    /// DRADeviceTaintRules=true lets DeviceTaintRules taint devices
    #[arg(long, value_name = "NAME=BOOL,…", default_value = "", value_parser = crate::feature_gates::parse)]
    pub feature_gates: crate::feature_gates::FeatureGates,
    /// Whether a Lease decides which of several schedulers works [default: as the configuration says, else true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub leader_elect: Option<bool>,
    /// Into how many parts the nodes are divided, each on a thread of its own
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = shards)]
    pub shards: usize,
    /// Where `megaplane scheduler-shard` serves, instead: loopback addresses, separated by commas
    #[arg(
        long,
        value_name = "ADDRESS:PORT,…",
        value_delimiter = ',',
        conflicts_with = "shards"
    )]
    pub shard_addresses: Vec<SocketAddr>,
    #[command(flatten)]
    pub secure: SecurePortOptions,
    /// Where the same is served without TLS and for everybody, too: a loopback address; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub health_address: Option<SocketAddr>,
    /// Log filter: error, warn, info, debug, or per module (for example `warn,scheduler=debug`)
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "MEGAPLANE_LOG"
    )]
    pub log: String,
}

/// How many shards a scheduler may have.
pub fn shards(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(shards @ 1..=SHARDS_MAX) => Ok(shards),
        _ => Err(format!("a number from 1 to {SHARDS_MAX}")),
    }
}

/// Messages of shards are neither encrypted nor asked where they come from.
fn only_loopback(flag: &str, address: &SocketAddr) -> Result<(), String> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(format!(
        "{flag} {address}: whoever reaches a shard can speak to it, so only a loopback address is used"
    ))
}

/// Flags of `megaplane scheduler-shard`.
#[derive(Debug, Args)]
pub struct ShardOptions {
    /// Where the scheduler finds it: a loopback address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// Log filter: error, warn, info, debug, or per module (for example `warn,scheduler=debug`)
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "MEGAPLANE_LOG"
    )]
    pub log: String,
}

/// Holds some of a scheduler's nodes until a signal comes.
pub fn run_shard(options: &ShardOptions) -> Result<(), Box<dyn std::error::Error>> {
    start_logging(&options.log, false)?;
    only_loopback("--listen", &options.listen)?;
    let listener = std::net::TcpListener::bind(options.listen)
        .map_err(|error| format!("--listen {}: {error}", options.listen))?;
    say(&format!(
        "Megaplane {} serves as a shard of a scheduler on {}",
        env!("CARGO_PKG_VERSION"),
        listener.local_addr()?
    ));
    Err(scheduler::serve_shards(&listener).into())
}

/// Reads a configuration file; what is wrong with it is named with the file.
pub fn read_settings(path: &Path) -> Result<Settings, String> {
    let fail = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let bytes = std::fs::metadata(path).map_err(|error| fail(&error))?.len();
    if bytes > CONFIG_BYTES_MAX {
        return Err(fail(&"the file is larger than 4 MiB"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| fail(&error))?;
    let mut settings = Settings::parse(&text).map_err(|error| fail(&error))?;
    settings.load().map_err(|error| fail(&error))?;
    Ok(settings)
}

/// Runs until a signal comes or the lead is lost.
pub fn run(options: &SchedulerOptions) -> Result<(), Box<dyn std::error::Error>> {
    start_logging(&options.log, false)?;
    threads::raise_file_limit();
    let mut settings = match &options.config {
        Some(path) => read_settings(path)?,
        None => Settings::default(),
    };
    settings.scheduler.shards = if options.shard_addresses.is_empty() {
        Shards::threads(options.shards)
    } else {
        for address in &options.shard_addresses {
            only_loopback("--shard-addresses", address)?;
        }
        Shards::Processes(options.shard_addresses.clone())
    };
    settings.scheduler.gangs = options.feature_gates.gangs;
    settings.scheduler.device_taint_rules = options.feature_gates.device_taint_rules;
    settings.scheduler.check()?;
    if let Some(elect) = options.leader_elect {
        settings.leader_election.elect = elect;
    }
    let configured = Some(settings.kubeconfig.as_str()).filter(|path| !path.is_empty());
    let kubeconfig = match (&options.kubeconfig, configured) {
        (Some(path), _) => path.clone(),
        (None, Some(path)) => PathBuf::from(path),
        (None, None) => {
            return Err(
                "no API server: give --kubeconfig, or clientConnection.kubeconfig in the \
                        configuration"
                    .into(),
            );
        }
    };
    if let Some(address) = options.health_address
        && !address.ip().is_loopback()
    {
        return Err(format!(
            "--health-address {address}: it is plain HTTP for everybody, so only a loopback address is served"
        )
        .into());
    }
    let kubeconfig = Kubeconfig::read(&kubeconfig)?;
    let server = kubeconfig.server.clone();
    let client = Client::new(
        Arc::new(HttpsTransport::new(&kubeconfig)?),
        None,
        "kube-scheduler/v1.36.0 megaplane",
    );
    let secure = SecurePort::open(&options.secure, &host_name())?;
    let plain = match options.health_address {
        None => None,
        Some(address) => {
            let fail = |error| format!("--health-address {address}: {error}");
            let listener = std::net::TcpListener::bind(address).map_err(fail)?;
            listener.set_nonblocking(true).map_err(fail)?;
            Some(listener)
        }
    };
    let mut doors = Vec::new();
    if let Some(address) = secure.as_ref().and_then(SecurePort::address) {
        doors.push(format!("health on https://{address}"));
    }
    if let Some(listener) = &plain {
        doors.push(format!("health on http://{}", listener.local_addr()?));
    }
    if doors.is_empty() {
        doors.push("health nowhere".into());
    }
    let names: Vec<&str> = settings
        .scheduler
        .profiles
        .iter()
        .map(|profile| profile.scheduler_name.as_str())
        .collect();
    say(&format!(
        "Megaplane {} schedules pods of {} on {server}; {}",
        env!("CARGO_PKG_VERSION"),
        names.join(", "),
        doors.join("; ")
    ));
    let (stopping, stop) = watch::channel(false);
    let health = Arc::new(Health {
        configz: settings.configz().to_string(),
        ..Health::default()
    });
    let serving = {
        let (health, stop, client) = (health.clone(), stop.clone(), client.clone());
        threads::spawn("health", move || async move {
            let teller: Teller = {
                let health = health.clone();
                Arc::new(move |path| health.answer(path))
            };
            let secure = async {
                if let Some(port) = secure {
                    port.serve(client, teller, stop.clone()).await;
                }
            };
            let plain = async {
                if let Some(listener) = plain {
                    serve(listener, health, stop.clone()).await;
                }
            };
            tokio::join!(secure, plain);
        })?
    };
    let (lost, has_lost) = watch::channel(false);
    let scheduling = threads::spawn("scheduler", move || async move {
        let _ = lost.send(schedule(client, settings, health, stop).await);
    })?;
    let mut ended = has_lost.clone();
    threads::block_on(async {
        tokio::select! {
            () = threads::signal() => {}
            // The sender's end is the thread's end.
            _ = ended.wait_for(|lost| *lost) => {}
        }
    })?;
    let _ = stopping.send(true);
    for thread in [scheduling, serving] {
        if thread.join().is_err() {
            return Err("a thread panicked".into());
        }
    }
    say("stopped");
    if *has_lost.borrow() {
        return Err(
            "leader election lost: another scheduler may be at work, so this one ends".into(),
        );
    }
    Ok(())
}

/// Schedules, once it is our turn. True when the lead was lost.
async fn schedule(
    client: Client,
    settings: Settings,
    health: Arc<Health>,
    mut stop: watch::Receiver<bool>,
) -> bool {
    let mut stopped = stop.clone();
    if !settings.leader_election.elect {
        health.leads.store(true, Relaxed);
        scheduler::run(client, settings.scheduler, health.progress.clone(), stop).await;
        return false;
    }
    let identity = identity();
    let seed = u64::try_from(threads::now_micros()).unwrap_or(1);
    let mut elector = Elector::new(client.clone(), settings.leader_election, &identity, seed);
    tokio::select! {
        () = elector.acquire() => {}
        _ = stopped.wait_for(|stop| *stop) => return false,
    }
    tracing::info!(identity, "leading");
    health.leads.store(true, Relaxed);
    let progress = health.progress.clone();
    let lost = tokio::select! {
        () = scheduler::run(client, settings.scheduler, progress, stop.clone()) => false,
        () = elector.hold() => true,
        _ = stop.wait_for(|stop| *stop) => false,
    };
    if !lost {
        let _ = tokio::time::timeout(RELEASE_TIMEOUT, elector.release()).await;
    }
    lost
}

/// The machine and something no other process has.
fn identity() -> String {
    let host = host_name();
    format!("{host}_{:x}-{}", threads::now_micros(), std::process::id())
}

fn host_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => "megaplane".into(),
        name => name.into(),
    }
}

#[derive(Default)]
struct Health {
    progress: Arc<SchedulerProgress>,
    leads: AtomicBool,
    /// The configuration, as JSON.
    configz: String,
}

/// What metrics are written in.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

impl Health {
    fn answer(&self, path: &str) -> Told {
        match path {
            "/healthz" | "/livez" => (200, PLAIN, "ok".into()),
            "/configz" => (200, "application/json", self.configz.clone()),
            // Who stands by is ready to take over.
            "/readyz" if !self.leads.load(Relaxed) || self.progress.synced.load(Relaxed) => {
                (200, PLAIN, "ok".into())
            }
            "/readyz" => (
                500,
                PLAIN,
                "[-]sched-handler-sync failed: waiting for handlers to sync\n".into(),
            ),
            "/metrics" => {
                let mut text = String::with_capacity(8 << 10);
                self.progress.write_metrics(&mut text);
                let leads = u8::from(self.leads.load(Relaxed));
                text.push_str(&format!(
                    "# HELP leader_election_master_status Whether this process leads.\n\
                     # TYPE leader_election_master_status gauge\n\
                     leader_election_master_status{{name=\"kube-scheduler\"}} {leads}\n"
                ));
                (200, METRICS, text)
            }
            _ => (404, PLAIN, "404 page not found\n".into()),
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    health: Arc<Health>,
    mut stop: watch::Receiver<bool>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the health port cannot be served");
            return;
        }
    };
    let slots = Arc::new(Semaphore::new(HEALTH_CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the health port");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let health = health.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let service = service_fn(move |request: http::Request<Incoming>| {
                let (status, content_type, text) = health.answer(request.uri().path());
                async move {
                    http::Response::builder()
                        .status(status)
                        .header("content-type", content_type)
                        .body(Full::new(Bytes::from(text)))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the health port ended");
            }
        });
    }
}

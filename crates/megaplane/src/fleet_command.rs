//! `megaplane fleet`: simulated nodes alone, over HTTP/2 and TLS against any Kubernetes API server.
//!
//! ```text
//!   main    signals, one line of figures
//!   fleet   the nodes, over a few connections; beside it the fault script's file is watched
//! ```
//!
//! Knows files, flags and the process; nodes are the fleet's business.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use client::https::HttpsTransport;
use client::pool::Pool;
use client::wire::WireTransport;
use client::{Client, Kubeconfig};
use fleet::FleetProgress;
use rest::http::{Body, Method, Request, Service};
use tokio::sync::watch;

use crate::fleet_files::FleetFiles;
use crate::screen::{Line, say, start_logging};
use crate::threads;

/// Connections at most: more than an API server of its own wants to hold for one client.
const CONNECTIONS_MAX: i64 = 10_000;
/// Descriptors that are kept for files, and for what the runtime opens.
const FILES_KEPT: u64 = 64;
/// How often the figures are read.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Longest answer to the question whether a server is there, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Flags of `megaplane fleet`.
#[derive(Debug, Args)]
pub struct FleetOptions {
    /// The API server, and who we are there: client certificate or token
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Simulated nodes to register and keep alive
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=crate::cli::NODES_MAX))]
    pub nodes: u32,
    #[command(flatten)]
    pub files: FleetFiles,
    /// Connections to the API server, which all nodes share
    #[arg(long, value_name = "C", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub connections: u32,
    /// Log filter: error, warn, info, debug, or per module (for example `warn,fleet=debug`)
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "MEGAPLANE_LOG"
    )]
    pub log: String,
}

/// Runs until a signal comes.
pub fn run(options: &FleetOptions) -> Result<(), Box<dyn std::error::Error>> {
    start_logging(&options.log, false)?;
    let files = threads::raise_file_limit();
    let connections = options.connections as usize;
    if u64::from(options.connections) + FILES_KEPT > files {
        return Err(format!(
            "--connections {connections}: this process may open {files} files, and {FILES_KEPT} are kept for others"
        )
        .into());
    }
    let nodes = options.nodes as usize;
    if options.files.kubelet_like {
        fleet::check_watches(nodes, Some(connections))?;
    }
    let (config, fault_file) = options.files.read(nodes)?;
    let kubeconfig = Kubeconfig::read(&options.kubeconfig)?;
    let mut services: Vec<Arc<dyn Service>> = Vec::with_capacity(connections);
    for _ in 0..connections {
        services.push(Arc::new(WireTransport::new(&kubeconfig)?));
    }
    let pool = Arc::new(Pool::new(services).ok_or("no connections")?);
    let version = served_version(&kubeconfig)?;
    say(&format!(
        "Megaplane {} brings {nodes} nodes to {} (Kubernetes {version}) over {connections} connections",
        env!("CARGO_PKG_VERSION"),
        kubeconfig.server
    ));
    let (stopping, stop) = watch::channel(false);
    let progress = Arc::new(FleetProgress::default());
    let client = Client::new(pool, None, "megaplane-fleet");
    let thread = {
        let progress = progress.clone();
        threads::spawn("fleet", move || async move {
            let fleet = fleet::run(client, config, progress, stop);
            match fault_file {
                Some(file) => tokio::select! {
                    () = fleet => {}
                    () = file.follow() => {}
                },
                None => fleet.await,
            }
        })?
    };
    threads::block_on(show(&progress, nodes))?;
    let _ = stopping.send(true);
    if thread.join().is_err() {
        return Err("the fleet's thread panicked".into());
    }
    say("stopped; the nodes stay registered and turn NotReady");
    Ok(())
}

/// Asks the server which release it is, so that a wrong address is told at once.
fn served_version(kubeconfig: &Kubeconfig) -> Result<String, Box<dyn std::error::Error>> {
    // A connection belongs to the runtime it was opened on: this one is not the fleet's.
    let transport = HttpsTransport::new(kubeconfig)?;
    let (status, body) = threads::block_on(get(&transport, "/version"))?;
    let version: value::Value = serde_json::from_slice(&body).unwrap_or_default();
    match version["gitVersion"].as_str() {
        Some(version) if status == 200 => Ok(version.to_owned()),
        _ => Err(format!(
            "{}: no API server answers: {}",
            kubeconfig.server,
            String::from_utf8_lossy(&body)
        )
        .into()),
    }
}

/// Status and body of a GET; status 0 and the reason if no answer came.
pub async fn get(transport: &dyn Service, path: &str) -> (u16, Vec<u8>) {
    let reply = transport
        .call(Request {
            method: Method::Get,
            path: path.to_owned(),
            query: String::new(),
            accept: "application/json, text/plain".into(),
            content_type: "".into(),
            user_agent: concat!("megaplane/", env!("CARGO_PKG_VERSION")).into(),
            if_none_match: None,
            body: Bytes::new(),
            user: None,
        })
        .await;
    let body = match reply.body {
        Body::Full(bytes) => bytes.to_vec(),
        Body::Stream(mut source) => {
            let mut body = Vec::new();
            while let Some(piece) = std::future::poll_fn(|cx| source.poll_frame(cx)).await {
                body.extend_from_slice(&piece);
                if body.len() > ANSWER_BYTES_MAX {
                    return (0, b"the answer is too long".to_vec());
                }
            }
            body
        }
    };
    (reply.status, body)
}

/// Shows figures until a signal comes.
async fn show(progress: &FleetProgress, wanted: usize) {
    let mut line = Line::new();
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    let mut before: Option<(Instant, [u64; 3])> = None;
    let mut signal = std::pin::pin!(threads::signal());
    loop {
        tokio::select! {
            () = &mut signal => break,
            _ = ticks.tick() => {}
        }
        let counts = [
            &progress.renewals,
            &progress.pods_started,
            &progress.pods_stopped,
        ]
        .map(|counter| counter.load(Relaxed));
        let (then, old) = before
            .replace((Instant::now(), counts))
            .unwrap_or((Instant::now(), counts));
        let seconds = then.elapsed().as_secs_f64().max(1e-9);
        let mut rates = [0.0; 3];
        for (rate, (new, old)) in rates.iter_mut().zip(counts.iter().zip(old)) {
            *rate = new.saturating_sub(old) as f64 / seconds;
        }
        line.show(&figures(progress, wanted, rates));
    }
    line.close();
}

fn figures(
    progress: &FleetProgress,
    wanted: usize,
    [renewals, started, stopped]: [f64; 3],
) -> String {
    let failures = progress.renewal_failures.load(Relaxed)
        + progress.status_failures.load(Relaxed)
        + progress.step_failures.load(Relaxed);
    let mut text = format!(
        "nodes {} of {wanted} | {renewals:.0} renewals/s, at most {:.1} s late | pods {started:.0} started/s, \
         {stopped:.0} ended/s | {failures} failures",
        progress.registered.load(Relaxed),
        progress.renewal_late_max_millis.load(Relaxed) as f64 / 1e3,
    );
    let silent = progress.silent.load(Relaxed);
    if silent > 0 {
        text.push_str(&format!(" | {silent} silent"));
    }
    let watches = progress.watches_open.load(Relaxed);
    if watches > 0 {
        text.push_str(&format!(" | {watches} watches"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_nodes_rates_and_faults() {
        let progress = FleetProgress::default();
        progress.registered.store(9, Relaxed);
        progress.renewal_late_max_millis.store(1_500, Relaxed);
        assert_eq!(
            figures(&progress, 10, [1.2, 3.0, 0.0]),
            "nodes 9 of 10 | 1 renewals/s, at most 1.5 s late | pods 3 started/s, 0 ended/s | 0 failures"
        );
        progress.silent.store(4, Relaxed);
        progress.watches_open.store(18, Relaxed);
        assert!(
            figures(&progress, 10, [0.0; 3]).ends_with(" | 0 failures | 4 silent | 18 watches")
        );
    }
}

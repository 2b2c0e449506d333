//! The controllers: mirrors of the cluster in, plans of [`reconcile`] out, carried out by one executor.
//!
//! ```text
//!   feed ──► cluster ──► plane ──(keys)──► queue ──► reconcile::…::plan ──► execute ──► API server
//!   (one reflector       │  wakes                        ▲    expectations ◄──┘ report
//!    a resource)         └──► graph of owners, life cycle of nodes, taint eviction
//! ```
//!
//! One task owns all state; requests are made by small tasks which report back. Every resource is watched once, for
//! all controllers. Knows no rules of any kind: those are `reconcile`'s. Only one process may run it: there is no
//! leader election yet.

mod ahead;
mod clock;
mod cluster;
mod controller;
mod departed;
mod execute;
mod expectations;
mod feed;
mod plain;
mod plane;
mod pods;
mod queue;
mod storage;
mod storing;
mod tainting;
mod wake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use client::Client;
use tokio::sync::watch;

pub use reconcile::nodelifecycle::Config as NodeLifecycleConfig;
pub use reconcile::volume::SIMULATED_PROVISIONER;

/// How the controllers behave.
#[derive(Debug, Clone)]
pub struct ControllersConfig {
    /// The cluster's CA certificate, published in every namespace; none is published without it.
    pub ca_certificate_pem: Option<String>,
    /// When nodes are silent, and how fast they are emptied.
    pub node_lifecycle: NodeLifecycleConfig,
    /// Ended pods kept before the oldest are deleted (kube-controller-manager `terminated-pod-gc-threshold`).
    pub ended_pods_max: usize,
    /// Requests in flight. Each controller may use half of them.
    pub requests_in_flight_max: usize,
    /// Device taint rules are heeded (feature gate DRADeviceTaintRules).
    pub device_taint_rules: bool,
    /// Whether volumes of the provisioner [`SIMULATED_PROVISIONER`] are made: for nodes that are simulated, too.
    pub simulated_provisioner: bool,
}

impl Default for ControllersConfig {
    fn default() -> ControllersConfig {
        ControllersConfig {
            ca_certificate_pem: None,
            node_lifecycle: NodeLifecycleConfig::default(),
            ended_pods_max: reconcile::podgc::TERMINATED_PODS_MAX,
            requests_in_flight_max: 256,
            device_taint_rules: false,
            simulated_provisioner: false,
        }
    }
}

/// What the controllers have done so far; read by whoever shows progress.
#[derive(Debug, Default)]
pub struct ControllersProgress {
    /// The mirrors are complete and plans are made.
    pub started: AtomicBool,
    /// Objects in the mirrors.
    pub objects: AtomicUsize,
    /// Keys that wait to be planned.
    pub waiting: AtomicUsize,
    /// Plans made, empty ones included.
    pub plans: AtomicU64,
    /// Actions sent to the API server.
    pub requests: AtomicU64,
    /// Actions that lost to another writer and are planned anew.
    pub conflicts: AtomicU64,
    /// Actions that failed otherwise.
    pub failures: AtomicU64,
    /// What became of events.
    pub events: Arc<client::events::RecorderCounts>,
}

/// Runs the controllers until `stop` turns true. Needs a current-thread runtime of its own.
pub async fn run(
    client: Client,
    config: ControllersConfig,
    progress: Arc<ControllersProgress>,
    mut stop: watch::Receiver<bool>,
) {
    let client = client.with_user_agent("megaplane-controllers");
    tokio::select! {
        () = plane::run(client, config, progress) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

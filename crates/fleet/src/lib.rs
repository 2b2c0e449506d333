//! Simulated nodes: they register, renew their Leases, post their status, and run the pods that are bound to them.
//!
//! ```text
//!   register ─► heartbeat: Leases, statuses      life: pods by pod.rs, or by stages; nodes by stages
//!      ▲             ▲                              ▲          ▲
//!   adopt: those     └── columns: who is silent, slow, skewed ─┘     one watch for all, or kubelet.rs: each its own
//!   of an earlier run                 ▲
//!                       faulting: scripts of faults.rs
//! ```
//!
//! Speaks to the API as kubelets do and to nothing else, so that nobody in the cluster can tell the difference. Holds
//! columns of small numbers, not objects. Knows nothing of containers: a pod runs because time passes. Knows no files:
//! configuration, stages and scripts come as text.

mod adopt;
mod columns;
mod config;
mod faulting;
mod faults;
mod glance;
mod heartbeat;
mod kubelet;
pub mod layout;
mod lease;
mod life;
mod node;
mod pod;
mod pod_status;
mod progress;
mod punctual;
mod query;
mod queue;
mod register;
mod registration;
mod replies;
mod stages;
mod template;

mod wheel;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use client::Client;
use tokio::sync::{mpsc, watch};

pub use config::FILE_BYTES_MAX;
pub use faults::{FaultScript, STEPS_MAX};
pub use kubelet::{WATCHES_A_CONNECTION_MAX, WATCHES_A_NODE, WATCHES_MAX, check_watches};
pub use layout::{Layout, NodeShape};
pub use node::{node_name, node_object};
pub use progress::FleetProgress;
pub use stages::{STAGES_MAX, Stages};

use crate::columns::Nodes;
use crate::life::Kind;

/// Requests of one kind (registrations, status updates, pod changes) that are under way at a time.
const REQUESTS_IN_FLIGHT_MAX: usize = 512;

/// How the fleet behaves.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// How many nodes.
    pub nodes: usize,
    /// Time between two renewals of a node's Lease (kubelet: 10 s).
    pub lease_interval: Duration,
    /// `leaseDurationSeconds` (kubelet: 40 s).
    pub lease_duration_seconds: i64,
    /// Time between two status updates of a node (kubelet: 5 min).
    pub status_interval: Duration,
    /// Time from binding to a running pod, without the pod's own delays.
    pub pod_start_delay: Duration,
    /// Time from a pod's deletion to its end, the pod's grace period being longer.
    pub pod_stop_delay: Duration,
    /// How long a Job's pod runs unless its command says `sleep N`.
    pub job_run_time: Duration,
    /// What the nodes look like, and where they are.
    pub layout: Layout,
    /// What becomes of pods and nodes, instead of the built-in life.
    pub stages: Stages,
    /// Scripts of faults, one after the other as they are sent. The first begins with the fleet.
    pub faults: Option<watch::Receiver<Arc<FaultScript>>>,
    /// Whether each node holds [`WATCHES_A_NODE`] watches of its own.
    pub kubelet_like: bool,
}

impl FleetConfig {
    /// A fleet of `nodes` with a kubelet's intervals.
    #[must_use]
    pub fn new(nodes: usize) -> FleetConfig {
        FleetConfig {
            nodes,
            lease_interval: Duration::from_secs(10),
            lease_duration_seconds: 40,
            status_interval: Duration::from_secs(300),
            pod_start_delay: Duration::from_millis(500),
            pod_stop_delay: Duration::from_millis(200),
            job_run_time: Duration::from_secs(1),
            layout: Layout::default(),
            stages: Stages::default(),
            faults: None,
            kubelet_like: false,
        }
    }
}

/// What the parts of a running fleet share.
struct Fleet {
    client: Client,
    config: FleetConfig,
    nodes: Nodes,
    progress: Arc<FleetProgress>,
    /// Whether renewals are in time; others give way when they are not.
    punctual: punctual::Punctual,
    registrations: registration::Registrations,
    replies: replies::Replies,
    /// Counts storms: whoever holds a watch for all nodes opens it anew.
    storms: watch::Sender<u64>,
    /// Counts faults: kubelets look at themselves.
    struck: watch::Sender<u64>,
}

impl Fleet {
    fn new(client: Client, config: FleetConfig, progress: Arc<FleetProgress>) -> Fleet {
        Fleet {
            client,
            nodes: Nodes::new(config.nodes),
            registrations: registration::Registrations::new(&config.layout),
            config,
            progress,
            punctual: punctual::Punctual::default(),
            replies: replies::Replies::default(),
            storms: watch::Sender::new(0),
            struck: watch::Sender::new(0),
        }
    }

    /// A delay as it is on a node: longer on a slow one.
    fn slowed(&self, index: usize, delay: Duration) -> Duration {
        let shape = u32::from(self.config.layout.place(index).shape.slowness_tenths);
        let fault = u32::from(self.nodes.slowness_tenths(index));
        if shape == 10 && fault == 10 {
            return delay;
        }
        (delay.saturating_mul(shape).saturating_mul(fault) / 100).min(stages::DELAY_MAX)
    }

    /// Makes a node silent or not; whether that changed anything.
    fn set_silent(&self, index: usize, is_silent: bool) -> bool {
        let has_changed = self.nodes.set_silent(index, is_silent);
        if has_changed && is_silent {
            self.progress.silent.fetch_add(1, Relaxed);
        } else if has_changed {
            self.progress.silent.fetch_sub(1, Relaxed);
        }
        has_changed
    }

    /// Somebody has deleted the Node object.
    fn node_is_gone(&self, index: usize) {
        if self.nodes.set_gone(index, true) {
            self.progress.gone.fetch_add(1, Relaxed);
            tracing::info!(
                node = node_name(index),
                "the Node was deleted: it stays away until a restart"
            );
        }
    }
}

/// Runs the fleet until `stop` turns true. Needs a current-thread runtime of its own.
pub async fn run(
    client: Client,
    config: FleetConfig,
    progress: Arc<FleetProgress>,
    mut stop: watch::Receiver<bool>,
) {
    let client = client.with_user_agent("kubelet/v1.36.0 megaplane-fleet");
    let fleet = Arc::new(Fleet::new(client, config, progress));
    let pods = async {
        if !fleet.config.kubelet_like {
            return life::follow(&fleet, Kind::Pod).await;
        }
        let (sender, told) = mpsc::channel(REQUESTS_IN_FLIGHT_MAX);
        tokio::join!(
            kubelet::run(&fleet, sender),
            life::run(&fleet, Kind::Pod, told)
        );
    };
    let work = async {
        // Faults first: who is silent from the beginning does not register. Then heartbeats: whoever is up renews, whatever
        // else is to be done.
        tokio::join!(
            biased;
            faulting::run(&fleet),
            heartbeat::run(&fleet),
            register::run(&fleet),
            heartbeat::post_statuses(&fleet),
            pods,
            life::follow(&fleet, Kind::Node),
        );
    };
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// A built-in resource that the fleet needs. The table always has it.
fn resource(group: &str, name: &str) -> &'static schema::Resource {
    schema::resource(group, "v1", name).expect("the schema table holds what kubelets ask for")
}

//! Simulated nodes: they register, renew their Leases, post their status, and run the pods that are bound to them.
//!
//! Speaks to the API as kubelets do and to nothing else, so that nobody in the cluster can tell the difference. Holds
//! columns of small numbers, not objects. Knows nothing of containers: a pod runs because time passes.

mod heartbeat;
mod node;
mod pods;
mod register;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use client::Client;
use tokio::sync::watch;

pub use node::{NodeShape, node_name, node_object};

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
    /// What the nodes look like.
    pub shape: NodeShape,
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
            shape: NodeShape::default(),
        }
    }
}

/// What the fleet has done so far; read by whoever shows progress.
#[derive(Debug, Default)]
pub struct FleetProgress {
    /// Nodes that are registered.
    pub registered: AtomicUsize,
    /// Lease renewals that succeeded.
    pub renewals: AtomicU64,
    /// Lease renewals that failed and were tried again.
    pub renewal_failures: AtomicU64,
    /// The latest that a renewal ever was behind its time, in milliseconds.
    pub renewal_late_max_millis: AtomicU64,
    /// Pods brought to Running.
    pub pods_started: AtomicU64,
    /// Pods ended after their deletion.
    pub pods_stopped: AtomicU64,
}

impl FleetProgress {
    fn late(&self, late: Duration) {
        let millis = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        self.renewal_late_max_millis
            .fetch_max(millis, Ordering::Relaxed);
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
    let nodes = Arc::new(register::Nodes::new(config.nodes));
    let work = async {
        let heartbeats = heartbeat::run(&client, &config, &nodes, &progress);
        let statuses = heartbeat::post_statuses(&client, &config, &nodes);
        let pods = pods::run(&client, &config, &progress);
        let registration = register::run(&client, &config, &nodes, &progress);
        // Nodes that are up renew while others still register.
        tokio::join!(registration, heartbeats, statuses, pods);
    };
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// A built-in resource that the fleet needs. The table always has it.
fn resource(group: &str, name: &str) -> &'static schema::Resource {
    schema::resource(group, "v1", name).expect("the schema table holds nodes, pods and leases")
}

//! Registration: every node creates its Node and its Lease, or finds those of an earlier run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use client::{ClientError, PatchType};
use meta::Value;
use value::json;

use crate::heartbeat::now_micros;
use crate::node::{lease_object, node_name, object_at, status_at};
use crate::{Fleet, resource};

/// Nodes that register at a time. Few beside the renewals under way: who is registered must not fall silent.
const REGISTRATIONS_MAX: usize = 128;
/// Pause after a failed registration.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Registers all nodes, many at a time; each is tried until it succeeds. Those that are silent are left to their return.
pub(crate) async fn run(fleet: &Arc<Fleet>) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..REGISTRATIONS_MAX.min(fleet.config.nodes) {
        let (fleet, next) = (fleet.clone(), next.clone());
        workers.spawn(async move {
            loop {
                let index = next.fetch_add(1, Relaxed);
                if index >= fleet.config.nodes {
                    return;
                }
                while fleet.nodes.talks(index)
                    && let Err(error) = register(&fleet, index).await
                {
                    tracing::debug!(node = node_name(index), %error, "registration failed, trying again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                // A server in this process answers at once: without this nobody else had a turn.
                tokio::task::yield_now().await;
            }
        });
    }
    while workers.join_next().await.is_some() {}
}

/// Registers a node, for the first time or again.
pub(crate) async fn register(fleet: &Fleet, index: usize) -> Result<(), ClientError> {
    let now = now_micros() + fleet.nodes.skew_micros(index);
    let node_resource = resource("", "nodes");
    let place = fleet.config.layout.place(index);
    let boots = fleet.nodes.boots(index);
    let object = object_at(index, &place, boots, now);
    let node = match fleet.client.create(node_resource, "", &object).await {
        Ok(node) => node,
        // A node of an earlier run: say that it is alive again, as a kubelet does.
        Err(error) if error.is_already_exists() => {
            let patch = json!({"status": status_at(index, &place, boots, now)});
            let name = node_name(index);
            let merge = PatchType::StrategicMerge;
            fleet
                .client
                .patch(node_resource, "", &name, "status", merge, &patch)
                .await?
        }
        Err(error) => return Err(error),
    };
    fleet.nodes.set_uid(index, meta::object::uid(&node));
    let lease = ensure_lease(fleet, index).await?;
    let is_first = fleet.nodes.lease_version(index).is_none();
    fleet
        .nodes
        .set_lease_version(index, meta::object::resource_version(&lease));
    if fleet.nodes.set_gone(index, false) {
        fleet.progress.gone.fetch_sub(1, Relaxed);
    }
    if is_first {
        fleet.progress.registered.fetch_add(1, Relaxed);
    }
    Ok(())
}

/// Creates the node's Lease, or reads the one that is there.
pub(crate) async fn ensure_lease(fleet: &Fleet, index: usize) -> Result<Value, ClientError> {
    let leases = resource("coordination.k8s.io", "leases");
    let now = now_micros() + fleet.nodes.skew_micros(index);
    let seconds = fleet.config.lease_duration_seconds;
    let lease = lease_object(index, &fleet.nodes.uid(index), seconds, now, "");
    match fleet.client.create(leases, "kube-node-lease", &lease).await {
        Err(error) if error.is_already_exists() => {
            let name = node_name(index);
            fleet.client.get(leases, "kube-node-lease", &name).await
        }
        result => result,
    }
}

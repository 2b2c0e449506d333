//! Registration: every node creates its Node and its Lease; one of an earlier run comes back by its Lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use client::{ClientError, PatchType};
use meta::Value;
use value::json;

use crate::adopt::{self, Found, adopt};
use crate::heartbeat::now_micros;
use crate::node::{node_name, status_at};
use crate::{Fleet, REQUESTS_IN_FLIGHT_MAX, lease, resource};

/// Pause after a failed registration.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Brings all nodes up, many at a time; each is tried until it succeeds. Those that are silent are left to their return.
pub(crate) async fn run(fleet: &Arc<Fleet>) {
    if fleet.config.nodes == 0 {
        return;
    }
    let found = Arc::new(adopt::find(fleet).await);
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS_IN_FLIGHT_MAX.min(fleet.config.nodes) {
        let (fleet, found, next) = (fleet.clone(), found.clone(), next.clone());
        workers.spawn(async move {
            loop {
                let index = next.fetch_add(1, Relaxed);
                if index >= fleet.config.nodes {
                    return;
                }
                bring_up(&fleet, &found, index).await;
                // A server in this process answers at once: without this nobody else had a turn.
                tokio::task::yield_now().await;
            }
        });
    }
    while workers.join_next().await.is_some() {}
    if found.any() {
        adopt::mend(fleet).await;
    }
}

async fn bring_up(fleet: &Fleet, found: &Found, index: usize) {
    let mut lease = found.lease(index);
    while fleet.nodes.talks(index) {
        // What cannot be adopted is registered.
        let result = match lease.take() {
            Some(lease) => adopt(fleet, index, lease).await,
            None => {
                fleet.punctual.give_way().await;
                register(fleet, index).await
            }
        };
        let Err(error) = result else { break };
        tracing::debug!(node = node_name(index), %error, "registration failed, trying again");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Registers a node, for the first time or again.
pub(crate) async fn register(fleet: &Fleet, index: usize) -> Result<(), ClientError> {
    let now = now_micros() + fleet.nodes.skew_micros(index);
    let nodes = resource("", "nodes");
    let layout = &fleet.config.layout;
    let boots = fleet.nodes.boots(index);
    let body = fleet.registrations.body(layout, index, boots, now);
    match fleet.client.create_encoded(nodes, "", body.into()).await {
        Ok(reply) => {
            let uid = fleet.replies.uid(nodes, &reply).unwrap_or_default();
            fleet.nodes.set_uid(index, &uid);
        }
        // A node of an earlier run: say that it is alive again, as a kubelet does.
        Err(error) if error.is_already_exists() => {
            let patch = json!({"status": status_at(index, &layout.place(index), boots, now)});
            let name = node_name(index);
            let merge = PatchType::StrategicMerge;
            let patched = fleet
                .client
                .patch_unread(nodes, "", &name, "status", merge, &patch)
                .await?;
            let uid = fleet.replies.uid(nodes, &patched).unwrap_or_default();
            fleet.nodes.set_uid(index, &uid);
        }
        Err(error) => return Err(error),
    }
    create_lease(fleet, index).await?;
    if fleet.nodes.set_gone(index, false) {
        fleet.progress.gone.fetch_sub(1, Relaxed);
    }
    Ok(())
}

/// Creates the node's Lease, or finds the one that is there: with it the node is up.
pub(crate) async fn create_lease(fleet: &Fleet, index: usize) -> Result<(), ClientError> {
    let version = ensure_lease(fleet, index).await?;
    is_up(fleet, index, version);
    Ok(())
}

/// The node has a Lease of this version.
pub(crate) fn is_up(fleet: &Fleet, index: usize, version: u64) {
    if fleet.nodes.set_lease_version(index, version) {
        fleet.progress.registered.fetch_add(1, Relaxed);
    }
}

/// Creates the node's Lease, or reads the one that is there. Gives its version.
pub(crate) async fn ensure_lease(fleet: &Fleet, index: usize) -> Result<u64, ClientError> {
    let leases = resource("coordination.k8s.io", "leases");
    let now = now_micros() + fleet.nodes.skew_micros(index);
    let seconds = fleet.config.lease_duration_seconds;
    let body = lease::body(index, &fleet.nodes.uid(index), seconds, now, 0);
    let created = fleet
        .client
        .create_encoded(leases, "kube-node-lease", body.into());
    let version = match created.await {
        Err(error) if error.is_already_exists() => {
            let name = node_name(index);
            let lease = fleet.client.get(leases, "kube-node-lease", &name).await?;
            version_of(&lease)
        }
        result => fleet.replies.version(leases, &result?),
    };
    Ok(version.unwrap_or(1))
}

/// The version of an object, if it is a number.
pub(crate) fn version_of(object: &Value) -> Option<u64> {
    meta::object::resource_version(object).parse().ok()
}

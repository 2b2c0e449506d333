//! Registration: every node creates its Node and its Lease, or finds those of an earlier run.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use client::{Client, ClientError, PatchType};
use meta::Value;
use serde_json::json;

use crate::node::{lease_object, node_name, node_object, node_status};
use crate::{FleetConfig, FleetProgress, REQUESTS_IN_FLIGHT_MAX, resource};

/// Pause after a failed registration.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The fleet's memory of its nodes, in columns.
pub(crate) struct Nodes {
    /// Version of each node's Lease, 0 while the node is not registered.
    lease_versions: Vec<AtomicU64>,
    /// Uid of each Node object.
    uids: Mutex<Vec<u128>>,
}

impl Nodes {
    pub(crate) fn new(count: usize) -> Nodes {
        Nodes {
            lease_versions: (0..count).map(|_| AtomicU64::new(0)).collect(),
            uids: Mutex::new(vec![0; count]),
        }
    }

    /// Version of the node's Lease; `None` before it is registered.
    pub(crate) fn lease_version(&self, index: usize) -> Option<u64> {
        let version = self.lease_versions.get(index)?.load(Ordering::Relaxed);
        (version != 0).then_some(version)
    }

    pub(crate) fn set_lease_version(&self, index: usize, version: &str) {
        self.lease_versions[index].store(version.parse().unwrap_or(1), Ordering::Relaxed);
    }

    pub(crate) fn uid(&self, index: usize) -> String {
        let uid = self.uids.lock().unwrap_or_else(PoisonError::into_inner)[index];
        let hex = format!("{uid:032x}");
        format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }

    fn set_uid(&self, index: usize, uid: &str) {
        let digits: String = uid.chars().filter(|c| *c != '-').collect();
        let uid = u128::from_str_radix(&digits, 16).unwrap_or(0);
        self.uids.lock().unwrap_or_else(PoisonError::into_inner)[index] = uid;
    }
}

/// Registers all nodes, many at a time; each is tried until it succeeds.
pub(crate) async fn run(
    client: &Client,
    config: &FleetConfig,
    nodes: &Arc<Nodes>,
    progress: &Arc<FleetProgress>,
) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS_IN_FLIGHT_MAX.min(config.nodes) {
        let (client, config, nodes, progress, next) = (
            client.clone(),
            config.clone(),
            nodes.clone(),
            progress.clone(),
            next.clone(),
        );
        workers.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= config.nodes {
                    return;
                }
                while let Err(error) = register(&client, &config, &nodes, index).await {
                    tracing::debug!(node = node_name(index), %error, "registration failed, trying again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                progress.registered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while workers.join_next().await.is_some() {}
}

async fn register(
    client: &Client,
    config: &FleetConfig,
    nodes: &Nodes,
    index: usize,
) -> Result<(), ClientError> {
    let now_micros = crate::heartbeat::now_micros();
    let node_resource = resource("", "nodes");
    let created = client
        .create(
            node_resource,
            "",
            &node_object(index, &config.shape, now_micros),
        )
        .await;
    let node = match created {
        Ok(node) => node,
        // A node of an earlier run: say that it is alive again, as a kubelet does.
        Err(error) if error.is_already_exists() => {
            let patch = json!({"status": node_status(index, &config.shape, now_micros)});
            let name = node_name(index);
            client
                .patch(
                    node_resource,
                    "",
                    &name,
                    "status",
                    PatchType::StrategicMerge,
                    &patch,
                )
                .await?
        }
        Err(error) => return Err(error),
    };
    nodes.set_uid(index, meta::object::uid(&node));
    let lease = ensure_lease(client, config, nodes, index).await?;
    nodes.set_lease_version(index, meta::object::resource_version(&lease));
    Ok(())
}

/// Creates the node's Lease, or reads the one that is there.
pub(crate) async fn ensure_lease(
    client: &Client,
    config: &FleetConfig,
    nodes: &Nodes,
    index: usize,
) -> Result<Value, ClientError> {
    let leases = resource("coordination.k8s.io", "leases");
    let now_micros = crate::heartbeat::now_micros();
    let lease = lease_object(
        index,
        &nodes.uid(index),
        config.lease_duration_seconds,
        now_micros,
        "",
    );
    match client.create(leases, "kube-node-lease", &lease).await {
        Err(error) if error.is_already_exists() => {
            client
                .get(leases, "kube-node-lease", &node_name(index))
                .await
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_come_back_as_they_went_in() {
        let nodes = Nodes::new(2);
        nodes.set_uid(1, "0a1b2c3d-0000-4abc-8def-001122334455");
        assert_eq!(nodes.uid(1), "0a1b2c3d-0000-4abc-8def-001122334455");
        assert_eq!(nodes.lease_version(1), None);
        nodes.set_lease_version(1, "77");
        assert_eq!(nodes.lease_version(1), Some(77));
        assert_eq!(nodes.lease_version(9), None);
    }
}

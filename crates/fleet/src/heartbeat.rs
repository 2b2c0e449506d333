//! Heartbeats: Lease renewals spread evenly over their interval, and node statuses over theirs.
//!
//! A wheel needs no queue here: node `i` of `n` is due at `i/n` of each interval, so one counter that follows the
//! clock names the nodes that are due.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use client::{Client, ClientError, PatchType};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::node::{conditions, lease_object, node_name};
use crate::register::{Nodes, ensure_lease};
use crate::{FleetConfig, FleetProgress, REQUESTS_IN_FLIGHT_MAX, resource};

/// How often the clock is looked at. Renewals of one tick are made in one go.
const TICK: Duration = Duration::from_millis(20);

pub(crate) fn now_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
}

/// Renews Leases for ever.
pub(crate) async fn run(
    client: &Client,
    config: &FleetConfig,
    nodes: &Arc<Nodes>,
    progress: &Arc<FleetProgress>,
) {
    let slots = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX));
    let start = Instant::now();
    each_due(config.nodes, config.lease_interval, async |index, due| {
        if nodes.lease_version(index).is_none() {
            return;
        }
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        progress.late(start.elapsed().saturating_sub(due));
        let (client, config, nodes, progress) = (
            client.clone(),
            config.clone(),
            nodes.clone(),
            progress.clone(),
        );
        tokio::spawn(async move {
            let _slot = slot;
            match renew(&client, &config, &nodes, index).await {
                Ok(()) => {
                    progress.renewals.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    progress.renewal_failures.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(node = node_name(index), %error, "lease renewal failed");
                }
            }
        });
    })
    .await;
}

/// Posts node statuses for ever: what a kubelet sends every 5 minutes even if nothing changed.
pub(crate) async fn post_statuses(client: &Client, config: &FleetConfig, nodes: &Arc<Nodes>) {
    let slots = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX));
    each_due(config.nodes, config.status_interval, async |index, _| {
        if nodes.lease_version(index).is_none() {
            return;
        }
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let client = client.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let patch = json!({"status": {"conditions": conditions_heartbeat()}});
            let name = node_name(index);
            let result = client
                .patch(
                    resource("", "nodes"),
                    "",
                    &name,
                    "status",
                    PatchType::StrategicMerge,
                    &patch,
                )
                .await;
            if let Err(error) = result {
                tracing::debug!(node = name, %error, "node status failed");
            }
        });
    })
    .await;
}

/// The conditions with new heartbeat times; transition times stay what they were, by the merge.
fn conditions_heartbeat() -> meta::Value {
    let mut conditions = conditions(now_micros());
    for condition in conditions.as_array_mut().into_iter().flatten() {
        if let Some(map) = condition.as_object_mut() {
            map.remove("lastTransitionTime");
        }
    }
    conditions
}

/// Calls `work` for every place when its time has come, interval after interval, with the time since the start at
/// which it was due.
async fn each_due(count: usize, interval: Duration, mut work: impl AsyncFnMut(usize, Duration)) {
    if count == 0 {
        return;
    }
    let start = Instant::now();
    let mut done: u128 = 0;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let due = start.elapsed().as_nanos() * count as u128 / interval.as_nanos().max(1);
        while done < due {
            let due_nanos = done * interval.as_nanos() / count as u128;
            let index = usize::try_from(done % count as u128).unwrap_or(0);
            work(
                index,
                Duration::from_nanos(u64::try_from(due_nanos).unwrap_or(u64::MAX)),
            )
            .await;
            done += 1;
        }
    }
}

async fn renew(
    client: &Client,
    config: &FleetConfig,
    nodes: &Nodes,
    index: usize,
) -> Result<(), ClientError> {
    let Some(version) = nodes.lease_version(index) else {
        return Ok(());
    };
    let lease = lease_object(
        index,
        &nodes.uid(index),
        config.lease_duration_seconds,
        now_micros(),
        &version.to_string(),
    );
    let leases = resource("coordination.k8s.io", "leases");
    let body = encode(leases, &lease)?;
    let name = node_name(index);
    match client
        .update_encoded(leases, "kube-node-lease", &name, "", body)
        .await
    {
        Ok(reply) => {
            if let Some(version) = version_of(leases, &reply) {
                nodes.set_lease_version(index, &version);
            }
            Ok(())
        }
        // Somebody wrote it, or it was lost in a crash: find out, and renew in the next round or by the creation.
        Err(error) if error.is_conflict() || error.is_not_found() => {
            let lease = match client.get(leases, "kube-node-lease", &name).await {
                Err(error) if error.is_not_found() => {
                    ensure_lease(client, config, nodes, index).await?
                }
                result => result?,
            };
            nodes.set_lease_version(index, meta::object::resource_version(&lease));
            Err(error)
        }
        Err(error) => Err(error),
    }
}

fn encode(leases: &schema::Resource, lease: &meta::Value) -> Result<Bytes, ClientError> {
    let mut message = Vec::with_capacity(384);
    schema::encode_protobuf(leases.type_id, lease, &mut message)
        .map_err(|error| ClientError::Transport(error.to_string()))?;
    let mut body = Vec::with_capacity(message.len() + 64);
    schema::envelope::wrap("coordination.k8s.io/v1", "Lease", &message, &mut body);
    Ok(body.into())
}

/// The version in a reply, read without decoding the rest.
fn version_of(leases: &schema::Resource, reply: &[u8]) -> Option<String> {
    static READER: std::sync::OnceLock<Option<schema::FieldReader>> = std::sync::OnceLock::new();
    let reader = READER
        .get_or_init(|| schema::FieldReader::compile(leases.type_id, "metadata.resourceVersion"));
    let unknown = schema::envelope::unwrap(reply).ok()?;
    reader
        .as_ref()?
        .read_str(unknown.raw)
        .map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_is_due_once_an_interval() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let mut seen = Vec::new();
        runtime.block_on(async {
            let rounds = each_due(5, Duration::from_millis(100), async |index, _| {
                seen.push(index)
            });
            let _ = tokio::time::timeout(Duration::from_millis(260), rounds).await;
        });
        assert!(seen.len() >= 5, "{seen:?}");
        assert!(
            seen.iter()
                .enumerate()
                .all(|(place, index)| *index == place % 5),
            "{seen:?}"
        );
    }
}

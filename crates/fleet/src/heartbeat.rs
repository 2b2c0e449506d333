//! Heartbeats: Lease renewals spread evenly over their interval, and node statuses over theirs.
//!
//! A wheel needs no queue here: each node has its place among `n`, and place `p` is due at `p/n` of each interval, so one
//! counter that follows the clock names the nodes that are due. Neighbours lie far apart (see [`Places`]), so that those
//! that are up are spread over the interval, however many they are. Nodes that are silent are passed over.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::{ClientError, PatchType};
use meta::Value;
use tokio::sync::Semaphore;
use value::json;

use crate::lease::body;
use crate::node::{conditions, node_name, status_at};
use crate::register::{ensure_lease, version_of};
use crate::{Fleet, REQUESTS_IN_FLIGHT_MAX, resource};

/// How often the clock is looked at. Renewals of one tick are made in one go.
const TICK: Duration = Duration::from_millis(20);
/// Places of one turn: renewals at 6 µs each take the thread for 3 ms, then what else there is to do has its turn.
const PLACES_A_TURN: usize = 512;

pub(crate) fn now_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
}

/// Renews Leases for ever.
pub(crate) async fn run(fleet: &Arc<Fleet>) {
    let slots = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX));
    let start = Instant::now();
    let (nodes, interval) = (fleet.config.nodes, fleet.config.lease_interval);
    let missed = |count| {
        fleet.progress.renewals_missed.fetch_add(count, Relaxed);
    };
    each_due(nodes, interval, missed, async |index, due| {
        if !fleet.nodes.is_up(index) {
            fleet.punctual.note(start.elapsed().saturating_sub(due));
            return;
        }
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let late = start.elapsed().saturating_sub(due);
        fleet.progress.late(late);
        fleet.punctual.note(late);
        let fleet = fleet.clone();
        go(async move {
            let _slot = slot;
            let silence = renew(&fleet, index).await;
            // It may have been taken for dead meanwhile. A kubelet sees that within ten seconds, and says otherwise.
            if i64::from(silence) > fleet.config.lease_duration_seconds {
                fleet.punctual.give_way().await;
                post_whole_status(&fleet, index).await;
            }
        })
        .await;
    })
    .await;
}

/// Goes as far as it can at once. A server in this process answers a renewal without a wait: then there is no task that
/// waits for its turn among those of pods.
async fn go(work: impl Future<Output = ()> + Send + 'static) {
    let mut work = Box::pin(work);
    let begun = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
    if begun.is_pending() {
        tokio::spawn(work);
    }
}

/// Posts node statuses for ever: what a kubelet sends every 5 minutes even if nothing changed.
pub(crate) async fn post_statuses(fleet: &Arc<Fleet>) {
    let slots = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX));
    let (nodes, interval) = (fleet.config.nodes, fleet.config.status_interval);
    each_due(
        nodes,
        interval,
        |_| {},
        async |index, _| {
            if !fleet.nodes.is_up(index) {
                return;
            }
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let fleet = fleet.clone();
            tokio::spawn(async move {
                let _slot = slot;
                fleet.punctual.give_way().await;
                let conditions =
                    conditions_heartbeat(now_micros() + fleet.nodes.skew_micros(index));
                post_status(&fleet, index, json!({"conditions": conditions})).await;
            });
        },
    )
    .await;
}

/// Posts all that a node has to say of itself, as after a silence.
pub(crate) async fn post_whole_status(fleet: &Fleet, index: usize) -> bool {
    let now = now_micros() + fleet.nodes.skew_micros(index);
    let boots = fleet.nodes.boots(index);
    let status = status_at(index, &fleet.config.layout.place(index), boots, now);
    post_status(fleet, index, status).await
}

/// Whether it was taken.
async fn post_status(fleet: &Fleet, index: usize, status: Value) -> bool {
    let patch = json!({"status": status});
    let name = node_name(index);
    let nodes = resource("", "nodes");
    let merge = PatchType::StrategicMerge;
    let posted = fleet
        .client
        .patch_unread(nodes, "", &name, "status", merge, &patch);
    match posted.await {
        Ok(_) => {
            fleet.progress.statuses.fetch_add(1, Relaxed);
            true
        }
        Err(error) => {
            fleet.progress.status_failures.fetch_add(1, Relaxed);
            if error.is_not_found() {
                fleet.node_is_gone(index);
            }
            tracing::debug!(node = name, %error, "node status failed");
            false
        }
    }
}

/// The conditions with new heartbeat times; transition times stay what they were, by the merge.
fn conditions_heartbeat(now_micros: i64) -> Value {
    let mut conditions = conditions(now_micros);
    for condition in conditions.as_array_mut().into_iter().flatten() {
        if let Some(map) = condition.as_object_mut() {
            map.remove("lastTransitionTime");
        }
    }
    conditions
}

/// Which node has which place. Neighbours are apart by a golden part of the circle, so that any first few are spread
/// over it about evenly.
struct Places {
    count: u64,
    /// From one place to the next.
    step: u64,
}

impl Places {
    fn new(count: usize) -> Places {
        let count = count.max(1) as u64;
        // From one node to the next; without a divisor in common with the count, so that all places are taken.
        let golden = (count as f64 * 0.618_033_988_75) as u64;
        let apart = (golden.max(1)..=count).find(|apart| divisor(*apart, count) == 1);
        let step = (1..count).find(|step| (step * apart.unwrap_or(1)) % count == 1);
        Places {
            count,
            step: step.unwrap_or(1),
        }
    }

    fn node(&self, place: u64) -> usize {
        usize::try_from(place % self.count * self.step % self.count).unwrap_or(0)
    }
}

fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// Calls `work` for every node when its time has come, interval after interval, with the time since the start at
/// which it was due. Who is behind by more than an interval leaves out what it missed, as kubelets do, and is told how
/// much that was.
async fn each_due(
    count: usize,
    interval: Duration,
    missed: impl Fn(u64),
    work: impl AsyncFnMut(usize, Duration),
) {
    if count > 0 {
        // Its own bounds are the requests under way and the places of a turn. Among many busy tasks, the runtime's share
        // would be too small.
        tokio::task::unconstrained(follow_clock(count, interval, missed, work)).await;
    }
}

async fn follow_clock(
    count: usize,
    interval: Duration,
    missed: impl Fn(u64),
    mut work: impl AsyncFnMut(usize, Duration),
) {
    let places = Places::new(count);
    let start = Instant::now();
    let mut done: u128 = 0;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let due = start.elapsed().as_nanos() * count as u128 / interval.as_nanos().max(1);
        let oldest = due.saturating_sub(count as u128);
        if done < oldest {
            missed(u64::try_from(oldest - done).unwrap_or(u64::MAX));
            done = oldest;
        }
        let mut taken = 0;
        while done < due {
            taken += 1;
            if taken % PLACES_A_TURN == 0 {
                tokio::task::yield_now().await;
            }
            let due_nanos = done * interval.as_nanos() / count as u128;
            work(
                places.node(u64::try_from(done % count as u128).unwrap_or(0)),
                Duration::from_nanos(u64::try_from(due_nanos).unwrap_or(u64::MAX)),
            )
            .await;
            done += 1;
        }
    }
}

/// Renews a node's Lease once, and counts it. For how many seconds it had not been renewed, if it is now.
pub(crate) async fn renew(fleet: &Fleet, index: usize) -> u32 {
    match try_renew(fleet, index).await {
        Ok(()) => {
            fleet.progress.renewals.fetch_add(1, Relaxed);
            let now_seconds = u32::try_from(now_micros() / 1_000_000).unwrap_or(u32::MAX);
            fleet.nodes.set_renewed(index, now_seconds)
        }
        Err(error) => {
            fleet.progress.renewal_failures.fetch_add(1, Relaxed);
            tracing::debug!(node = node_name(index), %error, "lease renewal failed");
            0
        }
    }
}

async fn try_renew(fleet: &Fleet, index: usize) -> Result<(), ClientError> {
    let nodes = &fleet.nodes;
    let Some(version) = nodes.lease_version(index) else {
        return Ok(());
    };
    let leases = resource("coordination.k8s.io", "leases");
    let now = now_micros() + nodes.skew_micros(index);
    let seconds = fleet.config.lease_duration_seconds;
    let body = body(index, &nodes.uid(index), seconds, now, version);
    let name = node_name(index);
    let client = &fleet.client;
    let renewed = client.update_encoded(leases, "kube-node-lease", &name, "", body.into());
    match renewed.await {
        Ok(reply) => {
            if let Some(version) = fleet.replies.version(leases, &reply) {
                nodes.set_lease_version(index, version);
            }
            Ok(())
        }
        // Somebody wrote it, or it was lost in a crash: find out, and renew in the next round or by the creation.
        Err(error) if error.is_conflict() || error.is_not_found() => {
            let version = match client.get(leases, "kube-node-lease", &name).await {
                Err(lost) if lost.is_not_found() => {
                    let node = client.get(resource("", "nodes"), "", &name).await;
                    if node.is_err_and(|error| error.is_not_found()) {
                        fleet.node_is_gone(index);
                        return Err(error);
                    }
                    ensure_lease(fleet, index).await?
                }
                result => version_of(&result?).unwrap_or(1),
            };
            nodes.set_lease_version(index, version);
            Err(error)
        }
        Err(error) => Err(error),
    }
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
            let interval = Duration::from_millis(100);
            let rounds = each_due(5, interval, |_| {}, async |index, _| seen.push(index));
            let _ = tokio::time::timeout(Duration::from_millis(260), rounds).await;
        });
        assert!(seen.len() >= 10, "{seen:?}");
        let mut round = seen[..5].to_vec();
        assert_eq!(seen[5..10], round);
        round.sort_unstable();
        assert_eq!(round, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn every_node_has_a_place_and_the_first_few_are_spread() {
        for count in [1, 2, 3, 4, 10, 997, 1_000, 65_536, 100_000] {
            let places = Places::new(count);
            let mut nodes: Vec<usize> = (0..count as u64).map(|place| places.node(place)).collect();
            // Of a tenth that is up, each tenth of the interval has its share.
            let up = count / 10;
            for tenth in nodes.chunks(up.max(1)).take(if up >= 100 { 10 } else { 0 }) {
                let due = tenth.iter().filter(|node| **node < up).count();
                assert!((up / 20..up / 5).contains(&due), "{due} of {up} at once");
            }
            nodes.sort_unstable();
            assert!(nodes.into_iter().eq(0..count), "{count}");
        }
    }
}

//! Carries out fault scripts: waits for the time of each step, and does it to the nodes that it names.
//!
//! A script that replaces another begins at that moment; what earlier faults did stays until a step undoes it. Does not
//! know where scripts come from.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use client::{ListOptions, PatchType};
use tokio::sync::{Semaphore, watch};
use value::json;

use crate::faults::{Fault, FaultScript, FaultStep};
use crate::heartbeat::{now_micros, post_whole_status, renew};
use crate::node::node_name;
use crate::register::register;
use crate::wheel::{TICK, Wheel};
use crate::{Fleet, REQUESTS_IN_FLIGHT_MAX, pod, resource};

/// Pods of a restarted node that are told to have been restarted: a kubelet takes 110.
const PODS_RESTARTED_MAX: usize = 1_000;

/// A node that comes back.
struct Return {
    index: u32,
    /// It was started anew, not only silent.
    is_restart: bool,
}

/// Carries out scripts for ever.
pub(crate) async fn run(fleet: &Arc<Fleet>) {
    let Some(mut scripts) = fleet.config.faults.clone() else {
        return std::future::pending().await;
    };
    let mut script: Arc<FaultScript> = scripts.borrow_and_update().clone();
    let (mut begun, mut next) = (Instant::now(), 0);
    let mut returns = Wheel::new(begun);
    let mut coming = Vec::new();
    let slots = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX));
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if let Some(step) = script.steps.get(next)
            && step.at <= begun.elapsed()
        {
            strike(fleet, step, &mut returns, &mut coming);
            next += 1;
        } else {
            let due = script.steps.get(next).map_or(Duration::MAX, |step| step.at);
            tokio::select! {
                () = until(begun, due) => {}
                () = changed(&mut scripts) => {
                    script = scripts.borrow_and_update().clone();
                    (begun, next) = (Instant::now(), 0);
                    tracing::info!(steps = script.len(), "a new fault script begins");
                }
                _ = ticks.tick(), if !returns.is_empty() => {
                    returns.advance(Instant::now(), &mut coming);
                }
            }
        }
        for Return { index, is_restart } in coming.drain(..) {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let fleet = fleet.clone();
            tokio::spawn(async move {
                let _slot = slot;
                come_back(&fleet, index as usize, is_restart).await;
            });
        }
    }
}

async fn until(begun: Instant, due: Duration) {
    match begun.checked_add(due) {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Ready at the next script; never, when nobody can send one any more.
async fn changed(scripts: &mut watch::Receiver<Arc<FaultScript>>) {
    if scripts.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Does a step. Nodes that come back go to `returns` by their time, or to `coming` if that is now.
fn strike(fleet: &Fleet, step: &FaultStep, returns: &mut Wheel<Return>, coming: &mut Vec<Return>) {
    let now = Instant::now();
    let nodes = &fleet.nodes;
    let mut selected = step.nodes.of(&fleet.config.layout, fleet.config.nodes);
    match step.fault {
        Fault::Silence => {
            selected.retain(|index| fleet.set_silent(*index as usize, true));
        }
        Fault::Recover { within } => {
            selected.retain(|index| !nodes.talks(*index as usize));
            for (place, index) in selected.iter().enumerate() {
                let back = Return {
                    index: *index,
                    is_restart: false,
                };
                if within.is_zero() {
                    fleet.set_silent(*index as usize, false);
                    coming.push(back);
                } else {
                    let share = within.mul_f64(place as f64 / selected.len() as f64);
                    returns.insert(now + share, back);
                }
            }
        }
        Fault::Slow { tenths } => {
            for index in &selected {
                nodes.set_slowness_tenths(*index as usize, tenths);
            }
        }
        Fault::Skew { millis } => {
            for index in &selected {
                nodes.set_skew_millis(*index as usize, millis);
            }
        }
        Fault::Restart { down } => {
            for index in &selected {
                fleet.set_silent(*index as usize, true);
                nodes.boot(*index as usize);
                let back = Return {
                    index: *index,
                    is_restart: true,
                };
                returns.insert(now + down, back);
            }
        }
        Fault::Storm => {
            selected.retain(|index| nodes.talks(*index as usize));
            for index in &selected {
                nodes.storm(*index as usize);
                coming.push(Return {
                    index: *index,
                    is_restart: false,
                });
            }
            fleet
                .storms
                .send_modify(|storms| *storms = storms.wrapping_add(1));
        }
    }
    fleet.progress.faults.fetch_add(1, Relaxed);
    fleet
        .struck
        .send_modify(|count| *count = count.wrapping_add(1));
    tracing::info!(fault = step.fault.name(), nodes = selected.len(), "fault");
}

/// A node talks again: registers if it has to, renews its Lease and posts its status.
async fn come_back(fleet: &Fleet, index: usize, is_restart: bool) {
    if is_restart || !fleet.nodes.talks(index) {
        fleet.set_silent(index, false);
    }
    let must_register = fleet.nodes.lease_version(index).is_none() || is_restart;
    if must_register {
        if let Err(error) = register(fleet, index).await {
            // Its turn comes with the next heartbeat, or with the next restart.
            tracing::debug!(node = node_name(index), %error, "registration failed");
            return;
        }
        renew(fleet, index).await;
    } else if !fleet.nodes.is_gone(index) {
        renew(fleet, index).await;
        let _ = post_whole_status(fleet, index).await;
    }
    if is_restart {
        restart_pods(fleet, index).await;
    }
}

/// Says of every running pod of a node that its containers were started anew.
async fn restart_pods(fleet: &Fleet, index: usize) {
    let pods = resource("", "pods");
    let options = ListOptions {
        field_selector: format!("spec.nodeName={}", node_name(index)),
        limit: PODS_RESTARTED_MAX,
        ..ListOptions::default()
    };
    let listed = match fleet.client.list(pods, "", &options).await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::debug!(node = node_name(index), %error, "pods of a restarted node");
            return;
        }
    };
    let now = now_micros() + fleet.nodes.skew_micros(index);
    for object in listed.items {
        let Some(status) = pod::restarted(&object, now) else {
            continue;
        };
        let patch = json!({"metadata": {"uid": meta::object::uid(&object)}, "status": status});
        let (namespace, name) = (
            meta::object::namespace(&object),
            meta::object::name(&object),
        );
        let merge = PatchType::StrategicMerge;
        let patched = fleet
            .client
            .patch_unread(pods, namespace, name, "status", merge, &patch);
        if let Err(error) = patched.await {
            tracing::debug!(pod = name, %error, "restart of a pod");
        }
    }
}

//! The pods on simulated nodes: bound ones come to run, Jobs' pods end, deleted ones go.
//!
//! ```text
//!   bound ─(start delay)─► Running ─(readiness delay)─► Ready ─(Job: run time)─► Succeeded
//!     └──────────────┬────────┴────────────────┬──────────┘
//!                    └─(deletionTimestamp)─────┴─► deleted with grace 0
//! ```
//!
//! Only what is to be done next is kept, in a queue by time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use client::{Change, Client, ClientError, DeleteOptions, PatchType, Reflector};
use meta::Value;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::heartbeat::now_micros;
use crate::node::{node_address, node_index};
use crate::{FleetConfig, FleetProgress, REQUESTS_IN_FLIGHT_MAX, resource};

/// Longest delay that a pod's own wishes (probe delays, `sleep N`) may ask for.
const DELAY_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Pause before a failed step is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What is kept of a pod while a step waits.
#[derive(Debug, Clone)]
struct Pod {
    namespace: String,
    name: String,
    uid: String,
    node: usize,
    /// Containers with their images.
    containers: Vec<(String, String)>,
    init_containers: Vec<(String, String)>,
    host_network: bool,
    stage: Stage,
    ready_delay: Duration,
    run_time: Option<Duration>,
}

/// Where a pod stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Bound,
    Running,
    Ready,
    Finished,
    Deleted,
}

/// The next step of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Start,
    BecomeReady,
    Finish,
    Stop,
}

/// Runs the pods of all nodes for ever.
pub(crate) async fn run(client: &Client, config: &FleetConfig, progress: &Arc<FleetProgress>) {
    if config.nodes == 0 {
        return std::future::pending().await;
    }
    let (nodes, job_run_time) = (config.nodes, config.job_run_time);
    let mut changes = Reflector::new(client.clone(), resource("", "pods"))
        .with_field_selector("spec.nodeName!=")
        .spawn(move |object| read(&object, nodes, job_run_time));
    let slots = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX));
    let mut queue = Queue::default();
    let (retry_sender, mut retries) =
        tokio::sync::mpsc::channel::<(String, Step)>(REQUESTS_IN_FLIGHT_MAX);
    loop {
        let next = queue.next_due();
        tokio::select! {
            change = changes.recv() => match change {
                Some(Change::Apply(key, Some(pod))) => queue.observe(key, pod, config, Instant::now()),
                Some(Change::Apply(key, None) | Change::Delete(key)) => queue.forget(&key),
                Some(Change::Restart | Change::Synced | Change::Same(_)) => {}
                None => return,
            },
            Some((key, step)) = retries.recv() => queue.schedule(key, step, Instant::now() + RETRY_PAUSE),
            () = tokio::time::sleep_until(next.into()) => {
                while let Some((key, step, pod)) = queue.pop_due(Instant::now()) {
                    let Ok(slot) = slots.clone().acquire_owned().await else { return };
                    let (client, progress, retry) = (client.clone(), progress.clone(), retry_sender.clone());
                    tokio::spawn(async move {
                        let _slot = slot;
                        match act(&client, &progress, &pod, step).await {
                            Ok(()) => {}
                            Err(error) if error.is_not_found() || error.is_conflict() => {}
                            Err(error) => {
                                tracing::debug!(pod = key, %error, "pod step failed, trying again");
                                let _ = retry.send((key, step)).await;
                            }
                        }
                    });
                }
            }
        }
    }
}

/// Steps by time. A step that no longer fits the pod's stage is dropped when its time comes.
#[derive(Default)]
struct Queue {
    pods: HashMap<String, Pod>,
    due: BinaryHeap<Reverse<(Instant, String, Step)>>,
}

impl Queue {
    fn observe(&mut self, key: String, pod: Pod, config: &FleetConfig, now: Instant) {
        let before = self
            .pods
            .get(&key)
            .filter(|old| old.uid == pod.uid)
            .map(|old| old.stage);
        if before == Some(pod.stage) {
            return;
        }
        let step = match pod.stage {
            Stage::Bound => Some((Step::Start, config.pod_start_delay)),
            Stage::Running => Some((Step::BecomeReady, pod.ready_delay)),
            Stage::Ready => pod.run_time.map(|time| (Step::Finish, time)),
            Stage::Finished => None,
            Stage::Deleted => Some((Step::Stop, config.pod_stop_delay)),
        };
        if let Some((step, delay)) = step {
            self.due.push(Reverse((now + delay, key.clone(), step)));
            self.pods.insert(key, pod);
        } else {
            // Nothing more to do until it is deleted, and then it is seen again.
            self.pods.remove(&key);
        }
    }

    fn forget(&mut self, key: &str) {
        self.pods.remove(key);
    }

    fn schedule(&mut self, key: String, step: Step, at: Instant) {
        if self.pods.contains_key(&key) {
            self.due.push(Reverse((at, key, step)));
        }
    }

    fn next_due(&self) -> Instant {
        self.due.peek().map_or_else(
            || Instant::now() + Duration::from_secs(3600),
            |Reverse((at, ..))| *at,
        )
    }

    fn pop_due(&mut self, now: Instant) -> Option<(String, Step, Pod)> {
        loop {
            let Reverse((at, ..)) = self.due.peek()?;
            if *at > now {
                return None;
            }
            let Reverse((_, key, step)) = self.due.pop()?;
            let fits = |pod: &&Pod| match step {
                Step::Start => pod.stage == Stage::Bound,
                Step::BecomeReady => pod.stage == Stage::Running,
                Step::Finish => pod.stage == Stage::Ready,
                Step::Stop => pod.stage == Stage::Deleted,
            };
            if let Some(pod) = self.pods.get(&key).filter(fits) {
                return Some((key, step, pod.clone()));
            }
        }
    }
}

/// Reads what the fleet needs of a pod; `None` for a pod of somebody else's node.
fn read(object: &Value, nodes: usize, job_run_time: Duration) -> Option<Pod> {
    let spec = &object["spec"];
    let node = node_index(spec["nodeName"].as_str()?).filter(|index| *index < nodes)?;
    let status = &object["status"];
    let ready = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    let stage = match status["phase"].as_str() {
        _ if !object["metadata"]["deletionTimestamp"].is_null() => Stage::Deleted,
        Some("Succeeded" | "Failed") => Stage::Finished,
        Some("Running") if ready => Stage::Ready,
        Some("Running") => Stage::Running,
        _ => Stage::Bound,
    };
    let job = meta::object::owner_references(object)
        .iter()
        .any(|owner| owner["kind"] == "Job");
    let sleep = spec["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(sleep_time);
    Some(Pod {
        namespace: meta::object::namespace(object).to_owned(),
        name: meta::object::name(object).to_owned(),
        uid: meta::object::uid(object).to_owned(),
        node,
        containers: containers(&spec["containers"]),
        init_containers: containers(&spec["initContainers"]),
        host_network: spec["hostNetwork"] == true,
        stage,
        ready_delay: ready_delay(spec),
        run_time: job.then(|| sleep.unwrap_or(job_run_time)),
    })
}

fn containers(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list.as_array()
        .into_iter()
        .flatten()
        .map(|c| (text(&c["name"]), text(&c["image"])))
        .collect()
}

/// The longest initial delay of the readiness probes.
fn ready_delay(spec: &Value) -> Duration {
    let delays = spec["containers"].as_array().into_iter().flatten();
    let seconds = delays
        .filter_map(|c| c["readinessProbe"]["initialDelaySeconds"].as_u64())
        .max();
    Duration::from_secs(seconds.unwrap_or(0)).min(DELAY_MAX)
}

/// `sleep N` as a container's command, straight or in a shell's `-c`.
fn sleep_time(container: &Value) -> Option<Duration> {
    let words = ["command", "args"]
        .into_iter()
        .flat_map(|key| container[key].as_array().into_iter().flatten());
    let line: Vec<&str> = words.filter_map(Value::as_str).collect();
    let line = line.join(" ");
    let mut words = line.split_whitespace().skip_while(|word| *word != "sleep");
    words.next()?;
    let seconds: u64 = words
        .next()?
        .trim_end_matches([';', 's', '&'])
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(DELAY_MAX))
}

async fn act(
    client: &Client,
    progress: &FleetProgress,
    pod: &Pod,
    step: Step,
) -> Result<(), ClientError> {
    let pods = resource("", "pods");
    if step == Step::Stop {
        let options = DeleteOptions {
            uid: pod.uid.clone(),
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        client
            .delete(pods, &pod.namespace, &pod.name, &options)
            .await?;
        progress.pods_stopped.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    let status = status(pod, step);
    let patch = json!({"metadata": {"uid": pod.uid}, "status": status});
    client
        .patch(
            pods,
            &pod.namespace,
            &pod.name,
            "status",
            PatchType::StrategicMerge,
            &patch,
        )
        .await?;
    if step == Step::Start {
        progress.pods_started.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The status after a step, as a kubelet posts it.
fn status(pod: &Pod, step: Step) -> Value {
    let now = meta::time::format_seconds(now_micros());
    let finished = step == Step::Finish;
    let ready = step == Step::BecomeReady || step == Step::Start && pod.ready_delay.is_zero();
    let truth = |value: bool| if value { "True" } else { "False" };
    let condition = |kind: &str, value: bool, reason: &str| {
        let mut condition = json!({"type": kind, "status": truth(value), "lastProbeTime": null,
                                   "lastTransitionTime": now});
        if !reason.is_empty() {
            condition["reason"] = reason.into();
        }
        condition
    };
    let why = if finished {
        "PodCompleted"
    } else if ready {
        ""
    } else {
        "ContainersNotReady"
    };
    let mut conditions = vec![
        condition("Ready", ready, why),
        condition("ContainersReady", ready, why),
    ];
    let host_address = node_address(pod.node);
    let container = |(name, image): &(String, String), ended: bool| {
        let state = if ended {
            json!({"running": null, "terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": now,
                                                   "startedAt": now}})
        } else {
            json!({"running": {"startedAt": now}})
        };
        json!({"name": name, "image": image, "imageID": format!("simulated://{image}"),
               "containerID": format!("simulated://{}/{name}", pod.uid), "ready": ready && !ended,
               "started": !ended, "restartCount": 0, "state": state})
    };
    let statuses: Vec<Value> = pod
        .containers
        .iter()
        .map(|c| container(c, finished))
        .collect();
    let mut status = json!({"phase": if finished { "Succeeded" } else { "Running" },
                            "containerStatuses": statuses});
    if step == Step::Start {
        conditions.push(condition("Initialized", true, ""));
        conditions.push(condition("PodReadyToStartContainers", true, ""));
        let address = if pod.host_network {
            host_address.clone()
        } else {
            next_pod_address()
        };
        status["hostIP"] = host_address.as_str().into();
        status["hostIPs"] = json!([{"ip": host_address}]);
        status["podIP"] = address.as_str().into();
        status["podIPs"] = json!([{"ip": address}]);
        status["startTime"] = now.as_str().into();
        if !pod.init_containers.is_empty() {
            let statuses: Vec<Value> = pod
                .init_containers
                .iter()
                .map(|c| container(c, true))
                .collect();
            status["initContainerStatuses"] = statuses.into();
        }
    }
    status["conditions"] = conditions.into();
    status
}

/// Pod addresses out of 10.128.0.0/9, in turn: eight million before one comes again.
fn next_pod_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) & 0x007f_ffff;
    std::net::Ipv4Addr::from(0x0a80_0000 | number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(phase: &str) -> Value {
        json!({"metadata": {"namespace": "d", "name": "p", "uid": "u"},
               "spec": {"nodeName": "node-0000003", "containers": [{"name": "c", "image": "i"}]},
               "status": {"phase": phase}})
    }

    fn read_pod(object: &Value, nodes: usize) -> Option<Pod> {
        read(object, nodes, Duration::from_secs(1))
    }

    #[test]
    fn a_pod_goes_through_its_stages_and_stale_steps_are_dropped() {
        let config = FleetConfig::new(10);
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.observe(
            "d/p".into(),
            read_pod(&pod("Pending"), 10).unwrap(),
            &config,
            now,
        );
        // Seen twice in one stage: one step.
        queue.observe(
            "d/p".into(),
            read_pod(&pod("Pending"), 10).unwrap(),
            &config,
            now,
        );
        assert!(queue.pop_due(now).is_none());
        let later = now + config.pod_start_delay;
        let (_, step, _) = queue.pop_due(later).unwrap();
        assert_eq!(step, Step::Start);
        assert!(queue.pop_due(later).is_none());
        // Deleted before it became ready: only the stop is left.
        queue.observe(
            "d/p".into(),
            read_pod(&pod("Running"), 10).unwrap(),
            &config,
            later,
        );
        let mut deleted = pod("Running");
        deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        queue.observe(
            "d/p".into(),
            read_pod(&deleted, 10).unwrap(),
            &config,
            later,
        );
        let end = later + config.pod_stop_delay;
        assert_eq!(queue.pop_due(end).unwrap().1, Step::Stop);
        assert!(queue.pop_due(end).is_none());
    }

    #[test]
    fn pods_of_other_nodes_are_none_of_ours() {
        assert!(read_pod(&pod("Pending"), 3).is_none());
        let mut unbound = pod("Pending");
        unbound["spec"]["nodeName"] = Value::Null;
        assert!(read_pod(&unbound, 10).is_none());
    }

    #[test]
    fn sleep_commands_say_how_long_a_job_runs() {
        let seconds = |container: Value| sleep_time(&container).map(|time| time.as_secs());
        assert_eq!(seconds(json!({"command": ["sleep", "5"]})), Some(5));
        assert_eq!(
            seconds(json!({"command": ["sh", "-c", "echo hi; sleep 12; true"]})),
            Some(12)
        );
        assert_eq!(seconds(json!({"command": ["true"]})), None);
        assert_eq!(seconds(json!({})), None);
    }
}

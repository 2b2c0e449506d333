//! The built-in life of a pod: what a kubelet without containers makes of it.
//!
//! ```text
//!   bound ─(start delay)─► Running ─(readiness delay)─► Ready ─(a Job's, or one that sleeps: run time)─► Succeeded
//!     └──────────────┬────────┴────────────────┬──────────┘
//!                    └─(deletionTimestamp)─────┴─► deleted with grace 0
//! ```
//!
//! Pure: time is passed in. Does not know who makes the requests.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meta::Value;
use value::json;

use crate::FleetConfig;
#[cfg(test)]
use crate::node::node_address;
use crate::stages::DELAY_MAX;

/// Shapes of pods that are remembered, so that pods of one kind share theirs; beyond it the memory begins anew.
const SHAPES_MAX: usize = 4_096;

/// What the fleet needs to know of a pod, and what thousands of pods have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct PodShape {
    /// Containers with their images.
    pub(crate) containers: Vec<(String, String)>,
    pub(crate) init_containers: Vec<(String, String)>,
    pub(crate) host_network: bool,
    pub(crate) ready_delay: Duration,
    pub(crate) run_time: Option<Duration>,
}

/// Shapes of pods, each once.
#[derive(Default)]
pub(crate) struct PodShapes(Mutex<HashSet<Arc<PodShape>>>);

impl PodShapes {
    /// The shape of a pod.
    pub(crate) fn of(&self, object: &Value, job_run_time: Duration) -> Arc<PodShape> {
        let shape = read(object, job_run_time);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.get(&shape) {
            return same.clone();
        }
        if known.len() >= SHAPES_MAX {
            known.clear();
        }
        let shape = Arc::new(shape);
        known.insert(shape.clone());
        shape
    }
}

/// The next step of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Start,
    BecomeReady,
    Finish,
    Stop,
}

/// What the life cycle that is built in reads of a pod, beside what tells it apart.
pub(crate) const READ: [&str; 17] = [
    "metadata.deletionTimestamp",
    "metadata.ownerReferences",
    "spec.nodeName",
    "spec.hostNetwork",
    "spec.restartPolicy",
    "spec.containers.name",
    "spec.containers.image",
    "spec.containers.command",
    "spec.containers.args",
    "spec.containers.readinessProbe.initialDelaySeconds",
    "spec.initContainers.name",
    "spec.initContainers.image",
    "spec.initContainers.command",
    "spec.initContainers.args",
    "spec.initContainers.readinessProbe.initialDelaySeconds",
    "status.phase",
    "status.conditions",
];

/// What a pod does next, and after which time; none if it stays as it is.
pub(crate) fn next(
    object: &Value,
    pod: &PodShape,
    config: &FleetConfig,
) -> Option<(Step, Duration)> {
    let status = &object["status"];
    let is_ready = || {
        let conditions = status["conditions"].as_array();
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    match status["phase"].as_str() {
        _ if !object["metadata"]["deletionTimestamp"].is_null() => {
            Some((Step::Stop, config.pod_stop_delay))
        }
        Some("Succeeded" | "Failed") => None,
        Some("Running") if is_ready() => pod.run_time.map(|time| (Step::Finish, time)),
        Some("Running") => Some((Step::BecomeReady, pod.ready_delay)),
        _ => Some((Step::Start, config.pod_start_delay)),
    }
}

fn read(object: &Value, job_run_time: Duration) -> PodShape {
    let spec = &object["spec"];
    let is_job = meta::object::owner_references(object)
        .iter()
        .any(|owner| owner["kind"] == "Job");
    let sleep = spec["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(sleep_time);
    // Whoever is started anew when it ends never ends.
    let may_end = matches!(spec["restartPolicy"].as_str(), Some("Never" | "OnFailure"));
    let run_time = match sleep {
        Some(time) if is_job || may_end => Some(time),
        _ => is_job.then_some(job_run_time),
    };
    PodShape {
        containers: containers(&spec["containers"]),
        init_containers: containers(&spec["initContainers"]),
        host_network: spec["hostNetwork"] == true,
        ready_delay: ready_delay(spec),
        run_time,
    }
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

/// The status after a step as a tree: what the text of `pod_status.rs` is held against.
#[cfg(test)]
pub(crate) fn status(
    pod: &PodShape,
    step: Step,
    uid: &str,
    node: usize,
    address: &str,
    now_micros: i64,
) -> Value {
    let now = meta::time::format_seconds(now_micros);
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
    let host_address = node_address(node);
    let container = |(name, image): &(String, String), ended: bool| {
        let state = if ended {
            json!({"running": null, "terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": now,
                                                   "startedAt": now}})
        } else {
            json!({"running": {"startedAt": now}})
        };
        json!({"name": name, "image": image, "imageID": format!("simulated://{image}"),
               "containerID": format!("simulated://{}/{name}", uid), "ready": ready && !ended,
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
        status["hostIP"] = host_address.as_str().into();
        status["hostIPs"] = json!([{"ip": host_address}]);
        status["podIP"] = address.into();
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

/// The status of a pod's containers after their node was restarted: each runs anew.
pub(crate) fn restarted(object: &Value, now_micros: i64) -> Option<Value> {
    if object["status"]["phase"] != "Running" {
        return None;
    }
    let now = meta::time::format_seconds(now_micros);
    let mut statuses = object["status"]["containerStatuses"].clone();
    for container in statuses.as_array_mut()? {
        let count = container["restartCount"].as_i64().unwrap_or(0);
        container["restartCount"] = (count + 1).into();
        container["state"] = json!({"running": {"startedAt": now}});
        container["lastState"] = json!({"terminated": {"exitCode": 255, "reason": "Unknown", "finishedAt": now,
                                                       "startedAt": now}});
    }
    Some(json!({"containerStatuses": statuses}))
}

/// Pod addresses out of 10.128.0.0/9, in turn: eight million before one comes again.
pub(crate) fn next_pod_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) & 0x007f_ffff;
    std::net::Ipv4Addr::from(0x0a80_0000 | number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(phase: &str) -> Value {
        json!({"metadata": {"namespace": "d", "name": "p", "uid": "u"},
               "spec": {"nodeName": "node-0000003", "containers": [
                   {"name": "c", "image": "i", "readinessProbe": {"initialDelaySeconds": 4}}]},
               "status": {"phase": phase}})
    }

    fn next_of(object: &Value) -> Option<(Step, u128)> {
        let config = FleetConfig::new(10);
        let shape = PodShapes::default().of(object, config.job_run_time);
        next(object, &shape, &config).map(|(step, delay)| (step, delay.as_millis()))
    }

    #[test]
    fn nothing_is_read_but_what_is_decoded_for_it() {
        let container = json!({"name": "c", "image": "i", "command": ["sh", "-c"], "args": ["sleep 7"],
            "env": [{"name": "a", "value": "b"}], "readinessProbe": {"initialDelaySeconds": 3, "tcpSocket": {"port": 1}}});
        let pod = json!({"metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"},
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "o"}]},
            "spec": {"nodeName": "node-0000003", "hostNetwork": true, "restartPolicy": "Never", "containers": [container],
                "initContainers": [container], "schedulerName": "s"},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}});
        let pods = crate::resource("", "pods");
        let fields = client::Only::new(pods, &READ).expect("a field that pods do not have");
        let mut message = Vec::new();
        schema::encode_protobuf(pods.type_id, &pod, &mut message).unwrap();
        let whole = schema::decode_protobuf(pods.type_id, &message).unwrap();
        let part = fields.decode(&message).unwrap();
        assert_ne!(part, whole);
        let config = FleetConfig::new(10);
        let seen = |object: &Value| {
            let shape = read(object, config.job_run_time);
            let next = next(object, &shape, &config);
            format!("{shape:?} {next:?} {}", object["spec"]["nodeName"])
        };
        assert_eq!(seen(&part), seen(&whole));
    }

    #[test]
    fn a_pod_goes_through_its_steps() {
        assert_eq!(next_of(&pod("Pending")), Some((Step::Start, 500)));
        assert_eq!(next_of(&pod("Running")), Some((Step::BecomeReady, 4_000)));
        let mut ready = pod("Running");
        ready["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        assert_eq!(next_of(&ready), None);
        assert_eq!(next_of(&pod("Succeeded")), None);
        let mut deleted = ready.clone();
        deleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(next_of(&deleted), Some((Step::Stop, 200)));
        // A Job's pod ends; one that sleeps ends too, unless it would be started anew.
        let mut job = ready.clone();
        job["metadata"]["ownerReferences"] = json!([{"kind": "Job"}]);
        assert_eq!(next_of(&job), Some((Step::Finish, 1_000)));
        ready["spec"]["containers"][0]["command"] = json!(["sleep", "9"]);
        assert_eq!(next_of(&ready), None);
        ready["spec"]["restartPolicy"] = "Never".into();
        assert_eq!(next_of(&ready), Some((Step::Finish, 9_000)));
    }

    #[test]
    fn pods_of_one_kind_share_their_shape() {
        let shapes = PodShapes::default();
        let of = |object: &Value| shapes.of(object, Duration::ZERO);
        assert!(Arc::ptr_eq(&of(&pod("Pending")), &of(&pod("Running"))));
        let mut other = pod("Pending");
        other["spec"]["hostNetwork"] = true.into();
        assert!(!Arc::ptr_eq(&of(&pod("Pending")), &of(&other)));
    }

    #[test]
    fn a_restart_of_the_node_is_one_of_every_container() {
        let shape = PodShapes::default().of(&pod("Pending"), Duration::ZERO);
        let mut object = pod("Running");
        object["status"] = status(&shape, Step::Start, "u", 3, "10.128.0.1", 0);
        let after = restarted(&object, 60_000_000).unwrap();
        assert_eq!(after["containerStatuses"][0]["restartCount"], 1);
        assert_eq!(
            after["containerStatuses"][0]["state"],
            json!({"running": {"startedAt": "1970-01-01T00:01:00Z"}})
        );
        assert_eq!(restarted(&pod("Succeeded"), 0), None);
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

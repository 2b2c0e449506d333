//! The cells of a pod: its state in one word, what is ready, and how often containers restarted.
//! Knows no other kind.

use meta::Value;
use meta::object::{array_at, at, bool_at, i64_at, is_deleting, name, str_at};
use meta::time;
use value::json;

use super::cells::{age, condition_is_true, or_none};

/// The reason of pods whose node is unreachable.
const NODE_LOST: &str = "NodeLost";

/// One cell for each column.
pub(super) fn cells(pod: &Value, now_micros: i64) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart_micros {
        Some(last) if summary.restarts != 0 => {
            format!(
                "{} ({} ago)",
                summary.restarts,
                time::human_duration(now_micros.saturating_sub(last))
            )
        }
        _ => summary.restarts.to_string(),
    };
    let first_ip = array_at(pod, &["status", "podIPs"])
        .first()
        .and_then(|ip| str_at(ip, &["ip"]));
    vec![
        name(pod).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.word.into(),
        restarts.into(),
        age(pod, now_micros),
        or_none(first_ip.or_else(|| str_at(pod, &["status", "podIP"]))),
        or_none(str_at(pod, &["spec", "nodeName"])),
        or_none(str_at(pod, &["status", "nominatedNodeName"])),
        readiness_gates(pod),
    ]
}

/// The row's conditions: set when the pod is over.
pub(super) fn row_conditions(pod: &Value) -> Option<Value> {
    let phase = str_at(pod, &["status", "phase"])?;
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": phase, "message": message}]))
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = array_at(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".into();
    }
    let holds = |gate: &&Value| {
        condition_is_true(pod, str_at(gate, &["conditionType"]).unwrap_or_default())
    };
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len()).into()
}

/// What the containers' states add up to.
#[derive(Default)]
struct Summary {
    word: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart_micros: Option<i64>,
}

impl Summary {
    fn of(pod: &Value) -> Summary {
        let mut summary = Summary {
            word: pod_word(pod),
            ..Summary::default()
        };
        let init_containers = array_at(pod, &["spec", "initContainers"]);
        let sidecars = init_containers
            .iter()
            .filter(|container| is_sidecar(container))
            .count();
        summary.total = array_at(pod, &["spec", "containers"]).len() + sidecars;

        let sidecar_restarts = summary.add_init_containers(pod, init_containers);
        if let Some(restarts) = sidecar_restarts {
            // Initialised: from here on only restarts of what still runs count.
            (summary.restarts, summary.last_restart_micros) = restarts;
            summary.add_containers(pod);
        }
        let phase = str_at(pod, &["status", "phase"]).unwrap_or_default();
        if is_deleting(pod) {
            if str_at(pod, &["status", "reason"]) == Some(NODE_LOST) {
                summary.word = "Unknown".to_owned();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                summary.word = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Adds up init containers to the first that is not done. Returns the sidecars' restarts if initialisation is over.
    fn add_init_containers(
        &mut self,
        pod: &Value,
        containers: &[Value],
    ) -> Option<(i64, Option<i64>)> {
        let mut sidecars = (0, None);
        let mut initializing = false;
        for (index, status) in array_at(pod, &["status", "initContainerStatuses"])
            .iter()
            .enumerate()
        {
            let same_name = |c: &&Value| name_of(c) == name_of(status);
            let sidecar = containers.iter().find(same_name).is_some_and(is_sidecar);
            self.restarts = self.restarts.saturating_add(restart_count(status));
            self.last_restart_micros = self.last_restart_micros.max(last_finish_micros(status));
            if sidecar {
                sidecars = (
                    restart_count(status) + sidecars.0,
                    sidecars.1.max(last_finish_micros(status)),
                );
            }
            let terminated = at(status, &["state", "terminated"]);
            let waiting = str_at(status, &["state", "waiting", "reason"]).unwrap_or_default();
            if !terminated.is_null() && exit_code(terminated) == 0 {
                continue;
            }
            if sidecar && bool_at(status, &["started"]) == Some(true) {
                self.ready += usize::from(bool_at(status, &["ready"]) == Some(true));
                continue;
            }
            self.word = if !terminated.is_null() {
                format!("Init:{}", termination_word(terminated))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", containers.len())
            };
            initializing = true;
            break;
        }
        (!initializing || condition_is_true(pod, "Initialized")).then_some(sidecars)
    }

    /// Adds up the containers; the first one in trouble gives the word.
    fn add_containers(&mut self, pod: &Value) {
        let mut running = false;
        let mut failure = None;
        for status in array_at(pod, &["status", "containerStatuses"]).iter().rev() {
            self.restarts = self.restarts.saturating_add(restart_count(status));
            self.last_restart_micros = self.last_restart_micros.max(last_finish_micros(status));
            let waiting = str_at(status, &["state", "waiting", "reason"]).unwrap_or_default();
            let terminated = at(status, &["state", "terminated"]);
            let runs = !at(status, &["state", "running"]).is_null();
            if !waiting.is_empty() {
                self.word = waiting.to_owned();
            } else if !terminated.is_null() {
                self.word = termination_word(terminated);
                if exit_code(terminated) != 0 {
                    failure = Some(self.word.clone());
                }
            } else if runs && bool_at(status, &["ready"]) == Some(true) {
                running = true;
                self.ready += 1;
            }
        }
        // One finished container does not finish the pod.
        if self.word == "Completed" {
            if running && condition_is_true(pod, "Ready") {
                self.word = "Running".to_owned();
            } else if let Some(failure) = failure {
                self.word = failure;
            } else if running {
                self.word = "NotReady".to_owned();
            }
        }
    }
}

/// The word before containers are looked at.
fn pod_word(pod: &Value) -> String {
    const GATED: &str = "SchedulingGated";
    let conditions = array_at(pod, &["status", "conditions"]);
    let gated = conditions.iter().any(|condition| {
        str_at(condition, &["type"]) == Some("PodScheduled")
            && str_at(condition, &["reason"]) == Some(GATED)
    });
    if gated {
        return GATED.to_owned();
    }
    let reason = str_at(pod, &["status", "reason"]).filter(|reason| !reason.is_empty());
    reason
        .or_else(|| str_at(pod, &["status", "phase"]))
        .unwrap_or_default()
        .to_owned()
}

/// An init container that keeps running beside the others.
fn is_sidecar(container: &Value) -> bool {
    str_at(container, &["restartPolicy"]) == Some("Always")
}

fn name_of(container: &Value) -> Option<&str> {
    str_at(container, &["name"])
}

fn restart_count(status: &Value) -> i64 {
    // The field is 32 bits wide, so that sums stay far from overflow.
    i64_at(status, &["restartCount"])
        .unwrap_or(0)
        .clamp(0, i64::from(i32::MAX))
}

fn last_finish_micros(status: &Value) -> Option<i64> {
    time::parse(str_at(status, &["lastState", "terminated", "finishedAt"])?).ok()
}

fn exit_code(terminated: &Value) -> i64 {
    i64_at(terminated, &["exitCode"]).unwrap_or(0)
}

fn termination_word(terminated: &Value) -> String {
    if let Some(reason) = str_at(terminated, &["reason"]).filter(|reason| !reason.is_empty()) {
        return reason.to_owned();
    }
    match i64_at(terminated, &["signal"]) {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", exit_code(terminated)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-02T03:04:05Z
    const NOW: i64 = 1_767_323_045_000_000;

    /// Ready, status and restarts of a pod with two containers and one init container.
    fn shown(status: Value) -> [String; 3] {
        let pod = json!({"metadata": {"name": "p"}, "status": status,
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        show(&pod)
    }

    fn show(pod: &Value) -> [String; 3] {
        let cells = cells(pod, NOW);
        [1, 2, 3].map(|index: usize| cells[index].as_str().unwrap_or_default().to_owned())
    }

    fn running() -> Value {
        json!({"ready": true, "restartCount": 0, "state": {"running": {}}})
    }

    #[test]
    fn common_states() {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let completed = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        let failed = json!({"state": {"terminated": {"exitCode": 1, "reason": "Error"}}});
        let cases = [
            (json!({"phase": "Pending"}), ["0/2", "Pending", "0"]),
            (
                json!({"phase": "Running", "containerStatuses": [running(), running()]}),
                ["2/2", "Running", "0"],
            ),
            (
                json!({"phase": "Failed", "reason": "Evicted"}),
                ["0/2", "Evicted", "0"],
            ),
            (
                json!({"phase": "Succeeded", "containerStatuses": [completed, completed]}),
                ["0/2", "Completed", "0"],
            ),
            (
                json!({"phase": "Running", "conditions": ready, "containerStatuses": [completed, running()]}),
                ["1/2", "Running", "0"],
            ),
            (
                json!({"phase": "Running", "containerStatuses": [completed, running()]}),
                ["1/2", "NotReady", "0"],
            ),
            (
                json!({"phase": "Failed", "containerStatuses": [completed, failed]}),
                ["0/2", "Error", "0"],
            ),
            (
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                    "reason": "SchedulingGated"}]}),
                ["0/2", "SchedulingGated", "0"],
            ),
            (
                json!({"phase": "Running", "containerStatuses": [{"state": {"terminated": {"exitCode": 2}}}]}),
                ["0/2", "ExitCode:2", "0"],
            ),
            (
                json!({"phase": "Running", "containerStatuses": [{"state": {"terminated": {"signal": 9}}}]}),
                ["0/2", "Signal:9", "0"],
            ),
        ];
        for (status, want) in cases {
            assert_eq!(shown(status.clone()), want, "{status}");
        }
    }

    #[test]
    fn crash_loops_tell_the_last_restart() {
        let status = json!({"phase": "Running", "containerStatuses": [
            {"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
             "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-02T02:59:05Z"}}}, running()]});
        assert_eq!(shown(status), ["1/2", "CrashLoopBackOff", "4 (5m ago)"]);
    }

    #[test]
    fn initialisation_counts_and_fails() {
        let init = |state: Value| json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": state}]});
        assert_eq!(
            shown(init(json!({"running": {}}))),
            ["0/2", "Init:0/1", "0"]
        );
        assert_eq!(
            shown(init(json!({"waiting": {"reason": "PodInitializing"}}))),
            ["0/2", "Init:0/1", "0"]
        );
        assert_eq!(
            shown(init(json!({"waiting": {"reason": "ImagePullBackOff"}}))),
            ["0/2", "Init:ImagePullBackOff", "0"]
        );
        assert_eq!(
            shown(init(json!({"terminated": {"exitCode": 3}}))),
            ["0/2", "Init:ExitCode:3", "0"]
        );
        assert_eq!(
            shown(init(json!({"terminated": {"exitCode": 0}}))),
            ["0/2", "Pending", "0"]
        );
    }

    #[test]
    fn sidecars_count_as_containers() {
        let pod = json!({"spec": {"containers": [{"name": "a"}],
                "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "status": {"phase": "Running", "containerStatuses": [running()],
                "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 2,
                    "state": {"running": {}}}]}});
        assert_eq!(show(&pod), ["2/2", "Running", "2"]);
    }

    #[test]
    fn deletion_hides_the_state() {
        let pod = |phase: &str, reason: &str| {
            json!({"metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"},
                "status": {"phase": phase, "reason": reason}})
        };
        assert_eq!(show(&pod("Running", ""))[1], "Terminating");
        assert_eq!(show(&pod("Succeeded", ""))[1], "Succeeded");
        assert_eq!(show(&pod("Running", "NodeLost"))[1], "Unknown");
    }

    #[test]
    fn wide_cells() {
        let pod = json!({"spec": {"nodeName": "n1", "readinessGates": [{"conditionType": "x"}, {"conditionType": "y"}]},
            "status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "::1"}], "conditions": [{"type": "x", "status": "True"}]}});
        assert_eq!(cells(&pod, NOW)[5..], ["10.0.0.1", "n1", "<none>", "1/2"]);
        assert_eq!(
            cells(&json!({}), NOW)[4..],
            ["<unknown>", "<none>", "<none>", "<none>", "<none>"]
        );
    }
}

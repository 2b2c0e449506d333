//! Pod failure policies: what a failed pod means for its Job.
//!
//! Reads `spec.podFailurePolicy`; decides about one pod at a time.

use crate::pod::{Pod, items, text_of};
use meta::Value;

/// What a failed pod means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts towards the backoff limit.
    Count,
    /// It is replaced and not counted.
    Ignore,
    /// The Job fails at once, with this message.
    FailJob(String),
}

/// The first rule that matches decides; without one the pod counts.
pub(super) fn judge(job: &Value, pod: &Pod) -> Verdict {
    let rules = items(job, &["spec", "podFailurePolicy", "rules"]);
    for (index, rule) in rules.iter().enumerate() {
        let Some(what) = matching(rule, pod) else {
            continue;
        };
        let action = text_of(rule, "action");
        return match action {
            "FailJob" => {
                Verdict::FailJob(format!("{what} matching {action} rule at index {index}"))
            }
            "Ignore" => Verdict::Ignore,
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

/// Says in words what about the pod matches the rule.
fn matching(rule: &Value, pod: &Pod) -> Option<String> {
    let ending = pod.ending.as_ref()?;
    if let Some(exit_codes) = rule.get("onExitCodes").filter(|codes| codes.is_object()) {
        let container = text_of(exit_codes, "containerName");
        let values = items(exit_codes, &["values"]);
        let wants_in = text_of(exit_codes, "operator") != "NotIn";
        return ending
            .exits
            .iter()
            .filter(|(name, code)| *code != 0 && (container.is_empty() || container == &**name))
            .find(|(_, code)| {
                values
                    .iter()
                    .any(|value| value.as_i64() == Some(i64::from(*code)))
                    == wants_in
            })
            .map(|(name, code)| {
                format!(
                    "Container {name} for pod {}/{} failed with exit code {code}",
                    pod.namespace, pod.name
                )
            });
    }
    items(rule, &["onPodConditions"])
        .iter()
        .find_map(|pattern| {
            let wanted_status = match text_of(pattern, "status") {
                "" => "True",
                status => status,
            };
            let wanted = text_of(pattern, "type");
            let found = ending
                .conditions
                .iter()
                .any(|(kind, status)| &**kind == wanted && &**status == wanted_status);
            found.then(|| format!("Pod {}/{} has condition {wanted}", pod.namespace, pod.name))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn the_first_matching_rule_decides() {
        let job = json!({"spec": {"podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
        ]}}});
        let pod = |status: Value| {
            Pod::from_object(
                &json!({"metadata": {"namespace": "default", "name": "p"}, "status": status}),
            )
        };
        let exit = |code: i64| json!({"phase": "Failed", "containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": code}}}]});
        let message = "Container main for pod default/p failed with exit code 42 matching FailJob rule at index 1";
        assert_eq!(
            judge(&job, &pod(exit(42))),
            Verdict::FailJob(message.to_owned())
        );
        assert_eq!(judge(&job, &pod(exit(1))), Verdict::Count);
        let disrupted = json!({"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True"}]});
        assert_eq!(judge(&job, &pod(disrupted)), Verdict::Ignore);
    }
}

//! Eviction: a delete that asks the disruption budgets first.
//!
//! It does not delete: it says whether to, and what becomes of the budget.

use crate::context::Context;
use crate::tree;
use meta::{ApiError, Cause, Reason, Value};

/// Pods a budget may have on their way out at once.
const DISRUPTED_PODS_MAX: usize = 2_000;
/// How long a client should wait before it asks again, seconds.
const RETRY_SECONDS: u32 = 10;

/// What an eviction comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Eviction {
    /// Delete the pod; no budget is concerned.
    Delete,
    /// Store this budget (it has no `metadata.resourceVersion`), then delete the pod.
    Spend(Value),
}

/// Decides about evicting a pod, given the budgets of its namespace that select it.
pub fn prepare_eviction(
    pod: &Value,
    budgets: &[&Value],
    ctx: &Context,
) -> Result<Eviction, ApiError> {
    if can_ignore_budgets(pod) {
        return Ok(Eviction::Delete);
    }
    let budget = match budgets {
        [] => return Ok(Eviction::Delete),
        [budget] => *budget,
        _ => {
            return Err(ApiError::new(
                500,
                Reason::InternalError,
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    if !is_ready(pod) && tree::text(budget, "spec.unhealthyPodEvictionPolicy") == "AlwaysAllow" {
        return Ok(Eviction::Delete);
    }
    let healthy = tree::int(budget, "status.currentHealthy").unwrap_or(0);
    let desired = tree::int(budget, "status.desiredHealthy").unwrap_or(0);
    if !is_ready(pod) && healthy >= desired && desired > 0 {
        return Ok(Eviction::Delete);
    }
    let name = tree::text(budget, "metadata.name");
    let observed = tree::int(budget, "status.observedGeneration").unwrap_or(0);
    if observed < tree::int(budget, "metadata.generation").unwrap_or(0) {
        return Err(too_many(format!(
            "The disruption budget {name} is still being processed by the server."
        )));
    }
    let allowed = tree::int(budget, "status.disruptionsAllowed").unwrap_or(0);
    if allowed <= 0 {
        return Err(too_many(format!(
            "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
        )));
    }
    if tree::map(budget, "status.disruptedPods")
        .is_some_and(|pods| pods.len() >= DISRUPTED_PODS_MAX)
    {
        return Err(too_many(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
                .to_owned(),
        ));
    }
    let mut spent = budget.clone();
    tree::remove(&mut spent, "metadata.resourceVersion");
    tree::put(&mut spent, "status.disruptionsAllowed", allowed - 1);
    if let Some(pods) = tree::ensure(&mut spent, "status.disruptedPods") {
        pods.insert(
            tree::text(pod, "metadata.name").to_owned(),
            Value::String(ctx.now_seconds_text()),
        );
    }
    Ok(Eviction::Spend(spent))
}

/// Pods that serve nobody, or are going anyway, are not worth a budget.
fn can_ignore_budgets(pod: &Value) -> bool {
    matches!(
        tree::text(pod, "status.phase"),
        "Succeeded" | "Failed" | "Pending"
    ) || tree::get(pod, "metadata.deletionTimestamp").is_some()
}

fn is_ready(pod: &Value) -> bool {
    tree::items(pod, "status.conditions")
        .iter()
        .any(|condition| {
            tree::text(condition, "type") == "Ready" && tree::text(condition, "status") == "True"
        })
}

fn too_many(message: String) -> ApiError {
    ApiError::too_many_requests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        RETRY_SECONDS,
    )
    .with_cause(Cause {
        reason: "DisruptionBudget".to_owned(),
        message,
        field: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn evict(pod: &Value, budgets: &[&Value]) -> Result<Eviction, ApiError> {
        let mut random = || 0;
        prepare_eviction(
            pod,
            budgets,
            &Context {
                now_micros: 0,
                user: "",
                random: &mut random,
            },
        )
    }

    #[test]
    fn a_budget_is_spent_and_then_empty() {
        let pod = json!({"metadata": {"name": "web"}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        let budget = json!({"metadata": {"name": "pdb", "generation": 1}, "status": {
            "observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 3, "desiredHealthy": 2}});
        let Ok(Eviction::Spend(spent)) = evict(&pod, &[&budget]) else {
            panic!("allowed")
        };
        assert_eq!(spent["status"]["disruptionsAllowed"], json!(0));
        assert_eq!(
            spent["status"]["disruptedPods"],
            json!({"web": "1970-01-01T00:00:00Z"})
        );
        let refused = evict(&pod, &[&spent]).unwrap_err();
        assert_eq!(refused.code, 429);
        assert_eq!(
            refused.details.unwrap().causes[0].message,
            "The disruption budget pdb needs 2 healthy pods and has 3 currently"
        );
    }

    #[test]
    fn pods_that_are_done_need_no_budget() {
        let pod = json!({"metadata": {"name": "web"}, "status": {"phase": "Succeeded"}});
        let budget = json!({"metadata": {"name": "pdb"}, "status": {"disruptionsAllowed": 0}});
        assert_eq!(evict(&pod, &[&budget]), Ok(Eviction::Delete));
        assert_eq!(
            evict(&json!({"status": {"phase": "Running"}}), &[]),
            Ok(Eviction::Delete)
        );
    }
}

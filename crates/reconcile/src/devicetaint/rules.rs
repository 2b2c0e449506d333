//! Device taint rules (feature gate DRADeviceTaintRules): which devices each taints, and what its status says.
//!
//! ```text
//!   rule ─► devices by driver, pool, name ─► taints beside those of slices
//!     └───► how many pods still have to go ─► condition EvictionInProgress
//! ```
//!
//! Does not evict: that is the module above.

use std::collections::BTreeMap;

use meta::{Value, object, time};
use value::json;

use super::{DeviceTaint, NO_EXECUTE, Patience, Taints, name_hash, own, patience_seconds, results};
use crate::action::{Action, DEVICE_TAINT_RULES, PatchType};
use crate::pod::Pod;

/// The one condition.
const CONDITION: &str = "EvictionInProgress";
/// A condition stands at least so long before it changes (k8s: `ruleStatusPeriod`).
pub const STATUS_MICROS: i64 = 10_000_000;

/// What a status says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    status: Box<str>,
    reason: Box<str>,
    message: Box<str>,
    generation: i64,
}

/// What is kept of a DeviceTaintRule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaintRule {
    name: Box<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    generation: i64,
    /// Driver, pool and device; `None` means any. Nothing at all: it is for no device.
    selector: Option<[Option<Box<str>>; 3]>,
    effect: Box<str>,
    taint: DeviceTaint,
    /// With the time of its last change.
    condition: Option<(Condition, i64)>,
}

impl TaintRule {
    /// Reads a DeviceTaintRule. Absent and odd fields read as empty.
    pub fn from_object(rule: &Value) -> TaintRule {
        let text = |value: &Value| Box::<str>::from(value.as_str().unwrap_or_default());
        let micros = |value: &Value| value.as_str().and_then(|at| time::parse(at).ok());
        let (selector, taint) = (&rule["spec"]["deviceSelector"], &rule["spec"]["taint"]);
        let mut conditions = object::array_at(rule, &["status", "conditions"]).iter();
        let condition = conditions.find(|one| one["type"] == CONDITION);
        TaintRule {
            name: object::name(rule).into(),
            uid: object::uid(rule).into(),
            generation: rule["metadata"]["generation"].as_i64().unwrap_or(0),
            selector: selector.is_object().then(|| {
                ["driver", "pool", "device"].map(|field| selector[field].as_str().map(Into::into))
            }),
            effect: text(&taint["effect"]),
            taint: DeviceTaint {
                key: text(&taint["key"]),
                value: text(&taint["value"]),
                added_micros: micros(&taint["timeAdded"]).unwrap_or(0),
            },
            condition: condition.map(|one| {
                let condition = Condition {
                    status: text(&one["status"]),
                    reason: text(&one["reason"]),
                    message: text(&one["message"]),
                    generation: one["observedGeneration"].as_i64().unwrap_or(0),
                };
                (condition, micros(&one["lastTransitionTime"]).unwrap_or(0))
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Is what it says of devices the same?
    pub fn says_the_same(&self, other: &TaintRule) -> bool {
        let of = |rule: &TaintRule| {
            (
                rule.selector.clone(),
                rule.effect.clone(),
                rule.taint.clone(),
            )
        };
        self.uid == other.uid && of(self) == of(other)
    }

    /// Whether it is for a device.
    pub fn means(&self, driver: &str, pool: &str, device: &str) -> bool {
        let named = [driver, pool, device];
        self.selector.as_ref().is_some_and(|selector| {
            let mut all = selector.iter().zip(named);
            all.all(|(wanted, name)| wanted.as_ref().is_none_or(|wanted| **wanted == *name))
        })
    }

    /// Devices of a claim that it is for.
    pub fn devices_of(&self, claim: &Value) -> usize {
        self.results_of(claim).count()
    }

    fn results_of<'a>(&'a self, claim: &'a Value) -> impl Iterator<Item = &'a Value> {
        results(claim).iter().filter(|result| {
            let text = |field: &str| result[field].as_str().unwrap_or_default();
            self.means(text("driver"), text("pool"), text("device"))
        })
    }

    /// Does a pod have to go for its sake, now or later? For one without effect: would it?
    pub fn concerns<'a>(&self, pod: &Pod, claim: &dyn Fn(&str) -> Option<&'a Value>) -> bool {
        let evicts = matches!(&*self.effect, NO_EXECUTE | "None");
        let waits =
            |result: &Value| !matches!(patience_seconds(result, &self.taint), Patience::Forever);
        evicts
            && !pod.node_name.is_empty()
            && pod.deletion_micros.is_none()
            && own(pod, claim).any(|claim| self.results_of(claim).any(waits))
    }
}

/// All rules by name.
#[derive(Debug, Default)]
pub(super) struct Rules(BTreeMap<Box<str>, TaintRule>);

impl Rules {
    pub(super) fn evict(&self) -> bool {
        self.0.values().any(|rule| *rule.effect == *NO_EXECUTE)
    }

    pub(super) fn of(
        &self,
        driver: &str,
        pool: &str,
        device: &str,
    ) -> impl Iterator<Item = &DeviceTaint> {
        let evicting = self.0.values().filter(|rule| *rule.effect == *NO_EXECUTE);
        let meant = evicting.filter(move |rule| rule.means(driver, pool, device));
        meant.map(|rule| &rule.taint)
    }
}

impl Taints {
    /// A rule came or changed; gives what it was before.
    pub fn note_rule(&mut self, rule: TaintRule) -> Option<TaintRule> {
        self.rules.0.insert(rule.name.clone(), rule)
    }

    /// A rule is gone.
    pub fn forget_rule(&mut self, name: &str) -> Option<TaintRule> {
        self.rules.0.remove(name)
    }

    /// A rule by name.
    pub fn rule(&self, name: &str) -> Option<&TaintRule> {
        self.rules.0.get(name)
    }

    /// Rules that a pod has to go for.
    pub fn reasons<'a>(
        &self,
        pod: &Pod,
        claim: &dyn Fn(&str) -> Option<&'a Value>,
    ) -> Vec<&TaintRule> {
        let evicting = self
            .rules
            .0
            .values()
            .filter(|rule| *rule.effect == *NO_EXECUTE);
        evicting.filter(|rule| rule.concerns(pod, claim)).collect()
    }

    /// Devices in slices that a rule is for.
    pub fn published(&self, rule: &TaintRule) -> usize {
        let pools = self.pools.iter().map(|((driver, pool), slices)| {
            let newest = slices.values().map(|slice| slice.generation).max();
            let current = slices
                .values()
                .filter(|slice| Some(slice.generation) == newest);
            let names = current.flat_map(|slice| slice.names.iter());
            match &rule.selector {
                Some([_, _, Some(device)]) if rule.means(driver, pool, device) => {
                    let wanted = name_hash(device);
                    names.filter(|name| **name == wanted).count()
                }
                Some([_, _, None]) if rule.means(driver, pool, "") => names.count(),
                _ => 0,
            }
        });
        pools.sum()
    }
}

/// What the shell has counted for a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pods that it concerns, and the namespaces they are in.
    pub pods: usize,
    /// See `pods`.
    pub namespaces: usize,
    /// Devices in slices.
    pub published: usize,
    /// Devices of claims.
    pub allocated: usize,
    /// Pods that were evicted for its sake since the controllers started.
    pub evicted: u64,
}

/// What to do now for a rule. `count` is only asked when the status may change.
pub fn plan_rule(rule: &TaintRule, count: &dyn Fn() -> Counts, now_micros: i64) -> Vec<Action> {
    if let Some((known, since)) = &rule.condition {
        let stood = now_micros.saturating_sub(*since);
        if known.generation == rule.generation && (0..STATUS_MICROS).contains(&stood) {
            return vec![Action::RequeueAfter(STATUS_MICROS - stood)];
        }
    }
    let counts = count();
    let condition = condition(rule, &counts);
    let mut actions = Vec::new();
    if rule
        .condition
        .as_ref()
        .is_none_or(|(known, _)| *known != condition)
    {
        actions.push(Action::Patch {
            resource: DEVICE_TAINT_RULES,
            namespace: String::new(),
            name: rule.name.to_string(),
            patch_type: PatchType::Strategic,
            subresource: Some("status"),
            body: json!({
                "metadata": {"uid": &*rule.uid},
                "status": {"conditions": [{
                    "type": CONDITION,
                    "status": condition.status,
                    "reason": condition.reason,
                    "message": condition.message,
                    "observedGeneration": condition.generation,
                    "lastTransitionTime": time::format_seconds(now_micros),
                }]},
            }),
        });
    }
    if &*condition.status == "True" {
        actions.push(Action::RequeueAfter(STATUS_MICROS));
    }
    actions
}

fn condition(rule: &TaintRule, counts: &Counts) -> Condition {
    let some = |number: usize, one: &str, many: &str| match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    };
    let places = some(counts.namespaces, "namespace", "different namespaces");
    let (mut status, mut message) = ("False", String::new());
    let reason = match &*rule.effect {
        NO_EXECUTE if counts.pods > 0 => {
            status = "True";
            let pods = some(counts.pods, "pod needs", "pods need");
            message = format!("{pods} to be evicted in {places}.");
            "PodsPendingEviction"
        }
        NO_EXECUTE if counts.evicted > 0 => "Completed",
        NO_EXECUTE => "NotStarted",
        "None" => {
            let published = some(counts.published, "published device", "published devices");
            let allocated = some(counts.allocated, "allocated device", "allocated devices");
            let pods = some(counts.pods, "pod", "pods");
            message = format!(
                "{published} selected. {allocated} selected. {pods} would be evicted in {places} if the effect was \
                 NoExecute. This information will not be updated again. Recreate the DeviceTaintRule to trigger an update."
            );
            "NoEffect"
        }
        _ => {
            message = "Eviction only happens for the NoExecute effect.".to_owned();
            "OtherEffect"
        }
    };
    if counts.evicted > 0 {
        let pods = match counts.evicted {
            1 => "1 pod".to_owned(),
            number => format!("{number} pods"),
        };
        let before = if message.is_empty() { "" } else { " " };
        message.push_str(&format!(
            "{before}{pods} evicted since starting the controller."
        ));
    }
    Condition {
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        generation: rule.generation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::text;

    const SECOND: i64 = 1_000_000;

    fn rule(selector: Value, effect: &str, status: Value) -> TaintRule {
        TaintRule::from_object(
            &json!({"metadata": {"name": "r", "uid": "u-r", "generation": 2}, "spec": {
            "deviceSelector": selector, "taint": {"key": "hot", "value": "yes", "effect": effect,
                "timeAdded": "1970-01-01T00:00:10Z"}}, "status": status}),
        )
    }

    fn said(rule: &TaintRule, counts: Counts) -> String {
        let condition = condition(rule, &counts);
        format!(
            "{} {}: {}",
            condition.status, condition.reason, condition.message
        )
    }

    #[test]
    fn rules_mean_devices_by_driver_pool_and_name() {
        let means = |selector: Value| rule(selector, NO_EXECUTE, Value::Null).means("d", "p", "x");
        assert!(means(json!({})));
        assert!(!means(Value::Null));
        assert!(means(json!({"driver": "d", "pool": "p", "device": "x"})));
        assert!(!means(json!({"driver": "d", "pool": "q"})));
        assert!(!means(json!({"device": "y"})));
    }

    #[test]
    fn a_status_says_who_still_has_to_go() {
        let all = || json!({});
        let hard = rule(all(), NO_EXECUTE, Value::Null);
        let counts = |pods, namespaces, evicted| Counts {
            pods,
            namespaces,
            published: 3,
            allocated: 1,
            evicted,
        };
        for (rule, counts, expected) in [
            (&hard, counts(0, 0, 0), "False NotStarted: "),
            (
                &hard,
                counts(2, 2, 1),
                "True PodsPendingEviction: 2 pods need to be evicted in 2 different namespaces. 1 pod evicted since \
                 starting the controller.",
            ),
            (
                &hard,
                counts(1, 1, 0),
                "True PodsPendingEviction: 1 pod needs to be evicted in 1 namespace.",
            ),
            (
                &hard,
                counts(0, 0, 2),
                "False Completed: 2 pods evicted since starting the controller.",
            ),
            (
                &rule(all(), "None", Value::Null),
                counts(1, 1, 0),
                "False NoEffect: 3 published devices selected. 1 allocated device selected. 1 pod would be evicted in \
                 1 namespace if the effect was NoExecute. This information will not be updated again. Recreate the \
                 DeviceTaintRule to trigger an update.",
            ),
            (
                &rule(all(), "NoSchedule", Value::Null),
                counts(0, 0, 0),
                "False OtherEffect: Eviction only happens for the NoExecute effect.",
            ),
        ] {
            assert_eq!(said(rule, counts), expected);
        }
    }

    #[test]
    fn a_status_is_written_when_it_changes_and_stands_for_a_while() {
        let none = || Counts::default();
        let plan = |status: Value, now: i64| {
            let rule = rule(json!({}), NO_EXECUTE, status);
            text(&plan_rule(&rule, &none, now * SECOND))
        };
        let first = concat!(
            r#"patch devicetaintrules.resource.k8s.io/status r strategic {"metadata":{"uid":"u-r"},"status":{"conditions":[{"#,
            r#""lastTransitionTime":"1970-01-01T00:00:20Z","message":"","observedGeneration":2,"reason":"NotStarted","#,
            r#""status":"False","type":"EvictionInProgress"}]}}"#,
            "\n"
        );
        assert_eq!(plan(Value::Null, 20), first);
        let known = |generation: i64, status: &str| {
            json!({"conditions": [{"type": CONDITION, "status": status, "reason": "NotStarted", "message": "",
                "observedGeneration": generation, "lastTransitionTime": "1970-01-01T00:00:15Z"}]})
        };
        assert_eq!(plan(known(2, "False"), 20), "requeue after 5.000000s\n");
        assert_eq!(plan(known(2, "False"), 25), "");
        assert_eq!(plan(known(1, "False"), 20), first);
        assert!(plan(known(2, "True"), 25).starts_with("patch"));
    }
}

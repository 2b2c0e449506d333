//! What containers ask of extended resources, one by one: whoever knows device classes needs more than the sum.
//!
//! Does not know classes, or devices.

use crate::objects::{items, text};
use meta::{Quantity, Value};

/// Begins names that stand for a class of devices.
const CLASS_PREFIX: &str = "deviceclass.resource.kubernetes.io/";

/// What one container asks of one extended resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExtendedAsk {
    /// The container's place among init containers and containers, in this order.
    pub container: usize,
    /// Its name.
    pub name: Box<str>,
    /// An init container that ends before the next one begins.
    pub ends: bool,
    /// The resource's place among all that the container asks for, by name.
    pub place: usize,
    /// The resource.
    pub resource: Box<str>,
    /// How many, at least one.
    pub count: i64,
}

/// Those of a pod's spec.
pub(crate) fn asks(spec: &Value) -> Vec<ExtendedAsk> {
    let init = items(&spec["initContainers"]).map(|container| (container, true));
    let others = items(&spec["containers"]).map(|container| (container, false));
    let mut asks = Vec::new();
    for (at, (container, is_init)) in init.chain(others).enumerate() {
        let Some(requests) = container["resources"]["requests"].as_object() else {
            continue;
        };
        // A map of ours is sorted by name.
        for (place, (resource, amount)) in requests.iter().enumerate() {
            if !is_extended(resource) {
                continue;
            }
            let Some(count) = whole(amount).filter(|count| *count > 0) else {
                continue;
            };
            asks.push(ExtendedAsk {
                container: at,
                name: text(&container["name"]).into(),
                ends: is_init && text(&container["restartPolicy"]) != "Always",
                place,
                resource: resource.as_str().into(),
                count,
            });
        }
    }
    asks
}

/// A resource that devices may stand for (k8s: `IsDRAExtendedResourceName`).
fn is_extended(name: &str) -> bool {
    let is_vendors =
        name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.");
    is_vendors || name.starts_with(CLASS_PREFIX)
}

fn whole(amount: &Value) -> Option<i64> {
    let amount = match amount {
        Value::Number(number) => Quantity::parse(&number.to_string()),
        other => Quantity::parse(text(other)),
    };
    let amount = amount.ok()?;
    (i128::from(amount.milli_value()) % 1_000 == 0).then(|| amount.value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn asks_are_told_by_container_and_place() {
        let with = |requests: Value| json!({"name": "c", "resources": {"requests": requests}});
        let mut sidecar = with(json!({"example.com/gpu": "1"}));
        sidecar["restartPolicy"] = "Always".into();
        let spec = json!({
            "initContainers": [with(json!({"example.com/gpu": 2, "cpu": "1"})), sidecar],
            "containers": [with(json!({"memory": "1Gi"})), with(json!({
                "deviceclass.resource.kubernetes.io/nic": "3", "example.com/gpu": "0", "hugepages-2Mi": "4Mi",
                "other.kubernetes.io/thing": "1", "requests.example.com/gpu": "1"}))]});
        let told: Vec<(usize, bool, usize, String, i64)> = asks(&spec)
            .into_iter()
            .map(|ask| {
                (
                    ask.container,
                    ask.ends,
                    ask.place,
                    ask.resource.into(),
                    ask.count,
                )
            })
            .collect();
        let gpu = || "example.com/gpu".to_owned();
        assert_eq!(
            told,
            [
                (0, true, 1, gpu(), 2),
                (1, false, 0, gpu(), 1),
                (
                    3,
                    false,
                    0,
                    "deviceclass.resource.kubernetes.io/nic".to_owned(),
                    3
                )
            ]
        );
    }
}

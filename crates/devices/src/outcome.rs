//! Allocations: how they are written, which devices one takes, and whether its devices are ready.
//!
//! Does not know how they are found.

use meta::{Quantity, Value};

use crate::{items, quantities, text};

/// What one claim gets on a node.
#[derive(Debug, Clone)]
pub struct Allocation {
    /// `status.allocation`, without its time.
    pub value: Value,
    /// The devices that others cannot have, or not as much of.
    pub taken: Vec<Taken>,
    /// The better the alternatives that were chosen, the more (k8s: the score of prioritized lists).
    pub score: i64,
}

/// A device that a claim has.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Its driver.
    pub driver: Box<str>,
    /// Its pool.
    pub pool: Box<str>,
    /// Its name.
    pub device: Box<str>,
    /// How much of it, where others may have the rest; `None` when nobody else may have it.
    pub share: Option<Vec<(Box<str>, Quantity)>>,
}

/// Whether the devices of an allocation can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// They can, or nothing has to be waited for.
    Ready,
    /// Their driver has not said so yet.
    Waits,
    /// Their driver says that they cannot.
    Failed(String),
}

/// The devices that an allocation takes. Those it only looks after (admin access) others may have.
pub fn taken(allocation: &Value) -> Vec<Taken> {
    let results = items(&allocation["devices"]["results"]);
    let results = results.filter(|result| result["adminAccess"] != true);
    let one = |result: &Value| Taken {
        driver: text(&result["driver"]).into(),
        pool: text(&result["pool"]).into(),
        device: text(&result["device"]).into(),
        share: result["shareID"]
            .is_string()
            .then(|| quantities(&result["consumedCapacity"])),
    };
    results.map(one).collect()
}

/// Whether an allocated claim's devices can be used, from its status.
pub fn binding(status: &Value) -> Binding {
    let mut waits = false;
    for result in items(&status["allocation"]["devices"]["results"]) {
        let named = |field: &str| items(&result[field]).map(text).collect::<Vec<&str>>();
        let (needed, failures) = (
            named("bindingConditions"),
            named("bindingFailureConditions"),
        );
        if needed.is_empty() {
            continue;
        }
        let is_it = |device: &&Value| {
            ["driver", "pool", "device", "shareID"]
                .iter()
                .all(|field| text(&device[field]) == text(&result[field]))
        };
        let Some(device) = items(&status["devices"]).find(is_it) else {
            waits = true;
            continue;
        };
        let holds = |name: &str| {
            let mut conditions = items(&device["conditions"]);
            conditions.find(|c| text(&c["type"]) == name && c["status"] == "True")
        };
        if let Some(failed) = failures.iter().find_map(|name| holds(name)) {
            return Binding::Failed(format!(
                "claim device {} binding failed: {}",
                text(&result["device"]),
                text(&failed["message"])
            ));
        }
        waits |= needed.iter().any(|name| holds(name).is_none());
    }
    if waits {
        Binding::Waits
    } else {
        Binding::Ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn admins_take_nothing_and_sharers_what_they_consume() {
        let result = |name: &str, more: Value| {
            let mut result = json!({"driver": "d", "pool": "p", "device": name});
            let fields = more.as_object().unwrap().clone();
            result.as_object_mut().unwrap().extend(fields);
            result
        };
        let allocation = json!({"devices": {"results": [
            result("a", json!({})),
            result("b", json!({"adminAccess": true})),
            result("c", json!({"shareID": "s", "consumedCapacity": {"memory": "1Gi"}})),
        ]}});
        let one = |device: &str, share| Taken {
            driver: "d".into(),
            pool: "p".into(),
            device: device.into(),
            share,
        };
        let gib = Quantity::parse("1Gi").unwrap();
        let expected = [one("a", None), one("c", Some(vec![("memory".into(), gib)]))];
        assert_eq!(taken(&allocation), expected);
    }

    #[test]
    fn devices_are_ready_when_their_driver_says_so() {
        let status = |conditions: Value| {
            json!({"allocation": {"devices": {"results": [{"driver": "d", "pool": "p", "device": "a",
                "bindingConditions": ["attached"], "bindingFailureConditions": ["broken"]}]}},
                "devices": [{"driver": "d", "pool": "p", "device": "a", "conditions": conditions}]})
        };
        let condition = |name: &str| json!([{"type": name, "status": "True", "message": "why"}]);
        assert_eq!(binding(&json!({})), Binding::Ready);
        assert_eq!(binding(&status(json!([]))), Binding::Waits);
        assert_eq!(binding(&status(condition("attached"))), Binding::Ready);
        assert_eq!(
            binding(&status(condition("broken"))),
            Binding::Failed("claim device a binding failed: why".into())
        );
        let mut nothing = status(json!([]));
        nothing["devices"] = json!([]);
        assert_eq!(binding(&nothing), Binding::Waits);
    }
}

//! What the search found, as a claim's status has it.
//!
//! Does not know how it was found.

use meta::{Quantity, Value};
use value::{Map, json};

use crate::allocate::Prepared;
use crate::capacity::Amounts;
use crate::claim::{ALTERNATIVES_MAX, Claim, Wanted};
use crate::inventory::PoolId;
use crate::items;
use crate::node::{Node, NodeSelector};
use crate::outcome::{Allocation, taken};
use crate::slice::{Device, Place, Slice};

/// A device that was picked for a request.
#[derive(Debug)]
pub(crate) struct Picked<'a> {
    pub(crate) wanted: &'a Wanted,
    /// Of the request, or `request/alternative`.
    pub(crate) name: String,
    pub(crate) pool: &'a PoolId,
    pub(crate) slice: &'a Slice,
    pub(crate) device: &'a Device,
    /// How much of it, where it is shared.
    pub(crate) share: Option<Amounts>,
    /// It takes of its pool's counters.
    pub(crate) counted: bool,
}

/// The allocation of one claim. `chosen` has for each request its alternative and which one that is.
pub(crate) fn write(
    claim: &Claim,
    chosen: &[(usize, &Prepared<'_>)],
    picked: &[Picked<'_>],
    node: &Node<'_>,
    share_id: &mut dyn FnMut() -> String,
) -> Allocation {
    let results: Vec<Value> = picked.iter().map(|one| result(one, share_id)).collect();
    let mut devices = Map::new();
    if !results.is_empty() {
        devices.insert("results", results.into());
    }
    let config = config(claim, chosen);
    if !config.is_empty() {
        devices.insert("config", config.into());
    }
    let mut value = json!({"devices": devices});
    if let Some(selector) = node_selector(picked, node) {
        value["nodeSelector"] = selector;
    }
    let lists = claim.requests.iter().zip(chosen).filter(|(r, _)| r.is_list);
    let score = lists.map(|(_, (at, _))| ALTERNATIVES_MAX.saturating_sub(*at) as i64);
    Allocation {
        taken: taken(&value),
        score: score.sum(),
        value,
    }
}

fn result(picked: &Picked<'_>, share_id: &mut dyn FnMut() -> String) -> Value {
    let mut result = json!({
        "request": picked.name, "driver": picked.pool.driver, "pool": picked.pool.pool, "device": picked.device.name,
    });
    if picked.wanted.admin {
        result["adminAccess"] = true.into();
    }
    if items(&picked.wanted.raw_tolerations).next().is_some() {
        result["tolerations"] = picked.wanted.raw_tolerations.clone();
    }
    let conditions = [
        ("bindingConditions", &picked.device.binding_conditions),
        ("bindingFailureConditions", &picked.device.binding_failures),
    ];
    for (field, conditions) in conditions {
        if !conditions.is_empty() {
            result[field] = json!(conditions);
        }
    }
    if let Some(amounts) = &picked.share {
        result["shareID"] = share_id().into();
        if !amounts.is_empty() {
            result["consumedCapacity"] = written(amounts);
        }
    }
    result
}

fn written(amounts: &[(Box<str>, Quantity)]) -> Value {
    let entries = amounts.iter();
    let entries = entries.map(|(name, amount)| (name.to_string(), amount.to_string()));
    Value::Object(entries.collect())
}

/// That of classes first, once a class; then that of the claim, once for each request it is for.
fn config(claim: &Claim, chosen: &[(usize, &Prepared<'_>)]) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    let mut classes: Vec<(&str, usize, usize)> = Vec::new();
    for (_, prepared) in chosen {
        let class = &*prepared.wanted.class;
        if let Some((_, first, end)) = classes.iter().find(|(known, ..)| *known == class) {
            for config in &mut all[*first..*end] {
                if let Some(requests) = config["requests"].as_array_mut() {
                    requests.push(prepared.name.as_str().into());
                }
            }
            continue;
        }
        let first = all.len();
        for config in &prepared.class.config {
            all.push(json!({"source": "FromClass", "requests": [prepared.name], "opaque": config.opaque}));
        }
        classes.push((class, first, all.len()));
    }
    for config in &claim.config {
        let mut from_claim = json!({"source": "FromClaim", "opaque": config.opaque});
        if config.requests.is_empty() {
            all.push(from_claim);
            continue;
        }
        from_claim["requests"] = json!(config.requests);
        let named = |name: &str| config.requests.iter().any(|request| **request == *name);
        for (request, (_, prepared)) in claim.requests.iter().zip(chosen) {
            if named(&request.name) || request.is_list && named(&prepared.name) {
                all.push(from_claim.clone());
            }
        }
    }
    all
}

/// From where the devices can be used; `None` for from everywhere.
fn node_selector(picked: &[Picked<'_>], node: &Node<'_>) -> Option<Value> {
    let (mut fields, mut labels): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for one in picked {
        let place = if one.slice.per_device {
            &one.device.place
        } else {
            &one.slice.place
        };
        if one.device.binds_to_node || matches!(place, Place::Node(_)) {
            return Some(json!({"nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": [node.name]}]}]}));
        }
        // Validation allows one term.
        if let Place::Selected(selector) = place
            && let Some(term) = term(selector)
        {
            add(&mut fields, &term["matchFields"]);
            add(&mut labels, &term["matchExpressions"]);
        }
    }
    let mut term = Map::new();
    for (field, requirements) in [("matchExpressions", labels), ("matchFields", fields)] {
        if !requirements.is_empty() {
            term.insert(field, requirements.into());
        }
    }
    (!term.is_empty()).then(|| json!({"nodeSelectorTerms": [term]}))
}

fn term(selector: &NodeSelector) -> Option<&Value> {
    items(&selector.raw()["nodeSelectorTerms"]).next()
}

fn add(all: &mut Vec<Value>, requirements: &Value) {
    let values = |requirement: &Value| {
        let values = items(&requirement["values"]);
        let values = values.map(|value| value.as_str().unwrap_or_default().to_owned());
        values.collect::<std::collections::BTreeSet<String>>()
    };
    for requirement in items(requirements) {
        let known = all.iter().any(|known| {
            known["key"] == requirement["key"]
                && known["operator"] == requirement["operator"]
                && values(known) == values(requirement)
        });
        if !known {
            all.push(requirement.clone());
        }
    }
}

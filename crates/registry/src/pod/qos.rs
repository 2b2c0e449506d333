//! The quality-of-service class of a pod.

use crate::tree;
use meta::Value;
use std::collections::BTreeMap;

/// `Guaranteed`, `Burstable` or `BestEffort`, from the cpu and memory of all containers (or of the pod itself if set there).
pub(crate) fn class(pod: &Value) -> &'static str {
    if tree::map(pod, "spec.resources.limits").is_some()
        || tree::map(pod, "spec.resources.requests").is_some()
    {
        return of(std::slice::from_ref(tree::get(pod, "spec").unwrap_or(&Value::Null)).iter());
    }
    of(tree::items(pod, "spec.initContainers")
        .iter()
        .chain(tree::items(pod, "spec.containers")))
}

fn of<'a>(holders: impl Iterator<Item = &'a Value>) -> &'static str {
    let mut requests = BTreeMap::new();
    let mut limits = BTreeMap::new();
    let mut guaranteed = true;
    for holder in holders {
        add(holder, "resources.requests", &mut requests);
        let found = add(holder, "resources.limits", &mut limits);
        guaranteed &= found == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    let equal = requests.len() == limits.len()
        && requests
            .iter()
            .all(|(name, sum): (&&str, &i128)| limits.get(name) == Some(sum));
    if guaranteed && equal {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Adds the positive cpu and memory entries; returns how many of the two there were.
fn add(holder: &Value, path: &str, sums: &mut BTreeMap<&'static str, i128>) -> usize {
    let mut found = 0;
    for name in ["cpu", "memory"] {
        let amount = tree::map(holder, path)
            .and_then(|list| list.get(name))
            .and_then(Value::as_str)
            .and_then(|text| meta::Quantity::parse(text).ok())
            .map_or(0, |quantity| quantity.milli_value());
        if amount > 0 {
            found += 1;
            *sums.entry(name).or_insert(0) += i128::from(amount);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn pod(resources: Value) -> Value {
        json!({"spec": {"containers": [{"resources": resources}]}})
    }

    #[test]
    fn the_three_classes() {
        assert_eq!(class(&pod(json!({}))), "BestEffort");
        assert_eq!(class(&pod(json!({"requests": {"cpu": "1"}}))), "Burstable");
        let full = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(
            class(&pod(json!({"requests": full, "limits": full}))),
            "Guaranteed"
        );
        assert_eq!(
            class(&pod(
                json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": full})
            )),
            "Burstable"
        );
        assert_eq!(
            class(&pod(
                json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}})
            )),
            "Burstable"
        );
    }
}

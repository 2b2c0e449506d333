//! The same object in another version of its resource: Events of two groups, autoscalers of two versions, and versions
//! of equal shape, which differ in `apiVersion` only.

use std::collections::HashSet;

use value::{Map, Value, json};

use crate::error::ConvertError;
use crate::json::{Html, write_value};
use crate::resources::Resource;
use crate::table::{TypeId, table};

/// Converts a typed object from one version to another.
pub fn convert(from: &Resource, to: &Resource, mut value: Value) -> Result<Value, ConvertError> {
    let api_version = to.api_version();
    let Some(object) = value.as_object_mut() else {
        return Ok(value);
    };
    if (from.group, from.version) != (to.group, to.version) {
        match ((from.group, from.version), (to.group, to.version), to.kind) {
            (("", "v1"), ("events.k8s.io", "v1"), "Event") => rename(object, EVENT_NAMES, false),
            (("events.k8s.io", "v1"), ("", "v1"), "Event") => rename(object, EVENT_NAMES, true),
            (("autoscaling", "v2"), ("autoscaling", "v1"), _) => scaler_to_v1(object),
            (("autoscaling", "v1"), ("autoscaling", "v2"), _) => scaler_to_v2(object),
            _ if same_shape(from.type_id, to.type_id) => {}
            _ => {
                return Err(ConvertError::Unsupported {
                    from: from.api_version(),
                    to: api_version,
                });
            }
        }
    }
    object.insert("apiVersion", Value::String(api_version));
    object.insert("kind", Value::String(to.kind.to_owned()));
    Ok(value)
}

/// core/v1 Event → events.k8s.io/v1 Event.
const EVENT_NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(object: &mut Map, names: &[(&str, &str)], back: bool) {
    for (core, events) in names {
        let (old, new) = if back { (events, core) } else { (core, events) };
        if let Some(value) = object.remove(old) {
            object.insert((*new).to_owned(), value);
        }
    }
}

/// Where autoscaling/v1 keeps what it has no fields for.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn scaler_to_v1(object: &mut Map) {
    let mut notes = Map::new();
    if let Some(Value::Object(spec)) = object.get_mut("spec") {
        if let Some(Value::Array(metrics)) = spec.remove("metrics") {
            let (cpu, others): (Vec<Value>, Vec<Value>) = metrics
                .into_iter()
                .partition(|metric| is_cpu(metric, "target"));
            if let Some(percent) = cpu
                .last()
                .map(|metric| metric["resource"]["target"]["averageUtilization"].clone())
            {
                spec.insert("targetCPUUtilizationPercentage", percent);
            }
            if !others.is_empty() {
                notes.insert(
                    METRICS.to_owned(),
                    others
                        .into_iter()
                        .map(|metric| flatten(metric, "target"))
                        .collect(),
                );
            }
        }
        if let Some(behavior) = spec.remove("behavior") {
            notes.insert(BEHAVIOR.to_owned(), behavior);
        }
    }
    if let Some(Value::Object(status)) = object.get_mut("status") {
        if let Some(Value::Array(metrics)) = status.remove("currentMetrics") {
            if let Some(cpu) = metrics.iter().find(|metric| is_cpu(metric, "current")) {
                let percent = cpu["resource"]["current"]["averageUtilization"].clone();
                status.insert("currentCPUUtilizationPercentage", percent);
            }
            notes.insert(
                CURRENT_METRICS.to_owned(),
                metrics
                    .into_iter()
                    .map(|metric| flatten(metric, "current"))
                    .collect(),
            );
        }
        if let Some(conditions) = status.remove("conditions") {
            notes.insert(CONDITIONS.to_owned(), conditions);
        }
    }
    if notes.is_empty() {
        return;
    }
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else {
        return;
    };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    for (name, note) in notes {
        let mut text = Vec::new();
        write_value(&note, Html::Keep, &mut text);
        if let (Some(annotations), Ok(text)) =
            (annotations.as_object_mut(), String::from_utf8(text))
        {
            annotations.insert(name, Value::String(text));
        }
    }
}

fn scaler_to_v2(object: &mut Map) {
    let mut note = |name: &str| -> Option<Value> {
        let metadata = object.get_mut("metadata")?.as_object_mut()?;
        let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
        let text = annotations.remove(name)?;
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
        // What cannot be read is dropped, as upstream drops it.
        crate::parse_json(text.as_str()?.as_bytes()).ok()
    };
    let (metrics, current, conditions, behavior) = (
        note(METRICS),
        note(CURRENT_METRICS),
        note(CONDITIONS),
        note(BEHAVIOR),
    );
    let unflattened = |list: Option<Value>, prefix: &str| -> Vec<Value> {
        let Some(Value::Array(list)) = list else {
            return Vec::new();
        };
        list.into_iter()
            .map(|metric| unflatten(metric, prefix))
            .collect()
    };
    let spec = object.entry("spec").or_insert_with(|| json!({}));
    if let Some(spec) = spec.as_object_mut() {
        let mut metrics = unflattened(metrics, "target");
        if let Some(percent) = spec.remove("targetCPUUtilizationPercentage") {
            metrics.push(json!({
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}},
            }));
        }
        if !metrics.is_empty() {
            spec.insert("metrics", Value::Array(metrics));
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior", behavior);
        }
    }
    let status = object.entry("status").or_insert_with(|| json!({}));
    if let Some(status) = status.as_object_mut() {
        let cpu = status.remove("currentCPUUtilizationPercentage");
        let mut metrics = unflattened(current, "current");
        if let Some(percent) = cpu.filter(|_| metrics.is_empty()) {
            metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": percent}}}));
        }
        if !metrics.is_empty() {
            status.insert("currentMetrics", Value::Array(metrics));
        }
        if let Some(conditions) = conditions {
            status.insert("conditions", conditions);
        }
    }
    for part in ["spec", "status"] {
        if object.get(part).is_some_and(|part| part == &json!({})) {
            object.remove(part);
        }
    }
}

/// The one metric that autoscaling/v1 has a field for.
fn is_cpu(metric: &Value, prefix: &str) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && metric["resource"][prefix]["averageUtilization"].is_number()
}

/// The part of a metric that its type names: `ContainerResource` → `containerResource`.
fn source_name(metric: &Value) -> Option<&'static str> {
    Some(match metric["type"].as_str()? {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "External" => "external",
        _ => return None,
    })
}

/// Names of (value, average value, average utilization, selector) in the flat form of a source; empty: not there.
fn flat_names(source: &str, prefix: &str) -> [String; 4] {
    let name = |text: &str| format!("{prefix}{text}");
    let none = String::new;
    match source {
        "object" => [
            name("Value"),
            "averageValue".to_owned(),
            none(),
            "selector".to_owned(),
        ],
        "pods" => [none(), name("AverageValue"), none(), "selector".to_owned()],
        "external" => [
            name("Value"),
            name("AverageValue"),
            none(),
            "metricSelector".to_owned(),
        ],
        _ => [
            none(),
            name("AverageValue"),
            name("AverageUtilization"),
            none(),
        ],
    }
}

const NESTED_NAMES: [&str; 3] = ["value", "averageValue", "averageUtilization"];

/// A metric as autoscaling/v1 spells it in its annotations.
fn flatten(mut metric: Value, prefix: &str) -> Value {
    let Some(source_name) = source_name(&metric) else {
        return metric;
    };
    let names = flat_names(source_name, prefix);
    let Some(Value::Object(source)) = metric.get_mut(source_name) else {
        return metric;
    };
    if let Some(Value::Object(mut identifier)) = source.remove("metric") {
        if let Some(name) = identifier.remove("name") {
            source.insert("metricName", name);
        }
        if let Some(selector) = identifier.remove("selector") {
            source.insert(names[3].clone(), selector);
        }
    }
    if let Some(Value::Object(mut target)) = source.remove(prefix) {
        for (nested, flat) in NESTED_NAMES.iter().zip(&names) {
            if let Some(value) = target.remove(nested).filter(|_| !flat.is_empty()) {
                source.insert(flat.clone(), value);
            }
        }
    }
    if let Some(described) = source.remove("describedObject") {
        source.insert("target", described);
    }
    metric
}

/// The inverse of [`flatten`].
fn unflatten(mut metric: Value, prefix: &str) -> Value {
    let Some(source_name) = source_name(&metric) else {
        return metric;
    };
    let names = flat_names(source_name, prefix);
    let Some(Value::Object(source)) = metric.get_mut(source_name) else {
        return metric;
    };
    let described = if source_name == "object" {
        source.remove("target")
    } else {
        None
    };
    if let Some(described) = described {
        source.insert("describedObject", described);
    }
    let mut identifier = Map::new();
    if let Some(name) = source.remove("metricName") {
        identifier.insert("name", name);
    }
    if let Some(selector) = source.remove(&names[3]).filter(|_| !names[3].is_empty()) {
        identifier.insert("selector", selector);
    }
    if !identifier.is_empty() {
        source.insert("metric", Value::Object(identifier));
    }
    let mut target = Map::new();
    for (nested, flat) in NESTED_NAMES.iter().zip(&names) {
        if let Some(value) = source.remove(flat).filter(|_| !flat.is_empty()) {
            target.insert((*nested).to_owned(), value);
        }
    }
    if prefix == "target" {
        let kind = if target.contains_key("averageUtilization") {
            "Utilization"
        } else if target.contains_key("averageValue") {
            "AverageValue"
        } else {
            "Value"
        };
        if kind == "AverageValue" && target.get("value").is_some_and(|value| value == "0") {
            target.remove("value");
        }
        target.insert("type", Value::String(kind.to_owned()));
    }
    source.insert(prefix.to_owned(), Value::Object(target));
    metric
}

/// Whether two types have the same fields, all the way down.
fn same_shape(left: TypeId, right: TypeId) -> bool {
    use crate::table::Kind;
    let mut open = vec![(left, right)];
    let mut seen = HashSet::new();
    while let Some((left, right)) = open.pop() {
        if left == right || !seen.insert((left, right)) {
            continue;
        }
        let (left, right) = (table().get(left), table().get(right));
        if left.special != right.special || left.fields.len() != right.fields.len() {
            return false;
        }
        for (left, right) in left.fields.iter().zip(&right.fields) {
            if (left.name, left.shape) != (right.name, right.shape) {
                return false;
            }
            match (left.kind, right.kind) {
                (Kind::Message(left), Kind::Message(right)) => open.push((left, right)),
                (left, right) if left == right => {}
                _ => return false,
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::resource;

    #[test]
    fn events_of_both_groups() {
        let core = resource("", "v1", "events").unwrap();
        let events = resource("events.k8s.io", "v1", "events").unwrap();
        let original = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"name": "p"},
            "message": "m", "reason": "r", "source": {"component": "c"}, "count": 3, "reportingComponent": "x", "type": "Normal",
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-02T00:00:00Z"});
        let converted = convert(core, events, original.clone()).unwrap();
        assert_eq!(
            converted,
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "regarding": {"name": "p"},
            "note": "m", "reason": "r", "deprecatedSource": {"component": "c"}, "deprecatedCount": 3, "reportingController": "x",
            "type": "Normal", "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z", "deprecatedLastTimestamp": "2026-01-02T00:00:00Z"})
        );
        assert!(
            crate::complete(events.type_id, converted.clone())
                .unwrap()
                .complaints
                .is_empty()
        );
        assert_eq!(convert(events, core, converted).unwrap(), original);
    }

    #[test]
    fn autoscalers_keep_everything_in_annotations() {
        let v1 = resource("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        let v2 = resource("autoscaling", "v2", "horizontalpodautoscalers").unwrap();
        let original = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 5, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}, "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "rps", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Ingress", "name": "i"}, "metric": {"name": "q"}, "target": {"type": "Value", "value": "3"}}},
                {"type": "External", "external": {"metric": {"name": "z"}, "target": {"type": "Value", "value": "7"}}},
                {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c", "target": {"type": "Utilization", "averageUtilization": 70}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]},
            "status": {"desiredReplicas": 2, "conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 40, "averageValue": "1"}}}]}});
        let old = convert(v2, v1, original.clone()).unwrap();
        assert_eq!(
            old["spec"],
            json!({"maxReplicas": 5, "targetCPUUtilizationPercentage": 50})
        );
        assert_eq!(
            old["status"],
            json!({"desiredReplicas": 2, "currentCPUUtilizationPercentage": 40})
        );
        let metrics = crate::parse_json(
            old["metadata"]["annotations"][METRICS]
                .as_str()
                .unwrap()
                .as_bytes(),
        )
        .unwrap();
        assert_eq!(
            metrics[0],
            json!({"type": "Pods", "pods": {"metricName": "rps", "selector": {"matchLabels": {"a": "b"}}, "targetAverageValue": "10"}})
        );
        assert_eq!(
            metrics[1],
            json!({"type": "Object", "object": {"target": {"kind": "Ingress", "name": "i"}, "metricName": "q", "targetValue": "3"}})
        );
        assert!(
            crate::complete(v1.type_id, old.clone())
                .unwrap()
                .complaints
                .is_empty()
        );
        assert_eq!(convert(v1, v2, old).unwrap(), original);
    }

    #[test]
    fn betas_of_equal_shape_only_change_their_name() {
        let beta = resource("networking.k8s.io", "v1beta1", "servicecidrs").unwrap();
        let stable = resource("networking.k8s.io", "v1", "servicecidrs").unwrap();
        let converted = convert(
            beta,
            stable,
            json!({"apiVersion": "networking.k8s.io/v1beta1", "kind": "ServiceCIDR"}),
        )
        .unwrap();
        assert_eq!(converted["apiVersion"], "networking.k8s.io/v1");
        let claims = resource("resource.k8s.io", "v1beta1", "resourceclaims").unwrap();
        assert!(convert(claims, claims.stored_as(), json!({"spec": {}})).is_err());
    }
}

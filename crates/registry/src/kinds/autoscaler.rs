//! HorizontalPodAutoscalers, in both of their versions.

use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};
use value::json;

/// Average processor use aimed at when nothing else is said, percent.
const CPU_UTILIZATION_PERCENT: i64 = 80;

pub(super) const ROOM: Room = Room {
    defaults,
    check,
    ..PLAIN
};

fn defaults(autoscaler: &mut Value) {
    tree::ensure(autoscaler, "spec");
    tree::fill(autoscaler, "spec.minReplicas", 1);
    if tree::text(autoscaler, "apiVersion") != "autoscaling/v2" {
        return;
    }
    if tree::items(autoscaler, "spec.metrics").is_empty() {
        let cpu = json!({
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": CPU_UTILIZATION_PERCENT}}
        });
        tree::put(autoscaler, "spec.metrics", vec![cpu]);
    }
    if tree::get(autoscaler, "spec.behavior").is_some() {
        let up = json!([
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15}
        ]);
        let down = json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
        tree::fill(
            autoscaler,
            "spec.behavior.scaleUp.stabilizationWindowSeconds",
            0,
        );
        for (side, policies) in [("scaleUp", up), ("scaleDown", down)] {
            tree::fill(
                autoscaler,
                &format!("spec.behavior.{side}.selectPolicy"),
                "Max",
            );
            let path = format!("spec.behavior.{side}.policies");
            if tree::items(autoscaler, &path).is_empty() {
                tree::put(autoscaler, &path, policies);
            }
        }
    }
}

fn check(autoscaler: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    let least = tree::int(autoscaler, "spec.minReplicas");
    let most = tree::int(autoscaler, "spec.maxReplicas").unwrap_or(0);
    if let Some(least) = least.filter(|least| *least < 1) {
        findings.invalid(
            &spec.child("minReplicas"),
            least,
            "must be greater than or equal to 1",
        );
    }
    if most < 1 {
        findings.invalid(&spec.child("maxReplicas"), most, "must be greater than 0");
    }
    if least.is_some_and(|least| most < least) {
        findings.invalid(
            &spec.child("maxReplicas"),
            most,
            "must be greater than or equal to `minReplicas`",
        );
    }
    let target = spec.child("scaleTargetRef");
    for field in ["kind", "name"] {
        let text = tree::text(autoscaler, &format!("spec.scaleTargetRef.{field}"));
        if text.is_empty() {
            findings.required(&target.child(field), "");
        } else {
            findings.each(
                &target.child(field),
                text,
                meta::names::path_segment_name(text),
            );
        }
    }
    for (index, metric) in tree::items(autoscaler, "spec.metrics").iter().enumerate() {
        let at = spec.child("metrics").index(index);
        let kind = tree::text(metric, "type");
        let kinds = [
            "ContainerResource",
            "External",
            "Object",
            "Pods",
            "Resource",
        ];
        if kind.is_empty() {
            findings.required(&at.child("type"), "must specify a metric source type");
        } else if !kinds.contains(&kind) {
            findings.not_supported(&at.child("type"), kind, &kinds);
        }
    }
}

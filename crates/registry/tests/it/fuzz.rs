//! Objects of any shape: nothing a client sends may bring a verb down.

use crate::every_resource::minimal;
use crate::help::*;
use chance::Chance;
use meta::Value;
use value::json;

fn odd_value(chance: &mut Chance) -> Value {
    match chance.below(11) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(i64::MIN),
        3 => json!(i64::MAX),
        4 => json!(1.5),
        5 => json!(""),
        6 => json!("ä€😀-"),
        7 => json!([]),
        8 => json!([null, 1, "x", {}]),
        9 => json!({}),
        _ => json!({"name": 1, "spec": [], "metadata": "x"}),
    }
}

/// Changes one place somewhere in the tree: another value, a removal, or an extra entry.
fn mutate(value: &mut Value, chance: &mut Chance) {
    match value {
        Value::Object(map) if !map.is_empty() && chance.below(6) > 0 => {
            let pick = chance.below(map.len());
            let key = map.keys().nth(pick).cloned().unwrap_or_default();
            if chance.below(5) == 0 {
                map.remove(&key);
            } else if let Some(inner) = map.get_mut(&key) {
                mutate(inner, chance);
            }
        }
        Value::Array(list) if !list.is_empty() && chance.below(6) > 0 => {
            let pick = chance.below(list.len());
            if chance.below(5) == 0 {
                let copy = list[pick].clone();
                list.push(copy);
            } else {
                mutate(&mut list[pick], chance);
            }
        }
        other => *other = odd_value(chance),
    }
}

/// A pod with a bit of everything, so that mutations reach the rules of the depths.
fn rich_pod() -> Value {
    json!({
        "metadata": {"name": "a", "labels": {"a": "b"}, "annotations": {"k": "v"}, "finalizers": ["x.y/z"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u", "controller": true}]},
        "spec": {
            "containers": [{"name": "c", "image": "i", "ports": [{"name": "p", "containerPort": 1, "hostPort": 2}],
                "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "envFrom": [{"configMapRef": {"name": "m"}}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}, "claims": [{"name": "x"}]},
                "livenessProbe": {"httpGet": {"port": "p", "httpHeaders": [{"name": "H", "value": "v"}]}},
                "lifecycle": {"preStop": {"exec": {"command": ["x"]}}},
                "securityContext": {"runAsUser": 1, "capabilities": {"add": ["X"]}, "allowPrivilegeEscalation": false},
                "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s"}]}],
            "initContainers": [{"name": "i", "image": "i", "restartPolicy": "Always"}],
            "volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}}]}}],
            "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}]}}},
            "hostAliases": [{"ip": "1.1.1.1", "hostnames": ["h"]}],
            "schedulingGates": [{"name": "x.y/z"}]
        }
    })
}

#[test]
fn mutated_objects_never_panic() {
    let mut chance = Chance::new(42);
    for res in schema::resources() {
        let (seed, rounds) = if res.resource == "pods" {
            (rich_pod(), 3_000)
        } else {
            (minimal(res), 120)
        };
        let old = stored(res, seed.clone());
        for _ in 0..rounds {
            let (mut sent, mut next, mut stale) = (seed.clone(), old.clone(), old.clone());
            for _ in 0..=chance.below(4) {
                mutate(&mut sent, &mut chance);
                mutate(&mut next, &mut chance);
                if chance.below(4) == 0 {
                    mutate(&mut stale, &mut chance);
                }
            }
            let subresource = [
                "",
                "status",
                "finalize",
                "resize",
                "ephemeralcontainers",
                "approval",
            ][chance.below(6)];
            let _ = create(res, sent.clone());
            let _ = update_sub(
                res,
                (!subresource.is_empty()).then_some(subresource),
                &stale,
                next.clone(),
            );
            let _ = delete(
                res,
                &next,
                &json!({"gracePeriodSeconds": i64::MAX, "propagationPolicy": "Foreground"}),
            );
            let _ = with_context(|ctx| registry::bind(&next, &sent, ctx));
            let _ = registry::scale_of(res, &next);
            let _ = with_context(|ctx| registry::with_scale(res, &stale, &sent, ctx));
            let _ = with_context(|ctx| registry::prepare_eviction(&next, &[&sent], ctx));
            let _ = registry::admission::admit_create(
                res,
                &mut sent,
                &registry::admission::LookedUp {
                    priority_class: next.clone(),
                    default_storage_class: Some("fast".to_owned()),
                },
            );
            for field in registry::selectable_fields(res) {
                let _ = registry::field_value(res, &next, field.name);
            }
        }
    }
}

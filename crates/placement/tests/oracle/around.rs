//! The model's rules about other pods, ports and images.
//!
//! Written from the description of the rules; shares no code with the crate.

use crate::model::{Model, affine, array, tolerated};
use std::collections::{BTreeMap, BTreeSet};
use value::{Value, json};

const HOST: &str = "kubernetes.io/hostname";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn name_of(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

/// The value of a topology key on a node.
fn domain<'a>(node: &'a Value, key: &str) -> Option<&'a str> {
    node["metadata"]["labels"][key].as_str()
}

/// A LabelSelector object; null selects nothing.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    if selector.is_null() {
        return false;
    }
    let pairs = selector["matchLabels"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    pairs.iter().all(|(k, v)| labels[k] == *v)
        && array(&selector["matchExpressions"]).iter().all(|e| {
            let actual = &labels[text(&e["key"])];
            match text(&e["operator"]) {
                "In" => array(&e["values"]).contains(actual),
                "NotIn" => !array(&e["values"]).contains(actual),
                "Exists" => !actual.is_null(),
                "DoesNotExist" => actual.is_null(),
                other => panic!("{other}"),
            }
        })
}

// ---- ports and images

fn host_ports(pod: &Value) -> Vec<(String, String, i64)> {
    let sidecars = array(&pod["spec"]["initContainers"])
        .into_iter()
        .filter(|c| c["restartPolicy"] == "Always");
    sidecars
        .chain(array(&pod["spec"]["containers"]))
        .flat_map(|c| array(&c["ports"]))
        .filter(|p| p["hostPort"].as_i64().unwrap_or(0) > 0)
        .map(|p| {
            let ip = p["hostIP"].as_str().unwrap_or("0.0.0.0").to_owned();
            let protocol = p["protocol"].as_str().unwrap_or("TCP").to_owned();
            (ip, protocol, p["hostPort"].as_i64().unwrap())
        })
        .collect()
}

pub fn ports_clash(model: &Model, pod: &Value, node: &str) -> bool {
    let all = "0.0.0.0";
    let taken: Vec<_> = model
        .pods
        .values()
        .filter(|p| p.node == node)
        .flat_map(|p| host_ports(&p.object))
        .collect();
    host_ports(pod).iter().any(|(ip, protocol, port)| {
        taken.iter().any(|(other_ip, other_protocol, other_port)| {
            (protocol, port) == (other_protocol, other_port)
                && (ip == other_ip || ip == all || other_ip == all)
        })
    })
}

pub fn image_score(model: &Model, pod: &Value, node: &Value) -> i64 {
    let containers: Vec<Value> = array(&pod["spec"]["initContainers"])
        .into_iter()
        .chain(array(&pod["spec"]["containers"]))
        .collect();
    let mut sum = 0;
    for container in &containers {
        let mut image = text(&container["image"]).to_owned();
        if !image.contains(':') {
            image += ":latest";
        }
        let size_on = |node: &Value| {
            array(&node["status"]["images"])
                .iter()
                .find(|i| array(&i["names"]).contains(&json!(image)))
                .map(|i| i["sizeBytes"].as_i64().unwrap())
        };
        if let Some(size) = size_on(node) {
            let having = model
                .nodes
                .values()
                .filter(|n| size_on(n).is_some())
                .count();
            sum += (size as f64 * (having as f64 / model.nodes.len() as f64)) as i64;
        }
    }
    let mib = 1024 * 1024;
    let (min, max) = (23 * mib, 1000 * mib * containers.len() as i64);
    100 * (sum.clamp(min, max) - min) / (max - min)
}

// ---- topology spread

/// The selector with the pod's own values of the keys listed.
fn with_own_values(selector: &Value, pod: &Value, keys: &Value, operator: &str) -> Value {
    let mut selector = selector.clone();
    for key in array(keys) {
        let value = &pod["metadata"]["labels"][text(&key)];
        if !value.is_null() && selector.is_object() {
            let mut expressions = array(&selector["matchExpressions"]);
            expressions.push(json!({"key": key, "operator": operator, "values": [value]}));
            selector["matchExpressions"] = expressions.into();
        }
    }
    selector
}

/// The constraints of that sort, with their full selectors, and whether they are the system's.
fn constraints(model: &Model, pod: &Value, when: &str) -> (Vec<Value>, bool) {
    let own = array(&pod["spec"]["topologySpreadConstraints"]);
    if !own.is_empty() {
        let of_sort = own.into_iter().filter(|c| c["whenUnsatisfiable"] == when);
        let full = of_sort.map(|mut c| {
            c["labelSelector"] =
                with_own_values(&c["labelSelector"], pod, &c["matchLabelKeys"], "In");
            c
        });
        return (full.collect(), false);
    }
    if when == "DoNotSchedule" {
        return (Vec::new(), true);
    }
    let namespace = text(&pod["metadata"]["namespace"]);
    let labels = &pod["metadata"]["labels"];
    let mut together = json!({"matchLabels": {}, "matchExpressions": []});
    let mut empty = true;
    for ((of, _), selector) in &model.services {
        if of == namespace
            && !selector.is_null()
            && selects(&json!({"matchLabels": selector}), labels)
        {
            for (k, v) in selector.as_object().unwrap() {
                together["matchLabels"][k] = v.clone();
                empty = false;
            }
        }
    }
    for owner in array(&pod["metadata"]["ownerReferences"]) {
        let key = (namespace.to_owned(), text(&owner["name"]).to_owned());
        if let Some(selector) = model.replica_sets.get(&key).filter(|s| !s.is_null()) {
            let mut expressions = array(&selector["matchExpressions"]);
            for (k, v) in selector["matchLabels"].as_object().unwrap() {
                expressions.push(json!({"key": k, "operator": "In", "values": [v]}));
            }
            together["matchExpressions"] = expressions.into();
            empty = false;
        }
    }
    if empty {
        return (Vec::new(), true);
    }
    let default = |key: &str, skew: i64| json!({"topologyKey": key, "maxSkew": skew, "labelSelector": together});
    (
        vec![default(HOST, 3), default("topology.kubernetes.io/zone", 5)],
        true,
    )
}

fn counted_on(model: &Model, pod: &Value, node: &str, selector: &Value) -> i64 {
    let namespace = &pod["metadata"]["namespace"];
    model
        .pods
        .values()
        .filter(|p| p.node == node)
        .filter(|p| p.object["metadata"]["namespace"] == *namespace)
        .filter(|p| p.object["metadata"]["deletionTimestamp"].is_null())
        .filter(|p| selects(selector, &p.object["metadata"]["labels"]))
        .count() as i64
}

/// Do the constraint's policies let it count this node?
fn included(constraint: &Value, pod: &Value, node: &Value) -> bool {
    let by_affinity = constraint["nodeAffinityPolicy"] == "Ignore" || affine(pod, node);
    let by_taints = constraint["nodeTaintsPolicy"] != "Honor"
        || array(&node["spec"]["taints"])
            .iter()
            .all(|t| t["effect"] == "PreferNoSchedule" || tolerated(t, pod));
    by_affinity && by_taints
}

fn has_keys(constraints: &[Value], node: &Value) -> bool {
    constraints
        .iter()
        .all(|c| domain(node, text(&c["topologyKey"])).is_some())
}

pub fn spread_refusal(model: &Model, pod: &Value, node: &Value) -> Option<&'static str> {
    let (constraints, _) = constraints(model, pod, "DoNotSchedule");
    for constraint in &constraints {
        let key = text(&constraint["topologyKey"]);
        let Some(here) = domain(node, key) else {
            return Some(
                "node(s) didn't match pod topology spread constraints (missing required label)",
            );
        };
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for other in model.nodes.values() {
            if has_keys(&constraints, other) && included(constraint, pod, other) {
                let count = counted_on(model, pod, name_of(other), &constraint["labelSelector"]);
                *counts.entry(domain(other, key).unwrap()).or_default() += count;
            }
        }
        let min_domains = constraint["minDomains"].as_u64().unwrap_or(1) as usize;
        let fewest = if counts.len() < min_domains {
            0
        } else {
            *counts.values().min().unwrap()
        };
        let itself = i64::from(selects(
            &constraint["labelSelector"],
            &pod["metadata"]["labels"],
        ));
        let count = counts.get(here).copied().unwrap_or(0);
        if count + itself - fewest > constraint["maxSkew"].as_i64().unwrap() {
            return Some("node(s) didn't match pod topology spread constraints");
        }
    }
    None
}

/// Raw and normalised scores of the feasible nodes.
pub fn spread_scores(
    model: &Model,
    pod: &Value,
    feasible: &[String],
) -> BTreeMap<String, (i64, i64)> {
    let (constraints, system) = constraints(model, pod, "ScheduleAnyway");
    let nothing = || feasible.iter().map(|name| (name.clone(), (0, 0)));
    if constraints.is_empty() {
        return nothing().collect();
    }
    let part: Vec<&Value> = feasible
        .iter()
        .map(|name| &model.nodes[name])
        .filter(|node| system || has_keys(&constraints, node))
        .collect();
    let mut raw: BTreeMap<&str, f64> = part.iter().map(|n| (name_of(n), 0.0)).collect();
    for constraint in &constraints {
        let key = text(&constraint["topologyKey"]);
        let selector = &constraint["labelSelector"];
        let sizes: BTreeSet<Option<&str>> = part.iter().map(|n| domain(n, key)).collect();
        let size = if key == HOST { part.len() } else { sizes.len() };
        for node in &part {
            let Some(here) = domain(node, key) else {
                continue;
            };
            let count: i64 = if key == HOST {
                counted_on(model, pod, name_of(node), selector)
            } else {
                model
                    .nodes
                    .values()
                    .filter(|other| system || has_keys(&constraints, other))
                    .filter(|other| included(constraint, pod, other))
                    .filter(|other| domain(other, key) == Some(here))
                    .map(|other| counted_on(model, pod, name_of(other), selector))
                    .sum()
            };
            let skew = constraint["maxSkew"].as_i64().unwrap() - 1;
            *raw.get_mut(name_of(node)).unwrap() +=
                count as f64 * f64::ln((size + 2) as f64) + skew as f64;
        }
    }
    let raw: BTreeMap<&str, i64> = raw.iter().map(|(n, s)| (*n, s.round() as i64)).collect();
    let max = raw.values().max().copied().unwrap_or(0);
    let min = raw.values().min().copied().unwrap_or(0);
    let mut scores: BTreeMap<String, (i64, i64)> = nothing().collect();
    for (name, raw) in raw {
        let normal = if max == 0 {
            100
        } else {
            100 * (max + min - raw) / max
        };
        scores.insert(name.to_owned(), (raw, normal));
    }
    scores
}

// ---- affinity between pods

fn terms(pod: &Value, side: &str) -> Vec<Value> {
    array(&pod["spec"]["affinity"][side]["requiredDuringSchedulingIgnoredDuringExecution"])
}

/// (weight, term), anti-affinity with a negative weight.
fn weighted(pod: &Value) -> Vec<(i64, Value)> {
    let mut all = Vec::new();
    for (side, sign) in [("podAffinity", 1), ("podAntiAffinity", -1)] {
        let list =
            &pod["spec"]["affinity"][side]["preferredDuringSchedulingIgnoredDuringExecution"];
        for preferred in array(list) {
            let weight = sign * preferred["weight"].as_i64().unwrap();
            all.push((weight, preferred["podAffinityTerm"].clone()));
        }
    }
    all
}

/// Does a term that `owner` holds select `pod`? `incoming` says that the owner is the one that looks for a node.
fn term_selects(model: &Model, owner: &Value, term: &Value, pod: &Value, incoming: bool) -> bool {
    let namespace = text(&pod["metadata"]["namespace"]);
    let named = array(&term["namespaces"]);
    let own = named.is_empty()
        && term["namespaceSelector"].is_null()
        && owner["metadata"]["namespace"] == namespace;
    let labels = model.namespaces.get(namespace);
    let by_label = match (&term["namespaceSelector"], labels) {
        (Value::Null, _) => false,
        // The selector without requirements means all namespaces, known or not.
        (selector, _) if *selector == json!({}) => true,
        (selector, Some(labels)) => selects(selector, labels),
        (selector, None) => !incoming && selects(selector, &json!({})),
    };
    if !own && !by_label && !named.contains(&json!(namespace)) {
        return false;
    }
    let selector = with_own_values(&term["labelSelector"], owner, &term["matchLabelKeys"], "In");
    let selector = with_own_values(&selector, owner, &term["mismatchLabelKeys"], "NotIn");
    selects(&selector, &pod["metadata"]["labels"])
}

/// Existing pods with their nodes, of those that exist.
fn placed(model: &Model) -> Vec<(&Value, &Value)> {
    model
        .pods
        .values()
        .filter_map(|p| Some((&p.object, model.nodes.get(&p.node)?)))
        .collect()
}

fn same_domain(term: &Value, node: &Value, other: &Value) -> bool {
    let key = text(&term["topologyKey"]);
    domain(node, key).is_some() && domain(node, key) == domain(other, key)
}

pub fn affinity_refusal(model: &Model, pod: &Value, node: &Value) -> Option<&'static str> {
    let placed = placed(model);
    let wanted = terms(pod, "podAffinity");
    let matching: Vec<&(&Value, &Value)> = placed
        .iter()
        .filter(|(other, _)| {
            wanted
                .iter()
                .all(|t| term_selects(model, pod, t, other, true))
        })
        .collect();
    if !wanted.is_empty() {
        let refusal = Some("node(s) didn't match pod affinity rules");
        if wanted
            .iter()
            .any(|t| domain(node, text(&t["topologyKey"])).is_none())
        {
            return refusal;
        }
        let satisfied = wanted
            .iter()
            .all(|t| matching.iter().any(|(_, on)| same_domain(t, node, on)));
        let nobody = !matching.iter().any(|(_, on)| {
            wanted
                .iter()
                .any(|t| domain(on, text(&t["topologyKey"])).is_some())
        });
        let itself = wanted
            .iter()
            .all(|t| term_selects(model, pod, t, pod, true));
        let first_of_its_kind = nobody && itself;
        if !satisfied && !first_of_its_kind {
            return refusal;
        }
    }
    let avoids = terms(pod, "podAntiAffinity").iter().any(|t| {
        placed
            .iter()
            .any(|(other, on)| same_domain(t, node, on) && term_selects(model, pod, t, other, true))
    });
    if avoids {
        return Some("node(s) didn't match pod anti-affinity rules");
    }
    let avoided = placed.iter().any(|(other, on)| {
        terms(other, "podAntiAffinity")
            .iter()
            .any(|t| same_domain(t, node, on) && term_selects(model, other, t, pod, false))
    });
    avoided.then_some("node(s) didn't satisfy existing pods anti-affinity rules")
}

/// Raw and normalised scores of the feasible nodes.
pub fn affinity_scores(
    model: &Model,
    pod: &Value,
    feasible: &[String],
) -> BTreeMap<String, (i64, i64)> {
    let placed = placed(model);
    let raw: BTreeMap<&String, i64> = feasible
        .iter()
        .map(|name| {
            let node = &model.nodes[name];
            let mut score = 0;
            for (other, on) in &placed {
                for (weight, term) in weighted(pod) {
                    if same_domain(&term, node, on) && term_selects(model, pod, &term, other, true)
                    {
                        score += weight;
                    }
                }
                let theirs = terms(other, "podAffinity").into_iter().map(|t| (1, t));
                for (weight, term) in weighted(other).into_iter().chain(theirs) {
                    if same_domain(&term, node, on) && term_selects(model, other, &term, pod, false)
                    {
                        score += weight;
                    }
                }
            }
            (name, score)
        })
        .collect();
    let max = raw.values().max().copied().unwrap_or(0);
    let min = raw.values().min().copied().unwrap_or(0);
    raw.iter()
        .map(|(name, raw)| {
            let normal = if max > min {
                (100.0 * ((raw - min) as f64 / (max - min) as f64)) as i64
            } else {
                0
            };
            ((*name).clone(), (*raw, normal))
        })
        .collect()
}

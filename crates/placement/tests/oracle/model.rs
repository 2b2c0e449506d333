//! The model: every node asked, every plugin, from the JSON objects themselves, in the plainest way.
//!
//! Written from the description of the rules; shares no code with the crate but the types of the answers.

use crate::{around, evict, storage};
use placement::Scores;
use std::collections::BTreeMap;
use value::{Value, json};

/// cpu in millis, everything else whole.
pub type Amounts = BTreeMap<String, i64>;

#[derive(Clone)]
pub struct ModelPod {
    pub node: String,
    pub object: Value,
    pub real: Amounts,
    pub scored: Amounts,
}

impl ModelPod {
    pub fn new(node: &str, object: &Value) -> ModelPod {
        ModelPod {
            node: node.into(),
            object: object.clone(),
            real: pod_amounts(object, false),
            scored: pod_amounts(object, true),
        }
    }
}

#[derive(Clone, Default)]
pub struct Model {
    pub nodes: BTreeMap<String, Value>,
    pub pods: BTreeMap<String, ModelPod>,
    /// Labels of namespaces.
    pub namespaces: BTreeMap<String, Value>,
    /// Selectors of Services by namespace and name.
    pub services: BTreeMap<(String, String), Value>,
    /// Selectors of ReplicaSets by namespace and name.
    pub replica_sets: BTreeMap<(String, String), Value>,
    /// Disruption budgets of the namespace `default`.
    pub budgets: BTreeMap<String, Value>,
    /// What volumes are made of, by kind and key.
    pub things: BTreeMap<(storage::Sort, String), Value>,
    /// Volumes that pods were given for a claim: claim, pod.
    pub given: BTreeMap<String, (String, String)>,
    /// Nodes chosen for claims: node, pod.
    pub chosen: BTreeMap<String, (String, String)>,
    /// Pods that are to come to a node once others have gone, with the node.
    pub nominated: BTreeMap<String, (String, Value)>,
}

fn amount(resource: &str, text: &str) -> i64 {
    let (number, factor) = if let Some(n) = text.strip_suffix("Mi") {
        (n, 1 << 20)
    } else if let Some(n) = text.strip_suffix("Gi") {
        (n, 1 << 30)
    } else if let Some(n) = text.strip_suffix('m') {
        assert_eq!(resource, "cpu");
        return n.parse().unwrap();
    } else {
        (text, 1)
    };
    let whole = number.parse::<i64>().unwrap() * factor;
    if resource == "cpu" {
        whole * 1000
    } else {
        whole
    }
}

pub fn amounts(list: &Value) -> Amounts {
    let list = list.as_object().cloned().unwrap_or_default();
    list.iter()
        .map(|(k, v)| (k.to_string(), amount(k, v.as_str().unwrap())))
        .collect()
}

pub fn array(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn plus(a: &Amounts, b: &Amounts) -> Amounts {
    let mut sum = a.clone();
    for (k, v) in b {
        *sum.entry(k.clone()).or_default() += v;
    }
    sum
}

fn larger(a: &Amounts, b: &Amounts) -> Amounts {
    let mut max = a.clone();
    for (k, v) in b {
        let have = max.entry(k.clone()).or_default();
        *have = (*have).max(*v);
    }
    max
}

pub fn pod_amounts(pod: &Value, defaults: bool) -> Amounts {
    let of = |container: &Value| {
        let mut own = amounts(&container["resources"]["requests"]);
        if defaults {
            own.entry("cpu".into()).or_insert(100);
            own.entry("memory".into()).or_insert(200 << 20);
        }
        own
    };
    let init = array(&pod["spec"]["initContainers"]);
    let is_sidecar = |c: &Value| c["restartPolicy"] == "Always";
    // What runs in the end: all containers and all sidecars.
    let mut steady = Amounts::new();
    for container in array(&pod["spec"]["containers"])
        .iter()
        .chain(init.iter().filter(|c| is_sidecar(c)))
    {
        steady = plus(&steady, &of(container));
    }
    // What runs while each init container does: itself and the sidecars before it.
    let mut request = steady;
    for (at, container) in init.iter().enumerate() {
        let mut moment = of(container);
        for earlier in init[..at].iter().filter(|c| is_sidecar(c)) {
            moment = plus(&moment, &of(earlier));
        }
        request = larger(&request, &moment);
    }
    for (k, v) in amounts(&pod["spec"]["resources"]["requests"]) {
        request.insert(k, v);
    }
    plus(&request, &amounts(&pod["spec"]["overhead"]))
}

pub fn tolerated(taint: &Value, pod: &Value) -> bool {
    array(&pod["spec"]["tolerations"]).iter().any(|t| {
        let same = |field: &str| t[field] == taint[field];
        let empty = |field: &str| t[field].as_str().unwrap_or("").is_empty();
        (empty("effect") || same("effect"))
            && (empty("key") || same("key"))
            && (t["operator"] == "Exists"
                || t["value"].as_str().unwrap_or("") == taint["value"].as_str().unwrap_or(""))
    })
}

fn expression_holds(expression: &Value, actual: Option<&str>) -> bool {
    let values: Vec<String> = array(&expression["values"])
        .iter()
        .map(|v| v.as_str().unwrap().to_owned())
        .collect();
    let number = |text: &str| text.parse::<i64>().ok();
    match expression["operator"].as_str().unwrap() {
        "In" => actual.is_some_and(|a| values.iter().any(|v| v == a)),
        "NotIn" => !actual.is_some_and(|a| values.iter().any(|v| v == a)),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => actual.and_then(number) > number(&values[0]) && actual.and_then(number).is_some(),
        "Lt" => actual.and_then(number) < number(&values[0]) && actual.and_then(number).is_some(),
        other => panic!("{other}"),
    }
}

pub fn term_matches(term: &Value, node: &Value) -> bool {
    let expressions = array(&term["matchExpressions"]);
    let fields = array(&term["matchFields"]);
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|e| {
        expression_holds(
            e,
            node["metadata"]["labels"][e["key"].as_str().unwrap()].as_str(),
        )
    }) && fields
        .iter()
        .all(|f| expression_holds(f, node["metadata"]["name"].as_str()))
}

/// Node selector and required node affinity.
pub fn affine(pod: &Value, node: &Value) -> bool {
    let selector = pod["spec"]["nodeSelector"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let selected = selector
        .iter()
        .all(|(k, v)| node["metadata"]["labels"][k] == *v);
    let required =
        &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    selected
        && (required.is_null()
            || array(&required["nodeSelectorTerms"])
                .iter()
                .any(|t| term_matches(t, node)))
}

/// What the model finds for one pod.
pub struct Finding {
    /// Nodes looked at: reasons, or scores.
    pub nodes: BTreeMap<String, Result<Scores, Vec<String>>>,
    pub narrowed: bool,
    pub conflict: bool,
    /// Why the pod can go nowhere, whatever the nodes.
    pub obstacle: Option<String>,
}

impl Model {
    fn used(&self, node: &str, scored: bool) -> Amounts {
        self.pods
            .values()
            .filter(|p| p.node == node)
            .fold(Amounts::new(), |sum, p| {
                plus(&sum, if scored { &p.scored } else { &p.real })
            })
    }

    pub fn rejections(&self, pod: &Value, node: &Value) -> Vec<String> {
        let name = node["metadata"]["name"].as_str().unwrap();
        let cordon = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
        if node["spec"]["unschedulable"] == true && !tolerated(&cordon, pod) {
            return vec!["node(s) were unschedulable".into()];
        }
        for taint in array(&node["spec"]["taints"]) {
            if taint["effect"] != "PreferNoSchedule" && !tolerated(&taint, pod) {
                return vec!["node(s) had untolerated taint(s)".into()];
            }
        }
        if !affine(pod, node) {
            return vec!["node(s) didn't match Pod's node affinity/selector".into()];
        }
        if around::ports_clash(self, pod, name) {
            return vec!["node(s) didn't have free ports for the requested pod ports".into()];
        }
        let mut reasons = Vec::new();
        let offered = amounts(&node["status"]["allocatable"]);
        let have = |r: &str| offered.get(r).copied().unwrap_or(0);
        let used = self.used(name, false);
        let here = self.pods.values().filter(|p| p.node == name).count() as i64;
        if here + 1 > have("pods") {
            reasons.push("Too many pods".into());
        }
        let delegated = crate::objects::delegated(pod);
        for (resource, want) in pod_amounts(pod, false) {
            if have(&resource) == 0 && delegated.iter().any(|known| **known == *resource) {
                continue;
            }
            if want > 0 && want > have(&resource) - used.get(&resource).copied().unwrap_or(0) {
                reasons.push(format!("Insufficient {resource}"));
            }
        }
        reasons.sort();
        if !reasons.is_empty() {
            return reasons;
        }
        let reasons = storage::rejections(self, pod, node);
        if !reasons.is_empty() {
            return reasons;
        }
        let company = around::spread_refusal(self, pod, node)
            .or_else(|| around::affinity_refusal(self, pod, node));
        company.into_iter().map(str::to_owned).collect()
    }

    fn fit(&self, pod: &Value, node: &Value) -> i64 {
        let name = node["metadata"]["name"].as_str().unwrap();
        let all = plus(&self.used(name, true), &pod_amounts(pod, true));
        let offered = amounts(&node["status"]["allocatable"]);
        let mut scores = Vec::new();
        for resource in ["cpu", "memory"] {
            let capacity = i128::from(offered.get(resource).copied().unwrap_or(0));
            let asked = i128::from(all[resource]);
            if capacity > 0 {
                scores.push(if asked > capacity {
                    0
                } else {
                    (capacity - asked) * 100 / capacity
                });
            }
        }
        if scores.is_empty() {
            return 0;
        }
        (scores.iter().sum::<i128>() / scores.len() as i128) as i64
    }

    fn balance(&self, pod: &Value, node: &Value) -> i64 {
        let want = pod_amounts(pod, false);
        let asks = |r: &str| want.get(r).copied().unwrap_or(0);
        if asks("cpu") == 0 && asks("memory") == 0 {
            return 0;
        }
        let name = node["metadata"]["name"].as_str().unwrap();
        let offered = amounts(&node["status"]["allocatable"]);
        let used = self.used(name, false);
        let level = |with: bool| {
            let shares: Vec<f64> = ["cpu", "memory"]
                .iter()
                .filter_map(|&r| {
                    let capacity = offered.get(r).copied().filter(|&c| c != 0)?;
                    let taken = used.get(r).copied().unwrap_or(0) + if with { asks(r) } else { 0 };
                    let share = taken as f64 / capacity as f64;
                    Some(if share > 1.0 { 1.0 } else { share })
                })
                .collect();
            let std = if shares.len() == 2 {
                f64::abs((shares[0] - shares[1]) / 2.0)
            } else {
                0.0
            };
            ((1.0 - std) * 100.0) as i64
        };
        50 + (50 + level(true) - level(false)) / 2
    }

    pub fn find(&self, uid: &str, pod: &Value) -> Finding {
        let affinity = &pod["spec"]["affinity"]["nodeAffinity"];
        let terms =
            array(&affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]);
        let mut narrowed = !terms.is_empty();
        let mut named = Vec::new();
        let mut conflict = false;
        for term in &terms {
            let lists: Vec<Vec<Value>> = array(&term["matchFields"])
                .iter()
                .filter(|f| f["operator"] == "In")
                .map(|f| array(&f["values"]))
                .collect();
            match lists.split_first() {
                None => {
                    narrowed = false;
                    break;
                }
                Some((first, rest)) => {
                    let common: Vec<Value> = first
                        .iter()
                        .filter(|n| rest.iter().all(|l| l.contains(n)))
                        .cloned()
                        .collect();
                    if common.is_empty() {
                        conflict = true;
                        break;
                    }
                    named.extend(common);
                }
            }
        }
        let looked_at: Vec<&Value> = self
            .nodes
            .values()
            .filter(|n| !narrowed || named.contains(&n["metadata"]["name"]))
            .collect();
        let mut nodes = BTreeMap::new();
        for object in looked_at {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let reasons = evict::rejections(self, uid, pod, object);
            if !reasons.is_empty() {
                nodes.insert(name, Err(reasons));
                continue;
            }
            let taint_raw = array(&object["spec"]["taints"])
                .iter()
                .filter(|t| t["effect"] == "PreferNoSchedule" && !tolerated(t, pod))
                .count() as i64;
            let affinity_raw = array(&affinity["preferredDuringSchedulingIgnoredDuringExecution"])
                .iter()
                .filter(|p| term_matches(&p["preference"], object))
                .map(|p| p["weight"].as_i64().unwrap())
                .sum();
            let scores = Scores {
                taint_raw,
                taint: 0,
                affinity_raw,
                affinity: 0,
                fit: self.fit(pod, object),
                balanced: self.balance(pod, object),
                image: around::image_score(self, pod, object),
                ..Scores::default()
            };
            nodes.insert(name, Ok(scores));
        }
        let feasible: Vec<String> = nodes
            .iter()
            .filter(|(_, found)| found.is_ok())
            .map(|(name, _)| name.clone())
            .collect();
        let spread = around::spread_scores(self, pod, &feasible);
        let company = around::affinity_scores(self, pod, &feasible);
        for name in &feasible {
            if let Some(Ok(scores)) = nodes.get_mut(name) {
                (scores.spread_raw, scores.spread) = spread[name];
                (scores.pods_raw, scores.pods) = company[name];
            }
        }
        let most = |raw: fn(&Scores) -> i64| nodes.values().flatten().map(raw).max().unwrap_or(0);
        let (taint_max, affinity_max) = (most(|s| s.taint_raw), most(|s| s.affinity_raw));
        for scores in nodes.values_mut().flatten() {
            scores.taint = match taint_max {
                0 => 100,
                max => 100 - 100 * scores.taint_raw / max,
            };
            scores.affinity = match affinity_max {
                0 => 0,
                max => 100 * scores.affinity_raw / max,
            };
            scores.total = 3 * scores.taint
                + 2 * scores.affinity
                + scores.fit
                + scores.balanced
                + scores.image
                + 2 * scores.spread
                + 2 * scores.pods;
        }
        Finding {
            nodes,
            narrowed,
            conflict,
            obstacle: storage::obstacle(self, pod),
        }
    }

    pub fn reasons(&self, finding: &Finding) -> Vec<(String, usize)> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for reason in finding
            .nodes
            .values()
            .filter_map(|n| n.as_ref().err())
            .flatten()
        {
            *counts.entry(reason.clone()).or_default() += 1;
        }
        let elsewhere = self.nodes.len() - finding.nodes.len();
        if finding.narrowed && elsewhere > 0 {
            counts.insert(
                "node(s) didn't satisfy plugin(s) [NodeAffinity]".into(),
                elsewhere,
            );
        }
        counts.into_iter().collect()
    }
}

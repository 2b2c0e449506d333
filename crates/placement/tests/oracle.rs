//! The pick against a plain model: every node asked, every plugin, from the JSON objects themselves.
//!
//! The model knows the rules from their description only; it shares no code with the crate but the types
//! of the answers.

use placement::{
    Cluster, Config, Explanation, NodeInfo, PickError, PodInfo, PodKey, Scores, Unschedulable,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

// ---- the model

/// cpu in millis, everything else whole.
type Amounts = BTreeMap<String, i64>;

#[derive(Clone)]
struct ModelNode {
    object: Value,
}

struct ModelPod {
    node: String,
    real: Amounts,
    scored: Amounts,
}

#[derive(Default)]
struct Model {
    nodes: BTreeMap<String, ModelNode>,
    pods: BTreeMap<String, ModelPod>,
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

fn amounts(list: &Value) -> Amounts {
    let list = list.as_object().cloned().unwrap_or_default();
    list.iter()
        .map(|(k, v)| (k.clone(), amount(k, v.as_str().unwrap())))
        .collect()
}

fn array(value: &Value) -> Vec<Value> {
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

fn pod_amounts(pod: &Value, defaults: bool) -> Amounts {
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

fn tolerated(taint: &Value, pod: &Value) -> bool {
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

fn term_matches(term: &Value, node: &Value) -> bool {
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

/// What the model finds for one pod.
struct Finding {
    /// Nodes looked at: reasons, or scores.
    nodes: BTreeMap<String, Result<Scores, Vec<String>>>,
    narrowed: bool,
    conflict: bool,
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

    fn rejections(&self, pod: &Value, node: &Value) -> Vec<String> {
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
        let selector = pod["spec"]["nodeSelector"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        let selected = selector
            .iter()
            .all(|(k, v)| node["metadata"]["labels"][k] == *v);
        let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let affine = required.is_null()
            || array(&required["nodeSelectorTerms"])
                .iter()
                .any(|t| term_matches(t, node));
        if !selected || !affine {
            return vec!["node(s) didn't match Pod's node affinity/selector".into()];
        }
        let mut reasons = Vec::new();
        let offered = amounts(&node["status"]["allocatable"]);
        let have = |r: &str| offered.get(r).copied().unwrap_or(0);
        let used = self.used(name, false);
        let here = self.pods.values().filter(|p| p.node == name).count() as i64;
        if here + 1 > have("pods") {
            reasons.push("Too many pods".into());
        }
        for (resource, want) in pod_amounts(pod, false) {
            if want > 0 && want > have(&resource) - used.get(&resource).copied().unwrap_or(0) {
                reasons.push(format!("Insufficient {resource}"));
            }
        }
        reasons.sort();
        reasons
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

    fn find(&self, pod: &Value) -> Finding {
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
        let looked_at: Vec<&ModelNode> = self
            .nodes
            .values()
            .filter(|n| !narrowed || named.contains(&n.object["metadata"]["name"]))
            .collect();
        let mut nodes = BTreeMap::new();
        for node in looked_at {
            let object = &node.object;
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let reasons = self.rejections(pod, object);
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
                total: 0,
            };
            nodes.insert(name, Ok(scores));
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
            scores.total = 3 * scores.taint + 2 * scores.affinity + scores.fit + scores.balanced;
        }
        Finding {
            nodes,
            narrowed,
            conflict,
        }
    }

    fn reasons(&self, finding: &Finding) -> Vec<(String, usize)> {
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

// ---- random objects

/// Takes small choices off a random number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // A good mixer, so that neighbouring seeds do not make neighbouring objects.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.roll(list.len() as u64) as usize]
    }
}

const NODES: u64 = 10;

fn node_object(id: u64, seed: u64) -> Value {
    let mut dice = Dice(seed);
    let name = format!("node-{id}");
    let mut labels = json!({"kubernetes.io/hostname": name, "zone": dice.pick(&["a", "b", "c"])});
    if dice.one_in(2) {
        labels["disk"] = dice.pick(&["ssd", "hdd"]).into();
    }
    if dice.one_in(2) {
        labels["rank"] = dice.pick(&["1", "5", "9", "x"]).into();
    }
    if dice.one_in(6) {
        // A host name that is another node's name.
        labels["kubernetes.io/hostname"] = "node-1".into();
    }
    let mut taints = Vec::new();
    for (key, effect) in [
        ("dedicated", "NoSchedule"),
        ("leaving", "NoExecute"),
        ("noisy", "PreferNoSchedule"),
        ("old", "PreferNoSchedule"),
    ] {
        if dice.one_in(4) {
            taints.push(json!({"key": key, "value": dice.pick(&["", "x"]), "effect": effect}));
        }
    }
    let mut allocatable = json!({
        "cpu": dice.pick(&["0", "1", "2", "2500m"]),
        "memory": dice.pick(&["1Gi", "4Gi", "3000Mi"]),
        "ephemeral-storage": "10Gi",
        "pods": dice.pick(&["2", "5", "9"]),
    });
    if dice.one_in(3) {
        allocatable["example.com/gpu"] = "2".into();
    }
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"unschedulable": dice.one_in(8), "taints": taints},
        "status": {"allocatable": allocatable},
    })
}

fn container(dice: &mut Dice) -> Value {
    let mut requests = json!({});
    if !dice.one_in(3) {
        requests["cpu"] = dice.pick(&["0", "100m", "250m", "700m", "1"]).into();
    }
    if !dice.one_in(3) {
        requests["memory"] = dice.pick(&["0", "64Mi", "300Mi", "1Gi"]).into();
    }
    if dice.one_in(10) {
        requests["ephemeral-storage"] = dice.pick(&["1Gi", "6Gi"]).into();
    }
    if dice.one_in(6) {
        requests["example.com/gpu"] = dice.pick(&["0", "1"]).into();
    }
    json!({"resources": {"requests": requests}})
}

fn term_object(dice: &mut Dice, fields: bool) -> Value {
    let mut expressions = Vec::new();
    for _ in 0..dice.roll(3) {
        let zone = dice.pick(&["a", "b", "c"]);
        expressions.push(match dice.roll(8) {
            0 => json!({"key": "zone", "operator": "In", "values": [zone, "d"]}),
            1 => json!({"key": "zone", "operator": "NotIn", "values": [zone]}),
            2 => json!({"key": "disk", "operator": "Exists"}),
            3 => json!({"key": "disk", "operator": "DoesNotExist"}),
            4 => json!({"key": "rank", "operator": "Gt", "values": ["3"]}),
            5 => json!({"key": "rank", "operator": "Lt", "values": ["6"]}),
            6 => json!({"key": "kubernetes.io/hostname", "operator": "In",
                        "values": [format!("node-{}", dice.roll(NODES))]}),
            _ => json!({"key": "disk", "operator": "NotIn", "values": ["ssd"]}),
        });
    }
    let mut names = Vec::new();
    if fields && dice.one_in(2) {
        let name = format!("node-{}", dice.roll(NODES));
        let operator = dice.pick(&["In", "In", "NotIn"]);
        names.push(json!({"key": "metadata.name", "operator": operator, "values": [name]}));
        if dice.one_in(8) {
            let other = format!("node-{}", dice.roll(NODES));
            names.push(json!({"key": "metadata.name", "operator": "In", "values": [other]}));
        }
    }
    json!({"matchExpressions": expressions, "matchFields": names})
}

fn pod_object(uid: &str, seed: u64) -> Value {
    let mut dice = Dice(seed);
    let mut spec = json!({"containers": [container(&mut dice)]});
    if dice.one_in(3) {
        spec["containers"] = json!([container(&mut dice), container(&mut dice)]);
    }
    if dice.one_in(4) {
        let init: Vec<Value> = (0..dice.roll(4))
            .map(|_| {
                let mut c = container(&mut dice);
                if dice.one_in(2) {
                    c["restartPolicy"] = "Always".into();
                }
                c
            })
            .collect();
        spec["initContainers"] = init.into();
    }
    if dice.one_in(6) {
        spec["overhead"] = json!({"cpu": "50m", "memory": "10Mi"});
    }
    if dice.one_in(6) {
        spec["resources"] = json!({"requests": {"cpu": "900m"}});
    }
    let mut tolerations = Vec::new();
    if dice.one_in(2) {
        tolerations.push(json!({"key": "dedicated", "operator": "Exists"}));
    }
    if dice.one_in(3) {
        tolerations.push(json!({"key": "noisy", "value": "x", "effect": "PreferNoSchedule"}));
    }
    if dice.one_in(4) {
        tolerations.push(json!({"operator": "Exists"}));
    }
    if dice.one_in(3) {
        tolerations.push(json!({"key": "leaving", "operator": "Equal", "value": "",
                                "effect": "NoExecute"}));
    }
    spec["tolerations"] = tolerations.into();
    if dice.one_in(4) {
        spec["nodeSelector"] = json!({"zone": dice.pick(&["a", "b", "c"])});
    }
    let mut affinity = json!({});
    if dice.one_in(3) {
        let fields = dice.one_in(2);
        let terms: Vec<Value> = (0..=dice.roll(2))
            .map(|_| term_object(&mut dice, fields))
            .collect();
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] =
            json!({"nodeSelectorTerms": terms});
    }
    if dice.one_in(2) {
        let preferred: Vec<Value> = (0..=dice.roll(3))
            .map(|_| {
                let preference = term_object(&mut dice, false);
                json!({"weight": 1 + dice.roll(40), "preference": preference})
            })
            .collect();
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = preferred.into();
    }
    spec["affinity"] = json!({"nodeAffinity": affinity});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "spec": spec,
    })
}

// ---- the comparison

#[derive(Clone, Debug)]
enum Step {
    Node { id: u64, seed: u64 },
    RemoveNode { id: u64 },
    Schedule { seed: u64, random: u64 },
    Bound { seed: u64, id: u64 },
    Confirm { nth: usize },
    Finish { nth: usize },
}

fn step() -> impl Strategy<Value = Step> {
    // Few distinct pods and nodes, so that classes and states are met again.
    let pod = prop_oneof![3 => 0..12u64, 1 => 100..100_000u64];
    let node = prop_oneof![3 => 0..6u64, 1 => 100..100_000u64];
    prop_oneof![
        4 => (0..NODES, node).prop_map(|(id, seed)| Step::Node { id, seed }),
        1 => (0..NODES).prop_map(|id| Step::RemoveNode { id }),
        8 => (pod.clone(), any::<u64>()).prop_map(|(seed, random)| Step::Schedule { seed, random }),
        1 => (pod, 0..NODES + 2).prop_map(|(seed, id)| Step::Bound { seed, id }),
        1 => any::<usize>().prop_map(|nth| Step::Confirm { nth }),
        3 => any::<usize>().prop_map(|nth| Step::Finish { nth }),
    ]
}

struct Rig {
    cluster: Cluster,
    model: Model,
    objects: BTreeMap<String, Value>,
    born: u64,
}

impl Rig {
    fn new(config: Config) -> Rig {
        Rig {
            cluster: Cluster::new(config),
            model: Model::default(),
            objects: BTreeMap::new(),
            born: 0,
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Node { id, seed } => {
                let object = node_object(id, seed);
                self.cluster
                    .upsert_node(&NodeInfo::from_object(&object).unwrap());
                self.model
                    .nodes
                    .insert(format!("node-{id}"), ModelNode { object });
            }
            Step::RemoveNode { id } => {
                let name = format!("node-{id}");
                let known = self.model.nodes.remove(&name).is_some();
                assert_eq!(self.cluster.remove_node(&name), known);
            }
            Step::Schedule { seed, random } => self.schedule(seed, random),
            Step::Bound { seed, id } => {
                let (uid, mut object) = self.new_pod(seed);
                let node = format!("node-{id}");
                object["spec"]["nodeName"] = node.as_str().into();
                assert!(
                    self.cluster
                        .observe_pod(&PodInfo::from_object(&object).unwrap())
                );
                self.place(uid, node, object);
            }
            Step::Confirm { nth } => {
                if let Some(uid) = self.nth(nth) {
                    let pod = PodInfo::from_object(&self.objects[&uid]).unwrap();
                    assert!(!self.cluster.observe_pod(&pod));
                    assert!(!self.cluster.forget(PodKey::of(&uid)));
                }
            }
            Step::Finish { nth } => {
                if let Some(uid) = self.nth(nth) {
                    let key = PodKey::of(&uid);
                    if self.cluster.is_assumed(key) {
                        assert!(self.cluster.forget(key));
                    } else {
                        let mut object = self.objects[&uid].clone();
                        object["status"] = json!({"phase": "Succeeded"});
                        assert!(
                            self.cluster
                                .observe_pod(&PodInfo::from_object(&object).unwrap())
                        );
                    }
                    self.model.pods.remove(&uid);
                    self.objects.remove(&uid);
                }
            }
        }
        assert_eq!(self.cluster.nodes(), self.model.nodes.len());
        assert_eq!(self.cluster.pods(), self.model.pods.len());
    }

    fn nth(&self, nth: usize) -> Option<String> {
        let count = self.objects.len();
        (count > 0).then(|| self.objects.keys().nth(nth % count).unwrap().clone())
    }

    fn new_pod(&mut self, seed: u64) -> (String, Value) {
        self.born += 1;
        let uid = format!("00000000-0000-4000-8000-{:012x}", self.born);
        let object = pod_object(&uid, seed);
        (uid, object)
    }

    fn place(&mut self, uid: String, node: String, mut object: Value) {
        let pod = ModelPod {
            node: node.clone(),
            real: pod_amounts(&object, false),
            scored: pod_amounts(&object, true),
        };
        object["spec"]["nodeName"] = node.into();
        self.model.pods.insert(uid.clone(), pod);
        self.objects.insert(uid, object);
    }

    fn schedule(&mut self, seed: u64, random: u64) {
        let (uid, object) = self.new_pod(seed);
        let pod = PodInfo::from_object(&object).unwrap();
        let class = self.cluster.class_of(&pod.spec);
        let finding = self.model.find(&object);
        if !finding.narrowed && !finding.conflict {
            let feasible = finding.nodes.values().filter(|n| n.is_ok()).count();
            assert_eq!(self.cluster.feasible(class), Some(feasible));
            for (name, expected) in &finding.nodes {
                let node = self.cluster.node(name).unwrap();
                let explained = self.cluster.explain(class, node).unwrap();
                match expected {
                    Ok(scores) => assert_eq!(explained, Explanation::Feasible(*scores), "{name}"),
                    Err(why) => assert_eq!(explained, Explanation::Rejected(why.clone()), "{name}"),
                }
            }
        }
        let mut dice = Dice(random);
        let picked = self
            .cluster
            .pick(class, pod.pin.as_deref(), &mut || dice.roll(u64::MAX));
        let best = finding.nodes.values().flatten().map(|s| s.total).max();
        match picked {
            Ok(node) => {
                assert!(!finding.conflict);
                let name = self.cluster.node_name(node).unwrap().to_owned();
                let scores = finding.nodes[&name].as_ref().unwrap();
                assert_eq!(Some(scores.total), best, "{name} is not among the best");
                assert!(self.cluster.assume(PodKey::of(&uid), class, node));
                self.place(uid, name, object);
            }
            Err(PickError::Unschedulable(why)) => {
                assert!(
                    finding.conflict || best.is_none(),
                    "{best:?} {}",
                    why.message()
                );
                self.compare_failure(&finding, &why);
            }
            Err(PickError::UnknownClass) => panic!("class just asked for"),
        }
    }

    fn compare_failure(&self, finding: &Finding, why: &Unschedulable) {
        assert_eq!(why.nodes, self.model.nodes.len());
        if finding.conflict {
            assert_eq!(why.contradiction, Some("pod affinity terms conflict"));
            return;
        }
        assert_eq!(why.reasons, self.model.reasons(finding));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_pick_is_what_asking_every_node_gives(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut rig = Rig::new(Config::default());
        for step in &steps {
            rig.run(step);
        }
    }

    /// The same with so little litter allowed that log, states and shapes are tidied all the time.
    #[test]
    fn tidying_changes_no_answer(steps in proptest::collection::vec(step(), 1..120)) {
        let mut rig = Rig::new(Config { litter_max: 1, ..Config::default() });
        for step in &steps {
            rig.run(step);
        }
        let sizes = rig.cluster.sizes();
        prop_assert!(sizes.dead_states <= 2 * (sizes.live_states + 2) * sizes.classes + 2);
    }

    /// The same with limits so tight that classes and indices come and go all the time.
    #[test]
    fn eviction_changes_no_answer(steps in proptest::collection::vec(step(), 1..120)) {
        let mut rig = Rig::new(Config { classes_max: 3, index_entries_max: 6, litter_max: 2, ..Config::default() });
        for step in &steps {
            rig.run(step);
        }
        prop_assert!(rig.cluster.classes() <= 3);
    }
}

//! Holds what a kube-scheduler decided against our core, one operation of a story after the other.
//!
//! A story is what happened to a cluster, an operation a line: nodes, Services, budgets, pods that went, and pods
//! that were decided on, with what was decided. The judge does all of it to a [`Cluster`], compares each decision,
//! and then follows the other scheduler, so that the two never drift apart.
//!
//! | line | means |
//! |---|---|
//! | `{"story": {"weights": {…}}}` | the first line; the rules are those of 1.20 with these weights |
//! | `{"node": …}`, `{"budget": …}` | the object is now so |
//! | `{"node_gone": name}` | a node was deleted, its pods not |
//! | `{"maker": {kind, namespace, name, selector}}` | so are a Service's or a ReplicaSet's selector |
//! | `{"gone": uid}` | a pod was deleted |
//! | `{"pod": …, "outcome": …}` | a pod was decided on |
//! | `{"again": uid, "outcome": …}` | a pod that had others evicted was decided on again |
//!
//! | outcome | means |
//! |---|---|
//! | `{"to", "at"}` | there was one feasible node; it has run since second `at` |
//! | `{"to", "at", "scores"}` | totals of all feasible nodes; `plugins`, where given: weighted scores of each plugin |
//! | `{"nowhere"}` | no node would do, with the message |
//! | `{"nowhere", "evicts"}` | the same, and these pods were evicted for it |
//!
//! Knows nothing of how the story was recorded. Shared with the crate that records (`rivals`).

use placement::{
    Budget, Cluster, Config, Explanation, MakerKind, NodeInfo, PickError, PodInfo, PodKey,
    Preemption, Profile, Scores, Unschedulable, Weights,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use value::{Map, Value};

/// Stands for the present where nothing depends on it.
const NOW_MICROS: i64 = 4_000_000_000_000_000;

/// A pod with a node, and since when.
#[derive(Debug)]
struct Placed {
    object: Value,
    node: String,
    priority: i64,
    at: i64,
}

/// See the module's head.
#[derive(Debug)]
pub struct Judge {
    cluster: Cluster,
    weights: Weights,
    nodes: BTreeSet<String>,
    placed: BTreeMap<String, Placed>,
    waiting: BTreeMap<String, Value>,
    budgets: BTreeMap<String, Value>,
    random: u64,
    /// What was compared.
    pub tally: Tally,
}

/// How much a story says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Pods that found a node.
    pub placed: usize,
    /// Totals of nodes that were compared.
    pub scores: usize,
    /// Pods that did not, and had nobody evicted.
    pub nowhere: usize,
    /// Pods that had others evicted.
    pub evictions: usize,
}

/// What a running pod's status says of its start.
pub fn started(at: i64) -> String {
    format!(
        "2026-01-01T{:02}:{:02}:{:02}Z",
        at / 3600,
        at / 60 % 60,
        at % 60
    )
}

impl Judge {
    /// A judge of the story that begins with this line.
    pub fn new(first: &Value) -> Judge {
        let weight = |name: &str| first["story"]["weights"][name].as_i64().unwrap_or(0);
        let weights = Weights {
            taint: weight("TaintToleration"),
            affinity: weight("NodeAffinity"),
            fit: weight("NodeResourcesLeastAllocated"),
            balanced: weight("NodeResourcesBalancedAllocation"),
            image: weight("ImageLocality"),
            spread: weight("PodTopologySpread"),
            pods: weight("InterPodAffinity"),
            devices: 0,
        };
        let profile = Profile {
            weights: weights.clone(),
            ..Profile::v1_20()
        };
        Judge {
            cluster: Cluster::new(Config {
                profiles: vec![profile],
                ..Config::default()
            }),
            weights,
            nodes: BTreeSet::new(),
            placed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            budgets: BTreeMap::new(),
            random: 1,
            tally: Tally::default(),
        }
    }

    /// Does one operation; says what the two do not agree on.
    pub fn take(&mut self, line: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        if line["node"].is_object() {
            match NodeInfo::from_object(&line["node"]) {
                Ok(node) => {
                    self.cluster.upsert_node(&node);
                    self.nodes.insert(node.name.into());
                }
                Err(error) => wrong.push(error),
            }
        } else if let Some(name) = line["node_gone"].as_str() {
            self.cluster.remove_node(name);
            self.nodes.remove(name);
        } else if line["maker"].is_object() {
            let maker = &line["maker"];
            let kind = match text(&maker["kind"]) {
                "Service" => MakerKind::Service,
                _ => MakerKind::ReplicaSet,
            };
            let (namespace, name) = (text(&maker["namespace"]), text(&maker["name"]));
            self.cluster
                .note_maker(kind, namespace, name, &maker["selector"]);
        } else if line["budget"].is_object() {
            let name = text(&line["budget"]["metadata"]["name"]).to_owned();
            self.cluster
                .upsert_budget(Budget::from_object(&line["budget"]));
            self.budgets.insert(name, line["budget"].clone());
        } else if let Some(uid) = line["gone"].as_str() {
            self.remove(uid);
        } else if line["pod"].is_object() {
            self.decided(line["pod"].clone(), &line["outcome"], &mut wrong);
        } else if let Some(uid) = line["again"].as_str() {
            match self.waiting.remove(uid) {
                Some(pod) => self.decided(pod, &line["outcome"], &mut wrong),
                None => wrong.push(format!("pod {uid} does not wait")),
            }
        } else {
            wrong.push(format!("not understood: {line}"));
        }
        wrong
    }

    fn remove(&mut self, uid: &str) {
        self.waiting.remove(uid);
        self.placed.remove(uid);
        self.cluster.remove_pod(PodKey::of(uid));
    }

    fn decided(&mut self, mut object: Value, outcome: &Value, wrong: &mut Vec<String>) {
        let pod = match read(&object) {
            Ok(pod) => pod,
            Err(error) => return wrong.push(error),
        };
        let begun = wrong.len();
        match outcome["to"].as_str() {
            Some(node) => {
                self.compare_choice(&pod, node, outcome, wrong);
                self.tally.placed += 1;
                let at = outcome["at"].as_i64().unwrap_or(0);
                object["spec"]["nodeName"] = node.into();
                object["status"]["startTime"] = started(at).into();
                self.follow(&pod, &object, node);
                let placed = Placed {
                    priority: object["spec"]["priority"].as_i64().unwrap_or(0),
                    node: node.to_owned(),
                    object,
                    at,
                };
                self.placed.insert(pod.uid.into(), placed);
            }
            None => {
                let victims: BTreeSet<String> = outcome["evicts"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|uid| text(uid).to_owned())
                    .collect();
                self.compare_failure(&pod, text(&outcome["nowhere"]), wrong);
                self.compare_victims(&pod, &object, &victims, wrong);
                if victims.is_empty() {
                    self.tally.nowhere += 1;
                } else {
                    self.tally.evictions += 1;
                    self.waiting.insert(pod.uid.to_string(), object);
                }
                for victim in victims {
                    self.remove(&victim);
                }
            }
        }
        let name = &pod.name;
        for text in wrong.iter_mut().skip(begun) {
            *text = format!("pod {name}: {text}");
        }
    }

    /// As the scheduler does it: assumed first, then seen bound.
    fn follow(&mut self, pod: &PodInfo, object: &Value, node: &str) {
        let class = self.cluster.class_of(&pod.spec);
        if let Some(node) = self.cluster.node(node) {
            self.cluster.assume(PodKey::of(&pod.uid), class, node);
        }
        if let Ok(bound) = read(object) {
            self.cluster.observe_pod(&bound);
        }
    }

    fn dice(&mut self) -> impl FnMut() -> u64 + use<> {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) + 1;
        let mut state = self.random;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        }
    }

    /// What we think of every node.
    fn table(&mut self, pod: &PodInfo) -> BTreeMap<String, Scores> {
        let class = self.cluster.class_of(&pod.spec);
        let mut table = BTreeMap::new();
        for name in &self.nodes {
            if pod.pin.as_ref().is_some_and(|pin| **pin != **name) {
                continue;
            }
            let Some(node) = self.cluster.node(name) else {
                continue;
            };
            if let Some(Explanation::Feasible(scores)) = self.cluster.explain(class, node) {
                table.insert(name.clone(), scores);
            }
        }
        table
    }

    fn compare_choice(
        &mut self,
        pod: &PodInfo,
        node: &str,
        outcome: &Value,
        wrong: &mut Vec<String>,
    ) {
        let ours = self.table(pod);
        let single = Map::from_iter([(node.to_owned(), Value::from(0))]);
        let scored = outcome["scores"].as_object();
        let theirs = scored.unwrap_or(&single);
        for (name, score) in theirs {
            match ours.get(name.as_str()) {
                None => wrong.push(format!("node {name} is feasible there and not here")),
                Some(scores) if scored.is_some() => {
                    self.tally.scores += 1;
                    if Some(scores.total) != score.as_i64() {
                        wrong.push(format!(
                            "node {name} has {score} there and {} here: {scores:?}",
                            scores.total
                        ));
                    }
                }
                Some(_) => {}
            }
        }
        for name in ours.keys().filter(|name| !theirs.contains_key(name)) {
            wrong.push(format!("node {name} is feasible here and not there"));
        }
        self.compare_plugins(&ours, &outcome["plugins"], wrong);

        let score = |name: &str| theirs.get(name).and_then(Value::as_i64);
        let best = theirs.values().filter_map(Value::as_i64).max();
        let class = self.cluster.class_of(&pod.spec);
        let mut dice = self.dice();
        match self.cluster.pick(class, pod.pin.as_deref(), &mut dice) {
            Ok(picked) => {
                let name = self
                    .cluster
                    .node_name(picked)
                    .unwrap_or_default()
                    .to_owned();
                if score(&name) != best {
                    wrong.push(format!(
                        "we pick {name}, with {:?} of {best:?}",
                        score(&name)
                    ));
                }
                if score(node) != best {
                    wrong.push(format!("they picked {node}, which is not their best"));
                }
                let most = ours.values().map(|scores| scores.total).max();
                if ours.get(node).map(|scores| scores.total) != most {
                    wrong.push(format!("they picked {node}, which is not our best"));
                }
                if pod.pin.is_none() && self.cluster.audit(class, picked) != Some(true) {
                    wrong.push(format!("the audit does not like {name}"));
                }
            }
            Err(error) => wrong.push(format!("we find no node: {error:?}")),
        }
    }

    fn compare_plugins(
        &self,
        ours: &BTreeMap<String, Scores>,
        theirs: &Value,
        wrong: &mut Vec<String>,
    ) {
        let weights = &self.weights;
        for (plugin, scores) in theirs.as_object().into_iter().flatten() {
            for (node, score) in scores.as_object().into_iter().flatten() {
                let Some(own) = ours.get(node.as_str()) else {
                    continue;
                };
                let own = match plugin.as_str() {
                    "TaintToleration" => weights.taint * own.taint,
                    "NodeAffinity" => weights.affinity * own.affinity,
                    "NodeResourcesLeastAllocated" => weights.fit * own.fit,
                    "NodeResourcesBalancedAllocation" => weights.balanced * own.balanced,
                    "ImageLocality" => weights.image * own.image,
                    "PodTopologySpread" => weights.spread * own.spread,
                    "InterPodAffinity" => weights.pods * own.pods,
                    other => {
                        wrong.push(format!("plugin {other} is not known here"));
                        return;
                    }
                };
                if Some(own) != score.as_i64() {
                    wrong.push(format!(
                        "{plugin} gives node {node} {score} there and {own} here"
                    ));
                }
            }
        }
    }

    fn compare_failure(&mut self, pod: &PodInfo, message: &str, wrong: &mut Vec<String>) {
        let class = self.cluster.class_of(&pod.spec);
        let mut dice = self.dice();
        let why = match self.cluster.pick(class, pod.pin.as_deref(), &mut dice) {
            Err(PickError::Unschedulable(why)) => why,
            Ok(node) => {
                let name = self.cluster.node_name(node).unwrap_or_default();
                return wrong.push(format!("we pick {name}, they find no node: {message}"));
            }
            Err(error) => return wrong.push(format!("{error:?}")),
        };
        // Later releases do not look at the other nodes when the pod names one.
        if names_nodes(pod) {
            return;
        }
        let (theirs, ours) = (reasons_of(message), own_reasons(&why));
        if theirs != ours {
            wrong.push(format!("no node, for {theirs:?} there and {ours:?} here"));
        }
    }

    // ---- preemption

    fn compare_victims(
        &mut self,
        pod: &PodInfo,
        object: &Value,
        theirs: &BTreeSet<String>,
        wrong: &mut Vec<String>,
    ) {
        let key = PodKey::of(&pod.uid);
        let class = self.cluster.class_of(&pod.spec);
        let mut ours: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for name in self.nodes.clone() {
            if pod.pin.as_ref().is_some_and(|pin| **pin != *name) {
                continue;
            }
            let mut dice = self.dice();
            let found = self
                .cluster
                .preempt(key, class, Some(&name), NOW_MICROS, &mut dice);
            if let Ok(Preemption::Found { victims, .. }) = found {
                ours.insert(name, self.uids(&victims));
            }
        }
        let mut dice = self.dice();
        let own = self
            .cluster
            .preempt(key, class, pod.pin.as_deref(), NOW_MICROS, &mut dice);
        if theirs.is_empty() {
            if !ours.is_empty() {
                wrong.push(format!(
                    "nobody is evicted there, and here {ours:?} could be"
                ));
            }
            if let Ok(Preemption::Found { .. }) = own {
                wrong.push("nobody is evicted there, and somebody here".to_owned());
            }
            return;
        }
        let nodes: BTreeSet<String> = theirs
            .iter()
            .filter_map(|uid| Some(self.placed.get(uid)?.node.clone()))
            .collect();
        let node = match nodes.first() {
            Some(node) if nodes.len() == 1 => node.clone(),
            _ => return wrong.push(format!("victims {theirs:?} are on nodes {nodes:?}")),
        };
        if ours.get(&node) != Some(theirs) {
            let ours = ours.get(&node);
            wrong.push(format!("from {node} go {theirs:?} there and {ours:?} here"));
        }
        let priority = object["spec"]["priority"].as_i64().unwrap_or(0);
        let cost = |node: &str, victims: &BTreeSet<String>, sorted| {
            self.cost(node, victims, priority, sorted)
        };
        let cheapest = |sorted| ours.iter().map(|(n, v)| cost(n, v, sorted)).min();
        if Some(cost(&node, theirs, false)) != cheapest(false) {
            wrong.push(format!("{node} is not the cheapest of {ours:?}"));
        }
        match own {
            Ok(Preemption::Found { node, victims, .. }) => {
                let name = self.cluster.node_name(node).unwrap_or_default();
                let victims = self.uids(&victims);
                if Some(cost(name, &victims, true)) != cheapest(true) {
                    wrong.push(format!("we choose {name}, not the cheapest of {ours:?}"));
                }
            }
            other => wrong.push(format!("they evict {theirs:?}, and we {other:?}")),
        }
    }

    fn uids(&self, keys: &[PodKey]) -> BTreeSet<String> {
        let all = self.placed.keys();
        all.filter(|uid| keys.contains(&PodKey::of(uid)))
            .cloned()
            .collect()
    }

    /// What evicting these costs, less being better. 1.20 takes for the highest priority that of the first victim,
    /// and those whose budgets are violated come first; later releases have them `sorted`.
    fn cost(
        &self,
        node: &str,
        victims: &BTreeSet<String>,
        priority: i64,
        sorted: bool,
    ) -> (usize, i64, i64, usize, Reverse<i64>) {
        let mut lower: Vec<(&String, &Placed)> = self
            .placed
            .iter()
            .filter(|(_, placed)| placed.node == node && placed.priority < priority)
            .collect();
        lower.sort_by_key(|(_, placed)| (Reverse(placed.priority), placed.at));
        let mut left: BTreeMap<&str, i64> = BTreeMap::new();
        let mut violating: BTreeSet<&String> = BTreeSet::new();
        for (uid, placed) in &lower {
            for (name, budget) in &self.budgets {
                if protects(budget, &placed.object) {
                    let allowed = budget["status"]["disruptionsAllowed"].as_i64();
                    let left = left.entry(name).or_insert(allowed.unwrap_or(0));
                    *left -= 1;
                    if *left < 0 {
                        violating.insert(uid);
                    }
                }
            }
        }
        let gone: Vec<(&String, &Placed)> = lower
            .into_iter()
            .filter(|(uid, _)| victims.contains(*uid))
            .collect();
        let violations = gone
            .iter()
            .filter(|(uid, _)| violating.contains(uid))
            .count();
        let highest = gone.iter().map(|(_, placed)| placed.priority).max();
        let first = gone
            .iter()
            .find(|(uid, _)| violating.contains(uid))
            .map(|(_, placed)| placed.priority);
        let counted = first.filter(|_| !sorted).or(highest).unwrap_or(i64::MIN);
        let earliest = gone
            .iter()
            .filter(|(_, placed)| Some(placed.priority) == highest)
            .map(|(_, placed)| placed.at)
            .min();
        let sum = gone.iter().map(|(_, p)| p.priority + (1 << 31)).sum();
        (
            violations,
            counted,
            sum,
            gone.len(),
            Reverse(earliest.unwrap_or(0)),
        )
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// As 1.20 reads a pod: images of init containers do not count.
fn read(object: &Value) -> Result<PodInfo, String> {
    let mut pod = PodInfo::from_object(object)?;
    let init = object["spec"]["initContainers"]
        .as_array()
        .map_or(0, Vec::len);
    pod.spec.images.drain(..init);
    Ok(pod)
}

/// The budgets of stories select by equality.
fn protects(budget: &Value, pod: &Value) -> bool {
    let wanted = budget["spec"]["selector"]["matchLabels"].as_object();
    budget["metadata"]["namespace"] == pod["metadata"]["namespace"]
        && wanted.is_some_and(|wanted| {
            let mut wanted = wanted.iter();
            wanted.all(|(key, value)| pod["metadata"]["labels"][key] == *value)
        })
}

fn names_nodes(pod: &PodInfo) -> bool {
    let mut terms = pod.spec.required.iter().flatten();
    pod.pin.is_some() || terms.any(|term| !term.names.is_empty())
}

/// Nodes by reason, in the words of 1.36, of a message of 1.20.
fn reasons_of(message: &str) -> BTreeMap<String, usize> {
    let list = message.split_once(": ").map_or("", |(_, list)| list);
    // The only comma that does not stand between two reasons.
    let list = list.trim_end_matches('.').replace("}, that", "} that");
    let mut reasons = BTreeMap::new();
    for part in list.split(", ") {
        let Some((nodes, reason)) = part.split_once(' ') else {
            continue;
        };
        let reason = match reason {
            // Said besides a closer reason.
            "node(s) didn't match pod affinity/anti-affinity" => continue,
            "node(s) didn't match Pod's node affinity" => {
                "node(s) didn't match Pod's node affinity/selector"
            }
            taint if taint.starts_with("node(s) had taint {") => "node(s) had untolerated taint(s)",
            other => other,
        };
        *reasons.entry(reason.to_owned()).or_insert(0) += nodes.parse().unwrap_or(0);
    }
    reasons
}

fn own_reasons(why: &Unschedulable) -> BTreeMap<String, usize> {
    why.reasons.iter().cloned().collect()
}

//! The recount: does everything hold that nodes and pods ask for, counted again from their objects by plain scans?
//!
//! Shares no code with the scheduler or its core: it reads the objects' JSON itself, looks at every pod of every node,
//! and knows only rules that must hold (room, ports, taints, node affinity, affinity and anti-affinity between pods,
//! spreading that must be, volumes a node takes), not what would have been better.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use meta::Value;

/// Wrongs that are told by name; the others are counted.
const TOLD_MAX: usize = 3;

/// What does not hold.
#[derive(Debug, Default)]
pub struct Wrongs {
    /// How many.
    pub count: usize,
    /// The first of them.
    pub told: Vec<String>,
}

impl Wrongs {
    /// One more.
    pub fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(what());
        }
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.add(what);
        }
    }
}

struct Node {
    name: String,
    labels: BTreeMap<String, String>,
    taints: Vec<Value>,
    /// By resource, in thousandths.
    allocatable: BTreeMap<String, i128>,
    volumes_max: Option<usize>,
}

/// What pods of one sort say; their names are not looked at.
struct Sort {
    namespace: String,
    labels: BTreeMap<String, String>,
    spec: Value,
    requests: BTreeMap<String, i128>,
}

/// Everything that is counted.
#[derive(Default)]
pub struct Recount {
    nodes: Vec<Node>,
    by_name: HashMap<String, usize>,
    namespaces: HashMap<String, BTreeMap<String, String>>,
    sorts: Vec<Sort>,
    by_text: HashMap<String, usize>,
    /// Sort and node of each pod.
    pods: Vec<(usize, usize)>,
    wrongs: Wrongs,
}

fn strings(map: &Value) -> BTreeMap<String, String> {
    let pairs = map.as_object().into_iter().flatten();
    pairs
        .map(|(key, value)| (key.to_string(), text(value).to_owned()))
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], |list| list.as_slice())
}

fn amounts(map: &Value) -> BTreeMap<String, i128> {
    let pairs = map.as_object().into_iter().flatten();
    pairs
        .filter_map(|(key, value)| Some((key.to_string(), thousandths(text(value))?)))
        .collect()
}

/// A quantity in thousandths; the forms that occur in these cases.
fn thousandths(text: &str) -> Option<i128> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: i128 = digits.parse().ok()?;
    Some(match &text[digits.len()..] {
        "m" => number,
        "" => number * 1_000,
        "k" => number * 1_000_000,
        "Ki" => (number * 1_000) << 10,
        "Mi" => (number * 1_000) << 20,
        "Gi" => (number * 1_000) << 30,
        _ => return None,
    })
}

impl Recount {
    /// A node.
    pub fn node(&mut self, object: &Value) {
        let name = text(&object["metadata"]["name"]).to_owned();
        self.by_name.insert(name.clone(), self.nodes.len());
        self.nodes.push(Node {
            name,
            labels: strings(&object["metadata"]["labels"]),
            taints: items(&object["spec"]["taints"]).to_vec(),
            allocatable: amounts(&object["status"]["allocatable"]),
            volumes_max: None,
        });
    }

    /// A namespace's labels.
    pub fn namespace(&mut self, name: &str, labels: &Value) {
        self.namespaces.insert(name.to_owned(), strings(labels));
    }

    /// How many volumes a node takes.
    pub fn volumes_max(&mut self, node: &str, max: usize) {
        if let Some(node) = self.by_name.get(node).copied() {
            self.nodes[node].volumes_max = Some(max);
        }
    }

    /// The sort of pods that this one is of.
    pub fn sort(&mut self, pod: &Value) -> usize {
        let mut spec = pod["spec"].clone();
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("nodeName");
        }
        let (namespace, labels) = (&pod["metadata"]["namespace"], &pod["metadata"]["labels"]);
        let key = format!("{namespace} {labels} {spec}");
        if let Some(known) = self.by_text.get(&key) {
            return *known;
        }
        let mut requests = BTreeMap::from([("pods".to_owned(), 1_000)]);
        for container in items(&spec["containers"]) {
            for (resource, amount) in amounts(&container["resources"]["requests"]) {
                *requests.entry(resource).or_default() += amount;
            }
        }
        self.sorts.push(Sort {
            namespace: text(namespace).to_owned(),
            labels: strings(labels),
            spec,
            requests,
        });
        self.by_text.insert(key, self.sorts.len() - 1);
        self.sorts.len() - 1
    }

    /// A pod of that sort is on a node.
    pub fn put(&mut self, sort: usize, node: &str) {
        match self.by_name.get(node) {
            Some(node) => self.pods.push((sort, *node)),
            None => self
                .wrongs
                .add(|| format!("a pod is on {node}, which there is not")),
        }
    }

    /// Counts.
    pub fn count(mut self) -> Wrongs {
        let mut wrongs = std::mem::take(&mut self.wrongs);
        self.room(&mut wrongs);
        self.each_pod(&mut wrongs);
        for sort in 0..self.sorts.len() {
            self.company(sort, &mut wrongs);
            self.spreading(sort, &mut wrongs);
        }
        wrongs
    }

    /// No node has more than it has room for, no port twice, and no more volumes than it takes.
    fn room(&self, wrongs: &mut Wrongs) {
        let mut used: Vec<BTreeMap<&str, i128>> = vec![BTreeMap::new(); self.nodes.len()];
        let mut ports: BTreeSet<(usize, i64)> = BTreeSet::new();
        let mut volumes = vec![0; self.nodes.len()];
        for &(sort, node) in &self.pods {
            let sort = &self.sorts[sort];
            for (resource, amount) in &sort.requests {
                *used[node].entry(resource).or_default() += amount;
            }
            for container in items(&sort.spec["containers"]) {
                for port in items(&container["ports"]) {
                    if let Some(port) = port["hostPort"].as_i64().filter(|port| *port > 0) {
                        let name = &self.nodes[node].name;
                        wrongs.check(ports.insert((node, port)), || {
                            format!("port {port} of {name} is taken twice")
                        });
                    }
                }
            }
            let claimed = |volume: &&Value| volume["persistentVolumeClaim"].is_object();
            volumes[node] += items(&sort.spec["volumes"]).iter().filter(claimed).count();
        }
        for (place, node) in self.nodes.iter().enumerate() {
            for (resource, used) in &used[place] {
                let there = node.allocatable.get(*resource).copied().unwrap_or(0);
                wrongs.check(*used <= there, || {
                    format!(
                        "{} has {there} thousandths of {resource}, and {used} are taken",
                        node.name
                    )
                });
            }
            if let Some(max) = node.volumes_max {
                wrongs.check(volumes[place] <= max, || {
                    format!(
                        "{} takes {max} volumes and has {}",
                        node.name, volumes[place]
                    )
                });
            }
        }
    }

    /// Each pod tolerates its node, and is where its node affinity allows; none has a gate.
    fn each_pod(&self, wrongs: &mut Wrongs) {
        for &(sort, node) in &self.pods {
            let (sort, node) = (&self.sorts[sort], &self.nodes[node]);
            wrongs.check(tolerates(&sort.spec, node), || {
                format!("a pod does not tolerate a taint of {}", node.name)
            });
            wrongs.check(likes(&sort.spec, node), || {
                format!("a pod may not be on {} by its node affinity", node.name)
            });
            wrongs.check(items(&sort.spec["schedulingGates"]).is_empty(), || {
                format!("a pod with a gate is on {}", node.name)
            });
        }
    }

    /// Pods that a term means, by the value of its key.
    fn meant(&self, term: &Value, own_namespace: &str) -> (BTreeMap<&str, usize>, usize) {
        let key = text(&term["topologyKey"]);
        let names = items(&term["namespaces"]);
        let by_labels = &term["namespaceSelector"];
        let empty = BTreeMap::new();
        let (mut by_value, mut all) = (BTreeMap::new(), 0);
        for &(other, node) in &self.pods {
            let other = &self.sorts[other];
            let named = names.iter().any(|name| text(name) == other.namespace);
            let of_namespace = self.namespaces.get(&other.namespace).unwrap_or(&empty);
            let labelled = by_labels.is_object() && selects(by_labels, of_namespace);
            let own =
                names.is_empty() && !by_labels.is_object() && other.namespace == own_namespace;
            if (named || labelled || own) && selects(&term["labelSelector"], &other.labels) {
                all += 1;
                if let Some(value) = self.nodes[node].labels.get(key) {
                    *by_value.entry(value.as_str()).or_default() += 1;
                }
            }
        }
        (by_value, all)
    }

    fn of_sort(&self, sort: usize) -> impl Iterator<Item = &Node> {
        let pods = self.pods.iter().filter(move |(of, _)| *of == sort);
        pods.map(|(_, node)| &self.nodes[*node])
    }

    /// Whom pods must have with them, and whom they must not.
    fn company(&self, number: usize, wrongs: &mut Wrongs) {
        let sort = &self.sorts[number];
        let affinity = &sort.spec["affinity"];
        let required = |field: &str| {
            items(&affinity[field]["requiredDuringSchedulingIgnoredDuringExecution"]).to_vec()
        };
        for (field, wanted) in [("podAffinity", true), ("podAntiAffinity", false)] {
            for term in required(field) {
                let (by_value, all) = self.meant(&term, &sort.namespace);
                // A pod does not keep itself company, nor away.
                let itself = usize::from(selects(&term["labelSelector"], &sort.labels));
                for node in self.of_sort(number) {
                    let value = node.labels.get(text(&term["topologyKey"]));
                    let there = value.and_then(|value| by_value.get(value.as_str()));
                    let others = there.copied().unwrap_or(0).saturating_sub(itself);
                    if wanted {
                        let first_of_its_kind = all == itself;
                        let holds = value.is_some() && (others > 0 || first_of_its_kind);
                        wrongs.check(holds, || {
                            format!("a pod on {} is without whom it requires", node.name)
                        });
                    } else {
                        wrongs.check(others == 0, || {
                            format!("{others} pods are with one on {} that bars them", node.name)
                        });
                    }
                }
            }
        }
    }

    /// Where pods must be spread, no domain has too many. Holds at the end if it held for each pod when it came, as
    /// the least of all domains never gets less while none goes.
    fn spreading(&self, number: usize, wrongs: &mut Wrongs) {
        let sort = &self.sorts[number];
        for constraint in items(&sort.spec["topologySpreadConstraints"]) {
            if constraint["whenUnsatisfiable"] != "DoNotSchedule"
                || self.of_sort(number).next().is_none()
            {
                continue;
            }
            let key = text(&constraint["topologyKey"]);
            let mut domains: BTreeMap<&str, i64> = BTreeMap::new();
            for node in &self.nodes {
                let minds_affinity = constraint["nodeAffinityPolicy"] != "Ignore";
                let minds_taints = constraint["nodeTaintsPolicy"] == "Honor";
                let counts = (!minds_affinity || likes(&sort.spec, node))
                    && (!minds_taints || tolerates(&sort.spec, node));
                if let Some(value) = node.labels.get(key).filter(|_| counts) {
                    domains.insert(value, 0);
                }
            }
            for &(other, node) in &self.pods {
                let other = &self.sorts[other];
                let value = self.nodes[node].labels.get(key);
                let domain = value.and_then(|value| domains.get_mut(value.as_str()));
                if other.namespace == sort.namespace
                    && selects(&constraint["labelSelector"], &other.labels)
                    && let Some(count) = domain
                {
                    *count += 1;
                }
            }
            let least = domains.values().min().copied().unwrap_or(0);
            let most = domains.values().max().copied().unwrap_or(0);
            let skew = constraint["maxSkew"].as_i64().unwrap_or(1);
            wrongs.check(most - least <= skew, || {
                format!("{most} pods in one domain of {key} and {least} in another: more than {skew} apart")
            });
        }
    }
}

fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let equal = strings(&selector["matchLabels"]);
    let equals = equal
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    selector.is_object()
        && equals
        && items(&selector["matchExpressions"])
            .iter()
            .all(|requirement| holds(requirement, labels))
}

fn holds(requirement: &Value, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(text(&requirement["key"]));
    let listed = || {
        items(&requirement["values"])
            .iter()
            .any(|one| Some(text(one)) == value.map(String::as_str))
    };
    match text(&requirement["operator"]) {
        "In" => value.is_some() && listed(),
        "NotIn" => value.is_none() || !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

fn tolerates(spec: &Value, node: &Node) -> bool {
    let keeps_away = |taint: &&Value| taint["effect"] != "PreferNoSchedule";
    node.taints.iter().filter(keeps_away).all(|taint| {
        items(&spec["tolerations"]).iter().any(|toleration| {
            let key = text(&toleration["key"]);
            let effect = text(&toleration["effect"]);
            (key.is_empty() || key == text(&taint["key"]))
                && (effect.is_empty() || effect == text(&taint["effect"]))
                && (toleration["operator"] == "Exists"
                    || text(&toleration["value"]) == text(&taint["value"]))
        })
    })
}

/// Node selector and required node affinity.
fn likes(spec: &Value, node: &Node) -> bool {
    let chosen = strings(&spec["nodeSelector"])
        .iter()
        .all(|(key, value)| node.labels.get(key) == Some(value));
    let required =
        &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let name = BTreeMap::from([("metadata.name".to_owned(), node.name.clone())]);
    chosen
        && (!required.is_object()
            || items(&required["nodeSelectorTerms"]).iter().any(|term| {
                items(&term["matchExpressions"])
                    .iter()
                    .all(|requirement| holds(requirement, &node.labels))
                    && items(&term["matchFields"])
                        .iter()
                        .all(|requirement| holds(requirement, &name))
            }))
}

#[cfg(test)]
mod tests {
    use super::super::shapes::{self, Among};
    use super::*;

    fn nodes(count: usize) -> Recount {
        let mut recount = Recount::default();
        for index in 0..count {
            recount.node(&shapes::node_in_zone(index, &["a", "b"]));
        }
        recount
    }

    fn put(recount: &mut Recount, pod: &Value, namespace: &str, nodes: &[usize]) {
        let pod = shapes::admitted(pod.clone(), namespace, "a");
        let sort = recount.sort(&pod);
        for node in nodes {
            recount.put(sort, &fleet::node_name(*node));
        }
    }

    fn told(pods: &[(Value, &str, &[usize])]) -> Vec<String> {
        let mut recount = nodes(3);
        for (pod, namespace, on) in pods {
            put(&mut recount, pod, namespace, on);
        }
        recount.count().told
    }

    #[test]
    fn room_is_what_the_node_says() {
        let full = [0; 40];
        assert!(told(&[(shapes::default_pod(), "default", &full)]).is_empty());
        let said = told(&[(shapes::default_pod(), "default", &[0; 41])]);
        assert_eq!(
            said,
            ["node-0000000 has 4000 thousandths of cpu, and 4100 are taken"]
        );
        let said = told(&[(shapes::with_host_port(), "default", &[1, 1])]);
        assert_eq!(said, ["port 80 of node-0000001 is taken twice"]);
        let said = told(&[(shapes::light_pod(), "default", &[7])]);
        assert_eq!(said, ["a pod is on node-0000007, which there is not"]);
    }

    #[test]
    fn a_pod_that_bars_others_is_heeded_wherever_they_came_from() {
        let bars = shapes::repelling(Among::Two);
        assert!(told(&[(bars.clone(), "sched-0", &[0, 1, 2])]).is_empty());
        assert_eq!(
            told(&[(bars.clone(), "sched-0", &[0, 0])]),
            ["1 pods are with one on node-0000000 that bars them"; 2]
        );
        let barred = shapes::labelled(shapes::default_pod(), "color", "green");
        let said = told(&[
            (bars.clone(), "sched-0", &[0]),
            (barred.clone(), "sched-1", &[0]),
        ]);
        assert_eq!(said, ["1 pods are with one on node-0000000 that bars them"]);
        assert!(told(&[(bars, "sched-0", &[0]), (barred, "elsewhere", &[0])]).is_empty());
    }

    #[test]
    fn company_that_is_required_must_be_there() {
        let together = shapes::attracted(Among::Two);
        // Nodes 0 and 2 are in zone a, node 1 in b.
        assert!(told(&[(together.clone(), "sched-0", &[0, 2, 0])]).is_empty());
        assert!(told(&[(together.clone(), "sched-0", &[1])]).is_empty());
        assert_eq!(
            told(&[(together, "sched-0", &[0, 2, 1])]),
            ["a pod on node-0000001 is without whom it requires"]
        );
    }

    #[test]
    fn pods_are_spread_as_they_must_be() {
        let spread = shapes::spreading(true);
        assert!(told(&[(spread.clone(), "default", &[0, 0, 2, 2, 2])]).is_empty());
        assert_eq!(
            told(&[(spread, "default", &[0, 0, 2, 2, 2, 2])]),
            [
                "6 pods in one domain of topology.kubernetes.io/zone and 0 in another: more than 5 apart"
            ]
        );
    }

    #[test]
    fn nodes_that_a_pod_may_not_be_on_are_known() {
        let mut recount = Recount::default();
        recount.node(&shapes::tainted_node(0));
        recount.node(&shapes::node(1));
        put(&mut recount, &shapes::light_pod(), "default", &[0]);
        put(
            &mut recount,
            &shapes::pinned(&fleet::node_name(1)),
            "default",
            &[1, 0],
        );
        put(
            &mut recount,
            &shapes::gated(shapes::light_pod()),
            "default",
            &[1],
        );
        put(
            &mut recount,
            &shapes::with_claim(shapes::light_pod()),
            "default",
            &[1, 1],
        );
        recount.volumes_max(&fleet::node_name(1), 1);
        let wrongs = recount.count();
        // A taint twice, an affinity, a gate, a volume too many.
        assert_eq!(wrongs.count, 5);
        assert_eq!(wrongs.told[0], "node-0000001 takes 1 volumes and has 2");
        assert_eq!(thousandths("32Gi"), Some(32_000 << 30));
        assert_eq!(thousandths("100m"), Some(100));
        assert_eq!(thousandths("1e3"), None);
    }
}

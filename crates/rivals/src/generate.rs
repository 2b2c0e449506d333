//! Random nodes, pods and what surrounds them, in the vocabulary of Kubernetes 1.20, as an API server of it takes
//! them.
//!
//! Made so that decisions are close: few sizes, few labels, nodes that fill up. Does not know who decides.

pub use chance::Chance as Dice;
use value::{Map, Value, json};

/// Nodes of a story.
pub const NODES: u64 = 20;
/// Namespaces with pods.
pub const NAMESPACES: [&str; 2] = ["default", "shop"];
/// Label that only pods of the ReplicaSet have.
pub const MADE_LABEL: &str = "made";
/// Name of the one ReplicaSet, in `default`.
pub const REPLICA_SET: &str = "rs";

const APPS: &[&str] = &["a", "b", "c"];

/// Small choices, the same for a seed. The factor keeps the stories that seeds stand for what they were when some were recorded.
pub fn dice(seed: u64) -> Dice {
    Dice::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
}

/// Weights of a story: every other has those of later releases.
pub fn weights(seed: u64) -> Value {
    let later = seed.is_multiple_of(2);
    let of = |old: i64, new: i64| if later { new } else { old };
    json!({
        "TaintToleration": of(1, 3),
        "NodeAffinity": of(1, 2),
        "NodeResourcesLeastAllocated": 1,
        "NodeResourcesBalancedAllocation": 1,
        "ImageLocality": 1,
        "PodTopologySpread": 2,
        "InterPodAffinity": of(1, 2),
    })
}

/// Do nodes come and go in a story? Then they have no images, for a kube-scheduler of 1.20 does not count those
/// anew when a node goes.
pub fn nodes_go(seed: u64) -> bool {
    seed.is_multiple_of(3)
}

/// A node as it might be.
pub fn node(id: u64, with_images: bool, dice: &mut Dice) -> Value {
    let name = format!("node-{id}");
    let mut labels = json!({"kubernetes.io/hostname": name});
    if !dice.one_in(8) {
        labels["topology.kubernetes.io/zone"] = dice.pick(&["a", "b", "c"]).into();
    }
    if !dice.one_in(6) {
        labels["rack"] = dice.pick(&["r1", "r2", "r3", "r4", "r5"]).into();
    }
    if dice.one_in(2) {
        labels["disk"] = dice.pick(&["ssd", "hdd"]).into();
    }
    if dice.one_in(2) {
        labels["rank"] = dice.pick(&["1", "5", "9", "x"]).into();
    }
    let mut taints = Vec::new();
    for (key, effect, rarity) in [
        ("dedicated", "NoSchedule", 9),
        ("leaving", "NoExecute", 20),
        ("noisy", "PreferNoSchedule", 3),
        ("old", "PreferNoSchedule", 4),
    ] {
        if dice.one_in(rarity) {
            let value = dice.pick(&["", "x"]);
            taints.push(json!({"key": key, "value": value, "effect": effect}));
        }
    }
    let mut allocatable = json!({
        "cpu": dice.pick(&["1", "2", "2500m", "4"]),
        "memory": dice.pick(&["2Gi", "4Gi", "3000Mi", "8Gi"]),
        "ephemeral-storage": "20Gi",
        "pods": dice.pick(&["4", "8", "12"]),
    });
    if dice.one_in(12) {
        allocatable["cpu"] = "0".into();
    }
    if dice.one_in(3) {
        allocatable["example.com/gpu"] = "2".into();
    }
    let mut status = json!({"allocatable": allocatable});
    if with_images {
        status["images"] = images(id);
    }
    json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"unschedulable": dice.one_in(12), "taints": taints},
        "status": status,
    })
}

/// What stays: a kube-scheduler of 1.20 remembers with each node how many nodes had its images when that node last
/// changed.
fn images(id: u64) -> Value {
    let mut dice = dice(1000 + id);
    let mut images = Vec::new();
    for (name, mebibytes) in [("web:latest", 300), ("db:1", 900), ("tiny:2", 10)] {
        if dice.one_in(2) {
            images.push(
                json!({"names": [name, format!("sha-{name}")], "sizeBytes": mebibytes << 20}),
            );
        }
    }
    images.into()
}

/// The selector of a Service, or (null) no Service.
pub fn service_selector(dice: &mut Dice) -> Value {
    match dice.roll(3) {
        0 => Value::Null,
        1 => json!({"app": dice.pick(APPS)}),
        _ => json!({"tier": "x"}),
    }
}

/// What a disruption budget of `default` protects.
pub fn budget_selector(dice: &mut Dice) -> Value {
    json!({"matchLabels": {"app": dice.pick(APPS)}})
}

fn container(name: &str, dice: &mut Dice, ports: bool) -> Value {
    let mut requests = Map::new();
    if !dice.one_in(4) {
        let cpu = dice.pick(&["0", "50m", "100m", "250m", "400m", "700m"]);
        requests.insert("cpu", cpu.into());
    }
    if !dice.one_in(4) {
        let memory = dice.pick(&["0", "64Mi", "200Mi", "300Mi", "1Gi"]);
        requests.insert("memory", memory.into());
    }
    if dice.one_in(12) {
        let storage = dice.pick(&["1Gi", "6Gi"]);
        requests.insert("ephemeral-storage", storage.into());
    }
    let mut resources = json!({});
    if dice.one_in(16) {
        requests.insert("example.com/gpu", "1".into());
        resources["limits"] = json!({"example.com/gpu": "1"});
    }
    if !requests.is_empty() {
        resources["requests"] = requests.into();
    }
    let image = dice.pick(&["web", "db:1", "tiny:2", "none"]);
    let mut container = json!({"name": name, "image": image, "resources": resources});
    if ports && dice.one_in(6) {
        let mut port = json!({"containerPort": 80, "hostPort": 8000 + dice.roll(2)});
        if dice.one_in(2) {
            port["hostIP"] = dice.pick(&["10.0.0.1", "10.0.0.2"]).into();
        }
        if dice.one_in(4) {
            port["protocol"] = "UDP".into();
        }
        container["ports"] = json!([port]);
    }
    container
}

fn selector(dice: &mut Dice) -> Value {
    match dice.roll(6) {
        0 => json!({}),
        1 => json!({"matchLabels": {"app": dice.pick(APPS), "tier": "x"}}),
        2 => json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}),
        3 => json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}),
        _ => json!({"matchLabels": {"app": dice.pick(APPS)}}),
    }
}

const TOPOLOGIES: &[&str] = &[
    "rack",
    "kubernetes.io/hostname",
    "disk",
    "topology.kubernetes.io/zone",
];

fn pod_term(dice: &mut Dice) -> Value {
    let mut term = json!({"topologyKey": dice.pick(TOPOLOGIES), "labelSelector": selector(dice)});
    match dice.roll(6) {
        0 => term["namespaces"] = json!(["shop"]),
        1 => term["namespaces"] = json!(["default", "shop"]),
        _ => {}
    }
    term
}

fn pod_affinity(dice: &mut Dice) -> Value {
    let mut side = json!({});
    if dice.one_in(5) {
        let terms: Vec<Value> = (0..=dice.roll(2)).map(|_| pod_term(dice)).collect();
        side["requiredDuringSchedulingIgnoredDuringExecution"] = terms.into();
    }
    if dice.one_in(2) {
        let terms: Vec<Value> = (0..=dice.roll(2))
            .map(|_| json!({"weight": 1 + dice.roll(100), "podAffinityTerm": pod_term(dice)}))
            .collect();
        side["preferredDuringSchedulingIgnoredDuringExecution"] = terms.into();
    }
    side
}

/// Constraints, no two of the same key and mode: the API refuses those.
fn constraints(dice: &mut Dice) -> Value {
    let mut constraints: Vec<Value> = Vec::new();
    for _ in 0..=dice.roll(3) {
        let key = dice.pick(TOPOLOGIES);
        let mode = dice.pick(&[
            "DoNotSchedule",
            "ScheduleAnyway",
            "ScheduleAnyway",
            "ScheduleAnyway",
        ]);
        let same = |c: &Value| c["topologyKey"] == key && c["whenUnsatisfiable"] == mode;
        if !constraints.iter().any(same) {
            constraints.push(json!({"topologyKey": key, "whenUnsatisfiable": mode,
                "maxSkew": 1 + dice.roll(3), "labelSelector": selector(dice)}));
        }
    }
    constraints.into()
}

fn node_term(dice: &mut Dice) -> Value {
    let mut expressions = Vec::new();
    for _ in 0..=dice.roll(2) {
        let rack = dice.pick(&["r1", "r2", "r3"]);
        expressions.push(match dice.roll(8) {
            0 => json!({"key": "rack", "operator": "In", "values": [rack, "r4"]}),
            1 => json!({"key": "rack", "operator": "NotIn", "values": [rack]}),
            2 => json!({"key": "disk", "operator": "Exists"}),
            3 => json!({"key": "disk", "operator": "DoesNotExist"}),
            4 => json!({"key": "rank", "operator": "Gt", "values": ["3"]}),
            5 => json!({"key": "rank", "operator": "Lt", "values": ["6"]}),
            6 => json!({"key": "kubernetes.io/hostname", "operator": "NotIn",
                        "values": [format!("node-{}", dice.roll(NODES))]}),
            _ => json!({"key": "disk", "operator": "NotIn", "values": ["ssd"]}),
        });
    }
    json!({"matchExpressions": expressions})
}

fn node_affinity(dice: &mut Dice) -> Value {
    let mut affinity = json!({});
    if dice.one_in(5) {
        let mut terms: Vec<Value> = (0..=dice.roll(3)).map(|_| node_term(dice)).collect();
        if dice.one_in(4) {
            // As the pods of a DaemonSet ask for their node.
            let name = format!("node-{}", dice.roll(NODES));
            terms = vec![json!({"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": [name]}]})];
        }
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] =
            json!({"nodeSelectorTerms": terms});
    }
    if dice.one_in(2) {
        let preferred: Vec<Value> = (0..=dice.roll(3))
            .map(|_| json!({"weight": 1 + dice.roll(40), "preference": node_term(dice)}))
            .collect();
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = preferred.into();
    }
    affinity
}

fn tolerations(dice: &mut Dice) -> Value {
    let mut tolerations = Vec::new();
    if dice.one_in(3) {
        tolerations.push(json!({"key": "dedicated", "operator": "Exists"}));
    }
    if dice.one_in(4) {
        tolerations.push(json!({"key": "noisy", "operator": "Equal", "value": "x",
                                "effect": "PreferNoSchedule"}));
    }
    if dice.one_in(8) {
        tolerations.push(json!({"operator": "Exists"}));
    }
    if dice.one_in(6) {
        tolerations.push(json!({"key": "leaving", "operator": "Equal", "value": "",
                                "effect": "NoExecute"}));
    }
    tolerations.into()
}

/// A pod. `replica_set` is the uid of the one there is.
pub fn pod(name: &str, replica_set: &str, dice: &mut Dice) -> Value {
    let mut containers = vec![container("c0", dice, true)];
    if dice.one_in(3) {
        containers.push(container("c1", dice, false));
    }
    let mut spec = json!({"containers": containers, "terminationGracePeriodSeconds": 0});
    if dice.one_in(6) {
        let init: Vec<Value> = (0..=dice.roll(2))
            .map(|at| container(&format!("i{at}"), dice, false))
            .collect();
        spec["initContainers"] = init.into();
    }
    spec["tolerations"] = tolerations(dice);
    if dice.one_in(14) {
        spec["nodeSelector"] = json!({"rack": dice.pick(&["r1", "r2", "r3"])});
    }
    let mut affinity = json!({});
    if dice.one_in(2) {
        affinity["nodeAffinity"] = node_affinity(dice);
    }
    if dice.one_in(4) {
        affinity["podAffinity"] = pod_affinity(dice);
    }
    if dice.one_in(4) {
        affinity["podAntiAffinity"] = pod_affinity(dice);
    }
    spec["affinity"] = affinity;
    if dice.one_in(3) {
        spec["topologySpreadConstraints"] = constraints(dice);
    }
    spec["priority"] = dice.roll(4).into();
    if dice.one_in(9) {
        spec["preemptionPolicy"] = "Never".into();
    }
    let mut metadata = json!({"name": name, "namespace": dice.pick(&["default", "default", "shop"]),
        "labels": {"app": dice.pick(APPS)}});
    if dice.one_in(3) {
        metadata["labels"]["tier"] = "x".into();
    }
    if metadata["namespace"] == "default" && dice.one_in(4) {
        metadata["labels"][MADE_LABEL] = "yes".into();
        metadata["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "name": REPLICA_SET, "uid": replica_set, "controller": true}]);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

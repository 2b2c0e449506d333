//! Random objects, from a seed each.

use value::{Value, json};

pub use chance::Chance as Dice;

pub const NODES: u64 = 10;

pub fn node_object(id: u64, seed: u64) -> Value {
    let mut dice = Dice::new(seed);
    let name = format!("node-{id}");
    let mut labels = json!({"kubernetes.io/hostname": name, "zone": dice.pick(&["a", "b", "c"])});
    if dice.one_in(2) {
        labels["disk"] = dice.pick(&["ssd", "hdd"]).into();
    }
    if dice.one_in(2) {
        labels["rank"] = dice.pick(&["1", "5", "9", "x"]).into();
    }
    if !dice.one_in(4) {
        labels["topology.kubernetes.io/zone"] = dice.pick(&["a", "b"]).into();
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
    let mut images = Vec::new();
    for (name, bytes) in [("web:latest", 300), ("db:1", 900), ("tiny:2", 10)] {
        if dice.one_in(2) {
            images.push(json!({"names": [name, format!("sha-{name}")], "sizeBytes": bytes << 20}));
        }
    }
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"unschedulable": dice.one_in(8), "taints": taints},
        "status": {"allocatable": allocatable, "images": images},
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
    let mut container = json!({"image": dice.pick(&["web", "db:1", "tiny:2", "none"]),
        "resources": {"requests": requests}});
    if dice.one_in(6) {
        let mut port = json!({"containerPort": 80, "hostPort": 8000 + dice.roll(2)});
        if dice.one_in(2) {
            port["hostIP"] = dice.pick(&["10.0.0.1", "10.0.0.2", "0.0.0.0"]).into();
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

fn topology_key(dice: &mut Dice) -> &'static str {
    [
        "zone",
        "kubernetes.io/hostname",
        "disk",
        "topology.kubernetes.io/zone",
    ][dice.roll(4) as usize]
}

fn pod_term(dice: &mut Dice) -> Value {
    let mut term = json!({"topologyKey": topology_key(dice), "labelSelector": selector(dice)});
    match dice.roll(6) {
        0 => term["namespaceSelector"] = json!({}),
        1 => {
            term["namespaceSelector"] =
                json!({"matchLabels": {"team": dice.pick(&["red", "blue"])}})
        }
        2 => term["namespaces"] = json!(["other"]),
        _ => {}
    }
    if dice.one_in(5) {
        term["matchLabelKeys"] = json!(["tier"]);
    }
    if dice.one_in(8) {
        term["mismatchLabelKeys"] = json!(["app"]);
    }
    term
}

fn pod_affinity(dice: &mut Dice, rarely: usize) -> Value {
    let mut side = json!({});
    if dice.one_in(rarely) {
        let terms: Vec<Value> = (0..=dice.roll(2)).map(|_| pod_term(dice)).collect();
        side["requiredDuringSchedulingIgnoredDuringExecution"] = terms.into();
    }
    if dice.one_in(3) {
        let terms: Vec<Value> = (0..=dice.roll(2))
            .map(|_| json!({"weight": 1 + dice.roll(100), "podAffinityTerm": pod_term(dice)}))
            .collect();
        side["preferredDuringSchedulingIgnoredDuringExecution"] = terms.into();
    }
    side
}

fn constraint(dice: &mut Dice) -> Value {
    let mut constraint = json!({
        "topologyKey": topology_key(dice),
        "maxSkew": 1 + dice.roll(2),
        "whenUnsatisfiable": dice.pick(&["DoNotSchedule", "ScheduleAnyway"]),
        "labelSelector": selector(dice),
    });
    if constraint["whenUnsatisfiable"] == "DoNotSchedule" && dice.one_in(3) {
        constraint["minDomains"] = (1 + dice.roll(3)).into();
    }
    if dice.one_in(3) {
        constraint["nodeAffinityPolicy"] = dice.pick(&["Honor", "Ignore"]).into();
    }
    if dice.one_in(3) {
        constraint["nodeTaintsPolicy"] = dice.pick(&["Honor", "Ignore"]).into();
    }
    if dice.one_in(4) {
        constraint["matchLabelKeys"] = json!(["tier", "absent"]);
    }
    constraint
}

const APPS: &[&str] = &["a", "b", "c"];
pub const NAMESPACES: [&str; 2] = ["default", "other"];

/// A disruption budget of the namespace `default`.
pub fn budget_object(which: usize, seed: u64, disrupted: Option<&str>) -> Value {
    let mut dice = Dice::new(seed);
    let mut budget = json!({
        "metadata": {"namespace": "default", "name": format!("budget-{which}")},
        "spec": {"selector": selector(&mut dice)},
        "status": {"disruptionsAllowed": dice.roll(3)},
    });
    if let Some(name) = disrupted {
        budget["status"]["disruptedPods"] = json!({name: "2026-01-01T00:00:00Z"});
    }
    budget
}

pub fn namespace_labels(seed: u64) -> Value {
    let mut dice = Dice::new(seed);
    match dice.roll(3) {
        0 => json!({}),
        _ => json!({"team": dice.pick(&["red", "blue"])}),
    }
}

/// The selector of a Service, or none.
pub fn service_selector(seed: u64) -> Value {
    let mut dice = Dice::new(seed);
    match dice.roll(3) {
        0 => Value::Null,
        1 => json!({"app": dice.pick(APPS)}),
        _ => json!({"tier": "x"}),
    }
}

/// The selector of a ReplicaSet, or none.
pub fn replica_set_selector(seed: u64) -> Value {
    let mut dice = Dice::new(seed);
    match dice.roll(3) {
        0 => Value::Null,
        1 => json!({"matchLabels": {"app": "a"}}),
        _ => json!({"matchLabels": {"app": "a"},
            "matchExpressions": [{"key": "tier", "operator": "Exists"}]}),
    }
}

/// Extended resources of a pod that devices stand for.
pub fn delegated(pod: &Value) -> Vec<Box<str>> {
    let named = pod["metadata"]["annotations"]["delegated"].as_str();
    named.into_iter().map(Into::into).collect()
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

pub fn pod_object(uid: &str, seed: u64) -> Value {
    let mut dice = Dice::new(seed);
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
    let mut labels = json!({"app": dice.pick(APPS)});
    if dice.one_in(3) {
        labels["tier"] = "x".into();
    }
    let mut metadata = json!({"name": uid, "uid": uid, "labels": labels,
        "namespace": dice.pick(&["default", "default", "other"])});
    if dice.one_in(4) {
        spec["affinity"]["podAffinity"] = pod_affinity(&mut dice, 2);
    }
    if dice.one_in(4) {
        spec["affinity"]["podAntiAffinity"] = pod_affinity(&mut dice, 2);
    }
    if dice.one_in(3) {
        let constraints: Vec<Value> = (0..=dice.roll(3)).map(|_| constraint(&mut dice)).collect();
        spec["topologySpreadConstraints"] = constraints.into();
    }
    if !dice.one_in(3) {
        spec["priority"] = dice.roll(3).into();
    }
    if dice.one_in(9) {
        spec["preemptionPolicy"] = "Never".into();
    }
    if dice.one_in(3) {
        metadata["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "name": "rs", "uid": "rs", "controller": true}]);
    }
    if dice.one_in(2) {
        spec["volumes"] = crate::storage::pod_volumes(&mut dice);
    }
    if dice.one_in(3) {
        metadata["annotations"] = json!({"delegated": "example.com/gpu"});
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

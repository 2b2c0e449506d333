//! Nodes, pods and what stands beside them, in the shapes that upstream's benchmark of the scheduler gives them.
//!
//! Single objects only: how many there are of each, and when they come, is `cases.rs`'s.

use meta::Value;
use value::json;

use crate::workload::Digits;

pub const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// The class that pods of high priority name, and its value.
pub const HIGH_PRIORITY: (&str, i32) = ("bench-high", 10);
/// What upstream's namespaces with labels are labelled with.
pub const TEAM: (&str, &str) = ("team", "devops");
const EBS_DRIVER: &str = "ebs.csi.aws.com";
/// Volumes of that driver a node takes.
pub const EBS_LIMIT: usize = 39;

/// A Ready node of 4 cores, 32 GiB and room for 110 pods.
pub fn node(index: usize) -> Value {
    let name = fleet::node_name(index);
    let room = json!({"cpu": "4", "memory": "32Gi", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {HOSTNAME: name}},
        "spec": {},
        "status": {
            "capacity": room, "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    })
}

/// The same in one of these zones, in turn.
pub fn node_in_zone(index: usize, zones: &[&str]) -> Value {
    let mut node = node(index);
    let zone = zones.get(index % zones.len().max(1));
    node["metadata"]["labels"][ZONE] = zone.copied().unwrap_or_default().into();
    node
}

/// The same with another amount of a resource.
pub fn node_with(index: usize, resource: &str, amount: &str) -> Value {
    let mut node = node(index);
    for list in ["capacity", "allocatable"] {
        node["status"][list][resource] = amount.into();
    }
    node
}

/// The same with a taint that no pod here tolerates.
pub fn tainted_node(index: usize) -> Value {
    let mut node = node(index);
    node["spec"]["taints"] = json!([{"key": "foo", "value": "", "effect": "NoSchedule"}]);
    node
}

/// How many volumes a node takes of the driver that serves AWS disks; `migrated`: in place of the built-in plugin.
pub fn csi_node(index: usize, migrated: bool) -> Value {
    let name = fleet::node_name(index);
    let mut object = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": name},
        "spec": {"drivers": [{"name": EBS_DRIVER, "nodeID": name, "allocatable": {"count": EBS_LIMIT}}]},
    });
    if migrated {
        object["metadata"]["annotations"] =
            json!({"storage.alpha.kubernetes.io/migrated-plugins": "kubernetes.io/aws-ebs"});
    }
    object
}

/// A pod that asks for nothing.
pub fn light_pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": Digits::name(0), "labels": {}},
        "spec": {
            "containers": [{"name": "pause", "image": "registry.k8s.io/pause:3.10"}],
            "terminationGracePeriodSeconds": 0,
        },
    })
}

/// A pod that asks for so much, as upstream's do: 100m and 500Mi most of them.
pub fn pod_of(cpu: &str, memory: &str) -> Value {
    let mut pod = light_pod();
    let amounts = json!({"cpu": cpu, "memory": memory});
    pod["spec"]["containers"][0]["resources"] = json!({"requests": amounts, "limits": amounts});
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    pod
}

/// The pod that most cases are made of.
pub fn default_pod() -> Value {
    pod_of("100m", "500Mi")
}

pub fn labelled(mut pod: Value, key: &str, value: &str) -> Value {
    pod["metadata"]["labels"][key] = value.into();
    pod
}

/// A pod with this in its spec.
pub fn with(mut pod: Value, field: &str, value: Value) -> Value {
    pod["spec"][field] = value;
    pod
}

pub fn high_priority(cpu: &str) -> Value {
    with(
        pod_of(cpu, "500Mi"),
        "priorityClassName",
        HIGH_PRIORITY.0.into(),
    )
}

pub fn gated(pod: Value) -> Value {
    with(
        pod,
        "schedulingGates",
        json!([{"name": "scheduling-gate-1"}]),
    )
}

/// Where the pods are that a term is about.
#[derive(Clone, Copy)]
pub enum Among {
    /// In upstream's two namespaces.
    Two,
    /// In namespaces of a team.
    Team,
}

/// A term about pods of a colour.
fn term(colour: &str, key: &str, among: Among) -> Value {
    let mut term = json!({"labelSelector": {"matchLabels": {"color": colour}}, "topologyKey": key});
    match among {
        Among::Two => term["namespaces"] = json!(["sched-1", "sched-0"]),
        Among::Team => term["namespaceSelector"] = json!({"matchLabels": {TEAM.0: TEAM.1}}),
    }
    term
}

/// One at most on a node.
pub fn repelling(among: Among) -> Value {
    let term = term("green", HOSTNAME, among);
    let affinity =
        json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    labelled(with(default_pod(), "affinity", affinity), "color", "green")
}

/// All in one zone.
pub fn attracted(among: Among) -> Value {
    let term = term("blue", ZONE, among);
    let affinity =
        json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    labelled(with(default_pod(), "affinity", affinity), "color", "blue")
}

/// Rather together on a node, or rather apart.
pub fn preferring(together: bool, among: Among) -> Value {
    let (field, colour) = if together {
        ("podAffinity", "red")
    } else {
        ("podAntiAffinity", "yellow")
    };
    let preferred = json!([{"weight": 1, "podAffinityTerm": term(colour, HOSTNAME, among)}]);
    let affinity = json!({field: {"preferredDuringSchedulingIgnoredDuringExecution": preferred}});
    labelled(with(default_pod(), "affinity", affinity), "color", colour)
}

/// On nodes of two zones, of which there is one.
pub fn choosy() -> Value {
    let wanted = json!({"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["zone1", "zone2"]}]});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [wanted]}}});
    with(default_pod(), "affinity", affinity)
}

/// On the one node of that name, as a DaemonSet's pods are.
pub fn pinned(node: &str) -> Value {
    let wanted =
        json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]});
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [wanted]}}});
    with(light_pod(), "affinity", affinity)
}

/// Spread over zones, if it must be so or if it can.
pub fn spreading(must: bool) -> Value {
    let constraint = json!([{
        "maxSkew": 5, "topologyKey": ZONE,
        "whenUnsatisfiable": if must { "DoNotSchedule" } else { "ScheduleAnyway" },
        "labelSelector": {"matchLabels": {"color": "blue"}},
    }]);
    let pod = with(default_pod(), "topologySpreadConstraints", constraint);
    labelled(pod, "color", "blue")
}

/// Spread over nodes, of which those with taints do not count.
pub fn spreading_where_it_may_go() -> Value {
    let constraint = json!([{
        "maxSkew": 1, "topologyKey": HOSTNAME, "whenUnsatisfiable": "DoNotSchedule",
        "nodeAffinityPolicy": "Honor", "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": {"foo": "bar"}},
    }]);
    let pod = with(default_pod(), "topologySpreadConstraints", constraint);
    labelled(pod, "foo", "bar")
}

/// With affinity to pods on its own node, of which it is one.
pub fn gated_and_attracted() -> Value {
    let term = json!({"labelSelector": {"matchLabels": {"app": "scheduler-perf"}}, "topologyKey": HOSTNAME});
    let affinity =
        json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    let pod = labelled(light_pod(), "app", "scheduler-perf");
    gated(with(pod, "affinity", affinity))
}

pub fn with_secret() -> Value {
    let volume = json!([{"name": "secret", "secret": {"secretName": "secret"}}]);
    with(default_pod(), "volumes", volume)
}

/// With the claim that is called as the pod is.
pub fn with_claim(pod: Value) -> Value {
    let volume = json!([{"name": "vol", "persistentVolumeClaim": {"claimName": Digits::name(0)}}]);
    with(pod, "volumes", volume)
}

/// The port 80 of its node is its own.
pub fn with_host_port() -> Value {
    let mut pod = default_pod();
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
    pod
}

/// A Service for pods that are labelled so.
pub fn service(name: &str, key: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {key: value}, "ports": [{"protocol": "TCP", "port": 80, "targetPort": 80}]},
    })
}

/// What serves a volume.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// The built-in plugin for AWS.
    Aws,
    /// Its CSI driver.
    Csi,
}

/// A volume and the claim that has it, both for the pod of that name.
pub fn volume_and_claim(disk: Disk, pod: &str, namespace: &str) -> (Value, Value) {
    let volume = format!("pv-{pod}");
    let room = json!({"storage": "1Gi"});
    let mut object = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume},
        "spec": {
            "accessModes": ["ReadOnlyMany"], "capacity": room, "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": pod},
        },
        "status": {"phase": "Bound"},
    });
    match disk {
        Disk::Aws => object["spec"]["awsElasticBlockStore"] = json!({"volumeID": volume}),
        Disk::Csi => {
            object["spec"]["csi"] = json!({"driver": EBS_DRIVER, "volumeHandle": volume});
        }
    }
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": pod, "namespace": namespace,
            "annotations": {placement::BIND_COMPLETED: "true"},
        },
        "spec": {
            "accessModes": ["ReadOnlyMany"], "resources": {"requests": room}, "volumeName": volume,
            "storageClassName": "",
        },
        "status": {"phase": "Bound", "accessModes": ["ReadOnlyMany"], "capacity": room},
    });
    (object, claim)
}

/// A pod as admission completes it, under its name: what the core is given where there is no API server.
pub fn admitted(mut pod: Value, namespace: &str, name: &str) -> Value {
    rename(&mut pod, name);
    pod["metadata"]["namespace"] = namespace.into();
    pod["metadata"]["uid"] = name.into();
    pod["spec"]["tolerations"] = crate::schedule_core::default_tolerations();
    if pod["spec"]["priorityClassName"] == HIGH_PRIORITY.0 {
        pod["spec"]["priority"] = HIGH_PRIORITY.1.into();
    }
    pod
}

/// Gives a pod, and the claim it has if any, another name than that of its place 0.
pub fn rename(pod: &mut Value, name: &str) {
    pod["metadata"]["name"] = name.into();
    let volumes = pod["spec"]["volumes"].as_array_mut();
    for volume in volumes.into_iter().flatten() {
        if let Some(claim) = volume.get_mut("persistentVolumeClaim") {
            claim["claimName"] = name.into();
        }
    }
}

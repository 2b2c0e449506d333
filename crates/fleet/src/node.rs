//! What a simulated node looks like: its name, its Node object.

use meta::Value;
use value::json;

use crate::layout::{Layout, NodeShape, Place, RACK_LABEL, Taint};

/// The release whose kubelet the nodes say they run.
const KUBELET_VERSION: &str = "v1.36.0";

/// The name of the node at a place in the fleet.
#[must_use]
pub fn node_name(index: usize) -> String {
    format!("node-{index:07}")
}

/// The place in the fleet of a node name.
pub(crate) fn node_index(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("node-")?;
    (digits.len() >= 7).then(|| digits.parse().ok())?
}

/// The address of a node, out of 100.64.0.0/10 (RFC 6598): room for four million.
pub(crate) fn node_address(index: usize) -> String {
    let number = 0x6440_0000_u32 | (u32::try_from(index + 1).unwrap_or(u32::MAX) & 0x003f_ffff);
    std::net::Ipv4Addr::from(number).to_string()
}

pub(crate) fn csi_node_id(name: &str) -> String {
    format!("{{\"disk.simulated.example\":\"{name}\"}}")
}

pub(crate) fn provider_id(zone: &str, name: &str) -> String {
    format!("megaplane://{zone}/{name}")
}

pub(crate) fn internal_dns(name: &str, region: &str) -> String {
    format!("{name}.{region}.simulated.example")
}

pub(crate) fn machine_id(index: usize) -> String {
    format!("{index:032x}")
}

pub(crate) fn system_uuid(index: usize) -> String {
    format!("00000000-0000-4000-8000-{index:012x}")
}

/// Another one after each of the node's starts.
pub(crate) fn boot_id(index: usize, boots: u8) -> String {
    format!("00000000-0000-4000-9{boots:03x}-{index:012x}")
}

/// The Node object of a shape at a place of the default layout.
#[must_use]
pub fn node_object(index: usize, shape: &NodeShape, now_micros: i64) -> Value {
    let layout = Layout::default();
    let place = Place {
        shape,
        ..layout.place(index)
    };
    object_at(index, &place, 0, now_micros)
}

/// The Node object that a node registers with.
pub(crate) fn object_at(index: usize, place: &Place<'_>, boots: u8, now_micros: i64) -> Value {
    let name = node_name(index);
    let shape = place.shape;
    let mut labels = json!({
        "beta.kubernetes.io/arch": shape.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": shape.architecture,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": shape.instance_type(),
        "topology.kubernetes.io/region": place.region,
        "topology.kubernetes.io/zone": place.zone,
        "type": "megaplane-simulated",
    });
    if let Some(rack) = place.rack_name() {
        labels[RACK_LABEL] = rack.into();
    }
    for (key, value) in &shape.labels {
        labels[key.as_str()] = value.as_str().into();
    }
    let mut annotations = json!({
        "node.alpha.kubernetes.io/ttl": "0",
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
        "csi.volume.kubernetes.io/nodeid": csi_node_id(&name),
    });
    for (key, value) in &shape.annotations {
        annotations[key.as_str()] = value.as_str().into();
    }
    let mut spec = json!({"providerID": provider_id(place.zone, &name)});
    if !shape.taints.is_empty() {
        let taint = |taint: &Taint| {
            let mut object = json!({"key": taint.key, "effect": taint.effect});
            if !taint.value.is_empty() {
                object["value"] = taint.value.as_str().into();
            }
            object
        };
        spec["taints"] = shape.taints.iter().map(taint).collect();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": spec,
        "status": status_at(index, place, boots, now_micros),
    })
}

/// The status of a healthy node that was started `boots` times more.
pub(crate) fn status_at(index: usize, place: &Place<'_>, boots: u8, now_micros: i64) -> Value {
    let shape = place.shape;
    let resources = |reserved_cores: u32, reserved_gib: u32| {
        let mut resources = json!({
            "cpu": shape.cpu_cores.saturating_sub(reserved_cores).to_string(),
            "ephemeral-storage": format!("{}Gi", shape.disk_gib),
            "hugepages-1Gi": "0",
            "hugepages-2Mi": "0",
            "memory": format!("{}Gi", shape.memory_gib.saturating_sub(reserved_gib)),
            "pods": shape.pods.to_string(),
        });
        for (name, count) in &shape.resources {
            resources[name.as_str()] = count.to_string().into();
        }
        resources
    };
    let images = shape
        .images
        .iter()
        .map(|image| json!({"names": image.names, "sizeBytes": image.bytes}))
        .collect::<Value>();
    json!({
        "capacity": resources(0, 0),
        "allocatable": resources(shape.reserved_cpu_cores, shape.reserved_memory_gib),
        "conditions": conditions(now_micros),
        "addresses": [
            {"type": "InternalIP", "address": node_address(index)},
            {"type": "InternalDNS", "address": internal_dns(&node_name(index), place.region)},
            {"type": "Hostname", "address": node_name(index)},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "images": images,
        "nodeInfo": {
            "machineID": machine_id(index),
            "systemUUID": system_uuid(index),
            "bootID": boot_id(index, boots),
            "kernelVersion": "6.12.0-simulated",
            "osImage": "Megaplane simulated node",
            "containerRuntimeVersion": "simulated://1.0",
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": shape.architecture,
        },
    })
}

/// The conditions of a healthy node: type, status, reason, message.
pub(crate) const HEALTHY: [[&str; 4]; 4] = [
    [
        "MemoryPressure",
        "False",
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
    ],
    [
        "DiskPressure",
        "False",
        "KubeletHasNoDiskPressure",
        "kubelet has no disk pressure",
    ],
    [
        "PIDPressure",
        "False",
        "KubeletHasSufficientPID",
        "kubelet has sufficient PID available",
    ],
    [
        "Ready",
        "True",
        "KubeletReady",
        "kubelet is posting ready status",
    ],
];

/// The four conditions a kubelet posts.
pub(crate) fn conditions(now_micros: i64) -> Value {
    let now = meta::time::format_seconds(now_micros);
    HEALTHY
        .iter()
        .map(|[kind, status, reason, message]| {
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                   "lastHeartbeatTime": now, "lastTransitionTime": now})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places_belong_together() {
        assert_eq!(node_name(42), "node-0000042");
        assert_eq!(node_index("node-0000042"), Some(42));
        assert_eq!(node_index("node-12345678"), Some(12_345_678));
        for foreign in ["node-1", "node-", "worker-0000001", "node-00000x1"] {
            assert_eq!(node_index(foreign), None, "{foreign}");
        }
    }

    /// What the store holds of a node after its first status: the size that all figures of a million nodes are about.
    #[test]
    fn a_node_is_stored_in_about_2600_bytes() {
        let mut node = node_object(123_456, &NodeShape::default(), 1_700_000_000_000_000);
        node["metadata"]["uid"] = "0a1b2c3d-0000-4abc-8def-001122334455".into();
        node["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        let nodes = crate::resource("", "nodes");
        let mut bytes = Vec::new();
        schema::encode_protobuf(nodes.type_id, &node, &mut bytes).unwrap();
        assert!((2_450..2_750).contains(&bytes.len()), "{}", bytes.len());
    }

    #[test]
    fn a_shape_is_told_by_its_node() {
        let shape = NodeShape {
            name: "gpu".into(),
            reserved_cpu_cores: 2,
            resources: [("nvidia.com/gpu".to_owned(), 8)].into(),
            labels: [("pool".to_owned(), "gpu".to_owned())].into(),
            taints: vec![Taint {
                key: "gpu".into(),
                value: String::new(),
                effect: "NoSchedule".into(),
            }],
            ..NodeShape::default()
        };
        let node = node_object(31, &shape, 0);
        assert_eq!(node["metadata"]["labels"]["pool"], "gpu");
        assert_eq!(
            node["metadata"]["labels"]["topology.kubernetes.io/zone"],
            "zone-b"
        );
        assert_eq!(node["metadata"]["labels"]["megaplane/rack"], "zone-b-r0");
        assert_eq!(
            node["metadata"]["labels"]["node.kubernetes.io/instance-type"],
            "gpu"
        );
        assert_eq!(
            node["spec"]["taints"],
            json!([{"key": "gpu", "effect": "NoSchedule"}])
        );
        assert_eq!(node["status"]["capacity"]["cpu"], "32");
        assert_eq!(node["status"]["allocatable"]["cpu"], "30");
        assert_eq!(node["status"]["allocatable"]["nvidia.com/gpu"], "8");
    }

    #[test]
    fn a_million_nodes_have_different_addresses() {
        assert_eq!(node_address(0), "100.64.0.1");
        assert_eq!(node_address(255), "100.64.1.0");
        assert_ne!(node_address(999_999), node_address(0));
    }
}

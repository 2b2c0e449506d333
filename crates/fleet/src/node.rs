//! What a simulated node looks like: its name, its Node object, its Lease object.

use meta::Value;
use serde_json::json;

/// Size and spread of the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeShape {
    /// Cores of a node.
    pub cpu_cores: u32,
    /// Memory of a node, in GiB.
    pub memory_gib: u32,
    /// Pods a node takes.
    pub pods: u32,
    /// Zones that the nodes are dealt out to in turn.
    pub zones: usize,
}

impl Default for NodeShape {
    fn default() -> NodeShape {
        NodeShape {
            cpu_cores: 32,
            memory_gib: 256,
            pods: 110,
            zones: 3,
        }
    }
}

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

/// The Node object that a node registers with.
#[must_use]
pub fn node_object(index: usize, shape: &NodeShape, now_micros: i64) -> Value {
    let name = node_name(index);
    let zone = format!(
        "zone-{}",
        char::from(b'a' + u8::try_from(index % shape.zones.clamp(1, 26)).unwrap_or(0))
    );
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "beta.kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "node.kubernetes.io/instance-type": format!("simulated.{}x{}", shape.cpu_cores, shape.memory_gib),
                "topology.kubernetes.io/region": "region-1",
                "topology.kubernetes.io/zone": zone,
                "type": "megaplane-simulated",
            },
            "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
        },
        "spec": {"providerID": format!("megaplane://{name}")},
        "status": node_status(index, shape, now_micros),
    })
}

/// The status of a healthy node.
pub(crate) fn node_status(index: usize, shape: &NodeShape, now_micros: i64) -> Value {
    let resources = json!({
        "cpu": shape.cpu_cores.to_string(),
        "ephemeral-storage": "512Gi",
        "hugepages-2Mi": "0",
        "memory": format!("{}Gi", shape.memory_gib),
        "pods": shape.pods.to_string(),
    });
    json!({
        "capacity": resources,
        "allocatable": resources,
        "conditions": conditions(now_micros),
        "addresses": [
            {"type": "InternalIP", "address": node_address(index)},
            {"type": "Hostname", "address": node_name(index)},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": {
            "machineID": format!("{index:032x}"),
            "systemUUID": format!("00000000-0000-4000-8000-{index:012x}"),
            "bootID": format!("00000000-0000-4000-9000-{index:012x}"),
            "kernelVersion": "6.12.0-simulated",
            "osImage": "Megaplane simulated node",
            "containerRuntimeVersion": "simulated://1.0",
            "kubeletVersion": "v1.36.0",
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": "amd64",
        },
    })
}

/// The four conditions a kubelet posts.
pub(crate) fn conditions(now_micros: i64) -> Value {
    let now = meta::time::format_seconds(now_micros);
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
               "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    json!([
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available"
        ),
        condition(
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure"
        ),
        condition(
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available"
        ),
        condition(
            "Ready",
            "True",
            "KubeletReady",
            "kubelet is posting ready status"
        ),
    ])
}

/// A node's Lease as the kubelet writes it. `resource_version` is empty for the first one.
pub(crate) fn lease_object(
    index: usize,
    uid: &str,
    duration_seconds: i64,
    now_micros: i64,
    resource_version: &str,
) -> Value {
    let name = node_name(index);
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": "kube-node-lease",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}],
        },
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": duration_seconds,
            "renewTime": meta::time::format_micros(now_micros),
        },
    });
    if !resource_version.is_empty() {
        lease["metadata"]["resourceVersion"] = resource_version.into();
    }
    lease
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

    #[test]
    fn a_million_nodes_have_different_addresses() {
        assert_eq!(node_address(0), "100.64.0.1");
        assert_eq!(node_address(255), "100.64.1.0");
        assert_ne!(node_address(999_999), node_address(0));
    }
}

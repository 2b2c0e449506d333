//! Nodes: taken out, tainted, drained, described.

use value::json;

use crate::support::{Plane, assert_has, eventually};

fn pod(name: &str, node: &str, tolerations: &value::Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "place"},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "tolerations": tolerations,
            "containers": [{"name": "c", "image": "nginx:1.27"}],
        },
    })
    .to_string()
}

/// Waits until the scheduler has said why it cannot place a pod.
fn is_unschedulable(plane: &Plane, namespace: &str, name: &str) -> String {
    eventually("the pod is called unschedulable", || {
        let pod = plane
            .kubectl(&format!("get pod {name} -n {namespace} -o json"))
            .json();
        let conditions = pod["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let why = conditions
            .iter()
            .find(|c| c["type"] == "PodScheduled" && c["status"] == "False");
        match why {
            Some(why) if why["reason"] == "Unschedulable" => {
                assert!(pod["spec"]["nodeName"].is_null(), "{pod}");
                assert_eq!(pod["status"]["phase"], "Pending");
                Ok(why["message"].as_str().unwrap_or_default().to_owned())
            }
            _ => Err(pod["status"].to_string()),
        }
    })
}

fn runs_on(plane: &Plane, namespace: &str, name: &str, node: &str) {
    let line = format!(
        "wait --for=jsonpath='{{.status.phase}}'=Running pod/{name} -n {namespace} --timeout=60s"
    );
    plane.kubectl(&line).ok();
    let at = plane
        .kubectl(&format!(
            "get pod {name} -n {namespace} -o jsonpath={{.spec.nodeName}}"
        ))
        .ok();
    assert_eq!(at, node);
}

pub(crate) fn a_cordoned_node_gets_no_pods(plane: &Plane) {
    let node = "node-0000001";
    plane.kubectl("create namespace cordon").ok();
    assert_eq!(
        plane.kubectl(&format!("cordon {node}")).ok(),
        format!("node/{node} cordoned\n")
    );
    assert_has(
        &plane.kubectl(&format!("get node {node}")).ok(),
        &["Ready,SchedulingDisabled"],
    );
    let listed = plane
        .kubectl("get nodes --field-selector spec.unschedulable=true -o name")
        .ok();
    assert_has(&listed, &[node]);
    plane.apply(&pod("waits", node, &json!([])).replace("\"place\"", "\"cordon\""));
    let why = is_unschedulable(plane, "cordon", "waits");
    assert_has(&why, &[&format!("0/{} nodes are available", plane.nodes())]);
    // Back in service: the pod that waited gets its place.
    plane.kubectl(&format!("uncordon {node}")).ok();
    runs_on(plane, "cordon", "waits", node);
    plane.kubectl("delete namespace cordon --wait=false").ok();
}

pub(crate) fn taints_and_drain_move_pods(plane: &Plane) {
    let node = "node-0000002";
    plane.kubectl("create namespace place").ok();
    plane
        .kubectl(&format!("taint node {node} dedicated=place:NoSchedule"))
        .ok();
    plane.apply(&pod("stranger", node, &json!([])));
    let toleration = json!([{"key": "dedicated", "operator": "Equal", "value": "place", "effect": "NoSchedule"}]);
    plane.apply(&pod("guest", node, &toleration));
    runs_on(plane, "place", "guest", node);
    assert_has(
        &is_unschedulable(plane, "place", "stranger"),
        &["untolerated taint"],
    );
    plane.kubectl(&format!("taint node {node} dedicated-")).ok();
    runs_on(plane, "place", "stranger", node);

    // A pod that asks for more than any node has waits and says for what.
    let huge = pod("huge", node, &json!([])).replace(
        "\"nginx:1.27\"",
        "\"nginx:1.27\",\"resources\":{\"requests\":{\"cpu\":\"1000\"}}",
    );
    plane.apply(&huge);
    assert_has(
        &is_unschedulable(plane, "place", "huge"),
        &["Insufficient cpu"],
    );
    plane.kubectl("delete pod huge -n place").ok();

    // Drained: the loose pods are evicted, the node stays closed.
    let drained = plane
        .kubectl(&format!(
            "drain {node} --force --ignore-daemonsets --timeout=60s"
        ))
        .ok();
    assert_has(
        &drained,
        &["evicting pod place/guest", &format!("node/{node} drained")],
    );
    assert_eq!(plane.kubectl("get pods -n place -o name").ok(), "");
    assert_has(
        &plane.kubectl(&format!("get node {node}")).ok(),
        &["SchedulingDisabled"],
    );
    plane.kubectl(&format!("uncordon {node}")).ok();

    // NoExecute puts out those who do not tolerate it.
    plane.apply(&pod("leaves", node, &json!([])));
    runs_on(plane, "place", "leaves", node);
    plane
        .kubectl(&format!("taint node {node} out=now:NoExecute"))
        .ok();
    plane
        .kubectl("wait --for=delete pod/leaves -n place --timeout=60s")
        .ok();
    plane.kubectl(&format!("taint node {node} out-")).ok();
    plane.kubectl("delete namespace place --wait=false").ok();
}

pub(crate) fn describe_and_leases(plane: &Plane) {
    let text = plane.kubectl("describe node node-0000000").ok();
    assert_has(
        &text,
        &[
            "Name:               node-0000000",
            "Taints:             <none>",
            "Unschedulable:      false",
            "MemoryPressure",
            "KubeletReady",
            "Capacity:",
            "Allocatable:",
            "Kubelet Version:",
            "Allocated resources:",
        ],
    );
    let node = plane.kubectl("get node node-0000000 -o json").json();
    let capacity = &node["status"]["capacity"];
    assert!(
        capacity["cpu"].is_string()
            && capacity["memory"].is_string()
            && capacity["pods"].is_string()
    );
    // Each node renews its Lease.
    let lease = "get lease node-0000000 -n kube-node-lease -o json";
    let first = plane.kubectl(lease).json();
    assert_eq!(first["spec"]["holderIdentity"], "node-0000000");
    assert_eq!(
        first["metadata"]["ownerReferences"][0]["uid"],
        node["metadata"]["uid"]
    );
    eventually("the Lease is renewed", || {
        let later = plane.kubectl(lease).json();
        if later["spec"]["renewTime"] != first["spec"]["renewTime"] {
            Ok(())
        } else {
            Err(later.to_string())
        }
    });
    let leases = plane.kubectl("get leases -n kube-node-lease -o name").ok();
    assert_eq!(leases.lines().count(), plane.nodes());
}

//! Namespaces, nodes, leases, events, and the smaller kinds.

use crate::help::*;
use registry::{field_value, selectable_fields};
use value::json;

#[test]
fn a_namespace_is_born_active() {
    let created = create(
        resource("v1", "namespaces"),
        json!({"metadata": {"name": "team"}, "status": {"phase": "Terminating"}}),
    )
    .unwrap();
    assert_eq!(
        created,
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "team", "uid": UID, "creationTimestamp": NOW, "labels": {"kubernetes.io/metadata.name": "team"}},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"}
        })
    );
    assert_eq!(
        faults(
            resource("v1", "namespaces"),
            json!({"metadata": {"name": "team"}, "spec": {"finalizers": ["odd"]}})
        ),
        "spec.finalizers[0]: Invalid value: \"odd\": name is neither a standard finalizer name nor is it fully qualified"
    );
}

#[test]
fn a_node_registers_with_its_status() {
    let res = resource("v1", "nodes");
    let node = stored(
        res,
        json!({
            "metadata": {"name": "n"}, "spec": {"podCIDR": "10.0.0.0/24"},
            "status": {"capacity": {"cpu": "4000m", "pods": "110"}}
        }),
    );
    assert_eq!(node["spec"]["podCIDRs"], json!(["10.0.0.0/24"]));
    assert_eq!(
        node["status"]["capacity"],
        json!({"cpu": "4", "pods": "110"})
    );
    assert_eq!(
        node["status"]["allocatable"],
        json!({"cpu": "4", "pods": "110"})
    );
    let moved = with(
        with(node.clone(), "spec.podCIDR", json!("10.0.1.0/24")),
        "spec.podCIDRs",
        json!(["10.0.1.0/24"]),
    );
    assert_eq!(
        refused(res, &node, moved),
        "Node \"n\" is invalid: spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"
    );
    let taint = json!({"key": "k", "effect": "NoSchedule"});
    assert_eq!(
        faults(
            res,
            json!({"metadata": {"name": "n"}, "spec": {"taints": [taint, taint]}})
        ),
        "spec.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"k\"}"
    );
    assert_eq!(
        faults(
            res,
            json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "k", "effect": "Never"}]}})
        ),
        "spec.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
    );
}

#[test]
fn leases_and_events() {
    assert_eq!(
        faults(
            resource("coordination.k8s.io/v1", "leases"),
            json!({"metadata": {"name": "n"}, "spec": {"leaseDurationSeconds": -1, "leaseTransitions": -1}})
        ),
        "[spec.leaseDurationSeconds: Invalid value: -1: must be greater than 0, \
         spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0]"
    );
    assert_eq!(
        faults(
            resource("v1", "events"),
            json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": "other"}})
        ),
        "involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"
    );
    assert!(
        create(
            resource("v1", "events"),
            json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Node", "name": "n"}})
        )
        .is_ok()
    );
}

#[test]
fn defaults_of_the_smaller_kinds() {
    let policy = create(
        resource("networking.k8s.io/v1", "networkpolicies"),
        json!({"metadata": {"name": "a"}, "spec": {"podSelector": {}, "egress": [{}]}}),
    )
    .unwrap();
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    let class = create(
        resource("storage.k8s.io/v1", "storageclasses"),
        json!({"metadata": {"name": "a"}, "provisioner": "x.y/z"}),
    )
    .unwrap();
    assert_eq!(class["reclaimPolicy"], json!("Delete"));
    assert_eq!(class["volumeBindingMode"], json!("Immediate"));
    let scaler = create(
        resource("autoscaling/v2", "horizontalpodautoscalers"),
        json!({"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
    )
    .unwrap();
    assert_eq!(scaler["spec"]["minReplicas"], json!(1));
    assert_eq!(
        scaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        json!(80)
    );
    let rbac = resource("rbac.authorization.k8s.io/v1", "rolebindings");
    let binding = stored(
        rbac,
        json!({"metadata": {"name": "a"}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}]}),
    );
    assert_eq!(
        binding["roleRef"]["apiGroup"],
        json!("rbac.authorization.k8s.io")
    );
    assert_eq!(
        binding["subjects"][0]["apiGroup"],
        json!("rbac.authorization.k8s.io")
    );
    assert!(
        refused(
            rbac,
            &binding,
            with(binding.clone(), "roleRef.name", json!("other"))
        )
        .ends_with("cannot change roleRef")
    );
    let claim = create(
        resource("v1", "persistentvolumeclaims"),
        json!({"metadata": {"name": "a"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
    )
    .unwrap();
    assert_eq!(claim["spec"]["volumeMode"], json!("Filesystem"));
    assert_eq!(claim["status"], json!({"phase": "Pending"}));
    let high = create(
        resource("scheduling.k8s.io/v1", "priorityclasses"),
        json!({"metadata": {"name": "high"}, "value": 1_000}),
    )
    .unwrap();
    assert_eq!(high["preemptionPolicy"], json!("PreemptLowerPriority"));
    assert_eq!(high["metadata"]["generation"], json!(1));
}

#[test]
fn selectable_fields_read_as_upstream_reads_them() {
    let pods = resource("v1", "pods");
    let pod = json!({"metadata": {"name": "a", "namespace": "d"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
    assert_eq!(
        field_value(pods, &pod, "spec.nodeName").as_deref(),
        Some("n")
    );
    assert_eq!(
        field_value(pods, &pod, "spec.hostNetwork").as_deref(),
        Some("false")
    );
    assert_eq!(field_value(pods, &pod, "status.podIP").as_deref(), Some(""));
    assert_eq!(field_value(pods, &pod, "spec.image"), None);
    assert_eq!(
        field_value(resource("v1", "nodes"), &json!({}), "spec.unschedulable").as_deref(),
        Some("false")
    );
    assert_eq!(
        field_value(
            resource("v1", "nodes"),
            &json!({"spec": {"unschedulable": true}}),
            "spec.unschedulable"
        )
        .as_deref(),
        Some("true")
    );
    assert_eq!(
        field_value(
            resource("batch/v1", "jobs"),
            &json!({}),
            "status.successful"
        )
        .as_deref(),
        Some("0")
    );
    let event = json!({"source": {"component": "kubelet"}});
    assert_eq!(
        field_value(resource("v1", "events"), &event, "source").as_deref(),
        Some("kubelet")
    );
    for res in schema::resources() {
        assert_eq!(selectable_fields(res)[0].name, "metadata.name");
        assert_eq!(
            selectable_fields(res)
                .iter()
                .any(|field| field.name == "metadata.namespace"),
            res.namespaced,
            "{}",
            res.resource
        );
    }
}

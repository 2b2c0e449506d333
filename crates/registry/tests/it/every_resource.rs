//! Every resource there is: create, update, delete.

use crate::help::*;
use meta::Value;
use registry::{Deletion, Update};
use schema::Resource;
use value::json;

/// The least that passes as an object of this resource.
pub fn minimal(res: &Resource) -> Value {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let job = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
    let selector = json!({"matchLabels": {"a": "b"}});
    let spec = |spec: Value| json!({"spec": spec});
    let mut obj = match (res.group, res.resource) {
        ("", "pods") => spec(template["spec"].clone()),
        ("", "podtemplates") => json!({"template": template}),
        ("", "replicationcontrollers") => spec(json!({"template": template})),
        ("", "services") => spec(json!({"ports": [{"port": 80}]})),
        ("", "persistentvolumes") => spec(
            json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/"}}),
        ),
        ("", "persistentvolumeclaims") => spec(
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}),
        ),
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets") => {
            spec(json!({"selector": selector, "template": template}))
        }
        ("batch", "jobs") => spec(job),
        ("batch", "cronjobs") => spec(json!({"schedule": "@daily", "jobTemplate": {"spec": job}})),
        ("autoscaling", _) => {
            spec(json!({"maxReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}))
        }
        ("networking.k8s.io", "ingresses") => {
            spec(json!({"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}))
        }
        ("networking.k8s.io", "ingressclasses") => spec(json!({"controller": "example.com/c"})),
        ("resource.k8s.io", "resourceslices") => {
            json!({"spec": {"driver": "example.com", "allNodes": true,
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}})
        }
        ("storage.k8s.io", "storageclasses") => json!({"provisioner": "example.com/p"}),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            json!({"roleRef": {"kind": "ClusterRole", "name": "r"}})
        }
        ("discovery.k8s.io", "endpointslices") => json!({"addressType": "IPv4"}),
        ("certificates.k8s.io", "certificatesigningrequests") => spec(
            json!({"usages": ["client auth"], "signerName": "example.com/s", "request": "eA=="}),
        ),
        ("apiextensions.k8s.io", _) => spec(json!({
            "group": "example.com", "scope": "Cluster", "names": {"plural": "xs", "kind": "X"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]
        })),
        ("apiregistration.k8s.io", _) => spec(json!({"version": "v1", "group": "example.com"})),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => {
            spec(json!({"priorityLevelConfiguration": {"name": "p"}}))
        }
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => {
            spec(json!({"type": "Exempt"}))
        }
        ("resource.k8s.io", "devicetaintrules") => {
            json!({"spec": {"taint": {"key": "example.com/k", "effect": "NoSchedule"}}})
        }
        ("scheduling.k8s.io", "podgroups") => json!({"spec": {"schedulingPolicy": {"basic": {}}}}),
        _ => json!({}),
    };
    let name = match (res.group, res.resource) {
        ("apiextensions.k8s.io", _) => "xs.example.com",
        ("apiregistration.k8s.io", _) => "v1.example.com",
        _ => "a",
    };
    obj["metadata"] = json!({"name": name});
    obj
}

#[test]
fn create_update_delete() {
    let mut kinds = 0;
    for res in schema::resources() {
        let place = format!("{} {}", res.api_version(), res.resource);
        let created =
            create(res, minimal(res)).unwrap_or_else(|error| panic!("{place}: {}", error.message));
        assert_eq!(created["metadata"]["uid"], json!(UID), "{place}");
        assert_eq!(created["kind"], json!(res.kind), "{place}");

        // What is stored is what is read back: the tree survives the wire.
        let mut bytes = Vec::new();
        schema::encode_protobuf(res.type_id, &created, &mut bytes)
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        let mut old = schema::decode_protobuf(res.type_id, &bytes)
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        old["apiVersion"] = json!(res.api_version());
        old["kind"] = json!(res.kind);
        assert_eq!(old, created, "{place}");

        old["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(
            update(res, &old, old.clone()),
            Ok(Update::Unchanged),
            "{place}"
        );
        let labelled = updated(
            res,
            &old,
            with(old.clone(), "metadata.labels", json!({"k": "v"})),
        );
        assert_eq!(labelled["metadata"]["labels"]["k"], json!("v"), "{place}");
        for subresource in &res.subresources {
            if !matches!(subresource.name, "scale" | "approval") {
                let written = update_sub(res, Some(subresource.name), &old, old.clone());
                assert_eq!(
                    written,
                    Ok(Update::Unchanged),
                    "{place}/{}",
                    subresource.name
                );
            }
        }
        let deleted = delete(res, &old, &json!({}))
            .unwrap_or_else(|error| panic!("{place}: {}", error.message));
        if res.kind == "Namespace" {
            assert!(matches!(deleted, Deletion::Mark(_)));
        } else {
            assert_eq!(deleted, Deletion::Remove, "{place}");
        }
        kinds += 1;
    }
    assert!(kinds > 60, "{kinds} resources");
}

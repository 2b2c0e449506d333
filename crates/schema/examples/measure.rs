//! How long the engine takes for the objects that matter: `cargo run --release -p schema --example measure`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use schema::{
    FieldReader, JsonOptions, TypeId, decode_json, decode_protobuf, encode_protobuf, kind_type,
};

const LEASE: &str = r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"node-000001","namespace":"kube-node-lease","uid":"6c2b7bd4-9f0a-4d9c-9f6e-0a4f4e0d9f01","creationTimestamp":"2026-01-02T03:04:05Z","ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"node-000001","uid":"0d5cf1ab-2a6f-4f5b-8d1e-8d4a1f7e1c02"}]},"spec":{"holderIdentity":"node-000001","leaseDurationSeconds":40,"renewTime":"2026-01-02T03:04:05.678901Z"}}"#;

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-7d4b9c6f5-x2x4z","generateName":"web-7d4b9c6f5-","namespace":"default","uid":"6c2b7bd4-9f0a-4d9c-9f6e-0a4f4e0d9f01","generation":1,"creationTimestamp":"2026-01-02T03:04:05Z","labels":{"app":"web","pod-template-hash":"7d4b9c6f5"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-7d4b9c6f5","uid":"0d5cf1ab-2a6f-4f5b-8d1e-8d4a1f7e1c02","controller":true,"blockOwnerDeletion":true}]},"spec":{"volumes":[{"name":"kube-api-access-abcde","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}],"defaultMode":420}}],"containers":[{"name":"web","image":"nginx:1.29","ports":[{"containerPort":80,"protocol":"TCP"}],"env":[{"name":"A","value":"1"},{"name":"B","value":"2"}],"resources":{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"100m","memory":"128Mi"}},"volumeMounts":[{"name":"kube-api-access-abcde","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}],"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"default","serviceAccount":"default","nodeName":"node-000001","securityContext":{},"schedulerName":"default-scheduler","tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],"priority":0,"enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority"},"status":{"phase":"Running","conditions":[{"type":"Initialized","status":"True","lastTransitionTime":"2026-01-02T03:04:06Z"},{"type":"Ready","status":"True","lastTransitionTime":"2026-01-02T03:04:08Z"},{"type":"ContainersReady","status":"True","lastTransitionTime":"2026-01-02T03:04:08Z"},{"type":"PodScheduled","status":"True","lastTransitionTime":"2026-01-02T03:04:05Z"}],"hostIP":"10.0.0.7","podIP":"10.1.2.3","podIPs":[{"ip":"10.1.2.3"}],"startTime":"2026-01-02T03:04:06Z","qosClass":"Burstable"}}"#;

fn main() {
    let started = Instant::now();
    let count = schema::types().count();
    println!(
        "{count} types and {} resources loaded in {:?}",
        schema::resources().len(),
        started.elapsed()
    );
    object(
        "Lease",
        kind_type("coordination.k8s.io/v1", "Lease"),
        "coordination.k8s.io/v1",
        LEASE,
        "spec.holderIdentity",
    );
    object("Pod", kind_type("v1", "Pod"), "v1", POD, "spec.nodeName");
}

fn object(name: &str, ty: Option<TypeId>, api_version: &str, json: &str, path: &str) {
    let Some(ty) = ty else {
        return println!("{name} is not in the table");
    };
    let value = match decode_json(ty, json.as_bytes()) {
        Ok(decoded) => decoded.value,
        Err(error) => return println!("{name}: {error}"),
    };
    let mut message = Vec::new();
    if let Err(error) = encode_protobuf(ty, &value, &mut message) {
        return println!("{name}: {error}");
    }
    println!(
        "{name}: {} bytes of JSON, {} of protobuf",
        json.len(),
        message.len()
    );
    let mut out = Vec::with_capacity(16 * 1024);
    let options = JsonOptions {
        type_meta: Some((api_version, name)),
        resource_version: Some("1234567890"),
    };
    time("json → tree", || {
        decode_json(ty, black_box(json.as_bytes())).is_ok()
    });
    time("protobuf → tree", || {
        decode_protobuf(ty, black_box(&message)).is_ok()
    });
    let mut each = |title: &str, work: &mut dyn FnMut(&mut Vec<u8>)| {
        time(title, || {
            out.clear();
            work(&mut out);
            !out.is_empty()
        });
    };
    each("tree → protobuf", &mut |out| {
        let _ = encode_protobuf(ty, black_box(&value), out);
    });
    each("tree → json", &mut |out| {
        schema::write_json(ty, black_box(&value), out)
    });
    each("protobuf → json", &mut |out| {
        let _ = schema::protobuf_to_json(ty, black_box(&message), options, out);
    });
    each("splice resourceVersion", &mut |out| {
        schema::splice_resource_version(black_box(&message), "1234567890", out)
    });
    if let Some(reader) = FieldReader::compile(ty, path) {
        time(&format!("read {path}"), || {
            reader.read_str(black_box(&message)).is_some()
        });
    }
}

/// Best of several rounds: the machine may be busy.
fn time(title: &str, mut work: impl FnMut() -> bool) {
    const CALLS: u32 = 2_000;
    let mut best = Duration::MAX;
    for _ in 0..15 {
        let started = Instant::now();
        for _ in 0..CALLS {
            black_box(work());
        }
        best = best.min(started.elapsed());
    }
    println!(
        "  {title:<28} {:>8} ns",
        best.as_nanos() / u128::from(CALLS)
    );
}

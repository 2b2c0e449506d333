//! Volumes as users make them: beforehand and by hand, for pods that come later, or by a provisioner.

use crate::support::{Plane, assert_has, eventually};

/// A class whose volumes are made by hand.
fn class(name: &str, mode: &str, provisioner: &str) -> String {
    format!(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: {name}}}\nprovisioner: {provisioner}\n\
         volumeBindingMode: {mode}\n---\n"
    )
}

/// A volume on one node.
fn volume(name: &str, class: &str, size: &str, node: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}}}\nspec:\n  storageClassName: {class}\n  \
         capacity: {{storage: {size}}}\n  accessModes: [ReadWriteOnce]\n  local: {{path: /disk}}\n  nodeAffinity:\n    \
         required:\n      nodeSelectorTerms:\n      - matchExpressions:\n        \
         - {{key: kubernetes.io/hostname, operator: In, values: [{node}]}}\n---\n"
    )
}

fn claim(name: &str, class: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec:\n  storageClassName: {class}\n  \
         accessModes: [ReadWriteOnce]\n  resources: {{requests: {{storage: 1Gi}}}}\n---\n"
    )
}

fn pod(name: &str, claim: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         containers: [{{name: c, image: nginx}}]\n  \
         volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]\n---\n"
    )
}

fn apply(plane: &Plane, namespace: &str, text: &str) {
    let line = format!("apply -n {namespace} -f -");
    plane.kubectl(&line).stdin(text).ok();
}

/// The field of an object, by kubectl's path.
fn field(plane: &Plane, object: &str, path: &str) -> String {
    plane
        .kubectl(&format!("get {object} -o jsonpath={{{path}}}"))
        .ok()
}

fn becomes(plane: &Plane, object: &str, path: &str, wanted: &str) {
    eventually(&format!("{object} {path} is {wanted}"), || {
        let is = field(plane, object, path);
        if is == wanted { Ok(()) } else { Err(is) }
    });
}

/// Disks of nodes, made beforehand; a StatefulSet's pods go where they are, and come back to them.
pub(crate) fn a_stateful_set_on_disks_of_nodes(plane: &Plane) {
    plane.kubectl("create namespace disks").ok();
    let nodes = ["node-0000003", "node-0000005", "node-0000007"];
    let mut text = class(
        "disks",
        "WaitForFirstConsumer",
        "kubernetes.io/no-provisioner",
    );
    for (number, node) in nodes.iter().enumerate() {
        text += &volume(&format!("disk-{number}"), "disks", "5Gi", node);
    }
    apply(plane, "disks", &text);
    for number in 0..3 {
        becomes(
            plane,
            &format!("pv disk-{number}"),
            ".status.phase",
            "Available",
        );
    }
    apply(plane, "disks", &claim("early", "disks"));
    let set = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  serviceName: db\n  replicas: 3\n  \
               selector: {matchLabels: {app: db}}\n  \
               persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Retain}\n  template:\n    \
               metadata: {labels: {app: db}}\n    spec:\n      terminationGracePeriodSeconds: 1\n      \
               containers: [{name: c, image: postgres}]\n  \
               volumeClaimTemplates:\n  - metadata: {name: data}\n    spec:\n      storageClassName: disks\n      \
               accessModes: [ReadWriteOnce]\n      resources: {requests: {storage: 2Gi}}\n";
    apply(plane, "disks", set);
    plane
        .kubectl("rollout status statefulset/db -n disks --timeout=100s")
        .ok();
    let on_the_nodes_of_their_volumes = || {
        let mut used = Vec::new();
        for number in 0..3 {
            let claim = format!("pvc data-db-{number} -n disks");
            assert_eq!(field(plane, &claim, ".status.phase"), "Bound");
            assert_eq!(field(plane, &claim, ".status.capacity.storage"), "5Gi");
            let disk = field(plane, &claim, ".spec.volumeName");
            becomes(plane, &format!("pv {disk}"), ".status.phase", "Bound");
            let asked =
                ".spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values[0]";
            let node = field(plane, &format!("pv {disk}"), asked);
            let pod = field(
                plane,
                &format!("pod db-{number} -n disks"),
                ".spec.nodeName",
            );
            assert_eq!(pod, node);
            used.push(disk);
        }
        used.sort();
        assert_eq!(used, ["disk-0", "disk-1", "disk-2"]);
    };
    on_the_nodes_of_their_volumes();
    // A pod that is made again comes back to its disk.
    plane.kubectl("delete pod db-1 -n disks --timeout=60s").ok();
    plane
        .kubectl("rollout status statefulset/db -n disks --timeout=100s")
        .ok();
    on_the_nodes_of_their_volumes();
    let described = plane.kubectl("describe pvc early -n disks").ok();
    assert_has(
        &described,
        &[
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding",
            "persistentvolume-controller",
        ],
    );
    let table = plane
        .kubectl("get pvc data-db-0 -n disks --no-headers")
        .ok();
    assert_has(
        &table,
        &["data-db-0", "Bound", "disk-", "5Gi", "RWO", "disks"],
    );
    // A claim in use stays until its pod is gone.
    plane
        .kubectl("delete pvc data-db-2 -n disks --wait=false")
        .ok();
    let held = field(plane, "pvc data-db-2 -n disks", ".metadata.finalizers[0]");
    assert_eq!(held, "kubernetes.io/pvc-protection");
    plane
        .kubectl("delete statefulset db -n disks --timeout=60s")
        .ok();
    plane
        .kubectl(
            "wait --for=delete pvc/data-db-0 pvc/data-db-1 pvc/data-db-2 -n disks --timeout=60s",
        )
        .ok();
    for number in 0..3 {
        becomes(
            plane,
            &format!("pv disk-{number}"),
            ".status.phase",
            "Released",
        );
    }
    plane
        .kubectl("delete pv disk-0 disk-1 disk-2 --timeout=60s")
        .ok();
    plane.kubectl("delete storageclass disks").ok();
    plane.kubectl("delete namespace disks --wait=false").ok();
}

/// A claim that is bound at once, before there is a pod; and volumes that are made when they are asked for.
pub(crate) fn claims_bound_at_once_and_volumes_made(plane: &Plane) {
    plane.kubectl("create namespace shelves").ok();
    let shelves = class("shelves", "Immediate", "kubernetes.io/no-provisioner")
        + &volume("shelf-large", "shelves", "9Gi", "node-0000002")
        + &volume("shelf-small", "shelves", "1Gi", "node-0000004");
    apply(plane, "shelves", &shelves);
    for shelf in ["shelf-large", "shelf-small"] {
        becomes(plane, &format!("pv {shelf}"), ".status.phase", "Available");
    }
    apply(
        plane,
        "shelves",
        &(pod("reader", "books") + &claim("books", "shelves")),
    );
    becomes(plane, "pvc books -n shelves", ".status.phase", "Bound");
    assert_eq!(
        field(plane, "pvc books -n shelves", ".spec.volumeName"),
        "shelf-small"
    );
    plane
        .kubectl("wait --for=condition=Ready pod/reader -n shelves --timeout=60s")
        .ok();
    assert_eq!(
        field(plane, "pod reader -n shelves", ".spec.nodeName"),
        "node-0000004"
    );

    let made = class("made", "WaitForFirstConsumer", "megaplane.dev/simulated")
        + &class("made-at-once", "Immediate", "megaplane.dev/simulated")
        + &claim("late", "made")
        + &claim("soon", "made-at-once");
    apply(plane, "shelves", &made);
    becomes(plane, "pvc soon -n shelves", ".status.phase", "Bound");
    assert_eq!(
        field(plane, "pvc late -n shelves", ".status.phase"),
        "Pending"
    );
    apply(
        plane,
        "shelves",
        &(pod("user", "late") + &pod("other", "soon")),
    );
    plane
        .kubectl("wait --for=condition=Ready pod/user pod/other -n shelves --timeout=60s")
        .ok();
    let volume = field(plane, "pvc late -n shelves", ".spec.volumeName");
    assert_has(
        &plane.kubectl("describe pvc late -n shelves").ok(),
        &[
            "megaplane.dev/simulated",
            "Successfully provisioned volume pvc-",
            "volume.kubernetes.io/selected-node",
        ],
    );
    plane
        .kubectl("delete pod user other reader -n shelves --timeout=60s")
        .ok();
    plane
        .kubectl("delete pvc --all -n shelves --timeout=60s")
        .ok();
    plane
        .kubectl(&format!("wait --for=delete pv/{volume} --timeout=60s"))
        .ok();
    becomes(plane, "pv shelf-small", ".status.phase", "Released");
    plane
        .kubectl("delete pv shelf-small shelf-large --timeout=60s")
        .ok();
    plane
        .kubectl("delete storageclass shelves made made-at-once")
        .ok();
    plane.kubectl("delete namespace shelves --wait=false").ok();
}

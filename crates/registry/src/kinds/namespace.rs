//! Namespaces.

use super::Room;
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

pub(super) const ROOM: Room = Room {
    defaults,
    prepare_create: |namespace, _| {
        tree::put(namespace, "status.phase", "Active");
        let mut finalizers = tree::items(namespace, "spec.finalizers").to_vec();
        if !finalizers
            .iter()
            .any(|finalizer| finalizer.as_str() == Some("kubernetes"))
        {
            finalizers.push(Value::from("kubernetes"));
        }
        tree::put(namespace, "spec.finalizers", finalizers);
    },
    prepare_update: |new, old, subresource, _| {
        if subresource.is_none() {
            tree::carry(new, old, "spec.finalizers");
        }
    },
    check: |namespace, findings| check_finalizers(namespace, findings),
    check_update: |new, _, subresource, findings| {
        if subresource == Some("finalize") {
            check_finalizers(new, findings);
        }
    },
};

fn defaults(namespace: &mut Value) {
    let name = tree::text(namespace, "metadata.name").to_owned();
    if !name.is_empty()
        && let Some(labels) = tree::ensure(namespace, "metadata.labels")
    {
        labels.insert(
            "kubernetes.io/metadata.name".to_owned(),
            Value::String(name),
        );
    }
    tree::fill(namespace, "status.phase", "Active");
}

fn check_finalizers(namespace: &Value, findings: &mut Findings) {
    let path = FieldPath::new("spec").child("finalizers");
    for (index, finalizer) in tree::items(namespace, "spec.finalizers").iter().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or("");
        let path = path.index(index);
        findings.each(&path, finalizer, meta::names::qualified_name(finalizer));
        if !finalizer.contains('/') && finalizer != "kubernetes" {
            findings.invalid(
                &path,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
}

//! The body of a Lease, new or renewed, written straight as protobuf.
//!
//! A million nodes renew 100,000 times a second; a tree of the object, made to be encoded and thrown away, would cost more
//! than the renewal itself. Its fields are in the order of their numbers; a test holds it against a tree. Knows nothing else of protobuf.

use schema::wire::{put_bytes, put_int};

use crate::node::node_name;

/// The body of a renewal, or of a new Lease if `version` is 0: `coordination.k8s.io/v1` Lease in its envelope.
pub(crate) fn body(
    index: usize,
    uid: &str,
    duration_seconds: i64,
    now_micros: i64,
    version: u64,
) -> Vec<u8> {
    let name = node_name(index);
    let mut owner = Vec::with_capacity(96);
    put_bytes(1, b"Node", &mut owner);
    put_bytes(3, name.as_bytes(), &mut owner);
    put_bytes(4, uid.as_bytes(), &mut owner);
    put_bytes(5, b"v1", &mut owner);

    let mut metadata = Vec::with_capacity(192);
    put_bytes(1, name.as_bytes(), &mut metadata);
    put_bytes(3, b"kube-node-lease", &mut metadata);
    if version != 0 {
        put_bytes(6, version.to_string().as_bytes(), &mut metadata);
    }
    put_bytes(13, &owner, &mut metadata);

    let mut time = Vec::with_capacity(16);
    let (seconds, micros) = (
        now_micros.div_euclid(1_000_000),
        now_micros.rem_euclid(1_000_000),
    );
    put_int(1, seconds.cast_unsigned(), &mut time);
    put_int(2, micros.cast_unsigned() * 1_000, &mut time);

    let mut spec = Vec::with_capacity(48);
    put_bytes(1, name.as_bytes(), &mut spec);
    put_int(2, duration_seconds.cast_unsigned(), &mut spec);
    put_bytes(4, &time, &mut spec);

    let mut lease = Vec::with_capacity(320);
    put_bytes(1, &metadata, &mut lease);
    put_bytes(2, &spec, &mut lease);

    let mut body = Vec::with_capacity(400);
    schema::envelope::wrap("coordination.k8s.io/v1", "Lease", &lease, &mut body);
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta::Value;
    use value::json;

    /// A node's Lease as the kubelet writes it. `resource_version` is empty for the first one.
    fn lease_object(
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

    #[test]
    fn the_short_way_says_the_same_as_the_tree() {
        let uid = "0a1b2c3d-0000-4abc-8def-001122334455";
        let leases = crate::resource("coordination.k8s.io", "leases");
        for (now, version) in [
            (1_767_225_600_123_456, 77),
            (1, 1),
            (1_767_225_600_123_456, 0),
            (1_767_225_600_000_000, u64::MAX),
        ] {
            let body = body(42, uid, 40, now, version);
            let unknown = schema::envelope::unwrap(&body).unwrap();
            assert_eq!(
                (unknown.api_version, unknown.kind),
                ("coordination.k8s.io/v1", "Lease")
            );
            let read = schema::decode_protobuf(leases.type_id, unknown.raw).unwrap();
            let version = match version {
                0 => String::new(),
                version => version.to_string(),
            };
            let tree = lease_object(42, uid, 40, now, &version);
            let mut encoded = Vec::new();
            schema::encode_protobuf(leases.type_id, &tree, &mut encoded).unwrap();
            assert_eq!(
                read,
                schema::decode_protobuf(leases.type_id, &encoded).unwrap()
            );
        }
    }
}

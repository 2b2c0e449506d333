//! The body of a Lease renewal, written straight as protobuf.
//!
//! A million nodes renew 100,000 times a second; a tree of the object, made to be encoded and thrown away, would cost more
//! than the renewal itself. Holds the same fields as [`crate::node::lease_object`], in the order of their numbers; a test
//! holds the two together. Knows nothing else of protobuf.

use crate::node::node_name;

/// A renewal's body: `coordination.k8s.io/v1` Lease in its envelope.
pub(crate) fn body(
    index: usize,
    uid: &str,
    duration_seconds: i64,
    now_micros: i64,
    version: u64,
) -> Vec<u8> {
    let name = node_name(index);
    let mut owner = Vec::with_capacity(96);
    text(&mut owner, 1, "Node");
    text(&mut owner, 3, &name);
    text(&mut owner, 4, uid);
    text(&mut owner, 5, "v1");

    let mut metadata = Vec::with_capacity(192);
    text(&mut metadata, 1, &name);
    text(&mut metadata, 3, "kube-node-lease");
    text(&mut metadata, 6, &version.to_string());
    bytes(&mut metadata, 13, &owner);

    let mut time = Vec::with_capacity(16);
    number(&mut time, 1, now_micros.div_euclid(1_000_000));
    number(&mut time, 2, now_micros.rem_euclid(1_000_000) * 1_000);

    let mut spec = Vec::with_capacity(48);
    text(&mut spec, 1, &name);
    number(&mut spec, 2, duration_seconds);
    bytes(&mut spec, 4, &time);

    let mut lease = Vec::with_capacity(320);
    bytes(&mut lease, 1, &metadata);
    bytes(&mut lease, 2, &spec);

    let mut body = Vec::with_capacity(400);
    schema::envelope::wrap("coordination.k8s.io/v1", "Lease", &lease, &mut body);
    body
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[allow(clippy::cast_possible_truncation)]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation)]
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u64, value: i64) {
    varint(out, field << 3);
    varint(out, value.cast_unsigned());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn text(out: &mut Vec<u8>, field: u64, value: &str) {
    bytes(out, field, value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::lease_object;

    #[test]
    fn the_short_way_says_the_same_as_the_tree() {
        let uid = "0a1b2c3d-0000-4abc-8def-001122334455";
        let leases = crate::resource("coordination.k8s.io", "leases");
        for (now, version) in [
            (1_767_225_600_123_456, 77),
            (1, 1),
            (1_767_225_600_000_000, u64::MAX),
        ] {
            let body = body(42, uid, 40, now, version);
            let unknown = schema::envelope::unwrap(&body).unwrap();
            assert_eq!(
                (unknown.api_version, unknown.kind),
                ("coordination.k8s.io/v1", "Lease")
            );
            let read = schema::decode_protobuf(leases.type_id, unknown.raw).unwrap();
            let tree = lease_object(42, uid, 40, now, &version.to_string());
            let mut encoded = Vec::new();
            schema::encode_protobuf(leases.type_id, &tree, &mut encoded).unwrap();
            assert_eq!(
                read,
                schema::decode_protobuf(leases.type_id, &encoded).unwrap()
            );
        }
    }
}

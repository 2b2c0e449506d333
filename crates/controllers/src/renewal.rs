//! A renewed Lease, read out of its watch event: of all changes there are, these are the most by far.
//!
//! Gives what decoding and projecting the object would give, or nothing: then that is done. Does not know what a
//! renewal means for a node.

use client::Told;
use reconcile::garbage::{Observation, OwnerReference};
use schema::envelope;
use schema::wire::{Reader, Wire};

use crate::feed::{LEASES, Seen, SeenBody};

const MICROS_PER_SECOND: i64 = 1_000_000;
/// 9999-12-31T23:59:59Z: later times are not written as they are.
const LAST_SECOND: i64 = 253_402_300_799;

/// Reads an event. Nothing for events of other kinds, and for a Lease that has finalizers or is on its way out.
pub(crate) fn read(frame: &[u8]) -> Option<Told<Seen>> {
    let ("MODIFIED", object) = envelope::watch_event(frame).ok()? else {
        return None;
    };
    let unknown = envelope::unwrap(object).ok()?;
    if (unknown.api_version, unknown.kind) != ("coordination.k8s.io/v1", "Lease") {
        return None;
    }
    let mut reader = Reader::new(unknown.raw);
    let Ok(Some((1, Wire::Bytes(metadata)))) = reader.field() else {
        return None;
    };
    let Ok(Some((2, Wire::Bytes(spec)))) = reader.field() else {
        return None;
    };
    if reader.position() != unknown.raw.len() {
        return None;
    }
    let micros = renewed(spec)?;
    let (observation, version) = observed(metadata)?;
    Some(Told {
        key: format!("{}/{}", observation.namespace, observation.name),
        object: Seen {
            observation,
            finalizers: Vec::new(),
            version: version.parse().ok()?,
            body: SeenBody::Renewed { micros },
        },
        version,
    })
}

/// `spec.renewTime`; 0 when there is none.
fn renewed(spec: &[u8]) -> Option<i64> {
    const RENEW_TIME: u32 = 4;
    let mut reader = Reader::new(spec);
    let mut micros = 0;
    while let Some((number, wire)) = reader.field().ok()? {
        if number != RENEW_TIME {
            continue;
        }
        let (Wire::Bytes(time), 0) = (wire, micros) else {
            return None;
        };
        let (mut second, mut nanos) = (0i64, 0i64);
        let mut reader = Reader::new(time);
        while let Some((number, wire)) = reader.field().ok()? {
            match (number, wire) {
                (1, Wire::Varint(value)) => second = value.cast_signed(),
                (2, Wire::Varint(value)) => nanos = value.cast_signed(),
                _ => return None,
            }
        }
        if !(1..=LAST_SECOND).contains(&second) || !(0..1_000_000_000).contains(&nanos) {
            return None;
        }
        micros = second * MICROS_PER_SECOND + nanos / 1_000;
    }
    Some(micros)
}

/// What the garbage collector sees, and the version.
fn observed(metadata: &[u8]) -> Option<(Observation, String)> {
    let mut seen = Observation {
        resource: LEASES,
        namespace: String::new(),
        name: String::new(),
        uid: String::new(),
        owners: Vec::new(),
        deleting: false,
        foreground: false,
        orphan: false,
    };
    let mut version = String::new();
    let mut reader = Reader::new(metadata);
    while let Some((number, wire)) = reader.field().ok()? {
        match (number, wire) {
            (1, Wire::Bytes(name)) => seen.name = text(name)?,
            (3, Wire::Bytes(namespace)) => seen.namespace = text(namespace)?,
            (5, Wire::Bytes(uid)) => seen.uid = text(uid)?,
            (6, Wire::Bytes(at)) => version = text(at)?,
            (13, Wire::Bytes(owner)) => seen.owners.push(owner_of(owner)?),
            (1 | 3 | 5 | 6 | 9 | 10 | 13 | 14, _) => return None,
            _ => {}
        }
    }
    let is_whole = !seen.name.is_empty() && !seen.namespace.is_empty();
    is_whole.then_some((seen, version))
}

fn owner_of(message: &[u8]) -> Option<OwnerReference> {
    let mut owner = OwnerReference {
        api_version: String::new(),
        kind: String::new(),
        name: String::new(),
        uid: String::new(),
        block: false,
    };
    let mut reader = Reader::new(message);
    while let Some((number, wire)) = reader.field().ok()? {
        match (number, wire) {
            (1, Wire::Bytes(kind)) => owner.kind = text(kind)?,
            (3, Wire::Bytes(name)) => owner.name = text(name)?,
            (4, Wire::Bytes(uid)) => owner.uid = text(uid)?,
            (5, Wire::Bytes(version)) => owner.api_version = text(version)?,
            (7, Wire::Varint(block)) => owner.block = block != 0,
            (1 | 3 | 4 | 5 | 7, _) => return None,
            _ => {}
        }
    }
    Some(owner)
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{Shape, feeds, project};
    use meta::Value;
    use schema::wire::put_bytes;
    use serde_json::json;

    fn frame(event: &str, lease: &Value) -> Vec<u8> {
        let type_id = schema::kind_type("coordination.k8s.io/v1", "Lease").unwrap();
        let [mut message, mut body, mut raw, mut frame] = [const { Vec::new() }; 4];
        schema::encode_protobuf(type_id, lease, &mut message).unwrap();
        envelope::wrap("coordination.k8s.io/v1", "Lease", &message, &mut body);
        put_bytes(1, event.as_bytes(), &mut frame);
        put_bytes(1, &body, &mut raw);
        put_bytes(2, &raw, &mut frame);
        frame
    }

    fn lease() -> Value {
        json!({"metadata": {"name": "n", "namespace": "kube-node-lease", "uid": "u", "resourceVersion": "77",
                            "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"a": "b"},
                            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "o",
                                                 "controller": true, "blockOwnerDeletion": true}]},
               "spec": {"holderIdentity": "n", "renewTime": "2026-01-02T03:04:05.000006Z", "leaseTransitions": 1}})
    }

    /// What decoding and projecting gives.
    fn slowly(lease: &Value) -> Seen {
        let feed = feeds().iter().find(|feed| feed.shape == Shape::Lease);
        project(*feed.unwrap(), lease.clone())
    }

    #[test]
    fn both_ways_see_the_same() {
        let mut leases = vec![lease(); 4];
        leases[1]["spec"] = json!({});
        leases[2]["metadata"]["ownerReferences"] = json!([]);
        leases[3]["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = false.into();
        for lease in &leases {
            let told = read(&frame("MODIFIED", lease)).unwrap();
            assert_eq!((&*told.key, &*told.version), ("kube-node-lease/n", "77"));
            assert_eq!(format!("{:?}", told.object), format!("{:?}", slowly(lease)));
        }
    }

    #[test]
    fn what_is_no_plain_renewal_is_decoded() {
        assert!(read(&frame("ADDED", &lease())).is_none());
        assert!(read(&frame("DELETED", &lease())).is_none());
        let mut held = lease();
        held["metadata"]["finalizers"] = json!(["orphan"]);
        assert!(read(&frame("MODIFIED", &held)).is_none());
        let mut leaving = lease();
        leaving["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z".into();
        assert!(read(&frame("MODIFIED", &leaving)).is_none());
        let whole = frame("MODIFIED", &lease());
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_none(), "cut at {end}");
        }
        assert!(read(br#"{"type":"MODIFIED"}"#).is_none());
    }
}

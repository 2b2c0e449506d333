//! The renewal of a Lease, decided on bytes: the write that keeps a million nodes alive, ten seconds and again.
//!
//! A renewal is a Lease as it is stored, at the version it is stored at, with another `spec.renewTime`. For such a body
//! every rule of [`crate::prepare_update`] is known to say "yes, as it is": what was valid when it was stored is
//! valid, nothing immutable changes, there is nothing to default. So the next state is the stored bytes with one field
//! replaced, and neither tree is made.
//!
//! ```text
//!   stored  metadata{ name … uid, resourceVersion:"" … labels … } spec{ holder … renewTime:A … }
//!   sent    metadata{ name …      resourceVersion:N  … labels … } spec{ holder … renewTime:B … }
//!            equal, or left out where the server fills it in       equal but for this ──┘
//! ```
//!
//! It gives no reasons and no errors: whatever it cannot prove is the general way's business, which finds out whether
//! it is a conflict, a mistake, or a body written in another order. It relies on stored bytes being what
//! [`schema::encode_stored`] wrote, and on the caller having looked at the query and the media types.

use schema::wire::{Reader, Wire, put_int, put_tag, put_varint, varint_len};

/// 9999-12-31T23:59:59Z: the last second that RFC 3339 can say.
const LAST_SECOND: i64 = 253_402_300_799;
const MICROS_PER_SECOND: i64 = 1_000_000;
/// Longest decimal of a revision.
const REVISION_DIGITS_MAX: usize = 20;

/// The Lease that a request is about, and the state in which it was read.
#[derive(Debug, Clone, Copy)]
pub struct LeaseAt<'a> {
    /// Namespace of the path.
    pub namespace: &'a str,
    /// Name of the path.
    pub name: &'a str,
    /// The revision of the stored bytes: the resourceVersion that the body must name.
    pub revision: i64,
}

/// What a proven renewal comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// It names the time that is stored: no write, no new resourceVersion, no event.
    Unchanged,
    /// Store these bytes.
    Store(Vec<u8>),
}

/// Decides on an update of a Lease (`coordination.k8s.io/v1`) from the message stored and the message sent. `None`
/// if the body is not provably a renewal.
#[must_use]
pub fn renewal(stored: &[u8], sent: &[u8], at: LeaseAt<'_>) -> Option<Renewal> {
    let old = Parts::of(stored)?;
    let new = Parts::of(sent)?;
    same_object(
        &Metadata::of(old.metadata)?,
        &Metadata::of(new.metadata)?,
        at,
    )?;
    let (old_spec, new_spec) = (Spec::of(old.spec)?, Spec::of(new.spec)?);
    if old_spec.before != new_spec.before || old_spec.after != new_spec.after {
        return None;
    }
    let time = Time::of(new_spec.renew_time)?;
    let next = time.in_place_of(stored, &old, &old_spec);
    if next == stored {
        return Some(Renewal::Unchanged);
    }
    Some(Renewal::Store(next))
}

/// The two fields of a Lease, in their order and once each.
struct Parts<'a> {
    metadata: &'a [u8],
    spec: &'a [u8],
    /// Where the field of the spec begins.
    spec_at: usize,
}

impl<'a> Parts<'a> {
    fn of(message: &'a [u8]) -> Option<Parts<'a>> {
        let mut reader = Reader::new(message);
        let Ok(Some((1, Wire::Bytes(metadata)))) = reader.field() else {
            return None;
        };
        let spec_at = reader.position();
        let Ok(Some((2, Wire::Bytes(spec)))) = reader.field() else {
            return None;
        };
        (reader.position() == message.len()).then_some(Parts {
            metadata,
            spec,
            spec_at,
        })
    }
}

/// Metadata as far as it matters here. `generation` is the server's: what is sent of it is not looked at.
#[derive(Default)]
struct Metadata<'a> {
    name: &'a [u8],
    generate_name: &'a [u8],
    namespace: &'a [u8],
    self_link: &'a [u8],
    uid: &'a [u8],
    resource_version: &'a [u8],
    created: &'a [u8],
    /// Labels, annotations, owners and finalizers, as they stand there.
    collections: &'a [u8],
}

impl<'a> Metadata<'a> {
    /// `None` for fields out of order, for one that is on its way out, and for what the server drops or does not know.
    fn of(message: &'a [u8]) -> Option<Metadata<'a>> {
        const FIRST_COLLECTION: u32 = 11;
        let mut metadata = Metadata::default();
        let mut reader = Reader::new(message);
        let (mut last, mut collections_at) = (0, None);
        loop {
            let at = reader.position();
            let Some((number, wire)) = reader.field().ok()? else {
                break;
            };
            let in_order = number > last || number == last && number >= FIRST_COLLECTION;
            if !in_order {
                return None;
            }
            last = number;
            match (number, wire) {
                (1, Wire::Bytes(text)) => metadata.name = text,
                (2, Wire::Bytes(text)) => metadata.generate_name = text,
                (3, Wire::Bytes(text)) => metadata.namespace = text,
                (4, Wire::Bytes(text)) => metadata.self_link = text,
                (5, Wire::Bytes(text)) => metadata.uid = text,
                (6, Wire::Bytes(text)) => metadata.resource_version = text,
                (7, Wire::Varint(_)) => {}
                (8, Wire::Bytes(time)) => metadata.created = time,
                (FIRST_COLLECTION..=14, Wire::Bytes(_)) => {
                    collections_at.get_or_insert(at);
                }
                _ => return None,
            }
        }
        let at = collections_at.unwrap_or(message.len());
        metadata.collections = message.get(at..)?;
        Some(metadata)
    }
}

/// Whether the metadata sent is that of the object stored, in this very state.
fn same_object(old: &Metadata<'_>, new: &Metadata<'_>, at: LeaseAt<'_>) -> Option<()> {
    // What the sender may leave out, because path or server say it.
    let given = |sent: &[u8], known: &[u8]| sent.is_empty() || sent == known;
    let mut digits = [0; REVISION_DIGITS_MAX];
    let same = old.name == at.name.as_bytes()
        && old.namespace == at.namespace.as_bytes()
        && given(new.name, old.name)
        && given(new.namespace, old.namespace)
        && given(new.uid, old.uid)
        && given(new.created, old.created)
        && new.generate_name == old.generate_name
        && new.self_link.is_empty()
        && new.resource_version == decimal(at.revision, &mut digits)
        && new.collections == old.collections;
    same.then_some(())
}

/// A positive number in decimal; nothing for others.
fn decimal(number: i64, digits: &mut [u8; REVISION_DIGITS_MAX]) -> &[u8] {
    let mut left = number.max(0);
    let mut begin = digits.len();
    while left > 0 {
        begin -= 1;
        digits[begin] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    &digits[begin..]
}

/// A spec round its renewTime.
struct Spec<'a> {
    before: &'a [u8],
    renew_time: &'a [u8],
    after: &'a [u8],
}

impl<'a> Spec<'a> {
    fn of(message: &'a [u8]) -> Option<Spec<'a>> {
        const RENEW_TIME: u32 = 4;
        let mut reader = Reader::new(message);
        loop {
            let at = reader.position();
            match reader.field() {
                Ok(Some((RENEW_TIME, Wire::Bytes(renew_time)))) => {
                    return Some(Spec {
                        before: message.get(..at)?,
                        renew_time,
                        after: message.get(reader.position()..)?,
                    });
                }
                Ok(Some((number, _))) if number < RENEW_TIME => {}
                _ => return None,
            }
        }
    }
}

/// A time as the store keeps it: whole seconds since 1970 and the microseconds above them.
struct Time {
    second: i64,
    micros: i64,
}

impl Time {
    /// Reads a MicroTime as decoding it does: digits below a microsecond are cut off.
    fn of(message: &[u8]) -> Option<Time> {
        let (mut second, mut nanos) = (0i64, 0i64);
        let mut reader = Reader::new(message);
        while let Some((number, wire)) = reader.field().ok()? {
            match (number, wire) {
                (1, Wire::Varint(value)) => second = value.cast_signed(),
                (2, Wire::Varint(value)) => nanos = value.cast_signed(),
                _ => return None,
            }
        }
        // Before 1970 are Go's zero time, which means "unset", and clocks that were never set: not for this way.
        (1..=LAST_SECOND).contains(&second).then_some(Time {
            second,
            micros: (nanos / 1_000).clamp(0, MICROS_PER_SECOND - 1),
        })
    }

    /// The stored message with this renewTime.
    fn in_place_of(&self, stored: &[u8], parts: &Parts<'_>, spec: &Spec<'_>) -> Vec<u8> {
        let nanos = self.micros.unsigned_abs() * 1_000;
        let time_len = 2 + varint_len(self.second.unsigned_abs()) + varint_len(nanos);
        let spec_len = spec.before.len() + 2 + time_len + spec.after.len();
        let mut next =
            Vec::with_capacity(parts.spec_at + 1 + varint_len(spec_len as u64) + spec_len);
        next.extend_from_slice(&stored[..parts.spec_at]);
        put_tag(2, 2, &mut next);
        put_varint(spec_len as u64, &mut next);
        next.extend_from_slice(spec.before);
        put_tag(4, 2, &mut next);
        put_varint(time_len as u64, &mut next);
        put_int(1, self.second.unsigned_abs(), &mut next);
        put_int(2, nanos, &mut next);
        next.extend_from_slice(spec.after);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta::Value;
    use value::json;

    const AT: LeaseAt<'static> = LeaseAt {
        namespace: "kube-node-lease",
        name: "node-1",
        revision: 4_711,
    };

    fn lease() -> Value {
        json!({
            "metadata": {
                "name": "node-1", "namespace": "kube-node-lease", "uid": "u-1",
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "labels": {"a": "b", "c": "d"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "n-1"}],
            },
            "spec": {
                "holderIdentity": "node-1", "leaseDurationSeconds": 40,
                "renewTime": "2026-01-02T03:04:05.000006Z", "leaseTransitions": 3,
            },
        })
    }

    fn bytes(lease: &Value) -> Vec<u8> {
        let resource = schema::resource("coordination.k8s.io", "v1", "leases").unwrap();
        let mut out = Vec::new();
        schema::encode_protobuf(resource.type_id, lease, &mut out).unwrap();
        out
    }

    /// What becomes of the body that this makes of a Lease as it was read.
    fn sent(change: impl FnOnce(&mut Value)) -> Option<Renewal> {
        let mut body = lease();
        body["metadata"]["resourceVersion"] = "4711".into();
        change(&mut body);
        renewal(&bytes(&lease()), &bytes(&body), AT)
    }

    #[test]
    fn another_time_is_a_renewal_and_the_same_time_is_nothing() {
        let mut next = lease();
        next["spec"]["renewTime"] = "2026-01-02T03:04:15.1Z".into();
        let renewed = sent(|body| body["spec"]["renewTime"] = "2026-01-02T03:04:15.1Z".into());
        assert_eq!(renewed, Some(Renewal::Store(bytes(&next))));
        assert_eq!(sent(|_| {}), Some(Renewal::Unchanged));
    }

    #[test]
    fn what_the_server_fills_in_may_be_left_out() {
        let left_out = |body: &mut Value| {
            for field in ["name", "namespace", "uid", "creationTimestamp"] {
                body["metadata"].as_object_mut().unwrap().remove(field);
            }
            body["metadata"]["generation"] = 9.into();
        };
        assert_eq!(sent(left_out), Some(Renewal::Unchanged));
    }

    #[test]
    fn whatever_else_differs_is_not_for_this_way() {
        type Change = (&'static str, fn(&mut Value));
        let changes: [Change; 15] = [
            ("name", |body| body["metadata"]["name"] = "node-2".into()),
            ("namespace", |body| {
                body["metadata"]["namespace"] = "default".into()
            }),
            ("uid", |body| body["metadata"]["uid"] = "u-2".into()),
            ("version", |body| {
                body["metadata"]["resourceVersion"] = "4710".into()
            }),
            ("no version", |body| {
                body["metadata"]["resourceVersion"] = "".into()
            }),
            ("generateName", |body| {
                body["metadata"]["generateName"] = "node-".into()
            }),
            ("selfLink", |body| {
                body["metadata"]["selfLink"] = "/x".into()
            }),
            ("created", |body| {
                body["metadata"]["creationTimestamp"] = "2026-01-02T03:04:06Z".into()
            }),
            ("deleted", |body| {
                body["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:06Z".into()
            }),
            ("label", |body| body["metadata"]["labels"]["a"] = "x".into()),
            ("finalizer", |body| {
                body["metadata"]["finalizers"] = json!(["a/b"])
            }),
            ("managed", |body| {
                body["metadata"]["managedFields"] = json!([{"manager": "m"}])
            }),
            ("holder", |body| {
                body["spec"]["holderIdentity"] = "other".into()
            }),
            ("transitions", |body| {
                body["spec"]["leaseTransitions"] = 4.into()
            }),
            ("no time", |body| body["spec"]["renewTime"] = Value::Null),
        ];
        for (what, change) in changes {
            assert_eq!(sent(change), None, "{what}");
        }
    }

    #[test]
    fn a_lease_on_its_way_out_is_not_renewed_here() {
        let mut old = lease();
        old["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:06Z".into();
        old["metadata"]["finalizers"] = json!(["a/b"]);
        let mut body = old.clone();
        body["metadata"]["resourceVersion"] = "4711".into();
        assert_eq!(renewal(&bytes(&old), &bytes(&body), AT), None);
    }

    #[test]
    fn broken_bytes_are_refused_and_not_read_beyond_their_end() {
        let stored = bytes(&lease());
        let mut body = lease();
        body["metadata"]["resourceVersion"] = "4711".into();
        let body = bytes(&body);
        for end in 0..body.len() {
            assert_eq!(renewal(&stored, &body[..end], AT), None, "cut at {end}");
        }
        let trailing = [&body[..], b"\x1a\x00"].concat();
        assert_eq!(renewal(&stored, &trailing, AT), None);
    }
}

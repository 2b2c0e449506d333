//! A binding, decided on bytes: of a million pods each is bound once, and nothing else of it changes.
//!
//! What [`crate::bind`] makes of a pod that may be bound is the stored message with three places changed, and neither
//! tree is made:
//!
//! ```text
//!   metadata{ … } spec{ … nodeName:"" … } status{ … conditions{PodScheduled False}? … nominatedNodeName:x … }
//!                           ▲ the node              ▲ PodScheduled True                 ▲ ""
//! ```
//!
//! It gives no reasons and no errors: whatever it cannot prove is the general way's business. It relies on stored
//! bytes being what [`schema::encode_stored`] wrote (fields in order, plain ones always there), and on the binding
//! having been checked.

use schema::wire::{Reader, Wire, put_bytes, put_int, put_tag, put_varint};

/// A binding that names a pod, a node, and no more.
#[derive(Debug, Clone, Copy)]
pub struct BindingTo<'a> {
    /// The uid that the pod must have; empty for any.
    pub uid: &'a str,
    /// The node.
    pub node: &'a str,
    /// Now.
    pub now_micros: i64,
}

const MICROS_PER_SECOND: i64 = 1_000_000;
/// The condition that a binding sets.
const SCHEDULED: &str = "PodScheduled";

/// The pod as it is stored once it is bound. `None` if the pod may not be bound, or not provably so.
#[must_use]
pub fn bound(stored: &[u8], binding: BindingTo<'_>) -> Option<Vec<u8>> {
    let mut reader = Reader::new(stored);
    let [metadata, spec, status] = [1, 2, 3].map(|wanted| match reader.field() {
        Ok(Some((number, Wire::Bytes(bytes)))) if number == wanted => Some(bytes),
        _ => None,
    });
    if reader.position() != stored.len() {
        return None;
    }
    let metadata = metadata?;
    let generation = generation_if_fit(metadata, binding.uid)?;
    let mut out = Vec::with_capacity(stored.len() + binding.node.len() + 64);
    put_bytes(1, metadata, &mut out);
    let spec = with_node(spec?, binding.node)?;
    put_bytes(2, &spec, &mut out);
    let seconds = binding.now_micros.div_euclid(MICROS_PER_SECOND);
    let status = with_condition(status?, &condition(seconds, generation))?;
    put_bytes(3, &status, &mut out);
    Some(out)
}

/// The generation of a pod that is the one meant, and not on its way out.
fn generation_if_fit(metadata: &[u8], uid: &str) -> Option<i64> {
    let (mut own, mut generation) = (None, 0);
    let mut reader = Reader::new(metadata);
    while let Some((number, wire)) = reader.field().ok()? {
        match (number, wire) {
            (5, Wire::Bytes(bytes)) => own = Some(bytes),
            (7, Wire::Varint(value)) => generation = value.cast_signed(),
            // deletionTimestamp, or a field in another form.
            (5 | 7 | 9, _) => return None,
            _ => {}
        }
    }
    (uid.is_empty() || own == Some(uid.as_bytes())).then_some(generation)
}

/// The spec with its node, if it has none and nothing holds it back.
fn with_node(spec: &[u8], node: &str) -> Option<Vec<u8>> {
    const NODE_NAME: u32 = 10;
    const SCHEDULING_GATES: u32 = 38;
    let mut place = None;
    let mut reader = Reader::new(spec);
    let mut at = 0;
    while let Some((number, wire)) = reader.field().ok()? {
        let end = reader.position();
        match (number, wire) {
            (NODE_NAME, Wire::Bytes(b"")) if place.is_none() => place = Some((at, end)),
            (NODE_NAME | SCHEDULING_GATES, _) => return None,
            _ => {}
        }
        at = end;
    }
    let (at, end) = place?;
    let mut out = Vec::with_capacity(spec.len() + node.len() + 4);
    out.extend_from_slice(spec.get(..at)?);
    put_bytes(NODE_NAME, node.as_bytes(), &mut out);
    out.extend_from_slice(spec.get(end..)?);
    Some(out)
}

/// The status with the condition in its place, and without a node in view.
fn with_condition(status: &[u8], condition: &[u8]) -> Option<Vec<u8>> {
    const CONDITIONS: u32 = 2;
    const NOMINATED_NODE_NAME: u32 = 11;
    let mut out = Vec::with_capacity(status.len() + condition.len() + 4);
    let mut reader = Reader::new(status);
    let (mut at, mut last, mut is_set) = (0, 0, false);
    while let Some((number, wire)) = reader.field().ok()? {
        if number < last {
            return None;
        }
        if number > CONDITIONS && !is_set {
            is_set = true;
            put_bytes(CONDITIONS, condition, &mut out);
        }
        let end = reader.position();
        match (number, wire) {
            (CONDITIONS, Wire::Bytes(present)) if !is_set && type_of(present)? == SCHEDULED => {
                is_set = true;
                put_bytes(CONDITIONS, condition, &mut out);
            }
            (NOMINATED_NODE_NAME, Wire::Bytes(_)) => {
                put_bytes(NOMINATED_NODE_NAME, b"", &mut out);
            }
            (CONDITIONS | NOMINATED_NODE_NAME, wire) if !matches!(wire, Wire::Bytes(_)) => {
                return None;
            }
            _ => out.extend_from_slice(status.get(at..end)?),
        }
        (at, last) = (end, number);
    }
    // Plain fields come after the conditions in every status that was stored.
    is_set.then_some(out)
}

fn type_of(condition: &[u8]) -> Option<&str> {
    match Reader::new(condition).field() {
        Ok(Some((1, Wire::Bytes(kind)))) => std::str::from_utf8(kind).ok(),
        _ => None,
    }
}

/// `PodScheduled` is True since this second.
fn condition(seconds: i64, generation: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    put_bytes(1, SCHEDULED.as_bytes(), &mut out);
    put_bytes(2, b"True", &mut out);
    put_bytes(3, b"", &mut out);
    let mut time = Vec::with_capacity(16);
    put_tag(1, 0, &mut time);
    put_varint(seconds.cast_unsigned(), &mut time);
    put_int(2, 0, &mut time);
    put_bytes(4, &time, &mut out);
    put_bytes(5, b"", &mut out);
    put_bytes(6, b"", &mut out);
    put_int(7, generation.cast_unsigned(), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta::Value;
    use value::json;

    const NOW: i64 = 1_700_000_123_000_000;

    fn stored(pod: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        let ty = schema::kind_type("v1", "Pod").unwrap();
        schema::encode_stored(ty, pod, &mut out).unwrap();
        out
    }

    fn pod() -> Value {
        json!({"apiVersion": "v1", "kind": "Pod",
               "metadata": {"name": "p", "namespace": "d", "uid": "u", "generation": 1,
                            "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"a": "b"}},
               "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}],
                        "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
                        "tolerations": [{"key": "k", "operator": "Exists"}], "priority": 0},
               "status": {"phase": "Pending", "qosClass": "Burstable"}})
    }

    /// Both ways, which must agree where the short one answers.
    fn both(pod: &Value, uid: &str) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let binding = json!({"metadata": {"name": "p", "uid": uid}, "target": {"name": "node-1"}});
        let context = crate::Context {
            now_micros: NOW,
            user: "",
            random: &mut || 0,
        };
        let general = crate::bind(pod, &binding, &context).ok();
        let to = BindingTo {
            uid,
            node: "node-1",
            now_micros: NOW,
        };
        (bound(&stored(pod), to), general.map(|pod| stored(&pod)))
    }

    #[test]
    fn it_stores_what_the_general_way_stores() {
        let mut pods = vec![pod(); 7];
        pods[1]["status"]["conditions"] = json!([
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes",
             "lastTransitionTime": "2026-01-02T03:04:05Z"}]);
        pods[2]["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}, {"type": "PodScheduled", "status": "False"},
                   {"type": "DisruptionTarget", "status": "False"}]);
        pods[3]["status"]["conditions"] = json!([{"type": "Other", "status": "True"}]);
        pods[3]["status"]["nominatedNodeName"] = "node-7".into();
        pods[4]["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("generation");
        pods[5]["status"]["resourceClaimStatuses"] =
            json!([{"name": "a", "resourceClaimName": "b"}]);
        pods[5]["spec"]["hostNetwork"] = true.into();
        pods[6]["status"] = json!({});
        for (number, pod) in pods.iter().enumerate() {
            for uid in ["", "u"] {
                let (short, general) = both(pod, uid);
                assert!(short.is_some(), "pod {number}");
                assert_eq!(short, general, "pod {number}");
            }
        }
    }

    #[test]
    fn what_may_not_be_bound_is_left_to_the_general_way() {
        let mut pods = vec![pod(); 3];
        pods[0]["spec"]["nodeName"] = "node-2".into();
        pods[1]["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z".into();
        pods[2]["spec"]["schedulingGates"] = json!([{"name": "g"}]);
        for pod in &pods {
            assert_eq!(both(pod, "u"), (None, None));
        }
        assert_eq!(both(&pod(), "v"), (None, None));
        let whole = stored(&pod());
        let to = BindingTo {
            uid: "",
            node: "n",
            now_micros: NOW,
        };
        for end in 0..whole.len() {
            // Whatever becomes of broken bytes, it comes back.
            let _ = bound(&whole[..end], to);
        }
    }
}

//! A print of stored protobuf without some of its fields: whether anything else changed, without decoding.
//!
//! Does not know which fields mean nothing to whom.

use std::hash::Hasher;

use crate::fieldset::{Below, FieldSet};
use crate::wire::{Reader, Wire};

/// Ends a message that was gone into: no field has this number.
const END: u32 = 0;

/// Feeds everything but the fields of a set to a hasher; false if the message is broken.
pub fn print_without(left_out: &FieldSet, message: &[u8], hasher: &mut impl Hasher) -> bool {
    let mut reader = Reader::new(message);
    loop {
        let (number, wire) = match reader.field() {
            Ok(Some(field)) => field,
            Ok(None) => return true,
            Err(_) => return false,
        };
        match (left_out.get(number), wire) {
            (Some(Below::All), _) => continue,
            (_, Wire::Fixed32) => return false,
            (Some(Below::Some(inner)), Wire::Bytes(bytes)) => {
                hasher.write_u32(number);
                if !print_without(inner, bytes, hasher) {
                    return false;
                }
                hasher.write_u32(END);
            }
            (_, Wire::Bytes(bytes)) => {
                hasher.write_u32(number);
                hasher.write_usize(bytes.len());
                hasher.write(bytes);
            }
            (_, Wire::Varint(value) | Wire::Fixed64(value)) => {
                hasher.write_u32(number);
                hasher.write_u64(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::DefaultHasher;
    use value::{Value, json};

    fn node() -> Value {
        json!({"metadata": {"name": "n", "resourceVersion": "7", "labels": {"a": "b"}},
               "status": {"conditions": [
                   {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-02T03:04:05Z"},
                   {"type": "DiskPressure", "status": "False", "lastHeartbeatTime": "2026-01-02T03:04:05Z"}]}})
    }

    fn print(node: &Value) -> u64 {
        let ty = crate::kind_type("v1", "Node").unwrap();
        let left_out = [
            "metadata.resourceVersion",
            "status.conditions.lastHeartbeatTime",
        ];
        let left_out = FieldSet::compile(ty, &left_out).unwrap();
        let mut message = Vec::new();
        crate::encode_protobuf(ty, node, &mut message).unwrap();
        let mut hasher = DefaultHasher::new();
        assert!(print_without(&left_out, &message, &mut hasher));
        for end in 1..message.len() {
            // Whatever it makes of it, it comes back.
            print_without(&left_out, &message[..end], &mut DefaultHasher::new());
        }
        hasher.finish()
    }

    #[test]
    fn it_changes_with_everything_that_is_not_left_out() {
        let same = print(&node());
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut node = node();
            change(&mut node);
            print(&node) != same
        };
        assert!(!changed(
            &|node| node["metadata"]["resourceVersion"] = "8".into()
        ));
        assert!(!changed(&|node| {
            for condition in node["status"]["conditions"].as_array_mut().unwrap() {
                condition["lastHeartbeatTime"] = "2026-01-02T03:09:05Z".into();
            }
        }));
        assert!(changed(&|node| node["metadata"]["labels"]["a"] = "c".into()));
        assert!(changed(
            &|node| node["status"]["conditions"][0]["status"] = "False".into()
        ));
        assert!(changed(&|node| {
            node["status"]["conditions"].as_array_mut().unwrap().pop();
        }));
        assert!(changed(&|node| node["spec"]["unschedulable"] = true.into()));
    }
}

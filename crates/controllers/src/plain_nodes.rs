//! Nodes read from their bytes: what [`crate::feed::project`] makes of a node's tree, without the tree.
//!
//! A node that falls silent is told of twice, once marked and once tainted, and a hundred thousand may do so together.
//!
//! It gives no errors: whatever it does not read is left to the general way. Does not know what nodes mean.

use meta::time;
use reconcile::action;
use reconcile::daemonset::NodeFacts;
use reconcile::nodelifecycle::{NodeView, Readiness, Taint, wanted_taints};
use schema::wire::{Reader, Wire};

use crate::feed::{Seen, SeenBody};
use crate::plain::{LabelSets, Metadata, each, micros, pair, text};

const HOSTNAME: &str = "kubernetes.io/hostname";
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Reads nodes, and remembers their label sets, host names left out.
#[derive(Default)]
pub(crate) struct PlainNodes {
    labels: LabelSets,
    /// The entries of one node's labels.
    entries: Vec<u8>,
}

impl PlainNodes {
    /// The key of a node and what is kept of it. `None`: it is not plain.
    pub(crate) fn read(&mut self, message: &[u8]) -> Option<(String, Seen)> {
        let (mut metadata, mut spec, mut status): (&[u8], &[u8], &[u8]) = (b"", b"", b"");
        each(message, |number, wire| {
            match (number, wire) {
                (1, Wire::Bytes(bytes)) => metadata = bytes,
                (2, Wire::Bytes(bytes)) => spec = bytes,
                (3, Wire::Bytes(bytes)) => status = bytes,
                _ => return None,
            }
            Some(())
        })?;
        let metadata = Metadata::of(metadata)?;
        let (mut unschedulable, mut taints) = (false, Vec::new());
        each(spec, |number, wire| {
            match (number, wire) {
                (4, Wire::Varint(flag)) => unschedulable = flag != 0,
                (5, Wire::Bytes(bytes)) => taints.push(taint(bytes)?),
                (4 | 5, _) => return None,
                _ => {}
            }
            Some(())
        })?;
        let mut conditions = Vec::with_capacity(8);
        each(status, |number, wire| {
            match (number, wire) {
                (4, Wire::Bytes(bytes)) => conditions.push(Condition::of(bytes)?),
                (4, _) => return None,
                _ => {}
            }
            Some(())
        })?;
        let condition = |kind: &str| conditions.iter().find(|one| one.kind == kind);
        let status_of = |kind: &str| condition(kind).map_or("", |one| one.status);
        let readiness = Readiness::of(status_of("Ready"));
        let (facts, zone) = self.facts(&metadata, &taints)?;
        let view = NodeView {
            name: metadata.name.into(),
            uid: metadata.uid.into(),
            resource_version: metadata.version.into(),
            zone: zone.into(),
            created_micros: metadata.created_micros.unwrap_or(0),
            readiness,
            heartbeat_micros: condition("Ready").map_or(0, |one| one.heartbeat_micros),
            wanted_taints: wanted_taints(readiness, status_of, unschedulable),
            taints,
        };
        let key = metadata.name.to_owned();
        let body = SeenBody::Node(Box::new(view), Box::new(facts));
        Some((key, metadata.seen(action::NODES, body)?))
    }

    /// What DaemonSets see, and region and zone.
    fn facts(&mut self, metadata: &Metadata<'_>, taints: &[Taint]) -> Option<(NodeFacts, String)> {
        let (mut region, mut zone, mut host_is_name) = ("", "", false);
        self.entries.clear();
        let mut reader = Reader::new(metadata.labels);
        let mut at = 0;
        while let Some((_, wire)) = reader.field().ok()? {
            let Wire::Bytes(entry) = wire else {
                return None;
            };
            let (key, value) = pair(entry)?;
            match key {
                REGION => region = value,
                ZONE => zone = value,
                _ => {}
            }
            if key == HOSTNAME && value == metadata.name {
                host_is_name = true;
            } else {
                let entry = metadata.labels.get(at..reader.position())?;
                self.entries.extend_from_slice(entry);
            }
            at = reader.position();
        }
        // A map from which the host name was taken is an empty one, not none.
        if self.entries.is_empty() {
            return None;
        }
        let labels = self.labels.of(&self.entries)?;
        let facts = NodeFacts::new(labels, host_is_name, taints);
        Some((facts, format!("{region}:{zone}")))
    }
}

struct Condition<'a> {
    kind: &'a str,
    status: &'a str,
    heartbeat_micros: i64,
}

impl<'a> Condition<'a> {
    fn of(message: &'a [u8]) -> Option<Condition<'a>> {
        let mut condition = Condition {
            kind: "",
            status: "",
            heartbeat_micros: 0,
        };
        each(message, |number, wire| {
            match (number, wire) {
                (1, Wire::Bytes(bytes)) => condition.kind = text(bytes)?,
                (2, Wire::Bytes(bytes)) => condition.status = text(bytes)?,
                (3, Wire::Bytes(time)) => condition.heartbeat_micros = micros(time)?.unwrap_or(0),
                (1..=3, _) => return None,
                _ => {}
            }
            Some(())
        })?;
        Some(condition)
    }
}

fn taint(message: &[u8]) -> Option<Taint> {
    let [mut key, mut value, mut effect] = [""; 3];
    let mut added = None;
    each(message, |number, wire| {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, Wire::Bytes(bytes)) => value = text(bytes)?,
            (3, Wire::Bytes(bytes)) => effect = text(bytes)?,
            (4, Wire::Bytes(time)) => added = micros(time)?,
            _ => return None,
        }
        Some(())
    })?;
    Some(Taint {
        key: key.into(),
        value: value.into(),
        effect: effect.into(),
        time_added: added.map(|micros| time::format_seconds(micros).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{Feed, feeds, project};
    use meta::Value;
    use serde_json::json;

    struct Dice(u64);

    impl Dice {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % end as u64) as usize
        }

        fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
            from[self.below(from.len())]
        }

        fn time(&mut self) -> &'static str {
            self.pick(&[
                "2026-01-02T03:04:05Z",
                "2026-11-30T00:00:00Z",
                "1970-01-01T00:00:01Z",
            ])
        }

        fn node(&mut self) -> Value {
            let name = format!("n{}", self.below(9));
            let mut node = json!({"metadata": {"name": name, "uid": self.pick(&["u", "v"]), "resourceVersion": self.below(999).to_string(),
                "creationTimestamp": self.time(), "labels": {"a": "b"}}, "spec": {}, "status": {}});
            for key in [HOSTNAME, REGION, ZONE, "x"] {
                if self.below(3) > 0 {
                    node["metadata"]["labels"][key] = self.pick(&["", "n1", "z"]).into();
                }
            }
            if self.below(2) == 0 {
                node["metadata"]["labels"][HOSTNAME] = name.into();
            }
            if self.below(9) == 0 {
                node["metadata"]["labels"]
                    .as_object_mut()
                    .unwrap()
                    .remove("a");
            }
            if self.below(9) == 0 {
                node["metadata"]["deletionTimestamp"] = self.time().into();
                node["metadata"]["finalizers"] = json!(["a/b", "orphan"]);
            }
            if self.below(4) == 0 {
                node["spec"]["unschedulable"] = true.into();
            }
            let taint = |dice: &mut Dice, number: usize| {
                let mut taint = json!({"key": format!("k{number}"), "value": dice.pick(&["", "v"]), "effect": dice.pick(&["NoSchedule", "NoExecute"])});
                if dice.below(2) == 0 {
                    taint["timeAdded"] = dice.time().into();
                }
                taint
            };
            node["spec"]["taints"] = (0..self.below(3))
                .map(|number| taint(self, number))
                .collect();
            let condition = |dice: &mut Dice| {
                let kinds = [
                    "Ready",
                    "Ready",
                    "MemoryPressure",
                    "DiskPressure",
                    "PIDPressure",
                    "NetworkUnavailable",
                ];
                let mut condition = json!({"type": dice.pick(&kinds), "status": dice.pick(&["True", "False", "Unknown", ""]), "reason": "r"});
                if dice.below(2) == 0 {
                    condition["lastHeartbeatTime"] = dice.time().into();
                }
                condition
            };
            node["status"]["conditions"] = (0..self.below(6)).map(|_| condition(self)).collect();
            node["status"]["images"] = json!([{"names": ["i"], "sizeBytes": 7}]);
            node
        }
    }

    fn feed() -> Feed {
        *feeds()
            .iter()
            .find(|feed| feed.reference == action::NODES)
            .unwrap()
    }

    fn encoded(node: &Value) -> Vec<u8> {
        let mut message = Vec::new();
        schema::encode_protobuf(feed().resource.type_id, node, &mut message).unwrap();
        message
    }

    fn told((key, seen): &(String, Seen)) -> String {
        format!(
            "{key} {:?} {:?} {} {:?}",
            seen.observation, seen.finalizers, seen.version, seen.body
        )
    }

    #[test]
    fn bytes_say_what_the_tree_says() {
        const NODES: usize = 4_000;
        let (mut dice, mut plain) = (Dice(0x9e37_79b9_7f4a_7c15), PlainNodes::default());
        let mut read = 0;
        for _ in 0..NODES {
            let node = dice.node();
            let message = encoded(&node);
            let Some(short) = plain.read(&message) else {
                continue;
            };
            read += 1;
            let tree = schema::decode_protobuf(feed().resource.type_id, &message).unwrap();
            let general = (client::object_key(&tree), project(feed(), tree));
            assert_eq!(told(&short), told(&general), "{node}");
        }
        assert!(read > NODES * 3 / 4, "{read}");
    }

    #[test]
    fn broken_bytes_come_back() {
        let (mut dice, mut plain) = (Dice(7), PlainNodes::default());
        let whole = encoded(&dice.node());
        for end in 0..whole.len() {
            let _ = plain.read(&whole[..end]);
        }
        assert!(plain.read(&whole).is_some());
    }
}

//! A node as the life cycle sees it, in a few hundred bytes.

use super::{TAINT_NOT_READY, TAINT_UNREACHABLE, TAINT_UNSCHEDULABLE};
use crate::pod::{condition, items, micros, text_of};
use meta::{Value, object};

/// The Ready condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// True.
    Ready,
    /// False: the kubelet says so.
    NotReady,
    /// Unknown: the node is silent.
    Unknown,
    /// The kubelet never posted a status.
    Never,
}

/// A taint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// The key.
    pub key: Box<str>,
    /// The value, often empty.
    pub value: Box<str>,
    /// NoSchedule, PreferNoSchedule or NoExecute.
    pub effect: Box<str>,
    /// timeAdded as it stands.
    pub time_added: Option<Box<str>>,
}

impl Taint {
    pub(super) fn new(key: &str, effect: &str) -> Self {
        Self {
            key: key.into(),
            value: "".into(),
            effect: effect.into(),
            time_added: None,
        }
    }

    pub(super) fn is(&self, key: &str, effect: &str) -> bool {
        &*self.key == key && &*self.effect == effect
    }

    pub(super) fn to_value(&self) -> Value {
        let mut map = value::Map::new();
        let mut put = |key: &str, text: &str| {
            map.insert(key.to_owned(), Value::from(text));
        };
        put("key", &self.key);
        put("effect", &self.effect);
        if !self.value.is_empty() {
            put("value", &self.value);
        }
        if let Some(time_added) = &self.time_added {
            put("timeAdded", time_added);
        }
        Value::Object(map)
    }
}

/// The projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// metadata.name.
    pub name: Box<str>,
    /// metadata.uid.
    pub uid: Box<str>,
    /// metadata.resourceVersion, for taint patches.
    pub resource_version: Box<str>,
    /// Region and zone labels, joined.
    pub zone: Box<str>,
    /// metadata.creationTimestamp.
    pub created_micros: i64,
    /// The Ready condition.
    pub readiness: Readiness,
    /// lastHeartbeatTime of the Ready condition.
    pub heartbeat_micros: i64,
    /// Taint keys asked for by conditions and spec, NoSchedule.
    pub wanted_taints: Vec<&'static str>,
    /// spec.taints.
    pub taints: Vec<Taint>,
}

impl NodeView {
    /// Projects a whole node.
    pub fn from_object(node: &Value) -> Self {
        let status_of =
            |kind: &str| condition(node, kind).map_or("", |condition| text_of(condition, "status"));
        let readiness = match status_of("Ready") {
            "True" => Readiness::Ready,
            "False" => Readiness::NotReady,
            "" => Readiness::Never,
            _ => Readiness::Unknown,
        };
        let mut wanted_taints = Vec::new();
        match readiness {
            Readiness::NotReady => wanted_taints.push(TAINT_NOT_READY),
            Readiness::Unknown => wanted_taints.push(TAINT_UNREACHABLE),
            Readiness::Ready | Readiness::Never => {}
        }
        let pressures = [
            ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
            ("DiskPressure", "node.kubernetes.io/disk-pressure"),
            (
                "NetworkUnavailable",
                "node.kubernetes.io/network-unavailable",
            ),
            ("PIDPressure", "node.kubernetes.io/pid-pressure"),
        ];
        wanted_taints.extend(
            pressures
                .iter()
                .filter(|(kind, _)| status_of(kind) == "True")
                .map(|(_, taint)| taint),
        );
        if object::bool_at(node, &["spec", "unschedulable"]) == Some(true) {
            wanted_taints.push(TAINT_UNSCHEDULABLE);
        }
        let label = |key: &str| object::label(node, key).unwrap_or_default();
        Self {
            name: object::name(node).into(),
            uid: object::uid(node).into(),
            resource_version: object::resource_version(node).into(),
            zone: format!(
                "{}:{}",
                label("topology.kubernetes.io/region"),
                label("topology.kubernetes.io/zone")
            )
            .into(),
            created_micros: micros(node.pointer("/metadata/creationTimestamp")).unwrap_or(0),
            readiness,
            heartbeat_micros: micros(
                condition(node, "Ready").and_then(|ready| ready.get("lastHeartbeatTime")),
            )
            .unwrap_or(0),
            wanted_taints,
            taints: items(node, &["spec", "taints"])
                .iter()
                .map(|taint| Taint {
                    key: text_of(taint, "key").into(),
                    value: text_of(taint, "value").into(),
                    effect: text_of(taint, "effect").into(),
                    time_added: taint
                        .get("timeAdded")
                        .and_then(Value::as_str)
                        .map(Box::from),
                })
                .collect(),
        }
    }
}

/// Taint keys this controller adds and removes with effect NoSchedule.
pub(super) const MANAGED_NO_SCHEDULE: [&str; 7] = [
    TAINT_NOT_READY,
    TAINT_UNREACHABLE,
    TAINT_UNSCHEDULABLE,
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/pid-pressure",
];

//! The body of a Node's registration, written straight as protobuf.
//!
//! What the nodes of a shape have in common, most of their 2.6 KB, is encoded once; of each node only what is its own is
//! written. Says the same as [`crate::node::object_at`]; a test holds the two together. Knows nothing else of protobuf.

use meta::Value;
use schema::wire::{Reader, Wire, put_bytes, put_int};

use crate::layout::{Layout, Place, RACK_LABEL};
use crate::node::{HEALTHY, boot_id, machine_id, node_address, node_name, object_at, system_uuid};

/// Numbers of fields (k8s `core/v1/generated.proto`, `meta/v1/generated.proto`).
mod number {
    pub(super) const METADATA: u32 = 1;
    pub(super) const SPEC: u32 = 2;
    pub(super) const STATUS: u32 = 3;
    pub(super) const NAME: u32 = 1;
    pub(super) const LABELS: u32 = 11;
    pub(super) const ANNOTATIONS: u32 = 12;
    pub(super) const PROVIDER_ID: u32 = 3;
    pub(super) const TAINTS: u32 = 5;
    pub(super) const CAPACITY: u32 = 1;
    pub(super) const ALLOCATABLE: u32 = 2;
    pub(super) const CONDITIONS: u32 = 4;
    pub(super) const ADDRESSES: u32 = 5;
    pub(super) const DAEMON_ENDPOINTS: u32 = 6;
    pub(super) const NODE_INFO: u32 = 7;
    pub(super) const IMAGES: u32 = 8;
    /// Of node info, what each node has of its own: machineID, systemUUID, bootID.
    pub(super) const IDENTITIES: [u32; 3] = [1, 2, 3];
}

/// Labels and annotations that differ between the nodes of a shape.
const OWN_LABELS: [&str; 4] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    RACK_LABEL,
];
const OWN_ANNOTATION: &str = "csi.volume.kubernetes.io/nodeid";

/// What the nodes of each shape have in common.
pub(crate) struct Registrations(Vec<Shared>);

/// Fields of one shape, encoded.
#[derive(Default)]
struct Shared {
    metadata: Vec<u8>,
    spec: Vec<u8>,
    status: Vec<u8>,
    node_info: Vec<u8>,
}

impl Registrations {
    pub(crate) fn new(layout: &Layout) -> Registrations {
        Registrations(
            layout
                .shapes()
                .iter()
                .map(|shape| {
                    let place = Place {
                        shape,
                        ..layout.place(0)
                    };
                    Shared::of(&place)
                })
                .collect(),
        )
    }

    /// The body of a node's registration: `v1` Node in its envelope.
    pub(crate) fn body(
        &self,
        layout: &Layout,
        index: usize,
        boots: u8,
        now_micros: i64,
    ) -> Vec<u8> {
        let place = layout.place(index);
        let mut shapes = layout.shapes().iter().zip(&self.0);
        let shared = shapes.find(|(shape, _)| std::ptr::eq(*shape, place.shape));
        let mut node = Vec::with_capacity(4096);
        match shared {
            Some((_, shared)) => shared.write(index, &place, boots, now_micros, &mut node),
            // A place is one of its layout's.
            None => encode(&object_at(index, &place, boots, now_micros), &mut node),
        }
        let mut body = Vec::with_capacity(node.len() + 64);
        schema::envelope::wrap("v1", "Node", &node, &mut body);
        body
    }
}

impl Shared {
    fn of(place: &Place<'_>) -> Shared {
        let mut node = object_at(0, place, 0, 0);
        // A label that the shape sets itself is the same on all of its nodes.
        for label in OWN_LABELS {
            if !place.shape.labels.contains_key(label) {
                remove(&mut node["metadata"]["labels"], label);
            }
        }
        if !place.shape.annotations.contains_key(OWN_ANNOTATION) {
            remove(&mut node["metadata"]["annotations"], OWN_ANNOTATION);
        }
        let mut message = Vec::new();
        encode(&node, &mut message);
        let part = |of: u32, keep: &dyn Fn(u32) -> bool| picked(content(&message, of), keep);
        Shared {
            metadata: part(number::METADATA, &|field| {
                matches!(field, number::LABELS | number::ANNOTATIONS)
            }),
            spec: part(number::SPEC, &|field| field == number::TAINTS),
            status: part(number::STATUS, &|field| {
                matches!(
                    field,
                    number::CAPACITY
                        | number::ALLOCATABLE
                        | number::DAEMON_ENDPOINTS
                        | number::IMAGES
                )
            }),
            node_info: picked(
                content(content(&message, number::STATUS), number::NODE_INFO),
                |field| !number::IDENTITIES.contains(&field),
            ),
        }
    }

    fn write(
        &self,
        index: usize,
        place: &Place<'_>,
        boots: u8,
        now_micros: i64,
        out: &mut Vec<u8>,
    ) {
        let name = node_name(index);
        let mut metadata = Vec::with_capacity(self.metadata.len() + 512);
        put_bytes(number::NAME, name.as_bytes(), &mut metadata);
        // What the shape says comes later, and counts.
        let rack = place.rack_name();
        let own = [
            Some(name.as_str()),
            Some(place.region),
            Some(place.zone),
            rack.as_deref(),
        ];
        for (label, value) in OWN_LABELS.iter().zip(own) {
            let Some(value) = value else { continue };
            if !place.shape.labels.contains_key(*label) {
                put_entry(number::LABELS, label, value, &mut metadata);
            }
        }
        if !place.shape.annotations.contains_key(OWN_ANNOTATION) {
            let value = crate::node::csi_node_id(&name);
            put_entry(number::ANNOTATIONS, OWN_ANNOTATION, &value, &mut metadata);
        }
        metadata.extend_from_slice(&self.metadata);

        let mut spec = Vec::with_capacity(self.spec.len() + 64);
        let provider = crate::node::provider_id(place.zone, &name);
        put_bytes(number::PROVIDER_ID, provider.as_bytes(), &mut spec);
        spec.extend_from_slice(&self.spec);

        let mut status = Vec::with_capacity(self.status.len() + 1024);
        status.extend_from_slice(&self.status);
        put_conditions(now_micros, &mut status);
        let address = node_address(index);
        let domain = crate::node::internal_dns(&name, place.region);
        for (kind, address) in [
            ("InternalIP", &address),
            ("InternalDNS", &domain),
            ("Hostname", &name),
        ] {
            put_entry(number::ADDRESSES, kind, address, &mut status);
        }
        let mut info = Vec::with_capacity(self.node_info.len() + 160);
        let own = [machine_id(index), system_uuid(index), boot_id(index, boots)];
        for (field, value) in number::IDENTITIES.into_iter().zip(&own) {
            put_bytes(field, value.as_bytes(), &mut info);
        }
        info.extend_from_slice(&self.node_info);
        put_bytes(number::NODE_INFO, &info, &mut status);

        put_bytes(number::METADATA, &metadata, out);
        put_bytes(number::SPEC, &spec, out);
        put_bytes(number::STATUS, &status, out);
    }
}

/// `type`, `status`, both times, `reason` and `message` of each condition.
fn put_conditions(now_micros: i64, out: &mut Vec<u8>) {
    let mut time = Vec::with_capacity(16);
    put_int(
        1,
        now_micros.div_euclid(1_000_000).cast_unsigned(),
        &mut time,
    );
    let mut condition = Vec::with_capacity(160);
    for [kind, status, reason, message] in HEALTHY {
        condition.clear();
        put_bytes(1, kind.as_bytes(), &mut condition);
        put_bytes(2, status.as_bytes(), &mut condition);
        put_bytes(3, &time, &mut condition);
        put_bytes(4, &time, &mut condition);
        put_bytes(5, reason.as_bytes(), &mut condition);
        put_bytes(6, message.as_bytes(), &mut condition);
        put_bytes(number::CONDITIONS, &condition, out);
    }
}

/// A message of two texts: an entry of a map, or an address.
fn put_entry(field: u32, key: &str, value: &str, out: &mut Vec<u8>) {
    let mut entry = Vec::with_capacity(key.len() + value.len() + 8);
    put_bytes(1, key.as_bytes(), &mut entry);
    put_bytes(2, value.as_bytes(), &mut entry);
    put_bytes(field, &entry, out);
}

fn remove(map: &mut Value, key: &str) {
    if let Some(map) = map.as_object_mut() {
        map.remove(key);
    }
}

fn encode(node: &Value, out: &mut Vec<u8>) {
    let type_id = crate::resource("", "nodes").type_id;
    let encoded = schema::encode_protobuf(type_id, node, out);
    encoded.expect("quantities and texts of a configuration that was checked");
}

/// The content of a message's field, empty if it is not there.
fn content(message: &[u8], wanted: u32) -> &[u8] {
    let mut reader = Reader::new(message);
    while let Ok(Some((field, wire))) = reader.field() {
        if let (true, Wire::Bytes(bytes)) = (field == wanted, wire) {
            return bytes;
        }
    }
    &[]
}

/// The fields of a message that are wanted, all of them texts or messages.
fn picked(message: &[u8], keep: impl Fn(u32) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reader = Reader::new(message);
    while let Ok(Some((field, wire))) = reader.field() {
        if let (true, Wire::Bytes(bytes)) = (keep(field), wire) {
            put_bytes(field, bytes, &mut out);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{NodeShape, Taint};

    #[test]
    fn the_short_way_says_the_same_as_the_tree() {
        let rich = NodeShape {
            name: "rich".into(),
            reserved_cpu_cores: 2,
            resources: [("nvidia.com/gpu".to_owned(), 8)].into(),
            labels: [
                ("pool".to_owned(), "gpu".to_owned()),
                ("topology.kubernetes.io/zone".to_owned(), "mine".to_owned()),
                ("type".to_owned(), "other".to_owned()),
            ]
            .into(),
            annotations: [
                ("note".to_owned(), "kept".to_owned()),
                (OWN_ANNOTATION.to_owned(), "{}".to_owned()),
            ]
            .into(),
            taints: vec![Taint {
                key: "gpu".into(),
                value: "yes".into(),
                effect: "NoSchedule".into(),
            }],
            ..NodeShape::default()
        };
        let bare = NodeShape {
            images: Vec::new(),
            ..NodeShape::default()
        };
        let zones = ["a", "b"].map(String::from).to_vec();
        let racks = Layout::new(
            "r".into(),
            zones.clone(),
            3,
            vec![rich, NodeShape::default()],
        );
        let no_racks = Layout::new("r".into(), zones, 0, vec![bare]);
        let nodes = crate::resource("", "nodes");
        for layout in [Layout::default(), racks.unwrap(), no_racks.unwrap()] {
            let registrations = Registrations::new(&layout);
            for (index, boots, now) in [
                (0, 0, 0),
                (254, 3, 1_767_225_600_123_456),
                (3_999_999, 255, 1_767_225_600_999_999),
                (1, 1, 1_000_000),
            ] {
                let body = registrations.body(&layout, index, boots, now);
                let unknown = schema::envelope::unwrap(&body).unwrap();
                assert_eq!((unknown.api_version, unknown.kind), ("v1", "Node"));
                let read = schema::decode_protobuf(nodes.type_id, unknown.raw).unwrap();
                let mut tree = Vec::new();
                encode(
                    &object_at(index, &layout.place(index), boots, now),
                    &mut tree,
                );
                let wanted = schema::decode_protobuf(nodes.type_id, &tree).unwrap();
                assert_eq!(read, wanted, "{index}");
            }
        }
    }
}

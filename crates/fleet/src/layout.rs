//! How nodes differ: shapes by weight, zones, racks. The place of a node in the fleet says all of it, so nothing is
//! kept of a node's looks.
//!
//! ```text
//!   index ─► round (one node of each weight) and turn in it
//!   turn          ─► shape
//!   turn + round  ─► zone        so that every shape is in every zone
//!   round / zones ─► rack
//! ```
//!
//! Knows no file and no API object.

use std::collections::BTreeMap;

/// Shapes of one fleet, and the sum of their weights: a table of this many bytes says whose turn it is.
pub const SHAPES_MAX: usize = 200;
/// Largest sum of all weights.
pub const WEIGHTS_MAX: u32 = 10_000;
/// Zones of one fleet.
pub const ZONES_MAX: usize = 1_000;
/// Racks of one zone.
pub const RACKS_MAX: u32 = 100_000;
/// Images of one shape: a kubelet reports its 50 largest (k8s `nodeStatusMaxImages`).
pub const IMAGES_MAX: usize = 50;
/// Label of a node's rack.
pub const RACK_LABEL: &str = "megaplane/rack";

/// A container image that is on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its names, with tag or digest.
    pub names: Vec<String>,
    /// Its size.
    pub bytes: u64,
}

/// A taint that a node registers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value; empty for none.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// Nodes that look alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeShape {
    /// Name, for fault scripts and for the instance type.
    pub name: String,
    /// How many nodes of each round are of this shape.
    pub weight: u32,
    /// Cores of a node.
    pub cpu_cores: u32,
    /// Memory of a node, in GiB.
    pub memory_gib: u32,
    /// Disk of a node, in GiB.
    pub disk_gib: u32,
    /// Pods a node takes.
    pub pods: u32,
    /// Cores and GiB of memory that system and kubelet keep for themselves: capacity less these is allocatable.
    pub reserved_cpu_cores: u32,
    /// Memory that is kept back, in GiB.
    pub reserved_memory_gib: u32,
    /// `kubernetes.io/arch`.
    pub architecture: String,
    /// More resources, by name: `nvidia.com/gpu`.
    pub resources: BTreeMap<String, u64>,
    /// More labels.
    pub labels: BTreeMap<String, String>,
    /// More annotations.
    pub annotations: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<Taint>,
    /// Images.
    pub images: Vec<Image>,
    /// Zones that it is in; none for all of the fleet's.
    pub zones: Vec<String>,
    /// How many times slower than others its pods start, in tenths.
    pub slowness_tenths: u16,
}

impl Default for NodeShape {
    fn default() -> NodeShape {
        NodeShape {
            name: String::new(),
            weight: 1,
            cpu_cores: 32,
            memory_gib: 256,
            disk_gib: 512,
            pods: 110,
            reserved_cpu_cores: 0,
            reserved_memory_gib: 0,
            architecture: "amd64".into(),
            resources: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            images: default_images(),
            zones: Vec::new(),
            slowness_tenths: 10,
        }
    }
}

impl NodeShape {
    /// `node.kubernetes.io/instance-type`: the name, or the size.
    pub(crate) fn instance_type(&self) -> String {
        if self.name.is_empty() {
            format!("simulated.{}x{}", self.cpu_cores, self.memory_gib)
        } else {
            self.name.clone()
        }
    }
}

/// What a fresh node of a managed cluster has: a few images, each by tag and by digest.
fn default_images() -> Vec<Image> {
    [
        (
            "simulated.example/system/network-agent",
            "v1.19.3",
            0x51_a3_5c,
        ),
        ("simulated.example/system/kube-proxy", "v1.36.0", 0x2f_9e_01),
        ("simulated.example/system/log-shipper", "v4.0.7", 0x73_0d_88),
        (
            "simulated.example/system/disk-csi-driver",
            "v2.31.1",
            0x64_22_b9,
        ),
        (
            "simulated.example/system/node-exporter",
            "v1.9.1",
            0x18_5b_30,
        ),
        ("simulated.example/system/dns-cache", "v1.26.4", 0x40_17_6e),
    ]
    .into_iter()
    .map(|(repository, tag, seed)| Image {
        names: vec![
            format!("{repository}@sha256:{}", digest(seed)),
            format!("{repository}:{tag}"),
        ],
        bytes: 20_000_000 + seed * 13,
    })
    .collect()
}

/// 64 hexadecimal digits that look like a digest and are none.
fn digest(seed: u64) -> String {
    let mut word = seed;
    (0..4)
        .map(|_| {
            word = word
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            format!("{word:016x}")
        })
        .collect()
}

/// Shapes, zones and racks of a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// `topology.kubernetes.io/region`.
    pub region: String,
    /// Names of the zones, dealt out in turn.
    zones: Vec<String>,
    /// Racks of each zone; 0 for none.
    pub racks: u32,
    shapes: Vec<NodeShape>,
    /// Whose turn it is within a round.
    turns: Vec<u8>,
}

/// Where a node is and what it looks like.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its shape.
    pub shape: &'a NodeShape,
    /// Its zone.
    pub zone: &'a str,
    /// The number of its rack in its zone.
    pub rack: Option<u32>,
    /// Its region.
    pub region: &'a str,
}

impl Place<'_> {
    /// The rack's name, over all zones: `zone-a-r7`.
    #[must_use]
    pub fn rack_name(&self) -> Option<String> {
        Some(format!("{}-r{}", self.zone, self.rack?))
    }
}

impl Default for Layout {
    fn default() -> Layout {
        Layout::of_one(NodeShape::default())
    }
}

impl Layout {
    /// Three zones of ten racks, and nodes that all look alike.
    #[must_use]
    pub fn of_one(shape: NodeShape) -> Layout {
        Layout {
            region: "region-1".into(),
            zones: ["zone-a", "zone-b", "zone-c"].map(String::from).to_vec(),
            racks: 10,
            shapes: vec![shape],
            turns: vec![0],
        }
    }

    /// A layout of these zones and shapes.
    ///
    /// # Errors
    /// What is missing or too much, in words.
    pub fn new(
        region: String,
        zones: Vec<String>,
        racks: u32,
        shapes: Vec<NodeShape>,
    ) -> Result<Layout, String> {
        if zones.is_empty() || zones.len() > ZONES_MAX {
            return Err(format!("zones: from 1 to {ZONES_MAX} are needed"));
        }
        if racks > RACKS_MAX {
            return Err(format!("racksPerZone: at most {RACKS_MAX}"));
        }
        if shapes.is_empty() || shapes.len() > SHAPES_MAX {
            return Err(format!("shapes: from 1 to {SHAPES_MAX} are needed"));
        }
        let weights: u32 = shapes
            .iter()
            .map(|shape| shape.weight)
            .fold(0, u32::saturating_add);
        if weights == 0 || weights > WEIGHTS_MAX {
            return Err(format!(
                "shapes: the sum of all weights must be from 1 to {WEIGHTS_MAX}"
            ));
        }
        for shape in &shapes {
            if let Some(zone) = shape.zones.iter().find(|zone| !zones.contains(zone)) {
                return Err(format!("shape {:?}: there is no zone {zone:?}", shape.name));
            }
        }
        Ok(Layout {
            region,
            zones,
            racks,
            turns: turns(&shapes, weights),
            shapes,
        })
    }

    /// The zones' names.
    #[must_use]
    pub fn zones(&self) -> &[String] {
        &self.zones
    }

    /// The shapes.
    #[must_use]
    pub fn shapes(&self) -> &[NodeShape] {
        &self.shapes
    }

    /// The node at `index`.
    #[must_use]
    pub fn place(&self, index: usize) -> Place<'_> {
        let (round, turn) = (index / self.turns.len(), index % self.turns.len());
        let shape = &self.shapes[usize::from(self.turns[turn])];
        let zones = if shape.zones.is_empty() {
            &self.zones
        } else {
            &shape.zones
        };
        let zone = &zones[(turn + round) % zones.len()];
        let rack = u64::try_from(round / zones.len())
            .ok()
            .and_then(|level| u32::try_from(level.checked_rem(u64::from(self.racks))?).ok());
        Place {
            shape,
            zone,
            rack,
            region: &self.region,
        }
    }
}

/// The order of shapes in a round: each as evenly spread as its weight allows (smooth weighted round robin).
fn turns(shapes: &[NodeShape], weights: u32) -> Vec<u8> {
    let mut credits = vec![0i64; shapes.len()];
    (0..weights)
        .map(|_| {
            for (credit, shape) in credits.iter_mut().zip(shapes) {
                *credit += i64::from(shape.weight);
            }
            // The first of the richest.
            let mut best = 0;
            for (at, credit) in credits.iter().enumerate() {
                if *credit > credits[best] {
                    best = at;
                }
            }
            credits[best] -= i64::from(weights);
            u8::try_from(best).unwrap_or(0)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(name: &str, weight: u32) -> NodeShape {
        NodeShape {
            name: name.into(),
            weight,
            ..NodeShape::default()
        }
    }

    fn zones(count: usize) -> Vec<String> {
        (0..count).map(|zone| format!("z{zone}")).collect()
    }

    #[test]
    fn shapes_come_by_weight_and_each_is_in_every_zone() {
        let layout = Layout::new(
            "r".into(),
            zones(3),
            2,
            vec![shape("big", 1), shape("small", 2)],
        )
        .unwrap();
        let names: String = (0..6)
            .map(|index| &layout.place(index).shape.name[..1])
            .collect();
        assert_eq!(names, "sbssbs");
        let mut seen = std::collections::BTreeMap::new();
        for index in 0..18_000 {
            let place = layout.place(index);
            *seen
                .entry((place.shape.name.clone(), place.rack_name().unwrap()))
                .or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 2 * 3 * 2, "{seen:?}");
        for ((name, rack), count) in seen {
            let expected = if name == "big" { 1_000 } else { 2_000 };
            assert_eq!(count, expected, "{name} in {rack}");
        }
    }

    #[test]
    fn a_shape_may_be_in_some_zones_only_and_racks_may_be_none() {
        let mut only = shape("only", 1);
        only.zones = vec!["z1".into()];
        let layout = Layout::new("r".into(), zones(2), 0, vec![only]).unwrap();
        for index in 0..10 {
            let place = layout.place(index);
            assert_eq!((place.zone, place.rack), ("z1", None));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |zones, shapes| Layout::new("r".into(), zones, 1, shapes).unwrap_err();
        assert_eq!(
            refused(vec![], vec![shape("a", 1)]),
            "zones: from 1 to 1000 are needed"
        );
        assert_eq!(
            refused(zones(1), vec![shape("a", 0)]),
            "shapes: the sum of all weights must be from 1 to 10000"
        );
        let mut lost = shape("a", 1);
        lost.zones = vec!["nowhere".into()];
        assert_eq!(
            refused(zones(1), vec![lost]),
            "shape \"a\": there is no zone \"nowhere\""
        );
    }
}

//! What volumes are made of, as placement sees it, and how it is read from API objects: claims, volumes, classes,
//! drivers and what they offer, and volumes attached to nodes.
//!
//! Plain values. Does not know which pod asks for what, nor any node.

use super::migrated;
use crate::objects::{
    Requirement, SelectorOperator, Term, items, pairs, required_terms, text, thousandths,
};
use crate::terms::{HOSTNAME_KEY, Pairs, selector};
use meta::Value;
use meta::labels::LabelSelector;

/// On which node the volume of a claim is to be made.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Says that the binding of a claim is complete.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// The provisioner of classes whose volumes are made by hand.
pub(crate) const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// Names a class where the field does not.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// Labels of zones and regions, and what each is called otherwise.
const ZONE_LABELS: [(&str, &str); 4] = [
    (
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    (
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/zone",
    ),
    (
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/region",
    ),
];

/// A volume as drivers and limits know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attach {
    /// CSI driver.
    pub driver: Box<str>,
    /// Its handle of the volume; of one that is not made yet, one that no volume has.
    pub handle: Box<str>,
}

/// What claims and volumes must agree about, besides size and selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fabric {
    /// Storage class.
    pub class: Box<str>,
    /// Access modes.
    pub modes: Vec<Box<str>>,
    /// A raw device instead of a file system.
    pub block: bool,
    /// VolumeAttributesClass.
    pub attributes: Box<str>,
}

/// What is kept of a claim.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    pub(crate) uid: Box<str>,
    pub(crate) fabric: Fabric,
    pub(crate) volume: Box<str>,
    pub(crate) bound: bool,
    pub(crate) lost: bool,
    pub(crate) deleting: bool,
    /// `None` when nobody chose one.
    pub(crate) selected: Option<Box<str>>,
    /// Uid of the pod that it was made for, if that is its controller.
    pub(crate) owner: Box<str>,
    /// What is asked for, in thousandths of bytes.
    pub(crate) size: Option<i128>,
    pub(crate) selector: Option<LabelSelector>,
}

/// Whom a volume is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimRef {
    /// `namespace/name`.
    pub(crate) claim: Box<str>,
    /// Empty where any claim of that name is meant.
    pub(crate) uid: Box<str>,
}

impl ClaimRef {
    pub(crate) fn means(&self, claim: &str, uid: &str) -> bool {
        *self.claim == *claim && (self.uid.is_empty() || *self.uid == *uid)
    }
}

/// What is kept of a volume.
#[derive(Debug, PartialEq, Eq)]
pub struct Volume {
    pub(crate) claim: Option<ClaimRef>,
    pub(crate) fabric: Fabric,
    /// In thousandths of bytes.
    pub(crate) size: i128,
    pub(crate) labels: Pairs,
    pub(crate) available: bool,
    pub(crate) deleting: bool,
    pub(crate) affinity: Option<Vec<Term>>,
    /// Values of the host name label that its affinity allows, where it names some.
    pub(crate) hosts: Option<Vec<Box<str>>>,
    pub(crate) zones: Vec<Vec<Term>>,
    pub(crate) attach: Option<Attach>,
    /// The handle of a volume that is CSI's own.
    pub(crate) csi_handle: Option<Box<str>>,
}

/// What is kept of a class.
#[derive(Debug, PartialEq, Eq)]
pub struct Class {
    pub(crate) provisioner: Box<str>,
    pub(crate) waits: bool,
    pub(crate) topologies: Vec<Term>,
}

/// How many volumes of each driver a node takes, where that is limited.
#[derive(Debug, PartialEq, Eq)]
pub struct CsiNode {
    pub(crate) limits: Vec<(Box<str>, i64)>,
}

/// Whether a driver tells what it has room for.
#[derive(Debug, PartialEq, Eq)]
pub struct Driver {
    pub(crate) tells_capacity: bool,
}

/// Room for volumes of a class on some nodes.
#[derive(Debug, PartialEq, Eq)]
pub struct Capacity {
    pub(crate) class: Box<str>,
    pub(crate) nodes: Option<LabelSelector>,
    /// The largest volume, in bytes.
    pub(crate) limit: Option<i128>,
}

/// A volume attached to a node.
#[derive(Debug, PartialEq, Eq)]
pub struct Attachment {
    pub(crate) node: Box<str>,
    pub(crate) driver: Box<str>,
    pub(crate) volume: Box<str>,
}

/// Something that came or changed.
#[derive(Debug)]
pub enum Thing {
    /// A claim.
    Claim(Claim),
    /// A volume.
    Volume(Volume),
    /// A storage class.
    Class(Class),
    /// What a node takes.
    CsiNode(CsiNode),
    /// A driver.
    Driver(Driver),
    /// What a driver has room for.
    Capacity(Capacity),
    /// An attached volume.
    Attachment(Attachment),
}

/// Which kind of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThingKind {
    /// PersistentVolumeClaim.
    Claims,
    /// PersistentVolume.
    Volumes,
    /// StorageClass.
    Classes,
    /// CSINode.
    CsiNodes,
    /// CSIDriver.
    Drivers,
    /// CSIStorageCapacity.
    Capacities,
    /// VolumeAttachment.
    Attachments,
}

/// Rounded up, as whole amounts of the API are.
pub(crate) fn whole(thousandths: i128) -> i128 {
    thousandths.div_euclid(1000) + i128::from(thousandths.rem_euclid(1000) != 0)
}

fn size(list: &Value) -> Option<i128> {
    let quantity = &list["storage"];
    // What cannot be read asks for more than there is.
    (!quantity.is_null()).then(|| thousandths("storage", quantity).unwrap_or(i128::MAX))
}

fn fabric(metadata: &Value, spec: &Value) -> Fabric {
    let class = match text(&metadata["annotations"][CLASS_ANNOTATION]) {
        "" => text(&spec["storageClassName"]),
        annotated => annotated,
    };
    Fabric {
        class: class.into(),
        modes: items(&spec["accessModes"])
            .map(|m| text(m).into())
            .collect(),
        block: spec["volumeMode"] == "Block",
        attributes: text(&spec["volumeAttributesClassName"]).into(),
    }
}

fn namespaced(reference: &Value) -> Box<str> {
    format!(
        "{}/{}",
        text(&reference["namespace"]),
        text(&reference["name"])
    )
    .into()
}

impl Thing {
    /// Reads an object of that kind.
    pub fn read(kind: ThingKind, object: &Value) -> Thing {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        match kind {
            ThingKind::Claims => Thing::Claim(claim(metadata, spec, &object["status"])),
            ThingKind::Volumes => Thing::Volume(volume(metadata, spec, &object["status"])),
            ThingKind::Classes => Thing::Class(Class {
                provisioner: text(&object["provisioner"]).into(),
                waits: object["volumeBindingMode"] == "WaitForFirstConsumer",
                topologies: items(&object["allowedTopologies"]).map(topology).collect(),
            }),
            ThingKind::CsiNodes => {
                let limits = items(&spec["drivers"]).filter_map(|driver| {
                    let count = driver["allocatable"]["count"].as_i64()?;
                    Some((text(&driver["name"]).into(), count))
                });
                Thing::CsiNode(CsiNode {
                    limits: limits.collect(),
                })
            }
            ThingKind::Drivers => Thing::Driver(Driver {
                tells_capacity: spec["storageCapacity"] == true,
            }),
            ThingKind::Capacities => {
                let read = |field: &str| {
                    let quantity = &object[field];
                    let known = !quantity.is_null();
                    known.then(|| thousandths(field, quantity).map_or(0, whole))
                };
                Thing::Capacity(Capacity {
                    class: text(&object["storageClassName"]).into(),
                    nodes: object["nodeTopology"]
                        .is_object()
                        .then(|| selector(&object["nodeTopology"])),
                    limit: read("maximumVolumeSize").or_else(|| read("capacity")),
                })
            }
            ThingKind::Attachments => Thing::Attachment(Attachment {
                node: text(&spec["nodeName"]).into(),
                driver: text(&spec["attacher"]).into(),
                volume: text(&spec["source"]["persistentVolumeName"]).into(),
            }),
        }
    }
}

fn claim(metadata: &Value, spec: &Value, status: &Value) -> Claim {
    let annotations = &metadata["annotations"];
    let controller = items(&metadata["ownerReferences"]).find(|o| o["controller"] == true);
    let volume = text(&spec["volumeName"]);
    Claim {
        uid: text(&metadata["uid"]).into(),
        fabric: fabric(metadata, spec),
        volume: volume.into(),
        bound: !volume.is_empty() && annotations[BIND_COMPLETED].is_string(),
        lost: status["phase"] == "Lost",
        deleting: !metadata["deletionTimestamp"].is_null(),
        selected: annotations[SELECTED_NODE].as_str().map(Into::into),
        owner: controller.map_or("", |owner| text(&owner["uid"])).into(),
        size: size(&spec["resources"]["requests"]),
        selector: spec["selector"]
            .is_object()
            .then(|| selector(&spec["selector"])),
    }
}

fn volume(metadata: &Value, spec: &Value, status: &Value) -> Volume {
    let reference = &spec["claimRef"];
    // The same form as that of a pod's node affinity, under another name.
    let required = &spec["nodeAffinity"]["required"];
    let affinity = required_terms(&value::json!({
        "requiredDuringSchedulingIgnoredDuringExecution": required}));
    let csi = &spec["csi"];
    let own = csi.is_object().then(|| Attach {
        driver: text(&csi["driver"]).into(),
        handle: text(&csi["volumeHandle"]).into(),
    });
    Volume {
        claim: reference.is_object().then(|| ClaimRef {
            claim: namespaced(reference),
            uid: text(&reference["uid"]).into(),
        }),
        fabric: fabric(metadata, spec),
        size: size(&spec["capacity"]).unwrap_or(0),
        labels: pairs(&metadata["labels"]),
        available: status["phase"] == "Available",
        deleting: !metadata["deletionTimestamp"].is_null(),
        hosts: affinity.as_deref().and_then(hosts),
        affinity,
        zones: zones(&metadata["labels"]),
        csi_handle: own.as_ref().map(|own| own.handle.clone()),
        attach: own
            .or_else(|| migrated::of_volume(spec, &metadata["labels"]))
            .filter(|known| !known.driver.is_empty() && !known.handle.is_empty()),
    }
}

/// Host names that terms allow, when every term names some.
fn hosts(terms: &[Term]) -> Option<Vec<Box<str>>> {
    let mut all = Vec::new();
    for term in terms {
        let named = term
            .expressions
            .iter()
            .find(|r| &*r.key == HOSTNAME_KEY && r.operator == SelectorOperator::In)?;
        all.extend(named.values.iter().cloned());
    }
    all.sort();
    all.dedup();
    Some(all)
}

fn requirement(key: &str, operator: SelectorOperator, values: Vec<Box<str>>) -> Requirement {
    Requirement {
        key: key.into(),
        operator,
        values,
    }
}

fn topology(term: &Value) -> Term {
    let expressions = items(&term["matchLabelExpressions"]).map(|e| {
        let values = items(&e["values"]).map(|v| text(v).into()).collect();
        requirement(text(&e["key"]), SelectorOperator::In, values)
    });
    Term {
        expressions: expressions.collect(),
        ..Term::default()
    }
}

/// For each zone or region of a volume: nodes with one of its values, under either name of the label, or nodes
/// that know no zones at all.
fn zones(labels: &Value) -> Vec<Vec<Term>> {
    let term = |expressions| Term {
        expressions,
        ..Term::default()
    };
    let absent = |key: &str| requirement(key, SelectorOperator::DoesNotExist, Vec::new());
    let zoneless = term(ZONE_LABELS.map(|(key, _)| absent(key)).into());
    ZONE_LABELS
        .iter()
        .filter_map(|(key, other)| {
            let values: Vec<Box<str>> = labels[key].as_str()?.split("__").map(Into::into).collect();
            let own = requirement(key, SelectorOperator::In, values.clone());
            let renamed = requirement(other, SelectorOperator::In, values);
            Some(vec![
                term(vec![own]),
                term(vec![absent(key), renamed]),
                zoneless.clone(),
            ])
        })
        .collect()
}

//! Slices: the devices that a driver offers, and where they can be reached from.
//!
//! Does not know who has them.

use meta::{Quantity, Value};

use crate::capacity::Policy;
use crate::claim::{Taint, taint};
use crate::node::{Node, NodeSelector};
use crate::{items, quantities, quantity, text, texts};

/// Counters by name, sorted.
pub(crate) type Counters = Vec<(Box<str>, Quantity)>;

/// A ResourceSlice.
#[derive(Debug, Clone)]
pub struct Slice {
    pub(crate) name: Box<str>,
    pub(crate) driver: Box<str>,
    pub(crate) pool: Box<str>,
    pub(crate) generation: i64,
    /// Slices the pool has at that generation.
    pub(crate) slices: i64,
    pub(crate) place: Place,
    /// Each device says by itself where it is.
    pub(crate) per_device: bool,
    pub(crate) devices: Vec<Device>,
    pub(crate) counter_sets: Vec<(Box<str>, Counters)>,
}

/// From where something can be reached.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Node(Box<str>),
    All,
    Selected(NodeSelector),
    /// Nothing that is known was said.
    Nowhere,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Attribute {
    Int(i64),
    Bool(bool),
    Text(Box<str>),
    Version(Box<str>),
    /// A type that is not served.
    Unknown,
}

/// How much of something a device has.
#[derive(Debug, Clone)]
pub(crate) struct Capacity {
    pub(crate) value: Quantity,
    pub(crate) policy: Option<Policy>,
}

/// One device.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) name: Box<str>,
    pub(crate) attributes: Vec<(Box<str>, Attribute)>,
    pub(crate) capacity: Vec<(Box<str>, Capacity)>,
    pub(crate) consumes: Vec<(Box<str>, Counters)>,
    pub(crate) place: Place,
    pub(crate) taints: Vec<Taint>,
    pub(crate) binds_to_node: bool,
    pub(crate) binding_conditions: Vec<Box<str>>,
    pub(crate) binding_failures: Vec<Box<str>>,
    /// Several claims may have it at a time.
    pub(crate) shared: bool,
}

impl Place {
    fn read(value: &Value) -> Place {
        let node = text(&value["nodeName"]);
        if !node.is_empty() {
            Place::Node(node.into())
        } else if value["allNodes"] == true {
            Place::All
        } else {
            NodeSelector::read(&value["nodeSelector"]).map_or(Place::Nowhere, Place::Selected)
        }
    }

    pub(crate) fn reaches(&self, node: &Node<'_>) -> bool {
        match self {
            Place::Node(name) => **name == *node.name,
            Place::All => true,
            Place::Selected(selector) => selector.matches(node),
            Place::Nowhere => false,
        }
    }
}

impl Slice {
    /// Reads a ResourceSlice.
    pub fn read(object: &Value) -> Slice {
        let spec = &object["spec"];
        let pool = &spec["pool"];
        let set = |set: &Value| (text(&set["name"]).into(), counters(&set["counters"]));
        Slice {
            name: text(&object["metadata"]["name"]).into(),
            driver: text(&spec["driver"]).into(),
            pool: text(&pool["name"]).into(),
            generation: pool["generation"].as_i64().unwrap_or(0),
            slices: pool["resourceSliceCount"].as_i64().unwrap_or(0),
            place: Place::read(spec),
            per_device: spec["perDeviceNodeSelection"] == true,
            devices: items(&spec["devices"]).map(device).collect(),
            counter_sets: items(&spec["sharedCounters"]).map(set).collect(),
        }
    }

    /// The nodes it can matter to, if it names them all; `None` when it may matter to any.
    pub(crate) fn named_nodes(&self) -> Option<Vec<&str>> {
        if !self.counter_sets.is_empty() {
            return None;
        }
        if let Place::Node(node) = &self.place {
            return Some(vec![node]);
        }
        if !self.per_device || !matches!(self.place, Place::Nowhere) {
            return None;
        }
        let mut nodes = Vec::new();
        for device in &self.devices {
            match &device.place {
                Place::Node(node) => nodes.push(&**node),
                Place::Nowhere => {}
                Place::All | Place::Selected(_) => return None,
            }
        }
        nodes.sort_unstable();
        nodes.dedup();
        Some(nodes)
    }

    /// Is anything of it to be had from the node? Counters are there for every node.
    pub(crate) fn matters_to(&self, node: &Node<'_>) -> bool {
        if !self.counter_sets.is_empty() {
            return true;
        }
        match &self.place {
            Place::Nowhere => self.per_device && self.devices.iter().any(|d| d.place.reaches(node)),
            place => place.reaches(node),
        }
    }
}

fn device(value: &Value) -> Device {
    let conditions = |field: &str| texts(&value[field]);
    Device {
        name: text(&value["name"]).into(),
        attributes: named(&value["attributes"], attribute),
        capacity: named(&value["capacity"], |c| Capacity {
            value: quantity(&c["value"]),
            policy: Policy::read(&c["requestPolicy"]),
        }),
        consumes: items(&value["consumesCounters"])
            .map(|c| (text(&c["counterSet"]).into(), counters(&c["counters"])))
            .collect(),
        place: Place::read(value),
        taints: items(&value["taints"]).map(taint).collect(),
        binds_to_node: value["bindsToNode"] == true,
        binding_conditions: conditions("bindingConditions"),
        binding_failures: conditions("bindingFailureConditions"),
        shared: value["allowMultipleAllocations"] == true,
    }
}

fn named<T>(map: &Value, read: impl Fn(&Value) -> T) -> Vec<(Box<str>, T)> {
    let entries = map.as_object().into_iter().flatten();
    let entries = entries.map(|(name, value)| (name.as_str().into(), read(value)));
    let mut all: Vec<(Box<str>, T)> = entries.collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn attribute(value: &Value) -> Attribute {
    if let Some(int) = value["int"].as_i64() {
        Attribute::Int(int)
    } else if let Some(bool) = value["bool"].as_bool() {
        Attribute::Bool(bool)
    } else if let Some(text) = value["string"].as_str() {
        Attribute::Text(text.into())
    } else if let Some(version) = value["version"].as_str() {
        Attribute::Version(version.into())
    } else {
        Attribute::Unknown
    }
}

fn counters(value: &Value) -> Counters {
    let values = value.as_object().into_iter().flatten();
    let values = values.map(|(name, counter)| (name.clone(), counter["value"].clone()));
    quantities(&Value::Object(values.collect()))
}

/// What is known under a name in a sorted list.
pub(crate) fn find<'a, T>(list: &'a [(Box<str>, T)], name: &str) -> Option<&'a T> {
    let at = list
        .binary_search_by(|(known, _)| (**known).cmp(name))
        .ok()?;
    list.get(at).map(|(_, value)| value)
}

impl Device {
    /// An attribute by its full name; those of the driver's own domain may be written without it.
    pub(crate) fn attribute(&self, driver: &str, full: &str) -> Option<&Attribute> {
        find(&self.attributes, full).or_else(|| {
            let (domain, id) = full.split_once('/')?;
            find(&self.attributes, id).filter(|_| domain == driver)
        })
    }
}

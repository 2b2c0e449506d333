//! Which volume fits a claim, and the order in which free ones are tried.
//!
//! Does not know where volumes can be reached: that is the scheduler's.

use super::{class_of, is_bound_to, phase};
use meta::labels::LabelSelector;
use meta::{Quantity, Value, object};

/// The place of a volume in the order in which a claim tries them: as few access modes as will do, then as little
/// space, then the first by name (upstream takes any of the same size).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// How many access modes it has.
    pub modes: usize,
    /// Its capacity.
    pub size: Quantity,
    /// Its name.
    pub name: Box<str>,
}

impl Rank {
    /// A volume's.
    pub fn of(volume: &Value) -> Rank {
        Rank {
            modes: object::array_at(volume, &["spec", "accessModes"]).len(),
            size: capacity(volume),
            name: object::name(volume).into(),
        }
    }
}

/// What a claim asks of a volume.
#[derive(Debug)]
pub struct Wanted<'a> {
    claim: &'a Value,
    /// The class; empty if it must be of none.
    pub class: &'a str,
    /// The least capacity.
    pub size: Quantity,
    modes: &'a [Value],
    selector: Option<LabelSelector>,
}

impl<'a> Wanted<'a> {
    /// What this claim asks. A selector that means nothing selects nothing.
    pub fn of(claim: &'a Value) -> Wanted<'a> {
        let selector = object::at(claim, &["spec", "selector"]);
        let requests = object::str_at(claim, &["spec", "resources", "requests", "storage"]);
        Wanted {
            claim,
            class: class_of(claim),
            size: quantity(requests),
            modes: object::array_at(claim, &["spec", "accessModes"]),
            selector: selector.is_object().then(|| {
                LabelSelector::from_object(selector).unwrap_or_else(|_| LabelSelector::nothing())
            }),
        }
    }

    /// How many access modes are asked for: no volume with fewer fits.
    pub fn modes(&self) -> usize {
        self.modes.len()
    }

    /// Whether the claim may be bound to a volume that is reserved for it.
    pub fn accepts(&self, volume: &Value) -> bool {
        is_bound_to(volume, self.claim) && self.is_enough(volume) && self.has_modes(volume)
    }

    /// Whether the claim may take this volume, which is free.
    pub fn fits(&self, volume: &Value) -> bool {
        is_free(volume)
            && self.is_enough(volume)
            && self.has_modes(volume)
            && class_of(volume) == self.class
            && self
                .selector
                .as_ref()
                .is_none_or(|selector| selector.matches(object::labels(volume)))
    }

    fn is_enough(&self, volume: &Value) -> bool {
        capacity(volume) >= self.size
            && volume_mode(volume) == volume_mode(self.claim)
            && attributes(volume) == attributes(self.claim)
            && !object::is_deleting(volume)
    }

    fn has_modes(&self, volume: &Value) -> bool {
        let modes = object::array_at(volume, &["spec", "accessModes"]);
        self.modes.iter().all(|mode| modes.contains(mode))
    }

    /// What speaks against a free volume that the claim names.
    pub(super) fn objection(&self, volume: &Value) -> Option<String> {
        let text = if object::is_deleting(volume) {
            let name = object::name(volume);
            return Some(format!("the volume is marked for deletion \"{name}\""));
        } else if capacity(volume).value() < self.size.value() {
            "requested PV is too small"
        } else if class_of(volume) != self.class {
            "storageClassName does not match"
        } else if attributes(volume) != attributes(self.claim) {
            "volumeAttributesClassName does not match"
        } else if volume_mode(volume) != volume_mode(self.claim) {
            "incompatible volumeMode"
        } else if !self.has_modes(volume) {
            "incompatible accessMode"
        } else {
            return None;
        };
        Some(text.to_owned())
    }
}

/// Whether a volume may be given to whoever it fits.
pub fn is_free(volume: &Value) -> bool {
    phase(volume) == "Available" && !object::at(volume, &["spec", "claimRef"]).is_object()
}

/// `Filesystem`, or `Block`.
pub(super) fn volume_mode(object: &Value) -> &str {
    object::str_at(object, &["spec", "volumeMode"]).unwrap_or("Filesystem")
}

fn attributes(object: &Value) -> &str {
    object::str_at(object, &["spec", "volumeAttributesClassName"]).unwrap_or_default()
}

fn capacity(volume: &Value) -> Quantity {
    quantity(object::str_at(volume, &["spec", "capacity", "storage"]))
}

fn quantity(text: Option<&str>) -> Quantity {
    text.and_then(|text| Quantity::parse(text).ok())
        .unwrap_or(Quantity::ZERO)
}

//! PersistentVolumes, claims, storage classes and CSI drivers.

use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::pod::resources::check_quantity;
use crate::tree::{self, Map};
use meta::{FieldPath, Value};

const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

pub(super) const VOLUMES: Room = Room {
    defaults: |volume| {
        tree::ensure(volume, "spec");
        tree::fill(volume, "status.phase", "Pending");
        tree::fill(volume, "spec.persistentVolumeReclaimPolicy", "Retain");
        tree::fill(volume, "spec.volumeMode", "Filesystem");
        if tree::map(volume, "spec.hostPath").is_some()
            && tree::get(volume, "spec.hostPath.type").is_none()
        {
            tree::put(volume, "spec.hostPath.type", "");
        }
    },
    check: check_volume,
    check_update: |new, old, subresource, findings| {
        if subresource.is_none() {
            findings.immutable(
                &FieldPath::new("spec").child("volumeMode"),
                new,
                old,
                "spec.volumeMode",
            );
        }
    },
    ..PLAIN
};

pub(super) const CLAIMS: Room = Room {
    defaults: |claim| {
        tree::ensure(claim, "spec");
        tree::fill(claim, "status.phase", "Pending");
        tree::fill(claim, "spec.volumeMode", "Filesystem");
    },
    check: check_claim,
    check_update: check_claim_update,
    ..PLAIN
};

pub(super) const CLASSES: Room = Room {
    defaults: |class| {
        tree::fill(class, "reclaimPolicy", "Delete");
        tree::fill(class, "volumeBindingMode", "Immediate");
    },
    check: |class, findings| {
        let provisioner = tree::text(class, "provisioner");
        let path = FieldPath::new("provisioner");
        if provisioner.is_empty() {
            findings.required(&path, "");
        } else {
            findings.each(
                &path,
                provisioner,
                meta::names::qualified_name(&provisioner.to_lowercase()),
            );
        }
        findings.one_of(
            &FieldPath::new("reclaimPolicy"),
            tree::text(class, "reclaimPolicy"),
            &["Delete", "Retain"],
            false,
        );
        findings.one_of(
            &FieldPath::new("volumeBindingMode"),
            tree::text(class, "volumeBindingMode"),
            &["Immediate", "WaitForFirstConsumer"],
            true,
        );
    },
    check_update: |new, old, _, findings| {
        for field in ["parameters", "provisioner"] {
            if !tree::same_at(new, old, field) {
                findings.forbidden(
                    &FieldPath::new(field),
                    format!("updates to {field} are forbidden."),
                );
            }
        }
        for field in ["reclaimPolicy", "volumeBindingMode"] {
            findings.immutable(&FieldPath::new(field), new, old, field);
        }
    },
    ..PLAIN
};

pub(super) const DRIVERS: Room = Room {
    defaults: |driver| {
        tree::ensure(driver, "spec");
        tree::fill(driver, "spec.attachRequired", true);
        tree::fill(driver, "spec.podInfoOnMount", false);
        tree::fill(driver, "spec.storageCapacity", false);
        tree::fill(driver, "spec.fsGroupPolicy", "ReadWriteOnceWithFSType");
        if tree::items(driver, "spec.volumeLifecycleModes").is_empty() {
            tree::put(
                driver,
                "spec.volumeLifecycleModes",
                vec![Value::from("Persistent")],
            );
        }
        tree::fill(driver, "spec.requiresRepublish", false);
        tree::fill(driver, "spec.seLinuxMount", false);
    },
    ..PLAIN
};

fn check_modes(obj: &Value, findings: &mut Findings) {
    let path = FieldPath::new("spec").child("accessModes");
    let modes = tree::items(obj, "spec.accessModes");
    if modes.is_empty() {
        findings.required(&path, "at least 1 access mode is required");
    }
    for mode in modes {
        let mode = mode.as_str().unwrap_or("");
        if !ACCESS_MODES.contains(&mode) {
            findings.not_supported(&path, mode, &ACCESS_MODES);
        }
    }
    if modes.len() > 1
        && modes
            .iter()
            .any(|mode| mode.as_str() == Some("ReadWriteOncePod"))
    {
        findings.forbidden(
            &path,
            "may not use ReadWriteOncePod with other access modes",
        );
    }
}

fn check_volume(volume: &Value, findings: &mut Findings) {
    const NOT_SOURCES: [&str; 10] = [
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeMode",
        "volumeAttributesClassName",
        "persistentVolumeSource",
    ];
    let spec = FieldPath::new("spec");
    check_modes(volume, findings);
    let empty = Map::new();
    let capacity = tree::map(volume, "spec.capacity").unwrap_or(&empty);
    if capacity.is_empty() {
        findings.required(&spec.child("capacity"), "");
    } else if !capacity.contains_key("storage") || capacity.len() > 1 {
        findings.not_supported(
            &spec.child("capacity"),
            Value::Object(capacity.clone()),
            &["storage"],
        );
    }
    for (name, quantity) in capacity {
        check_quantity(
            name,
            quantity,
            &spec.child("capacity").key(name.as_str()),
            findings,
        );
    }
    findings.one_of(
        &spec.child("persistentVolumeReclaimPolicy"),
        tree::text(volume, "spec.persistentVolumeReclaimPolicy"),
        &["Delete", "Recycle", "Retain"],
        false,
    );
    let sources: Vec<&value::Key> = tree::map(volume, "spec")
        .unwrap_or(&empty)
        .iter()
        .filter(|(key, value)| !NOT_SOURCES.contains(&key.as_str()) && value.is_object())
        .map(|(key, _)| key)
        .collect();
    if sources.is_empty() {
        findings.required(&spec, "must specify a volume type");
    }
    for source in sources.iter().skip(1) {
        findings.forbidden(
            &spec.child(source.as_str()),
            "may not specify more than 1 volume type",
        );
    }
}

fn check_claim(claim: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    if let Some(selector) = tree::get(claim, "spec.selector") {
        findings.label_selector(&spec.child("selector"), selector);
    }
    check_modes(claim, findings);
    let path = spec.child("resources").key("storage");
    match tree::map(claim, "spec.resources.requests").and_then(|requests| requests.get("storage")) {
        None => findings.required(&path, ""),
        Some(quantity) => {
            let before = findings.len();
            check_quantity("storage", quantity, &path, findings);
            let zero = meta::Quantity::parse(quantity.as_str().unwrap_or(""))
                .is_ok_and(|quantity| quantity.is_zero());
            if findings.len() == before && zero {
                findings.invalid(&path, quantity.clone(), "must be greater than zero");
            }
        }
    }
    let class = tree::text(claim, "spec.storageClassName");
    if !class.is_empty() {
        findings.each(
            &spec.child("storageClassName"),
            class,
            meta::names::dns1123_subdomain(class),
        );
    }
    findings.one_of(
        &spec.child("volumeMode"),
        tree::text(claim, "spec.volumeMode"),
        &["Block", "Filesystem"],
        false,
    );
}

fn check_claim_update(
    new: &Value,
    old: &Value,
    subresource: Option<&str>,
    findings: &mut Findings,
) {
    if subresource.is_some() {
        return;
    }
    let spec = FieldPath::new("spec");
    // The binder may name the volume once, an owner may ask for more space, and the attributes class may change.
    let mut settled = new.clone();
    if tree::text(old, "spec.volumeName").is_empty() {
        tree::carry(&mut settled, old, "spec.volumeName");
    }
    if tree::text(old, "spec.storageClassName").is_empty() {
        tree::carry(&mut settled, old, "spec.storageClassName");
    }
    tree::carry(&mut settled, old, "spec.volumeAttributesClassName");
    let bound = tree::text(old, "status.phase") == "Bound";
    let storage = |claim: &Value| {
        meta::Quantity::parse(tree::text(claim, "spec.resources.requests.storage")).ok()
    };
    if bound {
        if let (Some(asked), Some(given)) = (storage(new), storage(old))
            && asked < given
        {
            findings.forbidden(
                &spec.child("resources").child("requests").child("storage"),
                "field can not be less than previous value",
            );
        }
        tree::carry(&mut settled, old, "spec.resources.requests");
    }
    if !tree::same_at(&settled, old, "spec") {
        findings.forbidden(
            &spec,
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
}

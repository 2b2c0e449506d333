//! PersistentVolumes and the claims to them: who gets which, what becomes of a volume that nobody claims any more, what
//! may not be deleted yet, and claims that belong to one pod.
//!
//! ```text
//!   claim ─► a volume that names it ─► or the smallest free one that fits ─► bind: the volume first, then the claim
//!        ─► else: its class waits for the first pod │ asks a provisioner │ nothing fits
//!   volume ─► no claim: Available ─► Bound ─► its claim is gone: Released ─► retained │ deleted by who made it │ Failed
//! ```
//!
//! - `matching.rs`: which volume fits a claim, and in which order they are tried.
//! - `claim.rs`, `persistent.rs`: one claim, one volume; `binding.rs`: what both write.
//! - `protection.rs`: finalizers of what is in use. `ephemeral.rs`: claims made for one pod.
//! - `simulated.rs`: a provisioner of volumes that do not exist, for simulated nodes.
//!
//! Knows objects. Knows no storage: nothing is attached, formatted, wiped or resized.

mod binding;
mod claim;
#[cfg(test)]
mod claim_tests;
mod class;
mod ephemeral;
mod matching;
mod persistent;
#[cfg(test)]
mod persistent_tests;
mod protection;
mod simulated;

use crate::action::ResourceRef;
use meta::{Value, object};

pub use claim::{ClaimObserved, plan_claim};
pub use class::{default_class, waits_for_first_consumer};
pub use ephemeral::plan_pod;
pub use matching::{Rank, Wanted, is_free};
pub use persistent::plan_volume;
pub use protection::{plan_claim_protection, plan_volume_protection};
pub use simulated::{SIMULATED_PROVISIONER, plan_simulated_claim, plan_simulated_volume};

/// `v1 persistentvolumes`.
pub const PERSISTENT_VOLUMES: ResourceRef = ResourceRef::new("", "v1", "persistentvolumes");
/// `storage.k8s.io/v1 storageclasses`.
pub const STORAGE_CLASSES: ResourceRef = ResourceRef::new("storage.k8s.io", "v1", "storageclasses");

/// On a claim: its binding was completed once.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or a volume: the other was chosen by a controller, not by a person.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a volume: the driver that serves it in the place of a built-in plugin.
pub const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
/// On a claim: who is to make its volume,
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// and the older name of that.
pub const BETA_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// On a claim: the node its volume is to be made for; the scheduler writes it.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The older form of `spec.storageClassName`, of claims and of volumes; it goes before.
pub const BETA_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Keeps a claim while a pod uses it.
pub const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
/// Keeps a volume while it is bound.
pub const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

/// The class a claim or a volume is of; empty if it is of none.
pub fn class_of(object: &Value) -> &str {
    named_class(object).unwrap_or_default()
}

/// The class that is named, even if by an empty name; None if nothing is said.
pub fn named_class(object: &Value) -> Option<&str> {
    let beta = object::annotation(object, BETA_STORAGE_CLASS);
    beta.or_else(|| object::str_at(object, &["spec", "storageClassName"]))
}

/// `namespace/name` and uid of the claim that a volume names; the uid is empty while nobody completed the binding.
pub fn claim_named(volume: &Value) -> Option<(String, &str)> {
    let reference = object::at(volume, &["spec", "claimRef"]);
    if !reference.is_object() {
        return None;
    }
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    Some((
        format!("{}/{}", text("namespace"), text("name")),
        text("uid"),
    ))
}

/// Whether a volume is this claim's, or reserved for it.
pub fn is_bound_to(volume: &Value, claim: &Value) -> bool {
    claim_named(volume).is_some_and(|(key, uid)| {
        key == key_of(claim) && (uid.is_empty() || uid == object::uid(claim))
    })
}

/// The volume that a claim names; empty if none.
pub fn volume_named(claim: &Value) -> &str {
    object::str_at(claim, &["spec", "volumeName"]).unwrap_or_default()
}

/// Whether a claim's binding was completed once.
pub fn was_bound(claim: &Value) -> bool {
    object::annotation(claim, BIND_COMPLETED).is_some()
}

fn key_of(claim: &Value) -> String {
    format!("{}/{}", object::namespace(claim), object::name(claim))
}

fn phase(object: &Value) -> &str {
    object::str_at(object, &["status", "phase"]).unwrap_or_default()
}

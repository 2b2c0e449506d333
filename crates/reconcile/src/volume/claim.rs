//! One claim: bound, to be bound, waiting for its first pod, or for somebody who makes its volume.
//!
//! Does not choose nodes: a claim whose class waits for the first pod gets a free volume from the scheduler, and is
//! only completed here.

use super::binding::{bind, guarded, has, unbound_status};
use super::class::{driver_for, is_built_in, waits_for_first_consumer};
use super::matching::{Rank, Wanted};
use super::{
    BETA_STORAGE_PROVISIONER, BOUND_BY_CONTROLLER, SELECTED_NODE, STORAGE_PROVISIONER, claim_named,
    class_of, is_bound_to, named_class, phase, volume_named, was_bound,
};
use crate::action::{Action, Involved, PERSISTENT_VOLUME_CLAIMS};
use meta::{Value, object};
use std::sync::Arc;
use value::json;

/// What the shell has seen around a claim.
pub struct ClaimObserved<'a> {
    /// A volume by name.
    pub volume: &'a dyn Fn(&str) -> Option<&'a Value>,
    /// Volumes that name this claim.
    pub reserved: &'a [Arc<Value>],
    /// Free volumes for what a claim asks, in the order of [`Rank`]; those that are too small or of another class may be
    /// missing.
    pub free: &'a dyn Fn(&Wanted<'_>) -> Box<dyn Iterator<Item = &'a Value> + 'a>,
    /// A StorageClass by name.
    pub class: &'a dyn Fn(&str) -> Option<&'a Value>,
    /// The name of the default class.
    pub default_class: Option<&'a str>,
    /// Names of pods with this claim that have no node, in order.
    pub waiting_pods: &'a [&'a str],
}

/// What to do now for a claim.
pub fn plan_claim(claim: &Value, observed: &ClaimObserved<'_>) -> Vec<Action> {
    if was_bound(claim) {
        return bound(claim, observed);
    }
    // Nobody will use it: a volume that it got now would be released at once.
    if object::is_deleting(claim) {
        return Vec::new();
    }
    match volume_named(claim) {
        "" => unbound(claim, observed),
        name => named(claim, (observed.volume)(name)),
    }
}

fn bound(claim: &Value, observed: &ClaimObserved<'_>) -> Vec<Action> {
    let name = volume_named(claim);
    if name.is_empty() {
        let message =
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost(claim, "ClaimLost", message);
    }
    let Some(volume) = (observed.volume)(name) else {
        let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        return lost(claim, "ClaimLost", message);
    };
    match claim_named(volume) {
        Some((_, uid)) if uid != object::uid(claim) => {
            let message = "Two claims are bound to the same volume, this one is bound incorrectly";
            lost(claim, "ClaimMisbound", message)
        }
        _ => bind(volume, claim),
    }
}

fn lost(claim: &Value, reason: &'static str, message: &str) -> Vec<Action> {
    if phase(claim) == "Lost" {
        return Vec::new();
    }
    let mut actions: Vec<Action> = unbound_status(claim, "Lost").into_iter().collect();
    actions.push(Action::warning(&involved(claim), reason, message));
    actions
}

/// A claim that names its volume.
fn named(claim: &Value, volume: Option<&Value>) -> Vec<Action> {
    let pending = || unbound_status(claim, "Pending").into_iter();
    let Some(volume) = volume else {
        return pending().collect();
    };
    if claim_named(volume).is_none() {
        let Some(objection) = Wanted::of(claim).objection(volume) else {
            return bind(volume, claim);
        };
        let name = object::name(volume);
        let message = format!("Cannot bind to requested volume \"{name}\": {objection}");
        let event = Action::warning(&involved(claim), "VolumeMismatch", message);
        return [event].into_iter().chain(pending()).collect();
    }
    if is_bound_to(volume, claim) {
        return bind(volume, claim);
    }
    let name = object::name(volume);
    let message = format!("volume \"{name}\" already bound to a different claim.");
    let event = Action::warning(&involved(claim), "FailedBinding", message);
    // If we had named it ourselves somebody took our mark away: that is left as it is.
    let waits = !has(claim, BOUND_BY_CONTROLLER);
    let pending = pending().filter(|_| waits);
    [event].into_iter().chain(pending).collect()
}

/// A claim that takes any volume that fits.
fn unbound(claim: &Value, observed: &ClaimObserved<'_>) -> Vec<Action> {
    let wanted = Wanted::of(claim);
    let class = Some(class_of(claim)).filter(|name| !name.is_empty());
    let delayed = class
        .and_then(|name| (observed.class)(name))
        .is_some_and(waits_for_first_consumer);
    let reserved = observed.reserved.iter().map(|volume| &**volume);
    let reserved = reserved.filter(|volume| wanted.accepts(volume));
    let found = reserved.min_by_key(|volume| Rank::of(volume));
    let found = match found {
        // The scheduler's to give.
        None if delayed => None,
        None => (observed.free)(&wanted).find(|volume| wanted.fits(volume)),
        found => found,
    };
    if let Some(volume) = found {
        return bind(volume, claim);
    }
    if named_class(claim).is_none()
        && let Some(name) = observed.default_class
    {
        let patch = json!({"spec": {"storageClassName": name}});
        return vec![guarded(PERSISTENT_VOLUME_CLAIMS, claim, patch)];
    }
    let event = match class {
        Some(_) if delayed && !has(claim, SELECTED_NODE) => {
            let (reason, message) = waiting(observed.waiting_pods);
            Action::normal(&involved(claim), reason, message)
        }
        Some(name) => return provision(claim, name, (observed.class)(name)),
        None => Action::normal(
            &involved(claim),
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
        ),
    };
    let pending = unbound_status(claim, "Pending");
    [event].into_iter().chain(pending).collect()
}

fn waiting(pods: &[&str]) -> (&'static str, String) {
    match pods {
        [] => (
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding".to_owned(),
        ),
        [pod] => (
            "WaitForPodScheduled",
            format!("waiting for pod {pod} to be scheduled"),
        ),
        pods => (
            "WaitForPodScheduled",
            format!("waiting for pods {} to be scheduled", pods.join(",")),
        ),
    }
}

/// Asks whoever makes volumes of the class.
fn provision(claim: &Value, name: &str, class: Option<&Value>) -> Vec<Action> {
    let failed = |message: String| {
        vec![Action::warning(
            &involved(claim),
            "ProvisioningFailed",
            message,
        )]
    };
    let Some(class) = class else {
        return failed(format!("storageclass.storage.k8s.io \"{name}\" not found"));
    };
    let asked = object::str_at(class, &["provisioner"]).unwrap_or_default();
    let provisioner = match driver_for(asked) {
        Some(driver) => driver,
        None if is_built_in(asked) => {
            return failed(format!("no volume plugin matched name: {asked}"));
        }
        None => asked,
    };
    let mut actions = Vec::new();
    if object::annotation(claim, STORAGE_PROVISIONER) != Some(provisioner) {
        let annotations =
            json!({BETA_STORAGE_PROVISIONER: provisioner, STORAGE_PROVISIONER: provisioner});
        let patch = json!({"metadata": {"annotations": annotations}});
        actions.push(guarded(PERSISTENT_VOLUME_CLAIMS, claim, patch));
    }
    actions.push(Action::normal(
        &involved(claim),
        "ExternalProvisioning",
        format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        ),
    ));
    actions
}

fn involved(claim: &Value) -> Arc<Involved> {
    Arc::new(Involved::of(claim))
}

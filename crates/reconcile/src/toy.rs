//! A toy cluster for tests: objects in a map, actions applied as an API server would, a kubelet that
//! works at random. Knows just enough of the API to hold the planners to their promises.

use crate::action::{Action, PODS, PatchType, ResourceRef};
use crate::pod::{Pod, items, text_of};
use meta::{Value, object, time};
use std::collections::BTreeMap;
use std::sync::Arc;
use value::{Map, json};

pub(crate) use chance::Chance as Dice;

type Key = (ResourceRef, String, String);

/// The cluster.
pub(crate) struct World {
    pub(crate) now_micros: i64,
    objects: BTreeMap<Key, Arc<Value>>,
    counter: usize,
    /// (resource, object, still there) of every change, for watchers.
    pub(crate) changes: Vec<(ResourceRef, Arc<Value>, bool)>,
    pub(crate) events: Vec<String>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now_micros: 1_000_000_000,
            objects: BTreeMap::new(),
            counter: 0,
            changes: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(crate) fn all(&self, resource: ResourceRef) -> Vec<Arc<Value>> {
        let of = |key: &Key| key.0 == resource;
        self.objects
            .iter()
            .filter(|(key, _)| of(key))
            .map(|(_, value)| Arc::clone(value))
            .collect()
    }

    pub(crate) fn pods(&self) -> Vec<Arc<Pod>> {
        self.all(PODS)
            .iter()
            .map(|pod| Arc::new(Pod::from_object(pod)))
            .collect()
    }

    pub(crate) fn get(&self, resource: ResourceRef, name: &str) -> Option<Arc<Value>> {
        self.objects
            .get(&(resource, "default".to_owned(), name.to_owned()))
            .cloned()
    }

    /// Everything there is, as coordinates.
    pub(crate) fn inventory(&self) -> Vec<String> {
        self.objects
            .keys()
            .map(|(resource, _, name)| format!("{resource}/{name}"))
            .collect()
    }

    pub(crate) fn create(&mut self, resource: ResourceRef, mut value: Value) -> Arc<Value> {
        self.counter += 1;
        let prefix = object::generate_name(&value).to_owned();
        if object::name(&value).is_empty() {
            object::set_at(
                &mut value,
                &["metadata", "name"],
                json!(format!("{prefix}{:05}", self.counter)),
            );
        }
        object::set_at(
            &mut value,
            &["metadata", "uid"],
            json!(format!("u{:05}", self.counter)),
        );
        object::set_at(&mut value, &["metadata", "namespace"], json!("default"));
        object::set_at(&mut value, &["metadata", "generation"], json!(1));
        object::set_at(
            &mut value,
            &["metadata", "creationTimestamp"],
            json!(time::format_seconds(self.now_micros)),
        );
        let key = (
            resource,
            "default".to_owned(),
            object::name(&value).to_owned(),
        );
        if let Some(existing) = self.objects.get(&key) {
            return Arc::clone(existing);
        }
        self.put(key, value)
    }

    fn put(&mut self, key: Key, mut value: Value) -> Arc<Value> {
        self.counter += 1;
        object::set_at(
            &mut value,
            &["metadata", "resourceVersion"],
            json!(self.counter.to_string()),
        );
        let value = Arc::new(value);
        self.changes.push((key.0, Arc::clone(&value), true));
        self.objects.insert(key, Arc::clone(&value));
        value
    }

    fn remove(&mut self, key: &Key) {
        if let Some(value) = self.objects.remove(key) {
            self.changes.push((key.0, value, false));
        }
    }

    /// Changes an object as its user would.
    pub(crate) fn edit(
        &mut self,
        resource: ResourceRef,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) {
        let key = (resource, "default".to_owned(), name.to_owned());
        let Some(old) = self.objects.get(&key).cloned() else {
            return;
        };
        let mut new = Value::clone(&old);
        change(&mut new);
        if new == *old {
            return;
        }
        if new.get("spec") != old.get("spec") {
            let generation = object::generation(&old) + 1;
            object::set_at(&mut new, &["metadata", "generation"], json!(generation));
        }
        let deleted =
            object::is_deleting(&new) && items(&new, &["metadata", "finalizers"]).is_empty();
        if deleted && resource != PODS {
            self.remove(&key)
        } else {
            drop(self.put(key, new))
        }
    }

    /// DELETE with a propagation policy, as a user or controller asks.
    pub(crate) fn delete(&mut self, resource: ResourceRef, name: &str, policy: &str) {
        let now = time::format_seconds(self.now_micros);
        self.edit(resource, name, |value| {
            let finalizer = match policy {
                "Foreground" => Some("foregroundDeletion"),
                "Orphan" => Some("orphan"),
                _ => None,
            };
            let mut finalizers = items(value, &["metadata", "finalizers"]).to_vec();
            // The last policy that was named holds: an API server never leaves both.
            if !policy.is_empty() {
                finalizers.retain(|kept| kept != "foregroundDeletion" && kept != "orphan");
            }
            finalizers.extend(finalizer.map(Value::from));
            object::set_at(value, &["metadata", "finalizers"], Value::Array(finalizers));
            if !object::is_deleting(value) {
                object::set_at(value, &["metadata", "deletionTimestamp"], json!(now));
            }
        });
    }

    /// Whether the version that a patch asks for is the one that is there.
    fn meets(&self, resource: ResourceRef, name: &str, body: &Value) -> bool {
        let asked = object::at(body, &["metadata", "resourceVersion"]);
        let found = self.get(resource, name);
        asked.is_null() || found.is_some_and(|found| *asked == *object::resource_version(&found))
    }

    /// Carries a plan out; a conflict ends it, as in the real executor.
    pub(crate) fn apply(&mut self, plan: &[Action]) {
        for action in plan {
            if !self.apply_one(action) {
                return;
            }
        }
    }

    fn apply_one(&mut self, action: &Action) -> bool {
        match action {
            Action::Create {
                resource, object, ..
            } => drop(self.create(*resource, Value::clone(object))),
            Action::Update {
                resource,
                name,
                object: new,
                ..
            } => {
                if !self.is_current(*resource, name, new) {
                    return false;
                }
                self.edit(*resource, name, |value| {
                    let status = value.get("status").cloned();
                    *value = new.clone();
                    if let (Some(status), Some(fields)) = (status, value.as_object_mut()) {
                        fields.insert("status", status);
                    }
                });
            }
            Action::UpdateStatus {
                resource,
                name,
                object: new,
                ..
            } => {
                if !self.is_current(*resource, name, new) {
                    return false;
                }
                self.edit(*resource, name, |value| {
                    value["status"] = new["status"].clone()
                });
            }
            Action::Patch {
                resource,
                name,
                patch_type,
                body,
                ..
            } => {
                let mut body = body.clone();
                if !self.meets(*resource, name, &body) {
                    return false;
                }
                if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("uid");
                    metadata.remove("resourceVersion");
                }
                let strategic = *patch_type == PatchType::Strategic;
                self.edit(*resource, name, |value| merge(value, &body, strategic));
            }
            Action::Delete {
                resource,
                name,
                uid,
                propagation,
                grace_seconds,
                ..
            } => {
                let is_it = self
                    .get(*resource, name)
                    .is_some_and(|found| object::uid(&found) == uid);
                if is_it {
                    self.delete(
                        *resource,
                        name,
                        propagation.map_or("", |policy| policy.as_str()),
                    );
                    if *grace_seconds == Some(0) {
                        self.remove(&(*resource, "default".to_owned(), name.clone()));
                    }
                }
            }
            Action::RemoveFinalizer {
                resource,
                name,
                finalizer,
                ..
            } => self.edit(*resource, name, |value| {
                let kept = items(value, &["metadata", "finalizers"])
                    .iter()
                    .filter(|kept| *kept != finalizer);
                let kept = kept.cloned().collect();
                object::set_at(value, &["metadata", "finalizers"], Value::Array(kept));
            }),
            Action::RemoveOwners {
                resource,
                name,
                owners,
                ..
            } => self.edit(*resource, name, |value| {
                let goes = |owner: &&Value| owners.iter().any(|uid| uid == text_of(owner, "uid"));
                let kept = object::owner_references(value)
                    .iter()
                    .filter(|owner| !goes(owner))
                    .cloned()
                    .collect();
                object::set_at(value, &["metadata", "ownerReferences"], Value::Array(kept));
            }),
            Action::UnblockOwners { resource, name, .. } => self.edit(*resource, name, |value| {
                let mut owners = object::owner_references(value).to_vec();
                owners
                    .iter_mut()
                    .for_each(|owner| owner["blockOwnerDeletion"] = json!(false));
                object::set_at(
                    value,
                    &["metadata", "ownerReferences"],
                    Value::Array(owners),
                );
            }),
            Action::Event {
                reason, message, ..
            } => self.events.push(format!("{reason}: {message}")),
            Action::Absent {
                resource,
                name,
                uid,
                ..
            } => {
                let found = self.get(*resource, name);
                return found.is_none_or(|found| object::uid(&found) != uid);
            }
            Action::Then
            | Action::CheckOwner { .. }
            | Action::RequeueAfter(_)
            | Action::DeleteCollection { .. } => {}
        }
        true
    }

    fn is_current(&self, resource: ResourceRef, name: &str, new: &Value) -> bool {
        self.get(resource, name)
            .is_some_and(|old| object::resource_version(&old) == object::resource_version(new))
    }

    /// One pod makes one step of its life: starts, or goes when it was deleted.
    pub(crate) fn kubelet_step(&mut self, dice: &mut Dice) {
        let pods = self.all(PODS);
        if pods.is_empty() {
            return;
        }
        let pod = &pods[dice.below(pods.len())];
        let name = object::name(pod).to_owned();
        let now = time::format_seconds(self.now_micros);
        if object::is_deleting(pod) {
            if items(pod, &["metadata", "finalizers"]).is_empty() {
                self.remove(&(PODS, "default".to_owned(), name));
            } else if !Pod::from_object(pod).has_ended() {
                self.end_pod(&name, false);
            }
        } else if object::str_at(pod, &["status", "phase"]).is_none() {
            self.edit(PODS, &name, |value| {
                object::set_at(value, &["spec", "nodeName"], json!("n1"));
                value["status"] = json!({"phase": "Running",
                    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}]});
            });
        }
    }

    /// A pod's containers end.
    pub(crate) fn end_pod(&mut self, name: &str, well: bool) {
        let now = time::format_seconds(self.now_micros);
        let (phase, code) = if well {
            ("Succeeded", 0)
        } else {
            ("Failed", 1)
        };
        self.edit(PODS, name, |value| {
            let ended = json!({"name": "c", "state": {"terminated": {"exitCode": code, "finishedAt": now}}});
            value["status"] = json!({"phase": phase, "containerStatuses": [ended]});
        });
    }
}

/// Merge patch; strategic mode knows the few merging lists that controllers patch.
fn merge(target: &mut Value, patch: &Value, strategic: bool) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, change) in fields {
        match (key.as_str(), change) {
            ("$deleteFromPrimitiveList/finalizers", Value::Array(gone)) => {
                let kept = items(target, &["finalizers"])
                    .iter()
                    .filter(|kept| !gone.contains(kept))
                    .cloned()
                    .collect();
                target["finalizers"] = Value::Array(kept);
            }
            ("ownerReferences" | "conditions", Value::Array(list)) if strategic => {
                let by = if key == "conditions" { "type" } else { "uid" };
                let mut merged = items(target, &[key.as_str()]).to_vec();
                for item in list {
                    let position = merged
                        .iter()
                        .position(|old| text_of(old, by) == text_of(item, by));
                    match (position, text_of(item, "$patch") == "delete") {
                        (Some(position), true) => drop(merged.remove(position)),
                        (Some(position), false) => merge(&mut merged[position], item, true),
                        (None, true) => {}
                        (None, false) => merged.push(item.clone()),
                    }
                }
                target[key] = Value::Array(merged);
            }
            (_, Value::Null) => drop(target.as_object_mut().and_then(|fields| fields.remove(key))),
            _ => merge(&mut target[key], change, strategic),
        }
    }
}

/// A plan in the few words a story needs: counts, annotations and conditions instead of whole bodies.
pub(crate) fn brief(plan: &[Action]) -> String {
    plan.iter().map(|action| brief_one(action) + "\n").collect()
}

fn brief_one(action: &Action) -> String {
    match action {
        Action::Create {
            resource, object, ..
        } if *resource == crate::action::REPLICA_SETS => {
            format!(
                "create {resource} {} {}",
                object::name(object),
                size(object)
            )
        }
        Action::Create {
            resource, object, ..
        } => format!("create {resource} {}*", object::generate_name(object)),
        Action::Update {
            resource,
            name,
            object,
            ..
        } => format!("update {resource} {name} {}", size(object)),
        Action::UpdateStatus {
            resource,
            name,
            object,
            ..
        } => {
            let empty = Map::new();
            let status = object
                .get("status")
                .and_then(Value::as_object)
                .unwrap_or(&empty);
            let fields = status.iter().filter(|(key, _)| *key != "conditions");
            let mut words: Vec<String> = fields
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            for condition in items(object, &["status", "conditions"]) {
                let [kind, status, reason, message] =
                    ["type", "status", "reason", "message"].map(|field| text_of(condition, field));
                words.push(format!("\n  {kind}={status} {reason} {message}"));
            }
            format!(
                "status {resource} {name} {}",
                words.join(" ").replace(" \n", "\n")
            )
        }
        Action::Patch {
            resource,
            name,
            body,
            ..
        } if *resource == PODS => {
            format!(
                "patch {resource} {name} {}",
                body.to_string().replace('"', "")
            )
        }
        other => other.to_string(),
    }
}

fn size(object: &Value) -> String {
    let annotation = |key: &str| {
        object::annotation(object, &format!("deployment.kubernetes.io/{key}"))
            .unwrap_or("-")
            .to_owned()
    };
    let replicas = object::i64_at(object, &["spec", "replicas"]).unwrap_or(-1);
    let (revision, desired, max) = (
        annotation("revision"),
        annotation("desired-replicas"),
        annotation("max-replicas"),
    );
    format!("replicas={replicas} revision={revision} desired={desired} max={max}")
}

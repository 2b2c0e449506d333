//! Admission that needs to look at other objects: namespaces, priority classes, service accounts, storage classes.
//!
//! What can be decided from the object alone stands in `registry::admission`. Webhooks, quotas and policies are not
//! here yet.

use std::sync::{Mutex, PoisonError};

use meta::{ApiError, FieldError, FieldPath, GroupResource, Value};
use registry::Update;
use registry::admission::LookedUp;

use crate::state::{Served, State, visible};

/// Namespaces that cannot be deleted (k8s NamespaceLifecycle).
const PERMANENT_NAMESPACES: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Storage classes among which the default one is looked for.
const STORAGE_CLASSES_MAX: usize = 1024;

/// Nothing is created in a namespace that is not there or on its way out (k8s NamespaceLifecycle).
pub async fn namespace_accepts(
    state: &State,
    served: &Served,
    namespace: &str,
) -> Result<(), ApiError> {
    if !served.resource.namespaced {
        return Ok(());
    }
    let Some(namespaces) = state.core("namespaces") else {
        return Ok(());
    };
    let Some(record) = namespaces.collection.get(namespace.as_bytes()) else {
        visible(&namespaces.collection, namespaces.collection.revision()).await;
        return Err(ApiError::not_found(
            &GroupResource::new("", "namespaces"),
            namespace,
        ));
    };
    let phase = namespaces
        .field_readers
        .iter()
        .find(|(name, _)| *name == "status.phase");
    let terminating = match phase {
        Some((_, reader)) => reader
            .read_str(&record.value)
            .is_some_and(|phase| phase == "Terminating"),
        None => meta::object::is_deleting(&namespaces.decode(&record.value, record.mod_revision)?),
    };
    // What is made in a namespace must not outlive a crash that the namespace does not.
    visible(&namespaces.collection, record.mod_revision).await;
    if terminating {
        let detail = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let error = ApiError::forbidden(&served.group_resource(), "", &detail);
        return Err(error.with_cause(meta::Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        }));
    }
    Ok(())
}

/// Some namespaces are for ever.
pub fn may_delete(served: &Served, name: &str) -> Result<(), ApiError> {
    if served.resource.resource == "namespaces" && PERMANENT_NAMESPACES.contains(&name) {
        return Err(ApiError::forbidden(
            &served.group_resource(),
            name,
            "this namespace may not be deleted",
        ));
    }
    Ok(())
}

/// Completes a new object as the default plugins do.
pub async fn admit_created(
    state: &State,
    served: &Served,
    namespace: &str,
    object: &mut Value,
) -> Result<(), ApiError> {
    let result = mutate_created(state, served, namespace, object);
    if result.is_err() {
        // A refusal rests on what was, or was not, found there.
        let others = [
            state.core("serviceaccounts"),
            state.served("scheduling.k8s.io", "v1", "priorityclasses"),
        ];
        for other in others.into_iter().flatten() {
            visible(&other.collection, other.collection.revision()).await;
        }
    }
    result
}

fn mutate_created(
    state: &State,
    served: &Served,
    namespace: &str,
    object: &mut Value,
) -> Result<(), ApiError> {
    let mut found = LookedUp::default();
    if (served.resource.group, served.resource.resource) == ("", "pods") {
        check_service_account(state, namespace, object)?;
        found.priority_class = priority_class(state, object)?.unwrap_or_default();
    }
    if (served.resource.group, served.resource.resource) == ("", "persistentvolumeclaims")
        && registry::admission::wants_default_class(object)
    {
        found.default_storage_class = default_storage_class(state)?;
    }
    registry::admission::admit_create(served.resource, object, &found)
}

/// Rules on updates: the value of a PriorityClass is for ever (k8s Priority plugin).
pub fn validate_updated(served: &Served, old: &Value, update: &Update) -> Result<(), ApiError> {
    if served.resource.resource == "priorityclasses"
        && let Update::Store(new) = update
        && new["value"] != old["value"]
    {
        let name = meta::object::name(old);
        let error =
            FieldError::forbidden(&FieldPath::new("value"), "may not be changed in an update.");
        return Err(ApiError::invalid(
            served.resource.group,
            served.resource.kind,
            name,
            vec![error],
        ));
    }
    Ok(())
}

/// A service account that a pod names must exist (k8s ServiceAccount plugin). The namespace's `default` is made within
/// a moment of the namespace, and is not waited for. `serviceAccount` is the old name of the field.
fn check_service_account(state: &State, namespace: &str, pod: &Value) -> Result<(), ApiError> {
    let named = ["serviceAccountName", "serviceAccount"].map(|field| pod["spec"][field].as_str());
    let mut named = named.into_iter().flatten();
    let name = named.find(|name| !name.is_empty()).unwrap_or_default();
    if service_account_is_there(state, namespace, name) {
        return Ok(());
    }
    let detail = format!(
        "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
    );
    Err(ApiError::forbidden(
        &GroupResource::new("", "pods"),
        meta::object::name(pod),
        &detail,
    ))
}

/// Whether a pod may name this account.
pub fn service_account_is_there(state: &State, namespace: &str, name: &str) -> bool {
    if name.is_empty() || name == "default" {
        return true;
    }
    let accounts = state.core("serviceaccounts");
    accounts.is_none_or(|accounts| {
        let key = accounts.key(namespace, name);
        accounts.collection.get(&key).is_some()
    })
}

/// The priority class that a pod names, or the one that is the default for all.
fn priority_class(state: &State, pod: &Value) -> Result<Option<Value>, ApiError> {
    let Some(classes) = state.served("scheduling.k8s.io", "v1", "priorityclasses") else {
        return Ok(None);
    };
    let name = pod["spec"]["priorityClassName"]
        .as_str()
        .unwrap_or_default();
    if name.is_empty() {
        return state.default_class.get(classes);
    }
    let Some(record) = classes.collection.get(name.as_bytes()) else {
        let detail = format!("no PriorityClass with name {name} was found");
        return Err(ApiError::forbidden(
            &GroupResource::new("", "pods"),
            meta::object::name(pod),
            &detail,
        ));
    };
    classes.decode(&record.value, record.mod_revision).map(Some)
}

/// How often priority classes have changed: as long as it is the same, [`priority_class`] finds the same.
pub fn priority_class_changes(state: &State) -> u64 {
    let classes = state.served("scheduling.k8s.io", "v1", "priorityclasses");
    classes.map_or(0, |classes| classes.collection.changes())
}

/// The priority class of pods that name none, remembered until one of the classes changes.
#[derive(Default)]
pub struct DefaultClass(Mutex<Option<Remembered>>);

/// How often classes had changed, and what was found among them.
type Remembered = (u64, Option<Value>);

impl DefaultClass {
    fn get(&self, classes: &Served) -> Result<Option<Value>, ApiError> {
        // Before the look: what changes during it is looked at again.
        let now = classes.collection.changes();
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, found)) = &*remembered
            && *then == now
        {
            return Ok(found.clone());
        }
        let mut all = Vec::new();
        let at = classes.collection.revision();
        let listed = classes.collection.list(b"", None, at, usize::MAX, &mut all);
        if listed.is_err() {
            return Ok(None);
        }
        // The lowest global default wins, as upstream decides.
        let mut found: Option<Value> = None;
        for (_, record) in &all {
            let class = classes.decode(&record.value, record.mod_revision)?;
            let lower = found
                .as_ref()
                .is_none_or(|other| class["value"].as_i64() < other["value"].as_i64());
            if class["globalDefault"] == true && lower {
                found = Some(class);
            }
        }
        *remembered = Some((now, found.clone()));
        Ok(found)
    }
}

/// The class of claims that name none (k8s DefaultStorageClass).
fn default_storage_class(state: &State) -> Result<Option<String>, ApiError> {
    let Some(classes) = state.served("storage.k8s.io", "v1", "storageclasses") else {
        return Ok(None);
    };
    let mut page = Vec::new();
    let revision = classes.collection.revision();
    let listed = classes
        .collection
        .list(b"", None, revision, STORAGE_CLASSES_MAX, &mut page);
    if listed.is_err() {
        return Ok(None);
    }
    let decoded = page
        .iter()
        .map(|(_, record)| classes.decode(&record.value, record.mod_revision));
    let all = decoded.collect::<Result<Vec<Value>, ApiError>>()?;
    Ok(registry::admission::default_storage_class(&all).map(str::to_owned))
}

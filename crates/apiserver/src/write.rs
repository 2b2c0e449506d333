//! Create, update, patch and delete: admission, the registry's decision, the write, and the wait until it counts.
//!
//! ```text
//!   read current ─► registry decides ─► compare-and-write ─► wait until visible ─► answer
//!        ▲                                    │ lost
//!        └────────────────────────────────────┘
//! ```

use kv::Revision;
use meta::{ApiError, Value};
use registry::{Context, DeleteOptions, Deletion, Update};
use store::{Change, Precondition, StoreError, WriteError};

use crate::admission;
use crate::allocate::Holding;
use crate::body::{self, Expected};
use crate::encode::Item;
use crate::state::{Served, State, now_micros, random, visible};

/// Tries against others who write the same object (k8s `MaxRetryWhenPatchConflicts` is 5).
const CONFLICT_TRIES_MAX: usize = 6;
/// Tries for a free generated name (KEP-4420).
const NAME_TRIES_MAX: usize = 8;
/// Seconds an Event is kept (kube-apiserver `--event-ttl`).
pub const EVENT_TTL_SECONDS: i64 = 3600;

/// Where a write goes.
#[derive(Clone, Copy)]
pub struct Address<'a> {
    /// Resource.
    pub served: &'a Served,
    /// Subresource, if one is written.
    pub subresource: Option<&'a str>,
    /// Namespace, empty for cluster-wide kinds.
    pub namespace: &'a str,
    /// Name, empty for a create.
    pub name: &'a str,
}

/// How a write is made.
#[derive(Clone, Copy)]
pub struct Mode<'a> {
    /// Who writes.
    pub user: &'a str,
    /// Decide everything, write nothing.
    pub dry_run: bool,
}

/// What became of a write.
pub struct Outcome {
    /// The object as it stands now.
    pub item: Item,
    /// It was created by this write.
    pub created: bool,
}

/// Runs the registry with the clock and chance of this process.
pub fn with_context<T>(user: &str, run: impl FnOnce(&mut Context<'_>) -> T) -> T {
    let mut next = random;
    run(&mut Context { now_micros: now_micros(), user, random: &mut next })
}

impl State {
    /// Creates an object.
    pub async fn create(&self, at: Address<'_>, mut object: Value, mode: Mode<'_>) -> Result<Outcome, ApiError> {
        let served = at.served;
        admission::namespace_accepts(self, served, at.namespace).await?;
        admission::mutate_created(self, served, at.namespace, &mut object)?;
        let namespace = served.resource.namespaced.then_some(at.namespace);
        let generated = meta::object::name(&object).is_empty();
        for _ in 0..NAME_TRIES_MAX {
            let mut ready = with_context(mode.user, |context| {
                registry::prepare_create(served.resource, object.clone(), namespace, context)
            })?;
            let key = served.key(at.namespace, meta::object::name(&ready));
            if mode.dry_run {
                if served.collection.get(&key).is_some() {
                    return Err(ApiError::already_exists(&served.group_resource(), meta::object::name(&ready)));
                }
                let message = served.encode(&ready)?;
                return Ok(Outcome { item: Item { message, revision: 0 }, created: true });
            }
            let reserved = self.reserve(served, &mut ready, &Holding::default())?;
            let message = served.encode(&ready)?;
            let lease = self.event_lease(served)?;
            let change = Change::Put { value: message.clone(), lease, tags: &served.tags(&ready) };
            match served.collection.write(&key, Precondition::Absent, change) {
                Ok(written) => {
                    visible(&served.collection, written.revision).await;
                    self.count_write();
                    let item = Item { message, revision: written.revision.0 };
                    return Ok(Outcome { item, created: true });
                }
                Err(error) => {
                    self.allocator.release(&reserved);
                    let seen = lost(error)?;
                    if !generated {
                        visible(&served.collection, seen).await;
                        return Err(ApiError::already_exists(
                            &served.group_resource(),
                            meta::object::name(&ready),
                        ));
                    }
                }
            }
        }
        Err(ApiError::generated_name_taken(&served.group_resource(), meta::object::generate_name(&object)))
    }

    /// Replaces an object by what `next` makes of the stored one; tried again when somebody else was faster.
    /// `create_missing` may give the object to create where there is none.
    pub async fn update(
        &self,
        at: Address<'_>,
        mode: Mode<'_>,
        mut next: impl FnMut(&Value) -> Result<Value, ApiError>,
        create_missing: Option<Value>,
    ) -> Result<Outcome, ApiError> {
        let served = at.served;
        self.modify(at, mode, create_missing, |state, old| {
            let new = next(old)?;
            let update = with_context(mode.user, |context| {
                registry::prepare_update(served.resource, at.subresource, old, new, context)
            })?;
            admission::validate_updated(state, served, old, &update)?;
            Ok(update)
        })
        .await
    }

    /// The loop under every change of a stored object.
    pub async fn modify(
        &self,
        at: Address<'_>,
        mode: Mode<'_>,
        mut create_missing: Option<Value>,
        mut decide: impl FnMut(&State, &Value) -> Result<Update, ApiError>,
    ) -> Result<Outcome, ApiError> {
        let served = at.served;
        let key = served.key(at.namespace, at.name);
        for _ in 0..CONFLICT_TRIES_MAX {
            let Some(record) = served.collection.get(&key) else {
                if let Some(object) = create_missing.take() {
                    return self.create(at, object, mode).await;
                }
                visible(&served.collection, served.collection.revision()).await;
                return Err(ApiError::not_found(&served.group_resource(), at.name));
            };
            let old = served.decode(&record.value, record.mod_revision)?;
            let decision = match decide(self, &old) {
                Ok(decision) => decision,
                Err(error) => {
                    // The refusal rests on what was read.
                    visible(&served.collection, record.mod_revision).await;
                    return Err(error);
                }
            };
            let current = Item { message: record.value.clone(), revision: record.mod_revision.0 };
            match decision {
                Update::Unchanged => {
                    visible(&served.collection, record.mod_revision).await;
                    return Ok(Outcome { item: current, created: false });
                }
                Update::Store(mut new) => {
                    if mode.dry_run {
                        let message = served.encode(&new)?;
                        return Ok(Outcome { item: Item { message, ..current }, created: false });
                    }
                    let held = Holding::of(&old);
                    let reserved = self.reserve(served, &mut new, &held)?;
                    let message = served.encode(&new)?;
                    let change =
                        Change::Put { value: message.clone(), lease: record.lease, tags: &served.tags(&new) };
                    let condition = Precondition::ModRevision(record.mod_revision);
                    match served.collection.write(&key, condition, change) {
                        Ok(written) => {
                            if is_service(served) {
                                self.allocator.release(&held.without(&Holding::of(&new)));
                            }
                            visible(&served.collection, written.revision).await;
                            self.count_write();
                            let item = Item { message, revision: written.revision.0 };
                            return Ok(Outcome { item, created: false });
                        }
                        Err(error) => {
                            self.allocator.release(&reserved);
                            lost(error)?;
                        }
                    }
                }
                Update::Remove(last) => {
                    if mode.dry_run {
                        return Ok(Outcome { item: Item { message: served.encode(&last)?, ..current }, created: false });
                    }
                    if let Some(item) = self.remove(served, &key, record.mod_revision, &last).await? {
                        return Ok(Outcome { item, created: false });
                    }
                }
            }
        }
        Err(ApiError::modified(&served.group_resource(), at.name))
    }

    /// Deletes an object: at once, or by marking it.
    /// Gives the object and whether it is gone.
    pub async fn delete(
        &self,
        at: Address<'_>,
        options: &DeleteOptions,
        mode: Mode<'_>,
    ) -> Result<(Item, bool), ApiError> {
        let served = at.served;
        admission::may_delete(served, at.name)?;
        let key = served.key(at.namespace, at.name);
        for _ in 0..CONFLICT_TRIES_MAX {
            let Some(record) = served.collection.get(&key) else {
                visible(&served.collection, served.collection.revision()).await;
                return Err(ApiError::not_found(&served.group_resource(), at.name));
            };
            let old = served.decode(&record.value, record.mod_revision)?;
            let decision = with_context(mode.user, |context| {
                registry::prepare_delete(served.resource, &old, options, context)
            })?;
            let current = Item { message: record.value.clone(), revision: record.mod_revision.0 };
            match decision {
                Deletion::Unchanged => return Ok((current, false)),
                _ if mode.dry_run => return Ok((current, matches!(decision, Deletion::Remove))),
                Deletion::Mark(new) => {
                    let message = served.encode(&new)?;
                    let change =
                        Change::Put { value: message.clone(), lease: record.lease, tags: &served.tags(&new) };
                    let condition = Precondition::ModRevision(record.mod_revision);
                    match served.collection.write(&key, condition, change) {
                        Ok(written) => {
                            visible(&served.collection, written.revision).await;
                            self.count_write();
                            return Ok((Item { message, revision: written.revision.0 }, false));
                        }
                        Err(error) => {
                            lost(error)?;
                        }
                    }
                }
                Deletion::Remove => {
                    if let Some(item) = self.remove(served, &key, record.mod_revision, &old).await? {
                        return Ok((item, true));
                    }
                }
            }
        }
        Err(ApiError::modified(&served.group_resource(), at.name))
    }

    /// Removes a key whose object is in the state that was decided on; `None` if it is not any more.
    async fn remove(
        &self,
        served: &Served,
        key: &[u8],
        at: Revision,
        last: &Value,
    ) -> Result<Option<Item>, ApiError> {
        match served.collection.write(key, Precondition::ModRevision(at), Change::Delete) {
            Ok(written) => {
                if is_service(served) {
                    self.allocator.release(&Holding::of(last));
                }
                visible(&served.collection, written.revision).await;
                self.count_write();
                Ok(Some(Item { message: served.encode(last)?, revision: written.revision.0 }))
            }
            Err(error) => {
                lost(error)?;
                Ok(None)
            }
        }
    }

    /// Reserves the addresses and ports of a Service and writes them into it.
    fn reserve(&self, served: &Served, object: &mut Value, before: &Holding) -> Result<Holding, ApiError> {
        if is_service(served) { self.allocator.assign(object, before) } else { Ok(Holding::default()) }
    }

    /// The lease that ends an Event; none for other kinds.
    fn event_lease(&self, served: &Served) -> Result<kv::LeaseId, ApiError> {
        if served.storage.resource != "events" {
            return Ok(kv::LeaseId::default());
        }
        self.event_leases.current(&self.store).map_err(store_error)
    }

    fn count_write(&self) {
        self.metrics.writes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

fn is_service(served: &Served) -> bool {
    served.resource.resource == "services" && served.resource.group.is_empty()
}

/// The revision that a write lost its race against. Other errors are the caller's.
fn lost(error: WriteError) -> Result<Revision, ApiError> {
    match error {
        WriteError::Lost { seen, .. } => Ok(seen),
        WriteError::Refused(error) => Err(store_error(error)),
    }
}

/// A refusal of the store as a `Status`.
pub fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::LogBehind => ApiError::too_many_requests(error.to_string(), 1),
        StoreError::BudgetSpent { .. } | StoreError::TooManyWatchers { .. } | StoreError::TooManyLeases { .. } => {
            ApiError::too_many_requests(error.to_string(), 10)
        }
        StoreError::ValueTooLong { .. } | StoreError::KeyTooLong { .. } => {
            ApiError::request_too_large(error.to_string())
        }
        other => ApiError::internal(other.to_string()),
    }
}

/// Applies a patch document to the stored object, as its language says.
pub fn patched(
    served: &Served,
    patch_type: rest::negotiate::PatchType,
    patch: &[u8],
    validation: schema::FieldValidation,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<Value, ApiError> {
    use rest::negotiate::PatchType;
    let tree = match patch_type {
        PatchType::Json => json_patch(patch, old, served)?,
        PatchType::Merge | PatchType::Strategic => {
            let document: Value = serde_json::from_slice(patch)
                .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
            if !document.is_object() {
                return Err(ApiError::bad_request("error decoding patch: the patch is not an object"));
            }
            if patch_type == PatchType::Merge {
                let mut tree = old.clone();
                schema::merge_patch(&mut tree, &document);
                tree
            } else {
                schema::strategic_merge(served.resource.type_id, old, &document)
                    .map_err(|error| ApiError::bad_request(error.to_string()))?
            }
        }
        PatchType::Apply => {
            return Err(ApiError::unsupported_media_type(
                "server-side apply (application/apply-patch+yaml) is not served by this release of Megaplane: use \
                 client-side apply, or one of application/json-patch+json, application/merge-patch+json, \
                 application/strategic-merge-patch+json",
            ));
        }
    };
    let api_version = served.api_version();
    let expected =
        Expected { api_version: &api_version, kind: served.resource.kind, type_id: served.resource.type_id };
    let decoded = schema::complete(served.resource.type_id, tree).map_err(|error| {
        ApiError::bad_request(format!("error when converting the patched object: {error}"))
    })?;
    let sent = body::validated(decoded, &expected, validation)?;
    *warnings = sent.warnings;
    Ok(sent.object)
}

/// Operations a JSON patch may have (k8s `maxJSONPatchOperations`).
const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;

fn json_patch(patch: &[u8], old: &Value, served: &Served) -> Result<Value, ApiError> {
    let patch: json_patch::Patch = serde_json::from_slice(patch)
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    if patch.0.len() > JSON_PATCH_OPERATIONS_MAX {
        return Err(ApiError::request_too_large(format!(
            "The allowed maximum operations in a JSON patch is {JSON_PATCH_OPERATIONS_MAX}, got {}",
            patch.0.len()
        )));
    }
    // Copies can double the tree with each operation: what they add is bounded by what a request may hold.
    let copies = patch.0.iter().filter(|operation| matches!(operation, json_patch::PatchOperation::Copy(_))).count();
    if copies > 0 {
        let size = old.to_string().len();
        if size.saturating_mul(copies) > rest::http::REQUEST_BODY_BYTES_MAX {
            return Err(ApiError::request_too_large("the copies of the JSON patch would grow past 3 MiB"));
        }
    }
    // Paths of a JSON patch mean the JSON that clients see, zero values included.
    let mut tree = schema::as_written(served.resource.type_id, old);
    tree["apiVersion"] = old["apiVersion"].clone();
    tree["kind"] = old["kind"].clone();
    json_patch::patch(&mut tree, &patch).map_err(|error| {
        let mut refused = ApiError::bad_request(format!("the server rejected our request: {error}"));
        refused.code = 422;
        refused.reason = meta::Reason::Invalid;
        refused.message = format!(
            "the server rejected our request due to an error in our request: {}: {error}",
            served.resource.resource
        );
        refused
    })?;
    Ok(tree)
}

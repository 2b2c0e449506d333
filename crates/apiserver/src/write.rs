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
use store::{Change, Precondition, Record, StoreError, WriteError};

use crate::admin_access;
use crate::admission;
use crate::allocate::Holding;
use crate::encode::Item;
use crate::state::{Served, State, now_micros, random, visible};

/// Tries against others who write the same object. Nothing is waited for between reading and writing, so a lost try
/// means that somebody else got through; losing this often takes more writers of one object than there are cores.
const CONFLICT_TRIES_MAX: usize = 100;
/// Tries for a free generated name (KEP-4420).
pub const NAME_TRIES_MAX: usize = 8;
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
    run(&mut Context {
        now_micros: now_micros(),
        user,
        random: &mut next,
    })
}

impl State {
    /// Creates an object.
    pub async fn create(
        &self,
        at: Address<'_>,
        mut object: Value,
        mode: Mode<'_>,
    ) -> Result<Outcome, ApiError> {
        let served = at.served;
        admission::namespace_accepts(self, served, at.namespace).await?;
        admission::admit_created(self, served, at.namespace, &mut object).await?;
        let namespace = served.resource.namespaced.then_some(at.namespace);
        let generated = meta::object::name(&object).is_empty();
        for _ in 0..NAME_TRIES_MAX {
            // Only who may lose its name begins anew.
            let sent = if generated {
                object.clone()
            } else {
                std::mem::take(&mut object)
            };
            let mut ready = with_context(mode.user, |context| {
                registry::prepare_create(served.resource, sent, namespace, context)
            })?;
            admin_access::check_created(self, served, at.namespace, &ready).await?;
            let name = meta::object::name(&ready).to_owned();
            let key = served.key(at.namespace, &name);
            if mode.dry_run {
                let taken = served.collection.get(&key).is_some();
                visible(&served.collection, served.collection.revision()).await;
                if taken {
                    return Err(ApiError::already_exists(&served.group_resource(), &name));
                }
                let message = served.encode(&ready)?;
                return Ok(Outcome {
                    item: Item {
                        message,
                        revision: 0,
                    },
                    created: true,
                });
            }
            let lease = self.lifetime(served)?;
            let reserved = self.reserve(served, &mut ready, &Holding::default())?;
            let message = match served.encode(&ready) {
                Ok(message) => message,
                Err(error) => {
                    self.allocator.release(&reserved);
                    return Err(error);
                }
            };
            let tags = served.tags(&ready);
            // While it waits for the disk it holds bytes, and no trees.
            drop(ready);
            let change = Change::Put {
                value: message.clone(),
                lease,
                tags: &tags,
            };
            match served.collection.write(&key, Precondition::Absent, change) {
                Ok(written) => {
                    visible(&served.collection, written.revision).await;
                    self.count_write();
                    let item = Item {
                        message,
                        revision: written.revision.0,
                    };
                    return Ok(Outcome {
                        item,
                        created: true,
                    });
                }
                Err(error) => {
                    self.allocator.release(&reserved);
                    let seen = lost(error)?;
                    if !generated {
                        visible(&served.collection, seen).await;
                        return Err(ApiError::already_exists(&served.group_resource(), &name));
                    }
                }
            }
        }
        Err(ApiError::generated_name_taken(
            &served.group_resource(),
            meta::object::generate_name(&object),
        ))
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
        let mut refused = false;
        let result = self.modify(at, mode, create_missing, |old| {
            let new = next(old)?;
            let update = with_context(mode.user, |context| {
                registry::prepare_update(served.resource, at.subresource, old, new, context)
            })?;
            admission::validate_updated(served, old, &update)?;
            let checked = admin_access::check_updated(self, served, at.namespace, old, &update);
            refused = checked.is_err();
            checked.map(|()| update)
        });
        let result = result.await;
        if refused {
            admin_access::settle(self).await;
        }
        result
    }

    /// The loop under every change of a stored object.
    pub async fn modify(
        &self,
        at: Address<'_>,
        mode: Mode<'_>,
        mut create_missing: Option<Value>,
        mut decide: impl FnMut(&Value) -> Result<Update, ApiError>,
    ) -> Result<Outcome, ApiError> {
        let served = at.served;
        let key = served.key(at.namespace, at.name);
        let mut seen = Revision::default();
        for _ in 0..CONFLICT_TRIES_MAX {
            let Some(record) = served.collection.get(&key) else {
                if let Some(object) = create_missing.take() {
                    return self.create(at, object, mode).await;
                }
                visible(&served.collection, served.collection.revision()).await;
                return Err(ApiError::not_found(&served.group_resource(), at.name));
            };
            let old = served.decode(&record.value, record.mod_revision)?;
            let decision = match decide(&old) {
                Ok(decision) => decision,
                Err(error) => {
                    // The refusal rests on what was read.
                    visible(&served.collection, record.mod_revision).await;
                    return Err(error);
                }
            };
            let current = Item {
                message: record.value.clone(),
                revision: record.mod_revision.0,
            };
            match decision {
                Update::Unchanged => {
                    visible(&served.collection, record.mod_revision).await;
                    return Ok(Outcome {
                        item: current,
                        created: false,
                    });
                }
                Update::Store(mut new) => {
                    if mode.dry_run {
                        visible(&served.collection, record.mod_revision).await;
                        let message = served.encode(&new)?;
                        return Ok(Outcome {
                            item: Item { message, ..current },
                            created: false,
                        });
                    }
                    let lease = self.lifetime(served)?;
                    let held = holding(served, &old);
                    let reserved = self.reserve(served, &mut new, &held)?;
                    let message = match served.encode(&new) {
                        Ok(message) => message,
                        Err(error) => {
                            self.allocator.release(&reserved);
                            return Err(error);
                        }
                    };
                    let change = Change::Put {
                        value: message.clone(),
                        lease,
                        tags: &served.tags(&new),
                    };
                    let condition = Precondition::ModRevision(record.mod_revision);
                    match served.collection.write(&key, condition, change) {
                        Ok(written) => {
                            self.allocator
                                .release(&held.without(&holding(served, &new)));
                            drop((old, new));
                            visible(&served.collection, written.revision).await;
                            self.count_write();
                            let item = Item {
                                message,
                                revision: written.revision.0,
                            };
                            return Ok(Outcome {
                                item,
                                created: false,
                            });
                        }
                        Err(error) => {
                            self.allocator.release(&reserved);
                            seen = lost(error)?;
                        }
                    }
                }
                Update::Remove(last) => {
                    let message = served.encode(&last)?;
                    if mode.dry_run {
                        visible(&served.collection, record.mod_revision).await;
                        return Ok(Outcome {
                            item: Item { message, ..current },
                            created: false,
                        });
                    }
                    match self.remove(served, &key, record.mod_revision, &old)? {
                        Removal::Done(revision) => {
                            visible(&served.collection, revision).await;
                            return Ok(Outcome {
                                item: Item {
                                    message,
                                    revision: revision.0,
                                },
                                created: false,
                            });
                        }
                        Removal::Lost(newer) => seen = newer,
                    }
                }
            }
        }
        visible(&served.collection, seen).await;
        Err(ApiError::modified(&served.group_resource(), at.name))
    }

    /// Deletes an object: at once, or by marking it. Gives the object and whether it is gone.
    pub async fn delete(
        &self,
        at: Address<'_>,
        options: &DeleteOptions,
        mode: Mode<'_>,
    ) -> Result<(Item, bool), ApiError> {
        let (revision, result) = self.delete_at_once(at, options, mode);
        visible(&at.served.collection, revision).await;
        result
    }

    /// The same without the wait, for callers with many objects: the answer counts once the revision is visible.
    pub fn delete_at_once(
        &self,
        at: Address<'_>,
        options: &DeleteOptions,
        mode: Mode<'_>,
    ) -> (Revision, Result<(Item, bool), ApiError>) {
        let served = at.served;
        if let Err(error) = admission::may_delete(served, at.name) {
            return (Revision::default(), Err(error));
        }
        let key = served.key(at.namespace, at.name);
        let mut seen = Revision::default();
        for _ in 0..CONFLICT_TRIES_MAX {
            let Some(record) = served.collection.get(&key) else {
                let error = ApiError::not_found(&served.group_resource(), at.name);
                return (served.collection.revision(), Err(error));
            };
            match self.delete_record(served, &key, &record, options, mode) {
                Ok(Removal::Done((revision, item, gone))) => return (revision, Ok((item, gone))),
                Ok(Removal::Lost(newer)) => seen = newer,
                Err(error) => return (record.mod_revision, Err(error)),
            }
        }
        (
            seen,
            Err(ApiError::modified(&served.group_resource(), at.name)),
        )
    }

    /// One try: decides on this state of the object, and writes if it is still this one.
    fn delete_record(
        &self,
        served: &Served,
        key: &[u8],
        record: &Record,
        options: &DeleteOptions,
        mode: Mode<'_>,
    ) -> Result<Removal<(Revision, Item, bool)>, ApiError> {
        let at = record.mod_revision;
        let old = served.decode(&record.value, at)?;
        let decision = with_context(mode.user, |context| {
            registry::prepare_delete(served.resource, &old, options, context)
        })?;
        let current = Item {
            message: record.value.clone(),
            revision: at.0,
        };
        match decision {
            Deletion::Unchanged => Ok(Removal::Done((at, current, false))),
            _ if mode.dry_run => {
                let gone = matches!(decision, Deletion::Remove);
                Ok(Removal::Done((at, current, gone)))
            }
            Deletion::Mark(new) => {
                let message = served.encode(&new)?;
                let tags = served.tags(&new);
                let change = Change::Put {
                    value: message.clone(),
                    lease: record.lease,
                    tags: &tags,
                };
                match served
                    .collection
                    .write(key, Precondition::ModRevision(at), change)
                {
                    Ok(written) => {
                        self.count_write();
                        let item = Item {
                            message,
                            revision: written.revision.0,
                        };
                        Ok(Removal::Done((written.revision, item, false)))
                    }
                    Err(error) => lost(error).map(Removal::Lost),
                }
            }
            Deletion::Remove => Ok(match self.remove(served, key, at, &old)? {
                Removal::Done(revision) => {
                    let item = Item {
                        message: record.value.clone(),
                        revision: revision.0,
                    };
                    Removal::Done((revision, item, true))
                }
                Removal::Lost(newer) => Removal::Lost(newer),
            }),
        }
    }

    /// Removes a key whose object is in the state that was decided on, and gives back what that state held.
    fn remove(
        &self,
        served: &Served,
        key: &[u8],
        at: Revision,
        stored: &Value,
    ) -> Result<Removal<Revision>, ApiError> {
        match served
            .collection
            .write(key, Precondition::ModRevision(at), Change::Delete)
        {
            Ok(written) => {
                self.allocator.release(&holding(served, stored));
                self.count_write();
                Ok(Removal::Done(written.revision))
            }
            Err(error) => lost(error).map(Removal::Lost),
        }
    }

    /// Reserves the addresses and ports of a Service and writes them into it.
    fn reserve(
        &self,
        served: &Served,
        object: &mut Value,
        before: &Holding,
    ) -> Result<Holding, ApiError> {
        if is_service(served) {
            self.allocator.assign(object, before)
        } else {
            Ok(Holding::default())
        }
    }

    /// The lease that ends an Event, an hour after its last write; none for other kinds.
    fn lifetime(&self, served: &Served) -> Result<kv::LeaseId, ApiError> {
        if served.storage.resource != "events" {
            return Ok(kv::LeaseId::default());
        }
        self.event_leases.current(&self.store).map_err(store_error)
    }

    /// Counts a write that took a revision.
    pub fn count_write(&self) {
        self.metrics
            .writes
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// What became of a compare-and-write.
enum Removal<T> {
    Done(T),
    /// Somebody was faster; the newest revision then.
    Lost(Revision),
}

/// The addresses and ports that a stored object keeps from others.
fn holding(served: &Served, object: &Value) -> Holding {
    if is_service(served) {
        Holding::of(object)
    } else {
        Holding::default()
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
        StoreError::DiskFull
        | StoreError::BudgetSpent { .. }
        | StoreError::SettingsFull { .. }
        | StoreError::TooManyWatchers { .. }
        | StoreError::TooManyLeases { .. } => ApiError::too_many_requests(error.to_string(), 10),
        StoreError::ValueTooLong { .. } | StoreError::KeyTooLong { .. } => {
            ApiError::request_too_large(error.to_string())
        }
        other => ApiError::internal(other.to_string()),
    }
}

//! The executor: carries a plan out, in order, and tells how it went.
//!
//! Neighbouring actions are joined to *chains* (all on one object) and neighbouring chains of the same verbs to
//! *stretches*. Chains of a stretch run at the same time, stretches one after the other; the first failure ends the
//! plan. Creations begin slowly: one, then two, four and so on, so that a quota that refuses everything is asked once.
//!
//! Every action may be repeated safely. Does not know why an action is wanted, nor when to try again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use client::{Client, ClientError, DeleteOptions, ListOptions, PatchType};
use meta::{Value, object};
use reconcile::garbage::OwnerFound;
use reconcile::replicaset::slow_start_batches;
use reconcile::{Action, EventType, ResourceRef, action};
use schema::Resource;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use value::json;

use crate::ControllersProgress;
use crate::controller::Controller;
use crate::feed::{resource_of, resource_of_kind, version_of};
use client::events::{Note, Recorder};

/// Read-and-patch rounds that are lost to other writers before the plan is given back.
const PATCH_ROUNDS_MAX: usize = 4;

/// A plan to carry out.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) controller: Controller,
    pub(crate) key: Arc<str>,
    /// Nothing is done unless this node is gone, says the live API.
    pub(crate) unless_node: Option<String>,
    pub(crate) actions: Vec<Action>,
}

/// How a plan went.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) controller: Controller,
    pub(crate) key: Arc<str>,
    /// Why it ended early.
    pub(crate) failure: Option<Failure>,
    /// uids of what was created.
    pub(crate) created: Vec<Box<str>>,
    /// uids of what was deleted, or was gone already.
    pub(crate) deleted: Vec<Box<str>>,
    /// The version that the key's own object has since, 0 if it was not written.
    pub(crate) own_version: i64,
    /// The shortest of the plan's wishes to be made again.
    pub(crate) requeue_micros: Option<i64>,
    /// Answers about owners.
    pub(crate) owners: Vec<(String, OwnerFound)>,
}

/// Why a plan ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// The pods that were to be: created, or deleted.
    pub(crate) creating: Option<bool>,
    pub(crate) message: String,
}

/// What is to be made of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Somebody was faster: plan again from what is then seen.
    Conflict,
    /// The namespace is going away: there is no use in trying again.
    NamespaceTerminating,
    /// Anything else: try again after a pause.
    Other,
}

/// What one action brought.
#[derive(Debug, Default)]
struct Done {
    created: Option<Box<str>>,
    deleted: Option<Box<str>>,
    own_version: i64,
    owner: Option<(String, OwnerFound)>,
}

/// Carries plans out. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Executor {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) progress: Arc<ControllersProgress>,
    /// Requests of all controllers.
    all: Arc<Semaphore>,
    /// Requests of each controller: a half of all, so that a second one always finds room.
    each: Arc<[Semaphore]>,
}

impl Executor {
    /// An executor with so many requests in flight at most.
    pub(crate) fn new(
        client: Client,
        recorder: Recorder,
        progress: Arc<ControllersProgress>,
        requests: usize,
    ) -> Executor {
        let requests = requests.max(2);
        let each = Controller::ALL
            .iter()
            .map(|_| Semaphore::new(requests / 2))
            .collect();
        Executor {
            client,
            recorder,
            progress,
            all: Arc::new(Semaphore::new(requests)),
            each,
        }
    }

    /// Carries a plan out.
    pub(crate) async fn run(&self, job: Job) -> Report {
        let Job {
            controller,
            key,
            unless_node,
            actions,
        } = job;
        let mut report = Report {
            controller,
            key: key.clone(),
            failure: None,
            created: Vec::new(),
            deleted: Vec::new(),
            own_version: 0,
            requeue_micros: None,
            owners: Vec::new(),
        };
        if let Some(node) = unless_node
            && let Some(failure) = self.node_is_there(controller, &node).await
        {
            report.failure = Some(failure);
            return report;
        }
        for stretch in stretches(actions) {
            let starts_slowly = matches!(stretch[0][0], Action::Create { .. });
            let total = stretch.len();
            let mut chains = stretch.into_iter();
            let batches: Vec<usize> = if starts_slowly {
                slow_start_batches(total).collect()
            } else {
                vec![total]
            };
            for size in batches {
                self.batch(
                    controller,
                    &key,
                    chains.by_ref().take(size).collect(),
                    &mut report,
                )
                .await;
                if report.failure.is_some() {
                    return report;
                }
            }
        }
        report
    }

    async fn batch(
        &self,
        controller: Controller,
        key: &Arc<str>,
        mut chains: Vec<Vec<Action>>,
        report: &mut Report,
    ) {
        if chains.len() == 1 {
            let only = chains.pop().unwrap_or_default();
            report.take(self.chain(controller, key, only).await);
            return;
        }
        let mut running = JoinSet::new();
        for chain in chains {
            let (executor, key) = (self.clone(), key.clone());
            running.spawn(async move { executor.chain(controller, &key, chain).await });
        }
        while let Some(result) = running.join_next().await {
            match result {
                Ok(result) => report.take(result),
                Err(error) => report.take((Vec::new(), None, Some(other(error.to_string())))),
            }
        }
    }

    async fn chain(&self, controller: Controller, key: &str, chain: Vec<Action>) -> ChainResult {
        let (mut results, mut requeue) = (Vec::new(), None);
        for action in chain {
            match action {
                Action::RequeueAfter(micros) => requeue = shortest(requeue, Some(micros)),
                Action::Event {
                    involved,
                    event_type,
                    reason,
                    message,
                } => {
                    self.recorder.record(Note {
                        involved,
                        event_type,
                        reason,
                        message,
                        component: controller.component().into(),
                        action: "",
                        related: None,
                    });
                }
                action => match self.act(controller, key, &action).await {
                    Ok(done) => results.push(done),
                    Err(failure) => {
                        let counter = match failure.kind {
                            FailureKind::Conflict => &self.progress.conflicts,
                            _ => &self.progress.failures,
                        };
                        counter.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(?controller, key, failure.message, "action failed");
                        return (results, requeue, Some(failure));
                    }
                },
            }
        }
        (results, requeue, None)
    }

    async fn act(
        &self,
        controller: Controller,
        key: &str,
        action: &Action,
    ) -> Result<Done, Failure> {
        let closed = |_| other("the controllers are stopping".to_owned());
        let _each = self.each[controller as usize]
            .acquire()
            .await
            .map_err(closed)?;
        let _all = self.all.acquire().await.map_err(closed)?;
        self.progress.requests.fetch_add(1, Ordering::Relaxed);
        match action {
            Action::Create { .. } => self.create(controller, action).await,
            Action::Delete { .. } => self.delete(controller, action).await,
            Action::Update {
                resource,
                namespace,
                name,
                subresource,
                object,
            } => {
                let found = known(*resource)?;
                if *subresource == Some("finalize") {
                    self.sweep(name).await?;
                }
                let reply = self
                    .client
                    .update(
                        found,
                        namespace,
                        name,
                        subresource.unwrap_or_default(),
                        object,
                    )
                    .await;
                written(controller, key, (*resource, namespace, name), reply)
            }
            Action::UpdateStatus {
                resource,
                namespace,
                name,
                object,
            } => {
                let reply = self
                    .client
                    .update(known(*resource)?, namespace, name, "status", object)
                    .await;
                written(controller, key, (*resource, namespace, name), reply)
            }
            Action::Patch {
                resource,
                namespace,
                name,
                patch_type,
                subresource,
                body,
            } => {
                let patch_type = match patch_type {
                    reconcile::PatchType::Merge => PatchType::Merge,
                    reconcile::PatchType::Strategic => PatchType::StrategicMerge,
                };
                let subresource = subresource.unwrap_or_default();
                let reply = self
                    .client
                    .patch(
                        known(*resource)?,
                        namespace,
                        name,
                        subresource,
                        patch_type,
                        body,
                    )
                    .await;
                written(controller, key, (*resource, namespace, name), reply)
            }
            Action::DeleteCollection {
                resource,
                namespace,
            } => {
                match self
                    .client
                    .delete_collection(known(*resource)?, namespace)
                    .await
                {
                    Err(error) if !error.is_not_found() => Err(failed(&error)),
                    _ => Ok(Done::default()),
                }
            }
            Action::RemoveFinalizer {
                resource,
                namespace,
                name,
                uid,
                finalizer,
            } => {
                self.change(*resource, namespace, name, uid, |object| {
                    let kept: Vec<Value> = object::finalizers(object)
                        .filter(|text| text != finalizer)
                        .map(Value::from)
                        .collect();
                    (kept.len() < object::finalizers(object).count())
                        .then(|| json!({"finalizers": or_null(kept)}))
                })
                .await
            }
            Action::RemoveOwners {
                resource,
                namespace,
                name,
                uid,
                owners,
            } => {
                self.change(*resource, namespace, name, uid, |object| {
                    let all = object::owner_references(object);
                    let named =
                        |owner: &&Value| owners.iter().any(|uid| owner["uid"] == uid.as_str());
                    let kept: Vec<Value> =
                        all.iter().filter(|owner| !named(owner)).cloned().collect();
                    (kept.len() < all.len()).then(|| json!({"ownerReferences": or_null(kept)}))
                })
                .await
            }
            Action::UnblockOwners {
                resource,
                namespace,
                name,
                uid,
            } => {
                self.change(*resource, namespace, name, uid, |object| {
                    let mut owners = object::owner_references(object).to_vec();
                    let mut changed = false;
                    for owner in &mut owners {
                        changed |= owner["blockOwnerDeletion"] == true;
                        owner["blockOwnerDeletion"] = false.into();
                    }
                    changed.then(|| json!({"ownerReferences": owners}))
                })
                .await
            }
            Action::CheckOwner {
                api_version,
                kind,
                namespace,
                name,
                uid,
            } => {
                let found = self
                    .look_for_owner(api_version, kind, namespace, name, uid)
                    .await?;
                Ok(Done {
                    owner: Some((uid.clone(), found)),
                    ..Done::default()
                })
            }
            Action::Event { .. } | Action::RequeueAfter(_) => Ok(Done::default()),
        }
    }

    async fn create(&self, controller: Controller, action: &Action) -> Result<Done, Failure> {
        let Action::Create {
            resource,
            namespace,
            object,
            announce,
        } = action
        else {
            return Ok(Done::default());
        };
        let reply = self
            .client
            .create(known(*resource)?, namespace, object)
            .await;
        match reply {
            Ok(made) => {
                if let Some(announce) = announce {
                    let (reason, message) = announce.created(object::name(&made));
                    self.announce(
                        controller,
                        &announce.involved,
                        EventType::Normal,
                        reason,
                        message,
                    );
                }
                let is_expected = controller.expects() == Some(*resource);
                Ok(Done {
                    created: is_expected.then(|| object::uid(&made).into()),
                    ..Done::default()
                })
            }
            Err(error) => {
                let mut failure = failed(&error);
                if let Some(announce) = announce {
                    failure.creating = Some(true);
                    if failure.kind == FailureKind::Other {
                        let (reason, message) = announce.create_failed(&failure.message);
                        self.announce(
                            controller,
                            &announce.involved,
                            EventType::Warning,
                            reason,
                            message,
                        );
                    }
                }
                Err(failure)
            }
        }
    }

    async fn delete(&self, controller: Controller, action: &Action) -> Result<Done, Failure> {
        let Action::Delete {
            resource,
            namespace,
            name,
            uid,
            propagation,
            grace_seconds,
            announce,
        } = action
        else {
            return Ok(Done::default());
        };
        let options = DeleteOptions {
            uid: uid.clone(),
            propagation: propagation.map(|propagation| match propagation {
                reconcile::Propagation::Background => client::Propagation::Background,
                reconcile::Propagation::Foreground => client::Propagation::Foreground,
                reconcile::Propagation::Orphan => client::Propagation::Orphan,
            }),
            grace_period_seconds: *grace_seconds,
        };
        let deleted = Done {
            deleted: (controller.expects() == Some(*resource)).then(|| uid.as_str().into()),
            ..Done::default()
        };
        match self
            .client
            .delete(known(*resource)?, namespace, name, &options)
            .await
        {
            Ok(()) => {
                if let Some(announce) = announce {
                    let (reason, message) = announce.deleted(name);
                    self.announce(
                        controller,
                        &announce.involved,
                        EventType::Normal,
                        reason,
                        message,
                    );
                }
                Ok(deleted)
            }
            // Gone, or another object has the name by now: that is what was wanted.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(deleted),
            Err(error) => {
                let mut failure = failed(&error);
                if let Some(announce) = announce {
                    failure.creating = Some(false);
                    let (reason, message) = announce.delete_failed(&failure.message);
                    self.announce(
                        controller,
                        &announce.involved,
                        EventType::Warning,
                        reason,
                        message,
                    );
                }
                Err(failure)
            }
        }
    }

    fn announce(
        &self,
        controller: Controller,
        involved: &Arc<reconcile::Involved>,
        event_type: EventType,
        reason: &'static str,
        message: String,
    ) {
        let involved = involved.clone();
        self.recorder.record(Note {
            involved,
            event_type,
            reason,
            message,
            component: controller.component().into(),
            action: "",
            related: None,
        });
    }

    /// Reads an object and patches its metadata, provided nobody else wrote it in between.
    async fn change(
        &self,
        resource: ResourceRef,
        namespace: &str,
        name: &str,
        uid: &str,
        change: impl Fn(&Value) -> Option<Value>,
    ) -> Result<Done, Failure> {
        let resource = known(resource)?;
        let mut last = other(format!("{name} changes too often"));
        for _ in 0..PATCH_ROUNDS_MAX {
            let object = match self.client.get(resource, namespace, name).await {
                Ok(object) if object::uid(&object) == uid => object,
                Ok(_) => return Ok(Done::default()),
                Err(error) if error.is_not_found() => return Ok(Done::default()),
                Err(error) => return Err(failed(&error)),
            };
            let Some(mut metadata) = change(&object) else {
                return Ok(Done::default());
            };
            metadata["uid"] = uid.into();
            metadata["resourceVersion"] = object::resource_version(&object).into();
            let patch = json!({"metadata": metadata});
            match self
                .client
                .patch(resource, namespace, name, "", PatchType::Merge, &patch)
                .await
            {
                Ok(_) => return Ok(Done::default()),
                Err(error) if error.is_not_found() => return Ok(Done::default()),
                Err(error) if error.is_conflict() => last = failed(&error),
                Err(error) => return Err(failed(&error)),
            }
        }
        Err(last)
    }

    /// Asks the API itself about an owner: a mirror may lag, and a deletion cannot be taken back.
    async fn look_for_owner(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<OwnerFound, Failure> {
        // A kind we do not know may be served tomorrow: never a reason to delete.
        let resource = resource_of_kind(api_version, kind).ok_or_else(|| {
            other(format!(
                "owner {name} is of unknown kind {api_version} {kind}"
            ))
        })?;
        if resource.namespaced && namespace.is_empty() {
            return Err(other(format!(
                "owner {kind} {name} of a cluster-wide object cannot live in a namespace"
            )));
        }
        match self.client.get(resource, namespace, name).await {
            Ok(owner) if object::uid(&owner) == uid => Ok(OwnerFound::Present),
            Ok(_) => Ok(OwnerFound::Absent),
            Err(error) if error.is_not_found() => Ok(OwnerFound::Absent),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Makes sure that a namespace is really empty before it is let go: mirrors may lag, and some resources have none.
    async fn sweep(&self, namespace: &str) -> Result<(), Failure> {
        let followed: Vec<ResourceRef> = crate::feed::feeds()
            .iter()
            .map(|feed| feed.reference)
            .collect();
        let stored = schema::resources().iter().filter(|resource| {
            resource.default_served
                && resource.namespaced
                && resource.verbs.contains(&"list")
                && resource.verbs.contains(&"delete")
        });
        for resource in stored {
            let reference = ResourceRef::new(resource.group, resource.version, resource.resource);
            if resource.resource == "events" {
                self.client
                    .delete_collection(resource, namespace)
                    .await
                    .map_err(|error| failed(&error))?;
            } else if followed.contains(&reference) {
                let options = ListOptions {
                    limit: 1,
                    ..ListOptions::default()
                };
                let list = self
                    .client
                    .list(resource, namespace, &options)
                    .await
                    .map_err(|error| failed(&error))?;
                if !list.items.is_empty() {
                    return Err(Failure {
                        kind: FailureKind::Conflict,
                        creating: None,
                        message: format!("namespace {namespace} still holds {reference}"),
                    });
                }
            }
        }
        Ok(())
    }

    async fn node_is_there(&self, controller: Controller, name: &str) -> Option<Failure> {
        let Ok(nodes) = known(action::NODES) else {
            return None;
        };
        let _slot = self.each[controller as usize].acquire().await.ok()?;
        match self.client.get(nodes, "", name).await {
            Ok(_) => Some(Failure {
                kind: FailureKind::Conflict,
                creating: None,
                message: format!("node {name} exists"),
            }),
            Err(error) if error.is_not_found() => None,
            Err(error) => Some(failed(&error)),
        }
    }
}

type ChainResult = (Vec<Done>, Option<i64>, Option<Failure>);

impl Report {
    fn take(&mut self, (results, requeue, failure): ChainResult) {
        for done in results {
            self.created.extend(done.created);
            self.deleted.extend(done.deleted);
            self.own_version = self.own_version.max(done.own_version);
            self.owners.extend(done.owner);
        }
        self.requeue_micros = shortest(self.requeue_micros, requeue);
        // The worst news counts: a conflict among real failures is none.
        let worse = |new: &Failure| {
            self.failure
                .as_ref()
                .is_none_or(|old| rank(new.kind) > rank(old.kind))
        };
        if let Some(failure) = failure.filter(worse) {
            self.failure = Some(failure);
        }
    }
}

fn rank(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Conflict => 0,
        FailureKind::Other => 1,
        FailureKind::NamespaceTerminating => 2,
    }
}

fn shortest(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

/// An empty list is no list: a merge patch removes it by null.
fn or_null(list: Vec<Value>) -> Value {
    if list.is_empty() {
        Value::Null
    } else {
        list.into()
    }
}

fn known(reference: ResourceRef) -> Result<&'static Resource, Failure> {
    resource_of(reference).ok_or_else(|| other(format!("{reference} is not served")))
}

fn written(
    controller: Controller,
    key: &str,
    (resource, namespace, name): (ResourceRef, &str, &str),
    reply: Result<Value, ClientError>,
) -> Result<Done, Failure> {
    match reply {
        Ok(object) => {
            let is_key = match key.split_once('/') {
                Some(parts) => parts == (namespace, name),
                None => namespace.is_empty() && name == key,
            };
            let own = controller.resource() == Some(resource) && is_key;
            Ok(Done {
                own_version: if own { version_of(&object) } else { 0 },
                ..Done::default()
            })
        }
        Err(error) if error.is_not_found() => Ok(Done::default()),
        Err(error) => Err(failed(&error)),
    }
}

fn failed(error: &ClientError) -> Failure {
    let kind = if error.is_conflict() || error.is_already_exists() {
        FailureKind::Conflict
    } else if is_terminating(error) {
        FailureKind::NamespaceTerminating
    } else {
        FailureKind::Other
    };
    Failure {
        kind,
        creating: None,
        message: error.to_string(),
    }
}

fn is_terminating(error: &ClientError) -> bool {
    let ClientError::Api(error) = error else {
        return false;
    };
    let causes = error.details.iter().flat_map(|details| &details.causes);
    causes
        .into_iter()
        .any(|cause| cause.reason == "NamespaceTerminating")
}

fn other(message: String) -> Failure {
    Failure {
        kind: FailureKind::Other,
        creating: None,
        message,
    }
}

/// The object that an action is about, if neighbours on it must stay in order.
fn target(action: &Action) -> Option<(ResourceRef, &str, &str)> {
    match action {
        Action::Patch {
            resource,
            namespace,
            name,
            ..
        }
        | Action::Delete {
            resource,
            namespace,
            name,
            ..
        }
        | Action::RemoveFinalizer {
            resource,
            namespace,
            name,
            ..
        }
        | Action::RemoveOwners {
            resource,
            namespace,
            name,
            ..
        }
        | Action::UnblockOwners {
            resource,
            namespace,
            name,
            ..
        } => Some((*resource, namespace, name)),
        _ => None,
    }
}

/// Whether neighbours of this kind on other objects may run at the same time.
fn is_concurrent(action: &Action) -> bool {
    target(action).is_some()
        || matches!(
            action,
            Action::Create { .. } | Action::DeleteCollection { .. } | Action::CheckOwner { .. }
        )
}

/// Cuts a plan into stretches of chains.
fn stretches(actions: Vec<Action>) -> Vec<Vec<Vec<Action>>> {
    let mut chains: Vec<Vec<Action>> = Vec::new();
    for action in actions {
        let last = chains.last_mut();
        match last.filter(|chain| {
            target(&action).is_some() && target(&action) == chain.last().and_then(target)
        }) {
            Some(chain) => chain.push(action),
            None => chains.push(vec![action]),
        }
    }
    // What is created may need what another resource was created for before: a pod its claims.
    let created = |action: &Action| match action {
        Action::Create { resource, .. } => Some(*resource),
        _ => None,
    };
    let alike = |one: &[Action], two: &[Action]| {
        one.len() == two.len()
            && one.iter().zip(two).all(|(a, b)| {
                is_concurrent(a)
                    && std::mem::discriminant(a) == std::mem::discriminant(b)
                    && created(a) == created(b)
            })
    };
    let mut stretches: Vec<Vec<Vec<Action>>> = Vec::new();
    for chain in chains {
        match stretches
            .last_mut()
            .filter(|stretch| stretch.last().is_some_and(|last| alike(last, &chain)))
        {
            Some(stretch) => stretch.push(chain),
            None => stretches.push(vec![chain]),
        }
    }
    stretches
}

#[cfg(test)]
#[path = "execute_tests.rs"]
mod tests;

//! What a planner may ask for: one vocabulary for every controller.
//!
//! Knows no client: a shell carries actions out, in order, and stops at the first failure. It may
//! run a stretch of neighbouring `Create` (or `Delete`) actions at the same time. Every action is
//! safe to repeat: a plan made again from fresh observations corrects whatever was lost.

use meta::Value;
use meta::object;
pub use meta::{EventType, Involved};
use std::fmt;
use std::sync::Arc;

/// A resource by its API coordinates. Names of custom resources are interned by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceRef {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// API version, for example `v1`.
    pub version: &'static str,
    /// Plural name, for example `pods`.
    pub resource: &'static str,
}

impl ResourceRef {
    /// A resource of `group` and `version`.
    pub const fn new(group: &'static str, version: &'static str, resource: &'static str) -> Self {
        Self {
            group,
            version,
            resource,
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl fmt::Display for ResourceRef {
    /// `pods` or `deployments.apps`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource)?;
        if self.group.is_empty() {
            Ok(())
        } else {
            write!(f, ".{}", self.group)
        }
    }
}

/// `v1 pods`.
pub const PODS: ResourceRef = ResourceRef::new("", "v1", "pods");
/// `v1 nodes`.
pub const NODES: ResourceRef = ResourceRef::new("", "v1", "nodes");
/// `v1 namespaces`.
pub const NAMESPACES: ResourceRef = ResourceRef::new("", "v1", "namespaces");
/// `v1 services`.
pub const SERVICES: ResourceRef = ResourceRef::new("", "v1", "services");
/// `v1 serviceaccounts`.
pub const SERVICE_ACCOUNTS: ResourceRef = ResourceRef::new("", "v1", "serviceaccounts");
/// `v1 configmaps`.
pub const CONFIG_MAPS: ResourceRef = ResourceRef::new("", "v1", "configmaps");
/// `v1 persistentvolumeclaims`.
pub const PERSISTENT_VOLUME_CLAIMS: ResourceRef =
    ResourceRef::new("", "v1", "persistentvolumeclaims");
/// `v1 replicationcontrollers`.
pub const REPLICATION_CONTROLLERS: ResourceRef =
    ResourceRef::new("", "v1", "replicationcontrollers");
/// `apps/v1 replicasets`.
pub const REPLICA_SETS: ResourceRef = ResourceRef::new("apps", "v1", "replicasets");
/// `apps/v1 deployments`.
pub const DEPLOYMENTS: ResourceRef = ResourceRef::new("apps", "v1", "deployments");
/// `apps/v1 daemonsets`.
pub const DAEMON_SETS: ResourceRef = ResourceRef::new("apps", "v1", "daemonsets");
/// `apps/v1 statefulsets`.
pub const STATEFUL_SETS: ResourceRef = ResourceRef::new("apps", "v1", "statefulsets");
/// `apps/v1 controllerrevisions`.
pub const CONTROLLER_REVISIONS: ResourceRef = ResourceRef::new("apps", "v1", "controllerrevisions");
/// `batch/v1 jobs`.
pub const JOBS: ResourceRef = ResourceRef::new("batch", "v1", "jobs");
/// `batch/v1 cronjobs`.
pub const CRON_JOBS: ResourceRef = ResourceRef::new("batch", "v1", "cronjobs");
/// `discovery.k8s.io/v1 endpointslices`.
pub const ENDPOINT_SLICES: ResourceRef =
    ResourceRef::new("discovery.k8s.io", "v1", "endpointslices");

/// `resource.k8s.io/v1 resourceclaims`.
pub const RESOURCE_CLAIMS: ResourceRef =
    ResourceRef::new("resource.k8s.io", "v1", "resourceclaims");
/// `resource.k8s.io/v1 resourceclaimtemplates`.
pub const RESOURCE_CLAIM_TEMPLATES: ResourceRef =
    ResourceRef::new("resource.k8s.io", "v1", "resourceclaimtemplates");

/// `resource.k8s.io/v1 resourceslices`.
pub const RESOURCE_SLICES: ResourceRef =
    ResourceRef::new("resource.k8s.io", "v1", "resourceslices");

/// `resource.k8s.io/v1beta2 devicetaintrules`.
pub const DEVICE_TAINT_RULES: ResourceRef =
    ResourceRef::new("resource.k8s.io", "v1beta2", "devicetaintrules");

/// How dependents of a deleted object are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents are deleted afterwards.
    Background,
    /// Dependents are deleted first.
    Foreground,
    /// Dependents are left alone.
    Orphan,
}

impl Propagation {
    /// The wire form.
    pub fn as_str(self) -> &'static str {
        match self {
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
            Propagation::Orphan => "Orphan",
        }
    }
}

/// The media type family of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 7386.
    Merge,
    /// Kubernetes' strategic merge patch; built-in kinds only.
    Strategic,
}

impl PatchType {
    /// The content type to send.
    pub fn media_type(self) -> &'static str {
        match self {
            PatchType::Merge => "application/merge-patch+json",
            PatchType::Strategic => "application/strategic-merge-patch+json",
        }
    }
}

/// The event a shell records when a creation or deletion of a plan has been carried out:
/// the created name, or the error, is only known then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The owner on which the event is recorded.
    pub involved: Arc<Involved>,
}

impl Announce {
    /// Reason and message after a successful creation.
    pub fn created(&self, name: &str) -> (&'static str, String) {
        ("SuccessfulCreate", self.text("create", "Created", name))
    }

    /// Reason and message after a failed creation; a warning.
    pub fn create_failed(&self, error: &str) -> (&'static str, String) {
        let what = if self.involved.kind == "CronJob" {
            " job"
        } else {
            ""
        };
        ("FailedCreate", format!("Error creating{what}: {error}"))
    }

    /// Reason and message after a successful deletion.
    pub fn deleted(&self, name: &str) -> (&'static str, String) {
        ("SuccessfulDelete", self.text("delete", "Deleted", name))
    }

    /// Reason and message after a failed deletion; a warning.
    pub fn delete_failed(&self, error: &str) -> (&'static str, String) {
        ("FailedDelete", format!("Error deleting: {error}"))
    }

    /// StatefulSets and CronJobs have words of their own for what all others say alike.
    fn text(&self, verb: &str, done: &str, name: &str) -> String {
        match self.involved.kind.as_str() {
            "StatefulSet" => {
                let set = &self.involved.name;
                format!("{verb} Pod {name} in StatefulSet {set} successful")
            }
            "CronJob" => format!("{done} job {name}"),
            _ => format!("{done} pod: {name}"),
        }
    }
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// POST an object. Many creations may share one body (`generateName`).
    Create {
        /// Where to.
        resource: ResourceRef,
        /// Empty for cluster-scoped resources.
        namespace: String,
        /// The body.
        object: Arc<Value>,
        /// Event to record about the owner, if any.
        announce: Option<Announce>,
    },
    /// PUT an object with its resourceVersion. A conflict means: plan again.
    Update {
        /// Where to.
        resource: ResourceRef,
        /// Empty for cluster-scoped resources.
        namespace: String,
        /// The object's name.
        name: String,
        /// `finalize` and the like; None for the object itself.
        subresource: Option<&'static str>,
        /// The body.
        object: Value,
    },
    /// PUT the status subresource, with resourceVersion.
    UpdateStatus {
        /// Where to.
        resource: ResourceRef,
        /// Empty for cluster-scoped resources.
        namespace: String,
        /// The object's name.
        name: String,
        /// The whole object.
        object: Value,
    },
    /// PATCH an object. A body with `metadata.uid` or `metadata.resourceVersion` is a precondition.
    Patch {
        /// Where to.
        resource: ResourceRef,
        /// Empty for cluster-scoped resources.
        namespace: String,
        /// The object's name.
        name: String,
        /// Which kind of patch the body is.
        patch_type: PatchType,
        /// `status`, or None.
        subresource: Option<&'static str>,
        /// The patch.
        body: Value,
    },
    /// DELETE an object.
    Delete {
        /// Where to.
        resource: ResourceRef,
        /// Empty for cluster-scoped resources.
        namespace: String,
        /// The object's name.
        name: String,
        /// Precondition: the object must still be this one.
        uid: String,
        /// None: the resource's default.
        propagation: Option<Propagation>,
        /// None: the resource's default.
        grace_seconds: Option<i64>,
        /// Event to record about the owner, if any.
        announce: Option<Announce>,
    },
    /// DELETE every object of a resource in a namespace.
    DeleteCollection {
        /// Where to.
        resource: ResourceRef,
        /// The namespace to empty.
        namespace: String,
    },
    /// Read the object, and if it still has this uid, write it back without the finalizer.
    RemoveFinalizer {
        /// Where to.
        resource: ResourceRef,
        /// Empty for cluster-scoped resources.
        namespace: String,
        /// The object's name.
        name: String,
        /// The object must still be this one.
        uid: String,
        /// The finalizer to remove.
        finalizer: &'static str,
    },
    /// Read the object, and if it still has this uid, write it back without these owner references.
    RemoveOwners {
        /// Where to.
        resource: ResourceRef,
        /// Empty for cluster-scoped resources.
        namespace: String,
        /// The object's name.
        name: String,
        /// The object must still be this one.
        uid: String,
        /// The uids of owners to drop.
        owners: Vec<String>,
    },
    /// Read the object, and if it still has this uid, set `blockOwnerDeletion: false` on every owner
    /// reference: two objects that wait for each other's deletion would wait forever.
    UnblockOwners {
        /// Where to.
        resource: ResourceRef,
        /// Empty for cluster-scoped resources.
        namespace: String,
        /// The object's name.
        name: String,
        /// The object must still be this one.
        uid: String,
    },
    /// Go on only if no such object is there by the live API: a mirror may lag.
    Absent {
        /// Where to look.
        resource: ResourceRef,
        /// Empty for cluster-scoped resources.
        namespace: String,
        /// The object's name.
        name: String,
        /// Another object of that name does not count.
        uid: String,
    },
    /// What follows waits for what stands before, whatever the executor would join.
    Then,
    /// Ask the live API whether an owner exists; answer to `garbage::Graph::owner_checked`.
    CheckOwner {
        /// The owner's apiVersion as written in the reference.
        api_version: String,
        /// The owner's kind as written in the reference.
        kind: String,
        /// The dependent's namespace; ignored if the kind is cluster-scoped.
        namespace: String,
        /// The owner's name.
        name: String,
        /// The owner's uid.
        uid: String,
    },
    /// Record an event.
    Event {
        /// What it is about.
        involved: Arc<Involved>,
        /// Normal or Warning.
        event_type: EventType,
        /// CamelCase reason.
        reason: &'static str,
        /// A sentence for people.
        message: String,
    },
    /// Plan this object again after so many microseconds, even if nothing changes.
    RequeueAfter(i64),
}

impl Action {
    /// A Normal event.
    pub fn normal(
        involved: &Arc<Involved>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Action::Event {
            involved: Arc::clone(involved),
            event_type: EventType::Normal,
            reason,
            message: message.into(),
        }
    }

    /// A Warning event.
    pub fn warning(
        involved: &Arc<Involved>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Action::Event {
            involved: Arc::clone(involved),
            event_type: EventType::Warning,
            reason,
            message: message.into(),
        }
    }

    /// PUT of a whole object, its coordinates read from its metadata.
    pub fn update(resource: ResourceRef, object: Value) -> Self {
        let (namespace, name) = coordinates(&object);
        Action::Update {
            resource,
            namespace,
            name,
            subresource: None,
            object,
        }
    }

    /// PUT of a whole object's status.
    pub fn update_status(resource: ResourceRef, object: Value) -> Self {
        let (namespace, name) = coordinates(&object);
        Action::UpdateStatus {
            resource,
            namespace,
            name,
            object,
        }
    }

    /// DELETE of a whole object with a uid precondition.
    pub fn delete(resource: ResourceRef, object: &Value, propagation: Option<Propagation>) -> Self {
        let (namespace, name) = coordinates(object);
        let uid = object::uid(object).to_owned();
        Action::Delete {
            resource,
            namespace,
            name,
            uid,
            propagation,
            grace_seconds: None,
            announce: None,
        }
    }
}

fn coordinates(object: &Value) -> (String, String) {
    (
        object::namespace(object).to_owned(),
        object::name(object).to_owned(),
    )
}

/// `default/web`, or `web` if cluster-scoped.
struct Path<'a>(&'a str, &'a str);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str(self.1)
        } else {
            write!(f, "{}/{}", self.0, self.1)
        }
    }
}

impl fmt::Display for Action {
    /// One line an action, as tests and logs show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Create {
                resource,
                namespace,
                object,
                ..
            } => {
                let name = match object::name(object) {
                    "" => format!(
                        "{}*",
                        object::str_at(object, &["metadata", "generateName"]).unwrap_or_default()
                    ),
                    name => name.to_owned(),
                };
                write!(f, "create {resource} {} {object}", Path(namespace, &name))
            }
            Action::Update {
                resource,
                namespace,
                name,
                subresource,
                object,
            } => {
                write!(
                    f,
                    "update {resource}{} {} {object}",
                    Sub(*subresource),
                    Path(namespace, name)
                )
            }
            Action::UpdateStatus {
                resource,
                namespace,
                name,
                object,
            } => {
                let status = object.get("status").unwrap_or(&Value::Null);
                write!(
                    f,
                    "update {resource}/status {} {status}",
                    Path(namespace, name)
                )
            }
            Action::Patch {
                resource,
                namespace,
                name,
                patch_type,
                subresource,
                body,
            } => {
                let kind = match patch_type {
                    PatchType::Merge => "merge",
                    PatchType::Strategic => "strategic",
                };
                write!(
                    f,
                    "patch {resource}{} {} {kind} {body}",
                    Sub(*subresource),
                    Path(namespace, name)
                )
            }
            Action::Delete {
                resource,
                namespace,
                name,
                uid,
                propagation,
                grace_seconds,
                ..
            } => {
                write!(f, "delete {resource} {} uid={uid}", Path(namespace, name))?;
                if let Some(propagation) = propagation {
                    write!(f, " {}", propagation.as_str())?;
                }
                if let Some(seconds) = grace_seconds {
                    write!(f, " grace={seconds}s")?;
                }
                Ok(())
            }
            Action::DeleteCollection {
                resource,
                namespace,
            } => {
                write!(f, "delete all {resource} of {namespace}")
            }
            Action::RemoveFinalizer {
                resource,
                namespace,
                name,
                finalizer,
                ..
            } => {
                write!(
                    f,
                    "remove finalizer {finalizer} of {resource} {}",
                    Path(namespace, name)
                )
            }
            Action::RemoveOwners {
                resource,
                namespace,
                name,
                owners,
                ..
            } => {
                write!(
                    f,
                    "remove owners {} of {resource} {}",
                    owners.join(","),
                    Path(namespace, name)
                )
            }
            Action::UnblockOwners {
                resource,
                namespace,
                name,
                ..
            } => {
                write!(f, "unblock owners of {resource} {}", Path(namespace, name))
            }
            Action::Absent {
                resource,
                namespace,
                name,
                uid,
            } => {
                write!(
                    f,
                    "unless there is {resource} {} uid={uid}",
                    Path(namespace, name)
                )
            }
            Action::Then => f.write_str("then"),
            Action::CheckOwner {
                api_version,
                kind,
                namespace,
                name,
                uid,
            } => {
                write!(
                    f,
                    "check owner {api_version} {kind} {} uid={uid}",
                    Path(namespace, name)
                )
            }
            Action::Event {
                involved,
                event_type,
                reason,
                message,
            } => {
                let Involved {
                    kind,
                    namespace,
                    name,
                    ..
                } = &**involved;
                write!(
                    f,
                    "event {kind} {} {} {reason}: {message}",
                    Path(namespace, name),
                    event_type.as_str()
                )
            }
            Action::RequeueAfter(micros) => write!(
                f,
                "requeue after {}.{:06}s",
                micros / 1_000_000,
                micros % 1_000_000
            ),
        }
    }
}

/// `/status`, or nothing.
struct Sub(Option<&'static str>);

impl fmt::Display for Sub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, "/{name}"))
    }
}

/// A whole plan as text, one action a line.
pub fn text(plan: &[Action]) -> String {
    plan.iter().map(|action| format!("{action}\n")).collect()
}

//! The controllers by name: what each one's keys are, and how it signs its events.

use reconcile::volume::PERSISTENT_VOLUMES;
use reconcile::{ResourceRef, action};

/// A controller, or a part of one that has keys of its own.
// One of the kinds happens to end in the enum's name.
#[allow(clippy::enum_variant_names)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Controller {
    /// Keys: Deployments.
    Deployment,
    /// Keys: ReplicaSets.
    ReplicaSet,
    /// Keys: ReplicationControllers.
    ReplicationController,
    /// Keys: DaemonSets.
    DaemonSet,
    /// Keys: StatefulSets.
    StatefulSet,
    /// Keys: Jobs.
    Job,
    /// Keys: CronJobs.
    CronJob,
    /// Keys: Services.
    EndpointSlice,
    /// Keys: Namespaces.
    Namespace,
    /// Keys: Namespaces.
    ServiceAccount,
    /// Keys: uids.
    Garbage,
    /// Keys: Nodes.
    NodeLifecycle,
    /// Keys: pods, by `namespace/name`.
    Eviction,
    /// Keys: names of nodes that do not exist.
    VanishedNode,
    /// One key: the pods of the cluster that have ended.
    EndedPods,
    /// Keys: pods, by `namespace/name`, whose kubelet or Job does not exist.
    StrayPod,
    /// Keys: pods, by `namespace/name`, with resource claims.
    PodClaims,
    /// Keys: resource claims.
    ResourceClaim,
    /// Keys: PersistentVolumes.
    Volume,
    /// Keys: PersistentVolumeClaims.
    VolumeClaim,
    /// Keys: PersistentVolumes whose finalizer is to come or to go.
    VolumeProtection,
    /// Keys: PersistentVolumeClaims, likewise.
    ClaimProtection,
    /// Keys: pods, by `namespace/name`, with ephemeral volumes.
    PodVolumes,
    /// Keys: PersistentVolumeClaims, by `namespace/name`, and PersistentVolumes of the simulated provisioner.
    Provisioner,
    /// Keys: pods, by `namespace/name`, with devices.
    DeviceTaint,
    /// Keys: device taint rules.
    DeviceTaintRule,
}

impl Controller {
    /// All of them; the place of each is its number.
    pub(crate) const ALL: [Controller; 26] = [
        Controller::Deployment,
        Controller::ReplicaSet,
        Controller::ReplicationController,
        Controller::DaemonSet,
        Controller::StatefulSet,
        Controller::Job,
        Controller::CronJob,
        Controller::EndpointSlice,
        Controller::Namespace,
        Controller::ServiceAccount,
        Controller::Garbage,
        Controller::NodeLifecycle,
        Controller::Eviction,
        Controller::VanishedNode,
        Controller::EndedPods,
        Controller::StrayPod,
        Controller::PodClaims,
        Controller::ResourceClaim,
        Controller::Volume,
        Controller::VolumeClaim,
        Controller::VolumeProtection,
        Controller::ClaimProtection,
        Controller::PodVolumes,
        Controller::Provisioner,
        Controller::DeviceTaint,
        Controller::DeviceTaintRule,
    ];

    /// The resource whose objects are its keys, if it writes to them.
    pub(crate) fn resource(self) -> Option<ResourceRef> {
        Some(match self {
            Controller::Deployment => action::DEPLOYMENTS,
            Controller::ReplicaSet => action::REPLICA_SETS,
            Controller::ReplicationController => action::REPLICATION_CONTROLLERS,
            Controller::DaemonSet => action::DAEMON_SETS,
            Controller::StatefulSet => action::STATEFUL_SETS,
            Controller::Job => action::JOBS,
            Controller::CronJob => action::CRON_JOBS,
            Controller::Namespace => action::NAMESPACES,
            Controller::ResourceClaim => action::RESOURCE_CLAIMS,
            Controller::Volume => PERSISTENT_VOLUMES,
            Controller::VolumeClaim => action::PERSISTENT_VOLUME_CLAIMS,
            _ => return None,
        })
    }

    /// The resource whose creations and deletions are waited for until they are seen, because a plan made earlier
    /// would make too many.
    pub(crate) fn expects(self) -> Option<ResourceRef> {
        Some(match self {
            Controller::ReplicaSet
            | Controller::ReplicationController
            | Controller::DaemonSet
            | Controller::StatefulSet
            | Controller::Job => action::PODS,
            Controller::EndpointSlice => action::ENDPOINT_SLICES,
            Controller::PodClaims => action::RESOURCE_CLAIMS,
            _ => return None,
        })
    }

    /// The name under which events are recorded, as upstream's controllers sign.
    pub(crate) fn component(self) -> &'static str {
        match self {
            Controller::Deployment => "deployment-controller",
            Controller::ReplicaSet => "replicaset-controller",
            Controller::ReplicationController => "replication-controller",
            Controller::DaemonSet => "daemonset-controller",
            Controller::StatefulSet => "statefulset-controller",
            Controller::Job => "job-controller",
            Controller::CronJob => "cronjob-controller",
            Controller::EndpointSlice => "endpoint-slice-controller",
            Controller::Namespace => "namespace-controller",
            Controller::ServiceAccount => "serviceaccount-controller",
            Controller::Garbage => "garbage-collector-controller",
            Controller::NodeLifecycle => "node-controller",
            Controller::Eviction => "taint-eviction-controller",
            Controller::VanishedNode | Controller::EndedPods | Controller::StrayPod => {
                "pod-garbage-collector"
            }
            Controller::PodClaims | Controller::ResourceClaim => "resource_claim",
            Controller::Volume | Controller::VolumeClaim => "persistentvolume-controller",
            Controller::VolumeProtection => "pv-protection-controller",
            Controller::ClaimProtection => "pvc-protection-controller",
            Controller::PodVolumes => "ephemeral_volume",
            Controller::Provisioner => reconcile::volume::SIMULATED_PROVISIONER,
            Controller::DeviceTaint | Controller::DeviceTaintRule => "device-taint-eviction",
        }
    }
}

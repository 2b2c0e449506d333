//! The rooms of the kinds: what is particular to one kind, one small file each, and the table that finds the room.
//!
//! It does not know what all kinds share: that is in `metadata`, `strategy`, `create`, `update` and `delete`.

use crate::context::Context;
use crate::findings::Findings;
use meta::Value;
use schema::Resource;

mod admission_policies;
mod autoscaler;
mod config_map;
mod cron_job;
mod csr;
mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod device;
mod device_taint_rule;
mod disruption_budget;
mod endpoints;
mod event;
mod flow_control;
mod ingress;
mod job;
mod lease;
mod limit_range;
mod namespace;
mod network_policy;
mod node;
mod pod;
mod pod_group;
mod pod_template;
mod priority_class;
mod rbac;
mod replica_set;
mod replication_controller;
mod secret;
mod service;
mod service_account;
mod stateful_set;
mod storage;
pub(crate) mod workload;

/// What one kind adds to the common verbs. The subresource, where given, is the one written through.
pub(crate) struct Room {
    /// Fills defaults; must be idempotent.
    pub(crate) defaults: fn(&mut Value),
    /// Sets what the server owns in a new object.
    pub(crate) prepare_create: fn(&mut Value, &mut Context),
    /// Restores what this update may not touch: `(new, old, subresource)`.
    pub(crate) prepare_update: fn(&mut Value, &Value, Option<&str>, &mut Context),
    /// What is wrong with the object itself.
    pub(crate) check: fn(&Value, &mut Findings),
    /// What is wrong with the step from old to new: `(new, old, subresource)`.
    pub(crate) check_update: fn(&Value, &Value, Option<&str>, &mut Findings),
}

/// A kind about which there is nothing to add.
const PLAIN: Room = Room {
    defaults: |_| {},
    prepare_create: |_, _| {},
    prepare_update: |_, _, _, _| {},
    check: |_, _| {},
    check_update: |_, _, _, _| {},
};

/// The room of a resource.
pub(crate) fn room(res: &Resource) -> &'static Room {
    match (res.group, res.resource) {
        ("", "namespaces") => &namespace::ROOM,
        ("", "nodes") => &node::ROOM,
        ("", "pods") => &pod::ROOM,
        ("", "services") => &service::ROOM,
        ("", "configmaps") => &config_map::ROOM,
        ("", "secrets") => &secret::ROOM,
        ("", "serviceaccounts") => &service_account::ROOM,
        ("" | "events.k8s.io", "events") => &event::ROOM,
        ("", "endpoints") => &endpoints::ENDPOINTS,
        ("discovery.k8s.io", "endpointslices") => &endpoints::SLICES,
        ("", "limitranges") => &limit_range::ROOM,
        ("", "persistentvolumes") => &storage::VOLUMES,
        ("", "persistentvolumeclaims") => &storage::CLAIMS,
        ("storage.k8s.io", "storageclasses") => &storage::CLASSES,
        ("storage.k8s.io", "csidrivers") => &storage::DRIVERS,
        ("resource.k8s.io", "resourceclaims") => &device::CLAIMS,
        ("resource.k8s.io", "resourceclaimtemplates") => &device::TEMPLATES,
        ("resource.k8s.io", "deviceclasses") => &device::CLASSES,
        ("resource.k8s.io", "resourceslices") => &device::SLICES,
        ("resource.k8s.io", "devicetaintrules") => &device_taint_rule::ROOM,
        ("", "podtemplates") => &pod_template::ROOM,
        ("", "replicationcontrollers") => &replication_controller::ROOM,
        ("apps", "deployments") => &deployment::ROOM,
        ("apps", "replicasets") => &replica_set::ROOM,
        ("apps", "statefulsets") => &stateful_set::ROOM,
        ("apps", "daemonsets") => &daemon_set::ROOM,
        ("batch", "jobs") => &job::ROOM,
        ("batch", "cronjobs") => &cron_job::ROOM,
        ("coordination.k8s.io", "leases") => &lease::ROOM,
        ("autoscaling", "horizontalpodautoscalers") => &autoscaler::ROOM,
        ("policy", "poddisruptionbudgets") => &disruption_budget::ROOM,
        ("scheduling.k8s.io", "priorityclasses") => &priority_class::ROOM,
        ("scheduling.k8s.io", "podgroups") => &pod_group::ROOM,
        ("networking.k8s.io", "ingresses") => &ingress::ROOM,
        ("networking.k8s.io", "ingressclasses") => &ingress::CLASSES,
        ("networking.k8s.io", "networkpolicies") => &network_policy::ROOM,
        ("rbac.authorization.k8s.io", "roles") => &rbac::ROLES,
        ("rbac.authorization.k8s.io", "clusterroles") => &rbac::CLUSTER_ROLES,
        ("rbac.authorization.k8s.io", "rolebindings") => &rbac::BINDINGS,
        ("rbac.authorization.k8s.io", "clusterrolebindings") => &rbac::CLUSTER_BINDINGS,
        ("certificates.k8s.io", "certificatesigningrequests") => &csr::ROOM,
        ("apiextensions.k8s.io", "customresourcedefinitions") => &custom_resource_definition::ROOM,
        ("apiregistration.k8s.io", "apiservices") => &custom_resource_definition::SERVICES,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &flow_control::SCHEMAS,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => &flow_control::LEVELS,
        (
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations" | "mutatingwebhookconfigurations",
        ) => &admission_policies::WEBHOOKS,
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicies" | "mutatingadmissionpolicies",
        ) => &admission_policies::POLICIES,
        _ => &PLAIN,
    }
}

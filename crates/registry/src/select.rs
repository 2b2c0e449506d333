//! The fields a list or watch may be selected by, per resource.

use crate::tree;
use meta::Value;
use schema::Resource;

/// A field label a client may select by, and where its value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectableField {
    /// As it stands in `fieldSelector=`.
    pub name: &'static str,
    /// Its path in the object.
    pub path: &'static str,
    /// What an unset field reads as.
    pub unset: &'static str,
}

const fn field(name: &'static str) -> SelectableField {
    SelectableField {
        name,
        path: name,
        unset: "",
    }
}

const fn with_unset(name: &'static str, unset: &'static str) -> SelectableField {
    SelectableField {
        name,
        path: name,
        unset,
    }
}

const fn at(name: &'static str, path: &'static str) -> SelectableField {
    SelectableField {
        name,
        path,
        unset: "",
    }
}

const NAME: SelectableField = field("metadata.name");
const NAMESPACE: SelectableField = field("metadata.namespace");

const CLUSTER: &[SelectableField] = &[NAME];
const NAMESPACED: &[SelectableField] = &[NAME, NAMESPACE];
const PODS: &[SelectableField] = &[
    NAME,
    NAMESPACE,
    field("spec.nodeName"),
    field("spec.restartPolicy"),
    field("spec.schedulerName"),
    field("spec.serviceAccountName"),
    with_unset("spec.hostNetwork", "false"),
    field("status.phase"),
    field("status.podIP"),
    at("status.podIPs", "status.podIP"),
    field("status.nominatedNodeName"),
];
const NODES: &[SelectableField] = &[NAME, with_unset("spec.unschedulable", "false")];
const NAMESPACES: &[SelectableField] = &[NAME, at("name", "metadata.name"), field("status.phase")];
const EVENTS: &[SelectableField] = &[
    NAME,
    NAMESPACE,
    field("involvedObject.kind"),
    field("involvedObject.namespace"),
    field("involvedObject.name"),
    field("involvedObject.uid"),
    field("involvedObject.apiVersion"),
    field("involvedObject.resourceVersion"),
    field("involvedObject.fieldPath"),
    field("reason"),
    at("reportingComponent", "reportingComponent"),
    at("source", "source.component"),
    field("type"),
];
const NEW_EVENTS: &[SelectableField] = &[
    NAME,
    NAMESPACE,
    field("regarding.kind"),
    field("regarding.namespace"),
    field("regarding.name"),
    field("regarding.uid"),
    field("regarding.apiVersion"),
    field("regarding.resourceVersion"),
    field("regarding.fieldPath"),
    field("reason"),
    field("reportingController"),
    field("type"),
];
const SECRETS: &[SelectableField] = &[NAME, NAMESPACE, field("type")];
const SERVICES: &[SelectableField] =
    &[NAME, NAMESPACE, field("spec.clusterIP"), field("spec.type")];
const REPLICATED: &[SelectableField] = &[NAME, NAMESPACE, with_unset("status.replicas", "0")];
const JOBS: &[SelectableField] = &[NAME, NAMESPACE, at("status.successful", "status.succeeded")];
const SIGNED: &[SelectableField] = &[NAME, field("spec.signerName")];
const CERTIFICATE_REQUESTS: &[SelectableField] = &[
    NAME,
    NAMESPACE,
    field("spec.signerName"),
    field("spec.podName"),
    field("spec.nodeName"),
];
const RESOURCE_SLICES: &[SelectableField] = &[NAME, field("spec.nodeName"), field("spec.driver")];

/// The fields a resource may be selected by; any other is a 400 "field label not supported".
pub fn selectable_fields(res: &Resource) -> &'static [SelectableField] {
    match (res.group, res.resource) {
        ("", "pods") => PODS,
        ("", "nodes") => NODES,
        ("", "namespaces") => NAMESPACES,
        ("", "events") => EVENTS,
        ("events.k8s.io", "events") => NEW_EVENTS,
        ("", "secrets") => SECRETS,
        ("", "services") => SERVICES,
        ("", "replicationcontrollers") | ("apps", "replicasets") => REPLICATED,
        ("batch", "jobs") => JOBS,
        ("certificates.k8s.io", "certificatesigningrequests" | "clustertrustbundles") => SIGNED,
        ("certificates.k8s.io", "podcertificaterequests") => CERTIFICATE_REQUESTS,
        ("resource.k8s.io", "resourceslices") => RESOURCE_SLICES,
        _ if res.namespaced => NAMESPACED,
        _ => CLUSTER,
    }
}

/// The value a field selector compares; None for a field the resource cannot be selected by.
pub fn field_value(res: &Resource, obj: &Value, name: &str) -> Option<String> {
    let field = selectable_fields(res)
        .iter()
        .find(|field| field.name == name)?;
    let value = match tree::get(obj, field.path) {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        _ => field.unset.to_owned(),
    };
    if value.is_empty() && field.name == "source" {
        return Some(tree::text(obj, "reportingComponent").to_owned());
    }
    if value.is_empty() && field.name == "status.successful" {
        return Some("0".to_owned());
    }
    Some(value)
}

//! What every cluster has from the start: namespaces, priority classes, the `kubernetes` service.
//!
//! Runs before the first request of others is answered, and changes nothing that is there already.

use std::net::SocketAddr;
use std::sync::Arc;

use meta::{ApiError, Value};
use value::json;

use crate::allocate::Holding;
use crate::state::{Served, State};
use crate::write::{Address, Mode};

/// Objects read at a time while the tables of addresses are filled.
const PAGE_OBJECTS: usize = 512;

/// Bootstrap failed; the store refused or holds something unreadable.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up {what}: {}", error.message)]
pub struct BootstrapError {
    what: String,
    error: ApiError,
}

/// Sets the cluster up. `endpoint` is where the API server listens.
pub async fn run(state: &Arc<State>, endpoint: SocketAddr) -> Result<(), BootstrapError> {
    note_services(state).map_err(|error| BootstrapError {
        what: "service addresses".into(),
        error,
    })?;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(state, "", "namespaces", "", namespace).await?;
    }
    for (name, value, about) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ] {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                           "metadata": {"name": name}, "value": value, "description": about});
        ensure(state, "scheduling.k8s.io", "priorityclasses", "", class).await?;
    }
    kubernetes_service(state, endpoint).await
}

/// The service through which pods find the API server, with its one endpoint.
async fn kubernetes_service(
    state: &Arc<State>,
    endpoint: SocketAddr,
) -> Result<(), BootstrapError> {
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP", "clusterIP": state.allocator.range().api_server().to_string(),
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": endpoint.port()}],
        },
    });
    ensure(state, "", "services", "default", service).await?;
    // Endpoints refuse loopback addresses (k8s validation): a plane that only listens there has none to publish.
    if endpoint.ip().is_loopback() || endpoint.ip().is_unspecified() {
        return Ok(());
    }
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "kubernetes", "namespace": "default",
                     "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": [{"addresses": [endpoint.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": endpoint.port(), "protocol": "TCP"}],
    });
    ensure(
        state,
        "discovery.k8s.io",
        "endpointslices",
        "default",
        slice,
    )
    .await
}

async fn ensure(
    state: &Arc<State>,
    group: &str,
    resource: &str,
    namespace: &str,
    object: Value,
) -> Result<(), BootstrapError> {
    let what = format!("{resource} {}", meta::object::name(&object));
    let Some(served) = state.served(group, "v1", resource) else {
        return Err(BootstrapError {
            what,
            error: ApiError::generic_not_found(),
        });
    };
    if served
        .collection
        .get(&served.key(namespace, meta::object::name(&object)))
        .is_some()
    {
        return Ok(());
    }
    let at = Address {
        served,
        subresource: None,
        namespace,
        name: "",
    };
    let mode = Mode {
        user: "system:apiserver",
        dry_run: false,
    };
    match state.create(at, object, mode).await {
        Ok(_) => Ok(()),
        Err(error) if error.reason == meta::Reason::AlreadyExists => Ok(()),
        Err(error) => Err(BootstrapError { what, error }),
    }
}

/// Notes the addresses and ports of stored Services.
fn note_services(state: &State) -> Result<(), ApiError> {
    let Some(services) = state.core("services") else {
        return Ok(());
    };
    each_object(services, |service| {
        state.allocator.note(&Holding::of(&service))
    })
}

fn each_object(served: &Served, mut visit: impl FnMut(Value)) -> Result<(), ApiError> {
    let revision = served.collection.revision();
    let mut next = Some(bytes::Bytes::new());
    while let Some(from) = next {
        let mut rows = Vec::new();
        let more = served
            .collection
            .list(&from, None, revision, PAGE_OBJECTS, &mut rows)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        for (_, record) in rows {
            visit(served.decode(&record.value, record.mod_revision)?);
        }
        next = more.next;
    }
    Ok(())
}

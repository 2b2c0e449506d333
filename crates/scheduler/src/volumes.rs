//! Before a pod is bound: its volumes are given to its claims, or asked for, and waited for.
//!
//! ```text
//!   volume for a claim ─► claimRef into the PersistentVolume ─┐
//!   claim without one ──► selected-node into the claim ───────┴─► wait: controllers do the rest ─► bound
//! ```
//!
//! What was written stays when the wait fails: the next try finds the volume given to the claim already. Does not
//! know why it is this volume, or this node.

use std::time::{Duration, Instant};

use client::{Client, ClientError, PatchType};
use meta::Value;
use placement::{BIND_COMPLETED, SELECTED_NODE};
use value::json;

use crate::pending::Address;
use crate::work::{VolumesFirst, resource, with_tries};

/// Pause between two looks at a volume that is being bound or made (k8s: 1 s).
const PAUSE: Duration = Duration::from_millis(500);
/// Says that a volume was given to its claim by a controller, not by hand.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

fn failed(why: String) -> ClientError {
    ClientError::Transport(why)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Does everything that stands before the binding of a pod to a node.
pub(crate) async fn prepare(
    client: &Client,
    pod: &Address,
    VolumesFirst { bindings, wait }: &VolumesFirst,
    node: &str,
) -> Result<(), ClientError> {
    for (volume, claim) in &bindings.to_bind {
        give(client, volume, claim).await?;
    }
    for claim in &bindings.to_make {
        ask(client, claim, node).await?;
    }
    if bindings.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + *wait;
    loop {
        if is_done(client, bindings, node).await? {
            return Ok(());
        }
        let pods = resource("", "pods");
        let (namespace, name) = (&pod.namespace, &pod.name);
        if let Err(error) = client.get(pods, namespace, name).await
            && error.is_not_found()
        {
            return Err(error);
        }
        if Instant::now() >= deadline {
            return Err(failed("context deadline exceeded".into()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn claim_of(client: &Client, key: &str) -> Result<Value, ClientError> {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    let claims = resource("", "persistentvolumeclaims");
    with_tries(|| client.get(claims, namespace, name)).await
}

async fn volume_of(client: &Client, name: &str) -> Result<Value, ClientError> {
    let volumes = resource("", "persistentvolumes");
    with_tries(|| client.get(volumes, "", name)).await
}

/// Gives a volume to a claim. Who was faster has it.
async fn give(client: &Client, name: &str, key: &str) -> Result<(), ClientError> {
    let claim = claim_of(client, key).await?;
    let volume = volume_of(client, name).await?;
    let (metadata, reference) = (&claim["metadata"], &volume["spec"]["claimRef"]);
    let same = |field: &str| reference[field] == metadata[field];
    let by_name = reference.is_object() && same("namespace") && same("name");
    let uid = text(&reference["uid"]);
    if by_name && uid == text(&metadata["uid"]) {
        return Ok(());
    }
    if reference.is_object() && !(by_name && uid.is_empty()) {
        return Err(failed(format!(
            "volume \"{name}\" already bound to a different claim."
        )));
    }
    let mut patch = json!({
        // The version that was read guards it.
        "metadata": {"resourceVersion": volume["metadata"]["resourceVersion"]},
        "spec": {"claimRef": {
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        }},
    });
    if !by_name {
        patch["metadata"]["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
    }
    let volumes = resource("", "persistentvolumes");
    let merge = PatchType::Merge;
    client.patch(volumes, "", name, "", merge, &patch).await?;
    Ok(())
}

fn selected(claim: &Value) -> &str {
    text(&claim["metadata"]["annotations"][SELECTED_NODE])
}

/// Asks for a volume that a node can reach.
async fn ask(client: &Client, key: &str, node: &str) -> Result<(), ClientError> {
    let claim = claim_of(client, key).await?;
    if selected(&claim) == node {
        return Ok(());
    }
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    // The version that was read guards it: somebody else may choose at the same time.
    let version = &claim["metadata"]["resourceVersion"];
    let patch =
        json!({"metadata": {"resourceVersion": version, "annotations": {SELECTED_NODE: node}}});
    let claims = resource("", "persistentvolumeclaims");
    let merge = PatchType::Merge;
    client
        .patch(claims, namespace, name, "", merge, &patch)
        .await?;
    Ok(())
}

fn is_bound(claim: &Value) -> bool {
    let annotations = &claim["metadata"]["annotations"];
    !text(&claim["spec"]["volumeName"]).is_empty() && annotations[BIND_COMPLETED].is_string()
}

/// Are all claims bound? An error when they will not be.
async fn is_done(
    client: &Client,
    bindings: &placement::Bindings,
    node: &str,
) -> Result<bool, ClientError> {
    for (name, key) in &bindings.to_bind {
        let volume = volume_of(client, name).await?;
        let uid = &volume["spec"]["claimRef"]["uid"];
        if text(uid).is_empty() {
            return Err(failed(format!("ClaimRef got reset for pv \"{name}\"")));
        }
        if !is_bound(&claim_of(client, key).await?) {
            return Ok(false);
        }
    }
    for key in &bindings.to_make {
        let claim = claim_of(client, key).await?;
        // Its maker takes it back when it cannot be made there.
        if selected(&claim) != node {
            let name = text(&claim["metadata"]["name"]);
            return Err(failed(format!("provisioning failed for PVC \"{name}\"")));
        }
        if !is_bound(&claim) {
            return Ok(false);
        }
    }
    Ok(true)
}

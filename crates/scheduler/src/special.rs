//! Requests about claims for extended resources: made, told to the pod, and deleted again.
//!
//! ```text
//!   create ─► as any claim: finalizer, allocation, reservedFor ─► pod.status.extendedResourceClaimStatus
//!     └─► whatever fails: finalizer off, deleted
//! ```
//!
//! Does not know why a pod gets its devices.

use client::{Client, ClientError, DeleteOptions};
use meta::Value;
use value::json;

use crate::devices::Wanted;
use crate::extended::Variant;
use crate::pending::Address;
use crate::reserving::{FINALIZER, Reservation, Reserved, TRIES_MAX, claims, reserve_one, split};
use crate::work::{Worker, patch_status, unless_gone, with_tries};

/// Makes the claim, writes what the pod gets, and tells the pod. What was made stands among the claims, also where
/// something failed.
pub(crate) async fn reserve(
    client: &Client,
    address: &Address,
    (one, variant): (&Reservation, &Variant),
    reserved: &mut Reserved,
) -> Result<(), String> {
    let (namespace, pod) = (&*address.namespace, &*address.name);
    let object = variant.object(namespace, pod, &address.uid);
    // Made again after a lost answer there would be two.
    let made = client.create(claims(), namespace, &object).await;
    let made =
        made.map_err(|error| format!("create claim for extended resources {namespace}/: {error}"))?;
    let text = |field: &str| made["metadata"][field].as_str().unwrap_or_default();
    let (name, uid) = (text("name").to_owned(), text("uid").to_owned());
    let there = Reservation {
        wanted: Wanted {
            key: format!("{namespace}/{name}").into(),
            uid: uid.into(),
            ..one.wanted.clone()
        },
        allocation: one.allocation.clone(),
        special: None,
    };
    reserved.claims.push(made);
    let claim = reserve_one(client, address, &there).await?;
    if let Some(last) = reserved.claims.last_mut() {
        *last = claim;
    }
    let status = json!({"extendedResourceClaimStatus": {
        "requestMappings": variant.instead.mappings, "resourceClaimName": name}});
    let told = patch_status(client, address, status).await;
    told.map(|_| ()).map_err(|error| {
        format!("update pod {namespace}/{pod} ExtendedResourceClaimStatus: {error}")
    })
}

/// Deletes a claim, whatever keeps it. It is no error if it is gone already, or another one has its name.
pub(crate) async fn delete(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<(), ClientError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let claim = with_tries(|| client.get(claims(), namespace, name)).await;
        let Some(mut claim) = unless_gone(claim)? else {
            return Ok(());
        };
        if claim["metadata"]["uid"] != *uid {
            return Ok(());
        }
        let Some(finalizers) = claim["metadata"]["finalizers"].as_array_mut() else {
            break;
        };
        finalizers.retain(|one| one != FINALIZER);
        match client.update(claims(), namespace, name, "", &claim).await {
            Ok(_) => break,
            Err(error) if error.is_conflict() && tries < TRIES_MAX => {}
            Err(error) => return unless_gone(Err(error)).map(|_: Option<()>| ()),
        }
    }
    let options = DeleteOptions {
        uid: uid.to_owned(),
        ..DeleteOptions::default()
    };
    let deleted = with_tries(|| client.delete(claims(), namespace, name, &options)).await;
    unless_gone(deleted).map(|_| ())
}

/// Deletes those among the claims of a pod that were made for its extended resources. Those that are there still are
/// left among them.
pub(crate) async fn take_back(client: &Client, all: &mut Vec<Value>) {
    let mut kept = Vec::new();
    for claim in all.drain(..) {
        let text = |field: &str| claim["metadata"][field].as_str().unwrap_or_default();
        let deleted = if crate::extended::is_special(&claim) {
            delete(client, text("namespace"), text("name"), text("uid")).await
        } else {
            kept.push(claim);
            continue;
        };
        if let Err(error) = deleted {
            tracing::debug!(claim = text("name"), %error, "cannot delete a claim for extended resources");
            kept.push(claim);
        }
    }
    *all = kept;
}

impl Worker {
    /// Deletes a claim that is left from an earlier try. False if there is no room.
    pub(crate) fn delete_left(&self, left: &Wanted) -> bool {
        let Some((client, slot)) = self.for_status() else {
            return false;
        };
        let left = left.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let (namespace, name) = split(&left.key);
            if let Err(error) = delete(&client, namespace, name, &left.uid).await {
                tracing::debug!(claim = name, %error, "cannot delete a claim for extended resources");
            }
        });
        true
    }
}

//! Requests about resource claims: allocation and reservation before a pod is bound, and their end.
//!
//! ```text
//!   finalizer ─► status: allocation, reservedFor ─► [devices are ready] ─► bind
//!                                                         └─► not: the pod's reservation is taken back
//! ```
//!
//! Does not know why a pod gets its devices.

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Client, ClientError, PatchType};
use devices::Binding;
use meta::Value;
use value::json;

use crate::devices::{BINDING_WAIT_MICROS, Wanted};
use crate::extended::Variant;
use crate::now_micros;
use crate::pending::Address;
use crate::special;
use crate::work::{Worker, resource, with_tries};

/// Keeps a claim that is allocated from being deleted.
pub(crate) const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Tries of a write that loses to another one (client-go: `retry.DefaultRetry`).
pub(crate) const TRIES_MAX: u32 = 5;
/// Pause between two looks at devices that are being made ready (k8s: 5 s).
const READY_PAUSE: Duration = Duration::from_secs(1);

/// What a pod needs of one claim before it is bound.
#[derive(Debug, Clone)]
pub(crate) struct Reservation {
    pub(crate) wanted: Wanted,
    /// The allocation to be written, if it has none.
    pub(crate) allocation: Option<Value>,
    /// The claim still has to be made, for extended resources.
    pub(crate) special: Option<Arc<Variant>>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    /// Claims as they are now.
    pub(crate) claims: Vec<Value>,
    /// Why the pod cannot be bound.
    pub(crate) error: Option<String>,
}

pub(crate) fn claims() -> &'static schema::Resource {
    resource("resource.k8s.io", "resourceclaims")
}

pub(crate) fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

/// Writes allocations and reservations of a pod, and waits until its devices can be used.
pub(crate) async fn reserve(
    client: &Client,
    address: &Address,
    reservations: &[Reservation],
) -> Reserved {
    let mut reserved = Reserved::default();
    for one in reservations {
        let result = match &one.special {
            Some(variant) => special::reserve(client, address, (one, variant), &mut reserved).await,
            None => {
                let claim = reserve_one(client, address, one).await;
                claim.map(|claim| reserved.claims.push(claim))
            }
        };
        if let Err(why) = result {
            reserved.error = Some(why);
            break;
        }
    }
    if reserved.error.is_none() {
        reserved.error = wait_for_devices(client, &mut reserved.claims).await.err();
    }
    if reserved.error.is_some() {
        release(client, address, &mut reserved.claims).await;
    }
    reserved
}

pub(crate) async fn reserve_one(
    client: &Client,
    address: &Address,
    Reservation {
        wanted, allocation, ..
    }: &Reservation,
) -> Result<Value, String> {
    let key = &wanted.key;
    let (namespace, name) = split(key);
    let mut tries = 0;
    loop {
        tries += 1;
        let claim = with_tries(|| client.get(claims(), namespace, name)).await;
        let mut claim = claim.map_err(|error| format!("get updated claim {key}: {error}"))?;
        let gone = !claim["metadata"]["deletionTimestamp"].is_null()
            || claim["metadata"]["uid"] != *wanted.uid;
        if gone {
            return Err(format!("claim {key} got deleted in the meantime"));
        }
        let conflict = |error: &ClientError| error.is_conflict() && tries < TRIES_MAX;
        if let Some(allocation) = allocation {
            if claim["status"]["allocation"].is_object() {
                return Err(format!(
                    "claim {key} got allocated elsewhere in the meantime"
                ));
            }
            if !has_finalizer(&claim) {
                add_finalizer(&mut claim);
                match client.update(claims(), namespace, name, "", &claim).await {
                    Ok(updated) => claim = updated,
                    Err(error) if conflict(&error) => continue,
                    Err(error) => return Err(format!("add finalizer to claim {key}: {error}")),
                }
            }
            // An allocation does not change any more once it is written.
            claim["status"]["allocation"] = allocation.clone();
            let now = meta::time::format_seconds(now_micros());
            claim["status"]["allocation"]["allocationTimestamp"] = now.into();
        } else if !claim["status"]["allocation"].is_object() {
            return Err(format!("claim {key} is not allocated any more"));
        }
        let user = json!({"resource": "pods", "name": address.name, "uid": address.uid});
        match claim["status"]["reservedFor"].as_array_mut() {
            Some(users) if users.iter().any(|known| known["uid"] == *address.uid) => {}
            Some(users) => users.push(user),
            None => claim["status"]["reservedFor"] = json!([user]),
        }
        match client
            .update(claims(), namespace, name, "status", &claim)
            .await
        {
            Ok(updated) => return Ok(updated),
            Err(error) if conflict(&error) => {}
            Err(error) if allocation.is_some() => {
                return Err(format!(
                    "add allocation and reservation to claim {key}: {error}"
                ));
            }
            Err(error) => return Err(format!("add reservation to claim {key}: {error}")),
        }
    }
}

fn has_finalizer(claim: &Value) -> bool {
    let finalizers = claim["metadata"]["finalizers"].as_array();
    finalizers.into_iter().flatten().any(|one| one == FINALIZER)
}

fn add_finalizer(claim: &mut Value) {
    match claim["metadata"]["finalizers"].as_array_mut() {
        Some(finalizers) => finalizers.push(FINALIZER.into()),
        None => claim["metadata"]["finalizers"] = json!([FINALIZER]),
    }
}

/// Whether something may have to be waited for.
pub(crate) fn may_wait(reservations: &[Reservation]) -> bool {
    reservations.iter().any(|one| {
        let results = one.allocation.as_ref();
        let results = results.and_then(|allocation| allocation["devices"]["results"].as_array());
        let mut results = results.into_iter().flatten();
        results.any(|result| !result["bindingConditions"].is_null())
    })
}

async fn wait_for_devices(client: &Client, all: &mut [Value]) -> Result<(), String> {
    let wait = u64::try_from(BINDING_WAIT_MICROS).unwrap_or(u64::MAX);
    let deadline = Instant::now() + Duration::from_micros(wait);
    for claim in all {
        loop {
            match devices::binding(&claim["status"]) {
                Binding::Ready => break,
                Binding::Failed(why) => return Err(why),
                Binding::Waits => {}
            }
            if Instant::now() >= deadline {
                return Err("device binding timeout".into());
            }
            tokio::time::sleep(READY_PAUSE).await;
            let metadata = &claim["metadata"];
            let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (text("namespace"), text("name"));
            let fresh = with_tries(|| client.get(claims(), &namespace, &name)).await;
            *claim = fresh.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// Takes a pod's reservations back. Claims stay allocated: the next try may use them, or give them back. Those that
/// were made for its extended resources are deleted.
pub(crate) async fn release(client: &Client, address: &Address, all: &mut Vec<Value>) {
    special::take_back(client, all).await;
    for claim in all {
        let metadata = &claim["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default();
        // A strategic merge takes out one entry without knowing the others.
        let patch = json!({"metadata": {"uid": text("uid")},
            "status": {"reservedFor": [{"$patch": "delete", "uid": address.uid}]}});
        let (namespace, name) = (text("namespace").to_owned(), text("name").to_owned());
        let kind = PatchType::StrategicMerge;
        let patched =
            with_tries(|| client.patch(claims(), &namespace, &name, "status", kind, &patch));
        match patched.await {
            Ok(patched) => *claim = patched,
            Err(error) => tracing::debug!(claim = name, %error, "cannot take a reservation back"),
        }
    }
}

impl Worker {
    /// Gives the devices of an idle claim back. False if there is no room.
    pub(crate) fn deallocate(&self, wanted: &Wanted) -> bool {
        let Some((client, slot)) = self.for_status() else {
            return false;
        };
        let wanted = wanted.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let (namespace, name) = split(&wanted.key);
            let given_back = async {
                let mut claim = with_tries(|| client.get(claims(), namespace, name)).await?;
                let users = claim["status"]["reservedFor"]
                    .as_array()
                    .map_or(0, Vec::len);
                if claim["metadata"]["uid"] != *wanted.uid || users > usize::from(wanted.used) {
                    return Ok(claim);
                }
                if let Some(status) = claim["status"].as_object_mut() {
                    for field in ["allocation", "reservedFor", "devices"] {
                        status.remove(field);
                    }
                }
                client
                    .update(claims(), namespace, name, "status", &claim)
                    .await
            };
            let given_back: Result<Value, ClientError> = given_back.await;
            if let Err(error) = given_back {
                tracing::debug!(claim = name, %error, "cannot give back an idle claim");
            }
        });
        true
    }
}

//! Requests of the scheduler: bindings and status conditions, many at a time, none of them waited for.

use std::sync::Arc;

use client::events::{Note, Recorder};
use client::{Client, ClientError, PatchType};
use meta::{EventType, Involved};
use placement::PodKey;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use crate::now_micros;
use crate::pending::Address;

/// Bindings under way at a time. Each waits for the disk once, together with the others.
const BINDINGS_MAX: usize = 1_024;
/// Status updates under way at a time; the others wait with their pods.
const STATUSES_MAX: usize = 128;

/// A binding that ended.
pub(crate) struct Done {
    pub(crate) pod: PodKey,
    pub(crate) result: Result<(), ClientError>,
}

/// Sends requests.
pub(crate) struct Worker {
    client: Client,
    bindings: Arc<Semaphore>,
    statuses: Arc<Semaphore>,
    done: mpsc::Sender<Done>,
    events: Recorder,
}

impl Worker {
    pub(crate) fn new(client: Client, events: Recorder) -> (Worker, mpsc::Receiver<Done>) {
        let (done, receiver) = mpsc::channel(BINDINGS_MAX);
        let worker = Worker {
            client,
            bindings: Arc::new(Semaphore::new(BINDINGS_MAX)),
            statuses: Arc::new(Semaphore::new(STATUSES_MAX)),
            done,
            events,
        };
        (worker, receiver)
    }

    /// Whether one more binding may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.bindings.available_permits() > 0
    }

    /// Binds a pod; the result comes over the channel. False if there is no room.
    pub(crate) fn bind(&self, pod: PodKey, address: Address, node: String) -> bool {
        let Ok(slot) = self.bindings.clone().try_acquire_owned() else {
            return false;
        };
        let (client, done, events) = (self.client.clone(), self.done.clone(), self.events.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let result = client
                .bind(&address.namespace, &address.name, &address.uid, &node)
                .await;
            if result.is_ok() {
                let message = format!(
                    "Successfully assigned {}/{} to {node}",
                    address.namespace, address.name
                );
                events.record(note(&address, EventType::Normal, "Scheduled", message));
            }
            let _ = done.send(Done { pod, result }).await;
        });
        true
    }

    /// Says that a pod asks for rules that are not there yet, and is placed without them.
    pub(crate) fn tell_not_considered(&self, address: &Address, fields: &[&str]) {
        let message = format!(
            "placed without regard to {}: this release does not have these rules yet",
            fields.join(", ")
        );
        self.events
            .record(note(address, EventType::Warning, "NotConsidered", message));
    }

    /// Says by an Event why a pod has no node.
    pub(crate) fn tell_unschedulable(&self, address: &Address, message: &str) {
        self.events.record(note(
            address,
            EventType::Warning,
            "FailedScheduling",
            message.to_owned(),
        ));
    }

    /// Ready once one more status may be written.
    pub(crate) async fn status_room(&self) {
        drop(self.statuses.acquire().await);
    }

    /// Writes into a pod's status why it has no node. False if there is no room for one more.
    pub(crate) fn write_condition(&self, address: Address, message: String) -> bool {
        let Ok(slot) = self.statuses.clone().try_acquire_owned() else {
            return false;
        };
        let client = self.client.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let patch = json!({
                "metadata": {"uid": &*address.uid},
                "status": {"conditions": [{
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
                    "lastProbeTime": null, "lastTransitionTime": meta::time::format_seconds(now_micros()),
                }]},
            });
            let result = client
                .patch(
                    resource("", "pods"),
                    &address.namespace,
                    &address.name,
                    "status",
                    PatchType::StrategicMerge,
                    &patch,
                )
                .await;
            if let Err(error) = result {
                tracing::debug!(pod = %address.name, %error, "cannot write the scheduling condition");
            }
        });
        true
    }
}

/// An event about a pod.
fn note(address: &Address, event_type: EventType, reason: &'static str, message: String) -> Note {
    let involved = Involved {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: address.namespace.to_string(),
        name: address.name.to_string(),
        uid: address.uid.to_string(),
        resource_version: String::new(),
    };
    Note {
        involved: Arc::new(involved),
        event_type,
        reason,
        message,
        component: "default-scheduler",
    }
}

/// A built-in resource in version 1 of its group.
pub(crate) fn resource(group: &str, name: &str) -> &'static schema::Resource {
    schema::resource(group, "v1", name).expect("the schema table holds the built-in resources")
}

//! Requests of the scheduler: bindings, status conditions and evictions, many at a time, none of them waited
//! for by who decides.
//!
//! Does not know why a pod goes to a node, or why another must go.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use client::events::{Note, Recorder};
use client::{Client, ClientError, DeleteOptions, PatchType};
use meta::{EventType, Involved, Value};
use placement::{Bindings, PodKey};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use value::json;

use crate::extenders::{self, Extender, Plea, Question};
use crate::extending::{Asked, Heard, Pleading};
use crate::measures::{Ended, Point, Step};
use crate::metrics::SchedulerProgress;
use crate::now_micros;
use crate::pending::{Address, Telling};
use crate::reserving::{Reservation, Reserved, may_wait, release, reserve};
use crate::volumes;

/// Bindings under way at a time. Each waits for the disk once, together with the others.
const BINDINGS_MAX: usize = 1_024;
/// Status updates under way at a time; the others wait with their pods.
const STATUSES_MAX: usize = 128;
/// Pods for which others are being evicted at a time; nobody else is tried while it is reached.
const PREEMPTIONS_MAX: usize = 256;
/// Victims of one pod that are evicted at a time (k8s: parallelism 16).
const VICTIMS_AT_ONCE: usize = 16;
/// Pods that wait for their volumes to be made at a time; more are tried again later.
const VOLUME_WAITS_MAX: usize = 1_024;
/// Tries of a request that fails in passing, and the pause after the first; it grows fivefold (client-go:
/// `retry.DefaultBackoff`).
const TRIES_MAX: u32 = 4;
const TRY_PAUSE: Duration = Duration::from_millis(10);

/// Something that ended.
pub(crate) enum Done {
    /// A binding.
    Bound {
        pod: PodKey,
        this: Try,
        /// Claims as they were written.
        claims: Vec<Value>,
        result: Result<(), ClientError>,
    },
    /// The evictions for a pod: all victims are gone or going, or some could not be told to.
    Evicted { preemptor: PodKey, failed: bool },
    /// What extenders say of a pod.
    Extended(crate::extending::Heard),
}

/// Who must go for whom.
#[derive(Debug)]
pub(crate) struct Eviction {
    pub(crate) preemptor: PodKey,
    pub(crate) address: Address,
    pub(crate) node: String,
    /// With `namespace/name`.
    pub(crate) victims: Vec<(PodKey, Box<str>)>,
}

/// One try of a pod. Its end may come after the pod is known to be bound, or gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Try {
    /// When the pod's turn began.
    pub(crate) begun: Instant,
    /// Number of the profile.
    pub(crate) profile: u16,
    /// The so-manyeth, from 1.
    pub(crate) attempt: u32,
    /// When the pod could first be tried.
    pub(crate) entered_micros: i64,
    /// It is tried because it had waited too long.
    pub(crate) flushed: bool,
}

/// Volumes to be bound or made before a pod is bound.
#[derive(Debug)]
pub(crate) struct VolumesFirst {
    /// Which.
    pub(crate) bindings: Bindings,
    /// The longest wait for all of them.
    pub(crate) wait: Duration,
}

/// What comes before a binding, and who makes it.
#[derive(Debug)]
pub(crate) struct First {
    /// Volumes that are given or made.
    pub(crate) volumes: VolumesFirst,
    /// What is written into resource claims.
    pub(crate) reservations: Vec<Reservation>,
    /// Extenders that bind; nobody's business but ours if there are none.
    pub(crate) binders: Vec<Arc<Extender>>,
}

/// Sends requests.
pub(crate) struct Worker {
    client: Client,
    bindings: Arc<Semaphore>,
    making: Arc<Semaphore>,
    statuses: Arc<Semaphore>,
    preemptions: Arc<Semaphore>,
    done: mpsc::Sender<Done>,
    events: Recorder,
    progress: Arc<SchedulerProgress>,
}

impl Worker {
    pub(crate) fn new(
        client: Client,
        events: Recorder,
        progress: Arc<SchedulerProgress>,
    ) -> (Worker, mpsc::Receiver<Done>) {
        let (done, receiver) = mpsc::channel(BINDINGS_MAX + VOLUME_WAITS_MAX + PREEMPTIONS_MAX + 1);
        let worker = Worker {
            client,
            bindings: Arc::new(Semaphore::new(BINDINGS_MAX)),
            making: Arc::new(Semaphore::new(VOLUME_WAITS_MAX)),
            statuses: Arc::new(Semaphore::new(STATUSES_MAX)),
            preemptions: Arc::new(Semaphore::new(PREEMPTIONS_MAX)),
            done,
            events,
            progress,
        };
        (worker, receiver)
    }

    /// How many pods may be tried, whatever comes of each; the last may be one for which others must go.
    pub(crate) fn room(&self) -> usize {
        if self.preemptions.available_permits() == 0 {
            return 0;
        }
        self.bindings.available_permits()
    }

    /// Whether one more pod may be tried, whatever comes of it.
    pub(crate) fn has_room(&self) -> bool {
        self.bindings.available_permits() > 0 && self.preemptions.available_permits() > 0
    }

    /// Binds a pod; the result comes over the channel. False if there is no room.
    pub(crate) fn bind(
        &self,
        pod: PodKey,
        address: Address,
        node: String,
        First {
            volumes,
            reservations,
            binders,
        }: First,
        this: Try,
    ) -> bool {
        // Who waits for volumes or devices may wait long, and does not keep others waiting.
        let slots = if volumes.bindings.is_empty() && !may_wait(&reservations) {
            &self.bindings
        } else {
            &self.making
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            return false;
        };
        let (client, done, events) = (self.client.clone(), self.done.clone(), self.events.clone());
        let progress = self.progress.clone();
        tokio::spawn(async move {
            let _slot = slot;
            progress.measures.bindings.fetch_add(1, Relaxed);
            let took = |step: Step, ended: Ended, begun: Instant| {
                progress.measures.took(step, ended, begun.elapsed());
            };
            let prepares = !(volumes.bindings.is_empty() && reservations.is_empty());
            let before = Instant::now();
            // What few need is kept apart, so that a thousand bindings under way are small.
            let made = if volumes.bindings.is_empty() {
                Ok(())
            } else {
                Box::pin(volumes::prepare(&client, &address, &volumes, &node)).await
            };
            if !volumes.bindings.is_empty() {
                took(Step::Volumes, Ended::of(&made), before);
            }
            if let Err(error) = &made {
                let message =
                    format!("running PreBind plugin \"VolumeBinding\": binding volumes: {error}");
                events.record(note(
                    &address,
                    EventType::Warning,
                    ("FailedScheduling", "Scheduling"),
                    message,
                ));
            }
            let mut reserved = Reserved::default();
            if made.is_ok() && !reservations.is_empty() {
                let begun = Instant::now();
                reserved = Box::pin(reserve(&client, &address, &reservations)).await;
                let ended = Ended::of(&reserved.error.as_ref().map_or(Ok(()), Err));
                took(Step::Claims, ended, begun);
                if let Some(why) = &reserved.error {
                    let message = format!("running PreBind plugin \"DynamicResources\": {why}");
                    events.record(note(
                        &address,
                        EventType::Warning,
                        ("FailedScheduling", "Scheduling"),
                        message,
                    ));
                }
            }
            if prepares {
                let ended = match &reserved.error {
                    None => Ended::of(&made),
                    Some(_) => Ended::Error,
                };
                let point = (Point::PreBind, None);
                progress.took(this.profile, point, ended, before.elapsed());
            }
            let result = match (made, reserved.error.take()) {
                (Ok(()), None) => {
                    let begun = Instant::now();
                    let bound = bind(&client, &binders, &address, &node).await;
                    // An extender that binds is no plugin.
                    let point = (Point::Bind, binders.is_empty().then_some(Step::Binding));
                    progress.took(this.profile, point, Ended::of(&bound), begun.elapsed());
                    if bound.is_err() {
                        Box::pin(release(&client, &address, &mut reserved.claims)).await;
                    }
                    bound
                }
                (Ok(()), Some(why)) => Err(ClientError::Transport(why)),
                (Err(error), _) => Err(error),
            };
            let claims = reserved.claims;
            if let Err(error) = &result
                && !binders.is_empty()
            {
                let why = ("FailedScheduling", "Scheduling");
                events.record(note(&address, EventType::Warning, why, error.to_string()));
            }
            if result.is_ok() {
                let message = format!(
                    "Successfully assigned {}/{} to {node}",
                    address.namespace, address.name
                );
                events.record(note(
                    &address,
                    EventType::Normal,
                    ("Scheduled", "Binding"),
                    message,
                ));
            }
            progress.measures.bindings.fetch_sub(1, Relaxed);
            let bound = Done::Bound {
                pod,
                this,
                claims,
                result,
            };
            let _ = done.send(bound).await;
        });
        true
    }

    /// Says that a pod asks for rules that are not there yet, and is placed without them.
    pub(crate) fn tell_not_considered(&self, address: &Address, fields: &[&str]) {
        let message = format!(
            "placed without regard to {}: no rule of this scheduler looks at that",
            fields.join(", ")
        );
        self.events.record(note(
            address,
            EventType::Warning,
            ("NotConsidered", "Scheduling"),
            message,
        ));
    }

    /// Says by an Event why a pod has no node.
    pub(crate) fn tell_unschedulable(&self, address: &Address, message: &str) {
        self.events.record(note(
            address,
            EventType::Warning,
            ("FailedScheduling", "Scheduling"),
            message.to_owned(),
        ));
    }

    /// What it takes to write one more status, if there is room.
    pub(crate) fn for_status(&self) -> Option<(Client, OwnedSemaphorePermit)> {
        let slot = self.statuses.clone().try_acquire_owned().ok()?;
        Some((self.client.clone(), slot))
    }

    /// Ready once one more status may be written.
    pub(crate) async fn status_room(&self) {
        drop(self.statuses.acquire().await);
    }

    /// Writes into a pod's status why it has no node, and which node it has in view. False if there is no room
    /// for one more.
    pub(crate) fn write_status(&self, address: Address, telling: Telling) -> bool {
        let Ok(slot) = self.statuses.clone().try_acquire_owned() else {
            return false;
        };
        let client = self.client.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let mut status = json!({});
            if let Some((reason, message)) = &telling.message {
                status["conditions"] = json!([{
                    "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
                    "lastProbeTime": null, "lastTransitionTime": meta::time::format_seconds(now_micros()),
                }]);
            }
            if let Some(node) = &telling.nominated {
                status["nominatedNodeName"] = node.as_deref().into();
            }
            if let Err(error) = patch_status(&client, &address, status).await {
                tracing::debug!(pod = %address.name, %error, "cannot write what a pod waits for");
            }
        });
        true
    }

    /// Asks extenders where a pod may go; the answer comes over the channel.
    pub(crate) fn ask(&self, question: Question, asked: Asked) {
        let (client, done) = (self.client.clone(), self.done.clone());
        tokio::spawn(async move {
            let answer = extenders::ask(&client, &question).await;
            let heard = Heard::Places(asked, answer);
            let _ = done.send(Done::Extended(heard)).await;
        });
    }

    /// Asks extenders who may be evicted; the answer comes over the channel. False if there is no room.
    pub(crate) fn plead(&self, plea: Plea, pleading: Pleading) -> bool {
        let Ok(slot) = self.preemptions.clone().try_acquire_owned() else {
            return false;
        };
        let (client, done) = (self.client.clone(), self.done.clone());
        tokio::spawn(async move {
            let answer = extenders::plead(&client, &plea).await;
            drop(slot);
            let heard = Heard::Victims(Box::new(pleading), answer);
            let _ = done.send(Done::Extended(heard)).await;
        });
        true
    }

    /// Evicts pods for another; that it is done comes over the channel. False if there is no room.
    pub(crate) fn evict(&self, eviction: Eviction) -> bool {
        let Ok(slot) = self.preemptions.clone().try_acquire_owned() else {
            return false;
        };
        let (client, done, events) = (self.client.clone(), self.done.clone(), self.events.clone());
        let progress = self.progress.clone();
        tokio::spawn(async move {
            let (_slot, begun) = (slot, Instant::now());
            let Eviction {
                preemptor,
                address,
                node,
                victims,
            } = eviction;
            let preemptor_of = Arc::new(involved(&address));
            let mut under_way = JoinSet::new();
            let mut failed = false;
            for (victim, name) in victims {
                if under_way.len() >= VICTIMS_AT_ONCE {
                    failed |= !matches!(under_way.join_next().await, Some(Ok(true)));
                }
                let (client, events) = (client.clone(), events.clone());
                let (scheduler, related) = (address.scheduler.clone(), preemptor_of.clone());
                let message = format!("Preempted by pod {} on node {node}", address.uid);
                under_way.spawn(async move {
                    match evict_one(&client, &scheduler, victim, &name).await {
                        Ok(Some(address)) => {
                            let mut note = note(
                                &address,
                                EventType::Normal,
                                ("Preempted", "Preempting"),
                                message,
                            );
                            note.related = Some(related);
                            events.record(note);
                            true
                        }
                        Ok(None) => true,
                        Err(error) => {
                            tracing::warn!(pod = %name, %error, "cannot evict a pod for one of higher priority");
                            false
                        }
                    }
                });
            }
            while let Some(result) = under_way.join_next().await {
                failed |= !matches!(result, Ok(true));
            }
            progress.measures.evicted(failed, begun.elapsed());
            let _ = done.send(Done::Evicted { preemptor, failed }).await;
        });
        true
    }
}

/// Binds a pod: by an extender that does it, else by the API.
async fn bind(
    client: &Client,
    binders: &[Arc<Extender>],
    address: &Address,
    node: &str,
) -> Result<(), ClientError> {
    let bound = match binders {
        [] => Ok(false),
        binders => Box::pin(extenders::bind(binders, address, node)).await,
    };
    match bound {
        Ok(true) => Ok(()),
        Ok(false) => {
            let (namespace, name) = (&address.namespace, &address.name);
            client.bind(namespace, name, &address.uid, node).await
        }
        Err(error) => Err(ClientError::Transport(error)),
    }
}

/// Marks a pod as disrupted and deletes it. `None` when it is gone, or another pod has its name.
async fn evict_one(
    client: &Client,
    scheduler: &Arc<str>,
    victim: PodKey,
    name: &str,
) -> Result<Option<Address>, ClientError> {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let pods = resource("", "pods");
    let found = with_tries(|| client.get(pods, namespace, name)).await;
    let Some(pod) = unless_gone(found)? else {
        return Ok(None);
    };
    let address = Address {
        namespace: namespace.into(),
        name: name.into(),
        uid: pod["metadata"]["uid"].as_str().unwrap_or_default().into(),
        scheduler: scheduler.clone(),
    };
    if PodKey::of(&address.uid) != victim {
        return Ok(None);
    }
    let message = format!("{scheduler}: preempting to accommodate a higher priority pod");
    if !is_marked(&pod, &message) {
        let mut condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message,
            "lastProbeTime": null, "lastTransitionTime": meta::time::format_seconds(now_micros()),
        });
        if let Some(generation) = pod["metadata"]["generation"].as_i64() {
            condition["observedGeneration"] = generation.into();
        }
        let marked = patch_status(client, &address, json!({"conditions": [condition]})).await;
        if unless_gone(marked)?.is_none() {
            return Ok(None);
        }
    }
    let options = DeleteOptions {
        uid: address.uid.to_string(),
        ..DeleteOptions::default()
    };
    let deleted = with_tries(|| client.delete(pods, namespace, name, &options)).await;
    Ok(unless_gone(deleted)?.map(|()| address))
}

fn is_marked(pod: &Value, message: &str) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        condition["type"] == "DisruptionTarget"
            && condition["status"] == "True"
            && condition["reason"] == "PreemptionByScheduler"
            && condition["message"] == message
    })
}

/// `None` when the object is not there, or is another one of the same name.
pub(crate) fn unless_gone<T>(result: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() || is_another(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) async fn patch_status(
    client: &Client,
    address: &Address,
    status: Value,
) -> Result<Value, ClientError> {
    let patch = json!({"metadata": {"uid": &*address.uid}, "status": status});
    let (namespace, name) = (&*address.namespace, &*address.name);
    let kind = PatchType::StrategicMerge;
    with_tries(|| {
        client.patch(
            resource("", "pods"),
            namespace,
            name,
            "status",
            kind,
            &patch,
        )
    })
    .await
}

/// Makes a call again while it fails in a way that may pass.
pub(crate) async fn with_tries<T, F: Future<Output = Result<T, ClientError>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, ClientError> {
    let mut pause = TRY_PAUSE;
    let mut tries = 1;
    loop {
        match call().await {
            Err(error) if tries < TRIES_MAX && may_pass(&error) => {
                tokio::time::sleep(pause).await;
                pause *= 5;
                tries += 1;
            }
            result => return result,
        }
    }
}

/// The object that was meant is gone, and another one has its name.
fn is_another(error: &ClientError) -> bool {
    error.is_conflict() && error.to_string().contains("Precondition failed: UID")
}

/// No answer, a conflict, too many requests, or an error of the server.
fn may_pass(error: &ClientError) -> bool {
    (error.is_conflict() && !is_another(error))
        || matches!(error.code(), 0 | 429 | 500 | 502 | 503 | 504)
}

fn involved(address: &Address) -> Involved {
    Involved {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: address.namespace.to_string(),
        name: address.name.to_string(),
        uid: address.uid.to_string(),
        resource_version: String::new(),
    }
}

/// An event about a pod: its reason, and what was being done.
fn note(
    address: &Address,
    event_type: EventType,
    (reason, action): (&'static str, &'static str),
    message: String,
) -> Note {
    Note {
        involved: Arc::new(involved(address)),
        event_type,
        reason,
        message,
        component: address.scheduler.to_string().into(),
        action,
        related: None,
    }
}

/// A built-in resource in version 1 of its group.
pub(crate) fn resource(group: &str, name: &str) -> &'static schema::Resource {
    schema::resource(group, "v1", name).expect("the schema table holds the built-in resources")
}

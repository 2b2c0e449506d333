//! The life of pods, and of nodes where stages say so: follows them, and makes their steps when their time comes.
//!
//! ```text
//!   reflector ─► what is next? (pod.rs, or stages.rs) ─► queue by time ─► request ─► queue
//! ```
//!
//! One watch for all nodes, or each kubelet's own (`kubelet.rs`): the queue does not care. An object is looked at when it
//! comes and not kept; only what its next step needs is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use client::events::{Note, Recorder};
use client::{Change, ClientError, DeleteOptions, PatchType, Reflector};
use meta::{EventType, Involved, Value};
use tokio::sync::{Semaphore, mpsc};
use value::json;

use crate::heartbeat::now_micros;
use crate::node::{node_address, node_index};
use crate::pod::{PodShape, PodShapes, Step, next_pod_address};
use crate::queue::{Due, Queue, Seen, Ticket};
use crate::stages::{self, Stage};
use crate::template::Known;
use crate::wheel::TICK;
use crate::{Fleet, REQUESTS_IN_FLIGHT_MAX, glance, pod_status, resource};

/// Pause before a failed step is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether silent nodes talk again, while steps wait for that.
const PARKED_LOOK: Duration = Duration::from_millis(100);
/// How statuses are patched, as by kubelets.
const MERGE: PatchType = PatchType::StrategicMerge;
/// Who tells the events of stages.
const COMPONENT: &str = "megaplane-fleet";

/// Whose life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pod,
    Node,
}

impl Kind {
    pub(crate) fn resource(self) -> &'static schema::Resource {
        match self {
            Kind::Pod => resource("", "pods"),
            Kind::Node => resource("", "nodes"),
        }
    }

    fn stages(self, fleet: &Fleet) -> &[Stage] {
        match self {
            Kind::Pod => &fleet.config.stages.pods,
            Kind::Node => &fleet.config.stages.nodes,
        }
    }
}

/// What a step does.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    BuiltIn(Arc<PodShape>, Step),
    /// A stage, by its place, with what it took from the object.
    Stage(usize, Arc<Taken>),
}

#[derive(Debug, Default)]
pub(crate) struct Taken {
    captured: Vec<Value>,
    pod: Arc<PodShape>,
    pod_ip: Option<String>,
    finalizers: Option<Vec<String>>,
    version: String,
}

/// What is told of an object: its next step, or that it has none here.
pub(crate) type Told = Change<Option<Seen<Action>>>;

/// Reads what is next for an object.
#[derive(Default)]
pub(crate) struct Looker {
    shapes: PodShapes,
}

impl Looker {
    /// The next step of an object; none if it has none, or is on somebody else's node.
    pub(crate) fn look(&self, fleet: &Fleet, kind: Kind, object: &Value) -> Option<Seen<Action>> {
        let name = match kind {
            Kind::Pod => object["spec"]["nodeName"].as_str()?,
            Kind::Node => meta::object::name(object),
        };
        let node = node_index(name).filter(|index| *index < fleet.config.nodes)?;
        let pod = match kind {
            Kind::Pod => self.shapes.of(object, fleet.config.job_run_time),
            Kind::Node => Arc::default(),
        };
        let stages = kind.stages(fleet);
        let (step, delay, action) = if stages.is_empty() {
            let (step, delay) = crate::pod::next(object, &pod, &fleet.config)?;
            let delay = if step == Step::Finish {
                delay
            } else {
                fleet.slowed(node, delay)
            };
            (step as u32, delay, Action::BuiltIn(pod, step))
        } else {
            let place = stages::next(stages, object, chance())?;
            let stage = &stages[place];
            let delay = fleet.slowed(node, stage.delay(object, now_micros(), chance()));
            let taken = take(stage, object, pod);
            let step = u32::try_from(place).unwrap_or(u32::MAX);
            (step, delay, Action::Stage(place, Arc::new(taken)))
        };
        Some(Seen {
            version: meta::object::resource_version(object).parse().unwrap_or(0),
            step,
            delay,
            uid: meta::object::uid(object).into(),
            node: u32::try_from(node).unwrap_or(u32::MAX),
            action,
        })
    }
}

fn take(stage: &Stage, object: &Value, pod: Arc<PodShape>) -> Taken {
    Taken {
        captured: stage
            .status
            .as_ref()
            .map(|template| template.capture(object))
            .unwrap_or_default(),
        pod,
        pod_ip: object["status"]["podIP"].as_str().map(str::to_owned),
        finalizers: stage.finalizers.after(object),
        version: meta::object::resource_version(object).to_owned(),
    }
}

/// A number that looks random: enough for jitter.
fn chance() -> u64 {
    static STATE: AtomicU64 = AtomicU64::new(0x2545_f491_4f6c_dd1d);
    let mut word = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Follows all objects of a kind for ever, by one watch for all nodes.
pub(crate) async fn follow(fleet: &Arc<Fleet>, kind: Kind) {
    let has_life = kind == Kind::Pod || !kind.stages(fleet).is_empty();
    if fleet.config.nodes == 0 || !has_life {
        return std::future::pending().await;
    }
    let looker = Arc::new(Looker::default());
    let (sender, receiver) = mpsc::channel(REQUESTS_IN_FLIGHT_MAX);
    let feed = async {
        let mut storms = fleet.storms.subscribe();
        loop {
            let (fleet_of, looker) = (fleet.clone(), looker.clone());
            let mut reflector = Reflector::new(fleet.client.clone(), kind.resource());
            if kind == Kind::Pod {
                reflector = reflector.with_field_selector("spec.nodeName!=");
                // Stages may look at anything.
                if kind.stages(fleet).is_empty() {
                    reflector = reflector.only(&crate::pod::READ);
                }
            }
            let is_built_in = kind == Kind::Pod && kind.stages(fleet).is_empty();
            let mut changes = reflector.spawn_reading(
                move |message, _| is_built_in.then(|| Some((glance::settled(message)?, None)))?,
                move |object| looker.look(&fleet_of, kind, &object),
            );
            loop {
                tokio::select! {
                    change = changes.recv() => match change {
                        Some(change) => if sender.send(change).await.is_err() { return },
                        None => break,
                    },
                    // Everybody connects anew, and so do we.
                    changed = storms.changed() => if changed.is_ok() { break } else { return },
                }
            }
        }
    };
    tokio::join!(feed, run(fleet, kind, receiver));
}

/// What became of a step.
enum Outcome {
    Made(u64),
    /// The object is not there any more.
    Lost,
    Failed,
}

type Done = (Ticket, Arc<str>, Outcome);

/// Makes the steps of what is told.
pub(crate) async fn run(fleet: &Arc<Fleet>, kind: Kind, mut told: mpsc::Receiver<Told>) {
    let slots = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX));
    let mut queue = Queue::new(Instant::now());
    // As many as there are slots: nobody waits to tell what became of a step.
    let (done_sender, mut done) = mpsc::channel::<Done>(REQUESTS_IN_FLIGHT_MAX);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looks = tokio::time::interval(PARKED_LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut steps = Vec::new();
    let recorder = Recorder::start(fleet.client.clone(), Arc::default());
    loop {
        tokio::select! {
            change = told.recv() => match change {
                Some(Change::Apply(key, Some(seen))) => queue.observe(&key, seen, Instant::now()),
                Some(Change::Apply(key, None) | Change::Delete(key)) => queue.forget(&key),
                Some(Change::Restart | Change::Synced | Change::Same(_)) => {}
                None => return,
            },
            Some(done) = done.recv() => settle(&mut queue, done),
            _ = looks.tick(), if queue.has_parked() => {
                queue.unpark(Instant::now(), |node| fleet.nodes.talks(node as usize));
            }
            _ = ticks.tick(), if queue.has_timers() => {
                queue.due(Instant::now(), |node| fleet.nodes.talks(node as usize), &mut steps);
                for due in steps.drain(..) {
                    let slot = loop {
                        tokio::select! {
                            slot = slots.clone().acquire_owned() => break slot,
                            Some(done) = done.recv() => settle(&mut queue, done),
                        }
                    };
                    let Ok(slot) = slot else { return };
                    let (fleet, done, recorder) = (fleet.clone(), done_sender.clone(), recorder.clone());
                    tokio::spawn(async move {
                        fleet.punctual.give_way().await;
                        let outcome = outcome(&fleet, kind, &due, &recorder).await;
                        let _ = done.send((due.ticket, due.key, outcome)).await;
                        drop(slot);
                    });
                }
            }
        }
        if kind == Kind::Pod {
            fleet.progress.waiting.store(queue.len(), Relaxed);
        }
    }
}

fn settle(queue: &mut Queue<Action>, (ticket, key, outcome): Done) {
    match outcome {
        Outcome::Made(version) => queue.made(ticket, version, Instant::now()),
        Outcome::Failed => queue.failed(ticket, RETRY_PAUSE, Instant::now()),
        Outcome::Lost if queue.is_current(ticket) => queue.forget(&key),
        Outcome::Lost => {}
    }
}

async fn outcome(fleet: &Fleet, kind: Kind, due: &Due<Action>, recorder: &Recorder) -> Outcome {
    match act(fleet, kind, due, recorder).await {
        Ok(version) => {
            fleet.progress.steps.fetch_add(1, Relaxed);
            Outcome::Made(version)
        }
        Err(error) if error.is_not_found() => Outcome::Lost,
        // Somebody was faster: what they made of it comes as an event.
        Err(error) if error.is_conflict() => Outcome::Made(0),
        Err(error) => {
            fleet.progress.step_failures.fetch_add(1, Relaxed);
            tracing::debug!(object = &*due.key, %error, "a step failed, trying again");
            Outcome::Failed
        }
    }
}

/// Makes a step. Gives the version that the object has since.
async fn act(
    fleet: &Fleet,
    kind: Kind,
    due: &Due<Action>,
    recorder: &Recorder,
) -> Result<u64, ClientError> {
    let (namespace, name) = due.key.split_once('/').unwrap_or(("", &due.key));
    let of = Object {
        fleet,
        kind,
        namespace,
        name,
        uid: &due.uid,
    };
    match &due.action {
        Action::BuiltIn(_, Step::Stop) => {
            of.delete().await?;
            fleet.progress.pods_stopped.fetch_add(1, Relaxed);
            Ok(u64::MAX)
        }
        Action::BuiltIn(pod, step) => {
            let node = due.node as usize;
            let now = now_micros() + fleet.nodes.skew_micros(node);
            let patch = pod_status::patch(pod, *step, &due.uid, node, now);
            let version = of.patch_text("status", MERGE, patch).await?;
            if *step == Step::Start {
                fleet.progress.pods_started.fetch_add(1, Relaxed);
            }
            Ok(version)
        }
        Action::Stage(place, taken) => {
            of.stage(&kind.stages(fleet)[*place], taken, due, recorder)
                .await
        }
    }
}

/// The object of a step.
struct Object<'a> {
    fleet: &'a Fleet,
    kind: Kind,
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
}

impl Object<'_> {
    async fn stage(
        &self,
        stage: &Stage,
        taken: &Taken,
        due: &Due<Action>,
        recorder: &Recorder,
    ) -> Result<u64, ClientError> {
        let mut version = 0;
        let node = due.node as usize;
        if let Some(event) = &stage.event {
            recorder.record(Note {
                involved: Arc::new(self.involved()),
                event_type: if event.is_warning {
                    EventType::Warning
                } else {
                    EventType::Normal
                },
                reason: event.reason,
                message: event.message.clone(),
                component: COMPONENT.into(),
                action: "",
                related: None,
            });
        }
        if let Some(finalizers) = &taken.finalizers {
            // The list is replaced: only if nobody else has changed it meanwhile.
            let patch = json!({"metadata": {"uid": self.uid, "resourceVersion": taken.version,
                                            "finalizers": finalizers}});
            let merge = PatchType::Merge;
            version = self.patch_text("", merge, patch.to_string()).await?;
        }
        if stage.delete {
            self.delete().await?;
            if self.kind == Kind::Pod {
                self.fleet.progress.pods_stopped.fetch_add(1, Relaxed);
            }
            return Ok(u64::MAX);
        }
        if let Some(template) = &stage.status {
            let made_up;
            let pod_ip = match &taken.pod_ip {
                Some(ip) => ip.as_str(),
                None if template.needs_pod_ip() => {
                    made_up = next_pod_address();
                    &made_up
                }
                None => "",
            };
            let now = now_micros() + self.fleet.nodes.skew_micros(node);
            let status = template.fill(&Known {
                now: &meta::time::format_seconds(now),
                node_ip: &node_address(node),
                pod_ip,
                captured: &taken.captured,
                containers: &taken.pod.containers,
                init_containers: &taken.pod.init_containers,
            });
            if self.kind == Kind::Pod && status["phase"] == "Running" {
                self.fleet.progress.pods_started.fetch_add(1, Relaxed);
            }
            version = self.set_status(status).await?;
        }
        tracing::trace!(stage = stage.name, object = &*due.key, "stage");
        Ok(version)
    }

    fn involved(&self) -> Involved {
        Involved {
            api_version: "v1".into(),
            kind: self.kind.resource().kind.into(),
            namespace: self.namespace.into(),
            name: self.name.into(),
            uid: self.uid.into(),
            resource_version: String::new(),
        }
    }

    async fn set_status(&self, status: Value) -> Result<u64, ClientError> {
        let patch = json!({"metadata": {"uid": self.uid}, "status": status});
        self.patch_text("status", MERGE, patch.to_string()).await
    }

    async fn patch_text(
        &self,
        subresource: &str,
        patch_type: PatchType,
        patch: String,
    ) -> Result<u64, ClientError> {
        let resource = self.kind.resource();
        let reply = self.fleet.client.patch_encoded(
            resource,
            self.namespace,
            self.name,
            subresource,
            patch_type,
            patch.into(),
        );
        let version = self.fleet.replies.version(resource, &reply.await?);
        Ok(version.unwrap_or(0))
    }

    async fn delete(&self) -> Result<(), ClientError> {
        let options = DeleteOptions {
            uid: self.uid.into(),
            grace_period_seconds: Some(0),
            ..DeleteOptions::default()
        };
        let resource = self.kind.resource();
        self.fleet
            .client
            .delete(resource, self.namespace, self.name, &options)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FleetConfig;
    use crate::stages::Stages;

    struct Nobody;

    impl rest::http::Service for Nobody {
        fn call(&self, _: rest::http::Request) -> rest::http::ReplyFuture {
            Box::pin(async { rest::http::Reply::text(503, "nobody") })
        }
    }

    fn fleet(config: FleetConfig) -> Fleet {
        let client = client::Client::new(Arc::new(Nobody), None, "test");
        Fleet::new(client, config, Arc::default())
    }

    fn pod(node: &str) -> Value {
        json!({"metadata": {"namespace": "d", "name": "p", "uid": "u", "resourceVersion": "17",
                            "finalizers": ["keep"], "labels": {"app": "web"}},
               "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
               "status": {"phase": "Pending"}})
    }

    #[test]
    fn pods_of_other_nodes_are_none_of_ours() {
        let fleet = fleet(FleetConfig::new(10));
        let looker = Looker::default();
        let seen = looker
            .look(&fleet, Kind::Pod, &pod("node-0000003"))
            .unwrap();
        assert_eq!((seen.version, seen.node, &*seen.uid), (17, 3, "u"));
        for foreign in ["node-0000010", "worker-1", ""] {
            assert!(
                looker.look(&fleet, Kind::Pod, &pod(foreign)).is_none(),
                "{foreign}"
            );
        }
    }

    #[test]
    fn slow_nodes_take_longer() {
        let fleet = fleet(FleetConfig::new(10));
        let delay = || {
            Looker::default()
                .look(&fleet, Kind::Pod, &pod("node-0000003"))
                .unwrap()
                .delay
        };
        assert_eq!(delay().as_millis(), 500);
        fleet.nodes.set_slowness_tenths(3, 35);
        assert_eq!(delay().as_millis(), 1_750);
    }

    #[test]
    fn a_stage_takes_what_it_needs() {
        let text = "apiVersion: kwok.x-k8s.io/v1alpha1\nkind: Stage\nmetadata: {name: s}\nspec:\n  \
                    resourceRef: {kind: Pod}\n  selector: {matchLabels: {app: web}}\n  delay: {durationMilliseconds: 70}\n  \
                    next:\n    finalizers: {empty: true}\n    statusTemplate: 'message: {{ .metadata.name }}'\n";
        let mut config = FleetConfig::new(10);
        config.stages = Stages::parse(text).unwrap();
        let fleet = fleet(config);
        let seen = Looker::default()
            .look(&fleet, Kind::Pod, &pod("node-0000003"))
            .unwrap();
        assert_eq!(seen.delay.as_millis(), 70);
        let Action::Stage(0, taken) = seen.action else {
            panic!("{:?}", seen.action)
        };
        assert_eq!(taken.captured, [json!("p")]);
        assert_eq!(taken.finalizers, Some(vec![]));
        assert_eq!(taken.version, "17");
        let mut other = pod("node-0000003");
        other["metadata"]["labels"] = json!({});
        assert!(Looker::default().look(&fleet, Kind::Pod, &other).is_none());
    }
}

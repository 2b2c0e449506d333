//! The loop that owns all state: takes events in, plans what is ready, hands plans to the executor.
//!
//! Nothing here waits for the API server. A round is short: events that are there, some plans, then everybody else's
//! turn on this thread.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use client::{Change, Client};
use foldhash::quality::RandomState;
use meta::{Value, object};
use reconcile::garbage::{Graph, OwnerFound};
use reconcile::nodelifecycle::{Lifecycle, TaintEviction};
use reconcile::volume::{PERSISTENT_VOLUMES, STORAGE_CLASSES};
use reconcile::{Action, Pod, action};
use reconcile::{
    cronjob, daemonset, deployment, devicetaint, endpointslice, job, namespace, podgc, replicaset,
    resourceclaim, serviceaccount, statefulset,
};
use tokio::sync::mpsc;

use crate::clock::now_micros;
use crate::cluster::{Cluster, Event};
use crate::controller::Controller;
use crate::departed::Departed;
use crate::execute::{Executor, FailureKind, Job, Report};
use crate::expectations::Expectations;
use crate::feed::{Batch, start};
use crate::queue::{Queue, Verdict};
use crate::tainting::{self, Tainting};
use crate::{ControllersConfig, ControllersProgress};
use client::events::Recorder;

/// Plans of one controller that are carried out at a time.
const PLANS_IN_FLIGHT_MAX: usize = 128;
/// Reports that may wait for the loop.
const REPORTS_WAITING_MAX: usize = 1024;
/// Batches of events taken in before plans are made again.
const BATCHES_A_ROUND_MAX: usize = 16;
/// How long a round may plan before events are looked at again.
const PLANNING_TIME_MAX: Duration = Duration::from_millis(10);
/// A key may use so much of the thread: its next plan waits four times as long as the last one took.
const PACE: u32 = 4;
/// Plans shorter than this are not paced.
const PACED_FROM: Duration = Duration::from_millis(1);
/// Time between two looks at the number of ended pods (k8s pod garbage collector: 20 s).
pub(crate) const ENDED_PODS_INTERVAL: Duration = Duration::from_secs(20);
/// Collection of garbage begins without the feeds that are not complete by then: owners are asked for live.
const GARBAGE_WAIT_MAX: Duration = Duration::from_secs(30);
/// A key whose own write has not come back is planned after this long at the latest.
const OWN_WRITE_WAIT: Duration = Duration::from_secs(5);
/// Longest sleep without any event.
const IDLE: Duration = Duration::from_secs(60);
/// Nodes and pods that the time-driven controllers look at in one go.
const TICK_BUDGET: usize = 64;

/// What must be known before the first plan.
const ESSENTIAL: [reconcile::ResourceRef; 19] = [
    action::PODS,
    action::NODES,
    action::NAMESPACES,
    action::SERVICES,
    action::ENDPOINT_SLICES,
    action::DEPLOYMENTS,
    action::REPLICA_SETS,
    action::REPLICATION_CONTROLLERS,
    action::DAEMON_SETS,
    action::STATEFUL_SETS,
    action::CONTROLLER_REVISIONS,
    action::PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    STORAGE_CLASSES,
    action::JOBS,
    action::CRON_JOBS,
    crate::feed::LEASES,
    action::RESOURCE_CLAIMS,
    action::RESOURCE_CLAIM_TEMPLATES,
];

/// What belongs to one controller.
#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) queue: Queue,
    pub(crate) expectations: Expectations,
    in_flight: usize,
    /// Why the last action of a key failed (and whether it was to create), until one succeeds.
    failures: HashMap<Box<str>, (Option<bool>, String), RandomState>,
    /// Versions that keys' own objects have by our writes, until they are seen, and since when.
    own_versions: HashMap<Box<str>, (i64, Instant), RandomState>,
}

impl Lane {
    /// The key's object is gone, or another one has its name.
    pub(crate) fn forget(&mut self, key: &str) {
        self.expectations.forget(key);
        self.failures.remove(key);
        self.own_versions.remove(key);
    }
}

/// All state of the controllers.
pub(crate) struct Plane {
    pub(crate) config: ControllersConfig,
    pub(crate) cluster: Cluster,
    pub(crate) graph: Graph,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) eviction: TaintEviction,
    /// What each DaemonSet wants of nodes: asked at every change of a node's labels or taints.
    pub(crate) judges: HashMap<Box<str>, daemonset::Judge>,
    /// Nodes that pods are bound to and that do not exist, with the time this was noticed.
    pub(crate) vanished: HashMap<Box<str>, i64>,
    /// Pods with resource claims that are gone.
    pub(crate) departed: Departed,
    /// Classes of which volumes have become free since the last round.
    pub(crate) fresh_classes: HashSet<Box<str>>,
    /// What was last told of claims and volumes that wait, and when.
    pub(crate) told: HashMap<Box<str>, (String, Instant)>,
    /// Devices that pods have to leave.
    pub(crate) taints: devicetaint::Taints,
    /// and what is known of the rules among them.
    pub(crate) tainting: Tainting,
    /// Plans of evictions under way or to be repeated, by pod.
    evictions: HashMap<Arc<str>, Vec<Action>>,
    pub(crate) lanes: Vec<Lane>,
    /// The controller whose turn is first in the next round.
    turn: usize,
    executor: Executor,
    reports: mpsc::Sender<Report>,
    progress: Arc<ControllersProgress>,
    began: Instant,
    started: bool,
    collecting: bool,
}

/// Runs the controllers for ever.
pub(crate) async fn run(
    client: Client,
    config: ControllersConfig,
    progress: Arc<ControllersProgress>,
) {
    let mut batches = start(&client);
    let heeds_rules = config.device_taint_rules;
    let mut rules = heeds_rules.then(|| tainting::follow(&client)).flatten();
    let (sender, mut reports) = mpsc::channel(REPORTS_WAITING_MAX);
    let recorder = Recorder::start(client.clone(), progress.events.clone());
    let executor = Executor::new(
        client,
        recorder,
        progress.clone(),
        config.requests_in_flight_max,
    );
    let mut plane = Plane {
        cluster: Cluster::new(),
        graph: Graph::default(),
        lifecycle: Lifecycle::new(config.node_lifecycle.clone()),
        eviction: TaintEviction::default(),
        judges: HashMap::new(),
        vanished: HashMap::new(),
        departed: Departed::default(),
        fresh_classes: HashSet::new(),
        told: HashMap::new(),
        taints: devicetaint::Taints::default(),
        tainting: Tainting::default(),
        evictions: HashMap::new(),
        lanes: Controller::ALL.iter().map(|_| Lane::default()).collect(),
        turn: 0,
        executor,
        reports: sender,
        config,
        progress,
        began: Instant::now(),
        started: false,
        collecting: false,
    };
    let mut events = Vec::new();
    loop {
        let next = plane.next(Instant::now());
        tokio::select! {
            batch = batches.recv() => match batch {
                Some(batch) => plane.take(batch, &mut events),
                None => return,
            },
            Some(report) = reports.recv() => plane.finished(report, Instant::now()),
            Some(change) = tainting::next(&mut rules) => plane.note_rule(change, Instant::now()),
            () = tokio::time::sleep_until(next.into()) => {}
        }
        for _ in 0..BATCHES_A_ROUND_MAX {
            let Ok(batch) = batches.try_recv() else { break };
            plane.take(batch, &mut events);
        }
        while let Ok(report) = reports.try_recv() {
            plane.finished(report, Instant::now());
        }
        plane.round(Instant::now());
        // A busy plane must not keep its own requests from being made.
        tokio::task::yield_now().await;
    }
}

impl Plane {
    pub(crate) fn lane(&mut self, controller: Controller) -> &mut Lane {
        &mut self.lanes[controller as usize]
    }

    /// Asks for a plan.
    pub(crate) fn add(&mut self, controller: Controller, key: &str, now: Instant) {
        self.lane(controller).queue.add(key, now);
    }

    fn take(&mut self, batch: Batch, events: &mut Vec<Event>) {
        let now = Instant::now();
        self.cluster.look_ahead(batch.feed, &batch.changes);
        for change in batch.changes {
            if let Change::Same(key) = &change {
                self.heartbeat(batch.feed, key);
                continue;
            }
            self.cluster.apply(batch.feed, change, events);
            for event in events.drain(..) {
                self.wake(event, now);
            }
        }
    }

    /// Plans what is ready, controller by controller, one key each in turn.
    fn round(&mut self, now: Instant) {
        if !self.started {
            self.started = ESSENTIAL
                .iter()
                .all(|resource| self.cluster.is_synced(*resource));
            if !self.started {
                return;
            }
            tracing::info!(objects = self.cluster.len(), "controllers start");
            self.progress.started.store(true, Ordering::Release);
        }
        self.offer_volumes(now);
        for lane in &mut self.lanes {
            lane.queue.advance(now);
        }
        self.tick();
        let until = now + PLANNING_TIME_MAX;
        let mut idle = 0;
        while idle < Controller::ALL.len() && Instant::now() < until {
            let controller = Controller::ALL[self.turn];
            self.turn = (self.turn + 1) % Controller::ALL.len();
            let free = self.lane(controller).in_flight < PLANS_IN_FLIGHT_MAX;
            let worked = free
                && (self.work(controller) || (controller == Controller::Garbage && self.collect()));
            idle = if worked { 0 } else { idle + 1 };
        }
        self.progress
            .objects
            .store(self.cluster.len(), Ordering::Relaxed);
        let waiting: usize = self.lanes.iter().map(|lane| lane.queue.ready()).sum();
        self.progress
            .waiting
            .store(waiting + self.graph.queued(), Ordering::Relaxed);
    }

    /// Until when the loop may sleep.
    fn next(&self, now: Instant) -> Instant {
        let mut next = now + IDLE;
        if !self.started {
            return next.min(now + Duration::from_secs(1));
        }
        for lane in self.lanes.iter() {
            if lane.in_flight < PLANS_IN_FLIGHT_MAX && lane.queue.ready() > 0 {
                return now;
            }
            next = lane.queue.next_due().map_or(next, |due| next.min(due));
        }
        let has_room = |controller: Controller| {
            self.lanes[controller as usize].in_flight < PLANS_IN_FLIGHT_MAX
        };
        if self.graph.queued() > 0 && has_room(Controller::Garbage) {
            next = next.min(if self.collecting {
                now
            } else {
                now + Duration::from_secs(1)
            });
        }
        let micros = now_micros();
        for (controller, due) in [
            (Controller::NodeLifecycle, self.lifecycle.next_micros()),
            (Controller::Eviction, self.eviction.next_micros()),
        ] {
            if let Some(due) = due.filter(|_| has_room(controller)) {
                let wait = u64::try_from(due.saturating_sub(micros)).unwrap_or(0);
                next = next.min(now + Duration::from_micros(wait).min(IDLE));
            }
        }
        next
    }

    /// Lets the time-driven controllers do what is due.
    fn tick(&mut self) {
        let now = now_micros();
        if self.lane(Controller::NodeLifecycle).in_flight < PLANS_IN_FLIGHT_MAX
            && self.lifecycle.next_micros().is_some_and(|due| due <= now)
        {
            let (mut actions, pods) = (Vec::new(), self.cluster.pods());
            self.lifecycle
                .tick(now, TICK_BUDGET, &|node| pods.on_node(node), &mut actions);
            for (node, plan) in plans_by_node(actions) {
                self.send(Controller::NodeLifecycle, node.into(), None, plan);
            }
        }
        for _ in 0..TICK_BUDGET {
            let free = self.lane(Controller::Eviction).in_flight < PLANS_IN_FLIGHT_MAX;
            if !free || self.eviction.next_micros().is_none_or(|due| due > now) {
                break;
            }
            let mut actions = Vec::new();
            self.eviction.tick(now, 1, &mut actions);
            self.evict(actions);
        }
    }

    /// Carries out what is wanted about one pod on a tainted node.
    pub(crate) fn evict(&mut self, actions: Vec<Action>) {
        let pod = actions.iter().find_map(|action| match action {
            Action::Delete {
                namespace, name, ..
            } => Some(format!("{namespace}/{name}")),
            _ => None,
        });
        match pod {
            Some(pod) => {
                let key: Arc<str> = pod.into();
                self.evictions.insert(key.clone(), actions.clone());
                self.send(Controller::Eviction, key, None, actions);
            }
            // Events only.
            None if !actions.is_empty() => {
                self.send(Controller::Eviction, "".into(), None, actions)
            }
            None => {}
        }
    }

    /// Looks at one object of the garbage collector's queue.
    fn collect(&mut self) -> bool {
        self.collecting = self.collecting
            || self.cluster.is_all_synced()
            || self.began.elapsed() > GARBAGE_WAIT_MAX;
        if !self.collecting || self.graph.queued() == 0 {
            return false;
        }
        let mut actions = Vec::new();
        self.graph.poll(1, &mut actions);
        let (questions, rest): (Vec<Action>, Vec<Action>) = actions
            .into_iter()
            .partition(|action| matches!(action, Action::CheckOwner { .. }));
        for question in questions {
            if let Action::CheckOwner { uid, .. } = &question {
                self.send(
                    Controller::Garbage,
                    uid.as_str().into(),
                    None,
                    vec![question],
                );
            }
        }
        if !rest.is_empty() {
            self.send(Controller::Garbage, uids_to_retry(&rest).into(), None, rest);
        }
        true
    }

    /// Works on the next key of a controller; false if there is none.
    fn work(&mut self, controller: Controller) -> bool {
        let Some(key) = self.lane(controller).queue.take() else {
            return false;
        };
        self.progress.plans.fetch_add(1, Ordering::Relaxed);
        match controller {
            Controller::Garbage => self.look_again(&key),
            Controller::NodeLifecycle => {
                self.lifecycle.retry(&key);
                self.lane(controller)
                    .queue
                    .done(&key, Verdict::HandedOver, Instant::now());
            }
            Controller::Eviction => {
                let plan = self
                    .evictions
                    .get(&key)
                    .cloned()
                    .filter(|plan| self.is_current(&key, plan));
                let verdict = if plan.is_some() {
                    Verdict::HandedOver
                } else {
                    Verdict::Done
                };
                self.lane(controller)
                    .queue
                    .done(&key, verdict, Instant::now());
                match plan {
                    Some(plan) => self.send(controller, key, None, plan),
                    None => drop(self.evictions.remove(&key)),
                }
            }
            _ => self.plan(controller, key),
        }
        true
    }

    /// A failed action of the garbage collector is thought over.
    fn look_again(&mut self, key: &str) {
        let queued = self.graph.queued();
        for uid in key.split(',') {
            self.graph.owner_checked(uid, OwnerFound::Unknown);
            self.graph.retry(uid);
        }
        let verdict = if self.graph.queued() > queued {
            Verdict::HandedOver
        } else {
            Verdict::Done
        };
        self.lane(Controller::Garbage)
            .queue
            .done(key, verdict, Instant::now());
    }

    /// Whether the pod that an eviction deletes is still there.
    fn is_current(&self, key: &str, plan: &[Action]) -> bool {
        let pod = self.cluster.pod(key);
        let deleted = plan.iter().find_map(|action| match action {
            Action::Delete { uid, .. } => Some(uid.as_str()),
            _ => None,
        });
        pod.is_some_and(|pod| Some(&*pod.uid) == deleted && pod.deletion_micros.is_none())
    }

    /// Plans a key and carries the plan out.
    fn plan(&mut self, controller: Controller, key: Arc<str>) {
        let begin = Instant::now();
        let actions = if self.waits_for_own_write(controller, &key, begin) {
            Vec::new()
        } else {
            self.make_plan(controller, &key, begin)
        };
        let took = begin.elapsed();
        if took >= PACED_FROM {
            self.lane(controller)
                .queue
                .hold(&key, begin + took * (PACE + 1));
        }
        let is_work = |action: &Action| !matches!(action, Action::RequeueAfter(_));
        if actions.iter().any(is_work) {
            let creates_or_deletes =
                |action: &Action| matches!(action, Action::Create { .. } | Action::Delete { .. });
            if controller.expects().is_some() && actions.iter().any(creates_or_deletes) {
                self.lane(controller).expectations.begin(&key);
            }
            let unless_node = (controller == Controller::VanishedNode).then(|| key.to_string());
            self.send(controller, key, unless_node, actions);
            return;
        }
        let requeue = actions.iter().filter_map(|action| match action {
            Action::RequeueAfter(micros) => Some(*micros),
            _ => None,
        });
        let verdict = requeue.min().map_or(Verdict::Done, after);
        self.lane(controller).queue.done(&key, verdict, begin);
    }

    /// A plan made from what we wrote over ourselves would only lose: its event wakes the key.
    fn waits_for_own_write(&mut self, controller: Controller, key: &str, now: Instant) -> bool {
        let Some(resource) = controller.resource() else {
            return false;
        };
        let seen = self.cluster.get(resource, key).map(|kept| kept.version);
        let lane = &mut self.lanes[controller as usize];
        let Some((own, since)) = lane.own_versions.get(key).copied() else {
            return false;
        };
        let until = since + OWN_WRITE_WAIT;
        if seen.is_some_and(|seen| seen < own) && now < until {
            lane.queue.add_at(key, until);
            return true;
        }
        lane.own_versions.remove(key);
        false
    }

    fn send(
        &mut self,
        controller: Controller,
        key: Arc<str>,
        unless_node: Option<String>,
        actions: Vec<Action>,
    ) {
        self.lane(controller).in_flight += 1;
        let (executor, reports) = (self.executor.clone(), self.reports.clone());
        tokio::spawn(async move {
            let report = executor
                .run(Job {
                    controller,
                    key,
                    unless_node,
                    actions,
                })
                .await;
            // Fails only when the plane is gone.
            let _ = reports.send(report).await;
        });
    }

    /// Takes in how a plan went.
    fn finished(&mut self, report: Report, now: Instant) {
        let Report {
            controller,
            key,
            failure,
            created,
            deleted,
            own_version,
            requeue_micros,
            owners,
        } = report;
        for (uid, found) in owners {
            self.graph.owner_checked(&uid, found);
        }
        let lane = &mut self.lanes[controller as usize];
        lane.in_flight = lane.in_flight.saturating_sub(1);
        if matches!(
            controller,
            Controller::Garbage | Controller::NodeLifecycle | Controller::Eviction
        ) {
            match failure {
                Some(_) => lane.queue.fail(&key, now),
                None => {
                    lane.queue.forget(&key);
                    if controller == Controller::Eviction {
                        self.evictions.remove(&key);
                    }
                }
            }
            return;
        }
        if controller == Controller::VolumeClaim {
            self.cluster.claim_planned(&key, failure.is_none());
        }
        let lane = &mut self.lanes[controller as usize];
        if own_version > 0 {
            lane.own_versions.insert((*key).into(), (own_version, now));
        }
        let changed = !created.is_empty() || !deleted.is_empty();
        lane.expectations.end(&key, created, deleted, now);
        if let Some(deadline) = lane.expectations.deadline(&key) {
            lane.queue.add_at(&key, deadline);
        }
        let verdict = match failure {
            None => {
                if changed || controller == Controller::Namespace {
                    lane.failures.remove(&key[..]);
                }
                requeue_micros.map_or(Verdict::Done, after)
            }
            Some(failure) => {
                if failure.kind != FailureKind::Conflict
                    && (failure.creating.is_some() || controller == Controller::Namespace)
                {
                    lane.failures
                        .insert((*key).into(), (failure.creating, failure.message));
                }
                match failure.kind {
                    FailureKind::NamespaceTerminating => Verdict::Done,
                    FailureKind::Conflict | FailureKind::Other => Verdict::Failed,
                }
            }
        };
        lane.queue.done(&key, verdict, now);
    }

    fn make_plan(&mut self, controller: Controller, key: &str, now: Instant) -> Vec<Action> {
        let micros = now_micros();
        let planned = match controller {
            Controller::Deployment => self.plan_deployment(key, micros),
            Controller::ReplicaSet => self.plan_set(controller, action::REPLICA_SETS, key, now),
            Controller::ReplicationController => {
                self.plan_set(controller, action::REPLICATION_CONTROLLERS, key, now)
            }
            Controller::DaemonSet => self.plan_daemon_set(key, now),
            Controller::StatefulSet => self.plan_stateful_set(key, now),
            Controller::Job => self.plan_job(key, now),
            Controller::CronJob => self.plan_cron_job(key, micros),
            Controller::EndpointSlice => self.plan_slices(key, now),
            Controller::Namespace => self.plan_namespace(key, micros),
            Controller::ServiceAccount => self.plan_account(key),
            Controller::VanishedNode => self.plan_vanished_node(key, micros),
            Controller::EndedPods => Some(podgc::plan_ended(
                &self.cluster.pods().ended(),
                self.config.ended_pods_max,
            )),
            Controller::StrayPod => self.plan_stray_pod(key),
            Controller::PodClaims => self.plan_pod_claims(key, now),
            Controller::ResourceClaim => self.plan_claim(key, micros),
            Controller::VolumeClaim => self.plan_volume_claim(key, now),
            Controller::Volume => self.plan_volume(key, now),
            Controller::VolumeProtection => self.plan_volume_protection(key),
            Controller::ClaimProtection => self.plan_claim_protection(key),
            Controller::PodVolumes => self.plan_pod_volumes(key),
            Controller::Provisioner => self.plan_provisioner(key),
            Controller::DeviceTaint => self.plan_device_taints(key, micros),
            Controller::DeviceTaintRule => self.plan_taint_rule(key, micros),
            Controller::Garbage | Controller::NodeLifecycle | Controller::Eviction => None,
        };
        planned.unwrap_or_else(|| {
            if matches!(controller, Controller::VolumeClaim | Controller::Volume) {
                self.told.remove(key);
            }
            self.lane(controller).forget(key);
            Vec::new()
        })
    }

    fn plan_deployment(&self, key: &str, micros: i64) -> Option<Vec<Action>> {
        let wanted = self.cluster.whole(action::DEPLOYMENTS, key)?;
        let sets = self.cluster.sets_around(wanted);
        let live_pods = |uid: &str| self.cluster.pods().live_of_controller(uid);
        let observed = deployment::Observed {
            replica_sets: &sets,
            live_pods: &live_pods,
        };
        Some(deployment::plan(wanted, &observed, micros))
    }

    fn plan_set(
        &mut self,
        controller: Controller,
        resource: reconcile::ResourceRef,
        key: &str,
        now: Instant,
    ) -> Option<Vec<Action>> {
        let set = self.cluster.whole(resource, key)?.clone();
        let uid = object::uid(&set);
        let pods = self.cluster.pods().for_owner(uid, object::namespace(&set));
        let wanted = object::i64_at(&set, &["spec", "replicas"])
            .and_then(|count| usize::try_from(count).ok());
        // Siblings only matter for the choice of what to delete.
        let shrinking = self.cluster.pods().count_of_controller(uid) > wanted.unwrap_or(0);
        let siblings = if shrinking {
            self.sibling_pods(&set)
        } else {
            Vec::new()
        };
        let lane = &mut self.lanes[controller as usize];
        let (creations, deletions) = lane.expectations.in_flight(key, now);
        let failure = lane.failures.get(key).and_then(|(creating, message)| {
            Some(replicaset::Failure {
                creating: (*creating)?,
                message,
            })
        });
        let observed = replicaset::Observed {
            pods: &pods,
            sibling_pods: &siblings,
            creations_in_flight: creations,
            deletions_in_flight: deletions,
            failure,
        };
        Some(replicaset::plan(&set, &observed, now_micros()))
    }

    fn sibling_pods(&self, set: &Value) -> Vec<Arc<Pod>> {
        let Some(deployment) = crate::cluster::controller_uid(set) else {
            return Vec::new();
        };
        let siblings = self.cluster.sets_of(deployment);
        let others = siblings
            .iter()
            .map(|sibling| object::uid(sibling))
            .filter(|uid| *uid != object::uid(set));
        others
            .flat_map(|uid| self.cluster.pods().of_controller(uid))
            .collect()
    }

    fn plan_daemon_set(&mut self, key: &str, now: Instant) -> Option<Vec<Action>> {
        let set = self.cluster.whole(action::DAEMON_SETS, key)?.clone();
        let pods = self
            .cluster
            .pods()
            .for_owner(object::uid(&set), object::namespace(&set));
        let lane = &mut self.lanes[Controller::DaemonSet as usize];
        let (creations_in_flight, deletions_in_flight) = lane.expectations.in_flight(key, now);
        let observed = daemonset::Observed {
            nodes: &self.cluster.nodes(),
            pods: &pods,
            revisions: &self.cluster.revisions_around(&set),
            creations_in_flight,
            deletions_in_flight,
        };
        Some(daemonset::plan(&set, &observed, now_micros()))
    }

    fn plan_stateful_set(&mut self, key: &str, now: Instant) -> Option<Vec<Action>> {
        let set = self.cluster.whole(action::STATEFUL_SETS, key)?.clone();
        let namespace = object::namespace(&set);
        let pods = self.cluster.pods().for_owner(object::uid(&set), namespace);
        let lane = &mut self.lanes[Controller::StatefulSet as usize];
        let (creations_in_flight, deletions_in_flight) = lane.expectations.in_flight(key, now);
        let claim = |name: &str| {
            let key = format!("{namespace}/{name}");
            let found = self.cluster.whole(action::PERSISTENT_VOLUME_CLAIMS, &key);
            found.map(|claim| &**claim)
        };
        let observed = statefulset::Observed {
            pods: &pods,
            revisions: &self.cluster.revisions_around(&set),
            claim: &claim,
            creations_in_flight,
            deletions_in_flight,
        };
        Some(statefulset::plan(&set, &observed, now_micros()))
    }

    fn plan_job(&mut self, key: &str, now: Instant) -> Option<Vec<Action>> {
        let wanted = self.cluster.whole(action::JOBS, key)?.clone();
        let pods = self
            .cluster
            .pods()
            .for_owner(object::uid(&wanted), object::namespace(&wanted));
        let lane = &mut self.lanes[Controller::Job as usize];
        let (creations_in_flight, deletions_in_flight) = lane.expectations.in_flight(key, now);
        let observed = job::Observed {
            pods: &pods,
            creations_in_flight,
            deletions_in_flight,
        };
        Some(job::plan(&wanted, &observed, now_micros()))
    }

    fn plan_cron_job(&self, key: &str, micros: i64) -> Option<Vec<Action>> {
        let cron = self.cluster.whole(action::CRON_JOBS, key)?;
        let has_job = |name: &str| {
            let key = format!("{}/{name}", object::namespace(cron));
            self.cluster.get(action::JOBS, &key).is_some()
        };
        let observed = cronjob::Observed {
            jobs: &self.cluster.jobs_of(object::uid(cron)),
            has_job: &has_job,
        };
        Some(cronjob::plan(cron, &observed, micros))
    }

    fn plan_slices(&mut self, key: &str, now: Instant) -> Option<Vec<Action>> {
        let service = self.cluster.whole(action::SERVICES, key)?.clone();
        let pods = self
            .cluster
            .pods()
            .of_namespace(object::namespace(&service));
        let slices = self.cluster.slices_of(key);
        let lane = &mut self.lanes[Controller::EndpointSlice as usize];
        let (creations_in_flight, _) = lane.expectations.in_flight(key, now);
        let zone_of = |node: &str| self.cluster.zone_of(node);
        let observed = endpointslice::Observed {
            pods: &pods,
            slices: &slices,
            creations_in_flight,
            zone_of: &zone_of,
        };
        Some(endpointslice::plan(&service, &observed))
    }

    fn plan_namespace(&self, key: &str, micros: i64) -> Option<Vec<Action>> {
        let wanted = self.cluster.whole(action::NAMESPACES, key)?;
        let contents: Vec<_> = self.cluster.contents(key).collect();
        let finalizers: Vec<Vec<(&str, usize)>> = contents
            .iter()
            .map(|(_, count)| {
                count
                    .finalizers
                    .iter()
                    .map(|(name, objects)| (&**name, *objects))
                    .collect()
            })
            .collect();
        let remaining: Vec<namespace::Remaining<'_>> = contents
            .iter()
            .zip(&finalizers)
            .map(|((resource, count), finalizers)| namespace::Remaining {
                resource: *resource,
                objects: count.objects,
                undeleted: count.objects.saturating_sub(count.deleting),
                finalizers,
            })
            .collect();
        // A failure of the last round is shown while there is something left; an empty namespace may always go.
        let failure = self.lanes[Controller::Namespace as usize].failures.get(key);
        let deletion_failure = failure
            .map(|(_, message)| message.as_str())
            .filter(|_| !remaining.is_empty());
        let observed = namespace::Observed {
            remaining: &remaining,
            discovery_failure: None,
            deletion_failure,
        };
        Some(namespace::plan(wanted, &observed, micros))
    }

    fn plan_account(&self, key: &str) -> Option<Vec<Action>> {
        // Until the feeds are complete, what is missing may be there.
        if ![action::SERVICE_ACCOUNTS, action::CONFIG_MAPS]
            .into_iter()
            .all(|resource| self.cluster.is_synced(resource))
        {
            return Some(vec![Action::RequeueAfter(100_000)]);
        }
        let wanted = self.cluster.whole(action::NAMESPACES, key)?;
        let root_ca = self.cluster.whole(
            action::CONFIG_MAPS,
            &format!("{key}/{}", serviceaccount::ROOT_CA_CONFIG_MAP),
        );
        let observed = serviceaccount::Observed {
            has_default_account: self
                .cluster
                .get(action::SERVICE_ACCOUNTS, &format!("{key}/default"))
                .is_some(),
            root_ca: root_ca.map(|map| &**map),
        };
        Some(serviceaccount::plan(
            wanted,
            &observed,
            self.config.ca_certificate_pem.as_deref(),
        ))
    }

    fn plan_vanished_node(&mut self, key: &str, micros: i64) -> Option<Vec<Action>> {
        let pods = self.cluster.pods().on_node(key);
        if pods.is_empty() || self.cluster.get(action::NODES, key).is_some() {
            self.vanished.remove(key);
            return None;
        }
        let since = self.vanished.get(key).copied()?;
        Some(podgc::plan_node_gone(
            &pods,
            micros.saturating_sub(since),
            micros,
        ))
    }

    fn plan_pod_claims(&mut self, key: &str, now: Instant) -> Option<Vec<Action>> {
        let pod = self.cluster.pod(key)?.clone();
        let lane = &mut self.lanes[Controller::PodClaims as usize];
        let (creations_in_flight, _) = lane.expectations.in_flight(key, now);
        let find = |resource, name: &str| {
            let key = format!("{}/{name}", pod.namespace);
            self.cluster.whole(resource, &key).map(|found| &**found)
        };
        let observed = resourceclaim::PodObserved {
            claim: &|name| find(action::RESOURCE_CLAIMS, name),
            own: &self.cluster.claims_of(&pod.uid),
            template: &|name| find(action::RESOURCE_CLAIM_TEMPLATES, name),
            creations_in_flight,
        };
        Some(resourceclaim::plan_pod(&pod, &observed))
    }

    fn plan_device_taints(&mut self, key: &str, micros: i64) -> Option<Vec<Action>> {
        let pod = self.cluster.pod(key)?.clone();
        let claim = |name: &str| self.claim_named(&pod.namespace, name);
        let actions = devicetaint::plan(&pod, &claim, &self.taints, micros);
        self.count_evicted(&pod, &actions);
        Some(actions)
    }

    fn plan_claim(&mut self, key: &str, micros: i64) -> Option<Vec<Action>> {
        let claim = self.cluster.whole(action::RESOURCE_CLAIMS, key)?.clone();
        let namespace = object::namespace(&claim);
        let departed = std::cell::RefCell::new(&mut self.departed);
        let cluster = &self.cluster;
        let user = |name: &str, uid: &str| match cluster.pod(&format!("{namespace}/{name}")) {
            Some(pod) if *pod.uid != *uid => resourceclaim::User::Gone,
            // One that has not come to a node will not run any more once it is deleted.
            Some(pod) if pod.has_ended() => resourceclaim::User::Gone,
            Some(pod) if pod.deletion_micros.is_some() && pod.node_name.is_empty() => {
                resourceclaim::User::Gone
            }
            Some(_) => resourceclaim::User::Lives,
            None if departed.borrow_mut().is_gone(uid, micros) => resourceclaim::User::Gone,
            None => resourceclaim::User::Unknown,
        };
        Some(resourceclaim::plan_claim(&claim, &user))
    }

    fn plan_stray_pod(&self, key: &str) -> Option<Vec<Action>> {
        let pod = self.cluster.pod(key)?;
        let owner = pod
            .controller_uid
            .as_deref()
            .and_then(|uid| self.cluster.owner(uid));
        let has_job = matches!(owner, Some((Controller::Job, _)));
        let release = if has_job {
            None
        } else {
            job::release_orphan(pod)
        };
        Some(
            release
                .into_iter()
                .chain(podgc::plan_unbound(pod))
                .collect(),
        )
    }
}

fn after(micros: i64) -> Verdict {
    Verdict::After(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

/// Cuts the life cycle's actions into plans: a patch of a node begins one, and what follows belongs to it.
fn plans_by_node(actions: Vec<Action>) -> Vec<(String, Vec<Action>)> {
    let mut plans: Vec<(String, Vec<Action>)> = Vec::new();
    for action in actions {
        match (&action, plans.last_mut()) {
            (
                Action::Patch {
                    resource: action::NODES,
                    name,
                    ..
                },
                _,
            ) => plans.push((name.clone(), vec![action])),
            (_, Some((_, plan))) => plan.push(action),
            (_, None) => plans.push((String::new(), vec![action])),
        }
    }
    plans
}

/// The uids to look at again if this plan of the garbage collector fails: what it changes and, if references to owners
/// are dropped, the owners, one of which may wait for it.
fn uids_to_retry(actions: &[Action]) -> String {
    let mut uids: Vec<&str> = Vec::new();
    for action in actions {
        match action {
            Action::RemoveOwners { uid, owners, .. } => {
                uids.extend(owners.iter().map(String::as_str));
                // Of many dependents of one owner, the owner speaks for all.
                if actions.len() == 1 {
                    uids.push(uid);
                }
            }
            Action::Delete { uid, .. }
            | Action::RemoveFinalizer { uid, .. }
            | Action::UnblockOwners { uid, .. } => {
                uids.push(uid);
            }
            _ => {}
        }
    }
    uids.sort_unstable();
    uids.dedup();
    uids.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remove_owners(uid: &str, owner: &str) -> Action {
        Action::RemoveOwners {
            resource: action::PODS,
            namespace: "d".into(),
            name: uid.into(),
            uid: uid.into(),
            owners: vec![owner.into()],
        }
    }

    #[test]
    fn a_failed_orphaning_is_retried_by_its_owner() {
        assert_eq!(
            uids_to_retry(&[remove_owners("a", "rs"), remove_owners("b", "rs")]),
            "rs"
        );
        assert_eq!(uids_to_retry(&[remove_owners("a", "rs")]), "a,rs");
    }

    #[test]
    fn each_node_has_a_plan_of_its_own() {
        let patch = |resource, name: &str| Action::Patch {
            resource,
            namespace: String::new(),
            name: name.into(),
            patch_type: reconcile::PatchType::Merge,
            subresource: None,
            body: Value::Null,
        };
        let actions = vec![
            patch(action::NODES, "n1"),
            patch(action::PODS, "p"),
            patch(action::NODES, "n2"),
            patch(action::NODES, "n1"),
        ];
        let plans: Vec<(String, usize)> = plans_by_node(actions)
            .into_iter()
            .map(|(node, plan)| (node, plan.len()))
            .collect();
        assert_eq!(
            plans,
            [("n1".into(), 2), ("n2".into(), 1), ("n1".into(), 1)]
        );
    }
}

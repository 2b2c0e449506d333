//! The scheduler's shell: feeds pending pods to [`placement`] and binds the result.
//!
//! ```text
//!   nodes, pods ─► Scheduler (one task: cluster + queue, no lock) ─► pick, assume ─► bind (many at a time)
//!        ▲                                                                              │
//!        └──────────── the API server's watch ◄─────────────────────────────────────────┘
//! ```
//!
//! Which node a pod goes to is `placement`'s decision alone; what follows from it is in `placing.rs`.

mod claiming;
mod devices;
mod extended;
mod extenders;
mod extending;
mod ganging;
mod leading;
mod measures;
mod metrics;
mod pending;
mod placing;
mod rejections;
mod reserving;
mod roster;
mod settings;
mod shards;
mod special;
mod surroundings;
mod tainting;
mod templates;
mod volumes;
mod work;

pub use extenders::{EXTENDERS_MAX, ExtenderConfig, ExtenderTls};
pub use leading::Elector;
pub use metrics::{Histogram, SchedulerProgress};
pub use settings::{LeaderElection, Settings, SettingsError};
pub use shards::{ANSWER_WAIT, SHARDS_MAX, Shards, serve_shard, serve_shards};

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::events::Recorder;
use client::{Change, Client, Mirror, Reflector};
use placement::queue::{Event, Queue, QueueConfig};
use placement::{Concerned, Config, NodeId, Plugin, PluginSet, PodInfo, PodKey};
use tokio::sync::{mpsc, watch};

use crate::extending::{Extending, SeenNode, SeenPod};
use crate::ganging::Ganging;
use crate::pending::Pending;
use crate::rejections::Rejectors;
use crate::roster::Roster;
use crate::shards::{Placer, REVIVE_INTERVAL};
use crate::surroundings::{Heard, Surroundings, Told};
use crate::tainting::Tainting;
use crate::templates::Templates;
use crate::work::Worker;

/// Changes taken in before pods are placed again, so that neither starves the other.
const CHANGES_AT_ONCE: usize = 2_000;
/// How often parked pods are looked through for those that waited too long (k8s: 30 s).
const FLUSH_INTERVAL: Duration = Duration::from_secs(30);

/// What is asked about volumes.
const OF_VOLUMES: [Plugin; 4] = [
    Plugin::VolumeRestrictions,
    Plugin::NodeVolumeLimits,
    Plugin::VolumeBinding,
    Plugin::VolumeZone,
];

/// One set of rules and the pods it is for.
#[derive(Debug, Clone)]
pub struct ProfileConfig {
    /// Pods with this `spec.schedulerName` are placed by it.
    pub scheduler_name: String,
    /// The rules.
    pub rules: placement::Profile,
    /// Pods with scheduling gates wait (plugin SchedulingGates).
    pub gates: bool,
    /// Others may be evicted for a pod that fits nowhere (plugin DefaultPreemption).
    pub preempts: bool,
    /// Claims that nobody needs are given back before that (plugin DynamicResources).
    pub gives_back_claims: bool,
    /// Longest wait for a pod's volumes to be made.
    pub volumes_wait: Duration,
}

impl Default for ProfileConfig {
    fn default() -> ProfileConfig {
        ProfileConfig {
            scheduler_name: "default-scheduler".into(),
            rules: placement::Profile::default(),
            gates: true,
            preempts: true,
            gives_back_claims: true,
            volumes_wait: Duration::from_secs(600),
        }
    }
}

/// What the scheduler is told.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// The profiles, at least one; pods of other names are left alone.
    pub profiles: Vec<ProfileConfig>,
    /// Wait of a pod after its first failure; it doubles with each further one.
    pub initial_backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
    /// Services of others that are asked about nodes.
    pub extenders: Vec<ExtenderConfig>,
    /// Gangs are heeded: pods of a PodGroup with a least number start together (feature gate GangScheduling).
    pub gangs: bool,
    /// Device taint rules are heeded (feature gate DRADeviceTaintRules).
    pub device_taint_rules: bool,
    /// Seed of hash tables and tie breaks.
    pub seed: u64,
    /// Whether the nodes are divided.
    pub shards: Shards,
}

impl Default for SchedulerConfig {
    fn default() -> SchedulerConfig {
        SchedulerConfig {
            profiles: vec![ProfileConfig::default()],
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
            extenders: Vec::new(),
            gangs: false,
            device_taint_rules: false,
            seed: 0x9e37_79b9_7f4a_7c15,
            shards: Shards::One,
        }
    }
}

impl SchedulerConfig {
    /// What cannot be together is refused.
    ///
    /// # Errors
    /// Why, in one line.
    pub fn check(&self) -> Result<(), String> {
        if self.shards != Shards::One && !self.extenders.is_empty() {
            return Err("extenders cannot be asked about nodes in shards: configure no extenders, or no shards".into());
        }
        Ok(())
    }
}

/// Runs the scheduler until `stop` turns true. Needs a current-thread runtime of its own.
pub async fn run(
    client: Client,
    config: SchedulerConfig,
    progress: Arc<SchedulerProgress>,
    mut stop: watch::Receiver<bool>,
) {
    if let Err(why) = config.check() {
        tracing::error!(why, "the scheduler does not run");
        return;
    }
    let client = client.with_user_agent("kube-scheduler/v1.36.0 megaplane");
    tokio::select! {
        () = Scheduler::new(client, config, progress).run() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

struct Scheduler {
    client: Client,
    config: SchedulerConfig,
    progress: Arc<SchedulerProgress>,
    cluster: Placer,
    /// Shards went or came, and everything is being told again.
    listing: Option<shards::Listing>,
    queue: Queue,
    /// Pods that wait for a node, with what is needed to bind them.
    pending: Pending,
    nodes: Mirror<()>,
    pods: Roster,
    surroundings: Surroundings,
    extending: Extending,
    ganging: Ganging,
    tainting: Tainting,
    /// What happened since pods were last placed: many events of a kind wake the waiting once.
    happened: Vec<Event>,
    /// Nodes that came or changed since then.
    changed_nodes: Vec<NodeId>,
    /// Names of the profiles, in their order.
    names: Vec<Arc<str>>,
    picks: u64,
    started: std::time::Instant,
    random: u64,
}

impl Scheduler {
    fn new(client: Client, config: SchedulerConfig, progress: Arc<SchedulerProgress>) -> Scheduler {
        let seed = config.seed;
        let rules = config.profiles.iter().map(|p| p.rules.clone());
        let names = config.profiles.iter();
        let names: Vec<Arc<str>> = names.map(|p| p.scheduler_name.as_str().into()).collect();
        progress.begin(names.iter().cloned());
        let micros = |wait: Duration| i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        Scheduler {
            names,
            picks: 0,
            started: std::time::Instant::now(),
            changed_nodes: Vec::new(),
            client,
            progress,
            cluster: config.shards.open(Config {
                hash_seed: seed,
                profiles: rules.collect(),
                ..Config::default()
            }),
            listing: None,
            queue: Queue::new(QueueConfig {
                hash_seed: seed,
                initial_backoff_micros: micros(config.initial_backoff),
                max_backoff_micros: micros(config.max_backoff),
                ..QueueConfig::default()
            }),
            pending: Pending::default(),
            nodes: Mirror::default(),
            pods: Roster::default(),
            surroundings: Surroundings::default(),
            extending: Extending::new(&config.extenders),
            ganging: Ganging::new(config.gangs, seed),
            tainting: Tainting::new(config.device_taint_rules),
            happened: Vec::new(),
            random: seed | 1,
            config,
        }
    }

    async fn run(mut self) {
        let (nodes, pods) = (work::resource("", "nodes"), work::resource("", "pods"));
        let lens = self.extending.lens();
        let follow_nodes = |client: &Client| {
            let of_nodes = lens.clone();
            // Kubelets send their status every five minutes, as a rule with nothing but new times.
            let reflector = Reflector::new(client.clone(), nodes)
                .ignoring(&["status.conditions.lastHeartbeatTime"]);
            reflector.spawn(move |object| of_nodes.node(object))
        };
        let follow_pods = |client: &Client| {
            let (of_pods, mut templates) = (lens.clone(), Templates::new(lens.clone()));
            let reflector = Reflector::new(client.clone(), pods);
            reflector.spawn_reading(
                move |message, _| templates.read(message),
                move |object| of_pods.pod(&object),
            )
        };
        let mut node_changes = follow_nodes(&self.client);
        let mut pod_changes = follow_pods(&self.client);
        let mut told = surroundings::follow(&self.client);
        let mut groups = self.ganging.follow(&self.client);
        let mut rules = self.tainting.follow(&self.client);
        let events = Recorder::start(self.client.clone(), self.progress.events.clone());
        let (worker, mut done) = Worker::new(self.client.clone(), events, self.progress.clone());
        let mut flush = tokio::time::interval(FLUSH_INTERVAL);
        let mut revive = tokio::time::interval(REVIVE_INTERVAL);
        let mut cut_short = false;
        loop {
            // Pods beyond the last turn's share wait for nothing but their turn.
            let pause = if cut_short {
                Duration::ZERO
            } else {
                self.until_backoff()
            };
            tokio::select! {
                change = node_changes.recv() => {
                    let Some(change) = change else { return };
                    self.node(change);
                    drain(&mut node_changes, |change| self.node(change));
                }
                change = pod_changes.recv() => {
                    let Some(change) = change else { return };
                    self.pod(change);
                    drain(&mut pod_changes, |change| self.pod(change));
                }
                fact = told.recv() => {
                    let Some(fact) = fact else { return };
                    self.told(fact);
                    drain(&mut told, |fact| self.told(fact));
                }
                change = next(&mut groups) => {
                    let Some(change) = change else { return };
                    self.group(change);
                    if let Some(groups) = &mut groups {
                        drain(groups, |change| self.group(change));
                    }
                }
                change = next(&mut rules) => {
                    let Some(change) = change else { return };
                    self.taint_rule(change);
                    if let Some(rules) = &mut rules {
                        drain(rules, |change| self.taint_rule(change));
                    }
                }
                result = done.recv() => {
                    let Some(result) = result else { return };
                    self.done(result);
                    drain(&mut done, |result| self.done(result));
                }
                () = tokio::time::sleep(pause) => {}
                () = worker.status_room(), if self.pending.has_untold() => {}
                _ = revive.tick(), if self.cluster.is_many() => self.revive_shards(),
                _ = flush.tick() => {
                    self.queue.flush(now_micros());
                    if !self.is_synced() && self.started.elapsed() >= FLUSH_INTERVAL {
                        tracing::warn!(
                            nodes = self.nodes.is_synced(),
                            pods = self.pods.is_synced(),
                            others = self.surroundings.is_synced(),
                            "not everything could be listed yet: no pod is placed until then"
                        );
                    }
                }
            }
            cut_short = self.is_synced() && self.place(&worker);
            self.cluster.flush();
            if self.begin_listing() {
                (node_changes, pod_changes) =
                    (follow_nodes(&self.client), follow_pods(&self.client));
            }
            self.pending
                .tell(|address, telling| worker.write_status(address, telling));
            self.report();
        }
    }

    /// Choosing among half a cluster would be choosing wrongly.
    fn is_synced(&self) -> bool {
        self.nodes.is_synced()
            && self.pods.is_synced()
            && self.surroundings.is_synced()
            && self.ganging.is_synced()
            && self.tainting.is_synced()
            && self.cluster.must_list().is_none()
    }

    fn happened(&mut self, event: Event) {
        if !self.happened.contains(&event) {
            self.happened.push(event);
        }
    }

    fn told(&mut self, fact: Told) {
        for heard in self.surroundings.take(fact, &mut self.cluster) {
            match heard {
                Heard::Namespaces => self.happened(Event::NamespaceLabels),
                Heard::Storage(concerned) => self.look_again(&concerned),
                Heard::Devices(concerned) => self.concern(concerned),
            }
        }
    }

    /// Pods with claims wait for other nodes now, or for none any more.
    fn look_again(&mut self, concerned: &Concerned) {
        let pods = match concerned {
            Concerned::Claim(claim) => self.pending.with_claim(claim),
            Concerned::Everybody => self.pending.with_claims(),
            Concerned::Waiting(event) => {
                self.happened(*event);
                return;
            }
        };
        let now = now_micros();
        for pod in pods {
            let Some(info) = self.pending.info(pod) else {
                continue;
            };
            let ours = self.names.iter().position(|n| **n == *info.scheduler_name);
            self.see(pod, (*info).clone(), ours, now);
        }
    }

    fn node(&mut self, change: Change<Result<SeenNode, String>>) {
        let listed = matches!(change, Change::Synced);
        let change = match change {
            Change::Apply(key, Ok(SeenNode { info, object })) => {
                self.extending.note_node(&info.name, object);
                let changed = self.cluster.upsert_node(&info);
                if let Some(node) = self.cluster.node(&info.name)
                    && !changed.is_empty()
                    && !self.changed_nodes.contains(&node)
                    && self.changed_nodes.len() <= placing::CHANGED_NODES_MAX
                {
                    self.changed_nodes.push(node);
                }
                for event in Event::of_node(changed) {
                    self.happened(event);
                }
                Change::Apply(key, ())
            }
            Change::Apply(key, Err(why)) => {
                tracing::warn!(node = key, why, "a node cannot be read and gets no pods");
                Change::Delete(key)
            }
            Change::Same(key) => Change::Same(key),
            Change::Delete(key) => Change::Delete(key),
            Change::Restart => Change::Restart,
            Change::Synced => Change::Synced,
        };
        for name in self.nodes.take_name(change) {
            self.remove_node(&name);
        }
        if listed {
            self.note_list(|listing| listing.nodes = true);
        }
    }

    fn remove_node(&mut self, name: &str) {
        self.extending.forget_node(name);
        if self.cluster.remove_node(name) {
            self.happened(Event::NodeDelete);
        }
    }

    fn pod(&mut self, change: Change<Result<SeenPod, String>>) {
        let now = now_micros();
        let listed = matches!(change, Change::Synced);
        let change = match change {
            Change::Apply(key, Ok(SeenPod { mut info, concerns })) => {
                let pod = PodKey::of(&info.uid);
                self.extending.note_pod(pod, concerns);
                let ours = self.names.iter().position(|n| **n == *info.scheduler_name);
                // A limit of profiles is far below what 16 bits hold: each stands in a file of 4 MiB.
                info.spec.profile = ours.and_then(|at| u16::try_from(at).ok()).unwrap_or(0);
                self.see(pod, info, ours, now);
                Change::Apply(key, pod)
            }
            Change::Apply(key, Err(why)) => {
                tracing::warn!(pod = key, why, "a pod cannot be read and is not scheduled");
                Change::Delete(key)
            }
            Change::Same(key) => Change::Same(key),
            Change::Delete(key) => Change::Delete(key),
            Change::Restart => Change::Restart,
            Change::Synced => Change::Synced,
        };
        // Another pod of the same name may have taken its place.
        for gone in self.pods.take(change) {
            self.gone(gone, now);
        }
        if listed {
            self.note_list(|listing| listing.pods = true);
        }
    }

    fn see(&mut self, pod: PodKey, mut info: PodInfo, ours: Option<usize>, now: i64) {
        let was_there = self.cluster.has_pod(pod);
        if self.cluster.observe_pod(&info) {
            // A pod that changes where it is may ask for less, and other terms may mean it.
            if was_there {
                self.happened(Event::AssignedPodDelete);
            }
            if !info.finished {
                self.happened(Event::AssignedPodAdd);
            }
        }
        let held_back = self.see_in_group(pod, &info);
        let waits = info.node.is_none() && !info.finished && !info.deleting;
        let Some(profile) = ours.filter(|_| waits) else {
            if info.deleting && info.node.is_none() {
                self.leave_gang(pod, true);
            }
            self.drop_pending(pod, now);
            return;
        };
        // A pod that is being bound is not waiting, whatever an older event still shows.
        if self.cluster.is_assumed(pod) {
            return;
        }
        let filters = self.config.profiles[profile].rules.filters;
        if filters.intersects(PluginSet::of(&OF_VOLUMES)) {
            info.spec.volumes = self.cluster.volumes_of(&info);
        }
        self.surroundings.devices.note_pod(pod, &info);
        let mut gated = false;
        if !filters.contains(Plugin::DynamicResources) {
            if !info.resource_claims.is_empty() {
                info.not_considered.push("resourceClaims");
            }
        } else if let Some(noted) = self.surroundings.devices.info(pod) {
            let outcome = self.surroundings.devices.outcome(&noted, now);
            info.spec.devices = outcome.devices;
            gated = outcome.gated;
        }
        if !info.claims.is_empty() && !filters.contains(Plugin::VolumeBinding) {
            info.not_considered.push("volumes");
        }
        let class = self.cluster.class_of(&info.spec);
        self.cluster.retain_class(class);
        let before = self.pending.insert(pod, &info, class, &self.names[profile]);
        self.see_nomination(pod, &info, class, before.as_ref());
        if let Some(old) = before {
            self.cluster.release_class(old.class);
        }
        let entry = placement::queue::Pending {
            pod,
            class,
            priority: info.spec.priority,
            gated: gated || held_back || info.gated && self.config.profiles[profile].gates,
        };
        if entry.gated {
            // The first that keeps it out is the one that says so.
            let by = match (info.gated && self.config.profiles[profile].gates, gated) {
                (true, _) => Rejectors::GATES,
                (false, true) => PluginSet::of(&[Plugin::DynamicResources]).into(),
                (false, false) => Rejectors::GANG,
            };
            self.pending.note_rejection(pod, by);
        }
        if self.queue.add(entry, now).is_err() {
            tracing::error!(pod = %info.name, "the scheduling queue is full: the pod waits for the next change of it");
            self.drop_pending(pod, now);
        }
    }

    fn gone(&mut self, pod: PodKey, now: i64) {
        self.leave_gang(pod, true);
        if self.cluster.remove_pod(pod) {
            self.happened(Event::AssignedPodDelete);
        }
        self.give_back_volumes(pod);
        self.drop_pending(pod, now);
    }

    /// Others may have the volumes a pod was given.
    fn give_back_volumes(&mut self, pod: PodKey) {
        if self.cluster.give_back_volumes(pod) {
            self.happened(Event::VolumeUpdate);
        }
    }

    fn drop_pending(&mut self, pod: PodKey, now: i64) {
        self.extending.forget_pod(pod);
        self.queue.remove(pod, now);
        self.surroundings.devices.forget_pod(pod);
        self.cluster.withdraw_nomination(pod);
        if let Some(class) = self.pending.remove(pod) {
            self.cluster.release_class(class);
        }
    }

    /// Time until the next pod leaves its back-off.
    fn until_backoff(&mut self) -> Duration {
        let longest = self.ganging.pause().unwrap_or(FLUSH_INTERVAL);
        let Some(at) = self.queue.next_backoff_micros() else {
            return longest;
        };
        let micros = at.saturating_sub(now_micros()).max(1_000);
        Duration::from_micros(micros.unsigned_abs()).min(longest)
    }

    fn report(&self) {
        let counts = self.queue.counts();
        let synced = self.is_synced();
        self.progress.synced.store(synced, Ordering::Relaxed);
        let (nodes, pods) = (self.cluster.nodes(), self.cluster.pods());
        self.progress.nodes.store(nodes, Ordering::Relaxed);
        self.progress.pods.store(pods, Ordering::Relaxed);
        let assumed = self.cluster.assumed_pods();
        self.progress.assumed_pods.store(assumed, Ordering::Relaxed);
        self.progress.note_rejections(self.pending.rejections());
        self.progress.note_incoming(self.queue.incoming());
        self.progress.active.store(counts.active, Ordering::Relaxed);
        self.progress
            .backoff
            .store(counts.backoff, Ordering::Relaxed);
        self.progress.parked.store(counts.parked, Ordering::Relaxed);
        self.progress.gated.store(counts.gated, Ordering::Relaxed);
    }
}

/// The next change of what is followed; never, where nothing is.
async fn next<T>(receiver: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

fn drain<T>(receiver: &mut mpsc::Receiver<T>, mut take: impl FnMut(T)) {
    for _ in 0..CHANGES_AT_ONCE {
        match receiver.try_recv() {
            Ok(change) => take(change),
            Err(_) => return,
        }
    }
}

/// xorshift64*: ties are broken evenly, and equally in every run with one seed.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

fn now_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| i64::try_from(age.as_micros()).unwrap_or(i64::MAX))
}

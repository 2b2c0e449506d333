//! Pending pods: who is next, who waits for time, who waits for the cluster to change.
//!
//! - *active*: may be tried now; highest priority first, then longest queued.
//! - *backoff*: failed recently; tried again when its time has come (or, when nobody else is left, at once).
//! - *parked*: did not fit; kept by class, for what one pod of a class was told holds for all of them. An
//!   event that may help wakes the class: its first pod is tried, and only when that finds a node does
//!   the next one follow. So an event costs the number of classes, not the number of pods. A pod that has a
//!   node in view is parked *alone*: what holds for it does not hold for others of its class.
//! - *gated*: has scheduling gates; waits until they are gone.
//!
//! A pod may be *held* while others are evicted for it: what would wake it does so when it is let go.
//!
//! The queue names classes but does not own them: retain a class for each pod that waits.
//!
//! Time comes from the caller, in microseconds. Does not know nodes, scores or why a pod did not fit beyond
//! the set of plugins that said no.

use crate::cluster::ClassId;
use crate::fleet::NodeChange;
use crate::hashing::{Hashing, hashing};
use crate::key::PodKey;
use crate::verdict::{Plugin, PluginSet};
use hashbrown::HashMap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

/// Places of pods that went elsewhere, tolerated beyond the number of pods that are there.
const VOID_PLACES_SLACK: usize = 1_024;

/// Waiting times and limits, with kube-scheduler's defaults.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// Wait after the first failure; it doubles with each further one.
    pub initial_backoff_micros: i64,
    /// The longest wait.
    pub max_backoff_micros: i64,
    /// A parked class is tried again after this long though nothing happened.
    pub unschedulable_max_micros: i64,
    /// Try pods in backoff early when nobody else is left.
    pub pop_from_backoff: bool,
    /// Pods in the queue, whatever their state; more are refused. About 200 bytes each.
    pub pods_max: usize,
    /// Seed of the hash tables.
    pub hash_seed: u64,
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig {
            initial_backoff_micros: 1_000_000,
            max_backoff_micros: 10_000_000,
            unschedulable_max_micros: 300_000_000,
            pop_from_backoff: true,
            pods_max: 4_000_000,
            hash_seed: 0,
        }
    }
}

/// Something that happened in the cluster and may help pods that did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// A node joined.
    NodeAdd,
    /// A node offers other amounts.
    NodeAllocatable,
    /// A node's labels changed.
    NodeLabels,
    /// A node's taints or cordon changed.
    NodeTaints,
    /// A node is gone.
    NodeDelete,
    /// A pod was bound, or a bound one's labels changed.
    AssignedPodAdd,
    /// A bound pod went, finished or shrank, or an assumed one was forgotten.
    AssignedPodDelete,
    /// A namespace's labels changed.
    NamespaceLabels,
    /// A PersistentVolume came.
    VolumeAdd,
    /// One changed.
    VolumeUpdate,
    /// What a node takes of volumes is known now.
    CsiNodeAdd,
    /// It takes others now.
    CsiNodeUpdate,
    /// A driver no longer tells what it has room for.
    CsiDriverUpdate,
    /// A driver has room for volumes somewhere,
    StorageCapacityAdd,
    /// or more than it had.
    StorageCapacityUpdate,
    /// A volume was detached.
    VolumeAttachmentDelete,
    /// A node declares other features.
    NodeFeatures,
    /// A resource claim was allocated otherwise, or gave its devices back.
    ResourceClaim,
    /// Devices came or changed.
    ResourceSlice,
    /// A class of devices came or changed.
    DeviceClass,
}

const EVENTS: [Event; 20] = [
    Event::NodeAdd,
    Event::NodeAllocatable,
    Event::NodeLabels,
    Event::NodeTaints,
    Event::NodeDelete,
    Event::AssignedPodAdd,
    Event::AssignedPodDelete,
    Event::NamespaceLabels,
    Event::VolumeAdd,
    Event::VolumeUpdate,
    Event::CsiNodeAdd,
    Event::CsiNodeUpdate,
    Event::CsiDriverUpdate,
    Event::StorageCapacityAdd,
    Event::StorageCapacityUpdate,
    Event::VolumeAttachmentDelete,
    Event::NodeFeatures,
    Event::ResourceClaim,
    Event::ResourceSlice,
    Event::DeviceClass,
];

impl Event {
    /// The plugins whose no may turn to yes.
    fn helps(self) -> PluginSet {
        const COMPANY: [Plugin; 2] = [Plugin::PodTopologySpread, Plugin::InterPodAffinity];
        match self {
            Event::NodeAdd => PluginSet::ALL,
            Event::NodeAllocatable => PluginSet::of(&[Plugin::NodeResourcesFit]),
            Event::NodeLabels => PluginSet::of(&[
                Plugin::NodeAffinity,
                Plugin::VolumeBinding,
                Plugin::VolumeZone,
                Plugin::DynamicResources,
            ])
            .union(&COMPANY),
            Event::NodeTaints => PluginSet::of(&[
                Plugin::NodeUnschedulable,
                Plugin::TaintToleration,
                Plugin::PodTopologySpread,
            ]),
            Event::ResourceClaim | Event::ResourceSlice | Event::DeviceClass => {
                PluginSet::of(&[Plugin::DynamicResources])
            }
            Event::NodeDelete => PluginSet::of(&[Plugin::PodTopologySpread]),
            Event::NodeFeatures => PluginSet::of(&[Plugin::NodeDeclaredFeatures]),
            Event::AssignedPodAdd | Event::NamespaceLabels => PluginSet::of(&COMPANY),
            Event::AssignedPodDelete => PluginSet::of(&[
                Plugin::NodePorts,
                Plugin::NodeResourcesFit,
                Plugin::VolumeRestrictions,
                Plugin::NodeVolumeLimits,
            ])
            .union(&COMPANY),
            Event::VolumeAdd | Event::VolumeUpdate => {
                PluginSet::of(&[Plugin::VolumeBinding, Plugin::VolumeZone])
            }
            Event::CsiNodeAdd | Event::CsiNodeUpdate => PluginSet::of(&[Plugin::NodeVolumeLimits]),
            Event::CsiDriverUpdate | Event::StorageCapacityAdd | Event::StorageCapacityUpdate => {
                PluginSet::of(&[Plugin::VolumeBinding])
            }
            Event::VolumeAttachmentDelete => PluginSet::of(&[Plugin::NodeVolumeLimits]),
        }
    }

    /// The events a node's change amounts to.
    pub fn of_node(change: NodeChange) -> impl Iterator<Item = Event> {
        [
            (change.added, Event::NodeAdd),
            (change.allocatable, Event::NodeAllocatable),
            (change.labels, Event::NodeLabels),
            (change.taints, Event::NodeTaints),
            (change.features, Event::NodeFeatures),
        ]
        .into_iter()
        .filter_map(|(happened, event)| happened.then_some(event))
    }
}

/// What brought a pod to where it waits, besides events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Event(Event),
    Add,
    Update,
    Failure,
    BackoffComplete,
    PopFromBackoff,
    Timeout,
    Activate,
}

/// Names of causes, as upstream's metrics have them; events first.
const CAUSES: [&str; 27] = [
    "NodeAdd",
    "NodeUpdateNodeAllocatable",
    "NodeUpdateNodeLabel",
    "NodeUpdateNodeTaint",
    "NodeDelete",
    "AssignedPodAdd",
    "AssignedPodDelete",
    "NamespaceUpdate",
    "PersistentVolumeAdd",
    "PersistentVolumeUpdate",
    "CSINodeAdd",
    "CSINodeUpdate",
    "CSIDriverUpdate",
    "CSIStorageCapacityAdd",
    "CSIStorageCapacityUpdate",
    "VolumeAttachmentDelete",
    "NodeUpdateNodeDeclaredFeature",
    "ResourceClaimUpdate",
    "ResourceSliceUpdate",
    "DeviceClassUpdate",
    "UnscheduledPodAdd",
    "UnscheduledPodUpdate",
    "ScheduleAttemptFailure",
    "BackoffComplete",
    "PopFromBackoffQ",
    "UnschedulableTimeout",
    "ForceActivate",
];
/// Names of the places where pods wait, as upstream's metrics have them.
const PLACES: [&str; 4] = ["active", "backoff", "unschedulable", "gated"];

impl Cause {
    fn number(self) -> usize {
        let others = EVENTS.len();
        match self {
            Cause::Event(event) => event as usize,
            Cause::Add => others,
            Cause::Update => others + 1,
            Cause::Failure => others + 2,
            Cause::BackoffComplete => others + 3,
            Cause::PopFromBackoff => others + 4,
            Cause::Timeout => others + 5,
            Cause::Activate => others + 6,
        }
    }
}

/// A pod as the queue wants it.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    /// Uid.
    pub pod: PodKey,
    /// Class.
    pub class: ClassId,
    /// Priority: higher goes first.
    pub priority: i32,
    /// Scheduling gates are left.
    pub gated: bool,
}

/// A pod whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Uid.
    pub pod: PodKey,
    /// Class.
    pub class: ClassId,
    /// This is its so-manyeth try, from 1.
    pub attempt: u32,
}

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// How many pods wait for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// May be tried now.
    pub active: usize,
    /// Wait for time.
    pub backoff: usize,
    /// Wait for an event.
    pub parked: usize,
    /// Wait for their gates.
    pub gated: usize,
    /// Being tried.
    pub in_flight: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Active,
    Backoff,
    Parked,
    Gated,
    InFlight,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    class: ClassId,
    priority: i32,
    attempts: u32,
    failures: u32,
    errors: u32,
    stage: Stage,
    /// Came out of a woken class: its fate decides whether the next one follows.
    probing: bool,
    /// Parked by itself, not with its class.
    alone: bool,
    /// Others are being evicted for it: it does not become active.
    held: bool,
    /// Something would have made it active while it was held.
    missed: bool,
    /// Since when it has been queued, for the order.
    queued_micros: i64,
    backoff_until_micros: i64,
    /// Distinguishes this stay in a lane from earlier ones; also the order among equals.
    stay: u64,
    /// The last event when it was popped.
    popped_at_event: u64,
}

type Place = (i64, u64, PodKey);
/// Until when, then the order among those that may leave together.
type Wait = (i64, Reverse<i32>, i64, u64, PodKey);

/// Backoffs end with the second they end in, so that what failed together is tried together, by priority.
const BACKOFF_WINDOW_MICROS: i64 = 1_000_000;

/// Pods of one priority: mostly in order of arrival, and those whose time of queueing lies further back.
#[derive(Debug, Default)]
struct Lane {
    arrivals: VecDeque<Place>,
    returned: BinaryHeap<Reverse<Place>>,
}

impl Lane {
    fn push(&mut self, place: Place) {
        match self.arrivals.back() {
            Some(&last) if place < last => self.returned.push(Reverse(place)),
            _ => self.arrivals.push_back(place),
        }
    }

    fn peek(&self) -> Option<Place> {
        let returned = self.returned.peek().map(|r| r.0);
        match (self.arrivals.front().copied(), returned) {
            (Some(a), Some(r)) => Some(a.min(r)),
            (a, r) => a.or(r),
        }
    }

    fn pop(&mut self) {
        let first = self.peek();
        if self.arrivals.front().copied() == first {
            self.arrivals.pop_front();
        } else {
            self.returned.pop();
        }
    }
}

#[derive(Debug)]
struct ParkedClass {
    pods: BTreeSet<(Reverse<i32>, i64, u64, PodKey)>,
    rejected_by: PluginSet,
    since_micros: i64,
    /// A pod of the class is on its way to be tried; the others follow if it succeeds.
    probe: Option<PodKey>,
    /// What woke the class last.
    cause: Cause,
}

/// See the module's head.
#[derive(Debug)]
pub struct Queue {
    config: QueueConfig,
    entries: HashMap<PodKey, Entry, Hashing>,
    active: BTreeMap<Reverse<i32>, Lane>,
    /// Places in all lanes, void ones included.
    lane_places: usize,
    /// Waits that may be cut short, and those that follow an error and may not.
    backoff: BinaryHeap<Reverse<Wait>>,
    error_backoff: BinaryHeap<Reverse<Wait>>,
    parked: HashMap<ClassId, ParkedClass, Hashing>,
    /// Pods parked by themselves, with the plugins that rejected nodes.
    alone: HashMap<PodKey, PluginSet, Hashing>,
    /// For each kind of event, when it last happened.
    last_events: [u64; EVENTS.len()],
    events: u64,
    stays: u64,
    counts: Counts,
    /// Pods that came to a place, by cause.
    incoming: [[u64; PLACES.len()]; CAUSES.len()],
}

impl Queue {
    /// An empty queue.
    pub fn new(config: QueueConfig) -> Queue {
        let hashing = hashing(config.hash_seed);
        Queue {
            entries: HashMap::with_hasher(hashing.clone()),
            active: BTreeMap::new(),
            lane_places: 0,
            backoff: BinaryHeap::new(),
            error_backoff: BinaryHeap::new(),
            parked: HashMap::with_hasher(hashing.clone()),
            alone: HashMap::with_hasher(hashing),
            last_events: [0; EVENTS.len()],
            events: 0,
            stays: 0,
            counts: Counts::default(),
            incoming: [[0; PLACES.len()]; CAUSES.len()],
            config,
        }
    }

    /// Pods in the queue, those being tried included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is nobody waiting or being tried?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The priority of a pod in the queue.
    pub fn priority(&self, pod: PodKey) -> Option<i32> {
        self.entries.get(&pod).map(|entry| entry.priority)
    }

    /// How many pods wait for what.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How often pods came to a place since the start: cause, place, times. Names as in upstream's metrics.
    pub fn incoming(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        CAUSES.iter().zip(&self.incoming).flat_map(|(cause, row)| {
            let cells = PLACES.iter().zip(row);
            cells.map(move |(place, times)| (*cause, *place, *times))
        })
    }

    fn note_incoming(&mut self, stage: Stage, cause: Cause) {
        let place = match stage {
            Stage::Active => 0,
            Stage::Backoff => 1,
            Stage::Parked => 2,
            Stage::Gated => 3,
            Stage::InFlight => return,
        };
        self.incoming[cause.number()][place] += 1;
    }

    /// A new pod, or a changed one: a change of class, priority or gates gives a waiting pod a fresh try
    /// (after its backoff), anything else leaves it where it is.
    pub fn add(&mut self, pending: Pending, now_micros: i64) -> Result<(), Full> {
        let mut cause = Cause::Add;
        if let Some(entry) = self.entries.get_mut(&pending.pod) {
            cause = Cause::Update;
            let same = entry.class == pending.class
                && entry.priority == pending.priority
                && (entry.stage == Stage::Gated) == pending.gated;
            if entry.stage == Stage::InFlight {
                // Its turn is under way; what it is now counts from the next one on.
                entry.class = pending.class;
                entry.priority = pending.priority;
                return Ok(());
            }
            if same {
                return Ok(());
            }
            self.withdraw(pending.pod, now_micros);
            if let Some(entry) = self.entries.get_mut(&pending.pod) {
                entry.class = pending.class;
                entry.priority = pending.priority;
            }
        } else {
            if self.entries.len() >= self.config.pods_max {
                return Err(Full);
            }
            let entry = Entry {
                class: pending.class,
                priority: pending.priority,
                attempts: 0,
                failures: 0,
                errors: 0,
                stage: Stage::Gated,
                probing: false,
                alone: false,
                held: false,
                missed: false,
                queued_micros: now_micros,
                backoff_until_micros: i64::MIN,
                stay: 0,
                popped_at_event: 0,
            };
            self.entries.insert(pending.pod, entry);
        }
        let held = self.entries.get(&pending.pod).is_some_and(|e| e.held);
        if pending.gated {
            self.settle(pending.pod, Stage::Gated);
            self.note_incoming(Stage::Gated, cause);
        } else if held {
            self.park_alone(pending.pod, PluginSet::ALL, true, cause);
        } else {
            self.send(pending.pod, now_micros, cause);
        }
        Ok(())
    }

    /// A pod is gone, or was bound by somebody.
    pub fn remove(&mut self, pod: PodKey, now_micros: i64) -> bool {
        if !self.entries.contains_key(&pod) {
            return false;
        }
        self.withdraw(pod, now_micros);
        self.entries.remove(&pod);
        true
    }

    /// The next pod to try.
    pub fn pop(&mut self, now_micros: i64) -> Option<Turn> {
        self.release_backoff(now_micros);
        let pod = match self.next_active() {
            Some(pod) => pod,
            None if self.config.pop_from_backoff => {
                let (.., pod) = Self::first_valid(&mut self.backoff, &self.entries)?;
                self.note_incoming(Stage::Active, Cause::PopFromBackoff);
                pod
            }
            None => return None,
        };
        self.leave_stage(pod);
        self.settle(pod, Stage::InFlight);
        let events = self.events;
        let entry = self.entries.get_mut(&pod)?;
        entry.attempts = entry.attempts.saturating_add(1);
        entry.popped_at_event = events;
        Some(Turn {
            pod,
            class: entry.class,
            attempt: entry.attempts,
        })
    }

    /// The class of the next active pod, for callers that place runs of equal pods.
    pub fn peek_class(&mut self) -> Option<ClassId> {
        let pod = self.next_active()?;
        self.entries.get(&pod).map(|e| e.class)
    }

    /// The pod found a node: it leaves the queue, and if it was tried for its class, the next one follows.
    pub fn placed(&mut self, pod: PodKey, now_micros: i64) {
        self.remove(pod, now_micros);
    }

    /// The pod found a node and waits for others of its gang: it is still being tried, but no longer for its class.
    pub fn on_its_way(&mut self, pod: PodKey, now_micros: i64) {
        if self.in_flight(pod).is_some() {
            self.end_probe(pod, now_micros, true);
        }
    }

    /// Somebody else's luck may be this pod's: if it waits for time or for an event it is tried now.
    pub fn activate(&mut self, pod: PodKey, now_micros: i64) {
        let Some(entry) = self.entries.get_mut(&pod).filter(|entry| !entry.held) else {
            return;
        };
        if !matches!(entry.stage, Stage::Parked | Stage::Backoff) {
            return;
        }
        entry.backoff_until_micros = now_micros;
        entry.errors = 0;
        self.leave_stage(pod);
        self.send(pod, now_micros, Cause::Activate);
    }

    /// The pod found no node. It waits for an event that may help; if one came while it was tried, only
    /// for its backoff.
    pub fn unschedulable(&mut self, pod: PodKey, rejected_by: PluginSet, now_micros: i64) {
        let Some(missed) = self.failed(pod, rejected_by, now_micros) else {
            return;
        };
        if missed {
            // If it was tried for its class it still is: the event that came meanwhile passed the class by.
            self.send(pod, now_micros, Cause::Failure);
            return;
        }
        self.end_probe(pod, now_micros, false);
        self.park(pod, rejected_by, now_micros);
    }

    /// As [`Queue::unschedulable`], for a pod that has a node in view: it waits by itself, and says nothing
    /// about others of its class.
    pub fn unschedulable_alone(&mut self, pod: PodKey, rejected_by: PluginSet, now_micros: i64) {
        let Some(missed) = self.failed(pod, rejected_by, now_micros) else {
            return;
        };
        self.end_probe(pod, now_micros, true);
        let held = self.entries.get(&pod).is_some_and(|entry| entry.held);
        if missed && !held {
            self.send(pod, now_micros, Cause::Failure);
            return;
        }
        self.park_alone(pod, rejected_by, missed, Cause::Failure);
    }

    /// Counts a failure and takes the pod out of flight; says whether an event came meanwhile that may help.
    fn failed(&mut self, pod: PodKey, rejected_by: PluginSet, now_micros: i64) -> Option<bool> {
        let entry = self.in_flight(pod)?;
        entry.failures = entry.failures.saturating_add(1);
        entry.errors = 0;
        let (failures, popped_at) = (entry.failures, entry.popped_at_event);
        let wait = self.wait_micros(failures);
        let missed = EVENTS.iter().any(|&event| {
            self.last_events[event as usize] > popped_at && event.helps().intersects(rejected_by)
        });
        self.requeue_at(pod, now_micros, wait);
        self.leave_stage(pod);
        Some(missed)
    }

    /// Others are being evicted for the pod: until it is let go nothing makes it active.
    pub fn hold(&mut self, pod: PodKey) {
        if let Some(entry) = self.entries.get_mut(&pod) {
            entry.held = true;
            entry.missed = false;
        }
    }

    /// Nobody is being evicted for the pod any more. It is tried again if something happened meanwhile that
    /// may help, and in any case when `activate` says so.
    pub fn let_go(&mut self, pod: PodKey, now_micros: i64, activate: bool) {
        let Some(entry) = self.entries.get_mut(&pod).filter(|entry| entry.held) else {
            return;
        };
        entry.held = false;
        let missed = std::mem::take(&mut entry.missed);
        if (missed || activate) && entry.stage == Stage::Parked {
            if activate {
                entry.backoff_until_micros = now_micros;
            }
            self.leave_stage(pod);
            self.send(pod, now_micros, Cause::Activate);
        }
    }

    /// Trying the pod went wrong for a reason that is not the cluster's: it is tried again after its
    /// backoff, which is never cut short.
    pub fn error(&mut self, pod: PodKey, now_micros: i64) {
        let Some(entry) = self.in_flight(pod) else {
            return;
        };
        entry.errors = entry.errors.saturating_add(1);
        let errors = entry.errors;
        let wait = self.wait_micros(errors);
        self.requeue_at(pod, now_micros, wait);
        self.leave_stage(pod);
        // Says nothing about the class: the others need not wait for it.
        self.end_probe(pod, now_micros, true);
        self.send(pod, now_micros, Cause::Failure);
    }

    /// Something happened. Classes it may help are woken; `may_help` is told which plugins rejected nodes, and
    /// can say no to a class it knows to be hopeless still.
    pub fn event(
        &mut self,
        event: Event,
        now_micros: i64,
        mut may_help: impl FnMut(ClassId, PluginSet) -> bool,
    ) {
        self.events += 1;
        self.last_events[event as usize] = self.events;
        let mut woken: Vec<(ClassId, PluginSet)> = self
            .parked
            .iter()
            .filter(|(_, parked)| {
                parked.probe.is_none() && event.helps().intersects(parked.rejected_by)
            })
            .map(|(&class, parked)| (class, parked.rejected_by))
            .collect();
        // Hash order must not decide anything.
        woken.sort_unstable_by_key(|(class, _)| *class);
        for (class, rejected_by) in woken {
            if may_help(class, rejected_by) {
                self.wake(class, now_micros, Cause::Event(event));
            }
        }
        self.wake_alone(now_micros, Cause::Event(event), |_, rejected_by| {
            event.helps().intersects(rejected_by)
        });
    }

    /// Wakes classes that have been parked too long. To be called every half minute or so.
    pub fn flush(&mut self, now_micros: i64) {
        let limit = self.config.unschedulable_max_micros;
        let mut overdue: Vec<ClassId> = self
            .parked
            .iter()
            .filter(|(_, parked)| {
                parked.probe.is_none() && now_micros.saturating_sub(parked.since_micros) > limit
            })
            .map(|(&class, _)| class)
            .collect();
        overdue.sort_unstable();
        for class in overdue {
            self.wake(class, now_micros, Cause::Timeout);
        }
        self.wake_alone(now_micros, Cause::Timeout, |entry, _| {
            now_micros.saturating_sub(entry.queued_micros) > limit
        });
    }

    /// When [`Queue::pop`] may have something though it has nothing now.
    pub fn next_backoff_micros(&mut self) -> Option<i64> {
        let soft = Self::first_valid(&mut self.backoff, &self.entries).map(|p| p.0);
        let hard = Self::first_valid(&mut self.error_backoff, &self.entries).map(|p| p.0);
        match (soft, hard) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    // ---- stages

    fn in_flight(&mut self, pod: PodKey) -> Option<&mut Entry> {
        self.entries
            .get_mut(&pod)
            .filter(|e| e.stage == Stage::InFlight)
    }

    fn wait_micros(&self, failures: u32) -> i64 {
        let doublings = failures.saturating_sub(1).min(30);
        self.config
            .initial_backoff_micros
            .saturating_mul(1 << doublings)
            .min(self.config.max_backoff_micros)
    }

    fn requeue_at(&mut self, pod: PodKey, now_micros: i64, wait_micros: i64) {
        if let Some(entry) = self.entries.get_mut(&pod) {
            entry.queued_micros = now_micros;
            let until = now_micros.saturating_add(wait_micros);
            entry.backoff_until_micros = if self.config.pop_from_backoff {
                until - until.rem_euclid(BACKOFF_WINDOW_MICROS)
            } else {
                until
            };
        }
    }

    fn count(&mut self, stage: Stage) -> &mut usize {
        match stage {
            Stage::Active => &mut self.counts.active,
            Stage::Backoff => &mut self.counts.backoff,
            Stage::Parked => &mut self.counts.parked,
            Stage::Gated => &mut self.counts.gated,
            Stage::InFlight => &mut self.counts.in_flight,
        }
    }

    /// Enters a stage. Entries of lanes and heaps from earlier stays are void from now on.
    fn settle(&mut self, pod: PodKey, stage: Stage) -> Option<Entry> {
        self.stays += 1;
        let stay = self.stays;
        let entry = self.entries.get_mut(&pod)?;
        entry.stage = stage;
        entry.stay = stay;
        entry.alone = false;
        let entry = *entry;
        *self.count(stage) += 1;
        Some(entry)
    }

    fn leave_stage(&mut self, pod: PodKey) {
        let Some(entry) = self.entries.get(&pod).copied() else {
            return;
        };
        *self.count(entry.stage) -= 1;
        if entry.stage == Stage::Parked && entry.alone {
            self.alone.remove(&pod);
        } else if entry.stage == Stage::Parked
            && let Some(parked) = self.parked.get_mut(&entry.class)
        {
            parked.pods.remove(&rank(&entry, pod));
            if parked.pods.is_empty() && parked.probe.is_none() {
                self.parked.remove(&entry.class);
            }
        }
    }

    /// Takes a pod out of wherever it is; its class goes on without it.
    fn withdraw(&mut self, pod: PodKey, now_micros: i64) {
        self.leave_stage(pod);
        self.end_probe(pod, now_micros, true);
    }

    /// To backoff while that lasts, else to the active lanes.
    fn send(&mut self, pod: PodKey, now_micros: i64, cause: Cause) {
        let Some(entry) = self.entries.get(&pod).copied() else {
            return;
        };
        if entry.backoff_until_micros > now_micros {
            let Some(entry) = self.settle(pod, Stage::Backoff) else {
                return;
            };
            self.note_incoming(Stage::Backoff, cause);
            let (first, until) = (Reverse(entry.priority), entry.backoff_until_micros);
            let place = Reverse((until, first, entry.queued_micros, entry.stay, pod));
            if entry.errors > 0 {
                self.error_backoff.push(place);
            } else {
                self.backoff.push(place);
            }
            self.compact_backoff();
        } else if let Some(entry) = self.settle(pod, Stage::Active) {
            self.note_incoming(Stage::Active, cause);
            let lane = self.active.entry(Reverse(entry.priority)).or_default();
            lane.push((entry.queued_micros, entry.stay, pod));
            self.lane_places += 1;
            self.compact_lanes();
        }
    }

    fn release_backoff(&mut self, now_micros: i64) {
        loop {
            let soft = Self::first_valid(&mut self.backoff, &self.entries);
            let hard = Self::first_valid(&mut self.error_backoff, &self.entries);
            let due = [soft, hard].into_iter().flatten().min();
            let Some((.., pod)) = due.filter(|&(until, ..)| until <= now_micros) else {
                return;
            };
            self.leave_stage(pod);
            self.send(pod, now_micros, Cause::BackoffComplete);
        }
    }

    /// The first place of a heap whose pod still holds it.
    fn first_valid(
        heap: &mut BinaryHeap<Reverse<Wait>>,
        entries: &HashMap<PodKey, Entry, Hashing>,
    ) -> Option<Wait> {
        while let Some(&Reverse(wait)) = heap.peek() {
            let (until, _, _, stay, pod) = wait;
            if holds(entries, (until, stay, pod), Stage::Backoff) {
                return Some(wait);
            }
            heap.pop();
        }
        None
    }

    /// Void places may not pile up: they are at most as many as the pods.
    fn compact_lanes(&mut self) {
        if self.lane_places <= 2 * self.counts.active + VOID_PLACES_SLACK {
            return;
        }
        let entries = &self.entries;
        self.lane_places = 0;
        for lane in self.active.values_mut() {
            lane.arrivals
                .retain(|&place| holds(entries, place, Stage::Active));
            lane.returned
                .retain(|&Reverse(place)| holds(entries, place, Stage::Active));
            self.lane_places += lane.arrivals.len() + lane.returned.len();
        }
    }

    fn compact_backoff(&mut self) {
        let entries = &self.entries;
        for heap in [&mut self.backoff, &mut self.error_backoff] {
            if heap.len() > 2 * self.counts.backoff + VOID_PLACES_SLACK {
                heap.retain(|&Reverse((until, _, _, stay, pod))| {
                    holds(entries, (until, stay, pod), Stage::Backoff)
                });
            }
        }
    }

    fn next_active(&mut self) -> Option<PodKey> {
        while let Some(mut lane) = self.active.first_entry() {
            while let Some(place) = lane.get().peek() {
                if holds(&self.entries, place, Stage::Active) {
                    return Some(place.2);
                }
                lane.get_mut().pop();
                self.lane_places -= 1;
            }
            lane.remove();
        }
        None
    }

    // ---- parked classes

    fn park(&mut self, pod: PodKey, rejected_by: PluginSet, now_micros: i64) {
        let Some(entry) = self.settle(pod, Stage::Parked) else {
            return;
        };
        let parked = self
            .parked
            .entry(entry.class)
            .or_insert_with(|| ParkedClass {
                pods: BTreeSet::new(),
                rejected_by,
                since_micros: now_micros,
                probe: None,
                cause: Cause::Failure,
            });
        parked.rejected_by = rejected_by;
        parked.since_micros = now_micros;
        parked.pods.insert(rank(&entry, pod));
        self.note_incoming(Stage::Parked, Cause::Failure);
    }

    fn park_alone(&mut self, pod: PodKey, rejected_by: PluginSet, missed: bool, cause: Cause) {
        if self.settle(pod, Stage::Parked).is_none() {
            return;
        }
        self.note_incoming(Stage::Parked, cause);
        if let Some(entry) = self.entries.get_mut(&pod) {
            entry.alone = true;
            entry.missed |= missed;
        }
        self.alone.insert(pod, rejected_by);
    }

    /// Sends pods parked alone to be tried, the first in rank first; those held are only noted.
    fn wake_alone(
        &mut self,
        now_micros: i64,
        cause: Cause,
        helps: impl Fn(&Entry, PluginSet) -> bool,
    ) {
        let mut woken = Vec::new();
        for (&pod, &rejected_by) in &self.alone {
            let Some(entry) = self.entries.get_mut(&pod) else {
                continue;
            };
            if !helps(entry, rejected_by) {
                continue;
            }
            if entry.held {
                entry.missed = true;
            } else {
                woken.push(rank(entry, pod));
            }
        }
        woken.sort_unstable();
        for (.., pod) in woken {
            self.leave_stage(pod);
            self.send(pod, now_micros, cause);
        }
    }

    /// Sends the first pod of a parked class to be tried.
    fn wake(&mut self, class: ClassId, now_micros: i64, cause: Cause) {
        let Some(parked) = self.parked.get_mut(&class) else {
            return;
        };
        let Some((.., pod)) = parked.pods.pop_first() else {
            self.parked.remove(&class);
            return;
        };
        parked.probe = Some(pod);
        parked.cause = cause;
        self.counts.parked -= 1;
        if let Some(entry) = self.entries.get_mut(&pod) {
            entry.probing = true;
        }
        self.send(pod, now_micros, cause);
    }

    /// The pod, if it was tried for its class, no longer is; `go_on` tries the next.
    fn end_probe(&mut self, pod: PodKey, now_micros: i64, go_on: bool) {
        let Some(entry) = self.entries.get_mut(&pod) else {
            return;
        };
        if !std::mem::take(&mut entry.probing) {
            return;
        }
        // The class may have changed under way: the parked class is the one that waits for this pod.
        let class = match self.parked.get(&entry.class) {
            Some(parked) if parked.probe == Some(pod) => entry.class,
            _ => {
                let waiting = self.parked.iter().find(|(_, p)| p.probe == Some(pod));
                let Some((&class, _)) = waiting else {
                    return;
                };
                class
            }
        };
        let Some(parked) = self.parked.get_mut(&class) else {
            return;
        };
        parked.probe = None;
        if parked.pods.is_empty() {
            self.parked.remove(&class);
        } else if go_on {
            let cause = parked.cause;
            self.wake(class, now_micros, cause);
        }
    }
}

fn rank(entry: &Entry, pod: PodKey) -> (Reverse<i32>, i64, u64, PodKey) {
    (
        Reverse(entry.priority),
        entry.queued_micros,
        entry.stay,
        pod,
    )
}

fn holds(entries: &HashMap<PodKey, Entry, Hashing>, place: Place, stage: Stage) -> bool {
    let (_, stay, pod) = place;
    entries
        .get(&pod)
        .is_some_and(|e| e.stay == stay && e.stage == stage)
}

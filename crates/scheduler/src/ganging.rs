//! Pods that start together or not at all, in the shell: their groups are followed, and pods that have room are held
//! until enough of their gang have.
//!
//! The decision is `placement::gangs`'s. Groups are read as `scheduling.k8s.io/v1alpha2` PodGroups, where that is
//! served. Does not know what made a group.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use client::{Change, Client, Mirror, Reflector};
use placement::gangs::{Gangs, GroupPolicy, PERMIT_WAIT_MICROS, Permit};
use placement::queue::Event;
use placement::{PluginSet, PodInfo, PodKey};
use tokio::sync::mpsc;

use crate::pending::Address;
use crate::rejections::Rejectors;
use crate::work::{First, Try, Worker};
use crate::{Scheduler, now_micros};

/// How often those that wait are looked through.
const OVERDUE_INTERVAL: Duration = Duration::from_secs(1);

/// A pod with room on a node, and what it takes to bind it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) pod: PodKey,
    pub(crate) address: Address,
    pub(crate) name: String,
    pub(crate) first: First,
    pub(crate) this: Try,
}

pub(crate) type GroupChange = Change<GroupPolicy>;

/// Everything about gangs.
#[derive(Debug)]
pub(crate) struct Ganging {
    on: bool,
    gangs: Gangs,
    groups: Mirror<()>,
    /// Pods that have scheduling gates of their own, of those in groups.
    gated: HashMap<PodKey, bool>,
    held: HashMap<PodKey, (Held, Instant)>,
    /// Pods that may be bound, where there was no room to.
    allowed: VecDeque<Held>,
    looked: Instant,
}

impl Ganging {
    pub(crate) fn new(on: bool, seed: u64) -> Ganging {
        Ganging {
            on,
            gangs: Gangs::new(seed),
            groups: Mirror::default(),
            gated: HashMap::new(),
            held: HashMap::new(),
            allowed: VecDeque::new(),
            looked: Instant::now(),
        }
    }

    /// Follows the groups, if gangs are to be heeded at all. A server that does not know them has none.
    pub(crate) fn follow(&self, client: &Client) -> Option<mpsc::Receiver<GroupChange>> {
        let groups = schema::resource("scheduling.k8s.io", "v1alpha2", "podgroups")?;
        let reflector = Reflector::new(client.clone(), groups).optional();
        self.on
            .then(|| reflector.spawn(|object| GroupPolicy::from_object(&object)))
    }

    pub(crate) fn is_synced(&self) -> bool {
        !self.on || self.groups.is_synced()
    }

    /// Does anybody wait who may have waited too long?
    pub(crate) fn pause(&self) -> Option<Duration> {
        (!self.held.is_empty() || !self.allowed.is_empty()).then_some(OVERDUE_INTERVAL)
    }
}

impl Scheduler {
    /// A pod was seen: true when it waits before the queue for its gang.
    pub(crate) fn see_in_group(&mut self, pod: PodKey, info: &PodInfo) -> bool {
        let ganging = &mut self.ganging;
        let Some(group) = info.group.as_ref().filter(|_| ganging.on) else {
            return false;
        };
        if info.finished {
            ganging.gangs.forget_pod(pod);
            ganging.gated.remove(&pod);
            return false;
        }
        let key = format!("{}/{group}", info.namespace);
        ganging.gated.insert(pod, info.gated);
        let others = ganging.gangs.note_pod(pod, &key, info.node.is_some());
        let waits = ganging.gangs.gate(pod).is_some();
        self.let_in(&others);
        waits
    }

    /// A group came, changed or went.
    pub(crate) fn group(&mut self, change: GroupChange) {
        let gangs = &mut self.ganging.gangs;
        let mut concerned = Vec::new();
        let change = change.map(|key, policy| concerned = gangs.note_group(key, policy));
        let gone = self.ganging.groups.take_name(change);
        for key in gone {
            self.ganging.gangs.remove_group(&key);
        }
        self.let_in(&concerned);
    }

    /// Pods that wait before the queue come in, if nothing keeps them out any more; those that failed are tried
    /// again.
    fn let_in(&mut self, pods: &[PodKey]) {
        let now = now_micros();
        for &pod in pods {
            if self.ganging.gangs.gate(pod).is_some() {
                continue;
            }
            let (Some(waiting), Some(priority)) = (self.pending.get(pod), self.queue.priority(pod))
            else {
                continue;
            };
            let profile = &self.config.profiles[usize::from(waiting.profile)];
            let gated = self.ganging.gated.get(&pod).copied().unwrap_or(false);
            let entry = placement::queue::Pending {
                pod,
                class: waiting.class(),
                priority,
                gated: gated && profile.gates,
            };
            // It is in the queue already: there is no question of room.
            let _ = self.queue.add(entry, now);
            if !entry.gated {
                self.queue.activate(pod, now);
            }
        }
    }

    /// The pod has room: it is bound, or waits for the others of its gang.
    pub(crate) fn permit(&mut self, held: Held, worker: &Worker) {
        let (pod, now) = (held.pod, now_micros());
        if self.ganging.gangs.is_empty() {
            self.bind(held, worker);
            return;
        }
        match self.ganging.gangs.permit(pod, now) {
            Permit::Allowed(others) => {
                self.ganging.allowed.push_back(held);
                for other in others {
                    if let Some((held, since)) = self.ganging.held.remove(&other) {
                        self.progress.permit_waits.success(since.elapsed());
                        self.ganging.allowed.push_back(held);
                    }
                }
                self.bind_allowed(worker);
            }
            Permit::Wait(others) => {
                self.ganging.held.insert(pod, (held, Instant::now()));
                self.queue.on_its_way(pod, now);
                for other in others {
                    self.queue.activate(other, now);
                }
            }
        }
    }

    fn bind(&mut self, held: Held, worker: &Worker) {
        let Held {
            pod,
            address,
            name,
            first,
            this,
        } = held;
        if !worker.bind(pod, address, name, first, this) {
            self.take_back(pod);
            self.queue.error(pod, now_micros());
        }
    }

    /// Binds pods that may be bound, as far as there is room for requests.
    fn bind_allowed(&mut self, worker: &Worker) {
        while worker.has_room()
            && let Some(held) = self.ganging.allowed.pop_front()
        {
            self.bind(held, worker);
        }
    }

    /// Looks after those that wait: once a second for those that waited too long.
    pub(crate) fn look_after_gangs(&mut self, worker: &Worker) {
        self.bind_allowed(worker);
        if self.ganging.held.is_empty() || self.ganging.looked.elapsed() < OVERDUE_INTERVAL {
            return;
        }
        self.ganging.looked = Instant::now();
        let overdue = self.ganging.gangs.overdue(now_micros());
        let minutes = PERMIT_WAIT_MICROS / 60_000_000;
        let why =
            format!("rejected due to timeout after waiting {minutes}m0s at plugin GangScheduling");
        self.send_back(&overdue, &why, worker);
    }

    /// A pod of a gang found no node: the others may wait in vain.
    pub(crate) fn failed_in_gang(&mut self, pod: PodKey, worker: &Worker) {
        if self.ganging.gangs.is_empty() {
            return;
        }
        if let Some((back, why)) = self.ganging.gangs.failed(pod) {
            self.send_back(&back, &why, worker);
        }
    }

    /// Takes their room back. They wait until one of their gang has room, or the gang changes.
    fn send_back(&mut self, pods: &[PodKey], why: &str, worker: &Worker) {
        let now = now_micros();
        for &pod in pods {
            let Some((held, since)) = self.ganging.held.remove(&pod) else {
                continue;
            };
            self.progress.permit_waits.unschedulable(since.elapsed());
            self.count_unschedulable(held.this);
            self.take_back(pod);
            self.queue.unschedulable_alone(pod, PluginSet::EMPTY, now);
            self.pending.note_rejection(pod, Rejectors::GANG);
            let message = format!("0/1 nodes are available: 1 {why}.");
            if self.pending.note_message(pod, &message) {
                worker.tell_unschedulable(&held.address, &message);
            }
        }
        if !pods.is_empty() {
            self.happened(Event::AssignedPodDelete);
        }
    }

    /// The pod no longer waits for a node, or its binding failed: whatever was held for it is given back.
    pub(crate) fn leave_gang(&mut self, pod: PodKey, gone: bool) {
        if self.ganging.gangs.is_empty() {
            return;
        }
        if self.ganging.held.remove(&pod).is_some() {
            if self.take_back(pod) {
                self.happened(Event::AssignedPodDelete);
            }
        } else if let Some(at) = self.ganging.allowed.iter().position(|held| held.pod == pod) {
            self.ganging.allowed.remove(at);
            self.take_back(pod);
        }
        if gone {
            self.ganging.gangs.forget_pod(pod);
            self.ganging.gated.remove(&pod);
        } else {
            self.ganging.gangs.reopen(pod);
        }
    }
}

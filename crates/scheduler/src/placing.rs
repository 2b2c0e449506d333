//! One turn of placing: pods from the queue to nodes, and what follows when there is none.
//!
//! ```text
//!   pop ─► pick ─► assume ─► bind ─────────────► bound, or forgotten and tried again
//!           └─► no node ─► preempt ─► nominate, hold ─► evict ─► let go
//!                             └─► parked until something happens that may help
//! ```
//!
//! Does not know how requests are made.

use std::sync::atomic::Ordering;
use std::time::Instant;

use placement::queue::{Event, Turn};
use placement::{ClassId, PickError, PluginSet, PodInfo, PodKey, Preemption, Unschedulable};

use crate::pending::Before;
use crate::work::{Done, Eviction, Worker};
use crate::{Scheduler, next_random, now_micros};

/// Pods placed before changes are looked at again.
const PODS_AT_ONCE: usize = 500;
/// What the plugin of resource claims adds where it has nothing to give back (k8s: DynamicResources, which is
/// asked before evicting is thought of).
const NO_CLAIMS: &str = "no new claims to deallocate";

impl Scheduler {
    /// Gives waiting pods their nodes; true if there may be more of them than one turn takes.
    pub(crate) fn place(&mut self, worker: &Worker) -> bool {
        let begun = Instant::now();
        for event in std::mem::take(&mut self.happened) {
            self.queue.event(event, now_micros(), |_| true);
        }
        let mut cut_short = true;
        for _ in 0..PODS_AT_ONCE {
            // A request that ends makes room, and wakes the loop.
            let turn = if worker.has_room() {
                self.queue.pop(now_micros())
            } else {
                None
            };
            let Some(turn) = turn else {
                cut_short = false;
                break;
            };
            self.try_one(turn, worker);
        }
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.progress
            .decision_nanos
            .fetch_add(nanos, Ordering::Relaxed);
        cut_short
    }

    fn try_one(&mut self, turn: Turn, worker: &Worker) {
        let now = now_micros();
        let Some(waiting) = self.pending.get(turn.pod) else {
            self.queue.remove(turn.pod, now);
            return;
        };
        let mut random = self.random;
        let pin = waiting.pin.clone();
        let picked = self
            .cluster
            .pick_for(turn.pod, turn.class, pin.as_deref(), &mut || {
                next_random(&mut random)
            });
        self.random = random;
        match picked {
            Ok(node) => {
                let name = self.cluster.node_name(node).unwrap_or_default().to_owned();
                let address = waiting.address();
                if !waiting.not_considered.is_empty() {
                    worker.tell_not_considered(&address, &waiting.not_considered);
                }
                if !self.cluster.assume(turn.pod, turn.class, node) {
                    self.queue.error(turn.pod, now);
                } else if !worker.bind(turn.pod, address, name) {
                    self.cluster.forget(turn.pod);
                    self.queue.error(turn.pod, now);
                }
            }
            Err(PickError::Unschedulable(why)) => {
                self.progress.unschedulable.fetch_add(1, Ordering::Relaxed);
                self.unschedulable(turn, pin.as_deref(), &why, worker);
            }
            Err(PickError::UnknownClass) => self.queue.error(turn.pod, now),
        }
    }

    /// A pod found no node: can others be evicted for it? Then it waits, and says why.
    fn unschedulable(
        &mut self,
        turn: Turn,
        pin: Option<&str>,
        why: &Unschedulable,
        worker: &Worker,
    ) {
        let (pod, now) = (turn.pod, now_micros());
        let mut message = why.message();
        // Where there is no node nobody can be evicted.
        if why.nodes == 0 {
            self.give_up_nomination(pod);
        } else if let Some(text) = self.preempt(turn, pin, worker) {
            message.push_str(&format!(" {NO_CLAIMS}, preemption: {text}"));
        }
        // Where there is no node no plugin rejected one: whatever comes may help.
        let rejected_by = if why.rejected_by.is_empty() {
            PluginSet::ALL
        } else {
            why.rejected_by
        };
        if self.cluster.nominated_node(pod).is_some() {
            self.queue.unschedulable_alone(pod, rejected_by, now);
        } else {
            self.queue.unschedulable(pod, rejected_by, now);
        }
        if self.pending.note_message(pod, &message)
            && let Some(waiting) = self.pending.get(pod)
        {
            worker.tell_unschedulable(&waiting.address(), &message);
        }
    }

    /// Has others evicted for a pod, if that helps; if not, says why.
    fn preempt(&mut self, turn: Turn, pin: Option<&str>, worker: &Worker) -> Option<String> {
        let (pod, mut random) = (turn.pod, self.random);
        let found = self
            .cluster
            .preempt(pod, turn.class, pin, now_micros(), &mut || {
                next_random(&mut random)
            });
        self.random = random;
        match found {
            Ok(Preemption::Found {
                node,
                victims,
                displaced,
            }) => {
                let name = self.cluster.node_name(node)?.to_owned();
                let address = self.pending.get(pod)?.address();
                self.cluster.nominate(pod, turn.class, node);
                self.pending.note_nomination(pod, Some(&name));
                for other in displaced {
                    self.give_up_nomination(other);
                }
                let victims: Vec<_> = victims
                    .into_iter()
                    .filter_map(|victim| Some((victim, self.pods.name_of(victim)?.into())))
                    .collect();
                let progress = &self.progress;
                progress.preemptions.fetch_add(1, Ordering::Relaxed);
                progress
                    .victims
                    .fetch_add(victims.len() as u64, Ordering::Relaxed);
                self.queue.hold(pod);
                let eviction = Eviction {
                    preemptor: pod,
                    address,
                    node: name,
                    victims,
                };
                if !worker.evict(eviction) {
                    self.queue.let_go(pod, now_micros(), true);
                }
                None
            }
            Ok(Preemption::NotEligible(why)) => Some(why.to_owned()),
            Ok(Preemption::Hopeless(why)) => {
                self.give_up_nomination(pod);
                Some(why)
            }
            Err(_) => None,
        }
    }

    fn give_up_nomination(&mut self, pod: PodKey) {
        self.cluster.withdraw_nomination(pod);
        self.pending.note_nomination(pod, None);
    }

    /// The node a pod has in view as its status shows it: set by us, before a restart, or by somebody else.
    pub(crate) fn see_nomination(
        &mut self,
        pod: PodKey,
        info: &PodInfo,
        class: ClassId,
        before: Option<&Before>,
    ) {
        let (other_node, other_class) = before.map_or((info.nominated.is_some(), false), |b| {
            (b.nomination_changed, b.class != class)
        });
        let known = self.cluster.nominated_name(pod);
        let name = match &info.nominated {
            _ if !other_node && !other_class => return,
            _ if !other_node => known.map(ToOwned::to_owned),
            Some(node) if known == Some(node) && !other_class => return,
            Some(node) => Some(node.to_string()),
            None => None,
        };
        match name {
            Some(name) => {
                self.cluster.nominate_by_name(pod, class, &name);
            }
            None => {
                self.cluster.withdraw_nomination(pod);
            }
        }
    }

    pub(crate) fn done(&mut self, done: Done) {
        let now = now_micros();
        match done {
            Done::Bound {
                pod,
                result: Ok(()),
            } => {
                self.progress.bound.fetch_add(1, Ordering::Relaxed);
                self.queue.placed(pod, now);
                self.happened(Event::AssignedPodAdd);
                if let Some(class) = self.pending.remove(pod) {
                    self.cluster.release_class(class);
                }
            }
            Done::Bound {
                pod,
                result: Err(error),
            } => {
                self.progress.errors.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, "binding failed");
                if self.cluster.forget(pod) {
                    self.happened(Event::AssignedPodDelete);
                }
                self.pending.note_nomination(pod, None);
                if error.is_not_found() {
                    self.drop_pending(pod, now);
                } else {
                    self.queue.error(pod, now);
                }
            }
            Done::Evicted { preemptor, failed } => self.queue.let_go(preemptor, now, failed),
        }
    }
}

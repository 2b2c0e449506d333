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
use placement::{
    ClassId, NodeId, PickError, Plugin, PluginSet, PodInfo, PodKey, Preemption, Unschedulable,
};

use crate::pending::Before;
use crate::work::{Done, Eviction, ToMake, Try, Worker};
use crate::{Scheduler, next_random, now_micros};

/// Pods placed before changes are looked at again.
pub(crate) const PODS_AT_ONCE: usize = 500;
/// Nodes that came or changed since the last turn whose suitability is asked for each class; with more every
/// class is woken.
pub(crate) const CHANGED_NODES_MAX: usize = 32;
/// One pick in so many is audited.
pub(crate) const AUDIT_EVERY: u64 = 10_000;
/// A node may be the first of a domain, or the fewest of one: that is not told by the node alone.
const COMPANY: PluginSet = PluginSet::of(&[Plugin::PodTopologySpread, Plugin::InterPodAffinity]);
/// What the plugin of resource claims adds where it has nothing to give back (k8s: DynamicResources, which is
/// asked before evicting is thought of).
const NO_CLAIMS: &str = "no new claims to deallocate";

impl Scheduler {
    /// Gives waiting pods their nodes; true if there may be more of them than one turn takes.
    pub(crate) fn place(&mut self, worker: &Worker) -> bool {
        let begun = Instant::now();
        self.wake();
        let mut cut_short = true;
        if self.cluster.is_many() {
            cut_short = self.place_runs(worker);
        } else {
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
        }
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.progress
            .decision_nanos
            .fetch_add(nanos, Ordering::Relaxed);
        cut_short
    }

    /// Tells the queue what happened. Where a node came or changed, classes that could not go to any such node
    /// even if it were empty are left asleep, unless it is company that they lack.
    fn wake(&mut self) {
        let changed = std::mem::take(&mut self.changed_nodes);
        let cluster = &mut self.cluster;
        for event in std::mem::take(&mut self.happened) {
            let about_nodes = matches!(
                event,
                Event::NodeAdd | Event::NodeAllocatable | Event::NodeLabels | Event::NodeTaints
            );
            let hint = about_nodes && changed.len() <= CHANGED_NODES_MAX;
            self.queue.event(event, now_micros(), |class, rejected_by| {
                !hint
                    || rejected_by.intersects(COMPANY)
                    || changed
                        .iter()
                        .any(|node| cluster.could_suit(class, *node).unwrap_or(true))
            });
        }
    }

    pub(crate) fn try_one(&mut self, turn: Turn, worker: &Worker) {
        let (now, begun) = (now_micros(), Instant::now());
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
        self.progress.algorithm.observe_duration(begun.elapsed());
        match picked {
            Ok(node) => {
                if pin.is_none() {
                    self.audit(turn, node);
                }
                self.bind(turn, node, begun, false, worker);
            }
            Err(PickError::Unschedulable(why)) => {
                self.progress.unschedulable.fetch_add(1, Ordering::Relaxed);
                if let Some(profile) = self.progress.profile(waiting.profile) {
                    profile.unschedulable.observe_duration(begun.elapsed());
                }
                self.unschedulable(turn, pin.as_deref(), &why, worker);
            }
            Err(PickError::UnknownClass) => self.queue.error(turn.pod, now),
        }
    }

    /// Has a pod bound to the node it got; it is assumed there already, or is now.
    pub(crate) fn bind(
        &mut self,
        turn: Turn,
        node: NodeId,
        begun: Instant,
        assumed: bool,
        worker: &Worker,
    ) {
        let now = now_micros();
        let name = self.cluster.node_name(node).unwrap_or_default().to_owned();
        let Some(waiting) = self.pending.get(turn.pod) else {
            if assumed {
                self.cluster.forget(turn.pod);
            }
            return;
        };
        let address = waiting.address();
        let profile = &self.config.profiles[usize::from(waiting.profile)];
        let this = Try {
            begun,
            profile: waiting.profile,
            attempt: turn.attempt,
        };
        let volumes = ToMake {
            claims: waiting.to_make.clone(),
            wait: profile.volumes_wait,
        };
        if !waiting.not_considered.is_empty() {
            worker.tell_not_considered(&address, &waiting.not_considered);
        }
        if !assumed && !self.cluster.assume(turn.pod, turn.class, node) {
            self.queue.error(turn.pod, now);
        } else if !worker.bind(turn.pod, address, name, volumes, this) {
            self.cluster.forget(turn.pod);
            self.queue.error(turn.pod, now);
        }
    }

    /// Checks one pick in so many by a look at every node.
    fn audit(&mut self, turn: Turn, node: NodeId) {
        self.picks += 1;
        if !self.picks.is_multiple_of(AUDIT_EVERY)
            || self.cluster.nominated_name(turn.pod).is_some()
        {
            return;
        }
        let Some(best) = self.cluster.audit(turn.class, node) else {
            return;
        };
        self.progress.audited.fetch_add(1, Ordering::Relaxed);
        if !best {
            self.progress.mismatches.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                node = self.cluster.node_name(node),
                "a pod got a node that is not among the best: please report this"
            );
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
        let profile = self.pending.get(pod).map_or(0, |waiting| waiting.profile);
        let profile = &self.config.profiles[usize::from(profile)];
        let (claims, preempts) = (profile.gives_back_claims, profile.preempts);
        // Where there is no node nobody can be evicted.
        if why.nodes == 0 {
            self.give_up_nomination(pod);
        } else {
            let preemption = if preempts {
                self.preempt(turn, pin, worker)
            } else {
                Some(String::new())
            };
            if let Some(text) = preemption {
                let preemption = Some(format!("preemption: {text}")).filter(|_| preempts);
                let claims = Some(NO_CLAIMS.to_owned()).filter(|_| claims);
                let parts: Vec<String> = claims.into_iter().chain(preemption).collect();
                if !parts.is_empty() {
                    message.push_str(&format!(" {}", parts.join(", ")));
                }
            }
        }
        // Where there is no node no plugin rejected one: whatever comes may help.
        let rejected_by = if why.rejected_by.is_empty() {
            PluginSet::ALL
        } else {
            why.rejected_by
        };
        if self.cluster.nominated_name(pod).is_some() {
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
        let attempts = &self.progress.preemption_attempts;
        attempts.fetch_add(1, Ordering::Relaxed);
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
                progress.victims_each.observe(victims.len() as u64);
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
                this,
                result: Ok(()),
            } => {
                self.progress.bound.fetch_add(1, Ordering::Relaxed);
                if let Some(profile) = self.progress.profile(this.profile) {
                    profile.scheduled.observe_duration(this.begun.elapsed());
                }
                self.progress.attempts_each.observe(this.attempt.into());
                self.queue.placed(pod, now);
                self.happened(Event::AssignedPodAdd);
                if let Some(class) = self.pending.remove(pod) {
                    self.cluster.release_class(class);
                }
            }
            Done::Bound {
                pod,
                this,
                result: Err(error),
            } => {
                self.progress.errors.fetch_add(1, Ordering::Relaxed);
                if let Some(profile) = self.progress.profile(this.profile) {
                    profile.error.observe_duration(this.begun.elapsed());
                }
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

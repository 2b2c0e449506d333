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
use std::time::{Duration, Instant};

use placement::queue::{Event, Turn};
use placement::{
    ClassId, NodeId, PickError, Plugin, PluginSet, PodInfo, PodKey, Preemption, Unschedulable,
};

use crate::claiming::Tried;
use crate::ganging::Held;
use crate::measures::{Ended, Point, Step};
use crate::pending::Before;
use crate::reserving::Reservation;
use crate::work::{Done, Eviction, First, Try, VolumesFirst, Worker};
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
impl Scheduler {
    /// Gives waiting pods their nodes; true if there may be more of them than one turn takes.
    pub(crate) fn place(&mut self, worker: &Worker) -> bool {
        let begun = Instant::now();
        self.go_on(worker);
        self.look_after_gangs(worker);
        self.wake();
        let mut cut_short = true;
        if self.cluster.is_many() {
            cut_short = self.place_runs(worker);
        } else {
            for _ in 0..PODS_AT_ONCE {
                // A request that ends makes room, and wakes the loop.
                let turn = if worker.has_room() && self.extending.has_room() {
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
        self.go_on(worker);
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
                Event::NodeAdd
                    | Event::NodeAllocatable
                    | Event::NodeLabels
                    | Event::NodeTaints
                    | Event::NodeFeatures
            );
            let hint = about_nodes && changed.len() <= CHANGED_NODES_MAX;
            let begun = Instant::now();
            self.queue.event(event, now_micros(), |class, rejected_by| {
                !hint
                    || rejected_by.intersects(COMPANY)
                    || changed
                        .iter()
                        .any(|node| cluster.could_suit(class, *node).unwrap_or(true))
            });
            self.progress.measures.handled(event, begun.elapsed());
        }
    }

    pub(crate) fn try_one(&mut self, turn: Turn, worker: &Worker) {
        let (now, begun) = (now_micros(), Instant::now());
        let Some(waiting) = self.pending.get(turn.pod) else {
            self.queue.remove(turn.pod, now);
            return;
        };
        let (profile, pin) = (waiting.profile, waiting.pin.clone());
        self.pending.begin_try(turn.pod);
        // Devices are chosen by looking at single nodes, which is ours alone.
        if self.extending.concerns(turn.pod) && !self.opens_claims(turn.pod) {
            self.wait_for_question(turn);
            return;
        }
        let this = Try {
            begun,
            profile,
            attempt: turn.attempt,
            entered_micros: turn.entered_micros,
            flushed: turn.flushed,
        };
        let tried = self.look_for_node(turn, pin.as_deref());
        self.progress.algorithm.observe_duration(begun.elapsed());
        match tried {
            Tried::Placed(node, reservations) => {
                // Where devices decide, not all nodes are compared.
                if pin.is_none() && !self.opens_claims(turn.pod) {
                    self.audit(turn, node);
                }
                self.settle(turn, (node, false), reservations, this, worker);
            }
            Tried::Failed(PickError::Unschedulable(why)) => {
                self.count_unschedulable(this);
                self.unschedulable(turn, pin.as_deref(), &why, false, worker);
            }
            Tried::Failed(PickError::UnknownClass) => self.queue.error(turn.pod, now),
            Tried::NotNow(why) => {
                self.progress.unschedulable.fetch_add(1, Ordering::Relaxed);
                self.not_now(turn, why, worker);
            }
            Tried::Wrong(why) => {
                self.progress.errors.fetch_add(1, Ordering::Relaxed);
                self.wrong(turn, &why, worker);
            }
        }
    }

    /// The pod has its node: counts it as placed, if it is not assumed there already, and has it bound.
    pub(crate) fn settle(
        &mut self,
        turn: Turn,
        (node, assumed): (NodeId, bool),
        reservations: Vec<Reservation>,
        this: Try,
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
        let wait = profile.volumes_wait;
        if !waiting.not_considered.is_empty() {
            worker.tell_not_considered(&address, &waiting.not_considered);
        }
        let binders = self.extending.binders(turn.pod);
        let bindings = self.cluster.take_volumes(turn.pod, turn.class, node);
        let bindings =
            bindings.filter(|_| assumed || self.cluster.assume(turn.pod, turn.class, node));
        let Some(bindings) = bindings else {
            self.take_back(turn.pod);
            self.queue.error(turn.pod, now);
            return;
        };
        self.depart(turn.pod, &reservations);
        let first = First {
            volumes: VolumesFirst { bindings, wait },
            reservations,
            binders,
        };
        let held = Held {
            pod: turn.pod,
            address,
            name,
            first,
            this,
        };
        self.permit(held, worker);
    }

    /// A pod does not go to its node after all: room, volumes and devices are others' again. True if it had room.
    pub(crate) fn take_back(&mut self, pod: PodKey) -> bool {
        self.land(pod, &[]);
        let had_room = self.cluster.forget(pod);
        self.cluster.give_back_volumes(pod);
        had_room
    }

    pub(crate) fn count_unschedulable(&self, this: Try) {
        self.progress.unschedulable.fetch_add(1, Ordering::Relaxed);
        if let Some(profile) = self.progress.profile(this.profile) {
            profile.unschedulable.observe_duration(this.begun.elapsed());
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

    /// A pod found no node: can others be evicted for it? Then it waits, and says why. `alone`: what it was told
    /// says nothing about others of its class.
    pub(crate) fn unschedulable(
        &mut self,
        turn: Turn,
        pin: Option<&str>,
        why: &Unschedulable,
        alone: bool,
        worker: &Worker,
    ) {
        let preempts = self.profile_of(turn.pod).preempts;
        let mut text = Some(String::new());
        // Where there is no node nobody can be evicted.
        if why.nodes == 0 {
            self.give_up_nomination(turn.pod);
        } else if preempts && self.is_pleaded_for(turn.pod) {
            match self.preempt_by_leave(turn, pin, (why, alone), worker) {
                Some(found) => text = found,
                // Extenders are asked; it goes on when they have answered.
                None => return,
            }
        } else if preempts {
            text = self.preempt(turn, pin, worker);
        }
        self.parked(turn, why, text, alone, worker);
    }

    fn profile_of(&self, pod: PodKey) -> &crate::ProfileConfig {
        let profile = self.pending.get(pod).map_or(0, |waiting| waiting.profile);
        &self.config.profiles[usize::from(profile)]
    }

    /// A pod waits until something happens that may help it. `text` is what preemption says of itself; `None`
    /// where others are evicted.
    pub(crate) fn parked(
        &mut self,
        turn: Turn,
        why: &Unschedulable,
        text: Option<String>,
        alone: bool,
        worker: &Worker,
    ) {
        let (pod, now) = (turn.pod, now_micros());
        // All of them stand there where it was extenders, which have been counted.
        if why.rejected_by != PluginSet::ALL {
            self.pending.note_rejection(pod, why.rejected_by);
        }
        let mut message = why.message();
        let profile = self.profile_of(pod);
        let (claims, preempts) = (profile.gives_back_claims, profile.preempts);
        if let Some(text) = text.filter(|_| why.nodes > 0) {
            let preemption = Some(format!("preemption: {text}")).filter(|_| preempts);
            let claims = claims.then(|| self.give_back_claims(pod, why, worker).to_owned());
            let parts: Vec<String> = claims.into_iter().chain(preemption).collect();
            if !parts.is_empty() {
                message.push_str(&format!(" {}", parts.join(", ")));
            }
        }
        // Where there is no node no plugin rejected one: whatever comes may help.
        let rejected_by = match why.rejected_by {
            none if none.is_empty() => PluginSet::ALL,
            // A node may come to offer the resource that devices stand for now.
            by if self.surroundings.devices.backed_of(pod).is_some() => {
                by.with(Plugin::NodeResourcesFit)
            }
            by => by,
        };
        if alone || self.cluster.nominated_name(pod).is_some() {
            self.queue.unschedulable_alone(pod, rejected_by, now);
        } else {
            self.queue.unschedulable(pod, rejected_by, now);
        }
        if self.pending.note_message(pod, &message)
            && let Some(waiting) = self.pending.get(pod)
        {
            worker.tell_unschedulable(&waiting.address(), &message);
        }
        self.failed_in_gang(pod, worker);
    }

    /// Has others evicted for a pod, if that helps; if not, says why.
    fn preempt(&mut self, turn: Turn, pin: Option<&str>, worker: &Worker) -> Option<String> {
        let mut random = self.random;
        let attempts = &self.progress.preemption_attempts;
        attempts.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let found = self.preempt_with_claims(turn, pin, &mut || next_random(&mut random));
        self.random = random;
        let ended = match &found {
            Ok(Preemption::Found { .. }) => Ended::Success,
            Ok(_) => Ended::Unschedulable,
            Err(_) => Ended::Error,
        };
        let profile = self.pending.get(turn.pod).map_or(0, |w| w.profile);
        let point = (Point::PostFilter, Some(Step::Preemption));
        self.progress.took(profile, point, ended, begun.elapsed());
        self.preempted(turn, found, worker)
    }

    /// The same where extenders have a say; `None` when they are being asked.
    fn preempt_by_leave(
        &mut self,
        turn: Turn,
        pin: Option<&str>,
        said: (&Unschedulable, bool),
        worker: &Worker,
    ) -> Option<Option<String>> {
        let mut random = self.random;
        let attempts = &self.progress.preemption_attempts;
        attempts.fetch_add(1, Ordering::Relaxed);
        let found = self.cluster.preemption_candidates(
            (turn.pod, turn.class),
            pin,
            Scheduler::sacrifices_max(),
            now_micros(),
            &mut || next_random(&mut random),
        );
        self.random = random;
        let found = match found {
            Ok(Ok(candidates)) if self.plead(turn, &candidates, said, worker) => return None,
            Ok(Ok(candidates)) => {
                let class = turn.class;
                self.cluster.preempt_best(class, &candidates, now_micros())
            }
            Ok(Err(none)) => Ok(none),
            Err(error) => Err(error),
        };
        Some(self.preempted(turn, found, worker))
    }

    /// What is found is done; where nothing is, it says why.
    pub(crate) fn preempted(
        &mut self,
        turn: Turn,
        found: Result<Preemption, PickError>,
        worker: &Worker,
    ) -> Option<String> {
        let pod = turn.pod;
        match found {
            Ok(Preemption::Found {
                node,
                victims,
                displaced,
            }) => {
                let name = self.cluster.node_name(node)?.to_owned();
                let address = self.pending.get(pod)?.address();
                self.cluster.nominate(pod, turn.class, node);
                self.cluster.note_evictions(&victims);
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
                    self.cluster.evictions_failed(pod);
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

    pub(crate) fn give_up_nomination(&mut self, pod: PodKey) {
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
                claims,
                result: Ok(()),
            } => {
                self.land(pod, &claims);
                self.progress.bound.fetch_add(1, Ordering::Relaxed);
                if let Some(profile) = self.progress.profile(this.profile) {
                    profile.scheduled.observe_duration(this.begun.elapsed());
                }
                self.progress.attempts_each.observe(this.attempt.into());
                let since = now.saturating_sub(this.entered_micros).max(0);
                let since = Duration::from_micros(since.unsigned_abs());
                let measures = &self.progress.measures;
                measures.bound(this.attempt, since, this.flushed);
                self.queue.placed(pod, now);
                self.happened(Event::AssignedPodAdd);
                self.surroundings.devices.forget_pod(pod);
                if let Some(class) = self.pending.remove(pod) {
                    self.cluster.release_class(class);
                }
            }
            Done::Bound {
                pod,
                this,
                claims,
                result: Err(error),
            } => {
                self.progress.errors.fetch_add(1, Ordering::Relaxed);
                if let Some(profile) = self.progress.profile(this.profile) {
                    profile.error.observe_duration(this.begun.elapsed());
                }
                tracing::debug!(%error, "binding failed");
                if !error.is_not_found() && !self.extending.binders(pod).is_empty() {
                    let reason = crate::extending::SCHEDULER_ERROR;
                    self.pending.note_reason(pod, reason, &error.to_string());
                }
                if self.cluster.forget(pod) {
                    self.happened(Event::AssignedPodDelete);
                }
                self.give_back_volumes(pod);
                self.land(pod, &claims);
                self.pending.note_nomination(pod, None);
                self.leave_gang(pod, false);
                if error.is_not_found() {
                    self.drop_pending(pod, now);
                } else {
                    self.queue.error(pod, now);
                }
            }
            Done::Evicted { preemptor, failed } => {
                if failed {
                    self.cluster.evictions_failed(preemptor);
                }
                self.queue.let_go(preemptor, now, failed);
            }
            Done::Extended(heard) => self.extending.hear(heard),
        }
    }
}

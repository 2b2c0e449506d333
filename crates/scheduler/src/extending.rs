//! Pods that extenders have a say about: when those are asked, and what follows from an answer.
//!
//! ```text
//!   a pod's turn ─► waits for its question ─► one question at a time ─► left ─► pick among them ─► assume, bind
//!                                                                      nobody ─► unschedulable, preempt
//!                                                                      failed ─► SchedulerError, tried again later
//! ```
//!
//! Extenders hear of one pod after the other, as with kube-scheduler: some count for themselves. Pods that concern
//! none of them are placed meanwhile; one that hangs holds up its own pods alone, each for its time limit. Does not
//! know what is sent.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use meta::Value;
use placement::queue::Turn;
use placement::{
    Candidate, NodeId, NodeInfo, PickError, PluginSet, PodInfo, PodKey, Preemption, Unschedulable,
};

use crate::extenders::{
    Answer, Extender, ExtenderConfig, Place, Plea, Pleaded, Question, Sacrifice,
};
use crate::rejections::Rejectors;
use crate::work::{Try, Worker};
use crate::{Scheduler, next_random, now_micros};

/// Pods that wait for their question; with more nobody is tried until one has been asked about.
const QUESTIONS_WAITING_MAX: usize = 1_024;
/// Nodes that extenders are asked about in one turn of a pod, a thousand at a time; in its next turn they are asked
/// about those that follow. About 100 bytes each, or the whole Node where somebody wants it.
const NODES_MAX: usize = 16_000;
/// Nodes on which evicting pods is put before extenders, the least costly first (k8s: at least 100 candidates).
const SACRIFICES_MAX: usize = 100;
/// Times that a pod is asked about again in one turn because what was left is taken by then.
const RETRIES_MAX: u8 = 3;
/// The reason of a condition where something went wrong (k8s).
pub(crate) const SCHEDULER_ERROR: &str = "SchedulerError";

/// A node, and its JSON where somebody wants it.
#[derive(Debug)]
pub(crate) struct SeenNode {
    pub(crate) info: NodeInfo,
    pub(crate) object: Option<Arc<str>>,
}

/// A pod, and which extenders that manage resources it concerns.
#[derive(Debug, Clone)]
pub(crate) struct SeenPod {
    pub(crate) info: PodInfo,
    pub(crate) concerns: u32,
}

/// Reads what reflectors bring.
#[derive(Debug, Clone)]
pub(crate) struct Lens {
    extenders: Arc<[Arc<Extender>]>,
    keeps_nodes: bool,
}

impl Lens {
    pub(crate) fn node(&self, object: Value) -> Result<SeenNode, String> {
        Ok(SeenNode {
            info: NodeInfo::from_object(&object)?,
            object: self.keeps_nodes.then(|| object.to_string().into()),
        })
    }

    pub(crate) fn pod(&self, object: &Value) -> Result<SeenPod, String> {
        let mut concerns = 0;
        for (at, extender) in self.extenders.iter().enumerate() {
            let config = &extender.config;
            if !config.managed_resources.is_empty() && config.is_interested(object) {
                concerns |= 1 << at;
            }
        }
        let info = PodInfo::from_object(object)?;
        Ok(SeenPod { info, concerns })
    }
}

/// A pod that extenders are being asked about.
#[derive(Debug)]
pub(crate) struct Asked {
    turn: Turn,
    this: Try,
    pin: Option<Box<str>>,
    retries: u8,
}

/// A pod for which others may be evicted if extenders let them.
#[derive(Debug)]
pub(crate) struct Pleading {
    turn: Turn,
    why: Unschedulable,
    alone: bool,
}

/// What was heard.
#[derive(Debug)]
pub(crate) enum Heard {
    Places(Asked, Answer),
    Victims(Box<Pleading>, Result<Vec<Pleaded>, String>),
}

/// What is known for extenders. Bits are numbers of extenders.
#[derive(Debug)]
pub(crate) struct Extending {
    extenders: Arc<[Arc<Extender>]>,
    /// Asked about all pods.
    by_all: u32,
    /// Asked about nodes; asked who is evicted; bind.
    asked: u32,
    preempt: u32,
    bind: u32,
    /// Extenders that manage resources, by pod.
    by_pod: HashMap<PodKey, u32>,
    /// JSON of nodes, if some extender wants whole ones.
    nodes: Option<HashMap<Box<str>, Arc<str>>>,
    /// By priority, then as they came.
    waiting: BTreeMap<(Reverse<i32>, u64), Turn>,
    arrivals: u64,
    /// A question is under way.
    busy: bool,
    heard: VecDeque<Heard>,
}

impl Extending {
    pub(crate) fn new(configs: &[ExtenderConfig]) -> Extending {
        // Settings refuse more; who gives more himself has the rest ignored.
        let mut extenders = Extender::all(configs);
        extenders.truncate(crate::EXTENDERS_MAX);
        let bits = |is: &dyn Fn(&Extender) -> bool| -> u32 {
            let numbers = extenders.iter().enumerate();
            numbers
                .filter(|(_, extender)| is(extender))
                .fold(0, |bits, (at, _)| bits | 1 << at)
        };
        let wants_nodes = extenders.iter().any(|extender| extender.wants_nodes());
        Extending {
            by_all: bits(&|extender| extender.config.managed_resources.is_empty()),
            asked: bits(&Extender::is_asked),
            preempt: bits(&|extender| !extender.config.preempt_verb.is_empty()),
            bind: bits(&|extender| !extender.config.bind_verb.is_empty()),
            by_pod: HashMap::new(),
            nodes: wants_nodes.then(HashMap::new),
            waiting: BTreeMap::new(),
            arrivals: 0,
            busy: false,
            heard: VecDeque::new(),
            extenders: extenders.into(),
        }
    }

    pub(crate) fn lens(&self) -> Lens {
        Lens {
            extenders: self.extenders.clone(),
            keeps_nodes: self.nodes.is_some(),
        }
    }

    pub(crate) fn note_node(&mut self, name: &str, object: Option<Arc<str>>) {
        if let (Some(nodes), Some(object)) = (&mut self.nodes, object) {
            nodes.insert(name.into(), object);
        }
    }

    pub(crate) fn forget_node(&mut self, name: &str) {
        if let Some(nodes) = &mut self.nodes {
            nodes.remove(name);
        }
    }

    pub(crate) fn note_pod(&mut self, pod: PodKey, concerns: u32) {
        if concerns != 0 {
            self.by_pod.insert(pod, concerns);
        }
    }

    pub(crate) fn forget_pod(&mut self, pod: PodKey) {
        if !self.by_pod.is_empty() {
            self.by_pod.remove(&pod);
        }
    }

    /// May one more pod be tried?
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < QUESTIONS_WAITING_MAX
    }

    pub(crate) fn hear(&mut self, heard: Heard) {
        self.heard.push_back(heard);
    }

    fn concerned(&self, pod: PodKey) -> u32 {
        if self.by_pod.is_empty() {
            return self.by_all;
        }
        self.by_all | self.by_pod.get(&pod).copied().unwrap_or(0)
    }

    /// Must somebody be asked where the pod goes?
    pub(crate) fn concerns(&self, pod: PodKey) -> bool {
        self.concerned(pod) & self.asked != 0
    }

    fn of(&self, bits: u32) -> Vec<Arc<Extender>> {
        let numbers = self.extenders.iter().enumerate();
        numbers
            .filter(|(at, _)| bits & 1 << at != 0)
            .map(|(_, extender)| extender.clone())
            .collect()
    }

    /// Who binds the pod, instead of us.
    pub(crate) fn binders(&self, pod: PodKey) -> Vec<Arc<Extender>> {
        if self.bind == 0 {
            return Vec::new();
        }
        self.of(self.concerned(pod) & self.bind)
    }

    fn place(&self, name: &str) -> Place {
        let nodes = self.nodes.as_ref();
        Place {
            name: name.into(),
            object: nodes.and_then(|nodes| nodes.get(name).cloned()),
        }
    }
}

impl Scheduler {
    /// The pod's turn has come, and extenders are to be asked first.
    pub(crate) fn wait_for_question(&mut self, turn: Turn) {
        let priority = self.queue.priority(turn.pod).unwrap_or(0);
        let extending = &mut self.extending;
        extending.arrivals += 1;
        let place = (Reverse(priority), extending.arrivals);
        extending.waiting.insert(place, turn);
    }

    /// Goes on with pods that something was heard about, and asks about the next one.
    pub(crate) fn go_on(&mut self, worker: &Worker) {
        while let Some(heard) = self.extending.heard.pop_front() {
            match heard {
                Heard::Places(asked, answer) => {
                    self.extending.busy = false;
                    self.heard_places(asked, answer, worker);
                }
                Heard::Victims(pleading, answer) => {
                    self.heard_victims(*pleading, answer, worker);
                }
            }
        }
        while !self.extending.busy
            && worker.has_room()
            && let Some((_, turn)) = self.extending.waiting.pop_first()
        {
            self.ask(turn, RETRIES_MAX, worker);
        }
    }

    fn ask(&mut self, turn: Turn, retries: u8, worker: &Worker) {
        let begun = Instant::now();
        let Some(waiting) = self.pending.get(turn.pod) else {
            self.queue.remove(turn.pod, now_micros());
            return;
        };
        // It may have changed while it waited.
        let turn = Turn {
            class: waiting.class(),
            ..turn
        };
        let (address, pin, profile) = (waiting.address(), waiting.pin.clone(), waiting.profile);
        let this = Try {
            begun,
            profile,
            attempt: turn.attempt,
            entered_micros: turn.entered_micros,
            flushed: turn.flushed,
        };
        // After a turn in which all were refused the next ones are looked at.
        let skip = (turn.attempt.saturating_sub(1) as usize).saturating_mul(NODES_MAX);
        let mut random = self.random;
        let found = self.cluster.candidates(
            turn.pod,
            turn.class,
            pin.as_deref(),
            (skip, NODES_MAX),
            &mut || next_random(&mut random),
        );
        self.random = random;
        self.progress.algorithm.observe_duration(begun.elapsed());
        let found = match found {
            Ok(found) => found,
            Err(PickError::Unschedulable(why)) => {
                self.count_unschedulable(this);
                self.unschedulable(turn, pin.as_deref(), &why, false, worker);
                return;
            }
            Err(PickError::UnknownClass) => {
                self.queue.error(turn.pod, now_micros());
                return;
            }
        };
        let extending = &self.extending;
        let place = |node: NodeId| Some(extending.place(self.cluster.node_name(node)?));
        let question = Question {
            address,
            extenders: extending.of(extending.concerned(turn.pod) & extending.asked),
            nominated: found.nominated.and_then(place),
            places: found.nodes.iter().filter_map(|node| place(*node)).collect(),
        };
        self.extending.busy = true;
        let asked = Asked {
            turn,
            this,
            pin,
            retries,
        };
        worker.ask(question, asked);
    }

    fn heard_places(&mut self, asked: Asked, answer: Answer, worker: &Worker) {
        let Asked {
            turn,
            this,
            pin,
            retries,
        } = asked;
        let (pod, now) = (turn.pod, now_micros());
        if self.pending.get(pod).is_none() {
            self.queue.remove(pod, now);
            return;
        }
        match answer {
            Answer::Places(places) => {
                let known = places
                    .iter()
                    .filter_map(|(name, score)| Some((self.cluster.node(name)?, *score)));
                let known: Vec<(NodeId, i64)> = known.collect();
                let mut random = self.random;
                let picked = self
                    .cluster
                    .pick_among(pod, turn.class, &known, &mut || next_random(&mut random));
                self.random = random;
                match picked {
                    Ok(Some(node)) => {
                        let reservations = self.reservations_of(pod);
                        self.settle(turn, (node, false), reservations, this, worker);
                    }
                    // Others have taken the room meanwhile.
                    Ok(None) if retries > 0 => self.ask(turn, retries - 1, worker),
                    Ok(None) | Err(_) => self.queue.error(pod, now),
                }
            }
            Answer::Nowhere(reasons) => {
                self.count_unschedulable(this);
                let pin = pin.as_deref();
                let Some(mut why) = self.cluster.rejections(turn.class, pin) else {
                    self.queue.error(pod, now);
                    return;
                };
                for (reason, nodes) in reasons {
                    match why.reasons.iter_mut().find(|(known, _)| *known == reason) {
                        Some((_, sum)) => *sum += nodes,
                        None => why.reasons.push((reason, nodes)),
                    }
                }
                // Nobody knows what changes an extender's mind: anything may.
                self.pending.note_rejection(pod, why.rejected_by);
                self.pending.note_rejection(pod, Rejectors::EXTENDER);
                why.rejected_by = PluginSet::ALL;
                self.unschedulable(turn, pin, &why, true, worker);
            }
            Answer::Failed(error) => self.went_wrong(turn, this, &error, worker),
            Answer::Gone => self.drop_pending(pod, now),
        }
    }

    /// Something went wrong that says nothing about nodes: the pod says so, and is tried again after a while.
    fn went_wrong(&mut self, turn: Turn, this: Try, error: &str, worker: &Worker) {
        self.progress.errors.fetch_add(1, Ordering::Relaxed);
        if let Some(profile) = self.progress.profile(this.profile) {
            profile.error.observe_duration(this.begun.elapsed());
        }
        self.give_up_nomination(turn.pod);
        self.queue.error(turn.pod, now_micros());
        self.say_error(turn.pod, error, worker);
    }

    pub(crate) fn say_error(&mut self, pod: PodKey, error: &str, worker: &Worker) {
        if self.pending.note_reason(pod, SCHEDULER_ERROR, error)
            && let Some(waiting) = self.pending.get(pod)
        {
            worker.tell_unschedulable(&waiting.address(), error);
        }
    }

    /// Asks extenders who may be evicted for a pod. False where none has a say, or there is no room to ask: then
    /// what is found is as good as it gets.
    pub(crate) fn plead(
        &mut self,
        turn: Turn,
        candidates: &[Candidate],
        (why, alone): (&Unschedulable, bool),
        worker: &Worker,
    ) -> bool {
        let extending = &self.extending;
        let Some(waiting) = self.pending.get(turn.pod) else {
            return false;
        };
        let sacrifice = |candidate: &Candidate| {
            let pods = self.cluster.pods_on(candidate.node);
            let named = pods
                .into_iter()
                .filter_map(|pod| Some((pod, self.pods.name_of(pod)?.into())));
            Some(Sacrifice {
                node: self.cluster.node_name(candidate.node)?.into(),
                victims: candidate.victims.clone(),
                violations: candidate.violations,
                pods: named.collect(),
            })
        };
        let plea = Plea {
            address: waiting.address(),
            extenders: extending.of(extending.concerned(turn.pod) & extending.preempt),
            sacrifices: candidates.iter().filter_map(sacrifice).collect(),
        };
        let pleading = Pleading {
            turn,
            why: why.clone(),
            alone,
        };
        worker.plead(plea, pleading)
    }

    /// Has an extender a say in who is evicted for the pod?
    pub(crate) fn is_pleaded_for(&self, pod: PodKey) -> bool {
        self.extending.concerned(pod) & self.extending.preempt != 0
    }

    /// How many nodes are put before them.
    pub(crate) fn sacrifices_max() -> usize {
        SACRIFICES_MAX
    }

    fn heard_victims(
        &mut self,
        pleading: Pleading,
        answer: Result<Vec<Pleaded>, String>,
        worker: &Worker,
    ) {
        let Pleading { turn, why, alone } = pleading;
        if self.pending.get(turn.pod).is_none() {
            self.queue.remove(turn.pod, now_micros());
            return;
        }
        let text = match answer {
            Ok(left) => {
                let candidate = |left: Pleaded| {
                    Some(Candidate {
                        node: self.cluster.node(&left.node)?,
                        victims: left.victims,
                        violations: left.violations,
                    })
                };
                let left: Vec<Candidate> = left.into_iter().filter_map(candidate).collect();
                let best = self.cluster.preempt_best(turn.class, &left, now_micros());
                match best {
                    // Upstream leaves a node in view where it was, if extenders leave none.
                    Ok(Preemption::Hopeless(text)) => Some(text),
                    best => self.preempted(turn, best, worker),
                }
            }
            Err(error) => Some(error),
        };
        self.parked(turn, &why, text, alone, worker);
    }
}

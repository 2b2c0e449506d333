//! One cluster, or a coordinator of shards: the same calls, for who works with either.
//!
//! Chooses nothing itself, and does not know where shards are.

use super::{Coordinator, Links};
use crate::{
    Admission, Among, Asked, Bindings, Budget, Candidate, Candidates, ClassId, Cluster, Concerned,
    Explanation, MakerKind, NodeChange, NodeId, NodeInfo, Pairs, PickError, PodInfo, PodKey,
    PodSpec, Preemption, Thing, ThingKind, Unschedulable, Volumes,
};
use value::Value;

/// Where pods are placed. Each call is that of [`Cluster`] by the same name.
#[derive(Debug)]
pub enum Placer<L> {
    /// All nodes in one.
    One(Box<Cluster>),
    /// The nodes shared out to shards.
    Many(Box<Coordinator<L>>),
}

macro_rules! reading {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        impl<L: Links> Placer<L> {
            $(#[doc = concat!("As [`Cluster::", stringify!($name), "`].")]
            pub fn $name(&self $(, $arg: $type)*) -> $result {
                match self {
                    Placer::One(cluster) => cluster.$name($($arg),*),
                    Placer::Many(shards) => shards.$name($($arg),*),
                }
            })*
        }
    };
}

macro_rules! writing {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        impl<L: Links> Placer<L> {
            $(#[doc = concat!("As [`Cluster::", stringify!($name), "`].")]
            pub fn $name(&mut self $(, $arg: $type)*) -> $result {
                match self {
                    Placer::One(cluster) => cluster.$name($($arg),*),
                    Placer::Many(shards) => shards.$name($($arg),*),
                }
            })*
        }
    };
}

reading! {
    fn node(name: &str) -> Option<NodeId>;
    fn node_name(node: NodeId) -> Option<&str>;
    fn nodes() -> usize;
    fn pods() -> usize;
    fn has_pod(key: PodKey) -> bool;
    fn is_assumed(key: PodKey) -> bool;
    fn assumed_pods() -> usize;
    fn nominated_name(pod: PodKey) -> Option<&str>;
    fn volumes_of(pod: &PodInfo) -> Volumes;
    fn classes() -> usize;
}

writing! {
    fn upsert_node(node: &NodeInfo) -> NodeChange;
    fn remove_node(name: &str) -> bool;
    fn observe_pod(pod: &PodInfo) -> bool;
    fn remove_pod(key: PodKey) -> bool;
    fn assume(key: PodKey, class: ClassId, node: NodeId) -> bool;
    fn forget(key: PodKey) -> bool;
    fn class_of(spec: &PodSpec) -> ClassId;
    fn retain_class(class: ClassId) -> ();
    fn release_class(class: ClassId) -> ();
    fn could_suit(class: ClassId, node: NodeId) -> Option<bool>;
    fn audit(class: ClassId, node: NodeId) -> Option<bool>;
    fn feasible(class: ClassId) -> Option<usize>;
    fn explain(class: ClassId, node: NodeId) -> Option<Explanation>;
    fn pick(
        class: ClassId,
        pin: Option<&str>,
        random: &mut dyn FnMut() -> u64
    ) -> Result<NodeId, PickError>;
    fn pick_for(
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        random: &mut dyn FnMut() -> u64
    ) -> Result<NodeId, PickError>;
    fn pick_admitted(
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        among: Among<'_>,
        random: &mut dyn FnMut() -> u64
    ) -> Option<Result<NodeId, PickError>>;
    fn preempt_among(
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        now_micros: i64,
        random: &mut dyn FnMut() -> u64,
        admit: Option<&mut dyn FnMut(Asked<'_>) -> Admission>
    ) -> Result<Preemption, PickError>;
    fn note_thing(key: &str, thing: Thing) -> Vec<Concerned>;
    fn forget_thing(kind: ThingKind, key: &str) -> Vec<Concerned>;
    fn take_volumes(pod: PodKey, class: ClassId, node: NodeId) -> Option<Bindings>;
    fn give_back_volumes(pod: PodKey) -> bool;
    fn preempt(
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        now_micros: i64,
        random: &mut dyn FnMut() -> u64
    ) -> Result<Preemption, PickError>;
    fn note_evictions(victims: &[PodKey]) -> ();
    fn evictions_failed(preemptor: PodKey) -> ();
    fn nominate(pod: PodKey, class: ClassId, node: NodeId) -> bool;
    fn nominate_by_name(pod: PodKey, class: ClassId, node: &str) -> bool;
    fn withdraw_nomination(pod: PodKey) -> bool;
    fn upsert_namespace(name: &str, labels: Pairs) -> bool;
    fn remove_namespace(name: &str) -> ();
    fn note_maker(kind: MakerKind, namespace: &str, name: &str, selector: &Value) -> bool;
    fn upsert_budget(budget: Budget) -> ();
    fn remove_budget(namespace: &str, name: &str) -> ();
}

/// What goes with one cluster only: who has shards does not ask.
impl<L: Links> Placer<L> {
    /// As [`Cluster::candidates`].
    pub fn candidates(
        &mut self,
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        range: (usize, usize),
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Candidates, PickError> {
        match self {
            Placer::One(cluster) => cluster.candidates(pod, class, pin, range, random),
            Placer::Many(_) => Err(PickError::UnknownClass),
        }
    }

    /// As [`Cluster::pick_among`].
    pub fn pick_among(
        &mut self,
        pod: PodKey,
        class: ClassId,
        nodes: &[(NodeId, i64)],
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Option<NodeId>, PickError> {
        match self {
            Placer::One(cluster) => cluster.pick_among(pod, class, nodes, random),
            Placer::Many(_) => Err(PickError::UnknownClass),
        }
    }

    /// As [`Cluster::rejections`].
    pub fn rejections(&mut self, class: ClassId, pin: Option<&str>) -> Option<Unschedulable> {
        match self {
            Placer::One(cluster) => cluster.rejections(class, pin),
            Placer::Many(_) => None,
        }
    }

    /// As [`Cluster::preemption_candidates`].
    pub fn preemption_candidates(
        &mut self,
        of: (PodKey, ClassId),
        pin: Option<&str>,
        max: usize,
        now_micros: i64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Result<Vec<Candidate>, Preemption>, PickError> {
        match self {
            Placer::One(cluster) => cluster.preemption_candidates(of, pin, max, now_micros, random),
            Placer::Many(_) => Err(PickError::UnknownClass),
        }
    }

    /// As [`Cluster::preempt_best`].
    pub fn preempt_best(
        &self,
        class: ClassId,
        candidates: &[Candidate],
        now_micros: i64,
    ) -> Result<Preemption, PickError> {
        match self {
            Placer::One(cluster) => cluster.preempt_best(class, candidates, now_micros),
            Placer::Many(_) => Err(PickError::UnknownClass),
        }
    }

    /// As [`Cluster::pods_on`].
    pub fn pods_on(&self, node: NodeId) -> Vec<PodKey> {
        match self {
            Placer::One(cluster) => cluster.pods_on(node).collect(),
            Placer::Many(_) => Vec::new(),
        }
    }
}

/// What goes with shards only.
impl<L: Links> Placer<L> {
    /// Are there shards?
    pub fn is_many(&self) -> bool {
        matches!(self, Placer::Many(_))
    }

    /// As [`Coordinator::must_list`]: nothing is ever missing in one cluster.
    pub fn must_list(&self) -> Option<u64> {
        match self {
            Placer::One(_) => None,
            Placer::Many(shards) => shards.must_list(),
        }
    }

    /// Sends what waits to be sent.
    pub fn flush(&mut self) {
        if let Placer::Many(shards) = self {
            shards.flush();
        }
    }

    /// Tries to get lost shards back, and tells those that are.
    pub fn revive(&mut self) -> Vec<usize> {
        let Placer::Many(shards) = self else {
            return Vec::new();
        };
        let mut lost = shards.lost();
        lost.retain(|shard| shards.revive(*shard));
        lost
    }
}

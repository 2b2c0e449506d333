//! One cluster, or a coordinator of several shards: the same calls.

use placement::shards::{Coordinator, Direct};
use placement::{
    Bindings, Budget, ClassId, Cluster, Concerned, Explanation, MakerKind, NodeChange, NodeId,
    NodeInfo, Pairs, PickError, PodInfo, PodKey, PodSpec, Preemption, Thing, ThingKind, Volumes,
};
use value::Value;

pub enum Placer {
    One(Box<Cluster>),
    Many(Box<Coordinator<Direct>>),
}

macro_rules! reading {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Placer {
            $(pub fn $name(&self $(, $arg: $type)*) -> $result {
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
        impl Placer {
            $(pub fn $name(&mut self $(, $arg: $type)*) -> $result {
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
    fn is_assumed(key: PodKey) -> bool;
    fn pods() -> usize;
    fn classes() -> usize;
    fn volumes_of(pod: &PodInfo) -> Volumes;
}

writing! {
    fn upsert_node(node: &NodeInfo) -> NodeChange;
    fn remove_node(name: &str) -> bool;
    fn observe_pod(pod: &PodInfo) -> bool;
    fn forget(key: PodKey) -> bool;
    fn assume(key: PodKey, class: ClassId, node: NodeId) -> bool;
    fn upsert_namespace(name: &str, labels: Pairs) -> bool;
    fn remove_namespace(name: &str) -> ();
    fn upsert_budget(budget: Budget) -> ();
    fn remove_budget(namespace: &str, name: &str) -> ();
    fn note_maker(kind: MakerKind, namespace: &str, name: &str, selector: &Value) -> bool;
    fn class_of(spec: &PodSpec) -> ClassId;
    fn feasible(class: ClassId) -> Option<usize>;
    fn explain(class: ClassId, node: NodeId) -> Option<Explanation>;
    fn pick(class: ClassId, pin: Option<&str>, random: &mut dyn FnMut() -> u64) -> Result<NodeId, PickError>;
    fn preempt(pod: PodKey, class: ClassId, pin: Option<&str>, now: i64, random: &mut dyn FnMut() -> u64) -> Result<Preemption, PickError>;
    fn nominate(pod: PodKey, class: ClassId, node: NodeId) -> bool;
    fn note_thing(key: &str, thing: Thing) -> Vec<Concerned>;
    fn forget_thing(kind: ThingKind, key: &str) -> Vec<Concerned>;
    fn take_volumes(pod: PodKey, class: ClassId, node: NodeId) -> Option<Bindings>;
    fn give_back_volumes(pod: PodKey) -> bool;
    fn withdraw_nomination(pod: PodKey) -> bool;
}

impl Placer {
    pub fn sizes(&self) -> placement::Sizes {
        match self {
            Placer::One(cluster) => cluster.sizes(),
            Placer::Many(_) => panic!("shards have sizes of their own"),
        }
    }
}

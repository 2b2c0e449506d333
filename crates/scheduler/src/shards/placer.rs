//! One cluster, or a coordinator of shards: the same calls.
//!
//! Does not know where shards are.

use placement::shards::{Coordinator, Links};
use placement::{
    Budget, ClassId, Cluster, MakerKind, NodeChange, NodeId, NodeInfo, Pairs, PickError, PodInfo,
    PodKey, PodSpec, Preemption,
};
use serde_json::Value;

/// See the module's head.
pub(crate) enum Placer {
    One(Box<Cluster>),
    Many(Box<Coordinator<Box<dyn Links + Send>>>),
}

macro_rules! reading {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Placer {
            $(pub(crate) fn $name(&self $(, $arg: $type)*) -> $result {
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
            $(pub(crate) fn $name(&mut self $(, $arg: $type)*) -> $result {
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
    fn nominated_name(pod: PodKey) -> Option<&str>;
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
    fn pick_for(
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        random: &mut dyn FnMut() -> u64
    ) -> Result<NodeId, PickError>;
    fn preempt(
        pod: PodKey,
        class: ClassId,
        pin: Option<&str>,
        now_micros: i64,
        random: &mut dyn FnMut() -> u64
    ) -> Result<Preemption, PickError>;
    fn nominate(pod: PodKey, class: ClassId, node: NodeId) -> bool;
    fn nominate_by_name(pod: PodKey, class: ClassId, node: &str) -> bool;
    fn withdraw_nomination(pod: PodKey) -> bool;
    fn upsert_namespace(name: &str, labels: Pairs) -> bool;
    fn remove_namespace(name: &str) -> ();
    fn note_maker(kind: MakerKind, namespace: &str, name: &str, selector: &Value) -> bool;
    fn upsert_budget(budget: Budget) -> ();
    fn remove_budget(namespace: &str, name: &str) -> ();
}

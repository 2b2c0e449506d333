//! What coordinator and shards say to each other.
//!
//! Orders that tell something have no answer, orders that ask have one. Words of labels travel as text, classes,
//! kinds of pods and held terms by the coordinator's numbers. Does not know bytes (see `wire.rs`).

use super::volumes::Barred;
use crate::key::PodKey;
use crate::objects::{NodeInfo, PodSpec};
use crate::preempt::Budget;
use crate::storage::Holding;
use crate::tally::Role;
use crate::terms::{MakerKind, Pairs, PodTerm};
use crate::verdict::Unschedulable;
use crate::volumes::VolumeBits;
use meta::Value;
use std::sync::Arc;

/// A message to a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Request(pub(crate) Order);

/// A shard's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply(pub(crate) Answer);

impl Request {
    /// Is there an answer to wait for?
    pub fn asks(&self) -> bool {
        self.0.asks()
    }
}

/// See [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Order {
    // ---- told
    Node(Arc<NodeInfo>),
    RemoveNode(Box<str>),
    /// A kind of pods: a spec without what matters only before a pod has a node, and whether they are going.
    Kind(u32, Arc<PodSpec>, bool),
    DropKind(u32),
    /// A pod is on a node, or is assumed to be.
    Pod(OnNode),
    RemovePod(PodKey),
    /// A pod is to come to a node, or no longer.
    Claim(Claim),
    /// A namespace's labels; `None` when it is gone.
    Namespace(Box<str>, Option<Pairs>),
    Maker(MakerKind, Box<str>, Box<str>, Value),
    Budget(Budget),
    RemoveBudget(Box<str>, Box<str>),
    Term(u32, Role, PodTerm),
    DropTerm(u32),
    /// Some node spells that host name out as a label (or none does any more).
    Host(Box<str>, bool),
    /// A class takes the place of the one with that number.
    Class(u32, Arc<PodSpec>),
    /// These pods are being evicted.
    Evicting(Vec<PodKey>),
    /// Nobody on that node is, after all.
    Spare(Box<str>),
    // ---- asked
    /// What the class thinks of this shard's nodes: [`Answer::Told`].
    Survey(u32),
    /// The `nth` node of a cell's best level, for this pod if one is named: [`Answer::Taken`].
    Take(Take),
    /// Nodes for pods alike: [`Answer::Ran`].
    Run(Run),
    /// How many nodes with room these cells have: [`Answer::Number`].
    Count(u32, Vec<u32>),
    /// What the class thinks of one node, and what speaks against that: [`Answer::Stands`].
    Where(u32, Box<str>, Looked, VolumeBits),
    /// Why no node would do: [`Answer::Rejected`].
    Reasons(u32, Looked, Bars),
    /// [`Answer::Told`], by a look at every state, remembering nothing.
    Scan(u32),
    /// The same of nodes that nothing speaks against.
    Sift(u32, Arc<Barred>),
    /// The `nth` node of a cell as [`Order::Sift`] told of it, with that score of room: [`Answer::Named`].
    Draw(u32, Arc<Barred>, u32, i64, u64),
    /// On how many nodes may evicting help? [`Answer::Number`].
    Potential(u32, Option<Box<str>>, Looked, Bars),
    /// Who would have to go: [`Answer::Tried`].
    TryOut(TryOut),
    /// Are pods still going that were evicted for a pod of the class from that node? [`Answer::Number`], 0 or 1.
    Waits(u32, Box<str>, Looked, VolumeBits),
}

impl Order {
    pub(crate) fn asks(&self) -> bool {
        matches!(
            self,
            Order::Survey(..)
                | Order::Take(..)
                | Order::Run(..)
                | Order::Count(..)
                | Order::Where(..)
                | Order::Reasons(..)
                | Order::Scan(..)
                | Order::Sift(..)
                | Order::Draw(..)
                | Order::Potential(..)
                | Order::TryOut(..)
                | Order::Waits(..)
        )
    }
}

/// The sums over all shards; `None` for a class that looks at no other pods.
pub(crate) type Looked = Option<Arc<Part<Box<str>>>>;

/// What speaks against nodes; `None` where nothing does.
pub(crate) type Bars = Option<Arc<Barred>>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OnNode {
    pub(crate) key: PodKey,
    pub(crate) node: Box<str>,
    pub(crate) kind: u32,
    pub(crate) assumed: bool,
    pub(crate) started_micros: i64,
    pub(crate) name_hash: u64,
    pub(crate) preempted: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Claim {
    pub(crate) pod: PodKey,
    pub(crate) node: Box<str>,
    pub(crate) priority: i32,
    pub(crate) kind: u32,
    pub(crate) add: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Take {
    pub(crate) class: u32,
    /// Number of the last answer: what it rests on.
    pub(crate) generation: u64,
    pub(crate) cell: u32,
    pub(crate) nth: u64,
    pub(crate) pod: Option<PodKey>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) class: u32,
    /// Number of the last answer: what it rests on.
    pub(crate) generation: u64,
    /// For each cell its total without room, and whether the totals may change when its last node is full.
    pub(crate) totals: Vec<(u32, i64, bool)>,
    /// Pods are placed while the best total is as good as this.
    pub(crate) floor: i64,
    /// Others place at the same time: at the end no total may be above the floor.
    pub(crate) together: bool,
    pub(crate) seed: u64,
    pub(crate) pods: Vec<PodKey>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TryOut {
    pub(crate) class: u32,
    pub(crate) pin: Option<Box<str>>,
    pub(crate) look: Looked,
    pub(crate) bars: Bars,
    /// By node, who is in the way of volumes.
    pub(crate) holding: Vec<(Box<str>, Holding)>,
    pub(crate) now_micros: i64,
    /// Candidates to be found.
    pub(crate) wanted: u64,
    pub(crate) seed: u64,
}

/// See [`Reply`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Told(Told),
    /// The node's name; `None` if what the order rested on has changed.
    Taken(Option<Box<str>>, Told),
    /// Names of the nodes of the first pods, in order.
    Ran(Vec<Box<str>>, Told),
    Number(u64),
    Named(Option<Box<str>>),
    Stands(Stands),
    Rejected(Unschedulable),
    Tried(Option<Sacrificed>, Vec<(String, usize)>),
    /// The order means nothing to the shard.
    Confused,
}

/// What differs from the answer before.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    /// Everything said before is void.
    pub(crate) anew: bool,
    pub(crate) generation: u64,
    pub(crate) cells: Vec<CellTold>,
    /// Cells that have no node with room any more.
    pub(crate) gone: Vec<u32>,
    pub(crate) part: Option<Part<Box<str>>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CellTold {
    pub(crate) cell: u32,
    /// `None`: as before.
    pub(crate) facts: Option<CellFacts>,
    pub(crate) level: Level,
}

/// How much room there is on the best nodes of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    /// Weighted score of room.
    pub(crate) top: i64,
    /// Nodes that have it.
    pub(crate) top_nodes: u64,
    /// All nodes with room, where the class counts nodes.
    pub(crate) nodes: u64,
}

/// What the nodes of a cell have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CellFacts {
    pub(crate) soft: i64,
    pub(crate) preferred: i64,
    pub(crate) images: Vec<u32>,
    pub(crate) domains: Vec<Domain>,
    pub(crate) counted: u64,
    pub(crate) own: Vec<i64>,
    /// Pods are to come that go first.
    pub(crate) claimed: bool,
    /// How many of those count, by the place of the tally in the class's company.
    pub(crate) coming: Vec<(u32, i64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Domain {
    /// The node lacks the key.
    Nowhere,
    /// Its own name, which no other node has.
    Own,
    Of(Box<str>),
}

/// A shard's part of the sums a class looks at, or all parts together. Sorted by domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part<D> {
    /// For each hard constraint.
    pub(crate) hard: Vec<Stocked<D>>,
    /// Soft constraints, then what it wants, shuns, is shunned by, likes.
    pub(crate) sums: Vec<Summed<D>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stocked<D> {
    pub(crate) counts: Vec<(D, i64)>,
    /// Domains of single nodes: (pods, domains), sorted.
    pub(crate) single: Vec<(i64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summed<D> {
    pub(crate) by_domain: Vec<(D, i64)>,
    /// Pods in all domains.
    pub(crate) pods: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stands {
    /// There is no such node here.
    Unknown,
    Rejected(Unschedulable),
    Feasible {
        cell: u32,
        facts: CellFacts,
        fit: i64,
        balanced: i64,
        room: i64,
    },
}

/// The best that evicting can do in one shard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sacrificed {
    pub(crate) node: Box<str>,
    pub(crate) victims: Vec<PodKey>,
    pub(crate) violations: u64,
    pub(crate) highest: i32,
    pub(crate) sum: i64,
    /// Start of the earliest of the most important.
    pub(crate) earliest: i64,
}

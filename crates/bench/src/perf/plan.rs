//! What a case is made of: nodes, pods that are there before, pods that are measured, and what goes on meanwhile.
//!
//! A description only: the core or a whole plane carries it out.

use std::time::Duration;

use meta::Value;

use super::shapes::Disk;

/// How large a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Nodes.
    pub nodes: usize,
    /// Pods that are there before, of each kind.
    pub before: usize,
    /// Pods that are measured.
    pub pods: usize,
}

/// What becomes of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are bound, and that is waited for.
    Bound,
    /// They have a gate, and wait to the end.
    Gated,
    /// They are bound, and deleted one after the other while others are measured.
    Deleted {
        /// So many a second.
        per_second: usize,
    },
    /// They have a finalizer and are deleted at once, so many a second: some are bound before that, some never.
    Doomed {
        /// So many a second.
        per_second: usize,
    },
}

/// Makes the object of a place.
pub type Maker = Box<dyn Fn(usize) -> Value>;

/// Some pods.
pub struct Pods {
    /// How many.
    pub count: usize,
    /// Namespaces, in turn.
    pub spaces: Vec<String>,
    /// The pod at a place, under the name of place 0.
    pub pod: Maker,
    /// So many kinds come in turn, else alike but for their names; none: each is a kind of its own.
    pub kinds: Option<usize>,
    /// Each has a claim with a volume.
    pub disk: Option<Disk>,
    /// What becomes of them.
    pub fate: Fate,
}

impl Pods {
    /// Pods that differ in nothing but their names, in a namespace.
    pub fn new(count: usize, space: &str, pod: Value) -> Pods {
        Pods {
            count,
            spaces: vec![space.to_owned()],
            pod: Box::new(move |_| pod.clone()),
            kinds: Some(1),
            disk: None,
            fate: Fate::Bound,
        }
    }

    /// The same, each with a volume of its own.
    pub fn with_disk(mut self, disk: Disk) -> Pods {
        let inner = self.pod;
        self.pod = Box::new(move |place| super::shapes::with_claim(inner(place)));
        self.disk = Some(disk);
        self.kinds = None;
        self
    }

    /// The same, with another fate.
    pub fn with_fate(mut self, fate: Fate) -> Pods {
        self.fate = fate;
        self
    }

    /// Pods of one slot are alike, and in one namespace: how many slots there are.
    pub fn slots(&self) -> usize {
        self.kinds.unwrap_or(0).max(1) * self.spaces.len().max(1)
    }

    /// The slot of the pod at a place, where pods are alike at all.
    pub fn slot(&self, place: usize) -> Option<usize> {
        let (kinds, spaces) = (self.kinds?.max(1), self.spaces.len().max(1));
        Some(place % kinds * spaces + place % spaces)
    }

    /// The namespace of the pod at a place.
    pub fn space(&self, place: usize) -> &str {
        let space = self.spaces.get(place % self.spaces.len().max(1));
        space.map_or("default", String::as_str)
    }
}

/// What goes on while pods are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    /// A pod of high priority that asks for so much comes.
    Pod {
        /// Its CPU.
        cpu: &'static str,
        /// As often.
        every: Duration,
    },
    /// A node, a pod that fits nowhere and a Service come, and go the next time.
    Mixed {
        /// As often.
        every: Duration,
    },
}

impl Meanwhile {
    /// How often something happens.
    pub fn every(self) -> Duration {
        match self {
            Meanwhile::Pod { every, .. } | Meanwhile::Mixed { every } => every,
        }
    }
}

/// An object beside nodes and pods: its group, its resource, its namespace, itself.
pub type Beside = (&'static str, &'static str, &'static str, Value);

/// A case in its size.
pub struct Plan {
    /// Namespaces, and whether they are labelled.
    pub spaces: Vec<(String, bool)>,
    /// Objects that are there before the pods.
    pub beside: Vec<Beside>,
    /// How many nodes.
    pub nodes: usize,
    /// The node at a place.
    pub node: Maker,
    /// Pods that are there before.
    pub before: Vec<Pods>,
    /// Pods that are measured.
    pub measured: Pods,
    /// What goes on meanwhile.
    pub meanwhile: Option<Meanwhile>,
    /// Pods that must go for each that is measured.
    pub victims_each: usize,
}

impl Plan {
    /// Default nodes and pods, in the default namespace.
    pub fn of(size: Size, pod: Value) -> Plan {
        Plan {
            spaces: Vec::new(),
            beside: Vec::new(),
            nodes: size.nodes,
            node: Box::new(super::shapes::node),
            before: Vec::new(),
            measured: Pods::new(size.pods, "default", pod),
            meanwhile: None,
            victims_each: 0,
        }
    }

    /// All pods in the order in which they are made; numbers run through.
    pub fn groups(&self) -> impl Iterator<Item = (usize, &Pods)> {
        let groups = self.before.iter().chain([&self.measured]);
        groups.scan(0, |next, group| {
            let first = *next;
            *next += group.count;
            Some((first, group))
        })
    }

    /// Number of the first measured pod.
    pub fn first_measured(&self) -> usize {
        self.before.iter().map(|group| group.count).sum()
    }

    /// Whether the picks can be made again from the bindings alone: nothing goes, and nodes stay as they are.
    pub fn replays(&self) -> bool {
        let stays = |group: &Pods| matches!(group.fate, Fate::Bound | Fate::Gated);
        let quiet = match self.meanwhile {
            None => true,
            // Such a pod is on no node.
            Some(Meanwhile::Pod { cpu, .. }) => cpu == super::cases::TOO_MUCH_CPU,
            Some(Meanwhile::Mixed { .. }) => false,
        };
        quiet && self.victims_each == 0 && self.before.iter().all(stays)
    }
}

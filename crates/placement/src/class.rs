//! One class of pods: its rules against shapes and states.
//!
//! What a class thinks of a shape is its *standing*: static raw scores, topology domains, which of the class's
//! images are there. Nodes that have also what the class counts node by node in common are one *cell*; within
//! a cell nodes differ only in how free they are. All of it is a pure function of class and state.
//!
//! Does not know the queue, who owns pods, what speaks against single nodes for volumes (see `volumes.rs`), or how the best node is found (see `index.rs`).

use crate::asks::{Ask, Names, Terms, compile, named_nodes};
use crate::company::{Candidate, Company, Look, RawCompany, Refusal, Rules};
use crate::fleet::{Capacity, Counts, Due, Fleet, Load, Port, Shape, scalar};
use crate::hashing::{Hashing, alike};
use crate::index::Index;
use crate::intern::Word;
use crate::objects::{PodSpec, VolumeReason};
use crate::profile::{Profile, Strategy, Weights};
use crate::rules;
use crate::scarce::ShapeSet;
use crate::semantics::{self, Semantics};
use crate::verdict::Plugin;
use crate::volumes::VolumeBits;
use hashbrown::HashMap;
use std::sync::Arc;

/// A static verdict of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Static {
    Unknown,
    Rejected(Plugin),
    /// By the node affinity that the profile adds.
    NotEnforced,
    /// Number of the standing.
    Stands(u32),
}

/// What shapes can have in common for a class.
#[allow(clippy::derived_hash_with_manual_eq)] // Equal is what would be derived.
#[derive(Clone, Debug, Default, Eq, Hash)]
pub(crate) struct Standing {
    /// Soft taints not tolerated.
    pub(crate) soft: i64,
    /// Preferred weights matched.
    pub(crate) preferred: i64,
    /// Which of the class's images the node has, by place.
    pub(crate) images: Box<[u32]>,
    pub(crate) domains: Box<[Word]>,
    /// Which spread constraints count the node.
    pub(crate) counted: u64,
    /// Which reasons of volumes speak against the node: a bit each.
    pub(crate) volumes: VolumeBits,
    /// The node does not declare a feature that the pod needs.
    pub(crate) lacks_features: bool,
}

/// What states can have in common for a class, room apart.
#[allow(clippy::derived_hash_with_manual_eq)] // Equal is what would be derived.
#[derive(Clone, Debug, Default, Eq, Hash)]
pub(crate) struct Cell {
    pub(crate) standing: u32,
    pub(crate) own: Box<[i64]>,
    pub(crate) claims: Counts<(i32, u32)>,
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        let numbers = |s: &Self| (s.soft, s.preferred, s.counted, s.volumes, s.lacks_features);
        numbers(self) == numbers(other)
            && alike(&self.images, &other.images)
            && alike(&self.domains, &other.domains)
    }
}

impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        self.standing == other.standing
            && alike(&self.own, &other.own)
            && alike(&self.claims, &other.claims)
    }
}

/// Scores of a state for a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dynamic {
    pub(crate) fit: i64,
    pub(crate) balanced: i64,
    /// Both, weighted.
    pub(crate) room: i64,
}

/// A resource that is scored.
#[derive(Clone, Copy, Debug)]
enum Scored {
    Cpu,
    Memory,
    Ephemeral,
    Scalar(Word),
}

/// What a node is short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// A host port.
    HostPorts,
    /// Room for one more pod.
    Pods,
    /// A resource every node has.
    Native(&'static str),
    /// Any other resource.
    Scalar(Word),
}

impl Shortage {
    pub(crate) fn plugin(self) -> Plugin {
        match self {
            Shortage::HostPorts => Plugin::NodePorts,
            _ => Plugin::NodeResourcesFit,
        }
    }
}

/// All scores of a cell but those of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) taint_raw: i64,
    pub(crate) taint: i64,
    pub(crate) affinity_raw: i64,
    pub(crate) affinity: i64,
    pub(crate) image: i64,
    pub(crate) spread_raw: i64,
    pub(crate) spread: i64,
    pub(crate) pods_raw: i64,
    pub(crate) pods: i64,
    pub(crate) total: i64,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) spec: PodSpec,
    pub(crate) profile: Arc<Profile>,
    pub(crate) kind: u32,
    load: Load,
    /// Other resources that the fit filter looks at.
    fit_scalars: Box<[(Word, i64)]>,
    /// Those of them that devices stand for where a node offers none.
    delegated: Box<[Word]>,
    fit_resources: Box<[(Scored, i64)]>,
    balanced_resources: Box<[Scored]>,
    /// Words held for scored resources.
    held_words: Vec<Word>,
    best_effort: bool,
    /// Weights of CPU and memory where only these two are scored, and by the rules of 1.36.
    usual_room: Option<(i64, i64)>,
    /// As 1.20 does, the fit filter tests what the pod does not ask for, too.
    tests_all: bool,
    selector: Box<[Ask]>,
    required: Option<Box<[Terms]>>,
    preferred: Box<[(i64, Terms)]>,
    /// What the profile requires of nodes besides.
    added: Option<Box<[Terms]>>,
    /// What its volumes ask.
    volumes: Box<[(VolumeReason, Box<[Terms]>)]>,
    node_name: Option<Word>,
    pub(crate) names: Names,
    tolerates_cordon: bool,
    images: Box<[Word]>,
    /// Features that nodes must declare.
    features: Box<[Word]>,
    /// Some shape has one of the images.
    image_matters: bool,
    /// The rules about other pods that it brings itself; kept by [`crate::Cluster`].
    pub(crate) rules: Rules,
    pub(crate) company: Company,
    /// How often the company changed: cells are numbered anew with each.
    pub(crate) companies: u64,
    /// What the company was made from: versions of held terms and of makers.
    pub(crate) seen: (u64, u64),
    /// Version of the makers of its namespace.
    pub(crate) makers_seen: u64,
    verdicts: Vec<(u32, Static)>,
    counted: Vec<(u32, Option<u64>)>,
    pub(crate) standings: Vec<Standing>,
    by_standing: HashMap<Standing, u32, Hashing>,
    pub(crate) cells: Vec<Cell>,
    by_cell: HashMap<Cell, u32, Hashing>,
    /// For each standing the cell with nothing else, once there was one.
    bare_cells: Vec<Option<u32>>,
    pub(crate) index: Option<Box<Index>>,
    hashing: Hashing,
}

impl Class {
    /// Compiles the rules and tells the fleet which labels they ask about. `load` is what a pod adds.
    pub(crate) fn new(
        spec: PodSpec,
        profile: Arc<Profile>,
        kind: u32,
        load: Load,
        fleet: &mut Fleet,
        hashing: &Hashing,
    ) -> Class {
        let selector = spec
            .node_selector
            .iter()
            .map(|(key, value)| Ask::equals(key, value, fleet))
            .collect();
        let required = spec
            .required
            .as_ref()
            .map(|terms| terms.iter().map(|t| compile(t, fleet)).collect());
        let preferred = spec
            .preferred
            .iter()
            .chain(&profile.added_preferred)
            .map(|(weight, term)| (*weight, compile(term, fleet)))
            .collect();
        let added = profile
            .added_required
            .as_ref()
            .map(|terms| terms.iter().map(|t| compile(t, fleet)).collect());
        let of_devices = spec.devices.rules.iter();
        let volumes = spec
            .volumes
            .rules
            .iter()
            .map(|rule| (rule.reason, &rule.terms))
            .chain(of_devices.map(|terms| (VolumeReason::Devices, terms)))
            .filter(|(reason, _)| profile.filters.contains(reason.plugin()))
            .map(|(reason, terms)| {
                let terms = terms.iter().map(|t| compile(t, fleet)).collect();
                (reason, terms)
            })
            .collect();
        let names = if profile.filters.contains(Plugin::NodeAffinity) {
            named_nodes(spec.required.as_deref())
        } else {
            Names::Any
        };
        let mut held_words = Vec::new();
        let mut scored = |name: &str| match name {
            "cpu" => Scored::Cpu,
            "memory" => Scored::Memory,
            "ephemeral-storage" => Scored::Ephemeral,
            other => {
                let word = fleet.words.acquire(other);
                held_words.push(word);
                Scored::Scalar(word)
            }
        };
        let fit_resources: Box<[(Scored, i64)]> = profile
            .fit_resources
            .iter()
            .map(|(name, weight)| (scored(name), *weight))
            .collect();
        let balanced_resources: Box<[Scored]> = profile
            .balanced_resources
            .iter()
            .map(|name| scored(name))
            .collect();
        let fit_scalars: Box<[(Word, i64)]> = load
            .scalars
            .iter()
            .filter(|(word, _)| !profile.ignores(fleet.words.text(*word)))
            .copied()
            .collect();
        let of_devices = |word: &Word| {
            let name = fleet.words.text(*word);
            spec.devices.delegated.iter().any(|known| **known == *name)
        };
        let delegated = fit_scalars.iter().map(|(word, _)| *word);
        let delegated = delegated.filter(of_devices).collect();
        let node_name = spec.node_name.as_ref().map(|n| fleet.words.acquire(n));
        let images = spec.images.iter().map(|i| fleet.image_word(i)).collect();
        let features = spec.features.iter();
        let features = features.map(|name| fleet.feature_word(name)).collect();
        let usual = profile.strategy == Strategy::LeastAllocated
            && profile.semantics == Semantics::V1_36
            && matches!(*balanced_resources, [Scored::Cpu, Scored::Memory]);
        let class = Class {
            kind,
            usual_room: match *fit_resources {
                [(Scored::Cpu, cpu), (Scored::Memory, memory)] if usual => Some((cpu, memory)),
                _ => None,
            },
            tests_all: profile.semantics == Semantics::V1_20 && asks_for_any(&load),
            best_effort: balanced_resources.iter().all(|r| r.real(&load) == 0),
            load,
            fit_scalars,
            delegated,
            fit_resources,
            balanced_resources,
            held_words,
            added,
            volumes,
            profile,
            selector,
            required,
            preferred,
            node_name,
            names,
            tolerates_cordon: rules::tolerates_unschedulable(&spec.tolerations),
            images,
            features,
            image_matters: false,
            rules: Rules::default(),
            company: Company::default(),
            companies: 0,
            seen: (0, 0),
            makers_seen: 0,
            verdicts: Vec::new(),
            counted: Vec::new(),
            standings: Vec::new(),
            by_standing: HashMap::with_hasher(hashing.clone()),
            cells: Vec::new(),
            by_cell: HashMap::with_hasher(hashing.clone()),
            bare_cells: Vec::new(),
            index: None,
            hashing: hashing.clone(),
            spec,
        };
        let mut due = Due::default();
        for ask in class.asks() {
            fleet.want(ask.key, &ask.values, ask.by_size(), &mut due);
        }
        for &word in class.images.iter().chain(&class.features) {
            fleet.want(word, &[], false, &mut due);
        }
        if let Some(name) = class.node_name {
            fleet.want(fleet.name_key(), &[name], false, &mut due);
        }
        fleet.follow_interests(due);
        class
    }

    /// Gives back everything the fleet holds for the class, but for its rules about other pods.
    pub(crate) fn dissolve(mut self, fleet: &mut Fleet) -> usize {
        let entries = self.drop_index(fleet);
        for &word in &self.held_words {
            fleet.words.release(word);
        }
        if let Some(name) = self.node_name {
            fleet.unwant(fleet.name_key(), &[name], false);
            fleet.words.release(name);
        }
        for &word in self.images.iter().chain(&self.features) {
            fleet.unwant(word, &[], false);
            fleet.words.release(word);
        }
        for ask in self.asks() {
            fleet.unwant(ask.key, &ask.values, ask.by_size());
        }
        for ask in self.asks() {
            fleet.words.release(ask.key);
            for &value in &ask.values {
                fleet.words.release(value);
            }
        }
        entries
    }

    fn asks(&self) -> impl Iterator<Item = &Ask> {
        let volumes = self.volumes.iter().map(|(_, terms)| terms);
        let required = self.required.iter().chain(&self.added).chain(volumes);
        let required = required.flatten();
        let preferred = self.preferred.iter().map(|(_, term)| term);
        self.selector
            .iter()
            .chain(required.chain(preferred).flat_map(|t| t.asks.iter()))
    }

    /// The class keeps other company from now on: everything it thought of shapes and states is void. Gives
    /// the number of index entries dropped.
    pub(crate) fn keep_company(&mut self, company: Company, fleet: &mut Fleet) -> usize {
        if company == self.company {
            return 0;
        }
        let entries = self.drop_index(fleet);
        self.company = company;
        self.companies += 1;
        self.verdicts.clear();
        self.counted.clear();
        self.standings.clear();
        self.by_standing.clear();
        self.cells.clear();
        self.by_cell.clear();
        self.bare_cells.clear();
        entries
    }

    /// The one node a pod of the class may go to, if node affinity is asked at all.
    pub(crate) fn pinned<'a>(&self, pin: Option<&'a str>) -> Option<&'a str> {
        pin.filter(|_| self.profile.filters.contains(Plugin::NodeAffinity))
    }

    /// Can it go nowhere as long as its volumes are as they are?
    pub(crate) fn waits_for_volumes(&self) -> bool {
        self.spec.volumes.obstacle.is_some() && self.profile.filters.contains(Plugin::VolumeBinding)
    }

    /// Do only static scores and room decide?
    pub(crate) fn is_plain(&self) -> bool {
        self.company.is_empty() && !self.image_matters
    }

    /// Must nodes be counted cell by cell?
    pub(crate) fn counts_nodes(&self) -> bool {
        self.company.counts_nodes()
    }

    // ---- shapes

    /// What the static filters and scores say of a shape, remembered.
    pub(crate) fn judge_shape(&mut self, fleet: &Fleet, shape: u32) -> Static {
        let generation = fleet.shape_generation(shape);
        let at = shape as usize;
        if self.verdicts.len() <= at {
            self.verdicts.resize(at + 1, (0, Static::Unknown));
        }
        let (known_for, verdict) = self.verdicts[at];
        if known_for == generation && verdict != Static::Unknown {
            return verdict;
        }
        let verdict = match self.examine(fleet, fleet.shape(shape)) {
            Err(rejection) => rejection,
            Ok(mut standing) => {
                if !self.company.is_empty() {
                    standing.domains = self.company.domains(fleet.shape(shape));
                    standing.counted = self.counted(fleet, shape);
                }
                self.image_matters |= !standing.images.is_empty();
                Static::Stands(self.standing(standing))
            }
        };
        self.verdicts[at] = (generation, verdict);
        verdict
    }

    fn standing(&mut self, standing: Standing) -> u32 {
        if let Some(&known) = self.by_standing.get(&standing) {
            return known;
        }
        let id = self.standings.len() as u32;
        self.by_standing.insert(standing.clone(), id);
        self.standings.push(standing);
        id
    }

    /// The verdict where a plugin says no.
    fn examine(&self, fleet: &Fleet, shape: &Shape) -> Result<Standing, Static> {
        let tolerations = &self.spec.tolerations;
        let asked = |plugin| self.profile.filters.contains(plugin);
        let no = |plugin| Err(Static::Rejected(plugin));
        if asked(Plugin::NodeUnschedulable) && shape.unschedulable && !self.tolerates_cordon {
            return no(Plugin::NodeUnschedulable);
        }
        if asked(Plugin::NodeName)
            && self.node_name.is_some()
            && shape.label(fleet.name_key()) != self.node_name
        {
            return no(Plugin::NodeName);
        }
        if asked(Plugin::TaintToleration)
            && !rules::tolerates_hard_taints(&shape.taints, tolerations)
        {
            return no(Plugin::TaintToleration);
        }
        if asked(Plugin::NodeAffinity) {
            let mut added = self.added.iter();
            if !added.all(|terms| terms.iter().any(|t| t.matches(fleet, shape))) {
                return Err(Static::NotEnforced);
            }
            if !self.is_affine(fleet, shape) {
                return no(Plugin::NodeAffinity);
            }
        }
        let preferred = self
            .preferred
            .iter()
            .filter(|(_, term)| term.matches(fleet, shape))
            .map(|(weight, _)| weight)
            .sum();
        let images = self.images.iter().zip(0..);
        Ok(Standing {
            soft: rules::untolerated_soft_taints(&shape.taints, tolerations),
            preferred,
            images: images
                .filter(|(image, _)| shape.label(**image).is_some())
                .map(|(_, at)| at)
                .collect(),
            volumes: self.volumes_against(fleet, shape),
            lacks_features: asked(Plugin::NodeDeclaredFeatures)
                && !self.features.iter().all(|&f| shape.label(f).is_some()),
            ..Standing::default()
        })
    }

    /// Which reasons of volumes speak against nodes of a shape. Zones are asked after everything else.
    fn volumes_against(&self, fleet: &Fleet, shape: &Shape) -> VolumeBits {
        let mut against = 0;
        let bound = 1 << VolumeReason::NodeAffinity as u8 | 1 << VolumeReason::NoVolume as u8;
        for (reason, terms) in &self.volumes {
            // Of bound volumes the first is told that cannot be reached.
            let told = bound & 1 << *reason as u8 != 0 && against & bound != 0;
            if !told && !terms.iter().any(|t| t.matches(fleet, shape)) {
                against |= 1 << *reason as u8;
            }
        }
        let devices = 1 << VolumeReason::Devices as u8;
        let zone = 1 << VolumeReason::Zone as u8;
        if against & !(zone | devices) != 0 {
            against & !(zone | devices)
        } else if against & zone != 0 {
            zone
        } else {
            against
        }
    }

    /// Do volumes speak against nodes of a cell?
    pub(crate) fn volumes_of_cell(&self, cell: u32) -> VolumeBits {
        self.standings[self.cells[cell as usize].standing as usize].volumes
    }

    /// Do nodes of a cell lack a feature?
    pub(crate) fn cell_lacks_features(&self, cell: u32) -> bool {
        self.standings[self.cells[cell as usize].standing as usize].lacks_features
    }

    /// Node selector and required node affinity.
    fn is_affine(&self, fleet: &Fleet, shape: &Shape) -> bool {
        self.required
            .as_ref()
            .is_none_or(|terms| terms.iter().any(|t| t.matches(fleet, shape)))
            && self.selector.iter().all(|a| a.matches(fleet, shape))
    }

    /// Which spread constraints count nodes of a shape, remembered.
    pub(crate) fn counted(&mut self, fleet: &Fleet, shape: u32) -> u64 {
        let generation = fleet.shape_generation(shape);
        let at = shape as usize;
        if self.counted.len() <= at {
            self.counted.resize(at + 1, (0, None));
        }
        if let (known_for, Some(bits)) = self.counted[at]
            && known_for == generation
        {
            return bits;
        }
        let look_at = fleet.shape(shape);
        let tolerated = rules::tolerates_hard_taints(&look_at.taints, &self.spec.tolerations);
        let bits = self
            .company
            .counted(look_at, self.is_affine(fleet, look_at), tolerated);
        self.counted[at] = (generation, Some(bits));
        bits
    }

    // ---- states

    /// The cell of a state whose shape has this standing.
    pub(crate) fn cell(&mut self, fleet: &Fleet, standing: u32, state: u32) -> u32 {
        let load = fleet.load(state);
        // Nothing but the standing: most nodes have none of what a class counts node by node.
        let is_bare = self.company.is_empty()
            || (self.company.counts_none(&load.tallies) && self.claims(load).next().is_none());
        if is_bare && let Some(Some(known)) = self.bare_cells.get(standing as usize) {
            return *known;
        }
        let cell = Cell {
            standing,
            own: self.company.own(&load.tallies),
            claims: if self.company.is_empty() {
                Counts::default()
            } else {
                self.claims(load).copied().collect()
            },
        };
        let id = match self.by_cell.get(&cell) {
            Some(&known) => known,
            None => {
                let id = self.cells.len() as u32;
                self.by_cell.insert(cell.clone(), id);
                self.cells.push(cell);
                id
            }
        };
        if is_bare {
            let at = standing as usize;
            self.bare_cells
                .resize(self.bare_cells.len().max(at + 1), None);
            self.bare_cells[at] = Some(id);
        }
        id
    }

    /// Claims of pods that go first: of no lower priority.
    fn claims<'a>(&self, load: &'a Load) -> impl Iterator<Item = &'a ((i32, u32), i64)> + use<'a> {
        let priority = self.spec.priority;
        load.claims
            .iter()
            .filter(move |((claimed, _), _)| *claimed >= priority)
    }

    /// The load with the pods to come that go first; `None` when there are none.
    pub(crate) fn with_claims(&self, fleet: &Fleet, load: &Load) -> Option<Load> {
        let mut sum: Option<Load> = None;
        for &((_, delta), pods) in self.claims(load) {
            for _ in 0..pods {
                let so_far = sum.as_ref().unwrap_or(load);
                sum = Some(so_far.shifted(fleet.deltas.get(delta), true));
            }
        }
        sum
    }

    /// Scores of a state, `None` when the pod does not fit. A pure function of the two.
    pub(crate) fn judge_state(&self, fleet: &Fleet, state: u32) -> Option<Dynamic> {
        let (load, want) = (fleet.load(state), &self.load);
        let capacity = &fleet.shape(fleet.shape_of(state)).capacity;
        if !self.fits(fleet, fleet.shape_of(state), load) {
            return None;
        }
        if !load.claims.is_empty()
            && let Some(load) = self.with_claims(fleet, load)
            && !self.fits(fleet, fleet.shape_of(state), &load)
        {
            return None;
        }
        let weights = &self.profile.weights;
        let sum = i64::wrapping_add;
        if let Some((cpu, memory)) = self.usual_room {
            let scored = [
                (
                    sum(load.scored_cpu_milli, want.scored_cpu_milli),
                    capacity.cpu_milli,
                    cpu,
                ),
                (
                    sum(load.scored_memory_bytes, want.scored_memory_bytes),
                    capacity.memory_bytes,
                    memory,
                ),
            ];
            let fit = rules::least_allocated(scored);
            let balanced = if self.best_effort {
                0
            } else {
                rules::balanced_two(
                    [load.cpu_milli, load.memory_bytes],
                    [
                        sum(load.cpu_milli, want.cpu_milli),
                        sum(load.memory_bytes, want.memory_bytes),
                    ],
                    [capacity.cpu_milli, capacity.memory_bytes],
                )
            };
            let fit = if weights.fit == 0 { 0 } else { fit };
            let balanced = if weights.balanced == 0 { 0 } else { balanced };
            return Some(Dynamic {
                fit,
                balanced,
                room: weights.fit * fit + weights.balanced * balanced,
            });
        }
        let fit = if weights.fit == 0 {
            0
        } else {
            let resources = self.fit_resources.iter().map(|&(resource, weight)| {
                let asked = sum(resource.scored(load), resource.scored(want));
                (asked, resource.capacity(capacity, want), weight)
            });
            rules::allocation_score(&self.profile.strategy, self.profile.semantics, resources)
        };
        let balance = self.balanced_resources.iter().map(|&resource| {
            let without = resource.real(load);
            let with = sum(without, resource.real(want));
            (with, without, resource.capacity(capacity, want))
        });
        let balanced = match self.profile.semantics {
            _ if weights.balanced == 0 => 0,
            Semantics::V1_20 => {
                let of = |resource: Scored, capacity: i64| {
                    (sum(resource.scored(load), resource.scored(want)), capacity)
                };
                semantics::balanced_1_20(
                    of(Scored::Cpu, capacity.cpu_milli),
                    of(Scored::Memory, capacity.memory_bytes),
                )
            }
            _ if self.best_effort => 0,
            Semantics::V1_35 => {
                rules::evenness(balance.map(|(with, _, capacity)| (with, capacity)))
            }
            Semantics::V1_36 => rules::balanced(balance),
        };
        Some(Dynamic {
            fit,
            balanced,
            room: weights.fit * fit + weights.balanced * balanced,
        })
    }

    /// The largest sum of weighted scores of room.
    pub(crate) fn room_max(&self) -> usize {
        let weights = &self.profile.weights;
        usize::try_from((weights.fit + weights.balanced) * rules::MAX_SCORE).unwrap_or(0)
    }

    /// Is there room on a node of that shape with that load?
    pub(crate) fn fits(&self, fleet: &Fleet, shape: u32, load: &Load) -> bool {
        if self.ports_clash(fleet, load) {
            return false;
        }
        if !self.profile.filters.contains(Plugin::NodeResourcesFit) {
            return true;
        }
        let (want, capacity) = (&self.load, &fleet.shape(shape).capacity);
        let short = |want: i64, have: i64, used: i64| {
            (want > 0 || self.tests_all) && want > have.wrapping_sub(used)
        };
        !(i64::from(load.pods) + 1 > capacity.pods
            || short(want.cpu_milli, capacity.cpu_milli, load.cpu_milli)
            || short(want.memory_bytes, capacity.memory_bytes, load.memory_bytes)
            || short(
                want.ephemeral_bytes,
                capacity.ephemeral_bytes,
                load.ephemeral_bytes,
            )
            || self.fit_scalars.iter().any(|&(word, amount)| {
                let have = scalar(&capacity.scalars, word);
                !self.delegates(word, have) && short(amount, have, scalar(&load.scalars, word))
            }))
    }

    /// The shapes that could have room, where the pod asks for something that not all have: by what the fewest
    /// have. Goes by the test of `fits` on other resources.
    pub(crate) fn scarce_shapes(&self, fleet: &Fleet) -> Option<ShapeSet> {
        if !self.profile.filters.contains(Plugin::NodeResourcesFit) {
            return None;
        }
        // Devices may stand for a resource that no node offers.
        let of_nodes = |word: &Word| !self.delegated.contains(word);
        let asked = self.fit_scalars.iter();
        let asked = asked.filter(|(word, amount)| *amount > 0 && of_nodes(word));
        let (resource, _) =
            asked.min_by_key(|(resource, _)| fleet.scarce.shapes_with(*resource))?;
        Some(fleet.scarce.offering(*resource))
    }

    fn ports_clash(&self, fleet: &Fleet, load: &Load) -> bool {
        if !self.profile.filters.contains(Plugin::NodePorts) {
            return false;
        }
        let any = fleet.any_ip();
        let clash = |a: &Port, b: &Port| {
            a.port == b.port
                && a.protocol == b.protocol
                && (a.ip == b.ip || a.ip == any || b.ip == any)
        };
        let mut wanted = self.load.ports.iter();
        wanted.any(|(want, _)| load.ports.iter().any(|(taken, _)| clash(want, taken)))
    }

    /// Names everything a node of that shape with that load is short of, by the first plugin that says no;
    /// true when evicting pods may help.
    pub(crate) fn shortages(
        &self,
        fleet: &Fleet,
        shape: u32,
        load: &Load,
        name: &mut dyn FnMut(Shortage),
    ) -> bool {
        if self.ports_clash(fleet, load) {
            name(Shortage::HostPorts);
            return true;
        }
        if !self.profile.filters.contains(Plugin::NodeResourcesFit) {
            return true;
        }
        let (want, capacity) = (&self.load, &fleet.shape(shape).capacity);
        if i64::from(load.pods) + 1 > capacity.pods {
            name(Shortage::Pods);
        }
        let mut resolvable = true;
        let mut check = |shortage: Shortage, want: i64, have: i64, used: i64| {
            if (want > 0 || self.tests_all) && want > have.wrapping_sub(used) {
                name(shortage);
                resolvable &= want <= have || self.profile.semantics == Semantics::V1_20;
            }
        };
        check(
            Shortage::Native("cpu"),
            want.cpu_milli,
            capacity.cpu_milli,
            load.cpu_milli,
        );
        check(
            Shortage::Native("memory"),
            want.memory_bytes,
            capacity.memory_bytes,
            load.memory_bytes,
        );
        check(
            Shortage::Native("ephemeral-storage"),
            want.ephemeral_bytes,
            capacity.ephemeral_bytes,
            load.ephemeral_bytes,
        );
        for &(word, amount) in &self.fit_scalars {
            let have = scalar(&capacity.scalars, word);
            if !self.delegates(word, have) {
                check(
                    Shortage::Scalar(word),
                    amount,
                    have,
                    scalar(&load.scalars, word),
                );
            }
        }
        resolvable
    }

    /// Does a node that has so much of a resource have to have devices instead?
    fn delegates(&self, word: Word, have: i64) -> bool {
        have <= 0 && self.delegated.contains(&word)
    }

    // ---- cells

    /// Looks up the sums behind the rules about other pods.
    pub(crate) fn look(&mut self, fleet: &Fleet) -> Look {
        if self.company.is_empty() {
            return Look::default();
        }
        if self.company.spreads() {
            let shapes: Vec<u32> = fleet.populated().collect();
            for shape in shapes {
                self.counted(fleet, shape);
            }
        }
        let counted = |shape: u32| {
            let known = self.counted.get(shape as usize);
            known.and_then(|(_, bits)| *bits).unwrap_or(0)
        };
        self.company.look(fleet, &self.hashing, &counted)
    }

    /// Does the company on nodes of a cell keep the pod away, those to come counted or not? `gone` are pods
    /// thought away, by tally.
    pub(crate) fn refusal(
        &self,
        fleet: &Fleet,
        look: &Look,
        cell: u32,
        gone: &[(u32, i64)],
    ) -> Option<Refusal> {
        if self.company.is_empty() {
            return None;
        }
        let cell = &self.cells[cell as usize];
        if !cell.claims.is_empty() {
            let mut coming = gone.to_vec();
            for &((_, delta), pods) in &cell.claims {
                let tallies = &fleet.deltas.get(delta).tallies;
                coming.extend(tallies.iter().map(|&(tally, n)| (tally, n * pods)));
            }
            let refusal = self
                .company
                .refuses(look, &self.candidate(cell, &coming, 0));
            if refusal.is_some() {
                return refusal;
            }
        }
        self.company.refuses(look, &self.candidate(cell, gone, 0))
    }

    fn candidate<'a>(
        &'a self,
        cell: &'a Cell,
        coming: &'a [(u32, i64)],
        nodes: u64,
    ) -> Candidate<'a> {
        let standing = &self.standings[cell.standing as usize];
        Candidate {
            domains: &standing.domains,
            counted: standing.counted,
            own: &cell.own,
            coming,
            nodes,
        }
    }

    /// Rates cells against one another: refusals, or every score but those of room. With each cell comes how
    /// many of its nodes have room.
    pub(crate) fn rate(
        &mut self,
        fleet: &Fleet,
        cells: &[(u32, u64)],
    ) -> Vec<Result<Shares, Refusal>> {
        let look = self.look(fleet);
        let refusals: Vec<Option<Refusal>> = cells
            .iter()
            .map(|&(cell, _)| self.refusal(fleet, &look, cell, &[]))
            .collect();
        let passing: Vec<(u32, u64)> = cells
            .iter()
            .zip(&refusals)
            .filter(|(_, refusal)| refusal.is_none())
            .map(|(cell, _)| *cell)
            .collect();
        let mut shares = self.shares(fleet, &look, &passing).into_iter();
        refusals
            .into_iter()
            .map(|refusal| match refusal {
                Some(refusal) => Err(refusal),
                None => Ok(shares.next().unwrap_or_default()),
            })
            .collect()
    }

    fn shares(&self, fleet: &Fleet, look: &Look, cells: &[(u32, u64)]) -> Vec<Shares> {
        let candidates: Vec<Candidate<'_>> = cells
            .iter()
            .map(|&(cell, nodes)| self.candidate(&self.cells[cell as usize], &[], nodes))
            .collect();
        let raw = self.company.raw_scores(look, &candidates);
        let standings = || {
            cells
                .iter()
                .map(|&(cell, _)| &self.standings[self.cells[cell as usize].standing as usize])
        };
        self.weigh(fleet, standings, &raw)
    }

    /// Scores of candidates against one another, from what they have in common and their raw scores.
    pub(crate) fn weigh<'a, I: Iterator<Item = &'a Standing>>(
        &self,
        fleet: &Fleet,
        standings: impl Fn() -> I,
        raw: &[RawCompany],
    ) -> Vec<Shares> {
        let taint_max = standings().map(|s| s.soft).max().unwrap_or(0);
        let affinity_max = standings().map(|s| s.preferred).max().unwrap_or(0);
        let spreads = || raw.iter().filter_map(|r| r.spread);
        let (spread_min, spread_max) = (
            spreads().min().unwrap_or(0),
            spreads().max().unwrap_or(0).max(0),
        );
        let from_zero = self.profile.semantics == Semantics::V1_20;
        let zero = || from_zero.then_some(0);
        let unspread = if from_zero && !self.company.spreads_softly() {
            rules::MAX_SCORE
        } else {
            0
        };
        let affinities = || raw.iter().map(|r| r.affinity).chain(zero());
        let (pods_min, pods_max) = (
            affinities().min().unwrap_or(0),
            affinities().max().unwrap_or(0),
        );
        standings()
            .zip(raw)
            .map(|(standing, raw)| {
                let mut shares = Shares {
                    taint_raw: standing.soft,
                    taint: rules::normalise_reversed(standing.soft, taint_max),
                    affinity_raw: standing.preferred,
                    affinity: rules::normalise(standing.preferred, affinity_max),
                    image: self.image_score(fleet, standing),
                    spread_raw: raw.spread.unwrap_or(0),
                    spread: raw.spread.map_or(unspread, |s| {
                        rules::normalise_spread(s, spread_min, spread_max)
                    }),
                    pods_raw: raw.affinity,
                    pods: rules::normalise_between(raw.affinity, pods_min, pods_max),
                    total: 0,
                };
                let weights = &self.profile.weights;
                shares.total = weights.taint * shares.taint
                    + weights.affinity * shares.affinity
                    + weights.spread * shares.spread
                    + weights.pods * shares.pods
                    + weights.image * shares.image;
                shares
            })
            .collect()
    }

    fn image_score(&self, fleet: &Fleet, standing: &Standing) -> i64 {
        let total = fleet.present();
        let there = standing.images.iter().map(|&at| {
            let image = self.images.get(at as usize).copied().unwrap_or(0);
            let image = fleet.image(image);
            rules::scaled_image(image.bytes, image.nodes as usize, total)
        });
        rules::image_score(there.sum(), self.images.len())
    }
}

fn asks_for_any(load: &Load) -> bool {
    let native = [load.cpu_milli, load.memory_bytes, load.ephemeral_bytes];
    native.iter().any(|&amount| amount != 0) || !load.scalars.is_empty()
}

/// Weighted, normalised static scores of a class that only static scores and room decide for.
pub(crate) fn static_total(
    weights: &Weights,
    standing: &Standing,
    (soft_max, preferred_max): (i64, i64),
) -> i64 {
    weights.taint * rules::normalise_reversed(standing.soft, soft_max)
        + weights.affinity * rules::normalise(standing.preferred, preferred_max)
}

impl Scored {
    /// What a load takes of it, as it is.
    fn real(self, load: &Load) -> i64 {
        match self {
            Scored::Cpu => load.cpu_milli,
            Scored::Memory => load.memory_bytes,
            Scored::Ephemeral => load.ephemeral_bytes,
            Scored::Scalar(word) => scalar(&load.scalars, word),
        }
    }

    /// The same where silent containers count something.
    fn scored(self, load: &Load) -> i64 {
        match self {
            Scored::Cpu => load.scored_cpu_milli,
            Scored::Memory => load.scored_memory_bytes,
            _ => self.real(load),
        }
    }

    /// What a node offers of it; nothing of another resource that the pod does not ask for.
    fn capacity(self, capacity: &Capacity, want: &Load) -> i64 {
        match self {
            Scored::Cpu => capacity.cpu_milli,
            Scored::Memory => capacity.memory_bytes,
            Scored::Ephemeral => capacity.ephemeral_bytes,
            Scored::Scalar(word) if scalar(&want.scalars, word) == 0 => 0,
            Scored::Scalar(word) => scalar(&capacity.scalars, word),
        }
    }
}

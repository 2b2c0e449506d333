//! One class of pods: its rules against shapes, its score of states, and the index that finds the best.
//!
//! The index lists every feasible state of existing nodes: groups by static scores (soft taints, preferred
//! affinity), in a group one bucket per dynamic score (allocation + balance). Normalised static scores are
//! the same for a whole group, so the best node is in the top bucket of some group and a pick looks at
//! groups only. States that emptied are dropped when they surface.
//!
//! Does not know the queue, or who owns pods.

use crate::fleet::{Due, Fleet, Load, OTHER, Shape, scalar};
use crate::intern::Word;
use crate::objects::{PodSpec, Requirement, SelectorOperator, Term};
use crate::rules;
use crate::verdict::Plugin;

/// Buckets of a group: one per value of allocation score + balance score.
const DYNAMIC_SCORES: usize = 2 * rules::MAX_SCORE as usize + 1;

#[derive(Debug)]
struct Ask {
    key: Word,
    operator: SelectorOperator,
    values: Box<[Word]>,
    number: i64,
}

#[derive(Debug)]
struct Terms {
    asks: Box<[Ask]>,
    /// Nothing can match it, or (true, empty) everything does.
    constant: Option<bool>,
}

/// Nodes the class is restricted to before any filter.
#[derive(Debug)]
pub(crate) enum Names {
    Any,
    Only(Box<[Box<str>]>),
    Contradiction,
}

/// A static verdict of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Static {
    Unknown,
    Rejected(Plugin),
    Group(u32),
}

/// Static raw scores: (soft taints not tolerated, preferred weights matched).
pub(crate) type Raw = (i64, i64);

/// Scores of a state for a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dynamic {
    pub(crate) fit: i64,
    pub(crate) balanced: i64,
}

#[derive(Debug, Default)]
struct Group {
    buckets: Vec<Vec<u32>>,
    /// No bucket above this one has entries.
    top: usize,
}

#[derive(Debug)]
struct Index {
    groups: Vec<Group>,
    /// One bit per state: is it listed?
    listed: Vec<u64>,
    cursor: u64,
    entries: usize,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) spec: PodSpec,
    pub(crate) request: u32,
    load: Load,
    best_effort: bool,
    selector: Box<[Ask]>,
    required: Option<Box<[Terms]>>,
    preferred: Box<[(i64, Terms)]>,
    node_name: Option<Word>,
    pub(crate) names: Names,
    tolerates_cordon: bool,
    verdicts: Vec<(u32, Static)>,
    groups: Vec<Raw>,
    index: Option<Index>,
}

/// The best total and where it is found.
#[derive(Debug)]
pub(crate) struct Best {
    groups: Vec<u32>,
    pub(crate) weight: u64,
}

impl Class {
    /// Compiles the rules and tells the fleet which labels they ask about.
    pub(crate) fn new(spec: PodSpec, request: u32, load: Load, fleet: &mut Fleet) -> Class {
        let selector = spec
            .node_selector
            .iter()
            .map(|(key, value)| Ask {
                key: fleet.words.acquire(key),
                operator: SelectorOperator::In,
                values: [fleet.words.acquire(value)].into(),
                number: 0,
            })
            .collect();
        let required = spec
            .required
            .as_ref()
            .map(|terms| terms.iter().map(|t| compile(t, fleet)).collect());
        let preferred = spec
            .preferred
            .iter()
            .map(|(weight, term)| (*weight, compile(term, fleet)))
            .collect();
        let node_name = spec.node_name.as_ref().map(|n| fleet.words.acquire(n));
        let class = Class {
            request,
            best_effort: load.cpu_milli == 0 && load.memory_bytes == 0,
            load,
            selector,
            required,
            preferred,
            node_name,
            names: named_nodes(spec.required.as_deref()),
            tolerates_cordon: rules::tolerates_unschedulable(&spec.tolerations),
            verdicts: Vec::new(),
            groups: Vec::new(),
            index: None,
            spec,
        };
        let mut due = Due::default();
        for ask in class.asks() {
            fleet.want(ask.key, &ask.values, ask.by_size(), &mut due);
        }
        if let Some(name) = class.node_name {
            fleet.want(fleet.name_key(), &[name], false, &mut due);
        }
        fleet.follow_interests(due);
        class
    }

    /// Gives back everything the fleet holds for the class.
    pub(crate) fn dissolve(mut self, fleet: &mut Fleet) -> usize {
        let entries = self.drop_index(fleet);
        if let Some(name) = self.node_name {
            fleet.unwant(fleet.name_key(), &[name], false);
            fleet.words.release(name);
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
        let required = self.required.iter().flatten();
        let preferred = self.preferred.iter().map(|(_, term)| term);
        self.selector
            .iter()
            .chain(required.chain(preferred).flat_map(|t| t.asks.iter()))
    }

    // ---- rules

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
            Err(plugin) => Static::Rejected(plugin),
            Ok(raw) => {
                let known = self.groups.iter().position(|&g| g == raw);
                Static::Group(known.unwrap_or_else(|| {
                    self.groups.push(raw);
                    self.groups.len() - 1
                }) as u32)
            }
        };
        self.verdicts[at] = (generation, verdict);
        verdict
    }

    fn examine(&self, fleet: &Fleet, shape: &Shape) -> Result<Raw, Plugin> {
        let tolerations = &self.spec.tolerations;
        if shape.unschedulable && !self.tolerates_cordon {
            return Err(Plugin::NodeUnschedulable);
        }
        if self.node_name.is_some() && shape.label(fleet.name_key()) != self.node_name {
            return Err(Plugin::NodeName);
        }
        if !rules::tolerates_hard_taints(&shape.taints, tolerations) {
            return Err(Plugin::TaintToleration);
        }
        let matches_required = self
            .required
            .as_ref()
            .is_none_or(|terms| terms.iter().any(|t| t.matches(fleet, shape)));
        if !matches_required || !self.selector.iter().all(|a| a.matches(fleet, shape)) {
            return Err(Plugin::NodeAffinity);
        }
        let preferred = self
            .preferred
            .iter()
            .filter(|(_, term)| term.matches(fleet, shape))
            .map(|(weight, _)| weight)
            .sum();
        let soft = rules::untolerated_soft_taints(&shape.taints, tolerations);
        Ok((soft, preferred))
    }

    pub(crate) fn raw(&self, group: u32) -> Raw {
        self.groups[group as usize]
    }

    /// Scores of a state, `None` when the pod does not fit. A pure function of the two.
    pub(crate) fn judge_state(&self, fleet: &Fleet, state: u32) -> Option<Dynamic> {
        let (load, want) = (fleet.load(state), &self.load);
        let capacity = &fleet.shape(fleet.shape_of(state)).capacity;
        let short = |want: i64, have: i64, used: i64| want > 0 && want > have.wrapping_sub(used);
        if i64::from(load.pods) + 1 > capacity.pods
            || short(want.cpu_milli, capacity.cpu_milli, load.cpu_milli)
            || short(want.memory_bytes, capacity.memory_bytes, load.memory_bytes)
            || short(
                want.ephemeral_bytes,
                capacity.ephemeral_bytes,
                load.ephemeral_bytes,
            )
            || want.scalars.iter().any(|&(word, amount)| {
                short(
                    amount,
                    scalar(&capacity.scalars, word),
                    scalar(&load.scalars, word),
                )
            })
        {
            return None;
        }
        let (cpu, memory) = (capacity.cpu_milli, capacity.memory_bytes);
        let sum = i64::wrapping_add;
        Some(Dynamic {
            fit: rules::least_allocated([
                (sum(load.scored_cpu_milli, want.scored_cpu_milli), cpu),
                (
                    sum(load.scored_memory_bytes, want.scored_memory_bytes),
                    memory,
                ),
            ]),
            balanced: if self.best_effort {
                0
            } else {
                rules::balanced(
                    [
                        (sum(load.cpu_milli, want.cpu_milli), cpu),
                        (sum(load.memory_bytes, want.memory_bytes), memory),
                    ],
                    [(load.cpu_milli, cpu), (load.memory_bytes, memory)],
                )
            },
        })
    }

    /// Names everything the state is short of for this class; true when evicting pods may help.
    pub(crate) fn shortages(
        &self,
        fleet: &Fleet,
        state: u32,
        name: &mut dyn FnMut(Shortage),
    ) -> bool {
        let (load, want) = (fleet.load(state), &self.load);
        let capacity = &fleet.shape(fleet.shape_of(state)).capacity;
        if i64::from(load.pods) + 1 > capacity.pods {
            name(Shortage::Pods);
        }
        let mut resolvable = true;
        let mut check = |shortage: Shortage, want: i64, have: i64, used: i64| {
            if want > 0 && want > have.wrapping_sub(used) {
                name(shortage);
                resolvable &= want <= have;
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
        for &(word, amount) in &want.scalars {
            check(
                Shortage::Scalar(word),
                amount,
                scalar(&capacity.scalars, word),
                scalar(&load.scalars, word),
            );
        }
        resolvable
    }

    // ---- the index

    /// Entries of the index, listed states that emptied included.
    pub(crate) fn entries(&self) -> usize {
        self.index.as_ref().map_or(0, |i| i.entries)
    }

    pub(crate) fn drop_index(&mut self, fleet: &mut Fleet) -> usize {
        let Some(index) = self.index.take() else {
            return 0;
        };
        for bucket in index.groups.iter().flat_map(|g| &g.buckets) {
            for &state in bucket {
                fleet.release_state(state);
            }
        }
        index.entries
    }

    /// Brings the index up to the present.
    pub(crate) fn catch_up(&mut self, fleet: &mut Fleet) {
        let far_behind = self
            .index
            .as_ref()
            .is_some_and(|i| fleet.log_since(i.cursor).is_none());
        let littered = self
            .index
            .as_ref()
            .is_some_and(|i| i.entries > 2 * fleet.live_states() + fleet.litter_max());
        if far_behind || littered {
            self.drop_index(fleet);
        }
        let end = fleet.log_end();
        match self.index.take() {
            None => {
                let mut index = Index {
                    groups: Vec::new(),
                    listed: vec![0; fleet.state_bound().div_ceil(64)],
                    cursor: end,
                    entries: 0,
                };
                for at in 0..fleet.state_bound() as u32 {
                    self.list(fleet, &mut index, at);
                }
                self.index = Some(index);
            }
            Some(mut index) if index.cursor < end => {
                index.listed.resize(fleet.state_bound().div_ceil(64), 0);
                let mut at = 0;
                while let Some(&state) = fleet.log_since(index.cursor).and_then(|l| l.get(at)) {
                    self.list(fleet, &mut index, state);
                    at += 1;
                }
                index.cursor = end;
                self.index = Some(index);
            }
            current => self.index = current,
        }
    }

    fn list(&mut self, fleet: &mut Fleet, index: &mut Index, state: u32) {
        let (word, bit) = (state as usize / 64, 1u64 << (state % 64));
        if fleet.size(state) == 0 || index.listed[word] & bit != 0 {
            return;
        }
        let shape = fleet.shape_of(state);
        if shape == crate::fleet::ABSENT {
            return;
        }
        let Static::Group(group) = self.judge_shape(fleet, shape) else {
            return;
        };
        let Some(score) = self.judge_state(fleet, state) else {
            return;
        };
        while index.groups.len() <= group as usize {
            index.groups.push(Group {
                buckets: vec![Vec::new(); DYNAMIC_SCORES],
                top: 0,
            });
        }
        let group = &mut index.groups[group as usize];
        let score = ((score.fit + score.balanced).max(0) as usize).min(DYNAMIC_SCORES - 1);
        group.buckets[score].push(state);
        group.top = group.top.max(score);
        index.listed[word] |= bit;
        index.entries += 1;
        fleet.hold_state(state);
    }

    /// Drops emptied states until the last entry of the top bucket has members; false when none is left.
    fn settle(index: &mut Index, group: usize, fleet: &mut Fleet) -> bool {
        let Index {
            groups,
            listed,
            entries,
            ..
        } = index;
        let group = &mut groups[group];
        loop {
            let bucket = &mut group.buckets[group.top];
            while let Some(&state) = bucket.last() {
                if fleet.size(state) > 0 {
                    return true;
                }
                bucket.pop();
                listed[state as usize / 64] &= !(1 << (state % 64));
                *entries -= 1;
                fleet.release_state(state);
            }
            if group.top == 0 {
                return false;
            }
            group.top -= 1;
        }
    }

    /// Largest raw scores over groups with a feasible node; `None` when there is none. The index is
    /// current and settled afterwards.
    pub(crate) fn maxima(&mut self, fleet: &mut Fleet) -> Option<Raw> {
        self.catch_up(fleet);
        let index = self.index.as_mut()?;
        let mut maxima: Option<Raw> = None;
        for (at, &(soft, preferred)) in self.groups.iter().enumerate().take(index.groups.len()) {
            if Self::settle(index, at, fleet) {
                let (s, p) = maxima.unwrap_or((0, 0));
                maxima = Some((s.max(soft), p.max(preferred)));
            }
        }
        maxima
    }

    /// Finds the groups whose top bucket holds the best total, and how many nodes that is.
    pub(crate) fn best(&mut self, fleet: &mut Fleet) -> Option<Best> {
        let maxima = self.maxima(fleet)?;
        let index = self.index.as_mut()?;
        let mut total = -1;
        let mut best = Best {
            groups: Vec::new(),
            weight: 0,
        };
        for (at, group) in index.groups.iter().enumerate() {
            if group.buckets[group.top].is_empty() {
                continue;
            }
            let score = static_total(self.groups[at], maxima) + group.top as i64;
            if score > total {
                total = score;
                best.groups.clear();
            }
            if score == total {
                best.groups.push(at as u32);
            }
        }
        for &group in &best.groups {
            let Group { buckets, top } = &mut index.groups[group as usize];
            let (listed, entries) = (&mut index.listed, &mut index.entries);
            let weight = &mut best.weight;
            let bucket = &mut buckets[*top];
            let mut at = 0;
            while let Some(&state) = bucket.get(at) {
                let size = fleet.size(state);
                if size > 0 {
                    *weight += u64::from(size);
                    at += 1;
                } else {
                    bucket.swap_remove(at);
                    listed[state as usize / 64] &= !(1 << (state % 64));
                    *entries -= 1;
                    fleet.release_state(state);
                }
            }
        }
        Some(best)
    }

    /// The `nth` node of the best, counting from 0.
    pub(crate) fn nth_best(&self, fleet: &Fleet, best: &Best, mut nth: u64) -> Option<u32> {
        let index = self.index.as_ref()?;
        for &group in &best.groups {
            let group = &index.groups[group as usize];
            for &state in &group.buckets[group.top] {
                let size = u64::from(fleet.size(state));
                if nth < size {
                    return fleet.members(state).get(nth as usize).copied();
                }
                nth -= size;
            }
        }
        None
    }

    /// How many nodes pass the filters, by the index.
    pub(crate) fn feasible(&mut self, fleet: &mut Fleet) -> usize {
        self.catch_up(fleet);
        self.index.as_ref().map_or(0, |index| {
            let states = index.groups.iter().flat_map(|g| g.buckets.iter().flatten());
            states.map(|&s| fleet.size(s) as usize).sum()
        })
    }
}

/// What a node is short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Room for one more pod.
    Pods,
    /// A resource every node has.
    Native(&'static str),
    /// Any other resource.
    Scalar(Word),
}

/// Weighted, normalised static scores.
pub(crate) fn static_total((soft, preferred): Raw, (soft_max, preferred_max): Raw) -> i64 {
    rules::TAINT_WEIGHT * rules::normalise_reversed(soft, soft_max)
        + rules::AFFINITY_WEIGHT * rules::normalise(preferred, preferred_max)
}

fn compile(term: &Term, fleet: &mut Fleet) -> Terms {
    let name_key = fleet.name_key();
    let constant = if term.broken {
        Some(false)
    } else if term.expressions.is_empty() && term.names.is_empty() {
        Some(term.pinned)
    } else {
        None
    };
    let mut asks = Vec::new();
    if constant.is_none() {
        for requirement in &term.expressions {
            let key = fleet.words.acquire(&requirement.key);
            asks.push(Ask::new(key, requirement, fleet));
        }
        for requirement in &term.names {
            fleet.words.hold(name_key);
            asks.push(Ask::new(name_key, requirement, fleet));
        }
    }
    Terms {
        asks: asks.into(),
        constant,
    }
}

/// The nodes required terms name: only when every term names some, for terms are alternatives.
fn named_nodes(required: Option<&[Term]>) -> Names {
    let mut all: Vec<Box<str>> = Vec::new();
    let Some(terms) = required.filter(|t| !t.is_empty()) else {
        return Names::Any;
    };
    for term in terms {
        let mut lists = term
            .names
            .iter()
            .filter(|r| r.operator == SelectorOperator::In)
            .map(|r| &r.values);
        let Some(first) = lists.next() else {
            return Names::Any;
        };
        let mut names = first.clone();
        for list in lists {
            names.retain(|n| list.contains(n));
        }
        if names.is_empty() {
            return Names::Contradiction;
        }
        all.append(&mut names);
    }
    all.sort();
    all.dedup();
    Names::Only(all.into())
}

impl Terms {
    fn matches(&self, fleet: &Fleet, shape: &Shape) -> bool {
        self.constant
            .unwrap_or_else(|| self.asks.iter().all(|a| a.matches(fleet, shape)))
    }
}

impl Ask {
    fn new(key: Word, requirement: &Requirement, fleet: &mut Fleet) -> Ask {
        let by_size = matches!(
            requirement.operator,
            SelectorOperator::Gt | SelectorOperator::Lt
        );
        let number = requirement.values.first().and_then(|v| v.parse().ok());
        Ask {
            key,
            operator: requirement.operator,
            values: requirement
                .values
                .iter()
                .filter(|_| !by_size)
                .map(|v| fleet.words.acquire(v))
                .collect(),
            number: number.unwrap_or(0),
        }
    }

    fn by_size(&self) -> bool {
        matches!(self.operator, SelectorOperator::Gt | SelectorOperator::Lt)
    }

    fn matches(&self, fleet: &Fleet, shape: &Shape) -> bool {
        let label = shape.label(self.key);
        let listed = || label.is_some_and(|value| self.values.contains(&value));
        let number = || {
            let value = label.filter(|&v| v != OTHER)?;
            fleet.words.text(value).parse::<i64>().ok()
        };
        match self.operator {
            SelectorOperator::In => listed(),
            SelectorOperator::NotIn => !listed(),
            SelectorOperator::Exists => label.is_some(),
            SelectorOperator::DoesNotExist => label.is_none(),
            SelectorOperator::Gt => number().is_some_and(|n| n > self.number),
            SelectorOperator::Lt => number().is_some_and(|n| n < self.number),
        }
    }
}

//! Slices and classes, found by node and pool, and which devices are taken by whom.
//!
//! Holds what is told; what a node gets of it is in `allocate.rs`. Does not know the API.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::allocate::{Failure, Search};
use crate::capacity::{Amounts, shift};
use crate::claim::{Claim, Class};
use crate::extended::Names;
use crate::node::Node;
use crate::outcome::{Allocation, Taken};
use crate::rule::{Rules, TaintRule};
use crate::selector::Selectors;
use crate::slice::Slice;

/// A pool, by driver and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PoolId {
    pub(crate) driver: Box<str>,
    pub(crate) pool: Box<str>,
}

/// A slice with its number, which is never given twice.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) number: u32,
    pub(crate) pool: PoolId,
    pub(crate) slice: Slice,
}

/// Who has a device.
#[derive(Debug, Default)]
pub(crate) struct Use {
    /// Claims that have it for themselves.
    pub(crate) whole: usize,
    /// Claims that share it.
    pub(crate) shares: usize,
    /// What those take of it.
    pub(crate) amounts: Amounts,
}

#[derive(Debug, Default)]
struct Members {
    /// Names of the pool's slices.
    slices: BTreeSet<Box<str>>,
    /// How many of each generation.
    generations: BTreeMap<i64, usize>,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Inventory {
    slices: HashMap<Box<str>, Entry>,
    numbers: u32,
    /// Names of slices that matter to no other node.
    by_node: HashMap<Box<str>, BTreeSet<Box<str>>>,
    /// Names of slices that may matter to any.
    for_all: BTreeSet<Box<str>>,
    pools: HashMap<PoolId, Members>,
    classes: HashMap<Box<str>, Class>,
    names: Names,
    rules: Rules,
    uses: HashMap<PoolId, HashMap<Box<str>, Use>>,
    /// Nodes with slices of their own that have a device nobody has for himself, in no order, and the place of each.
    open: Vec<Box<str>>,
    opened: HashMap<Box<str>, usize>,
    /// Remembers answers, and so is written while everything else is read.
    selectors: RefCell<Selectors>,
}

/// Pools of more slices than this are not looked through when a device of theirs is taken: their nodes stay open.
const SLICES_LOOKED_AT_MAX: usize = 16;

impl Inventory {
    /// A slice came or changed.
    pub fn note_slice(&mut self, slice: Slice) {
        let name = slice.name.clone();
        self.forget_slice(&name);
        match slice.named_nodes() {
            Some(nodes) => {
                for node in nodes {
                    let slices = self.by_node.entry(node.into()).or_default();
                    slices.insert(name.clone());
                }
            }
            None => {
                self.for_all.insert(name.clone());
            }
        }
        let pool = PoolId {
            driver: slice.driver.clone(),
            pool: slice.pool.clone(),
        };
        let members = self.pools.entry(pool.clone()).or_default();
        members.slices.insert(name.clone());
        *members.generations.entry(slice.generation).or_default() += 1;
        self.numbers = self.numbers.wrapping_add(1);
        let number = self.numbers;
        let nodes = slice.named_nodes().unwrap_or_default();
        let nodes: Vec<Box<str>> = nodes.into_iter().map(Into::into).collect();
        let entry = Entry {
            number,
            pool,
            slice,
        };
        self.slices.insert(name, entry);
        for node in nodes {
            self.look_at(&node);
        }
    }

    /// A slice is gone.
    pub fn forget_slice(&mut self, name: &str) {
        let Some(Entry { pool, slice, .. }) = self.slices.remove(name) else {
            return;
        };
        for node in slice.named_nodes().into_iter().flatten() {
            if let Some(slices) = self.by_node.get_mut(node) {
                slices.remove(name);
                if slices.is_empty() {
                    self.by_node.remove(node);
                }
            }
            self.look_at(node);
        }
        self.for_all.remove(name);
        if let Some(members) = self.pools.get_mut(&pool) {
            members.slices.remove(name);
            if let Some(slices) = members.generations.get_mut(&slice.generation) {
                *slices -= 1;
                if *slices == 0 {
                    members.generations.remove(&slice.generation);
                }
            }
            if members.slices.is_empty() {
                self.pools.remove(&pool);
            }
        }
    }

    /// A class came or changed. Gives the extended resources that another class may stand for now, or one at all.
    pub fn note_class(&mut self, name: &str, class: Class) -> Vec<Box<str>> {
        let resource = class.resource.as_deref();
        let changed = self.names.note(name, resource, class.made_micros);
        self.classes.insert(name.into(), class);
        changed
    }

    /// A class is gone. Gives the extended resources that another class may stand for now, or none.
    pub fn forget_class(&mut self, name: &str) -> Vec<Box<str>> {
        self.classes.remove(name);
        self.names.forget(name)
    }

    /// The class whose devices stand for an extended resource.
    pub fn class_for(&self, resource: &str) -> Option<&str> {
        self.names.class_for(resource)
    }

    /// Is there such a class?
    pub fn has_class(&self, name: &str) -> bool {
        self.classes.contains_key(name)
    }

    /// A taint rule came or changed.
    pub fn note_rule(&mut self, name: &str, rule: TaintRule) {
        self.rules.note(name, rule);
    }

    /// A taint rule is gone.
    pub fn forget_rule(&mut self, name: &str) {
        self.rules.forget(name);
    }

    /// What rules say of devices.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// A claim takes devices.
    pub fn take(&mut self, taken: &[Taken]) {
        for one in taken {
            let uses = self.uses.entry(PoolId::of(one)).or_default();
            let device = uses.entry(one.device.clone()).or_default();
            match &one.share {
                None => device.whole += 1,
                Some(amounts) => {
                    device.shares += 1;
                    shift(&mut device.amounts, amounts, true);
                }
            }
            self.look_around(&PoolId::of(one));
        }
    }

    /// A claim gives devices back that it took.
    pub fn give_back(&mut self, taken: &[Taken]) {
        for one in taken {
            let pool = PoolId::of(one);
            let Some(uses) = self.uses.get_mut(&pool) else {
                continue;
            };
            if let Some(device) = uses.get_mut(&one.device) {
                match &one.share {
                    None => device.whole = device.whole.saturating_sub(1),
                    Some(amounts) => {
                        device.shares = device.shares.saturating_sub(1);
                        shift(&mut device.amounts, amounts, false);
                    }
                }
                if device.whole == 0 && device.shares == 0 {
                    uses.remove(&one.device);
                }
            }
            if uses.is_empty() {
                self.uses.remove(&pool);
            }
            self.look_around(&pool);
        }
    }

    /// Some nodes of a pool may have their last device taken, or one given back.
    fn look_around(&mut self, pool: &PoolId) {
        let Some(members) = self.pools.get(pool) else {
            return;
        };
        if members.slices.len() > SLICES_LOOKED_AT_MAX {
            return;
        }
        let slices = members
            .slices
            .iter()
            .filter_map(|name| self.slices.get(name));
        let nodes = slices.flat_map(|entry| entry.slice.named_nodes().unwrap_or_default());
        let nodes: Vec<Box<str>> = nodes.map(Into::into).collect();
        for node in nodes {
            self.look_at(&node);
        }
    }

    /// Notes whether a node has a device left.
    fn look_at(&mut self, node: &str) {
        let names = self.by_node.get(node).into_iter().flatten();
        let mut slices = names.filter_map(|name| self.slices.get(name));
        let is_open = slices.any(|entry| {
            let uses = self.uses.get(&entry.pool);
            entry.slice.devices.iter().any(|device| {
                let device = uses.and_then(|uses| uses.get(&device.name));
                device.is_none_or(|device| device.whole == 0)
            })
        });
        match self.opened.get(node).copied() {
            None if is_open => {
                self.opened.insert(node.into(), self.open.len());
                self.open.push(node.into());
            }
            Some(at) if !is_open => {
                self.opened.remove(node);
                self.open.swap_remove(at);
                if let Some(moved) = self.open.get(at) {
                    self.opened.insert(moved.clone(), at);
                }
            }
            _ => {}
        }
    }

    /// Nodes with slices of their own that have a device left, from one of them on; any number will do.
    pub fn open_nodes(&self, start: usize) -> impl Iterator<Item = &str> {
        let start = start % self.open.len().max(1);
        let (last, first) = self.open.split_at(start);
        first.iter().chain(last).map(|node| &**node)
    }

    /// Nodes that have slices of their own, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.by_node.keys().map(|node| &**node)
    }

    /// Are there slices that may matter to any node?
    pub fn reaches_all(&self) -> bool {
        !self.for_all.is_empty()
    }

    /// Devices for claims on a node, one allocation a claim, in their order; or why there are none. `share_id` gives
    /// what tells the users of a shared device apart.
    pub fn allocate(
        &self,
        node: &Node<'_>,
        claims: &[&Claim],
        share_id: &mut dyn FnMut() -> String,
    ) -> Result<Vec<Allocation>, Failure> {
        let mut selectors = self.selectors.borrow_mut();
        Search::run(self, &mut selectors, node, claims, share_id)
    }

    pub(crate) fn class(&self, name: &str) -> Option<&Class> {
        self.classes.get(name)
    }

    /// Slices that may matter to a node.
    pub(crate) fn for_node(&self, node: &str) -> impl Iterator<Item = &Entry> {
        let own = self.by_node.get(node).into_iter().flatten();
        own.chain(&self.for_all)
            .filter_map(|name| self.slices.get(name))
    }

    pub(crate) fn of_pool(&self, pool: &PoolId) -> impl Iterator<Item = &Entry> {
        let members = self.pools.get(pool);
        let names = members.into_iter().flat_map(|members| &members.slices);
        names.filter_map(|name| self.slices.get(name))
    }

    /// The newest generation of a pool, and how many slices of it there are.
    pub(crate) fn generation(&self, pool: &PoolId) -> (i64, usize) {
        let generations = self.pools.get(pool).map(|members| &members.generations);
        let newest = generations.and_then(BTreeMap::last_key_value);
        newest.map_or((0, 0), |(generation, slices)| (*generation, *slices))
    }

    /// Who has the devices of a pool.
    pub(crate) fn uses(&self, pool: &PoolId) -> Option<&HashMap<Box<str>, Use>> {
        self.uses.get(pool)
    }
}

impl PoolId {
    fn of(taken: &Taken) -> PoolId {
        PoolId {
            driver: taken.driver.clone(),
            pool: taken.pool.clone(),
        }
    }
}

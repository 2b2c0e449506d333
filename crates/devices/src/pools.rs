//! The pools that a node can reach: which slices count, and whether a pool is whole.
//!
//! A pool's slices carry its generation: the newest counts, and until all its slices are there nothing is allocated from
//! it. Does not know requests.

use std::collections::{BTreeMap, HashMap};

use crate::inventory::{Entry, Inventory, PoolId};
use crate::node::Node;
use crate::slice::Counters;

/// A pool as a node sees it.
#[derive(Debug)]
pub(crate) struct Pool<'a> {
    pub(crate) id: &'a PoolId,
    /// Slices with devices for the node, by name; none where the pool cannot be used.
    pub(crate) slices: Vec<&'a Entry>,
    pub(crate) counter_sets: HashMap<&'a str, &'a Counters>,
    pub(crate) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Whole,
    /// Some slices of its generation are not there yet.
    Incomplete,
    /// What it says contradicts itself.
    Invalid,
}

/// The pools a node can reach, in the order they are tried.
pub(crate) fn gather<'a>(inventory: &'a Inventory, node: &Node<'_>) -> Vec<Pool<'a>> {
    let mut found: BTreeMap<&PoolId, Vec<&Entry>> = BTreeMap::new();
    for entry in inventory.for_node(node.name) {
        if entry.slice.matters_to(node) {
            let slices = found.entry(&entry.pool).or_default();
            // The newest generation among those that matter.
            match slices.first().map(|first| first.slice.generation) {
                Some(known) if known > entry.slice.generation => {}
                Some(known) if known < entry.slice.generation => *slices = vec![entry],
                _ => slices.push(entry),
            }
        }
    }
    let pools = found.into_iter();
    let pools = pools.filter_map(|(id, slices)| build(inventory, id, slices));
    let mut pools: Vec<Pool<'_>> = pools.collect();
    // Devices that have to be waited for come last.
    pools.sort_by_key(|pool| {
        let mut devices = pool.slices.iter().flat_map(|entry| &entry.slice.devices);
        devices.any(|device| !device.binding_conditions.is_empty())
    });
    pools
}

fn build<'a>(
    inventory: &'a Inventory,
    id: &'a PoolId,
    mut slices: Vec<&'a Entry>,
) -> Option<Pool<'a>> {
    let first = slices.first()?;
    let generation = first.slice.generation;
    let whole = |slices: usize| i64::try_from(slices) == Ok(first.slice.slices);
    let mut pool = Pool {
        id,
        slices: Vec::new(),
        counter_sets: HashMap::new(),
        state: State::Whole,
    };
    let all_seen = whole(slices.len());
    if !all_seen {
        let (newest, of_it) = inventory.generation(id);
        if newest > generation {
            // The driver is about to replace it; what comes has nothing for the node.
            return None;
        }
        if !whole(of_it) {
            pool.state = State::Incomplete;
            return Some(pool);
        }
    }
    slices.sort_by(|a, b| a.slice.name.cmp(&b.slice.name));
    pool.state = State::Invalid;
    let mut names = std::collections::HashSet::new();
    for entry in &slices {
        for device in &entry.slice.devices {
            if entry.slice.counter_sets.is_empty() && !names.insert(&*device.name) {
                return Some(pool);
            }
        }
    }
    for (name, counters) in slices.iter().flat_map(|entry| &entry.slice.counter_sets) {
        if pool.counter_sets.insert(name, counters).is_some() {
            return Some(pool);
        }
    }
    let elsewhere = if all_seen || pool.counter_sets.is_empty() {
        Vec::new()
    } else {
        inventory.of_pool(id).collect()
    };
    let consistent = slices.iter().chain(&elsewhere).all(|entry| {
        let devices = &entry.slice.devices;
        entry.slice.generation != generation
            || devices.iter().flat_map(|d| &d.consumes).all(|(set, used)| {
                let known = pool.counter_sets.get(&**set);
                known.is_some_and(|known| {
                    used.iter()
                        .all(|(name, _)| crate::slice::find(known, name).is_some())
                })
            })
    });
    if consistent {
        pool.state = State::Whole;
        slices.retain(|entry| entry.slice.counter_sets.is_empty());
        pool.slices = slices;
    }
    Some(pool)
}

//! Equal values stored once, counted by holders, named by small numbers.
//!
//! Knows nothing of the values but that they can be compared and hashed.

use crate::hashing::{Hashing, hash_one};
use hashbrown::HashTable;
use std::hash::Hash;

#[derive(Debug)]
struct Slot<T> {
    value: T,
    holders: u32,
    generation: u32,
}

/// A table of distinct values.
#[derive(Debug)]
pub(crate) struct Cons<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    by_value: HashTable<u32>,
    hashing: Hashing,
}

impl<T: Hash + Eq + Default> Cons<T> {
    pub(crate) fn new(hashing: Hashing) -> Self {
        Cons {
            slots: Vec::new(),
            free: Vec::new(),
            by_value: HashTable::new(),
            hashing,
        }
    }

    pub(crate) fn find(&self, value: &T) -> Option<u32> {
        self.by_value
            .find(hash_one(&self.hashing, value), |&id| {
                self.slots[id as usize].value == *value
            })
            .copied()
    }

    /// Stores a value that is not there yet, with one holder.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let hash = hash_one(&self.hashing, &value);
        let id = match self.free.pop() {
            Some(id) => {
                let slot = &mut self.slots[id as usize];
                slot.value = value;
                slot.holders = 1;
                id
            }
            None => {
                self.slots.push(Slot {
                    value,
                    holders: 1,
                    generation: 0,
                });
                (self.slots.len() - 1) as u32
            }
        };
        let (slots, hashing) = (&self.slots, &self.hashing);
        self.by_value
            .insert_unique(hash, id, |&id| hash_one(hashing, &slots[id as usize].value));
        id
    }

    pub(crate) fn hold(&mut self, id: u32) {
        self.slots[id as usize].holders += 1;
    }

    /// One holder less; the last one gets the value back.
    pub(crate) fn release(&mut self, id: u32) -> Option<T> {
        let slot = &mut self.slots[id as usize];
        slot.holders -= 1;
        if slot.holders > 0 {
            return None;
        }
        slot.generation = slot.generation.wrapping_add(1);
        let value = std::mem::take(&mut slot.value);
        if let Ok(entry) = self
            .by_value
            .find_entry(hash_one(&self.hashing, &value), |&other| other == id)
        {
            entry.remove();
        }
        self.free.push(id);
        Some(value)
    }

    pub(crate) fn get(&self, id: u32) -> &T {
        &self.slots[id as usize].value
    }

    /// Changes whenever the number comes to name another value.
    pub(crate) fn generation(&self, id: u32) -> u32 {
        self.slots[id as usize].generation
    }

    /// One more than the largest number in use.
    pub(crate) fn bound(&self) -> usize {
        self.slots.len()
    }

    /// Is the number in use?
    pub(crate) fn is_live(&self, id: u32) -> bool {
        self.slots[id as usize].holders > 0
    }

    /// How many distinct values there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

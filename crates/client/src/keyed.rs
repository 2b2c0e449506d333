//! Things under textual keys, each in a slot that stays its own until it goes.
//!
//! ```text
//!   key ──hash──► index: (32 bits of the hash, slot) ──► rows: (key, thing)
//! ```
//!
//! What is found once is looked at again by its slot, which costs no hash and no comparison; whoever groups such things
//! keeps 4 bytes a member. The index grows without a look at keys, the rows without moving. Slots of things that went
//! are given again. Does not know what the things are.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

/// Where a thing is.
pub type Slot = u32;

/// Things a block.
const BLOCK: usize = 1024;

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    slot: Slot,
}

#[derive(Debug)]
struct Row<T> {
    key: Box<str>,
    hash: u32,
    thing: T,
}

/// A list in blocks, which grows without moving what is in it. Grows only.
#[derive(Debug)]
pub struct Blocks<T> {
    blocks: Vec<Vec<T>>,
}

impl<T> Default for Blocks<T> {
    fn default() -> Blocks<T> {
        Blocks { blocks: Vec::new() }
    }
}

impl<T> Blocks<T> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let full = self.blocks.len().saturating_sub(1) * BLOCK;
        full + self.blocks.last().map_or(0, Vec::len)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Appends one.
    pub fn push(&mut self, one: T) {
        if let Some(last) = self.blocks.last_mut().filter(|last| last.len() < BLOCK) {
            last.push(one);
            return;
        }
        // The first block grows: most lists are small.
        let room = if self.blocks.is_empty() { 1 } else { BLOCK };
        let mut block = Vec::with_capacity(room);
        block.push(one);
        self.blocks.push(block);
    }

    /// The one at a place.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<&T> {
        let (block, place) = place_of(slot);
        self.blocks.get(block)?.get(place)
    }

    /// The one at a place.
    #[must_use]
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let (block, place) = place_of(slot);
        self.blocks.get_mut(block)?.get_mut(place)
    }

    /// All in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten()
    }
}

/// The table. As large as it has been at most.
#[derive(Debug)]
pub struct Keyed<T> {
    index: HashTable<Entry>,
    rows: Blocks<Option<Row<T>>>,
    /// Slots that are empty.
    free: Vec<Slot>,
    state: RandomState,
}

impl<T> Default for Keyed<T> {
    fn default() -> Keyed<T> {
        Keyed {
            index: HashTable::new(),
            rows: Blocks::default(),
            free: Vec::new(),
            state: RandomState::default(),
        }
    }
}

impl<T> Keyed<T> {
    /// The slot of a key.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<Slot> {
        let hash = self.hash(key);
        let is_it = |entry: &Entry| {
            let row = || self.row(entry.slot);
            entry.hash == hash && row().is_some_and(|row| *row.key == *key)
        };
        Some(self.index.find(spread(hash), is_it)?.slot)
    }

    /// The slot that a key most likely has, without a look at what is there: for who wants to look at many, and has the
    /// waits for memory overlap.
    #[must_use]
    pub fn guess(&self, key: &str) -> Option<Slot> {
        let hash = self.hash(key);
        let is_it = |entry: &Entry| entry.hash == hash;
        Some(self.index.find(spread(hash), is_it)?.slot)
    }

    /// What is in a slot.
    #[must_use]
    pub fn at(&self, slot: Slot) -> Option<&T> {
        Some(&self.row(slot)?.thing)
    }

    /// What is in a slot.
    #[must_use]
    pub fn at_mut(&mut self, slot: Slot) -> Option<&mut T> {
        Some(&mut self.rows.get_mut(slot)?.as_mut()?.thing)
    }

    /// The key of what is in a slot.
    #[must_use]
    pub fn key(&self, slot: Slot) -> Option<&str> {
        Some(&self.row(slot)?.key)
    }

    /// What is under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&T> {
        self.at(self.find(key)?)
    }

    /// Puts a thing under a key. Gives its slot, and what was there before.
    pub fn put(&mut self, key: &str, thing: T) -> (Slot, Option<T>) {
        if let Some(slot) = self.find(key)
            && let Some(there) = self.at_mut(slot)
        {
            return (slot, Some(std::mem::replace(there, thing)));
        }
        let hash = self.hash(key);
        let slot = self.keep(Row {
            key: key.into(),
            hash,
            thing,
        });
        let entry = Entry { hash, slot };
        self.index
            .insert_unique(spread(hash), entry, |other| spread(other.hash));
        (slot, None)
    }

    /// Takes what is in a slot, with its key.
    pub fn remove(&mut self, slot: Slot) -> Option<(Box<str>, T)> {
        let row = self.rows.get_mut(slot)?.take()?;
        let is_it = |entry: &Entry| entry.slot == slot;
        if let Ok(entry) = self.index.find_entry(spread(row.hash), is_it) {
            entry.remove();
        }
        self.free.push(slot);
        Some((row.key, row.thing))
    }

    /// Everything, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &str, &T)> {
        (0..).zip(self.rows.iter()).filter_map(|(slot, row)| {
            let row = row.as_ref()?;
            Some((slot, &*row.key, &row.thing))
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn keep(&mut self, row: Row<T>) -> Slot {
        if let Some(slot) = self.free.pop()
            && let Some(empty) = self.rows.get_mut(slot)
        {
            *empty = Some(row);
            return slot;
        }
        let slot = Slot::try_from(self.rows.len());
        self.rows.push(Some(row));
        slot.expect("four billion objects do not fit into memory")
    }

    fn row(&self, slot: Slot) -> Option<&Row<T>> {
        self.rows.get(slot)?.as_ref()
    }

    fn hash(&self, key: &str) -> u32 {
        (self.state.hash_one(key) >> 32) as u32
    }
}

fn place_of(slot: Slot) -> (usize, usize) {
    (slot as usize / BLOCK, slot as usize % BLOCK)
}

/// The table takes a place from the lower bits, and a tag from the upper seven.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_stay_and_are_given_again() {
        let mut keyed = Keyed::default();
        let count: u32 = 3000;
        let key = |number: u32| format!("ns/{number}");
        for number in 0..count {
            assert_eq!(keyed.put(&key(number), number), (number, None));
        }
        assert_eq!(keyed.put("ns/7", 70), (7, Some(7)));
        for number in 0..count {
            assert_eq!(keyed.find(&key(number)), Some(number));
            assert_eq!(keyed.guess(&key(number)), Some(number));
            assert_eq!(keyed.key(number), Some(&*key(number)));
        }
        assert_eq!(keyed.get("ns/7"), Some(&70));
        assert_eq!(keyed.find("ns/x"), None);
        assert_eq!(keyed.remove(1500), Some(("ns/1500".into(), 1500)));
        assert_eq!(keyed.remove(1500), None);
        assert_eq!((keyed.get("ns/1500"), keyed.at(1500)), (None, None));
        assert_eq!((keyed.len(), keyed.iter().count()), (2999, 2999));
        assert_eq!(keyed.put("other", 1), (1500, None));
        *keyed.at_mut(1500).unwrap() = 2;
        assert!(keyed.iter().any(|all| all == (1500, "other", &2)));
        assert_eq!(keyed.put("last", 3), (count, None));
        for slot in 0..=count {
            assert!(keyed.remove(slot).is_some());
        }
        assert!(keyed.is_empty() && keyed.iter().next().is_none());
    }
}

//! Point access: keys to slots. A slot keeps its number while its key is known.

use crate::blob::Version;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::Arc;

const CHUNK_SLOTS: usize = 1024;

/// "No entry": the number of none.
pub(crate) const NO_ENTRY: u64 = u64::MAX;

/// What is known of one key: 72 bytes.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) key: Arc<[u8]>,
    pub(crate) latest: Version,
    /// Number of the history entry that made `latest`; may have left the ring.
    pub(crate) newest: u64,
}

/// A cell remembers its hash, so the table grows without touching a key.
#[derive(Clone, Copy, Debug)]
struct Cell {
    hash: u32,
    slot: u32,
}

#[derive(Debug)]
pub(crate) struct Records {
    chunks: Vec<Vec<Slot>>,
    free: Vec<u32>,
    table: HashTable<Cell>,
    hasher: RandomState,
    nothing: Arc<[u8]>,
}

impl Default for Records {
    fn default() -> Self {
        Records {
            chunks: Vec::new(),
            free: Vec::new(),
            table: HashTable::new(),
            hasher: RandomState::default(),
            nothing: Arc::from(&[][..]),
        }
    }
}

impl Records {
    /// Keys known, deleted ones that history still needs included.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    fn hash(&self, key: &[u8]) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        let hash = self.hash(key);
        let same = |cell: &Cell| {
            cell.hash == hash && self.get(cell.slot).is_some_and(|slot| &*slot.key == key)
        };
        self.table.find(spread(hash), same).map(|cell| cell.slot)
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Slot> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK_SLOTS)?.get(slot % CHUNK_SLOTS)
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        let slot = slot as usize;
        self.chunks
            .get_mut(slot / CHUNK_SLOTS)?
            .get_mut(slot % CHUNK_SLOTS)
    }

    pub(crate) fn key(&self, slot: u32) -> &[u8] {
        self.get(slot).map_or(&[], |slot| &slot.key)
    }

    /// Makes room for a key that is not known yet.
    pub(crate) fn insert(&mut self, key: Arc<[u8]>) -> u32 {
        let hash = self.hash(&key);
        let fresh = Slot {
            key,
            latest: Version::default(),
            newest: NO_ENTRY,
        };
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(slot) = self.get_mut(number) {
                    *slot = fresh;
                }
                number
            }
            None => self.append(fresh),
        };
        self.table
            .insert_unique(spread(hash), Cell { hash, slot: number }, |cell| {
                spread(cell.hash)
            });
        number
    }

    fn append(&mut self, fresh: Slot) -> u32 {
        if self
            .chunks
            .last()
            .is_none_or(|chunk| chunk.len() == CHUNK_SLOTS)
        {
            self.chunks.push(Vec::with_capacity(CHUNK_SLOTS));
        }
        let before = (self.chunks.len() - 1) * CHUNK_SLOTS;
        let Some(chunk) = self.chunks.last_mut() else {
            return 0;
        };
        chunk.push(fresh);
        (before + chunk.len() - 1) as u32
    }

    /// Forgets a key.
    pub(crate) fn remove(&mut self, number: u32) {
        let hash = self.hash(self.key(number));
        if let Ok(cell) = self
            .table
            .find_entry(spread(hash), |cell| cell.slot == number)
        {
            cell.remove();
        }
        let nothing = self.nothing.clone();
        if let Some(slot) = self.get_mut(number) {
            *slot = Slot {
                key: nothing,
                latest: Version::default(),
                newest: NO_ENTRY,
            };
            self.free.push(number);
        }
    }
}

/// The table takes its index from the low bits and its tag from the high ones: give it both.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

//! The log ring of a collection: what happened, in order, and what it replaced.
//!
//! Entries are numbered from 0 for ever; the ring holds `[start, end)`. It lives in chunks, so it
//! grows and shrinks without moving anything.

use crate::limits::ENTRY_OVERHEAD_BYTES;
use crate::past::Past;
use std::collections::VecDeque;

const CHUNK_ENTRIES: u64 = 256;

/// One change of one key: 72 bytes.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) revision: i64,
    pub(crate) slot: u32,
    /// Place among the changes of the same revision, above one bit for "a deletion".
    pub(crate) place: u32,
    /// The version this change replaced.
    pub(crate) undo: Past,
    /// Distance back to the key's change before; 0 for none or out of sight.
    pub(crate) older: u32,
    /// Distance on to the key's next change; 0 for none.
    pub(crate) newer: u32,
}

impl Entry {
    pub(crate) fn new(revision: i64, slot: u32, sub: u32, is_delete: bool, undo: Past) -> Self {
        let place = (sub << 1) | u32::from(is_delete);
        Entry {
            revision,
            slot,
            place,
            undo,
            older: 0,
            newer: 0,
        }
    }

    /// Place among the changes of the same revision.
    pub(crate) fn sub(&self) -> u32 {
        self.place >> 1
    }

    pub(crate) fn is_delete(&self) -> bool {
        self.place & 1 == 1
    }
}

/// What went with the oldest entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Popped {
    pub(crate) revision: i64,
    pub(crate) slot: u32,
    pub(crate) sub: u32,
    pub(crate) is_delete: bool,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    chunks: VecDeque<Vec<Entry>>,
    /// Number of the first entry of the first chunk.
    base: u64,
    start: u64,
    end: u64,
    bytes: u64,
}

impl History {
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Entry> {
        if number < self.start || number >= self.end {
            return None;
        }
        let (chunk, index) = self.place(number);
        self.chunks.get(chunk)?.get(index)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Entry> {
        if number < self.start || number >= self.end {
            return None;
        }
        let (chunk, index) = self.place(number);
        self.chunks.get_mut(chunk)?.get_mut(index)
    }

    fn place(&self, number: u64) -> (usize, usize) {
        let offset = number - self.base;
        (
            (offset / CHUNK_ENTRIES) as usize,
            (offset % CHUNK_ENTRIES) as usize,
        )
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        self.bytes += ENTRY_OVERHEAD_BYTES + entry.undo.blob_len();
        if (self.end - self.base).is_multiple_of(CHUNK_ENTRIES) {
            self.chunks
                .push_back(Vec::with_capacity(CHUNK_ENTRIES as usize));
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.push(entry);
        }
        self.end += 1;
    }

    /// Takes the oldest entry out. What it had replaced is gone.
    pub(crate) fn pop(&mut self) -> Option<Popped> {
        let number = self.start;
        let entry = self.get_mut(number)?;
        let undo = std::mem::take(&mut entry.undo);
        let is_delete = entry.is_delete();
        let popped = Popped {
            revision: entry.revision,
            slot: entry.slot,
            sub: entry.sub(),
            is_delete,
        };
        self.bytes -= ENTRY_OVERHEAD_BYTES + undo.blob_len();
        self.start += 1;
        if self.start - self.base == CHUNK_ENTRIES {
            self.chunks.pop_front();
            self.base = self.start;
        }
        Some(popped)
    }

    /// The number of the first entry with a revision greater than `revision`.
    pub(crate) fn first_after(&self, revision: i64) -> u64 {
        let (mut low, mut high) = (self.start, self.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self
                .get(middle)
                .is_some_and(|entry| entry.revision <= revision)
            {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The key's change before the one numbered `number`, if still in the ring.
    pub(crate) fn older(&self, number: u64) -> Option<u64> {
        let distance = self.get(number)?.older;
        if distance == 0 {
            return None;
        }
        number
            .checked_sub(u64::from(distance))
            .filter(|older| *older >= self.start)
    }

    /// The key's next change after the one numbered `number`.
    pub(crate) fn newer(&self, number: u64) -> Option<u64> {
        let distance = self.get(number)?.newer;
        (distance != 0).then(|| number + u64::from(distance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(revision: i64) -> Entry {
        Entry::new(revision, 0, 5, true, Past::default())
    }

    #[test]
    fn the_ring_grows_shrinks_and_finds() {
        assert_eq!(std::mem::size_of::<Entry>(), 72);
        let mut history = History::default();
        for revision in 0..1000 {
            history.push(entry(revision * 2));
        }
        for revision in 0..700 {
            let popped = Popped {
                revision: revision * 2,
                slot: 0,
                sub: 5,
                is_delete: true,
            };
            assert_eq!(history.pop(), Some(popped));
        }
        assert_eq!((history.start(), history.end()), (700, 1000));
        assert_eq!(history.first_after(1401), 701);
        assert_eq!(history.first_after(1400), 701);
        assert_eq!(history.first_after(1399), 700);
        assert_eq!(history.first_after(0), 700);
        assert_eq!(history.first_after(5000), 1000);
        assert_eq!(history.get(999).map(|entry| entry.revision), Some(1998));
        assert!(history.get(699).is_none() && history.get(1000).is_none());
        while history.pop().is_some() {}
        assert_eq!(history.bytes(), 0);
        history.push(entry(5000));
        assert_eq!(history.get(1000).map(|entry| entry.revision), Some(5000));
    }
}

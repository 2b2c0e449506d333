//! The table that grows with the conversation: RFC 7541 §2.3.2 and §4. One block of bytes, oldest entry first.

use std::collections::VecDeque;

/// A table grows by a quarter, and by this at least: it is the larger part of a silent connection, and what it has
/// doubled to would be given back as soon as the connection falls silent.
const STEP_BYTES: usize = 64;
const STEP_ENTRIES: usize = 4;

/// What RFC 7541 §4.1 counts for an entry beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 32;

#[derive(Debug)]
pub(crate) struct Table {
    bytes: Vec<u8>,
    /// Where the oldest entry begins; what lies before is gone.
    start: usize,
    entries: VecDeque<Entry>,
    /// As RFC 7541 §4.1 counts it.
    size: usize,
    max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: u32,
    value: u32,
    /// Its bytes may be those of a header; looked at once, when it came.
    is_sound: bool,
}

impl Entry {
    fn len(self) -> usize {
        self.name as usize + self.value as usize
    }
}

impl Table {
    pub(crate) fn new(max: usize) -> Table {
        Table {
            bytes: Vec::new(),
            start: 0,
            entries: VecDeque::new(),
            size: 0,
            max,
        }
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Name and value at an index, the newest being 1, and whether they are sound.
    pub(crate) fn get(&self, index: usize) -> Option<(&[u8], &[u8], bool)> {
        let place = self.entries.len().checked_sub(index)?;
        let entry = *self.entries.get(place)?;
        // From the end: what was asked for is mostly new, and the table short.
        let younger: usize = self.entries.range(place..).map(|entry| entry.len()).sum();
        let at = self.bytes.len().checked_sub(younger)?;
        let bytes = self.bytes.get(at..at + entry.len())?;
        let (name, value) = bytes.split_at_checked(entry.name as usize)?;
        Some((name, value, entry.is_sound))
    }

    /// The index of an entry with this name and value, else of one with this name.
    pub(crate) fn find(&self, name: &[u8], value: &[u8]) -> (Option<usize>, Option<usize>) {
        let mut end = self.bytes.len();
        let mut named = None;
        for (back, entry) in self.entries.iter().rev().enumerate() {
            let at = end.saturating_sub(entry.len());
            let middle = at + entry.name as usize;
            if entry.name as usize == name.len() && self.bytes.get(at..middle) == Some(name) {
                if self.bytes.get(middle..end) == Some(value) {
                    return (Some(back + 1), named);
                }
                named.get_or_insert(back + 1);
            }
            end = at;
        }
        (None, named)
    }

    /// Adds an entry; older ones go until it fits. One that is larger than the table empties it (RFC 7541 §4.4).
    pub(crate) fn insert(&mut self, name: &[u8], value: &[u8], is_sound: bool) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        self.evict(self.max.saturating_sub(size));
        let (Ok(name_len), Ok(value_len)) = (u32::try_from(name.len()), u32::try_from(value.len()))
        else {
            return;
        };
        if size > self.max {
            return;
        }
        let (bytes, entries) = (self.bytes.capacity(), self.entries.capacity());
        let missing = (self.bytes.len() + name.len() + value.len()).saturating_sub(bytes);
        if missing > 0 {
            let step = (bytes / 4).max(STEP_BYTES);
            let room = bytes - self.bytes.len() + missing.next_multiple_of(step);
            self.bytes.reserve_exact(room);
        }
        if self.entries.len() == entries {
            self.entries.reserve_exact((entries / 4).max(STEP_ENTRIES));
        }
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_back(Entry {
            name: name_len,
            value: value_len,
            is_sound,
        });
        self.size += size;
    }

    pub(crate) fn set_max(&mut self, max: usize) {
        self.max = max;
        self.evict(max);
    }

    /// Old entries go until no more than `size` is left.
    fn evict(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_front() else {
                return;
            };
            self.start += entry.len();
            self.size -= entry.len() + ENTRY_OVERHEAD_BYTES;
        }
        // Moving what is left costs no more than adding what went has cost.
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Gives back room that is not used: entries stay, because the peer counts on them.
    pub(crate) fn release(&mut self) {
        self.bytes.drain(..self.start);
        self.start = 0;
        // Less than that is not worth a move: an allocator has no smaller place for it.
        let (bytes, entries) = (self.bytes.len(), self.entries.len());
        if self.bytes.capacity() - bytes > (bytes / 4).max(STEP_BYTES) {
            self.bytes.shrink_to_fit();
        }
        if self.entries.capacity() - entries > (entries / 4).max(STEP_ENTRIES) {
            self.entries.shrink_to_fit();
        }
    }

    /// Bytes of memory held.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_first_and_the_oldest_goes() {
        let mut table = Table::new(3 * 34);
        for name in [b"a", b"b", b"c", b"d"] {
            table.insert(name, b"1", true);
        }
        assert_eq!(table.get(1), Some((&b"d"[..], &b"1"[..], true)));
        assert_eq!(table.get(3), Some((&b"b"[..], &b"1"[..], true)));
        assert_eq!(table.get(4), None);
        assert_eq!(table.get(0), None);
        assert_eq!(table.find(b"c", b"1"), (Some(2), None));
        assert_eq!(table.find(b"c", b"2"), (None, Some(2)));
        assert_eq!(table.find(b"a", b"1"), (None, None));
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut table = Table::new(40);
        table.insert(b"a", b"b", true);
        table.insert(b"much", b"too large", true);
        assert_eq!(table.get(1), None);
        assert_eq!(table.size, 0);
    }

    #[test]
    fn entries_stay_when_room_is_given_back() {
        let mut table = Table::new(4096);
        for _ in 0..100 {
            table.insert(b"long", &[b'x'; 100], true);
        }
        for name in [b"a", b"b", b"c", b"d"] {
            table.insert(name, b"1", true);
        }
        table.set_max(3 * 34);
        table.release();
        assert_eq!(table.get(3), Some((&b"b"[..], &b"1"[..], true)));
        assert_eq!((table.get(4), table.bytes.capacity()), (None, 6));
        assert_eq!(table.entries.capacity(), 3);
        table.insert(b"e", b"1", true);
        assert_eq!(table.find(b"c", b"1"), (Some(3), None));
    }

    #[test]
    fn it_holds_little_more_than_what_is_in_it() {
        let mut table = Table::new(4096);
        let mut len = 0;
        for number in 0..30_usize {
            let value = vec![b'x'; number * 7 % 90];
            table.insert(b"name", &value, true);
            len += 4 + value.len();
            assert!(table.bytes.capacity() <= (len + STEP_BYTES).max(len * 5 / 4 + 1));
            assert!(table.entries.capacity() <= (number + 1 + STEP_ENTRIES) * 5 / 4);
        }
    }

    #[test]
    fn its_bytes_stay_within_twice_its_size() {
        let mut table = Table::new(4096);
        for number in 0..10_000 {
            table.insert(b"name", format!("value {number}").as_bytes(), true);
            assert!(table.bytes.len() <= 2 * 4096);
        }
        assert!(table.size <= 4096);
    }
}

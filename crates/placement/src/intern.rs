//! Strings to small numbers and back, counted: label keys and values, resource names.
//!
//! Does not know what the strings mean. A string nobody holds any more gives its number back,
//! so a fleet whose labels churn does not grow the table for ever.

use crate::hashing::{Hashing, hash_one};
use hashbrown::HashTable;

/// Number of an interned string.
pub(crate) type Word = u32;

#[derive(Debug)]
struct Slot {
    text: Box<str>,
    holders: u32,
}

/// The table of strings.
#[derive(Debug)]
pub(crate) struct Interner {
    slots: Vec<Slot>,
    free: Vec<Word>,
    by_text: HashTable<Word>,
    hashing: Hashing,
}

impl Interner {
    pub(crate) fn new(hashing: Hashing) -> Self {
        Interner {
            slots: Vec::new(),
            free: Vec::new(),
            by_text: HashTable::new(),
            hashing,
        }
    }

    /// The number of `text`, if somebody holds it.
    pub(crate) fn lookup(&self, text: &str) -> Option<Word> {
        let hash = hash_one(&self.hashing, text);
        self.by_text
            .find(hash, |&w| &*self.slots[w as usize].text == text)
            .copied()
    }

    /// The number of `text`, held once more.
    pub(crate) fn acquire(&mut self, text: &str) -> Word {
        if let Some(word) = self.lookup(text) {
            self.hold(word);
            return word;
        }
        let slot = Slot {
            text: text.into(),
            holders: 1,
        };
        let word = match self.free.pop() {
            Some(word) => {
                self.slots[word as usize] = slot;
                word
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as Word
            }
        };
        let (slots, hashing) = (&self.slots, &self.hashing);
        self.by_text
            .insert_unique(hash_one(hashing, text), word, |&w| {
                hash_one(hashing, &*slots[w as usize].text)
            });
        word
    }

    /// One holder more of a number that is already held.
    pub(crate) fn hold(&mut self, word: Word) {
        self.slots[word as usize].holders += 1;
    }

    /// One holder less; the last one frees the number.
    pub(crate) fn release(&mut self, word: Word) {
        let slot = &mut self.slots[word as usize];
        slot.holders -= 1;
        if slot.holders > 0 {
            return;
        }
        let text = std::mem::take(&mut slot.text);
        let hash = hash_one(&self.hashing, &*text);
        if let Ok(entry) = self.by_text.find_entry(hash, |&w| w == word) {
            entry.remove();
        }
        self.free.push(word);
    }

    /// The string behind a held number.
    pub(crate) fn text(&self, word: Word) -> &str {
        &self.slots[word as usize].text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hashing::hashing;

    #[test]
    fn released_numbers_are_used_again() {
        let mut words = Interner::new(hashing(7));
        let zone = words.acquire("zone");
        let rack = words.acquire("rack");
        assert_eq!(words.acquire("zone"), zone);
        assert_ne!(zone, rack);
        words.release(zone);
        assert_eq!(words.lookup("zone"), Some(zone));
        words.release(zone);
        assert_eq!(words.lookup("zone"), None);
        assert_eq!(words.acquire("host"), zone);
        assert_eq!(words.text(zone), "host");
        assert_eq!(words.text(rack), "rack");
    }
}

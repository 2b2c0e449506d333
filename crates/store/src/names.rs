//! Slots in the order of their keys, with counts: where lists begin and how long they are.
//!
//! Blocks of slot numbers, compared through the records: about 6 bytes a key. Deleted keys stay
//! while history can still show them; each block knows how many of its keys are live.

use crate::records::Records;

const BLOCK_SLOTS: usize = 512;

#[derive(Debug)]
struct Block {
    slots: Vec<u32>,
    live: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Names {
    blocks: Vec<Block>,
}

/// A place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    block: usize,
    index: usize,
}

impl Names {
    /// The first place whose key is not less than `key`.
    pub(crate) fn seek(&self, records: &Records, key: &[u8]) -> Place {
        let after = self.blocks.partition_point(|block| {
            block
                .slots
                .first()
                .is_some_and(|slot| records.key(*slot) <= key)
        });
        let Some(block) = after.checked_sub(1) else {
            return Place { block: 0, index: 0 };
        };
        let slots = self.blocks.get(block).map_or(&[][..], |block| &block.slots);
        let index = slots.partition_point(|slot| records.key(*slot) < key);
        Place { block, index }
    }

    /// The slot at `place`, and the place after it. Steps over the end of a block.
    pub(crate) fn next(&self, mut place: Place) -> Option<(u32, Place)> {
        loop {
            let block = self.blocks.get(place.block)?;
            if let Some(slot) = block.slots.get(place.index) {
                return Some((
                    *slot,
                    Place {
                        block: place.block,
                        index: place.index + 1,
                    },
                ));
            }
            place = Place {
                block: place.block + 1,
                index: 0,
            };
        }
    }

    /// Puts a slot at its place; it counts as live when `live`.
    pub(crate) fn insert(&mut self, records: &Records, slot: u32, live: bool) {
        let place = self.seek(records, records.key(slot));
        let count = self.blocks.len();
        let Some(block) = self.blocks.get_mut(place.block) else {
            let mut slots = Vec::with_capacity(BLOCK_SLOTS / 8);
            slots.push(slot);
            self.blocks.push(Block {
                slots,
                live: usize::from(live),
            });
            return;
        };
        if block.slots.len() < BLOCK_SLOTS {
            block.slots.insert(place.index, slot);
            block.live += usize::from(live);
            return;
        }
        if place.block + 1 == count && place.index == block.slots.len() {
            // Names that arrive in order fill their blocks instead of leaving halves behind.
            let mut slots = Vec::with_capacity(BLOCK_SLOTS);
            slots.push(slot);
            self.blocks.push(Block {
                slots,
                live: usize::from(live),
            });
            return;
        }
        let tail = block.slots.split_off(BLOCK_SLOTS / 2);
        let is_live = |slot: &&u32| records.get(**slot).is_some_and(|slot| slot.latest.exists());
        let tail_live = tail.iter().filter(is_live).count();
        // The slot being inserted may already be live in the records, but it is in neither half.
        block.live -= tail_live;
        self.blocks.insert(
            place.block + 1,
            Block {
                slots: tail,
                live: tail_live,
            },
        );
        self.insert(records, slot, live);
    }

    /// Takes a slot out.
    pub(crate) fn remove(&mut self, records: &Records, slot: u32, live: bool) {
        let place = self.seek(records, records.key(slot));
        let Some(block) = self.blocks.get_mut(place.block) else {
            return;
        };
        if block.slots.get(place.index) != Some(&slot) {
            return;
        }
        block.slots.remove(place.index);
        block.live -= usize::from(live);
        if block.slots.is_empty() {
            self.blocks.remove(place.block);
        } else if block.slots.len() < BLOCK_SLOTS / 8 {
            self.join(place.block);
        }
    }

    /// Merges a nearly empty block with its neighbour, so that churn does not leave crumbs.
    fn join(&mut self, at: usize) {
        let left = if at + 1 < self.blocks.len() {
            at
        } else {
            at.saturating_sub(1)
        };
        let joined = |blocks: &[Block]| -> usize {
            blocks
                .iter()
                .skip(left)
                .take(2)
                .map(|block| block.slots.len())
                .sum()
        };
        if left + 1 >= self.blocks.len() || joined(&self.blocks) > BLOCK_SLOTS / 2 {
            return;
        }
        let right = self.blocks.remove(left + 1);
        if let Some(block) = self.blocks.get_mut(left) {
            block.slots.extend(right.slots);
            block.live += right.live;
        }
    }

    /// Notes that a known key came to life or died.
    pub(crate) fn set_live(&mut self, records: &Records, slot: u32, live: bool) {
        let place = self.seek(records, records.key(slot));
        if let Some(block) = self.blocks.get_mut(place.block) {
            if live {
                block.live += 1;
            } else {
                block.live -= 1;
            }
        }
    }

    /// How many live keys lie in `[start, end)`.
    pub(crate) fn count_live(&self, records: &Records, start: &[u8], end: Option<&[u8]>) -> usize {
        let from = self.seek(records, start);
        let to = match end {
            Some(end) => self.seek(records, end),
            None => Place {
                block: self.blocks.len(),
                index: 0,
            },
        };
        if from >= to {
            return 0;
        }
        let live_in = |block: usize, range: std::ops::Range<usize>| -> usize {
            let slots = self
                .blocks
                .get(block)
                .and_then(|block| block.slots.get(range));
            let is_live =
                |slot: &&u32| records.get(**slot).is_some_and(|slot| slot.latest.exists());
            slots.unwrap_or_default().iter().filter(is_live).count()
        };
        if from.block == to.block {
            return live_in(from.block, from.index..to.index);
        }
        let first_len = self
            .blocks
            .get(from.block)
            .map_or(0, |block| block.slots.len());
        let whole: usize = self
            .blocks
            .get(from.block + 1..to.block.min(self.blocks.len()))
            .unwrap_or_default()
            .iter()
            .map(|block| block.live)
            .sum();
        live_in(from.block, from.index..first_len) + whole + live_in(to.block, 0..to.index)
    }

    /// Walks every invariant; for tests.
    pub(crate) fn check(&self, records: &Records) -> Result<(), String> {
        let mut before: Option<&[u8]> = None;
        let mut known = 0;
        for block in &self.blocks {
            let mut live = 0;
            if block.slots.is_empty() || block.slots.len() > BLOCK_SLOTS {
                return Err(format!("a block of {} names", block.slots.len()));
            }
            for slot in &block.slots {
                let key = records.key(*slot);
                if before.is_some_and(|before| before >= key) {
                    return Err(format!("names out of order at {key:?}"));
                }
                before = Some(key);
                known += 1;
                live += usize::from(records.get(*slot).is_some_and(|slot| slot.latest.exists()));
            }
            if live != block.live {
                return Err(format!(
                    "a block counts {} live keys but has {live}",
                    block.live
                ));
            }
        }
        if known != records.len() {
            return Err(format!("{known} names for {} records", records.len()));
        }
        Ok(())
    }
}

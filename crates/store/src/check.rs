//! Walks every invariant. For tests and simulations: it holds locks for long.

use crate::blob::Version;
use crate::collection::Collection;
use crate::limits::{ENTRY_OVERHEAD_BYTES, KEY_OVERHEAD_BYTES};
use crate::records::Slot;
use crate::state::State;
use crate::store::Store;

impl Store {
    /// Says what is wrong, if anything is. No writes may run meanwhile.
    pub fn check(&self) -> Result<(), String> {
        let (mut leased, mut told) = (0, 0);
        for collection in self.collections() {
            leased += collection
                .check()
                .map_err(|wrong| format!("{:?}: {wrong}", collection.prefix()))?;
            told += collection.lock().told_bytes();
        }
        if told != self.used_bytes() {
            return Err(format!(
                "{told} bytes in all, counted {}",
                self.used_bytes()
            ));
        }
        let attached = self.shared.leases.attached();
        if attached != leased {
            return Err(format!("{attached} keys hang on leases, {leased} say so"));
        }
        Ok(())
    }
}

impl Collection {
    /// Answers how many keys hang on leases.
    fn check(&self) -> Result<usize, String> {
        let state = self.lock();
        state.names.check(&state.records)?;
        state.watchers.check(state.announced)?;
        check_entries(&state)?;
        if state.announced < state.history.start() || state.announced > state.history.end() {
            return Err("announced lies outside the ring".to_owned());
        }
        let (mut live, mut bytes, mut leased, mut wrong) = (0, 0, 0, None);
        each_slot(&state, |number, slot| {
            if let Err(reason) = check_slot(&state, number, slot) {
                wrong.get_or_insert(reason);
            }
            if !slot.latest.exists() {
                return;
            }
            live += 1;
            bytes += KEY_OVERHEAD_BYTES + slot.key.len() as u64 + slot.latest.blob_len();
            if slot.latest.lease != 0 {
                leased += 1;
                let id = self.identity.id;
                if !self
                    .shared
                    .leases
                    .is_attached(slot.latest.lease, id, &slot.key)
                {
                    wrong.get_or_insert(format!("{:?} does not hang on its lease", slot.key));
                }
            }
        });
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        if state.told_bytes() != state.live_bytes + state.history.bytes() {
            return Err("what it holds is not what it has told".to_owned());
        }
        if state.weighed() != state.weight {
            return Err(format!(
                "values weigh {}, counted {}",
                state.weighed(),
                state.weight
            ));
        }
        if (live, bytes) != (state.live, state.live_bytes) {
            let counted = (state.live, state.live_bytes);
            return Err(format!(
                "{live} live keys of {bytes} bytes, counted {counted:?}"
            ));
        }
        Ok(leased)
    }
}

fn each_slot(state: &State, mut visit: impl FnMut(u32, &Slot)) {
    let mut place = state.names.seek(&state.records, &[]);
    while let Some((number, next)) = state.names.next(place) {
        if let Some(slot) = state.records.get(number) {
            visit(number, slot);
        }
        place = next;
    }
}

fn check_slot(state: &State, number: u32, slot: &Slot) -> Result<(), String> {
    let key = &slot.key;
    if state.records.find(key) != Some(number) {
        return Err(format!("{key:?} is not found under its own name"));
    }
    match state.history.get(slot.newest) {
        Some(entry) if entry.slot != number || entry.revision != slot.latest.modified => {
            Err(format!("{key:?} points at an entry of something else"))
        }
        None if !slot.latest.exists() => Err(format!("{key:?} is deleted, and nobody asks")),
        Some(_) | None => Ok(()),
    }
}

fn check_entries(state: &State) -> Result<(), String> {
    let history = &state.history;
    let (mut bytes, mut last) = (0, (0, -1));
    for number in history.start()..history.end() {
        let Some(entry) = history.get(number) else {
            return Err("a hole in the ring".to_owned());
        };
        bytes += ENTRY_OVERHEAD_BYTES + entry.undo.blob_len();
        let place = (entry.revision, i64::from(entry.sub()));
        if place <= last {
            return Err(format!("entry {place:?} after {last:?}"));
        }
        last = place;
        if entry.undo.modified() >= entry.revision {
            return Err(format!(
                "entry of {} replaced something newer",
                entry.revision
            ));
        }
        if let Some(older) = history.older(number)
            && (history.newer(older) != Some(number)
                || history
                    .get(older)
                    .is_none_or(|older| older.slot != entry.slot))
        {
            return Err(format!("the chain of entry {number} is broken"));
        }
        let after = state.version_after(number, entry);
        let leads = |after: &Version| {
            after.modified == entry.revision && after.exists() != entry.is_delete()
        };
        if !after.is_some_and(|after| leads(&after)) {
            return Err(format!("entry {number} does not lead to its version"));
        }
    }
    if bytes != history.bytes() {
        return Err(format!(
            "history holds {bytes} bytes, counted {}",
            history.bytes()
        ));
    }
    Ok(())
}

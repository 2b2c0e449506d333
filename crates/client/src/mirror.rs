//! A mirror: the consumer's copy of what a reflector follows, which says what each change did.
//!
//! Each object stays in its slot ([`Keyed`]) while it is there, whatever becomes of it. Does not know where the changes
//! come from.

use crate::keyed::{Keyed, Slot};
use crate::reflector::Change;

/// What a change did to the mirror.
#[derive(Debug)]
pub enum Delta<T> {
    /// A new object.
    Added(String),
    /// The object replaced this older one.
    Changed(String, T),
    /// The object went; this is what was known of it.
    Removed(String, T),
    /// A list is complete: objects that were deleted unseen come as these.
    Synced(Vec<(String, T)>),
}

/// The consumer's copy of what a reflector follows.
#[derive(Debug)]
pub struct Mirror<T> {
    /// With the round in which each was last named.
    objects: Keyed<(u32, T)>,
    round: u32,
    synced: bool,
}

impl<T> Default for Mirror<T> {
    fn default() -> Mirror<T> {
        Mirror {
            objects: Keyed::default(),
            round: 0,
            synced: false,
        }
    }
}

impl Mirror<()> {
    /// Takes in one change where only names are kept, and gives those that are gone by it.
    pub fn take_name(&mut self, change: Change<()>) -> Vec<String> {
        match self.take(change) {
            Some(Delta::Removed(key, ())) => vec![key],
            Some(Delta::Synced(gone)) => gone.into_iter().map(|(key, ())| key).collect(),
            _ => Vec::new(),
        }
    }
}

impl<T> Mirror<T> {
    /// Takes in one change and says what it did. `None`: nothing to act on.
    pub fn take(&mut self, change: Change<T>) -> Option<Delta<T>> {
        match change {
            Change::Restart => {
                self.restart();
                None
            }
            Change::Apply(key, object) => Some(match self.put(&key, object) {
                (_, Some(old)) => Delta::Changed(key, old),
                (_, None) => Delta::Added(key),
            }),
            Change::Same(_) => None,
            Change::Delete(key) => {
                let old = self.remove(self.find(&key)?)?;
                Some(Delta::Removed(key, old))
            }
            Change::Synced => {
                let gone = self.sync().into_iter();
                Some(Delta::Synced(
                    gone.map(|(_, key, old)| (key, old)).collect(),
                ))
            }
        }
    }

    /// [`Change::Restart`]
    pub fn restart(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// [`Change::Synced`]: the objects that went unseen, which are gone now, with the slots that they had.
    pub fn sync(&mut self) -> Vec<(Slot, String, T)> {
        self.synced = true;
        let unseen = self.objects.iter();
        let unseen = unseen.filter(|(_, _, (seen, _))| *seen != self.round);
        let unseen: Vec<Slot> = unseen.map(|(slot, ..)| slot).collect();
        let gone = unseen.into_iter().filter_map(|slot| {
            let (key, (_, object)) = self.objects.remove(slot)?;
            Some((slot, key.into(), object))
        });
        gone.collect()
    }

    /// [`Change::Apply`]: gives the object's slot, and what was there before.
    pub fn put(&mut self, key: &str, object: T) -> (Slot, Option<T>) {
        let (slot, old) = self.objects.put(key, (self.round, object));
        (slot, old.map(|(_, old)| old))
    }

    /// Puts another object into a slot, under the key that is there, and gives what was there before.
    pub fn replace(&mut self, slot: Slot, object: T) -> Option<T> {
        let there = self.objects.at_mut(slot)?;
        Some(std::mem::replace(there, (self.round, object)).1)
    }

    /// Takes what is in a slot.
    pub fn remove(&mut self, slot: Slot) -> Option<T> {
        let (_, (_, object)) = self.objects.remove(slot)?;
        Some(object)
    }

    /// Whether a first list is complete.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// The slot of a key.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<Slot> {
        self.objects.find(key)
    }

    /// The slot that a key most likely has: [`Keyed::guess`].
    #[must_use]
    pub fn guess(&self, key: &str) -> Option<Slot> {
        self.objects.guess(key)
    }

    /// The object under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&T> {
        self.at(self.find(key)?)
    }

    /// The object in a slot.
    #[must_use]
    pub fn at(&self, slot: Slot) -> Option<&T> {
        self.objects.at(slot).map(|(_, object)| object)
    }

    /// The object in a slot.
    #[must_use]
    pub fn at_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.objects.at_mut(slot).map(|(_, object)| object)
    }

    /// The key of the object in a slot.
    #[must_use]
    pub fn key(&self, slot: Slot) -> Option<&str> {
        self.objects.key(slot)
    }

    /// Everything, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        let all = self.objects.iter();
        all.map(|(_, key, (_, object))| (key, object))
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_list_removes_what_it_does_not_name() {
        let mut mirror = Mirror::default();
        assert!(mirror.take(Change::Restart).is_none());
        for key in ["a", "b"] {
            assert!(
                matches!(mirror.take(Change::Apply(key.into(), 1)), Some(Delta::Added(k)) if k == key)
            );
        }
        assert!(
            matches!(mirror.take(Change::Synced), Some(Delta::Synced(gone)) if gone.is_empty())
        );
        assert!(mirror.take(Change::Restart).is_none());
        assert!(matches!(
            mirror.take(Change::Apply("b".into(), 2)),
            Some(Delta::Changed(_, 1))
        ));
        let Some(Delta::Synced(gone)) = mirror.take(Change::Synced) else {
            panic!("not synced")
        };
        assert_eq!(gone, vec![("a".to_owned(), 1)]);
        assert_eq!(mirror.get("b"), Some(&2));
        assert_eq!(mirror.len(), 1);
        assert!(matches!(
            mirror.take(Change::Delete("b".into())),
            Some(Delta::Removed(_, 2))
        ));
        assert!(mirror.take(Change::Delete("b".into())).is_none());
    }
}

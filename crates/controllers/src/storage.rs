//! Volumes and claims by what they are looked up by: free volumes in the order in which claims try them, who names whom,
//! and which claims wait for a volume.
//!
//! An entry is a name. A volume that was given away leaves the free ones at once, not only when the API's word of it has
//! come back. Does not know which volume fits.

use std::collections::{BTreeSet, HashMap};

use meta::{Quantity, Value, object};
use reconcile::volume::{
    Rank, Wanted, claim_named, class_of, is_free, named_class, volume_named, was_bound,
};

use crate::cluster::enter_group;

type Names = BTreeSet<Box<str>>;

/// The indices.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    /// By class.
    free: HashMap<Box<str>, BTreeSet<Rank>>,
    /// Volumes by the claim they name,
    by_claim: HashMap<String, Names>,
    /// and claims by the volume they name.
    by_volume: HashMap<Box<str>, Names>,
    /// Claims that take any volume, by class; None: they name none.
    waiting: HashMap<Option<Box<str>>, Names>,
    /// The volumes that plans under way give to claims, by claim.
    given: HashMap<Box<str>, Box<str>>,
}

impl Storage {
    /// Takes in a volume, or takes it out as it was taken in.
    pub(crate) fn index_volume(&mut self, key: &str, volume: &Value, enter: bool) {
        if let Some((claim, _)) = claim_named(volume) {
            enter_group(&mut self.by_claim, claim, key, enter);
        }
        if is_free(volume) {
            self.index_free(volume, enter);
        }
    }

    fn index_free(&mut self, volume: &Value, enter: bool) {
        let (class, rank) = (class_of(volume), Rank::of(volume));
        if enter {
            self.free.entry(class.into()).or_default().insert(rank);
        } else if let Some(free) = self.free.get_mut(class) {
            free.remove(&rank);
            if free.is_empty() {
                self.free.remove(class);
            }
        }
    }

    /// Takes in a claim, or takes it out as it was taken in.
    pub(crate) fn index_claim(&mut self, key: &str, claim: &Value, enter: bool) {
        let volume = volume_named(claim);
        if !volume.is_empty() {
            enter_group(&mut self.by_volume, volume.into(), key, enter);
        } else if !was_bound(claim) && !object::is_deleting(claim) {
            let class = named_class(claim).map(Box::from);
            enter_group(&mut self.waiting, class, key, enter);
        }
    }

    /// A plan under way gives a volume to a claim: others shall not try it.
    pub(crate) fn give(&mut self, claim: &str, volume: &Value) {
        self.index_free(volume, false);
        self.given.insert(claim.into(), object::name(volume).into());
    }

    /// A plan for a claim has ended: the name of the volume that it gave away.
    pub(crate) fn plan_ended(&mut self, claim: &str) -> Option<Box<str>> {
        self.given.remove(claim)
    }

    /// A volume that was not given away after all, as it is known.
    pub(crate) fn take_back(&mut self, volume: &Value) {
        if is_free(volume) {
            self.index_free(volume, true);
        }
    }

    /// Names of free volumes of the claim's class that are large enough, in order.
    pub(crate) fn free_for<'a>(
        &'a self,
        wanted: &Wanted<'_>,
    ) -> impl Iterator<Item = &'a str> + use<'a> {
        let free = self.free.get(wanted.class);
        let most = free
            .and_then(|free| free.last())
            .map_or(0, |last| last.modes);
        let (least, size) = (wanted.modes(), wanted.size);
        free.into_iter()
            .flat_map(move |free| {
                (least..=most).flat_map(move |modes| {
                    free.range(from(modes, size)..from(modes + 1, Quantity::ZERO))
                })
            })
            .map(|rank| &*rank.name)
    }

    /// Volumes that name a claim.
    pub(crate) fn naming_claim(&self, claim: &str) -> Vec<Box<str>> {
        names(self.by_claim.get(claim))
    }

    /// Claims that name a volume.
    pub(crate) fn naming_volume(&self, volume: &str) -> Vec<Box<str>> {
        names(self.by_volume.get(volume))
    }

    /// Claims that take any volume and name this class, or none.
    pub(crate) fn waiting_for(&self, class: Option<&str>) -> Vec<Box<str>> {
        names(self.waiting.get(&class.map(Box::from)))
    }
}

fn from(modes: usize, size: Quantity) -> Rank {
    Rank {
        modes,
        size,
        name: "".into(),
    }
}

fn names(of: Option<&Names>) -> Vec<Box<str>> {
    of.into_iter().flatten().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn volume(name: &str, size: &str, modes: &[&str], claim: Value) -> Value {
        json!({"metadata": {"name": name}, "status": {"phase": "Available"},
            "spec": {"storageClassName": "fast", "capacity": {"storage": size}, "accessModes": modes, "claimRef": claim}})
    }

    fn claim(size: &str, more: Value) -> Value {
        let mut claim = json!({"metadata": {"namespace": "n", "name": "c"}, "spec": {"storageClassName": "fast",
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
        if let Some(fields) = more.as_object() {
            for (field, value) in fields {
                claim["spec"][field] = value.clone();
            }
        }
        claim
    }

    #[test]
    fn free_volumes_come_in_the_order_in_which_they_are_tried() {
        let mut storage = Storage::default();
        let all = [
            volume("b", "2Gi", &["ReadWriteOnce"], Value::Null),
            volume("a", "2Gi", &["ReadWriteOnce"], Value::Null),
            volume("large", "9Gi", &["ReadWriteOnce"], Value::Null),
            volume("small", "1Gi", &["ReadWriteOnce"], Value::Null),
            volume(
                "rich",
                "1Gi",
                &["ReadWriteOnce", "ReadWriteMany"],
                Value::Null,
            ),
            volume(
                "named",
                "2Gi",
                &["ReadWriteOnce"],
                json!({"namespace": "n", "name": "c"}),
            ),
        ];
        for volume in &all {
            storage.index_volume(object::name(volume), volume, true);
        }
        let free = |storage: &Storage, size: &str| {
            let claim = claim(size, Value::Null);
            storage
                .free_for(&Wanted::of(&claim))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(free(&storage, "1Gi"), ["small", "a", "b", "large", "rich"]);
        assert_eq!(free(&storage, "2Gi"), ["a", "b", "large"]);
        assert_eq!(storage.naming_claim("n/c"), [Box::from("named")]);
        storage.give("n/c", &all[1]);
        assert_eq!(free(&storage, "2Gi"), ["b", "large"]);
        assert_eq!(storage.plan_ended("n/c").as_deref(), Some("a"));
        storage.take_back(&all[1]);
        assert_eq!(free(&storage, "2Gi"), ["a", "b", "large"]);
        for volume in &all {
            storage.index_volume(object::name(volume), volume, false);
        }
        assert!(storage.free.is_empty() && storage.by_claim.is_empty() && storage.given.is_empty());
    }

    #[test]
    fn claims_wait_by_class_until_they_name_a_volume() {
        let mut storage = Storage::default();
        let (waits, names) = (
            claim("1Gi", Value::Null),
            claim("1Gi", json!({"volumeName": "v"})),
        );
        storage.index_claim("n/c", &waits, true);
        assert_eq!(storage.waiting_for(Some("fast")), [Box::from("n/c")]);
        storage.index_claim("n/c", &waits, false);
        storage.index_claim("n/c", &names, true);
        assert!(storage.waiting.is_empty());
        assert_eq!(storage.naming_volume("v"), [Box::from("n/c")]);
        storage.index_claim("n/c", &names, false);
        assert!(storage.by_volume.is_empty());
    }
}

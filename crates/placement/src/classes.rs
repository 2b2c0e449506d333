//! Classes as they come, are kept, change with the cluster, and go.
//!
//! A class brings rules of its own (spread constraints, affinity terms), may be given the system's default
//! constraints, and is concerned by terms that pods with a node hold. The last two change under it: they are
//! looked at again whenever it is used.

use crate::class::Class;
use crate::cluster::{ClassId, ClassSlot, Cluster};
use crate::company::{Rules, found};
use crate::hashing::hash_one;
use crate::objects::PodSpec;
use crate::pods::spread_rule;
use crate::tally::Subject;
use crate::terms::{PodTerm, SpreadConstraint, selects};

impl Cluster {
    /// The class of pods with this signature.
    pub fn class_of(&mut self, spec: &PodSpec) -> ClassId {
        self.uses += 1;
        let hash = hash_one(&self.hashing, spec);
        let classes = &self.classes;
        let known = self.by_spec.find(hash, |&slot| {
            let class = classes[slot as usize].class.as_ref();
            class.is_some_and(|c| c.spec == *spec)
        });
        let slot = match known {
            Some(&slot) => slot,
            None => self.add_class(spec, hash),
        };
        let entry = &mut self.classes[slot as usize];
        entry.last_used = self.uses;
        ClassId {
            slot,
            generation: entry.generation,
        }
    }

    /// Keeps a class from eviction until it is released as often as it was retained.
    pub fn retain_class(&mut self, class: ClassId) {
        if self.class(class).is_some() {
            self.classes[class.slot as usize].retained += 1;
        }
    }

    /// Undoes one [`Cluster::retain_class`].
    pub fn release_class(&mut self, class: ClassId) {
        if self.class(class).is_some() {
            let slot = &mut self.classes[class.slot as usize];
            slot.retained = slot.retained.saturating_sub(1);
        }
    }

    /// Classes known now.
    pub fn classes(&self) -> usize {
        self.classes.len() - self.free_classes.len()
    }

    pub(crate) fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes
            .get(id.slot as usize)
            .filter(|slot| slot.generation == id.generation)?
            .class
            .as_deref()
    }

    /// Takes the class out of its slot, up to date with the terms and makers that concern it. It must be put
    /// back.
    pub(crate) fn take_class(&mut self, id: ClassId) -> Option<Box<Class>> {
        self.uses += 1;
        let slot = self.classes.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.last_used = self.uses;
        let mut class = slot.class.take()?;
        let now = (self.fleet.tallies.held_version(), self.makers.version());
        if class.seen != now {
            self.refresh(&mut class);
        }
        Some(class)
    }

    pub(crate) fn put_back(&mut self, id: ClassId, class: Box<Class>) {
        self.classes[id.slot as usize].class = Some(class);
    }

    fn refresh(&mut self, class: &mut Class) {
        let makers_here = self.makers.version_in(&class.spec.namespace);
        let mut other_rules = false;
        if class.makers_seen != makers_here && class.spec.spread.is_empty() {
            other_rules = self.give_defaults(class);
        }
        class.makers_seen = makers_here;
        class.seen.1 = self.makers.version();
        if !other_rules && class.seen.0 == self.fleet.tallies.held_version() {
            return;
        }
        let identity = self.identity_of(&class.spec, false);
        let mut concerning = self.fleet.tallies.concerning(&identity);
        if let Some(outside) = &self.outside {
            outside.order(&mut concerning);
        }
        let company = class
            .rules
            .company(&concerning, self.fleet.host_key(), &class.profile);
        self.index_entries -= class.keep_company(company, &mut self.fleet);
        class.seen.0 = self.fleet.tallies.held_version();
    }

    /// The profile's default constraints, over the pods that belong together.
    /// True when they are others than before.
    fn give_defaults(&mut self, class: &mut Class) -> bool {
        let selector = self.makers.selector_of(&class.spec);
        if selector == class.rules.default_selector {
            return false;
        }
        let old = std::mem::take(&mut class.rules.spread);
        class.rules.defaults = selector.is_some();
        if let Some(selector) = &selector {
            let profile = class.profile.clone();
            for constraint in &profile.spread_defaults.constraints {
                let constraint = SpreadConstraint {
                    selector: selector.clone(),
                    ..constraint.clone()
                };
                let rule = self.hold_spread(&class.spec, &constraint);
                class.rules.spread.push(rule);
            }
        }
        for rule in old {
            self.release_tally(rule.tally);
            self.release_topology(rule.key);
        }
        class.rules.default_selector = selector;
        true
    }

    fn hold_spread(
        &mut self,
        spec: &PodSpec,
        constraint: &SpreadConstraint,
    ) -> crate::company::SpreadRule {
        let subject = Subject::Spread(spec.namespace.clone(), constraint.selector.clone());
        let held = self.hold_tally(&subject, &constraint.topology_key);
        let itself = selects(&constraint.selector, &spec.labels);
        spread_rule(constraint, held, itself)
    }

    fn hold_rules(&mut self, spec: &PodSpec) -> Rules {
        let mut rules = Rules::default();
        for constraint in &spec.spread {
            let rule = self.hold_spread(spec, constraint);
            rules.spread.push(rule);
        }
        let affinity = &spec.affinity;
        for term in &affinity.required_anti {
            let held = self.hold_tally(&found(std::slice::from_ref(term)), &term.topology_key);
            rules.anti.push(held);
        }
        for (weight, term) in &affinity.preferred {
            let (tally, key) =
                self.hold_tally(&found(std::slice::from_ref(term)), &term.topology_key);
            rules.preferred.push((tally, key, *weight));
        }
        if let Some((first, others)) = affinity.required.split_first() {
            let all = found(&affinity.required);
            let (tally, key) = self.hold_tally(&all, &first.topology_key);
            let mut keys = vec![key];
            for term in others {
                keys.push(self.hold_topology(&term.topology_key));
            }
            let identity = self.identity_of(spec, false);
            let itself = affinity
                .required
                .iter()
                .all(|t: &PodTerm| t.finds(&identity));
            rules.required = Some((tally, keys, itself));
        }
        rules
    }

    fn release_rules(&mut self, rules: &Rules) {
        let (tallies, keys) = rules.holds();
        for key in keys {
            self.release_topology(key);
        }
        for tally in tallies {
            self.release_tally(tally);
        }
    }

    fn add_class(&mut self, spec: &PodSpec, hash: u64) -> u32 {
        if self.classes() >= self.config.classes_max {
            self.evict_classes();
        }
        let kind = self.hold_kind(spec, false);
        let load = self.kinds.get(kind).map_or(0, |kind| kind.delta);
        let load = self.fleet.deltas.get(load).clone();
        let profile = self.profile(spec.profile);
        let mut class = Class::new(
            spec.clone(),
            profile,
            kind,
            load,
            &mut self.fleet,
            &self.hashing,
        );
        class.rules = self.hold_rules(spec);
        let slot = match self.free_classes.pop() {
            Some(slot) => slot,
            None => {
                self.classes.push(ClassSlot::default());
                (self.classes.len() - 1) as u32
            }
        };
        self.classes[slot as usize].class = Some(Box::new(class));
        let (classes, hashing) = (&self.classes, &self.hashing);
        self.by_spec.insert_unique(hash, slot, |&s| {
            classes[s as usize]
                .class
                .as_ref()
                .map_or(0, |c| hash_one(hashing, &c.spec))
        });
        slot
    }

    /// Drops an eighth of the classes nobody retains, the least recently used first.
    fn evict_classes(&mut self) {
        let mut idle: Vec<(u64, u32)> = self
            .classes
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.class.is_some() && slot.retained == 0)
            .map(|(at, slot)| (slot.last_used, at as u32))
            .collect();
        idle.sort_unstable();
        idle.truncate((self.config.classes_max / 8).max(1));
        for (_, at) in idle {
            self.drop_class(at);
        }
    }

    pub(crate) fn drop_class(&mut self, at: u32) {
        let slot = &mut self.classes[at as usize];
        let Some(mut class) = slot.class.take() else {
            return;
        };
        slot.generation = slot.generation.wrapping_add(1);
        slot.failure = None;
        slot.hopeless = None;
        if let Ok(entry) = self
            .by_spec
            .find_entry(hash_one(&self.hashing, &class.spec), |&s| s == at)
        {
            entry.remove();
        }
        let (kind, rules) = (class.kind, std::mem::take(&mut class.rules));
        self.index_entries -= class.dissolve(&mut self.fleet);
        self.release_rules(&rules);
        self.release_kind(kind);
        self.free_classes.push(at);
    }

    /// Keeps the memory of indices within its limit, sparing the class just used.
    pub(crate) fn trim(&mut self, spared: u32) {
        let fleet = &self.fleet;
        let littered = fleet.dead_states() > fleet.live_states() + fleet.litter_max();
        let target = if littered {
            0
        } else if self.index_entries > self.config.index_entries_max {
            self.config.index_entries_max / 2
        } else {
            return;
        };
        let mut by_age: Vec<(u64, u32)> = (0..self.classes.len() as u32)
            .filter(|&at| at != spared)
            .map(|at| (self.classes[at as usize].last_used, at))
            .collect();
        by_age.sort_unstable();
        if littered {
            by_age.push((u64::MAX, spared));
        }
        for (_, at) in by_age {
            if self.index_entries <= target {
                break;
            }
            if let Some(class) = &mut self.classes[at as usize].class {
                self.index_entries -= class.drop_index(&mut self.fleet);
            }
        }
    }
}

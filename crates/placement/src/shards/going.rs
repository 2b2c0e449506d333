//! Shards that are lost, and shards that come back.
//!
//! The nodes that have another owner than before, and the pods on them, are forgotten; the shell tells them again.
//! Does not know why a shard is lost, or who lists what there is.

use super::coordinator::{InView, Member, owner};
use super::words::Order;
use super::{Coordinator, Links};
use crate::key::PodKey;

impl<L: Links> Coordinator<L> {
    /// Was a shard lost, or is one back, since [`Coordinator::listed`]? Then every node and every pod must be told
    /// again, and until that is done nothing is placed. The number tells one such change from the next.
    pub fn must_list(&self) -> Option<u64> {
        self.unheard
    }

    /// Everything that there is has been told again since [`Coordinator::must_list`] gave that number.
    pub fn listed(&mut self, number: u64) {
        if self.unheard == Some(number) {
            self.unheard = None;
        }
    }

    /// Numbers of the shards that answer.
    pub fn alive(&self) -> Vec<usize> {
        let members = self.members.iter().enumerate();
        members.filter(|(_, m)| m.alive).map(|(at, _)| at).collect()
    }

    /// Numbers of the shards that do not.
    pub fn lost(&self) -> Vec<usize> {
        let members = self.members.iter().enumerate();
        members
            .filter(|(_, m)| !m.alive)
            .map(|(at, _)| at)
            .collect()
    }

    /// A shard is lost: its nodes go to others, once they are told again.
    pub fn lose(&mut self, shard: usize) {
        if self.members[shard].alive {
            let before = self.alive();
            self.members[shard] = Member::default();
            self.rehouse(&before);
        }
    }

    /// Tries to get a lost shard back, empty; true when it is.
    pub fn revive(&mut self, shard: usize) -> bool {
        let revived = !self.members[shard].alive && self.links.revive(shard);
        if revived {
            self.adopt(shard);
        }
        revived
    }

    fn adopt(&mut self, shard: usize) {
        let before = self.alive();
        self.members[shard].alive = true;
        self.views.forget_shard(shard);
        let mut orders: Vec<Order> = Vec::new();
        for (name, labels) in &self.brain.namespaces {
            orders.push(Order::Namespace(name.clone(), Some(labels.clone())));
        }
        for (kind, namespace, name, selector) in self.brain.makers.all() {
            orders.push(Order::Maker(
                kind,
                namespace.into(),
                name.into(),
                selector.clone(),
            ));
        }
        let budgets = self.brain.budgets.values().flatten();
        orders.extend(budgets.cloned().map(Order::Budget));
        let terms = self.terms.iter();
        orders
            .extend(terms.map(|(number, (role, term))| Order::Term(*number, *role, term.clone())));
        orders.extend(
            self.spelt
                .keys()
                .map(|host| Order::Host(host.clone(), true)),
        );
        for order in orders {
            self.tell(shard, order);
        }
        for (number, spec) in self.views.defined() {
            self.tell(shard, Order::Class(number, spec));
        }
        self.rehouse(&before);
    }

    /// Forgets what is with the wrong shard; it will be told again.
    fn rehouse(&mut self, before: &[usize]) {
        self.losses += 1;
        self.unheard = Some(self.losses);
        self.version += 1;
        self.views.forget_answers();
        let now = self.alive();
        let moves = |name: &str| owner(name, before) != owner(name, &now);
        let names = self.brain.fleet.names().filter(|name| moves(name));
        let names: Vec<Box<str>> = names.map(Into::into).collect();
        let moved = self.pods.iter().filter(|(_, pod)| {
            let home = owner(self.places.text(pod.node), &now);
            home != Some(usize::from(pod.shard))
        });
        let moved: Vec<PodKey> = moved.map(|(key, _)| *key).collect();
        for key in moved {
            if !self.move_assumed(key) {
                self.remove_pod(key);
            }
        }
        let claims: Vec<PodKey> = self.in_view.keys().copied().collect();
        for key in claims {
            let Some(old) = self.in_view.get(&key).cloned() else {
                continue;
            };
            let home = self.home(&old.node);
            if home != old.shard {
                self.claim(key, &old, false);
                let new = InView { shard: home, ..old };
                self.claim(key, &new, true);
                self.in_view.insert(key, new);
            }
        }
        for name in names {
            self.forget_node(&name, owner(&name, before));
        }
    }
}

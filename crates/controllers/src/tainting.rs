//! Device taint rules over the mirrors: whom a change of one concerns, and what its status is made from.
//!
//! They are followed only where the feature gate DRADeviceTaintRules is on. Does not know when a pod has to go.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use client::{Change, Client, Mirror, Reflector};
use meta::{Value, object};
use reconcile::action::Action;
use reconcile::devicetaint::{self, Counts, TaintRule, plan_rule};
use reconcile::{Pod, action};
use tokio::sync::mpsc;

use crate::controller::Controller;
use crate::feed::resource_of;
use crate::plane::Plane;

/// Evicted pods that are remembered, about 80 bytes each, so that none is counted twice; more are forgotten together.
const COUNTED_MAX: usize = 65_536;

/// What is kept beside the rules themselves.
#[derive(Default)]
pub(crate) struct Tainting {
    rules: Mirror<()>,
    /// Pods evicted for the sake of a rule, by its uid.
    evicted: HashMap<Box<str>, u64>,
    counted: HashSet<Box<str>>,
}

pub(crate) type RuleChange = Change<TaintRule>;

/// Follows the rules. A server that does not know them has none.
pub(crate) fn follow(client: &Client) -> Option<mpsc::Receiver<RuleChange>> {
    let rules = resource_of(action::DEVICE_TAINT_RULES)?;
    let reflector = Reflector::new(client.clone(), rules).optional();
    Some(reflector.spawn(|object| TaintRule::from_object(&object)))
}

/// The next change of what is followed; never, where nothing is.
pub(crate) async fn next(rules: &mut Option<mpsc::Receiver<RuleChange>>) -> Option<RuleChange> {
    match rules {
        Some(rules) => rules.recv().await,
        None => std::future::pending().await,
    }
}

impl Plane {
    /// A rule came, changed or went.
    pub(crate) fn note_rule(&mut self, change: RuleChange, now: Instant) {
        let change = change.map(|key, rule| {
            let old = self.taints.note_rule(rule.clone());
            if let Some(old) = old.as_ref().filter(|old| old.uid != rule.uid) {
                self.tainting.evicted.remove(&old.uid);
            }
            if old.as_ref().is_none_or(|old| !old.says_the_same(&rule)) {
                self.wake_users(&rule, now);
            }
            self.add(Controller::DeviceTaintRule, key, now);
        });
        let gone = self.tainting.rules.take_name(change);
        for key in gone {
            if let Some(rule) = self.taints.forget_rule(&key) {
                self.tainting.evicted.remove(&rule.uid);
            }
        }
    }

    fn wake_users(&mut self, rule: &TaintRule, now: Instant) {
        for pod in self.cluster.users_of_rule(rule) {
            self.add(Controller::DeviceTaint, &pod, now);
        }
    }

    /// Pods go for the sake of rules: each is counted once.
    pub(crate) fn count_evicted(&mut self, pod: &Pod, actions: &[Action]) {
        let goes = actions
            .iter()
            .any(|one| matches!(one, Action::Delete { .. }));
        if !goes || self.tainting.counted.contains(&pod.uid) {
            return;
        }
        let claim = |name: &str| self.claim_named(&pod.namespace, name);
        let reasons = self.taints.reasons(pod, &claim);
        let uids: Vec<(Box<str>, Box<str>)> = reasons
            .iter()
            .map(|rule| (rule.uid.clone(), rule.name().into()))
            .collect();
        if uids.is_empty() {
            return;
        }
        if self.tainting.counted.len() >= COUNTED_MAX {
            self.tainting.counted.clear();
        }
        self.tainting.counted.insert(pod.uid.clone());
        let now = Instant::now();
        for (uid, name) in uids {
            *self.tainting.evicted.entry(uid).or_insert(0) += 1;
            self.add(Controller::DeviceTaintRule, &name, now);
        }
    }

    pub(crate) fn claim_named(&self, namespace: &str, name: &str) -> Option<&Value> {
        let key = format!("{namespace}/{name}");
        let found = self.cluster.whole(action::RESOURCE_CLAIMS, &key);
        found.map(|found| &**found)
    }

    pub(crate) fn plan_taint_rule(&self, key: &str, micros: i64) -> Option<Vec<Action>> {
        let rule = self.taints.rule(key)?;
        let count = || {
            let concerned = self.cluster.users_of_rule(rule).into_iter().filter(|key| {
                self.cluster.pod(key).is_some_and(|pod| {
                    rule.concerns(pod, &|name| self.claim_named(&pod.namespace, name))
                })
            });
            let pods: HashSet<String> = concerned.collect();
            let namespaces = pods.iter().filter_map(|key| key.split_once('/'));
            let namespaces: HashSet<&str> = namespaces.map(|(namespace, _)| namespace).collect();
            Counts {
                pods: pods.len(),
                namespaces: namespaces.len(),
                published: self.taints.published(rule),
                allocated: self.cluster.devices_of_rule(rule),
                evicted: self.tainting.evicted.get(&rule.uid).copied().unwrap_or(0),
            }
        };
        Some(plan_rule(rule, &count, micros))
    }
}

impl crate::cluster::Cluster {
    /// Pods that have a device a rule is for, by `namespace/name`; found by looking at all claims.
    fn users_of_rule(&self, rule: &TaintRule) -> Vec<String> {
        let using = self.claims().filter(|claim| rule.devices_of(claim) > 0);
        let users = using.flat_map(|claim| {
            let namespace = object::namespace(claim);
            devicetaint::users(claim).map(move |name| format!("{namespace}/{name}"))
        });
        users.collect()
    }

    fn devices_of_rule(&self, rule: &TaintRule) -> usize {
        self.claims().map(|claim| rule.devices_of(claim)).sum()
    }

    fn claims(&self) -> impl Iterator<Item = &Value> {
        let claims = self.with_prefix(action::RESOURCE_CLAIMS, String::new());
        claims.map(|(_, claim)| &**claim)
    }
}

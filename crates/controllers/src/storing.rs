//! Volumes: which keys an event concerns, and what planners see of the cluster.
//!
//! Claims that wait are woken by class, once a round, however many volumes have come. Pods without claims cost one look.
//! Does not know which volume fits whom.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meta::{Value, object};
use reconcile::action::PERSISTENT_VOLUME_CLAIMS as CLAIMS;
use reconcile::volume::{self, ClaimObserved, PERSISTENT_VOLUMES, STORAGE_CLASSES};
use reconcile::{Action, Pod};

use crate::cluster::{Event, Kept};
use crate::controller::Controller;
use crate::plane::Plane;

/// What is told of a claim or a volume is not told again before (k8s: claims that wait are looked at every 15 s).
const TOLD_AGAIN: Duration = Duration::from_secs(15);

impl Plane {
    /// A volume came, changed or went.
    pub(crate) fn wake_by_volume(&mut self, event: &Event, now: Instant) {
        let old = event.old.as_ref().and_then(Kept::whole).cloned();
        let new = self.cluster.whole(PERSISTENT_VOLUMES, &event.key).cloned();
        let claims = [&old, &new].map(|v| v.as_ref().and_then(|v| volume::claim_named(v)));
        let claims = claims.into_iter().flatten().map(|(claim, _)| claim.into());
        let naming = self.cluster.storage.naming_volume(&event.key);
        let claims: Vec<Box<str>> = claims.chain(naming).collect();
        for claim in claims {
            self.add(Controller::VolumeClaim, &claim, now);
        }
        self.add(Controller::Volume, &event.key, now);
        let Some(new) = new else { return };
        if volume::is_free(&new) {
            self.fresh_classes.insert(volume::class_of(&new).into());
        }
        if volume::plan_volume_protection(&new).is_some() {
            self.add(Controller::VolumeProtection, &event.key, now);
        }
        if self.config.simulated_provisioner && volume::plan_simulated_volume(&new).is_some() {
            self.add(Controller::Provisioner, &event.key, now);
        }
    }

    /// Tells claims that wait of volumes that have become free.
    pub(crate) fn offer_volumes(&mut self, now: Instant) {
        for class in std::mem::take(&mut self.fresh_classes) {
            let kept = self.cluster.whole(STORAGE_CLASSES, &class);
            // Of these the scheduler disposes.
            if kept.is_some_and(|class| volume::waits_for_first_consumer(class)) {
                continue;
            }
            self.wake_waiting(Some(&class), now);
            if class.is_empty() {
                self.wake_waiting(None, now);
            }
        }
    }

    fn wake_waiting(&mut self, class: Option<&str>, now: Instant) {
        for claim in self.cluster.storage.waiting_for(class) {
            self.add(Controller::VolumeClaim, &claim, now);
        }
    }

    /// A StorageClass came, changed or went.
    pub(crate) fn wake_by_class(&mut self, event: &Event, now: Instant) {
        self.wake_waiting(Some(&event.key), now);
        self.wake_waiting(None, now);
        if self.config.simulated_provisioner {
            for claim in self.cluster.storage.waiting_for(Some(&event.key)) {
                self.add(Controller::Provisioner, &claim, now);
            }
        }
    }

    /// A claim came, changed or went.
    pub(crate) fn wake_by_volume_claim(&mut self, event: &Event, now: Instant) {
        let old = event.old.as_ref().and_then(Kept::whole).cloned();
        let new = self.cluster.whole(CLAIMS, &event.key).cloned();
        let named = [&old, &new].map(|claim| claim.as_ref().map(|c| volume::volume_named(c)));
        let named = named.into_iter().flatten().filter(|name| !name.is_empty());
        let naming = self.cluster.storage.naming_claim(&event.key);
        let volumes: Vec<Box<str>> = named.map(Box::from).chain(naming).collect();
        for volume in volumes {
            self.add(Controller::Volume, &volume, now);
        }
        self.add(Controller::VolumeClaim, &event.key, now);
        let Some(new) = new else {
            self.wake_without_claim(old.as_deref(), &event.key, now);
            return;
        };
        if volume::plan_claim_protection(&new, false).is_some() {
            self.add(Controller::ClaimProtection, &event.key, now);
        }
        if self.config.simulated_provisioner && volume::volume_named(&new).is_empty() {
            self.add(Controller::Provisioner, &event.key, now);
        }
    }

    /// Pods whose claim is gone may get another one.
    fn wake_without_claim(&mut self, old: Option<&Value>, key: &str, now: Instant) {
        let owner = old.and_then(object::controller_of);
        if let Some(pod) = owner.filter(|owner| owner["kind"] == "Pod")
            && let (Some((namespace, _)), Some(name)) = (key.split_once('/'), pod["name"].as_str())
        {
            self.add(Controller::PodVolumes, &format!("{namespace}/{name}"), now);
        }
        for pod in self.cluster.pods().of_claim(key) {
            let owner = pod.controller_uid.as_deref();
            let owner = owner.and_then(|uid| self.cluster.owner(uid));
            if let Some((Controller::StatefulSet, set)) = owner {
                let set = set.to_owned();
                self.add(Controller::StatefulSet, &set, now);
            }
        }
    }

    /// A pod came, changed or went: its claims may be made, talked about, or let go.
    pub(crate) fn wake_volumes(
        &mut self,
        key: &str,
        old: Option<&Arc<Pod>>,
        new: Option<&Arc<Pod>>,
        now: Instant,
    ) {
        let has_volumes = |pod: Option<&Arc<Pod>>| pod.is_some_and(|pod| pod.volumes.is_some());
        if !has_volumes(old) && !has_volumes(new) {
            return;
        }
        let was_there = old.zip(new).is_some_and(|(old, new)| old.uid == new.uid);
        if let Some(new) = new.filter(|_| !was_there)
            && new
                .claim_volumes()
                .iter()
                .any(|volume| volume.template.is_some())
        {
            self.add(Controller::PodVolumes, key, now);
        }
        let is_placed = |pod: &Pod| !pod.node_name.is_empty();
        let is_shut_down = |pod: &Pod| pod.volumes.as_ref().is_some_and(|v| v.is_shut_down);
        let facts = |pod: Option<&Arc<Pod>>| pod.map(|pod| (is_placed(pod), is_shut_down(pod)));
        if was_there && facts(old) == facts(new) {
            return;
        }
        for pod in [old, new].into_iter().flatten() {
            for volume in pod.claim_volumes() {
                let key = format!("{}/{}", pod.namespace, volume.claim);
                let Some(kept) = self.cluster.get(CLAIMS, &key) else {
                    continue;
                };
                let (deleting, claim) = (kept.deleting, kept.whole());
                let bound = claim.is_none_or(|claim| volume::was_bound(claim));
                if deleting {
                    self.add(Controller::ClaimProtection, &key, now);
                } else if !bound {
                    self.add(Controller::VolumeClaim, &key, now);
                }
            }
        }
    }

    pub(crate) fn plan_volume_claim(&mut self, key: &str, now: Instant) -> Option<Vec<Action>> {
        let claim = self.cluster.whole(CLAIMS, key)?.clone();
        let cluster = &self.cluster;
        let find = |resource, name: &str| cluster.whole(resource, name).map(|found| &**found);
        let unnamed = volume::named_class(&claim).is_none();
        let bound = volume::was_bound(&claim);
        let pods = if bound {
            Vec::new()
        } else {
            cluster.pods().of_claim(key)
        };
        let placeless = pods.iter().filter(|pod| pod.node_name.is_empty());
        let mut waiting_pods: Vec<&str> = placeless.map(|pod| &*pod.name).collect();
        waiting_pods.sort_unstable();
        let observed = ClaimObserved {
            volume: &|name| find(PERSISTENT_VOLUMES, name),
            reserved: &cluster.volumes_for(key),
            free: &|wanted| Box::new(cluster.free_volumes(wanted)),
            class: &|name| find(STORAGE_CLASSES, name),
            default_class: if unnamed && !bound {
                cluster.default_class()
            } else {
                None
            },
            waiting_pods: &waiting_pods,
        };
        let actions = volume::plan_claim(&claim, &observed);
        let given = actions.iter().find_map(|action| match action {
            Action::Patch {
                resource: PERSISTENT_VOLUMES,
                name,
                subresource: None,
                ..
            } => self.cluster.whole(PERSISTENT_VOLUMES, name).cloned(),
            _ => None,
        });
        if let Some(given) = given {
            self.cluster.storage.give(key, &given);
        }
        Some(self.only_news(key, actions, now))
    }

    pub(crate) fn plan_volume(&mut self, key: &str, now: Instant) -> Option<Vec<Action>> {
        let volume = self.cluster.whole(PERSISTENT_VOLUMES, key)?;
        let claim = volume::claim_named(volume);
        let claim = claim.and_then(|(claim, _)| self.cluster.whole(CLAIMS, &claim));
        let actions = volume::plan_volume(volume, claim.map(|claim| &**claim));
        Some(self.only_news(key, actions, now))
    }

    /// Leaves out what was told a moment ago already.
    fn only_news(&mut self, key: &str, mut actions: Vec<Action>, now: Instant) -> Vec<Action> {
        let tells = |action: &Action| matches!(action, Action::Event { .. });
        let text: String = actions
            .iter()
            .filter(|a| tells(a))
            .map(ToString::to_string)
            .collect();
        if text.is_empty() {
            self.told.remove(key);
            return actions;
        }
        match self.told.get(key) {
            Some((told, when)) if *told == text && now < *when + TOLD_AGAIN => {
                actions.retain(|action| !tells(action));
            }
            _ => drop(self.told.insert(key.into(), (text, now))),
        }
        actions
    }

    pub(crate) fn plan_volume_protection(&self, key: &str) -> Option<Vec<Action>> {
        let volume = self.cluster.whole(PERSISTENT_VOLUMES, key)?;
        Some(volume::plan_volume_protection(volume).into_iter().collect())
    }

    pub(crate) fn plan_claim_protection(&self, key: &str) -> Option<Vec<Action>> {
        let claim = self.cluster.whole(CLAIMS, key)?;
        let owner = crate::cluster::controller_uid(claim);
        let holds = |pod: &Arc<Pod>| {
            let is_own = owner == Some(&*pod.uid);
            pod.holds_claim(object::name(claim), is_own)
        };
        let in_use = self.cluster.pods().of_claim(key).iter().any(holds);
        let action = volume::plan_claim_protection(claim, in_use);
        Some(action.into_iter().collect())
    }

    pub(crate) fn plan_pod_volumes(&self, key: &str) -> Option<Vec<Action>> {
        let pod = self.cluster.pod(key)?;
        let claim = |name: &str| {
            let key = format!("{}/{name}", pod.namespace);
            self.cluster.whole(CLAIMS, &key).map(|claim| &**claim)
        };
        Some(volume::plan_pod(pod, &claim))
    }

    pub(crate) fn plan_provisioner(&self, key: &str) -> Option<Vec<Action>> {
        if !key.contains('/') {
            let volume = self.cluster.whole(PERSISTENT_VOLUMES, key)?;
            return Some(volume::plan_simulated_volume(volume).into_iter().collect());
        }
        let claim = self.cluster.whole(CLAIMS, key)?;
        let class = self.cluster.whole(STORAGE_CLASSES, volume::class_of(claim));
        let exists = |name: &str| self.cluster.get(PERSISTENT_VOLUMES, name).is_some();
        let class = class.map(|class| &**class);
        Some(volume::plan_simulated_claim(claim, class, &exists))
    }
}

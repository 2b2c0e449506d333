//! Pods that wait for a node: what it takes to name them in a request, their class, and what is still to be
//! written into their status.
//!
//! Does not know how it is written.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use placement::{ClassId, PodInfo, PodKey};

/// A pod's place in the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) uid: Box<str>,
    /// The profile's name, under which things are told about the pod.
    pub(crate) scheduler: Arc<str>,
}

/// Something to be written into a pod's status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Telling {
    /// Why it has no node, with the reason of the condition.
    pub(crate) message: Option<(&'static str, Box<str>)>,
    /// The node it has in view from now on; the inner `None` for none.
    pub(crate) nominated: Option<Option<Box<str>>>,
}

impl Telling {
    fn is_empty(&self) -> bool {
        self.message.is_none() && self.nominated.is_none()
    }
}

/// One waiting pod.
#[derive(Debug)]
pub(crate) struct Waiting {
    namespace: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    scheduler: Arc<str>,
    /// Number of the profile.
    pub(crate) profile: u16,
    /// The one node it may go to, if it says so.
    pub(crate) pin: Option<Box<str>>,
    /// Fields it uses that placement does not know.
    pub(crate) not_considered: Vec<&'static str>,
    class: ClassId,
    /// The node its status had in view when it was last seen, or was told to.
    nominated: Option<Box<str>>,
    /// Hash of the last message in its status, so that the same is not written twice.
    message: u64,
    untold: Telling,
}

impl Waiting {
    pub(crate) fn class(&self) -> ClassId {
        self.class
    }

    pub(crate) fn address(&self) -> Address {
        Address {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            scheduler: self.scheduler.clone(),
        }
    }
}

/// What a pod was when it was seen last.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) class: ClassId,
    /// Somebody gave it another node in view, or took that away.
    pub(crate) nomination_changed: bool,
}

/// All waiting pods. Bounded by the queue, which refuses more than its limit.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pods: HashMap<PodKey, Waiting>,
    /// Pods with something untold, in order; some may have nothing left to tell, or be gone.
    untold: VecDeque<PodKey>,
    claimants: Claimants,
}

/// Pods with claims, found by claim, and what is known of them.
#[derive(Debug, Default)]
struct Claimants {
    infos: HashMap<PodKey, Arc<PodInfo>>,
    /// By `namespace/name` of the claim.
    by_claim: HashMap<Box<str>, Vec<PodKey>>,
}

impl Claimants {
    fn note(&mut self, pod: PodKey, info: &PodInfo) {
        if info.claims.is_empty() {
            return;
        }
        if self.infos.insert(pod, Arc::new(info.clone())).is_none() {
            // The claims of a pod do not change.
            for (claim, _) in &info.claims {
                let claim = format!("{}/{claim}", info.namespace).into();
                self.by_claim.entry(claim).or_default().push(pod);
            }
        }
    }

    fn forget(&mut self, pod: PodKey) {
        let Some(info) = self.infos.remove(&pod) else {
            return;
        };
        for (claim, _) in &info.claims {
            let claim: Box<str> = format!("{}/{claim}", info.namespace).into();
            if let Some(pods) = self.by_claim.get_mut(&claim) {
                pods.retain(|other| *other != pod);
                if pods.is_empty() {
                    self.by_claim.remove(&claim);
                }
            }
        }
    }
}

impl Pending {
    /// Notes a pod; says what it was before.
    pub(crate) fn insert(
        &mut self,
        pod: PodKey,
        info: &PodInfo,
        class: ClassId,
        scheduler: &Arc<str>,
    ) -> Option<Before> {
        self.claimants.note(pod, info);
        let old = self.pods.get_mut(&pod);
        // What is still to be told is newer than what its status shows.
        let ours = old
            .as_ref()
            .is_some_and(|old| old.untold.nominated.is_some());
        let (message, untold, known) = old.map_or_else(Default::default, |old| {
            (
                old.message,
                std::mem::take(&mut old.untold),
                old.nominated.take(),
            )
        });
        let nomination_changed = !ours && known != info.nominated;
        let waiting = Waiting {
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            uid: info.uid.clone(),
            scheduler: scheduler.clone(),
            profile: info.spec.profile,
            pin: info.pin.clone(),
            not_considered: info.not_considered.clone(),
            class,
            nominated: if ours { known } else { info.nominated.clone() },
            message,
            untold,
        };
        self.pods.insert(pod, waiting).map(|old| Before {
            class: old.class,
            nomination_changed,
        })
    }

    pub(crate) fn get(&self, pod: PodKey) -> Option<&Waiting> {
        self.pods.get(&pod)
    }

    /// Pods with that claim.
    pub(crate) fn with_claim(&self, claim: &str) -> Vec<PodKey> {
        self.claimants
            .by_claim
            .get(claim)
            .cloned()
            .unwrap_or_default()
    }

    /// Pods with claims.
    pub(crate) fn with_claims(&self) -> Vec<PodKey> {
        self.claimants.infos.keys().copied().collect()
    }

    /// What is known of a pod with claims.
    pub(crate) fn info(&self, pod: PodKey) -> Option<Arc<PodInfo>> {
        self.claimants.infos.get(&pod).cloned()
    }

    /// Forgets a pod; gives the class it had.
    pub(crate) fn remove(&mut self, pod: PodKey) -> Option<ClassId> {
        self.claimants.forget(pod);
        self.pods.remove(&pod).map(|old| old.class)
    }

    /// Notes what a pod's status is to say; false if it says so already.
    pub(crate) fn note_message(&mut self, pod: PodKey, message: &str) -> bool {
        self.note_reason(pod, "Unschedulable", message)
    }

    /// The same under another reason.
    pub(crate) fn note_reason(&mut self, pod: PodKey, reason: &'static str, message: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        (reason, message).hash(&mut hasher);
        let hash = hasher.finish();
        let Some(waiting) = self
            .pods
            .get_mut(&pod)
            .filter(|waiting| waiting.message != hash)
        else {
            return false;
        };
        waiting.message = hash;
        if waiting.untold.is_empty() {
            self.untold.push_back(pod);
        }
        waiting.untold.message = Some((reason, message.into()));
        true
    }

    /// Notes which node a pod's status is to have in view.
    pub(crate) fn note_nomination(&mut self, pod: PodKey, node: Option<&str>) {
        let Some(waiting) = self
            .pods
            .get_mut(&pod)
            .filter(|waiting| waiting.nominated.as_deref() != node)
        else {
            return;
        };
        if waiting.untold.is_empty() {
            self.untold.push_back(pod);
        }
        waiting.nominated = node.map(Into::into);
        waiting.untold.nominated = Some(node.map(Into::into));
    }

    /// Whether some status is still to be written.
    pub(crate) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Hands what is untold to `tell`, in order, until that has no room.
    pub(crate) fn tell(&mut self, mut tell: impl FnMut(Address, Telling) -> bool) {
        while let Some(pod) = self.untold.front() {
            if let Some(waiting) = self.pods.get_mut(pod)
                && !waiting.untold.is_empty()
            {
                if !tell(waiting.address(), waiting.untold.clone()) {
                    return;
                }
                waiting.untold = Telling::default();
            }
            self.untold.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use placement::{Cluster, Config};

    fn info(nominated: Option<&str>) -> PodInfo {
        PodInfo {
            namespace: "n".into(),
            name: "p".into(),
            uid: "u".into(),
            nominated: nominated.map(Into::into),
            ..PodInfo::default()
        }
    }

    #[test]
    fn what_is_still_to_be_told_is_newer_than_what_is_seen() {
        let mut cluster = Cluster::new(Config::default());
        let class = cluster.class_of(&info(None).spec);
        let (mut pending, pod) = (Pending::default(), PodKey::of("u"));
        assert_eq!(pending.insert(pod, &info(None), class, &"s".into()), None);
        pending.note_nomination(pod, Some("n1"));
        assert!(pending.note_message(pod, "no room"));
        assert!(!pending.note_message(pod, "no room"));
        // An older state of the pod does not take the nomination back.
        let seen = |nomination_changed| {
            Some(Before {
                class,
                nomination_changed,
            })
        };
        assert_eq!(
            pending.insert(pod, &info(None), class, &"s".into()),
            seen(false)
        );
        let mut told = Vec::new();
        pending.tell(|address, telling| {
            told.push((address.name, telling));
            true
        });
        let expected = Telling {
            message: Some(("Unschedulable", "no room".into())),
            nominated: Some(Some("n1".into())),
        };
        assert_eq!(told, [("p".into(), expected)]);
        assert!(!pending.has_untold());
        // Our own write comes back; then somebody else's.
        assert_eq!(
            pending.insert(pod, &info(Some("n1")), class, &"s".into()),
            seen(false)
        );
        assert_eq!(
            pending.insert(pod, &info(None), class, &"s".into()),
            seen(true)
        );
    }

    #[test]
    fn who_has_no_room_is_told_later() {
        let mut cluster = Cluster::new(Config::default());
        let class = cluster.class_of(&info(None).spec);
        let (mut pending, pod) = (Pending::default(), PodKey::of("u"));
        pending.insert(pod, &info(Some("n1")), class, &"s".into());
        pending.note_nomination(pod, Some("n1"));
        assert!(!pending.has_untold());
        pending.note_nomination(pod, None);
        pending.tell(|_, _| false);
        assert!(pending.has_untold());
        pending.tell(|_, telling| {
            assert_eq!(telling.nominated, Some(None));
            true
        });
        assert!(!pending.has_untold());
    }
}

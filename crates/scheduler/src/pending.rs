//! Pods that wait for a node: what it takes to name them in a request, and their class.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash as _, Hasher as _};

use placement::{ClassId, PodInfo, PodKey};

/// A pod's place in the API.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) uid: Box<str>,
}

/// One waiting pod.
#[derive(Debug)]
pub(crate) struct Waiting {
    namespace: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    /// The one node it may go to, if it says so.
    pub(crate) pin: Option<Box<str>>,
    /// Fields it uses that placement does not know.
    pub(crate) not_considered: Vec<&'static str>,
    class: ClassId,
    /// Hash of the last message in its status, so that the same is not written twice.
    message: u64,
    /// A message that is still to be written there.
    untold: Option<Box<str>>,
}

impl Waiting {
    pub(crate) fn address(&self) -> Address {
        Address {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
        }
    }
}

/// All waiting pods. Bounded by the queue, which refuses more than its limit.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pods: HashMap<PodKey, Waiting>,
    /// Pods with something untold, in order; some may have nothing left to tell, or be gone.
    untold: VecDeque<PodKey>,
}

impl Pending {
    /// Notes a pod; gives the class it had before.
    pub(crate) fn insert(
        &mut self,
        pod: PodKey,
        info: &PodInfo,
        class: ClassId,
    ) -> Option<ClassId> {
        let old = self.pods.get_mut(&pod);
        let (message, untold) = old.map_or((0, None), |old| (old.message, old.untold.take()));
        let waiting = Waiting {
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            uid: info.uid.clone(),
            pin: info.pin.clone(),
            not_considered: info.not_considered.clone(),
            class,
            message,
            untold,
        };
        self.pods.insert(pod, waiting).map(|old| old.class)
    }

    pub(crate) fn get(&self, pod: PodKey) -> Option<&Waiting> {
        self.pods.get(&pod)
    }

    /// Forgets a pod; gives the class it had.
    pub(crate) fn remove(&mut self, pod: PodKey) -> Option<ClassId> {
        self.pods.remove(&pod).map(|old| old.class)
    }

    /// Notes what a pod's status is to say; false if it says so already.
    pub(crate) fn note_message(&mut self, pod: PodKey, message: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        let hash = hasher.finish();
        let Some(waiting) = self
            .pods
            .get_mut(&pod)
            .filter(|waiting| waiting.message != hash)
        else {
            return false;
        };
        waiting.message = hash;
        if waiting.untold.replace(message.into()).is_none() {
            self.untold.push_back(pod);
        }
        true
    }

    /// Whether some status is still to be written.
    pub(crate) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Hands what is untold to `tell`, in order, until that has no room.
    pub(crate) fn tell(&mut self, mut tell: impl FnMut(Address, String) -> bool) {
        while let Some(pod) = self.untold.front() {
            if let Some(waiting) = self.pods.get_mut(pod)
                && let Some(message) = &waiting.untold
            {
                if !tell(waiting.address(), message.to_string()) {
                    return;
                }
                waiting.untold = None;
            }
            self.untold.pop_front();
        }
    }
}

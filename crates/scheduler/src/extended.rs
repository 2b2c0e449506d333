//! Extended resources of pods that devices stand for (KEP-5004): which of them, and the claim that a pod needs on a
//! node.
//!
//! ```text
//!   node offers the resource ───► as ever: the device plugin's
//!   node offers none of it ─────► devices for a claim that is not there yet ─► in flight ─► made, written, bound
//!   such a claim is there still ► from a try that failed: no node, until it is deleted
//! ```
//!
//! Does not know how requests are made.

use std::collections::HashMap;
use std::hash::{Hash as _, Hasher};
use std::sync::Arc;

use devices::{Ask, Claim, Substitute, substitute};
use meta::Value;
use placement::{Asked, ExtendedAsk, PodInfo, PodKey};
use value::json;

use crate::devices::{Devices, Kept, Wanted};

/// Marks claims that the scheduler made for extended resources.
pub(crate) const ANNOTATION: &str = "resource.kubernetes.io/extended-resource-claim";
/// The name of a claim that is not there yet: none that an object could have (k8s).
const NOT_THERE: &str = "<extended-resources>";
/// What is said of nodes as long as such a claim is left from an earlier try.
pub(crate) const LEFT: &str = "cannot schedule extended resource claim";

/// Waiting pods by what they ask for, and claims that were made for pods.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pods: HashMap<Box<str>, Vec<PodKey>>,
    /// Keys of claims, by uid of their pod.
    claims: HashMap<Box<str>, Box<str>>,
}

impl Index {
    pub(crate) fn enter(&mut self, pod: PodKey, info: &PodInfo) {
        for ask in &info.extended {
            let pods = self.pods.entry(ask.resource.clone()).or_default();
            if !pods.contains(&pod) {
                pods.push(pod);
            }
        }
    }

    pub(crate) fn leave(&mut self, pod: PodKey, info: &PodInfo) {
        for ask in &info.extended {
            if let Some(pods) = self.pods.get_mut(&ask.resource) {
                pods.retain(|other| *other != pod);
                if pods.is_empty() {
                    self.pods.remove(&ask.resource);
                }
            }
        }
    }

    /// Pods that ask for any of these.
    pub(crate) fn asking(&self, resources: &[Box<str>]) -> Vec<PodKey> {
        let pods = resources.iter().filter_map(|name| self.pods.get(name));
        pods.flatten().copied().collect()
    }

    /// A claim came, changed or, with `there` false, went. Gives the pod it was made for.
    pub(crate) fn note_claim(&mut self, key: &str, kept: &Kept, there: bool) -> Option<PodKey> {
        if !kept.special || kept.owner.is_empty() {
            return None;
        }
        if there {
            self.claims.insert(kept.owner.clone(), key.into());
        } else if self.claims.get(&kept.owner).is_some_and(|k| **k == *key) {
            self.claims.remove(&kept.owner);
        }
        Some(PodKey::of(&kept.owner))
    }
}

/// A pod's extended resources that devices stand for.
#[derive(Debug, Clone)]
pub(crate) struct Backed {
    info: Arc<PodInfo>,
    /// Their names, sorted,
    pub(crate) resources: Vec<Box<str>>,
    /// and the class of each.
    classes: Vec<Box<str>>,
    /// A claim that is left from an earlier try.
    pub(crate) left: Option<Wanted>,
}

impl Devices {
    /// Those of a pod; `None` if there are none.
    pub(crate) fn backed(&self, info: &Arc<PodInfo>) -> Option<Backed> {
        let mut resources: Vec<&Box<str>> = info.extended.iter().map(|ask| &ask.resource).collect();
        resources.sort_unstable();
        resources.dedup();
        let backed = resources.into_iter().filter_map(|name| {
            let class = self.inventory.class_for(name)?;
            Some((name.clone(), Box::from(class)))
        });
        let (resources, classes): (Vec<_>, Vec<_>) = backed.unzip();
        (!resources.is_empty()).then(|| Backed {
            left: self.left(info),
            info: info.clone(),
            resources,
            classes,
        })
    }

    /// Those of a waiting pod.
    pub(crate) fn backed_of(&self, pod: PodKey) -> Option<Backed> {
        self.backed(&self.info(pod)?)
    }

    fn left(&self, info: &PodInfo) -> Option<Wanted> {
        let key = self.extended.claims.get(&info.uid)?;
        // Anybody may name a pod as the owner of what is his; that is no claim of the pod's.
        let (namespace, _) = key.split_once('/')?;
        if *namespace != *info.namespace {
            return None;
        }
        let kept = self.claim(key)?;
        Some(Wanted {
            key: key.clone(),
            uid: kept.uid.clone(),
            claim: kept.claim.clone(),
            open: !kept.allocated,
            used: true,
        })
    }
}

impl Backed {
    /// Tells pods apart that need different devices.
    pub(crate) fn hash(&self, hasher: &mut impl Hasher) {
        self.classes.hash(hasher);
        self.info.extended.hash(hasher);
        self.left.is_some().hash(hasher);
    }

    pub(crate) fn variants(self) -> Variants {
        Variants {
            backed: self,
            made: Vec::new(),
        }
    }

    fn make(&self, lacking: &[bool]) -> Variant {
        let classes = self.resources.iter().zip(&self.classes).zip(lacking);
        let classes: Vec<(&str, &Box<str>)> = classes
            .filter(|(_, lacks)| **lacks)
            .map(|((resource, class), _)| (&**resource, class))
            .collect();
        let class_of = |resource: &str| {
            let known = classes.iter().find(|(name, _)| *name == resource);
            known.map(|(_, class)| (*class).clone())
        };
        let asks: Vec<Ask<'_>> = self.info.extended.iter().map(ask).collect();
        let instead = substitute(&asks, &class_of);
        let namespace = &self.info.namespace;
        let claim = Claim::read(&json!({
            "metadata": {"namespace": namespace, "name": NOT_THERE}, "spec": instead.spec}));
        Variant {
            wanted: Wanted {
                key: claim.key().into(),
                // No claim has such a uid.
                uid: format!("{NOT_THERE}/{}", self.info.uid).into(),
                claim: Arc::new(claim),
                open: true,
                used: false,
            },
            instead,
        }
    }
}

fn ask(ask: &ExtendedAsk) -> Ask<'_> {
    Ask {
        container: ask.container,
        name: &ask.name,
        ends: ask.ends,
        place: ask.place,
        resource: &ask.resource,
        count: ask.count,
    }
}

/// The claim that a pod needs on some nodes.
#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) wanted: Wanted,
    pub(crate) instead: Substitute,
}

/// The claims of one pod, one for each set of resources that nodes lack.
#[derive(Debug)]
pub(crate) struct Variants {
    backed: Backed,
    made: Vec<(Vec<bool>, Arc<Variant>)>,
}

impl Variants {
    /// That for a node; `None` where it offers all of the resources.
    pub(crate) fn on(&mut self, node: &Asked<'_>) -> Option<Arc<Variant>> {
        let resources = self.backed.resources.iter();
        let lacking: Vec<bool> = resources.map(|name| node.offers(name) <= 0).collect();
        if !lacking.contains(&true) {
            return None;
        }
        if let Some((_, known)) = self.made.iter().find(|(set, _)| *set == lacking) {
            return Some(known.clone());
        }
        let variant = Arc::new(self.backed.make(&lacking));
        self.made.push((lacking, variant.clone()));
        Some(variant)
    }
}

impl Variant {
    /// The claim as it is made for a pod.
    pub(crate) fn object(&self, namespace: &str, pod: &str, uid: &str) -> Value {
        json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
            "metadata": {
                "namespace": namespace,
                "generateName": format!("{pod}-extended-resources-"),
                "annotations": {ANNOTATION: "true"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid, "controller": true}],
            },
            "spec": self.instead.spec,
        })
    }
}

/// Whether a claim was made for extended resources.
pub(crate) fn is_special(claim: &Value) -> bool {
    claim["metadata"]["annotations"][ANNOTATION] == "true"
}

/// Whether that is the key of a claim that is not there yet.
pub(crate) fn is_not_there(key: &str) -> bool {
    key.ends_with(NOT_THERE)
}

/// Whether a claim was made, and has devices, among those that were written.
pub(crate) fn has_devices(written: &[(Box<str>, Kept)]) -> bool {
    let mut special = written.iter().filter(|(_, kept)| kept.special);
    special.any(|(_, kept)| !kept.taken.is_empty())
}

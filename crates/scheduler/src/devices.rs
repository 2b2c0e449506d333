//! Resource claims, slices and device classes, as far as they decide where a pod can go; and what that comes to for a
//! pod.
//!
//! ```text
//!   claim allocated ──────► where its devices can be used: rules like any other
//!   claim to be allocated ► which node has the devices is asked node by node (`claiming.rs`)
//!   claim not there ──────► the pod waits
//! ```
//!
//! Claims that are made for extended resources are in `extended.rs`.
//!
//! An allocation counts from the moment a node is chosen for it: it is *in flight* until it is written, or given up.
//! Does not know nodes, and makes no requests.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use devices::{Binding, Claim, Class, Inventory, Slice, Taken};
use meta::Value;
use placement::queue::Event;
use placement::{PodInfo, PodKey, Term};

use crate::extended::{self, Index};

/// Longest wait for a device's driver, in microseconds (k8s: `bindingTimeout`, 600 s).
pub(crate) const BINDING_WAIT_MICROS: i64 = 600_000_000;

/// Which kind of them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Claims,
    Slices,
    Classes,
}

/// A claim, slice or class that came or changed.
#[derive(Debug)]
pub(crate) enum Thing {
    Claim(Box<Kept>),
    Slice(Box<Slice>),
    Class(Box<Class>),
}

/// What is kept of a claim.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) uid: Box<str>,
    version: u64,
    deleting: bool,
    /// Uid of the pod that it was made for.
    pub(crate) owner: Box<str>,
    /// It was made by a scheduler, for extended resources.
    pub(crate) special: bool,
    pub(crate) claim: Arc<Claim>,
    /// Tells apart what claims ask for.
    ask: u64,
    pub(crate) allocated: bool,
    /// Where its devices can be used; `None` for everywhere.
    terms: Option<Vec<Term>>,
    pub(crate) taken: Vec<Taken>,
    binding: Binding,
    /// When it was allocated, in microseconds.
    since_micros: i64,
    /// Uids of its users.
    users: Vec<Box<str>>,
}

/// Whom a change concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Concerned {
    /// Pods to look at again.
    pub(crate) pods: Vec<PodKey>,
    /// What others may wait for.
    pub(crate) event: Option<Event>,
}

/// What a pod's claims come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) devices: placement::Devices,
    /// A claim is still to be made for it: it is not tried before.
    pub(crate) gated: bool,
}

/// Why a pod's claims cannot be looked at.
#[derive(Debug, PartialEq, Eq)]
enum Lack {
    /// One is still to be made.
    NotMade,
    Obstacle(String),
}

/// A claim of a pod that is being placed.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// `namespace/name`.
    pub(crate) key: Box<str>,
    pub(crate) uid: Box<str>,
    pub(crate) claim: Arc<Claim>,
    /// It still has to be allocated.
    pub(crate) open: bool,
    /// The pod is among its users already.
    pub(crate) used: bool,
}

/// Key and uid of a claim whose allocation is being written.
type Flight = (Box<str>, Box<str>);

/// A claim of a pod: its key, and whether it was made for the pod alone.
type OfPod<'a> = (Box<str>, bool, &'a Kept);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(crate) inventory: Inventory,
    claims: HashMap<Box<str>, Kept>,
    /// Devices of claims, by uid, as far as they are counted.
    counted: HashMap<Box<str>, Vec<Taken>>,
    /// Uids of claims whose allocation is being written.
    flights: HashSet<Box<str>>,
    /// The same by the pod for which it is, with their keys.
    flying: HashMap<PodKey, Vec<Flight>>,
    /// What is known of extended resources.
    pub(crate) extended: Index,
    /// Waiting pods with claims, or with extended resources, and which claims.
    pods: HashMap<PodKey, (Arc<PodInfo>, Vec<Box<str>>)>,
    by_claim: HashMap<Box<str>, Vec<PodKey>>,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl Thing {
    pub(crate) fn read(kind: Kind, object: &Value) -> Thing {
        match kind {
            Kind::Claims => Thing::Claim(Box::new(Kept::read(object))),
            Kind::Slices => Thing::Slice(Box::new(Slice::read(object))),
            Kind::Classes => Thing::Class(Box::new(Class::read(object))),
        }
    }
}

impl Kept {
    pub(crate) fn read(object: &Value) -> Kept {
        let (metadata, status) = (&object["metadata"], &object["status"]);
        let allocation = &status["allocation"];
        let owners = metadata["ownerReferences"].as_array();
        let mut owners = owners.into_iter().flatten();
        let controller = owners.find(|owner| owner["controller"] == true);
        let users = status["reservedFor"].as_array().into_iter().flatten();
        // The same form as that of a pod's node affinity, under another name.
        let required = &allocation["nodeSelector"];
        let affinity = value::json!({"requiredDuringSchedulingIgnoredDuringExecution": required});
        let mut ask = DefaultHasher::new();
        object["spec"].to_string().hash(&mut ask);
        Kept {
            uid: text(&metadata["uid"]).into(),
            version: text(&metadata["resourceVersion"]).parse().unwrap_or(0),
            deleting: !metadata["deletionTimestamp"].is_null(),
            owner: controller.map_or("", |owner| text(&owner["uid"])).into(),
            special: extended::is_special(object),
            claim: Arc::new(Claim::read(object)),
            ask: ask.finish(),
            allocated: allocation.is_object(),
            terms: required
                .is_object()
                .then(|| placement::required_terms(&affinity).unwrap_or_default()),
            taken: devices::taken(allocation),
            binding: devices::binding(status),
            since_micros: meta::time::parse(text(&allocation["allocationTimestamp"])).unwrap_or(0),
            users: users.map(|user| text(&user["uid"]).into()).collect(),
        }
    }

    /// Its devices did not become usable.
    fn is_stuck(&self, now_micros: i64) -> bool {
        match self.binding {
            Binding::Ready => false,
            Binding::Waits => {
                self.since_micros != 0
                    && now_micros.saturating_sub(self.since_micros) > BINDING_WAIT_MICROS
            }
            Binding::Failed(_) => true,
        }
    }
}

impl Devices {
    /// Takes in one that came or changed.
    pub(crate) fn note(&mut self, key: &str, thing: Thing) -> Concerned {
        let mut pods = Vec::new();
        let event = match thing {
            Thing::Claim(kept) => return self.note_claim(key, *kept),
            Thing::Slice(slice) => {
                self.inventory.note_slice(*slice);
                Event::ResourceSlice
            }
            Thing::Class(class) => {
                let resources = self.inventory.note_class(key, *class);
                pods = self.extended.asking(&resources);
                Event::DeviceClass
            }
        };
        Concerned {
            pods,
            event: Some(event),
        }
    }

    /// One is gone.
    pub(crate) fn forget(&mut self, kind: Kind, key: &str) -> Concerned {
        match kind {
            Kind::Slices => self.inventory.forget_slice(key),
            Kind::Classes => {
                let resources = self.inventory.forget_class(key);
                return Concerned {
                    pods: self.extended.asking(&resources),
                    event: None,
                };
            }
            Kind::Claims => {
                let Some(old) = self.claims.remove(key) else {
                    return Concerned::default();
                };
                self.count(&old.uid, Vec::new());
                let owner = self.extended.note_claim(key, &old, false);
                return Concerned {
                    pods: self.using(key).into_iter().chain(owner).collect(),
                    event: old.allocated.then_some(Event::ResourceClaim),
                };
            }
        }
        Concerned::default()
    }

    fn note_claim(&mut self, key: &str, kept: Kept) -> Concerned {
        let old = self.claims.get(key);
        let same = old.filter(|old| old.uid == kept.uid);
        // What we wrote ourselves is known before it is heard of.
        if same.is_some_and(|old| old.version > kept.version) {
            return Concerned::default();
        }
        let freed = old.is_some_and(|old| old.allocated) && (same.is_none() || !kept.allocated);
        // With fewer users it may be given back for one of those that wait.
        let left = same.is_some_and(|old| kept.users.len() < old.users.len())
            && self.by_claim.contains_key(key);
        let replaced = old.filter(|_| same.is_none()).map(|old| old.uid.clone());
        if let Some(uid) = replaced {
            self.count(&uid, Vec::new());
        }
        if !self.flights.contains(&kept.uid) {
            self.count(&kept.uid.clone(), kept.taken.clone());
        }
        let owner = self.extended.note_claim(key, &kept, true);
        self.claims.insert(key.into(), kept);
        Concerned {
            pods: self.using(key).into_iter().chain(owner).collect(),
            event: (freed || left).then_some(Event::ResourceClaim),
        }
    }

    /// From now on the claim has these devices.
    fn count(&mut self, uid: &str, taken: Vec<Taken>) {
        if let Some(before) = self.counted.remove(uid) {
            if before == taken {
                self.counted.insert(uid.into(), before);
                return;
            }
            self.inventory.give_back(&before);
        }
        if !taken.is_empty() {
            self.inventory.take(&taken);
            self.counted.insert(uid.into(), taken);
        }
    }

    fn using(&self, key: &str) -> Vec<PodKey> {
        self.by_claim.get(key).cloned().unwrap_or_default()
    }

    // ---- pods

    /// Notes a waiting pod, if it has claims, or asks for extended resources.
    pub(crate) fn note_pod(&mut self, pod: PodKey, info: &PodInfo) {
        if info.resource_claims.is_empty() && info.extended.is_empty() {
            return;
        }
        self.forget_pod(pod);
        let claims = info.resource_claims.iter();
        let claims = claims.filter_map(|one| one.claim.as_deref().filter(|c| !c.is_empty()));
        let keys: Vec<Box<str>> = claims
            .map(|claim| format!("{}/{claim}", info.namespace).into())
            .collect();
        for key in &keys {
            self.by_claim.entry(key.clone()).or_default().push(pod);
        }
        self.extended.enter(pod, info);
        self.pods.insert(pod, (Arc::new(info.clone()), keys));
    }

    /// It waits no longer.
    pub(crate) fn forget_pod(&mut self, pod: PodKey) {
        let Some((info, keys)) = self.pods.remove(&pod) else {
            return;
        };
        self.extended.leave(pod, &info);
        for key in keys {
            if let Some(pods) = self.by_claim.get_mut(&key) {
                pods.retain(|other| *other != pod);
                if pods.is_empty() {
                    self.by_claim.remove(&key);
                }
            }
        }
    }

    /// What is kept of a claim.
    pub(crate) fn claim(&self, key: &str) -> Option<&Kept> {
        self.claims.get(key)
    }

    /// What is known of a waiting pod with claims, or extended resources.
    pub(crate) fn info(&self, pod: PodKey) -> Option<Arc<PodInfo>> {
        self.pods.get(&pod).map(|(info, _)| info.clone())
    }

    fn claims_of(&self, pod: &PodInfo) -> Result<Vec<OfPod<'_>>, Lack> {
        let mut found = Vec::new();
        for one in &pod.resource_claims {
            let Some(name) = one.claim.as_deref() else {
                return Err(Lack::NotMade);
            };
            if name.is_empty() {
                continue;
            }
            let key: Box<str> = format!("{}/{name}", pod.namespace).into();
            let kept = match self.claims.get(&key) {
                Some(kept) => kept,
                None if one.made => return Err(Lack::NotMade),
                None => {
                    let why = format!("resourceclaim.resource.k8s.io \"{name}\" not found");
                    return Err(Lack::Obstacle(why));
                }
            };
            if kept.deleting {
                let why = format!("resourceclaim \"{name}\" is being deleted");
                return Err(Lack::Obstacle(why));
            }
            if one.made && kept.owner != pod.uid {
                return Err(Lack::Obstacle(format!(
                    "ResourceClaim {key} was not created for Pod {}/{} (Pod is not owner)",
                    pod.namespace, pod.name
                )));
            }
            found.push((key, one.made, kept));
        }
        Ok(found)
    }

    /// What a pod's claims come to now.
    pub(crate) fn outcome(&self, pod: &Arc<PodInfo>, now_micros: i64) -> Outcome {
        let mut outcome = Outcome::default();
        let claims = match self.claims_of(pod) {
            Ok(claims) => claims,
            Err(Lack::NotMade) => {
                outcome.gated = true;
                return outcome;
            }
            Err(Lack::Obstacle(why)) => {
                outcome.devices.obstacle = Some(why.into());
                return outcome;
            }
        };
        let mut ask = DefaultHasher::new();
        for (key, made, kept) in &claims {
            if kept.allocated {
                if kept.is_stuck(now_micros) {
                    outcome.devices.rules.push(Vec::new());
                }
                outcome.devices.rules.extend(kept.terms.clone());
            } else {
                kept.ask.hash(&mut ask);
                // One that is shared may be allocated any moment.
                (!made).then_some(key).hash(&mut ask);
                outcome.devices.ask = ask.finish();
            }
        }
        if let Some(backed) = self.backed(pod) {
            backed.hash(&mut ask);
            outcome.devices.ask = ask.finish();
            outcome.devices.delegated = backed.resources;
        }
        outcome
    }

    /// The claims of a pod that is to be placed; `None` when it has none. A text says why it cannot be tried now.
    pub(crate) fn wanted(&self, pod: PodKey) -> Option<Result<Vec<Wanted>, String>> {
        let (info, _) = self.pods.get(&pod)?;
        if info.resource_claims.is_empty() {
            return None;
        }
        let claims = match self.claims_of(info) {
            Ok(claims) => claims,
            // That is told of the pod's class already.
            Err(_) => return None,
        };
        let mut wanted = Vec::new();
        for (key, _, kept) in claims {
            if !kept.allocated
                && let Some(why) = self.cannot_allocate(&key, kept)
            {
                return Some(Err(why));
            }
            wanted.push(Wanted {
                key,
                uid: kept.uid.clone(),
                claim: kept.claim.clone(),
                open: !kept.allocated,
                used: kept.users.contains(&info.uid),
            });
        }
        Some(Ok(wanted))
    }

    fn cannot_allocate(&self, key: &str, kept: &Kept) -> Option<String> {
        if self.flights.contains(&kept.uid) {
            return Some(format!(
                "resource claim {key} is in the process of being allocated"
            ));
        }
        if let Some(request) = kept.claim.unknown_request() {
            return Some(format!(
                "resource claim {key}, request {request}: unknown request type"
            ));
        }
        let mut classes = kept.claim.classes();
        let missing = classes.find(|(_, class)| !self.inventory.has_class(class));
        missing.map(|(request, class)| {
            format!("request {request}: device class {class} does not exist")
        })
    }

    /// An allocated claim of the pod that nobody else uses and that is not there for every node: given back, it may be
    /// allocated where the pod can go.
    pub(crate) fn idle(&self, pod: PodKey) -> Option<Wanted> {
        let (info, _) = self.pods.get(&pod)?;
        let claims = self.claims_of(info).ok()?;
        let bound = |kept: &Kept| kept.terms.is_some() || kept.binding != Binding::Ready;
        let mut idle = claims.into_iter().filter(|(_, _, kept)| {
            kept.allocated && bound(kept) && kept.users.iter().all(|user| *user == info.uid)
        });
        idle.next().map(|(key, _, kept)| Wanted {
            key,
            uid: kept.uid.clone(),
            claim: kept.claim.clone(),
            open: false,
            used: !kept.users.is_empty(),
        })
    }

    // ---- what is in flight

    /// A claim gets devices for a pod; that is being written.
    pub(crate) fn depart(&mut self, wanted: &Wanted, taken: &[Taken], pod: PodKey) {
        self.flights.insert(wanted.uid.clone());
        let flying = self.flying.entry(pod).or_default();
        flying.push((wanted.key.clone(), wanted.uid.clone()));
        self.count(&wanted.uid, taken.to_vec());
    }

    /// What was being written for a pod is written, or given up: claims are what they are, and as `written` says where
    /// that is newer. Gives whom that concerns.
    pub(crate) fn land(&mut self, pod: PodKey, written: Vec<(Box<str>, Kept)>) -> Vec<Concerned> {
        let landed = self.flying.remove(&pod).unwrap_or_default();
        for (_, uid) in &landed {
            self.flights.remove(uid);
        }
        let made = extended::has_devices(&written);
        let written = written.into_iter();
        let mut concerned: Vec<Concerned> = written
            .map(|(key, kept)| self.note_claim(&key, kept))
            .collect();
        for (key, uid) in landed {
            let kept = self.claims.get(&key).filter(|kept| kept.uid == uid);
            let taken = kept.map(|kept| kept.taken.clone()).unwrap_or_default();
            let given_up = taken.is_empty() && !(made && extended::is_not_there(&key));
            self.count(&uid, taken);
            // Who was told that the claim is being allocated may try, too.
            concerned.push(Concerned {
                pods: self.using(&key),
                event: given_up.then_some(Event::ResourceClaim),
            });
        }
        concerned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    fn object(name: &str, version: u64, status: Value) -> Value {
        json!({"metadata": {"namespace": "n", "name": name, "uid": format!("uid-{name}"), "resourceVersion": version.to_string()},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}, "status": status})
    }

    fn allocated(device: &str) -> Value {
        json!({"allocation": {"devices": {"results": [{"request": "r", "driver": "d", "pool": "p", "device": device}]},
            "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}}})
    }

    fn note(devices: &mut Devices, object: &Value) -> Concerned {
        let key = format!("n/{}", object["metadata"]["name"].as_str().unwrap());
        devices.note(&key, Thing::read(Kind::Claims, object))
    }

    fn pod(claims: Value, status: Value) -> Arc<PodInfo> {
        let info = PodInfo::from_object(
            &json!({"metadata": {"namespace": "n", "name": "p", "uid": "u"},
            "spec": {"containers": [], "resourceClaims": claims}, "status": {"resourceClaimStatuses": status}}),
        );
        Arc::new(info.unwrap())
    }

    fn obstacle(devices: &Devices, pod: &Arc<PodInfo>) -> String {
        let outcome = devices.outcome(pod, 0);
        assert!(!outcome.gated && outcome.devices.rules.is_empty());
        outcome.devices.obstacle.unwrap_or_default().into()
    }

    #[test]
    fn claims_that_are_not_there_are_told_apart() {
        let mut devices = Devices::default();
        let template = json!([{"name": "a", "resourceClaimTemplateName": "t"}]);
        let named = |name: &str| pod(json!([{"name": "a", "resourceClaimName": name}]), json!([]));
        let made = |name: &str| {
            pod(
                template.clone(),
                json!([{"name": "a", "resourceClaimName": name}]),
            )
        };
        assert!(devices.outcome(&pod(template.clone(), json!([])), 0).gated);
        assert!(devices.outcome(&made("x"), 0).gated);
        let not_needed = pod(template.clone(), json!([{"name": "a"}]));
        assert_eq!(devices.outcome(&not_needed, 0), Outcome::default());
        assert_eq!(
            obstacle(&devices, &named("x")),
            "resourceclaim.resource.k8s.io \"x\" not found"
        );
        note(&mut devices, &object("x", 1, json!({})));
        assert_eq!(
            obstacle(&devices, &made("x")),
            "ResourceClaim n/x was not created for Pod n/p (Pod is not owner)"
        );
        assert!(devices.outcome(&named("x"), 0).devices.ask != 0);
        let mut going = object("x", 2, json!({}));
        going["metadata"]["deletionTimestamp"] = "t".into();
        note(&mut devices, &going);
        assert_eq!(
            obstacle(&devices, &named("x")),
            "resourceclaim \"x\" is being deleted"
        );
    }

    #[test]
    fn devices_count_from_the_choice_until_they_are_given_back() {
        let mut devices = Devices::default();
        let slice = json!({"metadata": {"name": "s"}, "spec": {"driver": "d", "nodeName": "n1",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "d1"}]}});
        devices.note("s", Thing::read(Kind::Slices, &slice));
        devices.note("c", Thing::read(Kind::Classes, &json!({"spec": {}})));
        note(&mut devices, &object("x", 1, json!({})));
        let key = PodKey::of("u");
        devices.note_pod(
            key,
            &pod(json!([{"name": "a", "resourceClaimName": "x"}]), json!([])),
        );
        let is_open = |devices: &Devices| devices.inventory.open_nodes(0).next().is_some();
        let wanted = devices.wanted(key).unwrap().unwrap().remove(0);
        assert!(wanted.open && is_open(&devices));
        let taken = devices::taken(&allocated("d1")["allocation"]);
        devices.depart(&wanted, &taken, key);
        assert!(!is_open(&devices));
        assert_eq!(
            devices.wanted(key).unwrap().unwrap_err(),
            "resource claim n/x is in the process of being allocated"
        );
        // An old state of the claim, heard of meanwhile, changes nothing.
        note(&mut devices, &object("x", 1, json!({})));
        assert!(!is_open(&devices));
        let written = Kept::read(&object("x", 5, allocated("d1")));
        let concerned = devices.land(key, vec![("n/x".into(), written)]);
        assert!(concerned.iter().all(|c| c.event.is_none()));
        note(&mut devices, &object("x", 4, json!({})));
        assert!(!is_open(&devices));
        let outcome = devices.outcome(&devices.info(key).unwrap(), 0);
        assert_eq!((outcome.devices.rules.len(), outcome.devices.ask), (1, 0));
        let freed = note(&mut devices, &object("x", 6, json!({})));
        assert_eq!(
            freed,
            Concerned {
                pods: vec![key],
                event: Some(Event::ResourceClaim)
            }
        );
        assert!(is_open(&devices));
        // What is given up is free at once.
        devices.depart(&wanted, &taken, key);
        let given_up = devices.land(key, Vec::new());
        assert_eq!(given_up[0].event, Some(Event::ResourceClaim));
        assert!(is_open(&devices));
    }
}

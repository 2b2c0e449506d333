//! The model's volumes: every volume asked for every claim on every node, from the JSON objects themselves.
//!
//! Written from the description of the rules; shares no code with the crate but the types of the answers.

use crate::around::selects;
use crate::model::{Model, array, term_matches};
use crate::objects::{Dice, NAMESPACES, NODES};
use placement::{Bindings, ThingKind};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use value::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    Claim,
    Volume,
    Class,
    CsiNode,
    Driver,
    Capacity,
    Attachment,
}

impl Sort {
    pub fn kind(self) -> ThingKind {
        match self {
            Sort::Claim => ThingKind::Claims,
            Sort::Volume => ThingKind::Volumes,
            Sort::Class => ThingKind::Classes,
            Sort::CsiNode => ThingKind::CsiNodes,
            Sort::Driver => ThingKind::Drivers,
            Sort::Capacity => ThingKind::Capacities,
            Sort::Attachment => ThingKind::Attachments,
        }
    }
}

pub const SORTS: [Sort; 7] = [
    Sort::Claim,
    Sort::Volume,
    Sort::Class,
    Sort::CsiNode,
    Sort::Driver,
    Sort::Capacity,
    Sort::Attachment,
];

pub fn sort() -> impl Strategy<Value = Sort> {
    prop_oneof![
        6 => Just(Sort::Claim),
        6 => Just(Sort::Volume),
        3 => Just(Sort::Class),
        3 => Just(Sort::CsiNode),
        1 => Just(Sort::Driver),
        2 => Just(Sort::Capacity),
        1 => Just(Sort::Attachment),
    ]
}

// ---- random objects

const CLASSES: [&str; 4] = ["wait", "hand", "now", "aws"];
const SELECTED: &str = "volume.kubernetes.io/selected-node";

fn affinity(dice: &mut Dice) -> Value {
    let host = format!("node-{}", dice.roll(NODES));
    let expression = match dice.roll(6) {
        0 => return Value::Null,
        1 => json!({"key": "zone", "operator": "In", "values": [dice.pick(&["a", "b", "c"])]}),
        2 => {
            json!({"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [host]})
        }
        3 => json!({"key": "disk", "operator": "Exists"}),
        _ => {
            json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [host, "node-1"]})
        }
    };
    let mut expressions = vec![expression];
    if dice.one_in(5) {
        expressions.push(json!({"key": "rank", "operator": "Gt", "values": ["3"]}));
    }
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}})
}

fn modes(dice: &mut Dice) -> Value {
    match dice.roll(4) {
        0 => json!(["ReadWriteOncePod"]),
        1 => json!(["ReadWriteMany"]),
        _ => json!(["ReadWriteOnce"]),
    }
}

fn volume(dice: &mut Dice, id: u64) -> Value {
    let mut spec = json!({
        "capacity": {"storage": dice.pick(&["1Gi", "2Gi", "3Gi"])},
        "accessModes": ["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"],
        "storageClassName": dice.pick(&["wait", "hand", "hand", "hand", ""]),
        "nodeAffinity": affinity(dice),
    });
    match dice.roll(5) {
        0 => spec["hostPath"] = json!({"path": "/"}),
        1 => spec["awsElasticBlockStore"] = json!({"volumeID": format!("aws://a/vol-{}", id % 3)}),
        _ => {
            spec["csi"] = json!({"driver": dice.pick(&["drv.a", "drv.b", "ebs.csi.aws.com"]),
                "volumeHandle": format!("vol-{}", id % 5)});
        }
    }
    if dice.one_in(5) {
        spec["accessModes"] = modes(dice);
    }
    if dice.one_in(6) {
        spec["volumeMode"] = "Block".into();
    }
    if dice.one_in(4) {
        let (namespace, name) = (dice.pick(&NAMESPACES), format!("c{}", dice.roll(5)));
        spec["claimRef"] = json!({"namespace": namespace, "name": name});
        if dice.one_in(2) {
            spec["claimRef"]["uid"] = dice.pick(&["u0", "u1"]).into();
        }
    }
    let mut metadata =
        json!({"name": format!("pv-{id}"), "labels": {"color": dice.pick(&["red", "blue"])}});
    if dice.one_in(4) {
        metadata["labels"]["topology.kubernetes.io/zone"] = dice.pick(&["a", "b", "a__b"]).into();
    }
    if dice.one_in(10) {
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    let phase = dice.pick(&["Available", "Available", "Available", "Bound", "Pending"]);
    json!({"metadata": metadata, "spec": spec, "status": {"phase": phase}})
}

fn claim(dice: &mut Dice, namespace: &str, name: &str) -> Value {
    let mut spec = json!({
        "accessModes": modes(dice),
        "storageClassName": dice.pick(&["wait", "hand", "hand", "now", "aws", "gone"]),
        "resources": {"requests": {"storage": dice.pick(&["1Gi", "2Gi"])}},
    });
    let mut metadata = json!({"namespace": namespace, "name": name, "annotations": {},
        "uid": dice.pick(&["u0", "u1"])});
    if dice.one_in(3) {
        spec["selector"] = json!({"matchLabels": {"color": dice.pick(&["red", "blue"])}});
    }
    if dice.one_in(8) {
        spec["volumeMode"] = "Block".into();
    }
    if dice.one_in(2) {
        spec["volumeName"] = format!("pv-{}", dice.roll(12)).into();
        if !dice.one_in(6) {
            metadata["annotations"]["pv.kubernetes.io/bind-completed"] = "yes".into();
        }
    } else if dice.one_in(5) {
        metadata["annotations"][SELECTED] = format!("node-{}", dice.roll(NODES)).into();
    }
    let mut claim = json!({"metadata": metadata, "spec": spec, "status": {}});
    match dice.roll(20) {
        0 => claim["status"]["phase"] = "Lost".into(),
        1 => claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
        _ => {}
    }
    claim
}

fn class(dice: &mut Dice, name: &str) -> Value {
    let mut class = json!({"metadata": {"name": name}, "provisioner": match name {
        "hand" => "kubernetes.io/no-provisioner",
        "aws" => "kubernetes.io/aws-ebs",
        _ => "drv.a",
    }});
    if name != "now" {
        class["volumeBindingMode"] = "WaitForFirstConsumer".into();
    }
    if dice.one_in(3) {
        class["allowedTopologies"] = json!([{"matchLabelExpressions":
            [{"key": "zone", "values": [dice.pick(&["a", "b"]), "c"]}]}]);
    }
    class
}

/// An object and its key; the object is `None` where it is to go.
pub fn object(sort: Sort, id: u64, seed: u64) -> (String, Option<Value>) {
    let mut dice = Dice::new(seed);
    let gone = dice.one_in(12);
    let (key, object) = match sort {
        Sort::Claim => {
            let (namespace, name) = (NAMESPACES[(id % 2) as usize], format!("c{}", id % 5));
            let object = claim(&mut dice, namespace, &name);
            (format!("{namespace}/{name}"), object)
        }
        Sort::Volume => (format!("pv-{id}"), volume(&mut dice, id)),
        Sort::Class => {
            let name = CLASSES[(id % 4) as usize];
            (name.to_owned(), class(&mut dice, name))
        }
        Sort::CsiNode => {
            let name = format!("node-{}", id % NODES);
            let mut drivers = Vec::new();
            for driver in ["drv.a", "ebs.csi.aws.com"] {
                match dice.roll(5) {
                    0 => {}
                    1 => drivers.push(json!({"name": driver})),
                    _ => {
                        let count = dice.roll(3);
                        drivers.push(json!({"name": driver, "allocatable": {"count": count}}));
                    }
                }
            }
            let object = json!({"metadata": {"name": name}, "spec": {"drivers": drivers}});
            (name, object)
        }
        Sort::Driver => {
            let tells = !dice.one_in(4);
            ("drv.a".into(), json!({"spec": {"storageCapacity": tells}}))
        }
        Sort::Capacity => {
            let topology = match dice.roll(4) {
                0 => Value::Null,
                1 => json!({}),
                2 => {
                    json!({"matchLabels": {"kubernetes.io/hostname": format!("node-{}", dice.roll(NODES))}})
                }
                _ => json!({"matchLabels": {"zone": dice.pick(&["a", "b"])}}),
            };
            let mut object = json!({"storageClassName": "wait", "nodeTopology": topology,
                "capacity": dice.pick(&["1Gi", "3Gi"])});
            if dice.one_in(3) {
                object["maximumVolumeSize"] = "1Gi".into();
            }
            (format!("default/cap-{}", id % 3), object)
        }
        Sort::Attachment => {
            let spec = json!({"nodeName": format!("node-{}", dice.roll(NODES)), "attacher": "drv.a",
                "source": {"persistentVolumeName": format!("pv-{}", dice.roll(12))}});
            (format!("va-{}", id % 4), json!({"spec": spec}))
        }
    };
    (key, (!gone).then_some(object))
}

/// A node that has room for everything but volumes.
pub fn node_object(id: u64) -> Value {
    let mut dice = Dice::new(id);
    let name = format!("node-{id}");
    let mut labels = json!({"kubernetes.io/hostname": name, "zone": dice.pick(&["a", "b", "c"]),
        "rank": dice.pick(&["1", "5"])});
    if dice.one_in(2) {
        labels["disk"] = "ssd".into();
    }
    if dice.one_in(2) {
        labels["topology.kubernetes.io/zone"] = dice.pick(&["a", "b"]).into();
    }
    json!({"metadata": {"name": name, "labels": labels}, "spec": {},
        "status": {"allocatable": {"cpu": "16", "memory": "64Gi", "pods": "9"}}})
}

/// The pod with its volumes and its priority, and no other wishes; a few keep what they had.
pub fn claimant(pod: &Value, seed: u64) -> Value {
    let mut dice = Dice::new(seed ^ 0x1234);
    let mut object = pod.clone();
    if !dice.one_in(6) {
        object["spec"] = json!({"containers": [{"image": "web"}], "priority": dice.roll(3)});
        object["spec"]["volumes"] = match &pod["spec"]["volumes"] {
            Value::Null => pod_volumes(&mut dice),
            known => known.clone(),
        };
    }
    object
}

pub fn pod_volumes(dice: &mut Dice) -> Value {
    let read_only = dice.one_in(2);
    let volumes: Vec<Value> = (0..=dice.roll(2))
        .map(|at| {
            let mut volume = match dice.roll(12) {
                0 => json!({"gcePersistentDisk": {"pdName": "g", "readOnly": read_only}}),
                1 => json!({"awsElasticBlockStore": {"volumeID": dice.pick(&["vol-0", "vol-1", "vol-7"])}}),
                2 => json!({"rbd": {"monitors": [dice.pick(&["m1", "m2"]), "m3"], "pool": "p", "image": "i",
                    "readOnly": read_only}}),
                3 => json!({"ephemeral": {"volumeClaimTemplate": {}}}),
                4 => json!({"emptyDir": {}}),
                _ => json!({"persistentVolumeClaim": {"claimName": format!("c{}", dice.roll(5))}}),
            };
            volume["name"] = format!("v{at}").into();
            volume
        })
        .collect();
    volumes.into()
}

/// The claim made for a pod's own volume, if it has one and it is there.
pub fn own_claim(pod: &Value, seed: u64) -> Option<(String, Value)> {
    let mut dice = Dice::new(seed ^ 0xabcd);
    let volumes = array(&pod["spec"]["volumes"]);
    let own = volumes.iter().find(|v| !v["ephemeral"].is_null())?;
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), claim_name(pod, own)?.0);
    let mut claim = claim(&mut dice, namespace, &name);
    let owner = if dice.one_in(6) {
        "another"
    } else {
        text(&pod["metadata"]["uid"])
    };
    claim["metadata"]["ownerReferences"] = json!([{"uid": owner, "controller": true}]);
    (!dice.one_in(6)).then(|| (format!("{namespace}/{name}"), claim))
}

// ---- state

impl Model {
    pub fn note(&mut self, sort: Sort, key: String, object: Value) {
        // What the API says takes the place of what was assumed.
        if sort == Sort::Volume && !object["spec"]["claimRef"].is_null() {
            self.given.remove(&key);
        }
        if sort == Sort::Claim
            && (!object["metadata"]["annotations"][SELECTED].is_null() || is_bound(&object))
        {
            self.chosen.remove(&key);
        }
        self.things.insert((sort, key), object);
    }

    pub fn forget(&mut self, sort: Sort, key: &str) {
        match sort {
            Sort::Volume => drop(self.given.remove(key)),
            Sort::Claim => drop(self.chosen.remove(key)),
            _ => {}
        }
        self.things.remove(&(sort, key.to_owned()));
    }

    pub fn take(&mut self, pod: &str, node: &str, bindings: &Bindings) {
        for (volume, claim) in &bindings.to_bind {
            let uid = &self.thing(Sort::Claim, claim).unwrap()["metadata"]["uid"];
            let to = (format!("{claim} {}", text(uid)), pod.to_owned());
            self.given.insert(volume.to_string(), to);
        }
        for claim in &bindings.to_make {
            let to = (node.to_owned(), pod.to_owned());
            self.chosen.insert(claim.to_string(), to);
        }
    }

    pub fn give_back(&mut self, pod: &str) -> bool {
        let before = self.given.len() + self.chosen.len();
        self.given.retain(|_, (_, other)| other != pod);
        self.chosen.retain(|_, (_, other)| other != pod);
        before > self.given.len() + self.chosen.len()
    }

    fn thing(&self, sort: Sort, key: &str) -> Option<&Value> {
        self.things.get(&(sort, key.to_owned()))
    }

    fn all(&self, sort: Sort) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.things.iter().filter(move |((s, _), _)| *s == sort);
        all.map(|((_, key), object)| (key.as_str(), object))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn gibi(value: &Value) -> i64 {
    text(value)
        .strip_suffix("Gi")
        .map_or(0, |n| n.parse().unwrap())
}

fn is_bound(claim: &Value) -> bool {
    let done = &claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"];
    !text(&claim["spec"]["volumeName"]).is_empty() && !done.is_null()
}

/// The claim that a pod's volume means; true when it is made for the pod alone.
fn claim_name(pod: &Value, volume: &Value) -> Option<(String, bool)> {
    if let Some(name) = volume["persistentVolumeClaim"]["claimName"].as_str() {
        return Some((name.into(), false));
    }
    let own = !volume["ephemeral"].is_null();
    let name = format!(
        "{}-{}",
        text(&pod["metadata"]["name"]),
        text(&volume["name"])
    );
    own.then_some((name, true))
}

/// Keys of a pod's claims.
fn claims(pod: &Value) -> Vec<(String, bool)> {
    let mut all: Vec<(String, bool)> = Vec::new();
    for volume in array(&pod["spec"]["volumes"]) {
        if let Some((name, own)) = claim_name(pod, &volume) {
            let key = format!("{}/{name}", text(&pod["metadata"]["namespace"]));
            if !all.iter().any(|(known, _)| *known == key) {
                all.push((key, own));
            }
        }
    }
    all
}

fn is_owned(claim: &Value, pod: &Value) -> bool {
    let owners = array(&claim["metadata"]["ownerReferences"]);
    owners
        .iter()
        .any(|owner| owner["uid"] == pod["metadata"]["uid"])
}

// ---- whatever the node

pub fn obstacle(model: &Model, pod: &Value) -> Option<String> {
    let mut unbound = false;
    for (key, own) in claims(pod) {
        let name = key.split_once('/').unwrap().1;
        let Some(claim) = model.thing(Sort::Claim, &key) else {
            return Some(if own {
                format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                )
            } else {
                format!("persistentvolumeclaim \"{name}\" not found")
            });
        };
        if own && !is_owned(claim, pod) {
            let (namespace, pod) = (
                text(&pod["metadata"]["namespace"]),
                text(&pod["metadata"]["name"]),
            );
            return Some(format!(
                "PVC {key} was not created for pod {namespace}/{pod} (pod is not owner)"
            ));
        }
        if claim["status"]["phase"] == "Lost" {
            let volume = text(&claim["spec"]["volumeName"]);
            return Some(format!(
                "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
            ));
        }
        if !claim["metadata"]["deletionTimestamp"].is_null() {
            return Some(format!("persistentvolumeclaim \"{name}\" is being deleted"));
        }
        unbound |= !is_bound(claim) && !waits(model, claim);
    }
    unbound.then(|| "pod has unbound immediate PersistentVolumeClaims".into())
}

fn waits(model: &Model, claim: &Value) -> bool {
    let class = model.thing(Sort::Class, text(&claim["spec"]["storageClassName"]));
    class.is_some_and(|class| class["volumeBindingMode"] == "WaitForFirstConsumer")
        && text(&claim["spec"]["volumeName"]).is_empty()
}

// ---- a node

pub fn rejections(model: &Model, pod: &Value, node: &Value) -> Vec<String> {
    let name = text(&node["metadata"]["name"]);
    let one = |reason: &str| vec![reason.to_owned()];
    if disks_clash(model, pod, name) {
        return one("node(s) had no available disk");
    }
    if claim_taken(model, pod) {
        return one(
            "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
        );
    }
    if too_many(model, pod, name) {
        return one("node(s) exceed max volume count");
    }
    let mut reasons: Vec<String> = bound_reason(model, pod, node).into_iter().collect();
    reasons.extend(bindings(model, pod, node).err());
    reasons.sort();
    if !reasons.is_empty() {
        return reasons;
    }
    if !in_zone(model, pod, node) {
        return one("node(s) had no available volume zone");
    }
    Vec::new()
}

fn disks_clash(model: &Model, pod: &Value, node: &str) -> bool {
    let there = model.pods.values().filter(|p| p.node == node);
    let theirs: Vec<Value> = there
        .flat_map(|p| array(&p.object["spec"]["volumes"]))
        .collect();
    let reads = |volume: &Value, kind: &str| volume[kind]["readOnly"] == true;
    array(&pod["spec"]["volumes"]).iter().any(|mine| {
        theirs.iter().any(|other| {
            let both = |kind: &str| !mine[kind].is_null() && !other[kind].is_null();
            let same = |kind: &str, field: &str| mine[kind][field] == other[kind][field];
            let writes = |kind: &str| !(reads(mine, kind) && reads(other, kind));
            let google = "gcePersistentDisk";
            let amazon = "awsElasticBlockStore";
            let monitors = array(&other["rbd"]["monitors"]);
            let common = array(&mine["rbd"]["monitors"])
                .iter()
                .any(|m| monitors.contains(m));
            (both(google) && same(google, "pdName") && writes(google))
                || (both(amazon) && same(amazon, "volumeID"))
                || (both("rbd")
                    && common
                    && same("rbd", "pool")
                    && same("rbd", "image")
                    && writes("rbd"))
        })
    })
}

fn claim_taken(model: &Model, pod: &Value) -> bool {
    claims(pod).iter().filter(|(_, own)| !own).any(|(key, _)| {
        let claim = model.thing(Sort::Claim, key);
        let once = claim
            .is_some_and(|c| array(&c["spec"]["accessModes"]).contains(&json!("ReadWriteOncePod")));
        let mut others = model.pods.values();
        once && others.any(|p| claims(&p.object).contains(&(key.clone(), false)))
    })
}

/// Driver and handle of a claim's volume, or of one to be made.
fn attach(model: &Model, key: &str) -> Option<(String, String)> {
    let claim = model.thing(Sort::Claim, key)?;
    if let Some(volume) = model.thing(Sort::Volume, text(&claim["spec"]["volumeName"])) {
        let (csi, amazon) = (
            &volume["spec"]["csi"],
            &volume["spec"]["awsElasticBlockStore"],
        );
        if !csi.is_null() {
            return Some((
                text(&csi["driver"]).into(),
                text(&csi["volumeHandle"]).into(),
            ));
        }
        let id = amazon["volumeID"].as_str()?.rsplit('/').next()?;
        return Some(("ebs.csi.aws.com".into(), id.into()));
    }
    let class = model.thing(Sort::Class, text(&claim["spec"]["storageClassName"]))?;
    let driver = match text(&class["provisioner"]) {
        "kubernetes.io/aws-ebs" => "ebs.csi.aws.com",
        other => other,
    };
    Some((driver.into(), format!("to be made for {key}")))
}

fn attached_by(model: &Model, pod: &Value) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    for (key, own) in claims(pod) {
        let claim = model.thing(Sort::Claim, &key);
        if !own || claim.is_some_and(|claim| is_owned(claim, pod)) {
            all.extend(attach(model, &key));
        }
    }
    for volume in array(&pod["spec"]["volumes"]) {
        if let Some(id) = volume["awsElasticBlockStore"]["volumeID"].as_str() {
            all.insert(("ebs.csi.aws.com".to_owned(), id.to_owned()));
        }
        if let Some(disk) = volume["gcePersistentDisk"]["pdName"].as_str() {
            all.insert(("pd.csi.storage.gke.io".to_owned(), disk.to_owned()));
        }
    }
    all
}

fn too_many(model: &Model, pod: &Value, node: &str) -> bool {
    let Some(limits) = model.thing(Sort::CsiNode, node) else {
        return false;
    };
    let there = model.pods.values().filter(|p| p.node == node);
    let in_use: BTreeSet<(String, String)> =
        there.flat_map(|p| attached_by(model, &p.object)).collect();
    let mut all = in_use.clone();
    for (_, attachment) in model.all(Sort::Attachment) {
        let spec = &attachment["spec"];
        let volume = model.thing(Sort::Volume, text(&spec["source"]["persistentVolumeName"]));
        let handle = volume.and_then(|v| v["spec"]["csi"]["volumeHandle"].as_str());
        if let Some(handle) = handle.filter(|_| spec["nodeName"] == node) {
            all.insert((text(&spec["attacher"]).into(), handle.into()));
        }
    }
    let new = attached_by(model, pod);
    array(&limits["spec"]["drivers"]).iter().any(|driver| {
        let Some(limit) = driver["allocatable"]["count"].as_i64() else {
            return false;
        };
        let mine = |(of, _): &&(String, String)| *of == driver["name"].as_str().unwrap();
        let more = new.difference(&all).filter(mine).count() as i64;
        more > 0 && all.iter().filter(mine).count() as i64 + more > limit
    })
}

fn bound_claims<'a>(model: &'a Model, pod: &Value) -> Vec<&'a Value> {
    let keys = claims(pod);
    let all = keys
        .iter()
        .filter_map(|(key, _)| model.thing(Sort::Claim, key));
    all.filter(|claim| is_bound(claim)).collect()
}

fn reaches(volume: &Value, node: &Value) -> bool {
    let required = &volume["spec"]["nodeAffinity"]["required"];
    required.is_null()
        || array(&required["nodeSelectorTerms"])
            .iter()
            .any(|term| term_matches(term, node))
}

fn bound_reason(model: &Model, pod: &Value, node: &Value) -> Option<String> {
    for claim in bound_claims(model, pod) {
        let Some(volume) = model.thing(Sort::Volume, text(&claim["spec"]["volumeName"])) else {
            return Some(
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)".into(),
            );
        };
        if !reaches(volume, node) {
            return Some("node(s) didn't match PersistentVolume's node affinity".into());
        }
    }
    None
}

fn in_zone(model: &Model, pod: &Value, node: &Value) -> bool {
    let key = "topology.kubernetes.io/zone";
    let here = node["metadata"]["labels"][key].as_str();
    let volumes = bound_claims(model, pod);
    let mut volumes = volumes
        .iter()
        .filter_map(|c| model.thing(Sort::Volume, text(&c["spec"]["volumeName"])));
    volumes.all(|volume| {
        let zones = volume["metadata"]["labels"][key].as_str();
        let allowed =
            |here: &str| zones.is_none_or(|zones| zones.split("__").any(|zone| zone == here));
        here.is_none_or(allowed)
    })
}

/// What a pod gets on a node, or why it gets nothing.
pub fn bindings(model: &Model, pod: &Value, node: &Value) -> Result<Bindings, String> {
    let name = text(&node["metadata"]["name"]);
    let mut found = Bindings::default();
    let mut searching: Vec<(String, &Value)> = Vec::new();
    let mut to_make: Vec<(String, &Value)> = Vec::new();
    let no_match = || Err("node(s) didn't find available persistent volumes to bind".to_owned());
    let mut waiting: Vec<(String, &Value)> = Vec::new();
    for (key, _) in claims(pod) {
        if let Some(claim) = model.thing(Sort::Claim, &key)
            && !is_bound(claim)
            && waits(model, claim)
        {
            waiting.push((key, claim));
        }
    }
    let size = |claim: &Value| gibi(&claim["spec"]["resources"]["requests"]["storage"]);
    waiting.sort_by_key(|(_, claim)| size(claim));
    for (key, claim) in waiting {
        let selected = claim["metadata"]["annotations"][SELECTED].as_str();
        let chosen = model.chosen.get(&key).map(|(node, _)| node.as_str());
        match selected.or(chosen) {
            Some(node) if node != name => return no_match(),
            Some(_) => to_make.push((key, claim)),
            None => searching.push((key, claim)),
        }
    }
    let mut taken: BTreeMap<String, ()> = BTreeMap::new();
    for (key, claim) in searching {
        match find_volume(model, &key, claim, node, &taken) {
            Some(volume) => {
                taken.insert(volume.clone(), ());
                found.to_bind.push((volume.into(), key.into()));
            }
            None => to_make.push((key, claim)),
        }
    }
    for (key, claim) in to_make {
        let class = text(&claim["spec"]["storageClassName"]);
        let object = model.thing(Sort::Class, class).unwrap();
        let provisioner = text(&object["provisioner"]);
        let terms = array(&object["allowedTopologies"]);
        let suits = |term: &Value| {
            array(&term["matchLabelExpressions"]).iter().all(|e| {
                let label = &node["metadata"]["labels"][text(&e["key"])];
                array(&e["values"]).contains(label)
            })
        };
        if provisioner == "kubernetes.io/no-provisioner"
            || !(terms.is_empty() || terms.iter().any(suits))
        {
            return no_match();
        }
        let tells = model.thing(Sort::Driver, provisioner);
        let has_room = |capacity: &Value| {
            let limit = match &capacity["maximumVolumeSize"] {
                Value::Null => &capacity["capacity"],
                limit => limit,
            };
            capacity["storageClassName"] == class
                && gibi(limit) >= size(claim)
                && selects(&capacity["nodeTopology"], &node["metadata"]["labels"])
        };
        if tells.is_some_and(|d| d["spec"]["storageCapacity"] == true)
            && !model.all(Sort::Capacity).any(|(_, c)| has_room(c))
        {
            return Err("node(s) did not have enough free storage".into());
        }
        found.to_make.push(key.into());
    }
    Ok(found)
}

fn find_volume(
    model: &Model,
    key: &str,
    claim: &Value,
    node: &Value,
    taken: &BTreeMap<String, ()>,
) -> Option<String> {
    let mut smallest: Option<(i64, String)> = None;
    for (name, volume) in model.all(Sort::Volume) {
        let (spec, wanted) = (&volume["spec"], &claim["spec"]);
        if taken.contains_key(name) || spec["storageClassName"] != wanted["storageClassName"] {
            continue;
        }
        let reference = &spec["claimRef"];
        let own = if !reference.is_null() {
            let to = format!(
                "{}/{}",
                text(&reference["namespace"]),
                text(&reference["name"])
            );
            let uid = &reference["uid"];
            Some(to == key && (uid.is_null() || *uid == claim["metadata"]["uid"]))
        } else {
            let me = format!("{key} {}", text(&claim["metadata"]["uid"]));
            model.given.get(name).map(|(to, _)| *to == me)
        };
        let size = gibi(&spec["capacity"]["storage"]);
        let mode = |spec: &Value| text(&spec["volumeMode"]) == "Block";
        if own == Some(false)
            || size < gibi(&wanted["resources"]["requests"]["storage"])
            || mode(spec) != mode(wanted)
            || !volume["metadata"]["deletionTimestamp"].is_null()
        {
            continue;
        }
        if own == Some(true) {
            return reaches(volume, node).then(|| name.to_owned());
        }
        let modes = array(&spec["accessModes"]);
        let selector = &wanted["selector"];
        if volume["status"]["phase"] == "Available"
            && (selector.is_null() || selects(selector, &volume["metadata"]["labels"]))
            && reaches(volume, node)
            && array(&wanted["accessModes"])
                .iter()
                .all(|m| modes.contains(m))
            && smallest.as_ref().is_none_or(|(least, _)| size < *least)
        {
            smallest = Some((size, name.to_owned()));
        }
    }
    smallest.map(|(_, name)| name)
}

//! Pods read from their bytes: what [`crate::feed::project`] makes of a pod's tree, without the tree.
//!
//! Every pod is told of three times until it runs, and most of what decoding costs are texts and maps that are thrown
//! away at once. What is rare is not read here: pods that have ended, ask for claims or
//! volumes of claims, or for nodes by affinity.
//!
//! It gives no errors: whatever it does not read is left to the general way. Does not know what pods mean.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::RandomState;
use meta::Value;
use reconcile::Pod;
use reconcile::garbage::{FOREGROUND_FINALIZER, ORPHAN_FINALIZER, OwnerReference};
use reconcile::pod::{JOB_TRACKING_FINALIZER, LABEL_SET_BYTES_MAX, NamedPort, Phase, Toleration};
use schema::wire::{Reader, Wire, each_field, text, time_micros};

use crate::feed::{Seen, SeenBody, Ties};

/// Label sets that are kept for those who come with the same: 64 Ki of about 500 B are 32 MiB; with
/// [`LABEL_SET_BYTES_MAX`] their bytes are 128 MiB at most, and what they say about as much again.
const LABEL_SETS_MAX: usize = 64 * 1024;
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// A label set: its bytes, and what they say.
type LabelSet = (Box<[u8]>, Arc<Value>);

/// Reads pods, and remembers their label sets.
#[derive(Default)]
pub(crate) struct PlainPods {
    /// By the hash of their bytes; of two that have the same, the later.
    labels: HashMap<u64, LabelSet, RandomState>,
}

impl PlainPods {
    /// The key of a pod of this version and what is kept of it. `None`: it is not plain.
    pub(crate) fn read(&mut self, message: &[u8], version: &str) -> Option<(String, Seen)> {
        let (mut metadata, mut spec, mut status): (&[u8], &[u8], &[u8]) = (b"", b"", b"");
        each_field(message, |number, wire, _| {
            match (number, wire) {
                (1, Wire::Bytes(bytes)) => metadata = bytes,
                (2, Wire::Bytes(bytes)) => spec = bytes,
                (3, Wire::Bytes(bytes)) => status = bytes,
                _ => return None,
            }
            Some(())
        })?;
        let metadata = self.metadata(metadata)?;
        let mut pod = Pod {
            namespace: metadata.namespace.into(),
            name: metadata.name.into(),
            uid: metadata.uid.into(),
            controller_uid: metadata.controller_uid.map(Box::from),
            labels: metadata.labels,
            phase: Phase::Pending,
            ready_since_micros: None,
            created_micros: metadata.created_micros.unwrap_or(0),
            deletion_micros: metadata.deletion_micros,
            finished_micros: None,
            node_name: "".into(),
            pin: None,
            ip: "".into(),
            dns: None,
            ports: Box::default(),
            tolerations: None,
            ending: None,
            restarts: 0,
            deletion_cost: metadata.deletion_cost,
            completion_index: metadata.completion_index,
            job_tracking: metadata.finalizers.contains(&JOB_TRACKING_FINALIZER),
            claims: Box::default(),
            volumes: None,
        };
        read_spec(spec, &mut pod)?;
        read_status(status, &mut pod)?;
        let has = |wanted| metadata.finalizers.contains(&wanted);
        let ties = Ties {
            owners: metadata.owners,
            deleting: metadata.deletion_micros.is_some(),
            foreground: has(FOREGROUND_FINALIZER),
            orphan: has(ORPHAN_FINALIZER),
        };
        let mut key = String::with_capacity(metadata.namespace.len() + 1 + metadata.name.len());
        key.push_str(metadata.namespace);
        key.push('/');
        key.push_str(metadata.name);
        let seen = Seen {
            finalizers: if ties.deleting {
                let all = metadata.finalizers.iter();
                all.map(|finalizer| (*finalizer).to_owned()).collect()
            } else {
                Vec::new()
            },
            version: version.parse().ok()?,
            body: SeenBody::Pod(Arc::new(pod)),
            uid: Box::default(),
            ties,
        };
        Some((key, seen))
    }

    fn metadata<'a>(&mut self, message: &'a [u8]) -> Option<Metadata<'a>> {
        let mut metadata = Metadata {
            name: "",
            namespace: "",
            uid: "",
            created_micros: None,
            deletion_micros: None,
            deletion_cost: 0,
            completion_index: -1,
            labels: Arc::new(Value::Null),
            controller_uid: None,
            owners: Vec::new(),
            finalizers: Vec::new(),
        };
        // Where the labels begin and end.
        let (mut begin, mut end, mut at) = (0, 0, 0);
        let mut reader = Reader::new(message);
        while let Some((number, wire)) = reader.field().ok()? {
            match (number, wire) {
                (1, Wire::Bytes(bytes)) => metadata.name = text(bytes)?,
                (3, Wire::Bytes(bytes)) => metadata.namespace = text(bytes)?,
                (5, Wire::Bytes(bytes)) => metadata.uid = text(bytes)?,
                (8, Wire::Bytes(time)) => metadata.created_micros = time_micros(time)?,
                (9, Wire::Bytes(time)) => metadata.deletion_micros = time_micros(time)?,
                // The entries of a map stand together in whatever was stored.
                (11, Wire::Bytes(_)) if end == 0 || end == at => {
                    if end == 0 {
                        begin = at;
                    }
                    end = reader.position();
                }
                (12, Wire::Bytes(entry)) => {
                    let (key, value) = pair(entry)?;
                    let number = || value.parse::<i32>().ok();
                    match key {
                        DELETION_COST => metadata.deletion_cost = number().unwrap_or(0),
                        COMPLETION_INDEX => metadata.completion_index = number().unwrap_or(-1),
                        _ => {}
                    }
                }
                (13, Wire::Bytes(owner)) => metadata.own(owner)?,
                (14, Wire::Bytes(bytes)) => metadata.finalizers.push(text(bytes)?),
                (1 | 3 | 5 | 8 | 9 | 11..=14, _) => return None,
                _ => {}
            }
            at = reader.position();
        }
        if end > 0 {
            metadata.labels = self.labels(message.get(begin..end)?)?;
        }
        let is_whole = !metadata.name.is_empty() && !metadata.namespace.is_empty();
        is_whole.then_some(metadata)
    }

    /// The label set of these entries.
    fn labels(&mut self, entries: &[u8]) -> Option<Arc<Value>> {
        let hash = self.labels.hasher().hash_one(entries);
        if let Some((_, labels)) = self
            .labels
            .get(&hash)
            .filter(|(same, _)| **same == *entries)
        {
            return Some(Arc::clone(labels));
        }
        let mut map = value::Map::new();
        each_field(entries, |_, wire, _| {
            let Wire::Bytes(entry) = wire else {
                return None;
            };
            let (key, value) = pair(entry)?;
            map.insert(key.to_owned(), value.into());
            Some(())
        })?;
        let labels = Arc::new(Value::Object(map));
        if entries.len() > LABEL_SET_BYTES_MAX {
            return Some(labels);
        }
        if self.labels.len() >= LABEL_SETS_MAX {
            self.labels.clear();
        }
        self.labels
            .insert(hash, (entries.into(), Arc::clone(&labels)));
        Some(labels)
    }
}

struct Metadata<'a> {
    name: &'a str,
    namespace: &'a str,
    uid: &'a str,
    created_micros: Option<i64>,
    deletion_micros: Option<i64>,
    deletion_cost: i32,
    completion_index: i32,
    labels: Arc<Value>,
    controller_uid: Option<&'a str>,
    owners: Vec<OwnerReference>,
    finalizers: Vec<&'a str>,
}

impl<'a> Metadata<'a> {
    fn own(&mut self, message: &'a [u8]) -> Option<()> {
        let [mut kind, mut name, mut uid, mut api_version] = [""; 4];
        let (mut controls, mut block) = (false, false);
        each_field(message, |number, wire, _| {
            match (number, wire) {
                (1, Wire::Bytes(bytes)) => kind = text(bytes)?,
                (3, Wire::Bytes(bytes)) => name = text(bytes)?,
                (4, Wire::Bytes(bytes)) => uid = text(bytes)?,
                (5, Wire::Bytes(bytes)) => api_version = text(bytes)?,
                (6, Wire::Varint(flag)) => controls = flag != 0,
                (7, Wire::Varint(flag)) => block = flag != 0,
                _ => return None,
            }
            Some(())
        })?;
        if controls && self.controller_uid.is_none() {
            self.controller_uid = Some(uid);
        }
        self.owners.push(OwnerReference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            block,
        });
        Some(())
    }
}

fn read_spec(message: &[u8], pod: &mut Pod) -> Option<()> {
    let [mut node, mut hostname, mut subdomain] = [""; 3];
    let mut ports = Vec::new();
    // Those of NoExecute taints: mostly the two that admission gives, which need no list.
    let mut first = [Tolerated::default(), Tolerated::default()];
    let (mut count, mut more) = (0, Vec::new());
    each_field(message, |number, wire, _| {
        match (number, wire) {
            (1, Wire::Bytes(volume)) if !stands_for_claim(volume)? => {}
            (2, Wire::Bytes(container)) => read_ports(container, &mut ports)?,
            (10, Wire::Bytes(bytes)) => node = text(bytes)?,
            (16, Wire::Bytes(bytes)) => hostname = text(bytes)?,
            (17, Wire::Bytes(bytes)) => subdomain = text(bytes)?,
            (22, Wire::Bytes(toleration)) => {
                let toleration = Tolerated::of(toleration)?;
                if matches!(toleration.effect, "" | "NoExecute") {
                    match first.get_mut(count) {
                        Some(place) => *place = toleration,
                        None => more.push(toleration),
                    }
                    count += 1;
                }
            }
            // Volumes of claims, affinity and resource claims, or a field in another form.
            (1 | 2 | 10 | 16 | 17 | 18 | 22 | 39, _) => return None,
            _ => {}
        }
        Some(())
    })?;
    pod.node_name = node.into();
    pod.ports = ports.into();
    if !hostname.is_empty() || !subdomain.is_empty() {
        pod.dns = Some(Box::new((hostname.to_owned(), subdomain.to_owned())));
    }
    let is_default = count == 2
        && first[0].is_default("node.kubernetes.io/not-ready")
        && first[1].is_default("node.kubernetes.io/unreachable");
    if !is_default {
        let all = first.iter().take(count).chain(&more);
        pod.tolerations = Some(all.map(Tolerated::kept).collect());
    }
    Some(())
}

/// Whether a claim stands for a volume, by name or made from a template.
fn stands_for_claim(volume: &[u8]) -> Option<bool> {
    const SOURCE: u32 = 2;
    const PERSISTENT_VOLUME_CLAIM: u32 = 10;
    const EPHEMERAL: u32 = 29;
    let mut found = false;
    each_field(volume, |number, wire, _| {
        if let (SOURCE, Wire::Bytes(source)) = (number, wire) {
            each_field(source, |number, _, _| {
                found |= matches!(number, PERSISTENT_VOLUME_CLAIM | EPHEMERAL);
                Some(())
            })?;
        }
        Some(())
    })?;
    Some(found)
}

fn read_ports(container: &[u8], ports: &mut Vec<NamedPort>) -> Option<()> {
    each_field(container, |number, wire, _| {
        let port = match (number, wire) {
            (6, Wire::Bytes(port)) => port,
            (6, _) => return None,
            _ => return Some(()),
        };
        let ([mut name, mut protocol], mut port_number) = ([""; 2], 0);
        each_field(port, |number, wire, _| {
            match (number, wire) {
                (1, Wire::Bytes(bytes)) => name = text(bytes)?,
                (3, Wire::Varint(value)) => port_number = value.cast_signed(),
                (4, Wire::Bytes(bytes)) => protocol = text(bytes)?,
                (1 | 3 | 4, _) => return None,
                _ => {}
            }
            Some(())
        })?;
        if !name.is_empty() {
            ports.push(NamedPort {
                name: name.into(),
                protocol: if protocol.is_empty() { "TCP" } else { protocol }.into(),
                port: i32::try_from(port_number).ok()?,
            });
        }
        Some(())
    })
}

/// A toleration as it stands there.
#[derive(Default)]
struct Tolerated<'a> {
    key: &'a str,
    operator: &'a str,
    value: &'a str,
    effect: &'a str,
    seconds: Option<i64>,
}

impl<'a> Tolerated<'a> {
    fn of(message: &'a [u8]) -> Option<Tolerated<'a>> {
        let mut toleration = Tolerated::default();
        each_field(message, |number, wire, _| {
            match (number, wire) {
                (1, Wire::Bytes(bytes)) => toleration.key = text(bytes)?,
                (2, Wire::Bytes(bytes)) => toleration.operator = text(bytes)?,
                (3, Wire::Bytes(bytes)) => toleration.value = text(bytes)?,
                (4, Wire::Bytes(bytes)) => toleration.effect = text(bytes)?,
                (5, Wire::Varint(value)) => toleration.seconds = Some(value.cast_signed()),
                _ => return None,
            }
            Some(())
        })?;
        Some(toleration)
    }

    /// One of the two that admission gives every pod.
    fn is_default(&self, key: &str) -> bool {
        self.key == key && self.operator == "Exists" && self.seconds == Some(300)
    }

    fn kept(&self) -> Toleration {
        Toleration {
            key: self.key.into(),
            value: (self.operator != "Exists").then(|| self.value.into()),
            seconds: self.seconds,
        }
    }
}

fn read_status(message: &[u8], pod: &mut Pod) -> Option<()> {
    let mut restarts = 0i64;
    let mut is_ready_known = false;
    each_field(message, |number, wire, _| {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => {
                pod.phase = match text(bytes)? {
                    "Running" => Phase::Running,
                    "Unknown" => Phase::Unknown,
                    "Succeeded" | "Failed" => return None,
                    _ => Phase::Pending,
                };
            }
            (2, Wire::Bytes(condition)) if !is_ready_known => {
                if let Some(since) = ready_since(condition)? {
                    is_ready_known = true;
                    pod.ready_since_micros = since;
                }
            }
            (2, Wire::Bytes(_)) => {}
            (6, Wire::Bytes(bytes)) => pod.ip = text(bytes)?.into(),
            (8, Wire::Bytes(status)) => {
                each_field(status, |number, wire, _| {
                    if let (5, Wire::Varint(value)) = (number, wire) {
                        restarts = restarts.saturating_add(value.cast_signed());
                    }
                    Some(())
                })?;
            }
            // Resource claims, or a field in another form.
            (1 | 2 | 6 | 8 | 15 | 18, _) => return None,
            _ => {}
        }
        Some(())
    })?;
    pod.restarts = i32::try_from(restarts).unwrap_or(i32::MAX);
    Some(())
}

/// Since when a condition says that the pod is ready, if it is the one that says it. The outer `None`: broken.
fn ready_since(condition: &[u8]) -> Option<Option<Option<i64>>> {
    let [mut kind, mut status] = [""; 2];
    let mut since: &[u8] = b"";
    each_field(condition, |number, wire, _| {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => kind = text(bytes)?,
            (2, Wire::Bytes(bytes)) => status = text(bytes)?,
            (4, Wire::Bytes(time)) => since = time,
            (1 | 2 | 4, _) => return None,
            _ => {}
        }
        Some(())
    })?;
    if kind != "Ready" {
        return Some(None);
    }
    let since = time_micros(since)?.unwrap_or(0);
    Some(Some((status == "True").then_some(since)))
}

/// An entry of a map of texts.
fn pair(entry: &[u8]) -> Option<(&str, &str)> {
    let (mut key, mut value) = ("", "");
    each_field(entry, |number, wire, _| {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, Wire::Bytes(bytes)) => value = text(bytes)?,
            _ => return None,
        }
        Some(())
    })?;
    Some((key, value))
}

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;

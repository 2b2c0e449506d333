//! What decides besides nodes and pods: namespaces, Services and the makers of pods, disruption budgets, what
//! volumes are made of, and devices with the claims to them.
//!
//! One reflector a resource; what they tell comes over one channel and goes on to the cluster. Does not know
//! nodes or pods, nor what the cluster makes of it.

use client::{Change, Client, Mirror, Reflector};
use meta::Value;
use placement::{Budget, Concerned, MakerKind, Pairs, Thing, ThingKind};
use tokio::sync::mpsc;

use crate::devices::{self, Devices};
use crate::shards::Placer;

/// Facts that may wait between the reflectors and the scheduler, beyond those that wait in each reflector.
const FACTS_WAITING_MAX: usize = 1_024;

const STORAGE: &str = "storage.k8s.io";

/// Where a fact comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    Namespaces,
    Makers(MakerKind),
    Budgets,
    Storage(ThingKind),
    Devices(devices::Kind),
}

const SOURCES: [(Source, &str, &str); 16] = [
    (Source::Namespaces, "", "namespaces"),
    (Source::Makers(MakerKind::Service), "", "services"),
    (
        Source::Makers(MakerKind::ReplicationController),
        "",
        "replicationcontrollers",
    ),
    (Source::Makers(MakerKind::ReplicaSet), "apps", "replicasets"),
    (
        Source::Makers(MakerKind::StatefulSet),
        "apps",
        "statefulsets",
    ),
    (Source::Budgets, "policy", "poddisruptionbudgets"),
    (
        Source::Storage(ThingKind::Claims),
        "",
        "persistentvolumeclaims",
    ),
    (Source::Storage(ThingKind::Volumes), "", "persistentvolumes"),
    (
        Source::Storage(ThingKind::Classes),
        STORAGE,
        "storageclasses",
    ),
    (Source::Storage(ThingKind::CsiNodes), STORAGE, "csinodes"),
    (Source::Storage(ThingKind::Drivers), STORAGE, "csidrivers"),
    (
        Source::Storage(ThingKind::Capacities),
        STORAGE,
        "csistoragecapacities",
    ),
    (
        Source::Storage(ThingKind::Attachments),
        STORAGE,
        "volumeattachments",
    ),
    (
        Source::Devices(devices::Kind::Claims),
        "resource.k8s.io",
        "resourceclaims",
    ),
    (
        Source::Devices(devices::Kind::Slices),
        "resource.k8s.io",
        "resourceslices",
    ),
    (
        Source::Devices(devices::Kind::Classes),
        "resource.k8s.io",
        "deviceclasses",
    ),
];

/// What is kept of an object.
#[derive(Debug)]
pub(crate) enum Fact {
    Labels(Pairs),
    Selector(MakerKind, Value),
    Budget(Budget),
    Thing(Thing),
    Device(devices::Thing),
}

/// What a fact means for pods that wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Labels of a namespace are others now.
    Namespaces,
    /// Pods with volumes may go elsewhere now.
    Storage(Concerned),
    /// The same of resource claims.
    Devices(devices::Concerned),
}

/// One change, with the place of its source.
pub(crate) type Told = (usize, Change<Fact>);

/// The names of what there is, so that what a list no longer shows is known to be gone.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    mirrors: [Mirror<()>; SOURCES.len()],
    pub(crate) devices: Devices,
}

/// Starts the reflectors on the current runtime. They end when the receiver is dropped.
pub(crate) fn follow(client: &Client) -> mpsc::Receiver<Told> {
    let (sender, receiver) = mpsc::channel(FACTS_WAITING_MAX);
    for (place, (source, group, resource)) in SOURCES.into_iter().enumerate() {
        let resource = crate::work::resource(group, resource);
        let reflector = Reflector::new(client.clone(), resource);
        let reflector = match source {
            // Servers older than 1.21, 1.24 or 1.34 do not know this version of budgets, capacities or devices.
            Source::Budgets | Source::Storage(ThingKind::Capacities) | Source::Devices(_) => {
                reflector.optional()
            }
            _ => reflector,
        };
        let mut changes = reflector.spawn(move |object| fact(source, &object));
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Some(change) = changes.recv().await {
                if sender.send((place, change)).await.is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

fn fact(source: Source, object: &Value) -> Fact {
    match source {
        Source::Namespaces => Fact::Labels(placement::pairs(&object["metadata"]["labels"])),
        Source::Makers(kind) => Fact::Selector(kind, object["spec"]["selector"].clone()),
        Source::Budgets => Fact::Budget(Budget::from_object(object)),
        Source::Storage(kind) => Fact::Thing(Thing::read(kind, object)),
        Source::Devices(kind) => Fact::Device(devices::Thing::read(kind, object)),
    }
}

impl Surroundings {
    /// Whether everything has been listed once.
    pub(crate) fn is_synced(&self) -> bool {
        self.mirrors.iter().all(Mirror::is_synced)
    }

    /// Takes in a change; says what it means.
    pub(crate) fn take(&mut self, (place, change): Told, cluster: &mut Placer) -> Vec<Heard> {
        let (Some((source, ..)), Some(mirror)) = (SOURCES.get(place), self.mirrors.get_mut(place))
        else {
            return Vec::new();
        };
        let devices = &mut self.devices;
        let mut heard = Vec::new();
        let change = change.map(|key, fact| heard.extend(note(key, fact, cluster, devices)));
        for key in mirror.take_name(change) {
            heard.extend(forget(*source, &key, cluster, devices));
        }
        heard
    }
}

fn note(key: &str, fact: Fact, cluster: &mut Placer, devices: &mut Devices) -> Vec<Heard> {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    match fact {
        Fact::Labels(labels) => {
            let changed = cluster.upsert_namespace(name, labels);
            return changed.then_some(Heard::Namespaces).into_iter().collect();
        }
        Fact::Thing(thing) => return heard(cluster.note_thing(key, thing)),
        Fact::Device(thing) => return vec![Heard::Devices(devices.note(key, thing))],
        Fact::Selector(kind, selector) => {
            // Default constraints are soft: a pod that fits nowhere is not helped by others.
            cluster.note_maker(kind, namespace, name, &selector);
        }
        Fact::Budget(budget) => cluster.upsert_budget(budget),
    }
    Vec::new()
}

fn heard(concerned: Vec<Concerned>) -> Vec<Heard> {
    concerned.into_iter().map(Heard::Storage).collect()
}

fn forget(source: Source, key: &str, cluster: &mut Placer, devices: &mut Devices) -> Vec<Heard> {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    match source {
        Source::Namespaces => cluster.remove_namespace(name),
        Source::Makers(kind) => {
            cluster.note_maker(kind, namespace, name, &Value::Null);
        }
        Source::Budgets => cluster.remove_budget(namespace, name),
        Source::Storage(kind) => return heard(cluster.forget_thing(kind, key)),
        Source::Devices(kind) => return vec![Heard::Devices(devices.forget(kind, key))],
    }
    Vec::new()
}

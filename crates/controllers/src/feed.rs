//! The feeds: one reflector a resource, shared by all controllers, each with the smallest projection that serves them.
//!
//! Every resource whose objects can own or be owned is followed, most of them for the garbage collector and for
//! namespace deletion only. Events are not: nothing depends on them, they own nothing, and they are many.
//!
//! Does not know what is made of what it tells.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use client::{Change, Client, Reflector};
use foldhash::quality::RandomState;
use meta::{Value, object};
use reconcile::daemonset::NodeFacts;
use reconcile::devicetaint::SliceTaints;
use reconcile::garbage::{Observation, OwnerReference};
use reconcile::nodelifecycle::NodeView;
use reconcile::volume::{PERSISTENT_VOLUMES, STORAGE_CLASSES};
use reconcile::{Pod, ResourceRef, action};
use schema::Resource;
use tokio::sync::mpsc;

use crate::plain::PlainPods;

/// Changes of one feed that are handed over at a time.
const BATCH_CHANGES_MAX: usize = 256;
/// Batches of all feeds that may wait: with [`BATCH_CHANGES_MAX`], at most 16,384 changes.
const BATCHES_WAITING_MAX: usize = 64;

/// What is read of every object.
const METADATA: [&str; 5] = [
    "metadata.creationTimestamp",
    "metadata.deletionTimestamp",
    "metadata.deletionGracePeriodSeconds",
    "metadata.finalizers",
    "metadata.ownerReferences",
];
/// What [`Pod`] reads beside it. Each text that is not decoded is an allocation that a million pods do not make.
const POD: [&str; 27] = [
    "metadata.labels",
    "metadata.annotations",
    "spec.nodeName",
    "spec.hostname",
    "spec.subdomain",
    "spec.affinity.nodeAffinity",
    "spec.containers.ports.name",
    "spec.containers.ports.protocol",
    "spec.containers.ports.containerPort",
    "spec.tolerations",
    "spec.resourceClaims",
    "spec.volumes.name",
    "spec.volumes.persistentVolumeClaim",
    "spec.volumes.ephemeral",
    "status.phase",
    "status.podIP",
    "status.conditions.type",
    "status.conditions.status",
    "status.conditions.lastTransitionTime",
    "status.containerStatuses.name",
    "status.containerStatuses.restartCount",
    "status.containerStatuses.state.terminated.exitCode",
    "status.containerStatuses.state.terminated.finishedAt",
    "status.initContainerStatuses.name",
    "status.initContainerStatuses.state.terminated.exitCode",
    "status.resourceClaimStatuses",
    "status.extendedResourceClaimStatus.resourceClaimName",
];
/// What [`NodeView`] and [`NodeFacts`] read beside it.
const NODE: [&str; 6] = [
    "metadata.labels",
    "spec.taints",
    "spec.unschedulable",
    "status.conditions.type",
    "status.conditions.status",
    "status.conditions.lastHeartbeatTime",
];
/// What [`SliceTaints`] reads beside it.
const SLICE: [&str; 4] = [
    "spec.driver",
    "spec.pool",
    "spec.devices.name",
    "spec.devices.taints",
];
/// Time between two looks at renewed Leases. A node is given up after 40 s without one.
const LEASE_PACE: Duration = Duration::from_millis(20);

/// Time between two looks at changed pods or nodes where they are few: what happens to many is then looked at together.
const CHANGE_PACE: Duration = Duration::from_millis(2);

pub(crate) const LEASES: ResourceRef = ResourceRef::new("coordination.k8s.io", "v1", "leases");

/// What is kept of the objects of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Metadata only.
    Slim,
    /// [`reconcile::Pod`].
    Pod,
    /// [`NodeView`] and [`NodeFacts`].
    Node,
    /// The time of the last renewal.
    Lease,
    /// [`SliceTaints`].
    Slice,
    /// The whole object: few, and planners write them back.
    Whole,
    /// The whole object if it is the CA certificate's, metadata only otherwise.
    ConfigMap,
}

/// One resource that is followed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Feed {
    pub(crate) resource: &'static Resource,
    pub(crate) reference: ResourceRef,
    pub(crate) shape: Shape,
}

/// An object as a feed tells it.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Empty for pods, which have it themselves.
    pub(crate) uid: Box<str>,
    pub(crate) ties: Ties,
    pub(crate) finalizers: Vec<String>,
    pub(crate) version: i64,
    pub(crate) body: SeenBody,
}

/// What the garbage collector looks at, beside who it is. Most changes leave it as it was: an [`Observation`] is made of
/// it where it is news.
#[derive(Debug)]
pub(crate) struct Ties {
    pub(crate) owners: Vec<OwnerReference>,
    pub(crate) deleting: bool,
    pub(crate) foreground: bool,
    pub(crate) orphan: bool,
}

impl Seen {
    pub(crate) fn uid(&self) -> &str {
        match &self.body {
            SeenBody::Pod(pod) => &pod.uid,
            _ => &self.uid,
        }
    }
}

impl Ties {
    /// What the garbage collector is told of the object under this key.
    pub(crate) fn observation(self, resource: ResourceRef, key: &str, uid: &str) -> Observation {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        Observation {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            owners: self.owners,
            deleting: self.deleting,
            foreground: self.foreground,
            orphan: self.orphan,
        }
    }
}

/// The part that only some controllers read.
#[derive(Debug)]
pub(crate) enum SeenBody {
    Nothing,
    Pod(Arc<Pod>),
    Node(Box<NodeView>, Box<NodeFacts>),
    Renewed { micros: i64 },
    Slice(Arc<SliceTaints>),
    Whole(Arc<Value>),
}

/// Changes of one feed, in order.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Place in [`feeds`].
    pub(crate) feed: usize,
    pub(crate) changes: Vec<Change<Seen>>,
}

/// Every resource that is followed.
pub(crate) fn feeds() -> &'static [Feed] {
    static FEEDS: LazyLock<Vec<Feed>> = LazyLock::new(|| {
        let mut feeds: Vec<Feed> = Vec::new();
        for resource in schema::resources()
            .iter()
            .filter(|resource| is_followed(resource))
        {
            let same = |feed: &&mut Feed| feed.resource.storage == resource.storage;
            let reference = ResourceRef::new(resource.group, resource.version, resource.resource);
            let feed = Feed {
                resource,
                reference,
                shape: shape(reference),
            };
            match feeds.iter_mut().find(same) {
                // Versions of one resource share their objects: one of them is enough, best the stored one.
                Some(other) if resource.version == resource.storage.version => *other = feed,
                Some(_) => {}
                None => feeds.push(feed),
            }
        }
        feeds
    });
    &FEEDS
}

fn is_followed(resource: &Resource) -> bool {
    resource.default_served
        && resource.resource != "events"
        && ["list", "watch", "delete"]
            .iter()
            .all(|verb| resource.verbs.contains(verb))
}

fn shape(resource: ResourceRef) -> Shape {
    match resource {
        action::PODS => Shape::Pod,
        action::NODES => Shape::Node,
        action::CONFIG_MAPS => Shape::ConfigMap,
        LEASES => Shape::Lease,
        action::RESOURCE_SLICES => Shape::Slice,
        action::NAMESPACES
        | action::SERVICES
        | action::REPLICATION_CONTROLLERS
        | action::REPLICA_SETS
        | action::DEPLOYMENTS
        | action::DAEMON_SETS
        | action::STATEFUL_SETS
        | action::CONTROLLER_REVISIONS
        | action::JOBS
        | action::CRON_JOBS
        | action::ENDPOINT_SLICES
        | action::RESOURCE_CLAIMS
        | action::RESOURCE_CLAIM_TEMPLATES
        | action::PERSISTENT_VOLUME_CLAIMS
        | PERSISTENT_VOLUMES
        | STORAGE_CLASSES => Shape::Whole,
        _ => Shape::Slim,
    }
}

/// What [`project`] reads of an object; everything if none.
fn fields_read(shape: Shape) -> Option<Vec<&'static str>> {
    let more: &[&str] = match shape {
        Shape::Slim => &[],
        Shape::Pod => &POD,
        Shape::Node => &NODE,
        Shape::Lease => &["spec.renewTime"],
        Shape::Slice => &SLICE,
        Shape::Whole | Shape::ConfigMap => return None,
    };
    Some([&METADATA, more].concat())
}

/// A resource by its coordinates.
pub(crate) fn resource_of(reference: ResourceRef) -> Option<&'static Resource> {
    static TABLE: LazyLock<HashMap<ResourceRef, &'static Resource>> = LazyLock::new(|| {
        let all = schema::resources().iter();
        all.map(|resource| {
            (
                ResourceRef::new(resource.group, resource.version, resource.resource),
                resource,
            )
        })
        .collect()
    });
    TABLE.get(&reference).copied()
}

/// The resource of a kind as an owner reference names it.
pub(crate) fn resource_of_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    schema::resources().iter().find(|resource| {
        (resource.group, resource.version, resource.kind) == (group, version, kind)
    })
}

/// Starts every feed.
pub(crate) fn start(client: &Client) -> mpsc::Receiver<Batch> {
    let (sender, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
    for (index, feed) in feeds().iter().copied().enumerate() {
        let reflector = Reflector::new(client.clone(), feed.resource);
        let project = move |object| project(feed, object);
        let reflector = match fields_read(feed.shape) {
            Some(fields) => reflector.only(&fields),
            None => reflector,
        };
        let reflector = match feed.shape {
            Shape::Node => {
                let reflector = reflector.ignoring(&["status.conditions.lastHeartbeatTime"]);
                reflector.paced(CHANGE_PACE)
            }
            Shape::Lease => reflector.ignoring(&["spec.renewTime"]).paced(LEASE_PACE),
            Shape::Pod => reflector.paced(CHANGE_PACE),
            _ => reflector,
        };
        let mut changes = if feed.shape == Shape::Pod {
            let mut plain = PlainPods::default();
            reflector.spawn_reading(
                move |message, version| plain.read(message, version),
                project,
            )
        } else {
            reflector.spawn(project)
        };
        let sender = sender.clone();
        tokio::spawn(async move {
            loop {
                let mut batch = Vec::new();
                let count = tokio::select! {
                    count = changes.recv_many(&mut batch, BATCH_CHANGES_MAX) => count,
                    // Nobody listens any more: the reflector behind us must hear of it.
                    () = sender.closed() => return,
                };
                if count == 0
                    || sender
                        .send(Batch {
                            feed: index,
                            changes: batch,
                        })
                        .await
                        .is_err()
                {
                    return;
                }
            }
        });
    }
    receiver
}

pub(crate) fn project(feed: Feed, value: Value) -> Seen {
    let observation = Observation::from_object(feed.reference, &value);
    let keep_whole = match feed.shape {
        Shape::Whole => true,
        Shape::ConfigMap => object::name(&value) == reconcile::serviceaccount::ROOT_CA_CONFIG_MAP,
        _ => false,
    };
    Seen {
        // Finalizers are only counted on what is going away.
        finalizers: if observation.deleting {
            object::finalizers(&value).map(str::to_owned).collect()
        } else {
            Vec::new()
        },
        version: version_of(&value),
        body: match feed.shape {
            Shape::Pod => SeenBody::Pod(Arc::new(Pod::from_object(&value))),
            Shape::Node => SeenBody::Node(
                Box::new(NodeView::from_object(&value)),
                Box::new(NodeFacts::from_object(&value)),
            ),
            Shape::Slice => SeenBody::Slice(Arc::new(SliceTaints::from_object(&value))),
            Shape::Lease => {
                let renewed = object::str_at(&value, &["spec", "renewTime"]);
                SeenBody::Renewed {
                    micros: renewed
                        .and_then(|text| meta::time::parse(text).ok())
                        .unwrap_or(0),
                }
            }
            _ if keep_whole => SeenBody::Whole(Arc::new(value)),
            _ => SeenBody::Nothing,
        },
        uid: match feed.shape {
            Shape::Pod => Box::default(),
            _ => observation.uid.into(),
        },
        ties: Ties {
            owners: observation.owners,
            deleting: observation.deleting,
            foreground: observation.foreground,
            orphan: observation.orphan,
        },
    }
}

/// The version of an object as a number; 0 if it is none, and then nothing waits for it.
pub(crate) fn version_of(value: &Value) -> i64 {
    object::resource_version(value).parse().unwrap_or(0)
}

/// Changes when anything changes that the garbage collector looks at. Of this process only.
pub(crate) fn fingerprint(uid: &str, ties: &Ties) -> u64 {
    static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    let mut hasher = STATE.build_hasher();
    (uid, ties.deleting, ties.foreground, ties.orphan).hash(&mut hasher);
    for owner in &ties.owners {
        (&owner.uid, owner.block).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn each_kind_is_followed_once_and_events_are_not() {
        let names: Vec<String> = feeds()
            .iter()
            .map(|feed| feed.reference.to_string())
            .collect();
        let unique: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!(names.len(), unique.len());
        for wanted in [
            "pods",
            "leases.coordination.k8s.io",
            "deployments.apps",
            "horizontalpodautoscalers.autoscaling",
        ] {
            assert!(
                names.iter().any(|name| name == wanted),
                "{wanted} is missing"
            );
        }
        assert!(!names.iter().any(|name| name.starts_with("events")));
    }

    #[test]
    fn a_renewal_changes_the_time_but_not_the_fingerprint() {
        let feed = *feeds()
            .iter()
            .find(|feed| feed.shape == Shape::Lease)
            .unwrap();
        let lease = |time: &str, owner: &str| {
            let object = json!({"metadata": {"name": "n", "namespace": "kube-node-lease", "uid": "u", "resourceVersion": "7",
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": owner}]},
                "spec": {"renewTime": time}});
            let seen = project(feed, object);
            let SeenBody::Renewed { micros } = seen.body else {
                panic!("not a lease")
            };
            (seen.version, micros, fingerprint(seen.uid(), &seen.ties))
        };
        let (version, first, print) = lease("1970-01-01T00:00:01.000000Z", "a");
        assert_eq!((version, first), (7, 1_000_000));
        assert_eq!(
            lease("1970-01-01T00:00:02.500000Z", "a"),
            (7, 2_500_000, print)
        );
        assert_ne!(lease("1970-01-01T00:00:01.000000Z", "b").2, print);
    }

    /// An object is projected the same, whether all of it was decoded or what the feed asks for.
    #[test]
    fn a_projection_reads_nothing_but_what_is_decoded_for_it() {
        let metadata = json!({"name": "x", "namespace": "d", "uid": "u", "resourceVersion": "7", "generateName": "g-",
            "labels": {"a": "b", "topology.kubernetes.io/zone": "z"}, "finalizers": ["foregroundDeletion"],
            "annotations": {"controller.kubernetes.io/pod-deletion-cost": "3", "batch.kubernetes.io/job-completion-index": "2"},
            "creationTimestamp": "2026-01-02T03:04:05Z", "deletionTimestamp": "2026-01-02T03:04:06Z",
            "deletionGracePeriodSeconds": 30, "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n",
            "uid": "o", "controller": true, "blockOwnerDeletion": true}], "managedFields": [{"manager": "m"}]});
        let ended = json!({"name": "c", "restartCount": 4, "state": {"terminated": {"exitCode": 3, "finishedAt": "2026-01-02T03:04:07Z"}}});
        let pod = |node: &str| {
            json!({"metadata": metadata, "spec": {"nodeName": node, "hostname": "h", "subdomain": "s",
            "containers": [{"name": "c", "image": "i", "ports": [{"name": "p", "containerPort": 80, "protocol": "TCP"}]}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
                [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}}},
            "resourceClaims": [{"name": "r", "resourceClaimTemplateName": "t"}],
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "t", "emptyDir": {}},
                {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}}],
            "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]},
            "status": {"phase": "Failed", "podIP": "10.0.0.1", "resourceClaimStatuses": [{"name": "r", "resourceClaimName": "x-r"}], "extendedResourceClaimStatus": {"resourceClaimName": "x-e", "requestMappings": []}, "containerStatuses": [ended], "initContainerStatuses": [ended],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:08Z"}]}})
        };
        let node = json!({"metadata": metadata, "spec": {"unschedulable": true, "podCIDR": "10.0.0.0/24",
            "taints": [{"key": "k", "value": "v", "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z"}]},
            "status": {"capacity": {"cpu": "4"}, "conditions": [{"type": "Ready", "status": "False",
            "lastHeartbeatTime": "2026-01-02T03:04:05Z", "lastTransitionTime": "2026-01-02T03:04:05Z"}]}});
        let lease = json!({"metadata": metadata, "spec": {"holderIdentity": "x", "renewTime": "2026-01-02T03:04:05.000006Z"}});
        let slice = json!({"metadata": metadata, "spec": {"driver": "d", "nodeName": "n",
            "pool": {"name": "p", "generation": 2, "resourceSliceCount": 1},
            "devices": [{"name": "a", "attributes": {"x": {"int": 1}}}, {"name": "b", "taints": [
                {"key": "k", "value": "v", "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z"}]}]}});
        for (resource, object) in [
            (action::PODS, pod("")),
            (action::PODS, pod("n")),
            (action::NODES, node),
            (LEASES, lease),
            (action::RESOURCE_SLICES, slice),
            (
                ResourceRef::new("", "v1", "limitranges"),
                json!({"metadata": metadata, "spec": {"limits": [{"type": "Pod"}]}}),
            ),
        ] {
            let feed = *feeds()
                .iter()
                .find(|feed| feed.reference == resource)
                .unwrap();
            let fields = fields_read(feed.shape).unwrap();
            let only = client::Only::new(feed.resource, &fields).unwrap();
            let mut message = Vec::new();
            schema::encode_protobuf(feed.resource.type_id, &object, &mut message).unwrap();
            let part = only.decode(&message).unwrap();
            let whole = schema::decode_protobuf(feed.resource.type_id, &message).unwrap();
            assert_ne!(part, whole, "{resource}");
            assert_eq!(
                format!("{:?}", project(feed, part)),
                format!("{:?}", project(feed, whole))
            );
        }
    }

    #[test]
    fn owners_are_found_by_kind() {
        let found = |api_version, kind| {
            resource_of_kind(api_version, kind).map(|resource| resource.resource)
        };
        assert_eq!(found("apps/v1", "ReplicaSet"), Some("replicasets"));
        assert_eq!(found("v1", "Node"), Some("nodes"));
        assert_eq!(found("example.com/v1", "Widget"), None);
    }
}

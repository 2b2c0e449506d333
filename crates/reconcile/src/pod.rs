//! A pod as controllers see it: the few facts they decide on, in a few hundred bytes.
//!
//! Knows no controller. Whatever a planner needs of a pod's spec is read once, at projection time.

use foldhash::quality::RandomState;
use meta::{Value, object, time};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

/// Label sets an interner keeps before it starts afresh: 64 Ki sets of ~500 B are 32 MiB; with [`LABEL_SET_BYTES_MAX`]
/// they are 128 MiB at most, and what holding them as trees costs.
const LABEL_SETS_MAX: usize = 64 * 1024;
/// Keys and values of a label set that is kept for others; a longer one goes with its pods.
pub const LABEL_SET_BYTES_MAX: usize = 2 * 1024;

/// Finalizer by which the Job controller makes sure that each finished pod is counted once.
pub const JOB_TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not all containers have started.
    Pending,
    /// The node does not answer.
    Unknown,
    /// At least one container runs.
    Running,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, one of them badly.
    Failed,
}

/// A container port with a name, as Services refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// The port's name.
    pub name: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// The number.
    pub port: i32,
}

/// A toleration of NoExecute taints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toleration {
    /// Taint key, empty for every key.
    pub key: Box<str>,
    /// Taint value; None means operator Exists.
    pub value: Option<Box<str>>,
    /// How long the taint is tolerated; None means forever.
    pub seconds: Option<i64>,
}

/// A resource claim as a pod asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodClaim {
    /// Name of the entry in the pod's spec.
    pub name: Box<str>,
    /// The template it is made from; None: the claim is named.
    pub template: Option<Box<str>>,
    /// The claim's name; None: not recorded yet, empty: none is needed.
    pub claim: Option<Box<str>>,
    /// The scheduler made it, for extended resources; no entry of the spec asks for it.
    pub extended: bool,
}

/// A volume of a pod that a claim stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimVolume {
    /// Name of the entry in the pod's spec.
    pub volume: Box<str>,
    /// The claim's name.
    pub claim: Box<str>,
    /// What the claim is made from, if it is made for this pod only.
    pub template: Option<Arc<Value>>,
}

/// Volumes that claims stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimVolumes {
    /// One an entry.
    pub all: Box<[ClaimVolume]>,
    /// The kubelet is done with the pod, or nobody waits for it.
    pub is_shut_down: bool,
}

/// How a failed pod ended, for Jobs' pod failure policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// (container, exit code) of terminated containers.
    pub exits: Vec<(Box<str>, i32)>,
    /// (type, status) of the pod's conditions.
    pub conditions: Vec<(Box<str>, Box<str>)>,
}

/// The projection.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// metadata.namespace.
    pub namespace: Box<str>,
    /// metadata.name.
    pub name: Box<str>,
    /// metadata.uid.
    pub uid: Box<str>,
    /// uid of the owner reference with `controller: true`.
    pub controller_uid: Option<Box<str>>,
    /// metadata.labels, an object or null; share it with [`Labels`].
    pub labels: Arc<Value>,
    /// status.phase; an unset phase is Pending.
    pub phase: Phase,
    /// Since when the Ready condition is True.
    pub ready_since_micros: Option<i64>,
    /// metadata.creationTimestamp.
    pub created_micros: i64,
    /// metadata.deletionTimestamp: the pod is going away.
    pub deletion_micros: Option<i64>,
    /// When the last container ended, if the pod has ended.
    pub finished_micros: Option<i64>,
    /// spec.nodeName, empty while unscheduled.
    pub node_name: Box<str>,
    /// The one node that an unscheduled pod's required affinity asks for by name.
    pub pin: Option<Box<str>>,
    /// status.podIP, empty while there is none.
    pub ip: Box<str>,
    /// spec.hostname and spec.subdomain, where the pod has any.
    pub dns: Option<Box<(String, String)>>,
    /// Named container ports.
    pub ports: Box<[NamedPort]>,
    /// Tolerations of NoExecute taints; None: only the 300 s defaults for not-ready and unreachable.
    pub tolerations: Option<Box<[Toleration]>>,
    /// Present for failed pods.
    pub ending: Option<Box<Ending>>,
    /// Sum of container restarts.
    pub restarts: i32,
    /// Annotation controller.kubernetes.io/pod-deletion-cost.
    pub deletion_cost: i32,
    /// Annotation batch.kubernetes.io/job-completion-index, -1 if none.
    pub completion_index: i32,
    /// Whether [`JOB_TRACKING_FINALIZER`] is set.
    pub job_tracking: bool,
    /// Resource claims.
    pub claims: Box<[PodClaim]>,
    /// Volumes that claims stand for; None for pods that have none.
    pub volumes: Option<Box<ClaimVolumes>>,
}

impl Pod {
    /// Projects a whole pod. Never fails: absent and odd fields read as empty.
    pub fn from_object(pod: &Value) -> Self {
        let text = |path: &[&str]| Box::<str>::from(object::str_at(pod, path).unwrap_or_default());
        let annotation = |name: &str| {
            let text = object::str_at(pod, &["metadata", "annotations", name])?;
            text.parse::<i32>().ok()
        };
        let phase = match object::str_at(pod, &["status", "phase"]).unwrap_or_default() {
            "Running" => Phase::Running,
            "Succeeded" => Phase::Succeeded,
            "Failed" => Phase::Failed,
            "Unknown" => Phase::Unknown,
            _ => Phase::Pending,
        };
        let node_name = text(&["spec", "nodeName"]);
        let hostname = text(&["spec", "hostname"]);
        let subdomain = text(&["spec", "subdomain"]);
        let has_dns = !hostname.is_empty() || !subdomain.is_empty();
        let statuses = items(pod, &["status", "containerStatuses"]);
        let restarts = statuses.iter().fold(0i64, |sum, status| {
            sum.saturating_add(
                status
                    .get("restartCount")
                    .and_then(Value::as_i64)
                    .unwrap_or(0),
            )
        });
        Self {
            namespace: text(&["metadata", "namespace"]),
            name: text(&["metadata", "name"]),
            uid: text(&["metadata", "uid"]),
            controller_uid: controller_uid(pod).map(Box::from),
            labels: Arc::new(
                pod.pointer("/metadata/labels")
                    .cloned()
                    .unwrap_or(Value::Null),
            ),
            phase,
            ready_since_micros: condition(pod, "Ready")
                .filter(|ready| text_of(ready, "status") == "True")
                .map(|ready| micros(ready.get("lastTransitionTime")).unwrap_or(0)),
            created_micros: micros(pod.pointer("/metadata/creationTimestamp")).unwrap_or(0),
            deletion_micros: micros(pod.pointer("/metadata/deletionTimestamp")),
            finished_micros: matches!(phase, Phase::Succeeded | Phase::Failed)
                .then(|| finished_micros(pod))
                .flatten(),
            pin: node_name.is_empty().then(|| pin(pod)).flatten(),
            node_name,
            ip: text(&["status", "podIP"]),
            dns: has_dns.then(|| Box::new((hostname.into(), subdomain.into()))),
            ports: named_ports(pod),
            tolerations: tolerations(pod),
            ending: (phase == Phase::Failed).then(|| Box::new(ending(pod))),
            restarts: i32::try_from(restarts).unwrap_or(i32::MAX),
            deletion_cost: annotation("controller.kubernetes.io/pod-deletion-cost").unwrap_or(0),
            completion_index: annotation("batch.kubernetes.io/job-completion-index").unwrap_or(-1),
            job_tracking: items(pod, &["metadata", "finalizers"])
                .iter()
                .any(|finalizer| finalizer.as_str() == Some(JOB_TRACKING_FINALIZER)),
            claims: claims(pod),
            volumes: claim_volumes(pod),
        }
    }

    /// Volumes that claims stand for.
    pub fn claim_volumes(&self) -> &[ClaimVolume] {
        self.volumes.as_ref().map_or(&[], |volumes| &volumes.all)
    }

    /// Whether a claim may not go because of this pod, which is on a node. A claim made for the pod itself is free once
    /// the pod is shut down: neither would ever go first otherwise. `is_own` tells whether the claim was made for it.
    pub fn holds_claim(&self, name: &str, is_own: bool) -> bool {
        let Some(volumes) = self.volumes.as_ref() else {
            return false;
        };
        let holds = |volume: &ClaimVolume| {
            *volume.claim == *name && (volume.template.is_none() || is_own && !volumes.is_shut_down)
        };
        !self.node_name.is_empty() && volumes.all.iter().any(holds)
    }

    /// The node it is on or meant for, empty if any would do.
    pub fn target_node(&self) -> &str {
        match &self.pin {
            Some(pin) if self.node_name.is_empty() => pin,
            _ => &self.node_name,
        }
    }

    /// Neither ended nor going away.
    pub fn is_active(&self) -> bool {
        !self.has_ended() && self.deletion_micros.is_none()
    }

    /// Succeeded or Failed.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Going away, but its containers may still run.
    pub fn is_terminating(&self) -> bool {
        !self.has_ended() && self.deletion_micros.is_some()
    }

    /// The Ready condition is True.
    pub fn is_ready(&self) -> bool {
        self.ready_since_micros.is_some()
    }

    /// Ready for at least `min_ready_seconds`.
    pub fn is_available(&self, min_ready_seconds: i64, now_micros: i64) -> bool {
        self.ready_since_micros.is_some_and(|since| {
            min_ready_seconds <= 0
                || since.saturating_add(min_ready_seconds.saturating_mul(1_000_000)) <= now_micros
        })
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).and_then(Value::as_str)
    }
}

/// Shares equal label sets between pods: ten thousand replicas have one.
#[derive(Debug, Default)]
pub struct Labels {
    /// By their hash; of two that have the same, the later.
    sets: HashMap<u64, Arc<Value>>,
    state: RandomState,
}

impl Labels {
    /// Replaces the pod's label set by the shared one.
    pub fn share(&mut self, pod: &mut Pod) {
        let texts = pod.labels.as_object().into_iter().flatten();
        let bytes: usize = texts
            .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
            .sum();
        if bytes > LABEL_SET_BYTES_MAX {
            return;
        }
        if self.sets.len() >= LABEL_SETS_MAX {
            self.sets.clear();
        }
        let mut hasher = self.state.build_hasher();
        hash_texts(&pod.labels, &mut hasher);
        let shared = self
            .sets
            .entry(hasher.finish())
            .or_insert_with(|| Arc::clone(&pod.labels));
        if *shared != pod.labels {
            *shared = Arc::clone(&pod.labels);
        }
        pod.labels = Arc::clone(shared);
    }
}

/// Hashes a map of texts, such as labels. What has the same hash still has to be compared.
pub(crate) fn hash_texts(map: &Value, hasher: &mut impl Hasher) {
    for (key, value) in map.as_object().into_iter().flatten() {
        (key, value.as_str()).hash(hasher);
    }
}

pub(crate) use meta::object::array_at as items;

/// The text of a field, empty if there is none.
pub(crate) fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A timestamp field.
pub(crate) fn micros(value: Option<&Value>) -> Option<i64> {
    value
        .and_then(Value::as_str)
        .and_then(|text| time::parse(text).ok())
}

fn claims(pod: &Value) -> Box<[PodClaim]> {
    let statuses = items(pod, &["status", "resourceClaimStatuses"]);
    let of = |claim: &Value| {
        let text = |field: &str| claim.get(field).and_then(Value::as_str);
        let name = text("name").unwrap_or_default();
        let mut recorded = statuses.iter();
        let recorded = recorded.find(|status| text_of(status, "name") == name);
        PodClaim {
            name: name.into(),
            template: text("resourceClaimTemplateName").map(Box::from),
            claim: match text("resourceClaimName") {
                Some(named) => Some(named.into()),
                None => recorded.map(|status| text_of(status, "resourceClaimName").into()),
            },
            extended: false,
        }
    };
    let claims = items(pod, &["spec", "resourceClaims"]).iter().map(of);
    let extended = ["status", "extendedResourceClaimStatus", "resourceClaimName"];
    let extended = object::str_at(pod, &extended).map(|name| PodClaim {
        name: Box::default(),
        template: None,
        claim: Some(name.into()),
        extended: true,
    });
    claims.chain(extended).collect()
}

fn claim_volumes(pod: &Value) -> Option<Box<ClaimVolumes>> {
    let of = |volume: &Value| {
        let name = text_of(volume, "name");
        let named = object::str_at(volume, &["persistentVolumeClaim", "claimName"]);
        let template = object::at(volume, &["ephemeral", "volumeClaimTemplate"]);
        Some(ClaimVolume {
            volume: name.into(),
            claim: match named {
                Some(claim) => claim.into(),
                None if template.is_object() => {
                    let pod = object::name(pod);
                    format!("{pod}-{name}").into()
                }
                None => return None,
            },
            template: template.is_object().then(|| Arc::new(template.clone())),
        })
    };
    let volumes = items(pod, &["spec", "volumes"]).iter().filter_map(of);
    let all: Box<[ClaimVolume]> = volumes.collect();
    let grace = object::i64_at(pod, &["metadata", "deletionGracePeriodSeconds"]);
    let is_shut_down = object::is_deleting(pod) && grace == Some(0);
    (!all.is_empty()).then(|| Box::new(ClaimVolumes { all, is_shut_down }))
}

/// The entry of `status.conditions` of a type.
pub(crate) fn condition<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    items(value, &["status", "conditions"])
        .iter()
        .find(|condition| text_of(condition, "type") == kind)
}

/// uid of the owner reference with `controller: true`.
pub(crate) fn controller_uid(value: &Value) -> Option<&str> {
    items(value, &["metadata", "ownerReferences"])
        .iter()
        .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))
        .map(|owner| text_of(owner, "uid"))
}

fn pin(pod: &Value) -> Option<Box<str>> {
    let path = [
        "spec",
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ];
    let [term] = items(pod, &path) else {
        return None;
    };
    let [field] = items(term, &["matchFields"]) else {
        return None;
    };
    let asks = text_of(field, "key") == "metadata.name" && text_of(field, "operator") == "In";
    match items(field, &["values"]) {
        [name] if asks => name.as_str().map(Box::from),
        _ => None,
    }
}

fn finished_micros(pod: &Value) -> Option<i64> {
    let ends = items(pod, &["status", "containerStatuses"])
        .iter()
        .filter_map(|status| micros(status.pointer("/state/terminated/finishedAt")));
    ends.max().or_else(|| {
        micros(condition(pod, "Ready").and_then(|ready| ready.get("lastTransitionTime")))
    })
}

fn named_ports(pod: &Value) -> Box<[NamedPort]> {
    let containers = items(pod, &["spec", "containers"]).iter();
    let ports = containers.flat_map(|container| items(container, &["ports"]));
    ports
        .filter(|port| !text_of(port, "name").is_empty())
        .map(|port| NamedPort {
            name: text_of(port, "name").into(),
            protocol: match text_of(port, "protocol") {
                "" => "TCP".into(),
                protocol => protocol.into(),
            },
            port: port
                .get("containerPort")
                .and_then(Value::as_i64)
                .and_then(|port| i32::try_from(port).ok())
                .unwrap_or(0),
        })
        .collect()
}

fn tolerations(pod: &Value) -> Option<Box<[Toleration]>> {
    let all: Vec<Toleration> = items(pod, &["spec", "tolerations"])
        .iter()
        .filter(|toleration| matches!(text_of(toleration, "effect"), "" | "NoExecute"))
        .map(|toleration| Toleration {
            key: text_of(toleration, "key").into(),
            value: (text_of(toleration, "operator") != "Exists")
                .then(|| text_of(toleration, "value").into()),
            seconds: toleration.get("tolerationSeconds").and_then(Value::as_i64),
        })
        .collect();
    let is_default = |toleration: &Toleration, key: &str| {
        &*toleration.key == key && toleration.value.is_none() && toleration.seconds == Some(300)
    };
    let defaults = all.len() == 2
        && is_default(&all[0], "node.kubernetes.io/not-ready")
        && is_default(&all[1], "node.kubernetes.io/unreachable");
    (!defaults).then(|| all.into())
}

fn ending(pod: &Value) -> Ending {
    let statuses = items(pod, &["status", "containerStatuses"]).iter();
    let statuses = statuses.chain(items(pod, &["status", "initContainerStatuses"]));
    let exit = |status: &Value| {
        let code = status.pointer("/state/terminated/exitCode")?.as_i64()?;
        Some((text_of(status, "name").into(), i32::try_from(code).ok()?))
    };
    Ending {
        exits: statuses.filter_map(exit).collect(),
        conditions: items(pod, &["status", "conditions"])
            .iter()
            .map(|condition| {
                (
                    text_of(condition, "type").into(),
                    text_of(condition, "status").into(),
                )
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use value::json;

    #[test]
    fn a_projection_holds_what_controllers_decide_on() {
        let pod = Pod::from_object(&json!({
            "metadata": {"name": "web-1", "namespace": "default", "uid": "u1", "labels": {"app": "web"},
                "creationTimestamp": "1970-01-01T00:00:05Z", "finalizers": ["batch.kubernetes.io/job-tracking"],
                "annotations": {"batch.kubernetes.io/job-completion-index": "7"},
                "ownerReferences": [{"uid": "other"}, {"uid": "rs", "controller": true}]},
            "spec": {"nodeName": "n1", "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
                "containers": [{"ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [{"restartCount": 2}, {"restartCount": 1}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:09Z"}]}}));
        assert_eq!(pod.controller_uid.as_deref(), Some("rs"));
        assert_eq!(
            (pod.created_micros, pod.ready_since_micros),
            (5_000_000, Some(9_000_000))
        );
        assert_eq!(
            (pod.restarts, pod.completion_index, pod.job_tracking),
            (3, 7, true)
        );
        assert_eq!(pod.ports.len(), 1);
        assert_eq!(pod.tolerations, None);
        assert!(
            pod.is_active()
                && pod.is_available(10, 19_000_000)
                && !pod.is_available(10, 18_999_999)
        );
    }

    #[test]
    fn a_projection_is_small_and_labels_are_shared() {
        assert!(
            std::mem::size_of::<Pod>() <= 320,
            "{} bytes",
            std::mem::size_of::<Pod>()
        );
        let mut labels = Labels::default();
        let object = json!({"metadata": {"labels": {"app": "web"}}});
        let (mut one, mut two) = (Pod::from_object(&object), Pod::from_object(&object));
        labels.share(&mut one);
        labels.share(&mut two);
        assert!(Arc::ptr_eq(&one.labels, &two.labels));
    }

    #[test]
    fn what_is_long_is_not_kept_for_others() {
        let mut labels = Labels::default();
        let value = "v".repeat(LABEL_SET_BYTES_MAX);
        let mut pod = Pod::from_object(&json!({"metadata": {"labels": {"app": value}}}));
        labels.share(&mut pod);
        assert_eq!(pod.label("app"), Some(&*value));
        assert!(labels.sets.is_empty());
        assert_eq!(Arc::strong_count(&pod.labels), 1);
    }
}

//! Claims, volumes and their classes, as far as they decide where a pod can go; and what that comes to for a pod.
//!
//! ```text
//!   claim bound ─────────────────────► where its volume can be reached, and its zone
//!   claim waits for its first pod ───► where the class can make volumes; made once the pod has its node
//!   anything else ───────────────────► the pod cannot go anywhere yet
//! ```
//!
//! Does not know nodes, and makes no requests.

use std::collections::HashMap;

use meta::Value;
use placement::{PodInfo, Requirement, SelectorOperator, Term, VolumeReason, VolumeRule, Volumes};

/// The provisioner of classes whose volumes are made by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// On which node the volume of a claim is to be made.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Says that the binding of a claim is complete.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Names a class where the field does not.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// Labels of zones and regions, and what each is called otherwise.
const ZONE_LABELS: [(&str, &str); 4] = [
    (
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    (
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/zone",
    ),
    (
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/region",
    ),
];

/// What is kept of a claim.
#[derive(Debug)]
pub(crate) struct Claim {
    class: Box<str>,
    volume: Box<str>,
    bound: bool,
    lost: bool,
    deleting: bool,
    selected_node: Box<str>,
    /// Uid of the pod that it was made for, if that is its controller.
    owner: Box<str>,
}

/// What is kept of a volume.
#[derive(Debug)]
pub(crate) struct Volume {
    /// `namespace/name` of its claim.
    claim: Box<str>,
    affinity: Option<Vec<Term>>,
    zones: Vec<Vec<Term>>,
}

/// What is kept of a class.
#[derive(Debug)]
pub(crate) struct Class {
    provisioner: Box<str>,
    waits: bool,
    topologies: Vec<Term>,
}

/// A claim, volume or class that came or changed.
#[derive(Debug)]
pub(crate) enum Thing {
    Claim(Claim),
    Volume(Volume),
    Class(Class),
}

/// Which kind of them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Claims,
    Volumes,
    Classes,
}

/// Whom a change concerns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Concerned {
    /// Pods with this claim, by `namespace/name`.
    Claim(Box<str>),
    /// Pods with any.
    Everybody,
}

/// What a pod's claims come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) volumes: Volumes,
    /// Claims whose volumes are made where the pod goes.
    pub(crate) to_make: Vec<Box<str>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    claims: HashMap<Box<str>, Claim>,
    volumes: HashMap<Box<str>, Volume>,
    classes: HashMap<Box<str>, Class>,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl Thing {
    pub(crate) fn read(kind: Kind, object: &Value) -> Thing {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let annotations = &metadata["annotations"];
        match kind {
            Kind::Claims => {
                let owners = metadata["ownerReferences"].as_array();
                let mut owners = owners.into_iter().flatten();
                let controller = owners.find(|owner| owner["controller"] == true);
                let class = match text(&annotations[CLASS_ANNOTATION]) {
                    "" => text(&spec["storageClassName"]),
                    annotated => annotated,
                };
                Thing::Claim(Claim {
                    class: class.into(),
                    volume: text(&spec["volumeName"]).into(),
                    bound: !text(&spec["volumeName"]).is_empty()
                        && annotations[BIND_COMPLETED].is_string(),
                    lost: object["status"]["phase"] == "Lost",
                    deleting: !metadata["deletionTimestamp"].is_null(),
                    selected_node: text(&annotations[SELECTED_NODE]).into(),
                    owner: controller.map_or("", |owner| text(&owner["uid"])).into(),
                })
            }
            Kind::Volumes => {
                let claim = &spec["claimRef"];
                let claim = format!("{}/{}", text(&claim["namespace"]), text(&claim["name"]));
                // The same form as that of a pod's node affinity, under another name.
                let required = &spec["nodeAffinity"]["required"];
                let affinity = serde_json::json!({
                    "requiredDuringSchedulingIgnoredDuringExecution": required});
                Thing::Volume(Volume {
                    claim: claim.into(),
                    affinity: placement::required_terms(&affinity),
                    zones: zones(&metadata["labels"]),
                })
            }
            Kind::Classes => {
                let topologies = object["allowedTopologies"].as_array();
                Thing::Class(Class {
                    provisioner: text(&object["provisioner"]).into(),
                    waits: object["volumeBindingMode"] == "WaitForFirstConsumer",
                    topologies: topologies.into_iter().flatten().map(topology).collect(),
                })
            }
        }
    }
}

fn requirement(key: &str, operator: SelectorOperator, values: Vec<Box<str>>) -> Requirement {
    Requirement {
        key: key.into(),
        operator,
        values,
    }
}

fn topology(term: &Value) -> Term {
    let expressions = term["matchLabelExpressions"].as_array();
    let expressions = expressions.into_iter().flatten().map(|e| {
        let values = e["values"].as_array().into_iter().flatten();
        let values = values.map(|v| text(v).into()).collect();
        requirement(text(&e["key"]), SelectorOperator::In, values)
    });
    Term {
        expressions: expressions.collect(),
        ..Term::default()
    }
}

/// For each zone or region of a volume: nodes with one of its values, under either name of the label, or nodes
/// that know no zones at all.
fn zones(labels: &Value) -> Vec<Vec<Term>> {
    let label = |key: &str| labels[key].as_str();
    let zoneless = Term {
        expressions: ZONE_LABELS
            .map(|(key, _)| requirement(key, SelectorOperator::DoesNotExist, Vec::new()))
            .into(),
        ..Term::default()
    };
    ZONE_LABELS
        .iter()
        .filter_map(|(key, other)| {
            let values: Vec<Box<str>> = label(key)?.split("__").map(Into::into).collect();
            let own = requirement(key, SelectorOperator::In, values.clone());
            let without = requirement(key, SelectorOperator::DoesNotExist, Vec::new());
            let renamed = requirement(other, SelectorOperator::In, values);
            let term = |expressions| Term {
                expressions,
                ..Term::default()
            };
            Some(vec![
                term(vec![own]),
                term(vec![without, renamed]),
                zoneless.clone(),
            ])
        })
        .collect()
}

impl Storage {
    /// Takes in one that came or changed.
    pub(crate) fn note(&mut self, key: &str, thing: Thing) -> Concerned {
        match thing {
            Thing::Claim(claim) => {
                self.claims.insert(key.into(), claim);
                Concerned::Claim(key.into())
            }
            Thing::Volume(volume) => {
                let claim = volume.claim.clone();
                self.volumes.insert(key.into(), volume);
                Concerned::Claim(claim)
            }
            Thing::Class(class) => {
                self.classes.insert(key.into(), class);
                Concerned::Everybody
            }
        }
    }

    /// One is gone.
    pub(crate) fn forget(&mut self, kind: Kind, key: &str) -> Concerned {
        match kind {
            Kind::Claims => {
                self.claims.remove(key);
                Concerned::Claim(key.into())
            }
            Kind::Volumes => match self.volumes.remove(key) {
                Some(volume) => Concerned::Claim(volume.claim),
                None => Concerned::Everybody,
            },
            Kind::Classes => {
                self.classes.remove(key);
                Concerned::Everybody
            }
        }
    }

    /// What a pod's claims come to now.
    pub(crate) fn outcome(&self, pod: &PodInfo) -> Outcome {
        let mut outcome = Outcome::default();
        let mut unbound = false;
        for (name, own) in &pod.claims {
            match self.look_at(pod, name, *own, &mut outcome) {
                Ok(bound_or_waiting) => unbound |= !bound_or_waiting,
                Err(why) => {
                    outcome.volumes.obstacle = Some(why.into());
                    break;
                }
            }
        }
        if unbound && outcome.volumes.obstacle.is_none() {
            let why = "pod has unbound immediate PersistentVolumeClaims";
            outcome.volumes.obstacle = Some(why.into());
        }
        if outcome.volumes.obstacle.is_some() {
            outcome.volumes.rules.clear();
            outcome.to_make.clear();
        }
        outcome
    }

    /// False when the claim has no volume and does not wait for the pod.
    fn look_at(
        &self,
        pod: &PodInfo,
        name: &str,
        own: bool,
        outcome: &mut Outcome,
    ) -> Result<bool, String> {
        let key = format!("{}/{name}", pod.namespace);
        let Some(claim) = self.claims.get(key.as_str()) else {
            return Err(if own {
                format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                )
            } else {
                format!("persistentvolumeclaim \"{name}\" not found")
            });
        };
        if own && claim.owner != pod.uid {
            return Err(format!(
                "PVC {key} was not created for pod {}/{} (pod is not owner)",
                pod.namespace, pod.name
            ));
        }
        if claim.lost {
            return Err(format!(
                "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{}\"",
                claim.volume
            ));
        }
        if claim.deleting {
            return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
        }
        let mut rule = |reason, terms| {
            let rule = VolumeRule { reason, terms };
            outcome.volumes.rules.push(rule);
        };
        if claim.bound {
            let Some(volume) = self.volumes.get(&claim.volume) else {
                rule(VolumeReason::NoVolume, Vec::new());
                return Ok(true);
            };
            if let Some(terms) = &volume.affinity {
                rule(VolumeReason::NodeAffinity, terms.clone());
            }
            for terms in &volume.zones {
                rule(VolumeReason::Zone, terms.clone());
            }
            return Ok(true);
        }
        let class = self.classes.get(&claim.class);
        let waits = class.is_some_and(|class| class.waits) || !claim.selected_node.is_empty();
        if !claim.volume.is_empty() || !waits {
            return Ok(false);
        }
        if !claim.selected_node.is_empty() {
            // Being made for a node already: nowhere else.
            let only = requirement(
                "metadata.name",
                SelectorOperator::In,
                vec![claim.selected_node.clone()],
            );
            let term = Term {
                names: vec![only],
                ..Term::default()
            };
            rule(VolumeReason::NoMatch, vec![term]);
        } else if let Some(class) = class {
            if matches!(&*class.provisioner, "" | NO_PROVISIONER) {
                rule(VolumeReason::NoMatch, Vec::new());
            } else if !class.topologies.is_empty() {
                rule(VolumeReason::NoMatch, class.topologies.clone());
            }
        }
        outcome.to_make.push(name.into());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(claims: &[(&str, bool)]) -> PodInfo {
        PodInfo {
            namespace: "n".into(),
            name: "p".into(),
            uid: "u".into(),
            claims: claims.iter().map(|(c, own)| ((*c).into(), *own)).collect(),
            ..PodInfo::default()
        }
    }

    fn storage(things: &[(Kind, &str, Value)]) -> Storage {
        let mut storage = Storage::default();
        for (kind, key, object) in things {
            storage.note(key, Thing::read(*kind, object));
        }
        storage
    }

    fn obstacle(storage: &Storage, claims: &[(&str, bool)]) -> String {
        let outcome = storage.outcome(&pod(claims));
        assert!(outcome.volumes.rules.is_empty() && outcome.to_make.is_empty());
        outcome.volumes.obstacle.unwrap_or_default().into()
    }

    #[test]
    fn claims_that_are_not_ready_are_told_apart() {
        let waiting = json!({"provisioner": "x", "volumeBindingMode": "WaitForFirstConsumer"});
        let storage = storage(&[
            (
                Kind::Claims,
                "n/plain",
                json!({"spec": {"storageClassName": "fast"}}),
            ),
            (
                Kind::Claims,
                "n/going",
                json!({"metadata": {"deletionTimestamp": "t"}}),
            ),
            (
                Kind::Claims,
                "n/lost",
                json!({"spec": {"volumeName": "v"}, "status": {"phase": "Lost"}}),
            ),
            (
                Kind::Claims,
                "n/p-own",
                json!({"metadata": {"ownerReferences": [{"uid": "other", "controller": true}]}}),
            ),
            (
                Kind::Claims,
                "n/named",
                json!({"spec": {"storageClassName": "slow", "volumeName": "v"}}),
            ),
            (Kind::Classes, "fast", json!({"provisioner": "x"})),
            (Kind::Classes, "slow", waiting),
        ]);
        for (claim, own, expected) in [
            ("none", false, "persistentvolumeclaim \"none\" not found"),
            (
                "p-none",
                true,
                "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-none\"",
            ),
            (
                "going",
                false,
                "persistentvolumeclaim \"going\" is being deleted",
            ),
            (
                "lost",
                false,
                "persistentvolumeclaim \"lost\" bound to non-existent persistentvolume \"v\"",
            ),
            (
                "p-own",
                true,
                "PVC n/p-own was not created for pod n/p (pod is not owner)",
            ),
            (
                "plain",
                false,
                "pod has unbound immediate PersistentVolumeClaims",
            ),
            (
                "named",
                false,
                "pod has unbound immediate PersistentVolumeClaims",
            ),
        ] {
            assert_eq!(obstacle(&storage, &[(claim, own)]), expected);
        }
    }

    #[test]
    fn volumes_and_classes_say_where() {
        let bound = json!({"metadata": {"annotations": {BIND_COMPLETED: "yes"}}, "spec": {"volumeName": "v"}});
        let waiting = |class: &str| json!({"spec": {"storageClassName": class}});
        let mut storage = storage(&[
            (Kind::Claims, "n/bound", bound),
            (Kind::Claims, "n/made", waiting("wait")),
            (Kind::Claims, "n/by-hand", waiting("hand")),
            (
                Kind::Claims,
                "n/chosen",
                json!({"metadata": {"annotations": {SELECTED_NODE: "n1"}}}),
            ),
            (
                Kind::Classes,
                "wait",
                json!({"provisioner": "x", "volumeBindingMode": "WaitForFirstConsumer", "allowedTopologies":
                    [{"matchLabelExpressions": [{"key": "rack", "values": ["r1", "r2"]}]}]}),
            ),
            (
                Kind::Classes,
                "hand",
                json!({"provisioner": NO_PROVISIONER, "volumeBindingMode": "WaitForFirstConsumer"}),
            ),
        ]);
        let reasons = |storage: &Storage, claim: &str| -> Vec<(VolumeReason, usize)> {
            let outcome = storage.outcome(&pod(&[(claim, false)]));
            assert_eq!(outcome.volumes.obstacle, None, "{claim}");
            let rules = outcome.volumes.rules.iter();
            rules.map(|rule| (rule.reason, rule.terms.len())).collect()
        };
        assert_eq!(reasons(&storage, "bound"), [(VolumeReason::NoVolume, 0)]);
        let volume = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "a__b"}},
            "spec": {"claimRef": {"namespace": "n", "name": "bound"}, "nodeAffinity": {"required": {"nodeSelectorTerms":
                [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]}}}});
        let concerned = storage.note("v", Thing::read(Kind::Volumes, &volume));
        assert_eq!(concerned, Concerned::Claim("n/bound".into()));
        assert_eq!(
            reasons(&storage, "bound"),
            [(VolumeReason::NodeAffinity, 1), (VolumeReason::Zone, 3)]
        );
        assert_eq!(reasons(&storage, "made"), [(VolumeReason::NoMatch, 1)]);
        assert_eq!(reasons(&storage, "by-hand"), [(VolumeReason::NoMatch, 0)]);
        assert_eq!(reasons(&storage, "chosen"), [(VolumeReason::NoMatch, 1)]);
        let outcome = storage.outcome(&pod(&[("made", false), ("bound", false)]));
        assert_eq!(outcome.to_make, ["made".into()]);
        assert_eq!(
            storage.forget(Kind::Volumes, "v"),
            Concerned::Claim("n/bound".into())
        );
        assert_eq!(reasons(&storage, "bound"), [(VolumeReason::NoVolume, 0)]);
    }
}

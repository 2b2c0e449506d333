//! Reading bytes against projecting trees: of the same random pods both must keep the same, where bytes are read at all.
//!
//! Random by a generator with a fixed seed, so that a failure comes again.

use super::*;
use crate::feed::{Feed, feeds, project};
use reconcile::action;
use value::json;

const PODS: usize = 4_000;

chance::named!(Dice);

impl Dice {
    fn time(&mut self) -> Value {
        self.pick(&[
            "2026-01-02T03:04:05Z",
            "2026-11-30T00:00:00Z",
            "1970-01-01T00:00:01Z",
        ])
        .into()
    }

    fn metadata(&mut self) -> Value {
        let mut metadata = json!({"name": format!("p{}", self.below(99)), "namespace": self.pick(&["d", "e"]),
            "uid": format!("u{}", self.below(99)), "resourceVersion": self.below(9_999).to_string()});
        if !self.one_in(9) {
            metadata["creationTimestamp"] = self.time();
        }
        if self.one_in(4) {
            metadata["deletionTimestamp"] = self.time();
            metadata["deletionGracePeriodSeconds"] = 30.into();
        }
        for number in 0..self.below(4) {
            metadata["labels"][format!("l{number}")] = self.pick(&["", "a", "ü"]).into();
        }
        for (key, values) in [
            (DELETION_COST, ["7", "-3", "x"]),
            (COMPLETION_INDEX, ["0", "12", ""]),
            ("other", ["a", "b", "c"]),
        ] {
            if self.one_in(4) {
                metadata["annotations"][key] = self.pick(&values).into();
            }
        }
        let mut owners = Vec::new();
        for number in 0..self.below(3) {
            let mut owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("o{number}"), "uid": format!("o{number}")});
            for flag in ["controller", "blockOwnerDeletion"] {
                if self.one_in(2) {
                    owner[flag] = self.one_in(2).into();
                }
            }
            owners.push(owner);
        }
        metadata["ownerReferences"] = owners.into();
        let mut finalizers = Vec::new();
        for finalizer in [
            JOB_TRACKING_FINALIZER,
            FOREGROUND_FINALIZER,
            ORPHAN_FINALIZER,
            "a/b",
        ] {
            if self.one_in(5) {
                finalizers.push(Value::from(finalizer));
            }
        }
        metadata["finalizers"] = finalizers.into();
        metadata
    }

    fn toleration(&mut self, plain: bool) -> Value {
        let key = self.pick(&[
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
            "k",
            "",
        ]);
        let mut toleration = json!({"key": key, "operator": self.pick(&["Exists", "Equal", ""]), "effect": self.pick(&["", "NoExecute", "NoSchedule"])});
        if plain || self.one_in(2) {
            toleration["tolerationSeconds"] = [300, 0, -5][self.below(3)].into();
        }
        if self.one_in(3) {
            toleration["value"] = "v".into();
        }
        toleration
    }

    fn pod(&mut self) -> Value {
        let default = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        let tolerations: Vec<Value> = if self.one_in(2) {
            vec![
                default("node.kubernetes.io/not-ready"),
                default("node.kubernetes.io/unreachable"),
            ]
        } else {
            (0..self.below(4)).map(|_| self.toleration(false)).collect()
        };
        let containers: Vec<Value> = (0..1 + self.below(2))
            .map(|number| {
                let ports: Vec<Value> = (0..self.below(3))
                    .map(|_| json!({"name": self.pick(&["", "http"]), "containerPort": self.below(70_000), "protocol": self.pick(&["", "TCP", "UDP"])}))
                    .collect();
                json!({"name": format!("c{number}"), "image": "i", "ports": ports})
            })
            .collect();
        let conditions: Vec<Value> = (0..self.below(4))
            .map(|_| {
                let mut condition = json!({"type": self.pick(&["Ready", "PodScheduled", "Initialized"]), "status": self.pick(&["True", "False", ""])});
                if !self.one_in(3) {
                    condition["lastTransitionTime"] = self.time();
                }
                condition
            })
            .collect();
        let statuses: Vec<Value> = (0..self.below(3))
            .map(|_| json!({"name": "c0", "restartCount": self.below(5), "state": {"running": {"startedAt": self.time()}}}))
            .collect();
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": self.metadata(),
            "spec": {"containers": containers, "tolerations": tolerations, "nodeName": self.pick(&["", "n1"]),
                     "hostname": self.pick(&["", "", "h"]), "subdomain": self.pick(&["", "", "s"])},
            "status": {"phase": self.pick(&["", "Pending", "Running", "Running", "Unknown"]), "podIP": self.pick(&["", "10.0.0.1"]),
                       "conditions": conditions, "containerStatuses": statuses}});
        if self.one_in(10) {
            pod["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
                [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}}});
        }
        if self.one_in(10) {
            pod["spec"]["resourceClaims"] = json!([{"name": "r", "resourceClaimName": "x"}]);
        }
        let volumes = [
            json!([{"name": "v", "emptyDir": {}}]),
            json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]),
            json!([{"name": "e", "configMap": {"name": "m"}}, {"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]),
        ];
        if self.one_in(5) {
            pod["spec"]["volumes"] = volumes[self.below(3)].clone();
        }
        if self.one_in(10) {
            pod["status"]["phase"] = "Failed".into();
        }
        pod
    }
}

fn feed() -> Feed {
    *feeds()
        .iter()
        .find(|feed| feed.reference == action::PODS)
        .unwrap()
}

fn encoded(pod: &Value) -> Vec<u8> {
    let mut message = Vec::new();
    schema::encode_protobuf(feed().resource.type_id, pod, &mut message).unwrap();
    message
}

fn told((key, seen): &(String, Seen)) -> String {
    format!(
        "{key} {:?} {:?} {} {:?}",
        seen.ties, seen.finalizers, seen.version, seen.body
    )
}

#[test]
fn bytes_say_what_the_tree_says() {
    let (mut dice, mut plain) = (Dice::new(0x9e37_79b9_7f4a_7c15), PlainPods::default());
    let mut read = 0;
    for _ in 0..PODS {
        let pod = dice.pod();
        let message = encoded(&pod);
        let version = pod["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        let Some(short) = plain.read(&message, version) else {
            continue;
        };
        read += 1;
        let tree = schema::decode_protobuf(feed().resource.type_id, &message).unwrap();
        let general = (client::object_key(&tree), project(feed(), tree));
        assert_eq!(told(&short), told(&general), "{pod}");
    }
    assert!(read > PODS / 2, "{read}");
    assert!(plain.labels.len() < 40, "label sets are shared");
}

#[test]
fn long_label_sets_are_read_and_not_kept() {
    let (mut dice, mut plain) = (Dice::new(9), PlainPods::default());
    let mut pod = dice.pod();
    for field in ["affinity", "resourceClaims", "volumes"] {
        pod["spec"].as_object_mut().unwrap().remove(field);
    }
    pod["status"]["phase"] = "Running".into();
    let value = "v".repeat(LABEL_SET_BYTES_MAX);
    pod["metadata"]["labels"] = json!({"long": value});
    let (_, seen) = plain.read(&encoded(&pod), "7").unwrap();
    let SeenBody::Pod(read) = seen.body else {
        panic!("a pod")
    };
    assert_eq!(read.label("long"), Some(&*value));
    assert!(plain.labels.is_empty());
}

#[test]
fn what_is_rare_or_broken_is_left_to_the_general_way() {
    let (mut dice, mut plain) = (Dice::new(7), PlainPods::default());
    let mut pod = dice.pod();
    for field in ["affinity", "resourceClaims"] {
        pod["spec"].as_object_mut().unwrap().remove(field);
    }
    pod["status"]["phase"] = "Running".into();
    let whole = encoded(&pod);
    assert!(plain.read(&whole, "7").is_some());
    assert!(plain.read(&whole, "").is_none());
    for end in 0..whole.len() {
        // Whatever it makes of it, it comes back.
        let _ = plain.read(&whole[..end], "7");
    }
    let rare = |change: &dyn Fn(&mut Value)| {
        let mut pod = pod.clone();
        change(&mut pod);
        encoded(&pod)
    };
    for message in [
        rare(&|pod| pod["status"]["phase"] = "Succeeded".into()),
        rare(&|pod| pod["spec"]["affinity"] = json!({"podAffinity": {}})),
        rare(&|pod| pod["spec"]["resourceClaims"] = json!([{"name": "r"}])),
        rare(&|pod| {
            pod["status"]["extendedResourceClaimStatus"] = json!({"resourceClaimName": "c"});
        }),
        rare(&|pod| pod["metadata"]["creationTimestamp"] = "1960-01-01T00:00:00Z".into()),
    ] {
        assert!(plain.read(&message, "7").is_none());
    }
}

//! Pods read by their templates against pods that are decoded: of the same random pods both must make the same.
//!
//! Random by a generator with a fixed seed, so that a failure comes again.

use super::*;
use crate::extending::Extending;
use meta::Value;
use value::json;

const ROUNDS: usize = 6_000;

chance::named!(Dice);

impl Dice {
    /// One of few specs.
    fn spec(&mut self) -> Value {
        let mut spec = json!({"schedulerName": "default-scheduler", "priority": self.below(2),
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]});
        for (field, value) in [
            ("nodeSelector", json!({"zone": "a"})),
            ("schedulingGates", json!([{"name": "g"}])),
            ("overhead", json!({"cpu": "100m", "example.com/thing": "1"})),
            (
                "initContainers",
                json!([{"name": "s", "restartPolicy": "Always"}]),
            ),
            (
                "volumes",
                json!([{"name": "v", "persistentVolumeClaim": {"claimName": "v"}}]),
            ),
            ("volumes", json!([{"name": "v", "ephemeral": {}}])),
            ("volumes", json!([{"name": "v", "emptyDir": {}}])),
            (
                "resourceClaims",
                json!([{"name": "r", "resourceClaimTemplateName": "t"}]),
            ),
            (
                "topologySpreadConstraints",
                json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                        "labelSelector": {"matchLabels": {"a": "1"}}}]),
            ),
            (
                "affinity",
                json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n3"]}]}]}}}),
            ),
        ] {
            if self.one_in(12) {
                spec[field] = value;
            }
        }
        spec
    }

    fn status(&mut self) -> Value {
        let mut status =
            json!({"phase": ["Pending", "Running", "Succeeded", "Failed"][self.below(4)]});
        for (field, value) in [
            ("startTime", json!("2026-01-02T03:04:05Z")),
            ("nominatedNodeName", json!("n2")),
            ("podIPs", json!([{"ip": "10.0.0.1"}])),
            ("qosClass", json!("Burstable")),
            ("observedGeneration", json!(3)),
            (
                "conditions",
                json!([{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]),
            ),
            (
                "containerStatuses",
                json!([{"name": "c", "image": "i", "ready": true, "restartCount": 2}]),
            ),
        ] {
            if self.one_in(2) {
                status[field] = value;
            }
        }
        for (field, value) in [
            (
                "conditions",
                json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]),
            ),
            (
                "conditions",
                json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]),
            ),
            (
                "containerStatuses",
                json!([{"name": "c", "allocatedResources": {"cpu": "3"}}]),
            ),
            (
                "containerStatuses",
                json!([{"name": "c", "resources": {"requests": {"cpu": "2"}}}]),
            ),
            (
                "resourceClaimStatuses",
                json!([{"name": "r", "resourceClaimName": "made"}]),
            ),
        ] {
            if self.one_in(12) {
                status[field] = value;
            }
        }
        status
    }

    fn pod(&mut self, number: usize) -> Value {
        let mut pod = json!({"metadata": {"name": format!("p-{number}"), "namespace": ["a", "b"][self.below(2)],
                "uid": format!("u{number}"), "resourceVersion": number.to_string(),
                "annotations": {"x": number.to_string()}, "labels": {"a": self.below(2).to_string()}},
            "spec": self.spec(), "status": self.status()});
        if self.one_in(2) {
            pod["spec"]["nodeName"] = format!("n{}", self.below(9)).into();
        }
        if self.one_in(9) {
            pod["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z".into();
        }
        if self.one_in(3) {
            pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                "name": "r", "uid": "r", "controller": true}]);
        }
        if self.one_in(9) {
            pod["spec"]["hostname"] = format!("h{number}").into();
        }
        pod
    }
}

fn message(pod: &Value) -> Vec<u8> {
    let mut message = Vec::new();
    let pods = schema::kind_type("v1", "Pod").unwrap();
    schema::encode_protobuf(pods, pod, &mut message).unwrap();
    message
}

#[test]
fn a_pod_read_by_its_template_is_the_pod_that_was_decoded() {
    let pods = schema::kind_type("v1", "Pod").unwrap();
    let lens = Extending::new(&[]).lens();
    let mut templates = Templates::new(lens.clone());
    let mut dice = Dice::new(0x5eed);
    let mut read = 0;
    for number in 0..ROUNDS {
        let message = message(&dice.pod(number));
        let object = schema::decode_protobuf(pods, &message).unwrap();
        let Some((key, seen)) = templates.read(&message) else {
            continue;
        };
        let general = lens.pod(&object).unwrap();
        let seen = seen.unwrap();
        assert_eq!(key, client::object_key(&object));
        assert_eq!(seen.info, general.info, "{object}");
        assert_eq!(seen.concerns, general.concerns);
        read += 1;
    }
    assert!(read > ROUNDS / 2, "{read}");
    // Far fewer than the pods: most were read by another's template.
    assert!(
        templates.known.len() < read / 2,
        "{}",
        templates.known.len()
    );
}

#[test]
fn what_is_long_is_read_and_not_kept() {
    let mut templates = Templates::new(Extending::new(&[]).lens());
    let mut pod = Dice::new(3).pod(1);
    pod["status"] = json!({});
    pod["spec"] = json!({"containers": [{"name": "c", "image": "i"}]});
    assert!(templates.read(&message(&pod)).is_some());
    let kept = templates.known.len();
    pod["spec"]["containers"][0]["args"] = json!(["x".repeat(TEMPLATE_BYTES_MAX)]);
    let (_, seen) = templates.read(&message(&pod)).unwrap();
    assert_eq!(&*seen.unwrap().info.uid, "u1");
    assert_eq!((kept, templates.known.len()), (1, 1));
}

#[test]
fn broken_bytes_come_back() {
    let mut templates = Templates::new(Extending::new(&[]).lens());
    let mut pod = Dice::new(3).pod(1);
    pod["status"] = json!({"phase": "Running", "startTime": "2026-01-02T03:04:05Z"});
    let whole = message(&pod);
    assert!(templates.read(&whole).is_some());
    for end in 0..whole.len() {
        let cut = &whole[..end];
        if let Some((_, Ok(seen))) = templates.read(cut) {
            // What ends between two fields is a message of its own.
            assert!(schema::decode_protobuf(schema::kind_type("v1", "Pod").unwrap(), cut).is_ok());
            assert_eq!(&*seen.info.uid, "u1");
        }
    }
}

//! The short way of narrow patches against the general way: of the same random objects and documents both must make the
//! same bytes, where the short way answers at all; and it must answer for what the controllers and fleets send.
//!
//! Random by a generator with a fixed seed, so that a failure comes again.

use super::*;
use crate::{Context, Update, prepare_update};
use meta::Value;
use value::json;

const REVISION: i64 = 4_711;
const ROUNDS: usize = 4_000;
const TYPES: [&str; 6] = [
    "Ready",
    "MemoryPressure",
    "DiskPressure",
    "PIDPressure",
    "NetworkUnavailable",
    "a/Foreign",
];
const TEXTS: [&str; 5] = [
    "",
    "True",
    "Kubelet stopped posting node status.",
    "\"ü\\\n",
    "Unknown",
];
const TIMES: [&str; 6] = [
    "2026-01-02T03:04:05Z",
    "2026-11-30T00:00:00Z",
    "2026-01-02T03:04:05.000001Z",
    "2026-01-02T04:04:05+01:00",
    "0001-01-01T00:00:00Z",
    "soon",
];

chance::named!(Dice);

impl Dice {
    /// A time that is mostly well written.
    fn time(&mut self) -> &'static str {
        let known = if self.one_in(40) { TIMES.len() } else { 2 };
        self.pick(&TIMES[..known])
    }

    fn condition(&mut self, kind: &str, of_pod: bool, odd: bool) -> Value {
        let mut condition = json!({"type": kind});
        for field in ["status", "reason", "message"] {
            if !self.one_in(3) {
                condition[field] = self.pick(&TEXTS).into();
            }
        }
        let seen = if of_pod {
            "lastProbeTime"
        } else {
            "lastHeartbeatTime"
        };
        for field in [seen, "lastTransitionTime"] {
            if !self.one_in(3) {
                condition[field] = if odd {
                    self.time()
                } else {
                    TIMES[self.below(2)]
                }
                .into();
            }
        }
        if self.one_in(6) {
            condition[seen] = Value::Null;
        }
        if odd && self.one_in(60) {
            condition[self.pick(&[
                "observedGeneration",
                "reason",
                "$patch",
                "x",
                "lastProbeTime",
            ])] = [Value::Null, 7.into(), "delete".into()][self.below(3)].clone();
        } else if of_pod && !odd && self.one_in(3) {
            condition["observedGeneration"] = 3.into();
        }
        condition
    }

    fn conditions(&mut self, of_pod: bool, odd: bool) -> Value {
        let mut kinds = TYPES.to_vec();
        let mut conditions = Vec::new();
        for _ in 0..self.below(TYPES.len() + 1) {
            let at = self.below(kinds.len());
            let kind = if odd && self.one_in(40) {
                kinds[at]
            } else {
                kinds.remove(at)
            };
            conditions.push(self.condition(kind, of_pod, odd));
        }
        conditions.into()
    }

    fn taints(&mut self, odd: bool) -> Value {
        let mut taints = Vec::new();
        for number in 0..self.below(4) {
            let mut taint = json!({"key": format!("example.com/k{number}"),
                "effect": self.pick(&["NoSchedule", "PreferNoSchedule", "NoExecute"])});
            if self.one_in(2) {
                taint["value"] = self.pick(&["", "v"]).into();
            }
            if self.one_in(2) {
                taint["timeAdded"] = if odd {
                    self.time()
                } else {
                    TIMES[self.below(2)]
                }
                .into();
            }
            if odd && self.one_in(12) {
                let (field, bad) = [
                    ("key", "a b"),
                    ("value", "/"),
                    ("effect", "Never"),
                    ("key", "example.com/k0"),
                    ("x", ""),
                ][self.below(5)];
                taint[field] = bad.into();
            }
            taints.push(taint);
        }
        taints.into()
    }

    fn object(&mut self, of_pod: bool) -> Value {
        let mut object = json!({
            "apiVersion": "v1", "kind": if of_pod { "Pod" } else { "Node" },
            "metadata": {"name": "x", "uid": "u", "creationTimestamp": "2026-01-02T03:04:05Z",
                         "labels": {"a": "b"}, "annotations": {"c": "d"}},
            "status": {"conditions": self.conditions(of_pod, false)}});
        if of_pod {
            object["metadata"]["namespace"] = "d".into();
            object["metadata"]["generation"] = 2.into();
            object["spec"] = json!({"containers": [{"name": "c", "image": "i"}], "nodeName": "n"});
            object["status"]["phase"] = "Running".into();
            if self.one_in(2) {
                object["status"]["podIP"] = "10.0.0.1".into();
            }
        } else {
            object["spec"] =
                json!({"podCIDR": "10.0.0.0/24", "providerID": "p", "taints": self.taints(false)});
            object["status"]["capacity"] = json!({"cpu": "4", "memory": "16Gi"});
            object["status"]["addresses"] = json!([{"type": "Hostname", "address": "x"}]);
            object["status"]["nodeInfo"] = json!({"kubeletVersion": "v1.36.0"});
        }
        if self.one_in(5) {
            object["metadata"]["finalizers"] = json!(["a/b"]);
        }
        if self.one_in(30) {
            object["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z".into();
        }
        object
    }

    /// What a kubelet may say of a pod.
    fn status(&mut self) -> Value {
        let mut status = json!({"conditions": self.conditions(true, true)});
        if self.one_in(2) {
            let kinds: Vec<Value> = TYPES[..self.below(TYPES.len())]
                .iter()
                .map(|kind| json!({"type": kind}))
                .collect();
            status["$setElementOrder/conditions"] = kinds.into();
        }
        for (field, value) in [
            ("phase", json!("Running")),
            ("phase", json!("")),
            ("podIP", Value::Null),
            ("podIP", json!("10.0.0.1")),
            ("podIPs", json!([{"ip": "10.0.0.1"}])),
            ("podIPs", json!([])),
            ("hostIP", json!("10.1.0.1")),
            ("qosClass", json!("Guaranteed")),
            ("startTime", json!("2026-01-02T03:04:05Z")),
            ("nominatedNodeName", json!("m")),
            (
                "containerStatuses",
                json!([{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 1,
                        "started": true, "lastState": {}, "allocatedResources": {"cpu": "0.1", "memory": "1024Ki"},
                        "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}}]),
            ),
            (
                "containerStatuses",
                json!([{"name": "c", "state": {"running": null, "terminated": {"exitCode": 0}}}]),
            ),
        ] {
            if self.one_in(3) {
                status[field] = value;
            }
        }
        if self.one_in(40) {
            let (field, value) = [
                ("nothing", json!(1)),
                ("phase", json!(7)),
                ("containerStatuses", json!([{"image": "no name"}])),
                ("$patch", json!("replace")),
                ("$retainKeys", json!(["phase"])),
            ][self.below(5)]
            .clone();
            status[field] = value;
        }
        status
    }

    /// What it says of one that starts or runs.
    fn plain_status(&mut self) -> Value {
        let mut status = json!({});
        for _ in 0..3 {
            let conditions = self.conditions(true, false);
            if !conditions.as_array().unwrap().is_empty() && self.one_in(2) {
                status["conditions"] = conditions;
            }
            let time = self.time();
            let (ready, restarts) = (self.one_in(2), self.below(3));
            for (field, value) in [
                ("phase", json!(self.pick(&["Running", "Pending", ""]))),
                (
                    "podIP",
                    json!(self.pick(&["10.0.0.1", "10.0.0.1", "10.0.0.2", ""])),
                ),
                ("hostIP", json!("10.1.0.1")),
                ("hostIP", Value::Null),
                ("podIPs", json!([{"ip": "10.0.0.1"}, {"ip": "::1"}])),
                ("hostIPs", json!([{"ip": "10.0.0.1"}])),
                ("startTime", json!(time)),
                (
                    "containerStatuses",
                    json!([{"name": "c", "image": "i", "imageID": "simulated://i", "containerID": "x", "ready": ready,
                            "restartCount": restarts, "started": true, "state": {"running": {"startedAt": time}}},
                           {"name": "d", "image": "", "imageID": "", "ready": true, "restartCount": 0, "started": false,
                            "state": {"running": {"startedAt": null}}}]),
                ),
            ] {
                if self.one_in(3) {
                    status[field] = value;
                }
            }
        }
        // Mostly both names of the address, or none.
        match self.below(4) {
            0 => {}
            1 => {
                status["podIP"] = "10.0.0.1".into();
                status["podIPs"] = json!([{"ip": "10.0.0.1"}, {"ip": "::1"}]);
            }
            _ => {
                let status = status.as_object_mut().unwrap();
                status.remove("podIP");
                status.remove("podIPs");
            }
        }
        if self.one_in(8) {
            let lists = ["conditions", "containerStatuses", "podIPs", "hostIPs"];
            status[self.pick(&lists)] = Value::Null;
        }
        status
    }

    fn document(&mut self, part: Part) -> Value {
        let mut document = match part {
            Part::NodeTaints => match self.below(4) {
                0 => json!({"spec": {"taints": null}}),
                _ => json!({"spec": {"taints": self.taints(true)}}),
            },
            Part::Status => json!({"status": self.status()}),
            Part::PodStatus if self.one_in(2) => json!({"status": self.plain_status()}),
            _ => json!({"status": {"conditions": self.conditions(of_pod(part), true)}}),
        };
        if !self.one_in(3) {
            document["metadata"] = json!({"uid": self.pick(&["u", "u", "u", "u", "", "other"])});
        }
        if self.one_in(3) {
            document["metadata"]["resourceVersion"] =
                self.pick(&["4711", "4711", "4711", "", "0", "4710"]).into();
        }
        if self.one_in(40) {
            let (at, what) = [
                ("spec", json!({"unschedulable": true})),
                ("metadata", Value::Null),
                ("metadata", json!({"labels": {"a": "c"}})),
                ("status", json!({"phase": "Pending"})),
                ("kind", "Node".into()),
            ][self.below(5)]
            .clone();
            document[at] = what;
        }
        document
    }
}

/// The short way for the kind that a part is of; [`Part::Status`] stands for a pod's.
fn narrow(part: Part, stored: &[u8], revision: i64, document: &[u8]) -> Option<Narrow> {
    super::narrow(resource_of(part), part, stored, revision, document)
}

fn resource_of(part: Part) -> &'static schema::Resource {
    let name = if of_pod(part) { "pods" } else { "nodes" };
    schema::resource("", "v1", name).unwrap()
}

fn of_pod(part: Part) -> bool {
    matches!(part, Part::PodStatus | Part::Status)
}

fn stored(part: Part, object: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    schema::encode_stored(resource_of(part).type_id, object, &mut out).unwrap();
    out
}

/// As the general way stores it: after one update without a change.
fn settled(part: Part, object: Value) -> Value {
    let resource = resource_of(part);
    let mut object = schema::complete(resource.type_id, object).unwrap().value;
    crate::default_object(resource, &mut object);
    schema::decode_protobuf(resource.type_id, &stored(part, &object)).unwrap()
}

fn generally(part: Part, object: &Value, document: &Value) -> Option<Narrow> {
    let resource = resource_of(part);
    let mut old = object.clone();
    old["apiVersion"] = "v1".into();
    old["kind"] = resource.kind.into();
    old["metadata"]["resourceVersion"] = REVISION.to_string().into();
    let (tree, subresource) = if part == Part::NodeTaints {
        let mut tree = old.clone();
        schema::merge_patch(&mut tree, document);
        (tree, None)
    } else {
        let tree = schema::strategic_merge(resource.type_id, old.clone(), document.clone()).ok()?;
        (tree, Some("status"))
    };
    let new = schema::complete(resource.type_id, tree).ok()?.value;
    let mut context = Context {
        now_micros: 0,
        user: "",
        random: &mut || 0,
    };
    match prepare_update(resource, subresource, &old, new, &mut context).ok()? {
        Update::Unchanged => Some(Narrow::Unchanged),
        Update::Store(new) => Some(Narrow::Store(stored(part, &new))),
        Update::Remove(_) => None,
    }
}

#[test]
fn it_stores_what_the_general_way_stores() {
    let mut dice = Dice::new(0x9e37_79b9_7f4a_7c15);
    for part in [
        Part::NodeConditions,
        Part::PodStatus,
        Part::NodeTaints,
        Part::Status,
    ] {
        let (mut answered, mut unchanged) = (0, 0);
        for round in 0..ROUNDS {
            let object = settled(part, dice.object(of_pod(part)));
            let document = dice.document(part);
            let short = narrow(
                part,
                &stored(part, &object),
                REVISION,
                document.to_string().as_bytes(),
            );
            if let Some(short) = short {
                let general = generally(part, &object, &document);
                assert_eq!(
                    Some(&short),
                    general.as_ref(),
                    "{part:?} {round}\n{object}\n{document}"
                );
                answered += 1;
                // What was stored changes nothing when it is sent again, if it names nothing twice.
                if part == Part::Status {
                    unchanged += usize::from(short == Narrow::Unchanged);
                } else if let Narrow::Store(bytes) = short {
                    let mut again = document.clone();
                    if let Some(metadata) = again.get_mut("metadata").and_then(Value::as_object_mut)
                    {
                        metadata.remove("resourceVersion");
                    }
                    let again = narrow(part, &bytes, REVISION + 1, again.to_string().as_bytes());
                    // Addresses are added to none only.
                    let is_left = part == Part::PodStatus && again.is_none();
                    assert!(is_left || again == Some(Narrow::Unchanged));
                } else {
                    unchanged += 1;
                }
            }
        }
        assert!(
            answered > ROUNDS / 3 && unchanged > 0,
            "{part:?}: {answered}, {unchanged}"
        );
    }
}

#[test]
fn what_controllers_and_kubelets_send_is_narrow() {
    let mut dice = Dice::new(7);
    let unknown = |kind: &str| {
        json!({"type": kind, "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status.",
               "lastTransitionTime": "2026-01-02T03:04:05Z"})
    };
    let marking: Vec<Value> = TYPES[..4].iter().map(|kind| unknown(kind)).collect();
    let heartbeat: Vec<Value> = TYPES[..4]
        .iter()
        .map(|kind| json!({"type": kind, "status": "True", "reason": "r", "message": "m", "lastHeartbeatTime": "2026-01-02T03:04:05Z"}))
        .collect();
    let taint = json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z"});
    for (part, document) in [
        (
            Part::NodeConditions,
            json!({"metadata": {"uid": "u"}, "status": {"conditions": marking}}),
        ),
        (
            Part::NodeConditions,
            json!({"status": {"conditions": heartbeat}}),
        ),
        (
            Part::PodStatus,
            json!({"metadata": {"uid": "u"}, "status": {"conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-02T03:04:05Z"}]}}),
        ),
        (
            Part::NodeTaints,
            json!({"metadata": {"uid": "u", "resourceVersion": "4711"}, "spec": {"taints": [taint]}}),
        ),
        (
            Part::NodeTaints,
            json!({"metadata": {"uid": "u"}, "spec": {"taints": null}}),
        ),
        (
            Part::PodStatus,
            json!({"metadata": {"uid": "u"}, "status": {
                "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null,
                                "lastTransitionTime": "2026-01-02T03:04:05Z"}],
                "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                                       "started": true, "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}}],
                "phase": "Running", "hostIP": "10.0.0.1", "podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}],
                "hostIPs": [{"ip": "10.0.0.1"}], "startTime": "2026-01-02T03:04:05Z"}}),
        ),
        (
            Part::Status,
            json!({"metadata": {"uid": "u"}, "status": {
                "$setElementOrder/conditions": [{"type": "Ready"}, {"type": "PodScheduled"}],
                "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null,
                                "lastTransitionTime": "2026-01-02T03:04:05Z"}],
                "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                                       "started": true, "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}}],
                "phase": "Running", "hostIP": "10.0.0.1", "podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}],
                "startTime": "2026-01-02T03:04:05Z"}}),
        ),
    ] {
        let mut object = dice.object(of_pod(part));
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("deletionTimestamp");
        // A kubelet tells the addresses of a pod that has none yet.
        if let Some(status) = object["status"].as_object_mut() {
            for addresses in ["podIP", "podIPs", "hostIP", "hostIPs"] {
                status.remove(addresses);
            }
        }
        let object = settled(part, object);
        let short = narrow(
            part,
            &stored(part, &object),
            REVISION,
            document.to_string().as_bytes(),
        );
        assert_eq!(short, generally(part, &object, &document), "{document}");
        assert!(short.is_some(), "{document}");
    }
}

#[test]
fn what_a_kubelet_says_of_its_node_is_stored_as_the_general_way_stores_it() {
    let mut dice = Dice::new(5);
    let part = Part::NodeConditions;
    let nodes = resource_of(part);
    for document in [
        json!({"metadata": {"uid": "u"}, "status": {"capacity": {"cpu": "0.0001", "pods": "110"}, "allocatable": null}}),
        json!({"status": {"nodeInfo": {"kubeletVersion": "v1.37.0"}, "addresses": [{"type": "Hostname", "address": "y"}],
                          "$setElementOrder/addresses": [{"type": "Hostname"}],
                          "images": [{"names": ["i"], "sizeBytes": 3}], "volumesInUse": ["v"]}}),
        json!({"status": {"conditions": [{"type": "Ready", "$patch": "delete"}]}}),
        json!({"status": {}}),
    ] {
        let mut object = dice.object(false);
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("deletionTimestamp");
        let object = settled(part, object);
        let bytes = stored(part, &object);
        let text = document.to_string();
        let short = super::narrow(nodes, Part::Status, &bytes, REVISION, text.as_bytes());
        assert_eq!(short, generally(part, &object, &document), "{document}");
        assert!(short.is_some(), "{document}");
    }
}

#[test]
fn broken_bytes_and_documents_come_back() {
    let mut dice = Dice::new(11);
    let part = Part::NodeConditions;
    let whole = stored(part, &settled(part, dice.object(false)));
    let document =
        json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}).to_string();
    for end in 0..whole.len() {
        assert_eq!(
            narrow(part, &whole[..end], REVISION, document.as_bytes()),
            None
        );
    }
    for end in 0..document.len() {
        assert_eq!(
            narrow(part, &whole, REVISION, &document.as_bytes()[..end]),
            None
        );
    }
    let twice = br#"{"status": {"conditions": [{"type": "Ready", "status": "a", "status": "b"}]}}"#;
    assert_eq!(narrow(part, &whole, REVISION, twice), None);
}

#[path = "narrow_odd_tests.rs"]
mod odd;

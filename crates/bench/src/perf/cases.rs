//! The cases of upstream's benchmark of the scheduler (scheduler_perf), under their names and in their sizes, and what
//! of it there is not.
//!
//! Sizes and floors (pods a second below which upstream's CI fails) are those of its `performance-config.yaml` files.
//! Runs nothing.

use std::time::Duration;

use meta::Value;
use value::json;

use super::plan::{Fate, Meanwhile, Plan, Pods, Size};
use super::shapes::{self, Among, Disk};

/// More than any node has: the pod fits nowhere.
pub const TOO_MUCH_CPU: &str = "9";
/// Upstream's namespaces of pods that are there before, in cases with namespace selectors.
const SPACES: usize = 100;
const MOONS: [&str; 3] = ["moon-1", "moon-2", "moon-3"];
/// Pods of 100m that a node of four cores takes.
const PODS_A_NODE: usize = 40;
/// Room of the node that stands alone.
const ROOM_OF_ONE: usize = 90_000;
/// Pods of 900m that fill a node.
const LOW_PODS_A_NODE: usize = 4;
const FIVE_A_SECOND: Duration = Duration::from_millis(200);

/// A case.
pub struct Case {
    /// Its name there.
    pub name: &'static str,
    /// The name of its size there.
    pub workload: &'static str,
    /// Its size there.
    pub size: Size,
    /// Pods a second.
    pub floor: Option<usize>,
    /// What it is about.
    pub about: &'static str,
    /// Pods that can be measured in such a cluster.
    pub room: fn(Size) -> usize,
    /// What it is made of.
    pub plan: fn(Size) -> Plan,
}

const fn size(nodes: usize, before: usize, pods: usize) -> Size {
    Size {
        nodes,
        before,
        pods,
    }
}

/// What upstream has and this command does not, and why.
pub const ABSENT: [(&str, &str); 5] = [
    (
        "SchedulingWithResourceClaimTemplate and the other cases of dra/",
        "the scheduler allocates devices, but this command does not make drivers, slices and claims yet",
    ),
    (
        "EventHandlingPodDelete, PodUpdate, NodeAdd, NodeUpdate, ... (event_handling/)",
        "small clusters in which parked pods are woken by one event each; no rate of placing is measured there",
    ),
    (
        "GangScheduling and the other cases of podgroup/",
        "gangs are behind a feature gate that this command does not set",
    ),
    (
        "CompositePodGroup (cpg/)",
        "groups of groups are not in this scheduler",
    ),
    (
        "feature gates in the names of sizes (QueueingHints, AsyncAPICalls, batch sizes)",
        "there is one way here: hints always, calls always asynchronous, equal pods always together",
    ),
];

fn by_cpu(size: Size) -> usize {
    (size.nodes * PODS_A_NODE).saturating_sub(size.before)
}

fn by_pods(size: Size) -> usize {
    size.nodes * 110
}

fn one_each(size: Size) -> usize {
    size.nodes.saturating_sub(size.before)
}

fn one_for_each_node(size: Size) -> usize {
    size.nodes
}

fn on_the_one(size: Size) -> usize {
    ROOM_OF_ONE.saturating_sub(size.before)
}

fn basic(size: Size, pod: &Value) -> Plan {
    Plan {
        before: vec![Pods::new(size.before, "default", pod.clone())],
        ..Plan::of(size, pod.clone())
    }
}

fn two_spaces() -> Vec<(String, bool)> {
    vec![("sched-0".into(), false), ("sched-1".into(), false)]
}

fn colours(size: Size, pod: &Value) -> Plan {
    Plan {
        spaces: two_spaces(),
        before: vec![Pods::new(size.before, "sched-0", pod.clone())],
        measured: Pods::new(size.pods, "sched-1", pod.clone()),
        ..Plan::of(size, json!({}))
    }
}

fn in_zones(mut plan: Plan, zones: &'static [&'static str]) -> Plan {
    plan.node = Box::new(|index| shapes::node_in_zone(index, zones));
    plan
}

/// Namespaces of a team; the last one is that of the measured pods.
fn teams(size: Size, pod: &Value) -> Plan {
    let names: Vec<String> = (0..SPACES.min(size.before.max(1)))
        .map(|space| format!("init-ns-{space}"))
        .collect();
    let mut before = Pods::new(size.before, "", pod.clone());
    before.spaces.clone_from(&names);
    let measured = "measure-ns-0";
    let all = names.into_iter().chain([measured.to_owned()]);
    Plan {
        spaces: all.map(|name| (name, true)).collect(),
        before: vec![before],
        measured: Pods::new(size.pods, measured, pod.clone()),
        ..Plan::of(size, json!({}))
    }
}

fn spreading(size: Size, pod: Value) -> Plan {
    let plan = Plan {
        before: vec![Pods::new(size.before, "default", shapes::default_pod())],
        ..Plan::of(size, pod)
    };
    in_zones(plan, &MOONS)
}

fn preemption(size: Size) -> Plan {
    Plan {
        before: vec![Pods::new(
            size.before,
            "default",
            shapes::pod_of("900m", "500Mi"),
        )],
        victims_each: 3,
        ..Plan::of(size, shapes::high_priority("3"))
    }
}

fn volumes(size: Size, disk: Disk, nodes: Option<bool>) -> Plan {
    let pods = |count| Pods::new(count, "default", shapes::default_pod()).with_disk(disk);
    let mut plan = Plan::of(size, json!({}));
    plan.before = vec![pods(size.before)];
    plan.measured = pods(size.pods);
    if let Some(migrated) = nodes {
        let csi_node = |index| {
            (
                "storage.k8s.io",
                "csinodes",
                "",
                shapes::csi_node(index, migrated),
            )
        };
        plan.beside = (0..size.nodes).map(csi_node).collect();
        plan.node = Box::new(|index| {
            let limit = shapes::EBS_LIMIT.to_string();
            shapes::node_with(index, "attachable-volumes-csi-ebs.csi.aws.com", &limit)
        });
    }
    plan
}

fn mixed(size: Size) -> Plan {
    let kinds = [
        shapes::default_pod(),
        shapes::attracted(Among::Two),
        shapes::repelling(Among::Two),
        shapes::preferring(true, Among::Two),
        shapes::preferring(false, Among::Two),
    ];
    let before = kinds.map(|pod| Pods::new(size.before, "sched-0", pod));
    let plan = Plan {
        spaces: two_spaces(),
        before: before.into(),
        ..Plan::of(size, shapes::default_pod())
    };
    in_zones(plan, &["zone1"])
}

fn node_that_stands_alone(index: usize) -> Value {
    if index > 0 {
        return shapes::node(index);
    }
    shapes::node_with(index, "pods", &ROOM_OF_ONE.to_string())
}

fn extended(size: Size) -> Plan {
    let name = |index: usize| format!("foo.com/bar-{index}");
    let mut plan = Plan::of(size, json!({}));
    plan.node = Box::new(move |index| shapes::node_with(index, &name(index), "1"));
    plan.measured.kinds = None;
    plan.measured.pod = Box::new(move |place| {
        let mut pod = shapes::light_pod();
        let amounts = json!({name(place): "1"});
        pod["spec"]["containers"][0]["resources"] = json!({"requests": amounts, "limits": amounts});
        pod
    });
    plan
}

/// All of them; where a name comes twice, the first is meant by the name alone.
pub const CASES: [Case; 38] = [
    Case {
        name: "SchedulingBasic",
        workload: "5000Nodes_10000Pods",
        size: size(5_000, 1_000, 10_000),
        floor: Some(680),
        about: "pods with requests, nothing else",
        room: by_cpu,
        plan: |size| basic(size, &shapes::default_pod()),
    },
    Case {
        name: "SchedulingBasic",
        workload: "5000Nodes_50000Pods",
        size: size(5_000, 5_000, 50_000),
        floor: Some(810),
        about: "the same, more of them",
        room: by_cpu,
        plan: |size| basic(size, &shapes::default_pod()),
    },
    Case {
        name: "SchedulingDaemonset",
        workload: "15000Nodes",
        size: size(15_000, 0, 30_000),
        floor: Some(1_100),
        about: "pods that name their one node, as a DaemonSet's do",
        room: on_the_one,
        plan: |size| Plan {
            node: Box::new(node_that_stands_alone),
            ..Plan::of(size, shapes::pinned(&fleet::node_name(0)))
        },
    },
    Case {
        name: "SchedulingPodAntiAffinity",
        workload: "5000Nodes_2000Pods",
        size: size(5_000, 1_000, 2_000),
        floor: Some(60),
        about: "required anti-affinity: one at most on a node",
        room: one_each,
        plan: |size| colours(size, &shapes::repelling(Among::Two)),
    },
    Case {
        name: "SchedulingPodMatchingAntiAffinity",
        workload: "5000Nodes_5000Pods",
        size: size(5_000, 1_000, 5_000),
        floor: Some(595),
        about: "pods that those before them keep away",
        room: |size| size.nodes.saturating_sub(size.before) * PODS_A_NODE,
        plan: |size| Plan {
            measured: Pods::new(
                size.pods,
                "sched-1",
                shapes::labelled(shapes::default_pod(), "color", "green"),
            ),
            ..colours(size, &shapes::repelling(Among::Two))
        },
    },
    Case {
        name: "SchedulingPodAffinity",
        workload: "5000Nodes_5000Pods",
        size: size(5_000, 5_000, 5_000),
        floor: Some(35),
        about: "required affinity: all in one zone",
        room: by_cpu,
        plan: |size| in_zones(colours(size, &shapes::attracted(Among::Two)), &["zone1"]),
    },
    Case {
        name: "SchedulingPreferredPodAffinity",
        workload: "5000Nodes_5000Pods",
        size: size(5_000, 5_000, 5_000),
        floor: Some(90),
        about: "rather on nodes with others of the kind",
        room: by_cpu,
        plan: |size| colours(size, &shapes::preferring(true, Among::Two)),
    },
    Case {
        name: "SchedulingPreferredPodAntiAffinity",
        workload: "5000Nodes_5000Pods",
        size: size(5_000, 5_000, 5_000),
        floor: Some(90),
        about: "rather on nodes without",
        room: by_cpu,
        plan: |size| colours(size, &shapes::preferring(false, Among::Two)),
    },
    Case {
        name: "SchedulingNodeAffinity",
        workload: "5000Nodes_10000Pods",
        size: size(5_000, 5_000, 10_000),
        floor: Some(220),
        about: "required node affinity: two zones, of which there is one",
        room: by_cpu,
        plan: |size| in_zones(basic(size, &shapes::choosy()), &["zone1"]),
    },
    Case {
        name: "MixedSchedulingBasePod",
        workload: "5000Nodes_5000Pods",
        size: size(5_000, 2_000, 5_000),
        floor: Some(140),
        about: "plain pods where five kinds of pods with affinities are",
        room: |size| (size.nodes * PODS_A_NODE).saturating_sub(5 * size.before),
        plan: mixed,
    },
    Case {
        name: "SchedulingRequiredPodAntiAffinityWithNSSelector",
        workload: "5000Nodes_2000Pods",
        size: size(6_000, 4_000, 2_000),
        floor: Some(24),
        about: "one at most on a node, over namespaces by their labels",
        room: one_each,
        plan: |size| teams(size, &shapes::repelling(Among::Team)),
    },
    Case {
        name: "SchedulingPreferredAntiAffinityWithNSSelector",
        workload: "5000Nodes_2000Pods",
        size: size(5_000, 4_000, 2_000),
        floor: Some(55),
        about: "rather apart, over namespaces by their labels",
        room: by_cpu,
        plan: |size| teams(size, &shapes::preferring(false, Among::Team)),
    },
    Case {
        name: "SchedulingRequiredPodAffinityWithNSSelector",
        workload: "5000Nodes_2000Pods",
        size: size(5_000, 5_000, 2_000),
        floor: Some(35),
        about: "all in one zone, over namespaces by their labels",
        room: by_cpu,
        plan: |size| in_zones(teams(size, &shapes::attracted(Among::Team)), &["zone1"]),
    },
    Case {
        name: "SchedulingPreferredAffinityWithNSSelector",
        workload: "5000Nodes_5000Pods",
        size: size(5_000, 5_000, 5_000),
        floor: Some(90),
        about: "rather together, over namespaces by their labels",
        room: by_cpu,
        plan: |size| teams(size, &shapes::preferring(true, Among::Team)),
    },
    Case {
        name: "TopologySpreading",
        workload: "5000Nodes_5000Pods",
        size: size(5_000, 5_000, 5_000),
        floor: Some(460),
        about: "spread over three zones, by 5 at most",
        room: by_cpu,
        plan: |size| spreading(size, shapes::spreading(true)),
    },
    Case {
        name: "PreferredTopologySpreading",
        workload: "5000Nodes_5000Pods",
        size: size(5_000, 5_000, 5_000),
        floor: Some(340),
        about: "the same, if it can be",
        room: by_cpu,
        plan: |size| spreading(size, shapes::spreading(false)),
    },
    Case {
        name: "DefaultTopologySpreading",
        workload: "5000Nodes_50000Pods",
        size: size(5_000, 5_000, 50_000),
        floor: Some(160),
        about: "pods of a Service, spread by default over nodes and zones",
        room: by_cpu,
        plan: |size| {
            let pod = shapes::labelled(shapes::default_pod(), "app", "scheduler-perf");
            Plan {
                spaces: vec![("service-ns".into(), false)],
                beside: vec![(
                    "",
                    "services",
                    "service-ns",
                    shapes::service("service", "app", "scheduler-perf"),
                )],
                measured: Pods::new(size.pods, "service-ns", pod),
                ..spreading(size, json!({}))
            }
        },
    },
    Case {
        name: "SchedulingWithNodeInclusionPolicy",
        workload: "5000Nodes",
        size: size(5_000, 0, 4_000),
        floor: Some(270),
        about: "spread over nodes, of which a fifth have a taint and do not count",
        room: |size| size.nodes - size.nodes / 5,
        plan: |size| Plan {
            node: Box::new(|index| {
                if index % 5 == 4 {
                    shapes::tainted_node(index)
                } else {
                    shapes::node(index)
                }
            }),
            ..Plan::of(size, shapes::spreading_where_it_may_go())
        },
    },
    Case {
        name: "SchedulingSecrets",
        workload: "5000Nodes_10000Pods",
        size: size(5_000, 1_000, 10_000),
        floor: Some(790),
        about: "pods with a secret as a volume",
        room: by_cpu,
        plan: |size| basic(size, &shapes::with_secret()),
    },
    Case {
        name: "SchedulingInTreePVs",
        workload: "5000Nodes_2000Pods",
        size: size(5_000, 1_000, 2_000),
        floor: Some(290),
        about: "each pod with a volume of the built-in plugin for AWS",
        room: |size| by_cpu(size).min(size.nodes * shapes::EBS_LIMIT - size.before),
        plan: |size| volumes(size, Disk::Aws, None),
    },
    Case {
        name: "SchedulingMigratedInTreePVs",
        workload: "5000Nodes_5000Pods",
        size: size(5_000, 5_000, 5_000),
        floor: Some(100),
        about: "the same, served by its CSI driver, of which a node takes 39",
        room: |size| by_cpu(size).min(size.nodes * shapes::EBS_LIMIT - size.before),
        plan: |size| volumes(size, Disk::Aws, Some(true)),
    },
    Case {
        name: "SchedulingCSIPVs",
        workload: "5000Nodes_5000Pods",
        size: size(5_000, 5_000, 5_000),
        floor: Some(100),
        about: "each pod with a volume of a CSI driver, of which a node takes 39",
        room: |size| by_cpu(size).min(size.nodes * shapes::EBS_LIMIT - size.before),
        plan: |size| volumes(size, Disk::Csi, Some(false)),
    },
    Case {
        name: "PreemptionPVs",
        workload: "1000Nodes",
        size: size(1_000, 4_000, 1_000),
        floor: None,
        about: "PreemptionBasic for pods with a volume each",
        room: one_for_each_node,
        plan: |size| {
            let mut plan = preemption(size);
            plan.measured = plan.measured.with_disk(Disk::Aws);
            plan
        },
    },
    Case {
        name: "PreemptionBasic",
        workload: "1000Nodes",
        size: size(1_000, 4_000, 1_000),
        floor: None,
        about: "a full cluster: three pods of low priority go for each of high priority",
        room: one_for_each_node,
        plan: preemption,
    },
    Case {
        name: "PreemptionBasic",
        workload: "5000Nodes",
        size: size(5_000, 20_000, 5_000),
        floor: None,
        about: "the same in the size that upstream has turned off, because it \"always seems to fail\"",
        room: one_for_each_node,
        plan: preemption,
    },
    Case {
        name: "PreemptionAsync",
        workload: "5000Nodes",
        size: size(5_000, 20_000, 5_000),
        floor: Some(570),
        about: "small pods, and five times a second one that others must go for",
        room: |size| size.nodes * LOW_PODS_A_NODE,
        plan: |size| Plan {
            before: vec![Pods::new(
                size.before,
                "default",
                shapes::pod_of("900m", "500Mi"),
            )],
            meanwhile: Some(Meanwhile::Pod {
                cpu: "3",
                every: FIVE_A_SECOND,
            }),
            ..Plan::of(size, shapes::default_pod())
        },
    },
    Case {
        name: "Unschedulable",
        workload: "5kNodes/100Init/10kPods",
        size: size(5_000, 100, 10_000),
        floor: Some(590),
        about: "pods, and five times a second one that fits nowhere",
        room: by_cpu,
        plan: unschedulable,
    },
    Case {
        name: "Unschedulable",
        workload: "5kNodes/20kInit/10kPods",
        size: size(5_000, 20_000, 10_000),
        floor: Some(600),
        about: "the same among 20,000 pods",
        room: by_cpu,
        plan: unschedulable,
    },
    Case {
        name: "SchedulingWithMixedChurn",
        workload: "5000Nodes_10000Pods",
        size: size(5_000, 0, 10_000),
        floor: Some(710),
        about: "pods, while a node, a Service and a pod that fits nowhere come and go",
        room: by_cpu,
        plan: |size| Plan {
            meanwhile: Some(Meanwhile::Mixed {
                every: Duration::from_secs(1),
            }),
            ..Plan::of(size, shapes::default_pod())
        },
    },
    Case {
        name: "SchedulingWhileGated",
        workload: "1Node_10000GatedPods",
        size: size(1, 10_000, 20_000),
        floor: Some(910),
        about: "10,000 pods with gates, and 20,000 that are deleted meanwhile",
        room: |_| ROOM_OF_ONE / 2,
        plan: |size| Plan {
            node: Box::new(node_that_stands_alone),
            before: vec![
                Pods::new(size.before, "default", shapes::gated(shapes::light_pod()))
                    .with_fate(Fate::Gated),
                Pods::new(2 * size.before, "default", shapes::light_pod())
                    .with_fate(Fate::Deleted { per_second: 50 }),
            ],
            ..Plan::of(size, shapes::light_pod())
        },
    },
    Case {
        name: "SchedulingGatedPodsWithPodAffinityImpactForThroughput",
        workload: "1Node_10000GatedPods",
        size: size(1, 10_000, 20_000),
        floor: Some(110),
        about: "10,000 pods with gates and affinity to those that are placed",
        room: on_the_one,
        plan: |size| {
            let pod = shapes::labelled(shapes::light_pod(), "app", "scheduler-perf");
            Plan {
                node: Box::new(node_that_stands_alone),
                before: vec![
                    Pods::new(size.before, "default", shapes::gated_and_attracted())
                        .with_fate(Fate::Gated),
                ],
                ..Plan::of(size, pod)
            }
        },
    },
    Case {
        name: "SchedulingDeletedPodsWithFinalizers",
        workload: "5000Node_5000DeletingPods",
        size: size(5_000, 5_000, 5_000),
        floor: Some(830),
        about: "pods, while others with finalizers are deleted before they are placed",
        room: by_pods,
        plan: |size| {
            let mut doomed = shapes::light_pod();
            doomed["metadata"]["finalizers"] = json!(["bench.example.com/held"]);
            Plan {
                before: vec![
                    Pods::new(size.before, "default", doomed)
                        .with_fate(Fate::Doomed { per_second: 100 }),
                ],
                ..Plan::of(size, shapes::light_pod())
            }
        },
    },
    Case {
        name: "SchedulingWithExtendedResource",
        workload: "5000pods_5000nodes",
        size: size(5_000, 0, 5_000),
        floor: Some(180),
        about: "every pod asks for a resource that one node has",
        room: one_for_each_node,
        plan: extended,
    },
    Case {
        name: "HostPortConflict",
        workload: "20000Nodes_20000Pods",
        size: size(20_000, 0, 20_000),
        floor: None,
        about: "every pod takes port 80 of its node (with default spreading on)",
        room: one_for_each_node,
        plan: |size| Plan::of(size, shapes::with_host_port()),
    },
    Case {
        name: "ResourceSaturation",
        workload: "20000Nodes_20000Pods",
        size: size(20_000, 0, 20_000),
        floor: None,
        about: "every pod takes three of its node's four cores (with default spreading on)",
        room: one_for_each_node,
        plan: |size| Plan::of(size, shapes::pod_of("3", "500Mi")),
    },
    // Not upstream's, but what its cases leave out.
    Case {
        name: "TwoThousandSelectors",
        workload: "5000Nodes_10000Pods",
        size: size(5_000, 0, 10_000),
        floor: None,
        about: "not upstream's: 2,000 Deployments' worth of pods, each spread by its own labels over nodes and zones",
        room: by_cpu,
        plan: |size| in_zones(own_spreading(size, 2_000), &MOONS),
    },
    Case {
        name: "HundredClasses",
        workload: "5000Nodes_10000Pods",
        size: size(5_000, 0, 10_000),
        floor: None,
        about: "not upstream's: pods of 100 different requests",
        room: |size| by_cpu(size) / 2,
        plan: |size| classes(size, 100),
    },
    Case {
        name: "ThousandClasses",
        workload: "5000Nodes_10000Pods",
        size: size(5_000, 0, 10_000),
        floor: None,
        about: "not upstream's: pods of 1,000 different requests",
        room: |size| by_cpu(size) / 2,
        plan: |size| classes(size, 1_000),
    },
];

fn unschedulable(size: Size) -> Plan {
    Plan {
        meanwhile: Some(Meanwhile::Pod {
            cpu: TOO_MUCH_CPU,
            every: FIVE_A_SECOND,
        }),
        ..basic(size, &shapes::default_pod())
    }
}

fn own_spreading(size: Size, owners: usize) -> Plan {
    let mut plan = Plan::of(size, json!({}));
    plan.measured.kinds = Some(owners);
    plan.measured.pod = Box::new(move |place| {
        let owner = format!("app-{}", place % owners);
        let constraint = |key: &str, skew: usize| {
            json!({"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
                   "labelSelector": {"matchLabels": {"app": owner}}})
        };
        let constraints = json!([
            constraint("kubernetes.io/hostname", 3),
            constraint(shapes::ZONE, 5)
        ]);
        let pod = shapes::with(
            shapes::default_pod(),
            "topologySpreadConstraints",
            constraints,
        );
        shapes::labelled(pod, "app", &owner)
    });
    plan
}

fn classes(size: Size, classes: usize) -> Plan {
    let mut plan = Plan::of(size, json!({}));
    plan.measured.kinds = Some(classes);
    plan.measured.pod = Box::new(move |place| {
        let (cpu, memory) = super::promises::request(place, classes);
        shapes::pod_of(&format!("{cpu}m"), &format!("{memory}Mi"))
    });
    plan
}

/// The case of a name, or of a name and a size: `SchedulingBasic`, `SchedulingBasic/5000Nodes_50000Pods`.
pub fn find(name: &str) -> Option<&'static Case> {
    let (name, workload) = match name.split_once('/') {
        Some((name, workload)) => (name, Some(workload)),
        None => (name, None),
    };
    let meant = |case: &&Case| {
        case.name.eq_ignore_ascii_case(name)
            && workload.is_none_or(|workload| case.workload.eq_ignore_ascii_case(workload))
    };
    CASES.iter().find(meant)
}

impl Case {
    /// The size it is asked for: what stands there before keeps its proportion to the nodes, or, where there is one
    /// node, to the pods.
    pub fn sized(&self, nodes: Option<usize>, pods: Option<usize>) -> Size {
        let of = self.size;
        let scaled = |what: usize, by: usize, of: usize| (what * by).div_ceil(of.max(1));
        if of.nodes == 1 {
            let pods = pods.unwrap_or(of.pods);
            return Size {
                nodes: 1,
                before: scaled(of.before, pods, of.pods),
                pods,
            };
        }
        let nodes = nodes.unwrap_or(of.nodes);
        Size {
            nodes,
            before: scaled(of.before, nodes, of.nodes),
            pods: pods.unwrap_or(scaled(of.pods, nodes, of.nodes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_fits_in_its_own_size_and_its_name_is_its_own() {
        for (place, case) in CASES.iter().enumerate() {
            let room = (case.room)(case.size);
            assert!(case.size.pods <= room, "{}: {room}", case.name);
            let same = |other: &&Case| other.name == case.name && other.workload == case.workload;
            assert_eq!(CASES.iter().position(|other| same(&other)), Some(place));
        }
    }

    #[test]
    fn sizes_keep_their_proportions() {
        let sized = |name: &str, nodes, pods| {
            let case = find(name).unwrap();
            case.sized(nodes, pods)
        };
        assert_eq!(
            sized("SchedulingBasic", None, None),
            size(5_000, 1_000, 10_000)
        );
        assert_eq!(sized("schedulingbasic", Some(50), None), size(50, 10, 100));
        assert_eq!(
            sized("PreemptionBasic", Some(50), Some(7)),
            size(50, 200, 7)
        );
        assert_eq!(
            sized("SchedulingWhileGated", Some(50), Some(100)),
            size(1, 50, 100)
        );
        assert_eq!(
            sized("SchedulingBasic/5000Nodes_50000Pods", None, None).pods,
            50_000
        );
        assert!(find("SchedulingBasic/7Nodes").is_none() && find("Fly").is_none());
    }
}

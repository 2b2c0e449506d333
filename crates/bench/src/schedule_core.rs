//! `schedule --core-only`: the decision alone. Pick a node, put the pod there, next.

use placement::{ClassId, Cluster, Config, NodeId, NodeInfo, PickError, PodInfo, PodKey};

use crate::Options;
use crate::audit::Audit;
use crate::measure::{Samples, Spent, repeat, resident_bytes};
use crate::progress::Progress;
use crate::report::Report;
use crate::workload::{self, CLASSES, check_room};

/// Pods between two looks at the progress.
const CHUNK: usize = 4_096;

pub fn run(options: &Options) -> Result<Report, String> {
    let (nodes, pods) = (options.nodes, options.pods);
    check_room(nodes, pods)?;
    let outcomes = repeat(options.runs, || once(nodes, pods))?;
    let (mut wall, mut cpu, mut seconds) = <(Samples, Samples, Samples)>::default();
    for outcome in &outcomes {
        wall.push(outcome.spent.wall_nanos_per(pods) / 1e3);
        cpu.push(outcome.spent.cpu_nanos_per(pods) / 1e3);
        seconds.push(outcome.spent.wall.as_secs_f64());
    }
    let resident = outcomes.first().map_or(0, |outcome| outcome.resident_bytes);
    Ok(Report::in_memory()
        .text("mode", "core-only")
        .count("nodes", nodes)
        .count("pods", pods)
        .count("runs", outcomes.len())
        .median("seconds", &seconds)
        .number("pods_per_second", pods as f64 / seconds.median().max(1e-9))
        .median("us_per_pod", &wall)
        .main("cpu_us_per_pod", &cpu)
        .count("rss_bytes", usize::try_from(resident).unwrap_or(usize::MAX))
        .count(
            "unscheduled",
            outcomes.iter().map(|outcome| outcome.unscheduled).sum(),
        )
        .count(
            "picks_audited",
            outcomes.iter().map(|outcome| outcome.audit.audited).sum(),
        )
        .count(
            "mismatches",
            outcomes
                .iter()
                .map(|outcome| outcome.audit.mismatches)
                .sum(),
        ))
}

struct Outcome {
    spent: Spent,
    resident_bytes: u64,
    unscheduled: usize,
    audit: Audit,
}

fn once(nodes: usize, pods: usize) -> Result<Outcome, String> {
    let (mut cluster, handles) = cluster_of(nodes)?;
    let classes = classes_of(&mut cluster)?;
    let mut audit = Audit::new(nodes, pods);
    let mut random = random();
    let mut progress = Progress::new("picking", pods);
    let (mut spent, mut unscheduled) = (Spent::default(), 0);
    let mut next = 0;
    while next < pods {
        let end = (next + CHUNK).min(pods);
        let audited = (next..end).find(|pick| audit.wants(*pick));
        // The audited pick ends its stretch, so that the audit itself is not timed.
        let end = audited.map_or(end, |pick| pick + 1);
        let last = spent.on(|| {
            let mut last = None;
            for pod in next..end {
                let class = classes[pod % classes.len()];
                let picked = match cluster.pick(class, None, &mut random) {
                    Ok(node) => Some(node),
                    Err(PickError::Unschedulable(_)) => None,
                    Err(PickError::UnknownClass) => return Err("a class was forgotten".to_owned()),
                };
                if pod + 1 == end && audited.is_some() {
                    last = Some((pod, class, picked));
                } else {
                    unscheduled += usize::from(!place(&mut cluster, pod, class, picked));
                }
            }
            Ok(last)
        })?;
        if let Some((pod, class, picked)) = last {
            audit.check(&mut cluster, &handles, class, picked);
            unscheduled += usize::from(!spent.on(|| place(&mut cluster, pod, class, picked)));
        }
        progress.add(end - next);
        next = end;
    }
    Ok(Outcome {
        spent,
        resident_bytes: resident_bytes(),
        unscheduled,
        audit,
    })
}

fn place(cluster: &mut Cluster, pod: usize, class: ClassId, picked: Option<NodeId>) -> bool {
    // The two halves of a real uid both vary.
    let key = PodKey::of_uuid((pod as u128) << 64 | pod as u128);
    picked.is_some_and(|node| cluster.assume(key, class, node))
}

/// A cluster of the benchmark's nodes, with the handles of all.
pub fn cluster_of(nodes: usize) -> Result<(Cluster, Vec<NodeId>), String> {
    let mut cluster = Cluster::new(Config::default());
    let mut handles = Vec::with_capacity(nodes);
    let mut progress = Progress::new("taking in nodes", nodes);
    for index in 0..nodes {
        let node = NodeInfo::from_object(&workload::node(index))?;
        cluster.upsert_node(&node);
        handles.extend(cluster.node(&node.name));
        progress.add(1);
    }
    Ok((cluster, handles))
}

/// The benchmark's classes of pods, as the API server completes them.
pub fn classes_of(cluster: &mut Cluster) -> Result<Vec<ClassId>, String> {
    (0..CLASSES)
        .map(|class| {
            let mut pod = workload::pod(class, "any");
            pod["metadata"]["uid"] = "any".into();
            pod["spec"]["tolerations"] = default_tolerations();
            let class = cluster.class_of(&PodInfo::from_object(&pod)?.spec);
            cluster.retain_class(class);
            Ok(class)
        })
        .collect()
}

/// What admission gives every pod that says nothing else.
pub fn default_tolerations() -> meta::Value {
    let of = |key: &str| value::json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    vec![
        of("node.kubernetes.io/not-ready"),
        of("node.kubernetes.io/unreachable"),
    ]
    .into()
}

/// Xorshift: cheap numbers, the same in every run.
pub fn random() -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

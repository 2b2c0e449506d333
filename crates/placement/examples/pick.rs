//! Places pods on nodes as fast as it can and says what it cost: `pick NODES PODS [SHAPES CLASSES]`.
//!
//! Knows only the public API of placement; no object is parsed on the way.

use placement::queue::{Pending, Queue, QueueConfig};
use placement::{
    ClassId, Cluster, Config, NodeInfo, PickError, PodKey, PodRequest, PodSpec, ResourceList,
};
use std::time::Instant;

const GIB: i64 = 1 << 30;

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|a| a.parse().expect("arguments are whole numbers"));
    let nodes: u64 = args.next().unwrap_or(100_000);
    let pods: u64 = args.next().unwrap_or(100_000);
    let shapes = args.next().unwrap_or(10).max(1);
    let classes = args.next().unwrap_or(10).max(1);

    let mut cluster = Cluster::new(Config::default());
    let empty = resident_bytes();
    let start = Instant::now();
    for n in 0..nodes {
        cluster.upsert_node(&node(n, n % shapes));
    }
    let joined = resident_bytes();
    println!(
        "{nodes} nodes of {shapes} shapes: {} ns a node, {} B a node",
        start.elapsed().as_nanos() as u64 / nodes.max(1),
        joined.saturating_sub(empty) / nodes.max(1),
    );

    let specs: Vec<PodSpec> = (0..classes).map(spec).collect();
    let classes: Vec<_> = specs.iter().map(|s| cluster.class_of(s)).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut placed, mut unplaced) = (0u64, 0u64);
    let start = Instant::now();
    let start_cpu = cpu_nanos();
    let mut lap = start;
    for p in 0..pods {
        let class = classes[(p % classes.len() as u64) as usize];
        match cluster.pick(class, None, &mut random) {
            Ok(node) => {
                cluster.assume(
                    PodKey::of_uuid(u128::from(p) << 64 | u128::from(p)),
                    class,
                    node,
                );
                placed += 1;
            }
            Err(PickError::Unschedulable(why)) => {
                if unplaced == 0 {
                    println!("first pod without a node: {}", why.message());
                }
                unplaced += 1;
            }
            Err(PickError::UnknownClass) => unplaced += 1,
        }
        if (p + 1) % (pods / 5).max(1) == 0 {
            println!(
                "  {:>9} pods: {:>5} ns a pod in this fifth; {:?}",
                p + 1,
                lap.elapsed().as_nanos() as u64 / (pods / 5).max(1),
                cluster.sizes()
            );
            lap = Instant::now();
        }
    }
    let (spent, spent_cpu) = (start.elapsed(), cpu_nanos() - start_cpu);
    println!(
        "{placed} placed, {unplaced} not: {} ns a pod, {} ns of CPU (pick and assume); {} B a pod; {} MB resident",
        spent.as_nanos() as u64 / pods.max(1),
        spent_cpu / pods.max(1),
        resident_bytes().saturating_sub(joined) / pods.max(1),
        resident_bytes() >> 20,
    );
    time_queue(&classes, pods);
    for (what, key, value) in [
        ("zone", "topology.kubernetes.io/zone", "zone-1"),
        ("host name", "kubernetes.io/hostname", "node-0000000"),
        ("second host name", "kubernetes.io/hostname", "node-0000001"),
    ] {
        let start = Instant::now();
        let class = cluster.class_of(&PodSpec {
            node_selector: vec![(key.into(), value.into())],
            ..spec(0)
        });
        let learnt = start.elapsed();
        let found = cluster.pick(class, None, &mut random).is_ok();
        println!(
            "first class to ask about a {what}: {} us, first pick {} us, found a node: {found}",
            learnt.as_micros(),
            (start.elapsed() - learnt).as_micros()
        );
    }
}

fn node(n: u64, shape: u64) -> NodeInfo {
    let name = format!("node-{n:07}");
    NodeInfo {
        labels: vec![
            ("kubernetes.io/arch".into(), "amd64".into()),
            ("kubernetes.io/hostname".into(), name.as_str().into()),
            ("kubernetes.io/os".into(), "linux".into()),
            (
                "topology.kubernetes.io/zone".into(),
                format!("zone-{}", shape % 3).into(),
            ),
        ],
        name: name.into(),
        allocatable: ResourceList {
            cpu_milli: 4_000 + 1_000 * shape as i64,
            memory_bytes: (32 - shape as i64) * GIB,
            ephemeral_bytes: 100 * GIB,
            scalars: Vec::new(),
        },
        allocatable_pods: 110,
        ..NodeInfo::default()
    }
}

fn spec(class: u64) -> PodSpec {
    let cpu_milli = 100 + 50 * class as i64;
    let memory_bytes = (500 + 37 * class as i64) << 20;
    PodSpec {
        request: PodRequest {
            real: ResourceList {
                cpu_milli,
                memory_bytes,
                ..ResourceList::default()
            },
            scored_cpu_milli: cpu_milli,
            scored_memory_bytes: memory_bytes,
        },
        ..PodSpec::default()
    }
}

fn time_queue(classes: &[ClassId], pods: u64) {
    let before = resident_bytes();
    let mut queue = Queue::new(QueueConfig::default());
    let start = cpu_nanos();
    for p in 0..pods {
        let pending = Pending {
            pod: PodKey::of_uuid(u128::from(p) << 64 | u128::from(p)),
            class: classes[(p % classes.len() as u64) as usize],
            priority: (p % 3) as i32,
            gated: false,
        };
        if queue.add(pending, p as i64).is_err() {
            break;
        }
    }
    let full = resident_bytes();
    while let Some(turn) = queue.pop(i64::MAX / 2) {
        queue.placed(turn.pod, i64::MAX / 2);
    }
    println!(
        "queue: {} ns of CPU a pod to add, pop and remove; {} B a waiting pod",
        (cpu_nanos() - start) / pods.max(1),
        full.saturating_sub(before) / pods.max(1),
    );
}

/// CPU time of the process; other work on the machine does not count.
fn cpu_nanos() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|p| p.parse().ok());
    pages.unwrap_or(0u64) * 4096
}

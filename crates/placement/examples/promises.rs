//! The promises about decisions, quick to build and run: `promises CASE NODES PODS`, where CASE is `classes-N` (pods of N
//! different requests on ten shapes of nodes), `preempt` (every node is full of pods of ten priorities; STARTED=1: that
//! started at different times), `extended` (every node has a resource of its own name, and each pod asks for one) or
//! `selectors` (pods of 2,000 kinds, each spread by its own labels over nodes and zones).
//!
//! Says CPU per pod. Compares nothing: that is `tests/oracle`'s and `megaplane bench schedule`'s.

use placement::{
    ClassId, Cluster, Config, NodeId, NodeInfo, PickError, PodInfo, PodKey, PodRequest, PodSpec,
    Preemption, ResourceList, spread_constraint,
};
use value::json;

const GIB: i64 = 1 << 30;
const NOW_MICROS: i64 = 1_800_000_000_000_000;

fn main() {
    let mut args = std::env::args().skip(1);
    let case = args.next().unwrap_or_else(|| "classes-100".into());
    let mut number = |default: usize| {
        let text = args.next();
        text.map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (nodes, pods) = (number(1_000_000), number(100_000));
    match &*case {
        "preempt" => preempt(nodes, pods),
        "extended" => place(
            nodes,
            pods,
            0,
            |index| with_scalar(index, 4, 32),
            |place| {
                let mut spec = asking(100, 500);
                spec.request.real.scalars = vec![(resource(place), 1)];
                spec
            },
        ),
        "selectors" => place(nodes, pods, 2_000, |index| plain(index, 4, 32), spread),
        classes => {
            let classes = classes.strip_prefix("classes-").expect("a case");
            let classes: usize = classes.parse().expect("a whole number");
            let node = |index: usize| {
                let step = index as i64 % 10;
                plain(index, 8 + 4 * step, 32 + 16 * (9 - step))
            };
            place(nodes, pods, classes, node, |place| {
                let class = place * 7_919 % classes;
                asking(50 + 5 * (class as i64 % 40), 100 + 16 * (class as i64 / 40))
            });
        }
    }
}

fn plain(index: usize, cores: i64, memory_gib: i64) -> NodeInfo {
    let name = format!("node-{index:07}");
    NodeInfo {
        labels: vec![
            ("kubernetes.io/hostname".into(), name.as_str().into()),
            (
                "topology.kubernetes.io/zone".into(),
                format!("zone-{}", index % 3).into(),
            ),
        ],
        name: name.into(),
        allocatable: ResourceList {
            cpu_milli: cores * 1_000,
            memory_bytes: memory_gib * GIB,
            ephemeral_bytes: 0,
            scalars: Vec::new(),
        },
        allocatable_pods: 110,
        ..NodeInfo::default()
    }
}

fn resource(index: usize) -> Box<str> {
    format!("example.com/thing-{index}").into()
}

fn with_scalar(index: usize, cores: i64, memory_gib: i64) -> NodeInfo {
    let mut node = plain(index, cores, memory_gib);
    node.allocatable.scalars = vec![(resource(index), 1)];
    node
}

fn asking(cpu_milli: i64, memory_mib: i64) -> PodSpec {
    let memory_bytes = memory_mib << 20;
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
        namespace: "default".into(),
        ..PodSpec::default()
    }
}

fn spread(place: usize) -> PodSpec {
    let app = format!("app-{}", place % 2_000);
    let labels = vec![("app".into(), app.as_str().into())];
    let constraint = |key: &str, skew: i64| {
        spread_constraint(
            &json!({
                "maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app": app}},
            }),
            &labels,
        )
    };
    PodSpec {
        spread: vec![
            constraint("kubernetes.io/hostname", 3),
            constraint("topology.kubernetes.io/zone", 5),
        ],
        labels,
        ..asking(100, 500)
    }
}

fn key(number: usize) -> PodKey {
    PodKey::of_uuid((number as u128) << 64 | number as u128)
}

fn dice() -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// With `kinds` 0 each pod's class is looked up when it comes.
fn place(
    nodes: usize,
    pods: usize,
    kinds: usize,
    node: impl Fn(usize) -> NodeInfo,
    spec: impl Fn(usize) -> PodSpec,
) {
    let mut cluster = Cluster::new(Config::default());
    for index in 0..nodes {
        cluster.upsert_node(&node(index));
    }
    let known: Vec<ClassId> = (0..kinds)
        .map(|kind| cluster.class_of(&spec(kind)))
        .collect();
    let mut random = dice();
    let (mut placed, mut lap) = (0, cpu_nanos());
    let begun = lap;
    for number in 0..pods {
        let class = match known.get(number % kinds.max(1)) {
            Some(class) => *class,
            None => cluster.class_of(&spec(number)),
        };
        if let Ok(node) = cluster.pick(class, None, &mut random) {
            placed += usize::from(cluster.assume(key(number), class, node));
        }
        let part = (pods / 5).max(1);
        if (number + 1) % part == 0 {
            let now = cpu_nanos();
            println!(
                "  {:>9} pods: {:>6} ns a pod; {:?}",
                number + 1,
                (now - lap) / part as u64,
                cluster.sizes()
            );
            lap = now;
        }
    }
    println!(
        "{placed} of {pods} placed on {nodes} nodes: {} ns of CPU a pod",
        (cpu_nanos() - begun) / pods.max(1) as u64
    );
}

fn preempt(nodes: usize, pods: usize) {
    let mut cluster = Cluster::new(Config::default());
    let mut random = dice();
    let started = std::env::var_os("STARTED").is_some();
    let prioritised = |milli: i64, priority: i32| PodSpec {
        priority,
        ..asking(milli, 500)
    };
    for index in 0..nodes {
        let node = plain(index, 4, 32);
        let name = node.name.clone();
        cluster.upsert_node(&node);
        for place in 0..4 {
            let at = random();
            let number = index * 4 + place;
            cluster.observe_pod(&PodInfo {
                uid: uid(number),
                name: format!("low-{number}").into(),
                node: Some(name.clone()),
                started_micros: if started { 1 + (at >> 20) as i64 } else { 0 },
                spec: prioritised(900, ((at >> 33) % 10) as i32),
                ..PodInfo::default()
            });
        }
    }
    let high: Vec<ClassId> = [1_000, 2_000, 3_000]
        .map(|milli| cluster.class_of(&prioritised(milli, 100)))
        .into();
    let mut times = Vec::new();
    let begun = cpu_nanos();
    for turn in 0..pods {
        let (pod, class) = (key(nodes * 4 + turn), high[turn % high.len()]);
        let from = cpu_nanos();
        let node = make_room(&mut cluster, pod, class, &mut random).expect("room");
        cluster.assume(pod, class, node);
        times.push((cpu_nanos() - from) / 1_000);
    }
    let spent = cpu_nanos() - begun;
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(0);
    println!(
        "{pods} preempted on {nodes} nodes: {} us of CPU a pod; p50 {} us, p90 {} us, p99 {} us, the longest {} us",
        spent / pods.max(1) as u64 / 1_000,
        at(50),
        at(90),
        at(99),
        times.last().copied().unwrap_or(0)
    );
}

fn uid(number: usize) -> Box<str> {
    format!("{:08x}-0000-4000-8000-{number:012x}", number as u32).into()
}

fn make_room(
    cluster: &mut Cluster,
    pod: PodKey,
    class: ClassId,
    random: &mut dyn FnMut() -> u64,
) -> Result<NodeId, PickError> {
    if let Ok(node) = cluster.pick_for(pod, class, None, random) {
        return Ok(node);
    }
    let found = cluster.preempt(pod, class, None, NOW_MICROS, random)?;
    if let Preemption::Found { node, victims, .. } = found {
        cluster.nominate(pod, class, node);
        for victim in victims {
            cluster.remove_pod(victim);
        }
    }
    cluster.pick_for(pod, class, None, random)
}

/// CPU time of the process; other work on the machine does not count.
fn cpu_nanos() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

//! Places pods with the nodes in shards and says what it cost: `shards HOW SHARDS NODES PODS RUN [SPREAD]`, where HOW is
//! `one`, `threads` or `sockets`, RUN how many equal pods follow one another, and SPREAD 1 if a Service selects
//! them, so that they are spread.
//!
//! CPU time is the whole process's: with sockets the shards are threads of it, too. Knows only public calls.

use std::net::TcpListener;
use std::time::Instant;

use placement::shards::Coordinator;
use placement::{Cluster, Config, MakerKind, NodeInfo, PodKey, PodRequest, PodSpec, ResourceList};
use scheduler::Shards;

const GIB: i64 = 1 << 30;
const CLASSES: u64 = 10;

fn main() {
    let mut args = std::env::args().skip(1);
    let how = args.next().unwrap_or_else(|| "threads".into());
    let mut number = |default: u64| -> u64 {
        let text = args.next();
        text.map_or(default, |text| text.parse().expect("a whole number"))
    };
    let (shards, nodes, pods) = (number(2), number(100_000), number(100_000));
    let (run, spread) = (number(100).max(1), number(0) == 1);
    let config = Config::default();
    let shards = match &*how {
        "one" => Shards::One,
        "threads" => Shards::Threads(shards as usize),
        _ => Shards::Processes((0..shards).map(|_| serve()).collect()),
    };
    let specs: Vec<PodSpec> = (0..CLASSES).map(|class| spec(class, spread)).collect();
    let selector = value::json!({"app": "a"});
    let begun = Instant::now();
    let (mut placed, mut start, mut cpu) = (0, begun, cpu_nanos());
    let mut began = |what: &str| {
        println!(
            "{nodes} nodes told in {} ms; {what}",
            begun.elapsed().as_millis()
        );
        (start, cpu) = (Instant::now(), cpu_nanos());
    };
    match shards.links(&config) {
        None => {
            let mut cluster = Cluster::new(config);
            (0..nodes).for_each(|n| {
                cluster.upsert_node(&node(n));
            });
            cluster.note_maker(MakerKind::Service, "default", "all", &selector);
            began("one cluster");
            let mut random = dice();
            for number in 0..pods {
                let class = cluster.class_of(&specs[(number / run % CLASSES) as usize]);
                if let Ok(node) = cluster.pick(class, None, &mut random) {
                    placed += u64::from(cluster.assume(key(number), class, node));
                }
            }
        }
        Some(links) => {
            let mut coordinator = Coordinator::new(config, links);
            (0..nodes).for_each(|n| {
                coordinator.upsert_node(&node(n));
            });
            coordinator.note_maker(MakerKind::Service, "default", "all", &selector);
            began("shards");
            let mut random = dice();
            for first in (0..pods).step_by(run as usize) {
                let class = coordinator.class_of(&specs[(first / run % CLASSES) as usize]);
                let keys: Vec<PodKey> = (first..pods.min(first + run)).map(key).collect();
                let nodes = coordinator.place_run(class, &keys, &mut random);
                placed += nodes.map_or(0, |nodes| nodes.len() as u64);
            }
        }
    }
    let (wall, spent) = (start.elapsed().as_nanos() as u64, cpu_nanos() - cpu);
    println!(
        "{placed} of {pods} pods placed: {} ns a pod, {} ns of CPU",
        wall / pods.max(1),
        spent / pods.max(1)
    );
}

fn serve() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || scheduler::serve_shards(&listener));
    address
}

fn key(number: u64) -> PodKey {
    PodKey::of_uuid(u128::from(number) << 64 | u128::from(number))
}

fn node(n: u64) -> NodeInfo {
    let name: Box<str> = format!("node-{n:07}").into();
    let cores = [4, 8, 16, 32][(n % 4) as usize];
    NodeInfo {
        labels: vec![
            ("kubernetes.io/hostname".into(), name.clone()),
            (
                "topology.kubernetes.io/zone".into(),
                format!("zone-{}", n % 3).into(),
            ),
        ],
        name,
        allocatable: ResourceList {
            cpu_milli: cores * 1000,
            memory_bytes: cores * 4 * GIB,
            ..ResourceList::default()
        },
        allocatable_pods: 110,
        ..NodeInfo::default()
    }
}

fn spec(class: u64, spread: bool) -> PodSpec {
    let (cpu, memory) = (100 + 50 * class as i64, GIB / 4 * (1 + class as i64 % 4));
    PodSpec {
        request: PodRequest {
            real: ResourceList {
                cpu_milli: cpu,
                memory_bytes: memory,
                ..ResourceList::default()
            },
            scored_cpu_milli: cpu,
            scored_memory_bytes: memory,
        },
        namespace: "default".into(),
        labels: vec![("app".into(), if spread { "a" } else { "b" }.into())],
        ..PodSpec::default()
    }
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

/// CPU time of all threads of this process, to 10 ms.
fn cpu_nanos() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<u64> = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    fields.iter().sum::<u64>() * 10_000_000
}

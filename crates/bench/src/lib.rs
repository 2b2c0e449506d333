//! Benchmarks of Megaplane, by name: `megaplane bench NAME`.
//!
//! Most run in this process, on a store that keeps nothing (`"durability": "memory"`), so that a figure is the cost of our
//! code and not of a disk or a network. `lease-wire`, `connections`, `watches`, `storm`, `store-txn`, `-list`, `-watch`,
//! `-pause` and `-recovery` run servers as processes, over the network; those of the store compare with an etcd that they
//! are told of.
//! Processor time is the measure that holds on a shared machine; wall time stands beside it.
//!
//! Knows no clients of others.

mod audit;
mod board;
mod census;
mod cluster;
mod connections;
mod descriptors;
mod etcd;
mod event_cutter;
mod label_watches;
mod latencies;
mod lease_renewal;
mod lease_wire;
mod lists;
mod measure;
mod million;
mod outage;
mod perf;
mod plane;
mod plane_process;
mod plot;
mod process;
mod progress;
mod register;
mod report;
mod resumable;
mod schedule_core;
mod schedule_plane;
mod settling;
mod soak;
mod spread;
mod store_memory;
mod store_put;
mod storm;
mod summary;
mod targets;
mod watches;
mod workload;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use value::Value;

use crate::report::Report;

/// What a benchmark is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which one.
    pub name: String,
    /// Nodes; Leases in `lease-renewal`.
    pub nodes: usize,
    /// Pods.
    pub pods: usize,
    /// Nodes, if a number was asked for: cases of `schedule` have sizes of their own.
    pub asked_nodes: Option<usize>,
    /// Pods, likewise.
    pub asked_pods: Option<usize>,
    /// Operations; also the keys of `store-put`.
    pub operations: usize,
    /// Which variant, for benchmarks that have several.
    pub case: Option<String>,
    /// Connections to the server, of benchmarks that make any.
    pub connections: usize,
    /// Requests that each of them has under way.
    pub streams: usize,
    /// Events a second that `watches` makes.
    pub rate: usize,
    /// Part of the nodes that `outage` silences, in percent.
    pub percent: Option<usize>,
    /// Silence after which a node of `outage` is marked.
    pub grace: Duration,
    /// Where `million` draws itself.
    pub plot: Option<PathBuf>,
    /// How often a short measurement is repeated; figures are medians.
    pub runs: usize,
    /// How long `soak` goes on, and `million` lets its nodes live before pods come.
    pub duration: Duration,
    /// Leases of `soak`.
    pub leases: usize,
    /// Without API and binding.
    pub core_only: bool,
    /// Print JSON.
    pub json: bool,
}

/// One benchmark.
struct Benchmark {
    name: &'static str,
    about: &'static str,
    flags: &'static str,
    run: fn(&Options) -> Result<Report, String>,
}

const BENCHMARKS: [Benchmark; 19] = [
    Benchmark {
        name: "store-put",
        about: "the store alone: puts of existing keys, 650 B, with and without 5 watchers; memory of a key",
        flags: "--operations",
        run: store_put::run,
    },
    Benchmark {
        name: "store-txn",
        about: "`megaplane store` as a process: transactions of Kubernetes' shape over the network, etcd beside it",
        flags: "--operations --connections --streams --case kubernetes|put|lease-flood",
        run: etcd::txn::run,
    },
    Benchmark {
        name: "store-memory",
        about: "the store alone: memory of a key and of a kept revision, beside key and value",
        flags: "--operations",
        run: store_memory::run,
    },
    Benchmark {
        name: "store-list",
        about: "pages of 500 and of 10,000 out of --operations keys, with exact counts, over the network, etcd beside it",
        flags: "--operations",
        run: etcd::pages::run,
    },
    Benchmark {
        name: "store-watch",
        about: "--nodes idle watches of single keys, and 1,000 of the whole kind, over the network, etcd beside it",
        flags: "--nodes --operations --connections --streams",
        run: etcd::watches::run,
    },
    Benchmark {
        name: "store-pause",
        about: "how long writers wait while --operations revisions are compacted and --nodes leases expire; etcd beside it",
        flags: "--operations --nodes",
        run: etcd::pause::run,
    },
    Benchmark {
        name: "store-recovery",
        about: "--nodes nodes, Leases and pods on disk: serving again after kill -9, etcd beside it",
        flags: "--nodes",
        run: etcd::recovery::run,
    },
    Benchmark {
        name: "lease-renewal",
        about: "PUT of Leases through the API server, in process, as kubelets renew them",
        flags: "--nodes --operations",
        run: lease_renewal::run,
    },
    Benchmark {
        name: "lease-wire",
        about: "the same over HTTP/2 and TLS to `megaplane up` as a process, by our own codec and by hyper",
        flags: "--connections --streams --operations",
        run: lease_wire::run,
    },
    Benchmark {
        name: "connections",
        about: "memory of silent connections and silent watches of `megaplane up` as a process, over TLS",
        flags: "--connections --streams",
        run: connections::run,
    },
    Benchmark {
        name: "schedule",
        about: "pods created through the API until a watch has seen all of them bound; --core-only: the decision alone",
        flags: "--nodes --pods --core-only --case NAME|all|promises|list --rate",
        run: schedule,
    },
    Benchmark {
        name: "register",
        about: "a fleet registers: every node creates its Node and its Lease, and begins to renew it",
        flags: "--nodes",
        run: register::run,
    },
    Benchmark {
        name: "million",
        about: "a whole cluster: nodes register, live for a while, run pods, and lose them again",
        flags: "--nodes --pods --duration --plot",
        run: million::run,
    },
    Benchmark {
        name: "watches",
        about: "--nodes idle watches of `megaplane up` as a process, bytes each; then events at --rate, and their latency",
        flags: "--nodes --connections --operations --rate",
        run: watches::run,
    },
    Benchmark {
        name: "label-watches",
        about: "changes of pods beside --nodes watches with a label selector each, found by the label or not; a list by label",
        flags: "--nodes --operations",
        run: label_watches::run,
    },
    Benchmark {
        name: "storm",
        about: "`megaplane up` on disk is killed, and --connections clients come back at once: when is everybody served?",
        flags: "--connections",
        run: storm::run,
    },
    Benchmark {
        name: "lists",
        about: "all nodes by LIST (protobuf, JSON) and WatchList: first byte, whole, memory, and how long writers waited",
        flags: "--nodes --runs",
        run: lists::run,
    },
    Benchmark {
        name: "outage",
        about: "a part of the nodes falls silent: when are all marked, whose pods are evicted, when are all Ready again?",
        flags: "--nodes --pods --percent --case spread|zone --grace",
        run: outage::run,
    },
    Benchmark {
        name: "soak",
        about: "a store on disk for a while: leases that expire and are renewed, puts, watchers, compaction; is it flat?",
        flags: "--duration --leases",
        run: soak::run,
    },
];

/// Benchmarks that may be asked for no pods at all.
const WITHOUT_PODS: [&str; 2] = ["million", "outage"];
/// Names that benchmarks had before.
const FORMER_NAMES: [(&str, &str); 1] = [("list-nodes", "lists")];

/// A shorter one would measure its beginning.
const DURATION_MIN: Duration = Duration::from_secs(1);

/// Runs one benchmark and prints its report, or prints the list of them.
pub fn run(options: &Options) -> Result<(), String> {
    if perf::is_of_many(options) {
        checked(options)?;
        return perf::print_many(options);
    }
    let text = match options.name.as_str() {
        "list" | "help" => catalogue(options.json),
        _ => {
            let report = measured(options)?;
            if options.json {
                format!("{}\n", report.to_json())
            } else {
                report.to_table()
            }
        }
    };
    // A reader that went away (`| head`) is no failure of the benchmark.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// Runs one benchmark and gives its report as the object that `--json` prints; of many cases an array of them.
pub fn measure(options: &Options) -> Result<Value, String> {
    if perf::is_of_many(options) {
        checked(options)?;
        return perf::measure_many(options);
    }
    measured(options).map(|report| report.to_json())
}

fn measured(options: &Options) -> Result<Report, String> {
    let benchmark = checked(options)?;
    let before = measure::load_average();
    let report = (benchmark.run)(options)?;
    Ok(report.of_benchmark(benchmark.name, &before))
}

/// The benchmark that is meant, if what it is told makes sense.
fn checked(options: &Options) -> Result<&'static Benchmark, String> {
    let former = FORMER_NAMES
        .iter()
        .find(|(former, _)| *former == options.name);
    let name = former.map_or(options.name.as_str(), |(_, name)| *name);
    let Some(benchmark) = BENCHMARKS.iter().find(|benchmark| benchmark.name == name) else {
        let names: Vec<&str> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
        return Err(format!(
            "there is no benchmark \"{}\"; there are: {}, and list",
            options.name,
            names.join(", ")
        ));
    };
    let amounts = [
        options.nodes,
        options.operations,
        options.connections,
        options.streams,
        options.rate,
        options.runs,
        options.leases,
    ];
    let shortest = options.duration.min(options.grace);
    if amounts.contains(&0) || shortest < DURATION_MIN {
        return Err(
            "nodes, operations, connections, streams, rate, runs and leases must be at least 1, and times 1s".into(),
        );
    }
    if options.pods == 0 && !WITHOUT_PODS.contains(&benchmark.name) {
        return Err(format!("{} needs pods", benchmark.name));
    }
    if options.plot.is_some() && benchmark.name != "million" {
        return Err(format!(
            "{} draws nothing: --plot is for million",
            benchmark.name
        ));
    }
    Ok(benchmark)
}

fn schedule(options: &Options) -> Result<Report, String> {
    if options.case.is_some() {
        perf::run(options)
    } else if options.core_only {
        schedule_core::run(options)
    } else {
        schedule_plane::run(options)
    }
}

/// Connections that a benchmark makes if it is not told how many.
pub fn connections_by_default(name: &str) -> usize {
    match name {
        "watches" => 5_000,
        // What descriptors and server allow of them is seen when it starts.
        "storm" => 20_000,
        _ => 10,
    }
}

fn catalogue(json: bool) -> String {
    if json {
        let list: Vec<Value> = BENCHMARKS
            .iter()
            .map(|b| value::json!({"name": b.name, "about": b.about, "flags": b.flags}))
            .collect();
        return format!("{}\n", value::json!({"benchmarks": list}));
    }
    let mut text = String::new();
    for benchmark in &BENCHMARKS {
        text.push_str(&format!(
            "{:<14} {}\n{:14} ({})\n",
            benchmark.name, benchmark.about, "", benchmark.flags
        ));
    }
    text
}

//! The command line: names, defaults, and help that teaches.

use crate::feature_gates::FeatureGates;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use apiserver::listen::Codec;
use clap::{Args, Parser, Subcommand};

/// Most nodes a simulated fleet may have: what one process can name, and more than one machine should hold.
pub const NODES_MAX: i64 = 4_000_000;

/// Bounds of a benchmark: its pods have names of seven digits, and a day has an end.
const PODS_MAX: i64 = 9_000_000;
const NODES_BY_DEFAULT: usize = 10_000;
const PODS_BY_DEFAULT: usize = 10_000;
const OPERATIONS_MAX: i64 = 1_000_000_000;
const LEASES_MAX: i64 = 9_000_000;
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
const RUNS_MAX: i64 = 1_000;
const CONNECTIONS_MAX: i64 = 50_000;
const STREAMS_MAX: i64 = 1_000;

const RATE_MAX: i64 = 10_000_000;

/// A number from 1 to `max`.
fn amount(max: i64) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=max)
}

/// A Kubernetes control plane for one million nodes, in one binary.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Ways to run Megaplane.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole control plane: API server, store, scheduler, controllers, and a simulated fleet if asked for
    #[command(after_help = "\
Examples:
  megaplane up                             an empty control plane, kept in your data folder
  megaplane up --nodes 10000 --ephemeral   ten thousand living nodes, gone when you stop it
  megaplane up --nodes 3000 --fleet-config shapes.yaml --fleet-faults faults.yaml
  export KUBECONFIG=~/.local/share/megaplane/kubeconfig; kubectl get nodes

Stop it with Ctrl-C or SIGTERM; what was acknowledged is on disk (Leases and Events excepted, which are made again).")]
    Up(UpOptions),
    /// Run the scheduler alone, beside any Kubernetes API server
    #[command(after_help = "\
Examples:
  megaplane scheduler --kubeconfig ~/.kube/config --config scheduler.yaml
  megaplane up --scheduler=false --ephemeral     a control plane that has none

As a second scheduler, name a profile of its own in the configuration (profiles[].schedulerName), a Lease of its own
(leaderElection.resourceName), and let pods ask for it (spec.schedulerName).")]
    Scheduler(crate::scheduler_command::SchedulerOptions),
    /// Hold some of a scheduler's nodes, in a process of its own
    #[command(after_help = "\
Examples:
  megaplane scheduler-shard --listen 127.0.0.1:7001
  megaplane scheduler-shard --listen 127.0.0.1:7002
  megaplane scheduler --kubeconfig ~/.kube/config --shard-addresses 127.0.0.1:7001,127.0.0.1:7002

Which nodes it holds the scheduler says. It keeps nothing: when it ends, others take its nodes over.")]
    SchedulerShard(crate::scheduler_command::ShardOptions),
    /// Run simulated nodes alone, against any Kubernetes API server
    #[command(after_help = "\
Examples:
  megaplane fleet --kubeconfig ~/.kube/config --nodes 1000
  megaplane fleet --kubeconfig k --nodes 5000 --connections 16 --fleet-config shapes.yaml --fleet-stages stages.yaml
  megaplane fleet --kubeconfig k --nodes 200 --kubelet-like --fleet-faults faults.yaml

A fault script:
  steps:
  - {at: 30s, do: silence, nodes: {zones: [zone-a]}}
  - {at: 2m, do: recover, within: 10s}
  - {at: 3m, do: slow, factor: 10, nodes: {percent: 5}}

Nodes are called node-0000000 and so on; they run the pods that are bound to them by letting time pass. They stay
registered when the fleet ends: kubectl delete nodes -l type=megaplane-simulated. All about the files: docs/how-to/fleet.md")]
    Fleet(Box<crate::fleet_command::FleetOptions>),
    /// Show what a running control plane does: rates, latencies, memory by kind, nodes, scheduler, fleet
    #[command(after_help = "\
Examples:
  megaplane top                             the plane that megaplane up runs here
  megaplane top --kubeconfig k              another one
  megaplane top --once --json               figures of one second, for machines

Keys: q ends it. Rates are those of the last second, latencies of the requests in it.")]
    Top(crate::top::TopOptions),
    /// Run a store that speaks etcd's v3 API in etcd's place (what is not there is in docs/limits.md)
    #[command(after_help = "\
Examples:
  megaplane store --data-dir /var/lib/megaplane-store
  megaplane store --listen-client-urls http://127.0.0.1:2379 --durability /registry/events/=memory
  megaplane store import /var/lib/etcd/member/snap/db --data-dir /var/lib/megaplane-store
  ETCDCTL_API=3 etcdctl --endpoints http://127.0.0.1:2379 put a b")]
    Store(Box<crate::store_command::StoreOptions>),
    /// Measure: one benchmark by name, or the list of them
    #[command(after_help = "\
Examples:
  megaplane bench list
  megaplane bench store-put --json
  megaplane bench schedule --nodes 100000 --pods 100000 --core-only
  megaplane bench schedule --case all                  scheduler_perf's cases, end to end
  megaplane bench schedule --case TopologySpreading --nodes 500 --pods 1000
  megaplane bench million --nodes 100000 --pods 100000 --duration 1m --plot million.svg
  megaplane bench outage --case zone --grace 20s

Most run in this process and in memory; lease-wire, connections, watches, storm, store-txn, -list, -watch, -pause and
-recovery start servers, which use the temporary folder. With MEGAPLANE_ETCD=/path/to/etcd the last five measure that one, too. Figures
are medians of the runs.")]
    Bench(BenchOptions),
    /// Print the versions of Megaplane and of the Kubernetes API it serves
    Version {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Flags of `megaplane up`.
#[derive(Debug, Args)]
pub struct UpOptions {
    /// Simulated nodes to register and keep alive
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(0..=NODES_MAX))]
    pub nodes: u32,
    /// Where everything is kept: the log, certificates, kubeconfig [default: megaplane in your data folder]
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    pub data_dir: Option<PathBuf>,
    /// Keep nothing: all in memory, gone at the end
    #[arg(long)]
    pub ephemeral: bool,
    /// Port of the API server (HTTPS); 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    pub secure_port: u16,
    /// Address to listen on; 0.0.0.0 for all
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub bind_address: IpAddr,
    /// Who speaks HTTP/2: this program's own codec, or the library that also speaks HTTP/1.1
    #[arg(
        long,
        value_name = "own|hyper",
        default_value = "own",
        value_parser = listener
    )]
    pub listener: Codec,
    /// Where to write the administrator's kubeconfig [default: kubeconfig in the data directory]
    #[arg(long, value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,
    /// Whether pods are scheduled; `--scheduler=false` leaves that to another scheduler
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub scheduler: bool,
    /// A KubeSchedulerConfiguration; what it says of leader election and connections is for `megaplane scheduler`
    #[arg(long, value_name = "FILE")]
    pub scheduler_config: Option<PathBuf>,
    /// Into how many parts the scheduler divides the nodes, each on a thread of its own
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = crate::scheduler_command::shards)]
    pub scheduler_shards: usize,
    /// What 1.36 has and leaves off: GangScheduling=true lets pods of a PodGroup start together,
    /// DRADeviceTaintRules=true lets DeviceTaintRules taint devices
    #[arg(long, value_name = "NAME=BOOL,…", default_value = "", value_parser = crate::feature_gates::parse)]
    pub feature_gates: FeatureGates,
    #[command(flatten)]
    pub fleet: crate::fleet_files::FleetFiles,
    /// Start though there is too little memory for so many nodes
    #[arg(long)]
    pub force: bool,
    /// Log filter: error, warn, info, debug, or per module (for example `warn,apiserver=debug`)
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "MEGAPLANE_LOG"
    )]
    pub log: String,
}

fn listener(text: &str) -> Result<Codec, String> {
    match text {
        "own" => Ok(Codec::Own),
        "hyper" => Ok(Codec::Hyper),
        other => Err(format!("{other:?} is none of own, hyper")),
    }
}

/// Flags of `megaplane bench`.
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// Which benchmark; `list` names them
    #[arg(value_name = "NAME", default_value = "list")]
    pub name: String,
    /// Nodes in the cluster; Leases of lease-renewal [default: 10000; of schedule --case the case's own]
    #[arg(long, value_name = "N", value_parser = amount(NODES_MAX))]
    pub nodes: Option<u32>,
    /// Pods to schedule; million and outage do without any (0) [default: 10000; of schedule --case the case's own]
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(0..=PODS_MAX))]
    pub pods: Option<u32>,
    /// Operations to make, for benchmarks that count operations
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = amount(OPERATIONS_MAX))]
    pub operations: u32,
    /// Which variant, for benchmarks that have several; schedule has those of scheduler_perf: a name, all, promises, or list
    #[arg(long, value_name = "NAME")]
    pub case: Option<String>,
    /// Connections to the server (store-txn, store-watch, lease-wire, connections, watches, storm) [default: 10; 5000 of
    /// watches; 20000 of storm, or what the limit of open files allows]
    #[arg(long, value_name = "N", value_parser = amount(CONNECTIONS_MAX))]
    pub connections: Option<u32>,
    /// Requests each connection has under way (store-txn, lease-wire); watches on it (connections)
    #[arg(long, value_name = "M", default_value_t = 50, value_parser = amount(STREAMS_MAX))]
    pub streams: u32,
    /// Repetitions of which the median counts; long ones are repeated less
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = amount(RUNS_MAX))]
    pub runs: u32,
    /// How long to go on (soak), or to let nodes live before pods come (million): 30s, 10m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub duration: Duration,
    /// Events a second to make (watches); pods a second (schedule --case P5-steady)
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = amount(RATE_MAX))]
    pub rate: u32,
    /// Part of the nodes that falls silent (outage) [default: 10; with --case zone all of it]
    #[arg(long, value_name = "PERCENT", value_parser = amount(100))]
    pub percent: Option<u32>,
    /// Silence after which a node is marked (outage); Leases are renewed four times in it
    #[arg(long, value_name = "TIME", default_value = "40s", value_parser = time)]
    pub grace: Duration,
    /// Draw rates, lateness, memory and cores over time into this file, as SVG (million)
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Leases to hold (soak)
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = amount(LEASES_MAX))]
    pub leases: u32,
    /// The decision alone, without API and binding (schedule)
    #[arg(long)]
    pub core_only: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A time as Go writes it, of a day at most.
fn time(text: &str) -> Result<Duration, String> {
    let nanos = meta::time::parse_go_duration(text)?;
    let time = Duration::from_nanos(u64::try_from(nanos).map_err(|_| "it must not be negative")?);
    if time > DURATION_MAX {
        return Err("it must not be longer than 24h".into());
    }
    Ok(time)
}

impl From<BenchOptions> for bench::Options {
    fn from(options: BenchOptions) -> bench::Options {
        let connections = options.connections.map_or_else(
            || bench::connections_by_default(&options.name),
            |connections| connections as usize,
        );
        let asked_nodes = options.nodes.map(|nodes| nodes as usize);
        let asked_pods = options.pods.map(|pods| pods as usize);
        bench::Options {
            name: options.name,
            nodes: asked_nodes.unwrap_or(NODES_BY_DEFAULT),
            pods: asked_pods.unwrap_or(PODS_BY_DEFAULT),
            asked_nodes,
            asked_pods,
            operations: options.operations as usize,
            case: options.case,
            connections,
            streams: options.streams as usize,
            rate: options.rate as usize,
            percent: options.percent.map(|percent| percent as usize),
            grace: options.grace,
            plot: options.plot,
            runs: options.runs as usize,
            duration: options.duration,
            leases: options.leases as usize,
            core_only: options.core_only,
            json: options.json,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_store_runs_without_a_subcommand_and_moves_with_one() {
        for line in [
            &["megaplane", "store"][..],
            &["megaplane", "store", "--data-dir", "d"],
            &["megaplane", "store", "import", "f", "--data-dir", "d"],
            &[
                "megaplane",
                "store",
                "import",
                "--from",
                "http://a:1",
                "--follow",
                "--data-dir",
                "d",
            ],
            &[
                "megaplane",
                "store",
                "export",
                "--endpoint",
                "http://a:1",
                "--out",
                "f",
            ],
            &[
                "megaplane",
                "store",
                "restore",
                "f",
                "--data-dir",
                "d",
                "--skip-hash-check",
            ],
            &[
                "megaplane",
                "store",
                "export",
                "--data-dir",
                "d",
                "--out",
                "f",
            ],
        ] {
            assert!(Cli::try_parse_from(line).is_ok(), "{line:?}");
        }
    }

    #[test]
    fn a_benchmark_has_its_own_number_of_connections_unless_told() {
        let connections = |line: &[&str]| match Cli::try_parse_from(line).map(|cli| cli.command) {
            Ok(Command::Bench(options)) => bench::Options::from(options).connections,
            _ => 0,
        };
        assert_eq!(connections(&["megaplane", "bench", "store-txn"]), 10);
        assert_eq!(connections(&["megaplane", "bench", "watches"]), 5_000);
        assert_eq!(
            connections(&["megaplane", "bench", "storm", "--connections", "7"]),
            7
        );
    }

    #[test]
    fn impossible_flags_are_refused() {
        for line in [
            &["megaplane", "up", "--nodes", "-1"][..],
            &["megaplane", "up", "--nodes", "5000000"],
            &["megaplane", "up", "--secure-port", "70000"],
            &["megaplane", "up", "--bind-address", "nowhere"],
            &["megaplane", "up", "--ephemeral", "--data-dir", "x"],
            &["megaplane", "bench", "schedule", "--nodes", "0"],
            &["megaplane", "bench", "schedule", "--runs", "many"],
            &["megaplane", "bench", "outage", "--percent", "101"],
            &["megaplane", "bench", "watches", "--rate", "0"],
            &["megaplane", "store", "import"],
            &["megaplane", "store", "import", "--data-dir", "d"],
            &[
                "megaplane",
                "store",
                "import",
                "f",
                "--from",
                "http://a:1",
                "--data-dir",
                "d",
            ],
            &[
                "megaplane",
                "store",
                "import",
                "f",
                "--follow",
                "--data-dir",
                "d",
            ],
            &["megaplane", "store", "export", "--out", "f"],
            &[
                "megaplane",
                "store",
                "--name",
                "x",
                "import",
                "f",
                "--data-dir",
                "d",
            ],
            &[
                "megaplane",
                "store",
                "restore",
                "f",
                "--data-dir",
                "d",
                "--bump-revision",
                "5",
            ],
            &["megaplane", "fleet", "--nodes", "5"],
            &["megaplane", "fleet", "--kubeconfig", "k"],
            &["megaplane", "fleet", "--kubeconfig", "k", "--nodes", "0"],
            &["megaplane", "top", "--server", "https://h:1"],
            &["megaplane", "fly"],
        ] {
            assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}

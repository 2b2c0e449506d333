//! `store-txn`: what a write as Kubernetes makes it costs `megaplane store`, over the network.
//!
//! A transaction that compares the revision of a key, puts 650 B and else reads the key, with five watchers of the kind
//! on connections of their own. The server is a process of its own, so that its processor time is told from the load's.
//! A real etcd, if `MEGAPLANE_ETCD` names one, runs the same load after it. Both write to the temporary folder with
//! their default durability.
//!
//! The only benchmark that is not in one process.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Options;
use crate::grpc_load::{Load, Shape};
use crate::measure::Samples;
use crate::process::{self, free_port};
use crate::progress::Progress;
use crate::report::Report;

/// How long a server may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// More connections than this need more ports and descriptors than a process has by default.
const CONNECTIONS_MAX: usize = 1_000;

pub fn run(options: &Options) -> Result<Report, String> {
    let shape = Shape {
        connections: options.connections.min(CONNECTIONS_MAX),
        streams: options.streams,
        operations: options.operations,
    };
    let ours = |listener: &str| {
        let binary = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(binary);
        command.args(["store", "--log", "error", "--listener", listener]);
        Ok::<_, String>(command)
    };
    let own = measured(options.runs, shape, || ours("own"))?;
    let library = measured(options.runs, shape, || ours("hyper"))?;
    let report = Report::default()
        .text("durability", "fsync")
        .count("connections", shape.connections)
        .count("streams_per_connection", shape.streams)
        .count("operations", shape.operations)
        .count("value_bytes", crate::grpc_load::VALUE_BYTES)
        .count("watchers", crate::grpc_load::WATCHERS)
        .count("runs", options.runs)
        .main("cpu_us_per_op", &own.cpu_micros)
        .median("per_second", &own.rate)
        .median("p50_us", &own.p50_micros)
        .median("p99_us", &own.p99_micros)
        .main("hyper_cpu_us_per_op", &library.cpu_micros)
        .median("hyper_per_second", &library.rate);
    let Some(etcd) = std::env::var_os("MEGAPLANE_ETCD") else {
        return Ok(report.text("etcd", "not compared: MEGAPLANE_ETCD names none"));
    };
    let etcd = measured(options.runs, shape, || Ok(Command::new(&etcd)))?;
    Ok(report
        .main("etcd_cpu_us_per_op", &etcd.cpu_micros)
        .median("etcd_per_second", &etcd.rate)
        .median("etcd_p50_us", &etcd.p50_micros)
        .median("etcd_p99_us", &etcd.p99_micros)
        .number(
            "etcd_cpu_ratio",
            etcd.cpu_micros.median() / own.cpu_micros.median().max(1e-9),
        )
        .number(
            "etcd_rate_ratio",
            own.rate.median() / etcd.rate.median().max(1e-9),
        ))
}

/// What runs against one kind of server gave.
#[derive(Default)]
struct Figures {
    cpu_micros: Samples,
    rate: Samples,
    p50_micros: Samples,
    p99_micros: Samples,
}

fn measured(
    runs: usize,
    shape: Shape,
    command: impl Fn() -> Result<Command, String>,
) -> Result<Figures, String> {
    let mut figures = Figures::default();
    for _ in 0..runs {
        let server = Server::start(command()?)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let mut load = Load::open(server.port, shape).await?;
            let mut progress = Progress::new("transactions", shape.operations);
            load.run(shape.operations / 10 + 1).await?;
            let cpu = server.cpu_nanos();
            let begun = Instant::now();
            let mut latencies = load.run(shape.operations).await?;
            let (wall, cpu) = (begun.elapsed(), server.cpu_nanos().saturating_sub(cpu));
            progress.add(shape.operations);
            let done = latencies.len().max(1) as f64;
            figures.cpu_micros.push(cpu as f64 / 1e3 / done);
            figures.rate.push(done / wall.as_secs_f64().max(1e-9));
            latencies.sort_unstable();
            let at = |part: usize| {
                let place = latencies.len().saturating_sub(1) * part / 100;
                latencies
                    .get(place)
                    .map_or(0.0, |micros| f64::from(*micros))
            };
            figures.p50_micros.push(at(50));
            figures.p99_micros.push(at(99));
            Ok::<_, String>(())
        })?;
    }
    Ok(figures)
}

/// A server in a process and a folder of its own, both gone with it.
struct Server {
    process: Child,
    dir: PathBuf,
    port: u16,
}

impl Server {
    /// Both servers know these flags.
    fn start(mut command: Command) -> Result<Server, String> {
        let fail = |error: std::io::Error| error.to_string();
        let (port, peer_port) = (free_port().map_err(fail)?, free_port().map_err(fail)?);
        let dir = std::env::temp_dir().join(format!("megaplane-bench-{port}"));
        let url = format!("http://127.0.0.1:{port}");
        command
            .args(["--listen-client-urls", &url])
            .args(["--advertise-client-urls", &url])
            .arg("--data-dir")
            .arg(&dir);
        let is_ours = std::env::current_exe().is_ok_and(|own| own == command.get_program());
        if !is_ours {
            let peer = format!("http://127.0.0.1:{peer_port}");
            command
                .args(["--log-level", "error", "--listen-peer-urls", &peer])
                .args(["--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &format!("default={peer}")]);
        }
        let program = command.get_program().to_string_lossy().into_owned();
        let process = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let mut server = Server { process, dir, port };
        let begun = Instant::now();
        while begun.elapsed() < START_TIMEOUT {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            if let Ok(Some(status)) = server.process.try_wait() {
                return Err(format!("{program} ended at once: {status}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("{program} does not listen on {url}"))
    }

    fn cpu_nanos(&self) -> u64 {
        process::cpu_nanos(self.process.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

//! Closed-loop puts through gRPC, against us and against a real etcd in turn: operations a second, and the server's
//! CPU per operation from /proc.
//!
//! `load [CLIENTS] [OPERATIONS] [fsync|unsafe]`, with `MEGAPLANE_ETCD` naming an etcd to compare with. Keys have 48 bytes and
//! values 1 KiB, etcd's own load shape. `unsafe` keeps both from waiting for the disk.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_server::rpc::kv_client::KvClient;
use etcd_server::{Options, Server};
use etcd_wire::etcdserverpb as pb;
use tonic::transport::{Channel, Endpoint};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Ticks a second in /proc/PID/stat, on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;
/// Clients that share a connection.
const CLIENTS_PER_CONNECTION: usize = 16;

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, listen, dir, rest @ ..] = &arguments[..]
        && command == "serve"
    {
        return serve(
            listen,
            dir,
            rest.first().is_some_and(|flag| flag == "unsafe"),
        );
    }
    let number = |index: usize, default: usize| -> Result<usize, AnyError> {
        Ok(arguments
            .get(index)
            .map(|text| text.parse())
            .transpose()?
            .unwrap_or(default))
    };
    let (clients, operations) = (number(0, 64)?, number(1, 50_000)?);
    let is_unsafe = arguments.get(2).is_some_and(|flag| flag == "unsafe");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let ours = measure("megaplane", Subject::ours(is_unsafe)?, clients, operations).await?;
        let Some(etcd) = Subject::etcd(is_unsafe)? else {
            println!("MEGAPLANE_ETCD names no etcd to compare with");
            return Ok(());
        };
        let etcd = measure("etcd", etcd, clients, operations).await?;
        println!(
            "ratio: {:.1} times the operations a second, {:.1} times less CPU an operation",
            ours.0 / etcd.0,
            etcd.1 / ours.1
        );
        Ok(())
    })
}

fn serve(listen: &str, dir: &str, is_unsafe: bool) -> Result<(), AnyError> {
    let default_durability = if is_unsafe {
        kv::Durability::Buffered
    } else {
        kv::Durability::Fsync
    };
    let options = Options {
        doors: vec![etcd_server::Door::plain(listen.parse()?)],
        data_dir: Some(dir.into()),
        default_durability,
        ..Options::default()
    };
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    Ok(Server::open(options)?.run(stopped)?)
}

/// A server in a process of its own, and its directory.
struct Subject {
    process: Child,
    url: String,
    dir: PathBuf,
}

impl Subject {
    fn new(mut command: Command, url: String, dir: PathBuf) -> Result<Subject, AnyError> {
        let process = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Subject { process, url, dir })
    }

    fn ours(is_unsafe: bool) -> Result<Subject, AnyError> {
        let (dir, address) = (directory("ours")?, address()?);
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").arg(&address).arg(&dir);
        if is_unsafe {
            command.arg("unsafe");
        }
        Subject::new(command, format!("http://{address}"), dir)
    }

    fn etcd(is_unsafe: bool) -> Result<Option<Subject>, AnyError> {
        let Some(binary) = std::env::var_os("MEGAPLANE_ETCD") else {
            return Ok(None);
        };
        let dir = directory("etcd")?;
        let (url, peer) = (
            format!("http://{}", address()?),
            format!("http://{}", address()?),
        );
        let mut command = Command::new(binary);
        command
            .args(["--name", "real", "--log-level", "error", "--data-dir"])
            .arg(&dir);
        command.args([
            "--listen-client-urls",
            &url,
            "--advertise-client-urls",
            &url,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        command.args([
            "--initial-cluster",
            &format!("real={peer}"),
            "--quota-backend-bytes",
            "8589934592",
        ]);
        if is_unsafe {
            command.arg("--unsafe-no-fsync");
        }
        Subject::new(command, url, dir).map(Some)
    }

    /// Seconds of CPU so far.
    fn cpu_seconds(&self) -> Result<f64, AnyError> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        Ok((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn directory(name: &str) -> Result<PathBuf, AnyError> {
    let dir = std::env::temp_dir().join(format!("megaplane-load-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn address() -> Result<String, AnyError> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .to_string())
}

/// Operations a second, and microseconds of CPU an operation.
async fn measure(
    name: &str,
    subject: Subject,
    clients: usize,
    operations: usize,
) -> Result<(f64, f64), AnyError> {
    let mut channels = Vec::new();
    for _ in 0..clients.div_ceil(CLIENTS_PER_CONNECTION) {
        channels.push(connect(&subject.url).await?);
    }
    run(&channels, clients, operations / 10).await?;
    let (cpu, begin) = (subject.cpu_seconds()?, Instant::now());
    let mut latencies = run(&channels, clients, operations).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = subject.cpu_seconds()? - cpu;
    latencies.sort_unstable();
    let done = latencies.len();
    let at = |part: usize| {
        latencies
            .get(done * part / 100)
            .copied()
            .unwrap_or_default()
    };
    let (rate, micros) = (done as f64 / seconds, cpu * 1e6 / done as f64);
    println!(
        "{name:>10}: {rate:8.0} puts/s, {micros:6.1} us CPU a put, p50 {:?}, p99 {:?}",
        at(50),
        at(99)
    );
    Ok((rate, micros))
}

async fn connect(url: &str) -> Result<Channel, AnyError> {
    let endpoint = Endpoint::from_shared(url.to_owned())?;
    for _ in 0..200 {
        if let Ok(channel) = endpoint.connect().await
            && KvClient::new(channel.clone())
                .range(pb::RangeRequest {
                    key: "x".into(),
                    ..Default::default()
                })
                .await
                .is_ok()
        {
            return Ok(channel);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("{url} does not answer").into())
}

async fn run(
    channels: &[Channel],
    clients: usize,
    operations: usize,
) -> Result<Vec<Duration>, AnyError> {
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let Some(channel) = channels.get(client % channels.len()) else {
            continue;
        };
        let mut kv = KvClient::new(channel.clone());
        tasks.spawn(async move {
            let value = bytes::Bytes::from(vec![b'x'; 1024]);
            let mut latencies = Vec::new();
            for number in 0..operations / clients {
                let key = format!("/load/{client:010}/{number:031}").into();
                let put = pb::PutRequest {
                    key,
                    value: value.clone(),
                    ..Default::default()
                };
                let begin = Instant::now();
                kv.put(put).await?;
                latencies.push(begin.elapsed());
            }
            Ok::<_, tonic::Status>(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    Ok(all)
}

//! `store-pause`: how long others wait while much history is compacted and many leases expire, over the network.
//!
//! Leases with a key each are granted so that they end about together; before they do, a long history is compacted. From
//! the compaction until the last key is gone, a few clients write a little, and every one of their answers is timed.

use std::time::{Duration, Instant};

use etcd_wire::etcdserverpb as pb;
use tokio::sync::watch;

use crate::Options;
use crate::etcd::fill::fill;
use crate::etcd::server::{Kind, Server};
use crate::etcd::wire::{COMPACT, LEASE_GRANT, PUT, RANGE, Wire};
use crate::etcd::{at_thousandth, beside, on_runtime};
use crate::progress::Progress;
use crate::report::Report;

/// Revisions of each key with history.
const REVISIONS_PER_KEY: usize = 3;
const VALUE_BYTES: usize = 200;
const LEASED: &str = "/registry/leased/";
const LEASED_END: &str = "/registry/leased0";
/// Clients that write, and how often each does.
const CLIENTS: usize = 10;
const INTERVAL: Duration = Duration::from_millis(5);
/// How long leases live beyond the time that granting them is expected to take.
const MARGIN: Duration = Duration::from_secs(10);
/// A lease is a put and a grant, which takes several times as long as a put.
const PUTS_PER_LEASE: f64 = 6.0;
/// Expiry that takes longer than this is given up on, and said so.
const EXPIRY_TIMEOUT: Duration = Duration::from_secs(900);

struct Figures {
    latencies: [f64; 4],
    writes: usize,
    seconds: f64,
    leases_left: i64,
    cpu_seconds: f64,
}

pub fn run(options: &Options) -> Result<Report, String> {
    let report = Report::default()
        .text("durability", "fsync")
        .count("revisions", options.operations)
        .count("leases", options.nodes)
        .count("clients", CLIENTS);
    beside(
        report,
        |kind| measured(options, kind),
        |report, of, figures| {
            let [p50, p99, p999, longest] = figures.latencies;
            report
                .count(format!("{of}writes"), figures.writes)
                .number(format!("{of}p50_ms"), p50)
                .number(format!("{of}p99_ms"), p99)
                .number(format!("{of}p999_ms"), p999)
                .number(format!("{of}max_ms"), longest)
                .number(format!("{of}seconds"), figures.seconds)
                .number(format!("{of}cpu_seconds"), figures.cpu_seconds)
                .count(
                    format!("{of}leases_left"),
                    usize::try_from(figures.leases_left).unwrap_or(0),
                )
        },
        |report, ours, theirs| {
            let p999 = |of: &Figures| of.latencies[2];
            report.number("etcd_p999_ratio", p999(theirs) / p999(ours).max(1e-9))
        },
    )
}

fn measured(options: &Options, kind: &Kind) -> Result<Figures, String> {
    let server = Server::start(kind)?;
    on_runtime(async {
        let mut revision = 0;
        let keys = options.operations.div_ceil(REVISIONS_PER_KEY);
        let put = |number: usize| pb::PutRequest {
            key: format!("/registry/history/{:08}", number % keys).into(),
            value: vec![7; VALUE_BYTES].into(),
            ..Default::default()
        };
        let newest = |done: crate::etcd::wire::Done| {
            let reply: pb::PutResponse = done.decode()?;
            let header = reply.header.unwrap_or_default();
            revision = revision.max(header.revision);
            Ok(())
        };
        let port = server.port;
        let begun = Instant::now();
        fill(port, "revisions", PUT, options.operations, put, newest).await?;
        let a_put = begun.elapsed().as_secs_f64() / options.operations as f64;
        let expected = Duration::from_secs_f64(a_put * PUTS_PER_LEASE * options.nodes as f64);
        leases(port, options.nodes, MARGIN + expected).await?;

        let mut wire = Wire::connect(port).await?;
        let (stop, stopped) = watch::channel(false);
        let mut writers = Vec::new();
        for number in 0..CLIENTS {
            let wire = Wire::connect(port).await?;
            writers.push(tokio::spawn(write(wire, number, stopped.clone())));
        }
        let (begun, cpu) = (Instant::now(), server.cpu_nanos());
        let compaction = pb::CompactionRequest {
            revision,
            ..Default::default()
        };
        let _: pb::CompactionResponse = wire.call(COMPACT, &compaction).await?;
        let mut progress = Progress::new("leases", options.nodes);
        let mut left = i64::MAX;
        while left > 0 && begun.elapsed() < EXPIRY_TIMEOUT {
            tokio::time::sleep(Duration::from_millis(500)).await;
            left = count(&mut wire).await?;
            let gone = (options.nodes as i64).saturating_sub(left);
            progress.set(usize::try_from(gone).unwrap_or(0));
        }
        let (seconds, cpu) = (begun.elapsed().as_secs_f64(), server.cpu_nanos() - cpu);
        let _ = stop.send(true);
        let mut latencies = Vec::new();
        for writer in writers {
            latencies.extend(writer.await.map_err(|error| error.to_string())??);
        }
        let writes = latencies.len();
        let mut at = |thousandths| at_thousandth(&mut latencies, thousandths) / 1e3;
        Ok(Figures {
            latencies: [at(500), at(990), at(999), at(1_000)],
            writes,
            seconds,
            leases_left: left,
            cpu_seconds: cpu as f64 / 1e9,
        })
    })
}

/// Grants the leases, to end about together after `ttl`, and gives each its key.
async fn leases(port: u16, count: usize, ttl: Duration) -> Result<(), String> {
    let end = Instant::now() + ttl;
    let grant = |number: usize| pb::LeaseGrantRequest {
        id: number as i64 + 1,
        ttl: (end.saturating_duration_since(Instant::now()).as_secs() as i64).max(5),
    };
    fill(port, "leases", LEASE_GRANT, count, grant, |_| Ok(())).await?;
    let put = |number: usize| pb::PutRequest {
        key: format!("{LEASED}{number:08}").into(),
        value: vec![7; VALUE_BYTES].into(),
        lease: number as i64 + 1,
        ..Default::default()
    };
    fill(port, "keys of leases", PUT, count, put, |_| Ok(())).await
}

async fn count(wire: &mut Wire) -> Result<i64, String> {
    let request = pb::RangeRequest {
        key: LEASED.into(),
        range_end: LEASED_END.into(),
        count_only: true,
        ..Default::default()
    };
    let reply: pb::RangeResponse = wire.call(RANGE, &request).await?;
    Ok(reply.count)
}

/// Writes at an even pace until it is to stop; answers how long each write took, in microseconds. One that waited for
/// the one before it counts from when it was due.
async fn write(
    mut wire: Wire,
    number: usize,
    stopped: watch::Receiver<bool>,
) -> Result<Vec<u32>, String> {
    let put = pb::PutRequest {
        key: format!("/registry/other/{number}").into(),
        value: vec![7; VALUE_BYTES].into(),
        ..Default::default()
    };
    let mut times = Vec::new();
    let mut due = Instant::now();
    while !*stopped.borrow() {
        due += INTERVAL;
        tokio::time::sleep_until(due.into()).await;
        let _: pb::PutResponse = wire.call(PUT, &put).await?;
        let micros = due.elapsed().as_micros();
        times.push(u32::try_from(micros).unwrap_or(u32::MAX));
    }
    Ok(times)
}

//! `store-watch`: what watchers cost, over the network: many idle ones of single keys, and many of the whole kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etcd_wire::etcdserverpb as pb;

use crate::Options;
use crate::etcd::load::{Form, Load, Shape, whole_kind};
use crate::etcd::server::{Kind, Server};
use crate::etcd::wire::Wire;
use crate::etcd::{beside, on_runtime};
use crate::progress::Progress;
use crate::report::Report;

/// Connections that the idle watches share, and those of the kind.
const IDLE_CONNECTIONS: usize = 100;
const KIND_CONNECTIONS: usize = 100;
const KIND_WATCHES: usize = 1_000;
/// Watches asked for before their answers are read.
const ASKED: usize = 500;
/// Writes that the watchers of the kind see.
const SEEN_WRITES: usize = 2_000;
/// Silence after which every watcher of the kind has what it gets.
const QUIET: Duration = Duration::from_secs(2);

struct Figures {
    alone_cpu_micros: f64,
    beside_cpu_micros: f64,
    idle_bytes: f64,
    kind_events_per_second: f64,
    kind_cpu_micros: f64,
}

pub fn run(options: &Options) -> Result<Report, String> {
    let report = Report::default()
        .text("durability", "fsync")
        .count("idle_watches", options.nodes)
        .count("watches_of_kind", KIND_WATCHES)
        .count("operations", options.operations);
    beside(
        report,
        |kind| measured(options, kind),
        |report, of, figures| {
            let slower = figures.beside_cpu_micros / figures.alone_cpu_micros.max(1e-9) - 1.0;
            report
                .number(format!("{of}put_cpu_us_alone"), figures.alone_cpu_micros)
                .number(
                    format!("{of}put_cpu_us_beside_idle"),
                    figures.beside_cpu_micros,
                )
                .number(format!("{of}put_slower_percent"), slower * 100.0)
                .number(format!("{of}bytes_per_idle_watch"), figures.idle_bytes)
                .number(
                    format!("{of}kind_events_per_second"),
                    figures.kind_events_per_second,
                )
                .number(
                    format!("{of}cpu_us_per_kind_event"),
                    figures.kind_cpu_micros,
                )
        },
        |report, ours, theirs| {
            report.number(
                "etcd_cpu_per_kind_event_ratio",
                theirs.kind_cpu_micros / ours.kind_cpu_micros.max(1e-9),
            )
        },
    )
}

fn measured(options: &Options, kind: &Kind) -> Result<Figures, String> {
    let server = Server::start(kind)?;
    let shape = Shape {
        form: Form::LeaseFlood,
        connections: options.connections,
        streams: options.streams,
        operations: options.operations,
    };
    on_runtime(async {
        let mut load = Load::open(server.port, shape).await?;
        load.run(shape.operations / 10 + 1).await?;
        let alone_cpu_micros = puts(&server, &mut load, shape.operations).await?;
        let before = server.resident_bytes();
        let _idle = idle_watches(server.port, options.nodes).await?;
        let taken = server.resident_bytes().saturating_sub(before);
        let idle_bytes = taken as f64 / options.nodes as f64;
        let beside_cpu_micros = puts(&server, &mut load, shape.operations).await?;
        let (kind_events_per_second, kind_cpu_micros) = of_kind(&server, &mut load).await?;
        Ok(Figures {
            alone_cpu_micros,
            beside_cpu_micros,
            idle_bytes,
            kind_events_per_second,
            kind_cpu_micros,
        })
    })
}

/// Processor time of one of so many puts.
async fn puts(server: &Server, load: &mut Load, operations: usize) -> Result<f64, String> {
    let cpu = server.cpu_nanos();
    let done = load.run(operations).await?.len().max(1);
    Ok((server.cpu_nanos() - cpu) as f64 / 1e3 / done as f64)
}

/// Opens watches of keys that nobody writes, a hundred connections with one stream each.
async fn idle_watches(port: u16, count: usize) -> Result<Vec<Wire>, String> {
    let mut progress = Progress::new("watches", count);
    let connections = IDLE_CONNECTIONS.min(count);
    let mut wires = Vec::new();
    for connection in 0..connections {
        let mut wire = Wire::connect(port).await?;
        let mut stream = None;
        let (mut asked, mut told) = (0, 0);
        for number in (connection..count).step_by(connections) {
            let create = pb::WatchCreateRequest {
                key: format!("/registry/idle/node-{number:07}").into(),
                ..Default::default()
            };
            match stream {
                None => stream = Some(wire.watch(create)?),
                Some(stream) => wire.watch_more(stream, create)?,
            }
            asked += 1;
            while asked - told > ASKED {
                told += wire.created().await?;
            }
        }
        while told < asked {
            told += wire.created().await?;
        }
        progress.add(asked);
        wires.push(wire);
    }
    Ok(wires)
}

/// Events a second that all watchers of the kind get together, and the processor time of one.
async fn of_kind(server: &Server, load: &mut Load) -> Result<(f64, f64), String> {
    let events = Arc::<AtomicU64>::default();
    for _ in 0..KIND_CONNECTIONS {
        let mut wire = Wire::connect(server.port).await?;
        let stream = wire.watch(whole_kind())?;
        for _ in 1..KIND_WATCHES / KIND_CONNECTIONS {
            wire.watch_more(stream, whole_kind())?;
        }
        let mut told = 0;
        while told < KIND_WATCHES / KIND_CONNECTIONS {
            told += wire.created().await?;
        }
        let events = events.clone();
        tokio::spawn(async move {
            while let Ok(count) = wire.events().await {
                events.fetch_add(count, Ordering::Relaxed);
            }
        });
    }
    let (begun, cpu) = (Instant::now(), server.cpu_nanos());
    let written = load.run(SEEN_WRITES).await?.len();
    let expected = (written * KIND_WATCHES) as u64;
    let mut last = (Instant::now(), 0);
    let seen = loop {
        let seen = events.load(Ordering::Relaxed);
        if seen >= expected || last.0.elapsed() > QUIET {
            break seen;
        }
        if seen > last.1 {
            last = (Instant::now(), seen);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let (wall, cpu) = (begun.elapsed(), server.cpu_nanos() - cpu);
    if seen != expected {
        return Err(format!("{seen} events of {expected} came"));
    }
    let seen = seen as f64;
    Ok((seen / wall.as_secs_f64(), cpu as f64 / 1e3 / seen))
}

//! `store-txn`: what writes cost `megaplane store`, over the network.
//!
//! By default a transaction that compares the revision of a key, puts 650 B and else reads the key, with five watchers of
//! the kind on connections of their own; `--case` chooses among the shapes of [`Form`]. Beside the servers the medium
//! itself is measured: a write of 1 KiB and its `fdatasync`, in the same folder.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::Instant;

use crate::Options;
use crate::etcd::load::{Form, Load, Shape};
use crate::etcd::server::{Kind, Server};
use crate::etcd::{at_thousandth, on_runtime};
use crate::measure::Samples;
use crate::progress::Progress;
use crate::report::Report;

/// More connections than this need more ports and descriptors than a process has by default.
const CONNECTIONS_MAX: usize = 1_000;
/// Writes of which the medium's figures are taken.
const SYNCS: usize = 300;
const SYNC_FILE_BYTES: u64 = 4 << 20;

pub fn run(options: &Options) -> Result<Report, String> {
    let shape = Shape {
        form: form(options.case.as_deref())?,
        connections: options.connections.min(CONNECTIONS_MAX),
        streams: options.streams,
        operations: options.operations,
    };
    let mut medium = synced_writes().map_err(|error| error.to_string())?;
    let own = measured(options.runs, shape, &Kind::ours("own"))?;
    let library = measured(options.runs, shape, &Kind::ours("hyper"))?;
    let case = Form::ALL.iter().find(|(_, form)| *form == shape.form);
    let report = Report::default()
        .text("durability", "fsync")
        .text("case", case.map_or("", |(name, _)| name))
        .count("connections", shape.connections)
        .count("streams_per_connection", shape.streams)
        .count("operations", shape.operations)
        .count("value_bytes", shape.form.value_bytes())
        .count("watchers", shape.form.watchers())
        .count("runs", options.runs)
        .number("fdatasync_p50_us", at_thousandth(&mut medium, 500))
        .number("fdatasync_p99_us", at_thousandth(&mut medium, 990))
        .main("cpu_us_per_op", &own.cpu_micros)
        .median("per_second", &own.rate)
        .median("p50_us", &own.p50_micros)
        .median("p99_us", &own.p99_micros)
        .main("hyper_cpu_us_per_op", &library.cpu_micros)
        .median("hyper_per_second", &library.rate);
    let Some(etcd) = Kind::etcd() else {
        return Ok(report.text("etcd", "not compared: MEGAPLANE_ETCD names none"));
    };
    let etcd = measured(options.runs, shape, &etcd)?;
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

fn form(case: Option<&str>) -> Result<Form, String> {
    let Some(case) = case else {
        return Ok(Form::Kubernetes);
    };
    let found = Form::ALL.iter().find(|(name, _)| *name == case);
    found.map(|(_, form)| *form).ok_or_else(|| {
        let names = Form::ALL.map(|(name, _)| name).join(", ");
        format!("there is no case \"{case}\" of store-txn; there are: {names}")
    })
}

/// How long the medium takes for 1 KiB into room that was made ahead, in microseconds.
fn synced_writes() -> std::io::Result<Vec<u32>> {
    let path = std::env::temp_dir().join(format!("megaplane-bench-sync-{}", std::process::id()));
    let mut file = std::fs::File::create(&path)?;
    let times = (|| {
        file.set_len(SYNC_FILE_BYTES)?;
        file.write_all(&vec![1; SYNC_FILE_BYTES as usize])?;
        file.sync_all()?;
        file.seek(SeekFrom::Start(0))?;
        let mut times = Vec::new();
        for _ in 0..SYNCS {
            let begun = Instant::now();
            file.write_all(&[2; 1 << 10])?;
            file.sync_data()?;
            times.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
        Ok(times)
    })();
    let _ = std::fs::remove_file(path);
    times
}

/// What runs against one kind of server gave.
#[derive(Default)]
struct Figures {
    cpu_micros: Samples,
    rate: Samples,
    p50_micros: Samples,
    p99_micros: Samples,
}

fn measured(runs: usize, shape: Shape, kind: &Kind) -> Result<Figures, String> {
    let mut figures = Figures::default();
    for _ in 0..runs {
        let server = Server::start(kind)?;
        on_runtime(async {
            let mut load = Load::open(server.port, shape).await?;
            let mut progress = Progress::new("writes", shape.operations);
            load.run(shape.operations / 10 + 1).await?;
            let cpu = server.cpu_nanos();
            let begun = Instant::now();
            let mut latencies = load.run(shape.operations).await?;
            let (wall, cpu) = (begun.elapsed(), server.cpu_nanos().saturating_sub(cpu));
            progress.add(shape.operations);
            let done = latencies.len().max(1) as f64;
            figures.cpu_micros.push(cpu as f64 / 1e3 / done);
            figures.rate.push(done / wall.as_secs_f64().max(1e-9));
            figures.p50_micros.push(at_thousandth(&mut latencies, 500));
            figures.p99_micros.push(at_thousandth(&mut latencies, 990));
            Ok(())
        })?;
    }
    Ok(figures)
}

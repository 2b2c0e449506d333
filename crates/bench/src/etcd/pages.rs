//! `store-list`: pages out of many keys, with the exact count that every page tells, over the network.

use std::time::Instant;

use etcd_wire::etcdserverpb as pb;

use crate::Options;
use crate::etcd::fill::fill;
use crate::etcd::server::{Kind, Server};
use crate::etcd::wire::{PUT, RANGE, Wire};
use crate::etcd::{beside, on_runtime};
use crate::measure::Samples;
use crate::progress::Progress;
use crate::report::Report;
use crate::workload::scattered;

const PREFIX: &str = "/registry/pods/";
const PREFIX_END: &str = "/registry/pods0";
const VALUE_BYTES: usize = 512;
/// A page as kubectl asks for it, and as the watch cache does.
const SMALL_PAGE: i64 = 500;
const LARGE_PAGE: i64 = 10_000;
/// Small pages of one run.
const SMALL_PAGES: usize = 200;

#[derive(Default)]
struct Figures {
    page_cpu_micros: Samples,
    page_micros: Samples,
    all_seconds: Samples,
    all_cpu_seconds: Samples,
}

pub fn run(options: &Options) -> Result<Report, String> {
    let report = Report::default()
        .text("durability", "fsync")
        .count("keys", options.operations)
        .count("value_bytes", VALUE_BYTES)
        .count("page", SMALL_PAGE as usize)
        .count("large_page", LARGE_PAGE as usize)
        .count("runs", options.runs);
    beside(
        report,
        |kind| measured(options, kind),
        |report, of, figures| {
            report
                .main(format!("{of}page_cpu_us"), &figures.page_cpu_micros)
                .median(format!("{of}page_us"), &figures.page_micros)
                .main(format!("{of}all_seconds"), &figures.all_seconds)
                .median(format!("{of}all_cpu_seconds"), &figures.all_cpu_seconds)
        },
        |report, ours, theirs| {
            let ratio =
                |of: fn(&Figures) -> &Samples| of(theirs).median() / of(ours).median().max(1e-9);
            report
                .number("etcd_page_cpu_ratio", ratio(|of| &of.page_cpu_micros))
                .number("etcd_all_ratio", ratio(|of| &of.all_seconds))
        },
    )
}

fn measured(options: &Options, kind: &Kind) -> Result<Figures, String> {
    let keys = options.operations;
    let server = Server::start(kind)?;
    let mut figures = Figures::default();
    on_runtime(async {
        let put = |number| pb::PutRequest {
            key: key(number).into(),
            value: vec![7; VALUE_BYTES].into(),
            ..Default::default()
        };
        fill(server.port, "keys", PUT, keys, put, |_| Ok(())).await?;
        let mut wire = Wire::connect(server.port).await?;
        let mut progress = Progress::new("runs", options.runs);
        for _ in 0..options.runs {
            let place = scattered(keys);
            let (begun, cpu) = (Instant::now(), server.cpu_nanos());
            for page in 0..SMALL_PAGES {
                let first = place(page);
                let answer = list(&mut wire, key(first), SMALL_PAGE).await?;
                let left = (keys - first) as i64;
                if answer.count != left || answer.kvs.len() as i64 != left.min(SMALL_PAGE) {
                    return Err(format!("a page of {} told {}", left, answer.count));
                }
            }
            let cpu = server.cpu_nanos().saturating_sub(cpu) as f64 / 1e3;
            figures.page_cpu_micros.push(cpu / SMALL_PAGES as f64);
            let micros = begun.elapsed().as_micros() as f64;
            figures.page_micros.push(micros / SMALL_PAGES as f64);

            let (begun, cpu) = (Instant::now(), server.cpu_nanos());
            let (mut from, mut seen) = (PREFIX.to_owned(), 0);
            loop {
                let answer = list(&mut wire, from, LARGE_PAGE).await?;
                seen += answer.kvs.len();
                let Some(last) = answer.kvs.last().filter(|_| answer.more) else {
                    break;
                };
                from = format!("{}\0", String::from_utf8_lossy(&last.key));
            }
            if seen != keys {
                return Err(format!("{seen} keys of {keys} were listed"));
            }
            figures.all_seconds.push(begun.elapsed().as_secs_f64());
            let cpu = server.cpu_nanos().saturating_sub(cpu) as f64 / 1e9;
            figures.all_cpu_seconds.push(cpu);
            progress.add(1);
        }
        Ok(())
    })?;
    Ok(figures)
}

async fn list(wire: &mut Wire, from: String, limit: i64) -> Result<pb::RangeResponse, String> {
    let request = pb::RangeRequest {
        key: from.into(),
        range_end: PREFIX_END.into(),
        limit,
        ..Default::default()
    };
    wire.call(RANGE, &request).await
}

fn key(number: usize) -> String {
    format!(
        "{PREFIX}namespace-{:03}/pod-{number:08}",
        number * 500 / 10_000_000
    )
}

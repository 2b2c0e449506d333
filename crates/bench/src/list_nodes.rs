//! `list-nodes`: one LIST of all nodes, unpaged, as protobuf and as JSON, read as fast as it is made.
//!
//! The pieces are dropped as they come, as a socket takes them: what memory grows by is the server's.

use std::future::poll_fn;
use std::time::Instant;

use bytes::Bytes;
use rest::http::{Body, Method};

use crate::Options;
use crate::measure::{Samples, process_cpu_nanos, resident_bytes};
use crate::plane::{PROTOBUF, Plane, runtime};
use crate::progress::Progress;
use crate::report::Report;
use crate::workload::create_nodes;

/// Pieces between two looks at the memory.
const PIECES_A_LOOK: usize = 16;

pub fn run(options: &Options) -> Result<Report, String> {
    let plane = Plane::start()?;
    runtime()?.block_on(lists(&plane, options))
}

async fn lists(plane: &Plane, options: &Options) -> Result<Report, String> {
    create_nodes(&plane.client(), options.nodes).await?;
    let mut progress = Progress::new("lists", 2 * options.runs);
    let mut report = Report::in_memory()
        .count("nodes", options.nodes)
        .count("runs", options.runs);
    let [protobuf, json] = [
        [
            "protobuf_ms",
            "protobuf_cpu_ms",
            "protobuf_first_byte_ms",
            "protobuf_mb_per_second",
            "protobuf_bytes",
            "protobuf_extra_memory_bytes",
        ],
        [
            "json_ms",
            "json_cpu_ms",
            "json_first_byte_ms",
            "json_mb_per_second",
            "json_bytes",
            "json_extra_memory_bytes",
        ],
    ];
    for (accept, [ms, cpu_ms, first_ms, rate, bytes, extra]) in
        [(PROTOBUF, protobuf), ("application/json", json)]
    {
        let mut samples: [Samples; 4] = Default::default();
        let (mut size, mut extra_bytes) = (0, 0);
        for _ in 0..options.runs {
            let listed = list(plane, accept).await?;
            let seconds = listed.seconds.max(1e-9);
            samples[0].push(seconds * 1e3);
            samples[1].push(listed.cpu_seconds * 1e3);
            samples[2].push(listed.first_seconds * 1e3);
            samples[3].push(listed.bytes as f64 / 1e6 / seconds);
            size = listed.bytes;
            extra_bytes = extra_bytes.max(listed.extra_bytes);
            progress.add(1);
        }
        report = report
            .median(ms, &samples[0])
            .median(cpu_ms, &samples[1])
            .median(first_ms, &samples[2])
            .median(rate, &samples[3])
            .count(bytes, size)
            .count(extra, usize::try_from(extra_bytes).unwrap_or(usize::MAX));
    }
    Ok(report.count(
        "rss_bytes",
        usize::try_from(resident_bytes()).unwrap_or(usize::MAX),
    ))
}

struct Listed {
    seconds: f64,
    cpu_seconds: f64,
    first_seconds: f64,
    bytes: usize,
    extra_bytes: u64,
}

async fn list(plane: &Plane, accept: &str) -> Result<Listed, String> {
    let mut request = plane.request(Method::Get, "/api/v1/nodes".into(), Bytes::new());
    request.accept = accept.into();
    let before = resident_bytes();
    let (begun, cpu) = (Instant::now(), process_cpu_nanos());
    let reply = plane.call(request).await;
    if reply.status != 200 {
        return Err(format!("the list was refused: {}", reply.status));
    }
    let (mut bytes, mut pieces, mut highest) = (0, 0, before);
    let mut first_seconds = begun.elapsed().as_secs_f64();
    match reply.body {
        Body::Full(body) => {
            bytes = body.len();
            highest = highest.max(resident_bytes());
        }
        Body::Stream(mut source) => {
            while let Some(piece) = poll_fn(|cx| source.poll_frame(cx)).await {
                if pieces == 0 {
                    first_seconds = begun.elapsed().as_secs_f64();
                }
                bytes += piece.len();
                if pieces % PIECES_A_LOOK == 0 {
                    highest = highest.max(resident_bytes());
                }
                pieces += 1;
            }
        }
    }
    Ok(Listed {
        seconds: begun.elapsed().as_secs_f64(),
        cpu_seconds: process_cpu_nanos().saturating_sub(cpu) as f64 / 1e9,
        first_seconds,
        bytes,
        extra_bytes: highest.saturating_sub(before),
    })
}

//! `lists`: everything at once, as LIST in protobuf and JSON and as a watch that begins with what there is, while others
//! write.
//!
//! One reply after the other is read as fast as it is made, and its pieces are dropped as they come, as a socket takes
//! them: what memory grows by is the server's. A thread of its own changes nodes of the same kind all the while, and notes
//! how long each write took; before the first list it does so alone, for comparison.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::{Client, PatchType};
use rest::http::{Body, Method};
use value::json;

use crate::Options;
use crate::event_cutter::{EventCutter, Kind};
use crate::measure::{Samples, process_cpu_nanos, resident_bytes};
use crate::plane::{PROTOBUF, Plane, runtime};
use crate::progress::Progress;
use crate::report::Report;
use crate::spread::Spread;
use crate::workload::{create_nodes, resource};

/// Pieces between two looks at the memory.
const PIECES_A_LOOK: usize = 16;
/// Time between two writes.
const WRITE_INTERVAL: Duration = Duration::from_millis(1);
/// How long writers are watched without lists.
const ALONE: Duration = Duration::from_secs(2);
/// Nodes that are written to, in turn.
const WRITTEN: usize = 100;

const FORMS: [Form; 3] = [
    Form {
        name: "protobuf",
        accept: PROTOBUF,
        query: "",
    },
    Form {
        name: "json",
        accept: "application/json",
        query: "",
    },
    Form {
        name: "watchlist",
        accept: "application/vnd.kubernetes.protobuf;stream=watch",
        query: "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
    },
];

/// One way to ask for everything.
struct Form {
    name: &'static str,
    accept: &'static str,
    query: &'static str,
}

pub fn run(options: &Options) -> Result<Report, String> {
    let mut plane = Plane::start()?;
    let runtime = runtime()?;
    runtime.block_on(create_nodes(&plane.client(), options.nodes))?;
    let writes = Arc::new(Writes::default());
    let (client, shared, mut stop) = (plane.client(), writes.clone(), plane.stop_signal());
    let written = options.nodes.min(WRITTEN);
    plane.spawn("writer", move || async move {
        tokio::select! {
            () = write(&client, written, &shared) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    })?;
    runtime.block_on(lists(&plane, options, &writes))
}

/// How long writes took, and whether one was refused.
#[derive(Default)]
struct Writes {
    spread: Mutex<Spread>,
    refused: AtomicBool,
}

impl Writes {
    /// What there is, which begins anew.
    fn take(&self) -> Spread {
        let mut spread = self.spread.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *spread)
    }
}

/// Changes nodes for ever, one after the other.
async fn write(client: &Client, nodes: usize, writes: &Writes) {
    let Ok(resource) = resource("", "nodes") else {
        return;
    };
    let mut ticks = tokio::time::interval(WRITE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for turn in 0usize.. {
        ticks.tick().await;
        let name = fleet::node_name(turn % nodes);
        let patch =
            json!({"metadata": {"annotations": {"bench.megaplane/turn": turn.to_string()}}});
        let begun = Instant::now();
        let patched = client.patch(resource, "", &name, "", PatchType::Merge, &patch);
        let is_refused = patched.await.is_err();
        let took = begun.elapsed();
        writes.refused.fetch_or(is_refused, Relaxed);
        let mut spread = writes.spread.lock().unwrap_or_else(PoisonError::into_inner);
        spread.add(took);
    }
}

async fn lists(plane: &Plane, options: &Options, writes: &Writes) -> Result<Report, String> {
    let mut report = Report::in_memory()
        .count("nodes", options.nodes)
        .count("runs", options.runs);
    writes.take();
    tokio::time::sleep(ALONE).await;
    report = writes.take().report(report, "writes_alone");
    let mut progress = Progress::new("lists", FORMS.len() * options.runs);
    for form in &FORMS {
        let mut samples: [Samples; 4] = Default::default();
        let (mut size, mut extra_bytes) = (0, 0);
        writes.take();
        for _ in 0..options.runs {
            let listed = list(plane, form, options.nodes).await?;
            let seconds = listed.seconds.max(1e-9);
            samples[0].push(seconds * 1e3);
            samples[1].push(listed.cpu_seconds * 1e3);
            samples[2].push(listed.first_seconds * 1e3);
            samples[3].push(listed.bytes as f64 / 1e6 / seconds);
            size = listed.bytes;
            extra_bytes = extra_bytes.max(listed.extra_bytes);
            progress.add(1);
        }
        let name = form.name;
        report = report
            .median(format!("{name}_ms"), &samples[0])
            .median(format!("{name}_cpu_ms"), &samples[1])
            .median(format!("{name}_first_byte_ms"), &samples[2])
            .median(format!("{name}_mb_per_second"), &samples[3])
            .count(format!("{name}_bytes"), size)
            .count(
                format!("{name}_extra_memory_bytes"),
                usize::try_from(extra_bytes).unwrap_or(usize::MAX),
            );
        let meanwhile = writes.take();
        report = report.count(format!("{name}_writes_meanwhile"), meanwhile.len());
        report = meanwhile.report(report, &format!("{name}_writes"));
    }
    if writes.refused.load(Relaxed) {
        return Err("a write was refused while lists were made".into());
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

async fn list(plane: &Plane, form: &Form, nodes: usize) -> Result<Listed, String> {
    let mut request = plane.request(Method::Get, "/api/v1/nodes".into(), Bytes::new());
    request.accept = form.accept.into();
    request.query = form.query.into();
    let is_watch = !form.query.is_empty();
    let before = resident_bytes();
    let (begun, cpu) = (Instant::now(), process_cpu_nanos());
    let reply = plane.call(request).await;
    if reply.status != 200 {
        return Err(format!("the list was refused: {}", reply.status));
    }
    let (mut bytes, mut pieces, mut highest) = (0, 0, before);
    let (mut cutter, mut told, mut is_complete) = (EventCutter::default(), 0, !is_watch);
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
                if is_watch {
                    // The first bookmark is the one that ends what there was: the next would come after a minute.
                    cutter.take(&piece, |kind, _| match kind {
                        Kind::Change => told += usize::from(!is_complete),
                        Kind::Bookmark => is_complete = true,
                        Kind::Error => {}
                    })?;
                    if is_complete {
                        break;
                    }
                }
            }
        }
    }
    if !is_complete || (is_watch && told != nodes) {
        return Err(format!("the watch began with {told} nodes of {nodes}"));
    }
    Ok(Listed {
        seconds: begun.elapsed().as_secs_f64(),
        cpu_seconds: process_cpu_nanos().saturating_sub(cpu) as f64 / 1e9,
        first_seconds,
        bytes,
        extra_bytes: highest.saturating_sub(before),
    })
}

//! `label-watches`: what a change of a pod costs beside many watches with a label selector each, and what a list by label
//! costs.
//!
//! Three times the same changes: beside no watch, beside `--nodes` watches of `app=N` (found by the label), and beside as
//! many that select the same by `app>N-1,app<N+1`, which the index knows as "has a label `app`", so that every one
//! of them looks at every event, as without an index. Each pod is wanted by one watch. All on one thread.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use bytes::Bytes;
use client::{Client, PatchType};
use rest::http::{Body, Method};
use value::json;

use crate::Options;
use crate::measure::{Samples, Spent, process_cpu_nanos};
use crate::plane::{Plane, body_of, runtime};
use crate::progress::Progress;
use crate::report::Report;
use crate::workload::{Digits, pod, resource};

/// Changes beside watches that all look at each of them: 100 of them say what one costs.
const CHANGES_UNFOUND_MAX: usize = 100;
/// Turns others get between two looks at how much was told.
const TURNS_MAX: usize = 10_000_000;
const LISTS: usize = 5;

/// How the watches say what they select.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Selectors {
    None,
    Equal,
    Between,
}

pub fn run(options: &Options) -> Result<Report, String> {
    let plane = Plane::start()?;
    let runtime = runtime()?;
    runtime.block_on(measured(&plane, options))
}

async fn measured(plane: &Plane, options: &Options) -> Result<Report, String> {
    let (watches, changes) = (options.nodes, options.operations);
    let client = plane.client();
    create_pods(&client, watches).await?;
    let mut report = Report::in_memory()
        .count("watches", watches)
        .count("changes", changes);
    for (name, selectors, changes) in [
        ("alone", Selectors::None, changes),
        ("found", Selectors::Equal, changes),
        (
            "unfound",
            Selectors::Between,
            changes.min(CHANGES_UNFOUND_MAX),
        ),
    ] {
        let told = Arc::new(AtomicUsize::new(0));
        let opened = if selectors == Selectors::None {
            0
        } else {
            watches
        };
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..opened {
            let source = watch(plane, selectors, number).await?;
            tasks.spawn(read(source, told.clone()));
        }
        // Each gets to wait for events before there are any.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        let mut spent = Spent::default();
        let (begun, cpu) = (Instant::now(), process_cpu_nanos());
        for turn in 0..changes {
            change(&client, turn % watches.max(1), turn).await?;
            tokio::task::yield_now().await;
        }
        if opened > 0 {
            await_told(&told, changes).await?;
        }
        spent.add_since(begun, cpu);
        report = report.number(
            format!("{name}_cpu_us_per_change"),
            spent.cpu_nanos_per(changes) / 1e3,
        );
    }
    for (name, query) in [("by_label", "labelSelector=app%3D7"), ("all", "")] {
        let mut took = Samples::default();
        for _ in 0..LISTS {
            let mut request = plane.request(Method::Get, "/api/v1/pods".into(), Bytes::new());
            request.query = query.into();
            let begun = Instant::now();
            body_of(plane.call(request).await).await?;
            took.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        report = report.median(format!("list_{name}_ms"), &took);
    }
    Ok(report)
}

async fn create_pods(client: &Client, count: usize) -> Result<(), String> {
    let resource = resource("", "pods")?;
    let mut progress = Progress::new("creating pods", count);
    for number in 0..count {
        let mut pod = pod(number, &Digits::name(number));
        pod["metadata"]["labels"]["app"] = json!(number.to_string());
        let created = client.create(resource, "default", &pod).await;
        created.map_err(|error| format!("a pod was refused: {error}"))?;
        progress.set(number);
    }
    Ok(())
}

async fn change(client: &Client, number: usize, turn: usize) -> Result<(), String> {
    let resource = resource("", "pods")?;
    let patch = json!({"metadata": {"annotations": {"bench.megaplane/turn": turn.to_string()}}});
    let name = Digits::name(number);
    let patched = client.patch(resource, "default", &name, "", PatchType::Merge, &patch);
    patched
        .await
        .map(drop)
        .map_err(|error| format!("a change was refused: {error}"))
}

async fn watch(
    plane: &Plane,
    selectors: Selectors,
    number: usize,
) -> Result<Box<dyn rest::http::FrameSource>, String> {
    let selector = match selectors {
        Selectors::Between => {
            format!("app%3E{},app%3C{}", number as i64 - 1, number + 1)
        }
        Selectors::None | Selectors::Equal => format!("app%3D{number}"),
    };
    let mut request = plane.request(Method::Get, "/api/v1/pods".into(), Bytes::new());
    request.accept = "application/vnd.kubernetes.protobuf;stream=watch".into();
    request.query = format!(
        "watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&labelSelector={selector}"
    );
    let reply = plane.call(request).await;
    match reply.body {
        Body::Stream(source) if reply.status == 200 => Ok(source),
        _ => Err(format!("a watch was refused: {}", reply.status)),
    }
}

async fn read(mut source: Box<dyn rest::http::FrameSource>, told: Arc<AtomicUsize>) {
    // One event a piece: a watch is told of its pod before that changes again.
    while poll_fn(|cx| source.poll_frame(cx)).await.is_some() {
        told.fetch_add(1, Relaxed);
    }
}

async fn await_told(told: &AtomicUsize, changes: usize) -> Result<(), String> {
    for _ in 0..TURNS_MAX {
        if told.load(Relaxed) >= changes {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
    let told = told.load(Relaxed);
    Err(format!("{told} of {changes} changes were told"))
}

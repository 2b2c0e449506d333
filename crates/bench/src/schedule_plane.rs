//! `schedule`: pods created through the API until a watch has seen all of them bound.
//!
//! ```text
//!   this thread ─ POST pods ─► API server ─► scheduler ─ bindings ─► API server ─ watch ─► the thread that counts
//! ```
//!
//! The client's side (encoding requests, reading events) is in this process too, and so in its processor time; what
//! each thread took is told apart. Afterwards the bindings are replayed in the order of their revisions on a fresh
//! [`placement::Cluster`], and a part of them is audited by looking at every node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use client::{Change, Reflector};
use meta::Value;
use placement::PodKey;
use rest::http::Method;
use scheduler::{SchedulerConfig, SchedulerProgress};
use tokio::sync::mpsc;

use crate::Options;
use crate::audit::Audit;
use crate::measure::{Samples, Spent, process_cpu_nanos, repeat, resident_bytes, thread_cpu_nanos};
use crate::plane::{Plane, body_of, runtime};
use crate::progress::Progress;
use crate::report::Report;
use crate::schedule_core::{classes_of, cluster_of};
use crate::workload::{CLASSES, Digits, Template, check_room, create_nodes, resource};

/// When nothing was bound for so long, nothing more will be.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How often bindings are counted while they are waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Pods created before the other tasks of this thread get a turn.
const CHUNK: usize = 256;

pub fn run(options: &Options) -> Result<Report, String> {
    let (nodes, pods) = (options.nodes, options.pods);
    // One more than asked for: the pod that shows that the scheduler knows the nodes.
    check_room(nodes, pods.saturating_add(1))?;
    let outcomes = repeat(options.runs, || once(nodes, pods))?;
    let figure = |of: fn(&Outcome) -> f64| {
        let mut samples = Samples::default();
        outcomes
            .iter()
            .for_each(|outcome| samples.push(of(outcome)));
        samples
    };
    let total = |of: fn(&Outcome) -> usize| outcomes.iter().map(of).sum();
    let per_pod = 1e6 / pods as f64;
    let seconds = figure(|outcome| outcome.spent.wall.as_secs_f64());
    let us = |samples: Samples| samples.median() * per_pod;
    Ok(Report::in_memory()
        .text("mode", "api")
        .count("nodes", nodes)
        .count("pods", pods)
        .count("runs", outcomes.len())
        .main("seconds", &seconds)
        .median("create_seconds", &figure(|outcome| outcome.create_seconds))
        .number("pods_per_second", pods as f64 / seconds.median().max(1e-9))
        .number("us_per_pod", us(seconds.clone()))
        .number(
            "cpu_us_per_pod",
            us(figure(|outcome| outcome.spent.cpu_nanos as f64 / 1e9)),
        )
        .number(
            "create_cpu_us_per_pod",
            us(figure(|outcome| outcome.create_cpu_seconds)),
        )
        .number(
            "scheduler_cpu_us_per_pod",
            us(figure(|outcome| outcome.scheduler_cpu_seconds)),
        )
        .number(
            "decision_us_per_pod",
            us(figure(|outcome| outcome.decision_seconds)),
        )
        .number(
            "watch_cpu_us_per_pod",
            us(figure(|outcome| outcome.watch_cpu_seconds)),
        )
        .count(
            "rss_bytes",
            outcomes.first().map_or(0, |outcome| outcome.resident_bytes),
        )
        .count(
            "unschedulable_attempts",
            total(|outcome| outcome.unschedulable),
        )
        .count("binding_errors", total(|outcome| outcome.errors))
        .count("picks_audited", total(|outcome| outcome.audit.audited))
        .count("mismatches", total(|outcome| outcome.audit.mismatches)))
}

struct Outcome {
    spent: Spent,
    create_seconds: f64,
    create_cpu_seconds: f64,
    scheduler_cpu_seconds: f64,
    decision_seconds: f64,
    watch_cpu_seconds: f64,
    resident_bytes: usize,
    unschedulable: usize,
    errors: usize,
    audit: Audit,
}

fn once(nodes: usize, pods: usize) -> Result<Outcome, String> {
    let mut plane = Plane::start()?;
    let runtime = runtime()?;
    runtime.block_on(create_nodes(&plane.client(), nodes))?;
    let (progress, scheduler_cpu) = start_scheduler(&mut plane)?;
    let (bound, bindings, watch_cpu) = start_watch(&mut plane, pods + 1)?;
    // The first pod is bound once the scheduler has taken in all nodes: from then on it is pods that are measured.
    runtime.block_on(create_pods(&plane, 0..1))?;
    wait_for(
        1,
        &bound,
        &mut Progress::new("the scheduler takes in the nodes", 1),
    )?;

    let (scheduler_before, watch_before) = (scheduler_cpu.load(Relaxed), watch_cpu.load(Relaxed));
    let decision_before = progress.decision_nanos.load(Relaxed);
    let mut spent = Spent::default();
    let (begun, cpu, thread_cpu) = (Instant::now(), process_cpu_nanos(), thread_cpu_nanos());
    runtime.block_on(create_pods(&plane, 1..pods + 1))?;
    let create_seconds = begun.elapsed().as_secs_f64();
    let create_cpu = thread_cpu_nanos() - thread_cpu;
    let last = wait_for(pods + 1, &bound, &mut Progress::new("binding", pods))?;
    spent.add_since(begun, cpu);
    spent.wall = last.saturating_duration_since(begun);
    let resident = resident_bytes();
    // Gone before the audit takes its own memory.
    drop(plane);
    let bindings = std::iter::from_fn(|| bindings.try_recv().ok()).flatten();
    let seconds = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1e9;
    Ok(Outcome {
        spent,
        create_seconds,
        create_cpu_seconds: seconds(create_cpu, 0),
        scheduler_cpu_seconds: seconds(scheduler_cpu.load(Relaxed), scheduler_before),
        decision_seconds: seconds(progress.decision_nanos.load(Relaxed), decision_before),
        watch_cpu_seconds: seconds(watch_cpu.load(Relaxed), watch_before),
        resident_bytes: usize::try_from(resident).unwrap_or(usize::MAX),
        unschedulable: usize::try_from(progress.unschedulable.load(Relaxed)).unwrap_or(usize::MAX),
        errors: usize::try_from(progress.errors.load(Relaxed)).unwrap_or(usize::MAX),
        audit: replay(nodes, pods, bindings)?,
    })
}

pub fn start_scheduler(
    plane: &mut Plane,
) -> Result<(Arc<SchedulerProgress>, Arc<AtomicU64>), String> {
    let progress = Arc::new(SchedulerProgress::default());
    let (client, shared, stop) = (plane.client(), progress.clone(), plane.stop_signal());
    let cpu = plane.spawn("scheduler", move || {
        scheduler::run(client, SchedulerConfig::default(), shared, stop)
    })?;
    Ok((progress, cpu))
}

/// How far the watch has come.
#[derive(Default)]
struct Bound {
    count: AtomicUsize,
    /// When the last one was seen.
    last: std::sync::Mutex<Option<Instant>>,
}

/// A pod by its number, on a node by its number.
#[derive(Clone, Copy)]
struct Binding {
    pod: u32,
    node: u32,
}

type Watching = (
    Arc<Bound>,
    std::sync::mpsc::Receiver<Vec<Binding>>,
    Arc<AtomicU64>,
);

/// Starts the watch that sees pods bound. The bindings come, in order, when all are there or the plane ends.
fn start_watch(plane: &mut Plane, pods: usize) -> Result<Watching, String> {
    let bound = Arc::new(Bound::default());
    let (sender, receiver) = std::sync::mpsc::channel();
    let (client, shared, mut stop) = (plane.client(), bound.clone(), plane.stop_signal());
    let resource = resource("", "pods")?;
    let cpu = plane.spawn("watch", move || async move {
        let reflector = Reflector::new(client, resource).with_field_selector("spec.nodeName!=");
        let changes = reflector.spawn(|pod| binding_of(&pod));
        let mut order = Vec::with_capacity(pods);
        tokio::select! {
            () = count(changes, pods, &shared, &mut order) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        let _ = sender.send(order);
    })?;
    Ok((bound, receiver, cpu))
}

async fn count(
    mut changes: mpsc::Receiver<Change<Option<Binding>>>,
    pods: usize,
    bound: &Bound,
    order: &mut Vec<Binding>,
) {
    let mut seen = vec![false; pods];
    while order.len() < pods {
        let Some(change) = changes.recv().await else {
            return;
        };
        let Change::Apply(_, Some(binding)) = change else {
            continue;
        };
        match seen.get_mut(binding.pod as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        order.push(binding);
        if order.len() == pods || order.len() == 1 {
            *bound
                .last
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
        }
        bound.count.store(order.len(), Relaxed);
    }
}

fn binding_of(pod: &Value) -> Option<Binding> {
    let index = Digits::index(meta::object::name(pod))?;
    let node = pod["spec"]["nodeName"]
        .as_str()?
        .strip_prefix("node-")?
        .parse()
        .ok()?;
    Some(Binding {
        pod: u32::try_from(index).ok()?,
        node,
    })
}

/// Waits until so many pods are bound; gives the time when the last one was seen.
fn wait_for(wanted: usize, bound: &Bound, progress: &mut Progress) -> Result<Instant, String> {
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let count = bound.count.load(Relaxed);
        if count >= wanted {
            let last = bound
                .last
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            return Ok(last.unwrap_or_else(Instant::now));
        }
        if count > before {
            (before, since) = (count, Instant::now());
        } else if since.elapsed() > STALL_MAX {
            return Err(format!(
                "{count} of {wanted} pods were bound, and then none for {} s",
                STALL_MAX.as_secs()
            ));
        }
        progress.set(count);
        std::thread::sleep(LOOK_INTERVAL);
    }
}

async fn create_pods(plane: &Plane, pods: std::ops::Range<usize>) -> Result<(), String> {
    let templates = (0..CLASSES)
        .map(Template::of_pod)
        .collect::<Result<Vec<_>, _>>()?;
    let mut progress = Progress::new("creating pods", pods.end);
    for index in pods {
        let body = templates[index % CLASSES].named(&Digits::name(index));
        let path = "/api/v1/namespaces/default/pods".to_owned();
        body_of(plane.call(plane.request(Method::Post, path, body)).await).await?;
        if index % CHUNK == 0 {
            progress.set(index);
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Makes the bindings again, one after the other, and asks of some whether another node would have been better.
fn replay(
    nodes: usize,
    pods: usize,
    bindings: impl Iterator<Item = Binding>,
) -> Result<Audit, String> {
    let (mut cluster, handles) = cluster_of(nodes)?;
    let classes = classes_of(&mut cluster)?;
    let mut audit = Audit::new(nodes, pods);
    let mut progress = Progress::new("auditing", pods);
    for (pick, binding) in bindings.enumerate() {
        let class = classes[binding.pod as usize % CLASSES];
        let Some(node) = handles.get(binding.node as usize).copied() else {
            return Err(format!(
                "a pod was bound to node {}, which there is not",
                binding.node
            ));
        };
        if audit.wants(pick) {
            audit.check(&mut cluster, &handles, class, Some(node));
            progress.set(pick);
        }
        cluster.assume(PodKey::of_uuid(u128::from(binding.pod)), class, node);
    }
    Ok(audit)
}

//! `P5-steady`: pods come at a steady rate, others leave, nodes change, and each decision is timed by itself.
//!
//! The clock of a pod begins when it is due, not when its turn comes: who waits because another took long has waited.

use std::time::{Duration, Instant};

use placement::{ClassId, NodeId, NodeInfo, PickError, PodInfo};

use super::core::{Stage, key};
use super::outcome::{Outcome, percentile_ms};
use super::plan::Size;
use super::promises;
use super::shapes;
use crate::measure::{Spent, resident_bytes, thread_cpu_nanos};
use crate::progress::Progress;
use crate::report::Report;
use crate::schedule_core::random;

/// Classes of pods.
const CLASSES: usize = 100;
/// One pod leaves after so many have come, and one node is closed or opened again.
const PODS_A_LEAVE: usize = 2;
const PODS_A_CHANGE: usize = 100;
/// Waits longer than this are slept, shorter ones are spent looking at the clock.
const SLEEP_MIN: Duration = Duration::from_micros(300);
/// Of the pods so many come at the rate, the others before.
const PART: usize = 5;

/// What a run gave beside its outcome.
#[derive(Debug, Default)]
pub struct Steady {
    /// Pods that came at the rate.
    pub timed: usize,
    /// Of each decision, sorted.
    decision_nanos: Vec<u32>,
    /// From when a pod was due until it had its node, sorted.
    waited_micros: Vec<u32>,
    before_bytes: u64,
    nodes_bytes: u64,
    pods_bytes: u64,
}

/// Runs it once, at so many pods a second.
pub fn run(size: Size, rate: usize) -> Result<(Outcome, Steady), String> {
    let mut steady = Steady {
        before_bytes: resident_bytes(),
        ..Steady::default()
    };
    let plan = promises::classes(size, CLASSES);
    let mut stage = Stage::set(&plan)?;
    steady.nodes_bytes = resident_bytes();
    let mut classes = Vec::with_capacity(CLASSES);
    for kind in 0..CLASSES {
        let pod = shapes::admitted((plan.measured.pod)(kind), "default", "any");
        let class = stage.cluster.class_of(&PodInfo::from_object(&pod)?.spec);
        stage.cluster.retain_class(class);
        classes.push(class);
    }
    let mut outcome = Outcome::default();
    let mut random = random();
    steady.timed = (size.pods / PART).max(1);
    let first = size.pods - steady.timed;
    let mut progress = Progress::new("placing pods that are there before", first);
    let mut spent = Spent::default();
    spent.on(|| {
        for pod in 0..first {
            let node = pick(&mut stage, classes[pod % CLASSES], pod, &mut random)?;
            note(node, None, &stage, &mut outcome);
            progress.add(1);
        }
        Ok::<_, String>(())
    })?;
    steady.pods_bytes = resident_bytes();
    drop(progress);

    let every = Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap_or(1);
    let mut progress = Progress::new("placing pods at the rate", steady.timed);
    let begun = Instant::now();
    let mut closed: Option<usize> = None;
    for turn in 0..steady.timed {
        let due = begun + every * u32::try_from(turn).unwrap_or(u32::MAX);
        wait_until(due);
        if turn % PODS_A_CHANGE == 0 && size.nodes > 1 {
            // One at a time is closed.
            let number = closed.take();
            let node = number.unwrap_or(random() as usize % size.nodes);
            let mut object = promises::node(node);
            if number.is_none() {
                object["spec"]["unschedulable"] = true.into();
                closed = Some(node);
            }
            stage.cluster.upsert_node(&NodeInfo::from_object(&object)?);
        }
        if turn % PODS_A_LEAVE == 0 {
            // It may be gone already; then nobody leaves.
            stage
                .cluster
                .remove_pod(key(random() as usize % (first + turn).max(1)));
        }
        let pod = first + turn;
        let class = classes[pod % CLASSES];
        let cpu = thread_cpu_nanos();
        let started = Instant::now();
        let node = pick(&mut stage, class, pod, &mut random)?;
        let done = Instant::now();
        spent.cpu_nanos += thread_cpu_nanos().saturating_sub(cpu);
        spent.wall += done.duration_since(started);
        let nanos = done.duration_since(started).as_nanos();
        steady
            .decision_nanos
            .push(u32::try_from(nanos).unwrap_or(u32::MAX));
        let waited = done.saturating_duration_since(due).as_micros();
        steady
            .waited_micros
            .push(u32::try_from(waited).unwrap_or(u32::MAX));
        note(node, closed, &stage, &mut outcome);
        progress.add(1);
    }
    outcome.resident_bytes = resident_bytes();
    outcome.spent = spent;
    outcome.decision_seconds = outcome.spent.wall.as_secs_f64();
    audit(&mut stage, &classes, &mut random, &mut outcome)?;
    let (bound, pods) = (outcome.bound, size.pods);
    if bound != pods {
        outcome
            .wrongs
            .add(|| format!("{bound} of {pods} pods have a node"));
    }
    steady.decision_nanos.sort_unstable();
    steady.waited_micros.sort_unstable();
    Ok((outcome, steady))
}

fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > SLEEP_MIN {
            std::thread::sleep(left - SLEEP_MIN);
        } else {
            std::hint::spin_loop();
        }
    }
}

fn pick(
    stage: &mut Stage,
    class: ClassId,
    pod: usize,
    random: &mut dyn FnMut() -> u64,
) -> Result<Option<NodeId>, String> {
    match stage.cluster.pick(class, None, random) {
        Ok(node) => Ok(stage.cluster.assume(key(pod), class, node).then_some(node)),
        Err(PickError::Unschedulable(_)) => Ok(None),
        Err(PickError::UnknownClass) => Err("a class was forgotten".into()),
    }
}

fn note(node: Option<NodeId>, closed: Option<usize>, stage: &Stage, outcome: &mut Outcome) {
    let Some(node) = node else {
        outcome.unschedulable += 1;
        return;
    };
    outcome.bound += 1;
    if closed.is_some_and(|closed| stage.handles.get(closed) == Some(&node)) {
        outcome
            .wrongs
            .add(|| "a pod was put on a node that is closed".to_owned());
    }
}

/// A pick of some classes at the end, each looked at by a scan of all states.
fn audit(
    stage: &mut Stage,
    classes: &[ClassId],
    random: &mut dyn FnMut() -> u64,
    outcome: &mut Outcome,
) -> Result<(), String> {
    for class in classes.iter().step_by(10) {
        let node = match stage.cluster.pick(*class, None, random) {
            Ok(node) => node,
            Err(PickError::Unschedulable(_)) => continue,
            Err(PickError::UnknownClass) => return Err("a class was forgotten".into()),
        };
        outcome.audited += 1;
        if stage.cluster.audit(*class, node) != Some(true) {
            outcome
                .wrongs
                .add(|| "a pick is not among the best".to_owned());
        }
    }
    Ok(())
}

/// Adds the figures of single decisions, and of memory.
pub fn with_figures(mut report: Report, steady: &Steady, size: Size, rate: usize) -> Report {
    report = report
        .count("rate_per_second", rate)
        .count("timed_pods", steady.timed);
    for (name, part) in [("p50", 500), ("p99", 990), ("p999", 999), ("max", 1000)] {
        // Thousandths of a millisecond's thousandths: nanoseconds read as microseconds.
        let micros = percentile_ms(&steady.decision_nanos, part);
        report = report.number(format!("decision_{name}_us"), micros);
    }
    for (name, part) in [("p50", 500), ("p99", 990), ("p999", 999), ("max", 1000)] {
        let waited = percentile_ms(&steady.waited_micros, part);
        report = report.number(format!("due_to_placed_{name}_ms"), waited);
    }
    let of_nodes = steady.nodes_bytes.saturating_sub(steady.before_bytes);
    let of_pods = steady.pods_bytes.saturating_sub(steady.nodes_bytes);
    let placed = size.pods - steady.timed;
    report
        .number("bytes_per_node", of_nodes as f64 / size.nodes.max(1) as f64)
        .number("bytes_per_pod", of_pods as f64 / placed.max(1) as f64)
}

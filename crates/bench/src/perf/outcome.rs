//! What one run of a case gave, and the figures of several runs.
//!
//! Does not know how a case is run.

use super::plan::{Plan, Size};
use super::recount::{Recount, Wrongs};
use super::shapes;
use crate::measure::{Samples, Spent};
use crate::report::Report;

/// Of one run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Time of the measured pods.
    pub spent: Spent,
    /// Of it in the core.
    pub decision_seconds: f64,
    /// Processor time of those who create pods, schedule them, and watch.
    pub create_cpu_seconds: f64,
    pub scheduler_cpu_seconds: f64,
    pub watch_cpu_seconds: f64,
    /// Memory at the end.
    pub resident_bytes: u64,
    /// Measured pods that have a node at the end.
    pub bound: usize,
    /// Pods that went for others.
    pub evicted: usize,
    /// More of them than had to: who was tried again before all had gone for whom it waits.
    pub evicted_beyond_need: usize,
    /// Tries that found no node.
    pub unschedulable: usize,
    /// Bindings that failed.
    pub errors: usize,
    /// Picks that were looked at again.
    pub audited: usize,
    /// What was wrong: picks, and what the recount found.
    pub wrongs: Wrongs,
    /// From the answer to a pod's creation until its binding is seen.
    pub bound_after_micros: Vec<u32>,
}

impl Outcome {
    /// Counts again, and whether all that should be are bound.
    pub fn count(&mut self, plan: &Plan, recount: Recount) {
        let found = recount.count();
        self.wrongs.count += found.count;
        self.wrongs.told.extend(found.told);
        let (bound, wanted) = (self.bound, plan.measured.count);
        if bound != wanted {
            self.wrongs
                .add(|| format!("{bound} of {wanted} pods have a node"));
        }
        let needed = plan.victims_each * wanted;
        if plan.meanwhile.is_none() {
            self.evicted_beyond_need = self.evicted.saturating_sub(needed);
        }
    }
}

/// Namespaces and limits of volumes, for the recount.
pub fn beside(plan: &Plan, recount: &mut Recount) {
    let (key, value) = shapes::TEAM;
    for (name, is_labelled) in &plan.spaces {
        let labels = if *is_labelled {
            value::json!({key: value})
        } else {
            meta::Value::Null
        };
        recount.namespace(name, &labels);
    }
    for (_, resource, _, object) in &plan.beside {
        if *resource == "csinodes" {
            recount.volumes_max(meta::object::name(object), shapes::EBS_LIMIT);
        }
    }
}

/// What part of so many lies below, in milliseconds.
pub fn percentile_ms(sorted: &[u32], thousandths: usize) -> f64 {
    let place = sorted.len().saturating_sub(1) * thousandths / 1000;
    sorted
        .get(place)
        .map_or(0.0, |micros| f64::from(*micros) / 1e3)
}

/// The figures of some runs of one case.
pub fn report(begun: Report, mode: &str, size: Size, outcomes: &[Outcome]) -> Report {
    let pods = size.pods;
    let figure = |of: &dyn Fn(&Outcome) -> f64| {
        let mut samples = Samples::default();
        outcomes
            .iter()
            .for_each(|outcome| samples.push(of(outcome)));
        samples
    };
    let total = |of: &dyn Fn(&Outcome) -> usize| outcomes.iter().map(of).sum();
    let us = |seconds: f64| seconds * 1e6 / pods.max(1) as f64;
    let seconds = figure(&|outcome| outcome.spent.wall.as_secs_f64());
    let resident = outcomes.first().map_or(0, |outcome| outcome.resident_bytes);
    let mut report = begun
        .text("mode", mode)
        .count("nodes", size.nodes)
        .count("pods_before", size.before)
        .count("pods", pods)
        .count("runs", outcomes.len())
        .main("seconds", &seconds)
        .number("pods_per_second", pods as f64 / seconds.median().max(1e-9))
        .number("us_per_pod", us(seconds.median()))
        .main(
            "cpu_us_per_pod",
            &figure(&|outcome| us(outcome.spent.cpu_nanos as f64 / 1e9)),
        )
        .median(
            "decision_us_per_pod",
            &figure(&|outcome| us(outcome.decision_seconds)),
        );
    if mode == "api" {
        report = report
            .median(
                "create_cpu_us_per_pod",
                &figure(&|outcome| us(outcome.create_cpu_seconds)),
            )
            .median(
                "scheduler_cpu_us_per_pod",
                &figure(&|outcome| us(outcome.scheduler_cpu_seconds)),
            )
            .median(
                "watch_cpu_us_per_pod",
                &figure(&|outcome| us(outcome.watch_cpu_seconds)),
            );
        for (name, part) in [("p50", 500), ("p99", 990), ("p999", 999)] {
            let samples = figure(&|outcome| percentile_ms(&outcome.bound_after_micros, part));
            report = report.median(format!("bound_after_{name}_ms"), &samples);
        }
    }
    let mut report = report
        .count("rss_bytes", usize::try_from(resident).unwrap_or(usize::MAX))
        .count("bound", total(&|outcome| outcome.bound))
        .count("evicted", total(&|outcome| outcome.evicted))
        .count(
            "evicted_beyond_need",
            total(&|outcome| outcome.evicted_beyond_need),
        )
        .count(
            "unschedulable_attempts",
            total(&|outcome| outcome.unschedulable),
        )
        .count("binding_errors", total(&|outcome| outcome.errors))
        .count("picks_audited", total(&|outcome| outcome.audited))
        .count("mismatches", total(&|outcome| outcome.wrongs.count));
    let told = outcomes.iter().flat_map(|outcome| &outcome.wrongs.told);
    if let Some(first) = told.into_iter().next() {
        report = report.text("first_mismatch", first);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_so_many_lies_below() {
        let sorted: Vec<u32> = (1..=1000).map(|millis| millis * 1000).collect();
        assert_eq!(percentile_ms(&sorted, 500), 500.0);
        assert_eq!(percentile_ms(&sorted, 999), 999.0);
        assert_eq!(percentile_ms(&[], 500), 0.0);
    }
}

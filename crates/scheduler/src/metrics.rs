//! What the scheduler has done, counted; and the text of it under upstream's names.
//!
//! Does not know who reads it.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use client::events::RecorderCounts;

/// Upper bounds of buckets, in seconds: from 1 ms, doubling (k8s: 15 of them).
const DURATION_BOUNDS: [f64; 15] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];
/// Of victims (k8s).
const VICTIM_BOUNDS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// Of attempts a pod took (k8s).
const ATTEMPT_BOUNDS: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];

/// Values by size.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    buckets: [AtomicU64; N],
    count: AtomicU64,
    /// In thousand-millionths.
    sum_nanos: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: &'static [f64; N]) -> Histogram<N> {
        Histogram {
            bounds,
            buckets: [const { AtomicU64::new(0) }; N],
            count: AtomicU64::new(0),
            sum_nanos: AtomicU64::new(0),
        }
    }

    fn note(&self, value: f64, nanos: u64) {
        if let Some(at) = self.bounds.iter().position(|bound| value <= *bound) {
            self.buckets[at].fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.sum_nanos.fetch_add(nanos, Relaxed);
    }

    /// Counts a number.
    pub fn observe(&self, value: u64) {
        self.note(value as f64, value.saturating_mul(1_000_000_000));
    }

    /// Counts a duration.
    pub fn observe_duration(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.note(duration.as_secs_f64(), nanos);
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    fn write(&self, text: &mut String, name: &str, labels: &str) {
        let (comma, braced) = match labels {
            "" => ("", String::new()),
            _ => (",", format!("{{{labels}}}")),
        };
        let mut below = 0;
        for (bound, bucket) in self.bounds.iter().zip(&self.buckets) {
            below += bucket.load(Relaxed);
            let _ = writeln!(
                text,
                "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}"
            );
        }
        let count = self.count();
        let _ = writeln!(text, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
        let sum = self.sum_nanos.load(Relaxed) as f64 / 1e9;
        let _ = writeln!(text, "{name}_sum{braced} {sum}");
        let _ = writeln!(text, "{name}_count{braced} {count}");
    }
}

/// Waits for a permit, by how they ended.
#[derive(Debug)]
pub(crate) struct PermitWaits {
    success: Histogram<15>,
    unschedulable: Histogram<15>,
}

impl Default for PermitWaits {
    fn default() -> PermitWaits {
        PermitWaits {
            success: Histogram::new(&DURATION_BOUNDS),
            unschedulable: Histogram::new(&DURATION_BOUNDS),
        }
    }
}

impl PermitWaits {
    pub(crate) fn success(&self, wait: Duration) {
        self.success.observe_duration(wait);
    }

    pub(crate) fn unschedulable(&self, wait: Duration) {
        self.unschedulable.observe_duration(wait);
    }

    fn write(&self, text: &mut String) {
        let name = "scheduler_permit_wait_duration_seconds";
        let _ = writeln!(
            text,
            "# HELP {name} Time that pods waited for a permit.\n# TYPE {name} histogram"
        );
        let results = [
            ("Success", &self.success),
            ("Unschedulable", &self.unschedulable),
        ];
        for (result, waits) in results {
            if waits.count() > 0 {
                waits.write(text, name, &format!("result=\"{result}\""));
            }
        }
    }
}

/// Attempts of one profile, by how they ended.
#[derive(Debug)]
pub(crate) struct ProfileProgress {
    name: Arc<str>,
    pub(crate) scheduled: Histogram<15>,
    pub(crate) unschedulable: Histogram<15>,
    pub(crate) error: Histogram<15>,
}

/// What the scheduler has done; read by metrics and status lines.
#[derive(Debug)]
pub struct SchedulerProgress {
    /// Pods bound.
    pub bound: AtomicU64,
    /// Attempts that found no node.
    pub unschedulable: AtomicU64,
    /// Attempts that failed otherwise (binding refused, API server away).
    pub errors: AtomicU64,
    /// Pods waiting: active.
    pub active: AtomicUsize,
    /// Pods waiting for their back-off to end.
    pub backoff: AtomicUsize,
    /// Pods that fit nowhere now.
    pub parked: AtomicUsize,
    /// Pods with scheduling gates.
    pub gated: AtomicUsize,
    /// Pods for which others were evicted.
    pub preemptions: AtomicU64,
    /// Tries to find pods that could be evicted.
    pub preemption_attempts: AtomicU64,
    /// Pods evicted for others.
    pub victims: AtomicU64,
    /// The same, by preemption.
    pub victims_each: Histogram<7>,
    /// Attempts that pods took to be bound.
    pub attempts_each: Histogram<5>,
    /// Time to choose a node, or to find that there is none.
    pub algorithm: Histogram<15>,
    /// Waits of pods for the others of their gangs.
    pub(crate) permit_waits: PermitWaits,
    /// What became of events.
    pub events: Arc<RecorderCounts>,
    /// Nanoseconds spent choosing nodes.
    pub decision_nanos: AtomicU64,
    /// Nodes known.
    pub nodes: AtomicUsize,
    /// Pods with a node known, those assumed included.
    pub pods: AtomicUsize,
    /// Everything was listed once: pods are being placed.
    pub synced: std::sync::atomic::AtomicBool,
    /// Picks audited, and those found wrong.
    pub audited: AtomicU64,
    /// Picks that were not among the best of all nodes. Must stay 0.
    pub mismatches: AtomicU64,
    profiles: OnceLock<Box<[ProfileProgress]>>,
    /// Cause, place, times.
    incoming: Mutex<Vec<(&'static str, &'static str, u64)>>,
}

impl Default for SchedulerProgress {
    fn default() -> SchedulerProgress {
        SchedulerProgress {
            bound: AtomicU64::default(),
            unschedulable: AtomicU64::default(),
            errors: AtomicU64::default(),
            active: AtomicUsize::default(),
            backoff: AtomicUsize::default(),
            parked: AtomicUsize::default(),
            gated: AtomicUsize::default(),
            preemptions: AtomicU64::default(),
            preemption_attempts: AtomicU64::default(),
            victims: AtomicU64::default(),
            victims_each: Histogram::new(&VICTIM_BOUNDS),
            attempts_each: Histogram::new(&ATTEMPT_BOUNDS),
            algorithm: Histogram::new(&DURATION_BOUNDS),
            permit_waits: PermitWaits::default(),
            events: Arc::default(),
            decision_nanos: AtomicU64::default(),
            nodes: AtomicUsize::default(),
            pods: AtomicUsize::default(),
            synced: std::sync::atomic::AtomicBool::default(),
            audited: AtomicU64::default(),
            mismatches: AtomicU64::default(),
            profiles: OnceLock::new(),
            incoming: Mutex::default(),
        }
    }
}

impl SchedulerProgress {
    /// The profiles there are, in their order.
    pub(crate) fn begin(&self, names: impl Iterator<Item = Arc<str>>) {
        let of = |name| ProfileProgress {
            name,
            scheduled: Histogram::new(&DURATION_BOUNDS),
            unschedulable: Histogram::new(&DURATION_BOUNDS),
            error: Histogram::new(&DURATION_BOUNDS),
        };
        self.profiles.get_or_init(|| names.map(of).collect());
    }

    pub(crate) fn profile(&self, number: u16) -> Option<&ProfileProgress> {
        self.profiles.get()?.get(usize::from(number))
    }

    pub(crate) fn note_incoming(
        &self,
        incoming: impl Iterator<Item = (&'static str, &'static str, u64)>,
    ) {
        let mut known = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        known.clear();
        known.extend(incoming.filter(|(_, _, times)| *times > 0));
    }

    /// Appends everything in Prometheus' text format.
    pub fn write_metrics(&self, text: &mut String) {
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        let name = "scheduler_pending_pods";
        head(text, name, "gauge", "Pods waiting, by queue.");
        for (queue, count) in [
            ("active", &self.active),
            ("backoff", &self.backoff),
            ("gated", &self.gated),
            ("unschedulable", &self.parked),
        ] {
            let _ = writeln!(text, "{name}{{queue=\"{queue}\"}} {}", count.load(Relaxed));
        }
        let profiles = self.profiles.get().map_or(&[][..], |all| all);
        let results = |profile: &ProfileProgress| -> [String; 3] {
            ["error", "scheduled", "unschedulable"]
                .map(|result| format!("profile=\"{}\",result=\"{result}\"", profile.name))
        };
        let name = "scheduler_schedule_attempts_total";
        head(text, name, "counter", "Attempts by result.");
        for profile in profiles {
            let counts = [&profile.error, &profile.scheduled, &profile.unschedulable];
            for (labels, histogram) in results(profile).iter().zip(counts) {
                let _ = writeln!(text, "{name}{{{labels}}} {}", histogram.count());
            }
        }
        let name = "scheduler_scheduling_attempt_duration_seconds";
        let help = "From a pod's turn to its binding, or to finding that there is none.";
        head(text, name, "histogram", help);
        for profile in profiles {
            let counts = [&profile.error, &profile.scheduled, &profile.unschedulable];
            for (labels, histogram) in results(profile).iter().zip(counts) {
                histogram.write(text, name, labels);
            }
        }
        let name = "scheduler_scheduling_algorithm_duration_seconds";
        head(text, name, "histogram", "Time to choose a node.");
        self.algorithm.write(text, name, "");
        let name = "scheduler_pod_scheduling_attempts";
        head(text, name, "histogram", "Attempts until a pod was bound.");
        self.attempts_each.write(text, name, "");
        let name = "scheduler_preemption_attempts_total";
        head(text, name, "counter", "Tries to find pods to evict.");
        let attempts = self.preemption_attempts.load(Relaxed);
        let _ = writeln!(text, "{name} {attempts}");
        let name = "scheduler_preemption_victims";
        head(text, name, "histogram", "Pods evicted for one.");
        self.victims_each.write(text, name, "");
        let name = "scheduler_queue_incoming_pods_total";
        let help = "Pods added to a queue, by queue and event.";
        head(text, name, "counter", help);
        let incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        for (event, queue, times) in incoming.iter() {
            let _ = writeln!(
                text,
                "{name}{{event=\"{event}\",queue=\"{queue}\"}} {times}"
            );
        }
        drop(incoming);
        self.permit_waits.write(text);
        let name = "scheduler_scheduler_cache_size";
        head(text, name, "gauge", "Nodes and pods known.");
        for (kind, count) in [("nodes", &self.nodes), ("pods", &self.pods)] {
            let _ = writeln!(text, "{name}{{type=\"{kind}\"}} {}", count.load(Relaxed));
        }
        for (name, help, count) in [
            (
                "megaplane_scheduler_audited_total",
                "Picks checked by a look at every node.",
                &self.audited,
            ),
            (
                "megaplane_scheduler_audit_mismatches_total",
                "Picks that were not among the best of all nodes.",
                &self.mismatches,
            ),
        ] {
            head(text, name, "counter", help);
            let _ = writeln!(text, "{name} {}", count.load(Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_upstreams_names() {
        let progress = SchedulerProgress::default();
        progress.begin(["default-scheduler".into()].into_iter());
        let profile = progress.profile(0).unwrap();
        profile.scheduled.observe_duration(Duration::from_millis(3));
        progress.victims_each.observe(3);
        progress.note_incoming([("NodeAdd", "active", 7), ("NodeAdd", "gated", 0)].into_iter());
        let mut text = String::new();
        progress.write_metrics(&mut text);
        for line in [
            "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"} 1",
            "scheduler_scheduling_attempt_duration_seconds_bucket{profile=\"default-scheduler\",result=\"scheduled\",le=\"0.002\"} 0",
            "scheduler_scheduling_attempt_duration_seconds_bucket{profile=\"default-scheduler\",result=\"scheduled\",le=\"0.004\"} 1",
            "scheduler_scheduling_attempt_duration_seconds_sum{profile=\"default-scheduler\",result=\"scheduled\"} 0.003",
            "scheduler_preemption_victims_bucket{le=\"2\"} 0",
            "scheduler_preemption_victims_bucket{le=\"+Inf\"} 1",
            "scheduler_preemption_victims_sum 3",
            "scheduler_pending_pods{queue=\"gated\"} 0",
            "scheduler_queue_incoming_pods_total{event=\"NodeAdd\",queue=\"active\"} 7",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert!(!text.contains("queue=\"gated\"} 7"));
    }
}

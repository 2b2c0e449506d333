//! How long steps took that have a beginning and an end here: under upstream's names, for those steps alone.
//!
//! ```text
//!   enters the queue ─────────────────────────────── sli ──────────────────────────────────► bound
//!                     pick ─► no node ─► PostFilter (who could be evicted) ─► evictions
//!                       └─► PreBind (volumes, claims) ─► Bind
//! ```
//!
//! Filters and scores are not among them: a class of pods is asked once about a state of nodes, so a time of one
//! plugin on one node does not exist. Does not know who reads it.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use placement::queue::Event;

use crate::metrics::Histogram;

/// Of a pod's whole way, in seconds: from 10 ms, doubling (k8s: 20 of them).
const SLI_BOUNDS: [f64; 20] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
    327.68, 655.36, 1310.72, 2621.44, 5242.88,
];
/// Of extension points and of events, in seconds: from 0.1 ms, doubling (k8s: 12 of them).
const POINT_BOUNDS: [f64; 12] = [
    0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024, 0.2048,
];
/// Of plugins, in seconds: from 10 µs, each one and a half times the one before (k8s: 20 of them, by
/// multiplication; rounded here to a nanosecond).
const PLUGIN_BOUNDS: [f64; 20] = [
    0.00001,
    0.000015,
    0.0000225,
    0.00003375,
    0.000050625,
    0.000075938,
    0.000113906,
    0.000170859,
    0.000256289,
    0.000384434,
    0.00057665,
    0.000864976,
    0.001297463,
    0.001946195,
    0.002919293,
    0.004378939,
    0.006568408,
    0.009852613,
    0.014778919,
    0.022168378,
];
/// Attempts that are told apart; this many and more are one (k8s: `getAttemptsLabel`).
const ATTEMPTS_TOLD: usize = 15;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Success,
    Unschedulable,
    Error,
}

impl Ended {
    const ALL: [Ended; 3] = [Ended::Success, Ended::Unschedulable, Ended::Error];

    /// Of something that went well or did not.
    pub(crate) fn of<T, E>(result: &Result<T, E>) -> Ended {
        match result {
            Ok(_) => Ended::Success,
            Err(_) => Ended::Error,
        }
    }
}

/// Steps that are told as extension points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    PostFilter,
    PreBind,
    Bind,
}

const POINTS: [Point; 3] = [Point::PostFilter, Point::PreBind, Point::Bind];

/// Plugins that have a step of their own, with the extension point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Who could be evicted.
    Preemption,
    /// Volumes are given or made.
    Volumes,
    /// What is written into claims.
    Claims,
    /// The binding itself.
    Binding,
}

const STEPS: [(Step, &str, Point); 4] = [
    (Step::Preemption, "DefaultPreemption", Point::PostFilter),
    (Step::Volumes, "VolumeBinding", Point::PreBind),
    (Step::Claims, "DynamicResources", Point::PreBind),
    (Step::Binding, "DefaultBinder", Point::Bind),
];

/// Steps of one profile's pods.
#[derive(Debug)]
pub(crate) struct Points([[Histogram<12>; Ended::ALL.len()]; POINTS.len()]);

impl Default for Points {
    fn default() -> Points {
        let one = || Histogram::new(&POINT_BOUNDS);
        Points(std::array::from_fn(|_| std::array::from_fn(|_| one())))
    }
}

impl Points {
    pub(crate) fn took(&self, point: Point, ended: Ended, time: Duration) {
        self.0[point as usize][ended as usize].observe_duration(time);
    }

    pub(crate) fn write(&self, text: &mut String, name: &str, profile: &str) {
        for (point, row) in POINTS.iter().zip(&self.0) {
            for (ended, times) in Ended::ALL.iter().zip(row) {
                if times.count() > 0 {
                    let labels = format!(
                        "extension_point=\"{point:?}\",profile=\"{profile}\",status=\"{ended:?}\""
                    );
                    times.write(text, name, &labels);
                }
            }
        }
    }
}

/// Everything measured that does not depend on the profile.
#[derive(Debug)]
pub(crate) struct Measures {
    sli: [Histogram<20>; ATTEMPTS_TOLD],
    after_flush: AtomicU64,
    steps: [[Histogram<20>; Ended::ALL.len()]; STEPS.len()],
    /// What waited and was woken, by event.
    events: [Histogram<12>; Event::KINDS],
    /// Evictions for a pod: all went well, or some did not.
    evictions: [Histogram<20>; 2],
    /// Bindings under way.
    pub(crate) bindings: AtomicU64,
}

impl Default for Measures {
    fn default() -> Measures {
        let plugin = || Histogram::new(&PLUGIN_BOUNDS);
        Measures {
            sli: std::array::from_fn(|_| Histogram::new(&SLI_BOUNDS)),
            after_flush: AtomicU64::default(),
            steps: std::array::from_fn(|_| std::array::from_fn(|_| plugin())),
            events: std::array::from_fn(|_| Histogram::new(&POINT_BOUNDS)),
            evictions: std::array::from_fn(|_| Histogram::new(&SLI_BOUNDS)),
            bindings: AtomicU64::default(),
        }
    }
}

impl Measures {
    /// A pod is bound at its so-manyeth attempt, so long after it could first be tried.
    pub(crate) fn bound(&self, attempt: u32, since_entered: Duration, flushed: bool) {
        let attempt = usize::try_from(attempt).unwrap_or(ATTEMPTS_TOLD);
        self.sli[attempt.clamp(1, ATTEMPTS_TOLD) - 1].observe_duration(since_entered);
        if flushed {
            self.after_flush.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn took(&self, step: Step, ended: Ended, time: Duration) {
        self.steps[step as usize][ended as usize].observe_duration(time);
    }

    /// Those who wait have been looked through for whom an event may help.
    pub(crate) fn handled(&self, event: Event, time: Duration) {
        self.events[event.number()].observe_duration(time);
    }

    pub(crate) fn evicted(&self, failed: bool, time: Duration) {
        self.evictions[usize::from(failed)].observe_duration(time);
    }

    pub(crate) fn write(&self, text: &mut String) {
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        let name = "scheduler_pod_scheduling_sli_duration_seconds";
        let help =
            "From when a pod could first be tried to its binding, by the attempts that took.";
        head(text, name, "histogram", help);
        for (at, times) in self.sli.iter().enumerate() {
            let more = if at + 1 == ATTEMPTS_TOLD { "+" } else { "" };
            if times.count() > 0 {
                times.write(text, name, &format!("attempts=\"{}{more}\"", at + 1));
            }
        }
        let name = "scheduler_pod_scheduled_after_flush_total";
        let help = "Pods bound that were tried because they had waited too long.";
        head(text, name, "counter", help);
        let _ = writeln!(text, "{name} {}", self.after_flush.load(Relaxed));
        let name = "scheduler_plugin_execution_duration_seconds";
        let help = "Time of plugins that have a step of their own: not of filters and scores.";
        head(text, name, "histogram", help);
        for ((_, plugin, point), row) in STEPS.iter().zip(&self.steps) {
            for (ended, times) in Ended::ALL.iter().zip(row) {
                if times.count() > 0 {
                    let labels = format!(
                        "extension_point=\"{point:?}\",plugin=\"{plugin}\",status=\"{ended:?}\""
                    );
                    times.write(text, name, &labels);
                }
            }
        }
        let name = "scheduler_event_handling_duration_seconds";
        let help = "Time to wake those whom an event may help; events of a kind that come together are one.";
        head(text, name, "histogram", help);
        for (number, times) in self.events.iter().enumerate() {
            if times.count() > 0 {
                let event = Event::name_of(number).unwrap_or_default();
                times.write(text, name, &format!("event=\"{event}\""));
            }
        }
        let results = [
            ("success", &self.evictions[0]),
            ("error", &self.evictions[1]),
        ];
        let name = "scheduler_preemption_goroutines_duration_seconds";
        head(
            text,
            name,
            "histogram",
            "Time of all evictions for one pod.",
        );
        for (result, times) in results {
            if times.count() > 0 {
                times.write(text, name, &format!("result=\"{result}\""));
            }
        }
        let name = "scheduler_preemption_goroutines_execution_total";
        head(
            text,
            name,
            "counter",
            "Pods that others were evicted for, by how that ended.",
        );
        for (result, times) in results {
            let _ = writeln!(text, "{name}{{result=\"{result}\"}} {}", times.count());
        }
        let name = "scheduler_goroutines";
        head(
            text,
            name,
            "gauge",
            "Tasks at work: bindings, with what comes before them.",
        );
        let bindings = self.bindings.load(Relaxed);
        let _ = writeln!(text, "{name}{{operation=\"binding\"}} {bindings}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(measures: &Measures) -> String {
        let mut text = String::new();
        measures.write(&mut text);
        text
    }

    #[test]
    fn bounds_are_upstreams() {
        let doubling = |first: f64, bounds: &[f64]| -> bool {
            bounds
                .iter()
                .enumerate()
                .all(|(at, bound)| (bound / (first * 2f64.powi(at as i32)) - 1.0).abs() < 1e-9)
        };
        assert!(doubling(0.01, &SLI_BOUNDS));
        assert!(doubling(0.0001, &POINT_BOUNDS));
        for (at, bound) in PLUGIN_BOUNDS.iter().enumerate() {
            let exact = 0.00001 * 1.5f64.powi(at as i32);
            assert!((bound - exact).abs() < 1e-9, "{at}: {bound} and {exact}");
        }
    }

    #[test]
    fn a_pods_way_is_told_by_its_attempts() {
        let measures = Measures::default();
        measures.bound(1, Duration::from_millis(15), false);
        measures.bound(14, Duration::from_secs(3), true);
        measures.bound(15, Duration::from_secs(3), false);
        measures.bound(400, Duration::from_secs(3), false);
        let text = text(&measures);
        let name = "scheduler_pod_scheduling_sli_duration_seconds";
        for line in [
            format!("{name}_bucket{{attempts=\"1\",le=\"0.01\"}} 0"),
            format!("{name}_bucket{{attempts=\"1\",le=\"0.02\"}} 1"),
            format!("{name}_bucket{{attempts=\"14\",le=\"5.12\"}} 1"),
            format!("{name}_count{{attempts=\"15+\"}} 2"),
            format!("{name}_sum{{attempts=\"15+\"}} 6"),
            "scheduler_pod_scheduled_after_flush_total 1".into(),
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert!(!text.contains("attempts=\"2\""), "{text}");
    }

    #[test]
    fn steps_are_told_by_plugin_and_end() {
        let measures = Measures::default();
        let ms = Duration::from_millis;
        measures.took(Step::Binding, Ended::Success, ms(1));
        measures.took(Step::Volumes, Ended::of::<(), _>(&Err("no")), ms(30));
        measures.evicted(true, ms(5));
        measures.handled(Event::NodeAllocatable, ms(1));
        let text = text(&measures);
        let name = "scheduler_plugin_execution_duration_seconds";
        for line in [
            format!(
                "{name}_bucket{{extension_point=\"Bind\",plugin=\"DefaultBinder\",status=\"Success\",le=\"0.001297463\"}} 1"
            ),
            format!(
                "{name}_bucket{{extension_point=\"PreBind\",plugin=\"VolumeBinding\",status=\"Error\",le=\"0.022168378\"}} 0"
            ),
            format!(
                "{name}_bucket{{extension_point=\"PreBind\",plugin=\"VolumeBinding\",status=\"Error\",le=\"+Inf\"}} 1"
            ),
            "scheduler_preemption_goroutines_execution_total{result=\"error\"} 1".into(),
            "scheduler_preemption_goroutines_execution_total{result=\"success\"} 0".into(),
            "scheduler_event_handling_duration_seconds_bucket{event=\"NodeUpdateNodeAllocatable\",le=\"0.0016\"} 1".into(),
            "scheduler_goroutines{operation=\"binding\"} 0".into(),
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        let points = Points::default();
        points.took(Point::PostFilter, Ended::Unschedulable, ms(1));
        let mut text = String::new();
        points.write(&mut text, "x", "p");
        assert!(
            text.ends_with(
                "x_count{extension_point=\"PostFilter\",profile=\"p\",status=\"Unschedulable\"} 1\n"
            ),
            "{text}"
        );
    }
}

//! What the fleet has done so far, counted; and the Prometheus text of it.
//!
//! Does not know who reads it.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Counters of one fleet.
#[derive(Debug, Default)]
pub struct FleetProgress {
    /// Nodes that are registered.
    pub registered: AtomicUsize,
    /// Nodes that a fault keeps silent.
    pub silent: AtomicUsize,
    /// Nodes whose Node object was deleted by somebody.
    pub gone: AtomicUsize,
    /// Lease renewals that succeeded.
    pub renewals: AtomicU64,
    /// Lease renewals that failed and were tried again.
    pub renewal_failures: AtomicU64,
    /// Renewals that were left out because the node's next one was due already.
    pub renewals_missed: AtomicU64,
    /// The latest that a renewal ever was behind its time, in milliseconds.
    pub renewal_late_max_millis: AtomicU64,
    /// Node statuses posted.
    pub statuses: AtomicU64,
    /// Node statuses that were refused or got no answer.
    pub status_failures: AtomicU64,
    /// Pods brought to Running.
    pub pods_started: AtomicU64,
    /// Pods ended after their deletion.
    pub pods_stopped: AtomicU64,
    /// Steps of pods and nodes that were made, those of stages included.
    pub steps: AtomicU64,
    /// Steps that failed and were tried again.
    pub step_failures: AtomicU64,
    /// Pods and nodes whose next step waits for its time.
    pub waiting: AtomicUsize,
    /// Steps of fault scripts that were carried out.
    pub faults: AtomicU64,
    /// Watches that are open, of kubelet-like nodes.
    pub watches_open: AtomicI64,
    /// Events that came by these watches.
    pub watch_events: AtomicU64,
}

impl FleetProgress {
    pub(crate) fn late(&self, late: Duration) {
        let millis = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        self.renewal_late_max_millis.fetch_max(millis, Relaxed);
    }

    /// Adds the fleet's metrics to a scrape (Prometheus exposition format 0.0.4).
    pub fn write_metrics(&self, text: &mut String) {
        let gauges = [
            (
                "nodes_registered",
                "Simulated nodes that are registered.",
                self.registered.load(Relaxed) as u64,
            ),
            (
                "nodes_silent",
                "Simulated nodes that a fault keeps silent.",
                self.silent.load(Relaxed) as u64,
            ),
            (
                "nodes_gone",
                "Simulated nodes whose Node was deleted.",
                self.gone.load(Relaxed) as u64,
            ),
            (
                "lease_renewal_late_max_milliseconds",
                "The latest a renewal ever was behind its time.",
                self.renewal_late_max_millis.load(Relaxed),
            ),
            (
                "steps_waiting",
                "Pods and nodes whose next step waits.",
                self.waiting.load(Relaxed) as u64,
            ),
            (
                "watches_open",
                "Watches that kubelet-like nodes hold.",
                u64::try_from(self.watches_open.load(Relaxed)).unwrap_or(0),
            ),
        ];
        let counters = [
            (
                "lease_renewals_total",
                "Lease renewals that succeeded.",
                &self.renewals,
            ),
            (
                "lease_renewal_failures_total",
                "Lease renewals that failed.",
                &self.renewal_failures,
            ),
            (
                "lease_renewals_missed_total",
                "Lease renewals left out because the next one was due.",
                &self.renewals_missed,
            ),
            (
                "node_statuses_total",
                "Node statuses posted.",
                &self.statuses,
            ),
            (
                "node_status_failures_total",
                "Node statuses that failed.",
                &self.status_failures,
            ),
            (
                "pods_started_total",
                "Pods brought to Running.",
                &self.pods_started,
            ),
            (
                "pods_stopped_total",
                "Pods ended after their deletion.",
                &self.pods_stopped,
            ),
            (
                "steps_total",
                "Steps of pods and nodes that were made.",
                &self.steps,
            ),
            (
                "step_failures_total",
                "Steps that failed and were tried again.",
                &self.step_failures,
            ),
            (
                "faults_total",
                "Steps of fault scripts carried out.",
                &self.faults,
            ),
            (
                "watch_events_total",
                "Events that kubelet-like nodes got.",
                &self.watch_events,
            ),
        ];
        let mut one = |kind: &str, name: &str, help: &str, value: u64| {
            let _ = write!(
                text,
                "# HELP megaplane_fleet_{name} {help}\n# TYPE megaplane_fleet_{name} {kind}\n\
                 megaplane_fleet_{name} {value}\n"
            );
        };
        for (name, help, value) in gauges {
            one("gauge", name, help, value);
        }
        for (name, help, value) in counters {
            one("counter", name, help, value.load(Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_in_the_text() {
        let progress = FleetProgress::default();
        progress.renewals.store(7, Relaxed);
        progress.late(Duration::from_millis(30));
        progress.late(Duration::from_millis(20));
        let mut text = String::new();
        progress.write_metrics(&mut text);
        assert!(text.contains("# TYPE megaplane_fleet_lease_renewals_total counter\nmegaplane_fleet_lease_renewals_total 7\n"));
        assert!(text.contains("\nmegaplane_fleet_lease_renewal_late_max_milliseconds 30\n"));
        assert_eq!(text.matches("# TYPE").count(), 17);
    }
}

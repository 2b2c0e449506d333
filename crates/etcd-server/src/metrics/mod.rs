//! What `/metrics` tells: the figures that dashboards, alerts and kubeadm read, under etcd's names.
//!
//! Counters are counted where things happen, gauges are read when somebody asks. What a single member cannot have, it does
//! not tell (heartbeats to others, what others lag behind); what it does not do, neither (slow applies, read indexes).

mod calls;
mod metered;
mod process;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wal::{Durations, Timings};

use crate::limits::ETCD_VERSION;
use crate::node::Node;
pub use calls::{Calls, Method};
pub use metered::Metered;

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    pub ranges: AtomicU64,
    pub puts: AtomicU64,
    pub deletes: AtomicU64,
    pub txns: AtomicU64,
    pub slow_answers: AtomicU64,
    pub leases_granted: AtomicU64,
    pub leases_revoked: AtomicU64,
    pub leases_renewed: AtomicU64,
    pub leases_expired: AtomicU64,
    /// Streams that were opened, and those that ended.
    pub watch_streams: AtomicU64,
    pub watch_streams_ended: AtomicU64,
    pub watch_events: AtomicU64,
    pub received_bytes: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub health_good: AtomicU64,
    pub health_bad: AtomicU64,
    pub calls: Calls,
    /// What the log takes; of a store in memory nothing.
    pub log: Arc<Timings>,
    begun: process::Begun,
}

impl Metrics {
    /// Of a server with this log.
    pub fn of_log(log: Arc<Timings>) -> Self {
        Metrics {
            log,
            ..Metrics::default()
        }
    }
}

/// One more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// The text of a scrape (Prometheus exposition format 0.0.4).
pub fn tell(node: &Node) -> String {
    let mut text = Text(String::with_capacity(64 << 10));
    server(node, &mut text);
    disk(&node.metrics.log, &mut text);
    mvcc(node, &mut text);
    leases_and_watches(node, &mut text);
    node.metrics.calls.tell(&mut text.0);
    process::tell(&node.metrics.begun, &mut text.0);
    text.0
}

/// Lines of metrics. Writing to a text cannot fail.
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, counter: &AtomicU64) {
        self.counted(name, help, counter.load(Relaxed));
    }

    fn counted(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn durations(&mut self, name: &str, help: &str, durations: &Durations) {
        self.head(name, "histogram", help);
        let mut count = 0;
        for (end, below) in durations.cumulative() {
            let end = if end.is_finite() {
                end.to_string()
            } else {
                "+Inf".to_owned()
            };
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{end}\"}} {below}");
            count = below;
        }
        let sum = durations.sum_seconds();
        let _ = writeln!(self.0, "{name}_sum {sum}\n{name}_count {count}");
    }
}

fn server(node: &Node, text: &mut Text) {
    let metrics = &node.metrics;
    text.gauge("etcd_server_has_leader", "Whether there is a leader.", 1);
    text.gauge("etcd_server_is_leader", "Whether it is this member.", 1);
    text.gauge(
        "etcd_server_is_learner",
        "Whether this member has no vote.",
        0,
    );
    text.counted(
        "etcd_server_leader_changes_seen_total",
        "How often a leader was found: once, at the start.",
        1,
    );
    // A write is a proposal that is accepted at once and counts when it is on the medium.
    let (applied, visible) = (node.store.applied().0, node.store.durable().0.max(1));
    let is_logged = node.options.data_dir.is_some();
    let visible = if is_logged { visible } else { applied };
    text.gauge(
        "etcd_server_proposals_applied_total",
        "The newest revision.",
        applied.unsigned_abs(),
    );
    text.gauge(
        "etcd_server_proposals_committed_total",
        "The newest revision that the log has on the medium; what is not logged counts with the next that is.",
        visible.unsigned_abs(),
    );
    text.counter(
        "etcd_server_proposals_failed_total",
        "Answers that waited for the medium in vain.",
        &metrics.slow_answers,
    );
    text.gauge(
        "etcd_server_quota_backend_bytes",
        "Bytes that all keys and values may take in memory, history included.",
        node.options.quota_bytes,
    );
    text.counter(
        "etcd_server_health_success",
        "Answers of /health that were good.",
        &metrics.health_good,
    );
    text.counter(
        "etcd_server_health_failures",
        "Answers of /health that were not.",
        &metrics.health_bad,
    );
    text.counter(
        "etcd_network_client_grpc_received_bytes_total",
        "Bytes that came from clients, after TLS.",
        &metrics.received_bytes,
    );
    text.counter(
        "etcd_network_client_grpc_sent_bytes_total",
        "Bytes that went to clients, before TLS.",
        &metrics.sent_bytes,
    );
    text.gauge(
        "etcd_debugging_auth_revision",
        "How often access rules were changed.",
        node.auth.revision(),
    );
    let cluster = node.cluster_version();
    text.head(
        "etcd_cluster_version",
        "gauge",
        "Which release the cluster is.",
    );
    let _ = writeln!(
        text.0,
        "etcd_cluster_version{{cluster_version=\"{cluster}\"}} 1"
    );
    text.head("etcd_server_version", "gauge", "Which release this is.");
    let _ = writeln!(
        text.0,
        "etcd_server_version{{server_version=\"{ETCD_VERSION}\"}} 1"
    );
    let member = node.identity.member_id;
    text.head("etcd_server_id", "gauge", "Who this member is.");
    let _ = writeln!(text.0, "etcd_server_id{{server_id=\"{member:x}\"}} 1");
}

fn disk(log: &Timings, text: &mut Text) {
    text.durations(
        "etcd_disk_wal_fsync_duration_seconds",
        "How long the log's syncs took.",
        &log.syncs,
    );
    text.durations(
        "etcd_disk_backend_commit_duration_seconds",
        "How long groups of writes took until they were on the medium: written and synced.",
        &log.groups,
    );
    text.durations(
        "etcd_snap_db_save_total_duration_seconds",
        "How long snapshots of the log took, beside the running log.",
        &log.snapshots,
    );
    // A gauge in etcd, too.
    text.gauge(
        "etcd_disk_wal_write_bytes_total",
        "Bytes written to the log.",
        log.written_bytes.load(Relaxed),
    );
}

fn mvcc(node: &Node, text: &mut Text) {
    let (metrics, totals) = (&node.metrics, node.totals());
    text.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Bytes held, with history.",
        totals.live_bytes + totals.history_bytes,
    );
    text.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Bytes held, without history.",
        totals.live_bytes,
    );
    text.gauge(
        "etcd_debugging_mvcc_keys_total",
        "Keys.",
        totals.keys as u64,
    );
    text.gauge(
        "etcd_debugging_mvcc_current_revision",
        "The newest revision.",
        node.store.applied().0.unsigned_abs(),
    );
    text.gauge(
        "etcd_debugging_mvcc_compact_revision",
        "Where history begins.",
        node.store.compacted().0.unsigned_abs(),
    );
    text.counter("etcd_mvcc_range_total", "Reads.", &metrics.ranges);
    text.counter("etcd_mvcc_put_total", "Writes.", &metrics.puts);
    text.counter("etcd_mvcc_delete_total", "Deletions.", &metrics.deletes);
    text.counter("etcd_mvcc_txn_total", "Transactions.", &metrics.txns);
    text.counter(
        "megaplane_store_answers_timed_out_total",
        "Answers that waited in vain.",
        &metrics.slow_answers,
    );
}

fn leases_and_watches(node: &Node, text: &mut Text) {
    let metrics = &node.metrics;
    text.counter(
        "etcd_debugging_lease_granted_total",
        "Leases that were granted.",
        &metrics.leases_granted,
    );
    text.counter(
        "etcd_debugging_lease_revoked_total",
        "Leases that were revoked.",
        &metrics.leases_revoked,
    );
    text.counter(
        "etcd_debugging_lease_renewed_total",
        "Times that a lease was kept alive.",
        &metrics.leases_renewed,
    );
    text.counter(
        "etcd_debugging_server_lease_expired_total",
        "Leases that came to their end.",
        &metrics.leases_expired,
    );
    text.gauge(
        "etcd_debugging_mvcc_watcher_total",
        "Watches.",
        node.totals().watchers as u64,
    );
    let ended = metrics.watch_streams_ended.load(Relaxed);
    text.gauge(
        "etcd_debugging_mvcc_watch_stream_total",
        "Streams with watches.",
        metrics.watch_streams.load(Relaxed).saturating_sub(ended),
    );
    text.counter(
        "etcd_debugging_mvcc_events_total",
        "Events that were sent.",
        &metrics.watch_events,
    );
}

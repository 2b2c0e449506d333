//! Counters of the request path and their Prometheus text, under upstream's names.
//!
//! A request finds its counter by arithmetic (resource, verb, code), never by hashing labels. Gauges that belong to
//! others (object counts, memory, fleet) are added at scrape time by the sources registered here.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use schema::Resource;

/// The verbs that are counted, as upstream names them.
pub const VERBS: [&str; 9] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "connect",
];
const CODES: [u16; 18] = [
    200, 201, 202, 304, 400, 401, 403, 404, 405, 406, 409, 410, 415, 422, 429, 500, 503, 504,
];
const OTHER_CODE: usize = CODES.len();
const CODE_SLOTS: usize = CODES.len() + 1;
/// Upper bounds of the latency buckets, in microseconds.
const BUCKETS_MICROS: [u64; 14] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000,
    10_000_000,
];

/// Adds its own lines to a scrape.
pub type Source = Box<dyn Fn(&mut String) + Send + Sync>;

/// All counters of one API server.
pub struct Metrics {
    requests: Vec<AtomicU64>,
    latency: Vec<Histogram>,
    /// Watches that are open now.
    pub watches_open: AtomicI64,
    /// Watch events written to clients.
    pub watch_events: AtomicU64,
    /// Objects written: creates, updates and deletes that took a revision.
    pub writes: AtomicU64,
    /// Pods that were created with the spec that an earlier one came to.
    pub created_alike: AtomicU64,
    sources: Mutex<Vec<Source>>,
}

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let slots = (schema::resources().len() + 1) * VERBS.len() * CODE_SLOTS;
        Metrics {
            requests: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            latency: (0..VERBS.len()).map(|_| Histogram::default()).collect(),
            watches_open: AtomicI64::new(0),
            watch_events: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            created_alike: AtomicU64::new(0),
            sources: Mutex::new(Vec::new()),
        }
    }
}

impl Metrics {
    /// Counts one answered request. `resource` is its place in [`schema::resources`], `None` for anything else.
    pub fn count(&self, resource: Option<usize>, verb: &str, code: u16, micros: u64) {
        let verb_slot = VERBS
            .iter()
            .position(|known| *known == verb)
            .unwrap_or(VERBS.len() - 1);
        let code_slot = CODES
            .iter()
            .position(|known| *known == code)
            .unwrap_or(OTHER_CODE);
        let resource_slot = resource.unwrap_or(schema::resources().len());
        let slot = (resource_slot * VERBS.len() + verb_slot) * CODE_SLOTS + code_slot;
        if let Some(counter) = self.requests.get(slot) {
            counter.fetch_add(1, Relaxed);
        }
        // A watch lasts as long as it likes: its duration says nothing.
        if verb != "watch" {
            let histogram = &self.latency[verb_slot];
            let bucket = BUCKETS_MICROS.partition_point(|bound| *bound < micros);
            histogram.buckets[bucket].fetch_add(1, Relaxed);
            histogram.sum_micros.fetch_add(micros, Relaxed);
        }
    }

    /// Registers somebody else's gauges.
    pub fn add_source(&self, source: Source) {
        lock(&self.sources).push(source);
    }

    /// The text of a scrape (Prometheus exposition format 0.0.4).
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        self.render_requests(&mut text);
        self.render_latency(&mut text);
        gauge(
            &mut text,
            "apiserver_registered_watchers",
            "Watches that are open.",
            self.watches_open.load(Relaxed),
        );
        counter(
            &mut text,
            "apiserver_watch_events_total",
            "Watch events sent.",
            self.watch_events.load(Relaxed),
        );
        counter(
            &mut text,
            "megaplane_writes_total",
            "Writes that took a revision.",
            self.writes.load(Relaxed),
        );
        counter(
            &mut text,
            "megaplane_pods_created_alike_total",
            "Pods whose spec was prepared for an earlier pod.",
            self.created_alike.load(Relaxed),
        );
        gauge(
            &mut text,
            "process_resident_memory_bytes",
            "Resident memory.",
            resident_bytes(),
        );
        for source in lock(&self.sources).iter() {
            source(&mut text);
        }
        text
    }

    fn render_requests(&self, text: &mut String) {
        text.push_str("# HELP apiserver_request_total Requests answered.\n# TYPE apiserver_request_total counter\n");
        let none = ("", "", "");
        let names = schema::resources()
            .iter()
            .map(|r: &Resource| (r.group, r.version, r.resource));
        for (resource_slot, (group, version, resource)) in names.chain([none]).enumerate() {
            for (verb_slot, verb) in VERBS.iter().enumerate() {
                for code_slot in 0..CODE_SLOTS {
                    let slot = (resource_slot * VERBS.len() + verb_slot) * CODE_SLOTS + code_slot;
                    let count = self.requests[slot].load(Relaxed);
                    if count > 0 {
                        let code = CODES.get(code_slot).copied().unwrap_or(0);
                        let _ = writeln!(
                            text,
                            "apiserver_request_total{{code=\"{code}\",group=\"{group}\",resource=\"{resource}\",\
                             verb=\"{}\",version=\"{version}\"}} {count}",
                            verb.to_uppercase()
                        );
                    }
                }
            }
        }
    }

    fn render_latency(&self, text: &mut String) {
        text.push_str(
            "# HELP apiserver_request_duration_seconds Time from the request to its reply.\n\
             # TYPE apiserver_request_duration_seconds histogram\n",
        );
        for (verb, histogram) in VERBS.iter().zip(&self.latency) {
            let verb = verb.to_uppercase();
            let mut sum = 0;
            for (slot, bucket) in histogram.buckets.iter().enumerate() {
                sum += bucket.load(Relaxed);
                let bound = BUCKETS_MICROS
                    .get(slot)
                    .map_or("+Inf".to_owned(), |micros| seconds(*micros));
                let _ = writeln!(
                    text,
                    "apiserver_request_duration_seconds_bucket{{verb=\"{verb}\",le=\"{bound}\"}} {sum}"
                );
            }
            let total = seconds(histogram.sum_micros.load(Relaxed));
            let _ = writeln!(
                text,
                "apiserver_request_duration_seconds_sum{{verb=\"{verb}\"}} {total}"
            );
            let _ = writeln!(
                text,
                "apiserver_request_duration_seconds_count{{verb=\"{verb}\"}} {sum}"
            );
        }
    }
}

/// Writes one gauge.
pub fn gauge(text: &mut String, name: &str, help: &str, value: impl std::fmt::Display) {
    let _ = write!(
        text,
        "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"
    );
}

/// Writes one counter.
pub fn counter(text: &mut String, name: &str, help: &str, value: impl std::fmt::Display) {
    let _ = write!(
        text,
        "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n"
    );
}

/// Resident memory of this process in bytes; 0 where the system does not tell.
#[must_use]
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_request_is_in_the_text() {
        let metrics = Metrics::default();
        let pods = schema::resources()
            .iter()
            .position(|r| r.resource == "pods")
            .unwrap();
        metrics.count(Some(pods), "create", 201, 300);
        metrics.count(None, "get", 599, 1);
        let text = metrics.render();
        assert!(text.contains(
            "apiserver_request_total{code=\"201\",group=\"\",resource=\"pods\",verb=\"CREATE\",version=\"v1\"} 1\n"
        ));
        assert!(text.contains(
            "apiserver_request_total{code=\"0\",group=\"\",resource=\"\",verb=\"GET\",version=\"\"} 1\n"
        ));
        assert!(text.contains(
            "apiserver_request_duration_seconds_bucket{verb=\"CREATE\",le=\"0.000250\"} 0\n"
        ));
        assert!(text.contains(
            "apiserver_request_duration_seconds_bucket{verb=\"CREATE\",le=\"0.000500\"} 1\n"
        ));
        assert!(
            text.contains("apiserver_request_duration_seconds_sum{verb=\"CREATE\"} 0.000300\n")
        );
    }
}

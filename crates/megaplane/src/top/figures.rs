//! Two scrapes to what a person wants to know: rates, latencies, sizes.
//!
//! Knows the names of our metrics. What a server does not tell is absent, not zero.

use std::collections::BTreeMap;

use value::{Value, json};

use super::scrape::{Labels, Scrape};

/// What is shown.
#[derive(Debug, Default, PartialEq)]
pub struct Figures {
    pub server: String,
    /// How long was looked.
    pub seconds: f64,
    pub resident_bytes: Option<f64>,
    pub revision_applied: Option<f64>,
    pub revision_durable: Option<f64>,
    pub writes_per_second: Option<f64>,
    pub watches_open: Option<f64>,
    pub watch_events_per_second: Option<f64>,
    pub nodes: Option<f64>,
    pub nodes_ready: Option<f64>,
    pub pods: Option<f64>,
    /// Most first.
    pub requests: Vec<Requests>,
    pub latencies: Vec<Latency>,
    /// Largest first.
    pub kinds: Vec<Kind>,
    pub scheduled_per_second: Option<f64>,
    /// By queue.
    pub pending: BTreeMap<String, f64>,
    pub fleet: Option<Fleet>,
}

/// Requests of one verb on one resource.
#[derive(Debug, PartialEq)]
pub struct Requests {
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub per_second: f64,
    /// Answered with 400 or more.
    pub errors_per_second: f64,
}

/// How long the requests of a verb took.
#[derive(Debug, PartialEq)]
pub struct Latency {
    pub verb: String,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// What a kind holds.
#[derive(Debug, Default, PartialEq)]
pub struct Kind {
    pub group: String,
    pub resource: String,
    pub objects: f64,
    pub object_bytes: f64,
    pub history_bytes: f64,
    pub watchers: f64,
}

impl Kind {
    pub fn bytes(&self) -> f64 {
        self.object_bytes + self.history_bytes
    }

    /// `leases.coordination.k8s.io`, `pods`.
    pub fn name(&self) -> String {
        named(&self.resource, &self.group)
    }
}

impl Requests {
    pub fn name(&self) -> String {
        named(&self.resource, &self.group)
    }
}

fn named(resource: &str, group: &str) -> String {
    match (resource, group) {
        ("", _) => "-".into(),
        (resource, "") => resource.into(),
        (resource, group) => format!("{resource}.{group}"),
    }
}

/// The fleet of the same process.
#[derive(Debug, Default, PartialEq)]
pub struct Fleet {
    pub registered: f64,
    pub silent: f64,
    pub renewals_per_second: f64,
    pub renewal_late_max_ms: f64,
    pub pods_started_per_second: f64,
    pub pods_stopped_per_second: f64,
    pub failures_per_second: f64,
}

impl Figures {
    /// What happened between two scrapes, `seconds` apart.
    pub fn of(server: &str, before: &Scrape, now: &Scrape, seconds: f64) -> Figures {
        let seconds = seconds.max(1e-3);
        let rate = |name: &str| {
            let new = now.sum(name)?;
            Some((new - before.sum(name).unwrap_or(0.0)).max(0.0) / seconds)
        };
        let count_of = |resource: &str| {
            let labels = labels(&[("group", ""), ("resource", resource)]);
            now.of("apiserver_resource_objects", &labels)
        };
        let pending = now.series("scheduler_pending_pods").iter();
        let pending = pending
            .map(|(labels, value)| (label(labels, "queue"), *value))
            .collect();
        let scheduled = |scrape: &Scrape| -> Option<f64> {
            let series = scrape.series("scheduler_schedule_attempts_total");
            let of = series
                .iter()
                .filter(|(labels, _)| label(labels, "result") == "scheduled");
            (!series.is_empty()).then(|| of.map(|(_, value)| value).sum())
        };
        Figures {
            server: server.to_owned(),
            seconds,
            resident_bytes: now.sum("process_resident_memory_bytes"),
            revision_applied: now.sum("megaplane_revision_applied"),
            revision_durable: now.sum("megaplane_revision_durable"),
            writes_per_second: rate("megaplane_writes_total"),
            watches_open: now.sum("apiserver_registered_watchers"),
            watch_events_per_second: rate("apiserver_watch_events_total"),
            nodes: count_of("nodes"),
            nodes_ready: now.sum("megaplane_nodes_ready"),
            pods: count_of("pods"),
            requests: requests(before, now, seconds),
            latencies: latencies(before, now, seconds),
            kinds: kinds(now),
            scheduled_per_second: scheduled(now)
                .map(|count| (count - scheduled(before).unwrap_or(0.0)).max(0.0) / seconds),
            pending,
            fleet: fleet(now, &rate),
        }
    }

    /// All of it, for machines.
    pub fn to_json(&self) -> Value {
        let requests: Vec<Value> = self
            .requests
            .iter()
            .map(|one| {
                json!({"verb": one.verb, "group": one.group, "resource": one.resource,
                       "per_second": one.per_second, "errors_per_second": one.errors_per_second})
            })
            .collect();
        let latencies: Vec<Value> = self
            .latencies
            .iter()
            .map(|one| {
                json!({"verb": one.verb, "per_second": one.per_second, "p50_ms": one.p50_ms, "p99_ms": one.p99_ms})
            })
            .collect();
        let kinds: Vec<Value> = self
            .kinds
            .iter()
            .map(|kind| {
                json!({"group": kind.group, "resource": kind.resource, "objects": kind.objects,
                       "object_bytes": kind.object_bytes, "history_bytes": kind.history_bytes,
                       "watchers": kind.watchers})
            })
            .collect();
        let fleet = self.fleet.as_ref().map(|fleet| {
            json!({"registered": fleet.registered, "silent": fleet.silent,
                   "renewals_per_second": fleet.renewals_per_second,
                   "renewal_late_max_ms": fleet.renewal_late_max_ms,
                   "pods_started_per_second": fleet.pods_started_per_second,
                   "pods_stopped_per_second": fleet.pods_stopped_per_second,
                   "failures_per_second": fleet.failures_per_second})
        });
        json!({
            "server": self.server,
            "seconds": self.seconds,
            "memory": {"resident_bytes": self.resident_bytes},
            "revisions": {"applied": self.revision_applied, "durable": self.revision_durable},
            "writes_per_second": self.writes_per_second,
            "watches": {"open": self.watches_open, "events_per_second": self.watch_events_per_second},
            "nodes": {"total": self.nodes, "ready": self.nodes_ready, "not_ready": self.nodes_not_ready()},
            "pods": {"total": self.pods},
            "requests": requests,
            "latencies": latencies,
            "kinds": kinds,
            "scheduler": {"scheduled_per_second": self.scheduled_per_second, "pending": self.pending},
            "fleet": fleet,
        })
    }

    pub fn nodes_not_ready(&self) -> Option<f64> {
        Some((self.nodes? - self.nodes_ready?).max(0.0))
    }
}

fn labels(of: &[(&str, &str)]) -> Labels {
    of.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn label(labels: &Labels, name: &str) -> String {
    labels.get(name).cloned().unwrap_or_default()
}

fn requests(before: &Scrape, now: &Scrape, seconds: f64) -> Vec<Requests> {
    const NAME: &str = "apiserver_request_total";
    let mut rates: BTreeMap<(String, String, String), (f64, f64)> = BTreeMap::new();
    for (labels, count) in now.series(NAME) {
        let rate = (count - before.of(NAME, labels).unwrap_or(0.0)).max(0.0) / seconds;
        if rate > 0.0 {
            let code: u32 = label(labels, "code").parse().unwrap_or(0);
            let key = ["verb", "resource", "group"].map(|name| label(labels, name));
            let [verb, resource, group] = key;
            let sums = rates.entry((verb, resource, group)).or_default();
            sums.0 += rate;
            if code == 0 || code >= 400 {
                sums.1 += rate;
            }
        }
    }
    let mut requests: Vec<Requests> = rates
        .into_iter()
        .map(
            |((verb, resource, group), (per_second, errors_per_second))| Requests {
                verb,
                group,
                resource,
                per_second,
                errors_per_second,
            },
        )
        .collect();
    requests.sort_by(|a, b| b.per_second.total_cmp(&a.per_second));
    requests
}

fn latencies(before: &Scrape, now: &Scrape, seconds: f64) -> Vec<Latency> {
    const NAME: &str = "apiserver_request_duration_seconds_bucket";
    let mut by_verb: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (labels, count) in now.series(NAME) {
        let bound = match label(labels, "le").as_str() {
            "+Inf" => f64::INFINITY,
            text => text.parse().unwrap_or(f64::NAN),
        };
        let grown = (count - before.of(NAME, labels).unwrap_or(0.0)).max(0.0);
        by_verb
            .entry(label(labels, "verb"))
            .or_default()
            .push((bound, grown));
    }
    let mut latencies: Vec<Latency> = by_verb
        .into_iter()
        .filter_map(|(verb, mut buckets)| {
            buckets.retain(|(bound, _)| !bound.is_nan());
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let total = buckets
                .last()
                .map(|(_, count)| *count)
                .filter(|count| *count > 0.0)?;
            Some(Latency {
                verb,
                per_second: total / seconds,
                p50_ms: quantile(&buckets, total, 0.5) * 1e3,
                p99_ms: quantile(&buckets, total, 0.99) * 1e3,
            })
        })
        .collect();
    latencies.sort_by(|a, b| b.per_second.total_cmp(&a.per_second));
    latencies
}

/// The value below which a share of the observations lies, evenly spread within each bucket (as Prometheus does); in
/// the last one, its lower bound.
fn quantile(buckets: &[(f64, f64)], total: f64, share: f64) -> f64 {
    let rank = total * share;
    let (mut lower, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank {
            if bound.is_infinite() || *count <= below {
                return lower;
            }
            return lower + (bound - lower) * (rank - below) / (count - below);
        }
        (lower, below) = (*bound, *count);
    }
    lower
}

fn kinds(now: &Scrape) -> Vec<Kind> {
    let mut kinds: BTreeMap<(String, String), Kind> = BTreeMap::new();
    for name in [
        "apiserver_resource_objects",
        "megaplane_collection_bytes",
        "megaplane_collection_watchers",
    ] {
        for (labels, value) in now.series(name) {
            let key = (label(labels, "group"), label(labels, "resource"));
            let kind = kinds.entry(key.clone()).or_insert_with(|| Kind {
                group: key.0,
                resource: key.1,
                ..Kind::default()
            });
            match (name, label(labels, "part").as_str()) {
                ("apiserver_resource_objects", _) => kind.objects = *value,
                ("megaplane_collection_watchers", _) => kind.watchers = *value,
                (_, "objects") => kind.object_bytes = *value,
                (_, "history") => kind.history_bytes = *value,
                _ => {}
            }
        }
    }
    let mut kinds: Vec<Kind> = kinds
        .into_values()
        .filter(|kind| kind.objects + kind.bytes() + kind.watchers > 0.0)
        .collect();
    kinds.sort_by(|a, b| b.bytes().total_cmp(&a.bytes()));
    kinds
}

fn fleet(now: &Scrape, rate: &impl Fn(&str) -> Option<f64>) -> Option<Fleet> {
    let gauge = |name: &str| now.sum(&format!("megaplane_fleet_{name}")).unwrap_or(0.0);
    let rate = |name: &str| rate(&format!("megaplane_fleet_{name}")).unwrap_or(0.0);
    let registered = now
        .sum("megaplane_fleet_nodes_registered")
        .filter(|count| *count > 0.0)?;
    Some(Fleet {
        registered,
        silent: gauge("nodes_silent"),
        renewals_per_second: rate("lease_renewals_total"),
        renewal_late_max_ms: gauge("lease_renewal_late_max_milliseconds"),
        pods_started_per_second: rate("pods_started_total"),
        pods_stopped_per_second: rate("pods_stopped_total"),
        failures_per_second: [
            "lease_renewal_failures_total",
            "node_status_failures_total",
            "step_failures_total",
        ]
        .map(rate)
        .iter()
        .sum(),
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    const BEFORE: &str = "\
apiserver_request_total{code=\"200\",group=\"coordination.k8s.io\",resource=\"leases\",verb=\"UPDATE\",version=\"v1\"} 100
apiserver_request_total{code=\"404\",group=\"\",resource=\"pods\",verb=\"GET\",version=\"v1\"} 5
apiserver_request_duration_seconds_bucket{verb=\"UPDATE\",le=\"0.001\"} 50
apiserver_request_duration_seconds_bucket{verb=\"UPDATE\",le=\"0.010\"} 100
apiserver_request_duration_seconds_bucket{verb=\"UPDATE\",le=\"+Inf\"} 100
megaplane_writes_total 10
scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"} 4
megaplane_fleet_nodes_registered 10
megaplane_fleet_lease_renewals_total 1000
";
    const NOW: &str = "\
apiserver_request_total{code=\"200\",group=\"coordination.k8s.io\",resource=\"leases\",verb=\"UPDATE\",version=\"v1\"} 300
apiserver_request_total{code=\"404\",group=\"\",resource=\"pods\",verb=\"GET\",version=\"v1\"} 7
apiserver_request_total{code=\"200\",group=\"\",resource=\"pods\",verb=\"GET\",version=\"v1\"} 2
apiserver_request_duration_seconds_bucket{verb=\"UPDATE\",le=\"0.001\"} 150
apiserver_request_duration_seconds_bucket{verb=\"UPDATE\",le=\"0.010\"} 300
apiserver_request_duration_seconds_bucket{verb=\"UPDATE\",le=\"+Inf\"} 300
apiserver_request_duration_seconds_bucket{verb=\"LIST\",le=\"+Inf\"} 0
apiserver_registered_watchers 12
megaplane_writes_total 210
process_resident_memory_bytes 104857600
apiserver_resource_objects{group=\"\",resource=\"nodes\"} 10
apiserver_resource_objects{group=\"\",resource=\"pods\"} 3
apiserver_resource_objects{group=\"\",resource=\"secrets\"} 0
megaplane_collection_bytes{group=\"\",resource=\"nodes\",part=\"objects\"} 30000
megaplane_collection_bytes{group=\"\",resource=\"nodes\",part=\"history\"} 20000
megaplane_collection_bytes{group=\"\",resource=\"pods\",part=\"objects\"} 4096
megaplane_collection_watchers{group=\"\",resource=\"nodes\"} 4
megaplane_revision_applied 5000
megaplane_revision_durable 4990
megaplane_nodes_ready 8
scheduler_pending_pods{queue=\"active\"} 1
scheduler_pending_pods{queue=\"backoff\"} 2
scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"} 10
scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"error\"} 99
megaplane_fleet_nodes_registered 10
megaplane_fleet_nodes_silent 2
megaplane_fleet_lease_renewals_total 1200
";

    /// Figures of two seconds.
    pub fn sample() -> Figures {
        Figures::of(
            "https://h:1",
            &Scrape::parse(BEFORE),
            &Scrape::parse(NOW),
            2.0,
        )
    }

    #[test]
    fn rates_are_told_by_verb_and_resource() {
        let figures = sample();
        let told: Vec<_> = figures
            .requests
            .iter()
            .map(|one| {
                (
                    one.verb.as_str(),
                    one.name(),
                    one.per_second,
                    one.errors_per_second,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (
                    "UPDATE",
                    "leases.coordination.k8s.io".to_owned(),
                    100.0,
                    0.0
                ),
                ("GET", "pods".to_owned(), 2.0, 1.0)
            ]
        );
        assert_eq!(figures.writes_per_second, Some(100.0));
        assert_eq!(figures.scheduled_per_second, Some(3.0));
    }

    #[test]
    fn latencies_are_those_of_the_time_between() {
        // 200 updates, half of them in a millisecond, the others between that and ten.
        let figures = sample();
        let [update] = &figures.latencies[..] else {
            panic!("{:?}", figures.latencies)
        };
        assert_eq!((update.verb.as_str(), update.per_second), ("UPDATE", 100.0));
        assert!((update.p50_ms - 1.0).abs() < 1e-9, "{}", update.p50_ms);
        assert!((update.p99_ms - 9.82).abs() < 1e-9, "{}", update.p99_ms);
        let late = [(1.0, 0.0), (f64::INFINITY, 5.0)];
        assert_eq!(quantile(&late, 5.0, 0.5), 1.0);
    }

    #[test]
    fn kinds_nodes_and_fleet_are_told_and_what_is_not_there_is_absent() {
        let figures = sample();
        let told: Vec<_> = figures
            .kinds
            .iter()
            .map(|kind| (kind.name(), kind.bytes(), kind.watchers))
            .collect();
        assert_eq!(
            told,
            [
                ("nodes".to_owned(), 50_000.0, 4.0),
                ("pods".to_owned(), 4_096.0, 0.0)
            ]
        );
        assert_eq!(figures.nodes_not_ready(), Some(2.0));
        assert_eq!(figures.fleet.as_ref().unwrap().renewals_per_second, 100.0);
        assert_eq!(figures.fleet.as_ref().unwrap().silent, 2.0);
        let json = figures.to_json();
        assert_eq!(
            json["nodes"],
            json!({"total": 10.0, "ready": 8.0, "not_ready": 2.0})
        );
        assert_eq!(
            json["scheduler"]["pending"],
            json!({"active": 1.0, "backoff": 2.0})
        );
        let none = Figures::of("s", &Scrape::default(), &Scrape::default(), 1.0);
        assert_eq!(none.to_json()["fleet"], Value::Null);
        assert_eq!(none.to_json()["memory"]["resident_bytes"], Value::Null);
    }
}

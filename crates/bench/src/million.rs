//! `million`: a whole cluster of so many nodes in this process, from its first node to its last pod.
//!
//! ```text
//!   register ─► settle ─► steady: Leases, statuses, controllers ─► pods: created, bound, Running ─► delete ─► report
//!        └──────────────── meanwhile somebody makes small requests, and notes how long they take ────────┘
//! ```
//!
//! API server, scheduler, controllers and the fleet are those of `megaplane up`, each on its thread; nothing is kept on
//! disk and no socket is opened. So it says what the machine can do without them, load generator included.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use client::{Client, ListOptions, PatchType};
use controllers::{ControllersConfig, ControllersProgress};
use fleet::{FleetConfig, FleetProgress};
use rest::http::Method;
use scheduler::{SchedulerConfig, SchedulerProgress};
use serde_json::json;

use crate::Options;
use crate::latencies::Latencies;
use crate::measure::{available_bytes, process_cpu_nanos, resident_bytes};
use crate::plane::{Plane, body_of, runtime};
use crate::progress::Progress;
use crate::report::Report;
use crate::workload::{CLASSES, Digits, Template, check_room, resource};

/// When nothing was done for so long, nothing more will be.
const STALL_MAX: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Renewals that are less late than this are on time, looked at for so long.
const SETTLED_MILLIS: u64 = 1_000;
const SETTLED_LOOK: Duration = Duration::from_millis(500);
/// Pods created before the other tasks of this thread get a turn.
const CHUNK: usize = 256;
/// Time between two small requests.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);
/// What a node takes of memory with its Lease, the history of both, and what scheduler and controllers keep of it;
/// and what a pod takes. Measured, and rounded up.
const NODE_BYTES: u64 = 9 << 10;
const POD_BYTES: u64 = 14 << 10;

pub fn run(options: &Options) -> Result<Report, String> {
    let (nodes, pods) = (options.nodes, options.pods);
    check_room(nodes, pods)?;
    check_memory(nodes, pods, available_bytes())?;
    let mut cluster = Cluster::start(nodes)?;
    let mut report = Report::in_memory()
        .count("nodes", nodes)
        .count("pods", pods);

    let register = Phase::begin(&cluster);
    cluster.register(nodes)?;
    report = register.end(&cluster, report, "register", nodes);

    report = report.number("settle_seconds", cluster.settle()?);
    let steady = Phase::begin(&cluster);
    let (renewals, failures) = cluster.steady(options.duration);
    let seconds = steady.begun.elapsed().as_secs_f64();
    report = steady
        .end(&cluster, report, "steady", renewals)
        .count("renewals", renewals)
        .count("renewal_failures", failures)
        .number("renewals_per_second", renewals as f64 / seconds.max(1e-9))
        .number(
            "renewal_late_max_seconds",
            cluster.fleet.renewal_late_max_millis.load(Relaxed) as f64 / 1e3,
        );

    let running = Phase::begin(&cluster);
    cluster.create_pods(pods)?;
    report = running.end(&cluster, report, "pods", pods);

    let delete = Phase::begin(&cluster);
    cluster.delete_pods(pods)?;
    report = delete.end(&cluster, report, "delete", pods);
    Ok(report.count(
        "renewal_failures_in_all",
        whole(cluster.fleet.renewal_failures.load(Relaxed)),
    ))
}

/// Refuses what this machine cannot hold, before it is tried.
fn check_memory(nodes: usize, pods: usize, available: u64) -> Result<(), String> {
    let needed = nodes as u64 * NODE_BYTES + pods as u64 * POD_BYTES;
    if needed <= available {
        return Ok(());
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let fits = available as f64 / needed as f64;
    Err(format!(
        "{nodes} nodes and {pods} pods take about {:.1} GiB, and {:.1} GiB are free: {} nodes and {} pods would fit",
        gib(needed),
        gib(available),
        (nodes as f64 * fits) as u64,
        (pods as f64 * fits) as u64,
    ))
}

/// What is measured of one stretch of the story.
struct Phase {
    begun: Instant,
    cpu_nanos: u64,
    by_thread: [u64; 4],
}

const THREADS: [&str; 4] = ["fleet", "scheduler", "controllers", "load"];

impl Phase {
    fn begin(cluster: &Cluster) -> Phase {
        cluster.probes.clear();
        Phase {
            begun: Instant::now(),
            cpu_nanos: process_cpu_nanos(),
            by_thread: cluster.cpu_by_thread(),
        }
    }

    /// Adds the figures of the phase; `count` is what was done in it.
    fn end(self, cluster: &Cluster, report: Report, name: &str, count: usize) -> Report {
        let seconds = self.begun.elapsed().as_secs_f64();
        let cpu = process_cpu_nanos().saturating_sub(self.cpu_nanos) as f64 / 1e9;
        let mut report = report
            .named_number(format!("{name}_seconds"), seconds)
            .named_number(
                format!("{name}_per_second"),
                count as f64 / seconds.max(1e-9),
            )
            .named_number(format!("{name}_cpu_seconds"), cpu)
            .named_number(format!("{name}_cores"), cpu / seconds.max(1e-9))
            .named_number(
                format!("{name}_cpu_us_each"),
                cpu * 1e6 / count.max(1) as f64,
            );
        let now = cluster.cpu_by_thread();
        for ((thread, before), now) in THREADS.iter().zip(self.by_thread).zip(now) {
            let seconds = now.saturating_sub(before) as f64 / 1e9;
            report = report.named_number(format!("{name}_{thread}_cpu_seconds"), seconds);
        }
        for (kind, figures) in cluster.probes.figures() {
            for (figure, millis) in figures {
                report = report.named_number(format!("{name}_{kind}_{figure}_ms"), millis);
            }
        }
        let gib = resident_bytes() as f64 / f64::from(1 << 30);
        report.named_number(format!("{name}_rss_gib"), gib)
    }
}

/// All of it, and its threads.
struct Cluster {
    plane: Plane,
    nodes: usize,
    fleet: Arc<FleetProgress>,
    probes: Arc<Latencies>,
    cpu: [Arc<AtomicU64>; 4],
    /// Set when nodes may come.
    may_register: Arc<AtomicBool>,
}

impl Cluster {
    fn start(nodes: usize) -> Result<Cluster, String> {
        let mut plane = Plane::start()?;
        let (client, stop) = (plane.client(), plane.stop_signal());
        let scheduler = plane.spawn("scheduler", move || {
            let progress = Arc::new(SchedulerProgress::default());
            scheduler::run(client, SchedulerConfig::default(), progress, stop)
        })?;
        let (client, stop) = (plane.client(), plane.stop_signal());
        let controllers = plane.spawn("controllers", move || {
            let progress = Arc::new(ControllersProgress::default());
            controllers::run(client, ControllersConfig::default(), progress, stop)
        })?;
        let probes = Arc::new(Latencies::default());
        let load = {
            let (client, probes, mut stop) = (plane.client(), probes.clone(), plane.stop_signal());
            plane.spawn("load", move || async move {
                tokio::select! {
                    () = probe(&client, &probes) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            })?
        };
        let fleet = Arc::new(FleetProgress::default());
        let may_register = Arc::new(AtomicBool::new(false));
        let (client, shared, stop) = (plane.client(), fleet.clone(), plane.stop_signal());
        let may = may_register.clone();
        let fleet_cpu = plane.spawn("fleet", move || async move {
            while !may.load(Relaxed) && !*stop.borrow() {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
            fleet::run(client, FleetConfig::new(nodes), shared, stop).await;
        })?;
        Ok(Cluster {
            plane,
            nodes,
            fleet,
            probes,
            cpu: [fleet_cpu, scheduler, controllers, load],
            may_register,
        })
    }

    fn cpu_by_thread(&self) -> [u64; 4] {
        [0, 1, 2, 3].map(|thread| self.cpu[thread].load(Relaxed))
    }

    fn register(&mut self, nodes: usize) -> Result<(), String> {
        self.may_register.store(true, Relaxed);
        self.wait("registering", nodes, |cluster| {
            cluster.fleet.registered.load(Relaxed)
        })
    }

    /// Waits until renewals that had to wait for registrations are made up for. Gives the seconds it took.
    fn settle(&self) -> Result<f64, String> {
        let begun = Instant::now();
        while begun.elapsed() < STALL_MAX {
            self.fleet.renewal_late_max_millis.store(0, Relaxed);
            std::thread::sleep(SETTLED_LOOK);
            if self.fleet.renewal_late_max_millis.load(Relaxed) < SETTLED_MILLIS {
                return Ok(begun.elapsed().as_secs_f64());
            }
        }
        Err(format!(
            "after {} s renewals are still more than a second late: the machine is too small, or too busy, for {} nodes",
            STALL_MAX.as_secs(),
            self.nodes
        ))
    }

    /// Lets it live. Gives how many renewals succeeded, and how many did not.
    fn steady(&mut self, duration: Duration) -> (usize, usize) {
        let counts = |fleet: &FleetProgress| {
            (
                whole(fleet.renewals.load(Relaxed)),
                whole(fleet.renewal_failures.load(Relaxed)),
            )
        };
        let before = counts(&self.fleet);
        let begun = Instant::now();
        let mut progress = Progress::new("seconds of steady Leases", whole(duration.as_secs()));
        while begun.elapsed() < duration {
            std::thread::sleep(LOOK_INTERVAL.min(duration.saturating_sub(begun.elapsed())));
            progress.set(whole(begun.elapsed().as_secs()));
        }
        let after = counts(&self.fleet);
        (after.0 - before.0, after.1 - before.1)
    }

    fn create_pods(&mut self, pods: usize) -> Result<(), String> {
        runtime()?.block_on(post_pods(&self.plane, pods))?;
        self.wait("running", pods, |cluster| {
            whole(cluster.fleet.pods_started.load(Relaxed))
        })
    }

    fn delete_pods(&mut self, pods: usize) -> Result<(), String> {
        let (client, resource) = (self.plane.client(), resource("", "pods")?);
        let deleting = client.delete_collection(resource, "default");
        let deleted = runtime()?.block_on(deleting);
        deleted.map_err(|error| format!("the pods were not deleted: {error}"))?;
        self.wait("deleting", pods, |cluster| {
            pods.saturating_sub(cluster.plane.count("pods"))
        })
    }

    /// Waits until so much is done.
    fn wait(
        &self,
        what: &'static str,
        wanted: usize,
        done: impl Fn(&Cluster) -> usize,
    ) -> Result<(), String> {
        let mut progress = Progress::new(what, wanted);
        let (mut before, mut since) = (0, Instant::now());
        loop {
            let count = done(self);
            if count >= wanted {
                return Ok(());
            }
            if count > before {
                (before, since) = (count, Instant::now());
            } else if since.elapsed() > STALL_MAX {
                return Err(format!(
                    "{what}: {count} of {wanted} with {} nodes, and then none for {} s",
                    self.nodes,
                    STALL_MAX.as_secs()
                ));
            }
            progress.set(count);
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// Makes small requests for ever, of three kinds in turn, and notes how long each took.
async fn probe(client: &Client, latencies: &Latencies) {
    let (Ok(maps), Ok(namespaces)) = (resource("", "configmaps"), resource("", "namespaces"))
    else {
        return;
    };
    let map = json!({"metadata": {"name": "probe", "namespace": "default"}});
    // One of an earlier round does as well.
    let _ = client.create(maps, "default", &map).await;
    let mut ticks = tokio::time::interval(PROBE_INTERVAL);
    for turn in 0u64.. {
        ticks.tick().await;
        let begun = Instant::now();
        let kind = match turn % 3 {
            0 => {
                let patch = json!({"data": {"turn": turn.to_string()}});
                let language = PatchType::Merge;
                let patched = client.patch(maps, "default", "probe", "", language, &patch);
                patched.await.is_ok().then_some("mutate")
            }
            1 => {
                let got = client.get(namespaces, "", "default").await;
                got.is_ok().then_some("get")
            }
            _ => {
                let listed = client.list(maps, "default", &ListOptions::default()).await;
                listed.is_ok().then_some("list")
            }
        };
        if let Some(kind) = kind {
            latencies.add(kind, begun.elapsed());
        }
    }
}

/// A count as the reports take it.
fn whole(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

async fn post_pods(plane: &Plane, pods: usize) -> Result<(), String> {
    let templates = (0..CLASSES)
        .map(Template::of_pod)
        .collect::<Result<Vec<_>, _>>()?;
    let mut progress = Progress::new("creating pods", pods);
    for index in 0..pods {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_what_does() {
        assert_eq!(check_memory(1_000, 1_000, 1 << 30), Ok(()));
        let refused = check_memory(1_000_000, 0, 9 << 29).unwrap_err();
        let expected = "1000000 nodes and 0 pods take about 8.6 GiB, and 4.5 GiB are free: 524288 nodes and 0 pods \
                        would fit";
        assert_eq!(refused, expected);
    }
}

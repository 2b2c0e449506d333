//! A whole cluster in this process, for experiments that tell a story about it: what it is made of, and what is measured
//! of each stretch of the story.
//!
//! API server, scheduler, controllers and the fleet are those of `megaplane up`, each on its thread; nothing is kept on
//! disk and no socket is opened. Somebody makes small requests all the while, and notes how long they take. Knows no
//! story.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::{Client, ListOptions, PatchType};
use controllers::{ControllersConfig, ControllersProgress};
use fleet::{FleetConfig, FleetProgress};
use rest::http::Method;
use scheduler::{SchedulerConfig, SchedulerProgress};
use value::json;

use crate::board::{Board, Reading, SAMPLE_INTERVAL};
use crate::latencies::Latencies;
use crate::measure::{available_bytes, process_cpu_nanos, resident_bytes};
use crate::plane::{Plane, body_of, runtime};
use crate::report::Report;
use crate::settling::{Settling, Verdict};
use crate::summary::Row;
use crate::workload::resource;

/// When nothing was done for so long, nothing more will be.
pub const STALL_MAX: Duration = Duration::from_secs(120);
pub const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Pods created before the other tasks of this thread get a turn.
const CHUNK: usize = 256;
/// Time between two small requests.
const PROBE_INTERVAL: Duration = Duration::from_millis(5);
/// What a node takes of memory with its Lease, the history of both, and what scheduler and controllers keep of it;
/// and what a pod takes. Measured, and rounded up.
const NODE_BYTES: u64 = 9 << 10;
const POD_BYTES: u64 = 14 << 10;

const THREADS: [&str; 4] = ["fleet", "scheduler", "controllers", "load"];

/// Refuses what this machine cannot hold, before it is tried.
pub fn check_memory(nodes: usize, pods: usize) -> Result<(), String> {
    fits(nodes, pods, available_bytes())
}

fn fits(nodes: usize, pods: usize, available: u64) -> Result<(), String> {
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
pub struct Phase {
    name: &'static str,
    begun: Instant,
    cpu_nanos: u64,
    by_thread: [u64; 4],
}

impl Phase {
    /// Begins a stretch in which so much is to be done.
    pub fn begin(cluster: &Cluster, name: &'static str, wanted: usize) -> Phase {
        cluster.probes.clear();
        cluster.board.begin(name, wanted);
        Phase {
            name,
            begun: Instant::now(),
            cpu_nanos: process_cpu_nanos(),
            by_thread: cluster.cpu_by_thread(),
        }
    }

    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Adds the figures of the stretch; `count` is what was done in it.
    pub fn end(self, cluster: &Cluster, report: Report, count: usize) -> Report {
        cluster.board.end();
        let (name, seconds) = (self.name, self.seconds());
        let cpu = process_cpu_nanos().saturating_sub(self.cpu_nanos) as f64 / 1e9;
        let gib = resident_bytes() as f64 / f64::from(1 << 30);
        let mut row = Row {
            name,
            seconds,
            per_second: count as f64 / seconds.max(1e-9),
            cores: cpu / seconds.max(1e-9),
            cpu_micros_each: cpu * 1e6 / count.max(1) as f64,
            resident_gib: gib,
            calls_p99_ms: Vec::new(),
        };
        let mut report = report
            .named_number(format!("{name}_seconds"), seconds)
            .named_number(format!("{name}_per_second"), row.per_second)
            .named_number(format!("{name}_cpu_seconds"), cpu)
            .named_number(format!("{name}_cores"), row.cores)
            .named_number(format!("{name}_cpu_us_each"), row.cpu_micros_each);
        let now = cluster.cpu_by_thread();
        for ((thread, before), now) in THREADS.iter().zip(self.by_thread).zip(now) {
            let seconds = now.saturating_sub(before) as f64 / 1e9;
            report = report.named_number(format!("{name}_{thread}_cpu_seconds"), seconds);
        }
        for (kind, figures) in cluster.probes.figures() {
            for (figure, millis) in figures {
                report = report.named_number(format!("{name}_{kind}_{figure}_ms"), millis);
                if figure == "p99" {
                    row.calls_p99_ms.push((kind, millis));
                }
            }
        }
        report.named_number(format!("{name}_rss_gib"), gib).row(row)
    }
}

/// All of it, and its threads.
pub struct Cluster {
    pub plane: Plane,
    pub nodes: usize,
    pub fleet: Arc<FleetProgress>,
    pub board: Arc<Board>,
    probes: Arc<Latencies>,
    cpu: [Arc<AtomicU64>; 4],
    /// Set when nodes may come.
    may_register: Arc<AtomicBool>,
}

impl Cluster {
    /// Starts everything; the nodes wait for [`Cluster::register`].
    pub fn start(
        title: &str,
        fleet_config: FleetConfig,
        controllers_config: ControllersConfig,
    ) -> Result<Cluster, String> {
        let mut plane = Plane::start()?;
        let nodes = fleet_config.nodes;
        let (client, stop) = (plane.client(), plane.stop_signal());
        let scheduler = plane.spawn("scheduler", move || {
            let progress = Arc::new(SchedulerProgress::default());
            scheduler::run(client, SchedulerConfig::default(), progress, stop)
        })?;
        let (client, stop) = (plane.client(), plane.stop_signal());
        let controllers = plane.spawn("controllers", move || {
            let progress = Arc::new(ControllersProgress::default());
            controllers::run(client, controllers_config, progress, stop)
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
            fleet::run(client, fleet_config, shared, stop).await;
        })?;
        let title = format!(
            "{title}, {} nodes",
            crate::report::grouped(&nodes.to_string())
        );
        let board = Arc::new(Board::new(title));
        start_sampler(&mut plane, &fleet, &board)?;
        Ok(Cluster {
            plane,
            nodes,
            fleet,
            board,
            probes,
            cpu: [fleet_cpu, scheduler, controllers, load],
            may_register,
        })
    }

    fn cpu_by_thread(&self) -> [u64; 4] {
        [0, 1, 2, 3].map(|thread| self.cpu[thread].load(Relaxed))
    }

    pub fn register(&mut self, nodes: usize) -> Result<(), String> {
        self.may_register.store(true, Relaxed);
        self.wait("registering", nodes, |cluster| {
            cluster.fleet.registered.load(Relaxed)
        })
    }

    /// Waits until renewals that had to wait for registrations are made up for, as long as they get less late.
    pub fn settle(&self) -> Result<(), String> {
        let begun = Instant::now();
        let mut settling = Settling::new(STALL_MAX);
        let (mut seen, _) = self.board.latest();
        let mut is_old = true;
        loop {
            std::thread::sleep(LOOK_INTERVAL);
            let (count, sample) = self.board.latest();
            if count == seen {
                continue;
            }
            seen = count;
            // The first sample still tells of the stretch before.
            let tells = !std::mem::take(&mut is_old) && sample.renewals_per_second > 0.0;
            let late = tells.then_some((sample.late_seconds * 1e3) as u64);
            match settling.look(begun.elapsed(), late) {
                Verdict::Settled => return Ok(()),
                Verdict::Waiting => {}
                Verdict::Stuck => {
                    return Err(format!(
                        "renewals are {:.1} s late, and have not got less late for {} s: the machine is too small, or \
                         too busy, for {} nodes",
                        sample.late_seconds,
                        STALL_MAX.as_secs(),
                        self.nodes
                    ));
                }
            }
        }
    }

    /// Creates pods from these bodies, each under its name, in the namespace `default`.
    pub fn create_pods(&self, pods: usize, body: impl Fn(usize) -> Bytes) -> Result<(), String> {
        let before = whole(self.fleet.pods_started.load(Relaxed));
        runtime()?.block_on(self.post_pods(pods, body, before))?;
        self.wait("running", pods, |cluster| {
            whole(cluster.fleet.pods_started.load(Relaxed)).saturating_sub(before)
        })
    }

    async fn post_pods(
        &self,
        pods: usize,
        body: impl Fn(usize) -> Bytes,
        before: usize,
    ) -> Result<(), String> {
        for index in 0..pods {
            let path = "/api/v1/namespaces/default/pods".to_owned();
            let request = self.plane.request(Method::Post, path, body(index));
            body_of(self.plane.call(request).await).await?;
            if index % CHUNK == 0 {
                let started = whole(self.fleet.pods_started.load(Relaxed));
                self.board.set(started.saturating_sub(before));
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    pub fn delete_pods(&self, pods: usize) -> Result<(), String> {
        let (client, resource) = (self.plane.client(), resource("", "pods")?);
        let deleting = client.delete_collection(resource, "default");
        let deleted = runtime()?.block_on(deleting);
        deleted.map_err(|error| format!("the pods were not deleted: {error}"))?;
        self.wait("deleting", pods, |cluster| {
            pods.saturating_sub(cluster.plane.count("pods"))
        })
    }

    /// Waits until so much is done.
    pub fn wait(
        &self,
        what: &'static str,
        wanted: usize,
        done: impl Fn(&Cluster) -> usize,
    ) -> Result<(), String> {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            let count = done(self);
            self.board.set(count.min(wanted));
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
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// Hands the board the counters once a second.
fn start_sampler(
    plane: &mut Plane,
    fleet: &Arc<FleetProgress>,
    board: &Arc<Board>,
) -> Result<(), String> {
    let (fleet, board, writes) = (fleet.clone(), board.clone(), plane.writes());
    let mut stop = plane.stop_signal();
    plane.spawn("sampler", move || async move {
        let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            board.sample(Reading {
                renewals: fleet.renewals.load(Relaxed),
                writes: writes(),
                late_millis: fleet.renewal_late_max_millis.swap(0, Relaxed),
                cpu_nanos: process_cpu_nanos(),
                resident_bytes: resident_bytes(),
            });
        }
    })?;
    Ok(())
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
pub fn whole(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_what_does() {
        assert_eq!(fits(1_000, 1_000, 1 << 30), Ok(()));
        let refused = fits(1_000_000, 0, 9 << 29).unwrap_err();
        let expected = "1000000 nodes and 0 pods take about 8.6 GiB, and 4.5 GiB are free: 524288 nodes and 0 pods \
                        would fit";
        assert_eq!(refused, expected);
    }
}

//! `million`: a whole cluster of so many nodes in this process, from its first node to its last pod.
//!
//! ```text
//!   register ─► settle ─► steady: Leases, statuses, controllers ─► pods: created, bound, Running ─► delete ─► report
//!        └──────────────── meanwhile somebody makes small requests, and notes how long they take ────────┘
//! ```
//!
//! After the steady stretch a watch of Leases is asked to begin at a version 75 s old, or as old as there is. Without pods
//! (`--pods 0`) the story ends there. `--plot` draws it. It says what the machine can do without disk and sockets, load
//! generator included.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use controllers::ControllersConfig;
use fleet::FleetConfig;

use crate::Options;
use crate::cluster::{Cluster, LOOK_INTERVAL, Phase, check_memory, whole};
use crate::plane::runtime;
use crate::report::Report;
use crate::resumable::Marks;
use crate::workload::{CLASSES, Digits, Template, check_room, resource};

pub fn run(options: &Options) -> Result<Report, String> {
    let (nodes, pods) = (options.nodes, options.pods);
    check_room(nodes, pods)?;
    check_memory(nodes, pods)?;
    if let Some(path) = &options.plot {
        // Before an hour of work, not after it.
        std::fs::write(path, "")
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let mut cluster = Cluster::start(
        "million",
        FleetConfig::new(nodes),
        ControllersConfig::default(),
    )?;
    let told = story(&mut cluster, options);
    cluster.board.end();
    cluster.board.clear();
    // A run that failed is worth looking at, too.
    if let Some(path) = &options.plot {
        let (samples, stretches) = cluster.board.story();
        let title = format!(
            "megaplane bench million: {} nodes, {} pods",
            crate::report::grouped(&nodes.to_string()),
            crate::report::grouped(&pods.to_string())
        );
        std::fs::write(path, crate::plot::svg(&title, &samples, &stretches))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    told
}

fn story(cluster: &mut Cluster, options: &Options) -> Result<Report, String> {
    let (nodes, pods) = (options.nodes, options.pods);
    let mut report = Report::in_memory()
        .count("nodes", nodes)
        .count("pods", pods);

    let register = Phase::begin(cluster, "register", nodes);
    cluster.register(nodes)?;
    report = register.end(cluster, report, nodes);

    cluster.board.begin("settle", 1);
    let begun = Instant::now();
    cluster.settle()?;
    cluster.board.end();
    report = report.number("settle_seconds", begun.elapsed().as_secs_f64());

    let steady = Phase::begin(cluster, "steady", whole(options.duration.as_secs()));
    let missed_before = cluster.fleet.renewals_missed.load(Relaxed);
    let (renewals, failures, marks) = live(cluster, options.duration)?;
    let missed = cluster.fleet.renewals_missed.load(Relaxed) - missed_before;
    let seconds = steady.seconds();
    let late = cluster.board.late_max_seconds();
    report = steady
        .end(cluster, report, renewals)
        .count("renewals", renewals)
        .count("renewal_failures", failures)
        .count("renewals_missed", whole(missed))
        .number("renewals_per_second", renewals as f64 / seconds.max(1e-9))
        .number("renewal_late_max_seconds", late);
    let held = runtime()?.block_on(marks.ask(&cluster.plane.client()))?;
    report = report
        .number("history_asked_seconds", held.asked_seconds)
        .number("history_seconds", held.held_seconds)
        .flag("history_gone", held.is_gone);

    if pods > 0 {
        let templates = (0..CLASSES)
            .map(Template::of_pod)
            .collect::<Result<Vec<_>, _>>()?;
        let running = Phase::begin(cluster, "pods", pods);
        cluster.create_pods(pods, |index| {
            templates[index % CLASSES].named(&Digits::name(index))
        })?;
        let late = cluster.board.late_max_seconds();
        report = running
            .end(cluster, report, pods)
            .number("pods_renewal_late_max_seconds", late);

        let delete = Phase::begin(cluster, "delete", pods);
        cluster.delete_pods(pods)?;
        report = delete.end(cluster, report, pods);
    }
    Ok(report.count(
        "renewal_failures_in_all",
        whole(cluster.fleet.renewal_failures.load(Relaxed)),
    ))
}

/// Lets it live. Gives how many renewals succeeded, how many did not, and versions of the time.
fn live(cluster: &Cluster, duration: Duration) -> Result<(usize, usize, Marks), String> {
    let counts = || {
        let fleet = &cluster.fleet;
        (
            whole(fleet.renewals.load(Relaxed)),
            whole(fleet.renewal_failures.load(Relaxed)),
        )
    };
    let (client, runtime) = (cluster.plane.client(), runtime()?);
    let mut marks = Marks::new(
        resource("coordination.k8s.io", "leases")?,
        "kube-node-lease",
    );
    let (before, begun) = (counts(), Instant::now());
    while begun.elapsed() < duration {
        if marks.is_due() {
            runtime.block_on(marks.note(&client))?;
        }
        std::thread::sleep(LOOK_INTERVAL.min(duration.saturating_sub(begun.elapsed())));
        cluster.board.set(whole(begun.elapsed().as_secs()));
    }
    let after = counts();
    Ok((after.0 - before.0, after.1 - before.1, marks))
}

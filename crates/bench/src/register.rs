//! `register`: a fleet of simulated nodes comes up; each creates its Node and its Lease, and renews from then on.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use fleet::{FleetConfig, FleetProgress};

use crate::Options;
use crate::measure::{Samples, Spent, process_cpu_nanos, repeat, resident_bytes};
use crate::plane::Plane;
use crate::progress::Progress;
use crate::report::Report;

/// When no node registered for so long, no more will.
const STALL_MAX: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

pub fn run(options: &Options) -> Result<Report, String> {
    let nodes = options.nodes;
    let outcomes = repeat(options.runs, || once(nodes))?;
    let (mut seconds, mut cpu) = <(Samples, Samples)>::default();
    for outcome in &outcomes {
        seconds.push(outcome.spent.wall.as_secs_f64());
        cpu.push(outcome.spent.cpu_nanos_per(nodes) / 1e3);
    }
    let first = |of: fn(&Outcome) -> u64| {
        let value = outcomes.first().map_or(0, of);
        usize::try_from(value).unwrap_or(usize::MAX)
    };
    // Later runs find memory that earlier ones gave back, so only the first tells what it takes.
    let grown = outcomes.first().map_or(0, |outcome| {
        outcome.resident.saturating_sub(outcome.resident_before)
    });
    Ok(Report::in_memory()
        .count("nodes", nodes)
        .count("runs", outcomes.len())
        .main("seconds", &seconds)
        .number(
            "nodes_per_second",
            nodes as f64 / seconds.median().max(1e-9),
        )
        .median("cpu_us_per_node", &cpu)
        .count("renewals", first(|outcome| outcome.renewals))
        .count("renewal_failures", first(|outcome| outcome.failures))
        .count("rss_bytes", first(|outcome| outcome.resident))
        .number("rss_bytes_per_node", grown as f64 / nodes as f64))
}

struct Outcome {
    spent: Spent,
    resident_before: u64,
    resident: u64,
    renewals: u64,
    failures: u64,
}

fn once(nodes: usize) -> Result<Outcome, String> {
    let mut plane = Plane::start()?;
    let resident_before = resident_bytes();
    let fleet = Arc::new(FleetProgress::default());
    let (client, shared, stop) = (plane.client(), fleet.clone(), plane.stop_signal());
    let mut spent = Spent::default();
    let (begun, cpu) = (Instant::now(), process_cpu_nanos());
    plane.spawn("fleet", move || {
        fleet::run(client, FleetConfig::new(nodes), shared, stop)
    })?;
    wait(nodes, &fleet)?;
    spent.add_since(begun, cpu);
    Ok(Outcome {
        spent,
        resident_before,
        resident: resident_bytes(),
        renewals: fleet.renewals.load(Relaxed),
        failures: fleet.renewal_failures.load(Relaxed),
    })
}

fn wait(nodes: usize, fleet: &FleetProgress) -> Result<(), String> {
    let mut progress = Progress::new("registering", nodes);
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let registered = fleet.registered.load(Relaxed);
        if registered >= nodes {
            return Ok(());
        }
        if registered > before {
            (before, since) = (registered, Instant::now());
        } else if since.elapsed() > STALL_MAX {
            return Err(format!(
                "{registered} of {nodes} nodes registered, and then none for {} s",
                STALL_MAX.as_secs()
            ));
        }
        progress.set(registered);
        std::thread::sleep(LOOK_INTERVAL);
    }
}

//! `outage`: a part of the nodes falls silent and comes back.
//!
//! ```text
//!   all Ready, pods Running ─► silence ─► all of them marked? ─► evictions for a while ─► back ─► all Ready?
//! ```
//!
//! The cluster is `million`'s. Nodes are silenced by the fleet's own fault scripts: their renewals, statuses and pods
//! stop, their connections do not break. `--case spread` takes them from all zones (`--percent` of each), `--case zone`
//! from one (`--percent` of it, all by default). The grace period is `--grace`, and renewals come four times in it, as
//! kubelets do; pods tolerate an unreachable node for no time, so that evictions are seen as soon as the zone's state
//! allows them. Nodes that are marked without being silent, and pods that are evicted from them, fail the benchmark.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use controllers::{ControllersConfig, NodeLifecycleConfig};
use fleet::{FaultScript, FleetConfig, Layout};
use value::json;

use crate::Options;
use crate::census::{Census, follow_nodes, follow_pods};
use crate::cluster::{Cluster, LOOK_INTERVAL, Phase, check_memory};
use crate::report::Report;
use crate::workload::{Digits, Template, check_room, pod};

/// Part of each zone that falls silent, if it is not said.
const PERCENT_SPREAD: usize = 10;
/// Renewals in a grace period (kubelet: every 10 s of 40).
const RENEWALS_A_GRACE: u32 = 4;
/// How long evictions are looked at: two nodes a zone at the usual rate, and less where the grace period is short.
const OBSERVED_MAX: Duration = Duration::from_secs(20);

pub fn run(options: &Options) -> Result<Report, String> {
    let (nodes, pods) = (options.nodes, options.pods);
    check_room(nodes, pods)?;
    check_memory(nodes, pods)?;
    let layout = Layout::default();
    let case = Case::of(options)?;
    let script = case.script(&layout)?;
    let silent = script.struck(&layout, nodes);
    if silent.is_empty() {
        return Err(format!(
            "{} percent of {nodes} nodes are none: ask for more of either",
            case.percent
        ));
    }
    let (faults, heard) = tokio::sync::watch::channel(Arc::new(FaultScript::default()));
    let grace_micros = i64::try_from(options.grace.as_micros()).unwrap_or(i64::MAX);
    let lifecycle = NodeLifecycleConfig {
        grace_micros,
        startup_grace_micros: NodeLifecycleConfig::default()
            .startup_grace_micros
            .max(grace_micros),
        ..NodeLifecycleConfig::default()
    };
    let states = states(&layout, nodes, &silent, &lifecycle);
    let mut cluster = Cluster::start(
        "outage",
        FleetConfig {
            lease_interval: options.grace / RENEWALS_A_GRACE,
            lease_duration_seconds: i64::try_from(options.grace.as_secs().max(1))
                .unwrap_or(i64::MAX),
            faults: Some(heard),
            ..FleetConfig::new(nodes)
        },
        ControllersConfig {
            node_lifecycle: lifecycle,
            ..ControllersConfig::default()
        },
    )?;
    let census = start_census(&mut cluster)?;
    let report = Report::in_memory()
        .count("nodes", nodes)
        .count("pods", pods)
        .text("case", case.name)
        .count("percent", case.percent)
        .count("silent", silent.len())
        .number("grace_seconds", options.grace.as_secs_f64())
        .text("zones", &states.text);
    let back = Arc::new(FaultScript::parse(
        "steps: [{at: 0s, do: recover}]",
        &layout,
    )?);
    let outage = Outage {
        options,
        silent: &silent,
        stops_evictions: states.all_are_silent,
        falls: Arc::new(script),
        back,
        faults,
        census,
    };
    let told = outage.story(&mut cluster, report);
    cluster.board.end();
    cluster.board.clear();
    told
}

struct Outage<'a> {
    options: &'a Options,
    silent: &'a [u32],
    stops_evictions: bool,
    falls: Arc<FaultScript>,
    back: Arc<FaultScript>,
    faults: tokio::sync::watch::Sender<Arc<FaultScript>>,
    census: Arc<Census>,
}

impl Outage<'_> {
    fn story(&self, cluster: &mut Cluster, report: Report) -> Result<Report, String> {
        let (nodes, pods) = (self.options.nodes, self.options.pods);
        let census = &self.census;
        let register = Phase::begin(cluster, "register", nodes);
        cluster.register(nodes)?;
        cluster.wait("Ready", nodes, |_| census.ready.load(Relaxed))?;
        let mut report = register.end(cluster, report, nodes);
        cluster.board.begin("settle", 1);
        cluster.settle()?;
        if pods > 0 {
            let template = patient_for_no_time()?;
            let running = Phase::begin(cluster, "pods", pods);
            cluster.create_pods(pods, |index| template.named(&Digits::name(index)))?;
            report = running.end(cluster, report, pods);
        }

        let silent = self.silent.len();
        census.silence(self.silent);
        let mark = Phase::begin(cluster, "mark", silent);
        let begun = Instant::now();
        self.send(&self.falls)?;
        cluster.wait("marked", silent, |_| census.marked.load(Relaxed))?;
        let last = census.last_marking().unwrap_or_else(Instant::now);
        let marked = last.saturating_duration_since(begun).as_secs_f64();
        report = mark
            .end(cluster, report, silent)
            .number("all_marked_seconds", marked)
            .number(
                "all_marked_after_grace_seconds",
                marked - self.options.grace.as_secs_f64(),
            );

        let observed = OBSERVED_MAX.min(self.options.grace / 2);
        let while_marking = census.evicted.load(Relaxed);
        cluster.board.begin("evict", pods);
        self.observe(cluster, observed / 2);
        let half = census.evicted.load(Relaxed);
        self.observe(cluster, observed / 2);
        let evicted = census.evicted.load(Relaxed);
        report = report
            .number("evictions_observed_seconds", observed.as_secs_f64())
            .count("pods_evicted_while_marking", while_marking)
            .count("pods_evicted", evicted);
        // Until the last node is marked the zones do not look silent, and the first of each is emptied. Then it must end.
        if self.stops_evictions && evicted > half {
            return Err(format!(
                "all zones are silent, and still {} pods were evicted",
                evicted - half
            ));
        }

        let back = Phase::begin(cluster, "back", nodes);
        let begun = Instant::now();
        self.send(&self.back)?;
        cluster.wait("Ready again", nodes, |_| census.ready.load(Relaxed))?;
        let all_back = begun.elapsed().as_secs_f64();
        report = back
            .end(cluster, report, silent)
            .number("all_ready_seconds", all_back);

        let wrongly = census.wrongly_marked.load(Relaxed);
        let wrongly_evicted = census.wrongly_evicted.load(Relaxed);
        if wrongly > 0 || wrongly_evicted > 0 {
            return Err(format!(
                "{wrongly} nodes were marked that were not silent, and {wrongly_evicted} pods of such nodes evicted"
            ));
        }
        Ok(report
            .count("wrongly_marked", wrongly)
            .count("wrongly_evicted", wrongly_evicted))
    }

    fn observe(&self, cluster: &Cluster, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            cluster.board.set(self.census.evicted.load(Relaxed));
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    fn send(&self, script: &Arc<FaultScript>) -> Result<(), String> {
        let sent = self.faults.send(script.clone());
        sent.map_err(|_| "the fleet has ended".into())
    }
}

/// Which nodes.
struct Case {
    name: &'static str,
    percent: usize,
}

impl Case {
    fn of(options: &Options) -> Result<Case, String> {
        let (name, percent) = match options.case.as_deref() {
            None | Some("spread") => ("spread", PERCENT_SPREAD),
            Some("zone") => ("zone", 100),
            Some(other) => {
                return Err(format!(
                    "there is no case \"{other}\" of outage; there are: spread, zone"
                ));
            }
        };
        let percent = options.percent.unwrap_or(percent);
        Ok(Case { name, percent })
    }

    fn script(&self, layout: &Layout) -> Result<FaultScript, String> {
        let zone = match (self.name, layout.zones().first()) {
            ("zone", Some(zone)) => format!("zones: [{zone}], "),
            _ => String::new(),
        };
        let text = format!(
            "steps: [{{at: 0s, do: silence, nodes: {{{zone}percent: {}}}}}]",
            self.percent
        );
        FaultScript::parse(&text, layout)
    }
}

struct States {
    text: String,
    all_are_silent: bool,
}

/// What becomes of each zone by the rules of the node life cycle (k8s node-lifecycle-controller), in words.
fn states(layout: &Layout, nodes: usize, silent: &[u32], config: &NodeLifecycleConfig) -> States {
    // Name, nodes that talk, nodes that are silent.
    let mut zones: Vec<(&str, usize, usize)> = Vec::new();
    for place in 0..nodes {
        let zone = layout.place(place).zone;
        match zones.iter_mut().find(|(name, _, _)| *name == zone) {
            Some(known) => known.1 += 1,
            None => zones.push((zone, 1, 0)),
        }
    }
    for place in silent {
        let zone = layout.place(*place as usize).zone;
        if let Some(known) = zones.iter_mut().find(|(name, _, _)| *name == zone) {
            (known.1, known.2) = (known.1.saturating_sub(1), known.2 + 1);
        }
    }
    let all_are_silent = zones.iter().all(|(_, talking, _)| *talking == 0);
    let a_second = |micros: i64| 1e6 / micros.max(1) as f64;
    let words = zones.iter().map(|(zone, talking, silent)| {
        let all = talking + silent;
        let rule = if all_are_silent {
            "all zones silent, evictions end".to_owned()
        } else if *talking == 0 {
            format!(
                "silent, {}/s nodes emptied",
                a_second(config.eviction_interval_micros)
            )
        } else if *silent > 2 && silent * 100 >= all * config.unhealthy_percent {
            if all > config.large_zone_nodes {
                format!(
                    "partly silent, {}/s nodes emptied",
                    a_second(config.secondary_interval_micros)
                )
            } else {
                "small and partly silent, nobody evicted".to_owned()
            }
        } else {
            format!(
                "normal, {}/s nodes emptied",
                a_second(config.eviction_interval_micros)
            )
        };
        format!("{zone}: {silent} of {all} silent ({rule})")
    });
    States {
        text: words.collect::<Vec<_>>().join("; "),
        all_are_silent,
    }
}

/// Pods that leave as soon as their node may be emptied.
fn patient_for_no_time() -> Result<Template, String> {
    let mut pod = pod(0, &Digits::name(0));
    let tolerate = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0});
    pod["spec"]["tolerations"] = json!([
        tolerate("node.kubernetes.io/unreachable"),
        tolerate("node.kubernetes.io/not-ready")
    ]);
    Template::of(&pod)
}

fn start_census(cluster: &mut Cluster) -> Result<Arc<Census>, String> {
    let census = Arc::new(Census::new(cluster.nodes));
    let (client, shared) = (cluster.plane.client(), census.clone());
    let mut stop = cluster.plane.stop_signal();
    cluster.plane.spawn("census", move || async move {
        tokio::select! {
            () = follow_nodes(client.clone(), shared.clone()) => {}
            () = follow_pods(client, shared) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    })?;
    Ok(census)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(case: &str, percent: usize, nodes: usize) -> States {
        let layout = Layout::default();
        let name = if case == "zone" { "zone" } else { "spread" };
        let script = Case { name, percent }.script(&layout).unwrap();
        let silent = script.struck(&layout, nodes);
        let zone = |place: &u32| layout.place(*place as usize).zone;
        assert!(case != "zone" || silent.iter().all(|place| zone(place) == "zone-a"));
        states(&layout, nodes, &silent, &NodeLifecycleConfig::default())
    }

    #[test]
    fn the_rule_of_each_zone_is_told() {
        let whole = told("zone", 100, 30);
        assert_eq!(
            whole.text,
            "zone-a: 10 of 10 silent (silent, 0.1/s nodes emptied); zone-b: 0 of 10 silent (normal, 0.1/s nodes \
             emptied); zone-c: 0 of 10 silent (normal, 0.1/s nodes emptied)"
        );
        assert!(!whole.all_are_silent);
        let all = told("spread", 100, 30);
        assert!(
            all.all_are_silent
                && all
                    .text
                    .contains("zone-c: 10 of 10 silent (all zones silent, evictions end)")
        );
        assert!(
            told("zone", 80, 30)
                .text
                .contains("small and partly silent, nobody evicted")
        );
        assert!(
            told("zone", 80, 3_000)
                .text
                .contains("partly silent, 0.01/s nodes emptied")
        );
    }

    #[test]
    fn a_silent_node_is_named_as_the_fleet_names_it() {
        let layout = Layout::default();
        let script = Case {
            name: "spread",
            percent: 100,
        };
        let struck = script.script(&layout).unwrap().struck(&layout, 2);
        let names: Vec<String> = struck
            .iter()
            .map(|place| fleet::node_name(*place as usize))
            .collect();
        assert_eq!(names, ["node-0000000", "node-0000001"]);
    }
}

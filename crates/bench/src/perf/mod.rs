//! `schedule --case`: the cases of upstream's benchmark of the scheduler under their own names, and the promises about
//! decisions at a million nodes.
//!
//! ```text
//!   cases ──► plan ──┬─► core:  classes, picks, assumptions, evictions         ─┐
//!   promises ────────┤                                                          ├─► outcome ─► report
//!                    └─► plane: API server, scheduler, watch, in this process  ─┘
//!                                              recount: does everything hold?  ─┘
//! ```
//!
//! - `shapes.rs`: single nodes and pods. `cases.rs`, `promises.rs`: what there is, and how large.
//! - `core.rs`, `plane.rs`: carry a plan out. `preemption.rs`, `steady.rs`: promises that are no plan.
//! - `recount.rs`: counts again by plain scans, and shares no code with what it checks.

mod cases;
mod core;
mod outcome;
mod plan;
mod plane;
mod preemption;
mod promises;
mod recount;
mod shapes;
mod steady;

use std::io::Write as _;

use value::{Value, json};

use self::cases::{ABSENT, CASES, Case};
use self::plan::{Plan, Size};
use self::promises::{How, PROMISES, Promise};
use crate::Options;
use crate::measure::{load_average, repeat};
use crate::report::{Report, grouped};

/// Sizes of `P5-steady` through the API, where nothing else is asked for.
const STEADY_API: (usize, usize) = (10_000, 50_000);

/// One thing to measure.
#[derive(Clone, Copy)]
enum Job {
    Case(&'static Case),
    Promise(&'static Promise),
}

impl Job {
    fn name(self) -> String {
        match self {
            Job::Case(case) => format!("{}/{}", case.name, case.workload),
            Job::Promise(promise) => promise.name.to_owned(),
        }
    }
}

/// What `--case` means, where that is more than one thing.
fn several(name: &str) -> Option<Vec<Job>> {
    match name {
        "all" => Some(CASES.iter().map(Job::Case).collect()),
        "promises" => Some(PROMISES.iter().map(Job::Promise).collect()),
        _ => None,
    }
}

fn one(name: &str) -> Result<Job, String> {
    let case = cases::find(name).map(Job::Case);
    case.or_else(|| promises::find(name).map(Job::Promise))
        .ok_or_else(|| {
            format!(
                "there is no case \"{name}\" of schedule; `megaplane bench schedule --case list` names them, `all` runs those \
                 of upstream, `promises` ours"
            )
        })
}

/// Whether `--case` asks for something that has no single report.
pub fn is_of_many(options: &Options) -> bool {
    let case = options.case.as_deref().unwrap_or_default();
    options.name == "schedule" && (case == "list" || several(case).is_some())
}

/// One case.
pub fn run(options: &Options) -> Result<Report, String> {
    let job = one(options.case.as_deref().unwrap_or_default())?;
    measured(job, options, false)
}

/// All cases of a list, each printed when it is done: an object a line, or a line of a table.
pub fn print_many(options: &Options) -> Result<(), String> {
    let case = options.case.as_deref().unwrap_or_default();
    let Some(jobs) = several(case) else {
        let text = if options.json {
            format!("{}\n", list_json())
        } else {
            list_text()
        };
        print(&text);
        return Ok(());
    };
    if !options.json {
        print(&heading());
    }
    let mut failed = Vec::new();
    each(&jobs, options, |job, report| match report {
        Ok(report) if options.json => print(&format!("{}\n", report.to_json())),
        Ok(report) => print(&line(&report.to_json())),
        Err(error) => failed.push(format!("{}: {error}", job.name())),
    });
    if failed.is_empty() {
        return Ok(());
    }
    Err(failed.join("\n"))
}

/// The same as one array.
pub fn measure_many(options: &Options) -> Result<Value, String> {
    let case = options.case.as_deref().unwrap_or_default();
    let Some(jobs) = several(case) else {
        return Ok(list_json());
    };
    let mut reports = Vec::new();
    let mut failed = Vec::new();
    each(&jobs, options, |job, report| match report {
        Ok(report) => reports.push(report.to_json()),
        Err(error) => failed.push(format!("{}: {error}", job.name())),
    });
    if failed.is_empty() {
        Ok(Value::Array(reports))
    } else {
        Err(failed.join("\n"))
    }
}

fn each(jobs: &[Job], options: &Options, mut told: impl FnMut(Job, Result<Report, String>)) {
    for (place, job) in jobs.iter().enumerate() {
        eprintln!("{} of {}: {}", place + 1, jobs.len(), job.name());
        let before = load_average();
        let report = measured(*job, options, true);
        told(
            *job,
            report.map(|report| report.of_benchmark("schedule", &before)),
        );
    }
}

fn print(text: &str) {
    // A reader that went away (`| head`) is no failure of the benchmark.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// `fit`: more pods than there is room for are left out, and not refused.
fn measured(job: Job, options: &Options, fit: bool) -> Result<Report, String> {
    match job {
        Job::Case(case) => measured_case(case, options, fit),
        Job::Promise(promise) => measured_promise(promise, options),
    }
}

fn measured_case(case: &Case, options: &Options, fit: bool) -> Result<Report, String> {
    let mut size = case.sized(options.asked_nodes, options.asked_pods);
    let room = (case.room)(size);
    if size.pods > room {
        if !fit || room == 0 {
            return Err(format!(
                "{} pods do not fit in {} with {} nodes: ask for at most {room}, or for more nodes",
                size.pods, case.name, size.nodes
            ));
        }
        size.pods = room;
    }
    let plan = (case.plan)(size);
    let (mode, outcomes) = if options.core_only {
        ("core-only", repeat(options.runs, || core::run(&plan))?)
    } else {
        ("api", repeat(options.runs, || plane::run(&plan, None))?)
    };
    let begun = Report::in_memory()
        .text("case", case.name)
        .text("workload", case.workload)
        .flag("upstreams_size", size == case.size);
    let report = outcome::report(begun, mode, size, &outcomes);
    let Some(floor) = case.floor else {
        return Ok(report);
    };
    let report = report.count("upstream_floor_per_second", floor);
    let rate = report.to_json()["pods_per_second"].as_f64();
    Ok(report.number(
        "times_upstream_floor",
        rate.unwrap_or(0.0) / floor.max(1) as f64,
    ))
}

fn measured_promise(promise: &Promise, options: &Options) -> Result<Report, String> {
    let of = promise.size;
    let through_api = matches!(promise.how, How::Steady) && !options.core_only;
    let default = if through_api && options.case.as_deref() != Some("promises") {
        STEADY_API
    } else {
        (of.nodes, of.pods)
    };
    let size = Size {
        nodes: options.asked_nodes.unwrap_or(default.0),
        before: 0,
        pods: options.asked_pods.unwrap_or(default.1),
    };
    let begun = Report::in_memory().text("case", promise.name);
    match &promise.how {
        How::Case(plan) => {
            let plan: Plan = plan(size);
            let outcomes = repeat(options.runs, || core::run(&plan))?;
            Ok(outcome::report(begun, "core-only", size, &outcomes))
        }
        How::Preemption => {
            let runs = repeat(options.runs, || preemption::run(size))?;
            let (outcomes, mut times): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
            let report = outcome::report(begun, "core-only", size, &outcomes);
            Ok(preemption::with_times(
                report,
                size,
                &times.pop().unwrap_or_default(),
            ))
        }
        How::Steady if through_api && options.case.as_deref() != Some("promises") => {
            let plan = promises::classes(size, 100);
            let rate = options.rate;
            let outcomes = repeat(options.runs, || plane::run(&plan, Some(rate)))?;
            let report = outcome::report(begun, "api", size, &outcomes);
            Ok(report.count("rate_per_second", rate))
        }
        How::Steady => {
            let rate = options.rate;
            let runs = repeat(options.runs, || steady::run(size, rate))?;
            let (outcomes, mut figures): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
            let report = outcome::report(begun, "core-only", size, &outcomes);
            let figures = figures.pop().unwrap_or_default();
            Ok(steady::with_figures(report, &figures, size, rate))
        }
    }
}

// ---- what people see

fn heading() -> String {
    format!(
        "{:<52} {:>9} {:>9} {:>10} {:>9} {:>12} {:>8} {:>10}\n",
        "case", "nodes", "pods", "pods/s", "us/pod", "CPU us/pod", "x floor", "mismatches"
    )
}

fn line(report: &Value) -> String {
    let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
    let whole = |key: &str| {
        let number = report[key].as_f64().unwrap_or(0.0);
        grouped(&format!("{number:.0}"))
    };
    let number = |key: &str| match report[key].as_f64() {
        Some(number) => format!("{number:.1}"),
        None => "-".into(),
    };
    format!(
        "{:<52} {:>9} {:>9} {:>10} {:>9} {:>12} {:>8} {:>10}\n",
        text("case"),
        whole("nodes"),
        whole("pods"),
        whole("pods_per_second"),
        number("us_per_pod"),
        number("cpu_us_per_pod"),
        number("times_upstream_floor"),
        whole("mismatches"),
    )
}

fn list_json() -> Value {
    let case = |case: &Case| {
        json!({
            "case": case.name, "workload": case.workload, "about": case.about,
            "nodes": case.size.nodes, "pods_before": case.size.before, "pods": case.size.pods,
            "upstream_floor_per_second": case.floor,
        })
    };
    let promise = |promise: &Promise| json!({"case": promise.name, "about": promise.about, "nodes": promise.size.nodes, "pods": promise.size.pods});
    let absent = |(name, why): &(&str, &str)| json!({"case": name, "why": why});
    json!({
        "cases": CASES.iter().map(case).collect::<Vec<_>>(),
        "promises": PROMISES.iter().map(promise).collect::<Vec<_>>(),
        "not_there": ABSENT.iter().map(absent).collect::<Vec<_>>(),
    })
}

fn list_text() -> String {
    let number = |number: usize| grouped(&number.to_string());
    let mut text = format!(
        "{:<54} {:>9} {:>8} {:>9} {:>6}  {}\n",
        "case", "nodes", "before", "pods", "floor", "size and what it is about"
    );
    for case in &CASES {
        text.push_str(&format!(
            "{:<54} {:>9} {:>8} {:>9} {:>6}  {}: {}\n",
            case.name,
            number(case.size.nodes),
            number(case.size.before),
            number(case.size.pods),
            case.floor.map_or("-".into(), number),
            case.workload,
            case.about
        ));
    }
    text.push_str("\nOur promises, in the core alone (--case promises runs them):\n");
    for promise in &PROMISES {
        text.push_str(&format!(
            "{:<54} {:>9} {:>8} {:>9} {:>6}  {}\n",
            promise.name,
            number(promise.size.nodes),
            "-",
            number(promise.size.pods),
            "-",
            promise.about
        ));
    }
    text.push_str("\nNot there:\n");
    for (name, why) in ABSENT {
        text.push_str(&format!("{name}: {why}\n"));
    }
    text.push_str(
        "\nbefore: pods that are placed before (of each kind, in MixedSchedulingBasePod; twice as many are deleted in\n\
         SchedulingWhileGated); floor: pods a second below which upstream's CI fails. A size is named after a slash:\n\
         --case SchedulingBasic/5000Nodes_50000Pods. --nodes and --pods make another size of it.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_everything_that_is_there_and_that_is_not() {
        let text = list_text();
        for case in &CASES {
            assert!(text.contains(case.name) && text.contains(case.workload));
        }
        for (name, why) in ABSENT {
            assert!(text.contains(&format!("{name}: {why}")));
        }
        assert!(PROMISES.iter().all(|promise| text.contains(promise.name)));
        let json = list_json();
        assert_eq!(json["cases"].as_array().map(Vec::len), Some(CASES.len()));
    }

    #[test]
    fn a_name_is_one_case_or_many_or_an_error() {
        assert_eq!(
            one("TopologySpreading").map(Job::name),
            Ok("TopologySpreading/5000Nodes_5000Pods".into())
        );
        assert_eq!(
            one("p4-preemption").map(Job::name),
            Ok("P4-preemption".into())
        );
        assert_eq!(several("all").map(|jobs| jobs.len()), Some(CASES.len()));
        let error = one("Fly").map(Job::name).unwrap_err();
        assert!(
            error.starts_with("there is no case \"Fly\" of schedule; "),
            "{error}"
        );
    }
}

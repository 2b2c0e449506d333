//! Every case of scheduler_perf in a small size: it ends, all measured pods have a node, and the recount agrees.

use bench::Options;
use std::time::Duration;
use value::Value;

fn options(case: &str, core_only: bool, nodes: usize, pods: usize) -> Options {
    Options {
        name: "schedule".into(),
        nodes,
        pods,
        asked_nodes: Some(nodes),
        asked_pods: Some(pods),
        operations: 1,
        case: Some(case.into()),
        connections: 1,
        streams: 1,
        rate: 500,
        percent: None,
        grace: Duration::from_secs(2),
        plot: None,
        runs: 1,
        duration: Duration::from_secs(2),
        leases: 1,
        core_only,
        json: true,
    }
}

fn look_at(report: &Value, mode: &str) {
    let name = &report["case"];
    for key in [
        "nodes",
        "pods",
        "seconds",
        "pods_per_second",
        "us_per_pod",
        "cpu_us_per_pod",
        "rss_bytes",
        "mismatches",
        "picks_audited",
    ] {
        assert!(report[key].is_number(), "{key} of {name} in {report}");
    }
    assert_eq!(report["mode"], mode, "{name}");
    assert_eq!(report["mismatches"], 0, "{report}");
    // Whoever is deleted between its decision and its binding is refused, as by any API server.
    let doomed = match name.as_str() {
        Some("SchedulingDeletedPodsWithFinalizers") => report["pods_before"].as_u64(),
        _ => None,
    };
    let errors = report["binding_errors"].as_u64();
    assert!(
        errors.is_some_and(|errors| errors <= doomed.unwrap_or(0)),
        "{report}"
    );
    assert_eq!(report["bound"], report["pods"], "{report}");
}

fn all(core_only: bool) -> Vec<Value> {
    let reports = bench::measure(&options("all", core_only, 50, 100)).unwrap();
    let Value::Array(reports) = reports else {
        panic!("no array: {reports}")
    };
    reports
}

/// Pods that a case of 50 nodes has room for, where that is fewer than 100.
fn room(case: &str) -> u64 {
    match case {
        "SchedulingPodAntiAffinity" => 40,
        "SchedulingRequiredPodAntiAffinityWithNSSelector" => 16,
        "SchedulingWithNodeInclusionPolicy" => 40,
        "PreemptionBasic" | "PreemptionPVs" => 50,
        "SchedulingWithExtendedResource" | "HostPortConflict" | "ResourceSaturation" => 50,
        _ => 100,
    }
}

#[test]
fn every_case_through_the_api() {
    for report in all(false) {
        look_at(&report, "api");
        let case = report["case"].as_str().unwrap();
        assert_eq!(report["pods"], room(case), "{case}");
        let evicted = report["evicted"].as_u64().unwrap();
        match case {
            // Of four pods of 900m three go for one of three cores.
            "PreemptionBasic" | "PreemptionPVs" => assert_eq!(evicted, 150, "{report}"),
            "PreemptionAsync" => assert!(evicted >= 3, "{report}"),
            _ => assert_eq!(evicted, 0, "{report}"),
        }
        let never_fit = ["Unschedulable", "SchedulingWithMixedChurn"];
        if never_fit.contains(&case) {
            assert!(report["unschedulable_attempts"].as_u64() >= Some(1));
        }
    }
}

#[test]
fn every_case_in_the_core() {
    for report in all(true) {
        look_at(&report, "core-only");
        let case = report["case"].as_str().unwrap();
        assert_eq!(report["pods"], room(case), "{case}");
        assert_eq!(report["evicted_beyond_need"], 0, "{report}");
    }
}

#[test]
fn every_promise_in_a_small_size() {
    let reports = bench::measure(&options("promises", true, 300, 200)).unwrap();
    let reports = reports.as_array().unwrap();
    assert_eq!(reports.len(), 6);
    for report in reports {
        look_at(report, "core-only");
        assert!(report["picks_audited"].as_u64() >= Some(10), "{report}");
    }
    let of = |name: &str| {
        let mut all = reports.iter();
        all.find(|report| report["case"] == name).unwrap()
    };
    // One, two and three others go in turn.
    assert_eq!(of("P4-preemption")["evicted"], 199 * 2 + 1);
    for key in [
        "decision_p50_us",
        "decision_p99_us",
        "decision_p999_us",
        "bytes_per_node",
        "bytes_per_pod",
    ] {
        assert!(of("P5-steady")[key].is_number(), "{key}");
    }
}

#[test]
fn a_steady_rate_through_the_api() {
    let report = bench::measure(&options("P5-steady", false, 50, 200)).unwrap();
    look_at(&report, "api");
    for key in [
        "bound_after_p50_ms",
        "bound_after_p99_ms",
        "bound_after_p999_ms",
    ] {
        assert!(report[key].as_f64() > Some(0.0), "{key} in {report}");
    }
}

#[test]
fn a_case_that_is_not_there_or_does_not_fit_is_refused() {
    let error = bench::measure(&options("Fly", false, 5, 5)).unwrap_err();
    assert!(
        error.contains("there is no case \"Fly\" of schedule"),
        "{error}"
    );
    let error = bench::measure(&options("HostPortConflict", true, 5, 6)).unwrap_err();
    assert_eq!(
        error,
        "6 pods do not fit in HostPortConflict with 5 nodes: ask for at most 5, or for more nodes"
    );
    let list = bench::measure(&options("list", false, 1, 1)).unwrap();
    assert!(list["cases"].as_array().is_some_and(|all| all.len() >= 35));
    assert!(
        list["not_there"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    );
}

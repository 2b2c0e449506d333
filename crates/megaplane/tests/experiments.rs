//! The experiments that start a plane as a process run with tiny numbers and give the figures they promise. How large they
//! are is not tested.

use std::process::Command;

use value::Value;

fn measured(arguments: &[&str], keys: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_megaplane"))
        .arg("bench")
        .args(arguments)
        .arg("--json")
        .output()
        .expect("runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
    for key in keys {
        assert!(report[key].is_number(), "{key} in {report}");
    }
    report
}

#[test]
fn watches_that_are_idle_and_then_have_news() {
    let report = measured(
        &[
            "watches",
            "--nodes",
            "60",
            "--connections",
            "6",
            "--operations",
            "600",
            "--rate",
            "2000",
        ],
        &[
            "bytes_per_watch",
            "bytes_per_connection",
            "single_after_reply_p99_ms",
            "single_after_request_p999_ms",
            "single_events_per_second",
            "kind_after_reply_p99_ms",
            "kind_events_per_second",
        ],
    );
    assert_eq!(report["single_events"], 600);
    // Ten writes, each seen by sixty watches.
    assert_eq!(
        (&report["kind_watches"], &report["kind_events"]),
        (&60.into(), &600.into())
    );
    assert_eq!(report["watches_broken"], 0);
    assert_eq!(report["connections_limited_by"], "nothing");
}

#[test]
fn more_watches_than_connections_can_hold_are_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_megaplane"))
        .args(["bench", "watches", "--nodes", "2000", "--connections", "2"])
        .output()
        .expect("runs");
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    let expected = "2000 watches need at least 3 connections, and there are 2";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_storm_after_a_kill_loses_nothing() {
    let report = measured(
        &["storm", "--connections", "40"],
        &[
            "first_served_seconds",
            "all_served_seconds",
            "server_cpu_us_per_client",
            "failed_tries",
        ],
    );
    assert_eq!(report["connections"], 40);
    assert_eq!(
        (&report["changes_lost"], &report["changes_told_twice"]),
        (&0.into(), &0.into())
    );
    // Everybody stayed within the window that a restart brings back.
    assert_eq!(report["relisted"], 0);
    // One each, half of them again, and all once more.
    assert_eq!(report["changes_acknowledged"], 40 + 20 + 40);
}

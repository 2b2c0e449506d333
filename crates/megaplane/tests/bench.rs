//! The benchmarks that start stores as processes run with tiny numbers and give the figures they promise. How large they
//! are is not tested.

use std::process::Command;

use value::Value;

fn measured(arguments: &[&str], keys: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_megaplane"))
        .arg("bench")
        .args(arguments)
        .arg("--json")
        // The peer is compared where figures are wanted, not here.
        .env_remove("MEGAPLANE_ETCD")
        .output()
        .expect("runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
    for key in keys {
        assert!(report[key].is_number(), "{key} in {report}");
    }
    assert_eq!(report["durability"], "fsync");
    assert!(report["etcd"].is_string(), "{report}");
    report
}

#[test]
fn writes_of_every_shape() {
    for case in ["kubernetes", "put", "lease-flood"] {
        let report = measured(
            &[
                "store-txn",
                "--case",
                case,
                "--operations",
                "300",
                "--connections",
                "3",
                "--streams",
                "4",
                "--runs",
                "1",
            ],
            &["cpu_us_per_op", "per_second", "p99_us", "fdatasync_p50_us"],
        );
        assert_eq!(report["case"], case);
    }
}

#[test]
fn an_unknown_shape_is_answered_with_the_known_ones() {
    let output = Command::new(env!("CARGO_BIN_EXE_megaplane"))
        .args(["bench", "store-txn", "--case", "fly"])
        .output()
        .expect("runs");
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    let expected = "there is no case \"fly\" of store-txn; there are: kubernetes, put, lease-flood";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn pages_of_many_keys() {
    measured(
        &["store-list", "--operations", "11000", "--runs", "1"],
        &["page_cpu_us", "page_us", "all_seconds"],
    );
}

#[test]
fn watches_idle_and_busy() {
    measured(
        &[
            "store-watch",
            "--nodes",
            "1500",
            "--operations",
            "500",
            "--connections",
            "2",
            "--streams",
            "5",
        ],
        &[
            "put_cpu_us_alone",
            "put_cpu_us_beside_idle",
            "kind_events_per_second",
        ],
    );
}

#[test]
fn writers_beside_compaction_and_expiry() {
    let report = measured(
        &["store-pause", "--operations", "3000", "--nodes", "300"],
        &["p999_ms", "max_ms", "writes"],
    );
    assert_eq!(report["leases_left"], 0);
}

#[test]
fn a_store_that_was_killed() {
    measured(
        &["store-recovery", "--nodes", "500"],
        &["seconds", "rss_bytes", "disk_bytes"],
    );
}

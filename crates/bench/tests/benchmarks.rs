//! Every benchmark runs with tiny numbers and gives the figures it promises. How large they are is not tested.

use bench::Options;
use std::time::Duration;
use value::Value;

fn options(name: &str) -> Options {
    Options {
        name: name.into(),
        nodes: 40,
        pods: 60,
        asked_nodes: None,
        asked_pods: None,
        operations: 300,
        case: None,
        connections: 2,
        streams: 4,
        rate: 1_000,
        percent: None,
        grace: Duration::from_secs(2),
        plot: None,
        runs: 2,
        duration: Duration::from_secs(4),
        leases: 300,
        core_only: false,
        json: true,
    }
}

fn measured(options: &Options, keys: &[&str]) -> Value {
    let report = bench::measure(options).unwrap();
    for key in keys {
        assert!(report[key].is_number(), "{key} in {report}");
    }
    assert_eq!(report["benchmark"], options.name.as_str());
    assert_eq!(report["durability"], "memory");
    assert!(report["machine"]["cores"].as_u64() >= Some(1));
    assert!(report["machine"]["cpu_model"].is_string() && report["machine"]["version"].is_string());
    report
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    let error = bench::run(&options("fly")).unwrap_err();
    let expected = "there is no benchmark \"fly\"; there are: store-put, store-txn, store-memory, store-list, \
                    store-watch, store-pause, store-recovery, lease-renewal, lease-wire, connections, schedule, \
                    register, million, watches, label-watches, storm, lists, outage, soak, and list";
    assert_eq!(error, expected);
    assert!(
        bench::measure(&Options {
            operations: 0,
            ..options("store-put")
        })
        .is_err()
    );
}

#[test]
fn store_put() {
    let keys = [
        "put_cpu_ns",
        "put_5_watchers_cpu_ns",
        "put_5_watchers_batched_cpu_ns",
        "overhead_bytes_per_key",
    ];
    let report = measured(&options("store-put"), &keys);
    // Two rounds of two runs, 300 puts, five watchers.
    assert_eq!(report["events_delivered"], 2 * 2 * 300 * 5);
}

#[test]
fn store_memory() {
    let keys = [
        "overhead_bytes_per_key_and_its_creation",
        "overhead_bytes_per_kept_revision",
    ];
    measured(&options("store-memory"), &keys);
}

#[test]
fn lease_renewal() {
    let keys = ["cpu_us_per_op", "per_cpu_second", "per_second", "rss_bytes"];
    let report = measured(&options("lease-renewal"), &keys);
    assert_eq!(
        (&report["leases"], &report["operations"]),
        (&40.into(), &300.into())
    );
}

#[test]
fn a_small_million() {
    let keys = [
        "register_seconds",
        "register_cpu_us_each",
        "register_fleet_cpu_seconds",
        "register_rss_gib",
        "renewals_per_second",
        "renewal_late_max_seconds",
        "steady_mutate_p99_ms",
        "steady_get_p50_ms",
        "pods_per_second",
        "delete_seconds",
        "history_seconds",
    ];
    let report = measured(&options("million"), &keys);
    assert!(report["renewals"].as_u64() > Some(0), "{report}");
    assert_eq!(report["renewal_failures_in_all"], 0);
    assert_eq!(report["history_gone"], false);
}

#[test]
fn a_million_without_pods_that_draws_itself() {
    let path = std::env::temp_dir().join(format!("megaplane-{}.svg", std::process::id()));
    let report = bench::measure(&Options {
        pods: 0,
        duration: Duration::from_secs(2),
        plot: Some(path.clone()),
        ..options("million")
    });
    let picture = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let report = report.unwrap();
    assert!(report["steady_seconds"].is_number() && report["pods_seconds"].is_null());
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert!(picture.contains(">register</text>") && picture.contains(">steady</text>"));
}

const SCHEDULE: [&str; 9] = [
    "nodes",
    "pods",
    "seconds",
    "pods_per_second",
    "us_per_pod",
    "cpu_us_per_pod",
    "rss_bytes",
    "mismatches",
    "picks_audited",
];

#[test]
fn schedule_through_the_api() {
    let report = measured(&options("schedule"), &SCHEDULE);
    assert_eq!(report["mode"], "api");
    assert_eq!(
        (&report["mismatches"], &report["binding_errors"]),
        (&0.into(), &0.into())
    );
    assert!(report["picks_audited"].as_u64() >= Some(10));
}

#[test]
fn schedule_without_the_api() {
    let report = measured(
        &Options {
            core_only: true,
            ..options("schedule")
        },
        &SCHEDULE,
    );
    assert_eq!(report["mode"], "core-only");
    assert_eq!(
        (&report["mismatches"], &report["unscheduled"]),
        (&0.into(), &0.into())
    );
    assert!(report["picks_audited"].as_u64() >= Some(10));
}

#[test]
fn more_pods_than_there_is_room_for_are_refused_at_once() {
    let crowded = Options {
        nodes: 1,
        pods: 15,
        ..options("schedule")
    };
    assert!(
        bench::measure(&crowded)
            .unwrap_err()
            .contains("may not fit")
    );
}

#[test]
fn register() {
    measured(
        &options("register"),
        &["nodes", "seconds", "cpu_us_per_node", "rss_bytes"],
    );
}

#[test]
fn lists_under_their_own_name_and_their_former_one() {
    let keys = [
        "protobuf_ms",
        "protobuf_mb_per_second",
        "json_ms",
        "json_mb_per_second",
        "json_extra_memory_bytes",
        "watchlist_first_byte_ms",
        "watchlist_ms",
        "writes_alone_p999_ms",
        "watchlist_writes_max_ms",
    ];
    let report = measured(&options("lists"), &keys);
    assert!(report["json_bytes"].as_u64() > report["protobuf_bytes"].as_u64());
    assert!(report["watchlist_bytes"].as_u64() > report["protobuf_bytes"].as_u64());
    let former = bench::measure(&options("list-nodes")).unwrap();
    assert_eq!(former["benchmark"], "lists");
}

#[test]
fn watches_by_label() {
    let keys = [
        "alone_cpu_us_per_change",
        "found_cpu_us_per_change",
        "unfound_cpu_us_per_change",
        "list_by_label_ms",
        "list_all_ms",
    ];
    measured(&options("label-watches"), &keys);
}

#[test]
fn an_outage_of_a_zone() {
    let keys = [
        "all_marked_seconds",
        "all_marked_after_grace_seconds",
        "pods_evicted",
        "pods_evicted_while_marking",
        "all_ready_seconds",
        "mark_cpu_us_each",
        "back_seconds",
    ];
    let report = measured(
        &Options {
            case: Some("zone".into()),
            ..options("outage")
        },
        &keys,
    );
    // Of 40 nodes dealt out to three zones.
    assert_eq!(
        (&report["silent"], &report["percent"]),
        (&14.into(), &100.into())
    );
    assert_eq!(
        (&report["wrongly_marked"], &report["wrongly_evicted"]),
        (&0.into(), &0.into())
    );
    let zones = report["zones"].as_str().unwrap();
    assert!(
        zones.starts_with("zone-a: 14 of 14 silent (silent, "),
        "{zones}"
    );
}

#[test]
fn no_pods_where_there_must_be_some_and_no_picture_where_there_is_none() {
    let without = Options {
        pods: 0,
        ..options("schedule")
    };
    assert_eq!(bench::measure(&without).unwrap_err(), "schedule needs pods");
    let drawn = Options {
        plot: Some("a.svg".into()),
        ..options("lists")
    };
    assert_eq!(
        bench::measure(&drawn).unwrap_err(),
        "lists draws nothing: --plot is for million"
    );
    let unknown = Options {
        case: Some("fly".into()),
        ..options("outage")
    };
    assert_eq!(
        bench::measure(&unknown).unwrap_err(),
        "there is no case \"fly\" of outage; there are: spread, zone"
    );
}

#[test]
fn soak() {
    let report = bench::measure(&options("soak")).unwrap();
    for key in [
        "duration_seconds",
        "write_p50_us",
        "write_p99_us",
        "write_p99_9_us",
        "write_max_us",
    ] {
        assert!(report[key].is_number(), "{key} in {report}");
    }
    assert_eq!(
        (&report["durability"], &report["leases"]),
        (&"fsync".into(), &300.into())
    );
    // The longer life of two: every lease is renewed or has expired, and is there again.
    for key in ["puts", "compactions", "lease_expirations", "lease_renewals"] {
        assert!(report[key].as_u64() > Some(0), "{key} in {report}");
    }
    let held = report["leases_held_at_end"].as_u64().unwrap();
    assert!((260..=300).contains(&held), "{report}");
    // Each watcher has heard each put once.
    let puts = report["puts"].as_u64().unwrap();
    assert_eq!(report["watch_events"], 5 * puts);
    let samples = report["rss_bytes"].as_array().unwrap();
    assert!(samples.len() == 10 && samples.iter().all(|bytes| bytes.as_u64() > Some(0)));
    assert!(report["flat"].is_boolean() && report["flat_rule"].is_string());
}

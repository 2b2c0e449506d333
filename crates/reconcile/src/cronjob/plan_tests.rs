//! Stories of CronJobs: Jobs and a time in, a plan as text out.

use super::*;
use crate::action::Action;
use meta::object;
use meta::time::parse;
use value::{Value, json};

fn cron(spec: Value) -> Value {
    let mut cron = json!({"apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": "tick", "namespace": "default", "uid": "cj", "creationTimestamp": "2026-01-01T10:02:00Z"},
        "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"metadata": {"labels": {"app": "tick"}}, "spec": {"parallelism": 2}}}});
    for (key, value) in spec.as_object().unwrap() {
        cron["spec"][key] = value.clone();
    }
    cron
}

fn job(name: &str, end: Option<&str>) -> Arc<Value> {
    let conditions: Vec<Value> = end
        .iter()
        .map(|end| json!({"type": end, "status": "True"}))
        .collect();
    let completed = (end == Some("Complete")).then_some("2026-01-01T10:06:00Z");
    Arc::new(
        json!({"metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "5"},
        "status": {"startTime": "2026-01-01T10:05:00Z", "conditions": conditions, "completionTime": completed}}),
    )
}

fn full(cron: &Value, jobs: &[Arc<Value>], now: &str) -> Vec<Action> {
    let has_job = |name: &str| jobs.iter().any(|job| object::name(job) == name);
    let observed = Observed {
        jobs,
        has_job: &has_job,
    };
    plan(&Arc::new(cron.clone()), &observed, parse(now).unwrap())
}

fn run(cron: &Value, jobs: &[Arc<Value>], now: &str) -> Vec<String> {
    let short = |action: &Action| {
        let text = action.to_string();
        match action {
            Action::Create { .. } => text.split(" {").next().unwrap_or_default().to_owned(),
            _ => text.replace("cronjobs.batch/status default/tick ", ""),
        }
    };
    full(cron, jobs, now).iter().map(short).collect()
}

// 2026-01-01T10:05:00Z is minute 29454365 since the epoch.
const FIRST: &str = "tick-29454365";

#[test]
fn a_job_starts_when_it_is_due_and_once() {
    let mut tick = cron(json!({}));
    assert_eq!(
        run(&tick, &[], "2026-01-01T10:04:00Z"),
        ["requeue after 60.100000s"]
    );
    assert_eq!(
        run(&tick, &[], "2026-01-01T10:05:00.1Z"),
        [
            format!("create jobs.batch default/{FIRST}"),
            r#"update {"lastScheduleTime":"2026-01-01T10:05:00Z"}"#.to_owned(),
            "requeue after 300.000000s".to_owned()
        ]
    );
    let plan = full(&tick, &[], "2026-01-01T10:05:00Z");
    let Some(Action::Create { object, .. }) = plan.first() else {
        panic!("no job")
    };
    assert_eq!(object["spec"], json!({"parallelism": 2}));
    assert_eq!(object["metadata"]["labels"], json!({"app": "tick"}));
    assert_eq!(
        object::annotation(object, "batch.kubernetes.io/cronjob-scheduled-timestamp"),
        Some("2026-01-01T10:05:00Z")
    );
    // The Job was made, but the status was not written.
    assert_eq!(
        run(&tick, &[job(FIRST, None)], "2026-01-01T10:05:01Z")[0],
        format!(
            r#"update {{"active":[{{"apiVersion":"batch/v1","kind":"Job","name":"{FIRST}","namespace":"default","resourceVersion":"5","uid":"{FIRST}"}}],"lastScheduleTime":"2026-01-01T10:05:00Z"}}"#
        )
    );
    tick["status"] = json!({"lastScheduleTime": "2026-01-01T10:05:00Z"});
    assert_eq!(
        run(&tick, &[], "2026-01-01T10:06:00Z"),
        ["requeue after 240.100000s"]
    );
}

#[test]
fn what_ended_is_noted_and_only_so_many_are_kept() {
    let mut tick = cron(json!({"suspend": true, "successfulJobsHistoryLimit": 1}));
    tick["status"] = json!({"active": [{"name": "b", "uid": "b"}, {"name": "x", "uid": "x"}]});
    let jobs = [
        job("a", Some("Complete")),
        job("b", Some("Complete")),
        job("c", Some("Failed")),
    ];
    assert_eq!(
        run(&tick, &jobs, "2026-01-01T10:30:00Z"),
        [
            "event CronJob default/tick Normal SawCompletedJob: Saw completed job: b, condition: Complete",
            "event CronJob default/tick Normal MissingJob: Active job went missing: x",
            "delete jobs.batch default/a uid=a Background",
            r#"update {"lastSuccessfulTime":"2026-01-01T10:06:00Z"}"#
        ]
    );
}

#[test]
fn the_policy_decides_when_the_last_job_still_runs() {
    let jobs = [job("before", None)];
    let now = "2026-01-01T10:10:01Z";
    let verbs = |policy: &str| {
        let plan = run(&cron(json!({"concurrencyPolicy": policy})), &jobs, now);
        plan.iter()
            .filter(|line| !line.starts_with("update") && !line.starts_with("requeue"))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(verbs("Allow"), ["create jobs.batch default/tick-29454370"]);
    assert_eq!(
        verbs("Replace"),
        [
            "delete jobs.batch default/before uid=before Background",
            "create jobs.batch default/tick-29454370"
        ]
    );
    assert_eq!(
        verbs("Forbid"),
        [
            "event CronJob default/tick Normal JobAlreadyActive: Not starting job because prior execution is running and concurrency policy is Forbid"
        ]
    );
}

#[test]
fn what_is_too_late_is_left_out_and_many_missed_times_are_told() {
    let late = cron(json!({"startingDeadlineSeconds": 60}));
    assert_eq!(
        run(&late, &[], "2026-01-01T10:07:30Z"),
        ["requeue after 150.100000s"]
    );
    let plan = run(&cron(json!({})), &[], "2026-01-02T10:07:30Z");
    assert!(plan[0].contains("TooManyMissedTimes"), "{plan:?}");
    assert_eq!(plan[1], "create jobs.batch default/tick-29455805");
}

#[test]
fn another_time_zone_or_no_schedule_starts_nothing_and_says_so() {
    let now = "2026-01-01T10:30:00Z";
    assert_eq!(
        run(&cron(json!({"timeZone": "Europe/Berlin"})), &[], now),
        [
            "event CronJob default/tick Warning UnknownTimeZone: invalid timeZone: \"Europe/Berlin\": only UTC is known here"
        ]
    );
    assert!(run(&cron(json!({"timeZone": "Etc/UTC"})), &[], now)[0].starts_with("create"));
    assert_eq!(
        run(&cron(json!({"schedule": "often"})), &[], now),
        [
            "event CronJob default/tick Warning UnparseableSchedule: unparseable schedule: \"often\" : expected exactly 5 fields, found 1: [\"often\"]"
        ]
    );
}

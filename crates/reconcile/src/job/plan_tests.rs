//! Stories of a Job as plans, and whole Jobs in a toy cluster at random.

use super::{Observed, plan, release_orphan};
use crate::action::{Action, JOBS, PODS};
use crate::pod::{Phase, Pod};
use crate::toy::{Dice, World, brief};
use meta::{Value, object};
use std::sync::Arc;
use value::json;

const NOW: i64 = 1_000_000_000;

fn job(spec: Value) -> Value {
    let mut job = json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "sum", "namespace": "default", "uid": "j"},
        "spec": {"parallelism": 1, "completions": 1, "backoffLimit": 1, "selector": {"matchLabels": {"job": "sum"}},
            "template": {"metadata": {"labels": {"job": "sum"}}, "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        job["spec"][key] = value.clone();
    }
    job
}

fn pod(name: &str, phase: Phase) -> Pod {
    let mut pod = Pod::from_object(
        &json!({"metadata": {"namespace": "default", "name": name, "uid": name, "labels": {"job": "sum"}}}),
    );
    pod.controller_uid = Some("j".into());
    pod.phase = phase;
    pod.job_tracking = true;
    pod
}

fn run_at(job: &Value, pods: Vec<Pod>, now_micros: i64) -> Vec<Action> {
    let pods: Vec<Arc<Pod>> = pods.into_iter().map(Arc::new).collect();
    let observed = Observed {
        pods: &pods,
        creations_in_flight: 0,
        deletions_in_flight: 0,
    };
    plan(&Arc::new(job.clone()), &observed, now_micros)
}

fn run(job: &Value, pods: Vec<Pod>) -> Vec<Action> {
    run_at(job, pods, NOW)
}

/// The Job with the status a plan wrote.
fn after(mut job: Value, plan: &[Action]) -> Value {
    for action in plan {
        if let Action::UpdateStatus { object, .. } = action {
            job["status"] = object["status"].clone();
        }
    }
    job
}

#[test]
fn a_job_succeeds_step_by_step() {
    let first = run(&job(json!({})), vec![]);
    let expected = "\
status jobs.batch sum ready=0 startTime=\"1970-01-01T00:16:40Z\" terminating=0 uncountedTerminatedPods={}
create pods sum-*
";
    assert_eq!(brief(&first), expected);
    let started = after(job(json!({})), &first);
    let second = run(&started, vec![pod("p", Phase::Succeeded)]);
    let expected = "\
status jobs.batch sum ready=0 startTime=\"1970-01-01T00:16:40Z\" terminating=0 uncountedTerminatedPods={\"succeeded\":[\"p\"]}
  SuccessCriteriaMet=True CompletionsReached Reached expected number of succeeded pods
patch pods p {metadata:{$deleteFromPrimitiveList/finalizers:[batch.kubernetes.io/job-tracking],uid:p}}
";
    assert_eq!(brief(&second), expected);
    let listed = after(started, &second);
    let mut released = pod("p", Phase::Succeeded);
    released.job_tracking = false;
    let third = run(&listed, vec![released.clone()]);
    let expected = "\
status jobs.batch sum completionTime=\"1970-01-01T00:16:40Z\" ready=0 startTime=\"1970-01-01T00:16:40Z\" succeeded=1 terminating=0 uncountedTerminatedPods={}
  SuccessCriteriaMet=True CompletionsReached Reached expected number of succeeded pods
  Complete=True CompletionsReached Reached expected number of succeeded pods
event Job default/sum Normal Completed: Job completed
";
    assert_eq!(brief(&third), expected);
    assert_eq!(brief(&run(&after(listed, &third), vec![released])), "");
}

#[test]
fn a_job_fails_past_its_backoff_limit() {
    let failed = ["a", "b"].map(|name| pod(name, Phase::Failed));
    let first = run(
        &job(json!({"parallelism": 2, "completions": 3})),
        failed
            .into_iter()
            .chain([pod("c", Phase::Running)])
            .collect(),
    );
    let text = brief(&first);
    assert!(
        text.contains(
            "FailureTarget=True BackoffLimitExceeded Job has reached the specified backoff limit"
        ),
        "{text}"
    );
    assert!(
        text.contains("delete pods default/c uid=c\n") && !text.contains("create"),
        "{text}"
    );
    let last = run(&after(job(json!({})), &first), vec![]);
    let text = brief(&last);
    assert!(
        text.contains("failed=2") && text.contains("  Failed=True BackoffLimitExceeded"),
        "{text}"
    );
    assert!(text.ends_with("event Job default/sum Warning BackoffLimitExceeded: Job has reached the specified backoff limit\n"));
}

#[test]
fn a_failure_is_retried_after_a_pause_that_doubles() {
    let mut failed = pod("a", Phase::Failed);
    failed.finished_micros = Some(NOW - 4_000_000);
    let text = brief(&run(&job(json!({"backoffLimit": 6})), vec![failed.clone()]));
    assert!(
        text.ends_with("requeue after 6.000000s\n") && !text.contains("create"),
        "{text}"
    );
    let mut again = failed.clone();
    (again.name, again.uid) = ("b".into(), "b".into());
    let text = brief(&run(&job(json!({"backoffLimit": 6})), vec![failed, again]));
    assert!(text.ends_with("requeue after 16.000000s\n"), "{text}");
}

#[test]
fn indexes_are_handed_out_once_and_remembered() {
    let indexed = job(json!({"completionMode": "Indexed", "completions": 4, "parallelism": 2}));
    let mut done = pod("p0", Phase::Succeeded);
    done.completion_index = 0;
    let mut running = pod("p2", Phase::Running);
    running.completion_index = 2;
    let actions = run(&indexed, vec![done, running]);
    let text = brief(&actions);
    let expected = "\
status jobs.batch sum active=1 completedIndexes=\"0\" ready=0 startTime=\"1970-01-01T00:16:40Z\" succeeded=1 terminating=0 uncountedTerminatedPods={}
patch pods p0 {metadata:{$deleteFromPrimitiveList/finalizers:[batch.kubernetes.io/job-tracking],uid:p0}}
create pods sum-1-*
";
    assert_eq!(text, expected);
    let Some(Action::Create { object, .. }) = actions.last() else {
        panic!("{text}")
    };
    let expected = concat!(
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"batch.kubernetes.io/job-completion-index":"1"},"#,
        r#""finalizers":["batch.kubernetes.io/job-tracking"],"generateName":"sum-1-","#,
        r#""labels":{"batch.kubernetes.io/job-completion-index":"1","job":"sum"},"namespace":"default","#,
        r#""ownerReferences":[{"apiVersion":"batch/v1","blockOwnerDeletion":true,"controller":true,"kind":"Job","name":"sum","uid":"j"}]},"#,
        r#""spec":{"containers":[{"env":[{"name":"JOB_COMPLETION_INDEX","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['batch.kubernetes.io/job-completion-index']"}}}],"name":"c"}],"#,
        r#""hostname":"sum-1","restartPolicy":"Never"}}"#
    );
    assert_eq!(object.to_string(), expected);
}

#[test]
fn a_suspended_job_lets_its_pods_go_uncounted_and_resumes() {
    let suspended = job(json!({"suspend": true}));
    let first = run(&suspended, vec![pod("p", Phase::Running)]);
    let expected = "\
status jobs.batch sum active=1 ready=0 terminating=0 uncountedTerminatedPods={}
  Suspended=True JobSuspended Job suspended
event Job default/sum Normal Suspended: Job suspended
patch pods p {metadata:{$deleteFromPrimitiveList/finalizers:[batch.kubernetes.io/job-tracking],uid:p}}
delete pods default/p uid=p
";
    assert_eq!(brief(&first), expected);
    let mut resumed = after(suspended, &first);
    resumed["spec"]["suspend"] = json!(false);
    let text = brief(&run(&resumed, vec![]));
    assert!(
        text.contains("Suspended=False JobResumed Job resumed")
            && text.ends_with("create pods sum-*\n"),
        "{text}"
    );
}

#[test]
fn a_deadline_ends_a_job() {
    let hurried = job(json!({"activeDeadlineSeconds": 30}));
    let first = run(&hurried, vec![]);
    assert!(brief(&first).ends_with("requeue after 30.000000s\n"));
    let text = brief(&run_at(
        &after(hurried, &first),
        vec![pod("p", Phase::Running)],
        NOW + 30_000_000,
    ));
    assert!(
        text.contains(
            "FailureTarget=True DeadlineExceeded Job was active longer than specified deadline"
        ),
        "{text}"
    );
    assert!(text.ends_with("delete pods default/p uid=p\n"), "{text}");
}

#[test]
fn a_finished_job_expires_and_releases_what_is_left() {
    let mut finished = job(json!({"ttlSecondsAfterFinished": 60}));
    finished["status"] = json!({"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "1970-01-01T00:16:00Z"}]});
    let left = brief(&run(&finished, vec![pod("p", Phase::Succeeded)]));
    assert!(
        left.starts_with("patch pods p {metadata:{$deleteFromPrimitiveList")
            && left.ends_with("requeue after 20.000000s\n"),
        "{left}"
    );
    assert_eq!(
        brief(&run_at(&finished, vec![], NOW + 20_000_000)),
        "delete jobs.batch default/sum uid=j Foreground\n"
    );
    assert!(release_orphan(&pod("p", Phase::Running)).is_some());
}

#[test]
fn random_jobs_finish_with_every_success_counted_once() {
    for seed in 0..12 {
        let mut dice = Dice::new(seed);
        let mut world = World::new();
        let completions = 1 + dice.below(20);
        let indexed = dice.one_in(2);
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        world.create(JOBS, job(json!({"completions": completions, "parallelism": 1 + dice.below(6), "backoffLimit": 1000, "completionMode": mode})));
        let mut ended_well = 0;
        for _ in 0..6000 {
            world.now_micros += 1_000_000;
            match dice.below(4) {
                0 => {
                    let Some(job) = world.get(JOBS, "sum") else {
                        break;
                    };
                    let pods = world.pods();
                    let observed = Observed {
                        pods: &pods,
                        creations_in_flight: 0,
                        deletions_in_flight: 0,
                    };
                    let mut actions = plan(&job, &observed, world.now_micros);
                    // Sometimes the executor dies in the middle.
                    if dice.one_in(4) {
                        let kept = dice.below(actions.len() + 1);
                        actions.truncate(kept);
                    }
                    world.apply(&actions);
                }
                1 => world.kubelet_step(&mut dice),
                _ => {
                    let running: Vec<Arc<Value>> = world
                        .all(PODS)
                        .into_iter()
                        .filter(|pod| Pod::from_object(pod).phase == Phase::Running)
                        .collect();
                    if !running.is_empty() {
                        let well = !dice.one_in(6);
                        ended_well += usize::from(well);
                        let name = object::name(&running[dice.below(running.len())]).to_owned();
                        world.end_pod(&name, well);
                    }
                }
            }
            if let Some(job) = world.get(JOBS, "sum")
                && crate::pod::condition(&job, "Complete").is_some()
            {
                break;
            }
        }
        let job = world.get(JOBS, "sum").expect("the job");
        assert!(
            crate::pod::condition(&job, "Complete").is_some(),
            "seed {seed}: {}",
            job["status"]
        );
        let succeeded = object::i64_at(&job, &["status", "succeeded"]).unwrap_or(0);
        assert_eq!(succeeded, completions as i64, "seed {seed}");
        assert_eq!(
            ended_well, completions,
            "seed {seed}: no success was wasted"
        );
        if indexed {
            let all = if completions == 1 {
                "0".to_owned()
            } else if completions == 2 {
                "0,1".to_owned()
            } else {
                format!("0-{}", completions - 1)
            };
            assert_eq!(
                object::str_at(&job, &["status", "completedIndexes"]),
                Some(all.as_str())
            );
        }
        assert!(
            world.pods().iter().all(|pod| !pod.job_tracking),
            "seed {seed}: a finalizer stays"
        );
    }
}

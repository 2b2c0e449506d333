//! The kinds that own pods.

use crate::help::*;
use meta::Value;
use registry::{Update, scale_of, with_scale};
use value::json;

fn workload() -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}
        }
    })
}

fn job() -> Value {
    json!({"metadata": {"name": "pi"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "perl:5"}]}}}})
}

#[test]
fn deployment_defaults() {
    let created = create(resource("apps/v1", "deployments"), workload()).unwrap();
    assert_eq!(
        created["spec"],
        json!({
            "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{
                        "name": "c", "image": "nginx:1", "imagePullPolicy": "IfNotPresent",
                        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"
                    }],
                    "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
                    "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler"
                }
            }
        })
    );
    assert_eq!(created["metadata"]["generation"], json!(1));
}

#[test]
fn other_workloads_defaults() {
    let set = create(resource("apps/v1", "statefulsets"), workload()).unwrap();
    assert_eq!(set["spec"]["podManagementPolicy"], json!("OrderedReady"));
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
    );
    assert_eq!(
        set["spec"]["persistentVolumeClaimRetentionPolicy"],
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
    );
    assert_eq!(set["spec"]["replicas"], json!(1));
    let daemons = create(resource("apps/v1", "daemonsets"), workload()).unwrap();
    assert_eq!(
        daemons["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
    );
    assert_eq!(daemons["spec"]["revisionHistoryLimit"], json!(10));
    let cron = json!({"metadata": {"name": "c"}, "spec": {"schedule": "0 * * * *", "jobTemplate": {"spec": job()["spec"]}}});
    let cron = create(resource("batch/v1", "cronjobs"), cron).unwrap();
    assert_eq!(cron["spec"]["concurrencyPolicy"], json!("Allow"));
    assert_eq!(cron["spec"]["successfulJobsHistoryLimit"], json!(3));
    assert_eq!(cron["spec"]["failedJobsHistoryLimit"], json!(1));
    assert_eq!(
        cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["dnsPolicy"],
        json!("ClusterFirst")
    );
}

#[test]
fn selectors_and_templates_agree() {
    for (name, word) in [
        ("deployments", "deployment"),
        ("replicasets", "deployment"),
        ("statefulsets", "statefulset"),
        ("daemonsets", "daemonset"),
    ] {
        let res = resource("apps/v1", name);
        assert_eq!(
            faults(
                res,
                with(
                    workload(),
                    "spec.template.metadata.labels",
                    json!({"app": "x"})
                )
            ),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match template `labels`"
        );
        assert_eq!(
            faults(res, without(workload(), "spec.selector")),
            "spec.selector: Required value"
        );
        assert_eq!(
            faults(res, with(workload(), "spec.selector", json!({}))),
            format!("spec.selector: Invalid value: {{}}: empty selector is invalid for {word}")
        );
        assert_eq!(
            faults(
                res,
                with(
                    workload(),
                    "spec.template.spec.restartPolicy",
                    json!("Never")
                )
            ),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""
        );
        let old = stored(res, workload());
        let moved = with(
            with(
                old.clone(),
                "spec.selector.matchLabels",
                json!({"app": "x"}),
            ),
            "spec.template.metadata.labels",
            json!({"app": "x"}),
        );
        let text = refused(res, &old, moved);
        if name == "statefulsets" {
            assert!(text.contains("updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template'"), "{text}");
        } else {
            assert!(text.ends_with("spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable"), "{text}");
        }
    }
}

#[test]
fn deployment_faults() {
    let res = resource("apps/v1", "deployments");
    let cases = [
        (
            with(workload(), "spec.replicas", json!(-1)),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            with(
                workload(),
                "spec.strategy",
                json!({"type": "Recreate", "rollingUpdate": {}}),
            ),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            with(
                workload(),
                "spec.strategy",
                json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
            ),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            with(
                workload(),
                "spec.strategy",
                json!({"rollingUpdate": {"maxUnavailable": "101%"}}),
            ),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
        (
            with(
                with(workload(), "spec.minReadySeconds", json!(9)),
                "spec.progressDeadlineSeconds",
                json!(9),
            ),
            "spec.progressDeadlineSeconds: Invalid value: 9: must be greater than minReadySeconds",
        ),
    ];
    for (sent, text) in cases {
        assert_eq!(faults(res, sent), text);
    }
}

#[test]
fn a_job_selects_its_pods_by_its_uid() {
    let created = create(resource("batch/v1", "jobs"), job()).unwrap();
    let labels = json!({
        "batch.kubernetes.io/controller-uid": UID, "controller-uid": UID,
        "batch.kubernetes.io/job-name": "pi", "job-name": "pi"
    });
    assert_eq!(created["spec"]["template"]["metadata"]["labels"], labels);
    assert_eq!(
        created["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": UID}})
    );
    for (field, value) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ("manualSelector", json!(false)),
    ] {
        assert_eq!(created["spec"][field], value, "{field}");
    }
}

#[test]
fn job_rules() {
    let res = resource("batch/v1", "jobs");
    assert_eq!(
        faults(res, without(job(), "spec.template.spec.restartPolicy")),
        "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
    );
    assert_eq!(
        faults(
            res,
            with(job(), "spec.selector", json!({"matchLabels": {"a": "b"}}))
        ),
        "[spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` not auto-generated, \
         spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"00000000-0000-4000-8000-000000000000\",\
         \"batch.kubernetes.io/job-name\":\"pi\",\"controller-uid\":\"00000000-0000-4000-8000-000000000000\",\"job-name\":\"pi\"}: \
         `selector` does not match template `labels`]"
    );
    let old = stored(res, job());
    assert_eq!(
        refused(res, &old, with(old.clone(), "spec.completions", json!(2))),
        "Job.batch \"pi\" is invalid: spec.completions: Invalid value: 2: field is immutable"
    );
    updated(res, &old, with(old.clone(), "spec.parallelism", json!(2)));
    assert!(
        refused(
            res,
            &old,
            with(
                old.clone(),
                "spec.template.spec.containers.0.image",
                json!("x")
            )
        )
        .ends_with(": field is immutable")
    );
    let cron = json!({"metadata": {"name": "c"}, "spec": {"schedule": "x", "jobTemplate": {"spec": job()["spec"]}}});
    assert_eq!(
        faults(resource("batch/v1", "cronjobs"), cron),
        "spec.schedule: Invalid value: \"x\": expected exactly 5 fields, found 1: [x]"
    );
}

#[test]
fn scaling() {
    let res = resource("apps/v1", "deployments");
    let old = stored(res, workload());
    let scale = scale_of(res, &old).unwrap();
    assert_eq!(
        scale,
        json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": "web", "namespace": "default", "uid": UID, "resourceVersion": "7", "creationTimestamp": NOW},
            "spec": {"replicas": 1}, "status": {"replicas": 0, "selector": "app=web"}
        })
    );
    let more = with(scale.clone(), "spec.replicas", json!(5));
    let Ok(Update::Store(new)) = with_context(|ctx| with_scale(res, &old, &more, ctx)) else {
        panic!("a write")
    };
    assert_eq!(new["spec"]["replicas"], json!(5));
    assert_eq!(new["metadata"]["generation"], json!(2));
    let negative = with_context(|ctx| {
        with_scale(
            res,
            &old,
            &with(scale.clone(), "spec.replicas", json!(-1)),
            ctx,
        )
    })
    .unwrap_err();
    assert_eq!(
        negative.message,
        "Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    let stale = with_context(|ctx| {
        with_scale(
            res,
            &old,
            &with(scale, "metadata.resourceVersion", json!("1")),
            ctx,
        )
    })
    .unwrap_err();
    assert_eq!(stale.code, 409);
    let controllers = resource("v1", "replicationcontrollers");
    let plain =
        json!({"metadata": {"name": "rc"}, "spec": {"template": workload()["spec"]["template"]}});
    let controller = stored(controllers, plain);
    assert_eq!(
        scale_of(controllers, &controller).unwrap()["status"]["selector"],
        json!("app=web")
    );
    assert_eq!(
        scale_of(resource("v1", "pods"), &json!({}))
            .unwrap_err()
            .code,
        404
    );
}

#[test]
fn labels_of_a_template_are_checked() {
    let res = resource("apps/v1", "deployments");
    let sent = with(
        workload(),
        "spec.template.metadata.labels",
        json!({"app": "web", "bad key": "x"}),
    );
    assert!(faults(res, sent).starts_with(
        "spec.template.labels: Invalid value: \"bad key\": name part must consist of"
    ));
}

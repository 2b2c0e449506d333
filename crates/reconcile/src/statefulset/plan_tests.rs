//! Stories of StatefulSets: pods in, a plan as text out.

use super::*;
use crate::action::{Action, text};
use crate::deployment::template_hash;
use meta::object;
use value::json;

fn set(replicas: i64, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "default", "uid": "ss", "generation": 1},
        "spec": {"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"tier": "gold"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}],
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn revision_name(image: &str) -> String {
    format!(
        "db-{}",
        template_hash(&set(1, image)["spec"]["template"], 0)
    )
}

/// The revision of an image as the API has it.
fn revision(image: &str, number: i64) -> Arc<Value> {
    let observed = Observed {
        pods: &[],
        revisions: &[],
        has_claim: &|_| true,
        creations_in_flight: 1,
        deletions_in_flight: 0,
    };
    let plan = plan(&Arc::new(set(1, image)), &observed, 1);
    let Some(Action::Create { object, .. }) = plan.first() else {
        panic!("no revision")
    };
    let mut revision = Value::clone(object);
    revision["revision"] = json!(number);
    Arc::new(revision)
}

fn pod(number: i64, image: &str, ready: bool) -> Arc<Pod> {
    let name = format!("db-{number}");
    let mut pod = Pod::from_object(
        &json!({"metadata": {"namespace": "default", "name": name, "uid": name,
        "labels": {"app": "db", "controller-revision-hash": revision_name(image)}, "ownerReferences": [{"uid": "ss", "controller": true}]}}),
    );
    pod.ready_since_micros = ready.then_some(0);
    Arc::new(pod)
}

fn leaving(pod: &Arc<Pod>) -> Arc<Pod> {
    let mut pod = Pod::clone(pod);
    pod.deletion_micros = Some(1);
    Arc::new(pod)
}

fn full(set: &Value, pods: &[Arc<Pod>]) -> Vec<Action> {
    let revisions = [revision("v1", 1), revision("v2", 2)];
    let observed = Observed {
        pods,
        revisions: &revisions,
        has_claim: &|claim| claim == "data-db-1",
        creations_in_flight: 0,
        deletions_in_flight: 0,
    };
    plan(&Arc::new(set.clone()), &observed, 1)
}

/// The plan without the status and the revisions.
fn run(set: &Value, pods: &[Arc<Pod>]) -> Vec<String> {
    let lines = text(&full(set, pods));
    let short = |line: &str| line.split(" {").next().unwrap_or_default().to_owned();
    lines
        .lines()
        .filter(|line| !line.contains("/status") && !line.contains("controllerrevisions"))
        .map(short)
        .collect()
}

fn status(set: &Value, pods: &[Arc<Pod>]) -> Value {
    let plan = full(set, pods);
    let status = plan.iter().find_map(|action| match action {
        Action::UpdateStatus { object, .. } => Some(object["status"].clone()),
        _ => None,
    });
    status.unwrap_or(Value::Null)
}

fn all(count: i64, image: &str) -> Vec<Arc<Pod>> {
    (0..count).map(|number| pod(number, image, true)).collect()
}

#[test]
fn pods_come_one_by_one_and_go_from_the_top() {
    let three = set(3, "v1");
    assert_eq!(
        run(&three, &[]),
        [
            "create persistentvolumeclaims default/data-db-0",
            "create pods default/db-0"
        ]
    );
    assert!(
        run(&three, &[pod(0, "v1", false)]).is_empty(),
        "the next waits"
    );
    assert_eq!(
        run(&three, &[pod(0, "v1", true)]),
        ["create pods default/db-1"],
        "its claim is there already"
    );
    let five = all(5, "v1");
    assert_eq!(run(&three, &five), ["delete pods default/db-4 uid=db-4"]);
    let going = [&five[..4], &[leaving(&five[4])]].concat();
    assert!(run(&three, &going).is_empty(), "the one below waits");
}

#[test]
fn a_parallel_set_waits_for_nobody_and_makes_claims_first() {
    let mut parallel = set(3, "v1");
    parallel["spec"]["podManagementPolicy"] = json!("Parallel");
    assert_eq!(
        run(&parallel, &[]),
        [
            "create persistentvolumeclaims default/data-db-0",
            "create persistentvolumeclaims default/data-db-2",
            "create pods default/db-0",
            "create pods default/db-1",
            "create pods default/db-2"
        ]
    );
    let six = all(6, "v1");
    let going = [&six[..5], &[leaving(&six[5])]].concat();
    assert_eq!(
        run(&parallel, &going),
        [
            "delete pods default/db-4 uid=db-4",
            "delete pods default/db-3 uid=db-3"
        ]
    );
}

#[test]
fn a_pod_has_a_name_labels_a_host_name_and_volumes_of_its_own() {
    let mut named = set(1, "v1");
    named["spec"]["ordinals"] = json!({"start": 7});
    let plan = full(&named, &[]);
    let made: Vec<&Arc<Value>> = plan
        .iter()
        .filter_map(|action| match action {
            Action::Create { object, .. } => Some(object),
            _ => None,
        })
        .collect();
    let [claim, pod] = made[..] else {
        panic!("not a claim and a pod: {made:?}")
    };
    assert_eq!(object::name(claim), "data-db-7");
    assert_eq!(object::labels(claim), &json!({"app": "db", "tier": "gold"}));
    assert_eq!(
        object::labels(pod),
        &json!({"app": "db", "controller-revision-hash": revision_name("v1"),
            "statefulset.kubernetes.io/pod-name": "db-7", "apps.kubernetes.io/pod-index": "7"})
    );
    assert_eq!(
        (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
        (&json!("db-7"), &json!("db"))
    );
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-7"}}])
    );
}

#[test]
fn updates_go_from_the_top_down_to_the_partition() {
    let mut updated = set(3, "v2");
    assert_eq!(
        run(&updated, &all(3, "v1")),
        ["delete pods default/db-2 uid=db-2"]
    );
    let next = [pod(0, "v1", true), pod(1, "v1", true), pod(2, "v2", true)];
    assert_eq!(run(&updated, &next), ["delete pods default/db-1 uid=db-1"]);
    let starting = [pod(0, "v1", true), pod(1, "v1", true), pod(2, "v2", false)];
    assert!(run(&updated, &starting).is_empty());
    updated["spec"]["updateStrategy"] = json!({"rollingUpdate": {"partition": 2}});
    assert!(run(&updated, &next).is_empty());
    updated["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    assert!(run(&updated, &all(3, "v1")).is_empty());
}

#[test]
fn below_the_partition_a_pod_is_made_again_from_the_revision_before() {
    let mut updated = set(3, "v2");
    updated["spec"]["updateStrategy"] = json!({"rollingUpdate": {"partition": 2}});
    updated["status"] = json!({"currentRevision": revision_name("v1")});
    let image = |pods: &[Arc<Pod>]| {
        full(&updated, pods).iter().find_map(|action| match action {
            Action::Create {
                object, resource, ..
            } if *resource == crate::action::PODS => Some((
                object["spec"]["containers"][0]["image"].clone(),
                object::label(object, "controller-revision-hash").map(str::to_owned),
            )),
            _ => None,
        })
    };
    let rest = all(3, "v1");
    assert_eq!(
        image(&[rest[0].clone(), rest[2].clone()]),
        Some((json!("v1"), Some(revision_name("v1"))))
    );
    assert_eq!(
        image(&rest[..2]),
        Some((json!("v2"), Some(revision_name("v2"))))
    );
}

#[test]
fn the_status_tells_how_far_an_update_is() {
    let (v1, v2) = (revision_name("v1"), revision_name("v2"));
    let mut updated = set(3, "v2");
    updated["status"] = json!({"currentRevision": v1});
    let half = [pod(0, "v1", true), pod(1, "v1", true), pod(2, "v2", true)];
    assert_eq!(
        status(&updated, &half),
        json!({"observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3,
            "currentReplicas": 2, "updatedReplicas": 1, "currentRevision": v1, "updateRevision": v2})
    );
    assert_eq!(
        status(&updated, &all(3, "v2")),
        json!({"observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3,
            "currentReplicas": 3, "updatedReplicas": 3, "currentRevision": v2, "updateRevision": v2})
    );
}

#[test]
fn a_pod_that_ended_is_made_again_and_a_stranger_is_left_alone() {
    let mut ended = Pod::clone(&pod(0, "v1", false));
    ended.phase = crate::pod::Phase::Failed;
    assert_eq!(
        run(&set(1, "v1"), &[Arc::new(ended)]),
        [
            "event StatefulSet default/db Warning RecreatingFailedPod: StatefulSet default/db is recreating failed Pod db-0",
            "delete pods default/db-0 uid=db-0"
        ]
    );
    let mut stranger = Pod::clone(&pod(0, "v1", true));
    (stranger.name, stranger.controller_uid) = ("other-0".into(), None);
    assert_eq!(
        run(&set(0, "v1"), &[Arc::new(stranger)]),
        Vec::<String>::new()
    );
}

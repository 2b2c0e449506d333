//! Stories of a ReplicaSet as plans.

use super::{BURST_REPLICAS_MAX, Failure, Observed, plan, slow_start_batches};
use crate::action::{Action, text};
use crate::pod::Pod;
use crate::toy::brief;
use meta::Value;
use std::sync::Arc;
use value::json;

const NOW: i64 = 1_000_000_000;

fn set(replicas: i64) -> Arc<Value> {
    Arc::new(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "web", "namespace": "default", "uid": "rs", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}}}))
}

fn pod(name: &str, owner: Option<&str>, app: &str, ready_micros: Option<i64>) -> Arc<Pod> {
    let mut pod = Pod::from_object(
        &json!({"metadata": {"namespace": "default", "name": name, "uid": name, "labels": {"app": app}}}),
    );
    pod.controller_uid = owner.map(Box::from);
    pod.ready_since_micros = ready_micros;
    Arc::new(pod)
}

fn observed(pods: &[Arc<Pod>]) -> Observed<'_> {
    Observed {
        pods,
        sibling_pods: &[],
        creations_in_flight: 0,
        deletions_in_flight: 0,
        failure: None,
    }
}

#[test]
fn missing_pods_are_created_from_the_template() {
    let expected = concat!(
        r#"create pods default/web-* {"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"web-","labels":{"app":"web"},"namespace":"default","#,
        r#""ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"rs"}]},"#,
        r#""spec":{"containers":[{"name":"c"}]}}"#,
        "\n",
        r#"update replicasets.apps/status default/web {"observedGeneration":1,"replicas":0,"terminatingReplicas":0}"#,
        "\n"
    );
    assert_eq!(text(&plan(&set(1), &observed(&[]), NOW)), expected);
}

#[test]
fn surplus_pods_go_unready_first_and_the_status_counts() {
    let pods = [
        pod("a", Some("rs"), "web", Some(1)),
        pod("b", Some("rs"), "web", None),
        pod("c", Some("other"), "web", Some(1)),
    ];
    let expected = "\
delete pods default/b uid=b
status replicasets.apps web availableReplicas=1 fullyLabeledReplicas=2 observedGeneration=1 readyReplicas=1 replicas=2 terminatingReplicas=0
";
    assert_eq!(brief(&plan(&set(1), &observed(&pods), NOW)), expected);
}

#[test]
fn pods_are_adopted_and_released_by_their_labels() {
    let pods = [
        pod("free", None, "web", None),
        pod("renamed", Some("rs"), "other", None),
        pod("stranger", None, "other", None),
    ];
    let plan_text = brief(&plan(&set(1), &observed(&pods), NOW));
    let expected = "\
patch pods free {metadata:{ownerReferences:[{apiVersion:apps/v1,blockOwnerDeletion:true,controller:true,kind:ReplicaSet,name:web,uid:rs}],uid:free}}
patch pods renamed {metadata:{ownerReferences:[{$patch:delete,uid:rs}],uid:renamed}}
status replicasets.apps web fullyLabeledReplicas=1 observedGeneration=1 replicas=1 terminatingReplicas=0
";
    assert_eq!(plan_text, expected);
}

#[test]
fn a_plan_is_bounded_and_waits_for_what_is_in_flight() {
    let actions = plan(&set(10_000), &observed(&[]), NOW);
    let bodies: Vec<&Arc<Value>> = actions
        .iter()
        .filter_map(|action| {
            if let Action::Create { object, .. } = action {
                Some(object)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(bodies.len(), BURST_REPLICAS_MAX);
    assert!(
        bodies.iter().all(|body| Arc::ptr_eq(body, bodies[0])),
        "one body for all"
    );
    let waiting = Observed {
        creations_in_flight: 1,
        ..observed(&[])
    };
    assert!(!text(&plan(&set(10_000), &waiting, NOW)).contains("create"));
    assert_eq!(
        slow_start_batches(500).collect::<Vec<_>>(),
        [1, 2, 4, 8, 16, 32, 64, 128, 245]
    );
}

#[test]
fn ready_pods_become_available_after_a_while() {
    let mut patient = Value::clone(&set(1));
    patient["spec"]["minReadySeconds"] = json!(10);
    let pods = [pod("a", Some("rs"), "web", Some(NOW - 4_000_000))];
    let expected = "\
status replicasets.apps web fullyLabeledReplicas=1 observedGeneration=1 readyReplicas=1 replicas=1 terminatingReplicas=0
requeue after 6.000000s
";
    assert_eq!(
        brief(&plan(&Arc::new(patient), &observed(&pods), NOW)),
        expected
    );
}

#[test]
fn a_failure_is_shown_until_it_is_over() {
    let failing = Observed {
        failure: Some(Failure {
            creating: true,
            message: "quota",
        }),
        ..observed(&[])
    };
    let actions = plan(&set(1), &failing, NOW);
    assert!(brief(&actions).contains("ReplicaFailure=True FailedCreate quota"));
    let Some(Action::UpdateStatus { object, .. }) = actions.last() else {
        panic!("no status")
    };
    let recovered = plan(&Arc::new(object.clone()), &observed(&[]), NOW);
    assert!(!brief(&recovered).contains("ReplicaFailure") && brief(&recovered).contains("status"));
}

#[test]
fn a_replication_controller_is_served_alike() {
    let controller = Arc::new(json!({"apiVersion": "v1", "kind": "ReplicationController",
        "metadata": {"name": "web", "namespace": "default", "uid": "rc", "generation": 1},
        "spec": {"replicas": 1, "selector": {"app": "web"}, "template": {"metadata": {"labels": {"app": "web"}}}}}));
    let expected =
        "create pods web-*\nstatus replicationcontrollers web observedGeneration=1 replicas=0\n";
    assert_eq!(brief(&plan(&controller, &observed(&[]), NOW)), expected);
}

//! Stories of DaemonSets: nodes and pods in, a plan as text out.

use super::*;
use crate::action::Action;
use crate::deployment::template_hash;
use crate::toy::brief;
use meta::object;
use value::json;

const NOW: i64 = 100_000_000;

fn set(image: &str) -> Arc<Value> {
    Arc::new(json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "default", "uid": "ds", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "agent"}},
            "template": {"metadata": {"labels": {"app": "agent"}},
                "spec": {"nodeSelector": {"os": "linux"}, "containers": [{"name": "c", "image": image}]}}}}))
}

fn surging(image: &str) -> Arc<Value> {
    let mut set = Value::clone(&set(image));
    set["spec"]["updateStrategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    Arc::new(set)
}

type Node = (&'static str, Arc<NodeFacts>);

fn node(name: &'static str, os: &str, taint: Option<(&str, &str)>) -> Node {
    let taints: Vec<Value> = taint
        .iter()
        .map(|(key, effect)| json!({"key": key, "effect": effect}))
        .collect();
    let object =
        json!({"metadata": {"name": name, "labels": {"os": os}}, "spec": {"taints": taints}});
    (name, Arc::new(NodeFacts::from_object(&object)))
}

fn pod_object(node: &str, image: &str) -> Value {
    let hash = template_hash(&set(image)["spec"]["template"], 0);
    let name = format!("agent-{node}");
    json!({"metadata": {"namespace": "default", "name": name, "uid": name,
        "labels": {"app": "agent", "controller-revision-hash": hash}, "ownerReferences": [{"uid": "ds", "controller": true}]},
    "spec": {"nodeName": node}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn pod(node: &str, image: &str) -> Arc<Pod> {
    Arc::new(Pod::from_object(&pod_object(node, image)))
}

fn run(set: &Arc<Value>, nodes: &[Node], pods: &[Arc<Pod>]) -> Vec<Action> {
    let nodes: Vec<(&str, &Arc<NodeFacts>)> =
        nodes.iter().map(|(name, facts)| (*name, facts)).collect();
    let observed = Observed {
        nodes: &nodes,
        pods,
        revisions: &[],
        creations_in_flight: 0,
        deletions_in_flight: 0,
    };
    // Its revision is not what these stories are about.
    let is_other = |action: &Action| !action.to_string().contains("controllerrevisions");
    plan(set, &observed, NOW)
        .into_iter()
        .filter(is_other)
        .collect()
}

fn lines(plan: &[Action]) -> Vec<String> {
    let all = brief(plan);
    all.lines()
        .filter(|line| !line.starts_with("status"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_matching_node_gets_a_pod_that_asks_for_it() {
    let cordoned = Some(("node.kubernetes.io/unschedulable", "NoSchedule"));
    let nodes = [
        node("a", "linux", cordoned),
        node("b", "other", None),
        node("c", "linux", Some(("gpu", "NoSchedule"))),
    ];
    let actions = run(&set("v1"), &nodes, &[]);
    let expected = "create pods agent-*\nstatus daemonsets.apps agent currentNumberScheduled=0 desiredNumberScheduled=1 numberMisscheduled=0 numberReady=0 numberUnavailable=1 observedGeneration=1\n";
    assert_eq!(brief(&actions), expected);
    let Some(Action::Create { object, .. }) = actions.first() else {
        panic!("no creation")
    };
    assert_eq!(object["spec"]["nodeName"], Value::Null);
    assert_eq!(Pod::from_object(object).target_node(), "a");
    assert_eq!(object::array_at(object, &["spec", "tolerations"]).len(), 6);
    let made = [Arc::new(Pod::from_object(&{
        let mut made = Value::clone(object);
        made["metadata"]["uid"] = json!("made");
        made["metadata"]["name"] = json!("made");
        made
    }))];
    assert!(
        lines(&run(&set("v1"), &nodes, &made)).is_empty(),
        "it waits for the scheduler"
    );
    assert_eq!(
        lines(&run(&set("v1"), &nodes[1..], &made)),
        ["delete pods default/made uid=made"],
        "its node is gone"
    );
}

#[test]
fn the_first_action_is_the_revision_that_pods_name() {
    let (name, facts) = node("a", "linux", None);
    let observed = Observed {
        nodes: &[(name, &facts)],
        pods: &[],
        revisions: &[],
        creations_in_flight: 0,
        deletions_in_flight: 0,
    };
    let actions = plan(&set("v1"), &observed, NOW);
    let made: Vec<&Arc<Value>> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Create { object, .. } => Some(object),
            _ => None,
        })
        .collect();
    let hash = object::label(made[1], REVISION_HASH_LABEL).unwrap();
    assert_eq!(object::name(made[0]), format!("agent-{hash}"));
    assert_eq!(made[0]["kind"], "ControllerRevision");
    assert_eq!(made[1]["kind"], "Pod");
}

#[test]
fn pods_leave_nodes_that_match_no_longer() {
    let nodes = [
        node("a", "linux", Some(("gone", "NoExecute"))),
        node("b", "linux", None),
        node("c", "linux", Some(("full", "NoSchedule"))),
    ];
    let pods = [pod("a", "v1"), pod("b", "v1"), pod("c", "v1")];
    let text = brief(&run(&set("v1"), &nodes, &pods));
    assert!(
        text.starts_with("delete pods default/agent-a uid=agent-a\nstatus"),
        "{text}"
    );
    for part in [
        "numberAvailable=1",
        "desiredNumberScheduled=1",
        "numberMisscheduled=1",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn an_update_replaces_one_pod_at_a_time() {
    let nodes = ["a", "b", "c"].map(|name| node(name, "linux", None));
    let old = ["a", "b", "c"].map(|name| pod(name, "v1"));
    assert_eq!(
        lines(&run(&set("v2"), &nodes, &old)),
        ["delete pods default/agent-a uid=agent-a"]
    );
    assert_eq!(
        lines(&run(&set("v2"), &nodes, &old[1..])),
        ["create pods agent-*"]
    );
    let mixed = [pod("a", "v2"), pod("b", "v1"), pod("c", "v1")];
    assert_eq!(
        lines(&run(&set("v2"), &nodes, &mixed)),
        ["delete pods default/agent-b uid=agent-b"]
    );
    let mut manual = Value::clone(&set("v2"));
    manual["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    assert!(lines(&run(&Arc::new(manual), &nodes, &mixed)).is_empty());
}

#[test]
fn a_surging_update_starts_the_new_pod_before_the_old_one_goes() {
    let nodes = ["a", "b"].map(|name| node(name, "linux", None));
    let old = ["a", "b"].map(|name| pod(name, "v1"));
    assert_eq!(
        lines(&run(&surging("v2"), &nodes, &old)),
        ["create pods agent-*"]
    );
    let newer = |ready: bool| {
        let mut object = pod_object("a", "v2");
        object["metadata"]["uid"] = json!("newer");
        let mut pod = Pod::from_object(&object);
        pod.created_micros = NOW;
        pod.ready_since_micros = ready.then_some(NOW);
        Arc::new(pod)
    };
    let [a, b] = old;
    let starting = [a.clone(), b.clone(), newer(false)];
    assert!(lines(&run(&surging("v2"), &nodes, &starting)).is_empty());
    let text = brief(&run(&surging("v2"), &nodes, &starting));
    assert!(
        text.contains("numberAvailable=2") && text.contains("updatedNumberScheduled=1"),
        "{text}"
    );
    assert_eq!(
        lines(&run(&surging("v2"), &nodes, &[a, b, newer(true)])),
        [
            "create pods agent-*",
            "delete pods default/agent-a uid=agent-a"
        ]
    );
}

#[test]
fn a_failed_pod_is_replaced_after_a_pause() {
    let nodes = [node("a", "linux", None)];
    let failed = |created_micros: i64| {
        let mut pod = Pod::clone(&pod("a", "v1"));
        (pod.phase, pod.ready_since_micros) = (crate::pod::Phase::Failed, None);
        pod.created_micros = created_micros;
        [Arc::new(pod)]
    };
    assert_eq!(
        lines(&run(&set("v1"), &nodes, &failed(NOW - 4_000_000))),
        ["requeue after 6.000000s"]
    );
    let text = lines(&run(&set("v1"), &nodes, &failed(0)));
    assert_eq!(
        text[0],
        "event DaemonSet default/agent Warning FailedDaemonPod: Found failed daemon pod default/agent-a on node a, will try to kill it"
    );
    assert_eq!(text[1], "delete pods default/agent-a uid=agent-a");
}

#[test]
fn of_two_pods_on_a_node_the_older_stays() {
    let nodes = [node("a", "linux", None)];
    let mut second = Pod::clone(&pod("a", "v1"));
    (second.uid, second.created_micros) = ("second".into(), 5);
    assert_eq!(
        lines(&run(
            &set("v1"),
            &nodes,
            &[Arc::new(second), pod("a", "v1")]
        )),
        ["delete pods default/agent-a uid=second"]
    );
}

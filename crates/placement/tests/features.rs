//! Pods that need a feature go to nodes that declare it, and this is asked last.

use placement::queue::Event;
use placement::{Cluster, Config, NodeInfo, PickError, Plugin, PluginSet, PodInfo, Profile};
use value::{Value, json};

fn node(name: &str, cpu: &str, features: &[&str]) -> NodeInfo {
    let object = json!({"metadata": {"name": name}, "status": {"declaredFeatures": features,
        "allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "9"}}});
    NodeInfo::from_object(&object).unwrap()
}

fn pod(rules: Value) -> PodInfo {
    let object = json!({"metadata": {"name": "p", "namespace": "n", "uid": "p"},
        "spec": {"containers": [{"name": "c", "restartPolicyRules": rules,
            "resources": {"requests": {"cpu": "2"}}}]}});
    PodInfo::from_object(&object).unwrap()
}

#[test]
fn a_pod_that_needs_a_feature_waits_for_a_node_that_declares_it() {
    let mut cluster = Cluster::new(Config::default());
    cluster.upsert_node(&node("old", "4", &["Other"]));
    cluster.upsert_node(&node("small", "1", &["Other"]));
    let needs = pod(json!([{"action": "RestartAllContainers"}]));
    let class = cluster.class_of(&needs.spec);
    let plain = cluster.class_of(&pod(json!([])).spec);
    assert!(cluster.pick(plain, None, &mut || 0).is_ok());
    let Err(PickError::Unschedulable(why)) = cluster.pick(class, None, &mut || 0) else {
        panic!("no node declares it")
    };
    assert_eq!(
        why.message(),
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's required features."
    );
    let features = PluginSet::of(&[Plugin::NodeDeclaredFeatures, Plugin::NodeResourcesFit]);
    assert_eq!((why.rejected_by, why.preemptible), (features, 0));
    let old = cluster.node("old").unwrap();
    assert_eq!(cluster.could_suit(class, old), Some(false));
    let change = cluster.upsert_node(&node(
        "old",
        "4",
        &["Other", "RestartAllContainersOnContainerExits"],
    ));
    assert_eq!(
        Event::of_node(change).collect::<Vec<_>>(),
        [Event::NodeFeatures]
    );
    assert_eq!(cluster.could_suit(class, old), Some(true));
    assert_eq!(cluster.pick(class, None, &mut || 0), Ok(old));
    assert_eq!(cluster.audit(class, old), Some(true));
    cluster.upsert_node(&node("old", "4", &[]));
    assert!(cluster.pick(class, None, &mut || 0).is_err());
}

#[test]
fn where_the_plugin_is_off_it_is_not_asked() {
    let filters = PluginSet::ALL.without(Plugin::NodeDeclaredFeatures);
    let mut cluster = Cluster::new(Config {
        profiles: vec![Profile {
            filters,
            ..Profile::default()
        }],
        ..Config::default()
    });
    cluster.upsert_node(&node("n", "4", &[]));
    let class = cluster.class_of(&pod(json!([{"action": "RestartAllContainers"}])).spec);
    assert!(cluster.pick(class, None, &mut || 0).is_ok());
}

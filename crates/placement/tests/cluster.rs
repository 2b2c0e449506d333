//! The cluster by example: messages, pins, ties, and nodes that come and go.

use placement::{
    Cluster, Config, Explanation, NodeInfo, PickError, Plugin, PodInfo, PodKey, Scores,
};
use value::{Value, json};

fn cluster() -> Cluster {
    Cluster::new(Config::default())
}

fn node(name: &str, cpu: &str, pods: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "os": "linux"}},
        "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": pods}},
    })
}

fn pod(uid: &str, cpu: &str) -> Value {
    json!({
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
    })
}

fn join(cluster: &mut Cluster, node: &Value) {
    cluster.upsert_node(&NodeInfo::from_object(node).unwrap());
}

fn observe(cluster: &mut Cluster, pod: &Value) -> bool {
    cluster.observe_pod(&PodInfo::from_object(pod).unwrap())
}

fn pick(cluster: &mut Cluster, pod: &Value) -> Result<String, String> {
    let pod = PodInfo::from_object(pod).unwrap();
    let class = cluster.class_of(&pod.spec);
    match cluster.pick(class, pod.pin.as_deref(), &mut || 0) {
        Ok(node) => Ok(cluster.node_name(node).unwrap().to_owned()),
        Err(PickError::Unschedulable(why)) => Err(why.message()),
        Err(PickError::UnknownClass) => panic!("class just asked for"),
    }
}

#[test]
fn failures_read_as_users_know_them() {
    let mut cluster = cluster();
    assert_eq!(
        pick(&mut cluster, &pod("p", "1")),
        Err("no nodes available to schedule pods".into())
    );
    for n in 0..3 {
        join(&mut cluster, &node(&format!("small-{n}"), "500m", "0"));
    }
    let mut tainted = node("tainted", "8", "10");
    tainted["spec"]["taints"] = json!([{"key": "gpu", "effect": "NoSchedule"}]);
    join(&mut cluster, &tainted);
    let mut cordoned = node("cordoned", "8", "10");
    cordoned["spec"]["unschedulable"] = true.into();
    join(&mut cluster, &cordoned);
    assert_eq!(
        pick(&mut cluster, &pod("p", "1")),
        Err(
            "0/5 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were \
             unschedulable, 3 Insufficient cpu, 3 Too many pods."
                .into()
        )
    );
    let mut picky = pod("p", "1");
    picky["spec"]["nodeSelector"] = json!({"os": "windows"});
    assert_eq!(
        pick(&mut cluster, &picky),
        Err(
            "0/5 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were \
             unschedulable, 3 node(s) didn't match Pod's node affinity/selector."
                .into()
        )
    );
    let info = PodInfo::from_object(&pod("p", "1")).unwrap();
    let class = cluster.class_of(&info.spec);
    let Err(PickError::Unschedulable(why)) = cluster.pick(class, None, &mut || 0) else {
        panic!("nothing fits");
    };
    assert!(why.rejected_by.contains(Plugin::NodeResourcesFit));
    assert!(!why.rejected_by.contains(Plugin::NodeAffinity));
    assert_eq!(
        why.preemptible, 0,
        "more is asked than any node of these has"
    );
}

fn daemon(uid: &str, node: &str) -> Value {
    let mut daemon = pod(uid, "1");
    daemon["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({
        "nodeSelectorTerms": [{"matchFields":
            [{"key": "metadata.name", "operator": "In", "values": [node]}]}],
    });
    daemon
}

#[test]
fn daemon_pods_are_one_class_and_go_where_they_are_told() {
    let mut cluster = cluster();
    for n in 0..4 {
        join(&mut cluster, &node(&format!("n{n}"), "1", "10"));
    }
    for n in 0..4 {
        let name = format!("n{n}");
        let daemon = daemon(&format!("d{n}"), &name);
        assert_eq!(pick(&mut cluster, &daemon), Ok(name.clone()));
        let mut bound = daemon.clone();
        bound["spec"]["nodeName"] = name.into();
        assert!(observe(&mut cluster, &bound));
    }
    assert_eq!(cluster.sizes().classes, 1);
    assert_eq!(
        pick(&mut cluster, &daemon("again", "n2")),
        Err(
            "0/4 nodes are available: 1 Insufficient cpu, 3 node(s) didn't satisfy plugin(s) \
             [NodeAffinity]."
                .into()
        )
    );
    assert_eq!(
        pick(&mut cluster, &daemon("nowhere", "n9")),
        Err("0/4 nodes are available: 4 node(s) didn't satisfy plugin(s) [NodeAffinity].".into())
    );
}

#[test]
fn host_names_do_not_split_shapes_until_somebody_asks() {
    let mut cluster = cluster();
    for n in 0..100 {
        join(&mut cluster, &node(&format!("n{n}"), "4", "10"));
    }
    // The shape of absent nodes, and the one of all the others.
    assert_eq!(cluster.sizes().shapes, 2);
    assert_eq!(cluster.sizes().live_states, 1);
    let mut picky = pod("p", "1");
    picky["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "n42"});
    assert_eq!(pick(&mut cluster, &picky), Ok("n42".into()));
    assert_eq!(cluster.sizes().shapes, 3);
    assert_eq!(cluster.sizes().live_states, 2);
    // A node that joins later is seen by the classes there are.
    let mut picky = pod("p", "1");
    picky["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "late"});
    assert!(pick(&mut cluster, &picky).is_err());
    join(&mut cluster, &node("late", "4", "10"));
    assert_eq!(pick(&mut cluster, &picky), Ok("late".into()));
}

#[test]
fn numeric_host_names_can_be_compared() {
    let mut cluster = cluster();
    join(&mut cluster, &node("7", "4", "10"));
    join(&mut cluster, &node("12", "4", "10"));
    let mut picky = pod("p", "1");
    picky["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({
        "nodeSelectorTerms": [{"matchExpressions":
            [{"key": "kubernetes.io/hostname", "operator": "Gt", "values": ["8"]}]}],
    });
    assert_eq!(pick(&mut cluster, &picky), Ok("12".into()));
}

#[test]
fn ties_are_drawn_node_by_node_not_state_by_state() {
    let mut cluster = cluster();
    // Three shapes that score alike; label "pool" tells them apart for nobody but the second class.
    for (pool, count) in [("a", 1), ("b", 3), ("c", 12)] {
        for n in 0..count {
            let mut object = node(&format!("{pool}{n}"), "4", "10");
            object["metadata"]["labels"]["pool"] = pool.into();
            join(&mut cluster, &object);
        }
    }
    let mut asks = pod("p", "1");
    asks["spec"]["nodeSelector"] = json!({"pool": "a"});
    assert_eq!(pick(&mut cluster, &asks), Ok("a0".into()));
    asks["spec"]["nodeSelector"] = json!({"pool": "b"});
    assert!(pick(&mut cluster, &asks).is_ok());
    assert_eq!(cluster.sizes().live_states, 3);

    let info = PodInfo::from_object(&pod("p", "1")).unwrap();
    let class = cluster.class_of(&info.spec);
    let mut seed = 88_172_645_463_325_252u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut hits = std::collections::BTreeMap::<String, u32>::new();
    const DRAWS: u32 = 16_000;
    for _ in 0..DRAWS {
        let node = cluster.pick(class, None, &mut random).unwrap();
        *hits
            .entry(cluster.node_name(node).unwrap().into())
            .or_default() += 1;
    }
    assert_eq!(hits.len(), 16);
    // 1000 expected of each, standard deviation 31: five of them either way.
    assert!(
        hits.values().all(|&n| (845..=1155).contains(&n)),
        "{hits:?}"
    );
}

#[test]
fn pods_may_be_seen_before_their_node_and_after_it() {
    let mut cluster = cluster();
    let mut bound = pod("early", "3");
    bound["spec"]["nodeName"] = "n1".into();
    assert!(observe(&mut cluster, &bound));
    assert_eq!((cluster.nodes(), cluster.pods()), (0, 1));
    assert!(cluster.node("n1").is_none());
    join(&mut cluster, &node("n1", "4", "10"));
    assert!(pick(&mut cluster, &pod("p", "2")).is_err());
    assert!(cluster.remove_node("n1"));
    join(&mut cluster, &node("n1", "4", "10"));
    assert!(
        pick(&mut cluster, &pod("p", "2")).is_err(),
        "the pod is still there"
    );
    assert!(cluster.remove_pod(PodKey::of("early")));
    assert_eq!(pick(&mut cluster, &pod("p", "2")), Ok("n1".into()));
    // A resize of a bound pod moves its node.
    assert!(observe(&mut cluster, &bound));
    bound["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1".into();
    assert!(observe(&mut cluster, &bound));
    assert_eq!(pick(&mut cluster, &pod("p", "3")), Ok("n1".into()));
    // A pod known to sit on a node nobody ever told us about changes its request there.
    bound["metadata"]["uid"] = "lost".into();
    bound["spec"]["nodeName"] = "ghost".into();
    assert!(observe(&mut cluster, &bound));
    bound["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2".into();
    assert!(observe(&mut cluster, &bound));
    assert!(cluster.remove_pod(PodKey::of("lost")));
    assert_eq!((cluster.nodes(), cluster.pods()), (1, 1));
}

#[test]
fn assumptions_count_until_confirmed_or_taken_back() {
    let mut cluster = cluster();
    join(&mut cluster, &node("n1", "1", "10"));
    let info = PodInfo::from_object(&pod("a", "1")).unwrap();
    let class = cluster.class_of(&info.spec);
    let node = cluster.pick(class, None, &mut || 0).unwrap();
    assert!(cluster.assume(PodKey::of("a"), class, node));
    assert_eq!(cluster.fits(class, node), Some(false));
    assert!(cluster.forget(PodKey::of("a")));
    assert_eq!(cluster.fits(class, node), Some(true));
    assert!(cluster.assume(PodKey::of("a"), class, node));
    let mut bound = pod("a", "1");
    bound["spec"]["nodeName"] = "n1".into();
    assert!(!observe(&mut cluster, &bound), "nothing new");
    assert!(!cluster.forget(PodKey::of("a")), "it is bound now");
    assert_eq!(cluster.fits(class, node), Some(false));
}

#[test]
fn evicted_classes_are_refused_and_retained_ones_stay() {
    let mut cluster = Cluster::new(Config {
        classes_max: 2,
        ..Config::default()
    });
    join(&mut cluster, &node("n1", "4", "10"));
    let spec = |cpu: &str| PodInfo::from_object(&pod("p", cpu)).unwrap().spec;
    let kept = cluster.class_of(&spec("1"));
    cluster.retain_class(kept);
    let dropped = cluster.class_of(&spec("2"));
    cluster.class_of(&spec("3"));
    assert_eq!(
        cluster.pick(dropped, None, &mut || 0),
        Err(PickError::UnknownClass)
    );
    assert!(cluster.pick(kept, None, &mut || 0).is_ok());
    cluster.release_class(kept);
    for cpu in ["4", "5"] {
        cluster.class_of(&spec(cpu));
    }
    assert_eq!(
        cluster.pick(kept, None, &mut || 0),
        Err(PickError::UnknownClass)
    );
}

/// 4 cores and 32Gi, empty; a pod of 100m and 500Mi, as in the usual benchmark.
#[test]
fn scores_by_hand() {
    let mut cluster = cluster();
    let mut plain = node("plain", "4", "110");
    plain["status"]["allocatable"]["memory"] = "32Gi".into();
    let mut soft = plain.clone();
    soft["metadata"]["name"] = "soft".into();
    soft["metadata"]["labels"] = json!({"disk": "ssd"});
    soft["spec"]["taints"] = json!([{"key": "k", "effect": "PreferNoSchedule"}]);
    join(&mut cluster, &plain);
    join(&mut cluster, &soft);
    let mut object = pod("p", "100m");
    object["spec"]["containers"][0]["resources"]["requests"]["memory"] = "500Mi".into();
    object["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([
        {"weight": 10, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}},
        {"weight": 30, "preference": {"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]}},
    ]);
    let info = PodInfo::from_object(&object).unwrap();
    let class = cluster.class_of(&info.spec);
    // fit: cpu 3900*100/4000 = 97, memory 32268 Mi of 32768 Mi = 98; mean 97.
    // balance: |0.025 - 0.01526| / 2 = 0.0049, so 99 with and 100 without: 50 + 49/2 = 74.
    let expect = |taint_raw, taint, affinity_raw, affinity| {
        Explanation::Feasible(Scores {
            taint_raw,
            taint,
            affinity_raw,
            affinity,
            fit: 97,
            balanced: 74,
            total: 3 * taint + 2 * affinity + 97 + 74,
            ..Scores::default()
        })
    };
    let explain = |cluster: &mut Cluster, name| {
        let node = cluster.node(name).unwrap();
        cluster.explain(class, node).unwrap()
    };
    assert_eq!(explain(&mut cluster, "plain"), expect(0, 100, 30, 100));
    assert_eq!(explain(&mut cluster, "soft"), expect(1, 0, 10, 33));
    // With the better one out of the race the other is the measure of things.
    plain["spec"]["unschedulable"] = true.into();
    join(&mut cluster, &plain);
    assert_eq!(explain(&mut cluster, "soft"), expect(1, 0, 10, 100));
}

#[test]
fn requests_by_hand() {
    let object = json!({
        "metadata": {"uid": "u"},
        "spec": {
            "initContainers": [
                {"name": "i1", "resources": {"requests": {"cpu": "2"}}},
                {"name": "s", "restartPolicy": "Always",
                 "resources": {"requests": {"cpu": "300m", "memory": "1Gi"}}},
                {"name": "i2", "resources": {"requests": {"cpu": "1900m"}}},
            ],
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1.5"}}},
                {"name": "b", "resources": {"requests": {"memory": "500m", "pods": "3", "odd": "1"}}},
            ],
            "overhead": {"cpu": "10m", "example.com/x": "2"},
        },
    });
    let request = PodInfo::from_object(&object).unwrap().spec.request;
    // i2 runs beside the sidecar: 2200m is the peak. 1.5 and 0.5 bytes are 2, not 3.
    assert_eq!(request.real.cpu_milli, 2210);
    assert_eq!(request.real.memory_bytes, (1 << 30) + 2);
    assert_eq!(request.real.scalars, vec![("example.com/x".into(), 2)]);
    assert_eq!(request.scored_cpu_milli, 2210);
    assert_eq!(request.scored_memory_bytes, (1 << 30) + (200 << 20));

    // A running container counts with what it holds until the shrink is done.
    let mut shrinking = pod("u", "1");
    shrinking["status"] = json!({"containerStatuses": [
        {"name": "c", "resources": {"requests": {"cpu": "3"}}, "allocatedResources": {"cpu": "2"}}]});
    let cpu = |object: &Value| {
        PodInfo::from_object(object)
            .unwrap()
            .spec
            .request
            .real
            .cpu_milli
    };
    assert_eq!(cpu(&shrinking), 3000);
    // A growth that cannot happen is not counted.
    let mut growing = pod("u", "9");
    growing["status"] = json!({
        "conditions": [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}],
        "containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]});
    assert_eq!(cpu(&growing), 1000);
}

#[test]
fn odd_objects_are_errors_or_read_as_empty_never_a_panic() {
    assert!(NodeInfo::from_object(&json!({})).is_err());
    assert!(PodInfo::from_object(&json!({"metadata": {}})).is_err());
    assert!(PodInfo::from_object(&json!({"metadata": {"uid": "u"}, "spec": 3})).is_ok());
    assert!(PodInfo::from_object(&pod("u", "one")).is_err());
    let mut cluster = cluster();
    join(&mut cluster, &json!({"metadata": {"name": "bare"}}));
    let huge = pod("u", "9223372036854775807");
    assert!(pick(&mut cluster, &huge).is_err());
    let mut bound = huge.clone();
    bound["spec"]["nodeName"] = "bare".into();
    assert!(observe(&mut cluster, &bound));
    bound["metadata"]["uid"] = "v".into();
    assert!(observe(&mut cluster, &bound));
    assert!(cluster.remove_pod(PodKey::of("u")) && cluster.remove_pod(PodKey::of("v")));
    join(&mut cluster, &node("bare", "1", "1"));
    assert_eq!(pick(&mut cluster, &pod("w", "1")), Ok("bare".into()));
}

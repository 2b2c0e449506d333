//! Profiles: the same cluster by other rules.

use placement::{
    Cluster, Config, Explanation, NodeInfo, PickError, Plugin, PluginSet, PodInfo, PodKey, Profile,
    SpreadDefaults, Strategy, Weights, required_terms,
};
use value::{Value, json};

fn cluster(profiles: Vec<Profile>) -> Cluster {
    Cluster::new(Config {
        profiles,
        ..Config::default()
    })
}

fn node(cluster: &mut Cluster, name: &str, amounts: Value, more: Value) {
    let mut node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": amounts}});
    for (key, value) in more.as_object().into_iter().flatten() {
        node[key] = value.clone();
    }
    cluster.upsert_node(&NodeInfo::from_object(&node).unwrap());
}

fn pod(requests: Value, profile: u16) -> PodInfo {
    let pod = json!({"metadata": {"name": "p", "namespace": "default", "uid": "p", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]}});
    let mut info = PodInfo::from_object(&pod).unwrap();
    info.spec.profile = profile;
    info
}

/// Where a pod goes; it is one of the best by explanation, or none would do.
fn goes(cluster: &mut Cluster, pod: &PodInfo, names: &[&str]) -> Result<String, String> {
    let class = cluster.class_of(&pod.spec);
    let mut best = None;
    for name in names {
        let node = cluster.node(name).unwrap();
        if let Some(Explanation::Feasible(scores)) = cluster.explain(class, node) {
            best = best.max(Some(scores.total));
        }
    }
    match cluster.pick(class, None, &mut || 7) {
        Ok(node) => {
            let Some(Explanation::Feasible(scores)) = cluster.explain(class, node) else {
                panic!("picked and not feasible")
            };
            assert_eq!(Some(scores.total), best);
            for name in names {
                let other = cluster.node(name).unwrap();
                let as_good = match cluster.explain(class, other) {
                    Some(Explanation::Feasible(scores)) => Some(scores.total) == best,
                    _ => false,
                };
                assert_eq!(cluster.audit(class, other), Some(as_good));
            }
            Ok(cluster.node_name(node).unwrap().to_owned())
        }
        Err(PickError::Unschedulable(why)) => {
            assert_eq!(best, None);
            Err(why.message())
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn bound(cluster: &mut Cluster, uid: &str, node: &str, requests: Value) {
    let mut info = pod(requests, 0);
    info.uid = uid.into();
    info.node = Some(node.into());
    assert!(cluster.observe_pod(&info));
}

#[test]
fn strategies_fill_or_spread() {
    let packing = Profile {
        strategy: Strategy::MostAllocated,
        weights: Weights {
            fit: 100,
            ..Profile::default().weights
        },
        ..Profile::default()
    };
    // Best at half, worst when full.
    let middle = Profile {
        strategy: Strategy::RequestedToCapacityRatio(vec![(0, 0), (50, 10), (100, 0)]),
        weights: Weights {
            fit: 100,
            ..Profile::default().weights
        },
        ..Profile::default()
    };
    let mut cluster = cluster(vec![Profile::default(), packing, middle]);
    let names = ["empty", "half", "full"];
    for name in names {
        let amounts = json!({"cpu": "10", "memory": "10Gi", "pods": "100"});
        node(&mut cluster, name, amounts, json!({}));
    }
    bound(
        &mut cluster,
        "a",
        "half",
        json!({"cpu": "4", "memory": "4Gi"}),
    );
    bound(
        &mut cluster,
        "b",
        "full",
        json!({"cpu": "8", "memory": "8Gi"}),
    );
    let asks = json!({"cpu": "1", "memory": "1Gi"});
    for (profile, expected) in ["empty", "full", "half"].into_iter().enumerate() {
        let pod = pod(asks.clone(), profile as u16);
        assert_eq!(goes(&mut cluster, &pod, &names).as_deref(), Ok(expected));
    }
}

#[test]
fn other_resources_are_scored_where_they_are_asked_for() {
    let packing = Profile {
        strategy: Strategy::MostAllocated,
        fit_resources: vec![("example.com/gpu".into(), 5), ("cpu".into(), 1)],
        balanced_resources: vec!["cpu".into(), "memory".into(), "example.com/gpu".into()],
        ..Profile::default()
    };
    let mut cluster = cluster(vec![packing]);
    let names = ["free", "used"];
    for name in names {
        let amounts = json!({"cpu": "10", "memory": "10Gi", "pods": "100", "example.com/gpu": "8"});
        node(&mut cluster, name, amounts, json!({}));
    }
    bound(
        &mut cluster,
        "a",
        "used",
        json!({"example.com/gpu": "4", "cpu": "1"}),
    );
    let asking = pod(json!({"example.com/gpu": "2", "cpu": "1"}), 0);
    assert_eq!(goes(&mut cluster, &asking, &names).as_deref(), Ok("used"));
    let class = cluster.class_of(&asking.spec);
    let used = cluster.node("used").unwrap();
    let Some(Explanation::Feasible(scores)) = cluster.explain(class, used) else {
        panic!("not feasible")
    };
    // GPU 6 of 8: 75, five times; CPU 2 of 10: 20 (the CPU on the node was asked for by one pod of 1).
    assert_eq!(scores.fit, (5 * 75 + 20) / 6);
}

#[test]
fn plugins_that_are_off_say_nothing() {
    let off = |plugin| Profile {
        filters: PluginSet::ALL.without(plugin),
        ..Profile::default()
    };
    let mut cluster = cluster(vec![
        Profile::default(),
        off(Plugin::TaintToleration),
        off(Plugin::NodeResourcesFit),
        Profile {
            ignored_resources: vec!["example.com/dongle".into()],
            ignored_groups: vec!["other.org".into()],
            ..Profile::default()
        },
        off(Plugin::NodeAffinity),
    ]);
    let taints = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
    let amounts = json!({"cpu": "1", "memory": "1Gi", "pods": "10"});
    node(
        &mut cluster,
        "tainted",
        amounts.clone(),
        json!({"spec": taints}),
    );
    let small = json!({"cpu": "100m"});
    let message = goes(&mut cluster, &pod(small.clone(), 0), &["tainted"]).unwrap_err();
    assert_eq!(
        message,
        "0/1 nodes are available: 1 node(s) had untolerated taint(s)."
    );
    assert!(goes(&mut cluster, &pod(small, 1), &["tainted"]).is_ok());
    node(&mut cluster, "plain", amounts, json!({}));
    let elsewhere = json!({"metadata": {"name": "p", "namespace": "default", "uid": "p"}, "spec": {"containers": [],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
            [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gone"]}]}]}}}}});
    let mut elsewhere = PodInfo::from_object(&elsewhere).unwrap();
    for (profile, fits) in [(0, false), (4, true)] {
        elsewhere.spec.profile = profile;
        let class = cluster.class_of(&elsewhere.spec);
        let pin = elsewhere.pin.as_deref();
        assert_eq!(pin, Some("gone"));
        assert_eq!(cluster.pick(class, pin, &mut || 7).is_ok(), fits);
    }
    let names = ["tainted", "plain"];
    let large = json!({"cpu": "5"});
    assert!(goes(&mut cluster, &pod(large.clone(), 0), &names).is_err());
    assert!(goes(&mut cluster, &pod(large, 2), &names).is_ok());
    let odd = json!({"example.com/dongle": "1", "other.org/x": "1"});
    assert!(goes(&mut cluster, &pod(odd.clone(), 0), &names).is_err());
    assert!(goes(&mut cluster, &pod(odd, 3), &names).is_ok());
}

#[test]
fn affinity_of_the_profile_is_asked_first() {
    let affinity = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
        [{"matchExpressions": [{"key": "pool", "operator": "In", "values": ["ours"]}]}]}});
    let mut cluster = cluster(vec![Profile {
        added_required: required_terms(&affinity),
        ..Profile::default()
    }]);
    let amounts = json!({"cpu": "1", "memory": "1Gi", "pods": "10"});
    let pool = |name: &str| json!({"metadata": {"name": name, "labels": {"pool": name}}});
    node(&mut cluster, "theirs", amounts.clone(), pool("theirs"));
    let asks = pod(json!({"cpu": "100m"}), 0);
    assert_eq!(
        goes(&mut cluster, &asks, &["theirs"]).unwrap_err(),
        "0/1 nodes are available: 1 node(s) didn't match scheduler-enforced node affinity."
    );
    node(&mut cluster, "ours", amounts, pool("ours"));
    assert_eq!(
        goes(&mut cluster, &asks, &["theirs", "ours"]).as_deref(),
        Ok("ours")
    );
}

#[test]
fn default_spreading_can_be_hard_or_off() {
    let mut hard = SpreadDefaults::system();
    hard.system = false;
    hard.constraints.truncate(1);
    for constraint in &mut hard.constraints {
        (constraint.hard, constraint.max_skew) = (true, 1);
    }
    let none = SpreadDefaults {
        constraints: Vec::new(),
        system: false,
    };
    let with = |spread_defaults| Profile {
        spread_defaults,
        ..Profile::default()
    };
    let mut cluster = cluster(vec![with(hard), with(none)]);
    let selector = json!({"app": "web"});
    cluster.note_maker(placement::MakerKind::Service, "default", "web", &selector);
    for (name, cpu) in [("big", "64"), ("small", "1")] {
        let amounts = json!({"cpu": cpu, "memory": "1Gi", "pods": "100"});
        node(&mut cluster, name, amounts, json!({}));
    }
    let asks = json!({"cpu": "300m"});
    bound(&mut cluster, "a", "big", asks.clone());
    let names = ["big", "small"];
    assert_eq!(
        goes(&mut cluster, &pod(asks.clone(), 1), &names).as_deref(),
        Ok("big")
    );
    assert_eq!(
        goes(&mut cluster, &pod(asks.clone(), 0), &names).as_deref(),
        Ok("small")
    );
    for uid in ["b", "c", "d"] {
        bound(&mut cluster, uid, "small", json!({"cpu": "300m"}));
    }
    assert_eq!(
        goes(&mut cluster, &pod(asks, 0), &names).as_deref(),
        Ok("big")
    );
    assert!(cluster.has_pod(PodKey::of("d")));
}

#[test]
fn volumes_say_where_a_pod_can_go() {
    use placement::{VolumeReason, VolumeRule};
    let mut cluster = cluster(vec![
        Profile::default(),
        Profile {
            filters: PluginSet::ALL.without(Plugin::VolumeZone),
            ..Profile::default()
        },
    ]);
    let names = ["a", "b", "full"];
    for name in names {
        let cpu = if name == "full" { "50m" } else { "1" };
        let amounts = json!({"cpu": cpu, "memory": "1Gi", "pods": "10"});
        let labels = json!({"metadata": {"name": name, "labels": {"zone": name}}});
        node(&mut cluster, name, amounts, labels);
    }
    let rule = |reason, zones: Value| {
        let affinity = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
            [{"matchExpressions": [{"key": "zone", "operator": "In", "values": zones}]}]}});
        VolumeRule {
            reason,
            terms: required_terms(&affinity).unwrap(),
        }
    };
    let mut asks = pod(json!({"cpu": "100m"}), 0);
    asks.spec.volumes.rules = vec![rule(VolumeReason::NodeAffinity, json!(["b", "full"]))];
    assert_eq!(goes(&mut cluster, &asks, &names).as_deref(), Ok("b"));
    // Room is asked before volumes, zones after everything else about volumes.
    asks.spec.volumes.rules = vec![
        rule(VolumeReason::NodeAffinity, json!(["b"])),
        rule(VolumeReason::NoMatch, json!(["nowhere"])),
        rule(VolumeReason::Zone, json!(["nowhere"])),
    ];
    assert_eq!(
        goes(&mut cluster, &asks, &names).unwrap_err(),
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match PersistentVolume's node affinity, \
         2 node(s) didn't find available persistent volumes to bind."
    );
    asks.spec.volumes.rules = vec![rule(VolumeReason::Zone, json!(["full"]))];
    assert_eq!(
        goes(&mut cluster, &asks, &names).unwrap_err(),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had no available volume zone."
    );
    asks.spec.profile = 1;
    assert!(goes(&mut cluster, &asks, &names).is_ok());
    asks.spec.volumes.obstacle = Some("pod has unbound immediate PersistentVolumeClaims".into());
    let class = cluster.class_of(&asks.spec);
    let Err(PickError::Unschedulable(why)) = cluster.pick(class, None, &mut || 7) else {
        panic!("picked")
    };
    assert_eq!(
        why.message(),
        "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    );
}

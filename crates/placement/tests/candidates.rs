//! Many nodes for one pod: which, in what order, and the best among a few.

use placement::{
    Candidate, Cluster, Config, NodeInfo, PickError, PodInfo, PodKey, Preemption, ResourceList,
};
use value::json;

fn node(name: &str, cpu_milli: i64) -> NodeInfo {
    NodeInfo {
        name: name.into(),
        allocatable: ResourceList {
            cpu_milli,
            memory_bytes: 8 << 30,
            ..ResourceList::default()
        },
        allocatable_pods: 110,
        ..NodeInfo::default()
    }
}

fn pod(name: &str, cpu: &str, priority: i64, node: Option<&str>) -> PodInfo {
    let object = json!({"metadata": {"name": name, "namespace": "n", "uid": name},
        "spec": {"nodeName": node, "priority": priority, "containers": [{"name": "c",
            "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}]}});
    PodInfo::from_object(&object).unwrap()
}

/// Nodes `n0` … with 4 cores; `n0` holds 3 of them, `n1` 2, `n2` 1.
fn cluster(nodes: usize) -> Cluster {
    let mut cluster = Cluster::new(Config::default());
    for at in 0..nodes {
        cluster.upsert_node(&node(&format!("n{at}"), 4_000));
    }
    for at in 0..3.min(nodes) {
        let (name, cpu) = (format!("p{at}"), (3 - at).to_string());
        cluster.observe_pod(&pod(&name, &cpu, 0, Some(&format!("n{at}"))));
    }
    cluster
}

fn names(cluster: &Cluster, nodes: &[placement::NodeId]) -> Vec<String> {
    let name = |node: &placement::NodeId| cluster.node_name(*node).unwrap().to_owned();
    nodes.iter().map(name).collect()
}

#[test]
fn candidates_come_by_falling_scores_and_go_on_where_they_ended() {
    let mut cluster = cluster(4);
    let waiting = pod("w", "500m", 0, None);
    let class = cluster.class_of(&waiting.spec);
    let key = PodKey::of("w");
    let mut random = || 0;
    let mut ask = |range| {
        let found = cluster
            .candidates(key, class, None, range, &mut random)
            .unwrap();
        assert_eq!((found.total, found.nominated), (4, None));
        names(&cluster, &found.nodes)
    };
    assert_eq!(ask((0, 10)), ["n3", "n2", "n1", "n0"]);
    assert_eq!(ask((0, 2)), ["n3", "n2"]);
    assert_eq!(ask((2, 2)), ["n1", "n0"]);
    assert_eq!(ask((4, 1)), ["n3"], "behind the last one it begins again");
    assert_eq!(
        ask((10, 10)).len(),
        4,
        "where all are looked at none is passed over"
    );
    // The node in view comes beside them, if it passes; its own claim is none against it.
    let big = pod("b", "2500m", 0, None);
    let class = cluster.class_of(&big.spec);
    let third = cluster.node("n2").unwrap();
    assert!(cluster.nominate(PodKey::of("b"), class, third));
    let found = cluster
        .candidates(PodKey::of("b"), class, None, (0, 10), &mut || 0)
        .unwrap();
    assert_eq!(found.nominated, Some(third));
    assert_eq!(names(&cluster, &found.nodes), ["n3", "n2"]);
    let pinned = cluster
        .candidates(PodKey::of("b"), class, Some("n3"), (0, 10), &mut || 0)
        .unwrap();
    assert_eq!(pinned.nominated, None);
    assert_eq!(names(&cluster, &pinned.nodes), ["n3"]);
}

#[test]
fn among_equals_any_comes_first_and_nobody_twice() {
    let mut cluster = cluster(0);
    for at in 0..100 {
        cluster.upsert_node(&node(&format!("n{at}"), 4_000));
    }
    let class = cluster.class_of(&pod("w", "500m", 0, None).spec);
    let mut firsts = std::collections::BTreeSet::new();
    for at in 0..50u64 {
        let mut random = || at << 58;
        let found = cluster
            .candidates(PodKey::of("w"), class, None, (0, 30), &mut random)
            .unwrap();
        let mut nodes = names(&cluster, &found.nodes);
        firsts.insert(nodes[0].clone());
        nodes.sort();
        nodes.dedup();
        assert_eq!((nodes.len(), found.total), (30, 100));
    }
    assert!(firsts.len() > 20, "{firsts:?}");
}

#[test]
fn who_fits_nowhere_is_told_so_and_some_are_told_why_not_elsewhere() {
    let mut cluster = cluster(4);
    let huge = pod("h", "5", 0, None);
    let class = cluster.class_of(&huge.spec);
    let found = cluster.candidates(PodKey::of("h"), class, None, (0, 9), &mut || 0);
    let Err(PickError::Unschedulable(why)) = found else {
        panic!("{found:?}")
    };
    assert_eq!(
        why.message(),
        "0/4 nodes are available: 4 Insufficient cpu."
    );
    let class = cluster.class_of(&pod("m", "2500m", 0, None).spec);
    let why = cluster.rejections(class, None).unwrap();
    assert_eq!(why.reasons, [("Insufficient cpu".into(), 2)]);
    assert_eq!(why.nodes, 4);
}

#[test]
fn what_others_add_is_added_and_the_full_are_passed_over() {
    let mut cluster = cluster(4);
    let class = cluster.class_of(&pod("w", "1", 0, None).spec);
    let key = PodKey::of("w");
    let ids: Vec<_> = (0..4)
        .map(|at| cluster.node(&format!("n{at}")).unwrap())
        .collect();
    let mut among = |added: [i64; 4]| {
        let nodes: Vec<_> = ids.iter().copied().zip(added).collect();
        let picked = cluster.pick_among(key, class, &nodes, &mut || 0).unwrap();
        picked.map(|node| ids.iter().position(|id| *id == node).unwrap())
    };
    assert_eq!(among([0; 4]), Some(3));
    assert_eq!(among([1_000, 0, 0, 0]), Some(0));
    // LeastAllocated of n1, n2 and n3 with it: cpu 25, 50, 75; memory 75 (2 of 8 GiB), 75, 87.
    // Balance: 75 and 62 … the room between n2 and n3 is less than 40 and more than 10.
    assert_eq!(among([0, 0, 40, 0]), Some(2));
    assert_eq!(among([0, 0, 10, 0]), Some(3));
    cluster.observe_pod(&pod("late", "1", 0, Some("n0")));
    let only = [(ids[0], 1_000)];
    assert_eq!(cluster.pick_among(key, class, &only, &mut || 0), Ok(None));
    cluster.remove_node("n3");
    let gone = [(ids[3], 9), (ids[1], 0)];
    assert_eq!(
        cluster.pick_among(key, class, &gone, &mut || 0),
        Ok(Some(ids[1]))
    );
}

#[test]
fn sacrifices_are_handed_out_and_the_best_of_what_comes_back_is_made() {
    let mut cluster = cluster(2);
    cluster.observe_pod(&pod("extra", "1", 5, Some("n1")));
    let high = pod("high", "3", 10, None);
    let (key, class) = (PodKey::of("high"), cluster.class_of(&high.spec));
    let found = cluster
        .preemption_candidates((key, class), None, 10, 1, &mut || 0)
        .unwrap()
        .unwrap();
    let ids: Vec<_> = (0..2)
        .map(|at| cluster.node(&format!("n{at}")).unwrap())
        .collect();
    let candidate = |node, victims: &[&str]| Candidate {
        node,
        victims: victims.iter().map(|uid| PodKey::of(uid)).collect(),
        violations: 0,
    };
    // n0 gives up one of priority 0; on n1 the one of priority 5 stays, and the other goes.
    let mut expected = vec![candidate(ids[0], &["p0"]), candidate(ids[1], &["p1"])];
    expected.sort_by_key(|c| found.iter().position(|f| f == c));
    assert_eq!(found, expected);
    let best = cluster.preempt_best(class, &[candidate(ids[1], &["p1"])], 1);
    assert_eq!(
        best,
        Ok(Preemption::Found {
            node: ids[1],
            victims: vec![PodKey::of("p1")],
            displaced: Vec::new()
        })
    );
    // Lower priorities first; who is not there counts for nothing.
    let two = [candidate(ids[1], &["extra"]), candidate(ids[0], &["p0"])];
    let Ok(Preemption::Found { node, .. }) = cluster.preempt_best(class, &two, 1) else {
        panic!("nothing found")
    };
    assert_eq!(node, ids[0]);
    let nobody = [candidate(ids[0], &["p1"]), candidate(ids[1], &[])];
    assert_eq!(
        cluster.preempt_best(class, &nobody, 1),
        Ok(Preemption::Hopeless(
            "no candidate node for preemption".into()
        ))
    );
    let all = cluster.preemption_candidates((key, class), None, 1, 1, &mut || 0);
    assert_eq!(all.unwrap().unwrap().len(), 1);
}

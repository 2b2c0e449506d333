//! Preemption among many nodes, of which a part is tried: one tried for all that are alike comes to the very same as each
//! tried by itself. And nodes that are drawn among equals, each as often as any other.

use placement::{
    Admission, Budget, ClassId, Cluster, Config, NodeInfo, PodInfo, PodKey, PodRequest, PodSpec,
    Preemption, Profile, ResourceList,
};
use proptest::prelude::*;
use value::json;

const NOW_MICROS: i64 = 1_000_000;

fn dice(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

fn node(index: usize, zone: &str) -> NodeInfo {
    NodeInfo {
        name: format!("node-{index}").into(),
        labels: vec![("zone".into(), zone.into())],
        allocatable: ResourceList {
            cpu_milli: 4_000,
            memory_bytes: 4 << 30,
            ..ResourceList::default()
        },
        allocatable_pods: 10,
        ..NodeInfo::default()
    }
}

fn spec(cpu_milli: i64, app: &str, priority: i32) -> PodSpec {
    PodSpec {
        request: PodRequest {
            real: ResourceList {
                cpu_milli,
                ..ResourceList::default()
            },
            scored_cpu_milli: cpu_milli,
            scored_memory_bytes: 200 << 20,
        },
        namespace: "default".into(),
        labels: vec![("app".into(), app.into())],
        priority,
        ..PodSpec::default()
    }
}

fn bound(number: usize, node: usize, spec: PodSpec, started_micros: i64) -> PodInfo {
    PodInfo {
        namespace: "default".into(),
        name: format!("pod-{number}").into(),
        uid: format!("pod-{number}").into(),
        node: Some(format!("node-{node}").into()),
        started_micros,
        spec,
        ..PodInfo::default()
    }
}

fn budget(name: &str, app: &str, allowed: i64, disrupted: Option<&str>) -> Budget {
    let mut object = json!({
        "metadata": {"namespace": "default", "name": name},
        "spec": {"selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed},
    });
    if let Some(name) = disrupted {
        object["status"]["disruptedPods"] = json!({name: "2026-01-01T00:00:00Z"});
    }
    Budget::from_object(&object)
}

/// What both ways come to, from the same offset.
fn both(cluster: &mut Cluster, class: ClassId, seed: u64, now: i64) -> [Preemption; 2] {
    let pod = PodKey::of("preemptor");
    let alike = cluster.preempt(pod, class, None, now, &mut dice(seed));
    let yes = &mut |_: placement::Asked<'_>| Admission::Yes(0);
    let each = cluster.preempt_among(pod, class, None, now, &mut dice(seed), Some(yes));
    [alike.unwrap(), each.unwrap()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn one_tried_for_all_is_as_each_tried(
        seed in any::<u64>(),
        (nodes, shapes) in (20..200usize, 1..4usize),
        (priorities, starts, sizes) in (1..5u64, 1..6u64, 1..4u64),
        (budgets, disrupted) in (0..3usize, any::<bool>()),
        (percent, least) in (1..40usize, 1..30usize),
        later in prop_oneof![Just(0i64), Just(-3), Just(2), Just(500)],
    ) {
        let mut cluster = Cluster::new(Config {
            profiles: vec![Profile {
                candidates_percent: percent,
                candidates_min: least,
                ..Profile::default()
            }],
            ..Config::default()
        });
        let mut random = dice(seed);
        for index in 0..nodes {
            cluster.upsert_node(&node(index, ["a", "b", "c"][index % shapes]));
        }
        // Labels that somebody asks about tell shapes apart.
        let mut asking = spec(100, "z", 0);
        asking.node_selector = vec![("zone".into(), "a".into())];
        cluster.class_of(&asking);
        let low = |random: &mut dyn FnMut() -> u64| {
            let mut roll = |sides: u64| (random() >> 20) % sides;
            let cpu = [900, 600, 1_300][roll(sizes) as usize];
            let app = ["a", "b"][roll(2) as usize];
            // About the time of asking, so that some have not started yet, and some will be later than who has not.
            let started = match roll(starts) {
                0 => 0,
                at => NOW_MICROS - 3 + at as i64,
            };
            (spec(cpu, app, roll(priorities) as i32), started)
        };
        for number in 0..3 * nodes {
            let (spec, started) = low(&mut random);
            cluster.observe_pod(&bound(number, number % nodes, spec, started));
        }
        for which in 0..budgets {
            let name = (disrupted && which == 1).then_some("pod-3");
            let app = ["a", "b"][which % 2];
            cluster.upsert_budget(budget(&format!("budget-{which}"), app, which as i64, name));
        }
        let classes: Vec<ClassId> = [1_500, 2_500, 3_900, 4_100]
            .iter()
            .map(|&cpu| cluster.class_of(&spec(cpu, "high", 1 + (cpu / 1_300) as i32)))
            .collect();
        for turn in 0..24 {
            let class = classes[turn % classes.len()];
            let now = NOW_MICROS + later * (turn as i64 % 5);
            let [alike, each] = both(&mut cluster, class, random(), now);
            prop_assert_eq!(&alike, &each);
            // Every other time it is done, so that what is known of nodes must change with them.
            if let Preemption::Found { node, victims, .. } = alike
                && turn % 2 == 0
            {
                for victim in victims {
                    prop_assert!(cluster.remove_pod(victim));
                }
                let key = PodKey::of(&format!("high-{turn}"));
                prop_assert!(cluster.assume(key, class, node));
            }
            let (spec, started) = low(&mut random);
            let there = (random() >> 9) as usize % nodes;
            cluster.observe_pod(&bound(there, there, spec, started));
        }
    }
}

/// Nodes of three zones, that some class tells apart and another does not care about: so many in each.
fn zones(sizes: [usize; 3]) -> (Cluster, ClassId) {
    let mut cluster = Cluster::new(Config::default());
    let mut index = 0;
    for (size, zone) in sizes.into_iter().zip(["a", "b", "c"]) {
        for _ in 0..size {
            cluster.upsert_node(&node(index, zone));
            index += 1;
        }
    }
    let mut asking = spec(100, "z", 0);
    for zone in ["a", "b"] {
        asking.node_selector = vec![("zone".into(), zone.into())];
        cluster.class_of(&asking);
    }
    let class = cluster.class_of(&spec(100, "any", 0));
    (cluster, class)
}

fn drawn(cluster: &mut Cluster, class: ClassId, times: usize) -> Vec<usize> {
    let mut random = dice(7);
    let mut counts: Vec<usize> = Vec::new();
    for _ in 0..times {
        let node = cluster.pick(class, None, &mut random).unwrap();
        let name = cluster.node_name(node).unwrap();
        let index: usize = name.strip_prefix("node-").unwrap().parse().unwrap();
        counts.resize(counts.len().max(index + 1), 0);
        counts[index] += 1;
    }
    counts
}

#[test]
fn each_of_the_best_is_drawn_as_often() {
    let (mut cluster, class) = zones([1, 18, 281]);
    let counts = drawn(&mut cluster, class, 60_000);
    assert_eq!(counts.len(), 300);
    // 200 each; seven deviations either way.
    assert!(counts.iter().all(|n| (100..300).contains(n)), "{counts:?}");
}

#[test]
fn those_that_are_left_are_drawn_as_often() {
    let (mut cluster, class) = zones([20, 40, 300]);
    drawn(&mut cluster, class, 10);
    // Of each zone some are taken, by no fixed rule; then no zone has as many as were listed.
    let mut random = dice(3);
    let mut taken = vec![false; 360];
    for number in 0..300 {
        let node = cluster.pick(class, None, &mut random).unwrap();
        let name = cluster.node_name(node).unwrap();
        taken[name["node-".len()..].parse::<usize>().unwrap()] = true;
        cluster.assume(PodKey::of(&format!("taken-{number}")), class, node);
    }
    // Nobody is taken twice as long as others are free.
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 300);
    let mut counts = drawn(&mut cluster, class, 12_000);
    counts.resize(360, 0);
    for (count, taken) in counts.into_iter().zip(taken) {
        let expected = if taken { 0..1 } else { 100..300 };
        assert!(expected.contains(&count), "{count} {taken}");
    }
}

#[test]
fn chance_that_never_varies_still_names_a_node() {
    let (mut cluster, class) = zones([3, 17, 260]);
    for always in [0, 1, u64::MAX / 2, u64::MAX] {
        let node = cluster.pick(class, None, &mut || always).unwrap();
        assert_eq!(cluster.audit(class, node), Some(true));
        cluster.assume(PodKey::of(&format!("pod-{always}")), class, node);
    }
}

#[test]
fn what_only_some_nodes_offer_is_found_there_and_when_it_comes() {
    let mut cluster = Cluster::new(Config::default());
    let with = |index: usize, resource: &str, amount: i64| {
        let mut node = node(index, "a");
        node.allocatable.scalars = vec![(resource.into(), amount)];
        node
    };
    for index in 0..50 {
        cluster.upsert_node(&with(index, &format!("example.com/thing-{index}"), 1));
    }
    let asking = |resource: &str| {
        let mut asking = spec(100, "any", 0);
        asking.request.real.scalars = vec![(resource.into(), 1)];
        asking
    };
    let mut random = dice(5);
    for index in [7, 49, 0] {
        let class = cluster.class_of(&asking(&format!("example.com/thing-{index}")));
        let node = cluster.pick(class, None, &mut random).unwrap();
        assert_eq!(cluster.node_name(node), Some(&*format!("node-{index}")));
        cluster.assume(PodKey::of(&format!("pod-{index}")), class, node);
        assert_eq!(cluster.feasible(class), Some(0));
    }
    // Nobody has it; then somebody does, and then another does in its place.
    let class = cluster.class_of(&asking("example.com/new"));
    assert!(cluster.pick(class, None, &mut random).is_err());
    for (index, before) in [(20, 21), (21, 20)] {
        cluster.upsert_node(&with(before, "example.com/other", 1));
        cluster.upsert_node(&with(index, "example.com/new", 3));
        let node = cluster.pick(class, None, &mut random).unwrap();
        assert_eq!(cluster.node_name(node), Some(&*format!("node-{index}")));
    }
    // Who asks only now finds it, too.
    let mut late = asking("example.com/new");
    late.request.real.cpu_milli = 200;
    let late = cluster.class_of(&late);
    assert_eq!(cluster.feasible(late), Some(1));
    assert!(cluster.remove_node("node-21"));
    assert_eq!(
        (cluster.feasible(late), cluster.feasible(class)),
        (Some(0), Some(0))
    );
}

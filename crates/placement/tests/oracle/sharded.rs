//! The nodes in shards: every answer against the plain model, and runs of pods against one cluster.

use crate::objects::{Dice, delegated, node_object, pod_object};
use crate::{Placer, Rig, step, step_of_volumes};
use placement::shards::{Coordinator, Direct};
use placement::{Cluster, Config, Explanation, NodeInfo, PickError, PodInfo, PodKey};
use proptest::prelude::*;

fn shards(count: usize, config: Config) -> Coordinator<Direct> {
    let direct = Direct::new(count, &config);
    Coordinator::new(config, direct)
}

impl Rig {
    fn coordinator(&mut self) -> &mut Coordinator<Direct> {
        match &mut self.cluster {
            Placer::Many(shards) => shards,
            Placer::One(_) => panic!("only shards are lost"),
        }
    }

    /// Loses a shard that is there, or revives one that is not; then tells everything again.
    fn lose_or_revive(&mut self, shard: usize) {
        let shards = self.coordinator();
        let alive = shards.alive();
        if !alive.contains(&shard) {
            shards.revive(shard);
        } else if alive.len() > 1 {
            shards.links().lose(shard);
            shards.lose(shard);
        } else {
            return;
        }
        self.tell_again();
    }

    fn tell_again(&mut self) {
        let Some(number) = self.coordinator().must_list() else {
            return;
        };
        let nodes: Vec<_> = self.model.nodes.values().cloned().collect();
        for node in nodes {
            self.cluster
                .upsert_node(&NodeInfo::from_object(&node).unwrap());
        }
        let pods: Vec<_> = self.objects.values().cloned().collect();
        for pod in pods {
            self.cluster
                .observe_pod(&PodInfo::from_object(&pod).unwrap());
        }
        self.coordinator().listed(number);
        self.compare_sizes();
    }
}

fn count() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1usize), Just(2), Just(3), Just(8)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn shards_answer_as_asking_every_node_does(
        count in count(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut rig = Rig::of(Placer::Many(Box::new(shards(count, Config::default()))));
        for step in &steps {
            rig.run(step);
        }
    }

    /// The same where every message goes through its bytes.
    #[test]
    fn bytes_change_no_answer_of_shards(
        count in count(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let config = Config::default();
        let direct = Direct::through_bytes(count, &config);
        let mut rig = Rig::of(Placer::Many(Box::new(Coordinator::new(config, direct))));
        for step in &steps {
            rig.run(step);
        }
    }

    /// The same where shards are lost, and come back, in between.
    #[test]
    fn lost_shards_change_no_answer(
        count in 2..5usize,
        steps in proptest::collection::vec((step(), proptest::option::weighted(0.1, 0..5usize)), 1..120),
    ) {
        let mut rig = Rig::of(Placer::Many(Box::new(shards(count, Config::default()))));
        for (step, lost) in &steps {
            rig.run(step);
            if let Some(shard) = lost {
                rig.lose_or_revive(shard % count);
            }
        }
    }

    /// Volumes are settled by the coordinator: no shard knows them.
    #[test]
    fn volumes_in_shards_are_given_as_asking_every_node_says(
        count in count(),
        seed in any::<u64>(),
        steps in proptest::collection::vec((step_of_volumes(), proptest::option::weighted(0.05, 0..5usize)), 1..80),
    ) {
        let config = Config::default();
        let direct = Direct::through_bytes(count, &config);
        let mut rig = Rig::of(Placer::Many(Box::new(Coordinator::new(config, direct))));
        rig.furnish(seed);
        for (step, lost) in &steps {
            rig.run(step);
            if let Some(shard) = lost {
                rig.lose_or_revive(shard % count);
            }
        }
    }

    /// The same with limits so tight that classes, indices and shapes come and go all the time.
    #[test]
    fn tight_limits_change_no_answer_of_shards(
        count in count(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let config = Config { classes_max: 3, index_entries_max: 6, litter_max: 1, ..Config::default() };
        let mut rig = Rig::of(Placer::Many(Box::new(shards(count, config))));
        for step in &steps {
            rig.run(step);
        }
        prop_assert!(rig.cluster.classes() <= 3);
    }

    /// Each pod of a run gets a node that one cluster, brought to the same place, counts among its best.
    #[test]
    fn runs_are_what_one_cluster_might_have_done(
        count in count(),
        seed in any::<u64>(),
        nodes in proptest::collection::vec((0..60u64, prop_oneof![0..6u64, 100..1000u64]), 1..80),
        runs in proptest::collection::vec((prop_oneof![3 => 0..40u64, 1 => 100..100_000u64], 1..40usize), 1..12),
    ) {
        let mut dice = Dice::new(seed);
        let mut one = Cluster::new(Config::default());
        let mut many = shards(count, Config::default());
        for (id, seed) in &nodes {
            let mut node = node_object(*id, *seed);
            node["status"]["allocatable"]["pods"] = "40".into();
            node["status"]["allocatable"]["cpu"] = "9".into();
            let info = NodeInfo::from_object(&node).unwrap();
            prop_assert_eq!(one.upsert_node(&info), many.upsert_node(&info));
        }
        let mut born = 0u128;
        for (at, (seed, length)) in runs.iter().enumerate() {
            let object = pod_object("pod", *seed);
            let mut pod = PodInfo::from_object(&object).unwrap();
            pod.spec.devices.delegated = delegated(&object);
            let (class_one, class_many) = (one.class_of(&pod.spec), many.class_of(&pod.spec));
            if pod.pin.is_some() {
                continue;
            }
            let keys: Vec<PodKey> = (0..*length).map(|_| { born += 1; PodKey::of_uuid(born) }).collect();
            let placed = many.place_run(class_many, &keys, &mut || dice.roll(u64::MAX));
            for (key, node) in placed.iter().flatten() {
                let name = many.node_name(*node).unwrap();
                let same = one.node(name).unwrap();
                match one.pick(class_one, None, &mut || 0) {
                    Ok(node) => {
                        // Named nodes are not all looked at: there only the pick itself says what is best.
                        if one.audit(class_one, same) != Some(true) {
                            let total = |explained| match explained {
                                Some(Explanation::Feasible(scores)) => Some(scores.total),
                                _ => None,
                            };
                            prop_assert_eq!(
                                total(one.explain(class_one, same)),
                                total(one.explain(class_one, node)),
                                "run {} {}", at, name
                            );
                        }
                    }
                    Err(why) => prop_assert!(false, "{:?}", why),
                }
                prop_assert!(one.assume(*key, class_one, same));
            }
            let complete = placed.as_ref().is_ok_and(|placed| placed.len() == keys.len());
            let named = placed.as_ref().is_ok_and(|placed| placed.len() == 1);
            if !complete && !named {
                let (here, there) = (one.pick(class_one, None, &mut || 0), many.pick(class_many, None, &mut || 0));
                prop_assert_eq!(here.clone().err(), there.err());
                prop_assert!(matches!(here, Err(PickError::Unschedulable(_))));
            }
            prop_assert_eq!(one.pods(), many.pods());
            prop_assert_eq!(one.assumed_pods(), many.assumed_pods());
            if let Ok(node) = many.pick(class_many, None, &mut || dice.roll(u64::MAX)) {
                let named = one.node(many.node_name(node).unwrap()).unwrap();
                if many.audit(class_many, node) != one.audit(class_one, named) {
                    prop_assert!(false, "audits differ");
                }
            }
        }
    }
}

#[test]
fn equals_are_shared_out_by_their_numbers() {
    let mut many = shards(3, Config::default());
    for id in 0..90 {
        let node = node_object(id, 3);
        many.upsert_node(&NodeInfo::from_object(&node).unwrap());
    }
    let plain = value::json!({"metadata": {"name": "p", "uid": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c"}], "tolerations": [{"operator": "Exists"}]}});
    let pod = PodInfo::from_object(&plain).unwrap();
    let class = many.class_of(&pod.spec);
    let keys: Vec<PodKey> = (1..=90).map(PodKey::of_uuid).collect();
    let mut dice = Dice::new(7);
    let placed = many
        .place_run(class, &keys, &mut || dice.roll(u64::MAX))
        .unwrap();
    let mut names: Vec<&str> = placed
        .iter()
        .filter_map(|(_, n)| many.node_name(*n))
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(
        names.len(),
        90,
        "each of equal nodes gets one pod before any gets two"
    );
}

#[test]
fn an_assumed_pod_outlives_its_shard() {
    let mut many = shards(3, Config::default());
    let nodes: Vec<NodeInfo> = (0..6)
        .map(|id| NodeInfo::from_object(&node_object(id, 3)).unwrap())
        .collect();
    for node in &nodes {
        many.upsert_node(node);
    }
    let pod = value::json!({"metadata": {"name": "p", "uid": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c"}], "tolerations": [{"operator": "Exists"}]}});
    let pod = PodInfo::from_object(&pod).unwrap();
    let class = many.class_of(&pod.spec);
    let keys: Vec<PodKey> = (1..=6).map(PodKey::of_uuid).collect();
    let mut dice = Dice::new(7);
    let placed = many.place_run(class, &keys, &mut || dice.roll(u64::MAX));
    assert_eq!(placed.unwrap().len(), 6);
    let lost = many.alive()[0];
    many.links().lose(lost);
    many.lose(lost);
    assert!(keys.iter().all(|key| many.is_assumed(*key)));
    assert!(
        many.pick(class, None, &mut || 0).is_err(),
        "nothing is placed before all is told again"
    );
    for node in &nodes {
        many.upsert_node(node);
    }
    let number = many.must_list().unwrap();
    many.listed(number);
    // Their room is taken where their nodes are now: nobody is on two nodes, or on none.
    let sizes = many.links().sizes();
    assert_eq!(sizes.iter().map(|(nodes, _)| nodes).sum::<usize>(), 6);
    assert_eq!(sizes.iter().map(|(_, pods)| pods).sum::<usize>(), 6);
    assert!(many.forget(keys[0]));
    assert_eq!(many.pods(), 5);
}

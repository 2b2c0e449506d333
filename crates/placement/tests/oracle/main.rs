//! The pick against a plain model: random clusters, pods and changes, every answer compared.

mod alike;
mod around;
mod evict;
mod model;
mod objects;
mod sharded;
mod storage;

use evict::Outcome;
use model::{Finding, Model, ModelPod};
use objects::{Dice, NAMESPACES, NODES, node_object, pod_object};
use placement::shards::Direct;
use placement::{
    Budget, Cluster, Config, Explanation, MakerKind, NodeInfo, PickError, PodInfo, PodKey,
    Preemption, Thing, Unschedulable,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use storage::Sort;
use value::{Value, json};

/// One cluster, or a coordinator of several shards.
type Placer = placement::shards::Placer<Direct>;

#[derive(Clone, Debug)]
enum Step {
    Node { id: u64, seed: u64 },
    RemoveNode { id: u64 },
    Schedule { seed: u64, random: u64 },
    Bound { seed: u64, id: u64 },
    Confirm { nth: usize },
    Finish { nth: usize },
    Leave { nth: usize },
    Namespace { which: usize, seed: u64 },
    Service { which: usize, seed: u64 },
    ReplicaSet { seed: u64 },
    Budget { which: usize, seed: u64, nth: usize },
    Withdraw { nth: usize },
    Thing { sort: Sort, id: u64, seed: u64 },
    Claimant { seed: u64, random: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    // Few distinct pods and nodes, so that classes and states are met again.
    let pod = prop_oneof![3 => 0..12u64, 1 => 100..100_000u64];
    let node = prop_oneof![3 => 0..6u64, 1 => 100..100_000u64];
    prop_oneof![
        4 => (0..NODES, node).prop_map(|(id, seed)| Step::Node { id, seed }),
        1 => (0..NODES).prop_map(|id| Step::RemoveNode { id }),
        8 => (pod.clone(), any::<u64>()).prop_map(|(seed, random)| Step::Schedule { seed, random }),
        1 => (pod, 0..NODES + 2).prop_map(|(seed, id)| Step::Bound { seed, id }),
        1 => any::<usize>().prop_map(|nth| Step::Confirm { nth }),
        3 => any::<usize>().prop_map(|nth| Step::Finish { nth }),
        1 => any::<usize>().prop_map(|nth| Step::Leave { nth }),
        1 => (0..2usize, 0..6u64).prop_map(|(which, seed)| Step::Namespace { which, seed }),
        1 => (0..2usize, 0..6u64).prop_map(|(which, seed)| Step::Service { which, seed }),
        1 => (0..6u64).prop_map(|seed| Step::ReplicaSet { seed }),
        1 => (0..2usize, 0..9u64, any::<usize>())
            .prop_map(|(which, seed, nth)| Step::Budget { which, seed, nth }),
        1 => any::<usize>().prop_map(|nth| Step::Withdraw { nth }),
        6 => (storage::sort(), 0..12u64, 0..400u64)
            .prop_map(|(sort, id, seed)| Step::Thing { sort, id, seed }),
    ]
}

/// Steps of a cluster where volumes decide.
fn step_of_volumes() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..60u64, any::<u64>()).prop_map(|(seed, random)| Step::Claimant { seed, random }),
        1 => (0..12u64, any::<u64>()).prop_map(|(seed, random)| Step::Schedule { seed, random }),
        3 => any::<usize>().prop_map(|nth| Step::Finish { nth }),
        2 => any::<usize>().prop_map(|nth| Step::Confirm { nth }),
        1 => any::<usize>().prop_map(|nth| Step::Leave { nth }),
        1 => any::<usize>().prop_map(|nth| Step::Withdraw { nth }),
        1 => (0..NODES).prop_map(|id| Step::RemoveNode { id }),
        1 => (0..NODES, 0..6u64).prop_map(|(id, seed)| Step::Node { id, seed }),
        5 => (storage::sort(), 0..12u64, 0..4_000u64)
            .prop_map(|(sort, id, seed)| Step::Thing { sort, id, seed }),
    ]
}

struct Rig {
    cluster: Placer,
    model: Model,
    objects: BTreeMap<String, Value>,
    born: u64,
}

impl Rig {
    fn new(config: Config) -> Rig {
        Rig::of(Placer::One(Box::new(Cluster::new(config))))
    }

    fn of(cluster: Placer) -> Rig {
        Rig {
            cluster,
            model: Model::default(),
            objects: BTreeMap::new(),
            born: 0,
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Node { id, seed } => {
                let object = node_object(id, seed);
                self.cluster
                    .upsert_node(&NodeInfo::from_object(&object).unwrap());
                self.model.nodes.insert(format!("node-{id}"), object);
            }
            Step::RemoveNode { id } => {
                let name = format!("node-{id}");
                let known = self.model.nodes.remove(&name).is_some();
                assert_eq!(self.cluster.remove_node(&name), known);
            }
            Step::Schedule { seed, random } => {
                let (uid, object) = self.new_pod(seed);
                self.schedule(uid, object, random);
            }
            Step::Claimant { seed, random } => {
                let (uid, object) = self.new_pod(seed);
                let object = storage::claimant(&object, seed);
                self.schedule(uid, object, random);
            }
            Step::Bound { seed, id } => {
                let (uid, mut object) = self.new_pod(seed);
                let node = format!("node-{id}");
                object["spec"]["nodeName"] = node.as_str().into();
                let second = format!("2026-01-01T00:00:{:02}Z", seed % 60);
                object["status"] = json!({"startTime": second});
                assert!(
                    self.cluster
                        .observe_pod(&PodInfo::from_object(&object).unwrap())
                );
                self.place(uid, node, object);
            }
            Step::Confirm { nth } => {
                if let Some(uid) = self.nth(nth) {
                    let pod = PodInfo::from_object(&self.objects[&uid]).unwrap();
                    assert!(!self.cluster.observe_pod(&pod));
                    assert!(!self.cluster.forget(PodKey::of(&uid)));
                }
            }
            Step::Finish { nth } => {
                if let Some(uid) = self.nth(nth) {
                    let key = PodKey::of(&uid);
                    let gave = self.model.give_back(&uid);
                    assert_eq!(self.cluster.give_back_volumes(key), gave);
                    if self.cluster.is_assumed(key) {
                        assert!(self.cluster.forget(key));
                    } else {
                        let mut object = self.objects[&uid].clone();
                        object["status"] = json!({"phase": "Succeeded"});
                        assert!(
                            self.cluster
                                .observe_pod(&PodInfo::from_object(&object).unwrap())
                        );
                    }
                    self.model.pods.remove(&uid);
                    self.objects.remove(&uid);
                }
            }
            Step::Leave { nth } => {
                if let Some(uid) = self.nth(nth) {
                    let mut object = self.objects[&uid].clone();
                    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                    self.cluster
                        .observe_pod(&PodInfo::from_object(&object).unwrap());
                    let node = self.model.pods[&uid].node.clone();
                    self.place(uid, node, object);
                }
            }
            Step::Namespace { which, seed } => {
                let name = NAMESPACES[which];
                if seed == 5 {
                    self.cluster.remove_namespace(name);
                    self.model.namespaces.remove(name);
                } else {
                    let labels = objects::namespace_labels(seed);
                    let pairs = labels.as_object().unwrap().iter();
                    let pairs = pairs.map(|(k, v)| (k.as_str().into(), v.as_str().unwrap().into()));
                    self.cluster.upsert_namespace(name, pairs.collect());
                    self.model.namespaces.insert(name.into(), labels);
                }
            }
            Step::Budget { which, seed, nth } => {
                let name = format!("budget-{which}");
                if seed == 8 {
                    self.cluster.remove_budget("default", &name);
                    self.model.budgets.remove(&name);
                } else {
                    // Nobody evicts a pod whose binding has not been seen yet.
                    let disrupted = self
                        .nth(nth)
                        .filter(|uid| seed % 3 == 0 && !self.cluster.is_assumed(PodKey::of(uid)));
                    let object = objects::budget_object(which, seed, disrupted.as_deref());
                    self.cluster.upsert_budget(Budget::from_object(&object));
                    self.model.budgets.insert(name, object);
                }
            }
            Step::Withdraw { nth } => {
                let count = self.model.nominated.len();
                if count > 0 {
                    let uid = self
                        .model
                        .nominated
                        .keys()
                        .nth(nth % count)
                        .unwrap()
                        .clone();
                    assert!(self.cluster.withdraw_nomination(PodKey::of(&uid)));
                    self.model.nominated.remove(&uid);
                }
            }
            Step::Thing { sort, id, seed } => {
                let (key, object) = storage::object(sort, id, seed);
                self.note(sort, key, object);
            }
            Step::Service { which, seed } => {
                let selector = objects::service_selector(seed);
                let key = ("default".to_owned(), format!("svc-{which}"));
                self.cluster
                    .note_maker(MakerKind::Service, "default", &key.1, &selector);
                self.model.services.insert(key, selector);
            }
            Step::ReplicaSet { seed } => {
                let selector = objects::replica_set_selector(seed);
                let key = ("default".to_owned(), "rs".to_owned());
                self.cluster
                    .note_maker(MakerKind::ReplicaSet, "default", "rs", &selector);
                self.model.replica_sets.insert(key, selector);
            }
        }
        self.compare_sizes();
    }

    fn compare_sizes(&self) {
        assert_eq!(self.cluster.nodes(), self.model.nodes.len());
        assert_eq!(self.cluster.pods(), self.model.pods.len());
    }

    fn nth(&self, nth: usize) -> Option<String> {
        let count = self.objects.len();
        (count > 0).then(|| self.objects.keys().nth(nth % count).unwrap().clone())
    }

    fn new_pod(&mut self, seed: u64) -> (String, Value) {
        self.born += 1;
        let uid = format!("00000000-0000-4000-8000-{:012x}", self.born);
        let object = pod_object(&uid, seed);
        if let Some((key, claim)) = storage::own_claim(&object, seed) {
            self.note(Sort::Claim, key, Some(claim));
        }
        (uid, object)
    }

    fn note(&mut self, sort: Sort, key: String, object: Option<Value>) {
        match object {
            Some(object) => {
                let thing = Thing::read(sort.kind(), &object);
                self.cluster.note_thing(&key, thing);
                self.model.note(sort, key, object);
            }
            None => {
                self.cluster.forget_thing(sort.kind(), &key);
                self.model.forget(sort, &key);
            }
        }
    }

    fn place(&mut self, uid: String, node: String, mut object: Value) {
        object["spec"]["nodeName"] = node.as_str().into();
        self.model
            .pods
            .insert(uid.clone(), ModelPod::new(&node, &object));
        self.objects.insert(uid, object);
    }

    /// Nodes with room, and something of every sort.
    fn furnish(&mut self, seed: u64) {
        for id in 0..NODES {
            let object = storage::node_object(id);
            self.cluster
                .upsert_node(&NodeInfo::from_object(&object).unwrap());
            self.model.nodes.insert(format!("node-{id}"), object);
        }
        for sort in storage::SORTS {
            for id in 0..12 {
                let (key, object) = storage::object(sort, id, seed.wrapping_add(id * 131));
                self.note(sort, key, object);
            }
        }
    }

    fn schedule(&mut self, uid: String, object: Value, random: u64) {
        let mut pod = PodInfo::from_object(&object).unwrap();
        pod.spec.volumes = self.cluster.volumes_of(&pod);
        pod.spec.devices.delegated = objects::delegated(&object);
        let class = self.cluster.class_of(&pod.spec);
        let finding = self.model.find(&uid, &object);
        if !finding.narrowed && !finding.conflict && finding.obstacle.is_none() {
            let feasible = finding.nodes.values().filter(|n| n.is_ok()).count();
            assert_eq!(self.cluster.feasible(class), Some(feasible));
            for (name, expected) in &finding.nodes {
                let node = self.cluster.node(name).unwrap();
                let explained = self.cluster.explain(class, node).unwrap();
                match expected {
                    Ok(scores) => assert_eq!(explained, Explanation::Feasible(*scores), "{name}"),
                    Err(why) => assert_eq!(explained, Explanation::Rejected(why.clone()), "{name}"),
                }
            }
        }
        let mut dice = Dice::new(random);
        let picked = self
            .cluster
            .pick(class, pod.pin.as_deref(), &mut || dice.roll(u64::MAX));
        let best = finding.nodes.values().flatten().map(|s| s.total).max();
        match picked {
            Ok(node) => {
                assert!(!finding.conflict && finding.obstacle.is_none());
                let name = self.cluster.node_name(node).unwrap().to_owned();
                let scores = finding.nodes[&name].as_ref().unwrap();
                assert_eq!(Some(scores.total), best, "{name} is not among the best");
                let expected = storage::bindings(&self.model, &object, &self.model.nodes[&name]);
                let bindings = self.cluster.take_volumes(PodKey::of(&uid), class, node);
                assert_eq!(bindings, expected.ok(), "{name}");
                self.model.take(&uid, &name, &bindings.unwrap());
                assert!(self.cluster.assume(PodKey::of(&uid), class, node));
                self.place(uid, name, object);
            }
            Err(PickError::Unschedulable(why)) => {
                assert!(
                    finding.conflict || finding.obstacle.is_some() || best.is_none(),
                    "{best:?} {}",
                    why.message()
                );
                self.compare_failure(&finding, &why);
                self.preempt(&uid, &object, class, pod.pin.as_deref(), random);
            }
            Err(PickError::UnknownClass) => panic!("class just asked for"),
        }
    }

    fn preempt(
        &mut self,
        uid: &str,
        object: &Value,
        class: placement::ClassId,
        pin: Option<&str>,
        random: u64,
    ) {
        let mut dice = Dice::new(random);
        let key = PodKey::of(uid);
        let found = self
            .cluster
            .preempt(key, class, pin, evict::NOW, &mut || dice.roll(u64::MAX))
            .unwrap();
        match (found, evict::preempt(&self.model, uid, object)) {
            (Preemption::Hopeless(text), Outcome::Hopeless(expected)) => assert_eq!(text, expected),
            (Preemption::NotEligible(text), Outcome::Hopeless(expected)) => {
                assert_eq!(text, expected)
            }
            (
                Preemption::Found {
                    node,
                    victims,
                    displaced,
                },
                Outcome::Best(cost, nodes),
            ) => {
                let name = self.cluster.node_name(node).unwrap().to_owned();
                let expected = nodes
                    .get(&name)
                    .unwrap_or_else(|| panic!("{name} {cost:?}"));
                let expected: Vec<PodKey> = expected.iter().map(|uid| PodKey::of(uid)).collect();
                assert_eq!(victims, expected, "{name}");
                let lower = |(_, (to, other)): &(&String, &(String, Value))| {
                    *to == name && evict::priority(other) < evict::priority(object)
                };
                let lower = self.model.nominated.iter().filter(lower);
                let mut lower: Vec<PodKey> = lower.map(|(uid, _)| PodKey::of(uid)).collect();
                lower.sort();
                assert_eq!(displaced, lower);
                assert!(self.cluster.nominate(key, class, node));
                self.model
                    .nominated
                    .insert(uid.to_owned(), (name, object.clone()));
            }
            (found, expected) => panic!("{found:?} {expected:?}"),
        }
    }

    fn compare_failure(&self, finding: &Finding, why: &Unschedulable) {
        assert_eq!(why.nodes, self.model.nodes.len());
        if finding.conflict {
            assert_eq!(
                why.contradiction.as_deref(),
                Some("pod affinity terms conflict")
            );
            return;
        }
        if finding.obstacle.is_some() {
            assert_eq!(why.contradiction.as_deref(), finding.obstacle.as_deref());
            return;
        }
        assert_eq!(why.reasons, self.model.reasons(finding));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_pick_is_what_asking_every_node_gives(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut rig = Rig::new(Config::default());
        for step in &steps {
            rig.run(step);
        }
    }

    #[test]
    fn volumes_are_given_as_asking_every_node_says(
        seed in any::<u64>(),
        steps in proptest::collection::vec(step_of_volumes(), 1..80),
    ) {
        let mut rig = Rig::new(Config::default());
        rig.furnish(seed);
        for step in &steps {
            rig.run(step);
        }
    }

    /// The same with so little litter allowed that log, states and shapes are tidied all the time.
    #[test]
    fn tidying_changes_no_answer(steps in proptest::collection::vec(step(), 1..120)) {
        let mut rig = Rig::new(Config { litter_max: 1, ..Config::default() });
        for step in &steps {
            rig.run(step);
        }
        let Placer::One(cluster) = &rig.cluster else { unreachable!("it was made of one") };
        let sizes = cluster.sizes();
        prop_assert!(sizes.dead_states <= 2 * (sizes.live_states + 2) * sizes.classes + 2);
    }

    /// The same with limits so tight that classes and indices come and go all the time.
    #[test]
    fn eviction_changes_no_answer(steps in proptest::collection::vec(step(), 1..120)) {
        let mut rig = Rig::new(Config { classes_max: 3, index_entries_max: 6, litter_max: 2, ..Config::default() });
        for step in &steps {
            rig.run(step);
        }
        prop_assert!(rig.cluster.classes() <= 3);
    }
}

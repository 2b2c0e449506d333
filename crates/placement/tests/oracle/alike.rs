//! Nodes and pods of few kinds: worlds in which most nodes are alike, so that what is found out about one is taken for
//! others; against the model, which asks each.

use crate::{Placer, Rig, Step};
use placement::shards::{Coordinator, Direct};
use placement::{Cluster, Config, NodeInfo, PodInfo};
use proptest::prelude::*;
use value::{Value, json};

#[derive(Clone, Debug)]
enum Turn {
    /// A pod of low priority is on a node: its kind, the second it started if it has, the node.
    Low(u64, u64, u64),
    /// A pod of high priority comes.
    High(u64, u64),
    /// Something that other worlds have, too.
    Other(Step),
    /// A node is a little smaller from now on, or as large as others.
    Node(u64, bool),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        8 => (0..12u64, 0..5u64, 0..10u64).prop_map(|(kind, second, node)| Turn::Low(kind, second, node)),
        5 => (0..12u64, any::<u64>()).prop_map(|(kind, random)| Turn::High(kind, random)),
        1 => any::<usize>().prop_map(|nth| Turn::Other(Step::Finish { nth })),
        1 => any::<usize>().prop_map(|nth| Turn::Other(Step::Leave { nth })),
        1 => any::<usize>().prop_map(|nth| Turn::Other(Step::Withdraw { nth })),
        1 => (0..2usize, 0..9u64, any::<usize>())
            .prop_map(|(which, seed, nth)| Turn::Other(Step::Budget { which, seed, nth })),
        1 => (0..10u64, any::<bool>()).prop_map(|(id, small)| Turn::Node(id, small)),
    ]
}

fn node(id: u64, small: bool) -> Value {
    let name = format!("node-{id}");
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {
            "cpu": if small { "2" } else { "3" }, "memory": "4Gi", "ephemeral-storage": "10Gi", "pods": "5",
        }},
    })
}

fn pod(uid: &str, cpu: &str, app: &str, priority: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": uid, "uid": uid, "namespace": "default", "labels": {"app": app}},
        "spec": {
            "containers": [{"image": "web", "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}}],
            "priority": priority, "affinity": {},
        },
    })
}

fn apart(mut pod: Value, app: &str) -> Value {
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}});
    pod["spec"]["affinity"]["podAntiAffinity"] =
        json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
    pod
}

impl Rig {
    fn next_uid(&mut self) -> String {
        self.born += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.born)
    }

    fn turn(&mut self, turn: &Turn) {
        match *turn {
            Turn::Low(kind, second, id) => {
                let uid = self.next_uid();
                let cpu = ["1", "500m"][(kind % 2) as usize];
                let app = ["a", "b"][(kind / 2 % 2) as usize];
                let mut object = pod(&uid, cpu, app, kind / 4);
                if second > 0 {
                    let at = format!("2026-01-01T00:00:{second:02}Z");
                    object["status"] = json!({"startTime": at});
                }
                let name = format!("node-{id}");
                object["spec"]["nodeName"] = name.as_str().into();
                let info = PodInfo::from_object(&object).unwrap();
                assert!(self.cluster.observe_pod(&info));
                self.place(uid, name, object);
            }
            Turn::High(kind, random) => {
                let uid = self.next_uid();
                let cpu = ["1", "1500m", "2500m"][(kind % 3) as usize];
                let mut object = pod(&uid, cpu, "c", 1 + kind / 3);
                if kind == 11 {
                    object = apart(object, "a");
                }
                self.schedule(uid, object, random);
            }
            Turn::Other(ref step) => self.run(step),
            Turn::Node(id, small) => self.node(id, small),
        }
        self.compare_sizes();
    }

    fn node(&mut self, id: u64, small: bool) {
        let object = node(id, small);
        self.cluster
            .upsert_node(&NodeInfo::from_object(&object).unwrap());
        self.model.nodes.insert(format!("node-{id}"), object);
    }

    fn play(&mut self, turns: &[Turn]) {
        for id in 0..10 {
            self.node(id, false);
        }
        for turn in turns {
            self.turn(turn);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn who_must_go_is_what_trying_every_node_gives(
        turns in proptest::collection::vec(turn(), 1..100),
    ) {
        Rig::new(Config::default()).play(&turns);
    }

    #[test]
    fn who_must_go_in_shards_is_what_trying_every_node_gives(
        count in 1..4usize,
        turns in proptest::collection::vec(turn(), 1..100),
    ) {
        let direct = Direct::new(count, &Config::default());
        let shards = Coordinator::new(Config::default(), direct);
        Rig::of(Placer::Many(Box::new(shards))).play(&turns);
    }

    /// Nodes that fill up one by one, in a cluster that tidies all the time.
    #[test]
    fn picks_among_equals_are_what_asking_every_node_gives(
        kinds in proptest::collection::vec((0..12u64, any::<u64>()), 1..60),
    ) {
        let cluster = Cluster::new(Config { litter_max: 3, ..Config::default() });
        let mut rig = Rig::of(Placer::One(Box::new(cluster)));
        let turns: Vec<Turn> = kinds.iter().map(|&(kind, random)| Turn::High(kind % 3, random)).collect();
        rig.play(&turns);
    }
}

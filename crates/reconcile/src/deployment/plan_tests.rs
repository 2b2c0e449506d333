//! Stories of a rollout as plans, and whole rollouts in a toy cluster at random.

use super::{Observed, plan, template_hash};
use crate::action::{Action, DEPLOYMENTS, PODS, REPLICA_SETS};
use crate::garbage::{Graph, Observation, OwnerFound};
use crate::pod::{controller_uid, items, text_of};
use crate::replicaset;
use crate::toy::{Dice, World, brief};
use meta::{Value, object};
use std::sync::Arc;
use value::json;

const NOW: i64 = 1_000_000_000;

fn deployment(replicas: i64, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1, "resourceVersion": "1"},
        "spec": {"replicas": replicas, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn run(deployment: &Value, sets: &[Value]) -> Vec<Action> {
    let sets: Vec<Arc<Value>> = sets.iter().cloned().map(Arc::new).collect();
    plan(
        &Arc::new(deployment.clone()),
        &Observed {
            replica_sets: &sets,
            live_pods: &|_| 0,
        },
        NOW,
    )
}

/// Plan text with the two templates' hashes spelt `V1` and `V2`.
fn story(plan: &[Action]) -> String {
    let hash = |image: &str| template_hash(&deployment(1, image)["spec"]["template"], 0);
    brief(plan)
        .replace(&hash("v1"), "V1")
        .replace(&hash("v2"), "V2")
}

/// The ReplicaSet a Deployment of this image creates, scaled and in the given state.
fn set(image: &str, revision: i64, replicas: i64, available: i64) -> Value {
    let actions = run(&deployment(10, image), &[]);
    let Some(Action::Create { object: body, .. }) = actions.first() else {
        panic!("no creation")
    };
    let mut set = Value::clone(body);
    object::set_at(&mut set, &["metadata", "uid"], json!(image));
    object::set_at(&mut set, &["metadata", "generation"], json!(1));
    object::set_at(
        &mut set,
        &["metadata", "creationTimestamp"],
        json!(format!("1970-01-01T00:00:0{revision}Z")),
    );
    object::set_at(
        &mut set,
        &["metadata", "annotations", super::REVISION_ANNOTATION],
        json!(revision.to_string()),
    );
    object::set_at(&mut set, &["spec", "replicas"], json!(replicas));
    set["status"] = json!({"replicas": replicas, "readyReplicas": available, "availableReplicas": available,
        "observedGeneration": 1, "terminatingReplicas": 0});
    set
}

/// A Deployment that carries the status and annotation of an earlier plan.
fn after(mut deployment: Value, plan: &[Action], revision: &str) -> Value {
    for action in plan {
        if let Action::UpdateStatus { object, .. } = action {
            deployment["status"] = object["status"].clone();
        }
    }
    object::set_at(
        &mut deployment,
        &["metadata", "annotations", super::REVISION_ANNOTATION],
        json!(revision),
    );
    deployment
}

#[test]
fn a_new_deployment_creates_its_first_set() {
    let expected = "\
create replicasets.apps web-V1 replicas=10 revision=1 desired=10 max=13
event Deployment default/web Normal ScalingReplicaSet: Scaled up replica set web-V1 from 0 to 10
status deployments.apps web observedGeneration=1 unavailableReplicas=10
  Progressing=True NewReplicaSetCreated Created new replica set \"web-V1\"
  Available=False MinimumReplicasUnavailable Deployment does not have minimum availability.
patch deployments.apps default/web merge {\"metadata\":{\"annotations\":{\"deployment.kubernetes.io/revision\":\"1\"}}}
requeue after 601.000000s
";
    assert_eq!(story(&run(&deployment(10, "v1"), &[])), expected);
}

#[test]
fn a_rollout_starts_within_surge_and_availability() {
    let expected = "\
create replicasets.apps web-V2 replicas=3 revision=2 desired=10 max=13
update replicasets.apps web-V1 replicas=8 revision=1 desired=10 max=13
event Deployment default/web Normal ScalingReplicaSet: Scaled up replica set web-V2 from 0 to 3
event Deployment default/web Normal ScalingReplicaSet: Scaled down replica set web-V1 from 10 to 8
status deployments.apps web availableReplicas=10 observedGeneration=1 readyReplicas=10 replicas=10 unavailableReplicas=1
  Progressing=True ReplicaSetUpdated ReplicaSet \"web-V2\" is progressing.
  Available=True MinimumReplicasAvailable Deployment has minimum availability.
patch deployments.apps default/web merge {\"metadata\":{\"annotations\":{\"deployment.kubernetes.io/revision\":\"2\"}}}
requeue after 601.000000s
";
    assert_eq!(
        story(&run(&deployment(10, "v2"), &[set("v1", 1, 10, 10)])),
        expected
    );
}

#[test]
fn a_rollout_waits_in_the_middle_while_new_pods_are_not_available() {
    let sets = [set("v1", 1, 8, 8), set("v2", 2, 5, 0)];
    let first = run(&deployment(10, "v2"), &sets);
    let waiting = after(deployment(10, "v2"), &first, "2");
    assert_eq!(story(&run(&waiting, &sets)), "requeue after 601.000000s\n");
}

#[test]
fn a_rollout_moves_on_as_new_pods_become_available() {
    let expected = "\
update replicasets.apps web-V1 replicas=4 revision=1 desired=10 max=13
event Deployment default/web Normal ScalingReplicaSet: Scaled down replica set web-V1 from 8 to 4
status deployments.apps web availableReplicas=12 observedGeneration=1 readyReplicas=12 replicas=13 terminatingReplicas=0 updatedReplicas=5
  Progressing=True ReplicaSetUpdated ReplicaSet \"web-V2\" is progressing.
  Available=True MinimumReplicasAvailable Deployment has minimum availability.
patch deployments.apps default/web merge {\"metadata\":{\"annotations\":{\"deployment.kubernetes.io/revision\":\"2\"}}}
requeue after 601.000000s
";
    assert_eq!(
        story(&run(
            &deployment(10, "v2"),
            &[set("v1", 1, 8, 8), set("v2", 2, 5, 4)]
        )),
        expected
    );
}

#[test]
fn a_rollout_ends_with_success_and_then_rests() {
    let sets = [set("v1", 1, 0, 0), set("v2", 2, 10, 10)];
    let first = run(&deployment(10, "v2"), &sets);
    let expected = "\
status deployments.apps web availableReplicas=10 observedGeneration=1 readyReplicas=10 replicas=10 terminatingReplicas=0 updatedReplicas=10
  Progressing=True NewReplicaSetAvailable ReplicaSet \"web-V2\" has successfully progressed.
  Available=True MinimumReplicasAvailable Deployment has minimum availability.
patch deployments.apps default/web merge {\"metadata\":{\"annotations\":{\"deployment.kubernetes.io/revision\":\"2\"}}}
";
    assert_eq!(story(&first), expected);
    assert_eq!(
        story(&run(&after(deployment(10, "v2"), &first, "2"), &sets)),
        ""
    );
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_shared_in_proportion() {
    let sets = [set("v1", 1, 8, 8), set("v2", 2, 5, 5)];
    let text = story(&run(&deployment(20, "v2"), &sets));
    let scaled: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("update"))
        .collect();
    // The ceiling goes from 13 to 25: 8 becomes 15, 5 becomes 10.
    let expected = [
        "update replicasets.apps web-V2 replicas=10 revision=2 desired=20 max=25",
        "update replicasets.apps web-V1 replicas=15 revision=1 desired=20 max=25",
    ];
    assert_eq!(scaled, expected);
}

#[test]
fn scaling_a_settled_deployment_scales_its_one_set() {
    let text = story(&run(&deployment(3, "v1"), &[set("v1", 1, 10, 10)]));
    assert!(text.starts_with(
        "update replicasets.apps web-V1 replicas=3 revision=1 desired=3 max=4\n\
         event Deployment default/web Normal ScalingReplicaSet: Scaled down replica set web-V1 from 10 to 3\n"
    ), "{text}");
}

#[test]
fn recreate_empties_first_and_waits_for_the_last_pod() {
    let mut recreate = deployment(10, "v2");
    recreate["spec"]["strategy"] = json!({"type": "Recreate"});
    let text = story(&run(&recreate, &[set("v1", 1, 10, 10)]));
    assert!(
        text.starts_with(
            "update replicasets.apps web-V1 replicas=0 revision=1 desired=10 max=10\n"
        ),
        "{text}"
    );
    assert!(!text.contains("create"), "{text}");
    let emptied = [Arc::new(set("v1", 1, 0, 0))];
    let with_live = |live: usize| {
        story(&plan(
            &Arc::new(recreate.clone()),
            &Observed {
                replica_sets: &emptied,
                live_pods: &|_| live,
            },
            NOW,
        ))
    };
    assert!(!with_live(1).contains("create"));
    assert!(
        with_live(0).starts_with(
            "create replicasets.apps web-V2 replicas=10 revision=2 desired=10 max=10\n"
        )
    );
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut paused = deployment(10, "v2");
    paused["spec"]["paused"] = json!(true);
    let text = story(&run(&paused, &[set("v1", 1, 10, 10)]));
    assert!(
        !text.contains("create")
            && text.contains("Progressing=Unknown DeploymentPaused Deployment is paused"),
        "{text}"
    );
    paused["spec"]["replicas"] = json!(4);
    assert!(
        story(&run(&paused, &[set("v1", 1, 10, 10)]))
            .starts_with("update replicasets.apps web-V1 replicas=4")
    );
}

#[test]
fn a_rollout_that_makes_no_progress_times_out() {
    let sets = [set("v1", 1, 8, 8), set("v2", 2, 5, 0)];
    let stuck = after(
        deployment(10, "v2"),
        &run(&deployment(10, "v2"), &sets),
        "2",
    );
    let sets: Vec<Arc<Value>> = sets.into_iter().map(Arc::new).collect();
    let observed = Observed {
        replica_sets: &sets,
        live_pods: &|_| 0,
    };
    let text = story(&plan(&Arc::new(stuck), &observed, NOW + 601_000_000));
    assert!(text.contains("Progressing=False ProgressDeadlineExceeded ReplicaSet \"web-V2\" has timed out progressing."), "{text}");
}

#[test]
fn a_taken_name_makes_another_hash() {
    let mut taken = set("v1", 1, 0, 0);
    taken["spec"]["template"] = json!({"spec": {}});
    taken["metadata"]["ownerReferences"] = json!([{"uid": "other", "controller": true}]);
    let first = run(&deployment(10, "v1"), &[taken.clone()]);
    assert!(
        story(&first).contains("collisionCount=1"),
        "{}",
        story(&first)
    );
    let second = story(&run(&after(deployment(10, "v1"), &first, "1"), &[taken]));
    assert!(
        second.starts_with("create replicasets.apps web-") && !second.contains("web-V1"),
        "{second}"
    );
}

#[test]
fn old_sets_beyond_the_limit_go_and_rollback_reuses_a_kept_one() {
    let mut sets: Vec<Value> = (1..=4)
        .map(|revision| {
            let mut old = set("v1", revision, 0, 0);
            object::set_at(
                &mut old,
                &["metadata", "name"],
                json!(format!("web-old{revision}")),
            );
            object::set_at(
                &mut old,
                &["metadata", "uid"],
                json!(format!("old{revision}")),
            );
            old["spec"]["template"]["spec"]["containers"][0]["image"] =
                json!(format!("old{revision}"));
            old
        })
        .collect();
    sets.push(set("v2", 5, 10, 10));
    let text = story(&run(&deployment(10, "v2"), &sets));
    assert!(text.contains("delete replicasets.apps default/web-old1 uid=old1\ndelete replicasets.apps default/web-old2 uid=old2\n"), "{text}");
    assert!(!text.contains("web-old3 uid"));
    let text = story(&run(&deployment(10, "old4"), &sets));
    assert!(
        text.starts_with("update replicasets.apps web-old4 replicas=3 revision=6"),
        "{text}"
    );
}

#[test]
fn free_sets_are_adopted_and_strangers_released() {
    let mut free = set("v1", 1, 3, 3);
    free["metadata"]["ownerReferences"] = json!([]);
    let mut stranger = set("v2", 2, 3, 3);
    stranger["metadata"]["labels"] = json!({"app": "other"});
    let text = story(&run(&deployment(3, "v1"), &[free, stranger]));
    let expected = r#"patch replicasets.apps default/web-V1 strategic {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"Deployment","name":"web","uid":"d"}],"uid":"v1"}}
patch replicasets.apps default/web-V2 strategic {"metadata":{"ownerReferences":[{"$patch":"delete","uid":"d"}],"uid":"v2"}}
"#;
    assert_eq!(text, expected);
}

// ---- whole rollouts, at random ----

fn deployment_step(world: &mut World) {
    let Some(deployment) = world.get(DEPLOYMENTS, "web") else {
        return;
    };
    let sets = world.all(REPLICA_SETS);
    let pods = world.pods();
    let live = |uid: &str| {
        pods.iter()
            .filter(|pod| pod.controller_uid.as_deref() == Some(uid) && !pod.has_ended())
            .count()
    };
    let actions = plan(
        &deployment,
        &Observed {
            replica_sets: &sets,
            live_pods: &live,
        },
        world.now_micros,
    );
    world.apply(&actions);
}

fn replica_set_step(world: &mut World, dice: &mut Dice) {
    let sets = world.all(REPLICA_SETS);
    if sets.is_empty() {
        return;
    }
    let set = &sets[dice.below(sets.len())];
    let pods = world.pods();
    let observed = replicaset::Observed {
        pods: &pods,
        sibling_pods: &[],
        creations_in_flight: 0,
        deletions_in_flight: 0,
        failure: None,
    };
    let actions = replicaset::plan(set, &observed, world.now_micros);
    world.apply(&actions);
}

/// Feeds the graph what changed and carries out what it asks.
fn garbage_step(world: &mut World, graph: &mut Graph) {
    for (resource, value, there) in std::mem::take(&mut world.changes) {
        if there {
            graph.observe(&Observation::from_object(resource, &value));
        } else {
            graph.forget(object::uid(&value));
        }
    }
    let mut actions = Vec::new();
    graph.poll(3, &mut actions);
    for action in &actions {
        if let Action::CheckOwner { uid, .. } = action {
            graph.owner_checked(uid, OwnerFound::Absent);
        }
    }
    world.apply(&actions);
}

fn settle(
    world: &mut World,
    dice: &mut Dice,
    graph: &mut Graph,
    steps: usize,
    mut check: impl FnMut(&World),
) {
    for _ in 0..steps {
        world.now_micros += 100_000;
        match dice.below(8) {
            0 => deployment_step(world),
            1 | 2 => replica_set_step(world, dice),
            3 => garbage_step(world, graph),
            _ => world.kubelet_step(dice),
        }
        check(world);
    }
}

fn is_settled(world: &World, replicas: usize, image: &str) -> bool {
    let pods = world.pods();
    let deployment = world.get(DEPLOYMENTS, "web").expect("the deployment");
    let status = |field: &str| object::i64_at(&deployment, &["status", field]).unwrap_or(0);
    let running = |value: &Value| {
        let container = items(value, &["spec", "containers"]).first();
        container.is_some_and(|container| text_of(container, "image") == image)
    };
    pods.len() == replicas
        && pods.iter().all(|pod| pod.is_ready())
        && world.all(PODS).iter().all(|pod| running(pod))
        && status("availableReplicas") == replicas as i64
        && status("updatedReplicas") == replicas as i64
        && status("observedGeneration") == object::generation(&deployment)
}

#[test]
fn random_rollouts_keep_surge_and_availability_and_arrive() {
    for seed in 0..8 {
        let mut dice = Dice::new(seed);
        let (mut world, mut graph) = (World::new(), Graph::default());
        let replicas = 1 + dice.below(12);
        let (surge, unavailable) = [(1, 0), (0, 1), (2, 1), (3, 3)][dice.below(4)];
        let mut wanted = deployment(replicas as i64, "v0");
        wanted["spec"]["strategy"]["rollingUpdate"] =
            json!({"maxSurge": surge, "maxUnavailable": unavailable});
        world.create(DEPLOYMENTS, wanted);
        let mut image = "v0".to_owned();
        settle(&mut world, &mut dice, &mut graph, 3000, |_| {});
        assert!(
            is_settled(&world, replicas, &image),
            "seed {seed}: first rollout"
        );
        for round in 1..4 {
            image = format!("v{round}");
            let edited = json!(image.clone());
            world.edit(DEPLOYMENTS, "web", |value| {
                value["spec"]["template"]["spec"]["containers"][0]["image"] = edited
            });
            // Sometimes the template changes again before the rollout has ended.
            let steps = if dice.one_in(3) { 100 } else { 2500 };
            settle(&mut world, &mut dice, &mut graph, steps, |world| {
                let wanted: i64 = world
                    .all(REPLICA_SETS)
                    .iter()
                    .filter_map(|set| object::i64_at(set, &["spec", "replicas"]))
                    .sum();
                assert!(
                    wanted <= (replicas + surge) as i64,
                    "seed {seed}: {wanted} of {replicas} with surge {surge}"
                );
                let pods = world.pods();
                let available = pods
                    .iter()
                    .filter(|pod| pod.is_active() && pod.is_ready())
                    .count();
                assert!(
                    available + unavailable >= replicas,
                    "seed {seed}: only {available} of {replicas} available"
                );
            });
            if steps == 2500 {
                assert!(
                    is_settled(&world, replicas, &image),
                    "seed {seed}: round {round}\n{:?}",
                    world.inventory()
                );
            }
        }
        // History is limited to two old sets; a deletion takes everything along.
        settle(&mut world, &mut dice, &mut graph, 2500, |_| {});
        assert!(
            world.all(REPLICA_SETS).len() <= 3,
            "seed {seed}: {:?}",
            world.inventory()
        );
        world.delete(
            DEPLOYMENTS,
            "web",
            if dice.one_in(2) {
                "Foreground"
            } else {
                "Background"
            },
        );
        settle(&mut world, &mut dice, &mut graph, 3000, |_| {});
        assert!(
            world.inventory().is_empty(),
            "seed {seed}: {:?}",
            world.inventory()
        );
        assert!(
            graph.is_empty(),
            "seed {seed}: the graph keeps {} nodes",
            graph.len()
        );
    }
}

#[test]
fn random_resizes_in_the_middle_of_recreate_or_rolling_arrive() {
    for seed in 100..106 {
        let mut dice = Dice::new(seed);
        let (mut world, mut graph) = (World::new(), Graph::default());
        let mut wanted = deployment(5, "v0");
        if dice.one_in(2) {
            wanted["spec"]["strategy"] = json!({"type": "Recreate"});
        }
        world.create(DEPLOYMENTS, wanted);
        let mut replicas = 5;
        for round in 0..6 {
            settle(&mut world, &mut dice, &mut graph, 60, |_| {});
            replicas = dice.below(15);
            world.edit(DEPLOYMENTS, "web", |value| {
                value["spec"]["replicas"] = json!(replicas);
                value["spec"]["template"]["spec"]["containers"][0]["image"] =
                    json!(format!("v{}", round / 2));
            });
        }
        settle(&mut world, &mut dice, &mut graph, 4000, |_| {});
        assert!(
            is_settled(&world, replicas, "v2"),
            "seed {seed}: {replicas} of {:?}",
            world.inventory()
        );
        let free = world
            .pods()
            .iter()
            .filter(|pod| pod.controller_uid.is_none())
            .count();
        assert_eq!(free, 0);
        assert!(
            world
                .all(REPLICA_SETS)
                .iter()
                .all(|set| controller_uid(set).is_some())
        );
    }
}

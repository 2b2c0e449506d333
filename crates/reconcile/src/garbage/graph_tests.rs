//! Stories of the collector, and random forests of owners.

use super::{FOREGROUND_FINALIZER, Graph, ORPHAN_FINALIZER, Observation, OwnerFound};
use crate::action::{Action, CONFIG_MAPS, ResourceRef, text};
use crate::toy::{Dice, World};
use meta::{Value, object};
use std::collections::HashSet;
use value::json;

const THINGS: ResourceRef = CONFIG_MAPS;

fn thing(name: &str, owners: &[(&str, bool)], finalizer: Option<&str>) -> Observation {
    let owners: Vec<Value> = owners
        .iter()
        .map(|(uid, block)| reference(uid, uid, *block))
        .collect();
    let mut value = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "ownerReferences": owners}});
    if let Some(finalizer) = finalizer {
        value["metadata"]["finalizers"] = json!([finalizer]);
        value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    Observation::from_object(THINGS, &value)
}

fn reference(name: &str, uid: &str, block: bool) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": block})
}

fn poll(graph: &mut Graph) -> String {
    let mut actions = Vec::new();
    graph.poll(1000, &mut actions);
    let mut lines: Vec<String> = text(&actions).lines().map(str::to_owned).collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn background_dependents_follow_their_last_owner() {
    let mut graph = Graph::default();
    for seen in [
        thing("a", &[], None),
        thing("b", &[], None),
        thing("x", &[("a", true)], None),
        thing("y", &[("a", true), ("b", true)], None),
    ] {
        graph.observe(&seen);
    }
    assert_eq!(poll(&mut graph), "");
    graph.forget("a");
    assert_eq!(
        poll(&mut graph),
        "delete configmaps default/x uid=x Background\nremove owners a of configmaps default/y"
    );
    graph.forget("x");
    graph.observe(&thing("y", &[("b", true)], None));
    graph.forget("b");
    assert_eq!(
        poll(&mut graph),
        "delete configmaps default/y uid=y Background"
    );
    graph.forget("y");
    assert!(graph.is_empty());
}

#[test]
fn an_unknown_owner_is_looked_up_before_anything_is_deleted() {
    let mut graph = Graph::default();
    graph.observe(&thing("x", &[("ghost", false)], None));
    assert_eq!(
        poll(&mut graph),
        "check owner v1 ConfigMap default/ghost uid=ghost"
    );
    assert_eq!(poll(&mut graph), "", "asked once");
    graph.owner_checked("ghost", OwnerFound::Present);
    assert_eq!(poll(&mut graph), "");
    graph.forget("ghost");
    assert_eq!(
        poll(&mut graph),
        "delete configmaps default/x uid=x Background"
    );
    let mut graph = Graph::default();
    graph.observe(&thing("x", &[("ghost", false)], None));
    poll(&mut graph);
    graph.owner_checked("ghost", OwnerFound::Absent);
    assert_eq!(
        poll(&mut graph),
        "delete configmaps default/x uid=x Background"
    );
    graph.retry("x");
    assert_eq!(
        poll(&mut graph),
        "delete configmaps default/x uid=x Background",
        "a failed deletion is repeated"
    );
}

#[test]
fn a_foreground_owner_goes_after_its_blocking_dependents() {
    let mut graph = Graph::default();
    for seen in [
        thing("a", &[], None),
        thing("x", &[("a", true)], None),
        thing("loose", &[("a", false)], None),
        thing("deep", &[("x", true)], None),
    ] {
        graph.observe(&seen);
    }
    assert_eq!(poll(&mut graph), "");
    graph.observe(&thing("a", &[], Some(FOREGROUND_FINALIZER)));
    assert_eq!(
        poll(&mut graph),
        "delete configmaps default/x uid=x Foreground"
    );
    graph.observe(&thing("x", &[("a", true)], Some(FOREGROUND_FINALIZER)));
    assert_eq!(
        poll(&mut graph),
        "delete configmaps default/deep uid=deep Background"
    );
    graph.forget("deep");
    assert_eq!(
        poll(&mut graph),
        "remove finalizer foregroundDeletion of configmaps default/x"
    );
    graph.forget("x");
    assert_eq!(
        poll(&mut graph),
        "remove finalizer foregroundDeletion of configmaps default/a"
    );
    graph.forget("a");
    assert_eq!(
        poll(&mut graph),
        "delete configmaps default/loose uid=loose Background"
    );
}

#[test]
fn an_orphaning_owner_goes_after_its_dependents_forgot_it() {
    let mut graph = Graph::default();
    for seen in [thing("a", &[], None), thing("x", &[("a", true)], None)] {
        graph.observe(&seen);
    }
    graph.observe(&thing("a", &[], Some(ORPHAN_FINALIZER)));
    assert_eq!(poll(&mut graph), "remove owners a of configmaps default/x");
    graph.observe(&thing("x", &[], None));
    assert_eq!(
        poll(&mut graph),
        "remove finalizer orphan of configmaps default/a"
    );
    graph.forget("a");
    assert_eq!(poll(&mut graph), "");
    assert_eq!(graph.len(), 1);
}

#[test]
fn an_owner_in_another_namespace_does_not_hold() {
    let mut graph = Graph::default();
    let mut far = thing("a", &[], None);
    far.namespace = "far".to_owned();
    graph.observe(&far);
    graph.observe(&thing("x", &[("a", true)], None));
    assert_eq!(
        poll(&mut graph),
        "delete configmaps default/x uid=x Background"
    );
}

#[test]
fn ten_thousand_dependents_cost_ten_thousand_looks() {
    let mut graph = Graph::default();
    graph.observe(&thing("a", &[], None));
    for number in 0..10_000 {
        graph.observe(&thing(&format!("x{number}"), &[("a", true)], None));
    }
    poll(&mut graph);
    let mut actions = Vec::new();
    graph.poll(usize::MAX, &mut actions);
    graph.observe(&thing("a", &[], Some(FOREGROUND_FINALIZER)));
    graph.poll(usize::MAX, &mut actions);
    assert_eq!(actions.len(), 10_000);
    actions.clear();
    for number in 0..10_000 {
        graph.forget(&format!("x{number}"));
        graph.poll(10, &mut actions);
    }
    assert_eq!(
        text(&actions),
        "remove finalizer foregroundDeletion of configmaps default/a\n"
    );
}

#[test]
fn random_forests_keep_no_orphan_and_lose_no_owned_object() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let (mut world, mut graph) = (World::new(), Graph::default());
        let mut uids: Vec<(String, String)> = Vec::new();
        for number in 0..30 {
            let name = format!("t{number}");
            let mut owners: Vec<Value> = Vec::new();
            for _ in 0..dice.below(3) {
                if !uids.is_empty() {
                    let (owner, uid) = &uids[dice.below(uids.len())];
                    owners.push(reference(owner, uid, dice.one_in(2)));
                }
            }
            let created = world.create(
                THINGS,
                json!({"metadata": {"name": name, "ownerReferences": owners}}),
            );
            uids.push((name, object::uid(&created).to_owned()));
        }
        // The collector may start late, and hear of things in any order.
        let mut orphaned = false;
        for step in 0..1500 {
            if step < 200 && dice.one_in(20) {
                let policy = ["Background", "Foreground", "Orphan"][dice.below(3)];
                orphaned |= policy == "Orphan";
                world.delete(THINGS, &uids[dice.below(uids.len())].0, policy);
            }
            feed(&mut world, &mut graph, &mut dice);
        }
        let live: HashSet<String> = world
            .all(THINGS)
            .iter()
            .map(|value| object::uid(value).to_owned())
            .collect();
        for value in world.all(THINGS) {
            assert!(
                !object::is_deleting(&value),
                "seed {seed}: {} never ends",
                object::name(&value)
            );
            let owners = object::owner_references(&value);
            let dead = owners
                .iter()
                .filter(|owner| !live.contains(crate::pod::text_of(owner, "uid")))
                .count();
            assert_eq!(
                dead,
                0,
                "seed {seed}: {} has a dead owner",
                object::name(&value)
            );
        }
        assert_eq!(graph.len(), live.len(), "seed {seed}, orphaned {orphaned}");
        assert_eq!(graph.queued(), 0);
    }
}

fn feed(world: &mut World, graph: &mut Graph, dice: &mut Dice) {
    // Only some of the news arrives, in order.
    let ready = dice.below(world.changes.len() + 1);
    for (resource, value, there) in world.changes.drain(..ready).collect::<Vec<_>>() {
        if there {
            graph.observe(&Observation::from_object(resource, &value));
        } else {
            graph.forget(object::uid(&value));
        }
    }
    let mut actions = Vec::new();
    graph.poll(2, &mut actions);
    for action in &actions {
        if let Action::CheckOwner { name, uid, .. } = action {
            let found = world
                .get(THINGS, name)
                .is_some_and(|found| object::uid(&found) == uid);
            graph.owner_checked(
                uid,
                if found {
                    OwnerFound::Present
                } else {
                    OwnerFound::Absent
                },
            );
        }
    }
    world.apply(&actions);
}

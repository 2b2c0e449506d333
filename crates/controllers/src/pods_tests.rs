//! Pods in their groups: as they are now, whatever they were.

use super::*;
use value::json;

fn pod(name: &str, owner: &str, node: &str, phase: &str, claim: &str) -> Pod {
    let owners = if owner.is_empty() {
        json!([])
    } else {
        json!([{"uid": owner, "controller": true}])
    };
    let volumes = if claim.is_empty() {
        json!([])
    } else {
        json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}])
    };
    Pod::from_object(&json!({
        "metadata": {"namespace": "d", "name": name, "uid": name, "ownerReferences": owners},
        "spec": {"nodeName": node, "volumes": volumes}, "status": {"phase": phase}}))
}

fn sorted(slots: &[Slot]) -> Vec<Slot> {
    let mut slots = slots.to_vec();
    slots.sort_unstable();
    slots
}

fn check_empty(index: &PodIndex) {
    assert!(index.ledgers.iter().all(Keyed::is_empty) && index.by_claim.is_empty());
    let is_nowhere = |places: &[Place; LEDGERS]| places.iter().all(|place| *place == NOWHERE);
    assert!(index.places.iter().all(is_nowhere));
}

#[test]
fn pods_are_found_by_owner_namespace_and_node_and_leave_nothing_behind() {
    let mut index = PodIndex::default();
    let all = [
        (0, pod("a", "rs", "n1", "Running", "c")),
        (7, pod("b", "rs", "", "Failed", "c")),
        (3, pod("c", "", "n1", "Running", "")),
    ];
    all.iter().for_each(|(slot, pod)| index.enter(*slot, pod));
    let group = |by, name| sorted(index.group(by, name));
    assert_eq!(group(By::Controller, "rs"), [0, 7]);
    assert_eq!(
        (group(By::Owned, "d"), group(By::Free, "d")),
        (vec![0, 7], vec![3])
    );
    assert_eq!(group(By::Node, "n1"), [0, 3]);
    assert!(group(By::Node, "").is_empty());
    assert_eq!(group(By::Ended, ""), [7]);
    assert_eq!(index.by_claim["d/c"].len(), 2);
    all.iter().for_each(|(slot, pod)| index.leave(*slot, pod));
    check_empty(&index);
}

#[test]
fn a_pod_moves_between_owners_nodes_and_claims() {
    let mut index = PodIndex::default();
    let others = [1, 2, 4].map(|slot| (slot, pod(&format!("p{slot}"), "a", "n1", "Running", "c")));
    for (slot, other) in &others {
        index.enter(*slot, other);
    }
    let steps = [
        pod("p", "", "", "Pending", ""),
        pod("p", "a", "", "Pending", "c"),
        pod("p", "a", "n1", "Running", "c"),
        pod("p", "b", "n2", "Running", "e"),
        pod("p", "b", "n2", "Succeeded", "e"),
        pod("p", "", "n1", "Running", ""),
        pod("p", "", "n1", "Running", ""),
    ];
    index.enter(3, &steps[0]);
    for pair in steps.windows(2) {
        let (old, new) = (&pair[0], &pair[1]);
        index.change(3, old, new);
        // Where it is by being there only.
        let mut expected = PodIndex::default();
        for (slot, other) in others
            .iter()
            .map(|(slot, pod)| (*slot, pod))
            .chain([(3, new)])
        {
            expected.enter(slot, other);
        }
        for by in [By::Controller, By::Owned, By::Free, By::Node, By::Ended] {
            for name in ["a", "b", "d", "n1", "n2", ""] {
                assert_eq!(
                    sorted(index.group(by, name)),
                    sorted(expected.group(by, name)),
                    "{by:?} {name:?}"
                );
            }
        }
        assert_eq!(index.by_claim, expected.by_claim);
    }
    index.leave(3, &steps[6]);
    for (slot, other) in others.iter().rev() {
        index.leave(*slot, other);
    }
    check_empty(&index);
}

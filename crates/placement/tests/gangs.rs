//! Gangs: who waits for whom, and who goes on when.

use placement::PodKey;
use placement::gangs::{Gangs, GroupPolicy, PERMIT_WAIT_MICROS, Permit};
use value::json;

fn pod(number: u128) -> PodKey {
    PodKey::of_uuid(number)
}

fn gang(min_count: usize) -> GroupPolicy {
    GroupPolicy::Gang { min_count }
}

/// A gang of three with so many pods, and what it says of the first.
fn three(pods: u128) -> Gangs {
    let mut gangs = Gangs::new(1);
    gangs.note_group("n/g", gang(3));
    for number in 1..=pods {
        gangs.note_pod(pod(number), "n/g", false);
    }
    gangs
}

#[test]
fn policies_are_read() {
    let of = |policy| GroupPolicy::from_object(&json!({"spec": {"schedulingPolicy": policy}}));
    assert_eq!(of(json!({"gang": {"minCount": 4}})), gang(4));
    assert_eq!(of(json!({"basic": {}})), GroupPolicy::Basic);
}

#[test]
fn a_pod_waits_for_its_group_and_for_enough_others() {
    let mut gangs = Gangs::new(1);
    assert_eq!(gangs.gate(pod(1)), None);
    gangs.note_pod(pod(1), "n/g", false);
    assert_eq!(
        gangs.gate(pod(1)).unwrap(),
        "waiting for pods's pod group \"g\" to appear in scheduling queue"
    );
    assert_eq!(gangs.note_group("n/g", gang(2)), [pod(1)]);
    assert_eq!(
        gangs.gate(pod(1)).unwrap(),
        "waiting for minCount pods from a gang to appear in scheduling queue"
    );
    // One that has its node counts, and lets the others in.
    assert_eq!(gangs.note_pod(pod(2), "n/g", true), [pod(1)]);
    assert_eq!(gangs.gate(pod(1)), None);
    gangs.forget_pod(pod(2));
    assert!(gangs.gate(pod(1)).is_some());
    gangs.note_group("n/g", GroupPolicy::Basic);
    assert_eq!(gangs.gate(pod(1)), None);
    gangs.remove_group("n/g");
    assert!(gangs.gate(pod(1)).is_some());
}

#[test]
fn the_last_one_takes_all_with_it() {
    let mut gangs = three(4);
    assert_eq!(
        gangs.permit(pod(1), 0),
        Permit::Wait(vec![pod(2), pod(3), pod(4)])
    );
    assert_eq!(gangs.permit(pod(3), 0), Permit::Wait(vec![pod(2), pod(4)]));
    assert_eq!(
        gangs.permit(pod(4), 0),
        Permit::Allowed(vec![pod(1), pod(3)])
    );
    assert_eq!(gangs.permit(pod(2), 0), Permit::Allowed(Vec::new()));
    // Pods of no group, and of a group that places each for itself, go on at once.
    assert_eq!(gangs.permit(pod(9), 0), Permit::Allowed(Vec::new()));
    gangs.note_group("n/b", GroupPolicy::Basic);
    gangs.note_pod(pod(8), "n/b", false);
    assert_eq!(gangs.permit(pod(8), 0), Permit::Allowed(Vec::new()));
}

#[test]
fn when_what_is_left_cannot_be_enough_all_are_sent_back() {
    let mut gangs = three(4);
    gangs.permit(pod(1), 0);
    gangs.permit(pod(2), 0);
    // One is left that may do it.
    assert_eq!(gangs.failed(pod(3)), None);
    let (back, why) = gangs.failed(pod(4)).unwrap();
    assert_eq!(back, [pod(1), pod(2)]);
    assert_eq!(
        why,
        "minCount (3) cannot be satisfied: 2 scheduled, 0 remaining"
    );
    // Later there is room for all.
    gangs.permit(pod(3), 0);
    gangs.permit(pod(4), 0);
    assert_eq!(
        gangs.permit(pod(1), 0),
        Permit::Allowed(vec![pod(3), pod(4)])
    );
    // Nobody waits for one that fails now.
    assert_eq!(gangs.failed(pod(2)), None);
    gangs.reopen(pod(1));
    assert_eq!(gangs.permit(pod(2), 0), Permit::Allowed(Vec::new()));
}

#[test]
fn who_waits_too_long_is_sent_back() {
    let mut gangs = three(3);
    gangs.permit(pod(1), 7);
    gangs.permit(pod(2), 8);
    assert_eq!(gangs.overdue(PERMIT_WAIT_MICROS + 6), []);
    assert_eq!(gangs.overdue(PERMIT_WAIT_MICROS + 7), [pod(1)]);
    assert_eq!(gangs.overdue(PERMIT_WAIT_MICROS + 8), [pod(2)]);
    assert_eq!(gangs.overdue(i64::MAX), []);
}

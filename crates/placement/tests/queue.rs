//! The queue as a conversation: who is next, and when.

use placement::queue::{Event, Full, Pending, Queue, QueueConfig};
use placement::{ClassId, Cluster, Config, Plugin, PluginSet, PodKey, PodSpec, Toleration};

const SECOND: i64 = 1_000_000;
const FIT: PluginSet = PluginSet::of(&[Plugin::NodeResourcesFit]);

fn classes() -> [ClassId; 2] {
    let mut cluster = Cluster::new(Config::default());
    let tolerant = PodSpec {
        tolerations: vec![Toleration {
            key: "gpu".into(),
            operator: placement::TolerationOperator::Exists,
            value: "".into(),
            effect: None,
        }],
        ..PodSpec::default()
    };
    [
        cluster.class_of(&PodSpec::default()),
        cluster.class_of(&tolerant),
    ]
}

fn pod(name: &str) -> PodKey {
    PodKey::of(name)
}

fn pending(name: &str, class: ClassId, priority: i32) -> Pending {
    Pending {
        pod: pod(name),
        class,
        priority,
        gated: false,
    }
}

fn next(queue: &mut Queue, now: i64) -> Option<PodKey> {
    queue.pop(now).map(|turn| turn.pod)
}

/// A queue that does not cut backoffs short, to see them.
fn patient() -> Queue {
    Queue::new(QueueConfig {
        pop_from_backoff: false,
        ..QueueConfig::default()
    })
}

#[test]
fn higher_priority_first_then_first_come() {
    let [class, _] = classes();
    let mut queue = Queue::new(QueueConfig::default());
    for (name, priority, at) in [("a", 0, 1), ("b", 5, 2), ("c", 0, 3), ("d", 5, 4)] {
        queue.add(pending(name, class, priority), at).unwrap();
    }
    assert_eq!(queue.peek_class(), Some(class));
    for name in ["b", "d", "a", "c"] {
        assert_eq!(next(&mut queue, 10), Some(pod(name)));
    }
    assert_eq!(next(&mut queue, 10), None);
    assert_eq!(queue.counts().in_flight, 4);
    queue.placed(pod("a"), 10);
    assert_eq!(queue.len(), 3);
}

#[test]
fn backoff_doubles_from_one_second_to_ten() {
    let [class, _] = classes();
    let mut queue = patient();
    queue.add(pending("a", class, 0), 0).unwrap();
    let mut now = 0;
    for seconds in [1, 2, 4, 8, 10, 10] {
        assert_eq!(next(&mut queue, now), Some(pod("a")));
        queue.unschedulable(pod("a"), FIT, now);
        queue.event(Event::AssignedPodDelete, now, |_, _| true);
        assert_eq!(queue.next_backoff_micros(), Some(now + seconds * SECOND));
        assert_eq!(next(&mut queue, now + seconds * SECOND - 1), None);
        now += seconds * SECOND;
    }
    assert_eq!(queue.pop(now).unwrap().attempt, 7);
}

#[test]
fn errors_back_off_by_themselves_and_are_not_cut_short() {
    let [class, _] = classes();
    let mut queue = Queue::new(QueueConfig::default());
    for name in ["failed", "unfit"] {
        queue.add(pending(name, class, 0), 0).unwrap();
        queue.pop(0).unwrap();
    }
    queue.error(pod("failed"), 0);
    queue.unschedulable(pod("unfit"), FIT, 0);
    queue.event(Event::NodeAdd, 0, |_, _| true);
    // Nobody else is left, so the unfit one is tried at once; the failed one waits its second.
    assert_eq!(next(&mut queue, 1), Some(pod("unfit")));
    assert_eq!(next(&mut queue, 1), None);
    assert_eq!(next(&mut queue, SECOND), Some(pod("failed")));
}

#[test]
fn an_event_wakes_only_whom_it_may_help() {
    let [plain, tolerant] = classes();
    let mut queue = Queue::new(QueueConfig::default());
    queue.add(pending("full", plain, 0), 0).unwrap();
    queue.add(pending("tainted", tolerant, 0), 0).unwrap();
    queue.pop(0).unwrap();
    queue.pop(0).unwrap();
    queue.unschedulable(pod("full"), FIT, 0);
    queue.unschedulable(pod("tainted"), PluginSet::of(&[Plugin::TaintToleration]), 0);
    assert_eq!(queue.counts().parked, 2);

    queue.event(Event::NodeLabels, SECOND, |_, _| true);
    assert_eq!(next(&mut queue, SECOND), None);
    queue.event(Event::NodeTaints, SECOND, |_, _| true);
    assert_eq!(next(&mut queue, SECOND), Some(pod("tainted")));
    assert_eq!(next(&mut queue, SECOND), None);
    queue.event(Event::NodeAdd, SECOND, |class, _| class != plain);
    assert_eq!(next(&mut queue, SECOND), None);
    queue.event(Event::NodeAdd, SECOND, |_, _| true);
    assert_eq!(next(&mut queue, SECOND), Some(pod("full")));
}

#[test]
fn a_woken_class_goes_on_as_long_as_its_pods_find_nodes() {
    let [class, _] = classes();
    let mut queue = Queue::new(QueueConfig::default());
    for (name, priority) in [("a", 0), ("b", 0), ("c", 9), ("d", 0)] {
        queue.add(pending(name, class, priority), 0).unwrap();
    }
    while let Some(turn) = queue.pop(0) {
        queue.unschedulable(turn.pod, FIT, 0);
    }
    assert_eq!(queue.counts().parked, 4);
    let now = 20 * SECOND;
    queue.event(Event::AssignedPodDelete, now, |_, _| true);
    assert_eq!(next(&mut queue, now), Some(pod("c")));
    assert_eq!(next(&mut queue, now), None, "one at a time");
    queue.placed(pod("c"), now);
    assert_eq!(next(&mut queue, now), Some(pod("a")));
    // A pod deleted while it is tried holds nobody up.
    assert!(queue.remove(pod("a"), now));
    assert_eq!(next(&mut queue, now), Some(pod("b")));
    queue.unschedulable(pod("b"), FIT, now);
    assert_eq!(next(&mut queue, now), None);
    assert_eq!(queue.counts().parked, 2);
    // The next event starts over with the one that waits longest.
    queue.event(Event::AssignedPodDelete, now, |_, _| true);
    assert_eq!(next(&mut queue, now), Some(pod("d")));
}

#[test]
fn an_event_during_the_try_is_not_missed() {
    let [class, _] = classes();
    let mut queue = patient();
    queue.add(pending("a", class, 0), 0).unwrap();
    queue.pop(0).unwrap();
    queue.event(Event::AssignedPodDelete, 0, |_, _| true);
    queue.unschedulable(pod("a"), FIT, 0);
    assert_eq!(queue.counts().backoff, 1);
    assert_eq!(next(&mut queue, SECOND), Some(pod("a")));
    queue.event(Event::NodeTaints, SECOND, |_, _| true);
    queue.unschedulable(pod("a"), FIT, SECOND);
    assert_eq!(queue.counts().parked, 1, "that event could not have helped");
}

#[test]
fn parked_classes_are_tried_again_after_five_minutes() {
    let [class, _] = classes();
    let mut queue = Queue::new(QueueConfig::default());
    queue.add(pending("a", class, 0), 0).unwrap();
    queue.pop(0).unwrap();
    queue.unschedulable(pod("a"), FIT, 0);
    queue.flush(300 * SECOND);
    assert_eq!(next(&mut queue, 300 * SECOND), None);
    queue.flush(300 * SECOND + 1);
    assert_eq!(next(&mut queue, 300 * SECOND + 1), Some(pod("a")));
}

#[test]
fn gated_pods_wait_until_their_gates_are_gone() {
    let [class, _] = classes();
    let mut queue = Queue::new(QueueConfig::default());
    let gated = Pending {
        gated: true,
        ..pending("a", class, 0)
    };
    queue.add(gated, 0).unwrap();
    queue.event(Event::NodeAdd, 1, |_, _| true);
    assert_eq!(next(&mut queue, 1), None);
    assert_eq!(queue.counts().gated, 1);
    queue.add(pending("a", class, 0), 2).unwrap();
    assert_eq!(next(&mut queue, 2), Some(pod("a")));
    assert_eq!(queue.counts().gated, 0);
}

#[test]
fn a_changed_pod_gets_a_fresh_try_and_a_removed_one_none() {
    let [plain, tolerant] = classes();
    let mut queue = Queue::new(QueueConfig::default());
    queue.add(pending("a", plain, 0), 0).unwrap();
    queue.add(pending("b", plain, 0), 0).unwrap();
    assert!(queue.remove(pod("b"), 0));
    assert!(!queue.remove(pod("b"), 0));
    queue.pop(0).unwrap();
    queue.unschedulable(pod("a"), FIT, 0);
    queue.add(pending("a", plain, 0), SECOND).unwrap();
    assert_eq!(queue.counts().parked, 1, "nothing changed");
    queue.add(pending("a", tolerant, 0), SECOND).unwrap();
    let turn = queue.pop(SECOND).unwrap();
    assert_eq!((turn.pod, turn.class), (pod("a"), tolerant));
    queue.placed(pod("a"), SECOND);
    assert!(queue.is_empty());
}

#[test]
fn a_full_queue_refuses() {
    let [class, _] = classes();
    let mut queue = Queue::new(QueueConfig {
        pods_max: 1,
        ..QueueConfig::default()
    });
    queue.add(pending("a", class, 0), 0).unwrap();
    assert_eq!(queue.add(pending("b", class, 0), 0), Err(Full));
    assert_eq!(queue.add(pending("a", class, 7), 0), Ok(()));
}

/// Whatever happens, every pod is in exactly one place and none is lost.
#[test]
fn counts_always_add_up() {
    let classes = classes();
    let mut queue = Queue::new(QueueConfig::default());
    let mut seed = 1u64;
    let mut roll = |sides: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % sides
    };
    let mut flying: Vec<PodKey> = Vec::new();
    for round in 0..40_000i64 {
        let now = round * 100_000;
        let name = format!("pod-{}", roll(60));
        match roll(10) {
            0..=2 => {
                let class = classes[roll(2) as usize];
                let gated = roll(8) == 0;
                let pending = Pending {
                    gated,
                    ..pending(&name, class, roll(3) as i32)
                };
                queue.add(pending, now).unwrap();
            }
            3 => {
                queue.remove(pod(&name), now);
                flying.retain(|&p| p != pod(&name));
            }
            4 | 5 => flying.extend(queue.pop(now).map(|t| t.pod)),
            6 => {
                let event = [Event::NodeAdd, Event::NodeTaints, Event::AssignedPodDelete];
                queue.event(event[roll(3) as usize], now, |_, _| true);
            }
            7 => queue.flush(now),
            _ => {
                if let Some(pod) = flying.pop() {
                    match roll(3) {
                        0 => queue.placed(pod, now),
                        1 => queue.error(pod, now),
                        _ => queue.unschedulable(pod, FIT, now),
                    }
                }
            }
        }
        let counts = queue.counts();
        let waiting = counts.active + counts.backoff + counts.parked + counts.gated;
        assert_eq!(waiting + counts.in_flight, queue.len());
        assert_eq!(counts.in_flight, flying.len());
    }
    // In the end everybody without gates gets a turn.
    for pod in flying.drain(..) {
        queue.placed(pod, i64::MAX / 4);
    }
    let mut now = i64::MAX / 4;
    for _ in 0..200 {
        now += 1_000 * SECOND;
        queue.flush(now);
        while let Some(turn) = queue.pop(now) {
            queue.placed(turn.pod, now);
        }
    }
    assert_eq!(queue.len(), queue.counts().gated);
}

#[test]
fn who_has_a_node_in_view_waits_alone_and_is_held_while_others_go() {
    let [class, _] = classes();
    let mut queue = patient();
    for name in ["a", "b", "c"] {
        queue.add(pending(name, class, 0), 0).unwrap();
        assert_eq!(next(&mut queue, 0), Some(pod(name)));
    }
    queue.unschedulable_alone(pod("a"), FIT, 0);
    queue.hold(pod("b"));
    queue.unschedulable_alone(pod("b"), FIT, 0);
    queue.unschedulable(pod("c"), FIT, 0);
    assert_eq!(queue.counts().parked, 3);
    queue.event(Event::NodeTaints, SECOND, |_, _| true);
    assert_eq!(next(&mut queue, SECOND), None);
    // One of the class and the one that waits alone; not the one that is held.
    queue.event(Event::AssignedPodDelete, SECOND, |_, _| true);
    assert_eq!(next(&mut queue, SECOND), Some(pod("c")));
    assert_eq!(next(&mut queue, SECOND), Some(pod("a")));
    assert_eq!(next(&mut queue, SECOND), None);
    // What it missed wakes it when it is let go.
    queue.let_go(pod("b"), SECOND, false);
    assert_eq!(next(&mut queue, SECOND), Some(pod("b")));
    // Nothing missed: it stays, unless it is to be activated, which does not wait for its backoff.
    queue.hold(pod("b"));
    queue.unschedulable_alone(pod("b"), FIT, SECOND);
    queue.let_go(pod("b"), SECOND, false);
    assert_eq!(next(&mut queue, 99 * SECOND), None);
    queue.hold(pod("b"));
    queue.let_go(pod("b"), SECOND, true);
    assert_eq!(next(&mut queue, SECOND), Some(pod("b")));
    // An event that came while it was tried counts as missed.
    queue.event(Event::AssignedPodDelete, SECOND, |_, _| true);
    queue.hold(pod("b"));
    queue.unschedulable_alone(pod("b"), FIT, SECOND);
    assert_eq!(next(&mut queue, 99 * SECOND), None);
    queue.let_go(pod("b"), 99 * SECOND, false);
    assert_eq!(next(&mut queue, 99 * SECOND), Some(pod("b")));
    queue.unschedulable_alone(pod("b"), FIT, 99 * SECOND);
    assert!(queue.remove(pod("b"), 100 * SECOND));
    queue.flush(1_000 * SECOND);
    assert_eq!(queue.counts().parked, 0);
}

#[test]
fn waits_that_end_in_one_second_end_together_by_priority() {
    let [class, _] = classes();
    let mut queue = Queue::new(QueueConfig::default());
    for (name, priority, at) in [("low", 0, SECOND / 4), ("high", 9, SECOND / 2)] {
        queue.add(pending(name, class, priority), at).unwrap();
        assert_eq!(next(&mut queue, at), Some(pod(name)));
        queue.error(pod(name), at);
    }
    assert_eq!(queue.next_backoff_micros(), Some(SECOND));
    assert_eq!(next(&mut queue, SECOND - 1), None);
    assert_eq!(next(&mut queue, SECOND), Some(pod("high")));
    assert_eq!(next(&mut queue, SECOND), Some(pod("low")));
}

#[test]
fn a_turn_says_since_when_the_pod_could_be_tried_and_whether_only_time_woke_it() {
    let mut queue = Queue::new(QueueConfig {
        unschedulable_max_micros: 60 * SECOND,
        ..QueueConfig::default()
    });
    let mut cluster = Cluster::new(Config::default());
    let class = cluster.class_of(&Default::default());
    let pod = PodKey::of("a");
    let mut entry = Pending {
        pod,
        class,
        priority: 0,
        gated: true,
    };
    // Behind a gate nobody waits for us.
    queue.add(entry, 0).unwrap();
    entry.gated = false;
    queue.add(entry, 5 * SECOND).unwrap();
    let turn = queue.pop(6 * SECOND).unwrap();
    assert_eq!((turn.entered_micros, turn.flushed), (5 * SECOND, false));
    queue.unschedulable(pod, PluginSet::of(&[Plugin::NodePorts]), 7 * SECOND);
    assert_eq!(queue.pop(90 * SECOND), None);
    queue.flush(90 * SECOND);
    let turn = queue.pop(91 * SECOND).unwrap();
    assert_eq!((turn.entered_micros, turn.flushed), (5 * SECOND, true));
    // It failed again, and this time something happens.
    queue.unschedulable(pod, PluginSet::of(&[Plugin::NodePorts]), 92 * SECOND);
    queue.event(Event::AssignedPodDelete, 93 * SECOND, |_, _| true);
    let turn = queue.pop(110 * SECOND).unwrap();
    assert_eq!((turn.attempt, turn.flushed), (3, false));
}

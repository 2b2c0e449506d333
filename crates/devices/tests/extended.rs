//! Random pods that ask for an extended resource: the claim in its place has as many devices as the pod ever uses at a
//! time, and every container is given what it asks for, none of it used by another that runs meanwhile.
//!
//! The model walks through a pod's life and shares no code with what it checks.

use std::collections::BTreeMap;

use devices::{Ask, substitute};
use proptest::prelude::*;

/// Whether it ends before the next begins, and how many it asks for.
type Container = (bool, i64);

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn pods() -> impl Strategy<Value = (Vec<Container>, Vec<i64>)> {
    let init = prop::collection::vec((any::<bool>(), 0..4i64), 0..5);
    (init, prop::collection::vec(0..4i64, 1..4))
}

/// Containers one after the other: those that stay, stay.
fn most_at_a_time(init: &[Container], rest: &[i64]) -> i64 {
    let (mut staying, mut most) = (0, 0);
    for (ends, count) in init {
        most = most.max(staying + count);
        staying += if *ends { 0 } else { *count };
    }
    most.max(staying + rest.iter().sum::<i64>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_asked_for_twice_and_nothing_is_lacking((init, rest) in pods()) {
        let all: Vec<Container> = init.iter().copied().chain(rest.iter().map(|n| (false, *n))).collect();
        let asks: Vec<Ask<'_>> = all.iter().enumerate().map(|(at, (ends, count))| Ask {
            container: at, name: NAMES[at], ends: *ends, place: 0, resource: "example.com/gpu", count: *count,
        }).collect();
        let made = substitute(&asks, &|_| Some("gpu".into()));
        let requests = made.spec["devices"]["requests"].as_array().unwrap();
        let counts: BTreeMap<&str, i64> = requests.iter()
            .map(|r| (r["name"].as_str().unwrap(), r["exactly"]["count"].as_i64().unwrap()))
            .collect();
        prop_assert_eq!(counts.len(), requests.len());
        prop_assert!(counts.values().all(|count| *count > 0));
        prop_assert_eq!(counts.values().sum::<i64>(), most_at_a_time(&init, &rest));
        let mut used: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for mapping in made.mappings.as_array().unwrap() {
            let container = mapping["containerName"].as_str().unwrap();
            used.entry(container).or_default().push(mapping["requestName"].as_str().unwrap());
        }
        for (at, (ends, count)) in all.iter().enumerate() {
            let own = used.get(NAMES[at]).cloned().unwrap_or_default();
            let has: i64 = own.iter().map(|request| counts[request]).sum();
            prop_assert!(has >= *count, "{} has {has} of {count}", NAMES[at]);
            // Who runs meanwhile: containers that stay and began before, or with it.
            let others = all.iter().enumerate().filter(|(other, (other_ends, _))| {
                let began = *other < at || *other >= init.len() && at >= init.len();
                *other != at && !*other_ends && began
            });
            for (other, _) in others {
                let theirs = used.get(NAMES[other]).cloned().unwrap_or_default();
                prop_assert!(own.iter().all(|r| !theirs.contains(r)) || *ends && other >= init.len());
            }
        }
    }
}

//! Random slices and claims: there is an allocation exactly when trying everything finds one, and no device is given
//! twice.
//!
//! The model shares no code with the allocator: it knows devices as numbers and tries all assignments.

use devices::{Claim, Class, Failure, Inventory, Node, Slice, Taken};
use proptest::prelude::*;
use value::{Value, json};

const DRIVER: &str = "d.example.com";

#[derive(Debug, Clone)]
struct Thing {
    model: u8,
    numa: u8,
    /// Of the pool's counter.
    cost: u8,
    tainted: bool,
}

#[derive(Debug, Clone)]
struct Ask {
    model: Option<u8>,
    count: usize,
    tolerates: bool,
}

#[derive(Debug, Clone)]
struct Request {
    /// One or more alternatives.
    asks: Vec<Ask>,
}

#[derive(Debug, Clone)]
struct Case {
    things: Vec<Thing>,
    budget: u8,
    taken: Vec<bool>,
    claims: Vec<(Vec<Request>, Constraint)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Constraint {
    None,
    Match,
    Distinct,
}

fn cases() -> impl Strategy<Value = Case> {
    let thing = (0..2u8, 0..3u8, 0..4u8, prop::bool::weighted(0.2)).prop_map(
        |(model, numa, cost, tainted)| Thing {
            model,
            numa,
            cost,
            tainted,
        },
    );
    let ask = (prop::option::of(0..2u8), 1..3usize, any::<bool>()).prop_map(
        |(model, count, tolerates)| Ask {
            model,
            count,
            tolerates,
        },
    );
    let request = prop::collection::vec(ask, 1..3).prop_map(|asks| Request { asks });
    let constraint = prop_oneof![
        Just(Constraint::None),
        Just(Constraint::Match),
        Just(Constraint::Distinct)
    ];
    let claim = (prop::collection::vec(request, 1..3), constraint);
    (
        prop::collection::vec((thing, prop::bool::weighted(0.15)), 0..6),
        4..12u8,
        prop::collection::vec(claim, 1..3),
    )
        .prop_map(|(things, budget, claims)| Case {
            taken: things.iter().map(|(_, taken)| *taken).collect(),
            things: things.into_iter().map(|(thing, _)| thing).collect(),
            budget,
            claims,
        })
}

// ---- the model

/// All choices of alternatives, then all assignments of different devices.
fn exists(case: &Case) -> bool {
    let lists: Vec<&Request> = case.claims.iter().flat_map(|(r, _)| r).collect();
    let mut choice = vec![0; lists.len()];
    loop {
        let mut places = Vec::new();
        let mut number = 0;
        for (claim, (requests, _)) in case.claims.iter().enumerate() {
            for request in requests {
                let ask = &request.asks[choice[number]];
                places.extend((0..ask.count).map(|_| (claim, ask)));
                number += 1;
            }
        }
        if assign(case, &places, &mut Vec::new()) {
            return true;
        }
        let next = (0..choice.len()).find(|at| choice[*at] + 1 < lists[*at].asks.len());
        let Some(next) = next else { return false };
        choice[next] += 1;
        choice[..next].fill(0);
    }
}

fn assign(case: &Case, places: &[(usize, &Ask)], so_far: &mut Vec<usize>) -> bool {
    if so_far.len() == places.len() {
        return consistent(case, places, so_far);
    }
    let (_, ask) = places[so_far.len()];
    for (at, thing) in case.things.iter().enumerate() {
        let meant = ask.model.is_none_or(|model| model == thing.model);
        let allowed = ask.tolerates || !thing.tainted;
        if meant && allowed && !case.taken[at] && !so_far.contains(&at) {
            so_far.push(at);
            if assign(case, places, so_far) {
                return true;
            }
            so_far.pop();
        }
    }
    false
}

fn consistent(case: &Case, places: &[(usize, &Ask)], chosen: &[usize]) -> bool {
    let taken = case
        .things
        .iter()
        .zip(&case.taken)
        .filter(|(_, taken)| **taken);
    let before: u32 = taken.map(|(thing, _)| u32::from(thing.cost)).sum();
    let new: Vec<u32> = chosen
        .iter()
        .map(|at| u32::from(case.things[*at].cost))
        .collect();
    if new.iter().any(|cost| *cost > 0) && before + new.iter().sum::<u32>() > u32::from(case.budget)
    {
        return false;
    }
    (0..case.claims.len()).all(|claim| {
        let mine = places
            .iter()
            .zip(chosen)
            .filter(|((of, _), _)| *of == claim);
        let numas: Vec<u8> = mine.map(|(_, at)| case.things[*at].numa).collect();
        let mut different = numas.clone();
        different.sort_unstable();
        different.dedup();
        match case.claims[claim].1 {
            Constraint::None => true,
            Constraint::Match => different.len() <= 1,
            Constraint::Distinct => different.len() == numas.len(),
        }
    })
}

// ---- the same, as API objects

fn device(at: usize, thing: &Thing) -> Value {
    let mut device = json!({"name": format!("d{at}"), "attributes": {
        "model": {"int": thing.model}, "numa": {"int": thing.numa}}});
    if thing.cost > 0 {
        device["consumesCounters"] =
            json!([{"counterSet": "set", "counters": {"c": {"value": thing.cost.to_string()}}}]);
    }
    if thing.tainted {
        device["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
    }
    device
}

fn ask(ask: &Ask) -> Value {
    let mut value = json!({"deviceClassName": "any", "count": ask.count});
    if let Some(model) = ask.model {
        let expression = format!("device.attributes[\"{DRIVER}\"].model == {model}");
        value["selectors"] = json!([{"cel": {"expression": expression}}]);
    }
    if ask.tolerates {
        value["tolerations"] = json!([{"operator": "Exists"}]);
    }
    value
}

fn claim(number: usize, (requests, constraint): &(Vec<Request>, Constraint)) -> Claim {
    let requests = requests.iter().enumerate().map(|(at, request)| {
        let name = format!("r{at}");
        if let [only] = request.asks.as_slice() {
            return json!({"name": name, "exactly": ask(only)});
        }
        let alternatives = request.asks.iter().enumerate().map(|(at, one)| {
            let mut value = ask(one);
            value["name"] = format!("a{at}").into();
            value
        });
        json!({"name": name, "firstAvailable": alternatives.collect::<Vec<_>>()})
    });
    let requests: Vec<Value> = requests.collect();
    let attribute = format!("{DRIVER}/numa");
    let constraints = match constraint {
        Constraint::None => json!([]),
        Constraint::Match => json!([{"matchAttribute": attribute}]),
        Constraint::Distinct => json!([{"distinctAttribute": attribute}]),
    };
    Claim::read(
        &json!({"metadata": {"namespace": "n", "name": format!("c{number}")},
        "spec": {"devices": {"requests": requests, "constraints": constraints}}}),
    )
}

fn inventory(case: &Case) -> Inventory {
    let mut inventory = Inventory::default();
    let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 3});
    let (first, second) = case.things.split_at(case.things.len() / 2);
    let devices = |things: &[Thing], offset: usize| -> Vec<Value> {
        let numbered = things.iter().enumerate();
        numbered
            .map(|(at, thing)| device(at + offset, thing))
            .collect()
    };
    for (name, spec) in [
        (
            "a",
            json!({"nodeName": "node", "devices": devices(first, 0)}),
        ),
        (
            "b",
            json!({"nodeName": "node", "devices": devices(second, first.len())}),
        ),
        (
            "c",
            json!({"allNodes": true, "sharedCounters": [{"name": "set", "counters": {"c": {"value": case.budget.to_string()}}}]}),
        ),
    ] {
        let mut slice = json!({"metadata": {"name": name}, "spec": spec});
        slice["spec"]["driver"] = DRIVER.into();
        slice["spec"]["pool"] = pool.clone();
        inventory.note_slice(Slice::read(&slice));
    }
    inventory.note_class("any", Class::read(&json!({"spec": {}})));
    for (at, taken) in case.taken.iter().enumerate() {
        if *taken {
            inventory.take(&[Taken {
                driver: DRIVER.into(),
                pool: "p".into(),
                device: format!("d{at}").into(),
                share: None,
            }]);
        }
    }
    inventory
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn an_allocation_is_found_exactly_when_there_is_one(case in cases()) {
        let inventory = inventory(&case);
        let claims: Vec<Claim> = case.claims.iter().enumerate().map(|(at, c)| claim(at, c)).collect();
        let claims: Vec<&Claim> = claims.iter().collect();
        let node = Node { name: "node", label: &|_| None };
        let found = inventory.allocate(&node, &claims, &mut String::new);
        // Counters that are overdrawn already refuse every part of their pool, as upstream's do.
        let before: u32 = case.things.iter().zip(&case.taken).filter(|(_, taken)| **taken).map(|(t, _)| u32::from(t.cost)).sum();
        prop_assume!(before <= u32::from(case.budget));
        match found {
            Ok(allocations) => {
                prop_assert!(exists(&case));
                let mut given: Vec<String> = Vec::new();
                for allocation in &allocations {
                    for taken in &allocation.taken {
                        let at: usize = taken.device[1..].parse().unwrap();
                        prop_assert!(!case.taken[at]);
                        prop_assert!(!given.contains(&taken.device.to_string()));
                        given.push(taken.device.to_string());
                    }
                }
                let again = inventory.allocate(&node, &claims, &mut String::new).unwrap();
                for (one, other) in allocations.iter().zip(&again) {
                    prop_assert_eq!(&one.value, &other.value);
                }
            }
            Err(Failure::NotHere) => prop_assert!(!exists(&case)),
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }
}

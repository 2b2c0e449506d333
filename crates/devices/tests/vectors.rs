//! What is allocated in small situations, by hand; the facts are those of upstream's allocator and its documentation.
//!
//! Everything goes in as API objects and comes out as an allocation result.

use devices::{Allocation, Claim, Class, Failure, Inventory, Node, Slice, TaintRule};
use meta::Value;
use value::json;

const DRIVER: &str = "gpu.example.com";

/// A slice of a node's own pool.
fn local(node: &str, devices: Value) -> Value {
    slice(
        node,
        json!({"nodeName": node, "pool": {"name": node}, "devices": devices}),
    )
}

fn slice(name: &str, spec: Value) -> Value {
    let mut slice = json!({"metadata": {"name": name}, "spec": {"driver": DRIVER,
        "pool": {"name": "pool", "generation": 1, "resourceSliceCount": 1}}});
    merge(&mut slice["spec"], &spec);
    slice
}

fn merge(target: &mut Value, more: &Value) {
    match (target, more) {
        (Value::Object(target), Value::Object(more)) => {
            for (key, value) in more {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, more) => *target = more.clone(),
    }
}

fn claim(name: &str, devices: Value) -> Claim {
    Claim::read(
        &json!({"metadata": {"namespace": "ns", "name": name}, "spec": {"devices": devices}}),
    )
}

/// A claim with one request for `count` devices.
fn simple(name: &str, count: u32) -> Claim {
    claim(
        name,
        json!({"requests": [{"name": "req", "exactly": {"deviceClassName": "gpu", "count": count}}]}),
    )
}

fn named(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"name": name})).collect()
}

fn inventory(slices: &[Value]) -> Inventory {
    let mut inventory = Inventory::default();
    for slice in slices {
        inventory.note_slice(Slice::read(slice));
    }
    inventory.note_class(
        "gpu",
        Class::read(&json!({"spec": {"selectors": [
        {"cel": {"expression": "device.driver == \"gpu.example.com\""}}]}})),
    );
    inventory
}

fn on(
    inventory: &mut Inventory,
    node: &str,
    claims: &[&Claim],
) -> Result<Vec<Allocation>, Failure> {
    let label = |key: &str| (key == "zone").then_some("a");
    let mut ids = 0;
    let node = Node {
        name: node,
        label: &label,
    };
    inventory.allocate(&node, claims, &mut || {
        ids += 1;
        format!("share-{ids}")
    })
}

/// `request=device` of every claim, claims apart by `|`; or why not.
fn told(inventory: &mut Inventory, node: &str, claims: &[&Claim]) -> String {
    match on(inventory, node, claims) {
        Ok(all) => {
            let one = |allocation: &Allocation| {
                let results = allocation.value["devices"]["results"].as_array().cloned();
                let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
                let results = results.unwrap_or_default();
                let results = results
                    .iter()
                    .map(|r| format!("{}={}", text(&r["request"]), text(&r["device"])));
                results.collect::<Vec<_>>().join(" ")
            };
            all.iter().map(one).collect::<Vec<_>>().join(" | ")
        }
        Err(failure) => failure.text().to_owned(),
    }
}

#[test]
fn devices_are_given_in_their_order_and_only_once() {
    let mut inventory = inventory(&[
        local("n1", named(&["d1", "d2"])),
        local("n2", named(&["d1"])),
    ]);
    let (one, two, three) = (simple("one", 1), simple("two", 2), simple("three", 3));
    assert_eq!(told(&mut inventory, "n1", &[&one]), "req=d1");
    assert_eq!(told(&mut inventory, "n1", &[&two]), "req=d1 req=d2");
    assert_eq!(told(&mut inventory, "n1", &[&one, &one]), "req=d1 | req=d2");
    assert_eq!(
        told(&mut inventory, "n1", &[&three]),
        "cannot allocate all claims"
    );
    assert_eq!(
        told(&mut inventory, "n3", &[&one]),
        "cannot allocate all claims"
    );
    let open = |inventory: &Inventory| {
        let mut open: Vec<String> = inventory.open_nodes(1).map(ToOwned::to_owned).collect();
        open.sort();
        open
    };
    let first = on(&mut inventory, "n1", &[&one]).unwrap();
    inventory.take(&first[0].taken);
    assert_eq!(open(&inventory), ["n1", "n2"]);
    let second = on(&mut inventory, "n1", &[&one]).unwrap();
    inventory.take(&second[0].taken);
    assert_eq!(open(&inventory), ["n2"]);
    inventory.give_back(&second[0].taken);
    assert_eq!(open(&inventory), ["n1", "n2"]);
    assert_eq!(told(&mut inventory, "n1", &[&one]), "req=d2");
    assert_eq!(told(&mut inventory, "n2", &[&one]), "req=d1");
    assert_eq!(
        told(&mut inventory, "n1", &[&two]),
        "cannot allocate all claims"
    );
    inventory.give_back(&first[0].taken);
    assert_eq!(told(&mut inventory, "n1", &[&two]), "req=d1 req=d2");
    assert_eq!(
        first[0].value,
        json!({
        "devices": {"results": [{"request": "req", "driver": DRIVER, "pool": "n1", "device": "d1"}]},
        "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}})
    );
}

#[test]
fn a_claim_that_asks_for_nothing_gets_that() {
    let mut inventory = inventory(&[]);
    let nothing = claim("nothing", json!({}));
    let found = on(&mut inventory, "n1", &[&nothing]).unwrap();
    assert_eq!(found[0].value, json!({"devices": {}}));
}

#[test]
fn selectors_of_class_and_request_both_hold() {
    let devices = json!([
        {"name": "small", "attributes": {"model": {"string": "s"}}, "capacity": {"memory": {"value": "8Gi"}}},
        {"name": "large", "attributes": {"model": {"string": "l"}}, "capacity": {"memory": {"value": "80Gi"}}}]);
    let mut inventory = inventory(&[local("n1", devices)]);
    let ask = |expression: &str| {
        claim(
            "c",
            json!({"requests": [{"name": "req", "exactly": {
        "deviceClassName": "gpu", "selectors": [{"cel": {"expression": expression}}]}}]}),
        )
    };
    let memory = "device.capacity[\"gpu.example.com\"].memory.compareTo(quantity(\"10Gi\")) >= 0";
    assert_eq!(told(&mut inventory, "n1", &[&ask(memory)]), "req=large");
    let broken = "device.attributes[\"gpu.example.com\"].speed > 1";
    assert_eq!(
        told(&mut inventory, "n1", &[&ask(broken)]),
        "claim ns/c: selector #0: CEL runtime error: no such key: speed"
    );
    // A class that excludes all.
    inventory.note_class(
        "gpu",
        Class::read(&json!({"spec": {"selectors": [{"cel": {"expression": "false"}}]}})),
    );
    assert_eq!(
        told(&mut inventory, "n1", &[&ask(memory)]),
        "cannot allocate all claims"
    );
    inventory.note_class(
        "gpu",
        Class::read(&json!({"spec": {"selectors": [{"cel": {"expression": "1 +"}}]}})),
    );
    let why = told(&mut inventory, "n1", &[&ask(memory)]);
    assert!(why.starts_with(
        "class gpu: selector #0: CEL compile error: compilation failed: ERROR: <input>:1:4"
    ));
    inventory.forget_class("gpu");
    assert_eq!(
        told(&mut inventory, "n1", &[&ask(memory)]),
        "claim ns/c, request req: could not retrieve device class gpu: deviceclass.resource.k8s.io \"gpu\" not found"
    );
}

#[test]
fn the_search_goes_back_where_the_first_choice_was_wrong() {
    let numa = |name: &str, node: i64| json!({"name": name, "attributes": {"numa": {"int": node}}});
    let devices = json!([numa("a", 0), numa("b", 1), numa("c", 1)]);
    let mut inventory = inventory(&[local("n1", devices)]);
    let together = claim(
        "c",
        json!({
        "requests": [{"name": "req", "exactly": {"deviceClassName": "gpu", "count": 2}}],
        "constraints": [{"matchAttribute": "gpu.example.com/numa"}]}),
    );
    assert_eq!(told(&mut inventory, "n1", &[&together]), "req=b req=c");
    let apart = |count: u32| {
        claim(
            "c",
            json!({
        "requests": [{"name": "req", "exactly": {"deviceClassName": "gpu", "count": count}}],
        "constraints": [{"requests": ["req"], "distinctAttribute": "gpu.example.com/numa"}]}),
        )
    };
    assert_eq!(told(&mut inventory, "n1", &[&apart(2)]), "req=a req=b");
    assert_eq!(
        told(&mut inventory, "n1", &[&apart(3)]),
        "cannot allocate all claims"
    );
    // The second request leaves the first only one choice.
    let picky = claim(
        "c",
        json!({"requests": [
        {"name": "any", "exactly": {"deviceClassName": "gpu"}},
        {"name": "a", "exactly": {"deviceClassName": "gpu", "selectors": [
            {"cel": {"expression": "device.attributes[\"gpu.example.com\"].numa == 0"}}]}}]}),
    );
    assert_eq!(told(&mut inventory, "n1", &[&picky]), "any=b a=a");
    let lacking = claim(
        "c",
        json!({
        "requests": [{"name": "req", "exactly": {"deviceClassName": "gpu"}}],
        "constraints": [{"matchAttribute": "gpu.example.com/rack"}]}),
    );
    assert_eq!(
        told(&mut inventory, "n1", &[&lacking]),
        "cannot allocate all claims"
    );
}

#[test]
fn the_first_alternative_that_can_be_had_is_taken() {
    let mut inventory = inventory(&[local("n1", named(&["d1", "d2"]))]);
    inventory.note_class(
        "plain",
        Class::read(
            &json!({"spec": {"config": [{"opaque": {"driver": DRIVER, "parameters": {"c": 1}}}]}}),
        ),
    );
    let list = claim(
        "c",
        json!({
        "requests": [{"name": "req", "firstAvailable": [
            {"name": "many", "deviceClassName": "gpu", "count": 3},
            {"name": "few", "deviceClassName": "plain", "count": 2},
            {"name": "one", "deviceClassName": "gpu", "count": 1}]}],
        "config": [
            {"requests": ["req/many"], "opaque": {"driver": DRIVER, "parameters": {"m": 1}}},
            {"requests": ["req/few"], "opaque": {"driver": DRIVER, "parameters": {"f": 1}}},
            {"opaque": {"driver": DRIVER, "parameters": {"all": 1}}}]}),
    );
    assert_eq!(
        told(&mut inventory, "n1", &[&list]),
        "req/few=d1 req/few=d2"
    );
    let found = on(&mut inventory, "n1", &[&list]).unwrap();
    assert_eq!(found[0].score, 7);
    assert_eq!(
        found[0].value["devices"]["config"],
        json!([
        {"source": "FromClass", "requests": ["req/few"], "opaque": {"driver": DRIVER, "parameters": {"c": 1}}},
        {"source": "FromClaim", "requests": ["req/few"], "opaque": {"driver": DRIVER, "parameters": {"f": 1}}},
        {"source": "FromClaim", "opaque": {"driver": DRIVER, "parameters": {"all": 1}}}])
    );
    // Another claim first: one device is left.
    assert_eq!(
        told(&mut inventory, "n1", &[&simple("one", 1), &list]),
        "req=d1 | req/one=d2"
    );
}

#[test]
fn all_devices_or_none() {
    let mut whole = inventory(&[local("n1", named(&["d1", "d2"]))]);
    let all = claim(
        "c",
        json!({"requests": [{"name": "req", "exactly": {"deviceClassName": "gpu", "allocationMode": "All"}}]}),
    );
    assert_eq!(told(&mut whole, "n1", &[&all]), "req=d1 req=d2");
    assert_eq!(
        told(&mut whole, "n2", &[&all]),
        "cannot allocate all claims"
    );
    assert_eq!(
        told(&mut whole, "n1", &[&simple("one", 1), &all]),
        "cannot allocate all claims"
    );
    let mut half = inventory(&[slice(
        "s1",
        json!({"nodeName": "n1", "pool": {"resourceSliceCount": 2}, "devices": named(&["d1"])}),
    )]);
    assert_eq!(
        told(&mut half, "n1", &[&all]),
        "claim ns/c, request req: asks for all devices, but resource pool gpu.example.com/pool is currently being updated"
    );
    let many: Vec<String> = (0..33).map(|number| format!("d{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut large = inventory(&[local("n1", named(&many))]);
    assert_eq!(
        told(&mut large, "n1", &[&all]),
        "claim ns/c: number of requested devices 33 exceeds the claim limit of 32"
    );
}

#[test]
fn only_the_newest_whole_generation_of_a_pool_counts() {
    let part = |name: &str, generation: i64, count: i64, node: &str, device: &str| {
        slice(
            name,
            json!({
        "nodeName": node, "pool": {"generation": generation, "resourceSliceCount": count}, "devices": named(&[device])}),
        )
    };
    let one = simple("one", 1);
    let mut newer = inventory(&[part("s1", 1, 1, "n1", "old"), part("s2", 2, 1, "n1", "new")]);
    assert_eq!(told(&mut newer, "n1", &[&one]), "req=new");
    let mut incomplete = inventory(&[part("s1", 1, 2, "n1", "d1")]);
    assert_eq!(
        told(&mut incomplete, "n1", &[&one]),
        "cannot allocate all claims"
    );
    incomplete.note_slice(Slice::read(&part("s2", 1, 2, "n2", "d2")));
    assert_eq!(told(&mut incomplete, "n1", &[&one]), "req=d1");
    // What is newer is elsewhere: nothing is left here.
    incomplete.note_slice(Slice::read(&part("s2", 2, 1, "n2", "d2")));
    assert_eq!(
        told(&mut incomplete, "n1", &[&one]),
        "cannot allocate all claims"
    );
    let mut twice = inventory(&[local("n1", named(&["d1", "d1"]))]);
    assert_eq!(
        told(&mut twice, "n1", &[&one]),
        "invalid resource pools were encountered"
    );
}

#[test]
fn devices_beyond_a_node_are_found_by_label_and_say_so() {
    let zone = |zone: &str| json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]});
    let one = simple("one", 1);
    let mut near = inventory(&[slice(
        "s1",
        json!({"nodeSelector": zone("a"), "devices": named(&["d1"])}),
    )]);
    let found = on(&mut near, "n1", &[&one]).unwrap();
    assert_eq!(found[0].value["nodeSelector"], zone("a"));
    let mut far = inventory(&[slice(
        "s1",
        json!({"nodeSelector": zone("b"), "devices": named(&["d1"])}),
    )]);
    assert_eq!(told(&mut far, "n1", &[&one]), "cannot allocate all claims");
    let mut anywhere = inventory(&[slice(
        "s1",
        json!({"allNodes": true, "devices": named(&["d1"])}),
    )]);
    let found = on(&mut anywhere, "n1", &[&one]).unwrap();
    assert!(found[0].value.get("nodeSelector").is_none());
    let mut each = inventory(&[slice(
        "s1",
        json!({"perDeviceNodeSelection": true, "devices": [
        {"name": "d1", "nodeName": "n1"}, {"name": "d2", "nodeName": "n2"}, {"name": "d3", "nodeName": "n2"}]}),
    )]);
    assert_eq!(
        told(&mut each, "n1", &[&simple("c", 2)]),
        "cannot allocate all claims"
    );
    assert_eq!(told(&mut each, "n2", &[&simple("c", 2)]), "req=d2 req=d3");
    let mut bound = inventory(&[slice(
        "s1",
        json!({"allNodes": true, "devices": [{"name": "d1", "bindsToNode": true,
        "bindingConditions": ["attached"], "bindingFailureConditions": ["broken"]}]}),
    )]);
    let found = on(&mut bound, "n1", &[&one]).unwrap();
    assert_eq!(
        found[0].value["nodeSelector"]["nodeSelectorTerms"][0]["matchFields"][0]["values"],
        json!(["n1"])
    );
    assert_eq!(
        found[0].value["devices"]["results"][0]["bindingConditions"],
        json!(["attached"])
    );
}

#[test]
fn parts_of_a_device_share_its_counters() {
    let consumes =
        |amount: &str| json!([{"counterSet": "gpu-0", "counters": {"memory": {"value": amount}}}]);
    let counters = slice(
        "counters",
        json!({"allNodes": true, "pool": {"resourceSliceCount": 2},
        "sharedCounters": [{"name": "gpu-0", "counters": {"memory": {"value": "40Gi"}}}]}),
    );
    let parts = slice(
        "parts",
        json!({"nodeName": "n1", "pool": {"resourceSliceCount": 2}, "devices": [
        {"name": "half-0", "consumesCounters": consumes("20Gi")},
        {"name": "half-1", "consumesCounters": consumes("20Gi")},
        {"name": "whole", "consumesCounters": consumes("40Gi")}]}),
    );
    let mut inventory = inventory(&[counters, parts]);
    let one = simple("one", 1);
    assert_eq!(
        told(&mut inventory, "n1", &[&one, &one]),
        "req=half-0 | req=half-1"
    );
    assert_eq!(
        told(&mut inventory, "n1", &[&one, &one, &one]),
        "cannot allocate all claims"
    );
    let whole = claim(
        "whole",
        json!({"requests": [{"name": "req", "exactly": {"deviceClassName": "gpu",
        "selectors": [{"cel": {"expression": "true"}}]}}]}),
    );
    let taken = on(&mut inventory, "n1", &[&whole]).unwrap();
    inventory.take(&taken[0].taken);
    assert_eq!(told(&mut inventory, "n1", &[&one]), "req=half-1");
    assert_eq!(
        told(&mut inventory, "n1", &[&simple("two", 2)]),
        "cannot allocate all claims"
    );
}

#[test]
fn rules_taint_devices_by_driver_pool_and_name() {
    let rule = |selector: Value, effect: &str| {
        TaintRule::read(
            &json!({"spec": {"deviceSelector": selector, "taint": {"key": "hot", "effect": effect}}}),
        )
    };
    let mut inventory = inventory(&[local("n1", named(&["d1", "d2"]))]);
    let one = || simple("c", 1);
    for (selector, effect, expected) in [
        (
            json!({"driver": "other.example.com"}),
            "NoSchedule",
            "req=d1",
        ),
        (json!({"device": "d1"}), "NoExecute", "req=d2"),
        (json!({"device": "d1"}), "None", "req=d1"),
        (
            json!({"driver": DRIVER, "pool": "n1", "device": "d1"}),
            "NoSchedule",
            "req=d2",
        ),
        (json!({"pool": "n2"}), "NoSchedule", "req=d1"),
        (Value::Null, "NoSchedule", "req=d1"),
        (json!({}), "NoSchedule", "cannot allocate all claims"),
    ] {
        inventory.note_rule("r", rule(selector.clone(), effect));
        let told = told(&mut inventory, "n1", &[&one()]);
        assert!(told.contains(expected), "{selector} {effect}: {told}");
    }
    let tolerant = claim(
        "c",
        json!({"requests": [{"name": "req", "exactly": {"deviceClassName": "gpu",
            "tolerations": [{"key": "hot", "operator": "Exists"}]}}]}),
    );
    assert!(on(&mut inventory, "n1", &[&tolerant]).is_ok());
    inventory.forget_rule("r");
    assert!(on(&mut inventory, "n1", &[&one()]).is_ok());
}

#[test]
fn taints_keep_away_who_does_not_tolerate_them() {
    let taint = |effect: &str| json!([{"key": "broken", "value": "yes", "effect": effect}]);
    let ask = |tolerations: Value| {
        claim(
            "c",
            json!({"requests": [{"name": "req", "exactly": {"deviceClassName": "gpu", "tolerations": tolerations}}]}),
        )
    };
    for effect in ["NoSchedule", "NoExecute"] {
        let mut inventory = inventory(&[local(
            "n1",
            json!([{"name": "d1", "taints": taint(effect)}]),
        )]);
        assert_eq!(
            told(&mut inventory, "n1", &[&ask(json!([]))]),
            "cannot allocate all claims"
        );
        for (toleration, expected) in [
            (
                json!({"key": "broken", "operator": "Equal", "value": "yes"}),
                true,
            ),
            (
                json!({"key": "broken", "operator": "Equal", "value": "no"}),
                false,
            ),
            (json!({"operator": "Exists"}), true),
            (json!({"operator": "Exists", "effect": "None"}), false),
        ] {
            let claim = ask(json!([toleration]));
            assert_eq!(
                on(&mut inventory, "n1", &[&claim]).is_ok(),
                expected,
                "{toleration}"
            );
        }
    }
    let mut inventory = inventory(&[local(
        "n1",
        json!([{"name": "d1", "taints": taint("None")}]),
    )]);
    assert_eq!(told(&mut inventory, "n1", &[&ask(json!([]))]), "req=d1");
}

#[test]
fn who_looks_after_a_device_takes_it_from_nobody() {
    let mut inventory = inventory(&[local("n1", named(&["d1"]))]);
    let one = simple("one", 1);
    let admin = claim(
        "admin",
        json!({"requests": [{"name": "req", "exactly": {"deviceClassName": "gpu", "adminAccess": true}}]}),
    );
    let found = on(&mut inventory, "n1", &[&one]).unwrap();
    inventory.take(&found[0].taken);
    let found = on(&mut inventory, "n1", &[&admin]).unwrap();
    assert_eq!(found[0].value["devices"]["results"][0]["adminAccess"], true);
    assert!(found[0].taken.is_empty());
}

#[test]
fn capacity_is_shared_until_it_is_used_up() {
    let devices = json!([{"name": "d1", "allowMultipleAllocations": true, "capacity": {"memory": {"value": "10Gi",
        "requestPolicy": {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}}}}]);
    let mut inventory = inventory(&[local("n1", devices)]);
    let ask = |memory: &str| {
        claim(
            "c",
            json!({"requests": [{"name": "req", "exactly": {"deviceClassName": "gpu",
        "capacity": {"requests": {"memory": memory}}}}]}),
        )
    };
    let found = on(&mut inventory, "n1", &[&ask("3500Mi")]).unwrap();
    assert_eq!(
        found[0].value["devices"]["results"][0],
        json!({"request": "req", "driver": DRIVER, "pool": "n1", "device": "d1",
        "shareID": "share-1", "consumedCapacity": {"memory": "4Gi"}})
    );
    inventory.take(&found[0].taken);
    assert_eq!(told(&mut inventory, "n1", &[&ask("6Gi")]), "req=d1");
    assert_eq!(
        told(&mut inventory, "n1", &[&ask("3Gi"), &ask("3Gi")]),
        "req=d1 | req=d1"
    );
    assert_eq!(
        told(&mut inventory, "n1", &[&ask("3Gi"), &ask("4Gi")]),
        "cannot allocate all claims"
    );
    assert_eq!(
        told(&mut inventory, "n1", &[&ask("7Gi")]),
        "cannot allocate all claims"
    );
    inventory.give_back(&found[0].taken);
    assert_eq!(told(&mut inventory, "n1", &[&ask("10Gi")]), "req=d1");
}

#[test]
fn the_search_ends() {
    // 24 devices, none with a partner: every combination would have to be tried.
    let devices: Value = (0..24).map(|n| json!({"name": format!("d{n}"), "attributes": {"n": {"int": n}, "even": {"int": n % 2}}})).collect();
    let mut inventory = inventory(&[local("n1", devices)]);
    let hopeless = claim(
        "c",
        json!({
        "requests": [{"name": "req", "exactly": {"deviceClassName": "gpu", "count": 13}}],
        "constraints": [{"matchAttribute": "gpu.example.com/even"}, {"distinctAttribute": "gpu.example.com/n"}]}),
    );
    let why = told(&mut inventory, "n1", &[&hopeless]);
    assert!(
        why == "cannot allocate all claims" || why == "timed out trying to allocate devices",
        "{why}"
    );
    let other = claim(
        "c",
        json!({"requests": [
        {"name": "a", "exactly": {"deviceClassName": "gpu", "count": 12}},
        {"name": "b", "exactly": {"deviceClassName": "gpu", "count": 12}},
        {"name": "c", "exactly": {"deviceClassName": "gpu", "count": 1}}]}),
    );
    assert_eq!(
        told(&mut inventory, "n1", &[&other]),
        "timed out trying to allocate devices"
    );
}

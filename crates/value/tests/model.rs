//! Values held against `serde_json`'s, and maps against a B-tree, across the border where a list becomes a tree.

use std::collections::BTreeMap;

use proptest::prelude::*;
use value::{Map, SMALL_MAX, Value, json};

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        // Quarters, which text keeps exactly.
        any::<i32>().prop_map(|number| (f64::from(number) / 4.0).into()),
        ".{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 120, 48, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map("[a-c]{0,3}", inner, 0..48)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn ours(theirs: &serde_json::Value) -> Value {
    serde_json::from_str(&theirs.to_string()).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Insert(String, i64),
    Remove(String),
    Entry(String, i64),
    Change(String, i64),
    Keep(i64),
    Append(Vec<(String, i64)>),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || "[a-f]{0,2}";
    prop_oneof![
        6 => (name(), any::<i64>()).prop_map(|(name, number)| Step::Insert(name, number)),
        2 => name().prop_map(Step::Remove),
        3 => (name(), any::<i64>()).prop_map(|(name, number)| Step::Entry(name, number)),
        1 => (name(), any::<i64>()).prop_map(|(name, number)| Step::Change(name, number)),
        1 => (1..8i64).prop_map(Step::Keep),
        1 => prop::collection::vec((name(), any::<i64>()), 0..40).prop_map(Step::Append),
    ]
}

proptest! {
    #[test]
    fn text_goes_in_and_out_as_with_serde_json(theirs in any_json()) {
        let value = ours(&theirs);
        prop_assert_eq!(value.to_string(), theirs.to_string());
        prop_assert_eq!(format!("{value:#}"), format!("{theirs:#}"));
        prop_assert_eq!(serde_json::to_value(&value).unwrap(), theirs.clone());
        prop_assert_eq!(ours(&theirs), value);
    }

    #[test]
    fn equal_means_the_same_as_with_serde_json(left in any_json(), right in any_json()) {
        prop_assert_eq!(ours(&left) == ours(&right), left == right);
        prop_assert!(ours(&left) == ours(&left));
    }

    #[test]
    fn pointers_find_the_same(theirs in any_json(), steps in prop::collection::vec("[a-c~/0-2]{0,2}", 0..4)) {
        let pointer: String = steps.iter().map(|step| format!("/{step}")).collect();
        let found = ours(&theirs).pointer(&pointer).map(ToString::to_string);
        prop_assert_eq!(found, theirs.pointer(&pointer).map(ToString::to_string));
    }

    #[test]
    fn a_map_is_a_sorted_map(steps in prop::collection::vec(step(), 0..120)) {
        let (mut map, mut model) = (Map::new(), BTreeMap::<String, i64>::new());
        for step in steps {
            match step {
                Step::Insert(name, number) => {
                    let old = map.insert(name.clone(), number.into());
                    prop_assert_eq!(old.and_then(|old| old.as_i64()), model.insert(name, number));
                }
                Step::Remove(name) => {
                    let old = map.remove(&name);
                    prop_assert_eq!(old.and_then(|old| old.as_i64()), model.remove(&name));
                }
                Step::Entry(name, number) => {
                    let is = map.entry(name.clone()).or_insert(number.into()).as_i64();
                    prop_assert_eq!(is, Some(*model.entry(name).or_insert(number)));
                }
                Step::Change(name, number) => {
                    if let Some(value) = map.get_mut(&name) {
                        *value = number.into();
                    }
                    model.entry(name).and_modify(|is| *is = number);
                }
                Step::Keep(part) => {
                    map.retain(|_, value| value.as_i64().unwrap() % part == 0);
                    model.retain(|_, value| *value % part == 0);
                }
                Step::Append(more) => {
                    map.append(&mut more.iter().cloned().collect());
                    model.extend(more);
                }
            }
            prop_assert_eq!(map.len(), model.len());
            let fields: Vec<(String, i64)> = map
                .iter()
                .map(|(name, value)| (name.to_string(), value.as_i64().unwrap()))
                .collect();
            let wanted: Vec<(String, i64)> = model.clone().into_iter().collect();
            prop_assert_eq!(fields, wanted);
            for name in ["", "a", "bb", "ff"] {
                prop_assert_eq!(map.get(name).and_then(Value::as_i64), model.get(name).copied());
            }
        }
        let again: Map = map.clone().into_iter().collect();
        prop_assert_eq!(again, map);
    }
}

#[test]
fn a_tree_that_shrank_equals_a_list() {
    let mut many: Map = (0..2 * SMALL_MAX)
        .map(|at| (format!("k{at:03}"), at))
        .collect();
    many.retain(|name, _| name == "k001");
    let few = Map::from([("k001", 1)]);
    assert_eq!(many, few);
    assert_eq!(
        Value::Object(many).to_string(),
        Value::Object(few).to_string()
    );
}

#[test]
fn half_a_million_fields_in_the_worst_order_are_no_trouble() {
    let text: Vec<String> = (0..500_000)
        .rev()
        .map(|at| format!("\"{at:06}\":0"))
        .collect();
    let value: Value = serde_json::from_str(&format!("{{{}}}", text.join(","))).unwrap();
    let map = value.as_object().unwrap();
    assert_eq!(map.len(), 500_000);
    assert!(map.keys().is_sorted());
    assert_eq!(map["000007"], 0);
}

#[test]
fn text_that_nests_too_deep_is_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(serde_json::from_str::<Value>(&deep).is_err());
}

#[test]
fn json_is_written_as_it_reads() {
    const NAME: &str = "const";
    let (text, list, none) = (String::from("t"), vec![1, 2], None::<i64>);
    let value = json!({
        "null": null, "yes": true, "list": [1, null, {"a": []}, [2.5], text], NAME: {}, format!("n{}", 1): list, value::SMALL_MAX.to_string(): 0,
        "none": none, "sum": 1 + 2, "call": ["t", "x"].concat(), "last": list.len(),
    });
    assert_eq!(
        value.to_string(),
        r#"{"32":0,"call":"tx","const":{},"last":2,"list":[1,null,{"a":[]},[2.5],"t"],"n1":[1,2],"none":null,"null":null,"sum":3,"yes":true}"#
    );
    assert_eq!(json!(null), Value::Null);
    assert_eq!(json!([]), Value::Array(Vec::new()));
    assert_eq!(json!({}), Value::Object(Map::new()));
}

#[test]
fn reading_forgives_and_writing_makes() {
    let mut value = json!({"a": [{"b": 1}]});
    assert_eq!(value["a"][0]["b"], 1);
    assert_eq!(1, value["a"][0]["b"]);
    assert!(value["x"][7]["y"].is_null());
    assert_eq!(value["a"][0]["b"], 1u64);
    assert_ne!(value["a"][0]["b"], 1.5);
    value["c"]["d"] = "e".into();
    assert_eq!(value["c"], json!({"d": "e"}));
    assert_eq!(value["c"]["d"], "e");
    assert_eq!(json!(u64::MAX), u64::MAX);
    assert_ne!(json!(u64::MAX), -1i64);
    assert_eq!(json!(f64::NAN), Value::Null);
}

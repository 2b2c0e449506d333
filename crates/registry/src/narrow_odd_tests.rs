//! The short way of narrow patches against the general way where documents and objects are odd: nulls, lists for objects,
//! conditions without a type, and any value in the place of any other.

use super::*;

/// Of a list that is given as null nothing stays.
#[test]
fn a_null_deletes_a_list() {
    let part = Part::PodStatus;
    let object = settled(
        part,
        json!({"metadata": {"name": "x", "namespace": "d", "uid": "u"},
               "spec": {"containers": [{"name": "c", "image": "i"}]},
               "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIPs": [{"ip": "10.1.0.1"}],
                          "conditions": [{"type": "Ready", "status": "True"}],
                          "containerStatuses": [{"name": "c", "image": "i", "ready": true}]}}),
    );
    let bytes = stored(part, &object);
    for list in ["conditions", "containerStatuses", "podIPs", "hostIPs"] {
        let mut document = json!({"status": {"phase": "Failed", list: null}});
        if list == "podIPs" {
            document["status"]["podIP"] = Value::Null;
        }
        let general = generally(part, &object, &document);
        let Some(Narrow::Store(next)) = &general else {
            panic!("{list}: {general:?}")
        };
        let next = schema::decode_protobuf(resource_of(part).type_id, next).unwrap();
        assert!(next["status"][list].is_null(), "{list}");
        for way in [part, Part::Status] {
            let short = narrow(way, &bytes, REVISION, document.to_string().as_bytes());
            assert!(
                short.is_none() || short == general,
                "{way:?} {list}: {short:?}"
            );
        }
    }
}

/// A list of an object's fields is no object, though what reads them for us would take one.
#[test]
fn a_list_is_no_object() {
    let mut dice = Dice::new(13);
    let time = TIMES[0];
    for (part, documents) in [
        (
            Part::PodStatus,
            vec![
                json!([{}, {"phase": "Running"}]),
                json!({"metadata": ["u"], "status": {"phase": "Running"}}),
                json!({"status": ["Running"]}),
                json!({"status": {"conditions": [["Ready", "True"]]}}),
                json!({"status": {"hostIPs": [["10.0.0.1"]]}}),
                json!({"status": {"containerStatuses": [
                    ["c", {"running": {"startedAt": time}}, true, 0, "i", "", "x", true]]}}),
                json!({"status": {"containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true,
                    "restartCount": 0, "started": true, "state": [{"startedAt": time}]}]}}),
                json!({"status": {"containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true,
                    "restartCount": 0, "started": true, "state": {"running": [time]}}]}}),
            ],
        ),
        (
            Part::NodeConditions,
            vec![
                json!([{}, {"conditions": [{"type": "Ready", "status": "True"}]}]),
                json!({"metadata": ["u", ""], "status": {"conditions": [{"type": "Ready"}]}}),
                json!({"status": [[{"type": "Ready", "status": "True"}]]}),
                json!({"status": {"conditions": [["Ready", "True"]]}}),
            ],
        ),
        (
            Part::NodeTaints,
            vec![
                json!([{}, {"taints": [{"key": "k", "effect": "NoExecute"}]}]),
                json!({"metadata": ["u"], "spec": {"taints": null}}),
                json!({"spec": [[{"key": "k", "effect": "NoExecute"}]]}),
                json!({"spec": {"taints": [["k", "v", "NoExecute"]]}}),
            ],
        ),
    ] {
        let mut object = dice.object(of_pod(part));
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("deletionTimestamp");
        let bytes = stored(part, &settled(part, object));
        for document in documents {
            let text = document.to_string();
            let short = narrow(part, &bytes, REVISION, text.as_bytes());
            assert_eq!(short, None, "{part:?} {text}");
        }
    }
}

/// Conditions without a type, and directives for a status that has nothing yet.
#[test]
fn what_a_merge_does_not_find_is_not_found_here() {
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    let untyped = json!([{"type": "", "status": "True"}, {"type": "Ready", "status": "True"}]);
    for (part, status, documents) in [
        (
            Part::PodStatus,
            json!({"phase": "Running", "conditions": untyped}),
            vec![
                json!({"status": {"conditions": [{"type": "", "status": "False"}]}}),
                json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
            ],
        ),
        (
            Part::NodeConditions,
            json!({"conditions": untyped}),
            vec![
                json!({"status": {"conditions": [{"type": "", "status": "False"}]}}),
                json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
                json!({"status": {"$patch": "delete", "phase": "Running"}}),
            ],
        ),
        (
            Part::NodeConditions,
            json!({}),
            vec![
                json!({"status": {"$patch": "delete", "phase": "Running"}}),
                json!({"status": {"$patch": "replace", "phase": "Running"}}),
                json!({"status": {"conditions": [{"type": "Ready", "$patch": "merge"}]}}),
                json!({"status": {"$retainKeys": ["phase"], "phase": "Running"}}),
            ],
        ),
    ] {
        let mut object =
            json!({"metadata": {"name": "x", "uid": "u"}, "spec": {}, "status": status});
        if of_pod(part) {
            object["metadata"]["namespace"] = "d".into();
            object["spec"] = spec.clone();
        }
        let object = settled(part, object);
        let bytes = stored(part, &object);
        for document in documents {
            let general = generally(part, &object, &document);
            for way in [part, Part::Status] {
                let text = document.to_string();
                let short =
                    super::super::narrow(resource_of(part), way, &bytes, REVISION, text.as_bytes());
                assert!(
                    short.is_none() || short == general,
                    "{way:?} {object} {text}: {short:?} {general:?}"
                );
            }
        }
    }
}

/// Any value in the place of any other.
fn disturb(value: &mut Value, dice: &mut Dice, depth: usize) {
    if depth > 0 && !dice.one_in(6) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                let at = dice.below(map.len());
                let key = map.keys().nth(at).unwrap().to_string();
                if dice.one_in(9) {
                    map.remove(&key);
                    return;
                }
                return disturb(map.get_mut(&key).unwrap(), dice, depth - 1);
            }
            Value::Array(items) if !items.is_empty() => {
                let at = dice.below(items.len());
                if dice.one_in(9) {
                    items.push(items[at].clone());
                    return;
                }
                return disturb(&mut items[at], dice, depth - 1);
            }
            _ => {}
        }
    }
    let old = value.clone();
    *value = match dice.below(14) {
        0 => Value::Null,
        1 => json!([]),
        2 => json!({}),
        3 => "".into(),
        4 => 0.into(),
        5 => (-1).into(),
        6 => json!(1.5),
        7 => json!(true),
        8 => json!([old]),
        9 => match old {
            Value::Object(map) => map.values().cloned().collect(),
            other => json!({"x": other}),
        },
        10 => json!({"$patch": dice.pick(&["delete", "replace", "merge"])}),
        11 => match old {
            Value::Object(mut map) => {
                map.insert("$patch", dice.pick(&["delete", "replace", "merge"]).into());
                Value::Object(map)
            }
            other => json!([other, {"type": "", "ip": ""}]),
        },
        12 => json!(9_007_199_254_740_993_i64),
        _ => dice.pick(&TEXTS).into(),
    };
}

/// The text with a key of some object given twice, or with letters written otherwise.
fn respell(text: &str, dice: &mut Dice) -> String {
    match dice.below(4) {
        0 => text.replacen(
            "\"status\":",
            "\"status\":{\"phase\":\"Running\"},\"status\":",
            1,
        ),
        1 => text.replacen("e", "\\u0065", 1 + dice.below(3)),
        2 => format!(" {} ", text.replace(':', " :\n")),
        _ => text.to_owned(),
    }
}

#[test]
fn whatever_is_sent_is_stored_as_the_general_way_stores_it_or_left_to_it() {
    let mut dice = Dice::new(0xd1ff_e4e7);
    let mut answered = 0;
    for round in 0..6 * ROUNDS {
        let part = [
            Part::NodeConditions,
            Part::PodStatus,
            Part::NodeTaints,
            Part::Status,
        ][round % 4];
        let mut object = dice.object(of_pod(part));
        if dice.one_in(3) {
            let before = object.clone();
            disturb(&mut object["status"], &mut dice, 4);
            if schema::complete(resource_of(part).type_id, object.clone()).is_err() {
                object = before;
            }
        }
        let object = settled(part, object);
        let mut document = dice.document(part);
        for _ in 0..dice.below(3) {
            disturb(&mut document, &mut dice, 7);
        }
        let text = respell(&document.to_string(), &mut dice);
        let bytes = stored(part, &object);
        let Some(short) = narrow(part, &bytes, REVISION, text.as_bytes()) else {
            continue;
        };
        answered += 1;
        let document = schema::parse_json(text.as_bytes()).unwrap();
        let general = generally(part, &object, &document);
        assert!(
            Some(&short) == general.as_ref(),
            "{part:?} {round}\n{object}\n{text}\n{}\n{}",
            shown(part, Some(&short)),
            shown(part, general.as_ref())
        );
    }
    assert!(answered > ROUNDS / 2, "{answered}");
}

fn shown(part: Part, what: Option<&Narrow>) -> String {
    match what {
        Some(Narrow::Store(bytes)) => schema::decode_protobuf(resource_of(part).type_id, bytes)
            .map_or_else(
                |error| format!("{error}: {bytes:?}"),
                |object| object.to_string(),
            ),
        other => format!("{other:?}"),
    }
}

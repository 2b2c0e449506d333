//! Watches: where they begin, what selectors make of changes, how they end.

use value::json;

use crate::plane::{Plane, block_on};
use crate::speak::{Speaker, config_map, version};

fn labelled(name: &str, app: &str) -> value::Value {
    let mut object = config_map(name, "1");
    object["metadata"]["labels"] = json!({"app": app});
    object
}

async fn events_after_a_version(api: Speaker) {
    let path = api.own("configmaps");
    let first = api.post(&path, &config_map("a", "1")).await.expect(201);
    let second = api.post(&path, &config_map("b", "1")).await.expect(201);
    let mut watch = api
        .watch(&format!(
            "{path}?watch=1&resourceVersion={}",
            version(&first)
        ))
        .await;
    let event = watch.next().await.unwrap();
    assert_eq!(event, json!({"type": "ADDED", "object": second}));
    let changed = api
        .put(&format!("{path}/a"), &config_map("a", "2"))
        .await
        .expect(200);
    assert_eq!(
        watch.next().await.unwrap(),
        json!({"type": "MODIFIED", "object": changed})
    );
    api.delete(&format!("{path}/a")).await.expect(200);
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["data"]["key"], "2", "the last state");
    assert!(
        version(&event["object"]) > version(&changed),
        "at the version of its going"
    );
    // Other namespaces are none of its business.
    api.post(
        "/api/v1/namespaces/default/configmaps",
        &config_map(&api.namespace, "1"),
    )
    .await
    .expect(201);
    api.post(&path, &config_map("z", "1")).await.expect(201);
    assert_eq!(watch.next_words().await, "ADDED z");
}

async fn the_state_at_the_beginning(api: Speaker) {
    let path = api.own("configmaps");
    for name in ["a", "b"] {
        api.post(&path, &config_map(name, "1")).await.expect(201);
    }
    let now = version(&api.get(&path).await.expect(200));
    for query in ["", "&resourceVersion=", "&resourceVersion=0"] {
        let mut watch = api.watch(&format!("{path}?watch=true{query}")).await;
        assert_eq!(watch.next_words().await, "ADDED a", "{query}");
        assert_eq!(watch.next_words().await, "ADDED b", "{query}");
    }
    let wanted = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    for query in [
        wanted.to_owned(),
        format!("{wanted}&resourceVersion={now}"),
        format!("{wanted}&resourceVersion=1"),
    ] {
        let mut watch = api.watch(&format!("{path}?{query}")).await;
        assert_eq!(watch.next_words().await, "ADDED a", "{query}");
        assert_eq!(watch.next_words().await, "ADDED b", "{query}");
        let bookmark = watch.next().await.unwrap();
        assert_eq!(bookmark["type"], "BOOKMARK");
        let object = &bookmark["object"];
        assert_eq!(
            (object["kind"].as_str(), object["apiVersion"].as_str()),
            (Some("ConfigMap"), Some("v1"))
        );
        assert_eq!(
            object["metadata"]["annotations"],
            json!({"k8s.io/initial-events-end": "true"})
        );
        assert!(version(object) >= now);
        assert!(watch.is_quiet().await);
    }
    // Without the state: from now on.
    let quiet = "watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
    for query in [
        quiet.to_owned(),
        format!("{quiet}&resourceVersion=0"),
        format!("{quiet}&resourceVersion={now}"),
    ] {
        let mut watch = api.watch(&format!("{path}?{query}")).await;
        api.post(&path, &config_map("c", "1")).await.expect(201);
        assert_eq!(watch.next_words().await, "ADDED c", "{query}");
        api.delete(&format!("{path}/c")).await.expect(200);
        assert_eq!(watch.next_words().await, "DELETED c", "{query}");
    }
    for query in [
        "sendInitialEvents=true",
        "resourceVersionMatch=NotOlderThan",
        "sendInitialEvents=true&resourceVersionMatch=Exact",
    ] {
        api.get(&format!("{path}?watch=1&{query}"))
            .await
            .refused(422, "Invalid");
    }
}

async fn selectors_make_objects_come_and_go(api: Speaker) {
    let path = api.own("configmaps");
    api.post(&path, &labelled("a", "web")).await.expect(201);
    let mut watch = api
        .watch(&format!("{path}?watch=1&labelSelector=app%3Dweb"))
        .await;
    assert_eq!(watch.next_words().await, "ADDED a");
    api.post(&path, &labelled("b", "db")).await.expect(201);
    let entered = api
        .put(&format!("{path}/b"), &labelled("b", "web"))
        .await
        .expect(200);
    assert_eq!(
        watch.next().await.unwrap(),
        json!({"type": "ADDED", "object": entered})
    );
    let left = api
        .put(&format!("{path}/a"), &labelled("a", "db"))
        .await
        .expect(200);
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(
        event["object"]["metadata"]["labels"]["app"], "web",
        "as it was last seen"
    );
    assert_eq!(
        version(&event["object"]),
        version(&left),
        "at the version of the change"
    );
    api.delete(&format!("{path}/a")).await.expect(200);
    api.delete(&format!("{path}/b")).await.expect(200);
    assert_eq!(watch.next_words().await, "DELETED b");
}

/// A kubelet's watch: pods of its node, across namespaces, from the binding on.
async fn pods_of_one_node(api: Speaker) {
    let node = format!("node-{}", api.namespace);
    let mut watch = api
        .watch(&format!(
            "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3D{node}&resourceVersion=0"
        ))
        .await;
    let path = api.own("pods");
    for name in ["a", "b"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "main", "image": "i"}]}});
        api.post(&path, &pod).await.expect(201);
    }
    let binding = |to: &str| json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "b"}, "target": {"kind": "Node", "name": to}});
    api.post(&format!("{path}/b/binding"), &binding(&node))
        .await
        .expect(201);
    assert_eq!(watch.next_words().await, "ADDED b");
    api.patch(
        &format!("{path}/b/status"),
        "merge",
        &json!({"status": {"phase": "Running"}}),
    )
    .await
    .expect(200);
    assert_eq!(watch.next_words().await, "MODIFIED b");
    api.delete_with(&format!("{path}/b"), &json!({"gracePeriodSeconds": 0}))
        .await
        .expect(200);
    assert_eq!(watch.next_words().await, "DELETED b");
}

/// The same field name means nothing for other kinds' marks.
async fn slices_of_one_node(api: Speaker) {
    let node = format!("node-{}", api.namespace);
    let path = "/apis/resource.k8s.io/v1/resourceslices";
    let mut watch = api
        .watch(&format!(
            "{path}?watch=1&fieldSelector=spec.nodeName%3D{node}&resourceVersion=0"
        ))
        .await;
    let name = format!("slice-{}", api.namespace);
    let slice = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": name},
        "spec": {"driver": "example.com", "nodeName": node,
                 "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}}});
    api.post(path, &slice).await.expect(201);
    assert_eq!(watch.next_words().await, format!("ADDED {name}"));
}

async fn one_object(api: Speaker) {
    let path = api.own("configmaps");
    api.post(&path, &labelled("a", "web")).await.expect(201);
    api.post(&path, &labelled("b", "web")).await.expect(201);
    for from in [
        format!("{path}?watch=1&fieldSelector=metadata.name%3Db"),
        format!("{path}/b?watch=1"),
        format!("{path}/b?watch=1&labelSelector=app%3Dweb"),
        path.replace("/api/v1/", "/api/v1/watch/") + "/b",
    ] {
        let mut watch = api.watch(&from).await;
        assert_eq!(watch.next_words().await, "ADDED b", "{from}");
        api.patch(&format!("{path}/a"), "merge", &json!({"data": {"n": from}}))
            .await
            .expect(200);
        api.patch(&format!("{path}/b"), "merge", &json!({"data": {"n": from}}))
            .await
            .expect(200);
        assert_eq!(watch.next_words().await, "MODIFIED b", "{from}");
    }
}

async fn a_watch_ends_in_time(api: Speaker) {
    let path = api.own("configmaps");
    let created = api.post(&path, &config_map("a", "1")).await.expect(201);
    let mut watch = api
        .watch(&format!(
            "{path}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true"
        ))
        .await;
    assert_eq!(watch.next_words().await, "ADDED a");
    assert_eq!(
        watch.next().await.unwrap()["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let last = watch.next().await.unwrap();
    assert_eq!(
        last["type"], "BOOKMARK",
        "so that the next watch begins where this one ends"
    );
    assert!(version(&last["object"]) >= version(&created));
    assert!(watch.next().await.is_none());
}

async fn other_shapes(api: Speaker) {
    let path = api.own("configmaps");
    api.post(&path, &config_map("a", "1")).await.expect(201);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut watch = api.watch_as(table, &format!("{path}?watch=1")).await;
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    api.post(&path, &config_map("b", "1")).await.expect(201);
    let second = watch.next().await.unwrap();
    assert!(
        second["object"]["columnDefinitions"]
            .as_array()
            .is_none_or(Vec::is_empty),
        "columns come once"
    );
    assert_eq!(
        second["object"]["rows"][0]["object"]["kind"],
        "PartialObjectMetadata"
    );

    let partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let mut watch = api
        .watch_as(partial, &format!("{path}?watch=1&allowWatchBookmarks=1"))
        .await;
    for kind in ["ADDED", "ADDED", "BOOKMARK"] {
        let event = watch.next().await.unwrap();
        assert_eq!(
            (event["type"].as_str().unwrap(), &event["object"]["kind"]),
            (kind, &json!("PartialObjectMetadata"))
        );
        assert_eq!(event["object"]["apiVersion"], "meta.k8s.io/v1");
        assert!(event["object"]["data"].is_null());
    }
    // Events in their other version.
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "message": "m",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": api.namespace}});
    api.post(&api.own("events"), &event).await.expect(201);
    let mut watch = api
        .watch(&format!("{}?watch=1", api.own("events.k8s.io/v1/events")))
        .await;
    assert_eq!(watch.next().await.unwrap()["object"]["note"], "m");
    let refused = api
        .accepting("application/yaml", &format!("{path}?watch=1"))
        .await;
    assert_eq!(refused.status, 406, "there is no stream of YAML");
}

/// The protobuf stream, read by the client that our components use.
async fn protobuf_through_the_client(api: Speaker) {
    let client = api.client();
    let maps = schema::resource("", "v1", "configmaps").unwrap();
    let created = client
        .create(maps, &api.namespace, &config_map("a", "1"))
        .await
        .unwrap();
    let options = client::WatchOptions {
        resource_version: "0".into(),
        ..Default::default()
    };
    let mut watch = client.watch(maps, &api.namespace, &options).await.unwrap();
    let Ok(Some(client::WatchEvent::Added(added))) = watch.next().await else {
        panic!("no ADDED")
    };
    assert_eq!(added, created);
    let Ok(Some(client::WatchEvent::Bookmark(_))) = watch.next().await else {
        panic!("no bookmark")
    };
    client
        .delete(maps, &api.namespace, "a", &client::DeleteOptions::default())
        .await
        .unwrap();
    let Ok(Some(client::WatchEvent::Deleted(deleted))) = watch.next().await else {
        panic!("no DELETED")
    };
    assert_eq!(deleted["data"], created["data"]);
}

crate::both!(
    events_after_a_version,
    the_state_at_the_beginning,
    selectors_make_objects_come_and_go,
    pods_of_one_node,
    slices_of_one_node,
    one_object,
    a_watch_ends_in_time,
    other_shapes,
    protobuf_through_the_client,
);

/// The news that history is gone is an event, as the watch as such was in order.
#[test]
fn too_old_versions_are_told_in_the_stream() {
    block_on(async {
        let plane = Plane::new().ready().await;
        let api = plane.speaker();
        let path = api.own("configmaps");
        let first = api.post(&path, &config_map("a", "1")).await.expect(201);
        let mut behind = api
            .watch(&format!(
                "{path}?watch=1&resourceVersion={}",
                version(&first)
            ))
            .await;
        for value in ["2", "3"] {
            api.put(&format!("{path}/a"), &config_map("a", value))
                .await
                .expect(200);
        }
        // Long after the window of history.
        for hours in 1..3 {
            plane.store.step(
                apiserver::now_micros() + hours * 3600 * 1_000_000,
                1_000_000,
            );
        }
        plane.store.compact(plane.store.applied()).unwrap();
        let mut late = api
            .watch(&format!(
                "{path}?watch=1&resourceVersion={}",
                version(&first)
            ))
            .await;
        for watch in [&mut behind, &mut late] {
            let event = watch.next().await.unwrap();
            assert_eq!(event["type"], "ERROR");
            assert_eq!(
                (&event["object"]["code"], &event["object"]["reason"]),
                (&json!(410), &json!("Expired"))
            );
            let message = event["object"]["message"].as_str().unwrap();
            assert!(
                message.starts_with("too old resource version: "),
                "{message}"
            );
            assert!(watch.next().await.is_none());
        }
    });
}

/// A server that ends lets its watches end, too.
#[test]
fn watches_end_with_the_server() {
    block_on(async {
        let plane = Plane::new().ready().await;
        let mut watch = plane.speaker().watch("/api/v1/configmaps?watch=1").await;
        assert!(watch.is_quiet().await);
        plane.stop.send(true).unwrap();
        assert!(watch.next().await.is_none());
    });
}

/// Events end together, each with a frame of its own.
#[test]
fn what_expires_together_goes_one_by_one() {
    block_on(async {
        let plane = Plane::new().ready().await;
        let api = plane.speaker();
        let mut watch = api.watch("/api/v1/events?watch=1").await;
        for name in ["a", "b", "c"] {
            let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name},
                "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}});
            api.post("/api/v1/namespaces/default/events", &event)
                .await
                .expect(201);
            assert_eq!(watch.next_words().await, format!("ADDED {name}"));
        }
        let later = apiserver::now_micros() + 2 * 3600 * 1_000_000;
        plane.store.step(later, 1000);
        let mut gone = Vec::new();
        for _ in 0..3 {
            gone.push(watch.next_words().await);
        }
        gone.sort();
        assert_eq!(gone, ["DELETED a", "DELETED b", "DELETED c"]);
        assert_eq!(
            api.get("/api/v1/events").await.expect(200)["items"],
            json!([])
        );
    });
}

/// Who does not read holds nobody up, and is held to the window of history like anybody else.
#[test]
fn a_large_state_comes_in_pieces() {
    block_on(async {
        let plane = Plane::new().ready().await;
        let api = plane.speaker();
        let path = api.own("configmaps");
        let filler = "x".repeat(10_000);
        for number in 0..300 {
            api.post(&path, &config_map(&format!("c{number:03}"), &filler))
                .await
                .expect(201);
        }
        let query = "watch=1&allowWatchBookmarks=1";
        let mut watch = api.watch(&format!("{path}?{query}")).await;
        for number in 0..100 {
            assert_eq!(watch.next_words().await, format!("ADDED c{number:03}"));
        }
        // The state is that of the beginning, the changes follow it.
        api.put(&format!("{path}/c250"), &config_map("c250", "new"))
            .await
            .expect(200);
        api.delete(&format!("{path}/c299")).await.expect(200);
        for number in 100..300 {
            let event = watch.next().await.unwrap();
            assert_eq!(event["type"], "ADDED");
            assert_eq!(event["object"]["metadata"]["name"], format!("c{number:03}"));
            assert_eq!(event["object"]["data"]["key"], filler.as_str());
        }
        assert_eq!(watch.next_words().await, "BOOKMARK");
        assert_eq!(watch.next_words().await, "MODIFIED c250");
        assert_eq!(watch.next_words().await, "DELETED c299");
    });
}

/// What a watch of labels tells is what a look at every change tells, whatever the selector and whatever happens to
/// labels: the index leaves nobody out.
#[test]
fn labels_find_exactly_the_events_that_concern_them() {
    type Labels<'a> = [Option<&'a str>; 2];
    type Wants = fn(Labels<'_>) -> bool;
    const SELECTORS: [(&str, Wants); 12] = [
        ("app=a", |[app, _]| app == Some("a")),
        ("app==b,tier=x", |[app, tier]| {
            app == Some("b") && tier == Some("x")
        }),
        ("app in (a,c)", |[app, _]| {
            app == Some("a") || app == Some("c")
        }),
        ("app in (b),tier in (x,y)", |[app, tier]| {
            app == Some("b") && (tier == Some("x") || tier == Some("y"))
        }),
        (
            "app in (a,a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r)",
            |[app, _]| app.is_some(),
        ),
        ("tier", |[_, tier]| tier.is_some()),
        ("!tier", |[_, tier]| tier.is_none()),
        ("app!=a", |[app, _]| app != Some("a")),
        ("app notin (a,b),tier", |[app, tier]| {
            app != Some("a") && app != Some("b") && tier.is_some()
        }),
        ("tier=x,app!=c", |[app, tier]| {
            tier == Some("x") && app != Some("c")
        }),
        ("tier in (y,x,none)", |[_, tier]| tier.is_some()),
        ("app=nobody", |_| false),
    ];
    for seed in 1..=12u64 {
        block_on(async {
            let plane = Plane::new().ready().await;
            let api = plane.speaker();
            let mut random = seed;
            let mut roll = |below: u64| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (random >> 33) % below
            };
            let mut watches = Vec::new();
            for (selector, wants) in SELECTORS {
                for at in [
                    "/api/v1/configmaps",
                    "/api/v1/namespaces/default/configmaps",
                ] {
                    let query = selector
                        .replace('=', "%3D")
                        .replace('!', "%21")
                        .replace(' ', "%20");
                    let path = format!(
                        "{at}?watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&labelSelector={query}"
                    );
                    let (watch, expected, told) = (api.watch(&path).await, Vec::new(), Vec::new());
                    watches.push((
                        watch,
                        at.contains("default"),
                        wants,
                        expected,
                        told,
                        selector,
                    ));
                }
            }
            let mut now: std::collections::BTreeMap<String, [Option<&str>; 2]> = Default::default();
            for step in 0..120 {
                let namespace = ["default", "kube-system"][roll(2) as usize];
                let name = format!("c{}", roll(4));
                let path = format!("/api/v1/namespaces/{namespace}/configmaps");
                let key = format!("{namespace}/{name}");
                let before = now.get(&key).copied();
                let mut labels = [
                    [None, Some("a"), Some("b"), Some("c")][roll(4) as usize],
                    [None, None, Some("x"), Some("y")][roll(4) as usize],
                ];
                if roll(3) == 0 {
                    // A change that leaves the labels alone.
                    labels = before.unwrap_or(labels);
                }
                let is_delete = before.is_some() && roll(5) == 0;
                let mut object =
                    config_map(&name, &format!("{step} {}", "long enough ".repeat(20)));
                for (label, value) in ["app", "tier"].into_iter().zip(labels) {
                    if let Some(value) = value {
                        object["metadata"]["labels"][label] = json!(value);
                    }
                }
                match (before.is_some(), is_delete) {
                    (_, true) => drop(api.delete(&format!("{path}/{name}")).await.expect(200)),
                    (true, _) => drop(
                        api.put(&format!("{path}/{name}"), &object)
                            .await
                            .expect(200),
                    ),
                    (false, _) => drop(api.post(&path, &object).await.expect(201)),
                }
                let after = (!is_delete).then_some(labels);
                for (_, is_one, wants, expected, _, _) in &mut watches {
                    if *is_one && namespace != "default" {
                        continue;
                    }
                    let kind = match (before.is_some_and(*wants), after.is_some_and(*wants)) {
                        (false, true) => "ADDED",
                        (true, true) => "MODIFIED",
                        (true, false) => "DELETED",
                        (false, false) => continue,
                    };
                    expected.push(format!("{kind} {name}"));
                }
                match after {
                    Some(labels) => drop(now.insert(key, labels)),
                    None => drop(now.remove(&key)),
                }
                // Some read at once, some fall behind.
                for (watch, _, _, _, told, _) in &mut watches {
                    if roll(4) == 0 {
                        told.extend(watch.words_there().await);
                    }
                }
            }
            for (watch, is_one, _, expected, told, selector) in &mut watches {
                while told.len() < expected.len() {
                    told.push(watch.next_words().await);
                }
                assert_eq!(
                    told, expected,
                    "seed {seed}, {selector}, one namespace: {is_one}"
                );
                assert!(watch.is_quiet().await);
            }
        });
    }
}

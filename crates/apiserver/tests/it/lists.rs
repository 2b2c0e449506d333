//! Lists: pages at a fixed version, what `resourceVersion` and its match mean, selectors.

use rest::http::{Body, FrameSource, Method, Request};
use value::json;

use crate::plane::{Plane, block_on};
use crate::speak::{Speaker, config_map, names, version};

async fn fill(api: &Speaker, count: usize) {
    for number in 0..count {
        api.post(
            &api.own("configmaps"),
            &config_map(&format!("c{number:02}"), "1"),
        )
        .await
        .expect(201);
    }
}

/// Pages show one moment, whatever writers do between them.
async fn pages_show_one_moment(api: Speaker) {
    fill(&api, 10).await;
    let path = api.own("configmaps");
    let first = api.get(&format!("{path}?limit=4")).await.expect(200);
    assert_eq!(names(&first), ["c00", "c01", "c02", "c03"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 6);
    // One before, one behind, one changed, one new in the middle.
    for name in ["c00", "c06"] {
        api.delete(&format!("{path}/{name}")).await.expect(200);
    }
    api.put(&format!("{path}/c07"), &config_map("c07", "2"))
        .await
        .expect(200);
    api.post(&path, &config_map("c04a", "1")).await.expect(201);
    let mut token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    let mut seen = Vec::new();
    while !token.is_empty() {
        let page = api
            .get(&format!("{path}?limit=4&continue={token}"))
            .await
            .expect(200);
        assert_eq!(
            page["metadata"]["resourceVersion"],
            first["metadata"]["resourceVersion"]
        );
        for item in page["items"].as_array().unwrap() {
            assert_eq!(item["data"]["key"], "1");
            seen.push(item["metadata"]["name"].as_str().unwrap().to_owned());
        }
        token = page["metadata"]["continue"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
    }
    assert_eq!(seen, ["c04", "c05", "c06", "c07", "c08", "c09"]);
    let now = api.get(&path).await.expect(200);
    assert_eq!(
        names(&now),
        [
            "c01", "c02", "c03", "c04", "c04a", "c05", "c07", "c08", "c09"
        ]
    );
    assert!(
        now["metadata"]["continue"].is_null() && now["metadata"]["remainingItemCount"].is_null()
    );
    assert!(version(&now) > version(&first));
}

async fn versions_and_matches(api: Speaker) {
    let path = api.own("configmaps");
    let first = api.post(&path, &config_map("a", "1")).await.expect(201);
    let second = api.post(&path, &config_map("b", "1")).await.expect(201);
    let (old, new) = (version(&first), version(&second));
    let far = new + 1_000_000;
    for (query, expected) in [
        (String::new(), vec!["a", "b"]),
        ("resourceVersion=0".into(), vec!["a", "b"]),
        ("resourceVersion=0&limit=1".into(), vec!["a"]),
        (
            "resourceVersion=0&resourceVersionMatch=NotOlderThan".into(),
            vec!["a", "b"],
        ),
        (format!("resourceVersion={old}"), vec!["a", "b"]),
        (format!("resourceVersion={old}&limit=500"), vec!["a"]),
        (
            format!("resourceVersion={old}&resourceVersionMatch=Exact"),
            vec!["a"],
        ),
        (
            format!("resourceVersion={old}&resourceVersionMatch=NotOlderThan"),
            vec!["a", "b"],
        ),
        (
            format!("resourceVersion={old}&resourceVersionMatch=NotOlderThan&limit=500"),
            vec!["a", "b"],
        ),
        (
            format!("resourceVersion={new}&resourceVersionMatch=Exact"),
            vec!["a", "b"],
        ),
    ] {
        let list = api.get(&format!("{path}?{query}")).await.expect(200);
        assert_eq!(names(&list), expected, "{query}");
    }
    let exact = api
        .get(&format!(
            "{path}?resourceVersion={old}&resourceVersionMatch=Exact"
        ))
        .await
        .expect(200);
    assert_eq!(version(&exact), old);
    for query in [
        "resourceVersionMatch=Exact",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "resourceVersion=5&resourceVersionMatch=Sometimes",
        "sendInitialEvents=true",
    ] {
        api.get(&format!("{path}?{query}"))
            .await
            .refused(422, "Invalid");
    }
    let token = api.get(&format!("{path}?limit=1")).await.expect(200)["metadata"]["continue"]
        .as_str()
        .unwrap()
        .to_owned();
    let answer = api
        .get(&format!(
            "{path}?limit=1&resourceVersion={old}&continue={token}"
        ))
        .await;
    assert_eq!(
        answer.refused(400, "BadRequest"),
        "specifying resource version is not allowed when using continue"
    );
    api.get(&format!("{path}?resourceVersion=-1"))
        .await
        .refused(400, "BadRequest");
    api.get(&format!("{path}?resourceVersion=new"))
        .await
        .refused(400, "BadRequest");
    api.get(&format!("{path}?continue=nonsense"))
        .await
        .refused(400, "BadRequest");
    // A version nobody has seen is waited for a little, then refused with the news to try again.
    for what in [
        format!("{path}?resourceVersion={far}"),
        format!("{path}/a?resourceVersion={far}"),
    ] {
        let status = api.get(&what).await.expect(504);
        assert_eq!(status["reason"], "Timeout");
        assert_eq!(
            status["details"]["causes"][0]["reason"],
            "ResourceVersionTooLarge"
        );
        assert_eq!(status["details"]["retryAfterSeconds"], 1);
    }
    assert_eq!(
        api.get(&format!("{path}/a?resourceVersion={new}"))
            .await
            .expect(200),
        first
    );
    assert_eq!(
        api.get(&format!("{path}/a?resourceVersion=0"))
            .await
            .expect(200),
        first
    );
}

async fn selectors(api: Speaker) {
    let path = api.own("pods");
    for (name, app, node) in [("a", "web", "n1"), ("b", "db", "n1"), ("c", "web", "n2")] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"nodeName": format!("{node}-{}", api.namespace), "containers": [{"name": "main", "image": "i"}]}});
        api.post(&path, &pod).await.expect(201);
    }
    let n1 = format!("n1-{}", api.namespace);
    for (query, expected) in [
        ("labelSelector=app%3Dweb".to_owned(), vec!["a", "c"]),
        (
            "labelSelector=app+in+(web,db),app!%3Ddb".into(),
            vec!["a", "c"],
        ),
        ("labelSelector=!app".into(), vec![]),
        ("labelSelector=app".into(), vec!["a", "b", "c"]),
        (
            format!("fieldSelector=spec.nodeName%3D{n1}"),
            vec!["a", "b"],
        ),
        (format!("fieldSelector=spec.nodeName!%3D{n1}"), vec!["c"]),
        (
            format!("fieldSelector=spec.nodeName%3D{n1},metadata.name%3Db"),
            vec!["b"],
        ),
        ("fieldSelector=metadata.name%3Da".into(), vec!["a"]),
        ("fieldSelector=metadata.name!%3Da".into(), vec!["b", "c"]),
        (
            "fieldSelector=metadata.name%3Da,metadata.name%3Db".into(),
            vec![],
        ),
        (
            format!("fieldSelector=metadata.namespace%3D{}", api.namespace),
            vec!["a", "b", "c"],
        ),
        (
            "fieldSelector=status.phase%3DPending&labelSelector=app%3Ddb".into(),
            vec!["b"],
        ),
        (
            "fieldSelector=spec.hostNetwork%3Dfalse".into(),
            vec!["a", "b", "c"],
        ),
        (
            "fieldSelector=spec.restartPolicy%3DAlways,spec.schedulerName%3Ddefault-scheduler"
                .into(),
            vec!["a", "b", "c"],
        ),
    ] {
        let list = api.get(&format!("{path}?{query}")).await.expect(200);
        assert_eq!(names(&list), expected, "{query}");
        assert_eq!(
            list["items"].as_array().unwrap().len(),
            expected.len(),
            "an empty list is [] and not null"
        );
    }
    // Across namespaces: by the field of a pod's node, which no other test uses.
    let list = api
        .get(&format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{n1}"))
        .await
        .expect(200);
    assert_eq!(names(&list), ["a", "b"]);
    let selected = api
        .get(&format!("{path}?labelSelector=app&limit=2"))
        .await
        .expect(200);
    assert!(
        selected["metadata"]["remainingItemCount"].is_null(),
        "nobody counts what a selector leaves out"
    );
    let token = selected["metadata"]["continue"].as_str().unwrap();
    let rest = api
        .get(&format!(
            "{path}?labelSelector=app&limit=2&continue={token}"
        ))
        .await
        .expect(200);
    assert_eq!(names(&rest), ["c"]);
    let message = api
        .get(&format!("{path}?fieldSelector=spec.colour%3Dred"))
        .await
        .refused(400, "BadRequest");
    assert!(
        message.contains("field label not supported: spec.colour"),
        "{message}"
    );
    for broken in [
        "labelSelector=a%3Db%3Dc",
        "labelSelector=%2F%2Fx",
        "fieldSelector=name",
        "labelSelector=a+in+b",
    ] {
        api.get(&format!("{path}?{broken}"))
            .await
            .refused(400, "BadRequest");
    }
}

async fn a_namespace_that_is_not_there_lists_nothing(api: Speaker) {
    let list = api.get("/api/v1/namespaces/nowhere/pods").await.expect(200);
    assert_eq!(list["items"], json!([]));
    assert_eq!(list["kind"], "PodList");
}

crate::both!(
    pages_show_one_moment,
    versions_and_matches,
    selectors,
    a_namespace_that_is_not_there_lists_nothing
);

/// A list that is too old says so, with a token that goes on regardless.
#[test]
fn expired_tokens_come_with_a_fresh_one() {
    block_on(async {
        let plane = Plane::new().ready().await;
        let api = plane.speaker();
        fill(&api, 6).await;
        let path = api.own("configmaps");
        let first = api.get(&format!("{path}?limit=2")).await.expect(200);
        api.delete(&format!("{path}/c03")).await.expect(200);
        plane.store.compact(plane.store.applied()).unwrap();
        let token = first["metadata"]["continue"].as_str().unwrap();
        let answer = api.get(&format!("{path}?limit=2&continue={token}")).await;
        answer.refused(410, "Expired");
        let fresh = answer.json()["metadata"]["continue"]
            .as_str()
            .unwrap()
            .to_owned();
        let rest = api
            .get(&format!("{path}?limit=2&continue={fresh}"))
            .await
            .expect(200);
        assert_eq!(names(&rest), ["c02", "c04"]);
        let token = rest["metadata"]["continue"].as_str().unwrap();
        assert_eq!(
            names(
                &api.get(&format!("{path}?continue={token}"))
                    .await
                    .expect(200)
            ),
            ["c05"]
        );
        let old = first["metadata"]["resourceVersion"].as_str().unwrap();
        api.get(&format!(
            "{path}?resourceVersion={old}&resourceVersionMatch=Exact"
        ))
        .await
        .refused(410, "Expired");
    });
}

/// A list larger than what goes out at once is written while it is read, and shows one moment all the same: writers
/// change, delete and create while it is half written.
#[test]
fn a_large_list_shows_one_moment_while_others_write() {
    block_on(async {
        let plane = Plane::new().ready().await;
        let api = plane.speaker();
        let path = api.own("configmaps");
        for number in 0..60 {
            let object = config_map(&format!("c{number:02}"), &"x".repeat(50_000));
            api.post(&path, &object).await.expect(201);
        }
        let forms = [
            ("application/json", "/api/v1/configmaps", ""),
            (PROTOBUF, "/api/v1/configmaps", ""),
            (PROTOBUF, path.as_str(), ""),
            (PROTOBUF, "/api/v1/configmaps", "?limit=1000"),
            (PROTOBUF, "/api/v1/configmaps", "?resourceVersion=0"),
            (PROTOBUF, path.as_str(), "?labelSelector=!nothing"),
            ("application/json", path.as_str(), "?labelSelector=!nothing"),
        ];
        for (round, (accept, at, query)) in forms.into_iter().enumerate() {
            // By pages of few, which are whole, so that another way tells what there was.
            let before = by_pages(&api, at).await;
            let mut source = streamed(&api, accept, &format!("{at}{query}")).await;
            let mut body = next_piece(&mut source).await.unwrap().to_vec();
            let name = |number: usize| format!("c{number:02}");
            for number in [1 + round, 50 - round] {
                let object = config_map(&name(number), &"y".repeat(40_000 + round));
                api.put(&format!("{path}/{}", name(number)), &object)
                    .await
                    .expect(200);
            }
            api.delete(&format!("{path}/{}", name(59 - round)))
                .await
                .expect(200);
            let new = config_map(&format!("c30-{round}"), &"z".repeat(60_000));
            api.post(&path, &new).await.expect(201);
            while let Some(piece) = next_piece(&mut source).await {
                body.extend_from_slice(&piece);
            }
            let list = if accept == PROTOBUF {
                of_protobuf(&body)
            } else {
                serde_json::from_slice(&body).unwrap()
            };
            assert_eq!(
                list["metadata"]["continue"].as_str().unwrap_or_default(),
                ""
            );
            assert_eq!(told(&list), before, "{accept} {at}{query}");
        }
    });
}

/// Who reads so slowly that history has passed the list gets no end of it.
#[test]
fn a_list_that_is_read_too_slowly_breaks_off() {
    block_on(async {
        let plane = Plane::new().ready().await;
        let api = plane.speaker();
        let path = api.own("configmaps");
        for number in 0..60 {
            let object = config_map(&format!("c{number:02}"), &"x".repeat(50_000));
            api.post(&path, &object).await.expect(201);
        }
        let mut source = streamed(&api, "application/json", &path).await;
        let mut body = next_piece(&mut source).await.unwrap().to_vec();
        api.delete(&format!("{path}/c59")).await.expect(200);
        plane.store.compact(plane.store.applied()).unwrap();
        while let Some(piece) = next_piece(&mut source).await {
            body.extend_from_slice(&piece);
        }
        assert!(serde_json::from_slice::<value::Value>(&body).is_err());
        let again = api.get(&path).await.expect(200);
        assert_eq!(again["items"].as_array().unwrap().len(), 59);
    });
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Of each item: name, version, data.
fn told(list: &value::Value) -> Vec<[value::Value; 3]> {
    let items = list["items"].as_array().unwrap().iter();
    let told = items.map(|item| {
        let metadata = &item["metadata"];
        [
            &metadata["name"],
            &metadata["resourceVersion"],
            &item["data"],
        ]
        .map(Clone::clone)
    });
    told.collect()
}

async fn by_pages(api: &Speaker, path: &str) -> Vec<[value::Value; 3]> {
    let (mut all, mut token) = (Vec::new(), String::new());
    for _ in 0..100 {
        let page = api
            .get(&format!("{path}?limit=7&continue={token}"))
            .await
            .expect(200);
        all.extend(told(&page));
        token = page["metadata"]["continue"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if token.is_empty() {
            break;
        }
    }
    all
}

async fn streamed(api: &Speaker, accept: &str, path: &str) -> Box<dyn FrameSource> {
    let request = Request {
        accept: accept.into(),
        ..api.ask(Method::Get, path)
    };
    let reply = api.reply(request).await;
    assert_eq!(reply.status, 200, "{path}");
    match reply.body {
        Body::Stream(source) => source,
        Body::Full(_) => panic!("{path} came whole"),
    }
}

async fn next_piece(source: &mut Box<dyn FrameSource>) -> Option<bytes::Bytes> {
    std::future::poll_fn(|cx| source.poll_frame(cx)).await
}

fn of_protobuf(body: &[u8]) -> value::Value {
    let envelope = schema::envelope::unwrap(body).unwrap();
    let ty = schema::kind_type(envelope.api_version, envelope.kind).unwrap();
    schema::decode_protobuf(ty, envelope.raw).unwrap()
}

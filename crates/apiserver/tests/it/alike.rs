//! Pods that are created alike: from the third on the spec is not looked at again, and nobody can tell but by a counter.

use rest::http::Method;
use value::{Value, json};

use crate::speak::{Answer, Speaker};

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}, "annotations": {"a": name}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "100m"}}}],
                 "schedulingGates": [{"name": "example.com/g"}]}})
}

async fn create(api: &Speaker, pod: &Value) -> Answer {
    create_at(api, &api.own("pods"), pod).await
}

pub async fn create_at(api: &Speaker, path: &str, pod: &Value) -> Answer {
    create_from(api, path, &message(pod)).await
}

fn message(pod: &Value) -> Vec<u8> {
    let mut message = Vec::new();
    let type_id = schema::kind_type("v1", "Pod").unwrap();
    schema::encode_protobuf(type_id, pod, &mut message).unwrap();
    message
}

async fn create_from(api: &Speaker, path: &str, message: &[u8]) -> Answer {
    let mut body = Vec::new();
    schema::envelope::wrap("v1", "Pod", message, &mut body);
    let media = "application/vnd.kubernetes.protobuf";
    api.send(api.ask_with(Method::Post, path, media, body))
        .await
}

/// How many pods went the short way, of all tests that share the API server.
pub async fn alike(api: &Speaker) -> u64 {
    let metrics = api.get("/metrics").await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("megaplane_pods_created_alike_total "));
    line.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

/// What does not differ from pod to pod.
fn common(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let metadata = pod["metadata"].as_object_mut().unwrap();
    for own in [
        "name",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "labels",
        "annotations",
    ] {
        metadata.remove(own);
    }
    pod
}

async fn each_is_as_the_first_was(api: Speaker) {
    let first = create(&api, &pod("p0")).await.expect(201);
    let before = alike(&api).await;
    for name in ["p1", "p2", "p3"] {
        let next = create(&api, &pod(name)).await.expect(201);
        assert_eq!(common(&next), common(&first));
        assert_eq!(next["metadata"]["labels"], json!({"app": name}));
        assert_ne!(next["metadata"]["uid"], first["metadata"]["uid"]);
        assert_eq!(
            api.get(&api.own(&format!("pods/{name}"))).await.expect(200),
            next
        );
    }
    // Other tests change priority classes meanwhile, after which a pod has to go the long way.
    for more in 0..100 {
        if alike(&api).await >= before + 2 {
            break;
        }
        let next = create(&api, &pod(&format!("more-{more}")))
            .await
            .expect(201);
        assert_eq!(common(&next), common(&first));
    }
    assert!(alike(&api).await >= before + 2);
    // The tree is the one that JSON makes.
    let by_json = api.post(&api.own("pods"), &pod("p4")).await.expect(201);
    assert_eq!(common(&by_json), common(&first));
    // Names that are taken, made up, or none at all.
    create(&api, &pod("p1")).await.refused(409, "AlreadyExists");
    let mut unnamed = pod("x");
    unnamed["metadata"] = json!({"generateName": "made-"});
    let made = create(&api, &unnamed).await.expect(201);
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.len() == 10 && name.starts_with("made-"), "{name}");
    assert_eq!(made["metadata"]["generateName"], "made-");
    unnamed["metadata"] = json!({});
    create(&api, &unnamed).await.refused(422, "Invalid");
    // Metadata is looked at each time.
    let mut wrong = pod("p9");
    wrong["metadata"]["labels"] = json!({"a b": "c"});
    create(&api, &wrong).await.refused(422, "Invalid");
    let mut versioned = pod("p9");
    versioned["metadata"]["resourceVersion"] = "7".into();
    assert_eq!(create(&api, &versioned).await.status, 500);
    let mut elsewhere = pod("p9");
    elsewhere["metadata"]["namespace"] = "elsewhere".into();
    create(&api, &elsewhere).await.refused(400, "BadRequest");
    let mut mirror = pod("p9");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "m"});
    create(&api, &mirror).await.refused(422, "Invalid");
    // A dry run creates nothing.
    let dry = format!("{}?dryRun=All", api.own("pods"));
    create_at(&api, &dry, &pod("p9")).await.expect(201);
    api.get(&api.own("pods/p9")).await.refused(404, "NotFound");
    create_at(&api, "/api/v1/namespaces/not-there/pods", &pod("p9"))
        .await
        .refused(404, "NotFound");
}

async fn what_admission_looks_up_is_looked_up_each_time(api: Speaker) {
    let class = format!("class-{}", api.namespace);
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let mut important = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": class}, "value": 7});
    api.post(classes, &important).await.expect(201);
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    api.post(&api.own("serviceaccounts"), &account)
        .await
        .expect(201);
    let pod = |name: &str| {
        let mut pod = pod(name);
        pod["spec"]["priorityClassName"] = class.as_str().into();
        pod["spec"]["serviceAccountName"] = "robot".into();
        pod
    };
    for name in ["a0", "a1", "a2"] {
        let created = create(&api, &pod(name)).await.expect(201);
        assert_eq!(created["spec"]["priority"], 7);
    }
    // The class is another one of the same name.
    let one = format!("{classes}/{class}");
    api.delete(&one).await.expect(200);
    create(&api, &pod("a3")).await.refused(403, "Forbidden");
    important["value"] = 9.into();
    api.post(classes, &important).await.expect(201);
    for name in ["a4", "a5", "a6"] {
        let created = create(&api, &pod(name)).await.expect(201);
        assert_eq!(created["spec"]["priority"], 9);
    }
    api.delete(&api.own("serviceaccounts/robot"))
        .await
        .expect(200);
    create(&api, &pod("a7")).await.refused(403, "Forbidden");
    api.delete(&one).await.expect(200);
}

/// Nobody needs the status that is sent, but who sends one that cannot be read is told so, however often.
async fn a_status_is_dropped_if_it_can_be_read(api: Speaker) {
    for name in ["s0", "s1", "s2"] {
        create(&api, &pod(name)).await.expect(201);
    }
    let plain = message(&pod("s3"));
    let whole = {
        let mut reader = schema::wire::Reader::new(&plain);
        let mut end = 0;
        while let Ok(Some((1 | 2, _))) = reader.field() {
            end = reader.position();
        }
        &plain[..end]
    };
    let with_status = |status: &[u8]| {
        let mut message = whole.to_vec();
        schema::wire::put_bytes(3, status, &mut message);
        message
    };
    // A field cut off, a number for a text, bytes that are no text.
    for broken in [&b"\x0a\x09Run"[..], b"\x08\x01", b"\x0a\x01\xff"] {
        for _ in 0..3 {
            create_from(&api, &api.own("pods"), &with_status(broken))
                .await
                .refused(400, "BadRequest");
        }
    }
    for name in ["s4", "s5", "s6"] {
        let mut running = pod(name);
        running["status"] = json!({"phase": "Running", "podIP": "10.0.0.1"});
        let made = create(&api, &running).await.expect(201);
        assert_eq!(made["status"]["phase"], "Pending");
        assert!(made["status"]["podIP"].is_null(), "{made}");
    }
}

/// `serviceAccount` is the old name of the field.
async fn an_account_has_to_be_there_under_its_old_name_too(api: Speaker) {
    let mut pod = pod("o0");
    pod["spec"]["serviceAccount"] = "nobody".into();
    for _ in 0..3 {
        let message = create(&api, &pod).await.refused(403, "Forbidden");
        assert!(
            message.ends_with("serviceaccount \"nobody\" not found"),
            "{message}"
        );
    }
}

#[test]
fn the_default_class_is_found_among_very_many() {
    crate::plane::block_on(async {
        let plane = crate::plane::Plane::new().ready().await;
        let api = plane.speaker();
        let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
        let class = |name: &str, value: i64| {
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
                   "metadata": {"name": name}, "value": value, "globalDefault": name.starts_with("zz")})
        };
        for number in 0..200 {
            let class = class(&format!("c{number:03}"), number);
            api.post(classes, &class).await.expect(201);
        }
        create(&api, &pod("d0")).await.expect(201);
        for (name, value, least) in [("zz-1", 7, 7), ("zz-2", 9, 7), ("zz-0", 5, 5)] {
            api.post(classes, &class(name, value)).await.expect(201);
            let before = alike(&api).await;
            for number in 0..4 {
                let pod = pod(&format!("{name}-{number}"));
                let made = create(&api, &pod).await.expect(201);
                assert_eq!(made["spec"]["priority"], least, "{name}");
            }
            assert_eq!(alike(&api).await, before + 3);
        }
        api.delete(&format!("{classes}/zz-0")).await.expect(200);
        let made = create(&api, &pod("d1")).await.expect(201);
        assert_eq!(made["spec"]["priorityClassName"], "zz-1");
    });
}

crate::both! {
    a_status_is_dropped_if_it_can_be_read,
    an_account_has_to_be_there_under_its_old_name_too,
    each_is_as_the_first_was,
    what_admission_looks_up_is_looked_up_each_time,
}

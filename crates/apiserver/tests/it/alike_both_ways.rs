//! Pods created alike against pods looked at one by one: two servers in the same state get the same random pods, one in
//! protobuf, which has a short way, one in JSON, which has none; in between priority classes, accounts and namespaces
//! change. Nobody can tell but by the counter.
//!
//! Random by a generator with a fixed seed, so that a failure comes again.

use rest::http::Method;
use value::{Value, json};

use crate::alike::{alike, create_at};
use crate::plane::{Plane, block_on};
use crate::speak::{Answer, Speaker};

const REQUESTS: usize = 20_000;
const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

chance::named!(Dice);

impl Dice {
    /// One of few specs.
    fn spec(&mut self) -> Value {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
        let part = self.below(12);
        for (number, field, value) in [
            (0, "priorityClassName", json!("a")),
            (1, "priorityClassName", json!("b")),
            (2, "priorityClassName", json!("system-node-critical")),
            (3, "priorityClassName", json!("nobody")),
            (4, "serviceAccountName", json!("robot")),
            (4, "priorityClassName", json!("a")),
            (5, "serviceAccount", json!("robot")),
            (6, "nodeName", json!("n1")),
            (7, "schedulingGates", json!([{"name": "example.com/g"}])),
            (8, "hostNetwork", json!(true)),
            (8, "tolerations", json!([{"operator": "Exists"}])),
            (9, "priority", json!(7)),
            (9, "preemptionPolicy", json!("Never")),
            (10, "dnsPolicy", json!("Nonsense")),
        ] {
            if number == part {
                spec[field] = value;
            }
        }
        spec
    }

    fn metadata(&mut self, number: usize) -> Value {
        let mut metadata = json!({"name": format!("p{number}"), "labels": {"app": "web"}});
        if self.one_in(4) {
            metadata["generateName"] = "made-".into();
        }
        if !self.one_in(3) {
            return metadata;
        }
        for (field, value) in [
            ("name", Value::Null),
            ("name", json!("p1")),
            ("name", json!("Not A Name")),
            ("namespace", json!("one")),
            ("resourceVersion", json!("7")),
            ("uid", json!("chosen")),
            ("selfLink", json!("/x")),
            ("generation", json!(9)),
            ("deletionTimestamp", json!("2026-01-02T03:04:05Z")),
            ("creationTimestamp", json!("2026-01-02T03:04:05Z")),
            ("labels", json!({"a b": "c"})),
            ("labels", json!({"x": "y", "app": "other"})),
            (
                "annotations",
                json!({"note": "n", "kubernetes.io/config.mirror": ""}),
            ),
            ("annotations", json!({"kubernetes.io/config.mirror": "m"})),
            (
                "annotations",
                json!({"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}),
            ),
            (
                "annotations",
                json!({"controller.kubernetes.io/pod-deletion-cost": "x"}),
            ),
            ("finalizers", json!(["example.com/hold"])),
            ("finalizers", json!(["no domain"])),
            (
                "managedFields",
                json!([{"manager": "m", "operation": "Update", "apiVersion": "v1"}]),
            ),
            (
                "ownerReferences",
                json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}]),
            ),
            (
                "ownerReferences",
                json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": ""}]),
            ),
        ] {
            if self.one_in(14) {
                metadata[field] = value;
            }
        }
        metadata
    }
}

/// What both servers have to answer, without what differs by chance and time.
fn told(answer: &Answer) -> Value {
    let mut pieces = answer.text().split("made-");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        // The letters that were drawn, if it is a name.
        let is_name = piece
            .chars()
            .take(5)
            .filter(char::is_ascii_alphanumeric)
            .count()
            == 5;
        text.extend(["made-", if is_name { &piece[5..] } else { piece }]);
    }
    let mut told: Value = serde_json::from_str(&text).unwrap();
    if let Some(metadata) = told["metadata"].as_object_mut() {
        for own in ["uid", "resourceVersion", "creationTimestamp"] {
            metadata.remove(own);
        }
    }
    json!([answer.status, told, answer.header("warning")])
}

/// One change of what pods are looked at with, for both servers.
async fn change(dice: &mut Dice, servers: [&Speaker; 2]) {
    let name = dice.pick(&["a", "b", "default-1", "default-2"]);
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
        "value": dice.below(5), "globalDefault": name.starts_with("default"),
        "preemptionPolicy": dice.pick(&["Never", "PreemptLowerPriority"])});
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}});
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "two"}});
    let accounts = format!(
        "/api/v1/namespaces/{}/serviceaccounts",
        dice.pick(&["one", "two"])
    );
    let spaces = "/api/v1/namespaces";
    let (method, path, body) = match dice.below(9) {
        0 | 1 => (Method::Post, CLASSES.to_owned(), class),
        2 | 3 => (Method::Delete, format!("{CLASSES}/{name}"), Value::Null),
        4 | 5 => (Method::Post, accounts, account),
        6 => (Method::Delete, format!("{accounts}/robot"), Value::Null),
        7 => (Method::Post, spaces.to_owned(), space),
        _ => (Method::Delete, format!("{spaces}/two"), Value::Null),
    };
    let mut answers = Vec::new();
    for server in servers {
        let request = match &body {
            Value::Null => server.ask(method, &path),
            body => server.ask_with(method, &path, "application/json", body.to_string()),
        };
        answers.push(server.send(request).await.status);
    }
    assert_eq!(answers[0], answers[1], "{path}");
}

#[test]
fn both_ways_make_the_same_of_the_same_pods() {
    block_on(async {
        let planes = [Plane::new().ready().await, Plane::new().ready().await];
        let [short, general] = planes.each_ref().map(Plane::speaker);
        let one = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "one"}});
        for server in [&short, &general] {
            server.post("/api/v1/namespaces", &one).await.expect(201);
        }
        let mut dice = Dice::new(0xa11ce);
        let mut refused = 0;
        for number in 0..REQUESTS {
            if dice.one_in(25) {
                change(&mut dice, [&short, &general]).await;
            }
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": dice.metadata(number), "spec": dice.spec(),
                "status": if dice.one_in(9) { json!({"phase": "Running"}) } else { Value::Null }});
            let query = dice.pick(&[
                "",
                "",
                "",
                "?dryRun=All",
                "?fieldManager=m&fieldValidation=Strict",
            ]);
            let space = dice.pick(&["one", "one", "two", "none"]);
            let path = format!("/api/v1/namespaces/{space}/pods{query}");
            let by_bytes = create_at(&short, &path, &pod).await;
            let by_text = general.post(&path, &pod).await;
            assert_eq!(told(&by_bytes), told(&by_text), "{number} {path} {pod}");
            if by_bytes.status != 201 {
                refused += 1;
            } else if query != "?dryRun=All" {
                let made = by_bytes.json();
                let name = made["metadata"]["name"].as_str().unwrap();
                let path = format!("/api/v1/namespaces/{space}/pods/{name}");
                assert_eq!(short.get(&path).await.expect(200), made);
            }
        }
        let alike = alike(&short).await;
        assert!(
            alike > REQUESTS as u64 / 12 && refused > REQUESTS / 12,
            "{alike} {refused}"
        );
    });
}

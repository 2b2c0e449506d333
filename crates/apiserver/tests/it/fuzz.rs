//! Requests nobody means, many of them: always an answer, never a panic.
//!
//! Valid requests are mutated by a generator with a fixed seed, so that a failure comes again.

use rest::http::{Method, Request};
use value::json;

use crate::plane::{Plane, block_on};
use crate::speak::Speaker;

const REQUESTS: usize = 20_000;

chance::named!(Dice);

impl Dice {
    /// Damages a text a little.
    fn mutate(&mut self, text: &str) -> String {
        const DAMAGE: &[u8] = b"/%?&={}[]\",:0-.\\ \t\n\xff";
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=self.below(3) {
            let place = self.below(bytes.len() + 1);
            match self.below(5) {
                0 if place < bytes.len() => {
                    bytes.remove(place);
                }
                1 => bytes.insert(place, DAMAGE[self.below(DAMAGE.len())]),
                2 if place < bytes.len() => bytes[place] = self.draw() as u8,
                3 => bytes.truncate(place),
                _ => {
                    let tail = bytes[place..].to_vec();
                    bytes.extend_from_slice(&tail);
                }
            }
        }
        bytes.truncate(16 * 1024);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

const METHODS: [Method; 7] = [
    Method::Get,
    Method::Head,
    Method::Post,
    Method::Put,
    Method::Patch,
    Method::Delete,
    Method::Options,
];
const COLLECTIONS: [&str; 17] = [
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/pods",
    "/api/v1/namespaces/default/services",
    "/api/v1/namespaces/default/events",
    "/api/v1/namespaces/a/secrets",
    "/api/v1/nodes",
    "/api/v1/namespaces",
    "/api/v1/watch/namespaces/default/pods",
    "/apis/apps/v1/namespaces/default/deployments",
    "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers",
    "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
    "/apis/coordination.k8s.io/v1/namespaces/default/leases",
    "/apis/events.k8s.io/v1/namespaces/default/events",
    "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
    "/api/v1/pods",
    "/api/v1/namespaces/none/endpoints",
    "/apis/nothing.example.com/v1/things",
];
const SUBRESOURCES: [&str; 9] = [
    "",
    "",
    "",
    "/status",
    "/scale",
    "/binding",
    "/eviction",
    "/finalize",
    "/log",
];
const NAMES: [&str; 6] = ["a", "b", "default", "kubernetes", "A", "%2e%2e"];
const QUERIES: [&str; 20] = [
    "watch=1&timeoutSeconds=1",
    "limit=1",
    "limit=-1",
    "continue=abc",
    "resourceVersion=1",
    "resourceVersion=0",
    "resourceVersionMatch=Exact",
    "labelSelector=a%3Db",
    "labelSelector=a+in+(b,c)",
    "fieldSelector=metadata.name%3Da",
    "fieldSelector=spec.nodeName%3Da",
    "sendInitialEvents=true",
    "dryRun=All",
    "fieldValidation=Strict",
    "pretty=1",
    "propagationPolicy=Foreground",
    "gracePeriodSeconds=-5",
    "includeObject=Object",
    "fieldManager=x",
    "force=true",
];
const ACCEPTS: [&str; 9] = [
    "",
    "*/*",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "text/html;q=0.5",
];
const CONTENT_TYPES: [&str; 8] = [
    "",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

fn bodies() -> Vec<String> {
    let pod = json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
        "resources": {"requests": {"cpu": "100m"}}}], "tolerations": [{"operator": "Exists"}]});
    let metadata = json!({"name": "a", "labels": {"a": "b"}, "finalizers": ["example.com/x"]});
    [
        json!({"metadata": {"name": "a"}, "data": {"a": "b"}}),
        json!({"metadata": {"generateName": "a-"}, "spec": pod}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": "LoadBalancer",
            "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30123}, {"port": 81, "name": "x"}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "spec": {"clusterIP": "None"}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": [{"key": "a", "effect": "NoExecute"}]},
            "status": {"capacity": {"cpu": "4", "memory": "1Gi"}, "conditions": [{"type": "Ready", "status": "True"}]}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "spec": {"finalizers": []}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 2,
            "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod}}}),
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": {
            "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "a"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 5}}}]}}),
        json!({"apiVersion": "v1", "kind": "Event", "metadata": metadata, "involvedObject": {"kind": "Pod", "name": "a"}, "count": 3}),
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}}),
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}, "deleteOptions": {"gracePeriodSeconds": 0}}),
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata,
            "spec": {"maxUnavailable": "50%", "selector": {}}, "status": {"disruptionsAllowed": 1}}),
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"}, "spec": {"replicas": 3}}),
        json!({"kind": "DeleteOptions", "preconditions": {"uid": "x"}, "propagationPolicy": "Orphan"}),
        json!({"metadata": {"labels": {"a": null}, "$retainKeys": ["labels"]}, "spec": {"$patch": "replace", "replicas": -1}}),
        json!({"spec": {"containers": [{"name": "c", "$patch": "delete"}], "$setElementOrder/containers": [{"name": "c"}]}}),
        json!([{"op": "add", "path": "/metadata/labels/x", "value": "y"}, {"op": "move", "from": "/data", "path": "/spec"},
            {"op": "copy", "from": "/metadata", "path": "/metadata/labels/z"}, {"op": "test", "path": "/kind", "value": 1}]),
        json!({"metadata": {"name": "b", "labels": {"a": "b"}}}),
        json!({"metadata": {"name": "a", "annotations": {"x": "y"}}, "spec": {}}),
        json!(null),
        json!({"metadata": null, "spec": null, "data": {"a": null}, "status": 5}),
    ]
    .iter()
    .map(ToString::to_string)
    .collect()
}

fn request(api: &Speaker, dice: &mut Dice, bodies: &[String]) -> Request {
    let mut path = dice.pick(&COLLECTIONS).to_owned();
    let method = METHODS[if dice.one_in(4) {
        dice.below(METHODS.len())
    } else {
        [0, 2, 2, 3, 4, 5][dice.below(6)]
    }];
    let of_one =
        matches!(method, Method::Put | Method::Patch) || method != Method::Post && dice.one_in(2);
    if of_one != dice.one_in(10) {
        path += &format!("/{}{}", dice.pick(&NAMES), dice.pick(&SUBRESOURCES));
    }
    if dice.one_in(8) {
        path = dice.mutate(&path);
    }
    let mut query = String::new();
    for _ in 0..dice.below(3) {
        query += dice.pick(&QUERIES);
        query.push('&');
    }
    if dice.one_in(6) {
        query = dice.mutate(&query);
    }
    // A version from the future would be waited for.
    let query = query.replace("resourceVersion=1", "resourceVersion=0");
    let mut body = bodies[dice.below(bodies.len())].clone();
    if dice.one_in(4) {
        body = dice.mutate(&body);
    }
    let content_type = if method == Method::Patch || dice.one_in(4) {
        dice.pick(&CONTENT_TYPES)
    } else {
        "application/json"
    };
    let mut body = body.into_bytes();
    if content_type.ends_with("protobuf") && dice.one_in(2) {
        let mut wrapped = Vec::new();
        let garbage: Vec<u8> = (0..dice.below(60)).map(|_| dice.draw() as u8).collect();
        schema::envelope::wrap(
            "v1",
            dice.pick(&["Pod", "ConfigMap", "Node"]),
            &garbage,
            &mut wrapped,
        );
        body = wrapped;
    }
    Request {
        query,
        accept: if dice.one_in(2) {
            dice.pick(&ACCEPTS).into()
        } else {
            "".into()
        },
        content_type: content_type.into(),
        body: if dice.one_in(8) {
            Default::default()
        } else {
            body.into()
        },
        ..api.ask(method, path.split('?').next().unwrap_or_default())
    }
}

#[test]
fn every_request_has_an_answer() {
    block_on(async {
        let plane = Plane::new().ready().await;
        let api = plane.speaker();
        let bodies = bodies();
        let mut dice = Dice::new(0x9e37_79b9_7f4a_7c15);
        let mut counts = std::collections::BTreeMap::<u16, usize>::new();
        for number in 0..REQUESTS {
            let request = request(&api, &mut dice, &bodies);
            let what = format!("{number}: {request:?}");
            // Streams are opened and let go: how they go on is the business of other tests.
            let reply = api.head(request).await;
            let sane = matches!(reply, 200 | 201 | 202 | 304 | 400..=422 | 429 | 503 | 504)
                // Upstream answers these two so.
                || reply == 500;
            assert!(sane, "{reply} to {what}");
            *counts.entry(reply).or_default() += 1;
        }
        // The requests are not all nonsense, and what they left behind is in order.
        for status in [200, 201, 400, 404, 405, 409, 415, 422] {
            assert!(counts.get(&status).copied().unwrap_or(0) > 20, "{counts:?}");
        }
        assert!(
            counts.get(&500).copied().unwrap_or(0) < REQUESTS / 100,
            "{counts:?}"
        );
        for collection in COLLECTIONS.into_iter().take(7) {
            api.get(collection).await.expect(200);
        }
    });
}

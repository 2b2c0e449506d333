//! The short way of Lease renewals against the general way: two servers in the same state get the same random requests,
//! and must give the same replies, keep the same bytes and tell their watchers the same.
//!
//! Random by a generator with a fixed seed, so that a failure comes again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use kv::Revision;
use meta::Value;
use rest::http::{Body, Method, Reply, ReplyFuture, Request};
use store::{Change, Interest, Precondition, Store, StoreConfig, WatchItem};
use value::json;

use crate::api::generally;
use crate::renew;
use crate::state::{SYSTEM_USER, Served, State};

const LEASES: usize = 40;
const REQUESTS: usize = 30_000;
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

chance::named!(Dice);

impl Dice {
    fn time(&mut self) -> String {
        meta::time::format_micros(1_700_000_000_000_000 + (self.draw() % (1 << 40)).cast_signed())
    }
}

/// A server with nothing but what every cluster has, and its Leases.
struct Server {
    state: Arc<State>,
    leases: Arc<Served>,
}

impl Server {
    fn new() -> Server {
        let store = Arc::new(Store::new(StoreConfig::default()));
        let (_stop, stopping) = tokio::sync::watch::channel(false);
        let state = Arc::new(State::new(store, stopping, &[]));
        let endpoint = SocketAddr::from(([127, 0, 0, 1], 6443));
        now(crate::bootstrap::run(&state, endpoint)).unwrap();
        state
            .ready
            .store(true, std::sync::atomic::Ordering::Release);
        let leases = state.leases().unwrap().clone();
        Server { state, leases }
    }

    fn seed(&self, name: &str, lease: &Value) {
        let change = Change::Put {
            value: self.leases.encode(lease).unwrap(),
            lease: kv::LeaseId::default(),
            tags: &[],
        };
        let key = self.leases.key("default", name);
        let written = self
            .leases
            .collection
            .write(&key, Precondition::Any, change);
        written.unwrap();
    }

    /// The Lease as a client reads it.
    fn read(&self, name: &str) -> Option<Value> {
        let record = self
            .leases
            .collection
            .get(&self.leases.key("default", name))?;
        Some(
            self.leases
                .decode(&record.value, record.mod_revision)
                .unwrap(),
        )
    }

    /// Everything that watchers since then are told.
    fn told_since(&self, since: Revision) -> Vec<WatchItem> {
        let mut watcher = self.leases.collection.watch(since, Interest::All).unwrap();
        let mut items = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while watcher.poll_next(&mut cx, 1_000, &mut items).is_ready() {}
        items
    }
}

/// The result of a future that has nothing to wait for: Leases are kept in memory.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a request on a store in memory waits"),
    }
}

fn random_lease(dice: &mut Dice, name: &str) -> Value {
    let mut metadata = json!({
        "name": name, "namespace": "default", "uid": format!("uid-of-{name}"),
        "creationTimestamp": "2026-01-02T03:04:05Z",
    });
    if dice.one_in(3) {
        metadata["labels"] = json!({"team": dice.pick(&["a", "b"]), "zone": "z1"});
    }
    if dice.one_in(3) {
        metadata["annotations"] = json!({"example.com/note": "some text, \"quoted\" & <marked>"});
    }
    if dice.one_in(2) {
        metadata["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": "uid-of-node"}]);
    }
    if dice.one_in(6) {
        metadata["finalizers"] = json!(["example.com/hold"]);
        if dice.one_in(2) {
            metadata["deletionTimestamp"] = "2026-01-02T03:04:06Z".into();
            metadata["deletionGracePeriodSeconds"] = 0.into();
        }
    }
    if dice.one_in(8) {
        metadata["generateName"] = "lease-".into();
    }
    if dice.one_in(8) {
        metadata["generation"] = 3.into();
    }
    let mut spec = json!({});
    if !dice.one_in(6) {
        spec["holderIdentity"] = name.into();
    }
    if !dice.one_in(6) {
        spec["leaseDurationSeconds"] = 40.into();
    }
    if dice.one_in(3) {
        spec["acquireTime"] = dice.time().into();
    }
    if !dice.one_in(8) {
        spec["renewTime"] = dice.time().into();
    }
    if dice.one_in(2) {
        spec["leaseTransitions"] = dice.below(300).into();
    }
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})
}

/// Changes a Lease that was read: mostly its time, sometimes something that matters.
fn change(dice: &mut Dice, lease: &mut Value) {
    if !dice.one_in(10) {
        lease["spec"]["renewTime"] = dice.time().into();
    }
    if !dice.one_in(4) {
        return;
    }
    let remove = |lease: &mut Value, part: &str, field: &str| {
        if let Some(map) = lease[part].as_object_mut() {
            map.remove(field);
        }
    };
    match dice.below(20) {
        0 => remove(lease, "metadata", "uid"),
        1 => remove(lease, "metadata", "creationTimestamp"),
        2 => remove(lease, "metadata", "namespace"),
        3 => remove(lease, "metadata", "name"),
        4 => remove(lease, "metadata", "labels"),
        5 => remove(lease, "metadata", "ownerReferences"),
        6 => remove(lease, "metadata", "finalizers"),
        7 => remove(lease, "metadata", "resourceVersion"),
        8 => remove(lease, "spec", "renewTime"),
        9 => remove(lease, "spec", "holderIdentity"),
        10 => lease["metadata"]["uid"] = "another".into(),
        11 => lease["metadata"]["resourceVersion"] = dice.pick(&["1", "0", "x", "007"]).into(),
        12 => lease["metadata"]["generation"] = 7.into(),
        13 => lease["metadata"]["labels"] = json!({"new": "label"}),
        14 => lease["metadata"]["selfLink"] = "/there".into(),
        15 => lease["metadata"]["managedFields"] = json!([{"manager": "m", "operation": "Update"}]),
        16 => lease["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:07Z".into(),
        17 => {
            lease["spec"]["leaseDurationSeconds"] =
                dice.pick(&["0", "41"]).parse::<i64>().unwrap().into()
        }
        18 => lease["spec"]["acquireTime"] = dice.time().into(),
        _ => lease["metadata"]["name"] = "other".into(),
    }
}

/// One body in some encoding, sometimes spoilt.
fn body(dice: &mut Dice, leases: &Served, lease: &Value) -> (&'static str, Vec<u8>) {
    if dice.one_in(4) {
        let mut text = lease.to_string();
        match dice.below(12) {
            0 => text = text.replace("\"spec\":{", "\"spec\":{\"unknown\":1,"),
            1 => text = text.replace("\"spec\":{", "\"spec\":{\"leaseTransitions\":1,"),
            2 => text.truncate(dice.below(text.len())),
            3 => text = text.replace("coordination.k8s.io/v1", "apps/v1"),
            _ => {}
        }
        return ("application/json", text.into_bytes());
    }
    let mut message = Vec::new();
    if schema::encode_protobuf(leases.resource.type_id, lease, &mut message).is_err() {
        return ("application/json", lease.to_string().into_bytes());
    }
    if dice.one_in(6) {
        respell(dice, &mut message);
    }
    let kind = if dice.one_in(20) {
        dice.pick(&["", "Pod"])
    } else {
        "Lease"
    };
    let mut body = Vec::new();
    schema::envelope::wrap("coordination.k8s.io/v1", kind, &message, &mut body);
    if dice.one_in(12) {
        let at = dice.below(body.len());
        body[at] = dice.draw() as u8;
    }
    if dice.one_in(40) {
        body.truncate(dice.below(body.len()));
    }
    let media = if dice.one_in(10) {
        "application/vnd.kubernetes.protobuf;a=b"
    } else {
        PROTOBUF
    };
    (media, body)
}

/// Says something in another way, or something of little meaning besides.
fn respell(dice: &mut Dice, message: &mut Vec<u8>) {
    match dice.below(5) {
        // A second spec, which is merged with the first: other digits, some of them below a microsecond.
        0 => message.extend_from_slice(b"\x12\x0a\x22\x08\x08\x80\x8d\xce\xaf\x06\x10\x7f"),
        1 => message.extend_from_slice(b"\x12\x04\x0a\x02me"),
        // A second metadata with labels; an unknown field; an empty spec.
        2 => message.extend_from_slice(b"\x0a\x0a\x5a\x08\x0a\x03one\x12\x01x"),
        3 => message.extend_from_slice(b"\x9a\x06\x01z"),
        _ => message.extend_from_slice(b"\x12\x00"),
    }
}

fn request(dice: &mut Dice, name: &str, content_type: &str, body: Vec<u8>) -> Request {
    let accepts = [
        PROTOBUF,
        PROTOBUF,
        "application/json",
        "application/vnd.kubernetes.protobuf,application/json",
        "application/yaml",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        "text/plain",
        "",
    ];
    let accept = if dice.one_in(2) {
        PROTOBUF
    } else {
        dice.pick(&accepts)
    };
    let query = if dice.one_in(8) {
        dice.pick(&[
            "timeout=10s",
            "dryRun=All",
            "pretty=true",
            "fieldValidation=Strict",
            "timeout=1s&dryRun=All",
        ])
    } else {
        ""
    };
    Request {
        method: Method::Put,
        path: format!("/apis/coordination.k8s.io/v1/namespaces/default/leases/{name}"),
        query: query.into(),
        accept: accept.into(),
        content_type: content_type.into(),
        user_agent: if dice.one_in(10) { "curl/8" } else { "test/1" }.into(),
        if_none_match: None,
        body: Bytes::from(body),
        user: Some(Arc::new(rest::http::User {
            name: SYSTEM_USER.into(),
            groups: Vec::new(),
        })),
    }
}

/// Status, type, headers and body.
fn text(reply: Reply) -> (u16, String, Vec<(&'static str, String)>, Bytes) {
    match reply.body {
        Body::Full(body) => (
            reply.status,
            reply.content_type.to_string(),
            reply.headers,
            body,
        ),
        Body::Stream(_) => panic!("a write is answered with a stream"),
    }
}

#[test]
fn both_ways_reply_keep_and_tell_the_same() {
    let mut dice = Dice::new(0x5eed_1ea5_e000_0001);
    let (short, general) = (Server::new(), Server::new());
    let names: Vec<String> = (0..LEASES).map(|index| format!("lease-{index}")).collect();
    for name in &names {
        let lease = random_lease(&mut dice, name);
        short.seed(name, &lease);
        general.seed(name, &lease);
    }
    let since = short.leases.collection.revision();
    assert_eq!(since, general.leases.collection.revision());
    let (mut answered, mut written) = (0, 0);
    for _ in 0..REQUESTS {
        let name = &names[dice.below(LEASES)];
        // A body of a stale read is one in ten: a conflict.
        let Some(mut lease) = short.read(name) else {
            // Its last finalizer went. It comes back as another one.
            let lease = random_lease(&mut dice, name);
            short.seed(name, &lease);
            general.seed(name, &lease);
            continue;
        };
        change(&mut dice, &mut lease);
        let (content_type, body) = body(&mut dice, &short.leases, &lease);
        let request = request(&mut dice, name, content_type, body);
        let before = short.leases.collection.revision();
        let shown = format!("{request:?}");
        let by_short: ReplyFuture = match renew::answer(&short.state, &request) {
            Some(reply) => {
                answered += 1;
                reply
            }
            None => generally(short.state.clone(), request.clone()),
        };
        let left = text(now(by_short));
        let right = text(now(generally(general.state.clone(), request)));
        assert_eq!(left, right, "{shown}");
        let key = short.leases.key("default", name);
        let kept = short.leases.collection.get(&key);
        assert_eq!(kept, general.leases.collection.get(&key), "{shown}");
        written += usize::from(short.leases.collection.revision() > before);
    }
    let told = short.told_since(since);
    assert_eq!(told, general.told_since(since));
    let counted = |server: &Server| {
        let text = server.state.metrics.render();
        let lines = text.lines().filter(|line| {
            line.starts_with("apiserver_request_total")
                || line.starts_with("megaplane_writes_total")
        });
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(counted(&short), counted(&general));
    // Neither way stands idle in this test.
    assert!(
        answered > REQUESTS / 3 && answered < REQUESTS * 9 / 10,
        "{answered} by the short way"
    );
    assert!(written > REQUESTS / 3, "{written} written");
    assert!(told.len() >= written);
}

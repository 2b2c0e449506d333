//! What is remembered of pods while priority classes come and go at the same time, which no client can arrange.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rest::http::{Method, Request, User};
use rest::paths::{RequestInfo, Target, Verb};
use store::{Store, StoreConfig};
use value::json;

use super::*;
use crate::state::State;
use crate::write::{Address, Mode};

/// The result of a future that has nothing to wait for: this store has no disk.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a request on a store in memory waits"),
    }
}

fn server() -> Arc<State> {
    let store = Arc::new(Store::new(StoreConfig::default()));
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    let state = Arc::new(State::new(store, stopping, &[]));
    now(crate::bootstrap::run(
        &state,
        SocketAddr::from(([127, 0, 0, 1], 6443)),
    ))
    .unwrap();
    state
}

#[test]
fn a_class_that_came_and_went_meanwhile_is_not_remembered() {
    let state = server();
    let sent = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let [mut message, mut body] = [const { Vec::new() }; 2];
    let served = state.core("pods").unwrap();
    schema::encode_protobuf(served.resource.type_id, &sent, &mut message).unwrap();
    schema::envelope::wrap("v1", "Pod", &message, &mut body);
    let request = Request {
        method: Method::Post,
        path: "/api/v1/namespaces/default/pods".into(),
        query: String::new(),
        accept: Arc::default(),
        content_type: "application/vnd.kubernetes.protobuf".into(),
        user_agent: Arc::default(),
        if_none_match: None,
        body: body.into(),
        user: None,
    };
    let Ok(Target::Resource(target)) = RequestInfo::parse("POST", &request.path, "") else {
        panic!("a path of pods")
    };
    let user = User {
        name: "u".into(),
        groups: Vec::new(),
    };
    let call = Call {
        state: &state,
        request: &request,
        user: &user,
        served,
        target: &target,
        namespace: "default",
    };
    let query = Query::parse(Verb::Create, "").unwrap();
    let mode = Mode {
        user: "u",
        dry_run: false,
    };
    let classes = Address {
        served: state
            .served("scheduling.k8s.io", "v1", "priorityclasses")
            .unwrap(),
        subresource: None,
        namespace: "",
        name: "",
    };
    let pods = Address {
        served,
        namespace: "default",
        ..classes
    };
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "d"},
        "value": 1000, "globalDefault": true});
    let go = registry::DeleteOptions::default();
    for _ in 0..2 {
        let pod = SentPod::of(&call, &query).unwrap();
        now(state.create(classes, class.clone(), mode)).unwrap();
        let made = now(state.create(pods, sent.clone(), mode)).unwrap();
        let name = "d";
        now(state.delete(Address { name, ..classes }, &go, mode)).unwrap();
        pod.remember(&call, &made.item.message);
    }
    let pod = SentPod::of(&call, &query).unwrap();
    assert!(now(pod.create_as_before(&call)).is_none());
    // Where nothing changes it is.
    for _ in 0..2 {
        let made = now(state.create(pods, sent.clone(), mode)).unwrap();
        pod.remember(&call, &made.item.message);
    }
    assert!(now(pod.create_as_before(&call)).is_some());
}

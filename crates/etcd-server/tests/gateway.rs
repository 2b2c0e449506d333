//! The JSON gateway: the same requests to a real etcd and to us, and what no client should send.

mod common;

use common::{Client, Ours, PATIENCE, RealEtcd};
use etcd_server::{AuthOptions, Options};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Sends one request over HTTP/1.1 on a connection of its own.
async fn send(address: &str, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    tokio::time::timeout(PATIENCE, sender.send_request(request))
        .await
        .expect("no answer")
        .unwrap()
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

async fn text(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = tokio::time::timeout(PATIENCE, response.into_body().collect())
        .await
        .expect("no end")
        .unwrap();
    (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

async fn ask(address: &str, path: &str, body: &str) -> (u16, Value) {
    let (status, text) = text(send(address, post(path, body.to_owned())).await).await;
    let value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{path} {body}: {error}: {text}"));
    (status, value)
}

/// The next line of a stream.
async fn line(body: &mut Incoming, rest: &mut Vec<u8>) -> Value {
    loop {
        if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            return serde_json::from_slice(&line).unwrap();
        }
        let frame = tokio::time::timeout(PATIENCE, body.frame())
            .await
            .expect("the stream is silent");
        rest.extend_from_slice(
            &frame
                .expect("the stream ended")
                .unwrap()
                .into_data()
                .unwrap(),
        );
    }
}

/// Takes out what differs from server to server.
fn without_identity(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["cluster_id", "member_id", "raft_term"] {
                fields.remove(name);
            }
            fields.values_mut().for_each(without_identity);
        }
        Value::Array(items) => items.iter_mut().for_each(without_identity),
        _ => {}
    }
}

/// Requests in order, each with all that comes before it done.
const REQUESTS: &[(&str, &str)] = &[
    ("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
    (
        "/v3/kv/put",
        r#"{"key":"Zm9v","value":"YmF6","prev_kv":true}"#,
    ),
    (
        "/v3/kv/put",
        r#"{"key":"Zm9v","prevKv":true,"ignoreValue":true}"#,
    ),
    ("/v3/kv/put", r#"{"key":"Zm9w"}"#),
    ("/v3/kv/put", r#"{"value":"YmFy"}"#),
    (
        "/v3/kv/put",
        r#"{"key":"Zm9v","value":"YmFy","lease":"77"}"#,
    ),
    (
        "/v3/kv/put",
        r#"{"key":"Zm9v","value":"YmFy","ignore_value":true}"#,
    ),
    ("/v3/kv/range", r#"{"key":"Zm9v"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","range_end":"Zm9x"}"#),
    (
        "/v3/kv/range",
        r#"{"key":"Zm9v","rangeEnd":"Zm9x","limit":"1"}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key":"Zm9v","range_end":"Zm9x","limit":1,"sort_order":"DESCEND","sort_target":"KEY"}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key":"Zm9v","range_end":"Zm9x","count_only":true}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key":"Zm9v","range_end":"Zm9x","keys_only":true,"revision":"2"}"#,
    ),
    ("/v3/kv/range", r#"{"key":"Zm9v","revision":"2"} trailing"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","revision":"99"}"#),
    ("/v3/kv/range", r#"{"key":"bm90aGluZw=="}"#),
    ("/v3/kv/range", r#"{}"#),
    ("/v3/kv/range", ""),
    ("/v3beta/kv/range", r#"{"key":"Zm9v"}"#),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"target":"VERSION","key":"Zm9v","version":"3"}],
            "success":[{"requestPut":{"key":"Zm9v","value":"YQ=="}},{"request_range":{"key":"Zm9v"}}],
            "failure":[{"request_range":{"key":"Zm9v"}}]}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"target":"MOD","result":"GREATER","key":"Zm9v","mod_revision":"100"},
                       {"target":"VALUE","result":"NOT_EQUAL","key":"Zm9v","value":"YQ=="}],
            "failure":[{"request_delete_range":{"key":"Zm9v","prev_kv":true}},
                       {"request_txn":{"success":[{"request_put":{"key":"eA=="}}]}}]}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"success":[{"request_put":{"key":"eA=="}},{"request_put":{"key":"eA=="}}]}"#,
    ),
    ("/v3/kv/txn", r#"{"success":[{}]}"#),
    ("/v3/kv/deleterange", r#"{"key":"Zm9w","prev_kv":true}"#),
    ("/v3/kv/deleterange", r#"{"key":"Zm9w"}"#),
    ("/v3/kv/compaction", r#"{"revision":"3","physical":true}"#),
    ("/v3/kv/compaction", r#"{"revision":"3"}"#),
    ("/v3/kv/compaction", r#"{"revision":"999"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","revision":"2"}"#),
    ("/v3/lease/grant", r#"{"TTL":"600","ID":"4711"}"#),
    ("/v3/lease/grant", r#"{"TTL":600,"ID":4711}"#),
    ("/v3/lease/grant", r#"{"TTL":"9000000001"}"#),
    (
        "/v3/kv/put",
        r#"{"key":"bA==","value":"YQ==","lease":4711}"#,
    ),
    ("/v3/lease/timetolive", r#"{"ID":"9"}"#),
    ("/v3/kv/lease/timetolive", r#"{"ID":"9","keys":true}"#),
    ("/v3/lease/leases", r#"{}"#),
    ("/v3/kv/lease/leases", r#""#),
    ("/v3/lease/keepalive", r#"{"ID":"4711"}"#),
    ("/v3/lease/revoke", r#"{"ID":"4711"}"#),
    ("/v3/kv/lease/revoke", r#"{"ID":"4711"}"#),
    ("/v3/kv/range", r#"{"key":"bA=="}"#),
    ("/v3/maintenance/alarm", r#"{"action":"GET"}"#),
    ("/v3/maintenance/alarm", r#"{}"#),
    ("/v3/maintenance/transfer-leadership", r#"{"targetID":"5"}"#),
    ("/v3/maintenance/defragment", r#"{}"#),
    ("/v3/auth/authenticate", r#"{"name":"root","password":"x"}"#),
    ("/v3/auth/status", "{}"),
    ("/v3/auth/enable", "{}"),
    ("/v3/auth/disable", "{}"),
    ("/v3/auth/role/add", r#"{"name":"r"}"#),
    ("/v3/auth/role/add", r#"{"name":"r"}"#),
    ("/v3/auth/role/grant", r#"{"name":"r"}"#),
    (
        "/v3/auth/role/grant",
        r#"{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}"#,
    ),
    ("/v3/auth/role/get", r#"{"role":"r"}"#),
    ("/v3/auth/role/list", ""),
    (
        "/v3/auth/role/revoke",
        r#"{"role":"r","key":"YQ==","range_end":"Yw=="}"#,
    ),
    ("/v3/auth/user/add", r#"{"name":"u","password":"p"}"#),
    ("/v3/auth/user/add", r#"{"password":"p"}"#),
    (
        "/v3/auth/user/add",
        r#"{"name":"c","options":{"no_password":true}}"#,
    ),
    ("/v3/auth/user/changepw", r#"{"name":"u","password":"q"}"#),
    ("/v3/auth/user/changepw", r#"{"name":"x","password":"q"}"#),
    ("/v3/auth/user/grant", r#"{"user":"u","role":"r"}"#),
    ("/v3/auth/user/grant", r#"{"user":"u","role":"x"}"#),
    ("/v3/auth/user/get", r#"{"name":"u"}"#),
    ("/v3/auth/user/list", "{}"),
    ("/v3/auth/user/revoke", r#"{"name":"u","role":"r"}"#),
    ("/v3/auth/user/revoke", r#"{"name":"u","role":"r"}"#),
    ("/v3/auth/user/delete", r#"{"name":"u"}"#),
    ("/v3/auth/role/delete", r#"{"role":"r"}"#),
    ("/v3/auth/role/delete", r#"{"role":"r"}"#),
    ("/v3/auth/status", "{}"),
    ("/v3/cluster/member/remove", r#"{"ID":"5"}"#),
    ("/v3/cluster/member/promote", r#"{"ID":"5"}"#),
    (
        "/v3/cluster/member/update",
        r#"{"ID":"5","peerURLs":["http://127.0.0.1:1"]}"#,
    ),
    ("/v3/lease/grant", r#"{"TTL":"600","ID":"4712"}"#),
    ("/v3/lock/lock", r#"{"name":"bG9jaw==","lease":"4712"}"#),
    ("/v3/lock/lock", r#"{"name":"bG9jaw==","lease":"77"}"#),
    ("/v3/lock/unlock", r#"{"key":"bG9jay8xMjY4"}"#),
    ("/v3/lock/unlock", r#"{}"#),
    ("/v3/election/leader", r#"{"name":"Ym9zcw=="}"#),
    (
        "/v3/election/campaign",
        r#"{"name":"Ym9zcw==","lease":"4712","value":"bWU="}"#,
    ),
    ("/v3/election/leader", r#"{"name":"Ym9zcw=="}"#),
    ("/v3/election/proclaim", r#"{"value":"bWU="}"#),
    ("/v3/election/resign", r#"{}"#),
];

#[tokio::test]
async fn the_same_json_gets_the_same_answers_as_from_a_real_etcd() {
    let Some(etcd) = RealEtcd::start().await else {
        return;
    };
    let ours = Ours::in_memory();
    let (theirs, ours) = (
        etcd.url.trim_start_matches("http://").to_owned(),
        ours.address.to_string(),
    );
    let mut differences = Vec::new();
    for (path, body) in REQUESTS {
        let mut expected = ask(&theirs, path, body).await;
        let mut got = ask(&ours, path, body).await;
        without_identity(&mut expected.1);
        without_identity(&mut got.1);
        if got != expected {
            differences.push(format!(
                "{path} {body}\n  ours:  {got:?}\n  etcd:  {expected:?}"
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    // What is told of the member itself: the same fields, if not the same numbers. Before 3.6 `hashkv` had no path.
    let fields = |(status, value): (u16, Value)| {
        let names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        (status, names)
    };
    let list = "/v3/cluster/member/list";
    let expected = fields(ask(&theirs, list, "{}").await);
    assert_eq!(fields(ask(&ours, list, "{}").await), expected);
    for (path, names) in [
        ("/v3/maintenance/hash", vec!["hash", "header"]),
        (
            "/v3/maintenance/hashkv",
            vec!["compact_revision", "hash", "hash_revision", "header"],
        ),
    ] {
        let (status, found) = fields(ask(&ours, path, "{}").await);
        assert_eq!(
            (status, found),
            (200, names.into_iter().map(Into::into).collect()),
            "{path}"
        );
    }
}

async fn watch_and_observe(address: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    let mut rest = Vec::new();
    let create = r#"{"create_request":{"key":"dw==","rangeEnd":"eA==","start_revision":"2","prev_kv":true}}"#;
    let mut watch = send(address, post("/v3/watch", create)).await.into_body();
    seen.push(line(&mut watch, &mut rest).await);
    for body in [
        r#"{"key":"dzE=","value":"YQ=="}"#,
        r#"{"key":"dzE=","value":"Yg=="}"#,
    ] {
        assert_eq!(ask(address, "/v3/kv/put", body).await.0, 200);
        seen.push(line(&mut watch, &mut rest).await);
    }
    assert_eq!(
        ask(address, "/v3/kv/deleterange", r#"{"key":"dzE="}"#)
            .await
            .0,
        200
    );
    seen.push(line(&mut watch, &mut rest).await);

    assert_eq!(
        ask(address, "/v3/lease/grant", r#"{"TTL":"600","ID":"7"}"#)
            .await
            .0,
        200
    );
    let campaign = r#"{"name":"Ym9zcw==","lease":"7","value":"bWU="}"#;
    assert_eq!(ask(address, "/v3/election/campaign", campaign).await.0, 200);
    let mut rest = Vec::new();
    let mut observer = send(
        address,
        post("/v3/election/observe", r#"{"name":"Ym9zcw=="}"#),
    )
    .await
    .into_body();
    seen.push(line(&mut observer, &mut rest).await);
    let put = r#"{"key":"Ym9zcy83","value":"eW91","lease":"7"}"#;
    assert_eq!(ask(address, "/v3/kv/put", put).await.0, 200);
    seen.push(line(&mut observer, &mut rest).await);

    let compacted = r#"{"create_request":{"key":"dw==","start_revision":"1"}}"#;
    assert_eq!(
        ask(address, "/v3/kv/compaction", r#"{"revision":"3"}"#)
            .await
            .0,
        200
    );
    let mut rest = Vec::new();
    let mut watch = send(address, post("/v3/watch", compacted))
        .await
        .into_body();
    seen.push(line(&mut watch, &mut rest).await);
    seen.push(line(&mut watch, &mut rest).await);
    seen.iter_mut().for_each(without_identity);
    seen
}

#[tokio::test]
async fn streams_come_a_line_an_answer() {
    let ours = Ours::in_memory();
    let got = watch_and_observe(&ours.address.to_string()).await;
    assert_eq!(
        got[0],
        json!({"result": {"header": {"revision": "1"}, "created": true}})
    );
    assert_eq!(
        got[1],
        json!({"result": {"header": {"revision": "2"}, "events": [
            {"kv": {"key": "dzE=", "create_revision": "2", "mod_revision": "2", "version": "1", "value": "YQ=="}}
        ]}})
    );
    assert_eq!(got[3]["result"]["events"][0]["type"], "DELETE");
    if let Some(etcd) = RealEtcd::start().await {
        let expected = watch_and_observe(etcd.url.trim_start_matches("http://")).await;
        assert_eq!(got, expected);
    }
}

fn refusal(status: u16, code: i32, text: &str) -> (u16, Value) {
    (
        status,
        json!({"error": text, "code": code, "message": text}),
    )
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_does_no_harm() {
    let ours = Ours::in_memory();
    let address = ours.address.to_string();
    // No such path, no such method: as etcd 3.6 says it.
    for path in [
        "/v3/",
        "/v3/kv",
        "/v3/kv/ranges",
        "/v3/kv/range/",
        "/v3/../v3/kv/range",
        "/v3/kv/rangestream",
    ] {
        assert_eq!(
            ask(&address, path, "{}").await,
            refusal(404, 5, "Not Found"),
            "{path}"
        );
    }
    for method in ["GET", "PUT", "DELETE", "HEAD", "PATCH"] {
        let request = Request::builder()
            .method(method)
            .uri("/v3/kv/range")
            .header("host", "localhost");
        let (status, body) =
            text(send(&address, request.body(Full::default()).unwrap()).await).await;
        assert_eq!(status, 501, "{method}");
        if method != "HEAD" {
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["message"], "Method Not Allowed");
        }
    }
    for body in [
        "nonsense",
        "1",
        "[]",
        "null",
        "\"a\"",
        "{\"key\":\"*\"}",
        "{\"key\":7}",
        "{\"key\":[]}",
        "{\"limit\":\"many\"}",
        "{\"limit\":1e99}",
        "{\"key\":\"YQ==\",}",
        "{\"a\" \"b\"}",
        "{]",
        "{\"key\":\"\u{0}\"}",
    ] {
        let (status, answer) = ask(&address, "/v3/kv/range", body).await;
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!(3)),
            "{body}: {answer}"
        );
        assert_eq!(answer["error"], answer["message"]);
        assert_ne!(
            answer["message"], "etcdserver: key is not provided",
            "{body}"
        );
    }
    assert_eq!(
        ask(&address, "/v3/kv/range", "{\"key\":\"YQ==\"").await,
        refusal(400, 3, "unexpected EOF")
    );
    let (status, _) = ask(&address, "/v3/watch", "nonsense").await;
    assert_eq!(status, 400);
    // Depth is no way to the stack's end.
    let deep = "{\"success\":[{\"request_txn\":".repeat(20_000);
    assert_eq!(ask(&address, "/v3/kv/txn", &deep).await.0, 400);
    // Size: etcd's text up to its limit, then gRPC's.
    let put = |bytes: usize| {
        format!(
            "{{\"key\":\"YQ==\",\"value\":\"{}\"}}",
            "A".repeat(bytes / 3 * 4)
        )
    };
    let large = ask(&address, "/v3/kv/put", &put(1_600_000)).await;
    assert_eq!(large, refusal(400, 3, "etcdserver: request is too large"));
    let larger = ask(&address, "/v3/kv/put", &put(3_000_000)).await;
    assert_eq!(
        larger,
        refusal(429, 8, "grpc: received message larger than max")
    );
    let huge = ask(&address, "/v3/kv/put", &put(6_000_000)).await;
    assert_eq!(
        huge,
        refusal(429, 8, "grpc: received message larger than max")
    );
    let mut client = Client::connect(&ours.url()).await;
    assert_eq!(client.put("a", "b").await, 2);
}

#[tokio::test]
async fn pages_of_other_origins_may_read_and_ask_first() {
    let ours = Ours::in_memory();
    let address = ours.address.to_string();
    let request = Request::options("/v3/kv/range")
        .header("host", "localhost")
        .header("origin", "https://page");
    let response = send(&address, request.body(Full::default()).unwrap()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert_eq!(
        response.headers()["access-control-allow-methods"],
        "POST, GET, OPTIONS, PUT, DELETE"
    );
    assert_eq!(
        response.headers()["access-control-allow-headers"],
        "accept, content-type, authorization"
    );
    let response = send(&address, post("/v3/kv/range", r#"{"key":"YQ=="}"#)).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert_eq!(response.headers()["content-type"], "application/json");
}

#[tokio::test]
async fn the_gateway_can_be_left_out() {
    let ours = Ours::start(Options {
        json_gateway: false,
        ..Options::default()
    });
    let request = Request::get("/v3/kv/range")
        .header("host", "localhost")
        .body(Full::default())
        .unwrap();
    assert_eq!(
        text(send(&ours.address.to_string(), request).await).await.0,
        404
    );
}

#[tokio::test]
async fn http2_is_spoken_too_and_a_stream_takes_what_comes_later() {
    let ours = Ours::in_memory();
    let stream = TcpStream::connect(ours.address).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let (mut pieces, body) =
        http_body_util::channel::Channel::<Bytes, std::convert::Infallible>::new(4);
    let request = Request::post(format!("{}/v3/watch", ours.url()))
        .body(body)
        .unwrap();
    // The first request in two halves, the second on its heels.
    let first = r#"{"create_request":{"key":"YQ==","watch_id":"5"#;
    pieces.send_data(first.into()).await.unwrap();
    pieces
        .send_data("\"}} {\"createRequest\":{\"key\":\"Yg==\",\"watchId\":6}}".into())
        .await
        .unwrap();
    let response = tokio::time::timeout(PATIENCE, sender.send_request(request))
        .await
        .unwrap()
        .unwrap();
    let (mut body, mut rest) = (response.into_body(), Vec::new());
    assert_eq!(line(&mut body, &mut rest).await["result"]["watch_id"], "5");
    assert_eq!(line(&mut body, &mut rest).await["result"]["watch_id"], "6");
    pieces
        .send_data(r#"{"cancel_request":{"watch_id":"5"}}"#.into())
        .await
        .unwrap();
    assert_eq!(line(&mut body, &mut rest).await["result"]["canceled"], true);
    // The client has said all, and its watch goes on.
    drop(pieces);
    let mut client = Client::connect(&ours.url()).await;
    client.put("b", "1").await;
    assert_eq!(
        line(&mut body, &mut rest).await["result"]["events"][0]["kv"]["key"],
        "Yg=="
    );
}

#[tokio::test]
async fn whoever_hangs_up_while_it_waits_for_a_lock_leaves_the_queue() {
    let ours = Ours::in_memory();
    let address = ours.address.to_string();
    for id in [1, 2] {
        let grant = format!("{{\"TTL\":600,\"ID\":{id}}}");
        assert_eq!(ask(&address, "/v3/lease/grant", &grant).await.0, 200);
    }
    assert_eq!(
        ask(&address, "/v3/lock/lock", r#"{"name":"bA==","lease":1}"#)
            .await
            .0,
        200
    );
    let second = post("/v3/lock/lock", r#"{"name":"bA==","lease":2}"#);
    let waiting = tokio::spawn(async move { send(&address, second).await });
    let mut client = Client::connect(&ours.url()).await;
    let mut was_there = false;
    for _ in 0..3_000 {
        match client.get("l/2").await {
            Some(_) if was_there => {}
            Some(_) => {
                was_there = true;
                waiting.abort();
            }
            None if was_there => return,
            None => {}
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it was there: {was_there}, and it still is");
}

#[tokio::test]
async fn a_token_goes_with_the_request_as_a_header() {
    let ours = Ours::start(Options {
        auth: AuthOptions {
            bcrypt_cost: 4,
            ..AuthOptions::default()
        },
        ..Options::default()
    });
    let address = ours.address.to_string();
    for (path, body) in [
        ("/v3/auth/user/add", r#"{"name":"root","password":"p"}"#),
        ("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#),
        ("/v3/auth/enable", "{}"),
    ] {
        assert_eq!(ask(&address, path, body).await.0, 200, "{path}");
    }
    let put = r#"{"key":"Zm9v","value":"YmFy"}"#;
    let (status, refused) = ask(&address, "/v3/kv/put", put).await;
    let said = json!("etcdserver: user name is empty");
    assert_eq!(status, 400);
    assert_eq!((&refused["message"], &refused["code"]), (&said, &json!(3)));
    let wrong = r#"{"name":"root","password":"x"}"#;
    assert_eq!(ask(&address, "/v3/auth/authenticate", wrong).await.0, 400);
    let right = r#"{"name":"root","password":"p"}"#;
    let (status, answer) = ask(&address, "/v3/auth/authenticate", right).await;
    assert_eq!(status, 200);
    let token = answer["token"].as_str().unwrap();
    let with = |name: &'static str, value: &str| {
        let mut request = post("/v3/kv/put", put);
        let headers = request.headers_mut();
        headers.insert(name, value.parse().unwrap());
        request
    };
    for name in ["authorization", "grpc-metadata-token"] {
        let (status, text) = text(send(&address, with(name, token)).await).await;
        assert_eq!(status, 200, "{name}: {text}");
    }
    let spoilt = send(&address, with("authorization", "x.1")).await;
    let said = "etcdserver: invalid auth token";
    assert_eq!(spoilt.status().as_u16(), 401);
    assert_eq!(spoilt.headers()["www-authenticate"], said);
}

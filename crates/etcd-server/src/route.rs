//! From a path to a service: gRPC by its content type, everything else is plain HTTP.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Body as HttpBody;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service as _, StdError};

use crate::api::Api;
use crate::cors;
use crate::election_rpc::election_server::ElectionServer;
use crate::gateway;
use crate::health_rpc::health_server::HealthServer;
use crate::http_health;
use crate::limits::{ETCD_VERSION, REQUEST_OVERHEAD_BYTES, RESPONSE_BYTES_MAX};
use crate::lock_rpc::lock_server::LockServer;
use crate::reflection_alpha_rpc::server_reflection_server::ServerReflectionServer as AlphaReflectionServer;
use crate::reflection_rpc::server_reflection_server::ServerReflectionServer;
use crate::rpc::auth_server::AuthServer;
use crate::rpc::cluster_server::ClusterServer;
use crate::rpc::kv_server::KvServer;
use crate::rpc::lease_server::LeaseServer;
use crate::rpc::maintenance_server::MaintenanceServer;
use crate::rpc::watch_server::WatchServer;

/// Answers a request.
pub async fn answer<B>(api: Api, request: Request<B>) -> Result<Response<Body>, Infallible>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send,
{
    let is_grpc = request
        .headers()
        .get("content-type")
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if api.is_for_metrics && is_grpc {
        let text = "megaplane: only health, version and metrics are told on this address";
        return Ok(Status::unimplemented(text).into_http());
    }
    if is_grpc {
        return Ok(grpc(api, request).await);
    }
    let cors = cors::headers(&api.node.options, request.headers());
    let mut response = if request.method() == Method::OPTIONS {
        Response::new(Body::default())
    } else if serves_json(&api, request.uri().path()) {
        gateway::answer(api, request).await
    } else {
        plain(
            &api,
            request.method(),
            request.uri().path(),
            request.uri().query(),
        )
        .await
    };
    response.headers_mut().extend(cors);
    Ok(response)
}

/// Whether a path is the JSON gateway's, and the gateway is here.
fn serves_json(api: &Api, path: &str) -> bool {
    api.node.options.json_gateway && !api.is_for_metrics && gateway::is_here(path)
}

/// Answers a gRPC request.
pub async fn grpc<B>(api: Api, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Send,
{
    let limit = api
        .node
        .options
        .max_request_bytes
        .saturating_add(REQUEST_OVERHEAD_BYTES);
    let path = request.uri().path();
    let service = path
        .strip_prefix('/')
        .and_then(|path| path.split('/').next())
        .unwrap_or_default();
    macro_rules! call {
        ($server:ident) => {
            $server::new(api)
                .max_decoding_message_size(limit)
                .max_encoding_message_size(RESPONSE_BYTES_MAX)
                .call(request)
                .await
        };
    }
    let response = match service {
        "etcdserverpb.KV" => call!(KvServer),
        "etcdserverpb.Watch" => call!(WatchServer),
        "etcdserverpb.Lease" => call!(LeaseServer),
        "etcdserverpb.Cluster" => call!(ClusterServer),
        "etcdserverpb.Maintenance" => call!(MaintenanceServer),
        "etcdserverpb.Auth" => call!(AuthServer),
        "grpc.health.v1.Health" => call!(HealthServer),
        "v3lockpb.Lock" => call!(LockServer),
        "v3electionpb.Election" => call!(ElectionServer),
        "grpc.reflection.v1.ServerReflection" => call!(ServerReflectionServer),
        "grpc.reflection.v1alpha.ServerReflection" => call!(AlphaReflectionServer),
        other => Ok(Status::unimplemented(format!("unknown service {other}")).into_http()),
    };
    match response {
        Ok(response) => as_grpc_go_says_it(response),
        Err(never) => match never {},
    }
}

/// A message over the transport's limit: the library's code means "compacted" to etcd's clients.
fn as_grpc_go_says_it(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    let is_out_of_range = headers.get("grpc-status").is_some_and(|code| code == "11");
    let text = headers
        .get("grpc-message")
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    if is_out_of_range && text.starts_with(b"Error,") {
        headers.insert("grpc-status", HeaderValue::from_static("8"));
        headers.insert(
            "grpc-message",
            HeaderValue::from_static("grpc: received message larger than max"),
        );
    }
    response
}

async fn plain(api: &Api, method: &Method, path: &str, query: Option<&str>) -> Response<Body> {
    const JSON: &str = "application/json";
    if let Some(response) = http_health::answer(api, method, path, query).await {
        return response;
    }
    match path {
        "/version" if method != Method::GET => http_health::only_get(),
        "/version" => {
            let cluster = api.node.cluster_version();
            let body = format!(
                r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{cluster}","storage":"{cluster}"}}"#
            );
            text(StatusCode::OK, JSON, body)
        }
        "/metrics" => text(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            metrics(api),
        ),
        _ => http_health::refuse(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

/// The figures that dashboards and kubeadm read, under etcd's names.
fn metrics(api: &Api) -> String {
    let node = &api.node;
    let totals = node.totals();
    let counters = &node.counters;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut out = String::new();
    let mut line = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        );
    };
    let bytes = totals.live_bytes + totals.history_bytes;
    line(
        "etcd_server_has_leader",
        "gauge",
        "Whether there is a leader.",
        1,
    );
    line(
        "etcd_server_is_leader",
        "gauge",
        "Whether it is this member.",
        1,
    );
    line(
        "etcd_server_is_learner",
        "gauge",
        "Whether this member has no vote.",
        0,
    );
    line(
        "etcd_server_quota_backend_bytes",
        "gauge",
        "Bytes a collection may hold.",
        node.options.quota_bytes,
    );
    line(
        "etcd_mvcc_db_total_size_in_bytes",
        "gauge",
        "Bytes held, with history.",
        bytes,
    );
    line(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "gauge",
        "Bytes held, without history.",
        totals.live_bytes,
    );
    line(
        "etcd_debugging_mvcc_keys_total",
        "gauge",
        "Keys.",
        totals.keys as u64,
    );
    line(
        "etcd_debugging_mvcc_watcher_total",
        "gauge",
        "Watch cursors.",
        totals.watchers as u64,
    );
    line(
        "etcd_debugging_mvcc_current_revision",
        "gauge",
        "The newest revision.",
        node.store.applied().0.unsigned_abs(),
    );
    line(
        "etcd_debugging_mvcc_compact_revision",
        "gauge",
        "Where history begins.",
        node.store.compacted().0.unsigned_abs(),
    );
    line(
        "etcd_debugging_auth_revision",
        "gauge",
        "How often access rules were changed.",
        node.auth.revision(),
    );
    line(
        "etcd_mvcc_range_total",
        "counter",
        "Reads.",
        read(&counters.ranges),
    );
    line(
        "etcd_mvcc_put_total",
        "counter",
        "Writes.",
        read(&counters.puts),
    );
    line(
        "etcd_mvcc_delete_total",
        "counter",
        "Deletions.",
        read(&counters.deletes),
    );
    line(
        "etcd_mvcc_txn_total",
        "counter",
        "Transactions.",
        read(&counters.txns),
    );
    line(
        "megaplane_store_answers_timed_out_total",
        "counter",
        "Answers that waited in vain.",
        read(&counters.slow_answers),
    );
    let _ = writeln!(
        out,
        "# HELP etcd_server_version Which release.\n# TYPE etcd_server_version gauge\netcd_server_version{{server_version=\"{ETCD_VERSION}\"}} 1"
    );
    out
}

fn text(code: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(body))));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static(kind));
    response
}

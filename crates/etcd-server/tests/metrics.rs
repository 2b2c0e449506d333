//! `/metrics` beside a real etcd's: the same names with the same types, and the same counts after the same calls.

mod common;

use std::collections::BTreeMap;

use common::{Client, Ours, RealEtcd, TempDir};
use etcd_server::Options;
use etcd_wire::etcdserverpb as pb;

/// What the alerts and dashboards that etcd's own project publishes read of a single member.
const READ_BY_DASHBOARDS: [&str; 17] = [
    "etcd_server_has_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_quota_backend_bytes",
    "etcd_server_version",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "grpc_server_handled_total",
    "grpc_server_started_total",
    "process_resident_memory_bytes",
    "process_open_fds",
];

#[derive(Debug, Default)]
struct Scrape {
    types: BTreeMap<String, String>,
    series: BTreeMap<String, f64>,
}

impl Scrape {
    async fn of(url: &str) -> Scrape {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let address = url.strip_prefix("http://").unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET /metrics HTTP/1.0\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{head}");
        let mut scrape = Scrape::default();
        for line in body.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                scrape.types.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let before = scrape
                    .series
                    .insert(series.to_owned(), value.parse().unwrap());
                assert!(before.is_none(), "twice: {series}");
            }
        }
        scrape
    }

    /// The series of a metric.
    fn all(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        let is_it = move |series: &str| series.split('{').next() == Some(name);
        self.series
            .iter()
            .filter(move |(series, _)| is_it(series))
            .map(|(series, value)| (series.as_str(), *value))
    }
}

/// The same calls for both.
async fn call(url: &str) {
    let mut client = Client::connect(url).await;
    for number in 0..5 {
        client.put("a", &number.to_string()).await;
    }
    client.get("a").await;
    client.delete("a", "").await;
    let put = |lease| pb::PutRequest {
        key: "b".into(),
        lease,
        ..Default::default()
    };
    client.kv.put(put(777)).await.unwrap_err();
    let txn = pb::TxnRequest {
        success: vec![pb::RequestOp {
            request: Some(pb::request_op::Request::RequestPut(put(0))),
        }],
        ..Default::default()
    };
    client.kv.txn(txn).await.unwrap();
    let grant = pb::LeaseGrantRequest { ttl: 100, id: 9 };
    client.lease.lease_grant(grant).await.unwrap();
    let keep = || pb::LeaseKeepAliveRequest { id: 9 };
    let mut kept = client
        .lease
        .lease_keep_alive(tokio_stream(vec![keep(), keep()]))
        .await
        .unwrap()
        .into_inner();
    while kept.message().await.unwrap().is_some() {}
    let revoke = pb::LeaseRevokeRequest { id: 9 };
    client.lease.lease_revoke(revoke).await.unwrap();
    client
        .maintenance
        .status(pb::StatusRequest {})
        .await
        .unwrap();
}

fn tokio_stream<T: Send + 'static>(
    items: Vec<T>,
) -> impl tonic::codegen::tokio_stream::Stream<Item = T> + Send + 'static {
    struct All<T>(std::vec::IntoIter<T>);
    impl<T> Unpin for All<T> {}
    impl<T> tonic::codegen::tokio_stream::Stream for All<T> {
        type Item = T;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<T>> {
            std::task::Poll::Ready(self.0.next())
        }
    }
    All(items.into_iter())
}

#[tokio::test]
async fn names_types_and_counts_are_those_of_etcd() {
    let dir = TempDir::new();
    let ours = Ours::start(Options {
        data_dir: Some(dir.0.clone()),
        ..Options::default()
    });
    call(&ours.url()).await;
    let told = Scrape::of(&ours.url()).await;
    for name in READ_BY_DASHBOARDS {
        assert!(told.all(name).next().is_some(), "{name}");
    }
    let value = |name: &str| told.all(name).next().unwrap().1;
    assert!(value("etcd_disk_wal_fsync_duration_seconds_count") >= 5.0);
    assert!(value("etcd_disk_wal_write_bytes_total") > 0.0);
    assert!(value("etcd_network_client_grpc_received_bytes_total") > 100.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    let leases = ["granted", "revoked", "renewed"]
        .map(|what| value(&format!("etcd_debugging_lease_{what}_total")));
    assert_eq!(leases, [1.0, 1.0, 2.0]);

    let Some(etcd) = RealEtcd::start().await else {
        return;
    };
    // Starting it asks for a key until there is an answer.
    let before = Scrape::of(&etcd.url).await;
    call(&etcd.url).await;
    let real = Scrape::of(&etcd.url).await;
    let of_ours_alone = |name: &str| name.starts_with("megaplane_");
    for (name, kind) in told.types.iter().filter(|(name, _)| !of_ours_alone(name)) {
        assert_eq!(real.types.get(name), Some(kind), "{name}");
    }
    for name in [
        "grpc_server_started_total",
        "grpc_server_handled_total",
        "grpc_server_msg_received_total",
        "grpc_server_msg_sent_total",
    ] {
        for (series, count) in real.all(name) {
            // What this release has and ours does not is told where: docs/limits.md.
            let since = count - before.series.get(series).unwrap_or(&0.0);
            let found = told.series.get(series).copied().unwrap_or(0.0);
            assert_eq!(found, since, "{series}");
        }
    }
}

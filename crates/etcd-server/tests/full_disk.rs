//! A disk without room, as clients see it: growth is refused in etcd's words and raises etcd's alarm, deletes and
//! compactions go on, and when there is room again the alarm can be ended and growth goes on.

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{Client, PATIENCE};
use etcd_server::{Door, Options, Server};
use etcd_wire::etcdserverpb as pb;
use pb::AlarmType;
use pb::alarm_request::AlarmAction;
use tonic::Status;
use wal::FaultyFiles;

const NO_SPACE: &str = "ResourceExhausted etcdserver: mvcc: database space exceeded";

struct Running {
    url: String,
    stop: tokio::sync::watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Running {
    fn on(medium: &FaultyFiles) -> Running {
        let log = wal::Options {
            segment_bytes: 32 << 10,
            snapshot_log_bytes: 64 << 10,
            allocate_bytes: 4 << 10,
            reserve_bytes: 64 << 10,
            probe_interval: Duration::from_millis(5),
            ..wal::Options::default()
        };
        let options = Options {
            data_dir: Some(Path::new("/data").to_owned()),
            doors: vec![Door::plain(SocketAddr::from(([127, 0, 0, 1], 0)))],
            ..Options::default()
        };
        let server = Server::open_on(Arc::new(medium.clone()), log, options).unwrap();
        let url = format!("http://{}", server.address());
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let thread = std::thread::spawn(move || server.run(stopped).unwrap());
        Running { url, stop, thread }
    }

    /// Beside the runtime, which must let the clients' connections end meanwhile.
    async fn end(self) {
        self.stop.send(true).unwrap();
        let ended = tokio::task::spawn_blocking(|| self.thread.join());
        ended.await.unwrap().unwrap();
    }
}

fn put(key: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: vec![b'v'; 500].into(),
        ..Default::default()
    }
}

fn said<T>(result: Result<T, Status>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(error) => format!("{:?} {}", error.code(), error.message()),
    }
}

/// Writes until it is refused; answers what was acknowledged.
async fn fill(client: &mut Client) -> Vec<String> {
    let mut written = Vec::new();
    loop {
        let key = format!("/registry/pods/{:05}", written.len());
        match client.kv.put(put(&key)).await {
            Ok(_) => written.push(key),
            Err(refused) => {
                assert_eq!(said::<()>(Err(refused)), NO_SPACE);
                return written;
            }
        }
    }
}

async fn alarms(client: &mut Client, action: AlarmAction, member_id: u64) -> Vec<u64> {
    let request = pb::AlarmRequest {
        action: action.into(),
        member_id,
        alarm: AlarmType::Nospace.into(),
    };
    let up = client.maintenance.alarm(request).await.unwrap();
    let up = up.into_inner().alarms;
    up.iter().map(|alarm| alarm.member_id).collect()
}

/// As an operator does: ends the alarm until it is raised no more. That there is room the server finds out by itself.
async fn put_when_there_is_room(client: &mut Client, key: &str) {
    let begun = Instant::now();
    loop {
        for member in alarms(client, AlarmAction::Get, 0).await {
            alarms(client, AlarmAction::Deactivate, member).await;
        }
        match said(client.kv.put(put(key)).await).as_str() {
            "ok" => return,
            refused => assert_eq!(refused, NO_SPACE),
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "there is room, and it is not used"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn growth_is_refused_and_the_rest_goes_on_until_there_is_room() {
    let medium = FaultyFiles::new(11);
    let server = Running::on(&medium);
    let mut client = Client::connect(&server.url).await;
    client.put("/registry/pods/first", "1").await;
    let granted = pb::LeaseGrantRequest { ttl: 600, id: 7 };
    client.lease.lease_grant(granted).await.unwrap();
    let mut watches = client.watches("deletes");
    let create = pb::WatchCreateRequest {
        key: "/registry/pods/".into(),
        range_end: "/registry/pods0".into(),
        filters: vec![pb::watch_create_request::FilterType::Noput.into()],
        ..Default::default()
    };
    watches.create(create).await;
    assert!(watches.next().await.created);
    medium.set_capacity_bytes(medium.used_bytes() + (40 << 10));
    let written = fill(&mut client).await;
    assert!(written.len() > 10, "{}", written.len());

    assert_eq!(alarms(&mut client, AlarmAction::Get, 0).await.len(), 1);
    // Growth in every form.
    let grant = pb::LeaseGrantRequest { ttl: 600, id: 8 };
    assert_eq!(said(client.lease.lease_grant(grant).await), NO_SPACE);
    let op = pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put("x"))),
    };
    let txn = pb::TxnRequest {
        success: vec![op],
        ..Default::default()
    };
    assert_eq!(said(client.kv.txn(txn).await), NO_SPACE);
    // Reads, deletes, compactions, and the end of a lease.
    assert!(client.get(&written[0]).await.is_some());
    assert!(client.get("x").await.is_none());
    let mut revision = 0;
    for key in &written[..5] {
        revision = client.delete(key, "").await;
    }
    assert_eq!(watches.until(0, 5).await.len(), 5);
    let compact = pb::CompactionRequest {
        revision,
        physical: true,
    };
    assert_eq!(said(client.kv.compact(compact).await), "ok");
    let revoke = pb::LeaseRevokeRequest { id: 7 };
    assert_eq!(said(client.lease.lease_revoke(revoke).await), "ok");

    medium.set_capacity_bytes(u64::MAX);
    put_when_there_is_room(&mut client, "/registry/pods/after").await;
    drop((client, watches));
    // The power is lost: everything that was acknowledged is there, and nothing that was refused.
    let found = medium.after_crash(5);
    server.end().await;
    let server = Running::on(&found);
    let mut client = Client::connect(&server.url).await;
    for (number, key) in written.iter().enumerate() {
        assert_eq!(client.get(key).await.is_some(), number >= 5, "{key}");
    }
    assert!(client.get("/registry/pods/first").await.is_some());
    assert!(client.get("/registry/pods/after").await.is_some());
    assert!(client.get("x").await.is_none());
    let leases = client.lease.lease_leases(pb::LeaseLeasesRequest {}).await;
    assert_eq!(leases.unwrap().into_inner().leases, []);
    drop(client);
    server.end().await;
}

#[tokio::test]
async fn deletes_alone_make_room() {
    let medium = FaultyFiles::new(12);
    let server = Running::on(&medium);
    let mut client = Client::connect(&server.url).await;
    client.put("/registry/pods/first", "1").await;
    medium.set_capacity_bytes(medium.used_bytes() + (60 << 10));
    let written = fill(&mut client).await;
    let revision = client.delete("/registry/pods/", "/registry/pods0").await;
    let compact = pb::CompactionRequest {
        revision,
        physical: true,
    };
    assert_eq!(said(client.kv.compact(compact).await), "ok");
    // Nobody gave it room: a snapshot of what is left takes less than the log did.
    put_when_there_is_room(&mut client, "/registry/pods/after").await;
    assert!(client.get(&written[0]).await.is_none());
    drop(client);
    server.end().await;
}

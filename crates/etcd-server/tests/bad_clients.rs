//! Clients that misbehave are told so in etcd's words, and nobody else notices.

mod common;

use std::time::Duration;

use common::{Client, Ours, PATIENCE, RealEtcd};
use etcd_server::Options;
use etcd_wire::etcdserverpb as pb;
use pb::request_op::Request;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

const TOO_MANY_WATCHES: &str = "megaplane: too many watches on one stream";

fn said<T>(result: Result<tonic::Response<T>, Status>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(error) => format!("{:?} {}", error.code(), error.message()),
    }
}

fn put(key: &[u8], value: &[u8]) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_vec().into(),
        value: value.to_vec().into(),
        ..Default::default()
    }
}

fn range(key: &[u8], revision: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.to_vec().into(),
        revision,
        ..Default::default()
    }
}

fn watch(key: &[u8], range_end: &[u8]) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key.to_vec().into(),
        range_end: range_end.to_vec().into(),
        ..Default::default()
    }
}

/// Leases nobody has granted, revisions that are gone or not there yet.
async fn what_is_not_there(client: &mut Client, lines: &mut Vec<String>) {
    let leased = pb::PutRequest {
        lease: 4711,
        ..put(b"a", b"")
    };
    lines.push(said(client.kv.put(leased.clone()).await));
    let txn = pb::TxnRequest {
        success: vec![pb::RequestOp {
            request: Some(Request::RequestPut(leased)),
        }],
        ..Default::default()
    };
    lines.push(said(client.kv.txn(txn).await));
    let revoke = pb::LeaseRevokeRequest { id: 4711 };
    lines.push(said(client.lease.lease_revoke(revoke).await));
    let ask = pb::LeaseTimeToLiveRequest {
        id: 4711,
        keys: true,
    };
    let left = client.lease.lease_time_to_live(ask).await;
    let left = left.unwrap().into_inner();
    lines.push(format!("{} {} {:?}", left.ttl, left.granted_ttl, left.keys));
    let (alive, requests) = mpsc::channel(4);
    let keep = pb::LeaseKeepAliveRequest { id: 4711 };
    alive.send(keep).await.unwrap();
    let answers = client.lease.lease_keep_alive(ReceiverStream::new(requests));
    let mut answers = answers.await.unwrap().into_inner();
    let kept = answers.message().await.unwrap().unwrap();
    lines.push(format!("kept {} {}", kept.id, kept.ttl));
    // Half closed: what was asked is answered, and the stream ends in peace.
    drop(alive);
    lines.push(format!("{:?}", answers.message().await.unwrap()));
    let life = pb::LeaseGrantRequest {
        ttl: 9_000_000_001,
        id: 0,
    };
    lines.push(said(client.lease.lease_grant(life).await));

    for number in 0..6 {
        let value = format!("{number}");
        client.kv.put(put(b"k", value.as_bytes())).await.unwrap();
    }
    let now = client.kv.range(range(b"k", 0)).await.unwrap().into_inner();
    let now = now.header.unwrap().revision;
    let compact = |revision| pb::CompactionRequest {
        revision,
        physical: true,
    };
    lines.push(said(client.kv.compact(compact(now - 2)).await));
    for revision in [now - 3, now - 2, now, now + 1, -1] {
        let ranged = said(client.kv.range(range(b"k", revision)).await);
        let op = Request::RequestRange(range(b"k", revision));
        let txn = pb::TxnRequest {
            success: vec![pb::RequestOp { request: Some(op) }],
            ..Default::default()
        };
        let in_txn = said(client.kv.txn(txn).await);
        let compacted = said(
            client
                .kv
                .compact(compact(revision.min(now - 2).max(revision)))
                .await,
        );
        lines.push(format!(
            "{}: {ranged}, {in_txn}, {compacted}",
            revision - now
        ));
    }
}

/// Keys and values of any bytes go in and come out.
async fn any_bytes(client: &mut Client, lines: &mut Vec<String>) {
    let keys: [&[u8]; 4] = [b"\xff", b"\xff\xfe\x00", b"\x00\x01", b"\xc3\x28"];
    let mut watches = client.watches("bytes");
    watches.create(watch(b"\0", b"\0")).await;
    assert!(watches.next().await.created);
    for key in keys {
        lines.push(said(client.kv.put(put(key, b"\x80\x00")).await));
        let found = client.kv.range(range(key, 0)).await.unwrap().into_inner();
        let kv = &found.kvs[0];
        lines.push(format!("{:?} {:?}", &kv.key[..], &kv.value[..]));
    }
    for event in watches.until(0, keys.len()).await {
        lines.push(format!("{:?}", &event.kv.as_ref().unwrap().key[..]));
    }
    let delete = pb::DeleteRangeRequest {
        key: vec![0xff].into(),
        range_end: vec![0].into(),
        prev_kv: false,
    };
    let deleted = client.kv.delete_range(delete).await.unwrap().into_inner();
    lines.push(format!("{} deleted", deleted.deleted));
}

/// A watch whose client will say nothing more goes on.
async fn half_closed(client: &mut Client, lines: &mut Vec<String>) {
    let (requests, receiver) = mpsc::channel(4);
    let create = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(watch(b"half", b""))),
    };
    requests.send(create).await.unwrap();
    drop(requests);
    let answers = client.watch.watch(ReceiverStream::new(receiver)).await;
    let mut answers = answers.unwrap().into_inner();
    let created = answers.message().await.unwrap().unwrap();
    lines.push(format!("created {} {}", created.created, created.canceled));
    client.kv.put(put(b"half", b"closed")).await.unwrap();
    let told = tokio::time::timeout(PATIENCE, answers.message()).await;
    let told = told.unwrap().unwrap().unwrap();
    lines.push(format!("{} event", told.events.len()));
}

async fn conversation(url: &str) -> String {
    let mut client = Client::connect(url).await;
    let mut lines = Vec::new();
    what_is_not_there(&mut client, &mut lines).await;
    any_bytes(&mut client, &mut lines).await;
    half_closed(&mut client, &mut lines).await;
    lines.join("\n")
}

#[tokio::test]
async fn what_is_not_there_is_refused_as_by_a_real_etcd() {
    let ours = conversation(&Ours::in_memory().url()).await;
    let no_lease = "NotFound etcdserver: requested lease not found";
    let gone = "OutOfRange etcdserver: mvcc: required revision has been compacted";
    let future = "OutOfRange etcdserver: mvcc: required revision is a future revision";
    let expected = [
        no_lease.to_owned(),
        no_lease.to_owned(),
        no_lease.to_owned(),
        "-1 0 []".into(),
        "kept 4711 0".into(),
        "None".into(),
        "OutOfRange etcdserver: too large lease TTL".into(),
        "ok".into(),
        format!("-3: {gone}, {gone}, {gone}"),
    ];
    let lines: Vec<&str> = ours.lines().collect();
    assert_eq!(lines[..expected.len()], expected, "{ours}");
    let of_the_future = format!("1: {future}, {future}, {future}");
    assert!(lines.contains(&&*of_the_future), "{ours}");
    let Some(etcd) = RealEtcd::start().await else {
        return;
    };
    assert_eq!(ours, conversation(&etcd.url).await);
}

#[tokio::test]
async fn a_stream_with_too_many_watches_is_told_so_and_keeps_those_it_has() {
    const MOST: usize = 200;
    let ours = Ours::start(Options {
        watches_per_stream_max: MOST,
        ..Options::default()
    });
    let mut client = Client::connect(&ours.url()).await;
    let mut watches = client.watches("many");
    for _ in 0..MOST {
        watches.create(watch(b"a", b"")).await;
        let created = watches.next().await;
        assert!(created.created && !created.canceled);
    }
    for _ in 0..3 {
        watches.create(watch(b"a", b"")).await;
        let refused = watches.next().await;
        assert_eq!(
            (refused.watch_id, refused.created, refused.canceled),
            (-1, true, true)
        );
        assert_eq!(refused.cancel_reason, TOO_MANY_WATCHES);
    }
    client.put("a", "1").await;
    for id in 0..MOST {
        let id = i64::try_from(id).unwrap();
        assert_eq!(watches.until(id, 1).await.len(), 1);
    }
    // Another stream has as many of its own, and one that is given up makes room.
    let mut other = client.watches("other");
    other.create(watch(b"a", b"")).await;
    assert!(!other.next().await.canceled);
    let cancel = pb::WatchCancelRequest { watch_id: 3 };
    watches.send(RequestUnion::CancelRequest(cancel)).await;
    assert!(watches.next().await.canceled);
    watches.create(watch(b"a", b"")).await;
    let created = watches.next().await;
    assert!(created.created && !created.canceled);
}

#[tokio::test]
async fn writes_go_on_among_clients_that_do_all_of_it_at_once() {
    let ours = Ours::in_memory();
    let url = ours.url();
    let mut bad = tokio::task::JoinSet::new();
    for number in 0..4 {
        let url = url.clone();
        bad.spawn(async move {
            let mut client = Client::connect(&url).await;
            // Watches that are never read.
            let mut unread = client.watches("unread");
            for _ in 0..200 {
                unread.create(watch(b"", b"\0")).await;
            }
            assert!(unread.next().await.created);
            loop {
                let huge = client.kv.put(put(b"huge", &vec![0; 4 << 20])).await;
                assert!(huge.is_err());
                let mut lines = Vec::new();
                half_closed(&mut client, &mut lines).await;
                let future = client.kv.range(range(b"a", i64::MAX)).await;
                assert!(future.is_err());
                let revoke = pb::LeaseRevokeRequest { id: 1 << number };
                assert!(client.lease.lease_revoke(revoke).await.is_err());
                // Asked, and not waited for.
                let asked = client.kv.range(range(b"half", 0));
                let _ = tokio::time::timeout(Duration::from_micros(50), asked).await;
            }
        });
    }
    let mut good = Client::connect(&url).await;
    let mut watches = good.watches("good");
    watches.create(watch(b"good", b"")).await;
    assert!(watches.next().await.created);
    let value = "v".repeat(2_000);
    for number in 0..400 {
        let value = format!("{number} {value}");
        let written = tokio::time::timeout(PATIENCE, good.put("good", &value));
        written.await.expect("others hold nobody up");
    }
    assert_eq!(watches.until(0, 400).await.len(), 400);
    if let Some(ended) = bad.try_join_next() {
        panic!("a client that misbehaves was not answered as it should be: {ended:?}");
    }
    bad.shutdown().await;
}

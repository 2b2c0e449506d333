//! The server as a client sees it, without another server to compare with.

mod common;

use std::time::Duration;

use common::{Client, Ours, TempDir};
use etcd_server::{Door, Options};
use etcd_wire::etcdserverpb as pb;
use etcd_wire::mvccpb::event::EventType;
use tonic::{Code, Status};

fn said<T>(result: Result<T, Status>) -> (Code, String) {
    let error = result.err().expect("an error");
    (error.code(), error.message().to_owned())
}

fn create(key: &str, range_end: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..Default::default()
    }
}

fn put_of(bytes: usize) -> pb::PutRequest {
    pb::PutRequest {
        key: "k".into(),
        value: vec![0; bytes].into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn what_means_nothing_is_refused_in_etcds_words() {
    let ours = Ours::in_memory();
    let mut client = Client::connect(&ours.url()).await;
    let empty = client.kv.put(pb::PutRequest::default()).await;
    assert_eq!(
        said(empty),
        (
            Code::InvalidArgument,
            "etcdserver: key is not provided".into()
        )
    );
    let large = client.kv.put(put_of(3 << 19)).await;
    assert_eq!(
        said(large),
        (
            Code::InvalidArgument,
            "etcdserver: request is too large".into()
        )
    );
    let huge = client.kv.put(put_of(4 << 20)).await;
    assert_eq!(said(huge).0, Code::ResourceExhausted);
    let order = pb::RangeRequest {
        key: "a".into(),
        sort_order: 7,
        ..Default::default()
    };
    let order = client.kv.range(order).await;
    assert_eq!(
        said(order),
        (
            Code::InvalidArgument,
            "etcdserver: invalid sort option".into()
        )
    );
    let leased = pb::PutRequest {
        key: "a".into(),
        lease: 77,
        ..Default::default()
    };
    let leased = client.kv.put(leased).await;
    assert_eq!(
        said(leased),
        (
            Code::NotFound,
            "etcdserver: requested lease not found".into()
        )
    );
    let future = pb::RangeRequest {
        key: "a".into(),
        revision: 99,
        ..Default::default()
    };
    let text = "etcdserver: mvcc: required revision is a future revision";
    assert_eq!(
        said(client.kv.range(future).await),
        (Code::OutOfRange, text.into())
    );
    let op = pb::request_op::Request::RequestRange(pb::RangeRequest {
        key: "a".into(),
        ..Default::default()
    });
    let many = pb::TxnRequest {
        success: vec![pb::RequestOp { request: Some(op) }; 129],
        ..Default::default()
    };
    let text = "etcdserver: too many operations in txn request";
    assert_eq!(
        said(client.kv.txn(many).await),
        (Code::InvalidArgument, text.into())
    );
    // None of these has left a trace.
    assert_eq!(client.put("a", "1").await, 2);
}

#[tokio::test]
async fn a_watch_across_collections_is_in_order_and_progress_comes_after_it() {
    let ours = Ours::in_memory();
    let mut client = Client::connect(&ours.url()).await;
    let mut watches = client.watches("ours");
    // The collections are made while it watches.
    watches.create(create("/registry/", "/registry0")).await;
    assert!(watches.next().await.created);
    let mut expected = Vec::new();
    for number in 0..300 {
        let kind = ["pods", "nodes", "leases"][number % 3];
        let key = format!("/registry/{kind}/{number}");
        expected.push((client.put(&key, "v").await, key));
    }
    let revision = client.delete("/registry/pods/0", "").await;
    expected.push((revision, "/registry/pods/0".into()));
    watches.ask_progress().await;
    let progress = loop {
        let answer = watches.next().await;
        if answer.watch_id == -1 {
            break answer;
        }
    };
    assert_eq!(progress.header.unwrap().revision, revision);
    let kv = |event: &etcd_wire::mvccpb::Event| event.kv.clone().unwrap();
    let seen: Vec<(i64, String)> = watches.events[&0]
        .iter()
        .map(|event| {
            (
                kv(event).mod_revision,
                String::from_utf8(kv(event).key.to_vec()).unwrap(),
            )
        })
        .collect();
    assert_eq!(seen, expected);
    let last = watches.events[&0].last().unwrap();
    assert_eq!(last.r#type, EventType::Delete as i32);
    assert_eq!(last.prev_kv, None);
}

#[tokio::test]
async fn the_events_of_one_revision_come_together() {
    let ours = Ours::in_memory();
    let mut client = Client::connect(&ours.url()).await;
    let put = |key: String| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
            key: key.into(),
            value: vec![b'v'; 30_000].into(),
            ..Default::default()
        })),
    };
    // Forty of 30 kB: more than an answer is meant to hold, and in two collections.
    let success: Vec<_> = (0..40)
        .map(|number| put(format!("/registry/k{}/{number:02}", number % 2)))
        .collect();
    client
        .kv
        .txn(pb::TxnRequest {
            success,
            ..Default::default()
        })
        .await
        .unwrap();
    let mut watches = client.watches("ours");
    watches
        .create(pb::WatchCreateRequest {
            start_revision: 1,
            ..create("", "\0")
        })
        .await;
    assert!(watches.next().await.created);
    assert_eq!(watches.next().await.events.len(), 40);
    // Unless a client says that it can put pieces together.
    let fragmented = pb::WatchCreateRequest {
        start_revision: 1,
        fragment: true,
        watch_id: 5,
        ..create("", "\0")
    };
    let small = Ours::start(Options {
        max_request_bytes: 100_000,
        ..Options::default()
    });
    let mut client = Client::connect(&small.url()).await;
    let success: Vec<_> = (0..3).map(|number| put(format!("k{number}"))).collect();
    client
        .kv
        .txn(pb::TxnRequest {
            success,
            ..Default::default()
        })
        .await
        .unwrap();
    let large = pb::PutRequest {
        key: "l".into(),
        value: vec![b'v'; 99_000].into(),
        ..Default::default()
    };
    client.kv.put(large).await.unwrap();
    let mut watches = client.watches("ours");
    watches.create(fragmented).await;
    assert!(watches.next().await.created);
    let (first, second) = (watches.next().await, watches.next().await);
    assert_eq!((first.fragment, first.events.len()), (true, 3));
    assert_eq!((second.fragment, second.events.len()), (false, 1));
}

/// Recipes watch from the first revision on; a store whose newest writes may be lost says so only once there are any.
#[tokio::test]
async fn a_fresh_store_that_does_not_wait_for_the_disk_is_watched_from_its_beginning() {
    let dir = TempDir::new();
    let ours = Ours::start(Options {
        data_dir: Some(dir.0.clone()),
        default_durability: kv::Durability::Buffered,
        ..Options::default()
    });
    let mut client = Client::connect(&ours.url()).await;
    client.put("queue/a", "1").await;
    let mut watches = client.watches("ours");
    for (key, end) in [("queue/a", ""), ("queue/", "queue0")] {
        watches
            .create(pb::WatchCreateRequest {
                start_revision: 1,
                ..create(key, end)
            })
            .await;
        let created = watches.next().await;
        assert!(created.created && !created.canceled, "{created:?}");
        let first = &watches.until(created.watch_id, 1).await[0];
        assert_eq!(first.kv.as_ref().unwrap().mod_revision, 2);
    }
}

#[tokio::test]
async fn watches_are_named_cancelled_and_refused_as_in_etcd() {
    let ours = Ours::in_memory();
    let mut client = Client::connect(&ours.url()).await;
    for number in 0..5 {
        client.put("a", &number.to_string()).await;
    }
    let compact = pb::CompactionRequest {
        revision: 4,
        physical: true,
    };
    client.kv.compact(compact).await.unwrap();
    let mut watches = client.watches("ours");
    watches
        .create(pb::WatchCreateRequest {
            watch_id: 7,
            ..create("a", "")
        })
        .await;
    assert_eq!(watches.next().await.watch_id, 7);
    watches
        .create(pb::WatchCreateRequest {
            watch_id: 7,
            ..create("b", "")
        })
        .await;
    let refused = watches.next().await;
    assert_eq!(
        (refused.watch_id, refused.created, refused.canceled),
        (-1, true, true)
    );
    assert_eq!(
        refused.cancel_reason,
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
    watches.create(create("b", "a")).await;
    assert_eq!(
        watches.next().await.cancel_reason,
        "mvcc: watcher range is empty"
    );
    watches
        .create(pb::WatchCreateRequest {
            start_revision: -1,
            ..create("a", "")
        })
        .await;
    let refused = watches.next().await;
    assert_eq!((refused.watch_id, refused.canceled), (-1, true));
    watches
        .create(pb::WatchCreateRequest {
            start_revision: 3,
            ..create("a", "")
        })
        .await;
    let created = watches.next().await;
    assert!(created.created && !created.canceled);
    let ended = watches.next().await;
    assert_eq!(
        (ended.watch_id, ended.canceled, ended.compact_revision),
        (created.watch_id, true, 4)
    );
    let from_the_oldest = pb::WatchCreateRequest {
        start_revision: 4,
        prev_kv: true,
        ..create("a", "")
    };
    watches.create(from_the_oldest).await;
    let id = watches.next().await.watch_id;
    // What revision 4 replaced can be read no longer, and so it is not told.
    let before: Vec<_> = watches
        .until(id, 3)
        .await
        .iter()
        .map(|event| event.prev_kv.as_ref().map(|prev| prev.mod_revision))
        .collect();
    assert_eq!(before, [None, Some(4), Some(5)]);
    let cancel = pb::WatchCancelRequest { watch_id: 7 };
    watches
        .send(pb::watch_request::RequestUnion::CancelRequest(cancel))
        .await;
    let cancelled = watches.next().await;
    assert_eq!(
        (
            cancelled.watch_id,
            cancelled.canceled,
            &cancelled.cancel_reason[..]
        ),
        (7, true, "")
    );
    // A watch of the future is silent, and while there is one nobody can say how far everything has come.
    let future = pb::WatchCreateRequest {
        start_revision: 9,
        watch_id: 9,
        ..create("a", "")
    };
    watches.create(future).await;
    assert!(watches.next().await.created);
    watches.ask_progress().await;
    client.put("a", "7").await;
    client.put("a", "8").await;
    assert_eq!(client.put("a", "9").await, 9);
    assert_eq!(
        watches.until(9, 1).await[0]
            .kv
            .as_ref()
            .unwrap()
            .mod_revision,
        9
    );
    assert!(
        watches
            .controls
            .iter()
            .all(|answer| answer.watch_id != -1 || answer.created)
    );
}

#[tokio::test]
async fn a_silent_watch_hears_how_far_it_has_come() {
    let progress_notify_interval = Duration::from_millis(50);
    let ours = Ours::start(Options {
        progress_notify_interval,
        ..Options::default()
    });
    let mut client = Client::connect(&ours.url()).await;
    let mut watches = client.watches("ours");
    watches
        .create(pb::WatchCreateRequest {
            progress_notify: true,
            ..create("a", "")
        })
        .await;
    assert!(watches.next().await.created);
    let revision = client.put("b", "1").await;
    loop {
        let answer = watches.next().await;
        assert_eq!((answer.watch_id, answer.events.len()), (0, 0));
        if answer.header.unwrap().revision == revision {
            break;
        }
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_costs_only_itself() {
    let ours = Ours::in_memory();
    let mut client = Client::connect(&ours.url()).await;
    let mut slow = Client::connect(&ours.url()).await.watches("slow");
    slow.create(create("", "\0")).await;
    assert!(slow.next().await.created);
    // 60 MB, far beyond every window between here and there.
    let value = "v".repeat(200_000);
    for number in 0..300 {
        client.put(&format!("k{number:03}"), &value).await;
    }
    let keys: Vec<_> = slow
        .until(0, 300)
        .await
        .iter()
        .map(|event| event.kv.clone().unwrap().mod_revision)
        .collect();
    assert_eq!(keys, (2..302).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_lease_takes_its_keys_with_it_in_one_revision() {
    let ours = Ours::in_memory();
    let mut client = Client::connect(&ours.url()).await;
    let granted = client
        .lease
        .lease_grant(pb::LeaseGrantRequest { ttl: 1, id: 0 })
        .await
        .unwrap()
        .into_inner();
    assert!(granted.id > 0);
    assert_eq!(granted.ttl, 2);
    for key in ["/registry/pods/a", "/registry/nodes/b", "c"] {
        let put = pb::PutRequest {
            key: key.into(),
            value: "v".into(),
            lease: granted.id,
            ..Default::default()
        };
        client.kv.put(put).await.unwrap();
    }
    let left = pb::LeaseTimeToLiveRequest {
        id: granted.id,
        keys: true,
    };
    let left = client
        .lease
        .lease_time_to_live(left)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(left.keys, ["/registry/nodes/b", "/registry/pods/a", "c"]);
    let mut watches = client.watches("ours");
    watches
        .create(pb::WatchCreateRequest {
            prev_kv: true,
            ..create("", "\0")
        })
        .await;
    let events = watches.until(0, 3).await;
    assert!(
        events
            .iter()
            .all(|event| event.r#type == EventType::Delete as i32 && event.prev_kv.is_some())
    );
    assert!(
        events
            .iter()
            .all(|event| event.kv.as_ref().unwrap().mod_revision == 5)
    );
    let gone = pb::LeaseTimeToLiveRequest {
        id: granted.id,
        keys: false,
    };
    assert_eq!(
        client
            .lease
            .lease_time_to_live(gone)
            .await
            .unwrap()
            .into_inner()
            .ttl,
        -1
    );
}

#[tokio::test]
async fn a_restart_keeps_keys_revisions_history_and_deadlines() {
    let dir = TempDir::new();
    let options = Options {
        data_dir: Some(dir.0.clone()),
        ..Options::default()
    };
    let ours = Ours::start(options.clone());
    let mut client = Client::connect(&ours.url()).await;
    let lease = pb::LeaseGrantRequest { ttl: 1_000, id: 42 };
    client.lease.lease_grant(lease).await.unwrap();
    let put = pb::PutRequest {
        key: "/registry/pods/a".into(),
        lease: 42,
        ..Default::default()
    };
    client.kv.put(put).await.unwrap();
    let revision = client.put("/registry/nodes/b", "2").await;
    ours.stop();
    let ours = Ours::start(options);
    let mut client = Client::connect(&ours.url()).await;
    assert_eq!(
        client.get("/registry/nodes/b").await.unwrap().mod_revision,
        revision
    );
    let left = pb::LeaseTimeToLiveRequest { id: 42, keys: true };
    let left = client
        .lease
        .lease_time_to_live(left)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (left.granted_ttl, left.keys),
        (1_000, vec!["/registry/pods/a".into()])
    );
    assert!(left.ttl > 900 && left.ttl <= 1_000);
    let mut watches = client.watches("ours");
    watches
        .create(pb::WatchCreateRequest {
            start_revision: 2,
            ..create("", "\0")
        })
        .await;
    // A collection that is made only now belongs to it, too.
    let next = client.put("/registry/leases/c", "3").await;
    assert!(next > revision);
    let seen: Vec<_> = watches
        .until(0, 3)
        .await
        .iter()
        .map(|event| event.kv.clone().unwrap().mod_revision)
        .collect();
    assert_eq!(seen, [revision - 1, revision, next]);
}

#[tokio::test]
async fn health_and_status_say_who_answers() {
    let ours = Ours::in_memory();
    let mut client = Client::connect(&ours.url()).await;
    let status = client
        .maintenance
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.version, etcd_server::ETCD_VERSION);
    assert_eq!(status.leader, status.header.unwrap().member_id);
    for (path, start) in [
        ("/health", r#"{"health":"true""#),
        ("/readyz", "ok"),
        ("/version", r#"{"etcdserver":"3.6."#),
        ("/metrics", "# HELP etcd_server_has_leader"),
    ] {
        let body = get(ours.address, path).await;
        assert!(body.starts_with(start), "{path}: {body}");
    }
}

#[tokio::test]
async fn a_door_for_metrics_tells_these_and_serves_no_keys() {
    let port = common::free_port();
    let ours = Ours::start(Options {
        doors: vec![Door {
            address: ([127, 0, 0, 1], port).into(),
            is_secure: false,
            is_for_metrics: true,
        }],
        ..Options::default()
    });
    let door = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    assert!(
        get(door, "/health")
            .await
            .starts_with(r#"{"health":"true""#)
    );
    assert!(
        get(door, "/metrics")
            .await
            .contains("etcd_server_has_leader 1")
    );
    let mut client = Client::connect(&format!("http://{door}")).await;
    let refused = client
        .kv
        .range(pb::RangeRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
    let mut client = Client::connect(&ours.url()).await;
    assert_eq!(client.put("a", "1").await, 2);
}

/// The body of a plain HTTP/1.1 answer.
async fn get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: anything\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

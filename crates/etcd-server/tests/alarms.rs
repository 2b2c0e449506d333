//! Quota and alarms: what they refuse, what goes on, and that a restart does not end them.

mod common;

use common::{Client, Ours, RealEtcd, TempDir};
use etcd_server::Options;
use etcd_wire::etcdserverpb as pb;
use pb::AlarmType::{self, Corrupt, Nospace};
use pb::alarm_request::AlarmAction::{self, Activate, Deactivate, Get};
use tonic::Status;

const NO_SPACE: &str = "ResourceExhausted etcdserver: mvcc: database space exceeded";

fn said<T>(result: Result<T, Status>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(error) => format!("{:?} {}", error.code(), error.message()),
    }
}

fn put(key: &str, bytes: usize) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: vec![b'v'; bytes].into(),
        ..Default::default()
    }
}

fn delete(key: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

fn range(key: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.to_owned().into(),
        ..Default::default()
    }
}

/// A transaction whose second branch holds this.
fn otherwise(request: pb::request_op::Request) -> pb::TxnRequest {
    pb::TxnRequest {
        failure: vec![pb::RequestOp {
            request: Some(request),
        }],
        ..Default::default()
    }
}

async fn alarm(
    client: &mut Client,
    action: AlarmAction,
    member_id: u64,
    kind: AlarmType,
) -> Vec<pb::AlarmMember> {
    let request = pb::AlarmRequest {
        action: action.into(),
        member_id,
        alarm: kind.into(),
    };
    let answer = client.maintenance.alarm(request).await;
    answer.expect("alarms answer").into_inner().alarms
}

/// Every kind of request, one line each.
async fn probe(client: &mut Client, lines: &mut Vec<String>) {
    use pb::request_op::Request::{RequestDeleteRange, RequestPut, RequestRange};
    let kv = &mut client.kv;
    lines.push(format!("put: {}", said(kv.put(put("a", 1)).await)));
    lines.push(format!("range: {}", said(kv.range(range("a")).await)));
    let put_in_the_branch_that_does_not_run = otherwise(RequestPut(put("a", 1)));
    lines.push(format!(
        "txn put: {}",
        said(kv.txn(put_in_the_branch_that_does_not_run).await)
    ));
    let txn = otherwise(RequestDeleteRange(delete("a")));
    lines.push(format!("txn delete: {}", said(kv.txn(txn).await)));
    let txn = otherwise(RequestRange(range("a")));
    lines.push(format!("txn range: {}", said(kv.txn(txn).await)));
    lines.push(format!(
        "delete: {}",
        said(kv.delete_range(delete("a")).await)
    ));
    // Of a revision that is not there yet: whether it is refused for that, or before.
    let compaction = pb::CompactionRequest {
        revision: 1_000,
        physical: false,
    };
    let compacted = said(client.kv.compact(compaction).await);
    lines.push(format!("compact: {compacted}"));
    let grant = pb::LeaseGrantRequest { ttl: 100, id: 0 };
    let granted = client.lease.lease_grant(grant).await;
    lines.push(format!("grant: {}", said(granted)));
    let revoke = pb::LeaseRevokeRequest { id: 77 };
    let revoked = client.lease.lease_revoke(revoke).await;
    lines.push(format!("revoke: {}", said(revoked)));
}

/// All that alarms do, as text; member ids by name.
async fn conversation(url: &str) -> String {
    let mut client = Client::connect(url).await;
    let status = client.maintenance.status(pb::StatusRequest {}).await;
    let me = status.unwrap().into_inner().header.unwrap().member_id;
    let mut lines = Vec::new();
    let grant = pb::LeaseGrantRequest { ttl: 100, id: 77 };
    client.lease.lease_grant(grant).await.unwrap();
    let steps = [
        (Get, 0, AlarmType::None),
        (Activate, me, AlarmType::None),
        (Activate, me, Nospace),
        (Activate, me, Nospace),
        (Activate, 5, Nospace),
        (Get, 0, AlarmType::None),
        (Get, 5, Corrupt),
        (Deactivate, 0, AlarmType::None),
        (Deactivate, 6, Nospace),
        (Deactivate, me, Nospace),
        (Get, 5, Nospace),
        (Activate, me, Corrupt),
        (Deactivate, 5, Nospace),
        (Deactivate, me, Corrupt),
    ];
    for (action, member, kind) in steps {
        let mut answer = alarm(&mut client, action, member, kind).await;
        answer.sort_by_key(|alarm| (alarm.alarm, alarm.member_id));
        let name = |member| {
            if member == me {
                "me".into()
            } else {
                format!("{member}")
            }
        };
        let told: Vec<_> = answer
            .iter()
            .map(|alarm| format!("{}/{}", alarm.alarm().as_str_name(), name(alarm.member_id)))
            .collect();
        lines.push(format!("{action:?} {} {kind:?}: {told:?}", name(member)));
        if matches!((action, kind), (Activate, Nospace | Corrupt)) {
            let status = client.maintenance.status(pb::StatusRequest {}).await;
            let errors = status.unwrap().into_inner().errors;
            let named = errors
                .iter()
                .map(|text| text.replace(&me.to_string(), "me"));
            let mut errors: Vec<String> = named.collect();
            errors.sort();
            lines.push(format!("errors {errors:?}"));
        }
        if action == Activate {
            probe(&mut client, &mut lines).await;
        }
    }
    lines.join("\n")
}

#[tokio::test]
async fn alarms_refuse_what_etcds_do() {
    let ours = conversation(&Ours::in_memory().url()).await;
    let growth = format!(
        "put: {NO_SPACE}\nrange: ok\ntxn put: {NO_SPACE}\ntxn delete: ok\ntxn range: ok\ndelete: ok\n"
    );
    assert!(ours.contains(&growth), "{ours}");
    assert!(
        ours.contains("errors [\"memberID:me alarm:NOSPACE \"]"),
        "{ours}"
    );
    assert!(
        ours.contains("put: DataLoss etcdserver: corrupt cluster\nrange: ok"),
        "{ours}"
    );
    let Some(etcd) = RealEtcd::start().await else {
        return;
    };
    assert_eq!(ours, conversation(&etcd.url).await);
}

#[tokio::test]
async fn a_spent_quota_raises_an_alarm_that_only_an_operator_ends() {
    let dir = TempDir::new();
    let options = Options {
        data_dir: Some(dir.0.clone()),
        quota_bytes: 1_000_000,
        ..Options::default()
    };
    let ours = Ours::start(options.clone());
    let mut client = Client::connect(&ours.url()).await;
    let mut written = 0;
    let refused = loop {
        // Over several collections: the quota is for all of them.
        let key = format!("/registry/kind{}/{written}", written % 7);
        match client.kv.put(put(&key, 10_000)).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(said::<()>(Err(refused)), NO_SPACE);
    assert!((95..100).contains(&written), "{written} of 10 kB in 1 MB");
    let up = alarm(&mut client, Get, 0, AlarmType::None).await;
    assert_eq!(
        up.iter().map(pb::AlarmMember::alarm).collect::<Vec<_>>(),
        [Nospace]
    );
    ours.stop();

    let ours = Ours::start(options);
    let mut client = Client::connect(&ours.url()).await;
    assert_eq!(alarm(&mut client, Get, 0, AlarmType::None).await, up);
    // Deleting keeps what is deleted as history; compaction gives it up.
    client.delete("/registry/kind0/0", "").await;
    let all = pb::DeleteRangeRequest {
        key: "/registry/kind1".into(),
        range_end: "0".into(),
        ..Default::default()
    };
    client.kv.delete_range(all).await.unwrap();
    // What a revision replaced goes with the compaction of a later one.
    let revision = client.delete("/registry/kind0/", "/registry/kind1").await;
    let compaction = pb::CompactionRequest {
        revision,
        physical: true,
    };
    client.kv.compact(compaction).await.unwrap();
    assert_eq!(said(client.kv.put(put("a", 1)).await), NO_SPACE);
    let grant = pb::LeaseGrantRequest { ttl: 100, id: 0 };
    assert_eq!(said(client.lease.lease_grant(grant).await), NO_SPACE);
    assert_eq!(
        alarm(&mut client, Deactivate, up[0].member_id, Nospace).await,
        up
    );
    client.put("a", "1").await;
    let status = client.maintenance.status(pb::StatusRequest {}).await;
    let status = status.unwrap().into_inner();
    assert_eq!(status.errors, Vec::<String>::new());
    assert_eq!(status.db_size_quota, 1_000_000);
    assert!(status.db_size < 200_000, "{}", status.db_size);
    ours.stop();
}

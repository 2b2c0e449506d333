//! From the words of histories to etcd's messages, and back.

use etcd_wire::etcdserverpb as pb;
use etcd_wire::mvccpb;
use linear::{Answer, Ask, Event, Kv, LogEntry, Outcome, Span, Step, StepAnswer, Target, Txn};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;
use tonic::Status;

use crate::common::Client;

/// Errors that say it was not done.
const REFUSALS: [&str; 5] = [
    "etcdserver: mvcc: database space exceeded",
    "etcdserver: requested lease not found",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: too many requests",
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("histories are text")
}

/// An end of "" is everything from the first key on.
fn ends(span: &Span) -> (Vec<u8>, Vec<u8>) {
    let or_zero = |text: &str| match text {
        "" => vec![0],
        text => text.as_bytes().to_vec(),
    };
    match &span.end {
        None => (span.first.as_bytes().to_vec(), Vec::new()),
        Some(end) => (or_zero(&span.first), or_zero(end)),
    }
}

fn put(key: &str, value: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..Default::default()
    }
}

fn delete(span: &Span) -> pb::DeleteRangeRequest {
    let (key, range_end) = ends(span);
    pb::DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    }
}

fn range(span: &Span, revision: i64, serializable: bool) -> pb::RangeRequest {
    let (key, range_end) = ends(span);
    pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        revision,
        serializable,
        ..Default::default()
    }
}

fn ops(steps: &[Step]) -> Vec<pb::RequestOp> {
    let request = |step: &Step| match step {
        Step::Put { key, value, lease } => Request::RequestPut(put(key, value, *lease)),
        Step::Delete(span) => Request::RequestDeleteRange(delete(span)),
        Step::Get(span) => Request::RequestRange(range(span, 0, false)),
    };
    let requests = steps.iter().map(request).map(Some);
    requests.map(|request| pb::RequestOp { request }).collect()
}

fn txn(txn: &Txn) -> pb::TxnRequest {
    let compares = txn.compares.iter().map(|compare| {
        let (target, union) = match &compare.target {
            Target::Modified(at) => (CompareTarget::Mod, TargetUnion::ModRevision(*at)),
            Target::Created(at) => (CompareTarget::Create, TargetUnion::CreateRevision(*at)),
            Target::Version(at) => (CompareTarget::Version, TargetUnion::Version(*at)),
            Target::Value(value) => (
                CompareTarget::Value,
                TargetUnion::Value(value.clone().into()),
            ),
        };
        pb::Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key: compare.key.clone().into(),
            target_union: Some(union),
            ..Default::default()
        }
    });
    pb::TxnRequest {
        compare: compares.collect(),
        success: ops(&txn.then),
        failure: ops(&txn.otherwise),
    }
}

pub fn kv(kv: &mvccpb::KeyValue) -> Kv {
    Kv {
        key: text(&kv.key),
        value: text(&kv.value),
        created: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn got(range: pb::RangeResponse) -> StepAnswer {
    assert_eq!(
        (range.count, range.more),
        (range.kvs.len() as i64, false),
        "a range without a limit tells all"
    );
    StepAnswer::Got(range.kvs.iter().map(kv).collect())
}

fn deleted(answer: &pb::DeleteRangeResponse) -> StepAnswer {
    StepAnswer::Deleted(usize::try_from(answer.deleted).expect("a count"))
}

pub fn event(event: &mvccpb::Event) -> Event {
    let told = event.kv.as_ref().expect("an event has a key");
    Event {
        key: text(&told.key),
        revision: told.mod_revision,
        now: (event.r#type() == mvccpb::event::EventType::Put).then(|| kv(told)),
        before: event.prev_kv.as_ref().map(kv),
    }
}

/// Events by revision.
pub fn log(events: &[mvccpb::Event]) -> Vec<LogEntry> {
    let mut log: Vec<LogEntry> = Vec::new();
    for event in events.iter().map(event) {
        match log.last_mut() {
            Some(last) if last.revision == event.revision => last.events.push(event),
            _ => log.push(LogEntry {
                revision: event.revision,
                events: vec![event],
            }),
        }
    }
    log
}

fn answer(header: Option<pb::ResponseHeader>, succeeded: bool, steps: Vec<StepAnswer>) -> Answer {
    Answer {
        revision: header.expect("an answer has a header").revision,
        succeeded,
        steps,
    }
}

/// Asks; what is told of the error, if it is one.
pub async fn ask(client: &mut Client, ask: &Ask) -> Result<Answer, Status> {
    let asked = match ask {
        Ask::Get {
            span,
            revision,
            is_serializable,
        } => {
            let request = range(span, *revision, *is_serializable);
            let found = client.kv.range(request).await?.into_inner();
            answer(found.header, true, vec![got(found)])
        }
        Ask::Txn(Txn {
            compares,
            then,
            otherwise,
        }) if compares.is_empty() && otherwise.is_empty() && then.len() == 1 => match &then[0] {
            Step::Put { key, value, lease } => {
                let done = client.kv.put(put(key, value, *lease)).await?.into_inner();
                answer(done.header, true, vec![StepAnswer::Put])
            }
            Step::Delete(span) => {
                let done = client.kv.delete_range(delete(span)).await?.into_inner();
                answer(done.header, true, vec![deleted(&done)])
            }
            Step::Get(span) => {
                let found = client.kv.range(range(span, 0, false)).await?.into_inner();
                answer(found.header, true, vec![got(found)])
            }
        },
        Ask::Txn(asked) => {
            let done = client.kv.txn(txn(asked)).await?.into_inner();
            let steps = done.responses.into_iter().map(|one| {
                match one.response.expect("every operation has an answer") {
                    Response::ResponsePut(_) => StepAnswer::Put,
                    Response::ResponseDeleteRange(answer) => deleted(&answer),
                    Response::ResponseRange(answer) => got(answer),
                    Response::ResponseTxn(_) => panic!("nobody asked for one in another"),
                }
            });
            answer(done.header, done.succeeded, steps.collect())
        }
        Ask::Grant { id, ttl_nanos } => {
            let ttl = i64::try_from(ttl_nanos / 1_000_000_000).expect("a short life");
            let request = pb::LeaseGrantRequest { id: *id, ttl };
            let granted = client.lease.lease_grant(request).await?.into_inner();
            assert_eq!((granted.id, granted.ttl), (*id, ttl));
            answer(granted.header, true, Vec::new())
        }
        Ask::Revoke { id } => {
            let request = pb::LeaseRevokeRequest { id: *id };
            let revoked = client.lease.lease_revoke(request).await?.into_inner();
            answer(revoked.header, true, Vec::new())
        }
    };
    Ok(asked)
}

/// What a call has come to.
pub fn outcome(result: Result<Answer, Status>) -> Outcome {
    match result {
        Ok(answer) => Outcome::Answered(answer),
        Err(status) if REFUSALS.contains(&status.message()) => Outcome::Refused,
        Err(_) => Outcome::Unknown,
    }
}

pub fn watch(span: &Span, start_revision: i64, prev_kv: bool) -> pb::WatchCreateRequest {
    let (key, range_end) = ends(span);
    pb::WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision,
        prev_kv,
        ..Default::default()
    }
}

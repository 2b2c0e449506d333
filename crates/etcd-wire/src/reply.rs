//! From words to messages.

use crate::etcdserverpb as pb;
use crate::mvccpb;
use kv::{Event, KeyValue, OpReply, RangeReply, Revision, TxnReply};
use mvccpb::event::EventType;

/// Who answers: goes into every header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: u64,
    /// The leader's term.
    pub raft_term: u64,
}

impl Identity {
    /// The header of an answer that rests on `revision`.
    #[must_use]
    pub fn header(&self, revision: Revision) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision: revision.0,
            raft_term: self.raft_term,
        })
    }
}

/// A version of a key.
#[must_use]
pub fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision.0,
        mod_revision: kv.mod_revision.0,
        version: kv.version,
        value: kv.value,
        lease: kv.lease.0,
    }
}

/// A change. A deletion says no more than which key, and when.
#[must_use]
pub fn event(event: Event) -> mvccpb::Event {
    match event {
        Event::Put { kv, prev } => mvccpb::Event {
            r#type: EventType::Put.into(),
            kv: Some(key_value(kv)),
            prev_kv: prev.map(key_value),
        },
        Event::Delete {
            key,
            revision,
            prev,
        } => mvccpb::Event {
            r#type: EventType::Delete.into(),
            kv: Some(mvccpb::KeyValue {
                key,
                mod_revision: revision.0,
                ..Default::default()
            }),
            prev_kv: prev.map(key_value),
        },
    }
}

/// The answer to a read.
#[must_use]
pub fn range_response(reply: RangeReply, header: Option<pb::ResponseHeader>) -> pb::RangeResponse {
    pb::RangeResponse {
        header,
        kvs: reply.kvs.into_iter().map(key_value).collect(),
        more: reply.more,
        count: count(reply.count),
    }
}

/// The answer to a transaction. Answers inside it have headers with nothing but a revision.
#[must_use]
pub fn txn_response(reply: TxnReply, header: Option<pb::ResponseHeader>) -> pb::TxnResponse {
    let revision = reply.revision.0;
    // A deletion of nothing, before anything was changed, rests on the revision before.
    let changes = reply.replies.iter().any(has_effect);
    let mut current = if changes { revision - 1 } else { revision };
    responses(reply, header, revision, &mut current)
}

fn has_effect(reply: &OpReply) -> bool {
    match reply {
        OpReply::Range(_) => false,
        OpReply::Put { .. } => true,
        OpReply::Delete { deleted, .. } => *deleted > 0,
        OpReply::Txn(inner) => inner.replies.iter().any(has_effect),
    }
}

fn responses(
    reply: TxnReply,
    header: Option<pb::ResponseHeader>,
    revision: i64,
    current: &mut i64,
) -> pb::TxnResponse {
    let replies = reply.replies.into_iter();
    pb::TxnResponse {
        header,
        succeeded: reply.succeeded,
        responses: replies
            .map(|reply| response(reply, revision, current))
            .collect(),
    }
}

fn response(reply: OpReply, revision: i64, current: &mut i64) -> pb::ResponseOp {
    use pb::response_op::Response;
    if has_effect(&reply) && !matches!(reply, OpReply::Txn(_)) {
        *current = revision;
    }
    let header = |revision| {
        Some(pb::ResponseHeader {
            revision,
            ..Default::default()
        })
    };
    let response = match reply {
        OpReply::Range(range) => {
            let header = header(range.revision.0);
            Response::ResponseRange(range_response(range, header))
        }
        OpReply::Put { prev } => Response::ResponsePut(pb::PutResponse {
            header: header(*current),
            prev_kv: prev.map(key_value),
        }),
        OpReply::Delete { deleted, prev } => {
            Response::ResponseDeleteRange(pb::DeleteRangeResponse {
                header: header(*current),
                deleted: count(deleted),
                prev_kvs: prev.into_iter().map(key_value).collect(),
            })
        }
        OpReply::Txn(inner) => {
            Response::ResponseTxn(responses(inner, header(0), revision, current))
        }
    };
    pb::ResponseOp {
        response: Some(response),
    }
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

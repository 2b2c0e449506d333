//! etcd's messages: decoded, understood and carried out, whatever the bytes are.

use crate::Chance;
use bytes::Bytes;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::{delete_op, put_op, range_op, txn, watch_range};
use kv::{Op, Txn};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use pb::watch_request::RequestUnion;
use prost::Message;
use store::{Store, StoreConfig};

/// Operations of a transaction, as the server's default has it.
const OPS_MAX: usize = 128;

/// A message: which one is said by the first byte.
///
/// Any bytes are refused, or decoded to what encodes and decodes to itself; what they ask for is refused, or carried
/// out on a store that stays sound.
///
/// # Panics
///
/// When that is not so.
pub fn anybody_may_send(bytes: &[u8], store: &Store) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else {
        return false;
    };
    let mut op = None;
    match kind % 8 {
        0 => {
            op = decoded::<pb::RangeRequest>(bytes).and_then(|it| range_op(&it).ok().map(Op::Range))
        }
        1 => op = decoded::<pb::PutRequest>(bytes).and_then(|it| put_op(it).ok().map(Op::Put)),
        2 => {
            op = decoded::<pb::DeleteRangeRequest>(bytes)
                .and_then(|it| delete_op(&it).ok().map(Op::Delete));
        }
        3 => {
            if let Some(it) = decoded::<pb::TxnRequest>(bytes)
                && let Ok(txn) = txn(it, OPS_MAX)
            {
                return carry_out(store, &txn);
            }
        }
        4 => {
            if let Some(RequestUnion::CreateRequest(create)) =
                decoded::<pb::WatchRequest>(bytes).and_then(|it| it.request_union)
            {
                let _ = watch_range(&create.key, &create.range_end);
            }
        }
        5 => drop(decoded::<pb::LeaseGrantRequest>(bytes)),
        6 => drop(decoded::<pb::CompactionRequest>(bytes)),
        _ => drop(decoded::<pb::AlarmRequest>(bytes)),
    }
    op.is_some_and(|op| {
        let then = vec![op];
        carry_out(
            store,
            &Txn {
                then,
                ..Txn::default()
            },
        )
    })
}

fn decoded<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = M::decode(&message.encode_to_vec()[..]);
    assert_eq!(again.as_ref(), Ok(&message), "decoded is not what it was");
    Some(message)
}

fn carry_out(store: &Store, txn: &Txn) -> bool {
    let before = store.applied();
    let result = store.txn(txn);
    match &result {
        Ok(reply) => assert!(
            reply.revision >= before && store.applied().0 <= before.0 + 1,
            "one transaction is one revision at most"
        ),
        Err(_) => assert_eq!(store.applied(), before, "what is refused leaves no trace"),
    }
    result.is_ok()
}

/// A store for [`anybody_may_send`].
#[must_use]
pub fn store() -> Store {
    Store::new(StoreConfig::default())
}

/// A message that a client might send.
pub fn message(chance: &mut Chance) -> Vec<u8> {
    let kind = chance.below(8) as u8;
    let mut bytes = vec![kind];
    bytes.extend(match kind {
        0 => range(chance).encode_to_vec(),
        1 => put(chance).encode_to_vec(),
        2 => delete(chance).encode_to_vec(),
        3 => transaction(chance, 3).encode_to_vec(),
        4 => {
            let create = pb::WatchCreateRequest {
                key: key(chance),
                range_end: key(chance),
                start_revision: chance.edge().cast_signed(),
                filters: vec![chance.below(3) as i32],
                ..Default::default()
            };
            let request_union = Some(RequestUnion::CreateRequest(create));
            pb::WatchRequest { request_union }.encode_to_vec()
        }
        5 => pb::LeaseGrantRequest {
            ttl: chance.edge().cast_signed(),
            id: chance.edge().cast_signed(),
        }
        .encode_to_vec(),
        6 => pb::CompactionRequest {
            revision: chance.edge().cast_signed(),
            physical: chance.one_in(2),
        }
        .encode_to_vec(),
        _ => pb::AlarmRequest {
            action: chance.below(4) as i32,
            member_id: chance.edge(),
            alarm: chance.below(4) as i32,
        }
        .encode_to_vec(),
    });
    bytes
}

fn key(chance: &mut Chance) -> Bytes {
    match chance.below(8) {
        0 => Bytes::new(),
        1 => Bytes::from_static(&[0]),
        2 => chance.bytes(12).into(),
        3 => Bytes::from_static(b"/registry/pods/"),
        4 => Bytes::from_static(b"/registry/pods0"),
        _ => format!("/registry/kind{}/{}", chance.below(3), chance.below(4)).into(),
    }
}

fn revision(chance: &mut Chance) -> i64 {
    match chance.below(3) {
        0 => 0,
        1 => chance.below(20) as i64,
        _ => chance.edge().cast_signed(),
    }
}

fn range(chance: &mut Chance) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key(chance),
        range_end: key(chance),
        limit: revision(chance),
        revision: revision(chance),
        sort_order: chance.below(4) as i32,
        sort_target: chance.below(6) as i32,
        keys_only: chance.one_in(4),
        count_only: chance.one_in(4),
        min_mod_revision: revision(chance),
        ..Default::default()
    }
}

fn put(chance: &mut Chance) -> pb::PutRequest {
    pb::PutRequest {
        key: key(chance),
        value: chance.bytes(30).into(),
        lease: if chance.one_in(5) {
            revision(chance)
        } else {
            0
        },
        prev_kv: chance.one_in(2),
        ignore_value: chance.one_in(6),
        ignore_lease: chance.one_in(6),
    }
}

fn delete(chance: &mut Chance) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key(chance),
        range_end: key(chance),
        prev_kv: chance.one_in(2),
    }
}

fn transaction(chance: &mut Chance, depth: usize) -> pb::TxnRequest {
    let compare = |chance: &mut Chance| pb::Compare {
        result: [
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ]
        .get(chance.below(4))
        .map_or(9, |result| (*result).into()),
        target: if chance.one_in(9) {
            7
        } else {
            CompareTarget::Mod.into()
        },
        key: key(chance),
        range_end: key(chance),
        target_union: (!chance.one_in(5)).then(|| match chance.below(3) {
            0 => TargetUnion::ModRevision(revision(chance)),
            1 => TargetUnion::Value(chance.bytes(4).into()),
            _ => TargetUnion::Version(revision(chance)),
        }),
    };
    let op = |chance: &mut Chance| pb::RequestOp {
        request: match chance.below(9) {
            0..3 => Some(Request::RequestPut(put(chance))),
            3..5 => Some(Request::RequestRange(range(chance))),
            5 | 6 => Some(Request::RequestDeleteRange(delete(chance))),
            7 if depth > 0 => Some(Request::RequestTxn(transaction(chance, depth - 1))),
            _ => None,
        },
    };
    let ops = |chance: &mut Chance| {
        let count = chance.below(4);
        (0..count).map(|_| op(chance)).collect::<Vec<_>>()
    };
    pb::TxnRequest {
        success: ops(chance),
        failure: ops(chance),
        compare: (0..chance.below(3)).map(|_| compare(chance)).collect(),
    }
}

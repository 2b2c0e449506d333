//! From messages to words. Refuses what etcd refuses, in its order and with its texts.

use crate::error::RpcError;
use crate::etcdserverpb as pb;
use bytes::Bytes;
use kv::{
    Compare, CompareOp, DeleteOp, End, KeyRange, LeaseId, Op, Operand, PutOp, RangeOp, Revision,
    SortOrder, SortTarget, TXN_DEPTH_MAX, Txn,
};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request as sorting;

/// A range as messages say it: no end is one key, a zero byte is "all from the key on".
#[must_use]
pub fn key_range(key: &Bytes, range_end: &Bytes) -> KeyRange {
    let end = match &range_end[..] {
        [] => End::One,
        [0] => End::Unbounded,
        _ => End::Before(range_end.clone()),
    };
    KeyRange {
        start: key.clone(),
        end,
    }
}

/// The range of a watch, in which no key means the first there can be. None if it is empty.
#[must_use]
pub fn watch_range(key: &Bytes, range_end: &Bytes) -> Option<KeyRange> {
    let first = Bytes::from_static(&[0]);
    let range = key_range(if key.is_empty() { &first } else { key }, range_end);
    match &range.end {
        End::Before(end) if *end <= range.start => None,
        End::Before(_) | End::One | End::Unbounded => Some(range),
    }
}

/// A read.
pub fn range_op(request: &pb::RangeRequest) -> Result<RangeOp, RpcError> {
    if request.key.is_empty() {
        return Err(RpcError::EMPTY_KEY);
    }
    let order = sorting::SortOrder::try_from(request.sort_order);
    let target = sorting::SortTarget::try_from(request.sort_target);
    let (Ok(order), Ok(target)) = (order, target) else {
        return Err(RpcError::INVALID_SORT_OPTION);
    };
    Ok(RangeOp {
        range: key_range(&request.key, &request.range_end),
        limit: usize::try_from(request.limit).unwrap_or(0),
        revision: Revision(request.revision.max(0)),
        keys_only: request.keys_only,
        count_only: request.count_only,
        sort: sort_of(order, target),
        min_mod_revision: Revision(request.min_mod_revision),
        max_mod_revision: Revision(request.max_mod_revision),
        min_create_revision: Revision(request.min_create_revision),
        max_create_revision: Revision(request.max_create_revision),
    })
}

/// Without an order, a target other than the key means "smallest first".
fn sort_of(
    order: sorting::SortOrder,
    target: sorting::SortTarget,
) -> Option<(SortTarget, SortOrder)> {
    let target = match target {
        sorting::SortTarget::Key => SortTarget::Key,
        sorting::SortTarget::Version => SortTarget::Version,
        sorting::SortTarget::Create => SortTarget::Create,
        sorting::SortTarget::Mod => SortTarget::Mod,
        sorting::SortTarget::Value => SortTarget::Value,
    };
    match order {
        sorting::SortOrder::Descend => Some((target, SortOrder::Descending)),
        sorting::SortOrder::Ascend | sorting::SortOrder::None if target == SortTarget::Key => None,
        sorting::SortOrder::Ascend | sorting::SortOrder::None => {
            Some((target, SortOrder::Ascending))
        }
    }
}

/// A write.
pub fn put_op(request: pb::PutRequest) -> Result<PutOp, RpcError> {
    if request.key.is_empty() {
        return Err(RpcError::EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(RpcError::VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(RpcError::LEASE_PROVIDED);
    }
    Ok(PutOp {
        key: request.key,
        value: request.value,
        lease: LeaseId(request.lease),
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    })
}

/// A deletion.
pub fn delete_op(request: &pb::DeleteRangeRequest) -> Result<DeleteOp, RpcError> {
    if request.key.is_empty() {
        return Err(RpcError::EMPTY_KEY);
    }
    let range = key_range(&request.key, &request.range_end);
    Ok(DeleteOp {
        range,
        prev_kv: request.prev_kv,
    })
}

/// A transaction of at most `ops_max` operations a list.
pub fn txn(request: pb::TxnRequest, ops_max: usize) -> Result<Txn, RpcError> {
    let txn = inner_txn(request, ops_max, 1)?;
    match txn.validate() {
        Ok(()) => Ok(txn),
        Err(kv::TxnError::DuplicateKey) => Err(RpcError::DUPLICATE_KEY),
        Err(kv::TxnError::TooDeep) => Err(RpcError::TOO_MANY_OPS),
        Err(kv::TxnError::EmptyKey) => Err(RpcError::EMPTY_KEY),
    }
}

/// Each level takes its operations off what the levels below may have.
fn inner_txn(request: pb::TxnRequest, ops_max: usize, depth: usize) -> Result<Txn, RpcError> {
    let pb::TxnRequest {
        compare,
        success,
        failure,
    } = request;
    let ops = compare.len().max(success.len()).max(failure.len());
    if ops > ops_max || depth > TXN_DEPTH_MAX {
        return Err(RpcError::TOO_MANY_OPS);
    }
    let compares = compare
        .into_iter()
        .map(compare_of)
        .collect::<Result<_, _>>()?;
    let left = ops_max - ops;
    let list = |ops: Vec<pb::RequestOp>| {
        ops.into_iter()
            .map(|op| op_of(op, left, depth))
            .collect::<Result<Vec<Op>, RpcError>>()
    };
    Ok(Txn {
        compares,
        then: list(success)?,
        otherwise: list(failure)?,
    })
}

fn op_of(op: pb::RequestOp, ops_max: usize, depth: usize) -> Result<Op, RpcError> {
    use pb::request_op::Request;
    match op.request {
        // Alone, a negative revision means "now"; in a transaction etcd takes it as it is: long compacted.
        Some(Request::RequestRange(range)) => {
            let revision = Revision(range.revision);
            Ok(Op::Range(RangeOp {
                revision,
                ..range_op(&range)?
            }))
        }
        Some(Request::RequestPut(put)) => Ok(Op::Put(put_op(put)?)),
        Some(Request::RequestDeleteRange(delete)) => Ok(Op::Delete(delete_op(&delete)?)),
        Some(Request::RequestTxn(txn)) => Ok(Op::Txn(inner_txn(txn, ops_max, depth + 1)?)),
        None => Err(RpcError::KEY_NOT_FOUND),
    }
}

/// An operand of another kind than the target counts as zero, as in etcd.
fn compare_of(compare: pb::Compare) -> Result<Compare, RpcError> {
    if compare.key.is_empty() {
        return Err(RpcError::EMPTY_KEY);
    }
    let op = match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => CompareOp::Equal,
        Ok(CompareResult::Greater) => CompareOp::Greater,
        Ok(CompareResult::Less) => CompareOp::Less,
        Ok(CompareResult::NotEqual) => CompareOp::NotEqual,
        // etcd takes what it does not know for true; we would rather say so.
        Err(_) => return Err(RpcError::KEY_NOT_FOUND),
    };
    let with = compare.target_union;
    let operand = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => Operand::Version(match with {
            Some(TargetUnion::Version(version)) => version,
            _ => 0,
        }),
        Ok(CompareTarget::Create) => Operand::Create(Revision(match with {
            Some(TargetUnion::CreateRevision(revision)) => revision,
            _ => 0,
        })),
        Ok(CompareTarget::Mod) => Operand::Mod(Revision(match with {
            Some(TargetUnion::ModRevision(revision)) => revision,
            _ => 0,
        })),
        Ok(CompareTarget::Value) => Operand::Value(match with {
            Some(TargetUnion::Value(value)) => value,
            _ => Bytes::new(),
        }),
        Ok(CompareTarget::Lease) => Operand::Lease(LeaseId(match with {
            Some(TargetUnion::Lease(lease)) => lease,
            _ => 0,
        })),
        Err(_) => return Err(RpcError::KEY_NOT_FOUND),
    };
    Ok(Compare {
        range: key_range(&compare.key, &compare.range_end),
        op,
        operand,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str) -> pb::RequestOp {
        let put = pb::PutRequest {
            key: key.into(),
            ..Default::default()
        };
        pb::RequestOp {
            request: Some(pb::request_op::Request::RequestPut(put)),
        }
    }

    fn nest(inner: pb::TxnRequest) -> pb::RequestOp {
        pb::RequestOp {
            request: Some(pb::request_op::Request::RequestTxn(inner)),
        }
    }

    fn then(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
        pb::TxnRequest {
            success,
            ..Default::default()
        }
    }

    #[test]
    fn a_range_ends_as_its_end_says() {
        let range = |end: &'static [u8]| key_range(&"a".into(), &Bytes::from_static(end)).end;
        assert_eq!(range(b""), End::One);
        assert_eq!(range(b"\0"), End::Unbounded);
        assert_eq!(range(b"b"), End::Before("b".into()));
    }

    #[test]
    fn a_watch_of_nothing_is_none_and_without_a_key_it_is_from_the_first() {
        assert_eq!(watch_range(&"b".into(), &"a".into()), None);
        assert_eq!(watch_range(&"b".into(), &"b".into()), None);
        let all = watch_range(&Bytes::new(), &Bytes::from_static(&[0]));
        let first = Bytes::from_static(&[0]);
        assert_eq!(
            all,
            Some(KeyRange {
                start: first,
                end: End::Unbounded
            })
        );
    }

    #[test]
    fn transactions_are_refused_in_etcds_words() {
        let err = |request, max| txn(request, max).unwrap_err();
        assert_eq!(err(then(vec![put("")]), 9), RpcError::EMPTY_KEY);
        assert_eq!(
            err(then(vec![put("a"), put("a")]), 9),
            RpcError::DUPLICATE_KEY
        );
        assert_eq!(
            err(then(vec![put("a"), put("b")]), 1),
            RpcError::TOO_MANY_OPS
        );
        assert_eq!(
            err(then(vec![pb::RequestOp { request: None }]), 9),
            RpcError::KEY_NOT_FOUND
        );
        // An inner transaction has what the outer one left.
        let inner = then(vec![put("a"), put("b")]);
        assert_eq!(
            err(then(vec![nest(inner.clone())]), 2),
            RpcError::TOO_MANY_OPS
        );
        assert!(txn(then(vec![nest(inner)]), 3).is_ok());
    }

    #[test]
    fn nesting_has_an_end() {
        let mut request = then(vec![put("a")]);
        for _ in 0..TXN_DEPTH_MAX {
            request = then(vec![nest(request)]);
        }
        assert_eq!(txn(request, 128).unwrap_err(), RpcError::TOO_MANY_OPS);
    }

    #[test]
    fn puts_say_what_they_ignore() {
        let put = |value: &'static str, lease, ignore_value, ignore_lease| {
            let key = "k".into();
            let value = value.into();
            put_op(pb::PutRequest {
                key,
                value,
                lease,
                ignore_value,
                ignore_lease,
                prev_kv: false,
            })
        };
        assert_eq!(
            put("v", 0, true, false).unwrap_err(),
            RpcError::VALUE_PROVIDED
        );
        assert_eq!(
            put("", 7, false, true).unwrap_err(),
            RpcError::LEASE_PROVIDED
        );
        assert!(put("", 7, true, false).is_ok());
    }
}

//! What locks and elections share: a key under a prefix is a place in a queue, and the oldest key is its head.
//!
//! Speaks to the store through the KV and Lease services, in the name of the caller, so that whatever holds for
//! those calls holds here. Waits on cursors: no task, no timer. Whoever stops waiting gives its place up at once.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::mvccpb;
use http::Extensions;
use kv::{Compare, CompareOp, DeleteOp, End, KeyRange, Op, Operand, Revision, Txn};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Operation;
use store::{OpenError, RangeWatcher, WatchItem};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use crate::api::Api;
use crate::limits::{EVENTS_PER_LOOK, SESSION_TTL_SECONDS};
use crate::node::Node;
use crate::refuse::{status, store_error};
use crate::rpc::kv_server::Kv;
use crate::rpc::lease_server::Lease;

/// Calls other services in the name of who called us.
#[derive(Clone, Debug)]
pub struct Caller {
    api: Api,
    metadata: MetadataMap,
    extensions: Extensions,
}

impl Caller {
    /// Takes a request apart.
    pub fn of<T>(api: &Api, request: Request<T>) -> (Caller, T) {
        let (metadata, extensions, message) = request.into_parts();
        let api = api.clone();
        let caller = Caller {
            api,
            metadata,
            extensions,
        };
        (caller, message)
    }

    pub fn node(&self) -> &Arc<Node> {
        &self.api.node
    }

    fn ask<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), self.extensions.clone(), message)
    }

    pub async fn range(&self, range: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        let answer = Kv::range(&self.api, self.ask(range)).await;
        answer.map(tonic::Response::into_inner)
    }

    pub async fn txn(&self, txn: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        let answer = Kv::txn(&self.api, self.ask(txn)).await;
        answer.map(tonic::Response::into_inner)
    }

    pub async fn delete(&self, key: Bytes) -> Result<pb::DeleteRangeResponse, Status> {
        let delete = pb::DeleteRangeRequest {
            key,
            ..Default::default()
        };
        let answer = Kv::delete_range(&self.api, self.ask(delete)).await;
        answer.map(tonic::Response::into_inner)
    }

    /// The lease that was named, or a new one.
    pub async fn lease(&self, lease: i64) -> Result<i64, Status> {
        if lease != 0 {
            return Ok(lease);
        }
        let grant = pb::LeaseGrantRequest {
            ttl: SESSION_TTL_SECONDS,
            id: 0,
        };
        let granted = Lease::lease_grant(&self.api, self.ask(grant)).await?;
        Ok(granted.into_inner().id)
    }
}

/// etcd runs these services over its own client, whose errors lose their code on the way.
pub fn as_etcd_says_it(error: Status) -> Status {
    if error.message().starts_with("etcdserver: ") {
        return Status::unknown(error.message());
    }
    error
}

/// The prefix of all places of a name.
pub fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The place of a lease.
pub fn key(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let place = format!("{sign}{:x}", lease.unsigned_abs());
    [prefix, place.as_bytes()].concat().into()
}

/// Asks for the head of a queue.
pub fn head(prefix: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest {
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..all(prefix)
    }
}

fn all(prefix: &Bytes) -> pb::RangeRequest {
    let range_end = match KeyRange::prefix(prefix.clone()).end {
        End::Before(end) => end,
        End::One | End::Unbounded => Bytes::from_static(&[0]),
    };
    pb::RangeRequest {
        key: prefix.clone(),
        range_end,
        ..Default::default()
    }
}

/// Asks for one key.
pub fn one(key: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.clone(),
        ..Default::default()
    }
}

/// Asks whether a key was created at this revision; 0 for "does not exist".
pub fn created_at(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

/// Writes a key that goes with its lease.
pub fn put(key: &Bytes, value: Bytes, lease: i64) -> pb::RequestOp {
    operation(Operation::RequestPut(pb::PutRequest {
        key: key.clone(),
        value,
        lease,
        ..Default::default()
    }))
}

/// Reads.
pub fn get(range: pb::RangeRequest) -> pb::RequestOp {
    operation(Operation::RequestRange(range))
}

/// One operation of a transaction.
pub fn operation(request: Operation) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

/// The first key that the read at this place of a transaction found.
pub fn found(reply: &pb::TxnResponse, place: usize) -> Option<&mvccpb::KeyValue> {
    use pb::response_op::Response;
    match &reply.responses.get(place)?.response {
        Some(Response::ResponseRange(range)) => range.kvs.first(),
        _ => None,
    }
}

/// The revision of an answer.
pub fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// A place in a queue, given up when it is dropped: the caller has gone, or cannot have it.
#[derive(Debug)]
pub struct Place {
    node: Arc<Node>,
    key: Bytes,
    /// Gives up only what was created so.
    created: (CompareOp, Revision),
    is_kept: bool,
}

impl Place {
    /// Takes a place by this transaction. Who goes away meanwhile gives it up; who is refused has none, and must not
    /// take away what another put there.
    pub async fn take(
        caller: &Caller,
        key: &Bytes,
        queue_up: pb::TxnRequest,
    ) -> Result<(Place, pb::TxnResponse), Status> {
        let node = caller.node();
        let place = Place {
            node: node.clone(),
            key: key.clone(),
            // One that was there before is not ours to give up.
            created: (CompareOp::Greater, node.store.applied()),
            is_kept: false,
        };
        match caller.txn(queue_up).await {
            Ok(reply) => Ok((place, reply)),
            Err(error) => {
                place.keep();
                Err(error)
            }
        }
    }

    /// It was taken at this revision, now or by an earlier call with the same lease.
    pub fn taken_at(&mut self, revision: i64) {
        self.created = (CompareOp::Equal, Revision(revision));
    }

    /// It belongs to the caller now.
    pub fn keep(mut self) {
        self.is_kept = true;
    }

    /// Waits until nobody is before it. Ends early when the place itself is gone: look whether it is there.
    pub async fn wait(&self, caller: &Caller, prefix: &Bytes) -> Result<(), Status> {
        loop {
            let before = caller
                .range(pb::RangeRequest {
                    limit: 1,
                    keys_only: true,
                    sort_order: SortOrder::Descend.into(),
                    sort_target: SortTarget::Create.into(),
                    max_create_revision: self.created.1.0 - 1,
                    ..all(prefix)
                })
                .await?;
            let Some(next) = before.kvs.first() else {
                return Ok(());
            };
            let seen = Revision(revision(before.header.as_ref()));
            let theirs = watch(&self.node, KeyRange::one(next.key.clone()), seen)?;
            let ours = watch(&self.node, KeyRange::one(self.key.clone()), seen)?;
            let (Some(mut theirs), Some(mut ours)) = (theirs, ours) else {
                // Compacted meanwhile: look again, after the others.
                tokio::task::yield_now().await;
                continue;
            };
            let is_over = poll_fn(|cx| {
                if poll_gone(&mut ours, cx).is_ready() {
                    return Poll::Ready(true);
                }
                poll_gone(&mut theirs, cx).map(|()| false)
            });
            if is_over.await {
                return Ok(());
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (op, revision) = self.created;
        let range = KeyRange::one(self.key.clone());
        let give_up = Txn {
            compares: vec![Compare {
                range: range.clone(),
                op,
                operand: Operand::Create(revision),
            }],
            then: vec![Op::Delete(DeleteOp {
                range,
                prev_kv: false,
            })],
            otherwise: Vec::new(),
        };
        if let Err(error) = self.node.store.txn(&give_up) {
            // Its lease ends it.
            tracing::debug!(%error, "a place in a queue could not be given up");
        }
    }
}

/// Opens a cursor on what comes after a revision; none if that is compacted already.
pub fn watch(
    node: &Node,
    range: KeyRange,
    after: Revision,
) -> Result<Option<RangeWatcher>, Status> {
    match node.store.watch_range(range, after) {
        Ok(cursor) => Ok(Some(cursor)),
        Err(OpenError::Compacted(_)) => Ok(None),
        Err(OpenError::Refused(error)) => Err(status(store_error(error))),
    }
}

/// The next events, and up to where they reach; none if history has gone from under the cursor.
pub async fn events(cursor: &mut RangeWatcher) -> Option<(Vec<WatchItem>, Revision)> {
    let mut items = Vec::new();
    let through = poll_fn(|cx| cursor.poll_next(cx, EVENTS_PER_LOOK, &mut items)).await;
    through.ok().map(|through| (items, through))
}

/// Ready when a key was deleted, or that can no longer be told.
fn poll_gone(cursor: &mut RangeWatcher, cx: &mut Context<'_>) -> Poll<()> {
    let mut items = Vec::new();
    loop {
        match cursor.poll_next(cx, EVENTS_PER_LOOK, &mut items) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(_)) if items.iter().any(|item| item.value.is_none()) => {
                return Poll::Ready(());
            }
            Poll::Ready(Ok(_)) => items.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_name_a_slash_and_the_lease_in_hexadecimal() {
        let prefix = prefix(b"jobs");
        assert_eq!(&prefix[..], b"jobs/");
        assert_eq!(
            &key(&prefix, 0x694d_81a0_26fc_1a05)[..],
            b"jobs/694d81a026fc1a05"
        );
        assert_eq!(&key(&prefix, -255)[..], b"jobs/-ff");
        assert_eq!(&key(&super::prefix(b""), 10)[..], b"/a");
    }
}

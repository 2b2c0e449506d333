//! What the calls of KV do, up to where their answers wait: ranges, puts, deletions, transactions.
//!
//! Both doors come here: tonic's ([`crate::kv_service`]), and the one that takes calls straight from a connection
//! (`h2`). Knows no network: who calls was found out before, and waiting is the door's.

use etcd_wire::etcdserverpb as pb;
use etcd_wire::{
    RpcError, delete_op, key_value, put_op, range_op, range_response, txn, txn_response,
};
use kv::{Op, OpReply, Revision, Txn, TxnReply};
use prost::Message;
use store::Touched;
use tonic::Status;

use crate::api::Api;
use crate::auth::{Access, Deed, keys_of, needs};
use crate::metrics::count;
use crate::refuse::{status, store_error};

/// An answer that may be told once what it rests on is visible.
#[derive(Debug)]
pub struct Answer<T> {
    pub message: T,
    pub rests_on: Touched,
    pub revision: Revision,
}

impl Api {
    pub fn call_range(
        &self,
        request: &pb::RangeRequest,
        access: &Access,
    ) -> Result<Answer<pb::RangeResponse>, Status> {
        count(&self.node.metrics.ranges);
        let op = range_op(request).map_err(status)?;
        access.may(Deed::Read, &op.range).map_err(status)?;
        let (reply, rests_on) = self
            .node
            .store
            .range_touching(&op)
            .map_err(|error| status(store_error(error)))?;
        let revision = if op.revision.0 > 0 {
            op.revision
        } else {
            reply.revision
        };
        let header = self.node.header(reply.revision);
        Ok(Answer {
            message: range_response(reply, header),
            rests_on,
            revision,
        })
    }

    pub fn call_put(
        &self,
        request: pb::PutRequest,
        access: &Access,
    ) -> Result<Answer<pb::PutResponse>, Status> {
        count(&self.node.metrics.puts);
        self.check_size(&request)?;
        let put = put_op(request).map_err(status)?;
        needs::put(access, &put, &keys_of(&self.node.store)).map_err(status)?;
        // Outside a transaction etcd looks at the lease before it looks for the key.
        let needs_key = put.ignore_value || put.ignore_lease;
        if needs_key
            && put.lease.is_some()
            && self
                .node
                .store
                .lease_time_to_live(0, put.lease, false)
                .is_none()
        {
            return Err(status(RpcError::LEASE_NOT_FOUND));
        }
        self.run_one(Op::Put(put), |header, reply| {
            let prev = match reply {
                Some(OpReply::Put { prev }) => prev,
                _ => None,
            };
            pb::PutResponse {
                header,
                prev_kv: prev.map(key_value),
            }
        })
    }

    pub fn call_delete_range(
        &self,
        request: &pb::DeleteRangeRequest,
        access: &Access,
    ) -> Result<Answer<pb::DeleteRangeResponse>, Status> {
        count(&self.node.metrics.deletes);
        self.check_size(request)?;
        let op = delete_op(request).map_err(status)?;
        needs::delete(access, &op).map_err(status)?;
        self.run_one(Op::Delete(op), |header, reply| {
            let (deleted, prev) = match reply {
                Some(OpReply::Delete { deleted, prev }) => (deleted, prev),
                _ => (0, Vec::new()),
            };
            pb::DeleteRangeResponse {
                header,
                deleted: i64::try_from(deleted).unwrap_or(i64::MAX),
                prev_kvs: prev.into_iter().map(key_value).collect(),
            }
        })
    }

    pub fn call_txn(
        &self,
        request: pb::TxnRequest,
        access: &Access,
    ) -> Result<Answer<pb::TxnResponse>, Status> {
        count(&self.node.metrics.txns);
        self.check_size(&request)?;
        let txn = txn(request, self.node.options.max_txn_ops).map_err(status)?;
        needs::txn(access, &txn, &keys_of(&self.node.store)).map_err(status)?;
        self.run(&txn, txn_response)
    }

    fn check_size(&self, request: &impl Message) -> Result<(), Status> {
        if request.encoded_len() > self.node.options.max_request_bytes {
            return Err(status(RpcError::REQUEST_TOO_LARGE));
        }
        Ok(())
    }

    fn run<T>(
        &self,
        txn: &Txn,
        response: impl FnOnce(TxnReply, Option<pb::ResponseHeader>) -> T,
    ) -> Result<Answer<T>, Status> {
        self.node.admit(txn)?;
        let (reply, rests_on) = self
            .node
            .store
            .txn_touching(txn)
            .map_err(|error| status(store_error(error)))?;
        let revision = reply.revision;
        Ok(Answer {
            message: response(reply, self.node.header(revision)),
            rests_on,
            revision,
        })
    }

    fn run_one<T>(
        &self,
        op: Op,
        response: impl FnOnce(Option<pb::ResponseHeader>, Option<OpReply>) -> T,
    ) -> Result<Answer<T>, Status> {
        let txn = Txn {
            then: vec![op],
            ..Txn::default()
        };
        self.run(&txn, |mut reply, header| {
            response(header, reply.replies.pop())
        })
    }
}

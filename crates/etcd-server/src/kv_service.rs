//! KV: ranges, puts, deletions, transactions, compaction.

use etcd_wire::etcdserverpb as pb;
use etcd_wire::{
    RpcError, delete_op, key_value, put_op, range_op, range_response, txn, txn_response,
};
use kv::{Op, OpReply, Revision, Txn, TxnReply};
use prost::Message;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::limits::STEP_ENTRIES;
use crate::node::{count, now_micros};
use crate::range_stream::Pieces;
use crate::refuse::{read_error, status, store_error};
use crate::rpc::kv_server::Kv;
use crate::stepping::Stepping;

impl Api {
    fn check_size(&self, request: &impl Message) -> Result<(), Status> {
        if request.encoded_len() > self.node.options.max_request_bytes {
            return Err(status(RpcError::REQUEST_TOO_LARGE));
        }
        Ok(())
    }

    /// Runs a transaction, and returns when its answer may be told.
    async fn run(&self, txn: &Txn) -> Result<TxnReply, Status> {
        self.node.admit(txn).await?;
        let reply = self
            .node
            .store
            .txn(txn)
            .map_err(|error| status(store_error(error)))?;
        self.node.txn_visible(txn, reply.revision).await?;
        Ok(reply)
    }

    async fn run_one(&self, op: Op) -> Result<(Revision, Option<OpReply>), Status> {
        let txn = Txn {
            then: vec![op],
            ..Txn::default()
        };
        let mut reply = self.run(&txn).await?;
        Ok((reply.revision, reply.replies.pop()))
    }
}

#[tonic::async_trait]
impl Kv for Api {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        count(&self.node.counters.ranges);
        let op = range_op(request.get_ref()).map_err(status)?;
        let reply = self
            .node
            .store
            .range(&op)
            .map_err(|error| status(store_error(error)))?;
        let rests_on = if op.revision.0 > 0 {
            op.revision
        } else {
            reply.revision
        };
        self.node.range_visible(&op.range, rests_on).await?;
        let header = self.node.header(reply.revision);
        Ok(Response::new(range_response(reply, header)))
    }

    type RangeStreamStream = Stepping<Pieces>;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Ok(Response::new(Stepping::new(Pieces::new(self, request)?)))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        count(&self.node.counters.puts);
        let request = request.into_inner();
        self.check_size(&request)?;
        let put = put_op(request).map_err(status)?;
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
        let (revision, reply) = self.run_one(Op::Put(put)).await?;
        let prev = match reply {
            Some(OpReply::Put { prev }) => prev,
            _ => None,
        };
        let header = self.node.header(revision);
        Ok(Response::new(pb::PutResponse {
            header,
            prev_kv: prev.map(key_value),
        }))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        count(&self.node.counters.deletes);
        self.check_size(request.get_ref())?;
        let op = delete_op(request.get_ref()).map_err(status)?;
        let (revision, reply) = self.run_one(Op::Delete(op)).await?;
        let (deleted, prev) = match reply {
            Some(OpReply::Delete { deleted, prev }) => (deleted, prev),
            _ => (0, Vec::new()),
        };
        Ok(Response::new(pb::DeleteRangeResponse {
            header: self.node.header(revision),
            deleted: i64::try_from(deleted).unwrap_or(i64::MAX),
            prev_kvs: prev.into_iter().map(key_value).collect(),
        }))
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        count(&self.node.counters.txns);
        let request = request.into_inner();
        self.check_size(&request)?;
        let txn = txn(request, self.node.options.max_txn_ops).map_err(status)?;
        let reply = self.run(&txn).await?;
        let header = self.node.header(reply.revision);
        Ok(Response::new(txn_response(reply, header)))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let pb::CompactionRequest { revision, physical } = request.into_inner();
        self.node.admit_change()?;
        let store = &self.node.store;
        store
            .compact(Revision(revision))
            .map_err(|error| status(read_error(error)))?;
        // The sweep goes in small steps anyway; whoever wants to see its end helps with it.
        while physical && store.step(now_micros(), STEP_ENTRIES).entries > 0 {
            tokio::task::yield_now().await;
        }
        Ok(Response::new(pb::CompactionResponse {
            header: self.node.header_now(),
        }))
    }
}

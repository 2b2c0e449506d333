//! KV: tonic's door to the calls in [`crate::kv_calls`], and compaction.

use etcd_wire::etcdserverpb as pb;
use kv::Revision;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::kv_calls::Answer;
use crate::limits::STEP_ENTRIES;
use crate::node::now_micros;
use crate::range_stream::Pieces;
use crate::refuse::{read_error, status};
use crate::rpc::kv_server::Kv;
use crate::stepping::Stepping;

impl Api {
    /// Returns an answer when it may be told.
    async fn told<T>(&self, answer: Answer<T>) -> Result<Response<T>, Status> {
        let Answer {
            message,
            rests_on,
            revision,
        } = answer;
        self.node.visible(&rests_on, revision).await?;
        Ok(Response::new(message))
    }
}

#[tonic::async_trait]
impl Kv for Api {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        let access = self.access(request.metadata())?;
        self.told(self.call_range(request.get_ref(), &access)?)
            .await
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
        let access = self.access(request.metadata())?;
        self.told(self.call_put(request.into_inner(), &access)?)
            .await
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let access = self.access(request.metadata())?;
        self.told(self.call_delete_range(request.get_ref(), &access)?)
            .await
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let access = self.access(request.metadata())?;
        self.told(self.call_txn(request.into_inner(), &access)?)
            .await
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        self.require_admin(request.metadata())?;
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

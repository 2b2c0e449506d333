//! The lock service: whoever is at the head of a name's queue holds the lock, until its key is deleted or its lease
//! ends.
//!
//! A caller that goes away while it waits leaves the queue at once. One that goes away between getting the lock and
//! reading the answer holds it until its lease ends, as with etcd.

use bytes::Bytes;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::lock_rpc::lock_server::Lock;
use crate::queue::{
    Caller, Place, as_etcd_says_it, created_at, found, get, head, key, one, prefix, put, revision,
};

/// The lease ended, or somebody deleted the key.
const LOST: &str = "mutex: session is expired";

#[tonic::async_trait]
impl Lock for Api {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let (caller, request) = Caller::of(self, request);
        let locked = lock(&caller, request).await;
        locked.map(Response::new).map_err(as_etcd_says_it)
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let (caller, request) = Caller::of(self, request);
        let deleted = caller.delete(request.key).await.map_err(as_etcd_says_it)?;
        Ok(Response::new(UnlockResponse {
            header: deleted.header,
        }))
    }
}

async fn lock(caller: &Caller, request: LockRequest) -> Result<LockResponse, Status> {
    let lease = caller.lease(request.lease).await?;
    let prefix = prefix(&request.name);
    let key = key(&prefix, lease);
    let queue_up = pb::TxnRequest {
        compare: vec![created_at(&key, 0)],
        success: vec![put(&key, Bytes::new(), lease), get(head(&prefix))],
        failure: vec![get(one(&key)), get(head(&prefix))],
    };
    let (mut place, reply) = Place::take(caller, &key, queue_up).await?;
    let ours = match found(&reply, 0) {
        Some(kv) => kv.create_revision,
        None => revision(reply.header.as_ref()),
    };
    place.taken_at(ours);
    if found(&reply, 1).is_none_or(|owner| owner.create_revision == ours) {
        place.keep();
        return Ok(LockResponse {
            header: reply.header,
            key,
        });
    }
    place.wait(caller, &prefix).await?;
    let held = caller.range(one(&key)).await?;
    if held.kvs.is_empty() {
        return Err(Status::unknown(LOST));
    }
    place.keep();
    Ok(LockResponse {
        header: held.header,
        key,
    })
}

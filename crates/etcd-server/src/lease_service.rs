//! Leases: granted, kept alive, revoked, looked at.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use etcd_wire::etcdserverpb as pb;
use kv::LeaseId;
use store::StoreError;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::api::Api;
use crate::limits::LEASE_TTL_SECONDS_MIN;
use crate::metrics::count;
use crate::node::{Node, now_micros};
use crate::refuse::{status, store_error};
use crate::rpc::lease_server::Lease;

#[tonic::async_trait]
impl Lease for Api {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let pb::LeaseGrantRequest { ttl, id } = request.into_inner();
        self.node.admit_lease()?;
        let ttl = ttl.max(LEASE_TTL_SECONDS_MIN);
        let granted = self.node.store.lease_grant(now_micros(), LeaseId(id), ttl);
        let granted = granted.map_err(|error| status(store_error(error)))?;
        count(&self.node.metrics.leases_granted);
        self.node.logged().await?;
        Ok(Response::new(pb::LeaseGrantResponse {
            header: self.node.header_now(),
            id: granted.id.0,
            ttl: granted.ttl_seconds,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        self.node.admit_change()?;
        let id = LeaseId(request.get_ref().id);
        let revision = self
            .node
            .store
            .lease_revoke(id)
            .map_err(|error| status(store_error(error)))?;
        count(&self.node.metrics.leases_revoked);
        self.node.logged().await?;
        Ok(Response::new(pb::LeaseRevokeResponse {
            header: self.node.header(revision),
        }))
    }

    type LeaseKeepAliveStream = KeepAlives;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<KeepAlives>, Status> {
        Ok(Response::new(KeepAlives {
            node: self.node.clone(),
            requests: request.into_inner(),
        }))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let left = self
            .node
            .store
            .lease_time_to_live(now_micros(), LeaseId(id), keys);
        let header = self.node.header_now();
        Ok(Response::new(match left {
            Some((left, keys)) => pb::LeaseTimeToLiveResponse {
                header,
                id,
                ttl: left.remaining_seconds,
                granted_ttl: left.granted_seconds,
                keys,
            },
            None => pb::LeaseTimeToLiveResponse {
                header,
                id,
                ttl: -1,
                granted_ttl: 0,
                keys: Vec::new(),
            },
        }))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let leases = self.node.store.leases();
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: self.node.header_now(),
            leases: leases
                .into_iter()
                .map(|id| pb::LeaseStatus { id: id.0 })
                .collect(),
        }))
    }
}

/// Answers each request of a stream; ends with it.
#[derive(Debug)]
pub struct KeepAlives {
    node: Arc<Node>,
    requests: Streaming<pb::LeaseKeepAliveRequest>,
}

impl Stream for KeepAlives {
    type Item = Result<pb::LeaseKeepAliveResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.requests).poll_next(cx).map(|request| {
            Some(request?.and_then(|pb::LeaseKeepAliveRequest { id }| {
                let ttl = match self.node.store.lease_keep_alive(now_micros(), LeaseId(id)) {
                    Ok(granted) => {
                        count(&self.node.metrics.leases_renewed);
                        granted.ttl_seconds
                    }
                    // That it is gone is an answer, not the end of a stream that serves others.
                    Err(StoreError::LeaseNotFound(_)) => 0,
                    Err(error) => return Err(status(store_error(error))),
                };
                Ok(pb::LeaseKeepAliveResponse {
                    header: self.node.header_now(),
                    id,
                    ttl,
                })
            }))
        })
    }
}

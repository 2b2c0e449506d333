//! Leases: granted, kept alive, revoked, looked at.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use etcd_wire::RpcError;
use etcd_wire::etcdserverpb as pb;
use kv::LeaseId;
use store::StoreError;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::api::Api;
use crate::auth::{Access, Credentials, Deed, keys_of, needs};
use crate::limits::{LEASE_TTL_SECONDS_MIN, LEASES_PER_TURN};
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
        self.require_known(request.metadata())?;
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
        let access = self.access(request.metadata())?;
        access.known().map_err(status)?;
        let id = LeaseId(request.get_ref().id);
        // Its keys go with it.
        needs::lease(&access, Deed::Write, id, &keys_of(&self.node.store)).map_err(status)?;
        self.node.admit_change()?;
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
            credentials: self.credentials(request.metadata()),
            requests: request.into_inner(),
        }))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let access = self.access(request.metadata())?;
        access.known().map_err(status)?;
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        if keys {
            let keys_of = keys_of(&self.node.store);
            needs::lease(&access, Deed::Read, LeaseId(id), &keys_of).map_err(status)?;
        }
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
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let access = self.access(request.metadata())?;
        access.known().map_err(status)?;
        let leases = self.node.store.leases();
        if access.admin().is_err() {
            self.may_see(&access, &leases).await?;
        }
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: self.node.header_now(),
            leases: leases
                .into_iter()
                .map(|id| pb::LeaseStatus { id: id.0 })
                .collect(),
        }))
    }
}

impl Api {
    /// Whether a caller may know of these leases: it must be allowed to read all of their keys.
    async fn may_see(&self, access: &Access, leases: &[LeaseId]) -> Result<(), Status> {
        for some in leases.chunks(LEASES_PER_TURN) {
            for id in some {
                let keys_of = keys_of(&self.node.store);
                needs::lease(access, Deed::Read, *id, &keys_of).map_err(status)?;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

/// Answers each request of a stream; ends with it.
#[derive(Debug)]
pub struct KeepAlives {
    node: Arc<Node>,
    credentials: Credentials,
    requests: Streaming<pb::LeaseKeepAliveRequest>,
}

impl KeepAlives {
    /// Whether whoever opened the stream may do so now.
    fn may_keep_alive(&self, id: LeaseId) -> Result<(), RpcError> {
        let access = self.node.auth.access(&self.credentials)?;
        access.known()?;
        needs::lease(&access, Deed::Write, id, &keys_of(&self.node.store))
    }
}

impl Stream for KeepAlives {
    type Item = Result<pb::LeaseKeepAliveResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.requests).poll_next(cx).map(|request| {
            Some(request?.and_then(|pb::LeaseKeepAliveRequest { id }| {
                let id = LeaseId(id);
                self.may_keep_alive(id).map_err(status)?;
                let ttl = match self.node.store.lease_keep_alive(now_micros(), id) {
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
                    id: id.0,
                    ttl,
                })
            }))
        })
    }
}

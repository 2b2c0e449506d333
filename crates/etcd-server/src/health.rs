//! gRPC health: serving, as long as the log takes writes.

use std::pin::Pin;
use std::task::{Context, Poll};

use etcd_wire::health as pb;
use pb::health_check_response::ServingStatus;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::health_rpc::health_server::Health;

impl Api {
    fn health_of(&self, service: &str) -> Result<pb::HealthCheckResponse, Status> {
        let known = service.is_empty() || service.starts_with("etcdserverpb.");
        if !known {
            return Err(Status::not_found("unknown service"));
        }
        let status = match self.node.store.failure() {
            None => ServingStatus::Serving,
            Some(_) => ServingStatus::NotServing,
        };
        Ok(pb::HealthCheckResponse {
            status: status.into(),
        })
    }
}

#[tonic::async_trait]
impl Health for Api {
    async fn check(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<pb::HealthCheckResponse>, Status> {
        self.health_of(&request.get_ref().service)
            .map(Response::new)
    }

    type WatchStream = HealthStream;

    async fn watch(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<HealthStream>, Status> {
        let unknown = pb::HealthCheckResponse {
            status: ServingStatus::ServiceUnknown.into(),
        };
        let health = self
            .health_of(&request.get_ref().service)
            .unwrap_or(unknown);
        Ok(Response::new(HealthStream {
            said: unknown.status == health.status,
            first: Some(health),
            api: self.clone(),
            timer: tokio::time::interval(HEALTH_INTERVAL),
        }))
    }
}

/// How often a health stream looks.
const HEALTH_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// The state now, and "not serving" once it comes to that: a log that stopped stays so.
#[derive(Debug)]
pub struct HealthStream {
    api: Api,
    first: Option<pb::HealthCheckResponse>,
    /// Nothing more can change.
    said: bool,
    timer: tokio::time::Interval,
}

impl Stream for HealthStream {
    type Item = Result<pb::HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        while self.timer.poll_tick(cx).is_ready() {
            if !self.said && self.api.node.store.failure().is_some() {
                self.said = true;
                return Poll::Ready(Some(self.api.health_of("")));
            }
        }
        Poll::Pending
    }
}

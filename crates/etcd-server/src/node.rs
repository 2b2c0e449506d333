//! The member: store, identity, clock, and waiting for what an answer rests on.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use etcd_wire::etcdserverpb::ResponseHeader;
use etcd_wire::{Identity, RpcError};
use kv::{KeyRange, Revision};
use store::{Store, Touched};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::alarms::Alarms;
use crate::auth::Auth;
use crate::limits::ANSWER_TIMEOUT;
use crate::metrics::{Metrics, count};
use crate::options::Options;
use crate::refuse::status;

/// What all services share.
#[derive(Debug)]
pub struct Node {
    pub store: Arc<Store>,
    pub options: Options,
    pub identity: Identity,
    /// Where clients find us.
    pub client_urls: Vec<String>,
    pub metrics: Metrics,
    /// Taken by whoever reads the whole store.
    pub whole_readers: Arc<Semaphore>,
    pub alarms: Alarms,
    pub auth: Auth,
}

/// Who a member of this name is: the same at every start.
pub fn identity(name: &str) -> Identity {
    // FNV-1a: the number must be the same at every start and in every release.
    let hash = |what: &str| {
        let bytes = what.bytes().chain(name.bytes());
        let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        bytes.fold(0xcbf2_9ce4_8422_2325, step).max(1)
    };
    Identity {
        cluster_id: hash("cluster"),
        member_id: hash("member"),
        raft_term: 2,
    }
}

/// Microseconds since the Unix epoch.
pub fn now_micros() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

impl Node {
    pub fn header(&self, revision: Revision) -> Option<ResponseHeader> {
        self.identity.header(revision)
    }

    /// The header of an answer that rests on nothing in particular.
    pub fn header_now(&self) -> Option<ResponseHeader> {
        self.header(self.store.applied())
    }

    /// Returns once `revision` is visible in what an answer rests on.
    pub async fn visible(&self, touched: &Touched, revision: Revision) -> Result<(), Status> {
        self.wait(|cx| touched.poll_visible(revision, cx)).await
    }

    /// Returns once `revision` is visible in every collection the range touches.
    pub async fn range_visible(&self, range: &KeyRange, revision: Revision) -> Result<(), Status> {
        self.wait(|cx| self.store.poll_range_visible(range, revision, cx))
            .await
    }

    /// Returns once everything queued for the log so far is on the medium.
    pub async fn logged(&self) -> Result<(), Status> {
        let position = self.store.log_position();
        self.wait(|cx| self.store.poll_logged(position, cx)).await
    }

    /// Returns once the whole store may be read; refuses when that would take too long.
    pub async fn whole_reader(&self) -> Result<OwnedSemaphorePermit, Status> {
        let permit = self.whole_readers.clone().acquire_owned();
        match tokio::time::timeout(ANSWER_TIMEOUT, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(status(RpcError::STOPPED)),
            Err(_) => Err(status(RpcError::TOO_MANY_REQUESTS)),
        }
    }

    async fn wait(&self, poll: impl FnMut(&mut Context<'_>) -> Poll<()>) -> Result<(), Status> {
        if tokio::time::timeout(ANSWER_TIMEOUT, poll_fn(poll))
            .await
            .is_ok()
        {
            return Ok(());
        }
        Err(self.too_slow())
    }

    /// Why an answer did not become visible in time.
    pub fn too_slow(&self) -> Status {
        count(&self.metrics.slow_answers);
        status(if self.store.failure().is_some() {
            RpcError::STOPPED
        } else {
            RpcError::TIMEOUT
        })
    }
}

//! Maintenance: status, alarms, checksums; what a single member can say of the rest.

use bbolt::etcd::Hasher;
use etcd_wire::RpcError;
use etcd_wire::etcdserverpb as pb;
use kv::{KeyRange, Revision};
use pb::AlarmType;
use pb::alarm_request::AlarmAction;
use store::CollectionStats;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::backend::{Backend, BackendError, KvHash, hash_kv, hash_of_nothing};
use crate::downgrade;
use crate::limits::{ETCD_VERSION, SNAPSHOT_PIECES_WAITING_MAX};
use crate::node::Node;
use crate::refuse::{read_error, status};
use crate::rpc::maintenance_server::Maintenance;
use crate::snapshot_stream::{Piece, send_snapshot};

impl Node {
    /// What all collections hold together.
    pub fn totals(&self) -> CollectionStats {
        let mut total = CollectionStats::default();
        for stats in self
            .store
            .collections()
            .iter()
            .map(|collection| collection.stats())
        {
            total.keys += stats.keys;
            total.live_bytes += stats.live_bytes;
            total.history_entries += stats.history_entries;
            total.history_bytes += stats.history_bytes;
            total.watchers += stats.watchers;
        }
        total
    }
}

#[tonic::async_trait]
impl Maintenance for Api {
    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        let access = self.access(request.metadata())?;
        let request = request.get_ref();
        // Whoever has a name may look.
        match request.action() {
            AlarmAction::Get => access.known().map_err(status)?,
            AlarmAction::Activate | AlarmAction::Deactivate => access.admin().map_err(status)?,
        }
        let (node, kind) = (&self.node, request.alarm());
        let member = pb::AlarmMember {
            member_id: request.member_id,
            alarm: kind.into(),
        };
        let alarms = match request.action() {
            AlarmAction::Get => {
                let is_wanted =
                    |up: &pb::AlarmMember| kind == AlarmType::None || up.alarm() == kind;
                node.alarms().into_iter().filter(is_wanted).collect()
            }
            // "Any" is nothing that could be raised or ended: clients end one alarm after the other.
            _ if kind == AlarmType::None => Vec::new(),
            AlarmAction::Activate => vec![node.raise(member).await?],
            AlarmAction::Deactivate => node.disarm(member).await?.into_iter().collect(),
        };
        Ok(Response::new(pb::AlarmResponse {
            header: node.header_now(),
            alarms,
        }))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        self.require_known(request.metadata())?;
        let node = &self.node;
        let totals = node.totals();
        let applied = node.store.applied();
        let index = applied.0.unsigned_abs();
        let said = |up: pb::AlarmMember| {
            let name = up.alarm().as_str_name();
            format!("memberID:{} alarm:{name} ", up.member_id)
        };
        let alarms = node.alarms().into_iter().map(said);
        let errors = node.store.failure().into_iter().chain(alarms).collect();
        Ok(Response::new(pb::StatusResponse {
            header: node.header(applied),
            version: ETCD_VERSION.into(),
            db_size: size(node.store.used_bytes()),
            leader: node.identity.member_id,
            raft_index: index,
            raft_term: node.identity.raft_term,
            raft_applied_index: index,
            errors,
            db_size_in_use: size(totals.live_bytes),
            is_learner: false,
            storage_version: node.cluster_version(),
            db_size_quota: match node.options.quota_bytes {
                u64::MAX => -1,
                bytes => size(bytes),
            },
            downgrade_info: Some(node.downgrade_info()),
        }))
    }

    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.require_admin(request.metadata())?;
        // Space is given back as it comes free: there is nothing to do. etcd's answer has no header either.
        Ok(Response::new(pb::DefragmentResponse::default()))
    }

    async fn hash(
        &self,
        request: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        self.require_admin(request.metadata())?;
        let node = self.node.clone();
        let at = node.store.applied();
        node.range_visible(&KeyRange::all(), at).await?;
        let hash = self
            .whole(move || {
                let backend = Backend {
                    store: &node.store,
                    at,
                    raft_term: node.identity.raft_term,
                    now_micros: None,
                };
                let mut hasher = Hasher::default();
                backend.write(&mut hasher, |_| true)?;
                Ok(hasher.value())
            })
            .await?;
        Ok(Response::new(pb::HashResponse {
            header: self.node.header(at),
            hash,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        self.require_admin(request.metadata())?;
        let node = self.node.clone();
        let asked = Revision(request.get_ref().revision);
        let applied = node.store.applied();
        let at = if asked.0 == 0 { applied } else { asked };
        let hash = if at.0 < 0 {
            // etcd takes it: there is nothing before the beginning.
            let compacted = node.store.compacted();
            KvHash {
                hash: hash_of_nothing(),
                compacted: Some(compacted).filter(|revision| revision.0 > 0),
            }
        } else {
            node.range_visible(&KeyRange::all(), at.min(applied))
                .await?;
            self.whole(move || hash_kv(&node.store, at, |_| true))
                .await?
        };
        Ok(Response::new(pb::HashKvResponse {
            header: self.node.header(applied),
            hash: hash.hash,
            compact_revision: hash.compacted.map_or(-1, |revision| revision.0),
            hash_revision: at.0,
        }))
    }

    type SnapshotStream = ReceiverStream<Piece>;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.require_admin(request.metadata())?;
        let node = self.node.clone();
        let permit = node.whole_reader().await?;
        let at = node.store.applied();
        node.range_visible(&KeyRange::all(), at).await?;
        let (pieces, taken) = mpsc::channel(SNAPSHOT_PIECES_WAITING_MAX);
        tokio::task::spawn_blocking(move || send_snapshot(&node, at, permit, &pieces));
        Ok(Response::new(ReceiverStream::new(taken)))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.require_admin(request.metadata())?;
        if request.get_ref().target_id != self.node.identity.member_id {
            return Err(status(RpcError::BAD_LEADER_TRANSFEREE));
        }
        // The only member leads already. etcd's answer has no header either.
        Ok(Response::new(pb::MoveLeaderResponse::default()))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        self.require_admin(request.metadata())?;
        let answer = downgrade::downgrade(self, request.get_ref()).await?;
        Ok(Response::new(answer))
    }
}

impl Api {
    /// Does what reads the whole store on a thread of its own, a few at a time.
    async fn whole<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, BackendError> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = self.node.whole_reader().await?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        match done.await {
            Ok(result) => result.map_err(backend_error),
            Err(_) => Err(status(RpcError::STOPPED)),
        }
    }
}

/// A copy or checksum that was not finished.
pub fn backend_error(error: BackendError) -> Status {
    match error {
        BackendError::Read(error) => status(read_error(error)),
        BackendError::Write(_) | BackendError::GivenUp => Status::internal(error.to_string()),
    }
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

//! Maintenance: status, alarms, checksums; what a single member can say of the rest.

use std::pin::Pin;

use etcd_wire::RpcError;
use etcd_wire::etcdserverpb as pb;
use kv::{KeyRange, KeyValue, RangeOp, Revision};
use pb::AlarmType;
use pb::alarm_request::AlarmAction;
use store::CollectionStats;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::limits::{ETCD_VERSION, HASH_PAGE_KEYS};
use crate::node::Node;
use crate::refuse::{status, store_error};
use crate::rpc::maintenance_server::Maintenance;

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
        let request = request.get_ref();
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
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
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
            storage_version: "3.6.0".into(),
            db_size_quota: match node.options.quota_bytes {
                u64::MAX => -1,
                bytes => size(bytes),
            },
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    async fn defragment(
        &self,
        _: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        // Space is given back as it comes free: there is nothing to do.
        Ok(Response::new(pb::DefragmentResponse {
            header: self.node.header_now(),
        }))
    }

    async fn hash(
        &self,
        _: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        let revision = self.node.store.applied();
        let hash = self.checksum(revision).await?;
        Ok(Response::new(pb::HashResponse {
            header: self.node.header(revision),
            hash,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let store = &self.node.store;
        let applied = store.applied();
        let asked = Revision(request.get_ref().revision);
        let revision = if asked.0 <= 0 { applied } else { asked };
        let compacted = store.compacted();
        if revision < compacted {
            return Err(status(RpcError::COMPACTED));
        }
        let hash = self.checksum(revision).await?;
        Ok(Response::new(pb::HashKvResponse {
            header: self.node.header(applied),
            hash,
            compact_revision: compacted.0,
            hash_revision: revision.0,
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        _: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let text = "megaplane: snapshots over the wire are not there yet; copy the data directory of a stopped store";
        Err(status(RpcError::unimplemented(text)))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        if request.get_ref().target_id != self.node.identity.member_id {
            return Err(status(RpcError::BAD_LEADER_TRANSFEREE));
        }
        // The only member leads already.
        Ok(Response::new(pb::MoveLeaderResponse {
            header: self.node.header_now(),
        }))
    }

    async fn downgrade(
        &self,
        _: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        Err(status(RpcError::unimplemented(
            "megaplane: there is no older release to go back to",
        )))
    }
}

impl Api {
    /// FNV-1a over keys, values and counters at a revision, in key order, a page at a time.
    async fn checksum(&self, revision: Revision) -> Result<u32, Status> {
        let mut hash = Fnv(0x811c_9dc5);
        let mut op = RangeOp::new(KeyRange::all());
        op.revision = revision;
        op.limit = HASH_PAGE_KEYS;
        loop {
            let page = self
                .node
                .store
                .range(&op)
                .map_err(|error| status(store_error(error)))?;
            page.kvs.iter().for_each(|kv| hash.key_value(kv));
            let Some(last) = page.kvs.last().filter(|_| page.more) else {
                return Ok(hash.0);
            };
            // The key right after the last one.
            op.range.start = [&last.key[..], &[0]].concat().into();
            tokio::task::yield_now().await;
        }
    }
}

struct Fnv(u32);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    fn key_value(&mut self, kv: &KeyValue) {
        self.bytes(&(kv.key.len() as u64).to_le_bytes());
        self.bytes(&kv.key);
        self.bytes(&kv.value);
        for number in [
            kv.create_revision.0,
            kv.mod_revision.0,
            kv.version,
            kv.lease.0,
        ] {
            self.bytes(&number.to_le_bytes());
        }
    }
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

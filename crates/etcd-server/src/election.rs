//! The election service: whoever is at the head of a name's queue leads, and its key's value is what it says.
//!
//! Differs from etcd, knowingly: a candidate whose key is gone when its turn comes is told that it does not lead;
//! etcd tells it that it does. An observer whose reads are refused hears why; etcd ends its stream without a word.

use std::collections::VecDeque;

use bytes::Bytes;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::mvccpb;
use etcd_wire::v3electionpb as words;
use kv::{KeyRange, Revision};
use pb::request_op::Request as Operation;
use store::{RangeWatcher, WatchItem};
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::election_rpc::election_server::Election;
use crate::queue::{
    Caller, Place, as_etcd_says_it, created_at, events, found, get, head, key, one, operation,
    prefix, put, revision, watch,
};
use crate::stepping::{Stepping, Steps};

const NOT_LEADER: &str = "election: not leader";
const NO_LEADER: &str = "election: no leader";
const NO_KEY: &str = "\"leader\" field must be provided";

#[tonic::async_trait]
impl Election for Api {
    async fn campaign(
        &self,
        request: Request<words::CampaignRequest>,
    ) -> Result<Response<words::CampaignResponse>, Status> {
        let (caller, request) = Caller::of(self, request);
        let elected = campaign(&caller, request).await;
        elected.map(Response::new).map_err(as_etcd_says_it)
    }

    async fn proclaim(
        &self,
        request: Request<words::ProclaimRequest>,
    ) -> Result<Response<words::ProclaimResponse>, Status> {
        let (caller, words::ProclaimRequest { leader, value }) = Caller::of(self, request);
        let leader = leader.ok_or_else(|| Status::unknown(NO_KEY))?;
        let said = proclaim(&caller, leader, value)
            .await
            .map_err(as_etcd_says_it)?;
        Ok(Response::new(words::ProclaimResponse {
            header: said.header,
        }))
    }

    async fn leader(
        &self,
        request: Request<words::LeaderRequest>,
    ) -> Result<Response<words::LeaderResponse>, Status> {
        let (caller, request) = Caller::of(self, request);
        let head = caller.range(head(&prefix(&request.name))).await;
        let mut head = head.map_err(as_etcd_says_it)?;
        let kv = head.kvs.pop().ok_or_else(|| Status::unknown(NO_LEADER))?;
        Ok(Response::new(words::LeaderResponse {
            header: head.header,
            kv: Some(kv),
        }))
    }

    type ObserveStream = Stepping<Observer>;

    async fn observe(
        &self,
        request: Request<words::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let (caller, request) = Caller::of(self, request);
        let prefix = prefix(&request.name);
        Ok(Response::new(Stepping::new(Observer {
            caller,
            prefix,
            place: Look::Head,
        })))
    }

    async fn resign(
        &self,
        request: Request<words::ResignRequest>,
    ) -> Result<Response<words::ResignResponse>, Status> {
        let (caller, request) = Caller::of(self, request);
        let leader = request.leader.ok_or_else(|| Status::unknown(NO_KEY))?;
        let delete = pb::DeleteRangeRequest {
            key: leader.key.clone(),
            ..Default::default()
        };
        let resign = pb::TxnRequest {
            compare: vec![created_at(&leader.key, leader.rev)],
            success: vec![operation(Operation::RequestDeleteRange(delete))],
            failure: Vec::new(),
        };
        let reply = caller.txn(resign).await.map_err(as_etcd_says_it)?;
        Ok(Response::new(words::ResignResponse {
            header: reply.header,
        }))
    }
}

async fn campaign(
    caller: &Caller,
    request: words::CampaignRequest,
) -> Result<words::CampaignResponse, Status> {
    let words::CampaignRequest { name, lease, value } = request;
    let lease = caller.lease(lease).await?;
    let prefix = prefix(&name);
    let key = key(&prefix, lease);
    let queue_up = pb::TxnRequest {
        compare: vec![created_at(&key, 0)],
        success: vec![put(&key, value.clone(), lease)],
        failure: vec![get(one(&key))],
    };
    let (mut place, reply) = Place::take(caller, &key, queue_up).await?;
    let mut leader = words::LeaderKey {
        name,
        key,
        rev: revision(reply.header.as_ref()),
        lease,
    };
    let before = found(&reply, 0);
    if let Some(kv) = before {
        leader.rev = kv.create_revision;
    }
    place.taken_at(leader.rev);
    if before.is_some_and(|kv| kv.value != value) {
        proclaim(caller, leader.clone(), value).await?;
    }
    place.wait(caller, &prefix).await?;
    let held = caller.range(one(&leader.key)).await?;
    if held
        .kvs
        .first()
        .is_none_or(|kv| kv.create_revision != leader.rev)
    {
        return Err(Status::unknown(NOT_LEADER));
    }
    place.keep();
    Ok(words::CampaignResponse {
        header: reply.header,
        leader: Some(leader),
    })
}

async fn proclaim(
    caller: &Caller,
    leader: words::LeaderKey,
    value: Bytes,
) -> Result<pb::TxnResponse, Status> {
    let lease = caller.lease(leader.lease).await?;
    let say = pb::TxnRequest {
        compare: vec![created_at(&leader.key, leader.rev)],
        success: vec![put(&leader.key, value, lease)],
        failure: Vec::new(),
    };
    let reply = caller.txn(say).await?;
    if !reply.succeeded {
        return Err(Status::unknown(NOT_LEADER));
    }
    Ok(reply)
}

/// Tells who leads, each time that changes, and what the leader says, each time it says something.
pub struct Observer {
    caller: Caller,
    prefix: Bytes,
    place: Look,
}

enum Look {
    /// At the head of the queue.
    Head,
    /// For the first who comes.
    First(RangeWatcher),
    /// At what the leader says.
    Leader(RangeWatcher, VecDeque<WatchItem>, Revision),
}

impl Steps for Observer {
    type Answer = words::LeaderResponse;

    async fn step(&mut self) -> Option<Result<words::LeaderResponse, Status>> {
        Some(self.next().await.map_err(as_etcd_says_it))
    }
}

impl Observer {
    async fn next(&mut self) -> Result<words::LeaderResponse, Status> {
        loop {
            match &mut self.place {
                Look::Head => {
                    let mut range = self.caller.range(head(&self.prefix)).await?;
                    let seen = Revision(revision(range.header.as_ref()));
                    if let Some(kv) = range.kvs.pop() {
                        self.follow(&kv.key, seen)?;
                        return Ok(words::LeaderResponse {
                            header: range.header,
                            kv: Some(kv),
                        });
                    }
                    let range = KeyRange::prefix(self.prefix.clone());
                    match watch(self.caller.node(), range, seen)? {
                        Some(cursor) => self.place = Look::First(cursor),
                        None => tokio::task::yield_now().await,
                    }
                }
                Look::First(cursor) => {
                    let Some((items, _)) = events(cursor).await else {
                        self.place = Look::Head;
                        continue;
                    };
                    if let Some(kv) = items.into_iter().find_map(key_value) {
                        self.follow(&kv.key, Revision(kv.mod_revision))?;
                        return Ok(self.said(kv.mod_revision, kv));
                    }
                }
                Look::Leader(cursor, waiting, through) => {
                    if let Some(item) = waiting.pop_front() {
                        let through = through.0;
                        match key_value(item) {
                            Some(kv) => return Ok(self.said(through, kv)),
                            None => self.place = Look::Head,
                        }
                        continue;
                    }
                    match events(cursor).await {
                        Some((items, reach)) => {
                            waiting.extend(items);
                            *through = reach;
                        }
                        None => self.place = Look::Head,
                    }
                }
            }
        }
    }

    /// From here on, what this leader says.
    fn follow(&mut self, key: &Bytes, after: Revision) -> Result<(), Status> {
        let cursor = watch(self.caller.node(), KeyRange::one(key.clone()), after)?;
        self.place = match cursor {
            Some(cursor) => Look::Leader(cursor, VecDeque::new(), after),
            None => Look::Head,
        };
        Ok(())
    }

    fn said(&self, revision: i64, kv: mvccpb::KeyValue) -> words::LeaderResponse {
        words::LeaderResponse {
            header: self.caller.node().header(Revision(revision)),
            kv: Some(kv),
        }
    }
}

/// A put's key with its value; nothing for a deletion.
fn key_value(item: WatchItem) -> Option<mvccpb::KeyValue> {
    Some(mvccpb::KeyValue {
        value: item.value?,
        key: item.key,
        create_revision: item.create_revision.0,
        mod_revision: item.revision.0,
        version: item.version,
        lease: item.lease.0,
    })
}

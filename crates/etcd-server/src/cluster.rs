//! Cluster: the only member is this one.

use etcd_wire::RpcError;
use etcd_wire::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::refuse::status;
use crate::rpc::cluster_server::Cluster;

const SINGLE: RpcError = RpcError {
    code: etcd_wire::Code::Unimplemented,
    text: std::borrow::Cow::Borrowed(
        "megaplane: this store has one member, and members cannot be changed yet",
    ),
};

#[tonic::async_trait]
impl Cluster for Api {
    async fn member_add(
        &self,
        _: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(status(SINGLE))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.check_member(request.get_ref().id)?;
        Err(status(SINGLE))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.check_member(request.get_ref().id)?;
        Err(status(SINGLE))
    }

    async fn member_list(
        &self,
        _: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let node = &self.node;
        let member = pb::Member {
            id: node.identity.member_id,
            name: node.options.name.clone(),
            peer_ur_ls: node.options.advertise_peer_urls.clone(),
            client_ur_ls: node.client_urls.clone(),
            is_learner: false,
        };
        Ok(Response::new(pb::MemberListResponse {
            header: node.header_now(),
            members: vec![member],
        }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.check_member(request.get_ref().id)?;
        Err(status(SINGLE))
    }
}

impl Api {
    fn check_member(&self, id: u64) -> Result<(), Status> {
        if id == self.node.identity.member_id {
            return Ok(());
        }
        Err(status(RpcError::MEMBER_NOT_FOUND))
    }
}

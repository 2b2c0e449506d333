//! Cluster: the only member is this one. It answers as a healthy etcd of one member does, but for taking in another.

use bytes::Bytes;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::{Code, RpcError};
use kv::Revision;
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::node::Node;
use crate::refuse::{status, store_error};
use crate::rpc::cluster_server::Cluster;

const SINGLE: RpcError = RpcError {
    code: Code::Unimplemented,
    text: std::borrow::Cow::Borrowed(
        "megaplane: this store has one member, and members cannot be added yet",
    ),
};

const BAD_URLS: &str = "etcdserver: given member URLs are invalid";
const URL_EXISTS: &str = "etcdserver: Peer URLs already exists";
const NOT_LEARNER: &str = "etcdserver: can only promote a learner member";
const LAST_MEMBER: &str = "etcdserver: re-configuration failed due to not enough started members";

/// The setting that holds the peer URLs, once they were changed: a `Member` with nothing else.
const SETTING: &[u8] = b"member";

#[tonic::async_trait]
impl Cluster for Api {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let urls = &request.get_ref().peer_ur_ls;
        if urls.is_empty() || !urls.iter().all(|url| is_peer_url(url)) {
            return Err(Status::invalid_argument(BAD_URLS));
        }
        self.require_admin(request.metadata())?;
        let ours = self.node.peer_urls();
        if urls.iter().any(|url| ours.contains(url)) {
            return Err(Status::failed_precondition(URL_EXISTS));
        }
        Err(status(SINGLE))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.require_admin(request.metadata())?;
        self.check_member(request.get_ref().id)?;
        // etcd's table of codes has none for this one.
        Err(Status::unknown(LAST_MEMBER))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.require_admin(request.metadata())?;
        self.check_member(request.get_ref().id)?;
        let member = pb::Member {
            peer_ur_ls: request.into_inner().peer_ur_ls,
            ..Default::default()
        };
        let value = Bytes::from(member.encode_to_vec());
        self.node
            .store
            .set_settings([(Bytes::from_static(SETTING), Some(value))])
            .map_err(|error| status(store_error(error)))?;
        self.node.logged().await?;
        Ok(Response::new(pb::MemberUpdateResponse {
            header: self.node.header(NO_REVISION),
            members: vec![self.node.member()],
        }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        self.require_known(request.metadata())?;
        Ok(Response::new(pb::MemberListResponse {
            header: self.node.header(NO_REVISION),
            members: vec![self.node.member()],
        }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.require_admin(request.metadata())?;
        self.check_member(request.get_ref().id)?;
        Err(Status::failed_precondition(NOT_LEARNER))
    }
}

/// These answers are about members, and etcd's name no revision.
const NO_REVISION: Revision = Revision(0);

impl Node {
    fn member(&self) -> pb::Member {
        pb::Member {
            id: self.identity.member_id,
            name: self.options.name.clone(),
            peer_ur_ls: self.peer_urls(),
            client_ur_ls: self.client_urls.clone(),
            is_learner: false,
        }
    }

    /// As they were last set by a call, or else as we were started.
    fn peer_urls(&self) -> Vec<String> {
        let kept = self.store.setting(SETTING);
        let kept = kept.and_then(|member| pb::Member::decode(member).ok());
        kept.map_or_else(
            || self.options.advertise_peer_urls.clone(),
            |member| member.peer_ur_ls,
        )
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

/// Whether a member could be found there: `http://HOST:PORT`, or a socket's path.
fn is_peer_url(url: &str) -> bool {
    let url = url.trim();
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    match scheme {
        "unix" | "unixs" => true,
        "http" | "https" => {
            let port = rest.rsplit_once(':').map(|(_, port)| port);
            port.is_some_and(|port| port.parse::<u16>().is_ok()) && !rest.contains('/')
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_found_at_a_host_and_a_port() {
        for url in [
            "http://a:2380",
            "https://[::1]:2380",
            " http://a:1",
            "unix://a",
        ] {
            assert!(is_peer_url(url), "{url}");
        }
        for url in [
            "",
            "a:2380",
            "http://a",
            "http://a:b",
            "http://a:1/x",
            "ftp://a:1",
            "://a:1",
        ] {
            assert!(!is_peer_url(url), "{url}");
        }
    }
}

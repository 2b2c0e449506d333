//! Clients that say who they are, of our server or of any.

use etcd_server::election_rpc::election_client::ElectionClient;
use etcd_server::lock_rpc::lock_client::LockClient;
use etcd_server::rpc::auth_client::AuthClient;
use etcd_server::rpc::cluster_client::ClusterClient;
use etcd_server::rpc::kv_client::KvClient;
use etcd_server::rpc::lease_client::LeaseClient;
use etcd_server::rpc::maintenance_client::MaintenanceClient;
use etcd_server::rpc::watch_client::WatchClient;
use etcd_wire::authpb;
use etcd_wire::authpb::permission::Type;
use etcd_wire::etcdserverpb as pb;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

pub type Wire = InterceptedService<Channel, Token>;

/// What an answer is reduced to when it is an error.
pub type Refusal = (Code, String);

pub fn refusal(status: Status) -> Refusal {
    (status.code(), status.message().to_owned())
}

/// Metadata that goes with every request.
#[derive(Clone, Debug)]
pub struct Token(pub Option<(&'static str, String)>);

impl tonic::service::Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some((name, value)) = &self.0 {
            let value = value.parse().unwrap();
            request.metadata_mut().insert(*name, value);
        }
        Ok(request)
    }
}

/// Everything there is, in one user's name or in nobody's.
#[derive(Clone, Debug)]
pub struct Caller {
    pub auth: AuthClient<Wire>,
    pub kv: KvClient<Wire>,
    pub lease: LeaseClient<Wire>,
    pub watch: WatchClient<Wire>,
    pub maintenance: MaintenanceClient<Wire>,
    pub cluster: ClusterClient<Wire>,
    pub lock: LockClient<Wire>,
    pub election: ElectionClient<Wire>,
}

pub async fn channel(url: &str) -> Channel {
    let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
    endpoint.connect().await.unwrap()
}

impl Caller {
    pub fn with(channel: &Channel, token: Token) -> Caller {
        let wire = || InterceptedService::new(channel.clone(), token.clone());
        Caller {
            auth: AuthClient::new(wire()),
            kv: KvClient::new(wire()),
            lease: LeaseClient::new(wire()),
            watch: WatchClient::new(wire()),
            maintenance: MaintenanceClient::new(wire()),
            cluster: ClusterClient::new(wire()),
            lock: LockClient::new(wire()),
            election: ElectionClient::new(wire()),
        }
    }

    pub fn nobody(channel: &Channel) -> Caller {
        Caller::with(channel, Token(None))
    }

    pub fn of_token(channel: &Channel, token: &str) -> Caller {
        Caller::with(channel, Token(Some(("token", token.to_owned()))))
    }

    pub async fn log_in(channel: &Channel, name: &str, password: &str) -> Result<Caller, Refusal> {
        let token = token(channel, name, password).await?;
        Ok(Caller::of_token(channel, &token))
    }

    pub async fn add_user(&mut self, name: &str, password: &str) -> Result<(), Refusal> {
        let add = pb::AuthUserAddRequest {
            name: name.into(),
            password: password.into(),
            ..Default::default()
        };
        let added = self.auth.user_add(add).await;
        added.map(drop).map_err(refusal)
    }

    pub async fn add_role(&mut self, name: &str) -> Result<(), Refusal> {
        let add = pb::AuthRoleAddRequest { name: name.into() };
        let added = self.auth.role_add(add).await;
        added.map(drop).map_err(refusal)
    }

    pub async fn grant(&mut self, user: &str, role: &str) -> Result<(), Refusal> {
        let grant = pb::AuthUserGrantRoleRequest {
            user: user.into(),
            role: role.into(),
        };
        let granted = self.auth.user_grant_role(grant).await;
        granted.map(drop).map_err(refusal)
    }

    pub async fn permit(
        &mut self,
        role: &str,
        kind: Type,
        key: &str,
        end: &str,
    ) -> Result<(), Refusal> {
        let grant = pb::AuthRoleGrantPermissionRequest {
            name: role.into(),
            perm: Some(authpb::Permission {
                perm_type: kind.into(),
                key: key.to_owned().into(),
                range_end: end.to_owned().into(),
            }),
        };
        let granted = self.auth.role_grant_permission(grant).await;
        granted.map(drop).map_err(refusal)
    }

    /// Makes root, with the password `secret`, and turns the rules on.
    pub async fn enable(&mut self) {
        self.add_user("root", "secret").await.unwrap();
        self.grant("root", "root").await.unwrap();
        self.auth
            .auth_enable(pb::AuthEnableRequest {})
            .await
            .unwrap();
    }

    /// Adds a user, with its name for a password, who may do this with a range.
    pub async fn add_user_who_may(&mut self, name: &str, kind: Type, key: &str, end: &str) {
        self.add_user(name, name).await.unwrap();
        self.add_role(name).await.unwrap();
        self.permit(name, kind, key, end).await.unwrap();
        self.grant(name, name).await.unwrap();
    }

    pub async fn put(&mut self, key: &str) -> Result<i64, Refusal> {
        let put = pb::PutRequest {
            key: key.to_owned().into(),
            value: "v".into(),
            ..Default::default()
        };
        let put = self.kv.put(put).await.map_err(refusal)?;
        Ok(put.into_inner().header.unwrap().revision)
    }

    pub async fn get(&mut self, key: &str) -> Result<usize, Refusal> {
        self.range(key, "").await
    }

    pub async fn range(&mut self, key: &str, end: &str) -> Result<usize, Refusal> {
        let range = pb::RangeRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            ..Default::default()
        };
        let found = self.kv.range(range).await.map_err(refusal)?;
        Ok(found.into_inner().kvs.len())
    }
}

/// A new token.
pub async fn token(channel: &Channel, name: &str, password: &str) -> Result<String, Refusal> {
    let request = pb::AuthenticateRequest {
        name: name.into(),
        password: password.into(),
    };
    let mut auth = AuthClient::new(channel.clone());
    let answer = auth.authenticate(request).await.map_err(refusal)?;
    Ok(answer.into_inner().token)
}

/// What is said to who may not.
pub fn denied() -> Refusal {
    let text = "etcdserver: permission denied";
    (Code::PermissionDenied, text.into())
}

/// What is said to nobody.
pub fn empty() -> Refusal {
    let text = "etcdserver: user name is empty";
    (Code::InvalidArgument, text.into())
}

/// What is said of a token that is not good.
pub fn invalid_token() -> Refusal {
    let text = "etcdserver: invalid auth token";
    (Code::Unauthenticated, text.into())
}

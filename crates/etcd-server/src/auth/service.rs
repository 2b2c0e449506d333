//! Auth: the calls that look at the access rules and change them.
//!
//! Each change is decided in `changes`, under the rules as they are when it is its turn: who was in charge when the
//! call came need not be any more.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use etcd_wire::authpb::permission::Type;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::{RpcError, authpb};
use tonic::{Request, Response, Status};

use super::access::Access;
use super::changes::{self, Changed};
use super::rules::{ROOT, Rules};
use crate::api::Api;
use crate::refuse::status;
use crate::rpc::auth_server::Auth;

impl Api {
    /// Changes the rules for whoever is in charge, and returns when that is kept.
    async fn change_rules(
        &self,
        access: &Access,
        change: impl FnOnce(&Rules) -> Changed,
    ) -> Result<Option<pb::ResponseHeader>, Status> {
        let allowed = |rules: &Arc<Rules>| {
            access.moved_to(rules).admin()?;
            change(rules)
        };
        self.node
            .auth
            .change(&self.node.store, allowed)
            .map_err(status)?;
        // Also when nothing changed: what is so may not be kept yet.
        self.node.logged().await?;
        Ok(self.node.header_now())
    }

    /// The hash of a new password: made here, or made by the caller.
    async fn password(&self, password: String, hashed: &str) -> Result<Bytes, Status> {
        if password.is_empty() && !hashed.is_empty() {
            let hash = STANDARD.decode(hashed);
            return match hash {
                Ok(hash) => Ok(hash.into()),
                Err(_) => Err(status(RpcError::NO_PASSWORD_USER)),
            };
        }
        let hash = self.node.auth.passwords.hash(password);
        hash.await.map_err(status)
    }
}

fn text(name: &Bytes) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[tonic::async_trait]
impl Auth for Api {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let access = self.access(request.metadata())?;
        let header = self.change_rules(&access, changes::enable).await?;
        tracing::info!("access rules are on");
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let access = self.access(request.metadata())?;
        let header = self.change_rules(&access, changes::disable).await?;
        tracing::info!("access rules are off");
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        self.require_admin(request.metadata())?;
        let rules = self.node.auth.rules();
        Ok(Response::new(pb::AuthStatusResponse {
            header: self.node.header_now(),
            enabled: rules.is_enabled,
            auth_revision: rules.revision,
        }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let index = self.node.store.applied().0.unsigned_abs();
        let token = self.node.auth.log_in(&name, password, index).await;
        Ok(Response::new(pb::AuthenticateResponse {
            header: self.node.header_now(),
            token: token.map_err(status)?,
        }))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let access = self.access(request.metadata())?;
        // A hash is dear: it is not made for nothing.
        access.admin().map_err(status)?;
        let request = request.into_inner();
        changes::can_add_user(&self.node.auth.rules(), &request.name).map_err(status)?;
        let options = request.options.unwrap_or_default();
        let password = match options.no_password {
            true => Bytes::new(),
            false => {
                self.password(request.password, &request.hashed_password)
                    .await?
            }
        };
        let add = |rules: &Rules| changes::add_user(rules, &request.name, password, options);
        let header = self.change_rules(&access, add).await?;
        tracing::info!(user = request.name, "a user was added");
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let access = self.access(request.metadata())?;
        let name = &request.get_ref().name;
        // Everybody may look at oneself.
        if access.name() != name {
            access.admin().map_err(status)?;
        }
        let rules = self.node.auth.rules();
        let user = rules.user(name.as_bytes());
        let user = user.ok_or_else(|| status(RpcError::USER_NOT_FOUND))?;
        Ok(Response::new(pb::AuthUserGetResponse {
            header: self.node.header_now(),
            roles: user.kept.roles.clone(),
        }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        self.require_admin(request.metadata())?;
        let rules = self.node.auth.rules();
        Ok(Response::new(pb::AuthUserListResponse {
            header: self.node.header_now(),
            users: rules.users().map(|(name, _)| text(name)).collect(),
        }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        let access = self.access(request.metadata())?;
        let name = &request.get_ref().name;
        let delete = |rules: &Rules| changes::delete_user(rules, name);
        let header = self.change_rules(&access, delete).await?;
        tracing::info!(user = name, "a user was deleted");
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let access = self.access(request.metadata())?;
        access.admin().map_err(status)?;
        let request = request.into_inner();
        let (name, hashed) = (&request.name, &request.hashed_password);
        let password = match (&request.password[..], &hashed[..]) {
            // As etcd has it: nobody can log in with it.
            ("", "") => Bytes::new(),
            _ => self.password(request.password, hashed).await?,
        };
        let change = |rules: &Rules| changes::change_password(rules, name, password);
        let header = self.change_rules(&access, change).await?;
        tracing::info!(user = name, "a password was changed");
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        let access = self.access(request.metadata())?;
        let pb::AuthUserGrantRoleRequest { user, role } = request.get_ref();
        let grant = |rules: &Rules| changes::grant_role(rules, user, role);
        let header = self.change_rules(&access, grant).await?;
        tracing::info!(user, role, "a role was granted");
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        let access = self.access(request.metadata())?;
        let pb::AuthUserRevokeRoleRequest { name, role } = request.get_ref();
        let revoke = |rules: &Rules| changes::revoke_role(rules, name, role);
        let header = self.change_rules(&access, revoke).await?;
        tracing::info!(user = name, role, "a role was revoked");
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        let access = self.access(request.metadata())?;
        let name = &request.get_ref().name;
        let add = |rules: &Rules| changes::add_role(rules, name);
        let header = self.change_rules(&access, add).await?;
        tracing::info!(role = name, "a role was added");
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let access = self.access(request.metadata())?;
        let name = &request.get_ref().role;
        // Everybody may look at one's own roles.
        if !access.has_role(name) {
            access.admin().map_err(status)?;
        }
        let rules = self.node.auth.rules();
        let role = rules.role(name.as_bytes());
        let role = role.ok_or_else(|| status(RpcError::ROLE_NOT_FOUND))?;
        let perm = match &name[..] {
            ROOT => vec![everything()],
            _ => role.key_permission.clone(),
        };
        Ok(Response::new(pb::AuthRoleGetResponse {
            header: self.node.header_now(),
            perm,
        }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        self.require_admin(request.metadata())?;
        let rules = self.node.auth.rules();
        Ok(Response::new(pb::AuthRoleListResponse {
            header: self.node.header_now(),
            roles: rules.role_names().map(text).collect(),
        }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        let access = self.access(request.metadata())?;
        let name = &request.get_ref().role;
        let delete = |rules: &Rules| changes::delete_role(rules, name);
        let header = self.change_rules(&access, delete).await?;
        tracing::info!(role = name, "a role was deleted");
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        let access = self.access(request.metadata())?;
        let pb::AuthRoleGrantPermissionRequest { name, perm } = request.get_ref();
        let grant = |rules: &Rules| changes::grant_permission(rules, name, perm.clone());
        let header = self.change_rules(&access, grant).await?;
        tracing::info!(role = name, "a permission was granted");
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse {
            header,
        }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        let access = self.access(request.metadata())?;
        let request = request.get_ref();
        let (role, key, end) = (&request.role, &request.key, &request.range_end);
        let revoke = |rules: &Rules| changes::revoke_permission(rules, role, key, end);
        let header = self.change_rules(&access, revoke).await?;
        tracing::info!(role, "a permission was revoked");
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse {
            header,
        }))
    }
}

/// What etcd says of the role `root`, whatever was granted to it.
fn everything() -> authpb::Permission {
    authpb::Permission {
        perm_type: Type::Readwrite.into(),
        key: Bytes::new(),
        range_end: Bytes::from_static(&[0]),
    }
}

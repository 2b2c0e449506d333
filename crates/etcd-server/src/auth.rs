//! Auth: off, and says so.

use etcd_wire::RpcError;
use etcd_wire::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::refuse::status;
use crate::rpc::auth_server::Auth;

/// A call that would need access rules.
macro_rules! off {
    ($($call:ident: $request:ident => $response:ident;)*) => {
        #[tonic::async_trait]
        impl Auth for Api {
            async fn auth_status(
                &self,
                _: Request<pb::AuthStatusRequest>,
            ) -> Result<Response<pb::AuthStatusResponse>, Status> {
                let header = self.node.header_now();
                Ok(Response::new(pb::AuthStatusResponse { header, enabled: false, auth_revision: 1 }))
            }

            $(async fn $call(&self, _: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                Err(status(RpcError::AUTH_NOT_ENABLED))
            })*
        }
    };
}

off! {
    authenticate: AuthenticateRequest => AuthenticateResponse;
    auth_enable: AuthEnableRequest => AuthEnableResponse;
    auth_disable: AuthDisableRequest => AuthDisableResponse;
    user_add: AuthUserAddRequest => AuthUserAddResponse;
    user_get: AuthUserGetRequest => AuthUserGetResponse;
    user_list: AuthUserListRequest => AuthUserListResponse;
    user_delete: AuthUserDeleteRequest => AuthUserDeleteResponse;
    user_change_password: AuthUserChangePasswordRequest => AuthUserChangePasswordResponse;
    user_grant_role: AuthUserGrantRoleRequest => AuthUserGrantRoleResponse;
    user_revoke_role: AuthUserRevokeRoleRequest => AuthUserRevokeRoleResponse;
    role_add: AuthRoleAddRequest => AuthRoleAddResponse;
    role_get: AuthRoleGetRequest => AuthRoleGetResponse;
    role_list: AuthRoleListRequest => AuthRoleListResponse;
    role_delete: AuthRoleDeleteRequest => AuthRoleDeleteResponse;
    role_grant_permission: AuthRoleGrantPermissionRequest => AuthRoleGrantPermissionResponse;
    role_revoke_permission: AuthRoleRevokePermissionRequest => AuthRoleRevokePermissionResponse;
}

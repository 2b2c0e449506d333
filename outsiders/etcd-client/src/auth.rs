//! Access rules: users, roles and permissions; on, who may do what; off again.

use etcd_client::{
    Client, GetOptions, Permission, PermissionType, RoleRevokePermissionOptions, UserAddOptions,
};

use crate::{Place, code, refused};

const DENIED: &str = "etcdserver: permission denied";

/// The chapter.
pub async fn tell(place: &Place) {
    let mut client = place.client().await;
    client.put("shared/a", "1", None).await.unwrap();
    client.put("private", "1", None).await.unwrap();
    people(&mut client).await;
    if let Some(name) = &place.certified_as {
        let no_password = Some(UserAddOptions::new().with_no_pwd());
        client.user_add(name, "", no_password).await.unwrap();
        client.user_grant_role(name, "reader").await.unwrap();
    }

    client.auth_enable().await.unwrap();
    nobody(&mut client, place).await;
    logged_in(place).await;
    let mut root = place.client_of("root", "top").await.unwrap();
    root.auth_disable().await.unwrap();

    client.put("private", "4", None).await.unwrap();
    for name in client.user_list().await.unwrap().users() {
        client.user_delete(name.as_str()).await.unwrap();
    }
    for name in client.role_list().await.unwrap().roles() {
        client.role_delete(name.as_str()).await.unwrap();
    }
    assert!(client.user_list().await.unwrap().users().is_empty());
}

async fn people(client: &mut Client) {
    let refusal = client.auth_enable().await;
    assert_eq!(
        refused(refusal, "etcdserver: root user does not exist"),
        code::FAILED_PRECONDITION
    );
    client.user_add("root", "top", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();

    client.user_add("ann", "first", None).await.unwrap();
    assert_eq!(
        refused(
            client.user_add("ann", "x", None).await,
            "etcdserver: user name already exists"
        ),
        code::FAILED_PRECONDITION
    );
    client.user_change_password("ann", "secret").await.unwrap();
    client.role_add("reader").await.unwrap();
    let permission = Permission::read("shared/").with_prefix();
    client
        .role_grant_permission("reader", permission.clone())
        .await
        .unwrap();
    let too_much = Permission::new(PermissionType::Readwrite, "private");
    client
        .role_grant_permission("reader", too_much)
        .await
        .unwrap();
    assert_eq!(
        client.role_get("reader").await.unwrap().permissions().len(),
        2
    );
    client
        .role_revoke_permission("reader", "private", None)
        .await
        .unwrap();
    assert_eq!(
        client.role_get("reader").await.unwrap().permissions(),
        [permission]
    );
    let unknown = Some(RoleRevokePermissionOptions::new().with_prefix());
    assert_eq!(
        refused(
            client
                .role_revoke_permission("reader", "none/", unknown)
                .await,
            "etcdserver: permission is not granted to the role"
        ),
        code::FAILED_PRECONDITION
    );
    client.user_grant_role("ann", "reader").await.unwrap();
    assert_eq!(client.user_get("ann").await.unwrap().roles(), ["reader"]);
    assert_eq!(client.user_list().await.unwrap().users(), ["ann", "root"]);
    assert_eq!(
        client.role_list().await.unwrap().roles(),
        ["reader", "root"]
    );
}

/// Without a token: nothing, or what the name in our certificate may.
async fn nobody(client: &mut Client, place: &Place) {
    if place.certified_as.is_some() {
        assert_eq!(client.get("shared/a", None).await.unwrap().count(), 1);
        let refusal = client.put("shared/a", "2", None).await;
        assert_eq!(refused(refusal, DENIED), code::PERMISSION_DENIED);
    } else {
        let refusal = client.get("shared/a", None).await;
        assert_eq!(
            refused(refusal, "etcdserver: user name is empty"),
            code::INVALID_ARGUMENT
        );
    }
}

async fn logged_in(place: &Place) {
    let refusal = place.client_of("ann", "first").await;
    let text = "etcdserver: authentication failed, invalid user ID or password";
    let refusal = refusal.map(|_| "a client");
    assert_eq!(refused(refusal, text), code::INVALID_ARGUMENT);

    let mut ann = place.client_of("ann", "secret").await.unwrap();
    let all = Some(GetOptions::new().with_prefix());
    assert_eq!(ann.get("shared/", all.clone()).await.unwrap().count(), 1);
    for refusal in [
        ann.get("private", None).await.map(|_| ()),
        ann.get("s", all).await.map(|_| ()),
        ann.put("shared/a", "2", None).await.map(|_| ()),
        ann.user_list().await.map(|_| ()),
        ann.auth_disable().await.map(|_| ()),
    ] {
        assert_eq!(refused(refusal, DENIED), code::PERMISSION_DENIED);
    }

    let mut root = place.client_of("root", "top").await.unwrap();
    root.put("private", "3", None).await.unwrap();
    let write = Permission::write("shared/a");
    root.role_grant_permission("reader", write).await.unwrap();
    ann.put("shared/a", "2", None).await.unwrap();
    root.user_revoke_role("ann", "reader").await.unwrap();
    // A change of the rules may end tokens: a new one is asked for.
    let mut ann = place.client_of("ann", "secret").await.unwrap();
    let refusal = ann.get("shared/a", None).await;
    assert_eq!(refused(refusal, DENIED), code::PERMISSION_DENIED);
    let token = root
        .auth_client()
        .authenticate("ann".into(), "secret".into())
        .await
        .unwrap();
    assert!(!token.token().is_empty());
}

//! Each change on its own, and what a crash may leave of it.

use super::*;
use etcd_wire::authpb::permission::Type;

/// Applies a change that must be one.
fn after(changed: Changed) -> Rules {
    changed.unwrap().unwrap().rules
}

fn error(changed: Changed) -> RpcError {
    changed.unwrap_err()
}

fn with_password() -> authpb::UserAddOptions {
    authpb::UserAddOptions { no_password: false }
}

fn add(rules: &Rules, name: &str) -> Rules {
    after(add_user(rules, name, "hash".into(), with_password()))
}

/// Rules with a root in charge, a user u and a role r.
fn enabled() -> Rules {
    let rules = add(&add(&Rules::default(), "root"), "u");
    let rules = after(add_role(&rules, "r"));
    let rules = after(grant_role(&rules, "root", "root"));
    after(enable(&rules))
}

fn permission(
    kind: Type,
    key: &'static str,
    range_end: &'static str,
) -> Option<authpb::Permission> {
    Some(authpb::Permission {
        perm_type: kind.into(),
        key: key.into(),
        range_end: range_end.into(),
    })
}

fn granted(rules: &Rules, role: &str) -> Vec<(i32, Bytes, Bytes)> {
    let role = rules.role(role.as_bytes()).unwrap();
    let all = role.key_permission.iter();
    all.map(|one| (one.perm_type, one.key.clone(), one.range_end.clone()))
        .collect()
}

#[test]
fn rules_are_turned_on_only_when_somebody_is_in_charge() {
    let rules = Rules::default();
    assert_eq!(error(enable(&rules)), RpcError::ROOT_USER_NOT_EXIST);
    let rules = add(&rules, "root");
    assert_eq!(error(enable(&rules)), RpcError::ROOT_ROLE_NOT_EXIST);
    let rules = after(grant_role(&rules, "root", "root"));
    let before = rules.revision;
    let rules = after(enable(&rules));
    assert!(rules.is_enabled);
    assert_eq!(rules.revision, before);
    assert!(enable(&rules).unwrap().is_none());
    let off = disable(&rules).unwrap().unwrap();
    assert_eq!(off.logged_out, LoggedOut::Everybody);
    assert_eq!(
        (off.rules.is_enabled, off.rules.revision),
        (false, before + 1)
    );
    assert!(disable(&off.rules).unwrap().is_none());
}

#[test]
fn while_they_are_on_somebody_stays_in_charge() {
    let on = enabled();
    let on = after(add_role(&on, "root"));
    assert_eq!(error(delete_user(&on, "root")), RpcError::INVALID_AUTH_MGMT);
    assert_eq!(error(delete_role(&on, "root")), RpcError::INVALID_AUTH_MGMT);
    assert_eq!(
        error(revoke_role(&on, "root", "root")),
        RpcError::INVALID_AUTH_MGMT
    );
    let off = after(disable(&on));
    assert!(revoke_role(&off, "root", "root").is_ok());
    assert!(delete_role(&off, "root").is_ok());
    assert!(delete_user(&off, "root").is_ok());
}

#[test]
fn users_come_change_and_go() {
    let rules = enabled();
    assert_eq!(can_add_user(&rules, ""), Err(RpcError::USER_EMPTY));
    assert_eq!(
        error(add_user(&rules, "u", Bytes::new(), with_password())),
        RpcError::USER_ALREADY_EXIST
    );
    let change = change_password(&rules, "u", "other".into())
        .unwrap()
        .unwrap();
    assert_eq!(change.logged_out, LoggedOut::User("u".into()));
    assert_eq!(change.rules.user(b"u").unwrap().kept.password, "other");
    let none = authpb::UserAddOptions { no_password: true };
    let rules = after(add_user(&rules, "c", Bytes::new(), none));
    let rules = after(change_password(&rules, "c", "other".into()));
    assert_eq!(rules.user(b"c").unwrap().kept.password, "");
    let change = delete_user(&rules, "c").unwrap().unwrap();
    assert_eq!(change.logged_out, LoggedOut::User("c".into()));
    assert!(change.rules.user(b"c").is_none());
    assert_eq!(
        error(delete_user(&change.rules, "c")),
        RpcError::USER_NOT_FOUND
    );
    assert_eq!(
        error(change_password(&rules, "x", "p".into())),
        RpcError::USER_NOT_FOUND
    );
}

#[test]
fn roles_are_granted_and_revoked() {
    let rules = enabled();
    assert_eq!(
        error(grant_role(&rules, "x", "r")),
        RpcError::USER_NOT_FOUND
    );
    assert_eq!(
        error(grant_role(&rules, "u", "x")),
        RpcError::ROLE_NOT_FOUND
    );
    let rules = after(grant_role(&rules, "u", "root"));
    let rules = after(grant_role(&rules, "u", "r"));
    assert_eq!(rules.user(b"u").unwrap().kept.roles, ["r", "root"]);
    assert!(grant_role(&rules, "u", "r").unwrap().is_none());
    let rules = after(revoke_role(&rules, "u", "root"));
    assert_eq!(
        error(revoke_role(&rules, "u", "root")),
        RpcError::ROLE_NOT_GRANTED
    );
    let rules = after(delete_role(&rules, "r"));
    assert!(rules.user(b"u").unwrap().kept.roles.is_empty());
    assert_eq!(error(delete_role(&rules, "r")), RpcError::ROLE_NOT_FOUND);
    assert_eq!(error(add_role(&rules, "")), RpcError::ROLE_EMPTY);
    let rules = after(add_role(&rules, "r"));
    assert_eq!(error(add_role(&rules, "r")), RpcError::ROLE_ALREADY_EXIST);
}

#[test]
fn permissions_are_ordered_by_key_and_changed_in_place() {
    let rules = enabled();
    let grant = |rules: &Rules, kind, key, end| {
        after(grant_permission(rules, "r", permission(kind, key, end)))
    };
    let rules = grant(&rules, Type::Read, "m", "");
    let rules = grant(&rules, Type::Write, "a", "\0");
    let rules = grant(&rules, Type::Readwrite, "m", "n");
    let rules = grant(&rules, Type::Write, "m", "n");
    assert_eq!(
        granted(&rules, "r"),
        [
            (1, "a".into(), "\0".into()),
            (0, "m".into(), "".into()),
            (1, "m".into(), "n".into())
        ]
    );
    let rules = after(revoke_permission(&rules, "r", b"m", b"n"));
    assert_eq!(granted(&rules, "r").len(), 2);
    assert_eq!(
        error(revoke_permission(&rules, "r", b"m", b"n")),
        RpcError::PERMISSION_NOT_GRANTED
    );
    let refused = |role, permission| error(grant_permission(&rules, role, permission));
    assert_eq!(refused("r", None), RpcError::PERMISSION_NOT_GIVEN);
    let read = |key, end| permission(Type::Read, key, end);
    assert_eq!(refused("r", read("", "")), RpcError::INVALID_AUTH_MGMT);
    assert_eq!(refused("r", read("", "\0")), RpcError::INVALID_AUTH_MGMT);
    assert_eq!(refused("r", read("b", "a")), RpcError::INVALID_AUTH_MGMT);
    assert_eq!(refused("r", read("b", "b")), RpcError::INVALID_AUTH_MGMT);
    assert_eq!(refused("x", read("a", "")), RpcError::ROLE_NOT_FOUND);
}

#[test]
fn a_change_that_a_crash_cuts_leaves_no_old_token_and_no_role_without_a_role() {
    let rules = after(grant_role(&enabled(), "u", "r"));
    let change = delete_role(&rules, "r").unwrap().unwrap();
    let names: Vec<&[u8]> = change.settings.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(
        names,
        [
            &b"auth/revision"[..],
            &b"auth/users/u"[..],
            &b"auth/roles/r"[..]
        ]
    );
    let revision = change.settings[0].1.as_ref().unwrap();
    assert_eq!(revision[..], change.rules.revision.to_be_bytes());
    assert!(change.settings[2].1.is_none());
}

//! Access rules through gRPC: who may do what, who is who, and what stays after a restart.

mod common;

use std::sync::Arc;

use common::users::{
    Caller, Refusal, Token, channel, denied, empty, invalid_token, refusal, token,
};
use common::{Ours, TempDir};
use etcd_server::{AuthOptions, JwtOptions, Listener, Options, TlsFiles, TokenKind};
use etcd_wire::authpb::permission::Type;
use etcd_wire::etcdserverpb as pb;
use etcd_wire::v3electionpb::{CampaignRequest, LeaderRequest};
use etcd_wire::v3lockpb::{LockRequest, UnlockRequest};
use pb::request_op::Request as Op;
use pb::watch_request::RequestUnion;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tonic::Code;
use tonic::codegen::tokio_stream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

fn cheap() -> AuthOptions {
    AuthOptions {
        bcrypt_cost: 4,
        ..AuthOptions::default()
    }
}

fn options() -> Options {
    Options {
        auth: cheap(),
        ..Options::default()
    }
}

/// A server whose rules are on: root; `reader` who may read from r to s; `writer` who may write from w to x; `both`
/// who may do both from b to c; `poor` who may do nothing.
async fn ruled(options: Options) -> (Ours, Channel, Caller) {
    let ours = Ours::start(options);
    let channel = channel(&ours.url()).await;
    let mut nobody = Caller::nobody(&channel);
    nobody
        .add_user_who_may("reader", Type::Read, "r", "s")
        .await;
    nobody
        .add_user_who_may("writer", Type::Write, "w", "x")
        .await;
    nobody
        .add_user_who_may("both", Type::Readwrite, "b", "c")
        .await;
    nobody.add_user("poor", "poor").await.unwrap();
    nobody.enable().await;
    let root = Caller::log_in(&channel, "root", "secret").await.unwrap();
    (ours, channel, root)
}

async fn user(channel: &Channel, name: &str) -> Caller {
    Caller::log_in(channel, name, name).await.unwrap()
}

#[tokio::test]
async fn users_may_do_what_their_roles_grant() {
    let (_ours, channel, mut root) = ruled(options()).await;
    let mut nobody = Caller::nobody(&channel);
    assert_eq!(nobody.put("b").await, Err(empty()));
    assert_eq!(nobody.get("b").await, Err(empty()));
    assert_eq!(root.put("r1").await, Ok(2));
    assert_eq!(root.range("\0", "\0").await, Ok(1));
    let mut reader = user(&channel, "reader").await;
    assert_eq!(reader.get("r1").await, Ok(1));
    assert_eq!(reader.range("r", "s").await, Ok(1));
    assert_eq!(reader.range("r", "s\0").await, Err(denied()));
    assert_eq!(reader.range("r", "\0").await, Err(denied()));
    assert_eq!(reader.put("r1").await, Err(denied()));
    let mut writer = user(&channel, "writer").await;
    assert_eq!(writer.put("w1").await, Ok(3));
    assert_eq!(writer.get("w1").await, Err(denied()));
    let put = |key: &'static str, prev_kv| pb::PutRequest {
        key: key.into(),
        prev_kv,
        ..Default::default()
    };
    let seen = writer.kv.put(put("w1", true)).await;
    assert_eq!(seen.map(drop).map_err(refusal), Err(denied()));
    let delete = |key: &'static str, range_end: &'static str, prev_kv| pb::DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv,
    };
    let seen = writer.kv.delete_range(delete("w", "x", true)).await;
    assert_eq!(seen.map(drop).map_err(refusal), Err(denied()));
    let wide = writer.kv.delete_range(delete("w", "y", false)).await;
    assert_eq!(wide.map(drop).map_err(refusal), Err(denied()));
    let done = writer.kv.delete_range(delete("w", "x", false)).await;
    assert_eq!(done.unwrap().into_inner().deleted, 1);
    let mut poor = user(&channel, "poor").await;
    assert_eq!(poor.get("b").await, Err(denied()));
    // What is granted holds at once, and so does what is taken back.
    root.grant("poor", "both").await.unwrap();
    assert_eq!(poor.put("b1").await, Ok(5));
    let delete = pb::AuthRoleDeleteRequest {
        role: "both".into(),
    };
    root.auth.role_delete(delete).await.unwrap();
    assert_eq!(poor.put("b1").await, Err(denied()));
}

fn txn(success: Vec<Op>, compare: Option<&'static str>) -> pb::TxnRequest {
    let compare = compare.map(|key| pb::Compare {
        key: key.into(),
        ..Default::default()
    });
    let success = success.into_iter().map(|request| pb::RequestOp {
        request: Some(request),
    });
    pb::TxnRequest {
        compare: compare.into_iter().collect(),
        success: Vec::new(),
        // The branch that does not run counts, too.
        failure: success.collect(),
    }
}

#[tokio::test]
async fn a_transaction_needs_all_that_it_might_do() {
    let (_ours, channel, _) = ruled(options()).await;
    let mut both = user(&channel, "both").await;
    let put = |key: &'static str| {
        Op::RequestPut(pb::PutRequest {
            key: key.into(),
            ..Default::default()
        })
    };
    let get = |key: &'static str| {
        Op::RequestRange(pb::RangeRequest {
            key: key.into(),
            ..Default::default()
        })
    };
    let delete = |key: &'static str| {
        Op::RequestDeleteRange(pb::DeleteRangeRequest {
            key: key.into(),
            ..Default::default()
        })
    };
    let nest = |inner: pb::TxnRequest| Op::RequestTxn(inner);
    for (request, allowed) in [
        (
            txn(vec![put("b1"), get("b2"), delete("b3")], Some("b4")),
            true,
        ),
        (txn(vec![], None), true),
        (txn(vec![], Some("a")), false),
        (txn(vec![put("b1"), put("a")], None), false),
        (txn(vec![get("a")], None), false),
        (txn(vec![delete("a")], None), false),
        (txn(vec![nest(txn(vec![put("b1")], None))], None), true),
        (txn(vec![nest(txn(vec![put("a")], None))], None), false),
        (txn(vec![nest(txn(vec![], Some("a")))], None), false),
    ] {
        let done = both.kv.txn(request.clone()).await;
        let expected = if allowed { Ok(()) } else { Err(denied()) };
        assert_eq!(done.map(drop).map_err(refusal), expected, "{request:?}");
    }
}

#[tokio::test]
async fn leases_belong_to_who_may_write_their_keys() {
    let (_ours, channel, mut root) = ruled(options()).await;
    let grant = |id| pb::LeaseGrantRequest { ttl: 600, id };
    let mut nobody = Caller::nobody(&channel);
    let refused = nobody.lease.lease_grant(grant(1)).await;
    assert_eq!(refused.map(drop).map_err(refusal), Err(empty()));
    let mut both = user(&channel, "both").await;
    let mut poor = user(&channel, "poor").await;
    both.lease.lease_grant(grant(7)).await.unwrap();
    let on_lease = |key: &'static str| pb::PutRequest {
        key: key.into(),
        lease: 7,
        ..Default::default()
    };
    both.kv.put(on_lease("b1")).await.unwrap();
    let keep = || tokio_stream::once(pb::LeaseKeepAliveRequest { id: 7 });
    let kept = both.lease.lease_keep_alive(keep()).await.unwrap();
    let kept = kept.into_inner().message().await.unwrap().unwrap();
    assert_eq!(kept.ttl, 600);
    // Another's key is on it from now on.
    root.kv.put(on_lease("a")).await.unwrap();
    let kept = both.lease.lease_keep_alive(keep()).await;
    let ended = match kept {
        Ok(kept) => kept.into_inner().message().await.map(drop),
        Err(error) => Err(error),
    };
    assert_eq!(ended.map_err(refusal), Err(denied()));
    let put = both.kv.put(on_lease("b2")).await;
    assert_eq!(put.map(drop).map_err(refusal), Err(denied()));
    let op = Op::RequestPut(on_lease("b2"));
    let put = both.kv.txn(txn(vec![op], None)).await;
    assert_eq!(put.map(drop).map_err(refusal), Err(denied()));
    let revoke = pb::LeaseRevokeRequest { id: 7 };
    let revoked = both.lease.lease_revoke(revoke).await;
    assert_eq!(revoked.map(drop).map_err(refusal), Err(denied()));
    let ask = |keys| pb::LeaseTimeToLiveRequest { id: 7, keys };
    let left = poor.lease.lease_time_to_live(ask(false)).await.unwrap();
    assert_eq!(left.into_inner().granted_ttl, 600);
    let left = both.lease.lease_time_to_live(ask(true)).await;
    assert_eq!(left.map(drop).map_err(refusal), Err(denied()));
    let list = pb::LeaseLeasesRequest {};
    let listed = both.lease.lease_leases(list).await;
    assert_eq!(listed.map(drop).map_err(refusal), Err(denied()));
    let listed = root.lease.lease_leases(list).await.unwrap().into_inner();
    assert_eq!(listed.leases.len(), 1);
    root.lease.lease_revoke(revoke).await.unwrap();
    let listed = both.lease.lease_leases(list).await.unwrap().into_inner();
    assert_eq!(listed.leases.len(), 0);
}

/// What is answered to a call in somebody's name.
macro_rules! said {
    ($caller:expr, $($service:ident . $call:ident($request:expr);)*) => {
        vec![$((stringify!($call), $caller.$service.$call($request).await.map(drop).map_err(refusal))),*]
    };
}

/// Calls that only those in charge may make, then those that need a name.
async fn admin_calls(caller: &mut Caller) -> Vec<(&'static str, Result<(), Refusal>)> {
    let text = String::from;
    let urls = || vec![text("http://127.0.0.1:1")];
    said!(caller,
        kv.compact(pb::CompactionRequest { revision: 99, physical: false });
        maintenance.alarm(pb::AlarmRequest { action: 1, ..Default::default() });
        maintenance.alarm(pb::AlarmRequest { action: 2, ..Default::default() });
        maintenance.defragment(pb::DefragmentRequest {});
        maintenance.hash(pb::HashRequest {});
        maintenance.hash_kv(pb::HashKvRequest { revision: 0 });
        maintenance.snapshot(pb::SnapshotRequest {});
        maintenance.move_leader(pb::MoveLeaderRequest { target_id: 9 });
        maintenance.downgrade(pb::DowngradeRequest { action: 2, version: text("") });
        cluster.member_add(pb::MemberAddRequest { peer_ur_ls: urls(), is_learner: false });
        cluster.member_remove(pb::MemberRemoveRequest { id: 9 });
        cluster.member_update(pb::MemberUpdateRequest { id: 9, peer_ur_ls: urls() });
        cluster.member_promote(pb::MemberPromoteRequest { id: 9 });
        auth.auth_status(pb::AuthStatusRequest {});
        auth.user_add(pb::AuthUserAddRequest { name: text("poor"), ..Default::default() });
        auth.user_list(pb::AuthUserListRequest {});
        auth.user_get(pb::AuthUserGetRequest { name: text("both") });
        auth.user_delete(pb::AuthUserDeleteRequest { name: text("x") });
        auth.user_change_password(pb::AuthUserChangePasswordRequest { name: text("x"), ..Default::default() });
        auth.user_grant_role(pb::AuthUserGrantRoleRequest { user: text("x"), role: text("x") });
        auth.user_revoke_role(pb::AuthUserRevokeRoleRequest { name: text("x"), role: text("x") });
        auth.role_add(pb::AuthRoleAddRequest { name: text("both") });
        auth.role_list(pb::AuthRoleListRequest {});
        auth.role_get(pb::AuthRoleGetRequest { role: text("both") });
        auth.role_delete(pb::AuthRoleDeleteRequest { role: text("x") });
        auth.role_grant_permission(pb::AuthRoleGrantPermissionRequest { name: text("x"), perm: None });
        auth.role_revoke_permission(pb::AuthRoleRevokePermissionRequest { role: text("x"), ..Default::default() });
        auth.auth_enable(pb::AuthEnableRequest {});
    )
}

async fn known_calls(caller: &mut Caller) -> Vec<(&'static str, Result<(), Refusal>)> {
    said!(caller,
        maintenance.alarm(pb::AlarmRequest::default());
        maintenance.status(pb::StatusRequest {});
        cluster.member_list(pb::MemberListRequest { linearizable: true });
        lease.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 });
        lease.lease_time_to_live(pb::LeaseTimeToLiveRequest { id: 5, keys: false });
        lease.lease_leases(pb::LeaseLeasesRequest {});
    )
}

#[tokio::test]
async fn what_concerns_all_needs_somebody_in_charge() {
    let (_ours, channel, mut root) = ruled(options()).await;
    let mut nobody = Caller::nobody(&channel);
    let mut poor = user(&channel, "poor").await;
    let mut spoilt = Caller::of_token(&channel, "letters.7");
    for (call, said) in admin_calls(&mut nobody).await {
        assert_eq!(said, Err(empty()), "{call}");
    }
    for (call, said) in admin_calls(&mut poor).await {
        assert_eq!(said, Err(denied()), "{call}");
    }
    for (call, said) in admin_calls(&mut spoilt).await {
        assert_eq!(said, Err(invalid_token()), "{call}");
    }
    let refused = [Err(empty()), Err(denied()), Err(invalid_token())];
    for (call, said) in admin_calls(&mut root).await {
        assert!(!refused.contains(&said), "{call}: {said:?}");
    }
    for (call, said) in known_calls(&mut nobody).await {
        assert_eq!(said, Err(empty()), "{call}");
    }
    for (call, said) in known_calls(&mut spoilt).await {
        assert_eq!(said, Err(invalid_token()), "{call}");
    }
    for (call, said) in known_calls(&mut poor).await {
        assert_eq!(said, Ok(()), "{call}");
    }
}

#[tokio::test]
async fn a_user_may_look_at_itself_and_its_roles() {
    let (_ours, channel, mut root) = ruled(options()).await;
    let mut both = user(&channel, "both").await;
    let get = |name: &str| pb::AuthUserGetRequest { name: name.into() };
    let role = |role: &str| pb::AuthRoleGetRequest { role: role.into() };
    let found = both.auth.user_get(get("both")).await.unwrap();
    assert_eq!(found.into_inner().roles, ["both"]);
    let found = both.auth.role_get(role("both")).await.unwrap();
    let found = found.into_inner().perm.pop().unwrap();
    assert_eq!(
        (&found.key[..], &found.range_end[..]),
        (&b"b"[..], &b"c"[..])
    );
    let other = both.auth.user_get(get("poor")).await;
    assert_eq!(other.map(drop).map_err(refusal), Err(denied()));
    let other = both.auth.role_get(role("reader")).await;
    assert_eq!(other.map(drop).map_err(refusal), Err(denied()));
    let not_found = (
        Code::FailedPrecondition,
        "etcdserver: role name not found".to_owned(),
    );
    let missing = root.auth.role_get(role("root")).await;
    assert_eq!(missing.map(drop).map_err(refusal), Err(not_found));
    root.add_role("root").await.unwrap();
    let all = root.auth.role_get(role("root")).await.unwrap();
    let all = all.into_inner().perm.pop().unwrap();
    assert_eq!((&all.key[..], &all.range_end[..]), (&b""[..], &b"\0"[..]));
    let listed = root.auth.user_list(pb::AuthUserListRequest {}).await;
    let listed = listed.unwrap().into_inner().users;
    assert_eq!(listed, ["both", "poor", "reader", "root", "writer"]);
}

/// The first answer to a watch of these keys.
async fn watched(
    caller: &mut Caller,
    key: &'static str,
    range_end: &'static str,
) -> pb::WatchResponse {
    let create = pb::WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..Default::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let opened = caller.watch.watch(tokio_stream::once(request)).await;
    let mut answers = opened.unwrap().into_inner();
    answers.message().await.unwrap().unwrap()
}

#[tokio::test]
async fn a_watch_that_is_refused_says_why_and_ends_no_other() {
    let (_ours, channel, mut root) = ruled(options()).await;
    let mut reader = user(&channel, "reader").await;
    for (key, end) in [("r", "s"), ("r1", ""), ("r", "r\0")] {
        let answer = watched(&mut reader, key, end).await;
        assert!(answer.created && !answer.canceled, "{answer:?}");
    }
    let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    for (key, end) in [("r", "\0"), ("q", ""), ("", "\0"), ("", ""), ("r", "t")] {
        let answer = watched(&mut reader, key, end).await;
        assert!(answer.created && answer.canceled, "{answer:?}");
        assert_eq!((answer.watch_id, &answer.cancel_reason[..]), (-1, denied));
    }
    assert!(!watched(&mut root, "", "\0").await.canceled);
    let answer = watched(&mut Caller::nobody(&channel), "r", "").await;
    let reason = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty";
    assert_eq!(answer.cancel_reason, reason);
    let mut spoilt = Caller::of_token(&channel, "x.1");
    let answer = watched(&mut spoilt, "r", "").await;
    let reason = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
    assert_eq!(answer.cancel_reason, reason);
}

#[tokio::test]
async fn a_range_in_pieces_locks_and_elections_need_what_they_are_made_of() {
    let (_ours, channel, mut root) = ruled(options()).await;
    let mut both = user(&channel, "both").await;
    let range = |end: &'static str| pb::RangeRequest {
        key: "b".into(),
        range_end: end.into(),
        ..Default::default()
    };
    root.put("b1").await.unwrap();
    let pieces = both.kv.range_stream(range("c")).await.unwrap();
    assert!(pieces.into_inner().message().await.unwrap().is_some());
    let refused = match both.kv.range_stream(range("d")).await {
        Ok(pieces) => pieces.into_inner().message().await.map(drop),
        Err(error) => Err(error),
    };
    assert_eq!(refused.map_err(refusal), Err(denied()));
    // As etcd says it: the code is lost on the way.
    let lost = (Code::Unknown, "etcdserver: permission denied".to_owned());
    let lock = |name: &'static str| LockRequest {
        name: name.into(),
        lease: 0,
    };
    let held = both.lock.lock(lock("b")).await.unwrap().into_inner();
    let refused = both.lock.lock(lock("a")).await;
    assert_eq!(refused.map(drop).map_err(refusal), Err(lost.clone()));
    let mut poor = user(&channel, "poor").await;
    let unlock = UnlockRequest { key: held.key };
    let refused = poor.lock.unlock(unlock.clone()).await;
    assert_eq!(refused.map(drop).map_err(refusal), Err(lost.clone()));
    both.lock.unlock(unlock).await.unwrap();
    let campaign = |name: &'static str| CampaignRequest {
        name: name.into(),
        lease: 0,
        value: "me".into(),
    };
    both.election.campaign(campaign("b-boss")).await.unwrap();
    let refused = both.election.campaign(campaign("a-boss")).await;
    assert_eq!(refused.map(drop).map_err(refusal), Err(lost.clone()));
    let leader = LeaderRequest {
        name: "b-boss".into(),
    };
    let refused = poor.election.leader(leader).await;
    assert_eq!(refused.map(drop).map_err(refusal), Err(lost));
}

#[tokio::test]
async fn tokens_end_with_what_they_rest_on() {
    let (_ours, channel, mut root) = ruled(options()).await;
    let first = token(&channel, "both", "both").await.unwrap();
    let second = token(&channel, "both", "both").await.unwrap();
    assert_ne!(first, second);
    let (letters, index) = first.split_once('.').unwrap();
    assert_eq!(letters.len(), 16);
    assert!(
        letters.bytes().all(|byte| byte.is_ascii_alphabetic()),
        "{first}"
    );
    assert!(index.parse::<u64>().is_ok(), "{first}");
    let failed = (
        Code::InvalidArgument,
        "etcdserver: authentication failed, invalid user ID or password".to_owned(),
    );
    for (name, password) in [("both", "x"), ("both", ""), ("x", "x"), ("", "")] {
        let refused = token(&channel, name, password).await;
        assert_eq!(refused, Err(failed.clone()), "{name}");
    }
    for name in ["token", "authorization"] {
        let mut both = Caller::with(&channel, Token(Some((name, first.clone()))));
        assert!(both.put("b").await.is_ok(), "{name}");
    }
    let bearer = Token(Some(("authorization", format!("Bearer {first}"))));
    assert!(Caller::with(&channel, bearer).put("b").await.is_ok());
    let mut both = Caller::of_token(&channel, &second);
    let change = pb::AuthUserChangePasswordRequest {
        name: "both".into(),
        password: "new".into(),
        ..Default::default()
    };
    root.auth.user_change_password(change).await.unwrap();
    assert_eq!(both.put("b").await, Err(invalid_token()));
    assert_eq!(token(&channel, "both", "both").await, Err(failed));
    let mut both = Caller::log_in(&channel, "both", "new").await.unwrap();
    assert!(both.put("b").await.is_ok());
    let delete = pb::AuthUserDeleteRequest {
        name: "both".into(),
    };
    root.auth.user_delete(delete).await.unwrap();
    assert_eq!(both.put("b").await, Err(invalid_token()));
    let status = root.auth.auth_status(pb::AuthStatusRequest {}).await;
    let before = status.unwrap().into_inner();
    root.auth
        .auth_disable(pb::AuthDisableRequest {})
        .await
        .unwrap();
    // Nobody looks at tokens now.
    assert!(both.put("b").await.is_ok());
    let off = (
        Code::FailedPrecondition,
        "etcdserver: authentication is not enabled".to_owned(),
    );
    assert_eq!(token(&channel, "root", "secret").await, Err(off));
    let mut nobody = Caller::nobody(&channel);
    let status = nobody.auth.auth_status(pb::AuthStatusRequest {}).await;
    let after = status.unwrap().into_inner();
    assert_eq!((before.enabled, after.enabled), (true, false));
    assert_eq!(after.auth_revision, before.auth_revision + 1);
    let enable = pb::AuthEnableRequest {};
    nobody.auth.auth_enable(enable).await.unwrap();
    assert_eq!(root.put("b").await, Err(invalid_token()));
}

#[tokio::test]
async fn a_password_may_come_as_its_hash_or_not_at_all() {
    let (_ours, channel, mut root) = ruled(options()).await;
    // bcrypt of "abc", in base64.
    let hashed_password =
        "JDJhJDA2JElmNmJ2dW03REZqVW5FOXAydURlRHUwWUh6ckhNNnRmLmlxTjgueXguak5OMUlMRWY3aDBp";
    let add = |name: &str, hashed_password: &str, no_password| pb::AuthUserAddRequest {
        name: name.into(),
        password: String::new(),
        hashed_password: hashed_password.into(),
        options: Some(etcd_wire::authpb::UserAddOptions { no_password }),
    };
    let hashed = add("hashed", hashed_password, false);
    root.auth.user_add(hashed).await.unwrap();
    assert!(token(&channel, "hashed", "abc").await.is_ok());
    root.auth.user_add(add("cert", "", true)).await.unwrap();
    let text = "auth: authentication failed, password was given for no password user";
    let none = (Code::Unknown, text.to_owned());
    let refused = token(&channel, "cert", "").await;
    assert_eq!(refused, Err(none.clone()));
    let spoilt = root.auth.user_add(add("spoilt", "%", false)).await;
    assert_eq!(spoilt.map(drop).map_err(refusal), Err(none));
    let long = root.add_user("long", &"x".repeat(73)).await;
    let text = "bcrypt: password length exceeds 72 bytes";
    assert_eq!(long, Err((Code::Unknown, text.to_owned())));
}

#[tokio::test]
async fn signed_tokens_are_good_wherever_the_key_is_and_until_the_rules_change() {
    let dir = TempDir::new();
    let keys = KeyPair::generate().unwrap();
    let file = |name: &str, text: String| {
        let path = dir.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let public = file("public.pem", keys.public_key_pem());
    let private = file("private.pem", keys.serialize_pem());
    let with = |private_key| Options {
        auth: AuthOptions {
            token: TokenKind::Jwt(JwtOptions {
                method: "ES256".into(),
                public_key: Some(public.clone()),
                private_key,
                ttl: std::time::Duration::from_secs(600),
            }),
            ..cheap()
        },
        ..Options::default()
    };
    let (_signs, channel, _) = ruled(with(Some(private))).await;
    let first = token(&channel, "both", "both").await.unwrap();
    assert_eq!(first.split('.').count(), 3);
    let mut both = Caller::of_token(&channel, &first);
    assert!(both.put("b").await.is_ok());
    let spoilt = format!("{first}A");
    let mut other = Caller::of_token(&channel, &spoilt);
    assert_eq!(other.put("b").await, Err(invalid_token()));
    // One that only checks gives none, but takes those of the other.
    let checks = Ours::start(with(None));
    let checked = common::users::channel(&checks.url()).await;
    let mut nobody = Caller::nobody(&checked);
    nobody
        .add_user_who_may("reader", Type::Read, "r", "s")
        .await;
    nobody
        .add_user_who_may("writer", Type::Write, "w", "x")
        .await;
    nobody
        .add_user_who_may("both", Type::Readwrite, "b", "c")
        .await;
    nobody.add_user("poor", "poor").await.unwrap();
    nobody.enable().await;
    let text = "auth: token signing attempted with verify-only key";
    let refused = token(&checked, "both", "both").await;
    assert_eq!(refused, Err((Code::Unknown, text.to_owned())));
    assert!(Caller::of_token(&checked, &first).put("b").await.is_ok());
    // The rules are others now: for keys, it takes a new one.
    let mut root = Caller::log_in(&channel, "root", "secret").await.unwrap();
    root.add_role("more").await.unwrap();
    let text = "etcdserver: revision of auth store is old";
    let old = (Code::InvalidArgument, text.to_owned());
    assert_eq!(both.put("b").await, Err(old.clone()));
    assert_eq!(both.get("b").await, Err(old.clone()));
    assert_eq!(root.put("b").await, Err(old));
    // But who is in charge is in charge.
    root.add_role("still more").await.unwrap();
    let mut both = user(&channel, "both").await;
    assert!(both.put("b").await.is_ok());
}

/// What a crash would leave: a copy of the directory, made while the server runs.
fn copy(from: &std::path::Path) -> TempDir {
    let to = TempDir::new();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.0.join(entry.file_name())).unwrap();
        }
    }
    to
}

#[tokio::test]
async fn rules_outlive_a_crash_and_a_restart() {
    let dir = TempDir::new();
    let on = |dir: &TempDir| Options {
        data_dir: Some(dir.0.clone()),
        ..options()
    };
    let (ours, _, mut root) = ruled(on(&dir)).await;
    root.put("b1").await.unwrap();
    let status = root.auth.auth_status(pb::AuthStatusRequest {}).await;
    let before = status.unwrap().into_inner().auth_revision;
    let crashed = copy(&dir.0);
    ours.stop();
    for dir in [&crashed, &dir] {
        let again = Ours::start(on(dir));
        let channel = channel(&again.url()).await;
        let mut nobody = Caller::nobody(&channel);
        assert_eq!(nobody.get("b1").await, Err(empty()));
        let mut both = user(&channel, "both").await;
        assert_eq!(both.get("b1").await, Ok(1));
        assert_eq!(both.get("r1").await, Err(denied()));
        let mut root = Caller::log_in(&channel, "root", "secret").await.unwrap();
        let status = root.auth.auth_status(pb::AuthStatusRequest {}).await;
        assert_eq!(status.unwrap().into_inner().auth_revision, before);
    }
}

struct Pem {
    certificate: String,
    key: String,
}

/// An authority, and a certificate for each of these common names; an empty one for none.
fn certificates(names: &[&str]) -> (String, Vec<Pem>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let issue = |name: &&str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        Pem {
            certificate: params.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    };
    (ca, names.iter().map(issue).collect())
}

async fn over_tls(ours: &Ours, ca: &str, pem: &Pem) -> Channel {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca))
        .identity(Identity::from_pem(&pem.certificate, &pem.key));
    let url = format!("https://localhost:{}", ours.address.port());
    let endpoint = Endpoint::from_shared(url).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.unwrap()
}

async fn certificates_name_users(listener: Listener, client_cert_auth: bool) {
    let (ca, pems) = certificates(&["server", "root", "both", "stranger", ""]);
    let [server, root, both, stranger, unnamed] = &pems[..] else {
        unreachable!()
    };
    let dir = TempDir::new();
    let file = |name: &str, text: &str| {
        let path = dir.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ours = Ours::start(Options {
        listener,
        tls: Some(TlsFiles {
            cert: file("cert.pem", &server.certificate),
            key: file("key.pem", &server.key),
            trusted_ca: Some(file("ca.pem", &ca)),
            client_cert_auth,
            ..TlsFiles::default()
        }),
        ..options()
    });
    let wire = over_tls(&ours, &ca, root).await;
    let mut root = Caller::nobody(&wire);
    root.add_user_who_may("both", Type::Readwrite, "b", "c")
        .await;
    root.enable().await;
    let wire = over_tls(&ours, &ca, both).await;
    let mut both = Caller::nobody(&wire);
    if !client_cert_auth {
        // A certificate that need not be shown says nothing.
        assert_eq!(root.put("a").await, Err(empty()));
        assert_eq!(both.put("b").await, Err(empty()));
        return;
    }
    assert!(root.put("a").await.is_ok());
    assert!(root.add_role("by certificate").await.is_ok());
    // The calls that go the short way, and those that do not.
    assert!(both.put("b").await.is_ok());
    assert_eq!(both.get("b").await, Ok(1));
    assert_eq!(both.put("a").await, Err(denied()));
    assert_eq!(both.range("\0", "\0").await, Err(denied()));
    assert_eq!(both.add_role("x").await, Err(denied()));
    assert!(!watched(&mut both, "b", "").await.canceled);
    assert!(watched(&mut both, "a", "").await.canceled);
    // A token counts for more than the certificate, good or not.
    let name = token(&wire, "root", "secret").await.unwrap();
    assert!(Caller::of_token(&wire, &name).put("a").await.is_ok());
    let mut spoilt = Caller::of_token(&wire, "x.1");
    assert_eq!(spoilt.put("b").await, Err(invalid_token()));
    // Nor does it count where a gateway shows its own.
    let gateway = Token(Some(("grpcgateway-accept", "*/*".into())));
    assert_eq!(Caller::with(&wire, gateway).put("b").await, Err(empty()));
    let wire = over_tls(&ours, &ca, stranger).await;
    assert_eq!(Caller::nobody(&wire).put("b").await, Err(denied()));
    let wire = over_tls(&ours, &ca, unnamed).await;
    assert_eq!(Caller::nobody(&wire).put("b").await, Err(denied()));
}

#[tokio::test]
async fn a_certificate_names_a_user_where_everybody_must_show_one() {
    for listener in [Listener::Own, Listener::Hyper] {
        certificates_name_users(listener, true).await;
        certificates_name_users(listener, false).await;
    }
}

#[tokio::test]
async fn changes_under_way_do_not_mix() {
    let (_ours, channel, mut root) = ruled(options()).await;
    let status = root.auth.auth_status(pb::AuthStatusRequest {}).await;
    let before = status.unwrap().into_inner().auth_revision;
    let root = Arc::new(root);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let mut root = Caller::clone(&root);
        tasks.spawn(async move {
            let name = format!("u{}", number % 20);
            root.add_user(&name, "p").await
        });
    }
    let mut added = 0;
    while let Some(done) = tasks.join_next().await {
        match done.unwrap() {
            Ok(()) => added += 1,
            Err((code, text)) => assert_eq!(
                (code, &text[..]),
                (
                    Code::FailedPrecondition,
                    "etcdserver: user name already exists"
                )
            ),
        }
    }
    assert_eq!(added, 20);
    let mut root = Caller::log_in(&channel, "root", "secret").await.unwrap();
    let status = root.auth.auth_status(pb::AuthStatusRequest {}).await;
    assert_eq!(status.unwrap().into_inner().auth_revision, before + 20);
}

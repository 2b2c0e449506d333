//! The same random calls under different users to us and to a real etcd, with access rules on and off: codes, texts and
//! answers are compared, but for ids, terms and tokens.
//!
//! Needs `MEGAPLANE_ETCD`, the path of an etcd (`scripts/fetch-etcd` prints one; `./test` sets it). What etcd changed
//! after 3.5.1, and we follow the newer one, is left out or told apart here:
//! - transactions in transactions, leases and earlier values of puts in them are checked;
//! - compaction needs the role root; alarms, members, lease grants and what is left of a lease need a user, as does
//!   `Status`, for which the older one asks for root;
//! - the role root says that it may do everything, and ranges that are none are refused;
//! - a token means nothing while the rules are off.

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::users::{Caller, Refusal, channel, refusal, token};
use common::{Dice, Ours, RealEtcd};
use etcd_server::{AuthOptions, Options};
use etcd_wire::authpb;
use etcd_wire::etcdserverpb as pb;
use pb::request_op::Request as Op;
use pb::watch_request::RequestUnion;
use tonic::codegen::tokio_stream;
use tonic::transport::Channel;

const USERS: [&str; 6] = ["root", "ann", "bob", "cat", "dan", ""];
const ROLES: [&str; 5] = ["root", "r1", "r2", "r3", ""];
const PASSWORDS: [&str; 3] = ["p", "q", ""];
const KEYS: [&str; 7] = ["a", "b", "b\0", "c", "cc", "d", "z"];
const LEASES: [i64; 3] = [101, 102, 103];

/// Ranges to grant, each beginning at a key of its own: where several begin at one, etcd may grant one of them twice.
const GRANTS: [(&str, &str); 7] = [
    ("a", "c"),
    ("b", ""),
    ("c", "d"),
    ("cc", "ccc"),
    ("d", "\0"),
    ("\0", "\0"),
    ("z", ""),
];

type Outcome<T> = Result<T, Refusal>;

/// Who calls.
#[derive(Clone, Debug)]
enum Who {
    Nobody,
    Spoilt,
    User(&'static str),
}

struct Side {
    channel: Channel,
    /// The last token that a user got.
    tokens: BTreeMap<&'static str, String>,
}

impl Side {
    async fn connect(url: &str) -> Side {
        Side {
            channel: channel(url).await,
            tokens: BTreeMap::new(),
        }
    }

    fn caller(&self, who: &Who) -> Caller {
        match who {
            Who::Nobody => Caller::nobody(&self.channel),
            Who::Spoilt => Caller::of_token(&self.channel, "nonsense.7"),
            Who::User(name) => match self.tokens.get(name) {
                Some(token) => Caller::of_token(&self.channel, token),
                None => Caller::nobody(&self.channel),
            },
        }
    }

    async fn log_in(&mut self, name: &'static str, password: &str) -> Outcome<()> {
        let token = token(&self.channel, name, password).await?;
        self.tokens.insert(name, token);
        Ok(())
    }
}

fn plain(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        *header = pb::ResponseHeader {
            revision: header.revision,
            ..Default::default()
        };
    }
}

/// Asks both; the answers must be the same.
macro_rules! both {
    ($pair:expr, $who:expr, $service:ident . $call:ident($request:expr)) => {{
        let (request, who) = ($request, $who);
        let ours = $pair
            .ours
            .caller(&who)
            .$service
            .$call(request.clone())
            .await;
        let real = $pair
            .real
            .caller(&who)
            .$service
            .$call(request.clone())
            .await;
        let ours = match ours {
            Ok(answer) => {
                let mut answer = answer.into_inner();
                plain(&mut answer.header);
                Ok(answer)
            }
            Err(error) => Err(refusal(error)),
        };
        let real = match real {
            Ok(answer) => {
                let mut answer = answer.into_inner();
                plain(&mut answer.header);
                Ok(answer)
            }
            Err(error) => Err(refusal(error)),
        };
        assert_eq!(
            ours,
            real,
            "left: ours, right: etcd, {who:?} asks {}: {request:?}",
            stringify!($call)
        );
        ours
    }};
}

struct Pair {
    ours: Side,
    real: Side,
    dice: Dice,
    is_on: bool,
    /// The passwords that users have.
    passwords: BTreeMap<String, String>,
    counts: BTreeMap<String, usize>,
}

impl Pair {
    fn key(&mut self) -> Bytes {
        Bytes::from(*self.dice.pick(&KEYS))
    }

    fn end(&mut self) -> Bytes {
        let ends = ["", "", "", "c", "d", "\0", "b\0", "zz"];
        Bytes::from(*self.dice.pick(&ends))
    }

    /// An end that makes a range with something in it.
    fn range(&mut self) -> (Bytes, Bytes) {
        let (key, end) = (self.key(), self.end());
        let is_some = end.is_empty() || end == "\0" || end > key;
        (key, if is_some { end } else { Bytes::new() })
    }

    fn who(&mut self) -> Who {
        // While the rules are off, the older etcd looks at tokens and the newer does not.
        if !self.is_on {
            return Who::Nobody;
        }
        match self.dice.below(20) {
            0 => Who::Nobody,
            1 => Who::Spoilt,
            2..14 => {
                // One that has logged in, and not always root.
                let names: Vec<_> = self.ours.tokens.keys().copied().collect();
                let name = *self.dice.pick(&names);
                Who::User(name)
            }
            _ => {
                let name = *self.dice.pick(&USERS);
                Who::User(name)
            }
        }
    }

    fn root(&self) -> Who {
        if self.is_on {
            Who::User("root")
        } else {
            Who::Nobody
        }
    }

    fn put(&mut self) -> pb::PutRequest {
        pb::PutRequest {
            key: self.key(),
            value: "v".into(),
            lease: if self.dice.one_in(4) {
                *self.dice.pick(&LEASES)
            } else {
                0
            },
            prev_kv: self.dice.one_in(3),
            ..Default::default()
        }
    }

    fn get(&mut self) -> pb::RangeRequest {
        let (key, range_end) = self.range();
        pb::RangeRequest {
            key,
            range_end,
            ..Default::default()
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let (key, range_end) = self.range();
        pb::DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.dice.one_in(2),
        }
    }

    fn op(&mut self) -> pb::RequestOp {
        let request = match self.dice.below(3) {
            0 => Op::RequestRange(self.get()),
            1 => Op::RequestPut(pb::PutRequest {
                lease: 0,
                prev_kv: false,
                ..self.put()
            }),
            _ => Op::RequestDeleteRange(self.delete()),
        };
        pb::RequestOp {
            request: Some(request),
        }
    }

    fn txn(&mut self) -> pb::TxnRequest {
        let compare = |key, range_end| pb::Compare {
            key,
            range_end,
            ..Default::default()
        };
        let mut txn = pb::TxnRequest::default();
        for _ in 0..self.dice.below(3) {
            let (key, end) = self.range();
            txn.compare.push(compare(key, end));
        }
        for _ in 0..self.dice.below(3) {
            txn.success.push(self.op());
        }
        for _ in 0..self.dice.below(3) {
            txn.failure.push(self.op());
        }
        // etcd overlooks some keys that are written twice: those are left out.
        match etcd_wire::txn(txn.clone(), 128) {
            Ok(_) => txn,
            Err(_) => pb::TxnRequest {
                success: Vec::new(),
                failure: Vec::new(),
                ..txn
            },
        }
    }

    /// Counts what came of calls, so that a test that compares nothing but refusals is noticed.
    fn count<T>(&mut self, call: &str, outcome: &Outcome<T>) {
        let said = match outcome {
            Ok(_) => "done".to_owned(),
            Err((_, text)) => text.clone(),
        };
        *self.counts.entry(format!("{call}: {said}")).or_default() += 1;
    }

    async fn keys(&mut self) {
        let who = self.who();
        match self.dice.below(6) {
            0 | 1 => {
                let put = both!(self, who, kv.put(self.put()));
                self.count("put", &put);
            }
            2 | 3 => {
                let range = both!(self, who, kv.range(self.get()));
                self.count("range", &range);
            }
            4 => {
                let deleted = both!(self, who, kv.delete_range(self.delete()));
                self.count("delete", &deleted);
            }
            _ => {
                let txn = both!(self, who, kv.txn(self.txn()));
                self.count("txn", &txn);
            }
        }
    }

    async fn leases(&mut self) {
        let id = *self.dice.pick(&LEASES);
        match self.dice.below(3) {
            0 => {
                let who = self.root();
                let grant = pb::LeaseGrantRequest { ttl: 6_000, id };
                let granted = both!(self, who, lease.lease_grant(grant));
                self.count("grant a lease", &granted);
            }
            1 => {
                let who = match self.who() {
                    // The older etcd lets nobody revoke a lease without keys.
                    Who::Nobody if self.is_on => self.root(),
                    Who::User(name) if !self.ours.tokens.contains_key(name) => self.root(),
                    who => who,
                };
                let revoke = pb::LeaseRevokeRequest { id };
                let revoked = both!(self, who, lease.lease_revoke(revoke));
                self.count("revoke a lease", &revoked);
            }
            _ => self.watch().await,
        }
    }

    async fn watch(&mut self) {
        let who = self.who();
        let (key, mut range_end) = self.range();
        if range_end == "\0" {
            // Of these the older etcd asks for the first key only.
            range_end = Bytes::new();
        }
        let create = pb::WatchCreateRequest {
            key,
            range_end,
            ..Default::default()
        };
        let first = async |side: &Side| {
            let request = pb::WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create.clone())),
            };
            // Kept open: a stream that its client has ended may end before it answers.
            let requests = tokio_stream::StreamExt::chain(
                tokio_stream::once(request),
                tokio_stream::pending(),
            );
            let opened = side.caller(&who).watch.watch(requests).await.unwrap();
            let mut answer = opened.into_inner().message().await.unwrap().unwrap();
            plain(&mut answer.header);
            if answer.cancel_reason.starts_with("rpc error: ") {
                // The older etcd says the same for each reason, and gives a number.
                answer.cancel_reason = "refused".into();
                answer.watch_id = -1;
            }
            answer
        };
        let (ours, real) = (first(&self.ours).await, first(&self.real).await);
        assert_eq!(ours, real, "left: ours, right: etcd, {who:?}: {create:?}");
        let outcome = match ours.canceled {
            true => Err((tonic::Code::Unknown, ours.cancel_reason)),
            false => Ok(()),
        };
        self.count("watch", &outcome);
    }

    async fn log_in(&mut self) {
        let name = *self.dice.pick(&USERS);
        let password = match self.passwords.get(name) {
            Some(password) if !self.dice.one_in(4) => password.clone(),
            _ => self.dice.pick(&PASSWORDS).to_string(),
        };
        let ours = self.ours.log_in(name, &password).await;
        let real = self.real.log_in(name, &password).await;
        assert_eq!(ours, real, "left: ours, right: etcd, {name:?} {password:?}");
        self.count("log in", &ours);
    }

    async fn users(&mut self) {
        // Mostly by root: otherwise nothing would ever change.
        let who = if self.dice.one_in(5) {
            self.who()
        } else {
            self.root()
        };
        let name = self.dice.pick(&USERS).to_string();
        let role = self.dice.pick(&ROLES).to_string();
        let password = match &name[..] {
            // Otherwise nobody could log in as root any more.
            "root" => PASSWORDS[self.dice.below(2) as usize].to_owned(),
            _ => self.dice.pick(&PASSWORDS).to_string(),
        };
        match self.dice.below(9) {
            0 | 1 => {
                let no_password = self.dice.one_in(5) && name != "root";
                let (user, secret) = (name.clone(), password.clone());
                let add = pb::AuthUserAddRequest {
                    name,
                    password,
                    options: Some(authpb::UserAddOptions { no_password }),
                    ..Default::default()
                };
                let added = both!(self, who, auth.user_add(add));
                if added.is_ok() {
                    self.passwords.insert(user, secret);
                }
                self.count("add a user", &added);
            }
            2 if self.dice.one_in(2) => {
                let delete = pb::AuthUserDeleteRequest { name };
                let deleted = both!(self, who, auth.user_delete(delete));
                self.count("delete a user", &deleted);
            }
            3 if self.dice.one_in(2) => {
                let (user, secret) = (name.clone(), password.clone());
                let change = pb::AuthUserChangePasswordRequest {
                    name,
                    password,
                    ..Default::default()
                };
                let changed = both!(self, who, auth.user_change_password(change));
                if changed.is_ok() {
                    self.passwords.insert(user, secret);
                }
                self.count("change a password", &changed);
            }
            4 => {
                let list = both!(self, who, auth.user_list(pb::AuthUserListRequest {}));
                self.count("list users", &list);
            }
            5 => {
                let get = both!(self, who, auth.user_get(pb::AuthUserGetRequest { name }));
                self.count("get a user", &get);
            }
            6 => {
                let revoke = pb::AuthUserRevokeRoleRequest { name, role };
                let revoked = both!(self, who, auth.user_revoke_role(revoke));
                self.count("revoke a role", &revoked);
            }
            _ => {
                let grant = pb::AuthUserGrantRoleRequest { user: name, role };
                let granted = both!(self, who, auth.user_grant_role(grant));
                self.count("grant a role", &granted);
            }
        }
    }

    async fn roles(&mut self) {
        let who = if self.dice.one_in(5) {
            self.who()
        } else {
            self.root()
        };
        let role = self.dice.pick(&ROLES).to_string();
        let (key, range_end) = *self.dice.pick(&GRANTS);
        match self.dice.below(10) {
            0 | 1 => {
                let add = pb::AuthRoleAddRequest { name: role };
                let added = both!(self, who, auth.role_add(add));
                self.count("add a role", &added);
            }
            2 if self.dice.one_in(2) => {
                let delete = pb::AuthRoleDeleteRequest { role };
                let deleted = both!(self, who, auth.role_delete(delete));
                self.count("delete a role", &deleted);
            }
            3 => {
                let list = both!(self, who, auth.role_list(pb::AuthRoleListRequest {}));
                self.count("list roles", &list);
            }
            // What the older etcd says of root is what was granted to it.
            4 if role != "root" => {
                let get = both!(self, who, auth.role_get(pb::AuthRoleGetRequest { role }));
                self.count("get a role", &get);
            }
            5 => {
                let revoke = pb::AuthRoleRevokePermissionRequest {
                    role,
                    key: key.into(),
                    range_end: range_end.into(),
                };
                let revoked = both!(self, who, auth.role_revoke_permission(revoke));
                self.count("revoke a permission", &revoked);
            }
            _ => {
                let perm = authpb::Permission {
                    perm_type: self.dice.below(3) as i32,
                    key: key.into(),
                    range_end: range_end.into(),
                };
                let grant = pb::AuthRoleGrantPermissionRequest {
                    name: role,
                    perm: (!self.dice.one_in(12)).then_some(perm),
                };
                let granted = both!(self, who, auth.role_grant_permission(grant));
                self.count("grant a permission", &granted);
            }
        }
    }

    /// Turns the rules on or off; then everybody needs a new token.
    async fn switch(&mut self) {
        let who = match self.dice.one_in(4) {
            true => self.who(),
            false => self.root(),
        };
        // More often on than off.
        let on = !self.dice.one_in(4) || !self.is_on;
        if on {
            let enabled = both!(self, who, auth.auth_enable(pb::AuthEnableRequest {}));
            self.count("enable", &enabled);
            if enabled.is_err() && !self.is_on {
                self.somebody_in_charge().await;
            } else if enabled.is_ok() && !self.is_on {
                self.is_on = true;
                self.root_logs_in().await;
            }
        } else {
            let disabled = both!(self, who, auth.auth_disable(pb::AuthDisableRequest {}));
            self.count("disable", &disabled);
            if disabled.is_ok() {
                self.is_on = false;
                self.ours.tokens.clear();
                self.real.tokens.clear();
            }
        }
        let who = self.root();
        let status = both!(self, who, auth.auth_status(pb::AuthStatusRequest {}));
        self.count("status", &status);
    }

    async fn somebody_in_charge(&mut self) {
        let add = pb::AuthUserAddRequest {
            name: "root".into(),
            password: "p".into(),
            ..Default::default()
        };
        let _ = both!(self, Who::Nobody, auth.user_add(add));
        let grant = pb::AuthUserGrantRoleRequest {
            user: "root".into(),
            role: "root".into(),
        };
        let _ = both!(self, Who::Nobody, auth.user_grant_role(grant));
    }

    /// Root may have another password by now, or none: one of them is right, or the rules go off again.
    async fn root_logs_in(&mut self) {
        for password in PASSWORDS {
            let ours = self.ours.log_in("root", password).await;
            let real = self.real.log_in("root", password).await;
            assert_eq!(ours, real);
            if ours.is_ok() {
                return;
            }
        }
    }

    /// Root's token may have gone with its password.
    async fn keep_root(&mut self) {
        if !self.is_on {
            return;
        }
        let who = self.root();
        let status = both!(self, who, auth.auth_status(pb::AuthStatusRequest {}));
        if status.is_err() {
            self.root_logs_in().await;
        }
    }
}

async fn compare(seed: u64) {
    let Some(etcd) = RealEtcd::start().await else {
        return;
    };
    let ours = Ours::start(Options {
        auth: AuthOptions {
            bcrypt_cost: 4,
            ..AuthOptions::default()
        },
        ..Options::default()
    });
    let mut pair = Pair {
        ours: Side::connect(&ours.url()).await,
        real: Side::connect(&etcd.url).await,
        dice: Dice::new(seed),
        is_on: false,
        passwords: BTreeMap::new(),
        counts: BTreeMap::new(),
    };
    for step in 0..2_000 {
        pair.keep_root().await;
        match pair.dice.below(100) {
            0..45 => pair.keys().await,
            45..55 => pair.leases().await,
            55..63 => pair.log_in().await,
            63..79 => pair.users().await,
            79..98 => pair.roles().await,
            _ => pair.switch().await,
        }
        if step == 200 && !pair.is_on {
            pair.somebody_in_charge().await;
            let enable = pb::AuthEnableRequest {};
            let _ = both!(pair, Who::Nobody, auth.auth_enable(enable));
            pair.is_on = true;
            pair.root_logs_in().await;
        }
    }
    for (what, times) in &pair.counts {
        eprintln!("{times:5} {what}");
    }
    for call in ["put", "range", "delete", "txn"] {
        for said in ["done", "etcdserver: permission denied"] {
            let count = pair.counts.get(&format!("{call}: {said}"));
            let count = count.copied().unwrap_or_default();
            assert!(count > 5, "{call}: {said}: hardly ever: {count}");
        }
    }
}

#[tokio::test]
async fn the_same_calls_of_the_same_users_have_the_same_outcomes() {
    let seed = std::env::var("MEGAPLANE_SEED").ok();
    let seeds = match seed.and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => vec![1, 2],
    };
    for seed in seeds {
        eprintln!("MEGAPLANE_SEED={seed}");
        compare(seed).await;
    }
}

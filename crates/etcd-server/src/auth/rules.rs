//! The access rules at one moment: users, roles, who may touch which keys. Never changed; a change makes new ones.
//!
//! Knows how users and roles are kept: as etcd's buckets keep them, each a setting of the store. Knows no tokens, no
//! passwords and no requests.
//!
//! ```text
//!   auth/enabled   one byte            auth/users/NAME   authpb.User
//!   auth/revision  u64, big-endian     auth/roles/NAME   authpb.Role
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use etcd_wire::authpb::permission::Type;
use etcd_wire::{authpb, key_range};
use kv::KeyRange;
use prost::Message as _;
use store::Store;

use super::intervals::Intervals;
use crate::backend::{
    AUTH_ENABLED_SETTING, AUTH_REVISION_SETTING, AUTH_ROLE_SETTINGS, AUTH_USER_SETTINGS,
};

/// The user, and the role, that may do everything.
pub const ROOT: &str = "root";

/// Where the revision of rules that nobody has changed yet begins, as in etcd.
const REVISION_FIRST: u64 = 1;

/// What may be done with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Read,
    Write,
}

/// The rules. Cheap to clone by the measure of how seldom that happens: a pointer a user and a role.
#[derive(Clone, Debug)]
pub struct Rules {
    pub is_enabled: bool,
    /// Counts the changes.
    pub revision: u64,
    users: BTreeMap<Bytes, Arc<User>>,
    roles: BTreeMap<Bytes, Arc<authpb::Role>>,
}

/// A user, and what follows from its roles once somebody asks.
#[derive(Debug)]
pub struct User {
    pub kept: authpb::User,
    permissions: OnceLock<Permissions>,
}

#[derive(Debug, Default)]
struct Permissions {
    read: Intervals,
    write: Intervals,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            is_enabled: false,
            revision: REVISION_FIRST,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }
}

impl User {
    fn new(kept: authpb::User) -> Arc<User> {
        Arc::new(User {
            kept,
            permissions: OnceLock::new(),
        })
    }

    pub fn has_role(&self, name: &str) -> bool {
        self.kept.roles.iter().any(|role| role == name)
    }

    /// Whether it can do without a password, because it has none.
    pub fn has_no_password(&self) -> bool {
        self.kept.options.is_some_and(|options| options.no_password)
    }
}

/// A setting's name.
pub fn user_setting(name: &[u8]) -> Bytes {
    [AUTH_USER_SETTINGS, name].concat().into()
}

/// A setting's name.
pub fn role_setting(name: &[u8]) -> Bytes {
    [AUTH_ROLE_SETTINGS, name].concat().into()
}

impl Rules {
    /// As they are kept.
    pub fn of(store: &Store) -> Rules {
        let mut rules = Rules::default();
        let enabled = store.setting(AUTH_ENABLED_SETTING);
        rules.is_enabled = enabled.is_some_and(|value| value[..] == [1]);
        let revision = store.setting(AUTH_REVISION_SETTING);
        let revision = revision.and_then(|value| Some(*value.first_chunk::<8>()?));
        if let Some(revision) = revision.map(u64::from_be_bytes) {
            // etcd takes 0 for "not written yet".
            rules.revision = revision.max(REVISION_FIRST);
        }
        // What cannot be read grants nothing.
        for (name, role) in store.settings(AUTH_ROLE_SETTINGS) {
            let name = name.slice(AUTH_ROLE_SETTINGS.len()..);
            match authpb::Role::decode(role) {
                Ok(role) => rules.put_role(name, role),
                Err(error) => tracing::error!(?name, %error, "a role cannot be read"),
            }
        }
        for (name, user) in store.settings(AUTH_USER_SETTINGS) {
            let name = name.slice(AUTH_USER_SETTINGS.len()..);
            match authpb::User::decode(user) {
                Ok(user) => rules.put_user(name, user),
                Err(error) => tracing::error!(?name, %error, "a user cannot be read"),
            }
        }
        rules
    }

    pub fn user(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    pub fn role(&self, name: &[u8]) -> Option<&Arc<authpb::Role>> {
        self.roles.get(name)
    }

    /// In the order of their names.
    pub fn users(&self) -> impl Iterator<Item = (&Bytes, &Arc<User>)> {
        self.users.iter()
    }

    /// Names of roles, in order.
    pub fn role_names(&self) -> impl Iterator<Item = &Bytes> {
        self.roles.keys()
    }

    /// Whether a user may do this with all keys of a range, by its roles but `root`.
    pub fn allow(&self, user: &User, deed: Deed, range: &KeyRange) -> bool {
        let permissions = user
            .permissions
            .get_or_init(|| self.permissions(&user.kept.roles));
        match deed {
            Deed::Read => permissions.read.cover(range),
            Deed::Write => permissions.write.cover(range),
        }
    }

    fn permissions(&self, roles: &[String]) -> Permissions {
        // A role that was deleted grants nothing.
        let roles = roles.iter().filter_map(|name| self.role(name.as_bytes()));
        let granted: Vec<&authpb::Permission> =
            roles.flat_map(|role| &role.key_permission).collect();
        let merged = |wanted: Type| {
            let has = |granted: &&&authpb::Permission| {
                let kind = Type::try_from(granted.perm_type);
                kind == Ok(wanted) || kind == Ok(Type::Readwrite)
            };
            let ranges = granted.iter().filter(has);
            Intervals::merged(ranges.map(|granted| key_range(&granted.key, &granted.range_end)))
        };
        Permissions {
            read: merged(Type::Read),
            write: merged(Type::Write),
        }
    }

    pub(super) fn put_user(&mut self, name: Bytes, user: authpb::User) {
        self.users.insert(name, User::new(user));
    }

    pub(super) fn remove_user(&mut self, name: &[u8]) {
        self.users.remove(name);
    }

    /// A new role, or a role as it is from now on. What its users may do is found out anew.
    pub(super) fn put_role(&mut self, name: Bytes, role: authpb::Role) {
        for user in self.users.values_mut() {
            let has_it = |role: &String| role.as_bytes() == name;
            if user.kept.roles.iter().any(has_it) {
                *user = User::new(user.kept.clone());
            }
        }
        self.roles.insert(name, Arc::new(role));
    }

    pub(super) fn remove_role(&mut self, name: &[u8]) {
        self.roles.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(kind: Type, key: &'static str, range_end: &'static str) -> authpb::Permission {
        authpb::Permission {
            perm_type: kind.into(),
            key: key.into(),
            range_end: range_end.into(),
        }
    }

    fn role(permissions: Vec<authpb::Permission>) -> authpb::Role {
        authpb::Role {
            name: "r".into(),
            key_permission: permissions,
        }
    }

    fn rules() -> Rules {
        let mut rules = Rules::default();
        rules.put_role(
            "r".into(),
            role(vec![
                permission(Type::Read, "a", "c"),
                permission(Type::Write, "c", ""),
                permission(Type::Readwrite, "k", "l"),
            ]),
        );
        let user = authpb::User {
            name: "u".into(),
            roles: vec!["gone".into(), "r".into()],
            ..Default::default()
        };
        rules.put_user("u".into(), user);
        rules
    }

    fn may(rules: &Rules, deed: Deed, key: &'static str, range_end: &'static str) -> bool {
        let range = key_range(&key.into(), &range_end.into());
        rules.allow(rules.user(b"u").unwrap(), deed, &range)
    }

    #[test]
    fn a_user_may_do_what_its_roles_grant_and_no_more() {
        let rules = rules();
        assert!(may(&rules, Deed::Read, "a", "c"));
        assert!(!may(&rules, Deed::Write, "a", ""));
        assert!(may(&rules, Deed::Write, "c", ""));
        assert!(!may(&rules, Deed::Read, "c", ""));
        assert!(may(&rules, Deed::Read, "k1", "k2"));
        assert!(may(&rules, Deed::Write, "k1", "k2"));
        assert!(!may(&rules, Deed::Read, "b", "l"));
    }

    #[test]
    fn a_change_of_a_role_holds_for_its_users_at_once() {
        let old = rules();
        assert!(may(&old, Deed::Read, "a", ""));
        let mut new = old.clone();
        new.put_role("r".into(), role(vec![permission(Type::Write, "x", "\0")]));
        assert!(!may(&new, Deed::Read, "a", ""));
        assert!(may(&new, Deed::Write, "y", ""));
        // Who looks at the old ones sees the old ones.
        assert!(may(&old, Deed::Read, "a", ""));
        assert!(!may(&old, Deed::Write, "y", ""));
    }

    #[test]
    fn rules_are_read_as_etcd_keeps_them() {
        let store = Store::new(store::StoreConfig::default());
        let set = |name: &[u8], value: Vec<u8>| {
            let name = Bytes::copy_from_slice(name);
            store
                .set_settings([(name, Some(Bytes::from(value)))])
                .unwrap();
        };
        assert_eq!(Rules::of(&store).revision, 1);
        set(AUTH_ENABLED_SETTING, vec![1]);
        set(AUTH_REVISION_SETTING, 77_u64.to_be_bytes().to_vec());
        let kept = rules();
        set(
            &user_setting(b"u"),
            kept.users[&b"u"[..]].kept.encode_to_vec(),
        );
        set(&role_setting(b"r"), kept.roles[&b"r"[..]].encode_to_vec());
        set(&user_setting(b"spoilt"), vec![0xff; 9]);
        let found = Rules::of(&store);
        assert!(found.is_enabled);
        assert_eq!(found.revision, 77);
        assert!(may(&found, Deed::Read, "a", "c"));
        assert!(found.user(b"spoilt").is_none());
    }
}

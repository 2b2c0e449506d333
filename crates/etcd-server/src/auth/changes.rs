//! What becomes of the access rules under each change: rules in, rules and settings out, or etcd's refusal.
//!
//! Pure: who may ask for a change was looked at before, passwords come as hashes, and what comes out is kept elsewhere.

use std::collections::BTreeSet;

use bytes::Bytes;
use etcd_wire::{RpcError, authpb, key_range};
use kv::End;
use prost::Message as _;

use super::rules::{ROOT, Rules, role_setting, user_setting};
use crate::backend::{AUTH_ENABLED_SETTING, AUTH_REVISION_SETTING};

/// New rules, and how they are kept.
#[derive(Debug)]
pub struct Change {
    pub rules: Rules,
    /// In an order in which a crash may cut them anywhere: the revision first, so that no token outlives a change that
    /// was kept, and a role last, so that nobody is left with one that could come again under the same name.
    pub settings: Vec<(Bytes, Option<Bytes>)>,
    /// Whose tokens hold no longer.
    pub logged_out: LoggedOut,
}

/// Whose tokens hold no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggedOut {
    Nobody,
    User(Bytes),
    Everybody,
}

/// What a change comes to: none when there is nothing to do.
pub type Changed = Result<Option<Change>, RpcError>;

/// Rules in the making.
struct Draft {
    rules: Rules,
    settings: Vec<(Bytes, Option<Bytes>)>,
}

impl Draft {
    fn of(rules: &Rules) -> Draft {
        Draft {
            rules: rules.clone(),
            settings: Vec::new(),
        }
    }

    fn put_user(mut self, user: authpb::User) -> Draft {
        let value = user.encode_to_vec().into();
        self.settings.push((user_setting(&user.name), Some(value)));
        self.rules.put_user(user.name.clone(), user);
        self
    }

    fn put_role(mut self, role: authpb::Role) -> Draft {
        let value = role.encode_to_vec().into();
        self.settings.push((role_setting(&role.name), Some(value)));
        self.rules.put_role(role.name.clone(), role);
        self
    }

    fn enabled(mut self, is_enabled: bool) -> Draft {
        self.rules.is_enabled = is_enabled;
        let value = Bytes::from(vec![u8::from(is_enabled)]);
        let name = Bytes::from_static(AUTH_ENABLED_SETTING);
        self.settings.push((name, Some(value)));
        self
    }

    /// The change, under the next revision.
    fn counted(mut self, logged_out: LoggedOut) -> Changed {
        self.rules.revision = self.rules.revision.saturating_add(1);
        let revision = Bytes::copy_from_slice(&self.rules.revision.to_be_bytes());
        let name = Bytes::from_static(AUTH_REVISION_SETTING);
        self.settings.insert(0, (name, Some(revision)));
        self.done(logged_out)
    }

    fn done(self, logged_out: LoggedOut) -> Changed {
        Ok(Some(Change {
            rules: self.rules,
            settings: self.settings,
            logged_out,
        }))
    }
}

fn kept_user(rules: &Rules, name: &str) -> Result<authpb::User, RpcError> {
    let user = rules.user(name.as_bytes());
    let user = user.ok_or(RpcError::USER_NOT_FOUND)?;
    Ok(authpb::User {
        // A file that was made by hand may have left it out.
        name: name.to_owned().into(),
        ..user.kept.clone()
    })
}

fn kept_role(rules: &Rules, name: &str) -> Result<authpb::Role, RpcError> {
    let role = rules.role(name.as_bytes());
    let role = role.ok_or(RpcError::ROLE_NOT_FOUND)?;
    Ok(authpb::Role {
        name: name.to_owned().into(),
        ..role.as_ref().clone()
    })
}

/// Turns the rules on. As in etcd, that is no new revision of them.
pub fn enable(rules: &Rules) -> Changed {
    if rules.is_enabled {
        return Ok(None);
    }
    let root = rules.user(ROOT.as_bytes());
    let root = root.ok_or(RpcError::ROOT_USER_NOT_EXIST)?;
    if !root.has_role(ROOT) {
        return Err(RpcError::ROOT_ROLE_NOT_EXIST);
    }
    Draft::of(rules).enabled(true).done(LoggedOut::Nobody)
}

/// Turns them off.
pub fn disable(rules: &Rules) -> Changed {
    if !rules.is_enabled {
        return Ok(None);
    }
    Draft::of(rules)
        .enabled(false)
        .counted(LoggedOut::Everybody)
}

/// Adds a user without roles. Without a hash it can log in by certificate only.
pub fn add_user(
    rules: &Rules,
    name: &str,
    password: Bytes,
    options: authpb::UserAddOptions,
) -> Changed {
    can_add_user(rules, name)?;
    let user = authpb::User {
        name: name.to_owned().into(),
        password,
        roles: Vec::new(),
        options: Some(options),
    };
    Draft::of(rules).put_user(user).counted(LoggedOut::Nobody)
}

/// Whether a user of this name can be added.
pub fn can_add_user(rules: &Rules, name: &str) -> Result<(), RpcError> {
    if name.is_empty() {
        return Err(RpcError::USER_EMPTY);
    }
    if rules.user(name.as_bytes()).is_some() {
        return Err(RpcError::USER_ALREADY_EXIST);
    }
    Ok(())
}

/// Removes a user.
pub fn delete_user(rules: &Rules, name: &str) -> Changed {
    if rules.is_enabled && name == ROOT {
        return Err(RpcError::INVALID_AUTH_MGMT);
    }
    kept_user(rules, name)?;
    let mut draft = Draft::of(rules);
    draft.rules.remove_user(name.as_bytes());
    draft.settings.push((user_setting(name.as_bytes()), None));
    draft.counted(LoggedOut::User(name.to_owned().into()))
}

/// Gives a user another password. One that has none keeps none.
pub fn change_password(rules: &Rules, name: &str, password: Bytes) -> Changed {
    let mut user = kept_user(rules, name)?;
    let has_none = user.options.is_some_and(|options| options.no_password);
    user.password = if has_none { Bytes::new() } else { password };
    Draft::of(rules)
        .put_user(user)
        .counted(LoggedOut::User(name.to_owned().into()))
}

/// Gives a user a role. The role `root` need not exist.
pub fn grant_role(rules: &Rules, user: &str, role: &str) -> Changed {
    let mut user = kept_user(rules, user)?;
    if role != ROOT {
        kept_role(rules, role)?;
    }
    if user.roles.iter().any(|has| has == role) {
        return Ok(None);
    }
    user.roles.push(role.to_owned());
    user.roles.sort();
    Draft::of(rules).put_user(user).counted(LoggedOut::Nobody)
}

/// Takes a role from a user.
pub fn revoke_role(rules: &Rules, user: &str, role: &str) -> Changed {
    if rules.is_enabled && user == ROOT && role == ROOT {
        return Err(RpcError::INVALID_AUTH_MGMT);
    }
    let mut user = kept_user(rules, user)?;
    let before = user.roles.len();
    user.roles.retain(|has| has != role);
    if user.roles.len() == before {
        return Err(RpcError::ROLE_NOT_GRANTED);
    }
    Draft::of(rules).put_user(user).counted(LoggedOut::Nobody)
}

/// Adds a role that grants nothing.
pub fn add_role(rules: &Rules, name: &str) -> Changed {
    if name.is_empty() {
        return Err(RpcError::ROLE_EMPTY);
    }
    if rules.role(name.as_bytes()).is_some() {
        return Err(RpcError::ROLE_ALREADY_EXIST);
    }
    let role = authpb::Role {
        name: name.to_owned().into(),
        key_permission: Vec::new(),
    };
    Draft::of(rules).put_role(role).counted(LoggedOut::Nobody)
}

/// Removes a role, and takes it from all users that have it.
pub fn delete_role(rules: &Rules, name: &str) -> Changed {
    if rules.is_enabled && name == ROOT {
        return Err(RpcError::INVALID_AUTH_MGMT);
    }
    kept_role(rules, name)?;
    let mut draft = Draft::of(rules);
    let holders: BTreeSet<&Bytes> = rules
        .users()
        .filter(|(_, user)| user.has_role(name))
        .map(|(name, _)| name)
        .collect();
    for holder in holders {
        let Some(user) = rules.user(holder) else {
            continue;
        };
        let mut user = authpb::User {
            name: holder.clone(),
            ..user.kept.clone()
        };
        user.roles.retain(|has| has != name);
        draft = draft.put_user(user);
    }
    draft.rules.remove_role(name.as_bytes());
    draft.settings.push((role_setting(name.as_bytes()), None));
    draft.counted(LoggedOut::Nobody)
}

/// Lets a role do something with a range, or changes what it may do with that very range.
pub fn grant_permission(
    rules: &Rules,
    role: &str,
    permission: Option<authpb::Permission>,
) -> Changed {
    let permission = permission.ok_or(RpcError::PERMISSION_NOT_GIVEN)?;
    if !is_range(&permission) {
        return Err(RpcError::INVALID_AUTH_MGMT);
    }
    let mut role = kept_role(rules, role)?;
    // etcd looks no further than at the first of the ranges that begin so, and appends when that is another; what a
    // role grants is the same, but for a grant that is narrowed. Here the very range is found.
    let same = |one: &&mut authpb::Permission| {
        one.key == permission.key && one.range_end == permission.range_end
    };
    match role.key_permission.iter_mut().find(same) {
        Some(one) => one.perm_type = permission.perm_type,
        None => role.key_permission.push(permission),
    }
    role.key_permission
        .sort_by(|left, right| left.key.cmp(&right.key));
    Draft::of(rules).put_role(role).counted(LoggedOut::Nobody)
}

/// A key, or a range that holds some.
fn is_range(permission: &authpb::Permission) -> bool {
    let range = key_range(&permission.key, &permission.range_end);
    !range.start.is_empty()
        && match range.end {
            End::One | End::Unbounded => true,
            End::Before(end) => range.start < end,
        }
}

/// Takes a range from a role: the very range that was granted.
pub fn revoke_permission(rules: &Rules, role: &str, key: &[u8], range_end: &[u8]) -> Changed {
    let mut role = kept_role(rules, role)?;
    let before = role.key_permission.len();
    role.key_permission
        .retain(|one| one.key != key || one.range_end != range_end);
    if role.key_permission.len() == before {
        return Err(RpcError::PERMISSION_NOT_GRANTED);
    }
    Draft::of(rules).put_role(role).counted(LoggedOut::Nobody)
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;

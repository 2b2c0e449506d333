//! Who asks, and whether it may: one request's view of the rules.
//!
//! The rules are those of the moment at which the request was looked at; a change that comes later is another
//! request's. With the rules off everything is allowed, and nothing is looked at.

use std::sync::Arc;

use etcd_wire::RpcError;
use kv::KeyRange;

use super::rules::{Deed, ROOT, Rules, User};

/// A user, as its token or its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub name: Arc<str>,
    /// Of the rules that the token was given under.
    pub revision: u64,
}

/// What a request may do.
#[derive(Clone, Debug)]
pub struct Access {
    /// None while the rules are off.
    rules: Option<Arc<Rules>>,
    who: Option<Who>,
}

impl Access {
    /// Everything is allowed.
    pub fn open() -> Access {
        Access {
            rules: None,
            who: None,
        }
    }

    /// What these rules allow.
    pub fn under(rules: Arc<Rules>, who: Option<Who>) -> Access {
        Access {
            rules: rules.is_enabled.then_some(rules),
            who,
        }
    }

    /// The same caller under other rules.
    pub fn moved_to(&self, rules: &Arc<Rules>) -> Access {
        Access::under(rules.clone(), self.who.clone())
    }

    /// The user's name, empty if nobody has said who asks.
    pub fn name(&self) -> &str {
        self.who.as_ref().map_or("", |who| &who.name)
    }

    /// Whether somebody is there at all.
    pub fn known(&self) -> Result<(), RpcError> {
        if self.rules.is_some() && self.who.is_none() {
            return Err(RpcError::USER_EMPTY);
        }
        Ok(())
    }

    /// Whether it is one with the role `root`.
    pub fn admin(&self) -> Result<(), RpcError> {
        let Some(rules) = &self.rules else {
            return Ok(());
        };
        if self.name().is_empty() {
            return Err(RpcError::USER_EMPTY);
        }
        let user = rules.user(self.name().as_bytes());
        let user = user.ok_or(RpcError::USER_NOT_FOUND)?;
        if !user.has_role(ROOT) {
            return Err(RpcError::PERMISSION_DENIED);
        }
        Ok(())
    }

    /// Whether it may do this with all keys of a range.
    pub fn may(&self, deed: Deed, range: &KeyRange) -> Result<(), RpcError> {
        let Some((rules, user)) = self.user()? else {
            return Ok(());
        };
        if user.has_role(ROOT) || rules.allow(user, deed, range) {
            return Ok(());
        }
        Err(RpcError::PERMISSION_DENIED)
    }

    /// Whether it has a role.
    pub fn has_role(&self, role: &str) -> bool {
        let Some(rules) = &self.rules else {
            return false;
        };
        let user = rules.user(self.name().as_bytes());
        user.is_some_and(|user| user.has_role(role))
    }

    /// Whose keys are asked for. A token of other rules than these is not good for keys.
    fn user(&self) -> Result<Option<(&Rules, &User)>, RpcError> {
        let Some(rules) = &self.rules else {
            return Ok(None);
        };
        let who = self.who.as_ref().ok_or(RpcError::USER_EMPTY)?;
        if who.revision != rules.revision {
            return Err(RpcError::AUTH_OLD_REVISION);
        }
        let user = rules.user(who.name.as_bytes());
        let user = user.ok_or(RpcError::PERMISSION_DENIED)?;
        Ok(Some((rules, user)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_wire::authpb;

    fn access(who: Option<(&str, u64)>) -> Access {
        let mut rules = Rules::default();
        (rules.is_enabled, rules.revision) = (true, 7);
        for (name, roles) in [("boss", vec![ROOT.to_owned()]), ("u", Vec::new())] {
            let user = authpb::User {
                roles,
                ..Default::default()
            };
            rules.put_user(name.into(), user);
        }
        let who = who.map(|(name, revision)| Who {
            name: name.into(),
            revision,
        });
        Access::under(Arc::new(rules), who)
    }

    #[test]
    fn who_asks_decides_what_is_answered() {
        let one = KeyRange::one("k");
        let asked = |who: Option<(&str, u64)>| {
            let access = access(who);
            (
                access.known().err(),
                access.admin().err(),
                access.may(Deed::Read, &one).err(),
            )
        };
        let empty = Some(RpcError::USER_EMPTY);
        let denied = Some(RpcError::PERMISSION_DENIED);
        let old = Some(RpcError::AUTH_OLD_REVISION);
        assert_eq!(asked(None), (empty.clone(), empty.clone(), empty.clone()));
        assert_eq!(asked(Some(("boss", 7))), (None, None, None));
        // Being in charge does not make an old token new; but who is in charge is known all the same.
        assert_eq!(asked(Some(("boss", 6))), (None, None, old.clone()));
        assert_eq!(asked(Some(("boss", 8))), (None, None, old));
        assert_eq!(
            asked(Some(("u", 7))),
            (None, denied.clone(), denied.clone())
        );
        let not_found = Some(RpcError::USER_NOT_FOUND);
        assert_eq!(asked(Some(("x", 7))), (None, not_found, denied.clone()));
        // A certificate without a name.
        assert_eq!(asked(Some(("", 7))), (None, empty, denied));
    }

    #[test]
    fn with_the_rules_off_everybody_may() {
        let open = Access::open();
        assert_eq!(open.known(), Ok(()));
        assert_eq!(open.admin(), Ok(()));
        assert_eq!(open.may(Deed::Write, &KeyRange::all()), Ok(()));
        let off = Access::under(Arc::new(Rules::default()), None);
        assert_eq!(off.admin(), Ok(()));
        // Turned on meanwhile.
        let on = access(None);
        let moved = off.moved_to(on.rules.as_ref().unwrap());
        assert_eq!(moved.admin(), Err(RpcError::USER_EMPTY));
    }
}

//! Access rules: who may do what. Off until somebody turns them on, and free of cost until then.
//!
//! ```text
//!   a call ─► credentials ─► tokens ─► who ─► access ◄─ rules        may it? what it needs is in `needs`
//!   a change ─► changes: new rules, settings ─► store ─► rules       one at a time, as alarms are
//! ```
//!
//! The settings of the store are the truth; what is here follows them. Readers take the rules as they are and look at
//! nothing that can change under them. Locks, in their order: `changing`, then `rules` or the table of tokens; none is
//! held while a password is hashed or while something waits.

mod access;
mod changes;
mod credentials;
mod intervals;
mod jwt;
mod jwt_keys;
pub mod needs;
mod options;
mod passwords;
mod rules;
mod service;
mod simple_tokens;
mod tokens;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use etcd_wire::RpcError;
use kv::LeaseId;
use store::Store;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::api::Api;
use crate::node::now_micros;
use crate::refuse::{status, store_error};
pub use access::Access;
use changes::Changed;
pub use credentials::Credentials;
pub use options::{AuthOptions, BCRYPT_COST_MAX, BCRYPT_COST_MIN, JwtOptions, TokenKind};
use passwords::Passwords;
pub use rules::Deed;
use rules::Rules;
use tokens::Tokens;

/// The rules, and what is needed to know who asks.
#[derive(Debug)]
pub struct Auth {
    /// For the hot path: the rules are the truth.
    is_on: AtomicBool,
    rules: RwLock<Arc<Rules>>,
    /// One change at a time, so that the rules follow the settings.
    changing: Mutex<()>,
    tokens: Tokens,
    passwords: Passwords,
}

impl Auth {
    /// The rules as the store has them. Reads the keys that tokens are signed with.
    pub fn open(options: &AuthOptions, store: &Store) -> Result<Auth, String> {
        let rules = Rules::of(store);
        Ok(Auth {
            is_on: AtomicBool::new(rules.is_enabled),
            rules: RwLock::new(Arc::new(rules)),
            changing: Mutex::new(()),
            tokens: Tokens::open(options)?,
            passwords: Passwords::new(options.bcrypt_cost),
        })
    }

    /// Whether anything is refused to anybody.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Counts the changes of the rules.
    pub fn revision(&self) -> u64 {
        self.rules().revision
    }

    fn rules(&self) -> Arc<Rules> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        rules.clone()
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a caller may do now. Refuses a token that is not good.
    pub fn access(&self, credentials: &Credentials) -> Result<Access, RpcError> {
        if !self.is_on() {
            return Ok(Access::open());
        }
        let rules = self.rules();
        if !rules.is_enabled {
            return Ok(Access::open());
        }
        let who = match &credentials.token {
            Some(token) => {
                let who = self.tokens.who(token, &rules);
                Some(who.ok_or(RpcError::INVALID_AUTH_TOKEN)?)
            }
            None => credentials.peer.as_ref().map(|name| access::Who {
                name: name.clone(),
                revision: rules.revision,
            }),
        };
        Ok(Access::under(rules, who))
    }

    /// Changes the rules, in memory and in the log's queue; whoever answers waits for the log.
    fn change(
        &self,
        store: &Store,
        change: impl FnOnce(&Arc<Rules>) -> Changed,
    ) -> Result<(), RpcError> {
        let _changing = self.changing();
        let Some(change) = change(&self.rules())? else {
            return Ok(());
        };
        store.set_settings(change.settings).map_err(store_error)?;
        let is_enabled = change.rules.is_enabled;
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        *rules = Arc::new(change.rules);
        drop(rules);
        self.is_on.store(is_enabled, Ordering::Release);
        self.tokens.log_out(&change.logged_out);
        Ok(())
    }

    /// Gives a token to a user whose password this is.
    async fn log_in(&self, name: &str, password: String, index: u64) -> Result<String, RpcError> {
        for _ in 0..LOG_IN_TRIES_MAX {
            let hash = password_of(&self.rules(), name)?;
            let is_right = self.passwords.is_hash_of(hash.clone(), password.clone());
            if !is_right.await? {
                tracing::info!(user = name, "a wrong password");
                return Err(RpcError::AUTH_FAILED);
            }
            // A token that is remembered must not be missed by the change that would take it back.
            let is_remembered = matches!(self.tokens, Tokens::Simple(_));
            let _changing = is_remembered.then(|| self.changing());
            let rules = self.rules();
            // It may be another by now: hashes are salted, so the same one means the same password.
            if password_of(&rules, name)? == hash {
                return self.tokens.assign(name, &rules, index);
            }
        }
        Err(RpcError::TOO_MANY_REQUESTS)
    }
}

/// Logins that begin anew because the password was changed while it was looked at.
const LOG_IN_TRIES_MAX: usize = 8;

/// The hash of a user's password.
fn password_of(rules: &Rules, name: &str) -> Result<Bytes, RpcError> {
    if !rules.is_enabled {
        return Err(RpcError::AUTH_NOT_ENABLED);
    }
    let user = rules.user(name.as_bytes());
    let user = user.ok_or(RpcError::AUTH_FAILED)?;
    if user.has_no_password() {
        return Err(RpcError::NO_PASSWORD_USER);
    }
    Ok(user.kept.password.clone())
}

impl Api {
    /// What a call says of who makes it.
    pub fn credentials(&self, metadata: &MetadataMap) -> Credentials {
        Credentials::of(metadata, self.peer.as_ref())
    }

    /// What the caller may do now. Refuses a token that is not good.
    pub fn access(&self, metadata: &MetadataMap) -> Result<Access, Status> {
        if !self.node.auth.is_on() {
            return Ok(Access::open());
        }
        let credentials = self.credentials(metadata);
        self.node.auth.access(&credentials).map_err(status)
    }

    /// The same for a call without metadata that would matter.
    pub fn access_of_peer(&self) -> Result<Access, Status> {
        if !self.node.auth.is_on() {
            return Ok(Access::open());
        }
        let credentials = Credentials {
            token: None,
            peer: self.peer.clone(),
        };
        self.node.auth.access(&credentials).map_err(status)
    }

    /// Refuses who is nobody.
    pub fn require_known(&self, metadata: &MetadataMap) -> Result<(), Status> {
        self.access(metadata)?.known().map_err(status)
    }

    /// Refuses who is not in charge.
    pub fn require_admin(&self, metadata: &MetadataMap) -> Result<(), Status> {
        self.access(metadata)?.admin().map_err(status)
    }
}

/// Which keys hang on a lease.
pub fn keys_of(store: &Store) -> impl Fn(LeaseId) -> Vec<Bytes> + '_ {
    |lease| {
        let left = store.lease_time_to_live(now_micros(), lease, true);
        left.map(|(_, keys)| keys).unwrap_or_default()
    }
}

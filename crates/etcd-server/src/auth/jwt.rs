//! JSON web tokens (RFC 7519) that say whose they are: made, and checked. Knows no rules, and keeps nothing.
//!
//! ```text
//!   {"alg":"RS256","typ":"JWT"} . {"exp":…,"revision":…,"username":…} . signature      each in base64, for URLs
//! ```
//!
//! Such a token is good at every server that has the key, for keys only as long as the access rules stay as they were
//! when it was made, and until it ends: it cannot be taken back. Time is passed in.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use etcd_wire::RpcError;
use serde_json::{Value, json};

use super::access::Who;
use super::jwt_keys::Key;

/// Makes and checks tokens.
#[derive(Debug)]
pub struct Jwt {
    method: String,
    key: Key,
    ttl: Duration,
}

impl Jwt {
    /// Tokens of a method and a key of it.
    pub fn new(method: String, key: Key, ttl: Duration) -> Jwt {
        Jwt { method, key, ttl }
    }

    /// A token for a user. `now_seconds` counts from the Unix epoch.
    pub fn assign(&self, user: &str, revision: u64, now_seconds: u64) -> Result<String, RpcError> {
        let head = json!({"alg": self.method, "typ": "JWT"});
        let claims = json!({
            "exp": now_seconds.saturating_add(self.ttl.as_secs()),
            "revision": revision,
            "username": user,
        });
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(head), encode(claims));
        let signature = self.key.sign(message.as_bytes());
        let signature = signature.ok_or(RpcError::VERIFY_ONLY)?;
        let signature = signature.map_err(|_| RpcError::STOPPED)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Whose token it is, if it is good.
    pub fn who(&self, token: &str, now_seconds: u64) -> Option<Who> {
        let (message, signature) = token.rsplit_once('.')?;
        let (head, claims) = message.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let parse = |part: &str| serde_json::from_slice::<Value>(&decode(part)?).ok();
        // By no other method, and least of all by none.
        let head = parse(head)?;
        if head.get("alg")?.as_str()? != self.method {
            return None;
        }
        if !self.key.has_signed(message.as_bytes(), &decode(signature)?) {
            return None;
        }
        let claims = parse(claims)?;
        let now = now_seconds as f64;
        let is_in_time = |name: &str, is_good: fn(f64, f64) -> bool| match claims.get(name) {
            None => true,
            Some(at) => at.as_f64().is_some_and(|at| is_good(now, at)),
        };
        if !is_in_time("exp", |now, at| now < at) || !is_in_time("nbf", |now, at| now >= at) {
            return None;
        }
        // Other makers of tokens may write it as 7.0.
        let revision = claims.get("revision")?.as_f64()?;
        Some(Who {
            name: claims.get("username")?.as_str()?.into(),
            revision: revision as u64,
        })
    }
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;

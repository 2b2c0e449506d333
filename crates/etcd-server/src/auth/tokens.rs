//! Tokens of whichever kind there are: given to a user, and read again.

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use etcd_wire::RpcError;

use super::access::Who;
use super::changes::LoggedOut;
use super::jwt::Jwt;
use super::jwt_keys::Key;
use super::options::{AuthOptions, TokenKind};
use super::rules::Rules;
use super::simple_tokens::{SimpleTokens, letters};

/// What tokens are.
#[derive(Debug)]
pub enum Tokens {
    Simple(SimpleTokens),
    Jwt(Box<Jwt>),
    None,
}

/// Random bytes for the letters of a token: 13 of 16 make a letter, so 64 are too few for 16 once in 10^22 times.
const RANDOM_BYTES: usize = 64;

impl Tokens {
    /// Reads the keys, if there are some.
    pub fn open(options: &AuthOptions) -> Result<Tokens, String> {
        let jwt = match &options.token {
            TokenKind::Simple => return Ok(Tokens::Simple(SimpleTokens::new(options.token_ttl))),
            TokenKind::None => return Ok(Tokens::None),
            TokenKind::Jwt(jwt) => jwt,
        };
        let read = |path: &Option<PathBuf>| match path {
            Some(path) => std::fs::read(path)
                .map(Some)
                .map_err(|error| format!("{}: {error}", path.display())),
            None => Ok(None),
        };
        let (public, private) = (read(&jwt.public_key)?, read(&jwt.private_key)?);
        let key = Key::open(&jwt.method, public.as_deref(), private.as_deref());
        let key = key.map_err(|error| error.to_string())?;
        let jwt = Jwt::new(jwt.method.clone(), key, jwt.ttl);
        Ok(Tokens::Jwt(Box::new(jwt)))
    }

    /// Whose token it is under these rules, if it is good.
    pub fn who(&self, token: &str, rules: &Rules) -> Option<Who> {
        match self {
            // They do not say under which rules they were given: they go when their user changes.
            Tokens::Simple(tokens) => Some(Who {
                name: tokens.user(token, Instant::now())?,
                revision: rules.revision,
            }),
            Tokens::Jwt(jwt) => jwt.who(token, now_seconds()),
            Tokens::None => None,
        }
    }

    /// Gives a user a token. `index` makes it look like etcd's, and later ones differ from earlier ones.
    pub fn assign(&self, user: &str, rules: &Rules, index: u64) -> Result<String, RpcError> {
        match self {
            Tokens::Simple(tokens) => {
                let mut random = [0; RANDOM_BYTES];
                let filled = aws_lc_rs::rand::fill(&mut random).ok();
                let letters = filled.and_then(|()| letters(&random));
                let letters = letters.ok_or(RpcError::TOO_MANY_REQUESTS)?;
                tokens.assign(user, &letters, index, Instant::now())
            }
            Tokens::Jwt(jwt) => jwt.assign(user, rules.revision, now_seconds()),
            Tokens::None => Err(RpcError::AUTH_FAILED),
        }
    }

    /// Takes back what can be taken back.
    pub fn log_out(&self, who: &LoggedOut) {
        let Tokens::Simple(tokens) = self else {
            return;
        };
        match who {
            LoggedOut::Nobody => {}
            LoggedOut::User(name) => tokens.forget_user(name),
            LoggedOut::Everybody => tokens.forget_all(),
        }
    }
}

fn now_seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

//! How users log in: what etcd's flags say about tokens and passwords. Knows no files: keys are read elsewhere.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::compactor::duration;

/// How users log in. The defaults are etcd's.
#[derive(Clone, Debug)]
pub struct AuthOptions {
    /// What a token is.
    pub token: TokenKind,
    /// How long a simple token is good after its last use.
    pub token_ttl: Duration,
    /// What a hash of a password costs: 2 to the power of it rounds, from [`BCRYPT_COST_MIN`] to [`BCRYPT_COST_MAX`].
    pub bcrypt_cost: u32,
}

/// The least a hash may cost.
pub const BCRYPT_COST_MIN: u32 = 4;

/// The most a hash may cost.
pub const BCRYPT_COST_MAX: u32 = 31;

impl Default for AuthOptions {
    fn default() -> Self {
        AuthOptions {
            token: TokenKind::Simple,
            token_ttl: Duration::from_secs(300),
            bcrypt_cost: 10,
        }
    }
}

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A random name that the server remembers.
    Simple,
    /// A signed statement that nobody needs to remember.
    Jwt(JwtOptions),
    /// There are none: users log in by certificate only.
    None,
}

/// How statements are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtOptions {
    /// `RS256`, `ES256` and so on: the names of RFC 7518 and RFC 8037.
    pub method: String,
    /// A file with the public key or a certificate of it, PEM.
    pub public_key: Option<PathBuf>,
    /// A file with the private key, PEM; for `HS256` and its kin, the secret as it is.
    pub private_key: Option<PathBuf>,
    /// How long a statement is good.
    pub ttl: Duration,
}

/// How long a statement is good unless something else is said, as in etcd.
const JWT_TTL: Duration = Duration::from_secs(5 * 60);

impl TokenKind {
    /// Reads the value of etcd's flag: `simple`, or `jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE,ttl=10m`.
    pub fn parse(text: &str) -> Result<TokenKind, String> {
        let mut parts = text.split(',');
        let kind = parts.next().unwrap_or_default();
        let mut given = BTreeMap::new();
        for part in parts {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("{part:?}: an option looks like ttl=10m"))?;
            if given.insert(name, value).is_some() {
                return Err(format!("{name} is given twice"));
            }
        }
        let mut take = |name: &str| given.remove(name).filter(|value| !value.is_empty());
        let found = match kind {
            "simple" => TokenKind::Simple,
            "" => TokenKind::None,
            "jwt" => TokenKind::Jwt(JwtOptions {
                method: take("sign-method")
                    .ok_or("jwt needs a sign-method, such as RS256")?
                    .to_owned(),
                public_key: take("pub-key").map(PathBuf::from),
                private_key: take("priv-key").map(PathBuf::from),
                ttl: match take("ttl") {
                    Some(ttl) => {
                        duration(ttl).map_err(|_| format!("ttl={ttl}: a time looks like 10m"))?
                    }
                    None => JWT_TTL,
                },
            }),
            other => return Err(format!("{other:?} is neither simple nor jwt")),
        };
        match given.keys().next() {
            Some(name) if kind == "jwt" => Err(format!(
                "{name:?} is none of sign-method, pub-key, priv-key, ttl"
            )),
            Some(name) => Err(format!("{name:?}: {kind} has no options")),
            None => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_read_as_etcd_reads_it() {
        assert_eq!(TokenKind::parse("simple"), Ok(TokenKind::Simple));
        assert_eq!(TokenKind::parse(""), Ok(TokenKind::None));
        let text = "jwt,pub-key=app.rsa.pub,priv-key=app.rsa,sign-method=RS512,ttl=10m";
        let jwt = TokenKind::Jwt(JwtOptions {
            method: "RS512".into(),
            public_key: Some("app.rsa.pub".into()),
            private_key: Some("app.rsa".into()),
            ttl: Duration::from_secs(600),
        });
        assert_eq!(TokenKind::parse(text), Ok(jwt));
        let jwt = TokenKind::Jwt(JwtOptions {
            method: "HS256".into(),
            public_key: None,
            private_key: None,
            ttl: JWT_TTL,
        });
        assert_eq!(TokenKind::parse("jwt,sign-method=HS256,pub-key="), Ok(jwt));
    }

    #[test]
    fn what_is_no_flag_is_told() {
        for (text, told) in [
            ("simpel", "\"simpel\" is neither simple nor jwt"),
            ("jwt", "jwt needs a sign-method, such as RS256"),
            ("jwt,ttl", "\"ttl\": an option looks like ttl=10m"),
            ("jwt,ttl=1m,ttl=2m", "ttl is given twice"),
            (
                "jwt,sign-method=RS256,ttl=x",
                "ttl=x: a time looks like 10m",
            ),
            (
                "jwt,sign-method=RS256,key=x",
                "\"key\" is none of sign-method, pub-key, priv-key, ttl",
            ),
            ("simple,ttl=1m", "\"ttl\": simple has no options"),
        ] {
            assert_eq!(TokenKind::parse(text), Err(told.to_owned()));
        }
    }
}

//! What a call says of who makes it: a token, or the certificate of its connection.

use std::sync::Arc;

use tonic::metadata::MetadataMap;

/// Kept by a stream, and looked at anew for each of its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// As it was sent; what is no text is no good token either.
    pub token: Option<String>,
    /// The common name of the certificate.
    pub peer: Option<Arc<str>>,
}

/// Where tokens are found: gRPC's clients use the one, those of the JSON gateway the other.
const TOKENS: [&str; 2] = ["token", "authorization"];

/// What a gateway adds. Its connection is its own, and so is the certificate.
const GATEWAY: &str = "grpcgateway-accept";

impl Credentials {
    /// Reads the metadata of a call that came over a connection of this peer.
    pub fn of(metadata: &MetadataMap, peer: Option<&Arc<str>>) -> Credentials {
        let found = TOKENS.iter().find_map(|name| metadata.get(*name));
        let token = found.map(|token| {
            let token = String::from_utf8_lossy(token.as_bytes());
            token.strip_prefix("Bearer ").unwrap_or(&token).to_owned()
        });
        let is_gateway = metadata.contains_key(GATEWAY);
        Credentials {
            token,
            peer: peer.filter(|_| !is_gateway).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_where_clients_put_it() {
        let peer: Arc<str> = "cn".into();
        let of = |fields: &[(&'static str, &str)]| {
            let mut metadata = MetadataMap::new();
            for (name, value) in fields {
                metadata.insert(*name, value.parse().unwrap());
            }
            let found = Credentials::of(&metadata, Some(&peer));
            (found.token, found.peer.is_some())
        };
        let token = |token: &str| Some(token.to_owned());
        assert_eq!(of(&[]), (None, true));
        assert_eq!(of(&[("token", "a.1")]), (token("a.1"), true));
        assert_eq!(of(&[("authorization", "b.2")]), (token("b.2"), true));
        assert_eq!(of(&[("authorization", "Bearer c")]), (token("c"), true));
        let both = [("authorization", "b.2"), ("token", "a.1")];
        assert_eq!(of(&both), (token("a.1"), true));
        assert_eq!(of(&[("grpcgateway-accept", "*/*")]), (None, false));
    }
}

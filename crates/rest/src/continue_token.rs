//! The `continue` token: where the next page of a list begins, and at which revision it is read.
//!
//! Its form is upstream's, so that a list begun on one server can go on at another. Knows no store: a key is text
//! under a prefix.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meta::ApiError;

/// Longest token that is decoded, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

const VERSION: &str = "meta.k8s.io/v1";

/// The revision of a token that goes on with whatever is newest, across a compaction.
pub const LATEST: i64 = -1;

/// A place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContinueToken {
    /// Revision of the list's first page, or [`LATEST`].
    pub revision: i64,
    /// First key of the next page, relative to the prefix of the list.
    pub start: String,
}

impl ContinueToken {
    /// The token after `last_key`, the last key of a page, relative to the prefix of the list.
    #[must_use]
    pub fn after(last_key: &str, revision: i64) -> ContinueToken {
        // The smallest key behind a key is the key with a zero byte.
        ContinueToken {
            revision,
            start: format!("{last_key}\0"),
        }
    }

    /// The wire form.
    #[must_use]
    pub fn encode(&self) -> String {
        let start = value::Value::from(self.start.as_str());
        URL_SAFE_NO_PAD.encode(format!(
            r#"{{"v":"{VERSION}","rv":{},"start":{start}}}"#,
            self.revision
        ))
    }

    /// Reads the wire form. The start never leaves the prefix of the list.
    ///
    /// # Errors
    /// 400 in upstream's words for anything that is not such a token.
    pub fn decode(text: &str) -> Result<ContinueToken, ApiError> {
        let invalid = |why: &str| {
            ApiError::bad_request(format!(
                "invalid continue token: continue key is not valid{why}"
            ))
        };
        if text.len() > TOKEN_BYTES_MAX {
            return Err(invalid(""));
        }
        let json = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|error| invalid(&format!(": {}", base64_text(&error, text))))?;
        let token: value::Value =
            serde_json::from_slice(&json).map_err(|error| invalid(&format!(": {error}")))?;
        let version = token
            .get("v")
            .and_then(value::Value::as_str)
            .unwrap_or_default();
        if version != VERSION {
            return Err(invalid(&format!(
                ": server does not recognize this encoded version {version}"
            )));
        }
        let revision = token
            .get("rv")
            .and_then(value::Value::as_i64)
            .unwrap_or_default();
        if revision == 0 || revision < LATEST {
            return Err(invalid(
                ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ));
        }
        let start = token
            .get("start")
            .and_then(value::Value::as_str)
            .unwrap_or_default();
        if start.is_empty() {
            return Err(invalid(
                ": encoded start key empty (version meta.k8s.io/v1)",
            ));
        }
        let start = start.strip_prefix('/').unwrap_or(start);
        if start
            .split('/')
            .any(|segment| matches!(segment, "" | "." | ".."))
        {
            return Err(invalid(&format!(": {start}")));
        }
        Ok(ContinueToken {
            revision,
            start: start.to_owned(),
        })
    }

    /// 410 for a token whose revision is compacted, with a token that goes on regardless.
    #[must_use]
    pub fn expired(&self) -> ApiError {
        let fresh = ContinueToken {
            revision: LATEST,
            start: self.start.clone(),
        };
        ApiError::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of \
             the results. Continuing with the provided token results in an inconsistent list - objects that were \
             created, modified, or deleted between the time the first chunk was returned and now may show up in the \
             list.",
        )
        .with_continue_token(fresh.encode())
    }
}

/// 410 for a list at an exact revision that is compacted.
#[must_use]
pub fn expired_list() -> ApiError {
    ApiError::expired("The resourceVersion for the provided list is too old.")
}

/// Go's text for broken base64.
fn base64_text(error: &base64::DecodeError, text: &str) -> String {
    let offset = match error {
        base64::DecodeError::InvalidByte(offset, _)
        | base64::DecodeError::InvalidLastSymbol(offset, _) => *offset,
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len(),
    };
    format!("illegal base64 data at input byte {offset}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> String {
        URL_SAFE_NO_PAD.encode(json)
    }

    fn refusal(token: &str) -> String {
        let error = ContinueToken::decode(token).unwrap_err();
        assert_eq!(error.code, 400);
        error.message
    }

    #[test]
    fn has_the_form_other_servers_read() {
        let token = ContinueToken::after("default/web-1", 42);
        assert_eq!(
            URL_SAFE_NO_PAD.decode(token.encode()).unwrap(),
            br#"{"v":"meta.k8s.io/v1","rv":42,"start":"default/web-1\u0000"}"#
        );
        assert_eq!(ContinueToken::decode(&token.encode()).unwrap(), token);
        let slash = raw(r#"{"v":"meta.k8s.io/v1","rv":-1,"start":"/a/b"}"#);
        assert_eq!(
            ContinueToken::decode(&slash).unwrap(),
            ContinueToken {
                revision: LATEST,
                start: "a/b".into()
            }
        );
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(
            refusal("a*b"),
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 1"
        );
        assert!(
            refusal(&raw("nonsense"))
                .starts_with("invalid continue token: continue key is not valid: ")
        );
        assert_eq!(
            refusal(&raw(r#"{"v":"v9","rv":1,"start":"a"}"#)),
            "invalid continue token: continue key is not valid: server does not recognize this encoded version v9"
        );
        assert!(
            refusal(&raw(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#))
                .contains("incorrect encoded start")
        );
        assert!(
            refusal(&raw(r#"{"v":"meta.k8s.io/v1","rv":5,"start":""}"#))
                .contains("encoded start key empty")
        );
        assert!(refusal(&"A".repeat(TOKEN_BYTES_MAX + 1)).ends_with("continue key is not valid"));
    }

    #[test]
    fn the_start_cannot_climb_out_of_the_prefix() {
        for start in ["../secrets/x", "a/../../b", "a//b", "./a", "a/", "//a"] {
            let token = raw(&format!(
                r#"{{"v":"meta.k8s.io/v1","rv":5,"start":"{start}"}}"#
            ));
            assert!(
                refusal(&token).starts_with("invalid continue token: continue key is not valid: "),
                "{start}"
            );
        }
    }

    #[test]
    fn an_expired_token_brings_one_that_goes_on() {
        let error = ContinueToken::after("a", 3).expired();
        assert_eq!((error.code, error.reason.as_str()), (410, "Expired"));
        let fresh = ContinueToken::decode(error.continue_token.as_deref().unwrap()).unwrap();
        assert_eq!(
            fresh,
            ContinueToken {
                revision: LATEST,
                start: "a\0".into()
            }
        );
    }
}

//! Which web pages may read our plain HTTP answers.

use http::{HeaderMap, HeaderValue};

use crate::options::Options;

const METHODS: HeaderValue = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static("accept, content-type, authorization");

/// The headers that let a page of this origin read an answer; none if it may not.
pub fn headers(options: &Options, request: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let allowed = if options.cors.iter().any(|origin| origin == "*") {
        Some(HeaderValue::from_static("*"))
    } else {
        let origin = request.get("origin");
        let is_allowed = |origin: &&HeaderValue| {
            options
                .cors
                .iter()
                .any(|known| known.as_bytes() == origin.as_bytes())
        };
        origin.filter(is_allowed).cloned()
    };
    if let Some(origin) = allowed {
        headers.insert("access-control-allow-methods", METHODS);
        headers.insert("access-control-allow-origin", origin);
        headers.insert("access-control-allow-headers", HEADERS);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(cors: &[&str], origin: &'static str) -> Option<HeaderValue> {
        let options = Options {
            cors: cors.iter().map(|&origin| origin.into()).collect(),
            ..Options::default()
        };
        let mut request = HeaderMap::new();
        request.insert("origin", HeaderValue::from_static(origin));
        headers(&options, &request).remove("access-control-allow-origin")
    }

    #[test]
    fn a_page_may_read_if_its_origin_is_named() {
        assert_eq!(allowed(&["*"], "https://a").unwrap(), "*");
        assert_eq!(allowed(&["https://a"], "https://a").unwrap(), "https://a");
        assert_eq!(allowed(&["https://a"], "https://b"), None);
    }
}

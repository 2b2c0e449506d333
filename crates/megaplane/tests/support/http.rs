//! Requests that no kubectl would send, over our own HTTPS transport.

use std::sync::Arc;

use client::Kubeconfig;
use client::https::HttpsTransport;
use rest::http::{Body, Method, Request, Service as _};
use value::Value;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in:\n{}", self.text()))
    }

    /// Asserts an error answer: a `Status` with this code and reason, and these parts in its message.
    #[track_caller]
    pub(crate) fn is_error(&self, code: u16, reason: &str, parts: &[&str]) {
        assert_eq!(self.status, code, "{}", self.text());
        let status = self.json();
        let seen = [
            &status["kind"],
            &status["apiVersion"],
            &status["status"],
            &status["reason"],
        ];
        assert_eq!(seen, ["Status", "v1", "Failure", reason], "{}", self.text());
        assert_eq!(status["code"], code, "{}", self.text());
        super::assert_has(status["message"].as_str().unwrap_or_default(), parts);
    }

    #[track_caller]
    pub(crate) fn succeeded(self) -> Answer {
        assert!(
            (200..300).contains(&self.status),
            "HTTP {}: {}",
            self.status,
            self.text()
        );
        self
    }
}

/// Sends one request on a connection of its own. `target` is path and query. Status 0 means that no answer came; the
/// body then says why.
pub(crate) fn send(
    config: &Kubeconfig,
    method: Method,
    target: &str,
    accept: &str,
    content_type: &str,
    body: impl Into<Vec<u8>>,
) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request {
        method,
        path: path.into(),
        query: query.into(),
        accept: accept.into(),
        content_type: content_type.into(),
        user_agent: "megaplane-tests".into(),
        if_none_match: None,
        body: body.into().into(),
        user: None,
    };
    let transport = HttpsTransport::new(config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let reply = transport.call(request).await;
        let body = match reply.body {
            Body::Full(bytes) => bytes.to_vec(),
            Body::Stream(mut source) => {
                let mut body = Vec::new();
                while let Some(frame) = std::future::poll_fn(|cx| source.poll_frame(cx)).await {
                    body.extend_from_slice(&frame);
                }
                body
            }
        };
        Answer {
            status: reply.status,
            content_type: reply.content_type.into_owned(),
            body,
        }
    })
}

/// Our own client with these settings.
pub(crate) fn client(config: &Kubeconfig) -> client::Client {
    client::Client::new(
        Arc::new(HttpsTransport::new(config).unwrap()),
        None,
        "megaplane-tests",
    )
}

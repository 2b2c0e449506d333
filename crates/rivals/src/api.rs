//! Objects in and out of an API server of any release, as JSON.
//!
//! Knows paths and bodies, no kinds: the client of our own components reads only what our schema has, and 1.20
//! serves versions that it does not have.

use std::future::poll_fn;

use client::Kubeconfig;
use client::https::HttpsTransport;
use rest::http::{Body, Method, Request, Service};
use value::Value;

/// Largest reply, in bytes: a list of some hundred pods is a few hundred KiB.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// See the module's head.
pub struct Api {
    service: HttpsTransport,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

impl Api {
    /// Connects with the first request.
    pub fn new(config: &Kubeconfig) -> Result<Api, String> {
        let service = HttpsTransport::new(config).map_err(|error| error.to_string())?;
        Ok(Api { service })
    }

    /// Does it answer that it is ready?
    pub async fn is_ready(&self) -> bool {
        matches!(
            self.ask(Method::Get, "/readyz", "", None).await,
            Ok((200, _))
        )
    }

    /// Reads an object or a list.
    pub async fn get(&self, path: &str) -> Result<Value, String> {
        self.object(Method::Get, path, "", None).await
    }

    /// Creates an object; gives what became of it.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value, String> {
        let json = "application/json";
        self.object(Method::Post, path, json, Some(object)).await
    }

    /// Replaces an object.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<Value, String> {
        let json = "application/json";
        self.object(Method::Put, path, json, Some(object)).await
    }

    /// Changes an object by a merge patch.
    pub async fn patch(&self, path: &str, patch: &Value) -> Result<Value, String> {
        let merge = "application/merge-patch+json";
        self.object(Method::Patch, path, merge, Some(patch)).await
    }

    /// Deletes an object.
    pub async fn delete(&self, path: &str) -> Result<Value, String> {
        self.object(Method::Delete, path, "", None).await
    }

    async fn object(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        let (status, reply) = self.ask(method, path, content_type, body).await?;
        if !(200..300).contains(&status) {
            let reply = String::from_utf8_lossy(&reply);
            return Err(format!(
                "{} {path}: HTTP {status}: {reply}",
                method.as_str()
            ));
        }
        serde_json::from_slice(&reply).map_err(|error| format!("{path}: {error}"))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Vec<u8>), String> {
        let reply = self.service.call(Request {
            method,
            path: path.to_owned(),
            query: String::new(),
            accept: "application/json".into(),
            content_type: content_type.into(),
            user_agent: "rivals".into(),
            if_none_match: None,
            body: body.map(Value::to_string).unwrap_or_default().into(),
            user: None,
        });
        let reply = reply.await;
        let mut all = Vec::new();
        match reply.body {
            Body::Full(bytes) => all.extend_from_slice(&bytes),
            Body::Stream(mut source) => {
                while let Some(piece) = poll_fn(|cx| source.poll_frame(cx)).await {
                    if all.len() + piece.len() > REPLY_BYTES_MAX {
                        return Err(format!("{path}: the reply is too large"));
                    }
                    all.extend_from_slice(&piece);
                }
            }
        }
        if reply.status == 0 {
            return Err(String::from_utf8_lossy(&all).into_owned());
        }
        Ok((reply.status, all))
    }
}

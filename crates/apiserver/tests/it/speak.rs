//! Requests and answers with few words.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rest::http::{Body, FrameSource, Method, Reply, Request, Service, User};
use value::Value;

/// A test that waits longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody who talks to an API server over some transport.
#[derive(Clone)]
pub struct Speaker {
    service: Arc<dyn Service>,
    user: Option<Arc<User>>,
    /// A namespace that nobody else uses.
    pub namespace: String,
}

impl Speaker {
    pub fn new(service: Arc<dyn Service>, user: Option<Arc<User>>, namespace: &str) -> Speaker {
        Speaker {
            service,
            user,
            namespace: namespace.to_owned(),
        }
    }

    /// The client of our components, over the same transport.
    pub fn client(&self) -> client::Client {
        client::Client::new(self.service.clone(), self.user.clone(), "test/1")
    }

    /// The path of a namespaced resource: `own("pods")`, `own("apps/v1/deployments/web")`.
    pub fn own(&self, rest: &str) -> String {
        let namespace = &self.namespace;
        let parts: Vec<&str> = rest.splitn(3, '/').collect();
        match parts.as_slice() {
            [group, version, resource] if version.starts_with('v') => {
                format!("/apis/{group}/{version}/namespaces/{namespace}/{resource}")
            }
            _ => format!("/api/v1/namespaces/{namespace}/{rest}"),
        }
    }

    pub fn ask(&self, method: Method, path: &str) -> Request {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Request {
            method,
            path: path.into(),
            query: query.into(),
            accept: "application/json".into(),
            content_type: "".into(),
            user_agent: "test/1".into(),
            if_none_match: None,
            body: Bytes::new(),
            user: self.user.clone(),
        }
    }

    pub fn ask_with(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Request {
        Request {
            content_type: content_type.into(),
            body: body.into(),
            ..self.ask(method, path)
        }
    }

    pub async fn send(&self, request: Request) -> Answer {
        let what = format!(
            "{} {}?{}",
            request.method.as_str(),
            request.path,
            request.query
        );
        let Reply {
            status,
            content_type,
            headers,
            body,
        } = self.service.call(request).await;
        let body = tokio::time::timeout(PATIENCE, gather(body))
            .await
            .expect("an endless answer");
        Answer {
            what,
            status,
            content_type: content_type.into_owned(),
            headers,
            body,
        }
    }

    /// The answer as it comes, a stream unread.
    pub async fn reply(&self, request: Request) -> Reply {
        self.service.call(request).await
    }

    /// Status of the answer; a stream is let go unread.
    pub async fn head(&self, request: Request) -> u16 {
        let reply = tokio::time::timeout(PATIENCE, self.service.call(request)).await;
        reply.expect("no answer").status
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.ask(Method::Get, path)).await
    }

    pub async fn accepting(&self, accept: &str, path: &str) -> Answer {
        self.send(Request {
            accept: accept.into(),
            ..self.ask(Method::Get, path)
        })
        .await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.ask_with(Method::Post, path, "application/json", body.to_string()))
            .await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.ask_with(Method::Put, path, "application/json", body.to_string()))
            .await
    }

    /// `language`: `json`, `merge` or `strategic-merge`.
    pub async fn patch(&self, path: &str, language: &str, body: &Value) -> Answer {
        let content_type = format!("application/{language}-patch+json");
        self.send(self.ask_with(Method::Patch, path, &content_type, body.to_string()))
            .await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.ask(Method::Delete, path)).await
    }

    pub async fn delete_with(&self, path: &str, options: &Value) -> Answer {
        self.send(self.ask_with(
            Method::Delete,
            path,
            "application/json",
            options.to_string(),
        ))
        .await
    }

    /// Opens a watch and reads JSON events.
    pub async fn watch(&self, path: &str) -> Watch {
        self.watch_as("application/json", path).await
    }

    pub async fn watch_as(&self, accept: &str, path: &str) -> Watch {
        let reply = self
            .service
            .call(Request {
                accept: accept.into(),
                ..self.ask(Method::Get, path)
            })
            .await;
        assert_eq!(reply.status, 200, "{path}");
        let Body::Stream(source) = reply.body else {
            panic!("{path} did not stream")
        };
        Watch {
            source,
            buffer: BytesMut::new(),
            ready: VecDeque::new(),
        }
    }
}

async fn gather(body: Body) -> Bytes {
    match body {
        Body::Full(bytes) => bytes,
        Body::Stream(mut source) => {
            let mut all = BytesMut::new();
            while let Some(piece) = poll_fn(|cx| source.poll_frame(cx)).await {
                all.extend_from_slice(&piece);
            }
            all.freeze()
        }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    what: String,
    pub status: u16,
    pub content_type: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error}: {:?}", self.what, self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The object, if the status is this one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {:?}", self.what, self.body);
        self.json()
    }

    /// The message of an error `Status` with this code and reason.
    #[track_caller]
    pub fn refused(&self, code: u16, reason: &str) -> String {
        let status = self.expect(code);
        assert_eq!(status["kind"], "Status", "{}", self.what);
        assert_eq!(status["apiVersion"], "v1", "{}", self.what);
        assert_eq!(status["status"], "Failure", "{}", self.what);
        assert_eq!(status["code"], code, "{}", self.what);
        assert_eq!(status["reason"], reason, "{}: {status}", self.what);
        status["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// An open watch in JSON.
pub struct Watch {
    source: Box<dyn FrameSource>,
    buffer: BytesMut,
    ready: VecDeque<Value>,
}

impl Watch {
    /// The next event; `None` at the end of the watch.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let piece = poll_fn(|cx| self.source.poll_frame(cx));
            let piece = tokio::time::timeout(PATIENCE, piece)
                .await
                .expect("an event that never comes")?;
            self.buffer.extend_from_slice(&piece);
            self.cut();
        }
    }

    /// The next event as `TYPE name`, or `BOOKMARK`.
    pub async fn next_words(&mut self) -> String {
        let event = self.next().await.expect("the watch ended");
        let kind = event["type"].as_str().unwrap().to_owned();
        match event["object"]["metadata"]["name"].as_str() {
            Some(name) => format!("{kind} {name}"),
            None => kind,
        }
    }

    /// Whether an event is there without waiting for one. It is lost.
    pub async fn is_quiet(&mut self) -> bool {
        if !self.ready.is_empty() {
            return false;
        }
        let polled = poll_fn(|cx| std::task::Poll::Ready(self.source.poll_frame(cx))).await;
        polled.is_pending()
    }

    /// The events that are there without waiting, as [`Self::next_words`] gives them.
    pub async fn words_there(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        loop {
            while !self.ready.is_empty() {
                words.push(self.next_words().await);
            }
            let polled = poll_fn(|cx| std::task::Poll::Ready(self.source.poll_frame(cx))).await;
            let std::task::Poll::Ready(Some(piece)) = polled else {
                return words;
            };
            self.buffer.extend_from_slice(&piece);
            self.cut();
        }
    }

    fn cut(&mut self) {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end + 1);
            self.ready.push_back(serde_json::from_slice(&line).unwrap());
        }
    }
}

/// `metadata.resourceVersion` as a number.
#[track_caller]
pub fn version(object: &Value) -> i64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

/// Names of the items of a list.
pub fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

/// A ConfigMap with one entry.
pub fn config_map(name: &str, value: &str) -> Value {
    value::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}})
}

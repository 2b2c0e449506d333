//! Verbs on resources: builds the request, reads the reply.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use meta::{ApiError, Value};
use rest::http::{Body, Method, Reply, Request, Service, User};
use schema::{DecodeError, Resource, TypeId};

use crate::options::{QueryBuilder, push_encoded};
use crate::watch::WatchStream;
use crate::{ClientError, DeleteOptions, ListOptions, Only, PatchType, WatchOptions};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const ACCEPT: &str = "application/vnd.kubernetes.protobuf,application/json";
const ACCEPT_WATCH: &str =
    "application/vnd.kubernetes.protobuf;stream=watch,application/vnd.kubernetes.protobuf";

/// Largest reply body that is gathered in memory, in bytes; longer lists are to be paged.
const REPLY_BYTES_MAX: usize = 1 << 30;

/// One page of a list.
#[derive(Debug, Clone)]
pub struct List {
    /// The objects, in key order.
    pub items: Vec<Value>,
    /// The version at which the list is true.
    pub resource_version: String,
    /// Token of the next page; empty on the last one.
    pub continue_token: String,
}

/// A client of one API server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    service: Arc<dyn Service>,
    user: Option<Arc<User>>,
    user_agent: Arc<str>,
}

impl Client {
    /// A client over any service. `user` is who speaks when the service runs in this process; over HTTPS the
    /// certificate tells, and `None` is given.
    #[must_use]
    pub fn new(service: Arc<dyn Service>, user: Option<Arc<User>>, user_agent: &str) -> Client {
        Client {
            service,
            user,
            user_agent: user_agent.into(),
        }
    }

    /// The same connection under another name, for logs and audit.
    #[must_use]
    pub fn with_user_agent(&self, user_agent: &str) -> Client {
        Client {
            user_agent: user_agent.into(),
            ..self.clone()
        }
    }

    /// Reads one object.
    pub async fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Value, ClientError> {
        let request = self.request(Method::Get, path(resource, namespace, name, ""));
        self.object(request).await
    }

    /// Reads one page.
    pub async fn list(
        &self,
        resource: &Resource,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<List, ClientError> {
        let mut request = self.request(Method::Get, path(resource, namespace, "", ""));
        let limit = if options.limit == 0 {
            String::new()
        } else {
            options.limit.to_string()
        };
        request.query = QueryBuilder::default()
            .add("labelSelector", &options.label_selector)
            .add("fieldSelector", &options.field_selector)
            .add("limit", &limit)
            .add("continue", &options.continue_token)
            .add("resourceVersion", &options.resource_version)
            .finish();
        let body = checked(self.call(request).await).await?;
        let list = match &options.only {
            Some(only) => decode(&body, |type_id, message| {
                // Whoever asked knows that it is a list of these.
                let fields = &only.list;
                schema::decode_protobuf_fields(type_id, fields, message)
            })?,
            None => decode_object(&body)?,
        };
        let Value::Object(mut map) = list else {
            return Err(ClientError::Transport("the list is not an object".into()));
        };
        let metadata = map.remove("metadata").unwrap_or_default();
        let mut items = match map.remove("items") {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        let api_version = meta::api_version(resource.group, resource.version);
        for item in &mut items {
            item["apiVersion"] = api_version.as_str().into();
            item["kind"] = resource.kind.into();
        }
        let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
        Ok(List {
            items,
            resource_version: text("resourceVersion"),
            continue_token: text("continue"),
        })
    }

    /// Creates an object in `namespace` (empty for cluster-wide kinds).
    pub async fn create(
        &self,
        resource: &Resource,
        namespace: &str,
        object: &Value,
    ) -> Result<Value, ClientError> {
        let mut request = self.request(Method::Post, path(resource, namespace, "", ""));
        self.encode(resource.type_id, object, &mut request)?;
        self.object(request).await
    }

    /// Replaces an object, or one of its subresources if `subresource` is not empty.
    pub async fn update(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: &Value,
    ) -> Result<Value, ClientError> {
        let mut request = self.request(Method::Put, path(resource, namespace, name, subresource));
        self.encode(resource.type_id, object, &mut request)?;
        self.object(request).await
    }

    /// Creates an object of bytes that are encoded already (protobuf with envelope), and gives the reply's bytes back
    /// unread. For senders of very many creations.
    pub async fn create_encoded(
        &self,
        resource: &Resource,
        namespace: &str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let mut request = self.request(Method::Post, path(resource, namespace, "", ""));
        request.content_type = PROTOBUF.into();
        request.body = body;
        let reply = self.call(request).await;
        checked(reply).await
    }

    /// Replaces an object by bytes that are encoded already (protobuf with envelope), and gives the reply's bytes
    /// back unread. For senders of very many equal updates.
    pub async fn update_encoded(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let mut request = self.request(Method::Put, path(resource, namespace, name, subresource));
        request.content_type = PROTOBUF.into();
        request.body = body;
        let reply = self.call(request).await;
        checked(reply).await
    }

    /// The same as [`Client::patch`], with the reply's bytes unread. For senders of very many patches.
    pub async fn patch_unread(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch_type: PatchType,
        patch: &Value,
    ) -> Result<Bytes, ClientError> {
        let patch = patch.to_string().into();
        self.patch_encoded(resource, namespace, name, subresource, patch_type, patch)
            .await
    }

    /// The same by a patch that is text already.
    pub async fn patch_encoded(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch_type: PatchType,
        patch: Bytes,
    ) -> Result<Bytes, ClientError> {
        let mut request = self.request(Method::Patch, path(resource, namespace, name, subresource));
        request.content_type = patch_type.content_type().into();
        request.body = patch;
        let reply = self.call(request).await;
        checked(reply).await
    }

    /// Patches an object, or one of its subresources.
    pub async fn patch(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch_type: PatchType,
        patch: &Value,
    ) -> Result<Value, ClientError> {
        let reply = self.patch_unread(resource, namespace, name, subresource, patch_type, patch);
        decode_object(&reply.await?)
    }

    /// Deletes an object.
    pub async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), ClientError> {
        let mut request = self.request(Method::Delete, path(resource, namespace, name, ""));
        request.content_type = "application/json".into();
        request.body = options.to_value().to_string().into();
        let reply = self.call(request).await;
        checked(reply).await.map(drop)
    }

    /// Deletes everything of a kind in a namespace.
    pub async fn delete_collection(
        &self,
        resource: &Resource,
        namespace: &str,
    ) -> Result<(), ClientError> {
        let request = self.request(Method::Delete, path(resource, namespace, "", ""));
        let reply = self.call(request).await;
        checked(reply).await.map(drop)
    }

    /// Binds a pod to a node (k8s `pods/binding`). `uid` guards against a pod of the same name made anew.
    pub async fn bind(
        &self,
        namespace: &str,
        pod: &str,
        uid: &str,
        node: &str,
    ) -> Result<(), ClientError> {
        let binding = value::json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": pod, "namespace": namespace, "uid": uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let mut request = self.request(
            Method::Post,
            format!("/api/v1/namespaces/{namespace}/pods/{pod}/binding"),
        );
        request.content_type = "application/json".into();
        request.body = binding.to_string().into();
        let reply = self.call(request).await;
        checked(reply).await.map(drop)
    }

    /// Opens a watch. Ends by itself after the server's time; the caller opens the next one at the last version.
    pub async fn watch(
        &self,
        resource: &'static Resource,
        namespace: &str,
        options: &WatchOptions,
    ) -> Result<WatchStream, ClientError> {
        let mut request = self.request(Method::Get, path(resource, namespace, "", ""));
        request.accept = ACCEPT_WATCH.into();
        request.query = QueryBuilder::default()
            .add("watch", "true")
            .add("allowWatchBookmarks", "true")
            .add("labelSelector", &options.label_selector)
            .add("fieldSelector", &options.field_selector)
            .add("resourceVersion", &options.resource_version)
            .finish();
        let reply = self.call(request).await;
        if reply.status != 200 {
            return Err(failed(reply).await);
        }
        match reply.body {
            Body::Stream(source) => Ok(WatchStream::new(source)),
            Body::Full(_) => Err(ClientError::Transport("the watch did not stream".into())),
        }
    }

    /// Makes the call. A service in this process may answer without ever waiting: the task's budget makes it step back
    /// now and then, so that one busy loop does not hold up the others of its thread.
    async fn call(&self, request: Request) -> Reply {
        tokio::task::coop::consume_budget().await;
        self.service.call(request).await
    }

    fn request(&self, method: Method, path: String) -> Request {
        Request {
            method,
            path,
            query: String::new(),
            accept: ACCEPT.into(),
            content_type: Arc::default(),
            user_agent: self.user_agent.clone(),
            if_none_match: None,
            body: Bytes::new(),
            user: self.user.clone(),
        }
    }

    fn encode(
        &self,
        type_id: schema::TypeId,
        object: &Value,
        request: &mut Request,
    ) -> Result<(), ClientError> {
        // A subresource body (Scale, Eviction …) has a type of its own; its kind names it.
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        let type_id = schema::kind_type(api_version, kind).unwrap_or(type_id);
        let mut message = Vec::with_capacity(1024);
        schema::encode_protobuf(type_id, object, &mut message)
            .map_err(|error| ClientError::Transport(format!("cannot encode {kind}: {error}")))?;
        let mut body = Vec::with_capacity(message.len() + 64);
        schema::envelope::wrap(api_version, kind, &message, &mut body);
        request.content_type = PROTOBUF.into();
        request.body = body.into();
        Ok(())
    }

    async fn object(&self, request: Request) -> Result<Value, ClientError> {
        let reply = self.call(request).await;
        let body = checked(reply).await?;
        decode_object(&body)
    }
}

/// `/api/v1/namespaces/NS/RESOURCE/NAME/SUBRESOURCE`, with the parts that are not empty.
fn path(resource: &Resource, namespace: &str, name: &str, subresource: &str) -> String {
    let mut path = String::with_capacity(96);
    if resource.group.is_empty() {
        path.push_str("/api/");
    } else {
        path.push_str("/apis/");
        path.push_str(resource.group);
        path.push('/');
    }
    path.push_str(resource.version);
    if resource.namespaced && !namespace.is_empty() {
        path.push_str("/namespaces/");
        push_encoded(&mut path, namespace);
    }
    for part in [resource.resource, name, subresource] {
        if !part.is_empty() {
            path.push('/');
            push_encoded(&mut path, part);
        }
    }
    path
}

async fn checked(reply: Reply) -> Result<Bytes, ClientError> {
    if (200..300).contains(&reply.status) {
        gather(reply.body).await
    } else {
        Err(failed(reply).await)
    }
}

async fn failed(reply: Reply) -> ClientError {
    let status = reply.status;
    let body = match gather(reply.body).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    match decode_object(&body) {
        Ok(value) if value["kind"] == "Status" => ApiError::from_status(&value).into(),
        _ if status == 0 => ClientError::Transport(String::from_utf8_lossy(&body).into_owned()),
        _ => ClientError::Transport(format!("HTTP {status}: {}", String::from_utf8_lossy(&body))),
    }
}

async fn gather(body: Body) -> Result<Bytes, ClientError> {
    let mut source = match body {
        Body::Full(bytes) => return Ok(bytes),
        Body::Stream(source) => source,
    };
    let mut all = BytesMut::new();
    while let Some(piece) = poll_fn(|cx| source.poll_frame(cx)).await {
        if all.len() + piece.len() > REPLY_BYTES_MAX {
            return Err(ClientError::Transport(
                "the reply is larger than 1 GiB: list in pages".into(),
            ));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

/// Reads an object in protobuf (with its envelope) or JSON.
pub(crate) fn decode_object(body: &[u8]) -> Result<Value, ClientError> {
    decode(body, |type_id, message| {
        schema::decode_protobuf(type_id, message)
    })
}

/// The same; of one in protobuf, what is wanted of its kind.
pub(crate) fn decode_only(body: &[u8], only: &Only) -> Result<Value, ClientError> {
    decode(body, |type_id, message| {
        if type_id == only.object_type {
            only.decode(message)
        } else {
            schema::decode_protobuf(type_id, message)
        }
    })
}

fn decode(
    body: &[u8],
    decode: impl FnOnce(TypeId, &[u8]) -> Result<Value, DecodeError>,
) -> Result<Value, ClientError> {
    if !body.starts_with(&schema::envelope::MAGIC) {
        return serde_json::from_slice(body)
            .map_err(|error| ClientError::Transport(format!("the reply is not JSON: {error}")));
    }
    let unknown = schema::envelope::unwrap(body).map_err(|error| {
        ClientError::Transport(format!("the reply's envelope is damaged: {error}"))
    })?;
    let type_id = schema::kind_type(unknown.api_version, unknown.kind).ok_or_else(|| {
        ClientError::Transport(format!(
            "the reply is of unknown kind {} {}",
            unknown.api_version, unknown.kind
        ))
    })?;
    let mut value = decode(type_id, unknown.raw)
        .map_err(|error| ClientError::Transport(format!("the reply cannot be decoded: {error}")))?;
    value["apiVersion"] = unknown.api_version.to_string().into();
    value["kind"] = unknown.kind.to_string().into();
    Ok(value)
}

//! The front room: who asks, what for, and which part of the house answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use meta::{ApiError, Value};
use rest::http::{Reply, ReplyFuture, Request, Service, User};
use rest::negotiate::{self, Output, Served as Accepts, Wish};
use rest::paths::{Query, RequestInfo, ResourceRequest, Target, Verb};
use store::Store;
use value::json;

use crate::bootstrap::{self, BootstrapError};
use crate::probes::{self, version_info};
use crate::select::Selection;
use crate::state::{SYSTEM_USER, Served, State};
use crate::write::{Address, Mode};
use crate::{
    alike, body, components, encode, metrics, narrow, patch, renew, reviews, subresource, watching,
    write,
};

/// An API server over a store. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    state: Arc<State>,
}

impl Api {
    /// Opens every resource of the store. `stopping` turns true when open watches are to end.
    #[must_use]
    pub fn new(store: Arc<Store>, stopping: tokio::sync::watch::Receiver<bool>) -> Api {
        Api::serving(store, stopping, &[])
    }

    /// The same with group-versions that are not served by default.
    #[must_use]
    pub fn serving(
        store: Arc<Store>,
        stopping: tokio::sync::watch::Receiver<bool>,
        also: &[(&str, &str)],
    ) -> Api {
        Api {
            state: Arc::new(State::new(store, stopping, also)),
        }
    }

    /// Creates what every cluster has (namespaces, priority classes, the `kubernetes` service) and opens for requests.
    pub async fn bootstrap(&self, endpoint: std::net::SocketAddr) -> Result<(), BootstrapError> {
        bootstrap::run(&self.state, endpoint).await?;
        self.state.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// The identity of our own components.
    #[must_use]
    pub fn system_user() -> Arc<User> {
        Arc::new(User {
            name: SYSTEM_USER.into(),
            groups: vec!["system:masters".into(), "system:authenticated".into()],
        })
    }

    /// The cluster address of the `kubernetes` service.
    #[must_use]
    pub fn service_address(&self) -> std::net::Ipv4Addr {
        self.state.allocator.range().api_server()
    }

    /// The counters, for others to add theirs and for those who show them.
    #[must_use]
    pub fn metrics(&self) -> &metrics::Metrics {
        &self.state.metrics
    }

    /// How many objects of a resource of the core group there are.
    #[must_use]
    pub fn count(&self, resource: &str) -> usize {
        self.state
            .core(resource)
            .map_or(0, |served| served.collection.len())
    }
}

impl Service for Api {
    fn call(&self, request: Request) -> ReplyFuture {
        if let Some(reply) = renew::answer(&self.state, &request) {
            return reply;
        }
        generally(self.state.clone(), request)
    }
}

/// Answers any request.
pub fn generally(state: Arc<State>, request: Request) -> ReplyFuture {
    Box::pin(async move {
        let begun = Instant::now();
        let mut asked = Asked::default();
        let reply = match answer(&state, &request, &mut asked).await {
            Ok(reply) => reply,
            Err(error) => error_reply(&request, &error),
        };
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        state
            .metrics
            .count(asked.resource, asked.verb, reply.status, micros);
        reply
    })
}

/// An error as `Status` in the media type that the client asked for; in JSON, if it asked for none that can be had.
fn error_reply(request: &Request, error: &ApiError) -> Reply {
    let plain = Reply::error(error);
    let wish = Wish {
        accept: &request.accept,
        user_agent: &request.user_agent,
        pretty: None,
    };
    let Ok(mut output) = negotiate::output(&wish, Accepts::BUILT_IN) else {
        return plain;
    };
    // A Status is a Status, also for those who wanted a Table.
    output.transform = negotiate::Transform::None;
    match encode::value_reply(error.code, error.to_status(), &output) {
        Ok(reply) => Reply {
            headers: plain.headers,
            ..reply
        },
        Err(_) => plain,
    }
}

/// What the request turned out to be, for the counters.
struct Asked {
    resource: Option<usize>,
    verb: &'static str,
}

impl Default for Asked {
    fn default() -> Asked {
        Asked {
            resource: None,
            verb: "get",
        }
    }
}

async fn answer(
    state: &Arc<State>,
    request: &Request,
    asked: &mut Asked,
) -> Result<Reply, ApiError> {
    let target = RequestInfo::parse(request.method.as_str(), &request.path, &request.query)
        .map_err(|error| {
            if error.code == 405 {
                method_not_allowed()
            } else {
                error
            }
        })?;
    // Load balancers and probes have no certificate; health tells nothing that is secret.
    if let Target::Health { endpoint, check } = &target {
        return probes::health(state, *endpoint, check.as_deref(), &request.query);
    }
    if matches!(target, Target::Version) {
        return Ok(Reply::full(
            200,
            negotiate::JSON,
            version_info().to_string(),
        ));
    }
    let Some(user) = &request.user else {
        return Err(ApiError::unauthorized());
    };
    let wish = |pretty| Wish {
        accept: &request.accept,
        user_agent: &request.user_agent,
        pretty,
    };
    let none_match = request.if_none_match.as_deref();
    match target {
        Target::Resource(target) => {
            asked.verb = target.verb.as_str();
            resource(state, request, user, &target, asked).await
        }
        Target::Discovery(target) => state.catalog.reply(&target, &request.accept, none_match),
        Target::OpenApiV2 => state.openapi.reply_v2(&request.accept, none_match),
        Target::OpenApiV3Index => state.openapi.reply_v3_index(&request.accept, none_match),
        Target::OpenApiV3(document) => {
            state
                .openapi
                .reply_v3(&document, &request.query, &request.accept, none_match)
        }
        Target::Metrics => {
            let mut text = state.metrics.render();
            probes::object_counts(state, &mut text);
            crate::footprint::write(state, &mut text);
            Ok(Reply::full(
                200,
                "text/plain; version=0.0.4; charset=utf-8",
                text,
            ))
        }
        Target::NonResource(path) if path == "/" => {
            let output = negotiate::json_only(&wish(None))?;
            encode::value_reply(200, json!({"paths": ROOT_PATHS}), &output)
        }
        Target::NonResource(_) | Target::Health { .. } | Target::Version => {
            Err(ApiError::generic_not_found())
        }
    }
}

const ROOT_PATHS: [&str; 9] = [
    "/api",
    "/api/v1",
    "/apis",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi/v3",
    "/readyz",
    "/version",
];

async fn resource(
    state: &Arc<State>,
    request: &Request,
    user: &User,
    target: &ResourceRequest,
    asked: &mut Asked,
) -> Result<Reply, ApiError> {
    if !state.ready.load(Ordering::Acquire) && user.name != SYSTEM_USER {
        return Err(ApiError::too_many_requests(
            "the API server is starting, please try again",
            1,
        ));
    }
    if let Some(reply) = reviews::answer(request, user, target)? {
        return Ok(reply);
    }
    if let Some(reply) = components::answer(state, request, target)? {
        return Ok(reply);
    }
    let served = state
        .served(&target.group, &target.version, &target.resource)
        .ok_or_else(ApiError::generic_not_found)?;
    asked.resource = Some(served.index);
    let namespace = target.namespace.as_deref().unwrap_or_default();
    // Objects of a namespaced kind have no path without a namespace, and the other kinds none with one.
    if target.namespace.is_some() != served.resource.namespaced
        && (target.namespace.is_some() || target.name.is_some())
    {
        return Err(ApiError::generic_not_found());
    }
    // Across all namespaces there is only reading.
    if served.resource.namespaced && target.namespace.is_none() && !target.verb.is_read() {
        return Err(method_not_allowed());
    }
    let call = Call {
        state,
        request,
        user,
        served,
        target,
        namespace,
    };
    match target.subresource.as_deref() {
        None => call.main().await,
        Some(name) => subresource::answer(&call, name).await,
    }
}

/// 405 for a method that has no route, in the words of upstream's router.
pub fn method_not_allowed() -> ApiError {
    let text = "the server does not allow this method on the requested resource";
    ApiError::new(405, meta::Reason::MethodNotAllowed, text)
}

/// One request for a served resource.
pub struct Call<'a> {
    /// The API server.
    pub state: &'a Arc<State>,
    /// The request.
    pub request: &'a Request,
    /// Who asks.
    pub user: &'a User,
    /// What for.
    pub served: &'a Arc<Served>,
    /// The same, as the path said it.
    pub target: &'a ResourceRequest,
    /// Namespace, empty for none.
    pub namespace: &'a str,
}

impl Call<'_> {
    async fn main(&self) -> Result<Reply, ApiError> {
        let verb = self.target.verb;
        if !self.served.resource.verbs.contains(&verb.as_str()) {
            return Err(method_not_allowed());
        }
        let query = Query::parse(verb, &self.request.query)?;
        match verb {
            Verb::Get => self.get(&query).await,
            Verb::List => self.list(&query).await,
            Verb::Watch => self.watch(&query).await,
            Verb::Create => self.create(&query).await,
            Verb::Update => self.update(&query, None).await,
            Verb::Patch => self.patch(&query, None).await,
            Verb::Delete => self.delete(&query).await,
            Verb::DeleteCollection => self.delete_collection(&query).await,
        }
    }

    /// The form the client wants its object in.
    pub fn output(&self, query: &Query) -> Result<Output, ApiError> {
        negotiate::output(&self.wish(query), Accepts::BUILT_IN)
    }

    fn wish(&self, query: &Query) -> Wish<'_> {
        Wish {
            accept: &self.request.accept,
            user_agent: &self.request.user_agent,
            pretty: query.pretty,
        }
    }

    /// The name in the path.
    pub fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }

    /// Where a write of the path's object goes.
    pub fn address<'s>(&'s self, subresource: Option<&'s str>) -> Address<'s> {
        Address {
            served: self.served,
            subresource,
            namespace: self.namespace,
            name: self.name(),
        }
    }

    /// How it is made.
    pub fn mode(&self, query: &Query) -> Mode<'_> {
        Mode {
            user: &self.user.name,
            dry_run: query.dry_run,
        }
    }

    /// Decodes the body as the resource's own kind.
    pub fn sent(&self, query: &Query) -> Result<body::Sent, ApiError> {
        let resource = self.served.resource;
        let expected = body::Expected {
            api_version: self.served.api_version(),
            kind: resource.kind,
            type_id: resource.type_id,
        };
        body::decode(
            &self.request.body,
            &self.request.content_type,
            &expected,
            query.field_validation,
        )
    }

    async fn get(&self, query: &Query) -> Result<Reply, ApiError> {
        let output = self.output(query)?;
        let include = query.include_object()?;
        let item = self
            .state
            .get(self.served, self.namespace, self.name(), query)
            .await?;
        encode::object_reply(200, self.served, &item, &output, include)
    }

    async fn list(&self, query: &Query) -> Result<Reply, ApiError> {
        let output = self.output(query)?;
        let include = query.include_object()?;
        let selection = Selection::new(self.served, query)?;
        self.state
            .list(
                self.served,
                self.namespace,
                selection,
                query,
                (&output, include),
            )
            .await
    }

    async fn watch(&self, query: &Query) -> Result<Reply, ApiError> {
        let output = negotiate::watch_output(&self.wish(query), Accepts::BUILT_IN)?;
        let mut selection = Selection::new(self.served, query)?;
        if let Some(name) = &self.target.name {
            selection = selection.named(name);
        }
        watching::watch_reply(
            self.state,
            self.served,
            self.namespace,
            selection,
            query,
            &output,
        )
        .await
    }

    async fn create(&self, query: &Query) -> Result<Reply, ApiError> {
        let output = self.output(query)?;
        let pod = alike::SentPod::of(self, query);
        if let Some(pod) = &pod
            && let Some(outcome) = pod.create_as_before(self).await
        {
            return self.written(&outcome, &output, query, Vec::new());
        }
        let sent = self.sent(query)?;
        let at = Address {
            name: "",
            ..self.address(None)
        };
        let outcome = self.state.create(at, sent.object, self.mode(query)).await?;
        if let Some(pod) = &pod {
            pod.remember(self, &outcome.item.message);
        }
        self.written(&outcome, &output, query, sent.warnings)
    }

    /// PUT of the object or of its status.
    pub async fn update(
        &self,
        query: &Query,
        subresource: Option<&str>,
    ) -> Result<Reply, ApiError> {
        let output = self.output(query)?;
        let sent = self.sent(query)?;
        let mut object = sent.object;
        // The name of the path stands in for one that is left out.
        let metadata = &mut object["metadata"];
        if metadata["name"].as_str().unwrap_or_default().is_empty() {
            metadata["name"] = self.name().into();
        } else if metadata["name"] != self.name() {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                meta::object::name(&object),
                self.name()
            )));
        }
        let creates =
            subresource.is_none() && registry::allows_create_on_update(self.served.resource);
        let named_version = !meta::object::resource_version(&object).is_empty();
        let create_missing = (creates && !named_version).then(|| object.clone());
        let outcome = self
            .state
            .update(
                self.address(subresource),
                self.mode(query),
                |_| Ok(object.clone()),
                create_missing,
            )
            .await?;
        self.written(&outcome, &output, query, sent.warnings)
    }

    /// PATCH of the object or of its status.
    pub async fn patch(&self, query: &Query, subresource: Option<&str>) -> Result<Reply, ApiError> {
        let output = self.output(query)?;
        let patch_type = negotiate::patch(&self.request.content_type, true)?;
        query.validate_patch(patch_type)?;
        if let Some(outcome) = narrow::patch(self, query, subresource, patch_type).await {
            return self.written(&outcome, &output, query, Vec::new());
        }
        let mut warnings = Vec::new();
        let served = self.served;
        let next = |old: &Value| {
            let sent = patch::patched(
                served,
                patch_type,
                &self.request.body,
                query.field_validation,
                old,
            )?;
            warnings = sent.warnings;
            Ok(sent.object)
        };
        let outcome = self
            .state
            .update(self.address(subresource), self.mode(query), next, None)
            .await?;
        self.written(&outcome, &output, query, warnings)
    }

    /// The reply to a write.
    pub fn written(
        &self,
        outcome: &write::Outcome,
        output: &Output,
        query: &Query,
        warnings: Vec<String>,
    ) -> Result<Reply, ApiError> {
        let status = if outcome.created { 201 } else { 200 };
        let mut reply = encode::object_reply(
            status,
            self.served,
            &outcome.item,
            output,
            query.include_object()?,
        )?;
        for warning in warnings {
            reply.headers.push(("warning", warning_header(&warning)));
        }
        Ok(reply)
    }
}

fn warning_header(text: &str) -> String {
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    let printable: String = quoted
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() || c == ' ' {
                c
            } else {
                '?'
            }
        })
        .collect();
    format!("299 - \"{printable}\"")
}

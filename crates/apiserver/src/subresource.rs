//! Subresources: status, scale, binding, eviction, finalize, and the pod parts that a kubelet would answer.

use kv::{LeaseId, Revision};
use meta::{ApiError, LabelSelector, Value};
use registry::{BindingTo, DeleteOptions, Eviction, Update};
use rest::http::Reply;
use rest::negotiate;
use rest::paths::{Query, Verb};
use store::{Change, Precondition};

use crate::api::{Call, method_not_allowed};
use crate::select::Selection;
use crate::state::{node_tag, now_micros, visible};
use crate::write::{Address, Mode, with_context};
use crate::{body, encode, patch};

/// Budgets of a namespace read at a time.
const BUDGETS_AT_ONCE: usize = 256;

/// Answers a request for a subresource.
pub async fn answer(call: &Call<'_>, name: &str) -> Result<Reply, ApiError> {
    let verb = call.target.verb;
    let known = call
        .served
        .resource
        .subresources
        .iter()
        .find(|known| known.name == name);
    let Some(known) = known else {
        return Err(ApiError::generic_not_found());
    };
    // Connect subresources (log, exec, proxy …) come with any method.
    if !known.verbs.contains(&verb.as_str()) && !is_connect(name) {
        return Err(method_not_allowed());
    }
    let query = Query::parse(verb, &call.request.query)?;
    match (name, verb) {
        ("scale", Verb::Get) => get_scale(call, &query).await,
        ("scale", Verb::Update | Verb::Patch) => put_scale(call, &query).await,
        ("binding", Verb::Create) => bind(call, &query).await,
        ("eviction", Verb::Create) => evict(call, &query).await,
        (_, Verb::Get) if !is_connect(name) => {
            let output = call.output(&query)?;
            let item = call
                .state
                .get(call.served, call.namespace, call.name(), &query)
                .await?;
            encode::object_reply(200, call.served, &item, &output, query.include_object()?)
        }
        (_, Verb::Update) if !is_connect(name) => call.update(&query, Some(name)).await,
        (_, Verb::Patch) if !is_connect(name) => call.patch(&query, Some(name)).await,
        _ => Err(not_served(call, name)),
    }
}

fn is_connect(name: &str) -> bool {
    matches!(name, "log" | "exec" | "attach" | "portforward" | "proxy")
}

/// What needs a real kubelet, or a part of the plane that is not there yet, says so.
fn not_served(call: &Call<'_>, name: &str) -> ApiError {
    let resource = call.served.group_resource();
    ApiError::unavailable(format!(
        "the server does not serve {resource}/{name} yet: this release has no connection to kubelets and issues no \
         tokens"
    ))
}

async fn get_scale(call: &Call<'_>, query: &Query) -> Result<Reply, ApiError> {
    let output = call.output(query)?;
    let item = call
        .state
        .get(call.served, call.namespace, call.name(), query)
        .await?;
    let object = call
        .served
        .decode(&item.message, kv::Revision(item.revision))?;
    encode::value_reply(
        200,
        registry::scale_of(call.served.resource, &object)?,
        &output,
    )
}

async fn put_scale(call: &Call<'_>, query: &Query) -> Result<Reply, ApiError> {
    let output = call.output(query)?;
    let type_id = schema::kind_type("autoscaling/v1", "Scale")
        .ok_or_else(|| ApiError::internal("the schema has no Scale"))?;
    let expected = body::Expected {
        api_version: "autoscaling/v1",
        kind: "Scale",
        type_id,
    };
    let request = call.request;
    let sent = if call.target.verb == Verb::Update {
        Some(
            body::decode(
                &request.body,
                &request.content_type,
                &expected,
                query.field_validation,
            )?
            .object,
        )
    } else {
        None
    };
    let user = &call.user.name;
    let outcome = call
        .state
        .modify(call.address(Some("scale")), call.mode(query), None, |old| {
            let scale = match &sent {
                Some(scale) => scale.clone(),
                None => patched_scale(
                    call,
                    &registry::scale_of(call.served.resource, old)?,
                    &expected,
                )?,
            };
            with_context(user, |context| {
                registry::with_scale(call.served.resource, old, &scale, context)
            })
        })
        .await?;
    let object = call
        .served
        .decode(&outcome.item.message, kv::Revision(outcome.item.revision))?;
    encode::value_reply(
        200,
        registry::scale_of(call.served.resource, &object)?,
        &output,
    )
}

fn patched_scale(
    call: &Call<'_>,
    scale: &Value,
    expected: &body::Expected<'_>,
) -> Result<Value, ApiError> {
    let patch_type = negotiate::patch(&call.request.content_type, true)?;
    let validation = schema::FieldValidation::Ignore;
    patch::apply(patch_type, &call.request.body, expected, validation, scale)
        .map(|sent| sent.object)
}

async fn bind(call: &Call<'_>, query: &Query) -> Result<Reply, ApiError> {
    let output = call.output(query)?;
    let type_id = schema::kind_type("v1", "Binding")
        .ok_or_else(|| ApiError::internal("the schema has no Binding"))?;
    let expected = body::Expected {
        api_version: "v1",
        kind: "Binding",
        type_id,
    };
    let request = call.request;
    let binding = body::decode(
        &request.body,
        &request.content_type,
        &expected,
        query.field_validation,
    )?
    .object;
    let user = &call.user.name;
    if !call.mode(query).dry_run
        && let Some(at) = bind_on_bytes(call, &binding)
    {
        visible(&call.served.collection, at).await;
        call.state.count_write();
        return encode::value_reply(201, meta::status::success_status(None), &output);
    }
    call.state
        .modify(
            call.address(Some("binding")),
            call.mode(query),
            None,
            |pod| {
                with_context(user, |context| registry::bind(pod, &binding, context))
                    .map(Update::Store)
            },
        )
        .await?;
    encode::value_reply(201, meta::status::success_status(None), &output)
}

/// The short way of a plain binding: decided on bytes, written once. `None`, and nothing has happened, for everything
/// else: the general way has the words for it.
fn bind_on_bytes(call: &Call<'_>, binding: &Value) -> Option<Revision> {
    let node = registry::plain_binding(binding, call.name())?;
    let to = BindingTo {
        uid: meta::object::uid(binding),
        node,
        now_micros: now_micros(),
    };
    let served = call.served;
    let key = served.key(call.namespace, call.name());
    let decide = |read: Revision, stored: &[u8]| Some((read, registry::bound(stored, to)?));
    let (read, value) = served.collection.inspect(&key, decide)??;
    let change = Change::Put {
        value: value.into(),
        lease: LeaseId::default(),
        tags: &[node_tag(node)],
    };
    let condition = Precondition::ModRevision(read);
    let written = served.collection.write(&key, condition, change).ok()?;
    Some(written.revision)
}

/// Deletes a pod unless a disruption budget forbids it (policy/v1 Eviction).
async fn evict(call: &Call<'_>, query: &Query) -> Result<Reply, ApiError> {
    let output = call.output(query)?;
    let type_id = schema::kind_type("policy/v1", "Eviction")
        .ok_or_else(|| ApiError::internal("the schema has no Eviction"))?;
    let expected = body::Expected {
        api_version: "policy/v1",
        kind: "Eviction",
        type_id,
    };
    let request = call.request;
    let eviction = body::decode(
        &request.body,
        &request.content_type,
        &expected,
        query.field_validation,
    )?
    .object;
    let named = meta::object::name(&eviction);
    if !named.is_empty() && named != call.name() {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let item = call
        .state
        .get(call.served, call.namespace, call.name(), query)
        .await?;
    let pod = call
        .served
        .decode(&item.message, kv::Revision(item.revision))?;
    spend_budget(call, &pod, query).await?;
    let options = DeleteOptions::from_value(&eviction["deleteOptions"])?;
    let mode = Mode {
        dry_run: query.dry_run,
        ..call.mode(query)
    };
    call.state
        .delete(call.address(None), &options, mode)
        .await?;
    encode::value_reply(201, meta::status::success_status(None), &output)
}

/// Asks the disruption budgets that select the pod, and takes one disruption from the one that allows it.
async fn spend_budget(call: &Call<'_>, pod: &Value, query: &Query) -> Result<(), ApiError> {
    let Some(budgets) = call.state.served("policy", "v1", "poddisruptionbudgets") else {
        return Ok(());
    };
    let revision = budgets.collection.revision();
    visible(&budgets.collection, revision).await;
    let (first, end) = Selection::default().range(budgets, call.namespace);
    let mut selecting = Vec::new();
    let mut next = Some(first);
    while let Some(from) = next {
        let mut rows = Vec::new();
        let more = budgets
            .collection
            .list(&from, end.as_deref(), revision, BUDGETS_AT_ONCE, &mut rows)
            .map_err(|error| ApiError::internal(error.to_string()))?;
        for (_, record) in rows {
            let budget = budgets.decode(&record.value, record.mod_revision)?;
            let selector = LabelSelector::from_object(&budget["spec"]["selector"])
                .map_err(ApiError::internal)?;
            if selector.matches(meta::object::labels(pod)) {
                selecting.push(budget);
            }
        }
        next = more.next;
    }
    let selecting: Vec<&Value> = selecting.iter().collect();
    let user = &call.user.name;
    let decision = with_context(user, |context| {
        registry::prepare_eviction(pod, &selecting, context)
    })?;
    if matches!(decision, Eviction::Delete) || query.dry_run {
        return Ok(());
    }
    // Decided again on the budget as it stands when it is written, so that two evictions never share one disruption.
    let name = selecting
        .first()
        .map(|budget| meta::object::name(budget))
        .unwrap_or_default();
    let at = Address {
        served: budgets,
        subresource: Some("status"),
        namespace: call.namespace,
        name,
    };
    let spend = |budget: &Value| match with_context(user, |context| {
        registry::prepare_eviction(pod, &[budget], context)
    })? {
        Eviction::Spend(spent) => Ok(Update::Store(spent)),
        Eviction::Delete => Ok(Update::Unchanged),
    };
    call.state
        .modify(at, call.mode(query), None, spend)
        .await
        .map(drop)
}

//! ComponentStatuses (deprecated in v1.19, still listed by `kubectl get cs`): what this process knows to be well.
//!
//! Never stored. Tells of the store alone: schedulers and controllers are clients like any other, and their health is
//! theirs to tell.

use meta::{ApiError, GroupResource, Value};
use rest::http::{Reply, Request};
use rest::negotiate::{self, Served as Accepts, Transform, Wish};
use rest::paths::{Query, ResourceRequest, Verb};
use rest::table;
use value::json;

use crate::encode;
use crate::state::{State, now_micros};

const WARNING: &str = "299 - \"v1 ComponentStatus is deprecated in v1.19+\"";

/// Answers a request for component statuses; `None` if the request is for something else.
pub fn answer(
    state: &State,
    request: &Request,
    target: &ResourceRequest,
) -> Result<Option<Reply>, ApiError> {
    if (target.group.as_str(), target.resource.as_str()) != ("", "componentstatuses") {
        return Ok(None);
    }
    if !matches!(target.verb, Verb::Get | Verb::List) || target.subresource.is_some() {
        return Err(crate::api::method_not_allowed());
    }
    let query = Query::parse(target.verb, &request.query)?;
    let wish = Wish {
        accept: &request.accept,
        user_agent: &request.user_agent,
        pretty: query.pretty,
    };
    let output = negotiate::output(&wish, Accepts::BUILT_IN)?;
    let include = query.include_object()?;
    let store = status("etcd-0", state.store.failure());
    let reply = match target.name.as_deref() {
        None => {
            let list = match output.transform {
                Transform::Table => {
                    let meta = table::ListMeta::default();
                    table::table(
                        "",
                        "ComponentStatus",
                        [&store],
                        include,
                        &meta,
                        now_micros(),
                    )
                }
                _ => {
                    json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": [store]})
                }
            };
            encode::value_reply(200, list, &output)?
        }
        Some("etcd-0") => {
            let object = match output.transform {
                Transform::Table => {
                    table::object_table("", "ComponentStatus", &store, include, true, now_micros())
                }
                _ => store,
            };
            encode::value_reply(200, object, &output)?
        }
        Some(name) => {
            let resource = GroupResource::new("", "componentstatuses");
            return Err(ApiError::not_found(&resource, name));
        }
    };
    Ok(Some(reply.with_header("warning", WARNING)))
}

fn status(name: &str, failure: Option<String>) -> Value {
    let condition = match failure {
        None => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Some(why) => json!({"type": "Healthy", "status": "False", "error": why}),
    };
    json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name}, "conditions": [condition]})
}

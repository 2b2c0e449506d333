//! Resources that are answered on the spot and never stored: who am I, may I.
//!
//! There is one rule today: whoever holds a certificate of the cluster's authority may do everything. RBAC will
//! answer here.

use meta::{ApiError, Value};
use rest::http::{Reply, Request, User};
use rest::negotiate::{self, Served as Accepts, Wish};
use rest::paths::{Query, ResourceRequest, Verb};
use value::json;

use crate::api::method_not_allowed;
use crate::{body, encode};

/// Answers a review; `None` if the request is for something else.
pub fn answer(
    request: &Request,
    user: &User,
    target: &ResourceRequest,
) -> Result<Option<Reply>, ApiError> {
    let known = schema::resource(&target.group, &target.version, &target.resource)
        .filter(|known| known.default_served && target.subresource.is_none());
    let Some(known) = known else { return Ok(None) };
    let review: fn(&User, &mut Value) = match (known.group, known.resource) {
        (
            "authorization.k8s.io",
            "selfsubjectaccessreviews" | "subjectaccessreviews" | "localsubjectaccessreviews",
        ) => access_review,
        ("authorization.k8s.io", "selfsubjectrulesreviews") => rules_review,
        ("authentication.k8s.io", "selfsubjectreviews") => self_review,
        ("authentication.k8s.io", "tokenreviews") => token_review,
        _ => return Ok(None),
    };
    if target.verb != Verb::Create {
        return Err(method_not_allowed());
    }
    let query = Query::parse(target.verb, &request.query)?;
    let wish = Wish {
        accept: &request.accept,
        user_agent: &request.user_agent,
        pretty: query.pretty,
    };
    let output = negotiate::output(&wish, Accepts::PLAIN)?;
    let api_version = meta::api_version(known.group, known.version);
    let expected = body::Expected {
        api_version: &api_version,
        kind: known.kind,
        type_id: known.type_id,
    };
    let mut object = body::decode(
        &request.body,
        &request.content_type,
        &expected,
        query.field_validation,
    )?
    .object;
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    review(user, &mut object);
    encode::value_reply(201, object, &output).map(Some)
}

fn access_review(_user: &User, review: &mut Value) {
    review["status"] = json!({"allowed": true, "reason": "holders of a certificate of this cluster may do everything"});
}

fn rules_review(_user: &User, review: &mut Value) {
    review["status"] = json!({
        "incomplete": false,
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    });
}

fn self_review(user: &User, review: &mut Value) {
    review["status"] = json!({"userInfo": {"username": user.name, "groups": user.groups}});
}

fn token_review(_user: &User, review: &mut Value) {
    review["status"] =
        json!({"authenticated": false, "error": "this cluster issues no tokens yet"});
}

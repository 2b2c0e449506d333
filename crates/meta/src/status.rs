//! The error of every API verb and its wire form, `v1` Status: upstream's codes, reasons and texts, which clients branch on.
//! Knows nothing of HTTP framing or of encodings; the edge turns [`ApiError::to_status`] into bytes.

use std::fmt;

use value::{Map, Value, json};

use crate::field::{FieldError, aggregate};
use crate::gvk::{GroupKind, GroupResource};
use crate::quote::quote;

/// The text of a lost optimistic lock; clients and controllers match it.
pub const OBJECT_MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// The cause reason of a read that asked for a revision not reached yet.
pub const RESOURCE_VERSION_TOO_LARGE: &str = "ResourceVersionTooLarge";

/// Seconds a client waits before it repeats a read of a revision not reached yet.
const TOO_LARGE_RETRY_SECONDS: u32 = 1;

/// Machine-readable class of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request itself makes no sense.
    BadRequest,
    /// The caller is not known.
    Unauthorized,
    /// The caller may not do this.
    Forbidden,
    /// The object or resource does not exist.
    NotFound,
    /// The object exists already.
    AlreadyExists,
    /// The object changed under the caller, or its state refuses the operation.
    Conflict,
    /// The item is no longer available here.
    Gone,
    /// The revision or continue token is too old.
    Expired,
    /// The object breaks rules.
    Invalid,
    /// The resource does not know this verb.
    MethodNotAllowed,
    /// None of the accepted media types is served.
    NotAcceptable,
    /// The body's media type is not understood.
    UnsupportedMediaType,
    /// The body is too large.
    RequestEntityTooLarge,
    /// The caller must slow down.
    TooManyRequests,
    /// The request did not finish in time.
    Timeout,
    /// The server could not do it now; the outcome is unknown or nothing happened.
    ServerTimeout,
    /// The server failed.
    InternalError,
    /// The server is not able to serve now.
    ServiceUnavailable,
    /// No reason given.
    Unknown,
}

impl Reason {
    /// The word on the wire; empty for [`Reason::Unknown`].
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::BadRequest => "BadRequest",
            Reason::Unauthorized => "Unauthorized",
            Reason::Forbidden => "Forbidden",
            Reason::NotFound => "NotFound",
            Reason::AlreadyExists => "AlreadyExists",
            Reason::Conflict => "Conflict",
            Reason::Gone => "Gone",
            Reason::Expired => "Expired",
            Reason::Invalid => "Invalid",
            Reason::MethodNotAllowed => "MethodNotAllowed",
            Reason::NotAcceptable => "NotAcceptable",
            Reason::UnsupportedMediaType => "UnsupportedMediaType",
            Reason::RequestEntityTooLarge => "RequestEntityTooLarge",
            Reason::TooManyRequests => "TooManyRequests",
            Reason::Timeout => "Timeout",
            Reason::ServerTimeout => "ServerTimeout",
            Reason::InternalError => "InternalError",
            Reason::ServiceUnavailable => "ServiceUnavailable",
            Reason::Unknown => "",
        }
    }

    /// The reason a word on the wire names.
    pub fn parse(word: &str) -> Reason {
        const ALL: [Reason; 18] = [
            Reason::BadRequest,
            Reason::Unauthorized,
            Reason::Forbidden,
            Reason::NotFound,
            Reason::AlreadyExists,
            Reason::Conflict,
            Reason::Gone,
            Reason::Expired,
            Reason::Invalid,
            Reason::MethodNotAllowed,
            Reason::NotAcceptable,
            Reason::UnsupportedMediaType,
            Reason::RequestEntityTooLarge,
            Reason::TooManyRequests,
            Reason::Timeout,
            Reason::ServerTimeout,
            Reason::InternalError,
            Reason::ServiceUnavailable,
        ];
        ALL.into_iter()
            .find(|reason| reason.as_str() == word)
            .unwrap_or(Reason::Unknown)
    }
}

/// What an error is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Name of the object, or of the operation for a server timeout.
    pub name: String,
    /// API group of the resource.
    pub group: String,
    /// Resource, or kind for invalid objects.
    pub kind: String,
    /// UID of the object.
    pub uid: String,
    /// Single causes, one a field for invalid objects.
    pub causes: Vec<Cause>,
    /// Seconds to wait before trying again; 0 = not told.
    pub retry_after_seconds: u32,
}

/// One cause among several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable class of the cause.
    pub reason: String,
    /// Text for people.
    pub message: String,
    /// Path of the field, if a field is the cause.
    pub field: String,
}

/// The error of an API verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable class.
    pub reason: Reason,
    /// Text for people, and for programs that match it.
    pub message: String,
    /// What the error is about.
    pub details: Option<Box<Details>>,
    /// Fresh continue token of an expired list.
    pub continue_token: Option<String>,
}

impl ApiError {
    /// An error with any code, reason and text.
    pub fn new(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        ApiError {
            code,
            reason,
            message: message.into(),
            details: None,
            continue_token: None,
        }
    }

    fn about(mut self, resource: &GroupResource, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.group.clone_from(&resource.group);
        details.kind.clone_from(&resource.resource);
        name.clone_into(&mut details.name);
        self
    }

    /// The same error asking the client to wait before trying again.
    pub fn with_retry_after_seconds(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// The same error with one more cause.
    pub fn with_cause(mut self, cause: Cause) -> Self {
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// The same error with a fresh continue token in its list metadata.
    pub fn with_continue_token(mut self, token: impl Into<String>) -> Self {
        self.continue_token = Some(token.into());
        self
    }

    /// 404: the object does not exist.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::new(
            404,
            Reason::NotFound,
            format!("{resource} {} not found", quote(name)),
        )
        .about(resource, name)
    }

    /// 404: no such path or resource.
    pub fn generic_not_found() -> Self {
        let mut error = Self::new(
            404,
            Reason::NotFound,
            "the server could not find the requested resource",
        );
        error.details = Some(Box::default());
        error
    }

    /// 409: the object exists.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        let message = format!("{resource} {} already exists", quote(name));
        Self::new(409, Reason::AlreadyExists, message).about(resource, name)
    }

    /// 409: every generated name tried was taken.
    pub fn generated_name_taken(resource: &GroupResource, name: &str) -> Self {
        let message = format!(
            "{resource} {} already exists, the server was not able to generate a unique name for the object",
            quote(name)
        );
        Self::new(409, Reason::AlreadyExists, message).about(resource, name)
    }

    /// 409: the operation does not fit the object's present state.
    pub fn conflict(resource: &GroupResource, name: &str, detail: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {resource} {}: {detail}",
            quote(name)
        );
        Self::new(409, Reason::Conflict, message).about(resource, name)
    }

    /// 409: someone else changed the object since the caller read it.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        Self::conflict(resource, name, OBJECT_MODIFIED)
    }

    /// 422: the object breaks rules.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: Vec<FieldError>) -> Self {
        let mut message = format!("{} {} is invalid", GroupKind::new(group, kind), quote(name));
        if !errors.is_empty() {
            message.push_str(": ");
            message.push_str(&aggregate(&errors));
        }
        let causes = errors
            .into_iter()
            .map(|error| Cause {
                reason: error.kind.reason().to_owned(),
                message: error.body(),
                field: error.field,
            })
            .collect();
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            causes,
            ..Details::default()
        };
        let mut error = Self::new(422, Reason::Invalid, message);
        error.details = Some(Box::new(details));
        error
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, Reason::BadRequest, message)
    }

    /// 403: the caller, or a rule of admission, refuses. The name may be empty.
    pub fn forbidden(resource: &GroupResource, name: &str, detail: &str) -> Self {
        let message = if resource.is_empty() {
            format!("forbidden: {detail}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {detail}")
        } else {
            format!("{resource} {} is forbidden: {detail}", quote(name))
        };
        Self::new(403, Reason::Forbidden, message).about(resource, name)
    }

    /// 401: the caller is not known.
    pub fn unauthorized() -> Self {
        Self::new(401, Reason::Unauthorized, "Unauthorized")
    }

    /// 410: the revision or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Expired, message)
    }

    /// 410: the item is no longer available here.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Gone, message)
    }

    /// 405: the resource does not know this verb.
    pub fn method_not_supported(resource: &GroupResource, verb: &str) -> Self {
        let message = format!(
            "{verb} is not supported on resources of kind {}",
            quote(&resource.to_string())
        );
        Self::new(405, Reason::MethodNotAllowed, message).about(resource, "")
    }

    /// 406: none of the accepted media types is served.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, Reason::NotAcceptable, message)
    }

    /// 415: the body's media type is not understood.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, Reason::UnsupportedMediaType, message)
    }

    /// 413: the body is too large.
    pub fn request_too_large(message: impl Into<String>) -> Self {
        let message = format!("Request entity too large: {}", message.into());
        Self::new(413, Reason::RequestEntityTooLarge, message)
    }

    /// 429: the caller must slow down.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, Reason::TooManyRequests, message)
            .with_retry_after_seconds(retry_after_seconds)
    }

    /// 500: the server could not do it now.
    pub fn server_timeout(
        resource: &GroupResource,
        operation: &str,
        retry_after_seconds: u32,
    ) -> Self {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        Self::new(500, Reason::ServerTimeout, message)
            .about(resource, operation)
            .with_retry_after_seconds(retry_after_seconds)
    }

    /// 504: the request did not finish in time.
    pub fn timeout(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let message = format!("Timeout: {}", message.into());
        Self::new(504, Reason::Timeout, message).with_retry_after_seconds(retry_after_seconds)
    }

    /// 504: the caller asks for a revision not reached yet.
    pub fn too_large_resource_version(
        current: impl fmt::Display,
        requested: impl fmt::Display,
    ) -> Self {
        let message = format!("Too large resource version: {requested}, current: {current}");
        Self::timeout(message, TOO_LARGE_RETRY_SECONDS).with_cause(Cause {
            reason: RESOURCE_VERSION_TOO_LARGE.to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        })
    }

    /// 500: the server failed.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new(
            500,
            Reason::InternalError,
            format!("Internal error occurred: {message}"),
        )
        .with_cause(Cause {
            message,
            ..Cause::default()
        })
    }

    /// 503: the server is not able to serve now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, Reason::ServiceUnavailable, message)
    }

    /// The wire form: kind Status of `v1`.
    pub fn to_status(&self) -> Value {
        let mut metadata = Map::new();
        put(
            &mut metadata,
            "continue",
            self.continue_token.as_deref().unwrap_or_default(),
        );
        let mut status = status_head("Failure", metadata);
        put(&mut status, "message", &self.message);
        put(&mut status, "reason", self.reason.as_str());
        if let Some(details) = &self.details {
            status.insert("details", details.to_value());
        }
        status.insert("code", self.code.into());
        Value::Object(status)
    }

    /// The error a received Status tells; what is missing stays empty, so any peer's answer can be shown.
    pub fn from_status(status: &Value) -> Self {
        let code = status
            .get("code")
            .and_then(Value::as_u64)
            .and_then(|code| u16::try_from(code).ok());
        let token = text(status.get("metadata").unwrap_or(&Value::Null), "continue");
        ApiError {
            code: code.unwrap_or(500),
            reason: Reason::parse(&text(status, "reason")),
            message: text(status, "message"),
            details: status
                .get("details")
                .map(|details| Box::new(Details::from_value(details))),
            continue_token: (!token.is_empty()).then_some(token),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

impl Details {
    /// The wire form; empty fields are left out.
    pub fn to_value(&self) -> Value {
        let mut out = Map::new();
        put(&mut out, "name", &self.name);
        put(&mut out, "group", &self.group);
        put(&mut out, "kind", &self.kind);
        put(&mut out, "uid", &self.uid);
        if !self.causes.is_empty() {
            out.insert("causes", self.causes.iter().map(Cause::to_value).collect());
        }
        if self.retry_after_seconds != 0 {
            out.insert("retryAfterSeconds", self.retry_after_seconds.into());
        }
        Value::Object(out)
    }

    fn from_value(value: &Value) -> Self {
        let causes = value
            .get("causes")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let retry = value
            .get("retryAfterSeconds")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        Details {
            name: text(value, "name"),
            group: text(value, "group"),
            kind: text(value, "kind"),
            uid: text(value, "uid"),
            causes: causes
                .iter()
                .map(|cause| Cause {
                    reason: text(cause, "reason"),
                    message: text(cause, "message"),
                    field: text(cause, "field"),
                })
                .collect(),
            retry_after_seconds: u32::try_from(retry).unwrap_or(u32::MAX),
        }
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        put(&mut out, "reason", &self.reason);
        put(&mut out, "message", &self.message);
        put(&mut out, "field", &self.field);
        Value::Object(out)
    }
}

/// The Status of a verb that succeeded and has no object to return, such as a finished delete.
pub fn success_status(details: Option<&Details>) -> Value {
    let mut status = status_head("Success", Map::new());
    if let Some(details) = details {
        status.insert("details", details.to_value());
    }
    Value::Object(status)
}

fn status_head(outcome: &str, metadata: Map) -> Map {
    match json!({"kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": outcome}) {
        Value::Object(head) => head,
        _ => Map::new(),
    }
}

fn put(out: &mut Map, key: &str, value: &str) {
    if !value.is_empty() {
        out.insert(key.to_owned(), value.into());
    }
}

fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::FieldPath;

    fn pods() -> GroupResource {
        GroupResource::new("", "pods")
    }

    #[test]
    fn texts_are_upstreams() {
        let deployments = GroupResource::new("apps", "deployments");
        assert_eq!(
            ApiError::not_found(&pods(), "x").message,
            r#"pods "x" not found"#
        );
        assert_eq!(
            ApiError::already_exists(&deployments, "x").message,
            r#"deployments.apps "x" already exists"#
        );
        assert_eq!(
            ApiError::modified(&pods(), "x").message,
            "Operation cannot be fulfilled on pods \"x\": the object has been modified; \
             please apply your changes to the latest version and try again"
        );
        assert_eq!(
            ApiError::forbidden(&pods(), "", "User \"u\" cannot list resource \"pods\"").message,
            "pods is forbidden: User \"u\" cannot list resource \"pods\""
        );
        assert_eq!(
            ApiError::method_not_supported(&deployments, "patch").message,
            r#"patch is not supported on resources of kind "deployments.apps""#
        );
        assert_eq!(
            ApiError::server_timeout(&pods(), "create", 2).message,
            "The create operation against pods could not be completed at this time, please try again."
        );
        assert_eq!(
            ApiError::internal("boom").message,
            "Internal error occurred: boom"
        );
    }

    #[test]
    fn not_found_on_the_wire() {
        assert_eq!(
            ApiError::not_found(&pods(), "x").to_status(),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "pods \"x\" not found", "reason": "NotFound",
                "details": {"name": "x", "kind": "pods"}, "code": 404})
        );
        assert_eq!(
            ApiError::generic_not_found().to_status()["details"],
            json!({})
        );
    }

    #[test]
    fn invalid_lists_each_field_as_a_cause() {
        let spec = FieldPath::new("spec");
        let one = vec![FieldError::required(&spec.child("containers"), "")];
        assert_eq!(
            ApiError::invalid("", "Pod", "x", one).message,
            "Pod \"x\" is invalid: spec.containers: Required value"
        );
        let two = vec![
            FieldError::required(&spec.child("a"), ""),
            FieldError::invalid(&spec.child("b"), "no", "must be yes"),
        ];
        let status = ApiError::invalid("apps", "Deployment", "x", two).to_status();
        assert_eq!(
            status["message"],
            "Deployment.apps \"x\" is invalid: [spec.a: Required value, spec.b: Invalid value: \"no\": must be yes]"
        );
        assert_eq!(status["code"], 422);
        assert_eq!(
            status["details"],
            json!({"name": "x", "group": "apps", "kind": "Deployment", "causes": [
                {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"},
                {"reason": "FieldValueInvalid", "message": "Invalid value: \"no\": must be yes", "field": "spec.b"}]})
        );
    }

    #[test]
    fn too_large_resource_version_asks_to_retry() {
        let status = ApiError::too_large_resource_version(5, 9).to_status();
        assert_eq!(
            status["message"],
            "Timeout: Too large resource version: 9, current: 5"
        );
        assert_eq!(status["code"], 504);
        assert_eq!(status["reason"], "Timeout");
        assert_eq!(
            status["details"],
            json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1})
        );
    }

    #[test]
    fn a_status_survives_the_round_trip() {
        let errors = [
            ApiError::too_large_resource_version(5, 9),
            ApiError::expired("too old").with_continue_token("abc"),
            ApiError::invalid("", "Pod", "x", vec![FieldError::required(&"a".into(), "")]),
            ApiError::unauthorized(),
        ];
        for error in errors {
            assert_eq!(ApiError::from_status(&error.to_status()), error);
        }
        assert_eq!(ApiError::from_status(&json!("nonsense")).code, 500);
    }

    #[test]
    fn success_has_no_code_and_no_reason() {
        let details = Details {
            name: "x".into(),
            kind: "pods".into(),
            ..Details::default()
        };
        assert_eq!(
            success_status(Some(&details)),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": {"name": "x", "kind": "pods"}})
        );
    }
}

//! gRPC's errors as HTTP says them, and the one kind of answer that is none.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tonic::body::Body;
use tonic::{Code, Status};

/// An answer.
pub fn json(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/json"));
    response
}

/// An answer that is an error. `error` is how etcd up to 3.5 names the text, 3.6 has only `message`.
pub fn refuse(error: &Status) -> Response<Body> {
    let text = error.message();
    let body = json!({"error": text, "code": error.code() as i32, "message": text});
    let mut response = json(Body::new(Full::new(Bytes::from(body.to_string()))));
    *response.status_mut() = http_status(error.code());
    if error.code() == Code::Unauthenticated
        && let Ok(text) = HeaderValue::from_str(text)
    {
        response.headers_mut().insert("www-authenticate", text);
    }
    response
}

/// The last line of a stream that failed, with the names that etcd 3.6 and those up to 3.5 have for it.
pub fn line(error: &Status) -> Bytes {
    let http = http_status(error.code());
    let body = json!({"error": {
        "code": error.code() as i32,
        "message": error.message(),
        "grpc_code": error.code() as i32,
        "http_code": http.as_u16(),
        "http_status": http.canonical_reason().unwrap_or_default(),
    }});
    format!("{body}\n").into()
}

/// The published table.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // "Client closed request": a number without a name.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

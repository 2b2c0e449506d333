//! Who asks at a secure port, and whether they may: the API server is asked, by TokenReview and SubjectAccessReview, as
//! upstream's components do (k8s: delegated authentication and authorization).
//!
//! Paths of health are for everybody, and the group `system:masters` may read everything; both are upstream's
//! defaults. Nothing is remembered: a scrape every half minute is two small requests. Does not know sockets or what
//! stands under a path.

use std::time::Duration;

use client::{Client, ClientError};
use http::HeaderValue;
use meta::{ApiError, Value};
use rest::http::User;
use value::json;

/// Paths that need no leave (k8s: `--authorization-always-allow-paths`).
const OPEN_PATHS: [&str; 3] = ["/healthz", "/livez", "/readyz"];
/// Who needs none (k8s: `AlwaysAllowGroups`).
const PRIVILEGED_GROUP: &str = "system:masters";
/// Longest wait for a review (k8s: 10 s).
const REVIEW_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest token that is asked about, in bytes. Tokens of service accounts have about one thousand.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Asks the API server.
pub struct Guard {
    client: Client,
}

impl Guard {
    pub fn new(client: Client) -> Guard {
        Guard { client }
    }

    /// Lets a request pass, or says why not.
    ///
    /// # Errors
    /// 401 for a token that nobody knows, 403 for who may not, 500 when that could not be found out.
    pub async fn admit(
        &self,
        user: Option<&User>,
        authorization: Option<&HeaderValue>,
        verb: &str,
        path: &str,
    ) -> Result<(), ApiError> {
        if OPEN_PATHS.contains(&path) {
            return Ok(());
        }
        let user = match (user, authorization) {
            (Some(user), _) => json!({"username": user.name, "groups": user.groups}),
            (None, Some(value)) => match token(value) {
                Some(token) => self.user_of(token).await?,
                None => return Err(ApiError::unauthorized()),
            },
            (None, None) => {
                json!({"username": "system:anonymous", "groups": ["system:unauthenticated"]})
            }
        };
        let groups = user["groups"].as_array();
        if groups.is_some_and(|groups| groups.iter().any(|group| group == PRIVILEGED_GROUP)) {
            return Ok(());
        }
        self.may(&user, verb, path).await
    }

    async fn user_of(&self, token: &str) -> Result<Value, ApiError> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let review = self
            .review("authentication.k8s.io", "tokenreviews", &review)
            .await?;
        let status = &review["status"];
        if status["authenticated"] != true {
            return Err(ApiError::unauthorized());
        }
        Ok(status["user"].clone())
    }

    async fn may(&self, user: &Value, verb: &str, path: &str) -> Result<(), ApiError> {
        let mut spec = json!({
            "user": user["username"], "groups": user["groups"],
            "nonResourceAttributes": {"verb": verb, "path": path},
        });
        for field in ["uid", "extra"] {
            if !user[field].is_null() {
                spec[field] = user[field].clone();
            }
        }
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let review = self
            .review("authorization.k8s.io", "subjectaccessreviews", &review)
            .await?;
        let status = &review["status"];
        if status["allowed"] == true && status["denied"] != true {
            return Ok(());
        }
        let name = user["username"].as_str().unwrap_or_default();
        let mut why = format!(
            "User {} cannot {verb} path {}",
            meta::quote::quote(name),
            meta::quote::quote(path)
        );
        if let Some(reason) = status["reason"]
            .as_str()
            .filter(|reason| !reason.is_empty())
        {
            why.push_str(&format!(": {reason}"));
        }
        let nothing = meta::GroupResource::default();
        Err(ApiError::forbidden(&nothing, "", &why))
    }

    async fn review(&self, group: &str, name: &str, review: &Value) -> Result<Value, ApiError> {
        let resource = schema::resource(group, "v1", name)
            .expect("the schema table holds the built-in resources");
        let call = self.client.create(resource, "", review);
        let fail = |error: &dyn std::fmt::Display| {
            tracing::warn!(%error, "{name} failed: the secure port refuses what it cannot ask about");
            ApiError::internal(format!("{name}: {error}"))
        };
        match tokio::time::timeout(REVIEW_TIMEOUT, call).await {
            Ok(result) => result.map_err(|error: ClientError| fail(&error)),
            Err(_) => Err(fail(&"no answer within 10 s")),
        }
    }
}

/// The token of `Authorization: Bearer …`.
fn token(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    let fits = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    (fits && scheme.eq_ignore_ascii_case("bearer")).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::{Arc, Mutex};

    use rest::http::{Reply, ReplyFuture, Request, Service};

    /// An API server that knows one token, and lets one user read one path.
    #[derive(Default)]
    struct Server {
        asked: Mutex<Vec<(String, Value)>>,
    }

    impl Service for Server {
        fn call(&self, request: Request) -> ReplyFuture {
            let (_, name) = request.path.rsplit_once('/').unwrap();
            let (group, resource) = match name {
                "tokenreviews" => ("authentication.k8s.io", name),
                _ => ("authorization.k8s.io", name),
            };
            let known = schema::resource(group, "v1", resource).unwrap();
            let unknown = schema::envelope::unwrap(&request.body).unwrap();
            let mut review = schema::decode_protobuf(known.type_id, unknown.raw).unwrap();
            let spec = review["spec"].clone();
            review["status"] = match name {
                "tokenreviews" if spec["token"] == "known" => json!({"authenticated": true,
                    "user": {"username": "prometheus", "uid": "7", "groups": ["scrapers"]}}),
                "tokenreviews" if spec["token"] == "root" => json!({"authenticated": true,
                    "user": {"username": "root", "groups": ["system:masters"]}}),
                "tokenreviews" => json!({"authenticated": false}),
                _ if spec["user"] == "prometheus"
                    && spec["nonResourceAttributes"]["path"] == "/metrics" =>
                {
                    json!({"allowed": true})
                }
                _ => json!({"allowed": false, "reason": "no rule"}),
            };
            self.asked.lock().unwrap().push((name.to_owned(), spec));
            let (mut message, mut body) = (Vec::new(), Vec::new());
            schema::encode_protobuf(known.type_id, &review, &mut message).unwrap();
            schema::envelope::wrap(unknown.api_version, unknown.kind, &message, &mut body);
            let reply = Reply::full(201, "application/vnd.kubernetes.protobuf", body);
            Box::pin(async move { reply })
        }
    }

    /// Let in, or the code and text of the refusal.
    type Admitted = Result<(), (u16, String)>;

    fn admit(
        user: Option<User>,
        authorization: Option<&'static str>,
        path: &str,
    ) -> (Admitted, Vec<(String, Value)>) {
        let server = Arc::new(Server::default());
        let guard = Guard::new(Client::new(server.clone(), None, "test"));
        let value = authorization.map(HeaderValue::from_static);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let admitted = guard.admit(user.as_ref(), value.as_ref(), "get", path);
        let admitted = runtime.block_on(admitted);
        let asked = std::mem::take(&mut *server.asked.lock().unwrap());
        (admitted.map_err(|error| (error.code, error.message)), asked)
    }

    #[test]
    fn health_is_for_everybody_and_nobody_is_asked() {
        for path in OPEN_PATHS {
            assert_eq!(admit(None, Some("Bearer wrong"), path), (Ok(()), vec![]));
        }
    }

    #[test]
    fn who_has_a_known_token_may_read_what_the_server_allows() {
        let (admitted, asked) = admit(None, Some("Bearer known"), "/metrics");
        assert_eq!(admitted, Ok(()));
        let expected = json!({"user": "prometheus", "uid": "7", "groups": ["scrapers"],
            "nonResourceAttributes": {"verb": "get", "path": "/metrics"}});
        assert_eq!(asked[1], ("subjectaccessreviews".into(), expected));
        let (admitted, _) = admit(None, Some("Bearer known"), "/configz");
        let text = "forbidden: User \"prometheus\" cannot get path \"/configz\": no rule";
        assert_eq!(admitted, Err((403, text.into())));
    }

    #[test]
    fn unknown_tokens_and_strangers_are_refused() {
        for authorization in ["Bearer wrong", "Basic eDp5", "Bearer", "Bearer  "] {
            let (admitted, _) = admit(None, Some(authorization), "/metrics");
            assert_eq!(
                admitted,
                Err((401, "Unauthorized".into())),
                "{authorization}"
            );
        }
        let text = "forbidden: User \"system:anonymous\" cannot get path \"/metrics\": no rule";
        assert_eq!(admit(None, None, "/metrics").0, Err((403, text.into())));
    }

    #[test]
    fn masters_need_no_leave() {
        let (admitted, asked) = admit(None, Some("bearer root"), "/configz");
        assert_eq!((admitted, asked.len()), (Ok(()), 1));
        let admin = User {
            name: "kubernetes-admin".into(),
            groups: vec!["system:masters".into(), "system:authenticated".into()],
        };
        assert_eq!(admit(Some(admin), None, "/metrics"), (Ok(()), vec![]));
        let other = User {
            name: "somebody".into(),
            groups: vec!["system:authenticated".into()],
        };
        assert_eq!(admit(Some(other), None, "/metrics").0.unwrap_err().0, 403);
    }
}

//! `/health`, `/livez` and `/readyz`, with the texts that probes and people know from etcd.
//!
//! ```text
//!   /health                 alarms, then a read; one line of JSON
//!   /livez  /livez/CHECK    serializable_read
//!   /readyz /readyz/CHECK   data_corruption, serializable_read, linearizable_read, non_learner
//! ```
//!
//! Differs from etcd, knowingly: checks are told in this order, etcd's order is by chance; a log that stopped fails
//! every read, for only a restart helps.

use std::fmt::Write as _;

use bytes::Bytes;
use etcd_wire::etcdserverpb as pb;
use http::header::{ALLOW, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use pb::AlarmType;
use serde_json::json;
use tonic::body::Body;

use crate::api::Api;
use crate::metrics::count;
use crate::node::Node;

/// Answers, if the path is one of these.
pub async fn answer(
    api: &Api,
    method: &Method,
    path: &str,
    query: Option<&str>,
) -> Option<Response<Body>> {
    let what = find(path)?;
    if method != Method::GET {
        return Some(only_get());
    }
    let query = Query(query.unwrap_or_default());
    Some(match what {
        Path::Health => health(api, query).await,
        Path::Checks(checks) => {
            let mut checks = checks.to_vec();
            checks.retain(|check| !query.excludes(check.name()));
            report(run(&api.node, &checks).await, query)
        }
        Path::Check(check) => report(run(&api.node, &[check]).await, query),
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Path {
    Health,
    Checks(&'static [Check]),
    Check(Check),
}

/// One thing that may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

fn find(path: &str) -> Option<Path> {
    let mut parts = path.strip_prefix('/')?.splitn(2, '/');
    let checks = match parts.next()? {
        "health" => return parts.next().is_none().then_some(Path::Health),
        "livez" => LIVEZ,
        "readyz" => READYZ,
        _ => return None,
    };
    let Some(name) = parts.next() else {
        return Some(Path::Checks(checks));
    };
    let check = checks.iter().find(|check| check.name() == name)?;
    Some(Path::Check(*check))
}

/// What comes after the question mark.
#[derive(Clone, Copy)]
struct Query<'a>(&'a str);

impl Query<'_> {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.0.split('&');
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    fn excludes(&self, what: &str) -> bool {
        self.pairs().any(|pair| pair == ("exclude", what))
    }

    fn is_serializable(&self) -> bool {
        let mut values = self.pairs().filter(|(name, _)| *name == "serializable");
        values.next().is_some_and(|(_, value)| value == "true")
    }

    fn is_verbose(&self) -> bool {
        self.pairs().any(|(name, _)| name == "verbose")
    }
}

async fn health(api: &Api, query: Query<'_>) -> Response<Body> {
    let node = &api.node;
    let reason = match alarm_reason(&node.alarms(), query) {
        Some(reason) => Some(reason),
        None => read(node, query.is_serializable())
            .await
            .map(|error| format!("RANGE ERROR:{error}")),
    };
    let is_good = reason.is_none();
    count(if is_good {
        &node.metrics.health_good
    } else {
        &node.metrics.health_bad
    });
    let body = json!({"health": is_good.to_string(), "reason": reason.unwrap_or_default()});
    match is_good {
        true => text(StatusCode::OK, body.to_string()),
        false => refuse(StatusCode::SERVICE_UNAVAILABLE, &body.to_string()),
    }
}

/// The first alarm that was not excluded.
fn alarm_reason(alarms: &[pb::AlarmMember], query: Query<'_>) -> Option<String> {
    let names = alarms.iter().map(|member| member.alarm().as_str_name());
    let mut names = names.filter(|name| !query.excludes(name));
    names.next().map(|name| format!("ALARM {name}"))
}

/// A read's error, if there is one. A linearizable read waits until what it would see is kept.
async fn read(node: &Node, is_serializable: bool) -> Option<String> {
    if let Some(failure) = node.store.failure() {
        return Some(failure);
    }
    if is_serializable {
        return None;
    }
    let range = kv::KeyRange::one("health");
    let visible = node.range_visible(&range, node.store.applied()).await;
    visible.err().map(|error| error.message().to_owned())
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn failure(self, node: &Node) -> Option<String> {
        match self {
            Check::DataCorruption => corruption(&node.alarms()),
            Check::SerializableRead => read(node, true).await,
            Check::LinearizableRead => read(node, false).await,
            // The only member has a vote.
            Check::NonLearner => None,
        }
    }
}

fn corruption(alarms: &[pb::AlarmMember]) -> Option<String> {
    let mut kinds = alarms.iter().map(pb::AlarmMember::alarm);
    let is_up = kinds.any(|kind| kind == AlarmType::Corrupt);
    is_up.then(|| "alarm activated: CORRUPT".into())
}

/// Each check's name, and what is wrong with it.
type Results = Vec<(Check, Option<String>)>;

async fn run(node: &Node, checks: &[Check]) -> Results {
    let mut results = Vec::new();
    for check in checks {
        results.push((*check, check.failure(node).await));
    }
    results
}

/// What went wrong is always told, what went well only to those who ask.
fn report(results: Results, query: Query<'_>) -> Response<Body> {
    let is_good = results.iter().all(|(_, failure)| failure.is_none());
    let told = told(&results);
    if !is_good {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &told);
    }
    let body = if query.is_verbose() {
        told + "ok\n"
    } else {
        "ok\n".into()
    };
    let mut response = text(StatusCode::OK, body);
    not_to_be_guessed(&mut response);
    response
}

fn told(results: &Results) -> String {
    let mut told = String::new();
    for (check, failure) in results {
        let name = check.name();
        // Writing to a String cannot fail.
        let _ = match failure {
            None => writeln!(told, "[+]{name} ok"),
            Some(failure) => writeln!(told, "[-]{name} failed: {failure}"),
        };
    }
    told
}

fn text(code: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(body))));
    *response.status_mut() = code;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Refuses every method but one.
pub fn only_get() -> Response<Body> {
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    let get = HeaderValue::from_static("GET");
    response.headers_mut().insert(ALLOW, get);
    response
}

/// Says no in plain words.
pub fn refuse(code: StatusCode, reason: &str) -> Response<Body> {
    let mut response = text(code, format!("{reason}\n"));
    not_to_be_guessed(&mut response);
    response
}

fn not_to_be_guessed(response: &mut Response<Body>) {
    let no = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, no);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_an_endpoint_or_one_of_its_checks() {
        assert_eq!(find("/health"), Some(Path::Health));
        assert_eq!(find("/livez"), Some(Path::Checks(LIVEZ)));
        assert_eq!(find("/readyz"), Some(Path::Checks(READYZ)));
        assert_eq!(
            find("/readyz/non_learner"),
            Some(Path::Check(Check::NonLearner))
        );
        for path in [
            "/health/",
            "/livez/",
            "/livez/non_learner",
            "/readyz/x",
            "/readyz/non_learner/",
            "/",
            "",
        ] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn an_alarm_is_told_unless_it_is_excluded() {
        let up = |alarm: AlarmType| pb::AlarmMember {
            member_id: 1,
            alarm: alarm.into(),
        };
        let both = [up(AlarmType::Nospace), up(AlarmType::Corrupt)];
        let reason = |query| alarm_reason(&both, Query(query));
        assert_eq!(reason("").as_deref(), Some("ALARM NOSPACE"));
        assert_eq!(reason("exclude=NOSPACE").as_deref(), Some("ALARM CORRUPT"));
        assert_eq!(reason("a&exclude=CORRUPT&exclude=NOSPACE"), None);
        assert_eq!(
            corruption(&both).as_deref(),
            Some("alarm activated: CORRUPT")
        );
        assert_eq!(corruption(&both[..1]), None);
    }

    #[test]
    fn what_fails_is_told_beside_what_does_not() {
        let results = vec![
            (Check::SerializableRead, None),
            (Check::LinearizableRead, Some("no".into())),
        ];
        assert_eq!(
            told(&results),
            "[+]serializable_read ok\n[-]linearizable_read failed: no\n"
        );
        assert_eq!(
            report(results, Query("")).status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
    }

    #[test]
    fn a_read_is_serializable_if_the_first_word_says_so() {
        let asked = |query| Query(query).is_serializable();
        assert!(asked("serializable=true"));
        assert!(!asked("serializable=1"));
        assert!(!asked("serializable=false&serializable=true"));
        assert!(!asked(""));
        assert!(Query("verbose").is_verbose());
        assert!(Query("verbose=false").is_verbose());
    }
}

//! What probes and scrapers ask: health, version, and the gauges that are counted on demand.

use std::sync::atomic::Ordering;

use meta::{ApiError, Value};
use rest::http::Reply;
use rest::paths::HealthEndpoint;
use value::json;

use crate::metrics;
use crate::state::State;

/// Health of the server: everything, or one check.
pub fn health(
    state: &State,
    endpoint: HealthEndpoint,
    check: Option<&str>,
    query: &str,
) -> Result<Reply, ApiError> {
    let name = match endpoint {
        HealthEndpoint::Healthz => "healthz",
        HealthEndpoint::Livez => "livez",
        HealthEndpoint::Readyz => "readyz",
    };
    let started = state.ready.load(Ordering::Acquire);
    let mut checks = vec![
        ("ping", true),
        ("log", true),
        ("etcd", state.store.failure().is_none()),
    ];
    if endpoint != HealthEndpoint::Livez {
        checks.push(("poststarthook/bootstrap", started));
        checks.push(("shutdown", !state.stopping.has_come()));
    }
    if let Some(check) = check {
        checks.retain(|(known, _)| *known == check);
        if checks.is_empty() {
            return Err(ApiError::generic_not_found());
        }
    }
    let parameters = rest::paths::Parameters::parse(query);
    checks.retain(|(known, _)| !parameters.all("exclude").any(|excluded| excluded == *known));
    let healthy = checks.iter().all(|(_, good)| *good);
    let verbose = parameters.first("verbose").is_some() || !healthy;
    let mut text = String::new();
    if verbose {
        for (check, good) in &checks {
            text.push_str(&if *good {
                format!("[+]{check} ok\n")
            } else {
                format!("[-]{check} failed\n")
            });
        }
        text.push_str(&format!(
            "{name} check {}\n",
            if healthy { "passed" } else { "failed" }
        ));
    } else {
        text.push_str("ok");
    }
    Ok(Reply::text(if healthy { 200 } else { 500 }, text)
        .with_header("x-content-type-options", "nosniff"))
}

/// What `/version` says: the Kubernetes release whose API is served.
#[must_use]
pub fn version_info() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": concat!("v1.36.4+megaplane-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "none", "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, ARCH),
    })
}

const ARCH: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else {
    "arm64"
};

/// Objects and bytes of every resource, and how far the log is, for a scrape.
pub fn object_counts(state: &State, text: &mut String) {
    use std::fmt::Write as _;
    text.push_str("# HELP apiserver_resource_objects Stored objects by resource.\n# TYPE apiserver_resource_objects gauge\n");
    let mut bytes = String::from(
        "# HELP megaplane_collection_bytes Memory of a resource: objects and history.\n# TYPE megaplane_collection_bytes gauge\n",
    );
    let mut lines: Vec<_> = state
        .all()
        .filter(|served| served.resource.type_id == served.storage.type_id)
        .collect();
    lines.sort_by_key(|served| (served.resource.group, served.resource.resource));
    lines.dedup_by_key(|served| (served.resource.group, served.resource.resource));
    for served in lines {
        let stats = served.collection.stats();
        let (group, resource) = (served.resource.group, served.resource.resource);
        let _ = writeln!(
            text,
            "apiserver_resource_objects{{group=\"{group}\",resource=\"{resource}\"}} {}",
            stats.keys
        );
        for (part, size) in [
            ("objects", stats.live_bytes),
            ("history", stats.history_bytes),
        ] {
            let _ = writeln!(
                bytes,
                "megaplane_collection_bytes{{group=\"{group}\",resource=\"{resource}\",part=\"{part}\"}} {size}"
            );
        }
    }
    text.push_str(&bytes);
    metrics::gauge(
        text,
        "megaplane_revision_applied",
        "Newest revision.",
        state.store.applied().0,
    );
    metrics::gauge(
        text,
        "megaplane_revision_durable",
        "Newest revision on disk.",
        state.store.durable().0,
    );
}

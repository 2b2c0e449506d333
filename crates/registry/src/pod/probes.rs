//! Validation of probes and life-cycle hooks.

use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

/// Which probe, since liveness and startup have one rule more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    Liveness,
    Readiness,
    Startup,
}

/// What is wrong with a probe.
pub(crate) fn check_probe(
    probe: &Value,
    kind: ProbeKind,
    path: &FieldPath,
    findings: &mut Findings,
) {
    check_handler(
        probe,
        &["exec", "httpGet", "tcpSocket", "grpc"],
        path,
        findings,
    );
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        findings.non_negative(&path.child(field), tree::int(probe, field));
    }
    findings.positive(
        &path.child("terminationGracePeriodSeconds"),
        tree::int(probe, "terminationGracePeriodSeconds"),
    );
    let successes = tree::int(probe, "successThreshold").unwrap_or(1);
    if kind != ProbeKind::Readiness && successes != 1 {
        findings.invalid(&path.child("successThreshold"), successes, "must be 1");
    }
    if kind == ProbeKind::Readiness && tree::get(probe, "terminationGracePeriodSeconds").is_some() {
        findings.invalid(
            &path.child("terminationGracePeriodSeconds"),
            tree::int(probe, "terminationGracePeriodSeconds").unwrap_or(0),
            "must not be set for readinessProbes",
        );
    }
}

/// What is wrong with the hooks of a container.
pub(crate) fn check_lifecycle(lifecycle: &Value, path: &FieldPath, findings: &mut Findings) {
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = tree::get(lifecycle, hook) {
            check_handler(
                handler,
                &["exec", "httpGet", "tcpSocket", "sleep"],
                &path.child(hook),
                findings,
            );
        }
    }
}

/// Exactly one handler, and that one well formed.
fn check_handler(holder: &Value, handlers: &[&str], path: &FieldPath, findings: &mut Findings) {
    let mut count = 0;
    for name in handlers {
        let Some(handler) = tree::get(holder, name) else {
            continue;
        };
        let at = path.child(*name);
        count += 1;
        if count > 1 {
            findings.forbidden(&at, "may not specify more than 1 handler type");
            continue;
        }
        match *name {
            "exec" if tree::items(handler, "command").is_empty() => {
                findings.required(&at.child("command"), "");
            }
            "httpGet" => check_http(handler, &at, findings),
            "tcpSocket" => check_port(tree::get(handler, "port"), &at.child("port"), findings),
            "grpc" => findings.port(&at.child("port"), tree::int(handler, "port").unwrap_or(0)),
            _ => {}
        }
    }
    if count == 0 {
        findings.required(path, "must specify a handler type");
    }
}

fn check_http(http: &Value, path: &FieldPath, findings: &mut Findings) {
    if tree::text(http, "path").is_empty() {
        findings.required(&path.child("path"), "");
    }
    check_port(tree::get(http, "port"), &path.child("port"), findings);
    findings.one_of(
        &path.child("scheme"),
        tree::text(http, "scheme"),
        &["HTTP", "HTTPS"],
        false,
    );
    for header in tree::items(http, "httpHeaders") {
        let name = tree::text(header, "name");
        let valid = !name.is_empty()
            && name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
        if !valid {
            findings.invalid(
                &path.child("httpHeaders"),
                name,
                "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
            );
        }
    }
}

/// A port by number or by name.
fn check_port(port: Option<&Value>, path: &FieldPath, findings: &mut Findings) {
    match port {
        Some(Value::String(name)) => findings.each(path, name, meta::names::port_name(name)),
        Some(number) => findings.port(path, number.as_i64().unwrap_or(0)),
        None => findings.port(path, 0),
    }
}

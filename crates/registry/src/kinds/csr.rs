//! CertificateSigningRequests.

use super::{PLAIN, Room};
use crate::context::Context;
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

/// The shortest lifetime one may ask for, seconds.
const EXPIRATION_SECONDS_MIN: i64 = 600;

pub(super) const ROOM: Room = Room {
    prepare_create: |request, ctx| {
        // Who asks is what the server saw, not what the request claims.
        for field in ["spec.username", "spec.uid", "spec.groups", "spec.extra"] {
            tree::remove(request, field);
        }
        tree::put(request, "spec.username", ctx.user);
    },
    prepare_update,
    check,
    ..PLAIN
};

fn prepare_update(new: &mut Value, old: &Value, subresource: Option<&str>, _: &mut Context) {
    tree::carry(new, old, "spec");
    if subresource == Some("approval") {
        // Approvers write conditions; the signer writes the certificate.
        tree::carry(new, old, "status.certificate");
    }
}

fn check(request: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    let usages = tree::items(request, "spec.usages");
    if usages.is_empty() {
        findings.required(&spec.child("usages"), "");
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, usage) in usages.iter().enumerate() {
        let usage = usage.as_str().unwrap_or("");
        if !seen.insert(usage) {
            findings.duplicate(&spec.child("usages").index(index), usage);
        }
    }
    let signer = tree::text(request, "spec.signerName");
    let path = spec.child("signerName");
    if signer.is_empty() {
        findings.required(&path, "");
    } else if !signer.contains('/') {
        findings.invalid(
            &path,
            signer,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
    }
    if let Some(seconds) = tree::int(request, "spec.expirationSeconds")
        .filter(|seconds| *seconds < EXPIRATION_SECONDS_MIN)
    {
        findings.invalid(
            &spec.child("expirationSeconds"),
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        );
    }
    if tree::text(request, "spec.request").is_empty() {
        findings.invalid(
            &spec.child("request"),
            "",
            "PEM block type must be CERTIFICATE REQUEST",
        );
    }
}

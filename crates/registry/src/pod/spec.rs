//! Validation of a pod spec, in a pod or in a template.
//!
//! It does not know what a pod's owner further asks of it (restart policy, labels).

use super::{affinity, containers, volumes};
use crate::findings::Findings;
use crate::{metadata, tree};
use meta::{FieldPath, Value};

/// What is wrong with a pod spec.
pub(crate) fn check(spec: &Value, path: &FieldPath, findings: &mut Findings) {
    let mountable = volumes::check(
        tree::items(spec, "volumes"),
        &path.child("volumes"),
        findings,
    );
    containers::check(spec, &mountable, path, findings);
    check_policies(spec, path, findings);
    findings.labels(&path.child("nodeSelector"), tree::get(spec, "nodeSelector"));
    check_names(spec, path, findings);
    if let Some(affinity) = tree::get(spec, "affinity") {
        affinity::check_affinity(affinity, &path.child("affinity"), findings);
    }
    affinity::check_tolerations(
        tree::items(spec, "tolerations"),
        &path.child("tolerations"),
        findings,
    );
    affinity::check_spread(
        tree::items(spec, "topologySpreadConstraints"),
        &path.child("topologySpreadConstraints"),
        findings,
    );
    if let Some(seconds) = tree::int(spec, "activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        findings.invalid(
            &path.child("activeDeadlineSeconds"),
            seconds,
            "must be between 1 and 2147483647, inclusive",
        );
    }
    check_security(spec, path, findings);
    check_gates(spec, path, findings);
    check_aliases(spec, path, findings);
}

/// What is wrong with the pod template at `path` of an object.
pub(crate) fn check_template(template: &Value, path: &FieldPath, findings: &mut Findings) {
    // Upstream leaves `metadata` out of these two paths.
    findings.labels(
        &path.child("labels"),
        tree::get(template, "metadata.labels"),
    );
    if let Some(annotations) = tree::map(template, "metadata.annotations") {
        metadata::check_annotations(annotations, &path.child("annotations"), findings);
    }
    check(
        tree::get(template, "spec").unwrap_or(&Value::Null),
        &path.child("spec"),
        findings,
    );
    if !tree::items(template, "spec.ephemeralContainers").is_empty() {
        findings.forbidden(
            &path.child("spec").child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

fn check_policies(spec: &Value, path: &FieldPath, findings: &mut Findings) {
    findings.one_of(
        &path.child("restartPolicy"),
        tree::text(spec, "restartPolicy"),
        &["Always", "OnFailure", "Never"],
        true,
    );
    let dns_policy = tree::text(spec, "dnsPolicy");
    findings.one_of(
        &path.child("dnsPolicy"),
        dns_policy,
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        true,
    );
    if dns_policy == "None" {
        let at = path.child("dnsConfig");
        if tree::get(spec, "dnsConfig").is_none() {
            findings.required(&at, "must provide `dnsConfig` when `dnsPolicy` is None");
        } else if tree::items(spec, "dnsConfig.nameservers").is_empty() {
            findings.required(
                &at.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
        }
    }
    findings.one_of(
        &path.child("preemptionPolicy"),
        tree::text(spec, "preemptionPolicy"),
        &["Never", "PreemptLowerPriority"],
        false,
    );
    if let Some(os) = tree::get(spec, "os") {
        findings.one_of(
            &path.child("os").child("name"),
            tree::text(os, "name"),
            &["linux", "windows"],
            true,
        );
    }
}

fn check_names(spec: &Value, path: &FieldPath, findings: &mut Findings) {
    for field in [
        "serviceAccountName",
        "nodeName",
        "priorityClassName",
        "runtimeClassName",
    ] {
        let name = tree::text(spec, field);
        if !name.is_empty() {
            findings.each(
                &path.child(field),
                name,
                meta::names::dns1123_subdomain(name),
            );
        }
    }
    for field in ["hostname", "subdomain"] {
        let name = tree::text(spec, field);
        if !name.is_empty() {
            findings.each(&path.child(field), name, meta::names::dns1123_label(name));
        }
    }
    for (index, secret) in tree::items(spec, "imagePullSecrets").iter().enumerate() {
        if tree::text(secret, "name").is_empty() {
            findings.required(
                &path.child("imagePullSecrets").index(index).child("name"),
                "",
            );
        }
    }
}

fn check_security(spec: &Value, path: &FieldPath, findings: &mut Findings) {
    let Some(context) = tree::get(spec, "securityContext") else {
        return;
    };
    let at = path.child("securityContext");
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(id) =
            tree::int(context, field).filter(|id| !(0..=i64::from(i32::MAX)).contains(id))
        {
            findings.invalid(
                &at.child(field),
                id,
                "must be between 0 and 2147483647, inclusive",
            );
        }
    }
    if tree::flag(spec, "shareProcessNamespace") && tree::flag(spec, "hostPID") {
        findings.invalid(
            &path.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
}

fn check_gates(spec: &Value, path: &FieldPath, findings: &mut Findings) {
    let mut seen = Vec::new();
    for (index, gate) in tree::items(spec, "schedulingGates").iter().enumerate() {
        let at = path.child("schedulingGates").index(index);
        let name = tree::text(gate, "name");
        findings.each(&at, name, meta::names::qualified_name(name));
        if seen.contains(&name) {
            findings.duplicate(&at, name);
        }
        seen.push(name);
    }
    if !seen.is_empty() && !tree::text(spec, "nodeName").is_empty() {
        findings.forbidden(
            &path.child("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        );
    }
}

fn check_aliases(spec: &Value, path: &FieldPath, findings: &mut Findings) {
    for (index, alias) in tree::items(spec, "hostAliases").iter().enumerate() {
        let at = path.child("hostAliases").index(index);
        let ip = tree::text(alias, "ip");
        if ip.parse::<std::net::IpAddr>().is_err() {
            findings.invalid(
                &at.child("ip"),
                ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
        for (position, name) in tree::items(alias, "hostnames").iter().enumerate() {
            let name = name.as_str().unwrap_or("");
            findings.each(
                &at.child("hostnames").index(position),
                name,
                meta::names::dns1123_subdomain(name),
            );
        }
    }
}

//! Webhook configurations and admission policies.

use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::tree::{self, Map};
use meta::{FieldPath, Value};

/// How long a webhook may take, seconds.
const TIMEOUT_SECONDS: i64 = 10;
/// The longest one may ask for, seconds.
const TIMEOUT_SECONDS_MAX: i64 = 30;
/// Where webhooks listen unless they say otherwise.
const HTTPS_PORT: i64 = 443;

pub(super) const WEBHOOKS: Room = Room {
    defaults: default_webhooks,
    check: check_webhooks,
    ..PLAIN
};

pub(super) const POLICIES: Room = Room {
    defaults: |policy| {
        tree::ensure(policy, "spec");
        tree::fill(policy, "spec.failurePolicy", "Fail");
        if tree::map(policy, "spec.matchConstraints").is_some() {
            tree::fill(policy, "spec.matchConstraints.matchPolicy", "Equivalent");
            tree::fill(
                policy,
                "spec.matchConstraints.namespaceSelector",
                Value::Object(Map::new()),
            );
            tree::fill(
                policy,
                "spec.matchConstraints.objectSelector",
                Value::Object(Map::new()),
            );
            for rule in tree::items_mut(policy, "spec.matchConstraints.resourceRules") {
                tree::fill(rule, "scope", "*");
            }
        }
    },
    ..PLAIN
};

fn default_webhooks(configuration: &mut Value) {
    let mutating = tree::text(configuration, "kind").starts_with("Mutating");
    for hook in tree::items_mut(configuration, "webhooks") {
        if !hook.is_object() {
            continue;
        }
        tree::fill(hook, "failurePolicy", "Fail");
        tree::fill(hook, "matchPolicy", "Equivalent");
        tree::fill(hook, "namespaceSelector", Value::Object(Map::new()));
        tree::fill(hook, "objectSelector", Value::Object(Map::new()));
        tree::fill(hook, "timeoutSeconds", TIMEOUT_SECONDS);
        if mutating {
            tree::fill(hook, "reinvocationPolicy", "Never");
        }
        if tree::map(hook, "clientConfig.service").is_some() {
            tree::fill(hook, "clientConfig.service.port", HTTPS_PORT);
        }
        for rule in tree::items_mut(hook, "rules") {
            tree::fill(rule, "scope", "*");
        }
    }
}

fn check_webhooks(configuration: &Value, findings: &mut Findings) {
    let mut names = Vec::new();
    for (index, hook) in tree::items(configuration, "webhooks").iter().enumerate() {
        let at = FieldPath::new("webhooks").index(index);
        let name = tree::text(hook, "name");
        if name.is_empty() {
            findings.required(&at.child("name"), "");
        } else if name.split('.').count() < 3 {
            findings.invalid(
                &at.child("name"),
                name,
                "should be a domain with at least three segments separated by dots",
            );
        }
        if names.contains(&name) {
            findings.duplicate(&at.child("name"), name);
        }
        names.push(name);
        findings.one_of(
            &at.child("failurePolicy"),
            tree::text(hook, "failurePolicy"),
            &["Fail", "Ignore"],
            false,
        );
        findings.one_of(
            &at.child("matchPolicy"),
            tree::text(hook, "matchPolicy"),
            &["Equivalent", "Exact"],
            false,
        );
        match tree::text(hook, "sideEffects") {
            "None" | "NoneOnDryRun" => {}
            "" => findings.required(
                &at.child("sideEffects"),
                "must specify one of None, NoneOnDryRun",
            ),
            other => {
                findings.not_supported(&at.child("sideEffects"), other, &["None", "NoneOnDryRun"])
            }
        }
        if let Some(seconds) = tree::int(hook, "timeoutSeconds")
            .filter(|seconds| !(1..=TIMEOUT_SECONDS_MAX).contains(seconds))
        {
            findings.invalid(
                &at.child("timeoutSeconds"),
                seconds,
                "the timeout value must be between 1 and 30 seconds",
            );
        }
        if tree::items(hook, "admissionReviewVersions").is_empty() {
            findings.required(
                &at.child("admissionReviewVersions"),
                "must specify one of v1, v1beta1",
            );
        }
        let config = at.child("clientConfig");
        match (
            tree::get(hook, "clientConfig.url"),
            tree::get(hook, "clientConfig.service"),
        ) {
            (None, None) | (Some(_), Some(_)) => {
                findings.required(&config, "exactly one of url or service is required")
            }
            _ => {}
        }
    }
}

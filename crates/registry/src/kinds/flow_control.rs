//! FlowSchemas and PriorityLevelConfigurations.

use super::{PLAIN, Room};
use crate::findings::Findings;
use crate::tree;
use meta::{FieldPath, Value};

/// Where a flow schema stands among the others unless it says otherwise.
const PRECEDENCE: i64 = 1_000;
/// The lowest place of all.
const PRECEDENCE_MAX: i64 = 10_000;

pub(super) const SCHEMAS: Room = Room {
    defaults: |schema| {
        tree::ensure(schema, "spec");
        tree::fill_zero(schema, "spec.matchingPrecedence", PRECEDENCE);
    },
    check: check_schema,
    ..PLAIN
};

pub(super) const LEVELS: Room = Room {
    defaults: default_level,
    check: check_level,
    ..PLAIN
};

fn default_level(level: &mut Value) {
    if tree::text(level, "spec.type") == "Exempt" {
        tree::fill(level, "spec.exempt.nominalConcurrencyShares", 0);
        tree::fill(level, "spec.exempt.lendablePercent", 0);
    }
    if tree::map(level, "spec.limited").is_some() {
        tree::fill(level, "spec.limited.nominalConcurrencyShares", 30);
        tree::fill(level, "spec.limited.lendablePercent", 0);
    }
    if tree::map(level, "spec.limited.limitResponse.queuing").is_some() {
        tree::fill_zero(level, "spec.limited.limitResponse.queuing.handSize", 8);
        tree::fill_zero(level, "spec.limited.limitResponse.queuing.queues", 64);
        tree::fill_zero(
            level,
            "spec.limited.limitResponse.queuing.queueLengthLimit",
            50,
        );
    }
}

fn check_schema(schema: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    let precedence = tree::int(schema, "spec.matchingPrecedence").unwrap_or(0);
    if precedence <= 0 {
        findings.invalid(
            &spec.child("matchingPrecedence"),
            precedence,
            "must be a positive value",
        );
    } else if precedence > PRECEDENCE_MAX {
        findings.invalid(
            &spec.child("matchingPrecedence"),
            precedence,
            "must not be greater than 10000",
        );
    }
    let level = tree::text(schema, "spec.priorityLevelConfiguration.name");
    let path = spec.child("priorityLevelConfiguration").child("name");
    if level.is_empty() {
        findings.required(&path, "must reference a priority level");
    } else {
        findings.each(&path, level, meta::names::dns1123_subdomain(level));
    }
}

fn check_level(level: &Value, findings: &mut Findings) {
    let spec = FieldPath::new("spec");
    match tree::text(level, "spec.type") {
        "Exempt" => {
            if tree::get(level, "spec.limited").is_some() {
                findings.forbidden(
                    &spec.child("limited"),
                    "must be nil if the type is not Limited",
                );
            }
        }
        "Limited" => {
            if tree::get(level, "spec.limited").is_none() {
                findings.required(
                    &spec.child("limited"),
                    "must not be empty when type is Limited",
                );
            }
        }
        other => findings.not_supported(&spec.child("type"), other, &["Exempt", "Limited"]),
    }
}

//! PriorityClasses.

use super::{PLAIN, Room};
use crate::tree;
use meta::FieldPath;

/// Priorities above this are the system's own.
pub(crate) const USER_PRIORITY_MAX: i64 = 1_000_000_000;

pub(super) const ROOM: Room = Room {
    defaults: |class| tree::fill(class, "preemptionPolicy", "PreemptLowerPriority"),
    check: |class, findings| {
        let name = tree::text(class, "metadata.name");
        let value = tree::int(class, "value").unwrap_or(0);
        let system = matches!(
            (name, value),
            ("system-node-critical", 2_000_001_000) | ("system-cluster-critical", 2_000_000_000)
        );
        if name.starts_with("system-") && !system {
            findings.forbidden(
                &FieldPath::new("metadata").child("name"),
                "priority class names with 'system-' prefix are reserved for system use only. error: ".to_owned()
                    + name
                    + " is not a known system priority class",
            );
        }
        if value > USER_PRIORITY_MAX && !system {
            findings.forbidden(
                &FieldPath::new("value"),
                "maximum allowed value of a user defined priority is 1000000000",
            );
        }
        findings.one_of(
            &FieldPath::new("preemptionPolicy"),
            tree::text(class, "preemptionPolicy"),
            &["Never", "PreemptLowerPriority"],
            false,
        );
    },
    check_update: |new, old, _, findings| {
        if tree::int(new, "value").unwrap_or(0) != tree::int(old, "value").unwrap_or(0) {
            findings.forbidden(&FieldPath::new("value"), "may not be changed in an update.");
        }
        findings.immutable(
            &FieldPath::new("preemptionPolicy"),
            new,
            old,
            "preemptionPolicy",
        );
    },
    ..PLAIN
};

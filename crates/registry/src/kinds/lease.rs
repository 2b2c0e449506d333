//! Leases: the heartbeat of nodes and the lock of leaders.

use super::{PLAIN, Room};
use crate::tree;
use meta::FieldPath;

pub(super) const ROOM: Room = Room {
    check: |lease, findings| {
        let spec = FieldPath::new("spec");
        findings.positive(
            &spec.child("leaseDurationSeconds"),
            tree::int(lease, "spec.leaseDurationSeconds"),
        );
        findings.non_negative(
            &spec.child("leaseTransitions"),
            tree::int(lease, "spec.leaseTransitions"),
        );
        let preferred = tree::text(lease, "spec.preferredHolder");
        if !preferred.is_empty() && tree::text(lease, "spec.strategy").is_empty() {
            findings.forbidden(
                &spec.child("preferredHolder"),
                "may only be specified if `strategy` is defined",
            );
        }
    },
    ..PLAIN
};

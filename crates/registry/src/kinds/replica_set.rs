//! ReplicaSets.

use super::{PLAIN, Room, workload};
use crate::pod::defaults::template;
use crate::tree;

pub(super) const ROOM: Room = Room {
    defaults: |set| {
        tree::ensure(set, "spec");
        template(set, "spec.template");
        tree::fill(set, "spec.replicas", 1);
    },
    prepare_update: |new, old, subresource, _| {
        if subresource == Some("status") {
            tree::carry(new, old, "metadata.labels");
        }
    },
    check: |set, findings| {
        workload::check_counts(set, &["replicas", "minReadySeconds"], findings);
        workload::check_selector(set, "deployment", findings);
        workload::check_template(set, findings);
    },
    check_update: |new, old, _, findings| workload::check_selector_kept(new, old, findings),
    ..PLAIN
};

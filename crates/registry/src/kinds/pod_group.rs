//! PodGroups of `scheduling.k8s.io/v1alpha2`: pods that are scheduled together.

use super::{PLAIN, Room};
use crate::tree;
use meta::FieldPath;

pub(super) const ROOM: Room = Room {
    check: |group, findings| {
        let path = FieldPath::new("spec").child("schedulingPolicy");
        let policy = &group["spec"]["schedulingPolicy"];
        let members = ["basic", "gang"].iter();
        let set: Vec<&str> = members
            .copied()
            .filter(|m| policy[*m].is_object())
            .collect();
        match set.len() {
            1 => {}
            0 => findings.invalid(&path, "", "must specify one of: `basic`, `gang`"),
            _ => {
                let value = format!("{{{}}}", set.join(", "));
                findings.invalid(&path, value, "must specify exactly one of: `basic`, `gang`");
            }
        }
        if policy["gang"].is_object() {
            let path = path.child("gang").child("minCount");
            match tree::int(group, "spec.schedulingPolicy.gang.minCount").unwrap_or(0) {
                0 => findings.required(&path, ""),
                count if count < 0 => {
                    findings.invalid(&path, count, "must be greater than or equal to 1");
                }
                _ => {}
            }
        }
    },
    check_update: |new, old, subresource, findings| {
        if subresource.is_some() {
            return;
        }
        for field in ["podGroupTemplateRef", "schedulingPolicy", "resourceClaims"] {
            let path = FieldPath::new("spec").child(field);
            findings.immutable(&path, new, old, &format!("spec.{field}"));
        }
    },
    ..PLAIN
};
